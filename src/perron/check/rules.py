"""Checked chunks and the declared rules in; the rows that break them, and a verdict on each rule, out.

Vectorised, chunk by chunk. Memory is a few times one chunk, 16 bytes a row for each `unique` rule, and
the distinct values of what is referred to. Rows are told apart by hashes of 64 bits: the chance of one
false double is n² / 2^65, below 1 in 10 million for a million rows.
"""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from perron.check import show
from perron.check.arrays import from_bools, is_valid
from perron.contract import Schema
from perron.errors import DataError
from perron.rules import Rule, parse_expression
from perron.split.leaks import row_hashes

__all__ = ["RuleCheck", "Verdict", "compile_expression", "known_values"]

EXAMPLES = 3
OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: pc.add, ast.Sub: pc.subtract, ast.Mult: pc.multiply, ast.Div: pc.divide,
    ast.Lt: pc.less, ast.LtE: pc.less_equal, ast.Gt: pc.greater, ast.GtE: pc.greater_equal,
    ast.Eq: pc.equal, ast.NotEq: pc.not_equal, ast.And: pc.and_kleene, ast.Or: pc.or_kleene,
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What came of a rule: `passed`, `warn` or `stop`; the rows that break it (of rules of single rows), and what was found."""

    rule: Rule
    status: str
    rows: int | None
    share: float | None
    value: Any
    examples: list[str]

    @property
    def detail(self) -> str:
        """One line: what was expected, and what came."""
        if self.rows is None:
            return f"Expected {self.rule.expected}, got {self.value}"
        examples = "; ".join(self.examples)
        return (
            f"{self.rows:,} rows ({self.share:.2%}) break {self.rule.name!r}: {examples}"
            if self.rows
            else "no row breaks it"
        )


class RuleCheck:
    """Judges rules over the chunks of a table: call it with each chunk, then ask for `verdicts`.

    Args:
        rules: as declared.
        schema: the contract's.
        known: the values that a `references` rule allows, by rule.
        doubles: the row numbers that break a `unique` rule, by rule, where an earlier pass has found them.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        schema: Schema,
        known: dict[Rule, pa.Array] | None = None,
        doubles: dict[Rule, Any] | None = None,
    ) -> None:
        self.rules, self.rows = list(rules), 0
        self._known, self._given = known or {}, doubles
        self._judges = {r: compile_expression(str(r.text), schema) for r in self.rules if r.kind == "expression"}
        self._broken = dict.fromkeys(self.rules, 0)
        self._examples: dict[Rule, list[str]] = {rule: [] for rule in self.rules}
        self._hashes: dict[Rule, list[tuple[Any, Any]]] = {r: [] for r in self.rules if r.kind == "unique"}
        self._good = 0
        self._sums: dict[Rule, list[float]] = {rule: [0.0, 0] for rule in self.rules}
        self._newest: dict[Rule, Any] = {}

    def __call__(self, chunk: pa.RecordBatch, numbers: Any) -> list[tuple[Rule, Any]]:
        """For each rule that rows of the chunk break, a mask (n,) of them.

        Args:
            chunk: rows that the contract allows.
            numbers: their numbers (n,) in the source, int64.
        """
        self.rows += chunk.num_rows
        ok = np.ones(chunk.num_rows, bool)
        found: list[tuple[Rule, Any]] = []
        for rule in self.rules:
            mask = self._mask(rule, chunk, numbers)
            if mask is not None and mask.any():
                ok &= ~mask
                self._broken[rule] += int(mask.sum())
                self._note(rule, chunk, numbers, mask)
                found.append((rule, mask))
        kept = chunk if ok.all() else chunk.filter(from_bools(ok))
        self._good += kept.num_rows
        for rule in self.rules:
            self._add(rule, kept, numbers if ok.all() else numbers[ok])
        return found

    def _mask(self, rule: Rule, chunk: pa.RecordBatch, numbers: Any) -> Any | None:
        if rule.kind == "expression":
            return ~np.asarray(pc.fill_null(self._judges[rule](chunk), True))
        if rule.kind == "references":
            column = chunk[rule.fields[0]]
            return ~np.asarray(pc.or_(pc.is_in(column, self._known[rule]), pc.is_null(column)))
        if rule.kind == "unique" and self._given is not None:
            return np.isin(numbers, self._given[rule])
        return None

    def _note(self, rule: Rule, chunk: pa.RecordBatch, numbers: Any, mask: Any) -> None:
        kept = self._examples[rule]
        for place in np.flatnonzero(mask)[: EXAMPLES - len(kept)].tolist():
            values = ", ".join(f"{name} {show(chunk[name][place].as_py())}" for name in rule.fields)
            kept.append(f"{values} at rows[{numbers[place]}]")

    def _add(self, rule: Rule, kept: pa.RecordBatch, numbers: Any) -> None:
        """Keeps of the chunk's remaining rows what the rules of the whole table need."""
        if not rule.fields or rule.kind in ("expression", "references"):
            return
        column = kept[rule.fields[0]]
        if rule.kind == "unique" and self._given is None:
            table = pa.Table.from_batches([kept]).select(rule.fields)
            whole = np.ones(kept.num_rows, bool)
            for part in table.columns:
                if part.null_count:
                    whole &= is_valid(part.combine_chunks())
            hashes = row_hashes(table)
            self._hashes[rule].append((hashes, numbers) if whole.all() else (hashes[whole], numbers[whole]))
        elif rule.kind == "freshness":
            newest = pc.max(column).as_py()
            if newest is not None and (rule not in self._newest or newest > self._newest[rule]):
                self._newest[rule] = newest
        elif rule.kind in ("mean", "nulls"):
            total = pc.sum(column).as_py() if rule.kind == "mean" else None
            self._sums[rule][0] += float(total or 0.0)
            self._sums[rule][1] += len(column) - column.null_count

    def doubles(self) -> dict[Rule, Any]:
        """The numbers of the rows that break each `unique` rule: all but the first of those that are alike."""
        found = {}
        for rule, parts in self._hashes.items():
            if not parts:
                found[rule] = np.empty(0, np.int64)
                continue
            hashes = np.concatenate([h for h, _ in parts])
            ordered = np.sort(hashes)
            again = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
            if not again.size:
                found[rule] = np.empty(0, np.int64)
                continue
            numbers = np.concatenate([n for _, n in parts])
            places = np.flatnonzero(np.isin(hashes, again))  # in the source's order
            _, first = np.unique(hashes[places], return_index=True)
            later = np.ones(places.size, bool)
            later[first] = False
            found[rule] = numbers[places[later]]
        return found

    def count_doubles(self) -> int:
        """How many rows break a `unique` rule and no other; their verdicts count them from now on."""
        all_of_them: list[Any] = []
        for rule, numbers in self.doubles().items():
            self._broken[rule] = numbers.size
            self._examples[rule] = [f"{', '.join(rule.fields)} again at rows[{n}]" for n in numbers[:EXAMPLES].tolist()]
            all_of_them.append(numbers)
        self._good -= (more := int(np.unique(np.concatenate(all_of_them)).size) if all_of_them else 0)
        return more

    def verdicts(self, now: datetime | None = None) -> list[Verdict]:
        """A verdict on each rule, in their order; `now` (UTC) is what freshness is measured from."""
        return [self._verdict(rule, now or datetime.now(UTC)) for rule in self.rules]

    def _verdict(self, rule: Rule, now: datetime) -> Verdict:
        if rule.kind in ("unique", "expression", "references"):
            rows = self._broken[rule]
            share = rows / self.rows if self.rows else 0.0
            status = "passed"
            if rule.warn is not None and share > rule.warn:
                status = "warn"
            if rule.stop is not None and share > rule.stop:
                status = "stop"
            return Verdict(rule, status, rows, share, None, self._examples[rule])
        value, holds = self._measure(rule, now)
        status = "passed" if holds else "warn" if rule.stop is None else "stop"
        return Verdict(rule, status, None, None, value, [])

    def _measure(self, rule: Rule, now: datetime) -> tuple[Any, bool]:
        total, count = self._sums[rule]
        if rule.kind == "freshness":
            newest = self._newest.get(rule)
            if newest is None:
                return None, False
            moment = (
                newest if isinstance(newest, datetime) else datetime(newest.year, newest.month, newest.day, tzinfo=UTC)
            )
            assert rule.within_s is not None
            return newest.isoformat(), (now - moment).total_seconds() <= rule.within_s
        if rule.kind == "rows":
            value: float | None = self._good
        elif rule.kind == "nulls":
            value = 1 - count / self._good if self._good else 0.0
        else:
            value = total / count if count else None
        holds = (
            value is not None and (rule.low is None or value >= rule.low) and (rule.high is None or value <= rule.high)
        )
        return value, holds


def compile_expression(text: str, schema: Schema) -> Callable[[pa.RecordBatch], Any]:
    """The expression as a function of a chunk: bool (n,), null where it is unknown. Python never runs the text."""
    tree = parse_expression(text)

    def value(node: ast.expr, chunk: pa.RecordBatch) -> Any:
        match node:
            case ast.Name(id=name):
                return chunk[name]
            case ast.Constant(value=constant):
                return pa.scalar(constant)
            case ast.BoolOp(op=op, values=values):
                parts = [value(part, chunk) for part in values]
                result = parts[0]
                for part in parts[1:]:
                    result = OPERATORS[type(op)](result, part)
                return result
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return pc.invert(value(operand, chunk))
            case ast.UnaryOp(operand=operand):
                return pc.negate(_floats(value(operand, chunk)))
            case ast.Call(args=[part]):
                return pc.abs(_floats(value(part, chunk)))
            case ast.BinOp(left=left, op=op, right=right):
                return OPERATORS[type(op)](_floats(value(left, chunk)), _floats(value(right, chunk)))
            case ast.Compare(left=left, ops=ops, comparators=others):
                parts = [value(part, chunk) for part in (left, *others)]
                result = None
                for compare, a, b in zip(ops, parts, parts[1:], strict=False):
                    one = OPERATORS[type(compare)](a, b)
                    result = one if result is None else pc.and_kleene(result, one)
                return result
        raise DataError(f"The expression {text!r} can't be judged.")

    def judge(chunk: pa.RecordBatch) -> Any:
        found = value(tree, chunk)
        return pa.array([found.as_py()] * chunk.num_rows, pa.bool_()) if isinstance(found, pa.Scalar) else found

    return judge


def _floats(value: Any) -> Any:
    """As float64: whole numbers neither wrap around nor fail at a division by zero."""
    return pc.cast(value, pa.float64(), safe=False)


def known_values(rules: Sequence[Rule], schema: Schema, folder: Path) -> dict[Rule, pa.Array]:
    """The distinct values that each `references` rule allows, read from its source in the field's type.

    Raises:
        SourceError: the source can't be read.
        DataError: it doesn't have the column.
    """
    from perron.check.table import read_values
    from perron.source import open_source

    found: dict[Rule, pa.Array] = {}
    for rule in rules:
        if rule.kind != "references":
            continue
        assert rule.other is not None
        path, column = rule.other
        source = open_source(path, folder)
        if column not in source.names:
            raise DataError(
                f"{path} has no column {column!r}, which {rule.name} refers to; it has {', '.join(source.names[:12])}."
            )
        field = schema[rule.fields[0]]
        distinct: pa.Array | None = None
        for batch in source.chunks():
            values = pc.unique(read_values(field, batch.column(column)))
            distinct = values if distinct is None else pc.unique(pa.concat_arrays([distinct, values]))
        found[rule] = distinct.drop_null() if distinct is not None else pa.array([], pa.null())
    return found
