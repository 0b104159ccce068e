"""`perron sync`: a project's derived files, brought up to date with people's changes kept."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import MISTAKE, shared

__all__ = ["sync"]

# What is said of a file; nothing of one that needs nothing.
WORDS = {
    "written": "written",
    "merged": "merged: your changes are in it",
    "conflict": "conflict: you and Perron changed the same lines",
    "changed": "yours, and left: nothing new for it",
    "deleted": "deleted by you, and left out (--restore writes it)",
    "removed": "removed: it is derived no longer",
    "released": "yours now: it is derived no longer, and you changed it",
    "stale": "stale",
}


def sync(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 when a file is stale or in conflict.")
    ] = False,
    restore: Annotated[
        list[str] | None,
        typer.Option(
            "--restore",
            help="Write this file as it is derived, though you changed or deleted it; may be repeated.",
            metavar="FILE",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Merge into files whose content git doesn't hold, too.")
    ] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Bring the files that follow from system.py and pyproject.toml up to date; what people changed in them is merged.

    Exit code 1 when a change of yours and one of Perron's meet in the same lines: both are in the file then, between
    conflict markers as git writes them.
    """
    from perron.renewal import renew

    shared.resume_collection()
    found = shared.project_folder(folder)
    statuses = renew(found, is_check=check, force=force, restore=restore or ())
    conflicts = [name for name, status in statuses.items() if status == "conflict"]
    stale = [name for name, status in statuses.items() if status == "stale"]
    if as_json:
        shared.print_json(statuses)
    else:
        for name, status in statuses.items():
            if status in WORDS:
                print(f"{name}: {WORDS[status]}")
        if not stale and not conflicts:
            current = sum(status == "current" for status in statuses.values())
            print(
                f"{len(statuses)} files, {current} as derived; nothing to do."
                if check
                else f"{len(statuses)} files are up to date."
            )
    if conflicts and check:
        shared.error_line(
            f"perron: {', '.join(conflicts)}: resolve the lines between <<<<<<< and >>>>>>>, which `perron sync` writes where they aren't there yet."
        )
    elif conflicts:
        shared.error_line(
            f"perron: {', '.join(conflicts)}: keep what is right of the lines between <<<<<<< and >>>>>>>, and commit; `git checkout -- FILE` undoes the merge of a file."
        )
    if stale:
        shared.error_line(
            f"perron: {len(stale)} of {len(statuses)} files are stale; `perron sync` brings them up to date."
        )
    if conflicts or stale:
        raise typer.Exit(MISTAKE)
