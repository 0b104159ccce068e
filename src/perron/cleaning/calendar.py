"""Seconds since 1970 in UTC in; the parts of the calendar out, in NumPy and in the graph by the same code.

The civil calendar from a count of days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
days_from_civil and its inverse.
"""

import math
from collections.abc import Iterable
from typing import Any

from perron.cleaning import PARTS
from perron.tensors import DAY_S

__all__ = ["calendar", "circle"]


def calendar(xp: Any, seconds: Any, parts: Iterable[str]) -> dict[str, Any]:
    """These parts by name, float64 (n,); NaN stays NaN. Monday is 0."""
    days = xp.floor(seconds / DAY_S)
    # Next to midnight the quotient may have been rounded to a whole day; the hours of a day are 0 to 23 all the same.
    of_day = xp.where(seconds < days * DAY_S, xp.zeros_like(seconds), seconds - days * DAY_S)
    of_day = xp.where(of_day >= DAY_S, xp.asarray(DAY_S - 1e-6), of_day)
    shifted = days + 719_468.0
    era = xp.floor(shifted / 146_097.0)
    of_era = shifted - era * 146_097.0
    year = xp.floor(
        (of_era - xp.floor(of_era / 1460.0) + xp.floor(of_era / 36_524.0) - xp.floor(of_era / 146_096.0)) / 365.0
    )
    # Counted from the first of March, so that the leap day is the last one.
    of_year = of_era - (365.0 * year + xp.floor(year / 4.0) - xp.floor(year / 100.0))
    month_from_march = xp.floor((5.0 * of_year + 2.0) / 153.0)
    month = xp.where(month_from_march < 10.0, month_from_march + 3.0, month_from_march - 9.0)
    civil = era * 400.0 + year + xp.where(month < 3.0, xp.ones_like(month), xp.zeros_like(month))
    weekday = (days + 3.0) - 7.0 * xp.floor((days + 3.0) / 7.0)
    hour = xp.floor(of_day / 3600.0)
    found = {
        "year": civil,
        "quarter": xp.floor((month - 1.0) / 3.0) + 1.0,
        "month": month,
        "day": of_year - xp.floor((153.0 * month_from_march + 2.0) / 5.0) + 1.0,
        "day_of_year": xp.where(month < 3.0, of_year - 305.0, of_year + 60.0 + _leap_day(xp, civil)),
        "weekday": weekday,
        "is_weekend": xp.floor(weekday / 5.0),
        "hour": hour,
        "minute": xp.floor((of_day - 3600.0 * hour) / 60.0),
    }
    return {part: found[part] for part in parts}


def _leap_day(xp: Any, year: Any) -> Any:
    """1 in a leap year, else 0; NaN where the year is."""

    def divides(n: float) -> Any:
        return xp.floor(year / n) - xp.floor((year - 1.0) / n)

    return divides(4.0) - divides(100.0) + divides(400.0)


def circle(xp: Any, part: str, value: Any) -> dict[str, Any]:
    """The part as a point on the unit circle, `<part>_sin` and `<part>_cos`; the part itself where it doesn't come round.

    Looked up, so that NumPy's sine and the graph's can't differ in the last bit.
    """
    span = PARTS[part]
    if span is None:
        return {part: value}
    first, count = span
    missing = xp.isnan(value)
    place = xp.astype(xp.where(missing, xp.zeros_like(value), value - float(first)), xp.int64)
    angles = [2.0 * math.pi * i / count for i in range(count)]
    return {
        f"{part}_{name}": xp.where(
            missing,
            xp.asarray(xp.nan),
            xp.take(xp.asarray([round(wave(angle), 15) + 0.0 for angle in angles]), place, axis=0),
        )
        for name, wave in (("sin", math.sin), ("cos", math.cos))
    }
