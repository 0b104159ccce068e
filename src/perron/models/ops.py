"""Graph values in, graph values out: the numeric functions that several adapters share, all in float64.

Each operator here was run in onnxruntime's CPU provider with doubles; it has none for Erf, Softplus,
OneHot, Asinh and Imputer.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import spox.opset.ai.onnx.v21 as op
from spox import Var

from perron.models.graph import Result

__all__ = [
    "argmax",
    "as_number",
    "expm1",
    "from_decision",
    "from_probabilities",
    "integers",
    "log1p",
    "normalised",
    "number",
    "pick",
    "sigmoid",
    "softmax",
    "squeeze",
    "total",
    "two_columns",
    "unsqueeze",
]


def number(value: npt.ArrayLike) -> Var:
    """A float64 constant."""
    return op.const(np.ascontiguousarray(np.asarray(value, np.float64)))


def integers(value: npt.ArrayLike) -> Var:
    """An int64 constant."""
    return op.const(np.asarray(value, np.int64))


def as_number(value: Var) -> Var:
    """Booleans or integers as float64."""
    return op.cast(value, to=np.float64)


def pick(matrix: Var, columns: Sequence[int] | npt.NDArray[np.integer]) -> Var:
    """These columns of an ``(N, d)`` value."""
    return op.gather(matrix, integers(columns), axis=1)


def squeeze(matrix: Var) -> Var:
    """``(N, 1)`` as ``(N,)``."""
    return op.squeeze(matrix, integers([1]))


def unsqueeze(vector: Var, axis: int = 1) -> Var:
    """``(N,)`` as ``(N, 1)``, or one more axis at `axis`."""
    return op.unsqueeze(vector, integers([axis]))


def total(matrix: Var, axis: int = 1, keepdims: bool = True) -> Var:
    """The sum over an axis."""
    return op.reduce_sum(matrix, integers([axis]), keepdims=int(keepdims))


def argmax(scores: Var) -> Var:
    """The position of each row's largest value, the first of equals, as numpy: ``(N,)`` int64."""
    return op.arg_max(scores, axis=1, keepdims=0)


def sigmoid(x: Var) -> Var:
    """1 / (1 + exp(-x)), spelt out: it is what LightGBM and scipy compute."""
    return op.div(number(1.0), op.add(number(1.0), op.exp(op.neg(x))))


def softmax(scores: Var) -> Var:
    """Rows that sum to one."""
    return op.softmax(scores, axis=1)


def log1p(x: Var) -> Var:
    """log(1 + x), exact near zero: Kahan's correction (HP-15C Advanced Functions Handbook, 1982)."""
    u = op.add(number(1.0), x)
    as_it_is = op.or_(op.equal(u, number(1.0)), op.isinf(x))
    return op.where(as_it_is, x, op.mul(op.log(u), op.div(x, op.sub(u, number(1.0)))))


def expm1(x: Var) -> Var:
    """exp(x) - 1, exact near zero: Kahan's correction, as in `log1p`."""
    u = op.exp(x)
    less = op.sub(u, number(1.0))
    # Far from zero the plain difference is exact enough, and the correction would be inf / inf.
    far = op.greater(op.abs(x), number(1.0))
    near = op.where(op.equal(u, number(1.0)), x, op.mul(less, op.div(x, op.log(u))))
    return op.where(far, less, near)


def two_columns(positive: Var) -> Var:
    """``(N, 1)`` probabilities of the second class as ``(N, 2)`` of both."""
    return op.concat([op.sub(number(1.0), positive), positive], axis=1)


def from_probabilities(probabilities: Var, decision: Var | None = None) -> Result:
    """A classification by the largest probability."""
    return Result(argmax(probabilities), probabilities, decision)


def from_decision(decision: Var, classes: int, probabilities: Var | None = None) -> Result:
    """A classification by the sign of an ``(N, 1)`` decision, or by the largest of ``(N, k)``."""
    if classes > 2:
        return Result(argmax(decision), probabilities, decision)
    return Result(op.cast(op.greater(squeeze(decision), number(0.0)), to=np.int64), probabilities, decision)


def normalised(scores: Var, classes: int) -> Var:
    """Rows divided by their sum; uniform where that is zero."""
    whole = total(scores)
    empty = op.equal(whole, number(0.0))
    share = op.div(scores, op.where(empty, number(1.0), whole))
    return op.where(empty, number(np.full((1, classes), 1.0 / classes)), share)
