"""The page on CI: its commands run, its settings are read; a new project is green here; what can't work says what to do."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from perron.stages import NAMES, CiSettings, read_ci_settings
from tests.conftest import need, perron, perron_json

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ci.md").read_text()


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture(scope="module")
def begun(housing_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 3,000 houses, begun and run once, with a test and all committed; its ledger has version 1."""
    need("git")
    folder = tmp_path_factory.mktemp("ci")
    (folder / "few.csv").write_text("\n".join(housing_csv.read_text().splitlines()[:3001]) + "\n")
    perron("init", "houses", "--from", "few.csv", "--target", "median_house_value", "--bare", cwd=folder)
    project = folder / "houses"
    text = (project / "system.py").read_text()
    (project / "system.py").write_text(
        text + '\n\n@system.model\ndef model(params):\n    """A line."""\n    return LinearRegression(**params)\n'
    )
    (project / "system.py").write_text(
        (project / "system.py")
        .read_text()
        .replace("import perron as pn\n", "import perron as pn\nfrom sklearn.linear_model import LinearRegression\n", 1)
    )
    (project / "tests" / "unit").mkdir(parents=True)
    (project / "tests" / "unit" / "test_name.py").write_text(
        '"""The name."""\n\nfrom system import system\n\n\ndef test_the_system_has_its_name():\n    """It is that of the folder."""\n    assert system.name == "houses"\n'
    )
    (project / "pyproject.toml").write_text(
        (project / "pyproject.toml").read_text()
        + '\n[tool.pytest.ini_options]\npythonpath = ["."]\n\n[tool.mypy]\nfiles = ["system.py"]\nignore_missing_imports = true\n'
    )
    (project / ".gitignore").write_text(".perron/\n__pycache__/\n.*_cache/\nkept/\nreport.md\n")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "A model of our own")
    perron("run", cwd=project)
    return project


@pytest.fixture
def project(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "houses"))


def test_the_pages_commands_run(project: Path, tmp_path: Path) -> None:
    lines = re.findall(r"^ {4}perron (.+)$", PAGE, re.MULTILINE)
    assert len(lines) == 9
    said = {}
    for line in lines:
        where = project
        if line == "ci restore kept":
            where = tmp_path / "clone"
            git(tmp_path, "clone", "-q", str(project), str(where))
            shutil.copytree(project / "kept", where / "kept")
        said[line] = perron(*shlex.split(line), cwd=where)
    assert re.search(r"^image +passed +\d+\.\d$", said["ci run"].stdout, re.MULTILINE), said["ci run"].stdout
    assert "left out: integration, there is no test in tests/integration/" in said["ci run"].stdout
    assert "isn't what CI runs" in said["ci run types data --keep-going"].stderr  # the workflows aren't committed yet
    assert ".github/workflows/release.yml: written" in said["ci github"].stdout
    assert said["ci report"].stdout.startswith("### houses: ✅ version 1 is the first: rmse ")
    assert "houses version 1 is here" in said["ci restore kept"].stdout
    assert "version 1" in (project / "report.md").read_text()
    assert perron_json("models", cwd=tmp_path / "clone")[0]["version"] == 1
    assert perron("ci", "github", "--check", cwd=project).returncode == 0


def test_the_pages_settings_are_those_that_are_read(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(text)
    assert read_ci_settings(tmp_path).service_folder == "/srv/house-prices"
    named = set(tomllib.loads(text)["tool"]["perron"]["ci"]) | {"branching"}
    assert named == {field.name for field in fields(CiSettings)}
    assert list(NAMES) == re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)


def test_the_comparison_tells_what_a_change_did_and_json_says_the_same(project: Path) -> None:
    text = (project / "system.py").read_text()
    (project / "system.py").write_text(
        text.replace("LinearRegression", "Lasso").replace("(**params)", "(alpha=2e4, **params)")
    )
    perron("run", cwd=project)
    told = perron_json("ci", "report", cwd=project)
    assert "is worse than version 1" in told["verdict"] and told["candidate"]["version"] == 2
    assert {score["says"] for score in told["scores"]} <= {"worse", "not told apart"} and told["candidate"]["dirty"]
    page = perron("ci", "report", cwd=project).stdout
    assert told["verdict"] in page and "with uncommitted changes" in page


# ------------------------------------------------------------------ what can't work


def files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if ".git/" not in f"{path}/" and "cache" not in str(path)
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ci", "run", "acceptence"], "There is no stage 'acceptence'; did you mean 'acceptance'?"),
        (["ci", "run", "lint", "prod"], "There is no stage 'prod'; did you mean 'prd'?"),
        (["ci", "run", "system"], "The stage system has nothing to run: there is no test in tests/system/."),
        (["ci", "report", "7"], "houses has no version '7'"),
        (["ci", "report", "--against", "challanger"], "houses has no version 'challanger'"),
        (["ci", "keep", "tests"], "exists and isn't empty"),
        (["ci", "restore", "tests"], "is there already"),
    ],
)
def test_what_isnt_there_is_told_in_a_line_and_nothing_is_written(
    project: Path, words: list[str], expected: str
) -> None:
    before = files(project)
    done = perron(*words, cwd=project, check=False)
    assert done.returncode == 1 and expected in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
    assert files(project) == before


def test_without_a_repository_there_are_no_workflows_and_stages_run_with_a_word(project: Path) -> None:
    shutil.rmtree(project / ".git")
    before = files(project)
    done = perron("ci", "github", cwd=project, check=False)
    assert done.returncode == 1 and "isn't in a git repository" in done.stderr and "`git init -b main`" in done.stderr
    assert files(project) == before
    looked = perron("ci", "github", "--check", cwd=project, check=False)
    assert "stale" in looked.stdout and not looked.stderr  # files can be looked at anywhere
    ran = perron("ci", "run", "types", cwd=project)
    assert ran.stderr.startswith("perron: there is no git repository here") and re.search("types +passed", ran.stdout)
    assert "nothing says what dev would get" in perron("ci", "run", "dev", cwd=project, check=False).stderr


def test_uncommitted_changes_are_told_and_never_deployed(project: Path) -> None:
    (project / "notes.txt").write_text("")
    ran = perron("ci", "run", "types", cwd=project)
    assert ran.stderr == "perron: 1 file has changes that aren't committed: what runs here isn't what CI runs.\n"
    before = files(project)
    done = perron("ci", "run", "dev", cwd=project, check=False)
    assert done.returncode == 1 and "dev gets only what is: commit them" in done.stderr and not done.stdout
    assert files(project) == before


def test_a_tool_that_isnt_installed_is_named_before_anything_runs(project: Path, tmp_path: Path) -> None:
    """With a Python of its own, beside which there are no tools."""
    lonely = tmp_path / "lonely" / "bin"
    lonely.mkdir(parents=True)
    (lonely / "python").symlink_to(sys.executable)
    for name in ("git",):
        (lonely / name).symlink_to(need(name))
    places = os.pathsep.join(place for place in sys.path if place)
    done = subprocess.run(
        [str(lonely / "python"), "-m", "perron", "ci", "run", "lint", "types"], cwd=project, capture_output=True, text=True,
        env={"PATH": str(lonely), "PYTHONPATH": places, "HOME": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and not done.stdout, done.stdout
    assert done.stderr == (
        "perron: ruff (stage lint) and pylint (stage lint) and mypy (stage types) are not installed: "
        "pip install ruff pylint mypy; nothing was run.\n"
    )


def test_a_stage_that_fails_ends_the_run_and_json_stays_json(project: Path) -> None:
    (project / "tests" / "unit" / "test_name.py").write_text("def test_it():\n    assert False\n")
    done = perron("ci", "run", "types", "unit", "data", "--json", cwd=project, check=False)
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert [(one["stage"], one["status"]) for one in found["stages"]] == [
        ("types", "passed"),
        ("unit", "failed"),
        ("data", "not run"),
    ]
    assert found["stages"][1]["command"] == "pytest tests/unit" and "1 failed" in done.stderr


def test_a_workflow_that_is_stale_or_changed_is_told(project: Path) -> None:
    perron("ci", "github", cwd=project)
    (project / "pyproject.toml").write_text(
        (project / "pyproject.toml").read_text() + "\n[tool.perron.ci]\nkeep_days = 30\n"
    )
    done = perron("ci", "github", "--check", cwd=project, check=False)
    assert done.returncode == 1 and ".github/workflows/release.yml: stale" in done.stdout
    path = project / ".github" / "workflows" / "release.yml"
    path.write_text(path.read_text() + "# mine\n")
    assert "release.yml: changed by hand" in perron("ci", "github", cwd=project).stdout and "# mine" in path.read_text()
    perron("ci", "github", "--force", cwd=project)
    assert "# mine" not in path.read_text() and "retention-days: 30" in path.read_text()


# ------------------------------------------------------------------ a new project


@pytest.mark.slow
def test_from_an_empty_folder_make_test_and_ci_run_of_a_new_project_are_green(
    housing_csv: Path, tmp_path: Path
) -> None:
    need("make"), need("git")
    perron("init", "house-prices", "--from", housing_csv, "--target", "median_house_value", cwd=tmp_path)
    folder = tmp_path / "house-prices"
    made = subprocess.run(
        ["make", "test", f"PYTHON={sys.executable}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-2000:]
    ran = subprocess.run(
        [sys.executable, "-m", "perron", "ci", "run"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-2000:]
    passed = re.findall(r"^(\w+) +passed ", ran.stdout, re.MULTILINE)
    assert passed == list(NAMES) and "left out" not in ran.stdout
    assert not git(folder, "status", "--porcelain")
