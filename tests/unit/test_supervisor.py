"""A supervisor's files: its lock, its logs, and the end of them; the unit that systemd runs it by; what it does when all goes wrong."""

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from perron.environments import Environment
from perron.errors import DeploymentError
from perron.process import Process
from perron.targets import local, supervisor
from perron.targets.local import Local, home_of, systemd_unit
from perron.targets.supervisor import Home, Service, Supervisor, ask, open_socket, tail


def test_one_supervisor_has_the_lock(tmp_path: Path) -> None:
    home = Home(tmp_path / "dev")
    assert home.supervisor is None and home.read_state() == {} and home.servers == []
    with home.locked():
        assert home.supervisor is not None
        with pytest.raises(DeploymentError, match="A supervisor runs in"), home.locked():
            pass
    assert home.supervisor is None


def test_logs_are_cut_and_a_few_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 100)
    monkeypatch.setattr(supervisor, "DEPLOYMENTS_KEPT", 2)
    home = Home(tmp_path / "dev")
    home.logs.mkdir(parents=True)
    with socket.socket() as listening:
        made = Supervisor(home, listening)
        writer = os.open(home.log(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for turn in range(5):
            os.write(writer, b"%d" % turn * 200)
            made._rotate_logs()
        os.write(writer, b"goes on")
        os.close(writer)
        assert home.log(1).read_bytes() == b"goes on"  # at the file's end, not where it was before it was cut
        kept = sorted(path.name for path in home.logs.iterdir())
        assert kept == ["1.log", "1.log.1", "1.log.2", "1.log.3"]
        assert (home.logs / "1.log.1").read_bytes() == b"4" * 200
        for number in (2, 3):
            home.log(number).touch()
        (home.logs / "supervisor.log").touch()
        made._forget_logs()
    assert sorted(path.name for path in home.logs.iterdir()) == ["2.log", "3.log", "supervisor.log"]


def test_the_end_of_a_log_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "1.log"
    assert tail(log) == ""
    log.write_text("".join(f"line {number}\n" for number in range(2000)) + "\nperron: it failed\n")
    assert tail(log) == "line 1995 / line 1996 / line 1997 / line 1998 / line 1999 / it failed"


def test_a_socket_is_shared_only_where_that_is_asked_for() -> None:
    first = open_socket("127.0.0.1", 0, beside=False)
    port = first.getsockname()[1]
    with pytest.raises(OSError, match="in use"):
        open_socket("127.0.0.1", port, beside=False)
    open_socket("127.0.0.1", port, beside=True).close()
    first.close()


def test_a_state_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for text in ("", "[]", "{", '{"server": {"pid": "x"}, "going": [1]}'):
        home.state.write_text(text)
        assert home.servers == []
    home.state.write_text(json.dumps({"server": Process.me().to_json()}))
    assert home.servers == [Process.me()]


def test_the_unit_names_its_file_and_runs_the_supervisor(tmp_path: Path) -> None:
    text = systemd_unit(tmp_path / "my 100% project", Environment("prd", drain_s=5))
    assert text.startswith("# /etc/systemd/system/") and "TimeoutStopSec=35" in text
    assert "deploy supervise --env prd -C" in text and "100%% project" in text


# ------------------------------------------------------------------ small servers, in the place of real ones

READY = "echo ready >&$PERRON_READY_FD; "
LIVE = 'echo $$ >> "$PIDS"; '  # what it writes once it runs
LAST = "exec sleep 60"
SERVER = LIVE + READY + LAST


class Stage:
    """A supervisor of shell scripts, in a folder of its own."""

    def __init__(self, folder: Path, listening: socket.socket) -> None:
        self.folder, self.home = folder, home_of(folder, "dev")
        self.home.logs.mkdir(parents=True, exist_ok=True)
        self.supervisor = Supervisor(self.home, listening)
        self.service = Service(
            str(folder), "dev", "things", 1, "", 1, *listening.getsockname(), words=(SERVER,), drain_s=0.1,
            health_s=0.02, ready_s=10, variables={"PIDS": str(folder / "pids")},
        )  # fmt: skip

    def play(
        self, act: Callable[["asyncio.Task[int]"], Coroutine[Any, Any, None]], first: Service | None = None
    ) -> int:
        """The supervisor's exit code; the act is what happens beside it, and has it end."""

        async def run() -> int:
            async with asyncio.timeout(20):
                running = asyncio.create_task(self.supervisor.run(first or self.service, lambda _: None))
                await act(running)
                return await running

        return asyncio.run(run())

    async def ask(self, order: Any) -> dict[str, Any]:
        return await asyncio.to_thread(ask, self.home, order, 10)

    async def until(self, condition: Callable[[], Any]) -> Any:
        while not (found := condition()):
            await asyncio.sleep(0.005)
        return found

    @property
    def processes(self) -> list[int]:
        """Of the servers that ever ran, as far as they live."""
        return [pid for pid in self.pids if Process.of(pid) is not None]

    @property
    def pids(self) -> list[int]:
        path = self.folder / "pids"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def is_serving(self, number: int = 1) -> bool:
        """Whether the server that was started as the nth answers."""
        told = self.home.read_state()
        return told.get("phase") == "serving" and self.pids[number - 1 : number] == [told["server"]["pid"]]

    def kill(self) -> None:
        """Kills the server that was started last."""
        os.kill(self.pids[-1], signal.SIGKILL)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(Service, "command", property(lambda service: ["bash", "-c", *service.words]))
    monkeypatch.setattr(supervisor, "_lives", _says_that_it_lives)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.001)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        made = Stage(tmp_path, listening)
        try:
            yield made
        finally:
            for pid in made.processes:
                os.killpg(pid, signal.SIGKILL)


async def _says_that_it_lives(*_: Any) -> bool:
    return True


@contextmanager
def deaf(stage: Stage) -> Iterator[Process]:
    """A server of a supervisor that was killed, which doesn't end when it is told to."""
    words = ["bash", "-c", "trap '' TERM; echo; while :; do sleep 0.05; done"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as running:
        assert running.stdout is not None and running.stdout.readline()
        found = Process.of(running.pid)
        assert found is not None
        stage.home.state.write_text(json.dumps({"service": {"drain_s": 0.05}, "server": found.to_json()}))
        try:
            yield found
        finally:
            found.kill()


def is_over(stage: Stage) -> bool:
    return stage.home.read_state().get("phase") == "stopped" and not stage.processes


def test_a_stop_ends_the_server_that_is_just_started_again(stage: Stage) -> None:
    lingering = LIVE + READY + "trap '' TERM; until [ -e let ]; do sleep 0.01; done"
    slow = LIVE + "if [ -e again ]; then until [ -e go ]; do sleep 0.01; done; fi; touch again; " + READY + LAST
    before = replace(stage.service, drain_s=10.0, words=(lingering,))

    async def act(_: Any) -> None:
        await stage.until(lambda: stage.is_serving(1))
        assert "failure" not in await stage.ask(
            {"do": "swap", "service": asdict(replace(stage.service, version=2, words=(slow,)))}
        )
        stage.kill()
        await stage.until(lambda: len(stage.pids) == 3)  # the second is started again, and the first not yet gone
        stopping = asyncio.create_task(stage.ask({"do": "stop"}))
        await stage.until(lambda: stage.home.read_state()["phase"] == "stopping")
        (stage.folder / "go").touch()
        await stage.until(lambda: stage.is_serving(3) or len(stage.processes) == 1)
        (stage.folder / "let").touch()
        assert (await stopping)["phase"] == "stopped"

    assert stage.play(act, before) == 0 and is_over(stage)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_first_server_loads_ends_it(stage: Stage, number: signal.Signals) -> None:
    slow = LIVE + "until [ -e go ]; do sleep 0.01; done; " + READY + LAST

    async def act(_: Any) -> None:
        await stage.until(lambda: stage.pids)
        os.kill(os.getpid(), number)
        await stage.until(lambda: stage.home.read_state()["phase"] in ("stopping", "stopped"))
        (stage.folder / "go").touch()

    assert stage.play(act, replace(stage.service, words=(slow,))) == 0 and is_over(stage)


def test_a_deployment_during_a_stop_is_told_of_it(stage: Stage) -> None:
    slow = LIVE + "until [ -e go ]; do sleep 0.01; done; " + READY + LAST

    async def act(_: Any) -> None:
        await stage.until(stage.is_serving)
        order = {"do": "swap", "service": asdict(replace(stage.service, version=2, words=(slow,)))}
        swapping = asyncio.create_task(stage.ask(order))
        await stage.until(lambda: len(stage.pids) == 2)
        await stage.ask({"do": "stop"})
        assert (await swapping)["failure"] == "the supervisor was told to stop meanwhile"

    assert stage.play(act) == 0 and is_over(stage)


def test_a_full_disk_ends_no_supervision(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def act(_: Any) -> None:
        await stage.until(stage.is_serving)
        with monkeypatch.context() as full:
            full.setattr(supervisor, "write_atomically", refuse)
            full.setattr(Supervisor, "_rotate_logs", refuse)
            full.setattr(Supervisor, "_forget_logs", refuse)
            stage.kill()
            await stage.until(lambda: len(stage.pids) == 2)
            full.setattr(supervisor, "_lives", _hangs)  # looked after, too
            await stage.until(lambda: len(stage.pids) > 2)
        await stage.until(lambda: stage.is_serving(len(stage.pids)))  # written down once there is room
        await stage.ask({"do": "stop"})

    monkeypatch.setattr(supervisor, "MOST_EARLY", 1000)
    assert stage.play(act) == 0 and is_over(stage)
    told = capsys.readouterr().err
    assert "state.json can't be written: [Errno 28]" in told and "the logs can't be cut: [Errno 28]" in told


async def _hangs(*_: Any) -> bool:
    return False


def test_a_machine_that_starts_no_process_for_a_while_is_asked_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launch, refused = asyncio.create_subprocess_exec, iter(range(6))  # more often than a server may die

    async def refuse(*words: Any, **more: Any) -> Any:
        if next(refused, None) is not None:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return await launch(*words, **more)

    async def act(_: Any) -> None:
        await stage.until(stage.is_serving)
        descriptors = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "create_subprocess_exec", refuse)
            answer = await stage.ask({"do": "swap", "service": asdict(replace(stage.service, version=2))})
            assert answer["failure"] == "version 2 can't be started: [Errno 11] Resource temporarily unavailable"
            stage.kill()
            await stage.until(lambda: stage.is_serving(2))
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
        assert stage.home.read_state()["restarts"] == 1
        await stage.ask({"do": "stop"})

    assert stage.play(act) == 0 and is_over(stage)
    assert capsys.readouterr().err.count("version 1 can't be started: [Errno 11]") == 5


def test_what_fails_beside_is_told(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    async def fail() -> None:
        raise RuntimeError("nobody thought of this")

    async def act(_: Any) -> None:
        await stage.until(stage.is_serving)
        stage.supervisor._begin(fail())
        await stage.ask({"do": "stop"})

    assert stage.play(act) == 0
    assert "RuntimeError: nobody thought of this" in capsys.readouterr().err


def test_a_limit_below_what_a_server_has_from_its_start_replaces_it_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = []

    async def look(*_: Any) -> bool:
        looks.append(0)
        return True

    async def act(_: Any) -> None:
        told = await stage.until(
            lambda: (found := stage.home.read_state()).get("note", "").startswith("it has") and found
        )
        assert "it has 100 MiB so soon after it was started, more than memory_mb = 64" in told["note"]
        assert "raise memory_mb and deploy" in told["note"] and told["restarts"] == 1
        seen = len(looks)
        await stage.until(lambda: len(looks) > seen + 10)
        assert len(stage.pids) == 2
        await stage.ask({"do": "stop"})

    monkeypatch.setattr(Process, "memory_mb", lambda _: 100.0)
    monkeypatch.setattr(supervisor, "_lives", look)
    assert stage.play(act, replace(stage.service, memory_mb=64)) == 0 and is_over(stage)
    assert capsys.readouterr().err.count("more than") == 2


def test_a_server_that_is_too_heavy_and_cannot_be_replaced_is_told_of_and_left_for_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = LIVE + "if [ -e once ]; then echo broken; exit 1; fi; touch once; " + READY + LAST

    async def act(_: Any) -> None:
        told = await stage.until(
            lambda: (found := stage.home.read_state()).get("note", "").startswith("it has") and found
        )
        assert "couldn't be replaced: version 1 isn't ready: it ended;" in told["note"] and "broken" in told["note"]
        before = await stage.until(lambda: stage.supervisor._heavy_tries == 2 and stage.supervisor._heavy_until)
        await stage.until(lambda: stage.supervisor._heavy_tries == 3)
        assert stage.supervisor._heavy_until >= before + 0.02 * 2**3 and stage.is_serving(1)
        await stage.ask({"do": "stop"})

    monkeypatch.setattr(Process, "memory_mb", lambda _: 100.0)
    assert stage.play(act, replace(stage.service, memory_mb=64, words=(script,))) == 0 and is_over(stage)


def test_a_server_that_another_replaced_meanwhile_is_not_brought_back_for_its_weight(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(_: Any) -> None:
        await stage.until(stage.is_serving)
        heavy = stage.supervisor._current
        assert heavy is not None
        await stage.ask({"do": "swap", "service": asdict(replace(stage.service, version=2))})
        assert await stage.supervisor._swap(heavy.service, heavy) == "another one took its place meanwhile"
        assert stage.is_serving(2)
        await stage.ask({"do": "stop"})

    assert stage.play(act) == 0 and is_over(stage)


def test_an_orphan_that_does_not_end_is_killed_after_its_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def act(_: Any) -> None:
        await stage.until(stage.is_serving)
        assert stage.home.read_state()["going"] == [orphan.to_json()]  # not forgotten before it is gone
        await stage.until(lambda: not orphan.is_alive and not stage.home.read_state()["going"])
        await stage.ask({"do": "stop"})

    monkeypatch.setattr(supervisor, "KILL_AFTER_S", 0.3)
    with deaf(stage) as orphan:
        stage.supervisor = Supervisor(stage.home, stage.supervisor._listening)
        assert stage.play(act) == 0 and is_over(stage)
    assert f"process {orphan.pid} didn't end in time and is killed" in capsys.readouterr().err


def test_a_stop_waits_for_an_orphan_with_a_supervisor_and_without(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act(_: Any) -> None:
        await stage.until(stage.is_serving)
        await stage.ask({"do": "stop"})
        assert not orphan.is_alive

    for module in (supervisor, local):
        monkeypatch.setattr(module, "KILL_AFTER_S", 0.1)
    with deaf(stage) as orphan:
        stage.supervisor = Supervisor(stage.home, stage.supervisor._listening)
        assert stage.play(act) == 0
    with deaf(stage) as orphan:
        assert Local().stop(stage.folder, Environment("dev"), None)
        assert not orphan.is_alive
    assert not Local().stop(stage.folder, Environment("dev"), None)


def test_an_order_of_another_versions_shape_is_answered_and_the_supervisor_goes_on(stage: Stage) -> None:
    service = asdict(stage.service)
    known = {"do": "swap", "service": service}
    wrong: list[Any] = [
        [], None, {}, {"do": "dance"}, {"do": "swap"}, {"do": "swap", "service": None}, {"do": ["swap"]},
        {"do": "swap", "service": {**service, "sidecars": 2}},
        {"do": "swap", "service": {"words": []}},
    ]  # fmt: skip

    async def act(_: Any) -> None:
        await stage.until(stage.is_serving)
        for order in wrong:
            answer = await stage.ask(order)
            assert "doesn't understand what it is asked" in answer["failure"], order
        answer = await stage.ask({"do": "swap", "service": {**service, "drain_s": "long"}})
        assert "the supervisor failed at it: ValueError" in answer["failure"]
        assert stage.is_serving(1) and len(stage.pids) == 1
        long = {**service, "variables": {**service["variables"], "LONG": "x" * 100_000}}
        assert "failure" not in await stage.ask(known | {"service": long})
        assert stage.is_serving(2)
        await stage.ask({"do": "stop"})

    assert stage.play(act) == 0 and is_over(stage)
