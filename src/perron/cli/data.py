"""`perron data …`: the snapshots, what differs between two, their Croissant metadata and their data sheet."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from perron.cli import MISTAKE, shared

__all__ = ["app", "croissant", "diff", "list_snapshots", "sheet", "show"]

app = typer.Typer(
    help="Look at the snapshots that runs were made of: list, show, diff, croissant, sheet.",
    cls=shared.Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
)
Reference = Annotated[
    str | None,
    typer.Argument(
        help="A digest or a run (four letters are enough), or a version: 3, champion, model@3. Without it, the newest.",
        metavar="SNAPSHOT",
    ),
]
MOST = 20  # lines of a kind that are printed; --json has them all


@app.command("list")
def list_snapshots(folder: shared.Folder = Path(), as_json: shared.Json = False) -> None:
    """List every snapshot, newest first: its rows, its source, its runs, and the versions made of it."""
    from perron.catalog import entries, words_of

    found = entries(shared.open_project(folder))
    if as_json:
        shared.print_json([entry.to_json() for entry in found])
        return
    shared.print_table(
        ["snapshot", "rows", "quarantined", "taken", "run", "source", "versions"],
        [
            [
                entry.digest[:12] + ("" if entry.is_present else " (removed)"),
                entry.rows,
                entry.quarantined,
                entry.made[:19].replace("T", " "),
                entry.runs[0]["run"] + (f" and {len(entry.runs) - 1} more" if len(entry.runs) > 1 else ""),
                " + ".join(filter(None, [entry.source, entry.labels])) or None,
                words_of(entry.versions) or None,
            ]
            for entry in found
        ],
    )


@app.command()
def show(reference: Reference = None, folder: shared.Folder = Path(), as_json: shared.Json = False) -> None:
    """Show a snapshot: its columns, what is in quarantine and why, the split, and where it comes from and went."""
    from perron.catalog import describe, find_entry

    project = shared.open_project(folder)
    found = describe(project, find_entry(project, reference))
    if as_json:
        shared.print_json(found)
    else:
        _print_snapshot(found)


def _print_snapshot(found: dict[str, Any]) -> None:
    from perron.catalog import words_of

    split, bad = found["split"], found["quarantined"]
    lines = [
        ("snapshot", found["digest"]),
        ("rows", f"{found['rows']:,}" + ("" if found["present"] else "; removed from the store, run again to take them")),
        ("file", found["path"]),
        ("quarantine", "none" if not bad else f"{bad:,} rows in {found['quarantine_path']}"),
        ("source", (found["source"] or "not recorded") + (f" (SHA-256 {found['source_digest'][:12]})" if found["source_digest"] else "")),
        *([("labels", found["labels"])] if found["labels"] else []),
        ("contract", f"{found['contract_name']} {found['contract'][:12]}"),
        ("split", "none yet" if split is None else f"{split['train_rows']:,} train, {split['test_rows']:,} test, {split['unused_rows']:,} neither"),
        ("runs", f"{len(found['runs'])}, the newest {found['runs'][0]['run']} ({found['runs'][0]['status']})"),
        ("versions", words_of(found["versions"]) or "none"),
    ]  # fmt: skip
    for name, value in lines:
        print(f"{name:<12} {value}")
    for fault in found["faults"][:MOST]:
        print(f"{'fault':<12} {fault['rows']:,} × {fault['examples'][0]}")
    for finding in [*found["findings"], *(split["findings"] if split else [])]:
        print(f"{'warn':<12} {finding['detail']}")
    print()
    shared.print_table(
        ["column", "kind", "role", "unit", "missing", "distinct", "min", "max"],
        [
            [c["name"], c["kind"], ", ".join(c["roles"]) or None, c["unit"], c.get("missing"), c.get("distinct"), c.get("min"), c.get("max")]
            for c in found["columns"]
        ],
    )  # fmt: skip


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="The snapshot before: digest, run or version.", metavar="A")],
    new: Annotated[str, typer.Argument(help="The snapshot after: digest, run or version.", metavar="B")],
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Compare two snapshots: the contract, the rows that came, went and changed, and what moved."""
    from perron.catalog import find_entry
    from perron.catalog.difference import difference

    project = shared.open_project(folder)
    found = difference(project, find_entry(project, old), find_entry(project, new))
    if as_json:
        shared.print_json(found)
    else:
        _print_difference(found)


def _print_difference(found: dict[str, Any]) -> None:
    schema, rows = found["schema"], found["rows"]
    print(f"from {found['from'][:12]} to {found['to'][:12]}" + (": the same rows" if found["identical"] else ""))
    for what in ("added", "removed"):
        for name in schema[what][:MOST]:
            print(f"field  {what:<8} {name}")
    for change in schema["changed"][:MOST]:
        print(f"field  changed  {change['field']}: {'; '.join(change['changes'])}")
    by = "row by row" if rows["by"] == "row" else f"by {rows['by']}"
    changed = "" if rows["changed"] is None else f", {rows['changed']:,} changed"
    print(f"rows   {rows['before']:,} → {rows['after']:,}: {rows['added']:,} added, {rows['removed']:,} removed{changed} ({by})")  # fmt: skip
    for what, examples in rows["examples"].items():
        if examples:
            print(f"       {what}: {', '.join(map(str, examples))}" + (" …" if rows[what] > len(examples) else ""))
    for name, count in list(rows["columns"].items())[:MOST]:
        print(f"       {name} changed in {count:,} rows")
    for column in found["moved"][:MOST]:
        print(f"moved  {column['moved']:.2f}  {column['column']}: {' '.join(column['changes'])}")
    if not found["moved"]:
        print("moved  nothing beyond chance")


@app.command()
def croissant(
    output: Annotated[Path, typer.Option("--output", "-o", help="The JSON-LD file to write.", metavar="FILE")],
    reference: Reference = None,
    licence: Annotated[str | None, typer.Option("--license", help="The licence's URL or SPDX id.")] = None,
    creator: Annotated[str | None, typer.Option("--creator", help="Who made the data set.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="The data set's page.")] = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Write a snapshot's Croissant metadata: its fields, its Parquet file and that file's SHA-256."""
    import json

    from perron.catalog import find_entry, schema_of
    from perron.derive.croissant import MISSING
    from perron.derive.croissant import croissant as describe

    project, system = shared.open_system(folder)
    entry = find_entry(project, reference, system.name)
    rows = project.store.get(entry.digest)
    facts = {
        "name": system.name, "digest": entry.digest, "bytes": rows.stat().st_size, "rows": entry.rows,
        "published": entry.made[:10], "content_url": os.path.relpath(rows, output.parent.resolve()),
    }  # fmt: skip
    told = {"license": licence, "creator": creator, "url": url}
    made = describe(schema_of(project, entry), facts, **told)
    shared.write_file(output, json.dumps(made, indent=2, ensure_ascii=False) + "\n")
    missing = [name for name in MISSING if told[name] is None]
    if as_json:
        shared.print_json({"output": str(output), "snapshot": entry.digest, "missing": missing})
        return
    print(f"{output}: snapshot {entry.digest[:12]}, {entry.rows:,} rows.")
    if missing:
        print(f"To publish it, say more: {', '.join(f'--{name}' for name in missing)}.")


@app.command()
def sheet(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 when the sheet is stale or edited.")
    ] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Write docs/datasheet.md, or refresh its derived parts; what people wrote stays. `perron run` keeps it current."""
    from perron.catalog.sheet import SHEET, check_sheet, refresh_sheet

    project, system = shared.open_system(folder)
    done = check_sheet(project, system.name) if check else refresh_sheet(project, system.name)
    if as_json:
        shared.print_json(done.to_json())
    else:
        state = "written" if done.is_written else "current" if done.is_current else f"stale: {'; '.join(done.reasons)}"
        print(f"{SHEET}: {state} (snapshot {done.snapshot[:12]})")
    if not done.is_current:
        raise typer.Exit(MISTAKE)
