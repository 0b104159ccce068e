"""A source and a contract in; the good rows as one immutable Parquet blob and the bad ones in quarantine out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from perron.check.rules import RuleCheck, Verdict, known_values
from perron.check.table import TableCheck
from perron.contract import Schema
from perron.errors import DataError
from perron.rules import Rule
from perron.source import Source
from perron.store import Store

__all__ = ["Snapshot", "part_rows", "read_parts", "read_snapshot", "take_snapshot"]


@dataclass(frozen=True)
class Snapshot:
    """What a source held: digests of the good rows (Parquet) and of the quarantine (CSV, None if empty), and counts."""

    digest: str
    rows: int
    quarantined: int
    quarantine: str | None
    faults: list[dict[str, Any]]
    findings: list[dict[str, Any]] = field(default_factory=list)


def take_snapshot(
    source: Source,
    schema: Schema,
    store: Store,
    max_bad_share: float = 1.0,
    rules: Sequence[Rule] = (),
    folder: Path = Path(),
) -> Snapshot:
    """The snapshot of a source, chunk by chunk.

    The quarantine holds each bad row as it came, with its number and every rule that it broke. Where a
    `unique` rule is broken the rows are read twice: from the source where it tells that it is unchanged,
    else (a database, a function) from a copy.

    Args:
        source: read to its end.
        schema: the contract's.
        store: where the blobs go.
        max_bad_share: the share of rows in quarantine that is still taken.
        rules: as declared on the system.
        folder: what the paths of `references` rules are relative to.

    Raises:
        SourceError: the source can't be read.
        DataError: a column is missing, no row is good, more than `max_bad_share` of them are bad, or a rule stops it.
    """
    known = known_values(rules, schema, folder)
    if not rules:
        return _take(source, schema, store, max_bad_share, None)
    judge = RuleCheck(rules, schema, known)
    with store.scratch() as scratch:
        if any(rule.kind == "unique" for rule in rules) and source.fingerprint() is None:
            source = _Kept(source, scratch / "rows.arrow")
        taken = _take(source, schema, store, max_bad_share, judge)
        doubles = judge.doubles()
        if any(numbers.size for numbers in doubles.values()):
            judge = RuleCheck(rules, schema, known, doubles)
            taken = _take(source, schema, store, max_bad_share, judge)
    verdicts = judge.verdicts()
    stopped = [verdict.detail for verdict in verdicts if verdict.status == "stop"]
    if stopped:
        raise DataError(f"{'; '.join(stopped)}; mend the source, or change the checks of the system.")
    return replace(taken, findings=[_finding(verdict) for verdict in verdicts if verdict.status == "warn"])


class _Kept:
    """A source whose first reading is kept in a file, since it may give other rows, or another order, the next time."""

    def __init__(self, source: Source, file: Path) -> None:
        self._source, self._file, self.names = source, file, source.names

    def fingerprint(self) -> str | None:
        return self._source.fingerprint()

    def chunks(self) -> Iterator[pa.RecordBatch]:
        if self._file.exists():
            with pa.ipc.open_stream(str(self._file)) as reader:
                yield from reader
            return
        writer = None
        for batch in self._source.chunks():
            writer = writer or pa.ipc.new_stream(str(self._file), batch.schema)
            writer.write_batch(batch)
            yield batch
        if writer is not None:
            writer.close()


def _finding(verdict: Verdict) -> dict[str, Any]:
    return {
        "kind": "rule",
        "rule": verdict.rule.name,
        "column": verdict.rule.fields[0] if len(verdict.rule.fields) == 1 else None,
        "severity": "warn",
        "rows": verdict.rows,
        "detail": verdict.detail,
    }


def _take(source: Source, schema: Schema, store: Store, max_bad_share: float, rules: RuleCheck | None) -> Snapshot:
    check = TableCheck(schema, rules=rules)
    quarantine: csv.CSVWriter | None = None
    with store.scratch() as folder:
        with parquet.ParquetWriter(folder / "rows.parquet", check.arrow, compression="zstd") as writer:
            for batch in source.chunks():
                chunk = check(batch)
                writer.write_batch(chunk.good)
                if chunk.bad.num_rows:
                    quarantine = quarantine or csv.CSVWriter(folder / "quarantine.csv", chunk.bad.schema)
                    quarantine.write_table(chunk.bad)
        if quarantine is not None:
            quarantine.close()
        report = check.report
        bad = store.adopt(folder / "quarantine.csv") if quarantine is not None else None
        if report.rows == 0:
            raise DataError("The source has a header and no rows.")
        if report.bad == report.rows or report.bad > max_bad_share * report.rows:
            raise DataError(
                f"{report.bad} of {report.rows} rows break the contract ({report.bad / report.rows:.1%}, more than "
                f"{max_bad_share:.1%}): {report.words}. See {store.path(str(bad))}; mend the source, widen the contract "
                "or raise max_bad_share."
            )
        digest = store.adopt(folder / "rows.parquet")
    return Snapshot(digest, report.rows - report.bad, report.bad, bad, report.faults)


def read_snapshot(store: Store, digest: str) -> pa.Table:
    """The rows of a snapshot.

    Raises:
        LedgerError: the store doesn't have it.
    """
    return parquet.read_table(store.get(digest))


def read_parts(store: Store, snapshot: str, split: str) -> tuple[pa.Table, pa.Table]:
    """The train rows and the test rows of a snapshot, by the digest of its split.

    Raises:
        LedgerError: the store doesn't have one of the two.
    """
    return part_rows(store, read_snapshot(store, snapshot), split)


def part_rows(store: Store, table: pa.Table, split: str) -> tuple[pa.Table, pa.Table]:
    """The same of a snapshot that was read, whatever columns were added to it.

    Raises:
        LedgerError: the store doesn't have the split.
    """
    packed = np.frombuffer(store.get(split).read_bytes(), np.uint8)
    is_train, is_test = np.unpackbits(packed.reshape(2, -1), axis=1, count=table.num_rows).astype(bool)
    return table.filter(pa.array(is_train)), table.filter(pa.array(is_test))
