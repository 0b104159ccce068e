"""A channel's table of alerts.toml in; something that sends events out, or what is wrong with the table.

Whatever is secret is a reference to the environment, such as `${SMTP_PASSWORD}`, looked up when something is sent and
kept nowhere.
"""

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable
from urllib.parse import urlsplit

from perron.alerts.events import Event, one_line
from perron.errors import DeclarationError, PerronError, nearest

__all__ = [
    "CHANNEL_KINDS", "Channel", "ChannelError", "ChannelSettings", "Option", "PageChannel", "channel_mistakes",
    "demand_channel", "missing_names", "send", "send_page", "url_mistake",
]  # fmt: skip

REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ChannelError(PerronError):
    """An event that a channel couldn't send; `is_lasting` when another try at once would fail the same."""

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


class Channel(Protocol):
    """One way to tell events. Made with the options of its kind (references looked up) and the project's folder.

    The law: `send` returns once the event was taken, and raises ChannelError otherwise; it takes no longer than the
    option `timeout_s`, where the kind has one.
    """

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None: ...

    def send(self, event: Event) -> None:
        """Sends an event.

        Raises:
            ChannelError: it wasn't taken, or nobody knows.
        """
        ...


@runtime_checkable
class PageChannel(Channel, Protocol):
    """A channel by which a whole page can go."""

    def send_page(self, title: str, summary: str, page: str) -> None:
        """Sends a page of HTML.

        Raises:
            ChannelError: it wasn't taken, or nobody knows.
        """
        ...


@dataclass(frozen=True)
class Option:
    """A key of a channel: its type, what it is when it isn't given (None: it must be), and whether it is secret."""

    type: Literal["text", "texts", "number"]
    default: Any = None
    is_secret: bool = False
    known: tuple[str, ...] = ()


_TIMEOUT = Option("number", 10.0)
CHANNEL_KINDS: dict[str, dict[str, Option]] = {
    "stdout": {},
    "file": {"path": Option("text")},
    "webhook": {"url": Option("text"), "secret": Option("text", "", is_secret=True), "timeout_s": _TIMEOUT},
    "slack": {"url": Option("text"), "timeout_s": _TIMEOUT},
    "mail": {
        "host": Option("text"),
        "port": Option("number", 0),
        "security": Option("text", "starttls", known=("starttls", "tls", "none")),
        "user": Option("text", ""),
        "password": Option("text", "", is_secret=True),
        "from": Option("text"),
        "to": Option("texts"),
        "ca_file": Option("text", ""),
        "timeout_s": _TIMEOUT,
    },
}


@dataclass(frozen=True)
class ChannelSettings:
    """A channel as it is declared: options with their references, not what they refer to."""

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)


def send(settings: ChannelSettings, event: Event, folder: Path) -> None:
    """Sends an event by a channel; `folder` is what a file's path is relative to.

    Raises:
        ChannelError: it wasn't taken; without anything secret in its words.
    """
    with _opened(settings, folder) as channel:
        channel.send(event)


def send_page(settings: ChannelSettings, title: str, summary: str, page: str, folder: Path) -> None:
    """Mails a page of HTML as an attachment: the title is the subject, the summary the text.

    Raises:
        DeclarationError: the channel is of another kind.
        ChannelError: it wasn't taken.
    """
    with _opened(settings, folder) as channel:
        if not isinstance(channel, PageChannel):
            raise DeclarationError(
                f"{settings.name} is a {settings.kind} channel; a page goes by a channel of the kind mail."
            )
        channel.send_page(title, summary, page)


@contextmanager
def _opened(settings: ChannelSettings, folder: Path) -> Iterator[Channel]:
    """The channel, with its references looked up; what they gave is in no error's words."""
    secrets: list[str] = []
    options = {
        name: _look_up(settings.options.get(name, option.default), settings.name, secrets)
        for name, option in CHANNEL_KINDS[settings.kind].items()
    }
    made: Channel = importlib.import_module(f"perron.notify.{settings.kind}").channel(options, folder)
    try:
        yield made
    except ChannelError as error:
        raise ChannelError(_without(f"{settings.name}: {error}", secrets), is_lasting=error.is_lasting) from None


def missing_names(settings: ChannelSettings) -> list[str]:
    """The environment variables that the channel needs and that aren't there."""
    texts = [text for value in settings.options.values() for text in (value if isinstance(value, list) else [value])]
    names = [name for text in texts if isinstance(text, str) for name in REFERENCE.findall(text)]
    return [name for name in dict.fromkeys(names) if not os.environ.get(name)]


def channel_mistakes(table: Any, place: str) -> list[str]:
    """What is wrong with a channel's table, each with its key."""
    if not isinstance(table, dict):
        return [f"{place} is {table!r:.60}; make it a table: [{place}]"]
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in CHANNEL_KINDS:
        hint = nearest(str(kind), CHANNEL_KINDS) if "kind" in table else nearest("", CHANNEL_KINDS)
        return [f"{place}.kind is {kind!r:.60}; {hint}" if "kind" in table else f"{place} has no kind; {hint}"]
    options = CHANNEL_KINDS[kind]
    mistakes = [
        f"{place}.{key} is no key of a {kind} channel; {nearest(key, ['kind', *options])}"
        for key in table
        if key not in options and key != "kind"
    ]
    for key, option in options.items():
        if key not in table:
            if option.default is None:
                mistakes.append(f"{place} has no {key}, which a {kind} channel needs")
            continue
        mistakes += [f"{place}.{key} {words}" for words in _option_mistakes(table[key], option)]
    return mistakes or _together(table, place)


def _option_mistakes(value: Any, option: Option) -> list[str]:
    if option.type == "number":
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 86400:
            return [f"is {value!r:.60}; give a number above 0"]
    elif option.type == "texts":
        if not isinstance(value, list) or not value or not all(map(_is_text, value)):
            return [f'is {value!r:.60}; give a list of texts, such as ["team@example.com"]']
    elif option.is_secret:
        if not isinstance(value, str) or not REFERENCE.fullmatch(value):
            return ['must be a reference to the environment, such as "${SECRET}": secrets don\'t belong in a file']
    elif not _is_text(value):
        return [f"is {value!r:.60}; give a text of one line"]
    elif option.known and value not in option.known:
        return [f"is {value!r:.60}; {nearest(value, option.known)}"]
    return []


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _together(table: Mapping[str, Any], place: str) -> list[str]:
    """What is wrong with options that are right one by one."""
    if "url" in table and not REFERENCE.search(table["url"]):
        words = url_mistake(table["url"])
        return [f"{place}.url {words}"] if words else []
    if table["kind"] != "mail":
        return []
    mistakes = [
        f"{place}.{key} is {text!r:.60}; give an address such as perron@example.com"
        for key, texts in (("from", [table["from"]]), ("to", table["to"]))
        for text in texts
        if "@" not in text and not REFERENCE.search(text)
    ]
    port = table.get("port", 1)
    if port != int(port) or port > 65535:
        mistakes.append(f"{place}.port is {port!r}; give a whole number up to 65535")
    if ("user" in table) != ("password" in table):
        mistakes.append(f"{place} has only one of user and password; give both or none")
    if "password" in table and table.get("security") == "none" and table["host"] not in LOOPBACK:
        mistakes.append(f'{place} would send its password in the clear; use security = "starttls" or "tls"')
    return mistakes


def url_mistake(url: str) -> str | None:
    """What is wrong with the URL, without showing it (its path may be the secret)."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or any(char <= " " for char in url):
        return "is no address of a web hook; give one such as https://example.com/hook"
    if parts.username is not None or parts.password is not None:
        return "holds a user or a password; sign with a secret instead"
    return None


def _look_up(value: Any, channel: str, secrets: list[str]) -> Any:
    """The value with its references looked up; what they gave is added to `secrets`."""
    if isinstance(value, list):
        return [_look_up(one, channel, secrets) for one in value]
    if not isinstance(value, str):
        return value

    def found(match: re.Match[str]) -> str:
        text = os.environ.get(match[1])
        if not text:
            raise ChannelError(f"{channel}: the environment variable {match[1]} isn't set", is_lasting=True)
        secrets.append(text)
        return text

    return REFERENCE.sub(found, value)


def _without(text: str, secrets: list[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…")
    return one_line(text)


def demand_channel(channels: Mapping[str, ChannelSettings], name: str) -> ChannelSettings:
    """The channel of that name.

    Raises:
        DeclarationError: there is none.
    """
    if name not in channels:
        raise DeclarationError(f"There is no channel {name!r} in alerts.toml; {nearest(name, channels)}")
    return channels[name]
