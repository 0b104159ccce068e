"""Chunks of a table and a Schema in; typed good rows and quarantined bad rows out, vectorised.

A chunk's columns may be text (CSV) or typed (Parquet, a data frame). Text is read by the field's
kind, so `"007"` stays text and `" 41 "` is a number. Null is an empty cell, and NA, NaN, null, None,
#N/A in columns of numbers, dates and truth values; in text columns only the empty cell is null, and
in categories NA and the like unless they are listed. Memory is a few times one chunk.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perron.check import COMPARISONS, WHOLE_SHARE, WHOLE_TOLERANCE, Fault, bound_of, full_match
from perron.check.arrays import from_bools, from_numbers, from_texts, is_in, is_true, is_valid, nulled, numbers_of
from perron.contract import INT_MAX, INT_MIN, Field, Kind, Schema
from perron.errors import DataError

if TYPE_CHECKING:
    from perron.check.rules import RuleCheck

__all__ = ["Chunk", "Report", "TableCheck", "arrow_schema", "float_text", "read_values", "reads_as"]

NULLS = from_texts(["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "<NA>"])
TRUE, FALSE = from_texts(["true", "t", "yes", "y", "1"]), from_texts(["false", "f", "no", "n", "0"])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_ONE = (date(1, 1, 1) - date(1970, 1, 1)).days
EMPTY = from_texts([""])
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
FIRST_DAY, END_DAY = ((date(1, 1, 1) - date(1970, 1, 1)).days, (date(9999, 12, 31) - date(1970, 1, 1)).days + 1)
MOMENT = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?$"
EXAMPLES = 3  # of faults, kept per rule
ARROW = {
    "float": pa.float64(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us", tz="UTC"),
}
Faults = list[tuple[str, Any]]  # (rule, mask of the rows that break it)


def arrow_schema(fields: Iterable[Field]) -> pa.Schema:
    """The Arrow schema of checked rows: float64, int64, bool, string, date32, timestamp[us, UTC]."""
    return pa.schema([pa.field(f.name, _arrow_type(f), nullable=f.optional) for f in fields])


def _arrow_type(f: Field) -> pa.DataType:
    if f.kind == "category":
        return pa.int64() if f.is_numeric_category else pa.string()
    return ARROW[f.kind]


@dataclass
class Report:
    """What a check found over all chunks: counts by (field, rule) and a few examples of each."""

    rows: int = 0
    bad: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[Fault]] = field(default_factory=dict)

    @property
    def faults(self) -> list[dict[str, Any]]:
        """One entry per broken rule, most frequent first, as plain data."""
        return [
            {"field": name, "rule": rule, "rows": count, "examples": [f.message for f in self.examples[name, rule]]}
            for (name, rule), count in self.counts.most_common()
        ]

    @property
    def words(self) -> str:
        """One line: the three rules broken most, with an example of each."""
        parts = [f"{entry['rows']} × {entry['examples'][0]}" for entry in self.faults[:3]]
        more = len(self.counts) - 3
        return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class Chunk:
    """One checked chunk: the typed good rows, and of each row that came whether it is good."""

    good: pa.RecordBatch
    good_mask: pa.BooleanArray
    _came: pa.RecordBatch
    _first: int
    _faults: list[tuple[Any, str]]

    @cached_property
    def bad(self) -> pa.Table:
        """The bad rows as they came: `row` (counted from 0 over the whole source), `fault` (every broken rule in
        words) and the source's own columns as text.
        """
        places = np.flatnonzero(~is_true(self.good_mask))
        return _quarantine(self._came, places, self._first, self._faults)


class TableCheck:
    """Checks a table chunk by chunk: `[check(batch) for batch in batches]`, then `check.report`."""

    def __init__(self, schema: Schema, *, for_prediction: bool = False, rules: "RuleCheck | None" = None) -> None:
        self._rules = rules
        self.fields = schema.request if for_prediction else schema.fields
        if for_prediction:  # a row to predict may come without what only training needs
            self._may_lack = {f.column for f in self.fields if not f.is_asked}
        else:
            self._may_lack = set()
        self.arrow = arrow_schema(self.fields)
        self.report = Report()
        self._name = schema.name

    def __call__(self, batch: pa.RecordBatch) -> Chunk:
        """The chunk, checked.

        Raises:
            DataError: a column that the contract names isn't there.
        """
        first, columns = self.report.rows, self._columns(batch)
        self.report.rows += batch.num_rows
        ok = np.ones(batch.num_rows, bool)
        told: list[tuple[Any, str]] = []  # the places that break a rule, and its words
        typed = []
        for f, raw in zip(self.fields, columns, strict=True):
            values, faults = _judge(f, raw) if raw is not None else (pa.nulls(batch.num_rows, _arrow_type(f)), [])
            typed.append(values)
            for rule, mask in faults:
                places = np.flatnonzero(mask)
                if places.size:
                    ok[places] = False
                    told.append((places, self._note(f, rule, raw, places, first)))
        checked = pa.RecordBatch.from_arrays(typed, schema=pa.schema([x.with_nullable(True) for x in self.arrow]))
        good = checked.filter(from_bools(ok)) if not ok.all() else checked
        if self._rules is not None:
            good = self._apply_rules(self._rules, good, ok, first, told)
        good = pa.RecordBatch.from_arrays(good.columns, schema=self.arrow)
        self.report.bad += batch.num_rows - int(np.count_nonzero(ok))
        return Chunk(good, from_bools(ok), batch, first, told)

    def _apply_rules(
        self, rules: "RuleCheck", good: pa.RecordBatch, ok: Any, first: int, told: list[tuple[Any, str]]
    ) -> pa.RecordBatch:
        """The rows that break no rule either; `ok` and `told` then tell of the others."""
        places = np.flatnonzero(ok)
        found = rules(good, places + first)
        for rule, mask in found:
            self.report.counts["", rule.name] += int(mask.sum())
            told.append((places[mask], f"expected {rule.expected}"))
            kept = self.report.examples.setdefault(("", rule.name), [])
            for place in np.flatnonzero(mask)[: EXAMPLES - len(kept)].tolist():
                value = {name: good[name][place].as_py() for name in rule.fields}
                kept.append(Fault(first + int(places[place]), "", rule.name, rule.expected, value))
        if not found:
            return good
        broken = np.logical_or.reduce([mask for _, mask in found])
        ok[places[broken]] = False
        return good.filter(from_bools(~broken))

    def _columns(self, batch: pa.RecordBatch) -> list[pa.Array | None]:
        names = batch.schema.names
        found: list[pa.Array | None] = []
        read = {f.column for f in self.fields}
        for f in self.fields:
            if f.column in names:
                found.append(batch.column(f.column))
            elif f.name in names and f.name not in read:  # another field's column isn't this one's
                found.append(batch.column(f.name))
            elif f.column in self._may_lack:
                found.append(None)
            else:
                there = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
                raise DataError(
                    f"The data has no column {f.column!r}, which {self._name}.{f.name} reads; it has {there}."
                )
        return found

    def _note(self, f: Field, rule: str, raw: Any, places: Any, first: int) -> str:
        """Counts a broken rule and keeps examples; its words."""
        self.report.counts[f.name, rule] += places.size
        kept = self.report.examples.setdefault((f.name, rule), [])
        expected = f.expected if rule in ("type", "required") else f.expected_by(rule)
        for place in places[: EXAMPLES - len(kept)].tolist():
            kept.append(Fault(first + place, f.name, rule, expected, _values_of(raw.slice(place, 1))[0]))
        return f"{f.name}: expected {expected}"


def _quarantine(batch: pa.RecordBatch, places: Any, first: int, told: list[tuple[Any, str]]) -> pa.Table:
    indices = from_numbers(places, pa.int64())
    columns: dict[str, pa.Array] = {
        "row": from_numbers(places + first, pa.int64()),
        "fault": _words(batch.num_rows, places, told),
    }
    for name, given in zip(batch.schema.names, batch.columns, strict=True):
        column = (given.cast(pa.string()) if pa.types.is_string_view(given.type) else given).take(indices)
        key = name
        while key in columns or (key != name and key in batch.schema.names):
            key += "_"
        columns[key] = _as_text(column)
    return pa.table(columns)


def _words(rows: int, places: Any, told: list[tuple[Any, str]]) -> pa.Array:
    """Of each bad row every rule that it broke; rows that broke the same ones share the making of their words."""
    broken = np.zeros((rows, len(told)), bool)
    for column, (where, _) in enumerate(told):
        broken[where, column] = True
    kinds, which = np.unique(np.packbits(broken[places], axis=1), axis=0, return_inverse=True)
    texts = [
        "; ".join(told[column][1] for column in np.flatnonzero(np.unpackbits(kind, count=len(told)))) for kind in kinds
    ]
    return from_texts(texts).take(from_numbers(which.reshape(-1).astype(np.int64), pa.int64()))


def _as_text(column: pa.Array) -> pa.Array:
    if pa.types.is_string(column.type) or pa.types.is_integer(column.type):
        return column.cast(pa.string())
    return pa.array([_text(value) for value in _values_of(column)], pa.string())


def _values_of(column: pa.Array) -> list[Any]:
    """The column's values in Python; as Arrow's text, where a time is beyond Python's years."""
    try:
        found: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        found = column.cast(pa.string()).to_pylist()
    return found


def _text(value: object) -> str | None:
    return None if value is None else value.isoformat() if isinstance(value, date) else str(value)


def _judge(f: Field, raw: pa.Array) -> tuple[pa.Array, Faults]:
    """The column in the field's type (null where it can't be), and the mask of each broken rule."""
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    clean = _clean(f, raw)
    if clean is not None:
        return clean, []
    values, wrong = _read(f, raw)
    faults: Faults = [("type", wrong)]
    if not f.optional:
        faults.append(("required", ~is_valid(values) & ~wrong))
    return values, faults + list(_broken(f, values))


def _clean(f: Field, raw: pa.Array) -> pa.Array | None:
    """The column in the field's type where a glance shows that no value breaks a rule; None where it must be judged.

    It is the same verdict, four times as fast: the extremes of a typed column say all that its bounds ask,
    and what needn't be changed isn't copied.
    """
    if (raw.null_count and not f.optional) or f.multiple_of is not None:
        return None
    target, given = _arrow_type(f), raw.type
    if pa.types.is_string(given) and pa.types.is_string(target):
        return raw if _is_clean_text(f, raw) else None
    if given == target and f.kind == "bool":
        return raw
    if f.kind == "float" and (pa.types.is_floating(given) or pa.types.is_integer(given)):
        values = raw.cast(target, safe=False)
    elif (
        (f.kind == "int" and pa.types.is_integer(given) and given != pa.uint64())
        or (f.kind == "date" and given == target)
        or (f.kind == "datetime" and given in (pa.timestamp("us"), target))
    ):
        values = raw.cast(target)
    else:
        return None
    return values if _is_clean_range(f, values) else None


def _is_clean_range(f: Field, values: pa.Array) -> bool:
    """Whether all numbers or dates are finite and within the bounds, by their extremes."""
    kept = values.drop_null() if values.null_count else values
    if not len(kept):
        return True
    numbers = numbers_of(kept)
    low, high = numbers.min().item(), numbers.max().item()  # NaN where one of them is
    if not (math.isfinite(low) and math.isfinite(high)):
        return False
    a_day = {"date": 1, "datetime": 86_400_000_000}.get(f.kind)
    if a_day is not None and not FIRST_DAY * a_day <= low <= high < END_DAY * a_day:
        return False
    bounds = ((code, _plain_bound(f, code)) for code in COMPARISONS)
    return all(b is None or COMPARISONS[code](low if code in ("ge", "gt") else high, b) for code, b in bounds)


def _is_clean_text(f: Field, raw: pa.Array) -> bool:
    if f.values:
        return bool((is_in(raw, from_texts([str(value) for value in f.values])) | ~is_valid(raw)).all())
    counts_letters = f.min_length is not None or f.max_length is not None
    lengths = pc.min_max(pc.utf8_length(raw) if counts_letters else pc.binary_length(raw)).as_py()
    if lengths["min"] is None:
        return True
    if lengths["min"] < max(f.min_length or 0, 1) or (f.max_length is not None and lengths["max"] > f.max_length):
        return False
    return f.pattern is None or not _misfits(f.pattern, raw)


def read_values(f: Field, raw: pa.Array) -> pa.Array:
    """A column of any type in the field's own, null where it can't be."""
    return _read(f, raw.dictionary_decode() if pa.types.is_dictionary(raw.type) else raw)[0]


def _read(f: Field, raw: pa.Array) -> tuple[pa.Array, Any]:
    """The values in the field's type, and a mask of those that are of another."""
    target = _arrow_type(f)
    if pa.types.is_null(raw.type):
        return pa.nulls(len(raw), target), np.zeros(len(raw), bool)
    is_text = pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type) or pa.types.is_string_view(raw.type)
    if is_text:
        raw = raw.cast(pa.string())
    if pa.types.is_string(target):
        return _read_text(f, raw, is_text)
    if is_text:
        stripped = pc.utf8_trim_whitespace(raw)
        raw = nulled(stripped, is_in(stripped, NULLS))
    given = is_valid(raw)
    values = _CASTS[f.kind if f.kind != "category" else "int"](raw, is_text)
    if pa.types.is_floating(raw.type):  # NaN in a typed column is a missing value, not a wrong one
        given = given & ~is_true(pc.is_nan(raw))
    return values, given & ~is_valid(values)


def _read_text(f: Field, raw: pa.Array, is_text: bool) -> tuple[pa.Array, Any]:
    if not is_text:
        raw = float_text(raw) if pa.types.is_floating(raw.type) else raw.cast(pa.string())
    if not f.values:
        return nulled(raw, is_in(raw, EMPTY)), np.zeros(len(raw), bool)
    among = from_texts([str(value) for value in f.values])
    listed = is_in(raw, among)
    if not listed.all():
        raw = pc.if_else(from_bools(listed), raw, pc.utf8_trim_whitespace(raw))
    nulls = NULLS.filter(from_bools(~is_in(NULLS, among)))
    return nulled(raw, is_in(raw, nulls)), np.zeros(len(raw), bool)


def float_text(column: pa.Array) -> pa.Array:
    """Numbers as text, where a contract says that they are: 1.0 of a column of codes with nulls is "1"; NaN is null."""
    return pa.array(
        [
            None if v is None or math.isnan(v) else str(int(v)) if v.is_integer() else str(v)
            for v in column.cast(pa.float64()).to_pylist()
        ],
        pa.string(),
    )


def _floats(raw: pa.Array, is_text: bool) -> pa.Array:
    """Finite float64, null where the value isn't a number."""
    if is_text:
        try:
            values = raw.cast(pa.float64())
        except pa.ArrowInvalid:
            fits = pc.match_substring_regex(raw, NUMBER)
            values = nulled(raw, ~is_true(fits)).cast(pa.float64())
    elif pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type) or pa.types.is_decimal(raw.type):
        values = raw.cast(pa.float64(), safe=False)
    else:
        values = pa.nulls(len(raw), pa.float64())
    return nulled(values, ~np.isfinite(numbers_of(values)))


def _ints(raw: pa.Array, is_text: bool) -> pa.Array:
    """int64, null where the value isn't a whole number of 64 bits; `41.0` is one."""
    if is_text:
        return _ints_from_text(raw)
    if pa.types.is_integer(raw.type):
        try:
            return raw.cast(pa.int64())
        except pa.ArrowInvalid:  # uint64 beyond int64
            return pa.array([v if v is None or v <= INT_MAX else None for v in raw.to_pylist()], pa.int64())
    if pa.types.is_decimal(raw.type):  # by Python: a float64 would lose the last digits
        return pa.array([v if v is None else _exact(v) for v in raw.to_pylist()], pa.int64())
    if pa.types.is_floating(raw.type):
        floats = raw.cast(pa.float64())
        numbers = numbers_of(floats)
        whole = (numbers == np.floor(numbers)) & (numbers < 2.0**63) & (numbers >= -(2.0**63))
        return from_numbers(np.where(whole, numbers, 0).astype(np.int64), pa.int64(), whole & is_valid(floats))
    if pa.types.is_boolean(raw.type):
        return raw.cast(pa.int64())
    return pa.nulls(len(raw), pa.int64())


def _ints_from_text(raw: pa.Array) -> pa.Array:
    has_hex = pc.any(pc.match_substring(raw, "x", ignore_case=True)).as_py()
    try:
        if not has_hex:  # which Arrow would read, `0x10` as 16
            return raw.cast(pa.int64())
    except pa.ArrowInvalid:
        pass
    plain = pc.replace_substring_regex(raw, r"^(?:\+|(-))?(\d+)(?:\.0*)?$", r"\1\2")
    fits = pc.match_substring_regex(plain, r"^-?\d{1,18}$")
    values = nulled(plain, ~is_true(fits)).cast(pa.int64())
    rare = ~is_true(fits) & is_true(pc.match_substring_regex(plain, NUMBER))
    if rare.any():  # longer, or with an exponent: exactly, by Python
        items = values.to_pylist()
        for place in np.flatnonzero(rare):
            items[place] = _exact(Decimal(plain[int(place)].as_py()))
        values = pa.array(items, pa.int64())
    return values


def _exact(number: Decimal) -> int | None:
    """The number where it is whole and has 64 bits."""
    if not number.is_finite() or number.adjusted() > 18 or number != number.to_integral_value():
        return None
    return int(number) if INT_MIN <= number <= INT_MAX else None


def _bools(raw: pa.Array, is_text: bool) -> pa.Array:
    if pa.types.is_boolean(raw.type):
        return raw
    if is_text:
        lower = pc.utf8_lower(raw)
    elif pa.types.is_integer(raw.type) or pa.types.is_floating(raw.type):
        lower = pc.if_else(pc.equal(raw, 1), "1", pc.if_else(pc.equal(raw, 0), "0", "other"))
    else:
        return pa.nulls(len(raw), pa.bool_())
    yes, no = pc.is_in(lower, TRUE), pc.is_in(lower, FALSE)
    return pc.if_else(yes, True, pc.if_else(no, False, pa.scalar(None, pa.bool_())))


def _dates(raw: pa.Array, is_text: bool) -> pa.Array:
    if pa.types.is_date(raw.type):
        return _within_years(raw).cast(pa.date32())
    if pa.types.is_timestamp(raw.type):
        return _moments(raw, is_text).cast(pa.date32(), safe=False)
    if not is_text:
        return pa.nulls(len(raw), pa.date32())
    try:
        days = raw.cast(pa.date32())
    except pa.ArrowInvalid:
        moments = _by_pandas(raw, r"^\d{4}-\d{2}-\d{2}$")
        days = pa.array(moments, pa.timestamp("us", tz="UTC"), from_pandas=True).cast(pa.date32())
    return nulled(days, numbers_of(days) < YEAR_ONE)  # Arrow has a year 0


def _moments(raw: pa.Array, is_text: bool) -> pa.Array:
    kind = ARROW["datetime"]
    if pa.types.is_timestamp(raw.type):
        raw = _within_years(raw)
        return raw.cast(kind, safe=False) if raw.type.tz else raw.cast(pa.timestamp("us"), safe=False).cast(kind)
    if pa.types.is_date(raw.type):
        return _within_years(raw).cast(pa.timestamp("us")).cast(kind)
    if not is_text:
        return pa.nulls(len(raw), kind)
    upper = pc.ascii_upper(raw)
    if pc.all(pc.match_substring_regex(upper, MOMENT)).as_py():  # nulls apart; Arrow reads more than is allowed
        for one in (pa.timestamp("us"), kind):  # fails where offsets are mixed, a fraction is finer, or it is no date
            try:
                read = upper.cast(one).cast(kind)
            except pa.ArrowInvalid:
                continue
            if not ((numbers_of(read) < YEAR_ONE * 86_400_000_000) & is_valid(read)).any():
                return read
    return pa.array(_by_pandas(upper, MOMENT), kind, from_pandas=True)


def _within_years(raw: pa.Array) -> pa.Array:
    """The dates or times, null where the year isn't one from 1 to 9999: what Python and JSON can hold."""
    if pa.types.is_date32(raw.type):
        a_day, numbers = 1.0, raw.cast(pa.int32()).cast(pa.int64())
    else:
        unit = "ms" if pa.types.is_date64(raw.type) else raw.type.unit
        if unit == "ns":  # which reaches from 1677 to 2262
            return raw
        a_day, numbers = 86_400 * {"s": 1, "ms": 1e3, "us": 1e6}[unit], raw.cast(pa.int64())
    first, end = int(FIRST_DAY * a_day), int(END_DAY * a_day)
    fits = pc.and_(pc.greater_equal(numbers, first), pc.less(numbers, end))
    return raw if pc.all(fits).as_py() in (True, None) else pc.if_else(fits, raw, pa.scalar(None, raw.type))


def _by_pandas(raw: pa.Array, shape: str) -> Any:
    import pandas as pd  # only here: most tables are judged without it

    fits = pc.fill_null(pc.match_substring_regex(raw, shape), False)
    kept = pc.if_else(fits, raw, pa.scalar(None, pa.string()))
    kept = pc.replace_substring_regex(kept, r"(\.\d{6})\d+", r"\1").to_pandas()  # finer ones narrow pandas' years
    return pd.to_datetime(kept, errors="coerce", format="ISO8601", utc=True).dt.as_unit("us")


_CASTS = {"float": _floats, "int": _ints, "bool": _bools, "date": _dates, "datetime": _moments}


def reads_as(kind: Kind, text: pa.Array) -> bool:
    """Whether every text, trimmed and none of them null, is a value of that kind (float, int, bool, date or datetime)."""
    return bool(_CASTS[kind](text, True).null_count == 0)


def _broken(f: Field, values: pa.Array) -> Iterator[tuple[str, Any]]:
    """The mask of each rule beside type and required; a null breaks none."""

    given = is_valid(values)
    if f.values:
        among = (
            from_numbers(np.array(f.values, np.int64), values.type)
            if f.is_numeric_category
            else from_texts([str(value) for value in f.values])
        )
        yield "values", given & ~is_in(values, among)
    for code, compare in COMPARISONS.items():
        bound = _plain_bound(f, code)
        if bound is not None:
            yield code, given & ~compare(numbers_of(values), bound)
    if f.multiple_of is not None:
        yield "multiple_of", given & _no_multiple(f, numbers_of(values))
    if f.min_length is not None or f.max_length is not None:
        lengths = numbers_of(pc.utf8_length(values))
        if f.min_length is not None:
            yield "min_length", given & (lengths < f.min_length)
        if f.max_length is not None:
            yield "max_length", given & (lengths > f.max_length)
    if f.pattern is not None:
        yield "pattern", is_in(values, from_texts(_misfits(f.pattern, values)))


def _plain_bound(f: Field, code: str) -> Any:
    """The bound as the number that the field's Arrow type has in memory; None where there is none, or all fit."""
    bound = bound_of(f, code)
    if bound is None or f.kind == "float":
        return bound
    if f.kind == "int":
        bound = math.ceil(bound) if code in ("ge", "lt") else math.floor(bound)
        return bound if INT_MIN <= bound <= INT_MAX else None  # a contract that no number fits is refused
    if f.kind == "date":
        return bound.toordinal() - date(1970, 1, 1).toordinal()
    return (bound - EPOCH) // timedelta(microseconds=1)


def _misfits(pattern: str, values: pa.Array) -> list[str]:
    """The different texts that don't match, by Python's own expressions: requests are judged by the same."""
    match = full_match(pattern).match
    return [text for text in pc.unique(values).to_pylist() if text is not None and not match(text)]


def _no_multiple(f: Field, numbers: Any) -> Any:
    """The vectorised twin of `check.is_multiple`."""
    assert f.multiple_of is not None
    if f.kind == "int":
        return numbers % int(f.multiple_of) != 0
    with np.errstate(over="ignore", invalid="ignore"):
        ratio = numbers / f.multiple_of
        return np.abs(ratio - np.round(ratio)) > np.maximum(WHOLE_TOLERANCE, WHOLE_SHARE * np.abs(ratio))
