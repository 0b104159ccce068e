"""What a server was asked and answered in; sketches of it by hour out, merged over workers, machines and time.

    .perron/windows/MODEL/VERSION/ROUTE/2026-11-24T06-WRITER.sketch

Each process writes a file of its own per hour, again and again as it grows, so that nothing is shared
while serving; whoever reads merges them. Columns are the contract's features, then `prediction` and,
of a classification with probabilities, `confidence` (the share of the class that was answered). What
a killed process had not written yet is in the prediction log: `rebuild` makes the windows of it.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import numpy as np

from perron.contract import Kind, Role, Schema
from perron.errors import DataError
from perron.predictions import READINESS, iterate
from perron.sketch import TableSketch
from perron.sketch.column import Kind as SketchKind
from perron.store import write_atomically
from perron.tensors import NULL_TEXT, RowPacker

__all__ = [
    "CONFIDENCE", "PREDICTION", "Key", "WindowWriter", "columns_of", "empty_sketch", "merged", "read_windows", "rebuild",
    "sketch_target",
]  # fmt: skip

PREDICTION, CONFIDENCE = "prediction", "confidence"
HOUR_S = 3600
NAME = re.compile(r"(?P<hour>\d{4}-\d{2}-\d{2}T\d{2})-(?P<writer>[\w-]+)\.sketch")
REBUILT, DAY = "rebuilt", "rebuilt-day"
CHUNK_ROWS = 10_000
_KINDS: dict[Kind, SketchKind] = {
    "float": "number", "int": "number", "bool": "bool", "text": "text", "category": "text", "date": "time", "datetime": "time",
}  # fmt: skip


@dataclass(frozen=True, order=True)
class Key:
    """Which window: the model, its version, the route, and the hour that it begins in (UTC)."""

    model: str
    version: int
    route: str
    hour: datetime


def empty_sketch(schema: Schema, *, is_number: bool, has_confidence: bool) -> TableSketch:
    """The sketch that a window of the contract is, and a reference: features, prediction, confidence.

    `is_number`: whether predictions are numbers (a regression).
    """
    names = [field.name for field in schema.features]
    kinds = {field.name: _KINDS[field.kind] for field in schema.features}
    kinds[_free(PREDICTION, schema)] = "number" if is_number else "text"
    if has_confidence:
        kinds[_free(CONFIDENCE, schema)] = "number"
    hidden = [field.name for field in schema.features if Role.SENSITIVE in field.roles]
    return TableSketch([*names, *(name for name in kinds if name not in names)], kinds=kinds, sensitive=hidden)


def _free(name: str, schema: Schema) -> str:
    """The name of what is added; a contract's field that has it keeps it."""
    while name in schema:
        name += "_"
    return name


def columns_of(
    schema: Schema, feed: Mapping[str, Any], values: Sequence[Any], confidence: Sequence[float] | None
) -> dict[str, Any]:
    """The columns of a window: raw arrays by feature, as a graph is fed, and what was answered."""
    columns: dict[str, Any] = {}
    for field in schema.features:
        array = feed[field.name]
        if field.is_numeric_category:
            texts = np.full(len(array), None, object)
            given = ~np.isnan(array) if array.dtype.kind == "f" else np.ones(len(array), bool)
            texts[given] = [str(int(value)) for value in array[given].tolist()]
            columns[field.name] = texts
        elif array.dtype == object:
            texts = array.copy()
            texts[texts == NULL_TEXT] = None
            columns[field.name] = texts
        else:
            columns[field.name] = array
    is_number = schema.target is not None and schema.target.kind in ("float", "int")
    made = np.array(values, np.float64) if is_number else np.array([_label(value) for value in values], object)
    columns[_free(PREDICTION, schema)] = made
    if confidence is not None:
        columns[_free(CONFIDENCE, schema)] = np.array(confidence, np.float64)
    return columns


def sketch_target(schema: Schema, values: Sequence[Any]) -> TableSketch:
    """The sketch of a target's values alone: of the training rows, or of outcomes."""
    target = schema.target
    assert target is not None
    is_number = target.kind in ("float", "int")
    made = TableSketch(
        [target.name],
        kinds={target.name: "number" if is_number else "text"},
        sensitive=[target.name] if Role.SENSITIVE in target.roles else (),
    )
    column = np.array(values, np.float64) if is_number else np.array([_label(value) for value in values], object)
    made.update_columns({target.name: column})
    return made


def _label(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


class WindowWriter:
    """Keeps the windows of one route of one version. Not thread safe: one thread adds and flushes.

    Args:
        folder: of all windows (`.perron/windows`).
        model, version, route: whose they are.
        schema: the contract.
        has_confidence: whether the model gives probabilities.
    """

    def __init__(
        self, folder: Path, model: str, version: int, route: str, schema: Schema, *, has_confidence: bool
    ) -> None:
        self._folder = _folder(folder, model, version, route)
        self._schema, self._has_confidence = schema, has_confidence
        self._writer = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._packer = RowPacker(schema)
        self._hour: datetime | None = None
        self._sketch = self._empty()
        self._is_written = True

    def _empty(self) -> TableSketch:
        target = self._schema.target
        is_number = target is not None and target.kind in ("float", "int")
        return empty_sketch(self._schema, is_number=is_number, has_confidence=self._has_confidence)

    def add(
        self, rows: Sequence[tuple[Any, ...]], values: Sequence[Any], confidence: Sequence[float] | None, now: datetime
    ) -> None:
        """Counts decoded rows (in the order of `schema.request`) and what was answered, in the hour of `now`."""
        hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if hour != self._hour:
            self.flush()
            self._hour, self._sketch = hour, self._empty()
        self._sketch.update_columns(columns_of(self._schema, self._packer(rows), values, confidence))
        self._is_written = False

    @property
    def sketch(self) -> TableSketch:
        """The present hour's."""
        return self._sketch

    def flush(self) -> None:
        """Writes the present hour's window.

        Raises:
            OSError: the folder can't be written.
        """
        if not self._is_written and self._hour is not None:
            write_atomically(self._folder / f"{_hour_text(self._hour)}-{self._writer}.sketch", self._sketch.to_bytes())
            self._is_written = True


def _folder(folder: Path, model: str, version: int, route: str) -> Path:
    return folder / quote(model, safe="") / str(version) / quote(route, safe="")


def _hour_text(hour: datetime) -> str:
    return hour.strftime("%Y-%m-%dT%H")


def read_windows(
    folder: Path,
    model: str,
    *,
    version: int | None = None,
    route: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[Key, TableSketch]:
    """The windows of a model by key, the parts of each merged, oldest first; a part that is damaged is left out."""
    found: dict[Key, TableSketch] = {}
    parts: dict[Key, list[Path]] = {}
    days: set[Key] = set()  # of which one window holds all that the hours hold
    base = folder / quote(model, safe="")
    for path in sorted(base.glob("*/*/*.sketch")):
        named = NAME.fullmatch(path.name)
        number, way = path.parent.parent.name, unquote(path.parent.name)
        if named is None or not number.isdigit():
            continue
        hour = datetime.strptime(named["hour"], "%Y-%m-%dT%H").replace(tzinfo=UTC)
        if (version is not None and int(number) != version) or (route is not None and way != route):
            continue
        if (since is not None and hour.timestamp() + HOUR_S <= since.timestamp()) or (
            until is not None and hour >= until
        ):
            continue
        parts.setdefault(Key(model, int(number), way, hour), []).append(path)
        if named["writer"] == DAY:
            days.add(Key(model, int(number), way, hour))
    for key in sorted(parts, key=lambda one: (one.hour, one.version, one.route)):
        paths, day = parts[key], replace(key, hour=key.hour.replace(hour=0))
        if day in days:
            if key != day:
                continue
            paths = [path for path in paths if path.name.endswith(f"-{DAY}.sketch")]
        rebuilt = [path for path in paths if f"-{REBUILT}" in path.name]
        live = [path for path in paths if path not in rebuilt]
        # What was made of the log holds all that servers had written by then; they may have gone on since.
        sketches = max((_sum(rebuilt), _sum(live)), key=lambda one: 0 if one is None else one.rows)
        if sketches is not None:
            found[key] = merged([found[key], sketches]) if key in found else sketches
    return found


def _sum(paths: Sequence[Path]) -> TableSketch | None:
    """The sketch of all these files; one that is damaged, or was just removed, is left out. None where there is none."""
    parts = []
    for path in paths:
        try:
            parts.append(TableSketch.from_bytes(path.read_bytes()))
        except (DataError, OSError):
            continue
    return merged(parts) if parts else None


def merged(sketches: Sequence[TableSketch]) -> TableSketch:
    """One sketch of the rows of all, which are left as they are.

    Raises:
        DataError: there are none, or they are of two different tables.
    """
    if not sketches:
        raise DataError("There is no window to merge.")
    made = TableSketch.from_bytes(sketches[0].to_bytes())
    for sketch in sketches[1:]:
        made.merge(sketch)
    return made


def rebuild(
    folder: Path,
    log_folder: Path,
    model: str,
    schemas: Mapping[int, tuple[Schema, bool]],
    *,
    every: Literal["hour", "day"] = "hour",
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """How many windows were made anew from the prediction log, in place of those that servers wrote.

    Args:
        folder: of all windows.
        log_folder: of the prediction log.
        model: its name.
        schemas: of its versions, each with whether it gives probabilities; of others nothing is made.
        every: how long a window is. Those of whole days, for days that are over, are made and read faster.
        since, until: only windows that begin then or later, and before; None: of the whole log.
    """
    writers: dict[Key, TableSketch] = {}
    for (version, route, hour), batch in _batches(log_folder, model, schemas, every):
        if (since is not None and hour < since) or (until is not None and hour >= until):
            continue
        schema, has_confidence = schemas[version]
        key = Key(model, version, route, hour)
        target = schema.target
        if key not in writers:
            is_number = target is not None and target.kind in ("float", "int")
            writers[key] = empty_sketch(schema, is_number=is_number, has_confidence=has_confidence)
        rows = [tuple(_parsed(field, row.get(field.name)) for field in schema.request) for row, _, _ in batch]
        confidence = [share for _, _, share in batch] if has_confidence else None
        feed = RowPacker(schema)(rows)
        writers[key].update_columns(columns_of(schema, feed, [value for _, value, _ in batch], confidence))
    for key, sketch in writers.items():
        place = _folder(folder, key.model, key.version, key.route)
        write_atomically(
            place / f"{_hour_text(key.hour)}-{DAY if every == 'day' else REBUILT}.sketch", sketch.to_bytes()
        )
        if every == "hour" and since is None and until is None:
            (place / f"{_hour_text(key.hour.replace(hour=0))}-{DAY}.sketch").unlink(missing_ok=True)
    return len(writers)


def _parsed(field: Any, value: Any) -> Any:
    from perron.check import parse

    return None if value is None else parse(field, value)


def _batches(
    log_folder: Path, model: str, schemas: Mapping[int, Any], every: Literal["hour", "day"]
) -> Iterator[tuple[tuple[int, str, datetime], list[tuple[Mapping[str, Any], Any, float]]]]:
    waiting: dict[tuple[int, str, datetime], list[tuple[Mapping[str, Any], Any, float]]] = {}
    for recorded in iterate(log_folder):
        version = recorded.header["version"]
        if recorded.header["model"] != model or version not in schemas or recorded.route == READINESS:
            continue
        hour = datetime.fromisoformat(recorded.time).replace(minute=0, second=0, microsecond=0)
        if every == "day":
            hour = hour.replace(hour=0)
        key = (version, recorded.route, hour)
        share = max(recorded.probabilities.values()) if recorded.probabilities else float("nan")
        batch = waiting.setdefault(key, [])
        batch.append((recorded.input, recorded.value, share))
        if len(batch) == CHUNK_ROWS:
            yield key, waiting.pop(key)
    yield from waiting.items()
