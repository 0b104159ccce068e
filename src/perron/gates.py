"""Metrics in, a verdict per gate out: what a model must reach before it is registered.

gates=[pn.gate("rmse", at_most=60_000), pn.gate.no_worse_than_champion("rmse")]
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from perron.contract import format_number
from perron.errors import DeclarationError
from perron.metrics import metric

__all__ = ["Gate", "Verdict", "gate", "judge_gate"]


@dataclass(frozen=True)
class Gate:
    """One demand on one metric of the test rows."""

    metric: str
    rule: Literal["at_most", "at_least", "no_worse_than_champion", "better_than_baseline"]
    limit: float = 0.0  # for the last two: the tolerated loss, as a share of the other's value

    @property
    def name(self) -> str:
        """`rmse at most 60000`."""
        words = f"{self.metric} {self.rule.replace('_', ' ')}"
        if self.rule in ("at_most", "at_least"):
            return f"{words} {format_number(self.limit)}"
        return words + (f" by more than {format_number(round(self.limit * 100, 10))} %" if self.limit else "")


@dataclass(frozen=True)
class Verdict:
    """What a gate said: the value, the limit that it was held to (None: nothing to compare with), and whether it passed."""

    name: str
    passed: bool
    value: float | None
    limit: float | None

    def to_json(self) -> dict[str, Any]:
        return vars(self)


class _GateMaker:
    """Makes gates: `gate("rmse", at_most=…)`, `gate.no_worse_than_champion("rmse")`."""

    def __call__(self, name: str, *, at_most: float | None = None, at_least: float | None = None) -> Gate:
        """A gate with a fixed limit.

        Raises:
            DeclarationError: an unknown metric, or not exactly one of `at_most` and `at_least`.
        """
        metric(name)
        if (at_most is None) == (at_least is None):
            raise DeclarationError(f"The gate on {name} needs either at_most or at_least.")
        limit = at_most if at_most is not None else at_least
        if not isinstance(limit, int | float) or isinstance(limit, bool) or not abs(limit) <= sys.float_info.max:
            raise DeclarationError(f"The gate on {name} has the limit {limit!r}; give a finite number.")
        return Gate(name, "at_most" if at_most is not None else "at_least", float(limit))

    def no_worse_than_champion(self, name: str, *, tolerance: float = 0.0) -> Gate:
        """A gate that compares with the champion on the same test rows; passes when there is no champion.

        Args:
            name: the metric.
            tolerance: the loss that is let through, as a share of the champion's value: 0.01 is 1 %.

        Raises:
            DeclarationError: an unknown metric or a negative tolerance.
        """
        return self._relative(name, "no_worse_than_champion", tolerance)

    def better_than_baseline(self, name: str) -> Gate:
        """A gate that the naive baseline (mean, or most frequent class) doesn't pass.

        Raises:
            DeclarationError: an unknown metric.
        """
        return self._relative(name, "better_than_baseline", 0.0)

    @staticmethod
    def _relative(name: str, rule: Any, tolerance: float) -> Gate:
        metric(name)
        if not isinstance(tolerance, int | float) or not 0 <= tolerance <= sys.float_info.max:
            raise DeclarationError(
                f"The gate on {name} has the tolerance {tolerance!r}; give a share ≥ 0, such as 0.01."
            )
        return Gate(name, rule, float(tolerance))


gate = _GateMaker()


def judge_gate(
    gate: Gate, scores: Mapping[str, float], baseline: Mapping[str, float], champion: Mapping[str, float] | None
) -> Verdict:
    """The gate's verdict on the test metrics.

    A metric that couldn't be computed (NaN, or missing) doesn't pass.
    """
    value = scores.get(gate.metric, math.nan)
    better = metric(gate.metric)
    match gate.rule:
        case "at_most":
            limit, passed = gate.limit, value <= gate.limit
        case "at_least":
            limit, passed = gate.limit, value >= gate.limit
        case "better_than_baseline":
            limit = baseline.get(gate.metric, math.nan)
            passed = (limit != limit and value == value) or (value != limit and not better.is_worse(value, limit))
        case "no_worse_than_champion":
            if champion is None or gate.metric not in champion:
                return Verdict(gate.name, value == value, _finite(value), None)
            slack = abs(champion[gate.metric]) * gate.limit
            limit = champion[gate.metric] + (-slack if better.higher_is_better else slack)
            passed = not better.is_worse(value, limit)
    return Verdict(gate.name, bool(passed), _finite(value), _finite(limit))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
