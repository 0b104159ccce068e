"""A folder of images in; a row for each out: path, label, width, height, mode, bytes (its size). No pixel is decoded."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from perron.digest import digest, digest_file
from perron.errors import SourceError, SourceWarning
from perron.source import IMAGES, Source, local_path, open_source, walk

__all__ = ["ImageFolder", "open_described"]

ROWS = 4096
NAMED = 3  # files in a warning
FACTS = [("width", pa.int64()), ("height", pa.int64()), ("mode", pa.string()), ("bytes", pa.int64())]
OWN = pa.schema([("path", pa.string()), ("label", pa.string()), *FACTS])


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder in the order of their names, or those that a manifest lists, in its order.

    A file that isn't an image has no width, height and mode, and is named in a warning.
    """

    folder: Path
    manifest: Source | None
    schema: pa.Schema

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    def fingerprint(self) -> str:
        """What changes with any file of the folder."""
        return digest([[path.relative_to(self.folder).as_posix(), digest_file(path)] for path in walk(self.folder)])

    def chunks(self) -> Iterator[pa.RecordBatch]:
        """Batches of up to 4,096 images.

        Raises:
            SourceError: an image that the manifest lists isn't there, or is outside of the folder.
        """
        broken: list[str] = []
        for batch in self._listed() if self.manifest is None else self._in_manifest(self.manifest):
            yield self._with_facts(batch, broken)
        if broken:
            files = (
                "1 file isn't an image and has" if len(broken) == 1 else f"{len(broken):,} files aren't images and have"
            )
            more = ", …" if len(broken) > NAMED else ""
            warnings.warn(
                f"{self.folder}: {files} no width, height and mode: {', '.join(broken[:NAMED])}{more}",
                SourceWarning,
                stacklevel=2,
            )

    def _listed(self) -> Iterator[pa.RecordBatch]:
        paths: list[str] = []
        for path in walk(self.folder):
            if path.suffix.lower() in IMAGES:
                paths.append(path.relative_to(self.folder).as_posix())
            if len(paths) == ROWS:
                yield _labelled(paths)
                paths = []
        if paths:
            yield _labelled(paths)

    def _in_manifest(self, manifest: Source) -> Iterator[pa.RecordBatch]:
        row, root = 0, self.folder.resolve()
        for batch in manifest.chunks():
            for place, path in enumerate(batch.column("path").to_pylist()):
                where = f"{self.folder}: row {row + place} of the manifest"
                if not path:
                    raise SourceError(f"{where} has no path; give one.")
                if not (root / str(path)).resolve().is_relative_to(root):
                    raise SourceError(f"{where} names {path}, which is outside of the folder.")
                if not (root / str(path)).is_file():
                    raise SourceError(f"{where} names {path}, which isn't there.")
            for begin in range(0, batch.num_rows, ROWS):
                yield batch.slice(begin, ROWS)
            row += batch.num_rows

    def _with_facts(self, batch: pa.RecordBatch, broken: list[str]) -> pa.RecordBatch:
        facts: list[tuple[Any, ...]] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's on odd headers and large images, of which no pixel is decoded
            for path in batch.column("path").to_pylist():
                file = self.folder / str(path)
                try:
                    size = file.stat().st_size
                    with Image.open(file) as image:
                        facts.append((image.width, image.height, image.mode, size))
                except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
                    facts.append((None, None, None, size))
                    broken.append(str(path))
        columns = [pa.array(values, kind) for values, (_, kind) in zip(zip(*facts, strict=True), FACTS, strict=True)]
        return pa.RecordBatch.from_arrays([*batch.columns, *columns], schema=self.schema)


def _labelled(paths: list[str]) -> pa.RecordBatch:
    labels = [path.partition("/")[0] if "/" in path else None for path in paths]
    return pa.RecordBatch.from_arrays([pa.array(paths), pa.array(labels, pa.string())], names=["path", "label"])


def open_described(place: str, base: Path, manifest: str | None = None) -> ImageFolder:
    """The folder.

    Raises:
        SourceError: it isn't there or elsewhere, has no image, or its manifest can't be used.
    """
    folder = local_path(place, base)
    if folder is None:
        raise SourceError(f"{place} isn't a folder of this machine; copy the images here first.")
    if not folder.is_dir():
        raise SourceError(f"There is no folder {folder}.")
    if manifest is None:
        if not any(path.suffix.lower() in IMAGES for path in walk(folder)):
            raise SourceError(f"{folder} is a folder without images; they end in {', '.join(sorted(IMAGES))}.")
        return ImageFolder(folder, None, OWN)
    listed = open_source(manifest, folder)
    if "path" not in listed.names:
        raise SourceError(
            f"The manifest {manifest} has no column 'path', only {', '.join(listed.names[:12])}; rename one."
        )
    double = next((name for name, _ in FACTS if name in listed.names), None)
    if double is not None:
        raise SourceError(f"The manifest {manifest} has a column {double!r}, which the images give; rename it.")
    first = next(listed.chunks(), None)
    if first is None:
        raise SourceError(f"The manifest {manifest} has a header and no rows.")
    return ImageFolder(folder, listed, pa.schema([*first.schema, *(pa.field(*fact) for fact in FACTS)]))
