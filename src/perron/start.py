"""A table in; a project's folder out, ready to run."""

import shutil
import subprocess
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from perron import __version__
from perron.errors import DeclarationError, PerronError
from perron.proposal import propose
from perron.source import UNTOLD, Description, describe, hide, local_path, open_source
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
    source: Path | Description,
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
    described = describe(source)
    if hide(str(described.place)) != str(described.place):
        raise DeclarationError(
            f"{described} holds a password, which would be written into system.py; write it as ${{NAME}}, and set NAME in the environment."
        )
    proposal = propose(open_source(described), scaffold.class_name(name), target)
    copied = _to_copy(described)
    where = _placed(described, f"data/{source_name or copied.name}" if copied else None)
    files: dict[str, str] = scaffold.project_files(name, proposal, where, __version__)
    try:
        for path, text in files.items():
            write_atomically(folder / path, text)
        if copied is not None:
            (folder / "data").mkdir(exist_ok=True)
            shutil.copyfile(copied, folder / str(where.place))
    except OSError as error:
        raise PerronError(f"{folder} can't be written: {error.strerror}.") from error
    if begin_git != "never":
        _begin_git(folder, even_inside=begin_git == "always")
    return Started(
        folder,
        (*files, *([str(where.place)] if copied else [])),
        proposal.rows,
        len(proposal.schema.features),
        proposal.reasons,
        {field.column: field.name for field in proposal.schema.fields},
    )


def _to_copy(described: Description) -> Path | None:
    """The file that goes into the project: a single local one that isn't large."""
    path = local_path(str(described.place), Path()) if described.kind not in UNTOLD else None
    return path if path is not None and path.is_file() and path.stat().st_size <= COPIED_BYTES else None


def _placed(described: Description, copy: str | None) -> Description:
    """The description as the project needs it: of its copy, or where a path is relative, by the whole path."""
    if copy is not None:
        return replace(described, place=copy)
    place, _, table = str(described.place).partition("#")
    scheme, mark, rest = place.partition(":///")
    if scheme.partition("+")[0] in ("sqlite", "duckdb") and mark and not rest.startswith(("/", "$")):
        return replace(described, place=f"{scheme}:///{Path(rest).resolve()}{'#' * bool(table)}{table}")
    path = local_path(place, Path()) if described.kind not in UNTOLD else None
    return described if path is None else replace(described, place=str(path.resolve()))


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
