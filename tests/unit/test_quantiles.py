"""Quantiles: exact while all is kept, then within the stated error, in any chunks and merges, and never by chance."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.hashes import Floats
from perron.sketch.quantiles import Quantiles

RANKS = np.linspace(0, 1, 101).tolist()
finite = st.floats(-1e9, 1e9)


def of(values: Floats, chunk: int = 1_000) -> Quantiles:
    made = Quantiles()
    for start in range(0, len(values), chunk):
        made.update(np.sort(values[start : start + chunk]))
    return made


def rank_errors(sketch: Quantiles, values: Floats) -> Floats:
    """How far each quantile's place among the values lies from its rank."""
    ordered, found = np.sort(values), np.array(sketch.quantiles(RANKS))
    first = np.searchsorted(ordered, found, "left") / len(values)
    last = np.searchsorted(ordered, found, "right") / len(values)
    return np.maximum(np.maximum(first - RANKS, RANKS - last), 0)


@given(st.lists(finite, max_size=250), st.integers(1, 60))
def test_few_numbers_are_kept_whole(values: list[float], chunk: int) -> None:
    sketch = of(np.array(values, np.float64), chunk)
    assert sketch.is_exact and sketch.rank_error == 0 and sketch.n == len(values)
    ordered = sorted(values)
    assert sketch.quantiles([0, 1]) == (ordered[:1] + ordered[-1:] if values else [])
    for value in values[:5]:
        assert sketch.ranks([value])[0] == np.mean(np.array(values) <= value)
        assert sketch.ranks([value], inclusive=False)[0] == np.mean(np.array(values) < value)


@pytest.mark.parametrize("order", ["random", "sorted", "reversed", "repeated", "zigzag"])
@pytest.mark.parametrize("chunk", [77, 5_000, 200_000])
def test_many_numbers_are_within_the_stated_error(order: str, chunk: int) -> None:
    values = np.random.default_rng(3).lognormal(size=150_000)
    ways: dict[str, Callable[[Floats], Floats]] = {
        "random": lambda v: v, "sorted": np.sort, "reversed": lambda v: np.sort(v)[::-1], "repeated": np.round,
        "zigzag": lambda v: np.where(np.arange(len(v)) % 2, v, -v),
    }  # fmt: skip
    values = ways[order](values)
    sketch = of(values, chunk)
    assert rank_errors(sketch, values).max() <= sketch.rank_error < 0.01
    assert sum(map(len, sketch.levels)) < 1_000
    assert sum(len(level) << height for height, level in enumerate(sketch.levels)) == sketch.n == len(values)
    assert sketch.quantiles([0, 1]) == [values.min(), values.max()]


def test_the_error_is_kept_99_times_in_100() -> None:
    rng = np.random.default_rng(0)
    worst = [rank_errors(of(v, 500), v).max() for v in (rng.normal(size=20_000) for _ in range(100))]
    assert np.quantile(worst, 0.99) <= of(np.arange(1e4)).rank_error


@given(st.lists(st.integers(0, 4_000), min_size=1, max_size=6), st.integers(0, 100))
def test_parts_merge_to_the_whole(sizes: list[int], seed: int) -> None:
    parts = [np.random.default_rng(seed + i).normal(i, 1, size) for i, size in enumerate(sizes)]
    whole, merged = np.concatenate(parts), Quantiles()
    for part in parts:
        merged.merge(of(part))
    assert merged.n == len(whole)
    if merged.n:
        assert rank_errors(merged, whole).max() <= 0.012
        assert (merged.low, merged.high) == (whole.min(), whole.max())


def test_the_same_numbers_make_the_same_sketch_every_time() -> None:
    values = np.random.default_rng(1).normal(size=60_000)
    first, second = of(values), of(values)
    assert all(np.array_equal(a, b) for a, b in zip(first.levels, second.levels, strict=True))


def test_its_coins_fall_both_ways() -> None:
    """Were they always the same, the errors would add up in one direction."""
    values = np.random.default_rng(2).random(1_000_000)
    sketch = of(values, 1_000)
    kept = sketch.ranks(np.linspace(0.05, 0.95, 19)) - np.linspace(0.05, 0.95, 19)
    assert abs(kept.mean()) < 0.003
