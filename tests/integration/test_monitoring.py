"""Monitoring of real traffic: what is found, how soon, what isn't, and what bad input says."""

import csv
import http.client
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perron.bundle import load
from perron.clock import read_clock, set_clock
from perron.demonstration import serving
from perron.drift import find_drift
from perron.errors import LedgerError
from perron.ledger import CHAMPION
from perron.monitor import Look, Monitor
from perron.outcomes import Recorder
from perron.predictions import iterate, segments
from perron.project import Project
from perron.windows import columns_of, empty_sketch, read_windows, rebuild
from tests.conftest import perron

MODEL = "house-prices"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def houses(housing_csv: Path, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows as a client sends them, with their values."""
    with open(housing_csv, newline="") as file:
        rows = random.Random(seed).sample(list(csv.DictReader(file)), count)
    return [
        {name: value if name == "ocean_proximity" else float(value) if value else None for name, value in row.items()}
        for row in rows
    ]


def asked(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "median_house_value" and value is not None}


class Traffic:
    """A project that is served with a replay's clock."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.clock = folder / "clock"

    def send(self, rows: Sequence[dict[str, Any]], at: datetime) -> list[str]:
        """Each row as a request of its own, a second after the one before; the predictions' ids."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        ids = []
        for place, row in enumerate(rows):
            set_clock(self.clock, at + timedelta(seconds=place))
            connection.request("POST", "/v1/predictions", json.dumps({"rows": [asked(row)]}), {"Content-Type": "application/json"})  # fmt: skip
            answer = json.loads(connection.getresponse().read())
            ids.append(answer["predictions"][0]["id"])
        connection.close()
        return ids

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200
            return json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture
def traffic(housing_copy: Path) -> Iterator[Traffic]:
    set_clock(housing_copy / "clock", START)
    with serving(housing_copy, "--clock", str(housing_copy / "clock")) as (_, port):
        yield Traffic(housing_copy, port)


def look(folder: Path, since: datetime | None = None, every: Any = "day") -> Look:
    """What monitoring finds once the windows are made of the log."""
    project = Project.open(folder)
    monitor = Monitor(project, MODEL)
    schemas = {monitor.version: (monitor.bundle.schema, monitor.bundle.has_probabilities)}
    rebuild(folder / ".perron" / "windows", project.predictions, MODEL, schemas)
    return monitor.between(every, since, None, START + timedelta(days=30))


def drifts(found: Look) -> dict[str, str]:
    return {finding.subject: finding.drift.kind for finding in found.findings if finding.drift is not None}


def test_incomes_in_the_wrong_unit_are_found_within_200_requests(traffic: Traffic, housing_csv: Path) -> None:
    rows = houses(housing_csv, 400)
    traffic.send(rows[:200], START)
    assert not look(traffic.folder).findings
    wrong = [{**row, "median_income": row["median_income"] * 10_000} for row in rows[200:]]
    traffic.send(wrong[:100], START + timedelta(days=1))
    found = look(traffic.folder)
    assert drifts(found)["median_income"] == "unit"
    [finding] = [finding for finding in found.findings if finding.subject == "median_income"]
    assert "multiplied by 0.0001" in finding.detail and finding.severity == "high"
    assert finding.since == "2026-03-02T00:00:00Z"
    # In a window that holds right ones too they are found as what they are there: far outside of all that training saw.
    mixed = look(traffic.folder, every="all")
    assert "median_income" in drifts(mixed)


def test_undrifted_replays_raise_no_alarm(housing_project: Path, housing_csv: Path) -> None:
    project = Project.open(housing_project)
    row = project.ledger.get_version(MODEL, CHAMPION)
    bundle = load(project.ledger.bundle_path(row), row["bundle"])
    reference = bundle.reference
    assert reference is not None
    alarms = []
    for seed in range(20):
        given = [asked(row) for row in houses(housing_csv, 300, seed)]
        feed = bundle.packer([tuple(row.get(f.name) for f in bundle.schema.request) for row in given])
        values, _ = bundle.run(feed)
        window = empty_sketch(bundle.schema, is_number=True, has_confidence=False)
        window.update_columns(columns_of(bundle.schema, feed, np.asarray(values).tolist(), None))
        alarms += [(seed, drift.column, drift.kind) for drift in find_drift(reference, window)]
    assert len({seed for seed, *_ in alarms}) <= 1, alarms  # the rate is one in a hundred


def test_the_replays_time_is_on_receipts_and_outcomes(traffic: Traffic, housing_csv: Path) -> None:
    row = houses(housing_csv, 1)[0]
    [made] = traffic.send([row], START)
    project = Project.open(traffic.folder)
    set_clock(traffic.clock, START + timedelta(days=7))
    traffic.ask("POST", "/v1/outcomes", {"outcomes": [{"prediction": made, "value": row["median_house_value"]}]})
    receipt = traffic.ask("GET", f"/v1/predictions/{made}")
    assert (
        receipt["prediction"]["time"].startswith("2026-03-01T12:00:00") and receipt["prediction"]["clock"] == "replay"
    )
    assert receipt["outcome"]["time"].startswith("2026-03-08T12:00:00")
    found = look(traffic.folder)
    assert found.to_json()["performance"]["mean_delay_s"] == pytest.approx(7 * 86_400, abs=1)
    assert project.ledger.list_versions()


def test_a_clock_that_holds_no_time_is_refused_at_the_start(housing_project: Path, tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("noon")
    done = perron("serve", "--clock", tmp_path / "clock", "--port", "0", cwd=housing_project, check=False)
    assert done.returncode == 1 and "Expected a time such as 2026-01-31T12:00:00Z" in done.stderr
    done = perron("serve", "--clock", tmp_path / "none", "--port", "0", cwd=housing_project, check=False)
    assert done.returncode == 1 and "can't be read" in done.stderr
    with pytest.raises(LedgerError, match="Expected a time"):
        read_clock(tmp_path / "clock")


def test_no_traffic_at_all_and_a_single_row_are_no_error(traffic: Traffic, housing_csv: Path) -> None:
    empty = look(traffic.folder)
    assert empty.rows == 0 and not empty.windows and not empty.findings and empty.coverage is None
    traffic.send(houses(housing_csv, 1), START)
    one = look(traffic.folder)
    assert one.rows == 1 and not one.findings


def test_a_feature_that_is_never_given_any_more_is_missing(traffic: Traffic, housing_csv: Path) -> None:
    traffic.send([{**row, "total_bedrooms": None} for row in houses(housing_csv, 80)], START)
    found = look(traffic.folder)
    assert drifts(found) == {"total_bedrooms": "missing"}
    assert "100.0% now" in found.findings[0].detail and found.findings[0].severity == "high"


def test_outcomes_of_unknown_predictions_and_corrections(traffic: Traffic, housing_csv: Path) -> None:
    rows = houses(housing_csv, 40)
    ids = traffic.send(rows, START)
    project = Project.open(traffic.folder)
    recorder = Recorder(project)
    [unknown] = recorder.record([("0" * 20 + "-00000001-00000000", 1.0)])
    assert unknown.status == "unknown" and "no such prediction" in str(unknown.detail)
    recorder.record([(name, 1e6) for name in ids])
    wrong = look(traffic.folder).outcomes
    done = recorder.record([(name, row["median_house_value"]) for name, row in zip(ids, rows, strict=True)])
    assert {one.status for one in done} == {"corrected"}
    right = look(traffic.folder).outcomes
    assert wrong.n == right.n == 40 and right.squared < wrong.squared / 10  # each counts once, as it was corrected


def test_a_clock_that_goes_backwards_loses_nothing(traffic: Traffic, housing_csv: Path) -> None:
    rows = houses(housing_csv, 60)
    traffic.send(rows[:30], START)
    earlier = START - timedelta(days=2)
    ids = traffic.send(rows[30:], earlier)
    project = Project.open(traffic.folder)
    set_clock(traffic.clock, earlier - timedelta(days=5))  # its outcome is known before it was asked
    traffic.ask("POST", "/v1/outcomes", {"outcomes": [{"prediction": ids[0], "value": 100_000.0}]})
    found = look(traffic.folder)
    assert found.rows == 60 and [window.start for window in found.windows] == sorted(window.start for window in found.windows)  # fmt: skip
    assert found.performance[0].mean_delay_s == 0.0
    assert len(list(iterate(project.predictions))) == 60


@pytest.mark.parametrize("share", [0.5, 0.0001])
def test_a_segment_that_was_cut_costs_what_was_cut_off_alone(
    traffic: Traffic, housing_csv: Path, share: float, tmp_path: Path
) -> None:
    traffic.send(houses(housing_csv, 50), START)
    project = Project.open(traffic.folder)
    copy = Path(shutil.copytree(traffic.folder, tmp_path / "copy"))
    [segment] = segments(Project.open(copy).predictions)
    whole = segment.read_bytes()
    segment.write_bytes(whole[: int(len(whole) * share)])
    found = look(copy)
    kept = segment.read_bytes().count(b"\n") - 1
    assert found.rows == max(kept, 0) and (share < 0.5 or 5 < kept < 45)
    assert len(list(iterate(project.predictions))) == 50
    assert traffic.send(houses(housing_csv, 1), START + timedelta(hours=1))  # the server is as it was


def test_a_parquet_segment_that_was_cut_is_named(housing_copy: Path) -> None:
    folder = Project.open(housing_copy).predictions
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{'0' * 20}.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(LedgerError, match="is damaged"):
        list(iterate(folder))


def test_a_window_of_a_whole_day_is_in_place_of_its_hours(traffic: Traffic, housing_csv: Path) -> None:
    rows = houses(housing_csv, 60)
    for hour in range(3):
        traffic.send(rows[hour * 20 : hour * 20 + 20], START + timedelta(hours=hour))
    project = Project.open(traffic.folder)
    monitor = Monitor(project, MODEL)
    folder = traffic.folder / ".perron" / "windows"
    schemas = {1: (monitor.bundle.schema, False)}
    assert rebuild(folder, project.predictions, MODEL, schemas) == 3
    assert rebuild(folder, project.predictions, MODEL, schemas, every="day") == 1
    assert [(key.hour.hour, sketch.rows) for key, sketch in read_windows(folder, MODEL).items()] == [(0, 60)]
    later = START + timedelta(hours=2)
    assert rebuild(folder, project.predictions, MODEL, schemas, since=later.replace(minute=0)) == 1
    assert sum(sketch.rows for sketch in read_windows(folder, MODEL).values()) == 60
