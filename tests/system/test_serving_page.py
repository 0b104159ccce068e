"""What docs/serving.md says is run: its commands against a real service, its programs against the same bundle."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perron.demonstration import serving
from tests.conftest import need, perron

TEXT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")
OWN = TEXT.partition("## Open Inference Protocol")[0]  # the rest is test_serving_docs's
COMMANDS = re.findall(r"```sh\n(.*?)```", OWN, re.DOTALL)
PROGRAMS = re.findall(r"```python\n(.*?)```", OWN, re.DOTALL)


@pytest.fixture(scope="module")
def place(housing_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder with the bundle and the client that the page speaks of, and a service's address."""
    folder = tmp_path_factory.mktemp("serving")
    shutil.copytree(next((housing_project / ".perron" / "bundles").iterdir()), folder / "house-prices-bundle")
    project = Path(shutil.copytree(housing_project, folder / "house-prices"))
    perron("client", "-o", folder / "client.py", cwd=project)
    with serving(project) as (address, _):
        yield folder, address


def run(place: tuple[Path, str], *words: str) -> "subprocess.CompletedProcess[str]":
    folder, address = place
    words = tuple(word.replace("http://127.0.0.1:8000", address) for word in words)
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(folder)}
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_a_command_of_the_page_is_answered(place: tuple[Path, str], number: int) -> None:
    need("curl")
    block = COMMANDS[number].replace("curl ", "curl --fail-with-body -sS ")
    said = run(place, "bash", "-ec", block).stdout
    assert '"predictions":[' in said and "/problems/" not in said


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_page_runs(place: tuple[Path, str], number: int, house: dict[str, Any]) -> None:
    more = ""
    if "Flask" in PROGRAMS[number]:
        more = f"\nanswer = app.test_client().post('/prices', json=[{house!r}])\nassert answer.status_code == 200, answer.text"
    elif "FastAPI" in PROGRAMS[number]:
        more = f"\nfrom starlette.testclient import TestClient\nwith TestClient(app) as asking:\n    answer = asking.post('/prices/v1/predictions', json={{'rows': [{house!r}]}})\nassert answer.status_code == 200, answer.text"
    run(place, sys.executable, "-W", "error", "-c", PROGRAMS[number] + more)


def test_the_page_names_every_path_of_the_service() -> None:
    from perron.serve import mlflow, rest

    for route in [*rest.routes(None), *mlflow.routes(None)]:  # type: ignore[arg-type]
        path = "…/card" if route.path.endswith("/card") else route.path
        assert f"`{path}`" in TEXT or f"`{route.method} {path}`" in TEXT or f"`{path}`," in TEXT, path
