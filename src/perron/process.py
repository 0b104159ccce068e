"""A process id in; whether that very process lives out, though ids are given again."""

import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Process"]


@dataclass(frozen=True)
class Process:
    """A process of this machine: its id, and when it was started in ticks since the machine was, which tells it from a
    later one of the same id."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has this id now, or None; one that has ended and is only waited for is none."""
        fields = _fields(pid)
        return None if fields is None or fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def me(cls) -> "Process":
        """This process."""
        found = cls.of(os.getpid())
        assert found is not None
        return found

    @classmethod
    def read(cls, data: Any) -> "Process | None":
        """The process that `to_json` told of, or None where it is something else."""
        if not isinstance(data, Mapping) or not all(isinstance(data.get(key), int) for key in ("pid", "started")):
            return None
        return cls(data["pid"], data["started"])

    def to_json(self) -> dict[str, int]:
        return {"pid": self.pid, "started": self.started}

    @property
    def is_alive(self) -> bool:
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal, unless it is gone."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def memory_mb(self) -> float:
        """What it and its children have in memory, in MiB; 0 when it is gone."""
        pages, found = 0, [self.pid] if self.is_alive else []
        while found:
            pid = found.pop()
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
            except (OSError, ValueError, IndexError):
                continue
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _fields(pid: int) -> list[str] | None:
    """What the kernel tells of a process after its name (proc(5)): the state first, its start as the 20th."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
