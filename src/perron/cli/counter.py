"""A count on standard error while something long goes on, in a terminal only."""

import sys
import time
from types import TracebackType

__all__ = ["Counter"]


class Counter:
    """Called with how many more there are; writes the sum ten times a second."""

    def __init__(self, noun: str, *, quiet: bool = False) -> None:
        self._noun, self._live = noun, not quiet and sys.stderr.isatty()
        self._count, self._shown = 0, 0.0

    def __enter__(self) -> "Counter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live and self._count:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def __call__(self, more: int) -> None:
        self._count += more
        if self._live and time.monotonic() - self._shown > 0.1:
            self._shown = time.monotonic()
            print(f"\r{self._count:,} {self._noun} …", end="", file=sys.stderr, flush=True)
