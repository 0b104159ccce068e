"""The commands and the code of docs/batch.md run."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from perron.demonstration import serving
from tests.conftest import need
from tests.integration.test_serving_models import until

PAGE = (Path(__file__).parents[2] / "docs" / "batch.md").read_text()
COMMANDS = re.findall(r"^    ((?:perron|curl) .*)$", PAGE, re.MULTILINE)


@pytest.fixture
def folder(housing_copy: Path, housing_csv: Path) -> Path:
    (housing_copy / "rows.csv").write_text("".join(housing_csv.read_text().splitlines(keepends=True)[:301]))
    return housing_copy


def sh(command: str, folder: Path) -> str:
    command = re.sub(r"^perron", f"{shlex.quote(sys.executable)} -m perron", command)
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_of_the_page_run(folder: Path) -> None:
    said = [sh(command, folder) for command in COMMANDS if command.startswith("perron")]
    assert len(said) == 6
    assert "300 of 300" in said[0] and said[3].count("\n") == 300 and said[4].startswith("0 3 * * * cd ")
    assert {path.suffix for path in folder.glob("out*")} == {".parquet", ".csv"} and (folder / "scores.db").is_file()


def test_what_crontab_is_given_runs_once_a_period(folder: Path) -> None:
    (command,) = (command for command in COMMANDS if command.startswith("perron schedule"))
    line = sh(command, folder).split(" ", 5)[5].replace(r"\%", "%")
    assert subprocess.run(line, shell=True, cwd="/", check=False).returncode == 0
    (made,) = folder.glob("out-*.parquet")
    before = made.stat()
    assert subprocess.run(line, shell=True, cwd="/", check=False).returncode == 0
    assert made.stat() == before and "is there already" in (folder / ".perron" / "schedule.log").read_text()


def test_the_request_of_the_page_is_accepted(folder: Path) -> None:
    need("curl")
    (command,) = (command for command in COMMANDS if command.startswith("curl"))
    with serving(folder) as (address, _):
        said = sh(command.replace("http://127.0.0.1:8000", address), folder)
        assert said.startswith("HTTP/1.1 202")
        place = next(line.split()[1] for line in said.splitlines() if line.lower().startswith("location:"))
        until(lambda: httpx.get(address + place).json()["state"] == "done")
        lines = httpx.get(f"{address}{place}/predictions", headers={"Accept": "application/jsonl"}).text.splitlines()
    assert len(lines) == 300 and all("value" in json.loads(line) for line in lines)


def test_the_code_of_the_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(code, {})
