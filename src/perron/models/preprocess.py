"""Fitted scalers, imputers, selectors and decompositions of scikit-learn in, tables of the graph out.

Each function does its step's arithmetic in scikit-learn's order, on all columns as one matrix.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import spox.opset.ai.onnx.v21 as op
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)
from spox import Var

from perron.models.graph import Table, refusal, transformer
from perron.models.ops import as_number, expm1, integers, log1p, number, pick, total, unsqueeze
from perron.models.table import UnsupportedModel, beside, from_columns, from_matrix

__all__ = ["apply", "inverse_power"]

Function = Any


@transformer(StandardScaler)
def _standard_scaler(step: Any, table: Table) -> Table:
    x = table.matrix
    if step.with_mean:
        x = op.sub(x, number(step.mean_))
    if step.with_std:
        x = op.div(x, number(step.scale_))
    return from_matrix(x, table.width)


@transformer(MinMaxScaler)
def _min_max_scaler(step: Any, table: Table) -> Table:
    x = op.add(op.mul(table.matrix, number(step.scale_)), number(step.min_))
    return from_matrix(_clip(x, *step.feature_range) if step.clip else x, table.width)


@transformer(MaxAbsScaler)
def _max_abs_scaler(step: Any, table: Table) -> Table:
    x = op.div(table.matrix, number(step.scale_))
    return from_matrix(_clip(x, -1.0, 1.0) if getattr(step, "clip", False) else x, table.width)


def _clip(x: Var, low: float, high: float) -> Var:
    return op.clip(x, number(low), number(high))


@transformer(RobustScaler)
def _robust_scaler(step: Any, table: Table) -> Table:
    x = table.matrix
    if step.with_centering:
        x = op.sub(x, number(step.center_))
    if step.with_scaling:
        x = op.div(x, number(step.scale_))
    return from_matrix(x, table.width)


@transformer(Normalizer)
def _normalizer(step: Any, table: Table) -> Table:
    x = table.matrix
    size = op.abs(x)
    if step.norm == "max":
        norms = op.reduce_max(size, integers([1]), keepdims=1)
    else:
        norms = total(size) if step.norm == "l1" else op.sqrt(total(op.mul(x, x)))
    # scikit-learn leaves rows alone whose norm is zero or as good as that.
    tiny = op.less(norms, number(10 * np.finfo(np.float64).eps))
    return from_matrix(op.div(x, op.where(tiny, number(1.0), norms)), table.width)


@transformer(Binarizer)
def _binarizer(step: Any, table: Table) -> Table:
    return from_matrix(as_number(op.greater(table.matrix, number(step.threshold))), table.width)


@transformer(
    GenericUnivariateSelect,
    RFE,
    RFECV,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
def _selector(step: Any, table: Table) -> Table:
    return table.take(np.flatnonzero(step.get_support()).tolist())


@transformer(PCA)
def _pca(step: Any, table: Table) -> Table:
    x = op.matmul(table.matrix, number(step.components_.T))
    x = op.sub(x, number(step.mean_ @ step.components_.T))
    if step.whiten:
        scale = np.sqrt(step.explained_variance_)
        x = op.div(x, number(np.maximum(scale, np.finfo(scale.dtype).eps)))
    return from_matrix(x, len(step.components_))


@transformer(TruncatedSVD)
def _truncated_svd(step: Any, table: Table) -> Table:
    return from_matrix(op.matmul(table.matrix, number(step.components_.T)), len(step.components_))


@transformer(PolynomialFeatures)
def _polynomial_features(step: Any, table: Table) -> Table:
    """Every output is a product of as many factors as the degree: inputs, or a one put beside them."""
    powers = step.powers_
    degree = max(1, int(powers.sum(axis=1).max()))
    factors = np.full((len(powers), degree), table.width)
    for row, power in enumerate(powers):
        chosen = np.repeat(np.arange(table.width), power)
        factors[row, : len(chosen)] = chosen
    x = op.concat([table.matrix, table.full([1.0])], axis=1)
    product = pick(x, factors[:, 0])
    for column in factors.T[1:]:
        product = op.mul(product, pick(x, column))
    return from_matrix(product, len(powers))


@transformer(PowerTransformer)
def _power_transformer(step: Any, table: Table) -> Table:
    power = np.asarray(step.lambdas_, np.float64)
    x = _box_cox(table.matrix, power) if step.method == "box-cox" else _yeo_johnson(table.matrix, power)
    result = from_matrix(x, table.width)
    return _standard_scaler(step._scaler, result) if step.standardize else result


def _box_cox(x: Var, power: npt.NDArray[np.float64]) -> Var:
    """Box and Cox (1964): (x ** power - 1) / power, or log x."""
    log = op.log(x)
    flat = np.abs(power) < 1e-19
    raised = op.div(expm1(op.mul(number(power), log)), number(np.where(flat, 1.0, power)))
    return op.where(op.const(flat), log, raised)


def _yeo_johnson(x: Var, power: npt.NDArray[np.float64]) -> Var:
    """Yeo and Johnson (2000): Box-Cox of 1 + x, and below zero of 1 - x with the power 2 - p, negated."""
    above = op.greater_or_equal(x, number(0.0))
    log = log1p(op.abs(x))
    flat = [np.abs(p) < np.finfo(np.float64).eps for p in (power, 2.0 - power)]
    p = op.where(above, number(np.where(flat[0], 1.0, power)), number(np.where(flat[1], 1.0, 2.0 - power)))
    size = op.div(expm1(op.mul(p, log)), p)
    if np.any(flat):
        size = op.where(op.where(above, op.const(flat[0]), op.const(flat[1])), log, size)
    return op.where(above, size, op.neg(size))


def inverse_power(step: Any, x: Var) -> Var:
    """``PowerTransformer.inverse_transform`` of an ``(N, 1)`` value, in scikit-learn's arithmetic."""
    if step.standardize:
        x = op.add(op.mul(x, number(step._scaler.scale_)), number(step._scaler.mean_))
    power, one = float(step.lambdas_[0]), number(1.0)
    if step.method == "box-cox":
        return op.exp(x if power == 0.0 else op.div(log1p(op.mul(number(power), x)), number(power)))
    eps = float(np.spacing(1.0))

    def half(size: Var, p: float) -> Var:
        if abs(p) < eps:
            return op.sub(op.exp(size), one)
        return op.sub(op.pow(op.add(op.mul(size, number(p)), one), number(1.0 / p)), one)

    above = op.greater_or_equal(x, number(0.0))
    return op.where(above, half(x, power), op.neg(half(op.neg(x), 2.0 - power)))


_FUNCTIONS: dict[Function, Callable[[Var], Var]] = {
    np.log1p: log1p,
    np.expm1: expm1,
    np.log: op.log,
    np.log2: lambda x: op.div(op.log(x), number(np.log(2.0))),
    np.log10: lambda x: op.div(op.log(x), number(np.log(10.0))),
    np.exp: op.exp,
    np.sqrt: op.sqrt,
    np.abs: op.abs,
    np.square: lambda x: op.mul(x, x),
    np.negative: op.neg,
    np.sign: op.sign,
    np.reciprocal: lambda x: op.div(number(1.0), x),
    np.floor: op.floor,
    np.ceil: op.ceil,
    np.sin: op.sin,
    np.cos: op.cos,
    np.tanh: op.tanh,
    np.isnan: lambda x: as_number(op.isnan(x)),
}


def apply(owner: object, function: Function, x: Var) -> Var:
    """A numpy function of one argument as graph values.

    Raises: UnsupportedModel, naming the function and those that can be exported.
    """
    try:
        return _FUNCTIONS[function](x)
    except (KeyError, TypeError):
        name = getattr(function, "__name__", repr(function))
        known = ", ".join(f"np.{known.__name__}" for known in _FUNCTIONS)
        raise refusal(owner, f"the function {name}", f"use None or one of {known}") from None


@transformer(FunctionTransformer)
def _function_transformer(step: Any, table: Table) -> Table:
    if step.func is None:
        return table
    if step.kw_args:
        raise refusal(step, f"kw_args {sorted(step.kw_args)}", "use a function of the array alone")
    return from_matrix(apply(step, step.func, table.matrix), table.width)


@transformer(KBinsDiscretizer)
def _k_bins(step: Any, table: Table) -> Table:
    """The number of inner edges at or below each value; the padding NaN is at or below none."""
    edges = np.full((table.width, int(max(step.n_bins_)) - 1), np.nan)
    for row, found in zip(edges, step.bin_edges_, strict=True):
        row[: len(found) - 2] = found[1:-1]
    below = op.greater_or_equal(unsqueeze(table.matrix, 2), number(edges))
    bins = total(as_number(below), axis=2, keepdims=False)
    if step.encode == "ordinal":
        return from_matrix(bins, table.width)
    column = np.repeat(np.arange(table.width), step.n_bins_)
    wanted = np.concatenate([np.arange(n) for n in step.n_bins_])
    return from_matrix(as_number(op.equal(pick(bins, column), number(wanted))), len(column))


def _is_missing(values: Var, text: bool, missing: Any) -> Var | None:
    """Where `values` equal the marker of missing values; None where a column of this type cannot hold it."""
    if isinstance(missing, str):
        return op.equal(values, op.const(np.array(missing))) if text else None
    if text:
        return None
    if missing is None or type(missing).__name__ == "NAType" or np.isnan(missing):
        return op.isnan(values)
    return op.equal(values, number(float(missing)))


@transformer(SimpleImputer)
def _simple_imputer(step: Any, table: Table) -> Table:
    # A statistic of NaN is a column that had no value in the fit: it is dropped.
    keep = [j for j in range(table.width) if step.keep_empty_features or step.statistics_[j] == step.statistics_[j]]
    filled = _fill(table.take(keep), step.statistics_[keep], step.missing_values)
    if not step.add_indicator:
        return filled
    return beside([filled, _missing_indicator(step.indicator_, table)])


def _fill(table: Table, values: npt.NDArray[Any], missing: Any) -> Table:
    if not table.width:
        return table
    if not any(table.is_text):
        mask = _is_missing(table.matrix, False, missing)
        if mask is None:
            return table
        return from_matrix(op.where(mask, number(values.astype(np.float64)), table.matrix), table.width)
    columns: list[tuple[Var, bool]] = []
    for j, text in enumerate(table.is_text):
        column = table.column(j)
        mask = _is_missing(column, text, missing)
        if mask is not None:
            fill = op.const(np.array(str(values[j]))) if text else number(values[j])
            column = op.where(mask, fill, column)
        columns.append((column, text))
    return from_columns(columns)


@transformer(MissingIndicator)
def _missing_indicator(step: Any, table: Table) -> Table:
    chosen = table.take(step.features_.tolist())
    if not chosen.width:
        return chosen
    if not any(chosen.is_text):
        mask = _is_missing(chosen.matrix, False, step.missing_values)
        if mask is None:
            raise refusal(step, f"missing_values={step.missing_values!r} on numbers", "give a number or NaN")
        return from_matrix(as_number(mask), chosen.width)
    columns: list[tuple[Var, bool]] = []
    for j, text in enumerate(chosen.is_text):
        mask = _is_missing(chosen.column(j), text, step.missing_values)
        if mask is None:
            raise UnsupportedModel(
                f"{type(step).__name__} with missing_values={step.missing_values!r} cannot look for it in a text column; "
                f"text columns spell null as one text, so name that."
            )
        columns.append((as_number(mask), False))
    return from_columns(columns)
