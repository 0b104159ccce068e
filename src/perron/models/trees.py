"""Fitted trees, forests and boosted trees of scikit-learn in, one TreeEnsemble node each out.

ONNX `TreeEnsemble` (ai.onnx.ml 5) has double splits and double leaves: a row exactly at a threshold
takes the branch that it takes in scikit-learn. Its sums run over the trees in order, as
scikit-learn's do, when onnxruntime uses one thread.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import spox.opset.ai.onnx.ml.v5 as ml
import spox.opset.ai.onnx.v21 as op
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor
from spox import Var

from perron.models.compose import positions_of
from perron.models.graph import Result, Table, predict, predictor, refusal, transform
from perron.models.ops import from_probabilities, number, sigmoid, softmax, squeeze, two_columns
from perron.models.table import beside, from_matrix

__all__ = ["Tree", "ensemble", "inverse_link", "leaf", "raw_columns"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LEQ, _MEMBER = 0, 6


@dataclass(frozen=True)
class Tree:
    """One tree over float64 features, root at node 0; every array has one entry for each node.

    A row goes to `left` where its feature is ≤ `threshold`, or in ``members[node]`` for the nodes
    listed there, or NaN at a node with `nan_left`; else to `right`. `left` is -1 at a leaf, which
    gives `value` to `target`.
    """

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    nan_left: npt.NDArray[np.bool_]
    value: Floats
    target: int = 0
    members: Mapping[int, Sequence[int]] = field(default_factory=dict)


def leaf(value: float, target: int = 0) -> Tree:
    """A tree of one leaf: a constant, added in its place among the trees."""
    one = np.zeros(1, np.int64)
    return Tree(one, np.zeros(1), one - 1, one - 1, np.zeros(1, bool), np.array([value], np.float64), target)


def ensemble(matrix: Var, trees: Sequence[Tree], targets: int = 1) -> Var:
    """The ``(N, targets)`` sums of the trees' leaves for the rows of an ``(N, d)`` float64 value.

    TreeEnsemble numbers inner nodes and leaves apart; both are laid out here in node order.
    """
    columns: dict[str, list[npt.NDArray[Any]]] = {
        name: []
        for name in ("feature", "split", "mode", "nan", "left", "right", "left_leaf", "right_leaf", "value", "target")
    }
    roots: list[int] = []
    members: list[float] = []
    nodes = leaves = 0
    for tree in trees:
        inner = tree.left >= 0
        if not inner[0]:
            # The standard's spelling of a tree without a split: one node, both branches to one leaf.
            tree_columns = _constant(tree, leaves)
        else:
            at_node = np.cumsum(inner) - 1 + nodes
            at_leaf = np.cumsum(~inner) - 1 + leaves
            left, right = tree.left[inner], tree.right[inner]
            mode = np.full(len(tree.left), _LEQ, np.uint8)
            mode[list(tree.members)] = _MEMBER
            for node in sorted(tree.members):
                members += [*map(float, tree.members[node]), np.nan]
            tree_columns = {
                "feature": tree.feature[inner],
                "split": tree.threshold[inner],
                "mode": mode[inner],
                "nan": tree.nan_left[inner],
                "left": np.where(inner[left], at_node[left], at_leaf[left]),
                "right": np.where(inner[right], at_node[right], at_leaf[right]),
                "left_leaf": ~inner[left],
                "right_leaf": ~inner[right],
                "value": tree.value[~inner],
                "target": np.full(int((~inner).sum()), tree.target),
            }
        roots.append(nodes)
        nodes += len(tree_columns["feature"])
        leaves += len(tree_columns["value"])
        for name, values in tree_columns.items():
            columns[name].append(values)
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    return ml.tree_ensemble(
        matrix,
        n_targets=targets,
        tree_roots=roots,
        nodes_featureids=whole["feature"].tolist(),
        nodes_splits=whole["split"].astype(np.float64),
        nodes_modes=whole["mode"].astype(np.uint8),
        nodes_missing_value_tracks_true=whole["nan"].astype(int).tolist(),
        nodes_truenodeids=whole["left"].tolist(),
        nodes_falsenodeids=whole["right"].tolist(),
        nodes_trueleafs=whole["left_leaf"].astype(int).tolist(),
        nodes_falseleafs=whole["right_leaf"].astype(int).tolist(),
        leaf_weights=whole["value"].astype(np.float64),
        leaf_targetids=whole["target"].tolist(),
        membership_values=np.array(members) if members else None,
    )


def _constant(tree: Tree, leaf_id: int) -> dict[str, npt.NDArray[Any]]:
    zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
    to_leaf = np.array([leaf_id])
    columns = {"feature": zero, "split": zero, "mode": zero, "nan": zero, "left": to_leaf, "right": to_leaf}
    return columns | {"left_leaf": one, "right_leaf": one, "value": tree.value[:1], "target": zero + tree.target}


def _single(table: Table) -> Var:
    """The matrix as scikit-learn's Cython trees see it: rounded to float32, compared with float64 thresholds."""
    return op.cast(op.cast(table.matrix, to=np.float32), to=np.float64)


def _tree(fitted: Any, values: Floats, target: int = 0) -> Tree:
    """A scikit-learn ``tree_`` with `values` at its nodes."""
    nan_left = fitted.missing_go_to_left.astype(bool)
    return Tree(fitted.feature, fitted.threshold, fitted.children_left, fitted.children_right, nan_left, values, target)


def _check_one_output(est: Any) -> None:
    if est.n_outputs_ != 1:
        raise refusal(est, f"{est.n_outputs_} outputs", "fit one model for each output")


@predictor(DecisionTreeRegressor, ExtraTreeRegressor)
def _tree_regressor(est: Any, table: Table) -> Result:
    _check_one_output(est)
    return Result(squeeze(ensemble(_single(table), [_tree(est.tree_, est.tree_.value[:, 0, 0])])))


@predictor(DecisionTreeClassifier, ExtraTreeClassifier)
def _tree_classifier(est: Any, table: Table) -> Result:
    _check_one_output(est)
    return from_probabilities(_votes([est], table))


def _votes(estimators: Sequence[Any], table: Table) -> Var:
    """Summed class fractions ``(N, k)``. A leaf has one target, hence a copy of each tree for each class."""
    classes = len(estimators[0].classes_)
    trees = [_tree(est.tree_, est.tree_.value[:, 0, k], k) for est in estimators for k in range(classes)]
    return ensemble(_single(table), trees, classes)


@predictor(RandomForestRegressor, ExtraTreesRegressor)
def _forest_regressor(est: Any, table: Table) -> Result:
    _check_one_output(est)
    trees = [_tree(one.tree_, one.tree_.value[:, 0, 0]) for one in est.estimators_]
    return Result(op.div(squeeze(ensemble(_single(table), trees)), number(len(trees))))


@predictor(RandomForestClassifier, ExtraTreesClassifier)
def _forest_classifier(est: Any, table: Table) -> Result:
    _check_one_output(est)
    return from_probabilities(op.div(_votes(est.estimators_, table), number(len(est.estimators_))))


def _boosted(est: Any, table: Table, start: Floats | None) -> Var:
    """Raw scores ``(N, k)``: the start, then each stage's trees times the learning rate."""
    targets = est.estimators_.shape[1]
    trees = [] if start is None else [leaf(float(value), k) for k, value in enumerate(start)]
    for stage in est.estimators_:
        for k, one in enumerate(stage):
            trees.append(_tree(one.tree_, est.learning_rate * one.tree_.value[:, 0, 0], k))
    return ensemble(_single(table), trees, targets)


def _constant_start(est: Any) -> Floats | None:
    """The raw score before the first stage, where it is the same for every row; else None."""
    if est.init_ != "zero" and not isinstance(est.init_, DummyRegressor | DummyClassifier):
        return None
    row = np.zeros((1, est.n_features_in_), np.float32)
    start: Floats = np.asarray(est._raw_predict_init(row), np.float64)[0]
    return start


@predictor(GradientBoostingRegressor)
def _gradient_boosting_regressor(est: Any, table: Table) -> Result:
    start = _constant_start(est)
    score = squeeze(_boosted(est, table, start))
    if start is None:
        inner = predict(est.init_, from_matrix(_single(table), table.width))
        score = op.add(inner.value, score)
    return Result(score)


@predictor(GradientBoostingClassifier)
def _gradient_boosting_classifier(est: Any, table: Table) -> Result:
    start = _constant_start(est)
    if start is None:
        raise refusal(est, f"init={type(est.init_).__name__}", "use init=None or init='zero'")
    raw = _boosted(est, table, start)
    probabilities = inverse_link(est, raw)
    if raw_columns(est) > 1:
        return Result(from_probabilities(raw).value, probabilities, raw)
    # Unlike other classifiers this one calls a score of exactly zero the second class.
    value = op.cast(op.greater_or_equal(squeeze(raw), number(0.0)), to=np.int64)
    return Result(value, probabilities, raw)


def raw_columns(est: Any) -> int:
    """How many raw scores a boosted classifier has: one for two classes."""
    return 1 if len(est.classes_) <= 2 else len(est.classes_)


def inverse_link(est: Any, raw: Var) -> Var:
    """Probabilities, or the regression's answer, from the ``(N, k)`` raw scores by the loss's link."""
    link = type(est._loss.link).__name__
    if link == "IdentityLink":
        return raw
    if link == "LogLink":
        return op.exp(raw)
    if link == "MultinomialLogit":
        return softmax(raw)
    if link == "LogitLink":
        return two_columns(sigmoid(raw))
    if link == "HalfLogitLink":
        return two_columns(sigmoid(op.mul(number(2.0), raw)))
    raise refusal(est, f"the link {link}", "use a built-in loss")


def _histogram_scores(est: Any, table: Table) -> Var:
    if est._preprocessor is not None:
        table = _categories_first(est._preprocessor, table)
    start = np.ravel(est._baseline_prediction)
    trees = [leaf(float(value), k) for k, value in enumerate(start)]
    trees += [_histogram_tree(one, k) for stage in est._predictors for k, one in enumerate(stage)]
    return ensemble(table.matrix, trees, len(start))


def _categories_first(preprocessor: Any, table: Table) -> Table:
    """The columns as the trees count them: ordinal codes of the categories, then the numbers."""
    names = [str(name) for name in getattr(preprocessor, "feature_names_in_", ())]
    parts = []
    for name, step, columns in preprocessor.transformers_:
        part = table.take(positions_of(columns, names, table.width))
        # The other step only checks that its columns are numbers.
        parts.append(transform(step, part) if name == "encoder" and part.width else part)
    return beside(parts)


def _histogram_tree(fitted: Any, target: int) -> Tree:
    nodes = fitted.nodes
    inner = nodes["is_leaf"] == 0
    members = {}
    for node in np.flatnonzero(inner & (nodes["is_categorical"] == 1)):
        bits = fitted.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        members[int(node)] = [c for c in range(256) if bits[c // 32] >> np.uint32(c % 32) & np.uint32(1)]
    return Tree(
        nodes["feature_idx"].astype(np.int64),
        np.where(inner, nodes["num_threshold"], 0.0),
        np.where(inner, nodes["left"].astype(np.int64), -1),
        np.where(inner, nodes["right"].astype(np.int64), -1),
        nodes["missing_go_to_left"].astype(bool),
        nodes["value"],
        target,
        members,
    )


@predictor(HistGradientBoostingRegressor)
def _histogram_regressor(est: Any, table: Table) -> Result:
    return Result(squeeze(inverse_link(est, _histogram_scores(est, table))))


@predictor(HistGradientBoostingClassifier)
def _histogram_classifier(est: Any, table: Table) -> Result:
    raw = _histogram_scores(est, table)
    return from_probabilities(inverse_link(est, raw), raw)
