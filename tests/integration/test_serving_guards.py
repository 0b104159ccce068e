"""Who may ask: tokens, scopes, rates, certificates, origins; and what is noted of every request."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron.demonstration import serving
from perron.plan import TokenPlan
from perron.project import Project
from perron.serve.guard import Cors, Guard
from perron.tokens import make_token
from tests.conftest import need, perron
from tests.integration.test_pipeline import run, write_project
from tests.integration.test_serving_models import BODY, JSON, ask, until


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("guarded"), "label")
    run(folder)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "things"))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_token_opens_what_its_scopes_allow_until_it_is_revoked(project: Path) -> None:
    asks = perron("token", "create", "app", cwd=project).stdout.strip()
    reads = perron("token", "create", "reader", "--scope", "read", "--scope", "outcome", cwd=project).stdout.strip()
    assert asks.startswith("perron_") and len(asks) > 40
    database = (project / ".perron" / "ledger.db").read_bytes()
    assert asks.encode() not in database and asks not in perron("token", "list", "--json", cwd=project).stdout
    with serving(project) as (address, _):
        assert ask(address).status_code == 401 and "bearer" in ask(address).headers["www-authenticate"].lower()
        assert ask(address, Authorization="Basic eDp5").status_code == 401
        assert ask(address, **bearer(asks[:-1])).status_code == 401
        assert ask(address, **bearer(reads)).status_code == 403
        answer = ask(address, **bearer(asks))
        assert answer.status_code == 200
        receipt = f"{address}/v1/predictions/{answer.json()['predictions'][0]['id']}"
        assert httpx.get(receipt).status_code == 401 and httpx.get(receipt, headers=bearer(asks)).status_code == 403
        assert httpx.get(receipt, headers=bearer(reads)).status_code == 200
        assert httpx.get(f"{address}/health/ready").status_code == 200
        assert httpx.get(f"{address}/metrics").status_code == 401
        perron("token", "revoke", "app", cwd=project)
        until(lambda: ask(address, **bearer(asks)).status_code == 401)
        perron("token", "revoke", "reader", cwd=project)
        until(lambda: httpx.get(receipt, headers=bearer(reads)).status_code == 401)
        assert ask(address).status_code == 401  # nobody is left, and nobody gets in


def test_a_rate_is_held_and_says_when_to_come_again(project: Path) -> None:
    token = make_token(Project.open(project).ledger, "slow", requests_per_s=0.5)
    with serving(project) as (address, _):
        answers = [ask(address, **bearer(token)) for _ in range(8)]
        statuses = [answer.status_code for answer in answers]
        assert statuses[0] == 200 and 429 in statuses and int(answers[statuses.index(429)].headers["retry-after"]) >= 1
        until(lambda: ask(address, **bearer(token)).status_code == 200)


def test_a_token_that_has_expired_is_refused() -> None:
    before = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    import hashlib

    guard = Guard([TokenPlan(hashlib.sha256(b"t").hexdigest(), "old", frozenset({"predict"}), None, before)])
    found = guard.check({"authorization": "Bearer t"}, "predict")
    assert getattr(found, "status", None) == 401 and b"expired" in found.body  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["x y"], "The token's name"), (["a", "--scope", "predct"], "did you mean 'predict'?"),
        (["a", "--requests-per-s", "0"], "above 0"), (["a", "--days", "-1"], "above 0"),
    ],
)  # fmt: skip
def test_a_token_that_makes_no_sense_is_refused(project: Path, words: list[str], says: str) -> None:
    done = perron("token", "create", *words, cwd=project, check=False)
    assert done.returncode == 1 and says in done.stderr and done.stdout == ""


def test_a_public_address_asks_for_a_token_or_a_word(project: Path) -> None:
    done = perron("serve", "--host", "0.0.0.0", "--port", "0", cwd=project, check=False)
    assert done.returncode == 1 and "perron token create" in done.stderr and "--allow-anonymous" in done.stderr
    with serving(project, "--host", "0.0.0.0", "--allow-anonymous") as (_, port):
        assert ask(f"http://127.0.0.1:{port}").status_code == 200
    make_token(Project.open(project).ledger, "app")
    with serving(project, "--host", "0.0.0.0") as (_, port):
        assert ask(f"http://127.0.0.1:{port}").status_code == 401


def test_no_origin_is_allowed_unless_it_is_named(project: Path) -> None:
    page = {"Origin": "https://app.example"}
    with serving(project) as (address, _):
        assert "access-control-allow-origin" not in ask(address, **page).headers
    with serving(project, "--cors-origin", "https://app.example") as (address, _):
        assert ask(address, **page).headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-origin" not in ask(address, Origin="https://evil.example").headers
        asked = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        answer = httpx.options(f"{address}/v1/predictions", headers=asked)
        assert answer.status_code == 204 and "POST" in answer.headers["access-control-allow-methods"]
    assert Cors(("*",)).headers("https://any.example") == (("access-control-allow-origin", "*"),)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and what it signed for a server and a client."""
    openssl, folder = need("openssl"), tmp_path_factory.mktemp("certificates")

    def make(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    make(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-days",
        "2",
        "-subj",
        "/CN=test authority",
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for who in ("server", "client"):
        make(
            "req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{who}.key", "-out", f"{who}.csr", "-subj", f"/CN={who}"
        )
        make(
            "x509",
            "-req",
            "-in",
            f"{who}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            f"{who}.pem",
            "-days",
            "2",
            "-extfile",
            "names",
        )
    return folder


def test_mutual_tls_lets_in_only_clients_with_a_certificate(project: Path, certificates: Path) -> None:
    options = [
        "--tls-cert",
        certificates / "server.pem",
        "--tls-key",
        certificates / "server.key",
        "--tls-client-ca",
        certificates / "ca.pem",
    ]
    with serving(project, *map(str, options)) as (address, _):
        assert address.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{address}/v1/predictions", content=BODY, headers=JSON, verify=trusting)
        trusting.load_cert_chain(certificates / "client.pem", certificates / "client.key")
        assert httpx.post(f"{address}/v1/predictions", content=BODY, headers=JSON, verify=trusting).status_code == 200


def test_a_certificate_that_cannot_be_used_is_one_line(project: Path, certificates: Path) -> None:
    for words, says in (
        (["--tls-cert", certificates / "server.pem"], "both --tls-cert and --tls-key"),
        (["--tls-cert", certificates / "server.pem", "--tls-key", certificates / "client.key"], "can't be used"),
        (["--tls-client-ca", certificates / "ca.pem"], "needs --tls-cert"),
    ):
        done = perron("serve", "--port", "0", *words, cwd=project, check=False)
        assert done.returncode == 1 and says in done.stderr


def test_a_header_that_is_too_large_or_never_ends_is_refused(project: Path) -> None:
    with serving(project) as (address, port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            try:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * 2_000_000 + b"\r\n\r\n")
                first = connection.recv(64)
            except ConnectionError:
                first = b""
        assert first == b"" or first.startswith(b"HTTP/1.1 4")
        assert ask(address).status_code == 200


def test_every_request_leaves_a_json_line_with_its_id_and_never_its_token(project: Path) -> None:
    token = make_token(Project.open(project).ledger, "app")
    command = [sys.executable, "-m", "perron", "serve", "--port", "0", "--access-log", "--log-format", "json"]
    with subprocess.Popen(
        [*command, "--log-level", "info"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None and server.stderr is not None
        address = server.stdout.readline().split(" answers at ")[1].split()[0]
        trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
        good = ask(address, **bearer(token), **{"X-Request-Id": "my-id", "traceparent": trace})
        made = ask(address, **bearer(token))
        odd = ask(address, **{"X-Request-Id": "bad id"})
        server.terminate()
        errors = server.stderr.read()
    assert good.headers["x-request-id"] == "my-id" and len(made.headers["x-request-id"]) == 16
    assert odd.headers["x-request-id"] != "bad id"
    lines = [json.loads(line) for line in errors.splitlines()]
    first = next(line for line in lines if line.get("request_id") == "my-id")
    assert first["status"] == 200 and first["path"] == "/v1/predictions" and first["ms"] > 0
    assert first["traceparent"] == trace and first["token"] == "app" and token not in errors
    assert any(line["message"].startswith("things answers by single") for line in lines)


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP collector's HTTP face, and what it was sent."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_go_to_a_collector_under_their_parent(
    project: Path, collector: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    place, bodies = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", place)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "house-prices")
    with serving(project, "--traces") as (address, _):
        assert ask(address, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01").status_code == 200
    spans = [
        (resource, span)
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    resource, span = next((r, s) for r, s in spans if s.name == "POST /v1/predictions")
    assert span.trace_id.hex() == "a" * 32 and span.parent_span_id.hex() == "b" * 16
    assert {a.key: a.value.int_value for a in span.attributes}["http.response.status_code"] == 200
    assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == "house-prices"
