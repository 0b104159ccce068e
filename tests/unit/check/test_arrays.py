"""Arrow to NumPy and back by buffers: the same as by pyarrow's own ways, for slices, nulls and nothing."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.check.arrays import from_bools, from_numbers, from_texts, is_in, is_true, is_valid, nulled, numbers_of

KINDS = st.sampled_from([pa.int8(), pa.int64(), pa.float32(), pa.float64(), pa.date32(), pa.timestamp("us", "UTC")])


def sliced(data: st.DataObject, values: list[Any], kind: pa.DataType) -> pa.Array:
    start = data.draw(st.integers(0, len(values)))
    return pa.array(values, kind).slice(start, data.draw(st.integers(0, len(values) - start)))


@given(st.data())
def test_numbers_and_validity_are_what_pyarrow_says(data: st.DataObject) -> None:
    kind = data.draw(KINDS)
    array = sliced(data, data.draw(st.lists(st.none() | st.integers(-100, 100), max_size=40)), kind)
    valid = is_valid(array)
    assert valid.tolist() == array.is_valid().to_pylist()
    again = from_numbers(numbers_of(array), kind, valid)
    again.validate(full=True)
    assert again.equals(array)


@given(st.data())
def test_masks_are_what_pyarrow_says(data: st.DataObject) -> None:
    array = sliced(data, data.draw(st.lists(st.none() | st.booleans(), max_size=40)), pa.bool_())
    assert is_true(array).tolist() == [value is True for value in array.to_pylist()]
    assert from_bools(is_true(array)).equals(pc.fill_null(array, False))


@given(st.data())
def test_texts_are_found_and_nulled(data: st.DataObject) -> None:
    words = st.text(max_size=3)
    array = sliced(data, data.draw(st.lists(st.none() | words, max_size=20)), pa.string())
    among = data.draw(st.lists(words, max_size=4))
    assert from_texts(among).to_pylist() == among
    found = is_in(array, from_texts(among))
    assert found.tolist() == [value in among for value in array.to_pylist()]
    assert nulled(array, found).to_pylist() == [None if value in among else value for value in array.to_pylist()]


@pytest.mark.parametrize("kind", [pa.null(), pa.float64(), pa.bool_(), pa.string()])
def test_nothing_but_nulls_is_nowhere_valid(kind: pa.DataType) -> None:
    assert is_valid(pa.nulls(3, kind)).tolist() == [False] * 3
    assert is_true(pa.nulls(3, pa.bool_())).tolist() == [False] * 3
