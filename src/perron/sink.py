"""The name of a sink in; a place that predictions are put in, part by part, out. Adapters: `perron.sinks`.

    out.parquet · out.csv · out.csv.gz · out.jsonl · out.jsonl.gz · out.arrow      a file of this machine
    s3://bucket/out.parquet, gs://…, az://…                                        the same behind a URL
    postgresql://user@host/database#table, sqlite:///file.db#table                 a table of a database
    -                                                                              lines of JSON on standard output

`${NAME}` in a URL is the environment's NAME, so that no password needs to stand in a command.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from perron import source
from perron.errors import SinkError, SourceError, nearest
from perron.source import hide

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ENDINGS", "REMOTE", "Sink", "expand", "open_sink"]

ENDINGS = (".parquet", ".pq", ".csv", ".csv.gz", ".jsonl", ".ndjson", ".jsonl.gz", ".arrow", ".feather")
REMOTE = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
DATABASES = ("sqlite", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle")


class Sink(Protocol):
    """Where the predictions of a batch go: tables in, numbered from 0, and kept in that order.

    The law: `encode` is pure, and the sink can be pickled, so that it may run in another process; nothing
    else of it does. Where `is_whole` everything appears at once, by `assemble` and then `publish`; else
    each part is there once `put` has returned, and `put` of one that is there already changes nothing.
    `name` is shown, without secrets.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_whole(self) -> bool: ...

    def check(self) -> None:
        """Nothing, where it can be expected that the sink can be written.

        Raises:
            SinkError: it can't.
            MissingPackage: its kind needs a package that isn't installed.
        """
        ...

    def folder(self, home: Path) -> Path | None:
        """The folder for what isn't finished, the same each time; None where nothing can be resumed."""
        ...

    def is_complete(self) -> bool:
        """Whether the output of a batch is there."""
        ...

    def encode(self, table: "pa.Table", number: int) -> bytes:
        """A part as bytes."""
        ...

    def put(self, run: str, number: int, part: bytes) -> None:
        """Puts a part of a run into the sink; only where it isn't whole."""
        ...

    def forget(self, run: str) -> None:
        """Takes a run that is given up out of the sink again; only where it isn't whole."""
        ...

    def assemble(self, parts: Sequence[Path], target: Path) -> None:
        """Writes all parts, one or more, as the sink's one file; only where it is whole."""
        ...

    def publish(self, run: str, whole: Path | None) -> None:
        """Makes the batch complete: puts the assembled file in its place at once, or marks the run as done."""
        ...


def open_sink(name: str) -> Sink:
    """The sink of that name; nothing is touched yet.

    Raises:
        SinkError: Perron can't write its kind.
    """
    if name == "-":
        return _adapter("stdout", name)
    scheme = name.partition("://")[0].lower() if "://" in name else ""
    if scheme.partition("+")[0] in DATABASES:
        return _adapter("table", name)
    if scheme and scheme not in REMOTE:
        raise SinkError(f"Perron can't write {scheme}:// ({hide(name)}); {nearest(scheme, (*REMOTE, *DATABASES))}")
    if not name.lower().endswith(ENDINGS):
        raise SinkError(f"Can't tell what to write to {hide(name)}; end its name with one of {', '.join(ENDINGS)}.")
    return _adapter("files", name)


def _adapter(kind: str, name: str) -> Sink:
    opened: Sink = importlib.import_module(f"perron.sinks.{kind}").open_named(name)
    return opened


def expand(text: str) -> str:
    """The text with every `${NAME}` as the environment has it.

    Raises:
        SinkError: the environment has no such name.
    """
    try:
        return source.expand(text)
    except SourceError as error:
        raise SinkError(str(error).replace("the source", "the sink", 1)) from error
