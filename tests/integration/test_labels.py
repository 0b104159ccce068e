"""Rows out for people to label and their labels back: what is chosen, what is refused, and what is trained on."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from perron import bundle as bundles
from perron import predictions
from perron.batch import predict_source
from perron.errors import DataError, ModelError, NotFound, SourceError
from perron.labels.ask import Asked, ask
from perron.labels.take import Taken, take
from perron.project import Project
from perron.sink import open_sink
from perron.source import open_source
from perron.system import load_system
from tests.conftest import perron
from tests.integration.test_pipeline import declare, run, write_project

LOGISTIC = """
@system.model
def model(params):
    from sklearn.linear_model import LogisticRegression
    return LogisticRegression(max_iter=2000)
"""
RIDGE = """
@system.model
def model(params):
    from sklearn.linear_model import Ridge
    return Ridge()
"""
FIELDS = ["size", "weight", "kind", "code", "on", "day", "word", "key"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_project(tmp_path_factory.mktemp("labels") / "things", "label", LOGISTIC)
    declare(folder, "label", LOGISTIC)
    system = folder / "system.py"
    system.write_text(system.read_text().replace("word: str | None", "word: Annotated[str | None, pn.Sensitive]"))
    run(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "things"))


def unlabelled(folder: Path, rows: int = 40, size: float | None = None, name: str = "new.csv") -> Path:
    """A table like the project's, with other keys and without any target."""
    chance = np.random.default_rng(1)
    lines = [",".join(FIELDS)]
    for row in range(rows):
        number = chance.uniform(0, 9) if size is None else size
        lines.append(
            f"{number:.17g},{chance.normal():.17g},{'abc'[row % 3]},1,true,2024-03-01,secret{row},{9000 + row}"
        )
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def export(folder: Path, name: str = "tasks.csv", source: Path | None = None, **options: Any) -> Asked:
    project = Project.open(folder)
    try:
        opened = None if source is None else open_source(source)
        return ask(project, load_system(folder / "system.py"), opened, folder / name, **options)
    finally:
        project.ledger.close()


def bring(folder: Path, name: str) -> Taken:
    project = Project.open(folder)
    try:
        return take(project, load_system(folder / "system.py"), folder / name)
    finally:
        project.ledger.close()


def predict(folder: Path, rows: Path) -> list[str]:
    """The ids of the logged predictions of a batch."""
    project = Project.open(folder)
    row = project.ledger.get_version("things")
    bundle = bundles.load(project.ledger.bundle_path(row))
    predict_source(
        bundle, row["version"], open_source(rows), open_sink(str(folder / "out.csv")), log_folder=project.predictions,
        home=folder / "home", secret=project.secret,
    )  # fmt: skip
    project.ledger.close()
    return [made.id for made in predictions.iterate(project.predictions)]


def fill(path: Path, labels: list[str]) -> None:
    """Writes labels into the target's column of exported tasks, top down."""
    with path.open(newline="") as file:
        head, *rows = csv.reader(file)
    for row, label in zip(rows, labels, strict=False):
        row[head.index("label")] = label
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def table_of(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(folder / "data" / "labels.parquet").to_pylist()
    return found


# ------------------------------------------------------------------ which rows


def test_the_same_seed_chooses_the_same_rows_and_another_one_others(folder: Path) -> None:
    source = unlabelled(folder)
    first, again = (export(folder, f"{n}.csv", source, rows=10, seed=3) for n in "ab")
    other = export(folder, "c.csv", source, rows=10, seed=4)
    ids = [[task.id for task in asked.tasks] for asked in (first, again, other)]
    assert ids[0] == ids[1] != ids[2] and len(set(ids[0])) == 10
    assert (folder / "a.csv").read_text() == (folder / "b.csv").read_text()


def test_a_task_is_named_by_the_contracts_id_and_hides_what_is_sensitive(folder: Path) -> None:
    source = unlabelled(folder, 5)
    asked = export(folder, "tasks.jsonl", source)
    assert sorted(task.id for task in asked.tasks) == [str(9000 + row) for row in range(5)]
    assert "secret" not in (folder / "tasks.jsonl").read_text()
    export(folder, "open.jsonl", source, with_sensitive=True)
    assert "secret3" in (folder / "open.jsonl").read_text()


def test_the_uncertain_rows_are_those_with_the_least_margin(folder: Path) -> None:
    source = unlabelled(folder, 60)
    every = export(folder, "every.csv", source, rows=60)
    asked = export(folder, "few.csv", source, how="uncertainty", rows=10)

    def margin(shares: Any) -> float:
        first, second, *_ = sorted(shares.values(), reverse=True)
        return float(first - second)

    margins = {task.id: margin(task.shares) for task in every.tasks}
    assert [task.id for task in asked.tasks] == sorted(margins, key=lambda name: margins[name])[:10]
    assert asked.tasks[0].score == pytest.approx(1 - margins[asked.tasks[0].id], abs=1e-6)


def test_a_committee_disagrees_most_where_no_train_row_was(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "things", "number", RIDGE)
    run(folder)
    near, far = unlabelled(folder, 20, 4.5), unlabelled(folder, 3, 5000.0, "far.csv")
    lines = far.read_text().splitlines()[1:]
    renamed = [line.rsplit(",", 1)[0] + f",{20000 + place}" for place, line in enumerate(lines)]
    near.write_text(near.read_text() + "\n".join(renamed) + "\n")
    asked = export(folder, "tasks.csv", near, how="uncertainty", rows=3)
    assert {task.id for task in asked.tasks} == {"20000", "20001", "20002"}
    assert "five models" in asked.measure


def test_the_drifted_rows_come_first_and_a_sample_that_did_not_drift_says_so(folder: Path) -> None:
    rows = (folder / "things.csv").read_text().splitlines()
    alike = [f"{row.rsplit(',', 5)[0]},{9000 + n}" for n, row in enumerate(rows[1:201])]
    strange = [f"{500 + n},0,a,1,true,2024-03-01,w,{20000 + n}" for n in range(20)]
    (folder / "alike.csv").write_text("\n".join([",".join(FIELDS), *alike]) + "\n")
    (folder / "mixed.csv").write_text("\n".join([",".join(FIELDS), *alike, *strange]) + "\n")
    asked = export(folder, "m.csv", folder / "mixed.csv", how="drifted", rows=20)
    assert sum(int(task.id) >= 20000 for task in asked.tasks) >= 19
    same = export(folder, "s.csv", folder / "alike.csv", how="drifted", rows=20)
    assert same.auc is not None and 0.35 < same.auc < 0.62  # rows of the snapshot itself, which no one can tell apart
    (folder / "strange.csv").write_text("\n".join([",".join(FIELDS), *strange]) + "\n")
    other = export(folder, "o.csv", folder / "strange.csv", how="drifted", rows=20)
    assert other.auc is not None and other.auc > 0.95


def test_more_rows_than_there_are_gives_those_that_there_are(folder: Path) -> None:
    source = unlabelled(folder, 7)
    assert len(export(folder, "all.csv", source, rows=1_000_000).tasks) == 7
    said = perron("label", "export", "new.csv", "-o", "more.csv", "--rows", "50", cwd=folder).stdout
    assert "7 of 7 rows" in said and "50 were asked for; there are no more" in said


def test_rows_that_have_a_label_break_the_contract_or_are_doubles_are_counted_and_left_out(folder: Path) -> None:
    lines = unlabelled(folder, 6).read_text().splitlines()
    labelled = f"{lines[1].rsplit(',', 1)[0]},1,high"
    bad = "-1,0,a,1,true,2024-03-01,w,2,"
    (folder / "mixed.csv").write_text(
        "\n".join([lines[0] + ",label", *(f"{x}," for x in lines[1:]), lines[2] + ",", labelled, bad])
    )
    asked = export(folder, "t.csv", folder / "mixed.csv")
    assert (asked.seen, len(asked.tasks), asked.labelled, asked.broken, asked.doubles) == (9, 6, 1, 1, 1)


def test_two_different_rows_with_one_id_are_refused(folder: Path) -> None:
    lines = unlabelled(folder, 3).read_text().splitlines()
    (folder / "twice.csv").write_text("\n".join([*lines, "1,0,a,1,true,2024-03-01,w,9000"]) + "\n")
    with pytest.raises(DataError, match="Two different rows have the key '9000'"):
        export(folder, "t.csv", folder / "twice.csv")


def test_a_source_whose_rows_all_have_labels_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="400 rows none is without a label"):
        export(folder, "t.csv", folder / "things.csv")
    assert not (folder / "t.csv").exists()


def test_an_empty_log_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no logged prediction"):
        export(folder)


def test_uncertainty_needs_a_champion_with_probabilities(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "things", "label", "")
    source = unlabelled(folder, 5)
    with pytest.raises(NotFound, match="no champion"):
        export(folder, "t.csv", source, how="uncertainty")
    with pytest.raises(NotFound, match="no snapshot"):
        export(folder, "t.csv", source, how="drifted")
    assert [task.value for task in export(folder, "t.csv", source, rows=2).tasks] == [None, None]
    declare(folder, "label", "@system.model\ndef model(params):\n    from sklearn.svm import LinearSVC\n    return LinearSVC()\n",
            ', gates=[pn.gate("accuracy", at_least=0.1)]')  # fmt: skip
    run(folder)
    with pytest.raises(ModelError, match="gives no probabilities"):
        export(folder, "u.csv", source, how="uncertainty")


def test_a_contract_that_changed_since_the_champion_is_told(folder: Path) -> None:
    source = unlabelled(folder, 30)
    system = folder / "system.py"
    system.write_text(system.read_text().replace("on: bool", "on: bool | None"))
    with pytest.raises(ModelError, match="other fields"):
        export(folder, "t.csv", source, how="uncertainty")
    with pytest.raises(DataError, match="other fields"):
        export(folder, "t.csv", source, how="drifted")


def test_a_snapshot_that_was_removed_is_told(folder: Path) -> None:
    source = unlabelled(folder, 30)
    project = Project.open(folder)
    project.store.path(project.ledger.step_outputs("snapshot")[0]["output"]["digest"]).unlink()
    failed = perron("label", "export", source.name, "-o", "t.csv", "--how", "drifted", cwd=folder, check=False)
    assert failed.returncode == 1 and "The store has no blob" in failed.stderr and failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "t.xlsx"], "name a .csv, .jsonl or .json file"),
        (["-o", "nowhere/t.csv"], "there is no folder nowhere"),
        (["-o", "things.csv"], "may hold labels"),
        (["-o", "t.csv", "--config", "data"], "Can't write data"),
    ],
)
def test_what_can_not_be_written_is_one_line(folder: Path, words: list[str], said: str) -> None:
    unlabelled(folder, 3)
    (folder / "data").mkdir(exist_ok=True)
    failed = perron("label", "export", "new.csv", *words, cwd=folder, check=False)
    assert failed.returncode == 1 and said in failed.stderr and failed.stderr.count("\n") == 1


# ------------------------------------------------------------------ labels back


def test_labels_of_a_source_become_a_table_that_is_trained_on(folder: Path) -> None:
    export(folder, source=unlabelled(folder, 12), rows=12)
    fill(folder / "tasks.csv", ["high", "low", "mid", "low"])
    taken = bring(folder, "tasks.csv")
    assert (taken.labelled, taken.unlabelled, taken.rows_added, taken.table) == (4, 8, 4, "data/labels.parquet")
    rows = table_of(folder)
    assert [row["label"] for row in rows] == ["high", "low", "mid", "low"]
    assert all(row["word"].startswith("secret") for row in rows)  # whole, though people didn't see it
    declare_labels(folder)
    result = run(folder)
    assert result.to_json()["data"]["rows"] == 404
    alone = folder / "system.py"
    alone.write_text(
        alone.read_text().replace('"things.csv"', '"data/labels.parquet"').replace(', labels="data/labels.parquet"', "")
    )
    assert perron("check", cwd=folder).stdout.startswith("data/labels.parquet: passed")


def declare_labels(folder: Path) -> None:
    system = folder / "system.py"
    system.write_text(
        system.read_text().replace('source="things.csv"', 'source="things.csv", labels="data/labels.parquet"')
    )


def test_importing_twice_changes_nothing_and_a_newer_label_wins(folder: Path) -> None:
    export(folder, source=unlabelled(folder, 3))
    fill(folder / "tasks.csv", ["high", "low", "mid"])
    bring(folder, "tasks.csv")
    table = folder / "data" / "labels.parquet"
    before = (table.read_bytes(), table.stat().st_mtime_ns)
    again = bring(folder, "tasks.csv")
    assert (again.rows_added, again.rows_changed, again.unchanged) == (0, 0, 3)
    assert (table.read_bytes(), table.stat().st_mtime_ns) == before
    fill(folder / "tasks.csv", ["low"])
    third = bring(folder, "tasks.csv")
    assert (third.rows_added, third.rows_changed, third.unchanged) == (0, 1, 2)
    assert [row["label"] for row in table_of(folder)] == ["low", "low", "mid"]


def test_rows_that_were_labelled_are_not_asked_again(folder: Path) -> None:
    source = unlabelled(folder, 5)
    export(folder, source=source, rows=2)
    fill(folder / "tasks.csv", ["high", "low"])
    bring(folder, "tasks.csv")
    again = export(folder, "more.csv", source)
    assert len(again.tasks) == 3 and again.labelled == 2
    assert not {task.id for task in again.tasks} & {str(row["key"]) for row in table_of(folder)}


def test_a_labelled_row_replaces_the_sources_row_with_its_id(folder: Path) -> None:
    source = unlabelled(folder, 2)
    source.write_text(source.read_text().replace("9000", "7").replace("9001", "8"))
    export(folder, source=source)
    fill(folder / "tasks.csv", ["high", "high"])
    bring(folder, "tasks.csv")
    declare_labels(folder)
    found = run(folder).to_json()["data"]
    assert found["rows"] == 400
    rows = parquet.read_table(Project.open(folder).store.get(found["snapshot"])).to_pylist()
    assert [row["word"] for row in rows if row["key"] in (7, 8)] == ["secret0", "secret1"] or [
        row["word"] for row in rows if row["key"] in (7, 8)
    ] == ["secret1", "secret0"]


def test_a_run_notices_new_labels_and_says_what_is_missing(folder: Path) -> None:
    declare_labels(folder)
    with pytest.raises(SourceError, match=r"no file .*labels\.parquet"):
        run(folder)
    export(folder, source=unlabelled(folder, 4))
    fill(folder / "tasks.csv", ["high"])
    bring(folder, "tasks.csv")
    assert run(folder).to_json()["data"]["rows"] == 401
    fill(folder / "tasks.csv", ["high", "low"])
    bring(folder, "tasks.csv")
    assert run(folder).to_json()["data"]["rows"] == 402


def test_labels_of_logged_predictions_become_outcomes(folder: Path) -> None:
    ids = predict(folder, unlabelled(folder, 6))
    asked = export(folder)
    assert sorted(task.id for task in asked.tasks) == sorted(ids)
    assert all(task.value in ("high", "low", "mid") and task.shares for task in asked.tasks)
    assert {task.model for task in asked.tasks} == {"things version 1"}
    fill(folder / "tasks.csv", ["high", "low"])
    taken = bring(folder, "tasks.csv")
    assert (taken.outcomes, taken.rows_added, taken.table) == (2, 0, None)
    ledger = Project.open(folder).ledger
    assert ledger.get_outcome(asked.tasks[1].id)["value"] == "low"  # type: ignore[index]
    again = bring(folder, "tasks.csv")
    assert (again.outcomes, again.unchanged) == (0, 2)
    left = export(folder, "more.csv")
    assert (len(left.tasks), left.labelled) == (4, 2)


def test_the_logs_masked_values_are_neither_shown_nor_ranked_by(folder: Path) -> None:
    predict(folder, unlabelled(folder, 30))
    asked = export(folder, "open.jsonl", how="uncertainty", rows=5, with_sensitive=True)
    text = (folder / "open.jsonl").read_text()
    assert "secret" not in text and "hmac" not in text and asked.measure.endswith("as it was answered")
    assert [task.score for task in asked.tasks] == sorted((task.score or 0 for task in asked.tasks), reverse=True)
    with pytest.raises(DataError, match="The log keeps no value of word"):
        export(folder, "d.csv", how="drifted")
    (kept,) = (folder / ".perron" / "labels").glob("*.parquet")
    assert len(parquet.read_schema(kept).names) == 2


def test_a_prediction_that_was_never_exported_takes_a_label_by_its_id(folder: Path) -> None:
    ids = predict(folder, unlabelled(folder, 2))
    (folder / "own.jsonl").write_text(json.dumps({"task": ids[0], "label": "mid"}) + "\n")
    assert bring(folder, "own.jsonl").outcomes == 1


def test_every_bad_label_and_unknown_id_is_named_and_nothing_is_taken(folder: Path) -> None:
    export(folder, source=unlabelled(folder, 4))
    fill(folder / "tasks.csv", ["high", "huge", "low", "tiny"])
    (folder / "tasks.csv").write_text((folder / "tasks.csv").read_text() + "nobody,1,1,a,1,true,2024-01-01,5,x,high\n")
    failed = perron("label", "import", "tasks.csv", cwd=folder, check=False)
    lines = failed.stderr.splitlines()
    assert failed.returncode == 1 and len(lines) == 4
    assert 'got "huge" at rows[1].label' in lines[0] and 'got "tiny" at rows[3].label' in lines[1]
    assert 'got "nobody" at rows[4].task' in lines[2] and "3 faults" in lines[3]
    assert not (folder / "data").exists()
    rules = [
        f["rule"]
        for f in json.loads(perron("label", "import", "tasks.csv", "--json", cwd=folder, check=False).stdout)["faults"]
    ]
    assert rules == ["values", "values", "known"]


def test_a_row_that_lacks_what_training_needs_is_refused(folder: Path) -> None:
    """A row to predict may come without a Group; one to train on may not."""
    system = folder / "system.py"
    system.write_text(system.read_text().replace("on: bool", "on: Annotated[bool, pn.Group]"))
    source = unlabelled(folder, 2)
    source.write_text(source.read_text().replace("true,", ","))
    export(folder, source=source)
    fill(folder / "tasks.csv", ["high", "low"])
    taken = bring(folder, "tasks.csv")
    assert [fault.rule for fault in taken.faults] == ["contract", "contract"]
    assert "on: expected true or false" in taken.faults[0].message and not (folder / "data").exists()


def studio(task: str, *labels: Any, cancelled: int = 0) -> dict[str, Any]:
    """A task as Label Studio exports it."""
    annotations = [
        {"id": n, "was_cancelled": False, "completed_by": n, "result": [{"from_name": "label", "to_name": "row", "type": "choices", "value": {"choices": [x]}}]}
        for n, x in enumerate(labels)
    ]  # fmt: skip
    annotations += [{"id": 99, "was_cancelled": True, "result": []}] * cancelled
    return {"id": 1, "data": {"task": task, "row": {}}, "annotations": annotations, "predictions": []}


def test_label_studios_annotators_decide_by_majority(folder: Path) -> None:
    export(folder, "tasks.json", unlabelled(folder, 5))
    tasks = [
        studio("9000", "high", "high", "low"), studio("9001", "high", "low"), studio("9002", "mid", cancelled=2),
        studio("9003", cancelled=1), studio("9004"),
    ]  # fmt: skip
    (folder / "export.json").write_text(json.dumps(tasks))
    taken = bring(folder, "export.json")
    assert (taken.tasks, taken.labelled, taken.annotations, taken.cancelled) == (5, 2, 6, 3)
    assert (taken.disagreed, taken.tied, taken.unlabelled) == (2, ["9001"], 2)
    assert {row["key"]: row["label"] for row in table_of(folder)} == {9000: "high", 9002: "mid"}


def test_numbers_of_several_annotators_are_their_mean(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "things", "number", RIDGE)
    export(folder, "tasks.json", unlabelled(folder, 2))
    task = json.loads((folder / "tasks.json").read_text())[0]
    task["annotations"] = [
        {"result": [{"from_name": "y", "to_name": "row", "type": "number", "value": {"number": 3}}]},
        {"result": [{"from_name": "y", "to_name": "row", "type": "textarea", "value": {"text": ["4.5"]}}]},
    ]
    (folder / "export.json").write_text(json.dumps([task]))
    assert bring(folder, "export.json").disagreed == 1
    assert [row["y"] for row in table_of(folder)] == [3.75]


def test_flags_and_grades_come_back_in_the_targets_kind(tmp_path: Path) -> None:
    for target, label, expected in (("flag", "true", True), ("grade", "2", 2)):
        folder = write_project(tmp_path / target, target, LOGISTIC)
        export(folder, "tasks.jsonl", unlabelled(folder, 1))
        row = json.loads((folder / "tasks.jsonl").read_text())
        assert row[target] is None
        (folder / "back.json").write_text(json.dumps([{**row, target: json.loads(label)}]))
        bring(folder, "back.json")
        assert table_of(folder)[0][target] == expected


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("half.json", '[{"data": {"task": "9000"', "isn't whole JSON"),
        ("raw.json", '[{"data": {"task": "9000", "row": {}}, "predictions": []}]', "without annotations"),
        ("none.json", json.dumps([studio("9000")]), "has no label: 1 tasks"),
        ("empty.json", "[]", "holds no task"),
        ("object.json", "{}", "isn't a list of tasks"),
        ("nameless.json", '[{"data": {}, "annotations": []}]', "tasks[0] has no data.task"),
        ("half.jsonl", '{"task": "9000", "label": "high"}\n{"task": "90', "line 2 isn't whole JSON"),
        ("list.jsonl", "[1]\n", "line 1 isn't an object"),
        ("blank.csv", "task,label\n9000,\n", "has no label"),
        ("columns.csv", "task,lable\n9000,high\n", "no column 'label'; did you mean 'lable'?"),
        ("untasked.csv", "who,label\n9000,high\n", "no column 'task'"),
        ("head.csv", "task,label\n", "has no row"),
        ("labels.xlsx", "x", "can't read labels from"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_file_of_labels_is_one_line(folder: Path, name: str, text: str, said: str) -> None:
    export(folder, source=unlabelled(folder, 1))
    (folder / name).write_text(text)
    failed = perron("label", "import", name, cwd=folder, check=False)
    assert failed.returncode == 1 and said in failed.stderr and failed.stderr.count("\n") == 1
    assert not (folder / "data").exists()


def test_a_damaged_labelled_table_is_told_and_left_alone(folder: Path) -> None:
    export(folder, source=unlabelled(folder, 1))
    fill(folder / "tasks.csv", ["high"])
    (folder / "data").mkdir()
    (folder / "data" / "labels.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(SourceError, match="isn't a whole Parquet file"):
        bring(folder, "tasks.csv")
    assert (folder / "data" / "labels.parquet").read_bytes() == b"PAR1 half"


def test_labels_must_be_declared_as_a_parquet_file(folder: Path) -> None:
    system = folder / "system.py"
    system.write_text(system.read_text().replace('"things.csv"', '"things.csv", labels="labels.csv"'))
    assert "give the path of a Parquet file" in perron("check", cwd=folder, check=False).stderr
