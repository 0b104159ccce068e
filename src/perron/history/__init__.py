"""The declaration of a row's past: lags and rolling statistics along the contract's Time field, in series of rows.

    from perron import history

    system = pn.System(..., history=[
        history.lag("cnt", steps=[1, 24, 168]),
        history.lag("temperature", timedelta(hours=1), by="station"),
        history.rolling("cnt", "mean", window=24, after=24),
    ])

A series is the rows with one value of a field (`by`, else the contract's Group; without either, all
rows), in the order of the Time field. It has moments: the rows of one time are one moment, whose
value of a field is the newest that is known. What a row gets is made of moments strictly before its
own, so that no row sees itself, its future, or the rows beside it; where there are none it is NaN.

What is declared here is data. `perron.history.moments` computes, of tables and of requests by the
same code; `perron.history.state` keeps what a service needs; `perron.history.table` reads tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from perron.contract import Field, Role, Schema
from perron.errors import DeclarationError, nearest
from perron.split import Split

__all__ = ["Past", "check_history", "journal_path", "lag", "requested", "rolling", "series_field"]

Statistic = Literal["mean", "sum", "min", "max", "std", "count"]
STATISTICS: tuple[str, ...] = get_args(Statistic)
MOST_STEPS = 100_000  # a service keeps more than twice as many moments of every series
MOST_SPAN = timedelta(days=36_525)
MICROSECOND = timedelta(microseconds=1)
UNITS = (("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1))
NUMERIC = ("float", "int", "bool")
UNSEEN = (Role.ID, Role.GROUP, Role.WEIGHT, Role.TIME)


@dataclass(frozen=True)
class Past:
    """One number about each row's past; made by `lag` and `rolling`.

    Of a lag, `steps` or `span_us` is how far back its value lies. Of a statistic they are the window's
    size, and `after` or `after_us` is how much lies between the window and the row. Steps are moments
    of the series; spans are microseconds.
    """

    field: str
    kind: Literal["lag", "mean", "sum", "min", "max", "std", "count"]
    by: str | None = None
    steps: int = 0
    span_us: int = 0
    after: int = 0
    after_us: int = 0

    @property
    def name(self) -> str:
        """The column's name: `cnt.lag_24`, `cnt.mean_7d_after_1d`, `temperature.lag_1h_by_station`."""
        words = [self.kind, _span(self.span_us) if self.span_us else str(self.steps)]
        if self.after or self.after_us:
            words += ["after", _span(self.after_us) if self.after_us else str(self.after)]
        if self.by is not None:
            words += ["by", self.by]
        return f"{self.field}.{'_'.join(words)}"

    @property
    def attribute(self) -> str:
        """Its name in the features function's `c`: `cnt_lag_24`."""
        return self.name.replace(".", "_")

    def to_json(self) -> dict[str, Any]:
        """The declaration as plain data; `from_json` reads it back, equal."""
        return {name: value for name, value in vars(self).items() if value not in (0, None)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Past":
        return cls(**data)


def lag(
    field: str,
    ago: timedelta | Sequence[timedelta] | None = None,
    *,
    steps: int | Sequence[int] | None = None,
    by: str | None = None,
) -> tuple[Past, ...]:
    """A field's earlier value, one column per step or span.

    Args:
        field: a field of numbers or truth values; the target may be one.
        ago: the last known value at least that long before the row.
        steps: the value that many moments of the series before the row; NaN where that moment has none.
        by: the field that tells series apart; by default the contract's Group.

    Raises:
        DeclarationError: neither or both of `ago` and `steps`, or one that isn't above 0.
    """
    _check_names(field, by)
    if (ago is None) == (steps is None):
        raise DeclarationError(
            f"The lag of {field!r} needs one of the two: steps=[1, 24], or a timedelta such as timedelta(hours=24)."
        )
    given: Any = steps if ago is None else ago
    sizes = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not sizes:
        raise DeclarationError(f"The lag of {field!r} has no steps; name one at least: steps=[1, 24].")
    made = []
    for size in sizes:
        hint = "" if ago is None else ", or steps=… for moments of the series"
        what = f"The lag of {field!r}"
        count, span = _size(size, what, spans=ago is not None, counts=steps is not None, hint=hint)
        made.append(Past(field, "lag", by, count, span))
    return tuple(made)


def rolling(
    field: str,
    statistic: Statistic,
    *,
    window: int | timedelta,
    after: int | timedelta = 0,
    by: str | None = None,
) -> tuple[Past, ...]:
    """A statistic of a field's known values within a window before the row.

    Args:
        field: a field of numbers or truth values; the target may be one.
        statistic: mean, sum, min, max, std (of a sample: divided by n - 1), or count (of known values).
        window: so many moments of the series, or so long a time.
        after: how long a value isn't known yet, in the window's unit: the newest `after` moments before
            the row, or those at most that long before it, are left out. Outcomes come late; with this,
            training sees what serving will.
        by: the field that tells series apart; by default the contract's Group.

    Raises:
        DeclarationError: an unknown statistic, a window that isn't above 0, or an `after` in another unit.
    """
    _check_names(field, by)
    what = f"The rolling {statistic} of {field!r}" if statistic in STATISTICS else f"The rolling statistic of {field!r}"
    if statistic not in STATISTICS:
        raise DeclarationError(f"{what} is {statistic!r}; {nearest(str(statistic), STATISTICS)}")
    steps, span = _size(window, f"{what}: its window")
    gap_steps = gap_span = 0
    if after not in (0, timedelta(0)) or isinstance(after, bool):
        gap_steps, gap_span = _size(after, f"{what}: its after", spans=bool(span), counts=bool(steps))
    return (Past(field, statistic, by, steps, span, gap_steps, gap_span),)


def _check_names(field: object, by: object) -> None:
    if not isinstance(field, str) or not isinstance(by, str | None):
        raise DeclarationError(f"A history is of {field!r:.60}, by {by!r:.60}; name fields of the contract.")


def _size(value: Any, what: str, *, spans: bool = True, counts: bool = True, hint: str = "") -> tuple[int, int]:
    """Steps and microseconds, one of them 0."""
    if spans and isinstance(value, timedelta):
        if not timedelta(0) < value <= MOST_SPAN:
            raise DeclarationError(f"{what} is {value}; give a time above 0 and up to {MOST_SPAN.days:,} days.")
        return 0, value // MICROSECOND
    if counts and isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= MOST_STEPS:
            raise DeclarationError(f"{what} is {value}; give a whole number from 1 to {MOST_STEPS:,}.")
        return value, 0
    wanted = " or ".join([*["a whole number of steps"] * counts, *["a timedelta, such as timedelta(hours=24)"] * spans])
    raise DeclarationError(f"{what} is {value!r:.60}; give {wanted}{hint}.")


def _span(microseconds: int) -> str:
    for unit, size in UNITS:
        if microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    raise AssertionError(microseconds)


def journal_path(log_folder: Path, model: str) -> Path:
    """Where what is observed of a model's series is kept: beside the folder of the prediction log."""
    return log_folder.with_name("history") / f"{model}.db"


def series_field(past: Past, schema: Schema) -> str | None:
    """The field whose values tell the series apart; None where all rows are one series."""
    group = schema.with_role(Role.GROUP)
    return past.by or (group.name if group else None)


def check_history(declared: Any, schema: Schema, split: Split, owner: str) -> tuple[Past, ...]:
    """The declarations, flat, none of which contradicts the contract or the split.

    Raises:
        DeclarationError: one does, or isn't made with `lag` or `rolling`.
    """
    if isinstance(declared, str | Past) or not isinstance(declared, Sequence):
        raise DeclarationError(f"The history of {owner} is {declared!r:.60}; give a list: history=[history.lag(…)].")
    pasts: list[Past] = []
    for item in declared:
        parts = item if isinstance(item, tuple) else (item,)
        for past in parts:
            if not isinstance(past, Past):
                raise DeclarationError(
                    f"The history of {owner} holds {past!r:.60}; make it with history.lag or history.rolling."
                )
            pasts.append(past)
    if not pasts:
        return ()
    time = schema.with_role(Role.TIME)
    if time is None:
        raise DeclarationError(
            f"{owner} has history, but {schema.name} has no pn.Time field to order its rows; mark one."
        )
    if time.optional:
        raise DeclarationError(
            f"{owner} has history along {schema.name}.{time.name}, which may be missing, "
            "and a row without a time has no past; take away its `| None`."
        )
    taken: set[str] = set()
    for past in pasts:
        _check_past(past, schema, time)
        for name in (past.field, series_field(past, schema), time.name):
            if name is not None and Role.SENSITIVE in schema[name].roles:
                raise DeclarationError(
                    f"The history {past.name} would keep values of {schema.name}.{name} in the bundle and beside the log, "
                    "and they are sensitive; name another field."
                )
        if past.name in taken:
            raise DeclarationError(f"{owner} has the history {past.name} twice; remove one.")
        if past.attribute in schema:
            raise DeclarationError(
                f"The history {past.name} would be c.{past.attribute}, which is a field of {schema.name}; rename the field."
            )
        taken.add(past.name)
    _check_split(pasts, schema, split, owner)
    return tuple(pasts)


def _check_past(past: Past, schema: Schema, time: Field) -> None:
    fields = {field.name for field in schema.fields}
    if past.field not in fields:
        raise DeclarationError(
            f"The history {past.name} is of {past.field!r}, which {schema.name} doesn't have; {nearest(past.field, fields)}"
        )
    field = schema[past.field]
    unfit = [role.value for role in field.roles if role in UNSEEN]
    if unfit or not (field.kind in NUMERIC or field.is_numeric_category):
        what = f"a pn.{unfit[0].title()} field" if unfit else f"a field of kind {field.kind}"
        raise DeclarationError(f"The history {past.name} is of {what}; name a field of numbers or truth values.")
    if past.span_us and time.kind in ("int", "float"):
        raise DeclarationError(
            f"The history {past.name} is by time, and {schema.name}.{time.name} is a number without a unit; use steps."
        )
    if past.by is not None and past.by not in fields:
        raise DeclarationError(f"The history {past.name} is by {past.by!r}; {nearest(past.by, fields)}")
    groups = [other.name for other in schema.fields if Role.GROUP in other.roles]
    if past.by is None and len(groups) > 1:
        raise DeclarationError(
            f"{schema.name} has the Group fields {', '.join(groups)}; say which one tells the series of {past.name} apart: by={groups[0]!r}."
        )
    series = series_field(past, schema)
    if series is None:
        return
    by = schema[series]
    if by.is_target or by.kind not in ("text", "category", "int", "bool"):
        what = "the target" if by.is_target else f"a field of kind {by.kind}"
        raise DeclarationError(
            f"The history {past.name} is by {series}, {what}; series are told apart by text, categories or whole numbers."
        )
    if by.optional:
        raise DeclarationError(
            f"The history {past.name} is by {schema.name}.{series}, which may be missing, "
            "and a row without it belongs to no series; take away its `| None`."
        )


def _check_split(pasts: Sequence[Past], schema: Schema, split: Split, owner: str) -> None:
    """Train rows must not see test rows: they would, if newer ones were among them and shared their series."""
    if split.kind == "by_time":
        return
    for past in pasts:
        series = series_field(past, schema)
        if split.kind == "grouped" and series is not None and Role.GROUP in schema[series].roles:
            continue  # a series is whole in one part
        raise DeclarationError(
            f"{owner} has the history {past.name} and a {split.kind} split, in which a train row's past would hold test rows; "
            "use pn.split.by_time()."
        )


def requested(schema: Schema, pasts: Sequence[Past]) -> Schema:
    """The schema in which requests must hold what places a row in its series, and what later rows will look back on."""
    if not pasts:
        return schema
    time = schema.with_role(Role.TIME)
    needed = {past.field for past in pasts} | {series_field(past, schema) for past in pasts} | {time and time.name}
    return replace(
        schema,
        fields=tuple(
            replace(field, in_requests=True)
            if field.name in needed and not (field.is_feature or field.is_target)
            else field
            for field in schema.fields
        ),
    )
