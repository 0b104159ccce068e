"""`perron rollback`: the version that was live before."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import delivery, shared

__all__ = ["rollback"]


def rollback(
    env: Annotated[str, typer.Option("--env", help="The environment.", metavar="ENV")],
    reason: Annotated[str | None, typer.Option(help="Why; kept in the ledger.")] = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Bring back the version that was live before, by the way it came; it asks for no approvals."""
    from perron.delivery import person, roll_back
    from perron.environments import get_environment

    project = shared.open_project(folder)
    environment = get_environment(project.folder, env)
    row = roll_back(project, environment, who=person(project.folder), reason=reason)
    delivery.report(project, row, as_json)
