"""HTTP in and out by granian's RSGI: translates to and from `perron.serve.app`, in one process and one event loop."""

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

from perron.bundle import Bundle
from perron.errors import LedgerError, PerronError
from perron.serve.app import Service, Settings
from perron.serve.problem import Answer, problem

__all__ = ["free_port", "serve"]

JSON_HEADERS = [("content-type", "application/json")]
DRAIN_S = 10.0
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
        try:
            if scope.method == "POST" and scope.path == "/v1/predictions":
                answer = await self._predict(scope.headers, protocol)
                if answer.status == 200:
                    protocol.response_bytes(200, JSON_HEADERS, answer.body)
                    return
            else:
                answer = await self._other(scope.method, scope.path)
        except (ProtocolClosed, ProtocolError):  # the client went away in the middle of its body
            self._service.note_disconnect()
            return
        except Exception:
            logger.exception("%s %s failed", scope.method, scope.path)
            answer = problem(500, "The service failed; its log says why.")
        headers = [("content-type", answer.content_type), *answer.headers]
        if scope.method == "HEAD":
            protocol.response_empty(answer.status, [*headers, ("content-length", str(len(answer.body)))])
        else:
            protocol.response_bytes(answer.status, headers, answer.body)

    async def _predict(self, headers: Any, protocol: Any) -> Answer:
        kind = headers.get("content-type")
        if kind != "application/json" and kind is not None and not _is_json(kind):
            return self._service.refuse_type(kind)
        length = headers.get("content-length")
        if length is not None and (not length.isdigit() or int(length) > self._limit):
            return self._service.refuse_size()
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._reading[task] = loop.time()
        try:
            body = await protocol() if length is not None else await self._read_chunked(protocol)
        except asyncio.CancelledError:
            return self._service.refuse_slow()
        finally:
            del self._reading[task]
        if body is None:
            return self._service.refuse_size()
        return await self._service.predict(body, is_alone=self._under_way == 1)

    async def _read_chunked(self, protocol: Any) -> bytes | None:
        """The body of a request that doesn't say how long it is, or None when it is too long."""
        parts, size = [], 0
        async for part in protocol:
            size += len(part)
            if size > self._limit:
                return None
            parts.append(part)
        return b"".join(parts)

    async def _other(self, method: str, path: str) -> Answer:
        if method in ("GET", "HEAD") and path != "/v1/predictions":
            return await self._service.get(path)
        methods = self._service.knows(path)
        if methods is None:
            return problem(404, f"There is nothing at {path[:200]}; / lists what there is.")
        return problem(405, f"{path[:200]} takes {methods}, not {method[:20]}.", (("allow", methods),))


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


def _check_address(host: str, port: int) -> None:
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


def serve(
    bundle: Bundle, version: int, settings: Settings, *, host: str, port: int, announce: Callable[[], None]
) -> None:
    """Answers until SIGINT or SIGTERM, then finishes what is under way and returns.

    Args:
        bundle: opened.
        version: of the model, for replies and receipts.
        settings: of the service.
        host: an address of this machine.
        port: a free port.
        announce: called once predictions are answered.

    Raises:
        PerronError: the address can't be listened on, or the log can't be written.
    """
    _check_address(host, port)
    run: Callable[[Any], None] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(_serve(bundle, version, settings, host, port, announce))


async def _serve(
    bundle: Bundle, version: int, settings: Settings, host: str, port: int, announce: Callable[[], None]
) -> None:
    service = Service(bundle, version, settings)
    loop = asyncio.get_running_loop()
    application = _Http(service)
    server = Server(
        application, address=host, port=port, interface=Interfaces.RSGI, log_enabled=False, websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=15_000),
    )  # fmt: skip
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    try:
        await _until_listening(host, port, serving)
        announce()
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
        service.close()


async def _until_listening(host: str, port: int, serving: "asyncio.Task[None]") -> None:
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.002)
        else:
            writer.close()
            return
