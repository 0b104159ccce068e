"""Moments of series and declarations in; for each place in a series, the numbers of its past out. NumPy alone.

Of tables and of requests it is the same code, and the same numbers bit for bit: a window is summed in
a tree whose shape depends on the window's length alone, never on where it lies in what is at hand. (A
running sum was rejected: its last bits depend on all that came before, and after 1e16 it forgets 1.)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perron.history import Past

__all__ = ["Moments", "longest", "merge", "pasts_of"]

Join = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Moments:
    """What is known of each moment: sorted by series, then time, none twice.

    Attributes:
        series: (n,) int64.
        times: (n,) int64 (microseconds, or the Time field's own numbers) or float64.
        fields: what the rows of `values` are of.
        values: (fields, n) float64, NaN where none is known.
    """

    series: Any
    times: Any
    fields: tuple[str, ...]
    values: Any


def merge(series: Any, times: Any, fields: tuple[str, ...], values: Any) -> tuple[Moments, Any]:
    """The moments of rows (n,), and for each row the place of its moment; of two known values the later row's counts."""
    rows = len(series)
    order = np.lexsort((times, series))  # stable: the rows of a moment stay in their order
    series, times, values = series[order], times[order], values[:, order]
    is_first = np.ones(rows, bool)
    is_first[1:] = (series[1:] != series[:-1]) | (times[1:] != times[:-1])
    starts = np.flatnonzero(is_first)
    inverse = np.empty(rows, np.int64)
    inverse[order] = np.cumsum(is_first) - 1
    if starts.size < rows:
        newest = np.maximum.reduceat(np.where(np.isnan(values), -1, np.arange(rows)), starts, axis=1)
        known = np.take_along_axis(values, np.maximum(newest, 0), axis=1)
        series, times, values = series[starts], times[starts], np.where(newest < 0, np.nan, known)
    return Moments(series, times, fields, values), inverse


def pasts_of(pasts: Sequence[Past], moments: Moments, series: Any, times: Any) -> dict[str, Any]:
    """By name of the declaration, its number (q,) for each of q places: a series and a time in it, which needn't be a moment."""
    if not moments.times.size:
        return {past.name: np.full(len(times), 0.0 if past.kind == "count" else np.nan) for past in pasts}
    count_before = _counter(moments)
    start = np.searchsorted(moments.series, series)
    here = count_before(series, times, "left")  # the moments of all series up to, and without, the place itself
    found = {}
    for past in pasts:
        values = moments.values[moments.fields.index(past.field)]
        if past.kind == "lag" and past.steps:
            found[past.name] = _taken(values, here - past.steps, start)
        elif past.kind == "lag":
            end = count_before(series, times - past.span_us, "right")
            newest = np.maximum.accumulate(np.where(np.isnan(values), -1, np.arange(values.size)))
            found[past.name] = _taken(values, np.where(end > start, newest[np.maximum(end, 1) - 1], -1), start)
        else:
            low, high = _window(past, count_before, series, times, start, here)
            found[past.name] = _statistic(past.kind, values, low, high)
    return found


def longest(pasts: Sequence[Past], moments: Moments) -> int:
    """How many moments before its own a place looks back on, at most, among those of the moments themselves."""
    most = max((past.steps + past.after for past in pasts if past.steps), default=0)
    spans = [past.span_us + past.after_us for past in pasts if past.span_us]
    if spans and moments.times.size:
        count_before = _counter(moments)
        early = count_before(moments.series, moments.times - max(spans), "left")
        most = max(most, int((np.arange(moments.times.size) - early).max()) + 1)
    return most


def _counter(moments: Moments) -> Callable[[Any, Any, Any], Any]:
    """Counts the moments of earlier series, and of the same one before a time (`left`) or up to it (`right`)."""
    if moments.series[0] == moments.series[-1]:  # the usual case while serving
        only, size = moments.series[0], moments.times.size

        def of_one(series: Any, times: Any, side: Any) -> Any:
            within = np.searchsorted(moments.times, times, side)
            return (
                within if (series == only).all() else np.where(series < only, 0, np.where(series > only, size, within))
            )

        return of_one
    ticks = np.unique(moments.times)
    keys = moments.series * (ticks.size + 1) + np.searchsorted(ticks, moments.times)
    return lambda series, times, side: np.searchsorted(
        keys, series * (ticks.size + 1) + np.searchsorted(ticks, times, side)
    )


def _taken(values: Any, places: Any, start: Any) -> Any:
    return np.where(places >= start, values[np.maximum(places, 0)], np.nan)


def _window(past: Past, count_before: Any, series: Any, times: Any, start: Any, here: Any) -> tuple[Any, Any]:
    """The places of the moments in each window, from low up to and without high."""
    if past.steps:
        high = np.maximum(here - past.after, start)
        return np.maximum(high - past.steps, start), high
    high = count_before(series, times - past.after_us, "left")
    return count_before(series, times - past.after_us - past.span_us, "left"), high


def _statistic(kind: str, values: Any, low: Any, high: Any) -> Any:
    known = ~np.isnan(values)
    counted = np.concatenate([[0], np.cumsum(known)])
    count = (counted[high] - counted[low]).astype(float)
    if kind == "count":
        return count
    with np.errstate(all="ignore"):  # an overflow is missing, like every infinity among the features
        if kind in ("sum", "mean"):
            answer = _fold(np.where(known, values, 0.0)[None], np.add, 0.0, low, high)[0]
            answer = answer / count if kind == "mean" else answer
        elif kind == "std":
            leaves = np.stack([known.astype(float), np.where(known, values, 0.0), np.zeros(values.size)])
            answer = np.sqrt(_fold(leaves, _join_moments, 0.0, low, high)[2] / (count - 1))
        else:
            join, worst = (np.minimum, np.inf) if kind == "min" else (np.maximum, -np.inf)
            answer = _fold(np.where(known, values, worst)[None], join, worst, low, high)[0]
        return np.where((count >= (2 if kind == "std" else 1)) & np.isfinite(answer), answer, np.nan)


def _fold(leaves: Any, join: Join, empty: float, low: Any, high: Any) -> Any:
    """join over leaves[:, low:high], (k, q): blocks of 1, 2, 4, … leaves, from the window's end backwards."""
    answer = np.full((len(leaves), len(low)), empty)
    end, sizes = np.array(high), high - low
    level, block, most = leaves, 1, int(sizes.max(initial=0))
    while block <= most:
        takes = np.flatnonzero(sizes & block)
        if takes.size:
            answer[:, takes] = join(level[:, end[takes] - 1], answer[:, takes])
            end[takes] -= block
        if 2 * block <= most:
            doubled = (
                level.copy()
            )  # of the block that ends at each leaf; none that would begin before the first is read
            doubled[:, block:] = join(level[:, :-block], level[:, block:])
            level = doubled
        block *= 2
    return answer


def _join_moments(a: Any, b: Any) -> Any:
    """Count, mean and sum of squared deviations of two samples together (Chan, Golub and LeVeque, 1979)."""
    count = a[0] + b[0]
    some = np.maximum(count, 1.0)
    step = b[1] - a[1]
    mean = np.where(a[0] == 0, b[1], a[1] + step * (b[0] / some))
    return np.stack([count, mean, a[2] + b[2] + step * step * (a[0] * b[0] / some)])
