"""The declaration of how columns are cleaned before the model sees them; data, no verbs.

    from perron import cleaning

    pn.System(…, cleaning=[
        cleaning.impute("total_bedrooms", "median", indicator=True),
        cleaning.clip("median_income", low=0.01, high=0.99),
        cleaning.group_rare("city", min_share=0.01),
        cleaning.date_parts("when", ("month", "hour"), cyclic=True),
        cleaning.tf_idf("title", most=2_000),
    ])

What has state is fitted on the train rows alone (`perron.cleaning.columns`), and the same code applies
it in training and in the traced graph. `impute`, `clip` and `group_rare` change a column, in the order
declared, before the user's features see it; `date_parts`, `tf_idf` and `text_hash` then stand for the
column that they read.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, get_args

from perron.contract import NOUNS, Field, Role, Schema
from perron.errors import DeclarationError, nearest

__all__ = [
    "Cleaning",
    "Clip",
    "DateParts",
    "GroupRare",
    "Impute",
    "TextHash",
    "TfIdf",
    "Value",
    "check_cleaning",
    "clip",
    "date_parts",
    "group_rare",
    "impute",
    "text_hash",
    "tf_idf",
]

How = Literal["median", "mean", "most_frequent"]
Value = str | int | float | bool | date | datetime
# A part's least value and how many it has before it comes round again; None where it doesn't.
PARTS: dict[str, tuple[int, int] | None] = {
    "year": None,
    "quarter": (1, 4),
    "month": (1, 12),
    "day": (1, 31),
    "day_of_year": (1, 366),
    "weekday": (0, 7),
    "is_weekend": None,
    "hour": (0, 24),
    "minute": (0, 60),
}
OF_DAY = ("hour", "minute")
MOST_COLUMNS = 50_000
LONGEST = 3
MISSING = "␀"  # perron.tensors.NULL_TEXT, which this module, read by every declaration, doesn't load
UNSEEN = {
    Role.TARGET: "the target",
    Role.ID: "an id",
    Role.GROUP: "a group",
    Role.WEIGHT: "the weight",
    Role.IGNORE: "ignored",
}


@dataclass(frozen=True)
class Impute:
    """A missing value becomes `value`, or what `how` finds in the train rows; with `indicator` a column says where."""

    field: str
    how: How | None
    value: Value | None
    indicator: bool


@dataclass(frozen=True)
class Clip:
    """A number below the one bound becomes it, and one above the other: quantiles of the train rows, or numbers."""

    field: str
    low: float | None
    high: float | None
    at_least: float | None
    at_most: float | None


@dataclass(frozen=True)
class GroupRare:
    """A category that few train rows have, or none, becomes `into`."""

    field: str
    min_share: float
    most: int | None
    into: str | int


@dataclass(frozen=True)
class DateParts:
    """These parts stand for a date; `cyclic` ones as a point on a circle, by sine and cosine."""

    field: str
    parts: tuple[str, ...]
    cyclic: bool


@dataclass(frozen=True)
class TfIdf:
    """The frequencies of a text's terms, weighted by how few train rows have them, stand for it."""

    field: str
    most: int
    min_rows: int
    longest: int


@dataclass(frozen=True)
class TextHash:
    """The numbers of a text's words, in columns that a hash chooses, stand for it."""

    field: str
    columns: int


Cleaning = Impute | Clip | GroupRare | DateParts | TfIdf | TextHash
VERBS = {
    Impute: "impute",
    Clip: "clip",
    GroupRare: "group_rare",
    DateParts: "date_parts",
    TfIdf: "tf_idf",
    TextHash: "text_hash",
}


def impute(field: str, how: How | None = None, *, value: Value | None = None, indicator: bool = False) -> Impute:
    """A column without missing values.

    Args:
        field: its name.
        how: `median`, `mean` (of numbers and dates) or `most_frequent` (of equals the least), of the train rows.
        value: a constant instead, of the field's own type; it need not obey the contract's rules.
        indicator: adds the column `<field>.was_missing`, 1 or 0.

    Raises:
        DeclarationError: neither `how` nor `value`, both, or another `how`.
    """
    name = f"cleaning.impute({field!r})"
    if how is not None and how not in get_args(How):
        hint = nearest(str(how), get_args(How))
        raise DeclarationError(f"{name} has the strategy {how!r}; {hint} A constant is given by value=….")
    if (how is None) == (value is None):
        raise DeclarationError(f"{name} needs either a strategy ('median', 'mean', 'most_frequent') or value=….")
    return Impute(field, how, value, _flag(name, "indicator", indicator))


def clip(
    field: str,
    *,
    low: float | None = None,
    high: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
) -> Clip:
    """A column of numbers within bounds; what is missing stays so.

    Args:
        field: its name.
        low, high: quantiles of the train rows, from 0 to 1.
        at_least, at_most: the bounds themselves, each instead of a quantile.

    Raises:
        DeclarationError: no bound, one given twice, one that isn't a number, or bounds in the wrong order.
    """
    name = f"cleaning.clip({field!r})"
    given = {"low": low, "high": high, "at_least": at_least, "at_most": at_most}
    for word, bound in given.items():
        if bound is not None and not _is_number(bound):
            raise DeclarationError(f"{name} has {word}={bound!r}; give a finite number.")
        if word in ("low", "high") and bound is not None and not 0 <= bound <= 1:
            hint = "at_least" if word == "low" else "at_most"
            raise DeclarationError(f"{name} has {word}={bound!r}; a quantile is from 0 to 1, a value is {hint}=….")
    if all(bound is None for bound in given.values()):
        raise DeclarationError(f"{name} has no bound; give low=, high=, at_least= or at_most=.")
    for quantile, value in (("low", "at_least"), ("high", "at_most")):
        if given[quantile] is not None and given[value] is not None:
            raise DeclarationError(f"{name} has both {quantile} and {value}; keep one.")
    for below, above in (("low", "high"), ("at_least", "at_most")):
        first, second = given[below], given[above]
        if first is not None and second is not None and first >= second:
            raise DeclarationError(f"{name} has {below}={first!r} and {above}={second!r}; {below} must be the smaller.")
    return Clip(field, *(None if bound is None else float(bound) for bound in given.values()))


def group_rare(field: str, *, min_share: float = 0.0, most: int | None = None, into: str | int = "other") -> GroupRare:
    """A column of few categories; those that are rare in the train rows, and those that none of them has, become one.

    Args:
        field: its name.
        min_share: the share of the train rows with a value below which a category is rare.
        most: how many categories stay at most; of equally frequent ones the first by name.
        into: what the others become; a whole number where the categories are. What is missing stays so.

    Raises:
        DeclarationError: no limit, or one that makes no sense.
    """
    name = f"cleaning.group_rare({field!r})"
    if not _is_number(min_share) or not 0 <= min_share < 1:
        raise DeclarationError(f"{name} has min_share={min_share!r}; give a share of the rows, from 0 to below 1.")
    if most is not None:
        _whole(name, "most", most, 1, MOST_COLUMNS)
    if not min_share and most is None:
        raise DeclarationError(f"{name} has no limit; give min_share=, most= or both.")
    return GroupRare(field, float(min_share), most, into)


def date_parts(field: str, parts: Iterable[str], *, cyclic: bool = False) -> DateParts:
    """Columns `<field>.<part>` for a date, instead of those that it gets by itself; times are in UTC.

    Args:
        field: its name.
        parts: of `year`, `quarter`, `month`, `day`, `day_of_year`, `weekday` (Monday is 0), `is_weekend`, and
            of a datetime `hour` and `minute`.
        cyclic: gives `<part>_sin` and `<part>_cos` for each part that comes round again (all but `year` and
            `is_weekend`), so that December is next to January.

    Raises:
        DeclarationError: no part, an unknown one, one twice, or nothing that is cyclic.
    """
    name = f"cleaning.date_parts({field!r})"
    if isinstance(parts, str) or not isinstance(parts, Iterable):
        raise DeclarationError(f"{name} has the parts {parts!r:.60}; give them in a tuple: ('month', 'weekday').")
    chosen = tuple(parts)
    if not chosen:
        raise DeclarationError(f"{name} has no part; {nearest('', PARTS)}")
    for place, part in enumerate(chosen):
        if not isinstance(part, str) or part not in PARTS:
            raise DeclarationError(f"{name} has the part {part!r}; {nearest(str(part), PARTS)}")
        if part in chosen[:place]:
            raise DeclarationError(f"{name} has the part {part!r} twice; remove one.")
    if _flag(name, "cyclic", cyclic) and all(PARTS[part] is None for part in chosen):
        raise DeclarationError(f"{name} is cyclic, but none of its parts comes round again; leave cyclic out.")
    return DateParts(field, chosen, cyclic)


def tf_idf(field: str, *, most: int = 1_000, min_rows: int = 1, longest: int = 1) -> TfIdf:
    """Columns `<field>.tf_idf.<term>` for a text, instead of the text: term frequency × inverse document frequency.

    A term's weight is ln((1 + rows) / (1 + rows with it)) + 1, as in scikit-learn's TfidfVectorizer, kept to
    1/1024; each row has length 1, or 0 where it has no known term. Words are as in `perron.cleaning.words`.

    Args:
        field: its name.
        most: how many terms at most, those that most train rows have; of equals the first by name.
        min_rows: how many train rows must have a term.
        longest: how many words a term may have, 1 to 3; with 2 there are pairs of neighbours beside words.

    Raises:
        DeclarationError: a number that makes no sense.
    """
    name = f"cleaning.tf_idf({field!r})"
    _whole(name, "most", most, 1, MOST_COLUMNS)
    _whole(name, "min_rows", min_rows, 1, None)
    _whole(name, "longest", longest, 1, LONGEST)
    return TfIdf(field, most, min_rows, longest)


def text_hash(field: str, *, columns: int = 256) -> TextHash:
    """Columns `<field>.hash.<i>` for a text, instead of the text: its words counted by their hash, without a vocabulary.

    MurmurHash3 of 32 bits chooses a word's column and sign, as in scikit-learn's FeatureHasher; each row has
    length 1, or 0 where it has no word. Words are as in `perron.cleaning.words`.

    Raises:
        DeclarationError: a number of columns that makes no sense.
    """
    _whole(f"cleaning.text_hash({field!r})", "columns", columns, 2, MOST_COLUMNS)
    return TextHash(field, columns)


def check_cleaning(declared: Any, schema: Schema) -> tuple[Cleaning, ...]:
    """The declarations, when they fit the contract.

    Raises:
        DeclarationError: they don't; says what to change.
    """
    if isinstance(declared, str) or not isinstance(declared, Sequence):
        raise DeclarationError(f"The cleaning is {declared!r:.60}; give a list: cleaning=[cleaning.impute(…)].")
    for place, one in enumerate(declared):
        if not isinstance(one, Cleaning):
            raise DeclarationError(f"An entry of the cleaning is {one!r:.60}; make it with perron.cleaning.")
        name = _name(one)
        field = _feature(name, one.field, schema)
        if any(type(other) is type(one) and other.field == one.field for other in declared[:place]):
            raise DeclarationError(f"{name} is declared twice; keep one.")
        _check_kind(one, name, field)
    return tuple(declared)


def _name(one: Cleaning) -> str:
    return f"cleaning.{VERBS[type(one)]}({one.field!r})"


def _feature(name: str, wanted: object, schema: Schema) -> Field:
    known = [field.name for field in schema.features]
    for field in schema.fields:
        if field.name == wanted:
            if not field.is_feature:
                role = next(UNSEEN[role] for role in field.roles if role in UNSEEN)
                raise DeclarationError(
                    f"{name} is about {role}, which the model doesn't see; name one of its features."
                )
            return field
    raise DeclarationError(f"{name} names no field of {schema.name}; {nearest(str(wanted), known)}")


def _check_kind(one: Cleaning, name: str, field: Field) -> None:
    is_category = bool(field.values)
    noun = "a category" if is_category else NOUNS[field.kind]

    def demand(holds: bool, wanted: str) -> None:
        if not holds:
            raise DeclarationError(f"{name} is about {noun}; it goes with {wanted}.")

    for value in (getattr(one, "value", None), getattr(one, "into", None)):
        if value == MISSING:
            raise DeclarationError(f"{name} has {value!r}, which stands for a missing text; choose another one.")
    match one:
        case Impute(how="median" | "mean"):
            demand(
                not is_category and field.kind in ("float", "int", "date", "datetime"),
                f"numbers and dates where it imputes the {one.how}; use 'most_frequent' or value=…",
            )
        case Impute(value=value) if value is not None and not _is_of(field, value):
            raise DeclarationError(f"{name} has value={value!r:.60}; the field is {noun}, so give one like it.")
        case Clip():
            demand(not is_category and field.kind in ("float", "int"), "numbers")
        case GroupRare():
            demand(is_category or field.kind == "text", "categories and text")
            if not _is_of(field, one.into):
                kind = "a whole number" if field.is_numeric_category else "text"
                raise DeclarationError(f"{name} has into={one.into!r:.60}; its values are {kind}, so give one: into=….")
        case DateParts():
            demand(field.kind in ("date", "datetime"), "dates")
            for part in one.parts:
                if part in OF_DAY and field.kind == "date":
                    raise DeclarationError(f"{name} has the part {part!r}, which a date without a time doesn't have.")
        case TfIdf() | TextHash():
            demand(not is_category and field.kind == "text", "text (a str in the contract)")


def _is_of(field: Field, value: object) -> bool:
    """Whether a value has the field's type, whatever its rules."""
    if field.is_numeric_category:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53
    match field.kind:
        case "text" | "category":
            return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
        case "bool":
            return isinstance(value, bool)
        case "date":
            return isinstance(value, date) and not isinstance(value, datetime)
        case "datetime":
            return isinstance(value, datetime)
    return _is_number(value)


def _is_number(value: object) -> bool:
    # A comparison, since math.isfinite fails on a whole number beyond float64.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _whole(name: str, word: str, value: object, least: int, most: int | None) -> None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not good or (most is not None and isinstance(value, int) and value > most):
        span = f"from {least} to {most:,}" if most is not None else f"≥ {least}"
        raise DeclarationError(f"{name} has {word}={value!r}; give a whole number {span}.")


def _flag(name: str, word: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise DeclarationError(f"{name} has {word}={value!r}; give True or False.")
    return value
