"""Routing: shares, stickiness, shadows and bandits."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.plan import Arm, Routing
from perron.serve.routing import Router, place_of

A, B = Arm("champion", 1, 0.9), Arm("challenger", 2, 0.1)


def shares(router: Router, keys: list[str | None]) -> Counter[str]:
    return Counter(router.choose(key).name for key in keys)


def test_a_single_arm_always_answers() -> None:
    router = Router(Routing("single", (A, B)))
    assert shares(router, [None, "x"] * 50) == {"champion": 100} and router.is_plain


def test_a_canary_gets_its_share_by_chance() -> None:
    found = shares(Router(Routing("canary", (A, B)), seed=1), [None] * 20_000)
    assert found["challenger"] == pytest.approx(2000, abs=150)


def test_keys_are_parted_evenly_and_always_alike() -> None:
    keys: list[str | None] = [f"user-{number}" for number in range(20_000)]
    first = [Router(Routing("ab", (A, B), salt="s"), seed=seed).choose(key).name for seed, key in enumerate(keys[:500])]
    assert first == [Router(Routing("ab", (A, B), salt="s")).choose(key).name for key in keys[:500]]
    found = shares(Router(Routing("ab", (replace(A, weight=1), replace(B, weight=1)), salt="s")), keys)
    assert found["challenger"] == pytest.approx(10_000, abs=350)


def test_another_salt_parts_keys_anew() -> None:
    keys = [f"user-{number}" for number in range(1000)]
    one, two = (
        [Router(Routing("ab", (replace(A, weight=1), replace(B, weight=1)), salt=s)).choose(k).name for k in keys]
        for s in ("a", "b")
    )
    assert 350 < sum(x != y for x, y in zip(one, two, strict=True)) < 650


@given(st.text(), st.text())
def test_a_place_lies_between_zero_and_one(key: str, salt: str) -> None:
    assert 0 <= place_of(key, salt) < 1


def test_a_bandit_asks_the_arm_that_wins_and_still_looks_at_the_other() -> None:
    arms = (replace(A, wins=100, losses=900), replace(B, wins=300, losses=700))
    found = shares(Router(Routing("bandit", arms), seed=2), [None] * 5000)
    assert found["challenger"] > 4700 and found["champion"] > 20


def test_a_shadow_is_asked_at_its_share() -> None:
    router = Router(Routing("single", (A,), shadow=(B,), shadow_share=0.25), seed=3)
    assert not router.is_plain
    assert sum(bool(router.shadows()) for _ in range(4000)) == pytest.approx(1000, abs=120)
