"""Observations in; a durable journal of them, shared by the processes of a project, out: one SQLite file per model.

One entry per series, moment and field, the newest; bounded, since what a state lets go is deleted.
"""

import contextlib
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from perron.errors import LedgerError
from perron.sqlite import connect

__all__ = ["Cut", "Entry", "Journal"]

FORMAT = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS observed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL, series TEXT NOT NULL, time NUMERIC NOT NULL, field TEXT NOT NULL,
    value REAL, seen REAL NOT NULL,
    UNIQUE (scope, series, time, field)
);
CREATE TABLE IF NOT EXISTS kept (scope TEXT PRIMARY KEY, moments INTEGER NOT NULL);
"""


class Entry(NamedTuple):
    """A field's value at a moment of a series; None where the moment was seen without it. `seen` is seconds since 1970."""

    scope: str
    series: str
    time: int | float
    field: str
    value: float | None
    seen: float


class Cut(NamedTuple):
    """Moments of a series that a state let go: those before a time, or all of them."""

    scope: str
    series: str
    before: int | float | None


class Journal:
    """The journal at a path; made when it isn't there.

    What is written survives the death of the process, and a power cut from the next checkpoint on;
    with `sync` at once. Not thread safe.

    Raises:
        LedgerError: it can't be opened, or isn't a journal of this format.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        self._path = path
        self._last, self._version = 0, -1
        self._news: list[Entry] = []
        with self._told():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = connect(path, "FULL" if sync else "NORMAL", check_same_thread=False)
            weakref.finalize(self, self._db.close)  # of a bundle that a server lets go
            with self._writing():
                found = self._db.execute("PRAGMA user_version").fetchone()[0]
                if found > FORMAT:
                    raise LedgerError(f"{path} has format {found}, newer than this Perron's {FORMAT}; update perron.")
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {FORMAT}")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"The history {self._path} can't be read or written: {error}.") from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def agree(self, scope: str, moments: int) -> int:
        """How many moments of a series to keep: the most that any version of the model asked for."""
        with self._told(), self._writing():
            self._db.execute(
                "INSERT INTO kept VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET moments = max(moments, excluded.moments)",
                (scope, moments),
            )
            found: int = self._db.execute("SELECT moments FROM kept WHERE scope = ?", (scope,)).fetchone()[0]
        return found

    def news(self) -> list[Entry]:
        """What others wrote since the last call, oldest first; at first all there is. A few microseconds when it is nothing."""
        with self._told():
            self._look()
        news, self._news = self._news, []
        return news

    def _look(self) -> None:
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._version = version
            found = self._db.execute(
                "SELECT number, scope, series, time, field, value, seen FROM observed WHERE number > ? ORDER BY number",
                (self._last,),
            ).fetchall()
            if found:
                self._last = found[-1][0]
                self._news += [Entry(*row[1:]) for row in found]

    def write(self, entries: Sequence[Entry], cuts: Sequence[Cut] = ()) -> None:
        """Keeps the entries, all or none; one without a value leaves a value that is there.

        Raises:
            LedgerError: the disk is full, or the file can't be written.
        """
        if not entries and not cuts:
            return
        with self._told(), self._writing():
            self._look()  # what others wrote has smaller numbers than what comes now, and would be passed over
            self._db.executemany(
                "INSERT OR REPLACE INTO observed (scope, series, time, field, value, seen) VALUES (?, ?, ?, ?, ?, ?)",
                [entry for entry in entries if entry.value is not None],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO observed (scope, series, time, field, value, seen) VALUES (?, ?, ?, ?, ?, ?)",
                [entry for entry in entries if entry.value is None],
            )
            for cut in cuts:
                self._db.execute(
                    "DELETE FROM observed WHERE scope = ? AND series = ?"
                    + ("" if cut.before is None else " AND time < ?"),
                    (cut.scope, cut.series) if cut.before is None else (cut.scope, cut.series, cut.before),
                )
            self._last = max(self._last, self._db.execute("SELECT max(number) FROM observed").fetchone()[0] or 0)

    def forget(self, moments: Iterable[tuple[str, str, int | float]]) -> None:
        """Deletes the entries of moments: scope, series and time. States that have read them keep them until they are opened again.

        Raises:
            LedgerError: the file can't be written.
        """
        with self._told(), self._writing():
            self._db.executemany("DELETE FROM observed WHERE scope = ? AND series = ? AND time = ?", moments)

    def close(self) -> None:
        self._db.close()
