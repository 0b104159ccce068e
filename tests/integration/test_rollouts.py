"""Canary, A/B, shadow and bandit through a real server: reports on outcomes, and ends that come by themselves."""

import random
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron import predictions, rollout
from perron.demonstration import serving
from perron.deployments import ProjectMemory, decide, report_of
from perron.errors import DeclarationError
from perron.project import Project
from perron.serve.app import _excess
from perron.serve.metrics import LATENCY_BOUNDS, Histogram
from perron.system import System, load_system
from tests.conftest import perron, perron_json
from tests.integration.test_pipeline import run, write_project
from tests.integration.test_serving_models import ROW, ask, until
from tests.integration.test_serving_models import project as two_versions

__all__ = ["two_versions"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_versions.__wrapped__(tmp_path_factory.mktemp("rollouts"))  # type: ignore[attr-defined]


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "things"))


def answers(address: str, count: int) -> list[dict[str, Any]]:
    return [ask(address).json() for _ in range(count)]


def test_a_canary_gets_its_share_and_its_report(project: Path) -> None:
    said = perron("deploy", "canary", "--share", "0.3", "--reason", "first try", cwd=project).stdout
    assert said.startswith("things: canary of champion 70% and challenger 30%")
    with serving(project) as (address, _):
        made = answers(address, 300)
        share = sum(answer["version"] == 2 for answer in made) / 300
        assert 0.18 < share < 0.42
        items = [{"prediction": answer["predictions"][0]["id"], "value": "high"} for answer in made]
        assert httpx.post(f"{address}/v1/outcomes", json={"outcomes": items}).status_code == 200
    found = perron_json("deploy", "report", cwd=project)
    first, other = found["arms"]
    assert (first["route"], other["route"]) == ("champion", "challenger")
    assert first["outcomes"] + other["outcomes"] == 300 and other["difference"]["verdict"] in (
        "better",
        "worse",
        "undecided",
    )
    assert "challenger" in perron("deploy", "report", cwd=project).stdout
    assert perron_json("deploy", "history", cwd=project)[0]["reason"] == "first try"


def test_a_canary_whose_outcomes_are_worse_is_rolled_back(project: Path) -> None:
    opened = Project.open(project)
    decide(opened, "things", rollout.canary(share=0.5))
    memory = ProjectMemory(opened, ("things",))
    chance = random.Random(0)
    with serving(project) as (address, _):
        items = []
        for answer in answers(address, 600):
            shares = answer["predictions"][0]["probabilities"]
            likely, unlikely = max(shares, key=shares.get), min(shares, key=shares.get)
            wrong = answer["version"] == 2 and chance.random() < 0.8
            items.append({"prediction": answer["predictions"][0]["id"], "value": unlikely if wrong else likely})
        httpx.post(f"{address}/v1/outcomes", json={"outcomes": items})
        until(lambda: opened.ledger.list_routings("things")[0]["routing"]["kind"] == "single")
        reason = str(opened.ledger.list_routings("things")[0]["reason"])
        assert reason.startswith("rolled back: the mean loss of challenger is")
        until(lambda: memory.plan().models[0].routing.kind == "single")
        until(lambda: {answer["version"] for answer in answers(address, 20)} == {1})


def test_a_promotion_ends_the_test(project: Path) -> None:
    perron("deploy", "canary", cwd=project)
    said = perron("promote", "2", cwd=project).stdout
    assert "The test that it was in is over" in said
    assert perron_json("deploy", "history", cwd=project)[0]["routing"]["kind"] == "single"


def test_a_shadow_is_compared_with_the_answers_that_it_shadowed(project: Path) -> None:
    perron("deploy", "shadow", cwd=project)
    with serving(project) as (address, _):
        given = httpx.post(f"{address}/v1/predictions", json={"rows": [ROW, {**ROW, "size": 9.5}]}).json()
        made = [*given["predictions"], *(a["predictions"][0] for a in answers(address, 40))]
        log = project / ".perron" / "predictions"
        until(lambda: sum(found.route == "challenger" for found in predictions.iterate(log)) == 42)
        items = [{"prediction": prediction["id"], "value": prediction["value"]} for prediction in made]
        httpx.post(f"{address}/v1/outcomes", json={"outcomes": items})
    perron("log", "compact", cwd=project)
    first, other = report_of(Project.open(project), "things").arms
    assert first.outcomes == other.outcomes == 42 and other.agreement is not None and 0 <= other.agreement <= 1


def test_a_bandit_gives_more_to_what_wins(project: Path) -> None:
    perron("deploy", "bandit", cwd=project)
    opened = Project.open(project)
    with serving(project) as (address, _):
        items = []
        for answer in answers(address, 200):
            value = answer["predictions"][0]["value"]
            right = answer["version"] == 2
            items.append(
                {
                    "prediction": answer["predictions"][0]["id"],
                    "value": value if right else ("low" if value != "low" else "mid"),
                }
            )
        httpx.post(f"{address}/v1/outcomes", json={"outcomes": items})
        arms = until(
            lambda: [arm for arm in ProjectMemory(opened, ("things",)).plan().models[0].routing.arms if arm.wins]
        )
        assert [arm.name for arm in arms] == ["challenger"]
        until(lambda: sum(answer["version"] == 2 for answer in answers(address, 50)) >= 43)


def test_limits_on_errors_and_latency_are_judged_once_enough_came() -> None:
    slow, quick = Histogram(LATENCY_BOUNDS), Histogram(LATENCY_BOUNDS)
    for number in range(100):
        slow.add(0.2 if number % 10 == 0 else 0.001)
        quick.add(0.2 if number % 50 == 0 else 0.001)
    assert _excess(0, 20, quick, 0.1, None) is None
    assert "40 of 100 requests failed" in str(_excess(60, 40, quick, 0.1, None))
    assert _excess(95, 5, quick, 0.1, None) is None
    assert "more than 50 ms" in str(_excess(100, 0, slow, None, 50.0))
    assert _excess(100, 0, quick, None, 50.0) is None


def test_the_canvas_says_when_a_test_ends_and_options_go_before(project: Path) -> None:
    def routing() -> dict[str, Any]:
        (newest, *_) = perron_json("deploy", "history", cwd=project)
        return {name: newest["routing"][name] for name in ("max_error_share", "max_latency_ms")}

    perron("deploy", "canary", cwd=project)
    assert routing() == {"max_error_share": 0.05, "max_latency_ms": None}
    (project / "canvas.toml").write_text("[budgets]\nmax_p99_ms = 40\nmax_error_share = 0.001\n")
    perron("deploy", "canary", cwd=project)
    assert routing() == {"max_error_share": 0.001, "max_latency_ms": 40.0}
    perron("deploy", "ab", "--key", "kind", "--max-error-share", "0.2", "--max-latency-ms", "9", cwd=project)
    assert routing() == {"max_error_share": 0.2, "max_latency_ms": 9.0}


def test_a_declared_rollout_makes_a_new_version_the_challenger(tmp_path: Path) -> None:
    project = write_project(tmp_path / "things", "label")
    system = project / "system.py"
    text = system.read_text().replace("import perron as pn", "import perron as pn\nfrom perron import rollout")
    system.write_text(text.replace('source="things.csv"', 'source="things.csv", rollout=rollout.canary(share=0.2)'))
    assert run(project).to_json()["model"] == {"name": "things", "version": 1, "champion": 1}
    system.write_text(system.read_text().replace("rollout=", 'params={"num_leaves": 5}, rollout='))
    assert run(project).to_json()["model"] == {"name": "things", "version": 2, "champion": 1}
    ledger = Project.open(project).ledger
    assert ledger.get_version("things", "challenger")["version"] == 2
    assert ledger.list_routings("things")[0]["routing"]["kind"] == "canary"
    again = run(project)
    assert {step["status"] for step in again.steps} == {"cached"} and len(ledger.list_routings("things", 9)) == 1
    perron("promote", "2", cwd=project)
    assert {step["status"] for step in run(project).steps} == {"cached"}
    assert ledger.get_version("things")["version"] == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["canary", "--share", "1.5"], "above 0, up to 1"), (["canary", "--share", "1"], "leaves the champion nothing"),
        (["canary", "9"], "no version '9'"), (["ab", "--key", "szie"], "did you mean 'size'?"), (["canary", "1"], "the champion itself"),
        (["canary", "--max-error-share", "-1"], "0 or more"),
    ],
)  # fmt: skip
def test_a_decision_that_makes_no_sense_is_refused(project: Path, words: list[str], says: str) -> None:
    done = perron("deploy", *words, cwd=project, check=False)
    assert done.returncode == 1 and says in done.stderr, done.stderr
    assert Project.open(project).ledger.list_routings("things") == []


def test_a_bandit_of_numbers_must_say_what_wins(tmp_path: Path) -> None:
    project = write_project(tmp_path / "things")
    with pytest.raises(DeclarationError, match="within"):
        System("x", load_system(project / "system.py").schema, source="a.csv", rollout=rollout.bandit())
    with pytest.raises(DeclarationError, match="alias"):
        System("x", load_system(project / "system.py").schema, source="a.csv", rollout=rollout.canary("3"))
    with pytest.raises(DeclarationError, match=r"perron\.rollout"):
        System("x", load_system(project / "system.py").schema, source="a.csv", rollout="canary")  # type: ignore[arg-type]
