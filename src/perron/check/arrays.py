"""Arrow arrays in, NumPy arrays out, and back, by their buffers.

pyarrow's own ways (`pa.array`, `pa.scalar`, `to_numpy`, `fill_null`) import pandas at their first use, a tenth of a
second that a check of a million rows doesn't have to spend. Nothing is copied that needn't be.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["from_bools", "from_numbers", "from_texts", "is_in", "is_true", "is_valid", "numbers_of", "nulled"]

Mask = npt.NDArray[np.bool_]


def numbers_of(array: pa.Array) -> npt.NDArray[Any]:
    """The (n,) numbers of an array of int, float, date or timestamp; anything where null. Read-only."""
    is_moment = pa.types.is_temporal(array.type)
    kind = np.dtype(f"i{array.type.bit_width // 8}" if is_moment else array.type.to_pandas_dtype())
    held = array.buffers()[1]
    if held is None or not held.size:
        return np.zeros(len(array), kind)
    return np.frombuffer(held, kind)[array.offset : array.offset + len(array)]


def _bits(buffer: pa.Buffer, offset: int, count: int) -> Mask:
    first = offset // 8
    found = np.unpackbits(np.frombuffer(buffer, np.uint8)[first : (offset + count + 7) // 8], bitorder="little")
    return found[offset - 8 * first : offset - 8 * first + count].view(bool)


def is_valid(array: pa.Array) -> Mask:
    """Where the array has a value."""
    if pa.types.is_null(array.type):
        return np.zeros(len(array), bool)
    validity = array.buffers()[0] if array.null_count else None
    return np.ones(len(array), bool) if validity is None else _bits(validity, array.offset, len(array))


def is_true(array: pa.Array) -> Mask:
    """Where an array of truth values is true; a null isn't."""
    held = array.buffers()[1]
    if held is None or not held.size:
        return np.zeros(len(array), bool)
    found = _bits(held, array.offset, len(array))
    return found & is_valid(array) if array.null_count else found


def _packed(mask: Mask) -> pa.Buffer:
    return pa.py_buffer(np.packbits(mask, bitorder="little"))


def from_bools(mask: Mask) -> pa.Array:
    """The mask as an array of truth values without nulls."""
    return pa.Array.from_buffers(pa.bool_(), len(mask), [None, _packed(mask)])


def from_numbers(values: npt.NDArray[Any], kind: pa.DataType, valid: Mask | None = None) -> pa.Array:
    """The numbers as an array of a type of the same width, null where not `valid`."""
    validity = None if valid is None or valid.all() else _packed(valid)
    return pa.Array.from_buffers(kind, len(values), [validity, pa.py_buffer(np.ascontiguousarray(values))])


def from_texts(texts: Sequence[str]) -> pa.Array:
    """The texts as an array of strings."""
    encoded = [text.encode() for text in texts]
    offsets = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(item) for item in encoded], out=offsets[1:])
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def nulled(array: pa.Array, where: Mask) -> pa.Array:
    """The array with nulls at more places."""
    return pc.if_else(from_bools(where), pa.nulls(len(array), array.type), array) if where.any() else array


def is_in(array: pa.Array, among: pa.Array) -> Mask:
    """Where the array has one of some values; a null has none."""
    found = is_true(pc.is_in(array, among))
    return found & is_valid(array) if array.null_count else found
