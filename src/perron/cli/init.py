"""`perron init`: a table in, a project out."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["init"]


def init(
    name: Annotated[
        str, typer.Argument(help="The system's name and the new folder: lower-case letters, digits, hyphens.")
    ],
    source: Annotated[
        str, typer.Option("--from", help="The table to begin from: a file, a folder or a URL.", metavar="SOURCE")
    ],
    target: Annotated[str, typer.Option("--target", help="The column to predict.", metavar="COLUMN")],
    git: Annotated[
        bool, typer.Option(help="Begin a git repository with a first commit, unless the folder is in one.")
    ] = True,
    query: shared.Query = None,
    option: shared.Options = None,
    as_json: shared.Json = False,
) -> None:
    """Begin a project from a table: a contract inferred from the data, and a system that runs as it is."""
    from perron.start import start_project

    shared.resume_collection()
    described = shared.described(source, query, option)
    made = start_project(Path(name), described, target, begin_git="outside" if git else "never")
    if as_json:
        shared.print_json(made.to_json())
        return
    print(f"{made.folder}/ predicts {target} from {made.fields} fields, inferred from {made.rows:,} rows.")
    for field, reason in made.reasons.items():
        print(f"  {field}: {reason}")
    print(f"Next: cd {made.folder} && perron run")
