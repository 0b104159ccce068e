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


@dataclass(frozen=True)
class CsvFile:
    """A CSV file with a header line, in UTF-8, its delimiter found from its first lines."""

    path: Path
    names: list[str]
    delimiter: str

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of string columns; an empty cell is the empty text.

        Raises:
            SourceError: a row has another number of cells, or the file isn't UTF-8.
        """
        problems: list[str] = []

        def refuse(row: arrow_csv.InvalidRow) -> str:
            where = f"line {row.number}" if row.number else f"the row that begins {row.text[:40]!r}"
            problems.append(f"{where} has {row.actual_columns} cells, not {row.expected_columns}")
            return "error"

        try:
            reader = arrow_csv.open_csv(
                self.path,
                # One thread keeps the rows' numbers; the contract's checks cost more than the reading.
                read_options=arrow_csv.ReadOptions(
                    block_size=BLOCK_BYTES, column_names=self.names, skip_rows=1, use_threads=False
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
            if "Empty CSV file" in str(error):
                return
            reason = problems[0] if problems else str(error).splitlines()[0]
            hint = "save it as UTF-8" if "UTF8" in reason or "utf8" in reason.lower() else "mend that line"
            raise SourceError(f"{self.path}: {reason}; {hint}.") from error


def open_file(path: Path) -> CsvFile:
    """The file, its header read.

    Raises:
        SourceError: no header, a name twice or missing, or not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = [line for _, line in zip(range(20), file, strict=False)]
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} isn't UTF-8 (byte {error.start}); save it as UTF-8.") from error
    delimiter = _delimiter(lines)
    header = next(csv.reader(lines, delimiter=delimiter), [])
    names = [name.strip() for name in header]
    if not any(names):
        raise SourceError(f"{path} has no header; its first line must name the columns.")
    for place, name in enumerate(names):
        if not name:
            raise SourceError(f"{path}: column {place + 1} has no name in the header; give it one.")
        if name in names[:place]:
            raise SourceError(f"{path}: the header names {name!r} twice; rename one.")
    return CsvFile(path, names, delimiter)


def _delimiter(lines: list[str]) -> str:
    """The delimiter that splits the first lines most often and most evenly; a comma when none does."""

    def score(delimiter: str) -> tuple[bool, int]:
        counts = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        return (bool(counts) and min(counts) == max(counts) > 1, counts[0] if counts else 0)

    return max(DELIMITERS, key=lambda d: (*score(d), -DELIMITERS.index(d)))
