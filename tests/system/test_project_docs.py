"""The page on the project: its commands run as they stand, and what it says of options, files and statuses is so."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from perron.organisation import Organisation
from perron.ship.files import FileStatus
from perron.ship.project import OWN, synced_files
from perron.system import load_system
from tests.conftest import perron, perron_json
from tests.system.test_documents import COMMANDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "project.md").read_text()


@pytest.fixture(scope="module")
def made(housing_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's first commands, run by a shell as they stand; `make test` alone is only asked what it would do."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "housing.csv").write_bytes(housing_csv.read_bytes())
    (folder / "bin").mkdir()
    (folder / "bin" / "perron").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m perron "$@"\n')
    (folder / "bin" / "perron").chmod(0o755)
    block = re.search(r"(?m)(?:^ {4}.+\n)+", PAGE)
    assert block is not None
    script = re.sub(r"(?m)^ {4}", "", block[0]).replace("make test ", "make --dry-run test PYTHON=python ")
    env = {**os.environ, "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["sh", "-ec", script], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout and "files are up to date" in done.stdout
    stages = re.findall(r"python -m (?:pytest|ruff|mypy|perron)", done.stdout)
    assert len(stages) >= 9
    return folder / "house-prices"


def test_the_pages_files_are_there_and_every_file_is_on_the_page(made: Path) -> None:
    table = PAGE[PAGE.index("## What is in it") : PAGE.index('"Yours" is')]
    named = set(re.findall(r"`([\w./-]+)`", table)) - {"--perron", "dev", "LICENSE"}
    for name in named:
        assert (made / name).exists() or name == "perron init", name
    assert set(re.findall(r"^\| `([\w./]+)` \|.*\| yours \|$", table, re.MULTILINE)) == set(OWN)
    for name in synced_files(load_system(made / "system.py"), Organisation(licence="mit"), "1"):
        assert any(name == word or name.startswith(word.rstrip("/") + "/") for word in {*named, "LICENSE"}), name


def test_the_pages_options_and_statuses_are_those_there_are() -> None:
    for verb in ("init", "sync"):
        for param in COMMANDS[verb].params:
            if param.param_type_name == "option":
                longest = max(param.opts, key=len).replace("--git", "--no-git")
                assert (
                    longest in ("--help", "--project", "--query", "--option")
                    or f"`{longest}" in PAGE
                    or longest in PAGE
                ), longest
    for status in get_args(FileStatus):
        assert f"`{status}`" in PAGE, status


def test_the_pages_table_of_answers_is_read(made: Path) -> None:
    (text,) = re.findall(r"```toml\n\[tool.perron.project\]\n(.*?)```", PAGE, re.DOTALL)
    path = made / "pyproject.toml"
    before = path.read_text()
    path.write_text(
        re.sub(
            r"(\[tool\.perron\.project\]\n).*?\n\n",
            lambda found: found[1] + text + "\n",
            before,
            count=1,
            flags=re.DOTALL,
        )
    )
    try:
        assert perron_json("sync", "--force", cwd=made)[".github/CODEOWNERS"] == "written"
        assert (made / ".github/CODEOWNERS").read_text().endswith("* @house-team\n")
    finally:
        path.write_text(before)
        perron("sync", "--force", cwd=made)


def test_a_bare_project_grows(made: Path, tmp_path: Path) -> None:
    perron(
        "init", "bare", "--from", made.parent / "housing.csv", "--target", "median_house_value", "--bare", cwd=tmp_path
    )
    folder = tmp_path / "bare"
    refused = perron("sync", cwd=folder, check=False)
    assert refused.returncode == 1 and "has no table [tool.perron.project]" in refused.stderr
    with open(folder / "pyproject.toml", "a") as file:
        file.write("\n[tool.perron.project]\n")
    found = json.loads(perron("sync", "--json", cwd=folder).stdout)
    assert found["pyproject.toml"] == "changed" == found[".gitignore"] and found["Makefile"] == "written"
    assert perron("sync", "--check", cwd=folder).returncode == 0
    subprocess.run(["git", "-C", folder, "add", "-A"], check=True)
    subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "Grow"], check=True
    )
    found = perron_json("sync", "--restore", "pyproject.toml", "--restore", ".gitignore", cwd=folder)
    assert found["pyproject.toml"] == "written" == found[".gitignore"]
    assert {*perron_json("sync", cwd=folder).values()} == {"current"}
    for words in (["ruff", "check", "."], ["ruff", "format", "--check", "."]):
        subprocess.run([sys.executable, "-m", *words], cwd=folder, check=True, capture_output=True)


def test_what_sync_says_of_a_conflict_and_of_stale_files(made: Path, tmp_path: Path) -> None:
    """A new version of Perron is simulated: the record says that another text was derived last."""
    folder = tmp_path / "house-prices"
    subprocess.run(["git", "clone", "-q", made, folder], check=True)
    record = folder / ".perron-files.json"
    data = json.loads(record.read_text())

    def older(name: str, old: str, new: str) -> None:
        import hashlib

        text = (folder / name).read_text()
        assert old in text
        lines = text.replace(old, new, 1)
        data["files"][name] |= {"lines": lines.split("\n"), "sha256": hashlib.sha256(lines.encode()).hexdigest()}
        (folder / name).write_text(lines)

    older("Makefile", "VENV ?= .venv", "VENV ?= .older")
    older("docs/api.md", "# 5 API", "# 5 The API")
    record.write_text(json.dumps(data))
    (folder / "Makefile").write_text((folder / "Makefile").read_text().replace("VENV ?= .older", "VENV ?= .mine"))
    checked = perron("sync", "--check", cwd=folder, check=False)
    assert (
        checked.returncode == 1
        and "1 of 30 files are stale" in checked.stderr
        and "docs/api.md: stale" in checked.stdout
    )
    refused = perron("sync", cwd=folder, check=False)
    assert refused.returncode == 1 and refused.stderr.startswith(
        "perron: You changed Makefile, which would be merged, and they aren't committed"
    )
    subprocess.run(
        ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "Mine"], check=True
    )
    done = perron("sync", cwd=folder, check=False)
    assert done.returncode == 1 and "Makefile: conflict" in done.stdout and "docs/api.md: written" in done.stdout
    assert done.stderr.startswith("perron: Makefile: keep what is right")
    assert "<<<<<<< yours\nVENV ?= .mine\n=======\nVENV ?= .venv\n>>>>>>> perron" in (folder / "Makefile").read_text()
    assert perron("sync", "--check", cwd=folder, check=False).returncode == 1
