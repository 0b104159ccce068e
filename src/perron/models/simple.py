"""Fitted baselines, naive Bayes and nearest neighbours of scikit-learn in, their answers out."""

from typing import Any

import numpy as np
import spox.opset.ai.onnx.v21 as op
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from spox import Var

from perron.models.graph import Result, Table, predictor, refusal
from perron.models.ops import argmax, as_number, integers, number, squeeze, total, unsqueeze

_NEIGHBOUR_ROWS = 50_000


@predictor(DummyRegressor)
def _dummy_regressor(est: Any, table: Table) -> Result:
    if est.n_outputs_ != 1:
        raise refusal(est, f"{est.n_outputs_} targets", "fit one model for each target")
    return Result(squeeze(table.full([float(np.ravel(est.constant_)[0])])))


@predictor(DummyClassifier)
def _dummy_classifier(est: Any, table: Table) -> Result:
    if est.n_outputs_ != 1:
        raise refusal(est, f"{est.n_outputs_} outputs", "fit one model for each output")
    classes = len(est.classes_)
    if est.strategy == "constant":
        chosen = int(np.flatnonzero(est.classes_ == np.ravel(est.constant)[0])[0])
    elif est.strategy in ("prior", "most_frequent"):
        chosen = int(np.argmax(est.class_prior_))
    else:
        raise refusal(est, f"strategy={est.strategy!r}", "use 'prior', 'most_frequent' or 'constant'")
    shares = est.class_prior_ if est.strategy == "prior" else np.eye(classes)[chosen]
    value = op.cast(squeeze(table.full([float(chosen)])), to=np.int64)
    return Result(value, table.full(shares.tolist()))


@predictor(GaussianNB)
def _gaussian_nb(est: Any, table: Table) -> Result:
    away = op.sub(unsqueeze(table.matrix), number(est.theta_))
    distance = total(op.div(op.mul(away, away), number(est.var_)), axis=2, keepdims=False)
    start = np.log(est.class_prior_) - 0.5 * np.sum(np.log(2.0 * np.pi * est.var_), axis=1)
    joint = op.sub(number(start), op.mul(number(0.5), distance))
    whole = op.reduce_log_sum_exp(joint, integers([1]), keepdims=1)
    return Result(argmax(joint), op.exp(op.sub(joint, whole)))


def _neighbours(est: Any, table: Table) -> tuple[Var, Var]:
    """The ``(N, k)`` positions of the nearest fitted rows, and their weights, NaN-free and not normalised."""
    rows = np.asarray(est._fit_X, np.float64)
    if len(rows) > _NEIGHBOUR_ROWS:
        raise refusal(est, f"{len(rows):,} training rows", f"fit on at most {_NEIGHBOUR_ROWS:,}, or use another model")
    if est.effective_metric_ != "euclidean":
        raise refusal(est, f"metric={est.effective_metric_!r}", "use the euclidean metric")
    if est.weights not in ("uniform", "distance", None):
        raise refusal(est, "a weight function", "use weights='uniform' or 'distance'")
    x = table.matrix
    # |x - r|² without |x|², which is the same for every r; centred, so that less cancels.
    centre = rows.mean(axis=0)
    shifted, centred = rows - centre, op.sub(x, number(centre))
    cross = op.matmul(centred, number(-2.0 * shifted.T))
    ranking = op.add(cross, number((shifted * shifted).sum(axis=1)))
    _, nearest = op.top_k(ranking, integers([est.n_neighbors]), axis=1, largest=0)
    if est.weights != "distance":
        return nearest, table.full([1.0] * est.n_neighbors)
    away = op.sub(unsqueeze(x), op.gather(number(rows), nearest, axis=0))
    distance = op.sqrt(total(op.mul(away, away), axis=2, keepdims=False))
    # A row that equals a fitted one counts those alone, as 1 / 0 would.
    same = as_number(op.equal(distance, number(0.0)))
    some = op.greater(total(same), number(0.0))
    return nearest, op.where(some, same, op.div(number(1.0), distance))


@predictor(KNeighborsRegressor)
def _neighbours_regressor(est: Any, table: Table) -> Result:
    """Among fitted rows at equal distances scikit-learn's choice depends on its search tree; here the first wins."""
    target = np.asarray(est._y, np.float64)
    if target.ndim > 1 and target.shape[1] > 1:
        raise refusal(est, f"{target.shape[1]} targets", "fit one model for each target")
    nearest, weights = _neighbours(est, table)
    weighted = total(op.mul(op.gather(number(target.ravel()), nearest), weights), keepdims=False)
    return Result(op.div(weighted, total(weights, keepdims=False)))


@predictor(KNeighborsClassifier)
def _neighbours_classifier(est: Any, table: Table) -> Result:
    if est.outputs_2d_:
        raise refusal(est, "several outputs", "fit one model for each output")
    nearest, weights = _neighbours(est, table)
    labels = op.gather(number(np.eye(len(est.classes_))[np.ravel(est._y)]), nearest, axis=0)
    votes = total(op.mul(labels, unsqueeze(weights, 2)), keepdims=False)
    return Result(argmax(votes), op.div(votes, total(votes)))
