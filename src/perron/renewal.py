"""A project's folder in; the files that follow from its declaration, brought up to date with people's changes kept, out.

What git doesn't hold as it is is never written over: a merge that one doesn't like could not be taken back.
"""

import shutil
import subprocess
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from perron import __version__
from perron.environments import read_environments
from perron.errors import DeclarationError, nearest
from perron.organisation import FILE, answers_of, read_organisation
from perron.stages import find_stages, install_commands, read_ci_settings
from perron.system import load_system

__all__ = ["BY", "LABEL", "git", "renew", "unsaved"]

BY = "perron sync"
LABEL = f"perron {__version__}"


def renew(folder: Path, *, is_check: bool = False, force: bool = False, restore: Sequence[str] = ()) -> dict[str, str]:
    """The status of each derived file by its path, as `perron.ship.files` names them.

    Nothing is written when any file can't be.

    Args:
        folder: that holds system.py and pyproject.toml.
        is_check: writes nothing; what would be written is `stale`.
        force: merges into files whose content git doesn't hold, too.
        restore: files that are written as derived, though a person changed or deleted them.

    Raises:
        DeclarationError: the declaration can't be read, a file to restore is none of these, or people's changes that
            git doesn't hold would be written over.
        SourceError: a file can't be read or written.
    """
    organisation = read_organisation(folder)
    system = load_system(folder / "system.py")
    shipped: Any = import_module("perron.ship.project")
    writing: Any = import_module("perron.ship.files")
    workflows = _workflows(folder) if organisation.ci == "github" else {}
    files: dict[str, str] = shipped.synced_files(system, organisation, __version__, workflows)
    answers = answers_of((folder / FILE).read_text("utf-8"))
    if answers is not None:  # as they stand there: what a person answers is never in conflict with what follows from it
        files[FILE] = files[FILE].replace(organisation.to_toml(), answers, 1)
    for name in restore:
        if name not in files:
            raise DeclarationError(f"perron sync writes no file {name!r}; {nearest(name, files)}")
    plan = writing.plan_files(folder, files, by=BY, label=LABEL, restore=restore)
    if is_check:
        return {
            name: "stale" if planned.status in ("written", "merged", "removed") else planned.status
            for name, planned in plan.items()
        }
    touched = [name for name, planned in plan.items() if planned.is_persons]
    if touched and not force:
        _demand_saved(folder, touched)
    written: dict[str, str] = writing.write_plan(folder, files, plan, BY)
    if (
        workflows and (newer := _workflows(folder)) != workflows
    ):  # of the tests and the Makefile that are there only now
        files |= newer
        plan = writing.plan_files(folder, files, by=BY, label=LABEL)
        again = writing.write_plan(folder, {**files, **newer}, {name: plan[name] for name in newer}, BY)
        written |= {name: status for name, status in again.items() if status != "current"}
    return written


def _workflows(folder: Path) -> dict[str, str]:
    """GitHub's workflows of the stages that the project has now."""
    install, command = install_commands(folder)
    ci: Any = import_module("perron.ship.ci")
    made: dict[str, str] = ci.ci_files(
        find_stages(folder), read_ci_settings(folder), read_environments(folder), install=install, perron=command
    )
    return made


def _demand_saved(folder: Path, names: list[str]) -> None:
    lost, reason = unsaved(folder, names)
    if not lost:
        return
    listed = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    begin = f'git init {folder} && git -C {folder} add -A && git -C {folder} commit -m "As it is"'
    advice = {
        "no git": "install git, or merge into them all the same with --force",
        "no repository": f"begin one ({begin}), or merge into them all the same with --force",
        "uncommitted": "commit or stash them first, or merge into them all the same with --force",
    }[reason]
    what = {
        "no git": "there is no git",
        "no repository": f"{folder} is in no git repository",
        "uncommitted": "they aren't committed",
    }[reason]
    raise DeclarationError(
        f"You changed {listed}, which would be merged, and {what}, so that it couldn't be taken back; nothing was written: {advice}."
    )


def unsaved(folder: Path, names: Sequence[str]) -> tuple[list[str], str]:
    """Which of the files git doesn't hold as they are, and why: `no git`, `no repository` or `uncommitted`."""
    if shutil.which("git") is None:
        return list(names), "no git"
    if git(folder, "rev-parse", "--is-inside-work-tree").returncode != 0:
        return list(names), "no repository"
    tracked = git(folder, "ls-files", "-z", "--", *names).stdout.decode().split("\0")
    differing = git(folder, "diff", "--name-only", "--relative", "-z", "HEAD", "--", *names)
    if differing.returncode != 0:  # no commit yet
        return list(names), "uncommitted"
    changed = differing.stdout.decode().split("\0")
    return [name for name in names if name not in tracked or name in changed], "uncommitted"


def git(folder: Path, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """What git said of a folder."""
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False)
