"""The README's commands by hand, on California housing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from perron.demonstration import serving
from tests.conftest import find_real_housing, perron, perron_json


def test_init_writes_a_short_system_that_needs_no_filling_in(housing_project: Path) -> None:
    text = (housing_project / "system.py").read_text()
    assert len(text.splitlines()) < 40
    assert 'ocean_proximity: Literal["<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"]' in text
    assert "total_bedrooms: Annotated[float, pn.Ge(0)] | None" in text
    for name in ("pyproject.toml", ".gitignore", "README.md", "data/housing.csv"):
        assert (housing_project / name).is_file()
    formatted = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "system.py"], cwd=housing_project, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert formatted.returncode == 0, formatted.stdout


def test_second_run_reports_every_step_cached(housing_project: Path) -> None:
    found = perron_json("run", cwd=housing_project)
    assert found["status"] == "done"
    assert [step["name"] for step in found["steps"]] == [
        "snapshot",
        "split",
        "train",
        "evaluate",
        "gates",
        "reference",
        "bundle",
        "register",
    ]
    assert {step["status"] for step in found["steps"]} == {"cached"}
    assert found["model"] == {"name": "house-prices", "version": 1, "champion": 1}


def test_run_reports_its_scores_beside_the_baseline(housing_project: Path) -> None:
    found = perron_json("run", cwd=housing_project)
    assert found["metrics"]["rmse"] < 0.6 * found["baseline"]["rmse"]
    assert found["gates"] and all(gate["passed"] for gate in found["gates"])
    assert (
        found["data"]["rows"] == 20_640 and found["data"]["quarantined"] == 0 and len(found["data"]["snapshot"]) == 64
    )
    assert found["parity"]["rows"] == 4_128 and found["parity"]["max_relative_error"] <= 1e-5


@pytest.mark.skipif(find_real_housing() is None, reason="California housing isn't at hand (PERRON_HOUSING names it)")
def test_rmse_on_real_housing_is_under_50_000(housing_project: Path) -> None:
    assert perron_json("run", cwd=housing_project)["metrics"]["rmse"] < 50_000


def test_predictions_over_http_and_in_batch_have_receipts(
    housing_copy: Path, house: dict[str, Any], tmp_path: Path
) -> None:
    with serving(housing_copy) as (address, _):
        reply = httpx.post(f"{address}/v1/predictions", json={"rows": [house]}).json()
        assert reply["model"] == "house-prices" and reply["version"] == 1
        online = reply["predictions"][0]
        receipt = httpx.get(f"{address}/v1/predictions/{online['id']}").json()
    traced = perron_json("trace", online["id"], cwd=housing_copy)
    assert traced["prediction"]["input"] == house and traced["prediction"]["value"] == online["value"]
    assert {key: traced[key] for key in receipt} == receipt
    assert (
        traced["data"]["rows"] == 20_640 and traced["outcome"] is None and len(traced["environment"]["packages"]) == 64
    )

    rows = tmp_path / "rows.csv"
    rows.write_text(
        ",".join(house) + "\n" + ",".join(map(str, house.values())) + "\n" + ",".join(["x"] * len(house)) + "\n"
    )
    perron("predict", rows, "-o", tmp_path / "out.parquet", cwd=housing_copy)
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert table[0]["prediction"] == pytest.approx(online["value"], rel=1e-12)
    assert table[1]["prediction"] is None and "households" in table[1]["fault"]
    batch = perron_json("trace", table[0]["prediction_id"], cwd=housing_copy)
    assert batch["prediction"]["route"] == "batch" and batch["prediction"]["input"] == house
    assert batch["resolved"] == {"model": True, "run": True}

    perron("outcome", online["id"], "400000", cwd=housing_copy)
    assert perron_json("trace", online["id"], cwd=housing_copy)["outcome"]["value"] == 400_000


def test_a_bad_row_learns_every_field_at_once(housing_copy: Path, house: dict[str, Any]) -> None:
    with serving(housing_copy) as (address, _):
        bad = {**house, "ocean_proximity": "MARS", "households": -3}
        answer = httpx.post(f"{address}/v1/predictions", json={"rows": [bad]})
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"
    found = {(error["field"], error["rule"], json.dumps(error["value"])) for error in answer.json()["errors"]}
    assert found == {("ocean_proximity", "values", '"MARS"'), ("households", "ge", "-3")}


def test_a_project_can_be_moved(housing_copy: Path) -> None:
    found = perron_json("run", cwd=housing_copy)
    assert {step["status"] for step in found["steps"]} == {"cached"}
    with serving(housing_copy) as (address, _):
        assert httpx.get(f"{address}/health/ready").status_code == 200


def test_a_column_of_the_rows_keeps_its_name_beside_the_predictions(
    housing_copy: Path, house: dict[str, Any], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(",".join([*house, "prediction"]) + "\n" + ",".join(map(str, [*house.values(), 1])) + "\n")
    perron("predict", rows, "-o", tmp_path / "out.parquet", cwd=housing_copy)
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()[0]
    assert found["prediction"] == "1" and found["prediction_"] > 0
    same = perron("predict", rows, "-o", rows, cwd=housing_copy, check=False)
    assert same.returncode == 1 and "is the file of the rows itself" in same.stderr
