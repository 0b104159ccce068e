"""Changes of errors over time: found where the relation changed, not where it didn't; and exact chances of being outside."""

import numpy as np
import pytest

from perron.drift import _beyond
from perron.monitor import find_change

ROWS = 3000


def stream(errors: np.ndarray) -> list[tuple[float, bool]]:
    return [(float(error), error == 0) for error in errors]


@pytest.mark.parametrize("seed", range(5))
def test_errors_that_grow_are_found_near_where_they_began(seed: int) -> None:
    r = np.random.default_rng(seed)
    errors = np.abs(r.normal(0, np.where(np.arange(ROWS) < 1500, 1.0, 1.8)))
    found = find_change(stream(errors), is_class=False)
    assert found is not None
    place, names, before, after = found
    assert abs(place - 1500) < 150 and len(names) == 2
    assert before == pytest.approx(0.8, abs=0.1) and after == pytest.approx(1.44, abs=0.15)


@pytest.mark.parametrize("seed", range(3))
def test_a_classifier_that_is_wrong_more_often_is_found(seed: int) -> None:
    r = np.random.default_rng(seed)
    wrong = r.random(ROWS) < np.where(np.arange(ROWS) < 1500, 0.1, 0.35)
    found = find_change(stream(wrong.astype(float)), is_class=True)
    assert found is not None and abs(found[0] - 1500) < 150 and found[3] > 2 * found[2]


def test_errors_that_stay_as_they_are_are_no_change() -> None:
    found = []
    for seed in range(20):
        r = np.random.default_rng(seed + 100)
        for errors, is_class in (
            (np.abs(r.normal(size=ROWS)), False),
            (np.abs(r.standard_t(3, ROWS)), False),
            ((r.random(ROWS) < 0.1).astype(float), True),
        ):
            change = find_change(stream(errors), is_class=is_class)
            if change is not None and change[3] > change[2] * 1.1:  # what the monitor would tell
                found.append((seed, change))
    assert len(found) <= 1, found


@pytest.mark.parametrize(("gaps", "share"), [(1, 1.0), (2, 2.0)])
def test_the_chance_of_being_outside_of_what_was_seen_is_exact(gaps: int, share: float) -> None:
    n, m, r = 200, 50, np.random.default_rng(0)
    seen, new = r.random((20_000, n)), r.random((20_000, m))
    outside = (new > seen.max(axis=1)[:, None]).sum(axis=1)
    if gaps == 2:
        outside += (new < seen.min(axis=1)[:, None]).sum(axis=1)
    assert _beyond(0, n, m, gaps) == 1.0 or gaps == 2  # type: ignore[arg-type]
    for k in (1, 2, 3):
        assert _beyond(k, n, m, gaps) == pytest.approx(float((outside >= k).mean()), abs=0.012)  # type: ignore[arg-type]
    assert 0 <= _beyond(m, n, m, gaps) < 1e-9 * share  # type: ignore[arg-type]
