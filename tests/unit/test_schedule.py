"""Periods, and what cron and systemd are given."""

import re
import shlex
from datetime import datetime
from pathlib import Path

import pytest

from perron.errors import DeclarationError
from perron.schedule import PERIODS, crontab, fill, systemd

MOMENT = datetime(2026, 1, 1, 3, 30)


def test_placeholders_are_filled_in_and_those_of_the_environment_are_left() -> None:
    assert fill("a-{date}.csv", MOMENT) == "a-2026-01-01.csv"
    assert fill("{month}/{week}/{hour}", MOMENT) == "2026-01/2026-W01/2026-01-01T03"
    assert fill("postgresql://u:${PASSWORD}@h/d#t_{month}", MOMENT) == "postgresql://u:${PASSWORD}@h/d#t_2026-01"
    with pytest.raises(DeclarationError, match="did you mean 'date'"):
        fill("{dat}.csv", MOMENT)


@pytest.mark.parametrize("every", PERIODS)
def test_a_period_needs_outputs_of_its_own(every: str) -> None:
    with pytest.raises(DeclarationError, match="same name"):
        crontab(every, "03:00", ["x"], Path("/p"), "out.csv")
    line = crontab(every, "03:05", ["x"], Path("/p"), f"out-{{{PERIODS[every][2][0]}}}.csv")
    assert re.match(r"5 (\*|3) (\*|1) \* (\*|1) cd /p && x >> ", line)
    if every == "hour":
        with pytest.raises(DeclarationError, match="put {hour} in it"):
            crontab(every, "03:00", ["x"], Path("/p"), "out-{date}.csv")


@pytest.mark.parametrize("at", ["", "3", "24:00", "3:60", "03:00:00", "noon"])
def test_a_time_that_is_none_is_refused(at: str) -> None:
    with pytest.raises(DeclarationError, match="hours and minutes"):
        crontab("day", at, ["x"], Path("/p"), "{date}.csv")


def test_crontab_is_quoted_for_the_shell_and_for_cron() -> None:
    words = ["py", "in 'x' 100%.csv", "-o", "out-{date}.csv"]
    line = crontab("day", "03:00", words, Path("/a b"), "out-{date}.csv")
    assert line.count("\n") == 1 and re.search(r"(?<!\\)%", line) is None
    shell = line.split(" ", 5)[5].replace(r"\%", "%")
    assert shlex.split(shell)[:7] == ["cd", "/a b", "&&", *words]


def test_systemd_gets_a_service_and_a_timer() -> None:
    text = systemd("week", "4:05", ["/v/python", "a b", "100%", "$x"], Path("/p"), "{week}.csv")
    assert "OnCalendar=Mon *-*-* 04:05:00" in text and "Persistent=true" in text
    assert 'ExecStart=/v/python "a b" 100%% "$$x"' in text and "WorkingDirectory=/p" in text
