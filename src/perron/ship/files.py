"""A folder and the files that are derived for it in; what was written, merged, or left alone as a person's work out.

The folder's `.perron-files.json` keeps what was written last: its SHA-256, by which a person's work is known, and its
lines, the base of a three-way merge. It is meant to be committed, so that another clone merges as this one does.
JSON (notebooks, boards) has no lines there: merged line by line it is soon no JSON any more, so it is renewed while nobody
changed it, and left alone from then on.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from perron.errors import SourceError
from perron.ship.merge import has_conflict, merge_texts
from perron.store import write_atomically

__all__ = ["MANIFEST", "FileStatus", "Planned", "manifest_of", "plan_files", "write_files", "write_plan"]

MANIFEST = ".perron-files.json"
FORMAT = 2  # 1 had digests alone
FileStatus = Literal[
    "written",  # as derived
    "merged",  # with the person's changes kept in it
    "conflict",  # both changed the same lines, or such a conflict is there still
    "current",  # as it would be written
    "changed",  # by a person, and left
    "deleted",  # by a person, and left out
    "removed",  # no longer derived, and taken away
    "released",  # no longer derived, and a person's since it was changed
    "stale",  # of a check: would be written, merged or removed
]


@dataclass(frozen=True)
class Planned:
    """What is to be done with a file: its status then, and the text to write (None: nothing is written).

    `is_persons` says that a person's work would be written over or merged, `is_new` that the derived text counts as
    written last from then on.
    """

    status: FileStatus
    text: str | None = None
    is_persons: bool = False
    is_new: bool = False


@dataclass(frozen=True)
class _Entry:
    """What was written last: its digest, its text where it can be merged, and the command that brings it up to date."""

    digest: str
    text: str | None = None
    by: str | None = None


@dataclass(frozen=True)
class _Found:
    """A file that is there, with the ends of its lines as `\\n`; text None where it isn't UTF-8."""

    text: str | None
    has_returns: bool = False


def write_files(
    folder: Path, files: Mapping[str, str], *, force: bool = False, is_check: bool = False
) -> dict[str, FileStatus]:
    """The status of each file by its path: `written`, `current` (as it would be written), or `changed` by a person and left.

    Args:
        folder: made when it isn't there.
        files: text by path within the folder.
        force: writes what a person changed, too.
        is_check: writes nothing; what would be written is `stale`.

    Raises:
        SourceError: a file can't be read or written.
    """
    try:
        known = _read_manifest(folder)
    except SourceError:  # so that every file that is there counts as a person's
        known = {}
    plan = {name: _plan(folder / name, text, known.get(name), force=force) for name, text in files.items()}
    if not is_check:
        write_plan(folder, files, plan)
    return _statuses(plan, is_check)


def plan_files(
    folder: Path, files: Mapping[str, str], *, by: str, label: str, restore: Collection[str] = ()
) -> dict[str, Planned]:
    """What is to be done with each file, by three-way merge where a person changed it; nothing is written.

    What `by` wrote once and isn't among the files any more is to be removed, unless a person changed it.

    Args:
        folder: the project's.
        files: text by path within the folder.
        by: the command that brings these files up to date.
        label: what a conflict calls the derived side; begins with `perron`.
        restore: files that get the derived text though a person changed or deleted them.

    Raises:
        SourceError: a file can't be read, or the record of what was written last can't.
    """
    known = _read_manifest(folder)
    plan = {
        name: _plan(folder / name, text, known.get(name), force=name in restore, label=label)
        for name, text in files.items()
    }
    for name, entry in known.items():
        if name not in files and entry.by == by:
            found = _find(folder / name)
            is_persons = found is not None and _digest(found.text or "") != entry.digest
            plan[name] = Planned("released" if is_persons else "removed", is_new=True)
    return plan


def write_plan(
    folder: Path, files: Mapping[str, str], plan: Mapping[str, Planned], by: str | None = None
) -> dict[str, FileStatus]:
    """The status of each file, all of them being as planned now; `files` are the derived texts.

    Raises:
        SourceError: a file can't be written.
    """
    try:
        before = _read_manifest(folder)
    except SourceError:
        before = {}
    after = dict(before)
    for name, planned in plan.items():
        if planned.text is not None:
            _write(folder / name, planned.text)
        elif planned.status == "removed":
            _remove(folder, name)
        if not planned.is_new:
            continue
        if name in files:
            text = files[name]
            owner = by if by is not None else before[name].by if name in before else None
            after[name] = _Entry(_digest(text), text if _is_merged(name) else None, owner)
        else:
            after.pop(name, None)
    if after != before:
        _write(folder / MANIFEST, _manifest_text(after))
    return _statuses(plan, is_check=False)


def manifest_of(files: Mapping[str, str], by: str) -> str:
    """The record of files that are all written as derived: the text of a new project's `.perron-files.json`."""
    return _manifest_text({n: _Entry(_digest(t), t if _is_merged(n) else None, by) for n, t in files.items()})


def _statuses(plan: Mapping[str, Planned], is_check: bool) -> dict[str, FileStatus]:
    moves = ("written", "merged", "removed")
    return {name: "stale" if is_check and p.status in moves else p.status for name, p in plan.items()}


def _plan(path: Path, text: str, entry: _Entry | None, *, force: bool, label: str | None = None) -> Planned:
    """What is to be done with one file; merged only with a label."""
    found = _find(path)
    is_ours = found is not None and entry is not None and found.text is not None and _digest(found.text) == entry.digest
    if found is not None and found.text == text:
        is_known = (
            entry is not None
            and entry.digest == _digest(text)
            and (entry.text is not None or not _is_merged(path.name))
        )
        return Planned("current", is_new=not is_known)
    if found is None:
        is_deleted = label is not None and entry is not None and not force
        return Planned("deleted") if is_deleted else Planned("written", text, is_new=True)
    ends = "\r\n" if found.has_returns else "\n"
    if is_ours or force:
        return Planned("written", text.replace("\n", ends), is_persons=not is_ours, is_new=True)
    if label is None or found.text is None:
        return Planned("changed")
    if has_conflict(found.text):
        return Planned("conflict")
    if entry is None or entry.text is None or entry.text == text:
        return Planned("changed")
    merged, is_clean = merge_texts(path.name, entry.text, found.text, text, label)
    if merged == found.text:  # the person had done what is new
        return Planned("changed", is_new=True)
    return Planned("merged" if is_clean else "conflict", merged.replace("\n", ends), is_persons=True, is_new=True)


def _is_merged(name: str) -> bool:
    return PurePosixPath(name).suffix not in (".json", ".ipynb")


def _read_manifest(folder: Path) -> dict[str, _Entry]:
    """What was written last, by path; nothing where there is no record.

    Raises:
        SourceError: it can't be read.
    """
    path = folder / MANIFEST
    try:
        data = json.loads(path.read_bytes())
        if data["format"] > FORMAT:
            raise SourceError(f"{path} has format {data['format']}, newer than this Perron's {FORMAT}; update perron.")
        return {_checked_name(name): _entry(item) for name, item in data["files"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SourceError(f"Can't read {path}: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"{path} can't be read ({type(error).__name__}); take it from git again: "
            f"git checkout HEAD -- {MANIFEST}, or of a merge one side: git checkout --theirs -- {MANIFEST}."
        ) from error


def _checked_name(name: str) -> str:
    """The path, which must lie within the folder: the record may come from anyone's repository."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(name)
    return name


def _entry(item: Any) -> _Entry:
    if isinstance(item, str):
        return _Entry(item)
    lines, by = item.get("lines"), item.get("by")
    text = None if lines is None else "\n".join(lines)
    if not isinstance(item["sha256"], str) or (text is not None and _digest(text) != item["sha256"]):
        raise ValueError("a digest that isn't its lines'")
    return _Entry(item["sha256"], text, None if by is None else str(by))


def _manifest_text(entries: Mapping[str, _Entry]) -> str:
    """One line of JSON for each line of a file, so that git shows and merges it as it does the files."""
    files: dict[str, Any] = {}
    for name in sorted(entries):
        entry = entries[name]
        files[name] = {"sha256": entry.digest}
        if entry.by is not None:
            files[name]["by"] = entry.by
        if entry.text is not None:
            files[name]["lines"] = entry.text.split("\n")
    return json.dumps({"format": FORMAT, "files": files}, indent=1, ensure_ascii=False) + "\n"


def _find(path: Path) -> _Found | None:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"Can't read {path}: {error.strerror}.") from error
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _Found(None)
    has_returns = "\r\n" in text and text.count("\r\n") == text.count("\n")
    return _Found(text.replace("\r\n", "\n") if has_returns else text, has_returns)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, text: str) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        write_atomically(path, text)
        if mode is not None:
            os.chmod(path, mode)
    except OSError as error:
        raise SourceError(f"Can't write {path}: {error.strerror}.") from error


def _remove(folder: Path, name: str) -> None:
    """Takes a file away, and the folders that it leaves empty."""
    try:
        (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise SourceError(f"Can't remove {folder / name}: {error.strerror}.") from error
    for parent in list(PurePosixPath(name).parents)[:-1]:
        with contextlib.suppress(OSError):
            (folder / parent).rmdir()
