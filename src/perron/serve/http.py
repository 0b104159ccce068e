"""HTTP in and out by granian's RSGI: translates to and from `perron.serve.app`, in one process and one event loop.

Several processes may listen on one port (`perron.serve.workers`): the kernel parts connections among them.
"""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]
from granian.server.embed import Server

from perron.errors import LedgerError, PerronError
from perron.plan import Memory
from perron.serve.app import Service, Settings
from perron.serve.problem import Answer, Stream, problem
from perron.serve.routes import Request, Route

__all__ = ["check_address", "free_port", "serve", "takes"]

JSON_HEADERS = [("content-type", "application/json")]
DRAIN_S = 10.0
BACKLOG = 4096  # connections that may wait to be accepted, and requests under way: what is bounded are rows
SWEEP_S = 1.0
BODY_GRACE_S = 2.0  # for bodies that are coming when the server is told to stop
logger = logging.getLogger("perron.serve")


class _Http:
    """The RSGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limit = service.settings.max_body_bytes
        self._under_way = 0
        # Requests whose body is still coming, and since when. One sweep a second looks after all of them:
        # a timer for each would cost every request more than its checks do.
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    async def __call__(self, scope: Any, protocol: Any) -> None:
        self._under_way += 1
        try:
            await self._answer(scope, protocol)
        finally:
            self._under_way -= 1

    def stop_reading(self) -> None:
        """Gives bodies that are still coming a moment, then gives them up: a server that stops waits for no stalled client."""
        self._sweeper.cancel()
        asyncio.get_running_loop().call_later(BODY_GRACE_S, self._give_up)

    def _give_up(self) -> None:
        for task in list(self._reading):
            task.cancel()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for task, since in list(self._reading.items()):
            if loop.time() - since > self._service.settings.body_timeout_s:
                task.cancel()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    async def _answer(self, scope: Any, protocol: Any) -> None:
        method, path = scope.method, scope.path
        try:
            if method == "POST" and path == "/v1/predictions":
                answer: Answer | Stream = await self._predict(scope.headers, protocol)
                if answer.status == 200:
                    protocol.response_bytes(200, JSON_HEADERS, answer.body)  # type: ignore[union-attr]
                    return
            else:
                answer = await self._other(method, path, scope, protocol)
            await self._send(method, answer, protocol)
        except (ProtocolClosed, ProtocolError):  # the client went away in the middle of its body, or of the answer
            self._service.note_disconnect()

    async def _send(self, method: str, answer: Answer | Stream, protocol: Any) -> None:
        headers = [("content-type", answer.content_type), *answer.headers]
        if isinstance(answer, Stream):
            transport = protocol.response_stream(answer.status, headers)
            async for part in answer.parts:
                await transport.send_bytes(part)
        elif method == "HEAD":
            protocol.response_empty(answer.status, [*headers, ("content-length", str(len(answer.body)))])
        elif answer.status in (204, 304):
            protocol.response_empty(answer.status, list(answer.headers))
        else:
            protocol.response_bytes(answer.status, headers, answer.body)

    async def _predict(self, headers: Any, protocol: Any) -> Answer:
        kind = headers.get("content-type")
        if kind != "application/json" and kind is not None and not _is_json(kind):
            return self._service.refuse_type(kind)
        body = await self._read(headers, protocol, self._limit)
        if isinstance(body, Answer):
            return body
        try:
            return await self._service.predict(body, headers, is_alone=self._under_way == 1)
        except Exception:
            return _failed("POST", "/v1/predictions")

    async def _read(self, headers: Any, protocol: Any, limit: int) -> bytes | Answer:
        """The body, or why it wasn't taken."""
        length = headers.get("content-length")
        if length is not None and (not length.isdigit() or int(length) > limit):
            return self._service.refuse_size(limit)
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._reading[task] = loop.time()
        try:
            body: bytes | None = await protocol() if length is not None else await _read_chunked(protocol, limit)
        except asyncio.CancelledError:
            return self._service.refuse_slow()
        finally:
            del self._reading[task]
        return self._service.refuse_size(limit) if body is None else body

    async def _other(self, method: str, path: str, scope: Any, protocol: Any) -> Answer | Stream:
        found = self._service.find(method, path)
        if isinstance(found, Answer):
            return found
        route, params = found
        body = b""
        if route.takes:
            kind = scope.headers.get("content-type")
            if kind is not None and not takes(route, kind):
                return self._service.refuse_type(kind, route.takes)
            read = await self._read(scope.headers, protocol, route.max_body_bytes or self._limit)
            if isinstance(read, Answer):
                return read
            body = read
        request = Request(method, path, scope.headers, body, scope.query_string, params, is_alone=self._under_way == 1)
        try:
            return await self._service.handle(route, request)
        except (ProtocolClosed, ProtocolError):
            raise
        except Exception:
            return _failed(method, path)


def _failed(method: str, path: str) -> Answer:
    logger.exception("%s %s failed", method, path)
    return problem(500, "The service failed; its log says why.")


async def _read_chunked(protocol: Any, limit: int) -> bytes | None:
    """The body of a request that doesn't say how long it is, or None when it is too long."""
    parts, size = [], 0
    async for part in protocol:
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)


def takes(route: Route, content_type: str) -> bool:
    """Whether a route takes a body of that type."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" and kind in route.takes:
        return _is_json(content_type)
    return kind in route.takes or "*/*" in route.takes


def _is_json(content_type: str) -> bool:
    """Whether it is application/json, in UTF-8 where it says a charset."""
    kind, _, rest = content_type.lower().partition(";")
    charset = rest.partition("charset=")[2].strip(' "')
    return kind.strip() == "application/json" and charset in ("", "utf-8", "utf8")


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_address(host: str, port: int) -> None:
    """Nothing, when the address can be listened on.

    Raises:
        PerronError: it is taken, not allowed or not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        hint = (
            "another process listens there; choose another --port (0 for any free one)"
            if error.errno == errno.EADDRINUSE
            else "choose another --host or --port"
        )
        raise PerronError(f"Can't listen on {host}:{port}: {error.strerror or error}; {hint}.") from error


def serve(settings: Settings, memory: Memory, *, host: str, port: int, announce: Callable[[Service], None]) -> None:
    """Answers until SIGINT or SIGTERM, then finishes what is under way and returns.

    Args:
        settings: of the service.
        memory: whose plan is followed.
        host: an address of this machine.
        port: a free port, or one that the server's other workers listen on.
        announce: called once predictions are answered.

    Raises:
        PerronError: the address can't be listened on, nothing can be loaded, or the log can't be written.
    """
    run: Callable[[Any], None] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(_serve(settings, memory, host, port, announce))


async def _serve(settings: Settings, memory: Memory, host: str, port: int, announce: Callable[[Service], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    service = Service(settings, memory)
    await service.start()
    application = _Http(service)
    server = Server(
        application, address=host, port=port, interface=Interfaces.RSGI, log_enabled=False, websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=15_000), backlog=BACKLOG, backpressure=BACKLOG,
    )  # fmt: skip
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    try:
        await _until_listening(host, port, serving)
        announce(service)
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        service.is_ready = False
        if serving.done():
            serving.result()
            raise LedgerError("The HTTP server stopped by itself; start it again.")
        application.stop_reading()
        server.stop()  # type: ignore[no-untyped-call]  # granian has no annotation there
        await asyncio.wait({serving}, timeout=DRAIN_S)
    finally:
        stopping.cancel()
        await service.close(drain_s=1.0)


async def _until_listening(host: str, port: int, serving: "asyncio.Task[None]") -> None:
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.002)
        else:
            writer.close()
            return
