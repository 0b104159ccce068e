"""A project in; what its model's traffic looks like beside its training, how well it does, and what to worry about, out.

Everything comes from what the server writes already: the live windows beside the bundle's reference
(drift), outcomes joined to the log (performance), the bundle's own estimators (performance before
outcomes). Nothing here touches a server.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal

import numpy as np

from perron.bundle import Bundle, load
from perron.canvas import read_canvas
from perron.clock import text_of
from perron.contract import Role
from perron.domain import tell_apart
from perron.drift import Limits, find_drift, show_number
from perron.errors import DataError, MissingPackage
from perron.estimate import Calibration, Estimate, expected_accuracy, expected_error
from perron.ledger import CHAMPION
from perron.levels import Levels, ServiceLimits, excess_of, levels_of, limits_of
from perron.metrics import METRICS
from perron.monitor.change import find_change
from perron.monitor.finding import Finding, FindingKind, Look, Severity, WindowView
from perron.monitor.skew import hold_to_training
from perron.performance import Losses, Performance, Period
from perron.project import Project
from perron.sketch import TableSketch
from perron.tensors import NULL_TEXT, raw_dtype
from perron.windows import CONFIDENCE, PREDICTION, Key, merged, read_windows, rebuild, sketch_target

__all__ = ["Finding", "FindingKind", "Look", "Monitor", "WindowView", "find_change", "hold_to_training", "look"]

Every = Literal["hour", "day", "all"]
LEAST_ROWS = 50  # in a window; fewer are joined with the windows before
MOST_PERIODS = 90
WORSE = 0.1  # than on the test rows: the share from which a loss of performance matters
ESTIMATE_WORSE = 0.15
TOLD_APART = 0.55  # the AUC of a classifier of rows of now and before, from which on it matters
FEWEST_OUTCOMES = 30


def look(
    project: Project,
    model: str,
    *,
    version: int | str = CHAMPION,
    every: Every = "day",
    since: datetime | None = None,
    until: datetime | None = None,
    limits: Limits | None = None,
    now: datetime | None = None,
) -> Look:
    """One look at a model's version.

    Args:
        project: opened.
        model: its name.
        version: a number or an alias.
        every: how traffic is parted into periods; small ones are joined with those before.
        since, until: the traffic that is looked at; None: all there is (90 periods at most).
        limits: when drift counts.
        now: the present time, for the look's own.

    Raises:
        NotFound: there is no such version.
        BundleError: its bundle is damaged.
    """
    return Monitor(project, model, version, limits or Limits()).between(every, since, until, now or datetime.now(UTC))


@dataclass
class Monitor:
    """Looks at one version of a model, again and again.

    `windows` are looked at in place of those that servers wrote, where these were merged already.
    """

    project: Project
    model: str
    reference: int | str = CHAMPION
    limits: Limits = field(default_factory=Limits)
    windows: Sequence[WindowView] | None = None

    @cached_property
    def _row(self) -> dict[str, Any]:
        return self.project.ledger.get_version(self.model, self.reference)

    @cached_property
    def bundle(self) -> Bundle:
        return load(self.project.ledger.bundle_path(self._row), self._row["bundle"])

    @property
    def version(self) -> int:
        return int(self._row["version"])

    @cached_property
    def sketch(self) -> TableSketch | None:
        """What training and test rows looked like, and what was predicted of the test rows; None in an older bundle."""
        return self.bundle.reference

    @cached_property
    def metric(self) -> str:
        """What performance is told by: rmse of numbers; log loss of classes where there are probabilities, else accuracy."""
        if self.bundle.task == "regression":
            return "rmse"
        return "log_loss" if self.bundle.has_probabilities else "accuracy"

    @cached_property
    def expected(self) -> float | None:
        """The metric on the test rows."""
        value = self.bundle.manifest["metrics"].get(self.metric)
        return None if value is None else float(value)

    @cached_property
    def performance(self) -> Performance:
        """The project's joined outcomes; slices are the fields with the roles Group and the categories of few values."""
        fields = self.bundle.schema.features
        names = [
            f.name for f in fields if f.kind == "category" and len(f.values) <= 12 and Role.SENSITIVE not in f.roles
        ]
        return Performance(
            self.project.folder / ".perron", self.project.ledger, self.project.predictions, {self.model: names[:4]}
        )

    def look(self, every: str = "day", days: float | None = None, *, skew: bool = False) -> Look:
        """A look at the last days, or at all there is; `skew` holds served rows to those of training, too.

        Raises:
            DataError: `every` isn't hour, day or all.
            NotFound: there is no such version; the contract has no Id for `skew`.
        """
        if every not in ("hour", "day", "all"):
            raise DataError(f"Traffic is parted by {every!r}; use hour, day or all.")
        now = datetime.now(UTC)
        found = self.between(every, None if days is None else now - timedelta(days=days), None, now)  # type: ignore[arg-type]
        if not skew:
            return found
        more = hold_to_training(self.project, self.model, self.version)
        return replace(found, findings=(*found.findings, *more))

    def rebuild(self) -> int:
        """How many live windows were made anew from the prediction log, of every version of the model."""
        schemas = {}
        for row in self.project.ledger.list_versions(self.model):
            bundle = load(self.project.ledger.bundle_path(row), row["bundle"])
            schemas[int(row["version"])] = (bundle.schema, bundle.has_probabilities)
        return rebuild(self.project.folder / ".perron" / "windows", self.project.predictions, self.model, schemas)

    def between(self, every: Every, since: datetime | None, until: datetime | None, now: datetime) -> Look:
        """A look at the traffic between two moments."""
        windows = self._windows(every, since, until) if self.windows is None else list(self.windows)
        first, last = _day(since) if since else "", _day(until) if until else "9999"
        self.performance.update()
        periods = self.performance.by_day(self.model, self.version, since=first, until=last)
        outcomes = sum((period.losses for period in periods), Losses())
        rows = sum(window.rows for window in windows)
        estimates = [
            (text_of(window.start), estimate)
            for window in windows
            if (estimate := self.estimate(window.sketch)) is not None
        ]

        def measured(**of: str) -> Losses:
            days = self.performance.by_day(self.model, self.version, since=first, until=last, **of)
            return sum((period.losses for period in days), Losses())

        slices = [(part, measured(part=part)) for part in self.performance.parts(self.model)[:60]]
        routes = [(route, measured(route=route)) for route in self.performance.routes(self.model, self.version)]
        findings = [
            *self._no_reference(),
            *self._drift_findings(windows),
            *self._joint_findings(windows),
            *self._target_findings(windows, last),
            *self._performance_findings(periods),
            *self._estimate_findings(estimates),
            *self._concept_findings(first),
        ]
        levels, beyond, judged = self._service(since, until, now)
        findings += beyond
        rank = {"high": 0, "medium": 1, "low": 2}
        return Look(
            self.model, self.version, text_of(now), self.bundle.task, rows, tuple(windows),
            tuple(sorted(findings, key=lambda f: rank[f.severity])), self.metric, self.expected, tuple(periods), outcomes,
            min(1.0, outcomes.n / rows) if rows else None, tuple(estimates),
            tuple((part, losses) for part, losses in slices if losses.n),
            tuple((route, losses) for route, losses in routes if losses.n), levels, frozenset(judged),
        )  # fmt: skip

    # -- traffic and drift

    def _windows(self, every: Every, since: datetime | None, until: datetime | None) -> list[WindowView]:
        folder = self.project.folder / ".perron" / "windows"
        found = read_windows(folder, self.model, version=self.version, since=since, until=until)
        periods: dict[datetime, list[TableSketch]] = {}
        for key, sketch in found.items():
            periods.setdefault(_period_of(key, every), []).append(sketch)
        made: list[WindowView] = []
        starts = sorted(periods)[-MOST_PERIODS:]
        waiting: list[TableSketch] = []
        begun: datetime | None = None
        for place, start in enumerate(starts):
            waiting += periods[start]
            begun = begun or start
            if sum(sketch.rows for sketch in waiting) < LEAST_ROWS and place + 1 < len(starts):
                continue
            sketch = merged(waiting)
            drifts = () if self.sketch is None else tuple(find_drift(self.sketch, sketch, self.limits))
            made.append(WindowView(begun, sketch.rows, sketch, drifts))
            waiting, begun = [], None
        return made

    # -- the service

    @property
    def service_limits(self) -> ServiceLimits:
        """What the service must hold: the canvas's numbers, else the defaults.

        Raises:
            DeclarationError: canvas.toml is wrong.
        """
        return limits_of(read_canvas(self.project.folder))

    def _service(
        self, since: datetime | None, until: datetime | None, now: datetime
    ) -> tuple[Levels | None, list[Finding], set[str]]:
        """The levels of the service, what of them is beyond its limits, and of which kinds there was enough to judge."""
        limits = self.service_limits
        folder = self.project.folder / ".perron" / "minutes"
        levels = levels_of(folder, self.model, limits, since=since, until=until, now=now)
        if levels is None:
            return None, [], set()
        beyond, judged = excess_of(levels, limits, self.version)
        return levels, [
            self._finding(one.kind, one.subject, one.severity, one.detail, one.value, one.limit, one.since, one.route)
            for one in beyond
        ], judged  # fmt: skip

    def _no_reference(self) -> list[Finding]:
        if self.sketch is not None:
            return []
        words = "The bundle has no reference of its training; `perron run` makes one, and drift is found from then on."
        return [self._finding("no_reference", self.model, "low", words)]

    def _drift_findings(self, windows: Sequence[WindowView]) -> list[Finding]:
        """What drifted in the newest period, each with the first period from which on it was so."""
        if not windows:
            return []
        found = []
        for drift in windows[-1].drifts:
            since = windows[-1].start
            for window in reversed(windows[:-1]):
                if not any((one.column, one.kind) == (drift.column, drift.kind) for one in window.drifts):
                    break
                since = window.start
            is_answer = drift.column in (PREDICTION, CONFIDENCE) and drift.column not in self.bundle.schema
            kind: FindingKind = "prediction_drift" if is_answer else "drift"
            found.append(
                Finding(
                    kind, drift.column, drift.severity, drift.detail, drift.effect, self.limits.effect, text_of(since),
                    self.model, self.version, "", drift,
                )
            )  # fmt: skip
        return found

    def _joint_findings(self, windows: Sequence[WindowView]) -> list[Finding]:
        """Whether the newest period's columns come together otherwise than in training, though none of them moved by itself."""
        if not windows or self.sketch is None:
            return []
        moved = {drift.column for drift in windows[-1].drifts}
        answers = {name for name in self.sketch.columns if name not in self.bundle.schema}
        told = tell_apart(self.sketch, windows[-1].sketch, {*moved, *answers})
        if told is None or told.auc < TOLD_APART or told.p_value > 0.001:
            return []
        names = [name for name, share in told.columns[:3] if share > 1 / len(told.columns)]
        severity: Severity = "high" if told.auc >= 0.8 else "medium" if told.auc >= 0.65 else "low"
        detail = (
            f"A classifier tells {told.rows[1]:,} rows of now from {told.rows[0]:,} of the training by {', '.join(names)} together "
            f"(AUC {told.auc:.2f}; 0.5 is chance), though {'none of them' if len(names) > 1 else 'it'} moved by itself."
        )
        return [
            self._finding(
                "multivariate", ", ".join(names), severity, detail, told.auc, TOLD_APART, text_of(windows[-1].start)
            )
        ]

    def _target_findings(self, windows: Sequence[WindowView], until: str) -> list[Finding]:
        """Whether the outcomes of the newest period are distributed as the target was in training."""
        target = self.bundle.schema.target
        if self.sketch is None or target is None or target.name not in self.sketch.columns or not windows:
            return []
        start = windows[-1].start
        values = self.performance.outcomes(self.model, self.version, since=_day(start), until=until)
        if not values:
            return []
        window = sketch_target(self.bundle.schema, values)
        return [
            Finding(
                "target_drift", drift.column, drift.severity, f"Of {len(values)} outcomes: {drift.detail}", drift.effect,
                self.limits.effect, text_of(start), self.model, self.version, "", drift,
            )
            for drift in find_drift(self.sketch, window, self.limits)
        ]  # fmt: skip

    # -- performance

    def _is_worse(self, value: float, by: float) -> bool:
        if self.expected is None:
            return False
        if METRICS[self.metric].higher_is_better:
            return value < self.expected * (1 - by)
        return value > self.expected * (1 + by)

    def _performance_findings(self, periods: Sequence[Period]) -> list[Finding]:
        """The newest days with enough outcomes together, where even the good end of their interval is worse than on the test rows."""
        recent, since = Losses(), ""
        for period in reversed(periods):
            recent, since = recent + period.losses, period.day
            if recent.n >= FEWEST_OUTCOMES * 4:
                break
        found = recent.metric(self.metric)
        if recent.n < FEWEST_OUTCOMES or found is None or self.expected is None:
            return []
        value, low, high = found
        good_end = high if self.metric == "accuracy" else low
        if not self._is_worse(value, WORSE) or not self._is_worse(good_end, 0.0):
            return []
        began = self._bad_since(periods) or since
        times = value / self.expected if self.expected else math.inf
        severity: Severity = "high" if self._is_worse(value, 3 * WORSE) else "medium"
        words = f"{self.metric} is {show_number(value)} (95 %: {show_number(low)} to {show_number(high)}) on {recent.n} outcomes, {times:.2f} × that of the test rows ({show_number(self.expected)})."
        return [self._finding("performance", self.metric, severity, words, value, self.expected, began)]

    def _bad_since(self, periods: Sequence[Period]) -> str | None:
        """The first day of the newest stretch of days that were worse than expected."""
        began = None
        for period in reversed(periods):
            found = period.losses.metric(self.metric)
            if found is None or not self._is_worse(found[0], WORSE):
                break
            began = period.day
        return began

    def estimate(self, sketch: TableSketch) -> Estimate | None:
        """The performance to be expected of a window without outcomes; None where the bundle has no estimator."""
        facts = self.bundle.manifest.get("estimator") or {}
        if "calibration" in facts and CONFIDENCE in sketch.columns:
            return expected_accuracy(Calibration.from_json(facts["calibration"]), sketch.columns[CONFIDENCE])
        if "loss" in facts and sketch.rows:
            feed = _sample_feed(self.bundle, sketch)
            if feed is None:
                return None
            errors = self.bundle.run_loss(feed)
            return expected_error(errors, sketch.rows, facts["loss"]["rows"], facts["loss"]["spread"])
        return None

    def _estimate_findings(self, estimates: Sequence[tuple[str, Estimate]]) -> list[Finding]:
        if not estimates:
            return []
        start, estimate = estimates[-1]
        expected = self.bundle.manifest["metrics"].get(estimate.metric)
        if expected is None:
            return []
        if estimate.metric == "accuracy":
            is_worse = estimate.high < expected and (1 - estimate.value) > (1 - expected) * (1 + ESTIMATE_WORSE)
        else:
            is_worse = estimate.low > expected and estimate.value > expected * (1 + ESTIMATE_WORSE)
        if not is_worse:
            return []
        words = (
            f"{estimate.metric} is estimated at {show_number(estimate.value)} by {estimate.method}, before outcomes "
            f"(on the test rows {show_number(float(expected))}); outcomes will tell."
        )
        return [self._finding("estimate", estimate.metric, "medium", words, estimate.value, float(expected), start)]

    # -- concept

    def _concept_findings(self, since: str) -> list[Finding]:
        """A change of the errors over time, told by detectors that look at each outcome (extra `monitor`)."""
        stream = self.performance.stream(self.model, self.version, since=since)
        if len(stream) < 4 * FEWEST_OUTCOMES:
            return []
        try:
            found = find_change(
                [(error, right) for _, error, right in stream], is_class=self.bundle.task == "classification"
            )
        except MissingPackage:
            return []
        if found is None:
            return []
        place, names, before, after = found
        if after <= before * (1 + WORSE):
            return []  # it got better
        words = (
            f"The mean absolute error went from {show_number(before)} to {show_number(after)}"
            if self.bundle.task == "regression"
            else f"The share of errors went from {before:.1%} to {after:.1%}"
        )
        severity: Severity = "high" if after > before * 1.5 else "medium"
        detail = f"{words}: the relation of inputs to target changed ({', '.join(names)})."
        return [self._finding("concept", "errors", severity, detail, after, before, stream[place][0])]

    def _finding(
        self, kind: FindingKind, subject: str, severity: Severity, detail: str, value: float | None = None,
        limit: float | None = None, since: str | None = None, route: str = "",
    ) -> Finding:  # fmt: skip
        return Finding(kind, subject, severity, detail, value, limit, since, self.model, self.version, route)


def _sample_feed(bundle: Bundle, sketch: TableSketch) -> dict[str, Any] | None:
    """The raw arrays of a window's sampled rows; None where a feature isn't in the sample (a sensitive one)."""
    feed: dict[str, Any] = {}
    for f in bundle.schema.features:
        values = sketch.sample.columns.get(f.name)
        if values is None:
            return None
        kind = raw_dtype(f)
        if kind == "string":
            texts = np.array(values, object)
            texts[[value is None for value in texts]] = NULL_TEXT
            feed[f.name] = texts
        elif values.dtype == object:
            numbers = np.array([np.nan if value is None else float(value) for value in values])
            feed[f.name] = numbers.astype(kind) if kind != "float64" else numbers
        else:
            feed[f.name] = values.astype(kind)
    return feed


def _period_of(key: Key, every: Every) -> datetime:
    if every == "hour":
        return key.hour
    return key.hour.replace(hour=0) if every == "day" else datetime(1970, 1, 1, tzinfo=UTC)


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()
