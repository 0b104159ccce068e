"""Two contracts beside each other: every change is named and judged, and what isn't breaking breaks no client."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from perron.check import judge_row
from perron.compatibility import bump_of, compare, next_version, worst
from perron.contract import Field, Role, Schema, check_schema
from perron.derive.sampler import rows
from perron.errors import ContractError, DeclarationError


def field(name: str, kind: Any = "float", **rules: Any) -> Field:
    return Field(name=name, kind=kind, column=rules.pop("column", name), **rules)


BASE = Schema(
    "House",
    None,
    (
        field("id", "text", roles=(Role.ID,)),
        field("rooms", "int", ge=1, le=100),
        field("income", unit="USD", ge=0),
        field("place", "category", values=("INLAND", "NEAR BAY")),
        field("note", "text", optional=True, max_length=20),
        field("built", "date", ge=date(1900, 1, 1)),
        field("value", roles=(Role.TARGET,), unit="USD"),
    ),
)


def altered(name: str, /, **rules: Any) -> Schema:
    return replace(BASE, fields=tuple(replace(f, **rules) if f.name == name else f for f in BASE.fields))


def levels(new: Schema, old: Schema = BASE) -> tuple[str, ...]:
    """The kinds of the changes, and the worst level for clients, references, the ledger and a retrain."""
    changes = compare(old, new)
    return (
        " ".join(change.kind for change in changes),
        *(worst(change.effects[who] for change in changes) for who in ("clients", "references", "ledger", "retrain")),
    )


def test_a_contract_beside_itself_has_no_changes() -> None:
    assert compare(BASE, BASE) == []
    assert bump_of([]) == "none"


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (altered("rooms", le=200), ("wider", "additive", "additive", "none", "additive")),
        (altered("rooms", le=50), ("narrower", "breaking", "none", "additive", "none")),
        (altered("rooms", ge=0, le=50), ("other_rules", "breaking", "additive", "additive", "additive")),
        (altered("rooms", ge=None, gt=0), ("words", "none", "none", "none", "none")),
        (altered("place", values=("INLAND", "NEAR BAY", "ISLAND")), ("wider", "additive", "additive", "none", "breaking")),
        (altered("place", values=("INLAND", "ISLAND")), ("other_rules", "breaking", "additive", "additive", "breaking")),
        (altered("place", values=("NEAR BAY", "INLAND")), ("order", "none", "none", "none", "none")),
        (altered("income", ge=None, gt=0), ("narrower", "breaking", "none", "additive", "none")),
        (altered("note", max_length=10), ("narrower", "breaking", "none", "additive", "none")),
        (altered("note", pattern="[a-z]*"), ("narrower", "breaking", "none", "additive", "none")),
        (altered("note", optional=False), ("required", "breaking", "none", "additive", "none")),
        (altered("income", optional=True), ("optional", "additive", "additive", "none", "breaking")),
        (altered("income", unit="EUR"), ("unit", "breaking", "breaking", "breaking", "breaking")),
        (altered("value", unit="EUR"), ("unit", "breaking", "breaking", "breaking", "breaking")),
        (altered("rooms", kind="float"), ("kind", "additive", "additive", "additive", "breaking")),
        (altered("income", kind="int"), ("kind", "breaking", "additive", "additive", "breaking")),
        (altered("built", kind="datetime", ge=datetime(1900, 1, 1, tzinfo=UTC)), ("kind", "additive", "breaking", "breaking", "breaking")),
        (altered("place", kind="text", values=()), ("kind", "additive", "breaking", "breaking", "breaking")),
        (altered("value", kind="category", values=("low", "high")), ("kind", "breaking", "breaking", "breaking", "breaking")),
        (altered("rooms", roles=(Role.IGNORE,)), ("roles", "additive", "breaking", "none", "breaking")),
        (altered("note", roles=(Role.SENSITIVE,)), ("roles", "none", "none", "breaking", "none")),
        (altered("id", roles=()), ("roles", "breaking", "breaking", "breaking", "breaking")),
        (altered("note", doc="what the agent wrote"), ("words", "none", "none", "none", "none")),
        (altered("rooms", column="Rooms (n)"), ("column", "none", "none", "none", "none")),
        (replace(BASE, fields=BASE.fields[::-1]), ("order", "none", "none", "none", "none")),
    ],
)  # fmt: skip
def test_each_change_is_judged_for_each_audience(new: Schema, expected: tuple[str, ...]) -> None:
    assert levels(new) == expected


def test_fields_that_come_and_go() -> None:
    optional = replace(BASE, fields=(*BASE.fields, field("area", optional=True)))
    required = replace(BASE, fields=(*BASE.fields, field("area")))
    assert levels(optional) == ("added", "additive", "additive", "additive", "additive")
    assert levels(required) == ("added", "breaking", "additive", "additive", "additive")
    assert levels(BASE, old=required) == ("removed", "breaking", "breaking", "additive", "breaking")
    assert bump_of(compare(BASE, optional)) == "minor" and bump_of(compare(BASE, required)) == "major"


def test_a_renamed_field_is_told_as_one_change_with_its_other_changes() -> None:
    changes = compare(BASE, altered("rooms", name="room_count", column="rooms", le=200))
    assert [(change.kind, change.was, change.now) for change in changes][:1] == [("renamed", "rooms", "room_count")]
    assert [change.kind for change in changes] == ["renamed", "wider"]
    assert levels(altered("value", name="price", column="price"))[:2] == ("renamed", "none")


def test_the_target_moves_to_another_field() -> None:
    moved = replace(
        BASE,
        fields=tuple(
            replace(f, roles=(Role.TARGET,) if f.name == "income" else () if f.name == "value" else f.roles)
            for f in BASE.fields
        ),
    )
    assert levels(moved) == ("target target", "breaking", "breaking", "breaking", "breaking")


def test_a_new_class_of_the_target_is_new_to_those_who_read_answers() -> None:
    old = altered("value", kind="category", values=("low", "high"), unit=None)
    new = altered("value", kind="category", values=("low", "high", "middle"), unit=None)
    assert levels(new, old)[:2] == ("wider", "breaking")
    assert levels(old, new)[:2] == ("narrower", "additive")


def test_reasons_are_words_that_name_what_changed() -> None:
    (change,) = compare(BASE, altered("income", unit="EUR"))
    assert "EUR for USD" in change.effects["clients"].reason
    assert change.to_json()["effects"]["clients"]["level"] == "breaking"


@pytest.mark.parametrize(
    ("version", "bump", "expected"),
    [("1.4.2", "major", "2.0.0"), ("1.4.2", "minor", "1.5.0"), ("1.4.2", "patch", "1.4.3"), ("1.4.2", "none", "1.4.2"),
     ("0.4.2", "major", "0.5.0"), ("0.4.2", "minor", "0.4.3")],
)  # fmt: skip
def test_the_next_semantic_version(version: str, bump: Any, expected: str) -> None:
    assert next_version(version, bump) == expected


@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "1.2.3-rc", "01.2.3", "1.2.x"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(DeclarationError, match="three numbers"):
        next_version(version, "minor")


# ------------------------------------------------------------------ the law

NUMBERS = st.none() | st.integers(-3, 3)
DAYS = st.none() | st.sampled_from([date(2020, 1, 1), date(2021, 1, 1)])
ROLES = st.sampled_from([(), (), (), (Role.IGNORE,), (Role.SENSITIVE,), (Role.TARGET,)])


@st.composite
def fields(draw: Callable[[Any], Any], name: str) -> Field:
    kind = draw(st.sampled_from(["float", "int", "bool", "text", "category", "date", "datetime"]))
    rules: dict[str, Any] = {"optional": draw(st.booleans()), "roles": draw(ROLES)}
    if kind in ("float", "int"):
        rules |= {code: draw(NUMBERS) for code in draw(st.sets(st.sampled_from(["ge", "gt", "le", "lt"]), max_size=2))}
        rules["multiple_of"] = draw(st.sampled_from([None, None, 1, 2, 4] if kind == "int" else [None, None, 0.5, 1]))
    elif kind == "text":
        rules |= {"min_length": draw(st.sampled_from([None, 0, 1])), "max_length": draw(st.sampled_from([None, 2, 4]))}
        rules["pattern"] = draw(st.sampled_from([None, None, "[ab]{1,2}", "[0-9]?a"]))
    elif kind == "category":
        rules["values"] = draw(st.sampled_from([("a", "b"), ("a", "b", "c"), (1, 2), (1, 2, 3), ("2020-01-01", "a")]))
    elif kind == "date":
        rules |= {"ge": draw(DAYS)}
    elif kind == "datetime":
        day = draw(DAYS)
        rules |= {"ge": day and datetime(day.year, 1, 1, tzinfo=draw(st.sampled_from([None, UTC])))}
    return field(name, kind, **rules)


@st.composite
def contracts(draw: Callable[[Any], Any]) -> Schema:
    names = draw(st.lists(st.sampled_from(["x", "y", "xx", "z"]), min_size=1, max_size=3, unique=True))
    schema = Schema("T", None, tuple(draw(fields(name)) for name in names))
    try:
        check_schema(schema, needs_target=False)
    except ContractError:
        assume(False)
    return schema


@st.composite
def pairs(draw: Callable[[Any], Any]) -> tuple[Schema, Schema]:
    """A contract and another one: unlike it, or like it but for the fields of one name, which is nearer to life."""
    old = draw(contracts())
    if draw(st.booleans()):
        return old, draw(contracts())
    place = draw(st.integers(0, len(old.fields) - 1))
    other = draw(fields(old.fields[place].name))
    if draw(st.booleans()):  # of the same kind, so that rules are compared
        assume(other.kind == old.fields[place].kind)
    new = replace(old, fields=(*old.fields[:place], other, *old.fields[place + 1 :]))
    try:
        check_schema(new, needs_target=False)
    except ContractError:
        assume(False)
    return old, new


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pairs(), st.data())
def test_what_is_not_breaking_for_clients_is_accepted_by_the_new_contract(
    pair: tuple[Schema, Schema], data: Any
) -> None:
    old, new = pair
    if worst(change.effects["clients"] for change in compare(old, new)) == "breaking":
        return
    wanted = {field.name: field for field in new.request}
    for _ in range(3):
        row = data.draw(rows(old))
        assert list(judge_row(wanted, new.target.name if new.target else None, row, 0)) == []


EDGES: tuple[Any, ...] = (
    None, True, False, *range(-5, 6), *(number / 2 for number in range(-9, 10)), 2**62, -(2**62), 1e300, "", "a", "b", "ab", "aa",
    "0a", "aaa", "abcd", "abcde", "2019-12-31", "2020-01-01", "2020-12-31", "2021-01-01", "2020-01-01T00:00:00",
    "2021-01-01T00:00:00+01:00",
)  # fmt: skip


@st.composite
def revisions(draw: Callable[[Any], Any]) -> tuple[Schema, Schema]:
    """A contract of one field, and the same field revised: mostly of its kind, with all rules but a few kept."""
    before = draw(fields("x"))
    after = (
        draw(fields("x").filter(lambda field: field.kind == before.kind))
        if draw(st.integers(0, 4))
        else draw(fields("x"))
    )
    if before.kind == after.kind and draw(st.booleans()):
        kept = draw(st.sets(st.sampled_from(sorted(vars(before).keys() - {"name", "column", "kind"}))))
        after = replace(after, **{key: getattr(before, key) for key in kept})
    pair = tuple(Schema("T", None, (changed, field("y"))) for changed in (before, after))
    try:
        for schema in pair:
            check_schema(schema, needs_target=False)
    except ContractError:
        assume(False)
    return pair[0], pair[1]


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(revisions())
def test_no_value_at_an_edge_is_refused_where_nothing_is_breaking(pair: tuple[Schema, Schema]) -> None:
    old, new = pair
    if worst(change.effects["clients"] for change in compare(old, new)) == "breaking":
        return
    was, now = ({field.name: field for field in schema.request} for schema in pair)
    targets = [schema.target.name if schema.target else None for schema in pair]
    for row in [{"y": 1.0}, *({"x": value, "y": 1.0} for value in EDGES)]:
        if not any(judge_row(was, targets[0], row, 0)):
            assert list(judge_row(now, targets[1], row, 0)) == []


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(contracts())
def test_a_contract_that_is_written_and_read_has_no_changes(schema: Schema) -> None:
    assert compare(schema, Schema.from_json(schema.to_json())) == []
