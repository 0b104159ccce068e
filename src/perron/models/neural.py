"""Fitted multi-layer perceptrons of scikit-learn in, a matrix product and an activation for each layer out."""

from collections.abc import Callable
from typing import Any

import numpy as np
import spox.opset.ai.onnx.v21 as op
from sklearn.neural_network import MLPClassifier, MLPRegressor
from spox import Var

from perron.models.graph import Result, Table, predictor, refusal
from perron.models.ops import argmax, number, sigmoid, softmax, squeeze, two_columns

_ACTIVATIONS: dict[str, Callable[[Var], Var]] = {
    "identity": lambda x: x,
    "relu": op.relu,
    "tanh": op.tanh,
    "logistic": sigmoid,
    "softmax": softmax,
    "exp": op.exp,
}


def _forward(est: Any, table: Table) -> Var:
    x = table.matrix
    last = len(est.coefs_) - 1
    for i, (weights, bias) in enumerate(zip(est.coefs_, est.intercepts_, strict=True)):
        x = op.add(op.matmul(x, number(weights)), number(bias))
        x = _ACTIVATIONS[est.out_activation_ if i == last else est.activation](x)
    return x


@predictor(MLPRegressor)
def _mlp_regressor(est: Any, table: Table) -> Result:
    if est.n_outputs_ != 1:
        raise refusal(est, f"{est.n_outputs_} targets", "fit one model for each target")
    return Result(squeeze(_forward(est, table)))


@predictor(MLPClassifier)
def _mlp_classifier(est: Any, table: Table) -> Result:
    if est._label_binarizer.y_type_.startswith("multilabel"):
        raise refusal(est, "several labels for a row", "fit one model for each label")
    answer = _forward(est, table)
    if est.n_outputs_ > 1:
        return Result(argmax(answer), answer)
    # Not the larger of the two probabilities: 1 - p can round to p.
    value = op.cast(op.greater(squeeze(answer), number(0.5)), to=np.int64)
    return Result(value, two_columns(answer))
