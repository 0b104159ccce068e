"""`perron dashboard`: the project in a browser."""

from pathlib import Path
from typing import Annotated, cast

import typer

from perron.cli import shared

__all__ = ["dashboard"]


def dashboard(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for any free one.", min=0, max=65535)] = 8501,
    server: Annotated[
        str, typer.Option(help="The running service, which the form asks.", metavar="URL")
    ] = "http://127.0.0.1:8000",
    role: Annotated[str, typer.Option(help="viewer, or operator, who may promote and roll back.")] = "viewer",
    allow_anonymous: Annotated[
        bool,
        typer.Option("--allow-anonymous", help="Listen on a public address although nobody is asked who they are."),
    ] = False,
    folder: shared.Folder = Path(),
) -> None:
    """Show the project in a browser until Ctrl-C: models, data, runs, live traffic and drift, a form, outcomes."""
    from perron.errors import PerronError
    from perron.pages.dashboard import Role, Settings, start
    from perron.serve.http import Address, free_port

    shared.demand_known("role", role, ("viewer", "operator"))
    project = shared.open_project(folder)
    settings = Settings(project.folder, server, cast(Role, role))
    settings.client().close()
    address = Address(host, port or free_port(host))
    address.check(is_guarded=True)
    if not address.is_loopback and not allow_anonymous:
        raise PerronError(
            f"{host} can be reached from outside, and nobody is asked who they are; say --allow-anonymous."
        )
    start(settings, host, address.port, f"The dashboard of {project.folder.name} is at {address.url}. Ctrl-C stops it.")
