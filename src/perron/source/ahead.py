"""A source in; the same source, read on in a thread of its own while its last chunk is worked on, out."""

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from perron.source import Source

__all__ = ["ReadAhead"]


class ReadAhead:
    """A source that reads on, in a thread of its own, while its last chunk is worked on; it begins at once.

    A context; at most `most_bytes` and a chunk more are held.
    """

    def __init__(self, source: "Source", most_bytes: int = 64 << 20) -> None:
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

    def fingerprint(self) -> str | None:
        return self._source.fingerprint()

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

    def __init__(self, source: "Source", most_bytes: int) -> None:
        self._most_bytes, self._held, self._is_stopped = most_bytes, 0, False
        self._read: deque[pa.RecordBatch | BaseException | None] = deque()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(source,), name="perron-read", daemon=True)
        self._thread.start()

    def _run(self, source: "Source") -> None:
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
