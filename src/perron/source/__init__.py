"""A path, a URL, a description or a function in; its columns and its chunks of rows out. Adapters: `perron.sources`.

    from perron import source

    source.csv("orders.csv", delimiter=";", decimal=",", encoding="cp1252")
    source.sql("postgresql://reader:${PG_PASSWORD}@db/shop", "SELECT * FROM orders")

What these functions make is inert: a file, a database or a bucket is touched when it is opened. `${NAME}` in a
path or URL is the environment's NAME, put in at that moment, so that no password needs to stand in a file.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard, cast
from urllib.parse import urlsplit

from perron.errors import DeclarationError, MissingPackage, SourceError, nearest
from perron.source.ahead import ReadAhead
from perron.source.secrets import expand, hide, reason_of, secrets_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "CONSTRUCTORS", "Description", "ReadAhead", "Readable", "Source", "UNTOLD", "arrow", "csv", "describe", "excel",
    "expand", "hide", "images", "is_opened", "jsonl", "local_files", "local_path", "missing", "open_source", "parquet",
    "reason_of", "secrets_of", "shown", "sql", "table", "walk",
]  # fmt: skip

# A file's ending names the module below perron.sources that reads it.
ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow", ".arrows": "arrow",
    ".xlsx": "excel", ".xlsm": "excel", ".xlsb": "excel", ".xls": "excel", ".ods": "excel",
}  # fmt: skip
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}  # after .csv and .jsonl
IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".ico", ".avif"}  # fmt: skip
REMOTE = ("s3", "gs", "gcs", "az", "abfs", "abfss", "http", "https")
DATABASES = ("sqlite", "postgresql", "postgres", "duckdb", "bigquery", "mysql", "mariadb", "mssql", "oracle")
UNTOLD = ("sql", "duckdb", "bigquery", "table")  # only reading tells whether they changed
EXTRAS = {
    "excel": "excel", "duckdb": "duckdb", "bigquery": "bigquery", "images": "images", "postgresql": "postgres",
    "postgres": "postgres", "s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
    "http": "http", "https": "http",
}  # fmt: skip


class Source(Protocol):
    """A table that is read in chunks.

    The law: `chunks` yields record batches with the columns of `names`, in the source's order, every row
    once and all of one schema; memory is bounded by a chunk. It can be called again, and gives the same
    rows where `fingerprint` gives the same text. `fingerprint` is what decides that the source is
    unchanged, and None where only reading tells: a database, a function.
    """

    @property
    def names(self) -> list[str]: ...

    def chunks(self) -> "Iterator[pa.RecordBatch]": ...

    def fingerprint(self) -> str | None: ...


@dataclass(frozen=True)
class Description:
    """What is read and how; made by the functions of this module.

    `kind` names the module below perron.sources; `place` is a path, a URL or a function; `options` are
    those that were given. As text it shows no password.
    """

    kind: str
    place: str | Callable[[], Any]
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """A short name to show: the file's, the table's, the function's."""
        if not isinstance(self.place, str):
            return getattr(self.place, "__name__", type(self.place).__name__)
        shown = hide(self.place).partition("?")[0].rstrip("/")
        return shown.rpartition("/")[2] or shown

    def __str__(self) -> str:
        return hide(self.place) if isinstance(self.place, str) else self.name

    def __repr__(self) -> str:
        return f"<source {self}>"


# What may stand where a source is asked for; a Source is one that is opened already.
Readable: TypeAlias = str | Path | Description | Source | Callable[[], Any]


# ------------------------------------------------------------------ what there is to read


def csv(
    path: str | Path,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    quote: str = '"',
    decimal: str = ".",
    header: bool | Sequence[str] = True,
) -> Description:
    """A delimited text file, by path or URL; `.gz` and `.zst` are unpacked as they are read.

    Args:
        path: of the file.
        delimiter: what is between two cells; found from the first lines if None.
        encoding: any of Python's; if None, by the byte order mark, else UTF-8.
        quote: what is around a cell that holds delimiters; the empty text for none.
        decimal: `,` where 1.234,5 is a number; numbers are then given with a point.
        header: whether the first line names the columns, or the names where it doesn't.

    Raises:
        DeclarationError: an option that makes no sense.
    """
    for name, mark, most in (("delimiter", delimiter, 1), ("quote", quote, 1)):
        if mark is not None and (not isinstance(mark, str) or len(mark.encode()) > most or mark in ("\n", "\r")):
            raise DeclarationError(f"The {name} of {path} is {mark!r}; give one ASCII character.")
    if delimiter == "":
        raise DeclarationError(f"The delimiter of {path} is empty; give one ASCII character, or leave it out.")
    if decimal not in (".", ","):
        raise DeclarationError(f"The decimal of {path} is {decimal!r}; give '.' or ','.")
    if encoding is not None:
        try:
            "".encode(encoding)
        except (LookupError, TypeError):
            raise DeclarationError(
                f"Python knows no encoding {encoding!r}, which {path} is to be read in; utf-8, utf-16 and cp1252 are known."
            ) from None
    named = header if isinstance(header, bool) else tuple(header)
    if isinstance(header, str) or (isinstance(named, tuple) and not all(isinstance(n, str) and n for n in named)):
        raise DeclarationError(f"The header of {path} is {header!r}; give True, False or a list of names.")
    return _described("csv", path, delimiter=delimiter, encoding=encoding, quote=None if quote == '"' else quote,
                      decimal=None if decimal == "." else decimal, header=None if named is True else named)  # fmt: skip


def parquet(path: str | Path) -> Description:
    """A Parquet file or a folder of them, by path or URL; `key=value` folders (hive) become columns."""
    return _described("parquet", path)


def jsonl(path: str | Path) -> Description:
    """A file with one JSON object per line, by path or URL; `.gz` and `.zst` are unpacked as they are read."""
    return _described("jsonl", path)


def arrow(path: str | Path) -> Description:
    """An Arrow IPC file or stream (Feather version 2 is one), by path or URL."""
    return _described("arrow", path)


def excel(path: str | Path, *, sheet: str | int | None = None) -> Description:
    """A sheet of a workbook, by path or URL; its first row names the columns.

    Args:
        path: of the workbook (.xlsx, .xlsm, .xlsb, .xls, .ods).
        sheet: its name, or its number from 0; the first if None.

    Raises:
        DeclarationError: the sheet is neither.
    """
    if sheet is not None and (isinstance(sheet, bool) or not isinstance(sheet, str | int)):
        raise DeclarationError(f"The sheet of {path} is {sheet!r}; give its name, or its number from 0.")
    return _described("excel", path, sheet=sheet)


def sql(url: str, query: str | None = None) -> Description:
    """The rows of a query, or of a table that the URL names after `#`.

    Args:
        url: as SQLAlchemy has them: `postgresql://user:${PASSWORD}@host/db#schema.table`, `sqlite:///shop.db#orders`;
            also `duckdb:///shop.duckdb#orders` and `bigquery://project#dataset.table`.
        query: a SELECT.

    Raises:
        DeclarationError: there is no scheme, or both a query and a table.
    """
    scheme, mark, _ = str(url).partition("://")
    if not mark and not str(url).startswith("${"):
        raise DeclarationError(f"{hide(str(url))!r} isn't a database's URL, such as postgresql://user@host/db.")
    if query is not None and "#" in url:
        raise DeclarationError(f"{hide(url)} names a table, and there is a query too; keep one of them.")
    if query is not None and (not isinstance(query, str) or not query.strip().rstrip(";")):
        raise DeclarationError(f"The query of {hide(url)} is {query!r}; give a SELECT.")
    return _described(scheme if scheme in ("duckdb", "bigquery") else "sql", url, query=query)


def images(folder: str | Path, *, manifest: str | None = None) -> Description:
    """A row per image of a local folder: path, label, width, height, mode, bytes (its size).

    The label is the sub-folder that an image is in.

    Args:
        folder: holds the images.
        manifest: a table in the folder (any file that Perron reads) with a column `path`, relative to the
            folder; its other columns, such as a label, are kept.
    """
    return _described("images", folder, manifest=None if manifest is None else str(manifest))


def table(function: Callable[[], Any]) -> Description:
    """What a function without arguments returns or yields: Arrow tables or batches, or data frames of pandas or Polars.

    Raises:
        DeclarationError: it isn't a function.
    """
    if not callable(function):
        raise DeclarationError(f"{function!r:.60} isn't a function that returns or yields tables.")
    return Description("table", function)


CONSTRUCTORS: Mapping[str, Callable[..., Description]] = {
    "csv": csv, "parquet": parquet, "jsonl": jsonl, "arrow": arrow, "excel": excel, "sql": sql, "duckdb": sql,
    "bigquery": sql, "images": images, "table": table,
}  # fmt: skip


def _described(kind: str, place: str | Path, **options: Any) -> Description:
    given = tuple(sorted((name, value) for name, value in options.items() if value is not None))
    return Description(kind, str(place), given)


def is_opened(name: Readable) -> "TypeGuard[Source]":
    """Whether it is a source itself, rather than the name or description of one."""
    return not isinstance(name, str | Path | Description) and hasattr(name, "chunks") and hasattr(name, "names")


def shown(name: Readable) -> str:
    """What a source is called in reports and in the ledger; no password is in it."""
    if isinstance(name, str | Path | Description):
        return hide(str(name))
    return type(name).__name__ if is_opened(name) else getattr(name, "__name__", type(name).__name__)


def describe(name: Readable, base: Path = Path()) -> Description:
    """The description of what is named by a path or URL alone, or is a function; a relative path is meant from `base`.

    Raises:
        SourceError: Perron can't read its kind.
        DeclarationError: it is nothing of these.
    """
    if isinstance(name, Description):
        return name
    if not isinstance(name, str | Path):
        return table(cast("Callable[[], Any]", name))
    text = str(name)
    if not text.strip() or "\0" in text:
        raise SourceError(f"The source is {text!r}; name a file, a folder or a URL.")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in DATABASES or "+" in scheme:
        return sql(text)
    if scheme and scheme not in (*REMOTE, "file"):
        hint = nearest(scheme, (*REMOTE, *DATABASES))
        raise SourceError(f"Perron can't read {scheme}:// ({hide(text)}); {hint}")
    path = local_path(text, base)
    if path is not None and path.is_dir():
        return _described(_kind_of_folder(path), text)
    bare = PurePosixPath(urlsplit(text).path if scheme in REMOTE else text)
    if scheme in REMOTE and text.endswith("/"):
        return parquet(text)
    kind = _kind_of_ending(bare)
    if kind is None:
        if path is not None and not path.exists():
            raise SourceError(f"There is no file {path}.")
        advice = "if each of its lines is an object, " if bare.suffix == ".json" else ""
        raise SourceError(
            f"Perron can't read {bare.suffix or 'a file without an ending'} ({hide(text)}); {advice}use "
            f"{'.jsonl' if advice else ', '.join(ENDINGS)}, or name its kind: perron.source.csv(…), or -O kind=csv."
        )
    return _described(kind, text)


def _kind_of_ending(path: PurePosixPath) -> str | None:
    ending = path.suffix.lower()
    if ending in COMPRESSED:
        kind = ENDINGS.get(PurePosixPath(path.stem).suffix.lower())
        return kind if kind in ("csv", "jsonl") else None
    return ENDINGS.get(ending)


def _kind_of_folder(folder: Path) -> str:
    """What the first file in the folder that Perron reads in folders is."""
    for path in walk(folder):
        if ENDINGS.get(path.suffix.lower()) == "parquet":
            return "parquet"
        if path.suffix.lower() in IMAGES:
            return "images"
    raise SourceError(f"{folder} is a folder without Parquet files or images; name a file.")


# ------------------------------------------------------------------ opening


def open_source(name: Readable, base: Path = Path()) -> Source:
    """The source, ready to be read.

    Args:
        name: a path, a URL, a description that this module's functions made, a function, or an opened source.
        base: the folder that relative paths are meant from.

    Raises:
        SourceError: there is no such thing, it is empty or broken, or Perron can't read its kind.
        MissingPackage: reading it needs a package that isn't installed.
    """
    if is_opened(name):
        return name
    described = describe(name, base)
    try:
        module = importlib.import_module(f"perron.sources.{described.kind}")
    except ModuleNotFoundError as error:
        raise missing(f"Reading {described}", EXTRAS.get(described.kind, described.kind), error) from error
    opened: Source = module.open_described(described.place, base, **dict(described.options))
    return opened


def missing(doing: str, extra: str, error: ImportError) -> MissingPackage:
    """The error that names the extra which brings a package."""
    return MissingPackage(f"{doing} needs {error.name or 'a package'}: pip install 'perron[{extra}]'.")


def local_path(place: str, base: Path) -> Path | None:
    """The path of a file or folder on this machine; None of a URL that is elsewhere."""
    scheme, mark, rest = place.partition("://")
    if mark and scheme.lower() != "file":
        return None
    return base / Path(expand(rest if mark else place)).expanduser()


def local_files(described: Description, base: Path) -> list[Path] | None:
    """The files of this machine that a source is read from, in order; None where it has others, or none at all.

    Raises:
        OSError: a folder can't be read.
    """
    if not isinstance(described.place, str) or described.kind in UNTOLD:
        return None
    path = local_path(described.place, base)
    if path is None:
        return None
    return list(walk(path)) if path.is_dir() else [path]


def walk(folder: Path) -> Iterator[Path]:
    """The files below a folder in the order of their names; those that begin with a dot or `_` are passed over."""
    with os.scandir(folder) as found:
        entries = sorted((entry.name, entry.is_dir()) for entry in found if entry.name[0] not in "._")
    for name, is_folder in entries:
        if is_folder:
            yield from walk(folder / name)
        else:
            yield folder / name
