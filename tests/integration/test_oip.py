"""The Open Inference Protocol: the public clients against models of tables, texts and images; and nonsense."""

import gzip
import json
import queue
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from perron import predictions
from perron.demonstration import START_LIMIT_S
from perron.project import Project
from perron.serve.grpc import SERVICE, _messages
from tests.conftest import perron, perron_json
from tests.integration.oip_models import save_image, save_table, write_mixed_project
from tests.integration.test_serving_guards import certificates  # noqa: F401  # a fixture
from tests.integration.test_serving_models import until

# The clients' own libraries: gevent's sockets are left open at its exit.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
LENGTH = "Inference-Header-Content-Length"
DAY = "2024-02-29"


@dataclass
class Server:
    """A running server: where it answers, and the project's folder."""

    http: str
    grpc: str
    project: Path
    said: str

    @property
    def url(self) -> str:
        return f"http://{self.http}"


@contextmanager
def serving(project: Path, *options: str) -> Iterator[Server]:
    command = [sys.executable, "-m", "perron", "serve", "--port", "0", "--grpc-port", "0", *options]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            said = process.stdout.readline() + process.stdout.readline()
            assert " answers at " in said, said + process.stderr.read()
            http = said.split("://")[1].split()[0]
            yield Server(http, said.splitlines()[1].rpartition(" at ")[2].rstrip("."), project, said)
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=START_LIMIT_S)
            assert "Traceback" not in errors, errors


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mixed_project(tmp_path_factory.mktemp("things"))


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    with serving(project, "--max-rows", "500", "--max-body-bytes", "2000000") as running:
        yield running


CLIENTS = {"http": http_client, "grpc": grpc_client}


@contextmanager
def client_of(server: Server, kind: str) -> Iterator[Any]:
    module = CLIENTS[kind]
    client = module.InferenceServerClient(getattr(server, kind))
    try:
        yield client
    finally:
        client.close()


@pytest.fixture(params=["http", "grpc"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(server: Server, kind: str) -> Iterator[Any]:
    with client_of(server, kind) as made:
        yield made


def tensor(kind: str, name: str, values: Any, datatype: str, **options: Any) -> Any:
    array = values if isinstance(values, np.ndarray) else np.array(values)
    if datatype == "BYTES":
        array = array.astype(object)
    made = CLIENTS[kind].InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **options)
    return made


def things(kind: str, sizes: list[float], **options: Any) -> list[Any]:
    """A request of the contract's model, one row per size."""
    rows = len(sizes)
    return [
        tensor(kind, "size", np.array(sizes), "FP64", **options),
        tensor(kind, "weight", np.array([np.nan] * rows, np.float32), "FP32", **options),
        tensor(kind, "kind", ["abc"[row % 3] for row in range(rows)], "BYTES", **options),
        tensor(kind, "code", np.array([row % 3 + 1 for row in range(rows)], np.int32), "INT32", **options),
        tensor(kind, "on", np.array([row % 2 == 0 for row in range(rows)]), "BOOL", **options),
        tensor(kind, "day", [DAY] * rows, "BYTES", **options),
        tensor(kind, "word", ["größe"] * rows, "BYTES", **options),
    ]


def as_rows(sizes: list[float]) -> list[dict[str, Any]]:
    return [
        {"size": size, "kind": "abc"[row % 3], "code": row % 3 + 1, "on": row % 2 == 0, "day": DAY, "word": "größe"}
        for row, size in enumerate(sizes)
    ]


def ids_of(kind: str, result: Any) -> list[str]:
    told = result.get_response()
    if kind == "http":
        return str(told["parameters"]["perron_prediction_ids"]).split(",")
    return str(told.parameters["perron_prediction_ids"].string_param).split(",")


def pixels(rows: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((rows, 3, 32, 32), np.float32)


@pytest.fixture(scope="module")
def scores(project: Path) -> Callable[[Any], Any]:
    """What the image's graph says, asked without a server."""
    session = onnxruntime.InferenceSession(project / "image.onnx", providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {"pixels": array})[0]


# ------------------------------------------------------------------ health and facts


def test_the_first_lines_name_every_address(server: Server) -> None:
    assert server.said.splitlines()[0].startswith("things version 1, ")
    assert f"Over gRPC (Open Inference Protocol) at {server.grpc}." in server.said


def test_health_and_server(client: Any) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("things") and client.is_model_ready("image", "1")
    assert not client.is_model_ready("nobody") and not client.is_model_ready("things", "9")


def test_metadata_and_configuration(server: Server) -> None:
    with client_of(server, "http") as one, client_of(server, "grpc") as other:
        for told in (one.get_server_metadata(), other.get_server_metadata(as_json=True)):
            assert told["name"] == "perron" and "binary_tensor_data" in told["extensions"]
        rest = one.get_model_metadata("things")
        assert rest["versions"] == ["1"] and rest["parameters"]["labels"] == ["high", "low", "mid"]
        assert rest["inputs"][0] == {
            "name": "size", "datatype": "FP64", "shape": [-1, 1],
            "parameters": {"optional": False, "expected": "a number ≥ 0"},
        }  # fmt: skip
        assert {i["name"]: i["datatype"] for i in rest["inputs"]} == {
            "size": "FP64", "weight": "FP64", "kind": "BYTES", "code": "INT64", "on": "BOOL", "day": "BYTES",
            "word": "BYTES", "key": "INT64",
        }  # fmt: skip
        assert [(o["name"], o["datatype"], o["shape"]) for o in rest["outputs"]] == [
            ("value", "BYTES", [-1, 1]),
            ("probabilities", "FP64", [-1, 3]),
        ]
        for name in ("things", "image", "words", "sums"):
            rest, rpc = one.get_model_metadata(name, "1"), other.get_model_metadata(name, "1")
            assert [i["name"] for i in rest["inputs"]] == [i.name for i in rpc.inputs]
            assert [o["shape"] for o in rest["outputs"]] == [list(o.shape) for o in rpc.outputs]
            config, message = one.get_model_config(name), other.get_model_config(name).config
            assert config["max_batch_size"] == message.max_batch_size == (0 if name == "sums" else 500)
            assert [i["dims"] for i in config["input"]] == [list(i.dims) for i in message.input]
            assert [i.get("optional", False) for i in config["input"]] == [i.optional for i in message.input]
        assert one.get_model_config("words")["input"] == [{"name": "words", "data_type": "TYPE_STRING", "dims": [-1]}]


def test_what_is_not_there_is_said(client: Any, kind: str) -> None:
    for ask in (
        lambda: client.get_model_metadata("thing"),
        lambda: client.get_model_config("things", "7"),
        lambda: client.infer("thing", things(kind, [1.0])),
        lambda: client.get_inference_statistics("thing"),
    ):
        with pytest.raises(InferenceServerException, match="did you mean 'things'|no version '7'") as caught:
            ask()
        assert caught.value.status() in ("404", "StatusCode.NOT_FOUND")


# ------------------------------------------------------------------ a contract's model


def test_a_tables_rows_are_answered_as_by_rest(client: Any, server: Server, kind: str) -> None:
    sizes = [0.5, 4.5, 8.5, 2.0]
    rest = httpx.post(f"{server.url}/v1/predictions", json={"rows": as_rows(sizes)}).json()["predictions"]
    result = client.infer("things", things(kind, sizes), request_id="q7")
    assert result.as_numpy("value").tolist() == [p["value"].encode() for p in rest]
    assert result.as_numpy("probabilities").tolist() == [list(p["probabilities"].values()) for p in rest]
    told = result.get_response()
    assert (told["id"] if kind == "http" else told.id) == "q7"
    ids = ids_of(kind, result)
    assert len(set(ids)) == 4
    receipt = httpx.get(f"{server.url}/v1/predictions/{ids[2]}").json()
    assert receipt["prediction"]["input"] == as_rows(sizes)[2] and receipt["prediction"]["value"] == rest[2]["value"]
    httpx.post(f"{server.url}/v1/outcomes", json={"prediction": ids[1], "value": "mid"}).raise_for_status()
    traced = perron_json("trace", ids[1], cwd=server.project)
    assert traced["outcome"]["value"] == "mid" and traced["resolved"] == {"model": True, "run": True}


def test_columns_of_one_dimension_give_one_back(client: Any, kind: str) -> None:
    flat = client.infer("things", things(kind, [1.0, 2.0]))
    assert flat.as_numpy("value").shape == (2,)
    inputs = [
        tensor(kind, "size", [[1.0], [2.0]], "FP64"),
        tensor(kind, "kind", [["a"], ["b"]], "BYTES"),
        tensor(kind, "on", [[True], [False]], "BOOL"),
        tensor(kind, "day", [[DAY], [DAY]], "BYTES"),
    ]
    result = client.infer("things", inputs, model_version="1")
    assert result.as_numpy("value").shape == (2, 1) and result.as_numpy("probabilities").shape == (2, 3)


def test_outputs_are_chosen(client: Any, kind: str) -> None:
    wanted = CLIENTS[kind].InferRequestedOutput("probabilities")
    result = client.infer("things", things(kind, [1.0]), outputs=[wanted])
    assert result.as_numpy("value") is None and result.as_numpy("probabilities").shape == (1, 3)
    with pytest.raises(InferenceServerException, match="no output 'probability'; did you mean 'probabilities'"):
        client.infer("things", things(kind, [1.0]), outputs=[CLIENTS[kind].InferRequestedOutput("probability")])
    with pytest.raises(InferenceServerException, match="classification"):
        wanted = CLIENTS[kind].InferRequestedOutput("probabilities", class_count=2)
        client.infer("things", things(kind, [1.0]), outputs=[wanted])


def test_the_contract_judges_tensors(client: Any, kind: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("things", things(kind, [1.0, -2.0, np.nan]))
    assert caught.value.status() in ("422", "StatusCode.INVALID_ARGUMENT")
    said = str(caught.value.message())
    assert "Expected a number ≥ 0, got -2.0 at rows[1].size" in said and "got null at rows[2].size" in said
    with pytest.raises(InferenceServerException, match=r"got nothing at rows\[0\]\.size"):
        client.infer("things", things(kind, [1.0])[1:])
    with pytest.raises(InferenceServerException, match="did you mean 'size'"):
        client.infer("things", [*things(kind, [1.0]), tensor(kind, "sise", [1.0], "FP64")])


def test_many_rows_keep_their_order(client: Any, kind: str) -> None:
    sizes = [row / 50 for row in range(450)]
    together = client.infer("things", things(kind, sizes)).as_numpy("probabilities")
    for row in (0, 200, 449):
        inputs = [
            tensor(kind, "size", [sizes[row]], "FP64"), tensor(kind, "kind", ["abc"[row % 3]], "BYTES"),
            tensor(kind, "code", np.array([row % 3 + 1]), "INT64"), tensor(kind, "on", [row % 2 == 0], "BOOL"),
            tensor(kind, "day", [DAY], "BYTES"), tensor(kind, "word", ["größe"], "BYTES"),
        ]  # fmt: skip
        assert client.infer("things", inputs).as_numpy("probabilities").tolist() == [together[row].tolist()]
    with pytest.raises(InferenceServerException, match="501 rows are more than 500"):
        client.infer("things", things(kind, [1.0] * 501))


def test_json_tensors_with_nulls(server: Server) -> None:
    asked = {
        "id": "j", "parameters": {"timeout": 5_000_000},
        "inputs": [
            {"name": "size", "datatype": "FP64", "shape": [2, 1], "data": [[1], [2.5]]},
            {"name": "weight", "datatype": "FP64", "shape": [2], "data": [None, 0.5]},
            {"name": "kind", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
            {"name": "code", "datatype": "INT64", "shape": [2], "data": [3, None]},
            {"name": "on", "datatype": "BOOL", "shape": [2], "data": [True, False]},
            {"name": "day", "datatype": "BYTES", "shape": [2], "data": [DAY, DAY]},
            {"name": "word", "datatype": "BYTES", "shape": [2], "data": [None, ""]},
            {"name": "key", "datatype": "INT64", "shape": [2], "data": [2**62 + 1, 5]},
        ],
    }  # fmt: skip
    answer = httpx.post(f"{server.url}/v2/models/things/versions/champion/infer", json=asked)
    told = answer.json()
    assert answer.status_code == 200 and LENGTH not in answer.headers
    assert told["model_name"] == "things" and told["model_version"] == "1" and told["id"] == "j"
    rows = [
        {"size": 1, "kind": "a", "code": 3, "on": True, "day": DAY, "key": 2**62 + 1},
        {"size": 2.5, "weight": 0.5, "kind": "b", "on": False, "day": DAY, "word": "", "key": 5},
    ]
    rest = httpx.post(f"{server.url}/v1/predictions", json={"rows": rows}).json()["predictions"]
    assert told["outputs"][0] == {
        "name": "value",
        "datatype": "BYTES",
        "shape": [2, 1],
        "data": [p["value"] for p in rest],
    }
    for number, prediction in enumerate(told["parameters"]["perron_prediction_ids"].split(",")):
        found = predictions.find(server.project / ".perron" / "predictions", prediction)
        assert dict(found.input) == rows[number]


# ------------------------------------------------------------------ plain graphs


@pytest.mark.parametrize("rows", [1, 7])
def test_an_images_scores_are_the_graphs_own(client: Any, kind: str, rows: int, scores: Callable[[Any], Any]) -> None:
    array = pixels(rows)
    result = client.infer("image", [tensor(kind, "pixels", array, "FP32")])
    np.testing.assert_allclose(result.as_numpy("scores"), scores(array), rtol=1e-4, atol=1e-6)
    assert len(ids_of(kind, result)) == rows


def test_numbers_of_another_datatype_are_taken_where_they_are_the_same(
    client: Any, kind: str, scores: Callable[[Any], Any]
) -> None:
    halves = np.round(pixels(2) * 4) / 4
    for datatype, dtype in (("FP64", np.float64), ("FP16", np.float16)):
        result = client.infer("image", [tensor(kind, "pixels", halves.astype(dtype), datatype)])
        np.testing.assert_allclose(result.as_numpy("scores"), scores(halves), rtol=1e-4, atol=1e-6)
    with pytest.raises(InferenceServerException, match="aren't exactly FP32"):
        client.infer("image", [tensor(kind, "pixels", pixels(1).astype(np.float64) / 3, "FP64")])


def test_texts_travel_both_ways(client: Any, kind: str) -> None:
    words = np.array([["good", "größe", ""], ["bad", "\x00", "x" * 5000]], object)
    result = client.infer("words", [tensor(kind, "words", words, "BYTES")])
    assert result.as_numpy("marks").tolist() == [[1, 7, 0], [-1, 0, 0]]
    assert [[text.decode() for text in row] for row in result.as_numpy("again")] == words.tolist()
    if kind == "http":
        asked = tensor(kind, "words", words, "BYTES", binary_data=False)
        wanted = [
            http_client.InferRequestedOutput("again", binary_data=False),
            http_client.InferRequestedOutput("marks"),
        ]
        result = client.infer("words", [asked], outputs=wanted)
        assert result.as_numpy("again").tolist() == words.tolist()
        assert result.as_numpy("marks").tolist() == [[1, 7, 0], [-1, 0, 0]]


def test_a_graph_that_looks_at_its_neighbours_is_never_batched(server: Server) -> None:
    facts = httpx.get(f"{server.url}/v1/models/sums").json()
    assert facts["kind"] == "graph" and facts["batched"] is False
    assert httpx.get(f"{server.url}/v1/models/image").json()["batched"] is True
    with client_of(server, "http") as client:
        inputs = [tensor("http", name, np.arange(3.0), "FP64") for name in "ab"]
        futures = [client.async_infer("sums", inputs) for _ in range(20)]
        assert {tuple(f.get_result().as_numpy("sums")) for f in futures} == {(0.0, 2.0, 6.0)}
        assert len(ids_of("http", client.infer("sums", inputs))) == 1


def test_requests_under_load_share_runs_and_keep_their_own_answers(
    server: Server, scores: Callable[[Any], Any]
) -> None:
    with client_of(server, "grpc") as client:
        before = client.get_inference_statistics("image", as_json=True)["model_stats"][0]
        done: queue.Queue[Any] = queue.Queue()
        arrays = [pixels(1 + n % 3, n) for n in range(40)]
        for number, array in enumerate(arrays):
            client.async_infer(
                "image", [tensor("grpc", "pixels", array, "FP32")],
                callback=lambda result, error, number=number: done.put((number, result, error)),
            )  # fmt: skip
        for _ in arrays:
            number, result, error = done.get(timeout=20)
            assert error is None
            np.testing.assert_allclose(result.as_numpy("scores"), scores(arrays[number]), rtol=1e-4, atol=1e-5)
        after = client.get_inference_statistics("image", as_json=True)["model_stats"][0]
        rows = int(after["inference_count"]) - int(before.get("inference_count", 0))
        assert rows == sum(len(array) for array in arrays)
        assert int(after["execution_count"]) - int(before.get("execution_count", 0)) < len(arrays)


def test_tensors_are_logged_by_their_hash(server: Server) -> None:
    with client_of(server, "http") as client:
        given = pixels(2, 5)
        result = client.infer("image", [tensor("http", "pixels", given, "FP32")])
        ids = ids_of("http", result)
    import hashlib

    found = predictions.find(server.project / ".perron" / "predictions", ids[1])
    assert found.input == {
        "tensors": [
            {"name": "pixels", "datatype": "FP32", "shape": [2, 3, 32, 32], "sha256": hashlib.sha256(given.tobytes()).hexdigest()}
        ],
        "row": 1,
    }  # fmt: skip
    assert found.value["tensors"][0]["sha256"] == hashlib.sha256(result.as_numpy("scores").tobytes()).hexdigest()
    said = perron("trace", ids[1], cwd=server.project).stdout
    assert "registered from a file" in said and "image version 1" in said
    perron("outcome", ids[1], "7", cwd=server.project)
    assert perron_json("trace", ids[1], cwd=server.project)["outcome"]["value"] == 7


def test_rows_for_a_model_of_tensors_are_refused_with_the_way(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v1/models/image/predictions", json={"rows": [{"pixels": 1}]})
    assert answer.status_code == 422 and "POST /v2/models/image/infer" in answer.json()["detail"]


def test_a_request_that_cannot_be_computed_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "sample.json").write_text(
        '{"inputs": [{"name": "place", "datatype": "INT64", "shape": [1], "data": [5]}]}'
    )
    perron("register", "table", save_table(tmp_path / "table.onnx"), "--sample", "sample.json", cwd=tmp_path)
    with serving(tmp_path) as server, http_client.InferenceServerClient(server.http, concurrency=8) as client:
        places = [n % 7 for n in range(70)]  # the table has six
        futures = [client.async_infer("table", [tensor("http", "place", np.array([n]), "INT64")]) for n in places]
        for place, future in zip(places, futures, strict=True):
            if place == 6:
                with pytest.raises(InferenceServerException, match="can't compute this") as caught:
                    future.get_result()
                assert caught.value.status() == "422"
            else:
                assert future.get_result().as_numpy("found").tolist() == [float(place)]


# ------------------------------------------------------------------ statistics and the repository


def test_statistics_count_requests_rows_and_runs(server: Server, kind: str) -> None:
    def numbers() -> tuple[int, int, int]:
        if kind == "http":
            told = client.get_inference_statistics("words", "1")["model_stats"][0]
        else:
            told = client.get_inference_statistics("words", "1", as_json=True)["model_stats"][0]
        success = told["inference_stats"].get("success", {})
        return int(told.get("inference_count", 0)), int(told.get("execution_count", 0)), int(success.get("count", 0))

    with client_of(server, kind) as client:
        before = numbers()
        for _ in range(3):
            client.infer("words", [tensor(kind, "words", [["good"], ["bad"]], "BYTES")])
        assert [now - then for now, then in zip(numbers(), before, strict=True)] == [6, 3, 3]
        whole = client.get_inference_statistics(**({} if kind == "http" else {"as_json": True}))["model_stats"]
        assert {told["name"] for told in whole} == {"things", "image", "words", "sums"}
        last = next(told for told in whole if told["name"] == "words")
        assert int(last["last_inference"]) > 1_700_000_000_000
        assert int(last["inference_stats"]["compute_infer"]["ns"]) > 0
    page = httpx.get(f"{server.url}/metrics").text
    assert 'perron_predictions_total{model="words",route="champion",version="1"}' in page


def test_models_are_listed_unloaded_and_loaded(project: Path, kind: str) -> None:
    with serving(project, "--workers", "2") as server, client_of(server, kind) as client:

        def states() -> dict[str, str]:
            told = client.get_model_repository_index()
            models = told if kind == "http" else [{"name": m.name, "state": m.state} for m in told.models]
            return {item["name"]: item["state"] for item in models}

        assert states() == dict.fromkeys(("things", "image", "words", "sums"), "READY")
        client.unload_model("words")
        until(lambda: not client.is_model_ready("words"))
        until(lambda: states()["words"] == "UNAVAILABLE")
        with pytest.raises(InferenceServerException, match="no model 'words'"):
            client.infer("words", [tensor(kind, "words", [["good"]], "BYTES")])

        def ready() -> set[str]:
            return {i["name"] for i in httpx.post(f"{server.url}/v2/repository/index", json={"ready": True}).json()}

        until(lambda: all("words" not in ready() for _ in range(6)))  # whichever worker a connection reaches
        client.load_model("words")
        until(lambda: client.is_model_ready("words"))
        until(lambda: states()["words"] == "READY")
        with pytest.raises(InferenceServerException, match="nobody"):
            client.load_model("nobody")
        with pytest.raises(InferenceServerException, match="'config' isn't taken"):
            client.load_model("words", config="{}")


def test_shared_memory_is_refused_in_words(server: Server, kind: str) -> None:
    with client_of(server, kind) as client:
        for ask in (
            client.get_system_shared_memory_status,
            client.unregister_system_shared_memory,
            lambda: client.register_system_shared_memory("a", "/a", 8),
            client.get_cuda_shared_memory_status,
        ):
            with pytest.raises(InferenceServerException, match="Shared memory isn't offered") as caught:
                ask()
            assert caught.value.status() in ("501", "StatusCode.UNIMPLEMENTED")
        given = CLIENTS[kind].InferInput("pixels", [1, 3, 32, 32], "FP32")
        given.set_shared_memory("region", 12288)
        with pytest.raises(InferenceServerException, match="Shared memory isn't offered"):
            client.infer("image", [given])


# ------------------------------------------------------------------ ways of asking


def test_streams_answer_in_order_and_errors_in_their_place(server: Server) -> None:
    done: queue.Queue[Any] = queue.Queue()
    with client_of(server, "grpc") as client:
        client.start_stream(callback=lambda result, error: done.put((result, error)))
        for size in (1.0, -1.0, 5.0):
            client.async_stream_infer("things", things("grpc", [size]), request_id=str(size))
        client.async_stream_infer("nobody", things("grpc", [1.0]))
        found = [done.get(timeout=20) for _ in range(4)]
        client.stop_stream()
    assert [result.get_response().id for result, error in found if error is None] == ["1.0", "5.0"]
    assert "≥ 0" in str(found[1][1]) and "no model 'nobody'" in str(found[3][1])


def test_requests_at_once(server: Server) -> None:
    with http_client.InferenceServerClient(server.http, concurrency=4) as client:
        futures = [client.async_infer("things", things("http", [float(n)])) for n in range(20)]
        assert len({ids_of("http", future.get_result())[0] for future in futures}) == 20


def test_asyncio_clients(server: Server) -> None:
    import asyncio

    import tritonclient.grpc.aio as grpc_aio
    import tritonclient.http.aio as http_aio

    async def ask() -> list[Any]:
        found = []
        for kind, module in (("http", http_aio), ("grpc", grpc_aio)):
            async with module.InferenceServerClient(getattr(server, kind)) as client:
                found.append((await client.infer("things", things(kind, [1.0]))).as_numpy("value").tolist())
        return found

    one, other = asyncio.run(ask())
    assert one == other


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_bodies(server: Server, algorithm: str, scores: Callable[[Any], Any]) -> None:
    array = pixels(9)
    with client_of(server, "http") as client:
        result = client.infer(
            "image", [tensor("http", "pixels", array, "FP32")],
            request_compression_algorithm=algorithm, response_compression_algorithm=algorithm,
        )  # fmt: skip
        np.testing.assert_allclose(result.as_numpy("scores"), scores(array), rtol=1e-4, atol=1e-6)
    with client_of(server, "grpc") as client:
        result = client.infer("image", [tensor("grpc", "pixels", array, "FP32")], compression_algorithm=algorithm)
        np.testing.assert_allclose(result.as_numpy("scores"), scores(array), rtol=1e-4, atol=1e-6)
    squeeze = gzip.compress if algorithm == "gzip" else zlib.compress
    rows = squeeze(json.dumps({"rows": as_rows([1.0])}).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": algorithm}
    assert httpx.post(f"{server.url}/v1/predictions", content=rows, headers=headers).status_code == 200
    if algorithm == "gzip":
        assert (
            httpx.post(f"{server.url}/v1/predictions", content=squeeze(b" ") + rows, headers=headers).status_code == 200
        )
    bomb = squeeze(b" " * 50_000_000)
    refused = httpx.post(f"{server.url}/v1/predictions", content=bomb, headers=headers)
    assert refused.status_code == 413 and "larger than 2000000 bytes" in refused.json()["detail"]
    for broken in (rows[:-4], b"nothing", b"", rows + b"tail", squeeze(b"") * 5000):
        answer = httpx.post(f"{server.url}/v1/predictions", content=broken, headers=headers)
        assert answer.status_code == 400 and "status" in answer.json()
    odd = httpx.post(f"{server.url}/v1/predictions", content=rows, headers={**headers, "Content-Encoding": "br"})
    assert odd.status_code == 415 and "gzip or deflate" in odd.json()["detail"]


def test_a_grpc_message_that_opens_up_too_large_is_refused(server: Server) -> None:
    with client_of(server, "grpc") as client:
        with pytest.raises(InferenceServerException):
            client.infer(
                "words", [tensor("grpc", "words", [["x" * 50_000_000]], "BYTES")], compression_algorithm="gzip"
            )
        assert client.is_server_live()


def test_deadlines_of_the_protocol_are_kept(server: Server, kind: str) -> None:
    with client_of(server, kind) as client:
        assert client.infer("things", things(kind, [1.0]), timeout=5_000_000).as_numpy("value").shape == (1,)
        with pytest.raises(InferenceServerException, match="deadline passed") as caught:
            client.infer("things", things(kind, [1.0] * 200), timeout=1)
        assert caught.value.status() in ("504", "StatusCode.DEADLINE_EXCEEDED")


# ------------------------------------------------------------------ routing, shadows, a full queue


def test_routes_and_shadows_hold_for_tensors(project: Path, tmp_path: Path) -> None:
    import shutil

    from tests.integration import oip_models

    folder = Path(shutil.copytree(project, tmp_path / "copy", ignore=shutil.ignore_patterns("predictions")))
    oip_models.KERNEL *= 2
    try:
        save_image(folder / "image.onnx")
    finally:
        oip_models.KERNEL /= 2
    made = perron_json("register", "image", "image.onnx", "--alias", "challenger", cwd=folder)
    assert made["version"] == 2 and made["aliases"] == ["challenger"]
    again = perron_json("register", "image", "image.onnx", "--alias", "challenger", cwd=folder)
    assert again["version"] == 2
    ledger = Project.open(folder).ledger
    arms = [{"name": "champion", "weight": 1}, {"name": "challenger", "weight": 1}]
    ledger.add_routing("image", {"kind": "ab", "arms": arms})
    ledger.add_routing("words", {"kind": "single", "arms": [{"name": "champion"}], "shadow": [{"name": "challenger"}]})
    perron("promote", "1", "--model", "words", "--alias", "challenger", cwd=folder)
    with serving(folder) as server:
        for kind in ("http", "grpc"):
            with client_of(server, kind) as client:
                versions = []
                for user in range(20):
                    asked = [tensor(kind, "pixels", pixels(1), "FP32")]
                    answers = [client.infer("image", asked, headers={"x-routing-key": str(user)}) for _ in range(2)]
                    told = [a.get_response() for a in answers]
                    both = {t["model_version"] if kind == "http" else t.model_version for t in told}
                    assert len(both) == 1
                    versions += both
                assert set(versions) == {"1", "2"}
                client.infer("words", [tensor(kind, "words", [["good"]], "BYTES")])
        log = folder / ".perron" / "predictions"
        until(
            lambda: [f.route for f in predictions.iterate(log) if f.header["model"] == "words"].count("challenger") == 2
        )
    ledger.close()


def test_more_than_may_wait_is_busy(project: Path) -> None:
    with serving(project, "--queue-rows", "100") as server:
        done: queue.Queue[Any] = queue.Queue()
        with client_of(server, "grpc") as client:
            asked = [tensor("grpc", "pixels", pixels(64), "FP32")]
            for _ in range(40):
                client.async_infer("image", asked, callback=lambda result, error: done.put(error))
            errors = [done.get(timeout=30) for _ in range(40)]
            refused = [error for error in errors if error is not None]
            assert refused and len(refused) < 40
            assert {error.status() for error in refused} == {"StatusCode.RESOURCE_EXHAUSTED"}
            assert client.infer("image", asked).as_numpy("scores").shape == (64, 10)
        with http_client.InferenceServerClient(server.http, concurrency=20) as client:
            asked = [tensor("http", "pixels", pixels(64), "FP32")]
            found = []
            for future in [client.async_infer("image", asked) for _ in range(40)]:
                try:
                    found.append(len(future.get_result().as_numpy("scores")))
                except InferenceServerException as error:
                    found.append(int(error.status()))
            assert set(found) == {64, 429}


# ------------------------------------------------------------------ nonsense

SIZE = {"name": "size", "datatype": "FP64", "shape": [1], "data": [1.0]}
PIXELS = {"name": "pixels", "datatype": "FP32", "shape": [1, 3, 32, 32]}
NONSENSE: dict[str, tuple[str, Any]] = {
    "no inputs": ("things", {}),
    "inputs empty": ("things", {"inputs": []}),
    "inputs null": ("things", {"inputs": None}),
    "an input null": ("things", {"inputs": [None]}),
    "an input without a shape": ("things", {"inputs": [{"name": "size", "datatype": "FP64", "data": [1]}]}),
    "no data": ("things", {"inputs": [{"name": "size", "datatype": "FP64", "shape": [1]}]}),
    "unknown datatype": ("things", {"inputs": [{**SIZE, "datatype": "FP65"}]}),
    "wrong count": ("things", {"inputs": [{**SIZE, "shape": [2]}]}),
    "a matrix": ("things", {"inputs": [{**SIZE, "shape": [1, 2], "data": [1, 2]}]}),
    "a scalar": ("things", {"inputs": [{**SIZE, "shape": []}]}),
    "negative": ("things", {"inputs": [{**SIZE, "shape": [-1]}]}),
    "huge": ("things", {"inputs": [{**SIZE, "shape": [2**62, 2**62]}]}),
    "beyond 64 bits": ("things", {"inputs": [{**SIZE, "shape": [2**70]}]}),
    "a shape of halves": ("things", {"inputs": [{**SIZE, "shape": [1.5]}]}),
    "many dimensions": ("things", {"inputs": [{**SIZE, "shape": [1] * 500}]}),
    "uneven": ("things", {"inputs": [{**SIZE, "data": [[1], 2]}]}),
    "twice": ("things", {"inputs": [SIZE, SIZE]}),
    "rows that differ": ("things", {"inputs": [SIZE, {"name": "on", "datatype": "BOOL", "shape": [2], "data": [True, True]}]}),
    "no rows": ("things", {"inputs": [{**SIZE, "shape": [0], "data": []}]}),
    "a word for a number": ("things", {"inputs": [{**SIZE, "data": ["1"]}]}),
    "truth for a number": ("things", {"inputs": [{**SIZE, "data": [True]}]}),
    "too large for INT8": ("things", {"inputs": [{**SIZE, "datatype": "INT8", "data": [300]}]}),
    "negative and unsigned": ("things", {"inputs": [{**SIZE, "datatype": "UINT8", "data": [-1]}]}),
    "an enormous integer": ("things", {"inputs": [{**SIZE, "data": [10**400]}]}),
    "FP32 overflows": ("things", {"inputs": [{**SIZE, "datatype": "FP32", "data": [1e300]}]}),
    "an object": ("things", {"inputs": [{**SIZE, "data": {"a": 1}}]}),
    "a list of objects": ("things", {"inputs": [{**SIZE, "data": [{}]}]}),
    "deep data": ("things", {"inputs": [{**SIZE, "data": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1.0]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}]}),
    "a timeout in words": ("things", {"inputs": [SIZE], "parameters": {"timeout": "soon"}}),
    "parameters a list": ("things", {"inputs": [SIZE], "parameters": []}),
    "an id of numbers": ("things", {"inputs": [SIZE], "id": 5}),
    "outputs of numbers": ("things", {"inputs": [SIZE], "outputs": [1]}),
    "binary without bytes": ("things", {"inputs": [{"name": "size", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}]}),
    "a binary size in words": ("things", {"inputs": [{"name": "size", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": "8"}}]}),
    "an unknown input": ("image", {"inputs": [{**PIXELS, "name": "pixel", "data": [0.0] * 3072}]}),
    "a missing input": ("sums", {"inputs": [{"name": "a", "datatype": "FP64", "shape": [1], "data": [1]}]}),
    "lengths that differ": ("sums", {"inputs": [{"name": n, "datatype": "FP64", "shape": [k], "data": [1] * k} for n, k in (("a", 2), ("b", 3))]}),
    "a wrong shape": ("image", {"inputs": [{**PIXELS, "shape": [1, 3, 32, 31], "data": [0.0] * 2976}]}),
    "another rank": ("image", {"inputs": [{**PIXELS, "shape": [3072], "data": [0.0] * 3072}]}),
    "no images": ("image", {"inputs": [{**PIXELS, "shape": [0, 3, 32, 32], "data": []}]}),
    "a null": ("image", {"inputs": [{**PIXELS, "data": [None] * 3072}]}),
    "texts for numbers": ("image", {"inputs": [{**PIXELS, "datatype": "BYTES", "data": ["a"] * 3072}]}),
    "numbers for texts": ("words", {"inputs": [{"name": "words", "datatype": "INT64", "shape": [1, 1], "data": [1]}]}),
    "a null text": ("words", {"inputs": [{"name": "words", "datatype": "BYTES", "shape": [1, 1], "data": [None]}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_in_json_is_the_clients_mistake(server: Server, name: str) -> None:
    model, body = NONSENSE[name]
    answer = httpx.post(f"{server.url}/v2/models/{model}/infer", content=json.dumps(body))
    assert 400 <= answer.status_code < 500, answer.text[:500]
    assert set(answer.json()) <= {"error", "errors", "count"} and answer.json()["error"]
    assert len(answer.content) < 50_000 and "Traceback" not in answer.text


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"]
)
def test_bodies_that_are_no_request(server: Server, body: bytes) -> None:
    answer = httpx.post(f"{server.url}/v2/models/things/infer", content=body)
    assert answer.status_code == 400 and answer.json()["error"]


def binary(header: dict[str, Any], data: bytes, length: str | None = None) -> tuple[bytes, dict[str, str]]:
    told = json.dumps(header).encode()
    return told + data, {LENGTH: length or str(len(told))}


def test_binary_bodies_whose_bytes_are_not_as_said(server: Server) -> None:
    given = {"name": "size", "datatype": "FP64", "shape": [1], "parameters": {"binary_data_size": 8}}
    word = {"name": "words", "datatype": "BYTES", "shape": [1, 1]}
    cases = [
        ("things", *binary({"inputs": [given]}, b"1234567")),
        ("things", *binary({"inputs": [given]}, b"123456789")),
        ("things", *binary({"inputs": [{**given, "shape": [2]}]}, b"12345678")),
        ("things", *binary({"inputs": [given]}, b"12345678", "99999")),
        ("things", *binary({"inputs": [given]}, b"12345678", "-5")),
        ("things", *binary({"inputs": [given]}, b"12345678", "5")),
        ("things", *binary({"inputs": [given]}, b"12345678", "9" * 50)),
        ("things", *binary({"inputs": [{**given, "data": [1.0]}]}, b"12345678")),
        ("words", *binary({"inputs": [{**word, "parameters": {"binary_data_size": 4}}]}, struct.pack("<I", 2**31))),
        ("words", *binary({"inputs": [{**word, "parameters": {"binary_data_size": 5}}]}, struct.pack("<I", 0) + b"x")),
        ("words", *binary({"inputs": [{**word, "parameters": {"binary_data_size": 5}}]}, struct.pack("<I", 1) + b"\xff")),
        ("words", *binary({"inputs": [{**word, "shape": [2**40, 1], "parameters": {"binary_data_size": 4}}]}, b"\0" * 4)),
    ]  # fmt: skip
    for model, body, headers in cases:
        answer = httpx.post(f"{server.url}/v2/models/{model}/infer", content=body, headers=headers)
        assert 400 <= answer.status_code < 500 and answer.json()["error"], (model, body, answer.text)


def test_paths_and_methods_of_the_protocol_get_their_status(server: Server) -> None:
    for path, status in (("/v2/nothing", 404), ("/v2/models/%2e%2e/ready", 404), ("/v2/models/things/infer", 405)):
        answer = httpx.get(server.url + path)
        assert answer.status_code == status and set(answer.json()) == {"error"}
    large = httpx.post(f"{server.url}/v2/models/things/infer", content=b" " * 2_000_001)
    assert large.status_code == 413 and "larger than" in large.json()["error"]
    for body in (b"{", b"[]", b'{"parameters": 5}'):
        assert httpx.post(f"{server.url}/v2/repository/index", content=body).status_code == 400


@pytest.fixture(scope="module")
def ask(server: Server) -> Iterator[Callable[[Any], Any]]:
    """Sends a message as it is, without a client that would look at it."""
    channel = grpc.insecure_channel(server.grpc)
    messages = _messages()
    call = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
        response_deserializer=messages["ModelInferResponse"].FromString,
    )
    yield lambda given: call(given if isinstance(given, bytes) else messages["ModelInferRequest"](**given), timeout=20)
    channel.close()


def size(**more: Any) -> dict[str, Any]:
    return {"name": "size", "datatype": "FP64", "shape": [1], **more}


RAW = struct.pack("<d", 1.0)
GRPC_NONSENSE: dict[str, Any] = {
    "nothing": {},
    "no inputs": {"model_name": "things"},
    "no contents": {"inputs": [size()]},
    "raw for none": {"inputs": [], "raw_input_contents": [RAW]},
    "raw for one of two": {"inputs": [size(), size(name="weight")], "raw_input_contents": [RAW]},
    "both": {"inputs": [size(contents={"fp64_contents": [1.0]})], "raw_input_contents": [RAW]},
    "short": {"inputs": [size()], "raw_input_contents": [b"123"]},
    "negative": {"inputs": [size(shape=[-1])], "raw_input_contents": [RAW]},
    "huge": {"inputs": [size(shape=[2**62, 2**62])], "raw_input_contents": [RAW]},
    "contents of another type": {"inputs": [size(contents={"fp32_contents": [1.0]})]},
    "contents of two types": {"inputs": [size(contents={"fp32_contents": [1.0], "fp64_contents": [1.0]})]},
    "FP16 in contents": {"inputs": [size(datatype="FP16", contents={"fp32_contents": [1.0]})]},
    "no such datatype": {"inputs": [size(datatype="", contents={"fp32_contents": [1.0]})]},
    "INT8 beyond": {"inputs": [size(datatype="INT8", contents={"int_contents": [300]})]},
    "a bad timeout": {"inputs": [size(contents={"fp64_contents": [1.0]})], "parameters": {"timeout": {"string_param": "x"}}},
    "a version that isn't there": {"model_version": "77", "inputs": [size(contents={"fp64_contents": [1.0]})]},
    "texts that aren't UTF-8": {"model_name": "words", "inputs": [{"name": "words", "datatype": "BYTES", "shape": [1, 1], "contents": {"bytes_contents": [b"\xff"]}}]},
}  # fmt: skip


@pytest.mark.parametrize("name", GRPC_NONSENSE)
def test_nonsense_over_grpc_is_the_clients_mistake(ask: Callable[[Any], Any], name: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask({"model_name": "things", **GRPC_NONSENSE[name]} if name != "nothing" else {})
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), caught.value
    assert caught.value.details()


def test_bytes_that_are_no_message_leave_the_server_alive(ask: Callable[[Any], Any], server: Server) -> None:
    with pytest.raises(grpc.RpcError):
        ask(b"\xff\xff\xff nothing")
    with client_of(server, "grpc") as client:
        assert client.is_server_live()


def test_typed_contents_are_answered_by_typed_contents(ask: Callable[[Any], Any]) -> None:
    row = [
        {"name": "size", "datatype": "FP32", "shape": [1], "contents": {"fp32_contents": [1.5]}},
        {"name": "kind", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a"]}},
        {"name": "code", "datatype": "UINT8", "shape": [1], "contents": {"uint_contents": [2]}},
        {"name": "on", "datatype": "BOOL", "shape": [1], "contents": {"bool_contents": [True]}},
        {"name": "day", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [DAY.encode()]}},
        {"name": "key", "datatype": "INT16", "shape": [1], "contents": {"int_contents": [-7]}},
    ]
    told = ask({"model_name": "things", "inputs": row, "id": "t"})
    assert told.id == "t" and not told.raw_output_contents
    assert told.outputs[0].contents.bytes_contents[0] in (b"high", b"low", b"mid")
    assert sum(told.outputs[1].contents.fp64_contents) == pytest.approx(1)


# ------------------------------------------------------------------ who may ask


def test_tokens_and_scopes_hold_over_grpc(project: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(project, tmp_path / "copy"))

    def token(name: str, *scopes: str) -> dict[str, str]:
        made = perron("token", "create", name, *[w for s in scopes for w in ("--scope", s)], cwd=folder).stdout
        secret = next(word for word in made.split() if len(word) > 30)
        return {"authorization": f"Bearer {secret}"}

    predicts, reads = token("one", "predict"), token("two", "read")
    with serving(folder) as server, client_of(server, "grpc") as client:
        asked = [tensor("grpc", "words", [["good"]], "BYTES")]
        assert client.is_server_live()
        assert client.infer("words", asked, headers=predicts).as_numpy("marks").tolist() == [[1]]
        assert client.get_model_metadata("words", headers=reads).name == "words"
        for call, status in (
            (lambda: client.infer("words", asked), "UNAUTHENTICATED"),
            (lambda: client.infer("words", asked, headers={"authorization": "Bearer nothing"}), "UNAUTHENTICATED"),
            (lambda: client.infer("words", asked, headers=reads), "PERMISSION_DENIED"),
            (lambda: client.unload_model("words", headers=reads), "PERMISSION_DENIED"),
        ):
            with pytest.raises(InferenceServerException) as caught:
                call()
            assert caught.value.status() == f"StatusCode.{status}"
        done: queue.Queue[Any] = queue.Queue()
        client.start_stream(callback=lambda result, error: done.put(error), headers=reads)
        assert "allows read, not predict" in str(done.get(timeout=20))
        client.stop_stream()


def test_mutual_tls_holds_over_grpc(project: Path, certificates: Path) -> None:  # noqa: F811
    files = {"--tls-cert": "server.pem", "--tls-key": "server.key", "--tls-client-ca": "ca.pem"}
    with serving(
        project, *[str(word) for name, file in files.items() for word in (name, certificates / file)]
    ) as server:
        authority, key, chain = ((certificates / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem"))
        stranger = grpc_client.InferenceServerClient(
            server.grpc, creds=grpc.ssl_channel_credentials(authority), ssl=True
        )
        with pytest.raises(InferenceServerException):
            stranger.is_server_live()
        stranger.close()
        known = grpc_client.InferenceServerClient(
            server.grpc, creds=grpc.ssl_channel_credentials(authority, key, chain), ssl=True
        )
        result = known.infer("words", [tensor("grpc", "words", [["good"]], "BYTES")])
        assert result.as_numpy("marks").tolist() == [[1]]
        known.close()


def test_ports_of_grpc_are_checked(server: Server) -> None:
    port = server.grpc.rpartition(":")[2]
    done = perron("serve", "--port", "0", "--grpc-port", port, cwd=server.project, check=False)
    assert done.returncode == 1 and "choose another --grpc-port" in done.stderr
    same = perron("serve", "--port", "8099", "--grpc-port", "8099", cwd=server.project, check=False)
    assert same.returncode == 1 and "can't both have port 8099" in same.stderr
