"""What went wrong in; a problem (RFC 9457) as the answer out. Here is also what every answer is made of."""

from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec

__all__ = ["PROBLEM", "Answer", "Parts", "Stream", "json_answer", "problem"]

JSON, PROBLEM = "application/json", "application/problem+json"
TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "Too slow",
    409: "Conflict",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported type",
    422: "The request breaks the contract",
    429: "Too many requests",
    500: "Internal error",
    501: "Not offered",
    503: "Not available",
    504: "Deadline passed",
}
encode = msgspec.json.Encoder(enc_hook=str).encode


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer, whatever the protocol: HTTP's status, the body, its type, and further headers."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Parts(Protocol):
    """The parts of an answer, made one by one as they are taken; whoever takes them calls `aclose` in the end."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class Stream(msgspec.Struct, frozen=True, gc=False):
    """An answer that comes in parts: server-sent events, a large result."""

    status: int
    parts: Parts
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return Answer(status, encode(value), headers=headers)


def problem(status: int, detail: str, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> Answer:
    """The problem: `type`, `title`, `status`, `detail`, and what else is known of it."""
    kind = TITLES[status].lower().replace(" ", "-").replace("/", "-")
    body = {"type": f"/problems/{kind}", "title": TITLES[status], "status": status, "detail": detail, **more}
    return Answer(status, encode(body), PROBLEM, headers)
