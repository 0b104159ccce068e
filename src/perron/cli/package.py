"""`perron package`: an image of a version."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perron.image import Image
    from perron.image.subject import Subject
    from perron.ship.files import FileStatus

__all__ = ["package"]


def package(
    version: Annotated[
        str, typer.Argument(help="A version's number or an alias, or the run that made it.")
    ] = "champion",
    oci: Annotated[Path | None, typer.Option(help="Write the image here as an OCI layout.", metavar="FOLDER")] = None,
    tar: Annotated[
        Path | None,
        typer.Option(help="Write the image here as a tar, for docker load, podman load and skopeo.", metavar="FILE"),
    ] = None,
    dockerfile: Annotated[
        Path | None, typer.Option(help="Write a Dockerfile here, with all that it builds from.", metavar="FOLDER")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="What the image stands on: an OCI layout's folder, a root file system's tar, or a registry's reference.",
            metavar="BASE",
        ),
    ] = None,
    tag: Annotated[
        str | None, typer.Option(help="What the image is called. [default: MODEL:VERSION]", metavar="NAME[:TAG]")
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(help="An extra of Perron's to have in it, such as grpc, otel or s3; may be repeated."),
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="The image answers everybody, unless it is given tokens.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --dockerfile: write over files that a person changed, too.")
    ] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Make an image of a version: serving parts only, without a container engine, or a Dockerfile for one."""
    from perron.errors import PerronError
    from perron.image.base import hint
    from perron.image.closure import serving_packages
    from perron.image.subject import packaged, subject_of
    from perron.ship.image import write_build

    if oci is None and tar is None and dockerfile is None:
        raise PerronError("Say what to write: --oci FOLDER, --tar FILE or --dockerfile FOLDER.")
    if base is None and (oci is not None or tar is not None):
        raise PerronError(f"Name what the image stands on with --base: {hint()}.")
    project = shared.open_project(folder)
    packages = serving_packages(extra or ())
    subject = subject_of(project, shared.the_model(project, model), version, packages)
    image = None
    if base is not None and (oci is not None or tar is not None):
        image = packaged(
            project, subject, packages, base=base, called=tag, layout=oci, archive=tar, allow_anonymous=allow_anonymous
        )
    files: dict[str, FileStatus] = {}
    if dockerfile is not None:
        files = write_build(dockerfile, subject, packages, base=base, allow_anonymous=allow_anonymous, force=force)
    if as_json:
        facts = {"model": subject.model, "version": subject.version, "bundle": subject.digest, "notes": subject.notes}
        shared.print_json({**facts, "image": image.to_json() if image else None, "files": files})
        return
    for note in subject.notes:
        shared.error_line(note)
    if image is not None:
        _show_image(image, oci, tar, allow_anonymous)
    if dockerfile is not None:
        _show_build(dockerfile, files, subject)


def _show_image(image: "Image", oci: Path | None, tar: Path | None, allow_anonymous: bool) -> None:
    called = f"{image.name}:{image.tag}"
    print(f"{called} is {image.digest}")
    shared.print_table(
        ["layer", "stored MB", "unpacked MB", "digest"],
        [
            [part.name, part.layer.size / 1e6, part.layer.plain_size / 1e6 if part.layer.plain_size else None, part.layer.digest[7:19]]
            for part in image.parts
        ],
    )  # fmt: skip
    print(f"{image.added_bytes / 1e6:,.0f} MB on top of {image.base}. Next:")
    if oci is not None:
        print(f"    skopeo copy oci:{oci}:{image.tag} docker://REGISTRY/{called}")
    if tar is not None:
        print(f"    docker load -i {tar}")
        print(f"    {_start_words(called, allow_anonymous)}")


def _show_build(folder: Path, files: "Mapping[str, FileStatus]", subject: "Subject") -> None:
    words = {"changed": "changed by hand, left alone (--force writes it)"}
    for name, status in files.items():
        print(f"{folder / name}: {words.get(status, status)}")
    called = f"{subject.image_name}:{subject.version}"
    print(f"Next:\n    docker build -t {called} {folder}\n    {_start_words(called, False)}")


def _start_words(called: str, allow_anonymous: bool) -> str:
    """How the image is started; the tokens are those of the project, unless everybody may ask."""
    tokens = "" if allow_anonymous else """-e PERRON_TOKENS="$(perron token export)" """
    return f"docker run --read-only --tmpfs /tmp -p 8000:8000 {tokens}{called}"
