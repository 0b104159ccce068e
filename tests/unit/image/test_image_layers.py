"""Layers: the same bytes from the same files, whatever happened before; and bases laid over each other."""

import gzip
import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.errors import NotFound, PerronError
from perron.image.base import Facts, open_base
from perron.image.layers import PIECE, Blobs, Entry, compress, key_of, write_tar
from perron.image.registry import Reference, parse_reference

SOURCE = "WORDS = {'a', 'b'}\n\ndef f(x):\n    return x in {'p', 'q', 'r'} or 'a' * 3\n"


def write_sources(folder: Path) -> list[Entry]:
    """A package with Python files (one of them for Python 2), and others."""
    folder.mkdir(parents=True)
    for name, text in (("__init__.py", SOURCE), ("old.py", "print 'two'\n"), ("data.txt", "text")):
        (folder / name).write_text(text)
    return [Entry(f"opt/lib/one/{path.name}", path) for path in folder.iterdir()]


def test_a_layer_is_the_same_whatever_the_files_times_and_their_order(tmp_path: Path) -> None:
    first = write_tar(Blobs(tmp_path / "a"), "key", write_sources(tmp_path / "one"), epoch=0)
    entries = write_sources(tmp_path / "deeper" / "two")
    for entry in entries:
        assert isinstance(entry.data, Path)
        os.utime(entry.data, (1, 1))
    second = write_tar(Blobs(tmp_path / "b"), "other", entries[::-1], epoch=0)
    assert (first.digest, first.diff_id, first.size) == (second.digest, second.diff_id, second.size)
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.digest == f"sha256:{hashlib.sha256(first.path.read_bytes()).hexdigest()}"
    plain = gzip.decompress(first.path.read_bytes())
    assert first.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}" and first.plain_size == len(plain)
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        names = tar.getnames()
        assert names == sorted(names) and names[:3] == ["opt", "opt/lib", "opt/lib/one"]
        (code,) = [name for name in names if name.endswith(".pyc")]  # what isn't Python of this version has none
        assert "__init__" in code and {item.uid for item in tar} == {0}


def test_links_folders_and_programs_are_what_they_are(tmp_path: Path) -> None:
    entries = [
        Entry("opt/bin/run", b"#!/bin/sh\n", is_program=True), Entry("opt/bin/python", link="/usr/bin/python3"),
        Entry("var/lib/mine", owner=7), Entry("a/" + "n" * 200 + "/" + "m" * 150, b""),
    ]  # fmt: skip
    layer = write_tar(Blobs(tmp_path), "key", entries, epoch=5)
    with tarfile.open(layer.path) as tar:
        found = {item.name: item for item in tar}
    assert found["opt/bin/run"].mode == 0o755 and found["opt/bin/python"].linkname == "/usr/bin/python3"
    assert found["var/lib/mine"].isdir() and found["var/lib/mine"].uid == 7 and found["var"].uid == 0
    assert {item.mtime for item in found.values()} == {5}


@given(st.integers(0, 3 * PIECE // 1000).map(lambda size: b"0123456789" * (size * 100)))
def test_what_is_compressed_in_pieces_is_what_it_was(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        layer = compress(Blobs(Path(folder)), io.BytesIO(data), "key")
        assert gzip.decompress(layer.path.read_bytes()) == data and layer.plain_size == len(data)


def test_what_was_made_is_found_again_unless_it_was_damaged(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    layer = write_tar(blobs, "key", [Entry("a", b"1")], epoch=0)
    assert blobs.find("key") == layer and blobs.find("another") is None
    layer.path.write_bytes(b"damaged")
    assert blobs.find("key") is None
    (tmp_path / "layers" / "key.json").write_text("{")
    assert blobs.find("key") is None
    assert write_tar(blobs, "key", [Entry("a", b"1")], epoch=0) == layer and blobs.find("key") == layer


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(PerronError, match=r"can't be made: No such file .*gone"):
        write_tar(Blobs(tmp_path), "key", [Entry("a", tmp_path / "gone")], epoch=0)
    assert list((tmp_path / "blobs").iterdir()) == []


def test_the_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    blobs.prune([])
    layers = [write_tar(blobs, key_of(number), [Entry("a", str(number).encode())], epoch=0) for number in range(30)]
    for number, layer in enumerate(layers):
        os.utime(layer.path, (number, number))
    blobs.prune([layers[0].path])
    left = {number for number, layer in enumerate(layers) if layer.path.exists()}
    assert left == {0, *range(6, 30)}


# -- bases


def write_layout(folder: Path, *layers: dict[str, bytes | str]) -> Path:
    """An OCI layout of layers: files by name (bytes), links (text)."""
    import json

    (folder / "blobs" / "sha256").mkdir(parents=True)

    def put(data: bytes) -> tuple[str, int]:
        digest = hashlib.sha256(data).hexdigest()
        (folder / "blobs" / "sha256" / digest).write_bytes(data)
        return f"sha256:{digest}", len(data)

    described, diff_ids = [], []
    for layer in layers:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, data in layer.items():
                item = tarfile.TarInfo(name)
                if isinstance(data, str):
                    item.type, item.linkname = tarfile.SYMTYPE, data
                else:
                    item.size = len(data)
                tar.addfile(item, io.BytesIO(data) if isinstance(data, bytes) else None)
        digest, size = put(out.getvalue())
        described.append({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size})
        diff_ids.append(digest)
    config, size = put(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": diff_ids}}).encode())
    manifest, length = put(json.dumps({"config": {"digest": config, "size": size}, "layers": described}).encode())
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"manifests": [{"digest": manifest, "size": length}]}))
    return folder


LIBC = b"\x7fELF" + bytes(14) + b"\x3e\x00 GNU C Library (GNU libc) stable release version 2.39.\n"


def facts_of(tmp_path: Path, *layers: dict[str, bytes | str]) -> Facts:
    return open_base(str(write_layout(tmp_path / "base", *layers)), Blobs(tmp_path / "cache")).facts


def test_what_is_in_a_base_is_found(tmp_path: Path) -> None:
    facts = facts_of(
        tmp_path,
        {
            "./usr/bin/python3.11": b"",
            "usr/local/bin/python3.12": b"",
            "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
            "usr/lib64/libz.so.1": "libz.so.1.3",
        },
    )
    assert facts == Facts(
        {"3.11": "usr/bin/python3.11", "3.12": "usr/local/bin/python3.12"},
        "glibc",
        (2, 39),
        "amd64",
        frozenset({"libc.so.6", "libz.so.1"}),
    )


def test_what_an_upper_layer_hides_isnt_there(tmp_path: Path) -> None:
    first: dict[str, bytes | str] = {
        "usr/bin/python3.11": b"",
        "usr/bin/python3.12": b"",
        "usr/lib/libz.so.1": b"",
        "lib/ld-musl-x86_64.so.1": b"",
    }
    facts = facts_of(
        tmp_path, first, {"usr/bin/.wh.python3.11": b"", "usr/lib/.wh..wh..opq": b"", "usr/local/bin/python3.13": b""}
    )
    assert (
        set(facts.pythons) == {"3.12", "3.13"} and facts.libc == "musl" and facts.libraries == {"ld-musl-x86_64.so.1"}
    )


def test_a_python_of_its_own_goes_before_the_distributions(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, {"usr/local/bin/python3.11": b"", "usr/bin/python3.11": b""})
    assert facts.pythons == {"3.11": "usr/local/bin/python3.11"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python:3.11-slim", Reference("docker.io", "library/python", "3.11-slim")),
        ("docker://docker.io/library/python", Reference("docker.io", "library/python", "latest")),
        ("team/app:1", Reference("docker.io", "team/app", "1")),
        ("gcr.io/distroless/python3-debian12:nonroot", Reference("gcr.io", "distroless/python3-debian12", "nonroot")),
        ("localhost:5000/a/b:c", Reference("localhost:5000", "a/b", "c")),
        ("registry:5000/a", Reference("registry:5000", "a", "latest")),
        (f"127.0.0.1:5000/a@sha256:{'0' * 64}", Reference("127.0.0.1:5000", "a", "latest", f"sha256:{'0' * 64}")),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


@pytest.mark.parametrize(
    "text", ["", "Upper/case", "a b", "http://registry.example/a", "a:b:c", "-a", "docker://", "a@sha256:12"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(NotFound, match="no registry's reference"):
        parse_reference(text)


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "/etc/passwd", "sha256:", "sha512:" + "0" * 64])
def test_a_digest_that_is_none_is_no_path(tmp_path: Path, digest: str) -> None:
    with pytest.raises(PerronError, match="isn't sha256: and 64 hexadecimal digits"):
        Blobs(tmp_path).path(digest)
