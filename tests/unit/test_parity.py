"""Parity: when two answers are the same, and which rows are shown when they aren't."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.errors import ParityError
from perron.parity import TOLERANCE, compare

NUMBERS = st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=20)


@given(NUMBERS)
def test_an_answer_is_at_parity_with_itself(values: list[float]) -> None:
    parity = compare((values, None), (values, None), is_classification=False)
    assert (parity.max_relative_error, parity.holds, parity.rows, parity.worst) == (0.0, True, len(values), ())


@given(NUMBERS, st.integers(0, 19))
def test_a_number_that_is_off_by_more_than_the_tolerance_breaks_parity(values: list[float], place: int) -> None:
    values = [1.0 + abs(value) for value in values]
    got = list(values)
    got[place % len(got)] *= 1 + 3 * TOLERANCE
    got[place % len(got)] += 3e-8 * sum(values) / len(values)  # beyond the scale of the rest
    parity = compare((values, None), (got, None), is_classification=False)
    assert not parity.holds
    assert parity.worst[0][0] == place % len(got)
    with pytest.raises(ParityError, match=rf"test row {place % len(got)}: model .* graph .* bundle is refused"):
        parity.demand()


def test_the_last_bit_of_an_answer_next_to_zero_does_not_count() -> None:
    assert compare(([1000.0, 1e-12], None), ([1000.0, 2e-12], None), is_classification=False).holds


@pytest.mark.parametrize(
    ("expected", "got", "holds"),
    [
        ([math.nan], [math.nan], True),
        ([math.inf], [math.inf], True),
        ([-math.inf, 1.0], [-math.inf, 1.0], True),
        ([0.0], [0.0], True),
        ([0.0], [-0.0], True),
        ([], [], True),
        ([1.0], [math.nan], False),
        ([math.nan], [1.0], False),
        ([math.inf], [-math.inf], False),
        ([math.inf], [1.0], False),
        ([1.0], [math.inf], False),
        ([0.0], [1e-3], False),
        ([1.0, 2.0], [1.0, 2.001], False),
        ([1e308, 1e308], [1e308, 1e308], True),
        ([1e308, 1e308], [1e308, 1e307], False),
    ],
)
def test_numbers_that_are_no_numbers_are_compared_too(expected: list[float], got: list[float], holds: bool) -> None:
    parity = compare((np.array(expected), None), (np.array(got), None), is_classification=False)
    assert parity.holds is holds
    assert parity.labels_equal is None


def test_labels_must_be_equal() -> None:
    same = compare((["a", "b"], None), (np.array(["a", "b"], object), None), is_classification=True)
    assert (same.holds, same.labels_equal) == (True, True)
    other = compare((["a", "b", "a"], None), (["a", "a", "a"], None), is_classification=True)
    assert (other.holds, other.labels_equal, other.worst) == (False, False, ((1, "b", "a"),))


def test_probabilities_may_differ_by_the_tolerance() -> None:
    labels, p = ["a", "b"], np.array([[0.7, 0.3], [0.4, 0.6]])
    near = compare((labels, p), (labels, p + 0.5 * TOLERANCE), is_classification=True)
    assert near.holds
    far = compare((labels, p), (labels, p + np.array([[0, 0], [2 * TOLERANCE, 0]])), is_classification=True)
    assert (far.holds, far.labels_equal, far.worst[0][0]) == (False, True, 1)
    nan = compare((labels, p), (labels, np.where(p > 0.65, np.nan, p)), is_classification=True)
    assert not nan.holds


def test_a_graph_without_probabilities_is_no_match_for_a_model_with_them() -> None:
    parity = compare((["a"], np.array([[1.0]])), (["a"], None), is_classification=True)
    assert not parity.holds
    with pytest.raises(ParityError):
        parity.demand()


def test_the_three_worst_rows_are_shown_worst_first() -> None:
    parity = compare(([10.0] * 5, None), ([10.0, 11.0, 12.0, 13.0, 10.5], None), is_classification=False)
    assert [row for row, _, _ in parity.worst] == [3, 2, 1]
    assert parity.to_json() == {"rows": 5, "max_relative_error": pytest.approx(0.3), "labels_equal": None}
