"""Alerts from look to look: raised once, told again after a while, recovered; whatever befalls clock and state file."""

import json
import logging
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest

from perron import monitor
from perron.alerts import Alerts, Rule, Settings
from perron.alerts.channels import ChannelSettings
from perron.alerts.events import KINDS, one_line
from perron.errors import LedgerError

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Found:
    """A finding as a monitor gives it."""

    kind: str = "drift"
    subject: str = "income"
    severity: str = "medium"
    detail: str = "Moved by 0.31 (Kolmogorov-Smirnov)."
    value: float | None = 0.31
    limit: float | None = 0.1
    since: str | None = "2026-11-24T06:00:00Z"
    model: str = "houses"
    version: int = 3
    route: str = "champion"


def alerts(home: Path, *rules: Rule) -> Alerts:
    channels = {"log": ChannelSettings("log", "file", {"path": "told.jsonl"})}
    return Alerts(home / ".perron", Settings(channels, rules or (Rule("all"),)))


def statuses(events: object) -> list[str]:
    return [event.status for event in events]  # type: ignore[attr-defined]


def test_an_alert_is_raised_once_and_told_again_after_its_cooldown(tmp_path: Path) -> None:
    watch = alerts(tmp_path, Rule("all", cooldown_h=2))
    told = [statuses(watch.judge([Found()], NOON + hour * HOUR)) for hour in range(5)]
    assert told == [["raised"], [], ["repeated"], [], ["repeated"]]
    assert len({event.alert for event in watch.history()}) == 1
    assert len({event.id for event in watch.history()}) == 3


def test_what_is_found_too_seldom_in_a_row_is_not_told(tmp_path: Path) -> None:
    watch = alerts(tmp_path, Rule("all", looks=3))
    looks = [[Found()], [Found()], [], [Found()], [Found()], [Found()]]
    assert [statuses(watch.judge(look, NOON)) for look in looks] == [[], [], [], [], [], ["raised"]]


def test_it_recovers_when_it_is_gone_for_some_looks_in_a_row(tmp_path: Path) -> None:
    watch = alerts(tmp_path, Rule("all", recovery_looks=2))
    looks = [[Found()], [], [Found()], [], [], [], [Found()]]
    told = [watch.judge(look, NOON) for look in looks]
    assert [statuses(one) for one in told] == [["raised"], [], [], [], ["recovered"], [], ["raised"]]
    raised, recovered, again = told[0][0], told[4][0], told[6][0]
    assert recovered.alert == raised.alert != again.alert and "Moved by 0.31" in recovered.detail


def test_an_alert_that_gets_worse_is_told_at_once(tmp_path: Path) -> None:
    watch = alerts(tmp_path)
    severities = ["low", "low", "high", "low", "high"]
    told = [statuses(watch.judge([Found(severity=one)], NOON)) for one in severities]
    assert told == [["raised"], [], ["repeated"], [], []]


def test_alerts_are_told_apart_by_model_kind_subject_and_route_but_not_by_version(tmp_path: Path) -> None:
    watch = alerts(tmp_path)
    watch.judge([Found()], NOON)
    others = [Found(model="cars"), Found(kind="skew"), Found(subject="age"), Found(route="challenger")]
    assert statuses(watch.judge([Found(version=4), *others], NOON)) == ["raised"] * 4
    assert [one.last.version for one in watch.open_alerts() if one.last == replace(one.last, version=4)] == [4]


def test_the_worst_of_two_findings_of_one_alert_is_told(tmp_path: Path) -> None:
    (event,) = alerts(tmp_path).judge([Found(severity="low"), Found(severity="high"), Found()], NOON)
    assert event.severity == "high"


def test_a_finding_belongs_to_the_first_rule_that_takes_it(tmp_path: Path) -> None:
    first = Rule("the income", subjects=("inc*",), severity="medium")
    watch = alerts(tmp_path, first, Rule("the rest"))
    found = [Found(), Found(subject="age"), Found(severity="low", kind="skew")]
    assert [event.rule for event in watch.judge(found, NOON)] == ["the income", "the rest", "the rest"]


@pytest.mark.parametrize(
    ("rule", "is_taken"),
    [
        (Rule("r", kinds=("skew",)), False),
        (Rule("r", severity="high"), False),
        (Rule("r", subjects=("age", "in?ome")), True),
        (Rule("r", at_most=0.31), False),
        (Rule("r", at_most=0.3), True),
        (Rule("r", at_least=0.3), False),
        (Rule("r", at_least=0.4), True),
    ],
)
def test_a_rule_takes_what_fits_all_of_it(rule: Rule, is_taken: bool) -> None:
    assert rule.takes(Found()) is is_taken
    assert not replace(rule, at_most=1.0).takes(Found(value=None))


def test_a_column_with_brackets_in_its_name_is_taken_by_its_name() -> None:
    assert Rule("r", subjects=("size[m2]",)).takes(Found(subject="size[m2]"))


def test_models_and_kinds_that_were_not_looked_at_neither_recover_nor_go_on(tmp_path: Path) -> None:
    watch = alerts(tmp_path, Rule("all", recovery_looks=1))
    watch.judge([Found(), Found(kind="performance"), Found(model="cars")], NOON)
    assert statuses(watch.judge([], NOON, models=["houses"], unjudged=["performance"])) == ["recovered"]
    assert {(one.last.model, one.last.kind) for one in watch.open_alerts()} == {
        ("houses", "performance"),
        ("cars", "drift"),
    }
    assert statuses(watch.judge([], NOON)) == ["recovered"] * 2


def test_a_clock_that_goes_backwards_neither_silences_nor_repeats(tmp_path: Path) -> None:
    watch = alerts(tmp_path, Rule("all", cooldown_h=2))
    assert statuses(watch.judge([Found()], NOON + 1000 * HOUR)) == ["raised"]
    assert statuses(watch.judge([Found()], NOON)) == []
    assert statuses(watch.judge([Found()], NOON + HOUR)) == []
    assert statuses(watch.judge([Found()], NOON + 2 * HOUR)) == ["repeated"]
    watch.judge([], NOON)
    watch.judge([], NOON - HOUR)
    assert statuses(watch.judge([], NOON - 2 * HOUR)) == ["recovered"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda _: b"", lambda _: b"[1]", lambda _: b'{"format":1,"alerts":7}']
)
def test_a_damaged_state_file_is_set_aside_with_a_word(tmp_path: Path, caplog, damage) -> None:  # type: ignore[no-untyped-def]
    watch = alerts(tmp_path)
    watch.judge([Found()], NOON)
    path = tmp_path / ".perron" / "alerts.json"
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with caplog.at_level(logging.WARNING):
        assert statuses(watch.judge([Found()], NOON)) == ["raised"]
    assert "set aside" in caplog.text
    (aside,) = path.parent.glob("alerts.damaged-*.json")
    assert aside.read_bytes() == damage(whole)
    assert statuses(watch.judge([Found()], NOON)) == []


def test_a_state_of_a_newer_perron_is_left_alone(tmp_path: Path) -> None:
    watch = alerts(tmp_path)
    watch.judge([Found()], NOON)
    path = tmp_path / ".perron" / "alerts.json"
    data = {**json.loads(path.read_text()), "format": 99}
    path.write_text(json.dumps(data))
    with pytest.raises(LedgerError, match="format 99, newer"):
        watch.judge([], NOON)
    assert json.loads(path.read_text()) == data


def test_monitors_at_once_raise_nothing_twice(tmp_path: Path) -> None:
    columns = [f"x{number}" for number in range(20)]
    events: list[object] = []
    start = threading.Barrier(8)

    def look() -> None:
        start.wait()
        found = alerts(tmp_path).judge([Found(subject=column) for column in columns], NOON)
        events.extend(event.subject for event in found)
        alerts(tmp_path).tell(NOON)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [json.loads(line)["subject"] for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert sorted(events) == sorted(told) == sorted(columns)  # type: ignore[type-var]


def test_alerts_of_a_rule_that_is_no_more_go_without_a_word(tmp_path: Path) -> None:
    alerts(tmp_path).judge([Found()], NOON)
    watch = alerts(tmp_path, Rule("another", kinds=("skew",)))
    assert watch.judge([Found()], NOON) == [] and watch.open_alerts() == []


def test_texts_of_findings_become_one_line_without_controls(tmp_path: Path) -> None:
    (event,) = alerts(tmp_path).judge([Found(subject="a\nb\x1b[31m", detail="x\r\ny\u2028z", value=float("nan"))], NOON)
    assert event.subject == "a b [31m" and event.detail == "x y z" and event.value is None
    assert one_line("a\u200bb") == "a b"


def test_a_state_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / ".perron").write_text("a file")
    with pytest.raises(LedgerError, match="can't be made"):
        alerts(tmp_path).judge([Found()], NOON)


def test_what_a_monitor_finds_is_what_rules_know(tmp_path: Path) -> None:
    assert get_args(monitor.FindingKind) == KINDS
    found = monitor.Finding("drift", "income", "high", "Moved.", 0.4, 0.1, None, "houses", 3, "champion")
    assert statuses(alerts(tmp_path).judge([found], NOON)) == ["raised"]
