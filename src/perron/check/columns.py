"""Columns of arrays and a Schema in; rows in the contract's order out, or everything that is wrong with them.

What is surely right is seen by whole columns; every other value is judged by `perron.check.judge`, so
that an array is refused for the same reason, in the same words, as the same value in a JSON row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perron.check import ABSENT, COMPARISONS, Fault, bound_of, judge, parse
from perron.check.request import MOST_FAULTS, Rejection
from perron.contract import INT_MAX, Field, Schema
from perron.errors import nearest

__all__ = ["Column", "ColumnCheck"]


@dataclass(slots=True)
class Column:
    """One field's values: an array (n,) of numbers or truth values, or a list of texts.

    A text may be None (null), or bytes where it isn't UTF-8. `missing` says which of an array's are null
    (None: none); NaN is null too.
    """

    values: Any
    missing: Any | None = None

    def __len__(self) -> int:
        return len(self.values)


class ColumnCheck:
    """Judges columns: one tuple per row, in the order of `schema.request`, or why there are none. Thread safe once made."""

    def __init__(self, schema: Schema, max_rows: int) -> None:
        self.fields = schema.request
        self.max_rows = max_rows
        self._names = frozenset(field.name for field in self.fields)
        self._target = schema.target.name if schema.target else None

    def __call__(self, columns: Mapping[str, Column]) -> list[tuple[Any, ...]] | Rejection:
        """The rows of columns of one length."""
        rows = max((len(column) for column in columns.values()), default=0)
        if rows == 0:
            return Rejection("invalid", "There are no rows; send at least one.")
        if rows > self.max_rows:
            return Rejection(
                "too_many_rows", f"{rows} rows are more than {self.max_rows} in one request; send them in parts."
            )
        faults = [self._unknown(name) for name in columns if name not in self._names]
        found: list[Sequence[Any]] = []
        for field in self.fields:
            column = columns.get(field.name)
            if column is not None:
                values, wrong = _judged(field, column)
                found.append(values)
                faults += wrong
            else:
                found.append([None] * rows)
                faults += judge(field, ABSENT)
        if faults:
            faults.sort(key=lambda fault: fault.row)  # stable: in the contract's order within a row
            where = "1 value breaks" if len(faults) == 1 else f"{len(faults)} values break"
            return Rejection("invalid", f"{where} the contract.", tuple(faults[:MOST_FAULTS]), len(faults))
        return list(zip(*found, strict=True))

    def _unknown(self, name: str) -> Fault:
        if name == self._target:
            return Fault(0, name, "target", "no value, since it is what is predicted", ABSENT)
        return Fault(0, name[:80], "unknown", f"only the contract's fields ({nearest(name[:80], self._names)})", ABSENT)


def _judged(field: Field, column: Column) -> tuple[list[Any], list[Fault]]:
    """The column's values in the field's own types, None for null, and the faults among them."""
    if isinstance(column.values, list):
        return _judged_texts(field, column.values)
    array = column.values
    null = np.zeros(len(array), bool) if column.missing is None else column.missing
    if array.dtype.kind == "f":
        null = null | np.isnan(array)
    values, doubtful = _READERS.get("int" if field.is_numeric_category else field.kind, _none)(field, array)
    doubtful = doubtful & ~null
    faults: list[Fault] = []
    for place in np.flatnonzero(null).tolist():
        values[place] = None
        if not field.optional:
            faults += judge(field, None, place)
    for place in np.flatnonzero(doubtful).tolist():
        value = array[place].item()
        wrong = list(judge(field, value, place))
        faults += wrong
        if not wrong:
            values[place] = parse(field, value)
    return values, faults


def _judged_texts(field: Field, texts: list[Any]) -> tuple[list[Any], list[Fault]]:
    """Each distinct text is judged once."""
    parsed: dict[Any, Any] = {}
    wrong: set[Any] = set()
    for text in set(texts):
        if next(judge(field, text), None) is not None:
            wrong.add(text)
        parsed[text] = None if text is None else parse(field, text)
    faults = [
        fault for place, text in enumerate(texts) if text in wrong for fault in judge(field, text, place)
    ] if wrong else []  # fmt: skip
    return [parsed[text] for text in texts], faults


def _floats(field: Field, array: Any) -> tuple[list[Any], Any]:
    if array.dtype.kind == "b":
        return _none(field, array)
    numbers = array.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        doubtful = ~np.isfinite(numbers)
        for code, compare in COMPARISONS.items():
            bound = bound_of(field, code)
            if bound is not None:
                doubtful |= ~compare(numbers, bound)
        if field.multiple_of is not None:
            ratio = numbers / field.multiple_of
            doubtful |= ratio != np.round(ratio)
    return numbers.tolist(), doubtful


def _wholes(field: Field, array: Any) -> tuple[list[Any], Any]:
    match array.dtype.kind:
        case "f":
            numbers = array.astype(np.float64, copy=False)
            with np.errstate(invalid="ignore"):
                doubtful = ~((numbers == np.floor(numbers)) & (numbers >= -(2.0**63)) & (numbers < 2.0**63))
            whole = np.where(doubtful, 0, numbers).astype(np.int64)
        case "u":
            doubtful = array > INT_MAX
            whole = np.where(doubtful, 0, array).astype(np.int64)
        case "i":
            doubtful, whole = np.zeros(len(array), bool), array.astype(np.int64, copy=False)
        case _:
            return _none(field, array)
    if field.values:
        doubtful |= ~np.isin(whole, np.array(field.values, np.int64))
    else:
        low, high = field.whole_range
        doubtful |= (whole < low) | (whole > high)
    if field.multiple_of is not None:
        doubtful |= whole % int(field.multiple_of) != 0
    return whole.tolist(), doubtful


def _truths(field: Field, array: Any) -> tuple[list[Any], Any]:
    if array.dtype.kind == "b":
        return array.tolist(), np.zeros(len(array), bool)
    return (array == 1).tolist(), (array != 0) & (array != 1)  # a tensor of 0 and 1 carries truth values exactly


def _none(field: Field, array: Any) -> tuple[list[Any], Any]:
    """For arrays of another kind than the field's: every value goes before the judge."""
    return [None] * len(array), np.ones(len(array), bool)


_READERS: dict[str, Callable[[Field, Any], tuple[list[Any], Any]]] = {
    "float": _floats,
    "int": _wholes,
    "bool": _truths,
}
