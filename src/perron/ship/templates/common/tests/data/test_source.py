"""The data as it is now: it keeps the contract, and looks as `expectations.toml` beside this file says.

Written by `perron init`; `perron sync` brings it up to date and keeps your changes.
"""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from perron.check.report import Checked, check_source
from perron.contract import Role
from perron.profile import sketch_of
from perron.sketch import ColumnSketch
from perron.source import open_source, shown

from system import system

ROOT = Path(__file__).resolve().parents[2]
EXPECTED: dict[str, Any] = tomllib.loads(Path(__file__).with_name("expectations.toml").read_text("utf-8"))
FIELDS = {field.name: field for field in system.schema.fields}
SENSITIVE = [field.column for field in system.schema.fields if Role.SENSITIVE in field.roles]


@pytest.fixture(scope="module")
def checked() -> Checked:
    """The verdict of the contract and of the system's rules on every row."""
    return check_source(
        open_source(system.source, ROOT),
        system.schema,
        system.checks,
        name=shown(system.source),
        folder=ROOT,
        max_bad_share=system.max_bad_share,
    )


@pytest.fixture(scope="module")
def columns() -> dict[str, ColumnSketch]:
    """A summary of each column, by its name in the source."""
    return sketch_of(open_source(system.source, ROOT), sensitive=SENSITIVE, missing_ok=True).columns


def test_no_rule_stops_a_run(checked: Checked) -> None:
    assert checked.status != "stop", [check["detail"] for check in checked.checks if check["status"] == "stop"]


def test_rows_break_the_contract_no_more_often_than_expected(checked: Checked) -> None:
    broken = [check["detail"] for check in checked.checks if check["status"] != "passed"]
    assert checked.bad <= EXPECTED["bad_share_at_most"] * checked.rows, broken


def test_there_are_as_many_rows_as_expected(checked: Checked) -> None:
    assert checked.rows >= EXPECTED["rows_at_least"]


@pytest.mark.parametrize("name", EXPECTED["fields"])
def test_a_column_looks_as_expected(name: str, columns: dict[str, ColumnSketch]) -> None:
    expected: dict[str, Any] = EXPECTED["fields"][name]
    assert name in FIELDS, f"the contract has no field {name} any more: take it out of expectations.toml"
    column = columns[FIELDS[name].column]
    missing = column.nulls / max(column.rows, 1)
    assert missing <= expected["missing_share_at_most"], f"{missing:.1%} of the values are missing"
    if FIELDS[name].column in SENSITIVE:
        return
    if "median_between" in expected:
        low, high = expected["median_between"]
        (median,) = column.quantiles([0.5])
        assert low <= median <= high, f"the median is {median:g}: another unit, or other data?"
    if "values" in expected:
        seen = {_as_text(value) for value, _ in column.top.most(200)}
        gone = [value for value in expected["values"] if value not in seen]
        assert not gone, f"common values that no row has any more: {gone}"


def _as_text(value: object) -> str:
    """A value as expectations.toml has it: codes without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
