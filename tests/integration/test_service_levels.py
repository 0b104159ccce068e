"""A real server notes what it did and used; the monitor judges it by the canvas, beside the server and inside it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron.demonstration import serving
from perron.monitor import Monitor
from perron.pages.monitor import render
from perron.project import Project
from perron.serve.http import free_port
from tests.conftest import perron, perron_json
from tests.integration.test_pipeline import run, write_project
from tests.integration.test_serving_models import until

ROW = {"size": 1.0, "weight": 0.5, "kind": "a", "code": 1, "on": True, "day": "2024-01-01", "word": "w1", "key": 1}
CANVAS = "[budgets]\nmax_p99_ms = {p99}\nmachine_cost_per_hour = 1000\nmax_cost_per_1000 = 0.001\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("levels") / "things")
    run(folder)
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "things"))


def ask(address: str, requests: int) -> None:
    with httpx.Client(base_url=address) as client:
        for _ in range(requests):
            assert client.post("/v1/predictions", json={"rows": [ROW]}).status_code == 200


def test_what_a_server_did_and_used_is_in_the_look_the_page_and_the_alerts(project: Path) -> None:
    (project / "canvas.toml").write_text(CANVAS.format(p99=0.0001))
    with serving(project) as (address, _):
        ask(address, 1000)
        httpx.post(f"{address}/v1/predictions", json={"rows": [{}]})  # the asker's fault
    told = perron_json("monitor", "--fail-on", "never", cwd=project)
    service = told["service"]
    assert service["ways"][0]["requests"] == 1000 and service["ways"][0]["route"] == "champion"
    assert service["refused"] == {"invalid": 1} and service["budget_left"] == 1.0
    (process,) = service["processes"]
    assert process["resident_bytes"] > 10**7 and process["open_files"] > 3 and process["cpu_share"] > 0
    found = {one["kind"]: one for one in told["findings"]}
    assert found["latency"]["severity"] == "high" and found["latency"]["limit"] == 0.0001
    assert found["cost"]["value"] == pytest.approx(service["cost_per_1000"])
    said = perron("monitor", "--alert", "--fail-on", "never", cwd=project)
    assert "1,000 requests since" in said.stdout and "1,000 predictions cost" in said.stdout
    assert "raised: latency of champion" in said.stderr
    opened = Project.open(project)
    page = render(Monitor(opened, "things").look())
    assert "Error budget left" in page and "1,000" in page and "99 % within" in page
    opened.ledger.close()
    (project / "canvas.toml").write_text(CANVAS.format(p99=5000))
    again = [perron("monitor", "--alert", "--fail-on", "never", cwd=project).stderr for _ in range(3)]
    assert "recovered: latency of champion" in again[-1]  # by the canvas's other number


def test_every_worker_tells_what_it_uses(project: Path) -> None:
    with serving(project, "--workers", "2") as (address, _):
        ask(address, 10)
        page = until(lambda: both_workers(httpx.get(f"{address}/metrics").text))
        assert "perron_disk_free_bytes" in page and "perron_memory_bytes" in page
    service = perron_json("monitor", "--fail-on", "never", cwd=project)["service"]
    assert [one["worker"] for one in service["processes"]] == [0, 1]
    assert sum(one["requests"] for one in service["ways"]) == 10


def both_workers(page: str) -> str | None:
    wanted = [
        f'perron_process_{what}{{worker="{worker}"}}' for what in ("resident_bytes", "open_files") for worker in (0, 1)
    ]
    return page if all(one in page for one in wanted) else None


@contextmanager
def started(project: Path, *options: str) -> Iterator[tuple["subprocess.Popen[str]", str, Path]]:
    """A server in a process of its own, its address, and where its errors go; killed at last."""
    port, said = free_port(), project.parent / "said"
    with said.open("w") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-m", "perron", "serve", "--port", str(port), *options],
            cwd=project, stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True,
        )  # fmt: skip
    with server:
        try:
            assert server.stdout is not None and " answers at " in server.stdout.readline()
            yield server, f"http://127.0.0.1:{port}", said
        finally:
            server.kill()


def children(of: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(of):
                found.append(int(path.parent.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_monitor_beside_the_server_raises_alerts_and_ends_with_it(project: Path) -> None:
    with started(project, "--monitor", "1") as (server, address, said):
        with httpx.Client(base_url=address) as client:
            for _ in range(100):  # of another kind than those of the training
                row = {**ROW, "size": 5000.0}
                assert client.post("/v1/predictions", json={"rows": [row]}).status_code == 200
        until(lambda: "raised: drift of size" in said.read_text(), within_s=60)
        (monitor,) = children(server.pid)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0
    assert not is_running(monitor) and "Traceback" not in said.read_text()


@pytest.mark.parametrize("options", [("--monitor", "30"), ("--workers", "2")], ids=["monitor", "workers"])
def test_what_a_killed_server_had_started_ends_too(project: Path, options: tuple[str, str]) -> None:
    with started(project, *options) as (server, _, _):
        begun = children(server.pid)
        assert len(begun) == (1 if "--monitor" in options else 2)
    until(lambda: not any(is_running(pid) for pid in begun), within_s=60)


def test_a_watch_goes_on_after_an_error_and_follows_the_champion(project: Path) -> None:
    (project / "canvas.toml").write_text("[budgets]\nmax_p99_ms = 'many'\n")
    with subprocess.Popen(
        [sys.executable, "-m", "perron", "monitor", "--watch", "1", "--json"],
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        assert watching.stderr is not None and watching.stdout is not None
        assert "max_p99_ms" in watching.stderr.readline()
        (project / "canvas.toml").unlink()
        assert watching.stdout.readline() == "{\n"
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=20)


def test_a_replay_notes_no_minutes(project: Path) -> None:
    (project / "now").write_text("2026-01-31T12:00:00Z")
    with serving(project, "--clock", str(project / "now")) as (address, _):
        ask(address, 3)
    assert not (project / ".perron" / "minutes").exists()
    assert perron_json("monitor", "--fail-on", "never", cwd=project)["service"] is None


def test_minutes_hold_nothing_of_what_was_asked(project: Path) -> None:
    with serving(project) as (address, _):
        ask(address, 5)
    (path,) = (project / ".perron" / "minutes").glob("*.jsonl")
    lines: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    assert {key for line in lines[1:] for key in line} == {"start", "seconds", "traffic", "refused", "usage"}
    assert "w1" not in path.read_text()
    assert oct(os.stat(path).st_mode & 0o777) == "0o640" and time.time() - path.stat().st_mtime < 300
