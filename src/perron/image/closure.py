"""The running environment in; the installed packages that serving needs out, with their very files.

    extra `serve` of perron ─▶ requirements, by their markers ─▶ distributions ─▶ files, by their RECORD

So an image has the versions that were tested here, and is made without a network.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import perron
from perron.errors import MissingPackage, nearest

__all__ = ["EXTRAS", "Package", "libc_needed", "perron_files", "requirements_text", "serving_packages"]

# What an image may have beside `serve`: each is of use to a server that has no project.
EXTRAS = ("azure", "gcs", "grpc", "otel", "postgres", "s3")
# The ledger's, and a server of a bundle has no ledger (18 MB); a log that goes on to Postgres needs it.
LEDGER = "sqlalchemy"
SITE_FILES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")  # differ from one installer to the next
# Sources and declarations for compilers and type checkers; nothing reads them while serving.
UNREAD = (".pyc", ".pyi", ".pyx", ".pxd", ".c", ".h", ".cpp", ".hpp", ".a", ".pth")
# Folders that no import of serving comes to, by distribution: the tests of NumPy, and the tools that change ONNX graphs.
UNUSED = {
    "numpy": re.compile(r"numpy/(.+/)?tests/"),
    "onnxruntime": re.compile(r"onnxruntime/(transformers|tools|quantization|datasets)/"),
}
MANYLINUX = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
TAG = re.compile(r"(manylinux|musllinux)_(\d+)_(\d+)_")


@dataclass(frozen=True)
class Package:
    """An installed distribution: its name and version, its files (path below site-packages, where it is), and its wheel's tags."""

    name: str
    version: str
    files: tuple[tuple[str, Path], ...]
    tags: tuple[str, ...]


def serving_packages(extras: Sequence[str] = ()) -> tuple[Package, ...]:
    """The packages of the extra `serve` and of these, with all that they require here; by name, without perron itself.

    Raises:
        MissingPackage: one isn't installed, or was installed in a way that doesn't tell its files; an extra isn't known.
    """
    for extra in extras:
        if extra not in EXTRAS:
            raise MissingPackage(f"An image can't have the extra {extra!r}; {nearest(extra, EXTRAS)}")
    left_out = set() if "postgres" in extras else {LEDGER}
    found: dict[str, Distribution] = {}
    waiting = [("perron", ("serve", *extras))]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        installed = _installed(name)
        if name != "perron":
            found[name] = installed
        waiting += [
            (key, of) for key, of in _required(installed, wanted, is_root=name == "perron") if key not in left_out
        ]
    return tuple(_package(name, found[name]) for name in sorted(found))


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise MissingPackage(
            f"A serving image needs {name}, which isn't installed here: pip install {name}."
        ) from error


def _required(of: Distribution, extras: Sequence[str], *, is_root: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and extras of each requirement that holds here; of perron itself only what its extras bring."""
    for text in of.requires or ():
        needed = Requirement(text)
        holds = needed.marker is None or needed.marker.evaluate({"extra": ""})
        by_extra = needed.marker is not None and any(needed.marker.evaluate({"extra": extra}) for extra in extras)
        if by_extra if is_root and holds else holds or by_extra:
            yield canonicalize_name(needed.name), tuple(sorted(needed.extras))


def _package(name: str, found: Distribution) -> Package:
    listed = found.files
    if listed is None:
        raise MissingPackage(f"{name} has no list of its files (RECORD); install it again from a wheel.")
    unused = UNUSED.get(name)
    files = []
    for file in listed:
        path = file.as_posix()
        if path.startswith(("../", "/")) or "__pycache__" in path or path.endswith(UNREAD):
            continue  # scripts and manuals beside site-packages; what is compiled is compiled anew
        if (".dist-info/" in path and file.name in SITE_FILES) or (unused is not None and unused.match(path)):
            continue
        files.append((path, Path(str(file.locate()))))
    if not any(path.endswith((".py", ".so")) for path, _ in files):
        raise MissingPackage(
            f"{name} is installed from its source tree; install it from a wheel, so that its files are known."
        )
    tags = re.findall(r"^Tag: *(\S+)", found.read_text("WHEEL") or "", re.MULTILINE)
    return Package(name, found.version, tuple(sorted(files)), tuple(tags))


def perron_files() -> tuple[tuple[str, Path], ...]:
    """Perron's own files as they are installed, or of the source tree that it is installed from."""
    home = Path(perron.__file__).parent
    files = [
        path for path in home.rglob("*") if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    ]
    return tuple(sorted((f"perron/{path.relative_to(home).as_posix()}", path) for path in files))


def requirements_text(packages: Sequence[Package]) -> str:
    """The packages as pins, a line each."""
    return "".join(f"{package.name}=={package.version}\n" for package in packages)


def _own_libc() -> tuple[str, tuple[int, int]]:
    try:
        kind, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        major, minor = version.split(".")[:2]
    except ValueError:  # musl knows no such name
        return "musl", (0, 0)
    return kind, (int(major), int(minor))


def libc_needed(packages: Sequence[Package]) -> tuple[str, tuple[int, int]]:
    """The C library that the packages' compiled parts were made for, and its least version: by their wheels' tags (PEP 600, 656)."""
    kind, least = "glibc", (0, 0)
    for package in packages:
        places = [place for tag in package.tags for place in tag.split("-")[-1].split(".")]
        if set(places) <= {"any"}:
            continue
        versions = []
        for place in places:
            match = TAG.match(place)
            if match is not None:
                kind = "musl" if match[1] == "musllinux" else "glibc"
                versions.append((int(match[2]), int(match[3])))
            elif place.partition("_")[0] in MANYLINUX:
                versions.append(MANYLINUX[place.partition("_")[0]])
        if not versions:  # built on this machine, for its own C library
            own, version = _own_libc()
            kind, versions = own, [version]
        least = max(least, min(versions))
    return kind, least
