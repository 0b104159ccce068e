"""Splits: every row in one part, no group or moment in two, the same parts for the same seed; and what leaks is found."""

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perron as pn
from perron.contract import schema_of
from perron.errors import DataError, DeclarationError
from perron.split import Split
from perron.split.leaks import find_leaks
from perron.split.rows import NEITHER, TEST, TRAIN, fold_rows, groups_of, split_rows


class Visit(pn.Contract):
    who: Annotated[str, pn.Group] | None
    where: Annotated[int, pn.Group]
    day: Annotated[date, pn.Time]
    x: float | None
    y: Annotated[Literal["a", "b"], pn.Target]


class Person(pn.Contract):
    who: Annotated[str, pn.Group] | None
    x: float
    y: Annotated[float, pn.Target]


VISIT, PERSON = schema_of(Visit), schema_of(Person)
START = date(2024, 1, 1)


def visits(rows: int, groups: int = 9, days: int = 30, seed: int = 0) -> pa.Table:
    chance = np.random.default_rng(seed)
    return pa.table({
        "who": pa.array([None if g == 0 else f"g{g}" for g in chance.integers(0, groups, rows)], pa.string()),
        "where": pa.array(np.arange(rows), pa.int64()),
        "day": pa.array([START + timedelta(days=int(d)) for d in chance.integers(0, days, rows)], pa.date32()),
        "x": pa.array(chance.normal(size=rows)),
        "y": pa.array(["ab"[i % 2] for i in range(rows)]),
    })  # fmt: skip


def people(rows: int, groups: int = 9, seed: int = 0) -> pa.Table:
    table = visits(rows, groups, seed=seed)
    return table.select(["who", "x"]).append_column("y", table["x"])


shares, seeds = st.floats(0.1, 0.6), st.integers(0, 2**31)
sizes = st.integers(40, 300)


@given(st.sampled_from(["random", "stratified", "grouped"]), shares, seeds, sizes)
def test_every_row_is_in_one_part_and_the_seed_decides(kind: str, test: float, seed: int, rows: int) -> None:
    split, table = getattr(pn.split, kind)(test, seed), people(rows)
    parts = split_rows(split, table, PERSON)
    assert set(parts.tolist()) == {TRAIN, TEST}
    assert np.array_equal(parts, split_rows(split, table, PERSON))
    if kind != "grouped":
        assert abs((parts == TEST).sum() - rows * test) <= (1 if kind == "random" else 10)


@given(shares, seeds, sizes, st.integers(2, 40))
def test_no_group_is_in_both_parts(test: float, seed: int, rows: int, groups: int) -> None:
    table = people(rows, groups, seed)
    parts = split_rows(pn.split.grouped(test, seed), table, PERSON)
    who = np.array(table["who"].to_pylist(), dtype=object)
    known = np.array([name is not None for name in who])
    assert not set(who[known & (parts == TRAIN)]) & set(who[known & (parts == TEST)])


def test_rows_that_share_a_value_of_any_group_field_stay_together() -> None:
    rows = pa.table({"who": ["a", "a", "b", None, None, "c"], "where": [1, 2, 2, 3, 3, 4]})
    groups = groups_of(rows, VISIT)
    assert groups[0] == groups[1] == groups[2] and groups[3] == groups[4]
    assert len({*groups.tolist()}) == 3


@given(shares, st.integers(0, 10), sizes)
def test_a_split_by_time_never_trains_on_what_is_not_older_than_the_test_rows_by_the_gap(
    test: float, gap: int, rows: int
) -> None:
    table = visits(rows, days=200)
    parts = split_rows(pn.split.by_time(test, gap=timedelta(days=gap)), table, VISIT)
    days = np.array(table["day"].to_pylist())
    assert days[parts == TEST].min() - days[parts == TRAIN].max() >= timedelta(days=max(gap, 1))
    assert (days[parts == NEITHER] < days[parts == TEST].min()).all()
    assert (parts == TEST).sum() >= round(rows * test)


def test_a_gap_is_exact_to_the_microsecond() -> None:
    class Tick(pn.Contract):
        at: Annotated[datetime, pn.Time]
        y: Annotated[float, pn.Target]

    start = datetime(2024, 1, 1, tzinfo=UTC)
    offsets = [0, 1, 2, 3_600_000_001, 3_600_000_002]
    table = pa.table({
        "at": pa.array([start + timedelta(microseconds=o) for o in offsets], pa.timestamp("us", tz="UTC")),
        "y": [1.0] * 5,
    })  # fmt: skip
    parts = split_rows(pn.split.by_time(0.4, gap=timedelta(hours=1)), table, schema_of(Tick))
    assert parts.tolist() == [TRAIN, TRAIN, NEITHER, TEST, TEST]


@given(st.sampled_from(["random", "stratified", "grouped"]), st.integers(2, 6), seeds)
def test_every_row_is_scored_in_one_fold(kind: str, folds: int, seed: int) -> None:
    split, table = getattr(pn.split, kind)(0.2, seed, folds=folds), people(120, groups=12)
    found = list(fold_rows(split, table, PERSON))
    assert len(found) == folds
    assert np.array_equal(sum(held.astype(int) for _, held in found), np.ones(120))
    assert all(np.array_equal(fitted, ~held) for fitted, held in found)
    groups = groups_of(table, PERSON)
    if kind == "grouped":
        assert not any(set(groups[fitted]) & set(groups[held]) for fitted, held in found)
    else:
        assert max(held.sum() for _, held in found) - min(held.sum() for _, held in found) <= 1


@given(st.integers(2, 6), st.integers(0, 5))
def test_a_backtest_is_fitted_on_the_past_alone_and_grows(folds: int, gap: int) -> None:
    table = visits(300, days=150)
    days = np.array(table["day"].to_pylist())
    found = list(fold_rows(pn.split.by_time(gap=timedelta(days=gap), folds=folds), table, VISIT))
    assert len(found) == folds
    for fitted, held in found:
        assert days[held].min() - days[fitted].max() >= timedelta(days=max(gap, 1))
    assert all(a[0].sum() < b[0].sum() for a, b in itertools.pairwise(found))
    assert not (np.sum([held for _, held in found], axis=0) > 1).any()


def test_findings_name_each_leak_and_a_clean_split_has_none() -> None:
    table = visits(200)
    doubled = pa.concat_tables([table, table.slice(0, 50).set_column(1, "where", pa.array(np.arange(900, 950)))])
    parts = split_rows(pn.split.random(0.3), doubled, VISIT)
    train, test = (doubled.filter(pa.array(parts == part)) for part in (TRAIN, TEST))
    found = {finding["rule"]: finding for finding in find_leaks(VISIT, train, test) if finding["column"] != "where"}
    assert set(found) == {"group", "time"}  # each row has a place of its own
    loose = schema_of(type("Loose", (Visit,), {"__annotations__": {"where": Annotated[int, pn.Ignore]}}))
    found = {finding["rule"]: finding for finding in find_leaks(loose, train, test)}
    keys = [
        set(zip(*(part[name].to_pylist() for name in ("who", "day", "x", "y")), strict=True)) for part in (train, test)
    ]
    assert found["duplicates"]["rows"] == len(keys[0] & keys[1]) > 0
    assert found["duplicates"]["kind"] == "leakage" and found["group"]["column"] == "who"
    clean = split_rows(pn.split.grouped(0.3), people(200), PERSON)
    parts = [people(200).filter(pa.array(clean == part)) for part in (TRAIN, TEST)]
    assert find_leaks(PERSON, *parts) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pn.split.random(1.2), "share of test rows is 1.2"),
        (lambda: pn.split.random(0.2, folds=1), "folds are 1"),
        (lambda: pn.split.grouped(0.2, seed="x"), "seed of the split is 'x'"),  # type: ignore[arg-type]
        (lambda: pn.split.by_time(0.2, gap=-1), "gap is -1"),
        (lambda: pn.System("s", Visit, source="x", split=pn.split.by_time(gap=3)), "give a timedelta"),
        (lambda: pn.System("s", Person, source="x", split=pn.split.by_time()), "no pn.Time field"),
        (lambda: pn.System("s", type("P", (pn.Contract,), {"__annotations__": {"x": float, "y": Annotated[float, pn.Target]}}), source="x", split=pn.split.grouped()), "no pn.Group field"),
    ],
)  # fmt: skip
def test_a_split_that_makes_no_sense_is_one_clear_line(make: object, words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        make()  # type: ignore[operator]
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("split", "table", "words"),
    [
        (pn.split.grouped(), people(30, 2).filter(pa.compute.is_valid(people(30, 2)["who"])), "one group"),
        (pn.split.by_time(gap=timedelta(days=99)), visits(30), "make the gap shorter"),
        (pn.split.by_time(), visits(30, days=1), "share the moment 2024-01-01"),
        (pn.split.random(0.001), people(30), "bring more rows"),
    ],
)
def test_rows_that_cannot_be_parted_say_why(split: Split, table: pa.Table, words: str) -> None:
    with pytest.raises(DataError, match=words):
        split_rows(split, table, VISIT if "day" in table.column_names else PERSON)


def test_a_group_field_makes_the_default_split_grouped() -> None:
    assert pn.System("s", Person, source="x").split.kind == "grouped"
