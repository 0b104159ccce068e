"""A bundle in; an ASGI 3 application out, to be run by any ASGI server or mounted in another application.

    app = FastAPI()
    app.mount("/houses", serve.asgi("house-prices-bundle"))

It is the service of `perron serve`, with its checks, log, receipts and pages, without a project: there
is one version, and outcomes aren't kept. Under a prefix all of its paths are below the prefix.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from perron.bundle import Bundle, load
from perron.serve.alone import Alone
from perron.serve.app import Service, Settings
from perron.serve.problem import Answer, Stream

__all__ = ["Application", "asgi"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
DRAIN_S = 10.0


def asgi(
    bundle: Bundle | str | Path,
    *,
    log_folder: str | Path = "predictions",
    version: int = 1,
    max_rows: int = 10_000,
    max_body_bytes: int = 16 << 20,
    body_timeout_s: float = 30.0,
    sync: bool = False,
    queue_rows: int = 20_000,
) -> "Application":
    """The application.

    Args:
        bundle: opened, or its folder.
        log_folder: where every prediction is logged before it is answered; made when it isn't there.
        version: what replies and receipts call it.
        max_rows: the most rows of one request.
        max_body_bytes: the most bytes of one request.
        body_timeout_s: how long a body may take to come.
        sync: answers wait until the log is on the disk itself.
        queue_rows: how many rows may wait.

    Raises:
        BundleError: the folder isn't a bundle, or is damaged.
    """
    opened = bundle if isinstance(bundle, Bundle) else load(bundle)
    settings = Settings(
        Path(log_folder), max_rows=max_rows, max_body_bytes=max_body_bytes, body_timeout_s=body_timeout_s, sync=sync,
        queue_rows=queue_rows,
    )  # fmt: skip
    return Application(settings, Alone(opened.name, opened.path, opened.digest, settings.log_folder, version))


class _Gone(Exception):
    """The client went away before its body was there."""


class Application:
    """The ASGI application. Its service starts with the server's lifespan, or, mounted without one, with the first request.

    An event loop has a service of its own, which is closed with the loop's lifespan, with `aclose`, or
    when another loop finds the loop closed.
    """

    def __init__(self, settings: Settings, memory: Alone) -> None:
        self._settings, self._memory = settings, memory
        self._services: dict[asyncio.AbstractEventLoop, asyncio.Task[Service]] = {}
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "lifespan":
                await self._live(receive, send)
            case "http":
                self._under_way += 1
                try:
                    await self._answer(await self._service(), scope, receive, send)
                finally:
                    self._under_way -= 1
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1003, "reason": "There are no websockets here."})

    async def aclose(self) -> None:
        """Finishes what is under way in this event loop and closes its log; a later request starts anew."""
        starting = self._services.pop(asyncio.get_running_loop(), None)
        if starting is not None:
            await (await starting).close(drain_s=DRAIN_S)

    async def _service(self) -> Service:
        """The running loop's service, started."""
        loop = asyncio.get_running_loop()
        starting = self._services.get(loop)
        if starting is None:
            self._bury()
            starting = self._services[loop] = loop.create_task(self._start())
        try:
            return await asyncio.shield(starting)  # one request that goes away mustn't undo the start of all
        except BaseException:
            if starting.done() and (starting.cancelled() or starting.exception()):
                self._services.pop(loop, None)  # the next request tries again
            raise

    def _bury(self) -> None:
        """Closes the logs of loops that ended without a word."""
        for loop, starting in list(self._services.items()):
            if loop.is_closed():
                del self._services[loop]
                if starting.done() and not starting.cancelled() and not starting.exception():
                    starting.result().models.close()

    async def _start(self) -> Service:
        service = Service(self._settings, self._memory)
        await service.start()
        return service

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self._service()
                except Exception as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _headers(scope["headers"])
        method: str = scope["method"]
        query = scope.get("query_string", b"").decode("latin-1")

        async def read(limit: int) -> bytes | Answer:
            return await self._read(service, headers, receive, limit)

        try:
            answer = await service.respond(method, _path(scope), query, headers, read, is_alone=self._under_way == 1)
        except _Gone:
            service.note_disconnect()
            return
        try:
            if isinstance(answer, Stream):
                await _send_parts(service, answer, receive, send)
            else:
                await _send(method, answer, send)
        except OSError:  # the client went away; servers say so by this
            service.note_disconnect()

    async def _read(self, service: Service, headers: dict[str, str], receive: Receive, limit: int) -> bytes | Answer:
        length = headers.get("content-length")
        if length is not None and (not (length.isascii() and length.isdigit()) or int(length) > limit):
            return service.refuse_size(limit)
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > limit:
                        return service.refuse_size(limit)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            return service.refuse_slow()


def _path(scope: Scope) -> str:
    """The path below the prefix that the application is mounted under."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        path = path[len(prefix) :]
    return path or "/"


def _headers(raw: Any) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in raw:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _start_of(answer: Answer | Stream, *more: tuple[str, str]) -> dict[str, Any]:
    headers = [*answer.headers, *more]
    if answer.status not in (204, 304):
        headers.append(("content-type", answer.content_type))
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": answer.status, "headers": raw}


async def _send(method: str, answer: Answer, send: Send) -> None:
    length = () if answer.status in (204, 304) else (("content-length", str(len(answer.body))),)
    await send(_start_of(answer, *length))
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


async def _send_parts(service: Service, answer: Stream, receive: Receive, send: Send) -> None:
    """Sends part after part, until the last or until the client goes away."""

    async def until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    leaving = asyncio.create_task(until_gone())
    try:
        async with aclosing(answer.parts) as parts:
            await send(_start_of(answer))
            async for part in parts:
                if leaving.done():
                    service.note_disconnect()
                    return
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
