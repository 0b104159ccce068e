"""Files in; a layer of an image out: a tar that is byte for byte the same whenever the files are.

Entries are in order, of one time, owned by root; Python files come with their byte code, which is
compiled in one process of its own, with a fixed hash seed, since what it looks like depends on
what the process did before. gzip's first level: a registry takes it as it is, so that the digest
stays what it was; it is compressed in pieces on several threads (RFC 1952, section 2.2: members).
"""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from perron.digest import digest_bytes, digest_file
from perron.errors import PerronError
from perron.store import write_atomically

__all__ = ["GZIP", "TAR", "Blobs", "Entry", "Layer", "compress", "key_of", "write_tar"]

TAR, GZIP = "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"
PIECE = 2 << 20
LEVEL = 1
MOST_KEPT = 24  # blobs of the cache, the newest used
FORMAT = 1
DIGEST = re.compile("(?:sha256:)?[0-9a-f]{64}")
# Reads [[source, name in the image, place of the byte code], …]; what isn't Python of this version stays as it is, as compileall does.
COMPILER = """
import importlib._bootstrap_external as external, importlib.util, json, sys
for source, name, place in json.load(sys.stdin):
    with open(source, "rb") as file:
        text = file.read()
    try:
        code = compile(text, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        continue
    with open(place, "wb") as file:
        file.write(external._code_to_hash_pyc(code, importlib.util.source_hash(text), False))
"""


@dataclass(frozen=True)
class Entry:
    """A file of a layer: its path in the image without a leading slash, and what it is: bytes, a file here, a link to a path,
    or, with neither, a folder; root's unless another number owns it."""

    path: str
    data: bytes | Path | None = None
    link: str | None = None
    is_program: bool = False
    owner: int = 0


@dataclass(frozen=True)
class Layer:
    """A layer's blob: its digest and bytes as it is stored, those of the plain tar, and where it is on this machine."""

    digest: str
    size: int
    diff_id: str
    plain_size: int
    path: Path
    media_type: str = GZIP


class Blobs:
    """Blobs kept by their SHA-256 in a folder, and what they were made from; safe for several processes.

    Args:
        folder: made when it is first written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the blob is.

        Raises:
            PerronError: a registry or a layout named it by something that is no SHA-256.
        """
        if not DIGEST.fullmatch(digest):
            raise PerronError(
                f"The digest {digest[:80]!r} isn't sha256: and 64 hexadecimal digits; the image is refused."
            )
        return self.folder / "blobs" / digest.removeprefix("sha256:")

    def find(self, key: str) -> Layer | None:
        """The layer that was made under a key, its bytes as they were; None where there is none, or it was damaged."""
        try:
            facts = json.loads((self.folder / "layers" / f"{key}.json").read_bytes())
            layer = Layer(
                facts["digest"], facts["size"], facts["diff_id"], facts["plain_size"], self.path(facts["digest"])
            )
            if facts["format"] != FORMAT or f"sha256:{digest_file(layer.path)}" != layer.digest:
                return None
            os.utime(layer.path)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return layer

    def keep(self, key: str, building: Path, layer: Layer) -> Layer:
        """The layer, its blob moved from where it was built to under its name."""
        os.replace(building, layer.path)
        facts = {
            "format": FORMAT, "digest": layer.digest, "size": layer.size, "diff_id": layer.diff_id,
            "plain_size": layer.plain_size,
        }  # fmt: skip
        write_atomically(self.folder / "layers" / f"{key}.json", json.dumps(facts))
        return layer

    def building(self) -> Path:
        """The path of a new empty file on the same disk."""
        (self.folder / "blobs").mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder / "blobs", prefix=".building-")
        os.close(handle)
        os.chmod(name, 0o644)
        return Path(name)

    def prune(self, used: Iterable[Path]) -> None:
        """Deletes what hasn't been used for longest, above what is kept; what is used now stays."""
        try:
            kept = sorted((self.folder / "blobs").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        except FileNotFoundError:
            return
        for path in kept[MOST_KEPT:]:
            if path not in set(used):
                path.unlink(missing_ok=True)


def write_tar(blobs: Blobs, key: str, entries: Sequence[Entry], *, epoch: int) -> Layer:
    """The layer of the entries, made now or as it was made under this key.

    Args:
        key: tells everything that the layer depends on.
        entries: in any order; the folders that they are in come with them.
        epoch: the time of every entry, in seconds since 1970.

    Raises:
        PerronError: a file can't be read, or the layer can't be written.
    """
    found = blobs.find(key)
    if found is not None:
        return found
    try:
        with tempfile.TemporaryDirectory(prefix="perron-image-") as scratch:
            building = blobs.building()
            try:
                whole = [*entries, *_compiled(entries, Path(scratch))]
                with open(building, "wb") as out, _Gzip(out) as packed:
                    _write(packed, whole, epoch)
                layer = Layer(packed.digest, packed.size, packed.diff_id, packed.plain_size, blobs.path(packed.digest))
                return blobs.keep(key, building, layer)
            finally:
                building.unlink(missing_ok=True)
    except OSError as error:
        raise PerronError(f"The image's layer can't be made: {error.strerror} ({error.filename}).") from error


def compress(blobs: Blobs, plain: BinaryIO, key: str) -> Layer:
    """The layer of a plain tar that is there already, such as a base's, made now or as it was made under this key."""
    found = blobs.find(key)
    if found is not None:
        return found
    building = blobs.building()
    try:
        with open(building, "wb") as out, _Gzip(out) as packed:
            while piece := plain.read(PIECE):
                packed.write(piece)
        layer = Layer(packed.digest, packed.size, packed.diff_id, packed.plain_size, blobs.path(packed.digest))
        return blobs.keep(key, building, layer)
    finally:
        building.unlink(missing_ok=True)


def _compiled(entries: Sequence[Entry], scratch: Path) -> list[Entry]:
    """The byte code of the entries that are Python files, which isn't checked against the source again when it is loaded (PEP 552)."""
    work, made = [], []
    for number, entry in enumerate(sorted(entries, key=lambda entry: entry.path)):
        if entry.path.endswith(".py") and isinstance(entry.data, Path):
            folder, _, name = entry.path.rpartition("/")
            place = scratch / f"{number}.pyc"
            work.append((str(entry.data), f"/{entry.path}", str(place)))
            target = f"{folder}/__pycache__/{name.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
            made.append((target, place))
    if not work:
        return []
    done = subprocess.run(
        [sys.executable, "-s", "-S", "-c", COMPILER], input=json.dumps(work), capture_output=True, text=True, check=False,
        env={"PYTHONHASHSEED": "0", "PATH": os.environ.get("PATH", ""), "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    if done.returncode != 0:
        raise PerronError(f"The image's byte code can't be compiled: {(done.stderr.splitlines() or ['?'])[-1]}.")
    return [Entry(target, place) for target, place in made if place.exists()]


def _write(out: "_Gzip", entries: Sequence[Entry], epoch: int) -> None:
    """The tar of the entries and of the folders that they are in, in order."""
    by_path: dict[str, Entry | None] = {}
    for entry in entries:
        folders = entry.path.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            by_path.setdefault("/".join(folders[:depth]), None)
        by_path[entry.path] = entry
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=PIECE) as tar:
        for path in sorted(by_path):
            item, one = by_path[path], tarfile.TarInfo(path)
            one.mtime = epoch
            if item is None or (item.data is None and item.link is None):
                one.type, one.mode = tarfile.DIRTYPE, 0o755
                one.uid = one.gid = 0 if item is None else item.owner
                tar.addfile(one)
            elif item.link is not None:
                one.type, one.linkname, one.mode = tarfile.SYMTYPE, item.link, 0o777
                tar.addfile(one)
            else:
                data = item.data.read_bytes() if isinstance(item.data, Path) else item.data or b""
                one.size, one.mode = len(data), 0o755 if item.is_program else 0o644
                tar.addfile(one, io.BytesIO(data))


class _Gzip(io.RawIOBase):
    """Compresses what is written to it, in pieces on several threads and in order; knows digests and sizes when it is closed."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._piece = out, bytearray()
        self._plain, self._packed = hashlib.sha256(), hashlib.sha256()
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
        self._under_way: deque[Future[bytes]] = deque()
        self.plain_size = self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._packed.hexdigest()}"

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._plain.hexdigest()}"

    def write(self, data: bytes) -> int:  # type: ignore[override]  # of any buffer
        self._plain.update(data)
        self.plain_size += len(data)
        self._piece += data
        while len(self._piece) >= PIECE:
            self._send(bytes(self._piece[:PIECE]))
            del self._piece[:PIECE]
        return len(data)

    def _send(self, piece: bytes) -> None:
        self._under_way.append(self._pool.submit(_member, piece))
        while len(self._under_way) > 8:
            self._take()

    def _take(self) -> None:
        packed = self._under_way.popleft().result()
        self._packed.update(packed)
        self.size += len(packed)
        self._out.write(packed)

    def close(self) -> None:
        if self.closed:
            return
        if self._piece or not self.plain_size:
            self._send(bytes(self._piece))
        while self._under_way:
            self._take()
        self._pool.shutdown()
        super().close()


def _member(piece: bytes) -> bytes:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(piece) + packer.flush()


def key_of(*parts: object) -> str:
    """The key of a layer: the digest of everything that it depends on."""
    return digest_bytes(
        json.dumps([FORMAT, LEVEL, PIECE, sys.version, zlib.ZLIB_RUNTIME_VERSION, *parts], sort_keys=True).encode()
    )
