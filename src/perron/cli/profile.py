"""`perron profile`: a source in, a page or JSON out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import shared

if TYPE_CHECKING:
    from perron.profile import Profile
    from perron.source import Description

__all__ = ["profile"]


def profile(
    source: Annotated[str, typer.Argument(help="The table: a file, a folder or a URL.", metavar="SOURCE")],
    target: Annotated[
        str | None,
        typer.Option("--target", help="The column to predict; leakage is judged against it.", metavar="COLUMN"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The page to write.", metavar="FILE")] = None,
    against: Annotated[
        str | None, typer.Option("--against", help="Another source, such as last month's: what moved.", metavar="OTHER")
    ] = None,
    sensitive: Annotated[
        list[str] | None,
        typer.Option(
            "--sensitive",
            help="A column that is only counted, beside those of the contract; may be repeated.",
            metavar="COLUMN",
        ),
    ] = None,
    query: shared.Query = None,
    option: shared.Options = None,
    as_json: shared.Json = False,
) -> None:
    """Profile a table: what is in it, what would cost a model, and what tells the target."""
    from perron.profile import profile as make_profile
    from perron.store import write_atomically

    described = shared.described(source, query, option)
    hidden = [*(sensitive or ()), *_declared_sensitive(described)]
    made = make_profile(described, target=target, against=against, sensitive=hidden)
    if output is not None:
        write_atomically(output, made.to_html())
    if as_json:
        shared.print_json(made.to_json())
        return
    _print(made)
    if output is not None:
        print(f"\n{output}: {output.stat().st_size / 1e6:.2f} MB")


def _declared_sensitive(source: "Description") -> list[str]:
    """The columns of the source that the contract of the project around the working folder calls `Sensitive`."""
    from perron.errors import DeclarationError
    from perron.source import open_source

    try:
        folder = shared.project_folder(Path())
    except DeclarationError:  # no project
        return []
    from perron.contract import Role
    from perron.system import load_system

    fields = load_system(folder / shared.SYSTEM_FILE).schema.fields
    hidden = {name for field in fields if Role.SENSITIVE in field.roles for name in (field.column, field.name)}
    return [name for name in open_source(source).names if name in hidden] if hidden else []


def _print(made: "Profile") -> None:
    print(f"{made.name}: {made.rows:,} rows, {len(made.columns):,} columns")
    for finding in made.findings[:30]:
        print(
            f"  {finding.severity:<7} {finding.kind.replace('_', ' '):<18} {finding.column or '':<24} {finding.detail}"
        )
    if len(made.findings) > 30:
        print(f"  … and {len(made.findings) - 30:,} more; --json has them all")
    for column in (made.difference or {"columns": []})["columns"][:30]:
        print(f"  moved   {column['moved']:<18.2f} {column['column']:<24} {' '.join(column['changes'])}")
