"""Bytes in, a SHA-256 out, and back: blobs by hash in a folder, written whole or not at all."""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from perron.errors import LedgerError

__all__ = ["Store", "make_secret", "write_atomically"]


class Store:
    """Blobs under `root/ab/cdef…`, named by the SHA-256 of their bytes and never changed.

    Safe for several processes: a blob appears under its name only when it is complete.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the blob is, whether or not it exists."""
        return self.root / digest[:2] / digest[2:]

    def has(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def get(self, digest: str) -> Path:
        """The path of a blob whose bytes are those that were stored.

        Raises:
            LedgerError: it isn't there, or was damaged (and is then removed, so that it is made again).
        """
        path = self.path(digest)
        if not path.is_file():
            raise LedgerError(
                f"The store has no blob {digest[:12]} (looked at {path}); run the pipeline again to make it."
            )
        with open(path, "rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != digest:
            path.unlink()
            raise LedgerError(
                f"The blob {digest[:12]} in the store was damaged and is removed; run again to make it anew."
            )
        return path

    def put_bytes(self, data: bytes) -> str:
        """The digest of the bytes, now in the store."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            write_atomically(self.path(digest), data)
        return digest

    def put_json(self, value: Any) -> str:
        """The digest of the value as compact JSON with sorted keys."""
        return self.put_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())

    def get_json(self, digest: str) -> Any:
        """The value that `put_json` stored.

        Raises:
            LedgerError: it isn't there.
        """
        return json.loads(self.get(digest).read_bytes())

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new empty folder on the store's own disk, removed afterwards; `adopt` moves files out of it."""
        parent = self.root / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def adopt(self, file: Path) -> str:
        """The digest of a finished file, which is moved into the store (it must be on the same disk)."""
        with open(file, "rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
            os.fsync(handle.fileno())
        target = self.path(digest)
        if target.is_file():
            file.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
        return digest

    def put_file(self, file: Path) -> str:
        """The digest of a file, which is copied into the store."""
        with self.scratch() as folder:
            copy = folder / "blob"
            shutil.copyfile(file, copy)
            return self.adopt(copy)


def write_atomically(path: Path, data: bytes | str) -> None:
    """Nothing; the file then holds exactly the data, or is as it was before.

    Raises:
        OSError: the folder can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def make_secret(path: Path) -> bytes:
    """The random secret in a file that its owner alone may read, made when it is first asked for.

    Raises:
        LedgerError: it can't be read or made.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            building = path.with_name(f".secret.{secrets.token_hex(6)}")
            handle = os.open(
                building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
            )  # nobody else's from the first instant
            try:
                os.write(handle, secrets.token_hex(32).encode())
                os.fsync(handle)
            finally:
                os.close(handle)
            with contextlib.suppress(FileExistsError):  # another process was quicker
                os.link(building, path)
            building.unlink()
        return path.read_bytes().strip()
    except OSError as error:
        raise LedgerError(f"The secret {path} can't be read or made: {error.strerror}.") from error
