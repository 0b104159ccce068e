"""`perron schedule`: what the machine's own scheduler runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["schedule"]


def schedule(
    rows: Annotated[str, typer.Argument(help="The rows, as for `perron predict`.", metavar="SOURCE")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="The sink, with {date}, {hour}, {week} or {month} in it.", metavar="SINK"),
    ],
    every: Annotated[str, typer.Option(help="hour, day, week or month.", metavar="PERIOD")] = "day",
    at: Annotated[str, typer.Option(help="The machine's time of day.", metavar="HH:MM")] = "03:00",
    to: Annotated[str, typer.Option("--for", help="cron or systemd.", metavar="SCHEDULER")] = "cron",
    version: Annotated[str, typer.Option(help="A version's number or an alias.")] = "champion",
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    folder: shared.Folder = Path(),
) -> None:
    """Print what cron or systemd needs to predict every period; nothing is installed."""
    from perron.errors import PerronError, nearest
    from perron.schedule import crontab, systemd

    writers = {"cron": crontab, "systemd": systemd}
    if to not in writers:
        raise PerronError(f"Perron knows no scheduler {to!r}; {nearest(to, writers)}")
    command = [sys.executable, "-m", "perron", "predict", rows, "-o", output, "--once", "--version", version]
    command += ["--model", model] if model is not None else []
    print(writers[to](every, at, command, shared.project_folder(folder), output), end="")
