"""What Vertex AI, SageMaker and Cloud Run ask of a container: real servers, told by the environment alone."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron.cli import _without_repetition
from perron.demonstration import serving
from perron.errors import PerronError
from perron.serve.health import PORTS
from perron.serve.http import free_port
from perron.serve.platforms import Vertex, read_vertex
from tests.conftest import perron

HEALTH, PREDICT = "/v1/endpoints/12/deployedModels/34", "/v1/endpoints/12/deployedModels/34:predict"
ROUTES = {"AIP_HEALTH_ROUTE": HEALTH, "AIP_PREDICT_ROUTE": PREDICT, "AIP_STORAGE_URI": "", "AIP_MODE": "PREDICTION"}


@contextmanager
def started(folder: Path, *options: str, **variables: str) -> Iterator[str]:
    """The address of a server that its environment tells where to listen; stopped when the context is left."""
    command = [sys.executable, "-m", "perron", "serve", "-C", str(folder), *options]
    environment = {**{name: value for name, value in os.environ.items() if name not in PORTS}, **variables}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        clock = threading.Timer(60, server.kill)
        clock.start()
        try:
            assert server.stdout is not None and server.stderr is not None
            said = server.stdout.readline()
            clock.cancel()
            assert " answers at " in said, server.stderr.read()
            yield said.split(" answers at ")[1].split()[0]
        finally:
            clock.cancel()
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def vertex(things: Path) -> Iterator[str]:
    """A server as Vertex AI starts it."""
    with started(
        things, "--max-rows", "50", "--max-body-bytes", "100000", **ROUTES, AIP_HTTP_PORT=str(free_port())
    ) as address:
        yield address


def ask(address: str, body: Any, path: str = PREDICT, **headers: str) -> httpx.Response:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return httpx.post(
        f"{address}{path}", content=content, headers={"content-type": "application/json", **headers}, timeout=30
    )


# -- Vertex AI


def test_vertex_asks_for_health_and_predictions_at_its_own_routes(vertex: str, thing: dict[str, Any]) -> None:
    assert httpx.get(f"{vertex}{HEALTH}").status_code == 200
    wanted = [
        one["value"]
        for one in httpx.post(f"{vertex}/v1/predictions", json={"rows": [thing, thing]}).json()["predictions"]
    ]
    answer = ask(vertex, {"instances": [thing, thing]})
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json() == {"predictions": wanted}
    assert ask(vertex, {"instances": [thing], "parameters": {}}).json() == {"predictions": wanted[:1]}
    assert ask(vertex, {"instances": [thing], "parameters": None}).json() == {"predictions": wanted[:1]}


def test_details_come_with_the_ids_of_the_receipts(vertex: str, thing: dict[str, Any]) -> None:
    [one] = ask(vertex, {"instances": [thing], "parameters": {"details": True}}).json()["predictions"]
    receipt = httpx.get(f"{vertex}/v1/predictions/{one['id']}").json()
    assert receipt["prediction"]["value"] == one["value"]


def test_the_server_listens_where_vertex_says(things: Path) -> None:
    port = free_port()
    with started(things, AIP_HTTP_PORT=str(port), PORT=str(free_port())) as address:
        assert address.endswith(f":{port}")
        assert httpx.get(f"{address}/health/ready").status_code == 200
        assert httpx.get(f"{address}{HEALTH}").status_code == 404  # nobody said that route


BAD: list[tuple[str, Any, int, str]] = [
    ("nothing", "", 400, "isn't JSON"),
    ("not JSON", "{", 400, "isn't JSON"),
    ("bad UTF-8", b'{"instances": "\xff"}', 400, "isn't JSON"),
    ("too deep", "[" * 5000, 400, "isn't JSON"),
    ("a list", [], 400, "must be"),
    ("no instances", {"inputs": []}, 400, "must be"),
    ("instances that are none", {"instances": {}}, 400, "must be"),
    ("something beside", {"instances": [], "paramters": {}}, 400, "did you mean 'parameters'?"),
    ("parameters that aren't an object", {"instances": [{}], "parameters": [1]}, 400, "must be an object"),
    ("an unknown parameter", {"instances": [{}], "parameters": {"confidence": 1}}, 400, "isn't known"),
    ("a parameter of another kind", {"instances": [{}], "parameters": {"details": 1}}, 400, "give true or false"),
    ("no rows", {"instances": []}, 422, "row"),
    ("rows that aren't objects", {"instances": [[1, 2]]}, 422, "rows[0]"),
    ("a row without fields", {"instances": [{}]}, 422, "size"),
    ("too many rows", {"instances": [{}] * 51}, 413, "50"),
    ("too many bytes", {"instances": [{"size": "x" * 200_000}]}, 413, "larger"),
]


@pytest.mark.parametrize(("body", "status", "words"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_bad_body_is_a_problem_in_one_line_that_vertex_s_clients_see(
    vertex: str, body: Any, status: int, words: str
) -> None:
    answer = ask(vertex, body)
    assert answer.status_code == status, answer.text
    given = answer.json()
    assert words in json.dumps(given)
    if "larger" not in words:  # refused before any route has it
        assert isinstance(given["error"], str) and "\n" not in given["error"]


def test_other_types_and_methods_are_refused_as_everywhere(vertex: str, thing: dict[str, Any]) -> None:
    assert ask(vertex, "a,b", **{"content-type": "text/csv"}).status_code == 415
    assert httpx.get(f"{vertex}{PREDICT}").status_code == 405
    assert httpx.post(f"{vertex}{HEALTH}").status_code == 405


def test_the_ordinary_routes_go_on(vertex: str, thing: dict[str, Any]) -> None:
    assert httpx.post(f"{vertex}/v1/predictions", json={"rows": [thing]}).status_code == 200
    assert httpx.get(f"{vertex}/health/live").status_code == 200
    assert httpx.get(f"{vertex}/openapi.json").status_code == 200
    assert PREDICT in httpx.get(f"{vertex}/").json()["paths"]
    assert ask(vertex, {"instances": [thing]}, "/invocations").status_code == 200


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AIP_PREDICT_ROUTE": "predict"}, "AIP_PREDICT_ROUTE is 'predict'; give a path such as /predict"),
        ({"AIP_PREDICT_ROUTE": "/a b"}, "give a path"),
        ({"AIP_HEALTH_ROUTE": "/{x}"}, "give a path"),
        ({"AIP_HEALTH_ROUTE": "/x", "AIP_PREDICT_ROUTE": "/x"}, "are both /x; give two"),
        ({"AIP_HEALTH_ROUTE": "/x", "AIP_STORAGE_URI": "gs://b/model"}, "AIP_STORAGE_URI is 'gs://b/model', and this server serves the bundle in its image"),
    ],
)  # fmt: skip
def test_what_vertex_may_not_say_is_refused(variables: dict[str, str], words: str) -> None:
    with pytest.raises(PerronError) as caught:
        read_vertex(variables)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_read_where_vertex_says_nothing() -> None:
    assert read_vertex({"AIP_STORAGE_URI": "gs://of-a-training", "PATH": "/bin"}) is None
    assert read_vertex({"AIP_PREDICT_ROUTE": "", "AIP_HEALTH_ROUTE": "/x"}) == Vertex("/x", None)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AIP_PREDICT_ROUTE": "/v1/predictions"}, "AIP_PREDICT_ROUTE is /v1/predictions, where the server answers something else"),
        ({"AIP_HEALTH_ROUTE": "/metrics"}, "AIP_HEALTH_ROUTE is /metrics"),
        ({"AIP_STORAGE_URI": "gs://b/m", "AIP_HEALTH_ROUTE": "/x"}, "upload the model without an artifact URI"),
    ],
)  # fmt: skip
def test_a_server_that_would_answer_something_else_doesn_t_start(
    things: Path, variables: dict[str, str], words: str
) -> None:
    done = perron("serve", "--port", "0", cwd=things, check=False, **variables)
    assert done.returncode == 1 and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_health_routes_and_invocations_may_be_vertex_s_own(things: Path, thing: dict[str, Any]) -> None:
    port = str(free_port())
    with started(
        things, AIP_HTTP_PORT=port, AIP_HEALTH_ROUTE="/health/ready", AIP_PREDICT_ROUTE="/invocations"
    ) as address:
        assert httpx.get(f"{address}/health/ready").status_code == 200
        answer = ask(address, {"instances": [thing], "parameters": {}}, "/invocations")
        assert answer.status_code == 200 and len(answer.json()["predictions"]) == 1


# -- SageMaker


@pytest.fixture(scope="module")
def sagemaker(things: Path) -> Iterator[str]:
    """A server as SageMaker starts it in an endpoint of several containers."""
    port = free_port()
    with started(things, SAGEMAKER_BIND_TO_PORT=str(port), SAGEMAKER_SAFE_PORT_RANGE="20000-30000") as address:
        assert address.endswith(f":{port}")
        yield address


def test_sagemaker_s_health_check_is_answered_with_200(sagemaker: str) -> None:
    assert httpx.get(f"{sagemaker}/ping", timeout=2).status_code == 200


COLUMNS = ("size", "weight", "kind", "code", "on", "day", "word")


def line(row: dict[str, Any]) -> str:
    return ",".join("" if row.get(name) is None else str(row[name]) for name in COLUMNS)


def test_sagemaker_may_send_json_or_csv_with_a_header_or_without(sagemaker: str, thing: dict[str, Any]) -> None:
    wanted = httpx.post(f"{sagemaker}/v1/predictions", json={"rows": [thing]}).json()["predictions"][0]["value"]
    for body, kind in (
        (json.dumps({"instances": [thing]}), "application/json"),
        (f"{','.join(COLUMNS)}\n{line(thing)}\n", "text/csv"),
        (f"{','.join(COLUMNS)}\n{line(thing)}\n", "text/csv; charset=utf-8; header=present"),
        (line(thing), "text/csv; header=absent"),
        (line(thing) + "\r\n", 'text/csv; charset=UTF-8; header="absent"'),
    ):
        answer = ask(sagemaker, body, "/invocations", **{"content-type": kind})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == [wanted], kind


def test_a_batch_transform_gets_a_line_for_each_of_its_own(sagemaker: str, thing: dict[str, Any]) -> None:
    body = "\n".join([line(thing)] * 3)
    answer = ask(sagemaker, body, "/invocations", **{"content-type": "text/csv; header=absent", "accept": "text/csv"})
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv")
    assert len(answer.text.splitlines()) == 3
    wanted = ask(sagemaker, {"instances": [thing]}, "/invocations").json()["predictions"][0]
    assert answer.text.splitlines()[0] == str(wanted)


@pytest.mark.parametrize(
    ("body", "kind", "status", "words"),
    [
        ("1,2", "text/csv; header=absent", 400, "Row 0 of the CSV has 2 cells, and the contract 7"),
        ("", "text/csv; header=absent", 400, "The CSV needs at least one row"),
        ("", "text/csv", 400, "The CSV needs a header and at least one row"),
        (b"\xff", "text/csv; header=absent", 400, "isn't UTF-8"),
        ("x,,a,2,true,2024-02-29,w", "text/csv; header=absent", 400, "size"),
        ("x", "text/csv; charset=latin-1; header=absent", 415, "charset=latin-1"),
        ("x", "application/x-npy", 415, "application/json or text/csv"),
        ('{"instances": [{}]}', "application/json", 400, "size"),
    ],
)  # fmt: skip
def test_a_bad_body_of_sagemaker_s_is_a_problem(sagemaker: str, body: Any, kind: str, status: int, words: str) -> None:
    answer = ask(sagemaker, body, "/invocations", **{"content-type": kind})
    assert answer.status_code == status, answer.text
    assert words in answer.text


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (
            "perron serve 7 --bundle /srv/model --host 0.0.0.0 serve",
            "perron serve 7 --bundle /srv/model --host 0.0.0.0",
        ),
        ("perron serve --bundle /srv/model", "perron serve --bundle /srv/model"),
        ("perron serve --bundle serve", "perron serve --bundle serve"),
        ("perron serve serve", "perron serve serve"),
        ("perron models --bundle x serve", "perron models --bundle x serve"),
        ("perron", "perron"),
    ],
)
def test_the_word_that_sagemaker_runs_every_image_with_is_understood(words: str, kept: str) -> None:
    assert _without_repetition(words.split()) == kept.split()


# -- where to listen: the argument, then the environment, then the default


def test_cloud_run_s_port_is_listened_on(things: Path) -> None:
    port = free_port()
    with started(things, PORT=str(port), K_SERVICE="house-prices") as address:
        assert address.endswith(f":{port}")


def test_the_argument_comes_before_the_environment(things: Path) -> None:
    port = free_port()
    with started(things, "--port", str(port), PORT=str(free_port()), PERRON_PORT="1") as address:
        assert address.endswith(f":{port}")


def test_perron_s_own_variable_comes_before_a_platform_s(things: Path) -> None:
    port = free_port()
    with started(things, PERRON_PORT=str(port), PORT="1", PERRON_HOST="localhost") as address:
        assert address == f"http://localhost:{port}"


@pytest.mark.parametrize("port", ["http", "70000", "-1"])
def test_a_port_that_isn_t_one_is_refused(things: Path, port: str) -> None:
    done = perron("serve", cwd=things, check=False, PORT=port)
    assert done.returncode == 2 and "--port" in done.stderr


# -- secrets that are files


def test_secrets_of_a_folder_are_variables_of_the_environment(things: Path, tmp_path: Path) -> None:
    folder, port = tmp_path / "secrets", free_port()
    (folder / "..data").mkdir(parents=True)  # as Kubernetes has it
    (folder / "PERRON_PORT").write_text(f"{port}\n")
    (folder / "not a variable").write_bytes(b"\xff")
    with started(things, PERRON_SECRETS=str(folder)) as address:
        assert address.endswith(f":{port}")
    other = free_port()
    with started(things, PERRON_SECRETS=str(folder), PERRON_PORT=str(other)) as address:
        assert address.endswith(f":{other}")  # what is set stays


@pytest.mark.parametrize("kind", ["missing", "not text", "a zero byte"])
def test_secrets_that_can_t_be_read_are_said_in_one_line(things: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "secrets"
    if kind != "missing":
        folder.mkdir()
        (folder / "A").write_bytes(b"\xff" if kind == "not text" else b"a\0b")
    done = perron("models", cwd=things, check=False, PERRON_SECRETS=str(folder))
    assert done.returncode == 1 and done.stderr.startswith("perron: PERRON_SECRETS: ")
    assert len(done.stderr.strip().splitlines()) == 1 and "\\xff" not in done.stderr


def test_serving_s_context_takes_no_port_of_the_environment(things: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")
    with serving(things) as (address, _):
        assert httpx.get(f"{address}/health/ready").status_code == 200
