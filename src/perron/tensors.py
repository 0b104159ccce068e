"""Checked rows in; the raw arrays that a bundle's graph is fed out, one (n,) per feature of the contract."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from perron.contract import Field, Schema

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DAY_S", "NULL_TEXT", "RowPacker", "from_table", "microseconds", "raw_dtype", "seconds"]

NULL_TEXT = "␀"  # stands for a missing text: a graph's strings can't be null
DAY_S = 86_400.0
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def raw_dtype(field: Field) -> str:
    """How a field travels into the graph: `string`, `int64`, `bool` or `float64`.

    Whatever may be missing, and every date (seconds since 1970 in UTC), is float64 with NaN for null.
    """
    if field.kind == "text" or (field.kind == "category" and not field.is_numeric_category):
        return "string"
    if field.optional or field.kind in ("float", "date", "datetime"):
        return "float64"
    return "bool" if field.kind == "bool" else "int64"


def from_table(schema: Schema, table: "pa.Table | pa.RecordBatch") -> dict[str, Any]:
    """The features of checked rows, by field: float64, int64, bool or objects of text."""
    return {field.name: _from_column(field, table[field.name]) for field in schema.features}


def _from_column(field: Field, column: Any) -> Any:
    import pyarrow as pa  # not at the top: the server packs rows and never has a table

    def with_nan(numbers: Any) -> Any:
        return np.asarray(numbers.cast(pa.float64(), safe=False).fill_null(np.nan), dtype=np.float64)

    match raw_dtype(field):
        case "string":
            return np.array(column.fill_null(NULL_TEXT).to_pylist(), dtype=object)
        case "float64" if field.kind == "date":
            return with_nan(column.cast(pa.int32())) * DAY_S
        case "float64" if field.kind == "datetime":
            return with_nan(column.cast(pa.int64())) / 1e6
        case "float64" if field.kind == "bool":
            return with_nan(column.cast(pa.int8()))
        case "float64":
            return with_nan(column)
        case kind:
            return np.asarray(column, dtype=kind)


class RowPacker:
    """Packs decoded requests: tuples in the order of `schema.request` into arrays by feature.

    The row-wise twin of `from_table`; thread safe.
    """

    def __init__(self, schema: Schema) -> None:
        order = [field.name for field in schema.request]
        self._fields = [(field.name, order.index(field.name), *_packing(field)) for field in schema.features]

    def __call__(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
        """The arrays (n,) of n ≥ 1 rows."""
        columns = list(zip(*rows, strict=True))
        return {
            name: np.array(columns[place] if convert is None else convert(columns[place]), dtype)
            for name, place, dtype, convert in self._fields
        }


def _packing(field: Field) -> tuple[Any, Callable[[Iterable[Any]], list[Any]] | None]:
    """The array's type, and what turns a column of values into what NumPy reads (None: nothing; it reads None as NaN)."""
    dtype = raw_dtype(field)
    if dtype == "string":
        return object, (lambda values: [NULL_TEXT if v is None else v for v in values]) if field.optional else None
    if field.kind in ("date", "datetime"):
        return np.float64, lambda values: [None if v is None else seconds(v) for v in values]
    return np.dtype(dtype), None


def microseconds(value: date) -> int:
    """Since 1970 in UTC, exactly; a date is its first instant, and a naive datetime is UTC."""
    if isinstance(value, datetime):
        return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND
    return (value - date(1970, 1, 1)).days * 86_400_000_000


def seconds(value: date) -> float:
    """A date or datetime (naive means UTC) as the graph is fed it: seconds since 1970 in UTC."""
    return microseconds(value) / 1e6  # exactly as `from_table` divides; timestamp() rounds otherwise
