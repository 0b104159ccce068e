"""A fitted model and its rows in; what monitoring holds the live traffic to out: sketches, and estimators of performance.

The sketch has the features and the target of all rows, and the predictions of the test rows, which the
model never saw. So no row of the training data is needed in production.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from perron.contract import Role, Schema
from perron.estimate import fit_calibration
from perron.export import export_graph
from perron.sketch import TableSketch
from perron.train import Fitted, target_of
from perron.windows import columns_of, empty_sketch, sketch_target

__all__ = ["Reference", "make_reference", "sketch_features"]

CHUNK_ROWS = 65_536
FEWEST_ROWS = 200  # of the test rows, below which no estimator is fitted
LOSS_PARAMS = {"n_estimators": 100, "num_leaves": 15, "learning_rate": 0.05, "min_child_samples": 20}


@dataclass(frozen=True)
class Reference:
    """The sketch, the estimator's facts for the manifest, and the graph that tells the errors of rows (of numbers)."""

    sketch: TableSketch
    estimator: Mapping[str, Any]
    loss: bytes | None


def make_reference(fitted: Fitted, train_rows: pa.Table, test_rows: pa.Table, seed: int = 0) -> Reference:
    """The reference of a model; rows have their pasts.

    No estimator is fitted on fewer than 200 test rows, and none of errors where a feature is sensitive or looks
    back: the live windows hold neither.
    """
    schema = fitted.schema
    is_number = fitted.classes is None
    values, probabilities = fitted.predict(test_rows)
    confidence = None if probabilities is None else np.asarray(probabilities).max(axis=1)
    batches = (batch for rows in (train_rows, test_rows) for batch in rows.to_batches(CHUNK_ROWS))
    features = sketch_features(schema, (fitted.raw(pa.Table.from_batches([batch])) for batch in batches))
    answers = empty_sketch(schema, is_number=is_number, has_confidence=confidence is not None)
    answers.update_columns(
        columns_of(
            schema,
            fitted.raw(test_rows),
            np.asarray(values).tolist(),
            None if confidence is None else confidence.tolist(),
        )
    )
    truths = np.concatenate([target_of(schema, rows) for rows in (train_rows, test_rows)])
    for name, column in (answers.columns | sketch_target(schema, truths.tolist()).columns).items():
        features.columns.setdefault(name, column)
    if test_rows.num_rows < FEWEST_ROWS:
        return Reference(features, {}, None)
    truth = target_of(schema, test_rows)
    if not is_number:
        if confidence is None:
            return Reference(features, {}, None)
        right = np.asarray(values) == np.asarray(truth)
        return Reference(
            features, {"calibration": fit_calibration(confidence.tolist(), right.tolist()).to_json()}, None
        )
    if fitted.pasts or any(Role.SENSITIVE in f.roles for f in schema.features):
        return Reference(features, {}, None)
    loss, spread = _fit_loss(fitted, test_rows, np.abs(np.asarray(values, np.float64) - truth), seed)
    return Reference(features, {"loss": {"rows": test_rows.num_rows, "spread": spread}}, loss)


def sketch_features(schema: Schema, feeds: Iterable[Mapping[str, Any]]) -> TableSketch:
    """The sketch of the features alone, of what a graph would be fed, part by part."""
    whole = empty_sketch(schema, is_number=True, has_confidence=False)
    kinds = {name: column.kind for name, column in whole.columns.items()}
    hidden = [field.name for field in schema.features if Role.SENSITIVE in field.roles]
    made = TableSketch([field.name for field in schema.features], kinds=kinds, sensitive=hidden)
    for feed in feeds:
        columns = columns_of(schema, feed, [], None)
        made.update_columns({name: columns[name] for name in made.columns})
    return made


def _fit_loss(fitted: Fitted, rows: pa.Table, errors: Any, seed: int) -> tuple[bytes, float]:
    """The graph that tells a row's absolute error, and the standard deviation of what it tells wrongly (of rows held back)."""
    import importlib

    models = importlib.import_module("perron.models.sklearn")

    def fit(kept: Any) -> Fitted:
        part = rows.filter(pa.array(kept))
        pipeline = models.fit_default(
            fitted.frame(part), errors[kept], None, task="regression", params=LOSS_PARAMS, seed=seed
        )
        return replace(fitted, pipeline=pipeline, classes=None)

    halves = np.random.default_rng(seed).random(len(errors)) < 0.5
    told = np.empty(len(errors))
    for half in (halves, ~halves):
        told[~half] = fit(half).predict(rows.filter(pa.array(~half)))[0]
    everything = np.ones(len(errors), bool)
    return export_graph(fit(everything)), float(np.std(errors - told))
