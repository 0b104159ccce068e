"""A proposed contract in; the files of a new project out: system.py, pyproject.toml, .gitignore, README.md."""

import re

from perron.contract import Field, Role, format_number
from perron.proposal import Proposal

__all__ = ["class_name", "project_files"]

WIDTH = 100


def project_files(name: str, proposal: Proposal, source: str, version: str) -> dict[str, str]:
    """The files of a project by path.

    Args:
        name: of the system.
        proposal: the contract.
        source: where the data is, as system.py names it.
        version: of Perron, the least that the project asks for.
    """
    return {
        "system.py": system_file(name, proposal, source),
        "pyproject.toml": _pyproject(name, version),
        ".gitignore": "__pycache__/\n.venv/\n.perron/\n",
        "README.md": _readme(name, proposal),
    }


def class_name(name: str) -> str:
    """The contract's class for a system: `house-prices` gives `HousePrices`."""
    made = "".join(part.capitalize() for part in re.split(r"[^a-z0-9]+", name) if part)
    return made if made[:1].isalpha() else f"Rows{made}"


def system_file(name: str, proposal: Proposal, source: str) -> str:
    """The text of system.py, formatted."""
    lines = [_field_line(field, proposal.reasons.get(field.name)) for field in proposal.schema.fields]
    body = "\n".join(lines)
    standard = []
    typing = [word for word in ("Annotated", "Literal") if f"{word}[" in body]
    kinds = {field.kind for field in proposal.schema.fields}
    days = [kind for kind in ("date", "datetime") if kind in kinds]
    if days:
        standard.append(f"from datetime import {', '.join(days)}")
    if typing:
        standard.append(f"from typing import {', '.join(typing)}")
    imports = "\n".join(standard) + "\n\n" if standard else ""
    schema = proposal.schema
    return (
        f'"""The system {name}: what is declared here, everything else is derived from."""\n\n'
        f"{imports}import perron as pn\n\n\n"
        f"class {schema.name}(pn.Contract):\n"
        f'    """A row of {_escape(source)}."""\n\n'
        f"{body}\n\n\n"
        f'system = pn.System("{name}", {schema.name}, source="{_escape(source)}")\n'
    )


def _field_line(field: Field, reason: str | None) -> str:
    line = f"    {field.name}: {_annotation(field, ', '.join(map(_literal, field.values)))}"
    if reason and len(line) + len(reason) + 4 <= WIDTH:
        return f"{line}  # {reason}"
    if len(line) > WIDTH and field.values:
        values = "".join(f"\n        {_literal(value)}," for value in field.values)
        return f"    {field.name}: {_annotation(field, values + chr(10) + '    ')}"
    return line


def _annotation(field: Field, values: str) -> str:
    base = {"text": "str", "category": f"Literal[{values}]"}.get(field.kind, field.kind)
    notes = [
        f"pn.{code.capitalize()}({format_number(getattr(field, code))})"
        for code in ("ge", "gt", "le", "lt")
        if getattr(field, code) is not None
    ]
    if field.column != field.name:
        notes.append(f"pn.Column({_literal(field.column)})")
    notes += [f"pn.{role.value.capitalize()}" for role in field.roles]
    annotation = f"Annotated[{base}, {', '.join(notes)}]" if notes else base
    return f"{annotation} | None" if field.optional else annotation


def _literal(value: object) -> str:
    return f'"{_escape(value)}"' if isinstance(value, str) else str(value)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def _pyproject(name: str, version: str) -> str:
    return (
        "[project]\n"
        f'name = "{name}"\n'
        'version = "0.1.0"\n'
        'requires-python = ">=3.11"\n'
        f'dependencies = ["perron>={version}"]\n'
        "\n[tool.ruff]\n"
        f"line-length = {WIDTH}\n"
    )


def _readme(name: str, proposal: Proposal) -> str:
    schema = proposal.schema
    assert schema.target is not None
    ignored = [field.name for field in schema.fields if Role.IGNORE in field.roles]
    note = f"\nLeft out of the model: {', '.join(ignored)}; the comments in system.py say why.\n" if ignored else ""
    return f"""# {name}

Predicts `{schema.target.name}` from {len(schema.features)} fields. `system.py` declares the system; everything else is derived from it.
{note}
    perron run                 # check the data, train, evaluate, judge the gates, register
    perron serve               # http://127.0.0.1:8000, its page at /docs
    perron predict rows.csv -o out.parquet
    perron trace PREDICTION_ID # which model, run, data and code made a prediction

`.perron/` holds the runs, the models and the prediction log; it can be copied, zipped and moved.

- Widen or tighten the contract: edit the class in `system.py`.
- Ask for more of a model before it is registered: `gates=[pn.gate("...", at_most=...)]`.
- Bring features or a model of your own: `@system.features`, `@system.model`.
"""
