"""`perron ship`: files for other tools, derived from the system."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import MISTAKE, shared

__all__ = ["app", "monitoring"]

app = typer.Typer(help="Files for other tools, derived from the system.", no_args_is_help=True)


@app.callback()
def _ship() -> None:
    """Files for other tools, derived from the system."""


@app.command()
def monitoring(
    output: Annotated[Path, typer.Argument(help="The folder that the files go to.", metavar="FOLDER")],
    target: Annotated[
        list[str] | None, typer.Option(help="A server to watch; may be repeated. [default: http://127.0.0.1:8000]")
    ] = None,
    token_file: Annotated[
        str | None, typer.Option(help="A file with a bearer token (scope read), as Prometheus sees it.", metavar="FILE")
    ] = None,
    prometheus_url: Annotated[str, typer.Option(help="Prometheus, as Grafana reaches it.")] = "http://prometheus:9090",
    max_error_share: Annotated[
        float | None,
        typer.Option(help="Of a version's requests, above which is an alert. [default: canvas.toml's, or 0.01]"),
    ] = None,
    max_p99_ms: Annotated[
        float | None,
        typer.Option(help="That the slowest 1 % may take before there is an alert. [default: canvas.toml's, or 500]"),
    ] = None,
    availability: Annotated[
        float | None,
        typer.Option(
            help="The share of good answers that is aimed at; the rest is the error budget. [default: canvas.toml's, or 0.999]"
        ),
    ] = None,
    max_queue_rows: Annotated[int, typer.Option(help="That may wait before there is an alert.")] = 10_000,
    force: Annotated[bool, typer.Option("--force", help="Write over files that a person changed, too.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 when a file is stale.")] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Write Prometheus's configuration and rules, their tests, and a Grafana board, all for the project's servers."""
    from perron.canvas import read_canvas
    from perron.levels import limits_of
    from perron.ship.files import write_files
    from perron.ship.grafana import grafana_files
    from perron.ship.prometheus import prometheus_files

    project, system = shared.open_system(folder)
    limits = limits_of(
        read_canvas(project.folder), max_error_share=max_error_share, max_p99_ms=max_p99_ms, availability=availability,
        max_queue_rows=max_queue_rows,
    )  # fmt: skip
    files = {
        **prometheus_files([system.name], limits, targets=target or ["http://127.0.0.1:8000"], token_file=token_file),
        **grafana_files(system.name, prometheus_url=prometheus_url),
    }
    statuses = write_files(output, files, force=force, is_check=check)
    if as_json:
        shared.print_json(statuses)
    else:
        words = {"changed": "changed by hand, left alone (--force writes it)"}
        for name, status in statuses.items():
            print(f"{output / name}: {words.get(status, status)}")
    if check and "stale" in statuses.values():
        raise typer.Exit(MISTAKE)
