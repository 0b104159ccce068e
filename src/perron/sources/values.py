"""Python values, or Arrow arrays of any kind, in; Arrow columns that checks and sketches read out."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from perron.contract import INT_MAX, INT_MIN
from perron.errors import SourceError

__all__ = ["Seen", "column_of", "plain", "plain_schema", "text_of", "to_batch"]

NAIVE, MOMENT = pa.timestamp("us"), pa.timestamp("us", tz="UTC")


class Seen:
    """What kinds of values a column held so far; `type` is the one Arrow type that they all fit."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    def add(self, values: Sequence[Any]) -> None:
        for kind in set(map(type, values)):
            if kind is bool:
                self.kinds.add("bool")
            elif issubclass(kind, int):
                numbers = [value for value in values if type(value) is kind]
                self.kinds.add("int" if min(numbers) >= INT_MIN and max(numbers) <= INT_MAX else "text")
            elif issubclass(kind, float):
                self.kinds.add("float")
            elif issubclass(kind, datetime):
                self.kinds.update("moment" if v.tzinfo else "naive" for v in values if type(v) is kind)
            elif issubclass(kind, date):
                self.kinds.add("date")
            elif kind is not type(None):
                self.kinds.add("text")

    @property
    def type(self) -> pa.DataType:
        fits: tuple[tuple[set[str], pa.DataType], ...] = (
            (set(), pa.string()), ({"bool"}, pa.bool_()), ({"int"}, pa.int64()), ({"int", "float"}, pa.float64()),
            ({"date"}, pa.date32()), ({"naive", "date"}, NAIVE), ({"moment"}, MOMENT),
        )  # fmt: skip
        return next((kind for kinds, kind in fits if self.kinds <= kinds), pa.string())


def text_of(value: Any) -> str | None:
    """A value as its text: whole floats as whole numbers, what is nested as JSON."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case Decimal():
            return format(value, "f") if value.is_finite() else str(value)
        case date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value).hex()
        case dict() | list() | tuple():
            return json.dumps(value, ensure_ascii=False, default=text_of)
        case _:
            return str(value)


def column_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """The values as an array of that type.

    Raises:
        pa.ArrowInvalid, pa.ArrowTypeError, OverflowError: one of them doesn't fit.
    """
    if pa.types.is_string(kind) and not set(map(type, values)) <= {str, type(None)}:
        values = list(map(text_of, values))
    elif pa.types.is_timestamp(kind) and kind.tz is None:
        values = [datetime(v.year, v.month, v.day) if v is not None and type(v) is date else v for v in values]
    return pa.array(values, kind)


def to_batch(columns: Iterable[Sequence[Any]], schema: pa.Schema, where: str, first: int) -> pa.RecordBatch:
    """The columns as a batch.

    Args:
        columns: of Python values.
        schema: of the batch.
        where: what names the source in an error.
        first: the number of the first row.

    Raises:
        SourceError: a value doesn't fit its column; names the row and the column.
    """
    arrays = []
    for field, values in zip(schema, columns, strict=True):
        try:
            arrays.append(column_of(values, field.type))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            place = next(i for i, value in enumerate(values) if not _fits(value, field.type))
            raise SourceError(
                f"{where}: row {first + place + 1}, column {field.name!r}: {values[place]!r:.60} isn't a {field.type}; "
                "give the column one type."
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _fits(value: Any, kind: pa.DataType) -> bool:
    try:
        column_of([value], kind)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema with plain text for large, viewed and empty columns, and without metadata."""
    return pa.schema([pa.field(field.name, _plain_type(field.type)) for field in schema])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    tests: tuple[Callable[[Any], bool], ...] = (
        pa.types.is_null, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_nested,
    )  # fmt: skip
    return pa.string() if any(test(kind) for test in tests) else kind


def plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch in a schema of `plain_schema`'s: nested values as JSON text.

    Raises:
        pa.ArrowInvalid, pa.ArrowNotImplementedError: a column doesn't fit.
    """
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        if column.type == field.type:
            columns.append(column)
        elif pa.types.is_nested(column.type):
            columns.append(pa.array([text_of(value) for value in column.to_pylist()], pa.string()))
        else:
            columns.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
