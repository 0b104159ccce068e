"""Two samples of rows in; how well a classifier tells them apart out: drift of columns together that none shows alone.

A gradient boosting learns which sample a row is from, and is asked of rows that it didn't see. Its AUC is the chance
that it ranks a row of now above one of before: 0.5 where nobody can tell (D. Lopez-Paz and M. Oquab, Revisiting Classifier
Two-Sample Tests, 2017). Columns that moved by themselves are left to `perron.drift`, or they would tell all.
"""

from collections.abc import Collection
from dataclasses import dataclass
from math import erfc, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from perron.sketch import TableSketch

__all__ = ["Telling", "tell_apart"]

FOLDS = 5
FEWEST_ROWS, FEWEST_DIFFERENT, MOST_ROWS = 200, 50, 2000  # of each; different ones
ROUNDS = 80
MOST_VALUES = 50  # texts with more say too little of how they come together
PARAMS = {
    "objective": "binary", "num_leaves": 8, "learning_rate": 0.1, "min_child_samples": 20, "seed": 0,
    "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip


@dataclass(frozen=True)
class Telling:
    """How well two samples are told apart: the AUC, the chance of one as large by chance, the rows, and the columns that told
    most, each with its share."""

    auc: float
    p_value: float
    rows: tuple[int, int]
    columns: tuple[tuple[str, float], ...]


def tell_apart(reference: TableSketch, window: TableSketch, without: Collection[str] = ()) -> Telling | None:
    """How well the rows of a window are told from those of a reference; None where there is too little of either.

    Args:
        reference, window: whose samples of rows are taken.
        without: columns that are left out, beside times (which always tell), texts of many values and what is hidden.
    """
    names = [name for name in window.sample.columns if name in reference.sample.columns and name not in without]
    columns: dict[str, npt.NDArray[np.float64]] = {}
    is_category = []
    rows = tuple(min(len(sketch.sample.hashes), MOST_ROWS) for sketch in (reference, window))
    if min(rows) < FEWEST_DIFFERENT or min(s.sample.counts.sum() for s in (reference, window)) < FEWEST_ROWS:
        return None
    for name in names:
        before, now = (s.sample.columns[name][:count] for s, count in zip((reference, window), rows, strict=True))
        found = _numbers(before, now, reference.columns[name].kind)
        if found is not None:
            columns[name], coded = found
            if coded:
                is_category.append(len(columns) - 1)
    if len(columns) < 2:
        return None
    table = np.column_stack(list(columns.values()))
    is_now = np.repeat([False, True], rows)
    weights = np.concatenate([reference.sample.counts[: rows[0]], window.sample.counts[: rows[1]]]).astype(np.float64)
    for side in (is_now, ~is_now):
        weights[side] *= side.sum() / weights[side].sum()
    scores, gains = _scores(table, is_now, weights, is_category)
    auc = _auc(scores, is_now, weights)
    count = [float(weights[side].sum() ** 2 / (weights[side] ** 2).sum()) for side in (~is_now, is_now)]
    error = sqrt(
        (count[0] + count[1] + 1) / (12 * count[0] * count[1])
    )  # Hanley and McNeil, 1982, where nobody can tell
    told = sorted(zip(columns, gains, strict=True), key=lambda pair: -pair[1])
    return Telling(
        auc, erfc(max(auc - 0.5, 0.0) / error / sqrt(2)) / 2, (rows[0], rows[1]),
        tuple((name, float(gain)) for name, gain in told),
    )  # fmt: skip


def _numbers(
    before: npt.NDArray[Any], now: npt.NDArray[Any], kind: str | None
) -> tuple[npt.NDArray[np.float64], bool] | None:
    """Both samples of a column as numbers, one after the other, and whether they are codes of categories."""
    if kind == "time":
        return None
    if kind in ("number", "bool"):
        try:
            return np.concatenate([before.astype(np.float64), now.astype(np.float64)]), False
        except (TypeError, ValueError):  # another type in one of the two: `perron.drift` says so
            return None
    texts = ["" if value is None else f"={value}" for value in (*before.tolist(), *now.tolist())]
    known = {text: place for place, text in enumerate(sorted(set(texts)))}
    if len(known) > MOST_VALUES:
        return None
    return np.array([known[text] for text in texts], np.float64), True


def _scores(
    table: npt.NDArray[np.float64],
    is_now: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    is_category: list[int],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """What each row is given by a classifier that never saw an equal row, and each column's share of the gains."""
    import lightgbm  # not at the top: few looks have rows enough, and it takes a third of a second

    _, same = np.unique(table, axis=0, return_inverse=True)
    fold = np.random.default_rng(0).integers(0, FOLDS, int(same.max()) + 1)[same.reshape(-1)]
    scores, gains = np.zeros(len(table)), np.zeros(table.shape[1])
    for part in range(FOLDS):
        seen = fold != part
        if seen.all() or is_now[seen].all() or not is_now[seen].any():
            continue
        data = lightgbm.Dataset(
            table[seen], is_now[seen], weight=weights[seen], categorical_feature=is_category, free_raw_data=False
        )
        made = lightgbm.train(PARAMS, data, ROUNDS)
        scores[~seen] = made.predict(table[~seen], num_threads=1)
        gains += made.feature_importance("gain")
    return scores, gains / gains.sum() if gains.sum() else gains


def _auc(scores: npt.NDArray[np.float64], is_now: npt.NDArray[np.bool_], weights: npt.NDArray[np.float64]) -> float:
    """The weighted share of pairs in which the row of now is ranked above; ties count half."""
    values, place = np.unique(scores, return_inverse=True)
    now, before = np.zeros(len(values)), np.zeros(len(values))
    np.add.at(now, place[is_now], weights[is_now])
    np.add.at(before, place[~is_now], weights[~is_now])
    below = np.cumsum(before) - before
    return float((now * (below + before / 2)).sum() / (now.sum() * before.sum()))
