"""A name and scopes in; a new bearer token out, of which the ledger keeps only the hash.

A server without a project has its tokens from a text, which holds hashes too:

    [{"sha256": "…", "name": "shop", "scopes": ["predict"], "requests_per_s": null, "expires": null}]
"""

import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from perron.errors import DataError, nearest
from perron.plan import TokenPlan

if TYPE_CHECKING:  # a server without a project reads tokens, and has no database
    from perron.ledger import Ledger

__all__ = ["SCOPES", "make_token", "parse_tokens", "tokens_in_force", "tokens_text"]

SCOPES = ("predict", "outcome", "read", "admin")
PREFIX = "perron_"  # so that scanners of leaked secrets know what they found
NAME = re.compile(r"[\w.@-]{1,80}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def make_token(
    ledger: "Ledger",
    name: str,
    scopes: Sequence[str] = ("predict",),
    *,
    requests_per_s: float | None = None,
    days: float | None = None,
) -> str:
    """The token, shown this once. `requests_per_s` None: unlimited; `days` None: until it is revoked.

    Raises:
        DataError: a name that is taken or makes no sense, an unknown scope, a rate or time that isn't above 0.
    """
    if not NAME.fullmatch(name):
        raise DataError(f"The token's name is {name[:40]!r}; use up to 80 letters, digits, and . _ @ -.")
    for scope in scopes:
        if scope not in SCOPES:
            raise DataError(f"There is no scope {scope!r}; {nearest(scope, SCOPES)}")
    if not scopes:
        raise DataError(f"Give the token a scope: {', '.join(SCOPES)}.")
    for word, value in (("requests_per_s", requests_per_s), ("days", days)):
        if value is not None and not 0 < value < float("inf"):
            raise DataError(f"{word} is {value:g}; give a number above 0.")
    token = PREFIX + secrets.token_urlsafe(32)
    expires = None if days is None else (datetime.now(UTC) + timedelta(days=days)).isoformat()
    ledger.add_token(hashlib.sha256(token.encode()).hexdigest(), name, scopes, requests_per_s, expires)
    return token


def tokens_in_force(ledger: "Ledger") -> tuple[TokenPlan, ...] | None:
    """The tokens that aren't revoked; None when none was ever made, so that nobody is asked for one.

    (When the last one is revoked, nobody gets in: an empty tuple.)
    """
    rows = ledger.list_tokens()
    if not rows:
        return None
    return tuple(
        TokenPlan(row["sha256"], row["name"], frozenset(row["scopes"]), row["requests_per_s"], row["expires"])
        for row in rows
        if row["revoked"] is None
    )


def tokens_text(tokens: Sequence[TokenPlan]) -> str:
    """The tokens as the text that `parse_tokens` reads; no secret is in it."""
    rows = [{**vars(token), "scopes": sorted(token.scopes)} for token in tokens]
    return json.dumps(rows, ensure_ascii=False)


def parse_tokens(text: str | bytes, where: str) -> tuple[TokenPlan, ...]:
    """The tokens of a text; `where` it is from is said when it can't be read.

    Raises:
        DataError: it isn't such a text; says what is wrong with which token.
    """
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} isn't JSON ({error}); `perron token export` writes it.") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{where} isn't a list of tokens; `perron token export` writes it.")
    return tuple(_token(row, f"{where}: token {place}") for place, row in enumerate(rows, 1))


def _token(row: dict[str, Any], where: str) -> TokenPlan:
    sha256, name, scopes, rate, expires = map(row.get, ("sha256", "name", "scopes", "requests_per_s", "expires"))
    strangers = sorted(set(row) - {"sha256", "name", "scopes", "requests_per_s", "expires"})
    if strangers:
        raise DataError(f"{where} has the key {strangers[0]!r}; known: expires, name, requests_per_s, scopes, sha256.")
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        raise DataError(f"{where} has no sha256 of 64 hexadecimal digits; the token itself doesn't belong here.")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DataError(f"{where} has no name of up to 80 letters, digits, and . _ @ -.")
    if not isinstance(scopes, list) or not scopes or any(scope not in SCOPES for scope in scopes):
        raise DataError(f"{where} ({name}) has other scopes than {', '.join(SCOPES)}.")
    if rate is not None and (
        isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < float("inf")
    ):
        raise DataError(f"{where} ({name}) has a requests_per_s that isn't a number above 0.")
    try:
        known = expires is None or datetime.fromisoformat(expires).tzinfo is not None
    except (TypeError, ValueError):
        known = False
    if not known:
        raise DataError(f"{where} ({name}) expires at no time with a zone, such as 2026-11-24T12:00:00+00:00.")
    # Compared as text by the guard, so always in UTC.
    moment = None if expires is None else datetime.fromisoformat(expires).astimezone(UTC).isoformat()
    return TokenPlan(sha256, name, frozenset(scopes), rate, moment)
