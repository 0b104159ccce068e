"""The judge: what each rule means, and the words of a fault."""

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from schemas import schemas

from perron.check import ABSENT, Fault, judge, judge_row, parse, show
from perron.contract import Field, Schema
from perron.derive.sampler import breaks, rows

FLOAT = Field(name="x", column="x", kind="float")
INT = replace(FLOAT, kind="int")
TEXT = replace(FLOAT, kind="text")
DATE = replace(FLOAT, kind="date")
MOMENT = replace(FLOAT, kind="datetime")
CLASSES = replace(FLOAT, kind="category", values=("a", "b"))
CODES = replace(FLOAT, kind="category", values=(1, 2))


def rules(field: Field, value: object) -> list[str]:
    return [fault.rule for fault in judge(field, value)]


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (FLOAT, [0, -1, 1.5, 2**70, 1e308], ["1", True, [], {}, math.nan, math.inf, -math.inf, 10**400]),
        (INT, [0, 41.0, -(2**63), 2**63 - 1, 1e18], ["41", 41.5, True, 2**63, 1e19, -(2**63) - 1, math.nan, math.inf]),
        (replace(FLOAT, kind="bool"), [True, False], [0, 1, "true", "", []]),
        (TEXT, ["", "007", "é", "\n", "a" * 10**5], [7, True, [], "\ud800"]),
        (DATE, ["2020-02-29", date(2020, 1, 1)], ["2021-02-29", "20200101", "2020-1-1", "2020-01-01T00:00:00", 20200101, datetime(2020, 1, 1), "２０２０-01-01", "2020-01-01\n"]),
        (MOMENT, ["2020-01-01T00:00:00", "2020-01-01 00:00:00Z", "2020-01-01t00:00:00.5z", "2020-01-01T00:00:00+01:30", "2020-01-01T00:00:00-0130", "2020-01-01", "2020-01-01T00:00", datetime(2020, 1, 1)], ["2020-01-01T24:00:00", "2020-01-01T00", "now", 1577836800, date(2020, 1, 1), "2020-01-01T00:00:00+24:00", "2020-01-01T00:00:60Z"]),
        (CODES, [1, 2.0], ["1", True, 1.5, []]),
        (CLASSES, ["a"], [1, True, ["a"]]),
    ],
)  # fmt: skip
def test_a_value_of_another_type_breaks_the_type(field: Field, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert rules(field, value) == []
    for value in bad:
        assert rules(field, value) == ["type"], value


def test_a_whole_number_is_whole_however_it_is_written() -> None:
    assert parse(INT, 41.0) == 41
    assert type(parse(INT, 41.0)) is int
    assert parse(CODES, 2.0) == 2
    assert type(parse(CODES, 2.0)) is int


def test_null_and_nothing_break_required_unless_the_field_is_optional() -> None:
    for value in (None, ABSENT):
        assert rules(FLOAT, value) == ["required"]
        assert rules(replace(FLOAT, optional=True), value) == []


@pytest.mark.parametrize(
    ("field", "rule", "good", "bad"),
    [
        (replace(FLOAT, ge=1), "ge", [1, 1.0, 2], [0.999, -5]),
        (replace(FLOAT, gt=1), "gt", [1.001], [1, 0]),
        (replace(FLOAT, le=1), "le", [1, 0], [1.001]),
        (replace(FLOAT, lt=1), "lt", [0.999], [1, 2]),
        (replace(INT, ge=2**53), "ge", [2**53, 2**53 + 1], [2**53 - 1]),
        (replace(DATE, ge=date(2020, 1, 1)), "ge", ["2020-01-01"], ["2019-12-31"]),
        (replace(MOMENT, ge=datetime(2020, 1, 1)), "ge", ["2020-01-01T00:00:00", "2020-01-01T01:00:00+01:00"], ["2019-12-31T23:59:59Z", "2020-01-01T00:30:00+01:00"]),
        (replace(MOMENT, lt=datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2)))), "lt", ["2019-12-31T21:59:59"], ["2019-12-31T22:00:00"]),
        (replace(FLOAT, multiple_of=0.1), "multiple_of", [0, 0.3, 0.7, -1.1, 1234.5, 99_999.9], [0.25, 0.05, 1e-5]),
        (replace(FLOAT, multiple_of=0.01), "multiple_of", [1e8 + 0.01, 12_345_678.91], [1e8 + 0.005, 1e8 + 0.0105]),
        (replace(FLOAT, multiple_of=1), "multiple_of", [1e10, 1e300], [1e10 + 0.5]),
        (replace(FLOAT, multiple_of=1e-10), "multiple_of", [1e308, -1e308], []),
        (replace(INT, multiple_of=2), "multiple_of", [0, -4, 10**18, 4.0], [1, 10**10 + 1, 10**18 + 1]),
        (replace(INT, multiple_of=2.0), "multiple_of", [2**62], [2**62 + 1]),
        (replace(TEXT, min_length=2), "min_length", ["ab", "éé", "😀😀"], ["", "a", "😀"]),
        (replace(TEXT, max_length=2), "max_length", ["", "ab", "😀😀"], ["abc", "e\u0301a"]),
        (replace(TEXT, pattern=r"a|bc"), "pattern", ["a", "bc"], ["", "ab", "abc", "xa", "a\n", "bc\n"]),
        (replace(TEXT, pattern=r"^\d+$"), "pattern", ["12"], ["12\n", "x"]),
        (CLASSES, "values", ["a", "b"], ["c", "A", "a ", "", "\ud800"]),
        (CODES, "values", [1], [3, -1, 2**62]),
    ],
)  # fmt: skip
def test_a_rule_holds_up_to_its_edge_and_not_beyond(field: Field, rule: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert rules(field, value) == [], value
    for value in bad:
        assert rules(field, value) == [rule], value


def test_a_value_tells_every_rule_that_it_breaks() -> None:
    field = replace(TEXT, min_length=3, pattern="[a-z]+")
    assert rules(field, "A") == ["min_length", "pattern"]


@given(schemas())
def test_a_broken_rule_is_named_and_it_alone(schema: Schema) -> None:
    for field, rule, value in breaks(schema.fields):
        assert rules(field, value) == [rule]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (replace(FLOAT, ge=0, lt=9), {"type", "required", "ge", "lt"}),
        (replace(INT, gt=0, le=9, multiple_of=3), {"type", "required", "gt", "le", "multiple_of"}),
        (replace(TEXT, min_length=2, max_length=3, pattern="a+"), {"type", "required", "min_length", "max_length", "pattern"}),
        (CLASSES, {"type", "required", "values"}),
        (CODES, {"type", "required", "values"}),
        (replace(DATE, ge=date(2020, 1, 1), lt=date(2021, 1, 1), optional=True), {"type", "ge", "lt"}),
        (replace(MOMENT, gt=datetime(2020, 1, 1), le=datetime(2021, 1, 1, tzinfo=UTC)), {"type", "required", "gt", "le"}),
        (replace(FLOAT, kind="bool"), {"type", "required"}),
    ],
)  # fmt: skip
def test_the_sampler_breaks_every_rule_that_a_field_has(field: Field, expected: set[str]) -> None:
    assert {rule for _, rule, _ in breaks([field])} == expected


@given(st.data())
def test_a_sampled_row_has_no_fault(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    row = data.draw(rows(schema))
    by_name = {field.name: field for field in schema.request}
    assert list(judge_row(by_name, None, row, 0)) == []
    json.dumps(row, allow_nan=False)


def test_a_row_that_is_no_object_is_one_fault() -> None:
    for row in (None, [], "x", 3):
        (fault,) = judge_row({"x": FLOAT}, "y", row, 4)
        assert (fault.row, fault.field, fault.rule) == (4, "", "type")
        assert fault.message.endswith("at rows[4]")


def test_a_row_tells_all_faults_in_the_contracts_order_and_unknown_fields_last() -> None:
    fields = {"a": replace(FLOAT, name="a"), "b": replace(TEXT, name="b"), "rooms": replace(FLOAT, name="rooms")}
    row = {"room": 1, "y": 3, "b": 1, "rooms": None}
    faults = list(judge_row(fields, "y", row, 0))
    assert [(fault.field, fault.rule) for fault in faults] == [
        ("a", "required"), ("b", "type"), ("rooms", "required"), ("room", "unknown"), ("y", "target"),
    ]  # fmt: skip
    assert "did you mean 'rooms'" in faults[3].expected
    assert faults[0].message == "Expected a number, got nothing at rows[0].a"
    assert faults[2].message == "Expected a number, got null at rows[0].rooms"


@pytest.mark.parametrize(
    ("value", "plain", "words"),
    [
        (-3, -3, "-3"),
        (2**70, str(2**70), str(2**70)),
        (math.inf, "Infinity", "Infinity"),
        (None, None, "null"),
        (ABSENT, None, "nothing"),
        (True, True, "true"),
        ("x", "x", '"x"'),
        ("é", "é", '"é"'),
        ("x" * 100, "x" * 79 + "…", '"' + "x" * 78 + "…"),
        ("\ud800", "?", '"?"'),
        ([1, "a"], '[1, "a"]', '[1, "a"]'),
        (date(2020, 1, 1), '"2020-01-01"', '"2020-01-01"'),
        (b"raw", "\"b'raw'\"", "\"b'raw'\""),
    ],
)
def test_a_value_is_shown_as_json_and_cut(value: object, plain: object, words: str) -> None:
    fault = Fault(0, "x", "type", "a number", value)
    assert show(value) == words
    assert fault.to_json()["value"] == plain
    json.dumps(fault.to_json(), ensure_ascii=False, allow_nan=False).encode()


def test_a_value_nested_beyond_all_measure_is_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert len(show(deep)) <= 80


@given(st.text(st.characters(exclude_categories=()), max_size=200))
@example("\ud800")
def test_any_field_name_that_a_client_sends_can_be_sent_back(name: str) -> None:
    for fault in judge_row({"x": replace(FLOAT, optional=True)}, "y", {name: 1}, 0):
        json.dumps(fault.to_json(), ensure_ascii=False).encode()
        assert len(fault.message) < 300
