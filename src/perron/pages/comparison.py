"""A comparison of two models in; the comment on a pull request out: Markdown, the verdict first."""

from collections.abc import Iterable, Sequence
from typing import Any

from perron.comparison import Comparison, Score, Side
from perron.compatibility import AUDIENCES, worst
from perron.contract import format_number

__all__ = ["render", "verdict"]

MOST = 20  # rows of a table; what is left out is counted


def render(found: Comparison) -> str:
    """The whole comment."""
    parts = [f"### {_plain(found.model)}: {verdict(found)}", *_scores(found), *_gates(found)]
    if found.other is not None:
        parts += [*_data(found), *_contract(found)]
    parts += [*_weight(found), *_origin(found)]
    return "\n\n".join(parts) + "\n"


def verdict(found: Comparison) -> str:
    """The verdict in a line."""
    failed = [gate for gate in found.gates if not gate["passed"]]
    if found.is_refused:
        reasons = (
            "; ".join(f"{_plain(gate['name'])} ({_number(gate['value'])})" for gate in failed) or "a gate wasn't passed"
        )
        kept = f"; version {found.other.version} stays the {found.alias}" if found.other else ""
        return f"❌ refused, {reasons}{kept}"
    score = found.deciding
    named = f"version {found.candidate.version}"
    told = f"{score.name} {_with_interval(score.value, score.interval)}" if score else "no metric"
    if found.other is None:
        return f"✅ {named} is the first: {told}, there is no {found.alias} to compare with"
    other = f"version {found.other.version}"
    if found.is_same:
        return f"✅ {named} is {other} made again: the same rows, code, parameters and packages"
    clients = worst(change.effects["clients"] for change in found.changes)
    marks = {"better": "✅", "worse": "⚠️", "not told apart": "➖", None: "➖"}
    says = score.says if score else None
    words = {
        "better": f"is better than {other}",
        "worse": f"is worse than {other}",
        "not told apart": f"is not to be told from {other}",
    }
    mark = "⚠️" if clients == "breaking" else marks[says]
    text = f"{mark} {named} {words.get(says or '', f'stands beside {other}')}: {told}"
    if score and score.other is not None:
        text += f" against {_number(score.other)}"
    text += "; **it breaks the API's clients**" if clients == "breaking" else ""
    high = [drift for drift in found.drifts or () if drift.severity == "high"]
    return text + (f"; the data moved far in {_count(len({drift.column for drift in high}), 'column')}" if high else "")


def _scores(found: Comparison) -> Iterable[str]:
    heads = ["metric", f"version {found.candidate.version}" if found.candidate.version else "this run"]
    if found.other is not None:
        heads += [f"{found.alias} (version {found.other.version})", "difference", ""]
    rows = []
    for score in found.scores:
        cells = [score.name, _with_interval(score.value, score.interval)]
        if found.other is not None:
            cells += [_with_interval(score.other, score.other_interval), _difference(score), score.says or ""]
        rows.append([*cells, _number(score.baseline)])
    yield _table([*heads, "naive baseline"], rows)
    if found.recorded:
        yield "As recorded: the test rows aren't here, so there are no intervals."
    elif found.unread is not None:
        yield f"On {found.test_rows:,} test rows; the {found.alias} as it was recorded: {found.unread}."
    else:
        both = "both models on the same rows, " if found.other is not None else ""
        yield f"On {found.test_rows:,} test rows, {both}with intervals of 95 % (bootstrap over rows)."


def _difference(score: Score) -> str:
    return "–" if score.difference is None else _with_interval(score.difference, score.difference_interval, sign=True)


def _gates(found: Comparison) -> Iterable[str]:
    if found.gates:
        yield _table(
            ["gate", "value", "limit", ""],
            [
                [
                    _plain(g["name"]),
                    _number(g["value"]),
                    _number(g["limit"]),
                    "passed" if g["passed"] else "**not passed**",
                ]
                for g in found.gates
            ],
        )


def _data(found: Comparison) -> Iterable[str]:
    other = found.other
    assert other is not None
    candidate = found.candidate
    if candidate.snapshot and candidate.snapshot == other.snapshot:
        yield f"**Data**: the same {candidate.rows:,} rows (snapshot {_short(candidate.snapshot)})."
        return
    head = f"**Data**: {other.rows:,} → {candidate.rows:,} rows (snapshot {_short(other.snapshot)} → {_short(candidate.snapshot)})"
    if found.drifts is None:
        yield f"{head}; one of the two has no sketch to compare."
    elif not found.drifts:
        yield f"{head}; nothing moved beyond chance."
    else:
        yield f"{head}; {_count(len(found.drifts), 'thing')} moved beyond chance:"
        yield _table(
            ["column", "what", "how far", "in words"],
            [[_plain(d.column), d.kind.replace("_", " "), d.severity, _plain(d.detail)] for d in found.drifts],
        )


def _contract(found: Comparison) -> Iterable[str]:
    if not found.changes:
        yield "**Contract**: unchanged."
        return
    levels = {who: worst(change.effects[who] for change in found.changes) for who in AUDIENCES}
    told = ", ".join(f"{who} {level}" for who, level in levels.items() if level != "none") or "nothing breaks"
    yield f"**Contract**: {_count(len(found.changes), 'change')}; {told}. Semantic version: {found.bump}."
    rows = []
    for change in found.changes:
        moved = (
            f" ({change.was or '–'} → {change.now or '–'})" if change.was is not None or change.now is not None else ""
        )
        reasons = [
            f"{who}: {effect.level}, {effect.reason}"
            for who, effect in change.effects.items()
            if effect.level != "none"
        ]
        rows.append(
            [
                _plain(change.field or "the contract"),
                _plain(change.kind.replace("_", " ") + moved),
                _plain("; ".join(reasons) or "nothing"),
            ]
        )
    yield _table(["field", "change", "breaks or adds"], rows)


def _weight(found: Comparison) -> Iterable[str]:
    sides = [side for side in (found.candidate, found.other) if side is not None and side.bytes is not None]
    if not sides:
        return
    heads = ["", *(f"version {side.version}" for side in sides)]
    rows = [["bundle", *(f"{(side.bytes or 0) / 1e6:.2f} MB" for side in sides)]]
    for name, words in (("p50_ms", "one row, median"), ("p99_ms", "one row, slowest 1 %")):
        rows.append(
            [words, *("–" if side.latency is None else f"{getattr(side.latency, name):.3f} ms" for side in sides)]
        )
    yield _table(heads, rows)
    yield "The time is that of the checks and the graph, one row at a time on one thread of this machine, without HTTP."


def _origin(found: Comparison) -> Iterable[str]:
    lines = [f"- {_side_words(side)}" for side in (found.candidate, found.other) if side is not None]
    if found.other is not None:
        mine, theirs = found.candidate, found.other
        moved = [
            f"{name} {theirs.packages.get(name, 'none')} → {mine.packages.get(name, 'none')}"
            for name in sorted({*mine.packages, *theirs.packages})
            if mine.packages.get(name) != theirs.packages.get(name)
        ] if mine.packages and theirs.packages else []  # fmt: skip
        if mine.python and theirs.python and mine.python != theirs.python:
            moved.insert(0, f"Python {theirs.python} → {mine.python}")
        more = f" and {len(moved) - MOST} more" if len(moved) > MOST else ""
        lines.append(
            f"- packages: {_plain(', '.join(moved[:MOST])) + more if moved else 'the same, as far as both are known'}"
        )
    body = "\n".join(lines)
    yield f"<details><summary>Where they come from</summary>\n\n{body}\n\n</details>"


def _side_words(side: Side) -> str:
    named = f"version {side.version}" if side.version is not None else "this run"
    commit = f"commit {side.commit[:12]}" if side.commit else "no commit"
    dirty = " with uncommitted changes" if side.dirty else ""
    bundle = f", bundle {_short(side.bundle)}" if side.bundle else ""
    return f"{named}: run {side.run}, {commit}{dirty}, snapshot {_short(side.snapshot)}{bundle}"


# ------------------------------------------------------------------ words


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads), *(f"| {' | '.join(row)} |" for row in rows[:MOST])]
    if len(rows) > MOST:
        lines.append(f"| and {len(rows) - MOST} more |" + " |" * (len(heads) - 1))
    return "\n".join(lines)


def _with_interval(value: float | None, ends: tuple[float, float] | None, *, sign: bool = False) -> str:
    if value is None:
        return "–"
    shown = _number(value, sign=sign)
    return shown if ends is None else f"{shown} ({_number(ends[0], sign=sign)} to {_number(ends[1], sign=sign)})"


def _number(value: Any, *, sign: bool = False) -> str:
    if value is None:
        return "–"
    size = abs(value)
    text = (
        f"{value:,.0f}" if size >= 10_000 else f"{value:,.1f}" if size >= 1000 else format_number(float(f"{value:.4g}"))
    )
    text = f"+{text}" if sign and value > 0 else text
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "unknown"


def _count(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line; nobody is called by an @."""
    for mark in ("\\", "|", "<", "*", "_", "`", "[", "#"):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.replace("@", "@\u200b").split())
