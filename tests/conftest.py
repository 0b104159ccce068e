"""What all tests share: the command line as a subprocess, real housing data, and tools that may be missing."""

import csv
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOUSING_COLUMNS = [
    "longitude",
    "latitude",
    "housing_median_age",
    "total_rooms",
    "total_bedrooms",
    "population",
    "households",
    "median_income",
    "ocean_proximity",
    "median_house_value",
]


def need(tool: str) -> str:
    """The path of a program; a test that needs one that isn't there is skipped by its name, and fails in CI."""
    path = shutil.which(tool)
    if path is None:
        reason = f"{tool} isn't installed (scripts/tools.sh installs it)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def perron(*words: str | Path, cwd: Path, check: bool = True, **env: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command line in a folder, as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", "perron", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **env},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert done.returncode == 0, done.stderr
    return done


def perron_json(*words: str | Path, cwd: Path) -> Any:
    """The JSON that a command prints."""
    return json.loads(perron(*words, "--json", cwd=cwd).stdout)


def find_real_housing() -> Path | None:
    """California housing, where it is at hand: PERRON_HOUSING, or a folder `shared/data` beside the checkout."""
    named = os.environ.get("PERRON_HOUSING")
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "housing.csv"
    return Path(named) if named else beside if beside.is_file() else None


@pytest.fixture(scope="session")
def housing_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """California housing, or rows made in its likeness (20,640, 207 of them without bedrooms)."""
    real = find_real_housing()
    if real is not None:
        return real
    path = tmp_path_factory.mktemp("data") / "housing.csv"
    chance = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HOUSING_COLUMNS)
        for row in range(20_640):
            place = chance.choices(["<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"], [44, 32, 1, 11, 12])[0]
            households = chance.randint(1, 1500)
            income = round(chance.lognormvariate(1.2, 0.45), 4)
            rooms, bedrooms = households * chance.randint(3, 8), households * chance.randint(1, 2)
            value = 20_000 + 42_000 * income + (-60_000 if place == "INLAND" else 30_000) + chance.gauss(0, 20_000)
            writer.writerow(
                [round(chance.uniform(-124, -114), 2), round(chance.uniform(32, 42), 2), chance.randint(1, 52), rooms,
                 "" if row % 100 == 0 else bedrooms, households * 3, households, income, place, max(15_000, round(value))]
            )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def housing_project(housing_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made by `perron init` from the housing data, and run once. Tests don't change it; `housing_copy` they may."""
    folder = tmp_path_factory.mktemp("housing")
    perron("init", "house-prices", "--from", housing_csv, "--target", "median_house_value", cwd=folder)
    perron("run", cwd=folder / "house-prices")
    return folder / "house-prices"


@pytest.fixture
def housing_copy(housing_project: Path, tmp_path: Path) -> Path:
    """A copy of the housing project that a test may change."""
    return Path(shutil.copytree(housing_project, tmp_path / "house-prices"))


@pytest.fixture
def house() -> dict[str, Any]:
    """A row that the housing contract allows."""
    return {
        "longitude": -122.23, "latitude": 37.88, "housing_median_age": 41, "total_rooms": 880, "total_bedrooms": 129,
        "population": 322, "households": 126, "median_income": 8.3252, "ocean_proximity": "NEAR BAY",
    }  # fmt: skip
