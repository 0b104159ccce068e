"""A Parquet file, or a folder of them, in; chunks of typed columns out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import parquet

from perron.errors import SourceError
from perron.sources.place import File, chunk_rows, fingerprint_of, refuse_doubles

__all__ = ["ParquetFiles", "open_described"]

CELLS = 16 << 20  # of a chunk: typed columns are small
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class ParquetFiles:
    """Parquet files that are read one after the other; `keys` are what the folders of each say (`year=2024`)."""

    root: File
    files: list[File]
    keys: list[dict[str, Any]]
    schema: pa.Schema

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    def fingerprint(self) -> str | None:
        return self.files[0].fingerprint() if self.files == [self.root] else fingerprint_of(self.files, self.root)

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of up to 65,536 rows, fewer of wide tables.

        Raises:
            SourceError: a file is damaged.
        """
        rows = chunk_rows(len(self.names), CELLS)
        for file, keys in zip(self.files, self.keys, strict=True):
            try:
                with _seekable(file) as opened, parquet.ParquetFile(opened, pre_buffer=False) as read:
                    # A pre-buffer would keep all that it has read. One thread: it is read ahead of the work, and a
                    # second one costs a tenth more and gains nothing.
                    columns = [name for name in read.schema_arrow.names if name not in keys]
                    for batch in read.iter_batches(rows, columns=columns, use_threads=False):
                        yield self._complete(batch, keys)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
                raise SourceError(f"{file.name} is damaged: {str(error).splitlines()[0]}") from error

    def _complete(self, batch: pa.RecordBatch, keys: dict[str, Any]) -> pa.RecordBatch:
        """The batch with every column of the source: the folder's keys, and null where this file has none."""
        if batch.schema.equals(self.schema):
            return batch
        columns = []
        for field in self.schema:
            if field.name in keys:
                value = keys[field.name]
                columns.append(pa.array([value] * batch.num_rows, field.type))
            elif field.name in batch.schema.names:
                columns.append(batch.column(field.name).cast(field.type))
            else:
                columns.append(pa.nulls(batch.num_rows, field.type))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def open_described(place: str, base: Path) -> ParquetFiles:
    """The file or folder, its schema read; files of a folder may lack columns that others have.

    Raises:
        SourceError: it isn't Parquet, is cut off, has a name twice, or files have other types for one column.
    """
    root = File.at(place, base)
    if not root.is_folder():
        schema = _schema_of(root.check())
        return ParquetFiles(root, [root], [{}], schema)
    files = [file for file in root.below() if file.name.lower().endswith((".parquet", ".pq"))]
    if not files:
        raise SourceError(f"{root.name} is a folder without Parquet files.")
    texts = [_keys_of(file, root) for file in files]
    for file, keys in zip(files, texts, strict=True):
        if set(keys) != set(texts[0]):
            raise SourceError(
                f"{file.name} is in folders that name {', '.join(keys) or 'nothing'}, and {files[0].name} in folders "
                f"that name {', '.join(texts[0]) or 'nothing'}; give all files the same."
            )
    schema = _schema_of(files[0])
    for file in files[1:]:
        other = _schema_of(file)
        if not schema.equals(other):
            try:
                schema = pa.unify_schemas([schema, other], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise SourceError(
                    f"{file.name} doesn't fit the files before it: {str(error).splitlines()[0]}; give each column one type."
                ) from error
    values, types = _typed(texts)
    for name, kind in types.items():
        at = schema.get_field_index(name)
        schema = schema.append(pa.field(name, kind)) if at < 0 else schema.set(at, pa.field(name, kind))
    return ParquetFiles(root, files, values, schema.remove_metadata())


def _seekable(file: File) -> Any:
    return file.open() if file.can_seek() else file.copy()


def _schema_of(file: File) -> pa.Schema:
    try:
        with _seekable(file) as opened:
            schema = parquet.read_schema(opened)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise SourceError(f"{file.name} isn't a whole Parquet file: {str(error).splitlines()[0]}") from error
    refuse_doubles(schema.names, file.name)
    return schema.remove_metadata()


def _keys_of(file: File, root: File) -> dict[str, str]:
    if file.path is not None and root.path is not None:
        folders: Any = file.path.relative_to(root.path).parts[:-1]
    else:
        folders = file.key.removeprefix(root.key.rstrip("/") + "/").split("/")[:-1]
    return {unquote(name): unquote(value) for name, mark, value in (f.partition("=") for f in folders) if mark and name}


def _typed(texts: list[dict[str, str]]) -> tuple[list[dict[str, Any]], dict[str, pa.DataType]]:
    """The keys of each file in their types: whole numbers where all of a name are, else text."""
    types: dict[str, pa.DataType] = {}
    for name in texts[0]:
        given = {keys[name] for keys in texts} - {NO_VALUE}
        whole = bool(given) and all(text.isascii() and text.isdigit() and str(int(text)) == text for text in given)
        types[name] = pa.int64() if whole else pa.string()

    def value(name: str, text: str) -> Any:
        return None if text == NO_VALUE else int(text) if types[name] == pa.int64() else text

    return [{name: value(name, text) for name, text in keys.items()} for keys in texts], types
