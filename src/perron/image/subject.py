"""A project and a version's name in; what goes into an image of it out: the bundle, what it is labelled with, and its time.

What was packaged is kept in `.perron/images/packaged/MODEL/VERSION/DIGEST.json`, so that every deployment can carry on the
same digest.
"""

import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perron.bundle import load
from perron.errors import DeclarationError, LedgerError, NotFound, PerronError
from perron.image import Image, build_image, check_places, write_archive, write_layout
from perron.image.closure import Package
from perron.naming import label_of
from perron.store import write_atomically

if TYPE_CHECKING:
    from perron.project import Project

__all__ = ["Subject", "packaged", "packaged_images", "subject_of"]

FORMAT = 1
RUN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
NAME = re.compile(
    r"(?:[\w.-]+(?::\d+)?/)?[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)
TAG = re.compile(r"\w[\w.-]{0,127}")


@dataclass(frozen=True)
class Subject:
    """What is packaged: a model's version, its bundle, the labels of its image, its time and its files' in seconds since
    1970, and what a person should know of it."""

    model: str
    version: int
    bundle: Path
    digest: str
    labels: dict[str, str]
    created: int
    file_time: int
    notes: tuple[str, ...]

    @property
    def image_name(self) -> str:
        """The model's name as registries take it."""
        return label_of(self.model)


def subject_of(project: "Project", model: str, reference: str, packages: Sequence[Package]) -> Subject:
    """The version of that number or alias, or that a run made, its bundle checked.

    Raises:
        NotFound: there is no such version; of a run that its gates refused, says so.
        BundleError: it is damaged.
        DeclarationError: SOURCE_DATE_EPOCH isn't a time.
    """
    row = _row(project, model, reference)
    path = project.ledger.bundle_path(row)
    bundle = load(path, row["bundle"])
    run = project.ledger.get_run(row["run"])
    data = (bundle.manifest.get("lineage") or {}).get("data") or {}
    labels: dict[str, str | None] = {
        "org.opencontainers.image.title": model,
        "org.opencontainers.image.version": str(row["version"]),
        "org.opencontainers.image.revision": run["code_commit"],
        "org.opencontainers.image.source": _source(project.folder),
        "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",  # `perron serve` does
        "perron.model": model,
        "perron.version": str(row["version"]),
        "perron.bundle": row["bundle"],
        "perron.run": row["run"],
        "perron.data": data.get("snapshot"),
        "perron.uncommitted": run["code_dirty"],  # the digest of changes that the revision doesn't have
    }
    wanted = _source_date_epoch()
    created = int(datetime.fromisoformat(row["made"]).timestamp()) if wanted is None else wanted
    labels["org.opencontainers.image.created"] = datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z")
    notes = (*_refused(project, model), *_other_packages(project, run, packages))
    known = {key: str(value) for key, value in sorted(labels.items()) if value}
    return Subject(model, row["version"], path, row["bundle"], known, created, wanted or 0, notes)


def _row(project: "Project", model: str, reference: str) -> dict[str, Any]:
    if not RUN.fullmatch(reference):
        return project.ledger.get_version(model, reference)
    run = project.ledger.get_run(reference)
    found = [row for row in project.ledger.list_versions(model) if row["run"] == reference]
    if found:
        return found[0]
    if run["status"] == "refused":
        raise NotFound(
            f"The run {reference} was refused by its gates, so there is no version to package: {run['message']}."
        )
    raise NotFound(f"The run {reference} made no version (it is {run['status']}); `perron models` lists them.")


def _refused(project: "Project", model: str) -> list[str]:
    """A word on a newest run that its gates refused: it isn't what is packaged."""
    newest = next((run for run in project.ledger.list_runs(20) if run["system"] == model), None)
    if newest is None or newest["status"] != "refused":
        return []
    return [f"The newest run, {newest['id']}, was refused by its gates: this is a version from before it."]


def _other_packages(project: "Project", run: dict[str, Any], packages: Sequence[Package]) -> list[str]:
    """A word on packages that are of other versions than those that the version was made and tested with."""
    try:
        kept = project.store.get_json(run["environment"])["packages"] if run["environment"] else []
    except (LedgerError, ValueError, KeyError):
        return []
    then = dict(str(text).partition("==")[::2] for text in kept)
    changed = [
        f"{package.name} {package.version} (then {then[package.name]})"
        for package in packages
        if package.name in then and then[package.name] != package.version
    ]
    return [f"Installed now in other versions than when the version was made: {', '.join(changed)}."] if changed else []


def _source_date_epoch() -> int | None:
    """The time that everything made is to have (reproducible-builds.org); None where none is wanted."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None and not (given.isascii() and given.isdigit() and int(given) < 1 << 33):
        raise DeclarationError(f"SOURCE_DATE_EPOCH is {given[:40]!r}; give seconds since 1970, or leave it out.")
    return None if given is None else int(given)


def _source(folder: Path) -> str | None:
    """Where the code is, by git's remote, without a password; None where that can't be told."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "config", "--get", "remote.origin.url"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return re.sub(r"(?<=://)[^/@]*@", "", done.stdout.strip()) or None


def packaged(
    project: "Project",
    subject: Subject,
    packages: Sequence[Package],
    *,
    base: str,
    called: str | None = None,
    layout: Path | None = None,
    archive: Path | None = None,
    allow_anonymous: bool = False,
) -> Image:
    """The image of a version, once it is written and its digest is kept with the project; nothing is written of one that fails.

    Args:
        project: whose version it is.
        subject: what is packaged.
        packages: of the serving environment.
        base: as `open_base` takes it.
        called: NAME or NAME:TAG; None: the model's name and the version's number.
        layout: the folder of the OCI layout; None: none is written.
        archive: the file of the tar; None: none is written.
        allow_anonymous: whether the image answers everybody, unless it is given tokens.

    Raises:
        DeclarationError: a registry wouldn't take its name.
        NotFound, PerronError: as `build_image`, `write_layout` and `write_archive`.
    """
    name, tag = _name_and_tag(called, subject)
    check_places(layout, archive)
    image = build_image(
        subject.bundle, version=subject.version, name=name, tag=tag, labels=subject.labels, base=base,
        packages=packages, cache=project.folder / ".perron" / "images", created=subject.created, file_time=subject.file_time,
        allow_anonymous=allow_anonymous,
    )  # fmt: skip
    if layout is not None:
        write_layout(image, layout)
    if archive is not None:
        write_archive(image, archive)
    _remember(project, subject, image)
    return image


def _name_and_tag(wanted: str | None, subject: Subject) -> tuple[str, str]:
    if wanted is None:
        return subject.image_name, str(subject.version)
    name, mark, tag = wanted.rpartition(":")
    if not mark or "/" in tag:  # the colon is of a port, or there is none
        name, tag = wanted, str(subject.version)
    if not NAME.fullmatch(name) or not TAG.fullmatch(tag):
        raise DeclarationError(
            f"An image can't be called {wanted[:200]!r}; use lower-case letters, digits and . _ - in NAME or HOST/NAME, and :TAG."
        )
    return name, tag


def _remember(project: "Project", subject: Subject, image: Image) -> None:
    place = _place(project, subject.model, subject.version) / f"{image.digest.removeprefix('sha256:')}.json"
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    facts = {
        "format": FORMAT, "model": subject.model, "version": subject.version, "bundle": subject.digest, "packaged": now,
        **image.to_json(),
    }  # fmt: skip
    try:
        write_atomically(place, json.dumps(facts, indent=1) + "\n")
    except OSError as error:
        raise PerronError(f"{place} can't be written: {error.strerror}.") from error


def packaged_images(project: "Project", model: str, version: int) -> list[dict[str, Any]]:
    """The images that a version was packaged as, the newest first: `digest`, `name`, `base`, `packaged`, `layers`, …"""
    found = []
    for path in _place(project, model, version).glob("*.json"):
        facts = json.loads(path.read_bytes())
        if facts["format"] == FORMAT:
            found.append(facts)
    return sorted(found, key=lambda facts: str(facts["packaged"]), reverse=True)


def _place(project: "Project", model: str, version: int) -> Path:
    return project.folder / ".perron" / "images" / "packaged" / model / str(version)
