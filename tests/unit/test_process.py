"""A process is told from a later one that has its id."""

import os
import signal
import subprocess
import sys

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
