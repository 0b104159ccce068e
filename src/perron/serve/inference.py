"""Inference requests in, whatever transport brought them; logged answers as tensors out (Open Inference Protocol, version 2).

A model with a contract takes a tensor per field, of shape (n) or (n, 1), and is judged by the contract;
a plain graph takes its own inputs. Here is also what is told about models: metadata, configuration,
statistics and the index.
"""

import json
import math
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from perron import __version__
from perron.bundle import GraphBundle
from perron.check.columns import Column
from perron.check.request import Rejection
from perron.derive import oip
from perron.errors import DataError, nearest
from perron.serve.app import BrokenContract, Malformed
from perron.serve.batching import NEVER
from perron.serve.metrics import Numbers
from perron.serve.models import Endpoint, Model
from perron.serve.routes import Headers
from perron.serve.tensors import TensorReply, Tensors
from perron.tensors import DATATYPES, TensorFacts

if TYPE_CHECKING:
    from perron.serve.app import Service

__all__ = [
    "InferReply",
    "InferRequest",
    "Tensor",
    "asked",
    "configuration",
    "from_bytes",
    "from_values",
    "index",
    "infer",
    "metadata",
    "server_metadata",
    "set_loaded",
    "statistics",
]

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics")
MOST_DIMENSIONS = 32
# What JSON may hold by NumPy's kind of a datatype; of whole numbers only these.
VALUES: dict[str, frozenset[type]] = {
    "O": frozenset({str, bytes}), "b": frozenset({bool}), "f": frozenset({int, float}),
}  # fmt: skip


@dataclass(slots=True)
class Tensor:
    """A tensor as it came, or goes: `array` is flat or of its shape, of the datatype (texts are objects: str, bytes where
    they aren't UTF-8, None for null); `missing` says which numbers were null (None: none)."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    array: Any
    missing: Any | None = None


@dataclass(slots=True)
class InferRequest:
    """What is asked. `outputs` are the names wanted, in order; None: all."""

    model: str
    version: str | None
    inputs: list[Tensor]
    outputs: list[str] | None = None
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class InferReply:
    """What is answered: by which version, the predictions' ids (one per row), and the outputs."""

    model: str
    version: str
    id: str
    predictions: list[str]
    outputs: list[Tensor]


class _Prediction(msgspec.Struct):
    id: str
    value: Any
    probabilities: dict[str, float] | None = None


class _Reply(msgspec.Struct):
    version: int
    predictions: list[_Prediction]


_read_reply = msgspec.json.Decoder(_Reply).decode


# -- tensors as they come


def _shape_of(name: str, shape: Sequence[Any]) -> tuple[tuple[int, ...], int]:
    """A tensor's shape, and how many elements it has.

    Raises:
        Malformed: it can't be one.
    """
    if len(shape) > MOST_DIMENSIONS or not all(type(length) is int and length >= 0 for length in shape):
        raise Malformed(f"The tensor {name[:80]!r} has the shape {str(list(shape))[:80]}; give lengths ≥ 0.")
    return tuple(shape), math.prod(shape)


def _dtype_of(name: str, datatype: str) -> Any:
    """NumPy's type of a datatype.

    Raises:
        Malformed: there is none of that name.
    """
    if datatype == "BF16":
        return np.dtype(np.uint16)
    if datatype not in DATATYPES:
        raise Malformed(
            f"The tensor {name[:80]!r} has the datatype {datatype[:40]!r}; {nearest(datatype[:40], (*DATATYPES, 'BF16'))}"
        )
    return np.dtype(DATATYPES[datatype])


def from_bytes(name: str, datatype: str, shape: Sequence[Any], data: Any) -> Tensor:
    """A tensor from the protocol's raw bytes, without a copy where they lie well.

    Raises:
        Malformed: the bytes aren't as many as the shape needs, or aren't texts.
    """
    dims, count = _shape_of(name, shape)
    dtype = _dtype_of(name, datatype)
    if datatype == "BYTES":
        return Tensor(name, datatype, dims, _texts(name, count, data))
    if len(data) != count * dtype.itemsize:
        raise Malformed(
            f"The tensor {name[:80]!r} of shape {list(dims)} and datatype {datatype} needs {count * dtype.itemsize} bytes, "
            f"and {len(data)} came."
        )
    array = np.frombuffer(data, dtype)
    if not array.flags.aligned:
        array = array.copy()
    if datatype == "BOOL":
        array = array.view(np.uint8) != 0  # any other byte than 0 and 1 would be undefined further on
    return Tensor(name, datatype, dims, array if datatype != "BF16" else _from_bf16(array))


def _from_bf16(array: Any) -> Any:
    """The upper half of a float32 each."""
    return (array.astype(np.uint32) << 16).view(np.float32)


def _texts(name: str, count: int, data: Any) -> Any:
    if len(data) < 4 * count:  # before anything is made for a count that is only claimed
        raise Malformed(
            f"The tensor {name[:80]!r} has {count} texts in {len(data)} bytes; each needs four and its own."
        )
    raw, end = bytes(data), len(data)
    length_at = struct.Struct("<I").unpack_from
    parts: list[bytes] = []
    at = 0
    for place in range(count):
        start = at + 4
        at = start + length_at(raw, at)[0] if start <= end else end + 1
        if at > end:
            raise Malformed(f"The tensor {name[:80]!r} is cut off in text {place} of {count}.")
        parts.append(raw[start:at])
    if at != end:
        raise Malformed(f"The tensor {name[:80]!r} has {end - at} bytes after its last text.")
    found = np.empty(count, object)
    try:
        found[:] = [part.decode() for part in parts]
    except UnicodeDecodeError:
        found[:] = [_text(part) for part in parts]
    return found


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def from_values(name: str, datatype: str, shape: Sequence[Any], data: Any) -> Tensor:
    """A tensor from plain values, flat or nested; None is null.

    Raises:
        Malformed: they aren't as many as the shape needs, or of another type than the datatype.
    """
    dims, count = _shape_of(name, shape)
    dtype = _dtype_of(name, datatype)
    flat = _flat(name, data)
    if len(flat) != count:
        raise Malformed(f"The tensor {name[:80]!r} of shape {list(dims)} needs {count} values, and {len(flat)} came.")
    kinds = set(map(type, flat))
    has_null = type(None) in kinds
    kinds.discard(type(None))
    allowed = VALUES.get(dtype.kind, frozenset({int}))
    if datatype == "BF16":
        allowed, dtype = VALUES["f"], np.dtype(np.float32)
    if not kinds <= allowed:
        wrong = next(value for value in flat if value is not None and type(value) not in allowed)
        raise Malformed(f"The tensor {name[:80]!r} of datatype {datatype} has the value {repr(wrong)[:60]}.")
    if dtype.kind == "O":
        array = np.empty(count, object)
        array[:] = [_text(value) if type(value) is bytes else value for value in flat]
        return Tensor(name, datatype, dims, array)
    missing = None
    if has_null:
        missing = np.array([value is None for value in flat])
        flat = [0 if value is None else value for value in flat]
    try:
        with np.errstate(over="ignore"):
            return Tensor(name, datatype, dims, np.array(flat, dtype), missing)
    except OverflowError as error:
        raise Malformed(f"The tensor {name[:80]!r} has a value that {datatype} can't hold.") from error


def _flat(name: str, data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise Malformed(f"The tensor {name[:80]!r} has no list of values as its data.")
    flat: list[Any] = data
    for _ in range(MOST_DIMENSIONS):
        if not flat or not isinstance(flat[0], list):
            return flat
        if not all(isinstance(part, list) for part in flat):
            break
        flat = [value for part in flat for value in part]
    raise Malformed(f"The tensor {name[:80]!r} has data that is nested unevenly, or too deeply.")


# -- asking


async def infer(
    service: "Service", request: InferRequest, headers: Headers, *, is_alone: bool = False, deadline: float = NEVER
) -> InferReply:
    """The answer, logged.

    Args:
        service: that answers.
        request: what is asked.
        headers: as of `Service.answer`.
        is_alone: no other request is under way.
        deadline: of the transport, on the clock of `time.monotonic`.

    Raises:
        NotFound: there is no such model or version.
        Malformed: the tensors aren't the model's.
        BrokenContract, DataError, Busy, TooLate, LedgerError: as of `Service.answer`.
    """
    started = time.perf_counter()
    model, endpoint = asked(service, request.model, request.version)
    deadline = min(deadline, _deadline(request.parameters.get("timeout")))
    names = [tensor.name for tensor in request.inputs]
    if len(set(names)) != len(names):
        raise Malformed("Two inputs have the same name.")
    asker = endpoint or model.default
    bundle = asker.bundle
    if isinstance(bundle, GraphBundle):
        tensors = _graph_inputs(bundle, request.inputs, asker.max_rows)
        wanted = _wanted(request.outputs, [item.name for item in bundle.outputs])
        reply: TensorReply = await service.answer(
            model, endpoint, tensors, b"", headers, started=started, deadline=deadline
        )
        facts = zip(bundle.outputs, reply.outputs, strict=True)
        made = {o.name: Tensor(o.name, o.datatype, array.shape, array) for o, array in facts}
        version, predictions = reply.version, reply.ids
    else:
        wanted = _wanted(request.outputs, ["value", "probabilities"] if bundle.has_probabilities else ["value"])
        rows = asker.columns(_columns(request.inputs))
        if isinstance(rows, Rejection):
            raise BrokenContract(rows)
        answered = _read_reply(
            await service.answer(
                model, endpoint, rows, asker.rows_as_json(rows), headers,
                started=started, is_alone=is_alone, deadline=deadline,
            )
        )  # fmt: skip
        is_flat = len(request.inputs[0].shape) == 1
        made = _outputs(answered.predictions, is_flat)
        version, predictions = answered.version, [one.id for one in answered.predictions]
    return InferReply(model.name, str(version), request.id, predictions, [made[n] for n in wanted or made if n in made])


def asked(service: "Service", name: str, version: str | None) -> tuple[Model, Endpoint | None]:
    """The model, and the version where one is named.

    Raises:
        NotFound: it isn't loaded.
    """
    model = service.models.get(name)
    return model, model.version(version) if version else None


def _deadline(timeout: Any) -> float:
    """Of the parameter `timeout`, in microseconds; 0 is none."""
    if timeout is None or (type(timeout) is int and timeout == 0):
        return NEVER
    if type(timeout) is not int or not 0 < timeout < 86_400_000_000:
        raise Malformed(f"The parameter timeout is {repr(timeout)[:40]}; give microseconds as a whole number.")
    return time.monotonic() + timeout / 1e6


def _wanted(outputs: list[str] | None, known: list[str]) -> list[str] | None:
    for name in outputs or ():
        if name not in known:
            raise Malformed(f"There is no output {name[:80]!r}; {nearest(name[:80], known)}")
    return list(dict.fromkeys(outputs)) if outputs else None


def _columns(inputs: Iterable[Tensor]) -> dict[str, Column]:
    found: dict[str, Column] = {}
    first: tuple[str, int] | None = None
    for tensor in inputs:
        shape = tensor.shape
        if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
            raise Malformed(f"The input {tensor.name[:80]!r} has the shape {list(shape)}; give [N] or [N, 1].")
        if first is not None and shape[0] != first[1]:
            raise Malformed(
                f"The input {tensor.name[:80]!r} has {shape[0]} rows and {first[0][:80]!r} has {first[1]}; "
                "every input needs the same number."
            )
        first = first or (tensor.name, shape[0])
        values = tensor.array.tolist() if tensor.array.dtype == object else tensor.array
        found[tensor.name] = Column(values, tensor.missing)
    return found


def _outputs(predictions: list[_Prediction], is_flat: bool) -> dict[str, Tensor]:
    values = [one.value for one in predictions]
    datatype = oip.value_datatype(values[0])
    array = np.array(values, DATATYPES[datatype])
    made = {"value": Tensor("value", datatype, (len(values),) if is_flat else (len(values), 1), array)}
    if predictions[0].probabilities is not None:
        shares = np.array([list((one.probabilities or {}).values()) for one in predictions], np.float64)
        made["probabilities"] = Tensor("probabilities", "FP64", shares.shape, shares)
    return made


def _graph_inputs(bundle: GraphBundle, inputs: Sequence[Tensor], max_rows: int) -> Tensors:
    given = {tensor.name: tensor for tensor in inputs}
    names = [item.name for item in bundle.inputs]
    for name in given:
        if name not in names:
            raise Malformed(f"{bundle.name} has no input {name[:80]!r}; {nearest(name[:80], names)}")
    feed: dict[str, Any] = {}
    for item in bundle.inputs:
        if item.name not in given:
            raise Malformed(f"The input {item.name!r} ({item.datatype} {list(item.shape)}) is missing.")
        feed[item.name] = _fitting(item, given[item.name])
    rows = 1
    if bundle.is_batched:
        counts = {array.shape[0] for array in feed.values()}
        if len(counts) > 1:
            raise Malformed(f"The inputs have {sorted(counts)} rows; every input needs the same number.")
        rows = counts.pop()
        if rows == 0:
            raise Malformed("There are no rows; send at least one.")
        if rows > max_rows:
            words = f"{rows} rows are more than {max_rows} in one request; send them in parts."
            raise BrokenContract(Rejection("too_many_rows", words))
    facts = [
        {"name": item.name, "datatype": item.datatype, "shape": list(feed[item.name].shape)} for item in bundle.inputs
    ]
    return Tensors(feed, rows, facts)


def _fitting(item: TensorFacts, tensor: Tensor) -> Any:
    """The tensor's array in an input's shape and datatype; a number of another datatype where it is exactly the same.

    Raises:
        Malformed: it doesn't fit.
    """
    fits = len(tensor.shape) == len(item.shape) and all(
        wanted in (-1, length) for wanted, length in zip(item.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise Malformed(f"The input {item.name!r} has the shape {list(tensor.shape)}; give {list(item.shape)}.")
    if tensor.missing is not None:
        raise Malformed(f"The input {item.name!r} has a null; a graph without a contract takes none.")
    array, dtype = tensor.array, np.dtype(DATATYPES[item.datatype])
    if dtype.kind == "O" and array.dtype.kind == "O":
        if not all(type(text) is str for text in array):
            raise Malformed(f"The input {item.name!r} has a text that isn't UTF-8, or a null.")
    elif array.dtype != dtype:
        if "O" in (dtype.kind, array.dtype.kind) or "b" in (dtype.kind, array.dtype.kind):
            raise Malformed(f"The input {item.name!r} has the datatype {tensor.datatype}; give {item.datatype}.")
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(dtype)
            is_same = np.array_equal(cast.astype(array.dtype), array, equal_nan=array.dtype.kind == "f")
        if not is_same:
            raise Malformed(
                f"The input {item.name!r} has {tensor.datatype} numbers that aren't exactly {item.datatype}; send {item.datatype}."
            )
        array = cast
    return array.reshape(tensor.shape)


# -- telling


def server_metadata() -> dict[str, Any]:
    return {"name": "perron", "version": __version__, "extensions": list(EXTENSIONS)}


def _tensors(endpoint: Endpoint) -> tuple[tuple[TensorFacts, ...], tuple[TensorFacts, ...]]:
    bundle = endpoint.bundle
    if isinstance(bundle, GraphBundle):
        return bundle.inputs, bundle.outputs
    return oip.inputs(bundle.schema), oip.outputs(bundle.classes, bundle.has_probabilities)


def metadata(service: "Service", name: str, version: str | None) -> dict[str, Any]:
    """A model's versions and tensors; what the contract says of each input, and the labels of the probabilities, as parameters.

    Raises:
        NotFound: it isn't loaded.
    """
    model, endpoint = asked(service, name, version)
    endpoint = endpoint or model.default
    inputs, outputs = _tensors(endpoint)
    rules = {f.name: {"optional": f.optional, "expected": f.expected} for f in endpoint.bundle.schema.request}
    labels = endpoint.bundle.labels
    return {
        "name": model.name,
        "versions": [str(number) for number in sorted(model.versions)],
        "platform": "onnxruntime_onnx",
        "inputs": [{**i.to_json(), **({"parameters": rules[i.name]} if i.name in rules else {})} for i in inputs],
        "outputs": [
            {**o.to_json(), **({"parameters": {"labels": labels}} if o.name == "probabilities" and labels else {})}
            for o in outputs
        ],
        **({"parameters": {"labels": labels}} if labels else {}),
    }


def configuration(service: "Service", name: str, version: str | None) -> dict[str, Any]:
    """A model's configuration, as Triton has it.

    Raises:
        NotFound: it isn't loaded.
    """
    model, endpoint = asked(service, name, version)
    endpoint = endpoint or model.default
    inputs, outputs = _tensors(endpoint)
    bundle = endpoint.bundle
    is_batched = (bundle.is_batched if isinstance(bundle, GraphBundle) else True) and all(
        len(item.shape) > 1 for item in (*inputs, *outputs)
    )
    optional = {field.name for field in bundle.schema.request if field.optional}

    def listed(items: Iterable[TensorFacts]) -> list[dict[str, Any]]:
        return [
            {
                "name": item.name,
                "data_type": "TYPE_" + {"BYTES": "STRING"}.get(item.datatype, item.datatype),
                "dims": list(item.shape[1:] if is_batched else item.shape),
                **({"optional": True} if item.name in optional else {}),
            }
            for item in items
        ]

    return {
        "name": model.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"specific": {"versions": sorted(model.versions)}},
        "max_batch_size": endpoint.max_rows if is_batched else 0,
        "input": listed(inputs),
        "output": listed(outputs),
        "parameters": {"labels": {"string_value": json.dumps(bundle.labels)}} if bundle.labels else {},
        "model_transaction_policy": {"decoupled": False},
    }


def statistics(service: "Service", name: str | None, version: str | None) -> list[dict[str, Any]]:
    """What each version of a model (None: of all) did, all routes and workers together. Times are in nanoseconds.

    `success` counts requests, their time from coming to answering; `compute_infer` runs of the graph. What
    isn't measured apart (queue, input, output, cache) stays 0.

    Raises:
        NotFound: it isn't loaded.
    """
    models = [service.models.get(name)] if name else list(service.models.by_name.values())
    only = asked(service, name, version)[1] if name and version else None
    found: dict[tuple[str, str], Numbers] = {}
    for (model, number, _), numbers in service.registry.everywhere().items():
        found.setdefault((model, number), Numbers()).merge(numbers.dump())
    return [
        _statistics(model.name, str(number), found.get((model.name, str(number)), Numbers()))
        for model in models
        for number in sorted(model.versions)
        if only is None or number == only.version
    ]


def _statistics(name: str, version: str, numbers: Numbers) -> dict[str, Any]:
    def duration(count: int = 0, seconds: float = 0.0) -> dict[str, int]:
        return {"count": count, "ns": round(seconds * 1e9)}

    batches = sum(numbers.batch_rows.counts)
    return {
        "name": name,
        "version": version,
        "last_inference": round(numbers.last * 1000),
        "inference_count": numbers.rows,
        "execution_count": batches,
        "inference_stats": {
            "success": duration(numbers.requests, numbers.latency.total),
            "fail": duration(numbers.errors),
            "queue": duration(),
            "compute_input": duration(),
            "compute_infer": duration(batches, numbers.compute_s),
            "compute_output": duration(),
            "cache_hit": duration(),
            "cache_miss": duration(),
        },
        "batch_stats": [],
        "memory_usage": [],
        "response_stats": {},
    }


def index(service: "Service", only_ready: bool) -> list[dict[str, Any]]:
    """Every version that the server should answer with: its state, and why it isn't ready where it isn't."""
    found: list[dict[str, Any]] = []
    for planned in service.plan.models if service.plan is not None else ():
        model = service.models.by_name.get(planned.name)
        fault = service.models.faults.get(planned.name, "")
        loaded = set(model.versions) if model is not None else set()
        for number in sorted({version.number for version in planned.versions} | loaded):
            is_ready = number in loaded
            state = {"state": "READY", "reason": ""} if is_ready else {"state": "UNAVAILABLE", "reason": fault}
            found.append({"name": planned.name, "version": str(number), **state})
        if not planned.versions:
            number = planned.routing.arms[0].version
            found.append({"name": planned.name, "version": str(number), "state": "UNAVAILABLE", "reason": "unloaded"})
    return [item for item in found if item["state"] == "READY"] if only_ready else found


async def set_loaded(service: "Service", name: str, is_loaded: bool, parameters: Mapping[str, Any]) -> None:
    """Loads or unloads a model, here now, and in the project's other workers and servers within a second.

    Raises:
        NotFound: there is no such model.
        Malformed: a parameter that Perron doesn't keep: its models come from the ledger.
        DataError: it can't be loaded, and why.
    """
    for parameter in parameters:
        if not (parameter == "unload_dependents" and not is_loaded):
            raise Malformed(
                f"The parameter {parameter[:80]!r} isn't taken; models come from the ledger, by `perron register` or `perron run`."
            )
    await service.run(service.memory.set_loaded, name, is_loaded)
    await service.refresh(again=True)
    if is_loaded and name in service.models.faults:
        raise DataError(f"{name} can't be loaded: {service.models.faults[name]}")
