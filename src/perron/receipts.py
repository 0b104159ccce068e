"""A prediction's id in; its receipt out: the prediction, its model, run, data, code, environment and outcome."""

from pathlib import Path
from typing import Any

from perron import predictions
from perron.errors import NotFound
from perron.ledger import Ledger

__all__ = ["receipt"]


def receipt(log_folder: Path, ledger: Ledger, prediction: str) -> dict[str, Any]:
    """The receipt, from the log; `resolved` says whether the ledger knows its model version and its run.

    A log that was carried to another machine still reads: its segments say where their model comes from.

    Raises:
        NotFound: there is no such prediction.
    """
    found = predictions.find(log_folder, prediction).to_json()
    return {**found, "outcome": ledger.get_outcome(prediction), "resolved": _resolved(ledger, found)}


def _resolved(ledger: Ledger, found: dict[str, Any]) -> dict[str, bool]:
    """Whether the ledger knows the version, by this bundle, and the run."""
    known = {"model": False, "run": False}
    try:
        known["model"] = (
            ledger.get_version(found["model"]["name"], found["model"]["version"])["bundle"] == found["model"]["bundle"]
        )
        ledger.get_run(found["run"])
        known["run"] = True
    except NotFound:
        pass
    return known
