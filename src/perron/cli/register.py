"""`perron register`: a plain ONNX file becomes a version."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["register"]


def register(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    file: Annotated[Path, typer.Argument(help="An ONNX file, its weights inside.", metavar="FILE")],
    sample: Annotated[
        Path | None,
        typer.Option(
            help="A request that it answers: JSON with inputs, or .npz. [default: one is made up]", metavar="FILE"
        ),
    ] = None,
    alias: Annotated[
        str, typer.Option(help="The alias to point at it; a first version is the champion too.")
    ] = "champion",
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Register a plain ONNX file as a model that takes tensors (images, texts) over the Open Inference Protocol."""
    from perron.graph import register_graph

    made = register_graph(shared.open_or_begin_project(folder), name, file, sample=sample, alias=alias)
    if as_json:
        shared.print_json(made.to_json())
        return
    print(f"{made.name} version {made.version} is now {' and '.join(made.aliases)}.")
    for kind, items in (("input", made.bundle.inputs), ("output", made.bundle.outputs)):
        for item in items:
            print(f"{kind:<7} {item.name}  {item.datatype} {list(item.shape)}")
    print(
        "Rows are answered together under load."
        if made.bundle.is_batched
        else "Each request is run alone: its rows can't be told apart from their neighbours, or it has none."
    )
