"""`perron status`: what is declared live in each environment, and what really runs there."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import shared

if TYPE_CHECKING:
    from perron.delivery import Standing

__all__ = ["status"]

DIFFERS = 1


def status(
    env: Annotated[str | None, typer.Option("--env", help="One environment. [default: all]", metavar="ENV")] = None,
    history: Annotated[bool, typer.Option("--history", help="List the deployments instead, newest first.")] = False,
    limit: Annotated[int, typer.Option(help="The most deployments to list.", min=1)] = 20,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Compare what is declared live with what runs; exit code 1 where they differ."""
    from perron.delivery import standings
    from perron.environments import get_environment

    project = shared.open_project(folder)
    if history:
        if env is not None:
            get_environment(project.folder, env)
        rows = project.ledger.list_deployments(env, limit=limit)
        if as_json:
            shared.print_json(rows)
            return
        shared.print_table(
            ["id", "time", "environment", "target", "model", "version", "bundle", "state", "replaced", "who", "why"],
            [
                [str(r["id"]), r["time"], r["environment"], r["target"], r["model"], r["version"], r["bundle"][:12], r["state"],
                 None if r["replaced"] is None else str(r["replaced"]), r["who"], r["detail"].get("failure") or r["reason"]]
                for r in rows
            ],
        )  # fmt: skip
        return
    found = standings(project, env)
    if as_json:
        shared.print_json([one.to_json() for one in found])
    else:
        _print(found)
    if not all(one.is_as_declared for one in found):
        raise typer.Exit(DIFFERS)


def _print(found: "list[Standing]") -> None:
    shared.print_table(
        ["environment", "target", "declared", "bundle", "since", "by", "actual", "version", "pid", "restarts"],
        [
            [
                one.environment.name, one.target, *_declared(one), one.actual.state,
                None if one.actual.version is None else str(one.actual.version),
                str(one.actual.detail["pid"]) if one.actual.detail.get("pid") else None,
                one.actual.detail.get("restarts"),
            ]
            for one in found
        ],
    )  # fmt: skip
    for one in found:
        for line in _notes(one):
            print(f"{one.environment.name}: {line}")


def _declared(one: "Standing") -> list[object]:
    row = one.declared
    if row is None:
        return ["nothing", None, None, None]
    return [f"version {row['version']}", row["bundle"][:12], row["changed"], row["who"]]


def _notes(one: "Standing") -> list[str]:
    found = []
    if one.under_way is not None:
        found.append(
            f"{one.under_way['who']} is deploying version {one.under_way['version']} since {one.under_way['time']}."
        )
    if one.last_failure is not None:
        row = one.last_failure
        found.append(
            f"the deployment of version {row['version']} at {row['time']} failed: {row['detail'].get('failure')}"
        )
    if one.waits is not None:
        found.append(f"{one.waits}; `perron deploy approve {one.environment.name}`")
    if one.actual.words:
        found.append(one.actual.words)
    if not one.is_as_declared and one.actual.state == "serving":
        declared = "nothing" if one.declared is None else f"version {one.declared['version']}"
        found.append(f"version {one.actual.version} answers, and {declared} is declared; deploy the one that should.")
    if one.actual.detail.get("note") and one.actual.detail["note"] not in one.actual.words:
        found.append(str(one.actual.detail["note"]))
    since = one.actual.detail.get("since")
    if one.actual.detail.get("restarts") and since:
        found.append(f"started again {one.actual.detail['restarts']} times, last {time.time() - since:.0f} s ago.")
    return found
