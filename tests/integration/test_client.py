"""The clients: one typed by a contract, written by `perron client`, and one for any service."""

import datetime
import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest

import perron as pn
from perron.client import Client
from perron.connection import Busy, NoAnswer, NotThere, Refused, Unavailable
from perron.contract import schema_of
from perron.demonstration import serving
from perron.derive.client import client_module
from tests.conftest import perron

USE = """
from datetime import date
from client import Client, Row, Reply, Prediction, Refused

row: Row = {"size": 1.5, "kind": "a", "on": True, "day": date(2024, 2, 29)}
with Client("http://127.0.0.1:1") as client:
    reply: Reply = client.predict([row])
    value: str = reply.predictions[0].value
    share: float = reply.predictions[0].probabilities["high"]
    client.outcome(reply.predictions[0], "low")
"""
WRONG = {
    "a field that isn't there": ('"size": 1.5', '"sizes": 1.5'),
    "a value of another type": ('"size": 1.5', '"size": "1.5"'),
    "a class that isn't one": ('"kind": "a"', '"kind": "z"'),
    "a field left out": (', "day": date(2024, 2, 29)', ""),
    "a label that isn't one": ('["high"]', '["higher"]'),
    "an outcome that can't be": ('"low")', '"lower")'),
}


@pytest.fixture(scope="module")
def address(things: Path) -> Iterator[str]:
    with serving(things) as (place, _):
        yield place


@pytest.fixture(scope="module")
def module_path(things: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("client") / "client.py"
    perron("client", "-o", path, cwd=things)
    return path


@pytest.fixture(scope="module")
def typed(module_path: Path) -> ModuleType:
    """The written module, imported."""
    spec = importlib.util.spec_from_file_location("client", module_path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["client"] = module
    spec.loader.exec_module(module)
    return module


def check_types(folder: Path, text: str) -> str:
    (folder / "use.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--cache-dir",
        str(folder / ".cache"),
        "client.py",
        "use.py",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_the_written_client_is_typed_by_the_contract(module_path: Path) -> None:
    assert check_types(module_path.parent, USE).startswith("Success")
    for name, (right, wrong) in WRONG.items():
        assert right in USE
        said = check_types(module_path.parent, USE.replace(right, wrong))
        assert "use.py" in said and "client.py" not in said, name


def test_the_written_client_needs_no_package(module_path: Path, address: str) -> None:
    text = (
        "import sys, client, datetime; assert not any(name.startswith('perron') for name in sys.modules)\n"
        f"with client.Client({address!r}) as c: print(c.predict([{{'size': 1, 'kind': 'a', 'on': True, 'day': datetime.date(2024, 2, 29)}}]).model)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(module_path.parent)!r})\n{text}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "things\n", done.stderr


def test_it_predicts_streams_traces_and_reports(typed: ModuleType, address: str, thing: dict[str, Any]) -> None:
    with typed.Client(address) as client:
        reply = client.predict([{**thing, "day": datetime.date(2024, 2, 29)}, thing])
        assert reply.predictions[0].value == reply.predictions[1].value and reply.version == 1
        assert set(reply.predictions[0].probabilities) == {"high", "low", "mid"}
        assert [one.value for one in client.stream([thing] * 600)] == [reply.predictions[0].value] * 600
        assert client.receipt(reply.predictions[0])["outcome"] is None
        assert [client.outcome(reply.predictions[0], value) for value in ("low", "low", "mid")] == [
            "recorded",
            "repeated",
            "corrected",
        ]
        assert client.receipt(reply.predictions[0].id)["outcome"]["value"] == "mid"
        with pytest.raises(typed.Refused, match=r"rows\[1\]\.size") as refused:
            client.predict([thing, {**thing, "size": -1, "kind": "z"}])
        assert [(fault.row, fault.field, fault.rule) for fault in refused.value.faults] == [
            (1, "size", "ge"),
            (1, "kind", "values"),
        ]
        assert refused.value.status == 422 and refused.value.count == 2
        with pytest.raises(typed.Refused):
            list(client.stream([{**thing, "size": -1}]))
        with pytest.raises(typed.NotThere):
            client.receipt("../../v1/model")
        with pytest.raises(typed.NotThere, match="no version '9'"):
            client.predict([thing], version=9)
        assert client.predict([thing], version="champion", key="user 7", timeout_ms=5000).version == 1


def test_a_service_with_another_contract_is_told_before_anything_is_predicted(
    things: Path, address: str, thing: dict[str, Any], tmp_path: Path
) -> None:
    bundle = pn.load(next((things / ".perron" / "bundles").iterdir()))

    class Thing(pn.Contract):
        size: float
        label: Annotated[Literal["high", "low", "mid"], pn.Target]

    text = client_module(schema_of(Thing), model="things", version=3, labels=bundle.labels, has_probabilities=True)
    scope: dict[str, Any] = {"__name__": "older"}
    sys.modules["older"] = ModuleType("older")
    exec(text, scope)
    with scope["Client"](address) as client:
        with pytest.raises(
            scope["ContractChanged"],
            match=r"made for things version 3, by contract .*has things version 1.*`perron client`",
        ):
            client.predict([{"size": 1.0}])
        client._seen.add(2)  # it has been answered by a version that had its contract
        with pytest.warns(UserWarning, match="made for things version 3"):
            client.predict([thing])
        with pytest.raises(scope["ContractChanged"]):
            client.predict([{"size": 1.0}])


def test_any_contract_makes_a_module_that_runs_and_is_typed(tmp_path: Path) -> None:
    class Strange(pn.Contract):
        """Quotes \\" and \\\\ and '''three''' \\"\\"\\" {braces} %s."""

        date: datetime.date
        float: int | None
        Literal: str
        moment: datetime.datetime | None
        kind: Literal[1, 2, 3]
        wide: Annotated[float, pn.Unit('"""')]
        target: Annotated[bool, pn.Target]

    class Plain(pn.Contract):
        size: Annotated[float, pn.Ge(0), pn.Unit('"in')]
        """Back\\slash and \\"quotes\\"."""
        kind: Annotated[Literal["a'b", 'c"d', "e\\f", "é\n", "{}"], pn.Target]

    for contract in (Strange, Plain):
        schema = schema_of(contract)
        labels = ["false", "true"] if contract is Strange else list(schema["kind"].values)
        text = client_module(schema, model="odd", version=1, labels=labels, has_probabilities=contract is Plain)
        compile(text, "client.py", "exec")
        (tmp_path / "client.py").write_text(text)
        assert check_types(tmp_path, "import client\n").startswith("Success")


def test_what_was_not_made_by_the_command_is_not_overwritten(things: Path, module_path: Path, tmp_path: Path) -> None:
    before = module_path.read_text()
    perron("client", "--version", "1", "-o", module_path, cwd=things)
    assert module_path.read_text() == before
    mine = tmp_path / "mine.py"
    mine.write_text("precious = 1\n")
    for target, words in (
        (mine, "wasn't made by this command"),
        (tmp_path / "x.txt", "name a .py file"),
        (tmp_path / "no" / "x.py", "name a .py file"),
    ):
        done = perron("client", "-o", target, cwd=things, check=False)
        assert done.returncode == 1 and words in done.stderr
    assert mine.read_text() == "precious = 1\n"
    assert perron("client", "--model", "nobody", "-o", module_path, cwd=things, check=False).returncode == 1


def test_the_client_of_any_service(address: str, thing: dict[str, Any]) -> None:
    with Client(f"{address}/") as client:
        reply = client.predict([thing, thing], model="things", version=1)
        ids = [one.id for one in reply.predictions]
        assert client.outcomes([(ids[0], "low"), (ids[1], "mid")]) == ["recorded", "recorded"]
        with pytest.raises(Refused) as refused:
            client.outcomes([(ids[0], "low"), ("nobody", "mid")])
        assert [one["status"] for one in refused.value.body["outcomes"]] == ["repeated", "unknown"]
        listed = client.predictions(model="things", since=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        assert [next(listed)["id"], next(listed)["id"]] == ids[::-1]
        assert client.receipt(ids[0])["outcome"]["value"] == "low"
        assert [model["name"] for model in client.models()] == ["things"]
        assert client.model()["contract_digest"] == client.card("things", 1)["contract"]["digest"]
        assert len(list(client.stream([thing] * 300))) == 300
        with pytest.raises(NotThere, match="did you mean 'things'"):
            client.predict([thing], model="thing")
        with pytest.raises(ValueError, match="name it with model="):
            client.predict([thing], version=1)
        with pytest.raises(TypeError, match="Expected JSON's values"):
            client.predict([{"size": object()}])
        assert client.predict([thing]).version == 1  # what failed left nothing behind


def test_many_threads_share_a_client(address: str, thing: dict[str, Any]) -> None:
    found: list[str] = []
    with Client(address) as client:

        def work() -> None:
            found.extend(client.predict([thing]).predictions[0].id for _ in range(25))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 200 and len(client._idle) <= 8


class _Strange(BaseHTTPRequestHandler):
    """Answers by what the path asks for; closes connections that it said it would keep."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        status, text, headers = {
            "/busy": (429, b'{"title": "Too many requests", "detail": "Later."}', {"Retry-After": "7"}),
            "/page": (200, b"<html>", {}), "/list": (502, b"[1]", {}), "/plain": (503, b"no", {}), "/ok": (200, b"{}", {}),
        }.get(self.path, (200, b"{}", {}))  # fmt: skip
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = self.path == "/ok"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(
            json.dumps({"model": "m", "version": 1, "predictions": [{"id": "1", "value": 2}]}).encode() + b"\n"
        )
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_what_goes_wrong_on_the_way_is_told_by_its_kind() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Strange)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with Client(f"http://127.0.0.1:{server.server_port}", timeout_s=5) as client:
            with pytest.raises(Busy) as busy:
                client.ask("GET", ["busy"])
            assert busy.value.retry_after_s == 7
            for path in ("list", "plain"):
                with pytest.raises(Unavailable):
                    client.ask("GET", [path])
            with pytest.raises(NoAnswer, match="isn't JSON"):
                client.ask("GET", ["page"])
            for _ in range(5):  # the server closes what it had kept open; the client asks again on another
                assert client.ask("GET", ["ok"]) == {}
            parts = client.stream([{}])
            assert next(parts).value == 2
            with pytest.raises(NoAnswer, match="in the middle of its answer"):
                next(parts)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    with pytest.raises(NoAnswer, match="is the service up"):
        Client(f"http://127.0.0.1:{server.server_port}").models().__next__()
    for address in ("127.0.0.1:8000", "ftp://x", "http://", "http://x:port", "http://x?y"):
        with pytest.raises(NoAnswer, match="Expected the address of a service"):
            Client(address)
