"""A log in; the same log smaller out: compacted to Parquet, without what is too old, or without one person's rows.

What a server is writing is left to it: it is asked to begin new segments (a file `.rotate` beside
them), and does within a second. A segment is replaced whole or not at all.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from perron.errors import LedgerError
from perron.predictions import ROTATE, closed, read_segment, segments
from perron.predictions.index import forget_index

__all__ = ["Compacted", "Forgotten", "ask_to_rotate", "compact", "delete_before", "forget_rows"]

ROTATE_WITHIN_S = 15.0
GROUP_ROWS = 65_536
COLUMNS = ("id", "time", "route", "input", "value", "probabilities", "trace", "request", "place", "of")


@dataclass(frozen=True)
class Compacted:
    """How many segments became Parquet, and their bytes before and after."""

    segments: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class Forgotten:
    """The ids of the predictions that were removed, and in how many segments they were."""

    predictions: tuple[str, ...]
    segments: int


def ask_to_rotate(folder: Path) -> None:
    """Makes every server that writes here begin a new segment, so that those before are complete."""
    (folder / ROTATE).touch()


def compact(folder: Path) -> Compacted:
    """Turns every complete segment of lines into Parquet; ids and receipts stay.

    Raises:
        LedgerError: the folder can't be written.
    """
    done = before = after = 0
    _finish(folder)
    for path in segments(folder):
        if path.suffix != ".jsonl":
            continue
        with closed(path) as is_closed:
            if is_closed:
                target = path.with_suffix(".parquet")
                before += path.stat().st_size
                if path.stat().st_size and _write_parquet(path, target, lambda recorded: True):
                    after += target.stat().st_size
                path.unlink()
                done += 1
    return Compacted(done, before, after)


def _finish(folder: Path) -> None:
    """Removes the lines of segments whose Parquet is there: what compacted them was stopped in between."""
    for path in folder.glob("*.jsonl"):
        if path.with_suffix(".parquet").exists():
            path.unlink(missing_ok=True)


def _write_parquet(path: Path, target: Path, keep: Callable[[Any], bool]) -> int:
    """How many rows of a segment were written to a new Parquet segment; nothing is written where there is none."""
    import pyarrow as pa  # not at the top: the server imports this package and never compacts
    from pyarrow import parquet

    header = _header(path)
    kinds = {"place": pa.int32()}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS]).with_metadata(
        {"perron": json.dumps(header)}
    )
    building, rows = target.with_name(f".{target.name}.{os.getpid()}"), 0
    batch: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    try:
        with parquet.ParquetWriter(building, schema, compression="zstd") as writer:

            def flush() -> None:
                writer.write_table(pa.table(batch, schema=schema))
                for values in batch.values():
                    values.clear()

            for recorded, _ in read_segment(path):
                if not keep(recorded):
                    continue
                shares = None if recorded.probabilities is None else json.dumps(recorded.probabilities)
                written = json.dumps(recorded.input, ensure_ascii=False)
                row = (
                    recorded.id,
                    recorded.time,
                    recorded.route,
                    written,
                    json.dumps(recorded.value),
                    shares,
                    recorded.trace,
                    recorded.request,
                    recorded.place,
                    recorded.shadow_of,
                )
                for name, value in zip(COLUMNS, row, strict=True):
                    batch[name].append(value)
                rows += 1
                if len(batch["id"]) == GROUP_ROWS:
                    flush()
            if batch["id"]:
                flush()
        if rows:
            _put_in_place(building, target)
    except OSError as error:
        raise LedgerError(f"The prediction log {target.parent} can't be written: {error.strerror or error}.") from error
    finally:
        building.unlink(missing_ok=True)
    return rows


def _header(path: Path) -> dict[str, Any]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return dict(json.loads(parquet.read_schema(path).metadata[b"perron"]))
    with open(path, "rb") as file:
        return dict(json.loads(file.readline()))


def _put_in_place(building: Path, target: Path) -> None:
    handle = os.open(building, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(building, target)


def delete_before(folder: Path, age: timedelta) -> Forgotten:
    """Removes the segments in which everything is older than that. Whole segments: a younger row keeps its neighbours.

    Raises:
        LedgerError: the folder can't be written.
    """
    limit = (datetime.now(UTC) - age).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    gone: list[str] = []
    count = 0
    _finish(folder)
    for path in segments(folder):
        with closed(path) as is_closed:
            if not is_closed:
                continue
            ids, newest = [], ""
            for recorded, _ in read_segment(path):
                ids.append(recorded.id)
                newest = max(newest, recorded.time)
            if newest < limit and ids:
                path.unlink()
                gone += ids
                count += 1
    if count:
        forget_index(folder)
    return Forgotten(tuple(gone), count)


def forget_rows(folder: Path, belongs: Callable[[Any], bool]) -> Forgotten:
    """Removes every prediction (a `Recorded`) that `belongs`; servers that write are asked to begin new segments first.

    Raises:
        LedgerError: a server didn't let go of a segment that holds such rows, or the folder can't be written.
    """
    ask_to_rotate(folder)
    _finish(folder)
    gone: list[str] = []
    count = 0
    end = time.monotonic() + ROTATE_WITHIN_S
    for path in segments(folder):
        while True:
            with closed(path) as is_closed:
                if is_closed:
                    found = [recorded.id for recorded, _ in read_segment(path) if belongs(recorded)]
                    if found:
                        _rewrite(path, set(found))
                        gone += found
                        count += 1
                    break
            current = path if path.exists() else path.with_suffix(".parquet")
            if not current.exists() or not any(belongs(recorded) for recorded, _ in read_segment(current)):
                break
            if time.monotonic() > end:
                raise LedgerError(
                    f"{path.name} is still being written after {ROTATE_WITHIN_S:g} s; stop the process that writes it, and try again."
                )
            time.sleep(0.05)
    forget_index(folder)
    return Forgotten(tuple(gone), count)


def _rewrite(path: Path, gone: set[str]) -> None:
    """The segment without some predictions, in its place."""
    if path.suffix == ".parquet":
        if not _write_parquet(path, path, lambda recorded: recorded.id not in gone):
            path.unlink()
        return
    building = path.with_name(f".{path.name}.{os.getpid()}")
    kept = 0
    try:
        with open(path, "rb") as source, open(building, "wb") as target:
            target.write(source.readline())
            for text in source:
                if not text.endswith(b"\n"):
                    break
                line = _without(text, gone)
                if line is not None:
                    target.write(line)
                    kept += 1
        if kept:
            _put_in_place(building, path)
        else:
            path.unlink()
    except OSError as error:
        raise LedgerError(f"The prediction log {path.parent} can't be written: {error.strerror or error}.") from error
    finally:
        building.unlink(missing_ok=True)


def _without(text: bytes, gone: set[str]) -> bytes | None:
    answered = json.loads(text)
    given, made = answered["request"]["rows"], answered["reply"]["predictions"]
    stays = [place for place, prediction in enumerate(made) if prediction["id"] not in gone]
    if len(stays) == len(made):
        return text
    if not stays:
        return None
    answered["request"]["rows"] = [given[place] for place in stays]
    answered["reply"]["predictions"] = [made[place] for place in stays]
    return json.dumps(answered, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
