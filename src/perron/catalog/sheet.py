"""A project and a snapshot in; its data sheet out: derived parts regenerated between markers, people's words kept."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.catalog import Entry, describe, find_entry, split_of
from perron.digest import digest
from perron.errors import DataError
from perron.project import Project
from perron.store import write_atomically

__all__ = ["SHEET", "Sheet", "check_sheet", "keep_sheet", "refresh_sheet", "sheet_path"]

SHEET = Path("docs/datasheet.md")
BEGIN = re.compile(r"^<!-- perron:begin (?P<name>[a-z]+) (?P<seal>[0-9a-f]{16})[^\n]*-->\n", re.MULTILINE)
END = "<!-- perron:end {name} -->"
FORMAT = 1


@dataclass(frozen=True)
class Sheet:
    """A data sheet after it was judged: its path, the snapshot, whether it is current, why not, and whether it was written."""

    path: Path
    snapshot: str
    is_current: bool
    reasons: tuple[str, ...] = ()
    is_written: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "snapshot": self.snapshot,
            "current": self.is_current,
            "reasons": list(self.reasons),
            "written": self.is_written,
        }


def sheet_path(project: Project) -> Path:
    return project.folder / SHEET


def check_sheet(project: Project, name: str) -> Sheet:
    """Whether the project's sheet tells of its newest snapshot, untouched between the markers; costs no look at the rows.

    Args:
        project: the project.
        name: the system's.

    Raises:
        NotFound: there is no snapshot yet.
        DataError: the sheet can't be read.
    """
    entry, path = find_entry(project, system=name), sheet_path(project)
    if not path.is_file():
        return Sheet(path, entry.digest, False, (f"there is no {SHEET}",))
    text = _read(path)
    wanted = {part: _key(project, entry, name, part) for part in _pages().PARTS}
    found = {match["name"]: (match["seal"], _body(text, match)) for match in BEGIN.finditer(text)}
    reasons = []
    for part, key in wanted.items():
        if part not in found:
            reasons.append(f"the part {part!r} has no markers")
        elif found[part][1] is None:
            reasons.append(f"the part {part!r} has no end marker")
        elif found[part][0] != _seal(key, str(found[part][1])):
            reasons.append(f"the part {part!r} tells of another snapshot, or was edited by hand")
    return Sheet(path, entry.digest, not reasons, tuple(reasons))


def refresh_sheet(project: Project, name: str) -> Sheet:
    """The sheet, written where it wasn't current: what lies outside the markers stays as it is.

    A new sheet has the questions of Gebru et al. 2021, "Datasheets for Datasets", that only people can answer. Where a
    part's markers are gone, it is put at the end.

    Raises:
        NotFound: there is no snapshot yet.
        LedgerError: the rows of the newest snapshot aren't in the store any more.
        DataError: the sheet can't be read or written, or has a marker without its end.
    """
    judged = check_sheet(project, name)
    if judged.is_current:
        return judged
    entry, pages, path = find_entry(project, system=name), _pages(), judged.path
    if not entry.is_present:
        project.store.get(entry.digest)  # says what to do
    facts = {**describe(project, entry), "name": name}
    text = _read(path) if path.is_file() else pages.blank(facts)
    for part, body in pages.render(facts).items():
        text = _put(text, part, _key(project, entry, name, part), body, path)
    try:
        write_atomically(path, text)
    except OSError as error:
        raise DataError(f"{path} can't be written: {error.strerror}.") from error
    return Sheet(path, entry.digest, True, judged.reasons, True)


def keep_sheet(project: Project, name: str) -> None:
    """Refreshes the sheet of a project that has one; one that isn't there is a choice."""
    if sheet_path(project).is_file():
        refresh_sheet(project, name)


def _pages() -> Any:
    return importlib.import_module("perron.pages.datasheet")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as UTF-8 text: {error}.") from error


def _key(project: Project, entry: Entry, name: str, part: str) -> str:
    """What a part is derived from, beside the words of this version of Perron."""
    versions = [[v["model"], v["version"]] for v in entry.versions]
    split = split_of(project, entry)
    return digest(
        [
            FORMAT, part, name, entry.digest, entry.quarantine, entry.source, entry.labels, entry.contract, versions,
            split and split["digest"],
        ]
    )  # fmt: skip


def _seal(key: str, body: str) -> str:
    """What stands in the marker: it holds as long as neither what the part is derived from nor the part was changed."""
    return digest([key, body])[:16]


def _body(text: str, begin: "re.Match[str]") -> str | None:
    end = text.find(END.format(name=begin["name"]), begin.end())
    following = BEGIN.search(text, begin.end())
    return None if end < 0 or (following is not None and following.start() < end) else text[begin.end() : end]


def _put(text: str, part: str, key: str, body: str, path: Path) -> str:
    """The text with the part's body in place of the old one."""
    block = (
        f"<!-- perron:begin {part} {_seal(key, body)}: derived; edit outside of the markers -->\n"
        f"{body}{END.format(name=part)}"
    )
    for begin in _marks(text, part):
        old = _body(text, begin)
        if old is None:
            raise DataError(
                f"{path}: the part {part!r} begins and has no end; add a line {END.format(name=part)}, or take its beginning away."
            )
        return text[: begin.start()] + block + text[begin.end() + len(old) + len(END.format(name=part)) :]
    return f"{text.rstrip()}\n\n{block}\n"


def _marks(text: str, part: str) -> Iterator["re.Match[str]"]:
    return (match for match in BEGIN.finditer(text) if match["name"] == part)
