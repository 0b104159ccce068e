"""A row of texts, as a CSV file has them, in; the values that a request would hold out.

The row-wise twin of what `check.table` reads from columns of text, without Arrow: so that a server that
has no tables reads the same numbers, truth values and nulls.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from perron.contract import Field, Schema
from perron.errors import DataError

__all__ = ["TextReader", "read_text"]

NULLS = frozenset(("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "<NA>"))
TRUE, FALSE = frozenset(("true", "t", "yes", "y", "1")), frozenset(("false", "f", "no", "n", "0"))
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
MOST_DIGITS = 400  # of an exponent's number that is made whole


def read_text(field: Field, text: str) -> Any:
    """The value, None where the text stands for a missing one, the text itself where it is no value of the field's kind."""
    if field.kind == "text":
        return text or None
    if field.kind == "category" and not field.is_numeric_category:
        if text in field.values:
            return text
        stripped = text.strip()
        return None if stripped in NULLS and stripped not in field.values else stripped
    stripped = text.strip()
    if stripped in NULLS:
        return None
    return _READERS.get(field.kind, str)(stripped)


def _float(text: str) -> Any:
    return float(text) if NUMBER.fullmatch(text) else text


def _int(text: str) -> Any:
    if not NUMBER.fullmatch(text):
        return text
    number = Decimal(text)
    if number.adjusted() > 18 or number != number.to_integral_value():
        return text
    return int(number)


def _bool(text: str) -> Any:
    lower = text.lower()
    return True if lower in TRUE else False if lower in FALSE else text


_READERS: Mapping[str, Callable[[str], Any]] = {"float": _float, "int": _int, "category": _int, "bool": _bool}


class TextReader:
    """Reads rows of texts under a header; columns that the contract doesn't name are passed over.

    Raises:
        DataError: a column that the contract names isn't there.
    """

    def __init__(self, schema: Schema, header: Sequence[str]) -> None:
        taken = {field.column for field in schema.request}
        self._places: list[tuple[Field, int]] = []
        for field in schema.request:
            if field.column in header:
                self._places.append((field, header.index(field.column)))
            elif field.name in header and field.name not in taken:  # another field's column isn't this one's
                self._places.append((field, header.index(field.name)))
            elif field.is_feature:
                there = ", ".join(header[:12]) + (" …" if len(header) > 12 else "")
                raise DataError(
                    f"The data has no column {field.column!r}, which {schema.name}.{field.name} reads; it has {there}."
                )

    def __call__(self, cells: Sequence[str]) -> dict[str, Any]:
        """The row by the fields' names; what is missing is left out."""
        found = {field.name: read_text(field, cells[place]) for field, place in self._places}
        return {name: value for name, value in found.items() if value is not None}
