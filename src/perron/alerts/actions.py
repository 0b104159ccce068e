"""Alerts that ask for something in; what came of it out: retrained, by the gates' leave, or rolled back."""

from collections.abc import Callable
from datetime import datetime

from perron import rollout
from perron.alerts import Alerts
from perron.alerts.events import Event
from perron.alerts.state import locked
from perron.deployments import ProjectMemory, decide
from perron.errors import PerronError
from perron.ledger import CHAMPION
from perron.pipeline import Progress, run_pipeline
from perron.project import Project
from perron.system import System

__all__ = ["act", "retrain", "roll_back"]

ROLLED_BACK = "rolled back: "  # how the reason of a champion begins that an alert put back


def act(
    alerts: Alerts, system: System, project: Project, clock: Callable[[], datetime], progress: Progress | None = None
) -> list[Event]:
    """What came of the actions that open alerts ask for, as events that `Alerts.tell` tells.

    Each alert's action is begun once, even when the process is killed in it. Alerts that ask for the same are served
    together. While another process acts nothing is done, and nothing forgotten: the next call does it.

    Raises:
        LedgerError: the state can't be read or written.
    """
    with locked(alerts.home / "alerts.act.lock", wait=False) as is_mine:
        if not is_mine:
            return []
        asked: dict[tuple[str, str, int], list[Event]] = {}
        for event in alerts.begin_actions(clock()):
            # A retraining serves every version at once; a rollback is of one version.
            asked.setdefault((event.action, event.model, event.version * (event.action == "roll_back")), []).append(
                event
            )
        done = []
        for (action, _, _), causes in asked.items():
            why = "; ".join(dict.fromkeys(f"{cause.kind.replace('_', ' ')} of {cause.subject}" for cause in causes))
            try:
                if action == "retrain":
                    words = retrain(system, project, causes[0].model, progress)
                else:
                    words = roll_back(project, causes[0], why)
            except PerronError as error:
                words = f"{action.replace('_', ' ')} failed: {error}"
            except Exception as error:  # the monitor must go on, and people must know
                words = f"{action.replace('_', ' ')} failed: {type(error).__name__}: {error}"
            done.append(alerts.end_actions(causes, f"{words} (asked for by {why})", clock()))
        return done


def retrain(system: System, project: Project, model: str, progress: Progress | None = None) -> str:
    """Runs the pipeline, and says what came of it; the gates decide whether there is a new version.

    Raises:
        PerronError: the run failed.
    """
    if model != system.name:
        return f"not retrained: system.py declares {system.name}, not {model}"
    before = {row["version"] for row in project.ledger.list_versions(model)}
    result = run_pipeline(system, project, *([progress] if progress is not None else []))
    if result.status == "refused":
        gates = result.outputs["gates"]["gates"]
        failed = ", ".join(f"{gate['name']} ({gate['value']:.6g})" if gate["value"] is not None else gate["name"]
                           for gate in gates if not gate["passed"])  # fmt: skip
        return f"retrained, and refused by the gate {failed}: version {_champion(project, model)} goes on (run {result.run})"
    version = result.outputs["register"]["version"]
    if version in before:
        return f"retrained on the same data: version {version} came out again (run {result.run})"
    if result.champion == version:
        return f"retrained: version {version} is the champion (run {result.run})"
    return (
        f"retrained: version {version} is registered; version {result.champion} stays the champion (run {result.run})"
    )


def roll_back(project: Project, event: Event, why: str) -> str:
    """Takes the version that an alert is about from its requests, and says how; the reason is in the ledger.

    A rollout in which it is tested ends; a version that was chosen by hand gives way to the champion; a champion gives
    way to the version that it replaced, once: a champion that was put back so is left to people.

    Raises:
        NotFound: there is no such version.
        PerronError: the ledger can't be written.
    """
    ledger, model, version = project.ledger, event.model, event.version
    ledger.get_version(model, version)
    reason = f"{why}: {event.detail}"
    decided = ledger.list_routings(model)
    routing = decided[0]["routing"] if decided else {}
    arms = routing.get("arms") or [{"name": CHAMPION}]
    others = [*arms[1:], *(routing.get("shadow") or ())]

    def number(arm: dict[str, str]) -> int:
        return int(ledger.get_version(model, arm.get("reference", arm["name"]))["version"])

    if version in [number(arm) for arm in others]:
        ProjectMemory(project, (model,)).roll_back(model, decided[0]["id"], reason)
        return f"rolled back: the {'shadow' if routing.get('shadow') else routing['kind']} of version {version} is over"
    champion = ledger.get_alias(model, CHAMPION)
    if champion is None or version != champion["version"]:
        if champion is not None and version == number(arms[0]):
            decide(project, model, rollout.single(), f"{ROLLED_BACK}{reason}")
            return (
                f"rolled back: requests go to the champion, version {champion['version']}, instead of version {version}"
            )
        return f"not rolled back: version {version} gets no requests any more"
    if str(champion["reason"] or "").startswith(ROLLED_BACK):
        return (
            f"not rolled back: version {version} was itself put back by an alert; a person must choose (perron promote)"
        )
    if champion["replaced"] is None:
        return f"not rolled back: version {version} is the first champion, there is none before it"
    ledger.set_alias(model, CHAMPION, champion["replaced"], f"{ROLLED_BACK}{reason}")
    return f"rolled back: version {champion['replaced']} is the champion again, instead of version {version}"


def _champion(project: Project, model: str) -> str:
    event = project.ledger.get_alias(model, CHAMPION)
    return "none" if event is None else str(event["version"])
