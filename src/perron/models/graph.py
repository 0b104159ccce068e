"""A fitted scikit-learn model and the columns of a graph in; its answer, as graph values exact in float64, out.

Each class that can be exported has one function, registered by an adapter module of the library it
comes from; the adapter is imported when a model of that library is met. skl2onnx was rejected: its
double-precision graphs do not run in onnxruntime, and its float32 graphs cross tree thresholds.
"""

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import ndonnx as ndx
from spox import Var

from perron.cleaning.columns import Vectors
from perron.models.table import NULL_TEXT, Block, Table, UnsupportedModel

__all__ = [
    "NULL_TEXT",
    "Answer",
    "Columns",
    "Result",
    "Table",
    "UnsupportedModel",
    "export",
    "predict",
    "predictor",
    "refusal",
    "register",
    "transform",
    "transformer",
]

Columns = dict[str, ndx.Array | Vectors]
"""Name to ``(N,)`` array: float64, where null is NaN, or utf8, where null is `NULL_TEXT`; or to Vectors."""


@dataclass(frozen=True)
class Answer:
    """What an exported model returns.

    `value` is ``(N,)`` float64 for a regression, ``(N,)`` int64 for a classification: the position
    in ``estimator.classes_``. `probabilities` is ``(N, k)`` float64, None where the estimator has
    no ``predict_proba``.
    """

    value: ndx.Array
    probabilities: ndx.Array | None


@dataclass(frozen=True)
class Result:
    """What a predictor's function returns: `Answer` in graph values, and ``decision_function`` where there is one.

    `decision` is ``(N, k)``, ``(N, 1)`` for two classes.
    """

    value: Var
    probabilities: Var | None = None
    decision: Var | None = None


Transform = Callable[[Any, Table], Table]
Predict = Callable[[Any, Table], Result]
F = TypeVar("F")

_ADAPTERS = {
    "sklearn": ("preprocess", "encoders", "vectorizers", "compose", "trees", "linear", "neural", "simple", "meta"),
    "lightgbm": ("lightgbm",),
}
_TRANSFORMS: dict[type, Transform] = {}
_PREDICTS: dict[type, Predict] = {}


def export(model: object, columns: Columns) -> Answer:
    """The answer of a fitted estimator or pipeline for `columns`, which are those it was fitted on, in order.

    Equal to ``predict`` and ``predict_proba`` up to the last bits of float64, and no row crosses a
    tree threshold. Where an encoder would raise on an unknown category (``handle_unknown="error"``)
    the graph, which cannot raise, answers with all zeros (one-hot) or NaN (ordinal).

    Raises:
        UnsupportedModel: a class or an option cannot be exported; the message names it.
        ValueError: the columns are not those of the fit.
    """
    names = [name for key, one in columns.items() for name in (one.names if isinstance(one, Vectors) else (key,))]
    _check_names([str(name) for name in getattr(model, "feature_names_in_", names)], names)
    table = Table(tuple(_block(name, one) for name, one in columns.items()))
    result = predict(model, table)
    probabilities = None if result.probabilities is None else ndx.asarray(result.probabilities)
    return Answer(ndx.asarray(result.value), probabilities)


def _block(name: str, column: ndx.Array | Vectors) -> Block:
    if isinstance(column, Vectors):
        return Block(column.values.unwrap_spox(), len(column.names))
    if column.dtype not in (ndx.float64, ndx.utf8) or column.ndim != 1:
        raise ValueError(
            f"Expected a 1-D column of float64 or utf8, got {column.ndim}-D {column.dtype} at {name!r}; convert it first."
        )
    return Block(column.unwrap_spox(), 1, column.dtype == ndx.utf8, flat=True)


def _check_names(fitted: list[str], given: list[str]) -> None:
    # LightGBM keeps its columns' names with underscores for spaces.
    if [name.replace(" ", "_") for name in fitted] != [name.replace(" ", "_") for name in given]:
        raise ValueError(f"Expected the columns of the fit {fitted}, got {given}; pass them in this order.")


def register(kind: Literal["transformer", "predictor"], cls: type, function: Transform | Predict) -> None:
    """Makes models of exactly this class exportable, in the place of any function that it had.

    A subclass is not covered: it may override what the function relies on.
    """
    registry: dict[type, Any] = _TRANSFORMS if kind == "transformer" else _PREDICTS
    registry[cls] = function


def transformer(*classes: type) -> Callable[[Transform], Transform]:
    """Registers the decorated function ``(step, table) -> table`` for these classes."""

    def decorate(function: Transform) -> Transform:
        for cls in classes:
            register("transformer", cls, function)
        return function

    return decorate


def predictor(*classes: type) -> Callable[[Predict], Predict]:
    """Registers the decorated function ``(estimator, table) -> Result`` for these classes."""

    def decorate(function: Predict) -> Predict:
        for cls in classes:
            register("predictor", cls, function)
        return function

    return decorate


def transform(step: object, table: Table) -> Table:
    """`step.transform` as graph values.

    Raises: UnsupportedModel, naming the class and the nearest supported ones.
    """
    return _find(_TRANSFORMS, step, "transformer")(step, table)


def predict(estimator: object, table: Table) -> Result:
    """`estimator.predict`, and what else it answers, as graph values.

    Raises: UnsupportedModel, naming the class and the nearest supported ones.
    """
    return _find(_PREDICTS, estimator, "predictor")(estimator, table)


def refusal(model: object, option: str, instead: str) -> UnsupportedModel:
    """The error for an option of a supported class: raise it."""
    return UnsupportedModel(f"{type(model).__name__} with {option} cannot be exported; {instead}.")


def _load(model: object) -> None:
    library = type(model).__module__.partition(".")[0]
    for name in _ADAPTERS.get(library, ()):
        importlib.import_module(f"perron.models.{name}")


def _find(registry: dict[type, F], model: object, kind: str) -> F:
    _load(model)
    if type(model) in registry:
        return registry[type(model)]
    name = type(model).__name__
    if type(model).__module__.startswith("lightgbm") and name == "Booster":
        raise UnsupportedModel(
            "Expected a fitted estimator, got a raw lightgbm Booster; fit LGBMRegressor or LGBMClassifier."
        )
    known = sorted({cls.__name__ for cls in registry})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known[:3]
    raise UnsupportedModel(
        f"Expected a {kind} that can be exported, got {name}; the nearest supported: {', '.join(near)}."
    )
