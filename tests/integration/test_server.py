"""The server: a real process, a real client, good and bad input."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import onnxruntime
import pytest
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families

from perron import predictions
from perron.demonstration import serving
from tests.conftest import perron
from tests.integration.test_pipeline import run, write_project

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("things"), "label")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def address(project: Path) -> Iterator[str]:
    with serving(project, "--max-rows", "500", "--max-body-bytes", "200000") as (place, _):
        yield place


@pytest.fixture
def row() -> dict[str, Any]:
    return {"size": 1.5, "weight": None, "kind": "a", "code": 2, "on": True, "day": "2024-02-29", "word": "w1"}


def post(address: str, body: bytes | str, **headers: str) -> httpx.Response:
    return httpx.post(f"{address}/v1/predictions", content=body, headers={**JSON, **headers}, timeout=30)


def test_an_answer_names_the_model_and_each_prediction(address: str, row: dict[str, Any]) -> None:
    answer = post(address, json.dumps({"rows": [row, row]})).json()
    assert answer["model"] == "things" and answer["version"] == 1
    first, second = answer["predictions"]
    assert first["id"] != second["id"] and first["value"] == second["value"] in ("high", "low", "mid")
    assert first["value"] == max(first["probabilities"], key=first["probabilities"].get)


def test_optional_fields_and_ids_may_be_left_out_or_given(address: str) -> None:
    least = {"size": 1, "kind": "b", "on": False, "day": "2024-01-01"}
    assert post(address, json.dumps({"rows": [least, {**least, "key": 7, "code": None}]})).status_code == 200


def test_many_rows_are_answered_in_order(address: str, row: dict[str, Any]) -> None:
    rows = [{**row, "size": number / 10} for number in range(400)]
    together = post(address, json.dumps({"rows": rows})).json()["predictions"]
    for number in (0, 123, 399):
        alone = post(address, json.dumps({"rows": [rows[number]]})).json()["predictions"][0]
        assert (
            alone["value"] == together[number]["value"] and alone["probabilities"] == together[number]["probabilities"]
        )


BAD: list[tuple[str, bytes, int]] = [
    ("empty", b"", 400),
    ("not JSON", b"{rows: 1}", 400),
    ("cut off", b'{"rows": [{"size": 1', 400),
    ("bad UTF-8", b'{"rows": [{"size": "\xff"}]}', 400),
    ("NaN", b'{"rows": [{"size": NaN}]}', 400),
    ("Infinity", b'{"rows": [{"size": Infinity}]}', 400),
    ("deep", b"[" * 100_000, 400),
    ("deep and closed", b'{"rows": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400),
    ("two documents", b'{"rows": []}{"rows": []}', 400),
    ("null", b"null", 422),
    ("a list", b"[]", 422),
    ("no rows", b'{"rows": []}', 422),
    ("rows null", b'{"rows": null}', 422),
    ("rows an object", b'{"rows": {}}', 422),
    ("more keys", b'{"rows": [], "model": "x"}', 422),
    ("a row null", b'{"rows": [null]}', 422),
    ("a row empty", b'{"rows": [{}]}', 422),
    ("huge number", b'{"rows": [{"size": 1e999}]}', 422),
    ("huge integer", b'{"rows": [{"code": ' + b"9" * 400 + b"}]}", 422),
    ("enormous integer", b'{"rows": [{"code": ' + b"9" * 100_000 + b"}]}", 422),
    ("lone surrogate", b'{"rows": [{"kind": "\\ud800", "word": "\\ud800"}]}', 422),
    ("a word for a number", b'{"rows": [{"size": "1"}]}', 422),
    ("truth as a number", b'{"rows": [{"size": true}]}', 422),
    ("an impossible day", b'{"rows": [{"day": "2023-02-29"}]}', 422),
    ("too many rows", b'{"rows": [' + b",".join([b"{}"] * 501) + b"]}", 413),
    ("too large", b'{"rows": [' + b" " * 200_000 + b"]}", 413),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_a_problem_and_never_a_5xx(address: str, body: bytes, status: int) -> None:
    answer = post(address, body)
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["title"] and problem["detail"] and "Traceback" not in answer.text
    assert len(answer.content) < 50_000


def test_every_fault_of_every_row_is_named_with_its_rule(address: str, row: dict[str, Any]) -> None:
    rows = [{**row, "size": -1, "kind": "z"}, row, {**row, "code": 9, "onn": 1, "label": "mid", "on": None}]
    problem = post(address, json.dumps({"rows": rows})).json()
    assert [(e["row"], e["field"], e["rule"]) for e in problem["errors"]] == [
        (0, "size", "ge"), (0, "kind", "values"), (2, "code", "values"), (2, "on", "required"), (2, "onn", "unknown"), (2, "label", "target"),
    ]  # fmt: skip
    assert problem["count"] == 6 and "did you mean 'on'?" in problem["errors"][4]["expected"]


def test_a_flood_of_faults_is_cut_and_counted(address: str) -> None:
    problem = post(address, json.dumps({"rows": [{}] * 200})).json()
    assert problem["count"] == 800 and len(problem["errors"]) == 100


def test_types_and_methods_and_paths_get_their_status(address: str, row: dict[str, Any]) -> None:
    body = json.dumps({"rows": [row]})
    assert post(address, body, **{"Content-Type": "text/plain"}).status_code == 415
    assert post(address, body, **{"Content-Type": "application/json; charset=utf-8"}).status_code == 200
    refused = httpx.put(f"{address}/v1/predictions", content=body, headers=JSON)
    assert refused.status_code == 405 and refused.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert httpx.get(f"{address}/v1/outcomes").headers["allow"] == "OPTIONS, POST"
    assert httpx.delete(f"{address}/v1/model").headers["allow"] == "GET, HEAD, OPTIONS"
    asked = httpx.options(f"{address}/v1/outcomes")
    assert asked.status_code == 204 and asked.headers["allow"] == "OPTIONS, POST" and asked.content == b""
    for path in (
        "/nothing",
        "/v1/predictions/x/y",
        "/v1/predictions/..%2f..%2fledger.db",
        "/v1/predictions/" + "a" * 5000,
    ):
        answer = httpx.get(address + path)
        assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json"
    head = httpx.head(f"{address}/v1/model")
    assert head.status_code == 200 and head.content == b"" and int(head.headers["content-length"]) > 100


def test_a_body_of_unsaid_length_is_read_and_limited(address: str, row: dict[str, Any]) -> None:
    def parts(size: int) -> Iterator[bytes]:
        yield b'{"rows": ['
        for _ in range(size):
            yield b" " * 1000
        yield json.dumps(row).encode() + b"]}"

    assert httpx.post(f"{address}/v1/predictions", content=parts(10), headers=JSON).status_code == 200
    assert httpx.post(f"{address}/v1/predictions", content=parts(300), headers=JSON).status_code == 413


def test_raw_nonsense_on_the_socket_leaves_the_server_alive(address: str, row: dict[str, Any]) -> None:
    host, port = address.removeprefix("http://").split(":")
    for junk in (b"\x00\xff" * 500, b"GET", b"POST /v1/predictions HTTP/1.1\r\nContent-Length: 99999\r\n\r\nshort", b"POST / HTTP/9.9\r\n\r\n",
                 b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", b"A" * 100_000):  # fmt: skip
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(junk)
    assert post(address, json.dumps({"rows": [row]})).status_code == 200


def test_pipelined_requests_are_answered_in_order(address: str, row: dict[str, Any]) -> None:
    host, port = address.removeprefix("http://").split(":")
    body = json.dumps({"rows": [row]}).encode()
    good = (
        b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )
    last = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(good * 3 + last)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200") == 4 and answer.rstrip().endswith(b'{"status":"live"}')


def test_the_receipt_is_the_answer_with_its_lineage(address: str, project: Path, row: dict[str, Any]) -> None:
    given = post(address, json.dumps({"rows": [row, {**row, "word": '"id":"x"'}]}, indent=2)).json()["predictions"][1]
    receipt = httpx.get(f"{address}/v1/predictions/{given['id']}").json()
    assert (
        receipt["prediction"]["value"] == given["value"]
        and receipt["prediction"]["probabilities"] == given["probabilities"]
    )
    assert receipt["prediction"]["input"]["word"] == '"id":"x"' and receipt["prediction"]["route"] == "champion"
    manifest = json.loads(next((project / ".perron" / "bundles").glob("*/manifest.json")).read_text())
    assert receipt["run"] == manifest["lineage"]["run"] and receipt["data"] == manifest["lineage"]["data"]
    assert receipt["outcome"] is None


def test_the_openapi_document_is_valid_and_says_what_the_contract_says(address: str) -> None:
    document = httpx.get(f"{address}/openapi.json").json()
    validate(document)
    schema = document["components"]["schemas"]["Row"]
    assert schema["required"] == ["size", "kind", "on", "day"] and schema["additionalProperties"] is False
    assert schema["properties"]["size"] == {"type": "number", "minimum": 0}
    assert schema["properties"]["code"]["enum"] == [1, 2, 3, None]
    example = document["paths"]["/v1/predictions"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert post(address, json.dumps(example)).status_code == 200


def test_pages_of_the_operator(address: str, project: Path) -> None:
    assert httpx.get(f"{address}/health/live").json() == {"status": "live"}
    assert httpx.get(f"{address}/health/ready").json() == {"status": "ready"}
    facts = httpx.get(f"{address}/v1/model").json()
    graph = onnxruntime.InferenceSession(next((project / ".perron" / "bundles").glob("*/model.onnx")))
    assert facts["inputs"] == [{"name": i.name, "type": i.type, "shape": i.shape} for i in graph.get_inputs()]
    assert facts["name"] == "things" and facts["parity"]["labels_equal"] is True and "log_loss" in facts["metrics"]
    families = {family.name: family for family in text_string_to_metric_families(httpx.get(f"{address}/metrics").text)}
    assert families["perron_predictions"].samples[0].value > 0
    assert {
        "perron_request_seconds",
        "perron_batch_rows",
        "perron_requests_refused",
        "process_resident_memory_bytes",
    } <= set(families)
    docs = httpx.get(f"{address}/docs")
    assert (
        docs.headers["content-type"].startswith("text/html")
        and "default-src 'none'" in docs.headers["content-security-policy"]
    )


def test_a_batchs_receipt_with_a_number_that_is_none_is_not_found(
    address: str, project: Path, row: dict[str, Any]
) -> None:
    rows = project / "rows.csv"
    rows.write_text(",".join(row) + "\n" + ",".join("" if v is None else str(v) for v in row.values()) + "\n")
    perron("predict", rows, "-o", project / "out.csv", cwd=project)
    segment = next((project / ".perron" / "predictions").glob("*.parquet")).stem
    for number in ("00000000", "00000002", "ffffffff"):
        assert httpx.get(f"{address}/v1/predictions/{segment}-{number}-abcdef01").status_code == 404
    assert "There is no prediction" in perron("trace", f"{segment}-00000000-abcdef01", cwd=project, check=False).stderr


def start(project: Path) -> "tuple[subprocess.Popen[str], int]":
    server = subprocess.Popen(
        [sys.executable, "-m", "perron", "serve", "--port", "0"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    return server, int(server.stdout.readline().split(" answers at ")[1].split()[0].rpartition(":")[2])


def test_clients_that_go_away_or_stall_leave_no_traceback_and_do_not_delay_a_stop(
    project: Path, row: dict[str, Any]
) -> None:
    server, port = start(project)
    head = b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head)
    stalled = socket.create_connection(("127.0.0.1", port))
    stalled.sendall(head)
    assert post(f"http://127.0.0.1:{port}", json.dumps({"rows": [row]})).status_code == 200
    server.send_signal(signal.SIGTERM)
    _, errors = server.communicate(timeout=8)  # not the ten seconds that a stop waits for what is under way
    stalled.close()
    assert server.returncode == 0 and errors == ""


def test_a_port_in_use_is_one_clear_line(address: str, project: Path) -> None:
    done = perron("serve", "--port", address.rpartition(":")[2], cwd=project, check=False)
    assert (
        done.returncode == 1
        and done.stderr.startswith("perron: Can't listen on 127.0.0.1:")
        and "another process" in done.stderr
    )


def test_a_tampered_bundle_is_not_served(project: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    model = next((copy / ".perron" / "bundles").glob("*/model.onnx"))
    model.write_bytes(model.read_bytes().replace(b"perron", b"PERRON"))
    done = perron("serve", "--port", "0", cwd=copy, check=False)
    assert done.returncode == 1 and "model.onnx was changed" in done.stderr


def test_a_stop_signal_finishes_what_is_under_way(project: Path, row: dict[str, Any]) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "perron", "serve", "--port", "0"], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    assert server.stdout is not None
    port = int(server.stdout.readline().split(" answers at ")[1].split()[0].rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", "/v1/predictions", json.dumps({"rows": [row] * 5000}), JSON)
    server.send_signal(signal.SIGTERM)
    answer = connection.getresponse()
    assert answer.status == 200 and len(json.loads(answer.read())["predictions"]) == 5000
    connection.close()
    _, errors = server.communicate(timeout=20)
    assert server.returncode == 0 and errors == ""


def test_a_log_that_cannot_be_written_refuses_instead_of_answering(
    project: Path, row: dict[str, Any], tmp_path: Path
) -> None:
    """The process may write files of 64 KiB at most: what a full disk does, without one."""
    limit = "import resource, signal, runpy, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); sys.argv[0] = 'perron'; runpy.run_module('perron', run_name='__main__')"
    server = subprocess.Popen(
        [sys.executable, "-c", limit, "serve", "--port", "0"], cwd=project, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )  # fmt: skip
    assert server.stdout is not None
    address = server.stdout.readline().split(" answers at ")[1].split()[0]
    acknowledged, refused = [], None
    for _ in range(100):
        answer = post(address, json.dumps({"rows": [row] * 20}))
        if answer.status_code != 200:
            refused = answer
            break
        acknowledged += [prediction["id"] for prediction in answer.json()["predictions"]]
    assert refused is not None and refused.status_code == 503 and "can't be written" in refused.json()["detail"]
    assert httpx.get(f"{address}/health/live").status_code == 200
    server.terminate()
    server.communicate(timeout=20)
    for one in acknowledged:
        assert predictions.find(project / ".perron" / "predictions", one).id == one
