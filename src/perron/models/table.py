"""Columns of a graph in, matrices and single columns out: what passes between the steps of an exported pipeline."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import spox.opset.ai.onnx.v21 as op
from spox import Var

from perron.errors import ModelError

__all__ = ["Block", "Table", "UnsupportedModel", "beside", "from_columns", "from_matrix"]

NULL_TEXT = "␀"
"""How a text column spells null, in training frames and in requests alike."""


class UnsupportedModel(ModelError):
    """A fitted model, a step or an option of one that cannot be written as a graph."""


@dataclass(frozen=True)
class Block:
    """Columns that lie in one graph value: ``(N, width)``, or ``(N,)`` where `flat` (then `width` is 1)."""

    var: Var
    width: int
    text: bool = False
    flat: bool = False


@dataclass(frozen=True)
class Table:
    """Blocks side by side, addressed by column position; float64 numbers or utf8 text.

    Nothing is stacked before a step asks for `matrix`, so that a column which goes straight to an
    encoder costs no node.
    """

    blocks: tuple[Block, ...]

    @property
    def width(self) -> int:
        """The number of columns."""
        return sum(block.width for block in self.blocks)

    @property
    def is_text(self) -> tuple[bool, ...]:
        """For each column, whether it holds text."""
        return tuple(block.text for block in self.blocks for _ in range(block.width))

    @cached_property
    def matrix(self) -> Var:
        """All columns as one ``(N, width)`` float64 value.

        Raises: UnsupportedModel, when a column holds text or there is no column.
        """
        if any(self.is_text):
            raise UnsupportedModel(
                f"Expected numbers, got text in column {self.is_text.index(True)} of this step's input; "
                "encode it first, e.g. with OneHotEncoder or OrdinalEncoder."
            )
        if not self.blocks:
            raise UnsupportedModel("Expected at least one column, got none at this step; keep one.")
        parts: list[Var] = []
        for flat, group in groupby(self.blocks, key=lambda block: block.flat):
            blocks = list(group)
            parts += [_stack([block.var for block in blocks])] if flat else [block.var for block in blocks]
        return parts[0] if len(parts) == 1 else op.concat(parts, axis=1)

    def full(self, row: Sequence[float]) -> Var:
        """The same row for every row of the table: ``(N, len(row))`` float64."""
        rows = op.shape(self.blocks[0].var, start=0, end=1)
        shape = op.concat([rows, op.const(np.array([len(row)], np.int64))], axis=0)
        return op.expand(op.const(np.array([row], np.float64)), shape)

    def column(self, position: int) -> Var:
        """One column as an ``(N,)`` value, text or float64."""
        for block in self.blocks:
            if position < block.width:
                return block.var if block.flat else op.gather(block.var, op.const(np.int64(position)), axis=1)
            position -= block.width
        raise IndexError(f"Expected a position below {self.width}, got one {position} past the end.")

    def take(self, positions: Iterable[int]) -> "Table":
        """The columns at these positions, in this order."""
        places = [(b, i) for b, block in enumerate(self.blocks) for i in range(block.width)]
        chosen = [places[position] for position in positions]
        blocks: list[Block] = []
        for b, group in groupby(chosen, key=lambda place: place[0]):
            inner = [i for _, i in group]
            block = self.blocks[b]
            if block.flat:
                blocks += [block] * len(inner)
            elif inner == list(range(block.width)):
                blocks.append(block)
            else:
                part = op.gather(block.var, op.const(np.array(inner, np.int64)), axis=1)
                blocks.append(Block(part, len(inner)))
        return Table(tuple(blocks))


def from_matrix(var: Var, width: int) -> Table:
    """A table of the `width` columns of an ``(N, width)`` float64 value."""
    return Table((Block(var, width),) if width else ())


def from_columns(columns: Iterable[tuple[Var, bool]]) -> Table:
    """A table of ``(N,)`` values, each with whether it holds text."""
    return Table(tuple(Block(var, 1, text, flat=True) for var, text in columns))


def beside(tables: Sequence[Table]) -> Table:
    """The columns of all the tables, left to right."""
    return Table(tuple(block for table in tables for block in table.blocks))


def _stack(columns: list[Var]) -> Var:
    if len(columns) == 1:
        return op.unsqueeze(columns[0], op.const(np.array([1], np.int64)))
    # Three nodes for any number of columns, where an Unsqueeze for each would be n + 1.
    rows = op.reshape(op.concat(columns, axis=0), op.const(np.array([len(columns), -1], np.int64)))
    return op.transpose(rows, perm=[1, 0])
