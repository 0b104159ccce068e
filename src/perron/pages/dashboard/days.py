"""The windows of a model's version in; their days, added up once and kept, out.

    .perron/dashboard/MODEL/VERSION/2026-11-24.json     rows by hour and route, each feature's distance, drifts, estimate
    .perron/dashboard/MODEL/VERSION/2026-11-24.sketch   the day's windows merged

A day is added up again when one of its windows changed, so that a page reads as many small files as
there are days, however many predictions. The folder can be deleted at any time: it is made anew.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perron.digest import digest
from perron.drift import Drift, find_drift, measure
from perron.errors import DataError
from perron.monitor import LEAST_ROWS, Monitor, WindowView
from perron.sketch import TableSketch
from perron.store import write_atomically
from perron.windows import merged, read_windows

__all__ = ["Day", "Days"]

FORMAT = 1
MOST_DAYS = 90  # the newest


@dataclass(frozen=True)
class Day:
    """A day's traffic of one version (UTC): rows by (hour, route), distances and drifts beside the reference, the estimate."""

    day: str
    rows: int
    hours: tuple[tuple[str, str, int], ...]
    distances: Mapping[str, float]
    drifts: tuple[Drift, ...]
    estimate: Mapping[str, Any] | None
    path: Path

    @property
    def start(self) -> datetime:
        return datetime.fromisoformat(self.day).replace(tzinfo=UTC)

    def sketch(self) -> TableSketch:
        """The day's windows, merged.

        Raises:
            OSError: it was deleted.
        """
        return TableSketch.from_bytes(self.path.read_bytes())


class Days:
    """The days of one version. Not thread safe; several processes may add up the same.

    Args:
        monitor: of the version.
    """

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        home, model, version = monitor.project.folder / ".perron", quote(monitor.model, safe=""), str(monitor.version)
        self._windows, self._folder = home / "windows", home / "dashboard" / model / version
        self._own = self._windows / model / version
        self._known: dict[str, tuple[str, Day]] = {}

    def update(self, progress: Callable[[int, int], None] = lambda done, of: None) -> list[Day]:
        """The newest days that have traffic, oldest first; those that changed are added up."""
        found = self._signatures()
        made = []
        for place, (day, signature) in enumerate(found.items()):
            progress(place, len(found))
            known = self._known.get(day)
            if known is None or known[0] != signature:
                read = self._read(day, signature) or self._add_up(day, signature)
                if read is None:
                    continue
                known = self._known[day] = (signature, read)
            made.append(known[1])
        return made

    def _signatures(self) -> dict[str, str]:
        """What the windows of each day are: names, sizes and times of their files."""
        files: dict[str, list[list[Any]]] = {}
        for path in self._own.glob("*/*.sketch"):
            try:
                facts = path.stat()
            except OSError:  # it was rebuilt meanwhile
                continue
            files.setdefault(path.name[:10], []).append([path.parent.name, path.name, facts.st_size, facts.st_mtime_ns])
        bundle = self.monitor.bundle.digest
        return {day: digest([FORMAT, bundle, sorted(files[day])]) for day in sorted(files)[-MOST_DAYS:]}

    def _read(self, day: str, signature: str) -> Day | None:
        path = self._folder / f"{day}.json"
        try:
            given = json.loads(path.read_bytes())
            if given["signature"] != signature or not path.with_suffix(".sketch").is_file():
                return None
            drifts = tuple(Drift(**one) for one in given["drifts"])
            hours = tuple((hour, route, rows) for hour, route, rows in given["hours"])
            return Day(day, given["rows"], hours, given["distances"], drifts, given["estimate"], path.with_suffix(".sketch"))  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _add_up(self, day: str, signature: str) -> Day | None:
        start = datetime.fromisoformat(day).replace(tzinfo=UTC)
        monitor = self.monitor
        windows = read_windows(
            self._windows, monitor.model, version=monitor.version, since=start, until=start + timedelta(days=1)
        )
        if not windows:
            return None  # damaged, all of them
        sketch = merged(list(windows.values()))
        hours = tuple((f"{key.hour:%Y-%m-%dT%H}:00Z", key.route, window.rows) for key, window in windows.items())
        drifts: tuple[Drift, ...] = ()
        distances: dict[str, float] = {}
        reference = monitor.sketch
        if reference is not None and sketch.rows >= LEAST_ROWS:
            drifts = tuple(find_drift(reference, sketch, monitor.limits))
            distances = {
                name: _distance(measure(reference.columns[name], column))
                for name, column in sketch.columns.items()
                if name in reference.columns and not column.sensitive
            }
        estimate = monitor.estimate(sketch)
        path = self._folder / f"{day}.json"
        made = Day(
            day, sketch.rows, hours, distances, drifts, None if estimate is None else estimate.to_json(),
            path.with_suffix(".sketch"),
        )  # fmt: skip
        write_atomically(made.path, sketch.to_bytes())
        facts = {
            "signature": signature, "rows": made.rows, "hours": made.hours, "distances": distances,
            "drifts": [drift.to_json() for drift in drifts], "estimate": made.estimate,
        }  # fmt: skip
        write_atomically(path, json.dumps(facts))
        return made

    def views(self, days: list[Day]) -> list[WindowView]:
        """The days as `perron.monitor` judges them: one with few rows is joined with the next."""
        made: list[WindowView] = []
        waiting: list[Day] = []
        for place, day in enumerate(days):
            waiting.append(day)
            if sum(one.rows for one in waiting) < LEAST_ROWS and place + 1 < len(days):
                continue
            try:
                sketch = merged([one.sketch() for one in waiting])
            except (OSError, DataError):  # deleted meanwhile: added up again by the next update
                self._known = {}
                waiting = []
                continue
            drifts = waiting[0].drifts
            if len(waiting) > 1 and self.monitor.sketch is not None:
                drifts = tuple(find_drift(self.monitor.sketch, sketch, self.monitor.limits))
            made.append(WindowView(waiting[0].start, sketch.rows, sketch, drifts))
            waiting = []
        return made


def _distance(measures: Mapping[str, float]) -> float:
    return measures.get("kolmogorov_smirnov", measures.get("total_variation", 0.0))
