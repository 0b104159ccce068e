"""A request's headers in; whether it may, out: bearer tokens with scopes, rates per token, and CORS.

Tokens come with the plan as SHA-256 hashes, so that one that is revoked stops working within half a
second everywhere. A rate holds for a server as a whole: each of its workers allows its part of it.
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

from perron.plan import TokenPlan
from perron.serve.problem import Answer, problem
from perron.serve.routes import Headers, Scope

__all__ = ["Cors", "Guard"]

CHALLENGE = (("www-authenticate", 'Bearer realm="perron"'),)
KNOWN = 1024  # tokens as they came, remembered so that each is hashed once
PREFLIGHT_S = 600


class _Bucket:
    """A token bucket: `rate` a second, and as many at once as a second brings (one at least)."""

    __slots__ = ("at", "burst", "level", "rate")

    def __init__(self, rate: float) -> None:
        self.rate, self.burst = rate, max(rate, 1.0)
        self.level, self.at = self.burst, time.monotonic()

    def take(self) -> float:
        """Zero when one was there, else the seconds until one will be."""
        now = time.monotonic()
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= 1.0:
            self.level -= 1.0
            return 0.0
        return (1.0 - self.level) / self.rate


class Guard:
    """Judges bearer tokens. Not thread safe: one event loop asks it.

    Args:
        tokens: all that are in force; None where nobody is asked for one.
        workers: of the server, among which a rate is parted.
    """

    def __init__(self, tokens: Sequence[TokenPlan] | None, workers: int = 1) -> None:
        self.tokens = None if tokens is None else tuple(tokens)
        self._by_hash = {token.sha256: token for token in tokens or ()}
        self._buckets = {
            token.sha256: _Bucket(token.requests_per_s / workers)
            for token in tokens or ()
            if token.requests_per_s is not None
        }
        self._known: dict[str, TokenPlan | None] = {}

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked for a token."""
        return self.tokens is None

    def check(self, headers: Headers, scope: Scope) -> TokenPlan | Answer | None:
        """Who asks (None: nobody is asked), or the problem: 401 without a token in force, 403 without the scope, 429 over the rate."""
        if self.tokens is None:
            return None
        given = headers.get("authorization")
        if given is None:
            return problem(401, "Send a token: Authorization: Bearer ….", CHALLENGE)
        token = self._known.get(given)
        if token is None:
            token = self._look_up(given)
            if token is None:
                return problem(401, "The token isn't known, or was revoked.", CHALLENGE)
        if token.expires is not None and datetime.now(UTC).isoformat() >= token.expires:
            return problem(401, f"The token {token.name!r} has expired.", CHALLENGE)
        if scope not in token.scopes:
            return problem(403, f"The token {token.name!r} allows {', '.join(sorted(token.scopes))}, not {scope}.")
        bucket = self._buckets.get(token.sha256)
        if bucket is not None:
            wait = bucket.take()
            if wait:
                return problem(
                    429, f"The token {token.name!r} may ask {token.requests_per_s:g} times a second.",
                    (("retry-after", str(max(1, ceil(wait)))),),
                )  # fmt: skip
        return token

    def name_of(self, headers: Headers) -> str | None:
        """The name of the token that a request bears, for logs; None without one that is known."""
        token = self._known.get(headers.get("authorization") or "")
        return None if token is None else token.name

    def _look_up(self, given: str) -> TokenPlan | None:
        kind, _, secret = given.partition(" ")
        if kind.lower() != "bearer" or not secret or len(secret) > 512:
            return None
        # The secrets are random and long: looking up their hash tells nothing by the time that it takes.
        token = self._by_hash.get(hashlib.sha256(secret.strip().encode("utf-8", "surrogatepass")).hexdigest())
        if token is not None and len(self._known) < KNOWN:
            self._known[given] = token
        return token


@dataclass(frozen=True)
class Cors:
    """Which origins a browser may ask from (`*`: any); none by default. WHATWG Fetch, section 3.3."""

    origins: tuple[str, ...] = ()

    def headers(self, origin: str | None) -> tuple[tuple[str, str], ...]:
        """What an answer says to a page of that origin."""
        if origin is None or not self.origins:
            return ()
        if "*" in self.origins:
            return (("access-control-allow-origin", "*"),)
        if origin in self.origins:
            return (("access-control-allow-origin", origin), ("vary", "Origin"))
        return (("vary", "Origin"),)

    def preflight(self, origin: str | None, methods: str) -> tuple[tuple[str, str], ...]:
        """What the answer to a browser's question before its request says."""
        allowed = self.headers(origin)
        if not any(name == "access-control-allow-origin" for name, _ in allowed):
            return allowed
        return (
            *allowed,
            ("access-control-allow-methods", methods),
            ("access-control-allow-headers", "authorization, content-type, x-routing-key, x-timeout-ms, traceparent"),
            ("access-control-max-age", str(PREFLIGHT_S)),
        )
