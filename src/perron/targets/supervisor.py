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
from collections.abc import Callable, Iterator, Mapping
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

    def kill(self) -> None:
        """Ends it and its workers at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


class Supervisor:
    """Runs one server on a socket. Made and used within one event loop, with the lock of its home held."""

    def __init__(self, home: Home, listening: socket.socket) -> None:
        self._home, self._listening = home, listening
        self._orphans = home.servers  # of a supervisor that was killed
        self._current: _Server | None = None
        self._starting: _Server | None = None
        self._going: set[_Server] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changing = asyncio.Lock()
        self._ended = asyncio.Event()
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
            server = await asyncio.start_unix_server(self._answer, path)
            os.chmod(path, 0o600)
        tell("ok")
        try:
            if first is not None:
                failure = await self._swap(first)
                if failure is not None:
                    self._tell(failure)
                    return 1
            self._begin(self._look_after())
            await self._ended.wait()
        finally:
            server.close()
            (self._home.folder / "control").unlink(missing_ok=True)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._listening.close()
            self._write()
        return self._exit_code

    # -- orders

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Does what one connection asks; a swap whose asker goes away before it is done is not done."""
        with contextlib.suppress(OSError, ValueError, asyncio.IncompleteReadError):
            order = json.loads(await reader.readline())
            doing = asyncio.create_task(self._do(order))
            leaving = asyncio.create_task(reader.read())
            await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done() and order["do"] == "swap":
                doing.cancel()
            leaving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                writer.write(json.dumps(await doing).encode() + b"\n")
                await writer.drain()
        writer.close()
        if self._current is None and not self._changing.locked():  # nothing came of the first order
            self._ended.set()

    async def _do(self, order: Mapping[str, Any]) -> dict[str, Any]:
        match order["do"]:
            case "swap":
                failure = await self._swap(Service.read(order["service"]))
                return {"failure": failure} if failure is not None else self.told
            case "stop":
                await self._stop()
        return self.told

    async def _swap(self, service: Service) -> str | None:
        """Nothing, once the service answers in the place of what did; or why it doesn't, and all is as it was."""
        async with self._changing:
            made = await self._launch(service)
            failure = await self._until_ready(made)
            if failure is not None:
                return failure
            if self._phase == "stopping":
                made.kill()
                return "the supervisor was told to stop meanwhile"
            self._take(made)
            return None

    def _take(self, made: _Server) -> None:
        """Makes a ready server the one that answers, and has the others go."""
        before, self._current = self._current, made
        self._phase, self._note, self._failures = "serving", "", 0
        if before is None or before.service != made.service:
            self._restarts = self._early = 0
        if before is not None and not before.is_going:
            self._begin(self._retire(before))
        for orphan in self._orphans:
            orphan.send(signal.SIGTERM)
        self._orphans = []
        self._begin(self._watch(made))
        self._write()
        self._tell(f"version {made.service.version} answers, by process {made.process.pid}")
        self._forget_logs()

    async def _stop(self) -> None:
        """Has everything go, and ends the supervisor."""
        self._phase, self._note = "stopping", ""
        current = self._current
        if current is not None:
            self._tell("told to stop")
            await self._retire(current)
        for orphan in self._orphans:
            orphan.send(signal.SIGTERM)
        while self._going:
            await asyncio.sleep(0.02)
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

    async def _watch(self, server: _Server) -> None:
        """Starts a server again when it ends by itself; gives up when it can't be helped."""
        code = await server.process.wait()
        server.kill()  # workers of its that are left
        lived = time.time() - server.since
        why = f"process {server.process.pid} ended by {_words(code)} after {lived:.1f} s"
        while not server.is_going and self._current is server and self._phase != "stopping":
            self._early = self._early + 1 if lived < EARLY_S else 0
            self._phase, self._note = "restarting", why
            self._write()
            self._tell(why)
            if self._early > MOST_EARLY:
                self._give_up(server)
                return
            await asyncio.sleep(min(FIRST_PAUSE_S * 2**self._early, LONGEST_PAUSE_S))
            async with self._changing:
                if server.is_going or self._current is not server or self._phase == "stopping":  # a swap came first
                    return
                made = await self._launch(server.service)
                failure = await self._until_ready(made)
                if failure is None:
                    server.is_going = True
                    self._restarts += 1
                    self._take(made)
                    return
            lived, why = 0.0, failure

    def _give_up(self, server: _Server) -> None:
        log = self._home.log(server.service.deployment)
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
            self._rotate_logs()
            if current is None or current is not self._current or self._phase != "serving" or self._changing.locked():
                continue
            service = current.service
            if await _lives(*service.reachable, max(1.0, service.health_s)):
                self._failures = 0
            elif current is self._current and self._phase == "serving":
                self._failures += 1
                if self._failures >= MOST_FAILURES:
                    self._tell(f"process {current.process.pid} didn't answer {self._failures} times and is killed")
                    current.kill()
                continue
            weight = current.identity.memory_mb()
            if service.memory_mb is not None and weight > service.memory_mb:
                self._tell(f"process {current.process.pid} has {weight:.0f} MiB, more than {service.memory_mb}")
                restarts = self._restarts
                if await self._swap(service) is None:
                    self._restarts = restarts + 1
                    self._note = f"replaced when it had {weight:.0f} MiB"
                    self._write()

    def _rotate_logs(self) -> None:
        """Keeps the last bytes of each log: copied away and cut, since a server goes on writing at the file's end."""
        for path in self._home.logs.glob("*.log"):
            if path.stat().st_size > LOG_BYTES:
                for number in range(LOGS_KEPT, 1, -1):
                    with contextlib.suppress(FileNotFoundError):
                        os.replace(f"{path}.{number - 1}", f"{path}.{number}")
                shutil.copyfile(path, f"{path}.1")
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
        write_atomically(self._home.state, json.dumps(self.told, indent=2) + "\n")

    def _tell(self, words: str) -> None:
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}", file=sys.stderr, flush=True)

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


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
