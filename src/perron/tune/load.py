"""Requests and a number of connections in; how many were answered, refused or failed, and how soon, out.

Over bare sockets on one event loop: a client library costs more per request than the server that is
measured. In a closed loop each connection asks again once it was answered. In an open one requests
come at a rate, whatever becomes of those before them, and a request's time runs from when it was
due: a server that stalls is charged for those who waited (what G. Tene calls coordinated omission).
"""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from perron.errors import PerronError

__all__ = ["Load", "Target", "send"]

LATE_S = 5.0  # answers that come so long after the end are waited for
CONNECT_S = 10.0
HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Target:
    """Where requests go; `token` is a bearer token."""

    host: str
    port: int
    path: str
    is_tls: bool = False
    token: str | None = None

    @classmethod
    def of(cls, url: str, path: str, token: str | None = None) -> "Target":
        """The target of a server's URL; a path of its own goes before the other.

        Raises:
            PerronError: it isn't a URL of HTTP.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise PerronError(f"{url!r} isn't a URL: {error}.") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PerronError(f"Expected a URL such as http://127.0.0.1:8000, got {url!r}.")
        return cls(parts.hostname, port, parts.path.rstrip("/") + path, parts.scheme == "https", token)

    def request(self, body: bytes) -> bytes:
        """A POST of JSON as it goes over the wire."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        token = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {host}:{self.port}\r\n{token}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass
class Load:
    """What became of the requests of one run.

    `answered` by 200; `refused` by 429 or 503; `failed`: every other status, by number, and connections that
    broke, as 0. `times_s` are those of what was answered, sorted. `own_share` is how much of the time this
    process itself was busy: near 1 it is what limits, and not the server.
    """

    connections: int
    seconds: float = 0.0
    answered: int = 0
    refused: int = 0
    failed: dict[int, int] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    unsent: int = 0
    own_share: float = 0.0
    words: str = ""  # of the first failure

    @property
    def rate(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float | None:
        """The time within which that share of the answers came; None without answers."""
        if not self.times_s:
            return None
        return self.times_s[min(int(share * len(self.times_s)), len(self.times_s) - 1)] * 1e3


async def send(
    target: Target, bodies: Sequence[bytes], *, connections: int, seconds: float, rate: float | None = None
) -> Load:
    """What became of requests with these bodies, in turn, for so long.

    Args:
        target: that answers.
        bodies: at least one.
        connections: kept open; in an open loop the most that are under way at once.
        seconds: how long requests are begun.
        rate: requests per second of an open loop; None: a closed loop.

    Raises:
        PerronError: nothing can be reached.
    """
    driver = _Driver([target.request(body) for body in bodies], Load(connections), rate)
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context() if target.is_tls else None
    try:
        async with asyncio.timeout(CONNECT_S):
            for _ in range(connections):
                await driver.connect(loop, target, context)
    except (OSError, TimeoutError) as error:
        driver.close()
        raise PerronError(f"Nothing answers at {target.host}:{target.port}: {error or 'no connection'}.") from error
    used, started = time.process_time(), time.perf_counter()
    driver.begin(started, started + seconds)
    if rate is not None:
        await driver.keep_rate()
    await asyncio.sleep(max(started + seconds - time.perf_counter(), 0))
    found = driver.load
    found.seconds = time.perf_counter() - started
    found.own_share = (time.process_time() - used) / found.seconds
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LATE_S):
            await driver.until_idle()
    driver.close()
    found.times_s.sort()
    return found


class _Driver:
    """Hands requests to connections, and notes what becomes of them."""

    def __init__(self, requests: list[bytes], load: Load, rate: float | None) -> None:
        self._requests, self.load, self._rate = requests, load, rate
        self._turn = 0
        self._ends_at = self._started = 0.0
        self._connections: list[_Connection] = []
        self._free: deque[_Connection] = deque()
        self._due: deque[float] = deque()
        self._idle: asyncio.Future[None] | None = None
        self._reconnects: set[asyncio.Task[None]] = set()
        self._again: Callable[[], asyncio.Task[None]] | None = None

    async def connect(self, loop: asyncio.AbstractEventLoop, target: Target, context: ssl.SSLContext | None) -> None:
        def make() -> "_Connection":
            return _Connection(self)

        _, connection = await loop.create_connection(make, target.host, target.port, ssl=context)
        self._connections.append(connection)
        self._free.append(connection)
        self._again = lambda: loop.create_task(self._reconnect(loop, target, context))

    async def _reconnect(self, loop: asyncio.AbstractEventLoop, target: Target, context: ssl.SSLContext | None) -> None:
        with contextlib.suppress(OSError):
            await self.connect(loop, target, context)
            self.give(self._free.pop())

    def begin(self, started: float, ends_at: float) -> None:
        self._started, self._ends_at = started, ends_at
        if self._rate is None:
            for _ in range(len(self._free)):
                self.give(self._free.popleft())

    async def keep_rate(self) -> None:
        """Makes requests due, evenly, until the end."""
        assert self._rate is not None
        made, total = 0, int(self._rate * (self._ends_at - self._started))
        while made < total:
            now = time.perf_counter()
            until = min(int((now - self._started) * self._rate) + 1, total)
            while made < until:
                self._due.append(self._started + made / self._rate)
                made += 1
            while self._due and self._free:
                self._free.popleft().ask(self._next(), self._due.popleft())
            await asyncio.sleep(0.001)

    def _next(self) -> bytes:
        self._turn += 1
        return self._requests[self._turn % len(self._requests)]

    def give(self, connection: "_Connection") -> None:
        """The next request for a connection, where there is one."""
        now = time.perf_counter()
        if self._rate is not None:
            if self._due and now < self._ends_at:
                connection.ask(self._next(), self._due.popleft())
                return
        elif now < self._ends_at:
            connection.ask(self._next(), now)
            return
        self._free.append(connection)
        if self._idle is not None and not self._idle.done() and not self.is_busy:
            self._idle.set_result(None)

    @property
    def is_busy(self) -> bool:
        return any(connection.asked is not None for connection in self._connections)

    async def until_idle(self) -> None:
        """Returns once nothing is under way."""
        self.load.unsent = len(self._due)
        if self.is_busy:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    def note(self, status: int, took_s: float, words: bytes) -> None:
        """Notes an answer; one that came after the end counts for its time, not for the rate."""
        load = self.load
        is_late = load.seconds > 0
        if status == 200:
            load.times_s.append(took_s)
            load.answered += not is_late
        elif status in (429, 503):
            load.refused += not is_late
        else:
            load.failed[status] = load.failed.get(status, 0) + 1
            load.words = load.words or words[:300].decode(errors="replace")

    def lost(self, connection: "_Connection") -> None:
        """A connection broke: what it had asked failed, and another takes its place."""
        if connection in self._connections:
            self._connections.remove(connection)
        with contextlib.suppress(ValueError):
            self._free.remove(connection)
        if connection.asked is not None:
            self.note(0, 0.0, b"the connection broke")
        if self._again is not None and time.perf_counter() < self._ends_at:
            task = self._again()
            self._reconnects.add(task)
            task.add_done_callback(self._reconnects.discard)

    def close(self) -> None:
        self._again = None
        for task in list(self._reconnects):
            task.cancel()
        for connection in list(self._connections):
            connection.asked = None
            connection.close()


class _Connection(asyncio.Protocol):
    """One kept-alive connection of HTTP/1.1: a request, then its answer."""

    def __init__(self, driver: _Driver) -> None:
        self._driver = driver
        self._got = b""
        self.asked: float | None = None  # when what is under way was due
        self._transport: Any = None  # uvloop's isn't a class of asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def ask(self, request: bytes, due: float) -> None:
        self.asked = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got = data = self._got + data if self._got else data
        head_end = data.find(HEAD_END)
        if head_end < 0:
            return
        head = data[:head_end].lower()
        body_start = head_end + len(HEAD_END)
        place = head.find(b"content-length:")
        if place >= 0:
            line_end = head.find(b"\r\n", place)
            length = int(head[place + 15 : line_end if line_end >= 0 else len(head)])
            if len(data) < body_start + length:
                return
        elif not data.endswith(b"0\r\n\r\n"):  # in chunks (RFC 9112, section 7.1), of which the last is empty
            return
        self._got = b""
        if self.asked is None:
            return
        took, self.asked = time.perf_counter() - self.asked, None
        self._driver.note(int(head[9:12]), took, data[body_start:])
        if b"connection: close" in head:
            self.close()
        else:
            self._driver.give(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._driver.lost(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
