"""Arrays of many rows in; the graph's outputs out, computed a part per thread where that was seen to be faster.

The parts go through the same session at once, so that a second one needs no memory, and every row's
answer is the very same: a session with threads of its own adds up the trees of a row in another order.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

from perron.bundle import Bundle

__all__ = ["Lanes", "measure"]

ROWS = 1000  # of the request that is measured
WORTH = 1.2  # as fast, at least, as on one thread: parts cost CPU time that other requests want
TRIES, LONGEST_S = 5, 0.5


@dataclass(frozen=True)
class Lanes:
    """So many parts, one on the thread that calls, the others in the pool; thread safe."""

    parts: int
    pool: Executor

    def run(self, bundle: Bundle, feed: Mapping[str, Any]) -> tuple[Any, Any | None]:
        """As `Bundle.run`."""
        import numpy as np

        rows = len(next(iter(feed.values())))
        ends = [rows * place // self.parts for place in range(self.parts + 1)]
        pieces = [{name: array[start:end] for name, array in feed.items()} for start, end in pairwise(ends)]
        others = [self.pool.submit(bundle.run, piece) for piece in pieces[1:]]
        found = [bundle.run(pieces[0]), *(other.result() for other in others)]
        values = np.concatenate([values for values, _ in found])
        shares = [share for _, share in found if share is not None]
        return values, np.concatenate(shares) if shares else None


def measure(
    bundle: Bundle,
    rows: Sequence[tuple[Any, ...]],
    cores: int,
    pool: Executor,
    clock: Callable[[], float] = time.perf_counter,
) -> Lanes | None:
    """How a large request is best parted, up to the cores that this process may count on; None: not at all.

    Args:
        bundle: that is warm.
        rows: that it answers; repeated until they are many.
        cores: as many parts at most.
        pool: with a thread for each part but one.
    """
    feed = bundle.packer([rows[place % len(rows)] for place in range(ROWS)])
    ways = [Lanes(parts, pool) for parts in (2, 4, 8, 16, 32) if parts <= cores]
    runs: list[Callable[[], Any]] = [partial(bundle.run, feed), *(partial(lanes.run, bundle, feed) for lanes in ways)]
    best = [float("inf")] * len(runs)
    until = clock() + LONGEST_S
    for _ in range(TRIES):
        for place, run in enumerate(runs):  # in turn: others' load meets all of them
            started = clock()
            run()
            best[place] = min(best[place], clock() - started)
        if clock() > until:
            break
    fastest = min(range(len(runs)), key=best.__getitem__)
    return ways[fastest - 1] if fastest and best[0] >= WORTH * best[fastest] else None
