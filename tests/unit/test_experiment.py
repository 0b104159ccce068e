"""Comparisons that hold however often one looks; moments that can take back; what a prediction loses."""

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.experiment import Moments, compare_arms, has_won, loss_of
from perron.predictions import Recorded


def recorded(value: Any, probabilities: dict[str, float] | None = None) -> Recorded:
    return Recorded("i", "t", "champion", {}, value, probabilities, {})


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60), st.data())
def test_moments_are_those_of_what_is_left(values: list[float], data: st.DataObject) -> None:
    moments = Moments()
    for value in values:
        moments.add(value)
    gone = data.draw(st.sets(st.integers(0, len(values) - 1), max_size=len(values) - 2))
    for place in gone:
        moments.remove(values[place])
    left = [value for place, value in enumerate(values) if place not in gone]
    assert moments.n == len(left)
    assert moments.mean == pytest.approx(np.mean(left), abs=1e-4)
    assert moments.variance == pytest.approx(np.var(left, ddof=1), rel=1e-4, abs=1e-2)


def watch(shift: float, rounds: int, seed: int) -> tuple[str, int]:
    """The first verdict that isn't undecided when one looks after every pair of outcomes, and when it came."""
    chance, first, other = random.Random(seed), Moments(), Moments()
    for number in range(rounds):
        first.add(chance.expovariate(1.0))
        other.add(chance.expovariate(1.0) + shift)
        found = compare_arms(first, other)
        if found.verdict != "undecided":
            return found.verdict, number
    return "undecided", rounds


def test_looking_after_every_outcome_raises_few_false_alarms() -> None:
    alarms = sum(watch(0.0, 1500, seed)[0] != "undecided" for seed in range(200))
    assert alarms <= 18  # 5 % of 200 are 10; three standard deviations more are 19


def test_a_real_difference_is_found_and_the_right_way_round() -> None:
    worse = [watch(0.3, 4000, seed) for seed in range(20)]
    better = [watch(-0.3, 4000, seed) for seed in range(20)]
    assert {verdict for verdict, _ in worse} == {"worse"} and {verdict for verdict, _ in better} == {"better"}
    assert sorted(when for _, when in worse)[10] < 1000


def test_nothing_is_decided_on_few_outcomes() -> None:
    first, other = Moments(), Moments()
    for number in range(29):
        first.add(number % 2)
        other.add(100 + number % 2)
    found = compare_arms(first, other)
    assert found.verdict == "undecided" and math.isinf(found.high)


def test_what_a_prediction_loses_and_wins() -> None:
    assert loss_of(recorded(3.0), 5) == 4.0
    assert loss_of(recorded("a"), "b") == 1.0 and loss_of(recorded(True), True) == 0.0
    assert loss_of(recorded("a", {"a": 0.25, "b": 0.75}), "a") == pytest.approx(-math.log(0.25))
    assert loss_of(recorded(True, {"false": 0.5, "true": 0.5}), True) == pytest.approx(math.log(2))
    assert loss_of(recorded("a", {"a": 1.0}), "unheard of") == pytest.approx(-math.log(1e-15))
    assert has_won(recorded(3.0), 4.0, 1.0) and not has_won(recorded(3.0), 4.1, 1.0)
    assert has_won(recorded("a"), "a", None) and not has_won(recorded("a"), "b", 5.0)
