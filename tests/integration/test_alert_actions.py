"""What alerts may ask for: retraining, by the gates' leave, and rolling back; each once, with what came of it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from perron import rollout
from perron.alerts import Alerts, Event, Rule, Settings
from perron.alerts.actions import act, roll_back
from perron.alerts.channels import ChannelSettings
from perron.alerts.events import Action
from perron.alerts.state import locked
from perron.deployments import decide
from perron.ledger import CHAMPION
from perron.project import Project
from perron.system import System, load_system
from tests.conftest import perron
from tests.integration.test_pipeline import declare, run, write_project
from tests.unit.test_alerts import Found

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SIMPLE = """
@system.model
def model(params):
    from sklearn.linear_model import Ridge
    return Ridge(alpha=0.1)
"""


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("things"), "number", SIMPLE)
    run(folder)
    _append(folder)
    run(folder)
    return folder


def _append(folder: Path) -> None:
    table = folder / "things.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, *lines[1:40]]) + "\n")


@pytest.fixture
def folder(two_versions: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_versions, tmp_path / "things"))


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    project = Project.open(folder)
    yield project
    project.ledger.close()


def alerts(folder: Path, action: Action) -> Alerts:
    channels = {"log": ChannelSettings("log", "file", {"path": "told.jsonl"})}
    return Alerts(folder / ".perron", Settings(channels, (Rule("all", action=action),)))


def done(folder: Path, project: Project, action: Action, *found: Found) -> list[Event]:
    watch = alerts(folder, action)
    watch.judge(found, NOON)
    return act(watch, _system(folder), project, lambda: NOON)


def _system(folder: Path) -> System:
    return load_system(folder / "system.py")


def champion(project: Project) -> int:
    return int(project.ledger.get_version("things", CHAMPION)["version"])


THING = Found(model="things", version=2)


def test_new_rows_are_trained_on_once_for_all_alerts_that_ask(folder: Path, project: Project) -> None:
    _append(folder)
    (event,) = done(folder, project, "retrain", THING, replace(THING, subject="size"))
    assert event.status == "acted" and event.detail.startswith("retrained: version 3 is the champion")
    assert "drift of income; drift of size" in event.detail and champion(project) == 3
    watch = alerts(folder, "retrain")
    assert act(watch, _system(folder), project, lambda: NOON) == []
    assert {one.outcome for one in watch.open_alerts()} == {event.detail}
    assert [one.error for one in watch.tell(NOON)] == [None] * 3 and '"acted"' in (folder / "told.jsonl").read_text()


def test_the_same_rows_give_the_same_version(folder: Path, project: Project) -> None:
    (event,) = done(folder, project, "retrain", THING)
    assert event.detail.startswith("retrained on the same data: version 2 came out again")


def test_a_gate_may_refuse_what_was_retrained(folder: Path, project: Project) -> None:
    declare(folder, "number", SIMPLE, ', gates=[pn.gate("rmse", at_most=0.0)]')
    _append(folder)
    (event,) = done(folder, project, "retrain", THING)
    assert "refused by the gate rmse at most 0 (0." in event.detail and "version 2 goes on" in event.detail
    assert champion(project) == 2


def test_a_retraining_that_fails_is_told_and_not_begun_again(folder: Path, project: Project) -> None:
    (folder / "things.csv").unlink()
    (event,) = done(folder, project, "retrain", THING)
    assert event.detail.startswith("retrain failed: ") and "things.csv" in event.detail
    assert act(alerts(folder, "retrain"), _system(folder), project, lambda: NOON) == []


def test_another_system_is_not_retrained(folder: Path, project: Project) -> None:
    (event,) = done(folder, project, "retrain", replace(THING, model="cars"))
    assert event.detail.startswith("not retrained: system.py declares things, not cars")


def test_while_another_acts_nothing_is_done_and_nothing_forgotten(folder: Path, project: Project) -> None:
    with locked(folder / ".perron" / "alerts.act.lock") as is_mine:
        assert is_mine and done(folder, project, "roll_back", THING) == []
    (event,) = act(alerts(folder, "roll_back"), _system(folder), project, lambda: NOON)
    assert event.detail.startswith("rolled back") and champion(project) == 1


def test_a_rule_that_only_tells_does_nothing(folder: Path, project: Project) -> None:
    assert done(folder, project, "tell", THING) == [] and champion(project) == 2


def test_the_champion_gives_way_to_the_one_before_it_with_the_reason_and_only_once(
    folder: Path, project: Project
) -> None:
    (event,) = done(folder, project, "roll_back", THING)
    assert event.detail.startswith("rolled back: version 1 is the champion again, instead of version 2")
    alias = project.ledger.get_alias("things", CHAMPION)
    assert (
        alias is not None
        and alias["version"] == 1
        and alias["reason"].startswith("rolled back: drift of income: Moved by")
    )
    (event,) = done(folder, project, "roll_back", replace(THING, version=1, subject="size"))
    assert "not rolled back: version 1 was itself put back by an alert" in event.detail and champion(project) == 1
    (event,) = done(folder, project, "roll_back", replace(THING, subject="weight"))
    assert "not rolled back: version 2 gets no requests any more" in event.detail


def test_the_first_champion_has_nothing_to_give_way_to(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "things", "number", SIMPLE)
    run(folder)
    (event,) = done(folder, Project.open(folder), "roll_back", replace(THING, version=1))
    assert "not rolled back: version 1 is the first champion" in event.detail


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_a_version_under_test_ends_its_test(folder: Path, project: Project, kind: str) -> None:
    project.ledger.set_alias("things", CHAMPION, 1)
    decide(project, "things", rollout.canary("2", share=0.1) if kind == "canary" else rollout.shadow("2"))
    (event,) = done(folder, project, "roll_back", THING)
    assert event.detail.startswith(f"rolled back: the {kind} of version 2 is over")
    (decision,) = project.ledger.list_routings("things")
    assert len(decision["routing"]["arms"]) <= 1 and decision["routing"]["shadow"] == []
    assert decision["reason"].startswith("rolled back: drift of income") and champion(project) == 1


def test_the_champion_beside_a_version_under_test_gives_way_itself(folder: Path, project: Project) -> None:
    decide(project, "things", rollout.canary("1", share=0.1))
    assert "version 1 is the champion again" in done(folder, project, "roll_back", THING)[0].detail


def test_a_version_chosen_by_hand_gives_way_to_the_champion(folder: Path, project: Project) -> None:
    decide(project, "things", rollout.single("1"))
    (event,) = done(folder, project, "roll_back", replace(THING, version=1))
    assert "requests go to the champion, version 2, instead of version 1" in event.detail
    assert project.ledger.list_routings("things")[0]["routing"]["arms"] == []


def test_a_model_that_is_not_there_is_said(folder: Path, project: Project) -> None:
    (event,) = done(folder, project, "roll_back", replace(THING, model="cars"))
    assert "cars" in event.detail and "roll back failed" in event.detail
    assert roll_back(project, replace(event, model="things", version=2), "a test").startswith("rolled back")


def test_an_action_that_was_killed_is_not_begun_again(folder: Path, project: Project) -> None:
    watch = alerts(folder, "roll_back")
    watch.judge([THING], NOON)
    assert len(watch.begin_actions(NOON)) == 1  # and the process dies
    assert act(watch, _system(folder), project, lambda: NOON) == [] and champion(project) == 2
    (alert,) = watch.open_alerts()
    assert alert.acted is not None and alert.outcome is None
    assert "begun" in perron("alerts", "list", cwd=folder).stdout
