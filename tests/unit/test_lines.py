"""Tables as lines of JSON, against Python's own writer."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.lines import json_lines

CELLS = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        'na"me\n': st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "whole": st.none() | st.integers(-(2**63), 2**63 - 1),
        "flag": st.none() | st.booleans(),
    }
)
SCHEMA = pa.schema([("text", pa.string()), ('na"me\n', pa.float64()), ("whole", pa.int64()), ("flag", pa.bool_())])


@given(st.lists(CELLS, max_size=20), st.integers(0, 3))
def test_each_row_reads_back_as_it_was(rows: list[dict[str, Any]], skipped: int) -> None:
    table = pa.Table.from_pylist(rows, schema=SCHEMA).slice(skipped)
    assert [json.loads(line) for line in json_lines(table).split(b"\n")[:-1]] == rows[skipped:]


def test_what_json_has_no_number_for_is_null_and_dates_are_text() -> None:
    table = pa.table(
        {
            "x": [float("nan"), float("inf"), 1.5],
            "day": [date(2024, 2, 29), None, date(2024, 1, 1)],
            "at": pa.array([datetime(2024, 1, 1, tzinfo=UTC), None, None], pa.timestamp("us", tz="UTC")),
            "kind": pa.array(["a", None, 'b"']).dictionary_encode(),
        }
    )
    lines = [json.loads(line) for line in json_lines(table).splitlines()]
    assert [line["x"] for line in lines] == [None, None, 1.5] and lines[0]["day"] == "2024-02-29"
    assert lines[0]["at"].startswith("2024-01-01T00:00:00") and [line["kind"] for line in lines] == ["a", None, 'b"']


@pytest.mark.parametrize("text", ["\x00", "\x1f", "\x7f", "\u2028", "é", "\\", '"', "\U0001f600"])
def test_texts_that_json_escapes_are_escaped(text: str) -> None:
    assert json.loads(json_lines(pa.table({"x": [text]}))) == {"x": text}
