"""Answered requests in; a durable log of them out, and a prediction by its id back.

A log is a folder of segments, written by one process each and never changed once they are full. A
segment of a server is lines of JSON: a header that says which model answers and where that model
comes from, then a line per answered request,

    {"time": …, "route": …, "request": <the body as it came>, "reply": <the body as it went>}

with `trace` where a trace context came along, and `of` where a shadow was asked: the first prediction's
id of the answer that it shadowed. Of a plain graph's tensors the log keeps the names, datatypes, shapes
and SHA-256 instead of the values.

A segment of a batch, and one that was compacted, is a Parquet file with the same header in its
metadata and a row per prediction: `id`, `time`, `route`, `input`, `value`, `probabilities`, each as text
and the last three of JSON (compacted), or `input` and `probabilities` as structs and `value` as it is
(of a batch, whose values are columns already). A prediction's id begins with its segment's name. A
last line without its end was never acknowledged, and counts as absent. A process holds a lock on the
segment that it writes: what isn't locked is complete.
"""

import contextlib
import errno
import fcntl
import json
import mmap
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from perron.errors import LedgerError, MissingPackage, NotFound

__all__ = [
    "READINESS",
    "IdMaker", "PredictionLog", "ROTATE", "Recorded", "closed", "find", "iterate", "line", "make_ids", "new_segment_name", "read_segment", "segments",
]  # fmt: skip

FORMAT = 1
ROTATE = ".rotate"  # whoever touches this file in a log's folder asks its writers to begin new segments
READINESS = "readiness"  # the route of a server's own first prediction, which is nobody's traffic
SEGMENT_BYTES = 64 << 20
ID = re.compile(r"(?P<segment>[0-9a-f]{20})-(?P<number>[0-9a-f]{8,})-[0-9a-f]{8}")


def new_segment_name() -> str:
    """A name that no other process gives: milliseconds since 1970 and four random bytes, in hexadecimal; sorts by time."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(4)}"


class IdMaker:
    """Makes the ids of one segment: its name, a number, and eight random digits so that none can be guessed.

    Not thread safe: one event loop makes them.
    """

    def __init__(self, segment: str, made: int = 0) -> None:
        self._segment = segment
        self._number = made  # before, by a process that died
        self._random = ""
        self._place = 0

    def __call__(self) -> str:
        place = self._place
        if place >= len(self._random):
            self._random, place = secrets.token_hex(4096), 0
        self._place = place + 8
        self._number += 1
        return f"{self._segment}-{self._number:08x}-{self._random[place : place + 8]}"


def make_ids(segment: str, count: int) -> Any:
    """The first `count` ids of a segment, as `IdMaker` would make them: an array (count,) of 38 bytes each."""
    import numpy as np  # not at the top: finding a receipt needs none

    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    made = np.empty((count, 38), np.uint8)
    made[:, :20] = np.frombuffer(segment.encode(), np.uint8)
    made[:, 20] = made[:, 29] = ord("-")
    numbers = np.arange(1, count + 1, dtype=np.uint32)
    chances = np.frombuffer(secrets.token_bytes(4 * count), np.uint32)
    for place in range(8):
        shift = np.uint32(28 - 4 * place)
        made[:, 21 + place] = digits[(numbers >> shift) & 15]
        made[:, 30 + place] = digits[(chances >> shift) & 15]
    return made.reshape(-1).view("S38")


class PredictionLog:
    """Appends answered requests to segments of a folder.

    `append` hands the bytes to the operating system: they survive the death of this process at any
    later instant. They survive a power cut after `sync`. Not thread safe, but for `sync`.

    Args:
        folder: made when it isn't there.
        header: `model`, `version`, `bundle`, `lineage`: written at the head of each segment.

    Raises:
        LedgerError: the folder can't be written.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any], segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder, self._header, self._limit = folder, dict(header), segment_bytes
        self._file = -1
        self._open()

    def _open(self) -> None:
        segment = new_segment_name()
        header = {"format": FORMAT, "started": _now(), **self._header}
        data = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        path, opened = self._folder / f"{segment}.jsonl", -1
        building = self._folder / f".{segment}.jsonl.new"  # in its place only when it is locked and has its head
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            opened = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640)
            fcntl.flock(opened, fcntl.LOCK_EX)
            _write(opened, data)
            os.rename(building, path)
            _sync_folder(self._folder)
            if self._file >= 0:
                os.fsync(self._file)
        except OSError as error:
            if opened >= 0:
                os.close(opened)
                building.unlink(missing_ok=True)
                path.unlink(missing_ok=True)
            raise LedgerError(f"The prediction log {self._folder} can't be written: {error.strerror}.") from error
        if self._file >= 0:
            os.close(self._file)
        self._file, self._size, self._path, self._empty = opened, len(data), path, len(data)
        self._opened = time.monotonic()
        self.new_id = IdMaker(segment)

    def append(self, lines: bytes) -> None:
        """Writes whole lines, all of them or none.

        Raises:
            LedgerError: they can't be written (a full disk); what was written of them is taken back.
        """
        try:
            _write(self._file, lines)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise LedgerError(f"The prediction log {self._folder} can't be written: {error.strerror}.") from error
        self._size += len(lines)

    @property
    def age_s(self) -> float:
        """How long the segment has been written; 0 while it holds nothing."""
        return 0.0 if self._size == self._empty else time.monotonic() - self._opened

    @property
    def is_full(self) -> bool:
        return self._size >= self._limit

    def rotate(self) -> None:
        """Begins a new segment. Ids made before belong to the old one: rotate between batches.

        Raises:
            LedgerError: it can't be written; the old one goes on.
        """
        self._open()

    def sync(self) -> None:
        """Returns when everything appended before the call is on the disk itself.

        Raises:
            LedgerError: the disk fails.
        """
        try:
            os.fdatasync(self._file)
        except OSError as error:
            raise LedgerError(f"The prediction log {self._folder} can't be synchronised: {error.strerror}.") from error

    def close(self) -> None:
        """What was appended is then on the disk itself; a segment that holds nothing is removed."""
        if self._file >= 0:
            os.fsync(self._file)
            if self._size == self._empty:  # while it is locked: nobody begins to read what goes
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1


def _write(file: int, data: bytes) -> None:
    if os.write(file, data) != len(data):  # the disk took a part
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync_folder(folder: Path) -> None:
    """Makes the folder's new entry itself survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def line(time_text: bytes, route: bytes, request: bytes, reply: bytes) -> bytes:
    """One answered request as a line; `request` and `reply` are JSON (whose strings hold no raw line ends)."""
    if b"\n" in request or b"\r" in request:
        request = request.replace(b"\n", b" ").replace(b"\r", b" ")
    return b'{"time":"%b","route":"%b","request":%b,"reply":%b}\n' % (time_text, route, request, reply)


@dataclass(frozen=True)
class Recorded:
    """A prediction as it was logged; `header` says what answered.

    `request` is the first prediction's id of its request, `place` its row there; `shadow_of` is the same id of the
    request that a shadow was asked beside.
    """

    id: str
    time: str
    route: str
    input: Mapping[str, Any]
    value: Any
    probabilities: Mapping[str, float] | None
    header: Mapping[str, Any]
    trace: str | None = None
    request: str = ""
    place: int = 0
    shadow_of: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The receipt without its outcome."""
        lineage = self.header.get("lineage", {})
        prediction = {"id": self.id, "time": self.time, "route": self.route, "input": self.input, "value": self.value}
        if self.probabilities is not None:
            prediction["probabilities"] = self.probabilities
        if self.trace is not None:
            prediction["trace"] = self.trace
        if "clock" in self.header:  # its time is that of a replay
            prediction["clock"] = self.header["clock"]
        return {
            "prediction": prediction,
            "model": {"name": self.header["model"], "version": self.header["version"], "bundle": self.header["bundle"]},
            "run": lineage.get("run"),
            "data": lineage.get("data"),
            "code": lineage.get("code"),
            "environment": lineage.get("environment"),
            **({"deployment": self.header["deployment"]} if "deployment" in self.header else {}),
        }


def find(folder: Path, prediction: str) -> Recorded:
    """The prediction of that id.

    Raises:
        NotFound: it isn't in the log.
    """
    parts = ID.fullmatch(prediction)
    if parts is not None:
        lines, batch = folder / f"{parts['segment']}.jsonl", folder / f"{parts['segment']}.parquet"
        found = None
        with contextlib.suppress(FileNotFoundError):  # none, or compacted in this very moment
            found = _find_line(lines, prediction)
        if found is None and batch.is_file():  # looked for last: a segment that is being compacted is both for a moment
            found = _find_row(batch, prediction)
        if found is not None:
            return found
    raise NotFound(f"There is no prediction {prediction[:80]!r} in {folder}.")


def _find_line(path: Path, prediction: str) -> Recorded | None:
    """Looks for the id's bytes, not through parsed lines: a full segment takes milliseconds."""
    if path.stat().st_size == 0:
        return None
    needle = f'"id":"{prediction}"'.encode()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place = data.find(needle)
        while place >= 0:
            start, end = data.rfind(b"\n", 0, place) + 1, data.find(b"\n", place)
            if end < 0:
                return None
            header = json.loads(data[: data.find(b"\n")])
            for recorded in _records(data[start:end], header):
                if recorded.id == prediction:
                    return recorded
            place = data.find(needle, place + 1)  # a client sent these very bytes as a text
    return None


def _records(text: bytes, header: Mapping[str, Any]) -> Iterator[Recorded]:
    answered = json.loads(text)
    reply = answered["reply"]
    made = reply["predictions"]
    if "tensors" in reply:
        given_tensors, made_tensors = answered["request"]["tensors"], reply["tensors"]
        for place, given in enumerate(made):
            yield Recorded(
                given["id"], answered["time"], answered["route"], {"tensors": given_tensors, "row": place},
                {"tensors": made_tensors, "row": place}, None, header,
                answered.get("trace"), made[0]["id"], place, answered.get("of"),
            )  # fmt: skip
        return
    for place, (row, given) in enumerate(zip(answered["request"]["rows"], made, strict=True)):
        yield Recorded(
            given["id"], answered["time"], answered["route"], row, given["value"], given.get("probabilities"), header,
            answered.get("trace"), made[0]["id"], place, answered.get("of"),
        )  # fmt: skip


def _find_row(path: Path, prediction: str) -> Recorded | None:
    """Ids in a segment ascend: only the one group of rows that may hold it is read."""
    with _open_parquet(path) as file:
        header = json.loads(file.schema_arrow.metadata[b"perron"])
        place = file.schema_arrow.names.index("id")
        for group in range(file.num_row_groups):
            bounds = file.metadata.row_group(group).column(place).statistics
            if bounds is not None and bounds.has_min_max and not bounds.min <= prediction <= bounds.max:
                continue
            ids = file.read_row_group(group, columns=["id"])["id"].to_pylist()
            if prediction in ids:
                row = file.read_row_group(group).slice(ids.index(prediction), 1).to_pylist()[0]
                return _from_row(row, header)
    return None


def _open_parquet(path: Path) -> Any:
    try:
        from pyarrow import parquet  # not at the top: the server needs none of it for its own log
    except ModuleNotFoundError as error:
        raise MissingPackage("Batches and compacted logs need pyarrow: pip install pyarrow") from error
    try:
        return parquet.ParquetFile(path)
    except (ValueError, OSError) as error:  # pyarrow's own errors are one of them; a missing file is the caller's
        if isinstance(error, FileNotFoundError):
            raise
        raise LedgerError(f"The log's segment {path} is damaged, and can't be read: {error}.") from error


def _from_row(row: Mapping[str, Any], header: Mapping[str, Any]) -> Recorded:
    if isinstance(row["input"], dict):  # of a batch
        given = {name: _plain(value) for name, value in row["input"].items() if value is not None}
        return Recorded(row["id"], row["time"], row["route"], given, row["value"], row.get("probabilities"), header)
    shares = json.loads(row["probabilities"]) if row["probabilities"] else None
    return Recorded(
        row["id"], row["time"], row["route"], json.loads(row["input"]), json.loads(row["value"]), shares, header,
        row.get("trace"), row.get("request") or row["id"], row.get("place") or 0, row.get("of"),
    )  # fmt: skip


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


def segments(folder: Path) -> list[Path]:
    """The segments of a log, oldest first; of one that is there twice, since it was just being compacted, the Parquet."""
    found = {path.stem: path for path in folder.glob("*.jsonl") if path.name[0] != "."}
    found |= {path.stem: path for path in folder.glob("*.parquet") if path.name[0] != "."}
    return [found[name] for name in sorted(found)]


@contextmanager
def closed(path: Path) -> Iterator[bool]:
    """Whether nobody writes the segment; nobody can begin to while the context lasts."""
    if path.suffix == ".parquet":
        yield True
        return
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.stat(path), os.fstat(handle))  # not removed since it was opened
        except OSError:
            is_there = False
        yield is_there
    finally:
        os.close(handle)


def read_segment(path: Path, start: int = 0) -> Iterator[tuple[Recorded, int]]:
    """Every prediction of a segment from a byte (a row, where it is Parquet) on, each with where to go on after it."""
    if path.suffix == ".parquet":
        with _open_parquet(path) as file:
            header, place = json.loads(file.schema_arrow.metadata[b"perron"]), 0
            for batch in file.iter_batches(8192):
                if place + batch.num_rows > start:
                    for row in batch.slice(max(start - place, 0)).to_pylist():
                        start += 1
                        yield _from_row(row, header), start
                place += batch.num_rows
        return
    with open(path, "rb") as file:
        first = file.readline()
        if not first.endswith(b"\n"):
            return
        header, place = json.loads(first), len(first)
        if start > place:
            file.seek(start)
            place = start
        for text in file:
            if not text.endswith(b"\n"):
                return
            place += len(text)
            for recorded in _records(text, header):
                yield recorded, place


def iterate(folder: Path) -> Iterator[Recorded]:
    """Every logged prediction, oldest segment first; a line cut off at a segment's end is left out."""
    for path in segments(folder):
        try:
            for recorded, _ in read_segment(path):
                yield recorded
        except FileNotFoundError:  # compacted or deleted meanwhile
            compacted = path.with_suffix(".parquet")
            if compacted.is_file():
                for recorded, _ in read_segment(compacted):
                    yield recorded


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
