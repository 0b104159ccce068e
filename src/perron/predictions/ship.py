"""A log in; what is new in it out to other places: object storage, a database, standard output.

The log on the local disk is always written first and keeps its promise; from there rows go on within
seconds. How far each place has come is kept beside the log, so that a restart goes on there. Places:

    stdout:                       a JSON object a line
    postgresql+psycopg://…        (any SQLAlchemy URL) the table perron_predictions, one row per prediction
    s3://bucket/prefix, gs://…,   (any fsspec URL) objects of JSON lines, named by segment and place
    file:///folder

A database and object storage have every prediction once, whatever is killed when; standard output at
least once.
"""

import fcntl
import hashlib
import importlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from perron.errors import LedgerError, MissingPackage, PerronError
from perron.predictions import Recorded, closed, read_segment, segments
from perron.store import write_atomically

__all__ = ["Place", "Shipper", "drop_sent", "open_place"]

FOLDER = ".ship"
CHUNK_ROWS = 5000
LONGEST_PAUSE_S = 60.0
TABLE = "perron_predictions"
logger = logging.getLogger("perron.serve")


class Place(Protocol):
    """Where predictions go.

    The law, but for standard output: `put` called again with the same name, and the same rows or more,
    leaves every row there once. A name tells the segment and the first row.
    """

    def put(self, name: str, rows: Sequence[dict[str, Any]]) -> None: ...


class _Stdout:
    def put(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        sys.stdout.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        sys.stdout.flush()


class _Objects:
    def __init__(self, url: str) -> None:
        try:
            fsspec = importlib.import_module("fsspec")
            self._system, self._path = fsspec.core.url_to_fs(url)
        except ImportError as error:
            raise MissingPackage(f"Writing to {url.partition(':')[0]}:// needs another package: {error}.") from error
        except (ValueError, OSError) as error:
            raise LedgerError(f"The log can't be sent to {url}: {error}.") from error

    def put(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        self._system.makedirs(self._path, exist_ok=True)
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        self._system.pipe_file(f"{self._path}/{name}.jsonl", data)


class _Table:
    def __init__(self, url: str) -> None:
        try:
            self._sa: Any = importlib.import_module("sqlalchemy")
            self._engine = self._sa.create_engine(url)
        except ModuleNotFoundError as error:
            raise MissingPackage(
                f"Sending the log to a database needs {error.name}: pip install 'perron[postgres]'."
            ) from error
        except Exception as error:
            raise LedgerError(f"The log can't be sent to {_shown(url)}: {error}".splitlines()[0]) from error
        sa = self._sa
        self._table = sa.Table(
            TABLE, sa.MetaData(),
            sa.Column("id", sa.String(64), primary_key=True),
            *(sa.Column(name, sa.Text) for name in ("time", "route", "model")),
            sa.Column("version", sa.Integer),
            *(sa.Column(name, sa.Text) for name in ("bundle", "input", "value", "probabilities", "trace")),
        )  # fmt: skip
        self._is_made = False

    def put(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        sa, table = self._sa, self._table
        written = [
            {
                name: json.dumps(value, ensure_ascii=False) if name in ("input", "value", "probabilities") else value
                for name, value in row.items()
            }
            for row in rows
        ]
        try:
            with self._engine.begin() as connection:
                if not self._is_made:
                    table.create(connection, checkfirst=True)
                    self._is_made = True
                ids = [row["id"] for row in written]
                there: set[str] = set()
                for at in range(0, len(ids), 500):
                    known = connection.execute(sa.select(table.c.id).where(table.c.id.in_(ids[at : at + 500])))
                    there.update(known.scalars())
                new = [row for row in written if row["id"] not in there]
                if new:
                    connection.execute(table.insert(), new)
        except sa.exc.SQLAlchemyError as error:
            self._is_made = False
            raise LedgerError(
                f"The database refused the log: {getattr(error, 'orig', None) or error}".splitlines()[0]
            ) from error


def open_place(url: str) -> Place:
    """The place of that URL.

    Raises:
        LedgerError: it can't be one.
        MissingPackage: a package that it needs isn't installed.
    """
    scheme = url.partition(":")[0].lower()
    if url in ("stdout:", "-"):
        return _Stdout()
    if not re.match(r"[a-z][a-z0-9+]+://", url):
        raise LedgerError(
            f"The log can't be sent to {url!r}; use stdout:, s3://…, file:///… or postgresql+psycopg://…."
        )
    return _Table(url) if scheme.partition("+")[0] in ("postgresql", "sqlite", "mysql") else _Objects(url)


def _shown(url: str) -> str:
    """The URL without a password."""
    return re.sub(r"(?<=://)([^:@/]*):[^@]*@", r"\1:***@", url)


class _Came(NamedTuple):
    """How far a segment was sent: the last id (ids ascend), and where to read on while the file is still the same."""

    id: str = ""
    place: int = 0
    inode: int = 0


class Shipper:
    """Sends a log to places, again and again by `ship`. Not thread safe.

    Args:
        folder: of the log.
        urls: of the places.
        opener: makes a place of a URL.
    """

    def __init__(self, folder: Path, urls: Sequence[str], opener: Callable[[str], Place] = open_place) -> None:
        self._folder, self._opener = folder, opener
        self._urls = list(urls)
        self._places: dict[str, Place] = {url: opener(url) for url in urls}  # so that what can't be is said at once
        self._locks: dict[str, int] = {}
        self._pause: dict[str, tuple[float, float]] = {}  # a place that failed: not before then, and how long next

    def ship(self) -> dict[str, int]:
        """How many predictions each place was sent now; a place that fails is tried again later, and the log says so."""
        done = {}
        for url in self._urls:
            until, pause = self._pause.get(url, (0.0, 1.0))
            if time.monotonic() < until or not self._has_lock(url):
                continue
            try:
                done[_shown(url)] = self._ship_to(url)
                self._pause.pop(url, None)
            except Exception as error:
                words = str(error) if isinstance(error, PerronError) else f"{type(error).__name__}: {error}"
                logger.error("the prediction log waits for %s: %s", _shown(url), words.splitlines()[0])
                self._pause[url] = (time.monotonic() + pause, min(2 * pause, LONGEST_PAUSE_S))
        return done

    @property
    def failing(self) -> list[str]:
        """The places that failed last."""
        return [_shown(url) for url in self._pause]

    def _ship_to(self, url: str) -> int:
        came, count, known = self._read_places(url), 0, set()
        for path in segments(self._folder):
            known.add(path.stem)
            last = came.get(path.stem, _Came())
            try:
                facts = path.stat()
            except FileNotFoundError:  # an empty one that its writer removed meanwhile
                continue
            is_same = last.inode == facts.st_ino
            if is_same and path.suffix == ".jsonl" and facts.st_size <= last.place:
                continue
            if is_same and path.suffix == ".parquet":
                continue  # never changes; what is read of it is read to its end
            rows: list[dict[str, Any]] = []
            end = place = last.place if is_same else 0
            for recorded, after in read_segment(path, place):
                if recorded.id > last.id:
                    if len(rows) >= CHUNK_ROWS and after != end:
                        count += self._put(url, came, path.stem, rows, _Came(rows[-1]["id"], end, facts.st_ino))
                        rows = []
                    rows.append(_row(recorded))
                end = after
            now = _Came(rows[-1]["id"] if rows else last.id, end, facts.st_ino)
            count += self._put(url, came, path.stem, rows, now)
        gone = set(came) - known
        if gone:
            self._write_places(url, {name: place for name, place in came.items() if name not in gone})
        return count

    def _put(self, url: str, came: "dict[str, _Came]", segment: str, rows: list[dict[str, Any]], now: "_Came") -> int:
        if rows:
            self._places[url].put(rows[0]["id"].rpartition("-")[0], rows)
        if came.get(segment) != now:
            came[segment] = now
            self._write_places(url, came)
        return len(rows)

    def _file(self, url: str) -> Path:
        return _file_of(self._folder, url)

    def _read_places(self, url: str) -> "dict[str, _Came]":
        try:
            kept = json.loads(self._file(url).with_suffix(".json").read_bytes())["segments"]
        except (OSError, ValueError, KeyError):
            return {}
        return {name: _Came(*place) for name, place in kept.items()}

    def _write_places(self, url: str, came: "dict[str, _Came]") -> None:
        kept = {"format": 1, "place": _shown(url), "segments": {name: list(place) for name, place in came.items()}}
        write_atomically(self._file(url).with_suffix(".json"), json.dumps(kept))

    def _has_lock(self, url: str) -> bool:
        """Whether this process sends to the place: of several servers on one folder, one does."""
        if url in self._locks:
            return True
        path = self._file(url).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._locks[url] = handle
        return True

    def close(self) -> None:
        for handle in self._locks.values():
            os.close(handle)
        self._locks.clear()


def drop_sent(folder: Path, urls: Sequence[str]) -> int:
    """How many complete segments were deleted, since each of these places has all of them.

    For disks that are small and end with their container. What a writer is at stays, and so does everything while one of
    the places has nothing yet.
    """
    came: list[dict[str, Any]] = []
    for url in urls:
        try:
            came.append(json.loads(_file_of(folder, url).with_suffix(".json").read_bytes())["segments"])
        except (OSError, ValueError, KeyError):
            return 0
    done = 0
    for path in segments(folder) if came else ():
        if path.suffix != ".jsonl":
            continue
        with closed(path) as is_closed:
            if not is_closed:
                continue
            facts = path.stat()
            ends = [places.get(path.stem, ("", -1, 0))[1:] for places in came]
            if all(place >= facts.st_size and inode == facts.st_ino for place, inode in ends):
                path.unlink()
                done += 1
    return done


def _file_of(folder: Path, url: str) -> Path:
    """What is known of a place, without a suffix."""
    return folder / FOLDER / hashlib.sha256(_shown(url).encode()).hexdigest()[:16]


def _row(recorded: Recorded) -> dict[str, Any]:
    header = recorded.header
    return {
        "id": recorded.id, "time": recorded.time, "route": recorded.route, "model": header["model"],
        "version": header["version"], "bundle": header["bundle"], "input": recorded.input, "value": recorded.value,
        "probabilities": recorded.probabilities, "trace": recorded.trace,
    }  # fmt: skip
