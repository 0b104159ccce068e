"""A bundle and a base in; an OCI image out, made here without a container engine, the same bytes from the same inputs.

    base's layers │ packages of the extra `serve` │ Perron, and the way to Python │ the bundle

A new version of a model changes the last layer alone. The image holds serving parts only and answers with

    /opt/venv/bin/python -m perron serve VERSION --bundle /srv/model --host 0.0.0.0

as a user without rights, on a root that may be read-only; what it logs goes to /tmp or where PERRON_LOG_FOLDER says, for
which /var/lib/perron is there: a volume that is mounted on it is the user's own.
"""

import io
import json
import os
import platform
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perron.digest import digest_bytes
from perron.errors import PerronError
from perron.image.base import MACHINES, Base, check_fits, open_base
from perron.image.closure import Package, libc_needed, libraries_needed, perron_files
from perron.image.layers import Blobs, Entry, Layer, key_of, write_tar

__all__ = [
    "PORT",
    "USER",
    "Image",
    "Part",
    "build_image",
    "check_places",
    "entry_point",
    "write_archive",
    "write_layout",
]

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
VENV, HOME, MODEL = "opt/venv", "opt/perron", "srv/model"
LOG = "var/lib/perron"
USER = "10001:10001"  # numbers, so that Kubernetes can tell that it isn't root
PORT = 8000
SECOND = 1_000_000_000  # Docker's health checks count nanoseconds
REF_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Part:
    """A layer and what is in it: `base`, `packages`, `perron` or `model`."""

    name: str
    layer: Layer


@dataclass(frozen=True)
class Image:
    """An image: its manifest and configuration as bytes, its layers from the lowest up, and the name and tag that it goes by."""

    manifest: bytes
    config: bytes
    parts: tuple[Part, ...]
    name: str
    tag: str
    base: str
    created: str

    @property
    def digest(self) -> str:
        """What everybody calls the image by: the SHA-256 of its manifest."""
        return f"sha256:{digest_bytes(self.manifest)}"

    @property
    def added_bytes(self) -> int:
        """What the image has on top of its base, unpacked."""
        return sum(part.layer.plain_size for part in self.parts if part.name != "base")

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "name": f"{self.name}:{self.tag}",
            "base": self.base,
            "created": self.created,
            "added_bytes": self.added_bytes,
            "layers": [
                {"part": part.name, "digest": part.layer.digest, "bytes": part.layer.size, "unpacked_bytes": part.layer.plain_size}
                for part in self.parts
            ],
        }  # fmt: skip


def entry_point(python: str, version: int) -> list[str]:
    """The command that an image is started with; words that a user adds are options of `perron serve`."""
    return [python, "-m", "perron", "serve", str(version), "--bundle", f"/{MODEL}", "--host", "0.0.0.0"]


def build_image(
    bundle: Path,
    *,
    version: int,
    name: str,
    tag: str,
    labels: Mapping[str, str],
    base: str,
    packages: Sequence[Package],
    cache: Path,
    created: int,
    file_time: int = 0,
    allow_anonymous: bool = False,
) -> Image:
    """The image, its layers among the cache's blobs.

    Args:
        bundle: the folder, whose files were checked.
        version: what answers call it.
        name: of the image, such as `registry.example/team/house-prices`.
        tag: of the image.
        labels: of the image.
        base: as `open_base` takes it.
        packages: of the serving environment.
        cache: the folder in which layers are kept.
        created: the time of the image, in seconds since 1970.
        file_time: the time of its files. Not that of the image: with every version all layers would be others.
        allow_anonymous: whether it answers everybody, unless it is given tokens.

    Raises:
        NotFound: the base isn't there.
        PerronError: the base doesn't fit, or something can't be read or written.
    """
    blobs = Blobs(cache)
    below = open_base(base, blobs)
    python = check_fits(below, *libc_needed(packages), libraries_needed(packages))
    minor = ".".join(platform.python_version_tuple()[:2])
    parts = [
        *(Part("base", layer) for layer in below.layers),
        Part("packages", _packages_layer(blobs, packages, f"{VENV}/lib/python{minor}/site-packages", file_time)),
        Part("perron", _perron_layer(blobs, python, minor, file_time)),
        Part("model", _model_layer(blobs, bundle, file_time)),
    ]
    moment = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")
    config = _config(below, parts, entry_point(f"/{VENV}/bin/python", version), labels, moment, allow_anonymous)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": f"sha256:{digest_bytes(config)}", "size": len(config)},
        "layers": [
            {"mediaType": part.layer.media_type, "digest": part.layer.digest, "size": part.layer.size} for part in parts
        ],
        "annotations": {key: value for key, value in labels.items() if key.startswith("org.opencontainers.")},
    }
    blobs.prune([part.layer.path for part in parts])
    return Image(_json(manifest), config, tuple(parts), name, tag, below.name, moment)


def _packages_layer(blobs: Blobs, packages: Sequence[Package], site: str, epoch: int) -> Layer:
    entries = [
        Entry(f"{site}/{path}", place, is_program=".so" in place.name)
        for package in packages
        for path, place in package.files
    ]
    # Told by their times and sizes: to read 150 MB again would take longer than everything else.
    states = [(entry.path, *_state(entry.data)) for entry in entries]
    return write_tar(blobs, key_of("packages", epoch, states), entries, epoch=epoch)


def _perron_layer(blobs: Blobs, python: str, minor: str, epoch: int) -> Layer:
    files = [(f"{HOME}/{path}", place) for path, place in perron_files()]
    settings = f"home = {python.rpartition('/')[0]}\ninclude-system-site-packages = false\nversion = {minor}\n"
    start = f"#!/{VENV}/bin/python\nfrom perron.cli import main\n\nmain()\n"
    entries = [
        *(Entry(path, place) for path, place in files),
        Entry(f"{VENV}/pyvenv.cfg", settings.encode()),
        *(Entry(f"{VENV}/bin/{name}", link=python) for name in ("python", "python3", f"python{minor}")),
        Entry(f"{VENV}/bin/perron", start.encode(), is_program=True),
        Entry(LOG, owner=int(USER.partition(":")[0])),
    ]
    contents = [(path, digest_bytes(place.read_bytes())) for path, place in files]
    return write_tar(blobs, key_of("perron", epoch, python, minor, contents), entries, epoch=epoch)


def _model_layer(blobs: Blobs, bundle: Path, epoch: int) -> Layer:
    files = [(f"{MODEL}/{path.name}", path) for path in sorted(bundle.iterdir())]
    contents = [(path, digest_bytes(place.read_bytes())) for path, place in files]
    return write_tar(
        blobs, key_of("model", epoch, contents), [Entry(path, place) for path, place in files], epoch=epoch
    )


def _state(place: bytes | Path | None) -> tuple[int, int]:
    assert isinstance(place, Path)
    try:
        found = place.stat()
    except OSError as error:
        raise PerronError(
            f"The installed file {place} can't be read ({error.strerror}); install its package again."
        ) from error
    return found.st_size, found.st_mtime_ns


def _config(
    base: Base,
    parts: Sequence[Part],
    command: Sequence[str],
    labels: Mapping[str, str],
    created: str,
    allow_anonymous: bool,
) -> bytes:
    """The image's configuration (OCI image specification 1.1), on top of the base's.

    The health check is Docker's own addition, which others ignore.
    """
    under = base.config.get("config") or {}
    variables = dict(text.partition("=")[::2] for text in under.get("Env") or ())
    path = variables.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    variables |= {
        "PATH": f"/{VENV}/bin:{path}",
        "PYTHONPATH": f"/{HOME}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "HOME": "/tmp",
    }
    if allow_anonymous:
        variables["PERRON_ALLOW_ANONYMOUS"] = "1"
    config = {
        "User": USER,
        "Env": [f"{key}={value}" for key, value in variables.items()],
        "Entrypoint": list(command),
        "WorkingDir": "/srv",
        "ExposedPorts": {f"{PORT}/tcp": {}},
        "Labels": {**(under.get("Labels") or {}), **labels},
        "StopSignal": "SIGTERM",
        "Healthcheck": {
            "Test": ["CMD", f"/{VENV}/bin/python", "-m", "perron.serve.health"],
            "Interval": 10 * SECOND, "Timeout": 3 * SECOND, "StartPeriod": 10 * SECOND, "Retries": 3,
        },
    }  # fmt: skip
    own = [part.name for part in parts if part.name != "base"]
    lower = [dict(item) for item in base.config.get("history") or ()]
    if sum(not item.get("empty_layer") for item in lower) != len(base.layers):
        lower = [{"created": created, "created_by": "base"} for _ in base.layers]
    whole = {
        "created": created,
        "architecture": base.facts.machine or MACHINES.get(platform.machine(), platform.machine()),
        "os": "linux",
        **{key: base.config[key] for key in ("os.version", "variant") if key in base.config},
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [part.layer.diff_id for part in parts]},
        "history": [*lower, *({"created": created, "created_by": f"perron package: {part}"} for part in own)],
    }
    return _json(whole)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


# -- writing it


def _index(image: Image) -> bytes:
    """The layout's index: the image by its tag, and by its whole name for containerd."""
    names = {REF_NAME: image.tag, "io.containerd.image.name": _whole_name(image)}
    architecture = json.loads(image.config)["architecture"]
    entry = {
        "mediaType": MANIFEST_TYPE, "digest": image.digest, "size": len(image.manifest), "annotations": names,
        "platform": {"os": "linux", "architecture": architecture},
    }  # fmt: skip
    return _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]})


def _whole_name(image: Image) -> str:
    first = image.name.partition("/")[0]
    has_host = "/" in image.name and ("." in first or ":" in first or first == "localhost")
    return f"{image.name if has_host else 'docker.io/' + ('' if '/' in image.name else 'library/') + image.name}:{image.tag}"


def _contents(image: Image) -> dict[str, bytes | Path]:
    """The files of the layout by path, each once."""
    files: dict[str, bytes | Path] = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": _index(image),
        f"blobs/sha256/{digest_bytes(image.config)}": image.config,
        f"blobs/sha256/{digest_bytes(image.manifest)}": image.manifest,
    }
    for part in image.parts:
        files[f"blobs/sha256/{part.layer.digest.removeprefix('sha256:')}"] = part.layer.path
    return files


def check_places(layout: Path | None, archive: Path | None) -> None:
    """Nothing, when an image may be written there: asked before it is made, so that of two places not one alone is written.

    Raises:
        PerronError: something else is in the way.
    """
    is_other = layout is not None and layout.exists() and not (layout / "oci-layout").is_file()
    if layout is not None and is_other and (not layout.is_dir() or any(layout.iterdir())):
        raise PerronError(f"{layout} exists and isn't an OCI layout; choose another folder or remove it.")
    if archive is not None and archive.is_dir():
        raise PerronError(f"{archive} is a folder; name a file, such as image.tar.")


def write_layout(image: Image, folder: Path) -> None:
    """Writes the image as an OCI layout, in place of one that was there; the folder is whole or as it was.

    Raises:
        PerronError: the folder holds something else, or can't be written.
    """
    check_places(folder, None)
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        for name, data in _contents(image).items():
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, bytes):
                (building / name).write_bytes(data)
            else:
                shutil.copyfile(data, building / name)
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(building, folder)
        except BaseException:
            if old.exists():
                os.replace(old, folder)
            raise
    except OSError as error:
        raise PerronError(f"{folder} can't be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_archive(image: Image, file: Path) -> None:
    """Writes the image as one tar, which `docker load`, `podman load` and `skopeo` read; the file is whole or as it was.

    It is an OCI archive and Docker's own at once: a layout, with Docker's `manifest.json` beside it.

    Raises:
        PerronError: the file can't be written.
    """
    config, *_ = (name for name, data in _contents(image).items() if data is image.config)
    layers = [f"blobs/sha256/{part.layer.digest.removeprefix('sha256:')}" for part in image.parts]
    docker = [{"Config": config, "RepoTags": [f"{image.name}:{image.tag}"], "Layers": layers}]
    contents = {**_contents(image), "manifest.json": _json(docker)}
    building = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        building.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(building, "w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(contents):
                _add(tar, name, contents[name])
        os.replace(building, file)
    except OSError as error:
        raise PerronError(f"{file} can't be written: {error.strerror}.") from error
    finally:
        building.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, name: str, data: bytes | Path) -> None:
    one = tarfile.TarInfo(name)
    one.mode = 0o644
    if isinstance(data, bytes):
        one.size = len(data)
        tar.addfile(one, io.BytesIO(data))
        return
    one.size = data.stat().st_size
    with open(data, "rb") as file:
        tar.addfile(one, file)
