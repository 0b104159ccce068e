"""Raw arrays of a contract's fields in; the columns that the model sees out, in NumPy and in the graph by the same code.

A column is float64 with NaN for a missing value, or text. The raw arrays are what the graph is fed
(`perron.tensors`). Dates become calendar parts: a model of trees can't extrapolate the date itself.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from perron.contract import Schema
from perron.errors import FeatureError
from perron.tensors import DAY_S, NULL_TEXT, raw_dtype

__all__ = ["Features", "columns"]

Features = Callable[[Any, Any], Any]


def columns(
    schema: Schema, raw: dict[str, Any], function: Features | None, xp: Any, to_text: Callable[[Any], Any]
) -> dict[str, Any]:
    """The model's columns by name: one per field (calendar parts per date), then the user's features.

    Args:
        raw: arrays (n,) by field, as `tensors.from_table` gives them, or the graph's own.
        function: the user's `features(xp, c)`, or None.
        xp: NumPy, or the tracer.
        to_text: turns whole numbers into text (the categories of numeric codes), in the same world as `xp`.

    Raises:
        FeatureError: the function fails, or gives something else than a dict of arrays (n,).
    """
    made: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for field in schema.features:
        array = raw[field.name]
        is_text = raw_dtype(field) == "string"
        given[field.name] = _guarded(array if is_text else xp.astype(array, xp.float64))
        if field.kind in ("date", "datetime"):
            made.update(
                {f"{field.name}.{part}": value for part, value in _calendar(xp, given[field.name], field.kind).items()}
            )
        elif field.is_numeric_category:
            made[field.name] = _codes_as_text(xp, array, field.optional, to_text)
        else:
            made[field.name] = given[field.name]
    if function is not None:
        made.update(_user_columns(function, xp, given, made))
    return made


def _guarded(array: Any) -> Any:
    """The array, as a view that can't be written to where it is NumPy's: the user's function must not change the row."""
    if isinstance(array, np.ndarray):
        array = array.view()
        array.flags.writeable = False
    return array


def _codes_as_text(xp: Any, array: Any, optional: bool, to_text: Callable[[Any], Any]) -> Any:
    if not optional:
        return to_text(array)
    missing = xp.isnan(array)
    text = to_text(xp.astype(xp.where(missing, xp.zeros_like(array), array), xp.int64))
    return xp.where(missing, xp.asarray(NULL_TEXT), text)


def _calendar(xp: Any, seconds: Any, kind: str) -> dict[str, Any]:
    """Month, day of the month, day of the week (Monday is 0) and, of a datetime, the hour; NaN stays NaN.

    The civil calendar from a count of days: Howard Hinnant, "chrono-Compatible Low-Level Date
    Algorithms", days_from_civil and its inverse.
    """
    days = xp.floor(seconds / DAY_S)
    shifted = days + 719_468.0
    era = xp.floor(shifted / 146_097.0)
    of_era = shifted - era * 146_097.0
    year = xp.floor(
        (of_era - xp.floor(of_era / 1460.0) + xp.floor(of_era / 36_524.0) - xp.floor(of_era / 146_096.0)) / 365.0
    )
    of_year = of_era - (365.0 * year + xp.floor(year / 4.0) - xp.floor(year / 100.0))
    month_from_march = xp.floor((5.0 * of_year + 2.0) / 153.0)
    parts = {
        "month": xp.where(month_from_march < 10.0, month_from_march + 3.0, month_from_march - 9.0),
        "day": of_year - xp.floor((153.0 * month_from_march + 2.0) / 5.0) + 1.0,
        "weekday": (days + 3.0) - 7.0 * xp.floor((days + 3.0) / 7.0),
    }
    if kind == "datetime":
        parts["hour"] = xp.floor((seconds - days * DAY_S) / 3600.0)
    return parts


def _user_columns(function: Features, xp: Any, given: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    try:
        with np.errstate(all="ignore"):  # a division by zero is infinite in the graph too, without a word
            derived = function(xp, SimpleNamespace(**given))
    except AttributeError as error:
        hint = f"; the contract's features are {', '.join(given)}" if "SimpleNamespace" in str(error) else ""
        raise FeatureError(
            f"The features function failed: {str(error).replace('types.SimpleNamespace', 'c')}{hint}."
        ) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise FeatureError(
            f"The features function failed: {reason}; use functions of xp on the columns of c."
        ) from error
    if not isinstance(derived, dict) or not all(isinstance(name, str) for name in derived):
        raise FeatureError(f"The features function gave {type(derived).__name__}; it must give a dict of name → array.")
    for name, array in derived.items():
        if name in made or name in given:
            raise FeatureError(
                f"The features function gives {name!r}, which the contract has already; choose another name."
            )
        if getattr(array, "ndim", None) != 1:
            raise FeatureError(f"The feature {name!r} isn't an array with one value per row.")
        try:
            number = xp.astype(array, xp.float64)
            # A ratio by zero is a missing value: few models take infinity, and none means it.
            derived[name] = xp.where(xp.isinf(number), xp.asarray(xp.nan), number)
        except Exception as error:
            raise FeatureError(
                f"The feature {name!r} isn't numeric; encode text as numbers, or leave it to the contract."
            ) from error
    return derived
