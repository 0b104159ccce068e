"""`perron serve`: the API."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["serve"]


def serve(
    version: Annotated[str, typer.Argument(help="A version's number or an alias.")] = "champion",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for any free one.", min=0, max=65535)] = 8000,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync", help="Answer only what is on the disk itself: survives a power cut, not only the process's death."
        ),
    ] = False,
    max_rows: Annotated[int, typer.Option(help="The most rows of one request.", min=1)] = 10_000,
    max_body_bytes: Annotated[int, typer.Option(help="The most bytes of one request.", min=1)] = 16 << 20,
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    folder: shared.Folder = Path(),
) -> None:
    """Answer predictions over HTTP until Ctrl-C; every one is logged before it is answered."""
    from perron.bundle import load
    from perron.serve.app import Settings
    from perron.serve.http import free_port
    from perron.serve.http import serve as answer

    project = shared.open_project(folder)
    row = project.ledger.get_version(shared.the_model(project, model), version)
    bundle = load(project.ledger.bundle_path(row), row["bundle"])
    settings = Settings(
        project.predictions,
        max_rows=max_rows,
        max_body_bytes=max_body_bytes,
        sync=sync,
        route=version,
        outcome=project.ledger.get_outcome,
    )
    port = port or free_port(host)
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    answer(
        bundle,
        row["version"],
        settings,
        host=host,
        port=port,
        announce=lambda: print(
            f"{bundle.name} version {row['version']} answers at {place} (its page: {place}/docs). Ctrl-C stops it.",
            flush=True,
        ),
    )
