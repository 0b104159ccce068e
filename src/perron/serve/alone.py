"""A bundle in; what a server without a project follows and remembers out: that one bundle, and nothing else."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.errors import LedgerError
from perron.plan import Arm, ModelPlan, NotOffered, Outcome, Plan, Routing, TokenPlan, VersionPlan
from perron.predictions.ship import Shipper
from perron.store import make_secret

__all__ = ["Alone", "log_place"]

ARM = "alone"


@dataclass(frozen=True)
class Alone:
    """The `Memory` of one bundle.

    Args:
        name: of its model.
        path: its folder.
        digest: of its manifest.
        log_folder: of the prediction log.
        version: what replies and receipts call it.
        tokens: reads those in force, each time anew; None: nobody is asked for one.
        shipper: sends the prediction log on; None: nowhere.
    """

    name: str
    path: Path
    digest: str
    log_folder: Path
    version: int = 1
    tokens: Callable[[], tuple[TokenPlan, ...]] | None = None
    shipper: Shipper | None = None

    def plan(self) -> Plan:
        """The bundle alone, for ever, and the tokens of now.

        Raises:
            DataError: the tokens can't be read.
        """
        version = VersionPlan(self.version, self.path, self.digest)
        model = ModelPlan(self.name, (version,), Routing("single", (Arm(ARM, self.version),)))
        return Plan((model,), self.tokens() if self.tokens is not None else None)

    def outcome(self, prediction: str) -> dict[str, Any] | None:
        """None: it keeps none."""
        return None

    def add_outcomes(self, items: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Nothing.

        Raises:
            NotOffered: it keeps none.
        """
        raise NotOffered(
            "This service has a bundle and no project, so it keeps no outcomes; send them to the project's own, or run `perron serve` there."
        )

    def tend(self) -> None:
        """Sends the prediction log on, where it goes somewhere."""
        if self.shipper is not None:
            self.shipper.ship()

    def secret(self) -> bytes:
        """The key of the digests of sensitive values, kept beside the log."""
        return make_secret(self.log_folder / "secret.key")

    def set_loaded(self, model: str, loaded: bool) -> None:
        """Nothing.

        Raises:
            NotOffered: the bundle stays.
        """
        raise NotOffered("This service has one bundle, which stays loaded.")

    def roll_back(self, model: str, event: int, reason: str) -> bool:
        """False: there is nothing to go back to."""
        return False


def log_place(wanted: Path | None) -> Path:
    """The folder of the prediction log, which can be written: the one wanted, else a new temporary one.

    Raises:
        LedgerError: it can't be written, or there is no temporary place, as on a read-only root without one.
    """
    try:
        if wanted is None:
            return Path(tempfile.mkdtemp(prefix="perron-log-"))
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        place = "No temporary place" if wanted is None else f"The log's folder {wanted}"
        raise LedgerError(
            f"{place} can be written ({error.strerror}): mount one at /tmp, or name one with --log-folder."
            if wanted is None
            else f"{place} can't be made ({error.strerror}); name another one with --log-folder."
        ) from error
    if not os.access(wanted, os.W_OK):
        raise LedgerError(f"The log's folder {wanted} can't be written; name another one with --log-folder.")
    return wanted
