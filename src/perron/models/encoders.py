"""Fitted category encoders of scikit-learn in, tables of the graph out.

An encoder is a lookup: what it makes of a category does not depend on the rest of the row. So each
known category, and one unknown, is passed through the fitted encoder here, once, and the rows that
come out become a table in the graph. Options such as ``drop``, ``min_frequency`` or
``encoded_missing_value`` need no code of their own.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import spox.opset.ai.onnx.ml.v5 as ml
import spox.opset.ai.onnx.v21 as op
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, TargetEncoder
from spox import Var

from perron.models.graph import Table, refusal, transformer
from perron.models.ops import number
from perron.models.table import Block, beside

Floats = npt.NDArray[np.float64]


@transformer(OneHotEncoder, OrdinalEncoder, TargetEncoder)
def _encoder(step: Any, table: Table) -> Table:
    """With ``handle_unknown="error"`` an unknown category is all zeros (one-hot) or NaN (ordinal):
    the graph cannot raise, and requests are checked before they reach it.
    """
    parts: list[Table] = []
    for j, rows in enumerate(_lookups(step, table)):
        if rows.shape[1] == 0:
            continue
        keys = _keys(step, j, table.is_text[j])
        parts.append(Table((_look_up(table.column(j), keys, rows),)))
    return beside(parts)


def _look_up(column: Var, keys: npt.NDArray[Any], rows: Floats) -> Block:
    """Row i of `rows` for ``keys[i]``, the last row for anything else."""
    if rows.shape[1] == 1:
        values = ml.label_encoder(column, keys_tensor=keys, values_tensor=rows[:-1, 0], default_tensor=rows[-1:, 0])
        return Block(values, 1, flat=True)
    code = ml.label_encoder(
        column,
        keys_tensor=keys,
        values_tensor=np.arange(len(keys), dtype=np.int64),
        default_tensor=np.array([len(keys)], np.int64),
    )
    return Block(op.gather(number(rows), code, axis=0), rows.shape[1])


def _keys(step: Any, j: int, text: bool) -> npt.NDArray[Any]:
    categories = step.categories_[j].tolist()
    if not text:
        return np.array([np.nan if category is None else float(category) for category in categories])
    if all(isinstance(category, str) for category in categories):
        return np.array(categories, dtype=np.str_)
    strange = next(category for category in categories if not isinstance(category, str))
    raise refusal(
        step, f"the category {strange!r} in a text column", "fit on text alone, with null as a text of its own"
    )


def _lookups(step: Any, table: Table) -> list[Floats]:
    """For each column the ``(categories + 1, outputs)`` encodings, the last of an unknown category."""
    depth = max(len(categories) for categories in step.categories_)
    names = getattr(step, "feature_names_in_", range(table.width))
    probe = {}
    for name, text, categories in zip(names, table.is_text, step.categories_, strict=True):
        rows = np.resize(categories, depth)
        probe[name] = pd.Series(rows, dtype=object if text else np.float64)
    known = _encode(step, pd.DataFrame(probe))
    unknown = _unknown(step, pd.DataFrame(probe).iloc[:1], table.is_text, known.shape[1])
    bounds = np.concatenate([[0], np.cumsum(_output_widths(step))])
    return [
        np.concatenate([known[: len(categories), start:end], unknown[:, start:end]])
        for categories, start, end in zip(step.categories_, bounds[:-1], bounds[1:], strict=True)
    ]


def _unknown(step: Any, row: pd.DataFrame, is_text: tuple[bool, ...], width: int) -> Floats:
    if getattr(step, "handle_unknown", None) == "error":
        return np.full((1, width), np.nan if isinstance(step, OrdinalEncoder) else 0.0)
    values: dict[Any, list[Any]] = {}
    for name, text, categories in zip(row.columns, is_text, step.categories_, strict=True):
        if text:
            values[name] = ["\0" + "".join(map(str, categories))]
        else:
            numbers = [float(c) for c in categories if c is not None and np.isfinite(float(c))]
            values[name] = [np.nextafter(max(numbers, default=0.0), np.inf)]
    return _encode(step, pd.DataFrame(values))


def _encode(step: Any, frame: pd.DataFrame) -> Floats:
    names = hasattr(step, "feature_names_in_")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # handle_unknown="warn"
        found = step.transform(frame if names else _plain(frame))
    return np.asarray(found.toarray() if hasattr(found, "toarray") else found, np.float64)


def _plain(frame: pd.DataFrame) -> Any:
    """The array that an encoder was fitted on which had no column names: objects where there is text."""
    return (
        frame.to_numpy()
        if not any(pd.api.types.is_object_dtype(kind) for kind in frame.dtypes)
        else frame.to_numpy(dtype=object)
    )


def _output_widths(step: Any) -> list[int]:
    if isinstance(step, OneHotEncoder):
        return list(step._n_features_outs)
    if isinstance(step, TargetEncoder) and step.target_type_ == "multiclass":
        return [len(step.classes_)] * step.n_features_in_
    return [1] * step.n_features_in_
