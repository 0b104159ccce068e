"""A server's settings in; one process that answers, or several on one port, watched over by this one.

A worker that dies is started again while the others go on; the kernel gives its connections to them.
Nothing is shared but the folder of their numbers: the plan and the log are on the disk.
"""

import contextlib
import ctypes
import logging
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from perron.errors import PerronError
from perron.plan import Memory, Plan
from perron.serve.app import Service, Settings
from perron.serve.http import DRAIN_S, Address
from perron.serve.http import serve as serve_http

__all__ = ["serve"]

KILL_AFTER_S = DRAIN_S + 5.0
EARLY_S, MOST_EARLY = 2.0, 3  # a worker that dies so soon after its start, so often in a row, can't be helped
PR_SET_PDEATHSIG = 1  # linux/prctl.h
logger = logging.getLogger("perron.serve")


def serve(
    settings: Settings,
    open_memory: Callable[[], Memory],
    address: Address,
    *,
    workers: int,
    announce: Callable[[Plan], None],
) -> None:
    """Answers until SIGINT or SIGTERM, then finishes what is under way and returns.

    Args:
        settings: of the service.
        open_memory: opens the project for the process that it is called in: no connection crosses a fork.
        address: free.
        workers: how many processes answer.
        announce: called with the plan once predictions are answered, by every worker.

    Raises:
        PerronError: nothing can be loaded or logged, or the workers die as they start.
    """
    if workers == 1:
        serve_http(settings, open_memory(), address, announce=lambda service: announce(_plan(service)))
        return
    with tempfile.TemporaryDirectory(prefix="perron-serve-") as folder:
        shared = replace(settings, shared=Path(folder))
        _Supervisor(shared, open_memory, address, workers).run(lambda: announce(open_memory().plan()))


def _plan(service: Service) -> Plan:
    assert service.plan is not None
    return service.plan


class _Supervisor:
    """Starts workers, starts them again when they die, and stops them."""

    def __init__(self, settings: Settings, open_memory: Callable[[], Memory], address: Address, workers: int) -> None:
        self._settings, self._open_memory = settings, open_memory
        self._address, self._workers = address, workers
        self._drain_s = 0.0 if address.listen_fd is None else address.drain_s
        self._pids: dict[int, int] = {}  # process id → worker's number
        self._started: dict[int, float] = {}
        self._early = 0
        self._is_stopping = False
        self._ready_in, self._ready_out = os.pipe()

    def run(self, announce: Callable[[], None]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        for worker in range(self._workers):
            self._start(worker)
        ready: set[int] = set()
        end: float | None = None
        try:
            while self._pids:
                self._bury()
                if len(ready) < self._workers and self._is_readable(0.05):
                    ready.update(os.read(self._ready_in, 256))
                    if len(ready) == self._workers and not self._is_stopping:
                        announce()
                elif len(ready) == self._workers:
                    signal.sigtimedwait({signal.SIGCHLD}, 0.2)
                if self._is_stopping:
                    end = end or time.monotonic() + KILL_AFTER_S + self._drain_s
                    if time.monotonic() > end:
                        self._signal_all(signal.SIGKILL)
        finally:
            self._signal_all(signal.SIGKILL)
        if self._early > MOST_EARLY:
            raise PerronError("The workers die as they start; the lines above say why.")

    def _is_readable(self, within_s: float) -> bool:
        return bool(select.select([self._ready_in], [], [], within_s)[0])

    def _start(self, worker: int) -> None:
        self._started[worker] = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        parent, stops = os.getpid(), (signal.SIGINT, signal.SIGTERM)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, stops)  # so long as a stop wouldn't reach the child
        pid = os.fork()
        if pid:
            self._pids[pid] = worker
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return
        status = 1
        try:
            for number in stops:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            _end_with(parent)
            settings = replace(self._settings, worker=worker)
            serve_http(settings, self._open_memory(), self._address, announce=self._say_ready(worker))
            status = 0
        except PerronError as error:
            print(f"perron: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            status = 0
        except BaseException:
            logger.exception("worker %d failed", worker)
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)  # nothing of the parent's is run or cleaned up here

    def _say_ready(self, worker: int) -> Callable[[Service], None]:
        return lambda service: (os.write(self._ready_out, bytes([worker])), None)[1]

    def _bury(self) -> None:
        """Takes note of workers that ended, and starts them again."""
        while self._pids:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._pids.clear()
                return
            if pid == 0:
                return
            worker = self._pids.pop(pid, None)
            if worker is None or self._is_stopping:
                continue
            lived = time.monotonic() - self._started[worker]
            self._early = self._early + 1 if lived < EARLY_S else 0
            logger.error("worker %d ended (%s) after %.1f s", worker, _words(status), lived)
            if self._early > MOST_EARLY:
                self._stop(signal.SIGTERM, None)
                return
            self._start(worker)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._is_stopping = True
        self._signal_all(signal.SIGTERM)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in list(self._pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _end_with(parent: int) -> None:
    """Has this process stop when its parent is killed, so that the port is free for the next server (Linux alone can)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it is gone already
        os.kill(os.getpid(), signal.SIGTERM)


def _words(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"
