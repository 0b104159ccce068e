"""A Schema in; a Hypothesis strategy of valid rows out, and values that break one rule at a time.

Needs hypothesis, which tests have and programs don't. The judge (`perron.check`) has the last word:
a sampled value that it finds fault with is not drawn.
"""

import math
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from perron.check import judge
from perron.contract import Field, Schema

__all__ = ["breaks", "rows", "values"]

PER_RULE = 3  # bad values that `breaks` yields for one rule
DAY_MIN, DAY_MAX = date(1600, 1, 1), date(2400, 1, 1)  # between them every reader of dates agrees
OFFSETS = (None, timedelta(0), timedelta(hours=1), timedelta(hours=-9, minutes=-30))
# Something of every type that JSON has, and of each type more than one.
JUNK: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, 2**63, 10**400, math.inf, math.nan, "", " ", "x", "0", "1.5", "true",
    "2020-02-30", "2020-01-01", "2020-01-01T25:00:00", "2020-01-01T00:00:00", "\ud800", [], [1], {}, {"a": 1},
)  # fmt: skip
TEXTS = ("", "a", "0", " ", "A", "é", "-", "\n", "aa", "a0", "no such value")


def rows(schema: Schema, *, complete: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """Valid rows of a request, as JSON has them: every required field, and some of the others, or null.

    Args:
        schema: the contract.
        complete: rows of a table instead: with the target, and no field left out.
    """
    fields = schema.fields if complete else schema.request
    required = {field.name: values(field) for field in fields if complete or not field.optional}
    others = {field.name: values(field) for field in fields if field.name not in required}
    return st.fixed_dictionaries(required, optional=others)


def values(field: Field) -> st.SearchStrategy[Any]:
    """Valid values of one field, as JSON has them; None too where it may be missing."""
    drawn = _of_kind(field).filter(lambda value: not any(judge(field, value)))
    return st.one_of(st.none(), drawn) if field.optional else drawn


def breaks(fields: Iterable[Field]) -> Iterator[tuple[Field, str, Any]]:
    """The field, the rule and the bad value, for every rule of the fields: each value breaks that rule alone.

    Three values a rule at most. A rule is left out where no simple value breaks it without another
    (`Ge(0)` beside `Gt(0)`).
    """
    for field in fields:
        found: dict[str, int] = {}
        for value in _candidates(field):
            broken = [fault.rule for fault in judge(field, value)]
            if len(broken) == 1 and found.get(broken[0], 0) < PER_RULE:
                found[broken[0]] = found.get(broken[0], 0) + 1
                yield field, broken[0], value


def _of_kind(field: Field) -> st.SearchStrategy[Any]:
    match field.kind:
        case "category":
            return st.sampled_from(field.values)
        case "bool":
            return st.booleans()
        case "int":
            whole = _multiples(field) if field.multiple_of is not None else st.integers(*field.whole_range)
            return whole | whole.filter(lambda number: abs(number) <= 2**53).map(float)  # 41.0 is whole too
        case "float":
            if field.multiple_of is not None:
                return _multiples(field).map(lambda number: number * field.multiple_of)
            low, high = _range(field, -math.inf, math.inf)
            return st.floats(
                None if low == -math.inf else float(low), None if high == math.inf else float(high),
                allow_nan=False, allow_infinity=False,
            )  # fmt: skip
        case "text":
            return _texts(field)
        case "date":
            low, high = _range(field, DAY_MIN, DAY_MAX)
            return st.dates(low, high).map(date.isoformat)
        case "datetime":
            low, high = (_naive(bound) for bound in _range(field, _midnight(DAY_MIN), _midnight(DAY_MAX)))
            return st.builds(_written, st.datetimes(low, high), st.sampled_from(OFFSETS), st.sampled_from("T "))


def _range(field: Field, low: Any, high: Any) -> tuple[Any, Any]:
    """The bounds, those that are excluded too; the given ones where there are none."""
    lows = [_aware(bound) for bound in (field.ge, field.gt) if bound is not None]
    highs = [_aware(bound) for bound in (field.le, field.lt) if bound is not None]
    low, high = max(lows, default=low), min(highs, default=high)
    if field.kind in ("date", "datetime"):  # a bound beyond the usual years
        day = timedelta(days=1000)
        return (low, max(high, low + day) if not highs else high) if lows else (min(low, high - day), high)
    return low, high


def _multiples(field: Field) -> st.SearchStrategy[Any]:
    """Whole numbers between the bounds over `multiple_of`; of an int field, times it."""
    step = field.multiple_of
    assert step is not None
    if field.kind == "int":
        step, (least, greatest) = int(step), field.whole_range
        return st.integers(-(-least // step), greatest // step).map(lambda number: number * step)
    low, high = _range(field, -(2**40) * step, 2**40 * step)
    return st.integers(math.floor(low / step), math.ceil(high / step))


def _texts(field: Field) -> st.SearchStrategy[str]:
    if field.pattern is None:
        return st.text(st.characters(codec="utf-8"), min_size=field.min_length or 0, max_size=field.max_length)
    return st.from_regex(re.compile(rf"(?:{field.pattern})\Z"), fullmatch=True)


def _aware(bound: Any) -> Any:
    return bound.replace(tzinfo=UTC) if isinstance(bound, datetime) and bound.tzinfo is None else bound


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _written(moment: datetime, offset: timedelta | None, mark: str) -> str:
    """The moment, which is in UTC, as text with that offset, or without one."""
    if offset is None:
        return moment.isoformat(mark)
    return moment.replace(tzinfo=UTC).astimezone(timezone(offset)).isoformat(mark)


def _candidates(field: Field) -> Iterator[Any]:
    """Values at and beyond every edge of the field, and junk."""
    yield from JUNK
    bounds = [bound for bound in (field.ge, field.gt, field.le, field.lt) if bound is not None]
    match field.kind:
        case "category":
            yield from (TEXTS if not field.is_numeric_category else (-1, 0, 7, 1_000_003))
        case "int" | "float":
            yield from _numbers(field, [bound for bound in bounds if isinstance(bound, int | float)])
        case "text":
            base = [*TEXTS, *(text * 3 for text in TEXTS), *(text * 40 for text in TEXTS)]
            for length in (field.min_length, field.max_length):
                if length is not None:
                    base += [text * size for size in (length - 1, length + 1) if size >= 0 for text in ("a", "0", "A")]
            yield from base
        case "date" | "datetime":
            for bound in bounds:
                for step in (timedelta(0), timedelta(days=1), timedelta(days=-1), timedelta(days=400)):
                    if isinstance(bound, date):
                        yield (bound + step).isoformat()


def _numbers(field: Field, bounds: list[Any]) -> Iterator[Any]:
    step = field.multiple_of or 1
    for bound in bounds or [0]:
        for count in (0, 1, -1, 1000, -1000):
            value = round(bound / step) * step + count * step
            yield value
            yield from (value + step / 2, value + step / 4, int(value) + 1)
        yield bound
        if field.kind == "float":
            yield from (math.nextafter(bound, math.inf), math.nextafter(bound, -math.inf))
