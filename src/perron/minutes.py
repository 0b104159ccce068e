"""What a server did and used in; its minutes on the disk, and of those, sums by version and process, out.

    .perron/minutes/2026-11-24-WRITER.jsonl

Each process appends a line a minute to a file of its own, beside answering: requests, errors, refusals and latencies by
version and route, and what the process used: CPU, memory, open files, the queue, the disk, a GPU where there is one.
Whoever reads adds them up. Nothing of a request's content is in them; files older than `KEEP_DAYS` are removed.
"""

import errno
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path

import msgspec

from perron.clock import text_of
from perron.errors import LedgerError

__all__ = [
    "LATENCY_BOUNDS",
    "Gpu",
    "Minute",
    "MinuteWriter",
    "Traffic",
    "Usage",
    "quantile",
    "read_minutes",
    "share_at_least",
]

FORMAT = 1
KEEP_DAYS = 35  # the month of an error budget, and some
LATENCY_BOUNDS = (  # seconds
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip


@dataclass
class Traffic:
    """Requests that were answered, those that failed, their rows, and the answered ones' latencies: counts by the bounds
    of `LATENCY_BOUNDS` and above, and their sum in seconds."""

    requests: int = 0
    errors: int = 0
    rows: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    latency_s: float = 0.0

    def add(self, other: "Traffic") -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.rows += other.rows
        self.latency = [mine + theirs for mine, theirs in zip(self.latency, other.latency, strict=True)]
        self.latency_s += other.latency_s

    def since(self, before: "Traffic") -> "Traffic":
        """What was added since it was `before`."""
        counts = [now - then for now, then in zip(self.latency, before.latency, strict=True)]
        return Traffic(
            self.requests - before.requests, self.errors - before.errors, self.rows - before.rows, counts,
            self.latency_s - before.latency_s,
        )  # fmt: skip


class Gpu(msgspec.Struct, frozen=True):
    """A GPU of the machine: the share of time that it worked, its memory, and this process's part of that; None: not told."""

    name: str
    busy_share: float | None = None
    used_bytes: int | None = None
    memory_bytes: int | None = None
    own_bytes: int | None = None


class Usage(msgspec.Struct, frozen=True):
    """What a process uses; None where the system doesn't tell.

    Args:
        host, worker: which process: a worker's number is the same after its restart.
        cores: that it may run on.
        cpu_s: CPU time since it started, in seconds.
        resident_bytes, memory_bytes: of its memory, and of what the machine (or the container) has.
        open_files, most_files: descriptors, and how many it may have.
        disk_free_bytes, disk_bytes: of the disk with the project.
        queue_rows: that wait to be predicted.
        gpus: of the machine.
    """

    host: str
    worker: int = 0
    cores: int = 1
    cpu_s: float = 0.0
    resident_bytes: int | None = None
    memory_bytes: int | None = None
    open_files: int | None = None
    most_files: int | None = None
    disk_free_bytes: int | None = None
    disk_bytes: int | None = None
    queue_rows: int = 0
    gpus: tuple[Gpu, ...] = ()


Way = tuple[str, int, str]  # model, version, route


@dataclass(frozen=True)
class Minute:
    """A minute of one process: when it began (UTC), how long it was, what was answered by model, version and route, what was
    refused by reason, and what was used; `usage.cpu_s` is of this minute alone, `usage.queue_rows` the most that waited."""

    start: datetime
    seconds: float
    traffic: Mapping[Way, Traffic]
    refused: Mapping[str, int]
    usage: Usage


class MinuteWriter:
    """Appends a process's minutes. Not thread safe: one thread calls `tick`.

    Args:
        folder: of all minutes; made with the first line.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._start: datetime | None = None
        self._traffic: dict[Way, Traffic] = {}
        self._refused: dict[str, int] = {}
        self._cpu_s = 0.0
        self._queue_rows = 0
        self._day = ""

    def tick(
        self,
        traffic: Mapping[Way, Traffic],
        refused: Mapping[str, int],
        usage: Usage,
        now: datetime,
        *,
        is_last: bool = False,
    ) -> None:
        """Takes note of the sums since the process started; writes a line when a minute is over, or it is the last.

        Raises:
            LedgerError: it can't be written; the minute's numbers go into the next line.
        """
        if self._start is None:
            self._start, self._cpu_s = now, usage.cpu_s
            self._traffic = {way: Traffic() for way in traffic}
        self._queue_rows = max(self._queue_rows, usage.queue_rows)
        self._start = min(self._start, now)  # later than now where the clock was set back
        if now.replace(second=0, microsecond=0) <= self._start and not is_last:
            return
        added = {way: sums.since(self._traffic.get(way, Traffic())) for way, sums in traffic.items()}
        line = {
            "start": text_of(self._start), "seconds": round((now - self._start).total_seconds(), 3),
            "traffic": [
                [*way, one.requests, one.errors, one.rows, one.latency, round(one.latency_s, 6)]
                for way, one in added.items() if one.requests or one.errors
            ],
            "refused": {
                reason: count - self._refused.get(reason, 0)
                for reason, count in refused.items() if count > self._refused.get(reason, 0)
            },
            "usage": msgspec.structs.replace(usage, cpu_s=round(usage.cpu_s - self._cpu_s, 4), queue_rows=self._queue_rows),
        }  # fmt: skip
        self._append(self._start, msgspec.json.encode(line) + b"\n")
        self._traffic = {
            way: Traffic(s.requests, s.errors, s.rows, list(s.latency), s.latency_s) for way, s in traffic.items()
        }
        self._refused, self._cpu_s, self._queue_rows, self._start = dict(refused), usage.cpu_s, 0, now

    def _append(self, start: datetime, line: bytes) -> None:
        day = f"{start:%Y-%m-%d}"
        path = self._folder / f"{day}-{self._writer}.jsonl"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            try:
                if os.fstat(handle).st_size == 0:
                    line = msgspec.json.encode({"format": FORMAT, "latency_bounds_s": LATENCY_BOUNDS}) + b"\n" + line
                size = os.fstat(handle).st_size
                if os.write(handle, line) != len(line):  # the disk took a part
                    os.ftruncate(handle, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(handle)
        except OSError as error:
            raise LedgerError(f"The minutes in {self._folder} can't be written: {error.strerror}.") from error
        if day != self._day:
            self._day = day
            self._remove_before(f"{start - timedelta(days=KEEP_DAYS):%Y-%m-%d}")

    def _remove_before(self, day: str) -> None:
        for path in self._folder.glob("*.jsonl"):
            if path.name[:10] < day:
                with suppress(OSError):
                    path.unlink()


def read_minutes(folder: Path, *, since: datetime, until: datetime) -> Iterator[Minute]:
    """The minutes that began between two moments, of every process; by file, so not in order.

    Lines that are cut off or of another format are left out.
    """
    first, last = f"{since.astimezone(UTC):%Y-%m-%d}", f"{until.astimezone(UTC):%Y-%m-%d}"
    for path in sorted(folder.glob("*.jsonl")):
        if not first <= path.name[:10] <= last:
            continue
        try:
            lines = path.read_bytes().split(b"\n")
        except OSError:
            continue  # just removed
        for line in lines:
            minute = _read(line)
            if minute is not None and since <= minute.start < until:
                yield minute


class _Line(msgspec.Struct):
    start: datetime
    seconds: float
    traffic: list[tuple[str, int, str, int, int, int, list[int], float]]
    refused: dict[str, int]
    usage: Usage


_decode = msgspec.json.Decoder(_Line).decode


def _read(line: bytes) -> Minute | None:
    try:
        found = _decode(line)
    except msgspec.DecodeError:  # the head, or a line that was cut off
        return None
    traffic: dict[Way, Traffic] = {}
    for model, version, route, requests, errors, rows, latency, latency_s in found.traffic:
        if len(latency) != len(LATENCY_BOUNDS) + 1:
            return None
        traffic[model, version, route] = Traffic(requests, errors, rows, latency, latency_s)
    return Minute(found.start, found.seconds, traffic, found.refused, found.usage)


def quantile(counts: Sequence[int], share: float, bounds: Sequence[float] = LATENCY_BOUNDS) -> float | None:
    """The value that this share is below, by linear interpolation within its bucket as Prometheus does it; None without values.

    What lies above the last bound counts as that.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, seen = share * total, 0.0
    for place, count in enumerate(counts):
        if seen + count >= wanted and count:
            if place == len(bounds):
                return bounds[-1]
            low = bounds[place - 1] if place else 0.0
            return low + (bounds[place] - low) * (wanted - seen) / count
        seen += count
    return bounds[-1]


def share_at_least(hits: int, of: int, z: float = 3.0) -> float:
    """What a share is at least: the lower end of its interval (E. B. Wilson, 1927) at `z` standard deviations; 0 of none."""
    if not of:
        return 0.0
    p = hits / of
    return (p + z * z / (2 * of) - z * sqrt(p * (1 - p) / of + z * z / (4 * of * of))) / (1 + z * z / of)
