"""The log's upkeep beside a server that writes it: sensitive fields, compaction, deletion, outcomes by a row's Id."""

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from pyarrow import parquet

from perron import predictions
from perron.demonstration import serving
from perron.monitor import Monitor
from perron.predictions.ship import Shipper, drop_sent
from perron.predictions.upkeep import ask_to_rotate, compact
from perron.project import Project
from tests.conftest import perron, perron_json
from tests.integration.test_serving_models import until

SYSTEM = """
from typing import Annotated, Literal
import perron as pn

class Visit(pn.Contract):
    patient: Annotated[str, pn.Id, pn.Sensitive]
    age: Annotated[int, pn.Ge(0), pn.Sensitive]
    score: float
    ill: Annotated[bool, pn.Target]

system = pn.System("visits", Visit, source="visits.csv", {more})
"""


def make(folder: Path, more: str = "") -> Path:
    folder.mkdir()
    rows = [f"p{n},{20 + n % 60},{(n * 37 % 100) / 10},{str(n * 37 % 100 > 50).lower()}" for n in range(400)]
    (folder / "visits.csv").write_text("patient,age,score,ill\n" + "\n".join(rows) + "\n")
    (folder / "system.py").write_text(SYSTEM.replace("{more}", more))
    perron("run", cwd=folder)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make(tmp_path / "visits")


def ask(address: str, *patients: str) -> list[str]:
    rows = [{"patient": patient, "age": 33, "score": 7.5} for patient in patients]
    answer = httpx.post(f"{address}/v1/predictions", json={"rows": rows})
    assert answer.status_code == 200, answer.text
    return [prediction["id"] for prediction in answer.json()["predictions"]]


def log_text(project: Path) -> str:
    return "".join(path.read_text() for path in (project / ".perron" / "predictions").glob("*.jsonl"))


def test_sensitive_fields_are_kept_as_keyed_digests(project: Path) -> None:
    with serving(project) as (address, _):
        one, two, other = ask(address, "Ada Lovelace", "Ada Lovelace", "Grace")
        inputs = [httpx.get(f"{address}/v1/predictions/{id}").json()["prediction"]["input"] for id in (one, two, other)]
    assert "Ada" not in log_text(project) and '"age":33' not in log_text(project)
    assert inputs[0]["patient"] == inputs[1]["patient"] != inputs[2]["patient"]
    assert re.fullmatch(r"hmac:[0-9a-f]{32}", inputs[0]["patient"]) and inputs[0]["score"] == 7.5
    key = project / ".perron" / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_text()) == 64


def test_sensitive_fields_are_dropped_by_declaration(tmp_path: Path) -> None:
    project = make(tmp_path / "visits", 'sensitive="drop"')
    with serving(project) as (address, _):
        (one,) = ask(address, "Ada")
        assert httpx.get(f"{address}/v1/predictions/{one}").json()["prediction"]["input"] == {"score": 7.5}


def test_a_batch_keeps_sensitive_fields_no_better(project: Path) -> None:
    rows = project / "rows.csv"
    rows.write_text("patient,age,score\nAda,33,7.5\n")
    perron("predict", rows, "-o", project / "out.csv", cwd=project)
    (found,) = predictions.iterate(project / ".perron" / "predictions")
    assert found.input["patient"].startswith("hmac:") and "Ada" in (project / "out.csv").read_text()


def test_an_outcome_finds_its_prediction_by_the_rows_id(project: Path) -> None:
    with serving(project) as (address, _):
        first, second, _ = ask(address, "Ada", "Ada", "Grace")

        def send(**item: Any) -> dict[str, Any]:
            answer: dict[str, Any] = httpx.post(f"{address}/v1/outcomes", json=item).json()["outcomes"][0]
            return answer

        assert send(id="Ada", value=True) == {"prediction": second, "status": "recorded"}
        assert send(id="Ada", value=True)["status"] == "repeated"
        assert send(id="Ada", value=False)["status"] == "corrected"
        assert send(id="Nobody", value=True)["status"] == "unknown"
        assert send(id="Ada", value=True, time="2001-01-01")["status"] == "unknown"
        assert send(id="Ada", value=True, time="soon")["status"] == "invalid"
        assert send(id="Ada", value=True, model="other")["status"] == "unknown"
        (third,) = ask(address, "Ada")
        assert send(id="Ada", value=True)["prediction"] == third and first != third
    assert "Ada" not in (project / ".perron" / "predictions" / ".index.db").read_bytes().decode("latin-1")


def test_what_is_complete_is_compacted_and_receipts_stay(project: Path) -> None:
    log = project / ".perron" / "predictions"
    with serving(project) as (address, _):
        ids = [id for n in range(50) for id in ask(address, f"p{n}", f"q{n}")]
        before = [httpx.get(f"{address}/v1/predictions/{id}").json() for id in ids[:3]]
        assert compact(log).segments == 0  # it is being written
        ask_to_rotate(log)
        until(lambda: compact(log).segments == 1)
        after = ask(address, "later")
        assert [httpx.get(f"{address}/v1/predictions/{id}").json() for id in ids[:3]] == before
        assert [found.id for found in predictions.iterate(log)] == [*ids, *after]
    said = perron("log", "compact", "--now", cwd=project).stdout
    assert "1 segments" in said and not list(log.glob("*.jsonl"))
    assert [found.id for found in predictions.iterate(log)] == [*ids, *after]
    assert perron_json("trace", ids[7], cwd=project)["prediction"]["id"] == ids[7]


def test_a_segment_that_is_there_twice_counts_once(project: Path) -> None:
    log = project / ".perron" / "predictions"
    with serving(project) as (address, _):
        ids = ask(address, "a", "b")
    (lines,) = log.glob("*.jsonl")
    kept = lines.read_bytes()
    compact(log)
    lines.write_bytes(kept)  # as if the process had been killed before it removed them
    assert [found.id for found in predictions.iterate(log)] == ids
    compact(log)
    assert not lines.exists() and [found.id for found in predictions.iterate(log)] == ids


def test_a_segment_that_a_power_cut_left_empty_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{predictions.new_segment_name()}.jsonl").touch()
    assert compact(tmp_path).segments == 1 and not list(tmp_path.glob("*.jsonl"))


def test_compacting_beside_a_server_that_begins_segments_loses_none(tmp_path: Path) -> None:
    log = predictions.PredictionLog(tmp_path, {"model": "m", "version": 1, "bundle": "b"})
    written: list[str] = []
    stop = threading.Event()

    def write() -> None:
        for _ in range(200):
            given = log.new_id()
            reply = json.dumps({"predictions": [{"id": given, "value": 1}]}).encode()
            log.append(predictions.line(b"2026-01-01T00:00:00.000Z", b"champion", b'{"rows":[{}]}', reply))
            log.rotate()
            written.append(given)
        log.close()
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        compact(tmp_path)
    writer.join()
    compact(tmp_path)
    assert sorted(found.id for found in predictions.iterate(tmp_path)) == sorted(written)


def test_a_subject_is_forgotten_beside_a_server_that_goes_on(project: Path) -> None:
    log = project / ".perron" / "predictions"
    with serving(project) as (address, _):
        gone, stays, _, compacted = ask(address, "Ada", "Grace", "Grace", "Ada")
        ask_to_rotate(log)
        until(lambda: compact(log).segments == 1)
        fresh, *_ = ask(address, "Ada", "Grace")
        httpx.post(f"{address}/v1/outcomes", json={"prediction": fresh, "value": True})
        done = perron_json("forget", "--id", "Ada", cwd=project)
        assert done == {"predictions": 3, "segments": 2}
        left = list(predictions.iterate(log))
        assert len(left) == 3 and {gone, compacted, fresh}.isdisjoint({found.id for found in left})
        assert httpx.get(f"{address}/v1/predictions/{gone}").status_code == 404
        assert httpx.get(f"{address}/v1/predictions/{stays}").status_code == 200
        assert Project.open(project).ledger.get_outcome(fresh) is None
        assert httpx.post(f"{address}/v1/outcomes", json={"id": "Ada", "value": True}).status_code == 422
        assert ask(address, "Ada")
        assert perron_json("forget", "--id", "Nobody", cwd=project)["predictions"] == 0


def test_a_subject_is_forgotten_in_what_was_exported_for_labelling_and_in_performance(project: Path) -> None:
    rows = project / "rows.csv"
    rows.write_text("patient,age,score\nAda,33,7.5\nGrace,40,1.5\n")
    perron("label", "export", rows, "--rows", "2", "-o", project / "tasks.csv", "--with-sensitive", cwd=project)
    (kept,) = (project / ".perron" / "labels").glob("*.parquet")
    assert sorted(parquet.read_table(kept)["patient"].to_pylist()) == ["Ada", "Grace"]
    with serving(project) as (address, _):
        for patient in ("Ada", "Grace"):
            (one,) = ask(address, patient)
            httpx.post(f"{address}/v1/outcomes", json={"prediction": one, "value": True})
        monitor = Monitor(Project.open(project), "visits")
        assert monitor.look().outcomes.n == 2
        perron("forget", "--id", "Ada", cwd=project)
        assert monitor.look().outcomes.n == 1
    assert parquet.read_table(kept)["patient"].to_pylist() == ["Grace"]


def test_what_is_old_is_forgotten_by_segments(project: Path) -> None:
    log = project / ".perron" / "predictions"
    with serving(project) as (address, _):
        ask(address, "a")
    (path,) = log.glob("*.jsonl")
    old = [
        json.dumps({**json.loads(line), "time": "2001-01-01T00:00:00.000Z"})
        for line in path.read_text().splitlines()[1:]
    ]
    path.write_text("\n".join([path.read_text().splitlines()[0], *old]) + "\n")
    with serving(project) as (address, _):
        (young,) = ask(address, "b")
    assert perron_json("forget", "--older-than-days", "30", cwd=project) == {"predictions": 1, "segments": 1}
    assert [found.id for found in predictions.iterate(log)] == [young]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Say what to forget"), (["--id", "a", "--older-than-days", "1"], "Say what to forget"),
        (["--id", "a", "--field", "pateint"], "did you mean 'patient'?"), (["--older-than-days", "0"], "above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_forgotten_is_said(project: Path, words: list[str], says: str) -> None:
    done = perron("forget", *words, cwd=project, check=False)
    assert done.returncode == 1 and says in done.stderr


# ------------------------------------------------------------------ sent on to other places


def sent_to_folder(folder: Path) -> list[str]:
    """The ids of all predictions in objects, in no order; none while half a line is there."""
    with contextlib.suppress(ValueError):
        return [json.loads(line)["id"] for path in folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    return []


def test_the_log_goes_on_to_a_folder_a_database_and_standard_output(project: Path, tmp_path: Path) -> None:
    objects, database = tmp_path / "objects", tmp_path / "log.db"
    places = [f"file://{objects}", f"sqlite:///{database}", "stdout:"]
    command = [sys.executable, "-m", "perron", "serve", "--port", "0", *(w for p in places for w in ("--log-to", p))]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split(" answers at ")[1].split()[0]
        ids = [id for n in range(20) for id in ask(address, f"p{n}")]
        until(lambda: sorted(sent_to_folder(objects)) == sorted(ids))
        last = ask(address, "one more", "and another")
        server.terminate()
        said = [json.loads(line) for line in server.stdout.read().splitlines()]
    assert [line["id"] for line in said] == [*ids, *last] and "one more" not in json.dumps(said)
    assert sorted(sent_to_folder(objects)) == sorted([*ids, *last])
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT id, model, version, value, input FROM perron_predictions").fetchall()
    assert sorted(row[0] for row in rows) == sorted([*ids, *last])
    assert {row[1:4] for row in rows} == {("visits", 1, "true")} and json.loads(rows[0][4])["score"] == 7.5


def test_what_every_place_has_is_dropped_and_what_is_written_or_waits_stays(project: Path, tmp_path: Path) -> None:
    log, first, second = project / ".perron" / "predictions", tmp_path / "first", tmp_path / "second"
    with serving(project, "--log-to", f"file://{first}", "--drop-sent") as (address, _):
        ids = ask(address, "p1", "p2")
        until(lambda: first.exists() and any(first.rglob("*.jsonl")))
        [path] = log.glob("*.jsonl")  # it is being written
        ask_to_rotate(log)
        until(lambda: not path.exists())
    places = [f"file://{first}", f"file://{second}"]
    with serving(project) as (address, _):
        ids += ask(address, "p3")
    Shipper(log, places[:1]).ship()
    sent = [json.loads(line)["id"] for file in first.rglob("*.jsonl") for line in file.read_text().splitlines()]
    assert sorted(sent) == sorted(ids)
    [rest] = log.glob("*.jsonl")
    assert drop_sent(log, places) == 0 and rest.exists()  # the second has nothing yet
    Shipper(log, [f"file://{second}"]).ship()
    assert drop_sent(log, places) == 1 and not rest.exists()
    assert drop_sent(log, places) == 0


def test_nothing_is_dropped_that_a_place_lacks(project: Path, tmp_path: Path) -> None:
    log = project / ".perron" / "predictions"
    with serving(project) as (address, _):
        ask(address, "p1")
    a, down = f"file://{tmp_path / 'a'}", f"file://{tmp_path / 'down'}"
    (tmp_path / "down").write_text("a file where a folder should be")
    shipper = Shipper(log, [a, down])
    assert drop_sent(log, [a, down]) == 0  # it went nowhere yet
    shipper.ship()
    assert shipper.failing == [down] and drop_sent(log, [a, down]) == 0  # which has failed from the first
    [known] = (log / ".ship").glob("*.json")
    known.with_name("another.json").write_text("{")  # of a place that isn't sent to any more
    assert drop_sent(log, [a]) == 1
    refused = perron("serve", "--drop-sent", cwd=project, check=False)
    assert refused.returncode == 1 and "there is no --log-to" in refused.stderr


def test_what_is_sent_arrives_once_whatever_is_compacted_killed_or_unreachable(project: Path, tmp_path: Path) -> None:
    log, objects = project / ".perron" / "predictions", tmp_path / "objects"
    with serving(project) as (address, _):
        ids = [id for n in range(30) for id in ask(address, f"p{n}", f"q{n}")]
        shipper = Shipper(log, [f"file://{objects}"])
        assert shipper.ship() == {f"file://{objects}": 60} and shipper.ship() == {f"file://{objects}": 0}
        ids += ask(address, "r")
        other = Shipper(log, [f"file://{objects}"])
        assert other.ship() == {}  # another process sends there already
        shipper.close()
        places = next((log / ".ship").glob("*.json"))
        kept = places.read_bytes()
        assert other.ship() == {f"file://{objects}": 1}
        other.close()
        places.write_bytes(kept)  # as if it had been killed before it noted how far it came
        ids += ask(address, "s")
    compact(log)
    last = Shipper(log, [f"file://{objects}"])
    assert last.ship() == {f"file://{objects}": 2}
    assert sorted(sent_to_folder(objects)) == sorted(ids)
    last.close()


def test_a_place_that_fails_is_tried_again_and_loses_nothing(project: Path, tmp_path: Path) -> None:
    log, blocked = project / ".perron" / "predictions", tmp_path / "objects"
    blocked.write_text("a file where a folder should be")
    with serving(project) as (address, _):
        ids = ask(address, "a", "b")
    shipper = Shipper(log, [f"file://{blocked}"])
    assert shipper.ship() == {} and shipper.failing == [f"file://{blocked}"]
    blocked.unlink()
    until(shipper.ship)
    assert sorted(sent_to_folder(blocked)) == sorted(ids) and shipper.failing == []
    shipper.close()


def test_a_place_that_cannot_be_one_is_said_at_once(project: Path) -> None:
    for place, says in (
        ("nowhere", "can't be sent to 'nowhere'"),
        ("abc://x", "Protocol not known: abc"),
        ("postgresql+nix://u:secret@h/d", ""),
    ):
        done = perron("serve", "--port", "0", "--log-to", place, cwd=project, check=False)
        assert done.returncode == 1 and says in done.stderr and "secret" not in done.stderr


def test_a_log_that_fails_answers_by_declaration_and_says_so(project: Path) -> None:
    """The process may write files of 64 KiB at most: what a full disk does, without one."""
    limit = "import resource, signal, runpy, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536)); sys.argv[0] = 'perron'; runpy.run_module('perron', run_name='__main__')"
    words = ["serve", "--port", "0", "--on-log-failure", "answer"]
    with subprocess.Popen(
        [sys.executable, "-c", limit, *words], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None and server.stderr is not None
        address = server.stdout.readline().split(" answers at ")[1].split()[0]
        body = {"rows": [{"patient": "p", "age": 33, "score": 7.5}] * 50}
        answers = [httpx.post(f"{address}/v1/predictions", json=body) for _ in range(20)]
        metrics = httpx.get(f"{address}/metrics").text
        server.terminate()
        errors = server.stderr.read()
    assert {answer.status_code for answer in answers} == {200}
    assert "x-perron-log" not in answers[0].headers and "failing" in answers[-1].headers["x-perron-log"]
    unlogged = float(re.findall(r"perron_predictions_unlogged_total\{.*\} (\S+)", metrics)[0])
    logged = sum(1 for _ in predictions.iterate(project / ".perron" / "predictions"))
    assert unlogged > 0 and unlogged + logged == 1000
    assert errors.count("answers go out unlogged") == 1
