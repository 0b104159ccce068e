"""What was found, and what is told of it: a finding in, an event's words out."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

__all__ = [
    "ACTIONS", "KINDS", "SEVERITIES", "Action", "Event", "Finding", "Status", "event_of", "one_line", "with_detail",
]  # fmt: skip

Action = Literal["tell", "retrain", "roll_back"]
Status = Literal["raised", "repeated", "recovered", "acted", "test"]
ACTIONS: tuple[Action, ...] = ("tell", "retrain", "roll_back")
KINDS = (
    "drift", "multivariate", "prediction_drift", "target_drift", "performance", "estimate", "concept", "skew", "errors", "latency", "budget", "traffic",
    "resources", "cost", "no_reference",
)  # fmt: skip
SEVERITIES = ("low", "medium", "high")


class Finding(Protocol):
    """What a monitor found in one look: of which kind, about which column, metric or route, and how bad."""

    @property
    def kind(self) -> str: ...
    @property
    def subject(self) -> str: ...
    @property
    def severity(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def value(self) -> float | None: ...
    @property
    def limit(self) -> float | None: ...
    @property
    def since(self) -> str | None: ...
    @property
    def model(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def route(self) -> str: ...


@dataclass(frozen=True)
class Event:
    """One thing to tell: an alert was raised, is still there, has recovered, or something was done about it.

    `id` is the event's own, the same in every try to send it; `alert` that of the alert, the same from the raise to
    the recovery. `time` and `since` are ISO 8601 in UTC.
    """

    id: str
    alert: str
    status: Status
    time: str
    rule: str
    kind: str
    subject: str
    severity: str
    detail: str
    model: str
    version: int
    route: str
    value: float | None = None
    limit: float | None = None
    since: str | None = None
    action: Action = "tell"

    @property
    def title(self) -> str:
        """`raised: drift of income in house-prices version 3 (high)`."""
        route = "" if self.route in ("", "champion") else f", route {self.route}"
        return (
            f"{self.status}: {self.kind.replace('_', ' ')} of {self.subject} in {self.model} version {self.version}"
            f"{route} ({self.severity})"
        )

    @property
    def facts(self) -> dict[str, str]:
        """What a message shows beside the title and the detail, by its heading."""
        found = {
            "value": "" if self.value is None else f"{self.value:.6g}",
            "limit": "" if self.limit is None else f"{self.limit:.6g}",
            "since": self.since or "",
            "rule": self.rule,
            "action": "" if self.action == "tell" else self.action.replace("_", " "),
            "time": self.time,
            "alert": self.alert,
        }
        return {name: text for name, text in found.items() if text}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def event_of(
    status: Status, event_id: str, alert: str, time: str, rule: str, finding: Finding, action: Action
) -> Event:
    """The event of a finding: its texts in one line each, a number that isn't finite left out."""
    return Event(
        event_id, alert, status, time, rule, finding.kind, one_line(finding.subject), finding.severity,
        one_line(finding.detail), one_line(finding.model), finding.version, one_line(finding.route),
        _finite(finding.value), _finite(finding.limit), finding.since, action,
    )  # fmt: skip


def with_detail(event: Event, status: Status, event_id: str, time: str, detail: str) -> Event:
    """Another event of the same alert."""
    return replace(event, status=status, id=event_id, time=time, detail=one_line(detail))


def one_line(text: str) -> str:
    """The text without line breaks, control characters and the like: it goes to terminals and into headers of mail."""
    return " ".join("".join(char if char.isprintable() else " " for char in str(text)).split())


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
