"""The store: blobs by hash, whole or not at all."""

import hashlib
import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.errors import LedgerError
from perron.store import Store, make_secret, write_atomically


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@given(st.binary(max_size=1000))
def test_bytes_come_back_by_their_sha_256(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    store = Store(tmp_path_factory.getbasetemp() / "store")
    digest = store.put_bytes(data)
    assert digest == hashlib.sha256(data).hexdigest() == store.put_bytes(data)
    assert store.get(digest).read_bytes() == data
    assert store.has(digest)


def test_one_blob_is_one_file_however_it_came(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    digests = {store.put_bytes(b"abc"), store.put_file(file)}
    with store.scratch() as folder:
        (folder / "made").write_bytes(b"abc")
        digests.add(store.adopt(folder / "made"))
        assert not (folder / "made").exists()
    assert len(digests) == 1
    assert len(files(tmp_path / "store")) == 1
    assert file.read_bytes() == b"abc"


def test_json_comes_back_and_its_order_does_not_count(tmp_path: Path) -> None:
    store = Store(tmp_path)
    value = {"b": [1, 2.5, None, "é"], "a": {"c": True}}
    assert store.get_json(store.put_json(value)) == value
    assert store.put_json({"a": 1, "b": 2}) == store.put_json({"b": 2, "a": 1})


def test_a_blob_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.has("ab" * 32)
    with pytest.raises(LedgerError, match=r"no blob abababababab .*run the pipeline again"):
        store.get("ab" * 32)


def test_the_scratch_folder_is_on_the_stores_disk_and_gone_afterwards(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(RuntimeError), store.scratch() as folder:
        assert folder.is_relative_to(tmp_path / "store")
        (folder / "half").write_text("x")
        raise RuntimeError
    assert not folder.exists()
    assert files(tmp_path) == []


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert files(tmp_path) == [path]


def test_text_and_bytes_are_written_to_new_folders_for_all_to_read(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", "é")
    write_atomically(tmp_path / "a" / "b" / "file", b"\xff")
    path = tmp_path / "a" / "b" / "file"
    assert path.read_bytes() == b"\xff"
    assert path.stat().st_mode & 0o777 == 0o644


def put_all(folder: Path) -> None:
    store = Store(folder)
    for number in range(50):
        store.put_bytes(b"%d" % number * 1000)
        with store.scratch() as scratch:
            (scratch / "x").write_bytes(b"%d" % number * 999)
            store.adopt(scratch / "x")


def test_two_processes_put_the_same_blobs_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=put_all, args=(tmp_path,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    blobs = files(tmp_path)
    assert len(blobs) == 100
    for blob in blobs:
        assert blob.parent.name + blob.name == hashlib.sha256(blob.read_bytes()).hexdigest()


def test_a_secret_is_its_owners_alone_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "there" / "secret.key"
    made = make_secret(path)
    assert len(made) == 64 and make_secret(path) == made
    assert path.stat().st_mode & 0o777 == 0o600 and [one.name for one in path.parent.iterdir()] == ["secret.key"]
