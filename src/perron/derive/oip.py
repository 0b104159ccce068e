"""A Schema in; the tensors of the Open Inference Protocol that carry its requests and answers out."""

from collections.abc import Sequence
from typing import Any

from perron.contract import Field, Schema
from perron.tensors import TensorFacts

__all__ = ["inputs", "outputs", "value_datatype"]


def inputs(schema: Schema) -> tuple[TensorFacts, ...]:
    """One input of shape (-1, 1) per field of a request, in the contract's order; dates travel as ISO 8601 text."""
    return tuple(TensorFacts(field.name, _datatype(field), (-1, 1)) for field in schema.request)


def outputs(classes: Sequence[Any] | None, has_probabilities: bool) -> tuple[TensorFacts, ...]:
    """`value`, and in a classification with probabilities `probabilities`, one column per class."""
    value = TensorFacts("value", value_datatype(classes[0] if classes else 0.0), (-1, 1))
    if not has_probabilities or classes is None:
        return (value,)
    return (value, TensorFacts("probabilities", "FP64", (-1, len(classes))))


def value_datatype(value: Any) -> str:
    """The datatype of a predicted value."""
    return {bool: "BOOL", int: "INT64", str: "BYTES"}.get(type(value), "FP64")


def _datatype(field: Field) -> str:
    if field.kind == "int" or field.is_numeric_category:
        return "INT64"
    return {"float": "FP64", "bool": "BOOL"}.get(field.kind, "BYTES")
