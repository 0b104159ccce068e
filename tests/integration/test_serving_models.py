"""Several versions in one server: swaps under load, workers that die, routes, shadows, deadlines, a full queue."""

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron import predictions
from perron.demonstration import serving
from perron.project import Project
from tests.conftest import perron
from tests.integration.test_pipeline import run, write_project

ROW = {"size": 1.5, "kind": "a", "code": 2, "on": True, "day": "2024-02-29", "word": "w1"}
BODY = json.dumps({"rows": [ROW]})
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with two versions, the first of them champion, the second challenger."""
    folder = write_project(tmp_path / "things", "label")
    run(folder)
    system = folder / "system.py"
    changed = system.read_text().replace('source="things.csv"', 'params={"num_leaves": 5}, source="things.csv"')
    assert changed != system.read_text()
    system.write_text(changed)
    run(folder)
    perron("promote", "2", "--alias", "challenger", cwd=folder)
    perron("promote", "1", cwd=folder)
    return folder


def ask(address: str, path: str = "/v1/predictions", body: str = BODY, **headers: str) -> httpx.Response:
    return httpx.post(address + path, content=body, headers={**JSON, **headers}, timeout=30)


def until(condition: Callable[[], Any], within_s: float = 60.0) -> Any:
    """The condition's first value that is true."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        threading.Event().wait(0.02)
    return found


@contextmanager
def load(address: str, threads: int = 2) -> Iterator[tuple[Counter[Any], list[str]]]:
    """Clients that ask without a pause; counts of (status, version), and the ids of what was acknowledged."""
    host, _, port = address.removeprefix("http://").partition(":")
    counts: Counter[Any] = Counter()
    ids: list[str] = []
    stop = threading.Event()

    def client() -> None:
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        while not stop.is_set():
            try:
                connection.request("POST", "/v1/predictions", BODY, JSON)
                answer = connection.getresponse()
                data = json.loads(answer.read())
                counts[answer.status, data.get("version")] += 1
                ids.extend(prediction["id"] for prediction in data.get("predictions", ()))
            except OSError as error:
                counts[type(error).__name__, None] += 1
                connection.close()
                connection = http.client.HTTPConnection(host, int(port), timeout=20)
        connection.close()

    clients = [threading.Thread(target=client) for _ in range(threads)]
    for one in clients:
        one.start()
    try:
        yield counts, ids
    finally:
        stop.set()
        for one in clients:
            one.join()


def test_swapping_versions_under_load_fails_no_request(project: Path, is_long: bool) -> None:
    ledger = Project.open(project).ledger
    with serving(project) as (address, _), load(address) as (counts, _):
        for swap in range(100 if is_long else 20):
            wanted = 2 - swap % 2
            ledger.set_alias("things", "champion", wanted, "test")
            until(lambda wanted=wanted: ask(address).json()["version"] == wanted)
    assert {status for status, _ in counts} == {200} and {version for _, version in counts} == {1, 2}
    segments = sorted((project / ".perron" / "predictions").glob("*.jsonl"))
    assert sum(1 for _ in predictions.iterate(project / ".perron" / "predictions")) >= sum(counts.values())
    assert all(len(path.read_bytes().splitlines()) > 1 for path in segments)


def test_a_bad_bundle_is_refused_while_the_old_one_goes_on(project: Path) -> None:
    ledger = Project.open(project).ledger
    path = ledger.bundle_path(ledger.get_version("things", 2)) / "model.onnx"
    good = path.read_bytes()
    path.write_bytes(good[:-10])
    with serving(project) as (address, _):
        ledger.set_alias("things", "champion", 2, "test")
        until(lambda: httpx.get(f"{address}/v1/models").json()["models"][0]["fault"])
        assert ask(address).json()["version"] == 1
        assert "model.onnx was changed" in httpx.get(f"{address}/v1/models").json()["models"][0]["fault"]
        ledger.set_alias("things", "champion", 1, "test")
        until(lambda: httpx.get(f"{address}/v1/models").json()["models"][0]["fault"] is None)


def test_arms_and_versions_answer_by_their_own_path(project: Path) -> None:
    Project.open(project).ledger.add_routing(
        "things", {"kind": "ab", "arms": [{"name": "champion", "weight": 1}, {"name": "challenger", "weight": 1}]}
    )
    with serving(project) as (address, _):
        for path, version in (("1", 1), ("2", 2), ("champion", 1), ("challenger", 2)):
            assert ask(address, f"/v1/models/things/versions/{path}/predictions").json()["version"] == version
        assert ask(address, "/v1/models/things/versions/3/predictions").status_code == 404
        assert ask(address, "/v1/models/thing/predictions").status_code == 404
        keyed = [ask(address, **{"X-Routing-Key": f"user {n % 20}"}).json()["version"] for n in range(60)]
        assert keyed[:20] == keyed[20:40] == keyed[40:] and set(keyed) == {1, 2}
        given = ask(address, **{"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}).json()["predictions"][0]
        found = predictions.find(project / ".perron" / "predictions", given["id"])
        assert found.route in ("champion", "challenger")


def test_a_shadow_is_asked_logged_and_never_answers(project: Path) -> None:
    Project.open(project).ledger.add_routing(
        "things", {"kind": "single", "arms": [{"name": "champion"}], "shadow": [{"name": "challenger"}]}
    )
    with serving(project) as (address, _):
        assert {ask(address).json()["version"] for _ in range(30)} == {1}
        log = project / ".perron" / "predictions"
        until(lambda: sum(found.route == "challenger" for found in predictions.iterate(log)) == 30)


def test_a_deadline_that_has_passed_is_kept(project: Path) -> None:
    with serving(project) as (address, _):
        assert ask(address, **{"X-Timeout-Ms": "5000"}).status_code == 200
        refused = ask(address, body=json.dumps({"rows": [ROW] * 65}), **{"X-Timeout-Ms": "0.000001"})
        assert refused.status_code == 504 and "deadline passed" in refused.json()["detail"]
        for nonsense in ("soon", "-1", "0", "nan", "1e99"):
            assert ask(address, **{"X-Timeout-Ms": nonsense}).status_code == 400


def test_more_rows_than_may_wait_are_refused_with_a_time_to_come_again(project: Path) -> None:
    with serving(project, "--queue-rows", "5000") as (address, _):
        answers: list[httpx.Response] = []
        big = json.dumps({"rows": [ROW] * 4900})
        threads = [threading.Thread(target=lambda: answers.append(ask(address, body=big))) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert ask(address).status_code == 200


def test_a_worker_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(project: Path) -> None:
    with serving(project, "--workers", "2") as (address, _):
        children = _workers(project)
        assert len(children) == 2
        with load(address, threads=4) as (counts, ids):
            until(lambda: counts.total() > 200)
            os.kill(children[0], signal.SIGKILL)
            until(lambda: len(set(_workers(project)) - {children[0]}) == 2)
            seen = counts.total()
            until(lambda: counts.total() > seen + 500)
        answered = {key: count for key, count in counts.items() if key[0] != 200}
        assert sum(answered.values()) <= 8, counts  # the connections that the dead worker had
        metrics = httpx.get(f"{address}/metrics").text
        assert 'perron_predictions_total{model="things",route="champion",version="1"}' in metrics
    logged = {found.id for found in predictions.iterate(project / ".perron" / "predictions")}
    assert len(ids) == len(set(ids)) and set(ids) <= logged


@pytest.mark.slow
def test_memory_is_flat_under_load(project: Path, is_long: bool) -> None:
    """After a warm-up no more is needed, however many requests come; `benchmarks/soak.py` tells the slope over minutes."""
    with serving(project, "--cache", "100") as (address, _):

        def memory_mb() -> float:
            page = httpx.get(f"{address}/metrics").text
            line = next(line for line in page.splitlines() if line.startswith("process_resident_memory_bytes "))
            return float(line.split()[1]) / 1e6

        with load(address) as (counts, _):
            until(lambda: counts.total() > 3000, 60)
            before = memory_mb()
            for _ in range(20 if is_long else 2):
                seen = counts.total()
                for bad in ("{", '{"rows": [{}]}', json.dumps({"rows": [ROW] * 1000})):
                    ask(address, body=bad)
                until(lambda seen=seen: counts.total() > seen + 3000, 60)
            after = memory_mb()
        assert {status for status, _ in counts} == {200}
    assert after - before < 10, f"{before:.1f} MB grew to {after:.1f} MB"


def _workers(project: Path) -> list[int]:
    """The processes that the project's server started."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(project) in (entry / "cmdline").read_text().split("\0"):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return sorted(pid for pid, parent in parents.items() if parent in parents)


def test_workers_that_cannot_start_say_why_and_end(project: Path) -> None:
    for model in (project / ".perron" / "bundles").glob("*/model.onnx"):
        model.write_bytes(b"nothing")
    done = perron("serve", "--port", "0", "--workers", "2", cwd=project, check=False)
    assert done.returncode == 1 and "model.onnx was changed" in done.stderr


def test_outcomes_are_recorded_repeated_corrected_or_refused(project: Path) -> None:
    with serving(project) as (address, _):
        one, two = (ask(address).json()["predictions"][0]["id"] for _ in range(2))

        def send(*items: Any) -> httpx.Response:
            return httpx.post(f"{address}/v1/outcomes", json={"outcomes": list(items)})

        def statuses(answer: httpx.Response) -> list[str]:
            return [item["status"] for item in answer.json()["outcomes"]]

        assert (
            statuses(send({"prediction": one, "value": "high"}, {"prediction": two, "value": "low"}))
            == ["recorded"] * 2
        )
        assert statuses(send({"prediction": one, "value": "high"})) == ["repeated"]
        assert statuses(send({"prediction": one, "value": "mid"})) == ["corrected"]
        assert httpx.get(f"{address}/v1/predictions/{one}").json()["outcome"]["value"] == "mid"
        bad = send({"prediction": one, "value": "huge"}, {"prediction": "nobody", "value": "low"}, {"value": 1})
        assert bad.status_code == 422 and statuses(bad) == ["invalid", "unknown", "invalid"]
        assert httpx.post(f"{address}/v1/outcomes", content=b"{", headers=JSON).status_code == 400
        assert httpx.post(f"{address}/v1/outcomes", json=[]).status_code == 422
