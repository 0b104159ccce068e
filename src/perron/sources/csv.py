"""A delimited text file in; chunks of text columns out, so that `"007"` is not a number before the contract says so."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from perron.errors import SourceError
from perron.sources.place import File, refuse_doubles

__all__ = ["CsvFile", "open_described"]

BLOCK_BYTES = 4 << 20
DELIMITERS = ",;\t|"
LINES = 20  # that the delimiter is found from
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
# 1.234,5 and 1.234 (a dot groups thousands), 5, -0,25 and 1,5e3
COMMA_NUMBER = r"^\s*[+-]?(?:\d{1,3}(?:\.\d{3})+|\d*)(?:,\d+)?(?:[eE][+-]?\d+)?\s*$"
csv.field_size_limit(1 << 30)  # Arrow reads cells beyond Python's 128 KiB; the header's reader must too


@dataclass(frozen=True)
class CsvFile:
    """A delimited file; `header_lines` are before its first row, and names may span lines."""

    file: File
    names: list[str]
    delimiter: str
    encoding: str
    quote: str
    decimal: str
    header_lines: int

    def fingerprint(self) -> str | None:
        return self.file.fingerprint()

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of string columns; an empty cell is the empty text.

        Raises:
            SourceError: a row has another number of cells, or the file is of another encoding; names the line.
        """
        ragged: list[arrow_csv.InvalidRow] = []

        def refuse(row: arrow_csv.InvalidRow) -> str:
            ragged.append(row)
            return "error"

        try:
            with self.file.stream() as stream:
                reader = arrow_csv.open_csv(
                    stream,
                    # One thread keeps the rows' numbers; the contract's checks cost more than the reading.
                    read_options=arrow_csv.ReadOptions(
                        block_size=BLOCK_BYTES, column_names=self.names, skip_rows=self.header_lines, use_threads=False,
                        encoding="utf8" if _is_utf8(self.encoding) else self.encoding,
                    ),
                    parse_options=arrow_csv.ParseOptions(
                        delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=refuse,
                        quote_char=self.quote or False,
                    ),
                    convert_options=arrow_csv.ConvertOptions(
                        column_types=dict.fromkeys(self.names, pa.string()), strings_can_be_null=False
                    ),
                )  # fmt: skip
                for batch in reader:
                    yield _with_points(batch) if self.decimal == "," else batch
        except StopIteration:
            return
        except UnicodeError as error:
            raise SourceError(_not_decoded(self.file, self.encoding)) from error
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error) or "Could not skip initial" in str(error):
                return
            if ragged:
                raise SourceError(f"{self.file.name}: {self._ragged(ragged[0])}; mend that line.") from error
            if "utf8" in str(error).lower():
                raise SourceError(_not_decoded(self.file, self.encoding)) from error
            raise SourceError(f"{self.file.name}: {str(error).splitlines()[0]}; mend the file.") from error

    def _ragged(self, row: arrow_csv.InvalidRow) -> str:
        """The line of the row: Arrow counts rows, and cells may span lines. Reads the file again."""
        with _text(self.file, self.encoding, errors="replace") as lines:
            reader, before = _reader(lines, self.delimiter, self.quote), 0
            for cells in reader:
                if cells and len(cells) != row.expected_columns:
                    return f"line {before + 1} has {len(cells)} cells, not {row.expected_columns}"
                before = reader.line_num
        return f"the row that begins {row.text[:40]!r} has {row.actual_columns} cells, not {row.expected_columns}"


def open_described(
    place: str,
    base: Path,
    delimiter: str | None = None,
    encoding: str | None = None,
    quote: str = '"',
    decimal: str = ".",
    header: bool | Sequence[str] = True,
) -> CsvFile:
    """The file, its header read.

    Raises:
        SourceError: no header, a name twice or missing, or of another encoding.
    """
    file = File.at(place, base).check()
    encoding = encoding or _marked_encoding(file)
    try:
        with _text(file, encoding) as text:
            lines = [line for _, line in zip(range(LINES), text, strict=False)]
    except UnicodeError as error:
        raise SourceError(_not_decoded(file, encoding)) from error
    delimiter = delimiter or _delimiter(lines, quote)
    reader = _reader(lines, delimiter, quote)
    first: list[str] = next(reader, [])
    if header is True:
        names, header_lines = [name.strip() for name in first], reader.line_num
        if not any(names):
            raise SourceError(f"{file.name} has no header; its first line must name the columns.")
        for place_of, name in enumerate(names):
            if not name:
                raise SourceError(f"{file.name}: column {place_of + 1} has no name in the header; give it one.")
        refuse_doubles(names, f"{file.name}: the header")
    else:
        names = [f"column_{number + 1}" for number in range(len(first))] if header is False else list(header)
        header_lines = 0
        refuse_doubles(names, f"The header given for {file.name}")
        if first and len(first) != len(names):
            raise SourceError(f"{file.name}: line 1 has {len(first)} cells, and the header given has {len(names)}.")
    return CsvFile(file, names, delimiter, encoding, quote, decimal, header_lines)


def _is_utf8(encoding: str) -> bool:
    return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


@contextmanager
def _text(file: File, encoding: str, errors: str = "strict") -> Iterator[Any]:
    with file.stream() as stream:
        yield io.TextIOWrapper(
            stream, encoding="utf-8-sig" if _is_utf8(encoding) else encoding, errors=errors, newline=""
        )


def _reader(lines: Any, delimiter: str, quote: str) -> Any:
    if not quote:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=delimiter, quotechar=quote)


def _marked_encoding(file: File) -> str:
    """The encoding that the file's first bytes tell, else UTF-8."""
    with file.stream() as stream:
        begin = stream.read(4)
    return next((encoding for mark, encoding in MARKS if begin.startswith(mark)), "utf-8")


def _not_decoded(file: File, encoding: str) -> str:
    """The words on a file of another encoding: its first bad line, and an encoding that reads it."""
    name = "UTF-8" if _is_utf8(encoding) else encoding
    decoder, lines, carry = codecs.getincrementaldecoder(encoding)(), 1, b""
    with file.stream() as stream:
        while True:
            block = stream.read(1 << 20)
            try:
                lines += decoder.decode(block, not block).count("\n")
            except UnicodeDecodeError as error:
                good, rest = bytes(error.object[: error.start]), bytes(error.object[error.start :])
                lines += good.decode(encoding, "ignore").count("\n")
                bad = (carry + good).rpartition(b"\n")[2] + rest.partition(b"\n")[0]
                break
            except UnicodeError as error:  # UTF-16 without a byte order mark
                return f"{file.name} isn't {name}: {error}; give the encoding that it was saved in."
            if not block:
                return f"{file.name} isn't {name}; save it as UTF-8."
            carry = block[-1000:]
    where = f"{file.name} isn't {name} (line {lines})"
    if name != "UTF-8":
        return f"{where}; give the encoding that it was saved in, or save it as UTF-8."
    other = "cp1252" if _decodes(bad, "cp1252") else "latin-1"
    return f"{where}; save it as UTF-8, or give encoding={other!r}, which reads {_around(bad.decode(other))} there."


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _around(line: str) -> str:
    """The text around the line's first letter that isn't ASCII."""
    at = next((place for place, letter in enumerate(line) if not letter.isascii()), 0)
    return repr(line[max(0, at - 15) : at + 15].strip())


def _with_points(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch, in which numbers with a decimal comma have a point, and no thousands are grouped."""
    columns = []
    for column in batch.columns:
        is_number = pc.and_(pc.match_substring_regex(column, COMMA_NUMBER), pc.match_substring_regex(column, "[,.]"))
        if pc.any(is_number).as_py():
            plain = pc.replace_substring(pc.replace_substring(column, ".", ""), ",", ".")
            column = pc.if_else(is_number, plain, column)  # noqa: PLW2901
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _delimiter(lines: list[str], quote: str) -> str:
    """The delimiter that splits the first lines most often and most evenly; a comma when none does."""

    def score(delimiter: str) -> tuple[bool, int]:
        counts = [len(row) for row in _reader(lines, delimiter, quote) if row]
        return (bool(counts) and min(counts) == max(counts) > 1, counts[0] if counts else 0)

    return max(DELIMITERS, key=lambda d: (*score(d), -DELIMITERS.index(d)))
