"""True and predicted values in; metrics, with a naive baseline beside them, out."""

import math
from typing import Any

import numpy as np
from sklearn import metrics as sk

from perron.metrics import Task

__all__ = ["baseline", "evaluate"]


def evaluate(
    task: Task, truth: Any, values: Any, probabilities: Any | None = None, classes: Any = (), weight: Any = None
) -> dict[str, float]:
    """The task's metrics by name; one that can't be computed (one class in the test rows) is left out.

    Args:
        task: regression or classification.
        truth: (n,) what really is.
        values: (n,) what was predicted.
        probabilities: (n, k) in the order of `classes`, or None.
        classes: the k labels.
        weight: (n,) or None.
    """
    if task == "regression":
        found = {
            "rmse": math.sqrt(sk.mean_squared_error(truth, values, sample_weight=weight)),
            "mae": sk.mean_absolute_error(truth, values, sample_weight=weight),
            "median_absolute_error": sk.median_absolute_error(truth, values, sample_weight=weight),
            "r2": sk.r2_score(truth, values, sample_weight=weight) if len(truth) > 1 else math.nan,
        }
    else:
        found = _of_classes(truth, values, probabilities, list(classes), weight)
    return {name: float(value) for name, value in found.items() if math.isfinite(value)}


def _of_classes(
    truth: Any, values: Any, probabilities: Any | None, classes: list[Any], weight: Any
) -> dict[str, float]:
    truth, values = _coded(truth, classes), _coded(values, classes)
    average: dict[str, Any] = {"average": "macro", "zero_division": 0.0, "sample_weight": weight}
    if len(classes) == 2:
        average |= {"average": "binary", "pos_label": 1}
    present = np.unique(truth)
    right = (truth == values).astype(float)
    found = {
        "accuracy": sk.accuracy_score(truth, values, sample_weight=weight),
        "balanced_accuracy": float(
            np.mean(
                [np.average(right[truth == c], weights=None if weight is None else weight[truth == c]) for c in present]
            )
        ),
        "precision": sk.precision_score(truth, values, **average),
        "recall": sk.recall_score(truth, values, **average),
        "f1": sk.f1_score(truth, values, **average),
    }
    if probabilities is not None and (truth >= 0).all():
        found["log_loss"] = sk.log_loss(truth, probabilities, labels=range(len(classes)), sample_weight=weight)
        if len(present) == len(classes):
            scores = probabilities[:, 1] if len(classes) == 2 else probabilities
            found["roc_auc"] = sk.roc_auc_score(truth, scores, sample_weight=weight, multi_class="ovr")
    return found


def _coded(labels: Any, classes: list[Any]) -> Any:
    """Labels as positions in `classes`; -1 for one that isn't there (a class that no train row has)."""
    places = {label: place for place, label in enumerate(classes)}
    return np.array([places.get(label, -1) for label in np.asarray(labels).tolist()])


def baseline(
    task: Task, train: Any, truth: Any, classes: Any = (), weight: Any = None, train_weight: Any = None
) -> dict[str, float]:
    """The metrics of predicting the train rows' mean, or their most frequent class with the classes' shares."""
    if task == "regression":
        return evaluate(task, truth, np.full(len(truth), np.average(train, weights=train_weight)), weight=weight)
    shares = np.bincount(_coded(train, list(classes)), weights=train_weight, minlength=len(classes)).astype(float)
    shares /= shares.sum()
    guess = np.array([classes[int(shares.argmax())]] * len(truth), dtype=object)
    return evaluate(task, truth, guess, np.tile(shares, (len(truth), 1)), classes, weight)
