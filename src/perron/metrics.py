"""The names of metrics: which task each belongs to and which way is better (their values: `perron.evaluate`)."""

from dataclasses import dataclass
from typing import Literal

from perron.contract import Schema
from perron.errors import DeclarationError, nearest

__all__ = ["METRICS", "Metric", "Task", "metric", "task_of"]

Task = Literal["regression", "classification"]


@dataclass(frozen=True)
class Metric:
    """A number about predictions: its name, its task and its direction."""

    name: str
    task: Task
    higher_is_better: bool

    def is_worse(self, value: float, than: float) -> bool:
        """Whether `value` is worse than `than`; a NaN is worse than anything."""
        if value != value:
            return True
        return value < than if self.higher_is_better else value > than


METRICS: dict[str, Metric] = {
    m.name: m
    for m in (
        Metric("rmse", "regression", False),
        Metric("mae", "regression", False),
        Metric("median_absolute_error", "regression", False),
        Metric("r2", "regression", True),
        Metric("accuracy", "classification", True),
        Metric("balanced_accuracy", "classification", True),
        Metric("precision", "classification", True),
        Metric("recall", "classification", True),
        Metric("f1", "classification", True),
        Metric("roc_auc", "classification", True),
        Metric("log_loss", "classification", False),
    )
}


def metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        DeclarationError: there is none; names the nearest.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise DeclarationError(f"There is no metric {name!r}; {nearest(name, METRICS)}") from None


def task_of(schema: Schema) -> Task:
    """What predicting the schema's target is.

    Raises:
        DeclarationError: the schema has no target.
    """
    if schema.target is None:
        raise DeclarationError(f"{schema.name} has no target, so there is nothing to train; mark a field as pn.Target.")
    return "regression" if schema.target.kind in ("float", "int") else "classification"
