"""A Split and rows in; for each row its part (train, test or neither), and the folds of the train rows, out."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from perron.contract import Role, Schema
from perron.errors import DataError
from perron.split import Split

__all__ = ["NEITHER", "TEST", "TRAIN", "fold_rows", "groups_of", "moments_of", "split_rows"]

TRAIN, TEST, NEITHER = 0, 1, 2


def split_rows(split: Split, table: pa.Table, schema: Schema) -> Any:
    """For each row its part: int8 (n,) of TRAIN, TEST and, within the gap of a split by time, NEITHER.

    Raises:
        DataError: too few rows, moments or groups for two parts, or a class of the target with one row (stratified).
    """
    rows = table.num_rows
    wanted = round(rows * split.test)
    if not 1 <= wanted <= rows - 1:
        raise DataError(
            f"{rows} good rows can't be split into train and test with a share of {split.test}; bring more rows."
        )
    if split.kind == "by_time":
        return _by_time(split, table, schema, wanted)
    generator = np.random.default_rng(split.seed)
    parts = np.full(rows, TRAIN, np.int8)
    if split.kind == "random":
        parts[generator.permutation(rows)[:wanted]] = TEST
    elif split.kind == "grouped":
        parts[_whole_groups(groups_of(table, schema), wanted, generator)] = TEST
    else:
        for places in _strata(table, schema):
            if places.size < 2:
                assert schema.target is not None
                raise DataError(
                    f"The class {table[schema.target.name][int(places[0])].as_py()!r} has one row, "
                    "which can't be in both parts; drop the class, or split at random."
                )
            share = min(max(round(places.size * split.test), 1), places.size - 1)
            parts[generator.permutation(places)[:share]] = TEST
    return parts


def _by_time(split: Split, table: pa.Table, schema: Schema, wanted: int) -> Any:
    moments, is_known = moments_of(table, schema)
    ordered = np.sort(moments[is_known])
    if ordered.size <= wanted:
        raise DataError(f"Only {ordered.size} of {table.num_rows} rows have a moment; a split by time needs more.")
    border = ordered[-wanted]
    is_test = is_known & (moments >= border)
    is_train = ~is_test & (~is_known | (moments <= border - _gap(split, schema)))
    if not is_train.any():
        if is_test.all():
            raise DataError(
                f"All of the newest {split.test:.0%} of the rows share the moment {_shown(table, schema, is_test)}; "
                "a split by time leaves no train rows."
            )
        raise DataError("No train row is older than the gap before the test rows; make the gap shorter.")
    return np.where(is_test, TEST, np.where(is_train, TRAIN, NEITHER)).astype(np.int8)


def _shown(table: pa.Table, schema: Schema, mask: Any) -> Any:
    time = schema.with_role(Role.TIME)
    assert time is not None
    return table[time.name][int(np.flatnonzero(mask)[0])].as_py()


def moments_of(table: pa.Table, schema: Schema) -> tuple[Any, Any]:
    """The rows' moments (n,), exact (microseconds of dates and datetimes, else the numbers), and which of them are known."""
    time = schema.with_role(Role.TIME)
    assert time is not None  # System refuses a split by time without a Time field
    column = table[time.name].combine_chunks()
    known = np.asarray(column.is_valid())
    if time.kind == "date":
        return np.asarray(column.cast(pa.int32()).fill_null(0)).astype(np.int64) * 86_400_000_000, known
    if time.kind == "datetime":
        return np.asarray(column.cast(pa.int64()).fill_null(0)), known
    return np.asarray(column.fill_null(0)), known


def _gap(split: Split, schema: Schema) -> Any:
    """The gap in the unit of `moments_of`; rows exactly that old are train rows, but never those at the border."""
    time = schema.with_role(Role.TIME)
    assert time is not None
    return round(split.gap_s * 1e6) if time.kind in ("date", "datetime") else split.gap


def groups_of(table: pa.Table, schema: Schema) -> Any:
    """A number (n,) for each row: equal for rows that must stay together; a row without a group has one of its own."""
    fields = [field.name for field in schema.fields if Role.GROUP in field.roles]
    labels = [_codes(table[name].combine_chunks()) for name in fields]
    if len(labels) == 1:
        return labels[0]
    from scipy.sparse import coo_array  # not at the top: for several Group fields only
    from scipy.sparse.csgraph import connected_components

    rows = table.num_rows
    starts = np.cumsum([rows, *(int(codes.max()) + 1 for codes in labels[:-1])])
    ends = np.concatenate([codes + start for codes, start in zip(labels, starts, strict=True)])
    size = int(ends.max()) + 1
    edges = (np.ones(ends.size, np.int8), (np.tile(np.arange(rows), len(labels)), ends))
    return connected_components(coo_array(edges, shape=(size, size)), directed=False)[1][:rows]


def _codes(column: pa.Array) -> Any:
    codes = np.asarray(column.dictionary_encode().indices.cast(pa.int64()).fill_null(-1)).copy()
    alone = codes < 0
    codes[alone] = codes.max(initial=-1) + 1 + np.arange(int(alone.sum()))
    return codes


def _whole_groups(groups: Any, wanted: int, generator: np.random.Generator) -> Any:
    """A mask (n,) of groups taken in a random order while they fit into `wanted` rows; the smallest one if none does.

    Raises:
        DataError: there is one group.
    """
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if sizes.size < 2:
        raise DataError("All rows belong to one group, which can't be in both parts; bring more groups.")
    chosen, taken = np.zeros(sizes.size, bool), 0
    for group in generator.permutation(sizes.size):
        if taken + sizes[group] <= wanted:
            chosen[group] = True
            taken += int(sizes[group])
    if not taken:
        chosen[int(sizes.argmin())] = True
    return chosen[codes]


def _strata(table: pa.Table, schema: Schema) -> list[Any]:
    """The places of each stratum's rows: of each class, or of each tenth of a number."""
    assert schema.target is not None
    target = table[schema.target.name]
    if schema.target.kind in ("float", "int"):
        values = np.asarray(target, dtype=float)
        labels = np.searchsorted(np.quantile(values, np.linspace(0, 1, 11)[1:-1]), values)
    else:
        labels = np.asarray(target.combine_chunks().dictionary_encode().indices)
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def fold_rows(split: Split, table: pa.Table, schema: Schema) -> Iterator[tuple[Any, Any]]:
    """For each fold of the train rows, two masks (n,): the rows to fit on, and those to score on.

    Every row is scored on once; in a backtest, every row but those of the first stretch (and those
    without a moment, which are only fitted on).

    Raises:
        DataError: fewer rows, groups or moments than folds.
    """
    if split.kind == "by_time":
        yield from _origins(split, table, schema)
        return
    labels = _fold_of(split, table, schema, np.random.default_rng(split.seed))
    for fold in range(split.folds):
        held = labels == fold
        if not held.any() or held.all():
            what = "groups" if split.kind == "grouped" else "rows"
            raise DataError(f"There are too few {what} among {table.num_rows} train rows for {split.folds} folds.")
        yield ~held, held


def _fold_of(split: Split, table: pa.Table, schema: Schema, generator: np.random.Generator) -> Any:
    rows = table.num_rows
    if split.kind == "grouped":  # the largest groups first, each into the fold with the fewest rows
        _, codes, sizes = np.unique(groups_of(table, schema), return_inverse=True, return_counts=True)
        order = generator.permutation(sizes.size)
        order = order[np.argsort(-sizes[order], kind="stable")]
        fold_of, filled = np.empty(sizes.size, int), np.zeros(split.folds, int)
        for group in order:
            fold_of[group] = filled.argmin()
            filled[fold_of[group]] += sizes[group]
        return fold_of[codes]
    if split.kind == "random":
        return generator.permutation(np.arange(rows) % split.folds)
    labels, next_fold = np.empty(rows, int), 0
    for places in _strata(table, schema):  # each stratum goes on where the last one ended: folds of even size
        labels[generator.permutation(places)] = (next_fold + np.arange(places.size)) % split.folds
        next_fold += places.size
    return labels


def _origins(split: Split, table: pa.Table, schema: Schema) -> Iterator[tuple[Any, Any]]:
    moments, is_known = moments_of(table, schema)
    ordered = np.sort(moments[is_known])
    places = [ordered.size * (fold + 1) // (split.folds + 1) for fold in range(split.folds)]
    borders = [ordered[place] for place in places if place < ordered.size]
    if len(set(borders)) < split.folds or ordered[0] == borders[0]:
        raise DataError(f"There are too few moments among {table.num_rows} train rows for {split.folds} folds.")
    for place, border in enumerate(borders):
        held = is_known & (moments >= border)
        if place + 1 < len(borders):
            held &= moments < borders[place + 1]
        fitted = ~is_known | ((moments < border) & (moments <= border - _gap(split, schema)))
        if not fitted.any():
            raise DataError("No train row is older than the gap before the first fold; make the gap shorter.")
        yield fitted, held
