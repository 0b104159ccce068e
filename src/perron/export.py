"""A fitted model in; one ONNX graph out: raw contract fields to features, preprocessing, estimator, value and probabilities."""

import importlib
from collections.abc import Mapping
from typing import Any

from perron.errors import FeatureError, ModelError
from perron.features import columns
from perron.tensors import raw_dtype
from perron.train import Fitted

__all__ = ["export_graph"]


def export_graph(fitted: Fitted) -> bytes:
    """The ONNX model of a fitted pipeline.

    Inputs: one per feature of the contract, (N,), of the type that `tensors.raw_dtype` names; and of a
    system with history one per declaration, (N,) float64.
    Outputs, in this order: `value` (N,) float64, or the label's own type in a classification; `probabilities`
    (N, k) float64 where the model has them, in the order of the classes.
    A field that has one of these names keeps it, and the output's gets an underscore.

    Raises:
        ModelError: the estimator, or an option of it, can't be exported.
        FeatureError: the features function uses something that can't be traced.
    """
    import ndonnx as ndx  # not at the top: half a second that only this step needs

    graph = importlib.import_module("perron.models.graph")
    texts: Any = importlib.import_module("perron.models.text")
    inputs = {
        field.name: ndx.argument(shape=("N",), dtype=_dtype(ndx, raw_dtype(field))) for field in fitted.schema.features
    }
    inputs |= {past.name: ndx.argument(shape=("N",), dtype=ndx.float64) for past in fitted.pasts}
    try:
        made = columns(
            fitted.schema,
            inputs,
            fitted.features,
            ndx,
            lambda codes: ndx.astype(codes, ndx.utf8),
            cleaners=fitted.cleaners,
            texts=texts,
            pasts=fitted.pasts,
        )
    except FeatureError as error:
        raise FeatureError(f"{error} (it runs in training, but can't be traced into the graph)") from error
    try:
        answer = graph.export(fitted.pipeline, made)
    except graph.UnsupportedModel as error:
        raise ModelError(f"The model can't be exported exactly: {error}") from error
    value = answer.value
    if fitted.classes is not None:
        value = ndx.take(ndx.asarray(_labels(fitted.classes)), value, axis=0)
    outputs = {_free("value", inputs): value}
    if answer.probabilities is not None:
        outputs[_free("probabilities", inputs)] = answer.probabilities
    model = ndx.build(inputs, outputs)
    model.producer_name = "perron"
    data: bytes = model.SerializeToString()
    return data


def _free(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken:
        name += "_"
    return name


def _dtype(ndx: Any, name: str) -> Any:
    return {"string": ndx.utf8, "float64": ndx.float64, "int64": ndx.int64, "bool": ndx.bool}[name]


def _labels(classes: tuple[Any, ...]) -> Any:
    import numpy as np

    return np.array(classes)
