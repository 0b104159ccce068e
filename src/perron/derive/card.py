"""A bundle's manifest and contract in; its model card out: plain data, Markdown, or an HTML page.

The card holds what is known, and nothing else: what the model predicts and from what, how well beside
a naive baseline, and the run, data, code and environment that it comes from. (Mitchell et al., Model
Cards for Model Reporting, 2019.)
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from perron.contract import Field, Schema, format_number

__all__ = ["card", "card_html", "card_markdown"]

CSS = """
:root { color-scheme: light dark; --soft: #5a5f66; --line: #d9d9d4; }
@media (prefers-color-scheme: dark) { :root { --soft: #a2a7af; --line: #3a3e44; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1.5rem; overflow-wrap: anywhere; }
h1 { margin: 0; } h2 { margin: 2rem 0 .5rem; font-size: 1.2rem; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .35rem 1rem .35rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 400; color: var(--soft); } p.soft { color: var(--soft); } p { white-space: pre-line; }
"""
Table = tuple[str, Sequence[str], list[list[str]]]  # title, heads, rows


def card(manifest: Mapping[str, Any], schema: Schema, *, version: int, bundle: str) -> dict[str, Any]:
    """The card as data.

    Args:
        manifest: the bundle's.
        schema: its contract.
        version: of the model.
        bundle: the bundle's digest.
    """
    assert schema.target is not None
    lineage = manifest["lineage"]
    return {
        "name": manifest["name"],
        "version": version,
        "bundle": bundle,
        "task": manifest["task"],
        "description": schema.doc,
        "target": {**_field(schema.target), "classes": manifest["classes"]},
        "fields": [_field(field) for field in schema.fields if not field.is_target],
        "metrics": [
            {"name": name, "value": value, "baseline": manifest["baseline"].get(name)}
            for name, value in manifest["metrics"].items()
        ],
        "parity": manifest["parity"],
        "contract": {"name": schema.name, "digest": schema.digest},
        "run": lineage.get("run"),
        "data": lineage.get("data"),
        "code": lineage.get("code"),
        "environment": lineage.get("environment"),
        **({"use_case": manifest["use_case"]} if "use_case" in manifest else {}),
    }


def _field(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "kind": field.kind,
        "expected": field.expected,
        "optional": field.optional,
        "is_feature": field.is_feature,
        "roles": [role.value for role in field.roles],
        "unit": field.unit,
        "description": field.doc,
    }


def _facts(given: Mapping[str, Any]) -> str:
    target = given["target"]
    unit = f" in {target['unit']}" if target["unit"] else ""
    return f"Version {given['version']}, a {given['task']}: predicts {target['name']}{unit} ({target['expected']})."


def _tables(given: Mapping[str, Any]) -> Iterable[Table]:
    if "use_case" in given:
        yield "Use case", ("what", "in words"), [list(row) for row in given["use_case"]]
    yield "Metrics on the test rows", ("metric", "model", "naive baseline"), [
        [one["name"], _number(one["value"]), _number(one["baseline"])] for one in given["metrics"]
    ]  # fmt: skip
    yield "Fields", ("field", "expected", "use", "description"), [
        [
            one["name"],
            one["expected"] + (", or null" if one["optional"] else "") + (f", in {one['unit']}" if one["unit"] else ""),
            ("seen by the model" if one["is_feature"] else "not seen by the model") + "".join(f", {role}" for role in one["roles"]),
            one["description"] or "",
        ]
        for one in given["fields"]
    ]  # fmt: skip
    origin = {"bundle": given["bundle"], "contract": given["contract"]["digest"], "run": given["run"]}
    for part in ("data", "code", "environment"):
        origin.update({f"{part}: {key}": value for key, value in (given[part] or {}).items()})
    yield "Where it comes from", ("what", "which"), [[key, _shown(value)] for key, value in origin.items()]
    yield "The served graph beside the trained model", ("what", "how"), [
        [key.replace("_", " "), _shown(value)] for key, value in given["parity"].items() if value is not None
    ]  # fmt: skip


def _number(value: Any) -> str:
    return "none" if value is None else format_number(float(f"{value:.6g}")) if isinstance(value, float) else str(value)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else _number(value)


def card_markdown(given: Mapping[str, Any]) -> str:
    """The card as Markdown (GitHub's tables)."""
    lines = [f"# {_plain(given['name'])}", "", _plain(_facts(given)), ""]
    if given["description"]:
        lines += [_plain(given["description"], keep_lines=True), ""]
    for title, heads, rows in _tables(given):
        lines += [f"## {title}", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        lines += [f"| {' | '.join(map(_plain, row))} |" for row in rows] + [""]
    return "\n".join(lines)


def _plain(text: str, keep_lines: bool = False) -> str:
    """Text that Markdown shows as it is."""
    for mark in ("\\", "|", "<", "*", "_", "`", "["):
        text = text.replace(mark, "\\" + mark)
    return text if keep_lines else " ".join(text.split())


def card_html(given: Mapping[str, Any]) -> str:
    """The card as a page that loads nothing."""
    parts = [f"<h1>{escape(given['name'])}</h1>", f'<p class="soft">{escape(_facts(given))}</p>']
    if given["description"]:
        parts.append(f"<p>{escape(given['description'])}</p>")
    for title, heads, rows in _tables(given):
        head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        parts.append(f"<h2>{escape(title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(given["name"])}: model card</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>'
        f"<body>{''.join(parts)}</body></html>"
    )
