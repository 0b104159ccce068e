"""Fitted models of models of scikit-learn in (searches, votes, stacks, calibrations), their answers out."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import spox.opset.ai.onnx.v21 as op
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from spox import Var

from perron.models.graph import Result, Table, predict, predictor, refusal, register
from perron.models.ops import (
    as_number,
    from_probabilities,
    normalised,
    number,
    pick,
    sigmoid,
    softmax,
    squeeze,
    total,
    two_columns,
    unsqueeze,
)
from perron.models.preprocess import apply, inverse_power
from perron.models.table import beside, from_matrix


@predictor(GridSearchCV, RandomizedSearchCV)
def _search(est: Any, table: Table) -> Result:
    return predict(est.best_estimator_, table)


def _frozen(est: Any, table: Table) -> Result:
    return predict(est.estimator, table)


if find_spec("sklearn.frozen"):  # scikit-learn 1.6 and later
    register("predictor", import_module("sklearn.frozen").FrozenEstimator, _frozen)


@predictor(TransformedTargetRegressor)
def _transformed_target(est: Any, table: Table) -> Result:
    x = predict(est.regressor_, table).value
    if est.transformer is None:
        return Result(x if est.inverse_func is None else apply(est, est.inverse_func, x))
    inverse = est.transformer_
    kind = type(inverse)
    if kind is StandardScaler:
        x = op.mul(x, number(inverse.scale_[0])) if inverse.with_std else x
        return Result(op.add(x, number(inverse.mean_[0])) if inverse.with_mean else x)
    if kind is RobustScaler:
        x = op.mul(x, number(inverse.scale_[0])) if inverse.with_scaling else x
        return Result(op.add(x, number(inverse.center_[0])) if inverse.with_centering else x)
    if kind is MinMaxScaler and not inverse.clip:
        return Result(op.div(op.sub(x, number(inverse.min_[0])), number(inverse.scale_[0])))
    if kind is MaxAbsScaler:
        return Result(op.mul(x, number(inverse.scale_[0])))
    if kind is PowerTransformer:
        return Result(squeeze(inverse_power(inverse, unsqueeze(x))))
    if kind is FunctionTransformer:
        return Result(x if inverse.inverse_func is None else apply(est, inverse.inverse_func, x))
    raise refusal(est, f"transformer={kind.__name__}", "use StandardScaler, or func and inverse_func")


def _weighted_mean(parts: list[Var], weights: list[float] | None) -> Var:
    """The mean of values of one shape, as numpy.average."""
    shares = [1.0] * len(parts) if weights is None else [float(weight) for weight in weights]
    parts = parts if weights is None else [op.mul(x, number(share)) for x, share in zip(parts, shares, strict=True)]
    return op.div(parts[0] if len(parts) == 1 else op.sum(parts), number(sum(shares)))


@predictor(VotingRegressor)
def _voting_regressor(est: Any, table: Table) -> Result:
    return Result(_weighted_mean([predict(one, table).value for one in est.estimators_], est._weights_not_none))


@predictor(VotingClassifier)
def _voting_classifier(est: Any, table: Table) -> Result:
    results = [predict(one, table) for one in est.estimators_]
    if est.voting == "soft":
        shares = [result.probabilities for result in results]
        return from_probabilities(
            _weighted_mean([share for share in shares if share is not None], est._weights_not_none)
        )
    weights = est._weights_not_none or [1.0] * len(results)
    one_hot = number(np.eye(len(est.classes_)))
    votes = [op.mul(op.gather(one_hot, r.value, axis=0), number(w)) for r, w in zip(results, weights, strict=True)]
    return Result(from_probabilities(votes[0] if len(votes) == 1 else op.sum(votes)).value)


def _stacked(est: Any, table: Table) -> Table:
    """What the final estimator reads: each estimator's answer, then the columns themselves if passed through."""
    parts: list[Table] = []
    fitted = (one for one in est.estimators_)
    for method in est.stack_method_:
        if method is None:
            continue
        result = predict(next(fitted), table)
        parts.append(_answer_columns(est, result, method))
    return beside([*parts, table]) if est.passthrough else beside(parts)


def _answer_columns(est: Any, result: Result, method: str) -> Table:
    classes = len(est.classes_) if hasattr(est, "classes_") else 0
    if method == "predict_proba" and result.probabilities is not None:
        # For two classes the first column says nothing more, so scikit-learn drops it.
        return (
            from_matrix(result.probabilities, classes)
            if classes > 2
            else from_matrix(pick(result.probabilities, [1]), 1)
        )
    if method == "decision_function" and result.decision is not None:
        return from_matrix(result.decision, classes if classes > 2 else 1)
    value = result.value if classes == 0 else as_number(result.value)
    return from_matrix(unsqueeze(value), 1)


@predictor(StackingRegressor)
def _stacking_regressor(est: Any, table: Table) -> Result:
    return predict(est.final_estimator_, _stacked(est, table))


@predictor(StackingClassifier)
def _stacking_classifier(est: Any, table: Table) -> Result:
    return predict(est.final_estimator_, _stacked(est, table))


@predictor(CalibratedClassifierCV)
def _calibrated_classifier(est: Any, table: Table) -> Result:
    shares = [_calibrated(est, one, table) for one in est.calibrated_classifiers_]
    return from_probabilities(_weighted_mean(shares, None))


def _calibrated(est: Any, one: Any, table: Table) -> Var:
    """One fold's calibrated probabilities ``(N, k)``."""
    classes = len(est.classes_)
    result = predict(one.estimator, table)
    own = np.searchsorted(est.classes_, one.estimator.classes_)
    if len(own) < classes and len(own) <= 2:
        raise refusal(est, "a fold that saw two of its classes at most", "use a stratified cv or ensemble=False")
    scores = result.decision
    if scores is None and result.probabilities is not None:
        scores = result.probabilities if classes > 2 else pick(result.probabilities, [1])
    if scores is None:
        raise refusal(
            est, f"estimator={type(one.estimator).__name__}", "use one with predict_proba or decision_function"
        )
    if est.method == "temperature":
        return _scaled_by_temperature(one.calibrators[0], result, scores, classes)
    shares = [_calibrate(inner, pick(scores, [j])) for j, inner in enumerate(one.calibrators)]
    if classes == 2:
        return two_columns(op.min([shares[0], number(1.0)]))
    columns = [table.full([0.0])] * classes
    for position, share in zip(own, shares, strict=True):
        columns[position] = share
    return op.min([normalised(op.concat(columns, axis=1), classes), number(1.0)])


def _calibrate(calibrator: Any, score: Var) -> Var:
    if isinstance(calibrator, IsotonicRegression):
        return _interpolate(calibrator, score)
    return sigmoid(op.neg(op.add(op.mul(number(calibrator.a_), score), number(calibrator.b_))))


def _interpolate(fitted: IsotonicRegression, score: Var) -> Var:
    """``(N, 1)`` to ``(N, 1)``: the line between the thresholds on either side."""
    at, value = fitted.X_thresholds_, fitted.y_thresholds_
    if len(at) == 1:
        return op.add(op.mul(score, number(0.0)), number(value[0]))
    x = op.clip(score, number(fitted.X_min_), number(fitted.X_max_))
    below = total(as_number(op.greater_or_equal(x, number(at[1:-1]))))
    segment = op.cast(below, to=np.int64)
    slope = op.gather(number(np.diff(value) / np.diff(at)), segment)
    return op.add(op.mul(slope, op.sub(x, op.gather(number(at), segment))), op.gather(number(value), segment))


def _scaled_by_temperature(calibrator: Any, result: Result, scores: Var, classes: int) -> Var:
    if result.decision is not None:
        logits = scores if classes > 2 else op.concat([op.neg(scores), scores], axis=1)
    else:
        # scikit-learn tells probabilities by their look, and adds this before it takes the logarithm.
        shares = scores if classes > 2 else two_columns(scores)
        logits = op.log(op.add(shares, number(1e-12)))
    return softmax(op.mul(number(calibrator.beta_), logits))
