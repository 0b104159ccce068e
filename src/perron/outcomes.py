"""A prediction's id and what really happened in; an outcome, judged by the contract, in the ledger and the model's history out."""

from typing import Any

from perron import bundle as bundles
from perron import predictions
from perron.check import judge
from perron.errors import DataError
from perron.history import journal_path
from perron.project import Project

__all__ = ["record_outcome"]


def record_outcome(project: Project, prediction: str, value: Any) -> None:
    """Records the outcome of a logged prediction; of a system with history, rows that come later see it.

    Raises:
        NotFound: there is no such prediction, or its model isn't registered here.
        DataError: the contract's target can't be that value.
    """
    found = predictions.find(project.predictions, prediction)
    row = project.ledger.get_version(found.header["model"], found.header["version"])
    bundle = bundles.load(project.ledger.bundle_path(row), row["bundle"])
    target = bundle.schema.target
    assert target is not None
    if target.kind == "category" and not target.is_numeric_category and not isinstance(value, str):
        value = str(value)  # a class that looks like a number
    for fault in judge(target, value):
        raise DataError(f"Expected {fault.expected} as the outcome, got {value!r}.")
    if bundle.history is not None:  # first: what is reported as recorded is then in both
        bundle.history.attach(journal_path(project.predictions, bundle.name), sync=True)
        bundle.history.observe_outcome(found.input, value)
        bundle.history.close()
    project.ledger.add_outcome(prediction, value)
