"""Rows with sensitive fields in; what the log may keep of them out.

A sensitive field is kept as a keyed digest (HMAC-SHA256, RFC 2104, with the project's own secret), by
which rows of one person are still known as such, or not at all.
"""

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import msgspec

from perron.contract import Role, Schema, SensitiveHow

__all__ = ["Mask", "digest_of", "mask_of"]

DIGITS = 32


def digest_of(value: Any, secret: bytes) -> str:
    """The keyed digest of a value: `hmac:` and 32 hexadecimal digits. Values of other types differ: 1 and "1"."""
    text = value.isoformat() if isinstance(value, date) else value
    written = json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return "hmac:" + hmac.new(secret, written, hashlib.sha256).hexdigest()[:DIGITS]


def mask_of(schema: Schema, manifest: Mapping[str, Any], secret: Callable[[], bytes]) -> "Mask | None":
    """The mask of a bundle's rows; None where its contract has no sensitive field (the secret isn't asked for then)."""
    if not any(Role.SENSITIVE in field.roles for field in schema.request):
        return None
    return Mask(schema, manifest.get("sensitive", "hash"), secret())


class Mask:
    """Masks the sensitive fields of rows; thread safe.

    Args:
        schema: the contract.
        how: `hash` or `drop`.
        secret: of the project; its digests can't be made, or guessed by trying, without it.
    """

    def __init__(self, schema: Schema, how: SensitiveHow, secret: bytes) -> None:
        self.names = frozenset(field.name for field in schema.fields if Role.SENSITIVE in field.roles)
        self._order = [field.name for field in schema.request]
        self._how, self._secret = how, secret
        self._encode = msgspec.json.Encoder().encode

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row by names, masked; what is null is left out."""
        kept: dict[str, Any] = {}
        for name, value in row.items():
            if value is None:
                continue
            if name not in self.names:
                kept[name] = value
            elif self._how == "hash":
                kept[name] = digest_of(value, self._secret)
        return kept

    def body(self, rows: Sequence[tuple[Any, ...]]) -> bytes:
        """Decoded rows, in the order of `schema.request`, as the body that the log keeps."""
        return self._encode({"rows": [self.row(dict(zip(self._order, row, strict=True))) for row in rows]})
