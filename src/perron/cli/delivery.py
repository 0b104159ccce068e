"""The commands of `perron deploy` that bring a version to an environment, and keep it there."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perron.cli import shared

if TYPE_CHECKING:
    from perron.delivery import Target
    from perron.environments import Environment
    from perron.project import Project
    from perron.targets.files import FileTarget

__all__ = [
    "approve",
    "cloud_run",
    "compose",
    "environments",
    "kubernetes",
    "local",
    "report",
    "resume",
    "stop",
    "supervise",
    "unit",
]

REFUSED = 3

Env = Annotated[str, typer.Option("--env", help="The environment.", metavar="ENV")]
Version = Annotated[
    str | None,
    typer.Argument(help="The version's number or an alias. [default: what is live in the environment before, else the champion]"),
]  # fmt: skip
Model = Annotated[str | None, typer.Option(help="The model, where there are several.")]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the ledger.")]


def _opened(env: str, folder: Path) -> "tuple[Project, Environment]":
    from perron.environments import get_environment

    project = shared.open_project(folder)
    return project, get_environment(project.folder, env)


def _wanted(project: "Project", environment: "Environment", model: str | None, version: str | None) -> tuple[str, str]:
    """The model and the version that are meant."""
    from perron.delivery import default_version

    named = model
    if version is None:
        named, version = default_version(project, environment)
        named = model or named
    return named or shared.the_model(project, None), version


def _deliver(
    target: "Target",
    version: str | None,
    env: str,
    model: str | None,
    reason: str | None,
    folder: Path,
    as_json: bool,
    image: str | None = None,
) -> None:
    from perron.delivery import deliver, person
    from perron.errors import Refused

    project, environment = _opened(env, folder)
    name, reference = _wanted(project, environment, model, version)
    tell = (lambda words: None) if as_json else (lambda words: print(f"{words} …", flush=True))
    try:
        row = deliver(
            project, name, reference, environment, target, who=person(project.folder), reason=reason, image=image, tell=tell,
        )  # fmt: skip
    except Refused as error:
        shared.error_line(f"perron: {error}")
        raise typer.Exit(REFUSED) from error
    report(project, row, as_json)


def report(project: "Project", row: dict[str, Any], as_json: bool) -> None:
    """Prints a deployment that is live now."""
    if as_json:
        shared.print_json(row)
        return
    where = f" at {row['detail']['address']}" if row["detail"].get("address") else ""
    instead = ""
    if row["replaced"] is not None:
        before = project.ledger.get_deployment(row["replaced"])
        if before["state"] == "replaced":  # and not stopped before
            instead = f", in the place of version {before['version']}"
    print(
        f"{row['model']} version {row['version']} ({row['bundle'][:12]}) is live in {row['environment']}{where}{instead} (deployment {row['id']})."
    )


def local(
    env: Env,
    version: Version = None,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Serve a version on this machine, supervised; it takes the place of the one before without a failed request."""
    from perron.delivery import open_target

    _deliver(open_target("local"), version, env, model, reason, folder, as_json)


Image = Annotated[
    str | None,
    typer.Option(help="The image that holds the version. [default: the environment's image, with the version as tag]"),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="The folder of the files. [default: deploy/ENV]", metavar="FOLDER"),
]
Apply = Annotated[bool, typer.Option("--apply", help="Run the tool on the files, too, and wait until it is ready.")]
Force = Annotated[bool, typer.Option("--force", help="Write over files that a person changed, too.")]


def _ship(
    target: "FileTarget",
    version: str | None,
    env: str,
    image: str | None,
    is_applied: bool,
    model: str | None,
    reason: str | None,
    folder: Path,
    as_json: bool,
) -> None:
    """Writes a target's files, and has them brought about where that is asked for."""
    import shlex

    from perron.delivery import Order, demand_target
    from perron.targets.files import image_of

    project, environment = _opened(env, folder)
    name, reference = _wanted(project, environment, model, version)
    row = project.ledger.get_version(name, reference)
    path = project.ledger.bundle_path(row)
    order = Order(project.folder, environment, name, row["version"], row["bundle"], path, image=image)
    if is_applied:
        _deliver(target, reference, env, name, reason, folder, as_json, image_of(order))
        return
    demand_target(environment, target)
    notes, statuses = target.notes(order), target.write(order)
    if as_json:
        shared.print_json({"notes": notes, "files": statuses, "commands": target.commands(order)})
        return
    for line in notes:
        print(line)
    words = {"changed": "changed by hand, left alone (--force writes it)"}
    for file, status in statuses.items():
        print(f"{target.place(order) / file}: {words.get(status, status)}")
    doing = "" if target.refusal(order) is not None else "--apply does it, or, "
    print(f"Nothing is deployed yet: {doing}in {target.place(order)}:")
    for command in target.commands(order):
        print(f"    {shlex.join(command)}")
    if environment.service.get("four_services") is not True:
        print(
            f"The image {image_of(order)} must be there: `perron package` makes it, and it is pushed to where it is pulled from."
        )


def compose(
    env: Env,
    version: Version = None,
    image: Image = None,
    output: Output = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(help="A part beside the server: monitoring, dashboard, postgres, storage; may be repeated."),
    ] = None,
    apply: Apply = False,
    force: Force = False,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Write a Docker Compose project of a version, or bring it up."""
    from perron.targets.compose import Compose

    _ship(Compose(output, force=force, profiles=profile), version, env, image, apply, model, reason, folder, as_json)


def kubernetes(
    env: Env,
    version: Version = None,
    image: Image = None,
    output: Output = None,
    apply: Apply = False,
    force: Force = False,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Write a version's files for Kubernetes (Kustomize), or roll it out by kubectl."""
    from perron.targets.kubernetes import Kubernetes

    _ship(Kubernetes(output, force=force), version, env, image, apply, model, reason, folder, as_json)


def cloud_run(
    env: Env,
    version: Version = None,
    image: Image = None,
    output: Output = None,
    apply: Apply = False,
    force: Force = False,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Write a version's files for Cloud Run, or replace the service by gcloud."""
    from perron.targets.cloud_run import CloudRun

    _ship(CloudRun(output, force=force), version, env, image, apply, model, reason, folder, as_json)


def approve(
    env: Annotated[str, typer.Argument(help="The environment.")],
    version: Version = None,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
) -> None:
    """Approve of a version in an environment: of its bundle, whose digest is kept with your name."""
    from perron import delivery
    from perron.errors import Refused

    project, environment = _opened(env, folder)
    name, reference = _wanted(project, environment, model, version)
    who = delivery.person(project.folder)
    try:
        row = delivery.approve(project, name, reference, environment, who, reason)
    except Refused as error:
        shared.error_line(f"perron: {error}")
        raise typer.Exit(REFUSED) from error
    print(f"{who} approves of {name} version {row['version']} ({row['bundle'][:12]}) in {env}.")


def stop(env: Env, folder: shared.Folder = Path()) -> None:
    """End what runs in an environment, after what is under way."""
    from perron import delivery

    project, environment = _opened(env, folder)
    row = delivery.stop(project, environment)
    print(f"Nothing runs in {env}." if row is None else f"{env} is stopped.")


def resume(env: Env, folder: shared.Folder = Path()) -> None:
    """Start what is declared live in an environment again: after the machine did, or its supervisor was killed."""
    from perron.delivery import resume_order

    project, environment = _opened(env, folder)
    order, target = resume_order(project, environment)
    target.prepare(order)
    kept = target.apply(order, lambda words: print(f"{words} …", flush=True))
    print(f"{order.model} version {order.version} is live in {env} again at {kept.get('address', order.image)}.")


def supervise(env: Env, folder: shared.Folder = Path()) -> None:
    """Be the supervisor of what is declared live in a local environment, until told to stop: for systemd and its like."""
    from perron.delivery import resume_order
    from perron.errors import DeploymentError
    from perron.targets.local import Local

    project, environment = _opened(env, folder)
    order, target = resume_order(project, environment)
    if not isinstance(target, Local):
        raise DeploymentError(f"{env} is run by {target.name}, which needs no supervisor.")
    target.prepare(order)
    project.ledger.close()
    sys.exit(target.run(order))


def unit(env: Env, folder: shared.Folder = Path()) -> None:
    """Print the systemd unit that keeps a local environment running, and starts it with the machine; nothing is installed."""
    from perron.errors import DeploymentError
    from perron.targets.local import systemd_unit

    project, environment = _opened(env, folder)
    if environment.target not in (None, "local"):
        raise DeploymentError(f"{env} is run by {environment.target}, which needs no unit of systemd.")
    print(systemd_unit(project.folder, environment), end="")


def environments(
    write: Annotated[
        bool, typer.Option("--write", help="Write an environments.toml with what holds without one.")
    ] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Show the environments that are declared, and what each demands."""
    from perron.canvas import read_canvas
    from perron.environments import FILE, environments_file, read_environments
    from perron.errors import DeclarationError

    place = shared.project_folder(folder)
    if write:
        if (place / FILE).exists():
            raise DeclarationError(f"There is an {FILE} already; edit it, or move it away first.")
        shared.write_file(place / FILE, environments_file())
    found = read_environments(place).values()
    canvas = read_canvas(place)
    goals = [f"{gate.name} (canvas.toml)" for gate in (canvas.gates if canvas is not None else ())]
    if as_json:
        shared.print_json([
            {"name": one.name, "target": one.target, "host": one.host, "port": one.port, "workers": one.workers, "demands": [*one.demands, *goals]}
            for one in found
        ])  # fmt: skip
        return
    shared.print_table(
        ["environment", "target", "port", "demands"],
        [
            [one.name, one.target or "any", str(one.port), ", ".join([*one.demands, *goals]) or "nothing"]
            for one in found
        ],
    )
