"""Batches: every row once, in order, whatever the sink, the runner, and the instant at which a process dies."""

import gzip
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from perron import batch, predictions
from perron import bundle as bundles
from perron.batch import InProcess, Predicted, predict_source
from perron.errors import PerronError, SinkError, SourceError
from perron.project import Project
from perron.sink import open_sink
from perron.sinks.files import FileSink
from perron.source import open_source
from tests.conftest import perron, perron_json
from tests.integration.test_pipeline import ROWS, run, write_project

MADE = ["prediction_id", "prediction", "probability_high", "probability_low", "probability_mid", "fault"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("things"), "label")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def bundle(project: Path) -> bundles.Bundle:
    opened = Project.open(project)
    row = opened.ledger.get_version("things", 1)
    return bundles.load(opened.ledger.bundle_path(row), row["bundle"])


@dataclass
class Rows:
    """A source of what the project was trained on, with a bad row here and there; it may fail at a row."""

    project: Path
    rows: int = 300
    changed: int | None = None
    fails_at: int | None = None
    names: list[str] = field(default_factory=list)

    def chunks(self) -> Iterator[pa.RecordBatch]:
        given = next(iter(open_source(self.project / "things.csv").chunks())).to_pylist()[: self.rows]
        for place, row in enumerate(given):
            row["key"] = place
            if place % 41 == 7:
                row["size"] = "-"
            if place == self.changed:
                row["size"] = "8.75"
        for first in range(0, self.rows, 70):
            if self.fails_at is not None and first + 70 > self.fails_at:
                raise SourceError(f"The rows can't be read beyond row {self.fails_at:,}.")
            chunk = given[first : first + 70]
            yield pa.RecordBatch.from_pylist(
                [{n: v if v is None or n == "key" else str(v) for n, v in row.items()} for row in chunk]
            )


@dataclass
class Place:
    """Where a batch works, its log, and what it said."""

    folder: Path
    bundle: bundles.Bundle
    said: list[str] = field(default_factory=list)

    def predict(self, rows: Rows, sink: Any = "out.csv", **options: Any) -> Predicted:
        target = open_sink(str(self.folder / sink)) if isinstance(sink, str) else sink
        options = {"chunk_rows": 50, **options}
        return predict_source(
            self.bundle, 1, rows, target, log_folder=self.folder / "log", home=self.folder / "home", tell=self.said.append, secret=lambda: b"secret", **options,
        )  # fmt: skip

    def is_done(self) -> bool:
        """Whether the journal was removed, which is the last that a batch does: it was done, and then died."""
        journals = [*self.folder.glob(".*.perron/journal.jsonl"), *self.folder.glob("home/*/journal.jsonl")]
        return not journals and bool(self.logged())

    def logged(self) -> list[str]:
        ids = [parquet.read_table(path)["id"].to_pylist() for path in sorted((self.folder / "log").glob("*.parquet"))]
        return [one for segment in ids for one in segment]


@pytest.fixture
def place(tmp_path: Path, bundle: bundles.Bundle) -> Place:
    return Place(tmp_path, bundle)


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    if path.suffix == ".arrow":
        return pa.ipc.open_file(path).read_all().to_pylist()
    if ".jsonl" in path.name:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return [json.loads(line) for line in data.splitlines()]
    return csv.read_csv(path).to_pylist()


def check_whole(place: Place, rows: list[dict[str, Any]], count: int = 300) -> None:
    """Every row once, in order; an id for each prediction; the log holds these and no other."""
    assert [int(row["key"]) for row in rows] == list(range(count))
    bad = [place % 41 == 7 for place in range(count)]
    assert [not row["prediction_id"] for row in rows] == bad == [bool(row["fault"]) for row in rows]
    assert sorted(row["prediction_id"] for row in rows if row["prediction_id"]) == sorted(place.logged())


ENDINGS = ["csv", "csv.gz", "jsonl", "jsonl.gz", "parquet", "arrow"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_row_comes_out_once_in_order_and_its_receipt_is_found(place: Place, project: Path, ending: str) -> None:
    done = place.predict(Rows(project), f"out.{ending}")
    rows = read(place.folder / f"out.{ending}")
    check_whole(place, rows)
    assert (done.rows, done.bad, done.resumed_rows) == (300, 8, 0) and "rows[7].size" in done.faults
    assert list(rows[0])[-6:] == MADE
    found = predictions.find(place.folder / "log", rows[123]["prediction_id"])
    assert found.value == rows[123]["prediction"] and found.input["size"] == float(rows[123]["size"])
    assert found.probabilities == pytest.approx(
        {label: float(rows[123][f"probability_{label}"]) for label in ("high", "low", "mid")}
    )
    assert (
        found.to_json()["model"]["bundle"] == place.bundle.digest and found.input["day"] == str(rows[123]["day"])[:10]
    )
    assert sorted(path.name for path in place.folder.iterdir()) == ["log", f"out.{ending}"]


def test_answers_are_those_of_the_bundle(place: Place, project: Path) -> None:
    place.predict(Rows(project), "out.parquet", chunk_rows=7)
    rows = [row for row in parquet.read_table(place.folder / "out.parquet").to_pylist() if not row["fault"]]
    for row in rows[:40]:
        found = predictions.find(place.folder / "log", row["prediction_id"])
        (answer,) = place.bundle.predict([found.input])
        assert answer["value"] == found.value and answer["probabilities"] == pytest.approx(found.probabilities)


# ------------------------------------------------------------------ death at any instant


class Died(BaseException):
    """Stands for the death of the process: nothing catches it."""


class _Deaths:
    """Lets the process die at the n-th touch of a file below a folder."""

    def __init__(self) -> None:
        self.folder, self.left = "", -1
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.left < 0 or event not in ("open", "os.rename", "os.remove", "os.truncate", "os.mkdir", "os.rmdir"):
            return
        if str(arguments[0]).startswith(self.folder):
            self.left -= 1
            if self.left < 0:
                raise Died


deaths = _Deaths()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_batch_that_dies_at_any_touch_of_a_file_is_gone_on_with(
    tmp_path: Path, bundle: bundles.Bundle, project: Path, ending: str
) -> None:
    """Dies at the first touch, then at the second, and so on until it comes through; each time it is run again."""
    rows, resumed = Rows(project, rows=120), 0
    for touch in range(1000):
        place = Place(tmp_path / str(touch), bundle)
        place.folder.mkdir()
        deaths.folder, deaths.left = str(place.folder), touch
        try:
            place.predict(rows, f"out.{ending}", chunk_rows=30)
            break
        except Died:
            pass
        finally:
            deaths.left = -1
        if not place.is_done():
            resumed += place.predict(rows, f"out.{ending}", chunk_rows=30).resumed_rows
            assert sorted(path.name for path in place.folder.iterdir()) == ["log", f"out.{ending}"], touch
        check_whole(place, read(place.folder / f"out.{ending}"), 120)
    assert 20 < touch < 999 and resumed > 1000


def test_kill_9_at_chance_instants_leaves_every_row_once(project: Path, tmp_path: Path) -> None:
    rows = pa.Table.from_batches(list(Rows(project, rows=ROWS).chunks()) * 20)
    rows = rows.set_column(rows.schema.get_field_index("key"), "key", pa.array(range(rows.num_rows)))
    parquet.write_table(rows, tmp_path / "rows.parquet")
    log = project / ".perron" / "predictions"
    before = set(log.glob("*"))
    command = [sys.executable, "-m", "perron", "predict", str(tmp_path / "rows.parquet"), "-o", str(tmp_path / "out.parquet"), "-C", str(project), "--chunk-rows", "40"]  # fmt: skip
    journal = tmp_path / ".out.parquet.perron" / "journal.jsonl"
    kills = 0
    for wanted in (2, 20, 60, 100, 140):  # of 202: killed well before the end, as slow as this may look
        with subprocess.Popen(command, stderr=subprocess.PIPE) as child:
            while child.poll() is None:
                try:
                    lines = journal.read_bytes().count(b"\n")
                except FileNotFoundError:
                    lines = 0
                if lines >= wanted:
                    child.send_signal(signal.SIGKILL)
                    kills += 1
                    break
                threading.Event().wait(0.001)
    assert kills >= 4
    perron(*command[3:], cwd=tmp_path)
    out = parquet.read_table(tmp_path / "out.parquet")
    assert out["key"].to_pylist() == list(range(rows.num_rows))
    ids = [one for one in out["prediction_id"].to_pylist() if one]
    logged = [one for path in set(log.glob("*")) - before for one in parquet.read_table(path)["id"].to_pylist()]
    assert len(set(ids)) == len(ids) and sorted(ids) == sorted(logged)


def test_what_changed_is_begun_anew_and_said(place: Place, project: Path) -> None:
    with pytest.raises(SourceError):
        place.predict(Rows(project, fails_at=290))
    assert place.logged() == [] and not (place.folder / "out.csv").exists()
    with pytest.raises(SourceError):
        place.predict(Rows(project, changed=20, fails_at=290))
    assert place.said.pop().startswith("The input isn't what it was")
    with pytest.raises(SourceError):
        place.predict(Rows(project, changed=20, fails_at=290), chunk_rows=49)
    assert place.said.pop().startswith("The model or an option")
    # A change behind what was done is no reason to do that again.
    done = place.predict(Rows(project, changed=290), chunk_rows=50)
    assert done.resumed_rows == 0 and place.said.pop().startswith("The model or an option")
    rows = read(place.folder / "out.csv")
    check_whole(place, rows)
    assert rows[290]["size"] == "8.75"


def test_a_source_that_fails_is_one_line_and_is_gone_on_with_when_it_is_mended(place: Place, project: Path) -> None:
    with pytest.raises(SourceError, match="beyond row 200"):
        place.predict(Rows(project, fails_at=200))
    done = place.predict(Rows(project))
    assert done.resumed_rows == 100 and place.said == [f"Going on with {place.folder / 'out.csv'} behind row 100."]
    check_whole(place, read(place.folder / "out.csv"))
    assert done.faults == Place(place.folder / "log", place.bundle).predict(Rows(project)).faults


def test_a_part_that_was_damaged_is_made_again(place: Place, project: Path) -> None:
    with pytest.raises(SourceError):
        place.predict(Rows(project, fails_at=290))
    part = place.folder / ".out.csv.perron" / "part-00000002"
    part.write_bytes(part.read_bytes()[:-1])
    assert place.predict(Rows(project)).resumed_rows == 100
    check_whole(place, read(place.folder / "out.csv"))


def test_two_processes_with_one_target_one_is_refused(place: Place, project: Path) -> None:
    class Meanwhile(InProcess):
        def map(self, predict: Any, tasks: Any) -> Any:
            with pytest.raises(SinkError, match="Another process is writing"):
                place.predict(Rows(project))
            return super().map(predict, tasks)

    place.predict(Rows(project), runner=Meanwhile())
    check_whole(place, read(place.folder / "out.csv"))


def test_a_full_disk_in_the_middle_is_one_line_and_is_gone_on_with(project: Path, tmp_path: Path) -> None:
    rows = pa.Table.from_batches(list(Rows(project, rows=ROWS).chunks()) * 10)
    csv.write_csv(rows, tmp_path / "rows.csv")
    words = ["predict", str(tmp_path / "rows.csv"), "-o", str(tmp_path / "out.csv"), "-C", str(project), "--chunk-rows", "500"]  # fmt: skip

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))  # the whole is larger, the parts are not

    done = subprocess.run(
        [sys.executable, "-m", "perron", *words], capture_output=True, text=True, check=False, preexec_fn=limit
    )
    assert done.returncode == 1 and "Can't write" in done.stderr and "goes on where this stopped" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "out.csv").exists()
    assert perron_json(*words, cwd=tmp_path)["resumed_rows"] == rows.num_rows
    assert csv.read_csv(tmp_path / "out.csv").num_rows == rows.num_rows


# ------------------------------------------------------------------ tables, URLs, standard output


def test_a_table_gets_each_chunk_in_one_transaction_and_once(place: Place, project: Path) -> None:
    url = f"sqlite:///{place.folder}/scores.db#scores"
    with pytest.raises(SourceError):
        place.predict(Rows(project, fails_at=200), open_sink(url))
    database = sqlite3.connect(place.folder / "scores.db")
    assert database.execute("SELECT count(*) FROM scores").fetchone() == (100,)
    assert not open_sink(url).is_complete()
    assert place.predict(Rows(project), open_sink(url)).resumed_rows == 100
    database.row_factory = sqlite3.Row
    rows = [dict(row) for row in database.execute("SELECT * FROM scores ORDER BY perron_row")]
    check_whole(place, rows)
    assert [row["perron_row"] for row in rows] == list(range(300)) and open_sink(url).is_complete()
    place.predict(Rows(project), open_sink(url))  # once more: another run's rows beside the first's
    assert database.execute("SELECT count(*), count(DISTINCT perron_run) FROM scores").fetchone()[:] == (600, 2)
    with pytest.raises(SourceError):
        place.predict(Rows(project, fails_at=200), open_sink(url))
    with pytest.raises(SourceError):  # a run that is given up takes its rows along
        place.predict(Rows(project, fails_at=200, changed=3), open_sink(url))
    assert database.execute("SELECT count(*), count(DISTINCT perron_run) FROM scores").fetchone()[:] == (700, 3)
    database.execute("DROP TABLE scores")
    database.execute("CREATE TABLE scores (x)")
    with pytest.raises(SinkError, match="has no column"):
        place.predict(Rows(project), open_sink(url))
    database.close()


def test_a_table_is_whole_when_a_process_died_between_its_transaction_and_the_journal(
    tmp_path: Path, bundle: bundles.Bundle, project: Path
) -> None:
    for touch in range(1000):
        place = Place(tmp_path / str(touch), bundle)
        place.folder.mkdir()
        sink = open_sink(f"sqlite:///{tmp_path}/{touch}.db#scores")
        deaths.folder, deaths.left = str(place.folder), touch
        try:
            place.predict(Rows(project, rows=60), sink, chunk_rows=30)
            break
        except Died:
            pass
        finally:
            deaths.left = -1
        if not place.is_done():
            place.predict(Rows(project, rows=60), sink, chunk_rows=30)
        database = sqlite3.connect(tmp_path / f"{touch}.db")
        database.row_factory = sqlite3.Row
        check_whole(place, [dict(row) for row in database.execute("SELECT * FROM scores ORDER BY perron_row")], 60)
        database.close()
    assert 20 < touch < 999


def test_an_object_behind_a_url_appears_whole(place: Place, project: Path) -> None:
    import fsspec

    sink = FileSink("memory://bucket/out.csv", "csv", False)
    with pytest.raises(SourceError):
        place.predict(Rows(project, fails_at=200), sink)
    assert not sink.is_complete()
    assert place.predict(Rows(project), sink).resumed_rows == 100
    (place.folder / "copy.csv").write_bytes(fsspec.filesystem("memory").cat("/bucket/out.csv"))
    check_whole(place, read(place.folder / "copy.csv"))
    assert sink.is_complete() and list((place.folder / "home").iterdir()) == []


def test_an_object_in_s3_is_what_a_file_is(project: Path, tmp_path: Path, s3_url: str) -> None:
    perron("predict", "things.csv", "-o", f"{s3_url}/a/out.parquet", cwd=project)
    perron("predict", f"{s3_url}/a/out.parquet", "-o", tmp_path / "again.csv", cwd=project)
    rows = csv.read_csv(tmp_path / "again.csv")
    assert rows["prediction"].to_pylist() == rows["prediction_"].to_pylist() and rows.num_rows == ROWS
    assert perron_json("predict", "things.csv", "-o", f"{s3_url}/a/out.parquet", "--once", cwd=project)["status"] == "there already"  # fmt: skip
    done = perron("predict", "things.csv", "-o", "s3://no-such-bucket-at-all/out.csv", cwd=project, check=False)
    assert done.returncode == 1 and "Can't write s3://no-such-bucket" in done.stderr and len(done.stderr.splitlines()) == 1  # fmt: skip


def test_a_table_of_postgres_gets_every_row_once(project: Path, place: Place, postgres_url: str) -> None:
    import psycopg

    sink = f"{postgres_url}#made_by_perron"
    with pytest.raises(SourceError):
        place.predict(Rows(project, fails_at=200), open_sink(sink))
    assert place.predict(Rows(project), open_sink(sink)).resumed_rows == 100
    with psycopg.connect(postgres_url) as connection:
        cursor = connection.execute("SELECT * FROM made_by_perron ORDER BY perron_row")
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        check_whole(place, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()])
        connection.execute("DROP TABLE made_by_perron, perron_chunks")


def test_lines_on_standard_output_are_json_and_nothing_else(project: Path) -> None:
    done = perron("predict", "things.csv", "-o", "-", "--chunk-rows", "100", cwd=project)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [int(row["key"]) for row in rows] == list(range(len(rows))) and len(rows) > 300
    assert "rows predicted by things version 1" in done.stderr
    assert perron_json("trace", rows[5]["prediction_id"], cwd=project)["prediction"]["value"] == rows[5]["prediction"]
    closed = subprocess.run(
        f"{sys.executable} -m perron predict things.csv -o - --chunk-rows 10 | head -1",
        shell=True, cwd=project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert closed.stdout.count("\n") == 1 and closed.stderr == ""


# ------------------------------------------------------------------ runners


def test_several_processes_give_what_one_gives(project: Path, tmp_path: Path) -> None:
    words = ["predict", "things.csv", "--chunk-rows", "37", "-o"]
    perron(*words, tmp_path / "one.csv", cwd=project)
    perron(*words, tmp_path / "three.csv", "--workers", "3", cwd=project)
    one, three = (csv.read_csv(tmp_path / f"{name}.csv").drop(["prediction_id"]) for name in ("one", "three"))
    assert one.equals(three)


def test_a_process_that_dies_is_one_line(project: Path, place: Place) -> None:
    from perron.runners.processes import Processes

    class Runner(Processes):
        def map(self, predict: Any, tasks: Any) -> Any:
            return super().map(_Deadly(**{n: v for n, v in vars(predict).items() if n != "bundle"}), tasks)

    with pytest.raises(PerronError, match="A process that predicts died"):
        place.predict(Rows(project), runner=Runner(2))
    assert place.predict(Rows(project)).resumed_rows > 0
    check_whole(place, read(place.folder / "out.csv"))


@dataclass(frozen=True)
class _Deadly(batch.Predictor):
    """Kills its process at the fifth chunk."""

    def __call__(self, task: Any) -> Any:
        if task.number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(task)


@pytest.mark.slow
def test_ray_gives_what_one_process_gives(project: Path, tmp_path: Path) -> None:
    words = ["predict", "things.csv", "--chunk-rows", "37", "-o"]
    perron(*words, tmp_path / "one.csv", cwd=project)
    perron(*words, tmp_path / "ray.csv", "--on", "ray", "--workers", "2", cwd=project)
    one, on_ray = (csv.read_csv(tmp_path / f"{name}.csv").drop(["prediction_id"]) for name in ("one", "ray"))
    assert one.equals(on_ray)


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("sink", "words"),
    [
        ("out.xlsx", "end its name with one of"),
        ("out", "end its name with one of"),
        ("nowhere/out.csv", "there is no folder nowhere"),
        (".", "end its name with one of"),
        ("ftp://host/out.csv", "can't write ftp://"),
        ("sqlite:///x.db", "names no table"),
        ("sqlite:////nowhere/x.db#t", "unable to open database file"),
        ("postgresql://me:secret@127.0.0.1:1/db#t", "Can't write postgresql://me:***@127.0.0.1:1/db#t"),
        ("postgresql://me:${NO_SUCH}@127.0.0.1/db#t", "environment has no NO_SUCH"),
        ("things.csv", "the file of the rows itself"),
        ("out-{nonsense}.csv", "no {nonsense} to fill in"),
    ],
)
def test_a_sink_that_cannot_be_written_is_one_line(project: Path, sink: str, words: str) -> None:
    done = perron("predict", "things.csv", "-o", sink, cwd=project, check=False)
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1
    assert "secret" not in done.stderr


def test_a_place_that_is_none_and_ray_that_is_missing_are_one_line(project: Path) -> None:
    done = perron("predict", "things.csv", "-o", "out.csv", "--on", "rya", cwd=project, check=False)
    assert done.returncode == 1 and "did you mean 'ray'?" in done.stderr


def test_a_source_without_rows_is_one_line_and_makes_nothing(project: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text((project / "things.csv").read_text().splitlines()[0] + "\n")
    done = perron("predict", tmp_path / "rows.csv", "-o", tmp_path / "out.csv", cwd=project, check=False)
    assert done.returncode == 1 and "nothing to predict" in done.stderr and not (tmp_path / "out.csv").exists()


def test_once_does_nothing_where_the_periods_output_is_there(project: Path, tmp_path: Path) -> None:
    words = ["predict", "things.csv", "-o", str(tmp_path / "out-{month}.csv"), "--once"]
    assert perron_json(*words, cwd=project)["status"] == "done"
    (path,) = tmp_path.iterdir()
    before = path.stat()
    assert perron_json(*words, cwd=project)["status"] == "there already"
    assert path.stat() == before and "{" not in path.name
