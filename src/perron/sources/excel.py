"""A sheet of a workbook in; chunks of columns out, each of the one type that its cells fit.

A sheet is read into memory whole, as its format asks for; Excel bounds it to 1,048,576 rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from python_calamine import CalamineError, CalamineWorkbook

from perron.errors import SourceError, nearest
from perron.sources.place import File, chunk_rows, refuse_doubles
from perron.sources.values import Seen, text_of, to_batch

__all__ = ["Sheet", "open_described"]


@dataclass(frozen=True)
class Sheet:
    """A sheet whose first row names the columns; empty cells are null, and empty rows are passed over."""

    file: File
    title: str
    schema: pa.Schema
    cells: Any  # the parsed sheet

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    def fingerprint(self) -> str | None:
        return self.file.fingerprint()

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of up to 65,536 rows."""
        first = 0
        for rows in _in_rows(self.cells, len(self.names), self.file.name):
            yield to_batch(zip(*rows, strict=True), self.schema, f"{self.file.name}, {self.title}", first)
            first += len(rows)


def open_described(place: str, base: Path, sheet: str | int | None = None) -> Sheet:
    """The sheet, read once for its types.

    Raises:
        SourceError: it isn't a workbook, has no such sheet, or its first row doesn't name the columns.
    """
    file = File.at(place, base).check()
    try:
        with file.copy() as path:
            book = CalamineWorkbook.from_path(str(path))
            title = _title(file, book.sheet_names, sheet)
            cells = book.get_sheet_by_name(title)
            book.close()
    except (CalamineError, ValueError) as error:
        raise SourceError(f"{file.name} isn't a whole workbook: {str(error).splitlines()[0]}") from error
    head = next(iter(cells.iter_rows()), [])
    while head and head[-1] == "":
        head = head[:-1]
    names = [str(text_of(name)).strip() for name in head]
    if not any(names):
        raise SourceError(f"{file.name}, {title} has no header; its first row must name the columns.")
    refuse_doubles(names, f"{file.name}, {title}")
    seen = [Seen() for _ in names]
    for rows in _in_rows(cells, len(names), file.name):
        for column, values in zip(seen, zip(*rows, strict=True), strict=True):
            column.add(values)
    fields = [pa.field(name, found.type) for name, found in zip(names, seen, strict=True)]
    return Sheet(file, title, pa.schema(fields), cells)


def _title(file: File, titles: list[str], sheet: str | int | None) -> str:
    if not titles:
        raise SourceError(f"{file.name} has no sheet.")
    if isinstance(sheet, int):
        if not 0 <= sheet < len(titles):
            raise SourceError(f"{file.name} has {len(titles)} sheets, numbered from 0; there is no {sheet}.")
        return titles[sheet]
    if sheet is not None and sheet not in titles:
        raise SourceError(f"{file.name} has no sheet {sheet!r}; {nearest(sheet, titles)}")
    return titles[0] if sheet is None else sheet


def _in_rows(cells: Any, width: int, where: str) -> Iterator[list[list[Any]]]:
    """The rows below the header that aren't empty, in chunks; Excel's numbers are floats: whole ones as int."""
    rows: list[list[Any]] = []
    most, lines = chunk_rows(width), iter(cells.iter_rows())
    next(lines, None)
    for number, line in enumerate(lines, (cells.start or (0, 0))[0] + 2):
        if any(cell != "" for cell in line[width:]):
            raise SourceError(
                f"{where}: row {number} has more cells than the header of its sheet names; name every column."
            )
        row = [None if cell == "" else _whole(cell) for cell in line[:width]]
        row += [None] * (width - len(row))
        if any(cell is not None for cell in row):
            rows.append(row)
        if len(rows) == most:
            yield rows
            rows = []
    if rows:
        yield rows


def _whole(cell: Any) -> Any:
    return int(cell) if type(cell) is float and cell.is_integer() and abs(cell) < 1 << 53 else cell
