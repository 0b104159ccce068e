"""Raw arrays of a contract's fields in; the columns that the model sees out, in NumPy and in the graph by the same code.

A column is float64 with NaN for a missing value, or text. The raw arrays are what the graph is fed
(`perron.tensors`). They are cleaned as declared; then dates become calendar parts, since a model of trees
can't extrapolate the date itself, and the user's features are made of the cleaned columns.
"""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from perron.cleaning import words as numpy_texts
from perron.cleaning.calendar import calendar
from perron.cleaning.columns import Cleaner, Texts, Vectors, clean, stand_ins
from perron.contract import Schema
from perron.errors import FeatureError
from perron.history import Past
from perron.tensors import NULL_TEXT, raw_dtype

__all__ = ["Features", "columns", "given_columns"]

CALENDAR = {"date": ("month", "day", "weekday"), "datetime": ("month", "day", "weekday", "hour")}

Features = Callable[[Any, Any], Any]


def given_columns(schema: Schema, raw: Mapping[str, Any], xp: Any) -> dict[str, Any]:
    """The fields as columns by name, before anything is done to them: float64 with NaN for missing, or text."""
    return {
        field.name: _guarded(
            raw[field.name] if raw_dtype(field) == "string" else xp.astype(raw[field.name], xp.float64)
        )
        for field in schema.features
    }


def columns(
    schema: Schema,
    raw: dict[str, Any],
    function: Features | None,
    xp: Any,
    to_text: Callable[[Any], Any],
    cleaners: Sequence[Cleaner] = (),
    texts: Texts = numpy_texts,
    pasts: Sequence[Past] = (),
) -> dict[str, Any]:
    """The model's columns by name: one per field, or what stands for it (calendar parts per date), the rows' pasts,
    then the user's features.

    Args:
        raw: arrays (n,) by field, as `tensors.from_table` gives them, or the graph's own.
        function: the user's `features(xp, c)`, or None.
        xp: NumPy, or the tracer.
        to_text: turns whole numbers into text (the categories of numeric codes), in the same world as `xp`.
        cleaners: the declared cleaning, fitted.
        texts: what cleaning does to texts, in the same world as `xp`.
        pasts: what else `raw` holds: of each declaration of history an array (n,) float64, under its name.

    Raises:
        FeatureError: the function fails, or gives something else than a dict of arrays (n,).
    """
    given = given_columns(schema, raw, xp)
    changed, added = clean(cleaners, given, xp, texts)
    given |= {name: _guarded(array) for name, array in changed.items()}
    made: dict[str, Any] = {}
    for field in schema.features:
        stands = stand_ins(cleaners, field.name, given[field.name], xp, texts)
        if stands is not None:
            made |= stands
        elif field.kind in CALENDAR:
            parts = calendar(xp, given[field.name], CALENDAR[field.kind])
            made |= {f"{field.name}.{part}": value for part, value in parts.items()}
        elif field.is_numeric_category:
            is_changed = field.name in changed
            codes = changed[field.name] if is_changed else raw[field.name]
            made[field.name] = _codes_as_text(xp, codes, is_changed or field.optional, to_text)
        else:
            made[field.name] = given[field.name]
    made |= added
    for past in pasts:
        given[past.attribute] = made[past.name] = _guarded(raw[past.name])
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
    taken = {*made, *given, *(name for one in made.values() if isinstance(one, Vectors) for name in one.names)}
    for name, array in derived.items():
        if name in taken:
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
