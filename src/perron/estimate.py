"""A model's behaviour on rows that it was not fitted on in; how well it does on a window without outcomes out.

Both are estimates and say so: they hold while the relation of inputs to target stays as it was
(covariate drift), and can't see that it changed (concept drift). Outcomes can.

    classes   confidence-based performance estimation (CBPE; NannyML, 2022): the confidences of a window,
              calibrated on the test rows, are the chances of being right
    numbers   direct loss estimation (DLE; NannyML, 2022): a second model, fitted on the test rows, tells
              the absolute error of a row from its features
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perron.sketch import ColumnSketch

__all__ = ["Calibration", "Estimate", "expected_accuracy", "expected_error", "fit_calibration"]

MOST_KNOTS = 64
RANKS = 1000
Z95 = 1.959964


@dataclass(frozen=True)
class Calibration:
    """How often predictions of a confidence were right, as knots of a line that never falls, and on how many rows."""

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    rows: int

    def __call__(self, confidence: Any) -> Any:
        """The chance of being right at each confidence (n,)."""
        return np.interp(np.asarray(confidence, np.float64), self.confidence, self.accuracy)

    def to_json(self) -> dict[str, Any]:
        return {"confidence": list(self.confidence), "accuracy": list(self.accuracy), "rows": self.rows}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Calibration":
        return cls(tuple(data["confidence"]), tuple(data["accuracy"]), int(data["rows"]))


@dataclass(frozen=True)
class Estimate:
    """An expected metric of a window: its value, an interval (95 %) of what sampling leaves open, and the method's name."""

    metric: str
    value: float
    low: float
    high: float
    method: str
    rows: int

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "is_estimate": True}


def fit_calibration(confidence: Sequence[float], is_right: Sequence[bool]) -> Calibration:
    """The calibration by isotonic regression: pool adjacent violators (M. Ayer et al., 1955).

    Raises:
        ValueError: there are no rows.
    """
    if not len(confidence):
        raise ValueError("There are no rows to calibrate on.")
    order = np.argsort(np.asarray(confidence, np.float64), kind="stable")
    x, y = np.asarray(confidence, np.float64)[order], np.asarray(is_right, np.float64)[order]
    blocks: list[list[float]] = []  # sum of x, sum of y, count
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        blocks.append([a, b, 1.0])
        while len(blocks) > 1 and blocks[-2][1] / blocks[-2][2] >= blocks[-1][1] / blocks[-1][2]:
            last = blocks.pop()
            blocks[-1] = [one + other for one, other in zip(blocks[-1], last, strict=True)]
    while len(blocks) > MOST_KNOTS:  # neighbours that differ least become one
        rates = [b[1] / b[2] for b in blocks]
        place = int(np.argmin(np.diff(rates)))
        merged = [one + other for one, other in zip(blocks[place], blocks[place + 1], strict=True)]
        blocks[place : place + 2] = [merged]
    return Calibration(tuple(b[0] / b[2] for b in blocks), tuple(b[1] / b[2] for b in blocks), len(x))


def expected_accuracy(calibration: Calibration, confidence: ColumnSketch) -> Estimate | None:
    """The accuracy to be expected of a window, from the sketch of its confidences; None where it has none."""
    n = confidence.quantile_sketch.n
    if not n:
        return None
    ranks = (np.arange(RANKS) + 0.5) / RANKS
    chances = calibration(confidence.quantile_sketch.quantiles(ranks.tolist()))
    value = float(chances.mean())
    # Of the outcomes to come, given the chances; and of the calibration itself.
    spread = math.sqrt(float((chances * (1 - chances)).mean()) / n + value * (1 - value) / calibration.rows)
    return Estimate("accuracy", value, max(0.0, value - Z95 * spread), min(1.0, value + Z95 * spread), "CBPE", n)


def expected_error(errors: Any, rows: int, rows_fitted_on: int, spread_of_errors: float) -> Estimate | None:
    """The mean absolute error to be expected of a window, from the errors that the second model tells of its sample.

    Args:
        errors: (n,) of the sampled rows; None comes of none.
        rows: of the whole window.
        rows_fitted_on: how many rows the second model was fitted on.
        spread_of_errors: the standard deviation of its own errors there.
    """
    told = np.asarray(errors, np.float64)
    told = told[np.isfinite(told)]
    if not len(told):
        return None
    told = np.maximum(told, 0.0)
    value = float(told.mean())
    spread = math.sqrt(float(told.var()) / len(told) + spread_of_errors**2 * (1 / max(rows, 1) + 1 / rows_fitted_on))
    return Estimate("mae", value, max(0.0, value - Z95 * spread), value + Z95 * spread, "DLE", rows)
