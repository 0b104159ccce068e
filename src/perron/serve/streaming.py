"""A request of many rows in; its predictions in parts as they are made out: server-sent events, or lines of JSON.

A part is the reply to a chunk of the rows, in order, and is logged before it is sent:

    id: 256
    event: predictions
    data: {"model": …, "version": …, "predictions": [{"id": …, "value": …}, …]}

The last one, `end`, says how many rows there were; `problem` (RFC 9457) comes in its place when
something fails on the way: what was sent before stays true. As lines (`application/jsonl`) the same
data come without the frame. The next chunk is predicted when the transport has taken the one before, and
none when the client has gone: a slow client costs no more memory than the reply in one piece would.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from perron.check.request import Rejection
from perron.errors import PerronError
from perron.serve.app import DEADLINE_HEADER, TRACE_HEADER, deadline_of, refusal, with_trace
from perron.serve.batching import NEVER, Busy
from perron.serve.models import Endpoint, Model
from perron.serve.problem import Answer, Stream
from perron.serve.routes import Request

if TYPE_CHECKING:
    from perron.serve.app import Service

__all__ = ["EVENTS", "LINES", "stream"]

EVENTS, LINES = "text/event-stream", "application/jsonl"
CHUNK_ROWS = 256  # as many as are predicted in one turn of the loop
PATIENCE_S, AGAIN_S = 30.0, 0.02  # how long a chunk waits for room in the queue, and how often it asks


class _Rows(msgspec.Struct):
    rows: list[msgspec.Raw]


async def stream(service: "Service", request: Request, model: Model, endpoint: Endpoint | None) -> Answer | Stream:
    """The answer in parts; a request that is refused, and a first chunk that fails, have their status."""
    body, headers = request.body, request.headers
    routed = endpoint or model.default
    rows = routed.decode(body)
    if not isinstance(rows, Rejection) and endpoint is None and not model.router.is_plain:
        routed, rows = service.route(model, rows, body, headers)
    if isinstance(rows, Rejection):
        service.registry.refused(rows.reason)
        return refusal(rows)
    way, deadline, timeout, trace = routed.way, NEVER, headers.get(DEADLINE_HEADER), headers.get(TRACE_HEADER)
    if timeout is not None:
        deadline = deadline_of(timeout)
        if deadline < 0:
            return service.refuse_deadline(timeout)
    if trace is not None:
        way = with_trace(way, trace)
    parts = _Parts(
        service, model if endpoint is None else None, routed, rows, _texts(body), way, deadline, request.wanted
    )
    try:
        await parts.begin()
    except PerronError as error:
        await parts.aclose()
        return service.failure(error)
    return Stream(200, parts, request.wanted, (("cache-control", "no-store"), ("x-accel-buffering", "no")))


def _texts(body: bytes) -> Sequence[bytes | msgspec.Raw]:
    """The JSON of each row as it came."""
    try:
        return msgspec.json.decode(body, type=_Rows).rows
    except (msgspec.DecodeError, UnicodeDecodeError):  # what only Python's reader takes
        return [json.dumps(row).encode() for row in json.loads(body)["rows"]]


class _Parts:
    """The parts of one answer. `begin` makes the first, so that its failure still has a status of its own."""

    def __init__(
        self,
        service: "Service",
        shadowed: Model | None,
        endpoint: Endpoint,
        rows: list[tuple[Any, ...]],
        texts: Sequence[bytes | msgspec.Raw],
        way: bytes,
        deadline: float,
        kind: str,
    ) -> None:
        self._service, self._shadowed, self._endpoint = service, shadowed, endpoint
        self._rows, self._texts, self._way, self._deadline = rows, texts, way, deadline
        self._has_frame = kind == EVENTS
        self._done = 0
        self._first: bytes | None = None
        self._is_over = self._is_closed = False
        self._started = time.perf_counter()
        endpoint.held += 1  # its log stays open until this is over, whatever is swapped meanwhile

    async def begin(self) -> None:
        self._first = await self._next_chunk(patience_s=0.0)

    def __aiter__(self) -> "_Parts":
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        if self._first is not None:
            part, self._first = self._first, None
            return part
        if self._done == len(self._rows):
            self._is_over = True
            self._endpoint.numbers.latency.add(time.perf_counter() - self._started)
            return self._framed("end", b'{"done":true,"rows":%d}' % self._done)
        try:
            return await self._next_chunk(PATIENCE_S)
        except PerronError as error:
            return self._failed(self._service.failure(error))
        except Exception:
            return self._failed(self._service.failed("POST", "predictions in parts"))

    def _failed(self, answer: Answer) -> bytes:
        """The last part: the problem, with `offset`, the number of the rows that were answered, from which its rows count."""
        self._is_over = True
        return self._framed("problem", json.dumps({**json.loads(answer.body), "offset": self._done}).encode())

    async def _next_chunk(self, patience_s: float) -> bytes:
        start, end = self._done, self._done + CHUNK_ROWS
        rows = self._rows[start:end]
        body = b'{"rows":[%b]}' % b",".join(map(bytes, self._texts[start:end]))
        give_up = time.monotonic() + patience_s
        while True:
            try:
                reply = await self._endpoint.answer(rows, body, self._way, self._deadline)
                break
            except Busy:
                if time.monotonic() >= min(give_up, self._deadline):
                    raise
                await asyncio.sleep(AGAIN_S)
        if self._shadowed is not None:
            self._service.ask_shadows(self._shadowed, rows, body, reply)
        self._done += len(rows)
        return self._framed("predictions", reply)

    def _framed(self, event: str, data: bytes) -> bytes:
        if self._has_frame:
            return b"id: %d\nevent: %b\ndata: %b\n\n" % (self._done, event.encode(), data)
        return data + b"\n"

    async def aclose(self) -> None:
        """Lets the endpoint go; nothing more is predicted."""
        if not self._is_closed:
            self._is_closed = self._is_over = True
            self._endpoint.held -= 1
