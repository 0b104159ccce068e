"""`perron tune`: measurements that decide how a system is run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perron.tune.loadtest import Measured

__all__ = ["app", "loadtest"]

app = typer.Typer(help="Measure how a system runs best.", no_args_is_help=True)
HEADS = ("workers", "connections", "requests/s", "rows/s", "p50 ms", "p95 ms", "p99 ms", "refused", "failed")


@app.command()
def loadtest(
    url: Annotated[
        str | None, typer.Argument(help="A server that runs. [default: servers of the project are started]")
    ] = None,
    connections: Annotated[str, typer.Option(help="How many at once, parted by commas.")] = "1,32,256",
    seconds: Annotated[float, typer.Option(help="Of each run.", min=0.1, max=3600)] = 3.0,
    rows: Annotated[int, typer.Option(help="Of each request.", min=1)] = 1,
    version: Annotated[str, typer.Option(help="Of the project: a number or an alias.")] = "champion",
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    token: Annotated[
        str | None, typer.Option(help="A bearer token for URL.", envvar="PERRON_TOKEN", show_envvar=False)
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit code 1 where no run holds the canvas's min_rows_per_s and max_p99_ms.")
    ] = False,
    json_: shared.Json = False,
    folder: shared.Folder = Path(),
) -> None:
    """Load a server, and say what it answers how soon; without URL, with how many workers the project is served best."""
    from perron.tune import loadtest as tune

    budgets = _budgets(folder, is_demanded=check)
    counts = shared.whole_numbers("connections", connections, 10_000)
    if url is not None:
        found = list(tune.measure_url(url, counts, seconds, rows, token))
    else:
        project, bundle = shared.bundle_of(folder, model, version)
        workers = tune.worker_counts()
        found = list(tune.measure_workers(bundle, project.folder / ".perron", workers, counts, seconds, rows))
    best = tune.recommend(found)
    verdict = tune.held(found, budgets)
    if json_:
        workers_, threads = (best.workers, best.threads) if best else (None, None)
        told = None if verdict is None else {"held": verdict[0], "detail": verdict[1]}
        shared.print_json(
            {"runs": [one.to_json() for one in found], "workers": workers_, "threads": threads, "budgets": told}
        )
    else:
        _print(found, best)
        if verdict is not None:
            print(verdict[1])
    if best is None or (check and verdict is not None and not verdict[0]):
        raise typer.Exit(1)


def _budgets(folder: Path, *, is_demanded: bool) -> dict[str, float]:
    """The canvas's budgets that a load test can judge; none where there is no project or no canvas.

    Raises:
        DeclarationError: they are demanded, and there are none; or the canvas is wrong.
    """
    from perron.canvas import FILE, read_canvas
    from perron.errors import DeclarationError

    try:
        home = shared.project_folder(folder)
    except DeclarationError:
        if is_demanded:
            raise
        return {}
    canvas = read_canvas(home)
    found = {} if canvas is None else {name: canvas.get("budgets", name) for name in ("min_rows_per_s", "max_p99_ms")}
    budgets = {name: float(value) for name, value in found.items() if value is not None}
    if is_demanded and not budgets:
        raise DeclarationError(f"--check needs min_rows_per_s or max_p99_ms in {FILE}; `perron canvas new` begins one.")
    return budgets


def _print(found: "Sequence[Measured]", best: "Measured | None") -> None:
    from perron.tune.loadtest import words

    rows = [one.to_json() for one in found]
    names = (
        "workers",
        "connections",
        "requests_per_s",
        "rows_per_s",
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "refused",
        "failed",
    )
    shared.print_table(HEADS, [[row[name] for name in names] for row in rows])
    for line in words(found, best):
        print(line)
