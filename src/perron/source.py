"""The name of a source in; its columns and its chunks of rows out. Adapters: `perron.sources`."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from perron.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Source", "open_source"]

# A file's ending names the module below perron.sources that reads it.
ADAPTERS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet"}


class Source(Protocol):
    """A table that is read in chunks.

    The law: `chunks` yields record batches with the columns of `names`, in the source's order, every
    row once; it can be called again and gives the same rows; memory is bounded by a chunk.
    """

    @property
    def names(self) -> list[str]: ...

    def chunks(self) -> "Iterator[pa.RecordBatch]": ...


def open_source(name: str | Path) -> Source:
    """The source of that name: a CSV or Parquet file.

    Raises:
        SourceError: there is no such file, it is empty or broken, or Perron can't read its kind.
    """
    path = Path(name)
    if path.is_dir():
        raise SourceError(f"{path} is a folder; name a CSV or Parquet file.")
    if not path.is_file():
        raise SourceError(f"There is no file {path}.")
    if path.stat().st_size == 0:
        raise SourceError(f"{path} is empty.")
    adapter = ADAPTERS.get(path.suffix.lower())
    if adapter is None:
        raise SourceError(
            f"Perron can't read {path.suffix or 'a file without an ending'} ({path}); use {', '.join(ADAPTERS)}."
        )
    opened: Source = importlib.import_module(f"perron.sources.{adapter}").open_file(path)
    return opened
