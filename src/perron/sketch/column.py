"""A column's values in; its sketch out.

A `Block` is a chunk of one column as plain arrays; `perron.sketch.arrow` and `from_numpy` make them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from perron.hashes import NULL_HASH, Floats, Hashes, hash_numbers
from perron.sketch.parts import DISTINCT_KEPT, LONGEST_VALUE, TOP_KEPT, Distinct, Moments, Times, TopK, hash_texts
from perron.sketch.quantiles import Quantiles

__all__ = ["Block", "ColumnSketch", "Kind", "from_numpy", "pack_column", "unpack_column"]

Kind = Literal["empty", "number", "time", "bool", "text", "other"]
LENGTHS = 256  # a text of 255 letters and more counts as one of 255
MOST_BINS = 30


@dataclass
class Block:
    """A chunk of a column: numbers (NaN where null), or the different texts and a code per row (-1 where null).

    Times are seconds since 1970 UTC, truth values 0 and 1. `misfits` are values that the column's kind has no
    place for (text among numbers); they count as null in `is_null`.
    """

    kind: Kind
    rows: int
    is_null: npt.NDArray[np.bool_]
    misfits: int = 0
    numbers: Floats | None = None
    whole: npt.NDArray[np.int64] | None = None
    codes: npt.NDArray[np.int64] | None = None
    data: npt.NDArray[np.uint8] | None = None
    offsets: npt.NDArray[np.int64] | None = None
    lengths: npt.NDArray[np.int64] | None = None
    take: Callable[[npt.NDArray[np.intp]], list[str]] | None = None

    def sample(self, places: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """The values at some rows: float64, NaN for null; or text, None for null."""
        if self.numbers is not None:
            return self.numbers[places]
        made = np.full(len(places), None, object)
        if self.codes is not None and self.take is not None:
            given = np.flatnonzero(self.codes[places] >= 0)
            made[given] = _shortened(self.take(self.codes[places][given]))
        return made


def _shortened(texts: list[str]) -> npt.NDArray[np.object_]:
    made = np.empty(len(texts), object)
    made[:] = [text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…" for text in texts]
    return made


def from_numpy(values: npt.ArrayLike, kind: Kind | None = None) -> Block:
    """A block of an array of numbers, truth values, datetime64, or texts (None where null)."""
    array = np.asarray(values)
    if array.dtype.kind == "M":
        is_null = np.isnat(array)
        micros = array.astype("datetime64[us]").astype(np.int64)
        return Block("time", len(array), is_null, numbers=np.where(is_null, np.nan, micros / 1e6))
    if array.dtype.kind in "biuf":
        numbers = array.astype(np.float64)
        made: Kind = "bool" if array.dtype.kind == "b" else kind if kind in ("time", "bool") else "number"
        whole = array.astype(np.int64) if array.dtype.kind in "iu" and array.dtype.itemsize == 8 else None
        return Block(made, len(array), np.isnan(numbers), numbers=numbers, whole=whole)
    texts = array.astype(object)
    if kind in ("number", "bool", "time") or (kind in (None, "empty") and _are_numbers(texts)):
        return _objects(texts, kind or "number")
    return _texts(texts)


def _are_numbers(texts: npt.NDArray[np.object_]) -> bool:
    given = [value for value in texts if value is not None]
    return bool(given) and all(isinstance(value, int | float) for value in given)


def _objects(values: npt.NDArray[np.object_], kind: Kind) -> Block:
    numbers, misfits = np.full(len(values), np.nan), 0
    for place, value in enumerate(values):
        if value is None or value == "":
            continue
        try:
            if isinstance(value, datetime | date) or (kind == "time" and isinstance(value, str)):
                numbers[place] = float(np.datetime64(value, "us").astype(np.int64)) / 1e6
            else:
                numbers[place] = float(value)
        except (TypeError, ValueError, OverflowError):
            misfits += 1
    return Block("number" if kind == "empty" else kind, len(values), np.isnan(numbers), misfits, numbers)


def _texts(values: npt.NDArray[np.object_]) -> Block:
    places: dict[str, int] = {}
    codes = np.array(
        [-1 if v is None or v == "" or v != v else places.setdefault(str(v), len(places)) for v in values], np.int64
    )
    texts = list(places)
    encoded = [text.encode("utf-8", "replace") for text in texts]
    offsets = np.concatenate([[0], np.cumsum([len(item) for item in encoded])]).astype(np.int64)
    return Block(
        "text" if texts else "empty", len(values), codes < 0, codes=codes,
        data=np.frombuffer(b"".join(encoded), np.uint8), offsets=offsets,
        lengths=np.array([len(text) for text in texts], np.int64), take=lambda kept: [texts[place] for place in kept],
    )  # fmt: skip


@dataclass
class ColumnSketch:
    """The summary of one column; of a sensitive one only rows, nulls, misfits, non-finite, zeros and negatives."""

    name: str
    kind: Kind = "empty"
    sensitive: bool = False
    rows: int = 0
    nulls: int = 0
    misfits: int = 0
    nonfinite: int = 0
    zeros: int = 0
    negatives: int = 0
    wholes: int = 0
    low: float | None = None
    high: float | None = None
    distinct: Distinct = field(default_factory=Distinct)
    top: TopK = field(default_factory=TopK)
    moments: Moments = field(default_factory=Moments)
    lengths: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(LENGTHS, np.int64))
    times: Times | None = None
    quantile_sketch: Quantiles = field(default_factory=Quantiles)

    @classmethod
    def sized(cls, name: str, kind: Kind, sensitive: bool, share: float) -> "ColumnSketch":
        """A sketch that keeps a share of what one of few columns keeps."""
        kept, top = max(256, int(DISTINCT_KEPT * share)), max(64, int(TOP_KEPT * share))
        return cls(name, kind, sensitive, distinct=Distinct(kept), top=TopK(top))

    @property
    def given(self) -> int:
        """Values that are neither null nor misfits."""
        return self.rows - self.nulls - self.misfits

    def update(self, block: Block) -> Hashes:
        """The hash of each row's value (zeros for a sensitive column); the block's values are now counted."""
        if self.kind == "empty":
            self.kind = block.kind
        self.rows += block.rows
        self.misfits += block.misfits
        nulls = int(block.is_null.sum()) - block.misfits
        if block.kind == "other":
            self.nulls += nulls
            return np.zeros(block.rows, np.uint64)
        if block.kind not in (self.kind, "empty"):
            self.nulls, self.misfits = self.nulls + nulls, self.misfits + block.rows - nulls - block.misfits
            return np.zeros(block.rows, np.uint64)
        self.nulls += nulls
        return self._update_texts(block) if block.numbers is None else self._update_numbers(block)

    def _update_numbers(self, block: Block) -> Hashes:
        numbers = block.numbers
        assert numbers is not None
        finite = np.isfinite(numbers)
        whole = block.whole if block.whole is not None and np.abs(numbers).max(initial=0) >= 2.0**53 else None
        given = numbers if finite.all() else numbers[finite]
        self.nonfinite += block.rows - len(given) - int(block.is_null.sum())
        self.zeros += int((given == 0).sum())
        self.negatives += int((given < 0).sum())
        if self.sensitive:
            return np.zeros(block.rows, np.uint64)
        hashes = hash_numbers(numbers, whole)
        if block.is_null.any():
            hashes[block.is_null] = NULL_HASH
        if not len(given):
            return hashes
        ordered = np.sort(given)
        self.wholes += int((given == np.floor(given)).sum())
        self.low = float(ordered[0]) if self.low is None else min(self.low, float(ordered[0]))
        self.high = float(ordered[-1]) if self.high is None else max(self.high, float(ordered[-1]))
        self.moments.update(given)
        self.quantile_sketch.update(ordered)
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        kept, counts = self.top.keep(np.diff(np.append(starts, len(ordered))))
        values = ordered[starts[kept]]
        self.top.add(hash_numbers(values), counts, values.astype(object))
        if whole is None and len(starts) < len(given) // 4:
            self.distinct.update(hash_numbers(ordered[starts]))  # as many hashes, fewer to sort
        else:
            self.distinct.update(hashes if len(given) == len(hashes) else hashes[finite])
        if self.kind == "time":
            self.times = self.times or Times()
            self.times.update(given)
        return hashes

    def _update_texts(self, block: Block) -> Hashes:
        if self.sensitive:
            return np.zeros(block.rows, np.uint64)
        if block.codes is None or not len(block.codes):
            return np.full(block.rows, NULL_HASH)
        assert block.data is not None and block.offsets is not None and block.lengths is not None and block.take
        different = hash_texts(block.data, block.offsets)
        counts = np.bincount(block.codes[block.codes >= 0], minlength=len(different)).astype(np.int64)
        self.distinct.update(different)
        self.moments.update(np.repeat(block.lengths, counts).astype(np.float64))
        np.add.at(self.lengths, np.minimum(block.lengths, LENGTHS - 1), counts)
        if len(block.lengths):
            least, most = float(block.lengths.min()), float(block.lengths.max())
            self.low, self.high = min(self.low or least, least), max(self.high or most, most)
        kept, left = self.top.keep(counts)
        self.top.add(different[kept], left, _shortened(block.take(kept)))
        return np.append(different, NULL_HASH)[block.codes]

    def merge(self, other: "ColumnSketch") -> None:
        """Adds the other's values; of two kinds the one with more values stays, the other's are misfits."""
        if other.kind not in (self.kind, "empty") and self.kind != "empty":
            if other.given > self.given:
                mine = (self.rows, self.nulls, self.misfits + self.given)
                self.__dict__.update(vars(_copy(other)))
            else:
                mine = (other.rows, other.nulls, other.misfits + other.given)
            self.rows, self.nulls, self.misfits = self.rows + mine[0], self.nulls + mine[1], self.misfits + mine[2]
            return
        self.kind = other.kind if self.kind == "empty" else self.kind
        for name in ("rows", "nulls", "misfits", "nonfinite", "zeros", "negatives", "wholes"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        lows = [value for value in (self.low, other.low) if value is not None]
        highs = [value for value in (self.high, other.high) if value is not None]
        self.low, self.high = min(lows, default=None), max(highs, default=None)
        self.distinct.update(other.distinct.hashes)
        self.top.merge(other.top)
        self.moments.merge(other.moments)
        self.lengths = self.lengths + other.lengths
        self.quantile_sketch.merge(other.quantile_sketch)
        if other.times is not None:
            self.times = self.times or Times()
            self.times.merge(other.times)

    def quantiles(self, ranks: list[float]) -> list[float]:
        """The values at some ranks from 0 to 1; none where there are no numbers."""
        return self.quantile_sketch.quantiles(ranks)

    def histogram(self, bins: int = MOST_BINS) -> tuple[list[float], list[float]]:
        """Edges and counts over the middle 98 % of the numbers where the ends lie far off, else over all."""
        if not self.quantile_sketch.n or self.low is None or self.high is None or self.low == self.high:
            return [], []
        low, high, bins = self.low, self.high, min(bins, MOST_BINS)
        first, last = self.quantiles([0.01, 0.99])
        if last > first and (high - low) > 4 * (last - first):
            low, high = max(low, first - (last - first) * 0.05), min(high, last + (last - first) * 0.05)
        edges = np.unique(np.linspace(low, high, bins + 1))
        if len(edges) < 3 or not np.isfinite(edges).all():
            return [], []
        below = self.quantile_sketch.ranks(edges, inclusive=False)
        if high == self.high:
            below[-1] = 1.0  # the greatest value itself lies on the last edge
        return edges.tolist(), (np.diff(below) * self.moments.n).tolist()


def _copy(sketch: ColumnSketch) -> ColumnSketch:
    return unpack_column(pack_column(sketch))


_ARRAYS = {"hashes": np.uint64, "counts": np.int64}


def pack_column(c: ColumnSketch) -> dict[str, Any]:
    """The sketch as plain data."""
    q = c.quantile_sketch
    return {
        "name": c.name, "kind": c.kind, "sensitive": c.sensitive,
        "n": [c.rows, c.nulls, c.misfits, c.nonfinite, c.zeros, c.negatives, c.wholes],
        "range": [c.low, c.high],
        "distinct": [c.distinct.size, c.distinct.hashes.tobytes()],
        "top": [c.top.size, c.top.error, c.top.hashes.tobytes(), c.top.counts.tolist(), c.top.values.tolist()],
        "moments": [c.moments.n, c.moments.mean, c.moments.m2, c.moments.m3, c.moments.m4],
        "lengths": c.lengths.tolist() if c.lengths.any() else None,
        "quantiles": [q.k, q.n, q.low, q.high, [level.tobytes() for level in q.levels]] if q.n else None,
        "times": None if c.times is None else [
            c.times.level, c.times.weekdays.tolist(), c.times.hours.tolist(), c.times.months.tolist(),
            c.times.buckets.tolist(), c.times.counts.tolist(),
        ],
    }  # fmt: skip


def unpack_column(data: dict[str, Any]) -> ColumnSketch:
    """The sketch that `pack_column` wrote."""
    made = ColumnSketch(data["name"], data["kind"], data["sensitive"], *data["n"], *data["range"])
    made.distinct = Distinct(data["distinct"][0], np.frombuffer(data["distinct"][1], np.uint64))
    size, error, hashes, counts, values = data["top"]
    kept = np.empty(len(values), object)
    kept[:] = values
    made.top = TopK(size, np.frombuffer(hashes, np.uint64), np.array(counts, np.int64), kept, error)
    made.moments = Moments(*data["moments"])
    if data["lengths"] is not None:
        made.lengths = np.array(data["lengths"], np.int64)
    if data["quantiles"] is not None:
        k, n, low, high, levels = data["quantiles"]
        made.quantile_sketch = Quantiles(k, n, low, high, [np.frombuffer(level, np.float64) for level in levels])
    if data["times"] is not None:
        level, *arrays = data["times"]
        weekdays, hours, months, buckets, counts = (np.array(array, np.int64) for array in arrays)
        made.times = Times(weekdays, hours, months, level, buckets, counts)
    return made
