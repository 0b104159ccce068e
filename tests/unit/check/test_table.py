"""The table check: the judge's verdict on whole columns, typed or as text, and the quarantine."""

import csv
import decimal
import math
import tracemalloc
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schemas import schemas

from perron.check import judge, parse
from perron.check.table import NULLS, Chunk, TableCheck, arrow_schema
from perron.contract import Field, Role, Schema
from perron.derive.sampler import breaks, rows
from perron.errors import DataError
from perron.source import open_source

FLOAT = Field(name="x", column="x", kind="float")
INT = replace(FLOAT, kind="int")
TEXT = replace(FLOAT, kind="text")
BOOL = replace(FLOAT, kind="bool")
DATE = replace(FLOAT, kind="date")
MOMENT = replace(FLOAT, kind="datetime")
CLASSES = replace(FLOAT, kind="category", values=("a", "b"))
CODES = replace(FLOAT, kind="category", values=(1, 2))


def check_column(field: Field, column: pa.Array) -> tuple[list[Any], list[str | None]]:
    """Each row's value, where it is good, and the rules that each row broke."""
    check = TableCheck(Schema("House", None, (field,)))
    values: list[Any] = []
    broken: list[str | None] = []
    for place in range(len(column)):
        before = dict(check.report.counts)
        chunk = check(pa.record_batch({field.column: column.slice(place, 1)}))
        new = [rule for (_, rule), count in check.report.counts.items() if count > before.get((field.name, rule), 0)]
        broken.append(",".join(new) or None)
        values.append(chunk.good.column(0)[0].as_py() if chunk.good.num_rows else None)
    # The same at once: what a value means doesn't hang on its neighbours.
    whole = TableCheck(Schema("House", None, (field,)))(pa.record_batch({field.column: column}))
    assert whole.good_mask.to_pylist() == [rules is None for rules in broken]
    assert whole.good.column(0).to_pylist() == [v for v, rules in zip(values, broken, strict=True) if rules is None]
    return values, broken


def text(*cells: str | None) -> pa.Array:
    return pa.array(cells, pa.string())


# ------------------------------------------------------------------ one judge


def written(field: Field, value: Any) -> str | None:
    """The value as a cell of text; None where text can't carry it, or means something else there."""
    if value is None:
        return ""
    if isinstance(value, str):
        is_text = field.kind in ("text", "category")
        if value in NULLS.to_pylist() or "\ud800" in value or (is_text and value != value.strip()):
            return None
        if not is_text and parse(field, value) is None and value in ("0", "1", "1.5", "true", "x", "2020-01-01"):
            return "x" if value == "x" else None  # in text, "1.5" is a number
        return None if field.is_numeric_category and value in ("0", "1") else value
    if field.kind in ("text", "category") and not field.is_numeric_category:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and not (isinstance(value, float) and math.isnan(value)):
        return None if field.kind == "bool" else str(value)
    return None


def judged(schema: Schema, table: pa.RecordBatch) -> tuple[list[bool], set[tuple[str, str]]]:
    check = TableCheck(schema)
    chunk = check(table)
    assert chunk.good.num_rows + chunk.bad.num_rows == table.num_rows
    return chunk.good_mask.to_pylist(), set(check.report.counts)


def typed(schema: Schema, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """The rows with the types that the contract's columns have."""
    kinds = [field.with_nullable(True) for field in arrow_schema(schema.fields)]
    columns = []
    for field, kind in zip(schema.fields, kinds, strict=True):
        values = [row.get(field.name) for row in rows]
        columns.append(pa.array([None if v is None else parse(field, v) for v in values], kind.type))
    return pa.RecordBatch.from_arrays(columns, [field.column for field in schema.fields])


def as_text(schema: Schema, rows: list[dict[str, Any]]) -> pa.RecordBatch | None:
    columns = {}
    for field in schema.fields:
        cells = [written(field, row.get(field.name)) for row in rows]
        if None in cells:
            return None
        columns[field.column] = text(*cells)
    return pa.record_batch(columns)


def has_empty_text(schema: Schema, row: dict[str, Any]) -> bool:
    """In a table an empty text is a missing one, and a category's blanks are cut off."""
    return any(
        isinstance(row.get(f.name), str) and f.kind in ("text", "category") and row[f.name].strip() == ""
        for f in schema.fields
        if row.get(f.name) not in f.values
    )


@given(st.data())
def test_valid_rows_are_good_as_typed_columns_and_as_text(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    drawn = data.draw(st.lists(rows(schema, complete=True), min_size=1, max_size=4))
    drawn = [row for row in drawn if not has_empty_text(schema, row)]
    mask, faults = judged(schema, typed(schema, drawn))
    assert faults == set()
    assert all(mask)
    table = as_text(schema, drawn)
    if table is not None:
        chunk = TableCheck(schema)(table)
        assert all(chunk.good_mask.to_pylist())
        assert chunk.good.equals(TableCheck(schema)(typed(schema, drawn)).good)


@given(st.data())
def test_a_row_that_breaks_one_rule_is_bad_by_that_rule_typed_and_as_text(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    row = data.draw(rows(schema, complete=True))
    if has_empty_text(schema, row):
        return
    for field, rule, value in breaks(schema.fields):
        assert [fault.rule for fault in judge(field, value)] == [rule]
        broken = {**row, field.name: value}
        if has_empty_text(schema, broken):
            continue
        if rule != "type":
            assert judged(schema, typed(schema, [row, broken, row])) == ([True, False, True], {(field.name, rule)})
        if as_text(schema, [row]) is not None and written(field, value) is not None:
            table = as_text(schema, [row, broken, row])
            assert table is not None
            assert judged(schema, table) == ([True, False, True], {(field.name, rule)}), (field, value)


@given(st.data())
def test_rows_survive_the_way_through_a_csv_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    schema = data.draw(schemas())
    drawn = data.draw(st.lists(rows(schema, complete=True), min_size=1, max_size=3))
    table = as_text(schema, drawn)
    if table is None or any(has_empty_text(schema, row) for row in drawn):
        return
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(table.schema.names)
        writer.writerows(zip(*(column.to_pylist() for column in table.columns), strict=True))
    batches = list(open_source(path).chunks())
    chunk = TableCheck(schema)(pa.Table.from_batches(batches).combine_chunks().to_batches()[0])
    assert all(chunk.good_mask.to_pylist())
    assert chunk.good.equals(TableCheck(schema)(typed(schema, drawn)).good)


# ------------------------------------------------------------------ text


@pytest.mark.parametrize(
    ("field", "cells", "values", "broken"),
    [
        (FLOAT, ["1", " 2.5 ", "+3", ".5", "5.", "1e3", "-0", "1E-400", "+.5e1"], [1, 2.5, 3, 0.5, 5, 1000, 0, 0, 5], None),
        (FLOAT, ["x", "1,5", "0x10", "1_000", "1d5", "１２", "--1", "1 000", "inf", "-Infinity", "1e999", "nan(1)", "true", "."], None, "type"),
        (FLOAT, ["9007199254740993", "+9007199254740993"], [9007199254740992, 9007199254740992], None),
        (FLOAT, ["", " ", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "<NA>"], None, "required"),
        (INT, ["41", "41.0", "41.", "+41", " 41", "0041", "4.1e1", "410e-1", "00000000000000000000041"], [41] * 9, None),
        (INT, ["-41", "-41.0", "-0", "9223372036854775807", "-9223372036854775808", "9.2e18"], [-41, -41, 0, 2**63 - 1, -(2**63), 92 * 10**17], None),
        (INT, ["41.5", "0x10", "0X1F", "x", "+-5", "-+5", "9223372036854775808", "1e19", "1e999999999", "1" * 5000, "4 1", "true", "inf"], None, "type"),
        (INT, ["", "NA", "null"], None, "required"),
        (BOOL, ["true", "TRUE", "t", "yes", "Y", "1"], [True] * 6, None),
        (BOOL, ["false", "False", "f", "no", "N", "0"], [False] * 6, None),
        (BOOL, ["x", "2", "1.0", "truee"], None, "type"),
        (TEXT, ["007", " a ", "NA", "null", "é", "\n", " "], ["007", " a ", "NA", "null", "é", "\n", " "], None),
        (TEXT, [""], None, "required"),
        (CLASSES, ["a", " a ", "b\t"], ["a", "a", "b"], None),
        (CLASSES, ["c", "A", "a b"], None, "values"),
        (CLASSES, ["", "NA", " null ", "<NA>"], None, "required"),
        (replace(CLASSES, values=("NA", "007", " x")), ["NA", "007", " x"], ["NA", "007", " x"], None),
        (replace(CLASSES, values=("7", "8")), ["007", "7.0"], None, "values"),
        (CODES, ["1", "2.0", " 1 ", "01"], [1, 2, 1, 1], None),
        (CODES, ["3", "-1"], None, "values"),
        (CODES, ["1.5", "a"], None, "type"),
        (DATE, ["2020-02-29", " 0001-01-01 "], [date(2020, 2, 29), date(1, 1, 1)], None),
        (DATE, ["2021-02-29", "2020-1-1", "20200101", "01/02/2020", "2020-01-01T00:00:00", "0000-01-01", "x"], None, "type"),
        (MOMENT, ["2020-01-01T00:00:00", "2020-01-01 00:00:00Z", "2020-01-01t00:00:00z", "2020-01-01T01:30:00+01:30", "2019-12-31T23:00:00-0100", "2020-01-01T00:00:00-00:00"], [datetime(2020, 1, 1, tzinfo=UTC)] * 6, None),
        (MOMENT, ["2020-01-01", "2020-01-01 00:00", "2020-01-01T01:00+01:00"], [datetime(2020, 1, 1, tzinfo=UTC)] * 3, None),
        (MOMENT, ["1600-01-01T00:00:00", "2400-01-01T00:00:00.123456789"], [datetime(1600, 1, 1, tzinfo=UTC), datetime(2400, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)], None),
        (MOMENT, ["2020-01-01T24:00:00", "2020-01-01T00:00:60", "2020-02-30T00:00:00", "2020-01-01T00:00:00+25:00", "01/02/2020", "x", "1577836800"], None, "type"),
    ],
)  # fmt: skip
def test_a_cell_of_text_is_read_by_the_fields_kind(
    field: Field, cells: list[str], values: list[Any] | None, broken: str | None
) -> None:
    assert check_column(field, text(*cells)) == (values or [None] * len(cells), [broken] * len(cells))


@pytest.mark.parametrize("cell", ["", "NA", " NULL "])
@pytest.mark.parametrize("field", [FLOAT, INT, BOOL, DATE, MOMENT, CODES, CLASSES])
def test_a_null_word_is_null_where_a_value_may_be_missing(field: Field, cell: str) -> None:
    assert check_column(replace(field, optional=True), text(cell)) == ([None], [None])


def test_text_of_any_arrow_type_is_text() -> None:
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())):
        assert check_column(TEXT, text("007", "é").cast(kind)) == (["007", "é"], [None, None])
        assert check_column(INT, text("7", "x").cast(kind)) == ([7, None], [None, "type"])
        assert check_column(CLASSES, text("a", "c").cast(kind)) == (["a", None], [None, "values"])


# ------------------------------------------------------------------ typed columns


@pytest.mark.parametrize(
    ("field", "column", "values", "broken"),
    [
        (FLOAT, pa.array([1, None], pa.int8()), [1.0, None], [None, "required"]),
        (FLOAT, pa.array([1.5, math.nan, math.inf, None]), [1.5, None, None, None], [None, "required", "type", "required"]),
        (FLOAT, pa.array([np.float16(1.5), np.float16("nan")], pa.float16()), [1.5, None], [None, "required"]),
        (FLOAT, pa.array([decimal.Decimal("1.25")]), [1.25], [None]),
        (FLOAT, pa.array([2**64 - 1], pa.uint64()), [float(2**64)], [None]),
        (FLOAT, pa.array([True]), [None], ["type"]),
        (FLOAT, pa.array([date(2020, 1, 1)]), [None], ["type"]),
        (FLOAT, pa.nulls(2), [None, None], ["required", "required"]),
        (replace(FLOAT, optional=True), pa.nulls(2), [None, None], [None, None]),
        (replace(FLOAT, le=10**20, ge=-(10**20)), pa.array([1.5, 1e21]), [1.5, None], [None, "le"]),
        (replace(FLOAT, ge=2**53 + 1), pa.array([1.5, 2.0**54]), [None, 2.0**54], ["ge", None]),
        (INT, pa.array([1.0, 1.5, math.nan, 2.0**63, -(2.0**63), math.inf]), [1, None, None, None, -(2**63), None], [None, "type", "required", "type", None, "type"]),
        (INT, pa.array([1, 2**64 - 1, None], pa.uint64()), [1, None, None], [None, "type", "required"]),
        (INT, pa.array([decimal.Decimal("9007199254740993"), decimal.Decimal("1.5"), decimal.Decimal(10) ** 20, None], pa.decimal128(38, 2)), [9007199254740993, None, None, None], [None, "type", "type", "required"]),
        (INT, pa.array([date(2020, 1, 1)]), [None], ["type"]),
        (replace(INT, ge=1.5, le=2.5), pa.array([1, 2, 3, 2**53 + 1]), [None, 2, None, None], ["ge", None, "le", "le"]),
        (replace(INT, gt=1.5, lt=2.5), pa.array([1, 2, 3, -(2**53) - 1]), [None, 2, None, None], ["gt", None, "lt", "gt"]),
        (replace(INT, gt=-(10**20), lt=10**20), pa.array([0, 2**63 - 1]), [0, 2**63 - 1], [None, None]),
        (replace(INT, multiple_of=2), pa.array([0, 10**10 + 1, 10**18, 10**18 + 1]), [0, None, 10**18, None], [None, "multiple_of", None, "multiple_of"]),
        (replace(FLOAT, multiple_of=0.1), pa.array([0.3, 0.25, 1e308, 1e10]), [0.3, None, 1e308, 1e10], [None, "multiple_of", None, None]),
        (replace(FLOAT, multiple_of=1), pa.array([1e10 + 0.5]), [None], ["multiple_of"]),
        (BOOL, pa.array([True, False, None]), [True, False, None], [None, None, "required"]),
        (BOOL, pa.array([1, 0, 2]), [True, False, None], [None, None, "type"]),
        (BOOL, pa.array([1.0, 0.0, math.nan]), [True, False, None], [None, None, "required"]),
        (TEXT, pa.array([7, None]), ["7", None], [None, "required"]),
        (TEXT, pa.array([7.0, 1.5, math.nan]), ["7", "1.5", None], [None, None, "required"]),
        (CLASSES, pa.array(["a", None]).dictionary_encode(), ["a", None], [None, "required"]),
        (replace(CLASSES, values=("7", "8")), pa.array([7, 9]), ["7", None], [None, "values"]),
        (CODES, pa.array([1.0, 3.0, math.nan]), [1, None, None], [None, "values", "required"]),
        (CODES, pa.array([1, 2, 1]).dictionary_encode(), [1, 2, 1], [None, None, None]),
        (DATE, pa.array([datetime(2020, 1, 1, 23)]), [date(2020, 1, 1)], [None]),
        (DATE, pa.array([date(2020, 1, 1)], pa.date64()), [date(2020, 1, 1)], [None]),
        (DATE, pa.array([1.5]), [None], ["type"]),
        (MOMENT, pa.array([datetime(2020, 1, 1)], pa.timestamp("ns")), [datetime(2020, 1, 1, tzinfo=UTC)], [None]),
        (MOMENT, pa.array([datetime(2020, 1, 1, tzinfo=UTC)], pa.timestamp("s", tz="Europe/Amsterdam")), [datetime(2020, 1, 1, tzinfo=UTC)], [None]),
        (MOMENT, pa.array([1577836800000000001], pa.timestamp("ns", tz="UTC")), [datetime(2020, 1, 1, tzinfo=UTC)], [None]),
        (MOMENT, pa.array([date(2020, 1, 1)]), [datetime(2020, 1, 1, tzinfo=UTC)], [None]),
        (MOMENT, pa.array([1577836800]), [None], ["type"]),
        (replace(MOMENT, ge=datetime(2020, 1, 1)), pa.array([datetime(2019, 12, 31, 23, 59, 59, 999999), datetime(2020, 1, 1)]), [None, datetime(2020, 1, 1, tzinfo=UTC)], ["ge", None]),
    ],
)  # fmt: skip
def test_a_typed_column_is_read_by_the_fields_kind(
    field: Field, column: pa.Array, values: list[Any], broken: list[str | None]
) -> None:
    assert check_column(field, column) == (values, broken)


def test_good_rows_have_the_contracts_types_in_its_order() -> None:
    fields = tuple(
        replace(field, name=f"f{place}", column=f"f{place}", optional=bool(place % 2))
        for place, field in enumerate((FLOAT, INT, BOOL, TEXT, CLASSES, CODES, DATE, MOMENT))
    )
    cells = ["1", "1", "true", "a", "a", "1", "2020-01-01", "2020-01-01T00:00:00Z"]
    batch = pa.record_batch({f"f{place}": text(cell) for place, cell in reversed(list(enumerate(cells)))})
    good = TableCheck(Schema("House", None, fields))(batch).good
    assert good.schema == arrow_schema(fields)
    assert [str(kind) for kind in good.schema.types] == [
        "double", "int64", "bool", "string", "string", "int64", "date32[day]", "timestamp[us, tz=UTC]",
    ]  # fmt: skip
    assert [field.nullable for field in good.schema] == [field.optional for field in fields]


# ------------------------------------------------------------------ columns


def house(*fields: Field) -> Schema:
    return Schema("House", None, fields)


def test_a_missing_column_is_named_in_the_error() -> None:
    schema = house(replace(FLOAT, name="radius", column="mean radius"))
    with pytest.raises(DataError, match=r"no column 'mean radius', which House\.radius reads; it has a, b"):
        TableCheck(schema)(pa.record_batch({"a": text("1"), "b": text("1")}))


def test_a_field_is_read_by_its_column_or_by_its_own_name() -> None:
    schema = house(replace(FLOAT, name="radius", column="mean radius"))
    for name in ("mean radius", "radius"):
        assert TableCheck(schema)(pa.record_batch({name: text("1")})).good.to_pylist() == [{"radius": 1.0}]


def test_a_field_is_never_read_from_another_fields_column() -> None:
    schema = house(replace(FLOAT, name="a", column="b"), replace(FLOAT, name="x", column="a"))
    with pytest.raises(DataError, match="no column 'b'"):
        TableCheck(schema)(pa.record_batch({"a": text("1")}))


def test_what_only_training_needs_may_be_missing_from_rows_to_predict() -> None:
    key, target = replace(TEXT, name="k", column="k", roles=(Role.ID,)), replace(FLOAT, name="y", roles=(Role.TARGET,))
    schema = house(replace(FLOAT, name="z", column="z"), key, target)
    chunk = TableCheck(schema, for_prediction=True)(pa.record_batch({"z": text("1")}))
    assert chunk.good.to_pylist() == [{"z": 1.0, "k": None}]
    with pytest.raises(DataError, match="no column 'z'"):
        TableCheck(schema, for_prediction=True)(pa.record_batch({"k": text("1")}))


# ------------------------------------------------------------------ quarantine and report


def test_the_quarantine_holds_the_rows_number_every_rule_in_words_and_the_original_cells() -> None:
    schema = house(replace(FLOAT, ge=0, le=9), replace(CLASSES, name="c", column="c"))
    batch = pa.record_batch({"x": text("1", "-1", "x"), "c": text("a", "q", " b "), "other": pa.array([1, 2, 3])})
    chunk = TableCheck(schema)(batch)
    assert chunk.bad.to_pylist() == [
        {"row": 1, "fault": "x: expected a number ≥ 0; c: expected one of 'a', 'b'", "x": "-1", "c": "q", "other": "2"},
        {"row": 2, "fault": "x: expected a number ≥ 0 and ≤ 9", "x": "x", "c": " b ", "other": "3"},
    ]


@pytest.mark.parametrize("names", [["row", "fault", "x"], ["row_", "row", "x"], ["row", "row_", "x"], ["fault_", "row__", "row", "fault", "x"]])  # fmt: skip
def test_columns_that_are_called_as_the_quarantines_own_are_all_kept(names: list[str]) -> None:
    cells = {name: name for name in names}
    chunk = TableCheck(house(FLOAT))(pa.record_batch({name: text(cell) for name, cell in cells.items()}))
    (row,) = chunk.bad.to_pylist()
    assert row["row"] == 0
    assert sorted(str(value) for value in row.values())[1:] != []
    assert set(cells).issubset(set(row.values()))


def test_the_quarantine_writes_every_type_as_text() -> None:
    columns = {
        "x": text("bad"),
        "when": pa.array([datetime(2020, 1, 1, tzinfo=UTC)]),
        "day": pa.array([date(2020, 1, 1)]),
        "raw": pa.array([b"\xff"]),
        "list": pa.array([[1, 2]]),
        "large": text("é").cast(pa.large_string()),
        "none": pa.nulls(1),
    }
    (row,) = TableCheck(house(FLOAT))(pa.record_batch(columns)).bad.to_pylist()
    assert row["when"] == "2020-01-01T00:00:00+00:00"
    assert (row["day"], row["list"], row["large"], row["none"]) == ("2020-01-01", "[1, 2]", "é", None)


def test_chunks_number_their_rows_over_the_whole_source() -> None:
    check = TableCheck(house(FLOAT))
    chunks = [check(pa.record_batch({"x": text(*cells)})) for cells in (["1", "x"], ["2"], [], ["y", "3", "z"])]
    assert [row for chunk in chunks for row in chunk.bad["row"].to_pylist()] == [1, 3, 5]
    assert (check.report.rows, check.report.bad) == (6, 3)
    assert [fault.row for fault in check.report.examples["x", "type"]] == [1, 3, 5]


def test_the_report_counts_each_rule_and_keeps_three_examples() -> None:
    check = TableCheck(house(replace(FLOAT, ge=0)))
    check(pa.record_batch({"x": text("-1", "-2", "-3", "-4", "x", "")}))
    assert check.report.faults == [
        {
            "field": "x", "rule": "ge", "rows": 4,
            "examples": [f"Expected a number ≥ 0, got \"-{n}\" at rows[{n - 1}].x" for n in (1, 2, 3)],
        },
        {"field": "x", "rule": "type", "rows": 1, "examples": ['Expected a number ≥ 0, got "x" at rows[4].x']},
        {"field": "x", "rule": "required", "rows": 1, "examples": ['Expected a number ≥ 0, got "" at rows[5].x']},
    ]  # fmt: skip
    assert check.report.words.startswith('4 × Expected a number ≥ 0, got "-1" at rows[0].x; 1 × ')


def test_a_report_without_faults_says_nothing() -> None:
    check = TableCheck(house(FLOAT))
    chunk = check(pa.record_batch({"x": text("1")}))
    assert (check.report.words, check.report.faults, chunk.bad.num_rows) == ("", [], 0)


def test_memory_is_that_of_a_chunk_however_many_there_are() -> None:
    check = TableCheck(house(FLOAT, replace(TEXT, name="t", column="t")))

    def peak(chunks: int) -> int:
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        for _ in range(chunks):
            check(pa.record_batch({"x": pa.array(np.arange(10_000.0)), "t": text(*["x", ""] * 5_000)}))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - before < 1_000_000
        return top

    peak(1)
    assert peak(6) < 1.5 * peak(1) + 500_000


def test_a_data_frame_of_pandas_is_judged_like_the_table_that_it_came_from() -> None:
    frame = pd.DataFrame({"x": [1.0, np.nan, -1.0], "c": pd.Categorical(["a", "b", "q"])})
    schema = house(replace(FLOAT, ge=0, optional=True), replace(CLASSES, name="c", column="c"))
    chunk: Chunk = TableCheck(schema)(pa.RecordBatch.from_pandas(frame, preserve_index=False))
    assert chunk.good.to_pylist() == [{"x": 1.0, "c": "a"}, {"x": None, "c": "b"}]
    assert chunk.bad["fault"].to_pylist() == ["x: expected a number ≥ 0; c: expected one of 'a', 'b'"]


@given(st.data())
def test_rows_are_read_the_same_whether_a_neighbour_is_bad_or_none(data: st.DataObject) -> None:
    """Columns without a fault take a quicker way; it must lead to the same values."""
    schema = data.draw(schemas())
    drawn = data.draw(st.lists(rows(schema, complete=True), min_size=1, max_size=4))
    drawn = [row for row in drawn if not has_empty_text(schema, row)]
    if not drawn:
        return
    alone = TableCheck(schema)(typed(schema, drawn)).good
    for field, rule, value in breaks(schema.fields):
        bad = {**drawn[0], field.name: value}
        if rule != "type" and not has_empty_text(schema, bad):
            assert TableCheck(schema)(typed(schema, [*drawn, bad])).good.equals(alone)


@pytest.mark.parametrize(
    ("column", "field"),
    [
        (pa.array([1, 3], pa.int8()), INT),
        (pa.array([1, 3], pa.uint64()), INT),
        (pa.array([1.5, 3.0], pa.float32()), FLOAT),
        (pa.array([1, 3], pa.int32()), FLOAT),
        (pa.array([date(2020, 1, 1), date(2021, 1, 1)]), DATE),
        (pa.array([datetime(2020, 1, 1), datetime(2021, 1, 1)], pa.timestamp("us")), MOMENT),
        (pa.array([datetime(2020, 1, 1), datetime(2021, 1, 1)], pa.timestamp("us", "Europe/Paris")), MOMENT),
        (pa.array([datetime(2020, 1, 1), datetime(2021, 1, 1)], pa.timestamp("ns")), MOMENT),
    ],
)
def test_every_typed_column_is_read_alike_with_and_without_a_fault(column: pa.Array, field: Field) -> None:
    low, high = (parse(field, value) for value in column.to_pylist())
    whole = TableCheck(house(field))(pa.record_batch({"x": column})).good
    assert whole.column(0).to_pylist() == [low, high] or field.kind == "datetime"
    for code, bound, kept in (
        ("gt", low, slice(1, 2)),
        ("lt", high, slice(0, 1)),
        ("le", low, slice(0, 1)),
        ("ge", high, slice(1, 2)),
    ):
        check = TableCheck(house(replace(field, **{code: bound})))
        assert check(pa.record_batch({"x": column})).good.column(0).equals(whole.column(0)[kept])
        assert check.report.counts == {("x", code): 1}
    for code, bound in (("ge", low), ("le", high)):
        assert TableCheck(house(replace(field, **{code: bound})))(pa.record_batch({"x": column})).good.equals(whole)


def test_half_the_rows_bad_in_many_ways_are_told_each_with_its_own_rules() -> None:
    count = 20_000
    x = np.arange(count) % 4 - 1.0  # -1, 0, 1, 2, with "a", "bb", "a", "bb"
    check = TableCheck(
        house(
            replace(FLOAT, ge=0),
            replace(TEXT, name="t", column="t", max_length=1),
            replace(INT, name="n", column="n", le=0),
        )
    )
    chunk = check(pa.record_batch({"x": x, "t": ["a", "bb"] * (count // 2), "n": (x == 2).astype(np.int64)}))
    words = ["x: expected a number ≥ 0", "t: expected text at most 1 characters"]
    words.append(f"{words[1]}; n: expected a whole number ≤ 0")
    assert chunk.bad["fault"].to_pylist() == words * (count // 4)
    assert chunk.bad["row"].to_pylist() == [place for place in range(count) if place % 4 != 2]
    assert check.report.bad == chunk.bad.num_rows == count * 3 // 4


def test_a_check_of_no_rows_gives_no_rows(tmp_path: Path) -> None:
    chunk = TableCheck(house(FLOAT, MOMENT_FIELD))(pa.record_batch({"x": text(), "m": text()}))
    assert (chunk.good.num_rows, chunk.bad.num_rows, len(chunk.good_mask)) == (0, 0, 0)


MOMENT_FIELD = replace(MOMENT, name="m", column="m")
