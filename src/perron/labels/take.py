"""A file of labels in; outcomes of logged predictions and rows of the labelled table out, all of them or none."""

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from perron import locks, predictions
from perron.check import Fault, judge
from perron.check.table import TableCheck, read_values
from perron.contract import Field, Schema
from perron.errors import DataError, NotFound
from perron.labels import LABELS, ORIGIN, TASK, asked_folder
from perron.labels.files import Given, read_labels
from perron.labels.table import merge_labelled, to_table
from perron.project import Project
from perron.system import System

__all__ = ["Taken", "take"]


@dataclass
class Taken:
    """What a file of labels came to. With a fault, nothing was taken.

    `tasks` are those in the file, `labelled` those that got a label, `annotations` all labels that were given;
    `disagreed` are tasks whose annotators gave different labels, `tied` those of them without a majority, which stay
    without a label; `outcomes` and `rows_added`, `rows_changed` are what is new, `unchanged` was known already.
    """

    file: str
    tasks: int = 0
    labelled: int = 0
    unlabelled: int = 0
    annotations: int = 0
    cancelled: int = 0
    disagreed: int = 0
    tied: list[str] = field(default_factory=list)
    outcomes: int = 0
    rows_added: int = 0
    rows_changed: int = 0
    unchanged: int = 0
    table: str | None = None
    faults: list[Fault] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The import as `perron label import --json` prints it."""
        return {**vars(self), "faults": [fault.to_json() for fault in self.faults]}


def take(project: Project, system: System, path: Path) -> Taken:
    """Judges every label by the contract's target, and puts them to use.

    Several labels of one task become one: the majority's class; of numbers the mean (of whole numbers, rounded).
    The labels of logged predictions become outcomes; rows of a source, as they were exported, are written with their
    labels to the labelled table. What is known already changes nothing.

    Raises:
        SourceError: the file can't be read.
        DataError: it has no label, or the labelled table can't be written.
    """
    schema = system.schema
    assert schema.target is not None
    target = replace(schema.target, optional=False)
    given = read_labels(path, schema)
    taken = Taken(str(path), tasks=len({g.task for g in given}), cancelled=sum(g.cancelled for g in given))
    labels = _judged(given, target, taken)
    known = _known(project, given, taken)
    if not labels and not taken.faults:
        raise DataError(
            f"{path} has no label: {taken.tasks:,} tasks, {taken.cancelled:,} cancelled; fill in {target.name}, or export the annotations."
        )
    if taken.faults:
        taken.faults.sort(key=lambda fault: fault.row)
        return taken
    decided = _decided(labels, target, taken)
    outcomes = {name: value for name, value in decided.items() if known[name][0] == "prediction"}
    rows, taken.faults = _rows(project, schema, {n: v for n, v in decided.items() if n not in outcomes}, known, given)
    if taken.faults:
        return taken
    _use(project, system, outcomes, rows, taken)
    return taken


def _judged(given: list[Given], target: Field, taken: Taken) -> dict[str, list[Any]]:
    """The labels by task, in the target's kind; those that it can't be are faults."""
    texts = [(g, text) for g in given for text in g.labels]
    values = read_values(target, pa.array([text for _, text in texts], pa.string())).to_pylist()
    labels: dict[str, list[Any]] = {}
    for (g, text), value in zip(texts, values, strict=True):
        if value is None:
            taken.faults.append(Fault(g.row, target.name, "type", target.expected, text))
            continue
        taken.faults += [replace(fault, value=text) for fault in judge(target, value, g.row)]
        labels.setdefault(g.task, []).append(value)
    taken.annotations = len(texts)
    taken.unlabelled = len({g.task for g in given} - {g.task for g, _ in texts})
    return labels


def _known(project: Project, given: Iterable[Given], taken: Taken) -> dict[str, tuple[str, Path | None, int]]:
    """Where each labelled task comes from: `row` or `prediction`, the export's file and the place in it."""
    found: dict[str, tuple[str, Path | None, int]] = {}
    for path in sorted(asked_folder(project).glob("[!.]*.parquet")):  # by time: the newest export of a task holds
        table = parquet.read_table(path, columns=[TASK, ORIGIN])
        pairs = zip(table[TASK].to_pylist(), table[ORIGIN].to_pylist(), strict=True)
        found.update({name: (origin, path, place) for place, (name, origin) in enumerate(pairs)})
    for g in given:
        if g.task in found:
            continue
        try:
            predictions.find(project.predictions, g.task)
            found[g.task] = ("prediction", None, 0)
        except NotFound:
            what = "a task that `perron label export` wrote, or a prediction's id"
            taken.faults.append(Fault(g.row, "task", "known", what, g.task))
    return found


def _decided(labels: dict[str, list[Any]], target: Field, taken: Taken) -> dict[str, Any]:
    """One label per task."""
    made = {}
    for name, values in labels.items():
        taken.disagreed += len(set(values)) > 1
        if target.kind == "float":
            made[name] = statistics.fmean(values) if len(set(values)) > 1 else values[0]
        elif target.kind == "int":
            made[name] = round(sum(values) / len(values)) if len(set(values)) > 1 else values[0]
        else:
            (first, most), *others = Counter(values).most_common(2)
            if others and others[0][1] == most:
                taken.tied.append(name)
                continue
            made[name] = first
    taken.labelled = len(made)
    return made


def _rows(
    project: Project,
    schema: Schema,
    labels: dict[str, Any],
    known: dict[str, tuple[str, Path | None, int]],
    given: list[Given],
) -> tuple[dict[str, dict[str, Any]], list[Fault]]:
    """The exported rows with their labels, by id; and what in them breaks the contract, as it is now."""
    assert schema.target is not None
    by_file: dict[Path, list[str]] = {}
    for name in labels:
        path = known[name][1]
        assert path is not None
        by_file.setdefault(path, []).append(name)
    rows: dict[str, dict[str, Any]] = {}
    for path, names in by_file.items():
        table = parquet.read_table(path).take(pa.array([known[name][2] for name in names]))
        for name, row in zip(names, table.to_pylist(), strict=True):
            rows[name] = {f.name: row.get(f.name) for f in schema.fields} | {schema.target.name: labels[name]}
    if not rows:
        return rows, []
    check = TableCheck(schema)
    bad = check(to_table(schema, rows).combine_chunks().to_batches()[0]).bad
    names, row_of = list(rows), {g.task: g.row for g in reversed(given)}
    faults = [
        Fault(row_of[names[place]], "", "contract", f"a row that obeys the contract ({words})", names[place])
        for place, words in zip(bad["row"].to_pylist(), bad["fault"].to_pylist(), strict=True)
    ]
    return rows, faults


def _use(
    project: Project, system: System, outcomes: dict[str, Any], rows: dict[str, dict[str, Any]], taken: Taken
) -> None:
    """Writes the table, whole, then the outcomes, in one transaction."""
    if rows:
        table = system.labels or LABELS
        with locks.take(asked_folder(project) / ".lock"):  # two imports at once would each lose the other's rows
            taken.rows_added, taken.rows_changed = merge_labelled(project.folder / table, system.schema, rows)
        taken.table = table
    before = project.ledger.known_outcomes()
    fresh = {name: value for name, value in outcomes.items() if name not in before or before[name] != value}
    project.ledger.add_outcomes(fresh)
    taken.outcomes = len(fresh)
    taken.unchanged = len(rows) + len(outcomes) - taken.rows_added - taken.rows_changed - len(fresh)
