"""A Schema in; the inputs of the bundle's graph out."""

from dataclasses import dataclass

from perron.contract import Schema
from perron.tensors import raw_dtype

__all__ = ["Input", "inputs"]

ONNX_TYPES = {"string": "tensor(string)", "float64": "tensor(double)", "int64": "tensor(int64)", "bool": "tensor(bool)"}


@dataclass(frozen=True)
class Input:
    """One input of a graph, of shape (N,): its name, NumPy's name of its type and ONNX's."""

    name: str
    dtype: str
    onnx_type: str


def inputs(schema: Schema) -> tuple[Input, ...]:
    """One input per feature of the contract, in its order."""
    return tuple(Input(field.name, raw_dtype(field), ONNX_TYPES[raw_dtype(field)]) for field in schema.features)
