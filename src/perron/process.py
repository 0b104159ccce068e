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

    def kill(self) -> None:
        """Ends it at once, and with it the group that it leads."""
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getpgid(self.pid) == self.pid:
                    os.killpg(self.pid, signal.SIGKILL)
                else:
                    os.kill(self.pid, signal.SIGKILL)

    def memory_mb(self) -> float:
        """What it and its children have in memory, in MiB, what they share counted once; 0 when it is gone."""
        total, found = 0.0, [self.pid] if self.is_alive else []
        while found:
            pid = found.pop()
            try:
                total += _memory_mb(pid)
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
            except (OSError, ValueError, IndexError):
                continue
        return total


def _memory_mb(pid: int) -> float:
    """What one process has in memory, in MiB: of pages that it shares its part, where the kernel tells that (proc(5))."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        pass  # another account's, or a kernel without it
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _fields(pid: int) -> list[str] | None:
    """What the kernel tells of a process after its name (proc(5)): the state first, its start as the 20th."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
