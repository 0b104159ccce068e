"""A file with one JSON object per line in; chunks of columns out, each of the one type that its values fit."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from perron.errors import SourceError
from perron.sources.place import File, chunk_rows
from perron.sources.values import Seen, to_batch

__all__ = ["JsonLines", "open_described"]

BLOCK_BYTES = 4 << 20
LOOKED_AT = 4096  # rows at a time, while names and types are found


@dataclass(frozen=True)
class JsonLines:
    """JSON objects, one a line; a key that a line lacks is null, and what is nested is its JSON as text."""

    file: File
    schema: pa.Schema

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    def fingerprint(self) -> str | None:
        return self.file.fingerprint()

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of up to 65,536 rows.

        Raises:
            SourceError: the file changed while it was read.
        """
        first, names = 0, self.names
        for rows in _in_rows(self.file, chunk_rows(len(names))):
            columns = [[row.get(name) for row in rows] for name in names]
            yield to_batch(columns, self.schema, self.file.name, first)
            first += len(rows)


def open_described(place: str, base: Path) -> JsonLines:
    """The file, read once for its names and types: a key may come late, and a number may turn out to be text.

    Raises:
        SourceError: a line isn't a JSON object; names it.
    """
    file = File.at(place, base).check()
    seen: dict[str, Seen] = {}
    for rows in _in_rows(file, LOOKED_AT):
        for name in dict.fromkeys(name for row in rows for name in row):
            seen.setdefault(name, Seen()).add([row.get(name) for row in rows])
    if not seen:
        raise SourceError(f'{file.name} has no JSON object with a key; its lines must be like {{"a": 1}}.')
    return JsonLines(file, pa.schema([pa.field(name, found.type) for name, found in seen.items()]))


def _in_rows(file: File, most: int) -> Iterator[list[dict[str, Any]]]:
    decode = msgspec.json.Decoder().decode
    rows: list[dict[str, Any]] = []
    for number, line in _lines(file):
        try:
            row = decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            row = _lenient(line)
            if row is None:
                raise SourceError(f"{file.name}: line {number} isn't JSON ({error}); mend that line.") from error
        if not isinstance(row, dict):
            raise SourceError(
                f'{file.name}: line {number} isn\'t an object with a key per column; each line must be one, like {{"a": 1}}.'
            )
        rows.append(row)
        if len(rows) == most:
            yield rows
            rows = []
    if rows:
        yield rows


def _lenient(line: bytes) -> Any:
    """What Python reads in the line, which writes NaN and Infinity where JSON has no number; None where it can't either."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _lines(file: File) -> Iterator[tuple[int, bytes]]:
    """The lines that aren't blank, with their numbers from 1."""
    rest, number = b"", 0
    with file.stream() as stream:
        while block := stream.read(BLOCK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                number += 1
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901
                if line.strip():
                    yield number, line
    if rest.strip():
        yield number + 1, rest.removeprefix(b"\xef\xbb\xbf") if number == 0 else rest
