"""What went wrong in; a problem (RFC 9457) as the answer out."""

from typing import Any

import msgspec

__all__ = ["Answer", "json_answer", "problem"]

JSON, PROBLEM = "application/json", "application/problem+json"
TITLES = {
    400: "Not JSON",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    413: "Too large",
    415: "Not application/json",
    422: "The request breaks the contract",
    500: "Internal error",
    503: "Not available",
}
encode = msgspec.json.Encoder(enc_hook=str).encode


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An answer, whatever the protocol: HTTP's status, the body, its type, and further headers."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, encode(value))


def problem(status: int, detail: str, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> Answer:
    """The problem: `type`, `title`, `status`, `detail`, and what else is known of it."""
    kind = TITLES[status].lower().replace(" ", "-").replace("/", "-")
    body = {"type": f"/problems/{kind}", "title": TITLES[status], "status": status, "detail": detail, **more}
    return Answer(status, encode(body), PROBLEM, headers)
