"""`perron forget`: deletion by subject, and by age."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["forget"]


def forget(
    subject: Annotated[
        str | None, typer.Option("--id", help="The value of the contract's Id: every prediction of it goes.")
    ] = None,
    field: Annotated[str | None, typer.Option(help="Another field than the Id, by its name.")] = None,
    older_than_days: Annotated[
        float | None, typer.Option(help="Segments of the log in which everything is older go.", min=0)
    ] = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Delete predictions and their outcomes for good: those of one subject, or those of a certain age."""
    from perron.errors import DataError
    from perron.forget import forget_older, forget_subject

    if (subject is None) == (older_than_days is None):
        raise DataError("Say what to forget: --id VALUE, or --older-than-days N.")
    project = shared.open_project(folder)
    if subject is not None:
        gone = forget_subject(project, subject, field)
    else:
        gone = forget_older(project, older_than_days or 0.0)
    if as_json:
        shared.print_json({"predictions": len(gone.predictions), "segments": gone.segments})
    else:
        print(f"{len(gone.predictions):,} predictions in {gone.segments:,} segments of the log are forgotten.")
