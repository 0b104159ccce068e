"""A bundle in; what a server without a project follows and remembers out: that one bundle, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.plan import Arm, ModelPlan, NotOffered, Outcome, Plan, Routing, VersionPlan
from perron.store import make_secret

__all__ = ["Alone"]

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
    """

    name: str
    path: Path
    digest: str
    log_folder: Path
    version: int = 1

    def plan(self) -> Plan:
        """The bundle alone, for ever."""
        version = VersionPlan(self.version, self.path, self.digest)
        return Plan((ModelPlan(self.name, (version,), Routing("single", (Arm(ARM, self.version),))),))

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
        """Nothing: there is nothing to do beside serving."""

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
