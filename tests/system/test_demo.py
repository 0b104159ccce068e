"""`perron demo`, as the README's first command runs it."""

import json
import subprocess
from pathlib import Path

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
