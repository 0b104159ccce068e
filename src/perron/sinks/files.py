"""Predictions in; one file out, CSV, JSON lines, Parquet or Arrow by its ending, on this machine or behind a URL.

Parts of Parquet and Arrow files wait as Arrow IPC: a Parquet file can't be gone on with once its process
has died, and is written once, from whole parts.
"""

import gzip
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.csv
from pyarrow import parquet

from perron.digest import digest_bytes
from perron.errors import MissingPackage, SinkError
from perron.lines import json_lines
from perron.sink import REMOTE, expand
from perron.source import hide

__all__ = ["FileSink", "open_named"]

COPY_BYTES = 8 << 20
GZIP_LEVEL = 3  # level 6 takes three times as long for a tenth less


@dataclass(frozen=True)
class FileSink:
    """A file that appears when it is whole; what was there before is replaced."""

    place: str
    kind: str
    is_compressed: bool

    is_whole = True

    @property
    def name(self) -> str:
        return hide(self.place)

    @property
    def path(self) -> Path | None:
        """The file's path on this machine; None behind a URL."""
        return None if "://" in self.place else Path(self.place).expanduser()

    def _remote(self) -> tuple[Any, str]:
        try:
            import fsspec  # behind the extras for URLs

            filesystem, key = fsspec.core.url_to_fs(expand(self.place))
        except ImportError as error:
            extra = REMOTE.get(self.place.partition("://")[0].lower(), "s3")
            raise MissingPackage(f"Writing {self.name} needs a package: pip install 'perron[{extra}]'.") from error
        except (ValueError, OSError) as error:
            raise self._failed(error) from error
        return filesystem, key

    def _failed(self, error: BaseException) -> SinkError:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
        return SinkError(f"Can't write {self.name}: {reason}.")

    def check(self) -> None:
        path = self.path
        if path is None:
            self._remote()
        elif path.is_dir():
            raise SinkError(f"Can't write {path}: it is a folder; name a file in it.")
        elif not path.parent.is_dir():
            raise SinkError(f"Can't write {path}: there is no folder {path.parent}.")
        elif not os.access(path.parent, os.W_OK):
            raise SinkError(f"Can't write {path}: the folder {path.parent} doesn't let you.")

    def folder(self, home: Path) -> Path:
        if self.path is not None:
            return self.path.with_name(f".{self.path.name}.perron")
        return home / digest_bytes(self.place.encode())[:20]

    def is_complete(self) -> bool:
        if self.path is not None:
            return self.path.is_file()
        filesystem, key = self._remote()
        try:
            return bool(filesystem.exists(key))
        except Exception as error:  # each filesystem has its own
            raise self._failed(error) from error

    def encode(self, table: pa.Table, number: int) -> bytes:
        out = pa.BufferOutputStream()
        if self.kind == "jsonl":
            return self._packed(json_lines(table))
        if self.kind == "csv":
            pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(include_header=number == 0))
            return self._packed(out.getvalue().to_pybytes())
        with pa.ipc.new_stream(out, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            writer.write_table(table)
        return bytes(out.getvalue())

    def _packed(self, data: bytes) -> bytes:
        return gzip.compress(data, GZIP_LEVEL, mtime=0) if self.is_compressed else data

    def put(self, run: str, number: int, part: bytes) -> None:
        raise AssertionError("a file appears as a whole")

    def forget(self, run: str) -> None:
        raise AssertionError("a file appears as a whole")

    def assemble(self, parts: Sequence[Path], target: Path) -> None:
        if self.kind in ("csv", "jsonl"):  # parts of both, and members of gzip, may follow each other
            with open(target, "wb") as out:
                for part in parts:
                    with open(part, "rb") as file:
                        while data := file.read(COPY_BYTES):
                            out.write(data)
        else:
            self._assemble_tables(parts, target)
        with open(target, "rb") as file:
            os.fsync(file.fileno())

    def _assemble_tables(self, parts: Sequence[Path], target: Path) -> None:
        writer: Any = None
        for table in _tables(parts):
            if writer is None:
                new = parquet.ParquetWriter if self.kind == "parquet" else pa.ipc.new_file
                writer = new(str(target), table.schema, **(_options(table.schema) if self.kind == "parquet" else {}))
            writer.write_table(table)
        writer.close()

    def publish(self, run: str, whole: Path | None) -> None:
        assert whole is not None
        if self.path is not None:
            os.replace(whole, self.path)
            return
        filesystem, key = self._remote()
        try:
            filesystem.put_file(str(whole), key)  # an object is there when it is whole
        except Exception as error:  # each filesystem has its own
            raise self._failed(error) from error


def _tables(parts: Sequence[Path]) -> Iterator[pa.Table]:
    for part in parts:
        with pa.memory_map(str(part)) as file, pa.ipc.open_stream(file) as reader:
            yield reader.read_all()


def _options(schema: pa.Schema) -> dict[str, Any]:
    """Parquet's: a dictionary of ids, each of which is there once, would only cost time."""
    return {"use_dictionary": [name for name in schema.names if not name.startswith("prediction_id")]}


def open_named(name: str) -> FileSink:
    """The sink of a path or URL."""
    bare = (urlsplit(name).path if "://" in name else name).lower()
    packed = bare.endswith(".gz")
    ending = Path(bare.removesuffix(".gz")).suffix
    kinds = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
    return FileSink(name, kinds.get(ending, "arrow"), packed)
