"""A small project with a column of every kind, run once, for the tests that only serve it."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_pipeline import run, write_project


@pytest.fixture(scope="session")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that predicts one of three labels."""
    folder = write_project(tmp_path_factory.mktemp("rest") / "things", "label")
    run(folder)
    return folder


@pytest.fixture(scope="session")
def things_bundle(things: Path) -> Path:
    """The folder of its bundle."""
    return next((things / ".perron" / "bundles").iterdir())


@pytest.fixture
def thing() -> dict[str, Any]:
    """A row that its contract allows."""
    return {"size": 1.5, "weight": None, "kind": "a", "code": 2, "on": True, "day": "2024-02-29", "word": "w1"}
