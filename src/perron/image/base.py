"""What a user names as an image's base in; its layers, its configuration and what was found in it out.

    a folder        an OCI image layout, `FOLDER` or `FOLDER:TAG` (OCI image specification 1.1)
    a file          the tar of a root file system, plain or by gzip
    anything else   a registry's reference, `[docker://][HOST/]NAME[:TAG|@DIGEST]`

A base must have the Python that the packages are compiled for, and a C library that they run on.
"""

import gzip
import hashlib
import json
import platform
import posixpath
import re
import sys
import tarfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from perron.digest import digest_file
from perron.errors import NotFound, PerronError
from perron.image.layers import Blobs, Layer, compress, key_of
from perron.image.registry import Reference, Registry, parse_reference
from perron.store import write_atomically

__all__ = ["MACHINES", "Base", "Facts", "check_fits", "hint", "open_base"]

MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}
ELF_MACHINES = {62: "amd64", 183: "arm64", 40: "arm", 21: "ppc64le", 22: "s390x"}
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
PYTHON = re.compile(r"usr/(?:local/)?bin/python(3\.\d+)")
LIBC = re.compile(r"(?:usr/)?lib(?:32|64)?/(?:[\w-]+-linux-gnu\w*/)?libc\.so\.6")
MUSL = re.compile(r"(?:usr/)?lib/ld-musl-[\w-]+\.so\.1")
LIBRARY = re.compile(r"(?:usr/)?(?:local/)?lib(?:32|64)?/.*?([^/]+\.so(?:\.[\w.]+)?)")
GLIBC_VERSION = re.compile(rb"GNU C Library [^\n]*?version (\d+)\.(\d+)")
MOST_LIBC_BYTES = 32 << 20
LIKE_PATHS = re.compile(r"[/.~]|.*\.(tar|tgz|tar\.gz)$")


@dataclass(frozen=True)
class Facts:
    """What was found in a base: its Pythons by version, its C library and its version, its machine, and its shared libraries' names."""

    pythons: Mapping[str, str]
    libc: str | None
    libc_version: tuple[int, int] | None
    machine: str | None
    libraries: frozenset[str]


@dataclass(frozen=True)
class Base:
    """A base: what it is called, its layers from the lowest up, its configuration, and what was found in it."""

    name: str
    layers: tuple[Layer, ...]
    config: Mapping[str, Any]
    facts: Facts


def hint() -> str:
    """Which bases there can be, in words."""
    return (
        "an OCI layout's folder, the tar of a root file system, or a registry's reference "
        f"such as docker://docker.io/library/python:{_python()}-slim"
    )


def open_base(named: str, blobs: Blobs) -> Base:
    """The base of that name; what must be fetched or compressed is kept among the blobs.

    Raises:
        NotFound: it isn't there.
        PerronError: it can't be read, or is none.
    """
    folder, tag = _split(named)
    path = Path(named).expanduser()
    try:
        if folder is not None:
            return _of_layout(folder, tag, named, blobs)
        if path.is_file():
            return _of_tar(path, blobs)
        if LIKE_PATHS.match(named):
            raise NotFound(f"There is no base {named}; name {hint()}.")
        return _of_registry(parse_reference(named), blobs)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise PerronError(f"The base {named} can't be read: {error}.") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise PerronError(f"The base {named} isn't an image: {type(error).__name__} {error}.") from error


def check_fits(base: Base, libc: str, least: tuple[int, int], libraries: Set[str]) -> str:
    """The path of the base's Python, where packages made for that C library, which need those libraries besides, can run on it.

    Raises:
        PerronError: it has no such Python, its C library or machine isn't one that they run on, or a library is missing.
    """
    facts, wanted = base.facts, _python()
    own = MACHINES.get(platform.machine(), platform.machine())
    if facts.machine is not None and facts.machine != own:
        raise PerronError(
            f"The base {base.name} is for {facts.machine}, and the packages here are for {own}; name one for {own}."
        )
    if wanted not in facts.pythons:
        has = f"Python {', '.join(sorted(facts.pythons))}" if facts.pythons else "no Python"
        raise PerronError(
            f"The base {base.name} has {has}, and the packages here are compiled for Python {wanted}; "
            f"name a base with {wanted}, such as python:{wanted}-slim."
        )
    if facts.libc is None:
        raise PerronError(f"The base {base.name} has no C library that Perron knows; the packages here need {libc}.")
    if facts.libc != libc:
        raise PerronError(
            f"The base {base.name} has {facts.libc} as its C library, and the packages here are made for {libc}; "
            f"name a base with {libc}, such as python:{wanted}-{'slim' if libc == 'glibc' else 'alpine'}."
        )
    if facts.libc_version is not None and facts.libc_version < least:
        found, needed = (".".join(map(str, version)) for version in (facts.libc_version, least))
        raise PerronError(
            f"The base {base.name} has {libc} {found}, and the packages here need {needed} or later; name a newer base."
        )
    missing = sorted(libraries - facts.libraries)
    if missing:
        raise PerronError(
            f"The base {base.name} has no {', '.join(missing)}, which the packages here need; name a base with {'it' if len(missing) == 1 else 'them'}."
        )
    return f"/{facts.pythons[wanted]}"


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _split(named: str) -> tuple[Path | None, str | None]:
    """The folder of a layout and the tag in it; no folder where it isn't one."""
    whole = Path(named).expanduser()
    if whole.is_dir():
        return whole, None
    place, mark, tag = named.rpartition(":")
    part = Path(place).expanduser()
    return (part, tag) if mark and place and part.is_dir() else (None, None)


def _of_layout(folder: Path, tag: str | None, named: str, blobs: Blobs) -> Base:
    if not (folder / "oci-layout").is_file() or not (folder / "index.json").is_file():
        raise NotFound(f"The folder {folder} isn't an OCI layout (it has no oci-layout and index.json); name {hint()}.")

    def read(digest: str) -> bytes:
        data = _blob(folder, digest).read_bytes()
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise PerronError(f"The base {named} is damaged: its blob {digest} has other bytes.")
        return data

    entries = json.loads((folder / "index.json").read_bytes())["manifests"]
    tags = [entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in entries]
    if tag is not None:
        entries = [entry for entry, known in zip(entries, tags, strict=True) if known == tag]
        if not entries:
            raise NotFound(f"The layout {folder} has no tag {tag!r}; it has {', '.join(filter(None, tags)) or 'none'}.")
    if len(entries) > 1 and not any("platform" in entry for entry in entries):
        raise PerronError(
            f"The layout {folder} has several images; name one as {folder}:TAG: {', '.join(filter(None, tags))}."
        )
    manifest = _choose(entries, read, named)
    config = json.loads(read(manifest["config"]["digest"]))
    layers = []
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        path = _blob(folder, layer["digest"])
        if not path.is_file():
            raise PerronError(f"The base {named} is damaged: it has no blob {layer['digest']}.")
        layers.append(_layer(layer, diff_id, path, blobs, named))
    return _base(named, layers, config, blobs)


def _of_registry(reference: Reference, blobs: Blobs) -> Base:
    registry = Registry(reference)
    manifest = _choose([{"digest": reference.digest or reference.tag}], registry.manifest, str(reference))
    config = json.loads(registry.blob(manifest["config"]["digest"]))
    layers = []
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        path = blobs.path(layer["digest"])
        if not path.is_file():
            building = blobs.building()
            try:
                registry.download(layer["digest"], building)
                building.replace(path)
            finally:
                building.unlink(missing_ok=True)
        layers.append(_layer(layer, diff_id, path, blobs, str(reference)))
    return _base(str(reference), layers, config, blobs)


def _of_tar(path: Path, blobs: Blobs) -> Base:
    """A root file system becomes one layer. What it was made from is told by its own bytes."""
    with _plain(path) as plain:
        layer = compress(blobs, plain, key_of("rootfs", digest_file(path)))
    config = {"os": "linux", "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}}
    return _base(str(path), [layer], config, blobs)


def _blob(folder: Path, digest: str) -> Path:
    kind, _, name = digest.partition(":")
    if kind != "sha256" or not re.fullmatch(r"[0-9a-f]{64}", name):
        raise PerronError(f"The layout {folder} names a blob {digest[:80]!r}, which isn't a SHA-256.")
    return folder / "blobs" / "sha256" / name


def _choose(entries: Sequence[Mapping[str, Any]], read: Any, named: str) -> dict[str, Any]:
    """The manifest for this machine, through indexes of several."""
    own = MACHINES.get(platform.machine(), platform.machine())
    offered: set[str] = set()
    waiting = list(entries)
    while waiting:
        entry = waiting.pop(0)
        kind = entry.get("platform", {})
        if kind and (kind.get("os") != "linux" or kind.get("architecture") != own):
            offered.add(f"{kind.get('os')}/{kind.get('architecture')}")
            continue
        manifest: dict[str, Any] = json.loads(read(entry["digest"]))
        if manifest.get("mediaType") in INDEXES or "manifests" in manifest:
            waiting += manifest["manifests"]
            continue
        return manifest
    raise PerronError(f"The base {named} has no image for linux/{own}; it has {', '.join(sorted(offered)) or 'none'}.")


def _layer(described: Mapping[str, Any], diff_id: str, path: Path, blobs: Blobs, named: str) -> Layer:
    """A base's layer as gzip, which registries take as it is: one that is plain is compressed."""
    kind, digest = str(described["mediaType"]), str(described["digest"])
    if kind.endswith(("zstd", "encrypted")):
        raise PerronError(
            f"The base {named} has a layer of type {kind}, which Perron can't read; "
            "`skopeo copy --dest-compress-format gzip` makes one that it can."
        )
    with open(path, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    if is_gzip:
        if f"sha256:{digest_file(path)}" != digest:
            raise PerronError(f"The base {named} is damaged: its blob {digest} has other bytes.")
        return Layer(digest, path.stat().st_size, diff_id, 0, path)
    with open(path, "rb") as plain:
        layer = compress(blobs, plain, key_of("plain", digest))
    if layer.diff_id != diff_id:
        raise PerronError(f"The base {named} is damaged: its blob {digest} has other bytes.")
    return layer


def _plain(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path)) if is_gzip else open(path, "rb")


def _base(named: str, layers: Sequence[Layer], config: Mapping[str, Any], blobs: Blobs) -> Base:
    return Base(named, tuple(layers), config, _look(layers, config, blobs))


# -- what is in it


def _look(layers: Sequence[Layer], config: Mapping[str, Any], blobs: Blobs) -> Facts:
    """What is found in the layers, each laid over those before it; remembered, since it takes a second to read them."""
    mark = key_of("facts", 2, [layer.diff_id for layer in layers])
    kept = blobs.folder / "bases" / f"{mark}.json"
    try:
        found = json.loads(kept.read_bytes())
    except (OSError, ValueError):
        found = {}
        for layer in layers:
            _lay_over(found, layer)
        write_atomically(kept, json.dumps(found))
    pythons = {match[1]: path for path in sorted(found) if (match := PYTHON.fullmatch(path))}
    glibc = next((facts for path, facts in found.items() if LIBC.fullmatch(path)), None)
    has_musl = any(MUSL.fullmatch(path) for path in found)
    kind = "glibc" if glibc is not None else "musl" if has_musl else None
    version = tuple(glibc["version"]) if glibc is not None and glibc.get("version") else None
    machine = (glibc or {}).get("machine") or config.get("architecture")
    libraries = frozenset(match[1] for path in found if (match := LIBRARY.fullmatch(path)))
    return Facts(pythons, kind, version, machine, libraries)


def _lay_over(found: dict[str, dict[str, Any]], layer: Layer) -> None:
    """Adds what is of interest in a layer, and takes away what the layer hides (OCI: whiteouts)."""
    with gzip.open(layer.path) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        for item in tar:
            path = posixpath.normpath(item.name).lstrip("/")
            folder, _, name = path.rpartition("/")
            if name == ".wh..wh..opq":
                _hide(found, folder)
            elif name.startswith(".wh."):
                _hide(found, f"{folder}/{name.removeprefix('.wh.')}".lstrip("/"))
            elif LIBC.fullmatch(path):
                found[path] = _of_libc(tar, item)
            elif PYTHON.fullmatch(path) or MUSL.fullmatch(path) or LIBRARY.fullmatch(path):
                found[path] = {}


def _hide(found: dict[str, dict[str, Any]], path: str) -> None:
    for known in [known for known in found if known == path or known.startswith(f"{path}/")]:
        del found[known]


def _of_libc(tar: tarfile.TarFile, item: tarfile.TarInfo) -> dict[str, Any]:
    """Version and machine of glibc: of the file itself, or of what its name in older systems says (`libc-2.31.so`)."""
    named = re.search(r"libc-(\d+)\.(\d+)\.so", item.linkname)
    if named is not None:
        return {"version": [int(named[1]), int(named[2])]}
    file = tar.extractfile(item) if item.isreg() and item.size < MOST_LIBC_BYTES else None
    data = file.read() if file is not None else b""
    told = GLIBC_VERSION.search(data)
    machine = ELF_MACHINES.get(int.from_bytes(data[18:20], "little")) if data[:4] == b"\x7fELF" else None
    return {"version": [int(told[1]), int(told[2])] if told else None, "machine": machine}
