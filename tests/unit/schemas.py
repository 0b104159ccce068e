"""Sampled schemas: every kind, rule and role, in combinations that a contract allows."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from perron.contract import Field, Role, Schema, check_schema
from perron.errors import ContractError

NAMES = ("a", "b2", "total_rooms", "größe", "rows", "id", "value", "X")
CLASSES = ("<1H OCEAN", "INLAND", "é", '"', "a,b", "007", "x y", "None", "\n", "ISLAND")
PATTERNS = (r"[a-z]+", r"\d{2,4}", r"a|bc", r"(x|y)*", r"[A-Z]\w{0,3}", r"^ab?$")
OTHER_ROLES = (Role.ID, Role.GROUP, Role.WEIGHT, Role.IGNORE, Role.SENSITIVE, Role.TIME)
KINDS = ("float", "int", "bool", "text", "category", "codes", "date", "datetime")


@st.composite
def schemas(draw: st.DrawFn, *, most_fields: int = 5) -> Schema:
    """A schema with a target and at least one feature."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=most_fields, unique=True))
    target = draw(fields(names[0], kinds=("float", "int", "bool", "category", "codes"), target=True))
    others = [draw(fields(name)) for name in names[1:]]
    doc = draw(st.none() | st.just("Rows."))
    schema = Schema("Sampled", doc, tuple(draw(st.permutations([target, *others]))))
    try:
        check_schema(schema)
    except ContractError:
        assume(False)
    return schema


@st.composite
def fields(draw: st.DrawFn, name: str, kinds: tuple[str, ...] = KINDS, target: bool = False) -> Field:
    """A field of one of the kinds, with rules that fit each other."""
    kind = draw(st.sampled_from(kinds))
    facts: dict[str, Any] = {"optional": not target and draw(st.booleans())}
    facts["column"] = draw(st.sampled_from([name, f"{name} in m²"]))
    facts["roles"] = (Role.TARGET,) if target else draw(st.sampled_from([(), (), ()] + [(r,) for r in OTHER_ROLES]))
    facts["unit"] = draw(st.none() | st.just("USD"))
    facts["doc"] = draw(st.none() | st.just("A field."))
    match kind:
        case "float" | "int":
            facts |= _range(draw, st.integers(-1000, 1000) if kind == "int" else st.integers(-400, 400).map(_quarter))
            facts["multiple_of"] = draw(
                st.sampled_from([None, None, 2, 5] if kind == "int" else [None, None, 0.1, 0.5])
            )
        case "text":
            facts |= draw(
                st.fixed_dictionaries({}, optional={"min_length": st.integers(0, 3), "max_length": st.integers(3, 30)})
            )
            facts["pattern"] = draw(st.none() | st.sampled_from(PATTERNS))
            if facts["pattern"]:  # a pattern and lengths that fit each other are another story
                facts.pop("min_length", None)
        case "category":
            facts["values"] = tuple(draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=5, unique=True)))
        case "codes":
            facts["values"] = tuple(draw(st.lists(st.integers(-5, 10**6), min_size=2, max_size=5, unique=True)))
        case "date":
            facts |= _range(draw, st.dates(date(1900, 1, 1), date(2100, 1, 1)))
        case "datetime":
            moments = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
            facts |= _range(draw, moments | moments.map(lambda moment: moment.replace(tzinfo=UTC)))
    return Field(name=name, kind="category" if kind == "codes" else kind, **facts)  # type: ignore[arg-type]


def _quarter(number: int) -> float:
    return number / 4


def _range(draw: st.DrawFn, bounds: st.SearchStrategy[Any]) -> dict[str, Any]:
    """No bound, one, or two with room between them."""
    made = {}
    low, high = draw(st.none() | bounds), draw(st.none() | bounds)
    if low is not None and high is not None:
        far = timedelta(days=30) if isinstance(low, date) else 50
        high = max(_same(low, high), low + far)
    if low is not None:
        made[draw(st.sampled_from(["ge", "gt"]))] = low
    if high is not None:
        made[draw(st.sampled_from(["le", "lt"]))] = high
    return made


def _same(low: Any, high: Any) -> Any:
    return high.replace(tzinfo=low.tzinfo) if isinstance(low, datetime) else high
