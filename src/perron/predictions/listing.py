"""A folder of prediction logs and a cursor in; a page of predictions, the newest first, out.

What is read for a page is bounded, however long the log is: of each segment that may hold something
newer than what was found its end alone, and no more than `MOST_BYTES` of lines. A page may therefore
be short, even empty, while there is a next one. Parquet (batches, what was compacted) isn't listed: its
receipts are found by id.
"""

import base64
import json
import mmap
import os
from binascii import Error as Base64Error
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from perron.predictions import ID

__all__ = ["Listed", "Page", "cursor_of", "list_predictions", "parse_cursor"]

MOST_BYTES = 8 << 20
FIRST_LOOK = 8  # predictions read of a segment at first; then ever more
SLACK_S = 3.0  # by which a file's time may lie before its last line's: archives round it
TIME_AT, TIME_LENGTH = len('{"time":"'), len("2026-01-31T12:00:00.000Z")
LAST = "~"  # sorts after every id
Key = tuple[str, str]  # time and id: predictions are ordered by them


@dataclass(frozen=True)
class Listed:
    """A prediction as a list shows it; its receipt says more."""

    id: str
    time: str
    model: str
    version: int
    route: str
    value: Any
    probabilities: Mapping[str, float] | None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Page:
    """Predictions, and the cursor of the next page; None when there is no more."""

    predictions: tuple[Listed, ...]
    next: str | None


def cursor_of(key: Key) -> str:
    """The key as clients carry it about."""
    return base64.urlsafe_b64encode(" ".join(key).encode()).decode().rstrip("=")


def parse_cursor(text: str) -> Key | None:
    """The key that `cursor_of` wrote, or None when it is something else."""
    try:
        moment, _, prediction = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").partition(" ")
        datetime.fromisoformat(moment)
    except (Base64Error, ValueError):
        return None
    return (moment, prediction) if prediction == LAST or ID.fullmatch(prediction) else None


def list_predictions(
    folder: Path,
    *,
    limit: int,
    before: Key | None = None,
    model: str | None = None,
    version: int | None = None,
    route: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page:
    """The newest predictions of servers, older than `before`, that fit.

    Args:
        folder: of the log; one that isn't there holds nothing.
        limit: the most on a page.
        before: what `parse_cursor` read.
        model, version, route: what answered, and how.
        since, until: when it answered; both are included.
    """
    bounds = [key for key in (before, (_text(until), LAST) if until is not None else None) if key is not None]
    bound = min(bounds, default=("9999", LAST))
    least = _text(since) if since is not None else ""
    waiting = sorted(_segments(folder, bound[0]), key=lambda one: one.latest)
    opened: list[_Segment] = []
    found: list[Listed] = []
    read = 0
    last: Key | None = None
    while True:
        newest = max(opened, key=lambda one: one.head[0], default=None)
        while waiting and (newest is None or waiting[-1].latest >= newest.head[0][0]):
            segment = waiting.pop()
            if segment.open(bound, model, version):
                opened.append(segment)
                newest = max(opened, key=lambda one: one.head[0])
        if newest is None or newest.head[0][0] < least:
            return Page(tuple(found), None)
        if len(found) == limit or read > MOST_BYTES:
            assert last is not None
            return Page(tuple(found), cursor_of(last))
        last, size, listed = newest.head
        read += size
        if route is None or listed.route == route:
            found.append(listed)
        if not newest.step():
            opened.remove(newest)


def _text(moment: datetime) -> str:
    """As the log writes it: UTC, to the millisecond."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:  # the first or the last day that there is
        moment = moment.replace(tzinfo=UTC)
    return moment.isoformat(timespec="milliseconds")[:-6] + "Z"


def _segments(folder: Path, until: str) -> "Iterator[_Segment]":
    """The segments of servers that began by then."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        name, _, ending = entry.name.partition(".")
        if ending != "jsonl" or not ID.fullmatch(f"{name}-00000000-00000000"):
            continue
        if _text(datetime.fromtimestamp(int(name[:12], 16) / 1000, UTC)) > until:
            continue
        try:
            latest = _text(datetime.fromtimestamp(entry.stat().st_mtime + SLACK_S, UTC))
        except OSError:  # it was taken away meanwhile
            continue
        yield _Segment(Path(entry.path), latest)


class _Reply(msgspec.Struct, gc=False):
    predictions: list[dict[str, Any]]


class _Line(msgspec.Struct, gc=False):
    time: str
    route: str
    reply: _Reply


class _Segment:
    """One segment, read from its end. `latest` is no earlier than its last line; `head` the newest that isn't taken."""

    def __init__(self, path: Path, latest: str) -> None:
        self._path, self.latest = path, latest
        self._buffer: deque[tuple[Key, int, Listed]] = deque()
        self._bound: Key = ("", "")
        self._end: int | None = None  # of the lines that aren't read yet
        self._wanted = FIRST_LOOK

    @property
    def head(self) -> tuple[Key, int, Listed]:
        """Its key, how many bytes it took, and what it is."""
        return self._buffer[0]

    def open(self, bound: Key, model: str | None, version: int | None) -> bool:
        """Whether there is anything before the bound, by that model and version."""
        self._bound, self._model, self._version = bound, model, version
        self._fill()
        return bool(self._buffer)

    def step(self) -> bool:
        """Takes the head; whether there is another."""
        self._buffer.popleft()
        if not self._buffer:
            self._fill()
        return bool(self._buffer)

    def _fill(self) -> None:
        if self._end == 0:
            return
        try:
            with open(self._path, "rb") as file:
                header = file.readline()
                first = file.tell()
                if not header.endswith(b"\n") or os.fstat(file.fileno()).st_size == first:
                    self._end = 0
                    return
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                    self._read(data, first, json.loads(header))
        except FileNotFoundError:  # it was taken away meanwhile
            self._end = 0

    def _read(self, data: mmap.mmap, first: int, header: Mapping[str, Any]) -> None:
        name, number = header["model"], header["version"]
        if self._model not in (None, name) or self._version not in (None, number):
            self._end = 0
            return
        if self._end is None:
            self._end = _end_of(data, first, self._bound[0])
        while self._end > first and len(self._buffer) < self._wanted:
            start = data.rfind(b"\n", first, self._end - 1) + 1 or first
            line, self._end = data[start : self._end], start
            for size, listed in _listed(line, name, number):
                key = (listed.time, listed.id)
                if key < self._bound:
                    self._buffer.append((key, size, listed))
        if self._end <= first:
            self._end = 0
        self._wanted = min(2 * self._wanted, 1024)


def _end_of(data: mmap.mmap, first: int, moment: str) -> int:
    """Where the lines end that are no later than the moment: lines are in the order of their time."""
    wanted = moment.encode()
    low, high = first, data.rfind(b"\n") + 1
    while low < high:
        start = data.rfind(b"\n", low, (low + high) // 2) + 1 or low
        if data[start + TIME_AT : start + TIME_AT + TIME_LENGTH] <= wanted:
            low = data.find(b"\n", start) + 1
        else:
            high = start
    return low


def _listed(text: bytes, model: str, version: int) -> Iterator[tuple[int, Listed]]:
    """The predictions of a line, the last first; the first of them took its bytes."""
    try:
        line = msgspec.json.decode(text, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError):  # the request, as it came, holds what only Python's reader takes
        whole = json.loads(text)
        line = _Line(whole["time"], whole["route"], _Reply(whole["reply"]["predictions"]))
    size = len(text)
    for one in reversed(line.reply.predictions):
        yield size, Listed(one["id"], line.time, model, version, line.route, one["value"], one.get("probabilities"))
        size = 0
