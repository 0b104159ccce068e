"""A table in; a project's folder out, ready to run."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from perron import __version__
from perron.environments import read_environments
from perron.errors import DeclarationError, PerronError
from perron.metrics import Task
from perron.organisation import Organisation
from perron.proposal import Proposal, propose
from perron.renewal import BY, git
from perron.sketch import TableSketch
from perron.source import UNTOLD, Description, Source, describe, hide, local_path, open_source
from perron.stages import WORKFLOW, CiSettings, stages_of
from perron.system import NAME, System

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Draft", "Started", "begin_project", "demand_new", "draft_project", "identity", "start_project"]

COPIED_BYTES = 100 << 20  # a larger table stays where it is
MOST_SKETCHED = 200  # columns; of further ones nothing is expected
THREADS = 2
GitState = Literal["begun", "inside another", "not installed", "not asked", "failed"]


@dataclass(frozen=True)
class Draft:
    """A project before it is written: its folder, the contract that was inferred, and where the table is and will be.

    `organisation` is None of a bare project; `copied` is the file that goes into it, or None.
    """

    folder: Path
    proposal: Proposal
    sketch: TableSketch
    source: Description
    copied: Path | None
    organisation: Organisation | None

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def target(self) -> str:
        """The column to predict."""
        target = self.proposal.schema.target
        assert target is not None
        return target.column

    @property
    def system(self) -> System:
        """What system.py will declare."""
        if self.proposal.max_bad_share is None:
            return System(self.name, self.proposal.schema, source=self.source)
        return System(self.name, self.proposal.schema, source=self.source, max_bad_share=self.proposal.max_bad_share)


@dataclass(frozen=True)
class Started:
    """A new project: its folder and files, the table's rows, the number of features, the reasons of the
    proposal by field, the field's name by the table's column, and what became of its git repository, with
    git's words where it failed."""

    folder: Path
    files: tuple[str, ...]
    rows: int
    fields: int
    reasons: dict[str, str]
    columns: dict[str, str]
    git: GitState
    git_fault: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "folder": str(self.folder)}


def start_project(
    folder: Path,
    source: Path | Description,
    target: str,
    *,
    source_name: str | None = None,
    begin_git: Literal["outside", "always", "never"] = "outside",
    task: Task | None = None,
    organisation: Organisation | None = None,
) -> Started:
    """Writes a project: nothing when anything is wrong, and never into a folder that holds something.

    Args:
        folder: its name is the system's.
        source: the table.
        target: the column to predict.
        source_name: what the table's copy is called in the project, instead of its own name.
        begin_git: whether to begin a repository: outside of any other, always, or never.
        task: what predicting it is; None: what the target's values say.
        organisation: of the project; None: the least that runs, without tests, pages and CI.

    Raises:
        DeclarationError: the folder's name can't be a system's, or it isn't empty.
        SourceError, DataError: the table can't be read, has no such target, or one that doesn't fit the task.
    """
    draft = draft_project(folder, source, target, source_name=source_name, task=task, organisation=organisation)
    return begin_project(draft, begin_git)


def draft_project(
    folder: Path,
    source: Path | Description,
    target: str,
    *,
    source_name: str | None = None,
    task: Task | None = None,
    organisation: Organisation | None = None,
) -> Draft:
    """The project before it is written; its table is read. Arguments and errors as `start_project`'s."""
    demand_new(folder)
    described = describe(source)
    if hide(str(described.place)) != str(described.place):
        raise DeclarationError(
            f"{described} holds a password, which would be written into system.py; write it as ${{NAME}}, and set NAME in the environment."
        )
    scaffold = import_module("perron.ship.scaffold")
    opened = _Sketched(open_source(described))
    proposal = propose(opened, scaffold.class_name(folder.resolve().name), target, task)
    copied = _to_copy(described)
    where = _placed(described, f"data/{source_name or copied.name}" if copied else None)
    return Draft(folder, proposal, opened.sketch, where, copied, organisation)


def demand_new(folder: Path) -> None:
    """Nothing, when a project can begin in the folder.

    Raises:
        DeclarationError: its name can't be a system's, or it holds something beside a git repository.
    """
    if not NAME.fullmatch(folder.resolve().name):
        raise DeclarationError(
            f"The name {folder.resolve().name!r} can't be a system's; use up to 63 lower-case letters, digits and hyphens."
        )
    if folder.exists() and (not folder.is_dir() or any(path.name != ".git" for path in folder.iterdir())):
        raise DeclarationError(f"{folder} exists and isn't empty; choose another name or remove it.")


class _Sketched:
    """A source that is sketched while it is read."""

    def __init__(self, source: Source) -> None:
        self._source, self.names, self._kept = source, source.names, source.names[:MOST_SKETCHED]
        self.sketch = TableSketch(self._kept, threads=THREADS)

    def fingerprint(self) -> str | None:
        return self._source.fingerprint()

    def chunks(self) -> "Iterator[pa.RecordBatch]":
        for batch in self._source.chunks():
            self.sketch.update(batch.select(list(range(len(self._kept)))))
            yield batch


def begin_project(draft: Draft, begin_git: Literal["outside", "always", "never"] = "outside") -> Started:
    """Writes the project, whole or not at all.

    Raises:
        PerronError: the folder can't be written.
    """
    files = _files_of(draft)
    copies = {} if draft.copied is None else {str(draft.source.place): draft.copied}
    _write_all(draft.folder, files, copies)
    branching = draft.organisation.branching if draft.organisation else "trunk"
    state, fault = (
        _begin_git(draft.folder, begin_git == "always", branching) if begin_git != "never" else ("not asked", "")
    )
    return Started(
        draft.folder,
        (*files, *copies),
        draft.proposal.rows,
        len(draft.proposal.schema.features),
        draft.proposal.reasons,
        {field.column: field.name for field in draft.proposal.schema.fields},
        state,
        fault,
    )


def _files_of(draft: Draft) -> dict[str, str]:
    """The texts of the project by path, with the record by which `perron sync` brings them up to date."""
    if draft.organisation is None:
        bare: dict[str, str] = import_module("perron.ship.scaffold").project_files(
            draft.name, draft.proposal, draft.source, __version__
        )
        return bare
    project, writing = import_module("perron.ship.project"), import_module("perron.ship.files")
    system = draft.system
    own = project.own_files(system, draft.organisation, __version__, draft.proposal, draft.source, draft.sketch)
    derived = project.synced_files(system, draft.organisation, __version__)
    if draft.organisation.ci == "github":
        ci: Any = import_module("perron.ship.ci")
        environments = read_environments(draft.folder)
        stages = stages_of([*own, *derived, WORKFLOW], environments.values(), derived["pyproject.toml"])
        settings = CiSettings(branching=draft.organisation.branching)
        workflows = ci.ci_files(stages, settings, environments, install=("make setup",), perron=".venv/bin/perron")
        derived = project.synced_files(system, draft.organisation, __version__, workflows)
    return {**own, **derived, writing.MANIFEST: writing.manifest_of(derived, BY)}


def _write_all(folder: Path, files: Mapping[str, str], copies: Mapping[str, Path]) -> None:
    """Writes texts and copies; where one fails, or the user stops it, takes away what was written."""
    existed, done = folder.exists(), list[Path]()
    try:
        for name in (*files, *copies):
            path = folder / name
            done.append(path)  # before it is there, so that no moment leaves it behind
            path.parent.mkdir(parents=True, exist_ok=True)
            if name in copies:
                shutil.copyfile(copies[name], path)
            else:
                path.write_text(files[name], "utf-8", newline="\n")
    except BaseException as error:
        for path in done:
            path.unlink(missing_ok=True)
        for parent in sorted({p for path in done for p in path.parents if p.is_relative_to(folder)}, reverse=True):
            if parent != folder or not existed:
                with contextlib.suppress(OSError):
                    parent.rmdir()
        if isinstance(error, OSError):
            raise PerronError(f"{folder} can't be written: {error.strerror}.") from error
        raise


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


def identity() -> tuple[str, str]:
    """The name and address that git knows its user by; empty where it doesn't."""
    if shutil.which("git") is None:
        return "", ""
    said = git(Path(), "config", "--get-regexp", r"^user\.(name|email)$").stdout.decode("utf-8", "replace")
    found = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    return found.get("user.name", "").strip(), found.get("user.email", "").strip()


def _begin_git(folder: Path, even_inside: bool, branching: str) -> tuple[GitState, str]:
    """Makes a repository with a first commit on `main`, and of git flow a branch `develop` to work on; not inside
    another one (that doesn't ignore the folder), nor without git. What became of it, and git's words where it failed."""
    if shutil.which("git") is None:
        return "not installed", ""
    is_inside = git(folder, "rev-parse", "--is-inside-work-tree").returncode == 0
    if not even_inside and is_inside and git(folder, "check-ignore", "-q", ".").returncode != 0:
        return "inside another", ""
    for words in _beginning(folder, branching):
        done = git(folder, *words)
        if done.returncode != 0:  # a hook, a signature, another git at work
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            return "failed", said[0] if said else f"git {words[0]} ended with {done.returncode}"
    return "begun", ""


def _beginning(folder: Path, branching: str) -> Iterator[tuple[str, ...]]:
    """What git is told, one after the other."""
    yield "init", "-q", "-b", "main"
    yield "add", "-A"
    is_known = git(folder, "config", "user.email").returncode == 0
    as_whom = () if is_known else ("-c", "user.name=perron", "-c", "user.email=perron@localhost")
    yield *as_whom, "commit", "-q", "-m", "Begin the project"
    if branching == "git-flow":
        yield "checkout", "-q", "-b", "develop"
