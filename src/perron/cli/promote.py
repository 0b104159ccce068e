"""`perron promote`: point an alias at a version."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["promote"]


def promote(
    version: Annotated[int, typer.Argument(help="The version's number.")],
    alias: Annotated[str, typer.Option(help="The alias to point at it.")] = "champion",
    reason: Annotated[str | None, typer.Option(help="Why; kept in the ledger.")] = None,
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    folder: shared.Folder = Path(),
) -> None:
    """Point an alias (champion) at a version: forward, or back to an earlier one."""
    from perron.deployments import end_test

    project = shared.open_project(folder)
    name = shared.the_model(project, model)
    project.ledger.set_alias(name, alias, version, reason)
    print(f"{name} version {version} is now {alias}.")
    if alias == "champion" and end_test(project, name, version):
        print("The test that it was in is over: it alone answers.")
