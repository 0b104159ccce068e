"""Two runs of one project at the same time: nothing is done twice, and no champion slips past the gates."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from perron.locks import alone, take
from perron.pipeline import STEPS, Progress, Result, run_pipeline
from perron.project import Project
from perron.system import System, load_system
from tests.conftest import perron, perron_json
from tests.integration.test_pipeline import declare, done, write_project

LIMIT_S = 60.0


def run_while(folder: Path, first: System, second: System, at: str) -> tuple[Result, Result]:
    """The first run, and the second that begins when the first begins that step, and goes on with it when it waits."""
    told, results, waits = list[tuple[str, str]](), dict[str, Result](), threading.Event()

    def go(name: str, system: System, progress: Progress) -> None:
        project = Project.open(folder)
        try:
            results[name] = run_pipeline(system, project, progress)
        finally:
            project.ledger.close()

    def on_second(step: str, status: str, seconds: float) -> None:
        told.append((step, status))
        if status == "waiting":
            waits.set()

    other = threading.Thread(target=go, args=("second", second, on_second))

    def on_first(step: str, status: str, seconds: float) -> None:
        if (step, status) == (at, "running"):
            other.start()
            assert waits.wait(LIMIT_S)

    go("first", first, on_first)
    other.join(LIMIT_S)
    assert (at, "waiting") in told
    return results["first"], results["second"]


@pytest.mark.parametrize("at", ["snapshot", "train", "gates"])
def test_what_another_run_is_at_is_waited_for_and_not_done_again(tmp_path: Path, at: str) -> None:
    system = load_system(write_project(tmp_path) / "system.py")
    first, second = run_while(tmp_path, system, system, at)
    assert sorted(done(first) + done(second)) == sorted(step.name for step in STEPS)
    assert second.outputs == first.outputs and second.champion == 1
    project = Project.open(tmp_path)
    assert [version["version"] for version in project.ledger.list_versions("things")] == [1]
    assert [run["status"] for run in project.ledger.list_runs()] == ["done", "done"]
    project.ledger.close()
    assert not list((tmp_path / ".perron" / "locks").iterdir())


def test_a_candidate_is_held_to_the_champion_that_it_would_replace(tmp_path: Path) -> None:
    gate = ', gates=[pn.gate.no_worse_than_champion("rmse")]'
    better = load_system(write_project(tmp_path, options=gate) / "system.py")
    declare(tmp_path, options=gate + ', params={"n_estimators": 1}')
    first, second = run_while(tmp_path, better, load_system(tmp_path / "system.py"), "gates")
    assert (first.status, second.status) == ("done", "refused")
    limit = second.outputs["gates"]["gates"][0]["limit"]
    assert limit == pytest.approx(first.outputs["evaluate"]["metrics"]["rmse"])


def test_two_commands_at_once_make_one_version(tmp_path: Path) -> None:
    write_project(tmp_path)
    many = [
        subprocess.Popen([sys.executable, "-m", "perron", "run", "--json"], cwd=tmp_path, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    found = [json.loads(one.communicate(timeout=LIMIT_S)[0]) for one in many]
    assert [result["model"]["version"] for result in found] == [1, 1]
    finished = [step["name"] for result in found for step in result["steps"] if step["status"] == "done"]
    assert sorted(finished) == sorted(step.name for step in STEPS)


def test_a_run_that_was_killed_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "things"
    program = "import sys; from pathlib import Path; from perron.locks import take; held = take(Path(sys.argv[1])); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        with pytest.raises(BlockingIOError):
            take(path, waits=False)
        holder.kill()
    waited = list[bool]()
    with alone(path, lambda: waited.append(True)):
        assert path.exists() and waited == []
    assert not path.exists()


def test_a_run_that_waits_says_so(tmp_path: Path) -> None:
    write_project(tmp_path)
    with (
        alone(tmp_path / ".perron" / "locks" / "things"),
        subprocess.Popen(
            [sys.executable, "-m", "perron", "run"], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as waiting,
    ):  # fmt: skip
        assert waiting.stderr is not None
        said = [waiting.stderr.readline() for _ in range(5)]
        assert said[4] == "… gates        another run is at it\n", said
        waiting.send_signal(signal.SIGINT)
        assert (waiting.communicate(timeout=LIMIT_S)[1], waiting.returncode) == ("", 130)
    assert [run["status"] for run in perron_json("runs", cwd=tmp_path)] == ["killed"]


def test_locks_that_cannot_be_made_are_one_line(tmp_path: Path) -> None:
    write_project(tmp_path)
    (tmp_path / ".perron").mkdir()
    (tmp_path / ".perron" / "locks").write_text("")
    said = perron("run", cwd=tmp_path, check=False)
    assert said.returncode == 1 and "locks" in said.stderr and len(said.stderr.splitlines()) == 1, said.stderr
