"""A system's model function (or none) and training columns in; a fitted scikit-learn Pipeline out.

The default is LightGBM behind one-hot encoded categories, its number of trees found by early
stopping on a tenth of the training rows and then fitted on all of them.
"""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags

from perron.cleaning.columns import Vectors
from perron.errors import ModelError, nearest
from perron.metrics import Task

__all__ = ["fit_default", "fit_own", "frame_of"]

MOST_CATEGORIES = 64  # per column that get a column of their own; the rarer ones share one
MOST_TREES = 2_000
PATIENCE = 50  # rounds without a gain before early stopping stops
DEFAULTS = {
    "learning_rate": 0.06,
    "num_leaves": 31,
    "min_child_samples": 20,
    "subsample": 0.8,
    "subsample_freq": 1,
    "colsample_bytree": 0.8,
}


def frame_of(columns: dict[str, Any]) -> pd.DataFrame:
    """The columns as the frame that models are fitted on: float64, or objects of text."""
    parts: list[pd.DataFrame | pd.Series[Any]] = [
        pd.DataFrame(one.values, columns=list(one.names), copy=False)
        if isinstance(one, Vectors)
        else pd.Series(one, dtype=object if one.dtype == object else "float64", name=name)
        for name, one in columns.items()
    ]
    return pd.concat(parts, axis=1) if parts else pd.DataFrame()


def fit_default(
    frame: pd.DataFrame, target: Any, weight: Any, *, task: Task, params: dict[str, Any], seed: int
) -> Pipeline:
    """The default model, fitted. The last tenth of the rows in the frame's order decides when to stop if `params` doesn't.

    Raises:
        ModelError: LightGBM refuses the parameters or the data.
    """
    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    _check_params(kind, params)
    chosen = {"random_state": seed, "deterministic": True, "force_row_wise": True, "verbose": -1, **DEFAULTS, **params}
    prepare = _preparation(frame, impute=False, scale=False)
    try:
        matrix = prepare.fit_transform(frame)
        if not {"n_estimators", "num_iterations", "num_boost_round"}.intersection(chosen):
            chosen["n_estimators"] = _best_number_of_trees(kind, chosen, matrix, target, weight, seed)
        estimator = kind(**chosen).fit(matrix, target, sample_weight=weight)
    except (lightgbm.basic.LightGBMError, ValueError, TypeError) as error:
        raise ModelError(f"The default model can't be fitted: {str(error).splitlines()[0]}") from error
    return Pipeline([("prepare", prepare), ("model", estimator)])


def _check_params(kind: Any, params: dict[str, Any]) -> None:
    """LightGBM takes any keyword and is silent about one that it doesn't know."""
    known = set(kind().get_params())
    with contextlib.suppress(ImportError, AttributeError):
        from lightgbm.basic import _ConfigAliases

        known.update(*_ConfigAliases._get_all_param_aliases().values())
    for name in params:
        if name not in known:
            raise ModelError(f"LightGBM has no parameter {name!r}; {nearest(name, known)}")


def _best_number_of_trees(kind: Any, params: dict[str, Any], matrix: Any, target: Any, weight: Any, seed: int) -> int:
    rows = matrix.shape[0]
    if rows < 50:
        return 30
    order = np.random.default_rng(seed).permutation(rows)
    held, fitted = order[: rows // 10], order[rows // 10 :]
    if kind is lightgbm.LGBMClassifier:
        target = np.unique(target, return_inverse=True)[1]  # LightGBM's evaluation takes no text
        held = held[np.isin(target[held], np.unique(target[fitted]))]  # a class seen only there can't be scored
    probe = kind(**params, n_estimators=MOST_TREES)
    stop = lightgbm.early_stopping(PATIENCE, verbose=False)
    weights = None if weight is None else weight[fitted]
    scored = (matrix[held], target[held])
    # From LightGBM 4.7 on the pair goes in two arguments, and the old one warns.
    new = "eval_X" in inspect.signature(kind.fit).parameters
    evaluation = {"eval_X": scored[0], "eval_y": scored[1]} if new else {"eval_set": [scored]}
    probe.fit(matrix[fitted], target[fitted], sample_weight=weights, callbacks=[stop], **evaluation)
    return max(int(probe.best_iteration_ or 1), 10)


def fit_own(
    function: Callable[..., Any], frame: pd.DataFrame, target: Any, weight: Any, *, task: Task, params: dict[str, Any]
) -> Pipeline:
    """The user's model, fitted; with preprocessing in front unless it brings its own.

    Raises:
        ModelError: the function fails, gives something else than an estimator of the task, or its fit fails.
    """
    try:
        estimator = function(dict(params))
    except Exception as error:
        raise ModelError(f"The model function failed: {type(error).__name__}: {error}".splitlines()[0]) from error
    if not isinstance(estimator, BaseEstimator) or not hasattr(estimator, "fit"):
        raise ModelError(
            f"The model function gave {type(estimator).__name__}; it must give an unfitted scikit-learn or LightGBM estimator."
        )
    fits = is_regressor(estimator) if task == "regression" else is_classifier(estimator)
    if not fits:
        raise ModelError(
            f"The model function gave {type(estimator).__name__}, which isn't a {'regressor' if task == 'regression' else 'classifier'}; the target asks for {task}."
        )
    pipeline = (
        estimator
        if _prepares(estimator)
        else Pipeline([("prepare", _preparation_for(estimator, frame)), ("model", estimator)])
    )
    fit_params = {} if weight is None else {f"{pipeline.steps[-1][0]}__sample_weight": weight}
    try:
        return pipeline.fit(frame, target, **fit_params)
    except Exception as error:
        raise ModelError(
            f"Fitting {type(estimator).__name__} failed: {type(error).__name__}: {error}".splitlines()[0]
        ) from error


def _prepares(estimator: Any) -> bool:
    """Whether it is a Pipeline that chooses its own columns."""
    return isinstance(estimator, Pipeline) and isinstance(estimator.steps[0][1], ColumnTransformer)


def _preparation_for(estimator: Any, frame: pd.DataFrame) -> ColumnTransformer:
    last = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    is_tree = any(part in type(last).__module__ for part in ("tree", "forest", "_gb", "gradient_boosting", "lightgbm"))
    takes_nan = bool(get_tags(estimator).input_tags.allow_nan)
    return _preparation(frame, impute=not takes_nan, scale=not is_tree)


def _preparation(frame: pd.DataFrame, *, impute: bool, scale: bool) -> ColumnTransformer:
    texts = [name for name in frame if frame[name].dtype == object]
    # A column without any value in the train rows says nothing, and some estimators fail on it.
    numbers = [name for name in frame if name not in texts and frame[name].notna().any()]
    steps: list[Any] = [SimpleImputer(strategy="median", keep_empty_features=True)] if impute else []
    if scale:
        steps.append(StandardScaler())
    parts: list[Any] = []
    if numbers:
        parts.append(("numbers", make_pipeline(*steps) if steps else "passthrough", numbers))
    if texts:
        encoder = OneHotEncoder(
            handle_unknown="infrequent_if_exist", max_categories=MOST_CATEGORIES, sparse_output=False
        )
        parts.append(("categories", encoder, texts))
    return ColumnTransformer(parts)
