"""What a server counts in; families for Prometheus out.

Plain numbers while serving, made into families when they are asked for: Prometheus's own counters
take locks that cost a request a tenth of its time. Each worker process counts for itself and leaves
its numbers in a folder once a second; whichever is scraped adds up all of them.
"""

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from perron.minutes import LATENCY_BOUNDS, Traffic, Usage

__all__ = ["Histogram", "Numbers", "Registry"]

BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0)
LABELS = ("model", "version", "route")


class Histogram:
    """Counts of values by upper bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def merge(self, counts: Iterable[int], total: float) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.total += total

    def at_least(self, share: float) -> float:
        """What the value at that share is at least: the greatest bound that fewer than that share are up to; 0 without values."""
        wanted, seen, below = share * sum(self.counts), 0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            if seen >= wanted:
                break
            below = bound
        return below

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus has them: cumulated, by the bound's text."""
        names = [*(str(bound) for bound in self.bounds), "+Inf"]
        return [(name, float(count)) for name, count in zip(names, accumulate(self.counts), strict=True)]


class Numbers:
    """What one version of a model did on one route."""

    __slots__ = ("batch_rows", "cache_hits", "compute_s", "errors", "last", "latency", "requests", "rows", "unlogged")

    def __init__(self) -> None:
        self.requests = self.rows = self.errors = self.unlogged = self.cache_hits = 0
        self.compute_s = self.last = 0.0  # time in the graph; when it was last asked, since 1970
        self.latency = Histogram(LATENCY_BOUNDS)
        self.batch_rows = Histogram(BATCH_BOUNDS)

    def batch(self, requests: int, rows: int) -> None:
        """Counts requests that were answered together."""
        self.requests += requests
        self.rows += rows
        self.batch_rows.add(rows)
        self.last = time.time()

    def dump(self) -> list[object]:
        return [
            self.requests, self.rows, self.errors, self.unlogged,
            self.latency.counts, self.latency.total, self.batch_rows.counts, self.batch_rows.total,
            self.compute_s, self.last, self.cache_hits,
        ]  # fmt: skip

    def merge(self, dumped: "list[object]") -> None:
        requests, rows, errors, unlogged, latency, latency_total, batches, batches_total, compute_s, last, hits = dumped
        self.requests += requests  # type: ignore[operator]
        self.rows += rows  # type: ignore[operator]
        self.errors += errors  # type: ignore[operator]
        self.unlogged += unlogged  # type: ignore[operator]
        self.latency.merge(latency, latency_total)  # type: ignore[arg-type]
        self.batch_rows.merge(batches, batches_total)  # type: ignore[arg-type]
        self.compute_s += compute_s  # type: ignore[operator]
        self.last = max(self.last, last)  # type: ignore[call-overload]
        self.cache_hits += hits  # type: ignore[operator]


class Registry(Collector):
    """Every number of a worker, and its page.

    Args:
        shared: the folder where the workers of one server leave their numbers; None for a server of one process.
        worker: this worker's number.
        usage: tells what this process uses.
    """

    def __init__(
        self, shared: Path | None = None, worker: int = 0, usage: Callable[[], Usage] = lambda: Usage("")
    ) -> None:
        self._shared, self._worker, self._usage = shared, worker, usage
        self._numbers: dict[tuple[str, str, str], Numbers] = {}
        self._refused: dict[str, int] = {}
        self.gauges: dict[str, tuple[str, Callable[[], Iterable[tuple[dict[str, str], float]]]]] = {}
        self.counters: dict[str, tuple[str, dict[str, float]]] = {}
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector):
            collector(registry=self._registry)
        self._registry.register(self)

    def of(self, model: str, version: int, route: str) -> Numbers:
        """The numbers under these labels; a version that is loaded again goes on counting."""
        return self._numbers.setdefault((model, str(version), route), Numbers())

    def forget(self, model: str, version: int, route: str) -> None:
        """Takes the numbers under these labels away."""
        self._numbers.pop((model, str(version), route), None)

    def everywhere(self) -> dict[tuple[str, str, str], Numbers]:
        """The numbers by (model, version, route), of all workers together."""
        return self._all()[0]

    def traffic(self) -> tuple[dict[tuple[str, int, str], Traffic], dict[str, int]]:
        """What this worker did since it started, by (model, version, route), and what it refused, by reason."""
        found = {
            (model, int(version), route): Traffic(n.requests, n.errors, n.rows, list(n.latency.counts), n.latency.total)
            for (model, version, route), n in list(self._numbers.items())
        }
        return found, dict(self._refused)

    def refused(self, reason: str) -> None:
        self._refused[reason] = self._refused.get(reason, 0) + 1

    def gauge(self, name: str, words: str, read: Callable[[], Iterable[tuple[dict[str, str], float]]]) -> None:
        """Adds a gauge of this process: `read` gives (labels, value) pairs when the page is asked for."""
        self.gauges[name] = (words, read)

    def count(self, name: str, words: str, label: str = "", by: float = 1.0) -> None:
        """Adds to a counter that has one label, `kind`."""
        values = self.counters.setdefault(name, (words, {}))[1]
        values[label] = values.get(label, 0.0) + by

    def page(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self._registry)

    def leave(self) -> None:
        """Writes this worker's numbers where the others find them."""
        if self._shared is None:
            return
        data = msgspec.msgpack.encode(
            {
                "numbers": [[*labels, numbers.dump()] for labels, numbers in list(self._numbers.items())],
                "refused": dict(self._refused),
                "counters": {name: [words, dict(values)] for name, (words, values) in list(self.counters.items())},
                "usage": self._usage(),
            }
        )
        building = self._shared / f".{self._worker}.numbers"
        building.write_bytes(data)
        os.replace(building, self._shared / f"{self._worker}.numbers")

    def _all(
        self,
    ) -> tuple[
        dict[tuple[str, str, str], Numbers], dict[str, int], dict[str, tuple[str, dict[str, float]]], list[Usage]
    ]:
        """This worker's numbers and the others', added up, and what each uses."""
        usages = [self._usage()]
        found: dict[tuple[str, str, str], Numbers] = {}
        refused = dict(self._refused)
        counters = {name: (words, dict(values)) for name, (words, values) in self.counters.items()}
        for labels, numbers in list(self._numbers.items()):
            found.setdefault(labels, Numbers()).merge(numbers.dump())
        for path in sorted(self._shared.glob("[0-9]*.numbers")) if self._shared else ():
            if path.stem == str(self._worker):
                continue
            try:
                left = msgspec.msgpack.decode(path.read_bytes())
            except (OSError, msgspec.DecodeError):
                continue  # of a worker that is just being replaced
            for model, version, route, dumped in left["numbers"]:
                found.setdefault((model, version, route), Numbers()).merge(dumped)
            for reason, count in left["refused"].items():
                refused[reason] = refused.get(reason, 0) + count
            for name, (words, values) in left["counters"].items():
                mine = counters.setdefault(name, (words, {}))[1]
                for label, value in values.items():
                    mine[label] = mine.get(label, 0.0) + value
            usages.append(msgspec.convert(left["usage"], Usage))
        return found, refused, counters, sorted(usages, key=lambda usage: usage.worker)

    def collect(self) -> Iterator[Metric]:
        numbers, refused, counters, usages = self._all()
        families = {
            "requests": CounterMetricFamily("perron_requests", "Prediction requests that were answered.", labels=LABELS),
            "rows": CounterMetricFamily("perron_predictions", "Rows that were predicted.", labels=LABELS),
            "unlogged": CounterMetricFamily("perron_predictions_unlogged", "Rows that were answered though the log failed.", labels=LABELS),
            "cache_hits": CounterMetricFamily("perron_cache_hits", "Requests that were answered without the model, as equal ones before.", labels=LABELS),
            "errors": CounterMetricFamily("perron_prediction_errors", "Requests that a model could not answer.", labels=LABELS),
        }  # fmt: skip
        latency = HistogramMetricFamily(
            "perron_request_seconds", "Time from a request's body to its answer.", labels=LABELS
        )
        batches = HistogramMetricFamily("perron_batch_rows", "Rows that were predicted together.", labels=LABELS)
        for labels, found in sorted(numbers.items()):
            for name, family in families.items():
                family.add_metric(labels, getattr(found, name))
            latency.add_metric(labels, found.latency.buckets, found.latency.total)
            batches.add_metric(labels, found.batch_rows.buckets, found.batch_rows.total)
        yield from families.values()
        yield latency
        yield batches
        refusals = CounterMetricFamily("perron_requests_refused", "Requests that were refused.", labels=["reason"])
        for reason, count in sorted(refused.items()):
            refusals.add_metric([reason], count)
        yield refusals
        for name, (words, values) in sorted(counters.items()):
            counter = CounterMetricFamily(name, words, labels=["kind"])
            for label, value in sorted(values.items()):
                counter.add_metric([label], value)
            yield counter
        yield from _use_of(usages)
        for name, (words, read) in self.gauges.items():
            rows = list(read())
            gauge = GaugeMetricFamily(name, words, labels=list(rows[0][0]) if rows else [])
            for given, value in rows:
                gauge.add_metric(list(given.values()), value)
            yield gauge


def _use_of(usages: "list[Usage]") -> Iterator[Metric]:
    """What each worker uses, and what is left of what they share."""
    cpu = CounterMetricFamily("perron_process_cpu_seconds", "CPU time, by worker.", labels=["worker"])
    gauges = {
        "resident_bytes": GaugeMetricFamily("perron_process_resident_bytes", "Memory, by worker.", labels=["worker"]),
        "open_files": GaugeMetricFamily("perron_process_open_files", "Open files, by worker.", labels=["worker"]),
        "most_files": GaugeMetricFamily("perron_process_max_files", "Files that may be open, by worker.", labels=["worker"]),
        "queue_rows": GaugeMetricFamily("perron_queue_rows", "Rows that wait to be predicted, by worker.", labels=["worker"]),
    }  # fmt: skip
    for usage in usages:
        worker = [str(usage.worker)]
        cpu.add_metric(worker, usage.cpu_s)
        for name, family in gauges.items():
            if (value := getattr(usage, name)) is not None:
                family.add_metric(worker, float(value))
    yield cpu
    yield from gauges.values()
    shared = usages[0]
    for name, words, value in (
        ("perron_memory_bytes", "Memory of the machine, or of the container.", shared.memory_bytes),
        ("perron_disk_free_bytes", "Left on the disk with the prediction log.", shared.disk_free_bytes),
        ("perron_disk_bytes", "Of the disk with the prediction log.", shared.disk_bytes),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, words, float(value))
    for name, words, key in (
        ("perron_gpu_busy_share", "Of the time that a GPU worked.", "busy_share"),
        ("perron_gpu_used_bytes", "Memory of a GPU that is taken.", "used_bytes"),
        ("perron_gpu_memory_bytes", "Memory of a GPU.", "memory_bytes"),
        ("perron_gpu_own_bytes", "Memory of a GPU that the worker which was asked takes.", "own_bytes"),
    ):
        family = GaugeMetricFamily(name, words, labels=["gpu", "name"])
        for place, gpu in enumerate(shared.gpus):
            if (value := getattr(gpu, key)) is not None:
                family.add_metric([str(place), gpu.name], float(value))
        if family.samples:
            yield family
