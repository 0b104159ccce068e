"""A connection and a number of seconds in; what is done with it ends by then."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

__all__ = ["deadline"]


@contextlib.contextmanager
def deadline(seconds: float, connection: Callable[[], socket.socket | None]) -> Iterator[threading.Event]:
    """Shuts the connection after that time: a socket's own timeout begins anew with every byte.

    Args:
        seconds: from now.
        connection: gives the socket as it is then (TLS may have replaced it), or None.

    Yields:
        what is set once the time is over.
    """
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        found = connection()
        if found is not None:
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(seconds, end)
    watch.daemon = True
    watch.start()
    try:
        yield is_over
    finally:
        watch.cancel()
