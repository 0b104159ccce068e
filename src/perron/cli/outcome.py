"""`perron outcome`: what really happened."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from perron.cli import shared

__all__ = ["outcome"]


def outcome(
    prediction: Annotated[str, typer.Argument(help="The prediction's id.")],
    value: Annotated[str, typer.Argument(help="What really happened: a number or a class.")],
    folder: shared.Folder = Path(),
) -> None:
    """Record the outcome of a prediction; a later one corrects an earlier one."""
    from perron.outcomes import record_outcome

    project = shared.open_project(folder)
    record_outcome(project, prediction, _parsed(value))
    print(f"The outcome of {prediction} is {value}.")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
