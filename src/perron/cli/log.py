"""`perron log`: upkeep of the prediction log."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["app", "compact"]

app = typer.Typer(help="The prediction log: compact it.", no_args_is_help=True)


@app.callback()
def _log() -> None:
    """The prediction log: compact it."""


@app.command()
def compact(
    now: Annotated[
        bool, typer.Option("--now", help="Ask running servers to begin new segments first, so that all is complete.")
    ] = False,
    folder: shared.Folder = Path(),
) -> None:
    """Turn complete segments of lines into Parquet: a tenth of the size; ids and receipts stay. Safe beside servers."""
    import time

    from perron.predictions.upkeep import ask_to_rotate
    from perron.predictions.upkeep import compact as make_compact

    log = shared.open_project(folder).predictions
    log.mkdir(parents=True, exist_ok=True)
    if now:
        ask_to_rotate(log)
        time.sleep(1.0)  # servers look twice a second
    done = make_compact(log)
    print(
        f"{done.segments:,} segments: {done.bytes_before / 1e6:,.1f} MB became {done.bytes_after / 1e6:,.1f} MB of Parquet."
    )
