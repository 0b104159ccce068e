"""`perron demo`, as the README's first command runs it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import need, perron, perron_json


def test_demo_ends_with_a_receipt_whose_chain_resolves(tmp_path: Path) -> None:
    need("git")
    done = json.loads(perron("demo", "--json", cwd=tmp_path).stdout)
    folder, receipt = tmp_path / done["folder"], done["receipt"]
    assert done["requests"] == 64 and done["right"] >= 56
    assert done["run"]["parity"]["labels_equal"] is True

    traced = perron_json("trace", receipt["prediction"]["id"], cwd=folder)
    assert traced["resolved"] == {"model": True, "run": True}
    assert {key: traced[key] for key in ("prediction", "model", "run", "data", "code")} == {
        key: receipt[key] for key in ("prediction", "model", "run", "data", "code")
    }
    snapshot = receipt["data"]["snapshot"]
    assert (folder / ".perron" / "store" / snapshot[:2] / snapshot[2:]).is_file()
    head = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert receipt["code"] == {"commit": head.stdout.strip(), "dirty": None}


def test_demo_prints_a_table_and_can_be_run_again(tmp_path: Path) -> None:
    perron("demo", cwd=tmp_path)
    again = perron("demo", cwd=tmp_path)
    for word in ("receipt", "by model", "of run", "on data", "http://127.0.0.1:"):
        assert word in again.stdout


def test_demo_leaves_a_folder_alone_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "perron-demo").mkdir()
    (tmp_path / "perron-demo" / "thesis.txt").write_text("mine")
    done = perron("demo", cwd=tmp_path, check=False)
    assert done.returncode == 1 and "wasn't made by `perron demo`" in done.stderr
    assert (tmp_path / "perron-demo" / "thesis.txt").read_text() == "mine"


@pytest.mark.slow
def test_drift_demo_finds_reports_retrains_and_recovers(tmp_path: Path) -> None:
    """On the real table where it is at hand, else on the simulated one."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data" / "bike_sharing_hourly.csv"
    named = os.environ.get("PERRON_BIKES") or (str(beside) if beside.is_file() else None)
    words = ["--data", named] if named else []
    done = json.loads(perron("demo", "drift", "--json", *words, cwd=tmp_path).stdout)
    assert done["is_real"] is bool(named) and len(done["months"]) == 12
    assert done["served"] == sum(month["rows"] for month in done["months"])
    drifted = {f["subject"] for month in done["months"] for f in month["findings"] if f["kind"].endswith("drift")}
    assert drifted >= {"temperature", "season", "month", "rentals"}  # the season and the growth
    asked = [month for month in done["months"] if month["asked_to_retrain"]]
    assert asked and asked[0]["retrained"] and "rmse" in asked[0]["asked_to_retrain"]
    assert done["error_before_retraining"] > 1.2 * done["expected"]
    assert done["error_after_retraining"] < 0.8 * done["error_had_it_stayed"]
    page = (tmp_path / done["picture"]).read_text()
    assert page.count("<svg") == 2 and "What drifted when" in page and "temperature" in page


def test_drift_demo_says_what_is_wrong_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("dteday,hr\n2011-01-01,0\n")
    for words, said in (
        (["demo", "drift", "--data", "none.csv"], "none.csv can't be read"),
        (["demo", "drift", "--data", "short.csv"], "has no column 'season'"),
        (["demo", "drift", "--keep"], "--keep goes with the whole way"),
        (["demo", "--data", "short.csv"], "--data goes with `perron demo drift`"),
        (["demo", "drfit"], "drift"),
    ):
        done = perron(*words, cwd=tmp_path, check=False)
        assert done.returncode != 0 and said in done.stderr
    assert not (tmp_path / "perron-drift").exists()
