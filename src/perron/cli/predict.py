"""`perron predict`: a file of rows in, a file of predictions out."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["predict"]


def predict(
    rows: Annotated[str, typer.Argument(help="The rows: a file, a folder or a URL.", metavar="SOURCE")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write: .parquet or .csv.", metavar="FILE")
    ],
    version: Annotated[str, typer.Option(help="A version's number or an alias.")] = "champion",
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    query: shared.Query = None,
    option: shared.Options = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Predict every row of a file, in order; each prediction has an id and a receipt."""
    from perron.batch import predict_file
    from perron.bundle import load
    from perron.cli.counter import Counter
    from perron.errors import SourceError
    from perron.history import journal_path
    from perron.source import open_source

    if output.exists() and Path(rows).exists() and output.samefile(rows):
        raise SourceError(f"{output} is the file of the rows itself; name another one.")
    project = shared.open_project(folder)
    row = project.ledger.get_version(shared.the_model(project, model), version)
    bundle = load(project.ledger.bundle_path(row), row["bundle"])
    if bundle.history is not None:
        bundle.history.attach(journal_path(project.predictions, bundle.name))
    source = open_source(shared.described(rows, query, option))
    with Counter("rows", quiet=as_json) as counter:
        done = predict_file(bundle, row["version"], source, output, project.predictions, counter, secret=project.secret)
    if as_json:
        shared.print_json(
            {"output": str(output), "model": {"name": bundle.name, "version": row["version"]}, **vars(done)}
        )
        return
    print(
        f"{output}: {done.rows - done.bad:,} of {done.rows:,} rows predicted by {bundle.name} version {row['version']}."
    )
    if done.bad:
        print(f"{done.bad:,} rows break the contract and have none; the column fault says why: {done.faults}")
