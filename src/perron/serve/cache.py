"""A body that was answered before in; its rows and the model's outputs out, without decoding or running the graph."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["MOST_BYTES", "Cache", "Kept"]

MOST_BYTES = 16 << 10  # of a body that is kept: what is longer is a batch, which hardly ever comes again


class Kept(NamedTuple):
    """What is known of a body: decoded rows, and for each of them a value and its probabilities (or None)."""

    rows: Sequence[tuple[Any, ...]]
    values: list[Any]
    shares: list[list[float]] | None


class Cache:
    """The bodies that were answered last by one version, at most so many; the one unused longest goes first.

    Keys are the bytes themselves: two ways to write the same row are two entries, and none can be
    mistaken for another. Belongs to one event loop.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()

    def get(self, body: bytes) -> Kept | None:
        found = self._kept.get(body)
        if found is not None:
            self._kept.move_to_end(body)
        return found

    def keep(self, body: bytes, kept: Kept) -> None:
        """Remembers an answer, in place of the one unused longest where there are too many."""
        if len(body) > MOST_BYTES:
            return
        self._kept[body] = kept
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)
