"""SQLite files that several processes open, the very first time too."""

import sqlite3
from pathlib import Path
from typing import Any, Literal

from perron.locks import take

__all__ = ["BUSY_TIMEOUT_S", "connect", "switch_to_wal"]

BUSY_TIMEOUT_S = 60.0


def connect(
    path: Path, synchronous: Literal["FULL", "NORMAL"], *, check_same_thread: bool = True
) -> sqlite3.Connection:
    """A connection in write-ahead mode that waits for others and whose transactions are begun by hand.

    Args:
        path: the file; made when it isn't there, its folder is.
        synchronous: whether each commit survives a power cut, or only those before the last checkpoint.
        check_same_thread: as in `sqlite3.connect`.

    Raises:
        sqlite3.Error: it can't be opened, or isn't a database.
    """
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=check_same_thread
    )
    try:
        switch_to_wal(connection)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
    except BaseException:
        connection.close()
        raise
    return connection


def switch_to_wal(connection: Any) -> None:
    """Write-ahead mode. The switch doesn't heed the busy timeout, so that two first openers would race: a file
    lock orders them.

    Args:
        connection: of `sqlite3`, or what SQLAlchemy's events call so.

    Raises:
        sqlite3.Error: the file or its lock can't be written.
    """
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        return
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    if not path:
        return  # a database in memory
    try:
        with take(Path(f"{path}.lock")):
            connection.execute("PRAGMA journal_mode = WAL")
    except OSError as error:
        raise sqlite3.OperationalError(f"{path}.lock can't be written: {error.strerror}") from error
