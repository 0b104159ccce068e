"""Loads by real sockets on real servers, and what is made of them."""

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron import predictions
from perron.bundle import load
from perron.check.request import Decoder
from perron.demonstration import serving
from perron.errors import PerronError
from perron.tune.load import Load, Target, send
from perron.tune.loadtest import Measured, held, recommend, rows_like, words, worker_counts
from tests.conftest import perron, perron_json


def body(thing: dict[str, Any], rows: int = 1) -> bytes:
    return json.dumps({"rows": [thing] * rows}).encode()


@contextlib.contextmanager
def answering(statuses: list[int], chunked: bool = False) -> Iterator[Target]:
    """A server that answers with these statuses in turn."""
    turn = iter(range(10**9))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(statuses[next(turn) % len(statuses)])
            if chunked:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"2\r\nhi\r\n")
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"hi")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Target("127.0.0.1", server.server_port, "/")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run(target: Target, **more: Any) -> Load:
    return asyncio.run(send(target, [b"{}"], **{"connections": 3, "seconds": 0.5, **more}))


def test_every_answer_of_a_server_is_counted_once(things: Path, thing: dict[str, Any], tmp_path: Path) -> None:
    with serving(things) as (address, _):
        before = _answered(address)
        target = Target.of(address, "/v1/predictions")
        found = asyncio.run(send(target, [body(thing, 2)], connections=8, seconds=0.7))
        assert _answered(address) - before == len(found.times_s) >= found.answered > 10
        assert found.failed == {} and found.refused == 0
        assert found.times_s == sorted(found.times_s)
        assert 0 < (found.quantile_ms(0.5) or 0) <= (found.quantile_ms(0.99) or 0) < 5000
        bad = asyncio.run(send(target, [b"{}"], connections=2, seconds=0.2))
        assert set(bad.failed) == {422} and bad.answered == 0 and "breaks the contract" in bad.words


def _answered(address: str) -> int:
    page = httpx.get(f"{address}/metrics").text
    return sum(int(float(line.split()[-1])) for line in page.splitlines() if line.startswith("perron_requests_total{"))


def test_refusals_and_failures_are_told_apart() -> None:
    with answering([200, 429, 503, 500]) as target:
        found = run(target)
    assert found.answered > 0 and found.refused > found.answered and set(found.failed) == {500}
    assert found.words == "hi"


def test_answers_in_chunks_are_read() -> None:
    with answering([200], chunked=True) as target:
        found = run(target)
    assert found.answered > 10 and found.failed == {}


def test_an_open_loop_keeps_its_rate_and_charges_the_server_for_who_waited() -> None:
    with answering([200]) as target:
        slow = run(target, rate=100.0, seconds=1.0)
        assert 95 <= len(slow.times_s) + slow.unsent <= 100
        fast = run(target, rate=50_000.0, connections=1, seconds=0.5)
    assert fast.unsent > 1000  # that one connection could not take
    assert (fast.quantile_ms(0.9) or 0) > 200  # due long before they were sent


def test_a_server_that_is_not_there_is_an_error() -> None:
    with pytest.raises(PerronError, match="Nothing answers at 127.0.0.1:9"):
        run(Target("127.0.0.1", 9, "/"))


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999", "http://[::1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(PerronError, match="URL"):
        Target.of(url, "/x")


def test_urls_keep_their_path_and_token() -> None:
    target = Target.of("https://host/api/", "/v1/predictions", "secret")
    assert (target.port, target.path, target.is_tls) == (443, "/api/v1/predictions", True)
    assert b"Authorization: Bearer secret\r\n" in target.request(b"{}")


def test_rows_for_a_load_are_allowed_and_differ(things_bundle: Path) -> None:
    bundle, chance = load(things_bundle), random.Random(1)
    rows = [rows_like(bundle.schema, bundle.sample["rows"][0], chance) for _ in range(50)]
    assert isinstance(Decoder(bundle.schema, 100)(json.dumps({"rows": rows}).encode()), list)
    assert len({json.dumps(row) for row in rows}) > 40


@pytest.mark.parametrize(
    ("cores", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (6, [1, 2, 4, 6])]
)
def test_workers_are_tried_up_to_the_cores(cores: int, counts: list[int]) -> None:
    assert worker_counts(cores) == counts


def test_more_workers_are_recommended_only_where_they_give_more() -> None:
    def measured(workers: int, answered: int, connections: int = 32) -> Measured:
        return Measured(workers, 1, Load(connections, seconds=1.0, answered=answered, times_s=[0.001]), 1)

    best = recommend([measured(1, 1000), measured(2, 1050), measured(1, 10_000, 1)])
    assert best is not None and best.workers == 1
    best = recommend([measured(1, 1000), measured(2, 1500), measured(4, 1600)])
    assert best is not None and best.workers == 2
    assert "--workers 2" in next(words([], best))
    assert recommend([measured(1, 0)]) is None and list(words([], None)) == ["Nothing was answered."]


def test_the_command_recommends_workers_and_leaves_the_project_as_it_was(things: Path) -> None:
    before = {path.name for path in (things / ".perron").iterdir() if not path.name.startswith("ledger.db")}
    found = perron_json("tune", "loadtest", "--seconds", "1", "--connections", "1,8", cwd=things)
    assert found["workers"] in {run["workers"] for run in found["runs"]}
    assert {run["connections"] for run in found["runs"]} == {1, 8}
    assert all(run["answered"] > 0 and run["failed"] == 0 and run["threads"] >= 1 for run in found["runs"])
    assert {path.name for path in (things / ".perron").iterdir() if not path.name.startswith("ledger.db")} == before


def test_a_budget_is_held_by_one_run_or_by_none() -> None:
    def measured(connections: int, answered: int, time_s: float) -> Measured:
        return Measured(1, 2, Load(connections, seconds=1.0, answered=answered, times_s=[time_s]), 1)

    runs = [measured(1, 100, 0.002), measured(32, 900, 0.2)]
    assert held(runs, {}) is None and held([], {"max_p99_ms": 5}) == (
        False,
        "The canvas asks for 99 % within 5 ms; nothing was answered.",
    )
    assert held(runs, {"min_rows_per_s": 1500}) == (
        True,
        "The canvas asks for 1,500 rows/s; held: 1,800 rows/s with 99 % within 200 ms over 32 connections.",
    )
    both = held(runs, {"min_rows_per_s": 1500, "max_p99_ms": 50})
    assert both is not None and not both[0] and "not held by any run" in both[1]
    assert (held(runs, {"min_rows_per_s": 150, "max_p99_ms": 50}) or (False,))[0]


def test_the_canvas_is_held_to_and_its_number_decides(things: Path) -> None:
    options = ("tune", "loadtest", "--seconds", "0.2", "--connections", "1", "--check")
    assert "min_rows_per_s" in perron(*options, cwd=things, check=False).stderr
    canvas = things / "canvas.toml"
    try:
        canvas.write_text("[budgets]\nmin_rows_per_s = 1\nmax_p99_ms = 10000\n")
        assert "held: " in perron(*options, cwd=things).stdout
        canvas.write_text("[budgets]\nmin_rows_per_s = 100000000\n")
        done = perron(*options, cwd=things, check=False)
        assert done.returncode == 1 and "not held by any run" in done.stdout
    finally:
        canvas.unlink()


def test_the_command_loads_a_server_that_runs(things: Path) -> None:
    log = things / ".perron" / "predictions"
    with serving(things) as (address, _):
        before = sum(1 for _ in predictions.iterate(log))
        done = perron("tune", "loadtest", address, "--seconds", "0.3", "--connections", "4", "--rows", "5", cwd=things)
        assert "requests/s" in done.stdout and "--workers" not in done.stdout
    assert sum(1 for _ in predictions.iterate(log)) > before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--connections", "0"), "numbers from 1"),
        (("--connections", "1,x"), "numbers from 1"),
        (("--rows", "100000"), "10000 rows"),
        (("http://127.0.0.1:9",), "can't be asked"),
        (("--version", "99"), "no version"),
    ],
)
def test_nonsense_is_one_line(things: Path, options: tuple[str, ...], words: str) -> None:
    done = perron("tune", "loadtest", *options, cwd=things, check=False)
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1
