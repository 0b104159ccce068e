"""The alerts that are open and what is still to be told, in `.perron/alerts.json`; one at a time changes it."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from perron.alerts.events import Event
from perron.errors import LedgerError
from perron.locks import take
from perron.store import write_atomically

__all__ = ["Alert", "Delivery", "State", "locked", "read_state", "writing"]

FORMAT = 1
KEPT_EVENTS = 1000
logger = logging.getLogger("perron.alerts")


@dataclass
class Alert:
    """Something that a rule is watching: since when, how often in a row, and what was told and done.

    `last` is the newest finding as an event; `raised` and `told` are when, None before; `acted` is when its action
    began, `outcome` what came of it.
    """

    id: str
    last: Event
    seen: int = 0
    missed: int = 0
    told_severity: str = "low"
    events: int = 0
    raised: str | None = None
    told: str | None = None
    acted: str | None = None
    outcome: str | None = None


@dataclass
class Delivery:
    """An event that a channel has not taken yet, and how often that was tried."""

    event: Event
    channel: str
    tries: int = 0


@dataclass
class State:
    """Everything that is remembered from look to look; `events` are the newest last."""

    format: int = FORMAT
    alerts: dict[str, Alert] = field(default_factory=dict)
    outbox: list[Delivery] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Whether this process (and no other) holds the lock, within; without `wait`, False at once when another does.

    Raises:
        LedgerError: the folder can't be written.
    """
    try:
        lock = take(path, waits=wait)
    except BlockingIOError:
        yield False
        return
    except OSError as error:
        raise LedgerError(f"The lock {path} can't be made: {error.strerror}.") from error
    with lock:
        yield True


@contextmanager
def writing(folder: Path) -> Iterator[State]:
    """The state, to be changed within, and then written whole or, when the body raises, not at all.

    Raises:
        LedgerError: it can't be read or written, or a newer Perron wrote it.
    """
    with locked(folder / "alerts.lock"):
        state = read_state(folder)
        yield state
        state.events = state.events[-KEPT_EVENTS:]
        try:
            write_atomically(folder / "alerts.json", msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n")
        except OSError as error:
            raise LedgerError(f"{folder / 'alerts.json'} can't be written: {error.strerror}.") from error


def read_state(folder: Path) -> State:
    """The state as it was written last; an empty one where there is none, or where it is damaged.

    A damaged file is set aside and said to be; alerts are then raised anew.

    Raises:
        LedgerError: it can't be read, or a newer Perron wrote it.
    """
    path = folder / "alerts.json"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise LedgerError(f"{path} can't be read: {error.strerror}.") from error
    try:
        found = msgspec.json.decode(data)
        version = found.get("format") if isinstance(found, dict) else None
        if isinstance(version, int) and version > FORMAT:
            raise LedgerError(f"{path} has format {version}, newer than this Perron's {FORMAT}; update perron.")
        return msgspec.convert(found, State)
    except (msgspec.DecodeError, RecursionError) as error:
        aside = path.with_name(f"alerts.damaged-{time.time_ns()}.json")
        with contextlib.suppress(FileNotFoundError):  # another reader was quicker
            os.replace(path, aside)
        logger.warning("%s is damaged (%s); it is set aside as %s, and alerts begin anew.", path, error, aside.name)
        return State()
