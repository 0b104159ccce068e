"""Features in NumPy: the calendar, codes as text, and what a user's function may give."""

import math
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.contract import Field, Role, Schema
from perron.errors import FeatureError
from perron.features import columns
from perron.tensors import DAY_S, NULL_TEXT

FLOAT = Field(name="x", column="x", kind="float")
TEXT = replace(FLOAT, name="t", column="t", kind="text")
SCHEMA = Schema("Rows", None, (FLOAT, TEXT))
RAW = {"x": np.array([1.0, math.nan, 0.0]), "t": np.array(["a", "b", NULL_TEXT], object)}


def texts(numbers: Any) -> Any:
    return np.array([str(int(number)) for number in numbers], object)


def made(function: Any, schema: Schema = SCHEMA, raw: dict[str, Any] = RAW) -> dict[str, Any]:
    return columns(schema, dict(raw), function, np, texts)


def one(field: Field, values: Any) -> dict[str, Any]:
    return made(None, Schema("Rows", None, (field,)), {"x": values})


@given(st.lists(st.dates(date(1600, 1, 1), date(2400, 12, 31)), min_size=1, max_size=50))
def test_a_date_becomes_what_the_calendar_says(days: list[date]) -> None:
    seconds = np.array([(day - date(1970, 1, 1)).days * DAY_S for day in days])
    parts = one(replace(FLOAT, kind="date"), seconds)
    assert parts["x.month"].tolist() == [day.month for day in days]
    assert parts["x.day"].tolist() == [day.day for day in days]
    assert parts["x.weekday"].tolist() == [day.weekday() for day in days]
    assert set(parts) == {"x.month", "x.day", "x.weekday"}


@given(st.lists(st.datetimes(datetime(1600, 1, 1), datetime(2255, 1, 1)), min_size=1, max_size=50))
def test_a_moment_has_its_hour_in_utc_too(moments: list[datetime]) -> None:
    seconds = np.array([moment.replace(tzinfo=UTC).timestamp() for moment in moments])
    parts = one(replace(FLOAT, kind="datetime"), seconds)
    for place, moment in enumerate(moments):
        if 1 < moment.minute < 59:  # within a microsecond of the hour, float64 may round to it
            assert parts["x.hour"][place] == moment.hour
            assert (parts["x.month"][place], parts["x.day"][place]) == (moment.month, moment.day)


def test_the_parts_of_a_missing_date_are_missing() -> None:
    parts = one(replace(FLOAT, kind="datetime", optional=True), np.array([np.nan]))
    assert all(np.isnan(part[0]) for part in parts.values())
    assert len(parts) == 4


def test_codes_become_text_and_a_missing_one_has_a_sign() -> None:
    codes = replace(FLOAT, kind="category", values=(1, 20))
    assert one(codes, np.array([1, 20]))["x"].tolist() == ["1", "20"]
    assert one(replace(codes, optional=True), np.array([1.0, np.nan]))["x"].tolist() == ["1", NULL_TEXT]


def test_numbers_are_float64_and_text_is_as_it_came() -> None:
    for kind, array in (("int", np.array([1, 2])), ("bool", np.array([True, False]))):
        column = one(replace(FLOAT, kind=kind), array)["x"]  # type: ignore[arg-type]
        assert (column.dtype, column.tolist()) == (np.dtype("float64"), array.astype(float).tolist())
    assert made(None)["t"].tolist() == ["a", "b", NULL_TEXT]


def test_what_the_model_does_not_see_is_no_column() -> None:
    schema = Schema(
        "Rows", None, (FLOAT, replace(TEXT, roles=(Role.ID,)), replace(FLOAT, name="y", roles=(Role.TARGET,)))
    )
    assert list(made(None, schema)) == ["x"]


def test_the_users_features_come_last_as_float64() -> None:
    result = made(lambda xp, c: {"double": c.x * 2, "big": c.x > 0, "is_a": c.t == "a"})
    assert list(result) == ["x", "t", "double", "big", "is_a"]
    assert all(result[name].dtype == np.float64 for name in ("double", "big", "is_a"))
    assert result["is_a"].tolist() == [1.0, 0.0, 0.0]


def test_a_division_by_zero_is_no_warning() -> None:
    ratio = made(lambda xp, c: {"ratio": 1.0 / c.x, "log": xp.log(c.x - 1)})
    assert np.isnan(ratio["ratio"][1])
    assert not np.isfinite(ratio["ratio"][2])
    assert not np.isfinite(ratio["log"][0])


def test_the_function_sees_a_date_as_seconds() -> None:
    schema = Schema("Rows", None, (replace(FLOAT, kind="date"),))
    seen = made(lambda xp, c: {"days": c.x / DAY_S}, schema, {"x": np.array([DAY_S * 3])})
    assert seen["days"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda xp, c: {"r": c.rooms}, "no attribute 'rooms'; the contract's features are x, t"),
        (lambda xp, c: {"r": xp.nonsense(c.x)}, "failed: .*nonsense"),
        (lambda xp, c: 1 / 0, "failed: ZeroDivisionError"),
        (lambda xp, c: {"r": c.t * 2.5}, "failed: "),
        (lambda xp, c: None, "gave NoneType; it must give a dict"),
        (lambda xp, c: [c.x], "gave list; it must give a dict"),
        (lambda xp, c: {1: c.x}, "must give a dict of name"),
        (lambda xp, c: {"x": c.x}, "gives 'x', which the contract has already"),
        (lambda xp, c: {"r": 1.0}, "'r' isn't an array"),
        (lambda xp, c: {"r": [1.0, 2.0, 3.0]}, "'r' isn't an array"),
        (lambda xp, c: {"r": xp.sum(c.x)}, "'r' isn't an array"),
        (lambda xp, c: {"r": xp.stack([c.x, c.x])}, "'r' isn't an array"),
        (lambda xp, c: {"r": c.t}, "'r' isn't numeric"),
    ],
)  # fmt: skip
def test_a_function_that_fails_or_gives_something_else_is_refused_in_words(function: Any, words: str) -> None:
    with pytest.raises(FeatureError, match=words) as caught:
        made(function)
    assert "\n" not in str(caught.value)
