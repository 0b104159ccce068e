"""Predictions of several versions and their outcomes in; how the versions compare out, at any time and however often one looks.

The interval of a difference is an asymptotic confidence sequence (I. Waudby-Smith, D. Arbour,
R. Sinha, E. H. Kennedy and A. Ramdas, "Time-uniform central limit theory and asymptotic confidence
sequences", 2021, theorem 2.2): it holds at all times at once, so that one may look after every
outcome and stop when it excludes zero.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from perron.errors import NotFound
from perron.ledger import Ledger
from perron.predictions import Recorded, find, iterate

__all__ = ["ArmReport", "Difference", "Moments", "Report", "Tally", "compare_arms", "has_won", "loss_of", "report"]

ALPHA = 0.05
TUNED_FOR = 1000  # outcomes at which the interval is the narrowest
FEWEST = 30  # outcomes per arm below which nothing is decided: the theory is one of large numbers
FEW = 500  # outcomes that are looked up one by one; for more the log is read once
KEPT = 200_000  # predictions whose loss is remembered, so that a correction can replace it


@dataclass
class Moments:
    """Count, mean and sum of squared deviations of losses (B. P. Welford, 1962), with removal."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        delta = value - self.mean
        self.mean += delta / self.n
        self.m2 += delta * (value - self.mean)

    def remove(self, value: float) -> None:
        """Takes back a value that was added."""
        if self.n <= 1:
            self.n, self.mean, self.m2 = 0, 0.0, 0.0
            return
        mean = (self.n * self.mean - value) / (self.n - 1)
        self.m2 = max(0.0, self.m2 - (value - self.mean) * (value - mean))
        self.n, self.mean = self.n - 1, mean

    @property
    def variance(self) -> float:
        return self.m2 / (self.n - 1) if self.n > 1 else math.nan


@dataclass(frozen=True)
class Difference:
    """The mean loss of one arm minus the first's, its interval (95 %, at all times at once), and what that says."""

    value: float
    low: float
    high: float
    verdict: Literal["better", "worse", "undecided"]


def compare_arms(first: Moments, other: Moments, alpha: float = ALPHA) -> Difference:
    """How another arm's mean loss differs from the first's; undecided while either has fewer than 30 outcomes."""
    value = other.mean - first.mean
    if min(first.n, other.n) < FEWEST:
        return Difference(value, -math.inf, math.inf, "undecided")
    variance = first.variance / first.n + other.variance / other.n
    t = first.n + other.n
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / TUNED_FOR
    half = math.sqrt(variance * 2 * (t * rho2 + 1) / (t * rho2) * math.log(math.sqrt(t * rho2 + 1) / alpha))
    low, high = value - half, value + half
    return Difference(value, low, high, "worse" if low > 0 else "better" if high < 0 else "undecided")


def loss_of(recorded: Recorded, outcome: Any) -> float:
    """What a prediction lost: the squared error of a number; of a class its log loss where there are shares, else 0 or 1."""
    value = recorded.value
    if recorded.probabilities is not None:
        label = (
            outcome if isinstance(outcome, str) else str(outcome).lower() if isinstance(outcome, bool) else str(outcome)
        )
        return -math.log(max(recorded.probabilities.get(label, 0.0), 1e-15))
    if isinstance(value, bool | str) or isinstance(outcome, bool | str):
        return float(value != outcome)
    return float((value - outcome) ** 2)


def has_won(recorded: Recorded, outcome: Any, within: float | None) -> bool:
    """Whether a bandit counts it as won."""
    if within is not None and isinstance(recorded.value, int | float) and not isinstance(outcome, bool | str):
        return bool(abs(recorded.value - outcome) <= within)
    return bool(recorded.value == outcome)


@dataclass
class Tally:
    """What the outcomes since a decision say of each route, kept up to date outcome by outcome.

    Args:
        model: its name.
        since: the decision's time; predictions before it don't count.
        within: of a bandit of numbers.
    """

    model: str
    since: str
    within: float | None = None
    losses: dict[str, Moments] = field(default_factory=dict)
    wins: dict[str, int] = field(default_factory=dict)
    last: int = 0
    _counted: dict[str, tuple[str, float, bool]] = field(default_factory=dict)

    def update(self, ledger: Ledger, log_folder: Path, limit: int = 10_000) -> int:
        """How many new outcomes were counted."""
        rows = ledger.outcomes_after(self.last, self.since, limit)
        if not rows:
            return 0
        self.last = rows[-1]["id"]
        newest = {row["prediction"]: row["value"] for row in rows}  # of several, the last
        count = 0
        for recorded in _recorded(log_folder, newest):
            if recorded.header["model"] != self.model or recorded.time < self.since:
                continue
            self._count(recorded, newest[recorded.id])
            count += 1
        return count

    def _count(self, recorded: Recorded, outcome: Any) -> None:
        before = self._counted.pop(recorded.id, None)
        if before is not None:
            route, loss, won = before
            self.losses[route].remove(loss)
            self.wins[route] -= won
        route, loss, won = recorded.route, loss_of(recorded, outcome), has_won(recorded, outcome, self.within)
        self.losses.setdefault(route, Moments()).add(loss)
        self.wins[route] = self.wins.get(route, 0) + won
        self._counted[recorded.id] = (route, loss, won)
        if len(self._counted) > KEPT:
            self._counted.pop(next(iter(self._counted)))


def _recorded(log_folder: Path, wanted: Mapping[str, Any]) -> Iterator[Recorded]:
    """The logged predictions of these ids."""
    if len(wanted) > FEW:
        yield from (recorded for recorded in iterate(log_folder) if recorded.id in wanted)
        return
    for prediction in wanted:
        try:
            yield find(log_folder, prediction)
        except NotFound:
            continue  # forgotten since


@dataclass(frozen=True)
class ArmReport:
    """A route in a report: its version, predictions, outcomes, mean loss, and how it differs from the first route."""

    route: str
    version: int
    predictions: int
    outcomes: int
    mean_loss: float | None
    difference: Difference | None
    agreement: float | None = None


@dataclass(frozen=True)
class Report:
    """How the routes of a model compare since a decision."""

    model: str
    since: str
    loss: str
    arms: tuple[ArmReport, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "since": self.since,
            "loss": self.loss,
            "arms": [
                {**vars(arm), "difference": None if arm.difference is None else _plain(arm.difference)}
                for arm in self.arms
            ],
        }


def _plain(difference: Difference) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and math.isinf(v) else v for name, v in vars(difference).items()}


def report(ledger: Ledger, log_folder: Path, model: str, *, since: str, first: str, has_shadow: bool = False) -> Report:
    """The comparison of every route that predicted since then with the route `first`.

    A shadow's predictions have no outcomes of their own: they are joined to those of the answers that they
    shadowed, and `agreement` says how often both gave the same value.

    Args:
        ledger: for the outcomes.
        log_folder: of the prediction log.
        model: its name.
        since: ISO 8601 in UTC.
        first: the route that the others are compared with.
        has_shadow: whether some route is a shadow, whose predictions are held beside the answers.
    """
    known = ledger.outcomes_by_prediction(since)
    losses: dict[str, Moments] = {}
    counts: dict[tuple[str, int], int] = {}
    answers: dict[tuple[str, int], tuple[str, Any]] = {}  # only where there is a shadow to compare them with
    is_number = False
    same: dict[str, list[bool]] = {}
    shares = False
    shadows: list[Recorded] = []
    for recorded in iterate(log_folder):
        if recorded.header["model"] != model or recorded.time < since:
            continue
        shares = shares or recorded.probabilities is not None
        key = (recorded.route, recorded.header["version"])
        counts[key] = counts.get(key, 0) + 1
        if recorded.shadow_of is not None:
            shadows.append(recorded)
            continue
        is_number = is_number or (isinstance(recorded.value, int | float) and not isinstance(recorded.value, bool))
        if has_shadow:
            answers[recorded.request, recorded.place] = (recorded.id, recorded.value)
        if recorded.id in known:
            losses.setdefault(recorded.route, Moments()).add(loss_of(recorded, known[recorded.id]))
    for recorded in shadows:
        answer = answers.get((str(recorded.shadow_of), recorded.place))
        if answer is None:
            continue
        same.setdefault(recorded.route, []).append(answer[1] == recorded.value)
        if answer[0] in known:
            losses.setdefault(recorded.route, Moments()).add(loss_of(recorded, known[answer[0]]))
    base = losses.get(first, Moments())
    arms = []
    for (route, version), count in sorted(counts.items(), key=lambda item: (item[0][0] != first, item[0])):
        found = losses.get(route, Moments())
        agreed = same.get(route)
        arms.append(
            ArmReport(
                route, version, count, found.n, found.mean if found.n else None,
                None if route == first else compare_arms(base, found),
                None if not agreed else sum(agreed) / len(agreed),
            )
        )  # fmt: skip
    return Report(model, since, "log loss" if shares else "squared error" if is_number else "error", tuple(arms))
