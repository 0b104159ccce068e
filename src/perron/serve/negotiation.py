"""A request's headers in; which of the offered types it wants, and whether it has the document already, out.

RFC 9110, sections 12.5.1 (Accept) and 13.1.2 (If-None-Match).
"""

import hashlib
from collections.abc import Sequence

__all__ = ["choose", "document_headers", "has_already"]


def choose(accept: str | None, offered: Sequence[str]) -> str | None:
    """The offered type that is wanted most, the first among equals; None where none is acceptable."""
    ranges = list(filter(None, map(_range, (accept or "").split(","))))
    if not ranges:
        return offered[0]
    best, most = None, 0.0
    for one in offered:
        kind = one.partition(";")[0]
        family = kind.partition("/")[0]
        # Of the ranges that fit, the most exact one says how much it is wanted.
        fitting = [(place, share) for place, share in ranges if place in (kind, f"{family}/*", "*/*")]
        wanted = max(fitting, key=lambda pair: (pair[0] == kind, pair[0] != "*/*", pair[1]), default=("", 0.0))[1]
        if wanted > most:
            best, most = one, wanted
    return best


def _range(text: str) -> tuple[str, float] | None:
    kind, *rest = (part.strip().lower() for part in text.split(";"))
    share = 1.0
    for parameter in rest:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                share = float(value)
            except ValueError:
                share = 1.0
    return (kind, min(max(share, 0.0), 1.0)) if "/" in kind else None


def document_headers(body: bytes) -> tuple[tuple[str, str], ...]:
    """The headers of a document that clients may keep, and ask again about: a strong tag of its bytes."""
    return (
        ("etag", f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'),
        ("cache-control", "no-cache"),  # keep it, and ask whether it is still so
        ("vary", "accept"),
    )


def has_already(if_none_match: str, tag: str) -> bool:
    """Whether the client has the document of that tag (compared weakly, as RFC 9110 wants it for GET)."""
    known = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return known == ["*"] or tag in known
