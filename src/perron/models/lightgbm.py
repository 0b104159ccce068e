"""Fitted LightGBM estimators in, one TreeEnsemble node and the objective's last step out.

LightGBM compares float64 with float64, so nothing is rounded on the way. What a split does with NaN,
with values near zero and with categories is that of `Tree::Decision` in LightGBM's tree.h.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import spox.opset.ai.onnx.v21 as op
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from spox import Var

from perron.models.graph import Result, Table, predictor, refusal
from perron.models.ops import from_probabilities, number, pick, sigmoid, softmax, squeeze, two_columns
from perron.models.trees import Tree, ensemble

_ZERO = float(np.float32(1e-35))  # kZeroThreshold: LightGBM reads anything this near zero as zero

Node = dict[str, Any]
Key = tuple[int, str]
"""A feature as a split reads it: its position, and "plain", "zero" (near zero is missing) or "category"."""


@predictor(LGBMRegressor)
def _regressor(est: Any, table: Table) -> Result:
    raw, words = _raw_scores(est, table)
    score = squeeze(raw)
    name = words[0] if words else "custom"
    if "sqrt" in words:
        return Result(op.mul(op.sign(score), op.mul(score, score)))
    if name in ("poisson", "gamma", "tweedie"):
        return Result(op.exp(score))
    if name == "cross_entropy":
        return Result(sigmoid(score))
    if name in ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "custom"):
        return Result(score)
    raise refusal(est, f"objective {name!r}", "use a regression objective, e.g. 'regression' or 'poisson'")


@predictor(LGBMClassifier)
def _classifier(est: Any, table: Table) -> Result:
    raw, words = _raw_scores(est, table)
    name = words[0] if words else "a custom function"
    decision = raw if hasattr(est, "decision_function") else None  # LightGBM 4.7 and later
    slope = next((float(word.partition(":")[2]) for word in words if word.startswith("sigmoid:")), 1.0)
    if name == "binary":
        return from_probabilities(two_columns(sigmoid(op.mul(number(slope), raw))), decision)
    if name == "cross_entropy":
        return from_probabilities(two_columns(sigmoid(raw)), decision)
    if name == "multiclass":
        return from_probabilities(softmax(raw), decision)
    if name == "multiclassova":
        return from_probabilities(sigmoid(op.mul(number(slope), raw)), decision)
    raise refusal(est, f"objective {name!r}", "use 'binary', 'cross_entropy', 'multiclass' or 'multiclassova'")


@predictor(LGBMRanker)
def _ranker(est: Any, table: Table) -> Result:
    raise refusal(est, "a ranking objective", "use LGBMRegressor or LGBMClassifier")


def _raw_scores(est: Any, table: Table) -> tuple[Var, list[str]]:
    """Raw scores ``(N, k)`` and the words of the model's objective, e.g. ``["binary", "sigmoid:1"]``."""
    booster = est.booster_
    # Both read the best iteration where early stopping found one, as predict does.
    dump = booster.dump_model()
    if any(line == "is_linear=1" for line in booster.model_to_string().splitlines()):
        raise refusal(est, "linear_tree=True", "use linear_tree=False")
    if dump.get("pandas_categorical"):
        raise refusal(
            est, "pandas category columns", "encode them first with OrdinalEncoder and name categorical_feature"
        )
    if getattr(est, "pred_early_stop", False):
        raise refusal(est, "pred_early_stop=True", "leave it out")
    targets = int(dump["num_tree_per_iteration"])
    roots = [info["tree_structure"] for info in dump["tree_info"]]
    matrix, places = _features(table, {_key(node) for root in roots for node in _walk(root) if "split_index" in node})
    trees = [_tree(root, places, i % targets) for i, root in enumerate(roots)]
    raw = ensemble(matrix, trees, targets)
    if dump.get("average_output"):
        raw = op.div(raw, number(len(trees) // targets))
    return raw, str(dump.get("objective", "")).split()


def _walk(root: Node) -> Iterator[Node]:
    """The nodes, a parent before its children, the root first."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        if "split_index" in node:
            waiting += [node["right_child"], node["left_child"]]


def _key(node: Node) -> Key:
    feature = int(node["split_feature"])
    if node["decision_type"] == "==":
        return feature, "category"
    if node["missing_type"] == "Zero":
        return feature, "zero"
    return feature, "plain"


def _tree(root: Node, places: dict[Key, int], target: int) -> Tree:
    nodes = list(_walk(root))
    at = {id(node): i for i, node in enumerate(nodes)}
    tree = Tree(
        feature=np.zeros(len(nodes), np.int64),
        threshold=np.zeros(len(nodes)),
        left=np.full(len(nodes), -1),
        right=np.full(len(nodes), -1),
        nan_left=np.zeros(len(nodes), bool),
        value=np.zeros(len(nodes)),
        target=target,
        members={},
    )
    members = {}
    for i, node in enumerate(nodes):
        if "split_index" not in node:
            tree.value[i] = node["leaf_value"]
            continue
        key = _key(node)
        tree.feature[i] = places[key]
        tree.left[i], tree.right[i] = at[id(node["left_child"])], at[id(node["right_child"])]
        if key[1] == "category":
            members[i] = [int(category) for category in str(node["threshold"]).split("||")]
            continue
        tree.threshold[i] = _threshold(float(node["threshold"]))
        # With no missing type NaN is read as zero; with one it goes the default way.
        tree.nan_left[i] = node["threshold"] >= 0.0 if node["missing_type"] == "None" else node["default_left"]
    return replace(tree, members=members)


DUMPED_INFINITY = 1e300  # how a dump spells a threshold that is infinite in the model


def _threshold(dumped: float) -> float:
    """The threshold that parts raw values as `dumped` parts those in which anything near zero is zero."""
    if abs(dumped) >= DUMPED_INFINITY:
        return float(np.copysign(np.inf, dumped))
    if -_ZERO <= dumped < _ZERO:
        return float(np.nextafter(-_ZERO, -np.inf)) if dumped < 0.0 else _ZERO
    return dumped


def _features(table: Table, keys: set[Key]) -> tuple[Var, dict[Key, int]]:
    """The matrix that the splits read, and each key's column in it. Plain features alone need no node."""
    if all(kind == "plain" for _, kind in keys):
        return table.matrix, {key: key[0] for key in keys}
    readers: dict[str, Callable[[Var], Var]] = {
        "plain": lambda x: x,
        "zero": lambda x: op.where(op.less_or_equal(op.abs(x), number(_ZERO)), number(np.nan), x),
        "category": _category,
    }
    parts: list[Var] = []
    places: dict[Key, int] = {}
    for kind, read in readers.items():
        features = sorted(feature for feature, k in keys if k == kind)
        if features:
            parts.append(read(pick(table.matrix, features)))
            places |= {(feature, kind): len(places) + i for i, feature in enumerate(features)}
    return parts[0] if len(parts) == 1 else op.concat(parts, axis=1), places


def _category(x: Var) -> Var:
    """Cut towards zero, as ``static_cast<int>``; what no int32 holds becomes -1, a member of no set."""
    whole = op.where(op.less(x, number(0.0)), op.ceil(x), op.floor(x))
    known = op.and_(op.greater_or_equal(whole, number(0.0)), op.less(whole, number(2.0**31)))
    return op.where(known, whole, number(-1.0))
