"""Texts that stand for values: what a server reads without tables is what a table's check reads."""

from datetime import date
from typing import Annotated, Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perron as pn
from perron.check import judge_row
from perron.check.table import TableCheck
from perron.check.text import TextReader
from perron.contract import schema_of
from perron.errors import DataError


class Thing(pn.Contract):
    size: Annotated[float, pn.Ge(0)]
    count: int | None
    kind: Literal["a", "b ", "NA"]
    code: Literal[1, 2] | None
    flag: bool | None
    day: date | None
    word: Annotated[str, pn.Column("The Word")] | None
    y: Annotated[float, pn.Target]


SCHEMA = schema_of(Thing)
HEADER = ["size", "count", "kind", "code", "flag", "day", "The Word", "more"]
WORDS = ["", " ", "NA", "nan", "None", "null", "0", "1", "1.0", " 41 ", "+1", "-1", "1e2", "1e400", ".5", "5.", "1_0", "0x10", "١", "inf",
         "9223372036854775807", "9223372036854775808", "true", "Yes", "F", "a", " a", "b ", "b", "2024-02-29", "2023-02-29", "007"]  # fmt: skip
ROWS = st.lists(st.sampled_from(WORDS) | st.floats(allow_nan=False).map(str), min_size=8, max_size=8)


@given(ROWS)
@settings(max_examples=300)
def test_a_row_is_judged_as_a_table_judges_it(cells: list[str]) -> None:
    row = TextReader(SCHEMA, HEADER)(cells)
    fields = {field.name: field for field in SCHEMA.request}
    faults = {(fault.field, fault.rule) for fault in judge_row(fields, "y", row, 0)}
    check = TableCheck(SCHEMA, for_prediction=True)
    chunk = check(pa.RecordBatch.from_pydict({name: [cell] for name, cell in zip(HEADER, cells, strict=True)}))
    assert faults == set(check.report.counts), cells
    if not faults:
        found: dict[str, Any] = chunk.good.to_pylist()[0]
        assert {name: value for name, value in found.items() if value is not None} == {
            name: date.fromisoformat(value) if name == "day" else value for name, value in row.items()
        }


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="has no column 'The Word', which Thing.word reads"):
        TextReader(SCHEMA, HEADER[:6])
