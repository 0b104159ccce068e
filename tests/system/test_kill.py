"""What survives a process that is killed at any instant."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from perron import predictions
from tests.conftest import perron_json


def _start(folder: Path, *options: str) -> "tuple[subprocess.Popen[str], int]":
    server = subprocess.Popen(
        [sys.executable, "-m", "perron", "serve", "--port", "0", *options], cwd=folder, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert server.stdout is not None
    said = server.stdout.readline()
    return server, int(said.split(" answers at ")[1].split()[0].rpartition(":")[2])


def _send_until_it_dies(port: int, house: dict[str, Any], acknowledged: list[str], enough: threading.Event) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        while True:
            connection.request(
                "POST", "/v1/predictions", json.dumps({"rows": [house, house]}), {"Content-Type": "application/json"}
            )
            answer = json.loads(connection.getresponse().read())
            acknowledged.extend(prediction["id"] for prediction in answer["predictions"])
            if len(acknowledged) > 400:
                enough.set()
    except (OSError, http.client.HTTPException, ValueError):
        pass  # killed
    finally:
        connection.close()


@pytest.mark.parametrize("options", [(), ("--sync",)], ids=["log", "sync"])
def test_every_acknowledged_prediction_survives_kill_9(
    housing_copy: Path, house: dict[str, Any], options: tuple[str, ...]
) -> None:
    server, port = _start(housing_copy, *options)
    acknowledged: list[list[str]] = [[] for _ in range(4)]
    enough = threading.Event()
    clients = [threading.Thread(target=_send_until_it_dies, args=(port, house, mine, enough)) for mine in acknowledged]
    for client in clients:
        client.start()
    assert enough.wait(120)
    server.send_signal(signal.SIGKILL)
    server.wait()
    assert server.stdout is not None
    server.stdout.close()
    for client in clients:
        client.join()
    ids = [one for mine in acknowledged for one in mine]
    assert len(ids) > 400 and len(set(ids)) == len(ids)
    log = housing_copy / ".perron" / "predictions"
    for one in ids:
        assert predictions.find(log, one).input == house
    traced = perron_json("trace", ids[-1], cwd=housing_copy)
    assert traced["resolved"] == {"model": True, "run": True}


def test_a_killed_run_resumes_at_the_step_that_it_was_in(housing_project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "data").symlink_to(housing_project / "data")
    pipe = tmp_path / "training"
    os.mkfifo(pipe)
    (folder / "system.py").write_text(
        (housing_project / "system.py").read_text()
        + f"""

@system.model
def model(params):
    import pathlib, signal
    from sklearn.linear_model import Ridge
    pipe = pathlib.Path({str(pipe)!r})
    if pipe.exists():
        pipe.write_text("training")
        signal.pause()
    return Ridge()
"""
    )
    command = [sys.executable, "-m", "perron", "run"]
    first = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert pipe.read_text() == "training"  # waits until the step has begun
    first.kill()
    first.wait()
    pipe.unlink()
    found = perron_json("run", cwd=folder)
    statuses = {step["name"]: step["status"] for step in found["steps"]}
    assert statuses == {
        "snapshot": "cached", "split": "cached", "train": "done", "evaluate": "done", "gates": "done", "reference": "done", "bundle": "done", "register": "done",
    }  # fmt: skip
    runs = perron_json("runs", cwd=folder)
    assert [run["status"] for run in runs] == ["done", "killed"]
