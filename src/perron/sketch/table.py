"""Chunks of a table in; a sketch per column and a sample of rows out, merged, written and read back."""

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from perron.errors import DataError
from perron.hashes import Hashes, mix
from perron.sketch.column import Block, ColumnSketch, Kind, from_numpy, pack_column, unpack_column

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMAT", "Sample", "TableSketch", "merge"]

FORMAT = 2  # 1 had the quantiles of DataSketches
MAGIC = b"perron.sketch\n"
SAMPLE_ROWS = 5_000
SAMPLE_CELLS = 1_000_000
FULL_COLUMNS = 100  # with more columns than these each keeps less
SLICE_CELLS = 4_000_000
ROWS_FOR_THREADS = 4_000  # with fewer a column's work is Python's own, for which threads only wait for each other
_TURN = np.uint64(0xD6E8FEB86659FD93)


@dataclass
class Sample:
    """Different rows chosen by the least hashes of (seed, row), each with how often it came.

    So it depends on neither the order nor the chunks, merges exactly, and tells how many rows are doubles. With
    `is_whole` it holds every row.
    """

    size: int
    seed: int = 0
    hashes: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    columns: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return len(self.hashes) < self.size

    @property
    def distinct_rows(self) -> int:
        """How many different rows the table has, about."""
        if self.is_whole:
            return len(self.hashes)
        return round((self.size - 1) / ((float(self.hashes[-1]) + 1) / 2.0**64))

    def update(self, hashes: Hashes, blocks: Mapping[str, Block]) -> None:
        """Offers rows by their hashes; the blocks' values are taken of those that stay."""
        near = np.flatnonzero(hashes <= self.hashes[-1]) if not self.is_whole else np.arange(len(hashes))
        different, first, counts = np.unique(hashes[near], return_index=True, return_counts=True)
        different, places, counts = different[: self.size], near[first[: self.size]], counts[: self.size]
        self._add(different, counts, {name: block.sample(places) for name, block in blocks.items()})

    def merge(self, other: "Sample") -> None:
        self._add(other.hashes, other.counts, other.columns)

    def _add(self, hashes: Hashes, counts: npt.NDArray[np.int64], columns: Mapping[str, npt.NDArray[Any]]) -> None:
        if not len(hashes):
            return
        if not len(self.hashes):
            self.hashes, self.counts, self.columns = hashes, counts.astype(np.int64), dict(columns)
            return
        both, first, place = np.unique(np.concatenate([self.hashes, hashes]), return_index=True, return_inverse=True)
        added = np.zeros(len(both), np.int64)
        np.add.at(added, place, np.concatenate([self.counts, counts]))
        kept = first[: self.size]
        self.hashes, self.counts = both[: self.size], added[: self.size]
        for name, mine in self.columns.items():
            self.columns[name] = _joined(mine, columns[name])[kept]


def _joined(mine: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Both; where a column was text in one chunk and empty or a number in another, as objects."""
    if mine.dtype == theirs.dtype:
        return np.concatenate([mine, theirs])
    if all(value is None for value in (mine if mine.dtype == object else theirs)):
        return np.concatenate([mine.astype(np.float64), theirs.astype(np.float64)])  # None becomes NaN
    made = np.concatenate([mine.astype(object), theirs.astype(object)])
    made[[value != value for value in made]] = None
    return np.array([value if value is None else str(value) for value in made], object)


class TableSketch:
    """A sketch per column and a sample of rows, of a table with known columns.

    `kinds` may say what a text column holds ("number", "time", "bool", "text"); without it a column's first
    chunk tells. `sensitive` columns leave nothing but counts. Not safe for several threads at once; with
    `threads` it uses several itself, one column each.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        kinds: Mapping[str, Kind] | None = None,
        sensitive: Iterable[str] = (),
        seed: int = 0,
        threads: int = 1,
    ) -> None:
        """An empty sketch.

        Raises:
            DataError: a name is given twice.
        """
        if len(set(names)) != len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise DataError(f"The column {twice!r} is there twice; rename one.")
        hidden, share = set(sensitive), min(1.0, FULL_COLUMNS / max(1, len(names)))
        self.rows = 0
        self.columns = {
            name: ColumnSketch.sized(name, (kinds or {}).get(name, "empty"), name in hidden, share) for name in names
        }
        self.sample = Sample(max(100, min(SAMPLE_ROWS, SAMPLE_CELLS // max(1, len(names)))), seed)
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def update(self, batch: "pa.RecordBatch") -> None:
        """Counts the rows of an Arrow batch.

        Raises:
            DataError: its columns aren't the sketch's.
        """
        from perron.sketch import arrow

        self._check(batch.schema.names)
        step = max(64, SLICE_CELLS // max(1, len(self.columns)))
        for start in range(0, batch.num_rows, step):
            piece = batch.slice(start, step)
            arrays = dict(zip(piece.schema.names, piece.columns, strict=True))
            self._update(piece.num_rows, lambda c, arrays=arrays: arrow.block(arrays[c.name], c.kind))

    def update_columns(self, columns: Mapping[str, npt.ArrayLike]) -> None:
        """Counts rows given as NumPy arrays of one length, by column; text is objects with None where null.

        Raises:
            DataError: the columns aren't the sketch's, or differ in length.
        """
        self._check(list(columns))
        lengths = {len(np.asarray(values)) for values in columns.values()}
        if len(lengths) > 1:
            raise DataError(f"Expected columns of one length, got {sorted(lengths)}.")
        self._update(lengths.pop() if lengths else 0, lambda c: from_numpy(columns[c.name], c.kind))

    def _check(self, names: Sequence[str]) -> None:
        known = set(names)
        for name in self.columns:
            if name not in known:
                raise DataError(f"Expected the column {name!r}, which this chunk hasn't.")

    def _update(self, rows: int, block_of: Any) -> None:
        if not rows:
            return

        def one(column: ColumnSketch) -> tuple[Block, Hashes]:
            block = block_of(column)
            return block, column.update(block)

        pool = self._pool if rows >= ROWS_FOR_THREADS else None
        done = (pool.map if pool else map)(one, self.columns.values())
        blocks, row = {}, np.full(rows, self.sample.seed, np.uint64)
        for column, (block, hashes) in zip(self.columns.values(), done, strict=True):
            row = row * _TURN + hashes
            if not column.sensitive:
                blocks[column.name] = block
        self.sample.update(mix(row), blocks)
        self.rows += rows

    def merge(self, other: "TableSketch") -> None:
        """Adds the other's rows to this one.

        Raises:
            DataError: the columns differ, or the seeds.
        """
        if list(self.columns) != list(other.columns) or self.sample.seed != other.sample.seed:
            raise DataError("Expected sketches of the same columns and seed; these are of two different tables.")
        for name, column in self.columns.items():
            if column.sensitive != other.columns[name].sensitive:
                raise DataError(f"{name!r} is sensitive in one of the two sketches only; mark it in both.")
            column.merge(other.columns[name])
        self.sample.merge(other.sample)
        self.rows += other.rows

    def to_bytes(self) -> bytes:
        """The sketch as a small file: a mark, the format's number, a checksum, compressed MessagePack."""
        sample = self.sample
        body = zlib.compress(
            msgspec.msgpack.encode(
                {
                    "rows": self.rows,
                    "columns": [pack_column(column) for column in self.columns.values()],
                    "sample": [
                        sample.size, sample.seed, sample.hashes.tobytes(), sample.counts.tolist(),
                        {name: _packed(values) for name, values in sample.columns.items()},
                    ],
                }
            ),
            6,
        )  # fmt: skip
        return MAGIC + struct.pack("<HI", FORMAT, zlib.crc32(body)) + body

    @classmethod
    def from_bytes(cls, data: bytes) -> "TableSketch":
        """The sketch that `to_bytes` wrote.

        Raises:
            DataError: it isn't one, is damaged, or is of another format.
        """
        head = len(MAGIC) + 6
        if not data.startswith(MAGIC) or len(data) < head:
            raise DataError("This isn't a sketch: it doesn't begin as one.")
        version, checksum = struct.unpack("<HI", data[len(MAGIC) : head])
        if version > FORMAT:
            raise DataError(f"This sketch has format {version}, newer than {FORMAT}; update perron.")
        if version < FORMAT:
            raise DataError(f"This sketch has format {version}, older than {FORMAT}; make it again from the data.")
        if zlib.crc32(data[head:]) != checksum:
            raise DataError("This sketch is damaged: its checksum doesn't fit; make it again.")
        try:
            read = msgspec.msgpack.decode(zlib.decompress(data[head:]))
            made = cls([])
            made.rows = read["rows"]
            made.columns = {item["name"]: unpack_column(item) for item in read["columns"]}
            size, seed, hashes, counts, columns = read["sample"]
            kept = {name: _unpacked(values) for name, values in columns.items()}
            made.sample = Sample(size, seed, np.frombuffer(hashes, np.uint64), np.array(counts, np.int64), kept)
        except (KeyError, TypeError, ValueError, RuntimeError, zlib.error, msgspec.DecodeError) as error:
            raise DataError(f"This sketch is damaged: {str(error).splitlines()[0]}; make it again.") from error
        return made


def _packed(values: npt.NDArray[Any]) -> Any:
    return values.tolist() if values.dtype == object else values.astype(np.float64).tobytes()


def _unpacked(values: Any) -> npt.NDArray[Any]:
    if isinstance(values, bytes):
        return np.frombuffer(values, np.float64)
    made = np.empty(len(values), object)
    made[:] = values
    return made


def merge(first: TableSketch, second: TableSketch) -> TableSketch:
    """A new sketch of the rows of both, which stay as they are.

    Raises:
        DataError: the columns differ, or the seeds.
    """
    made = TableSketch.from_bytes(first.to_bytes())
    made.merge(second)
    return made
