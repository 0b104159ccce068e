"""Declarations of cleaning: what makes no sense is refused by name, in one line."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

import pytest

import perron as pn
from perron import cleaning
from perron.errors import DeclarationError


class Row(pn.Contract):
    size: float
    steps: int | None
    on: bool | None
    kind: Literal["a", "b"]
    code: Literal[1, 2] | None
    day: date
    at: datetime | None
    title: str | None
    key: Annotated[str, pn.Id]
    y: Annotated[float, pn.Target]


def declare(*declared: Any) -> pn.System:
    return pn.System("rows", Row, source="rows.csv", cleaning=declared)


GOOD = [
    cleaning.impute("size", "median"),
    cleaning.impute("steps", "mean", indicator=True),
    cleaning.impute("on", value=False),
    cleaning.impute("code", value=1),
    cleaning.impute("kind", "most_frequent"),
    cleaning.impute("at", value=datetime(2020, 1, 1, tzinfo=UTC)),
    cleaning.impute("day", value=date(2020, 1, 1)),
    cleaning.impute("title", value=""),
    cleaning.clip("size", low=0.01, high=0.99),
    cleaning.clip("steps", at_least=0),
    cleaning.group_rare("kind", min_share=0.1),
    cleaning.group_rare("code", most=1, into=-1),
    cleaning.date_parts("day", ("month", "weekday"), cyclic=True),
    cleaning.date_parts("at", ["hour", "minute", "year"]),
    cleaning.tf_idf("title", most=10, min_rows=2, longest=3),
    cleaning.text_hash("title", columns=16),
]


def test_declarations_that_fit_are_kept_in_order() -> None:
    assert declare(*GOOD).cleaning == tuple(GOOD)
    assert pn.System("rows", Row, source="rows.csv").cleaning == ()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: cleaning.impute("size"), "cleaning.impute('size') needs either a strategy"),
        (lambda: cleaning.impute("size", "mean", value=1), "needs either a strategy"),
        (lambda: cleaning.impute("size", "meen"), "has the strategy 'meen'; did you mean 'mean'? A constant is given by value="),
        (lambda: cleaning.impute("size", 0), "has the strategy 0;"),
        (lambda: cleaning.impute("size", "mean", indicator=1), "has indicator=1; give True or False"),
        (lambda: cleaning.clip("size"), "cleaning.clip('size') has no bound"),
        (lambda: cleaning.clip("size", low=0.9, high=0.1), "has low=0.9 and high=0.1; low must be the smaller"),
        (lambda: cleaning.clip("size", at_least=5, at_most=5), "at_least must be the smaller"),
        (lambda: cleaning.clip("size", low=5), "has low=5; a quantile is from 0 to 1, a value is at_least="),
        (lambda: cleaning.clip("size", low=0.1, at_least=5), "has both low and at_least; keep one"),
        (lambda: cleaning.clip("size", at_least=float("nan")), "has at_least=nan; give a finite number"),
        (lambda: cleaning.clip("size", at_most="9"), "has at_most='9'"),
        (lambda: cleaning.group_rare("kind"), "cleaning.group_rare('kind') has no limit"),
        (lambda: cleaning.group_rare("kind", min_share=5), "has min_share=5; give a share"),
        (lambda: cleaning.group_rare("kind", most=0), "has most=0; give a whole number"),
        (lambda: cleaning.date_parts("day", "month"), "has the parts 'month'; give them in a tuple"),
        (lambda: cleaning.date_parts("day", ()), "has no part; known: day, day_of_year"),
        (lambda: cleaning.date_parts("day", ("monat",)), "has the part 'monat'; did you mean 'month'?"),
        (lambda: cleaning.date_parts("day", [["month"]]), "has the part ['month']; "),
        (lambda: cleaning.date_parts("day", ("day", "day")), "has the part 'day' twice"),
        (lambda: cleaning.date_parts("day", ("year",), cyclic=True), "none of its parts comes round again"),
        (lambda: cleaning.tf_idf("title", most=0), "cleaning.tf_idf('title') has most=0; give a whole number from 1 to 50,000"),
        (lambda: cleaning.tf_idf("title", min_rows=0.1), "has min_rows=0.1; give a whole number ≥ 1"),
        (lambda: cleaning.tf_idf("title", longest=4), "has longest=4; give a whole number from 1 to 3"),
        (lambda: cleaning.text_hash("title", columns=True), "has columns=True"),
        (lambda: cleaning.text_hash("title", columns=10**9), "has columns=1000000000"),
    ],
)  # fmt: skip
def test_a_declaration_that_makes_no_sense_is_refused(make: Any, words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        make()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ([cleaning.impute("sise", "mean")], "cleaning.impute('sise') names no field of Row; did you mean 'size'?"),
        ([cleaning.impute(3, "mean")], "names no field of Row"),  # type: ignore[arg-type]
        ([cleaning.impute("y", "mean")], "cleaning.impute('y') is about the target, which the model doesn't see"),
        ([cleaning.impute("key", value="")], "cleaning.impute('key') is about an id"),
        ([cleaning.impute("title", "median")], "cleaning.impute('title') is about text; it goes with numbers and dates"),
        ([cleaning.impute("code", "mean")], "is about a category"),
        ([cleaning.impute("on", "mean")], "is about true or false"),
        ([cleaning.impute("size", value="1")], "cleaning.impute('size') has value='1'; the field is a number"),
        ([cleaning.impute("size", value=True)], "has value=True"),
        ([cleaning.impute("on", value=1)], "has value=1; the field is true or false"),
        ([cleaning.impute("day", value=datetime(2020, 1, 1))], "the field is a date"),
        ([cleaning.impute("at", value=date(2020, 1, 1))], "the field is a date and time"),
        ([cleaning.impute("code", value="1")], "has value='1'"),
        ([cleaning.impute("title", value="␀")], "stands for a missing text"),
        ([cleaning.impute("title", value="\ud800")], "has value='\\ud800'; the field is text"),
        ([cleaning.impute("size", value=10**400)], "has value=1000"),
        ([cleaning.clip("kind", low=0.1)], "cleaning.clip('kind') is about a category; it goes with numbers"),
        ([cleaning.clip("day", low=0.1)], "it goes with numbers"),
        ([cleaning.group_rare("size", most=3)], "cleaning.group_rare('size') is about a number; it goes with categories and text"),
        ([cleaning.group_rare("code", most=3)], "has into='other'; its values are a whole number, so give one: into="),
        ([cleaning.group_rare("kind", most=3, into=0)], "has into=0; its values are text"),
        ([cleaning.date_parts("size", ("day",))], "cleaning.date_parts('size') is about a number; it goes with dates"),
        ([cleaning.date_parts("day", ("hour",))], "has the part 'hour', which a date without a time doesn't have"),
        ([cleaning.tf_idf("size")], "cleaning.tf_idf('size') is about a number; it goes with text"),
        ([cleaning.text_hash("kind")], "cleaning.text_hash('kind') is about a category; it goes with text"),
        ([cleaning.tf_idf("title"), cleaning.tf_idf("title", most=3)], "cleaning.tf_idf('title') is declared twice"),
        (["impute"], "An entry of the cleaning is 'impute'; make it with perron.cleaning"),
        ([cleaning.Impute], "make it with perron.cleaning"),
    ],
)  # fmt: skip
def test_a_declaration_that_does_not_fit_the_contract_is_refused(declared: list[Any], words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declare(*declared)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("whole", [cleaning.impute("size", "mean"), "impute", {"size": "mean"}, None])
def test_cleaning_that_is_no_list_is_refused(whole: Any) -> None:
    with pytest.raises(DeclarationError, match=r"give a list: cleaning=\[cleaning\.impute"):
        pn.System("rows", Row, source="rows.csv", cleaning=whole)
