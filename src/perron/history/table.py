"""Tables of checked rows in; the pasts of their rows as columns, and what a bundle keeps of them, out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from perron import tensors
from perron.bundle import Bundle
from perron.contract import Schema
from perron.history import Past
from perron.history.moments import Moments, merge, pasts_of
from perron.history.state import History, Key, Part, pack_history, parted
from perron.split.rows import moments_of

__all__ = ["FilePasts", "add_pasts", "fed", "of_file", "pack_table"]


def add_pasts(table: pa.Table, schema: Schema, pasts: Sequence[Past]) -> pa.Table:
    """The table with a float64 column per declaration, each row's past among all rows of the table."""
    made: dict[str, Any] = {}
    for by, (some, fields) in parted(pasts, schema).items():
        moments, places, _ = _frame(table, schema, by, fields)
        found = pasts_of(some, moments, moments.series, moments.times)
        made |= {name: numbers[places] for name, numbers in found.items()}
    for past in pasts:
        table = table.append_column(past.name, pa.array(made[past.name], pa.float64()))
    return table


def pack_table(table: pa.Table, schema: Schema, pasts: Sequence[Past], taken: float) -> dict[str, bytes]:
    """The files of a bundle that serves these declarations: none where there are none."""
    if not pasts:
        return {}
    frames = {}
    for by, (_, fields) in parted(pasts, schema).items():
        moments, _, known = _frame(table, schema, by, fields)
        frames[by] = (known, moments)
    return pack_history(schema, pasts, frames, taken)


def _frame(table: pa.Table, schema: Schema, by: str | None, fields: Sequence[str]) -> tuple[Moments, Any, list[Key]]:
    """All moments, the place of each row's among them, and what the series are called."""
    codes, known = _codes(table[by] if by is not None else None, table.num_rows)
    times, _ = moments_of(table, schema)
    values = np.stack([_numbers(table[name]) for name in fields])
    moments, places = merge(codes, times, tuple(fields), values)
    return moments, places, known


def _codes(column: pa.ChunkedArray | None, rows: int) -> tuple[Any, list[Key]]:
    if column is None:
        return np.zeros(rows, np.int64), [None]
    coded = column.combine_chunks().dictionary_encode()
    return np.asarray(coded.indices.cast(pa.int64())), coded.dictionary.to_pylist()


def _numbers(column: Any) -> Any:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(column.cast(pa.float64(), safe=False).fill_null(np.nan), dtype=np.float64)


def fed(bundle: Bundle, table: pa.Table) -> dict[str, Any]:
    """What a bundle's graph is fed for checked rows, with their pasts among its state and each other; the state stays as it is."""
    raw = tensors.from_table(bundle.schema, table)
    return raw if bundle.history is None else raw | of_file(bundle.history, table.to_batches()).pasts


@dataclass(frozen=True)
class FilePasts:
    """The pasts of a file's good rows in order, by declaration; `remember` keeps its values for rows that come later."""

    pasts: dict[str, Any]
    remember: Callable[[], None]


def of_file(history: History, chunks: Iterable[pa.RecordBatch]) -> FilePasts:
    """The pasts of rows among the state and each other, whatever their order.

    Args:
        chunks: checked rows with what `history.schema.request` and, where it is known, the target hold.
    """
    needed = {past.field for past in history.pasts} | {scope.by for scope in history.scopes} | {history.time.name}
    batches = [chunk.select([name for name in chunk.schema.names if name in needed]) for chunk in chunks]
    if not batches:
        return FilePasts({name: np.empty(0) for name in history.names}, lambda: None)
    rows = pa.Table.from_batches(batches)
    parts: list[Part] = []
    for scope in history.scopes:
        codes, known = _codes(rows[scope.by] if scope.by is not None else None, rows.num_rows)
        times, _ = moments_of(rows, history.schema)
        there = rows.column_names
        unknown = np.full(rows.num_rows, np.nan)  # the target, of rows that come without it
        values = np.stack([_numbers(rows[name]) if name in there else unknown for name in scope.fields])
        parts.append((scope, known, codes, times, values))
    return FilePasts(history.features_of_table(parts), lambda: history.observe_table(parts))
