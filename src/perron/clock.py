"""The present time out; of a replay, the time that the replay's file says.

Old rows that are sent through a server (a replay, or filling in what it missed) have their own times.
With PERRON_CLOCK=FILE what the server logs and records is stamped with the time in that file, ISO 8601,
which the replay moves on. Nothing else follows it: tokens, aliases and runs keep the machine's time.
"""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from perron.errors import LedgerError

__all__ = ["VARIABLE", "clock", "now", "read_clock", "replay_file", "set_clock", "text_of"]

VARIABLE = "PERRON_CLOCK"


def text_of(moment: datetime) -> str:
    """The moment in ISO 8601 (UTC), to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def replay_file() -> Path | None:
    """The file of a replay's time; None where the machine's clock is right."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def clock() -> Callable[[], int]:
    """What gives the present time in nanoseconds since 1970: the machine's clock itself, but for a replay."""
    path = replay_file()
    return time.time_ns if path is None else lambda: int(read_clock(path).timestamp() * 1000) * 1_000_000


def now() -> datetime:
    """The present time in UTC.

    Raises:
        LedgerError: the replay's file holds none.
    """
    path = replay_file()
    return datetime.now(UTC) if path is None else read_clock(path)


def read_clock(path: Path) -> datetime:
    """The time in a replay's file, in UTC.

    Raises:
        LedgerError: it can't be read, or holds no time.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        moment = datetime.fromisoformat(text)
    except OSError as error:
        raise LedgerError(f"The replay's clock {path} can't be read: {error.strerror}.") from error
    except ValueError as error:
        raise LedgerError(
            f"Expected a time such as 2026-01-31T12:00:00Z in the replay's clock {path}, got {path.read_bytes()[:40]!r}."
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def set_clock(path: Path, moment: datetime) -> None:
    """Moves a replay's clock; whoever reads meanwhile has the time before or after."""
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ\n").encode()
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
    try:
        os.pwrite(
            file, text, 0
        )  # always of the same length, in one piece; a file renamed into place costs 100 × as much
        os.ftruncate(file, len(text))
    finally:
        os.close(file)
