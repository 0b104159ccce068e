"""The files of a new project: system.py runs, is short and formatted, and means what was proposed."""

import itertools
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from test_proposal import proposed, tables, write_csv

from perron.contract import Field, Role, Schema
from perron.proposal import Proposal, propose
from perron.ship.scaffold import class_name, project_files, system_file
from perron.source import open_source
from perron.system import System

N = 240
WIDTH = 100


def run(text: str) -> System:
    """The system that the text declares, run as a module."""
    space: dict[str, Any] = {"__name__": "system"}
    exec(compile(text, "system.py", "exec"), space)
    system = space["system"]
    assert isinstance(system, System)
    return system


def unformatted(texts: Iterable[str], folder: Path) -> str:
    """What ruff would change in the files, as a diff; one process for all, since each takes a while to start."""
    for number, text in enumerate(texts):
        (folder / f"system_{number}.py").write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--diff", "--isolated", "--no-cache", "--line-length", str(WIDTH), str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.stdout if done.returncode else ""


def means_the_same(text: str, schema: Schema) -> None:
    loaded = run(text).schema
    assert replace(loaded, doc=None) == replace(schema, doc=None)


@given(tables())
@settings(max_examples=60)
def test_the_system_runs_and_means_what_was_proposed(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, list[str]]
) -> None:
    proposal, _ = proposed(columns, tmp_path_factory.getbasetemp())
    means_the_same(system_file("rows", proposal, "rows.csv"), proposal.schema)


def test_the_system_is_formatted_whatever_the_columns(tmp_path: Path) -> None:
    texts: list[str] = []

    @given(tables())
    @settings(max_examples=60, derandomize=True, database=None)
    def collect(columns: dict[str, list[str]]) -> None:
        proposal, _ = proposed(columns, tmp_path)
        texts.append(system_file("rows", proposal, "rows.csv"))

    collect()
    folder = tmp_path / "systems"
    folder.mkdir()
    assert unformatted(texts, folder) == ""
    assert len(texts) >= 60


LONG = "a column whose name goes on and on, as the names of columns of spreadsheets do, with all their units"
ODD = ['"', "'", "it's", 'say "hi"', "both ' and \"", "\\", "a\nb", "tab\t", "\x00", "\x1f", "\x85", "\u2028", "é", "☂",
       "\U0001f600", "\xa0", "\ufeff", "{x}", "%s", "#", "x" * 120, "\\N{DASH}", '"""', "\x7f", "\u200f"]  # fmt: skip


def test_categories_of_any_text_and_length_are_written_as_ruff_would(tmp_path: Path) -> None:
    texts = []
    for optional, count, role, column in itertools.product(
        (False, True), (2, 3, 8, len(ODD)), (None, Role.TARGET, Role.IGNORE), ("x", "the x", LONG)
    ):
        may_lack = optional and role is not Role.TARGET
        roles = (role,) if role else ()
        values = tuple(range(10**6, 10**6 + count))
        fields = [
            Field(name="x", kind="category", column=column, optional=may_lack, values=tuple(ODD[:count]), roles=roles),
            Field(name="codes", kind="category", column="codes", optional=optional, values=values),
            Field(name="short", kind="category", column=f"{column} 2", optional=optional, values=("a", "b")),
            Field(name="number", kind="float", column=f"{column} 3", optional=optional, ge=0),
            Field(name="x" * 90, kind="float", column=f"{column} 4", optional=optional),
            Field(name="x" * 93, kind="category", column="z", optional=optional, values=values),
            Field(name="x" * 120, kind="float", column="zz", optional=optional),
        ]
        if role is not Role.TARGET:
            fields.append(Field(name="y", kind="float", column="y", roles=(Role.TARGET,)))
        reasons = {"codes": f"{count} codes", "short": "why", "number": "w" * 60}
        proposal = Proposal(Schema("Rows", None, tuple(fields)), 10, reasons)
        texts.append(system_file("rows", proposal, "rows.csv"))
        means_the_same(texts[-1], proposal.schema)
    assert unformatted(texts, tmp_path) == ""


@pytest.mark.parametrize("source", ["rows.csv", 'a "b".csv', "C:\\data\\new.csv", "it's.csv", "a\nb.csv", "x" * 150, "é☂", '"', "a\\"])  # fmt: skip
def test_a_source_of_any_name_is_kept(tmp_path: Path, source: str) -> None:
    fields = (
        Field(name="x", kind="float", column="x"),
        Field(name="y", kind="float", column="y", roles=(Role.TARGET,)),
    )
    text = system_file("rows", Proposal(Schema("Rows", None, fields), 1, {}), source)
    assert run(text).source == source
    assert unformatted([text], tmp_path) == ""


def ten_columns(folder: Path) -> Path:
    return write_csv(
        folder / "rows.csv",
        {
            "id": range(N),
            "Date of Sale": [date(2020, 1, 1) + timedelta(n % 90) for n in range(N)],
            "longitude": [-114.5 - n / 7 for n in range(N)],
            "total_rooms": [n * 3.5 for n in range(N)],
            "bedrooms": ["" if n % 9 == 0 else n * 7 for n in range(N)],
            "floors": [n % 4 for n in range(N)],
            "has_garden": [["yes", "no"][n % 2] for n in range(N)],
            "ocean proximity": [["<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"][n % 5] for n in range(N)],
            "country": ["NL"] * N,
            "price": [n * 1000.5 for n in range(N)],
        },
    )


def test_ten_columns_make_under_forty_lines(tmp_path: Path) -> None:
    proposal = propose(open_source(ten_columns(tmp_path)), "HousePrices", "price")
    text = system_file("house-prices", proposal, "data/rows.csv")
    assert len(text.splitlines()) < 40
    assert unformatted([text], tmp_path) == ""
    assert max(map(len, text.splitlines())) <= WIDTH
    means_the_same(text, proposal.schema)
    assert "# the same in every row" in text
    assert run(text).name == "house-prices"
    assert "pn.Column" in text


def test_the_projects_files_are_what_they_say(tmp_path: Path) -> None:
    proposal = propose(open_source(ten_columns(tmp_path)), "HousePrices", "price")
    files = project_files("house-prices", proposal, "data/rows.csv", "0.1.0")
    assert set(files) == {"system.py", "pyproject.toml", ".gitignore", "README.md"}
    project = tomllib.loads(files["pyproject.toml"])
    assert project["project"]["name"] == "house-prices"
    assert project["project"]["dependencies"] == ["perron>=0.1.0"]
    assert ".perron/" in files[".gitignore"]
    assert files["README.md"].startswith("# house-prices\n")
    assert "country" in files["README.md"]
    assert all(text.endswith("\n") and not text.endswith("\n\n") for text in files.values())
    json.dumps(files)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("house-prices", "HousePrices"),
        ("iris", "Iris"),
        ("2nd-hand", "Rows2ndHand"),
        ("a--b", "AB"),
        ("none", "RowsNone"),
        ("true", "RowsTrue"),
        ("false", "RowsFalse"),
        ("x1", "X1"),
    ],
)
def test_a_system_gives_its_contract_a_name(name: str, made: str) -> None:
    assert class_name(name) == made
    fields = (
        Field(name="x", kind="float", column="x"),
        Field(name="y", kind="float", column="y", roles=(Role.TARGET,)),
    )
    assert run(system_file(name, Proposal(Schema(made, None, fields), 1, {}), "rows.csv")).schema.name == made
