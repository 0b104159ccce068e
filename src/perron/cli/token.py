"""`perron token`: who may ask a server."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["app", "create", "export", "revoke", "show"]

app = typer.Typer(help="Bearer tokens of the project's servers: make, list and revoke them.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is; shown in logs.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="predict, outcome, read or admin; may be repeated. [default: predict]")
    ] = None,
    requests_per_s: Annotated[float | None, typer.Option(help="How often it may ask. [default: no limit]")] = None,
    days: Annotated[float | None, typer.Option(help="How long it holds. [default: until it is revoked]")] = None,
    folder: shared.Folder = Path(),
) -> None:
    """Make a token and print it, this once: the ledger keeps only its hash. Servers know it within half a second."""
    from perron.tokens import make_token

    ledger = shared.open_project(folder).ledger
    print(make_token(ledger, name, scope or ["predict"], requests_per_s=requests_per_s, days=days))


@app.command("list")
def show(folder: shared.Folder = Path(), as_json: shared.Json = False) -> None:
    """List the tokens: names, scopes and times; never the tokens themselves."""
    rows = shared.open_project(folder).ledger.list_tokens()
    if as_json:
        shared.print_json([{key: value for key, value in row.items() if key != "sha256"} for row in rows])
        return
    heads = ["name", "scopes", "requests/s", "made", "expires", "revoked"]
    shared.print_table(
        heads,
        [[r["name"], " ".join(r["scopes"]), r["requests_per_s"], r["made"], r["expires"], r["revoked"]] for r in rows],
    )


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="The token's name.")], folder: shared.Folder = Path()) -> None:
    """Revoke a token: servers refuse it within half a second."""
    shared.open_project(folder).ledger.revoke_token(name)
    print(f"The token {name} is revoked.")


@app.command()
def export(folder: shared.Folder = Path()) -> None:
    """Print the tokens in force as their hashes: the PERRON_TOKENS of a server without a project."""
    from perron.errors import NotFound
    from perron.tokens import tokens_in_force, tokens_text

    tokens = tokens_in_force(shared.open_project(folder).ledger)
    if not tokens:
        raise NotFound("No token is in force; make one with `perron token create`.")
    print(tokens_text(tokens))
