"""Numbers in; 64-bit hashes out, many at once, the same on every machine."""

import numpy as np
import numpy.typing as npt

__all__ = ["NULL_HASH", "Floats", "Hashes", "hash_numbers", "mix"]

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
NULL_HASH = np.uint64(0x9E3779B97F4A7C15)


def mix(bits: Hashes) -> Hashes:
    """Each number spread over 64 bits (the finaliser of splitmix64, Steele et al. 2014); a new array."""
    mixed = bits ^ (bits >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def hash_numbers(values: Floats, whole: npt.NDArray[np.int64] | None = None) -> Hashes:
    """A hash per number; 1 and 1.0 share one, and `whole` tells apart what float64 can't."""
    bits = (values + 0.0).view(np.uint64)  # + 0.0: minus zero is zero
    if whole is not None and len(whole):
        wide = np.abs(values) >= 2.0**53
        if wide.any():
            bits = np.where(wide, whole.view(np.uint64) ^ np.uint64(0xA5A5A5A5), bits)
    return mix(bits + NULL_HASH)
