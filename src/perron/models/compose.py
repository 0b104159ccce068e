"""Fitted pipelines, column transformers and unions of scikit-learn in, their steps' tables and answers out."""

from typing import Any

import numpy as np
import numpy.typing as npt
import spox.opset.ai.onnx.v21 as op
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

from perron.models.graph import Result, Table, predict, predictor, transform, transformer
from perron.models.ops import number
from perron.models.table import beside, from_matrix

__all__ = ["positions_of"]


def _is_nothing(step: object) -> bool:
    return step is None or (isinstance(step, str) and step == "passthrough")


@transformer(Pipeline)
def _pipeline_transform(pipeline: Any, table: Table) -> Table:
    for _, step in pipeline.steps:
        table = table if _is_nothing(step) else transform(step, table)
    return table


@predictor(Pipeline)
def _pipeline_predict(pipeline: Any, table: Table) -> Result:
    for _, step in pipeline.steps[:-1]:
        table = table if _is_nothing(step) else transform(step, table)
    return predict(pipeline.steps[-1][1], table)


@transformer(FeatureUnion)
def _feature_union(union: Any, table: Table) -> Table:
    weights = union.transformer_weights or {}
    parts = []
    for name, step in union.transformer_list:
        if isinstance(step, str) and step == "drop":
            continue
        part = table if _is_nothing(step) else transform(step, table)
        parts.append(_weighted(part, weights.get(name)))
    return beside(parts)


@transformer(ColumnTransformer)
def _column_transformer(step: Any, table: Table) -> Table:
    weights = step.transformer_weights or {}
    names = [str(name) for name in getattr(step, "feature_names_in_", ())]
    parts = []
    for name, inner, columns in step.transformers_:
        positions = positions_of(columns, names, table.width)
        if not positions or (isinstance(inner, str) and inner == "drop"):
            continue
        part = table.take(positions)
        part = part if _is_nothing(inner) else transform(inner, part)
        parts.append(_weighted(part, weights.get(name)))
    return beside(parts)


def _weighted(table: Table, weight: float | None) -> Table:
    return table if weight is None else from_matrix(op.mul(table.matrix, number(weight)), table.width)


def positions_of(columns: Any, names: list[str], width: int) -> list[int]:
    """Where a fitted column selection points: names, positions, slices of either, masks."""
    if isinstance(columns, slice):
        # A slice of names includes its end, as in pandas; a slice of positions does not.
        start, stop = columns.start, columns.stop
        start = names.index(start) if isinstance(start, str) else start
        stop = names.index(stop) + 1 if isinstance(stop, str) else stop
        return list(range(width))[start : stop : columns.step]
    if isinstance(columns, str):
        return [names.index(columns)]
    chosen: npt.NDArray[Any] = np.atleast_1d(np.asarray(columns))
    if chosen.dtype == bool:
        return np.flatnonzero(chosen).tolist()
    if all(isinstance(column, str) for column in chosen.tolist()):
        return [names.index(column) for column in chosen.tolist()]
    return [int(column) % width for column in chosen.tolist()]
