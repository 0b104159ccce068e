"""Metrics: names, tasks, directions."""

import math
from dataclasses import replace

import pytest

from perron.contract import Field, Kind, Role, Schema
from perron.errors import DeclarationError
from perron.metrics import METRICS, metric, task_of

TARGET = Field(name="y", kind="float", column="y", roles=(Role.TARGET,))


@pytest.mark.parametrize(
    ("kind", "task"),
    [("float", "regression"), ("int", "regression"), ("bool", "classification"), ("category", "classification")],
)
def test_the_target_tells_the_task(kind: Kind, task: str) -> None:
    assert task_of(Schema("Rows", None, (replace(TARGET, kind=kind),))) == task


def test_without_a_target_there_is_no_task() -> None:
    with pytest.raises(DeclarationError, match="Rows has no target"):
        task_of(Schema("Rows", None, (replace(TARGET, roles=()),)))


def test_a_metric_is_found_by_name_and_an_unknown_one_is_refused_with_the_nearest() -> None:
    for name in METRICS:
        assert metric(name).name == name
    with pytest.raises(DeclarationError, match="no metric 'rsme'; did you mean 'rmse'"):
        metric("rsme")


@pytest.mark.parametrize("name", METRICS)
def test_worse_is_lower_or_higher_and_nan_is_worse_than_anything(name: str) -> None:
    found = metric(name)
    assert found.is_worse(1.0, 2.0) == found.higher_is_better
    assert found.is_worse(2.0, 1.0) != found.higher_is_better
    assert not found.is_worse(1.0, 1.0)
    assert found.is_worse(math.nan, 1.0)
    assert found.is_worse(math.nan, math.nan)


def test_every_task_has_metrics_of_both_directions() -> None:
    assert {(m.task, m.higher_is_better) for m in METRICS.values()} == {
        ("regression", False), ("regression", True), ("classification", False), ("classification", True),
    }  # fmt: skip
