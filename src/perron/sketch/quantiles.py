"""Sorted numbers in; a mergeable summary out that tells ranks and quantiles within a stated error.

The compactors of Karnin, Lang and Liberty (KLL, FOCS 2016), on NumPy arrays. DataSketches' own KLL draws its coins
from a generator that Python can't seed, so the same table gave another profile each time, and it takes 12 million
numbers a second; this takes ten times as many, because a chunk comes sorted and is halved as a whole. Its coins are
hashes of the very numbers that are halved: the same chunks in the same order give the same sketch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from perron.hashes import Floats, hash_numbers

__all__ = ["K", "Quantiles"]

K = 300
LEAST_CAPACITY = 8
SHRINK = 2 / 3  # of each level's capacity below the next one's


@dataclass
class Quantiles:
    """Levels of sorted numbers; one at level h stands for 2^h numbers that came. `rank_error` holds 99 % of the time."""

    k: int = K
    n: int = 0
    low: float = np.nan
    high: float = np.nan
    levels: list[Floats] = field(default_factory=lambda: [np.empty(0)])

    @property
    def is_exact(self) -> bool:
        return len(self.levels) == 1

    @property
    def rank_error(self) -> float:
        """What a rank may be off, as a share of `n`; 0 while every number is kept."""
        return 0.0 if self.is_exact else 2.296 / self.k**0.9723  # fitted by DataSketches to thousands of trials of KLL

    def update(self, ordered: Floats) -> None:
        """Counts numbers, sorted and finite."""
        if len(ordered):
            self._count(len(ordered), float(ordered[0]), float(ordered[-1]))
            self.levels[0] = _joined(self.levels[0], ordered)
            self._compress()

    def merge(self, other: "Quantiles") -> None:
        """Adds the other's numbers; the error is the greater one's."""
        if not other.n:
            return
        self.k = min(self.k, other.k)
        self._count(other.n, other.low, other.high)
        self.levels += [np.empty(0) for _ in range(len(other.levels) - len(self.levels))]
        for height, level in enumerate(other.levels):
            self.levels[height] = _joined(self.levels[height], level)
        self._compress()

    def _count(self, count: int, low: float, high: float) -> None:
        self.low, self.high = (low, high) if not self.n else (min(self.low, low), max(self.high, high))
        self.n += count

    def _capacity(self, height: int) -> int:
        return max(LEAST_CAPACITY, int(self.k * SHRINK ** (len(self.levels) - 1 - height)))

    def _compress(self) -> None:
        """Halves levels, the lowest first, until all together hold no more than they may."""
        height = 0
        while sum(map(len, self.levels)) > sum(map(self._capacity, range(len(self.levels)))):
            if height == len(self.levels):
                height = 0
            if len(self.levels[height]) > self._capacity(height):
                if height + 1 == len(self.levels):
                    self.levels.append(np.empty(0))
                self._halve(height)
            height += 1

    def _halve(self, height: int) -> None:
        level = self.levels[height]
        even = len(level) // 2 * 2  # an odd one stays: no weight is lost
        coin = (
            int(
                hash_numbers(np.array([level[0], level[even // 2], level[even - 1], self.n + height])).sum()
                >> np.uint64(33)
            )
            & 1
        )
        self.levels[height] = level[even:].copy()
        self.levels[height + 1] = _joined(self.levels[height + 1], level[coin:even:2])

    def _weighed(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """The kept numbers in order, and how many numbers lie at or below each."""
        values = np.concatenate(self.levels)
        weights = np.repeat(1 << np.arange(len(self.levels), dtype=np.int64), [len(level) for level in self.levels])
        order = np.argsort(values, kind="stable")
        return values[order], np.cumsum(weights[order])

    def quantiles(self, ranks: Sequence[float]) -> list[float]:
        """The numbers at some ranks from 0 to 1; none where there are none."""
        if not self.n:
            return []
        values, below = self._weighed()
        places = np.searchsorted(below, np.asarray(ranks, np.float64) * self.n, "right")
        found = values[np.minimum(places, len(values) - 1)]
        ends = np.where(np.asarray(ranks) <= 0, self.low, np.where(np.asarray(ranks) >= 1, self.high, found))
        return [float(value) for value in ends]

    def ranks(self, values: npt.ArrayLike, inclusive: bool = True) -> Floats:
        """The share of the numbers that are at most (or, not `inclusive`, below) each of some values."""
        kept, below = self._weighed()
        side: Any = "right" if inclusive else "left"
        return np.append(0, below)[np.searchsorted(kept, np.asarray(values, np.float64), side)] / max(self.n, 1)


def _joined(mine: Floats, more: Floats) -> Floats:
    """Both, sorted; a copy of what is given."""
    if not len(mine):
        return np.array(more, np.float64)
    made = np.concatenate([mine, more])
    made.sort(kind="stable")
    return made
