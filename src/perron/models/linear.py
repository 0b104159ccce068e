"""Fitted linear models of scikit-learn in, one matrix product and a link out."""

from typing import Any

import numpy as np
import spox.opset.ai.onnx.v21 as op
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    GammaRegressor,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LassoLarsCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    OrthogonalMatchingPursuit,
    Perceptron,
    PoissonRegressor,
    QuantileRegressor,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
    TheilSenRegressor,
    TweedieRegressor,
)
from sklearn.svm import LinearSVC, LinearSVR
from spox import Var

from perron.models.graph import Result, Table, predictor, refusal
from perron.models.ops import from_decision, normalised, number, sigmoid, softmax, squeeze, two_columns


def _decision(est: Any, table: Table) -> Var:
    """Scores ``(N, k)``, ``(N, 1)`` for two classes or a regression.

    The weights stay a matrix where one column would do as a vector: onnxruntime (seen in 1.32) fuses
    a Transpose with the MatMul after it, and with a vector on the right that answers wrongly.
    """
    product = op.matmul(table.matrix, number(np.atleast_2d(est.coef_).T))
    return op.add(product, number(np.ravel(est.intercept_)))


@predictor(
    ARDRegression,
    BayesianRidge,
    ElasticNet,
    ElasticNetCV,
    HuberRegressor,
    Lars,
    LarsCV,
    Lasso,
    LassoCV,
    LassoLars,
    LassoLarsCV,
    LinearRegression,
    LinearSVR,
    OrthogonalMatchingPursuit,
    QuantileRegressor,
    Ridge,
    RidgeCV,
    SGDRegressor,
    TheilSenRegressor,
)
def _linear_regressor(est: Any, table: Table) -> Result:
    targets = len(np.atleast_2d(est.coef_))
    if targets != 1:
        raise refusal(est, f"{targets} targets", "fit one model for each target")
    return Result(squeeze(_decision(est, table)))


@predictor(GammaRegressor, PoissonRegressor, TweedieRegressor)
def _generalised_regressor(est: Any, table: Table) -> Result:
    raw = _linear_regressor(est, table).value
    link = type(est._base_loss.link).__name__
    if link not in ("IdentityLink", "LogLink"):
        raise refusal(est, f"the link {link}", "use link='log' or link='identity'")
    return Result(op.exp(raw) if link == "LogLink" else raw)


def _check_one_label(est: Any) -> int:
    if not isinstance(est.classes_, np.ndarray) or (len(est.classes_) > 2) != (len(np.atleast_2d(est.coef_)) > 1):
        raise refusal(est, "several labels for a row", "fit one model for each label")
    return len(est.classes_)


@predictor(LinearSVC, Perceptron, RidgeClassifier, RidgeClassifierCV)
def _linear_classifier(est: Any, table: Table) -> Result:
    return from_decision(_decision(est, table), _check_one_label(est))


@predictor(LogisticRegression, LogisticRegressionCV)
def _logistic_regression(est: Any, table: Table) -> Result:
    classes = _check_one_label(est)
    decision = _decision(est, table)
    # Releases before 1.8 chose between one model and one for each class; "deprecated" is their default.
    choice = getattr(est, "multi_class", "deprecated")
    if classes > 2:
        one_for_each = choice == "ovr" or (choice == "auto" and est.solver == "liblinear")
        probabilities = normalised(sigmoid(decision), classes) if one_for_each else softmax(decision)
    else:
        slope = 2.0 if choice == "multinomial" else 1.0
        probabilities = two_columns(sigmoid(op.mul(number(slope), decision) if slope != 1.0 else decision))
    return from_decision(decision, classes, probabilities)


@predictor(SGDClassifier)
def _sgd_classifier(est: Any, table: Table) -> Result:
    classes = _check_one_label(est)
    decision = _decision(est, table)
    if est.loss == "log_loss":
        shares = sigmoid(decision)
    elif est.loss == "modified_huber":
        clipped = op.clip(decision, number(-1.0), number(1.0))
        shares = op.div(op.add(clipped, number(1.0)), number(2.0))
    else:
        return from_decision(decision, classes)
    return from_decision(decision, classes, normalised(shares, classes) if classes > 2 else two_columns(shares))
