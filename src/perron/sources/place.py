"""A path or URL in; its bytes out, as often as they are asked for, unpacked, with one clear line when they can't be read."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from perron.digest import digest, digest_file
from perron.errors import PerronError, SourceError
from perron.source import COMPRESSED, EXTRAS, expand, hide, local_path, missing, reason_of, walk

__all__ = ["File", "chunk_rows", "fingerprint_of", "refuse_doubles"]

MOST_ROWS, MOST_CELLS = 65_536, 1 << 20
REMOTE_BLOCK = 8 << 20


def chunk_rows(columns: int, cells: int = MOST_CELLS) -> int:
    """How many rows a chunk has: fewer, where there are many columns."""
    return max(16, min(MOST_ROWS, cells // max(columns, 1)))


def refuse_doubles(names: list[str], where: str) -> None:
    """Nothing.

    Raises:
        SourceError: a name is empty, or comes twice.
    """
    seen: set[str] = set()
    for place, name in enumerate(names):
        if not name:
            raise SourceError(f"{where}: column {place + 1} has no name; give it one.")
        if name in seen:
            raise SourceError(f"{where} names {name!r} twice; rename one.")
        seen.add(name)


@dataclass(frozen=True)
class File:
    """A file or folder on this machine (`path`) or behind a URL (`filesystem` and `key`, fsspec's); `name` is shown."""

    place: str
    name: str
    path: Path | None
    filesystem: Any = None
    key: str = ""

    @classmethod
    def at(cls, place: str, base: Path) -> "File":
        """The file; nothing is read yet.

        Raises:
            SourceError: its server can't be reached.
            MissingPackage: its kind of URL needs a package.
        """
        path = local_path(place, base)
        if path is not None:
            return cls(place, str(path), path)
        scheme = place.partition("://")[0].lower()
        try:
            import fsspec  # behind the extras for URLs

            filesystem, key = fsspec.core.url_to_fs(expand(place))
        except ImportError as error:
            raise missing(f"Reading {hide(place)}", EXTRAS.get(scheme, scheme), error) from error
        except PerronError:
            raise
        except Exception as error:  # each filesystem has its own
            raise SourceError(f"{hide(place)} can't be opened: {reason_of(error, place)}") from error
        return cls(place, hide(place), None, filesystem, key)

    @property
    def compression(self) -> str | None:
        name = str(self.path) if self.path is not None else urlsplit(self.place).path
        return COMPRESSED.get(PurePosixPath(name).suffix.lower())

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever fails within is one line that names the file.

        Raises:
            SourceError: reading failed.
        """
        try:
            yield
        except (PerronError, GeneratorExit):
            raise
        except Exception as error:  # each filesystem has its own
            raise self._failed(error) from error

    @contextmanager
    def _parsing(self, own: tuple[type[Exception], ...]) -> Iterator[None]:
        """The same, but for a parser's own errors, which pass: it says what is damaged."""
        try:
            yield
        except (PerronError, GeneratorExit, ValueError, pa.ArrowException, *own):
            raise
        except Exception as error:
            if self.path is not None and not isinstance(error, OSError | EOFError):
                raise
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> SourceError:
        cause = error.__cause__ or error.__context__
        if isinstance(error, FileNotFoundError) and not isinstance(cause, OSError):
            return SourceError(f"There is no file {self.name}.")
        if isinstance(error, FileNotFoundError) and cause is not None:  # what fsspec makes of a server that isn't there
            return SourceError(f"{self.name} can't be reached: {reason_of(cause, self.place).rstrip('.')}.")
        what = f"{self.name} is cut off" if "runcated" in str(error) else f"{self.name} can't be read"
        said = getattr(error, "strerror", None) or reason_of(error, self.place).rstrip(".")
        return SourceError(f"{what}: {said}.")

    def check(self) -> "File":
        """The file itself.

        Raises:
            SourceError: it isn't there, is a folder, or is empty.
        """
        if self.path is not None:
            if self.path.is_dir():
                raise SourceError(f"{self.path} is a folder; name a file in it.")
            if not self.path.is_file():
                raise SourceError(f"There is no file {self.path}.")
            size: int | None = self.path.stat().st_size
        else:
            with self.reading():
                facts = self.filesystem.info(self.key)
            if facts.get("type") == "directory":
                raise SourceError(f"{self.name} is a folder; name a file in it.")
            size = facts.get("size")
        if size == 0:
            raise SourceError(f"{self.name} is empty.")
        return self

    def is_folder(self) -> bool:
        if self.path is not None:
            return self.path.is_dir()
        with self.reading():
            return bool(self.filesystem.isdir(self.key))

    def below(self) -> list["File"]:
        """The files below a folder, in the order of their names."""
        if self.path is not None:
            with self.reading():
                return [File(str(path), str(path), path) for path in walk(self.path)]
        with self.reading():
            keys = sorted(self.filesystem.find(self.key))
        root = self.key.rstrip("/") + "/"
        seen = [key for key in keys if not any(part[:1] in "._" for part in key.removeprefix(root).split("/"))]
        scheme = self.place.partition("://")[0]
        return [
            File(self.place, key if "://" in key else f"{scheme}://{key}", None, self.filesystem, key) for key in seen
        ]

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The file's bytes as they are, to read and seek in (not every web server lets one seek)."""
        with ExitStack() as stack:
            with self.reading():
                if self.path is not None:
                    file = stack.enter_context(pa.OSFile(str(self.path), "r"))
                else:
                    remote = stack.enter_context(self.filesystem.open(self.key, "rb", block_size=REMOTE_BLOCK))
                    file = pa.PythonFile(remote, mode="r")
            with self._parsing((OSError, EOFError)):
                yield file

    @contextmanager
    def stream(self) -> Iterator[Any]:
        """The file's bytes, unpacked, to read once from the beginning."""
        with self._parsing(()), self.open() as file:
            yield file if self.compression is None else pa.CompressedInputStream(file, self.compression)

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """A path of the whole file: its own, or a temporary copy of what is behind a URL."""
        if self.path is not None:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="perron-") as folder:
            target = Path(folder) / "file"
            with self.reading(), self.filesystem.open(self.key, "rb") as file, open(target, "wb") as copy:
                shutil.copyfileobj(file, copy, REMOTE_BLOCK)
            yield target

    def can_seek(self) -> bool:
        """Whether parts of the file can be asked for."""
        if self.path is not None:
            return True
        with self.reading():
            file = self.filesystem.open(self.key, "rb")
        try:
            return bool(file.seekable()) and getattr(file, "size", None) is not None
        finally:
            file.close()

    def fingerprint(self) -> str | None:
        """What changes when the bytes do; None where the server doesn't tell.

        Raises:
            SourceError: it can't be read.
        """
        with self.reading():
            if self.path is not None:
                return digest_file(self.path)
            facts = self.filesystem.info(self.key)
        tag = facts.get("ETag") or facts.get("etag") or facts.get("md5Hash") or facts.get("Content-MD5")
        changed = (
            facts.get("LastModified")
            or facts.get("last_modified")
            or facts.get("updated")
            or facts.get("Last-Modified")
        )
        if tag is None and changed is None:
            return None
        return digest([str(tag), str(changed), facts.get("size")])


def fingerprint_of(files: list[File], root: File) -> str | None:
    """What changes when one of the files does, or its name below the root."""
    found = []
    for file in files:
        mark = file.fingerprint()
        if mark is None:
            return None
        name = os.path.relpath(file.path, root.path) if file.path and root.path else file.key
        found.append([name, mark])
    return digest(found)
