"""A process is told from a later one that has its id."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perron.process import Process


def test_a_process_is_itself_until_it_ends() -> None:
    words = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline()
        found = Process.of(running.pid)
        assert found is not None and found.is_alive and found.memory_mb() > 1
        assert Process.read(found.to_json()) == found
        assert not Process(found.pid, found.started + 1).is_alive  # of another one that has the id now
        Process(found.pid, found.started + 1).send(signal.SIGKILL)
        assert running.poll() is None
        found.send(signal.SIGKILL)
        running.wait()
    assert not found.is_alive and found.memory_mb() == 0
    found.send(signal.SIGKILL)  # nobody is there: nothing happens


def test_one_that_ended_and_is_only_waited_for_is_none() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert Process.of(child) is None
    os.waitpid(child, 0)


def test_what_is_no_process_reads_as_none() -> None:
    assert Process.read(None) is None and Process.read({"pid": "1"}) is None and Process.read([1]) is None
    assert Process.of(2**22 + 1) is None


def test_what_forked_workers_share_is_counted_once() -> None:
    script = """
import os, time
held = bytearray(os.urandom(1 << 20)) * 60
for _ in range(3):
    if os.fork() == 0:
        os.read(0, 1)
        os._exit(0)
print(flush=True)
input()
"""
    words = [sys.executable, "-S", "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stdout.readline()
        found = Process.of(running.pid)
        assert found is not None and 60 < found.memory_mb() < 120


def test_the_resident_pages_are_told_where_the_shared_ones_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def refuse(path: Path) -> str:
        if path.name == "smaps_rollup":
            raise PermissionError(13, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert Process.me().memory_mb() > 1


def test_a_process_is_killed_with_the_group_that_it_leads_alone() -> None:
    for leads in (True, False):
        with subprocess.Popen(
            ["bash", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=leads
        ) as running:
            assert running.stdout is not None
            child, found = Process.of(int(running.stdout.readline())), Process.of(running.pid)
            assert child is not None and found is not None
            found.kill()
            running.wait()
            if not leads:
                assert child.is_alive
                child.kill()
    found.kill()  # nobody is there: nothing happens
