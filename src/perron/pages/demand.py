"""What the demonstration of drift found in; one self-contained page with its picture out."""

from collections.abc import Mapping, Sequence
from typing import Any

from perron.pages.charts import cut, esc

__all__ = ["render"]

WIDTH, HEIGHT, LEFT, TOP, CELL = 900, 280, 150, 20, 24
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b2733;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}svg{width:100%;height:auto;font-size:12px}
.grid{stroke:#d8dee5}.first{stroke:#b4452f;fill:none;stroke-width:2.5;stroke-dasharray:6 4}
.served{stroke:#1f6f8b;fill:none;stroke-width:2.5}.mark{stroke:#3a7d44;stroke-width:2}.cell{fill:#1f6f8b}text{fill:#44525f}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dee5;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
@media(prefers-color-scheme:dark){body{background:#14191f;color:#dfe6ec}text{fill:#a9b6c2}.grid,td,th{stroke:#33404c;border-color:#33404c}}
"""


def render(done: Mapping[str, Any]) -> str:
    """The page of what `perron demo drift --json` prints."""
    months = done["months"]
    source = "the bike sharing table" if done["is_real"] else "a simulated demand series (give --data for a real one)"
    after, stayed = done["error_after_retraining"], done["error_had_it_stayed"]
    words = [
        f"Trained on {done['trained_on']:,} hours, then {done['served']:,} served, from {esc(source)}.",
        f"The error (rmse) on the test rows was {done['expected']:.1f}, and {done['error_before_retraining']:.1f} in service until retraining.",
        f"After retraining it was {after:.1f}; without, it would have been {stayed:.1f}."
        if after is not None
        else "No retraining was accepted.",
    ]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Drift of a demand</title><style>{STYLE}</style><h1>Drift of a demand</h1><p>{' '.join(words)}</p>"
        f"<h2>Error by month</h2>{_errors(months, done['expected'])}<h2>What drifted when</h2>{_drifted(months)}"
        f"<h2>What was found at the end of each month</h2>{_table(months)}</html>\n"
    )


def _x(place: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - 30) * (place + 0.5) / count


def _errors(months: Sequence[Mapping[str, Any]], expected: float) -> str:
    most = 1.1 * max(max(m["error"], m["error_of_first"]) for m in months)
    count = len(months)

    def y(value: float) -> float:
        return float(TOP + (HEIGHT - 60) * (1 - value / most))

    def path(name: str) -> str:
        return " ".join(f"{_x(i, count):.1f},{y(m[name]):.1f}" for i, m in enumerate(months))

    parts = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 30}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y(v) + 4:.1f}" text-anchor="end">{v:.0f}</text>'
        for v in (0.0, most / 4, most / 2, 3 * most / 4)
    ]
    parts.append(
        f'<line class="grid" stroke-dasharray="2 3" x1="{LEFT}" x2="{WIDTH - 30}" y1="{y(expected):.1f}" y2="{y(expected):.1f}"/>'
        f'<text x="4" y="{y(expected) + 4:.1f}">expected {expected:.0f}</text>'
    )
    for i, m in enumerate(months):
        parts.append(
            f'<text x="{_x(i, count):.1f}" y="{HEIGHT - 22}" text-anchor="middle">{esc(m["month"][2:])}</text>'
        )
        if m["retrained"] and m["retrained"]["registered"]:
            x = (_x(i, count) + _x(i + 1, count)) / 2
            parts.append(
                f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - 40}"/>'
                f'<text x="{x + 4:.1f}" y="{TOP + 10}">v{m["retrained"]["version"]}</text>'
            )
    parts += [
        f'<polyline class="first" points="{path("error_of_first")}"/><polyline class="served" points="{path("error")}"/>',
        f'<line class="first" x1="{LEFT}" x2="{LEFT + 30}" y1="{HEIGHT - 6}" y2="{HEIGHT - 6}"/>'
        f'<text x="{LEFT + 36}" y="{HEIGHT - 2}">the first model, had it stayed</text>'
        f'<line class="served" x1="{LEFT + 260}" x2="{LEFT + 290}" y1="{HEIGHT - 6}" y2="{HEIGHT - 6}"/>'
        f'<text x="{LEFT + 296}" y="{HEIGHT - 2}">what answered (green: a new version)</text>',
    ]
    alt = "Error by month: " + ", ".join(f"{m['month']} {m['error']:.0f} ({m['error_of_first']:.0f})" for m in months)
    return f'<svg role="img" aria-label="{esc(alt)}" viewBox="0 0 {WIDTH} {HEIGHT}">{"".join(parts)}</svg>'


def _drifted(months: Sequence[Mapping[str, Any]]) -> str:
    found: dict[str, dict[int, float]] = {}
    for place, month in enumerate(months):
        for finding in month["findings"]:
            if finding["kind"].endswith("drift"):
                cells = found.setdefault(finding["subject"], {})
                cells[place] = max(cells.get(place, 0.0), float(finding["value"]))
    names = sorted(found, key=lambda name: -sum(found[name].values()))
    if not names:
        return "<p>Nothing did.</p>"
    count, step = len(months), (WIDTH - LEFT - 30) / len(months)
    parts = [
        f'<text x="{_x(i, count):.1f}" y="14" text-anchor="middle">{esc(month["month"][2:])}</text>'
        for i, month in enumerate(months)
    ]
    for row, name in enumerate(names):
        y = TOP + row * CELL
        parts.append(f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{esc(cut(name, 20))}</text>')
        for place, effect in found[name].items():
            parts.append(
                f'<rect class="cell" fill-opacity="{min(1.0, 0.15 + effect):.2f}" x="{LEFT + place * step + 1:.1f}" y="{y}" '
                f'width="{step - 2:.1f}" height="{CELL - 3}"><title>{esc(name)}, {esc(months[place]["month"])}: {effect:.2f}</title></rect>'
            )
    alt = "What drifted when: " + "; ".join(
        f"{name} in {', '.join(months[place]['month'] for place in sorted(found[name]))}" for name in names
    )
    return f'<svg role="img" aria-label="{esc(alt)}" viewBox="0 0 {WIDTH} {TOP + len(names) * CELL + 6}">{"".join(parts)}</svg>'


def _table(months: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for m in months:
        lines = "<br>".join(
            f"{esc(f['kind'].replace('_', ' '))}: <b>{esc(f['subject'])}</b> {esc(f['detail'])}"
            for f in m["findings"][:6]
        )
        made = m["retrained"]
        if made:
            word = f"registered as version {made['version']}" if made["registered"] else f"refused: {', '.join(made['gates'])}"  # fmt: skip
            lines += f"<br><b>Asked to retrain, and retrained on {made['rows']:,} rows: {esc(word)}.</b>"
        rows.append(
            f'<tr><td>{esc(m["month"])}</td><td class="n">{m["version"]}</td><td class="n">{m["error"]:.1f}</td>'
            f'<td class="n">{m["error_of_first"]:.1f}</td><td>{lines or "nothing"}</td></tr>'
        )
    head = '<tr><th>Month</th><th class="n">Version</th><th class="n">Error</th><th class="n">First model\'s</th><th>Found</th></tr>'
    return f"<table>{head}{''.join(rows)}</table>"
