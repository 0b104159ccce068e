"""Invariance and direction: of numbers and of classes, what counts as moved, and which rows are tried."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest

from perron.bundle import Bundle
from perron.contract import Field, Role, Schema
from perron.errors import DeclarationError
from perron.testing import Broken, directional, invariant
from perron.testing.behaviour import FILE, read_behaviours

SCHEMA = Schema(
    "T",
    None,
    (
        Field(name="x", kind="float", column="x", le=10),
        Field(name="n", kind="int", column="n", optional=True),
        Field(name="day", kind="date", column="day", optional=True),
        Field(name="person", kind="text", column="person", optional=True, roles=(Role.SENSITIVE,)),
        Field(name="y", kind="float", column="y", roles=(Role.TARGET,)),
    ),
)


class Line:
    """Answers 2x + n, or with classes the probability of `yes` that x is a tenth of."""

    name, schema, has_probabilities = "line", SCHEMA, True

    def __init__(self, classes: list[Any] | None = None) -> None:
        self.classes, self.labels = classes, list(map(str, classes or ()))

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        if self.classes is None:
            return [{"value": 2 * row["x"] + (row.get("n") or 0)} for row in rows]
        shares = [row["x"] / 10 for row in rows]
        rest = [0.0] * (len(self.classes) - 2)
        return [
            {
                "value": self.classes[int(s >= 0.5)],
                "probabilities": dict(zip(self.labels, [1 - s, s, *rest], strict=True)),
            }
            for s in shares
        ]


def line(classes: list[Any] | None = None) -> Bundle:
    return cast(Bundle, Line(classes))


ROWS: list[dict[str, Any]] = [{"x": float(x), "n": x} for x in range(10)]


def test_a_direction_counts_the_rows_that_it_was_tried_on() -> None:
    assert directional(line(), ROWS, "x", by=1, expect="up") == 10
    assert directional(line(), ROWS, "x", by=5, expect="up") == 6, "beyond 10 the contract allows none"
    assert directional(line(), ROWS, "x", times=2, expect="up") == 5, "twice nothing is nothing"
    assert directional(line(), [*ROWS, {"x": 1.0}], "n", times=1.5, expect="up") == 9, "null stays null"
    assert directional(line(), ROWS, "x", to=0.0, expect="down") == 9


def test_an_answer_that_goes_the_other_way_is_shown_with_its_row() -> None:
    with pytest.raises(Broken, match=r"moved the answer up instead of down in 10 of 10 rows \(0 allowed\)") as raised:
        directional(line(), ROWS, "x", by=1, expect="down")
    assert '    rows[0]: x 0 → 1: answered 0, then 2\n        row: {"x": 0.0, "n": 0}' in str(raised.value)
    mixed = [{"x": 4.0}, {"x": 6.0}, {"x": 7.0}, {"x": 8.0}]
    with pytest.raises(Broken, match=r"in 1 of 4 rows \(0 allowed\)"):
        directional(line(), mixed, "x", to=5.0, expect="down")
    assert directional(line(), mixed, "x", to=5.0, expect="down", share=0.75) == 4
    assert directional(line(), mixed, "x", to=5.0, expect="down", tolerance=0.25) == 4


def test_a_direction_in_which_nothing_moves_fails() -> None:
    with pytest.raises(Broken, match="None of the answers to 10 rows went up when day was changed"):
        directional(line(), ROWS, "day", to=date(2024, 1, 1), expect="up")


def test_of_classes_the_probability_has_a_direction() -> None:
    assert directional(line(["no", "yes"]), ROWS, "x", by=1, expect="up") == 10
    assert directional(line(["no", "yes"]), ROWS, "x", by=1, expect="down", of="no") == 10
    assert directional(line([1, 2, 3]), ROWS, "x", by=1, expect="up", of=2) == 10
    with pytest.raises(DeclarationError, match="Name the class .* one of \\[1, 2, 3\\]"):
        directional(line([1, 2, 3]), ROWS, "x", by=1)
    with pytest.raises(DeclarationError, match="has no class 'yse'; did you mean 'yes'"):
        directional(line(["no", "yes"]), ROWS, "x", by=1, of="yse")


def test_an_invariance_is_of_the_number_the_class_or_the_probability() -> None:
    assert invariant(line(), ROWS, {"day": "2024-01-01"}) == 10
    with pytest.raises(Broken, match="moved an answer that should stay in 10 of 10 rows"):
        invariant(line(), ROWS, {"n": lambda n: n + 1})
    assert invariant(line(), ROWS[5:], {"n": lambda n: n + 1}, tolerance=0.1) == 5
    classes = line(["no", "yes"])
    assert invariant(classes, [{"x": 6.0}], {"x": 7.0}) == 1, "the class stays"
    with pytest.raises(Broken, match=r"answered \"yes\" \(no 0.4, yes 0.6\), then \"yes\" \(no 0.3, yes 0.7\)"):
        invariant(classes, [{"x": 6.0}], {"x": 7.0}, tolerance=0.05)
    with pytest.raises(Broken, match="in 1 of 1 rows"):
        invariant(classes, [{"x": 6.0}], {"x": 2.0})


def test_what_is_sensitive_is_not_shown() -> None:
    with pytest.raises(Broken) as raised:
        directional(line(), [{"x": 1.0, "person": "Ada"}], "person", to="Grace", expect="up")
    assert "Ada" not in str(raised.value) and "Grace" not in str(raised.value)
    assert "person changed: answered 2, then 2" in str(raised.value) and '"person": "(sensitive)"' in str(raised.value)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(DeclarationError, match="no field 'z'"):
        invariant(line(), ROWS, {"z": 1})
    with pytest.raises(DeclarationError, match="one of the three: by, times or to"):
        directional(line(), ROWS, "x", by=1, times=2)
    with pytest.raises(DeclarationError, match="day is a date .* no number that something is added to"):
        directional(line(), ROWS, "day", by=1)
    with pytest.raises(DeclarationError, match="'up' or 'down', not 'sideways'"):
        directional(line(), ROWS, "x", by=1, expect=cast(Any, "sideways"))
    with pytest.raises(DeclarationError, match="share is 0"):
        invariant(line(), ROWS, {"day": "2024-01-01"}, share=0)
    with pytest.raises(Broken, match="None of 10 rows could be tried"):
        invariant(line(), ROWS, {"x": 11.0})
    with pytest.raises(Broken, match="None of 0 rows could be tried"):
        invariant(line(), [], {"x": 1.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = 2", "has format 2; this Perron reads 1"),
        ("[[direktion]]", "there is no 'direktion'; did you mean 'direction'"),
        ("invariance = 3", r"invariance is a list of tables: \[\[invariance\]\]"),
        ("[[invariance]]\nto = 1", r"invariance\[0\] names no field"),
        ('[[invariance]]\nfield = "x"', r"invariance\[0\] needs one of the three"),
        ('[[invariance]]\nfield = "x"\nto = 1\nby = 2', r"invariance\[0\] needs one of the three"),
        ('[[invariance]]\nfield = "x"\nto = 1\nanswer = "up"', r"invariance\[0\] has no key 'answer'"),
        ('[[direction]]\nfield = "x"\nby = 1', "says not where the answer goes"),
        ('[[direction]]\nfield = "x"\nby = 1\nanswer = "left"', r"direction\[0\].answer is 'left'; give \"up\" or \"down\""),
        ('[[direction]]\nfield = "x"\nby = true\nanswer = "up"', r"direction\[0\].by is True; give a number"),
        ('[[direction]]\nfield = "x"\nby = nan\nanswer = "up"', r"direction\[0\].by is nan; give a number"),
        ('[[invariance]]\nfield = "x"\nto = 1\nshare = 0', r"share is 0; give a share above 0"),
        ('[[invariance]]\nfield = "x"\nto = 1\ntolerance = -1', r"tolerance is -1; give a number from 0 on"),
        ('[[invariance]]\nfield = "x"\nto = 1\nwhere = "y"', r"where is 'y'; give a table"),
        ('[[invariance]]\nname = "a::b"\nfield = "x"\nto = 1', r"name is 'a::b'; give it in words"),
        ('[[invariance]]\nfield = "x"\nto = 1\n' * 2, r"invariance\[1\] has the name 'x to 1' of another"),
    ],
)  # fmt: skip
def test_a_declaration_that_makes_no_sense_is_named_by_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(text)
    with pytest.raises(DeclarationError, match=message):
        read_behaviours(tmp_path)


def test_without_a_file_nothing_is_declared(tmp_path: Path) -> None:
    assert read_behaviours(tmp_path) == []
