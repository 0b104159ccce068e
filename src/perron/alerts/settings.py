"""The project's alerts.toml in; its channels and rules out, or everything that is wrong with it; and back.

The file only holds data: nothing in it is run. Without it, the rules are derived from the system and told on standard
output.
"""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.alerts.channels import ChannelSettings, channel_mistakes
from perron.alerts.events import ACTIONS, KINDS, SEVERITIES
from perron.alerts.rules import Rule, default_rules
from perron.canvas import read_canvas
from perron.errors import DeclarationError, nearest
from perron.gates import Gate
from perron.system import System

__all__ = ["FILE", "Settings", "alerts_file", "default_settings", "find_mistakes", "parse_settings", "read_settings"]

FILE = "alerts.toml"
FORMAT = 1
TERMINAL = ChannelSettings("terminal", "stdout")


@dataclass(frozen=True)
class Settings:
    """Where alerts are told, by name, and the rules, in order."""

    channels: Mapping[str, ChannelSettings]
    rules: tuple[Rule, ...]


def default_settings(system: System, goals: Sequence[Gate] = ()) -> Settings:
    """What holds without a file; `goals` are the canvas's."""
    return Settings({TERMINAL.name: TERMINAL}, default_rules(system, goals))


def read_settings(folder: Path, system: System) -> Settings:
    """The settings of the project's folder.

    Raises:
        DeclarationError: alerts.toml, or where there is none canvas.toml, can't be read or is wrong; names the first mistake and how many there are.
    """
    path = folder / FILE
    if not path.exists():
        canvas = read_canvas(folder)
        return default_settings(system, canvas.gates if canvas is not None else ())
    settings, mistakes = parse_settings(_text(path))
    if mistakes:
        more = f" ({len(mistakes)} mistakes; `perron alerts check` lists them)" if len(mistakes) > 1 else ""
        raise DeclarationError(f"{FILE}: {mistakes[0]}{more}")
    assert settings is not None
    return settings


def find_mistakes(path: Path) -> list[str]:
    """Everything that is wrong with a file.

    Raises:
        DeclarationError: it can't be read.
    """
    return parse_settings(_text(path))[1]


def parse_settings(text: str) -> tuple[Settings | None, list[str]]:
    """The settings that a text of TOML holds, or None and what is wrong, each with its line or its key."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, [f"not TOML: {error}".splitlines()[0]]
    mistakes = [f"{key} is no key here; {nearest(key, TOP)}" for key in data if key not in TOP]
    if data.get("format", FORMAT) != FORMAT:
        mistakes.append(f"format is {data['format']!r:.60}; this Perron reads {FORMAT}")
    channels, rules = data.get("channels", {}), data.get("rules", [])
    if not isinstance(channels, dict):
        channels = {}
        mistakes.append("channels must be tables: [channels.team]")
    if not isinstance(rules, list):
        rules = []
        mistakes.append("rules must be a list of tables: [[rules]]")
    for name, table in channels.items():
        mistakes += channel_mistakes(table, f"channels.{name}")
    if not channels:
        mistakes.append('there is no channel; add one, such as [channels.terminal] with kind = "stdout"')
    if not rules:
        mistakes.append("there is no rule; add one: [[rules]], or remove the file to have the derived ones")
    seen: list[str] = []
    for place, table in enumerate(rules):
        mistakes += _rule_mistakes(table, f"rules[{place}]", channels, seen)
    if mistakes:
        return None, mistakes
    made = {
        name: ChannelSettings(name, table["kind"], {key: value for key, value in table.items() if key != "kind"})
        for name, table in channels.items()
    }
    return Settings(made, tuple(_rule(table) for table in rules)), []


def alerts_file(settings: Settings, system: System) -> str:
    """The text of alerts.toml for these settings, with what else may be written in it as comments."""
    channels = "".join(
        f"[channels.{_key(one.name)}]\nkind = {_toml(one.kind)}\n"
        + "".join(f"{key} = {_toml(value)}\n" for key, value in one.options.items())
        for one in settings.channels.values()
    )
    rules = "\n".join(_rule_text(rule) for rule in settings.rules)
    return f"""# When the monitor of {system.name} raises an alert, and where it is told. `perron alerts check` says what is wrong here.

format = {FORMAT}

# ---------------------------------------------------------------- where: every channel has a name of your choice

{channels}
# [channels.log]
# kind = "file"                      # a JSON object a line
# path = "alerts.jsonl"
#
# [channels.team]
# kind = "slack"                     # or whatever takes Slack's incoming web hooks
# url = "${{SLACK_WEBHOOK_URL}}"       # of the environment, looked up when something is sent
#
# [channels.pager]
# kind = "webhook"
# url = "https://example.com/hook"
# secret = "${{ALERTS_SECRET}}"        # signs each message; may be left out
#
# [channels.mail]
# kind = "mail"
# host = "smtp.example.com"
# security = "starttls"              # or tls, or none
# user = "perron"
# password = "${{SMTP_PASSWORD}}"
# from = "perron@example.com"
# to = ["team@example.com"]

# ---------------------------------------------------------------- when: a finding belongs to the first rule that takes it
#
# kinds           {", ".join(KINDS[:5])},
#                 {", ".join(KINDS[5:])}
# subjects        columns, metrics or routes; * and ? as in file names; all without it
# severity        the least that counts: {", ".join(SEVERITIES)}
# at_most         only where the value is above (at_least: below)
# looks           how often in a row it must be found; recovery_looks: gone
# channels        names from above; all without it
# action          tell, retrain (the gates decide) or roll_back; once per alert
# cooldown_h      after how many hours it is told again

{rules}"""


def _rule_text(rule: Rule) -> str:
    default = Rule("")
    lines = ["[[rules]]"]
    for key in RULE_KEYS:
        value = getattr(rule, key)
        shown = key in ("name", "kinds", "severity", "looks", "action", "cooldown_h")
        if value is not None and (shown or value != getattr(default, key)):
            lines.append(f"{key} = {_toml(list(value) if isinstance(value, tuple) else value)}")
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value as TOML; its basic strings are JSON's, but for the delete character."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("-", "").replace("_", "").isalnum() else _toml(name)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{path.name} isn't UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise DeclarationError(f"Can't read {path}: {error.strerror}.") from error


def _rule(table: Mapping[str, Any]) -> Rule:
    options: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return Rule(**options)


def _rule_mistakes(table: Any, place: str, channels: Mapping[str, Any], seen: list[str]) -> list[str]:
    if not isinstance(table, dict):
        return [f"{place} is {table!r:.60}; make it a table: [[rules]]"]
    name = table.get("name")
    if isinstance(name, str) and name:
        place = f"{place} ({name[:60]})"
        if name in seen:
            return [f"{place} has the name of an earlier rule; names tell alerts apart"]
        seen.append(name)
    else:
        return [f'{place} has no name; give it one: name = "drift of income"']
    mistakes = [
        f"{place}: {key} is no key of a rule; {nearest(key, RULE_KEYS)}" for key in table if key not in RULE_KEYS
    ]
    for key, value in table.items():
        if key in RULE_KEYS:
            known = channels if key == "channels" else KINDS
            mistakes += [f"{place}: {key} {words}" for words in RULE_KEYS[key](value, known)]
    return mistakes


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _text_mistakes(value: Any, _: Any) -> list[str]:
    return [] if isinstance(value, str) and value.isprintable() else [f"is {value!r:.60}; give a text of one line"]


def _list_mistakes(value: Any, known: Sequence[str] | None) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        return [f"is {value!r:.60}; give a list of texts"]
    return [f"has {one!r:.60}; {nearest(one, known)}" for one in value if known is not None and one not in known]


def _number_mistakes(value: Any, _: Any) -> list[str]:
    return [] if _is_number(value) else [f"is {value!r:.60}; give a number"]


def _count_mistakes(value: Any, _: Any) -> list[str]:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000
    return [] if is_count else [f"is {value!r:.60}; give a whole number of 1 or more"]


def _hours_mistakes(value: Any, _: Any) -> list[str]:
    return [] if _is_number(value) and 0 <= value <= 100_000 else [f"is {value!r:.60}; give hours, 0 or more"]


def _one_of(known: Sequence[str]) -> Callable[[Any, Any], list[str]]:
    return lambda value, _: [] if value in known else [f"is {value!r:.60}; {nearest(str(value), known)}"]


TOP = ("format", "channels", "rules")
RULE_KEYS: dict[str, Callable[[Any, Any], list[str]]] = {
    "name": _text_mistakes,
    "kinds": _list_mistakes,
    "subjects": lambda value, _: _list_mistakes(value, None),
    "severity": _one_of(SEVERITIES),
    "at_most": _number_mistakes,
    "at_least": _number_mistakes,
    "looks": _count_mistakes,
    "recovery_looks": _count_mistakes,
    "channels": _list_mistakes,
    "action": _one_of(ACTIONS),
    "cooldown_h": _hours_mistakes,
}
