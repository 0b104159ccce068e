"""The labelled table in (`data/labels.parquet`); its rows by id, the table with more of them, or a source with them beside it, out."""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from perron.check.table import TableCheck, arrow_schema, read_values
from perron.contract import Field, Role, Schema
from perron.digest import digest
from perron.errors import DataError, LedgerError
from perron.source import Source, open_source
from perron.store import write_atomically

__all__ = ["WithLabels", "forget_asked", "id_of", "merge_labelled", "read_labelled", "row_id", "to_table"]

Rows = Mapping[str, Mapping[str, Any]]


def row_id(row: Mapping[str, Any]) -> str:
    """The id of a row without one of its own: a hash of its values; null and absent are one."""
    return f"row-{digest({name: value for name, value in row.items() if value is not None})[:28]}"


def id_of(schema: Schema, row: Mapping[str, Any]) -> str:
    """A row's id: the contract's Id as text, or a hash of all but the target."""
    key = schema.with_role(Role.ID)
    value = None if key is None else row[key.name]
    if value is None:
        return row_id({field.name: row[field.name] for field in schema.request})
    return value.isoformat() if isinstance(value, date) else str(value)


def to_table(schema: Schema, rows: Rows) -> pa.Table:
    """Rows by id as a table in the contract's columns."""
    columns = {
        field.column: pa.array([row[field.name] for row in rows.values()], made.type)
        for field, made in zip(schema.fields, arrow_schema(schema.fields), strict=True)
    }
    return pa.table(columns)


def read_labelled(path: Path, schema: Schema) -> dict[str, dict[str, Any]]:
    """The labelled table's rows by id; none where there is no table yet.

    Raises:
        SourceError: it is damaged.
        DataError: a row breaks the contract, which changed since.
    """
    if not path.is_file():
        return {}
    check, rows = TableCheck(schema), {}
    for batch in open_source(path).chunks():
        for row in check(batch).good.to_pylist():
            rows[id_of(schema, row)] = row
    if check.report.bad:
        raise DataError(
            f"{check.report.bad:,} rows of {path} break the contract: {check.report.words}; mend them, or move the file away."
        )
    return rows


def forget_asked(folder: Path, name: str, values: Collection[tuple[str, Any]]) -> int:
    """How many rows were removed from what was kept of exports: those with one of the values (type's name, value) in that field.

    Raises:
        LedgerError: a file can't be written.
    """
    gone = 0
    for path in sorted(folder.glob("*.parquet")):
        table = parquet.read_table(path)
        if name not in table.column_names:
            continue
        keep = [(type(value).__name__, value) not in values for value in table[name].to_pylist()]
        if all(keep):
            continue
        gone += keep.count(False)
        building = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            parquet.write_table(table.filter(pa.array(keep)), building, compression="zstd")
            os.replace(building, path)
        except OSError as error:
            raise LedgerError(f"{path} can't be written: {error.strerror or error}.") from error
        finally:
            building.unlink(missing_ok=True)
    return gone


def merge_labelled(path: Path, schema: Schema, rows: Rows) -> tuple[int, int]:
    """How many rows the labelled table has more, and how many have another label; it is replaced as a whole, and only
    where something changed.

    Raises:
        SourceError: the table is damaged.
        DataError: it can't be written, or a row in it breaks the contract.
    """
    known = read_labelled(path, schema)
    added = sum(name not in known for name in rows)
    changed = sum(name in known and known[name] != row for name, row in rows.items())
    if added or changed:
        sink = pa.BufferOutputStream()
        parquet.write_table(to_table(schema, {**known, **rows}), sink, compression="zstd")
        try:
            write_atomically(path, sink.getvalue().to_pybytes())
        except OSError as error:
            raise DataError(f"{path} can't be written: {error.strerror}.") from error
    return added, changed


@dataclass(frozen=True)
class WithLabels:
    """A source, and after its rows those of a labelled table.

    Where the contract has an Id, a source's row with the Id of a labelled one is left out: the label is newer.
    """

    source: Source
    labels: Source
    schema: Schema

    @property
    def names(self) -> list[str]:
        return self.source.names

    def fingerprint(self) -> str | None:
        marks = [self.source.fingerprint(), self.labels.fingerprint()]
        return None if None in marks else digest(marks)

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches with the source's columns; those that the labelled table lacks are null in its rows.

        Raises:
            SourceError: one of the two can't be read.
            DataError: the labelled table lacks a column of the contract.
        """
        for name in (field.column for field in self.schema.fields):
            if name not in self.labels.names:
                raise DataError(f"The labelled table has no column {name!r}; import the labels again.")
        key = self.schema.with_role(Role.ID)
        known = None if key is None else self._ids(key)
        for batch in self.source.chunks():
            if key is None or known is None:
                yield batch
                continue
            column = next((name for name in (key.column, key.name) if name in batch.schema.names), None)
            if column is None:  # the contract's check will say so
                yield batch
            else:
                yield batch.filter(pc.invert(pc.is_in(read_values(key, batch.column(column)), known)))
        column_of = {field.name: field.column for field in self.schema.fields}
        column_of |= {field.column: field.column for field in self.schema.fields}
        for batch in self.labels.chunks():
            columns = [
                batch.column(column_of[name]) if name in column_of else pa.nulls(batch.num_rows, pa.string())
                for name in self.names
            ]
            yield pa.RecordBatch.from_arrays(columns, names=self.names)

    def _ids(self, key: Field) -> pa.Array:
        parts = [read_values(key, batch.column(key.column)) for batch in self.labels.chunks()]
        return pa.chunked_array(parts).combine_chunks().drop_null() if parts else None
