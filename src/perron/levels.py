"""A server's minutes and its limits in; the levels of the service, what they cost, and what is beyond a limit, out.

Good is a request that was answered; bad is what is the service's fault: a model that failed, a log that can't be written, a
full queue, a deadline that passed; not what is the asker's. What availability leaves is the error budget of a month.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from perron.canvas import Canvas
from perron.clock import text_of
from perron.errors import DeclarationError
from perron.minutes import Gpu, Minute, Traffic, Usage, quantile, read_minutes, share_at_least

__all__ = [
    "BURNS", "FAST_BURN", "KINDS", "SLOW_BURN", "Excess", "Levels", "Process", "ServiceLimits", "Way", "excess_of", "levels_of", "limits_of",
]  # fmt: skip

BAD = ("busy", "too_late")  # refusals that are the service's fault; a log that failed is counted as an error
# Google, The Site Reliability Workbook (2018), chapter 5: how fast a month's budget may burn, and over which windows in minutes.
FAST_BURN, SLOW_BURN = 14.4, 6.0
BURNS = ((FAST_BURN, 60, 5), (SLOW_BURN, 360, 30))
BUDGET_DAYS = 30
MONTH_MIN = BUDGET_DAYS * 1440
FEWEST_REQUESTS, FEWEST_SLOW, FEWEST_PRICED = 30, 100, 1000
SILENCE_MIN = 30
FULL, NEARLY_FULL = 0.95, 0.9
WATTS_PER_CORE = 10.0  # of a server's processor, memory and losses at full load, where nothing else is declared
KINDS = ("errors", "latency", "budget", "traffic", "resources", "cost")
Kind = Literal["errors", "latency", "budget", "traffic", "resources", "cost"]
Severity = Literal["low", "medium", "high"]


@dataclass(frozen=True)
class ServiceLimits:
    """What a service must hold, and what its machine costs.

    Args:
        max_error_share: of a version's requests that fail.
        max_p99_ms: that the slowest 1 % of its requests may take.
        availability: the share of good answers that is aimed at; the rest is the error budget.
        max_queue_rows: that may wait.
        least_drift_severity: from which drift is an alert: 1 low, 2 medium, 3 high.
        machine_cost_per_hour: of a machine that serves, in any currency; None: no cost is told.
        max_cost_per_1000: that 1,000 predictions may cost in it.
        machine_watts: that a machine draws at full load; None: 10 W for each of its cores.
    """

    max_error_share: float = 0.01
    max_p99_ms: float = 500.0
    availability: float = 0.999
    max_queue_rows: int = 10_000
    least_drift_severity: int = 2
    machine_cost_per_hour: float | None = None
    max_cost_per_1000: float | None = None
    machine_watts: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_error_share", "availability"):
            if not 0 < getattr(self, name) < 1:
                raise DeclarationError(f"{name} is {getattr(self, name)!r}; give a share between 0 and 1.")
        for name in ("max_p99_ms", "max_queue_rows", "machine_cost_per_hour", "max_cost_per_1000", "machine_watts"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise DeclarationError(f"{name} is {value!r}; give a number above 0.")
        if self.least_drift_severity not in (1, 2, 3):
            raise DeclarationError(f"least_drift_severity is {self.least_drift_severity!r}; give 1, 2 or 3.")


def limits_of(canvas: Canvas | None, **given: float | None) -> ServiceLimits:
    """The limits that were given, else the canvas's, else the defaults."""
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(ServiceLimits(), **{**(canvas.limits if canvas is not None else {}), **chosen})


@dataclass(frozen=True)
class Way:
    """What one version did on one route: its sums, and percentiles of its answered requests in milliseconds."""

    model: str
    version: int
    route: str
    traffic: Traffic

    @property
    def error_share(self) -> float | None:
        tried = self.traffic.requests + self.traffic.errors
        return self.traffic.errors / tried if tried else None

    def percentile_ms(self, share: float) -> float | None:
        found = quantile(self.traffic.latency, share)
        return None if found is None else found * 1000

    def to_json(self) -> dict[str, Any]:
        one = self.traffic
        return {
            "model": self.model, "version": self.version, "route": self.route, "requests": one.requests, "errors": one.errors,
            "rows": one.rows, "error_share": self.error_share,
            "mean_ms": one.latency_s / one.requests * 1000 if one.requests else None,
            **{f"p{percent}_ms": self.percentile_ms(percent / 100) for percent in (50, 95, 99)},
        }  # fmt: skip


@dataclass
class Process:
    """What one worker used over the time looked at: CPU as a share of its cores, on average and in its busiest minute; the
    most of the rest."""

    host: str
    worker: int
    seconds: float = 0.0
    cpu_s: float = 0.0
    cores: int = 1
    busiest_share: float = 0.0
    resident_bytes: int | None = None
    memory_bytes: int | None = None
    open_files: int | None = None
    most_files: int | None = None
    queue_rows: int = 0

    @property
    def cpu_share(self) -> float:
        return self.cpu_s / self.seconds / self.cores if self.seconds else 0.0

    def add(self, minute: Minute) -> None:
        used = minute.usage
        self.seconds += minute.seconds
        self.cpu_s += used.cpu_s
        self.cores = used.cores
        if minute.seconds >= 30:  # a shorter one tells little
            self.busiest_share = max(self.busiest_share, used.cpu_s / minute.seconds / used.cores)
        self.resident_bytes = _most(self.resident_bytes, used.resident_bytes)
        self.open_files = _most(self.open_files, used.open_files)
        self.memory_bytes, self.most_files = used.memory_bytes, used.most_files
        self.queue_rows = max(self.queue_rows, used.queue_rows)

    def to_json(self) -> dict[str, Any]:
        return {
            "host": self.host, "worker": self.worker, "cores": self.cores, "cpu_share": self.cpu_share,
            "busiest_cpu_share": self.busiest_share, "resident_bytes": self.resident_bytes, "memory_bytes": self.memory_bytes,
            "open_files": self.open_files, "most_files": self.most_files, "queue_rows": self.queue_rows,
        }  # fmt: skip


@dataclass(frozen=True)
class Levels:
    """The levels of the service of one model, between two moments.

    Args:
        since, until: ISO 8601 (UTC).
        ways: by version and route, over all that time.
        last_day, last_hour: the same over the newest part of it.
        rows: that were predicted, of all models of its servers.
        refused: requests by reason, of all models of its servers.
        busiest_rows_per_s: of the busiest minute.
        burn: how fast the error budget burns, by window in minutes; 1 uses it up in a month. None: nobody asked.
        tried: good and bad answers by the same windows, and of the month.
        budget_left: of the month's error budget; below 0 when more was used. None: nobody asked.
        processes: by host and worker.
        disk_free_bytes, disk_bytes: of the fullest disk with the project, the newest.
        gpus: of the machines, the newest.
        machine_hours: that servers ran, each machine counted once.
        cost: of those hours; None without a price.
        cost_per_1000: predictions: the machines' whole time, waiting included.
        energy_kwh: an estimate: CPU time by the declared or assumed draw of a machine at full load.
        silent_min: minutes since the last request, where there was one.
    """

    since: str
    until: str
    ways: tuple[Way, ...] = ()
    last_day: tuple[Way, ...] = ()
    last_hour: tuple[Way, ...] = ()
    rows: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    rows_per_s: float = 0.0
    busiest_rows_per_s: float = 0.0
    burn: Mapping[int, float | None] = field(default_factory=dict)
    tried: Mapping[int, int] = field(default_factory=dict)
    budget_left: float | None = None
    processes: tuple[Process, ...] = ()
    last_hour_processes: tuple[Process, ...] = ()
    disk_free_bytes: int | None = None
    disk_bytes: int | None = None
    gpus: tuple[Gpu, ...] = ()
    machine_hours: float = 0.0
    cost: float | None = None
    cost_per_1000: float | None = None
    energy_kwh: float = 0.0
    silent_min: float | None = None

    @property
    def total(self) -> Way | None:
        """All versions and routes together, or None without requests."""
        if not self.ways:
            return None
        total = Traffic()
        for way in self.ways:
            total.add(way.traffic)
        return Way(self.ways[0].model, 0, "", total)

    @property
    def words(self) -> list[str]:
        """The levels in a few lines."""
        lines = []
        total = self.total
        if total is not None:
            p50, p99 = (total.percentile_ms(share) for share in (0.5, 0.99))
            slow = "" if p50 is None or p99 is None else f", half within {p50:.3g} ms, 99 % within {p99:.3g} ms"
            left = (
                ""
                if self.budget_left is None
                else f"; {max(self.budget_left, 0.0):.0%} of the month's error budget is left"
            )
            tried = total.traffic.requests + total.traffic.errors
            lines.append(
                f"{tried:,} requests since {self.since[:16].replace('T', ' ')}, {total.error_share:.2%} failed{slow}{left}"
            )
        used = [f"{len(self.processes)} {'process' if len(self.processes) == 1 else 'processes'}"]
        used.append(
            f"CPU {sum(one.cpu_share for one in self.processes):.0%} of {max(one.cores for one in self.processes)} cores"
        )
        resident = sum(one.resident_bytes or 0 for one in self.processes)
        used += [f"{resident / 1e6:.0f} MB of memory"] if resident else []
        files = max((one.open_files or 0 for one in self.processes), default=0)
        used += [f"{files} open files"] if files else []
        if self.disk_free_bytes is not None:
            used.append(f"{self.disk_free_bytes / 1e9:.3g} GB of disk free")
        used += [f"{gpu.name} {gpu.busy_share:.0%} busy" for gpu in self.gpus if gpu.busy_share is not None]
        price = "" if self.cost_per_1000 is None else f"; 1,000 predictions cost {self.cost_per_1000:.3g}"
        lines.append(f"{', '.join(used)}{price}; {self.energy_kwh * 1000:.3g} Wh by estimate")
        return lines

    def to_json(self) -> dict[str, Any]:
        total = self.total
        return {
            "since": self.since, "until": self.until, "ways": [way.to_json() for way in self.ways],
            "total": None if total is None else {k: v for k, v in total.to_json().items() if k not in ("version", "route")},
            "refused": dict(self.refused), "rows_per_s": self.rows_per_s, "busiest_rows_per_s": self.busiest_rows_per_s,
            "budget_burn": {f"{minutes}m": value for minutes, value in self.burn.items()}, "budget_left": self.budget_left,
            "processes": [process.to_json() for process in self.processes],
            "disk_free_bytes": self.disk_free_bytes, "disk_bytes": self.disk_bytes,
            "gpus": [{name: getattr(gpu, name) for name in gpu.__struct_fields__} for gpu in self.gpus],
            "machine_hours": self.machine_hours, "cost": self.cost, "cost_per_1000": self.cost_per_1000,
            "energy_kwh_estimate": self.energy_kwh, "silent_min": self.silent_min,
        }  # fmt: skip


def levels_of(
    folder: Path, model: str, limits: ServiceLimits, *, since: datetime | None, until: datetime | None, now: datetime
) -> Levels | None:
    """The levels of a model's service, or None where no server left minutes in that time.

    Args:
        folder: of the minutes (`.perron/minutes`).
        model: its name.
        limits: whose availability the budget is reckoned from, and whose prices.
        since: None: from the oldest minute on, 30 days at most.
        until: None: now.
        now: the present time.
    """
    end = min(until or now, now) if until is not None else now + timedelta(seconds=1)
    begin = end - timedelta(days=BUDGET_DAYS)
    asked_from = begin if since is None else since
    sums = _Sums(model, limits, end, min(end, now))
    first = end
    for minute in read_minutes(folder, since=min(begin, asked_from), until=end):
        sums.add(minute, is_asked=minute.start >= asked_from)
        if minute.start >= asked_from:
            first = min(first, minute.start)
    if not sums.processes:
        return None
    return sums.levels(first)


class _Sums:
    """Adds minutes up in one pass, whatever their order."""

    def __init__(self, model: str, limits: ServiceLimits, end: datetime, until: datetime) -> None:
        self._model, self._limits, self._end, self._until = model, limits, end, until
        self._windows = {minutes: [0, 0] for _, *pair in BURNS for minutes in pair} | {MONTH_MIN: [0, 0]}
        self._ways: tuple[dict[tuple[int, str], Traffic], ...] = ({}, {}, {})
        self.processes: dict[tuple[str, int], Process] = {}
        self._recent: dict[tuple[str, int], Process] = {}
        self._machines: dict[str, set[int]] = {}
        self._energy_ws = 0.0
        self._by_minute: dict[int, int] = {}
        self._refused: dict[str, int] = {}
        self._rows = 0
        self._newest: dict[str, tuple[datetime, Usage]] = {}
        self._last_request: datetime | None = None

    def add(self, minute: Minute, *, is_asked: bool) -> None:
        age_min = (self._until - minute.start).total_seconds() / 60
        own = {way: one for way, one in minute.traffic.items() if way[0] == self._model}
        good = sum(one.requests for one in own.values())
        bad = sum(one.errors for one in own.values()) + sum(minute.refused.get(reason, 0) for reason in BAD)
        for minutes, counts in self._windows.items():
            if age_min <= minutes + 1:
                counts[0] += good
                counts[1] += bad
        ended = minute.start + timedelta(seconds=minute.seconds)
        if (good or bad) and (self._last_request is None or ended > self._last_request):
            self._last_request = ended
        belongs = (is_asked, age_min <= 1440, age_min <= 60)
        for (_, version, route), one in own.items():
            for ways, is_in in zip(self._ways, belongs, strict=True):
                if is_in:
                    ways.setdefault((version, route), Traffic()).add(one)
        used = minute.usage
        key = used.host, used.worker
        if age_min <= 60:
            self._recent.setdefault(key, Process(*key)).add(minute)
        if not is_asked:
            return
        self.processes.setdefault(key, Process(*key)).add(minute)
        watts = self._limits.machine_watts
        self._energy_ws += used.cpu_s * (WATTS_PER_CORE if watts is None else watts / used.cores)
        begun = int(minute.start.timestamp() // 60)
        # a minute that a machine served in is paid once, whatever its workers
        self._machines.setdefault(used.host, set()).update(range(begun, begun + max(1, round(minute.seconds / 60))))
        rows = sum(one.rows for one in minute.traffic.values())
        self._by_minute[begun] = self._by_minute.get(begun, 0) + rows
        self._rows += rows
        for reason, count in minute.refused.items():
            self._refused[reason] = self._refused.get(reason, 0) + count
        if used.host not in self._newest or self._newest[used.host][0] < minute.start:
            self._newest[used.host] = (minute.start, used)

    def levels(self, first: datetime) -> Levels:
        budget = 1 - self._limits.availability
        share = {m: bad / (good + bad) if good + bad else None for m, (good, bad) in self._windows.items()}
        month = share.pop(MONTH_MIN)
        seconds = max((self._end - first).total_seconds(), 60.0)
        hours = sum(len(minutes) for minutes in self._machines.values()) / 60
        price = self._limits.machine_cost_per_hour
        cost = None if price is None else hours * price
        newest = [usage for _, usage in self._newest.values()]
        disks = [one for one in newest if one.disk_free_bytes is not None and one.disk_bytes]
        fullest = min(disks, key=lambda one: (one.disk_free_bytes or 0) / (one.disk_bytes or 1), default=None)
        ways, day, hour = (tuple(Way(self._model, *key, one[key]) for key in sorted(one)) for one in self._ways)
        last = self._last_request
        return Levels(
            text_of(first), text_of(self._until), ways, day, hour, rows=self._rows, refused=self._refused,
            rows_per_s=self._rows / seconds, busiest_rows_per_s=max(self._by_minute.values(), default=0) / 60,
            burn={minutes: None if value is None else value / budget for minutes, value in share.items()},
            tried={minutes: good + bad for minutes, (good, bad) in self._windows.items()},
            budget_left=None if month is None else 1 - month / budget,
            processes=tuple(self.processes[key] for key in sorted(self.processes)),
            last_hour_processes=tuple(self._recent[key] for key in sorted(self._recent)),
            disk_free_bytes=None if fullest is None else fullest.disk_free_bytes,
            disk_bytes=None if fullest is None else fullest.disk_bytes,
            gpus=tuple(gpu for one in newest for gpu in one.gpus), machine_hours=hours, cost=cost,
            cost_per_1000=None if cost is None or not self._rows else cost / self._rows * 1000,
            energy_kwh=self._energy_ws / 3.6e6,
            silent_min=None if last is None else max(0.0, (self._end - last).total_seconds() / 60),
        )  # fmt: skip


# ------------------------------------------------------------------ judging


@dataclass(frozen=True)
class Excess:
    """Something beyond a limit: which kind, of what, how bad, in words, the value, the limit, and since when it was looked at."""

    kind: Kind
    subject: str
    severity: Severity
    detail: str
    value: float
    limit: float
    since: str
    route: str = ""


def excess_of(levels: Levels, limits: ServiceLimits, version: int) -> tuple[list[Excess], set[str]]:
    """What of a version's service is beyond its limits, and of which kinds there was enough to judge."""
    judged = {"traffic", "resources"}
    found = [*_errors(levels, limits, version, judged), *_slow(levels, limits, version, judged)]
    found += [
        *_burnt(levels, limits, judged),
        *_silence(levels),
        *_scarce(levels, limits),
        *_dear(levels, limits, judged),
    ]
    return found, judged


def _newest(levels: Levels, version: int, least: int) -> Iterable[tuple[str, str, Way]]:
    """By route, the last hour where it has enough requests, else the last day; with where it begins, in words and as a time."""
    end = datetime.fromisoformat(levels.until)
    hour = {way.route: way for way in levels.last_hour if way.version == version}
    for way in levels.last_day:
        if way.version != version:
            continue
        newer = hour.get(way.route)
        for words, hours, one in (("hour", 1, newer), ("day", 24, way)):
            if one is not None and one.traffic.requests + one.traffic.errors >= least:
                yield f"last {words}", text_of(end - timedelta(hours=hours)), one
                break


def _errors(levels: Levels, limits: ServiceLimits, version: int, judged: set[str]) -> Iterable[Excess]:
    for when, since, way in _newest(levels, version, FEWEST_REQUESTS):
        judged.add("errors")
        tried = way.traffic.requests + way.traffic.errors
        if share_at_least(way.traffic.errors, tried) > limits.max_error_share:
            share = way.traffic.errors / tried
            words = f"{way.traffic.errors:,} of {tried:,} requests of the {when} failed ({share:.1%}, the limit is {limits.max_error_share:.1%})."
            yield Excess("errors", way.route, "high", words, share, limits.max_error_share, since, way.route)


def _slow(levels: Levels, limits: ServiceLimits, version: int, judged: set[str]) -> Iterable[Excess]:
    for when, since, way in _newest(levels, version, FEWEST_SLOW):
        judged.add("latency")
        found = way.percentile_ms(0.99)
        if found is not None and found > limits.max_p99_ms:
            severity: Severity = "high" if found > 2 * limits.max_p99_ms else "medium"
            words = f"The slowest 1 % of the requests of the {when} took {found:.3g} ms or more; the limit is {limits.max_p99_ms:g} ms."
            yield Excess("latency", way.route, severity, words, found, limits.max_p99_ms, since, way.route)


def _burnt(levels: Levels, limits: ServiceLimits, judged: set[str]) -> Iterable[Excess]:
    if levels.budget_left is None:
        return
    judged.add("budget")
    end = datetime.fromisoformat(levels.until)
    target = f"{limits.availability:.6g} of good answers"
    severities: tuple[Severity, ...] = ("high", "medium")
    for (pace, long, short), severity in zip(BURNS, severities, strict=True):
        burn, newest = (levels.burn.get(minutes) or 0.0 for minutes in (long, short))
        if levels.tried.get(long, 0) >= FEWEST_REQUESTS and min(burn, newest) > pace:
            words = f"The error budget of {target} burns {burn:.3g} times as fast as it may over {long // 60} h and {short} min."
            since = text_of(end - timedelta(minutes=long))
            yield Excess("budget", f"{long // 60} h", severity, words, burn, pace, since)
            return
    if levels.budget_left <= 0 and levels.tried.get(MONTH_MIN, 0) >= FEWEST_REQUESTS:
        words = f"The month's error budget of {target} is used up: {1 - levels.budget_left:.3g} times what it allows."
        yield Excess(
            "budget", "month", "medium", words, 1 - levels.budget_left, 1.0, text_of(end - timedelta(days=BUDGET_DAYS))
        )


def _silence(levels: Levels) -> Iterable[Excess]:
    """Nothing came for half an hour, of what was asked twice as often as that over the day."""
    requests = sum(way.traffic.requests + way.traffic.errors for way in levels.last_day)
    if levels.silent_min is None or levels.silent_min < SILENCE_MIN or requests < 2 * 1440 / SILENCE_MIN:
        return
    since = text_of(datetime.fromisoformat(levels.until) - timedelta(minutes=levels.silent_min))
    words = f"No request came for {levels.silent_min:.0f} minutes, and {requests:,} in the day before."
    yield Excess("traffic", "requests", "low", words, levels.silent_min, float(SILENCE_MIN), since)


def _scarce(levels: Levels, limits: ServiceLimits) -> Iterable[Excess]:
    since = text_of(datetime.fromisoformat(levels.until) - timedelta(hours=1))

    def full(subject: str, used: float, words: str, least: float = NEARLY_FULL) -> Iterable[Excess]:
        if used >= least:
            yield Excess("resources", subject, "high" if used >= FULL else "medium", words, used, least, since)

    if levels.disk_bytes and levels.disk_free_bytes is not None:
        used = 1 - levels.disk_free_bytes / levels.disk_bytes
        yield from full(
            "disk",
            used,
            f"The disk with the project is {used:.0%} full: {levels.disk_free_bytes / 1e9:.3g} GB are free.",
        )
    for process in levels.last_hour_processes:
        who = f"worker {process.worker} on {process.host}"
        if process.open_files is not None and process.most_files:
            used = process.open_files / process.most_files
            yield from full(
                "open files",
                used,
                f"{process.open_files:,} files are open in {who}, which may have {process.most_files:,}.",
            )
        if process.queue_rows > limits.max_queue_rows:
            words = f"{process.queue_rows:,} rows waited in {who}; the limit is {limits.max_queue_rows:,}."
            yield Excess("resources", "queue", "medium", words, process.queue_rows, limits.max_queue_rows, since)
    for host in {process.host: None for process in levels.last_hour_processes}:
        of_host = [process for process in levels.last_hour_processes if process.host == host]
        resident, memory = sum(one.resident_bytes or 0 for one in of_host), of_host[0].memory_bytes
        if resident and memory:
            yield from full(
                "memory",
                resident / memory,
                f"The server on {host} takes {resident / 1e9:.3g} GB of {memory / 1e9:.3g} GB of memory.",
            )
        busy = sum(one.cpu_share for one in of_host)
        if max(one.seconds for one in of_host) >= 600 and busy >= NEARLY_FULL:
            words = f"The server on {host} used {busy:.0%} of its {of_host[0].cores} cores for the last hour; add workers or machines."
            yield Excess("resources", "cpu", "medium", words, busy, NEARLY_FULL, since)
    for gpu in levels.gpus:
        if gpu.used_bytes is not None and gpu.memory_bytes:
            used = gpu.used_bytes / gpu.memory_bytes
            yield from full("gpu memory", used, f"The memory of {gpu.name} is {used:.0%} full.", FULL)


def _dear(levels: Levels, limits: ServiceLimits, judged: set[str]) -> Iterable[Excess]:
    most, cost = limits.max_cost_per_1000, levels.cost_per_1000
    if most is None or cost is None or levels.rows < FEWEST_PRICED:
        return
    judged.add("cost")
    if cost > most:
        words = (
            f"1,000 predictions cost {cost:.3g}: {levels.rows:,} in {levels.machine_hours:.3g} machine hours at "
            f"{limits.machine_cost_per_hour:g}; the canvas allows {most:g}."
        )
        yield Excess("cost", "predictions", "medium", words, cost, most, levels.since)


def _most(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)
