"""Contracts: what is accepted, what is refused and with which words, and the schema that remains."""

import json
import math
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated, Any, ClassVar, Literal, Optional, Union

import annotated_types as at
import pytest
from hypothesis import given
from schemas import schemas

import perron as pn
from perron.contract import Field, Kind, Role, Schema, check_schema, schema_of
from perron.errors import ContractError


def contract(target: bool = True, doc: str | None = None, **hints: Any) -> Schema:
    """The schema of a contract with these annotations, and a target."""
    if target:
        hints = {**hints, "y": Annotated[float, pn.Target]}
    body = {"__annotations__": hints, "__module__": __name__}
    if doc:
        body["__doc__"] = doc
    made: Any = type(pn.Contract)("Made", (pn.Contract,), body, target=target)
    return schema_of(made)


def field_of(hint: Any) -> Field:
    return contract(x=hint, z=float)["x"]


def refusal(**hints: Any) -> str:
    """What a contract with these annotations, and a target, is refused with: one line."""
    with pytest.raises(ContractError) as caught:
        contract(z=float, **hints)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ------------------------------------------------------------------ what is accepted


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (float, "float"),
        (int, "int"),
        (bool, "bool"),
        (str, "text"),
        (date, "date"),
        (datetime, "datetime"),
        (Literal["a", "b"], "category"),
        (Literal[1, 2], "category"),
        (Literal["one"], "category"),
    ],
)
def test_every_type_is_accepted_with_and_without_none(hint: Any, kind: Kind) -> None:
    assert field_of(hint).kind == kind
    assert not field_of(hint).optional
    for optional in (hint | None, Optional[hint], Union[None, hint], Annotated[hint, pn.Unit("m")] | None):  # noqa: UP007, UP045
        assert field_of(optional).kind == kind
        assert field_of(optional).optional


def test_none_among_the_values_of_a_literal_makes_the_field_optional() -> None:
    field = field_of(Literal["a", None, "b"])
    assert (field.values, field.optional) == (("a", "b"), True)


def test_rules_are_read_however_they_are_nested() -> None:
    nested = Annotated[Annotated[float, pn.Ge(0)] | None, pn.Le(5), pn.Unit("m")]
    field = field_of(nested)
    assert (field.ge, field.le, field.unit, field.optional) == (0, 5, "m", True)


@pytest.mark.parametrize(
    ("hint", "facts"),
    [
        (Annotated[float, pn.Ge(1)], {"ge": 1}),
        (Annotated[float, pn.Gt(1)], {"gt": 1}),
        (Annotated[int, pn.Le(1)], {"le": 1}),
        (Annotated[int, pn.Lt(1)], {"lt": 1}),
        (Annotated[float, at.Interval(ge=0, lt=2)], {"ge": 0, "lt": 2}),
        (Annotated[float, at.MultipleOf(0.5)], {"multiple_of": 0.5}),
        (Annotated[int, at.MultipleOf(5)], {"multiple_of": 5}),
        (Annotated[str, pn.Len(1, 3)], {"min_length": 1, "max_length": 3}),
        (Annotated[str, at.MinLen(2)], {"min_length": 2}),
        (Annotated[str, at.MaxLen(2)], {"max_length": 2}),
        (Annotated[str, pn.Pattern("a+")], {"pattern": "a+"}),
        (Annotated[date, pn.Ge(date(2020, 1, 1))], {"ge": date(2020, 1, 1)}),
        (Annotated[datetime, pn.Lt(datetime(2020, 1, 1))], {"lt": datetime(2020, 1, 1)}),
        (Annotated[float, pn.Unit("USD")], {"unit": "USD"}),
        (Annotated[float, pn.Column("mean radius")], {"column": "mean radius"}),
        (Annotated[float, at.doc("How wide.")], {"doc": "How wide."}),
        (Annotated[float, pn.Ge(0), pn.Ge(2)], {"ge": 2}),
        (Annotated[float, pn.Le(9), pn.Le(7)], {"le": 7}),
        (Annotated[datetime, pn.Ge(datetime(2020, 1, 1)), pn.Ge(datetime(2021, 1, 1, tzinfo=UTC))], {"ge": datetime(2021, 1, 1, tzinfo=UTC)}),
    ],
)  # fmt: skip
def test_every_rule_is_kept_and_nothing_else(hint: Any, facts: dict[str, Any]) -> None:
    field = field_of(hint)
    plain = Field(name="x", kind=field.kind, column="x")
    assert field == replace(plain, **facts)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.TARGET])
def test_every_role_is_kept_and_says_whether_the_model_sees_the_field(role: Role) -> None:
    hint = {Role.TIME: date, Role.WEIGHT: float}.get(role, str)
    schema = contract(x=Annotated[hint, role], z=float)
    assert schema["x"].roles == (role,)
    assert schema.with_role(role) == schema["x"]
    assert schema["x"].is_feature == (role in (Role.TIME, Role.SENSITIVE))


def test_the_public_roles_are_the_contracts_roles() -> None:
    assert (pn.Target, pn.Id, pn.Time, pn.Group) == (Role.TARGET, Role.ID, Role.TIME, Role.GROUP)
    assert (pn.Weight, pn.Sensitive, pn.Ignore) == (Role.WEIGHT, Role.SENSITIVE, Role.IGNORE)


def test_a_feature_may_be_sensitive_and_time_at_once() -> None:
    assert field_of(Annotated[date, pn.Time, pn.Sensitive]).roles == (Role.TIME, Role.SENSITIVE)


def test_a_contract_without_a_target_is_made_when_asked_for() -> None:
    assert contract(target=False, x=float).target is None


def test_a_contract_inherits_the_fields_of_its_base_and_their_descriptions() -> None:
    class Base(pn.Contract, target=False):
        x: float
        """How wide."""

    class Child(Base):
        y: Annotated[float, pn.Target]

    assert [(field.name, field.doc) for field in Child.__schema__.fields] == [("x", "How wide."), ("y", None)]


def test_the_docs_of_class_and_fields_are_kept() -> None:
    class House(pn.Contract):
        """A house.

        And its price.
        """

        rooms: float
        """How many rooms,
        kitchens aside."""
        price: Annotated[float, pn.Target]

    assert House.__schema__.doc == "A house.\n\nAnd its price."
    assert House.__schema__["rooms"].doc == "How many rooms,\nkitchens aside."
    assert House.__schema__["price"].doc is None


def test_a_module_with_postponed_annotations_gives_the_same_schema(load_module: Any) -> None:
    source = '''
from typing import Annotated, Literal
import perron as pn

class House(pn.Contract):
    """A house."""
    rooms: Annotated[float, pn.Ge(0)] | None
    """How many."""
    place: Literal["a", "b"]
    price: Annotated[float, pn.Target]
'''
    now = load_module(source)
    later = load_module("from __future__ import annotations\n" + source)
    assert now.House.__schema__ == later.House.__schema__
    assert now.House.__schema__["rooms"].doc == "How many."


def test_a_class_variable_is_no_field() -> None:
    with pytest.raises(ContractError, match=r"Made\.x has type"):
        contract(x=ClassVar[int])


def test_the_features_of_a_request_are_required_and_the_rest_is_optional() -> None:
    schema = contract(key=Annotated[str, pn.Id], x=float, w=Annotated[float, pn.Weight], o=float | None)
    assert [(field.name, field.optional) for field in schema.request] == [
        ("key", True), ("x", False), ("w", True), ("o", True),
    ]  # fmt: skip
    assert [field.name for field in schema.features] == ["x", "o"]


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("hints", "words"),
    [
        # types
        ({"x": list[int]}, ["Made.x", "use float, int, bool, str"]),
        ({"x": bytes}, ["Made.x has type bytes"]),
        ({"x": int | str}, ["Made.x", "use float"]),
        ({"x": int | str | None}, ["Made.x", "use float"]),
        ({"x": None}, ["Made.x has type NoneType"]),
        ({"x": complex}, ["Made.x has type complex"]),
        ({"x": Any}, ["Made.x has type Any"]),
        ({"x": 3}, ["Made"]),
        ({"x": "no python"}, ["Made", "no python"]),
        ({"x": "Nowhere"}, ["Made", "Nowhere", "import it"]),
        ({"x": "pn.Nonsense"}, ["Made", "Nonsense"]),
        # literals
        ({"x": Literal[1, "a"]}, ["Made.x mixes types"]),
        ({"x": Literal[True, False]}, ["Made.x", "use bool"]),
        ({"x": Literal[1, True]}, ["Made.x", "use bool"]),
        ({"x": Literal[None]}, ["Made.x", "list at least two"]),
        ({"x": Literal[b"a", b"b"]}, ["Made.x mixes types"]),
        ({"x": Literal[2**63, 1]}, ["Made.x", "64 bits"]),
        # annotations that mean nothing here
        ({"x": Annotated[float, "metres"]}, ["Made.x", "can't read", "'metres'"]),
        ({"x": Annotated[float, at.Predicate(math.isfinite)]}, ["Made.x", "can't read"]),
        # bounds
        ({"x": Annotated[float, pn.Ge(2), pn.Le(1)]}, ["Made.x", "impossible range", "≥ 2", "≤ 1"]),
        ({"x": Annotated[float, pn.Gt(1), pn.Lt(1)]}, ["Made.x", "impossible range"]),
        ({"x": Annotated[float, pn.Ge(1), pn.Lt(1)]}, ["Made.x", "impossible range"]),
        ({"x": Annotated[float, pn.Gt(1), pn.Le(1)]}, ["Made.x", "impossible range"]),
        ({"x": Annotated[int, pn.Gt(1), pn.Lt(2)]}, ["Made.x", "impossible range"]),
        ({"x": Annotated[int, pn.Ge(2**63)]}, ["Made.x", "impossible range"]),
        ({"x": Annotated[int, pn.Ge(1), pn.Le(4), at.MultipleOf(5)]}, ["Made.x", "impossible range", "multiple of 5"]),
        ({"x": Annotated[date, pn.Ge(date(2021, 1, 1)), pn.Le(date(2020, 1, 1))]}, ["Made.x", "2021-01-01"]),
        ({"x": Annotated[datetime, pn.Ge(datetime(2021, 1, 1)), pn.Lt(datetime(2021, 1, 1, tzinfo=UTC))]}, ["Made.x", "impossible range"]),
        ({"x": Annotated[float, pn.Ge("1")]}, ["Made.x", "ge='1'", "give a float"]),
        ({"x": Annotated[float, pn.Ge(1), pn.Ge("1")]}, ["Made.x", "'1'"]),
        ({"x": Annotated[float, at.Interval(ge=True, lt=99)]}, ["Made.x", "ge=True"]),
        ({"x": Annotated[float, pn.Ge(math.nan)]}, ["Made.x", "nan"]),
        ({"x": Annotated[float, pn.Le(math.inf)]}, ["Made.x", "inf"]),
        ({"x": Annotated[int, pn.Ge(-math.inf)]}, ["Made.x", "inf"]),
        ({"x": Annotated[float, pn.Le(10**400)]}, ["Made.x"]),
        ({"x": Annotated[float, pn.Ge(date(2020, 1, 1))]}, ["Made.x", "give a float"]),
        ({"x": Annotated[date, pn.Ge(1)]}, ["Made.x", "give a date"]),
        ({"x": Annotated[date, pn.Ge(datetime(2020, 1, 1))]}, ["Made.x", "give a date"]),
        ({"x": Annotated[datetime, pn.Ge(date(2020, 1, 1))]}, ["Made.x", "give a datetime"]),
        ({"x": Annotated[str, pn.Ge("a")]}, ["Made.x is text", "bound"]),
        ({"x": Annotated[bool, pn.Ge(0)]}, ["Made.x is bool", "bound"]),
        ({"x": Annotated[Literal["a", "b"], pn.Ge(0)]}, ["Made.x is category", "bound"]),
        # multiples
        ({"x": Annotated[float, at.MultipleOf(0)]}, ["Made.x", "> 0"]),
        ({"x": Annotated[float, at.MultipleOf(-1)]}, ["Made.x", "> 0"]),
        ({"x": Annotated[float, at.MultipleOf(math.nan)]}, ["Made.x", "> 0"]),
        ({"x": Annotated[int, at.MultipleOf(math.inf)]}, ["Made.x", "multiple_of"]),
        ({"x": Annotated[float, at.MultipleOf("2")]}, ["Made.x", "multiple_of"]),
        ({"x": Annotated[float, at.MultipleOf(True)]}, ["Made.x", "multiple_of"]),
        ({"x": Annotated[int, at.MultipleOf(0.5)]}, ["Made.x is int", "whole number"]),
        ({"x": Annotated[int, at.MultipleOf(2**70)]}, ["Made.x is int", "64 bits"]),
        ({"x": Annotated[str, at.MultipleOf(2)]}, ["Made.x", "goes with numbers"]),
        # lengths and patterns
        ({"x": Annotated[float, pn.Len(1)]}, ["Made.x is float", "goes with str"]),
        ({"x": Annotated[float, pn.Pattern("a")]}, ["Made.x is float", "goes with str"]),
        ({"x": Annotated[str, at.MinLen(-1)]}, ["Made.x", "impossible length"]),
        ({"x": Annotated[str, pn.Len(3, 2)]}, ["Made.x", "impossible length", "from 3 to 2"]),
        ({"x": Annotated[str, at.MinLen(1.5)]}, ["Made.x", "length"]),
        ({"x": Annotated[str, at.MaxLen("2")]}, ["Made.x", "length"]),
        ({"x": Annotated[str, pn.Pattern("[")]}, ["Made.x", "isn't a regular expression"]),
        ({"x": Annotated[str, pn.Pattern("a)(b")]}, ["Made.x", "isn't a regular expression"]),
        ({"x": Annotated[str, pn.Pattern("(?i)abc")]}, ["Made.x", "regular expression", "(?i:"]),
        ({"x": Annotated[str, pn.Pattern(3)]}, ["Made.x", "regular expression"]),  # type: ignore[arg-type]
        # roles
        ({"x": Annotated[float, pn.Target]}, ["Made has 2 targets, x and y", "mark one"]),
        ({"x": Annotated[str, pn.Id, pn.Id]}, ["Made.x", "same role twice"]),
        ({"x": Annotated[str, pn.Id, pn.Group]}, ["Made.x can't be id and group", "choose one"]),
        ({"x": Annotated[float, pn.Weight, pn.Ignore]}, ["Made.x can't be weight and ignore"]),
        ({"x": Annotated[str, pn.Time]}, ["Made.x is pn.Time and text"]),
        ({"x": Annotated[str, pn.Weight]}, ["Made.x is pn.Weight and text"]),
        ({"x": Annotated[str, pn.Id], "w": Annotated[str, pn.Id]}, ["Made marks x and w as pn.Id"]),
        ({"x": Annotated[date, pn.Time], "w": Annotated[date, pn.Time]}, ["x and w as pn.Time"]),
        ({"x": Annotated[float, pn.Weight], "w": Annotated[float, pn.Weight]}, ["x and w as pn.Weight"]),
        # names and columns
        ({"_x": float}, ["Made._x can't be a field's name"]),
        ({"class": float}, ["Made.class can't be a field's name"]),
        ({"x y": float}, ["Made.x y can't be a field's name", "pn.Column"]),
        ({"x": Annotated[float, pn.Column("z")]}, ["Made.x and Made.z both read the column 'z'"]),
        ({"x": Annotated[float, pn.Column("")]}, ["Made.x", "column"]),
        ({"x": Annotated[float, pn.Column(3)]}, ["Made.x", "column"]),  # type: ignore[arg-type]
        ({"x": Annotated[float, pn.Unit(3)]}, ["Made.x", "unit"]),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_nonsense_is_refused_by_a_line_that_names_the_field_and_what_to_change(
    hints: dict[str, Any], words: list[str]
) -> None:
    message = refusal(**hints)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[float, pn.Target] | None, "may be None"),
        (Annotated[str, pn.Target], "list its classes with Literal"),
        (Annotated[date, pn.Target], "use float or int"),
        (Annotated[datetime, pn.Target], "use float or int"),
        (Annotated[Literal["only"], pn.Target], "one class"),
        (Annotated[float, pn.Target, pn.Id], "target and id"),
    ],
)
def test_a_target_that_cannot_be_predicted_is_refused(hint: Any, words: str) -> None:
    with pytest.raises(ContractError, match=words) as caught:
        contract(target=False, x=float, price=hint)
    assert "price" in str(caught.value)


def test_a_contract_without_a_target_is_refused() -> None:
    with pytest.raises(ContractError, match=r"House has no target; mark the field to predict as pn\.Target"):

        class House(pn.Contract):
            x: float


def test_a_contract_without_fields_is_refused() -> None:
    with pytest.raises(ContractError, match="Empty has no fields"):

        class Empty(pn.Contract):
            pass


def test_a_contract_without_features_is_refused() -> None:
    with pytest.raises(ContractError, match="nothing to predict from"):
        contract(x=Annotated[str, pn.Id])


def test_a_default_value_is_refused() -> None:
    with pytest.raises(ContractError, match=r"House\.x has a default value; write `\| None`"):

        class House(pn.Contract):
            x: float = 3.0
            y: Annotated[float, pn.Target]


def test_a_type_that_is_assigned_instead_of_annotated_is_refused() -> None:
    with pytest.raises(ContractError, match=r"House\.x = .* write `x: "):

        class House(pn.Contract):
            x = Annotated[float, pn.Ge(0)]
            z: float
            y: Annotated[float, pn.Target]


def test_a_field_that_is_declared_twice_is_refused() -> None:
    with pytest.raises(ContractError, match="field 'x' is declared twice"):

        class House(pn.Contract):
            x: float
            x: int  # type: ignore[no-redef]
            y: Annotated[float, pn.Target]


def test_a_double_is_found_in_the_source_where_the_class_body_does_not_tell() -> None:
    from perron.contract import _read_source

    class House:  # a plain class, whose annotations forget the first
        x: float
        x: int  # type: ignore[no-redef]

    assert _read_source(House)[0] == "x"


def test_a_class_that_a_literal_lists_twice_is_refused() -> None:
    """Python drops the double from the type, so only the source tells."""
    with pytest.raises(ContractError, match=r"House\.x lists 'NEAR BAY' twice"):

        class House(pn.Contract):
            x: Literal["NEAR BAY", "INLAND", "NEAR BAY"]
            y: Annotated[float, pn.Target]


def test_a_schema_that_lists_a_class_twice_is_refused() -> None:
    field = Field(name="x", column="x", kind="category", values=("a", "b", "a"))
    with pytest.raises(ContractError, match=r"House\.x lists 'a' twice"):
        check_schema(Schema("House", None, (field,)), needs_target=False)


def test_two_fields_of_one_name_are_refused_in_a_schema_too() -> None:
    pair = tuple(Field(name="x", column=column, kind="float") for column in ("a", "b"))
    with pytest.raises(ContractError, match=r"declared twice"):
        check_schema(Schema("House", None, pair), needs_target=False)


def test_a_contract_has_no_instances() -> None:
    class House(pn.Contract, target=False):
        x: float

    with pytest.raises(ContractError, match="House describes rows and has no instances"):
        House()


@pytest.mark.parametrize("thing", [pn.Contract, dict, 3, None, "House"])
def test_what_is_no_contract_has_no_schema(thing: Any) -> None:
    with pytest.raises(ContractError, match=r"derives from pn\.Contract"):
        schema_of(thing)


def test_an_unknown_field_is_asked_for_by_name() -> None:
    schema = contract(rooms=float)
    assert "rooms" in schema
    assert "price" not in schema
    with pytest.raises(ContractError, match="did you mean 'rooms'"):
        schema["room"]


# ------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (float, "a number given and not null"),
        (Annotated[float, pn.Ge(0), pn.Le(10)] | None, "a number ≥ 0 and ≤ 10"),
        (Annotated[float, pn.Lt(60_000.0)] | None, "a number < 60000"),
        (Annotated[int, at.MultipleOf(5)] | None, "a whole number a multiple of 5"),
        (Literal["a", "b", None], "one of 'a', 'b'"),
        (Annotated[str, pn.Len(1, 3)] | None, "text at least 1 characters and at most 3 characters"),
        (Annotated[date, pn.Gt(date(2020, 1, 1))] | None, "a date (YYYY-MM-DD) > 2020-01-01"),
    ],
)
def test_a_field_says_what_it_expects(hint: Any, words: str) -> None:
    assert field_of(hint).expected in (words, words.removesuffix(" given and not null"))


def test_one_rule_says_what_it_expects() -> None:
    field = field_of(Annotated[float, pn.Ge(0), pn.Le(10)])
    assert field.expected_by("le") == "a number ≤ 10"
    assert field_of(Literal["a", "b"]).expected_by("values") == "one of 'a', 'b'"


# ------------------------------------------------------------------ JSON and digests


@given(schemas())
def test_a_schema_survives_json(schema: Schema) -> None:
    text = json.dumps(schema.to_json(), allow_nan=False)
    read = Schema.from_json(json.loads(text))
    assert read == schema
    assert read.digest == schema.digest


FULL = Field(
    name="x", kind="text", column="x", optional=False, min_length=1, max_length=9, pattern="a", unit="m", doc="Words."
)
OTHERS: dict[str, Any] = {
    "name": "x2", "kind": "int", "column": "x3", "optional": True, "values": ("a", "b"), "ge": 1, "gt": 1, "le": 1,
    "lt": 1, "multiple_of": 2, "min_length": 2, "max_length": 8, "pattern": "b", "roles": (Role.ID,), "unit": "km",
    "doc": "Others.", "in_requests": True,
}  # fmt: skip


@pytest.mark.parametrize("attribute", [item.name for item in dataclass_fields(Field)])
def test_the_digest_changes_with_each_attribute_of_a_field(attribute: str) -> None:
    changed = replace(FULL, **{attribute: OTHERS[attribute]})
    assert Schema("S", None, (FULL,)).digest != Schema("S", None, (changed,)).digest


def test_the_digest_changes_with_name_doc_and_the_order_of_fields() -> None:
    pair = (FULL, replace(FULL, name="z", column="z"))
    schema = Schema("S", None, pair)
    assert len({schema.digest, Schema("T", None, pair).digest, Schema("S", "Doc", pair).digest, Schema("S", None, pair[::-1]).digest}) == 4  # fmt: skip


def test_bounds_of_one_value_and_two_types_differ_in_the_digest() -> None:
    made = [Schema("S", None, (Field(name="x", column="x", kind="float", ge=bound),)).digest for bound in (1, 1.5, "1")]  # type: ignore[arg-type]
    assert len(set(made)) == 3


@pytest.mark.parametrize(
    "data",
    [
        None, 3, [], {}, {"format": 1}, {"format": "1", "name": "S", "doc": None, "fields": []},
        {"format": 1, "name": "S", "doc": None, "fields": [{"name": "x"}]},
        {"format": 1, "name": "S", "doc": None, "fields": [{"name": "x", "kind": "float", "column": "x", "extra": 1}]},
        {"format": 1, "name": "S", "doc": None, "fields": [{"name": "x", "kind": "complex", "column": "x"}]},
        {"format": 1, "name": "S", "doc": None, "fields": [{"name": "x", "kind": "float", "column": "x", "roles": ["king"]}]},
        {"format": 1, "name": "S", "doc": None, "fields": [{"name": "x", "kind": "date", "column": "x", "ge": "soon"}]},
        {"format": 1, "name": "S", "doc": None, "fields": [{"name": "x", "kind": "float", "column": "x", "ge": 2, "le": 1}]},
    ],
)  # fmt: skip
def test_what_is_no_contract_is_not_read(data: Any) -> None:
    with pytest.raises(ContractError):
        Schema.from_json(data)


def test_a_contract_of_a_newer_format_asks_for_a_newer_perron() -> None:
    data = {**contract(x=float).to_json(), "format": 2}
    with pytest.raises(ContractError, match="format 2, newer than 1; update perron"):
        Schema.from_json(data)
