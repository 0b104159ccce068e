"""LightGBM's objectives, missing values and categories: its graph answers as it does, at every threshold."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor, early_stopping
from parity_exam import TEXTS, check_parity, columns_of, make_frame
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from perron.models.graph import UnsupportedModel, export

QUIET: dict[str, Any] = {
    "verbose": -1,
    "min_child_samples": 4,
    "n_jobs": 1,
    "n_estimators": 8,
    "num_leaves": 7,
    "random_state": 0,
}
NAMES = ["steady", "with nulls", "around zero"]


def make_numbers(rows: int, seed: int) -> pd.DataFrame:
    """One column without nulls, one with, one where most is zero."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=NAMES)
    frame.loc[rng.random(rows) < 0.3, "with nulls"] = np.nan
    frame.loc[rng.random(rows) < 0.5, "around zero"] = 0.0
    return frame


def thresholds(model: Any) -> list[tuple[int, float]]:
    """Each numeric split's feature and threshold."""
    found = set()
    waiting = [info["tree_structure"] for info in model.booster_.dump_model()["tree_info"]]
    while waiting:
        node = waiting.pop()
        if "split_index" in node:
            if node["decision_type"] == "<=":
                found.add((node["split_feature"], node["threshold"]))
            waiting += [node["left_child"], node["right_child"]]
    return sorted(found)


def hard_rows(model: Any, names: list[str]) -> pd.DataFrame:
    """Rows at and beside every threshold; around the smallest number that is not zero; nulls and infinities."""
    rng = np.random.default_rng(5)
    rows = []
    tiny = float(np.float32(1e-35))
    special = [0.0, -0.0, tiny, -tiny, np.nextafter(tiny, 1), np.nextafter(tiny, 0), -np.nextafter(tiny, 1), 5e-324]
    special += [np.nan, np.inf, -np.inf, 1e300, 1e301, -1e301]
    for feature, threshold in thresholds(model):
        for x in (threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)):
            row = rng.choice([-0.7, 0.0, 0.3, np.nan], len(names))
            row[feature] = x
            rows.append(row)
    for x in special:
        for feature in range(len(names)):
            row = rng.choice([-0.7, 0.0, 0.3, np.nan], len(names))
            row[feature] = x
            rows.append(row)
    return pd.DataFrame(rows, columns=names)


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    return make_numbers(200, 0)


@pytest.fixture(scope="module")
def target(numbers: pd.DataFrame) -> Any:
    noise = np.random.default_rng(1).gamma(2.0, 0.4, len(numbers))
    return (
        np.exp(numbers["steady"] / 2) + numbers["with nulls"].fillna(1.3).abs() + (numbers["around zero"] == 0) + noise
    )


REGRESSIONS: dict[str, dict[str, Any]] = {
    "regression": {},
    "l1": {"objective": "l1"},
    "huber": {"objective": "huber"},
    "fair": {"objective": "fair"},
    "quantile": {"objective": "quantile", "alpha": 0.8},
    "mape": {"objective": "mape"},
    "poisson": {"objective": "poisson"},
    "gamma": {"objective": "gamma"},
    "tweedie": {"objective": "tweedie"},
    "square root": {"reg_sqrt": True},
    "forest": {"boosting_type": "rf", "subsample": 0.7, "subsample_freq": 1},
    "dart": {"boosting_type": "dart"},
    "zero is missing": {"zero_as_missing": True},
    "no missing": {"use_missing": False},
    "extra": {"extra_trees": True},
    "monotone": {"monotone_constraints": [1, 0, 0]},
    "one leaf": {"min_child_samples": 10_000},
}


@pytest.mark.parametrize("name", REGRESSIONS)
def test_regression_is_exact(name: str, numbers: pd.DataFrame, target: Any) -> None:
    model = LGBMRegressor(**QUIET | REGRESSIONS[name]).fit(numbers, target)
    check_parity(model, hard_rows(model, NAMES), limit=1e-12)


def test_nulls_that_the_fit_never_saw_are_zero(numbers: pd.DataFrame, target: Any) -> None:
    model = LGBMRegressor(**QUIET).fit(numbers.fillna(0.4), target)
    check_parity(model, hard_rows(model, NAMES), limit=1e-12)


def test_cross_entropy_is_exact(numbers: pd.DataFrame, target: Any) -> None:
    share = (target / target.max()).to_numpy()
    model = LGBMRegressor(objective="cross_entropy", **QUIET).fit(numbers, share)
    check_parity(model, hard_rows(model, NAMES), limit=1e-12)


CLASSIFICATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "sigmoid": {"sigmoid": 1.7},
    "one against all": {"objective": "multiclassova", "num_class": 3},
    "forest": {"boosting_type": "rf", "subsample": 0.7, "subsample_freq": 1},
    "zero is missing": {"zero_as_missing": True},
    "one leaf": {"min_child_samples": 10_000},
}


@pytest.mark.parametrize(
    ("name", "classes"), [(name, k) for name in CLASSIFICATIONS for k in (2, 3) if k > 2 or name != "one against all"]
)
def test_classification_is_exact(name: str, classes: int, numbers: pd.DataFrame, target: Any) -> None:
    words = np.array(["b", "a", "ü"], dtype=object)
    labels = words[np.digitize(target, np.quantile(target, [0.4, 0.7][: classes - 1]))]
    model = LGBMClassifier(**QUIET | CLASSIFICATIONS[name]).fit(numbers, labels)
    check_parity(model, hard_rows(model, NAMES), limit=1e-12)


def test_best_iteration_of_early_stopping_is_used(numbers: pd.DataFrame, target: Any) -> None:
    model = LGBMRegressor(**QUIET | {"n_estimators": 200, "learning_rate": 0.5})
    model.fit(
        numbers[:100],
        target[:100],
        eval_X=numbers[100:],
        eval_y=target[100:],
        callbacks=[early_stopping(3, verbose=False)],
    )
    assert 0 < model.best_iteration_ < 200
    check_parity(model, hard_rows(model, NAMES), limit=1e-12)


@pytest.mark.parametrize("codes", [5, 40, 150])
@pytest.mark.parametrize("zero_as_missing", [False, True])
def test_category_splits_are_exact(codes: int, zero_as_missing: bool, numbers: pd.DataFrame, target: Any) -> None:
    rng = np.random.default_rng(codes)
    frame = numbers.assign(code=rng.integers(0, codes, len(numbers)) / 1.0)
    params = {"cat_smooth": 1.0, "min_data_per_group": 1, "max_cat_to_onehot": 2, "zero_as_missing": zero_as_missing}
    model = LGBMRegressor(**QUIET | params | {"n_estimators": 20})
    model.fit(frame, target + frame["code"] * 7 % 11, categorical_feature=["code"])
    odd = [np.nan, -1.0, -0.5, -0.0, 0.5, 1.5, 3.999, codes - 0.5, codes + 1.0, 31.0, 32.0, 63.0, 64.0]
    odd += [2.0**31 - 1, 2.0**31, 2.0**32 + 1, 1e300, np.inf, -np.inf, 1e-36]
    rows = pd.DataFrame({name: rng.choice([-0.7, 0.0, 0.3, np.nan], len(odd)) for name in NAMES} | {"code": odd})
    rows = pd.concat([rows, frame, hard_rows(model, [*NAMES, "code"])], ignore_index=True)
    dumped = str(model.booster_.dump_model())
    assert "'=='" in dumped and "||" in dumped
    check_parity(model, rows, limit=1e-12)


def test_categories_from_text_are_exact(train: pd.DataFrame, level: Any, test: pd.DataFrame) -> None:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    before = make_column_transformer((codes, TEXTS), remainder="passthrough")
    params = {"cat_smooth": 1.0, "min_data_per_group": 1, "max_cat_to_onehot": 1}
    model = make_pipeline(before, LGBMClassifier(**QUIET | params))
    check_parity(model.fit(train, level, lgbmclassifier__categorical_feature=[0, 1]), test, limit=1e-12)


def test_what_cannot_be_exported_is_refused_by_name(numbers: pd.DataFrame, target: Any) -> None:
    columns = columns_of(numbers)
    linear = LGBMRegressor(linear_tree=True, **QUIET).fit(numbers, target)
    with pytest.raises(UnsupportedModel, match="LGBMRegressor with linear_tree=True"):
        export(linear, columns)
    with pytest.raises(UnsupportedModel, match="raw lightgbm Booster; fit LGBMRegressor or LGBMClassifier"):
        export(linear.booster_, columns)
    ranker = LGBMRanker(**QUIET).fit(numbers, np.digitize(target, [1.5, 3.0]), group=[100, 100])
    with pytest.raises(UnsupportedModel, match="LGBMRanker with a ranking objective"):
        export(ranker, columns)
    frame = make_frame(200, 4)[["a b"]].assign(kind=pd.Categorical(list("ab") * 100))
    categories = LGBMRegressor(**QUIET).fit(frame, target)
    with pytest.raises(UnsupportedModel, match="pandas category columns"):
        export(categories, columns_of(frame.assign(kind=1.0)).copy())
