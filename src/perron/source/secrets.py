"""A path or URL in; the same with the environment's values in it, or to be shown, without passwords, out."""

import os
import re
from collections.abc import Iterable
from urllib.parse import quote as url_quote
from urllib.parse import unquote

from perron.errors import SourceError

__all__ = ["expand", "hide", "reason_of", "secrets_of"]

REFERENCE = re.compile(r"\$\{(\w+)\}")
# Up to the last @, since people forget to quote one; but a number before a slash is a port.
PASSWORD = re.compile(r"(://[^/@:?#]*:)(?!\$\{\w+\}@|\d+/)(.+)(?=@)")
SECRET_WORDS = re.compile(
    r"(?i)\b([\w-]*(?:password|passwd|secret|token|signature|key|sig|credential)[\w-]*=)(?!\$\{)[^&#]+"
)


def hide(text: str) -> str:
    """The text with passwords in URLs, and what looks like one in their queries, as `***`; `${NAME}` stays."""
    if "://" not in text:
        return text
    return SECRET_WORDS.sub(r"\1***", PASSWORD.sub(r"\1***", text))


def expand(text: str) -> str:
    """The text with every `${NAME}` as the environment has it; quoted where it is the user or password of a URL.

    Raises:
        SourceError: the environment has no such name.
    """

    def value(found: "re.Match[str]") -> str:
        name = found[1]
        if name not in os.environ:
            raise SourceError(f"The environment has no {name}, which the source {hide(text)} names; set it.")
        given = os.environ[name]
        before, after = text[: found.start()], text[found.end() :]
        is_user = "://" in before and "/" not in before.partition("://")[2] and "@" in after.partition("/")[0]
        return url_quote(given, safe="") if is_user else given

    return REFERENCE.sub(value, text)


def secrets_of(text: str) -> Iterable[str]:
    """What must not be shown of a place: its password, and the values of `${NAME}`."""
    found = [os.environ.get(name, "") for name in REFERENCE.findall(text)]
    password = PASSWORD.search(text)
    found += [password[2], unquote(password[2])] if password else []
    return [secret for secret in {*found, *(url_quote(secret, safe="") for secret in found)} if len(secret) > 3]


def reason_of(error: BaseException, place: str = "") -> str:
    """The first line of what an error says, without secrets of the place."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    for secret in secrets_of(place):
        text = text.replace(secret, "***")
    return hide(text)
