"""HTTP in and out by granian's RSGI: translates to and from `perron.serve.app`, in one process and one event loop.

Several processes may listen on one port (`perron.serve.workers`): the kernel parts connections among them.
"""

import asyncio
import contextlib
import errno
import gc
import importlib.util
import ipaddress
import os
import signal
import socket
import zlib
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granian._granian import SocketHolder
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.rsgi import ProtocolClosed, ProtocolError  # type: ignore[attr-defined]
from granian.server.embed import Server

from perron.errors import LedgerError, MissingPackage, PerronError
from perron.plan import Memory
from perron.serve import inherited
from perron.serve.app import PLAIN_ACCEPT, Service, Settings
from perron.serve.oip import error_answer
from perron.serve.problem import PROBLEM, Answer, Stream
from perron.serve.readiness import demand_ready
from perron.serve.watch import Watcher

__all__ = ["Address", "check_grpc", "free_port", "serve"]

JSON_HEADERS = [("content-type", "application/json")]
CLOSE = ("connection", "close")
DRAIN_S = 10.0
BACKLOG = 4096  # connections that may wait to be accepted, and requests under way: what is bounded are rows
SWEEP_S = 1.0
BODY_GRACE_S = 2.0  # for bodies that are coming when the server is told to stop
ENCODINGS = ("gzip", "deflate")
MOST_MEMBERS = 64
IN_LOOP_BYTES = 1 << 15  # larger compressed bodies are opened on a thread


class _Http:
    """The RSGI application."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limit = service.settings.max_body_bytes
        self._under_way = 0
        self._is_draining = False
        # Requests whose body is still coming, and since when. One sweep a second looks after all of them:
        # a timer for each would cost every request more than its checks do.
        self._reading: dict[asyncio.Task[Any], float] = {}
        # Kept, since asking for the running loop asks the kernel for the process's id: 3 of 50 µs per request.
        self._loop = asyncio.get_running_loop()
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    async def __call__(self, scope: Any, protocol: Any) -> None:
        self._under_way += 1
        try:
            if self._service.watcher is None:
                await self._answer(scope, protocol)
            else:
                await self._answer_watched(self._service.watcher, scope, protocol)
        finally:
            self._under_way -= 1

    async def _answer_watched(self, watcher: Watcher, scope: Any, protocol: Any) -> None:
        watched = watcher.begin(scope.method, scope.path, scope.headers)
        status = 500
        try:
            status = await self._answer(scope, protocol, (("x-request-id", watched.request_id),))
        finally:
            token = self._service.guard.name_of(scope.headers)
            watcher.end(watched, status, token)

    def drain(self) -> None:
        """From now on every answer ends its connection (RFC 9112, section 9.6), so that clients come anew, to another process."""
        self._is_draining = True

    def stop_reading(self) -> None:
        """Gives bodies that are still coming a moment, then gives them up: a server that stops waits for no stalled client."""
        self._sweeper.cancel()
        self._loop.call_later(BODY_GRACE_S, self._give_up)

    def _give_up(self) -> None:
        for task in list(self._reading):
            task.cancel()

    def _sweep(self) -> None:
        for task, since in list(self._reading.items()):
            if self._loop.time() - since > self._service.settings.body_timeout_s:
                task.cancel()
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)

    async def _answer(self, scope: Any, protocol: Any, extra: tuple[tuple[str, str], ...] = ()) -> int:
        """Answers, and tells with which status; 499 where the client went away."""
        service, method, path, headers = self._service, scope.method, scope.path, scope.headers
        try:
            # The way that must be fast; what wants its answer in another form goes by the routes.
            is_prediction = method == "POST" and path == "/v1/predictions" and headers.get("accept") in PLAIN_ACCEPT
            if is_prediction:
                answer: Answer | Stream = await self._predict(headers, protocol)
            else:
                answer = await service.respond(
                    method, path, scope.query_string, headers, lambda limit: self._read(headers, protocol, limit),
                    is_alone=self._under_way == 1,
                )  # fmt: skip
                if path.startswith("/v2") and answer.content_type == PROBLEM:
                    answer = error_answer(answer)  # type: ignore[arg-type]  # a Stream has another type
            if self._is_draining and scope.http_version.startswith("1"):
                extra = (*extra, CLOSE)
            if service.decorates:
                extra = (*extra, *service.decoration(method, headers, answer))
            if is_prediction and answer.status == 200 and not extra:
                protocol.response_bytes(200, JSON_HEADERS, answer.body)  # type: ignore[union-attr]
            else:
                await self._send(method, answer, protocol, extra)
        except (ProtocolClosed, ProtocolError):  # the client went away in the middle of its body, or of the answer
            service.note_disconnect()
            return 499
        return answer.status

    async def _send(
        self, method: str, answer: Answer | Stream, protocol: Any, extra: tuple[tuple[str, str], ...]
    ) -> None:
        headers = [("content-type", answer.content_type), *answer.headers, *extra]
        if isinstance(answer, Stream):
            async with aclosing(answer.parts) as parts:
                transport = protocol.response_stream(answer.status, headers)
                async for part in parts:  # sending raises when the client has gone; a slow one's parts wait in memory
                    await transport.send_bytes(part)
        elif method == "HEAD":
            protocol.response_empty(answer.status, [*headers, ("content-length", str(len(answer.body)))])
        elif answer.status in (204, 304):
            protocol.response_empty(answer.status, headers[1:])
        else:
            protocol.response_bytes(answer.status, headers, answer.body)

    async def _predict(self, headers: Any, protocol: Any) -> Answer:
        if not self._service.guard.is_open:
            refused = self._service.admit(headers, "predict")
            if isinstance(refused, Answer):
                return refused
        kind = headers.get("content-type")
        if kind != "application/json" and kind is not None and not _is_json(kind):
            return self._service.refuse_type(kind)
        body = await self._read(headers, protocol, self._limit)
        if isinstance(body, Answer):
            return body
        try:
            return await self._service.predict(body, headers, is_alone=self._under_way == 1)
        except Exception:
            return self._service.failed("POST", "/v1/predictions")

    async def _read(self, headers: Any, protocol: Any, limit: int) -> bytes | Answer:
        """The body, or why it wasn't taken."""
        length = headers.get("content-length")
        if length is not None and (not (length.isascii() and length.isdigit()) or int(length) > limit):
            return self._service.refuse_size(limit)
        task = asyncio.current_task(self._loop)
        assert task is not None
        self._reading[task] = self._loop.time()
        try:
            body: bytes | None = await protocol() if length is not None else await _read_chunked(protocol, limit)
        except asyncio.CancelledError:
            return self._service.refuse_slow()
        except (ProtocolClosed, ProtocolError):
            return self._service.refuse_cut()  # who only stopped sending may still read it
        finally:
            del self._reading[task]
        if body is None:
            return self._service.refuse_size(limit)
        encoding = headers.get("content-encoding")
        return body if encoding is None else await self._decompressed(body, encoding, limit)

    async def _decompressed(self, body: bytes, encoding: str, limit: int) -> bytes | Answer:
        """The body as it was before it was compressed, no larger than the limit."""
        encoding = encoding.strip().lower()
        if encoding == "identity":
            return body
        if encoding not in ENCODINGS:
            detail = f"The body's encoding is {encoding[:40]!r}; send it as it is, or by {' or '.join(ENCODINGS)}."
            return self._service.refuse_encoding(detail, 415)
        try:
            if len(body) < IN_LOOP_BYTES:
                plain = _decompress(body, limit)
            else:
                plain = await self._service.run(_decompress, body, limit)
        except zlib.error as error:
            return self._service.refuse_encoding(f"The body isn't {encoding}: {error}.")
        return self._service.refuse_size(limit) if plain is None else plain


def _decompress(body: bytes, limit: int) -> bytes | None:
    """What was compressed by gzip (RFC 1952) or deflate (RFC 1950), or None when it is larger than the limit.

    Raises:
        zlib.error: it wasn't, or it is cut off.
    """
    parts: list[bytes] = []
    left = limit
    for _ in range(MOST_MEMBERS):  # gzip allows several, one after the other; each costs a copy of the rest
        member = zlib.decompressobj(zlib.MAX_WBITS | 32)
        part = member.decompress(body, left + 1)
        left -= len(part)
        if left < 0:
            return None
        if not member.eof:
            raise zlib.error("it is cut off")
        parts.append(part)
        body = member.unused_data
        if not body:
            return b"".join(parts)
    raise zlib.error(f"it has more than {MOST_MEMBERS} members")


async def _read_chunked(protocol: Any, limit: int) -> bytes | None:
    """The body of a request that doesn't say how long it is, or None when it is too long."""
    parts, size = [], 0
    async for part in protocol:
        size += len(part)
        if size > limit:
            return None
        parts.append(part)
    return b"".join(parts)


def _is_json(content_type: str) -> bool:
    """Whether it is application/json, in UTF-8 where it says a charset."""
    kind, _, rest = content_type.lower().partition(";")
    charset = rest.partition("charset=")[2].strip(' "')
    return kind.strip() == "application/json" and charset in ("", "utf-8", "utf8")


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, and that no other program is given before this process ends."""
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # whoever listens there by number may
    held.bind((host, 0))
    port = int(held.getsockname()[1])
    held.detach()  # which leaves it open
    return port


@dataclass(frozen=True)
class Address:
    """Where to listen, and with which certificate: `client_ca` asks clients for one of that authority (mutual TLS).

    `grpc_port` None: nothing answers over gRPC. `listen_fd` is a listening socket that this process was given, and
    others may have, too: it is accepted from instead of one of this process's own.
    """

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    grpc_port: int | None = None
    listen_fd: int | None = None
    drain_s: float = DRAIN_S

    @property
    def grpc_url(self) -> str | None:
        """Host and port as clients of gRPC take them; None where nothing answers."""
        if self.grpc_port is None:
            return None
        return f"[{self.host}]:{self.grpc_port}" if ":" in self.host else f"{self.host}:{self.grpc_port}"

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls_cert else 'http'}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][4][0]
        return ipaddress.ip_address(str(found).partition("%")[0]).is_loopback

    def check(self, *, is_guarded: bool) -> None:
        """Nothing, when it can and may be listened on; `is_guarded` says that not everybody gets in, or may.

        Raises:
            PerronError: it is taken, not allowed or not this machine's; it is public and everybody would get in; a
                certificate can't be read.
        """
        self._check_tls()
        if self.listen_fd is None:
            self._check_port(self.port, "--port")
        if self.grpc_port is not None:
            if self.grpc_port == self.port:
                raise PerronError(f"HTTP and gRPC can't both have port {self.port}; choose another --grpc-port.")
            self._check_port(self.grpc_port, "--grpc-port")
        if not is_guarded and not self.is_loopback:
            raise PerronError(
                f"{self.host} can be reached from outside, and nobody is asked for a token; make one with "
                "`perron token create` (a bundle alone is given them by PERRON_TOKENS), or say --allow-anonymous."
            )

    def _check_port(self, port: int, option: str) -> None:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(self.host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            hint = (
                f"another process listens there; choose another {option} (0 for any free one)"
                if error.errno == errno.EADDRINUSE
                else f"choose another --host or {option}"
            )
            raise PerronError(f"Can't listen on {self.host}:{port}: {error.strerror or error}; {hint}.") from error

    def _check_tls(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise PerronError("TLS needs both --tls-cert and --tls-key.")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise PerronError("--tls-client-ca needs --tls-cert and --tls-key, too.")
        if self.tls_cert is None:
            return
        import ssl  # not at the top: few servers end TLS themselves

        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls_cert, self.tls_key)
            if self.tls_client_ca is not None:
                context.load_verify_locations(self.tls_client_ca)
        except (OSError, ssl.SSLError) as error:
            raise PerronError(f"The certificate or its key can't be used: {error}.") from error


def check_grpc() -> None:
    """Nothing, when gRPC is installed.

    Raises:
        MissingPackage: it isn't.
    """
    for module in ("grpc", "google.protobuf"):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise MissingPackage(f"Serving over gRPC needs {module}: pip install 'perron[grpc]'")


def serve(settings: Settings, memory: Memory, address: Address, *, announce: Callable[[Service], None]) -> None:
    """Answers until SIGINT or SIGTERM, then finishes what is under way and returns.

    Args:
        settings: of the service.
        memory: whose plan is followed.
        address: free, or one that the server's other workers listen on.
        announce: called once predictions are answered.

    Raises:
        PerronError: nothing can be loaded, or the log can't be written.
    """
    run: Callable[[Any], None] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(_serve(settings, memory, address, announce))


async def _serve(settings: Settings, memory: Memory, address: Address, announce: Callable[[Service], None]) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    service = Service(settings, memory)
    await service.start()
    if address.listen_fd is not None:
        try:
            await demand_ready(service)  # before it accepts anything: another process answers until then
        except PerronError:
            await service.close()
            raise
    grpc_server = None
    if address.grpc_url is not None:
        from perron.serve.grpc import Server as GrpcServer  # an extra, and not before a fork: it starts threads

        grpc_server = GrpcServer(service, address.grpc_url, address.tls_cert, address.tls_key, address.tls_client_ca)
        await grpc_server.start()
    gc.collect()
    gc.freeze()  # what serving keeps for ever is never looked at again: no pauses for it
    application = _Http(service)
    server = _Server(
        application, address=address.host, port=address.port, interface=Interfaces.RSGI, log_enabled=False,
        websockets=False, http1_settings=HTTP1Settings(header_read_timeout=15_000), backlog=BACKLOG,
        backpressure=BACKLOG, ssl_cert=address.tls_cert, ssl_key=address.tls_key, ssl_ca=address.tls_client_ca,
        ssl_client_verify=address.tls_client_ca is not None,
    )  # fmt: skip
    server.listen_fd = address.listen_fd
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    try:
        await _until_listening(address, server, serving)
        announce(service)
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if address.listen_fd is not None and not serving.done():
            application.drain()
            await inherited.drain(address.listen_fd, serving, address.drain_s)
        service.is_ready = False
        if serving.done():
            serving.result()
            raise LedgerError("The HTTP server stopped by itself; start it again.")
        application.stop_reading()
        server.stop()  # type: ignore[no-untyped-call]  # granian has no annotation there
        draining = [serving]
        if grpc_server is not None:
            draining.append(asyncio.create_task(grpc_server.stop(DRAIN_S)))
        await asyncio.wait(draining, timeout=DRAIN_S)
    finally:
        stopping.cancel()
        await service.close(drain_s=1.0)


class _Server(Server):
    """granian's server within this event loop, on the listening socket that it is given where there is one."""

    listen_fd: int | None = None

    def _init_shared_socket(self) -> None:
        if self.listen_fd is None:
            super()._init_shared_socket()  # type: ignore[no-untyped-call]
            return
        self._ssp = None  # what would make a socket of its own
        # It closes what it holds. granian's own types know neither the class's arguments nor the attributes.
        holder: Any = SocketHolder(os.dup(self.listen_fd), False, BACKLOG)  # type: ignore[call-arg]
        self.__dict__.update(_shd=holder, _sfd=holder.get_fd())


async def _until_listening(address: Address, server: Server, serving: "asyncio.Task[None]") -> None:
    while not serving.done():
        if address.listen_fd is not None:  # a connection would tell nothing: another process may take it
            if server.wrks:
                return
            await asyncio.sleep(0.002)
            continue
        try:
            _, writer = await asyncio.open_connection(address.host, address.port)
        except OSError:
            await asyncio.sleep(0.002)
        else:
            writer.close()
            return
