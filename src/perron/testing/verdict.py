"""What an exam found in; what its failure says, or why it can't be judged here, out."""

import json
from collections.abc import Mapping
from typing import Any

from perron.contract import Role, Schema
from perron.errors import PerronError

__all__ = ["Broken", "NotHere", "number", "shown"]

MOST = 600  # characters of a row that a message shows


class Broken(AssertionError):
    """A promise that isn't kept; the message says which row, what was expected and what came."""


class NotHere(PerronError):
    """What an exam needs isn't on this machine, so that it can't be judged: it is skipped, with this reason."""


def shown(row: Mapping[str, Any], schema: Schema) -> str:
    """A row as JSON, for a message: without what is Sensitive, since messages end up in logs."""
    hidden = {field.name for field in schema.fields if Role.SENSITIVE in field.roles}
    plain = {name: "(sensitive)" if name in hidden and value is not None else value for name, value in row.items()}
    text = json.dumps(plain, ensure_ascii=False, default=str)
    return text if len(text) <= MOST else text[: MOST - 1] + "…"


def number(value: Any) -> str:
    """An answer's value with six digits; text as JSON has it."""
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False, default=str)
