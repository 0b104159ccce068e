"""The bytes of a request in; rows in the contract's order out, or everything that is wrong with it.

The fast way is one call of a decoder compiled from the contract, which checks types, ranges,
lengths, patterns and categories as it parses. When it stumbles the slow way reads the request again
and collects every fault, so that a client learns all of them at once.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from perron.check import Fault, bound_of, judge, judge_row, parse
from perron.contract import Field, Schema

__all__ = ["Decoder", "Rejection"]

MOST_DIGITS = 4000
MOST_FAULTS = 100  # that one answer lists; the count says how many there were


@dataclass(frozen=True)
class Rejection:
    """Why a request was refused: it isn't JSON (`malformed`), has too many rows, or breaks the contract."""

    reason: Literal["malformed", "too_many_rows", "invalid"]
    detail: str
    faults: tuple[Fault, ...] = ()
    count: int = 0


class Decoder:
    """Decodes `{"rows": [{…}, …]}` into one tuple per row, in the order of `fields`.

    Thread safe once made.
    """

    def __init__(self, schema: Schema, max_rows: int) -> None:
        self.fields = schema.request
        self.max_rows = max_rows
        self._by_name = {field.name: field for field in self.fields}
        self._target = schema.target.name if schema.target else None
        # Not judged by msgspec: bounds of dates, and multiples (its remainder is exact: 0.3 is none of 0.1).
        self._late = [field for field in self.fields if field.multiple_of is not None or _has_date_bounds(field)]
        row = msgspec.defstruct(
            "Row", [_member(field) for field in self.fields], forbid_unknown_fields=True, kw_only=True, gc=False
        )
        request = msgspec.defstruct("Request", [("rows", list[row])], forbid_unknown_fields=True, gc=False)  # type: ignore[valid-type]
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(request).decode
        names = [field.name for field in self.fields]
        getter: Callable[[Any], Any] = attrgetter(*names)
        self._tuple = getter if len(names) > 1 else lambda row: (getter(row),)

    def __call__(self, body: bytes) -> list[tuple[Any, ...]] | Rejection:
        """The rows (at least one), or why there are none."""
        try:
            rows = list(map(self._tuple, self._decode(body).rows))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._explain(body)
        if not 1 <= len(rows) <= self.max_rows or (self._late and self._breaks_late(rows)):
            return self._explain(body)
        return rows

    def _breaks_late(self, rows: list[tuple[Any, ...]]) -> bool:
        places = [(self.fields.index(field), field) for field in self._late]
        return any(True for row in rows for place, field in places for _ in judge(field, row[place]))

    def _explain(self, body: bytes) -> list[tuple[Any, ...]] | Rejection:
        """Reads the request again, slowly, and collects every fault; its rows where there is none."""
        try:
            data = json.loads(body.decode(), parse_constant=_refuse_constant, parse_int=_integer)
        except RecursionError:
            return Rejection("malformed", "The JSON is nested too deeply.")
        except UnicodeDecodeError as error:
            return Rejection("malformed", f"The body isn't UTF-8: byte {error.start} can't be read.")
        except ValueError as error:
            return Rejection("malformed", f"The body isn't JSON: {error}.")
        if not isinstance(data, dict) or not isinstance(data.get("rows"), list) or set(data) != {"rows"}:
            return Rejection("invalid", 'The body must be an object with the one key "rows": a list of rows.')
        rows = data["rows"]
        if not rows:
            return Rejection("invalid", "rows is empty; send at least one row.")
        if len(rows) > self.max_rows:
            return Rejection(
                "too_many_rows", f"{len(rows)} rows are more than {self.max_rows} in one request; send them in parts."
            )
        faults: list[Fault] = []
        count = 0
        for index, row in enumerate(rows):
            for fault in judge_row(self._by_name, self._target, row, index, hints=count < MOST_FAULTS):
                count += 1
                if count <= MOST_FAULTS:
                    faults.append(fault)
        if not count:  # the judge is the one that decides; the decoder is stricter where JSON's 41.0 is whole
            return [tuple(_given(field, row) for field in self.fields) for row in rows]
        where = "1 value breaks" if count == 1 else f"{count} values break"
        return Rejection("invalid", f"{where} the contract.", tuple(faults), count)


def _given(field: Field, row: dict[str, Any]) -> Any:
    value = row.get(field.name)
    return None if value is None else parse(field, value)


def _integer(digits: str) -> int | float:
    """The whole number; infinity, which no field takes, where it is too long for Python to read."""
    return int(digits) if len(digits) <= MOST_DIGITS else float("inf")


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON; leave the field out or send null where the contract allows it")


def _has_date_bounds(field: Field) -> bool:
    return field.kind in ("date", "datetime") and any(
        getattr(field, code) is not None for code in ("ge", "gt", "le", "lt")
    )


def _member(field: Field) -> tuple[str, Any] | tuple[str, Any, Any]:
    base = _type(field)
    if field.optional:
        return (field.name, base | None, None)
    return (field.name, base)


def _type(field: Field) -> Any:
    """The field's type for msgspec, which judges as it decodes."""
    rules: dict[str, Any] = {}
    match field.kind:
        case "category":
            return Literal[field.values]
        case "float" | "int":
            bounds = {code: bound_of(field, code) for code in ("ge", "gt", "le", "lt")}
            if field.kind == "int":  # msgspec takes no bounds beyond 64 bits, and none of 2.5
                bounds = dict(zip(("ge", "le"), field.whole_range, strict=True))
            rules = {code: bound for code, bound in bounds.items() if bound is not None}
            base: Any = float if field.kind == "float" else int
        case "text":
            rules = {
                code: getattr(field, code) for code in ("min_length", "max_length") if getattr(field, code) is not None
            }
            if field.pattern is not None:
                rules["pattern"] = rf"^(?:{field.pattern})\Z"
            base = str
        case kind:
            base = {"bool": bool, "date": date, "datetime": datetime}[kind]
    return Annotated[base, msgspec.Meta(**rules)] if rules else base
