"""Real data in; the whole way from a table to a receipt, over real HTTP, out: what `perron demo` does.

The data is scikit-learn's copy of the breast cancer data of Wisconsin (569 rows, 30 measurements;
W. H. Wolberg, W. N. Street and O. L. Mangasarian, 1995): 64 rows are held back as traffic.
"""

import csv
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.errors import DeclarationError, PerronError
from perron.pipeline import Result, run_pipeline
from perron.project import Project
from perron.start import start_project
from perron.system import load_system

__all__ = ["Demonstration", "demonstrate", "serving"]

HELD_BACK = 64
START_LIMIT_S = 60
MARKER = "demo.json"


@dataclass
class Demonstration:
    """What the demonstration did: the folder, the run, the service's address, the traffic and one receipt."""

    folder: Path
    run: dict[str, Any]
    address: str
    requests: int
    right: int
    receipt: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder)}


@contextmanager
def demonstrate(
    folder: Path, tell: Callable[[str], None], progress: Callable[[str, str, float], None]
) -> Iterator[Demonstration]:
    """Does it all; the service answers until the context is left.

    Args:
        folder: a new folder, or one that an earlier demonstration made (which is then begun anew).
        tell: told of each stage.
        progress: told of the pipeline's steps.

    Raises:
        PerronError: a stage failed, or the model was refused by its gates.
    """
    tell("writing the data and a project")
    traffic = _begin(folder)
    tell("running the pipeline")
    project = Project.open(folder)
    result = run_pipeline(load_system(folder / "system.py"), project, progress)
    _demand_registered(result)
    tell("starting the server")
    with serving(folder) as (address, port):
        tell(f"sending {len(traffic)} rows that the model never saw")
        right, prediction = _send(port, traffic)
        receipt = _get(port, f"/v1/predictions/{prediction}")
        yield Demonstration(folder, result.to_json(), address, len(traffic), right, receipt)


def _demand_registered(result: Result) -> None:
    if result.status != "done":
        missed = [gate["name"] for gate in result.outputs["gates"]["gates"] if not gate["passed"]]
        raise PerronError(f"The gates refused the model: {', '.join(missed)}.")


def _begin(folder: Path) -> list[dict[str, Any]]:
    """Writes the project, and returns the rows held back."""
    import shutil

    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    names = [str(name) for name in data.feature_names]
    rows = [dict(zip(names, values, strict=True)) for values in data.data.tolist()]
    labels = [str(data.target_names[number]) for number in data.target]
    if folder.exists() and any(folder.iterdir()):
        if not (folder / ".perron" / MARKER).is_file():
            raise DeclarationError(
                f"{folder} exists and wasn't made by `perron demo`; choose another folder with --folder."
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = folder.with_name(f".{folder.name}.csv")
    try:
        with open(source, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*names, "diagnosis"])
            writer.writeheader()
            writer.writerows(
                {**row, "diagnosis": label} for row, label in zip(rows[HELD_BACK:], labels[HELD_BACK:], strict=True)
            )
        made = start_project(folder, source, "diagnosis", source_name="breast_cancer.csv", begin_git="always")
    finally:
        source.unlink(missing_ok=True)
    (folder / ".perron").mkdir(exist_ok=True)
    (folder / ".perron" / MARKER).write_text("{}\n")
    columns = made.columns
    return [
        {"row": {columns[name]: value for name, value in row.items()}, "truth": label}
        for row, label in zip(rows[:HELD_BACK], labels[:HELD_BACK], strict=True)
    ]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, int]]:
    """The address and port of a `perron serve` process of the project, on a free port; stopped when the context is left.

    Raises:
        PerronError: it doesn't start; shows what it said.
    """
    command = [sys.executable, "-m", "perron", "serve", "--port", "0", "-C", str(folder), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        try:
            assert server.stdout is not None and server.stderr is not None
            said = server.stdout.readline()
            if " answers at " not in said:
                raise PerronError(
                    f"The server didn't start: {server.stderr.read().strip() or said.strip() or 'it said nothing'}"
                )
            address = said.split(" answers at ")[1].split()[0]
            yield address, int(address.rpartition(":")[2])
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(START_LIMIT_S)
            except subprocess.TimeoutExpired:
                server.kill()


def _send(port: int, traffic: list[dict[str, Any]]) -> tuple[int, str]:
    """Sends each row as a request of its own; how many were predicted right, and the last prediction's id."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    right, prediction = 0, ""
    for item in traffic:
        body = json.dumps({"rows": [item["row"]]})
        connection.request("POST", "/v1/predictions", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        if "predictions" not in answer:
            raise PerronError(f"The server refused a row: {answer.get('detail')}")
        right += answer["predictions"][0]["value"] == item["truth"]
        prediction = answer["predictions"][0]["id"]
    connection.close()
    return right, prediction


def _get(port: int, path: str) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer
