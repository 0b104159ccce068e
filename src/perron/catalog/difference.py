"""Two snapshots in; what differs out: the contract, the rows (by Id where there is one), and what moved."""

from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from perron.catalog import Entry, schema_of, sketch_of
from perron.contract import Field, Role, Schema
from perron.profile.difference import compare
from perron.project import Project
from perron.split.leaks import row_hashes

__all__ = ["difference"]

EXAMPLES = 5
COMPARED = ("kind", "column", "optional", "values", "roles", "unit", "doc")  # of a field, beside its rules


def difference(project: Project, old: Entry, new: Entry) -> dict[str, Any]:
    """What changed from one snapshot to another.

    `schema` holds `added`, `removed` and `changed[]` (`field`, `changes[]`); `rows` holds `by` (the Id field, or
    `row`), `before`, `after`, `added`, `removed`, `changed`, `columns` (field → rows in which it changed) and
    `examples` of Ids; `moved[]` is what `perron profile --against` tells of two tables.

    Rows and Ids are told apart by hashes of 64 bits: the chance of one false match is n² / 2^65. Memory: 16 bytes a
    row and a column at a time.

    Raises:
        LedgerError: the store doesn't have the rows of one of the two.
    """
    before, after = schema_of(project, old), schema_of(project, new)
    rows = _Rows(project, old, new, before, after).compare()
    moved = compare(sketch_of(project, new), sketch_of(project, old))["columns"]
    return {
        "from": old.digest,
        "to": new.digest,
        "identical": old.digest == new.digest,
        "schema": _schemas(before, after),
        "rows": rows,
        "moved": moved,
    }


def _schemas(before: Schema, after: Schema) -> dict[str, Any]:
    changed = []
    for field in after.fields:
        if field.name in before:
            changes = _fields(before[field.name], field)
            if changes:
                changed.append({"field": field.name, "changes": changes})
    return {
        "added": [field.name for field in after.fields if field.name not in before],
        "removed": [field.name for field in before.fields if field.name not in after],
        "changed": changed,
    }


def _fields(before: Field, after: Field) -> list[str]:
    """The changes of one field, in words."""
    changes = [
        f"{name}: {_show(getattr(before, name))} → {_show(getattr(after, name))}"
        for name in COMPARED
        if getattr(before, name) != getattr(after, name)
    ]
    told = {"values", "required"}  # by `values` and `optional`
    was = {code: words for code, words in before.rules.items() if code not in told}
    now = {code: words for code, words in after.rules.items() if code not in told}
    changes += [
        f"rule {was.get(code, 'none')} → {now.get(code, 'none')}"
        for code in dict.fromkeys([*was, *now])
        if was.get(code) != now.get(code)
    ]
    return changes


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(getattr(item, "value", item)) for item in value) or "none"
    return "none" if value is None else str(value)


class _Rows:
    """The rows of two snapshots, read a column at a time."""

    def __init__(self, project: Project, old: Entry, new: Entry, before: Schema, after: Schema) -> None:
        self._paths = project.store.get(old.digest), project.store.get(new.digest)
        self._counts = old.rows, new.rows
        self._common = [field.name for field in after.fields if field.name in before]
        field = after.with_role(Role.ID)
        self._id = field if field is not None and field.name in before else None

    def compare(self) -> dict[str, Any]:
        base = {"before": self._counts[0], "after": self._counts[1], "compared": self._common}
        if self._id is not None and self._common != [self._id.name]:
            tables = self._read(self._id.name)
            if all(not table.column(0).null_count for table in tables):
                hashes = [row_hashes(table) for table in tables]
                if all(len(np.unique(part)) == len(part) for part in hashes):
                    return {**base, "by": self._id.name, **self._by_id(tables, hashes)}
        return {**base, "by": "row", **self._by_row()}

    def _read(self, *names: str) -> list[pa.Table]:
        return [parquet.read_table(path, columns=list(names)) for path in self._paths]

    def _by_id(self, ids: list[pa.Table], hashes: list[Any]) -> dict[str, Any]:
        assert self._id is not None
        _, mine, theirs = np.intersect1d(hashes[0], hashes[1], assume_unique=True, return_indices=True)
        is_changed = np.zeros(len(mine), bool)
        columns = {}
        for name in self._common:
            if name == self._id.name:
                continue
            before, after = (row_hashes(table) for table in self._read(name))
            differs = before[mine] != after[theirs]
            if differs.any():
                columns[name] = int(differs.sum())
                is_changed |= differs
        gone = np.setdiff1d(np.arange(len(hashes[0])), mine)
        fresh = np.setdiff1d(np.arange(len(hashes[1])), theirs)
        places = {"added": (1, fresh), "removed": (0, gone), "changed": (1, np.sort(theirs[is_changed]))}
        is_hidden = Role.SENSITIVE in self._id.roles
        examples = {
            what: [] if is_hidden else ids[part].column(0).take(pa.array(rows[:EXAMPLES])).to_pylist()
            for what, (part, rows) in places.items()
        }
        return {
            "added": len(fresh),
            "removed": len(gone),
            "changed": int(is_changed.sum()),
            "columns": dict(sorted(columns.items(), key=lambda item: -item[1])),
            "examples": examples,
        }

    def _by_row(self) -> dict[str, Any]:
        """Rows that came and went, each as often as it is there: without an Id a changed row is one of each."""
        if not self._common:
            return {
                "added": self._counts[1],
                "removed": self._counts[0],
                "changed": None,
                "columns": {},
                "examples": {},
            }
        before, after = (self._row_hashes(path) for path in self._paths)
        values, places = np.unique(np.concatenate([before, after]), return_inverse=True)
        more = np.bincount(places[len(before) :], minlength=len(values))
        more = more - np.bincount(places[: len(before)], minlength=len(values))
        added, removed = int(more[more > 0].sum()), int(-more[more < 0].sum())
        return {"added": added, "removed": removed, "changed": None, "columns": {}, "examples": {}}

    def _row_hashes(self, path: Any) -> Any:
        with parquet.ParquetFile(path) as file:
            parts = [
                row_hashes(pa.Table.from_batches([batch]).select(self._common))
                for batch in file.iter_batches(columns=self._common)
            ]
        return np.concatenate(parts) if parts else np.empty(0, np.uint64)
