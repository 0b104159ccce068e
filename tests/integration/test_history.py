"""Lags and rolling windows, from the table through the pipeline to the running service and its journal."""

import csv
import math
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from perron import bundle as bundles
from perron import tensors
from perron.check.table import TableCheck
from perron.demonstration import serving
from perron.errors import BundleError, DataError
from perron.history import journal_path
from perron.history.state import read_history
from perron.history.table import add_pasts
from perron.outcomes import record_outcome
from perron.project import Project
from perron.source import open_source
from perron.system import load_system
from tests.conftest import perron, perron_json
from tests.integration.test_pipeline import done, run

HEAD = """
from datetime import datetime, timedelta
from typing import Annotated, Literal
import sklearn.linear_model
import perron as pn
from perron import history

H = timedelta(hours=1)
"""
SHOPS = (
    HEAD
    + """
class Sale(pn.Contract):
    at: Annotated[datetime, pn.Time, pn.Ignore]
    shop: Annotated[str, pn.Group]
    price: float
    sold: Annotated[float, pn.Target]

system = pn.System("sales", Sale, source="sales.csv", gates=[pn.gate("rmse", at_most=100)], history=[DECLARED])

@system.features
def features(xp, c):
    return {"trend": c.sold_lag_1 - c.sold_lag_2}

@system.model
def model(params):
    return sklearn.linear_model.LinearRegression()
"""
)
DECLARED = 'history.lag("sold", steps=[1, 2]), history.rolling("price", "mean", window=6 * H)'
Row = dict[str, Any]


def sales(rows: int) -> list[Row]:
    chance = random.Random(0)
    start, level = datetime(2024, 1, 1), {"a": 5.0, "b": 50.0}
    found = []
    for n in range(rows):
        shop = "ab"[n % 2]
        level[shop] += chance.gauss(0, 1)
        price = round(chance.uniform(1, 2), 3)
        at = (start + timedelta(hours=n // 2)).isoformat()
        found.append({"at": at, "shop": shop, "price": price, "sold": level[shop] - price})
    return found


def write(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_shops(folder: Path, rows: int = 300, declared: str = DECLARED) -> list[Row]:
    made = sales(rows + 40)
    write(folder / "sales.csv", made[:rows])
    (folder / "system.py").write_text(SHOPS.replace("DECLARED", declared))
    return made


@pytest.fixture
def shops(tmp_path: Path) -> Iterator[tuple[Path, list[Row]]]:
    """A project whose model is made, and all rows: those of its source and the forty that come after."""
    rows = write_shops(tmp_path)
    result = run(tmp_path)
    assert result.status == "done" and result.to_json()["parity"]["max_relative_error"] < 1e-9
    yield tmp_path, rows


def request(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("sold", "cnt")}


def expected(folder: Path, rows: Sequence[Row], name: str = "all.csv") -> Any:
    """What the graph answers to rows whose pasts come from the whole table, and the bundle."""
    write(folder / name, rows)
    system = load_system(folder / "system.py")
    check = TableCheck(system.schema)
    table = pa.Table.from_batches([check(batch).good for batch in open_source(folder / name).chunks()])
    table = add_pasts(table, system.schema, system.history)
    bundle = bundles.load(next((folder / ".perron" / "bundles").glob("[!.]*")))
    feed = tensors.from_table(bundle.schema, table) | {p.name: np.asarray(table[p.name]) for p in system.history}
    return bundle.run(feed)[0], {p.name: np.asarray(table[p.name]) for p in system.history}


def post(address: str, *rows: Row) -> list[dict[str, Any]]:
    answer = httpx.post(f"{address}/v1/predictions", json={"rows": rows}, timeout=30)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


# ------------------------------------------------------------------ the pipeline


def test_a_run_does_again_what_depends_on_the_declarations(tmp_path: Path) -> None:
    write_shops(tmp_path)
    assert "train" in done(run(tmp_path)) and done(run(tmp_path)) == []
    write_shops(tmp_path, declared=DECLARED.replace("6 * H", "7 * H"))
    assert done(run(tmp_path)) == ["train", "evaluate", "gates", "reference", "bundle", "register"]


def test_a_champion_with_another_history_is_scored_by_its_own(tmp_path: Path) -> None:
    write_shops(tmp_path)
    first = run(tmp_path).to_json()
    text = (tmp_path / "system.py").read_text().replace("history=[", "history=[history.lag('price', steps=3), ")
    text = text.replace('pn.gate("rmse", at_most=100)', 'pn.gate.no_worse_than_champion("rmse", tolerance=10)')
    (tmp_path / "system.py").write_text(text)
    (gate,) = run(tmp_path).to_json()["gates"]
    assert gate["passed"] and gate["limit"] == pytest.approx(first["metrics"]["rmse"] * 11)


def test_a_changed_history_file_is_refused(shops: tuple[Path, list[Row]]) -> None:
    folder = next((shops[0] / ".perron" / "bundles").glob("[!.]*"))
    data = bytearray((folder / "history.npz").read_bytes())
    data[-1] ^= 1
    (folder / "history.npz").write_bytes(data)
    with pytest.raises(BundleError, match=r"history\.npz was changed"):
        bundles.load(folder)


def test_a_damaged_history_is_one_line(shops: tuple[Path, list[Row]], tmp_path: Path) -> None:
    folder = next((shops[0] / ".perron" / "bundles").glob("[!.]*"))
    bundle = bundles.load(folder)
    text = (folder / "history.json").read_text()
    for bad in ("{", "[]", text.replace('"format": 1', '"format": 9'), text.replace('"a"', '"a", "zzz"')):
        (folder / "history.json").write_text(bad)
        with pytest.raises(BundleError, match=r"damaged|newer") as caught:
            read_history(folder, bundle.schema)
        assert "\n" not in str(caught.value)


def test_the_bundle_alone_predicts_from_its_state_and_the_rows_given(shops: tuple[Path, list[Row]]) -> None:
    folder, rows = shops
    answers, _ = expected(folder, rows)
    bundle = bundles.load(next((folder / ".perron" / "bundles").glob("[!.]*")))
    assert set(bundle.sample["rows"][0]) == {"at", "shop", "price"}
    for row, answer in zip(rows[300:302], answers[300:302], strict=True):
        assert bundle.predict([request(row)])[0]["value"] == pytest.approx(answer, rel=1e-12)
    with pytest.raises(DataError, match=r"Expected a date and time .*got nothing at rows\[0\]\.at"):
        bundle.predict([{"shop": "a", "price": 1.0}])


# ------------------------------------------------------------------ the service


def test_a_service_needs_what_finds_a_rows_past(shops: tuple[Path, list[Row]]) -> None:
    with serving(shops[0]) as (address, _):
        answer = httpx.post(f"{address}/v1/predictions", json={"rows": [{"price": 1.0}]})
        assert answer.status_code == 422
        assert [(e["field"], e["rule"]) for e in answer.json()["errors"]] == [("at", "required"), ("shop", "required")]
        row = httpx.get(f"{address}/openapi.json").text
        assert '"required":["at","shop","price"]' in row.replace(" ", "")


def test_a_replayed_stretch_gets_what_training_would_give_it_across_a_kill(shops: tuple[Path, list[Row]]) -> None:
    folder, rows = shops
    answers, pasts = expected(folder, rows)
    project = Project.open(folder)
    found = []
    for part in (rows[300:315], rows[315:340]):
        with killed(folder) as address:
            for row in part:
                (answer,) = post(address, request(row))
                found.append(answer["value"])
                record_outcome(project, answer["id"], row["sold"])
    np.testing.assert_allclose(found, answers[300:340], rtol=1e-12)
    state = bundles.load(next((folder / ".perron" / "bundles").glob("[!.]*"))).history
    assert state is not None
    state.attach(journal_path(project.predictions, "sales"))
    order = [field.name for field in state.schema.request]
    for place in range(300, 340):
        row = {**rows[place], "at": datetime.fromisoformat(rows[place]["at"])}
        for name, number in state.features([tuple(row[field] for field in order)]).items():
            assert number[0] == pasts[name][place] or (math.isnan(number[0]) and math.isnan(pasts[name][place]))
    state.close()
    project.ledger.close()


@contextmanager
def killed(folder: Path) -> Iterator[str]:
    """The address of a service that is killed, not stopped, when the context is left."""
    command = [sys.executable, "-m", "perron", "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().split(" answers at ")[1].split()[0]
        finally:
            server.kill()


def test_many_rows_at_once_and_one_by_one_get_the_same(shops: tuple[Path, list[Row]]) -> None:
    folder, rows = shops
    with serving(folder) as (address, _):
        together = post(address, *map(request, rows[300:]))
        alone = [post(address, request(row))[0] for row in rows[300:]]
    assert [answer["value"] for answer in together] == pytest.approx([answer["value"] for answer in alone], rel=1e-12)
    assert len({answer["value"] for answer in together}) == 40


# ------------------------------------------------------------------ files


def test_a_file_is_predicted_from_the_state_and_its_own_earlier_rows_whatever_their_order(
    shops: tuple[Path, list[Row]],
) -> None:
    folder, rows = shops
    answers, _ = expected(folder, rows)
    order = list(range(300, 340))
    random.Random(1).shuffle(order)
    write(folder / "new.csv", [rows[place] for place in order])
    assert perron_json("predict", "new.csv", "-o", "out.csv", cwd=folder)["bad"] == 0
    with (folder / "out.csv").open() as file:
        got = [float(row["prediction"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(got, answers[order], rtol=1e-12)
    # What the file held is known to the service from now on.
    more = sales(344)
    answers, _ = expected(folder, more[:342])
    with serving(folder) as (address, _):
        found = post(address, *map(request, more[340:342]))
    assert [answer["value"] for answer in found] == pytest.approx(answers[340:342].tolist(), rel=1e-12)


def test_a_target_in_the_file_that_the_contract_does_not_allow_is_unknown(shops: tuple[Path, list[Row]]) -> None:
    folder, rows = shops
    text = (folder / "system.py").read_text()
    (folder / "system.py").write_text(
        text.replace("Annotated[float, pn.Target]", "Annotated[float, pn.Gt(-900), pn.Target]")
    )
    run(folder)
    found = []
    for unknown in ("-999", "n/a"):
        write(folder / "new.csv", [{**row, "sold": unknown} for row in rows[300:306]])
        shutil.rmtree(folder / ".perron" / "history", ignore_errors=True)
        perron("predict", "new.csv", "-o", "out.csv", cwd=folder)
        with (folder / "out.csv").open() as file:
            found.append([row["prediction"] for row in csv.DictReader(file)])
    assert found[0] == found[1]


def test_what_is_forgotten_of_the_log_goes_from_the_journal(shops: tuple[Path, list[Row]]) -> None:
    folder, rows = shops
    write(folder / "new.csv", rows[300:304])
    perron("predict", "new.csv", "-o", "out.csv", cwd=folder)
    assert perron_json("forget", "--field", "shop", "--id", "b", cwd=folder)["predictions"] == 2
    with sqlite3.connect(folder / ".perron" / "history" / "sales.db") as db:
        kept = {name for (name,) in db.execute("SELECT DISTINCT series FROM observed")}
    db.close()
    assert kept == {'"a"'}


def test_a_file_without_its_times_or_with_bad_rows_says_so(shops: tuple[Path, list[Row]]) -> None:
    folder, rows = shops
    write(folder / "new.csv", [{"shop": row["shop"], "price": row["price"]} for row in rows[300:]])
    said = perron("predict", "new.csv", "-o", "out.csv", cwd=folder, check=False)
    assert said.returncode == 1 and "no column 'at'" in said.stderr
    bad = [{**row, "at": "yesterday"} if place % 2 else row for place, row in enumerate(rows[300:])]
    write(folder / "new.csv", bad)
    told = perron_json("predict", "new.csv", "-o", "out.csv", cwd=folder)
    assert told["rows"] == 40 and told["bad"] == 20


def test_an_outcome_by_the_command_is_seen_by_the_running_service(shops: tuple[Path, list[Row]]) -> None:
    folder, rows = shops
    answers, _ = expected(folder, [*rows[:300], {**rows[300], "sold": 1000.0}, *rows[301:303]])
    with serving(folder) as (address, _):
        (first,) = post(address, request(rows[300]))
        perron("outcome", first["id"], "999", cwd=folder)
        perron("outcome", first["id"], "1000", cwd=folder)
        (second,) = post(address, request(rows[302]))
    assert second["value"] == pytest.approx(answers[302], rel=1e-12)


def test_every_worker_sees_what_the_others_were_asked_and_what_came_of_it(shops: tuple[Path, list[Row]]) -> None:
    folder, rows = shops
    answers, _ = expected(folder, rows)
    with serving(folder, "--workers", "2") as (address, _):
        (first,) = post(address, request(rows[300]))
        told = httpx.post(
            f"{address}/v1/outcomes", json={"outcomes": [{"prediction": first["id"], "value": rows[300]["sold"]}]}
        )
        assert told.status_code < 300, told.text
        found = [post(address, request(rows[302]))[0]["value"] for _ in range(40)]  # a connection each
    assert found == pytest.approx([answers[302]] * 40, rel=1e-12)


def test_a_journal_that_is_none_is_one_line(shops: tuple[Path, list[Row]]) -> None:
    folder, rows = shops
    (folder / ".perron" / "history").mkdir(exist_ok=True)
    (folder / ".perron" / "history" / "sales.db").write_bytes(b"not a database at all" * 100)
    write(folder / "new.csv", rows[300:])
    for words in (("predict", "new.csv", "-o", "out.csv"), ("serve", "--port", "0")):
        said = perron(*words, cwd=folder, check=False)
        assert said.returncode == 1 and "sales.db can't be read or written" in said.stderr.splitlines()[-1]


def test_the_examples_of_the_page_run_and_name_the_columns_that_it_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "features.md").read_text()
    section = text[text.index("## Lags and windows") :]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    for past in names["system"].history:
        assert f"`{past.name}`" in section or past.name in ("rentals.lag_7d", "temperature.lag_2")


# ------------------------------------------------------------------ on real demand


BIKES = (
    HEAD
    + """
class Hour(pn.Contract):
    hour: Annotated[datetime, pn.Time]
    holiday: bool
    workingday: bool
    weathersit: Literal[1, 2, 3, 4]
    temp: float
    hum: float
    windspeed: float
    cnt: Annotated[int, pn.Ge(0), pn.Target]

system = pn.System("bikes", Hour, source="bikes.csv", split=pn.split.by_time(test=0.2),
    params={"n_estimators": 120, "num_threads": 1}, history=[DECLARED])
"""
)
PAST_BIKES = """history.lag("cnt", [24 * H, 168 * H]),
    history.rolling("cnt", "mean", window=24 * H, after=23 * H), history.rolling("cnt", "mean", window=168 * H, after=23 * H)"""


def bikes() -> list[Row]:
    """Hours of bike sharing in Washington, where the file is at hand (PERRON_BIKES, or a folder `shared/data` beside the
    checkout); else hours made in their likeness: a day's and a week's shape, seasons, growth, weather, and what lasts for days."""
    named = os.environ.get("PERRON_BIKES")
    beside = Path(__file__).resolve().parents[3] / "shared" / "data" / "bike_sharing_hourly.csv"
    path = Path(named) if named else beside
    kept = ("holiday", "workingday", "weathersit", "temp", "hum", "windspeed", "cnt")
    if path.is_file():
        with path.open() as file:
            return [
                {"hour": f"{row['dteday']}T{int(row['hr']):02d}:00:00", **{name: row[name] for name in kept}}
                for row in csv.DictReader(file)
            ]
    chance, level, rows = random.Random(0), 0.0, []
    for n in range(17_000):
        at = datetime(2011, 1, 1) + timedelta(hours=n)
        level = 0.995 * level + chance.gauss(0, 0.04)
        works = at.weekday() < 5
        day = math.exp(-((at.hour - 17) ** 2) / 8) + (works * math.exp(-((at.hour - 8) ** 2) / 3)) + 0.15
        temp = 0.5 - 0.3 * math.cos(2 * math.pi * n / 8766) + chance.gauss(0, 0.05)
        wet = chance.choices([1, 2, 3, 4], [66, 26, 7, 1])[0]
        count = (
            400 * day * (0.4 + temp) * (1 + n / 17_000) * math.exp(level) / (0.7 + 0.3 * wet) * chance.uniform(0.8, 1.2)
        )
        values = [
            0,
            int(works),
            wet,
            round(temp, 3),
            round(chance.random(), 3),
            round(chance.random() / 2, 3),
            int(count),
        ]
        rows.append({"hour": at.isoformat(), **dict(zip(kept, values, strict=True))})
    return rows


@pytest.mark.slow
def test_hourly_demand_is_foretold_better_by_its_past_and_served_as_it_was_trained(tmp_path: Path) -> None:
    rows = bikes()
    rmse = {}
    for name, declared in (("without", ""), ("with", PAST_BIKES)):
        folder = tmp_path / name
        folder.mkdir()
        write(folder / "bikes.csv", rows[:-96])
        (folder / "system.py").write_text(BIKES.replace("DECLARED", declared))
        rmse[name] = run(folder).to_json()["metrics"]["rmse"]
    assert rmse["with"] < 0.7 * rmse["without"], rmse
    answers, _ = expected(folder, rows)
    project = Project.open(folder)
    known: list[tuple[str, str]] = []
    with serving(folder) as (address, _):
        for row in rows[-96:]:
            sent = {name: float(value) if name != "hour" else value for name, value in request(row).items()}
            sent |= {name: row[name] in ("1", 1) for name in ("holiday", "workingday")}
            (answer,) = post(address, sent)
            assert answer["value"] == pytest.approx(answers[len(rows) - 96 + len(known)], rel=1e-9)
            known.append((answer["id"], row["cnt"]))
            if len(known) >= 24:  # outcomes come a day late
                record_outcome(project, known[-24][0], int(known[-24][1]))
    project.ledger.close()
