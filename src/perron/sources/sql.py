"""A database's URL and a query, or the name of a table, in; chunks of typed columns out, by SQLAlchemy.

Rows come through a server-side cursor where the database has one (Postgres), so that memory is bounded
by a chunk, and in a transaction that may only read. The columns' types are those of the database; in
SQLite, whose cells have types of their own, the one type that all cells of a column fit.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from perron.errors import MissingPackage, PerronError, SourceError, nearest
from perron.source import expand, hide, missing, reason_of
from perron.sources.place import chunk_rows, refuse_doubles
from perron.sources.values import Seen, to_batch

__all__ = ["Query", "open_described"]

PSYCOPG = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}  # the driver that the extra brings
POSTGRES = {
    16: pa.bool_(), 20: pa.int64(), 21: pa.int64(), 23: pa.int64(), 26: pa.int64(), 700: pa.float64(),
    701: pa.float64(), 1082: pa.date32(), 1114: pa.timestamp("us"), 1184: pa.timestamp("us", tz="UTC"),
}  # fmt: skip
SQLITE = {
    frozenset({"integer"}): pa.int64(), frozenset({"real"}): pa.float64(), frozenset({"integer", "real"}): pa.float64(),
}  # fmt: skip


@dataclass(frozen=True)
class Query:
    """A query of a database; `name` is shown."""

    place: str = field(repr=False)
    name: str
    engine: sa.Engine = field(repr=False)
    text: str
    schema: pa.Schema

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    def fingerprint(self) -> None:
        """None: only reading tells."""

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of up to 65,536 rows, fewer of wide ones.

        Raises:
            SourceError: the query fails, the database goes away, or a value doesn't fit its column.
        """
        first, rows_at_once = 0, chunk_rows(len(self.names))
        with _connected(self.engine, self.place) as connection:
            try:
                with _executed(connection, self.text, rows_at_once) as result:
                    for rows in result.partitions(rows_at_once):
                        yield to_batch(zip(*rows, strict=True), self.schema, self.name, first)
                        first += len(rows)
            except PerronError:
                raise
            except _FAULTS as error:
                raise SourceError(
                    f"{self.name} failed after {first:,} rows: {_reason(error, self.place)}; read it again when it is mended."
                ) from error


# Drivers raise their own errors, some of which SQLAlchemy doesn't know; values out of Python's range are ValueErrors.
_FAULTS = (sa.exc.SQLAlchemyError, sqlite3.Error, OSError, ValueError, OverflowError)


def open_described(place: str, base: Path, query: str | None = None) -> Query:
    """The query, its columns known.

    Raises:
        SourceError: the database can't be reached, or the query can't be run.
        MissingPackage: the database's driver isn't installed.
    """
    url, _, table = place.partition("#")
    engine = _engine(url, base, place)
    with _connected(engine, place) as connection:
        name = hide(url)
        if query is None:
            query = f"SELECT * FROM {_table(connection, expand(table), name)}"
            name = hide(place)
        query = query.strip().rstrip(";")
        try:
            schema = _schema(connection, query, name)
        except _FAULTS as error:
            raise SourceError(f"{name} can't be queried: {_reason(error, place)}") from error
    return Query(place, name, engine, query, schema)


def _engine(url: str, base: Path, place: str) -> sa.Engine:
    try:
        made = sa.make_url(expand(url))
        if made.drivername in PSYCOPG:
            made = made.set(drivername=PSYCOPG[made.drivername])
        if made.get_backend_name() != "sqlite":
            return sa.create_engine(made, poolclass=sa.NullPool, hide_parameters=True)
    except PerronError:
        raise
    except ModuleNotFoundError as error:
        if error.name == "psycopg":
            raise missing(f"Reading {hide(url)}", "postgres", error) from error
        raise MissingPackage(f"Reading {hide(url)} needs the driver {error.name}; install it with pip.") from error
    except (sa.exc.SQLAlchemyError, ValueError) as error:
        raise SourceError(f"{hide(url)} isn't a database's URL: {_reason(error, place)}") from error
    path = base / Path(made.database or "").expanduser()
    if not path.is_file():
        raise SourceError(f"There is no file {path}; sqlite:///name.db is meant from the folder, sqlite:////name.db from the root.")  # fmt: skip
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty.")
    location = f"{path.resolve().as_uri()}?mode=ro"
    return sa.create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(location, uri=True, check_same_thread=False), poolclass=sa.NullPool
    )


@contextmanager
def _connected(engine: sa.Engine, place: str) -> Iterator[sa.Connection]:
    try:
        connection = engine.connect()
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise SourceError(f"{hide(place)} can't be reached: {_reason(error, place)}") from error
    try:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(postgresql_readonly=True)
        yield connection
    finally:
        with suppress(sa.exc.SQLAlchemyError, OSError):  # it may be gone already
            connection.close()


@contextmanager
def _executed(connection: sa.Connection, query: str, rows: int) -> Iterator[sa.CursorResult[Any]]:
    # Without parameters, so that a driver doesn't take the % of LIKE for one.
    result = connection.exec_driver_sql(query, execution_options={"yield_per": rows, "no_parameters": True})
    try:
        yield result
    finally:
        with suppress(sa.exc.SQLAlchemyError, OSError):  # it may be gone already
            result.close()


def _table(connection: sa.Connection, table: str, name: str) -> str:
    """The table, quoted as the database does."""
    inspector = sa.inspect(connection)
    schema, _, bare = table.rpartition(".")
    try:
        if not table or not inspector.has_table(bare, schema=schema or None):
            known = [
                *inspector.get_table_names(schema=schema or None),
                *inspector.get_view_names(schema=schema or None),
            ]
            if table and "." in table and inspector.has_table(table):
                schema, bare = "", table
            elif not table:
                shown = ", ".join(sorted(known)[:12]) or "none"
                raise SourceError(f"{name} needs a table after # ({name}#TABLE) or a query; its tables: {shown}.")
            else:
                raise SourceError(f"{name} has no table {table!r}; {nearest(bare, known)}")
    except sa.exc.SQLAlchemyError as error:
        raise SourceError(f"{name} can't be read: {_reason(error, name)}") from error
    quote = connection.dialect.identifier_preparer.quote
    return f"{quote(schema)}.{quote(bare)}" if schema else quote(bare)


def _schema(connection: sa.Connection, query: str, name: str) -> pa.Schema:
    dialect = connection.dialect.name
    with _executed(connection, query, 1000) as result:
        if not result.returns_rows:
            raise SourceError(f"The query of {name} gives no rows; give a SELECT.")
        names = list(result.keys())
        refuse_doubles(names, f"The query of {name}")
        if dialect == "postgresql":
            columns: Any = result.cursor.description if result.cursor is not None else ()
            types = [POSTGRES.get(column[1], pa.string()) for column in columns]
        elif dialect != "sqlite":
            types = _types_of_values(result.fetchmany(10_000), len(names))
    if dialect == "sqlite":
        types = _sqlite_types(connection, query, names)
    return pa.schema([pa.field(column, kind) for column, kind in zip(names, types, strict=True)])


def _sqlite_types(connection: sa.Connection, query: str, names: list[str]) -> list[pa.DataType]:
    """The one type that all cells of a column fit: SQLite is asked for the types of its cells, which reads them once."""
    quote = connection.dialect.identifier_preparer.quote_identifier
    types: list[pa.DataType] = []
    for begin in range(0, len(names), 500):
        asked = ", ".join(f"group_concat(DISTINCT typeof({quote(column)}))" for column in names[begin : begin + 500])
        row = connection.exec_driver_sql(
            f"SELECT {asked} FROM ({query})", execution_options={"no_parameters": True}
        ).one()
        found = [frozenset((cell or "").split(",")) - {"null", ""} for cell in row]
        types += [SQLITE.get(kinds, pa.string()) for kinds in found]
    return types


def _types_of_values(rows: Any, width: int) -> list[pa.DataType]:
    seen = [Seen() for _ in range(width)]
    for column, values in zip(seen, zip(*rows, strict=True), strict=False):
        column.add(values)
    return [column.type for column in seen]


def _reason(error: BaseException, place: str) -> str:
    """The driver's own words, without SQLAlchemy's frame and without secrets."""
    return reason_of(getattr(error, "orig", None) or error, place)
