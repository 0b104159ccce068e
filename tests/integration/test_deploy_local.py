"""`perron deploy local`: swaps under load, versions that aren't ready, processes that are killed, and all that is refused."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron import predictions
from perron.delivery import deliver, open_target, standings
from perron.environments import get_environment
from perron.process import Process
from perron.project import Project
from perron.serve.http import free_port
from perron.targets.local import home_of
from tests.conftest import perron, perron_json
from tests.integration.test_pipeline import run, write_project

ROW = {"size": 1.5, "kind": "a", "code": 2, "on": True, "day": "2024-02-29", "word": "w1"}
BODY = json.dumps({"rows": [ROW]})
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two versions."""
    folder = write_project(tmp_path_factory.mktemp("deploy") / "things", "label")
    run(folder)
    system = folder / "system.py"
    system.write_text(
        system.read_text().replace('source="things.csv"', 'params={"num_leaves": 5}, source="things.csv"')
    )
    run(folder)
    return folder


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def project(trained: Path, tmp_path: Path, port: int) -> Iterator[Path]:
    """A copy that the test may change, with a local environment `dev`; whatever it left running is ended."""
    folder = Path(shutil.copytree(trained, tmp_path / "things"))
    declare(folder, f"port = {port}")
    yield folder
    for home in (folder / ".perron" / "environments").glob("*"):
        found = home_of(folder, home.name)
        for process in (found.supervisor, *found.servers):
            if process is not None:
                process.send(signal.SIGCONT)
                process.send(signal.SIGKILL)
        until(lambda found=found: found.supervisor is None and not found.servers)


def declare(folder: Path, dev: str, *more: str) -> None:
    (folder / "environments.toml").write_text(f'[dev]\ntarget = "local"\n{dev}\n' + "\n".join(more))


def until(condition: Callable[[], Any], within_s: float = 90.0) -> Any:
    """The condition's first value that is true."""
    end = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        threading.Event().wait(0.02)
    return found


@contextmanager
def opened(folder: Path) -> Iterator[Project]:
    project = Project.open(folder)
    try:
        yield project
    finally:
        project.ledger.close()


def deploy(folder: Path, version: int = 1, env: str = "dev") -> Any:
    """The deployment's row; what the command line does, without its start."""
    with opened(folder) as project:
        return deliver(project, "things", str(version), get_environment(folder, env), open_target("local"), who="ann")


def try_to_deploy(folder: Path, version: int = 1, env: str = "dev", **variables: str) -> Any:
    return perron("deploy", "local", str(version), "--env", env, cwd=folder, check=False, **variables)


def status(folder: Path, env: str = "dev") -> Any:
    with opened(folder) as project:
        return standings(project, env)[0].to_json()


def history(folder: Path) -> list[tuple[int, str]]:
    with opened(folder) as project:
        return [(row["version"], row["state"]) for row in project.ledger.list_deployments()]


def state(folder: Path, env: str = "dev") -> dict[str, Any]:
    return home_of(folder, env).read_state()


def ask(port: int) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{port}/v1/predictions", content=BODY, headers=JSON, timeout=30)


@contextmanager
def load(port: int) -> Iterator[Counter[Any]]:
    """Busy clients: two on connections that are kept, two on new ones, two whose requests come late on new ones."""
    counts: Counter[Any] = Counter()
    stop = threading.Event()

    def client(is_kept: bool, pause_s: float) -> None:
        connection = None
        while not stop.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                    connection.connect()
                    stop.wait(pause_s)
                connection.request("POST", "/v1/predictions", BODY, JSON)
                answer = connection.getresponse()
                data = json.loads(answer.read())
                counts[answer.status, data.get("version")] += 1
                stop.wait(0.005)  # on two cores, six clients without any pause leave nothing for what is deployed
                if answer.will_close or not is_kept:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                counts[repr(error), None] += 1
                if connection is not None:
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    kinds = [(True, 0.0), (True, 0.0), (False, 0.0), (False, 0.0), (False, 0.05), (True, 0.05)]
    clients = [threading.Thread(target=client, args=kind) for kind in kinds]
    for one in clients:
        one.start()
    try:
        yield counts
    finally:
        stop.set()
        for one in clients:
            one.join()


# ------------------------------------------------------------------ swapping


def test_versions_swapped_under_load_fail_no_request(project: Path, port: int, is_long: bool) -> None:
    deploy(project, 1)
    with load(port) as counts:
        for swap in range(100 if is_long else 20):
            wanted = 2 - swap % 2
            deploy(project, wanted)
            before = counts[200, wanted]
            until(lambda wanted=wanted, before=before: counts[200, wanted] > before)
    assert {status for status, _ in counts} == {200} and {version for _, version in counts} == {1, 2}
    until(lambda: not state(project)["going"])
    logged = sum(1 for one in predictions.iterate(project / ".perron" / "predictions") if one.route != "readiness")
    assert logged == sum(counts.values())
    rows = history(project)
    assert rows[0] == (1, "live") and {state for _, state in rows[1:]} == {"replaced"}


@pytest.mark.slow
def test_several_workers_are_swapped_under_load(project: Path, port: int) -> None:
    declare(project, f"port = {port}\nworkers = 2")
    deploy(project, 1)
    with load(port) as counts:
        for version in (2, 1, 2):
            deploy(project, version)
    assert {status for status, _ in counts} == {200}
    until(lambda: not state(project)["going"])
    assert ask(port).json()["version"] == 2
    supervisor, *servers = home_of(project, "dev").supervisor, *home_of(project, "dev").servers
    for process in (supervisor, *servers):
        assert process is not None
        process.send(signal.SIGKILL)
    until(lambda: status(project)["actual"]["state"] == "stopped")

    def is_free() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(is_free)  # the workers go with their parent


def test_the_receipt_and_the_status_tell_of_the_deployment(project: Path, port: int) -> None:
    perron("deploy", "local", "1", "--env", "dev", cwd=project, PERRON_USER="ann")
    answered = ask(port).json()["predictions"][0]["id"]
    receipt = perron_json("trace", answered, cwd=project)
    assert receipt["deployment"] == {"environment": "dev", "id": 1}
    assert "deployment 1 in dev" in perron("trace", answered, cwd=project).stdout
    assert perron("status", "--env", "dev", cwd=project).returncode == 0
    found = status(project)
    assert found["as_declared"] and found["declared"]["who"] == "ann"
    assert (found["actual"]["state"], found["actual"]["version"]) == ("serving", 1)
    assert found["actual"]["bundle"] == found["declared"]["bundle"]
    shown = perron("status", cwd=project).stdout
    assert "version 1" in shown and "serving" in shown and "ann" in shown
    logged = [one for one in predictions.iterate(project / ".perron" / "predictions") if one.route == "readiness"]
    assert len(logged) == 1  # what it was asked before it accepted anything


def test_a_deployed_version_answers_alone_whatever_a_canary_parts(project: Path, port: int) -> None:
    perron("deploy", "canary", "2", "--share", "0.5", cwd=project, check=False)
    perron("promote", "1", cwd=project)
    perron("deploy", "canary", "2", "--share", "0.5", cwd=project)
    deploy(project, 2)
    assert {ask(port).json()["version"] for _ in range(20)} == {2}
    declare(project, f"port = {port}\nrollouts = true")
    deploy(project, 2)
    assert {ask(port).json()["version"] for _ in range(60)} == {1, 2}


# ------------------------------------------------------------------ not ready


def damage(folder: Path, version: int) -> Path:
    ledger = Project.open(folder).ledger
    path = ledger.bundle_path(ledger.get_version("things", version)) / "model.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    return path


def test_a_version_that_is_not_ready_leaves_the_old_one_serving(project: Path, port: int) -> None:
    deploy(project, 1)
    damage(project, 2)
    with load(port) as counts:
        refused = try_to_deploy(project, 2)
    assert set(counts) == {(200, 1)}
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    assert "Version 2 isn't ready: it ended" in refused.stderr and "model.onnx was changed" in refused.stderr
    assert history(project) == [(2, "failed"), (1, "live")]
    found = status(project)
    assert found["as_declared"] and "model.onnx was changed" in found["last_failure"]["detail"]["failure"]
    assert "failed: Version 2 isn't ready" in perron("status", cwd=project).stdout


def test_a_version_that_is_not_ready_in_time_is_given_up(project: Path, port: int) -> None:
    declare(project, f"port = {port}\nready_s = 2")
    path = damage(project, 2)
    path.unlink()
    os.mkfifo(path)  # whoever opens it waits for ever
    refused = try_to_deploy(project, 2)
    assert refused.returncode == 1 and "it wasn't within 2 s" in refused.stderr
    found = status(project)
    assert (
        found["as_declared"] and found["actual"]["state"] == "stopped"
    )  # nothing was there before, and nothing is now
    until(lambda: home_of(project, "dev").supervisor is None)


def test_a_public_address_that_everybody_may_use_is_not_served(project: Path, port: int) -> None:
    declare(project, f'port = {port}\nhost = "0.0.0.0"')
    refused = try_to_deploy(project)
    assert refused.returncode == 1 and "perron token create" in refused.stderr
    declare(project, f'port = {port}\nhost = "0.0.0.0"\nserve = ["--allow-anonymous"]')
    deploy(project)
    assert ask(port).status_code == 200


# ------------------------------------------------------------------ killed


def test_a_server_that_is_killed_is_started_again_and_its_queue_answered(project: Path, port: int) -> None:
    deploy(project, 1)
    server = Process.read(state(project)["server"])
    assert server is not None
    server.send(signal.SIGKILL)
    until(lambda: not server.is_alive)
    assert ask(port).status_code == 200  # waited in the socket's queue
    until(lambda: state(project)["phase"] == "serving" and state(project)["restarts"] == 1)
    found = status(project)
    assert found["as_declared"] and found["actual"]["detail"]["restarts"] == 1
    assert "ended by signal SIGKILL" in (home_of(project, "dev").logs / "supervisor.log").read_text()


@pytest.mark.slow
def test_a_server_that_dies_as_it_starts_is_given_up_and_may_be_replaced(project: Path, port: int) -> None:
    deploy(project, 1)
    damage(project, 1)
    server = Process.read(state(project)["server"])
    assert server is not None
    server.send(signal.SIGKILL)
    until(lambda: state(project)["phase"] == "given up", 90)
    until(lambda: home_of(project, "dev").supervisor is None)
    found = status(project)
    assert not found["as_declared"] and found["actual"]["state"] == "given up"
    assert "model.onnx was changed" in found["actual"]["words"]
    deploy(project, 2)
    assert ask(port).json()["version"] == 2 and status(project)["as_declared"]


@pytest.mark.slow
def test_a_server_that_hangs_is_started_again(project: Path, port: int) -> None:
    declare(project, f"port = {port}\nhealth_s = 0.2")
    deploy(project, 1)
    server = Process.read(state(project)["server"])
    assert server is not None
    server.send(signal.SIGSTOP)
    until(lambda: state(project)["restarts"] == 1)
    assert ask(port).status_code == 200 and not server.is_alive


@pytest.mark.slow
def test_a_server_that_takes_too_much_memory_is_replaced_by_a_fresh_one(project: Path, port: int) -> None:
    declare(project, f"port = {port}\nhealth_s = 0.5\nmemory_mb = 64")
    deploy(project, 1)
    with load(port) as counts:
        until(lambda: state(project)["restarts"] >= 1)
    assert {status for status, _ in counts} == {200}
    assert "more than 64" in (home_of(project, "dev").logs / "supervisor.log").read_text()


def test_the_server_of_a_killed_supervisor_goes_on_and_is_taken_over(project: Path, port: int) -> None:
    deploy(project, 1)
    supervisor, before = home_of(project, "dev").supervisor, state(project)["server"]["pid"]
    assert supervisor is not None
    supervisor.send(signal.SIGKILL)
    until(lambda: home_of(project, "dev").supervisor is None)
    found = status(project)
    assert found["actual"]["state"] == "unsupervised" and "perron deploy resume --env dev" in found["actual"]["words"]
    assert ask(port).json()["version"] == 1
    perron("deploy", "resume", "--env", "dev", cwd=project)
    until(lambda: not state(project)["going"] or not home_of(project, "dev").servers[1:])
    found = status(project)
    assert found["as_declared"] and found["actual"]["detail"]["pid"] != before
    assert ask(port).json()["version"] == 1 and history(project) == [(1, "live")]


def test_a_state_that_cannot_be_read_is_told_and_another_deployment_writes_it_again(project: Path, port: int) -> None:
    declare(project, f"port = {port}")
    deploy(project)
    state = project / ".perron" / "environments" / "dev" / "state.json"
    newer = json.loads(state.read_text())
    newer["service"]["invented"] = 1
    for text in ("nonsense", json.dumps(newer)):
        state.write_text(text)
        (told,) = json.loads(perron("status", "--json", cwd=project, check=False).stdout)
        assert "can't be read by this Perron" in told["actual"]["words"]
    deploy(project)
    assert json.loads(perron("status", "--json", cwd=project).stdout)[0]["as_declared"]


def test_after_the_machine_was_started_anew_the_status_says_what_to_do(project: Path, port: int) -> None:
    deploy(project, 1)
    for process in (home_of(project, "dev").supervisor, *home_of(project, "dev").servers):
        assert process is not None
        process.send(signal.SIGKILL)
    until(lambda: home_of(project, "dev").supervisor is None and not home_of(project, "dev").servers)
    found = status(project)
    assert found["actual"]["state"] == "stopped" and "perron deploy resume --env dev" in found["actual"]["words"]
    shown = perron("status", "--env", "dev", cwd=project, check=False)
    assert shown.returncode == 1 and "nothing runs" in shown.stdout
    perron("deploy", "resume", "--env", "dev", cwd=project)
    assert status(project)["as_declared"] and ask(port).status_code == 200


def test_a_stale_file_with_another_processs_id_is_not_believed(project: Path, port: int) -> None:
    home = home_of(project, "dev")
    home.logs.mkdir(parents=True)
    mine = {
        "pid": os.getpid(),
        "started": Process.me().started - 1,
    }  # the id of a process that lives, and isn't that one
    home.state.write_text(json.dumps({"phase": "serving", "supervisor": mine, "server": mine, "going": [mine]}))
    (home.folder / "lock").touch()
    assert home.supervisor is None and home.servers == []
    deploy(project, 1)
    assert ask(port).status_code == 200 and status(project)["as_declared"]


def test_a_supervisor_in_the_foreground_runs_what_is_declared_until_told_to_stop(project: Path, port: int) -> None:
    deploy(project, 1)
    home = home_of(project, "dev")
    supervisor, *servers = home.supervisor, *home.servers
    assert supervisor is not None
    supervisor.send(signal.SIGTERM)
    until(lambda: home.supervisor is None and not any(one.is_alive for one in servers))
    words = [sys.executable, "-m", "perron", "deploy", "supervise", "--env", "dev"]
    with subprocess.Popen(words, cwd=project, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: state(project).get("phase") == "serving")
        assert status(project)["as_declared"] and ask(port).status_code == 200
        running.terminate()
        assert running.wait(30) == 0
    assert status(project)["actual"]["state"] == "stopped"


# ------------------------------------------------------------------ refused


def test_a_port_in_use_is_told_and_nothing_is_begun(project: Path, port: int) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen(1)
        refused = try_to_deploy(project)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1
    assert f"Can't listen on 127.0.0.1:{port}: Address already in use" in refused.stderr
    assert "another port in environments.toml" in refused.stderr and history(project) == []


def test_a_port_that_was_changed_asks_for_a_stop_first(project: Path, port: int) -> None:
    deploy(project, 1)
    declare(project, f"port = {free_port()}")
    refused = try_to_deploy(project, 2)
    assert refused.returncode == 1 and "perron deploy stop --env dev" in refused.stderr
    perron("deploy", "stop", "--env", "dev", cwd=project)
    deploy(project, 2)
    assert history(project) == [(2, "live"), (1, "stopped")]


def test_two_deployments_at_once_are_one_and_a_clear_line(project: Path, port: int) -> None:
    declare(project, f"port = {port}\nready_s = 300")
    path = damage(project, 2)
    path.unlink()
    os.mkfifo(path)
    deploy(project, 1)
    words = [sys.executable, "-m", "perron", "deploy", "local", "2", "--env", "dev"]
    with subprocess.Popen(words, cwd=project, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        until(lambda: status(project)["under_way"] is not None)
        refused = try_to_deploy(project, 1, PERRON_USER="ann")
        assert refused.returncode == 1 and "is deploying version 2 to dev since" in refused.stderr
        stopping = perron("deploy", "stop", "--env", "dev", cwd=project, check=False)
        assert stopping.returncode == 1 and "just now" in stopping.stderr
        first.kill()  # in the middle of it: the supervisor lets go of the half-started version
    until(lambda: len(home_of(project, "dev").servers) == 1)
    found = status(project)
    assert found["as_declared"] and "was killed" in found["last_failure"]["detail"]["failure"]
    deploy(project, 1)
    assert [state for _, state in history(project)] == ["live", "failed", "replaced"]


def test_an_environment_that_does_not_exist_is_told_with_the_nearest(project: Path) -> None:
    for words in (("deploy", "local", "--env", "deb"), ("status", "--env", "deb"), ("rollback", "--env", "deb")):
        refused = perron(*words, cwd=project, check=False)
        assert refused.returncode == 1 and "no environment 'deb'" in refused.stderr and "'dev'" in refused.stderr


def test_a_version_that_fails_its_gates_is_refused_with_every_reason(project: Path, port: int) -> None:
    declare(
        project, f"port = {port}\napprovals = 1", "[[dev.gates]]", 'metric = "accuracy"', "at_least = 0.9999",
        "[[dev.gates]]", 'metric = "rmse"', "at_most = 1",
    )  # fmt: skip
    refused = try_to_deploy(project)
    assert refused.returncode == 3 and len(refused.stderr.splitlines()) == 1
    assert "the gate 'accuracy at least 0.9999' of dev isn't passed: accuracy is 0." in refused.stderr
    assert "rmse is missing" in refused.stderr and "it has 0 of 1 approvals by somebody else" in refused.stderr
    assert history(project) == []


def test_a_version_that_does_not_exist_tells_of_the_run_that_a_gate_refused(project: Path) -> None:
    system = project / "system.py"
    gated = (
        system.read_text()
        .replace('"num_leaves": 5', '"num_leaves": 4')
        .replace("source=", 'gates=[pn.gate("accuracy", at_least=1.1)], source=')
    )
    system.write_text(gated)
    assert perron("run", cwd=project, check=False).returncode == 3
    refused = try_to_deploy(project, 3)
    assert refused.returncode == 1 and "was refused by a gate" in refused.stderr and "accuracy" in refused.stderr


def test_the_same_bundle_goes_on_from_one_environment_to_the_next(project: Path, port: int) -> None:
    other = free_port()
    declare(
        project,
        f"port = {port}",
        f'[prd]\ntarget = "local"\nport = {other}\nafter = "dev"\napprovals = 1\napprovers = ["bob", "eve"]',
    )
    early = try_to_deploy(project, 1, "prd")
    assert early.returncode == 3 and "hasn't been live in dev, which comes before prd" in early.stderr
    deploy(project, 1)
    assert "version 1 has 0 of 1 approvals" in perron("status", "--env", "prd", cwd=project).stdout
    alone = perron("deploy", "local", "--env", "prd", cwd=project, check=False, PERRON_USER="bob")
    assert alone.returncode == 3 and "0 of 1 approvals by bob, eve: `perron deploy approve prd 1`" in alone.stderr
    stranger = perron("deploy", "approve", "prd", cwd=project, check=False, PERRON_USER="ann")
    assert stranger.returncode == 3 and "ann isn't among those who may approve in prd: bob, eve" in stranger.stderr
    perron("deploy", "approve", "prd", "--reason", "seen", cwd=project, PERRON_USER="bob")
    own = perron("deploy", "local", "--env", "prd", cwd=project, check=False, PERRON_USER="bob")
    assert own.returncode == 3 and "0 of 1" in own.stderr  # nobody approves of what they deploy themselves
    perron("deploy", "local", "--env", "prd", cwd=project, PERRON_USER="ann")
    (dev, prd) = perron_json("status", cwd=project)
    assert dev["declared"]["bundle"] == prd["declared"]["bundle"] == prd["actual"]["bundle"]
    assert [one["who"] for one in prd["declared"]["approvals"]] == ["bob"]
    assert prd["declared"]["approvals"][0]["reason"] == "seen"


def test_a_rollback_brings_back_the_version_before_and_then_the_one_before_that(project: Path, port: int) -> None:
    system = project / "system.py"
    system.write_text(system.read_text().replace('"num_leaves": 5', '"num_leaves": 4'))
    run(project)
    nothing = perron("rollback", "--env", "dev", cwd=project, check=False)
    assert nothing.returncode == 1 and "Nothing is live in dev" in nothing.stderr
    deploy(project, 1)
    first = perron("rollback", "--env", "dev", cwd=project, check=False)
    assert first.returncode == 1 and "Before version 1 nothing was live in dev" in first.stderr
    for version in (2, 3):
        deploy(project, version)
    with load(port) as counts:
        for version in (2, 1):
            perron("rollback", "--env", "dev", "--reason", "worse", cwd=project)
            # The one before may take a last request while it is told to end.
            until(lambda version=version: ask(port).json()["version"] == version)
    assert {status for status, _ in counts} == {200}
    rows = perron_json("status", "--history", cwd=project)
    assert [(r["version"], r["state"]) for r in rows] == [
        (1, "live"), (2, "rolled_back"), (3, "rolled_back"), (2, "replaced"), (1, "replaced"),
    ]  # fmt: skip
    assert rows[0]["reason"] == "rolled back from version 2: worse" and rows[0]["replaced"] == rows[1]["id"]


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True)


@pytest.mark.slow
def test_an_environment_that_demands_a_clean_commit_takes_committed_code_alone(project: Path, port: int) -> None:
    declare(project, f"port = {port}\nclean_commit = true")
    bare = try_to_deploy(project, GIT_CEILING_DIRECTORIES=str(project.parent))
    assert (
        bare.returncode == 3 and "is in no git repository with a commit" in bare.stderr and "`git init`" in bare.stderr
    )
    git(project, "init")
    git(project, "add", ".")
    git(project, "commit", "-m", "all")
    trained_before = try_to_deploy(project, 2)
    assert (
        trained_before.returncode == 3
        and "trained with code that wasn't committed; `perron run` again" in trained_before.stderr
    )
    made = perron_json("run", cwd=project)["model"]["version"]  # the same bundle, where its environment is the same
    (project / "note.txt").write_text("not committed")
    dirty = try_to_deploy(project, made)
    assert dirty.returncode == 3 and "uncommitted changes (`git status` lists them)" in dirty.stderr
    (project / "note.txt").unlink()
    deploy(project, made)
    assert history(project) == [(made, "live")]


def test_a_supervisor_that_does_not_answer_is_told_with_what_to_do(project: Path, port: int) -> None:
    deploy(project, 1)
    home = home_of(project, "dev")
    supervisor = home.supervisor
    assert supervisor is not None
    with contextlib.suppress(FileNotFoundError):
        (home.folder / "control").unlink()
    refused = try_to_deploy(project, 2)
    assert refused.returncode == 1 and "The supervisor doesn't answer" in refused.stderr
    assert ask(port).json()["version"] == 1 and history(project)[0] == (2, "failed")
