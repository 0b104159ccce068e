"""A source without a contract in; a proposed contract out, with the reason for each choice that isn't plain.

The rules, over all rows (n), empty cells aside:

- only true/false words: bool. ISO dates: date; ISO dates with times: datetime; the first of these
  without a gap becomes Time.
- whole numbers with at most 12 different values, each 20 times on average: codes, a Literal.
- whole numbers where one begins with a zero (`007`): text, so that the zero stays.
- whole numbers that count up by one, or whose name says id, all different: Id; other numbers: float,
  with Ge(0) where none is negative.
- text with at most 50 different values, each 5 times on average: categories, a Literal.
- text that is different in every row and has no blanks: Id; more than half different: Ignore.
- one value throughout, or none: Ignore.
"""

import keyword
import math
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perron.check.table import FALSE, NULLS, TRUE, float_text, reads_as
from perron.contract import Field, Kind, Role, Schema, check_schema
from perron.errors import DataError, nearest
from perron.metrics import Task
from perron.source import Source

__all__ = ["Proposal", "propose"]

MOST_CODES, ROWS_PER_CODE = 12, 20
MOST_CLASSES = 1000
MOST_UNLABELLED = 0.04  # a system's max_bad_share is 0.05
MOST_CATEGORIES, ROWS_PER_CATEGORY = 50, 5
KEPT_VALUES = 100_000  # distinct values remembered per column; beyond it, counting stops
WHOLE, NUMBER = r"^[+-]?\d{1,18}$", r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
LEADING_ZERO = r"^0\d+$"
DATE = r"^\d{4}-\d{2}-\d{2}$"
DATETIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?$"
ID_NAME = re.compile(r"(^|_)(id|uuid|guid|key|index|idx|rowid|row_id)$", re.IGNORECASE)


@dataclass(frozen=True)
class Proposal:
    """A contract for a source, the number of its rows, why a field is what it is (by name; plain choices have no entry), and
    how many rows lack the target."""

    schema: Schema
    rows: int
    reasons: dict[str, str]
    unlabelled: int = 0

    @property
    def max_bad_share(self) -> float | None:
        """The share of rows in quarantine at which a run may stop: higher than usual where so many lack the target; else None."""
        share = self.unlabelled / max(1, self.rows)
        return None if share <= MOST_UNLABELLED else min(1.0, math.ceil(share * 120) / 100)


class _Column:
    """What is known of one column after each chunk. Bounded: at most 100,000 distinct values."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = self.nulls = 0
        self.values: set[Any] | None = set()
        self.shapes = {"bool": True, "zero_one": True, "whole": True, "number": True, "date": True, "datetime": True}
        self.has_leading_zero = self.has_blank = False
        self.low, self.high = np.inf, -np.inf
        self.last: float | None = None
        self.counts_up = True

    @property
    def given(self) -> int:
        return self.rows - self.nulls

    @property
    def distinct(self) -> int:
        """How many different values; the number of rows where there are too many to count."""
        return self.given if self.values is None else len(self.values)

    def add(self, column: pa.Array) -> None:
        text = _as_text(self.name, column)
        missing = pc.is_in(text, NULLS)
        self.rows += len(text)
        given = text.filter(pc.invert(missing))
        self.nulls += len(text) - len(given)
        if not len(given):
            return
        self._note_shapes(given)
        if self.values is not None:
            self.values.update(pc.unique(given).to_pylist())
            if len(self.values) > KEPT_VALUES:
                self.values = None
        if self.shapes["number"]:
            numbers = np.asarray(given.cast(pa.float64()))
            self.low, self.high = min(self.low, numbers.min()), max(self.high, numbers.max())
            with np.errstate(over="ignore"):
                steps = np.diff(numbers if self.last is None else np.concatenate([[self.last], numbers]))
            self.counts_up = self.counts_up and bool((steps == 1).all())
            self.last = float(numbers[-1])

    def _note_shapes(self, given: pa.Array) -> None:
        def all_match(pattern: str) -> bool:
            return bool(pc.all(pc.match_substring_regex(given, pattern)).as_py())

        lower = pc.utf8_lower(given)
        found: dict[str, Callable[[], Any]] = {
            "bool": lambda: pc.all(pc.is_in(lower, pa.array([*TRUE.to_pylist(), *FALSE.to_pylist()]))).as_py(),
            "zero_one": lambda: pc.all(pc.is_in(given, pa.array(["0", "1"]))).as_py(),
            "whole": lambda: all_match(WHOLE),
            # The shape alone is not enough: 1e999 is no number, and 2020-02-30 no date.
            "number": lambda: all_match(NUMBER) and reads_as("float", given),
            "date": lambda: all_match(DATE) and reads_as("date", given),
            "datetime": lambda: all_match(DATETIME) and reads_as("datetime", given),
        }
        for shape, test in found.items():
            self.shapes[shape] = self.shapes[shape] and bool(test())
        if self.shapes["whole"]:
            self.has_leading_zero = self.has_leading_zero or bool(
                pc.any(pc.match_substring_regex(given, LEADING_ZERO)).as_py()
            )
        if not self.shapes["number"]:
            self.has_blank = self.has_blank or bool(pc.any(pc.match_substring(given, " ")).as_py())


def _as_text(name: str, column: pa.Array) -> pa.Array:
    """Typed columns (Parquet) as their text, so that one set of rules serves; whole floats as whole numbers."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_timestamp(column.type):
        column = pc.strftime(column.cast(pa.timestamp("s"), safe=False), "%Y-%m-%dT%H:%M:%S")
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        whole = pc.all(pc.fill_null(pc.equal(column, pc.floor(column)), True)).as_py()
        small = pc.all(pc.fill_null(pc.less(pc.abs(column), 1e15), True)).as_py()
        if whole and small:
            column = column.cast(pa.int64())
        elif pc.any(pc.is_inf(column)).as_py():  # which no number may be: such a column is text
            column = float_text(column)
    try:
        if pa.types.is_duration(column.type):
            raise pa.ArrowNotImplementedError("a number without its unit")
        text = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"The column {name!r} is of type {column.type}, which can't be a contract's field; make it text or a number first."
        ) from error
    return pc.utf8_trim_whitespace(pc.fill_null(text, ""))


def propose(source: Source, name: str, target: str, task: Task | None = None) -> Proposal:
    """The contract that fits every row of the source, called `name`.

    Args:
        source: read to its end.
        name: of the contract.
        target: the column to predict.
        task: what predicting it is: whole numbers may be classes or a quantity. None: what the rules above say.

    Raises:
        DataError: no rows, no such target, a target that is empty, constant or unfit for the task, or nothing to predict
            it from.
        SourceError: the source can't be read.
    """
    if target not in source.names:
        raise DataError(f"There is no column {target!r} to predict; {nearest(target, source.names)}")
    columns = [_Column(column) for column in source.names]
    for batch in source.chunks():
        for column, array in zip(columns, batch.columns, strict=True):
            column.add(array)
    rows = columns[0].rows
    if rows == 0:
        raise DataError("The source has a header and no rows.")
    fields, reasons = [], {}
    names = _field_names(source.names)
    for column in columns:
        field, reason = _target(column, names, task) if column.name == target else _field(column, names[column.name])
        fields.append(field)
        if reason:
            reasons[field.name] = reason
    fields = list(_one_each(fields, reasons))
    schema = Schema(name, None, tuple(fields))
    if not schema.features:
        raise DataError(f"There is nothing to predict {target!r} from: every other column is an id, constant or empty.")
    check_schema(schema)
    unlabelled = next(column.nulls for column in columns if column.name == target)
    return Proposal(schema, rows, reasons, unlabelled)


def _field_names(columns: Iterable[str]) -> dict[str, str]:
    """A Python name per column: the column's own where it can be, else its letters and digits joined by `_`."""
    columns = list(columns)
    names = {column: column for column in columns if _is_name(column)}
    taken = set(names)
    for column in columns:
        if column in names:
            continue
        name = unicodedata.normalize("NFKC", column)  # what Python makes of a name in source
        if not _is_name(name):
            name = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_") or "column"
            name = f"c_{name}" if name[0].isdigit() or keyword.iskeyword(name) else name
        base, number = name, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        names[column] = name
        taken.add(name)
    return names


def _is_name(text: str) -> bool:
    return (
        text.isidentifier()
        and not keyword.iskeyword(text)
        and not text.startswith("_")
        and unicodedata.is_normalized("NFKC", text)
    )


def _target(column: _Column, names: dict[str, str], task: Task | None) -> tuple[Field, str | None]:
    name = names[column.name]
    if not column.given:
        raise DataError(f"The target {column.name!r} is empty in every row.")
    if column.distinct < 2:
        raise DataError(f"The target {column.name!r} has one value throughout; there is nothing to learn.")
    field, _ = _field(column, name, is_target=True)
    field = _as_task(column, field, task)
    if field.kind in ("date", "datetime"):
        raise DataError(f"The target {column.name!r} is a {field.kind}; choose a number or a class.")
    if field.kind == "text":
        if column.values is None or len(column.values) > MOST_CLASSES:
            raise DataError(
                f"The target {column.name!r} is text with {column.distinct} different values; choose a number or a class."
            )
        field = replace(field, kind="category", values=tuple(sorted(column.values)))
    if field.kind == "category" and len(field.values) < 2:  # 0 and -0
        raise DataError(f"The target {column.name!r} has one value throughout; there is nothing to learn.")
    reason = f"{column.nulls} rows without it will be quarantined" if column.nulls else None
    return replace(field, optional=False, roles=(Role.TARGET,)), reason


def _as_task(column: _Column, field: Field, task: Task | None) -> Field:
    """The target as the task needs it: whole numbers are classes or a quantity, as one asks."""
    is_number = field.kind in ("float", "int")
    if task == "classification" and is_number:
        if column.values is None or not column.shapes["whole"] or len(column.values) > MOST_CLASSES:
            raise DataError(
                f"The target {column.name!r} is a number with {column.distinct:,} different values; a classification needs "
                f"classes: text, true and false, or at most {MOST_CLASSES:,} different whole numbers."
            )
        return replace(field, kind="category", values=tuple(sorted({int(value) for value in column.values})), ge=None)
    if task == "regression" and not is_number and field.kind not in ("date", "datetime"):
        if not column.shapes["whole"] or column.has_leading_zero:
            what = "text" if field.kind == "category" else field.kind
            raise DataError(
                f"The target {column.name!r} is {what}; a regression needs numbers: leave --task out, or choose another column."
            )
        return replace(field, kind="float", values=(), ge=0 if column.low >= 0 else None)
    return field


def _field(column: _Column, name: str, is_target: bool = False) -> tuple[Field, str | None]:
    shapes, optional, values = column.shapes, column.nulls > 0, column.values

    def made(kind: Kind, *roles: Role, **more: Any) -> Field:
        return Field(name=name, column=column.name, kind=kind, optional=optional, roles=roles, **more)

    if not column.given:
        return made("text", Role.IGNORE), "empty in every row"
    if column.distinct == 1 and column.rows > 1 and not is_target:
        return made("float" if shapes["number"] else "text", Role.IGNORE), "the same in every row"
    if shapes["date"]:
        return made("date"), None
    if shapes["datetime"]:
        return made("datetime"), None
    if shapes["bool"] and not shapes["zero_one"] and not shapes["whole"] and not _is_letters(values):
        return made("bool"), None
    if shapes["whole"] and not column.has_leading_zero:
        return _whole_field(column, made, is_target)
    if shapes["number"] and not column.has_leading_zero:
        return made("float", **({"ge": 0} if column.low >= 0 else {})), None
    return _text_field(column, made, is_target)


def _is_letters(values: set[Any] | None) -> bool:
    """Whether the words for true and false may be codes of something else: a lone `t`, `y` or `n`."""
    return values is not None and len({str(value).lower() for value in values}) < 2


def _whole_field(column: _Column, made: Any, is_target: bool) -> tuple[Field, str | None]:
    values = column.values
    if values is not None and len(values) <= MOST_CODES and column.given >= ROWS_PER_CODE * len(values):
        return made(
            "category", values=tuple(sorted({int(value) for value in values}))
        ), f"{len(values)} different whole numbers: codes"
    all_different = values is not None and len(values) == column.given == column.rows
    if (
        not is_target
        and column.rows > 1
        and ((all_different and ID_NAME.search(column.name)) or (column.counts_up and not column.nulls))
    ):
        return made("int", Role.ID), "different in every row"
    return made("float", **({"ge": 0} if column.low >= 0 else {})), None


def _text_field(column: _Column, made: Any, is_target: bool) -> tuple[Field, str | None]:
    values = column.values
    if values is not None and len(values) <= MOST_CATEGORIES and column.given >= ROWS_PER_CATEGORY * len(values):
        return made("category", values=tuple(sorted(values))), None
    if is_target:
        return made("text"), None
    if column.distinct == column.given == column.rows and not column.has_blank and column.rows > 1:
        return made("text", Role.ID), "different in every row"
    if column.distinct > column.given / 2 and column.given > 20:
        return made("text", Role.IGNORE), "text that rarely repeats"
    return made("text"), "leading zeros are kept" if column.has_leading_zero else None


def _one_each(fields: list[Field], reasons: dict[str, str]) -> Iterable[Field]:
    """The fields with one Id and one Time at most: the first of each; a further id is ignored."""
    has_id = has_time = False
    for field in fields:
        if Role.ID in field.roles:
            yield replace(field, roles=(Role.IGNORE,)) if has_id else field
            has_id = True
        elif field.kind in ("date", "datetime") and not field.optional and not field.roles and not has_time:
            has_time = True
            reasons[field.name] = "the time of a row: the newest rows are the test rows"
            yield replace(field, roles=(Role.TIME,))
        else:
            yield field
