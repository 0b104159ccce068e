"""Predictions in; lines of JSON on standard output out, chunk by chunk, in order."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from perron.lines import json_lines

__all__ = ["Stdout", "open_named"]


@dataclass(frozen=True)
class Stdout:
    """Standard output. What was written can't be taken back, so nothing is resumed."""

    name = "standard output"
    is_whole = False

    def check(self) -> None:
        pass

    def folder(self, home: Path) -> None:
        return None

    def is_complete(self) -> bool:
        return False

    def encode(self, table: pa.Table, number: int) -> bytes:
        return json_lines(table)

    def put(self, run: str, number: int, part: bytes) -> None:
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()

    def forget(self, run: str) -> None:
        pass

    def assemble(self, parts: Sequence[Path], target: Path) -> None:
        raise AssertionError("standard output is written part by part")

    def publish(self, run: str, whole: Path | None) -> None:
        pass


def open_named(name: str) -> Stdout:
    """Standard output."""
    return Stdout()
