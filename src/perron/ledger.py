"""Runs, steps, artifacts, metrics, versions, aliases and outcomes in; the edges between them out.

One database: SQLite in `.perron/ledger.db` unless a URL names another. Times are ISO 8601 in UTC.
Transactions are short and take the write lock at their start, so that several processes wait for
each other instead of failing; the schema is created and migrated under that lock.
"""

import contextlib
import json
import os
import secrets
import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from perron import clock
from perron.errors import DataError, DeploymentError, LedgerError, MissingPackage, NotFound, nearest
from perron.sqlite import BUSY_TIMEOUT_S, switch_to_wal

__all__ = ["BY_GATES", "CHAMPION", "Ledger", "is_automatic", "now"]

CHAMPION = "champion"
BY_GATES = "passed the gates in run "  # how the reason of an automatic promotion begins

metadata = sa.MetaData()
_time, _digest = sa.String(32), sa.String(64)

perron_ledger = sa.Table("perron_ledger", metadata, sa.Column("format", sa.Integer, nullable=False))
runs = sa.Table(
    "runs", metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("system", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),  # running, done, refused, failed, killed
    sa.Column("started", _time, nullable=False),
    sa.Column("ended", _time),
    sa.Column("message", sa.Text),
    sa.Column("code_commit", sa.String(64)),
    sa.Column("code_dirty", _digest),  # digest of the uncommitted changes, null when there are none
    sa.Column("contract", _digest),  # a blob: the contract as JSON
    sa.Column("environment", _digest),  # a blob: Python and the packages with their versions
    sa.Column("host", sa.Text),
    sa.Column("pid", sa.Integer),
)  # fmt: skip
steps = sa.Table(
    "steps", metadata,
    sa.Column("run", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("key", _digest, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),  # running, done, cached, failed
    sa.Column("started", _time, nullable=False),
    sa.Column("seconds", sa.Float),
)  # fmt: skip
results = sa.Table(  # what a step with this key gave: the cache
    "results", metadata,
    sa.Column("key", _digest, primary_key=True),
    sa.Column("step", sa.String(80), nullable=False),
    sa.Column("output", sa.Text, nullable=False),  # JSON
    sa.Column("run", sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("made", _time, nullable=False),
)  # fmt: skip
artifacts = sa.Table(  # an edge: this run's step read or wrote this blob
    "artifacts", metadata,
    sa.Column("run", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("step", sa.String(80), primary_key=True),
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("direction", sa.String(3), primary_key=True),  # in, out
    sa.Column("digest", _digest, nullable=False, index=True),
    sa.Column("bytes", sa.BigInteger),
)  # fmt: skip
metrics = sa.Table(
    "metrics", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run", sa.ForeignKey("runs.id"), nullable=False, index=True),
    sa.Column("name", sa.String(120), nullable=False),
    sa.Column("part", sa.String(40), nullable=False),  # test, baseline, train …
    sa.Column("step", sa.Integer),  # of a curve; null for a single number
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("time", _time, nullable=False),
)  # fmt: skip
params = sa.Table(
    "params", metadata,
    sa.Column("run", sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),  # JSON
)  # fmt: skip
versions = sa.Table(
    "versions", metadata,
    sa.Column("model", sa.String(120), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("bundle", _digest, nullable=False),
    sa.Column("path", sa.Text, nullable=False),  # of the bundle's folder, relative to the ledger's where it can be
    sa.Column("run", sa.ForeignKey("runs.id"), nullable=False),
    sa.Column("made", _time, nullable=False),
    sa.UniqueConstraint("model", "bundle"),
)  # fmt: skip
aliases = sa.Table(  # events: the newest per model and alias is in force, and says what it replaced
    "aliases", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(120), nullable=False, index=True),
    sa.Column("alias", sa.String(40), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("replaced", sa.Integer),
    sa.Column("reason", sa.Text),
    sa.Column("time", _time, nullable=False),
)  # fmt: skip
outcomes = sa.Table(  # events: the newest per prediction is in force
    "outcomes", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("prediction", sa.String(64), nullable=False, index=True),
    sa.Column("value", sa.Text, nullable=False),  # JSON
    sa.Column("time", _time, nullable=False),
)  # fmt: skip
routings = sa.Table(  # events: the newest per model is in force
    "routings", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String(120), nullable=False, index=True),
    sa.Column("routing", sa.Text, nullable=False),  # JSON, as perron.deployments reads it
    sa.Column("reason", sa.Text),
    sa.Column("time", _time, nullable=False),
)  # fmt: skip
tokens = sa.Table(
    "tokens", metadata,
    sa.Column("sha256", _digest, primary_key=True),  # of the token, which is kept nowhere
    sa.Column("name", sa.String(120), nullable=False, unique=True),
    sa.Column("scopes", sa.Text, nullable=False),  # joined by blanks
    sa.Column("requests_per_s", sa.Float),
    sa.Column("made", _time, nullable=False),
    sa.Column("expires", _time),
    sa.Column("revoked", _time),
)  # fmt: skip
deployments = sa.Table(
    "deployments", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("time", _time, nullable=False),
    sa.Column("environment", sa.String(20), nullable=False, index=True),
    sa.Column("target", sa.String(20), nullable=False),
    sa.Column("model", sa.String(120), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("bundle", _digest, nullable=False),
    sa.Column("image", sa.Text),  # the image's reference, where there is one
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("replaced", sa.Integer),  # the deployment that was live before
    sa.Column("state", sa.String(16), nullable=False),  # starting, live, failed, replaced, rolled_back, stopped
    sa.Column("changed", _time, nullable=False),  # when it came into that state
    sa.Column("detail", sa.Text, nullable=False),  # JSON
    sa.Column("approvals", sa.Text, nullable=False),  # JSON: those that it counted on
)  # fmt: skip
approvals = sa.Table(
    "approvals", metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("time", _time, nullable=False),
    sa.Column("environment", sa.String(20), nullable=False),
    sa.Column("model", sa.String(120), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("bundle", _digest, nullable=False, index=True),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
)  # fmt: skip
FIRST = (perron_ledger, runs, steps, results, artifacts, metrics, params, versions, aliases, outcomes)


def _first(connection: sa.Connection) -> None:
    metadata.create_all(connection, tables=FIRST)


def _second(connection: sa.Connection) -> None:
    metadata.create_all(connection, tables=(routings, tokens))


def _third(connection: sa.Connection) -> None:
    metadata.create_all(connection, tables=(deployments, approvals))


# Each brings a ledger from the format before it to its own; none is ever changed after a release.
MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (_first, _second, _third)
FORMAT = len(MIGRATIONS)


def now() -> str:
    """The time in UTC, to the millisecond: `2026-11-23T22:25:00.123Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _known_at() -> str:
    """When an outcome is known: now, which is the replay's time in a replay."""
    return clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_automatic(event: Mapping[str, Any]) -> bool:
    """Whether a run made this alias event, and not a person."""
    return str(event["reason"] or "").startswith(BY_GATES)


class Ledger:
    """The database of runs, artifacts, versions, aliases and outcomes.

    Thread safe. Several processes may open one at once, for the first time included.

    Raises:
        LedgerError: it can't be opened, or was written by a newer Perron.
    """

    def __init__(self, url: str, *, folder: Path | None = None) -> None:
        self.folder = folder
        try:
            self._engine = sa.create_engine(url)
            if self._engine.dialect.name == "sqlite":
                sa.event.listen(self._engine, "connect", _set_up_sqlite)
                sa.event.listen(self._engine, "begin", _begin_immediate)
            self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            self._migrate()
        except ModuleNotFoundError as error:
            raise MissingPackage(
                f"A ledger in {_dialect(url)} needs {error.name}: pip install 'perron[postgres]' brings psycopg, "
                "for postgresql+psycopg://…"
            ) from error
        except (sa.exc.SQLAlchemyError, OSError) as error:
            reason = getattr(error, "orig", None) or error
            raise LedgerError(f"The ledger {_shown(url)} can't be opened: {reason}".splitlines()[0]) from error

    @classmethod
    def at(cls, folder: Path, url: str | None = None) -> "Ledger":
        """The ledger of a `.perron` folder, created when it isn't there.

        Raises:
            LedgerError: it can't be opened.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"The folder {folder} can't be written: {error.strerror}.") from error
        return cls(url or f"sqlite:///{folder / 'ledger.db'}", folder=folder)

    def _migrate(self) -> None:
        with self._reader.connect() as connection:  # without the lock: the usual case is that all is done
            if self._format_of(connection) == FORMAT:
                return
        with self._engine.begin() as connection:
            _lock(connection)
            found = self._format_of(connection)
            if found > FORMAT:
                raise LedgerError(f"The ledger has format {found}, newer than this Perron's {FORMAT}; update perron.")
            for migrate in MIGRATIONS[found:]:
                migrate(connection)
            connection.execute(perron_ledger.delete())
            connection.execute(perron_ledger.insert().values(format=FORMAT))

    @staticmethod
    def _format_of(connection: sa.Connection) -> int:
        if connection.dialect.name == "sqlite":
            # Not sa.inspect: its import costs a cached run a tenth of its time.
            found = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE name = 'perron_ledger'").first()
            there = found is not None
        else:
            there = sa.inspect(connection).has_table("perron_ledger")
        return int(connection.execute(sa.select(perron_ledger.c.format)).scalar() or 0) if there else 0

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A short transaction that holds the write lock; rolled back when its body raises.

        Raises:
            LedgerError: the database fails or stays locked for a minute.
        """
        try:
            with self._engine.begin() as connection:
                _lock(connection)
                yield connection
        except sa.exc.SQLAlchemyError as error:
            raise LedgerError(f"The ledger failed: {getattr(error, 'orig', None) or error}".splitlines()[0]) from error

    def close(self) -> None:
        self._engine.dispose()

    def copy_to(self, path: Path, *, without: Iterable[sa.Table] = ()) -> bool:
        """Whether the database, as it is now, was written to a file, but for the rows of some tables; False where it is a
        server's, which others reach by the same URL.

        Raises:
            LedgerError: the file can't be written.
        """
        if self._engine.dialect.name != "sqlite":
            return False
        try:
            with contextlib.closing(sqlite3.connect(path)) as copy:
                with contextlib.closing(sqlite3.connect(str(self._engine.url.database))) as own:
                    own.backup(copy)
                for table in without:
                    copy.execute(f"DELETE FROM {table.name}")
                copy.commit()
                copy.execute("PRAGMA journal_mode = DELETE")
                copy.execute("VACUUM")  # so that no page keeps what was deleted
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"The ledger can't be copied to {path}: {error}.") from error
        return True

    # -- runs

    def start_run(self, system: str, **facts: Any) -> str:
        """The id of a new run, in status running."""
        started = datetime.now(UTC)
        run = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        with self.transaction() as connection:
            self._bury_killed(connection)
            connection.execute(
                runs.insert().values(
                    id=run,
                    system=system,
                    status="running",
                    started=now(),
                    host=socket.gethostname(),
                    pid=os.getpid(),
                    **facts,
                )
            )
        return run

    def _bury_killed(self, connection: sa.Connection) -> None:
        """Marks runs of this host as killed whose process is gone."""
        running = connection.execute(
            sa.select(runs.c.id, runs.c.pid).where(runs.c.status == "running", runs.c.host == socket.gethostname())
        )
        for run, pid in running.all():
            if not _is_alive(pid):
                connection.execute(runs.update().where(runs.c.id == run).values(status="killed", ended=now()))

    def end_run(self, run: str, status: str, message: str | None = None) -> None:
        with self.transaction() as connection:
            connection.execute(
                runs.update().where(runs.c.id == run).values(status=status, ended=now(), message=message)
            )

    def get_run(self, run: str) -> dict[str, Any]:
        """The run's row, with its steps, metrics and params.

        Raises:
            NotFound: there is no such run.
        """
        with self._reader.connect() as connection:
            row = connection.execute(sa.select(runs).where(runs.c.id == run)).mappings().first()
            if row is None:
                raise NotFound(f"There is no run {run!r}; `perron runs` lists them.")
            found = dict(row)
            found["steps"] = _rows(
                connection,
                sa.select(steps.c.name, steps.c.status, steps.c.seconds)
                .where(steps.c.run == run)
                .order_by(steps.c.started),
            )
            found["metrics"] = _rows(
                connection,
                sa.select(metrics.c.name, metrics.c.part, metrics.c.step, metrics.c.value).where(metrics.c.run == run),
            )
            found["params"] = {
                name: json.loads(value)
                for name, value in connection.execute(
                    sa.select(params.c.name, params.c.value).where(params.c.run == run)
                )
            }
        return found

    def list_runs(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest runs first, each with its test metrics."""
        with self._reader.connect() as connection:
            found = _rows(
                connection,
                sa.select(runs.c.id, runs.c.system, runs.c.status, runs.c.started, runs.c.ended, runs.c.message)
                .order_by(runs.c.started.desc())
                .limit(limit),
            )
            for run in found:
                scores = connection.execute(
                    sa.select(metrics.c.name, metrics.c.value).where(
                        metrics.c.run == run["id"], metrics.c.part == "test", metrics.c.step.is_(None)
                    )
                )
                run["metrics"] = {score.name: score.value for score in scores}
        return found

    # -- steps

    def find_result(self, key: str) -> Any | None:
        """The output of a step that was done with this key, or None."""
        with self._reader.connect() as connection:
            text = connection.execute(sa.select(results.c.output).where(results.c.key == key)).scalar()
        return None if text is None else json.loads(text)

    def step_outputs(self, step: str) -> list[dict[str, Any]]:
        """What a step gave in every run that came through it, newest run first: `run`, `system`, `started`, `status`,
        `contract`, `code_commit`, `output`."""
        with self._reader.connect() as connection:
            found = _rows(
                connection,
                sa.select(
                    runs.c.id.label("run"), runs.c.system, runs.c.started, runs.c.status, runs.c.contract,
                    runs.c.code_commit, results.c.output,
                )
                .join(steps, steps.c.run == runs.c.id)
                .join(results, results.c.key == steps.c.key)
                .where(steps.c.name == step, steps.c.status.in_(("done", "cached")))
                .order_by(runs.c.started.desc(), runs.c.id.desc()),
            )  # fmt: skip
        return [{**row, "output": json.loads(row["output"])} for row in found]

    def remember(self, key: str, step: str, output: Any, run: str) -> None:
        """Records an output under a key, in place of what was there."""
        with self.transaction() as connection:
            _put_result(connection, key, step, output, run)

    def step_key(self, run: str, step: str) -> str | None:
        """The key that a run's step had, or None when the run didn't come to it."""
        with self._reader.connect() as connection:
            return connection.execute(sa.select(steps.c.key).where(steps.c.run == run, steps.c.name == step)).scalar()

    def start_step(self, run: str, name: str, key: str) -> None:
        with self.transaction() as connection:
            connection.execute(steps.insert().values(run=run, name=name, key=key, status="running", started=now()))

    def end_step(
        self, run: str, name: str, status: str, seconds: float, *, key: str | None = None, output: Any = None
    ) -> None:
        """Ends a step; with `key`, its output is what every later step with that key has."""
        with self.transaction() as connection:
            connection.execute(
                steps.update().where(steps.c.run == run, steps.c.name == name).values(status=status, seconds=seconds)
            )
            if key is not None:
                _put_result(connection, key, name, output, run)

    def log_cached_steps(self, run: str, cached: Iterable[tuple[str, str]]) -> None:
        """Records steps (name, key) that had nothing to do."""
        rows = [
            {"run": run, "name": name, "key": key, "status": "cached", "started": now(), "seconds": 0.0}
            for name, key in cached
        ]
        if rows:
            with self.transaction() as connection:
                connection.execute(steps.insert(), rows)

    def log_artifacts(self, run: str, step: str, direction: str, blobs: Mapping[str, tuple[str, int | None]]) -> None:
        """Records the edges between a run's step and the blobs (name → digest, bytes) that it read or wrote."""
        rows = [
            {"run": run, "step": step, "name": n, "direction": direction, "digest": d, "bytes": b}
            for n, (d, b) in blobs.items()
        ]
        if rows:
            with self.transaction() as connection:
                connection.execute(artifacts.insert(), rows)

    # -- numbers

    def log_metrics(self, run: str, part: str, values: Mapping[str, float] | Iterable[tuple[str, int, float]]) -> None:
        """Records single numbers (name → value), or points of curves (name, step, value), in one transaction."""
        triples = (
            [(name, None, value) for name, value in values.items()] if isinstance(values, Mapping) else list(values)
        )
        rows = [
            {"run": run, "part": part, "name": name, "step": step, "value": value, "time": now()}
            for name, step, value in triples
        ]
        if rows:
            with self.transaction() as connection:
                connection.execute(metrics.insert(), rows)

    def log_params(self, run: str, values: Mapping[str, Any]) -> None:
        rows = [{"run": run, "name": name, "value": json.dumps(value)} for name, value in values.items()]
        if rows:
            with self.transaction() as connection:
                connection.execute(params.insert(), rows)

    # -- versions and aliases

    def register(self, model: str, bundle: str, path: str, run: str) -> int:
        """The version of a bundle: a new one, or the one that the same bundle already has."""
        with self.transaction() as connection:
            known = connection.execute(
                sa.select(versions.c.version).where(versions.c.model == model, versions.c.bundle == bundle)
            ).scalar()
            if known is not None:
                return int(known)
            last = connection.execute(
                sa.select(sa.func.max(versions.c.version)).where(versions.c.model == model)
            ).scalar()
            version = int(last or 0) + 1
            connection.execute(
                versions.insert().values(model=model, version=version, bundle=bundle, path=path, run=run, made=now())
            )
        return version

    def set_alias(self, model: str, alias: str, version: int, reason: str | None = None) -> None:
        """Points an alias at a version; what it pointed at before is kept in the event.

        Raises:
            NotFound: there is no such version.
        """
        self.get_version(model, version)
        with self.transaction() as connection:
            replaced = self._alias(connection, model, alias)
            if replaced and replaced["version"] == version:
                return
            connection.execute(
                aliases.insert().values(
                    model=model,
                    alias=alias,
                    version=version,
                    replaced=replaced and replaced["version"],
                    reason=reason,
                    time=now(),
                )
            )

    def alias_before(self, model: str, alias: str, event: int) -> dict[str, Any] | None:
        """The event that was in force before the event of that id, or None."""
        with self._reader.connect() as connection:
            older = sa.select(aliases).where(aliases.c.model == model, aliases.c.alias == alias, aliases.c.id < event)
            row = connection.execute(older.order_by(aliases.c.id.desc()).limit(1)).mappings().first()
        return dict(row) if row else None

    @staticmethod
    def _alias(connection: sa.Connection, model: str, alias: str) -> dict[str, Any] | None:
        row = (
            connection.execute(
                sa.select(aliases)
                .where(aliases.c.model == model, aliases.c.alias == alias)
                .order_by(aliases.c.id.desc())
                .limit(1)
            )
            .mappings()
            .first()
        )
        return dict(row) if row else None

    def get_alias(self, model: str, alias: str) -> dict[str, Any] | None:
        """The event in force for an alias (`version`, `replaced`, `reason`, `time`), or None."""
        with self._reader.connect() as connection:
            return self._alias(connection, model, alias)

    def get_version(self, model: str, reference: str | int = CHAMPION) -> dict[str, Any]:
        """A version's row, by number or alias.

        Raises:
            NotFound: no such model, version or alias.
        """
        with self._reader.connect() as connection:
            number: int | None = None
            if isinstance(reference, int) or str(reference).isdigit():
                number = int(reference)
            else:
                event = self._alias(connection, model, str(reference))
                number = event["version"] if event else None
            row = None
            if number is not None:
                row = (
                    connection.execute(
                        sa.select(versions).where(versions.c.model == model, versions.c.version == number)
                    )
                    .mappings()
                    .first()
                )
            if row is not None:
                return dict(row)
            known = connection.execute(sa.select(versions.c.model).distinct()).scalars().all()
        if model not in known:
            raise NotFound(
                f"There is no model {model!r} yet; `perron run` makes one."
                if not known
                else f"There is no model {model!r}; {nearest(model, known)}"
            )
        raise NotFound(f"{model} has no version {reference!r}; `perron models` lists them.")

    def list_versions(self, model: str | None = None) -> list[dict[str, Any]]:
        """Every version, newest first, with the aliases that point at it."""
        with self._reader.connect() as connection:
            wanted = sa.select(versions).order_by(versions.c.model, versions.c.version.desc())
            found = _rows(connection, wanted.where(versions.c.model == model) if model else wanted)
            newest = sa.select(sa.func.max(aliases.c.id)).group_by(aliases.c.model, aliases.c.alias)
            inforce = _rows(connection, sa.select(aliases).where(aliases.c.id.in_(newest)))
        for row in found:
            row["aliases"] = sorted(
                a["alias"] for a in inforce if (a["model"], a["version"]) == (row["model"], row["version"])
            )
        return found

    def bundle_path(self, version: Mapping[str, Any]) -> Path:
        """The folder of a version's bundle."""
        path = Path(version["path"])
        return path if path.is_absolute() or self.folder is None else self.folder / path

    # -- routings

    def add_routing(self, model: str, routing: Mapping[str, Any], reason: str | None = None) -> int:
        """The number of a new decision on how a model's requests are parted; it is in force from now on."""
        with self.transaction() as connection:
            made = connection.execute(
                routings.insert().values(model=model, routing=json.dumps(routing), reason=reason, time=now())
            )
            key = made.inserted_primary_key
            assert key is not None
            return int(key[0])

    def list_routings(self, model: str, limit: int = 1) -> list[dict[str, Any]]:
        """The newest decisions of a model first (`id`, `routing`, `reason`, `time`); the first is in force."""
        with self._reader.connect() as connection:
            wanted = sa.select(routings).where(routings.c.model == model).order_by(routings.c.id.desc()).limit(limit)
            found = _rows(connection, wanted)
        for row in found:
            row["routing"] = json.loads(row["routing"])
        return found

    # -- deployments

    def start_deployment(self, is_alive: Callable[[Mapping[str, Any]], bool], **facts: Any) -> dict[str, Any]:
        """The row of a new deployment in state starting; what is live in its environment is what it replaces.

        Args:
            is_alive: whether whoever began a deployment that is still starting, by its `detail`, is at it yet; one
                that was given up becomes failed.
            facts: `environment`, `target`, `model`, `version`, `bundle`, `image`, `who`, `reason`, and `detail` and
                `approvals` as values.

        Raises:
            DeploymentError: another one is under way there.
        """
        environment = facts["environment"]
        with self.transaction() as connection:
            for row in self._deployments(connection, deployments.c.environment == environment, "starting"):
                if is_alive(row["detail"]):
                    raise DeploymentError(
                        f"{row['who']} is deploying version {row['version']} to {environment} since {row['time']}; "
                        "wait until that is done (`perron status` tells), then deploy again."
                    )
                note = {**row["detail"], "failure": "the process that deployed was killed"}
                self._set_state(connection, row["id"], "failed", detail=json.dumps(note))
            here = deployments.c.environment == environment
            live = self._deployments(connection, here, "live") or self._deployments(connection, here, "stopped", 1)
            values = {
                **facts, "detail": json.dumps(facts["detail"]), "approvals": json.dumps(facts["approvals"]),
                "replaced": live[0]["id"] if live else None, "time": now(), "changed": now(), "state": "starting",
            }  # fmt: skip
            key = connection.execute(deployments.insert().values(values)).inserted_primary_key
            assert key is not None
            return self._deployments(connection, deployments.c.id == key[0])[0]

    def end_deployment(
        self, deployment: int, state: str, detail: Mapping[str, Any], *, before: str = "replaced"
    ) -> dict[str, Any]:
        """The row of a deployment in a new state; when it is live, the one that was is in state `before`, at one stroke."""
        with self.transaction() as connection:
            row = self._deployments(connection, deployments.c.id == deployment)[0]
            if state == "live":
                for old in self._deployments(connection, deployments.c.environment == row["environment"], "live"):
                    self._set_state(connection, old["id"], before)
            self._set_state(connection, deployment, state, detail=json.dumps({**row["detail"], **detail}))
            return self._deployments(connection, deployments.c.id == deployment)[0]

    @staticmethod
    def _set_state(connection: sa.Connection, deployment: int, state: str, **more: Any) -> None:
        changed = deployments.update().where(deployments.c.id == deployment)
        connection.execute(changed.values(state=state, changed=now(), **more))

    @staticmethod
    def _deployments(
        connection: sa.Connection, condition: sa.ColumnElement[bool], state: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        wanted = sa.select(deployments).where(condition).order_by(deployments.c.id.desc())
        wanted = wanted if state is None else wanted.where(deployments.c.state == state)
        found = _rows(connection, wanted if limit is None else wanted.limit(limit))
        return [
            {**row, "detail": json.loads(row["detail"]), "approvals": json.loads(row["approvals"])} for row in found
        ]

    def list_deployments(
        self,
        environment: str | None = None,
        *,
        state: str | None = None,
        bundle: str | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Deployments, newest first: of an environment, in a state, of a bundle."""
        condition = sa.true() if environment is None else deployments.c.environment == environment
        if bundle is not None:
            condition = sa.and_(condition, deployments.c.bundle == bundle)
        with self._reader.connect() as connection:
            return self._deployments(connection, condition, state, limit)

    def get_deployment(self, deployment: int) -> dict[str, Any]:
        """A deployment's row.

        Raises:
            NotFound: there is none of that number.
        """
        with self._reader.connect() as connection:
            found = self._deployments(connection, deployments.c.id == deployment)
        if not found:
            raise NotFound(f"There is no deployment {deployment}; `perron status --history` lists them.")
        return found[0]

    def add_approval(self, environment: str, version: Mapping[str, Any], who: str, reason: str | None) -> None:
        """Records that somebody approves of a version's bundle in an environment."""
        with self.transaction() as connection:
            connection.execute(
                approvals.insert().values(
                    time=now(), environment=environment, model=version["model"], version=version["version"],
                    bundle=version["bundle"], who=who, reason=reason,
                )
            )  # fmt: skip

    def list_approvals(self, environment: str, bundle: str | None = None) -> list[dict[str, Any]]:
        """Approvals in an environment, oldest first; of one bundle where it is named."""
        wanted = sa.select(approvals).where(approvals.c.environment == environment).order_by(approvals.c.id)
        with self._reader.connect() as connection:
            return _rows(connection, wanted if bundle is None else wanted.where(approvals.c.bundle == bundle))

    def runs_of_bundle(self, run: str) -> list[dict[str, Any]]:
        """The runs that were done and gave, or found made, the bundle of a run: `id`, `code_commit`, `code_dirty`."""
        key = self.step_key(run, "bundle")
        if key is None:
            return []
        with self._reader.connect() as connection:
            return _rows(
                connection,
                sa.select(runs.c.id, runs.c.code_commit, runs.c.code_dirty)
                .join(steps, steps.c.run == runs.c.id)
                .where(steps.c.name == "bundle", steps.c.key == key, runs.c.status == "done")
                .order_by(runs.c.started.desc()),
            )

    # -- tokens

    def add_token(
        self, sha256: str, name: str, scopes: Iterable[str], requests_per_s: float | None, expires: str | None
    ) -> None:
        """Records a token by its hash.

        Raises:
            DataError: there is one of that name.
        """
        row = {
            "sha256": sha256, "name": name, "scopes": " ".join(sorted(scopes)), "requests_per_s": requests_per_s,
            "made": now(), "expires": expires,
        }  # fmt: skip
        with self.transaction() as connection:
            if connection.execute(sa.select(tokens.c.name).where(tokens.c.name == name)).first() is not None:
                raise DataError(f"There is a token {name!r} already; revoke it, or choose another name.")
            connection.execute(tokens.insert().values(**row))

    def list_tokens(self) -> list[dict[str, Any]]:
        """Every token, oldest first, the revoked ones too; `scopes` as a list."""
        with self._reader.connect() as connection:
            found = _rows(connection, sa.select(tokens).order_by(tokens.c.made))
        return [{**row, "scopes": row["scopes"].split()} for row in found]

    def revoke_token(self, name: str) -> None:
        """Ends a token; its name stays taken, so that logs remain clear.

        Raises:
            NotFound: there is no such token.
        """
        with self.transaction() as connection:
            done = connection.execute(
                tokens.update().where(tokens.c.name == name, tokens.c.revoked.is_(None)).values(revoked=now())
            )
            if done.rowcount:
                return
            known = connection.execute(sa.select(tokens.c.name)).scalars().all()
        raise NotFound(f"There is no token {name!r} in force; {nearest(name, known)}")

    # -- outcomes

    def add_outcome(self, prediction: str, value: Any) -> None:
        """Records what really happened; a later outcome of the same prediction corrects an earlier one."""
        with self.transaction() as connection:
            connection.execute(
                outcomes.insert().values(prediction=prediction, value=json.dumps(value), time=_known_at())
            )

    def outcomes_after(self, last: int, since: str, limit: int) -> list[dict[str, Any]]:
        """Outcomes (`id`, `prediction`, `value`, `time`) recorded after the one numbered `last` and after that time, oldest first."""
        with self._reader.connect() as connection:
            wanted = sa.select(outcomes).where(outcomes.c.id > last, outcomes.c.time >= since).order_by(outcomes.c.id)
            found = _rows(connection, wanted.limit(limit))
        return [{**row, "value": json.loads(row["value"])} for row in found]

    def outcomes_by_prediction(self, since: str = "") -> dict[str, Any]:
        """The outcome in force of every prediction that got one since then."""
        with self._reader.connect() as connection:
            wanted = (
                sa.select(outcomes.c.prediction, outcomes.c.value)
                .where(outcomes.c.time >= since)
                .order_by(outcomes.c.id)
            )
            return {row.prediction: json.loads(row.value) for row in connection.execute(wanted)}

    def delete_outcomes(self, predictions: Iterable[str]) -> int:
        """How many outcomes were deleted, of these predictions."""
        ids, gone = list(predictions), 0
        with self.transaction() as connection:
            for start in range(0, len(ids), 500):
                some = ids[start : start + 500]
                gone += connection.execute(outcomes.delete().where(outcomes.c.prediction.in_(some))).rowcount
        return gone

    def add_outcomes(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Records several outcomes (prediction, value) in order, in one transaction: all of them or none."""
        pairs = values.items() if isinstance(values, Mapping) else values
        rows = [{"prediction": name, "value": json.dumps(value), "time": _known_at()} for name, value in pairs]
        if rows:
            with self.transaction() as connection:
                connection.execute(outcomes.insert(), rows)

    def outcomes_of(self, predictions: Iterable[str]) -> dict[str, Any]:
        """The outcome in force of each of these predictions that has one."""
        ids, found = list(dict.fromkeys(predictions)), {}
        with self._reader.connect() as connection:
            for start in range(0, len(ids), 500):
                wanted = sa.select(outcomes.c.prediction, outcomes.c.value).order_by(outcomes.c.id)
                rows = connection.execute(wanted.where(outcomes.c.prediction.in_(ids[start : start + 500])))
                found.update({row.prediction: json.loads(row.value) for row in rows})
        return found

    def known_outcomes(self) -> dict[str, Any]:
        """The outcome in force of every prediction that has one."""
        with self._reader.connect() as connection:
            newest = sa.select(sa.func.max(outcomes.c.id)).group_by(outcomes.c.prediction)
            found = connection.execute(
                sa.select(outcomes.c.prediction, outcomes.c.value).where(outcomes.c.id.in_(newest))
            )
            return {row.prediction: json.loads(row.value) for row in found}

    def get_outcome(self, prediction: str) -> dict[str, Any] | None:
        """The outcome in force (`value`, `time`), or None."""
        with self._reader.connect() as connection:
            row = connection.execute(
                sa.select(outcomes.c.value, outcomes.c.time)
                .where(outcomes.c.prediction == prediction)
                .order_by(outcomes.c.id.desc())
                .limit(1)
            ).first()
        return None if row is None else {"value": json.loads(row.value), "time": row.time}


def _put_result(connection: sa.Connection, key: str, step: str, output: Any, run: str) -> None:
    connection.execute(results.delete().where(results.c.key == key))
    connection.execute(results.insert().values(key=key, step=step, output=json.dumps(output), run=run, made=now()))


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(query).mappings()]


def _shown(url: str) -> str:
    """The URL without its password."""
    try:
        return sa.engine.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "(not a URL: dialect://user@host/database)"


def _dialect(url: str) -> str:
    return url.partition(":")[0]


def _lock(connection: sa.Connection) -> None:
    """The write lock of a transaction; SQLite's took it at its beginning."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7377306)"))


def _begin_immediate(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by SQLAlchemy's event, not by the driver
    connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    switch_to_wal(connection)
    # FULL: a commit survives a power cut too. It costs one fsync, and nothing here commits often.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _is_alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
