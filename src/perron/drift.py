"""Two sketches in, the reference and a window; what drifted out: what moved, by how much, and whether that can be chance.

A column has drifted when its distance is both larger than `effect` (it matters) and not to be
explained by chance (`alpha`, held for all columns of a window together by Holm's method, 1979). The
distances, each from the sketches alone:

    numbers   Kolmogorov-Smirnov on the quantile sketches, less what the sketches may be wrong by
    texts     chi-square over the frequent values and the rest, its effect Cohen's w less its bias
    missing   the difference of the shares, by its normal approximation
    new       the share of values that the reference never saw
    units     numbers that would fit if all were multiplied by one factor

Beside them PSI, Jensen-Shannon, Wasserstein and total variation are told, for those who know them:
they decide nothing, since the first two are biased upwards where values are many and rare.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from perron.sketch import ColumnSketch, TableSketch

__all__ = ["Drift", "Kind", "Limits", "Severity", "compare_columns", "find_drift", "holm", "measure", "show_number"]

Kind = Literal["distribution", "missing", "new_values", "range", "unit", "type"]
Severity = Literal["low", "medium", "high"]
BINS = 10
LEAST_EXPECTED = 5.0  # of a value in a chi-square: the rarer ones are counted together
FACTORS = {
    1000.0: "thousands", 100.0: "percent or cents", 60.0: "minutes or seconds", 3600.0: "hours or seconds",
    24.0: "days or hours", 12.0: "months or years", 1.609344: "miles or kilometres", 2.54: "inches or centimetres",
    2.2046226: "kilograms or pounds", 3.2808399: "feet or metres", 10_000.0: "ten thousands", 1_000_000.0: "millions",
}  # fmt: skip
FEWEST = 10  # values in a window below which nothing is said of a distribution


@dataclass(frozen=True)
class Limits:
    """When a move counts: `effect` is the least distance (Kolmogorov-Smirnov, Cohen's w), `missing` and `new_values`
    the least shares of rows, `alpha` the chance of a false alarm in a window, over all its columns together."""

    effect: float = 0.1
    missing: float = 0.02
    new_values: float = 0.01
    alpha: float = 0.01


@dataclass(frozen=True)
class Drift:
    """One thing that moved. `effect` is in the measure's own unit (see the module); `p_value` before Holm's method.

    `before` and `now` are the two distributions, for a picture: labels and shares.
    """

    column: str
    kind: Kind
    effect: float
    p_value: float
    severity: Severity
    detail: str
    measures: Mapping[str, float] = field(default_factory=dict)
    labels: Sequence[str] = ()
    before: Sequence[float] = ()
    now: Sequence[float] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            **vars(self),
            "measures": dict(self.measures),
            "labels": list(self.labels),
            "before": list(self.before),
            "now": list(self.now),
        }


@dataclass(frozen=True)
class _Move:
    """A column's distance before it is judged."""

    drift: Drift
    matters: bool


def find_drift(reference: TableSketch, window: TableSketch, limits: Limits | None = None) -> list[Drift]:
    """What drifted, the most first. Columns that only one of the two has are left out."""
    limits = limits or Limits()
    moves = [
        move
        for name, now in window.columns.items()
        if name in reference.columns
        for move in _moves(reference.columns[name], now, limits)
    ]
    kept = holm([move.drift.p_value for move in moves], limits.alpha)
    found = [move.drift for move, is_kept in zip(moves, kept, strict=True) if is_kept and move.matters]
    units = {drift.column for drift in found if drift.kind == "unit"}
    found = [drift for drift in found if not (drift.kind in ("distribution", "range") and drift.column in units)]
    rank = {"high": 0, "medium": 1, "low": 2}
    return sorted(found, key=lambda drift: (rank[drift.severity], -drift.effect, drift.column))


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which of several hypotheses are rejected, with a chance of `alpha` at most that any of them is true (S. Holm, 1979)."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    rejected = [False] * len(p_values)
    for rank, place in enumerate(order):
        if p_values[place] > alpha / (len(p_values) - rank):
            break
        rejected[place] = True
    return rejected


def measure(reference: ColumnSketch, window: ColumnSketch) -> dict[str, float]:
    """Every distance of two sketches of a column, as numbers."""
    if reference.kind in ("number", "time"):
        return _number_measures(reference, window) if reference.quantile_sketch.n and window.quantile_sketch.n else {}
    return _value_measures(*_shares(reference, window)[1:], window.given)


def compare_columns(
    reference: ColumnSketch, window: ColumnSketch
) -> tuple[Sequence[str], Sequence[float], Sequence[float]]:
    """The two distributions of a column, for a picture: labels (numbers by the reference's deciles) and both shares; empty
    where one of the two has no values."""
    if not reference.given or not window.given or reference.kind != window.kind or reference.sensitive:
        return [], [], []
    if reference.kind in ("number", "time"):
        edges, before, now = _bins(reference, window)
        return (
            [f"{_number(a, reference.kind)} to {_number(b, reference.kind)}" for a, b in pairwise(edges)],
            before,
            now,
        )
    labels, p, q = _shares(reference, window)
    order = np.argsort(-(p + q))[:BINS]
    return (
        [str(labels[place]) for place in order],
        [float(p[place]) for place in order],
        [float(q[place]) for place in order],
    )


def _moves(before: ColumnSketch, now: ColumnSketch, limits: Limits) -> list[_Move]:
    moves = []
    if not now.rows or not before.rows:
        return []
    kinds = {before.kind, now.kind} - {"empty"}
    if len(kinds) > 1:
        detail = f"Was {before.kind}, is {now.kind}."
        return [_Move(Drift(now.name, "type", 1.0, 0.0, "high", detail), True)]
    moves.append(_missing(before, now, limits))
    if before.sensitive or now.sensitive or before.given < FEWEST or now.given < FEWEST:
        return moves
    if before.kind in ("number", "time"):
        moves += _numbers(before, now, limits)
    else:
        moves += _values(before, now, limits)
    return moves


def _missing(before: ColumnSketch, now: ColumnSketch, limits: Limits) -> _Move:
    p, q = (c.nulls / c.rows for c in (before, now))
    pooled = (before.nulls + now.nulls) / (before.rows + now.rows)
    spread = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / before.rows + 1 / now.rows))
    p_value = math.erfc(abs(q - p) / spread / math.sqrt(2)) if spread else 1.0
    effect = abs(q - p)
    severity = _severity(effect, 0.05, 0.25)
    detail = f"Missing: {_percent(p)} before, {_percent(q)} now."
    return _Move(
        Drift(now.name, "missing", effect, p_value, severity, detail, {}, ["missing"], [p], [q]),
        effect >= limits.missing,
    )


# ------------------------------------------------------------------ numbers


def _numbers(before: ColumnSketch, now: ColumnSketch, limits: Limits) -> list[_Move]:
    n, m = before.quantile_sketch.n, now.quantile_sketch.n
    if not n or not m:
        return []
    distance, p_value = _kolmogorov(before, now)
    measures = _number_measures(before, now)
    edges, p, q = _bins(before, now)
    labels = [f"{_number(a, before.kind)} to {_number(b, before.kind)}" for a, b in pairwise(edges)]
    middle_before, middle_now = before.quantile_sketch.quantiles([0.5])[0], now.quantile_sketch.quantiles([0.5])[0]
    detail = (
        f"Moved by {distance:.2f} (Kolmogorov-Smirnov): the median from {_number(middle_before, before.kind)} "
        f"to {_number(middle_now, before.kind)}."
    )
    severity = _severity(distance, 0.2, 0.4)
    found = [
        _Move(
            Drift(now.name, "distribution", distance, p_value, severity, detail, measures, labels, p, q),
            distance >= limits.effect and before.kind != "time",  # time goes on: that is no drift
        )
    ]
    unit = _unit(before, now, distance, p_value)
    if unit is not None:
        factor, words = unit
        detail = f"Fits when multiplied by {factor:g}: another unit ({words})? The median from {show_number(middle_before)} to {show_number(middle_now)}."
        found.append(_Move(Drift(now.name, "unit", distance, p_value, "high", detail, measures, labels, p, q), True))
    outside = _outside(before, now)
    if outside is not None and before.kind == "number":
        share, p_outside, detail = outside
        severity = _severity(share, 0.02, 0.1)
        found.append(_Move(Drift(now.name, "range", share, p_outside, severity, detail, {}), share >= 0.005))
    return found


def _kolmogorov(before: ColumnSketch, now: ColumnSketch) -> tuple[float, float]:
    """The greatest distance of the two distributions less what the sketches may add, and its p-value (N. V. Smirnov, 1948)."""
    n, m = before.quantile_sketch.n, now.quantile_sketch.n
    places = np.union1d(*(c.quantile_sketch.quantiles(np.linspace(0, 1, 201).tolist()) for c in (before, now)))
    distance = float(np.abs(before.quantile_sketch.ranks(places) - now.quantile_sketch.ranks(places)).max())
    distance = max(0.0, distance - before.quantile_sketch.rank_error / 2 - now.quantile_sketch.rank_error / 2)
    root = math.sqrt(n * m / (n + m))
    x = (root + 0.12 + 0.11 / root) * distance  # M. A. Stephens, 1970
    if x < 0.2:
        return distance, 1.0
    total = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return distance, min(1.0, max(0.0, total))


def _bins(before: ColumnSketch, now: ColumnSketch) -> tuple[list[float], list[float], list[float]]:
    """Edges at the reference's deciles, widened to the window's extremes, and both shares within them."""
    edges = np.unique(before.quantile_sketch.quantiles(np.linspace(0, 1, BINS + 1).tolist()))
    edges[0] = min(edges[0], now.quantile_sketch.low)
    edges = (
        np.append(edges[:-1], max(edges[-1], now.quantile_sketch.high))
        if len(edges) > 1
        else np.array([min(edges[0], now.quantile_sketch.low), max(edges[0], now.quantile_sketch.high)])
    )

    def shares(c: ColumnSketch) -> list[float]:
        ranks = c.quantile_sketch.ranks(edges[1:])
        return [float(share) for share in np.diff(np.concatenate([[0.0], ranks]))]

    return [float(edge) for edge in edges], shares(before), shares(now)


def _number_measures(before: ColumnSketch, now: ColumnSketch) -> dict[str, float]:
    _, p, q = _bins(before, now)
    ranks = np.linspace(0.005, 0.995, 199).tolist()
    apart = np.abs(np.array(before.quantile_sketch.quantiles(ranks)) - np.array(now.quantile_sketch.quantiles(ranks)))
    std = before.moments.std
    measures = _value_measures(np.array(p), np.array(q), now.quantile_sketch.n)
    measures["kolmogorov_smirnov"] = _kolmogorov(before, now)[0]
    if std:
        measures["wasserstein"] = float(apart.mean()) / std
    return measures


def _unit(before: ColumnSketch, now: ColumnSketch, distance: float, p_value: float) -> tuple[float, str] | None:
    """The factor by which the window would fit the reference, where it moved far and one factor explains nearly all of it."""
    if before.kind != "number" or distance < 0.5 or p_value > 1e-4:
        return None
    ranks = np.linspace(0.05, 0.95, 19).tolist()
    a, b = np.array(before.quantile_sketch.quantiles(ranks)), np.array(now.quantile_sketch.quantiles(ranks))
    if not (a > 0).all() or not (b > 0).all():
        return None
    ratio = float(np.exp(np.median(np.log(a / b))))
    for factor, words in FACTORS.items():
        for known in (factor, 1 / factor):
            if abs(math.log(ratio / known)) < 0.15 and _fits(before, now, known) < min(0.25, distance / 3):
                return known, words
    return None


def _fits(before: ColumnSketch, now: ColumnSketch, factor: float) -> float:
    """The Kolmogorov-Smirnov distance once the window's numbers are multiplied."""
    places = np.array(before.quantile_sketch.quantiles(np.linspace(0, 1, 101).tolist()))
    return float(np.abs(before.quantile_sketch.ranks(places) - now.quantile_sketch.ranks(places / factor)).max())


def _outside(before: ColumnSketch, now: ColumnSketch) -> tuple[float, float, str] | None:
    """The share of the window beyond the reference's extremes, and the chance of that where nothing moved."""
    if before.low is None or before.high is None or now.low is None or now.high is None:
        return None
    below = float(now.quantile_sketch.ranks([before.low], inclusive=False)[0])
    above = 1.0 - float(now.quantile_sketch.ranks([before.high])[0])
    share, m = below + above, now.quantile_sketch.n
    if share <= 0:
        return None
    detail = (
        f"{_percent(share)} lie outside the range of training ({show_number(before.low)} to {show_number(before.high)}): "
        f"now {show_number(now.low)} to {show_number(now.high)}."
    )
    return share, _beyond(round(share * m), before.quantile_sketch.n, m, 2), detail


def _beyond(k: int, n: int, m: int, gaps: Literal[1, 2]) -> float:
    """The chance that k or more of m values fall in given gaps, one or two, of the n + 1 that n values of the same
    distribution leave between and beside them, whatever the distribution (S. S. Wilks, 1942; exact where no two are equal,
    else less)."""
    one = math.exp(math.lgamma(m - k + n + 1) - math.lgamma(m - k + 1) - math.lgamma(m + n + 1) + math.lgamma(m + 1))
    return min(1.0, one if gaps == 1 else one * (1 + k * n / (m - k + n)))


# ------------------------------------------------------------------ texts, categories, truth values


def _shares(before: ColumnSketch, now: ColumnSketch) -> tuple[list[Any], Any, Any]:
    """The values that are frequent in either, `…` for the rest, and both shares of them."""
    tables = [dict(c.top.most(c.top.size)) for c in (before, now)]
    values = [*tables[0], *(value for value in tables[1] if value not in tables[0])]
    counts = [np.array([table.get(value, 0) for value in values], float) for table in tables]
    shares = [
        np.append(count, max(c.given - count.sum(), 0.0)) / max(c.given, 1)
        for count, c in zip(counts, (before, now), strict=True)
    ]
    return [*values, "…"], shares[0], shares[1]


def _values(before: ColumnSketch, now: ColumnSketch, limits: Limits) -> list[_Move]:
    labels, p, q = _shares(before, now)
    n, m = before.given, now.given
    effect, p_value, together = _chi_square(p, q, n, m, before.top.error, now.top.error)
    measures = {**_value_measures(p, q, m), "cohens_w": effect}
    order = np.argsort(-(p + q))[:BINS]
    shown = [str(labels[place]) for place in order]
    most = int(np.abs(p - q)[: len(labels)].argmax())
    detail = f"Moved by {effect:.2f} (Cohen's w): {labels[most]!r} from {_percent(float(p[most]))} to {_percent(float(q[most]))}."
    severity = _severity(effect, 0.3, 0.5)
    drift = Drift(
        now.name, "distribution", effect, p_value, severity, detail, measures, shown,
        [float(p[place]) for place in order], [float(q[place]) for place in order],
    )  # fmt: skip
    found = [_Move(drift, effect >= limits.effect and together > 1)]
    if before.top.is_exact:
        known = set(before.top.values.tolist())
        fresh = [(value, count) for value, count in now.top.most(now.top.size) if value not in known]
        share = sum(count for _, count in fresh) / m
        if fresh:
            expected = ((before.top.counts == 1).sum() + 1.0) / (n + 1)
            z = (share - expected) / math.sqrt(max(expected * (1 - expected) / m, 1e-12))
            # Of few rows the normal approximation sees too little chance: one rare value would be an alarm.
            p_new = max(0.5 * math.erfc(z / math.sqrt(2)), _beyond(round(share * m), n, m, 1))
            more = f" and {len(fresh) - 5} more" if len(fresh) > 5 else ""
            names = ", ".join(repr(value) for value, _ in fresh[:5])
            detail = f"Values that training never saw, {_percent(share)} of the rows: {names}{more}."
            new = Drift(now.name, "new_values", share, p_new, _severity(share, 0.05, 0.2), detail)
            # Of a column with rare values some are always new: only where the reference saw nearly all there are.
            found.append(_Move(new, share >= limits.new_values + _unseen(before)))
    return found


def _unseen(before: ColumnSketch) -> float:
    """The share of values yet unseen, by how many were seen once (I. J. Good, 1953), with its spread."""
    once = float((before.top.counts == 1).sum())
    return (once + 3 * math.sqrt(once)) / max(before.given, 1)


def _chi_square(p: Any, q: Any, n: int, m: int, error_before: int, error_now: int) -> tuple[float, float, int]:
    """Cohen's w less its bias, the p-value, and how many groups were compared; rare values count together.

    Where a sketch kept only frequent values, a count may be too low by its error: values that are not well
    above it are counted among the rest too.
    """
    pooled = (p * n + q * m) / (n + m)
    least = max(LEAST_EXPECTED / min(n, m), 4.0 * error_before / n, 4.0 * error_now / m)
    own = pooled[:-1] >= least
    groups_p = np.append(p[:-1][own], 1.0 - p[:-1][own].sum())
    groups_q = np.append(q[:-1][own], 1.0 - q[:-1][own].sum())
    groups = np.append(pooled[:-1][own], 1.0 - pooled[:-1][own].sum())
    kept = groups > LEAST_EXPECTED / min(n, m) if len(groups) > 1 else groups > 0
    groups_p, groups_q, groups = groups_p[kept], groups_q[kept], groups[kept]
    count = len(groups)
    if count < 2:
        return 0.0, 1.0, count
    apart = (groups_p - groups_q) ** 2 / groups
    statistic = float(apart.sum()) * n * m / (n + m)
    if error_before or error_now:  # each count is too low by up to its error: what that may make of the statistic
        slack = (
            float((2 * np.abs(groups_p - groups_q) * (error_before / n + error_now / m) / groups).sum())
            * n
            * m
            / (n + m)
        )
        statistic = max(0.0, statistic - slack)
    w2 = float(((groups_p - groups_q) ** 2 / np.maximum(groups_p, LEAST_EXPECTED / n)).sum())
    bias = (count - 1) * (1 / n + 1 / m)
    return math.sqrt(max(0.0, w2 - bias)), _chi_square_tail(statistic, count - 1), count


def _chi_square_tail(statistic: float, freedom: int) -> float:
    """The chance of a larger chi-square, by its cube root's normal approximation (E. B. Wilson and M. M. Hilferty, 1931)."""
    if statistic <= 0:
        return 1.0
    spread = 2.0 / (9.0 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return 0.5 * math.erfc(z / math.sqrt(2))


def _value_measures(p: Any, q: Any, m: int) -> dict[str, float]:
    """PSI, Jensen-Shannon distance (base 2) and total variation of two rows of shares."""
    floor = 0.5 / max(m, 1)
    a, b = np.maximum(p, floor), np.maximum(q, floor)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        js = sum(np.where(x > 0, x * np.log2(x / middle), 0.0).sum() for x in (p, q)) / 2
    return {
        "psi": float(((b - a) * np.log(b / a)).sum()),
        "jensen_shannon": math.sqrt(max(float(js), 0.0)),
        "total_variation": 0.5 * float(np.abs(p - q).sum()),
    }


def _severity(effect: float, medium: float, high: float) -> Severity:
    return "high" if effect >= high else "medium" if effect >= medium else "low"


def _percent(share: float) -> str:
    return f"{share:.1%}" if 0.0005 <= share < 0.9995 or share in (0.0, 1.0) else f"{share:.3%}"


def show_number(value: float) -> str:
    """A number as people read it: large ones with separators, small ones with four digits."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def _number(value: float, kind: str) -> str:
    return str(np.datetime64(int(value), "s")) if kind == "time" else show_number(value)
