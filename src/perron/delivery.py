"""A version and an environment in; a deployment out: judged, carried out by a target, recorded, rolled back when it fails.

    deliver   judge ─▶ starting ─▶ target.prepare, target.apply ─▶ live (the one before: replaced), or failed

A target is an adapter in `perron.targets`. Whatever becomes of a deployment is in the ledger, with who, when and why;
one that fails leaves what was live before, there and here.
"""

import getpass
import importlib
import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from perron.canvas import read_canvas
from perron.environment import code_of
from perron.environments import KEYS, TARGETS, Environment, read_environments
from perron.errors import DeploymentError, NotFound, PerronError, Refused, nearest
from perron.gates import judge_gate
from perron.ledger import CHAMPION
from perron.process import Process
from perron.project import Project

__all__ = [
    "Actual", "Deployment", "Order", "Standing", "Target", "approve", "default_version", "deliver", "demand_target", "judge",
    "open_target", "person", "resume_order", "roll_back", "standings", "stop",
]  # fmt: skip

Deployment = dict[str, Any]  # a row of the ledger's deployments
Tell = Callable[[str], None]
FORGOTTEN = timedelta(hours=1)  # after which a deployment that another machine began is no longer waited for
WHO = "PERRON_USER"


@dataclass(frozen=True)
class Order:
    """What a target is to bring about.

    Args:
        folder: of the project.
        environment: where.
        model, version, bundle, path: the version, its bundle's digest and its folder.
        deployment: the ledger's number; 0 where there is none, since files are only written.
        image: the image's reference, where there is one.
        live: the deployment that the ledger has live there now; None: none.
        like: what was kept of the deployment that this order follows: where its files went and which parts they have.
    """

    folder: Path
    environment: Environment
    model: str
    version: int
    bundle: str
    path: Path
    deployment: int = 0
    image: str | None = None
    live: Deployment | None = None
    like: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Actual:
    """What really runs in an environment.

    `state`: serving (as it should), stopped (nothing runs), or otherwise what is wrong; `words` say what, and what to do.
    """

    state: Literal["serving", "stopped", "restarting", "unhealthy", "given up", "unsupervised", "unknown"]
    version: int | None = None
    bundle: str | None = None
    words: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


class Target(Protocol):
    """What runs servers. Each method names an environment whose state the target keeps itself."""

    name: str

    def prepare(self, order: Order) -> None:
        """Nothing, when the order can be carried out as far as one can tell beforehand.

        Raises:
            PerronError: it can't (a tool that is missing, a port in use); nothing was changed.
        """
        ...

    def apply(self, order: Order, tell: Tell) -> Mapping[str, Any]:
        """What is worth keeping of the deployment, once the version is ready and answers.

        Raises:
            DeploymentError: it isn't, for the reason in the message; what ran before runs.
        """
        ...

    def actual(self, folder: Path, environment: Environment, declared: Deployment | None) -> Actual:
        """What runs in an environment of a project now."""
        ...

    def stop(self, folder: Path, environment: Environment, declared: Deployment | None) -> bool:
        """Ends what runs there, after what is under way; False when nothing did."""
        ...


def open_target(name: str) -> Target:
    """The target of that name, as it is without options of its own.

    Raises:
        NotFound: there is none.
    """
    if name not in TARGETS:
        raise NotFound(f"There is no target {name!r}; {nearest(name, TARGETS)}")
    made: Target = importlib.import_module(f"perron.targets.{name.replace('-', '_')}").make_target()
    return made


def person(folder: Path) -> str:
    """Who does this: PERRON_USER, else git's user.email, else the name of the account.

    Whoever can set a variable can be anybody: a record, no proof.
    """
    named = os.environ.get(WHO, "").strip()
    if named:
        return named
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "config", "user.email"], capture_output=True, text=True, check=False
        )
        named = done.stdout.strip() if done.returncode == 0 else ""
    except OSError:
        named = ""
    try:
        return named or getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in a container
        return f"uid {os.getuid()}"


# ------------------------------------------------------------------ judging


def judge(project: Project, version: Mapping[str, Any], environment: Environment, who: str) -> list[str]:
    """Why a version may not go to an environment, each in words; nothing where it may.

    Raises:
        DeclarationError: canvas.toml is wrong.
    """
    return [
        *_against_gates(project, version, environment),
        *_against_order(project, version, environment),
        *_against_commit(project, version, environment),
        *_against_approvals(project, version, environment, who),
    ]


def _against_gates(project: Project, version: Mapping[str, Any], environment: Environment) -> list[str]:
    """Judged by the metrics of the run that made it; the canvas's goals too, which may be stricter than they were."""
    run = project.ledger.get_run(version["run"])
    if run["status"] != "done":
        return [f"its run {run['id']} ended {run['status']}"]
    scores = {m["name"]: m["value"] for m in run["metrics"] if m["part"] == "test" and m["step"] is None}
    canvas = read_canvas(project.folder) if scores else None
    gates = [(environment.name, gate) for gate in environment.gates]
    gates += [("canvas.toml", gate) for gate in (canvas.gates if canvas is not None else ())]
    found = []
    for place, gate in dict.fromkeys(gates):
        verdict = judge_gate(gate, scores, {}, None)
        if not verdict.passed:
            value = "missing" if verdict.value is None else f"{verdict.value:.6g}"
            found.append(f"the gate {gate.name!r} of {place} isn't passed: {gate.metric} is {value}")
    return found


def _against_order(project: Project, version: Mapping[str, Any], environment: Environment) -> list[str]:
    before = environment.after
    if before is None:
        return []
    rows = project.ledger.list_deployments(before, bundle=version["bundle"])
    state = next((row["state"] for row in rows if row["state"] not in ("starting", "failed")), None)
    if state in ("live", "replaced", "stopped"):
        return []
    if state == "rolled_back":
        return [f"it was rolled back in {before}"]
    return [f"its bundle {version['bundle'][:12]} hasn't been live in {before}, which comes before {environment.name}"]


def _against_commit(project: Project, version: Mapping[str, Any], environment: Environment) -> list[str]:
    if not environment.clean_commit:
        return []
    code = code_of(project.folder)
    if code.commit is None:
        return [
            f"{environment.name} takes committed code alone, and {project.folder} is in no git repository with a commit; "
            "`git init`, commit, `perron run`, and deploy again"
        ]
    if code.dirty is not None:
        return ["the project has uncommitted changes (`git status` lists them); commit or stash them"]
    runs = project.ledger.runs_of_bundle(version["run"])
    if runs and not any(run["code_commit"] is not None and run["code_dirty"] is None for run in runs):
        return ["it was trained with code that wasn't committed; `perron run` again, now that all is"]
    return []


def _approvals(project: Project, version: Mapping[str, Any], environment: Environment, who: str | None) -> list[Any]:
    """Those that count, one of each person: of this bundle, since it was last rolled back there, by somebody else."""
    rows = project.ledger.list_deployments(environment.name, state="rolled_back", bundle=version["bundle"], limit=1)
    since = rows[0]["changed"] if rows else ""
    found = {}
    for row in project.ledger.list_approvals(environment.name, version["bundle"]):
        may = not environment.approvers or row["who"] in environment.approvers
        if row["time"] > since and may and row["who"] != who:
            found[row["who"]] = {key: row[key] for key in ("who", "time", "reason")}
    return list(found.values())


def _against_approvals(project: Project, version: Mapping[str, Any], environment: Environment, who: str) -> list[str]:
    have = len(_approvals(project, version, environment, who))
    if have >= environment.approvals:
        return []
    by = f" by {', '.join(environment.approvers)}" if environment.approvers else " by somebody else"
    return [
        f"it has {have} of {environment.approvals} approvals{by}: `perron deploy approve {environment.name} {version['version']}`"
    ]


def approve(
    project: Project, model: str, reference: str, environment: Environment, who: str, reason: str | None
) -> dict[str, Any]:
    """The version's row, once somebody's approval of it is in the ledger.

    Raises:
        NotFound: there is no such version.
        Refused: the environment asks for none, or not for this person's.
    """
    row = project.ledger.get_version(model, reference)
    if not environment.approvals:
        raise Refused(f"{environment.name} asks for no approvals; set approvals in environments.toml, or just deploy.")
    if environment.approvers and who not in environment.approvers:
        raise Refused(
            f"{who} isn't among those who may approve in {environment.name}: {', '.join(environment.approvers)}; "
            f"{WHO} or git's user.email says who you are."
        )
    project.ledger.add_approval(environment.name, row, who, reason)
    return row


# ------------------------------------------------------------------ carrying out


def deliver(
    project: Project,
    model: str,
    reference: str,
    environment: Environment,
    target: Target,
    *,
    who: str,
    reason: str | None = None,
    image: str | None = None,
    tell: Tell = lambda words: None,
) -> Deployment:
    """The deployment, live: the version answers in the environment, and what was there before finishes what it has.

    Args:
        project: opened.
        model, reference: the version, by its number or an alias.
        environment: where.
        target: what carries it out.
        who, reason: kept in the ledger.
        image: the image's reference, for targets that run one.
        tell: told what is being done.

    Raises:
        NotFound: there is no such version.
        Refused: it may not go there; says every reason.
        DeploymentError: another deployment is under way, or this one failed; what was live before is.
        PerronError: the target can't do it.
    """
    demand_target(environment, target)
    row = _version(project, model, reference)
    faults = judge(project, row, environment, who)
    if faults:
        raise Refused(f"Version {row['version']} of {model} can't go to {environment.name}: {'; '.join(faults)}.")
    given = _approvals(project, row, environment, who) if environment.approvals else []
    return _carry_out(project, row, environment, target, who, reason, image, tell, approvals=given)


def demand_target(environment: Environment, target: Target) -> None:
    """Nothing, when the environment may be run by that target, and every key that it declares means something there.

    Raises:
        DeploymentError: it is declared for another, or has a key that the target has no use for.
    """
    if environment.target is not None and environment.target != target.name:
        raise DeploymentError(
            f"{environment.name} is declared for the target {environment.target}; deploy with `perron deploy "
            f"{environment.target} --env {environment.name}`, or change it in environments.toml."
        )
    for key in sorted(environment.given):
        if target.name not in KEYS[key][2]:
            raise DeploymentError(
                f"{environment.name}.{key} in environments.toml means nothing to the target {target.name}; leave it out."
            )


def _version(project: Project, model: str, reference: str) -> dict[str, Any]:
    try:
        return project.ledger.get_version(model, reference)
    except NotFound as error:
        newest = project.ledger.list_runs(1)
        if newest and newest[0]["status"] == "refused":
            rows = project.ledger.step_outputs("gates")
            verdicts: list[dict[str, Any]] = next(
                (row["output"]["gates"] for row in rows if row["run"] == newest[0]["id"]), []
            )
            failed = ", ".join(f"{v['name']} ({v['value']})" for v in verdicts if not v["passed"])
            raise NotFound(
                f"{error} The newest run, {newest[0]['id']}, was refused by a gate, and what a gate refuses has no "
                f"version: {failed}."
            ) from error
        raise


def _carry_out(
    project: Project,
    row: Mapping[str, Any],
    environment: Environment,
    target: Target,
    who: str,
    reason: str | None,
    image: str | None,
    tell: Tell,
    *,
    approvals: list[Any],
    before: str = "replaced",
    detail: Mapping[str, Any] | None = None,
    like: Mapping[str, Any] | None = None,
) -> Deployment:
    live = _live(project, environment.name)
    for key, value in (("target", target.name), ("model", row["model"])):
        if live is not None and live[key] != value:
            raise DeploymentError(
                f"{environment.name} has the {key} {live[key]} now, and an environment has one at a time; `perron deploy "
                f"stop --env {environment.name}` first, or declare another environment."
            )
    path = project.ledger.bundle_path(row).resolve()
    order = Order(
        project.folder, environment, row["model"], row["version"], row["bundle"], path, 0, image, live, like or {}
    )
    target.prepare(order)
    begun = project.ledger.start_deployment(
        _is_at_it, environment=environment.name, target=target.name, model=row["model"], version=row["version"],
        bundle=row["bundle"], image=image, who=who, reason=reason, approvals=approvals,
        detail={**(detail or {}), "host": socket.gethostname(), "by": Process.me().to_json(), "begun": _now().isoformat()},
    )  # fmt: skip
    order = Order(**{**vars(order), "deployment": begun["id"]})
    try:
        kept = target.apply(order, tell)
    except BaseException as error:
        why = str(error) if isinstance(error, PerronError) else type(error).__name__
        project.ledger.end_deployment(begun["id"], "failed", {"failure": why})
        raise
    return project.ledger.end_deployment(begun["id"], "live", kept, before=before)


def _is_at_it(detail: Mapping[str, Any]) -> bool:
    """Whether the process that began a deployment lives; of another machine's nobody knows, for an hour."""
    if detail.get("host") != socket.gethostname():
        return _now() - datetime.fromisoformat(detail["begun"]) < FORGOTTEN
    by = Process.read(detail.get("by"))
    return by is not None and by.is_alive


def _now() -> datetime:
    return datetime.now(UTC)


# ------------------------------------------------------------------ going back


def roll_back(
    project: Project,
    environment: Environment,
    *,
    who: str,
    reason: str | None = None,
    target: Target | None = None,
    tell: Tell = lambda words: None,
) -> Deployment:
    """The deployment that brings back the version before the one that is live, by the same way; it asks for no approvals.

    Going back twice goes back two versions, not forth again.

    Raises:
        DeploymentError: nothing is live there, there was nothing before, or it failed.
    """
    live = _live(project, environment.name)
    if live is None:
        raise DeploymentError(f"Nothing is live in {environment.name}, so there is nothing to go back from.")
    earlier = _before(project, live)
    if earlier is None:
        raise DeploymentError(
            f"Before version {live['version']} nothing was live in {environment.name}; deploy another version, "
            f"or `perron deploy stop --env {environment.name}`."
        )
    target = target or open_target(live["target"])
    demand_target(environment, target)
    row = project.ledger.get_version(earlier["model"], earlier["version"])
    if row["bundle"] != earlier["bundle"]:
        raise DeploymentError(
            f"Version {row['version']} has another bundle than the one that was live; deploy it anew."
        )
    words = f"rolled back from version {live['version']}" + (f": {reason}" if reason else "")
    return _carry_out(
        project, row, environment, target, who, words, earlier["image"], tell,
        approvals=[], before="rolled_back", detail={"rollback_to": earlier["id"]}, like={**earlier["detail"], **_place(live)},
    )  # fmt: skip


def _live(project: Project, environment: str) -> Deployment | None:
    found = project.ledger.list_deployments(environment, state="live", limit=1)
    return found[0] if found else None


def _place(row: Deployment) -> dict[str, Any]:
    """Where the files of a deployment are, as what is kept of it says it."""
    return {key: row["detail"][key] for key in ("folder",) if key in row["detail"]}


def _before(project: Project, row: Deployment) -> Deployment | None:
    """The deployment that a rollback of this one brings back: of another bundle, and not itself rolled back."""
    bundle, looked = row["bundle"], row
    while True:
        back = looked["detail"].get("rollback_to")
        number = project.ledger.get_deployment(back)["replaced"] if back is not None else looked["replaced"]
        if number is None:
            return None
        looked = project.ledger.get_deployment(number)
        if looked["bundle"] != bundle and looked["state"] != "rolled_back":
            return looked


def stop(project: Project, environment: Environment, target: Target | None = None) -> Deployment | None:
    """The deployment that was live, stopped now; None where nothing was, and nothing ran.

    Raises:
        DeploymentError: a deployment is under way there, or it can't be stopped.
    """
    live = _live(project, environment.name)
    for row in project.ledger.list_deployments(environment.name, state="starting"):
        if _is_at_it(row["detail"]):
            raise DeploymentError(f"{row['who']} is deploying to {environment.name} just now; wait until that is done.")
    target = target or open_target(live["target"] if live is not None else environment.target or "local")
    did = target.stop(project.folder, environment, live)
    if live is None:
        return {} if did else None
    return project.ledger.end_deployment(live["id"], "stopped", {})


# ------------------------------------------------------------------ declared and actual


@dataclass(frozen=True)
class Standing:
    """An environment: what the ledger declares live, what really runs, what is under way, and what waits for approval."""

    environment: Environment
    declared: Deployment | None
    actual: Actual
    under_way: Deployment | None = None
    last_failure: Deployment | None = None
    waits: str | None = None

    @property
    def is_as_declared(self) -> bool:
        if self.declared is None:
            return self.actual.state == "stopped"
        return self.actual.state == "serving" and self.actual.bundle == self.declared["bundle"]

    def to_json(self) -> dict[str, Any]:
        return {
            "environment": self.environment.name, "target": self.target, "demands": self.environment.demands,
            "declared": self.declared, "actual": vars(self.actual), "as_declared": self.is_as_declared,
            "under_way": self.under_way, "last_failure": self.last_failure, "waits": self.waits,
        }  # fmt: skip

    @property
    def target(self) -> str | None:
        return self.declared["target"] if self.declared is not None else self.environment.target


def standings(project: Project, only: str | None = None) -> list[Standing]:
    """Every declared environment, or one, and those that something is live in though they are declared no more.

    Raises:
        NotFound: there is no such environment.
        DeclarationError: environments.toml is wrong.
    """
    known = read_environments(project.folder)
    lost = {row["environment"] for row in project.ledger.list_deployments(state="live")} - set(known)
    known |= {name: Environment(name) for name in sorted(lost)}
    if only is not None and only not in known:
        raise NotFound(f"There is no environment {only[:40]!r}; {nearest(only, known)}")
    return [_standing(project, found) for name, found in known.items() if only in (None, name)]


def _standing(project: Project, environment: Environment) -> Standing:
    rows = project.ledger.list_deployments(environment.name, limit=20)
    declared = _live(project, environment.name)
    under_way = next((row for row in rows if row["state"] == "starting"), None)
    failed = rows[0] if rows and rows[0]["state"] == "failed" else None
    if under_way is not None and not _is_at_it(under_way["detail"]):
        failed = {**under_way, "detail": {**under_way["detail"], "failure": "the process that deployed was killed"}}
        under_way = None
    name = declared["target"] if declared is not None else environment.target or "local"
    actual = open_target(name).actual(project.folder, environment, declared)
    return Standing(environment, declared, actual, under_way, failed, _waiting(project, environment, declared))


def _waiting(project: Project, environment: Environment, declared: Deployment | None) -> str | None:
    """The version that is live in the environment before, and still lacks approvals here."""
    if not environment.approvals or environment.after is None:
        return None
    candidate = _live(project, environment.after)
    if candidate is None or (declared is not None and declared["bundle"] == candidate["bundle"]):
        return None
    have = len(_approvals(project, candidate, environment, None))
    if have >= environment.approvals:
        return None
    return f"version {candidate['version']} has {have} of {environment.approvals} approvals"


def resume_order(project: Project, environment: Environment) -> tuple[Order, Target]:
    """The order that brings back what is declared live, and its target: nothing new for the ledger.

    Raises:
        DeploymentError: nothing is declared live there, or its bundle isn't what it was.
    """
    live = _live(project, environment.name)
    if live is None:
        raise DeploymentError(f"Nothing is declared live in {environment.name}; deploy a version.")
    row = project.ledger.get_version(live["model"], live["version"])
    if row["bundle"] != live["bundle"]:
        raise DeploymentError(
            f"Version {row['version']} has another bundle than the one that was live; deploy it anew."
        )
    path = project.ledger.bundle_path(row).resolve()
    order = Order(
        project.folder, environment, row["model"], row["version"], row["bundle"], path, live["id"], live["image"],
        live, live["detail"],
    )  # fmt: skip
    target = open_target(live["target"])
    demand_target(environment, target)
    return order, target


def default_version(project: Project, environment: Environment) -> tuple[str | None, str]:
    """The model (None: the only one) and version that go to an environment when none is named: what is live in the
    environment before, else the champion.

    Raises:
        DeploymentError: nothing is live there.
    """
    if environment.after is None:
        return None, CHAMPION
    live = _live(project, environment.after)
    if live is None:
        raise DeploymentError(
            f"Nothing is live in {environment.after}, which comes before {environment.name}; deploy there first, or name a version."
        )
    return live["model"], str(live["version"])
