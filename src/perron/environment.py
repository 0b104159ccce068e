"""The machine and the project in; what a run ran on out: Python, the packages, the code's commit and its uncommitted changes."""

import hashlib
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

OID = b"# branch.oid "
SITES = ("site-packages", "dist-packages")
__all__ = ["Code", "code_of", "environment_of"]


@dataclass(frozen=True)
class Code:
    """The commit that is checked out, and the digest of what differs from it (None: nothing); commit None: no git."""

    commit: str | None
    dirty: str | None


def environment_of() -> dict[str, object]:
    """Python, the platform, and every installed package as `name==version`, sorted.

    Read from the names of the folders of metadata: a hundred times faster than reading each. What a
    package carries inside itself and puts on the path when it is imported (Ray does) doesn't count:
    a process that has imported it is on the same environment as one that hasn't.
    """
    packages = set()
    sites = {folder for folder in sys.path if os.path.basename(folder) in SITES}
    for folder in sys.path:
        if any(folder.startswith(site + os.sep) for site in sites):
            continue
        try:
            with os.scandir(folder or ".") as entries:
                for entry in entries:
                    if entry.name.endswith(".dist-info"):
                        name, _, version = entry.name.removesuffix(".dist-info").partition("-")
                        packages.add(f"{name.lower().replace('_', '-')}=={version}")
        except OSError:
            continue
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "packages": sorted(packages),
    }


def code_of(folder: Path) -> Code:
    """The commit of the git repository that holds the folder, and the digest of the folder's uncommitted changes.

    Untracked files count as changes unless git ignores them. Without git, or before a first commit,
    the commit is None.
    """
    status = _git(folder, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=all", "--", ".")
    entries = (status or b"").split(b"\0")
    commit = next((e.removeprefix(OID).decode() for e in entries if e.startswith(OID) and b"(initial)" not in e), None)
    if commit is None:
        return Code(None, None)
    changes = [entry for entry in entries if entry and not entry.startswith(b"#")]
    if not changes:
        return Code(commit, None)
    sha = hashlib.sha256(_git(folder, "diff", "HEAD", "--binary", "--", ".") or b"")
    top = (_git(folder, "rev-parse", "--show-toplevel") or b"").rstrip(b"\n")
    for entry in changes:
        if entry.startswith(b"? "):
            name = entry[2:]
            sha.update(b"\0" + name + b"\0")
            try:
                sha.update(Path(os.fsdecode(top), os.fsdecode(name)).read_bytes())
            except OSError:
                continue  # gone meanwhile, or a link to nowhere: its name counts
    return Code(commit, sha.hexdigest())


def _git(folder: Path, *words: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
