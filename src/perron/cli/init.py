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
    source: Annotated[Path, typer.Option("--from", help="The table to begin from: CSV or Parquet.", metavar="FILE")],
    target: Annotated[str, typer.Option("--target", help="The column to predict.", metavar="COLUMN")],
    git: Annotated[
        bool, typer.Option(help="Begin a git repository with a first commit, unless the folder is in one.")
    ] = True,
    as_json: shared.Json = False,
) -> None:
    """Begin a project from a table: a contract inferred from the data, and a system that runs as it is."""
    from perron.start import start_project

    shared.resume_collection()
    made = start_project(Path(name), source, target, begin_git="outside" if git else "never")
    if as_json:
        shared.print_json(made.to_json())
        return
    print(f"{made.folder}/ predicts {target} from {made.fields} fields, inferred from {made.rows:,} rows.")
    for field, reason in made.reasons.items():
        print(f"  {field}: {reason}")
    print(f"Next: cd {made.folder} && perron run")
