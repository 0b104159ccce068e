"""`perron contract …`: what a change of the contract breaks, and for whom."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import MISTAKE, shared

if TYPE_CHECKING:
    from perron.contract import Schema

__all__ = ["Audience", "FailOn", "app", "diff"]

app = typer.Typer(
    help="Contracts beside each other: what a change breaks, and for whom.",
    cls=shared.Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
)


class FailOn(StrEnum):
    """From which level on the exit code is 1."""

    breaking = "breaking"
    additive = "additive"
    never = "never"


class Audience(StrEnum):
    """For whom a change is judged."""

    clients = "clients"
    references = "references"
    ledger = "ledger"
    retrain = "retrain"


@app.callback()
def _contract() -> None:
    """Contracts beside each other: what a change breaks, and for whom."""


@app.command()
def diff(
    old: Annotated[
        str,
        typer.Argument(help="A contract.json, a bundle's folder, a version or alias, or a system.py.", metavar="OLD"),
    ],
    new: Annotated[str, typer.Argument(help="The same. [default: the project's system.py]", metavar="NEW")] = "",
    fail_on: Annotated[FailOn, typer.Option(help="From which level on the exit code is 1.")] = FailOn.breaking,
    audiences: Annotated[
        list[Audience] | None,
        typer.Option(
            "--for",
            help="Whose breaks count for the exit code; may be repeated. [default: clients, references, ledger]",
        ),
    ] = None,
    current: Annotated[
        str | None, typer.Option(help="The API's version now, such as 1.4.0: prints the next one.", metavar="VERSION")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model, where the project has several.")] = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Compare two contracts: what breaks for API clients, stored references, the ledger, and whether to train again."""
    from perron.compatibility import AUDIENCES, LEVELS, bump_of, compare, next_version, worst

    changes = compare(_schema(old, folder, model), _schema(new or str(_own(folder)), folder, model))
    bump = bump_of(changes)
    version = None if current is None else next_version(current, bump)
    levels = {who: worst(change.effects[who] for change in changes) for who in AUDIENCES}
    counted = audiences or [Audience.clients, Audience.references, Audience.ledger]
    failed = fail_on is not FailOn.never and any(
        LEVELS.index(levels[who.value]) >= LEVELS.index(fail_on.value) for who in counted
    )
    if as_json:
        shared.print_json(
            {"levels": levels, "bump": bump, "version": version, "failed": failed,
             "changes": [change.to_json() for change in changes]}
        )  # fmt: skip
    elif not changes:
        print("The two contracts are the same.")
    else:
        for change in changes:
            told = change.was is not None or change.now is not None
            moved = f": {change.was or '–'} → {change.now or '–'}" if told else ""
            print(f"{change.field or 'the contract'}, {change.kind.replace('_', ' ')}{moved}")
            for who, effect in change.effects.items():
                if effect.level != "none" or effect.reason != "nothing changes":
                    print(f"    {who}: {effect.level}, {effect.reason}")
        print("\n" + ", ".join(f"{who} {level}" for who, level in levels.items()))
        print(f"Semantic version: {bump}{'' if version is None else f', {version}'}.")
    if failed:
        raise typer.Exit(MISTAKE)


def _own(folder: Path) -> Path:
    return shared.project_folder(folder) / shared.SYSTEM_FILE


def _schema(reference: str, folder: Path, model: str | None) -> "Schema":
    """The contract that the words name: a number is a version; else a path where there is one; else an alias.

    Raises:
        PerronError: nothing is there by that name, or it holds no contract.
    """
    from perron.compatibility import read_contract
    from perron.errors import ContractError, DeclarationError

    path = Path(reference)
    if reference.isdigit() or not path.exists():
        if "/" in reference or path.suffix in (".py", ".json"):
            raise DeclarationError(
                f"There is no {reference}; give a contract.json, a bundle's folder, a version or alias, or a system.py."
            )
        project = shared.open_project(folder)
        version = project.ledger.get_version(shared.the_model(project, model), reference)
        path = project.ledger.bundle_path(version) / "contract.json"
        if not path.is_file():
            raise ContractError(
                f"Version {version['version']} of {version['model']} is a plain graph, without a contract."
            )
        return read_contract(path)
    if path.is_dir():
        found = next((path / name for name in ("contract.json", shared.SYSTEM_FILE) if (path / name).is_file()), None)
        if found is None:
            raise DeclarationError(f"{reference} holds no contract.json and no {shared.SYSTEM_FILE}.")
        path = found
    return _declared(path) if path.suffix == ".py" else read_contract(path)


def _declared(path: Path) -> "Schema":
    """The contract of a system.py, which leaves nothing behind: another one's modules may have the same names."""
    import sys

    from perron.system import load_system

    before, places, root = set(sys.modules), list(sys.path), str(path.parent.resolve())
    try:
        return load_system(path).schema
    finally:
        sys.path[:] = places
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(root):
                del sys.modules[name]
