"""`perron client`: a typed client of a model's service."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["client"]


def client(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The module to write, such as client.py.", metavar="FILE")
    ],
    version: Annotated[str, typer.Option(help="A version's number or an alias.")] = "champion",
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    folder: shared.Folder = Path(),
) -> None:
    """Write a typed Python client of a model's service: one module, which needs no package."""
    from perron.bundle import load
    from perron.derive.client import MARK, client_module
    from perron.errors import PerronError
    from perron.store import write_atomically

    project = shared.open_project(folder)
    row = project.ledger.get_version(shared.the_model(project, model), version)
    bundle = load(project.ledger.bundle_path(row), row["bundle"])
    if output.suffix != ".py" or not output.parent.is_dir() or output.is_dir():
        raise PerronError(f"Can't write {output}: name a .py file in a folder that is there.")
    if output.exists() and not output.read_bytes().startswith(MARK.encode()):
        raise PerronError(f"{output} wasn't made by this command, so it is left as it is; name another file.")
    text = client_module(
        bundle.schema, model=bundle.name, version=row["version"], labels=bundle.labels, has_probabilities=bundle.has_probabilities
    )  # fmt: skip
    write_atomically(output, text.encode())
    print(
        f"{output} is a client of {bundle.name} version {row['version']}: its Client, Row and Prediction are typed by the contract."
    )
