"""A name and scopes in; a new bearer token out, of which the ledger keeps only the hash."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from perron.errors import DataError, nearest
from perron.ledger import Ledger
from perron.plan import TokenPlan

__all__ = ["SCOPES", "make_token", "tokens_in_force"]

SCOPES = ("predict", "outcome", "read", "admin")
PREFIX = "perron_"  # so that scanners of leaked secrets know what they found
NAME = re.compile(r"[\w.@-]{1,80}")


def make_token(
    ledger: Ledger,
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


def tokens_in_force(ledger: Ledger) -> tuple[TokenPlan, ...] | None:
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
