"""A system and how its project is organised in; the files of the project out, by path: the one place where they are put together.

What `perron sync` keeps up to date follows from system.py and pyproject.toml alone, so that it is the same in every
clone. What is written once (`own_files`) may also tell what the table looked like. The texts are in `templates/`.
"""

import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from perron.canvas import canvas_file
from perron.contract import Field, Role, Schema, format_number
from perron.environments import environments_file
from perron.gates import Gate
from perron.metrics import METRICS, task_of
from perron.organisation import Organisation, toml_text
from perron.proposal import Proposal
from perron.ship.notebook import notebook_file
from perron.ship.scaffold import WIDTH, system_file
from perron.sketch import ColumnSketch, TableSketch
from perron.source import Description, shown
from perron.split import Split
from perron.system import System

__all__ = ["OWN", "own_files", "synced_files"]

OWN = (
    "system.py",
    "canvas.toml",
    "environments.toml",
    "README.md",
    "tests/data/expectations.toml",
)  # written once, and the user's
NOTHING: Mapping[str, str] = {}
MOST_SHOWN = 40  # fields in the table of docs/data.md
COMMON = 0.01  # the share of rows from which on a value is expected to come again


def synced_files(
    system: System, organisation: Organisation, version: str, workflows: Mapping[str, str] = NOTHING
) -> dict[str, str]:
    """The files that are derived, and kept up to date by `perron sync`.

    Args:
        system: as declared.
        organisation: of its project.
        version: of Perron, the least that the project asks for.
        workflows: of its CI, by path, as `perron.ship.ci` makes them; they are written where the CI is GitHub's.
    """
    values = _values(system, organisation, version)
    files = {path: _fill(text, values) for path, text in _templates("common").items()}
    files["notebooks/explore.ipynb"] = notebook_file(system)
    if organisation.ci == "github":
        files |= {path: _fill(text, values) for path, text in _templates("github").items()} | dict(workflows)
    if organisation.licence != "none":
        files["LICENSE"] = _fill(_templates("licences")[organisation.licence], values)
    return files


def own_files(
    system: System,
    organisation: Organisation,
    version: str,
    proposal: Proposal,
    source: str | Description,
    sketch: TableSketch,
) -> dict[str, str]:
    """The files that are written once and are the user's from then on (`OWN`).

    Args:
        system: as proposed.
        organisation: of its project.
        version: of Perron.
        proposal: the contract, with its reasons.
        source: where the data is and how it is read, as system.py names it.
        sketch: of the table's columns, or of the first of many.
    """
    ignored = [field.name for field in proposal.schema.fields if Role.IGNORE in field.roles]
    note = f"\nLeft out of the model: {', '.join(ignored)}; the comments in system.py say why.\n" if ignored else ""
    values = {**_values(system, organisation, version), "ignored": note}
    return {
        "system.py": system_file(system.name, proposal, source),
        "canvas.toml": canvas_file(system),
        "environments.toml": environments_file(),
        "README.md": _fill(_templates("once")["README.md"], values),
        "tests/data/expectations.toml": _expectations(proposal, shown(system.source), sketch),
    }


# ------------------------------------------------------------------ templates


@cache
def _templates(kind: str) -> Mapping[str, str]:
    """The texts below a folder of `templates/`, by path.

    Their names end in .txt, so that no tool takes them for files of this project.
    """

    def walk(folder: Traversable, above: str) -> "dict[str, str]":
        found: dict[str, str] = {}
        for item in folder.iterdir():
            if item.is_dir():
                found |= walk(item, f"{above}{item.name}/")
            else:
                found[above + item.name.removesuffix(".txt")] = item.read_text("utf-8")
        return found

    return dict(sorted(walk(resources.files("perron.ship") / "templates" / kind, "").items()))


def _fill(text: str, values: Mapping[str, str]) -> str:
    """The text with each `{{name}}` replaced; what is put in isn't looked through again."""
    first, *rest = text.split("{{")
    made = [first]
    for part in rest:
        name, mark, after = part.partition("}}")
        assert mark and name in values, name
        made += [values[name], after]
    return "".join(made)


# ------------------------------------------------------------------ what they tell


def _values(system: System, organisation: Organisation, version: str) -> dict[str, str]:
    schema, target = system.schema, system.schema.target
    assert target is not None
    metric = (
        METRICS[system.gates[0].metric]
        if system.gates
        else METRICS["rmse" if system.task == "regression" else "log_loss"]
    )
    source = shown(system.source)
    return {
        "name": system.name,
        "version": version,
        "width": str(WIDTH),
        "organisation": organisation.to_toml(),
        "holder": organisation.holder or f"The authors of {system.name}",
        "year": f"{organisation.year} " if organisation.year else "",
        "owners": f"* {organisation.owner}" if organisation.owner else "# Nobody yet; `owner` in pyproject.toml, or here: * @name",
        "target": target.name,
        "target_sh": _shell(target.column),
        "unit": f" in {_plain(target.unit)}" if target.unit else "",
        "task": task_of(schema),
        "contract": schema.name,
        "count": str(len(schema.fields)),
        "features": str(len(schema.features)),
        "asked": str(len([field for field in schema.request if field.is_asked])),
        "answer": "" if system.task == "regression" else ", a probability for each class where the model has them,",
        "fields": _field_table(schema),
        "source_md": _code(source),
        "source_sh": _shell(source),
        "split": _split_words(system.split),
        "max_bad": f"{format_number(round(system.max_bad_share * 100, 10))} %",
        "model": "what `@system.model` returns" if system.model_function else "gradient boosting (LightGBM), its number of trees found by early stopping,",
        "gates": "\n".join(f"- {_gate_words(gate)}" for gate in system.gates) or "- none in `system.py`; goals in `canvas.toml` are gates, too",
        "metric": metric.name,
        "metric_rule": "at_least" if metric.higher_is_better else "at_most",
        "branching": BRANCHING[organisation.branching],
        "ci": CI[organisation.ci],
    }  # fmt: skip


BRANCHING = {
    "git-flow": (
        "Work happens on branches of `develop` and is merged there by pull request; a release is a merge of `develop` into\n"
        "`main`, which is what runs in production. A hotfix branches off `main` and goes back into both."
    ),
    "trunk": (
        "Work happens on short branches of `main` and is merged there by pull request within a day or two; every commit on\n"
        "`main` can be released, and a release is a tag."
    ),
}
CI = {
    "github": (
        "GitHub runs the stages by the workflows below `.github/`, asks for a review by `CODEOWNERS`, and shows in each pull\n"
        "request what its model is worth beside the champion."
    ),
    "none": "`ci` in `pyproject.toml` is `none`: have whatever runs the CI run `perron ci run`.",
}


def _field_table(schema: Schema) -> str:
    rows = [
        f"| `{field.name}` | {_kind_words(field)} | {', '.join(role.value for role in field.roles)} | {'may be missing' if field.optional else ''} |"
        for field in schema.fields[:MOST_SHOWN]
    ]
    more = len(schema.fields) - MOST_SHOWN
    left = f"\n\nand {more} more, in `system.py`." if more > 0 else ""
    return "\n".join(["| field | values | role | |", "|---|---|---|---|", *rows]) + left


def _kind_words(field: Field) -> str:
    if field.kind == "category":
        shown_values = [_code(str(value)) for value in field.values[:6]]
        return " ".join(shown_values) + (f" and {len(field.values) - 6} more" if len(field.values) > 6 else "")
    unit = f" ({_plain(field.unit)})" if field.unit else ""
    bounds = [field.expected_by(code) for code in ("ge", "gt", "le", "lt") if getattr(field, code) is not None]
    return f"{_plain('; '.join(bounds)) if bounds else field.kind}{unit}"


def _gate_words(gate: Gate) -> str:
    return f"`{gate.name}`"


def _split_words(split: Split) -> str:
    how = {
        "random": "by chance", "stratified": "by chance within each class", "grouped": "by whole groups",
        "by_time": "by time: the newest rows are the test rows",
    }[split.kind]  # fmt: skip
    seed = f", with the seed {split.seed}" if split.seed is not None else ""
    folds = f"; {split.folds} folds of the train rows tell how sure the metrics are" if split.folds else ""
    return f"{how}, {format_number(round(split.test * 100, 10))} % test rows{seed}{folds}"


def _plain(text: str) -> str:
    """Text of the data in a cell of Markdown: on one line, with nothing that means something there."""
    flat = "".join(char if char.isprintable() else " " for char in text)
    return "".join(f"\\{char}" if char in "\\`*_[]<>|#&!{}" else char for char in flat)


def _code(text: str) -> str:
    """The same as code: fenced by more backticks than it holds, cut to 60 characters."""
    flat = "".join(char if char.isprintable() else " " for char in text).replace("|", "\\|")
    flat = flat if len(flat) <= 60 else f"{flat[:59]}…"
    if not flat.strip():
        return "(blank)"
    longest = max((len(run) for run in "".join(c if c == "`" else " " for c in flat).split()), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


def _shell(text: str) -> str:
    """A word of a command line, quoted where it must be; one that no line can hold by a placeholder."""
    import shlex  # not at the top: a server that checks nothing of this loads the package

    return shlex.quote(text) if text.isprintable() else "SOURCE"


# ------------------------------------------------------------------ what the data looked like


def _expectations(proposal: Proposal, source: str, sketch: TableSketch) -> str:
    """tests/data/expectations.toml: what the columns looked like, with room for chance."""
    unlabelled = proposal.unlabelled / max(1, proposal.rows)
    parts = [
        f"# What {_one_line(source)} looked like when the project began, and may look like: `make data` fails where it",
        "# looks otherwise. Change a number when the data has rightly changed, and say why in the commit.",
        "# Begun by `perron init`, and yours: `perron sync` leaves it alone.",
        "",
        f"rows_at_least = {max(1, proposal.rows // 2)}  # half of {proposal.rows:,}",
        f"bad_share_at_most = {_share(unlabelled)}  # of the rows, that may break the contract",
        "",
        "[fields]",
    ]
    for field in proposal.schema.fields:
        column = sketch.columns.get(field.column)
        if column is None or Role.IGNORE in field.roles:
            continue
        parts += ["", f"[fields.{field.name if field.name.isascii() else toml_text(field.name)}]"]
        parts.append(f"missing_share_at_most = {_share(column.nulls / max(1, column.rows))}")
        parts += _looks(field, column)
    return "\n".join(parts) + "\n"


def _looks(field: Field, column: ColumnSketch) -> list[str]:
    """Where a number's median is expected, or which values are."""
    if field.kind == "category":
        least = max(1.0, COMMON * column.rows)
        common = [_as_text(value) for value, count in column.top.most(200) if count >= least]
        return [f"values = {toml_text(common)}"] if common else []
    if field.kind not in ("float", "int") or column.kind != "number" or Role.ID in field.roles:
        return []
    found = column.quantiles([0.05, 0.95])
    if len(found) < 2:
        return []
    low, high = found
    if low == high:
        low, high = (bound if bound is not None else low for bound in (column.low, column.high))
    return [f"median_between = [{_number(low)}, {_number(high)}]"]


def _as_text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _number(value: float) -> str:
    """A float as TOML has it."""
    return format_number(value) if abs(value) < 1e15 and value == int(value) else repr(float(value))


def _share(share: float) -> str:
    """A share with room for chance, rounded up to the thousandth."""
    return format_number(min(1.0, math.ceil(round(share * 1500 + 10, 6)) / 1000))


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:80]
