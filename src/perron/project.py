"""The folder of a system in; its ledger, store and bundles out, and what a step of its pipeline works with."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perron.canvas import Canvas
from perron.environment import Code
from perron.gates import Gate
from perron.store import Store, make_secret
from perron.system import System

if TYPE_CHECKING:  # SQLAlchemy takes a tenth of a second, and a check needs no ledger
    from perron.ledger import Ledger

__all__ = ["Project", "Work", "rival_of"]


@dataclass(frozen=True)
class Project:
    """Where a system lives: its folder, and the ledger and store in the `.perron` folder there."""

    folder: Path
    ledger: "Ledger"
    store: Store

    @classmethod
    def open(cls, folder: Path) -> "Project":
        """The project of a folder; `.perron` is made when it isn't there. `PERRON_LEDGER` may name another database by URL.

        Raises:
            LedgerError: the folder can't be written, or the ledger can't be opened.
        """
        from perron.ledger import Ledger

        home = folder / ".perron"
        ledger = Ledger.at(home, os.environ.get("PERRON_LEDGER"))
        ignore = home / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        return cls(folder, ledger, Store(home / "store"))

    @property
    def bundles(self) -> Path:
        return self.folder / ".perron" / "bundles"

    def secret(self) -> bytes:
        """The project's own secret, made when it is first asked for: the key of the digests of sensitive values.

        Raises:
            LedgerError: it can't be written.
        """
        return make_secret(self.folder / ".perron" / "secret.key")

    @property
    def predictions(self) -> Path:
        """The folder of the prediction log."""
        return self.folder / ".perron" / "predictions"


@dataclass(frozen=True)
class Work:
    """What a step works with: the system, the project, the run's facts, the outputs of the steps before it, and the
    project's canvas."""

    system: System
    project: Project
    run: str
    code: Code
    environment: Mapping[str, Any]
    outputs: Mapping[str, Any]
    canvas: Canvas | None = None

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The system's gates and the canvas's goals, each once."""
        goals = self.canvas.gates if self.canvas is not None else ()
        return (*self.system.gates, *(goal for goal in goals if goal not in self.system.gates))


def rival_of(work: Work) -> dict[str, Any] | None:
    """The registered version that this run's model is compared with, or None.

    A champion that came of the same training is the candidate itself: run again, it must find the
    same rival as the first time.
    """
    from perron.ledger import CHAMPION

    ledger, name = work.project.ledger, work.system.name
    event = ledger.get_alias(name, CHAMPION)
    while event is not None:
        version = ledger.get_version(name, event["version"])
        if ledger.step_key(version["run"], "train") != work.outputs["train"]["key"]:
            return version
        event = ledger.alias_before(name, CHAMPION, event["id"])
    return None
