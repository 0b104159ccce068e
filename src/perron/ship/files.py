"""A folder and the files that are derived for it in; what was written, and what a person had changed and was left alone.

The folder's `.perron-files.json` keeps the SHA-256 of what was written last, so that a file that differs from it is known
to be a person's work.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from perron.errors import SourceError
from perron.store import write_atomically

__all__ = ["MANIFEST", "FileStatus", "write_files"]

MANIFEST = ".perron-files.json"
FORMAT = 1
FileStatus = Literal["written", "current", "changed", "stale"]


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
    known = _known(folder)
    statuses: dict[str, FileStatus] = {}
    for name, text in files.items():
        path, wanted = folder / name, _digest(text.encode())
        found = _digest_of(path)
        if found == wanted:
            statuses[name] = "current"
        elif found is not None and found != known.get(name) and not force:
            statuses[name] = "changed"
        elif is_check:
            statuses[name] = "stale"
        else:
            _write(path, text)
            statuses[name] = "written"
    digests = {name: _digest(text.encode()) for name, text in files.items() if statuses[name] in ("written", "current")}
    if not is_check and any(known.get(name) != digest for name, digest in digests.items()):
        _write(folder / MANIFEST, json.dumps({"format": FORMAT, "files": {**known, **digests}}, indent=1) + "\n")
    return statuses


def _known(folder: Path) -> dict[str, str]:
    """What was written last; nothing where that can't be told, so that every other file counts as a person's."""
    try:
        data = json.loads((folder / MANIFEST).read_bytes())
        return {str(name): str(digest) for name, digest in data["files"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _digest_of(path: Path) -> str | None:
    try:
        return _digest(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SourceError(f"Can't read {path}: {error.strerror}.") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise SourceError(f"Can't write {path}: {error.strerror}.") from error
