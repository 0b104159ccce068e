"""`perron drift`: two sources in, what moved between them out."""

from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["drift"]


def drift(
    before: Annotated[str, typer.Argument(help="The reference: a file, a folder or a URL.", metavar="BEFORE")],
    now: Annotated[str, typer.Argument(help="What is held to it.", metavar="NOW")],
    effect: Annotated[
        float, typer.Option(help="The least distance that counts (Kolmogorov-Smirnov, Cohen's w).", min=0, max=1)
    ] = 0.1,
    alpha: Annotated[
        float, typer.Option(help="The chance of a false alarm, over all columns together.", min=0, max=1)
    ] = 0.01,
    fail: Annotated[bool, typer.Option("--fail", help="Exit with 1 where something drifted, for CI.")] = False,
    as_json: shared.Json = False,
) -> None:
    """Find what drifted between two tables: what moved, by how much, and not by chance."""
    from perron.drift import Limits, find_drift
    from perron.profile import sketch_of

    reference, window = (sketch_of(shared.described(source)) for source in (before, now))
    found = find_drift(reference, window, Limits(effect=effect, alpha=alpha))
    only = {
        "only_before": [name for name in reference.columns if name not in window.columns],
        "only_now": [name for name in window.columns if name not in reference.columns],
    }
    if as_json:
        rows = {"before": reference.rows, "now": window.rows}
        shared.print_json({"rows": rows, **only, "drifts": [one.to_json() for one in found]})
    else:
        print(f"{window.rows:,} rows against {reference.rows:,}: {len(found) or 'nothing'} drifted")
        for one in found:
            print(f"  {one.severity:<7} {one.kind.replace('_', ' '):<13} {one.column:<24} {one.detail}")
        for where, names in only.items():
            for name in names:
                print(f"  {where.replace('_', ' '):<21} {name}")
    if fail and (found or any(only.values())):
        raise typer.Exit(1)
