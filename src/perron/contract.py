"""An annotated class in; a Schema out: the inert description of a table that everything else reads.

    class House(pn.Contract):
        households: Annotated[float, pn.Ge(1)]
        total_bedrooms: Annotated[float, pn.Ge(0)] | None
        ocean_proximity: Literal["INLAND", "NEAR BAY"]
        median_house_value: Annotated[float, pn.Ge(0), pn.Unit("USD"), pn.Target]

A contract that makes no sense is refused when the class is made. A Schema holds no code: it is
written as JSON into every bundle and read back by the server. What a value must be is stated here
once (`Field`), and judged in one place (`perron.check`).
"""

import ast
import inspect
import keyword
import math
import re
import sys
import textwrap
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal, Union, cast, get_args, get_origin, get_type_hints

import annotated_types as at

from perron.digest import digest
from perron.errors import ContractError, nearest

__all__ = [
    "Column",
    "Contract",
    "Field",
    "Kind",
    "Pattern",
    "Role",
    "Schema",
    "Unit",
    "check_schema",
    "format_number",
    "schema_of",
]

FORMAT = 1
INT_MIN, INT_MAX = -(2**63), 2**63 - 1

Kind = Literal["float", "int", "bool", "text", "category", "date", "datetime"]
Scalar = str | int | float | bool | date | datetime
Bound = int | float | date | datetime
SensitiveHow = Literal["hash", "drop"]  # what the prediction log keeps of a sensitive field: a keyed digest, or nothing

KINDS: dict[object, Kind] = {float: "float", int: "int", bool: "bool", str: "text", date: "date", datetime: "datetime"}
NOUNS: dict[Kind, str] = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "text": "text",
    "date": "a date (YYYY-MM-DD)",
    "datetime": "a date and time (ISO 8601)",
}
ORDERED = ("float", "int", "date", "datetime")


class Role(Enum):
    """What a field is for; a field without a role is a feature."""

    TARGET = "target"
    ID = "id"
    TIME = "time"
    GROUP = "group"
    WEIGHT = "weight"
    SENSITIVE = "sensitive"
    IGNORE = "ignore"


@dataclass(frozen=True)
class Unit:
    """The unit that a field is measured in, for people: `Unit("USD")`."""

    name: str


@dataclass(frozen=True)
class Column:
    """The column's name in the source, where it can't be the field's: `Column("mean radius")`."""

    name: str


@dataclass(frozen=True)
class Pattern:
    """A regular expression that the whole of a text must match."""

    regex: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """One column of a contract: its kind, its rules, its roles and its words.

    `column` is the name in sources; `name` is the name everywhere else. Bounds of dates and
    datetimes are `date` and `datetime` (naive means UTC). `in_requests` marks one that the model doesn't
    see and a request must hold all the same, since a row's past is found by it.
    """

    name: str
    kind: Kind
    column: str
    optional: bool = False
    values: tuple[str, ...] | tuple[int, ...] = ()
    ge: Bound | None = None
    gt: Bound | None = None
    le: Bound | None = None
    lt: Bound | None = None
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    roles: tuple[Role, ...] = ()
    unit: str | None = None
    doc: str | None = None
    in_requests: bool = False

    @property
    def is_target(self) -> bool:
        return Role.TARGET in self.roles

    @property
    def is_feature(self) -> bool:
        """Whether the model sees it."""
        return not {Role.TARGET, Role.ID, Role.GROUP, Role.WEIGHT, Role.IGNORE}.intersection(self.roles)

    @property
    def is_asked(self) -> bool:
        """Whether a row to predict comes with it: the features, and what places a row in its series."""
        return self.is_feature or self.in_requests

    @property
    def is_numeric_category(self) -> bool:
        return bool(self.values) and isinstance(self.values[0], int)

    @property
    def whole_range(self) -> tuple[int, int]:
        """The least and the greatest number that the bounds of an int field allow, within 64 bits."""
        low, high = INT_MIN, INT_MAX
        if self.ge is not None:
            low = max(low, math.ceil(cast(float, self.ge)))
        if self.gt is not None:
            low = max(low, math.floor(cast(float, self.gt)) + 1)
        if self.le is not None:
            high = min(high, math.floor(cast(float, self.le)))
        if self.lt is not None:
            high = min(high, math.ceil(cast(float, self.lt)) - 1)
        return low, high

    @property
    def expected(self) -> str:
        """What a value must be, in words: `a number ≥ 0 and ≤ 10`."""
        rules = [self.rules[code] for code in self.rules if code not in ("values", "required")]
        return " ".join([self._noun, " and ".join(rules)]) if rules else self._noun

    def expected_by(self, rule: str) -> str:
        """What one rule expects, in words: `a number ≥ 0`."""
        return self.rules[rule] if rule == "values" else f"{self._noun} {self.rules[rule]}"

    @property
    def _noun(self) -> str:
        if self.values:
            return "one of " + ", ".join(map(repr, self.values))
        return NOUNS[self.kind]

    @property
    def rules(self) -> dict[str, str]:
        """The field's rules by code (`ge`), each in words (`≥ 0`)."""
        words: dict[str, str] = {}
        if self.values:
            words["values"] = "one of " + ", ".join(map(repr, self.values))
        for code, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<")):
            bound = getattr(self, code)
            if bound is not None:
                words[code] = f"{sign} {bound.isoformat() if isinstance(bound, date) else format_number(bound)}"
        if self.multiple_of is not None:
            words["multiple_of"] = f"a multiple of {format_number(self.multiple_of)}"
        if self.min_length is not None:
            words["min_length"] = f"at least {self.min_length} characters"
        if self.max_length is not None:
            words["max_length"] = f"at most {self.max_length} characters"
        if self.pattern is not None:
            words["pattern"] = f"matching {self.pattern}"
        if not self.optional:
            words["required"] = "given and not null"
        return words


@dataclass(frozen=True)
class Schema:
    """The inert description of a contract: name, words and fields in order."""

    name: str
    doc: str | None
    fields: tuple[Field, ...]

    def __getitem__(self, name: str) -> Field:
        """The field of that name.

        Raises:
            ContractError: there is none; names the nearest.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise ContractError(f"{self.name} has no field {name!r}; {nearest(name, (f.name for f in self.fields))}")

    def __contains__(self, name: object) -> bool:
        return any(field.name == name for field in self.fields)

    @property
    def target(self) -> Field | None:
        return next((field for field in self.fields if field.is_target), None)

    @property
    def features(self) -> tuple[Field, ...]:
        """The fields that the model sees, in order."""
        return tuple(field for field in self.fields if field.is_feature)

    @property
    def request(self) -> tuple[Field, ...]:
        """The fields that a request may hold: all but the target; only those that `is_asked` are required."""
        return tuple(
            field if field.is_asked else replace(field, optional=True) for field in self.fields if not field.is_target
        )

    def with_role(self, role: Role) -> Field | None:
        """The first field with the role, or None."""
        return next((field for field in self.fields if role in field.roles), None)

    @property
    def digest(self) -> str:
        return digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The schema as plain JSON data; `from_json` reads it back, equal."""
        return {
            "format": FORMAT,
            "name": self.name,
            "doc": self.doc,
            "fields": [
                {
                    key: _plain(value)
                    for key, value in vars(field).items()
                    if not (value is None or value is False or value == ())
                }
                for field in self.fields
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Schema":
        """The schema that `to_json` wrote.

        Raises:
            ContractError: the data is of a newer format, or isn't a schema.
        """
        try:
            if data["format"] > FORMAT:
                raise ContractError(f"This contract has format {data['format']}, newer than {FORMAT}; update perron.")
            schema = cls(data["name"], data["doc"], tuple(_field_from_json(item) for item in data["fields"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"Not a contract: {error}") from error
        check_schema(schema, needs_target=False)
        return schema


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Role):
        return value.value
    return value.isoformat() if isinstance(value, date) else value


def _field_from_json(item: Mapping[str, Any]) -> Field:
    made = dict(item)
    made["values"] = tuple(made.get("values", ()))
    made["roles"] = tuple(Role(role) for role in made.get("roles", ()))
    for code in ("ge", "gt", "le", "lt"):
        if isinstance(made.get(code), str):
            made[code] = (datetime if item["kind"] == "datetime" else date).fromisoformat(made[code])
    return Field(**made)


class _OnceOnly(dict[str, Any]):
    """A class body's annotations, refusing a name that is given twice."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            raise ContractError(f"The field {name!r} is declared twice; remove one of the two.")
        super().__setitem__(name, value)


class _ContractMeta(type):
    @classmethod
    def __prepare__(mcs, name: str, bases: tuple[type, ...], /, **_: Any) -> dict[str, object]:
        # Up to Python 3.13 a class body writes its annotations here, one by one; from 3.14 on they
        # are a function, and a double is found in the class's source instead (`_read_source`).
        return {"__annotations__": _OnceOnly()} if sys.version_info < (3, 14) else {}


class Contract(metaclass=_ContractMeta):
    """Base class of contracts: annotate the columns of your table, mark one as `pn.Target`.

    Types: float, int, bool, str, Literal (all text or all whole numbers), date, datetime; `| None`
    where a value may be missing. Rules: Ge, Gt, Le, Lt, Interval, MultipleOf, Len, MinLen, MaxLen of
    annotated-types, and Pattern. Roles: Target, Id, Time, Group, Weight, Sensitive, Ignore. A string
    below a field is its description. A contract without a target is made with
    `class Visit(pn.Contract, target=False)`.

    Raises:
        ContractError: the class makes no sense; says what to change.
    """

    __schema__: ClassVar[Schema]

    def __init_subclass__(cls, target: bool = True, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__schema__ = _compile(cls, needs_target=target)

    def __init__(self) -> None:
        raise ContractError(f"{type(self).__name__} describes rows and has no instances; pass the class itself.")


def schema_of(contract: type[Contract] | Schema) -> Schema:
    """The schema of a contract class; a schema is returned as it is.

    Raises:
        ContractError: it is neither.
    """
    if isinstance(contract, Schema):
        return contract
    if isinstance(contract, type) and issubclass(contract, Contract) and contract is not Contract:
        return contract.__schema__
    raise ContractError(f"Expected a class that derives from pn.Contract, got {contract!r:.60}.")


def _compile(cls: type[Contract], needs_target: bool) -> Schema:
    name = cls.__name__
    try:
        hints = get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise ContractError(f"{name}: {error}; import it at the top of the module that holds the contract.") from error
    except (AttributeError, SyntaxError, TypeError) as error:  # an annotation that was written as text
        reason = str(error).splitlines()[0]
        raise ContractError(f"{name} has an annotation that isn't a type: {reason}; mend it.") from error
    hints = {field: hint for field, hint in hints.items() if not field.startswith("__")}
    twice, docs = _read_source(cls)
    if twice:
        raise ContractError(f"The field {twice!r} is declared twice in {name}; remove one of the two.")
    for field, value in vars(cls).items():
        if field in hints:
            raise ContractError(f"{name}.{field} has a default value; write `| None` if it may be missing.")
        if not field.startswith("_") and _is_type(value):
            raise ContractError(f"{name}.{field} = … is no field; write `{field}: …`.")
    for base in cls.__mro__[1:]:
        if issubclass(base, Contract) and base is not Contract:
            docs = {**{field.name: field.doc for field in base.__schema__.fields if field.doc}, **docs}
    compiled = tuple(_field(name, field, hint, docs.get(field)) for field, hint in hints.items())
    schema = Schema(name, inspect.cleandoc(cls.__doc__) if cls.__doc__ else None, compiled)
    check_schema(schema, needs_target)
    return schema


def _is_type(value: Any) -> bool:
    """Whether it is what stands behind a field's colon."""
    return (isinstance(value, type) and value in KINDS) or get_origin(value) in (
        Annotated,
        Literal,
        Union,
        types.UnionType,
    )


def _read_source(cls: type) -> tuple[str | None, dict[str, str]]:
    """A field that the class's source declares twice (or None), and the strings below fields.

    Raises:
        ContractError: a Literal lists a value twice (Python drops the double from the type).
    """
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    except (OSError, TypeError, SyntaxError, IndexError):
        return None, {}  # no source: a class typed at a prompt has no descriptions
    seen: set[str] = set()
    docs: dict[str, str] = {}
    last = None
    for node in body.body if isinstance(body, ast.ClassDef) else ():
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.target.id
            if last in seen:
                return last, docs
            seen.add(last)
            double = _double_in_literal(node.annotation)
            if double is not None:
                raise ContractError(f"{cls.__name__}.{last} lists {double!r} twice; remove one.")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            if last is not None:
                docs[last] = inspect.cleandoc(node.value.value)
            last = None
        else:
            last = None
    return None, docs


def _double_in_literal(annotation: ast.expr) -> object | None:
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == "Literal":
            listed = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
            values = [value.value for value in listed if isinstance(value, ast.Constant)]
            for place, value in enumerate(values):
                if any(value == other and type(value) is type(other) for other in values[:place]):
                    return value
    return None


def _field(owner: str, name: str, hint: Any, doc: str | None) -> Field:
    place = f"{owner}.{name}"
    base, metadata, optional = _unwrap(hint)
    values: tuple[Any, ...] = ()
    if get_origin(base) is Literal:
        values = tuple(value for value in get_args(base) if value is not None)
        optional = optional or None in get_args(base)
        kind: Kind = "category"
        _check_values(place, values)
    elif isinstance(base, type) and base in KINDS:
        kind = KINDS[base]
    else:
        got = getattr(base, "__name__", str(base))
        raise ContractError(
            f"{place} has type {got}; use float, int, bool, str, Literal, date or datetime, or one of these | None."
        )
    found: dict[str, Any] = {"doc": doc}
    roles: list[Role] = []
    column = name
    for item in _flatten(metadata):
        match item:
            case Role():
                roles.append(item)
            case Unit():
                found["unit"] = item.name
            case Column():
                column = item.name
            case Pattern():
                found["pattern"] = item.regex
            case at.Ge() | at.Gt() | at.Le() | at.Lt():
                code = type(item).__name__.lower()
                bound = cast(Bound | None, getattr(item, code))
                found[code] = _tighter(place, code, found.get(code), bound)
            case at.MultipleOf():
                found["multiple_of"] = item.multiple_of
            case at.MinLen():
                found["min_length"] = item.min_length
            case at.MaxLen():
                found["max_length"] = item.max_length
            case _ if isinstance(getattr(item, "documentation", None), str):  # Doc of PEP 727, whoever's
                found["doc"] = item.documentation
            case _:
                raise ContractError(
                    f"{place} has an annotation that Perron can't read, {item!r:.60}; "
                    "use annotated-types (Ge, Le, Len, MultipleOf …), pn.Pattern, pn.Unit or a role."
                )
    return Field(name=name, kind=kind, column=column, optional=optional, values=values, roles=tuple(roles), **found)


def _unwrap(hint: Any) -> tuple[Any, list[Any], bool]:
    """The bare type, its metadata, and whether None is allowed, however the three are nested."""
    metadata: list[Any] = []
    optional = False
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            hint, *more = get_args(hint)
            metadata.extend(more)
        elif origin in (Union, types.UnionType) and type(None) in get_args(hint):
            rest = [arg for arg in get_args(hint) if arg is not type(None)]
            optional = True
            if len(rest) != 1:
                return hint, metadata, optional
            hint = rest[0]
        else:
            return hint, metadata, optional


def _flatten(metadata: Iterable[Any]) -> Iterable[Any]:
    """Grouped metadata (Interval, Len) as its parts."""
    for item in metadata:
        if isinstance(item, at.GroupedMetadata) and not isinstance(item, str):
            yield from _flatten(item)
        else:
            yield item


def _tighter(place: str, code: str, old: Any, new: Any) -> Any:
    if old is None or new is None:
        return new if old is None else old
    try:
        is_higher = _comparable(new) > _comparable(old)
    except TypeError as error:
        raise ContractError(
            f"{place} has the bounds {code}={old!r} and {code}={new!r}, of two types; keep one."
        ) from error
    return new if is_higher == (code in ("ge", "gt")) else old


def _comparable(bound: Any) -> Any:
    """The bound; a naive datetime as UTC."""
    return bound.replace(tzinfo=bound.tzinfo or UTC) if isinstance(bound, datetime) else bound


def _check_values(place: str, values: tuple[Any, ...]) -> None:
    if not values:
        raise ContractError(f"{place} is a Literal without values; list at least two.")
    if any(isinstance(value, bool) for value in values):
        raise ContractError(f"{place} is a Literal of truth values; use bool.")
    if {type(value) for value in values} not in ({str}, {int}):
        raise ContractError(f"{place} mixes types in its Literal; use only text or only whole numbers.")
    if isinstance(values[0], int) and not all(INT_MIN <= value <= INT_MAX for value in values):
        raise ContractError(f"{place} has a whole number beyond 64 bits in its Literal; write them as text.")


def check_schema(schema: Schema, needs_target: bool = True) -> None:
    """Nothing, when the schema makes sense.

    Raises:
        ContractError: it doesn't; names the field and what to change.
    """
    name = schema.name
    if not schema.fields:
        raise ContractError(f"{name} has no fields; annotate the columns of your table.")
    seen: dict[str, str] = {}
    for field in schema.fields:
        _check_field(f"{name}.{field.name}", field)
        if field.name in seen.values():
            raise ContractError(f"The field {field.name!r} is declared twice in {name}; remove one of the two.")
        if field.column in seen:
            raise ContractError(
                f"{name}.{field.name} and {name}.{seen[field.column]} both read the column {field.column!r}; "
                "a name can be used once."
            )
        seen[field.column] = field.name
    targets = [field for field in schema.fields if field.is_target]
    if len(targets) > 1:
        both = " and ".join(field.name for field in targets)
        raise ContractError(f"{name} has {len(targets)} targets, {both}; mark one as pn.Target.")
    if needs_target and not targets:
        raise ContractError(
            f"{name} has no target; mark the field to predict as pn.Target (or declare it with target=False)."
        )
    for role in (Role.ID, Role.TIME, Role.WEIGHT):
        owners = [field.name for field in schema.fields if role in field.roles]
        if len(owners) > 1:
            raise ContractError(
                f"{name} marks {' and '.join(owners)} as pn.{role.name.title()}; only one field can be."
            )
    if not schema.features:
        raise ContractError(f"{name} has nothing to predict from; leave at least one field without a role.")
    target = targets[0] if targets else None
    if target and target.kind == "category" and len(target.values) < 2:
        raise ContractError(f"{name}.{target.name} has one class; list at least two.")


def _check_field(place: str, field: Field) -> None:
    if not field.name.isidentifier() or keyword.iskeyword(field.name) or field.name.startswith("_"):
        raise ContractError(
            f"{place} can't be a field's name; use letters, digits and _, and pn.Column for the source's."
        )
    if field.kind not in KINDS.values() and field.kind != "category":
        raise ContractError(f"{place} has the kind {field.kind!r}; use {', '.join(KINDS.values())} or category.")
    for word in ("column", "unit"):
        if (text := getattr(field, word)) is not None and not (isinstance(text, str) and text):
            raise ContractError(f"{place} has the {word} {text!r}; give its name as text.")
    if field.kind == "category":
        _check_values(place, field.values)
    if len(set(field.values)) != len(field.values):
        double = next(value for value in field.values if list(field.values).count(value) > 1)
        raise ContractError(f"{place} lists {double!r} twice; remove one.")
    bounds = {code: getattr(field, code) for code in ("ge", "gt", "le", "lt") if getattr(field, code) is not None}
    if bounds and field.kind not in ORDERED:
        raise ContractError(
            f"{place} is {field.kind} and can't have the bound {field.rules[next(iter(bounds))]}; remove it."
        )
    for code, bound in bounds.items():
        _check_bound(place, field, code, bound)
    if field.multiple_of is not None:
        if field.kind not in ("float", "int") or not _is_number(field.multiple_of) or not field.multiple_of > 0:
            raise ContractError(f"{place} has multiple_of {field.multiple_of}; it goes with numbers and must be > 0.")
        if field.kind == "int" and (field.multiple_of != int(field.multiple_of) or field.multiple_of > INT_MAX):
            raise ContractError(
                f"{place} is int with multiple_of {field.multiple_of}; use a whole number of at most 64 bits."
            )
    _check_range(place, field)
    lengths = [length for length in (field.min_length, field.max_length) if length is not None]
    if (lengths or field.pattern is not None) and field.kind != "text":
        raise ContractError(f"{place} is {field.kind}; a length or pattern goes with str.")
    if any(type(length) is not int for length in lengths):
        raise ContractError(f"{place} has the length {lengths[-1]!r}; use whole numbers.")
    if any(length < 0 for length in lengths) or lengths != sorted(lengths):
        raise ContractError(f"{place} has an impossible length, from {field.min_length} to {field.max_length}.")
    if field.pattern is not None:
        _check_pattern(place, field.pattern)
    _check_roles(place, field)


def _check_pattern(place: str, pattern: Any) -> None:
    try:
        re.compile(pattern)
    except (re.error, TypeError, RecursionError, OverflowError) as error:
        raise ContractError(f"{place} has a pattern that isn't a regular expression: {error}.") from error
    try:
        re.compile(rf"(?:{pattern})\Z")  # as it is judged: the whole text must match
    except re.error as error:
        raise ContractError(
            f"{place} has a regular expression that can't be a part of another: {error}; write flags as (?i:…)."
        ) from error


def _is_number(value: Any) -> bool:
    """Whether it is a finite number that fits a float64."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _check_bound(place: str, field: Field, code: str, bound: Any) -> None:
    if field.kind in ("float", "int"):
        fits = _is_number(bound)
    else:
        fits = isinstance(bound, date) and isinstance(bound, datetime) == (field.kind == "datetime")
    if not fits:
        raise ContractError(f"{place} is {field.kind} and has the bound {code}={bound!r}; give a {field.kind}.")


def _check_range(place: str, field: Field) -> None:
    for low_code, low in (("ge", field.ge), ("gt", field.gt)):
        for high_code, high in (("le", field.le), ("lt", field.lt)):
            if low is None or high is None:
                continue
            strict = low_code == "gt" or high_code == "lt"
            a, b = _comparable(low), _comparable(high)
            if a > b or (strict and a == b):
                words = f"{field.rules[low_code]} and {field.rules[high_code]}"
                raise ContractError(
                    f"{place} has an impossible range, {words}: no value fits; swap or widen the bounds."
                )
    if field.kind == "int":
        least, greatest = field.whole_range
        step = int(field.multiple_of or 1)
        if -(-least // step) * step > greatest:
            words = " and ".join(field.rules[code] for code in field.rules if code != "required")
            raise ContractError(f"{place} has an impossible range, {words}: no whole number of 64 bits fits; widen it.")


def _check_roles(place: str, field: Field) -> None:
    if len(set(field.roles)) != len(field.roles):
        raise ContractError(f"{place} has the same role twice; remove one.")
    exclusive = [role for role in field.roles if role not in (Role.SENSITIVE, Role.TIME)]
    if len(exclusive) > 1:
        raise ContractError(f"{place} can't be {' and '.join(role.value for role in exclusive)} at once; choose one.")
    if Role.TIME in field.roles and field.kind not in ("date", "datetime", "int", "float"):
        raise ContractError(f"{place} is pn.Time and {field.kind}; use date, datetime or a number.")
    if Role.WEIGHT in field.roles and field.kind not in ("float", "int"):
        raise ContractError(f"{place} is pn.Weight and {field.kind}; use float.")
    if field.is_target:
        if field.optional:
            raise ContractError(
                f"{place} is the target and may be None; remove `| None`: rows without it go to quarantine."
            )
        if field.kind in ("text", "date", "datetime"):
            hint = "list its classes with Literal" if field.kind == "text" else "use float or int"
            raise ContractError(f"{place} is the target and {field.kind}; {hint}.")


def format_number(number: Any) -> str:
    """A number as people write it: `60000`, not `60000.0`."""
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return str(number)
