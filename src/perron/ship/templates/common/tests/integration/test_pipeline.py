"""The pipeline on some of the rows, in a folder of its own: from the table to a bundle that answers.

Written by `perron init`; `perron sync` brings it up to date and keeps your changes.
"""

import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from perron.bundle import Bundle, load
from perron.pipeline import Result, run_pipeline
from perron.project import Project
from perron.source import open_source, table
from perron.system import System

from system import system

ROOT = Path(__file__).resolve().parents[2]
MOST_ROWS = 4_000


@pytest.fixture(scope="module")
def small() -> System:
    """The system on at most so many of its rows, evenly from all, and without gates: few rows make no good model."""
    made = copy.copy(system)
    rows = pa.Table.from_batches(list(open_source(system.source, ROOT).chunks()))
    step = -(-rows.num_rows // MOST_ROWS)
    some = rows.take(list(range(0, rows.num_rows, step)))
    made.source = table(lambda: some)
    made.gates = ()
    made.labels = None
    made.checks = ()  # of the whole table; `make data` judges them
    return made


def run(small: System, folder: Path) -> tuple[Result, Bundle]:
    """A run in a folder, and the bundle that it registered."""
    project = Project.open(folder)
    try:
        result = run_pipeline(small, project)
        version = project.ledger.get_version(small.name, str(result.to_json()["model"]["version"]))
        return result, load(project.ledger.bundle_path(version), version["bundle"])
    finally:
        project.ledger.close()


@pytest.fixture(scope="module")
def first(small: System, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Bundle]:
    """The first run."""
    return run(small, tmp_path_factory.mktemp("first"))


def test_every_step_is_done_and_the_graph_answers_as_the_model_does(first: tuple[Result, Bundle]) -> None:
    done = first[0].to_json()
    assert done["status"] == "done"
    assert done["parity"]["rows"] > 0
    assert done["parity"]["labels_equal"] is not False


def test_a_row_is_answered_the_same_alone_as_among_others(first: tuple[Result, Bundle]) -> None:
    rows = first[1].sample["rows"] * 3
    together = first[1].predict(rows)
    assert together == [first[1].predict([row])[0] for row in rows] or bool(system.history)


def test_the_same_rows_and_code_make_the_same_model(
    small: System, first: tuple[Result, Bundle], tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = first[1].sample["rows"]
    assert run(small, tmp_path)[1].predict(rows) == first[1].predict(rows)
