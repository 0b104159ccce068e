"""Rules through the pipeline and the command: quarantine with the rule, findings, exit codes."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from perron.errors import DataError
from perron.project import Project
from tests.conftest import perron
from tests.integration.test_pipeline import done, run, write_project

QUICK = "\n    @system.model\n    def model(params):\n        from sklearn.linear_model import Ridge\n\n        return Ridge()\n"


def project(folder: Path, checks: str) -> Path:
    write_project(folder, rest=QUICK, options=f", checks=[{checks}]")
    system = folder / "system.py"
    system.write_text("from perron import rules\n" + system.read_text())
    return folder


def test_rows_that_break_a_rule_are_quarantined_with_it_and_the_run_says_so(tmp_path: Path) -> None:
    folder = project(
        tmp_path, 'rules.unique("key"), rules.expression("size < 8.9"), rules.references("kind", "kinds.csv", "kind")'
    )
    (folder / "kinds.csv").write_text("kind\na\nb\nc\n")
    table = folder / "things.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows, rows[5]]) + "\n")
    first = run(folder)
    data = first.to_json()["data"]
    broken = sum(float(row.split(",")[0]) >= 8.9 for row in rows[1:])
    assert data["quarantined"] == broken + 1
    assert {f["rule"]: f["rows"] for f in first.to_json()["findings"]} == {"unique(key)": 1, "size < 8.9": broken}
    quarantine = Project.open(folder).store.get(data["quarantine"]).read_text()
    assert "400" in quarantine and "a key that no earlier row has" in quarantine
    assert done(run(folder)) == []
    (folder / "kinds.csv").write_text("kind\na\nb\n")
    with pytest.raises(DataError, match="kind that is in kind of kinds.csv"):  # a third of the rows
        run(folder)


def test_a_rule_that_stops_is_one_line_and_nothing_is_registered(tmp_path: Path) -> None:
    folder = project(tmp_path, "rules.rows(at_least=1000)")
    failed = perron("run", cwd=folder, check=False)
    assert failed.returncode == 1 and "Expected rows ≥ 1000, got 400" in failed.stderr
    assert len(failed.stderr.strip().splitlines()[-1:]) == 1


def test_check_tells_by_its_exit_code_json_and_junit(tmp_path: Path) -> None:
    folder = project(tmp_path, 'rules.expression("size < 8.9"), rules.rows(at_least=10)')
    report = json.loads(perron("check", "--json", "--junit", "out.xml", cwd=folder).stdout)
    assert report["status"] == "warn" and report["rows"] == 400 and report["bad"] > 0
    assert ElementTree.parse(folder / "out.xml").getroot().attrib["failures"] == "0"
    (folder / "few.csv").write_text("\n".join((folder / "things.csv").read_text().splitlines()[:6]) + "\n")
    stopped = perron("check", "few.csv", cwd=folder, check=False)
    assert stopped.returncode == 1 and "✗ stop  rows ≥ 10: Expected rows ≥ 10, got 5" in stopped.stdout
    missing = perron("check", "gone.csv", cwd=folder, check=False)
    assert missing.returncode == 1 and missing.stderr.count("\n") == 1
