"""Rows exactly at, and one bit beside, every threshold take the branch that they take in the fitted tree."""

from typing import Any

import ndonnx as ndx
import numpy as np
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parity_exam import check_parity
from sklearn import ensemble, tree
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from perron.models.trees import Tree
from perron.models.trees import ensemble as as_graph

FEW: dict[str, Any] = {"n_estimators": 6, "random_state": 0}
HISTOGRAM: dict[str, Any] = {"max_iter": 6, "min_samples_leaf": 4}


def beside(pairs: list[tuple[int, float]], names: list[str]) -> pd.DataFrame:
    """For each (feature, threshold) rows at it, one float64 and one float32 below and above, others random."""
    rng = np.random.default_rng(0)
    rows = []
    for feature, threshold in pairs:
        single = np.float32(threshold)
        for x in (
            threshold,
            np.nextafter(threshold, np.inf),
            np.nextafter(threshold, -np.inf),
            float(single),
            float(np.nextafter(single, np.float32(np.inf))),
            float(np.nextafter(single, np.float32(-np.inf))),
        ):
            row = rng.choice([-1.0, 0.0, 0.5, 2.0, np.nan], len(names))
            row[feature] = x
            rows.append(row)
    return pd.DataFrame(rows, columns=names)


def awkward(rows: int) -> pd.DataFrame:
    """Values whose midpoints float32 cannot hold, near-equal values, nulls."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "tenths": rng.integers(-20, 20, rows) / 10,
            "near one": 1.0 + rng.integers(0, 40, rows) * 2.0**-24,
            "large": rng.integers(0, 50, rows) * 1e7 + 1 / 3,
        }
    )
    frame.loc[rng.random(rows) < 0.2, "tenths"] = np.nan
    return frame


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return awkward(150)


@pytest.fixture(scope="module")
def labels(frame: pd.DataFrame) -> Any:
    score = frame["tenths"].fillna(0.7) + (frame["near one"] - 1) * 1e6 + frame["large"] / 3e8
    return np.digitize(score + np.random.default_rng(3).normal(size=len(frame)), [1.0, 2.5])


def sklearn_thresholds(trees: list[Any]) -> list[tuple[int, float]]:
    pairs = {
        (int(f), float(t))
        for one in trees
        for f, t in zip(one.tree_.feature, one.tree_.threshold, strict=True)
        if f >= 0 and np.isfinite(t)  # infinite where all but nulls go left
    }
    return sorted(pairs)


@pytest.mark.parametrize(
    "model",
    [
        tree.DecisionTreeRegressor(random_state=0),
        tree.DecisionTreeClassifier(random_state=0),
        ensemble.RandomForestRegressor(**FEW),
        ensemble.RandomForestClassifier(**FEW),
        ensemble.RandomForestClassifier(max_depth=3, **FEW),
        ensemble.ExtraTreesClassifier(**FEW),
    ],
    ids=repr,
)
def test_rows_at_thresholds_of_trees(model: Any, frame: pd.DataFrame, labels: Any) -> None:
    model.fit(frame, labels)
    rows = beside(sklearn_thresholds(getattr(model, "estimators_", [model])), list(frame.columns))
    check_parity(model, rows, limit=1e-13)


@pytest.mark.parametrize(
    "model", [ensemble.GradientBoostingRegressor(**FEW), ensemble.GradientBoostingClassifier(**FEW)], ids=repr
)
def test_rows_at_thresholds_of_boosted_trees(model: Any, frame: pd.DataFrame, labels: Any) -> None:
    model.fit(frame.fillna(0.7), labels)
    rows = beside(sklearn_thresholds(list(model.estimators_.ravel())), list(frame.columns))
    check_parity(model, rows.fillna(3.0), limit=1e-13)


@pytest.mark.parametrize(
    "model",
    [ensemble.HistGradientBoostingRegressor(**HISTOGRAM), ensemble.HistGradientBoostingClassifier(**HISTOGRAM)],
    ids=repr,
)
def test_rows_at_thresholds_of_histogram_trees(model: Any, frame: pd.DataFrame, labels: Any) -> None:
    model.fit(frame, labels)
    nodes = np.concatenate([one.nodes for stage in model._predictors for one in stage])
    nodes = nodes[nodes["is_leaf"] == 0]
    pairs = {(int(n["feature_idx"]), float(n["num_threshold"])) for n in nodes if np.isfinite(n["num_threshold"])}
    rows = beside(sorted(pairs), list(frame.columns))
    rows.iloc[:6] = [[np.inf] * 3, [-np.inf] * 3, [np.nan] * 3, [1e300] * 3, [-1e300] * 3, [5e-324] * 3]
    check_parity(model, rows, limit=1e-13)


def test_native_categories_of_histogram_trees(train: pd.DataFrame, amount: Any, level: Any, test: pd.DataFrame) -> None:
    wide = pd.DataFrame({"code": np.arange(len(train)) % 70 / 1.0, "steps": train["steps"], "a b": train["a b"]})
    rows = pd.DataFrame({"code": [np.nan, -1.0, 0.0, 3.0, 3.5, 69.0, 70.0, 1e9], "steps": 2.0, "a b": 0.1})
    noise = (wide["code"] * 37 % 11) + amount
    model = ensemble.HistGradientBoostingRegressor(categorical_features=["code", "steps"], **HISTOGRAM)
    check_parity(model.fit(wide, noise), pd.concat([rows, wide], ignore_index=True))
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    select = make_column_transformer((codes, ["☂", "city"]), remainder="passthrough")
    boosted = ensemble.HistGradientBoostingClassifier(categorical_features=[0, 1], **HISTOGRAM)
    check_parity(make_pipeline(select, boosted).fit(train, level), test)


def test_constant_target_and_single_class(frame: pd.DataFrame) -> None:
    for model in (
        tree.DecisionTreeRegressor(),
        ensemble.RandomForestRegressor(**FEW),
        ensemble.HistGradientBoostingRegressor(max_iter=3),
    ):
        check_parity(model.fit(frame, np.full(len(frame), 2.5)), frame)
    for classifier in (tree.DecisionTreeClassifier(), ensemble.RandomForestClassifier(**FEW)):
        check_parity(classifier.fit(frame, ["only"] * len(frame)), frame)


def test_votes_that_tie_choose_the_first_class() -> None:
    frame = pd.DataFrame({"x": [0.0, 0.0, 1.0, 1.0] * 10})
    model = ensemble.RandomForestClassifier(10, max_depth=1, random_state=0).fit(frame, ["b", "a"] * 20)
    check_parity(model, frame)


DOUBLES = st.floats(width=64, allow_nan=True, allow_infinity=True)


@st.composite
def random_trees(draw: st.DrawFn) -> tuple[list[Tree], list[float]]:
    """A few trees of random shape over three features, and the thresholds in them."""
    trees, thresholds = [], []
    for _ in range(draw(st.integers(1, 3))):
        left, right, feature, split, nan_left, value = [-1], [-1], [0], [0.0], [False], [draw(st.integers(-9, 9))]
        for _ in range(draw(st.integers(0, 6))):
            node = draw(st.sampled_from([i for i, child in enumerate(left) if child < 0]))
            left[node], right[node] = len(left), len(left) + 1
            split[node] = draw(st.floats(width=64, allow_nan=False, allow_infinity=True))
            feature[node], nan_left[node] = draw(st.integers(0, 2)), draw(st.booleans())
            thresholds.append(split[node])
            for _ in range(2):
                for column, default in ((left, -1), (right, -1), (feature, 0), (split, 0.0), (nan_left, False)):
                    column.append(default)  # type: ignore[attr-defined]
                value.append(draw(st.integers(-9, 9)))
        arrays = np.array(feature), np.array(split), np.array(left), np.array(right), np.array(nan_left)
        trees.append(Tree(*arrays, np.array(value, np.float64)))
    return trees, thresholds


def walk(one: Tree, row: Any) -> float:
    """The leaf of a row, by the definition in `Tree`."""
    node = 0
    while one.left[node] >= 0:
        x = row[one.feature[node]]
        goes_left = one.nan_left[node] if np.isnan(x) else x <= one.threshold[node]
        node = one.left[node] if goes_left else one.right[node]
    return float(one.value[node])


@settings(deadline=None, max_examples=60, database=None)
@given(random_trees(), st.lists(st.tuples(DOUBLES, DOUBLES, DOUBLES), min_size=1, max_size=8))
def test_any_tree_answers_any_doubles(trees: tuple[list[Tree], list[float]], rows: list[tuple[float, ...]]) -> None:
    with np.errstate(over="ignore"):
        matrix = np.array([*rows, *([t] * 3 for t in trees[1]), *([np.nextafter(t, np.inf)] * 3 for t in trees[1])])
    x = ndx.argument(shape=("N", 3), dtype=ndx.float64)
    built = ndx.build({"x": x}, {"y": ndx.asarray(as_graph(x.unwrap_spox(), trees[0]))})
    session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": matrix})[0].ravel()
    # The leaves are whole numbers, so that their sum has no rounding.
    assert found.tolist() == [sum(walk(one, row) for one in trees[0]) for row in matrix]
