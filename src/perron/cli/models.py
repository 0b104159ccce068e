"""`perron models`: what was registered."""

from pathlib import Path

from perron.cli import shared

__all__ = ["models"]


def models(folder: shared.Folder = Path(), as_json: shared.Json = False) -> None:
    """List the model versions, with their aliases, runs and bundles."""
    found = shared.open_project(folder).ledger.list_versions()
    if as_json:
        shared.print_json(found)
        return
    shared.print_table(
        ["model", "version", "alias", "run", "bundle"],
        [[v["model"], v["version"], ", ".join(v["aliases"]) or None, v["run"], v["bundle"][:12]] for v in found],
    )
