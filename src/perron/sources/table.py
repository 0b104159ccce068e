"""A function that returns or yields tables in; their rows as chunks out."""

import inspect
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import GeneratorType
from typing import Any

import pyarrow as pa

from perron.errors import PerronError, SourceError
from perron.sources.place import MOST_ROWS, refuse_doubles
from perron.sources.values import plain, plain_schema

__all__ = ["Tables", "open_described"]

TAKEN = "Arrow tables or batches, or data frames of pandas or Polars"


@dataclass
class Tables:
    """What a function gives, called once to know its columns and again whenever it is read again."""

    function: Callable[[], Any]
    name: str
    schema: pa.Schema
    _begun: Iterator[pa.RecordBatch] | None = field(repr=False)

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    def fingerprint(self) -> None:
        """None: only reading tells."""

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of at most 65,536 rows.

        Raises:
            SourceError: the function fails, or gives tables of different columns or types.
        """
        batches, self._begun = self._begun or _batches(self.function, self.name), None
        row = 0
        for batch in batches:
            yield self._fit(batch, row)
            row += batch.num_rows

    def _fit(self, batch: pa.RecordBatch, row: int) -> pa.RecordBatch:
        if set(batch.schema.names) != set(self.names) or batch.num_columns != len(self.names):
            raise SourceError(
                f"{self.name}() gave the columns {', '.join(batch.schema.names[:12])} at row {row:,}, and "
                f"{', '.join(self.names[:12])} before; give every table the same."
            )
        batch = batch.select(self.names)
        try:
            return plain(batch, self.schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            was = next((n for n in self.names if not _casts(batch.column(n), self.schema.field(n).type)), "?")
            raise SourceError(
                f"{self.name}() gave {was!r} as {batch.schema.field(was).type} from row {row:,} on, and as "
                f"{self.schema.field(was).type} before; give every table one type."
            ) from error


def open_described(function: Callable[[], Any], base: Path) -> Tables:
    """The function's rows; it is called, and its first table read.

    Raises:
        SourceError: it fails, gives nothing, or something that isn't a table.
    """
    name = getattr(function, "__name__", type(function).__name__)
    batches = _batches(function, name)
    first = next(batches, None)
    is_again = inspect.isgeneratorfunction(function)
    if (
        is_again
    ):  # which is read from its begin by the thread that reads: a database's connection may not change threads
        batches.close()
    if first is None:
        raise SourceError(f"{name}() gave no table; it must return or yield {TAKEN}.")
    refuse_doubles(first.schema.names, f"{name}()")
    return Tables(function, name, plain_schema(first.schema), None if is_again else chain([first], batches))


def _casts(column: pa.Array, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def _batches(function: Callable[[], Any], name: str) -> Generator[pa.RecordBatch]:
    row = 0
    try:
        given = function()
        several = isinstance(given, GeneratorType | list | tuple) or (
            hasattr(given, "__next__") and not hasattr(given, "__arrow_c_stream__")
        )
        for part in _frames(given if several else [given]):
            reader = _reader(part, name, row)
            empty = True
            for batch in reader:
                for begin in range(0, batch.num_rows, MOST_ROWS):
                    yield batch.slice(begin, MOST_ROWS)
                    empty = False
                row += batch.num_rows
            if empty:
                yield pa.RecordBatch.from_arrays(
                    [pa.nulls(0, kind) for kind in reader.schema.types], schema=reader.schema
                )
    except PerronError:
        raise
    except Exception as error:  # the user's own
        text = str(error).splitlines()[0] if str(error) else ""
        raise SourceError(f"{name}() failed at row {row:,}: {type(error).__name__}: {text}") from error


def _frames(parts: Any) -> Iterator[Any]:
    """The parts, a lazy frame of Polars as what it gives piece by piece."""
    for part in parts:
        if hasattr(part, "collect_batches"):
            yield from part.collect_batches(chunk_size=MOST_ROWS, maintain_order=True)
        elif hasattr(part, "collect") and hasattr(part, "lazy"):  # an older Polars, which gives it whole
            yield part.collect()
        else:
            yield part


def _reader(part: Any, name: str, row: int) -> Any:
    if isinstance(part, pa.RecordBatch):
        return pa.RecordBatchReader.from_batches(part.schema, [part])
    if type(part).__module__.partition(".")[0] == "pandas" and hasattr(part, "columns"):
        part = _from_pandas(part, name, row)
    if hasattr(part, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(part)
        if reader.schema.names or isinstance(part, pa.Table):
            return reader
    raise SourceError(f"{name}() gave {type(part).__name__} at row {row:,}; it must return or yield {TAKEN}.")


def _from_pandas(frame: Any, name: str, row: int) -> pa.Table:
    """The frame without its index; a column of mixed objects is refused with the row."""
    odd = next((column for column in frame.columns if not isinstance(column, str)), None)
    if odd is not None:
        raise SourceError(f"{name}() gave a data frame with the column {odd!r}, whose name isn't text; rename it.")
    refuse_doubles(list(frame.columns), f"{name}()")
    try:
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        for column in frame.columns:
            kinds: dict[type, int] = {}
            for place, value in enumerate(frame[column].tolist()):
                if value is not None and value == value:  # not NaN
                    kinds.setdefault(type(value), place)
            if len(kinds) > 1:
                (one, _), (other, at) = list(kinds.items())[:2]
                raise SourceError(
                    f"{name}(): row {row + at}, column {column!r} is {other.__name__}, and {one.__name__} before; "
                    "give the column one type."
                ) from None
        raise
