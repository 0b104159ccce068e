"""Models on cleaned columns and vectors of words: the parity exam from the contract's raw fields to the answer."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from parity_exam import close
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeRegressor

from perron import cleaning
from perron.cleaning import Cleaning
from perron.cleaning.columns import fit
from perron.contract import Field, Schema
from perron.export import export_graph
from perron.features import columns, given_columns
from perron.metrics import Task
from perron.models.sklearn import fit_default, fit_own
from perron.tensors import NULL_TEXT
from perron.train import Fitted, frame_of

FIELD = Field(name="title", column="title", kind="text", optional=True)
SCHEMA = Schema(
    "Rows",
    None,
    (
        FIELD,
        Field(name="city", column="city", kind="text"),
        Field(name="size", column="size", kind="float", optional=True),
        Field(name="at", column="at", kind="datetime"),
    ),
)
CLEANING: tuple[Cleaning, ...] = (
    cleaning.impute("size", "mean", indicator=True),
    cleaning.clip("size", low=0.05, high=0.95),
    cleaning.group_rare("city", most=2),
    cleaning.date_parts("at", ("month", "weekday", "hour"), cyclic=True),
    cleaning.tf_idf("title", most=60, longest=2),
    cleaning.text_hash("title", columns=32),
)
WORDS = ["Good", "good", "bad", "not", "Größe", "ok,", "FINE!", "poor", "slow", "fast", "x", "y", "z"]


def rows(count: int, seed: int, words: list[str] = WORDS) -> dict[str, Any]:
    chance = np.random.default_rng(seed)
    titles = [" ".join(chance.choice(words, chance.integers(0, 12))) for _ in range(count)]
    size = chance.gamma(2.0, 3.0, count)
    size[chance.random(count) < 0.2] = np.nan
    return {
        "title": np.array([NULL_TEXT if i % 17 == 0 else title for i, title in enumerate(titles)], object),
        "city": np.array(chance.choice(["Köln", "Rome", "Oslo", "tiny"], count, p=[0.5, 0.3, 0.15, 0.05]), object),
        "size": size,
        "at": chance.uniform(0, 1.7e9, count).round(),
    }


def frame(raw: dict[str, Any], cleaners: Any) -> Any:
    return frame_of(columns(SCHEMA, raw, None, np, lambda codes: codes, cleaners))


def exam(task: Task, model: Any) -> None:
    """The fitted pipeline's answers to rows with words and cities that no train row has, the graph's equal to 1e-9."""
    train, test = rows(300, 0), rows(300, 1, [*WORDS, "unseen", "ß", "a\nb"])
    cleaners = fit(CLEANING, given_columns(SCHEMA, train, np))
    seen = frame(train, cleaners)
    score = np.array([title.lower().count("good") - title.count("bad") for title in train["title"]])
    target = (
        np.where(score > 0, "up", "down").astype(object) if task == "classification" else score + 0.01 * seen["size"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fit that stopped early
        pipeline = (
            fit_own(lambda params: model(), seen, target, None, task=task, params={})
            if model
            else fit_default(seen, target, None, task=task, params={}, seed=0)
        )
    fitted = Fitted(SCHEMA, None, pipeline, ("down", "up") if task == "classification" else None, cleaners)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(export_graph(fitted), options, providers=["CPUExecutionProvider"])
    found = session.run(None, test)
    asked = frame(test, cleaners)
    if task == "classification":
        assert found[0].tolist() == pipeline.predict(asked).tolist()
        assert set(found[0]) == {"down", "up"}
        close(found[1], pipeline.predict_proba(asked), 1e-9)
    else:
        close(found[0], pipeline.predict(asked), 1e-9)
    for count in (0, 1):
        few = session.run(None, {name: array[:count] for name, array in test.items()})
        assert [array.shape for array in few] == [(count, *array.shape[1:]) for array in found]


@pytest.mark.parametrize(
    "model",
    [
        None,
        partial(LogisticRegression, max_iter=500),
        partial(ExtraTreesClassifier, 20, random_state=0),
        HistGradientBoostingClassifier,
        partial(LGBMClassifier, n_estimators=30, verbose=-1),
        partial(MLPClassifier, (8,), max_iter=20, random_state=0),
    ],
)
def test_a_classifier_of_texts_is_served_exactly(model: Any) -> None:
    exam("classification", model)


@pytest.mark.parametrize(
    "model",
    [
        None,
        Ridge,
        partial(DecisionTreeRegressor, random_state=0),
        partial(RandomForestRegressor, 20, random_state=0),
        partial(LGBMRegressor, n_estimators=30, verbose=-1),
    ],
)
def test_a_regressor_of_texts_is_served_exactly(model: Any) -> None:
    exam("regression", model)


def test_vectors_stay_one_block_in_the_graph() -> None:
    """A node for each of a thousand columns would cost a row milliseconds."""
    import onnx

    train = rows(300, 0)
    cleaners = fit(CLEANING, given_columns(SCHEMA, train, np))
    seen = frame(train, cleaners)
    pipeline = fit_own(lambda params: Ridge(), seen, seen["size"], None, task="regression", params={})
    graph = onnx.load_from_string(export_graph(Fitted(SCHEMA, None, pipeline, None, cleaners))).graph
    assert len(seen.columns) > 90
    assert len(graph.node) < 250
