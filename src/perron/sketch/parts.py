"""Arrays in; the parts of a column's sketch out: hashes, distinct values, frequent values, moments, calendar.

Distinct values are counted by bottom-k hashes (Bar-Yossef et al. 2002; estimator of Beyer et al. 2007) rather than
by DataSketches' HLL: that takes one value a call from Python (2 s for 16 million floats; this 0.3 s), and this is
exact for few values. Frequent values are Misra-Gries counters in their mergeable form (Agarwal et al. 2012), over
whole chunks at once, for the same reason.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from perron.hashes import NULL_HASH, Floats, Hashes, mix

__all__ = ["DISTINCT_KEPT", "TOP_KEPT", "Distinct", "Moments", "Times", "TopK", "hash_texts"]

DISTINCT_KEPT = 4096
TOP_KEPT = 1024
LONGEST_VALUE = 120
PIECE_BYTES = 1 << 17
_WEIGHT = np.uint64(0x9FB21C651E98DF25)
_UNWEIGHT = np.uint64(pow(0x9FB21C651E98DF25, -1, 2**64))
_powers: list[Hashes] = [np.ones(1, np.uint64), np.ones(1, np.uint64)]


_LETTERS = mix(np.arange(1, 257, dtype=np.uint64) * NULL_HASH)


def hash_texts(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Hashes:
    """A hash per text, of texts that lie end to end: a polynomial over random letters, many texts at once."""
    found = np.empty(len(offsets) - 1, np.uint64)
    start = 0
    while start < len(found):  # in pieces that stay in the processor's cache: twice as fast as all at once
        end = int(np.searchsorted(offsets, offsets[start] + PIECE_BYTES, "right")) - 1
        end = min(max(end, start + 1), len(found))
        piece = offsets[start : end + 1]
        found[start:end] = _hash_piece(data[piece[0] : piece[-1]], piece - piece[0])
        start = end
    return found


def _hash_piece(data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Hashes:
    starts, ends = offsets[:-1], offsets[1:]
    power, inverse = _powers_to(len(data))
    sums = np.empty(len(data) + 1, np.uint64)
    sums[0] = 0
    weighed = _LETTERS[data]
    weighed *= power[: len(data)]
    np.cumsum(weighed, out=sums[1:])
    return mix((sums[ends] - sums[starts]) * inverse[starts] + (ends - starts).astype(np.uint64) * NULL_HASH)


def _powers_to(length: int) -> tuple[Hashes, Hashes]:
    """The powers of the weight and of its inverse, modulo 2^64, up to `length`; the usual ones are made once."""
    power, inverse = _powers
    if len(power) <= length or len(inverse) <= length:
        size = max(length, PIECE_BYTES) + 1
        power, inverse = np.full(size, _WEIGHT), np.full(size, _UNWEIGHT)
        power[0] = inverse[0] = 1
        power, inverse = np.multiply.accumulate(power), np.multiply.accumulate(inverse)
        if size == PIECE_BYTES + 1:
            _powers[:] = [power, inverse]
    return power, inverse


@dataclass
class Distinct:
    """The least `size` hashes that were seen, from which the number of different values follows."""

    size: int = DISTINCT_KEPT
    hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))

    def update(self, hashes: Hashes) -> None:
        if len(self.hashes) == self.size:
            hashes = hashes[hashes < self.hashes[-1]]
        if len(hashes):
            self.hashes = np.unique(np.concatenate([self.hashes, np.unique(hashes)[: self.size]]))[: self.size]

    @property
    def is_exact(self) -> bool:
        return len(self.hashes) < self.size

    @property
    def estimate(self) -> int:
        if self.is_exact:
            return len(self.hashes)
        return round((self.size - 1) / ((float(self.hashes[-1]) + 1) / 2.0**64))


@dataclass
class TopK:
    """The most frequent values with their counts; a count is at most `error` too low, none too high."""

    size: int = TOP_KEPT
    hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    values: npt.NDArray[np.object_] = field(default_factory=lambda: np.empty(0, object))
    error: int = 0

    @property
    def is_exact(self) -> bool:
        return self.error == 0

    def keep(self, counts: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
        """The places and counts that stay of a chunk's counts; call `add` with them."""
        if len(counts) <= self.size:
            return np.arange(len(counts)), counts
        cut = int(np.partition(counts, -self.size - 1)[-self.size - 1])
        self.error += cut
        kept = np.flatnonzero(counts > cut)
        return kept, counts[kept] - cut

    def add(self, hashes: Hashes, counts: npt.NDArray[np.int64], values: npt.NDArray[np.object_]) -> None:
        """Counts what `keep` left; hashes are all different."""
        if not len(hashes):
            return
        both, first, place = np.unique(np.concatenate([self.hashes, hashes]), return_index=True, return_inverse=True)
        added = np.zeros(len(both), np.int64)
        np.add.at(added, place, np.concatenate([self.counts, counts]))
        kept, self.counts = self.keep(added)
        self.hashes, self.values = both[kept], np.concatenate([self.values, values])[first[kept]]

    def merge(self, other: "TopK") -> None:
        self.error += other.error
        self.add(other.hashes, other.counts, other.values)

    def most(self, number: int) -> list[tuple[Any, int]]:
        """The `number` most frequent values, the most frequent first."""
        order = np.lexsort((self.hashes, -self.counts))[:number]
        return [(self.values[place], int(self.counts[place])) for place in order]


@dataclass
class Moments:
    """Count, mean and central moments, merged by Chan et al. (1979) and Pébay (2008)."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    m3: float = 0.0
    m4: float = 0.0

    def update(self, values: Floats) -> None:
        """Counts finite values."""
        if len(values):
            with np.errstate(over="ignore", invalid="ignore"):
                mean = float(values.mean())
                away = values - mean
                square = away * away
                self.merge(
                    Moments(
                        len(values),
                        mean,
                        float(square.sum()),
                        float((square * away).sum()),
                        float((square * square).sum()),
                    )
                )

    def merge(self, b: "Moments") -> None:
        if not b.n:
            return
        n, d = self.n + b.n, b.mean - self.mean
        na, nb = float(self.n), float(b.n)
        with np.errstate(over="ignore", invalid="ignore"):
            d2 = float(np.float64(d) * d)
            m4 = (
                self.m4 + b.m4
                + np.float64(d2) * d2 * na * nb * (na * na - na * nb + nb * nb) / float(n) ** 3
                + 6 * np.float64(d2) * (na * na * b.m2 + nb * nb * self.m2) / float(n) ** 2
                + 4 * np.float64(d) * (na * b.m3 - nb * self.m3) / n
            )  # fmt: skip
            m3 = (
                self.m3 + b.m3
                + np.float64(d2) * d * na * nb * (na - nb) / float(n) ** 2
                + 3 * np.float64(d) * (na * b.m2 - nb * self.m2) / n
            )  # fmt: skip
            self.m4, self.m3 = float(m4), float(m3)
            self.m2 = float(self.m2 + b.m2 + np.float64(d2) * na * nb / n)
            self.mean = float(self.mean + np.float64(d) * nb / n)
        self.n = n

    @property
    def variance(self) -> float | None:
        """The sample's variance; None of fewer than two values or beyond float64."""
        return _finite(self.m2 / (self.n - 1)) if self.n > 1 else None

    @property
    def std(self) -> float | None:
        return None if self.variance is None else self.variance**0.5

    @property
    def skew(self) -> float | None:
        """None where all values are the same."""
        spread = self.m2 / self.n if self.n else 0.0
        return _finite(self.m3 / self.n / spread**1.5) if 0 < spread < 1e200 else None

    @property
    def kurtosis(self) -> float | None:
        """Above the normal distribution's; None where all values are the same."""
        spread = self.m2 / self.n if self.n else 0.0
        return _finite(self.m4 / self.n / spread**2 - 3) if 1e-150 < spread < 1e150 else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


@dataclass
class Times:
    """Counts per weekday (Monday first), hour and bucket of time; buckets widen as there come to be too many."""

    WIDTHS_S = (1, 60, 3600, 86_400, 7 * 86_400, 28 * 86_400, 364 * 86_400, 36_400 * 86_400)
    MOST = 20_000

    weekdays: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(7, np.int64))
    hours: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(24, np.int64))
    months: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(12, np.int64))
    level: int = 0
    buckets: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def width_s(self) -> int:
        return self.WIDTHS_S[self.level]

    def update(self, seconds: Floats) -> None:
        """Counts seconds since 1970, UTC."""
        if not len(seconds):
            return
        whole = np.floor(np.clip(seconds, -1e14, 1e14)).astype(np.int64)
        days = whole // 86_400
        self.weekdays += np.bincount((days + 3) % 7, minlength=7)
        self.hours += np.bincount(whole % 86_400 // 3600, minlength=24)
        months = np.clip(days, -700_000, 2_900_000).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
        self.months += np.bincount(months % 12, minlength=12)
        self._add(*np.unique(whole // self.width_s, return_counts=True))

    def merge(self, other: "Times") -> None:
        self.weekdays, self.hours = self.weekdays + other.weekdays, self.hours + other.hours
        self.months = self.months + other.months
        while self.level < other.level:
            self._widen()
        step = self.width_s // other.width_s
        self._add(other.buckets // step, other.counts)

    def _add(self, buckets: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> None:
        both, place = np.unique(np.concatenate([self.buckets, buckets]), return_inverse=True)
        added = np.zeros(len(both), np.int64)
        np.add.at(added, place, np.concatenate([self.counts, counts]))
        self.buckets, self.counts = both, added
        while len(self.buckets) > self.MOST and self.level < len(self.WIDTHS_S) - 1:
            self._widen()

    def _widen(self) -> None:
        step = self.WIDTHS_S[self.level + 1] // self.width_s
        self.level += 1
        buckets, counts = self.buckets // step, self.counts
        self.buckets, self.counts = np.empty(0, np.int64), np.empty(0, np.int64)
        self._add(buckets, counts)
