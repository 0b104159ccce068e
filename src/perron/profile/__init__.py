"""A source in; its profile out: sketches, findings, associations, and what moved against another source."""

import html
import importlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from perron.errors import DataError, nearest
from perron.profile.associations import Rows, associate, measure_of
from perron.profile.difference import compare
from perron.profile.findings import Finding, find, is_id, moment
from perron.sketch import ColumnSketch, TableSketch
from perron.source import Readable, ReadAhead, describe, is_opened, open_source

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Finding", "Profile", "profile", "profile_of", "sketch_of"]

MOST_ASSOCIATED = 40
THREADS = 2
CHUNK_ROWS, CHUNK_CELLS = 16_384, 2_000_000


@dataclass(frozen=True)
class Profile:
    """What is known of a table; shows itself in a notebook, and as a page by `to_html`."""

    name: str
    sketch: TableSketch
    target: str | None = None
    against: tuple[str, TableSketch] | None = None

    @property
    def rows(self) -> int:
        return self.sketch.rows

    @property
    def columns(self) -> list[ColumnSketch]:
        return list(self.sketch.columns.values())

    @cached_property
    def sampled(self) -> Rows:
        """The sample of rows as arrays."""
        return Rows.of(self.sketch)

    @cached_property
    def findings(self) -> list[Finding]:
        """What costs a model, the dearest first."""
        return find(self.sketch, self.sampled, self.target)

    @cached_property
    def difference(self) -> dict[str, Any] | None:
        """What moved since the other source; None without one."""
        return None if self.against is None else {"name": self.against[0], **compare(self.sketch, self.against[1])}

    @cached_property
    def relations(self) -> list[dict[str, Any]]:
        """How much each column says of the target, the most first."""
        if self.target is None or self.target not in self.sampled.nulls:
            return []
        found = []
        for column in self.columns:
            if column.name != self.target and self._is_told(column):
                measure, value = measure_of(self.sampled, column.name, self.target)
                found.append({"column": column.name, "measure": measure, "value": round(value, 4)})
        return sorted(found, key=lambda r: -abs(float(str(r["value"]))))

    @cached_property
    def associated(self) -> list[ColumnSketch]:
        """The columns that are compared with each other: 40 at most, those that say most of the target first."""
        able = [column for column in self.columns if self._is_told(column)]
        if len(able) > MOST_ASSOCIATED and self.target is not None:
            place = {relation["column"]: i for i, relation in enumerate(self.relations)}
            able.sort(key=lambda c: -1 if c.name == self.target else place.get(c.name, len(place)))
        kept = {column.name for column in able[:MOST_ASSOCIATED]}
        return [column for column in self.columns if column.name in kept]

    def _is_told(self, column: ColumnSketch) -> bool:
        if column.name not in self.sampled.nulls or column.distinct.estimate < 2 or self.sampled.size < 10:
            return False
        if is_id(column, self.rows):
            return False
        return column.name not in self.sampled.codes or column.distinct.estimate <= 1000

    @cached_property
    def associations(self) -> list[dict[str, Any]]:
        """Every pair of the associated columns, with its measure and value."""
        return associate(self.sampled, self.associated)

    def to_json(self) -> dict[str, Any]:
        """Plain data: `rows`, `columns[]`, `findings[]`, `associations[]`, `target`, `difference`."""
        return {
            "format": 1,
            "source": self.name,
            "rows": self.rows,
            "columns": [_column_json(column) for column in self.columns],
            "findings": [finding.to_json() for finding in self.findings],
            "associations": self.associations,
            "target": None if self.target is None else {"column": self.target, "relations": self.relations},
            "difference": self.difference,
        }

    def to_html(self) -> str:
        """One self-contained page."""
        page: str = importlib.import_module("perron.pages.report").render(self)
        return page

    def _repr_html_(self) -> str:
        page = html.escape(self.to_html(), quote=True)
        return f'<iframe title="Profile" style="width:100%;height:760px;border:0" sandbox="" srcdoc="{page}"></iframe>'


def profile(
    source: Readable,
    *,
    target: str | None = None,
    against: Readable | None = None,
    sensitive: Iterable[str] = (),
    seed: int = 0,
) -> Profile:
    """The profile of a source; memory is bounded whatever its size.

    Raises:
        SourceError: a source can't be read.
        DataError: there is no such target or sensitive column.
    """
    hidden = list(sensitive)
    sketch = sketch_of(source, sensitive=hidden, seed=seed)
    if target is not None and target not in sketch.columns:
        raise DataError(f"There is no column {target!r} to predict; {nearest(target, sketch.columns)}")
    other = None
    if against is not None:
        other = (_name(against), sketch_of(against, sensitive=hidden, seed=seed, missing_ok=True))
    return Profile(_name(source), sketch, target, other)


def profile_of(table: "pa.Table", *, target: str | None = None, name: str = "table", seed: int = 0) -> Profile:
    """The profile of an Arrow table in memory.

    Raises:
        DataError: there is no such target, or a column name comes twice.
    """
    sketch = TableSketch(table.column_names, seed=seed, threads=_threads())
    for batch in table.to_batches(65_536):
        sketch.update(batch)
    if target is not None and target not in sketch.columns:
        raise DataError(f"There is no column {target!r} to predict; {nearest(target, sketch.columns)}")
    return Profile(name, sketch, target)


def sketch_of(
    source: Readable, *, sensitive: Iterable[str] = (), seed: int = 0, missing_ok: bool = False
) -> TableSketch:
    """The sketch of all rows of a source.

    Raises:
        SourceError: it can't be read.
        DataError: there is no such sensitive column.
    """
    opened = open_source(source)
    for name in sensitive:
        if name not in opened.names and not missing_ok:
            raise DataError(f"There is no sensitive column {name!r}; {nearest(name, opened.names)}")
    sketch = TableSketch(opened.names, sensitive=sensitive, seed=seed, threads=_threads())
    with ReadAhead(opened) as ahead:
        for batch in _in_large_chunks(ahead.chunks(), len(opened.names)):
            sketch.update(batch)
    return sketch


def _in_large_chunks(chunks: "Iterable[pa.RecordBatch]", columns: int) -> "Iterator[pa.RecordBatch]":
    """The same rows in fewer chunks where they have few rows, as those of 10,000 columns have: each costs every column."""
    import pyarrow as pa

    kept: list[pa.RecordBatch] = []
    least = min(CHUNK_ROWS, max(1, CHUNK_CELLS // max(1, columns)))
    for chunk in chunks:
        kept.append(chunk)
        if sum(piece.num_rows for piece in kept) >= least:
            yield from pa.Table.from_batches(kept).combine_chunks().to_batches() if len(kept) > 1 else kept
            kept = []
    if kept:
        yield from pa.Table.from_batches(kept).combine_chunks().to_batches()


def _threads() -> int:
    return min(THREADS, os.cpu_count() or 1)


def _name(source: Readable) -> str:
    return str(getattr(source, "name", type(source).__name__)) if is_opened(source) else describe(source).name


def _column_json(c: ColumnSketch) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": c.name, "kind": c.kind, "rows": c.rows, "nulls": c.nulls, "misfits": c.misfits,
        "nonfinite": c.nonfinite,
    }  # fmt: skip
    if c.sensitive:
        return {**made, "sensitive": True}
    made |= {"distinct": c.distinct.estimate, "distinct_is_exact": c.distinct.is_exact}
    if c.kind in ("number", "time", "bool"):
        show = moment if c.kind == "time" else float
        m = c.moments
        ranks = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
        quantiles = zip(ranks, c.quantiles(ranks), strict=False)
        made |= {
            "min": None if c.low is None else show(c.low), "max": None if c.high is None else show(c.high),
            "quantiles": {str(rank): show(value) for rank, value in quantiles},
        }  # fmt: skip
        if c.kind != "time":
            mean = m.mean if m.n and abs(m.mean) < float("inf") else None
            made |= {
                "mean": mean, "std": m.std, "skew": m.skew, "kurtosis": m.kurtosis, "zeros": c.zeros,
                "negatives": c.negatives,
            }  # fmt: skip
    elif c.kind == "text":
        made |= {"min_length": c.low, "max_length": c.high, "mean_length": c.moments.mean}
    show_top = moment if c.kind == "time" else (lambda value: value)
    made["top"] = [{"value": show_top(value), "count": count} for value, count in c.top.most(10)]
    made["top_error"] = c.top.error
    return made
