"""Splits through the pipeline: folds beside the metrics, findings in the run's report."""

from pathlib import Path

from tests.conftest import perron
from tests.integration.test_pipeline import done, run, write_project

QUICK = "\n    @system.model\n    def model(params):\n        from sklearn.linear_model import Ridge\n\n        return Ridge()\n"


def test_folds_are_reported_with_mean_and_spread_and_asked_for_anew_leave_the_model_alone(tmp_path: Path) -> None:
    folder = write_project(tmp_path, rest=QUICK, options=", split=pn.split.random(0.25, folds=4)")
    first = run(folder)
    folds = first.to_json()["folds"]
    assert folds["count"] == 4 and folds["kind"] == "random k-fold"
    rmse = folds["metrics"]["rmse"]
    assert len(rmse["values"]) == 4 and min(rmse["values"]) <= rmse["mean"] <= max(rmse["values"]) and rmse["std"] > 0
    assert done(run(folder)) == []
    system = folder / "system.py"
    system.write_text(system.read_text().replace("folds=4", "folds=3"))
    second = run(folder)
    assert "train" not in done(second) and second.to_json()["folds"]["count"] == 3
    system.write_text(system.read_text().replace(", folds=3", ""))
    assert run(folder).to_json()["folds"] is None


def test_what_leaks_across_the_split_is_said(tmp_path: Path) -> None:
    folder = write_project(tmp_path, rest=QUICK)
    table = folder / "things.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *rows, *rows]) + "\n")
    report = perron("run", cwd=folder)
    assert "warn  " in report.stdout and "are in the train rows too" in report.stdout
    assert [finding["rule"] for finding in run(folder).to_json()["findings"]] == ["duplicates"]


def test_a_backtest_runs_by_time_with_a_gap(tmp_path: Path) -> None:
    options = ", split=pn.split.by_time(0.2, gap=timedelta(days=20), folds=3)"
    folder = write_project(tmp_path, rest=QUICK, options=options)
    system = folder / "system.py"
    system.write_text(
        "from datetime import timedelta\n" + system.read_text().replace("day: date", "day: Annotated[date, pn.Time]")
    )
    result = run(folder)
    assert result.to_json()["folds"]["kind"] == "rolling origin"
    parts = result.outputs["split"]
    assert parts["unused_rows"] > 0 and parts["train_rows"] + parts["test_rows"] + parts["unused_rows"] == 400
