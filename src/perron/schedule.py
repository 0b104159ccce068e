"""A period and a command in; what the machine's own scheduler runs out: a line for crontab, or a systemd timer.

Perron has no scheduler of its own. A period's output has a name of its own (`{date}` in it), so that a run
that comes twice does its work once, by `perron predict --once`, and one that was killed is gone on with.
"""

import re
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from perron.errors import DeclarationError, nearest

__all__ = ["PERIODS", "cron_fault", "crontab", "fill", "systemd", "unit_text", "unit_word"]

# A period: what crontab and systemd call it, and which placeholders tell its outputs apart.
FORMATS = {"month": "%Y-%m", "week": "%G-W%V", "date": "%Y-%m-%d", "hour": "%Y-%m-%dT%H"}
PERIODS = {
    "hour": ("{minute} * * * *", "*-*-* *:{minute:0>2}:00", ("hour",)),
    "day": ("{minute} {hour} * * *", "*-*-* {hour:0>2}:{minute:0>2}:00", ("date", "hour")),
    "week": ("{minute} {hour} * * 1", "Mon *-*-* {hour:0>2}:{minute:0>2}:00", ("week", "date", "hour")),
    "month": ("{minute} {hour} 1 * *", "*-*-01 {hour:0>2}:{minute:0>2}:00", ("month", "date", "hour")),
}
CRON = (
    ("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 6),
)  # fmt: skip
CRON_ITEM = re.compile(r"(?:\*|([0-9]{1,2})(?:-([0-9]{1,2}))?)(?:/([0-9]{1,2}))?")
PLACEHOLDER = re.compile(r"(?<!\$)\{(\w+)\}")


def fill(text: str, moment: datetime | None = None) -> str:
    """The text with `{date}`, `{hour}`, `{week}` and `{month}` as the machine's clock has them (now if None).

    Raises:
        DeclarationError: another name in braces.
    """
    at = moment or datetime.now().astimezone()

    def value(found: "re.Match[str]") -> str:
        if found[1] not in FORMATS:
            raise DeclarationError(f"There is no {{{found[1]}}} to fill in; {nearest(found[1], FORMATS)}")
        return at.strftime(FORMATS[found[1]])

    return PLACEHOLDER.sub(value, text)


def cron_fault(text: str) -> str | None:
    """What is wrong with the five fields of cron, in words; None: nothing. The day of the week is a number; 0 is Sunday.

    Only what crontab, Kubernetes, Cloud Scheduler and GitHub take alike.
    """
    parts = text.split(" ")
    if len(parts) != len(CRON) or not all(parts):
        return "give five fields of cron in UTC, such as 0 3 * * *"
    for part, (what, low, high) in zip(parts, CRON, strict=True):
        if not all(_is_cron_item(item, low, high) for item in part.split(",")):
            return f"its {what} is {part!r:.60}; give numbers from {low} to {high}, or *"
    return None


def _is_cron_item(item: str, low: int, high: int) -> bool:
    """Whether it is *, a number or a range of them, each but the number with a step where there is one."""
    found = CRON_ITEM.fullmatch(item)
    if found is None or (found[3] and not int(found[3])) or (found[3] and found[1] and not found[2]):
        return False
    first = low if found[1] is None else int(found[1])
    last = first if found[2] is None else int(found[2])
    return low <= first <= last <= high


def crontab(every: str, at: str, command: Sequence[str], folder: Path, sink: str) -> str:
    """The line for `crontab -e` that runs the command in a folder.

    Raises:
        DeclarationError: the period or time isn't one, or the sink has the same name in two periods.
    """
    hour, minute = _checked(every, at, sink)
    words = f"cd {shlex.quote(str(folder))} && {shlex.join(command)}"
    if "\n" in words:
        raise DeclarationError("A line of crontab can't hold a line end; rename the folder or the file.")
    escaped = words.replace("%", r"\%")  # which crontab takes for a line end
    return f"{PERIODS[every][0].format(hour=hour, minute=minute)} {escaped} >> .perron/schedule.log 2>&1\n"


def systemd(every: str, at: str, command: Sequence[str], folder: Path, sink: str) -> str:
    """A service and its timer, each under a line that names its file.

    Raises:
        DeclarationError: the period or time isn't one, or the sink has the same name in two periods.
    """
    hour, minute = _checked(every, at, sink)
    words = " ".join(unit_word(word) for word in command)
    return f"""# /etc/systemd/system/perron-predict.service
[Unit]
Description=Predictions of {unit_text(folder.name)}

[Service]
Type=oneshot
WorkingDirectory={unit_text(str(folder))}
ExecStart={words}
Nice=10

# /etc/systemd/system/perron-predict.timer
[Unit]
Description=Predictions of {unit_text(folder.name)}, every {every}

[Timer]
OnCalendar={PERIODS[every][1].format(hour=hour, minute=minute)}
Persistent=true

[Install]
WantedBy=timers.target
"""


def _checked(every: str, at: str, sink: str) -> tuple[int, int]:
    """The hour and minute."""
    if every not in PERIODS:
        raise DeclarationError(f"There is no period {every!r}; {nearest(every, PERIODS)}")
    time = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", at)
    if time is None:
        raise DeclarationError(f"The time is {at!r}; give hours and minutes, such as 03:00.")
    fill(sink)
    able = PERIODS[every][2]
    if not set(PLACEHOLDER.findall(sink)) & set(able):
        raise DeclarationError(
            f"{sink} has the same name {every} after {every}; put {{{able[0]}}} in it, so that each has its own output."
        )
    return int(time[1]), int(time[2])


def unit_text(text: str) -> str:
    """A text of a systemd unit, without systemd's own specifiers.

    Raises:
        DeclarationError: it has a line end.
    """
    if "\n" in text:
        raise DeclarationError("A systemd unit can't hold a line end; rename the folder.")
    return text.replace("%", "%%")


def unit_word(word: str) -> str:
    """A word of ExecStart: quoted, without systemd's own specifiers and variables."""
    escaped = unit_text(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[^\w./:=+,@%{}-]", word) else escaped
