"""A delimited text file in; chunks of text columns out, so that `"007"` is not a number before the contract says so."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv as arrow_csv

from perron.errors import SourceError

__all__ = ["CsvFile", "open_file"]

BLOCK_BYTES = 4 << 20
DELIMITERS = ",;\t|"
csv.field_size_limit(1 << 30)  # Arrow reads cells beyond Python's 128 KiB; the header's reader must too


@dataclass(frozen=True)
class CsvFile:
    """A CSV file with a header, in UTF-8, its delimiter found from its first lines; names may span lines."""

    path: Path
    names: list[str]
    delimiter: str
    header_lines: int

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of string columns; an empty cell is the empty text.

        Raises:
            SourceError: a row has another number of cells, or the file isn't UTF-8; names the line.
        """
        ragged: list[arrow_csv.InvalidRow] = []

        def refuse(row: arrow_csv.InvalidRow) -> str:
            ragged.append(row)
            return "error"

        try:
            reader = arrow_csv.open_csv(
                self.path,
                # One thread keeps the rows' numbers; the contract's checks cost more than the reading.
                read_options=arrow_csv.ReadOptions(
                    block_size=BLOCK_BYTES, column_names=self.names, skip_rows=self.header_lines, use_threads=False
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=refuse
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(self.names, pa.string()), strings_can_be_null=False
                ),
            )
            yield from reader
        except StopIteration:
            return
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error) or "Could not skip initial" in str(error):
                return
            if ragged:
                raise SourceError(f"{self.path}: {self._ragged(ragged[0])}; mend that line.") from error
            if "utf8" in str(error).lower():
                raise SourceError(_not_utf8(self.path)) from error
            raise SourceError(f"{self.path}: {str(error).splitlines()[0]}; mend the file.") from error

    def _ragged(self, row: arrow_csv.InvalidRow) -> str:
        """The line of the row: Arrow counts rows, and cells may span lines. Reads the file again."""
        with open(self.path, encoding="utf-8-sig", errors="replace", newline="") as file:
            reader, before = csv.reader(file, delimiter=self.delimiter), 0
            for cells in reader:
                if cells and len(cells) != row.expected_columns:
                    return f"line {before + 1} has {len(cells)} cells, not {row.expected_columns}"
                before = reader.line_num
        return f"the row that begins {row.text[:40]!r} has {row.actual_columns} cells, not {row.expected_columns}"


def open_file(path: Path) -> CsvFile:
    """The file, its header read.

    Raises:
        SourceError: no header, a name twice or missing, or not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = [line for _, line in zip(range(20), file, strict=False)]
    except UnicodeDecodeError as error:
        raise SourceError(_not_utf8(path)) from error
    delimiter = _delimiter(lines)
    reader = csv.reader(lines, delimiter=delimiter)
    header = next(reader, [])
    names = [name.strip() for name in header]
    if not any(names):
        raise SourceError(f"{path} has no header; its first line must name the columns.")
    for place, name in enumerate(names):
        if not name:
            raise SourceError(f"{path}: column {place + 1} has no name in the header; give it one.")
        if name in names[:place]:
            raise SourceError(f"{path}: the header names {name!r} twice; rename one.")
    return CsvFile(path, names, delimiter, reader.line_num)


def _not_utf8(path: Path) -> str:
    """The words on a file that isn't UTF-8, with its first line that isn't."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"{path} isn't UTF-8 (line {number}); save it as UTF-8."
    return f"{path} isn't UTF-8; save it as UTF-8."


def _delimiter(lines: list[str]) -> str:
    """The delimiter that splits the first lines most often and most evenly; a comma when none does."""

    def score(delimiter: str) -> tuple[bool, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        return (bool(counts) and min(counts) == max(counts) > 1, counts[0] if counts else 0)

    return max(DELIMITERS, key=lambda d: (*score(d), -DELIMITERS.index(d)))
