"""SQLite files that several processes open for the first time."""

import fcntl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from perron.errors import LedgerError
from perron.history.journal import Journal
from perron.jobs import Jobs
from perron.sqlite import connect

OPENERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "queue": (
        "from perron.jobs import Jobs; Jobs(path, path.parent / 'batches')",
        lambda path: Jobs(path, path.parent),
    ),
    "journal": ("from perron.history.journal import Journal; Journal(path)", Journal),
    "any": ("from perron.sqlite import connect; connect(path, 'FULL')", lambda path: connect(path, "FULL")),
}


@pytest.mark.parametrize("name", OPENERS)
def test_processes_open_a_new_file_at_once(tmp_path: Path, name: str) -> None:
    program = f"import sys; from pathlib import Path; path = Path(sys.argv[1]); {OPENERS[name][0]}"
    many = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "a.db")]) for _ in range(6)]
    assert [one.wait() for one in many] == [0] * 6


@pytest.mark.parametrize("name", OPENERS)
def test_the_second_waits_while_the_first_switches(tmp_path: Path, name: str) -> None:
    """SQLite itself doesn't wait there: both read, both want to write, one of them fails at once."""
    path = tmp_path / "a.db"
    opened = threading.Event()

    def open_it() -> None:
        OPENERS[name][1](path)
        opened.set()

    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = threading.Thread(target=open_it)
        second.start()
        assert not opened.wait(0.2)
    second.join(30)
    assert opened.is_set()


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.db.lock").mkdir()
    with pytest.raises(LedgerError, match=r"a\.db\.lock can't be written: Is a directory"):
        Jobs(tmp_path / "a.db", tmp_path / "batches")
