"""A whole project as a team has it: green from the first minute, and red where something was broken on purpose."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import need, perron
from tests.unit.test_proposal import write_csv

ROWS = 600


def table(rows: int = ROWS) -> dict[str, list[object]]:
    """Columns with the names of types and of Python's words, and a price to predict from them."""
    return {
        "date": [f"{2000 + n // 336}-{1 + n // 28 % 12:02}-{1 + n % 28:02}" for n in range(rows)],
        "float": [n * 37 % 101 * 1.5 for n in range(rows)],
        "int": [n % 4 for n in range(rows)],
        "bool": [["yes", "no"][n % 2] for n in range(rows)],
        "Literal": [["north", "south", "east"][n % 3] for n in range(rows)],
        "Annotated": ["" if n % 20 == 0 else n * 53 % 97 * 0.3 for n in range(rows)],
        "pn": [n * 71 % 89 * 0.25 for n in range(rows)],
        "Größe m²": [n * 29 % 83 / 11 for n in range(rows)],
        "日本": [["ä", "ö"][n % 2] for n in range(rows)],
        "id": list(range(rows)),
        "class": [(n * 37 % 101) * 3 + (n % 4) * 20 + (n * 29 % 83) for n in range(rows)],
    }


def make(project: Path, *targets: str) -> "subprocess.CompletedProcess[str]":
    """What make says of targets, in the environment that the tests run in."""
    need("make")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_", "MAKE"))}
    return subprocess.run(
        ["make", "--no-print-directory", *targets, f"PYTHON={sys.executable}"],
        cwd=project, env=kept, capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """A project as `perron init` leaves it, and what `make test` said of it."""
    folder = tmp_path_factory.mktemp("whole")
    write_csv(folder / "rows.csv", table())
    perron("init", "houses", "--from", "rows.csv", "--target", "class", "--licence", "mit", cwd=folder)
    return folder / "houses", make(folder / "houses", "test")


@pytest.fixture
def project(tested: tuple[Path, object], tmp_path: Path) -> Path:
    """A copy of it, tested and trained, which a test may break."""
    return Path(shutil.copytree(tested[0], tmp_path / "houses"))


def test_a_new_project_passes_its_own_tests(tested: tuple[Path, "subprocess.CompletedProcess[str]"]) -> None:
    done = tested[1]
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "10.00/10",
        "Success: no issues found",
        "is the champion",
        "tests/system/test_service.py",
        "perron .....",
    ):
        assert words in done.stdout, words
    assert not re.search(r"\d+ (failed|error)", done.stdout)


def test_what_its_tests_leave_is_ignored_and_no_file_is_stale(tested: tuple[Path, object]) -> None:
    need("git")
    said = subprocess.run(["git", "-C", tested[0], "status", "--porcelain"], capture_output=True, text=True, check=True)
    assert said.stdout == ""
    assert "31 as derived" in perron("sync", "--check", cwd=tested[0]).stdout


def test_it_begins_on_the_branches_of_its_model(tested: tuple[Path, object], tmp_path: Path) -> None:
    need("git")

    def branches(folder: Path) -> str:
        words = ["git", "-C", folder, "for-each-ref", "--format=%(HEAD)%(refname:short)", "refs/heads"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    assert branches(tested[0]) == "*develop\n main\n"
    write_csv(tmp_path / "rows.csv", table(60))
    perron("init", "trunk", "--from", "rows.csv", "--target", "class", "--branching", "trunk", cwd=tmp_path)
    assert branches(tmp_path / "trunk") == "*main\n"


# ------------------------------------------------------------------ broken on purpose


def rewrite(project: Path, change: Callable[[dict[str, list[object]]], None]) -> None:
    columns = table()
    change(columns)
    write_csv(project / "data" / "rows.csv", columns)


def test_other_data_fails_the_data_tests_each_by_its_name(project: Path) -> None:
    def change(columns: dict[str, list[object]]) -> None:
        columns["float"] = [1000 * value for value in columns["float"]]  # type: ignore[operator]
        columns["Annotated"] = ["" if n % 3 == 0 else value for n, value in enumerate(columns["Annotated"])]
        columns["Literal"] = ["north" if value == "east" else value for value in columns["Literal"]]
        for name, values in columns.items():
            columns[name] = values[: ROWS // 3]

    rewrite(project, change)
    done = make(project, "data")
    assert done.returncode != 0 and "4 failed" in done.stdout, done.stdout
    for said in (
        r"the median is [\d.e+]+: another unit", "of the values are missing", "common values that no row has any more: .'east'",
        "test_there_are_as_many_rows_as_expected",
    ):  # fmt: skip
        assert re.search(said, done.stdout), (said, done.stdout)


def test_a_column_that_is_gone_or_breaks_the_contract_fails_the_data_stage(project: Path) -> None:
    rewrite(project, lambda columns: columns.pop("pn"))
    done = make(project, "data")
    assert done.returncode != 0 and "pn" in done.stderr
    rewrite(project, lambda columns: columns.update(float=[-1.0] * ROWS))
    assert make(project, "data").returncode != 0


def declare(project: Path, text: str) -> None:
    path = project / "system.py"
    path.write_text(
        path.read_text().replace("import perron as pn\n", "import sklearn.ensemble\nimport perron as pn\n") + text
    )


RIGHT = '''

@system.features
def features(xp: Any, c: Any) -> dict[str, Any]:
    """What the size is per float."""
    return {"ratio": c.float / (1 + c.pn), "missing": xp.astype(xp.isnan(c.Annotated), xp.float64)}
'''


@pytest.mark.parametrize(
    ("wrong", "passes"),
    [
        ("c.float / (1 + c.pn)", True),
        ("c.float / (1 + xp.mean(c.pn))", False),  # of all rows
        ("xp.sum(c.float)", False),  # one number
        ("c.size", False),  # no such column
    ],
)
def test_a_wrong_feature_fails_the_unit_tests_and_a_right_one_does_not(project: Path, wrong: str, passes: bool) -> None:
    declare(project, RIGHT.replace("c.float / (1 + c.pn)", wrong))
    path = project / "system.py"
    path.write_text(
        path.read_text()
        .replace("import sklearn.ensemble\n", "")
        .replace("from typing import", "from typing import Any\nfrom typing import", 1)
    )
    done = make(project, "unit")
    assert (done.returncode == 0) is passes, done.stdout
    if passes:
        assert "skipped" not in done.stdout
        typed = make(project, "types")
        assert typed.returncode == 0, typed.stdout


def test_a_model_of_chance_fails_the_integration_tests(project: Path) -> None:
    declare(
        project,
        "\n\n@system.model\ndef model(params):\n    return sklearn.ensemble.RandomForestRegressor(3, max_features=1)\n",
    )
    done = make(project, "integration")
    assert done.returncode != 0 and "test_the_same_rows_and_code_make_the_same_model" in done.stdout, done.stdout


def test_a_useless_model_is_refused_and_a_missed_goal_fails_acceptance(project: Path) -> None:
    path = project / "canvas.toml"
    text = re.sub(r"^# (at_most = )100", r"\g<1>0.0001", path.read_text(), count=1, flags=re.MULTILINE)
    path.write_text(text)
    assert "at_most = 0.0001" in text
    assert make(project, "train").returncode != 0  # refused by the gate that the goal is
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/acceptance"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "rmse at most 0.0001" in done.stdout


def test_a_contract_without_its_model_fails_acceptance(project: Path) -> None:
    path = project / "system.py"
    path.write_text(re.sub(r"(?m)^    bool: .*\n", "", path.read_text()))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/acceptance"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "perron run makes a model of the contract as it is now" in done.stdout


@pytest.mark.slow
def test_housing_from_an_empty_folder_passes_its_own_tests(housing_csv: Path, tmp_path: Path) -> None:
    perron("init", "house-prices", "--from", housing_csv, "--target", "median_house_value", cwd=tmp_path)
    done = make(tmp_path / "house-prices", "test")
    assert done.returncode == 0, done.stdout + done.stderr
