"""A look at a model's traffic in; one self-contained HTML page out, for mail and pull requests."""

from collections.abc import Sequence

from perron.drift import Drift, show_number
from perron.levels import Levels
from perron.monitor import Finding, Look
from perron.pages import charts
from perron.pages.charts import cut, esc
from perron.pages.style import head
from perron.performance import Losses

__all__ = ["render"]

MOST_FINDINGS = 100
SEVERITY = {"high": "High", "medium": "Medium", "low": "Low"}
KINDS = {
    "drift": "drift of inputs", "multivariate": "drift of inputs together", "prediction_drift": "drift of predictions", "target_drift": "drift of outcomes", "performance": "performance",
    "estimate": "estimate", "concept": "concept drift", "skew": "skew", "no_reference": "no reference",
    "errors": "errors", "latency": "latency", "budget": "error budget", "traffic": "traffic", "resources": "resources", "cost": "cost",
}  # fmt: skip


def render(look: Look) -> str:
    """The page of a look."""
    sections = [
        ("findings", "Findings", _findings(look)),
        ("drift", "What moved", _pictures([f.drift for f in look.findings if f.drift is not None])),
        ("performance", "Performance", _performance(look)),
        ("traffic", "Traffic", _traffic(look)),
        ("service", "Service", _service(look.levels)),
    ]
    shown = [(key, title, body) for key, title, body in sections if body]
    nav = "".join(f'<a href="#{key}">{esc(title)}</a>' for key, title, _ in shown)
    body = "".join(
        f'<section id="{key}" class="wrap" aria-labelledby="{key}-t"><h2 id="{key}-t">{esc(title)}</h2>{part}</section>'
        for key, title, part in shown
    )
    return (
        head(f"{look.model} version {look.version}")
        + '<a class="skip" href="#findings">Skip to the findings</a>'
        + f'<header class="wrap"><div class="row"><h1><span class="soft">Monitoring</span> {esc(cut(look.model, 60))} '
        + f'<span class="soft">version {look.version}</span></h1><nav aria-label="Sections">{nav}</nav></div>{_overview(look)}</header>'
        + f"<main>{body}</main></body></html>\n"
    )


def _overview(look: Look) -> str:
    high = sum(finding.severity == "high" for finding in look.findings)
    kind = "high" if high else "medium" if look.findings else "good"
    if not look.rows:
        kind, words = "medium", "No traffic was seen yet."
    elif not look.findings:
        words = "Nothing to worry about: the traffic looks like the training, as far as can be seen."
    else:
        words = f"{len(look.findings)} {'finding' if len(look.findings) == 1 else 'findings'}, {high} of them high."
    measured = look.outcomes.metric(look.metric)
    facts = [
        ("Rows", f"{look.rows:,}"),
        ("Outcomes", f"{look.outcomes.n:,}" + (f" ({look.coverage:.0%})" if look.coverage is not None else "")),
        (look.metric, "–" if measured is None else f"{show_number(measured[0])}"),
        (f"{look.metric} on the test rows", "–" if look.expected is None else f"{show_number(look.expected)}"),
    ]
    listed = "".join(f'<div><dt>{esc(name)}</dt><dd class="main">{esc(value)}</dd></div>' for name, value in facts)
    return f'<p class="verdict {kind}">{esc(words)} <span class="soft">Looked at {esc(look.at)}.</span></p><dl class="facts card pad">{listed}</dl>'


def _findings(look: Look) -> str:
    if not look.findings:
        return '<p class="card pad none">There are none.</p>'
    rows = "".join(_finding(finding) for finding in look.findings[:MOST_FINDINGS])
    more = len(look.findings) - MOST_FINDINGS
    note = f'<p class="small soft">… and {more} more.</p>' if more > 0 else ""
    return (
        '<div class="card scroll"><table class="findings"><thead><tr><th scope="col">Severity</th><th scope="col">Kind</th>'
        f'<th scope="col">What</th><th scope="col">Since</th><th scope="col">Detail</th></tr></thead><tbody>{rows}</tbody></table></div>{note}'
    )


def _finding(finding: Finding) -> str:
    return (
        f'<tr><td><span class="tag {finding.severity}">{SEVERITY[finding.severity]}</span></td><td>{esc(KINDS.get(finding.kind, finding.kind))}</td>'
        f"<td>{esc(cut(finding.subject, 60))}</td><td>{esc((finding.since or '–')[:16].replace('T', ' '))}</td><td>{esc(finding.detail)}</td></tr>"
    )


def _pictures(drifts: Sequence[Drift]) -> str:
    """Both distributions of each drift, side by side."""
    made = []
    for drift in drifts[:60]:
        if not drift.before:
            continue
        rows = "".join(
            f'<tr><th scope="row">{esc(cut(str(label), 24))}</th><td class="wide">{charts.bar(before / most)}{charts.bar(now / most, negative=True)}</td>'
            f'<td class="num">{before:.1%}</td><td class="num">{now:.1%}</td></tr>'
            for most in [max(*drift.before, *drift.now, 1e-9)]
            for label, before, now in zip(drift.labels, drift.before, drift.now, strict=True)
        )
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in drift.measures.items())
        made.append(
            f'<figure class="card"><figcaption><strong>{esc(cut(drift.column, 40))}</strong><span class="soft small">{esc(drift.detail)}</span></figcaption>'
            f'<table class="bars"><thead><tr><th scope="col">Value</th><th></th><th scope="col" class="num">before</th>'
            f'<th scope="col" class="num">now</th></tr></thead><tbody>{rows}</tbody></table><p class="soft small">{esc(told)}</p></figure>'
        )
    return f'<div class="cards drifts">{"".join(made)}</div>' if made else ""


def _performance(look: Look) -> str:
    parts = []
    values = [(period.day, period.losses) for period in look.performance]
    if values:
        points = [found[0] for _, losses in values if (found := losses.metric(look.metric)) is not None]
        if len(points) > 1:
            alt = f"{look.metric} by day, from {show_number(points[0])} to {show_number(points[-1])}"
            parts.append(
                f'<figure class="card pad"><figcaption>{esc(look.metric)} by day</figcaption>{charts.line(points, alt)}</figure>'
            )
        parts.append(
            _table(
                ["Day", "Outcomes", look.metric, "95 %"],
                [_measured(day, losses, look.metric) for day, losses in values[-31:]],
            )
        )
    else:
        parts.append('<p class="card pad">No outcomes are known yet.</p>')
    if look.estimates:
        rows = [
            [
                start[:10],
                f"{e.rows:,}",
                f"{show_number(e.value)} (estimate)",
                f"{show_number(e.low)} to {show_number(e.high)}",
            ]
            for start, e in look.estimates[-31:]
        ]
        first = look.estimates[0][1]
        parts.append(
            f"<h3>Before outcomes: {esc(first.metric)}, estimated by {esc(first.method)}</h3>"
            + _table(["Since", "Rows", first.metric, "95 %"], rows)
        )
    if len(look.routes) > 1:
        routes = [_measured(name, losses, look.metric) for name, losses in look.routes[:40]]
        parts.append("<h3>By route</h3>" + _table(["Route", "Outcomes", look.metric, "95 %"], routes))
    if look.slices:
        parts.append(
            "<h3>By slice</h3>"
            + _table(
                ["Slice", "Outcomes", look.metric, "95 %"],
                [_measured(name, losses, look.metric) for name, losses in look.slices[:40]],
            )
        )
    return "".join(parts)


def _measured(name: str, losses: Losses, metric: str) -> list[str]:
    found = losses.metric(metric)
    if found is None:
        return [name, "0", "–", "–"]
    return [name, f"{losses.n:,}", f"{show_number(found[0])}", f"{show_number(found[1])} to {show_number(found[2])}"]


def _traffic(look: Look) -> str:
    if not look.windows:
        return ""
    rows = [
        [
            f"{window.start:%Y-%m-%d %H:%M}",
            f"{window.rows:,}",
            ", ".join(sorted({d.column for d in window.drifts})) or "–",
        ]
        for window in look.windows[-31:]
    ]
    alt = f"Rows per period, {len(look.windows)} periods"
    picture = charts.columns([window.rows for window in look.windows], alt) if len(look.windows) > 1 else ""
    return (f'<figure class="card pad">{picture}</figure>' if picture else "") + _table(
        ["Since", "Rows", "Drifted"], rows
    )


def _service(levels: Levels | None) -> str:
    """How many requests failed and how long they took, the error budget, and what was used."""
    if levels is None:
        return ""
    ways = [
        [
            str(way.version), way.route, f"{way.traffic.requests:,}", "–" if way.error_share is None else f"{way.error_share:.2%}",
            *("–" if (found := way.percentile_ms(share)) is None else f"{found:.3g} ms" for share in (0.5, 0.95, 0.99)),
        ]
        for way in levels.ways[:40]
    ]  # fmt: skip
    used = [
        [
            one.host, str(one.worker), f"{one.cpu_share:.0%} ({one.busiest_share:.0%} in the busiest minute)",
            "–" if one.resident_bytes is None else f"{one.resident_bytes / 1e6:,.0f} MB",
            "–" if one.open_files is None else f"{one.open_files:,} of {one.most_files or 0:,}", f"{one.queue_rows:,}",
        ]
        for one in levels.processes[:40]
    ]  # fmt: skip
    burns = [f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min" for minutes in levels.burn]
    facts = [
        ("Error budget left", "–" if levels.budget_left is None else f"{levels.budget_left:.0%} of a month's"),
        ("Its burn", ", ".join(f"{'–' if value is None else f'{value:.3g}'} over {words}" for words, value in zip(burns, levels.burn.values(), strict=True))),
        ("Busiest minute", f"{levels.busiest_rows_per_s:,.3g} rows a second"),
        ("Refused", ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(levels.refused.items())) or "none"),
        ("Disk", "–" if levels.disk_free_bytes is None or not levels.disk_bytes else f"{levels.disk_free_bytes / 1e9:.3g} of {levels.disk_bytes / 1e9:.3g} GB free"),
        ("Cost of 1,000 predictions", "no price is declared" if levels.cost_per_1000 is None else f"{levels.cost_per_1000:.3g}"),
        ("Energy", f"{levels.energy_kwh * 1000:.3g} Wh, an estimate by CPU time"),
    ]  # fmt: skip
    listed = "".join(f"<div><dt>{esc(name)}</dt><dd>{esc(value)}</dd></div>" for name, value in facts)
    return (
        (
            _table(["Version", "Route", "Requests", "Failed", "Half within", "95 % within", "99 % within"], ways)
            if ways
            else ""
        )
        + f'<dl class="facts card pad">{listed}</dl>'
        + _table(["Host", "Worker", "CPU", "Memory", "Open files", "Rows that waited"], used)
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head_cells = "".join(f'<th scope="col">{esc(name)}</th>' for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="card pad scroll"><table><thead><tr>{head_cells}</tr></thead><tbody>{body}</tbody></table></div>'
    )
