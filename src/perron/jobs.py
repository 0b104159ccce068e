"""Batches that a server accepted in; their states out: a queue in SQLite that survives its processes.

    waiting ─▶ running ─▶ done | failed | cancelled          a batch
    waiting ─▶ delivered | failed                            its callback, where it has one

A process takes a batch by a lease, which it renews as it goes; one whose process died is taken again when
the lease is over, at what was committed. Bodies and results are files in a folder per batch, written by
attempts of their own names, so that a process that was only asleep writes where nobody looks any more.
Standard library alone; every method may be called on any thread.
"""

import contextlib
import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.errors import LedgerError, NotFound, PerronError
from perron.predictions import new_segment_name
from perron.sqlite import connect

__all__ = ["Full", "Job", "Jobs", "KeyTaken", "Lost", "to_json"]

LEASE_S = 10.0
MOST_ATTEMPTS = 5
DELIVER_S = 86_400.0  # how long a receiver is tried
FORMAT = 1
ENDED = ("done", "failed", "cancelled")
SCHEMA = """
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, model TEXT NOT NULL, version INTEGER NOT NULL, bundle TEXT NOT NULL,
  digest TEXT NOT NULL, kind TEXT NOT NULL, rows INTEGER NOT NULL, done INTEGER NOT NULL DEFAULT 0,
  bad INTEGER NOT NULL DEFAULT 0, fault TEXT, made REAL NOT NULL, started REAL, ended REAL, expires REAL,
  owner TEXT, lease REAL, attempt INTEGER NOT NULL DEFAULT 0, segment TEXT NOT NULL,
  wrote INTEGER NOT NULL DEFAULT 0,
  read_bytes INTEGER NOT NULL DEFAULT 0, result_bytes INTEGER NOT NULL DEFAULT 0, log_bytes INTEGER NOT NULL DEFAULT 0,
  key TEXT, request TEXT NOT NULL, token TEXT NOT NULL, UNIQUE (token, key)
);
CREATE INDEX jobs_state ON jobs (state, made);
CREATE TABLE deliveries (
  job TEXT PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE, id TEXT NOT NULL, url TEXT NOT NULL, state TEXT NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0, next REAL, until REAL, fault TEXT, owner TEXT, lease REAL
);
PRAGMA user_version = 1;
"""


class Full(PerronError):
    """As many batches wait as may."""


class KeyTaken(PerronError):
    """An idempotency key that came with another request before."""


class Lost(PerronError):
    """A batch that this process has no more: cancelled, or taken by another."""


@dataclass(frozen=True)
class Job:
    """A batch as the queue has it now; times are seconds since 1970."""

    id: str
    state: str
    model: str
    version: int
    bundle: str
    digest: str
    kind: str
    rows: int
    done: int
    bad: int
    fault: str | None
    made: float
    started: float | None
    ended: float | None
    expires: float | None
    owner: str | None
    lease: float | None
    attempt: int
    segment: str
    wrote: int
    read_bytes: int
    result_bytes: int
    log_bytes: int
    key: str | None
    request: str
    token: str
    delivery: Mapping[str, Any] | None = None

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED


class Jobs:
    """The queue of one project, shared by all processes of its servers.

    Args:
        database: the file.
        folder: for bodies and results.
        most_waiting: batches that may wait or run.
        keep_s: how long an ended one is kept.
        clock: seconds since 1970.

    Raises:
        LedgerError: it can't be opened.
    """

    def __init__(
        self,
        database: Path,
        folder: Path,
        *,
        most_waiting: int = 100,
        keep_s: float = 7 * 86_400,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self._database = folder, database
        self._most_waiting, self._keep_s, self._clock = most_waiting, keep_s, clock
        self._local = threading.local()
        self.me = f"{os.getpid()}:{secrets.token_hex(6)}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._transaction() as connection:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version > FORMAT:
                    raise LedgerError(f"{database} has format {version}, newer than this Perron's {FORMAT}; update perron.")  # fmt: skip
                if version == 0:
                    for statement in SCHEMA.split(";"):
                        connection.execute(statement)
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"The batches in {database} can't be opened: {error}.") from error

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection of this process."""
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None or self._local.pid != os.getpid():
            found = connect(self._database, "FULL")
            found.row_factory = sqlite3.Row
            found.execute("PRAGMA foreign_keys = ON")
            self._local.connection, self._local.pid = found, os.getpid()
        return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise LedgerError(f"The batches in {self._database} can't be written: {error}.") from error
        try:
            yield connection
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise LedgerError(f"The batches in {self._database} can't be written: {error}.") from error

    # -- from outside

    def accept(
        self,
        *,
        model: str,
        version: int,
        bundle: str,
        digest: str,
        kind: str,
        rows: int,
        body: bytes,
        request: str,
        token: str = "",
        key: str | None = None,
        callback: str | None = None,
    ) -> tuple[Job, bool]:
        """The batch, on the disk itself, and whether it is new: one of the same key and request is the one that there was.

        Args:
            model: its name; `version`, `bundle` (its folder) and `digest` say which answers.
            version: see there.
            bundle: see there.
            digest: see there.
            kind: `jsonl` or `csv`, or `place` for a source and a sink.
            rows: how many there are; -1 where that isn't known yet.
            body: the rows, or the source and sink as JSON.
            request: a digest of all that was asked.
            token: the name of the token that asked; each sees its own.
            key: of idempotency.
            callback: the URL that is told of the end.

        Raises:
            Full: too many wait.
            KeyTaken: the key came with another request.
            LedgerError: it can't be written.
        """
        job = secrets.token_hex(10)
        folder = self.folder / job
        try:
            folder.mkdir()
            _write_synced(folder / "body", body)
            with self._transaction() as connection:
                if key is not None:
                    known = connection.execute(
                        "SELECT id, request FROM jobs WHERE key = ? AND token = ?", (key, token)
                    ).fetchone()
                    if known is not None:
                        if known["request"] != request:
                            raise KeyTaken("This Idempotency-Key came with another request before; give a new one.")
                        shutil.rmtree(folder)
                        return self._get(connection, known["id"]), False
                under_way = "SELECT count(*) FROM jobs WHERE state IN ('waiting', 'running')"
                waiting = connection.execute(under_way).fetchone()[0]
                if waiting >= self._most_waiting:
                    raise Full(f"{waiting} batches wait, as many as may; come again later.")
                connection.execute(
                    "INSERT INTO jobs (id, state, model, version, bundle, digest, kind, rows, made, segment, key, request, token)"
                    " VALUES (?, 'waiting', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        job,
                        model,
                        version,
                        bundle,
                        digest,
                        kind,
                        rows,
                        self._clock(),
                        new_segment_name(),
                        key,
                        request,
                        token,
                    ),
                )
                if callback is not None:
                    connection.execute(
                        "INSERT INTO deliveries (job, id, url, state) VALUES (?, ?, ?, 'waiting')",
                        (job, secrets.token_hex(10), callback),
                    )
                made = self._get(connection, job)
            return made, True
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise LedgerError(f"The batch can't be kept in {folder}: {error.strerror}.") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def get(self, job: str) -> Job:
        """The batch.

        Raises:
            NotFound: there is none, or it was removed.
        """
        return self._get(self._connection(), job)

    def _get(self, connection: sqlite3.Connection, job: str) -> Job:
        row = connection.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
        if row is None:
            raise NotFound(f"There is no batch {job[:80]!r}; it may have been removed after its time.")
        told = connection.execute("SELECT state, tries, next, fault FROM deliveries WHERE job = ?", (job,)).fetchone()
        return Job(**dict(row), delivery=None if told is None else dict(told))

    def newest(self, limit: int, *, token: str | None, before: str | None = None) -> list[Job]:
        """The newest batches first, of one token or all (None); those made before another one where it is named.

        Raises:
            NotFound: there is no batch `before`.
        """
        connection = self._connection()
        first = self._get(connection, before) if before is not None else None
        rows = connection.execute(
            "SELECT id FROM jobs WHERE (:token IS NULL OR token = :token) AND (:made IS NULL OR (made, id) < (:made, :id))"
            " ORDER BY made DESC, id DESC LIMIT :limit",
            {"token": token, "made": first and first.made, "id": first and first.id, "limit": limit},
        )
        return [self._get(connection, row["id"]) for row in rows.fetchall()]

    def cancel(self, job: str) -> Job | None:
        """The batch, cancelled where it hadn't ended; None where it had, and is now removed.

        Raises:
            NotFound: there is none.
        """
        with self._transaction() as connection:
            found = self._get(connection, job)
            if not found.is_ended:
                self._end(connection, job, "cancelled", None)
                return self._get(connection, job)
            connection.execute("DELETE FROM jobs WHERE id = ?", (job,))
        shutil.rmtree(self.folder / job, ignore_errors=True)
        return None

    # -- from the processes that work

    def claim(self) -> Job | None:
        """The oldest batch that waits, or whose process died, now this one's; None where there is none."""
        now = self._clock()
        due = "SELECT 1 FROM jobs WHERE state = 'waiting' OR (state = 'running' AND lease < ?) LIMIT 1"
        if self._connection().execute(due, (now,)).fetchone() is None:  # without a lock that writers wait for
            return None
        with self._transaction() as connection:
            while True:
                row = connection.execute(
                    "SELECT id, attempt FROM jobs WHERE state = 'waiting' OR (state = 'running' AND lease < ?)"
                    " ORDER BY made, id LIMIT 1",
                    (now,),
                ).fetchone()
                if row is None:
                    return None
                if row["attempt"] < MOST_ATTEMPTS:
                    break
                self._end(connection, row["id"], "failed", f"{MOST_ATTEMPTS} processes that worked on it died.")
            connection.execute(
                "UPDATE jobs SET state = 'running', owner = ?, lease = ?, attempt = attempt + 1,"
                " started = coalesce(started, ?) WHERE id = ?",
                (self.me, now + LEASE_S, now, row["id"]),
            )
            return self._get(connection, row["id"])

    def commit(self, job: Job, **facts: Any) -> Job:
        """The batch with the new facts (`done`, `bad`, `rows`, `read_bytes`, …), its lease renewed.

        Raises:
            Lost: it was cancelled, or another process has it.
        """
        names = "".join(f", {name} = ?" for name in facts)
        with self._transaction() as connection:
            changed = connection.execute(
                f"UPDATE jobs SET lease = ?{names} WHERE id = ? AND state = 'running' AND owner = ? AND attempt = ?",
                (self._clock() + LEASE_S, *facts.values(), job.id, self.me, job.attempt),
            )
            if changed.rowcount != 1:
                raise Lost(f"The batch {job.id} isn't this process's any more.")
            return self._get(connection, job.id)

    def release(self, job: Job) -> None:
        """Gives a batch back, for the next that comes, when its process is told to stop."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE jobs SET state = 'waiting', owner = NULL, lease = NULL, attempt = attempt - 1"
                " WHERE id = ? AND state = 'running' AND owner = ? AND attempt = ?",
                (job.id, self.me, job.attempt),
            )

    def end(self, job: Job, state: str, fault: str | None = None) -> None:
        """Notes the end of a batch, and has its receiver told.

        Raises:
            Lost: it isn't this process's.
        """
        with self._transaction() as connection:
            mine = connection.execute(
                "SELECT 1 FROM jobs WHERE id = ? AND state = 'running' AND owner = ? AND attempt = ?",
                (job.id, self.me, job.attempt),
            ).fetchone()
            if mine is None:
                raise Lost(f"The batch {job.id} isn't this process's any more.")
            self._end(connection, job.id, state, fault)

    def _end(self, connection: sqlite3.Connection, job: str, state: str, fault: str | None) -> None:
        now = self._clock()
        connection.execute(
            "UPDATE jobs SET state = ?, fault = ?, ended = ?, expires = ?, owner = NULL, lease = NULL WHERE id = ?",
            (state, fault, now, now + self._keep_s, job),
        )
        connection.execute("UPDATE deliveries SET next = ?, until = ? WHERE job = ?", (now, now + DELIVER_S, job))

    def counts(self) -> dict[str, int]:
        """How many batches there are by state."""
        rows = self._connection().execute("SELECT state, count(*) AS n FROM jobs GROUP BY state").fetchall()
        return {row["state"]: row["n"] for row in rows}

    def sweep(self) -> int:
        """Removes what has been kept for its time, and folders that no batch has; how many batches that were."""
        now = self._clock()
        with self._transaction() as connection:
            old = [row["id"] for row in connection.execute("SELECT id FROM jobs WHERE expires < ?", (now,))]
            connection.executemany("DELETE FROM jobs WHERE id = ?", [(job,) for job in old])
            known = {row["id"] for row in connection.execute("SELECT id FROM jobs")}
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                # A young folder may be of a batch that is being accepted right now.
                if path.name in old or (path.name not in known and now - path.stat().st_mtime > 3600):
                    shutil.rmtree(path, ignore_errors=True)
        return len(old)

    # -- callbacks

    def claim_delivery(self, but_not: "frozenset[str]" = frozenset()) -> dict[str, Any] | None:
        """A delivery that is due, now this process's: `job`, `id`, `url`, `tries`; none to a URL that is in `but_not`."""
        now = self._clock()
        due = "SELECT 1 FROM deliveries WHERE state = 'waiting' AND next <= ? LIMIT 1"
        if self._connection().execute(due, (now,)).fetchone() is None:
            return None
        with self._transaction() as connection:
            for row in connection.execute(
                "SELECT * FROM deliveries WHERE state = 'waiting' AND next <= ? AND (lease IS NULL OR lease < ?)"
                " ORDER BY next",
                (now, now),
            ).fetchall():
                if row["url"] in but_not:
                    continue
                connection.execute(
                    "UPDATE deliveries SET owner = ?, lease = ? WHERE job = ?", (self.me, now + 6 * LEASE_S, row["job"])
                )
                return dict(row)
        return None

    def end_delivery(self, delivery: Mapping[str, Any], fault: str | None, wait_s: float = 0.0) -> None:
        """Notes a try: that it was taken (no fault), or why not; it is tried again after `wait_s`, until its time is over."""
        now = self._clock()
        state = "delivered" if fault is None else "waiting" if now + wait_s <= delivery["until"] else "failed"
        with self._transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET state = ?, tries = tries + 1, fault = ?, next = ?, owner = NULL, lease = NULL"
                " WHERE job = ? AND owner = ?",
                (state, fault, now + wait_s, delivery["job"], self.me),
            )


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def to_json(job: Job, place: str) -> dict[str, Any]:
    """What a client is told of a batch."""
    told = job.delivery
    return {
        "id": job.id, "state": job.state, "model": job.model, "version": job.version,
        "rows": None if job.rows < 0 else job.rows, "done": job.done, "bad": job.bad, "fault": job.fault,
        "made": _moment(job.made), "started": _moment(job.started), "ended": _moment(job.ended),
        "expires": _moment(job.expires), "predictions": f"{place}/predictions" if job.state == "done" and job.kind != "place" else None,
        "callback": None if told is None else {"state": told["state"], "tries": told["tries"], "fault": told["fault"]},
    }  # fmt: skip


def _moment(at: float | None) -> str | None:
    if at is None:
        return None
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    return f"{text}.{int(at * 1000) % 1000:03d}Z"
