"""`perron ci …`: the stages of CI here, the workflows that run them there, and what a pull request's model is."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import MISTAKE, shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perron.stages import Outcome, Stage, Stages

__all__ = ["app", "github", "keep", "report", "restore", "run"]

app = typer.Typer(
    help="CI and deployment: run the stages here, write GitHub's workflows, compare a model with the champion.",
    cls=shared.Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def run(
    stages: Annotated[
        list[str] | None,
        typer.Argument(help="Their names. [default: all but the deployments]", metavar="[STAGE]…"),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say what there is, and run nothing.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Run the others too after one that failed, but for what needs it.")
    ] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Run the stages of CI here, in order, as the workflows do; the first that fails ends it. Exit code 1 then."""
    import sys

    from perron.stages import choose_stages, demand_clean, demand_tools, find_stages, run_stages

    root = shared.project_folder(folder)
    found = find_stages(root)
    chosen = choose_stages(found, stages or ())
    if list_:
        _list(found, chosen, as_json)
        return
    demand_tools(chosen)
    note = demand_clean(chosen, root)
    if note:
        shared.error_line(f"perron: {note}")

    def tell(stage: "Stage", command: tuple[str, ...]) -> None:
        print(f"── {stage.name}: {' '.join(command)}", file=sys.stderr if as_json else sys.stdout, flush=True)

    outcomes = run_stages(chosen, root, keep_going=keep_going, tell=tell, output=sys.stderr if as_json else None)
    left_out = {} if stages else dict(found.left_out)
    if as_json:
        shared.print_json({"stages": [one.to_json() for one in outcomes], "left_out": left_out})
    else:
        _print(outcomes, left_out)
    if any(one.status != "passed" for one in outcomes):
        raise typer.Exit(MISTAKE)


def _list(found: "Stages", chosen: "Sequence[Stage]", as_json: bool) -> None:
    if as_json:
        shared.print_json({"stages": [stage.to_json() for stage in found.found], "left_out": dict(found.left_out)})
        return
    rows = [
        [
            stage.name,
            "yes" if stage in chosen else "by name",
            " && ".join(" ".join(c) for c in stage.commands),
            stage.purpose,
        ]
        for stage in found.found
    ]
    shared.print_table(["stage", "runs", "what", "for"], rows)
    for name, reason in found.left_out.items():
        print(f"left out: {name}, {reason}")


def _print(outcomes: "Sequence[Outcome]", left_out: dict[str, str]) -> None:
    print()
    shared.print_table(
        ["stage", "", "seconds"],
        [[one.stage, one.status, f"{one.seconds:.1f}" if one.status != "not run" else "–"] for one in outcomes],
    )
    for one in outcomes:
        if one.status == "failed":
            print(f"failed: {one.stage}: {one.command} ended with {one.code}")
    for name, reason in left_out.items():
        print(f"left out: {name}, {reason}")


@app.command()
def github(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 when a file is stale.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over files that a person changed, too.")] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Write GitHub's workflows: checks, training with a comment, release through the environments, the nightly look."""
    from perron.environments import read_environments
    from perron.ship.ci import ci_files
    from perron.ship.files import write_files
    from perron.stages import demand_repository, find_stages, install_commands, read_ci_settings

    root = shared.project_folder(folder)
    settings = read_ci_settings(root)
    if not check:
        demand_repository(root)
    install, command = install_commands(root)
    environments = read_environments(root)
    files = ci_files(find_stages(root), settings, environments, install=install, perron=command)
    statuses = write_files(root, files, force=force, is_check=check)
    if as_json:
        shared.print_json(statuses)
    else:
        words = {"changed": "changed by hand, left alone (--force writes it)"}
        for name, status in statuses.items():
            print(f"{name}: {words.get(status, status)}")
        asking = [name for name, one in environments.items() if one.approvals]
        if asking and not check:
            print(f"Give {', '.join(asking)} required reviewers on GitHub (Settings, Environments).")
        here = [name for name, one in environments.items() if (one.target or "local") in ("local", "compose")]
        if here and not check:
            print(
                f"{', '.join(here)} would live on GitHub's machine, until the job ends: name a target in environments.toml."
            )
        if not settings.service_runner and not check:
            print(
                "Nobody looks at the traffic at night: name the runner that serves as service_runner in [tool.perron.ci]."
            )
    if check and "stale" in statuses.values():
        raise typer.Exit(MISTAKE)


@app.command()
def report(
    version: Annotated[
        str | None, typer.Argument(help="A version's number or alias. [default: what the newest run came to]")
    ] = None,
    against: Annotated[
        str, typer.Option(help="The version or alias that it is held to.", metavar="VERSION")
    ] = "champion",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file. [default: standard output]", metavar="FILE")
    ] = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Compare a model with the champion, in Markdown: metrics with intervals, gates, data, contract, size, latency."""
    from perron.comparison import compare_versions
    from perron.pages.comparison import render, verdict

    project, system = shared.open_system(folder)
    found = compare_versions(project, system, version, against)
    if output is not None:
        shared.write_file(output, render(found))
    if as_json:
        shared.print_json({"verdict": verdict(found), **found.to_json()})
    elif output is None:
        print(render(found), end="")
    else:
        print(f"{output} is written: {verdict(found)}.")


@app.command()
def keep(
    output: Annotated[Path, typer.Argument(help="A folder that isn't there yet.", metavar="FOLDER")],
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Put the champion and what the ledger knows of it into a folder, for another machine: no rows, log or secrets."""
    from perron.handover import keep as keep_champion

    project = shared.open_project(folder)
    done = keep_champion(project, shared.the_model(project, model), output)
    if as_json:
        shared.print_json(done)
    else:
        print(
            f"{output}: {done['model']} version {', '.join(map(str, done['versions']))}, {done['bytes'] / 1e6:.2f} MB"
        )


@app.command()
def restore(
    kept: Annotated[Path, typer.Argument(help="What `perron ci keep` made.", metavar="FOLDER")],
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Begin a fresh checkout's memory with what was kept: the ledger, the champion, and steps that needn't run again."""
    from perron.handover import restore as restore_kept

    shared.resume_collection()
    done = restore_kept(kept, shared.project_folder(folder))
    if as_json:
        shared.print_json(done)
    else:
        print(f"{done['model']} version {', '.join(map(str, done['versions']))} is here, from {kept}.")
