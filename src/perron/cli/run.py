"""`perron run`: the pipeline."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from perron.cli import REFUSED, shared

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]


def run(folder: shared.Folder = Path(), as_json: shared.Json = False) -> None:
    """Run the pipeline: snapshot, split, train, evaluate, gates, bundle, register. What is done already is not done again."""
    from perron.catalog.sheet import keep_sheet
    from perron.cli.progress import Progress
    from perron.pipeline import run_pipeline

    project, system = shared.open_system(folder)
    with Progress(quiet=as_json) as progress:
        result = run_pipeline(system, project, progress)
    if as_json:
        shared.print_json(result.to_json())
    else:
        _print(result.to_json(), project.store.path)
    keep_sheet(project, system.name)
    if result.status == "refused":
        raise typer.Exit(REFUSED)


def _print(result: dict[str, Any], path_of: "Callable[[str], Path]") -> None:
    data, metrics = result["data"], result["metrics"]
    print()
    shared.print_table(
        ["metric", "test", "baseline"], [[name, value, result["baseline"].get(name)] for name, value in metrics.items()]
    )
    if result["folds"]:
        folds = result["folds"]
        shown = [f"{name} {shared.show(m['mean'])} ± {shared.show(m['std'])}" for name, m in folds["metrics"].items()]
        print(f"\nfolds {folds['count']}, {folds['kind']} within the train rows: {', '.join(shown)}")
    print()
    for finding in result["findings"]:
        print(f"warn  {finding['detail']}")
    for gate in result["gates"]:
        compared = (
            "" if gate["limit"] is None else f" ({shared.show(gate['value'])} against {shared.show(gate['limit'])})"
        )
        print(f"gate  {'passed' if gate['passed'] else 'NOT PASSED'}: {gate['name']}{compared}")
    print(
        f"data  {data['rows']:,} rows, snapshot {data['snapshot'][:12]}"
        + (
            f", {data['quarantined']:,} quarantined in {path_of(data['quarantine'])}"
            if data["quarantined"]
            else ", none quarantined"
        )
    )
    if result["parity"]:
        parity = result["parity"]
        print(
            f"graph answers as the model does on all {parity['rows']:,} test rows (largest relative error {parity['max_relative_error']:.1e})"
        )
    if result["status"] == "refused":
        print(f"model refused: a gate wasn't passed, nothing was registered (run {result['run']})")
    else:
        model = result["model"]
        is_champion = model["champion"] == model["version"]
        what = (
            "is the champion"
            if is_champion
            else f"is registered; version {model['champion']} was made champion by hand"
        )
        print(f"model {model['name']} version {model['version']} {what} (run {result['run']})")
