"""Orders in; a supervised server process on this machine out, swapped on its one port without a failed request.

The supervisor is a process of its own (`perron.targets.supervisor`), which this module starts, asks and looks at.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from perron.delivery import Actual, Deployment, Order, Tell
from perron.environments import Environment
from perron.errors import DeploymentError
from perron.process import Process
from perron.schedule import unit_text, unit_word
from perron.targets.files import ask_service
from perron.targets.supervisor import KILL_AFTER_S, LOOK_EVERY_S, Home, Service, ask, open_socket, supervise, tail

__all__ = ["Local", "home_of", "make_target", "service_of", "systemd_unit"]

SPARE_S = 30.0  # beyond the time that a version may take
END_S = 5.0  # for a supervisor that gave its last answer


def make_target() -> "Local":
    """The target."""
    return Local()


def home_of(folder: Path, environment: str) -> Home:
    """Where a project keeps what it knows of an environment's supervisor."""
    return Home(folder / ".perron" / "environments" / environment)


class Local:
    """The `Target` of this machine."""

    name = "local"

    def prepare(self, order: Order) -> None:
        """Nothing, when the port is free, or this environment's own."""
        home, environment = home_of(order.folder, order.environment.name), order.environment
        if home.supervisor is not None:
            told = (home.read_state().get("service") or {}) | {}
            place = told.get("host"), told.get("port")
            if told and place != (environment.host, environment.port):
                raise DeploymentError(
                    f"{environment.name} answers at {place[0]}:{place[1]}, and is declared for {environment.host}:"
                    f"{environment.port} now; `perron deploy stop --env {environment.name}` first, then deploy."
                )
            return
        try:
            open_socket(environment.host, environment.port, beside=bool(home.servers)).close()
        except OSError as error:
            raise DeploymentError(
                f"Can't listen on {environment.host}:{environment.port}: {error.strerror or error}; stop what listens "
                f"there, or give {environment.name} another port in environments.toml."
            ) from error

    def apply(self, order: Order, tell: Tell) -> Mapping[str, Any]:
        """What is worth keeping: the process, its log and its address."""
        home, service = home_of(order.folder, order.environment.name), service_of(order)
        if home.supervisor is None:
            tell("starting a supervisor")
            _start(home, service)
        tell(f"starting version {order.version} and waiting until it is ready")
        answer = _ask(home, {"do": "swap", "service": asdict(service)}, service.ready_s + SPARE_S)
        if "failure" in answer:
            if _service_in(home.read_state()) is None:
                _await_end(home)  # a supervisor that has nothing to look after
            words = answer["failure"]
            raise DeploymentError(f"{words[0].upper()}{words[1:]}.")
        return {"address": _url(service), "pid": answer["server"]["pid"], "log": str(home.log(order.deployment))}

    def run(self, order: Order) -> int:
        """The exit code of a supervisor in this very process: for systemd and its like."""
        service = service_of(order)
        return supervise(home_of(order.folder, order.environment.name), service.host, service.port, service)

    def actual(self, folder: Path, environment: Environment, declared: Deployment | None) -> Actual:
        home = home_of(folder, environment.name)
        told, resume = home.read_state(), f"`perron deploy resume --env {environment.name}`"
        service = _service_in(told)
        running = home.supervisor
        facts = {"restarts": told.get("restarts"), "note": told.get("note") or None}
        if running is None:
            if service is not None and home.servers:
                pids = ", ".join(str(one.pid) for one in home.servers)
                words = f"its supervisor was killed; process {pids} goes on, and nobody starts it again if it ends: {resume} takes over"
                return Actual(
                    "unsupervised", service.version, service.bundle, words, facts | {"pid": home.servers[0].pid}
                )
            if told.get("phase") == "given up":
                return Actual(
                    "given up",
                    words=f"{told['note']}; mend it and deploy, or `perron rollback --env {environment.name}`",
                )
            words = f"nothing runs: it was killed, or the machine started anew; {resume} starts it" if declared else ""
            return Actual("stopped", words=words)
        if service is None:
            words = "its supervisor is starting"
            if home.state.exists():
                words = f"{home.state} can't be read by this Perron; a deployment writes it again"
            return Actual("restarting", words=words, detail=facts)
        server = Process.read(told.get("server"))
        facts |= {
            "pid": server.pid if server is not None else None, "supervisor": running.pid,
            "since": (told.get("server") or {}).get("since"), "address": _url(service),
            "log": str(home.log(service.deployment)),
        }  # fmt: skip
        if told["phase"] != "serving" or server is None or not server.is_alive:
            return Actual(
                "restarting", service.version, service.bundle, told.get("note") or "its process is gone", facts
            )
        health = ask_service(_url(service))
        if not health.is_ready:
            return Actual("unhealthy", service.version, service.bundle, f"{_url(service)} {health.words}", facts)
        return Actual("serving", service.version, service.bundle, "", facts)

    def stop(self, folder: Path, environment: Environment, declared: Deployment | None) -> bool:
        home = home_of(folder, environment.name)
        drain_s = home.drain_s(environment.drain_s)
        if home.supervisor is not None:
            answer = _ask(home, {"do": "stop"}, drain_s + SPARE_S)
            if "failure" in answer:
                raise DeploymentError(f"{environment.name} isn't stopped: {answer['failure']}.")
            _await_end(home)
            return True
        left = home.servers
        for server in left:
            server.send(signal.SIGTERM)
        end = time.monotonic() + drain_s + KILL_AFTER_S
        while any(one.is_alive for one in left):
            if time.monotonic() > end:
                for server in left:
                    server.kill()
            time.sleep(LOOK_EVERY_S)
        return bool(left)


def service_of(order: Order) -> Service:
    """What the supervisor is told to run."""
    environment = order.environment
    return Service(
        str(order.folder.resolve()), environment.name, order.model, order.version, order.bundle, order.deployment,
        environment.host, environment.port, environment.workers, environment.serve, dict(environment.variables),
        not environment.rollouts, environment.ready_s, environment.drain_s, environment.health_s, environment.memory_mb,
    )  # fmt: skip


def _start(home: Home, service: Service) -> None:
    """Starts a supervisor that outlives this process and its terminal.

    Raises:
        DeploymentError: it can't begin; says why.
    """
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / "supervisor.log"
    told, report = os.pipe()
    try:
        with open(log, "ab") as output:
            subprocess.run(
                [sys.executable, "-m", "perron.targets.supervisor", str(home.folder.resolve()), service.host, str(service.port), str(report)],
                cwd=service.project, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=(report,),
                start_new_session=True, check=False,
            )  # fmt: skip
    finally:
        os.close(report)
    with open(told, encoding="utf-8", errors="replace") as words:
        answer = words.read()
    if answer != "ok":
        raise DeploymentError(f"The supervisor can't begin: {answer or tail(log)}")


def _ask(home: Home, order: Mapping[str, Any], within_s: float) -> dict[str, Any]:
    try:
        return ask(home, order, within_s)
    except (OSError, ValueError) as error:
        running = home.supervisor
        hint = (
            f"`kill -9 {running.pid}` ends it, while its server goes on; then do this again"
            if running is not None and isinstance(error, TimeoutError)
            else f"{home.logs / 'supervisor.log'} says why; do this again"
        )
        raise DeploymentError(f"The supervisor doesn't answer ({error}); {hint}.") from error


def _await_end(home: Home) -> None:
    """Returns when the supervisor, which gave its last answer, is gone: whoever comes next finds none."""
    end = time.monotonic() + END_S
    while home.supervisor is not None and time.monotonic() < end:
        time.sleep(LOOK_EVERY_S)


def _url(service: Service) -> str:
    host, port = service.reachable
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def systemd_unit(folder: Path, environment: Environment) -> str:
    """A unit that keeps an environment's supervisor running, and starts it with the machine; under a line that names its file."""
    name = f"perron-{folder.name}-{environment.name}"
    command = [sys.executable, "-m", "perron", "deploy", "supervise", "--env", environment.name, "-C", str(folder)]
    return f"""# /etc/systemd/system/{shlex.quote(name)}.service
[Unit]
Description={unit_text(folder.name)} in {environment.name}
After=network-online.target
Wants=network-online.target

[Service]
WorkingDirectory={unit_text(str(folder))}
ExecStart={" ".join(unit_word(word) for word in command)}
Restart=on-failure
RestartSec=5
# The supervisor has its server finish what is under way; what is left is killed.
KillMode=mixed
TimeoutStopSec={environment.drain_s + 30:g}
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


def _service_in(state: Mapping[str, Any]) -> Service | None:
    """The service that a supervisor's state tells of; None where there is none, or it is of another version's shape."""
    try:
        return Service.read(state["service"]) if state.get("service") else None
    except (TypeError, KeyError):
        return None
