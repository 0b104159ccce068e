"""A table in; a project's folder out, ready to run."""

import shutil
import subprocess
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from perron import __version__
from perron.errors import DeclarationError, PerronError
from perron.proposal import propose
from perron.source import open_source
from perron.store import write_atomically
from perron.system import NAME

__all__ = ["Started", "start_project"]

COPIED_BYTES = 100 << 20  # a larger table stays where it is


@dataclass(frozen=True)
class Started:
    """A new project: its folder and files, the table's rows, the number of features, the reasons of the
    proposal by field, and the field's name by the table's column."""

    folder: Path
    files: tuple[str, ...]
    rows: int
    fields: int
    reasons: dict[str, str]
    columns: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder)}


def start_project(
    folder: Path,
    source: Path,
    target: str,
    *,
    source_name: str | None = None,
    begin_git: Literal["outside", "always", "never"] = "outside",
) -> Started:
    """Writes a project: nothing when anything is wrong, and never into a folder that holds something.

    Args:
        folder: its name is the system's.
        source: the table.
        target: the column to predict.
        source_name: what the table's copy is called in the project, instead of its own name.
        begin_git: whether to begin a repository: outside of any other, always, or never.

    Raises:
        DeclarationError: the folder's name can't be a system's, or it isn't empty.
        SourceError, DataError: the table can't be read, or has no such target.
    """
    name = folder.name
    if not NAME.fullmatch(name):
        raise DeclarationError(
            f"The name {name!r} can't be a system's; use up to 63 lower-case letters, digits and hyphens."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DeclarationError(f"{folder} exists and isn't empty; choose another name or remove it.")
    scaffold = import_module("perron.ship.scaffold")
    proposal = propose(open_source(source), scaffold.class_name(name), target)
    is_copied = source.stat().st_size <= COPIED_BYTES
    where = f"data/{source_name or source.name}" if is_copied else str(source.resolve())
    files: dict[str, str] = scaffold.project_files(name, proposal, where, __version__)
    try:
        for path, text in files.items():
            write_atomically(folder / path, text)
        if is_copied:
            (folder / "data").mkdir(exist_ok=True)
            shutil.copyfile(source, folder / where)
    except OSError as error:
        raise PerronError(f"{folder} can't be written: {error.strerror}.") from error
    if begin_git != "never":
        _begin_git(folder, even_inside=begin_git == "always")
    return Started(
        folder,
        (*files, *([where] if is_copied else [])),
        proposal.rows,
        len(proposal.schema.features),
        proposal.reasons,
        {field.column: field.name for field in proposal.schema.fields},
    )


def _begin_git(folder: Path, even_inside: bool) -> None:
    """Makes a repository with a first commit; not inside another one (that doesn't ignore the folder), nor without git."""
    if shutil.which("git") is None:
        return
    is_inside = _git(folder, "rev-parse", "--is-inside-work-tree").returncode == 0
    if not even_inside and is_inside and _git(folder, "check-ignore", "-q", ".").returncode != 0:
        return
    _git(folder, "init", "-q", "-b", "main")
    _git(folder, "add", "-A")
    identity = (
        []
        if _git(folder, "config", "user.email").returncode == 0
        else ["-c", "user.name=perron", "-c", "user.email=perron@localhost"]
    )
    _git(folder, *identity, "commit", "-q", "-m", "Begin the project")


def _git(folder: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
