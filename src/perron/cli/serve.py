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
    workers: Annotated[int, typer.Option(help="Processes that answer on the one port.", min=1, max=256)] = 1,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync", help="Answer only what is on the disk itself: survives a power cut, not only the process's death."
        ),
    ] = False,
    max_rows: Annotated[int, typer.Option(help="The most rows of one request.", min=1)] = 10_000,
    max_body_bytes: Annotated[int, typer.Option(help="The most bytes of one request.", min=1)] = 16 << 20,
    queue_rows: Annotated[
        int, typer.Option(help="How many rows may wait; more are refused with 429 and Retry-After.", min=1)
    ] = 20_000,
    model: Annotated[
        list[str] | None, typer.Option(help="A model to serve, the default first; may be repeated. [default: all]")
    ] = None,
    folder: shared.Folder = Path(),
) -> None:
    """Answer predictions over HTTP until Ctrl-C; every one is logged before it is answered."""
    from perron.serve.app import Settings
    from perron.serve.http import check_address, free_port
    from perron.serve.workers import serve as answer

    project = shared.open_project(folder)
    settings = Settings(
        project.predictions, max_rows=max_rows, max_body_bytes=max_body_bytes, sync=sync, queue_rows=queue_rows
    )
    port = port or free_port(host)
    check_address(host, port)
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    answer(
        settings, lambda: shared.memory_of(folder, model, version), host=host, port=port, workers=workers,
        announce=lambda plan: print(shared.serving_words(plan, place, workers), flush=True),
    )  # fmt: skip
