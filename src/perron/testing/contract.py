"""A contract in; property-based exams of the service that answers by it out.

A valid row, drawn from the contract, is answered; a row that breaks one rule is refused, and the refusal names the
field and the rule. Needs hypothesis, which looks for such rows and makes a bad one as simple as it can. How many rows
it tries is its profile's `max_examples`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, find, given, settings
from hypothesis import strategies as st

from perron.check import ABSENT, judge
from perron.client import Reply
from perron.connection import Problem, Refused
from perron.contract import Field, Schema, format_number
from perron.derive.sampler import breaks, rows, values
from perron.testing.subject import Subject
from perron.testing.verdict import Broken, number, shown

__all__ = ["exams", "simplest"]

OPEN = 10**9  # how far numbers are drawn on a side without a bound: a double's end is no one's data
NAMED = 100  # faults that one answer lists
TOLERANCE = 1e-6  # how far from 1 probabilities may add up to
Run = Callable[[Subject], None]


def exams(schema: Schema) -> Iterator[tuple[str, Run]]:
    """Each exam's name and what it does."""
    fields = schema.request
    likely = rows(Schema(schema.name, schema.doc, tuple(map(_closed, schema.fields))))
    yield "a valid row predicts", lambda subject: _answered(subject, likely)
    bad = {field.name: dict(_bad(field)) for field in fields}
    for field in fields:
        for rule, strategy in bad[field.name].items():
            if rule == "required":
                yield _refused(likely, f"{field.name} missing", field.name, rule, st.just(ABSENT))
                yield _refused(likely, f"{field.name} null", field.name, rule, st.none())
            else:
                yield _refused(likely, f"{field.name} {_words(field, rule)}", field.name, rule, strategy)
    strangers = st.text(min_size=1, max_size=20).filter(lambda name: name not in schema)
    anything = st.none() | st.booleans() | st.floats(-9, 9) | st.text(max_size=5)
    yield (
        "an unknown field is refused by name",
        lambda subject: _run(
            lambda drawn: _demand(subject, [{**drawn[0], drawn[1]: drawn[2]}], [(0, drawn[1], "unknown")]),
            st.tuples(likely, strangers, anything),
        ),
    )
    if schema.target is not None:
        target = schema.target.name
        yield (
            "the target is refused by name",
            lambda subject: _run(
                lambda drawn: _demand(subject, [{**drawn[0], target: drawn[1]}], [(0, target, "target")]),
                st.tuples(likely, anything),
            ),
        )
    each = st.fixed_dictionaries(
        {name: st.one_of([st.tuples(st.just(rule), one) for rule, one in found.items()]) for name, found in bad.items() if found}
    )  # fmt: skip
    yield "all broken fields of all rows are named at once", lambda subject: _all_named(subject, likely, each)


def simplest(field: Field) -> Any:
    """The simplest value that a field allows, which is nobody's: null where it may be missing."""
    return find(values(field), lambda value: True, settings=_quiet())


def _quiet() -> settings:
    """The settings of the profile in force, without what is for tests that people write."""
    return settings(
        deadline=None, database=None, print_blob=False, report_multiple_bugs=False, verbosity=Verbosity.quiet,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def _run(check: Callable[[Any], None], strategy: st.SearchStrategy[Any]) -> None:
    """Does the check with what is drawn; the failure of the simplest that fails.

    Raises:
        Broken: the check's.
    """

    def checked(drawn: Any) -> None:
        check(drawn)

    _quiet()(given(strategy)(checked))()


def _closed(field: Field) -> Field:
    """The field with a bound on each side, where it is a number."""
    if field.kind not in ("float", "int") or field.values:
        return field
    low = field.ge if field.ge is not None else field.gt
    high = field.le if field.le is not None else field.lt
    if low is None:
        field = replace(field, ge=min(-OPEN, 0 if high is None else high - OPEN))  # type: ignore[operator]
    if high is None:
        field = replace(field, le=max(OPEN, 0 if low is None else low + OPEN))  # type: ignore[operator]
    return field


# ------------------------------------------------------------------ what is accepted


def _answered(subject: Subject, likely: st.SearchStrategy[dict[str, Any]]) -> None:
    def check(row: dict[str, Any]) -> None:
        told = f"\n    row: {shown(row, subject.schema)}{subject.hint}"
        try:
            reply = subject.client_of_drawn.predict([row])
        except Problem as problem:
            raise Broken(
                f"Expected a prediction, since the contract allows this row; the service answered {problem.status}: {_faults(problem)}{told}"
            ) from None
        wrong = _wrong_answer(subject, reply)
        if wrong:
            raise Broken(f"{wrong}{told}")

    _run(check, likely)


def _wrong_answer(subject: Subject, reply: Reply) -> str | None:
    """What is wrong with the answer to one row."""
    if len(reply.predictions) != 1:
        return f"Expected one prediction, got {len(reply.predictions)}"
    value, shares = reply.predictions[0].value, reply.predictions[0].probabilities
    if subject.bundle.classes is None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if is_number and math.isfinite(value) else f"Expected a finite number, got {number(value)}"
    if value not in subject.bundle.classes:
        return f"Expected one of {subject.bundle.classes}, got {number(value)}"
    if shares is None:
        return None
    if set(shares) != set(subject.bundle.labels):
        return f"Expected a probability of each of {subject.bundle.labels}, got {sorted(shares)}"
    if not all(0 <= share <= 1 for share in shares.values()):
        return f"Expected probabilities from 0 to 1, got {dict(shares)}"
    total = sum(shares.values())
    return (
        None
        if abs(total - 1) <= TOLERANCE
        else f"Expected probabilities that add up to 1, got {total:.9g}: {dict(shares)}"
    )


# ------------------------------------------------------------------ what is refused


def _bad(field: Field) -> Iterator[tuple[str, st.SearchStrategy[Any]]]:
    """Values that break one rule of the field and no other, as JSON can hold them, by rule."""
    found: dict[str, list[Any]] = {}
    for _, rule, value in breaks([field]):
        if not (isinstance(value, float) and not math.isfinite(value)):
            found.setdefault(rule, []).append(value)
    for rule, some in found.items():
        edges, wide = st.sampled_from(some), _beyond(field, rule)
        yield rule, edges if wide is None else edges | wide.filter(partial(_breaks_alone, field, rule))


def _beyond(field: Field, rule: str) -> st.SearchStrategy[Any] | None:
    """Any value on the wrong side of a bound, or of no category; None where only edges are tried."""
    if rule == "values" and not field.is_numeric_category:
        return st.text(max_size=12)
    bound = getattr(field, rule, None)
    if field.kind not in ("float", "int") or field.multiple_of is not None or rule not in ("ge", "gt", "le", "lt"):
        return None
    low, high = (None, bound) if rule in ("ge", "gt") else (bound, None)
    if field.kind == "float":
        return st.floats(
            None if low is None else float(low), None if high is None else float(high), allow_nan=False, allow_infinity=False,
        )  # fmt: skip
    return st.integers(
        -OPEN * OPEN if low is None else math.floor(low), OPEN * OPEN if high is None else math.ceil(high)
    )


def _breaks_alone(field: Field, rule: str, value: Any) -> bool:
    return [fault.rule for fault in judge(field, value)] == [rule]


def _words(field: Field, rule: str) -> str:
    if rule == "type":
        return "of another type"
    if rule == "values":
        return "of another category"
    if rule == "pattern":
        return "of another pattern"
    bound = getattr(field, rule)
    return f"{rule} {bound.isoformat() if isinstance(bound, date) else format_number(bound)}"


def _refused(
    likely: st.SearchStrategy[dict[str, Any]], words: str, name: str, rule: str, bad: st.SearchStrategy[Any]
) -> tuple[str, Run]:
    def check(subject: Subject, drawn: tuple[dict[str, Any], Any]) -> None:
        _demand(subject, [_with(drawn[0], {name: drawn[1]})], [(0, name, rule)])

    return (
        f"{words} is refused by name",
        lambda subject: _run(lambda drawn: check(subject, drawn), st.tuples(likely, bad)),
    )


def _all_named(
    subject: Subject, likely: st.SearchStrategy[dict[str, Any]], each: st.SearchStrategy[dict[str, tuple[str, Any]]]
) -> None:
    """Rows 0 and 2 are broken in every field, and row 1 in none."""

    def check(drawn: tuple[dict[str, Any], dict[str, tuple[str, Any]]]) -> None:
        row, bad = drawn
        broken = _with(row, {name: value for name, (_, value) in bad.items()})
        expected = [(place, name, rule) for place in (0, 2) for name, (rule, _) in bad.items()]
        _demand(subject, [broken, row, broken], expected)

    _run(check, st.tuples(likely, each))


def _with(row: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**row, **changes}.items() if value is not ABSENT}


def _demand(subject: Subject, sent: list[dict[str, Any]], expected: list[tuple[int, str, str]]) -> None:
    """Nothing, when the service refuses the rows with 422 and names each row, field and rule, and no other.

    Raises:
        Broken: it doesn't.
    """
    rows_told = "".join(f"\n    rows[{place}]: {shown(row, subject.schema)}" for place, row in enumerate(sent))
    wanted = ", ".join(f"rows[{place}].{name} by {rule}" for place, name, rule in expected[:10])
    head = f"Expected 422 that names {wanted}{' …' if len(expected) > 10 else ''}; the service answered "
    try:
        reply = subject.client_of_drawn.predict(sent)
    except Refused as problem:
        named = Counter((fault.row, fault.field, fault.rule) for fault in problem.faults)
        right = named == Counter(expected) if len(expected) <= NAMED else set(named) <= set(expected)
        if problem.status == 422 and right and problem.count == len(expected):
            return
        told = f"{problem.status}: {_faults(problem)}"
    except Problem as problem:
        told = f"{problem.status}: {_faults(problem)}"
    else:
        told = "200: " + ", ".join(number(one.value) for one in reply.predictions)
    raise Broken(f"{head}{told}{rows_told}{subject.hint}")


def _faults(problem: Problem) -> str:
    faults = problem.faults if isinstance(problem, Refused) else []
    if not faults:
        return problem.detail
    return "; ".join(f"{fault.message} (rule {fault.rule})" for fault in faults[:5])
