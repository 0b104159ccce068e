"""An Arrow array in; a Block out: text is read as the kind of value that its column holds."""

import re
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from perron.sketch.column import Block, Kind

__all__ = ["block", "kind_of"]

NUMBER = r"^\s*[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|(?i:inf|infinity|nan))\s*$"
LEADING_ZERO = r"^\s*[-+]?0\d"
MOMENT = r"^\s*\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?\s*$"
NULLS = pa.array(["", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None"])
TRUTHS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
MOSTLY = 0.9
LOOKED_AT = 20_000


def kind_of(array: pa.Array) -> Kind:
    """What a column holds; of text, by what nearly all of its first values look like."""
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_null(kind) or array.null_count == len(array):
        return "empty"
    if pa.types.is_boolean(kind):
        return "bool"
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_duration(kind)
    ):
        return "number"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    if not _is_text(kind):
        return "text" if pa.types.is_time(kind) else "other"
    return _kind_of_text(_strings(array.slice(0, LOOKED_AT)))


def _kind_of_text(texts: pa.Array) -> Kind:
    texts = texts.drop_null()
    given = texts.filter(pc.invert(pc.is_in(texts, NULLS))).unique()
    if not len(given):
        return "empty"
    if set(pc.utf8_lower(given.slice(0, 10)).to_pylist()) <= set(TRUTHS) and len(given) <= 10:
        return "bool"

    def share(pattern: str) -> float:
        return float(pc.sum(pc.match_substring_regex(given, pattern)).as_py() or 0) / len(given)

    if share(NUMBER) >= MOSTLY:
        return "text" if share(LEADING_ZERO) > 0 else "number"
    return "time" if share(MOMENT) >= MOSTLY else "text"


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _strings(array: pa.Array) -> pa.Array:
    return array.cast(pa.string()) if array.type != pa.string() else array


def block(array: pa.Array, kind: Kind) -> Block:
    """The chunk of a column of a known kind ("empty": not known yet)."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if kind == "empty" or not _is_text(array.type):
        found = kind_of(array)
        kind = found if kind == "empty" or found != "empty" else kind
    if kind == "empty":
        return Block("empty", len(array), np.ones(len(array), bool))
    if kind == "other":
        return Block("other", len(array), np.asarray(array.is_null()))
    if kind == "text":
        return _text_block(_strings(array))
    return _read(array, kind) if _is_text(array.type) else _typed(array, kind)


def _typed(array: pa.Array, kind: Kind, misfits: int = 0) -> Block:
    is_null = np.asarray(array.is_null())
    whole = None
    if kind == "time":
        if pa.types.is_date32(array.type):
            numbers = np.asarray(pc.fill_null(array.cast(pa.int32()), 0)) * 86_400.0
        else:
            units = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
            per = 1e3 if pa.types.is_date64(array.type) else units[array.type.unit]
            numbers = np.asarray(pc.fill_null(array.cast(pa.int64()), 0)) / per
    elif kind == "bool" or pa.types.is_boolean(array.type):
        numbers = np.asarray(pc.fill_null(array.cast(pa.uint8()), 0)).astype(np.float64)
    elif pa.types.is_integer(array.type) or pa.types.is_duration(array.type):
        filled = np.asarray(pc.fill_null(array if pa.types.is_integer(array.type) else array.cast(pa.int64()), 0))
        whole = filled.astype(np.int64) if filled.dtype.itemsize == 8 else None
        numbers = filled.astype(np.float64)
    else:
        numbers = np.asarray(pc.fill_null(array.cast(pa.float64()), np.nan))
        is_null = is_null | np.isnan(numbers)
    if is_null.any():
        numbers = np.where(is_null, np.nan, numbers)
    return Block(kind, len(array), is_null, misfits, numbers, whole)


def _read(texts: pa.Array, kind: Kind) -> Block:
    """Text read as numbers, times or truth values; what can't be read is a misfit."""
    texts = _strings(texts)
    null = pc.fill_null(pc.is_in(texts, NULLS), True)
    given = pc.if_else(null, pa.scalar(None, pa.string()), texts) if pc.any(null).as_py() else texts
    try:
        read = _cast(pc.utf8_trim_whitespace(given), kind)
    except (pa.ArrowInvalid, ValueError):
        read = _cast_slowly(given, kind)
    misfits = read.null_count - given.null_count
    return _typed(read, kind, misfits)


def _cast(texts: pa.Array, kind: Kind) -> pa.Array:
    if kind == "number":
        return texts.cast(pa.float64())
    if kind == "time":
        try:
            return texts.cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            return texts.cast(pa.timestamp("us", "UTC"))
    lower = pc.utf8_lower(texts)
    if not pc.all(pc.fill_null(pc.is_in(lower, pa.array(list(TRUTHS))), True)).as_py():
        raise ValueError
    truths = pc.is_in(lower, pa.array(["true", "yes"]))
    return pc.if_else(pc.is_valid(texts), truths, pa.scalar(None, pa.bool_()))


def _cast_slowly(texts: pa.Array, kind: Kind) -> pa.Array:
    coded = texts.dictionary_encode()
    read: list[Any] = []
    for text in coded.dictionary.to_pylist():
        try:
            read.append(_one(text.strip(), kind))
        except (ValueError, KeyError, OverflowError):
            read.append(None)
    typed = {"number": pa.float64(), "time": pa.timestamp("us"), "bool": pa.bool_()}[kind]
    return pa.array(read, typed).take(coded.indices)


def _one(text: str, kind: Kind) -> Any:
    if kind == "number":
        return float(text) if re.match(NUMBER, text) else None
    if kind == "bool":
        return bool(TRUTHS[text.lower()])
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _text_block(texts: pa.Array) -> Block:
    coded = texts.dictionary_encode()
    different, codes = coded.dictionary, np.asarray(pc.fill_null(coded.indices, -1)).astype(np.int64)
    lengths = np.asarray(pc.utf8_length(different)).astype(np.int64)
    empty = np.flatnonzero(lengths == 0)
    if len(empty):  # an empty cell is null; its place stays, unused
        codes[codes == empty[0]] = -1
        keep = np.flatnonzero(lengths > 0)
        renumbered = np.full(len(lengths) + 1, -1, np.int64)
        renumbered[keep] = np.arange(len(keep))
        codes, different, lengths = renumbered[codes], different.take(pa.array(keep)), lengths[keep]
    buffers = different.buffers()
    offsets = np.frombuffer(buffers[1], np.int32)[different.offset : different.offset + len(different) + 1]
    data = np.frombuffer(buffers[2], np.uint8) if buffers[2] is not None else np.empty(0, np.uint8)

    def take(places: npt.NDArray[np.intp]) -> list[str]:
        return list(different.take(pa.array(places)).to_pylist())

    return Block(
        "text" if len(different) else "empty", len(texts), codes < 0, codes=codes, data=data,
        offsets=offsets.astype(np.int64), lengths=lengths, take=take,
    )  # fmt: skip
