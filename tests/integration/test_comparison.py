"""A model beside the champion: what is measured, what is said of it, and what of a model that was refused."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from perron.comparison import Comparison, compare_versions
from perron.errors import NotFound
from perron.pages.comparison import render, verdict
from perron.project import Project
from perron.system import load_system
from tests.integration.test_pipeline import declare, run, write_project

MODEL = "@system.model\ndef model(params):\n    from sklearn.{} as M\n    return M({})\n"
POOR = MODEL.format("dummy import DummyRegressor", "strategy='quantile', quantile=0.51")
GOOD = MODEL.format("linear_model import LinearRegression", "")
LOOSE = ', gates=[pn.gate("rmse", at_most=1000)]'


@contextmanager
def opened(folder: Path) -> Iterator[Project]:
    project = Project.open(folder)
    try:
        yield project
    finally:
        project.ledger.close()


def compared(folder: Path, version: str | None = None, against: str = "champion", calls: int = 5) -> Comparison:
    with opened(folder) as project:
        return compare_versions(project, load_system(folder / "system.py"), version, against, calls=calls)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("comparison") / "things", rest=POOR, options=LOOSE)
    run(folder)
    return folder


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A better model beside the poor one."""
    folder = Path(shutil.copytree(first, tmp_path_factory.mktemp("second") / "things"))
    declare(folder, rest=GOOD, options=LOOSE)
    run(folder)
    return folder


def test_the_first_model_stands_alone_beside_the_baseline(first: Path) -> None:
    found = compared(first)
    assert found.other is None and found.drifts is None and found.changes == ()
    assert verdict(found).startswith("✅ version 1 is the first: rmse ")
    text = render(found)
    assert "| metric | version 1 | naive baseline |" in text and "**Contract**" not in text


def test_a_better_model_is_told_with_intervals_of_both_and_of_the_difference(second: Path) -> None:
    found = compared(second, calls=40)
    score = found.deciding
    assert score is not None and score.name == "rmse" and score.says == "better"
    assert score.other is not None and score.difference == pytest.approx(score.value - score.other)
    for value, ends in (
        (score.value, score.interval),
        (score.other, score.other_interval),
        (score.difference, score.difference_interval),
    ):
        assert ends is not None and ends[0] < value < ends[1]
    assert found.candidate.version == 2 and found.other is not None and found.other.version == 1
    for side in (found.candidate, found.other):
        assert side.bytes and side.latency and 0 < side.latency.p50_ms <= side.latency.p99_ms and side.packages
    text = render(found)
    assert text.startswith("### things: ✅ version 2 is better than version 1: rmse ")
    assert "| gate | value | limit |" in text and "**Data**: the same " in text and "**Contract**: unchanged." in text
    assert "bundle | " in text and "one row, median" in text and "packages: the same" in text
    assert compared(second).to_json()["scores"] == found.to_json()["scores"]  # chance is the same each time


def test_the_other_way_round_it_is_worse(second: Path) -> None:
    found = compared(second, "1", against="2")
    assert found.deciding is not None and found.deciding.says == "worse"
    assert verdict(found).startswith("⚠️ version 1 is worse than version 2")


@pytest.mark.slow
def test_the_interval_holds_what_it_says_on_many_samples() -> None:
    """Of the mean absolute error of 200 rows, whose law is known: about 95 of 100 intervals hold the truth."""
    from perron.comparison import _draw, _evaluate, _Truths

    chance, held, truth = np.random.default_rng(1), 0, np.sqrt(2 / np.pi)
    for _ in range(30):
        errors = chance.normal(size=200)
        rows = _Truths(None, "", np.zeros(200), None)  # type: ignore[arg-type]
        side = (errors, None, ())
        drawn = _draw("regression", rows, [side])
        value = _evaluate("regression", rows, side, None)["mae"]
        ends = drawn.ends(value, [draw[0]["mae"] for draw in drawn.draws], drawn.whole[0]["mae"])
        assert ends is not None
        held += ends[0] <= truth <= ends[1]
    assert 24 <= held <= 30


def test_a_model_that_was_refused_is_scored_all_the_same_and_the_gate_named(second: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(second, tmp_path / "things"))
    declare(folder, rest=POOR.replace("0.51", "0.9"), options=', gates=[pn.gate("rmse", at_most=3)]')
    assert run(folder).status == "refused"
    found = compared(folder)
    assert found.is_refused and found.candidate.version is None and found.other is not None
    assert found.deciding is not None and found.deciding.interval and found.deciding.says == "worse"
    text = render(found)
    assert (
        "❌ refused, rmse at most 3 (" in text and "version 2 stays the champion" in text and "**not passed**" in text
    )
    assert found.drifts == () and "the same" in text


def test_a_model_that_was_made_again_is_told_as_such(second: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(second, tmp_path / "things"))
    with opened(folder) as project:
        place = project.ledger.bundle_path(project.ledger.get_version("things"))
        shutil.rmtree(place)  # so that it is packed again, under another run
    run(folder)
    with opened(folder) as project:
        versions = {row["version"] for row in project.ledger.list_versions("things")}
    assert versions == {1, 2, 3}
    found = compared(folder)  # held to what the champion before the twin was
    assert found.other is not None and found.other.version == 1 and not found.is_same


def test_a_changed_contract_and_moved_data_are_told_with_what_they_break(second: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(second, tmp_path / "things"))
    lines = (folder / "things.csv").read_text().splitlines()
    head = lines[0].split(",")
    place = head.index("size")
    moved = [line.split(",") for line in lines[1:]]
    for row in moved:
        row[place] = str(float(row[place]) * 3 + 20)
    (folder / "things.csv").write_text("\n".join([lines[0], *(",".join(row) for row in moved)]) + "\n")
    text = (folder / "system.py").read_text()
    (folder / "system.py").write_text(
        text.replace("size: Annotated[float, pn.Ge(0)]", "size: Annotated[float, pn.Ge(10)]")
    )
    run(folder)
    found = compared(folder)
    assert any(drift.column == "size" for drift in found.drifts or ()) and found.bump == "major"
    page = render(found)
    assert "**it breaks the API's clients**" in verdict(found) and verdict(found).startswith("⚠️")
    assert "| size | distribution |" in page and "the data moved far in" in page and "Semantic version: major." in page


def test_without_the_runs_rows_the_recorded_metrics_stand(second: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(second, tmp_path / "things"))
    with opened(folder) as project:
        found = project.ledger.step_outputs("snapshot")[0]["output"]["digest"]
        project.store.path(found).unlink()
    found_ = compared(folder)
    assert found_.recorded and found_.deciding is not None and found_.deciding.interval is None
    assert "As recorded: the test rows aren't here" in render(found_)


def test_a_champion_that_cant_read_the_rows_stands_by_its_record(second: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(second, tmp_path / "things"))
    for name in ("things.csv", "system.py"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("size", "length"))
    run(folder)
    found = compared(folder)
    assert found.unread is not None and found.deciding is not None
    assert found.deciding.other is not None and found.deciding.difference is None
    assert "stands beside version 2" in verdict(found) and "it can't read these rows" in render(found)


@pytest.mark.parametrize("target", ["label", "flag"])
def test_classes_are_compared_too(target: str, tmp_path: Path) -> None:
    folder = write_project(tmp_path / "things", target=target)
    run(folder)
    declare(folder, target, rest=MODEL.format("linear_model import LogisticRegression", "max_iter=2000"))
    run(folder)
    found = compared(folder)
    assert {"accuracy", "log_loss"} <= {score.name for score in found.scores}
    assert all(score.interval for score in found.scores)


def test_what_isnt_there_is_named(first: Path, tmp_path: Path) -> None:
    for version, against in (("9", "champion"), (None, "9"), (None, "chalenger")):
        with pytest.raises(NotFound, match="has no version"):
            compared(first, version, against)
    with pytest.raises(NotFound, match="`perron run` makes one"):
        compared(write_project(tmp_path / "things"))


def test_names_from_the_data_make_no_markup(second: Path) -> None:
    from dataclasses import replace

    from perron.drift import Drift

    odd = Drift("a|b <img> @ann", "distribution", 0.5, 0.0, "high", "from *x* to `y`\n# z")
    found = compared(second)
    assert found.other is not None
    page = render(replace(found, drifts=(odd,), candidate=replace(found.candidate, snapshot="other")))
    (line,) = [line for line in page.splitlines() if "img" in line]
    assert "a\\|b \\<img> @\u200bann" in line and "\\*x\\*" in line and "\\`y\\` \\# z" in line
