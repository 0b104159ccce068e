"""Perron's own files in; a wheel of them out, the same bytes from the same files: what a Dockerfile installs."""

import base64
import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from perron import __version__

__all__ = ["build_wheel"]

NAME = f"perron-{__version__}-py3-none-any.whl"
INFO = f"perron-{__version__}.dist-info"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can hold


def build_wheel(files: Sequence[tuple[str, Path]]) -> tuple[str, bytes]:
    """The wheel's file name and bytes (PyPA: binary distribution format 1.0)."""
    contents = {path: place.read_bytes() for path, place in files}
    contents |= {
        f"{INFO}/METADATA": f"Metadata-Version: 2.1\nName: perron\nVersion: {__version__}\n".encode(),
        f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nGenerator: perron package\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{INFO}/entry_points.txt": b"[console_scripts]\nperron = perron.cli:main\n",
    }
    record = "".join(f"{path},sha256={_hash(data)},{len(data)}\n" for path, data in sorted(contents.items()))
    contents[f"{INFO}/RECORD"] = f"{record}{INFO}/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(contents):
            entry = zipfile.ZipInfo(path, LONG_AGO)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            packed.writestr(entry, contents[path])
    return NAME, out.getvalue()


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
