"""Two sketches in; what moved between them out: by how much, new categories, nulls, range."""

import math
from typing import Any

import numpy as np

from perron.profile.findings import moment, number, percent
from perron.sketch import ColumnSketch, TableSketch

__all__ = ["compare"]

WIDER = 0.3  # of the range: the extremes of two samples of one normal distribution differ by less
LEAST_MOVE = 0.02  # below it no one needs to know, however many rows there are


def compare(new: TableSketch, old: TableSketch) -> dict[str, Any]:
    """`rows` of both and `columns[]`, the most moved first: `column`, `moved` (0 to 1), `floor`, `changes[]`.

    `moved` is the Kolmogorov-Smirnov distance of numbers and times, and the total variation distance of
    texts and truth values; `floor` is what chance and the sketches' error may make of it. A column is
    listed with at least one change.
    """
    columns = []
    for name in [*new.columns, *(name for name in old.columns if name not in new.columns)]:
        if name not in old.columns or name not in new.columns:
            where = "here" if name in new.columns else "in the other"
            columns.append({"column": name, "moved": 1.0, "floor": 0.0, "changes": [f"Only {where}."]})
            continue
        moved, floor, changes = _column(new.columns[name], old.columns[name])
        if changes:
            columns.append({"column": name, "moved": round(moved, 4), "floor": round(floor, 4), "changes": changes})
    columns.sort(key=lambda c: -float(str(c["moved"])))
    return {"rows": {"this": new.rows, "other": old.rows}, "columns": columns}


def _column(a: ColumnSketch, b: ColumnSketch) -> tuple[float, float, list[str]]:
    changes: list[str] = []
    if "empty" not in (a.kind, b.kind) and a.kind != b.kind:
        return 1.0, 0.0, [f"Was {b.kind}, is {a.kind}."]
    if a.rows and b.rows:
        before, now = b.nulls / b.rows, a.nulls / a.rows
        noise = 4 * math.sqrt(max(before * (1 - before), 0.25 / b.rows) * (1 / a.rows + 1 / b.rows))
        if abs(now - before) > max(noise, 0.005):
            changes.append(f"Missing: {percent(before)} before, {percent(now)} now.")
    if a.sensitive or b.sensitive or not a.given or not b.given:
        return 0.0, 0.0, changes
    if a.kind in ("number", "time"):
        moved, floor, more = _numbers(a, b)
    else:
        moved, floor, more = _values(a, b)
    return moved, floor, [*more, *changes]


def _numbers(a: ColumnSketch, b: ColumnSketch) -> tuple[float, float, list[str]]:
    if not a.moments.n or not b.moments.n:
        return 0.0, 0.0, []
    show = moment if a.kind == "time" else number
    places = sorted({*a.quantiles(list(np.linspace(0, 1, 101))), *b.quantiles(list(np.linspace(0, 1, 101)))})
    mine = a.quantile_sketch.ranks(places)
    theirs = b.quantile_sketch.ranks(places)
    moved = float(np.abs(mine - theirs).max())
    error = a.quantile_sketch.rank_error + b.quantile_sketch.rank_error
    floor = 1.63 * math.sqrt(1 / a.moments.n + 1 / b.moments.n) + error
    changes = []
    if moved > max(floor, LEAST_MOVE):
        before, now = b.quantiles([0.5])[0], a.quantiles([0.5])[0]
        changes.append(f"Moved by {moved:.2f}: the median from {show(before)} to {show(now)}.")
    assert a.low is not None and a.high is not None and b.low is not None and b.high is not None
    width = (b.high - b.low) or abs(b.high) or 1.0
    if a.low < b.low - WIDER * width or a.high > b.high + WIDER * width:
        changes.append(f"Range: {show(b.low)} to {show(b.high)} before, {show(a.low)} to {show(a.high)} now.")
    return moved, floor, changes


def _values(a: ColumnSketch, b: ColumnSketch) -> tuple[float, float, list[str]]:
    mine, theirs = ({value: count / c.given for value, count in c.top.most(c.top.size)} for c in (a, b))
    changes = []
    values = [*theirs, *(value for value in mine if value not in theirs)]
    p, q = (np.array([shares.get(value, 0.0) for value in values]) for shares in (mine, theirs))
    moved = 0.5 * float(np.abs(p - q).sum() + abs(p.sum() - q.sum()))
    mean = (p * a.given + q * b.given) / (a.given + b.given)
    chance = np.sqrt(mean * (1 - mean) * (1 / a.given + 1 / b.given))
    # The expected distance of two samples of one distribution, and three standard deviations of it.
    floor = float(0.4 * chance.sum() + 1.5 * np.sqrt((chance**2).sum()))
    floor += 0.5 * len(values) * (a.top.error / a.given + b.top.error / b.given) if a.top.error + b.top.error else 0.0
    if moved > max(floor, LEAST_MOVE):
        value = values[int(np.abs(p - q).argmax())]
        changes.append(
            f"Moved by {moved:.2f}: {value!r} from {percent(theirs.get(value, 0))} to {percent(mine.get(value, 0))}."
        )
    if b.top.is_exact:
        fresh = [str(value) for value in mine if value not in theirs]
        if fresh:
            rest = f" and {len(fresh) - 5:,} more" if len(fresh) > 5 else ""
            share = sum(mine[value] for value in mine if value not in theirs)
            changes.append(f"New values ({percent(share)} of the rows): {', '.join(fresh[:5])}{rest}.")
    return moved, floor, changes
