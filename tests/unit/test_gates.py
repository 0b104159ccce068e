"""Gates: how they are made, and their verdicts."""

import json
import math
from typing import Any

import pytest

import perron as pn
from perron.errors import DeclarationError
from perron.gates import Gate, judge_gate

NAN = math.nan


@pytest.mark.parametrize(
    ("gate", "scores", "passed"),
    [
        (pn.gate("rmse", at_most=2), {"rmse": 2.0}, True),
        (pn.gate("rmse", at_most=2), {"rmse": 2.1}, False),
        (pn.gate("rmse", at_most=2), {"rmse": NAN}, False),
        (pn.gate("rmse", at_most=2), {}, False),
        (pn.gate("rmse", at_most=2), {"rmse": math.inf}, False),
        (pn.gate("r2", at_least=0.5), {"r2": 0.5}, True),
        (pn.gate("r2", at_least=0.5), {"r2": 0.4}, False),
        (pn.gate("r2", at_least=0), {"r2": NAN}, False),
        (pn.gate("accuracy", at_most=0.99), {"accuracy": 1.0}, False),
        (pn.gate.better_than_baseline("rmse"), {"rmse": 4.9}, True),
        (pn.gate.better_than_baseline("rmse"), {"rmse": 5.0}, False),
        (pn.gate.better_than_baseline("rmse"), {"rmse": NAN}, False),
        (pn.gate.better_than_baseline("rmse"), {}, False),
        (pn.gate.better_than_baseline("r2"), {"r2": 0.2}, True),
        (pn.gate.better_than_baseline("r2"), {"r2": 0.1}, False),
        (pn.gate.no_worse_than_champion("rmse"), {"rmse": 3.0}, True),
        (pn.gate.no_worse_than_champion("rmse"), {"rmse": 3.001}, False),
        (pn.gate.no_worse_than_champion("rmse", tolerance=0.1), {"rmse": 3.3}, True),
        (pn.gate.no_worse_than_champion("rmse", tolerance=0.1), {"rmse": 3.31}, False),
        (pn.gate.no_worse_than_champion("r2"), {"r2": 0.5}, True),
        (pn.gate.no_worse_than_champion("r2"), {"r2": 0.49}, False),
        (pn.gate.no_worse_than_champion("r2", tolerance=0.1), {"r2": 0.451}, True),
        (pn.gate.no_worse_than_champion("r2", tolerance=0.1), {"r2": 0.44}, False),
        (pn.gate.no_worse_than_champion("r2"), {"r2": NAN}, False),
        (pn.gate.no_worse_than_champion("mae"), {"mae": 1e9}, True),
        (pn.gate.no_worse_than_champion("mae"), {"mae": NAN}, False),
        (pn.gate.no_worse_than_champion("mae"), {}, False),
    ],
)  # fmt: skip
def test_a_gate_lets_through_what_reaches_it(gate: Gate, scores: dict[str, float], passed: bool) -> None:
    verdict = judge_gate(gate, scores, baseline={"rmse": 5.0, "r2": 0.1}, champion={"rmse": 3.0, "r2": 0.5})
    assert verdict.passed is passed
    json.dumps(verdict.to_json(), allow_nan=False)


def test_without_a_champion_there_is_nothing_to_compare_with() -> None:
    verdict = judge_gate(pn.gate.no_worse_than_champion("rmse"), {"rmse": 9.0}, {}, None)
    assert (verdict.passed, verdict.value, verdict.limit) == (True, 9.0, None)
    assert not judge_gate(pn.gate.no_worse_than_champion("rmse"), {"rmse": NAN}, {}, None).passed


def test_a_champion_below_zero_is_given_its_tolerance_on_the_right_side() -> None:
    gate = pn.gate.no_worse_than_champion("r2", tolerance=0.1)
    assert judge_gate(gate, {"r2": -1.1}, {}, {"r2": -1.0}).passed
    assert not judge_gate(gate, {"r2": -1.2}, {}, {"r2": -1.0}).passed


def test_a_champion_that_could_not_be_scored_is_no_bar() -> None:
    assert judge_gate(pn.gate.no_worse_than_champion("rmse"), {"rmse": 1.0}, {}, {"rmse": NAN}).passed


def test_a_verdict_names_the_gate_the_value_and_the_limit() -> None:
    verdict = judge_gate(pn.gate("rmse", at_most=60_000), {"rmse": 61_000.5}, {}, None)
    assert verdict.to_json() == {"name": "rmse at most 60000", "passed": False, "value": 61_000.5, "limit": 60_000.0}


@pytest.mark.parametrize(
    ("gate", "name"),
    [
        (pn.gate("rmse", at_most=0.5), "rmse at most 0.5"),
        (pn.gate("r2", at_least=1), "r2 at least 1"),
        (pn.gate.better_than_baseline("mae"), "mae better than baseline"),
        (pn.gate.no_worse_than_champion("mae"), "mae no worse than champion"),
        (pn.gate.no_worse_than_champion("mae", tolerance=0.01), "mae no worse than champion by more than 1 %"),
        (pn.gate.no_worse_than_champion("mae", tolerance=0.07), "mae no worse than champion by more than 7 %"),
    ],
)
def test_a_gate_has_a_name_in_words(gate: Gate, name: str) -> None:
    assert gate.name == name


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pn.gate("rmse"), "either at_most or at_least"),
        (lambda: pn.gate("rmse", at_most=1, at_least=0), "either at_most or at_least"),
        (lambda: pn.gate("rmse", at_most=NAN), "finite number"),
        (lambda: pn.gate("rmse", at_most=math.inf), "finite number"),
        (lambda: pn.gate("rmse", at_most="1"), "finite number"),
        (lambda: pn.gate("rmse", at_most=True), "finite number"),
        (lambda: pn.gate("rmse", at_most=10**400), "finite number"),
        (lambda: pn.gate("rsme", at_most=1), "did you mean 'rmse'"),
        (lambda: pn.gate.better_than_baseline("x"), "no metric 'x'"),
        (lambda: pn.gate.no_worse_than_champion("rmse", tolerance=-1), "share ≥ 0"),
        (lambda: pn.gate.no_worse_than_champion("rmse", tolerance=math.inf), "share ≥ 0"),
        (lambda: pn.gate.no_worse_than_champion("rmse", tolerance=NAN), "share ≥ 0"),
        (lambda: pn.gate.no_worse_than_champion("rmse", tolerance="1 %"), "share ≥ 0"),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(make: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        make()
