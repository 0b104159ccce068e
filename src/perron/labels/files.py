"""Tasks in; a CSV, JSON lines or Label Studio file out, and what people filled in back from one.

Label Studio's formats: https://labelstud.io/guide/task_format (tasks and annotations) and /guide/predictions.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from perron.contract import Field, Role, Schema
from perron.errors import DataError, SourceError, nearest
from perron.labels import free_name
from perron.source import open_source
from perron.store import write_atomically

__all__ = ["FORMATS", "Given", "Task", "check_target", "config", "read_labels", "write_tasks"]

FORMATS = (".csv", ".jsonl", ".json")
ROW = "row"  # what Label Studio's configuration calls the row that it shows
CONTROLS = ("choices", "number", "textarea")


@dataclass(frozen=True)
class Task:
    """A row to label: its id, its fields as plain data, and what a model says of it (None where none does)."""

    id: str
    data: Mapping[str, Any]
    value: Any
    shares: Mapping[str, float] | None
    score: float | None
    model: str | None


@dataclass(frozen=True)
class Given:
    """What a file says of one task: the row's number in the file, the task's id, the labels as text (none where it
    isn't labelled yet) and how many annotations were cancelled."""

    row: int
    task: str
    labels: tuple[str, ...]
    cancelled: int = 0


def check_target(path: Path) -> None:
    """Nothing, where tasks can be written there.

    Raises:
        DataError: it exists already (people may have begun to label it), its ending says no format, or there is no folder.
    """
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"Can't write {path}: name a .csv, .jsonl or .json file.")
    if path.exists():
        raise DataError(f"{path} exists, and may hold labels; name another file or remove it.")
    if not path.parent.is_dir():
        raise DataError(f"Can't write {path}: there is no folder {path.parent}.")


def write_tasks(path: Path, tasks: list[Task], schema: Schema) -> None:
    """Writes the tasks in the format of the file's ending.

    Raises:
        DataError: the file can't be written.
    """
    target = _target(schema)
    match path.suffix.lower():
        case ".csv":
            text = _as_csv([_flat(task, schema) for task in tasks])
        case ".jsonl":
            text = "".join(json.dumps(_flat(task, schema), ensure_ascii=False) + "\n" for task in tasks)
        case _:
            text = json.dumps([_studio(task, target) for task in tasks], ensure_ascii=False, indent=1) + "\n"
    try:
        write_atomically(path, text)
    except OSError as error:
        raise DataError(f"{path} can't be written: {error.strerror}.") from error


def _target(schema: Schema) -> Field:
    if schema.target is None:
        raise DataError(f"{schema.name} has no target, so there is nothing to label; mark a field as pn.Target.")
    return schema.target


def _flat(task: Task, schema: Schema) -> dict[str, Any]:
    """A task as one row: its id, the fields, what the model says, and the target's place, empty."""
    made = {free_name("task", schema): task.id, **task.data}
    if task.value is not None:
        made[free_name("prediction", schema)] = task.value
    if task.score is not None:
        made[free_name("score", schema)] = task.score
    return {**made, _target(schema).name: None}


def _as_csv(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.append(names.pop(names.index(list(rows[0])[-1])))  # the target comes last
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([["" if row.get(n) is None else _word(row[n]) for n in names] for row in rows])
    return out.getvalue()


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _studio(task: Task, target: Field) -> dict[str, Any]:
    made: dict[str, Any] = {"data": {"task": task.id, ROW: dict(task.data)}}
    if task.score is not None:
        made["data"]["score"] = task.score
    if task.value is not None:
        kind, value = ("number", task.value) if _is_number(target) else ("choices", [_word(task.value)])
        prediction: dict[str, Any] = {
            "model_version": task.model,
            "result": [{"from_name": target.name, "to_name": ROW, "type": kind, "value": {kind: value}}],
        }
        if task.shares:
            prediction["score"] = round(max(task.shares.values()), 6)
        made["predictions"] = [prediction]
    return made


def _is_number(target: Field) -> bool:
    return target.kind in ("float", "int")


def config(schema: Schema) -> str:
    """Label Studio's labelling configuration of the target, as XML: the row as a table, and one control.

    A float has no `step`: Label Studio refuses what isn't a multiple of it.

    Raises:
        DataError: the contract has no target.
    """
    target = _target(schema)
    view = ElementTree.Element("View")
    words = target.doc or target.name
    ElementTree.SubElement(view, "Header", {"value": f"{words} ({target.unit})" if target.unit else words})
    ElementTree.SubElement(view, "Table", {"name": ROW, "value": f"${ROW}"})
    base = {"name": target.name, "toName": ROW, "required": "true"}
    if _is_number(target):
        bounds = {name: json.dumps(b) for name, b in (("min", target.ge), ("max", target.le)) if b is not None}
        ElementTree.SubElement(view, "Number", base | bounds | ({"step": "1"} if target.kind == "int" else {}))
    else:
        choices = ElementTree.SubElement(view, "Choices", {**base, "choice": "single"})
        for value in target.values or (True, False):
            ElementTree.SubElement(choices, "Choice", {"value": _word(value)})
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


# -- back


def read_labels(path: Path, schema: Schema) -> list[Given]:
    """What a file says of each task, in its order.

    Plain files have a column for the task's id (`task`, or the contract's Id) and one for the target; a task may come
    several times, once per person. Of Label Studio's JSON the annotations are read, not the predictions.

    Raises:
        SourceError: the file isn't there, or is broken (names the line).
        DataError: it has no such columns, or no label at all.
    """
    if path.suffix.lower() not in FORMATS:
        raise SourceError(f"Perron can't read labels from {path}; use {', '.join(FORMATS)}.")
    target = _target(schema)
    if path.suffix.lower() == ".csv":
        rows = [row for batch in open_source(path).chunks() for row in batch.to_pylist()]
        return _plain(rows, path, schema)
    text = _text(path)
    if path.suffix.lower() == ".jsonl":
        return _plain(list(_lines(text, path)), path, schema)
    try:
        tasks = json.loads(text)
    except ValueError as error:
        raise SourceError(f"{path} isn't whole JSON: {error}; export it again.") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{path} isn't a list of tasks; export from Label Studio as JSON, or use CSV.")
    if not tasks:
        raise DataError(f"{path} holds no task.")
    if not any("annotations" in task or "completions" in task for task in tasks):
        if all("data" in task for task in tasks):
            raise DataError(
                f"{path} has tasks without annotations: it is what Label Studio imports; label them and export as JSON."
            )
        return _plain(tasks, path, schema)
    return [_annotated(task, place, path, target) for place, task in enumerate(tasks)]


def _text(path: Path) -> str:
    if not path.is_file():
        raise SourceError(f"There is no file {path}.")
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} can't be read as UTF-8: {error}; save it as UTF-8.") from error


def _lines(text: str, path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SourceError(f"{path}: line {number} isn't whole JSON: {error}; mend that line.") from error
        if not isinstance(row, dict):
            raise SourceError(f"{path}: line {number} isn't an object; give one object per line.")
        yield row


def _plain(rows: list[dict[str, Any]], path: Path, schema: Schema) -> list[Given]:
    if not rows:
        raise DataError(f"{path} has no row.")
    target, key = _target(schema), schema.with_role(Role.ID)
    names = list(dict.fromkeys(name for row in rows for name in row))
    ids = [free_name("task", schema), *([key.name, key.column] if key is not None else [])]
    task = next((name for name in ids if name in names), None)
    label = next((name for name in (target.name, target.column) if name in names), None)
    for wanted, found in ((ids[0], task), (target.name, label)):
        if found is None:
            raise DataError(f"{path} has no column {wanted!r}; {nearest(wanted, names)}")
    return [
        Given(
            place, _as_text(row.get(str(task))), () if _is_blank(row.get(str(label))) else (_as_text(row[str(label)]),)
        )
        for place, row in enumerate(rows)
    ]


def _as_text(value: Any) -> str:
    return "" if value is None else value.strip() if isinstance(value, str) else json.dumps(value)


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _annotated(task: Mapping[str, Any], place: int, path: Path, target: Field) -> Given:
    data = task.get("data")
    name = data.get("task") if isinstance(data, dict) else None
    if not isinstance(name, str | int):
        raise DataError(
            f"{path}: tasks[{place}] has no data.task, which names the row; import what `perron label export` wrote."
        )
    labels: list[str] = []
    cancelled = 0
    for annotation in task.get("annotations") or task.get("completions") or ():
        if annotation.get("was_cancelled"):
            cancelled += 1
            continue
        labels += _results(annotation.get("result") or (), target)
    return Given(place, str(name), tuple(labels), cancelled)


def _results(results: Any, target: Field) -> Iterator[str]:
    """The label of one annotation: of the control with the target's name, or of the only control that there is."""
    given = [r for r in results if isinstance(r, dict) and r.get("type") in CONTROLS]
    named = [r for r in given if r.get("from_name") == target.name]
    for result in named or (given if len({r.get("from_name") for r in given}) == 1 else []):
        kind, value = result["type"], result.get("value", {})
        found = value.get("text" if kind == "textarea" else kind)
        found = found if isinstance(found, list) else [found]
        if len(found) == 1 and not _is_blank(found[0]):
            yield _as_text(found[0])
        elif len(found) > 1:  # two choices where one is asked for: no value of the target's, so it is refused by name
            yield json.dumps(found, ensure_ascii=False)
