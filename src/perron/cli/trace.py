"""`perron trace`: a prediction's receipt."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["trace"]

FROM_FILE = "not known: the model was registered from a file"


def trace(
    prediction: Annotated[str, typer.Argument(help="The prediction's id.")],
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Show the receipt of a prediction: its model, run, data, code, environment and outcome."""
    from perron.receipts import receipt

    project = shared.open_project(folder)
    found = receipt(project.predictions, project.ledger, prediction)
    if as_json:
        shared.print_json(found)
        return
    made, model, data, code, environment = (
        found[key] for key in ("prediction", "model", "data", "code", "environment")
    )
    rows = [
        [
            "prediction",
            f"{made['value']}"
            + (
                f"  ({', '.join(f'{k} {v:.3f}' for k, v in made['probabilities'].items())})"
                if "probabilities" in made
                else ""
            ),
        ],
        ["id", made["id"]],
        ["time", f"{made['time']}, route {made['route']}"],
        *[
            ["input" if place == 0 else "", f"{name} = {value}"]
            for place, (name, value) in enumerate(made["input"].items())
        ],
        [
            "model",
            f"{model['name']} version {model['version']}, bundle {model['bundle'][:12]}"
            + ("" if found["resolved"]["model"] else "  (not in this ledger)"),
        ],
        *(
            [["deployment", f"deployment {found['deployment']['id']} in {found['deployment']['environment']}"]]
            if "deployment" in found
            else []
        ),
        ["run", found["run"] + ("" if found["resolved"]["run"] else "  (not in this ledger)")],
        [
            "data",
            FROM_FILE
            if data is None
            else f"snapshot {data['snapshot'][:12]}, {data['rows']:,} rows, contract {data['contract'][:12]}",
        ],
        [
            "code",
            FROM_FILE
            if code is None
            else "no git"
            if code["commit"] is None
            else f"commit {code['commit'][:12]}"
            + (f", uncommitted changes {code['dirty'][:12]}" if code["dirty"] else ", no uncommitted changes"),
        ],
        [
            "environment",
            FROM_FILE
            if environment is None
            else f"Python {environment['python']}, packages {environment['packages'][:12]}",
        ],
        [
            "outcome",
            "none yet" if found["outcome"] is None else f"{found['outcome']['value']} at {found['outcome']['time']}",
        ],
    ]
    for name, value in rows:
        print(f"{name:<12} {value}")
