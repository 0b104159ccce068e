"""Cleaning through the pipeline: learnt from train rows alone, part of the key, served as trained."""

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import perron as pn
from perron import bundle as bundles
from perron.errors import DataError
from perron.pipeline import Result, run_pipeline
from perron.project import Project
from perron.snapshot import read_snapshot
from perron.split.rows import TEST, split_rows
from perron.system import load_system
from perron.train import Fitted, load_fitted
from tests.integration.test_pipeline import done, run, write_project

CLEANING = """, split=pn.split.random(seed=1), params={"n_estimators": 20}, cleaning=[
    cleaning.impute("weight", "mean", indicator=True),
    cleaning.clip("size", low=0.05, high=0.95),
    cleaning.group_rare("kind", most=2),
    cleaning.impute("code", "most_frequent"),
    cleaning.date_parts("day", ("month", "day_of_year"), cyclic=True),
    cleaning.tf_idf("word", most=3),
    cleaning.text_hash("word", columns=8),
]"""
FEATURES = """
    @system.features
    def features(xp, c):
        return {"ratio": c.weight / c.size, "is_a": c.kind == "a", "coded": c.code * 2}
"""


def write(folder: Path, target: str = "number", rest: str = "", options: str = CLEANING) -> Path:
    """The project of the pipeline's tests, with cleaning."""
    path = write_project(folder, target, rest, options) / "system.py"
    path.write_text(path.read_text().replace("import perron as pn", "import perron as pn\nfrom perron import cleaning"))
    return folder


def fitted_of(folder: Path, result: Result) -> Fitted:
    project = Project.open(folder)
    try:
        return load_fitted(project.store.get(result.outputs["train"]["digest"]))
    finally:
        project.ledger.close()


def states(folder: Path, result: Result) -> list[Any]:
    return [(cleaner.declared, dict(cleaner.state)) for cleaner in fitted_of(folder, result).cleaners]


def rows_of(folder: Path, result: Result) -> Any:
    project = Project.open(folder)
    try:
        return read_snapshot(project.store, result.outputs["snapshot"]["digest"])
    finally:
        project.ledger.close()


@pytest.mark.parametrize("target", ["number", "label"])
def test_the_bundle_answers_as_the_trained_model(tmp_path: Path, target: str) -> None:
    result = run(write(tmp_path, target, FEATURES))
    assert result.status == "done"
    assert result.outputs["bundle"]["parity"]["max_relative_error"] < 1e-9
    fitted, table = fitted_of(tmp_path, result), rows_of(tmp_path, result).slice(0, 60)
    bundle = bundles.load(tmp_path / result.outputs["bundle"]["folder"])
    names = [field.name for field in fitted.schema.features]
    rows = [
        {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()}
        for row in table.select(names).to_pylist()
    ]
    values, probabilities = fitted.predict(table)
    answers = bundle.predict(rows)
    if probabilities is None:
        np.testing.assert_allclose([answer["value"] for answer in answers], values, rtol=1e-9)
    else:
        assert [answer["value"] for answer in answers] == values.tolist()
        found = [list(answer["probabilities"].values()) for answer in answers]
        np.testing.assert_allclose(found, probabilities, rtol=1e-9)


def test_test_rows_do_not_change_what_is_learnt(tmp_path: Path) -> None:
    folder = write(tmp_path, rest=FEATURES)
    first = run(folder)
    system = load_system(folder / "system.py")
    is_test = split_rows(system.split, rows_of(folder, first), system.schema) == TEST
    lines = (folder / "things.csv").read_text().splitlines()
    for place in np.flatnonzero(is_test) + 1:
        cells = lines[place].split(",")
        cells[:7] = ["900", "-5000", "c", "3", "false", "1999-12-31", "other words"]
        lines[place] = ",".join(cells)
    (folder / "things.csv").write_text("\n".join(lines) + "\n")
    second = run(folder)
    assert "train" in done(second)
    assert 0 < is_test.sum() < len(is_test)
    assert states(folder, first) == states(folder, second)
    train = [line.split(",") for line, test in zip(lines[1:], is_test, strict=True) if not test]
    weights = [float(cells[1]) for cells in train if cells[1]]
    assert states(folder, first)[0][1]["value"] == pytest.approx(np.mean(weights), rel=1e-12)


def test_changing_a_declaration_trains_again_and_nothing_else_does(tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert "train" in done(run(folder))
    write(tmp_path, options=CLEANING.replace("most=2", "most=1 + 1"))
    assert done(run(folder)) == []
    for old, new in (("high=0.95", "high=0.9"), ("most=3", "most=2"), ("cyclic=True", "cyclic=False")):
        write(tmp_path, options=CLEANING.replace(old, new))
        steps = done(run(folder))
        assert "train" in steps
        assert not {"snapshot", "split"}.intersection(steps)
    write(tmp_path)
    assert "train" not in done(run(folder))


def test_each_fold_learns_from_its_own_rows(tmp_path: Path) -> None:
    options = CLEANING.replace("random(seed=1)", "random(seed=1, folds=3)")
    result = run(write(tmp_path, rest=FEATURES, options=options))
    assert len(result.outputs["evaluate"]["folds"]["metrics"]["rmse"]["values"]) == 3


@pytest.mark.parametrize(
    "word", ["", "␀", "w1", "W1!", "no such word", "x" * 100_000, "w1 " * 35_000, "\x00\n\u2028", None]
)
def test_any_text_has_an_answer(tmp_path_factory: pytest.TempPathFactory, word: str | None) -> None:
    folder = tmp_path_factory.getbasetemp() / "any-text"
    result = run(folder if folder.exists() else write(folder))
    bundle = bundles.load(folder / result.outputs["bundle"]["folder"])
    row = {"size": 1.0, "weight": None, "kind": "a", "code": None, "on": True, "day": "2024-05-05", "word": word}
    assert np.isfinite(bundle.predict([row])[0]["value"])


def test_a_column_without_values_stops_the_run_in_words(tmp_path: Path) -> None:
    folder = write(tmp_path)
    lines = [line.split(",") for line in (folder / "things.csv").read_text().splitlines()]
    empty = [",".join([cells[0], "", *cells[2:]]) for cells in lines[1:]]
    (folder / "things.csv").write_text("\n".join([",".join(lines[0]), *empty]) + "\n")
    with pytest.raises(DataError, match="weight has no value in the train rows, so no mean to impute"):
        run(folder)


class House(pn.Contract):
    total_bedrooms: float | None
    total_rooms: float
    households: float
    median_income: float
    ocean_proximity: str
    city: str | None
    when: datetime
    title: str | None
    price: Annotated[float, pn.Target]


def test_the_examples_of_the_page_make_a_bundle(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "features.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    lines = [",".join(House.__annotations__)]
    for row in range(200):
        title = " ".join(["cosy", "a house", "By the Sea!", "large"][: row % 5])
        cells = ["" if row % 9 == 0 else row % 7, row % 11 + 1, row % 3 + 1, row / 50, ["INLAND", "NEAR BAY"][row % 2]]
        cells += [["Oslo", "Rome", ""][row % 3], f"2024-{row % 12 + 1:02d}-01T{row % 24:02d}:00:00", title]
        lines.append(",".join(map(str, [*cells, row % 11 + 5 * (row % 5)])))
    (tmp_path / "houses.csv").write_text("\n".join(lines) + "\n")
    system = pn.System("houses", House, source="houses.csv", cleaning=names["steps"], params={"n_estimators": 20})
    system.features(names["features"])
    project = Project.open(tmp_path)
    try:
        result = run_pipeline(system, project)
    finally:
        project.ledger.close()
    assert result.status == "done"
    assert result.outputs["bundle"]["parity"]["max_relative_error"] < 1e-9
