"""The Open Inference Protocol over gRPC in and out, as the clients of KServe and Triton speak it.

The messages are built from `inference.binpb` (compiled from `inference.proto`) in a pool of their own,
so that a process may hold another package's messages of the same names.
"""

import importlib.resources
import logging
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from perron.errors import NotFound, PerronError
from perron.serve.app import Malformed
from perron.serve.batching import NEVER
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
from perron.serve.oip import NO_SHARED_MEMORY, error_words
from perron.serve.problem import Answer
from perron.serve.routes import Scope
from perron.serve.tensors import tensor_bytes

if TYPE_CHECKING:
    from perron.serve.app import Service

__all__ = ["Server"]

SERVICE = "inference.GRPCInferenceService"
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT, 404: grpc.StatusCode.NOT_FOUND, 409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT, 422: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED, 501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE, 504: grpc.StatusCode.DEADLINE_EXCEEDED,
}  # fmt: skip
CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
SHARED_MEMORY = tuple(
    f"{kind}SharedMemory{call}" for kind in ("System", "Cuda") for call in ("Status", "Register", "Unregister")
)
UNOFFERED = {
    **dict.fromkeys(SHARED_MEMORY, NO_SHARED_MEMORY),
    "TraceSetting": "Trace settings aren't offered; every prediction has a receipt: GET /v1/predictions/{id}.",
    "LogSettings": "Log settings aren't offered by this protocol.",
}
FAILED = "The service failed; its log says why."
logger = logging.getLogger("perron.serve")


def _messages() -> dict[str, Any]:
    """The classes of the protocol's messages by name."""
    data = importlib.resources.files("perron.serve").joinpath("inference.binpb").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    names = []
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
        names += [message.name for message in file.message_type]
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in names}


class Server:
    """Answers over gRPC within the event loop of a service.

    Args:
        service: started.
        address: host and port, free, or one that the server's other workers listen on.
        tls_cert: the certificate (PEM), with `tls_key`; None: no TLS.
        tls_client_ca: asks clients for a certificate of that authority.

    Raises:
        PerronError: the address can't be listened on.
    """

    def __init__(
        self,
        service: "Service",
        address: str,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
        tls_client_ca: Path | None = None,
    ) -> None:
        self._service = service
        self._messages = _messages()
        # A message of the largest body, its names and numbers around it included.
        most = service.settings.max_body_bytes + (64 << 10)
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", most),
                ("grpc.max_send_message_length", -1),
            ]
        )
        calls: dict[str, tuple[Any, Scope | None]] = {
            "ServerLive": (self._server_live, None),
            "ServerReady": (self._server_ready, None),
            "ModelReady": (self._model_ready, "read"),
            "ServerMetadata": (self._server_metadata, None),
            "ModelMetadata": (self._model_metadata, "read"),
            "ModelConfig": (self._model_config, "read"),
            "ModelStatistics": (self._model_statistics, "read"),
            "RepositoryIndex": (self._repository_index, "read"),
            "RepositoryModelLoad": (self._repository_model_load, "admin"),
            "RepositoryModelUnload": (self._repository_model_unload, "admin"),
            "ModelInfer": (self._infer, "predict"),
        }
        handlers = {name: self._handler(name, *call) for name, call in calls.items()}
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=self._messages["ModelInferRequest"].FromString,
            response_serializer=self._messages["ModelStreamInferResponse"].SerializeToString,
        )
        for name, words in UNOFFERED.items():
            handlers[name] = grpc.unary_unary_rpc_method_handler(partial(_refuse, words))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        try:
            if tls_cert is None or tls_key is None:
                self._server.add_insecure_port(address)
            else:
                authority = tls_client_ca.read_bytes() if tls_client_ca is not None else None
                pair = [(tls_key.read_bytes(), tls_cert.read_bytes())]
                credentials = grpc.ssl_server_credentials(pair, authority, authority is not None)
                self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise PerronError(f"Can't listen on {address} for gRPC; choose another --grpc-port or --host.") from error

    async def start(self) -> None:
        await self._server.start()

    async def stop(self, within_s: float) -> None:
        """Finishes what is under way, no longer than that."""
        await self._server.stop(within_s)

    def _handler(self, name: str, call: Any, scope: Scope | None) -> Any:
        async def answer(request: Any, context: Any) -> Any:
            await self._admit(context, scope)
            try:
                return await call(request, context)
            except PerronError as error:
                await self._abort(context, error)
            except Exception:
                logger.exception("gRPC %s failed", name)
                await context.abort(grpc.StatusCode.INTERNAL, FAILED)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=self._messages[f"{name}Request"].FromString,
            response_serializer=self._messages[f"{name}Response"].SerializeToString,
        )

    async def _admit(self, context: Any, scope: Scope | None) -> None:
        """Ends a call whose token doesn't allow it (metadata `authorization`)."""
        found = self._service.admit(_headers(context), scope)
        if isinstance(found, Answer):
            await context.abort(CODES[found.status], error_words(found), _metadata(found))

    async def _abort(self, context: Any, error: PerronError) -> NoReturn:
        answer = self._service.failure(error)
        await context.abort(CODES.get(answer.status, grpc.StatusCode.UNKNOWN), error_words(answer), _metadata(answer))
        raise AssertionError("abort raises")

    def _made(self, name: str, told: Mapping[str, Any]) -> Any:
        return json_format.ParseDict(told, self._messages[name](), ignore_unknown_fields=True)

    # -- the calls

    async def _server_live(self, request: Any, context: Any) -> Any:
        return self._messages["ServerLiveResponse"](live=True)

    async def _server_ready(self, request: Any, context: Any) -> Any:
        return self._messages["ServerReadyResponse"](ready=self._service.is_ready)

    async def _model_ready(self, request: Any, context: Any) -> Any:
        try:
            asked(self._service, request.name, request.version or None)
        except NotFound:  # a client asks in order to wait for it
            return self._messages["ModelReadyResponse"](ready=False)
        return self._messages["ModelReadyResponse"](ready=True)

    async def _server_metadata(self, request: Any, context: Any) -> Any:
        return self._made("ServerMetadataResponse", server_metadata())

    async def _model_metadata(self, request: Any, context: Any) -> Any:
        return self._made("ModelMetadataResponse", metadata(self._service, request.name, request.version or None))

    async def _model_config(self, request: Any, context: Any) -> Any:
        told = configuration(self._service, request.name, request.version or None)
        return self._made("ModelConfigResponse", {"config": told})

    async def _model_statistics(self, request: Any, context: Any) -> Any:
        found = await self._service.run(statistics, self._service, request.name or None, request.version or None)
        return self._made("ModelStatisticsResponse", {"model_stats": found})

    async def _repository_index(self, request: Any, context: Any) -> Any:
        return self._made("RepositoryIndexResponse", {"models": index(self._service, request.ready)})

    async def _repository_model_load(self, request: Any, context: Any) -> Any:
        await set_loaded(self._service, request.model_name, True, request.parameters)
        return self._messages["RepositoryModelLoadResponse"]()

    async def _repository_model_unload(self, request: Any, context: Any) -> Any:
        await set_loaded(self._service, request.model_name, False, request.parameters)
        return self._messages["RepositoryModelUnloadResponse"]()

    async def _stream(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Answers in order, one request after the other; what can't be answered is an error in its place."""
        await self._admit(context, "predict")
        response = self._messages["ModelStreamInferResponse"]
        async for request in requests:
            try:
                made = response(infer_response=await self._infer(request, context))
                if "triton_enable_empty_final_response" in request.parameters:
                    made.infer_response.parameters["triton_final_response"].bool_param = True
                yield made
            except PerronError as error:
                made = response(error_message=error_words(self._service.failure(error)))
                made.infer_response.id = request.id
                yield made
            except Exception:
                logger.exception("gRPC ModelStreamInfer failed")
                yield response(error_message=FAILED)

    async def _infer(self, request: Any, context: Any) -> Any:
        for item in (*request.inputs, *request.outputs):
            if any(name.startswith("shared_memory") for name in item.parameters):
                raise Malformed(NO_SHARED_MEMORY)
            if "classification" in item.parameters:
                raise Malformed(
                    f"The output {item.name[:80]!r} asks for classification, which isn't offered; ask for probabilities, "
                    "whose labels are in the model's configuration."
                )
        left = context.time_remaining()
        asking = InferRequest(
            request.model_name,
            request.model_version or None,
            _inputs(request),
            [output.name for output in request.outputs] or None,
            request.id,
            {name: _parameter(value) for name, value in request.parameters.items()},
        )
        deadline = NEVER if left is None else time.monotonic() + left
        reply = await infer(self._service, asking, _headers(context), deadline=deadline)
        return self._written(reply, is_raw=bool(request.raw_input_contents))

    def _written(self, reply: InferReply, is_raw: bool) -> Any:
        """The reply with raw contents, or with typed ones where the request had those and every datatype has a place."""
        is_raw = is_raw or not all(output.datatype in CONTENTS for output in reply.outputs)
        made = self._messages["ModelInferResponse"](model_name=reply.model, model_version=reply.version, id=reply.id)
        made.parameters["perron_prediction_ids"].string_param = ",".join(reply.predictions)
        for output in reply.outputs:
            told = made.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
            if is_raw:
                made.raw_output_contents.append(bytes(tensor_bytes(output.array)))
            else:
                values = output.array.ravel().tolist()
                if output.datatype == "BYTES":
                    values = [text.encode("utf-8", "surrogatepass") for text in values]
                getattr(told.contents, CONTENTS[output.datatype]).extend(values)
        return made


def _headers(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _metadata(answer: Answer) -> tuple[tuple[str, str], ...]:
    """What of an answer's headers is for every transport."""
    return tuple((name, value) for name, value in answer.headers if name == "retry-after")


async def _refuse(words: str, request: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, words)


def _parameter(value: Any) -> Any:
    kind = value.WhichOneof("parameter_choice")
    return None if kind is None else getattr(value, kind)


def _inputs(request: Any) -> list[Tensor]:
    raw = request.raw_input_contents
    if not raw:
        return [_typed(item) for item in request.inputs]
    if len(raw) != len(request.inputs):
        raise Malformed(f"There are {len(request.inputs)} inputs and {len(raw)} raw_input_contents; give one for each.")
    for item in request.inputs:
        if item.HasField("contents"):
            raise Malformed(f"The input {item.name[:80]!r} has contents beside raw_input_contents; give one of them.")
    return [
        from_bytes(item.name, item.datatype, item.shape, data) for item, data in zip(request.inputs, raw, strict=True)
    ]


def _typed(item: Any) -> Tensor:
    """A tensor from typed contents; those of another datatype than its own are refused."""
    contents = CONTENTS.get(item.datatype)
    filled = [known.name for known, _ in item.contents.ListFields()]
    if filled not in ([], [contents]):
        raise Malformed(
            f"The input {item.name[:80]!r} of datatype {item.datatype[:20]!r} has {', '.join(filled)}; "
            f"give {contents or 'raw_input_contents'}."
        )
    values = list(getattr(item.contents, contents)) if contents else []
    return from_values(item.name, item.datatype, item.shape, values)
