"""Values in; the parts that every page is made of out: numbers and times in one format, tables, facts, charts, the lineage."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import streamlit as st

from perron.pages.charts import cut, esc

__all__ = [
    "Html",
    "bars", "duration", "facts_row", "lineage", "lines", "moment", "note", "number", "percent", "plain", "severity",
    "style", "table", "title", "two_bars", "waiting",
]  # fmt: skip

BLUE, GREY = "#4a90c4", "#8a9099"
COLORS = (BLUE, "#d07f2e", "#5a9e6f", "#b0627e", "#8672b8", "#a08a3c")
GRAPH_CSS = """text { font: 12px system-ui, sans-serif; fill: #1d1f22; } .k { font-size: 11px; fill: #5a5f66; }
rect, path { fill: none; stroke: #9a9fa6; } .now { stroke: #1c5d99; stroke-width: 2; }
@media (prefers-color-scheme: dark) { text { fill: #e4e5e7; } .k { fill: #a2a7af; } rect, path { stroke: #6f757e; } .now { stroke: #86b7e8; } }"""
CSS = """<style>
:root { --p-line: color-mix(in srgb, currentColor 16%, transparent); }
.block-container { max-width: 76rem; padding-top: 2.5rem; padding-bottom: 4rem; }
.block-container h1 { font-size: 1.7rem; padding: 0 0 .1rem; } .block-container h2 { font-size: 1.15rem; padding: 1rem 0 .1rem; }
.p-soft { margin: 0; font-size: .95rem; } .p-soft, .p-facts dt, .p-table th { opacity: .78; } .p-table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
.p-scroll { overflow: auto; } .p-long { max-height: 30rem; } .p-table th { text-align: left; font-weight: 400; white-space: nowrap; } .p-table td, .p-table th { padding: .38rem 1.1rem .38rem 0; border: 0; border-bottom: 1px solid var(--p-line); vertical-align: top; overflow-wrap: break-word; }
.p-table .n { text-align: right; white-space: nowrap; overflow-wrap: normal; } .p-table tr.d td { font-weight: 600; } .p-table code, .p-facts code { font-size: .88em; background: none; color: inherit; padding: 0; }
.p-facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .9rem 1.3rem; margin: .5rem 0 !important; padding: 0 !important; font-variant-numeric: tabular-nums; }
.p-facts div { border-left: 2px solid var(--p-line); padding-left: .8rem; min-width: 0; } .p-facts dt { font-size: .85rem; font-weight: 400; }
.p-facts dd { margin: 0 !important; font-size: 1.2rem; font-weight: 600; line-height: 1.35; overflow-wrap: anywhere; } .p-facts dd.s { line-height: 1.45; font-size: .85rem; font-weight: 400; opacity: .78; }
.p-tag { display: inline-block; min-width: 4.2rem; font-size: .82rem; font-weight: 600; } .p-tag::before { content: ""; display: inline-block; width: .55rem; height: .55rem; border-radius: 50%; margin-right: .45rem; background: currentColor; }
.p-tag.high { color: light-dark(#ad2318, #ff9a8f); } .p-tag.medium { color: light-dark(#7a5200, #e6bf6a); } .p-tag.low { color: light-dark(#5a5f66, #a2a7af); } .p-tag.good { color: light-dark(#1d6b3a, #84d3a1); }
.p-fault { color: light-dark(#ad2318, #ff9a8f); font-size: .88rem; margin-top: -.6rem; }
.p-graph { max-width: 100%; height: auto; }
</style>"""


def style() -> None:
    """The look of every page; the browser's scheme, light or dark, is Streamlit's to follow."""
    st.html(CSS)


# ------------------------------------------------------------------ words


def number(value: Any, unit: str | None = None) -> str:
    """A number as people read it: 45,432.6, 0.8410, 20,640; – where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        text = f"{value:,}"
    elif isinstance(value, float):
        text = (
            f"{value:,.1f}"
            if abs(value) >= 1000
            else f"{value:.4g}"
            if abs(value) >= 1e-4 or value == 0
            else f"{value:.1e}"
        )
    else:
        return str(value)
    return f"{text} {unit}" if unit else text


def percent(share: float | None) -> str:
    """A share: 0 %, < 0.1 %, 12.5 %."""
    if share is None:
        return "–"
    return "0 %" if share == 0 else "< 0.1 %" if share < 0.001 else f"{100 * share:.1f} %".replace(".0 %", " %")


def duration(seconds: float | None) -> str:
    """A length of time: 340 µs, 12 ms, 5 s, 3 min, 7.0 h, 7.0 days."""
    if seconds is None:
        return "–"
    for limit, unit, size in (
        (1e-3, "µs", 1e-6),
        (1, "ms", 1e-3),
        (120, "s", 1),
        (7200, "min", 60),
        (172_800, "h", 3600),
    ):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} days"


def moment(text: str | None) -> str:
    """A time of the ledger: 2026-11-24 07:28 UTC."""
    return "–" if not text else f"{text[:10]} {text[11:16]} UTC".replace("  ", " ")


def plain(text: object) -> str:
    """Text that Markdown shows as it is."""
    made = str(text)
    for mark in ("\\", "*", "_", "`", "[", "]", "<", ">", "#", "$", ":", "~", "|"):
        made = made.replace(mark, "\\" + mark)
    return made


# ------------------------------------------------------------------ parts


def title(words: str, beside: str = "") -> None:
    """A page's heading, and a line below it."""
    st.title(words, anchor=False)
    if beside:
        note(beside)


def note(words: str) -> None:
    """A line in the background."""
    st.html(f'<p class="p-soft">{esc(words)}</p>')


def severity(found: str | None) -> str:
    """A severity as HTML; None: nothing was found."""
    return f'<span class="p-tag {esc(found or "good")}">{esc(found or "none")}</span>'


class Html(str):
    """Text that is HTML already."""


def _cell(value: object) -> str:
    return value if isinstance(value, Html) else esc("–" if value is None else value)


def facts_row(facts: Iterable[tuple[str, object, str]]) -> None:
    """A few numbers side by side: name, value, and a word below."""
    boxes = "".join(
        f"<div><dt>{esc(name)}</dt><dd>{_cell(value)}</dd>{f'<dd class=s>{esc(below)}</dd>' if below else ''}</div>"
        for name, value, below in facts
    )
    st.html(f'<dl class="p-facts">{boxes}</dl>')


def table(
    heads: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[int] = (), marked: Sequence[int] = (),
    name: str = "",
    is_long: bool = False,
) -> None:  # fmt: skip
    """A table: the columns `numbers` to the right, the rows `marked` in bold. `name` is for who can't see it; one that
    `is_long` is scrolled."""
    kind = ["" if place not in numbers else ' class="n"' for place in range(len(heads))]
    head = "".join(f'<th scope="col"{kind[place]}>{esc(text)}</th>' for place, text in enumerate(heads))
    body = "".join(
        f"<tr{' class=d' if at in marked else ''}>"
        + "".join(f"<td{kind[place]}>{_cell(cell)}</td>" for place, cell in enumerate(row))
        + "</tr>"
        for at, row in enumerate(rows)
    )
    st.html(
        f'<div class="p-scroll{" p-long" if is_long else ""}"><table class="p-table" aria-label="{esc(name)}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def waiting(words: str) -> None:
    """Says that something is being made, and looks again in a second."""

    @st.fragment(run_every=1.0)
    def again() -> None:
        key = "waited"
        st.session_state[key] = not st.session_state.get(key, False)
        if not st.session_state[key]:
            st.rerun()
        note(words)

    again()


# ------------------------------------------------------------------ charts (Vega-Lite, which Streamlit brings)


def _chart(spec: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    whole = {**spec, "data": {"values": list(rows)}, "autosize": {"type": "fit", "contains": "padding"}}
    st.vega_lite_chart(whole, width="stretch")


def _x(kind: str, points: Iterable[Any] = (), name: str = "") -> dict[str, Any]:
    """The axis below: days (UTC), of which some are named, or numbers."""
    if kind == "time":
        days = len({str(point)[:10] for point in points})
        ticks = {"interval": "day", "step": max(1, days // 8)}
        axis = {"grid": False, "format": "%-d %b", "tickCount": ticks, "labelOverlap": True}
        return {"field": "x", "type": "temporal", "title": None, "axis": axis, "scale": {"type": "utc"}}
    return {"field": "x", "type": "quantitative", "title": name or None, "axis": {"grid": False, "tickMinStep": 1}}


def bars(points: Sequence[tuple[str, float, str]], name: str, height: int = 180) -> None:
    """Traffic over time: (moment, count, series), stacked."""
    several = len({series for _, _, series in points}) > 1
    rows = [{"x": x, "y": y, "series": series} for x, y, series in points]
    encoding: dict[str, Any] = {
        "x": _x("time", [x for x, _, _ in points]), "y": {"field": "y", "type": "quantitative", "aggregate": "sum", "title": name, "axis": {"tickCount": 4, "format": "~s"}},
        "tooltip": [{"field": "x", "type": "nominal", "title": "from"}, {"field": "y", "type": "quantitative", "title": name, "format": ","}, {"field": "series", "title": "route"}],
    }  # fmt: skip
    if several:
        encoding["color"] = {
            "field": "series",
            "title": None,
            "legend": {"orient": "top"},
            "scale": {"range": list(COLORS)},
        }
    mark = {"type": "bar", "color": BLUE, "width": {"band": 0.9}} if len(points) < 2 else {"type": "area", "color": BLUE, "opacity": 0.85, "interpolate": "step-after"}  # fmt: skip
    _chart({"mark": mark, "encoding": encoding, "height": height}, rows)


def lines(
    series: Mapping[str, Sequence[tuple[Any, float]]], name: str, *, kind: str = "time", x_name: str = "",
    bands: Sequence[tuple[Any, float, float]] = (), level: tuple[str, float] | None = None, dashed: str | None = None,
    height: int = 240, zero: bool = False,
) -> None:  # fmt: skip
    """Lines by name, with a band around them, a level across, and the line `dashed` in dashes (an estimate)."""
    rows = [{"x": x, "y": y, "series": label} for label, points in series.items() for x, y in points]
    layers: list[dict[str, Any]] = []
    axis = _x(kind, [row["x"] for row in rows], x_name)
    scale = {"zero": zero}
    if bands:
        layers.append({
            "data": {"values": [{"x": x, "low": low, "high": high} for x, low, high in bands]},
            "mark": {"type": "area", "opacity": 0.18, "color": BLUE},
            "encoding": {"x": axis, "y": {"field": "low", "type": "quantitative", "scale": scale, "title": name}, "y2": {"field": "high"}},
        })  # fmt: skip
    color: dict[str, Any] = {"field": "series", "type": "nominal", "title": None, "legend": {"orient": "top", "labelLimit": 400} if len(series) > 1 or level else None}  # fmt: skip
    color["scale"] = {
        "domain": [*series, *([level[0]] if level else [])],
        "range": [*COLORS[: len(series)], *([GREY] if level else [])],
    }
    encoding: dict[str, Any] = {
        "x": axis, "color": color,
        "y": {"field": "y", "type": "quantitative", "title": name, "scale": scale, "axis": {"tickCount": 5}},
        "tooltip": [{"field": "series", "title": "what"}, {"field": "x", "type": "nominal", "title": x_name or "day"}, {"field": "y", "type": "quantitative", "title": name, "format": ",.4~g"}],
    }  # fmt: skip
    if dashed is not None:
        encoding["strokeDash"] = {"condition": {"test": {"field": "series", "equal": dashed}, "value": [5, 4]}, "value": [1, 0]}  # fmt: skip
    layers.append({"mark": {"type": "line", "point": {"size": 22} if len(rows) < 400 else False, "strokeWidth": 1.8}, "encoding": encoding})  # fmt: skip
    if level is not None:
        layers.append({
            "data": {"values": [{"y": level[1], "series": level[0]}]}, "mark": {"type": "rule", "strokeDash": [2, 3], "strokeWidth": 1.5},
            "encoding": {"y": {"field": "y", "type": "quantitative"}, "color": {"field": "series", "type": "nominal"}},
        })  # fmt: skip
    _chart({"layer": layers, "height": height}, rows)


def two_bars(
    labels: Sequence[str], before: Sequence[float], now: Sequence[float], name: str, names: tuple[str, str]
) -> None:
    """Two distributions beside each other: shares by label."""
    rows = [
        {"label": cut(label, 28), "order": place, "share": share, "series": series}
        for series, shares in zip(names, (before, now), strict=True)
        for place, (label, share) in enumerate(zip(labels, shares, strict=True))
    ]  # fmt: skip
    _chart({
        "mark": {"type": "bar"}, "height": 320,
        "encoding": {
            "x": {"field": "label", "type": "nominal", "sort": {"field": "order"}, "title": name, "axis": {"labelAngle": -35, "labelLimit": 160}},
            "xOffset": {"field": "series", "sort": list(names)},
            "y": {"field": "share", "type": "quantitative", "title": "share of rows", "axis": {"format": "%", "tickCount": 4}},
            "color": {"field": "series", "title": None, "scale": {"domain": list(names), "range": [GREY, BLUE]}, "legend": {"orient": "top"}},
            "tooltip": [{"field": "label", "title": name}, {"field": "series", "title": "when"}, {"field": "share", "title": "share", "format": ".1%"}],
        },
    }, rows)  # fmt: skip


# ------------------------------------------------------------------ lineage


def lineage(columns: Sequence[Sequence[tuple[str, str, bool]]], words: str) -> None:
    """A graph from left to right: each column's boxes (kind, name, whether it is in force) lead to the next column's."""
    wide, tall, gap, across = 190, 46, 16, 44
    height = max(len(column) for column in columns) * (tall + gap)
    parts: list[str] = []
    centres: list[list[float]] = []
    for place, column in enumerate(columns):
        x = place * (wide + across) + 1
        top = (height - len(column) * (tall + gap) + gap) / 2
        middles = []
        for at, (kind, name, in_force) in enumerate(column):
            y = top + at * (tall + gap)
            middles.append(y + tall / 2)
            parts.append(
                f'<g><title>{esc(kind)}: {esc(name)}</title><rect rx="6" x="{x}" y="{y:.0f}" width="{wide}" height="{tall}" class="{"now" if in_force else ""}"/>'
                f'<text class="k" x="{x + 12}" y="{y + 18:.0f}">{esc(kind)}</text><text x="{x + 12}" y="{y + 35:.0f}">{esc(cut(name, 25))}</text></g>'
            )
        if centres:
            start, end = x - across, x
            parts += [
                f'<path d="M{start} {a:.0f}C{start + across / 2} {a:.0f} {end - across / 2} {b:.0f} {end} {b:.0f}"/>'
                for a in centres[-1]
                for b in middles
            ]
        centres.append(middles)
    whole = len(columns) * (wide + across) - across + 2
    drawn = f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{height}" viewBox="0 0 {whole} {height}"><style>{GRAPH_CSS}</style>{"".join(parts)}</svg>'
    data = base64.b64encode(drawn.encode()).decode()  # as a picture: Streamlit takes drawings out of a page's HTML
    st.html(f'<img class="p-graph" src="data:image/svg+xml;base64,{data}" alt="{esc(words)}">')
