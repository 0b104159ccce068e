"""`perron predict`: rows of a source in, predictions into a sink."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import shared

if TYPE_CHECKING:
    from perron.batch import Runner

__all__ = ["predict"]


def predict(
    rows: Annotated[str, typer.Argument(help="The rows: a file, a folder or a URL.", metavar="SOURCE")],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="A file (by ending), URL, table or - for standard output.", metavar="SINK"),
    ],
    version: Annotated[str, typer.Option(help="A version's number or an alias.")] = "champion",
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    query: shared.Query = None,
    option: shared.Options = None,
    on: Annotated[str, typer.Option(help="Where: local, or ray.", metavar="PLACE")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Processes that predict. [default: local 1, ray one per core]", min=1, max=1024)
    ] = None,
    chunk_rows: Annotated[int, typer.Option(help="Rows of a chunk.", min=1, max=10_000_000)] = 65_536,
    once: Annotated[
        bool, typer.Option("--once", help="Do nothing where the output is there already: for schedules.")
    ] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Predict every row of a source, in order; each prediction has an id and a receipt."""
    from perron.batch import predict_source
    from perron.bundle import load
    from perron.cli.counter import Counter
    from perron.errors import SinkError
    from perron.history import journal_path
    from perron.schedule import fill
    from perron.sink import open_sink
    from perron.source import open_source

    rows, output = fill(rows), fill(output)
    if Path(output).exists() and Path(rows).exists() and Path(output).samefile(rows):
        raise SinkError(f"{output} is the file of the rows itself; name another one.")
    runner = _runner(on, workers)
    sink = open_sink(output)
    project = shared.open_project(folder)
    if once and sink.is_complete():
        if as_json:
            shared.print_json({"output": sink.name, "status": "there already"})
        else:
            shared.error_line(f"{sink.name} is there already.")
        return
    row = project.ledger.get_version(shared.the_model(project, model), version)
    bundle = load(project.ledger.bundle_path(row), row["bundle"])
    if bundle.history is not None:
        bundle.history.attach(journal_path(project.predictions, bundle.name))
    source = open_source(shared.described(rows, query, option))
    with Counter("rows", quiet=as_json) as counter:
        done = predict_source(
            bundle, row["version"], source, sink, log_folder=project.predictions,
            home=project.folder / ".perron" / "batches", secret=project.secret, runner=runner, chunk_rows=chunk_rows, progress=counter,
            tell=shared.error_line,
        )  # fmt: skip
    if as_json:
        shared.print_json({"output": sink.name, "status": "done", "model": {"name": bundle.name, "version": row["version"]}, **vars(done)})  # fmt: skip
        return
    say = shared.error_line if output == "-" else print
    say(f"{sink.name}: {done.rows - done.bad:,} of {done.rows:,} rows predicted by {bundle.name} version {row['version']}.")  # fmt: skip
    if done.bad:
        say(f"{done.bad:,} rows break the contract and have none; the column fault says why: {done.faults}")


def _runner(on: str, workers: int | None) -> "Runner | None":
    from perron.errors import MissingPackage, PerronError, nearest

    if on == "ray":
        try:
            from perron.runners.ray import Ray
        except ModuleNotFoundError as error:
            raise MissingPackage("Predicting on Ray needs ray: pip install 'perron[ray]'.") from error
        return Ray(workers)
    if on != "local":
        raise PerronError(f"There is no place {on!r} to predict on; {nearest(on, ('local', 'ray'))}")
    if workers in (None, 1):
        return None
    from perron.runners.processes import Processes

    return Processes(workers or 1)
