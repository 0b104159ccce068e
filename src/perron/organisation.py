"""`[tool.perron.project]` of a pyproject.toml in; how a project is organised out: its CI, branches, licence and owner.

These are the answers of `perron init`, kept where a Python project declares things: who changes one of them and runs
`perron sync` gets the files that follow from it.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from perron.errors import DeclarationError, nearest

__all__ = ["BRANCHINGS", "CIS", "FILE", "LICENCES", "Organisation", "answers_of", "read_organisation", "toml_text"]

FILE = "pyproject.toml"
CIS = ("github", "none")
BRANCHINGS = ("git-flow", "trunk")
LICENCES = ("apache-2.0", "mit", "proprietary", "none")
CHOICES: Mapping[str, tuple[str, ...]] = {"ci": CIS, "branching": BRANCHINGS, "licence": LICENCES}


@dataclass(frozen=True)
class Organisation:
    """How a project is organised.

    `holder` is whom the licence names, `owner` who is asked to review (an address or `@name`, for CODEOWNERS; empty:
    nobody yet), `year` when it began (0: not told).

    Raises:
        DeclarationError: an answer that isn't one of those known.
    """

    ci: str = "github"
    branching: str = "git-flow"
    licence: str = "none"
    holder: str = ""
    owner: str = ""
    year: int = 0

    def __post_init__(self) -> None:
        for key, known in CHOICES.items():
            if getattr(self, key) not in known:
                raise DeclarationError(
                    f"{key} is {getattr(self, key)!r:.60}; {nearest(str(getattr(self, key)), known)}"
                )
        for key in ("holder", "owner"):
            value = getattr(self, key)
            if not isinstance(value, str) or any(ord(char) < 32 for char in value):
                raise DeclarationError(f"{key} is {value!r:.60}; give a text of one line.")
        if isinstance(self.year, bool) or not isinstance(self.year, int) or self.year < 0:
            raise DeclarationError(f"year is {self.year!r:.60}; give a year, such as 2026.")

    def to_toml(self) -> str:
        """The lines of the table, without its head."""
        lines = []
        for field in fields(self):
            value = getattr(self, field.name)
            known = CHOICES.get(field.name)
            lines.append(f"{field.name} = {toml_text(value)}" + (f"  # {', '.join(known)}" if known else ""))
        return "\n".join(lines)


def toml_text(value: str | int | list[str]) -> str:
    """The value as TOML has it, whose basic strings are JSON's but for the delete character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def answers_of(text: str) -> str | None:
    """The lines of the table in a pyproject.toml as a person wrote them; None where they don't stand below its head."""
    found = re.search(
        r"^\[tool\.perron\.project\][^\n]*\n(.*?)(?=^\[|\Z)", text.replace("\r\n", "\n"), re.MULTILINE | re.DOTALL
    )
    return found[1].strip("\n") or None if found else None


def read_organisation(folder: Path) -> Organisation:
    """What the pyproject.toml of a project's folder says.

    Raises:
        DeclarationError: there is no such file or table, it can't be read, or it holds something unknown.
    """
    path = folder / FILE
    try:
        data = tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        raise DeclarationError(
            f"There is no {path}, which says how the project is organised; `perron init` makes one."
        ) from None
    except OSError as error:
        raise DeclarationError(f"Can't read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        hint = "resolve the conflict in it" if b"<<<<<<< " in path.read_bytes() else "mend it"
        raise DeclarationError(f"{path} isn't TOML: {str(error).splitlines()[0]}; {hint}.") from error
    table: Any = data
    for key in ("tool", "perron", "project"):
        table = table.get(key) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise DeclarationError(
            f"{path} has no table [tool.perron.project]: the project was begun with --bare, or before there was one; "
            "add it (it may be empty) to have the files of a whole project."
        )
    known = [field.name for field in fields(Organisation)]
    for key in table:
        if key not in known:
            raise DeclarationError(f"{path}: [tool.perron.project] has no key {key!r}; {nearest(key, known)}")
    try:
        return Organisation(**table)
    except DeclarationError as error:
        raise DeclarationError(f"{path}: [tool.perron.project]: {error}") from None
