"""Rows and a bundle in; a file of its answers out, and whether a later bundle answers as the file says.

The file is the project's and is committed. It holds what the model is asked with (no Id, Group or Weight), and nothing
of a Sensitive field: there stands the simplest value that the contract allows, or null, and the answer is to that.
"""

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.bundle import Bundle
from perron.check import judge_row
from perron.contract import Schema
from perron.errors import DeclarationError
from perron.store import write_atomically
from perron.testing.subject import Subject
from perron.testing.verdict import Broken, NotHere, number, shown

__all__ = ["FILE", "Golden", "check_golden", "read_golden", "write_golden"]

FILE = "tests/golden.json"
FORMAT = 1
ROWS = 25
TOLERANCE = 1e-6
SHOWN = 3


@dataclass(frozen=True)
class Golden:
    """Rows with their answers, the bundle that gave them, and how far an answer may move: relative, or of a probability."""

    model: str
    version: int
    bundle: str
    tolerance: float
    rows: tuple[tuple[Mapping[str, Any], Mapping[str, Any]], ...]


def write_golden(subject: Subject) -> str:
    """What was written, in words: the answers of the subject's bundle to the file's rows, or to new ones.

    Rows that the contract still allows stay, so that a change is seen row by row; an edited tolerance stays too.
    """
    bundle, path = subject.bundle, subject.folder / FILE
    fields = {field.name: field for field in bundle.schema.request}
    try:
        before = read_golden(subject.folder) if path.exists() else None
    except DeclarationError:
        before = None
    kept = [dict(row) for row, _ in before.rows] if before is not None else []
    kept = [row for row in kept if not any(judge_row(fields, None, row, 0))]
    rows = kept if len(kept) >= ROWS else [*kept, *_new_rows(subject, ROWS - len(kept))]
    answers = bundle.predict(rows)
    data = {
        "format": FORMAT,
        "written_by": "pytest --perron --perron-update-golden",
        "model": bundle.name,
        "version": int(subject.row["version"]),
        "bundle": bundle.digest,
        "tolerance": TOLERANCE if before is None else before.tolerance,
        "rows": [{"row": row, "answer": answer} for row, answer in zip(rows, answers, strict=True)],
    }
    write_atomically(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    return f"wrote {FILE}: {len(rows)} golden predictions of {subject.words}"


def _new_rows(subject: Subject, count: int) -> list[dict[str, Any]]:
    """Test rows, evenly from all; where the snapshot isn't here, rows like the bundle's sample."""
    try:
        some = subject.rows
        taken = min(count, len(some))
        rows = [dict(some[place * len(some) // taken]) for place in range(taken)]
    except NotHere:
        from perron.tune.loadtest import rows_like  # not at the top: it brings the server

        schema, chance = subject.bundle.schema, random.Random(0)
        rows = [rows_like(schema, subject.bundle.sample["rows"][0], chance) for _ in range(count)]
    made_up = _made_up(subject.bundle.schema, subject.sensitive)
    return [
        {name: value for name, value in {**row, **{n: v for n, v in made_up.items() if n in row}}.items() if value is not None}
        for row in rows
    ]  # fmt: skip


def _made_up(schema: Schema, sensitive: Any) -> dict[str, Any]:
    """What stands for each Sensitive field."""
    fields = [field for field in schema.request if field.name in sensitive]
    found: dict[str, Any] = {field.name: None for field in fields if field.optional}
    if len(found) < len(fields):
        from perron.testing.exams import need_hypothesis

        need_hypothesis()
        from perron.testing.contract import simplest

        found |= {field.name: simplest(field) for field in fields if not field.optional}
    return found


def check_golden(subject: Subject) -> str:
    """How many answers were compared, in words.

    Raises:
        Broken: answers changed (shows those that changed most), or a row is refused now.
        DeclarationError: the file can't be read.
    """
    golden, bundle, schema = read_golden(subject.folder), subject.bundle, subject.bundle.schema
    how = "`pytest --perron --perron-update-golden` takes them over, where they are meant."
    if golden.model != bundle.name:
        raise Broken(f"{FILE} holds answers of {golden.model}, and this is {bundle.name}; {how}")
    fields = {field.name: field for field in schema.request}
    for place, (row, _) in enumerate(golden.rows):
        for fault in judge_row(fields, None, dict(row), place):
            raise Broken(
                f"{subject.words} refuses a golden row: {fault.message}.\n    row: {shown(row, schema)}\n{how}"
            )
    answers = bundle.predict([row for row, _ in golden.rows])
    moved = []
    for place, ((row, before), after) in enumerate(zip(golden.rows, answers, strict=True)):
        distance = _distance(bundle, before, after)
        if distance > golden.tolerance:
            moved.append((distance, place, row, before, after))
    if moved:
        same = (
            " The bundle is the same: another machine or runtime computes otherwise."
            if golden.bundle == bundle.digest
            else ""
        )
        worst = sorted(moved, key=lambda one: -one[0])[:SHOWN]
        lines = [
            f"    rows[{place}]: {_told(before)} → {_told(after)}{_by(distance)}\n        row: {shown(row, schema)}"
            for distance, place, row, before, after in worst
        ]
        raise Broken(
            f"{len(moved)} of {len(golden.rows)} golden answers changed by more than {golden.tolerance:g} since version {golden.version}"
            f" ({golden.bundle[:12]}); this is version {subject.row['version']} ({bundle.digest[:12]}).{same} The most:\n"
            + "\n".join(lines) + f"\n{how}"
        )  # fmt: skip
    return f"golden: {len(golden.rows)} answers are those of version {golden.version}, within {golden.tolerance:g}"


def _distance(bundle: Bundle, before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """Relative of numbers, the most of probabilities, infinite where a class or the kind of answer changed."""
    old, new = before.get("value"), after["value"]
    if bundle.classes is None:
        if isinstance(old, bool) or not isinstance(old, int | float):
            return math.inf
        return 0.0 if old == new else float(abs(new - old) / max(abs(old), abs(new)))
    shares, others = before.get("probabilities"), after.get("probabilities")
    if old != new or (shares is None) != (others is None):
        return math.inf
    if shares is None or others is None:
        return 0.0
    if set(shares) != set(others):
        return math.inf
    return float(max(abs(others[label] - share) for label, share in shares.items()))


def _by(distance: float) -> str:
    return "" if math.isinf(distance) else f", by {distance:.3g}"


def _told(answer: Mapping[str, Any]) -> str:
    shares = answer.get("probabilities")
    if not shares:
        return number(answer.get("value"))
    return f"{number(answer.get('value'))} ({', '.join(f'{label} {share:.4g}' for label, share in shares.items())})"


def read_golden(folder: Path) -> Golden:
    """The file of a project's folder.

    Raises:
        DeclarationError: it can't be read, is of a newer format, or isn't such a file.
    """
    anew = "`pytest --perron --perron-update-golden` makes it anew"
    try:
        data = json.loads((folder / FILE).read_bytes())
    except OSError as error:
        raise DeclarationError(f"{FILE} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DeclarationError(f"{FILE} isn't JSON: {error}; {anew}.") from error
    try:
        if data["format"] > FORMAT:
            raise DeclarationError(
                f"{FILE} has format {data['format']}, newer than this Perron's {FORMAT}; update perron."
            )
        rows = tuple((dict(one["row"]), dict(one["answer"])) for one in data["rows"])
        golden = Golden(str(data["model"]), int(data["version"]), str(data["bundle"]), float(data["tolerance"]), rows)
        whole = golden.rows and golden.tolerance >= 0 and all(_is_answer(answer) for _, answer in rows)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DeclarationError(
            f"{FILE} isn't a file of golden predictions ({type(error).__name__}: {error}); {anew}."
        ) from error
    if not whole:
        raise DeclarationError(f"{FILE} holds no answers, or a tolerance below 0; {anew}.")
    return golden


def _is_answer(answer: Mapping[str, Any]) -> bool:
    shares = answer.get("probabilities", {})
    return (
        "value" in answer and isinstance(shares, dict) and all(isinstance(one, int | float) for one in shares.values())
    )
