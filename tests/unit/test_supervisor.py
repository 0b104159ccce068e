"""A supervisor's files: its lock, its logs, and the end of them; the unit that systemd runs it by."""

import json
import os
import socket
from pathlib import Path

import pytest

from perron.environments import Environment
from perron.errors import DeploymentError
from perron.process import Process
from perron.targets import supervisor
from perron.targets.local import systemd_unit
from perron.targets.supervisor import Home, Supervisor, open_socket, tail


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
