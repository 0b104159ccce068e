"""The value of a contract's Id in; the predictions that were made of it out.

The index is made from the log, and only as far as it is needed: each look-up first reads what was
logged since the last one. It can be deleted at any time.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from perron.errors import LedgerError
from perron.predictions import read_segment, segments
from perron.sqlite import BUSY_TIMEOUT_S

__all__ = ["forget_index", "predictions_of"]

FILE = ".index.db"


def predictions_of(folder: Path, model: str, field: str, value: Any, *, until: str | None = None) -> list[str]:
    """The ids of a model's predictions of rows with that value in that field, newest first.

    Args:
        folder: of the log.
        model: its name.
        field: the contract's Id, usually.
        value: as the log has it: text, a number, or the digest of a sensitive one.
        until: only predictions that were made at that time or before (ISO 8601 in UTC); None for all.

    Raises:
        LedgerError: the index can't be read or written.
    """
    try:
        with _open(folder) as database:
            _update(database, folder, model, field)
            found = database.execute(
                "SELECT prediction FROM ids WHERE model = ? AND field = ? AND value = ? AND time <= ? ORDER BY time DESC, prediction DESC",
                (model, field, _text(value), until or "9999"),
            )
            return [row[0] for row in found]
    except sqlite3.Error as error:
        raise LedgerError(f"The index {folder / FILE} failed: {error}; delete it, it is made anew.") from error


@contextmanager
def _open(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / FILE, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")  # what is lost is read again
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "CREATE TABLE IF NOT EXISTS read (segment TEXT, model TEXT, field TEXT, place INTEGER, PRIMARY KEY (segment, model, field))"
        )
        database.execute(
            "CREATE TABLE IF NOT EXISTS ids (model TEXT, field TEXT, value TEXT, time TEXT, prediction TEXT)"
        )
        database.execute("CREATE INDEX IF NOT EXISTS ids_by_value ON ids (model, field, value)")
        try:
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


def _update(database: sqlite3.Connection, folder: Path, model: str, field: str) -> None:
    known = dict(
        database.execute("SELECT segment, place FROM read WHERE model = ? AND field = ?", (model, field)).fetchall()
    )
    for path in segments(folder):
        place = known.get(path.name, 0)
        if path.suffix == ".parquet" and place == 0 and known.get(f"{path.stem}.jsonl"):
            # Compacted since: what was read of it as lines isn't read again.
            _drop(database, path.stem)
        if path.suffix == ".jsonl" and path.stat().st_size == place:
            continue
        found, end = [], place
        for recorded, after in read_segment(path, place):
            end = after
            if recorded.header["model"] == model and recorded.input.get(field) is not None:
                found.append((model, field, _text(recorded.input[field]), recorded.time, recorded.id))
        if end != place:
            database.executemany("INSERT INTO ids VALUES (?, ?, ?, ?, ?)", found)
            database.execute("INSERT OR REPLACE INTO read VALUES (?, ?, ?, ?)", (path.name, model, field, end))


def _drop(database: sqlite3.Connection, segment: str) -> None:
    database.execute("DELETE FROM ids WHERE prediction GLOB ?", (f"{segment}-*",))
    database.execute("DELETE FROM read WHERE segment = ?", (f"{segment}.jsonl",))


def forget_index(folder: Path) -> None:
    """Deletes the index: it is made anew from what the log still holds."""
    for path in folder.glob(f"{FILE}*"):
        path.unlink(missing_ok=True)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
