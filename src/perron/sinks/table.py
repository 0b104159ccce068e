"""Predictions in; rows of a database's table out, by SQLAlchemy.

The table gets two columns of Perron's: `perron_run`, which run of a batch a row is of, and `perron_row`,
the row's number in the source from 0, since a table keeps no order. Each chunk is one transaction, in
which the table `perron_chunks` notes it: a chunk is there once, or not at all.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from perron.digest import digest_bytes
from perron.errors import MissingPackage, SinkError
from perron.sink import expand
from perron.source import hide

__all__ = ["TableSink", "open_named"]

DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}
DONE = -1  # the number that stands for the end of a run
NOTES = sa.MetaData()
CHUNKS = sa.Table(
    "perron_chunks", NOTES, sa.Column("target", sa.String(200), primary_key=True),
    sa.Column("run", sa.String(40), primary_key=True), sa.Column("chunk", sa.Integer, primary_key=True),
    sa.Column("rows", sa.BigInteger),
)  # fmt: skip


class TableSink:
    """A table, which is made where it isn't there; rows are added to what it has."""

    is_whole = False

    def __init__(self, place: str) -> None:
        self.place = place
        self._url, _, self.table = place.partition("#")
        if not self.table:
            raise SinkError(f"{hide(place)} names no table; add it after #, as in sqlite:///scores.db#scores.")

    def __reduce__(self) -> Any:
        return TableSink, (self.place,)

    @property
    def name(self) -> str:
        return hide(self.place)

    @cached_property
    def _engine(self) -> sa.Engine:
        try:
            url = sa.make_url(expand(self._url))
            url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
            return sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
        except ModuleNotFoundError as error:
            raise MissingPackage(f"Writing {self.name} needs {error.name}: pip install 'perron[postgres]', or the driver's own package.") from error  # fmt: skip
        except (sa.exc.SQLAlchemyError, ValueError) as error:
            raise self._failed(error) from error

    def _failed(self, error: BaseException) -> SinkError:
        words = str(getattr(error, "orig", None) or error).strip().splitlines() or [type(error).__name__]
        return SinkError(f"Can't write {self.name}: {hide(words[0])}.")

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise self._failed(error) from error

    def _is_there(self, connection: sa.Connection) -> bool:
        """Whether there is the table, with Perron's columns."""
        schema, _, bare = self.table.rpartition(".")
        inspector = sa.inspect(connection)
        if not inspector.has_table(bare, schema=schema or None):
            return False
        return "perron_run" in {column["name"] for column in inspector.get_columns(bare, schema=schema or None)}

    def check(self) -> None:
        with self._transaction() as connection:
            NOTES.create_all(connection)

    def folder(self, home: Path) -> Path:
        return home / digest_bytes(self.place.encode())[:20]

    def is_complete(self) -> bool:
        with self._transaction() as connection:
            done = sa.select(CHUNKS.c.run).where(CHUNKS.c.target == self.table, CHUNKS.c.chunk == DONE)
            return connection.execute(done.limit(1)).first() is not None

    def encode(self, table: pa.Table, number: int) -> bytes:
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table)
        return bytes(out.getvalue())

    def put(self, run: str, number: int, part: bytes) -> None:
        with pa.ipc.open_stream(part) as reader:
            rows = reader.read_all()
        with self._transaction() as connection:
            if self._is_noted(connection, run, number):
                return
            before = sa.select(sa.func.coalesce(sa.func.sum(CHUNKS.c.rows), 0)).where(
                CHUNKS.c.target == self.table, CHUNKS.c.run == run, CHUNKS.c.chunk < number
            )
            first = int(connection.execute(before).scalar_one())
            connection.execute(
                CHUNKS.insert(),
                {"target": self.table, "run": run, "chunk": number, "rows": rows.num_rows},
            )
            target = self._table(connection, rows.schema)
            items = rows.to_pylist()
            for place, item in enumerate(items):
                item["perron_run"], item["perron_row"] = run, first + place
            connection.execute(target.insert(), items)

    def _is_noted(self, connection: sa.Connection, run: str, number: int) -> bool:
        where = (CHUNKS.c.target == self.table) & (CHUNKS.c.run == run) & (CHUNKS.c.chunk == number)
        return connection.execute(sa.select(CHUNKS.c.chunk).where(where)).first() is not None

    def _table(self, connection: sa.Connection, schema: pa.Schema) -> sa.Table:
        """The table, made where it isn't there.

        Raises:
            SinkError: it has other columns.
        """
        schema_name, _, bare = self.table.rpartition(".")
        columns: list[Any] = [
            sa.Column("perron_run", sa.String(40), index=True),
            sa.Column("perron_row", sa.BigInteger),
        ]
        columns += [sa.Column(field.name, _type(field.type)) for field in schema]
        made = sa.Table(bare, sa.MetaData(), *columns, schema=schema_name or None)
        inspector = sa.inspect(connection)
        if not inspector.has_table(bare, schema=schema_name or None):
            made.create(connection)
            return made
        there = {column["name"] for column in inspector.get_columns(bare, schema=schema_name or None)}
        lacking = [column.name for column in made.columns if column.name not in there]
        if lacking:
            raise SinkError(f"The table {self.table} of {hide(self._url)} has no column {lacking[0]!r}; name another table.")  # fmt: skip
        return made

    def forget(self, run: str) -> None:
        schema_name, _, bare = self.table.rpartition(".")
        with self._transaction() as connection:
            if self._is_there(connection):
                run_of = sa.column("perron_run", sa.String)
                connection.execute(sa.delete(sa.table(bare, run_of, schema=schema_name or None)).where(run_of == run))
            connection.execute(CHUNKS.delete().where(CHUNKS.c.target == self.table, CHUNKS.c.run == run))

    def assemble(self, parts: Sequence[Path], target: Path) -> None:
        raise AssertionError("a table is written part by part")

    def publish(self, run: str, whole: Path | None) -> None:
        with self._transaction() as connection:
            if not self._is_noted(connection, run, DONE):
                connection.execute(CHUNKS.insert(), {"target": self.table, "run": run, "chunk": DONE, "rows": 0})


def _type(kind: pa.DataType) -> Any:
    for is_kind, made in (
        (pa.types.is_boolean, sa.Boolean), (pa.types.is_integer, sa.BigInteger), (pa.types.is_floating, sa.Double),
        (pa.types.is_date, sa.Date),
    ):  # fmt: skip
        if is_kind(kind):
            return made()
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=kind.tz is not None)
    return sa.Text()


def open_named(name: str) -> TableSink:
    """The sink of a URL with a table after #."""
    return TableSink(name)
