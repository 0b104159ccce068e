"""Monitoring through a real server: windows, drift, performance, estimates, skew, and the page."""

import csv
import json
import random
import shutil
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron.bundle import load
from perron.demonstration import serving
from perron.estimate import Calibration, expected_accuracy, fit_calibration
from perron.ledger import Ledger
from perron.monitor import Look, Monitor
from perron.pages.monitor import render
from perron.performance import Losses, Performance
from perron.predictions import iterate
from perron.project import Project
from perron.serve.collect import Collector
from perron.serve.http import free_port
from perron.sketch import TableSketch
from perron.windows import read_windows
from tests.conftest import perron, perron_json


def rows_of(housing_csv: Path, count: int, seed: int = 0) -> list[tuple[dict[str, Any], float]]:
    """Rows as requests, each with its truth."""
    with housing_csv.open() as file:
        chosen = random.Random(seed).sample(list(csv.DictReader(file)), count)
    made = []
    for row in chosen:
        truth = float(row.pop("median_house_value"))
        made.append(({k: v if k == "ocean_proximity" else float(v) for k, v in row.items() if v != ""}, truth))
    return made


def send(address: str, rows: list[tuple[dict[str, Any], float]], with_outcomes: bool = True) -> list[str]:
    ids: list[str] = []
    for start in range(0, len(rows), 100):
        part = rows[start : start + 100]
        answer = httpx.post(f"{address}/v1/predictions", json={"rows": [row for row, _ in part]}, timeout=30)
        ids += [prediction["id"] for prediction in answer.json()["predictions"]]
    if with_outcomes:
        items = [{"prediction": id, "value": truth} for id, (_, truth) in zip(ids, rows, strict=True)]
        assert httpx.post(f"{address}/v1/outcomes", json={"outcomes": items}, timeout=60).status_code == 200
    return ids


def look(folder: Path) -> Look:
    return Monitor(Project.open(folder), "house-prices").look()


def test_traffic_like_the_training_is_nothing_to_worry_about(housing_copy: Path, housing_csv: Path) -> None:
    with serving(housing_copy) as (address, _):
        send(address, rows_of(housing_csv, 600))
    found = look(housing_copy)
    assert found.rows == 600 and found.findings == ()
    measured = found.outcomes.metric("rmse")
    assert measured is not None and found.expected is not None and measured[1] < found.expected * 1.2
    ((_, estimate),) = found.estimates
    assert estimate.method == "DLE" and estimate.metric == "mae"
    said = perron("monitor", cwd=housing_copy).stdout
    assert "600 rows, 600 outcomes" in said and "Nothing to worry about." in said


def test_incomes_in_another_unit_are_found_within_200_requests(housing_copy: Path, housing_csv: Path) -> None:
    with serving(housing_copy) as (address, _):
        send(
            address,
            [({**row, "median_income": row["median_income"] * 10_000}, y) for row, y in rows_of(housing_csv, 200)],
        )
    found = look(housing_copy)
    unit = next(f for f in found.findings if f.subject == "median_income")
    assert unit.kind == "drift" and unit.severity == "high" and unit.drift is not None and unit.drift.kind == "unit"
    assert "ten thousands" in unit.detail and any(f.kind == "performance" for f in found.findings)
    page = housing_copy / "page.html"
    done = perron("monitor", "--html", page, cwd=housing_copy, check=False)
    assert done.returncode == 1 and "median_income" in done.stdout and "median_income" in page.read_text()
    assert perron("monitor", "--fail-on", "never", cwd=housing_copy).returncode == 0
    told = json.loads(perron("monitor", "--json", "--fail-on", "never", cwd=housing_copy).stdout)
    assert told["findings"][0]["severity"] == "high" and told["performance"]["outcomes"] == 200


def test_columns_that_no_longer_belong_together_are_found_though_none_moved(
    housing_copy: Path, housing_csv: Path
) -> None:
    rows = rows_of(housing_csv, 600)
    shuffled = [row["households"] for row, _ in rows]
    random.Random(3).shuffle(shuffled)
    with serving(housing_copy) as (address, _):
        send(address, [({**row, "households": value}, y) for (row, y), value in zip(rows, shuffled, strict=True)])
    found = {one.kind: one for one in look(housing_copy).findings}
    assert "drift" not in found and "households" in found["multivariate"].subject
    assert found["multivariate"].severity in ("medium", "high") and "none of them moved" in found["multivariate"].detail


def test_windows_are_rebuilt_from_the_log_as_they_were(housing_copy: Path, housing_csv: Path) -> None:
    folder = housing_copy / ".perron" / "windows"
    with serving(housing_copy) as (address, _):
        send(address, rows_of(housing_csv, 300), with_outcomes=False)
    live = read_windows(folder, "house-prices")
    shutil.rmtree(folder)
    assert look(housing_copy).rows == 0
    assert "1 windows were made anew" in perron("monitor", "--rebuild", cwd=housing_copy).stdout
    again = read_windows(folder, "house-prices")
    assert list(live) == list(again)
    for mine, other in zip(live.values(), again.values(), strict=True):
        assert mine.rows == other.rows == 300
        for name, column in mine.columns.items():
            twin = other.columns[name]
            assert (column.nulls, column.low, column.high, column.distinct.estimate) == (
                twin.nulls, twin.low, twin.high, twin.distinct.estimate,
            )  # fmt: skip


def test_traffic_after_a_rebuild_is_seen(housing_copy: Path, housing_csv: Path) -> None:
    with serving(housing_copy) as (address, _):
        send(address, rows_of(housing_csv, 100), with_outcomes=False)
    assert perron("monitor", "--rebuild", "--fail-on", "never", cwd=housing_copy).returncode == 0
    assert look(housing_copy).rows == 100
    with serving(housing_copy) as (address, _):
        send(address, rows_of(housing_csv, 150), with_outcomes=False)
    assert look(housing_copy).rows == 250


def test_a_servers_own_first_prediction_is_nobodys_traffic(housing_copy: Path, housing_csv: Path) -> None:
    (housing_copy / "environments.toml").write_text(f'[dev]\ntarget = "local"\nport = {free_port()}\n')
    address = perron_json("deploy", "local", "--env", "dev", cwd=housing_copy)["detail"]["address"]
    try:
        send(address, rows_of(housing_csv, 60), with_outcomes=False)
        assert 'route="readiness"' not in httpx.get(f"{address}/metrics").text
    finally:
        perron("deploy", "stop", "--env", "dev", cwd=housing_copy)
    assert any(one.route == "readiness" for one in iterate(housing_copy / ".perron" / "predictions"))
    perron("monitor", "--rebuild", "--fail-on", "never", cwd=housing_copy)
    found = look(housing_copy)
    assert found.rows == 60 and found.levels is not None and found.levels.rows == 60


def test_workers_keep_windows_of_their_own_that_add_up(housing_copy: Path, housing_csv: Path) -> None:
    with serving(housing_copy, "--workers", "2") as (address, _):
        for _ in range(8):  # connections of their own
            send(address, rows_of(housing_csv, 50), with_outcomes=False)
    assert (
        sum(sketch.rows for sketch in read_windows(housing_copy / ".perron" / "windows", "house-prices").values())
        == 400
    )


def test_an_outcome_that_is_corrected_counts_once(housing_copy: Path, housing_csv: Path) -> None:
    rows = rows_of(housing_csv, 20)
    with serving(housing_copy) as (address, _):
        ids = send(address, rows)
        before = look(housing_copy).outcomes
        httpx.post(f"{address}/v1/outcomes", json={"outcomes": [{"prediction": ids[0], "value": 500_000}]})
        httpx.post(f"{address}/v1/outcomes", json={"outcomes": [{"prediction": ids[0], "value": rows[0][1]}]})
    after = look(housing_copy).outcomes
    assert after.n == before.n == 20 and after.squared == pytest.approx(before.squared)


def test_slices_add_up_to_the_whole(housing_copy: Path, housing_csv: Path) -> None:
    with serving(housing_copy) as (address, _):
        send(address, rows_of(housing_csv, 300))
    found = look(housing_copy)
    assert [(route, losses.n) for route, losses in found.routes] == [("champion", 300)]
    told = found.to_json()["performance"]["routes"][0]
    assert told["route"] == "champion" and told["interval"][0] < told["value"] < told["interval"][1]
    assert sum(losses.n for _, losses in found.slices) == 300 and all(
        "ocean_proximity=" in name for name, _ in found.slices
    )


def test_no_traffic_a_single_row_and_nulls_are_said_plainly(housing_copy: Path, housing_csv: Path) -> None:
    said = perron("monitor", cwd=housing_copy).stdout
    assert "No traffic was seen yet" in said
    assert "No traffic was seen yet." in render(look(housing_copy))
    with serving(housing_copy) as (address, _):
        send(address, rows_of(housing_csv, 1))
    assert look(housing_copy).rows == 1 and look(housing_copy).findings == ()
    with serving(housing_copy) as (address, _):
        nulls = [({k: v for k, v in row.items() if k != "total_bedrooms"}, y) for row, y in rows_of(housing_csv, 100)]
        send(address, nulls)
    found = next(f for f in look(housing_copy).findings if f.subject == "total_bedrooms")
    assert found.severity == "high" and "Missing" in found.detail


def test_a_damaged_window_is_left_out(housing_copy: Path, housing_csv: Path) -> None:
    with serving(housing_copy) as (address, _):
        send(address, rows_of(housing_csv, 100))
    (path,) = (housing_copy / ".perron" / "windows").rglob("*.sketch")
    path.write_bytes(path.read_bytes()[:-50])
    assert look(housing_copy).rows == 0


def test_million_outcomes_are_asked_for_in_milliseconds(tmp_path: Path) -> None:
    """The answer comes from sums by day: as quick for many outcomes as for few."""
    ledger = Ledger.at(tmp_path)
    made = Performance(tmp_path, ledger, tmp_path / "predictions")
    with made._open(writes=True) as database:
        for day in range(1, 29):
            losses = (0, 3.0, 2.0, 1.0)
            for version in (1, 2):
                Performance._add(
                    database, "m", version, "champion", f"2026-01-{day:02d}", ["a=1"], losses[1:], 1, 5.0, 1
                )
    started = time.perf_counter()
    periods = made.by_day("m", 1)
    assert len(periods) == 28 and periods[0].losses.n == 1 and periods[0].mean_delay_s == 5.0
    assert made.by_day("m")[0].losses.n == 2 and made.parts("m") == ["a=1"]
    assert time.perf_counter() - started < 10


def test_losses_give_metrics_with_intervals() -> None:
    losses = Losses(100, 400.0, 3200.0, 150.0, 300.0, 0.0, 0.0, 80)
    rmse, accuracy = losses.metric("rmse"), losses.metric("accuracy")
    assert rmse is not None and rmse[0] == 2.0 and rmse[1] < 2.0 < rmse[2]
    assert accuracy is not None and accuracy[0] == 0.8 and 0.7 < accuracy[1] < 0.8 < accuracy[2] < 0.9
    assert Losses().metric("rmse") is None


def test_calibration_is_monotone_and_its_estimate_is_right_on_its_own_rows() -> None:
    chance = random.Random(0)
    confidence = [chance.uniform(0.5, 1.0) for _ in range(5000)]
    right = [chance.random() < (c - 0.5) * 1.6 + 0.1 for c in confidence]
    made = fit_calibration(confidence, right)
    assert list(made.accuracy) == sorted(made.accuracy) and len(made.confidence) <= 64
    assert Calibration.from_json(json.loads(json.dumps(made.to_json()))) == made
    sketch = TableSketch(["confidence"])
    sketch.update_columns({"confidence": confidence})
    estimate = expected_accuracy(made, sketch.columns["confidence"])
    assert estimate is not None and estimate.value == pytest.approx(sum(right) / 5000, abs=0.01)
    assert estimate.low < estimate.value < estimate.high and estimate.to_json()["is_estimate"] is True
    with pytest.raises(ValueError, match="no rows"):
        fit_calibration([], [])


def test_served_rows_that_differ_from_training_are_skewed(tmp_path: Path) -> None:
    lines = ["key,size,kind,y", *(f"{n},{n % 7}.5,{'abc'[n % 3]},{3 * (n % 7) + n % 3}" for n in range(300))]
    (tmp_path / "things.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "system.py").write_text(
        "from typing import Annotated, Literal\nimport perron as pn\n\nclass Thing(pn.Contract):\n    key: Annotated[int, pn.Id]\n"
        "    size: float\n    kind: Literal['a', 'b', 'c']\n    y: Annotated[float, pn.Target]\n\n"
        "system = pn.System('things', Thing, source='things.csv')\n"
    )
    perron("run", cwd=tmp_path)
    with serving(tmp_path) as (address, _):
        rows = [{"key": n, "size": n % 7 + (0.5 if n % 2 else 1.5), "kind": "abc"[n % 3]} for n in range(100)]
        assert httpx.post(f"{address}/v1/predictions", json={"rows": rows}).status_code == 200
    told = perron_json("monitor", "--skew", "--fail-on", "never", cwd=tmp_path)
    skewed = [f for f in told["findings"] if f["kind"] == "skew"]
    assert [f["subject"] for f in skewed] == ["size"] and skewed[0]["value"] == pytest.approx(0.5, abs=0.02)
    said = perron("monitor", "--skew", cwd=tmp_path, check=False)
    assert said.returncode == 1 and "of 100 rows" in said.stdout.lower()


@pytest.mark.parametrize(
    ("words", "says"),
    [(["9"], "no version '9'"), (["--every", "week"], "--every is 'week'"), (["--fail-on", "no"], "--fail-on is 'no'"), (["--model", "x"], "no model 'x'")],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_said(housing_project: Path, words: list[str], says: str) -> None:
    done = perron("monitor", *words, cwd=housing_project, check=False)
    assert done.returncode == 1 and says in done.stderr


def test_the_log_and_the_windows_know_the_same_hour(housing_copy: Path, housing_csv: Path) -> None:
    with serving(housing_copy) as (address, _):
        send(address, rows_of(housing_csv, 5), with_outcomes=False)
    hours = {key.hour for key in read_windows(housing_copy / ".perron" / "windows", "house-prices")}
    logged = {
        datetime.fromisoformat(r.time).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        for r in iterate(housing_copy / ".perron" / "predictions")
    }
    assert len(hours & logged) >= 1


def test_findings_become_alerts_that_are_told_once_and_recover(housing_copy: Path, housing_csv: Path) -> None:
    rows = rows_of(housing_csv, 150)
    with serving(housing_copy) as (address, _):
        send(
            address,
            [({**row, "median_income": row["median_income"] * 10_000}, y) for row, y in rows],
            with_outcomes=False,
        )
    quiet = perron("monitor", "--fail-on", "never", cwd=housing_copy)
    assert quiet.stderr == ""  # nobody asked for alerts
    first = [perron("monitor", "--alert", "--json", "--fail-on", "never", cwd=housing_copy) for _ in range(3)]
    assert sum("median_income" in one.stderr for one in first) == 1 and json.loads(first[0].stdout)["findings"]
    again = perron("monitor", "--alert", "--fail-on", "never", cwd=housing_copy)
    assert again.stderr == ""  # once
    shutil.rmtree(housing_copy / ".perron" / "windows")
    empty = perron("monitor", "--alert", "--fail-on", "never", cwd=housing_copy)
    assert empty.stderr == ""  # an empty window says nothing, and recovers nothing
    with serving(housing_copy) as (address, _):
        send(address, rows_of(housing_csv, 400, seed=1), with_outcomes=False)
    said = "".join(perron("monitor", "--alert", "--fail-on", "never", cwd=housing_copy).stderr for _ in range(4))
    assert said.lower().count("recovered") >= 1
    (housing_copy / "alerts.toml").write_text("format = 1\n[[rules]]\nname = 'x'\nkidns = ['drift']\n")
    wrong = perron("monitor", cwd=housing_copy, check=False)
    assert wrong.returncode == 1 and "perron: alerts.toml: " in wrong.stderr


@pytest.mark.parametrize("is_at_work", [True, False])
def test_rows_that_a_thread_has_or_never_took_are_in_the_window_of_a_server_that_ends(
    housing_copy: Path, housing_csv: Path, monkeypatch: pytest.MonkeyPatch, is_at_work: bool
) -> None:
    bundle = load(next((housing_copy / ".perron" / "bundles").glob("*")))
    collector = Collector(housing_copy / "windows", bundle, 1, "champion")
    rows = [tuple(row.get(f.name) for f in bundle.schema.request) for row, _ in rows_of(housing_csv, 200)]
    begins, goes_on, add = threading.Event(), threading.Event(), collector._writer.add

    def add_slowly(*words: Any) -> None:
        begins.set()
        assert goes_on.wait(30)
        add(*words)

    monkeypatch.setattr(collector._writer, "add", add_slowly)
    collector.add(rows, [200_000.0] * 200, None)
    collector.hand_over()
    working = threading.Thread(target=collector.work)
    if is_at_work:
        working.start()
        assert begins.wait(30)
    collector.add(rows[:50], [200_000.0] * 50, None)
    collector.hand_over()
    ending = threading.Thread(target=collector.work, kwargs={"is_last": True})
    ending.start()
    goes_on.set()
    ending.join(30)
    assert sum(sketch.rows for sketch in read_windows(housing_copy / "windows", bundle.name).values()) == 250
    if is_at_work:
        working.join(30)


def test_a_server_tells_prometheus_how_far_its_traffic_is_from_the_training(
    housing_copy: Path, housing_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load(next((housing_copy / ".perron" / "bundles").glob("*")))
    collector = Collector(housing_copy / "windows", bundle, 1, "champion")
    rows = [tuple(row.get(f.name) for f in bundle.schema.request) for row, _ in rows_of(housing_csv, 200)]
    place = [f.name for f in bundle.schema.request].index("median_income")
    moved = [(*row[:place], row[place] * 10_000, *row[place + 1 :]) for row in rows]
    collector.add(moved, [200_000.0] * 200, None)
    collector.hand_over()
    collector.work()
    collector._look_for_drift()
    assert collector.drifts["median_income"][0] > 0.9 and collector.drifts["median_income"][1] == 3
    assert collector.drifts["housing_median_age"][1] == 0
