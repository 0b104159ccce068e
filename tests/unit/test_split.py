"""Splits: how many rows are test rows, which, and what can't be parted."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perron as pn
from perron.contract import Field, Role, Schema
from perron.errors import DataError, DeclarationError
from perron.split import Split, by_time, random, split_rows, stratified

TARGET = Field(name="y", kind="float", column="y", roles=(Role.TARGET,))
CLASSES = replace(TARGET, kind="category", values=("a", "b", "c"))


def schema(target: Field = TARGET, *fields: Field) -> Schema:
    return Schema("Rows", None, (*fields, target))


def parted(split: Split, y: Any, target: Field = TARGET) -> Any:
    return split_rows(split, pa.table({"y": y}), schema(target))


def test_the_splits_are_public() -> None:
    assert pn.split.random(test=0.25, seed=1) == Split("random", 0.25, 1)
    assert pn.split.stratified() == Split("stratified", 0.2, 42)
    assert pn.split.by_time(0.1) == Split("by_time", 0.1, None)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, "0.2", None, True, float("nan")])
@pytest.mark.parametrize("make", [random, stratified, by_time])
def test_a_share_that_leaves_a_part_empty_is_refused(make: Any, share: Any) -> None:
    with pytest.raises(DeclarationError, match="between 0 and 1"):
        make(test=share)


@given(rows=st.integers(2, 300), share=st.floats(0.01, 0.99), seed=st.integers(0, 100))
def test_a_random_split_has_the_share_and_both_parts(rows: int, share: float, seed: int) -> None:
    wanted = round(rows * share)
    y = np.arange(float(rows))
    if not 1 <= wanted <= rows - 1:
        with pytest.raises(DataError, match="can't be split"):
            parted(random(share, seed), y)
        return
    is_test = parted(random(share, seed), y)
    assert (is_test.dtype, is_test.shape, int(is_test.sum())) == (np.dtype(bool), (rows,), wanted)
    assert (is_test == parted(random(share, seed), y)).all()


def test_another_seed_gives_other_parts() -> None:
    y = np.arange(100.0)
    for make in (random, stratified):
        assert (parted(make(seed=1), y) != parted(make(seed=2), y)).any()


@given(st.lists(st.sampled_from("aaab"), min_size=20, max_size=200), st.floats(0.1, 0.9))
def test_a_stratified_split_has_the_share_within_each_class(labels: list[str], share: float) -> None:
    y = np.array([*labels, "a", "a", "b", "b"])
    is_test = parted(stratified(share), pa.array(y.tolist()), CLASSES)
    for label in "ab":
        size, tested = int((y == label).sum()), int(is_test[y == label].sum())
        assert 1 <= tested <= size - 1
        assert abs(tested - size * share) <= 1


@pytest.mark.parametrize(
    ("target", "values"),
    [
        (CLASSES, ["a"] * 30 + ["b"] * 10),
        (replace(CLASSES, values=(1, 2)), [1] * 30 + [2] * 10),
        (replace(TARGET, kind="bool"), [True] * 30 + [False] * 10),
    ],
)
def test_classes_of_every_kind_are_stratified(target: Field, values: list[Any]) -> None:
    is_test = parted(stratified(0.2), pa.chunked_array([values[:7], values[7:]]), target)
    assert (int(is_test[:30].sum()), int(is_test[30:].sum())) == (6, 2)


def test_a_number_is_stratified_within_its_tenths() -> None:
    y = np.arange(1000.0)
    is_test = parted(stratified(0.2), y)
    assert [int(part.sum()) for part in np.split(is_test, 10)] == [20] * 10


def test_a_class_with_one_row_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="The class 'c' has one row"):
        parted(stratified(), ["a"] * 9 + ["c"], CLASSES)


@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        ("date", [date(2020, 1, 1) + timedelta(n) for n in range(10)]),
        ("datetime", [datetime(2020, 1, 1, n) for n in range(10)]),
        ("int", list(range(10))),
        ("float", [n / 2 for n in range(10)]),
    ],
)
def test_the_newest_rows_are_the_test_rows(kind: Any, moments: list[Any]) -> None:
    time = Field(name="t", kind=kind, column="t", roles=(Role.TIME,))
    order = [3, 9, 0, 8, 1, 2, 7, 4, 6, 5]
    table = pa.table({"t": [moments[place] for place in order], "y": order})
    is_test = split_rows(by_time(0.3), table, schema(TARGET, time))
    assert sorted(np.array(order)[is_test].tolist()) == [7, 8, 9]


def test_rows_of_one_moment_stay_together() -> None:
    time = Field(name="t", kind="int", column="t", roles=(Role.TIME,))
    table = pa.table({"t": [1, 2, 3, 3, 3], "y": range(5)})
    assert split_rows(by_time(0.2), table, schema(TARGET, time)).tolist() == [False, False, True, True, True]


def test_rows_that_all_share_a_moment_are_refused() -> None:
    time = Field(name="t", kind="int", column="t", roles=(Role.TIME,))
    with pytest.raises(DataError, match="share the moment 3"):
        split_rows(by_time(0.2), pa.table({"t": [3] * 5, "y": range(5)}), schema(TARGET, time))


@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        ("datetime", [None, *(datetime(2020, 1, 1, n) for n in range(8)), None]),
        ("date", [None, *(date(2020, 1, 1 + n) for n in range(8)), None]),
        ("float", [None, *map(float, range(8)), None]),
    ],
)
def test_rows_without_a_moment_are_train_rows(kind: Any, moments: list[Any]) -> None:
    time = Field(name="t", kind=kind, column="t", optional=True, roles=(Role.TIME,))
    is_test = split_rows(by_time(0.3), pa.table({"t": moments, "y": range(10)}), schema(TARGET, time))
    assert np.flatnonzero(is_test).tolist() == [6, 7, 8]


def test_rows_that_all_lack_a_moment_are_refused() -> None:
    time = Field(name="t", kind="date", column="t", optional=True, roles=(Role.TIME,))
    with pytest.raises(DataError, match="No row has a t"):
        split_rows(by_time(0.2), pa.table({"t": pa.nulls(5, pa.date32()), "y": range(5)}), schema(TARGET, time))


def test_one_row_is_too_few() -> None:
    for split in (random(), stratified(), by_time()):
        time = Field(name="t", kind="int", column="t", roles=(Role.TIME,))
        with pytest.raises(DataError, match="1 good rows can't be split"):
            split_rows(split, pa.table({"t": [1], "y": [1.0]}), schema(TARGET, time))
