"""Rules beside the contract: what breaks them, with words; what can't be declared; nothing that is text is ever run."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perron as pn
from perron import rules
from perron.check.report import check_source, to_junit
from perron.check.rules import RuleCheck, compile_expression
from perron.contract import schema_of
from perron.errors import DeclarationError, PerronError


class Order(pn.Contract):
    key: Annotated[int, pn.Id] | None
    a: float | None
    b: float | None
    n: int
    day: date
    end: date
    word: str | None
    y: Annotated[float, pn.Target]


ORDER = schema_of(Order)
DAY = date(2024, 1, 1)


def orders(rows: int = 6, **changed: list[Any]) -> pa.RecordBatch:
    columns: dict[str, Any] = {
        "key": list(range(rows)), "a": [1.0] * rows, "b": [2.0] * rows, "n": [3] * rows, "day": [DAY] * rows,
        "end": [DAY] * rows, "word": ["w"] * rows, "y": [0.5] * rows,
    }  # fmt: skip
    return pa.RecordBatch.from_pydict(columns | changed)


class Table:
    """A source of batches."""

    def __init__(self, *batches: pa.RecordBatch) -> None:
        self.batches, self.names = batches, batches[0].schema.names

    def chunks(self) -> Any:
        return iter(self.batches)


def check(*declared: rules.Rule, table: Table, **options: Any) -> Any:
    return check_source(table, ORDER, declared, name="orders", **options)


def entry(checked: Any, name: str) -> dict[str, Any]:
    return next(item for item in checked.checks if item["name"] == name)


@given(st.lists(st.integers(0, 12) | st.none(), min_size=1, max_size=60), st.integers(1, 20))
def test_all_but_the_first_of_equal_keys_break_unique_however_the_table_is_cut(keys: list[Any], size: int) -> None:
    parts = [keys[start : start + size] for start in range(0, len(keys), size)]
    judge = RuleCheck([rule := rules.unique("key")], ORDER)
    start = 0
    for part in parts:
        judge(orders(len(part), key=pa.array(part, pa.int64())), np.arange(start, start + len(part)))
        start += len(part)
    expected = [i for i, key in enumerate(keys) if key is not None and key in keys[:i]]
    assert judge.doubles()[rule].tolist() == expected


def test_keys_of_several_fields_are_told_apart() -> None:
    judge = RuleCheck([rule := rules.unique("key", "word")], ORDER)
    judge(orders(4, key=[1, 1, 2, 1], word=["x", "y", "x", "y"]), np.arange(4))
    assert judge.doubles()[rule].tolist() == [3]


@given(st.floats(-9, 9), st.floats(-9, 9), st.integers(-9, 9))
def test_an_expression_means_what_python_means(a: float, b: float, n: int) -> None:
    row = orders(1, a=[a], b=[b], n=[n])
    for text in ("a <= b", "a + b * n > 1", "not a < n or b == n", "abs(a - b) < 3 and n != 2", "-n < a <= 4.5"):
        expected = eval(text, {"abs": abs}, {"a": a, "b": b, "n": n})
        assert compile_expression(text, ORDER)(row).to_pylist() == [expected], text


def test_a_missing_value_breaks_no_expression_unless_the_rest_decides() -> None:
    judge = RuleCheck([rules.expression("a <= b and n < 3")], ORDER)
    found = judge(orders(2, a=[None, None], n=[1, 5]), np.arange(2))
    assert found[0][1].tolist() == [False, True]


def test_dividing_a_whole_number_by_zero_is_infinite() -> None:
    assert compile_expression("n / 0 > 5", ORDER)(orders(1)).to_pylist() == [True]


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('x') == 1", "a.b < 1", "a[0] < 1", "(lambda: 1)() < a", "abs(a, b) < 1", "a if b else n",
     "[a] == 1", "a ** 99999999 > 1", "f'{a}' == 'x'", "a <", "", "max(a, b) < 1", "a in (1, 2)", "(a := 1) < 2"],
)  # fmt: skip
def test_an_expression_that_is_more_than_a_comparison_is_refused(text: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        rules.expression(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: rules.expression("aa < b"), "aa"),
        (lambda: rules.expression("a < word"), "'word' is text; expected number"),
        (lambda: rules.expression("a + b"), "is no comparison"),
        (lambda: rules.unique("kez"), "did you mean 'key'?"),
        (lambda: rules.mean("word", at_least=1), "it goes with float or int"),
        (lambda: rules.freshness("n", within=timedelta(1)), "it goes with date or datetime"),
        (rules.unique, "no field"),
        (rules.rows, "give at_least"),
        (lambda: rules.rows(at_least=5, at_most=2), "bounds 5 and 2"),
        (lambda: rules.unique("key", stop=3), "stop is 3"),
        (lambda: rules.nulls("a", at_most=0.1, then="halt"), "'halt'"),  # type: ignore[arg-type]
        (lambda: "a < b", "make it with perron.rules"),
    ],
)
def test_a_rule_that_makes_no_sense_is_one_clear_line(make: Any, words: str) -> None:
    with pytest.raises(PerronError) as caught:
        pn.System("orders", Order, source="x.csv", checks=[make()])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_rule_declared_twice_is_refused() -> None:
    with pytest.raises(DeclarationError, match="twice"):
        pn.System("orders", Order, source="x.csv", checks=[rules.unique("key"), rules.unique("key")])


def test_each_kind_of_rule_warns_or_stops_as_declared() -> None:
    table = Table(orders(), orders(key=list(range(4, 10)), a=[9.0, None, None, 1.0, 1.0, 1.0]))
    declared = [
        rules.unique("key", stop=0.5), rules.expression("a <= b", stop=0.01), rules.rows(at_least=5),
        rules.rows(at_most=3, then="warn"), rules.nulls("a", at_most=0.0, then="warn"), rules.mean("b", at_least=1.5),
    ]  # fmt: skip
    checked = check(*declared[:3], *declared[4:], table=table)
    assert entry(checked, "unique(key)") | {"status": "warn", "rows": 1} == entry(checked, "unique(key)")
    assert entry(checked, "a <= b")["status"] == "stop" and "rows[6]" in entry(checked, "a <= b")["examples"][0]
    assert (
        entry(checked, "nulls(a) ≤ 0.0")["status"] == "warn" and entry(checked, "mean(b) ≥ 1.5")["status"] == "passed"
    )
    assert checked.status == "stop" and (checked.rows, checked.bad) == (12, 2)
    assert entry(check(declared[3], table=table), "rows ≤ 3")["status"] == "warn"


def test_freshness_is_measured_from_the_clock_that_is_given() -> None:
    judge = RuleCheck([rules.freshness("day", within=timedelta(days=2))], ORDER)
    judge(orders(), np.arange(6))
    assert judge.verdicts(datetime(2024, 1, 3, tzinfo=UTC))[0].status == "passed"
    assert judge.verdicts(datetime(2024, 1, 3, 1, tzinfo=UTC))[0].status == "stop"


def test_junit_has_a_case_per_check_and_counts_the_failures() -> None:
    checked = check(
        rules.expression("a <= b", stop=0.0), rules.unique("word"), table=Table(orders(a=[9.0] + [1.0] * 5))
    )
    root = ElementTree.fromstring(to_junit(checked))
    suite = root[0]
    assert root.tag == "testsuites" and suite.tag == "testsuite"
    assert int(suite.attrib["tests"]) == len(suite) == len(checked.checks)
    assert suite.attrib["failures"] == "1" == str(len(suite.findall("testcase/failure")))
    assert suite.find("testcase[@name='a <= b']/failure").attrib["message"]  # type: ignore[union-attr]
    assert suite.find("testcase[@name='unique(word)']/system-out") is not None
