"""A path in; the lock of that name out, which one process of a machine has at a time, and which dies with it."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from perron.errors import LedgerError

__all__ = ["alone", "take"]

LOOK_EVERY_S = 0.02


def take(path: Path, *, waits: bool = True) -> IO[bytes]:
    """The lock, held until it is closed; whoever holds it may remove its file.

    Args:
        path: of its file, which is made; its folder too.
        waits: until nobody else holds it.

    Raises:
        BlockingIOError: another one holds it, and this doesn't wait.
        OSError: the file can't be made.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, "ab")  # noqa: SIM115 (the caller closes it)
        try:
            while not _has(lock, waits=waits):
                time.sleep(LOOK_EVERY_S)  # the system's own wait would sleep through an interrupt just before it
            if os.stat(path).st_ino == os.fstat(lock.fileno()).st_ino:
                return lock
        except FileNotFoundError:  # removed in this very moment
            pass
        except BaseException:
            lock.close()
            raise
        lock.close()


def _has(lock: IO[bytes], *, waits: bool) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not waits:
            raise
        return False
    return True


@contextmanager
def alone(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the lock, and removes its file in the end.

    Args:
        path: of its file.
        on_wait: called once, when another one holds it.

    Raises:
        LedgerError: the file can't be made.
    """
    try:
        try:
            lock = take(path, waits=False)
        except BlockingIOError:
            on_wait()
            lock = take(path)
    except OSError as error:
        raise LedgerError(f"The lock {path} can't be had: {error.strerror}.") from error
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
