"""The trained model's answers and the graph's in; whether they are the same, and the worst rows, out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from perron.errors import ParityError

__all__ = ["Parity", "compare"]

TOLERANCE = 1e-5  # relative, of numbers; labels must be equal
WORST = 3


@dataclass(frozen=True)
class Parity:
    """How far a graph's answers lie from the trained model's.

    `max_relative_error` is |got - expected| / max(|expected|, scale): the scale, a thousandth of the
    answers' mean size, keeps an answer next to zero from counting its last bit as a large share. Of
    a classification it is the largest difference of a probability. `labels_equal` is None in a
    regression.
    """

    rows: int
    max_relative_error: float
    labels_equal: bool | None
    worst: tuple[tuple[int, Any, Any], ...]

    @property
    def holds(self) -> bool:
        return self.max_relative_error <= TOLERANCE and self.labels_equal is not False

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "max_relative_error": self.max_relative_error, "labels_equal": self.labels_equal}

    def demand(self) -> None:
        """Nothing, when it holds.

        Raises:
            ParityError: it doesn't; shows the worst rows.
        """
        if not self.holds:
            rows = "; ".join(f"test row {row}: model {expected!r}, graph {got!r}" for row, expected, got in self.worst)
            raise ParityError(
                f"The graph doesn't answer as the trained model does (error {self.max_relative_error:.1e}, allowed {TOLERANCE:.0e}): {rows}. "
                "The bundle is refused; look for a feature or a step whose computation differs between NumPy and the graph."
            )


def compare(expected: tuple[Any, Any | None], got: tuple[Any, Any | None], *, is_classification: bool) -> Parity:
    """The parity of two answers, each (values (n,), probabilities (n, k) or None)."""
    values, other = np.asarray(expected[0]), np.asarray(got[0])
    if not is_classification:
        a, b = values.astype(float), other.astype(float)
        size = np.abs(a[np.isfinite(a)])
        scale = max(1e-3 * float((size / max(size.size, 1)).sum()), 1e-300)  # a sum of the largest would be infinite
        with np.errstate(invalid="ignore", over="ignore"):  # of infinities
            error = np.where(a == b, 0.0, np.abs(b - a) / np.maximum(np.abs(a), scale))
        error = np.where(np.isnan(a) & np.isnan(b), 0.0, np.where(np.isnan(error), np.inf, error))
        return Parity(len(a), float(error.max(initial=0.0)), None, _worst(error, a.tolist(), b.tolist()))
    equal = values == other
    error = (~equal).astype(float)
    largest = 0.0
    shown: tuple[list[Any], list[Any]] = (values.tolist(), other.tolist())
    if expected[1] is not None:
        if got[1] is None:
            return Parity(len(values), float("inf"), bool(equal.all()), ())
        difference = np.abs(np.asarray(expected[1]) - np.asarray(got[1])).max(axis=1, initial=0.0)
        difference = np.where(np.isnan(difference), np.inf, difference)
        largest = float(difference.max(initial=0.0))
        error = error + difference
        shown = (
            [(v, p.max()) for v, p in zip(shown[0], expected[1], strict=True)],
            [(v, p.max()) for v, p in zip(shown[1], got[1], strict=True)],
        )
    return Parity(len(values), largest, bool(equal.all()), _worst(error, *shown))


def _worst(error: Any, expected: list[Any], got: list[Any]) -> tuple[tuple[int, Any, Any], ...]:
    order = [int(row) for row in np.argsort(-error)[:WORST] if error[row] > 0]
    return tuple((row, expected[row], got[row]) for row in order)
