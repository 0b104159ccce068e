"""Tensors: rows of requests and rows of tables become the same arrays, bit by bit."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schemas import schemas

from perron.check import parse
from perron.check.request import Decoder
from perron.check.table import arrow_schema
from perron.contract import Field, Role, Schema
from perron.derive.onnx import inputs
from perron.derive.sampler import rows
from perron.tensors import NULL_TEXT, RowPacker, from_table, raw_dtype

FLOAT = Field(name="x", column="x", kind="float")


@pytest.mark.parametrize(
    ("field", "dtype", "optional"),
    [
        (FLOAT, "float64", "float64"),
        (replace(FLOAT, kind="int"), "int64", "float64"),
        (replace(FLOAT, kind="bool"), "bool", "float64"),
        (replace(FLOAT, kind="text"), "string", "string"),
        (replace(FLOAT, kind="date"), "float64", "float64"),
        (replace(FLOAT, kind="datetime"), "float64", "float64"),
        (replace(FLOAT, kind="category", values=("a", "b")), "string", "string"),
        (replace(FLOAT, kind="category", values=(1, 2)), "int64", "float64"),
    ],
)
def test_every_kind_has_a_type_and_another_where_it_may_be_missing(field: Field, dtype: str, optional: str) -> None:
    assert raw_dtype(field) == dtype
    assert raw_dtype(replace(field, optional=True)) == optional


@given(st.data())
def test_a_request_and_a_table_of_the_same_rows_give_the_same_arrays(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    drawn = data.draw(st.lists(rows(schema), min_size=1, max_size=4))
    decoded = Decoder(schema, 10)(json.dumps({"rows": drawn}).encode())
    assert isinstance(decoded, list)
    packed = RowPacker(schema)(decoded)
    kinds = {field.name: field.type for field in arrow_schema(schema.features)}
    table = pa.table(
        {
            field.name: pa.array(
                [None if row.get(field.name) is None else parse(field, row[field.name]) for row in drawn],
                kinds[field.name],
            )
            for field in schema.features
        }
    )
    expected = from_table(schema, table)
    by_onnx = {made.name: np.dtype(object if made.dtype == "string" else made.dtype) for made in inputs(schema)}
    assert list(packed) == list(expected) == list(by_onnx) == [field.name for field in schema.features]
    for name, array in packed.items():
        assert array.shape == (len(drawn),)
        assert array.dtype == expected[name].dtype == by_onnx[name]
        assert array.tolist() == expected[name].tolist() or np.array_equal(array, expected[name], equal_nan=True)


def one(field: Field, value: Any, kind: pa.DataType) -> Any:
    schema = Schema("Rows", None, (field,))
    return from_table(schema, pa.table({"x": pa.array([value], kind)}))["x"][0]


def test_dates_are_seconds_since_1970_in_utc() -> None:
    assert one(replace(FLOAT, kind="date"), date(1970, 1, 2), pa.date32()) == 86_400.0
    assert one(replace(FLOAT, kind="date"), date(1969, 12, 31), pa.date32()) == -86_400.0
    moment = datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert one(replace(FLOAT, kind="datetime"), moment, pa.timestamp("us", tz="UTC")) == 1.5


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        (FLOAT, pa.float64()),
        (replace(FLOAT, kind="int"), pa.int64()),
        (replace(FLOAT, kind="bool"), pa.bool_()),
        (replace(FLOAT, kind="date"), pa.date32()),
        (replace(FLOAT, kind="datetime"), pa.timestamp("us", tz="UTC")),
        (replace(FLOAT, kind="category", values=(1, 2)), pa.int64()),
    ],
)
def test_a_missing_number_is_nan_and_a_missing_text_has_a_sign(field: Field, kind: pa.DataType) -> None:
    assert np.isnan(one(replace(field, optional=True), None, kind))
    assert one(replace(FLOAT, kind="text", optional=True), None, pa.string()) == NULL_TEXT


def test_what_the_model_does_not_see_is_not_packed() -> None:
    fields = (
        replace(FLOAT, name="k", kind="text", roles=(Role.ID,)),
        FLOAT,
        replace(FLOAT, name="y", roles=(Role.TARGET,)),
    )
    assert list(RowPacker(Schema("Rows", None, fields))([("a", 1.0), (None, 2.0)])) == ["x"]
