"""Declarations of history: their names, and what is refused by name when the system is made."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any, Literal

import pytest

import perron as pn
from perron import history
from perron.contract import Contract, Schema
from perron.digest import digest
from perron.errors import DeclarationError
from perron.history import Past

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Reading(pn.Contract):
    at: Annotated[datetime, pn.Time]
    station: Annotated[str, pn.Group]
    town: str | None
    day: date
    key: Annotated[int, pn.Id]
    grade: Literal[1, 2, 3]
    temp: Annotated[float, pn.Ignore]
    rain: float | None
    y: Annotated[float, pn.Target]


class Plain(pn.Contract):
    rain: float
    y: Annotated[float, pn.Target]


class Numbered(pn.Contract):
    number: Annotated[int, pn.Time]
    y: Annotated[float, pn.Target]


class Timeless(pn.Contract):
    at: Annotated[datetime, pn.Time] | None
    y: Annotated[float, pn.Target]


class TwoGroups(pn.Contract):
    at: Annotated[datetime, pn.Time]
    a: Annotated[str, pn.Group]
    b: Annotated[str, pn.Group] | None
    y: Annotated[float, pn.Target]


class Private(pn.Contract):
    at: Annotated[datetime, pn.Time]
    who: Annotated[str, pn.Group, pn.Sensitive]
    weight: Annotated[float, pn.Sensitive]
    y: Annotated[float, pn.Target]


class Clashing(pn.Contract):
    at: Annotated[datetime, pn.Time]
    y_lag_1: float
    y: Annotated[float, pn.Target]


def system(*declared: Any, contract: type[Contract] | Schema = Reading, **options: Any) -> pn.System:
    return pn.System("readings", contract, source="x.csv", history=list(declared), **options)


def test_a_declaration_is_named_after_what_it_says() -> None:
    made = system(
        history.lag("y", steps=[1, 24]), history.lag("temp", HOUR, by="station"), history.lag("temp", [90 * HOUR / 60, DAY]),
        history.rolling("y", "mean", window=24, after=24), history.rolling("grade", "max", window=7 * DAY, after=DAY),
    )  # fmt: skip
    assert [past.name for past in made.history] == [
        "y.lag_1", "y.lag_24", "temp.lag_1h_by_station", "temp.lag_90min", "temp.lag_1d", "y.mean_24_after_24", "grade.max_7d_after_1d",
    ]  # fmt: skip
    assert made.history[0].attribute == "y_lag_1"
    assert [Past.from_json(past.to_json()) for past in made.history] == list(made.history)


def test_what_finds_a_rows_past_must_be_in_requests() -> None:
    plain = pn.System("readings", Reading, source="x.csv")
    made = system(history.lag("temp", steps=1))
    required = lambda of: {field.name for field in of.schema.request if not field.optional}  # noqa: E731
    assert required(made) - required(plain) == {"station", "temp"}
    assert Schema.from_json(made.schema.to_json()) == made.schema
    assert plain.schema == system().schema


def test_declarations_change_the_keys_of_steps() -> None:
    a, b = system(history.lag("y", steps=1)), system(history.lag("y", steps=2))
    assert digest(a.history) != digest(b.history) and digest(a.history) == digest(
        system(history.lag("y", steps=1)).history
    )


BAD: list[tuple[str, Any]] = [
    ("is 0; give a whole number from 1", lambda: history.lag("y", steps=0)),
    ("from 1 to 100,000", lambda: history.lag("y", steps=[1, -3])),
    ("True", lambda: history.lag("y", steps=True)),
    ("is '24'; give a whole number", lambda: history.lag("y", steps="24")),
    ("is 2.5; give a whole number", lambda: history.lag("y", steps=2.5)),
    ("from 1 to 100,000", lambda: history.lag("y", steps=10**9)),
    ("needs one of the two", lambda: history.lag("y")),
    ("needs one of the two", lambda: history.lag("y", HOUR, steps=1)),
    ("no steps", lambda: history.lag("y", steps=[])),
    ("is 24; give a timedelta", lambda: history.lag("y", 24)),
    ("give a time above 0", lambda: history.lag("y", timedelta(0))),
    ("give a time above 0", lambda: history.lag("y", -HOUR)),
    ("36,525 days", lambda: history.lag("y", timedelta.max)),
    ("'median'; .*mean", lambda: history.rolling("y", "median", window=3)),
    ("its window is 0", lambda: history.rolling("y", "mean", window=0)),
    ("its window is None; give a whole number of steps or a timedelta", lambda: history.rolling("y", "mean", window=None)),
    ("its after is -1", lambda: history.rolling("y", "mean", window=3, after=-1)),
    ("its after is .*hours=24", lambda: history.rolling("y", "mean", window=DAY, after=3)),
    ("its after is .*whole number of steps", lambda: history.rolling("y", "mean", window=3, after=DAY)),
    ("give a list", lambda: pn.System("s", Reading, source="x.csv", history="y")),
    ("give a list", lambda: pn.System("s", Reading, source="x.csv", history=history.lag("y", steps=1)[0])),
    ("holds 'y.lag_1'; make it with", lambda: system("y.lag_1")),
    ("holds 3; make it with", lambda: system((3,))),
    ("'z', which Reading doesn't have; did you mean|'z', which Reading doesn't have; known", lambda: system(history.lag("z", steps=1))),
    ("'rains', which Reading doesn't have; did you mean 'rain'", lambda: system(history.lag("rains", steps=1))),
    ("of a field of kind text", lambda: system(history.lag("town", steps=1))),
    ("of a field of kind date", lambda: system(history.lag("day", steps=1))),
    ("of a pn.Time field", lambda: system(history.lag("at", steps=1))),
    ("of a pn.Id field", lambda: system(history.lag("key", steps=1))),
    ("of a pn.Group field", lambda: system(history.lag("station", steps=1))),
    ("by 'stations'; did you mean 'station'", lambda: system(history.lag("y", steps=1, by="stations"))),
    ("by town, .*text|which may be missing", lambda: system(history.lag("y", steps=1, by="town"))),
    ("is of 3, by None; name fields", lambda: history.lag(3, steps=1)),
    ("of 'y', by 3; name fields", lambda: history.rolling("y", "mean", window=2, by=3)),
    ("by y, the target", lambda: system(history.lag("y", steps=1, by="y"))),
    ("by day, a field of kind date", lambda: system(history.lag("y", steps=1, by="day"))),
    ("y.lag_1 twice", lambda: system(history.lag("y", steps=[1, 1]))),
    ("no pn.Time field", lambda: system(history.lag("y", steps=1), contract=Plain)),
    ("at, which may be missing", lambda: system(history.lag("y", steps=1), contract=Timeless)),
    ("is a number without a unit; use steps", lambda: system(history.lag("y", HOUR), contract=Numbered)),
    ("say which one", lambda: system(history.lag("y", steps=1), contract=TwoGroups)),
    ("by TwoGroups.b, which may be missing", lambda: system(history.lag("y", steps=1, by="b"), contract=TwoGroups)),
    ("Private.who .*sensitive", lambda: system(history.lag("y", steps=1), contract=Private)),
    ("Private.weight .*sensitive", lambda: system(history.lag("weight", steps=1), contract=Private)),
    ("c.y_lag_1, which is a field", lambda: system(history.lag("y", steps=1), contract=Clashing)),
    ("random split, in which a train row's past would hold test rows", lambda: system(history.lag("y", steps=1), split=pn.split.random())),
    ("stratified split", lambda: system(history.lag("y", steps=1), split=pn.split.stratified())),
    ("grouped split", lambda: system(history.lag("y", steps=1, by="grade"), split=pn.split.grouped())),
]  # fmt: skip


@pytest.mark.parametrize(("message", "declare"), BAD, ids=[message for message, _ in BAD])
def test_a_declaration_that_makes_no_sense_is_refused_in_one_line(message: str, declare: Any) -> None:
    with pytest.raises(DeclarationError, match=message) as caught:
        declare()
    assert "\n" not in str(caught.value)


def test_groups_that_are_whole_series_may_be_split() -> None:
    assert system(history.lag("y", steps=1), split=pn.split.grouped()).history
    assert system(history.lag("y", steps=1), contract=Numbered, split=pn.split.by_time(gap=3)).history
