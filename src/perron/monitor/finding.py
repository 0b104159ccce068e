"""What one look at a model's traffic found, as plain values: findings, periods of traffic, performance, levels."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from perron.clock import text_of
from perron.drift import Drift
from perron.estimate import Estimate
from perron.levels import Levels
from perron.performance import Losses, Period
from perron.sketch import TableSketch

__all__ = ["Finding", "FindingKind", "Look", "Severity", "WindowView"]

FindingKind = Literal[
    "drift", "multivariate", "prediction_drift", "target_drift", "performance", "estimate", "concept", "skew", "errors", "latency", "budget", "traffic",
    "resources", "cost", "no_reference",
]  # fmt: skip
Severity = Literal["low", "medium", "high"]


@dataclass(frozen=True)
class Finding:
    """One thing to worry about: what, how much, since when, of which version and route."""

    kind: FindingKind
    subject: str
    severity: Severity
    detail: str
    value: float | None
    limit: float | None
    since: str | None
    model: str
    version: int
    route: str
    drift: Drift | None = None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "drift": None if self.drift is None else self.drift.to_json()}


@dataclass(frozen=True)
class WindowView:
    """A period of traffic: when it began, its rows, its sketch, and what drifted in it."""

    start: datetime
    rows: int
    sketch: TableSketch
    drifts: tuple[Drift, ...]

    def to_json(self) -> dict[str, Any]:
        return {"start": text_of(self.start), "rows": self.rows, "drifts": [drift.to_json() for drift in self.drifts]}


@dataclass(frozen=True)
class Look:
    """What one look found: of a model's version, over periods of time.

    `levels` are those of the service, None where no server left any; `judged` the kinds of findings that they were enough for.
    """

    model: str
    version: int
    at: str
    task: str
    rows: int
    windows: tuple[WindowView, ...]
    findings: tuple[Finding, ...]
    metric: str
    expected: float | None
    performance: tuple[Period, ...]
    outcomes: Losses
    coverage: float | None
    estimates: tuple[tuple[str, Estimate], ...]
    slices: tuple[tuple[str, Losses], ...] = ()
    routes: tuple[tuple[str, Losses], ...] = ()
    levels: Levels | None = None
    judged: frozenset[str] = frozenset()

    @property
    def worst(self) -> Severity | None:
        """The greatest severity of the findings, or None."""
        return next((s for s in ("high", "medium", "low") if any(f.severity == s for f in self.findings)), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `perron monitor --json` prints it."""
        measured = self.outcomes.metric(self.metric)
        return {
            "model": self.model, "version": self.version, "at": self.at, "rows": self.rows,
            "findings": [finding.to_json() for finding in self.findings],
            "windows": [window.to_json() for window in self.windows],
            "performance": {
                "metric": self.metric, "expected": self.expected, "outcomes": self.outcomes.n, "coverage": self.coverage,
                "value": None if measured is None else measured[0],
                "interval": None if measured is None else list(measured[1:]),
                "mean_delay_s": Period("", self.outcomes).mean_delay_s,
                "periods": [_period_json(period, self.metric) for period in self.performance],
                "slices": [_part_json("slice", name, losses, self.metric) for name, losses in self.slices],
                "routes": [_part_json("route", name, losses, self.metric) for name, losses in self.routes],
            },
            "estimates": [{"start": start, **estimate.to_json()} for start, estimate in self.estimates],
            "service": None if self.levels is None else self.levels.to_json(),
        }  # fmt: skip


def _part_json(kind: str, name: str, losses: Losses, metric: str) -> dict[str, Any]:
    found = losses.metric(metric)
    return {kind: name, "outcomes": losses.n, "value": found and found[0], "interval": found and list(found[1:])}


def _period_json(period: Period, metric: str) -> dict[str, Any]:
    found = period.losses.metric(metric)
    return {
        "day": period.day, "outcomes": period.losses.n, "value": found and found[0],
        "interval": found and list(found[1:]), "mean_delay_s": period.mean_delay_s,
    }  # fmt: skip
