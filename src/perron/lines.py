"""A table in; a line of JSON for each row out, vectorised: a million rows in a second or two."""

from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["json_lines"]

UNSAFE = r'["\\\x00-\x1f]'


def json_lines(table: pa.Table) -> bytes:
    """The rows as objects, one per line, in UTF-8; missing values are null, and so are numbers that aren't finite."""
    table = table.combine_chunks()
    if not table.num_rows:
        return b""
    pieces: list[Any] = []
    for place, name in enumerate(table.schema.names):
        head = msgspec.json.encode(name).decode()
        pieces += [pa.scalar(f"{',' if place else '{'}{head}:"), _cells(table.column(place))]
    lines = pc.binary_join_element_wise(*pieces, pa.scalar("}\n"), pa.scalar(""))
    if isinstance(lines, pa.ChunkedArray):
        lines = lines.combine_chunks()
    data, offsets = lines.buffers()[2], np.frombuffer(lines.buffers()[1], np.int32)
    return memoryview(data)[offsets[lines.offset] : offsets[lines.offset + len(lines)]].tobytes()


def _cells(column: pa.ChunkedArray) -> Any:
    """Each value as JSON text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = pc.cast(column, kind.value_type), kind.value_type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        texts = column.cast(pa.string())
    elif pa.types.is_floating(kind):
        numbers = column.cast(pa.float64())
        texts = pc.if_else(pc.is_finite(numbers), numbers.cast(pa.string()), pa.scalar(None, pa.string()))
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        texts = _quoted(column.cast(pa.string()))
    else:  # dates and all that is rare
        values = column.to_pylist()
        texts = pa.chunked_array([[None if v is None else msgspec.json.encode(v, enc_hook=str).decode() for v in values]], pa.string())  # fmt: skip
    return pc.fill_null(texts, "null")


def _quoted(texts: pa.ChunkedArray) -> Any:
    quoted = pc.binary_join_element_wise(pa.scalar('"'), texts, pa.scalar('"'), pa.scalar(""))
    unsafe = pc.fill_null(pc.match_substring_regex(texts, UNSAFE), False)
    if not pc.any(unsafe).as_py():
        return quoted
    escaped = [msgspec.json.encode(text).decode() for text in texts.filter(unsafe).to_pylist()]
    return pc.replace_with_mask(quoted.combine_chunks(), unsafe.combine_chunks(), pa.array(escaped, pa.string()))
