"""A Profile in; one self-contained HTML page out: no script, nothing fetched, below 2 MB whatever the table."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from perron.pages import charts
from perron.pages.charts import cut, esc
from perron.pages.style import head
from perron.profile import Finding, Profile
from perron.profile.findings import is_class, moment, number
from perron.sketch import ColumnSketch

__all__ = ["render"]

MOST_BYTES = 1_900_000
MOST_CARD_BYTES = 1_100_000
MOST_CARDS = 300
MOST_FINDINGS = 150
MOST_LISTED = 1_500
SAMPLE_ROWS, SAMPLE_COLUMNS = 12, 24
MOST_BARS = 20
WORDS = {
    "number": "number",
    "time": "date or time",
    "bool": "true or false",
    "text": "text",
    "empty": "empty",
    "other": "nested",
}
SEVERITY = {"high": "High", "medium": "Medium", "low": "Low"}


def render(profile: Profile) -> str:
    """The page of a profile."""
    notes: dict[str | None, list[Finding]] = defaultdict(list)
    for finding in profile.findings:
        notes[finding.column].append(finding)
    sections = [
        ("findings", "Findings", _findings(profile)),
        ("difference", f"Against {cut(profile.against[0], 60)}" if profile.against else "", _difference(profile)),
        ("target", f"What tells {cut(profile.target, 60)}" if profile.target else "", _target(profile)),
        ("columns", "Columns", _columns(profile, notes)),
        ("associations", "Associations", _associations(profile)),
        ("missing", "Missing values", _missing(profile)),
        ("time", "Over time", _times(profile)),
        ("sample", "Sample rows", _sample(profile)),
    ]
    shown = [(key, title, body) for key, title, body in sections if body]
    nav = "".join(f'<a href="#{key}">{esc(_short(title))}</a>' for key, title, _ in shown)
    parts = [
        head(f"Profile of {profile.name}"),
        '<a class="skip" href="#findings">Skip to the findings</a>',
        f'<header class="wrap"><div class="row"><h1><span class="soft">Profile of</span> {esc(cut(profile.name, 80))}</h1>'
        f'<nav aria-label="Sections">{nav}</nav></div>{_overview(profile)}</header><main>',
    ]
    size = sum(map(len, parts))
    for key, title, body in shown:
        made = f'<section id="{key}" class="wrap" aria-labelledby="{key}-t"><h2 id="{key}-t">{esc(title)}</h2>{body}</section>'
        if size + len(made.encode()) > MOST_BYTES:
            made = f'<section id="{key}" class="wrap"><h2>{esc(title)}</h2><p class="soft">Left out: the page would pass 2 MB. The JSON has it.</p></section>'
        size += len(made.encode())
        parts.append(made)
    parts.append(
        '</main><footer class="wrap soft small">Made by Perron. This page loads nothing from anywhere.</footer></body></html>'
    )
    return "".join(parts)


def _short(title: str) -> str:
    return "Against" if title.startswith("Against ") else "Target" if title.startswith("What tells ") else title


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _percent(part: float, whole: float) -> str:
    share = part / whole if whole else 0.0
    return "0 %" if share == 0 else "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %".replace(".0 %", " %")


def _overview(profile: Profile) -> str:
    counts = Counter(finding.severity for finding in profile.findings)
    nulls = sum(column.nulls for column in profile.columns)
    cells = profile.rows * len(profile.columns)
    kinds = Counter(WORDS[column.kind] for column in profile.columns)
    facts = [
        ("Rows", f"{profile.rows:,}", "" if profile.rows else "nothing to judge"),
        ("Columns", f"{len(profile.columns):,}", ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common(4))),
        ("Missing cells", _percent(nulls, cells), f"{nulls:,} of {cells:,}"),
        ("Copied rows", _copies(profile), "all columns the same" if len(profile.columns) > 2 else "not judged: few columns"),
    ]  # fmt: skip
    boxes = "".join(
        f'<div><dt>{name}</dt><dd class="main">{value}</dd><dd class="soft small">{esc(note)}</dd></div>'
        for name, value, note in facts
    )
    leaks = [finding for finding in profile.findings if finding.kind == "leakage"]
    if not profile.rows:
        verdict, tone = "The table has no rows.", "medium"
    elif leaks:
        listed = [cut(f.column or "", 40) for f in leaks[:4]]
        last = f"{len(leaks) - 4} more" if len(leaks) > 4 else listed.pop()
        names = f"{', '.join(listed)} and {last}" if listed else last
        verdict, tone = (
            f"Not fit for training as it is: {names} {'tell' if len(leaks) > 1 else 'tells'} the target.",
            "high",
        )
    elif counts["high"]:
        verdict, tone = f"Mend first: {_count(counts['high'], 'finding')} that will cost a model.", "high"
    elif counts["medium"]:
        verdict, tone = f"Usable, after a look at {_count(counts['medium'], 'finding')}.", "medium"
    else:
        verdict, tone = "Nothing here stands in a model's way.", "good"
    asked = (
        ""
        if profile.target or not profile.rows
        else ' <span class="soft">No target was named, so leakage was not judged.</span>'
    )
    return f'<p class="verdict {tone}">{esc(verdict)}{asked}</p><dl class="facts">{boxes}</dl>'


def _copies(profile: Profile) -> str:
    sample = profile.sketch.sample
    seen = int(sample.counts.sum())
    if not seen or len(profile.columns) <= 2:
        return "–"
    return ("" if sample.is_whole or seen == len(sample.hashes) else "about ") + _percent(
        seen - len(sample.hashes), seen
    )


def _findings(profile: Profile) -> str:
    if not profile.findings:
        return '<p class="soft">None.</p>'
    rows = []
    anchors = {column.name: place for place, column in enumerate(profile.columns)}
    for finding in profile.findings[:MOST_FINDINGS]:
        name = finding.column
        where = (
            '<span class="soft">rows</span>'
            if name is None
            else f'<a href="#c{anchors[name]}">{esc(cut(name, 60))}</a>'
        )
        rows.append(
            f'<tr><td><span class="tag {finding.severity}">{SEVERITY[finding.severity]}</span></td>'
            f"<td>{esc(finding.kind.replace('_', ' '))}</td><td>{where}</td><td>{esc(cut(finding.detail, 400))}</td></tr>"
        )
    rest = len(profile.findings) - MOST_FINDINGS
    more = f'<p class="soft small">And {rest:,} more of lower rank; the JSON has them all.</p>' if rest > 0 else ""
    return (
        '<div class="card scroll" tabindex="0" role="region" aria-label="Findings"><table class="findings"><thead><tr>'
        '<th scope="col">Cost</th><th scope="col">Finding</th><th scope="col">Column</th><th scope="col">What was seen</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def _difference(profile: Profile) -> str:
    found = profile.difference
    if found is None:
        return ""
    rows = "".join(
        f"<tr><td>{esc(cut(c['column'], 60))}</td><td>{charts.bar(c['moved'])}<span class=small>{c['moved']:.2f}</span></td>"
        f"<td>{'<br>'.join(esc(cut(text, 300)) for text in c['changes'])}</td></tr>"
        for c in found["columns"][:MOST_FINDINGS]
    )
    count, total = len(found["columns"]), len(profile.columns)
    lead = f'<p class="soft">{found["rows"]["this"]:,} rows here, {found["rows"]["other"]:,} there. {_count(count, "column")} of {total:,} changed by more than chance.</p>'
    if not rows:
        return lead
    return (
        f'{lead}<div class="card scroll" tabindex="0" role="region" aria-label="Differences"><table class="findings"><thead><tr>'
        '<th scope="col">Column</th><th scope="col">Moved (0–1)</th><th scope="col">How</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _target(profile: Profile) -> str:
    relations = profile.relations
    if not relations or profile.target is None:
        return ""
    words = {"spearman": "Spearman", "cramers_v": "Cramér’s V", "correlation_ratio": "correlation ratio"}
    rows = "".join(
        f'<tr><th scope="row">{esc(cut(r["column"], 40))}</th><td class="wide">{charts.bar(abs(r["value"]), r["value"] < 0)}</td>'
        f'<td class="num">{r["value"]:+.2f}</td><td class="soft">{words[r["measure"]]}</td></tr>'
        if r["measure"] == "spearman"
        else f'<tr><th scope="row">{esc(cut(r["column"], 40))}</th><td class="wide">{charts.bar(abs(r["value"]))}</td>'
        f'<td class="num">{r["value"]:.2f}</td><td class="soft">{words[r["measure"]]}</td></tr>'
        for r in relations[:MOST_BARS]
    )
    more = (
        f'<p class="soft small">The first {MOST_BARS} of {len(relations):,} columns.</p>'
        if len(relations) > MOST_BARS
        else ""
    )
    pictures = "".join(_relation_picture(profile, r["column"]) for r in relations[:6] if abs(r["value"]) >= 0.05)
    return (
        f'<div class="two"><div class="card pad"><table class="bars"><caption class="soft small">How strongly each column goes with it, on the sample</caption>'
        f'<tbody>{rows}</tbody></table>{more}</div><div class="pics">{pictures}</div></div>'
    )


def _relation_picture(profile: Profile, name: str) -> str:
    """The target's mean, or the share of one class, along a column."""
    rows, target = profile.sampled, profile.target
    assert target is not None
    column = profile.sketch.columns[target]
    if is_class(column):
        most = column.top.most(column.top.size)
        value = most[-1][0] if len(most) <= 2 else most[0][0]
        kept = profile.sketch.sample
        places = np.repeat(np.arange(len(kept.counts)), kept.counts) if rows.size == kept.counts.sum() else None
        if places is None:
            return ""
        y = np.array([float(item == value) for item in kept.columns[target][places]])
        y[rows.nulls[target]] = np.nan
        title = f"Share of {cut(str(number(value) if isinstance(value, float) else value), 24)}"
    else:
        y, title = rows.numbers[target], f"Mean of {cut(target, 28)}"
    labels, means = _along(profile, name, y)
    if len(means) < 2:
        return ""
    alt = f"{title} along {cut(name, 40)}: from {number(means[0])} to {number(means[-1])}, least {number(min(means))}, most {number(max(means))}."
    picture = charts.line(means, alt) if name in rows.numbers else charts.columns(means, alt)
    axis = (
        f"<span>{esc(labels[0])}</span><span>{esc(labels[-1])}</span>"
        if name in rows.numbers
        else f"<span>{esc(cut(', '.join(labels), 60))}</span>"
    )
    return (
        f'<figure class="card"><figcaption><b>{esc(cut(name, 40))}</b><span class="soft small">{esc(title)}: '
        f'{esc(number(min(means)))} to {esc(number(max(means)))}</span></figcaption>{picture}<div class="axis">{axis}</div></figure>'
    )


def _along(profile: Profile, name: str, y: Any) -> tuple[list[str], list[float]]:
    rows = profile.sampled
    if name in rows.codes:
        codes = rows.codes[name]
        values: list[str] = []
        means: list[float] = []
        for value, _ in profile.sketch.columns[name].top.most(12):
            first = next((i for i, v in enumerate(profile.sketch.sample.columns[name]) if v == value), None)
            if first is None:
                continue
            start = int(profile.sketch.sample.counts[:first].sum())
            chosen = y[codes == codes[start]] if start < len(codes) else y[:0]
            chosen = chosen[~np.isnan(chosen)]
            if len(chosen):
                values.append(cut(str(value), 14))
                means.append(float(chosen.mean()))
        return values, means
    x = rows.numbers[name]
    both = ~np.isnan(x) & ~np.isnan(y)
    if both.sum() < 20:
        return [], []
    x, y = x[both], y[both]
    edges = np.unique(np.quantile(x, np.linspace(0, 1, 13)))
    place = np.clip(np.searchsorted(edges, x, "right") - 1, 0, max(len(edges) - 2, 0))
    counts = np.bincount(place)
    means_ = (np.bincount(place, y) / np.maximum(counts, 1))[counts > 0]
    show = moment if profile.sketch.columns[name].kind == "time" else number
    return [show(float(edges[0])), show(float(edges[-1]))], [float(value) for value in means_]


def _columns(profile: Profile, notes: dict[str | None, list[Finding]]) -> str:
    rank = {"high": 0, "medium": 1, "low": 2}
    numbered = list(enumerate(profile.columns))
    chosen = numbered
    if len(numbered) > MOST_CARDS:  # the target, then those with findings, then the table's order
        worst = {name: min(rank[f.severity] for f in found) for name, found in notes.items()}
        chosen = sorted(
            numbered, key=lambda item: (item[1].name != profile.target, worst.get(item[1].name, 3), item[0])
        )[:MOST_CARDS]
        chosen.sort()
    cards, size, shown = [], 0, set()
    for place, column in chosen:
        card = _card(profile, place, column, notes.get(column.name, []))
        size += len(card.encode())
        if size > MOST_CARD_BYTES:
            break
        cards.append(card)
        shown.add(place)
    rest = [(place, column) for place, column in numbered if place not in shown]
    listed = "".join(
        f'<li id="c{place}">{esc(cut(c.name, 60))} <span class="soft">{WORDS[c.kind]}, {_percent(c.nulls, c.rows)} missing</span></li>'
        for place, c in rest[:MOST_LISTED]
    )
    more = ""
    if rest:
        left = len(rest) - MOST_LISTED
        more = (
            f'<p class="soft">{len(shown):,} of {len(numbered):,} columns are drawn, those with findings first; the JSON has all.</p>'
            f'<details class="card"><summary>The {_count(len(rest), "other column")}</summary><ul class="listed">{listed}</ul>'
            + (f'<p class="soft pad">And {left:,} more.</p>' if left > 0 else "")
            + "</details>"
        )
    return f'<div class="cards">{"".join(cards)}</div>{more}'


def _card(profile: Profile, place: int, c: ColumnSketch, notes: Sequence[Finding]) -> str:
    tags = "".join(
        f'<span class="tag {f.severity}" title="{esc(cut(f.detail, 200))}">{esc(f.kind.replace("_", " "))}</span>'
        for f in notes[:5]
    )
    role = '<span class="tag role">target</span>' if c.name == profile.target else ""
    facts = "".join(f"<div><dt>{esc(key)}</dt><dd>{esc(value)}</dd></div>" for key, value in _facts(c))
    return (
        f'<article class="card col" id="c{place}"><div class="row"><h3>{esc(cut(c.name, 60))}</h3>'
        f'<span class="soft small">{WORDS[c.kind]}</span></div><p class="tags">{role}{tags}</p>'
        f"{_picture(c)}<dl>{facts}</dl></article>"
    )


def _facts(c: ColumnSketch) -> Iterator[tuple[str, str]]:
    yield "missing", _percent(c.nulls, c.rows)
    if c.misfits:
        yield "misfits", f"{c.misfits:,}"
    if c.nonfinite:
        yield "infinite", f"{c.nonfinite:,}"
    if c.sensitive or not c.given or c.kind == "other":
        return
    yield "different", f"{'' if c.distinct.is_exact else '≈ '}{c.distinct.estimate:,}"
    if c.kind == "number":
        median = c.quantiles([0.5])
        yield "mean", number(c.moments.mean if np.isfinite(c.moments.mean) else None)
        yield "std", number(c.moments.std)
        yield "least", number(c.low)
        yield "most", number(c.high)
        yield "median", number(median[0] if median else None)
        if c.zeros:
            yield "zero", _percent(c.zeros, c.given)
        if c.negatives:
            yield "negative", _percent(c.negatives, c.given)
    elif c.kind == "time":
        yield "from", moment(c.low)
        yield "to", moment(c.high)
    elif c.kind == "text":
        yield "length", f"{number(c.low)} to {number(c.high)}"
        yield "mean", number(c.moments.mean)


def _picture(c: ColumnSketch) -> str:
    if c.sensitive:
        return '<p class="soft small none">Sensitive: only counted.</p>'
    if not c.given or c.kind == "other":
        return '<p class="soft small none">Nothing to draw.</p>'
    whole = c.kind == "number" and c.wholes == c.moments.n
    few = c.top.is_exact and len(c.top.hashes) <= (40 if whole else 12)
    if c.kind in ("text", "bool") or (c.kind == "number" and few):
        return _bars(c)
    if c.kind == "time" and c.times is not None:
        counts, labels = _over_time(c, 60)
        if len(counts) > 1:
            alt = f"Rows over time from {labels[0]} to {labels[1]}, at most {max(counts):,} in a step."
            return (
                charts.columns(counts, alt)
                + f'<div class="axis"><span>{esc(labels[0])}</span><span>{esc(labels[1])}</span></div>'
            )
    edges, counts_ = c.histogram()
    if not edges:
        return '<p class="soft small none">Too wide or too narrow to draw.</p>'
    show = moment if c.kind == "time" else number
    alt = f"Histogram from {show(edges[0])} to {show(edges[-1])}; the most values near {show(edges[int(np.argmax(counts_))])}."
    cut_off = edges[0] > (c.low or 0) or edges[-1] < (c.high or 0)
    note = '<span class="soft">ends not drawn</span>' if cut_off else ""
    return (
        charts.columns(counts_, alt)
        + f'<div class="axis"><span>{esc(show(edges[0]))}</span>{note}<span>{esc(show(edges[-1]))}</span></div>'
    )


def _bars(c: ColumnSketch) -> str:
    most = c.top.most(6)
    if c.kind == "number" and len(c.top.hashes) <= 40:  # bins of their own would beat against whole numbers
        most = sorted(c.top.most(40), key=lambda item: float(item[0]))
    if not most or (c.kind == "text" and not c.top.is_exact and most[0][1] < 0.0005 * c.given):
        counts = [int(n) for n in c.lengths[: int(np.flatnonzero(c.lengths).max()) + 1]] if c.lengths.any() else []
        if len(counts) > 1:
            alt = f"Lengths of the texts, from {number(c.low)} to {number(c.high)} characters."
            return (
                charts.columns(counts, alt)
                + f'<div class="axis"><span>0</span><span class="soft">length</span><span>{len(counts) - 1}</span></div>'
            )
    top = max((count for _, count in most), default=1)
    if len(most) > 7:
        alt = "Rows per value, from " + f"{number(most[0][0])} to {number(most[-1][0])}."
        picture = charts.columns([count for _, count in most], alt, gap=0.2)
        return (
            picture
            + f'<div class="axis"><span>{esc(number(most[0][0]))}</span><span>{esc(number(most[-1][0]))}</span></div>'
        )
    items = []
    for value, count in most:
        text = (
            ("true" if value else "false")
            if c.kind == "bool"
            else number(value)
            if isinstance(value, float)
            else cut(str(value), 40)
        )
        items.append(
            f"<li><span>{esc(text)}</span>{charts.bar(count / top)}<span class=num>{_percent(count, c.given)}</span></li>"
        )
    shown = sum(count for _, count in most)
    rest = c.distinct.estimate - len(most)
    if rest > 0:
        items.append(
            f'<li class="soft"><span>{rest:,} other{"s" if rest > 1 else ""}</span>{charts.bar(0)}<span class=num>{_percent(c.given - shown, c.given)}</span></li>'
        )
    return f'<ul class="tops">{"".join(items)}</ul>'


def _over_time(c: ColumnSketch, bins: int) -> tuple[list[int], tuple[str, str]]:
    assert c.times is not None
    buckets, counts = c.times.buckets, c.times.counts
    if not len(buckets) or buckets[0] == buckets[-1]:
        return [], ("", "")
    span = int(buckets[-1] - buckets[0]) + 1
    bins = min(bins, span)
    place = ((buckets - buckets[0]) * bins // span).astype(np.int64)
    return [int(n) for n in np.bincount(place, counts, minlength=bins)], (moment(c.low), moment(c.high))


def _associations(profile: Profile) -> str:
    names = [column.name for column in profile.associated]
    if len(names) < 2:
        return ""
    pairs = {(item["a"], item["b"]): item for item in profile.associations}
    strongest = sorted(profile.associations, key=lambda item: -abs(item["value"]))[:12]
    words = {"spearman": "Spearman", "cramers_v": "Cramér’s V", "correlation_ratio": "correlation ratio"}
    rows = "".join(
        f'<tr><th scope="row">{esc(cut(item["a"], 30))} <span class="soft">and</span> {esc(cut(item["b"], 30))}</th>'
        f'<td class="num">{item["value"]:.2f}</td><td class="soft">{words[item["measure"]]}</td></tr>'
        for item in strongest
    )
    able = sum(1 for column in profile.columns if column.name in profile.sampled.nulls)
    note = f" Of {able:,} columns, {len(names)}." if len(names) < able else ""
    grid = charts.heat(names, pairs)
    return (
        f'<p class="soft">Spearman between numbers (blue together, orange opposed), Cramér’s V between texts, the correlation ratio between the two; on a sample of {profile.sampled.size:,} rows.{note}</p>'
        f'<div class="two heat"><div class="card pad scroll" tabindex="0" role="region" aria-label="Heat map">{grid}</div>'
        f'<div class="card pad"><table class="bars"><caption class="soft small">The strongest</caption><tbody>{rows}</tbody></table></div></div>'
    )


def _missing(profile: Profile) -> str:
    lacking = sorted((c for c in profile.columns if c.nulls), key=lambda c: -c.nulls)
    if not lacking:
        return '<p class="soft">None: every cell is given.</p>' if profile.rows else ""
    rows = "".join(
        f'<tr><th scope="row">{esc(cut(c.name, 40))}</th><td class="wide">{charts.bar(c.nulls / c.rows)}</td>'
        f'<td class="num">{_percent(c.nulls, c.rows)}</td><td class="num soft">{c.nulls:,}</td></tr>'
        for c in lacking[:MOST_BARS]
    )
    more = (
        f'<p class="soft small">The first {MOST_BARS} of {len(lacking):,} columns.</p>'
        if len(lacking) > MOST_BARS
        else ""
    )
    patterns = _patterns(profile, [c.name for c in lacking])
    second = f'<div class="card pad">{patterns}</div>' if patterns else ""
    return f'<div class="two"><div class="card pad"><table class="bars"><tbody>{rows}</tbody></table>{more}</div>{second}</div>'


def _patterns(profile: Profile, names: Sequence[str]) -> str:
    """The commonest sets of columns that are missing in one row."""
    rows = profile.sampled
    kept = [name for name in names if name in rows.nulls][:60]
    if not kept or not rows.size:
        return ""
    masks = np.column_stack([rows.nulls[name] for name in kept])
    patterns, counts = np.unique(masks, axis=0, return_counts=True)
    lines = []
    for place in np.argsort(-counts, kind="stable")[:8]:
        missing = [cut(kept[i], 30) for i in np.flatnonzero(patterns[place])]
        text = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        lines.append(
            f'<tr><th scope="row">{esc(text or "none missing")}</th><td class="num">{_percent(counts[place], rows.size)}</td></tr>'
        )
    return f'<table class="bars"><caption class="soft small">Missing in one row together, on the sample</caption><tbody>{"".join(lines)}</tbody></table>'


def _times(profile: Profile) -> str:
    made = []
    columns = [c for c in profile.columns if c.times is not None and c.kind == "time"]
    for c in columns[:3]:
        assert c.times is not None
        counts, labels = _over_time(c, 120)
        if len(counts) < 2:
            continue
        alt = f"Rows of {cut(c.name, 40)} over time, from {labels[0]} to {labels[1]}."
        parts = [
            f"<h3>{esc(cut(c.name, 60))}</h3>{charts.columns(counts, alt, height=90)}"
            f'<div class="axis"><span>{labels[0]}</span><span>{labels[1]}</span></div><div class="three">'
        ]
        for title, values, ends in (
            ("By month", c.times.months, ("Jan", "Dec")), ("By weekday", c.times.weekdays, ("Mon", "Sun")),
            ("By hour (UTC)", c.times.hours, ("0", "23")),
        ):  # fmt: skip
            if np.count_nonzero(values) > 1:
                picture = charts.columns([int(v) for v in values], f"{title}: rows of {cut(c.name, 40)}.", gap=0.2)
                parts.append(
                    f'<figure><figcaption class="soft small">{title}</figcaption>{picture}<div class="axis"><span>{ends[0]}</span><span>{ends[1]}</span></div></figure>'
                )
        made.append(f'<div class="card pad over">{"".join(parts)}</div></div>')
    left = len(columns) - 3
    return "".join(made) + (
        f'<p class="soft small">And {_count(left, "other column")} of dates.</p>' if left > 0 else ""
    )


def _sample(profile: Profile) -> str:
    kept = profile.sketch.sample
    names = [name for name in kept.columns if not profile.sketch.columns[name].sensitive]
    count = min(SAMPLE_ROWS, len(kept.hashes))
    if not names or not count:
        return ""
    head = "".join(f'<th scope="col">{esc(cut(name, 40))}</th>' for name in names[:SAMPLE_COLUMNS])
    body = "".join(
        "<tr>"
        + "".join(_cell(profile.sketch.columns[name], kept.columns[name][row]) for name in names[:SAMPLE_COLUMNS])
        + "</tr>"
        for row in range(count)
    )
    hidden = [c.name for c in profile.columns if c.sensitive]
    words = [f"{count} rows chosen at random."]
    words += [f"The first {SAMPLE_COLUMNS} of {len(names):,} columns."] if len(names) > SAMPLE_COLUMNS else []
    words += [f"{_count(len(hidden), 'sensitive column')} not shown."] if hidden else []
    return (
        f'<p class="soft">{" ".join(words)}</p><div class="card scroll" tabindex="0" role="region" aria-label="Sample rows">'
        f'<table class="sample"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(c: ColumnSketch, value: Any) -> str:
    if value is None or value != value:
        return '<td class="soft">–</td>'
    if c.kind == "time":
        return f"<td>{esc(moment(float(value)))}</td>"
    if c.kind == "bool":
        return f"<td>{'true' if value else 'false'}</td>"
    if isinstance(value, float | np.floating):
        return f'<td class="num">{esc(f"{value:.15g}")}</td>'
    return f"<td>{esc(cut(str(value), 60))}</td>"
