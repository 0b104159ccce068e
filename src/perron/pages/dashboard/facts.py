"""A project in; what the pages show out, of which what takes long is made aside and kept.

Pages wait for nothing: `Kept` gives what was made last and has it made anew when it is old.
"""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import Request, urlopen

from perron import catalog
from perron.bundle import Bundle, GraphBundle, load
from perron.canvas import read_canvas
from perron.errors import NotFound, PerronError
from perron.ledger import CHAMPION
from perron.levels import Levels, levels_of, limits_of
from perron.monitor import Monitor
from perron.pages.dashboard import Settings, opened
from perron.pages.dashboard.days import Day, Days
from perron.performance import Performance, Period
from perron.profile import Profile
from perron.project import Project
from perron.store import write_atomically

__all__ = ["Facts", "Latency", "Traffic", "facts_of", "latency_of"]

FRESH_S = 15.0  # how old what a page shows may be before it is made anew
WAIT_S = 0.3  # for what was never made
METRICS_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Traffic:
    """A version's days, and the newest look at them as `Look.to_json` gives it (None: it isn't taken yet)."""

    days: tuple[Day, ...]
    look: dict[str, Any] | None


@cache
def facts_of(settings: Settings) -> "Facts":
    """The facts of a dashboard, shared by all its readers."""
    return Facts(opened(settings.folder), settings)


class Facts:
    """What a project's pages show. Thread safe: pages of several readers ask, one thread makes what takes long."""

    def __init__(self, project: Project, settings: Settings) -> None:
        self.project, self.settings = project, settings
        self._pool = ThreadPoolExecutor(1, "perron-dashboard")
        self._lock = threading.Lock()
        self._made: dict[Any, tuple[float, Any]] = {}
        self._making: dict[Any, Future[Any]] = {}
        self._days: dict[tuple[str, int], Days] = {}
        self._looked: dict[tuple[str, int], tuple[list[Day], dict[str, Any]]] = {}
        self._bundles: dict[str, Bundle | GraphBundle] = {}
        self._progress = ""

    def begin(self) -> None:
        """Has what the first reader will see made aside."""
        for name in self.models():
            row = self.champion(name)
            if row is not None and isinstance(self.bundle(row), Bundle):
                version = int(row["version"])
                self._submit(("days", name, version), partial(self._add_up, name, version))
                self._submit(("look", name, version), partial(self._look, name, version))

    # -- made aside

    def _submit(self, key: Any, make: Callable[[], Any]) -> "Future[None]":
        with self._lock:
            if key not in self._making:
                self._making[key] = self._pool.submit(self._make, key, make)
            return self._making[key]

    def kept(self, key: Any, make: Callable[[], Any], fresh_s: float = FRESH_S) -> Any | None:
        """What was made last; None while it is made for the first time.

        Raises:
            PerronError: it can't be made.
        """
        known = self._made.get(key)
        if known is not None:
            if time.monotonic() - known[0] > fresh_s:
                self._submit(key, make)
            return known[1]
        try:
            self._submit(key, make).result(WAIT_S)
        except TimeoutError:
            return None
        return self._made[key][1]

    def _make(self, key: Any, make: Callable[[], Any]) -> None:
        try:
            value = make()
            with self._lock:
                self._made[key] = (time.monotonic(), value)
        finally:
            with self._lock:
                self._making.pop(key, None)

    @property
    def progress(self) -> str:
        """What is being made, in words."""
        return self._progress

    # -- models

    def models(self) -> list[str]:
        """Their names, the one that changed last first."""
        rows = self.project.ledger.list_versions()
        newest = {row["model"]: max(r["made"] for r in rows if r["model"] == row["model"]) for row in rows}
        return sorted(newest, key=lambda name: newest[name], reverse=True)

    def champion(self, model: str) -> dict[str, Any] | None:
        """The champion's row, or None."""
        try:
            return self.project.ledger.get_version(model, CHAMPION)
        except NotFound:
            return None

    def bundle(self, row: dict[str, Any]) -> Bundle | GraphBundle:
        """A version's bundle, opened once.

        Raises:
            BundleError: it is damaged.
        """
        if row["bundle"] not in self._bundles:
            self._bundles[row["bundle"]] = load(self.project.ledger.bundle_path(row), row["bundle"])
        return self._bundles[row["bundle"]]

    def gates(self, run: str) -> list[dict[str, Any]]:
        """What the gates of a run said: `name`, `passed`, `value`, `limit`."""
        key = self.project.ledger.step_key(run, "gates")
        found = None if key is None else self.project.ledger.find_result(key)
        gates: list[dict[str, Any]] = found.get("gates", []) if isinstance(found, dict) else []
        return gates

    # -- traffic

    def traffic(self, model: str, version: int) -> Traffic | None:
        """A version's traffic and the newest look at it; None while it is added up for the first time.

        Raises:
            PerronError: it can't be read.
        """
        found = self.kept(("days", model, version), lambda: self._add_up(model, version))
        if found is None:
            return None
        look = self.kept(("look", model, version), lambda: self._look(model, version))
        return Traffic(tuple(found), look if look is not None else self._last_look(model, version))

    def _days_of(self, model: str, version: int) -> Days:
        if (model, version) not in self._days:
            self._days[model, version] = Days(Monitor(self.project, model, version))
        return self._days[model, version]

    def _add_up(self, model: str, version: int) -> list[Day]:
        def tell(done: int, of: int) -> None:
            self._progress = f"The traffic of {model} version {version} is added up: day {done + 1} of {of}."

        try:
            return self._days_of(model, version).update(tell)
        finally:
            self._progress = ""

    def _look_file(self, model: str, version: int) -> Path:
        return self.project.folder / ".perron" / "dashboard" / quote(model, safe="") / str(version) / "look.json"

    def _last_look(self, model: str, version: int) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = json.loads(self._look_file(model, version).read_bytes())
            return found
        except (OSError, ValueError):
            return None

    def _look(self, model: str, version: int) -> dict[str, Any]:
        self._progress = f"Outcomes of {model} are joined to their predictions, and its days judged."
        try:
            days = self._days_of(model, version)
            made = days.update()
            joined = days.monitor.performance.update()
            before = self._looked.get((model, version))
            if before is not None and not joined and before[0] == made:
                return before[1]
            monitor = replace(days.monitor, windows=days.views(made))
            found = monitor.between("day", None, None, datetime.now(UTC)).to_json()
            write_atomically(self._look_file(model, version), json.dumps(found))
            self._looked[model, version] = (made, found)
            return found
        finally:
            self._progress = ""

    def performance(self, model: str, version: int) -> list[Period]:
        """The outcomes by day, as they are joined by now."""
        return Performance(
            self.project.folder / ".perron", self.project.ledger, self.project.predictions
        ).by_day(model, version)  # fmt: skip

    # -- data

    def profile(self, entry: catalog.Entry) -> str | None:
        """The page of a snapshot's profile; None while it is made.

        Raises:
            PerronError: the rows aren't in the store any more.
        """
        path = self.project.folder / ".perron" / "dashboard" / f"profile-{entry.digest[:32]}.html"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        made: str | None = self.kept(("profile", entry.digest), lambda: self._profile(entry, path), float("inf"))
        return made

    def _profile(self, entry: catalog.Entry, path: Path) -> str:
        self._progress = "The snapshot's profile is made."
        try:
            schema = catalog.schema_of(self.project, entry)
            target = schema.target.name if schema.target else None
            made = Profile(schema.name, catalog.sketch_of(self.project, entry), target).to_html()
            write_atomically(path, made)
            return made
        finally:
            self._progress = ""

    # -- the service

    def levels(self, model: str) -> tuple[Levels | None] | None:
        """The levels of a model's service over a month (None: its servers noted none); None while they are added up.

        Raises:
            PerronError: canvas.toml is wrong.
        """
        found: tuple[Levels | None] | None = self.kept(("levels", model), lambda: self._levels(model))
        return found

    def _levels(self, model: str) -> tuple[Levels | None]:
        limits = limits_of(read_canvas(self.project.folder))
        folder = self.project.folder / ".perron" / "minutes"
        return (levels_of(folder, model, limits, since=None, until=None, now=datetime.now(UTC)),)

    def latency(self) -> "Latency | None":
        """What the service says of its latency and errors; None where it can't be reached."""
        try:
            with urlopen(Request(f"{self.settings.server.rstrip('/')}/metrics"), timeout=METRICS_TIMEOUT_S) as reply:
                return latency_of(reply.read().decode())
        except (OSError, ValueError, PerronError):
            return None


@dataclass(frozen=True)
class Latency:
    """Of a service since it started: answered requests and rows, errors, and (seconds) latency's quantiles."""

    requests: int
    rows: int
    errors: int
    waiting: int
    median_s: float | None
    p95_s: float | None
    p99_s: float | None


def latency_of(page: str) -> Latency:
    """The numbers of a page in Prometheus's text format, of all models, versions and routes.

    Raises:
        ValueError: it isn't such a page.
    """
    from prometheus_client.parser import text_string_to_metric_families

    totals = {"perron_requests_total": 0.0, "perron_predictions_total": 0.0, "perron_prediction_errors_total": 0.0, "perron_queue_rows": 0.0}  # fmt: skip
    buckets: dict[float, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in totals:
                totals[sample.name] += sample.value
            elif sample.name == "perron_request_seconds_bucket":
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
    requests, rows, errors, waiting = (int(value) for value in totals.values())
    return Latency(requests, rows, errors, waiting, *(_quantile(buckets, share) for share in (0.5, 0.95, 0.99)))


def _quantile(buckets: dict[float, float], share: float) -> float | None:
    """Within its bucket in proportion, as Prometheus's histogram_quantile does."""
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    wanted, low, below = share * buckets[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= wanted:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / max(buckets[bound] - below, 1e-9)
        low, below = bound, buckets[bound]
    return low
