"""A listening socket that this process was given in; requests accepted from it, and none of them lost when it is to end, out.

A supervisor (`perron.targets.supervisor`) opens one socket and hands it to every version's process in turn. Two may
accept from it at once; connections that wait in its queue belong to neither, so that none is lost when one goes.
"""

import asyncio
import contextlib
import json
import os
import socket
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perron.errors import PerronError

__all__ = ["Inherited", "drain"]

LISTEN_FD, READY_FD, DEPLOYMENT, DRAIN = (
    "PERRON_LISTEN_FD", "PERRON_READY_FD", "PERRON_DEPLOYMENT", "PERRON_DRAIN_S",
)  # fmt: skip
LOOK_EVERY_S = 0.02
REPLACE_TRIES = 10


@dataclass(frozen=True)
class Inherited:
    """What a supervisor gave to this process.

    Args:
        listen_fd: the listening socket; None: it opens its own.
        ready_fd: where `ready` is written once requests are accepted.
        deployment: what receipts say of the deployment: `environment` and `id`.
        drain_s: how long idle connections are waited for at the end.
    """

    listen_fd: int | None = None
    ready_fd: int | None = None
    deployment: Mapping[str, Any] | None = None
    drain_s: float = 10.0

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> "Inherited":
        """What the environment's variables tell.

        Raises:
            PerronError: they tell of a socket that isn't there.
        """
        listen_fd = _number(LISTEN_FD, variables)
        if listen_fd is not None and not _is_listening(listen_fd):
            raise PerronError(f"{LISTEN_FD} is {listen_fd}, which is no listening socket of this process; unset it.")
        told = variables.get(DEPLOYMENT)
        return cls(
            listen_fd,
            _number(READY_FD, variables),
            None if told is None else json.loads(told),
            float(variables.get(DRAIN, cls.drain_s)),
        )

    def leave(self) -> None:
        """Ends the process at once where it answered at a socket that it was given, so that all is flushed and nothing else is run.

        granian's threads may yet ask for an interpreter that is being taken down, and abort the process for it.
        """
        if self.listen_fd is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    def say_ready(self) -> None:
        """Tells the supervisor that requests are accepted now."""
        if self.ready_fd is not None:
            os.write(self.ready_fd, b"ready\n")


def _number(name: str, variables: Mapping[str, str]) -> int | None:
    text = variables.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise PerronError(f"{name} is {text[:40]!r}; it is the number of a file descriptor, and set by a supervisor.")
    return int(text)


def _is_listening(descriptor: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(descriptor)) as known:
            return bool(known.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


async def drain(listening: int, serving: "asyncio.Task[None]", within_s: float) -> None:
    """Accepts nothing more, and returns once every connection is closed, the time is over, or serving ended by itself."""
    with socket.socket(fileno=os.dup(listening)) as known:
        port = known.getsockname()[1]
    _accept_no_more(listening)
    loop = asyncio.get_running_loop()
    end = loop.time() + within_s
    while loop.time() < end and not serving.done() and _connections(port):
        await asyncio.sleep(LOOK_EVERY_S)


def _accept_no_more(listening: int) -> None:
    """Puts a socket that nobody connects to in the place of every descriptor of the listening one.

    Nothing else will do: closing it would leave it in the HTTP server's epoll while others have it open, and shutting
    it down would shut it for them, too. What the server accepted stays, and what it didn't waits for the others.
    """
    wanted = os.fstat(listening).st_ino
    with socket.socket(fileno=os.dup(listening)) as known:
        family = known.family
    with socket.socket(family) as silent:
        silent.setblocking(False)  # or its server's next accept would wait for ever
        silent.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        silent.listen(1)
        for _ in range(REPLACE_TRIES):
            left = [descriptor for descriptor, inode in _sockets().items() if inode == wanted]
            if not left:
                break
            for descriptor in left:
                with contextlib.suppress(OSError):  # another thread opens or closes just then: looked at again
                    os.dup2(silent.fileno(), descriptor)


def _sockets() -> dict[int, int]:
    """The descriptors of this process that are sockets, each with its inode."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            known = os.fstat(int(name))
        except OSError:  # closed meanwhile, as the listing's own is
            continue
        if stat.S_ISSOCK(known.st_mode):
            found[int(name)] = known.st_ino
    return found


def _connections(port: int) -> int:
    """How many connections to that port this process has."""
    count = 0
    for descriptor in _sockets():
        try:
            with socket.socket(fileno=os.dup(descriptor)) as one:
                if one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port:
                    one.getpeername()
                    count += 1
        except OSError:
            continue
    return count
