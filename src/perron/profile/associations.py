"""A sample of rows in; how columns go together out: Pearson, Spearman, Cramér's V, the correlation ratio.

All on the sample, rows weighted by how often they came, pairs of rows where both are given.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from perron.sketch import ColumnSketch, TableSketch

__all__ = ["Rows", "associate", "correlations", "correlation_ratio", "cramers_v", "measure_of", "ranks"]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
MOST_ROWS = 20_000
MOST_CATEGORIES = 100


@dataclass(frozen=True)
class Rows:
    """The sample as arrays of one length: numbers with NaN where null or not finite, and codes with -1 where null."""

    numbers: dict[str, Floats]
    codes: dict[str, Codes]
    nulls: dict[str, npt.NDArray[np.bool_]]
    size: int

    @classmethod
    def of(cls, sketch: TableSketch) -> "Rows":
        """The sketch's sample, each row as often as it came (scaled down beyond 20,000)."""
        sample = sketch.sample
        counts = sample.counts
        if counts.sum() > MOST_ROWS:
            counts = np.maximum(1, counts * MOST_ROWS // max(1, int(counts.sum())))
        places = np.repeat(np.arange(len(counts)), counts)
        numbers, codes, nulls = {}, {}, {}
        for name, values in sample.columns.items():
            if values.dtype == object:
                made = _codes(values)
                codes[name], nulls[name] = made[places], (made < 0)[places]
            else:
                nulls[name] = np.isnan(values)[places]
                numbers[name] = np.where(np.isfinite(values), values, np.nan)[places]
        return cls(numbers, codes, nulls, len(places))


def _codes(values: npt.NDArray[Any]) -> Codes:
    seen: dict[object, int] = {}
    return np.array([-1 if v is None or v != v else seen.setdefault(v, len(seen)) for v in values], np.int64)


def ranks(values: Floats) -> Floats:
    """The rank of each value, ties averaged, NaN where it is NaN."""
    made = np.full(len(values), np.nan)
    given = np.flatnonzero(~np.isnan(values))
    _, place, counts = np.unique(values[given], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    made[given] = ((ends - counts) + (ends - 1))[place] / 2.0
    return made


def correlations(columns: Floats) -> Floats:
    """Pearson's r between the columns of an (n, d) array with NaN where null; NaN where there is none."""
    given = ~np.isnan(columns)
    with np.errstate(all="ignore"):
        count = np.maximum(given.sum(0), 1)
        scale = np.where(given, np.abs(columns), 0).max(0, initial=0)
        z = np.where(given, columns, 0) / np.where(scale > 0, scale, 1)
        mean = z.sum(0) / count
        z = np.where(given, z - mean, 0)
        mask = given.astype(np.float64)
        n, sums, squares = mask.T @ mask, z.T @ mask, (z * z).T @ mask
        covariance = n * (z.T @ z) - sums * sums.T
        spread = np.maximum(n * squares - sums**2, 0)
        product = np.sqrt(spread) * np.sqrt(spread.T)
        r = np.where(
            (n >= 3) & (product > 1e-13 * n * n * (squares.max(initial=0) + 1e-300) / np.maximum(n, 1)),
            covariance / product,
            np.nan,
        )
    return np.clip(r, -1, 1)


def cramers_v(a: Codes, b: Codes) -> float:
    """Cramér's V with Bergsma's correction of its bias (2013), from 0 to 1."""
    both = (a >= 0) & (b >= 0)
    n = int(both.sum())
    if n < 3:
        return 0.0
    a, b = np.unique(a[both], return_inverse=True)[1], np.unique(b[both], return_inverse=True)[1]
    r, k = int(a.max()) + 1, int(b.max()) + 1
    if min(r, k) < 2 or r * k > 4_000_000:
        return 0.0
    table = np.bincount(a * k + b, minlength=r * k).reshape(r, k).astype(np.float64)
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / n
    phi2 = float(((table - expected) ** 2 / expected).sum()) / n
    phi2 = max(0.0, phi2 - (r - 1) * (k - 1) / (n - 1))
    r_, k_ = r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)
    return float(min(1.0, (phi2 / max(min(r_, k_) - 1, 1e-12)) ** 0.5)) if min(r_, k_) > 1 else 0.0


def correlation_ratio(codes: Codes, values: Floats) -> float:
    """The share of a number's spread that a category explains, as its root (η), corrected for the categories' number."""
    both = (codes >= 0) & ~np.isnan(values)
    n = int(both.sum())
    if n < 3:
        return 0.0
    group, values = np.unique(codes[both], return_inverse=True)[1], values[both]
    groups = int(group.max()) + 1
    scale = float(np.abs(values).max()) or 1.0
    values = values / scale
    total = float(((values - values.mean()) ** 2).sum())
    if groups < 2 or n <= groups or total <= 0:
        return 0.0
    counts = np.bincount(group)
    means = np.bincount(group, values) / counts
    within = float(((values - means[group]) ** 2).sum())
    return float(max(0.0, 1 - (within / (n - groups)) / (total / (n - 1))) ** 0.5)


def measure_of(rows: Rows, a: str, b: str) -> tuple[str, float]:
    """The measure that fits two columns, and its value (signed for two numbers)."""
    if a in rows.numbers and b in rows.numbers:
        r = correlations(np.column_stack([ranks(rows.numbers[a]), ranks(rows.numbers[b])]))[0, 1]
        return "spearman", float(np.nan_to_num(r))
    if a in rows.codes and b in rows.codes:
        return "cramers_v", cramers_v(rows.codes[a], rows.codes[b])
    category, number = (a, b) if a in rows.codes else (b, a)
    return "correlation_ratio", correlation_ratio(rows.codes[category], rows.numbers[number])


def associate(rows: Rows, columns: list[ColumnSketch]) -> list[dict[str, Any]]:
    """Every pair of the columns: `a`, `b`, `measure`, `value`, and `pearson` of two numbers."""
    names = [c.name for c in columns]
    numeric = [name for name in names if name in rows.numbers]
    if numeric:
        stacked = np.column_stack([rows.numbers[name] for name in numeric])
        pearson = correlations(stacked)
        spearman = correlations(np.column_stack([ranks(rows.numbers[name]) for name in numeric]))
    place = {name: i for i, name in enumerate(numeric)}
    found = []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if a in place and b in place:
                value, r = spearman[place[a], place[b]], pearson[place[a], place[b]]
                found.append({"a": a, "b": b, "measure": "spearman", "value": _rounded(value), "pearson": _rounded(r)})
            else:
                measure, value = measure_of(rows, a, b)
                found.append({"a": a, "b": b, "measure": measure, "value": _rounded(value)})
    return found


def _rounded(value: float) -> float:
    return 0.0 if np.isnan(value) else round(float(value), 4)
