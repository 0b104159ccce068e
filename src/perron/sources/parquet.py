"""A Parquet file in; chunks of typed columns out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from perron.errors import SourceError

__all__ = ["ParquetFile", "open_file"]

CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file."""

    path: Path
    names: list[str]

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of up to 65,536 rows.

        Raises:
            SourceError: the file is damaged.
        """
        try:
            with parquet.ParquetFile(self.path, pre_buffer=False) as file:  # a pre-buffer keeps all it has read
                # One thread: it is read ahead of the work, and a second one costs a tenth more and gains nothing.
                yield from file.iter_batches(CHUNK_ROWS, columns=self.names, use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceError(f"{self.path} is damaged: {str(error).splitlines()[0]}") from error


def open_file(path: Path) -> ParquetFile:
    """The file, its schema read.

    Raises:
        SourceError: it isn't a Parquet file, is cut off, or has a name twice.
    """
    try:
        names = parquet.read_schema(path).names
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(f"{path} isn't a whole Parquet file: {str(error).splitlines()[0]}") from error
    for place, name in enumerate(names):
        if name in names[:place]:
            raise SourceError(f"{path} names {name!r} twice; rename one.")
    return ParquetFile(path, names)
