"""A look at a model's traffic in; alerts judged, acted on and told, out: what a monitor does after each look."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from perron.alerts import Alerts, Sent
from perron.alerts.actions import act
from perron.alerts.events import Event
from perron.alerts.settings import read_settings
from perron.levels import KINDS as LEVELS
from perron.monitor import FEWEST_OUTCOMES, Look
from perron.project import Project
from perron.system import System

__all__ = ["Attended", "attend"]

OF_TRAFFIC = ("drift", "multivariate", "prediction_drift", "estimate", "no_reference")
OF_OUTCOMES = ("performance", "concept", "target_drift")


@dataclass(frozen=True)
class Attended:
    """What there was to tell, and what became of it at each channel."""

    events: tuple[Event, ...]
    sent: tuple[Sent, ...]

    @property
    def failures(self) -> list[Sent]:
        """What a channel didn't take; it is told again after the next look."""
        return [one for one in self.sent if one.error is not None]


def attend(
    look: Look,
    system: System,
    project: Project,
    *,
    has_skew: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Attended:
    """Raises, repeats and recovers the project's alerts by a look, does what they ask for, and tells.

    What a look can't speak of (no traffic, no outcomes yet, no look at skew, too few requests) neither raises nor recovers anything.

    Raises:
        DeclarationError: alerts.toml is wrong.
        LedgerError: what is remembered can't be read or written.
    """
    alerts = Alerts(project.folder / ".perron", read_settings(project.folder, system))
    unjudged = [
        *(OF_TRAFFIC if not look.rows else ()),
        *(OF_OUTCOMES if look.outcomes.n < FEWEST_OUTCOMES else ()),
        *(() if has_skew else ("skew",)),
        *(kind for kind in LEVELS if kind not in look.judged),
    ]
    events = alerts.judge(look.findings, clock(), models=[look.model], unjudged=unjudged)
    events += act(alerts, system, project, clock)
    return Attended(tuple(events), tuple(alerts.tell(clock())))
