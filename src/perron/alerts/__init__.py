"""Findings in, look by look; alerts out that are raised once, told again after a while, and recover; and their telling.

    findings ─▶ rules ─▶ alerts ─▶ events ─▶ channels
                            └─▶ actions

What is remembered between looks is in `.perron/alerts.json`. An event is written there before it is sent and taken away
once a channel took it: what a channel didn't take is tried again at the next look, so that each event arrives at least
once as long as a channel comes back within a few looks.
"""

import hashlib
import json
import logging
import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from perron.alerts.channels import ChannelError, ChannelSettings, send
from perron.alerts.events import SEVERITIES, Event, Finding, Status, event_of, with_detail
from perron.alerts.rules import Rule, default_rules, rule_of
from perron.alerts.settings import Settings, default_settings, read_settings
from perron.alerts.state import Alert, Delivery, State, locked, read_state, writing

__all__ = [
    "Alerts", "Event", "Finding", "Rule", "Sent", "Settings", "default_rules", "default_settings", "read_settings",
    "sample_event",
]  # fmt: skip

PAUSES_S = (0.5, 2.0)  # between the tries of one telling
# What no telling brought to a channel is given up after a day and so many tellings: a monitor may look every minute, or once a day.
LONGEST_H, MOST_TELLINGS = 24.0, 20
logger = logging.getLogger("perron.alerts")


@dataclass(frozen=True)
class Sent:
    """What became of an event at a channel: `error` None when it was taken."""

    channel: str
    event: str
    error: str | None = None


class Alerts:
    """The alerts of a project. Several processes may judge and tell at once: nothing is raised twice.

    Args:
        home: the project's `.perron` folder.
        settings: channels and rules.
        folder: what the paths of file channels are relative to; the one above `home` if None.
        pauses_s: between the tries of one telling; one try more than pauses.
    """

    def __init__(
        self, home: Path, settings: Settings, *, folder: Path | None = None, pauses_s: Sequence[float] = PAUSES_S
    ) -> None:
        self.home, self.settings = home, settings
        self._folder = home.parent if folder is None else folder
        self._pauses_s = tuple(pauses_s)

    # -- judging

    def judge(
        self,
        findings: Iterable[Finding],
        now: datetime,
        *,
        models: Collection[str] | None = None,
        unjudged: Collection[str] = (),
    ) -> list[Event]:
        """What there is to tell after a look; it is remembered, and told by `tell`.

        Args:
            findings: all that the look found.
            now: aware of its zone. When the clock went back, cooldowns begin anew; recovery counts looks, not time.
            models: that were looked at; alerts of others are left as they are. None: all.
            unjudged: kinds of findings of which this look could say nothing (an empty window, no outcomes yet): their
                alerts neither recover nor go on.

        Raises:
            LedgerError: the state can't be read or written.
        """
        found = self._worst(findings)
        rules = {rule.name: rule for rule in self.settings.rules}
        events: list[Event] = []
        with writing(self.home) as state:
            for key in [*found, *(key for key in state.alerts if key not in found)]:
                if key in found:
                    rule, finding = found[key]
                    event = self._found(state, key, rule, finding, now)
                else:
                    last = state.alerts[key].last
                    if last.kind in unjudged or not (models is None or last.model in models):
                        continue
                    event = self._missed(state, key, rules.get(last.rule), now)
                if event is not None:
                    events.append(event)
                    self._post(state, event, rules.get(event.rule))
        return events

    def _worst(self, findings: Iterable[Finding]) -> dict[str, tuple[Rule, Finding]]:
        """The findings that a rule takes, one per alert: the worst, then the first."""
        found: dict[str, tuple[Rule, Finding]] = {}
        for finding in findings:
            rule = rule_of(self.settings.rules, finding)
            if rule is None:
                continue
            key = json.dumps([rule.name, finding.model, finding.kind, finding.subject, finding.route])
            if key not in found or _rank(finding.severity) > _rank(found[key][1].severity):
                found[key] = rule, finding
        return found

    @staticmethod
    def _found(state: State, key: str, rule: Rule, finding: Finding, now: datetime) -> Event | None:
        alert = state.alerts.get(key)
        moment = _text(now)
        number = alert.id if alert is not None else _digest(f"{key} {moment} {len(state.events)}")
        last = event_of("raised", number, number, moment, rule.name, finding, rule.action)
        if alert is None:
            alert = state.alerts[key] = Alert(number, last)
        alert.seen, alert.missed, alert.last = alert.seen + 1, 0, last
        if alert.raised is None:
            return None if alert.seen < rule.looks else _tell(alert, "raised", moment)
        assert alert.told is not None
        waited_s = (now - datetime.fromisoformat(alert.told)).total_seconds()
        if waited_s < 0:  # the clock went back: without this it would be silent until the old time comes again
            alert.told = moment
        is_worse = _rank(finding.severity) > _rank(alert.told_severity)
        return _tell(alert, "repeated", moment) if is_worse or waited_s >= rule.cooldown_h * 3600 else None

    @staticmethod
    def _missed(state: State, key: str, rule: Rule | None, now: datetime) -> Event | None:
        alert = state.alerts[key]
        alert.seen, alert.missed = 0, alert.missed + 1
        if alert.raised is None or rule is None:  # nothing was told, or its rule is no more
            del state.alerts[key]
            return None
        if alert.missed < rule.recovery_looks:
            return None
        del state.alerts[key]
        looks = "the last look" if alert.missed == 1 else f"the last {alert.missed} looks"
        alert.last = with_detail(
            alert.last, "recovered", alert.id, alert.last.time, f"Not found in {looks}; before: {alert.last.detail}"
        )
        return _tell(alert, "recovered", _text(now))

    def _post(self, state: State, event: Event, rule: Rule | None) -> None:
        """Remembers an event, and that it is to be told."""
        state.events.append(event)
        names = (rule.channels if rule is not None else ()) or tuple(self.settings.channels)
        state.outbox += [Delivery(event, name) for name in names]

    # -- telling

    def tell(self, now: datetime) -> list[Sent]:
        """Sends what is to be told; each channel on a thread, in order, so that one that hangs delays no other.

        What a channel didn't take after a few tries stays for the next call; it is given up when it is a day old and
        twenty calls didn't bring it. The call lasts as long as the slowest channel, a few of its timeouts at most.

        Raises:
            LedgerError: the state can't be read or written.
        """
        with locked(self.home / "alerts.tell.lock"):
            waiting: dict[str, list[Delivery]] = {}
            for delivery in read_state(self.home).outbox:
                waiting.setdefault(delivery.channel, []).append(delivery)
            done: dict[str, list[Sent]] = {name: [] for name in waiting}
            threads = [
                threading.Thread(target=self._send, args=(name, some, done[name]), name=f"alerts-{name}", daemon=True)
                for name, some in waiting.items()
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            sent = [one for some in done.values() for one in some]
            if sent:
                self._settle(sent, now)
        return sent

    def _send(self, name: str, deliveries: list[Delivery], done: list[Sent]) -> None:
        """Sends in order until the channel seems to be down: then the rest waits for the next call.

        An event that a receiver finds wrong (`is_lasting`) must not hold up those behind it; two in a row are no chance.
        """
        channel, failed = self.settings.channels.get(name), 0
        for delivery in deliveries:
            if channel is None:
                done.append(Sent(name, delivery.event.id, f"{name}: there is no such channel any more"))
                continue
            error, is_lasting = self._try(channel, delivery.event)
            done.append(Sent(name, delivery.event.id, error))
            failed = 0 if error is None else failed + 1
            if failed == 2 or (failed and not is_lasting):
                return

    def _try(self, channel: ChannelSettings, event: Event) -> tuple[str | None, bool]:
        """Why a channel didn't take an event after a few tries, None when it did; and whether that will last."""
        error: str | None = None
        for pause_s in (*self._pauses_s, None):
            try:
                send(channel, event, self._folder)
            except ChannelError as failure:
                error = str(failure)
                if failure.is_lasting:
                    return error, True
            except Exception as failure:  # a defect of an adapter must not end the others' telling
                return f"{channel.name}: {type(failure).__name__}", True
            else:
                return None, False
            if pause_s is not None:
                threading.Event().wait(pause_s)
        return error, False

    def _settle(self, sent: Sequence[Sent], now: datetime) -> None:
        results = {(one.channel, one.event): one.error for one in sent}
        with writing(self.home) as state:
            kept = []
            for delivery in state.outbox:
                key = delivery.channel, delivery.event.id
                if key not in results:
                    kept.append(delivery)
                    continue
                error = results[key]
                if error is None:
                    continue
                delivery.tries += 1
                age_h = (now - datetime.fromisoformat(delivery.event.time)).total_seconds() / 3600
                is_hopeless = delivery.tries >= MOST_TELLINGS and age_h >= LONGEST_H
                if delivery.channel in self.settings.channels and not is_hopeless:
                    kept.append(delivery)
                else:
                    logger.warning("given up, %s: %s", delivery.event.title, error)
            state.outbox = kept

    # -- acting

    def begin_actions(self, now: datetime) -> list[Event]:
        """The alerts, as their newest events, whose action is to be done now; each is given out once, ever."""
        with writing(self.home) as state:
            due = [
                alert for alert in state.alerts.values()
                if alert.raised is not None and alert.acted is None and alert.last.action != "tell"
            ]  # fmt: skip
            for alert in due:
                alert.acted = _text(now)
            return [alert.last for alert in due]

    def end_actions(self, causes: Sequence[Event], words: str, now: datetime) -> Event:
        """The event that says what came of an action that these alerts asked for; it is remembered, and told by `tell`."""
        ids = {cause.alert for cause in causes}
        rules = {rule.name: rule for rule in self.settings.rules}
        with writing(self.home) as state:
            for alert in state.alerts.values():
                if alert.id in ids:
                    alert.outcome = words
                    alert.events += 1
            first = causes[0]
            event = with_detail(first, "acted", f"{first.alert}-{first.action}", _text(now), words)
            state.events.append(event)
            names = {
                name: None
                for cause in causes
                for rule in [rules.get(cause.rule)]
                for name in ((rule.channels if rule is not None else ()) or tuple(self.settings.channels))
            }
            state.outbox += [Delivery(event, name) for name in names]
        return event

    # -- reading

    def open_alerts(self) -> list[Alert]:
        """The alerts that were raised and have not recovered, the worst first."""
        found = [alert for alert in read_state(self.home).alerts.values() if alert.raised is not None]
        return sorted(found, key=lambda alert: (-_rank(alert.last.severity), alert.raised or "", alert.id))

    def history(self) -> list[Event]:
        """The events that are remembered, the newest first."""
        return read_state(self.home).events[::-1]

    def untold(self) -> list[Delivery]:
        """What channels have not taken yet."""
        return read_state(self.home).outbox


def sample_event(model: str, now: datetime) -> Event:
    """An event by which a channel is tried."""
    moment = _text(now)
    number = _digest(moment)
    return Event(
        number, number, "test", moment, "test", "drift", "a column", "low",
        "This is a test of the channel: nothing has happened.", model, 0, "",
    )  # fmt: skip


def _tell(alert: Alert, status: Status, moment: str) -> Event:
    """The next event of an alert, which then counts as told."""
    alert.events += 1
    alert.told = moment
    alert.raised = alert.raised or moment
    alert.told_severity = max(alert.told_severity, alert.last.severity, key=_rank)
    return with_detail(alert.last, status, f"{alert.id}-{alert.events}", moment, alert.last.detail)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _text(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity)
