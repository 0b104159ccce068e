"""What an image is of in; the text of the build that makes it out: `Dockerfile`, `.dockerignore`, `requirements.txt`.

The layers are those of `perron.image`: the packages, Perron, and last the model, which alone changes with a new version.
The wheel of Perron and the folder `model`, which `write_build` adds, belong beside them.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from perron.digest import digest_file
from perron.errors import DeclarationError, PerronError
from perron.image import PORT, USER, entry_point
from perron.image.closure import Package, perron_files, requirements_text
from perron.image.subject import Subject
from perron.image.wheel import build_wheel
from perron.ship.files import FileStatus, write_files

__all__ = ["dockerfile_files", "write_build"]

HEAD = "# Written by `perron package`, which leaves it alone once you changed it.\n"
UV = "0.13.9"  # the build's own tool; nothing of it stays in the image
# FROM takes a name, a tag and a digest, and nothing that would begin another instruction.
IMAGE = re.compile(r"[a-z0-9][\w./:@-]*", re.IGNORECASE)
# What no import of serving comes to, as in `perron.image.closure`.
UNUSED = (
    "numpy/tests",
    "numpy/*/tests",
    *(f"onnxruntime/{part}" for part in ("transformers", "tools", "quantization", "datasets")),
)


def dockerfile_files(
    *,
    base: str,
    command: Sequence[str],
    labels: Mapping[str, str],
    requirements: str,
    wheel: str,
    allow_anonymous: bool = False,
) -> dict[str, str]:
    """The files of the build by path.

    Args:
        base: an image with the Python that the requirements are for, such as `python:3.11-slim`.
        command: that the image is started with.
        labels: of the image.
        requirements: pins, a line each.
        wheel: the file name of Perron's wheel.
        allow_anonymous: whether it answers everybody, unless it is given tokens.

    Raises:
        DeclarationError: the base isn't an image's name.
    """
    base = base.removeprefix("docker://")
    if not IMAGE.fullmatch(base):
        raise DeclarationError(f"A Dockerfile's base is an image's name, such as python:3.11-slim; got {base[:200]!r}.")
    unused = " ".join(f"/opt/venv/lib/python*/site-packages/{path}" for path in UNUSED)
    anonymous = " \\\n    PERRON_ALLOW_ANONYMOUS=1" if allow_anonymous else ""
    shown = " \\\n".join(
        f"{'LABEL ' if place == 0 else '      '}{key}={_quoted(value)}"
        for place, (key, value) in enumerate(labels.items())
    )
    dockerfile = f"""{HEAD}
FROM {base} AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NATIVE_TLS=1 UV_PYTHON_DOWNLOADS=never
RUN python3 -m pip install --no-cache-dir --root-user-action=ignore uv=={UV}
WORKDIR /build
# The packages, which change seldom, before the code.
COPY requirements.txt ./
RUN --mount=type=cache,target=/root/.cache/uv \\
    uv venv /opt/venv \\
    && uv pip install --python /opt/venv/bin/python --no-deps -r requirements.txt \\
    && rm -rf {unused}
COPY {wheel} ./
RUN uv pip install --python /opt/venv/bin/python --no-deps --target /opt/perron ./{wheel} \\
    && mkdir /log

FROM {base}
ENV PATH=/opt/venv/bin:/opt/perron/bin:$PATH \\
    PYTHONPATH=/opt/perron \\
    PYTHONDONTWRITEBYTECODE=1 \\
    PYTHONUNBUFFERED=1 \\
    HOME=/tmp{anonymous}
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/perron /opt/perron
COPY --from=build --chown={USER} /log /var/lib/perron
WORKDIR /srv
EXPOSE {PORT}
USER {USER}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \\
    CMD ["/opt/venv/bin/python", "-m", "perron.serve.health"]
ENTRYPOINT {json.dumps(list(command))}
# The model last: a new version changes this layer alone.
COPY model /srv/model
{shown}
"""
    # The lock of what may come in: a build never sees more of the folder than it needs.
    ignore = f"{HEAD}*\n!requirements.txt\n!{wheel}\n!model\n"
    return {"Dockerfile": dockerfile, ".dockerignore": ignore, "requirements.txt": HEAD + requirements}


def _quoted(value: str) -> str:
    """A label's value as Docker reads it: in quotes, with what would be a variable or an end escaped."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{" ".join(escaped.splitlines())}"'


def write_build(
    folder: Path,
    subject: Subject,
    packages: Sequence[Package],
    *,
    base: str | None = None,
    allow_anonymous: bool = False,
    force: bool = False,
) -> dict[str, FileStatus]:
    """The status of each file that a build of the version needs, by its path, once they are written.

    Args:
        folder: made when it isn't there.
        subject: what is packaged.
        packages: of the serving environment.
        base: an image with this Python; None: `python:3.X-slim`.
        allow_anonymous: whether the image answers everybody, unless it is given tokens.
        force: writes what a person changed, too.

    Raises:
        DeclarationError: the base isn't an image's name.
        SourceError, PerronError: the folder can't be written, `model` in it is something else, or a person changed a file
            there that is of another version.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    wheel, data = build_wheel(perron_files())
    files = dockerfile_files(
        base=base or f"python:{python}-slim", command=entry_point("/opt/venv/bin/python", subject.version),
        labels=subject.labels, requirements=requirements_text(packages), wheel=wheel, allow_anonymous=allow_anonymous,
    )  # fmt: skip
    model = folder / "model"
    if model.exists() and not (model / "manifest.json").is_file():
        raise PerronError(f"{model} exists and isn't a bundle; choose another folder or remove it.")
    known = digest_file(model / "manifest.json") if model.exists() else None
    if not force and known != digest_file(subject.bundle / "manifest.json"):
        planned = write_files(folder, files, is_check=True)
        mine = next((name for name, status in planned.items() if status == "changed"), None)
        if mine is not None:
            raise PerronError(
                f"{folder / mine} was changed by hand, and is of another version than {subject.version}; choose another folder, "
                "or write over it with --force."
            )
    statuses = write_files(folder, files, force=force)
    building = folder / f".model.{os.getpid()}"
    try:
        for other in folder.glob("perron-*-py3-none-any.whl"):
            other.unlink()
        (folder / wheel).write_bytes(data)
        shutil.copytree(subject.bundle, building)
        shutil.rmtree(model, ignore_errors=True)
        building.rename(model)
    except OSError as error:
        raise PerronError(f"{folder} can't be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return {**statuses, wheel: "written", "model": "written"}
