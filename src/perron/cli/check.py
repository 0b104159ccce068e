"""`perron check`: the contract and the declared rules, on a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import MISTAKE, shared
from perron.errors import DeclarationError

if TYPE_CHECKING:
    from perron.check.report import Checked

__all__ = ["check"]

MARKS = {"stop": "✗", "warn": "!"}


def check(
    source: Annotated[
        str | None,
        typer.Argument(help="The table: a file, a folder or a URL. Without it, the system's own.", metavar="[SOURCE]"),
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Write JUnit XML for CI.", metavar="FILE")] = None,
    query: shared.Query = None,
    option: shared.Options = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Check a table against the contract and the system's rules. Exit code 1 when a rule stops, else 0."""
    from perron.source import ReadAhead, open_source, shown
    from perron.system import load_system

    root = shared.project_folder(folder)
    system = load_system(root / shared.SYSTEM_FILE)
    if source is None and (query or option):
        raise DeclarationError("--query and --option say how to read a SOURCE; name one.")
    named = shared.described(source, query, option) if source else system.source
    with ReadAhead(open_source(named, Path() if source else root)) as opened:  # while it is read, the judge is loaded
        from perron.check.report import check_source, to_junit
        from perron.cli.counter import Counter
        from perron.store import write_atomically

        shared.resume_collection()
        with Counter("rows", quiet=as_json) as counter:
            checked = check_source(
                opened, system.schema, system.checks,
                name=shown(named), folder=root, max_bad_share=system.max_bad_share, progress=counter,
            )  # fmt: skip
    if junit is not None:
        write_atomically(junit, to_junit(checked))
    if as_json:
        shared.print_json(checked.to_json())
    else:
        _print(checked)
    if checked.status == "stop":
        raise typer.Exit(MISTAKE)


def _print(checked: "Checked") -> None:
    for found in checked.checks:
        if found["status"] != "passed":
            print(f"{MARKS[found['status']]} {found['status']}  {found['name']}: {found['detail']}")
    good = sum(found["status"] == "passed" for found in checked.checks)
    print(
        f"{checked.source}: {checked.status}; {good} of {len(checked.checks)} checks passed, "
        f"{checked.rows - checked.bad:,} of {checked.rows:,} rows good"
    )
