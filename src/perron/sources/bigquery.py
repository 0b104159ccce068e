"""A BigQuery project's URL and a query, or the name of a table, in; chunks of typed columns out, by Google's client.

It finds its credentials as Google's tools do (`GOOGLE_APPLICATION_CREDENTIALS`, or the machine's own account).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from google.api_core.exceptions import GoogleAPIError
from google.auth.exceptions import GoogleAuthError
from google.cloud import bigquery

from perron.errors import SourceError
from perron.source import expand, reason_of
from perron.sources.place import MOST_ROWS, chunk_rows, refuse_doubles
from perron.sources.values import plain, plain_schema

__all__ = ["BigQuery", "open_described"]

SCHEME = "bigquery://"


@dataclass(frozen=True)
class BigQuery:
    """The rows of a table, or of a query's result, which BigQuery keeps as a table of its own."""

    name: str
    client: Any = field(repr=False)
    table: Any
    schema: pa.Schema

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    def fingerprint(self) -> None:
        """None: only reading tells."""

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of up to 65,536 rows.

        Raises:
            SourceError: the service fails.
        """
        first = 0
        try:
            rows = self.client.list_rows(self.table, page_size=chunk_rows(len(self.names)))
            for batch in rows.to_arrow_iterable():
                for begin in range(0, batch.num_rows, MOST_ROWS):
                    yield plain(batch.slice(begin, MOST_ROWS), self.schema)
                first += batch.num_rows
        except (GoogleAPIError, GoogleAuthError, pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.name} failed after {first:,} rows: {reason_of(error)}") from error


def open_described(place: str, base: Path, query: str | None = None) -> BigQuery:
    """The table, or the query's result, its columns known. A query is run here, once.

    Raises:
        SourceError: there is no account, no such table, or the query can't be run.
    """
    project, _, table = expand(place.removeprefix(SCHEME)).partition("#")
    name = f"{SCHEME}{project}#{table}" if table else f"{SCHEME}{project}"
    if not project or (query is None and not table):
        raise SourceError(f"{name} needs a project and a table (bigquery://PROJECT#DATASET.TABLE), or a query.")
    try:
        client = bigquery.Client(project=project)
        if query is not None:
            job = client.query(query)
            job.result(max_results=0)
            found = client.get_table(job.destination)
        else:
            found = client.get_table(table if table.count(".") > 1 else f"{project}.{table}")
        schema = client.list_rows(found, max_results=0).to_arrow(create_bqstorage_client=False).schema
    except (GoogleAPIError, GoogleAuthError, ValueError, OSError) as error:
        raise SourceError(f"{name} can't be read: {reason_of(error)}") from error
    refuse_doubles(schema.names, name)
    return BigQuery(name, client, found, plain_schema(schema))
