"""A proposed contract in; the files of a new project out: system.py, pyproject.toml, .gitignore, README.md."""

import keyword
import re
import unicodedata
from dataclasses import dataclass

from perron.contract import Field, Role, Schema, format_number
from perron.errors import PerronError
from perron.proposal import Proposal
from perron.source import Description, describe

__all__ = ["class_name", "project_files", "system_file"]

WIDTH = 100
# What a contract's annotations name, and where each comes from.
HOMES = {"Annotated": "typing", "Literal": "typing", "date": "datetime", "datetime": "datetime",
         "float": "builtins", "int": "builtins", "bool": "builtins", "str": "builtins"}  # fmt: skip


def project_files(name: str, proposal: Proposal, source: str | Description, version: str) -> dict[str, str]:
    """The files of a project by path.

    Args:
        name: of the system.
        proposal: the contract.
        source: where the data is and how it is read, as system.py names it.
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
    return made if made[:1].isalpha() and not keyword.iskeyword(made) and made not in HOMES else f"Rows{made}"


def system_file(name: str, proposal: Proposal, source: str | Description) -> str:
    """The text of system.py, formatted."""
    schema = proposal.schema
    names = _names(schema)
    lines = [_field_line(field, proposal.reasons.get(field.name), names) for field in schema.fields]
    body = "\n".join(lines)
    place, needs_code = _source_code(source)
    share = proposal.max_bad_share
    more = [] if share is None else [f"max_bad_share={share}"]
    system = _Group("pn.System(", (_literal(name), schema.name, place, *more), ")")
    own = "from perron import source\n" if needs_code else ""
    if names["pn"] != "pn":
        own += f"\n{names['pn']} = pn  # a field has its name\n"
    return (
        f'"""The system {name}: what is declared here, everything else is derived from.\n\n'
        'Begun by `perron init`, and yours: `perron sync` leaves it alone.\n"""\n\n'
        f"{_imports(schema, names)}import perron as pn\n{own}\n\n"
        f"class {schema.name}(pn.Contract):\n"
        f'    """A row of {_escape(str(source), chr(34) if chr(34) * 3 in str(source) else "")}."""\n\n'
        f"{body}\n\n\n"
        f"system = {_print(system, 0, len('system = '), 0)}\n"
    )


def _names(schema: Schema) -> dict[str, str]:
    """What each type and `pn` is called in the class: by another name where a field has its name, since within the class
    that is the field for mypy and pylint (a column `date` of dates is no rarity)."""
    taken = {field.name for field in schema.fields}
    names = {}
    for word in (*HOMES, "pn"):
        name = word
        while name in taken:
            name = f"{name}_type" if name == word else f"{name}_"
        names[word] = name
    return names


def _imports(schema: Schema, names: dict[str, str]) -> str:
    """The imports of the annotations' names, as Ruff sorts them, with an empty line after them; nothing where there are none."""
    used = {"str" if field.kind == "text" else field.kind for field in schema.fields} - {"category"}
    annotations = [str(_annotation(field, {word: word for word in names})) for field in schema.fields]
    used |= {word for word in ("Annotated", "Literal") if any(f"{word}[" in text for text in annotations)}
    lines = []
    for home in sorted(set(HOMES.values())):
        words = sorted(word for word in used if HOMES[word] == home)
        plain = [word for word in words if names[word] == word]
        if plain and home != "builtins":
            lines.append((plain[0], f"from {home} import {', '.join(plain)}"))
        lines += [(word, f"from {home} import {word} as {names[word]}") for word in words if names[word] != word]
    return "".join(f"{line}\n" for _, line in lines) + ("\n" if lines else "")


@dataclass(frozen=True)
class _Group:
    """An expression in brackets, which can be broken over lines between its items."""

    opening: str
    items: "tuple[str | _Group, ...]"
    closing: str

    def __str__(self) -> str:
        return self.opening + ", ".join(map(str, self.items)) + self.closing


def _source_code(source: str | Description) -> "tuple[str | _Group, bool]":
    """The argument `source=`, and whether it needs `perron.source`: where a path or URL alone doesn't say it."""
    if isinstance(source, str):
        return f"source={_literal(source)}", False
    try:
        by_name = describe(str(source.place)) == source
    except PerronError:  # a relative folder of a project that isn't there yet
        by_name = False
    if by_name:
        return f"source={_literal(source.place)}", False
    function = "sql" if source.kind in ("duckdb", "bigquery") else source.kind
    options = [f"{name}={_option(value)}" for name, value in source.options]
    return _Group(f"source=source.{function}(", (_literal(source.place), *options), ")"), True


def _option(value: object) -> str:
    return f"[{', '.join(map(_literal, value))}]" if isinstance(value, tuple) else _literal(value)


def _field_line(field: Field, reason: str | None, names: dict[str, str]) -> str:
    begin = f"    {field.name}: "
    base, end = _annotation(field, names), " | None" if field.optional else ""
    line = f"{begin}{base}{end}"
    if reason and _width(line) + len(reason) + 4 <= WIDTH:
        return f"{line}  # {reason}"
    if _width(line) <= WIDTH:
        return line
    inner = f"{base}{end}"
    if 8 + _width(inner) > WIDTH and isinstance(base, _Group):
        inner = _print(base, 8, WIDTH, 0) + (f"\n        {end.strip()}" if end else "")
    helps = isinstance(base, _Group) and _width(begin + base.opening) > WIDTH > _width(begin)
    if field.optional or (helps and all(_width(part) <= WIDTH for part in f"        {inner}".split("\n"))):
        return f"{begin}(\n        {inner}\n    )"
    return begin + _print(base, 4, _width(begin), 0)


def _print(item: str | _Group, indent: int, column: int, after: int) -> str:
    """The expression as Ruff and Black lay it out, begun at that column, with `after` more characters on its last line."""
    flat = str(item)
    if isinstance(item, str) or column + _width(flat) + after <= WIDTH:
        return flat
    inner, outer = "\n" + " " * (indent + 4), "\n" + " " * indent
    body = ", ".join(map(str, item.items))
    if indent + 4 + _width(body) <= WIDTH or len(item.items) == 1:
        return item.opening + inner + body + outer + item.closing
    lines = (inner + _print(part, indent + 4, indent + 4, 1) + "," for part in item.items)
    return item.opening + "".join(lines) + outer + item.closing


def _annotation(field: Field, names: dict[str, str]) -> str | _Group:
    base: str | _Group = names["str" if field.kind == "text" else field.kind] if field.kind != "category" else ""
    if field.kind == "category":
        base = _Group(f"{names['Literal']}[", tuple(map(_literal, field.values)), "]")
    pn = names["pn"]
    notes: list[str | _Group] = [
        f"{pn}.{code.capitalize()}({format_number(getattr(field, code))})"
        for code in ("ge", "gt", "le", "lt")
        if getattr(field, code) is not None
    ]
    if field.column != field.name:
        notes.append(_Group(f"{pn}.Column(", (_literal(field.column),), ")"))
    notes += [f"{pn}.{role.value.capitalize()}" for role in field.roles]
    return _Group(f"{names['Annotated']}[", (base, *notes), "]") if notes else base


def _literal(value: object) -> str:
    """The value as Ruff and Black write it: in double quotes unless single ones need fewer escapes."""
    if not isinstance(value, str):
        return str(value)
    quote = "'" if value.count('"') > value.count("'") else '"'
    return quote + _escape(value, quote) + quote


def _escape(text: str, quotes: str) -> str:
    """The text within a literal: the quotes and whatever can't be seen (controls, odd spaces, directions) escaped."""
    made = []
    for char in text:
        if char in quotes or char == "\\":
            made.append("\\" + char)
        elif char != " " and unicodedata.category(char)[0] in "CZ":
            made.append(char.encode("unicode_escape").decode())
        else:
            made.append(char)
    return "".join(made)


def _width(text: str) -> int:
    """In columns of a terminal, as Ruff counts: wide characters are two, accents that combine none."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.category(char) in ("Mn", "Me") for char in text)


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
