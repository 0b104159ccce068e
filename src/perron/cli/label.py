"""`perron label …`: rows out for people to label, and their labels back."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import MISTAKE, shared

if TYPE_CHECKING:
    from perron.labels.take import Taken

__all__ = ["How", "app", "export", "import_labels"]

app = typer.Typer(
    help="Choose rows for people to label, and take their labels back: export, import.",
    cls=shared.Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
)


class How(StrEnum):
    """How rows are chosen."""

    random = "random"
    uncertainty = "uncertainty"
    drifted = "drifted"


@app.command("export")
def export(
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The file to write: .csv, .jsonl, or .json for Label Studio.", metavar="FILE"
        ),
    ],
    source: Annotated[
        str | None,
        typer.Argument(help="Rows without a target. Without SOURCE: logged predictions that have no outcome yet."),
    ] = None,
    how: Annotated[
        How,
        typer.Option("--how", help="At random, where the champion is least certain, or least like the training data."),
    ] = How.random,
    rows: Annotated[int, typer.Option("--rows", help="How many.", min=1)] = 100,
    seed: Annotated[int, typer.Option("--seed", help="For what is left to chance.", min=0)] = 0,
    config: Annotated[
        Path | None, typer.Option("--config", help="Also write Label Studio's labelling configuration.", metavar="FILE")
    ] = None,
    with_sensitive: Annotated[
        bool, typer.Option("--with-sensitive", help="Show people the fields that the contract marks as sensitive.")
    ] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Write rows for people to label, with what the champion says of each."""
    from perron.cli.counter import Counter
    from perron.labels.ask import ask
    from perron.labels.files import config as make_config
    from perron.source import open_source

    project, system = shared.open_system(folder)
    opened = None if source is None else open_source(source)
    with Counter("rows", quiet=as_json) as counter:
        asked = ask(
            project, system, opened, output,
            how=how.value, rows=rows, seed=seed, with_sensitive=with_sensitive, progress=counter,
        )  # fmt: skip
    if config is not None:
        shared.write_file(config, make_config(system.schema))
    if as_json:
        shared.print_json(asked.to_json())
        return
    print(f"{output}: {len(asked.tasks):,} of {asked.candidates:,} rows without a label, chosen by {how.value}.")
    if len(asked.tasks) < rows:
        print(f"{rows:,} were asked for; there are no more.")
    for count, words in (
        (asked.labelled, "have a label already"),
        (asked.broken, "break the contract"),
        (asked.doubles, "are doubles of others"),
    ):
        if count:
            print(f"{count:,} rows {words} and were left out.")
    if asked.auc is not None:
        print(f"A classifier tells these rows from the training data with an AUC of {asked.auc:.2f} (0.5: not at all).")


@app.command("import")
def import_labels(
    file: Annotated[Path, typer.Argument(help="What people filled in: .csv, .jsonl, or Label Studio's JSON export.")],
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Take labels back: as outcomes of logged predictions, and as rows to train on. All of them, or none."""
    from perron.labels.take import take

    project, system = shared.open_system(folder)
    taken = take(project, system, file)
    if as_json:
        shared.print_json(taken.to_json())
    elif taken.faults:
        for fault in taken.faults:
            shared.error_line(fault.message)
        shared.error_line(
            f"perron: {len(taken.faults):,} faults in {file}; nothing was taken, mend them and import again."
        )
    else:
        _print(taken, system.labels is None)
    if taken.faults:
        raise typer.Exit(MISTAKE)


def _print(taken: "Taken", is_undeclared: bool) -> None:
    print(f"{taken.file}: {taken.labelled:,} of {taken.tasks:,} tasks labelled, by {taken.annotations:,} annotations.")
    for count, words in (
        (taken.unlabelled, "tasks have no label yet"),
        (taken.cancelled, "annotations were cancelled and are left out"),
        (taken.disagreed, "tasks have different labels by different people; the majority, or the mean, was taken"),
        (len(taken.tied), "of them have no majority and stay without a label"),
        (taken.outcomes, "outcomes of logged predictions are new"),
        (taken.unchanged, "labels were known already"),
    ):
        if count:
            print(f"{count:,} {words}.")
    if taken.table is not None:
        print(f"{taken.table}: {taken.rows_added:,} rows more, {taken.rows_changed:,} with another label.")
        if is_undeclared and taken.rows_added:
            print(f'To train on them beside the source: pn.System(…, labels="{taken.table}").')
