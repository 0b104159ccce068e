"""Declarations and the train rows' columns in, fitted state out; with it any rows' columns in, cleaned ones out.

State is plain JSON data. The same code applies it with NumPy in training and with the tracer in the graph;
what differs between the two worlds is passed in: the namespace, and what is done to texts.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import numpy as np

from perron.cleaning import Cleaning, Clip, DateParts, GroupRare, Impute, TextHash, TfIdf, Value
from perron.cleaning import words as numpy_texts
from perron.cleaning.calendar import calendar, circle
from perron.cleaning.words import terms_of
from perron.errors import DataError
from perron.tensors import NULL_TEXT, seconds

__all__ = ["Cleaner", "Texts", "Vectors", "clean", "fit", "stand_ins"]

SCALE = 1024  # a term's weight is a whole number of 1024ths


class Texts(Protocol):
    """What is done to texts (n,) in one world; `perron.cleaning.words` is NumPy's, `perron.models.text` the graph's."""

    @property
    def replaced(self) -> Callable[[Any, Sequence[str], str], Any]:
        """`replaced(text, kept, other)`: (n,) text."""

    @property
    def counted(self) -> Callable[[Any, Sequence[str]], Any]:
        """`counted(text, terms)`: (n, k) float64."""

    @property
    def hashed(self) -> Callable[[Any, int], Any]:
        """`hashed(text, columns)`: (n, columns) float64."""


@dataclass(frozen=True)
class Cleaner:
    """A declaration and what was fitted for it: plain JSON data, empty where nothing has to be learnt."""

    declared: Cleaning
    state: Mapping[str, Any]


@dataclass(frozen=True)
class Vectors:
    """Columns that lie side by side in one float64 array (n, k), and their k names."""

    names: tuple[str, ...]
    values: Any


def fit(declared: Sequence[Cleaning], given: Mapping[str, Any]) -> tuple[Cleaner, ...]:
    """The declarations with their state, in their order.

    Args:
        given: the train rows' columns by field, float64 with NaN for missing, or text.

    Raises:
        DataError: the train rows hold nothing to learn it from; names the field.
    """
    now, fitted = dict(given), {}
    for one in sorted(declared, key=_is_last):
        cleaner = Cleaner(one, _state(one, now[one.field]))
        now |= clean([cleaner], now, np, numpy_texts)[0]
        fitted[one] = cleaner
    return tuple(fitted[one] for one in declared)


def _is_last(one: Cleaning) -> bool:
    """Whether it stands for the column: such are made of it when all the others have changed it."""
    return isinstance(one, DateParts | TfIdf | TextHash)


def clean(
    cleaners: Iterable[Cleaner], given: Mapping[str, Any], xp: Any, texts: Texts
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns that changed, by field, and the indicators that were added, by name."""
    changed: dict[str, Any] = {}
    added: dict[str, Any] = {}
    for cleaner in cleaners:
        one, state = cleaner.declared, cleaner.state
        column = changed.get(one.field, given[one.field])
        match one:
            case Impute():
                missing = column == NULL_TEXT if isinstance(state["value"], str) else xp.isnan(column)
                if one.indicator:
                    added[f"{one.field}.was_missing"] = xp.astype(missing, xp.float64)
                changed[one.field] = xp.where(missing, _constant(xp, state["value"]), column)
            case Clip():
                # Not xp.clip: what it makes of NaN is the library's own affair.
                for bound, beyond in (("low", xp.less), ("high", xp.greater)):
                    if state[bound] is not None:
                        limit = xp.asarray(state[bound])
                        column = xp.where(beyond(column, limit), limit, column)
                changed[one.field] = column
            case GroupRare(into=str() as into):
                changed[one.field] = texts.replaced(column, [*state["kept"], NULL_TEXT], into)
            case GroupRare(into=into):
                stays = xp.isnan(column)
                for kept in state["kept"]:
                    stays = xp.logical_or(stays, column == kept)
                changed[one.field] = xp.where(stays, column, xp.asarray(float(into)))
    return changed, added


def _constant(xp: Any, value: str | float) -> Any:
    # NumPy's own text type would turn the column into one of fixed width.
    return value if xp is np else xp.asarray(value)


def stand_ins(cleaners: Iterable[Cleaner], field: str, column: Any, xp: Any, texts: Texts) -> dict[str, Any] | None:
    """What stands for a cleaned column: numbers (n,) or Vectors by name; None where it stands for itself."""
    made: dict[str, Any] = {}
    for cleaner in cleaners:
        one, state = cleaner.declared, cleaner.state
        if one.field != field:
            continue
        match one:
            case DateParts():
                for part, value in calendar(xp, column, one.parts).items():
                    parts = circle(xp, part, value) if one.cyclic else {part: value}
                    made |= {f"{field}.{name}": array for name, array in parts.items()}
            case TfIdf():
                weighted = texts.counted(column, state["terms"]) * xp.asarray(state["weights"], dtype=xp.float64)
                names = tuple(f"{field}.tf_idf.{term}" for term in state["terms"])
                made[f"{field}.tf_idf"] = Vectors(names, _of_length_one(xp, weighted))
            case TextHash():
                names = tuple(f"{field}.hash.{place}" for place in range(one.columns))
                made[f"{field}.hash"] = Vectors(names, _of_length_one(xp, texts.hashed(column, one.columns)))
    return made or None


def _of_length_one(xp: Any, rows: Any) -> Any:
    """Rows (n, k) of whole numbers divided by their length; a row of zeros stays so.

    The sum of squares of whole numbers is exact below 2^53, in whatever order it is taken, and the square
    root and the quotient are rounded correctly: both worlds have the same bits, and no tree's threshold is
    crossed. A text goes beyond that when it repeats words some ten thousand times; then last bits may differ.
    """
    length = xp.sqrt(xp.sum(rows * rows, axis=1, keepdims=True))
    return rows / xp.where(length == 0.0, xp.asarray(1.0), length)


def _state(one: Cleaning, column: Any) -> dict[str, Any]:
    match one:
        case Impute():
            return {"value": _imputed(one, column)}
        case Clip():
            return _bounds(one, column)
        case GroupRare():
            return {"kept": _frequent(one, column)}
        case TfIdf():
            return _vocabulary(one, column)
    return {}


def _imputed(one: Impute, column: Any) -> str | float:
    if one.value is not None:
        return _plain(one.value)
    present = _present(column)
    if not len(present):
        raise DataError(
            f"{one.field} has no value in the train rows, so no {str(one.how).replace('_', ' ')} to impute; give a constant: cleaning.impute({one.field!r}, value=…)."
        )
    if one.how == "most_frequent":
        values, counts = np.unique(present, return_counts=True)
        found: str | float = values[counts.argmax()]
        return found if isinstance(found, str) else float(found)
    return float(np.median(present) if one.how == "median" else math.fsum(present / len(present)))


def _plain(value: Value) -> str | float:
    if isinstance(value, str):
        return value
    return seconds(value) if isinstance(value, date) else float(value)


def _bounds(one: Clip, column: Any) -> dict[str, Any]:
    bounds = {"low": one.at_least, "high": one.at_most}
    quantiles = {"low": one.low, "high": one.high}
    if any(share is not None for share in quantiles.values()):
        present = _present(column)
        if not len(present):
            raise DataError(
                f"{one.field} has no value in the train rows, so no quantile to clip it at; give at_least= or at_most=."
            )
        bounds |= {word: float(np.quantile(present, share)) for word, share in quantiles.items() if share is not None}
    low, high = bounds["low"], bounds["high"]
    if low is not None and high is not None and low > high:
        raise DataError(f"cleaning.clip({one.field!r}) would clip at {low:g} from below and at {high:g} from above.")
    return bounds


def _frequent(one: GroupRare, column: Any) -> list[str | float]:
    counts = Counter(_present(column).tolist())
    total = counts.total()
    # A quotient: 0.07 * 100 is more than 7.
    ranked = sorted((-count, value) for value, count in counts.items() if count / total >= one.min_share)
    return sorted(value for _, value in ranked[: one.most])


def _vocabulary(one: TfIdf, column: Any) -> dict[str, Any]:
    rows: Counter[str] = Counter()
    for text in column.tolist():
        rows.update(set(terms_of(text, one.longest)))
    ranked = sorted((-count, term) for term, count in rows.items() if count >= one.min_rows)
    if not ranked:
        raise DataError(
            f"cleaning.tf_idf({one.field!r}) finds no word that {one.min_rows} train rows have; lower min_rows, or leave it out."
        )
    terms = sorted(term for _, term in ranked[: one.most])
    weights = [math.log((1 + len(column)) / (1 + rows[term])) + 1.0 for term in terms]
    return {"terms": terms, "weights": [round(weight * SCALE) for weight in weights]}


def _present(column: Any) -> Any:
    """The values that aren't missing."""
    return column[column != NULL_TEXT] if column.dtype == object else column[~np.isnan(column)]
