"""What is known of a snapshot in; the derived parts of its data sheet as Markdown out, and a blank sheet around them.

The sections and what each is about: Gebru et al. 2021, "Datasheets for Datasets".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["PARTS", "blank", "render"]

Facts = Mapping[str, Any]


def render(facts: Facts) -> dict[str, str]:
    """Every derived part's Markdown by name; `facts` is what `catalog.describe` gives, and the system's `name`."""
    return {name: part(facts) for name, part in PARTS.items()}


def blank(facts: Facts) -> str:
    """A sheet with empty derived parts, and the questions that only people can answer."""
    parts = {name: f"<!-- perron:begin {name} {'0' * 16} -->\n<!-- perron:end {name} -->" for name in PARTS}
    return SHEET.format(name=facts["name"], **parts)


def _identity(facts: Facts) -> str:
    versions = ", ".join(f"{v['model']} {v['version']}" for v in facts["versions"]) or "none yet"
    rows = [
        ("snapshot", f"`{facts['digest']}`"),
        ("taken", facts["runs"][-1]["started"]),
        ("source", f"`{facts['source']}`" if facts["source"] else "not recorded"),
        *([("labels, beside the source", f"`{facts['labels']}`")] if facts["labels"] else []),
        ("contract", f"{facts['contract_name']}, `{facts['contract'][:12]}`"),
        ("models trained on it", versions),
    ]
    return _table(["what", "value"], rows)


def _composition(facts: Facts) -> str:
    columns = facts["columns"]
    target = next((c for c in columns if "target" in c["roles"]), None)
    lines = [
        f"{facts['rows']:,} rows of {len(columns)} fields"
        + ("." if target is None else f"; `{target['name']}` is what is predicted.")
    ]
    rows = [
        (
            f"`{c['name']}`",
            c["kind"] + (f", {', '.join(c['roles'])}" if c["roles"] else ""),
            c["unit"] or "",
            "; ".join(c["rules"]),
            f"{c['missing'] / facts['rows']:.1%}" if c["missing"] else "0",
            _values(c),
            c["doc"] or "",
        )
        for c in columns
    ]
    lines += ["", _table(["field", "kind", "unit", "rules", "missing", "values", "description"], rows).rstrip()]
    if target is not None and target.get("top"):
        shares = ", ".join(f"{_cell(t['value'])} {t['count'] / facts['rows']:.1%}" for t in target["top"])
        lines += ["", f"The most frequent values of `{target['name']}`: {shares}."]
    sensitive = [f"`{c['name']}`" for c in columns if "sensitive" in c["roles"]]
    lines += [
        "",
        f"Sensitive fields, of which nothing but the missing is counted here: {', '.join(sensitive)}."
        if sensitive
        else "No field is marked as sensitive in the contract.",
    ]
    return "\n".join(lines) + "\n"


def _values(column: Facts) -> str:
    if "sensitive" in column["roles"]:
        return "not shown"
    if "min" in column and column["min"] is not None:
        return f"{_number(column['min'])} to {_number(column['max'])}"
    return f"{column['distinct']:,} different"


def _number(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _preparation(facts: Facts) -> str:
    total = facts["rows"] + facts["quarantined"]
    lines = [
        f"{facts['quarantined']:,} of {total:,} rows broke the contract or a rule and are in quarantine, not in the snapshot."
        if facts["quarantined"]
        else f"None of {total:,} rows broke the contract."
    ]
    if facts["faults"]:
        rows = [(fault["field"] or "the row", fault["rule"], f"{fault['rows']:,}") for fault in facts["faults"]]
        lines += ["", _table(["field", "rule", "rows"], rows).rstrip()]
    split = facts["split"]
    if split is not None:
        unused = f", {split['unused_rows']:,} to neither" if split["unused_rows"] else ""
        lines += ["", f"{split['train_rows']:,} rows went to training and {split['test_rows']:,} to the test{unused}."]
        lines += [f"- {_cell(finding['detail'])}" for finding in split["findings"]]
    lines += [f"- {_cell(finding['detail'])}" for finding in facts["findings"]]
    return "\n".join(lines) + "\n"


PARTS: dict[str, Callable[[Facts], str]] = {
    "identity": _identity,
    "composition": _composition,
    "preparation": _preparation,
}


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)]) + "\n"


def _cell(value: Any) -> str:
    """Text that ends neither its cell nor the comment around the part."""
    return " ".join(str(value).replace("|", "\\|").replace("<!--", "&lt;!--").split())


SHEET = """# Data sheet: {name}

{identity}

## Motivation

*Why was this data set made, by whom, and who paid for it? Which decision does it serve?*

## Composition

{composition}

*What is a row? Is it a sample, and of what? Does it hold what identifies or could hurt people?*

## Collection

*How was each field measured, by whom, when? Did people know of it and consent? Who labelled what, by which instructions?*

## Preprocessing, cleaning and labelling

{preparation}

*What was done to the data before it came here? Is the raw data kept, and where?*

## Uses

*What was it used for, what else may it serve, and what must it not be used for?*

## Distribution

*Who gets it, how, under which licence? Do others' rights or export rules touch it?*

## Maintenance

*Who keeps it, how are they reached, how are errors corrected, and for how long are old versions kept?*
"""
