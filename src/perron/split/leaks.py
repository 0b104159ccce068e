"""Train and test rows in; findings of what leaks from one part to the other out."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perron.check.arrays import is_true, is_valid, numbers_of
from perron.contract import Role, Schema
from perron.hashes import hash_numbers, mix
from perron.split.rows import moments_of

__all__ = ["find_leaks", "row_hashes"]

LOOSE = (Role.ID, Role.WEIGHT, Role.IGNORE)  # what may differ between two rows that say the same


def find_leaks(schema: Schema, train: pa.Table, test: pa.Table) -> list[dict[str, Any]]:
    """A finding for each way in which the test rows aren't new to a model that saw the train rows.

    `duplicates`: rows with the same features and target in both parts. `group`: a value of a Group
    field in both. `time`: train rows newer than the oldest test row. Rows are compared by a hash of 64
    bits: among a million rows the chance of one false double is below 1 in 10 million.
    """
    findings = [_duplicates(schema, train, test), _time(schema, train, test)]
    findings += [_group(field.name, train, test) for field in schema.fields if Role.GROUP in field.roles]
    return [finding for finding in findings if finding is not None]


def _finding(rule: str, column: str | None, rows: int, detail: str) -> dict[str, Any]:
    return {"kind": "leakage", "rule": rule, "column": column, "severity": "warn", "rows": rows, "detail": detail}


def _duplicates(schema: Schema, train: pa.Table, test: pa.Table) -> dict[str, Any] | None:
    names = [field.name for field in schema.fields if not set(LOOSE).intersection(field.roles)]
    seen, asked = row_hashes(train.select(names)), row_hashes(test.select(names))
    both = int(np.isin(asked, seen).sum())
    if not both:
        return None
    share = both / test.num_rows
    return _finding(
        "duplicates",
        None,
        both,
        f"{both:,} of {test.num_rows:,} test rows ({share:.1%}) are in the train rows too, every feature and the target "
        "equal; remove doubles from the source, or split by a pn.Group field",
    )


def row_hashes(table: pa.Table) -> Any:
    """A uint64 (n,) per row; nulls are equal to each other."""
    hashes = np.zeros(table.num_rows, np.uint64)
    for column in table.columns:
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + _hashes(column.combine_chunks())
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _hashes(column: pa.Array) -> Any:
    if pa.types.is_string(column.type):
        import pandas as pd  # SipHash of texts; a check of numbers alone is spared the import

        coded = column.dictionary_encode()
        words = pd.util.hash_array(np.array([*coded.dictionary.to_pylist(), None], dtype=object))
        return words[np.asarray(coded.indices.fill_null(len(words) - 1))]
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
    plain = is_true(column) if pa.types.is_boolean(column.type) else numbers_of(column)
    hashes = hash_numbers(plain.astype(np.float64)) if plain.dtype.kind == "f" else mix(plain.astype(np.uint64))
    return np.where(is_valid(column), hashes, np.uint64(1)) if column.null_count else hashes


def _group(name: str, train: pa.Table, test: pa.Table) -> dict[str, Any] | None:
    known = train[name].combine_chunks().unique().drop_null()
    in_both = pc.is_in(test[name], value_set=known)
    rows = pc.sum(in_both).as_py() or 0
    if not rows:
        return None
    groups = len(test[name].filter(in_both).unique())
    return _finding(
        "group",
        name,
        rows,
        f"{groups:,} groups of {name} have rows in both parts ({rows:,} of {test.num_rows:,} test rows); "
        "split with pn.split.grouped",
    )


def _time(schema: Schema, train: pa.Table, test: pa.Table) -> dict[str, Any] | None:
    time = schema.with_role(Role.TIME)
    if time is None:
        return None
    (before, known), (after, asked) = moments_of(train, schema), moments_of(test, schema)
    if not known.any() or not asked.any():
        return None
    newer = int((before[known] > after[asked].min()).sum())
    if not newer:
        return None
    return _finding(
        "time",
        time.name,
        newer,
        f"{newer:,} of {train.num_rows:,} train rows are newer than the oldest test row by {time.name}: the model is "
        "scored on a past whose future it has seen; split with pn.split.by_time",
    )
