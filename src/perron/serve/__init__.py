"""Answers requests with a bundle; imports nothing that trains.

`asgi(bundle)` is its service as an ASGI application (`perron.serve.mount`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perron.serve.mount import asgi

__all__ = ["asgi"]


def __getattr__(name: str) -> Any:
    if name != "asgi":
        raise AttributeError(f"module 'perron.serve' has no attribute {name!r}")
    from perron.serve.mount import asgi  # not at the top: importing a part of the server loads no other

    return asgi
