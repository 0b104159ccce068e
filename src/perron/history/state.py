"""What a bundle knows of its series, rows as they are asked about, and outcomes as they come in; the rows' pasts out.

The state of a series is its newest moments, as many as the declarations can look back on and some
more. It begins with what the bundle holds, the newest moments of the snapshot that the model came of:

    history.json   the declarations, the fields, and the series by name
    history.npz    their times and values

and goes on with what is observed: the values of rows that were predicted, and the target's when the
outcome arrives. A moment has one value per field, the newest; what was observed before the snapshot
was taken fills gaps only. With a journal the state survives a restart, and the processes that share it
see each other's observations. The server imports this: NumPy and the standard library alone.
"""

import json
import threading
import time as clock
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from perron.check import parse
from perron.contract import Field, Role, Schema
from perron.errors import BundleError
from perron.history import Past, series_field
from perron.history.journal import Cut, Entry, Journal
from perron.history.moments import Moments, longest, merge, pasts_of
from perron.tensors import microseconds

__all__ = ["FILES", "Block", "History", "Key", "Part", "Scope", "pack_history", "parted", "read_history"]

FORMAT = 1
FILES = ("history.json", "history.npz")
MOST_MOMENTS = 100_000  # of a series, where more than usual lie within a span
MOST_SERIES = 100_000  # or twice those of the bundle, if that is more; the ones that were observed last stay
Key = str | int | bool | None


@dataclass(frozen=True)
class Block:
    """The moments of one series, oldest first: times (n,) and values (fields, n). Never changed in place."""

    times: Any
    values: Any


def parted(pasts: Sequence[Past], schema: Schema) -> dict[str | None, tuple[tuple[Past, ...], tuple[str, ...]]]:
    """The declarations by the field that tells their series apart, with the fields that they are of."""
    found: dict[str | None, list[Past]] = {}
    for past in pasts:
        found.setdefault(series_field(past, schema), []).append(past)
    return {by: (tuple(some), tuple(dict.fromkeys(past.field for past in some))) for by, some in found.items()}


class Scope:
    """The series that are told apart by one field (`by`; None: all rows are one), and what is known of them.

    Of a series at least `keep` of its newest moments stay, and those within the longest span that is looked
    back on. (That span alone wouldn't do: one row from the year 9999 would empty it.)
    """

    def __init__(
        self,
        by: str | None,
        pasts: tuple[Past, ...],
        fields: tuple[str, ...],
        keep: int,
        time_dtype: Any,
        series: dict[Key, Block],
    ) -> None:
        self.by, self.pasts, self.fields, self.keep, self.series = by, pasts, fields, keep, series
        self.span_us = max((past.span_us + past.after_us for past in pasts), default=0)
        self.time_dtype = time_dtype
        self._empty = Block(np.empty(0, time_dtype), np.empty((len(fields), 0)))
        self._most_series = max(MOST_SERIES, 2 * len(series))

    def blocks(self, known: Sequence[Key]) -> list[Block]:
        """What is known of these series."""
        return [self.series.get(key, self._empty) for key in known]

    def pasts_of_rows(self, blocks: Sequence[Block], codes: Any, times: Any, values: Any) -> dict[str, Any]:
        """The pasts (n,) of rows of the series `blocks[code]`, each of which sees those before it among the others."""
        rows = len(codes)
        if rows == 1:  # nothing lies beside it
            moments = Moments(np.zeros(blocks[0].times.size, np.int64), blocks[0].times, self.fields, blocks[0].values)
            return pasts_of(self.pasts, moments, codes, times)
        moments, places = self._joined(blocks, codes, times, values)
        if rows < moments.times.size // 2:
            return pasts_of(self.pasts, moments, codes, times)
        found = pasts_of(self.pasts, moments, moments.series, moments.times)  # in order: many times as fast
        return {name: numbers[places[places.size - rows :]] for name, numbers in found.items()}

    def absorb(
        self, known: Sequence[Key], codes: Any, times: Any, values: Any, *, under: bool = False
    ) -> list[tuple[Key, Any]]:
        """Adds rows; `under` what is known already. Gives the series that were cut, with the first time that stays (None: they went)."""
        if len(known) == 1 and len(codes) == 1:
            block = self.series.get(known[0], self._empty)
            if not block.times.size or times[0] > block.times[-1]:  # the usual case while serving
                longer = Block(np.append(block.times, times), np.concatenate([block.values, values], axis=1))
                return self._put(known[0], longer) + self._evicted()
        moments, _ = self._joined(self.blocks(known), codes, times, values, under=under)
        cuts: list[tuple[Key, Any]] = []
        start = 0
        for key, end in zip(
            known, np.searchsorted(moments.series, np.arange(len(known)), "right").tolist(), strict=True
        ):
            cuts += self._put(key, Block(moments.times[start:end], moments.values[:, start:end]))
            start = end
        return cuts + self._evicted()

    def _joined(
        self, blocks: Sequence[Block], codes: Any, times: Any, values: Any, *, under: bool = False
    ) -> tuple[Moments, Any]:
        """What is known of these series and the rows, as one; the later of the two counts."""
        mine = np.repeat(np.arange(len(blocks)), [block.times.size for block in blocks])
        old = (mine, np.concatenate([b.times for b in blocks]), np.concatenate([b.values for b in blocks], axis=1))
        new = (codes, times, values)
        series, times, values = (
            np.concatenate(pair, axis=-1) for pair in zip(*((new, old) if under else (old, new)), strict=True)
        )
        return merge(series, times, self.fields, values)

    def _put(self, key: Key, block: Block) -> list[tuple[Key, Any]]:
        self.series.pop(key, None)  # the order of the series is that of their last observation
        size = block.times.size
        first = 0
        if size > 2 * self.keep:
            first = size - self.keep
            if self.span_us:
                within = int(np.searchsorted(block.times, block.times[-1] - self.span_us))
                first = max(min(first, within), size - max(MOST_MOMENTS, self.keep))
        if not first:
            self.series[key] = block
            return []
        self.series[key] = Block(block.times[first:].copy(), block.values[:, first:].copy())
        return [(key, block.times[first].item())]

    def _evicted(self) -> list[tuple[Key, Any]]:
        gone = []
        while len(self.series) > self._most_series:
            key = next(iter(self.series))
            del self.series[key]
            gone.append((key, None))
        return gone


Part = tuple[Scope, Sequence[Key], Any, Any, Any]
"""Rows (n,) for a scope: what the series are called, the rows' places among these, their times and values (fields, n)."""


def _coded(keys: Sequence[Key]) -> tuple[list[Key], Any]:
    places: dict[Key, int] = {}
    codes = np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
    return list(places), codes


class History:
    """The state of a bundle's series.

    Rows are tuples in the order of `schema.request`, checked. Thread safe.
    """

    def __init__(self, schema: Schema, pasts: tuple[Past, ...], scopes: Sequence[Scope], taken: float) -> None:
        self.schema, self.pasts, self.scopes = schema, pasts, tuple(scopes)
        self.names = tuple(past.name for past in pasts)
        self._taken = taken
        self._journal: Journal | None = None
        self._lock = threading.Lock()
        time = schema.with_role(Role.TIME)
        assert time is not None and schema.target is not None
        self.time, self._target = time, schema.target.name
        self._order = {field.name: place for place, field in enumerate(schema.request)}

    def attach(self, path: Path, *, sync: bool = False) -> None:
        """Goes on from what a journal holds, and keeps there what is observed from now on.

        Raises:
            LedgerError: the journal can't be opened.
        """
        with self._lock:
            self._journal = Journal(path, sync=sync)
            for scope in self.scopes:
                scope.keep = self._journal.agree(scope.by or "", scope.keep)

    def features(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
        """The past of n ≥ 1 rows, an array (n,) float64 per declaration. The rows see each other's, and aren't kept.

        Raises:
            LedgerError: the journal can't be read.
        """
        return self.features_of_table([self._placed(scope, rows) for scope in self.scopes])

    def observe(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Keeps the values of rows that were predicted, for rows that come after them.

        Raises:
            LedgerError: the journal can't be written; the rows aren't kept then.
        """
        parts = [self._placed(scope, rows) for scope in self.scopes]
        with self._lock:
            self._catch_up()
            self._keep(parts)

    def observe_outcome(self, row: Mapping[str, Any], value: Any) -> None:
        """Keeps what the target came to, at the moment and in the series of the row that was predicted (as it was sent).

        A later outcome of the same moment takes the place of an earlier one.

        Raises:
            LedgerError: the journal can't be written; the outcome isn't kept then.
        """
        if not any(self._target in scope.fields for scope in self.scopes):
            return
        number = float(parse(self.schema[self._target], value))
        times = np.array([_tick(parse(self.time, row[self.time.name]))])
        parts: list[Part] = []
        for scope in self.scopes:
            if self._target in scope.fields:
                values = np.full((len(scope.fields), 1), np.nan)
                values[scope.fields.index(self._target)] = number
                parts.append(
                    (scope, [self._key(scope, row)], np.zeros(1, np.int64), times.astype(scope.time_dtype), values)
                )
        with self._lock:
            self._catch_up()
            self._keep(parts)

    def features_of_table(self, parts: Sequence["Part"]) -> dict[str, Any]:
        """The past of rows that are placed already, as `features` gives it.

        Raises:
            LedgerError: the journal can't be read.
        """
        with self._lock:
            self._catch_up()
            found = [scope.blocks(known) for scope, known, *_ in parts]
        made: dict[str, Any] = {}  # computed without the lock: blocks never change
        for (scope, _, *rows), blocks in zip(parts, found, strict=True):
            made |= scope.pasts_of_rows(blocks, *rows)
        return made

    def observe_table(self, parts: Sequence["Part"]) -> None:
        """Keeps many rows that are placed already; of what the state lets go at once nothing is written.

        Raises:
            LedgerError: the journal can't be written.
        """
        with self._lock:
            self._catch_up()
            for part in parts:
                scope, known, codes, times, values = part
                cuts = _cuts(scope, scope.absorb(known, codes, times, values))
                if self._journal is not None:
                    first = np.array([block.times[0] if block.times.size else np.inf for block in scope.blocks(known)])
                    stays = times >= first[codes]
                    kept = (scope, known, codes[stays], times[stays], values[:, stays])
                    self._journal.write(_entries(kept), cuts)

    def forget(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Deletes from the journal what was observed at the moments of rows (as they were sent), outcomes included.

        Raises:
            LedgerError: the journal can't be written.
        """
        assert self._journal is not None
        placed = [(row, _tick(parse(self.time, row[self.time.name]))) for row in rows]
        with self._lock:
            self._journal.forget(
                (scope.by or "", json.dumps(self._key(scope, row)), time)
                for scope in self.scopes
                for row, time in placed
            )

    def _key(self, scope: Scope, row: Mapping[str, Any]) -> Key:
        found: Key = None if scope.by is None else parse(self.schema[scope.by], row[scope.by])
        return found

    def close(self) -> None:
        """Closes the journal."""
        with self._lock:
            if self._journal is not None:
                self._journal.close()
                self._journal = None

    def _placed(self, scope: Scope, rows: Sequence[tuple[Any, ...]]) -> "Part":
        """The rows, for a scope; their target is unknown."""
        order = self._order
        at = order[self.time.name]
        times = np.array([_tick(row[at]) for row in rows], scope.time_dtype)
        values = np.full((len(scope.fields), len(rows)), np.nan)
        for place, name in enumerate(scope.fields):
            if name != self._target:
                values[place] = [row[order[name]] for row in rows]  # None is NaN
        keys = [None] if scope.by is None else [row[order[scope.by]] for row in rows]
        known, codes = _coded(keys)
        return scope, known, codes if scope.by is not None else np.zeros(len(rows), np.int64), times, values

    def _keep(self, parts: Sequence["Part"]) -> None:
        """Writes, then adds to the state, so that what can't be written is not in it either."""
        if self._journal is not None:
            self._journal.write([entry for part in parts for entry in _entries(part)])
            self._catch_up()  # on what others wrote before this; otherwise it would count as the newer
        cuts = [cut for scope, *rows in parts for cut in _cuts(scope, scope.absorb(*rows))]
        if self._journal is not None:
            self._journal.write((), cuts)

    def _catch_up(self) -> None:
        """Takes in what other processes observed."""
        if self._journal is None:
            return
        news = self._journal.news()
        cuts: list[Cut] = []
        for scope in self.scopes if news else ():
            mine = [entry for entry in news if entry.scope == (scope.by or "") and entry.field in scope.fields]
            for under in (True, False):
                some = [entry for entry in mine if (entry.seen < self._taken) == under]
                if some:
                    values = np.full((len(scope.fields), len(some)), np.nan)
                    places = [scope.fields.index(entry.field) for entry in some]
                    values[places, np.arange(len(some))] = [
                        np.nan if entry.value is None else entry.value for entry in some
                    ]
                    known, codes = _coded([json.loads(entry.series) for entry in some])
                    times = np.array([entry.time for entry in some], scope.time_dtype)
                    cuts += _cuts(scope, scope.absorb(known, codes, times, values, under=under))
        self._journal.write((), cuts)


def _entries(part: Part) -> list[Entry]:
    scope, known, codes, times, values = part
    seen, names = clock.time(), [json.dumps(key) for key in known]
    return [
        Entry(scope.by or "", names[code], time, field, None if value != value else value, seen)
        for field, numbers in zip(scope.fields, values.tolist(), strict=True)
        for code, time, value in zip(codes.tolist(), times.tolist(), numbers, strict=True)
    ]


def _cuts(scope: Scope, cuts: Sequence[tuple[Key, Any]]) -> list[Cut]:
    return [Cut(scope.by or "", json.dumps(key), before) for key, before in cuts]


def _tick(value: Any) -> int | float:
    """A time as moments have it: microseconds of dates and datetimes, else the number."""
    return value if isinstance(value, int | float) else microseconds(value)


def _time_dtype(field: Field) -> Any:
    return np.float64 if field.kind == "float" else np.int64


def pack_history(
    schema: Schema, pasts: Sequence[Past], frames: Mapping[str | None, tuple[Sequence[Key], Moments]], taken: float
) -> dict[str, bytes]:
    """A bundle's files by name: of each series as many of its newest moments as may be looked back on, and half as many again.

    Args:
        frames: by the field that tells the series apart: what they are called, and all their moments.
        taken: when the snapshot was, in seconds since 1970.
    """
    scopes, arrays = [], {}
    for place, (by, (some, fields)) in enumerate(parted(pasts, schema).items()):
        known, moments = frames[by]
        need = longest(some, moments)
        keep = need + max(16, need // 2)
        ends = np.searchsorted(moments.series, np.arange(len(known)), "right")
        stays = ends[moments.series] - np.arange(moments.times.size) <= keep
        arrays[f"times_{place}"], arrays[f"values_{place}"] = moments.times[stays], moments.values[:, stays]
        arrays[f"sizes_{place}"] = np.bincount(moments.series[stays], minlength=len(known))
        scopes.append({"by": by, "fields": list(fields), "keep": keep, "series": list(known)})
    facts = {"format": FORMAT, "taken": taken, "pasts": [past.to_json() for past in pasts], "scopes": scopes}
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    return dict(zip(FILES, (json.dumps(facts, ensure_ascii=False).encode(), buffer.getvalue()), strict=True))


def read_history(folder: Path, schema: Schema) -> History:
    """The state that a bundle begins with.

    Raises:
        BundleError: its files aren't what `pack_history` writes, or are of a newer format.
    """
    try:
        facts = json.loads((folder / FILES[0]).read_bytes())
        if facts["format"] > FORMAT:
            raise BundleError(f"{folder / FILES[0]} has format {facts['format']}, newer than {FORMAT}; update perron.")
        pasts = tuple(Past.from_json(item) for item in facts["pasts"])
        time = schema.with_role(Role.TIME)
        assert time is not None
        parts, scopes = parted(pasts, schema), []
        with np.load(folder / FILES[1], allow_pickle=False) as arrays:
            for place, item in enumerate(facts["scopes"]):
                times, values, sizes = (arrays[f"{name}_{place}"] for name in ("times", "values", "sizes"))
                ends = np.cumsum(sizes)
                places = zip(item["series"], (ends - sizes).tolist(), ends.tolist(), strict=True)
                series = {key: Block(times[start:end], values[:, start:end]) for key, start, end in places}
                some, fields = parts[item["by"]]
                scopes.append(Scope(item["by"], some, fields, item["keep"], _time_dtype(time), series))
        return History(schema, pasts, scopes, facts["taken"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"The history in {folder} is damaged: {error}.") from error
