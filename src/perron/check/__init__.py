"""Values and a Schema in, faults out: the one judge, of requests (`check.request`) and of tables (`check.table`).

The rules are a field's (`Field.rules`): `type`, `required`, `values`, `ge`, `gt`, `le`, `lt`,
`multiple_of`, `min_length`, `max_length`, `pattern`; a row may also have `unknown` or `target`
fields. `judge` says in plain Python what each means; the request decoder and the table check are
faster ways to the same verdict, and tests hold them to it.
"""

import json
import math
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

from perron.contract import INT_MAX, INT_MIN, Field
from perron.errors import nearest

__all__ = [
    "ABSENT",
    "Absent",
    "Fault",
    "as_utc",
    "bound_of",
    "full_match",
    "is_multiple",
    "judge",
    "judge_row",
    "parse",
    "show",
]

COMPARISONS = {"ge": operator.ge, "gt": operator.gt, "le": operator.le, "lt": operator.lt}
# How far a quotient of floats may lie from a whole number: 0.3 is a multiple of 0.1. The share is of
# the quotient, for what its last bits lose; a larger one would let 1e10 + 0.5 pass as a multiple of 1.
WHOLE_TOLERANCE, WHOLE_SHARE = 1e-9, 1e-15
MOST_HINTS = 100  # of unknown fields' nearest names in one row: each takes a millisecond to find


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule: at which row and field, which rule, what was expected, what came instead."""

    row: int
    field: str
    rule: str
    expected: str
    value: object

    @property
    def message(self) -> str:
        """One line: `Expected a number ≥ 0, got -3 at rows[17].total_rooms`."""
        place = f".{self.field}" if self.field else ""
        return f"Expected {self.expected}, got {show(self.value)} at rows[{self.row}]{place}"

    def to_json(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "field": self.field,
            "rule": self.rule,
            "expected": self.expected,
            "value": self._plain_value(),
            "message": self.message,
        }

    def _plain_value(self) -> object:
        """The value where JSON can hold it as it is, null where none was given, else its text, cut."""
        value = self.value
        if value is ABSENT or value is None or isinstance(value, bool):
            return None if value is ABSENT else value
        if (isinstance(value, int) and INT_MIN <= value <= INT_MAX) or (
            isinstance(value, float) and math.isfinite(value)
        ):
            return value
        return _cut(value) if isinstance(value, str) else show(value)


def _cut(text: str) -> str:
    """At most 80 characters; a lone surrogate, which can't be sent back, becomes a question mark."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= 80 else text[:79] + "…"


class Absent:
    """Stands for a value that wasn't given at all (None is one that was given as null)."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT = Absent()


def show(value: object) -> str:
    """The value as JSON would write it, cut to 80 characters."""
    if value is ABSENT:
        return "nothing"
    if isinstance(value, date):
        return json.dumps(value.isoformat())
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deeply"
    except (TypeError, ValueError):
        text = repr(value)
    return _cut(text)


def judge(field: Field, value: Any, row: int = 0) -> Iterator[Fault]:
    """Every fault of one value as JSON gives it: dates as ISO 8601 text or as date objects."""
    if value is None or value is ABSENT:
        if not field.optional:
            yield Fault(row, field.name, "required", field.expected, value)
        return
    parsed = parse(field, value)
    if parsed is None:
        yield Fault(row, field.name, "type", field.expected, value)
        return
    for rule, holds in _holds(field, parsed):
        if not holds:
            yield Fault(row, field.name, rule, field.expected_by(rule), value)


def judge_row(
    fields: dict[str, Field], target: str | None, row: Any, index: int, hints: bool = True
) -> Iterator[Fault]:
    """Every fault of one row of a request, in the contract's order; unknown fields come last, with the nearest known one."""
    if not isinstance(row, dict):
        yield Fault(index, "", "type", "an object with one key per field", row)
        return
    for name, field in fields.items():
        yield from judge(field, row.get(name, ABSENT), index)
    for place, name in enumerate(name for name in row if name not in fields):
        if name == target:
            yield Fault(index, name, "target", "no value, since it is what is predicted", row[name])
        else:
            hint = f" ({nearest(_cut(name), fields)})" if hints and place < MOST_HINTS else ""
            yield Fault(index, _cut(name), "unknown", f"only the contract's fields{hint}", row[name])


def parse(field: Field, value: Any) -> Any:
    """A value that isn't null in its kind's own Python type; None where it is of another."""
    match field.kind:
        case "float":
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            try:
                number = float(value)
            except OverflowError:
                return None
            return number if math.isfinite(number) else None
        case "int":
            return _whole(value)
        case "bool":
            return value if isinstance(value, bool) else None
        case "text":
            return value if isinstance(value, str) and _encodes(value) else None
        case "category":
            return _whole(value) if field.is_numeric_category else value if isinstance(value, str) else None
        case "date":
            return _day(value)
        case "datetime":
            return _moment(value)


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):  # 41.0 is a whole number, as JSON Schema has it
        if not (math.isfinite(value) and value.is_integer()):
            return None
        value = int(value)
    return value if INT_MIN <= value <= INT_MAX else None


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:?\d{2})?)?")


def _day(value: Any) -> date | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not DAY.fullmatch(value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str) and MOMENT.fullmatch(value):
        try:
            value = datetime.fromisoformat(value.upper())
        except ValueError:
            return None
    return as_utc(value) if isinstance(value, datetime) else None


def as_utc(moment: datetime) -> datetime:
    """The moment with a time zone; a naive one is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def is_multiple(value: float, of: float) -> bool:
    """Whether value / of is whole: exactly of whole numbers, else to a billionth and a few last bits."""
    if isinstance(value, int) and float(of).is_integer():
        return value % int(of) == 0
    ratio = value / of
    if math.isinf(ratio):  # too large for its last bits to tell
        return True
    return abs(ratio - round(ratio)) <= max(WHOLE_TOLERANCE, WHOLE_SHARE * abs(ratio))


@lru_cache(maxsize=1024)
def full_match(pattern: str) -> re.Pattern[str]:
    """The pattern, compiled so that it must match the whole text."""
    return re.compile(rf"(?:{pattern})\Z")


def bound_of(field: Field, code: str) -> Any:
    """The bound, comparable with parsed values, or None."""
    bound = getattr(field, code)
    if bound is None:
        return None
    return as_utc(bound) if field.kind == "datetime" else float(bound) if field.kind == "float" else bound


def _holds(field: Field, value: Any) -> Iterator[tuple[str, bool]]:
    if field.values:
        yield "values", value in field.values
    for code, compare in COMPARISONS.items():
        bound = bound_of(field, code)
        if bound is not None:
            yield code, compare(value, bound)
    if field.multiple_of is not None:
        yield "multiple_of", is_multiple(value, field.multiple_of)
    if field.min_length is not None:
        yield "min_length", len(value) >= field.min_length
    if field.max_length is not None:
        yield "max_length", len(value) <= field.max_length
    if field.pattern is not None:
        yield "pattern", full_match(field.pattern).match(value) is not None
