"""Rows without a label in, tasks for people out (`labels.ask`); people's labels in, outcomes and training rows out (`labels.take`).

    ask      which rows: at random, where the model is least certain, or least like the training data
    files    tasks as CSV, JSON lines or Label Studio's JSON, and labels back from them
    take     labels judged by the contract; outcomes of logged predictions, and the labelled table
    table    the labelled table, and a source with its rows beside it

A task has an id that doesn't change: the prediction's, the value of the contract's Id, or a hash of the row.
"""

from pathlib import Path

from perron.contract import Schema
from perron.project import Project

__all__ = ["LABELS", "ORIGIN", "TASK", "asked_folder", "free_name"]

LABELS = "data/labels.parquet"  # the labelled table, where the system declares no other
TASK = "task id"  # no field can have this name, nor the next
ORIGIN = "task origin"


def asked_folder(project: Project) -> Path:
    """The folder that keeps the rows of every export: what people send back is joined to these, not to what a
    spreadsheet made of them."""
    return project.folder / ".perron" / "labels"


def free_name(name: str, schema: Schema) -> str:
    """A column's name in files of tasks: the name itself, or with underscores behind where a field has it."""
    taken = {field.name for field in schema.fields} | {field.column for field in schema.fields}
    while name in taken:
        name += "_"
    return name
