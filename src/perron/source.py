"""The name of a source in; its columns and its chunks of rows out. Adapters: `perron.sources`."""

import importlib
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from perron.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ReadAhead", "Source", "open_source"]

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


class ReadAhead:
    """A source that reads on, in a thread of its own, while its last chunk is worked on; it begins at once.

    A context; at most `most_bytes` and a chunk more are held.
    """

    def __init__(self, source: Source, most_bytes: int = 64 << 20) -> None:
        self._source, self._most_bytes = source, most_bytes
        self._begun: _Reading | None = _Reading(source, most_bytes)

    def __enter__(self) -> "ReadAhead":
        return self

    def __exit__(self, *_: object) -> None:
        if self._begun is not None:
            self._begun.stop()

    @property
    def names(self) -> list[str]:
        return self._source.names

    def chunks(self) -> "Iterator[pa.RecordBatch]":
        """The source's chunks.

        Raises:
            SourceError: as the source's `chunks`.
        """
        reading, self._begun = self._begun or _Reading(self._source, self._most_bytes), None
        try:
            yield from reading
        finally:
            reading.stop()


class _Reading:
    """A thread that reads a source once, from its begin to its end, and opens and closes it itself: a database's cursor may not change threads."""

    def __init__(self, source: Source, most_bytes: int) -> None:
        self._most_bytes, self._held, self._is_stopped = most_bytes, 0, False
        self._read: deque[pa.RecordBatch | BaseException | None] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(source,), name="perron-read", daemon=True)
        self._thread.start()

    def _run(self, source: Source) -> None:
        try:
            for chunk in source.chunks():
                with self._changed:
                    self._read.append(chunk)
                    self._held += chunk.nbytes
                    self._changed.notify()
                    self._changed.wait_for(lambda: self._is_stopped or self._held <= self._most_bytes)
                    if self._is_stopped:
                        return
            self._end(None)
        except BaseException as error:
            self._end(error)

    def _end(self, how: BaseException | None) -> None:
        with self._changed:
            self._read.append(how)
            self._changed.notify()

    def __iter__(self) -> "Iterator[pa.RecordBatch]":
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._read)
                chunk = self._read.popleft()
                if chunk is None:
                    return
                if isinstance(chunk, BaseException):
                    raise chunk
                self._held -= chunk.nbytes
                self._changed.notify()
            yield chunk

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._thread.join()
