"""Drift between two sketches: found where it is, not where it isn't, and right where distances are biased."""

import numpy as np
import pytest

from perron.drift import Drift, Limits, find_drift, holm, measure
from perron.sketch import TableSketch

ROWS = 50_000


def sketch(columns: dict[str, np.ndarray]) -> TableSketch:
    made = TableSketch(list(columns))
    made.update_columns(columns)
    return made


def table(rows: int, seed: int) -> dict[str, np.ndarray]:
    r = np.random.default_rng(seed)
    return {
        "normal": r.normal(0, 1, rows),
        "income": r.gamma(2, 1, rows) + 0.5,
        "five": np.array(list("abcde"), object)[r.integers(0, 5, rows)],
        "v5000": np.array([f"k{i}" for i in r.integers(0, 5000, rows)], object),
        "v50000": np.array([f"k{i}" for i in r.integers(0, 50_000, rows)], object),
        "flag": r.random(rows) < 0.3,
        "digit": r.integers(0, 10, rows).astype(float),
        "gaps": np.where(r.random(rows) < 0.2, np.nan, r.normal(size=rows)),
    }


REFERENCE = sketch(table(ROWS, 0))


def drifts(rows: int, seed: int = 1, **changed: np.ndarray) -> dict[tuple[str, str], Drift]:
    found = find_drift(REFERENCE, sketch({**table(rows, seed), **changed}))
    return {(drift.column, drift.kind): drift for drift in found}


@pytest.mark.parametrize("rows", [20, 100, 1000, 20_000])
def test_what_did_not_move_raises_no_alarm(rows: int) -> None:
    """At most one window in a hundred; of forty, three would be four standard deviations too many."""
    alarms = [seed for seed in range(40) if drifts(rows, seed + 100)]
    assert len(alarms) <= 2, alarms


def test_columns_of_many_rare_values_raise_no_alarm_though_their_distances_are_large() -> None:
    window = sketch(table(ROWS, 1))
    assert measure(REFERENCE.columns["v5000"], window.columns["v5000"])["psi"] > 0.05
    assert measure(REFERENCE.columns["v5000"], window.columns["v5000"])["jensen_shannon"] > 0.1
    assert not {name for name, _ in drifts(ROWS) if name in ("v5000", "v50000")}


def test_shares_of_five_values_that_moved_by_ten_points_are_found() -> None:
    r = np.random.default_rng(2)
    moved = np.array(list("abcde"), object)[r.choice(5, 2000, p=[0.3, 0.1, 0.2, 0.2, 0.2])]
    found = drifts(2000, five=moved)["five", "distribution"]
    assert (found.severity in ("medium", "high") and "'a' from" in found.detail) or "'b' from" in found.detail
    assert found.labels and abs(sum(found.before) - 1) < 1e-9 and abs(sum(found.now) - 1) < 1e-9


def test_a_shift_a_gap_and_new_values_are_found_and_told_apart() -> None:
    r, rows = np.random.default_rng(3), 3000
    base = table(rows, 5)
    found = drifts(
        rows, 5,
        normal=base["normal"] + 1.0,
        gaps=np.where(r.random(rows) < 0.5, np.nan, base["gaps"]),
        five=np.where(r.random(rows) < 0.1, "new", base["five"]),
        digit=base["digit"] * np.where(r.random(rows) < 0.1, 100.0, 1.0),
    )  # fmt: skip
    assert set(found) >= {("normal", "distribution"), ("gaps", "missing"), ("five", "new_values"), ("digit", "range")}
    assert found["normal", "distribution"].measures["wasserstein"] == pytest.approx(1.0, abs=0.1)
    assert "'new'" in found["five", "new_values"].detail and found["gaps", "missing"].effect > 0.3
    assert {name for name, _ in found} == {"normal", "gaps", "five", "digit"}


@pytest.mark.parametrize("factor", [1000.0, 0.01, 2.54, 1.609344])
def test_another_unit_is_called_one(factor: float) -> None:
    found = drifts(200, income=table(200, 7)["income"] / factor)
    if factor in (1000.0, 0.01):
        assert (
            f"multiplied by {factor:g}" in found["income", "unit"].detail and found["income", "unit"].severity == "high"
        )
        assert ("income", "distribution") not in found
    else:
        assert any(name == "income" for name, _ in found)


def test_a_unit_is_found_within_fifty_rows() -> None:
    assert ("income", "unit") in drifts(50, income=table(50, 8)["income"] * 1000)


def test_a_text_where_numbers_were_is_another_type() -> None:
    assert drifts(100, digit=np.array(["a"] * 100, object))["digit", "type"].severity == "high"


@pytest.mark.parametrize("rows", [1, 5])
def test_too_few_rows_say_nothing_of_a_distribution(rows: int) -> None:
    assert not [kind for _, kind in drifts(rows, normal=np.full(rows, 50.0)) if kind == "distribution"]


def test_an_empty_window_and_a_column_of_nulls_are_no_error() -> None:
    assert find_drift(REFERENCE, TableSketch(list(table(1, 0)))) == []
    found = drifts(500, gaps=np.full(500, np.nan))
    assert found["gaps", "missing"].severity == "high"


def test_sensitive_columns_are_judged_by_their_gaps_alone() -> None:
    def hidden(values: np.ndarray) -> TableSketch:
        made = TableSketch(["x"], sensitive=["x"])
        made.update_columns({"x": values})
        return made

    r = np.random.default_rng(4)
    values = r.normal(size=2000)
    found = find_drift(hidden(values), hidden(np.where(r.random(2000) < 0.5, np.nan, values + 100)))
    assert [drift.kind for drift in found] == ["missing"]


def test_holms_method_holds_the_chance_of_any_false_alarm() -> None:
    assert holm([0.001, 0.02, 0.04], 0.05) == [True, True, True]
    assert holm([0.03, 0.02, 0.9], 0.05) == [False, False, False]
    r = np.random.default_rng(0)
    assert sum(any(holm(r.random(50).tolist(), 0.05)) for _ in range(2000)) < 2000 * 0.065


def test_limits_decide_what_matters() -> None:
    moved = table(20_000, 9)["normal"] + 0.2
    assert ("normal", "distribution") not in drifts(20_000, 9, normal=moved)
    window = sketch({**table(20_000, 9), "normal": moved})
    found = find_drift(REFERENCE, window, Limits(effect=0.05))
    assert [drift.column for drift in found] == ["normal"] and found[0].severity == "low"
