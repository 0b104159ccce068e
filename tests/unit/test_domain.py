"""Whether a classifier tells two samples of rows apart."""

from typing import Any

import numpy as np
import pytest

from perron.domain import tell_apart
from perron.drift import find_drift
from perron.sketch import TableSketch


def sketch(columns: dict[str, Any], **options: Any) -> TableSketch:
    made = TableSketch(list(columns), **options)
    made.update_columns(columns)
    return made


def rows(count: int, seed: int, together: float = 0.8) -> dict[str, Any]:
    """Ten columns, two of which come together by a correlation."""
    chance = np.random.default_rng(seed)
    a = chance.normal(size=count)
    b = together * a + np.sqrt(1 - together**2) * chance.normal(size=count)
    return {
        "a": a, "b": b, **{f"x{place}": chance.normal(size=count) for place in range(6)},
        "k": np.array(list("abc"), object)[chance.integers(0, 3, count)], "d": chance.integers(0, 4, count).astype(float),
    }  # fmt: skip


def test_undrifted_rows_are_not_told_apart() -> None:
    reference = sketch(rows(20_000, 0))
    found = [
        tell_apart(reference, sketch(rows(count, seed))) for seed, count in enumerate([200, 500, 2000, 5000] * 3, 1)
    ]
    assert all(one is not None and (one.auc < 0.55 or one.p_value > 0.001) for one in found)


@pytest.mark.parametrize("count", [200, 1000])
def test_columns_that_come_together_otherwise_are_found_though_none_moved(count: int) -> None:
    reference, window = sketch(rows(20_000, 0)), sketch(rows(count, 1, together=-0.8))
    assert not find_drift(reference, window)
    found = tell_apart(reference, window)
    assert found is not None and found.auc > 0.75 and found.p_value < 1e-6
    assert {name for name, _ in found.columns[:2]} == {"a", "b"}
    again = tell_apart(reference, window)
    assert again == found  # the same answer each time


def test_columns_that_are_left_out_tell_nothing() -> None:
    reference, window = sketch(rows(5000, 0)), sketch(rows(1000, 1, together=-0.8))
    found = tell_apart(reference, window, without={"b"})
    assert found is not None and found.auc < 0.55 and "b" not in dict(found.columns)


def test_a_category_that_goes_with_another_is_found() -> None:
    def pairs(count: int, seed: int, *, equal: bool) -> TableSketch:
        chance = np.random.default_rng(seed)
        one = chance.integers(0, 3, count)
        other = one if equal else chance.integers(0, 3, count)
        names = np.array(["red", "green", None], object)
        return sketch({"one": names[one], "other": names[other], "x": chance.normal(size=count)})

    reference = pairs(5000, 0, equal=True)
    found = tell_apart(reference, pairs(1000, 1, equal=False))
    assert found is not None and found.auc > 0.7
    same = tell_apart(reference, pairs(1000, 2, equal=True))
    assert same is not None and same.auc < 0.55


def test_rows_that_come_often_weigh_as_much_as_they_come() -> None:
    """Few different rows, in both samples the same ones, but of other frequency."""

    def made(count: int, seed: int, share: float) -> TableSketch:
        chance = np.random.default_rng(seed)
        same = chance.random(count) < share
        a = chance.integers(0, 2, count)
        extra = chance.normal(size=count).round(1)
        return sketch({"a": a.astype(float), "b": np.where(same, a, 1 - a).astype(float), "x": extra})

    found = tell_apart(made(20_000, 0, 0.9), made(2000, 1, 0.1))
    assert found is not None and found.auc > 0.7


def test_too_few_rows_times_hidden_columns_and_many_words_say_nothing() -> None:
    assert tell_apart(sketch(rows(5000, 0)), sketch(rows(199, 1))) is None
    chance = np.random.default_rng(0)

    def odd(seed: int) -> TableSketch:
        words = np.array([f"w{seed}-{place}" for place in range(500)], object)
        numbers = chance.normal(size=500)
        return sketch(
            {"hidden": numbers + seed, "word": words, "when": np.arange(500) + np.datetime64(f"200{seed}-01-01"), "x": numbers},
            kinds={"when": "time"}, sensitive=["hidden"],
        )  # fmt: skip

    assert tell_apart(odd(1), odd(2)) is None  # one column is left: nothing comes together


def test_another_type_is_left_to_drift() -> None:
    reference = sketch(rows(1000, 0))
    window = sketch({**rows(1000, 1), "a": np.array(["no number"] * 1000, object)}, kinds={"a": "text"})
    found = tell_apart(reference, window)
    assert found is not None and "a" not in dict(found.columns)
