"""The prediction log: ids, whole lines, finding, rotating, failing disks and several writers."""

import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from perron import predictions
from perron.errors import LedgerError, NotFound
from perron.predictions import IdMaker, PredictionLog, find, iterate, line, new_segment_name

HEADER = {"model": "house", "version": 3, "bundle": "b" * 64, "lineage": {"run": "r1", "data": {"rows": 9}}}


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def answered(log: PredictionLog, rows: list[Any], **more: Any) -> tuple[list[str], bytes]:
    """The ids of a request's predictions, and its line."""
    ids = [log.new_id() for _ in rows]
    reply = {"predictions": [{"id": id, "value": place, **more} for place, id in enumerate(ids)]}
    return ids, line(b"2026-01-01T00:00:00.000Z", b"champion", compact({"rows": rows}), compact(reply))


def append(log: PredictionLog, *rows: Any) -> list[str]:
    ids, text = answered(log, list(rows))
    log.append(text)
    return ids


@pytest.fixture
def log(tmp_path: Path) -> Any:
    log = PredictionLog(tmp_path / "log", HEADER)
    yield log
    log.close()


# ------------------------------------------------------------------ ids


def test_ids_are_unique_and_well_formed() -> None:
    makers = [IdMaker(new_segment_name()) for _ in range(3)]
    ids = [maker() for maker in makers for _ in range(5_000)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[0-9a-f]{20}-[0-9a-f]{8,}-[0-9a-f]{8}", id) for id in ids)


def test_ids_are_numbered_from_one_and_cannot_be_guessed() -> None:
    maker = IdMaker("0" * 20)
    ids = [maker() for _ in range(3_000)]
    assert [int(id.split("-")[1], 16) for id in ids] == list(range(1, 3_001))
    assert len({id.split("-")[2] for id in ids}) > 2_990


def test_names_of_segments_differ_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len({new_segment_name() for _ in range(1_000)}) == 1_000
    clock = itertools.count(1_700_000_000_000_000_000, 1_000_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    names = [new_segment_name() for _ in range(20)]
    assert names == sorted(names)


# ------------------------------------------------------------------ find


def test_what_was_appended_is_found_with_where_it_comes_from(tmp_path: Path, log: PredictionLog) -> None:
    first = append(log, {"x": 1}, {"x": 'é\n"quoted" \\ {}'})
    second = append(log, {"x": None})
    found = find(tmp_path / "log", first[1])
    assert (found.id, found.input, found.value, found.route) == (first[1], {"x": 'é\n"quoted" \\ {}'}, 1, "champion")
    receipt = find(tmp_path / "log", second[0]).to_json()
    assert receipt["prediction"] == {
        "id": second[0], "time": "2026-01-01T00:00:00.000Z", "route": "champion", "input": {"x": None}, "value": 0,
    }  # fmt: skip
    assert receipt["model"] == {"name": "house", "version": 3, "bundle": "b" * 64}
    assert (receipt["run"], receipt["data"], receipt["code"]) == ("r1", {"rows": 9}, None)


def test_probabilities_are_part_of_the_receipt_where_there_are_some(tmp_path: Path, log: PredictionLog) -> None:
    (id,), text = answered(log, [{}], probabilities={"a": 0.25, "b": 0.75})
    log.append(text)
    assert find(tmp_path / "log", id).to_json()["prediction"]["probabilities"] == {"a": 0.25, "b": 0.75}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)


@given(st.lists(st.lists(st.dictionaries(st.text(max_size=3), JSON), min_size=1, max_size=3), min_size=1, max_size=3))
@settings(max_examples=30)
def test_whatever_clients_send_every_prediction_is_found_and_iterated(
    tmp_path_factory: pytest.TempPathFactory, requests: list[list[dict[str, Any]]]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = PredictionLog(folder, HEADER)
    expected = [(id, row) for rows in requests for id, row in zip(append(log, *rows), rows, strict=True)]
    log.close()
    assert [(found.id, found.input) for found in iterate(folder)] == expected
    for id, row in expected:
        assert find(folder, id).input == row


@pytest.mark.parametrize("id", ["", "x", "../../etc/passwd", "0" * 20 + "-00000001-00000000", "0" * 20, "\x00", "é", "A" * 20 + "-00000001-00000000"])  # fmt: skip
def test_an_id_that_is_not_there_is_not_found(tmp_path: Path, log: PredictionLog, id: str) -> None:
    append(log, {"x": 1})
    for folder in (tmp_path / "log", tmp_path / "nowhere"):
        with pytest.raises(NotFound, match="no prediction"):
            find(folder, id)


def test_an_id_that_differs_in_one_digit_is_not_found(tmp_path: Path, log: PredictionLog) -> None:
    (id,) = append(log, {"x": 1})
    for place in (-1, 22, 28):
        other = id[:place] + ("0" if id[place] != "0" else "1") + (id[place:][1:])
        with pytest.raises(NotFound):
            find(tmp_path / "log", other)


def test_an_id_that_a_client_quotes_is_not_confused_with_the_prediction(tmp_path: Path, log: PredictionLog) -> None:
    """A field may be called id, and hold another prediction's id."""
    (first,) = append(log, {"id": "nothing yet"})
    append(log, {"id": first}, {"note": f'"id":"{first}"'}, {"deep": {"id": first}})
    (last,) = append(log, {"id": first})
    assert find(tmp_path / "log", first).input == {"id": "nothing yet"}
    assert find(tmp_path / "log", last).input == {"id": first}


def test_an_id_that_is_quoted_before_it_is_given_is_found_where_it_was_given(
    tmp_path: Path, log: PredictionLog
) -> None:
    ids, text = answered(log, [{"x": "mine"}])
    append(log, {"id": ids[0]})
    log.append(text)
    assert find(tmp_path / "log", ids[0]).input == {"x": "mine"}


def test_an_id_that_is_only_quoted_is_not_found(tmp_path: Path, log: PredictionLog) -> None:
    never = log.new_id()
    append(log, {"id": never})
    with pytest.raises(NotFound):
        find(tmp_path / "log", never)


def test_a_request_that_was_sent_in_many_lines_is_one_line(tmp_path: Path, log: PredictionLog) -> None:
    ids = [log.new_id()]
    body = b'{\r\n  "rows": [\n {"x": "a\\nb"}\r]\n}\n'
    log.append(line(b"t", b"champion", body, compact({"predictions": [{"id": ids[0], "value": 1}]})))
    assert find(tmp_path / "log", ids[0]).input == {"x": "a\nb"}
    assert len(list(iterate(tmp_path / "log"))) == 1


# ------------------------------------------------------------------ torn, full, rotated


def segment(folder: Path) -> Path:
    (path,) = folder.glob("*.jsonl")
    return path


def test_a_torn_last_line_is_absent(tmp_path: Path, log: PredictionLog) -> None:
    (kept,) = append(log, {"x": 1})
    (torn,) = append(log, {"x": 2})
    log.close()
    path = segment(tmp_path / "log")
    whole = path.read_bytes()
    for size in range(len(whole) - 1, whole.index(torn.encode()), -7):
        path.write_bytes(whole[:size])
        with pytest.raises(NotFound):
            find(tmp_path / "log", torn)
        assert find(tmp_path / "log", kept).value == 0
        assert [found.id for found in iterate(tmp_path / "log")] == [kept]


@pytest.mark.parametrize("content", [b"", b"{", b'{"format":1', b"{}\n"])
def test_a_segment_with_a_torn_header_holds_nothing(tmp_path: Path, log: PredictionLog, content: bytes) -> None:
    (kept,) = append(log, {"x": 1})
    name = new_segment_name()
    (tmp_path / "log" / f"{name}.jsonl").write_bytes(content)
    assert [found.id for found in iterate(tmp_path / "log")] == [kept]
    with pytest.raises(NotFound):
        find(tmp_path / "log", f"{name}-00000001-00000000")


def test_a_full_segment_is_rotated_and_its_predictions_are_still_found(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path, HEADER, segment_bytes=400)
    ids = []
    for number in range(10):
        ids += append(log, {"x": number})
        if log.is_full:
            log.rotate()
            assert not log.is_full
    log.close()
    assert len(list(tmp_path.glob("*.jsonl"))) > 3
    assert [find(tmp_path, id).input["x"] for id in ids] == list(range(10))
    assert sorted(found.id for found in iterate(tmp_path)) == sorted(ids)


def test_the_segments_files_are_not_for_everyone(tmp_path: Path, log: PredictionLog) -> None:
    assert segment(tmp_path / "log").stat().st_mode & 0o007 == 0


def half_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", write)


def test_a_disk_that_takes_half_leaves_whole_lines_only(
    tmp_path: Path, log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = append(log, {"x": 1})
    before = segment(tmp_path / "log").read_bytes()
    with monkeypatch.context() as patch:
        half_writes(patch)
        with pytest.raises(LedgerError, match="can't be written: No space left on device"):
            append(log, {"x": 2}, {"x": 3})
    assert segment(tmp_path / "log").read_bytes() == before
    (later,) = append(log, {"x": 4})
    log.sync()
    assert [found.id for found in iterate(tmp_path / "log")] == [kept, later]


def test_a_rotation_that_fails_leaves_the_old_segment_going_and_nothing_behind(
    tmp_path: Path, log: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = append(log, {"x": 1})
    descriptors = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        half_writes(patch)
        with pytest.raises(LedgerError):
            log.rotate()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert len(list((tmp_path / "log").iterdir())) == 1
    (later,) = append(log, {"x": 2})
    assert [found.id for found in iterate(tmp_path / "log")] == [kept, later]


def test_a_limit_on_the_files_size_leaves_whole_lines_only(tmp_path: Path) -> None:
    """A real refusal by the operating system: in a process of its own, whose files may hold 2,000 bytes."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_predictions import HEADER, append
from perron.errors import LedgerError
from perron.predictions import PredictionLog
log = PredictionLog(Path({str(tmp_path)!r}), HEADER)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
done, failed = [], 0
for number in range(40):
    try:
        done += append(log, {{"x": number}})
    except LedgerError as error:
        assert "can't be written" in str(error)
        failed += 1
assert failed > 10 and len(done) > 2, (failed, len(done))
print(*done)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [found.id for found in iterate(tmp_path)] == done.stdout.split()
    assert segment(tmp_path).read_bytes().endswith(b"\n")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"prediction log .* can't be written"):
        PredictionLog(tmp_path / "file" / "log", HEADER)


# ------------------------------------------------------------------ several processes, and their death


def write_many(folder: Path, name: str) -> None:
    log = PredictionLog(folder, HEADER, segment_bytes=20_000)
    for number in range(300):
        append(log, {"from": name, "n": number})
        if log.is_full:
            log.rotate()
    log.close()


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=write_many, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    found = list(iterate(tmp_path))
    assert len({recorded.id for recorded in found}) == 600
    for name in "ab":
        assert sorted(recorded.input["n"] for recorded in found if recorded.input["from"] == name) == list(range(300))


def test_what_was_appended_survives_the_death_of_its_process(tmp_path: Path) -> None:
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_predictions import HEADER, append
from perron.predictions import PredictionLog
log = PredictionLog(Path({str(tmp_path)!r}), HEADER)
print(*append(log, {{"x": 1}}), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert find(tmp_path, done.stdout.strip()).input == {"x": 1}


# ------------------------------------------------------------------ batches


def test_a_prediction_of_a_batch_is_found_in_its_parquet_segment(tmp_path: Path) -> None:
    maker = IdMaker(name := new_segment_name())
    ids = [maker() for _ in range(25)]
    table = pa.table(
        {
            "id": ids,
            "time": ["t"] * 25,
            "route": ["batch"] * 25,
            "input": [json.dumps({"x": n}) for n in range(25)],
            "value": [json.dumps(n * 2) for n in range(25)],
            "probabilities": [json.dumps({"a": 1.0})] * 24 + [None],
        }
    ).replace_schema_metadata({"perron": json.dumps(HEADER)})
    parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=10)
    for number in (0, 9, 10, 24):
        found = find(tmp_path, ids[number])
        assert (found.input, found.value, found.route) == ({"x": number}, number * 2, "batch")
        assert found.header["model"] == "house"
    assert find(tmp_path, ids[24]).probabilities is None
    for other in (f"{name}-0000001a-00000000", f"{name}-00000001-zzzzzzzz", f"{name}-00000000-00000000", f"{name}-00000001-{'0' * 8}"):  # fmt: skip
        with pytest.raises(NotFound):
            find(tmp_path, other)


def test_the_public_names_are_what_the_docstring_promises() -> None:
    assert set(predictions.__all__) >= {"PredictionLog", "find", "iterate", "new_segment_name"}
