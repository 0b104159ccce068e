"""A DuckDB file's URL and a query, or the name of a table, in; chunks of typed columns out.

`duckdb://` without a file is a database in memory, whose queries read files: `SELECT * FROM 'rows.csv'`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from perron.errors import SourceError, nearest
from perron.source import expand, hide, reason_of
from perron.sources.place import chunk_rows, refuse_doubles
from perron.sources.values import plain, plain_schema

__all__ = ["DuckQuery", "open_described"]

SCHEME = "duckdb://"
FRAME_ROWS = 2048  # what DuckDB hands over at a time


@dataclass(frozen=True)
class DuckQuery:
    """A query of a DuckDB database, which is opened to be read only."""

    path: Path | None
    name: str
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
            SourceError: the query fails.
        """
        first = 0
        with _connected(self.path, self.name) as connection:
            try:
                rows = max(FRAME_ROWS, chunk_rows(len(self.names), 8 << 20))
                for batch in connection.sql(self.text).to_arrow_reader(rows):
                    yield plain(batch, self.schema)
                    first += batch.num_rows
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                raise SourceError(f"{self.name} failed after {first:,} rows: {reason_of(error)}") from error


def open_described(place: str, base: Path, query: str | None = None) -> DuckQuery:
    """The query, its columns known.

    Raises:
        SourceError: there is no such file, it isn't DuckDB's, or the query can't be run.
    """
    url, _, table = place.partition("#")
    rest = expand(url.removeprefix(SCHEME)).removeprefix("/")
    path = base / Path(rest).expanduser() if rest else None
    name = hide(place)
    if path is not None and not path.is_file():
        raise SourceError(f"There is no file {path}.")
    with _connected(path, name) as connection:
        try:
            text = query.strip().rstrip(";") if query is not None else f"FROM {_table(connection, expand(table), name)}"
            relation = connection.sql(text)
            if relation is None:
                raise SourceError(f"The query of {name} gives no rows; give a SELECT.")
            schema = plain_schema(connection.sql(f"FROM ({text}) LIMIT 0").to_arrow_table().schema)
            refuse_doubles(list(relation.columns), f"The query of {name}")
        except duckdb.Error as error:
            raise SourceError(f"{name} can't be queried: {reason_of(error)}") from error
    return DuckQuery(path, name, text, schema)


@contextmanager
def _connected(path: Path | None, name: str) -> Iterator[Any]:
    try:
        connection = duckdb.connect(":memory:") if path is None else duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise SourceError(f"{name} can't be opened: {reason_of(error)}") from error
    with connection:
        yield connection


def _table(connection: Any, table: str, name: str) -> str:
    found = [
        (schema, bare)
        for schema, bare in connection.sql(
            "SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL"
        ).fetchall()
    ]
    names = [bare if schema == "main" else f"{schema}.{bare}" for schema, bare in found]
    if not table:
        shown = ", ".join(names[:12]) or "none"
        raise SourceError(f"{name} needs a table after # ({name}#TABLE) or a query; its tables: {shown}.")
    if table not in names:
        raise SourceError(f"{name} has no table {table!r}; {nearest(table, names)}")
    schema, bare = (part.replace('"', '""') for part in found[names.index(table)])
    return f'"{schema}"."{bare}"'
