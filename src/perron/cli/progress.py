"""A pipeline's steps on standard error, as they happen: a live line in a terminal, plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Any

__all__ = ["Progress"]

MARKS = {"done": "✓", "cached": "·", "failed": "✗", "waiting": "…"}
WAITING = "another run is at it"


class Progress:
    """Told of steps (`perron.pipeline.Progress`); a context, so that the live line is cleared."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()
        self._status: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def __call__(self, step: str, status: str, seconds: float, /) -> None:
        if self._quiet:
            return
        self._clear()
        if self._live and status in ("running", "waiting"):
            from rich.console import Console

            self._status = Console(stderr=True).status(f"{step} … {WAITING * (status == 'waiting')}")
            self._status.start()
            return
        if status == "running":
            return
        took = {"cached": "cached  ", "waiting": WAITING}.get(status, f"{seconds:6.2f} s")
        print(f"{MARKS[status]} {step:<12} {took}", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
