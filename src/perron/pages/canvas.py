"""A Canvas and its faults in; the use case on one printable page, or as the project card in Markdown, out."""

from collections.abc import Mapping, Sequence
from typing import Any

from perron.canvas import SECTIONS, Canvas, Fault, risk_class
from perron.contract import format_number
from perron.pages.charts import esc
from perron.pages.style import head

__all__ = ["render", "render_card"]

CSS = """<style>
.canvas { display:grid; grid-template-columns:repeat(4,minmax(0,1fr)); gap:.8rem; } .canvas .pad { padding:.8rem 1rem .9rem; }
.canvas .v { grid-column:span 2; } .canvas h2 { font-size:1rem; margin-bottom:.4rem; } .canvas dt { color:var(--soft); font-size:.8rem; }
.canvas dd { margin:0 0 .4em; } .canvas ul { padding-left:1.1rem; } .canvas .wrong { color:var(--bad); }
@media (max-width:900px) { .canvas { grid-template-columns:minmax(0,1fr); } .canvas .v { grid-column:auto; } }
@media print { @page { size:A4 landscape; margin:8mm; } body { font-size:7.5pt; line-height:1.25; background:#fff; } footer { display:none; } .wrap { max-width:none; padding:0; }
  header { padding:0 0 .5rem !important; } .canvas { grid-template-columns:repeat(4,minmax(0,1fr)); gap:.3rem; } .canvas .v { grid-column:span 2; }
  .canvas .pad { padding:.4rem .5rem; } .verdict { margin:.3rem 0; padding:.3rem .6rem; font-size:1em; } .canvas h2 { font-size:1.1em; margin-bottom:.2em; } .canvas dt { font-size:.9em; } h1 { font-size:14pt; } }
</style>"""
BOXES = (
    "value", "objectives", "decision", "data", "goals", "budgets", "fairness", "feasibility", "risks", "owners", "phases",
)  # fmt: skip
LABELS = {
    "max_p99_ms": "Slowest 1 % of requests, at most (ms)", "max_error_share": "Failing requests, at most",
    "availability": "Availability", "min_rows_per_s": "Rows per second, at least",
    "machine_cost_per_hour": "Cost of a machine per hour", "max_cost_per_1000": "Cost of 1,000 predictions, at most",
    "max_size_mb": "Size, at most (MB)",
}  # fmt: skip
TONES = {"prohibited": "high", "high": "high", "limited": "medium", "minimal": "good", "unknown": "medium"}
Row = tuple[str, str | list[str]]  # label, a text or several


def render(canvas: Canvas, name: str, faults: Sequence[Fault] = ()) -> str:
    """The page: a box a section, what is missing said where it is missing, what contradicts the system on top."""
    wrong = [fault for fault in faults if fault.kind == "contradiction"]
    missing = sum(fault.kind == "missing" for fault in faults)
    if wrong:
        tone, verdict = "high", f"Contradicts the system: {len(wrong)}"
    elif missing:
        tone, verdict = "medium", f"Not filled in yet: {missing}"
    else:
        tone, verdict = "good", "Complete, and as the system is declared."
    listed = "".join(f"<li>{esc(fault.key)} {esc(fault.message)}</li>" for fault in wrong)
    title = canvas.get("value", "name") or name
    return "".join(
        [
            head(f"Canvas of {title}"), CSS,
            f'<header class="wrap"><h1><span class="soft">Canvas of</span> {esc(title)}</h1>',
            f'<p class="verdict {tone}">{esc(verdict)}</p>', f'<ul class="small">{listed}</ul>' if listed else "",
            '</header><main class="wrap"><div class="canvas">', *(_box(canvas, section) for section in BOXES),
            '</div></main><footer class="wrap soft small">Made by Perron. This page loads nothing from anywhere.</footer></body></html>',
        ]
    )  # fmt: skip


def _box(canvas: Canvas, section: str) -> str:
    rows = _rows(canvas, section)
    body = "".join(f"<dt>{esc(label)}</dt><dd>{_value(text)}</dd>" for label, text in rows)
    wide = " v" if section == "value" else ""
    tag = ""
    if section == "risks":
        risk = risk_class(canvas)
        tag = f'<p><span class="tag {TONES[risk.name]}">EU AI Act: {esc(risk.name)}</span></p>'
    shown = f"<dl>{body}</dl>" if body else '<p class="soft">Not filled in yet.</p>'
    return f'<section class="card pad{wide}"><h2>{esc(SECTIONS[section].title)}</h2>{tag}{shown}</section>'


def _value(text: str | list[str]) -> str:
    if isinstance(text, str):
        return esc(text) or '<span class="soft">Not filled in yet.</span>'
    return (
        "<ul>" + "".join(f"<li>{esc(one)}</li>" for one in text) + "</ul>"
        if text
        else '<span class="soft">None.</span>'
    )


def _rows(canvas: Canvas, section: str) -> list[Row]:
    """What a section says: label and text; an empty text where a key isn't filled in."""
    if section == "goals":
        return [(goal["metric"], _goal(goal)) for goal in canvas.tables("goals")]
    if section == "phases":
        return [
            (f"until {phase['until']}" if "until" in phase else "no end set", ": ".join(t for t in (phase.get("name"), phase.get("result")) if t))
            for phase in canvas.tables("phases")
        ]  # fmt: skip
    rows: list[Row] = []
    for key in SECTIONS[section].keys:
        if (section, key) == ("value", "name"):
            continue
        value = canvas.get(section, key)
        if value is None and key in SECTIONS[section].optional:
            continue
        text = "" if value is None else value if isinstance(value, str | list) else format_number(value)
        if section != "fairness" and text == []:
            text = ""
        rows.append((LABELS.get(key, key.capitalize()), text))
    if section == "risks":
        rows.append(("Reasons for the class", list(risk_class(canvas).reasons)))
    return rows


def _goal(goal: Mapping[str, Any]) -> str:
    limit = next(
        (f"{rule.replace('_', ' ')} {format_number(goal[rule])}" for rule in ("at_most", "at_least") if rule in goal),
        "",
    )
    return ": ".join(text for text in (limit, goal.get("why", "")) if text)


def render_card(canvas: Canvas, name: str) -> str:
    """The project card: every section as a Markdown table; what isn't filled in is left out."""
    lines = [f"# {_plain(canvas.get('value', 'name') or name)}", ""]
    if product := canvas.get("value", "product"):
        lines += [_plain(product), ""]
    risk = risk_class(canvas)
    for section in BOXES:
        rows = [(label, text) for label, text in _rows(canvas, section) if text and label != "Product"]
        if section == "risks":
            rows.insert(0, ("EU AI Act", risk.name))
        if rows:
            lines += [f"## {SECTIONS[section].title}", "", "| what | in words |", "|---|---|"]
            lines += [
                f"| {_plain(label)} | {_plain(text if isinstance(text, str) else '; '.join(text))} |"
                for label, text in rows
            ]
            lines.append("")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    for mark in ("\\", "|", "<", "*", "_", "`", "["):
        text = text.replace(mark, "\\" + mark)
    return " ".join(text.split())
