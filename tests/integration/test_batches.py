"""Asynchronous batches over real HTTP: accepted, predicted, pulled, pushed, cancelled, killed and gone on with."""

import contextlib
import csv
import http.server
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from perron import predictions, webhooks
from perron.demonstration import serving
from perron.jobs import Jobs, Lost
from tests.conftest import perron
from tests.integration.test_pipeline import run, write_project
from tests.integration.test_serving_models import until

ROW = {"size": 1.5, "weight": None, "kind": "a", "code": 2, "on": True, "day": "2024-02-29", "word": "w1"}
SECRET = "a secret of the receiver and the server"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("things"), "label")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    (project / "secret").write_text(SECRET + "\n")
    (project / "in").mkdir()
    with serving(
        project,
        "--webhook-secret",
        str(project / "secret"),
        "--private-callbacks",
        "--batch-place",
        str(project / "in"),
    ) as (place, _):
        yield place


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy of the project that no other server serves."""
    return Path(
        shutil.copytree(project, tmp_path / "copy", ignore=shutil.ignore_patterns("batches*", ".*.db*", "windows"))
    )


def rows(count: int, bad: int = 7) -> list[dict[str, Any]]:
    """Rows of which every bad-th breaks the contract."""
    return [
        {**ROW, "size": number / 10, "kind": "z" if number % bad == 3 else "abc"[number % 3]} for number in range(count)
    ]


def send(address: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.post(f"{address}/v1/batches", content=content, headers=given, timeout=30)


def wait(address: str, place: str, within_s: float = 30.0) -> dict[str, Any]:
    """The batch once it has ended."""

    def ended() -> Any:
        try:
            found = httpx.get(address + place).json()
        except httpx.TransportError:  # of a worker that was killed just now
            return None
        return found if found["state"] in ("done", "failed", "cancelled") else None

    found: dict[str, Any] = until(ended, within_s)
    return found


def result(address: str, place: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{address}{place}/predictions", headers={"Accept": "application/jsonl"})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in answer.text.splitlines()]


def check(project: Path, given: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    """A line for every row, in order; a prediction with a receipt for every good one."""
    assert [line["row"] for line in found] == list(range(len(given)))
    assert [("fault" in line) for line in found] == [row["kind"] == "z" for row in given]
    ids = [line["id"] for line in found if "id" in line]
    assert len(set(ids)) == len(ids)
    for place in (0, len(found) // 2, len(found) - 1):
        if "id" in found[place]:
            receipt = predictions.find(project / ".perron" / "predictions", found[place]["id"])
            assert receipt.value == found[place]["value"] and receipt.route == "batch"
            assert receipt.input["size"] == given[place]["size"]
            assert receipt.probabilities == found[place]["probabilities"]


def test_a_batch_is_accepted_predicted_and_its_result_is_pulled(project: Path, address: str) -> None:
    given = rows(1000)
    answer = send(address, {"rows": given})
    assert answer.status_code == 202 and answer.headers["retry-after"].isdigit()
    place = answer.headers["location"]
    assert answer.json()["state"] == "waiting" and answer.json()["rows"] == 1000
    ended = wait(address, place)
    assert (ended["state"], ended["done"], ended["bad"], ended["predictions"]) == (
        "done",
        1000,
        143,
        f"{place}/predictions",
    )
    assert ended["made"] <= ended["started"] <= ended["ended"] < ended["expires"]
    found = result(address, place)
    check(project, given, found)
    assert found[3]["fault"].startswith("kind: expected one of")
    page = httpx.get(f"{address}{place}/predictions?limit=300").json()
    together = page["predictions"]
    while page["next"]:
        answer = httpx.get(f"{address}{place}/predictions?limit=300&cursor={page['next']}")
        page = answer.json()
        together += page["predictions"]
    assert together == found and len(found) == 1000 and "link" not in answer.headers
    assert place.rpartition("/")[2] in {one["id"] for one in httpx.get(f"{address}/v1/batches").json()["batches"]}
    one = httpx.post(f"{address}/v1/predictions", json={"rows": [given[0]]}).json()["predictions"][0]
    assert one["value"] == found[0]["value"] and one["probabilities"] == pytest.approx(found[0]["probabilities"])


def test_json_lines_and_csv_give_what_json_gives(project: Path, address: str) -> None:
    given = rows(200)
    lines = "\n\n".join(json.dumps(row) for row in given).encode()
    table = io.StringIO()
    writer = csv.DictWriter(table, ["more", *ROW], lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({**row, "on": "yes", "more": 'a "b",\nc', "size": f" {row['size']} "} for row in given)
    places = [
        send(address, {"rows": given}), send(address, lines, Content_Type="application/x-ndjson"),
        send(address, table.getvalue().encode(), Content_Type="text/csv"),
    ]  # fmt: skip
    found = []
    for answer in places:
        assert answer.status_code == 202, answer.text
        assert wait(address, answer.headers["location"])["state"] == "done"
        found.append(result(address, answer.headers["location"]))
        check(project, given, found[-1])
    plain = [[{key: value for key, value in line.items() if key != "id"} for line in one] for one in found]
    assert plain[0] == plain[1] == plain[2]


def test_an_idempotency_key_gives_the_same_batch(address: str) -> None:
    first = send(address, {"rows": rows(3)}, Idempotency_Key="k1")
    again = send(address, {"rows": rows(3)}, Idempotency_Key="k1")
    other = send(address, {"rows": rows(4)}, Idempotency_Key="k1")
    assert first.status_code == again.status_code == 202 and first.headers["location"] == again.headers["location"]
    assert other.status_code == 409
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(send(address, {"rows": rows(3)}, Idempotency_Key="k2").headers["location"]))
        for _ in range(6)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6 and len(set(answers)) == 1


BAD: list[tuple[str, bytes, str, int]] = [
    ("empty", b"", "application/json", 400),
    ("not JSON", b"{rows", "application/json", 400),
    ("bad UTF-8", b'{"rows": ["\xff"]}', "application/json", 400),
    ("deep", b'{"rows": ' + b"[" * 100_000, "application/json", 400),
    ("no rows", b'{"rows": []}', "application/json", 422),
    ("rows an object", b'{"rows": {}}', "application/json", 422),
    ("more keys", b'{"rows": [{}], "x": 1}', "application/json", 422),
    ("a source alone", b'{"source": "a.csv"}', "application/json", 422),
    ("rows and a source", b'{"rows": [{}], "source": "a.csv", "sink": "b.csv"}', "application/json", 422),
    ("a file elsewhere", b'{"source": "/etc/passwd", "sink": "/tmp/x.csv"}', "application/json", 403),
    ("a way out", b'{"source": "in/../../x.csv", "sink": "in/x.csv"}', "application/json", 403),
    ("a URL", b'{"source": "s3://bucket/x.csv", "sink": "s3://bucket/y.csv"}', "application/json", 403),
    ("a nul", b'{"source": "in/\\u0000.csv", "sink": "in/y.csv"}', "application/json", 403),
    ("a bad line", b'{"size": 1}\n{"size"\n', "application/jsonl", 400),
    ("no lines", b"\n\n", "application/jsonl", 422),
    ("a column missing", b"size,weight\n1,2\n", "text/csv", 422),
    ("a header twice", b"size,size,kind,on,day\n1,2,a,yes,2024-01-01\n", "text/csv", 422),
    ("a ragged line", b"size,weight,kind,code,on,day,word\n1,2\n", "text/csv", 400),
    ("a quote open", b'size,weight,kind,code,on,day,word\n"1,2\n', "text/csv", 400),
    ("CSV in Latin-1", b"size,weight,kind,code,on,day,word\n1,\xe9,yes,2024-01-01\n", "text/csv", 400),
    ("a header alone", b"size,weight,kind,code,on,day,word\n", "text/csv", 422),
    ("another type", b"x", "application/xml", 415),
    ("ftp", b'{"rows": [{}], "callback": {"url": "ftp://example.com"}}', "application/json", 422),
    ("a user", b'{"rows": [{}], "callback": {"url": "https://a:b@example.com"}}', "application/json", 422),
    ("no host", b'{"rows": [{}], "callback": {"url": "https:///x"}}', "application/json", 422),
    ("no port", b'{"rows": [{}], "callback": {"url": "https://example.com:x/"}}', "application/json", 422),
]  # fmt: skip


@pytest.mark.parametrize(("body", "kind", "status"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_a_problem_and_never_a_5xx(address: str, body: bytes, kind: str, status: int) -> None:
    answer = send(address, body, Content_Type=kind)
    assert answer.status_code == status, answer.text[:300]
    assert answer.json()["detail"] and "Traceback" not in answer.text and len(answer.content) < 2000


def test_rows_that_are_no_objects_are_faults_of_theirs_alone(project: Path, address: str) -> None:
    given: list[Any] = [ROW, 1, None, [], {}, {**ROW, "size": "x"}, {**ROW, "more": 1}, {**ROW, "size": 1e400}, ROW]
    lines = [json.dumps(row) for row in given]
    lines[2:2] = [json.dumps(ROW) + "," + json.dumps(ROW)]
    answer = send(address, "\n".join(lines).encode(), Content_Type="application/jsonl")
    assert answer.status_code == 400  # two objects on a line are no JSON
    del lines[2]
    answer = send(address, "\n".join(lines).encode().replace(b"Infinity", b"1e999"), Content_Type="application/jsonl")
    place = answer.headers["location"]
    wait(address, place)
    found = result(address, place)
    assert [("id" in line) for line in found] == [True, *[False] * 7, True]
    assert all(line["fault"] for line in found[1:8])


def test_what_is_not_there_or_not_ready_says_so(address: str) -> None:
    for path in ("/v1/batches/nobody", "/v1/batches/nobody/predictions", "/v1/batches/..%2f..%2fx"):
        assert httpx.get(address + path).status_code == 404
    assert httpx.delete(f"{address}/v1/batches/nobody").status_code == 404
    assert httpx.post(f"{address}/v1/models/nobody/batches", json={"rows": [ROW]}).status_code == 404
    assert httpx.put(f"{address}/v1/batches").status_code == 405
    assert httpx.get(f"{address}/v1/batches?limit=x").status_code == 400
    assert httpx.get(f"{address}/v1/batches?cursor=x").status_code == 404
    place = send(address, {"rows": rows(200_000)}).headers["location"]
    early = httpx.get(f"{address}{place}/predictions")
    assert early.status_code == 409 and early.json()["state"] in ("waiting", "running") and early.headers["retry-after"]
    assert httpx.delete(address + place).json()["state"] == "cancelled"
    late = httpx.get(f"{address}{place}/predictions")
    assert late.status_code == 409 and late.json()["state"] == "cancelled"
    assert httpx.delete(address + place).status_code == 204
    assert httpx.get(address + place).status_code == 404
    place = send(address, {"rows": rows(20)}).headers["location"]
    wait(address, place)
    for cursor in ("x", "-1", "7", "99999999", "1" * 30):
        assert httpx.get(f"{address}{place}/predictions?cursor={cursor}").status_code == 400
    assert httpx.get(f"{address}{place}/predictions?limit=0").status_code == 400


def test_the_document_of_the_service_has_its_batches(address: str) -> None:
    document = httpx.get(f"{address}/openapi.json").json()
    validate(document)
    assert {"/v1/batches", "/v1/batches/{id}", "/v1/batches/{id}/predictions", "/v1/models/{model}/batches"} <= set(
        document["paths"]
    )


def test_a_batch_of_a_place_is_what_perron_predict_makes(project: Path, address: str) -> None:
    (project / "in" / "rows.csv").write_bytes((project / "things.csv").read_bytes())
    answer = send(address, {"source": str(project / "in" / "rows.csv"), "sink": str(project / "in" / "out.csv")})
    assert answer.status_code == 202
    ended = wait(address, answer.headers["location"])
    assert (ended["state"], ended["rows"], ended["predictions"]) == ("done", 400, None)
    with open(project / "in" / "out.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 400 and predictions.find(project / ".perron" / "predictions", found[0]["prediction_id"])
    answer = send(address, {"source": str(project / "in" / "none.csv"), "sink": str(project / "in" / "out.csv")})
    ended = wait(address, answer.headers["location"])
    assert ended["state"] == "failed" and "There is no file" in ended["fault"]


def test_more_batches_than_may_wait_are_refused(copy: Path) -> None:
    with serving(copy, "--batch-queue", "2") as (address, _):
        answers = [send(address, {"rows": rows(100_000)}) for _ in range(4)]
        assert [answer.status_code for answer in answers].count(429) >= 1
        assert next(a for a in answers if a.status_code == 429).headers["retry-after"]
        for answer in answers:
            if answer.status_code == 202:
                httpx.delete(address + answer.headers["location"])
        assert (
            send(address, {"rows": rows(3), "callback": {"url": "https://example.com"}}).status_code == 422
        )  # no secret


# ------------------------------------------------------------------ kills


def kill_all(project: Path) -> None:
    """Ends the server of a project and its workers at once: the first of them first, which would start others."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_text().split("\0")
            if "serve" in words and str(project) in words:
                found.append(int(entry.name))
    for pid in sorted(found):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_batches_survive_kill_9_and_restarts_none_lost_and_none_doubled(copy: Path) -> None:
    given, places, chance = rows(20_000), [], random.Random(0)
    for life in range(3):
        with serving(copy, "--workers", "2") as (address, _):
            places += [
                send(address, {"rows": given}, Idempotency_Key=f"{life} {n}").headers["location"] for n in range(2)
            ]
            until(lambda place=places[-2], address=address: httpx.get(address + place).json()["done"] > 0, 30)
            threading.Event().wait(chance.random() * 0.4)
            kill_all(copy)
    with serving(copy) as (address, _):
        for place in places:
            assert wait(address, place, 60)["state"] == "done"
            check(copy, given, result(address, place))
        ids = [line["id"] for place in places for line in result(address, place) if "id" in line]
    assert len(places) == 6 and len(ids) == len(set(ids)) == 6 * sum(row["kind"] != "z" for row in given)
    logged = [one.id for one in predictions.iterate(copy / ".perron" / "predictions") if one.route == "batch"]
    assert set(ids) <= set(logged) and len(logged) == len(set(logged))
    segments = {one[:20] for one in ids}
    assert sorted(one for one in logged if one[:20] in segments) == sorted(ids) and len(segments) == 6
    database = sqlite3.connect(copy / ".perron" / "batches.db")
    assert database.execute("SELECT max(attempt) FROM jobs").fetchone()[0] > 1
    database.close()


def test_a_worker_that_is_killed_loses_its_batch_to_another(copy: Path) -> None:
    with serving(copy, "--workers", "2") as (address, _):
        place = send(address, {"rows": rows(150_000)}).headers["location"]
        until(lambda: httpx.get(address + place).json()["done"] > 0)
        database = sqlite3.connect(copy / ".perron" / "batches.db")
        (owner,) = database.execute("SELECT owner FROM jobs WHERE state = 'running'").fetchone()
        database.close()
        os.kill(int(owner.partition(":")[0]), signal.SIGKILL)
        assert wait(address, place, 60)["state"] == "done"
        check(copy, rows(150_000), result(address, place))


def test_requests_are_not_slowed_by_a_batch(project: Path, address: str) -> None:
    def median_ms() -> float:
        with httpx.Client() as client:
            times = []
            for _ in range(150):
                started = time.perf_counter()
                assert client.post(f"{address}/v1/predictions", json={"rows": [ROW]}).status_code == 200
                times.append(time.perf_counter() - started)
        return sorted(times)[75] * 1000

    alone = median_ms()
    place = send(address, {"rows": rows(200_000)}).headers["location"]
    until(lambda: httpx.get(address + place).json()["state"] == "running")
    beside = median_ms()
    assert httpx.delete(address + place).json()["state"] == "cancelled"
    assert beside < alone + 250, (alone, beside)  # the batch takes a second and more


# ------------------------------------------------------------------ callbacks


@contextmanager
def receiver(answer: Callable[[int], int]) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A server that keeps what it gets; `answer` gives the status of the n-th."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((dict(self.headers), body))
            status = answer(len(got))
            self.send_response(status)
            if status in (302, 307):
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/done", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_end_is_told_signed_and_again_until_it_is_taken(address: str) -> None:
    with receiver(lambda n: (500, 200)[n > 1]) as (url, got):
        answer = send(address, {"rows": rows(10), "callback": {"url": url}})
        place = answer.headers["location"]
        until(lambda: httpx.get(address + place).json()["callback"]["state"] == "delivered", 30)
        assert len(got) == 2 and got[0][0]["X-Perron-Delivery"] == got[1][0]["X-Perron-Delivery"]
        for headers, body in got:
            signature = headers["X-Perron-Signature"]
            assert webhooks.verify(SECRET.encode(), body, signature)
            assert not webhooks.verify(b"another", body, signature) and not webhooks.verify(
                SECRET.encode(), body + b" ", signature
            )
        told = json.loads(got[1][1])
        assert told["state"] == "done" and told["result"] == result(address, place) and got[0][1] == got[1][1]
        assert httpx.get(address + place).json()["callback"] == {"state": "delivered", "tries": 2, "fault": None}


def test_a_redirect_is_not_followed_and_a_receiver_that_hangs_delays_nobody(address: str) -> None:
    release = threading.Event()

    def hang(n: int) -> int:
        release.wait(20)
        return 200

    with receiver(hang) as (slow, _), receiver(lambda n: 307) as (moved, _), receiver(lambda n: 204) as (good, got):
        for url in (slow, slow, slow, moved, good):
            place = f"{address}/v1/batches?callback={url}"
            answer = httpx.post(place, content=json.dumps(ROW), headers={"Content-Type": "application/jsonl"})
            assert answer.status_code == 202
        until(lambda: len(got) == 1, 8)
        until(lambda: "answered 307" in (httpx.get(f"{address}/v1/batches").text), 8)
        release.set()


# ------------------------------------------------------------------ the queue by itself


@pytest.fixture
def clock() -> list[float]:
    return [1_000_000.0]


@pytest.fixture
def queue(tmp_path: Path, clock: list[float]) -> Jobs:
    return Jobs(tmp_path / "batches.db", tmp_path / "batches", most_waiting=3, keep_s=60, clock=lambda: clock[0])


def put(jobs: Jobs, **more: Any) -> Any:
    facts: dict[str, Any] = {
        "model": "m",
        "version": 1,
        "bundle": "b",
        "digest": "d",
        "kind": "jsonl",
        "rows": 2,
        "body": b"{}\n{}\n",
        "request": "r",
    }
    return jobs.accept(**{**facts, **more})[0]


def test_a_lease_that_is_over_gives_the_batch_to_another_and_the_first_is_told(
    tmp_path: Path, queue: Jobs, clock: list[float]
) -> None:
    other = Jobs(tmp_path / "batches.db", tmp_path / "batches", clock=lambda: clock[0])
    job = put(queue)
    mine = queue.claim()
    assert mine is not None and mine.id == job.id and other.claim() is None
    clock[0] += 11
    theirs = other.claim()
    assert theirs is not None and theirs.attempt == 2
    with pytest.raises(Lost):
        queue.commit(mine, done=1)
    assert other.commit(theirs, done=2).done == 2
    other.end(theirs, "done")
    assert queue.get(job.id).state == "done"


def test_a_batch_that_kills_its_workers_fails_in_the_end(queue: Jobs, clock: list[float]) -> None:
    job = put(queue)
    for _ in range(5):
        assert queue.claim() is not None
        clock[0] += 11
    assert queue.claim() is None and "died" in (queue.get(job.id).fault or "")


def test_what_has_been_kept_for_its_time_is_removed(queue: Jobs, clock: list[float]) -> None:
    job = put(queue)
    assert (queue.folder / job.id / "body").read_bytes() == b"{}\n{}\n"
    taken = queue.claim()
    assert taken is not None
    queue.end(taken, "done")
    assert queue.sweep() == 0
    clock[0] += 61
    assert queue.sweep() == 1 and not (queue.folder / job.id).exists()


def test_a_token_sees_its_own_batches_alone(copy: Path) -> None:
    folder, tokens = copy, {}
    for name, scopes in (("one", ["predict"]), ("two", ["predict"]), ("boss", ["predict", "admin"])):
        words = [word for scope in scopes for word in ("--scope", scope)]
        tokens[name] = perron("token", "create", name, *words, cwd=folder).stdout
    bearer = {
        name: {"Authorization": f"Bearer {next(w for w in said.split() if len(w) > 30)}"}
        for name, said in tokens.items()
    }
    with serving(folder) as (address, _):
        assert send(address, {"rows": [ROW]}).status_code == 401
        answer = send(address, {"rows": [ROW]}, Idempotency_Key="k", **bearer["one"])
        place = answer.headers["location"]
        other = send(address, {"rows": [ROW]}, Idempotency_Key="k", **bearer["two"])
        assert other.status_code == 202 and other.headers["location"] != place
        assert httpx.get(address + place, headers=bearer["one"]).status_code == 200
        assert httpx.get(address + place, headers=bearer["two"]).status_code == 404
        assert httpx.get(address + place, headers=bearer["boss"]).status_code == 200
        assert len(httpx.get(f"{address}/v1/batches", headers=bearer["two"]).json()["batches"]) == 1
        assert len(httpx.get(f"{address}/v1/batches", headers=bearer["boss"]).json()["batches"]) == 2
