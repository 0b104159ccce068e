"""A System and its training rows in; a fitted model out."""

import importlib
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from perron import tensors
from perron.cleaning.columns import Cleaner, Vectors, fit
from perron.contract import Role, Schema
from perron.errors import DataError, ModelError
from perron.features import Features, columns, given_columns
from perron.history import Past
from perron.system import System

__all__ = ["Fitted", "frame_of", "load_fitted", "save_fitted", "target_of", "train", "weight_of"]


@dataclass(frozen=True)
class Fitted:
    """A fitted pipeline, and what its columns and classes are.

    `classes` are the labels in the order of the probabilities' columns; None in a regression.
    `cleaners` are the declared cleaning with its state, learnt from the train rows.
    """

    schema: Schema
    features: Features | None
    pipeline: Any
    classes: tuple[str | int | bool, ...] | None
    cleaners: tuple[Cleaner, ...] = ()
    pasts: tuple[Past, ...] = ()

    def raw(self, table: pa.Table) -> dict[str, Any]:
        """What the graph is fed for checked rows, to which `perron.history.table` has added their pasts."""
        return tensors.from_table(self.schema, table) | {p.name: np.asarray(table[p.name]) for p in self.pasts}

    def frame(self, table: pa.Table) -> Any:
        """The model's columns of the same rows, as the pipeline takes them."""
        return frame_of(
            columns(self.schema, self.raw(table), self.features, np, _as_text, cleaners=self.cleaners, pasts=self.pasts)
        )

    def predict(self, table: pa.Table) -> tuple[Any, Any | None]:
        """Values (n,) (labels in a classification) and probabilities (n, k) where the model has them."""
        frame = self.frame(table)
        values = self.pipeline.predict(frame)
        probabilities = (
            self.pipeline.predict_proba(frame)
            if self.classes is not None and hasattr(self.pipeline, "predict_proba")
            else None
        )
        return values, probabilities


def frame_of(made: dict[str, Any]) -> Any:
    """The columns as a data frame; checks that each has one value per row.

    Raises:
        DataError: a feature of the user's has another length.
    """
    lengths = {name: len(one.values if isinstance(one, Vectors) else one) for name, one in made.items()}
    if len(set(lengths.values())) > 1:
        odd = next(name for name, length in lengths.items() if length != next(iter(lengths.values())))
        raise DataError(f"The feature {odd!r} has {lengths[odd]} values for {next(iter(lengths.values()))} rows.")
    return importlib.import_module("perron.models.sklearn").frame_of(made)


def _as_text(numbers: Any) -> Any:
    return np.array([str(number) for number in numbers.tolist()], dtype=object)


def train(system: System, table: pa.Table) -> Fitted:
    """The system's cleaning and model, fitted on all rows of the table, to which the rows' pasts were added.

    Raises:
        DataError: the target has one class, a weight is negative, or a column has nothing that its cleaning needs.
        FeatureError: the features function fails.
        ModelError: the model can't be fitted.
    """
    target = target_of(system.schema, table)
    classes = None
    if system.task == "classification":
        classes = tuple(np.unique(target).tolist())
        if len(classes) < 2:
            raise DataError(f"Every train row has the class {classes[0]!r}; bring rows of another class.")
    models = importlib.import_module("perron.models.sklearn")
    cleaners: tuple[Cleaner, ...] = ()
    if system.cleaning:
        raw = tensors.from_table(system.schema, table)
        cleaners = fit(system.cleaning, given_columns(system.schema, raw, np))
    unfitted = Fitted(system.schema, system.features_function, None, classes, cleaners=cleaners, pasts=system.history)
    frame, weight = unfitted.frame(table), weight_of(system.schema, table)
    if not frame.notna().to_numpy().any():
        raise ModelError("Every value in the train rows is missing; look at the source and the features function.")
    if system.model_function is None:
        pipeline = models.fit_default(frame, target, weight, task=system.task, params=system.params, seed=system.seed)
    else:
        pipeline = models.fit_own(system.model_function, frame, target, weight, task=system.task, params=system.params)
    return replace(unfitted, pipeline=pipeline)


def target_of(schema: Schema, table: pa.Table) -> Any:
    """The target (n,): float64, bool, int64, or objects of text."""
    assert schema.target is not None
    column = table[schema.target.name]
    if schema.target.kind in ("float", "int"):
        return np.asarray(column, dtype=np.float64)
    values = np.asarray(column)
    return values.astype(object) if values.dtype.kind in "OUT" else values


def weight_of(schema: Schema, table: pa.Table) -> Any | None:
    """The rows' weights (n,), or None when the contract has no Weight.

    Raises:
        DataError: a weight is negative or missing.
    """
    field = schema.with_role(Role.WEIGHT)
    if field is None:
        return None
    weight = np.asarray(table[field.name].cast(pa.float64()).fill_null(np.nan))
    if not (weight >= 0).all():
        raise DataError(f"The weight {field.name} is negative or missing in some rows; weights must be ≥ 0.")
    return weight


def save_fitted(fitted: Fitted, path: Path) -> None:
    """Writes the fitted model for the pipeline's next steps. It is a pickle: read on this machine by training only, never served."""
    import cloudpickle

    path.write_bytes(cloudpickle.dumps(fitted))


def load_fitted(path: Path) -> Fitted:
    """The model that `save_fitted` wrote in this store."""
    with open(path, "rb") as file:
        fitted = pickle.load(file)
    assert isinstance(fitted, Fitted)
    return fitted
