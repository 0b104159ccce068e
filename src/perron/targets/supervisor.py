"""A listening socket and orders in; the server of one environment out: watched, started again, swapped without a failed request.

    home/state.json   what runs, for whoever looks     home/logs/   a file per deployment, and supervisor.log
    home/control      takes one order a connection, in JSON

The supervisor holds the socket and hands it to each version's process. The new one loads, proves that it is ready, and
only then accepts, beside the old one; then the old one is told to go. What waits in the socket's queue is answered by
whichever accepts it. When the supervisor itself is killed its server goes on, and the next supervisor takes over.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perron.errors import DeploymentError
from perron.process import Process
from perron.store import write_atomically

__all__ = ["Home", "Service", "Supervisor", "ask", "open_socket", "supervise", "tail"]

BACKLOG = 4096
EARLY_S, MOST_EARLY = 5.0, 3  # a server that dies so soon after its start, so often in a row, can't be helped
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
MOST_FAILURES = 3  # of the health check, in a row
KILL_AFTER_S = (
    20.0  # after the time for draining: a server's own ten seconds, its workers' five, and its log's last lines
)
LOG_BYTES, LOGS_KEPT, DEPLOYMENTS_KEPT = 10 << 20, 3, 10
LAST_LINES, LAST_BYTES = 6, 4096
LOCK_TRIES = 10
ORDER_BYTES = 1 << 20
ANSWER_S = 1.0  # for what is yet to be answered when the supervisor ends
LOOK_EVERY_S = 0.05
SETTLED_S = 60.0  # one that is too heavy again so soon after its start would be so for ever
LONGEST_REST_S = 300.0  # between tries to replace one that is too heavy
ENDING = "the supervisor was told to stop meanwhile"


@dataclass(frozen=True)
class Service:
    """What a supervisor runs: one version of a project, in an environment."""

    project: str
    environment: str
    model: str
    version: int
    bundle: str
    deployment: int
    host: str
    port: int
    workers: int = 1
    words: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    is_pinned: bool = True
    ready_s: float = 60.0
    drain_s: float = 10.0
    health_s: float = 5.0
    memory_mb: int | None = None

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> "Service":
        """The service that `asdict` told of."""
        return cls(**{**data, "words": tuple(data["words"])})

    @property
    def command(self) -> list[str]:
        """The words that start its process."""
        words = [sys.executable, "-m", "perron", "serve", str(self.version), "--model", self.model]
        words += ["--host", self.host, "--port", str(self.port), "--workers", str(self.workers)]
        words += ["--pinned"] if self.is_pinned else []
        return [*words, *self.words, "--project", self.project]

    @property
    def reachable(self) -> tuple[str, int]:
        """Host and port as this machine reaches them: an address for all of them is loopback's."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), self.port


class Home:
    """The folder of an environment's supervisor: `.perron/environments/NAME`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.logs = folder / "state.json", folder / "logs"

    def log(self, deployment: int) -> Path:
        return self.logs / f"{deployment}.log"

    def read_state(self) -> dict[str, Any]:
        """What the last supervisor wrote; empty where there was none, or it can't be read."""
        try:
            found = json.loads(self.state.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def supervisor(self) -> Process | None:
        """The supervisor that lives: whose lock is held. A file with a process id alone may be stale."""
        try:
            with open(self.folder / "lock", "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return Process.read(self.read_state().get("supervisor")) or Process(0, 0)
        except OSError:
            return None
        return None

    @property
    def servers(self) -> list[Process]:
        """Servers that a supervisor started and that live."""
        told = self.read_state()
        found = [Process.read(one) for one in (told.get("server"), *told.get("going", ()))]
        return [one for one in found if one is not None and one.is_alive]

    def drain_s(self, default: float) -> float:
        """How long the servers that a supervisor started wait for what is under way."""
        service = self.read_state().get("service")
        found = service.get("drain_s") if isinstance(service, dict) else None
        return found if isinstance(found, int | float) else default

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The lock of the one supervisor.

        Raises:
            DeploymentError: another one has it.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "ab") as file:
            for _ in range(LOCK_TRIES):  # who looks whether there is a supervisor holds it for a moment
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.02)
            else:
                raise DeploymentError(f"A supervisor runs in {self.folder} already.")
            yield

    @contextmanager
    def control(self) -> Iterator[str]:
        """The path of the control socket, by way of a descriptor of its folder: such a path may have 107 bytes."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{folder}/control"
        finally:
            os.close(folder)


def open_socket(host: str, port: int, *, beside: bool) -> socket.socket:
    """A listening socket.

    Args:
        host, port: where.
        beside: another one that was made here may listen there, too: of a supervisor that was killed.

    Raises:
        OSError: it is taken, or not this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    if not beside:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


def tail(path: Path) -> str:
    """The last lines of a log, as one."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - LAST_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    told = [line.removeprefix("perron: ").strip() for line in lines if line.strip()]
    return " / ".join(told[-LAST_LINES:])


def ask(home: Home, order: Mapping[str, Any], within_s: float) -> dict[str, Any]:
    """A supervisor's answer to an order.

    Raises:
        OSError: there is none that answers, or not in time.
    """
    with home.control() as path, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within_s)
        connection.connect(path)
        connection.sendall(json.dumps(order).encode() + b"\n")
        with connection.makefile("rb") as answers:
            text = answers.readline()
    if not text.endswith(b"\n"):
        raise ConnectionResetError("the supervisor ended before it answered")
    answer: dict[str, Any] = json.loads(text)
    return answer


@dataclass(eq=False)
class _Server:
    """A server's process."""

    service: Service
    process: asyncio.subprocess.Process
    identity: Process
    since: float
    ready_in: int  # where it tells that it is ready
    is_going: bool = False
    is_lighter: bool = False  # it took the place of one that was too heavy
    is_heavy: bool = False  # and is too heavy itself, which another one would be, too

    def kill(self) -> None:
        """Ends it and its workers at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Runs one server on a socket. Made and used within one event loop, with the lock of its home held."""

    def __init__(self, home: Home, listening: socket.socket) -> None:
        self._home, self._listening = home, listening
        self._orphans = home.servers  # of a supervisor that was killed
        self._leaving: set[Process] = set()  # those of them that were told to go
        self._orphans_drain_s = home.drain_s(Service.drain_s)
        self._current: _Server | None = None
        self._starting: _Server | None = None
        self._going: set[_Server] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._answering: set[asyncio.Task[Any]] = set()
        self._changing = asyncio.Lock()
        self._ended = asyncio.Event()
        self._ending = asyncio.Event()  # whatever becomes ready from now on isn't taken
        self._is_written = True
        self._complaint = ""
        self._heavy_tries, self._heavy_until = 0, 0.0
        self._phase, self._note = "starting", ""
        self._restarts = self._early = self._failures = 0
        self._exit_code = 0

    async def run(self, first: Service | None, tell: Callable[[str], None]) -> int:
        """The exit code, once it was told to stop or gave up; `tell` is told `ok` when it takes orders."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: self._begin(self._stop()))
        loop.add_signal_handler(signal.SIGHUP, lambda: None)
        self._write()
        with self._home.control() as path:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            server = await asyncio.start_unix_server(self._answer, path, limit=ORDER_BYTES)
            os.chmod(path, 0o600)
        tell("ok")
        try:
            if first is not None:
                failure = await self._swap(first)
                if failure is not None and not self._ending.is_set():
                    self._tell(failure)
                    return 1
            self._begin(self._look_after())
            await self._ended.wait()
        finally:
            self._ending.set()
            server.close()
            (self._home.folder / "control").unlink(missing_ok=True)
            if self._starting is not None:
                self._starting.kill()
            if self._answering:
                await asyncio.wait(self._answering, timeout=ANSWER_S)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._listening.close()
            self._write()
        return self._exit_code

    # -- orders

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Does what one connection asks; a swap whose asker goes away before it is done is not done."""
        answering = asyncio.current_task()
        assert answering is not None
        self._answering.add(answering)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                answer = await self._hear(reader)
                if answer is not None:
                    writer.write(json.dumps(answer).encode() + b"\n")
                    await writer.drain()
            writer.close()
        finally:
            self._answering.discard(answering)
        if self._current is None and not self._changing.locked() and not self._ending.is_set():
            self._ended.set()  # nothing came of the first order

    async def _hear(self, reader: asyncio.StreamReader) -> dict[str, Any] | None:
        """The answer to an order; None where nobody is there to hear it."""
        try:
            text = await reader.readline()
            order = json.loads(text) if text else None
        except (ValueError, RecursionError) as error:
            return _misunderstood(error)
        if not text:
            return None
        doing = asyncio.create_task(self._do(order))
        leaving = asyncio.create_task(reader.read())
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done() and isinstance(order, dict) and order.get("do") == "swap":
            doing.cancel()
        leaving.cancel()
        try:
            return await doing
        except asyncio.CancelledError:
            return None

    async def _do(self, order: Any) -> dict[str, Any]:
        """The answer to an order, whoever sent it: of another version's shape, too."""
        try:
            service = Service.read(order["service"]) if order["do"] == "swap" else None
            if order["do"] not in ("swap", "stop"):
                raise ValueError(f"there is no order {order['do']!r:.40}")
        except (TypeError, KeyError, ValueError) as error:
            return _misunderstood(error)
        try:
            if service is not None:
                failure = await self._swap(service)
                return {"failure": failure} if failure is not None else self.told
            await self._stop()
            return self.told
        except Exception as error:  # one order's failure is no other's
            self._tell(_traceback(error))
            return {"failure": f"the supervisor failed at it: {type(error).__name__}: {error}"}

    async def _swap(self, service: Service, instead_of: _Server | None = None) -> str | None:
        """Nothing, once the service answers in the place of what did; or why it doesn't, and all is as it was.

        Args:
            service: what is to answer.
            instead_of: only in this one's place; None: in that of whichever answers.
        """
        async with self._changing:
            if instead_of is not None and instead_of is not self._current:
                return "another one took its place meanwhile"
            try:
                made = await self._make(service)
            except OSError as error:
                return f"version {service.version} can't be started: {error}"
            if isinstance(made, str):
                return made
            self._take(made)
            return None

    async def _make(self, service: Service) -> _Server | str:
        """A server that accepts requests; or why there is none, and then its process is gone. To be called with `_changing` held.

        Raises:
            OSError: the machine can't start a process.
        """
        if self._ending.is_set():
            return ENDING
        made = await self._launch(service)
        if self._ending.is_set():
            made.kill()
        failure = await self._until_ready(made)
        if self._ending.is_set():
            made.kill()
            await made.process.wait()
            return ENDING
        return made if failure is None else failure

    def _take(self, made: _Server) -> None:
        """Makes a ready server the one that answers, and has the others go."""
        before, self._current = self._current, made
        self._phase, self._note, self._failures = "serving", "", 0
        if before is None or before.service != made.service:
            self._restarts = self._early = 0
        if before is not None and not before.is_going:
            self._begin(self._retire(before))
        self._dismiss_orphans()
        self._begin(self._watch(made))
        self._write()
        self._tell(f"version {made.service.version} answers, by process {made.process.pid}")
        try:
            self._forget_logs()
        except OSError as error:
            self._complain(f"old logs can't be removed: {error}")

    async def _stop(self) -> None:
        """Has everything go, and ends the supervisor."""
        self._ending.set()
        self._phase, self._note = "stopping", ""
        self._tell("told to stop")
        self._dismiss_orphans()
        if self._starting is not None:
            self._starting.kill()
        if self._current is not None:
            await self._retire(self._current)
        async with self._changing:  # a swap or a restart that was under way sees that it came too late
            while self._going or self._leaving:
                await asyncio.sleep(LOOK_EVERY_S)
        self._current, self._phase = None, "stopped"
        self._write()
        self._ended.set()

    # -- servers

    async def _launch(self, service: Service) -> _Server:
        """A server's process that was just started."""
        log = self._home.log(service.deployment)
        ready_in, ready_out = os.pipe()
        variables = {
            **os.environ, **service.variables, "PERRON_LISTEN_FD": str(self._listening.fileno()),
            "PERRON_READY_FD": str(ready_out), "PERRON_DRAIN_S": f"{service.drain_s:g}",
            "PERRON_DEPLOYMENT": json.dumps({"environment": service.environment, "id": service.deployment}),
        }  # fmt: skip
        try:
            with open(log, "ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *service.command, cwd=service.project, stdin=asyncio.subprocess.DEVNULL, stdout=output,
                    stderr=output, env=variables, pass_fds=(self._listening.fileno(), ready_out), start_new_session=True,
                )  # fmt: skip
        except BaseException:
            os.close(ready_in)
            raise
        finally:
            os.close(ready_out)
        identity = Process.of(process.pid) or Process(process.pid, 0)
        self._starting = _Server(service, process, identity, time.time(), ready_in)
        self._write()  # so that whoever comes after a supervisor that is killed now knows of it
        return self._starting

    async def _until_ready(self, made: _Server) -> str | None:
        """Nothing, once the server accepts requests; or why it never will: then it is gone."""
        loop, ready_in = asyncio.get_running_loop(), made.ready_in
        told: asyncio.Future[bytes] = loop.create_future()

        def read() -> None:
            loop.remove_reader(ready_in)
            if not told.done():
                told.set_result(os.read(ready_in, 16))

        loop.add_reader(ready_in, read)
        is_ready = False
        try:
            found = await asyncio.wait_for(told, made.service.ready_s)
            is_ready = found != b""
            why = "it ended"
        except TimeoutError:
            why = f"it wasn't within {made.service.ready_s:g} s"
        finally:
            loop.remove_reader(ready_in)
            os.close(ready_in)
            self._starting = None
            if not is_ready:
                made.kill()
                await asyncio.shield(made.process.wait())
        if is_ready:
            return None
        log = self._home.log(made.service.deployment)
        return f"version {made.service.version} isn't ready: {why}; {log} ends with: {tail(log) or '(nothing)'}"

    async def _retire(self, server: _Server) -> None:
        """Has a server finish what is under way, and end."""
        server.is_going = True
        self._going.add(server)
        self._write()
        try:
            with contextlib.suppress(ProcessLookupError):
                server.process.terminate()
            await asyncio.wait_for(server.process.wait(), server.service.drain_s + KILL_AFTER_S)
        except TimeoutError:
            self._tell(f"process {server.process.pid} didn't end in time and is killed")
            server.kill()
            await server.process.wait()
        finally:
            self._going.discard(server)
            self._write()

    async def _dismiss(self, orphan: Process) -> None:
        """Has a server of a supervisor that was killed finish what is under way, and end."""
        orphan.send(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        end = loop.time() + self._orphans_drain_s + KILL_AFTER_S
        while orphan.is_alive and loop.time() < end:
            await asyncio.sleep(LOOK_EVERY_S)
        if orphan.is_alive:
            self._tell(f"process {orphan.pid} didn't end in time and is killed")
            orphan.kill()
            while orphan.is_alive:
                await asyncio.sleep(LOOK_EVERY_S)
        self._orphans.remove(orphan)
        self._leaving.discard(orphan)
        self._write()

    def _dismiss_orphans(self) -> None:
        for orphan in self._orphans:
            if orphan not in self._leaving:
                self._leaving.add(orphan)
                self._begin(self._dismiss(orphan))

    async def _watch(self, server: _Server) -> None:
        """Starts a server again when it ends by itself; gives up when it can't be helped."""
        code = await server.process.wait()
        server.kill()  # workers of its that are left
        lived: float | None = time.time() - server.since
        why = f"process {server.process.pid} ended by {_words(code)} after {lived:.1f} s"
        refused = 0  # by the machine, which the server can't help: it may well start later
        while self._is_missed(server):
            if lived is not None:
                self._early = self._early + 1 if lived < EARLY_S else 0
            self._phase, self._note = "restarting", why
            self._write()
            self._tell(why)
            if self._early > MOST_EARLY:
                self._give_up(server)
                return
            await asyncio.sleep(min(FIRST_PAUSE_S * 2 ** min(self._early + refused, 10), LONGEST_PAUSE_S))
            async with self._changing:
                if not self._is_missed(server):  # a swap came first
                    return
                try:
                    made = await self._make(server.service)
                except OSError as error:
                    refused, lived = refused + 1, None
                    why = f"version {server.service.version} can't be started: {error}"
                    continue
                if isinstance(made, _Server):
                    server.is_going = True
                    self._restarts += 1
                    self._take(made)
                    return
            lived, why = 0.0, made

    def _is_missed(self, server: _Server) -> bool:
        """Whether nothing else answers in a server's place, or is to."""
        return not server.is_going and self._current is server and not self._ending.is_set()

    def _give_up(self, server: _Server) -> None:
        log = self._home.log(server.service.deployment)
        self._ending.set()
        self._phase = "given up"
        self._note = f"it ended {self._early} times as it started; {log} ends with: {tail(log)}"
        self._current = None
        self._exit_code = 1
        self._tell(f"given up: {self._note}")
        self._ended.set()

    # -- looking after it

    async def _look_after(self) -> None:
        """Asks the server whether it lives, weighs it, and keeps the logs short, for ever."""
        while True:
            current = self._current
            await asyncio.sleep(current.service.health_s if current is not None else 1.0)
            try:
                await self._look(current)
            except OSError as error:
                self._complain(f"looking after the server failed, and is tried again: {error}")

    async def _look(self, current: _Server | None) -> None:
        """Looks once; `current` is what answered when the wait for it began."""
        try:
            self._rotate_logs()
        except OSError as error:
            self._complain(f"the logs can't be cut: {error}")
        if not self._is_written:
            self._write()
        if current is None or not self._is_serving(current) or self._changing.locked():
            return
        service = current.service
        if await _lives(*service.reachable, max(1.0, service.health_s)):
            self._failures = 0
            if self._is_serving(current):
                await self._weigh(current)
        elif self._is_serving(current):
            self._failures += 1
            if self._failures >= MOST_FAILURES:
                self._tell(f"process {current.process.pid} didn't answer {self._failures} times and is killed")
                current.kill()

    def _is_serving(self, server: _Server) -> bool:
        return server is self._current and self._phase == "serving"

    async def _weigh(self, current: _Server) -> None:
        """Has a fresh server take the place of one that is too heavy, unless that wouldn't help."""
        most, loop = current.service.memory_mb, asyncio.get_running_loop()
        if most is None or current.is_heavy or loop.time() < self._heavy_until:
            return
        weight = current.identity.memory_mb()
        if weight <= most:
            return
        if current.is_lighter and time.time() - current.since < SETTLED_S:
            current.is_heavy = True
            self._note = (
                f"it has {weight:.0f} MiB so soon after it was started, more than memory_mb = {most}, as the one before it; "
                "it isn't replaced again: raise memory_mb and deploy"
            )
        else:
            self._tell(f"process {current.process.pid} has {weight:.0f} MiB, more than {most}")
            failure = await self._swap(current.service, current)
            if failure is None:
                assert self._current is not None
                self._current.is_lighter = True
                self._restarts += 1
                self._heavy_tries = 0
                self._note = f"replaced when it had {weight:.0f} MiB"
            elif self._is_serving(current):
                self._heavy_tries += 1
                rest_s = min(current.service.health_s * 2 ** min(self._heavy_tries, 10), LONGEST_REST_S)
                self._heavy_until = loop.time() + rest_s
                self._note = (
                    f"it has {weight:.0f} MiB, more than memory_mb = {most}, and couldn't be replaced: {failure}"
                )
            else:
                return
        self._write()
        self._tell(self._note)

    def _rotate_logs(self) -> None:
        """Keeps the last bytes of each log: copied away and cut, since a server goes on writing at the file's end.

        Raises:
            OSError: there is no room for the copy, say; then all is as it was.
        """
        for path in self._home.logs.glob("*.log"):
            if path.stat().st_size > LOG_BYTES:
                copy = Path(f"{path}.new")
                try:
                    shutil.copyfile(path, copy)
                except OSError:
                    copy.unlink(missing_ok=True)
                    raise
                for number in range(LOGS_KEPT, 1, -1):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(f"{path}.{number - 1}", f"{path}.{number}")
                os.replace(copy, f"{path}.1")
                os.truncate(path, 0)

    def _forget_logs(self) -> None:
        """Removes the logs of all but the last deployments."""
        known = sorted(int(path.stem) for path in self._home.logs.glob("*.log") if path.stem.isdigit())
        for number in known[:-DEPLOYMENTS_KEPT]:
            for path in self._home.logs.glob(f"{number}.log*"):
                path.unlink(missing_ok=True)

    # -- telling

    @property
    def told(self) -> dict[str, Any]:
        """What is in state.json."""
        current, starting = self._current, [self._starting] if self._starting is not None else []
        return {
            "format": 1, "supervisor": Process.me().to_json(), "phase": self._phase, "note": self._note,
            "restarts": self._restarts,
            "service": None if current is None else asdict(current.service),
            "server": None if current is None else {**current.identity.to_json(), "since": current.since},
            "going": [one.identity.to_json() for one in (*starting, *self._going)]
            + [one.to_json() for one in self._orphans],
        }  # fmt: skip

    def _write(self) -> None:
        """Writes down what is told, for whoever looks; where that can't be, it is tried again at the next look."""
        try:
            write_atomically(self._home.state, json.dumps(self.told, indent=2) + "\n")
            self._is_written = True
        except OSError as error:
            self._is_written = False
            self._complain(f"{self._home.state} can't be written: {error}")

    def _tell(self, words: str) -> None:
        with contextlib.suppress(OSError):  # a full disk, say: what is looked after is worth more than the log
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}", file=sys.stderr, flush=True)

    def _complain(self, words: str) -> None:
        """Tells what may go wrong again and again, once."""
        if words != self._complaint:
            self._complaint = words
            self._tell(words)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._tell(_traceback(error))


async def _lives(host: str, port: int, within_s: float) -> bool:
    """Whether the server there answers that it lives."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"GET /health/live HTTP/1.1\r\nHost: supervisor\r\nConnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _misunderstood(error: Exception) -> dict[str, str]:
    """The answer to what is no order."""
    return {
        "failure": f"the supervisor doesn't understand what it is asked ({type(error).__name__}: {error}); where it is of another "
        "version of perron, `perron deploy stop`, then deploy"
    }


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def _words(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def supervise(home: Home, host: str, port: int, first: Service | None = None, report: int | None = None) -> int:
    """The exit code of a supervisor that ran until it was told to stop or gave up.

    Args:
        home: its folder.
        host, port: of the socket.
        first: what it runs from the beginning; None: what it is told to.
        report: a descriptor where `ok`, or why it can't begin, is written.

    Raises:
        DeploymentError: another supervisor runs there, or the port is in use (and nobody waits for a report).
    """

    def tell(words: str) -> None:
        if report is not None:
            os.write(report, words.encode())
            os.close(report)

    try:
        with home.locked():
            try:
                listening = open_socket(host, port, beside=bool(home.servers))
            except OSError as error:
                raise DeploymentError(f"Can't listen on {host}:{port}: {error.strerror or error}.") from error

            async def run() -> int:
                return await Supervisor(home, listening).run(first, tell)

            return asyncio.run(run())
    except DeploymentError as error:
        tell(str(error))
        raise


if __name__ == "__main__":
    if os.fork():  # whoever started this waits for no child of its own
        os._exit(0)
    folder, host, port, report = sys.argv[1:]
    sys.exit(supervise(Home(Path(folder)), host, int(port), report=int(report)))
