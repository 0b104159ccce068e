"""A text and two that people and Perron made of it in; one with both changes out, or both sides between conflict markers.

The algorithm is diff3's (S. Khanna, K. Kunal and B. C. Pierce, "A Formal Investigation of Diff3", FSTTCS 2007): where all
three agree a line is kept; between such lines, who changed something wins, and where both did, differently, it is a
conflict. Written here, since the package that does this (merge3) is under the GPL, and git isn't everywhere.
"""

import ast
import re
import tomllib
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from pathlib import PurePosixPath
from typing import Any

__all__ = ["has_conflict", "merge_texts"]

YOURS = "yours"  # what a conflict calls the person's side
CONFLICT = re.compile(rf"^<<<<<<< {YOURS}$.*?^>>>>>>> perron", re.MULTILINE | re.DOTALL)


def has_conflict(text: str) -> bool:
    """Whether a conflict that `merge_texts` wrote is there still."""
    return CONFLICT.search(text) is not None


def merge_texts(name: str, base: str, yours: str, derived: str, label: str) -> tuple[str, bool]:
    """The two changed texts in one, and whether they go together; where they don't, both stand between conflict markers.

    Changes that touch no common line and yet make a TOML or Python file unreadable together (a key given twice) don't
    go together either.

    Args:
        name: of the file, whose ending tells how it reads.
        base: what both were made of.
        yours: with a person's changes.
        derived: with Perron's.
        label: what a conflict calls the derived side; begins with `perron`.
    """
    mine, theirs = _lines(yours), _lines(derived)
    merged, is_clean = _merge(_lines(base), mine, theirs, label)
    text = "".join(merged)
    if is_clean and not _reads(name, text) and _reads(name, yours):
        return "".join(_conflict(mine, theirs, label)), False
    return text, is_clean


def _merge(base: Sequence[str], mine: Sequence[str], theirs: Sequence[str], label: str) -> tuple[list[str], bool]:
    in_mine, in_theirs = _places(base, mine), _places(base, theirs)
    made: list[str] = []
    is_clean = True
    at = at_mine = at_theirs = 0
    for place in (*(place for place in range(len(base)) if place in in_mine and place in in_theirs), None):
        until = (len(base), len(mine), len(theirs)) if place is None else (place, in_mine[place], in_theirs[place])
        old, new_mine, new_theirs = base[at : until[0]], mine[at_mine : until[1]], theirs[at_theirs : until[2]]
        if new_mine in (old, new_theirs):
            made += new_theirs
        elif new_theirs == old:
            made += new_mine
        else:
            made += _conflict(new_mine, new_theirs, label)
            is_clean = False
        if place is not None:
            made.append(base[place])
            at, at_mine, at_theirs = (one + 1 for one in until)
    return made, is_clean


def _places(base: Sequence[str], other: Sequence[str]) -> dict[int, int]:
    """Where each line of the base that the other kept is in it."""
    matcher = SequenceMatcher(None, base, other, autojunk=False)
    return {m.a + step: m.b + step for m in matcher.get_matching_blocks() for step in range(m.size)}


def _conflict(mine: Sequence[str], theirs: Sequence[str], label: str) -> list[str]:
    """Both sides between markers, as git writes them; lines that both begin or end with stand outside."""
    least = min(len(mine), len(theirs))
    head = next((n for n in range(least) if mine[n] != theirs[n]), least)
    tail = next((n for n in range(least - head) if mine[-1 - n] != theirs[-1 - n]), least - head)
    return [
        *mine[:head],
        f"<<<<<<< {YOURS}\n", *mine[head : len(mine) - tail], "=======\n", *theirs[head : len(theirs) - tail], f">>>>>>> {label}\n",
        *mine[len(mine) - tail :],
    ]  # fmt: skip


def _lines(text: str) -> list[str]:
    """The lines with their ends, of which the last has one too, so that no marker is glued to it."""
    whole = text if text.endswith("\n") or not text else f"{text}\n"
    return [f"{line}\n" for line in whole.split("\n")[:-1]]


def _reads(name: str, text: str) -> bool:
    readers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".py": ast.parse}
    try:
        readers.get(PurePosixPath(name).suffix, str)(text)
    except (ValueError, SyntaxError, RecursionError):
        return False
    return True
