"""Equal requests answered without the model, each logged by itself; large ones on several threads, with the same numbers."""

import asyncio
import json
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from perron import predictions
from perron.bundle import load
from perron.check.request import Decoder
from perron.demonstration import serving
from perron.project import Project
from perron.serve import lanes
from perron.serve.batching import Busy
from perron.serve.cache import MOST_BYTES, Cache, Kept
from perron.serve.lanes import Lanes
from perron.serve.metrics import Numbers
from perron.serve.models import Endpoint
from tests.conftest import perron
from tests.integration.test_history import post, request, write_shops
from tests.integration.test_pipeline import run, write_project
from tests.integration.test_prediction_log import ask, make

JSON = {"Content-Type": "application/json"}


def metric(address: str, name: str) -> float:
    """The sum of a metric's samples."""
    page = httpx.get(f"{address}/metrics").text
    samples = [s for family in text_string_to_metric_families(page) for s in family.samples if s.name == name]
    assert samples, f"there is no {name}"
    return sum(sample.value for sample in samples)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = write_project(tmp_path / "things", "label")
    run(folder)
    return folder


@pytest.mark.parametrize("more", [(), ("--sync",)])
def test_an_equal_request_is_answered_without_the_model_and_logged(
    project: Path, thing: dict[str, Any], more: tuple[str, ...]
) -> None:
    rows = [thing, {**thing, "size": 2.5}]
    body, other = json.dumps({"rows": rows}), json.dumps({"rows": [{**thing, "size": 0.5}]})
    with serving(project, "--cache", "1", *more) as (address, _):
        first, second = (httpx.post(f"{address}/v1/predictions", content=body, headers=JSON).json() for _ in range(2))
        assert metric(address, "perron_cache_hits_total") == 1
        assert metric(address, "perron_predictions_total") == 4
        httpx.post(f"{address}/v1/predictions", content=other, headers=JSON)  # takes the one place
        third = httpx.post(f"{address}/v1/predictions", content=body, headers=JSON).json()
        assert metric(address, "perron_cache_hits_total") == 1
        bad = httpx.post(f"{address}/v1/predictions", content=body.replace("1.5", '"x"'), headers=JSON)
        assert bad.status_code == 422
    answers = [[{**p, "id": None} for p in reply["predictions"]] for reply in (first, second, third)]
    assert answers[0] == answers[1] == answers[2] and len(answers[0]) == 2
    ids = {p["id"] for reply in (first, second, third) for p in reply["predictions"]}
    assert len(ids) == 6
    logged = {found.id: found for found in predictions.iterate(project / ".perron" / "predictions")}
    assert ids <= set(logged) and len(logged) == 7
    assert logged[second["predictions"][1]["id"]].input["size"] == 2.5


def test_a_new_version_never_answers_from_the_old_ones_cache(project: Path, thing: dict[str, Any]) -> None:
    system = project / "system.py"
    system.write_text(
        system.read_text().replace('source="things.csv"', 'params={"num_leaves": 5}, source="things.csv"')
    )
    run(project)
    arms = [{"name": "one", "reference": "1", "weight": 1}, {"name": "two", "reference": "2", "weight": 1}]
    Project.open(project).ledger.add_routing("things", {"kind": "ab", "arms": arms})
    body = json.dumps({"rows": [thing]})
    with serving(project, "--cache", "10") as (address, _):
        for _ in range(2):
            for version in (1, 2):
                url = f"{address}/v1/models/things/versions/{version}/predictions"
                reply = httpx.post(url, content=body, headers=JSON).json()
                expected = load_version(project, version).predict([thing])[0]
                assert reply["version"] == version
                assert reply["predictions"][0]["probabilities"] == pytest.approx(expected["probabilities"])
        assert metric(address, "perron_cache_hits_total") == 2


def load_version(project: Path, version: int) -> Any:
    ledger = Project.open(project).ledger
    return load(ledger.bundle_path(ledger.get_version("things", version)))


def test_rows_with_sensitive_fields_are_never_remembered(tmp_path: Path) -> None:
    with serving(make(tmp_path / "visits"), "--cache", "10") as (address, _):
        for _ in range(3):
            ask(address, "Ada Lovelace")
        assert metric(address, "perron_cache_hits_total") == 0


def test_a_system_with_history_answers_every_request_anew(tmp_path: Path) -> None:
    rows = write_shops(tmp_path)
    run(tmp_path)
    with serving(tmp_path, "--cache", "10") as (address, _):
        for _ in range(3):
            post(address, request(rows[-1]))
        assert metric(address, "perron_cache_hits_total") == 0
        assert metric(address, "perron_predictions_total") == 3


def test_a_cache_keeps_the_newest_and_nothing_long() -> None:
    cache = Cache(2)
    kept = Kept([(1,)], [0.5], None)
    for body in (b"a", b"b"):
        cache.keep(body, kept)
    assert cache.get(b"a") is kept  # now used after b
    cache.keep(b"c", kept)
    assert cache.get(b"b") is None and cache.get(b"a") is kept and cache.get(b"c") is kept
    cache.keep(b"x" * (MOST_BYTES + 1), kept)
    assert len(cache) == 2


def test_without_the_option_nothing_is_remembered(project: Path, thing: dict[str, Any]) -> None:
    with serving(project) as (address, _):
        for _ in range(3):
            httpx.post(f"{address}/v1/predictions", json={"rows": [thing]})
        assert metric(address, "perron_cache_hits_total") == 0
    done = perron("serve", "--cache", "-1", cwd=project, check=False)
    assert done.returncode == 2 and "--cache" in done.stderr


def test_parts_give_the_very_numbers_of_the_whole(things_bundle: Path, thing: dict[str, Any]) -> None:
    bundle = load(things_bundle)
    rows = Decoder(bundle.schema, 10_000)(
        json.dumps({"rows": [{**thing, "size": n / 7} for n in range(1001)]}).encode()
    )
    assert isinstance(rows, list)
    feed = bundle.packer(rows)
    values, shares = bundle.run(feed)
    with ThreadPoolExecutor(3) as pool:
        for parts in (2, 3, 4):
            found, found_shares = Lanes(parts, pool).run(bundle, feed)
            np.testing.assert_array_equal(found, values)
            np.testing.assert_array_equal(found_shares, shares)
    assert len(np.unique(shares, axis=0)) > 10


class Timed:
    """Stands for a bundle whose runs take a stated time, on a clock of its own."""

    def __init__(self, costs: dict[int, float]) -> None:
        self.now, self.costs = 0.0, costs

    def packer(self, rows: list[Any]) -> dict[str, Any]:
        return {"x": np.zeros(len(rows))}

    def run(self, feed: dict[str, Any]) -> tuple[Any, None]:
        self.now += self.costs[round(1000 / len(feed["x"]))] / round(1000 / len(feed["x"]))
        return feed["x"], None


class InTurn(Executor):
    """Runs what is submitted at once."""

    def submit(self, fn: Any, /, *arguments: Any, **more: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(fn(*arguments, **more))
        return future


@pytest.mark.parametrize(
    ("costs", "cores", "parts"),
    [
        ({1: 1.0, 2: 0.9, 4: 0.6}, 4, 4),
        ({1: 1.0, 2: 0.9, 4: 0.6}, 3, None),  # 2 parts are hardly faster
        ({1: 1.0, 2: 0.9, 4: 0.9}, 4, None),
        ({1: 1.0, 2: 0.5, 4: 0.4}, 2, 2),
        ({1: 1.0}, 1, None),
    ],
)
def test_parts_are_taken_only_where_they_are_faster(costs: dict[int, float], cores: int, parts: int | None) -> None:
    timed: Any = Timed(costs)
    found = lanes.measure(timed, [(0.0,)], cores, InTurn(), clock=lambda: timed.now)
    assert (found.parts if found is not None else None) == parts


def test_a_queue_that_is_nearly_full_refuses_before_rows_are_read(
    things_bundle: Path, thing: dict[str, Any], tmp_path: Path
) -> None:
    bundle = load(things_bundle)

    async def fill() -> None:
        body = json.dumps({"rows": [thing] * 300}).encode()
        endpoint = Endpoint(
            bundle, 1, "champion", Numbers(), log_folder=tmp_path, mask=None, max_rows=1000, sync=False, queue_rows=1000,
            on_log_failure="refuse",
        )  # fmt: skip
        rows, batcher = endpoint.decode(body), endpoint.batcher
        waiting = [batcher.submit(rows, body, b"champion") for _ in range(2)]
        assert not batcher.is_full  # 600 of 1,000 wait; a tenth before the end it is
        waiting.append(batcher.submit(rows, body, b"champion"))
        assert batcher.is_full and batcher.busy().retry_after_s >= 1
        with pytest.raises(Busy, match="900 rows wait"):
            batcher.submit(rows, body, b"champion")
        await asyncio.gather(*waiting)
        until = asyncio.get_running_loop().time() + 5
        while batcher.is_full or not batcher.is_idle:
            assert asyncio.get_running_loop().time() < until
            await asyncio.sleep(0)
        endpoint.close()

    asyncio.run(fill())
