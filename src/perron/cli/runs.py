"""`perron runs`: what was run."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["runs"]


def runs(
    run: Annotated[str | None, typer.Argument(help="One run, in full.")] = None,
    limit: Annotated[int, typer.Option(help="How many of the newest.", min=1)] = 20,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """List the runs, newest first, with their metrics; or show one."""
    ledger = shared.open_project(folder).ledger
    if run is not None:
        shared.print_json(ledger.get_run(run))
        return
    found = ledger.list_runs(limit)
    if as_json:
        shared.print_json(found)
        return
    names = list(dict.fromkeys(name for row in found for name in row["metrics"]))[:4]
    shared.print_table(
        ["run", "system", "status", *names],
        [[row["id"], row["system"], row["status"], *(row["metrics"].get(name) for name in names)] for row in found],
    )
