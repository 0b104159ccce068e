"""A bundle inside other applications: mounted in FastAPI and run by uvicorn, in process in Flask and in Connexion."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import perron as pn
from perron import predictions, serve
from perron.errors import BundleError, DataError
from perron.serve.http import free_port


@contextmanager
def uvicorn(app: Any, **options: Any) -> Iterator[str]:
    """The address of an application that uvicorn runs on a thread; its loop is over when the context is left."""
    import uvicorn as server

    running = server.Server(server.Config(app, port=free_port(), log_config=None, **options))
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        for _ in range(1000):
            if running.started or not thread.is_alive():
                break
            threading.Event().wait(0.01)
        assert running.started, "it didn't start"
        yield f"http://127.0.0.1:{running.config.port}"
    finally:
        running.should_exit = True
        thread.join(20)


def test_the_service_is_mounted_in_fastapi_under_a_prefix(
    things_bundle: Path, tmp_path: Path, thing: dict[str, Any]
) -> None:
    from fastapi import FastAPI

    app = FastAPI()
    app.mount("/labels", serve.asgi(things_bundle, log_folder=tmp_path / "log", version=7, max_rows=100))

    @app.get("/own")
    def own() -> dict[str, str]:
        return {"from": "the other application"}

    with uvicorn(app) as root:
        assert httpx.get(f"{root}/own").json() == {"from": "the other application"}
        address = f"{root}/labels"
        answer = httpx.post(f"{address}/v1/predictions", json={"rows": [thing, thing]})
        assert answer.status_code == 200 and answer.json()["version"] == 7
        given = answer.json()["predictions"][0]
        receipt = httpx.get(f"{address}/v1/predictions/{given['id']}").json()
        assert receipt["prediction"]["value"] == given["value"] and receipt["outcome"] is None
        refused = httpx.post(f"{address}/v1/predictions", json={"rows": [{**thing, "size": -1}]})
        assert refused.status_code == 422 and refused.json()["errors"][0]["field"] == "size"
        assert httpx.post(f"{address}/v1/predictions", json={"rows": [thing] * 101}).status_code == 413
        for path in ("/", "", "/docs", "/health/ready", "/openapi.json", "/metrics"):
            assert httpx.get(address + path, follow_redirects=True).status_code == 200, path
        none = httpx.post(f"{address}/v1/outcomes", json={"prediction": given["id"], "value": "low"})
        assert none.status_code == 501 and "keeps no outcomes" in none.json()["detail"]
        tag = httpx.get(f"{address}/docs").headers["etag"]
        assert httpx.get(f"{address}/docs", headers={"If-None-Match": tag}).status_code == 304
        head = httpx.head(f"{address}/v1/model")
        assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"]) > 100
        assert httpx.options(f"{address}/v1/outcomes").headers["allow"] == "OPTIONS, POST"
        parts = httpx.post(
            f"{address}/v1/predictions", json={"rows": [thing] * 90}, headers={"Accept": "application/jsonl"}
        )
        assert [len(json.loads(line).get("predictions", ())) for line in parts.text.splitlines()] == [90, 0]
        listed = httpx.get(f"{address}/v1/predictions?limit=1")
        assert httpx.get(listed.url.join(listed.links["next"]["url"])).json()["predictions"][0]["route"] == "alone"
    assert sum(1 for _ in predictions.iterate(tmp_path / "log")) == 92


def test_it_is_an_application_of_its_own_whose_lifespan_starts_and_closes_it(
    things_bundle: Path, tmp_path: Path, thing: dict[str, Any]
) -> None:
    app = serve.asgi(pn.load(things_bundle), log_folder=tmp_path / "log")
    for _ in range(2):  # another loop, another lifespan
        with uvicorn(app, lifespan="on") as address:
            assert list((tmp_path / "log").glob("*.jsonl")) != []
            assert httpx.get(f"{address}/health/ready").status_code == 200
    assert list((tmp_path / "log").glob("*.jsonl")) == []  # what holds nothing is removed at the end
    with uvicorn(app, lifespan="off") as address:
        assert httpx.post(f"{address}/v1/predictions", json={"rows": [thing]}).status_code == 200
    assert len(list((tmp_path / "log").glob("*.jsonl"))) == 1


def test_fastapis_own_lifespan_may_close_it(things_bundle: Path, tmp_path: Path, thing: dict[str, Any]) -> None:
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    labels = serve.asgi(things_bundle, log_folder=tmp_path / "log")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await labels.aclose()

    app = FastAPI(lifespan=lifespan)
    app.mount("/labels", labels)
    with TestClient(app) as client:
        assert client.get("/labels/health/ready").status_code == 200
        assert len(list((tmp_path / "log").glob("*.jsonl"))) == 1
    assert list((tmp_path / "log").glob("*.jsonl")) == []
    client = TestClient(app)  # without a lifespan: a new event loop for every request
    for _ in range(3):
        assert client.post("/labels/v1/predictions", json={"rows": [thing]}).status_code == 200
    assert sum(1 for _ in predictions.iterate(tmp_path / "log")) == 3


def test_in_flask_rows_are_predicted_in_process(things_bundle: Path, thing: dict[str, Any]) -> None:
    from flask import Flask, jsonify, request

    model = pn.load(things_bundle)
    app = Flask(__name__)

    @app.post("/labels")
    def labels() -> Any:
        try:
            return jsonify(model.predict(request.get_json()))
        except DataError as error:
            return jsonify(error=str(error)), 422

    client = app.test_client()
    answer = client.post("/labels", json=[thing, {**thing, "size": 9}])
    assert answer.status_code == 200 and answer.json == model.predict([thing, {**thing, "size": 9}])
    refused = client.post("/labels", json=[{**thing, "kind": "z"}])
    assert refused.status_code == 422 and "rows[0].kind" in str(refused.json)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Connexion's own imports
def test_in_connexion_rows_are_predicted_in_process(things_bundle: Path, thing: dict[str, Any]) -> None:
    from connexion import AsyncApp, problem
    from connexion.resolver import Resolver

    model = pn.load(things_bundle)

    def predict(body: list[dict[str, Any]]) -> Any:
        try:
            return model.predict(body)
        except DataError as error:
            return problem(422, "The request breaks the contract", str(error))

    operation = {
        "operationId": "predict",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}},
        },
        "responses": {"200": {"description": "OK"}},
    }
    app = AsyncApp(__name__)
    app.add_api(
        {"openapi": "3.0.3", "info": {"title": "labels", "version": "1"}, "paths": {"/labels": {"post": operation}}},
        resolver=Resolver(lambda _: predict),
    )
    client = app.test_client()
    assert client.post("/labels", json=[thing]).json() == model.predict([thing])
    refused = client.post("/labels", json=[{**thing, "size": -1}])
    assert refused.status_code == 422 and "rows[0].size" in refused.json()["detail"]
    assert client.post("/labels", json={}).status_code == 400


# -- the protocol itself, without a server


class Client:
    """One connection's messages to an application, and what it sent."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self.sent: list[dict[str, Any]] = []
        self._messages = [*messages]
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self._messages:
            return self._messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        await asyncio.sleep(0)


def scope(method: str = "POST", path: str = "/v1/predictions", **headers: str) -> dict[str, Any]:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": raw, "root_path": ""}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def test_bodies_in_pieces_too_large_too_slow_or_given_up(
    things_bundle: Path, tmp_path: Path, thing: dict[str, Any]
) -> None:
    async def run() -> None:
        app = serve.asgi(things_bundle, log_folder=tmp_path, max_body_bytes=2000, body_timeout_s=0.1)
        whole = json.dumps({"rows": [thing]}).encode()

        async def ask(*messages: dict[str, Any], **headers: str) -> Client:
            client = Client(*messages)
            await app(scope(**headers), client.receive, client.send)
            return client

        pieces = await ask(
            *(body(whole[n : n + 10], more=True) for n in range(0, len(whole), 10)),
            body(b""),
            content_type="application/json",
        )
        assert pieces.sent[0]["status"] == 200 and len(json.loads(pieces.sent[1]["body"])["predictions"]) == 1
        assert (await ask(body(b" " * 1500, more=True), body(b" " * 1500))).sent[0]["status"] == 413
        assert (await ask(content_length="9999")).sent[0]["status"] == 413
        for lie in ("-1", "\u00b9", "x", ""):
            assert (await ask(content_length=lie)).sent[0]["status"] == 413
        assert (await ask(body(b"{", more=True))).sent[0]["status"] == 408
        assert (await ask(body(b"{", more=True), {"type": "http.disconnect"})).sent == []
        assert (await ask(body(b"\xff"))).sent[0]["status"] == 400
        assert (await ask(body(whole), content_type="text/plain")).sent[0]["status"] == 415
        websocket = Client({"type": "websocket.connect"})
        await app({"type": "websocket", "path": "/"}, websocket.receive, websocket.send)
        assert websocket.sent[0]["type"] == "websocket.close"
        await app.aclose()

    asyncio.run(run())


def test_a_reply_in_parts_waits_for_its_client_and_ends_when_that_has_gone(
    things_bundle: Path, tmp_path: Path, thing: dict[str, Any]
) -> None:
    async def run() -> None:
        app = serve.asgi(things_bundle, log_folder=tmp_path)
        client = Client(body(json.dumps({"rows": [thing] * 9000}).encode()))
        room = asyncio.Semaphore(4)

        async def send(message: Any) -> None:
            await room.acquire()
            await client.send(message)

        asking = asyncio.create_task(app(scope(accept="text/event-stream"), client.receive, send))
        while len(client.sent) < 4:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        logged = sum(1 for _ in predictions.iterate(tmp_path))
        assert 3 * 256 <= logged <= 4 * 256  # no further than one chunk ahead of what was taken
        client.gone.set()
        for _ in range(9):
            room.release()
        await asking
        assert sum(1 for _ in predictions.iterate(tmp_path)) <= 5 * 256 and len(client.sent) <= 5
        await app.aclose()

    asyncio.run(run())


def test_many_requests_at_once_start_one_service(things_bundle: Path, tmp_path: Path) -> None:
    async def run() -> None:
        app = serve.asgi(things_bundle, log_folder=tmp_path)
        clients = [Client(body(b"")) for _ in range(20)]
        await asyncio.gather(*(app(scope("GET", "/health/ready"), one.receive, one.send) for one in clients))
        assert {one.sent[0]["status"] for one in clients} == {200}
        assert len(list(tmp_path.glob("*.jsonl"))) == 1
        await app.aclose()

    asyncio.run(run())


def test_what_is_no_bundle_is_refused_at_once_and_what_cannot_start_fails_the_lifespan(
    things_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="isn't a bundle"):
        serve.asgi(tmp_path)
    (tmp_path / "file").write_text("")

    async def run() -> None:
        app = serve.asgi(things_bundle, log_folder=tmp_path / "file")
        client = Client({"type": "lifespan.startup"})
        await app({"type": "lifespan"}, client.receive, client.send)
        assert client.sent[0]["type"] == "lifespan.startup.failed" and "can't be written" in client.sent[0]["message"]

    asyncio.run(run())
