"""The check of columns: the judge's verdict, in its faults and its values, whatever array brings the value."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from schemas import schemas

from perron.check import judge_row, parse
from perron.check.columns import Column, ColumnCheck
from perron.check.request import MOST_FAULTS, Rejection
from perron.contract import Field, Role, Schema
from perron.derive.sampler import breaks, rows

TARGET = Field(name="y", column="y", kind="float", roles=(Role.TARGET,))


def check(*fields: Field, max_rows: int = 100) -> ColumnCheck:
    return ColumnCheck(Schema("House", None, (*fields, TARGET)), max_rows)


def column(values: list[Any]) -> Column | None:
    """The values as one array or list, or None where no tensor could hold them exactly."""
    kinds = {type(value) for value in values} - {type(None)}
    missing = np.array([value is None for value in values])
    if kinds <= {str}:
        return Column(values) if kinds else None
    filled = [0 if value is None else value for value in values]
    if kinds <= {bool}:
        return Column(np.array([bool(value) for value in filled]), missing)
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in filled):
        return Column(np.array(filled, np.int64), missing)
    if kinds <= {int, float} and all(abs(value) < 2**53 or type(value) is float for value in filled):
        return Column(np.array(filled, np.float64), missing) if not any(map(math.isnan, filled)) else None
    return None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_columns_are_judged_as_their_rows_are(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    found = data.draw(st.lists(rows(schema), min_size=1, max_size=4))
    broken = list(breaks(schema.request))
    if broken and data.draw(st.booleans()):
        of, _, value = data.draw(st.sampled_from(broken))
        found.append({**data.draw(rows(schema)), of.name: value})
    fields = {field.name: field for field in schema.request}
    columns = {}
    for name, field in fields.items():
        values = [row.get(name) for row in found]
        if all(value is None for value in values):
            assume(field.optional)
            continue
        made = column(values)
        assume(made is not None)
        if field.kind == "bool":  # of which numbers are a carrier, as the test below says
            assume(not any(type(value) in (int, float) and value in (0, 1) for value in values))
        columns[name] = made
    assume(columns)
    given_rows = [{name: row.get(name) for name in fields} for row in found]
    faults = [f for place, row in enumerate(given_rows) for f in judge_row(fields, None, row, place)]
    verdict = ColumnCheck(schema, 100)(columns)  # type: ignore[arg-type]
    if isinstance(verdict, Rejection):
        assert [(f.row, f.field, f.rule) for f in verdict.faults] == [(f.row, f.field, f.rule) for f in faults] != []
    else:
        assert faults == []
        wanted = [
            tuple(None if row[name] is None else parse(field, row[name]) for name, field in fields.items())
            for row in given_rows
        ]
        assert verdict == wanted
        assert [[type(v) for v in row] for row in verdict] == [[type(v) for v in row] for row in wanted]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", "int64", "float16", "float32", "float64"])
def test_any_number_that_is_whole_is_taken_for_a_whole_field(dtype: str) -> None:
    field = Field(name="n", column="n", kind="int", ge=0, le=100)
    assert check(field)({"n": Column(np.array([1, 2, 100], dtype))}) == [(1,), (2,), (100,)]
    refused = check(field)({"n": Column(np.array([1, 101, 3], dtype))})
    assert isinstance(refused, Rejection) and [(f.row, f.rule) for f in refused.faults] == [(1, "le")]


def test_halves_infinities_and_numbers_beyond_64_bits_are_no_whole_numbers() -> None:
    whole = check(Field(name="n", column="n", kind="int"))
    for values in (
        np.array([1.5]),
        np.array([np.inf]),
        np.array([2.0**63]),
        np.array([2**64 - 1], np.uint64),
        np.array([True]),
    ):
        refused = whole({"n": Column(values)})
        assert isinstance(refused, Rejection) and [f.rule for f in refused.faults] == ["type"]


def test_nan_is_null_and_infinity_is_not() -> None:
    optional, required = (Field(name="x", column="x", kind="float", optional=flag) for flag in (True, False))
    assert check(optional)({"x": Column(np.array([1.0, np.nan]))}) == [(1.0,), (None,)]
    refused = check(required)({"x": Column(np.array([np.nan, np.inf, 1.0]))})
    assert isinstance(refused, Rejection) and [f.rule for f in refused.faults] == ["required", "type"]


def test_zeros_and_ones_carry_truth_values_and_nothing_else_does() -> None:
    on = check(Field(name="on", column="on", kind="bool", optional=True))
    assert on({"on": Column(np.array([1.0, 0.0, np.nan], np.float32))}) == [(True,), (False,), (None,)]
    refused = on({"on": Column(np.array([0, 2]))})
    assert isinstance(refused, Rejection) and [(f.row, f.rule) for f in refused.faults] == [(1, "type")]


def test_unknown_missing_and_target_columns_are_named() -> None:
    fields = (Field(name="size", column="size", kind="float"), Field(name="kind", column="kind", kind="text"))
    one = Column(np.array([1.0]))
    refused = check(*fields)({"sise": one, "y": one, "kind": Column(["a"])})
    assert isinstance(refused, Rejection)
    assert [(f.field, f.rule) for f in refused.faults] == [("sise", "unknown"), ("y", "target"), ("size", "required")]
    assert "did you mean 'size'?" in refused.faults[0].message


def test_texts_that_are_not_utf8_are_of_the_wrong_type() -> None:
    refused = check(Field(name="t", column="t", kind="text"))({"t": Column(["a", b"\xff"])})
    assert isinstance(refused, Rejection) and [(f.row, f.rule) for f in refused.faults] == [(1, "type")]


def test_rows_are_counted_and_faults_are_cut() -> None:
    field = Field(name="x", column="x", kind="float", ge=0)
    assert isinstance(check(field)({}), Rejection)
    assert isinstance(check(field)({"x": Column(np.array([]))}), Rejection)
    many = check(field, max_rows=10)({"x": Column(np.zeros(11))})
    assert isinstance(many, Rejection) and many.reason == "too_many_rows"
    flood = check(field, max_rows=10**4)({"x": Column(np.full(5000, -1.0))})
    assert isinstance(flood, Rejection) and flood.count == 5000 and len(flood.faults) == MOST_FAULTS
