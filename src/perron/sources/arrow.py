"""An Arrow IPC file or stream in (Feather version 2 is a file); chunks of typed columns out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from perron.errors import SourceError
from perron.sources.place import MOST_ROWS, File, refuse_doubles
from perron.sources.values import plain, plain_schema

__all__ = ["ArrowFile", "open_described"]

MAGIC, OLD_FEATHER = b"ARROW1", b"FEA1"


@dataclass(frozen=True)
class ArrowFile:
    """An IPC file (it ends with a table of its batches) or stream."""

    file: File
    schema: pa.Schema
    is_stream: bool

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    def fingerprint(self) -> str | None:
        return self.file.fingerprint()

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches as they are stored, in pieces of at most 65,536 rows.

        Raises:
            SourceError: the file is damaged.
        """
        row = 0
        try:
            with _opened(self.file, self.is_stream) as reader:
                for batch in _batches(reader):
                    batch.validate(full=True)
                    for first in range(0, batch.num_rows, MOST_ROWS):
                        yield plain(batch.slice(first, MOST_ROWS), self.schema)
                    row += batch.num_rows
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise SourceError(f"{self.file.name} is damaged after row {row}: {str(error).splitlines()[0]}") from error


def open_described(place: str, base: Path) -> ArrowFile:
    """The file, its schema read.

    Raises:
        SourceError: it isn't Arrow IPC, is cut off, or has a name twice.
    """
    file = File.at(place, base).check()
    with file.open() as opened:
        begin = bytes(opened.read(6))
    if begin.startswith(OLD_FEATHER):
        raise SourceError(
            f"{file.name} is Feather version 1, which is given up; write it anew as version 2 or Parquet."
        )
    try:
        with _opened(file, begin != MAGIC) as reader:
            schema = reader.schema
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise SourceError(f"{file.name} isn't a whole Arrow file: {str(error).splitlines()[0]}") from error
    refuse_doubles(schema.names, file.name)
    return ArrowFile(file, plain_schema(schema), begin != MAGIC)


@contextmanager
def _opened(file: File, is_stream: bool) -> Iterator[Any]:
    if is_stream:
        with file.open() as opened, pa.ipc.open_stream(opened) as reader:
            yield reader
        return
    with file.open() if file.can_seek() else file.copy() as opened, pa.ipc.open_file(opened) as reader:
        yield reader


def _batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(reader, pa.RecordBatchFileReader):
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return iter(reader)
