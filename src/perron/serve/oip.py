"""The Open Inference Protocol's REST, version 2, in and out, with the binary tensor extension, as KServe and Triton have it.

GET  /v2, /v2/health/live, /v2/health/ready
GET  /v2/models/{model}[/versions/{version}][/ready | /config | /stats], /v2/models/stats
POST /v2/models/{model}[/versions/{version}]/infer
POST /v2/repository/index, /v2/repository/models/{model}/load, …/unload

Errors are `{"error": words}`, of a broken contract with `errors` as Perron's own problems have them.
"""

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from perron.serve.app import Malformed
from perron.serve.inference import (
    InferReply,
    InferRequest,
    Tensor,
    asked,
    configuration,
    from_bytes,
    from_values,
    index,
    infer,
    metadata,
    server_metadata,
    set_loaded,
    statistics,
)
from perron.serve.problem import Answer, json_answer, problem
from perron.serve.routes import Request, Route
from perron.serve.tensors import tensor_bytes

if TYPE_CHECKING:
    from perron.serve.app import Service

__all__ = ["error_answer", "error_words", "routes"]

LENGTH_HEADER = "Inference-Header-Content-Length"
ANY = ("*/*",)
SHOWN_FAULTS = 3
NO_SHARED_MEMORY = "Shared memory isn't offered; send tensors in the request."


def routes(service: "Service") -> list[Route]:
    """The routes of a service."""

    def to(handler: Any) -> Any:
        return partial(handler, service)

    found = [
        Route("GET", "/v2", _server, None),
        Route("GET", "/v2/health/live", _live, None),
        Route("GET", "/v2/health/ready", to(_ready), None),
        Route("GET", "/v2/models/stats", to(_stats)),
        Route("POST", "/v2/repository/index", to(_index), "read", ANY),
        Route("POST", "/v2/repository/models/{model}/load", to(_load), "admin", ANY),
        Route("POST", "/v2/repository/models/{model}/unload", to(_unload), "admin", ANY),
    ]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        found += [
            Route("GET", path, to(_metadata)),
            Route("GET", f"{path}/ready", to(_model_ready)),
            Route("GET", f"{path}/config", to(_config)),
            Route("GET", f"{path}/stats", to(_stats)),
            Route("POST", f"{path}/infer", to(_infer), "predict", ANY),
        ]
    for kind in ("systemsharedmemory", "cudasharedmemory"):
        for path in (f"/v2/{kind}", f"/v2/{kind}/region/{{region}}"):
            found += [
                Route("GET", f"{path}/status", _no_shared_memory),
                Route("POST", f"{path}/unregister", _no_shared_memory, "admin", ANY),
            ]
        found.append(Route("POST", f"/v2/{kind}/region/{{region}}/register", _no_shared_memory, "admin", ANY))
    return found


def error_answer(answer: Answer) -> Answer:
    """A problem in the protocol's shape."""
    told = json.loads(answer.body)
    more = {key: told[key] for key in ("count", "errors") if key in told}
    return json_answer({"error": error_words(answer), **more}, answer.status, answer.headers)


def error_words(answer: Answer) -> str:
    """A problem in a line: its detail, and of a broken contract the first faults."""
    told = json.loads(answer.body)
    faults = [item["message"] for item in told.get("errors", ())[:SHOWN_FAULTS]]
    if not faults:
        return str(told["detail"])
    more = told["count"] - len(faults)
    return f"{told['detail'].rstrip('.')}: {'; '.join(faults)}" + (f"; and {more} more" if more > 0 else "")


async def _server(request: Request) -> Answer:
    return json_answer(server_metadata())


async def _live(request: Request) -> Answer:
    return json_answer({"live": True})


async def _ready(service: "Service", request: Request) -> Answer:
    return (
        json_answer({"ready": True}) if service.is_ready else problem(503, "The service isn't ready, or is stopping.")
    )


async def _model_ready(service: "Service", request: Request) -> Answer:
    model, _ = asked(service, request.params["model"], request.params.get("version"))
    return json_answer({"name": model.name, "ready": True})


async def _metadata(service: "Service", request: Request) -> Answer:
    return json_answer(metadata(service, request.params["model"], request.params.get("version")))


async def _config(service: "Service", request: Request) -> Answer:
    return json_answer(configuration(service, request.params["model"], request.params.get("version")))


async def _stats(service: "Service", request: Request) -> Answer:
    wanted = request.params.get("model"), request.params.get("version")
    return json_answer({"model_stats": await service.run(statistics, service, *wanted)})


async def _index(service: "Service", request: Request) -> Answer:
    told = _object(request.body)
    return json_answer(index(service, told.get("ready") is True))


async def _load(service: "Service", request: Request) -> Answer:
    await set_loaded(service, request.params["model"], True, _object(request.body).get("parameters") or {})
    return Answer(200, b"")


async def _unload(service: "Service", request: Request) -> Answer:
    await set_loaded(service, request.params["model"], False, _object(request.body).get("parameters") or {})
    return Answer(200, b"")


async def _no_shared_memory(request: Request) -> Answer:
    return problem(501, NO_SHARED_MEMORY)


def _object(body: bytes) -> dict[str, Any]:
    """The body's JSON object; an empty body is one without keys."""
    try:
        told = msgspec.json.decode(body) if body.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"The body isn't JSON: {error}.") from error
    if not isinstance(told, dict) or not isinstance(told.get("parameters") or {}, dict):
        raise Malformed("The body must be a JSON object, and its parameters one too.")
    return told


# -- inferring


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = None


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Infer(msgspec.Struct):
    inputs: list[_Input]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


_decode = msgspec.json.Decoder(_Infer).decode


async def _infer(service: "Service", request: Request) -> Answer:
    length = request.headers.get(LENGTH_HEADER.lower())
    header, rest = _parted(request.body, length)
    told = _read(header)
    inputs = _tensors(told.inputs, rest)
    for output in told.outputs:
        _refuse_unknown(output.name, output.parameters)
    wanted = [output.name for output in told.outputs] or None
    asking = InferRequest(
        request.params["model"], request.params.get("version"), inputs, wanted, told.id, told.parameters
    )
    reply = await infer(service, asking, request.headers, is_alone=request.is_alone)
    default = told.parameters.get("binary_data_output") is True
    is_binary = {output.name: output.parameters.get("binary_data", default) is True for output in told.outputs}
    return _written(reply, [is_binary.get(output.name, default) for output in reply.outputs])


def _parted(body: bytes, length: str | None) -> tuple[Any, Any]:
    """The JSON of a body, and the tensors' bytes behind it."""
    if length is None:
        return body, memoryview(b"")
    if not (length.isascii() and length.isdigit() and len(length) < 16 and 0 < int(length) <= len(body)):
        raise Malformed(f"{LENGTH_HEADER} is {length[:40]!r}, and the body has {len(body)} bytes.")
    view = memoryview(body)
    return view[: int(length)], view[int(length) :]


def _read(header: Any) -> _Infer:
    try:
        return _decode(header)
    except msgspec.ValidationError as error:
        raise Malformed(f"The request isn't one of inference: {error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _read_with_nan(bytes(header))


def _read_with_nan(header: bytes) -> _Infer:
    """Reads JSON with NaN in it, which the public clients write for missing numbers."""
    try:
        return msgspec.convert(json.loads(header), _Infer)
    except msgspec.ValidationError as error:
        raise Malformed(f"The request isn't one of inference: {error}.") from error
    except RecursionError as error:
        raise Malformed("The JSON is nested too deeply.") from error
    except ValueError as error:
        raise Malformed(f"The body isn't JSON: {error}.") from error


def _tensors(inputs: list[_Input], rest: Any) -> list[Tensor]:
    found = []
    at = 0
    for item in inputs:
        if any(parameter.startswith("shared_memory") for parameter in item.parameters):
            raise Malformed(NO_SHARED_MEMORY)
        size = item.parameters.get("binary_data_size")
        if size is None:
            found.append(from_values(item.name, item.datatype, item.shape, item.data))
            continue
        if type(size) is not int or not 0 <= size <= len(rest) - at or item.data is not None:
            raise Malformed(
                f"The input {item.name[:80]!r} has the binary_data_size {repr(size)[:40]}; {len(rest) - at} bytes are left "
                f"behind the JSON ({LENGTH_HEADER} says where it ends), and data isn't given too."
            )
        found.append(from_bytes(item.name, item.datatype, item.shape, rest[at : at + size]))
        at += size
    if at != len(rest):
        raise Malformed(f"{len(rest) - at} bytes behind the JSON belong to no input.")
    return found


def _refuse_unknown(name: str, parameters: dict[str, Any]) -> None:
    if parameters.get("classification"):
        raise Malformed(
            f"The output {name[:80]!r} asks for classification, which isn't offered; ask for probabilities, "
            "whose labels are in the model's metadata."
        )
    if any(parameter.startswith("shared_memory") for parameter in parameters):
        raise Malformed(NO_SHARED_MEMORY)


def _written(reply: InferReply, binary: list[bool]) -> Answer:
    outputs: list[dict[str, Any]] = []
    parts: list[Any] = [b""]
    for output, is_binary in zip(reply.outputs, binary, strict=True):
        told: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": output.shape}
        if is_binary:
            data = tensor_bytes(output.array)
            told["parameters"] = {"binary_data_size": len(data)}
            parts.append(data)
        else:
            told["data"] = output.array.ravel().tolist()
        outputs.append(told)
    header = {
        "model_name": reply.model, "model_version": reply.version,
        **({"id": reply.id} if reply.id else {}),
        "parameters": {"perron_prediction_ids": ",".join(reply.predictions)},
        "outputs": outputs,
    }  # fmt: skip
    if not any(binary):
        return json_answer(header)
    parts[0] = msgspec.json.encode(header)
    length = ((LENGTH_HEADER, str(len(parts[0]))),)
    return Answer(200, b"".join(parts), "application/octet-stream", length)
