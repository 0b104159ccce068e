"""The pipeline: what is done again and what isn't, gates, parity, and what a broken part says."""

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perron import bundle as bundles
from perron import steps
from perron.errors import BundleError, DataError, FeatureError, ModelError, ParityError, PerronError
from perron.pipeline import Result, run_pipeline
from perron.project import Project
from perron.system import load_system
from tests.conftest import perron

ROWS = 400
HEAD = """
from datetime import date, datetime
from typing import Annotated, Literal
import perron as pn

class Thing(pn.Contract):
    size: Annotated[float, pn.Ge(0)]
    weight: float | None
    kind: Literal["a", "b", "c"]
    code: Literal[1, 2, 3] | None
    on: bool
    day: date
    word: str | None
    key: Annotated[int, pn.Id]
    {target}

"""
TARGETS = {
    "number": "y: Annotated[float, pn.Target]",
    "label": 'label: Annotated[Literal["high", "low", "mid"], pn.Target]',
    "flag": "flag: Annotated[bool, pn.Target]",
    "grade": "grade: Annotated[Literal[1, 2], pn.Target]",
}


def write_project(folder: Path, target: str = "number", rest: str = "", options: str = "", rows: int = ROWS) -> Path:
    """A project on a small table with a column of every kind, nulls in some of them."""
    chance = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    lines = ["size,weight,kind,code,on,day,word,key,y,label,flag,grade"]
    for row in range(rows):
        size, weight, kind = chance.uniform(0, 9), chance.normal(), "abc"[row % 3]
        y = 3 * size + 2 * weight + "abc".index(kind) + 0.1 * chance.normal()
        cells = [
            f"{size:.17g}", "" if row % 7 == 0 else f"{weight:.17g}", kind, "" if row % 11 == 0 else row % 3 + 1,
            ["true", "false"][row % 2], f"2024-{row % 12 + 1:02d}-{row % 28 + 1:02d}", "" if row % 5 == 0 else f"w{row % 4}", row,
            f"{y:.17g}", ["low", "mid", "high"][int(np.searchsorted([9, 18], y))], str(y > 12).lower(), 1 + (y > 15),
        ]  # fmt: skip
        lines.append(",".join(map(str, cells)))
    (folder / "things.csv").write_text("\n".join(lines) + "\n")
    declare(folder, target, rest, options)
    return folder


def declare(folder: Path, target: str = "number", rest: str = "", options: str = "") -> None:
    system = f'system = pn.System("things", Thing, source="things.csv"{options})\n'
    (folder / "system.py").write_text(HEAD.format(target=TARGETS[target]) + system + textwrap.dedent(rest))


def run(folder: Path) -> Result:
    project = Project.open(folder)
    try:
        return run_pipeline(load_system(folder / "system.py"), project)
    finally:
        project.ledger.close()


def done(result: Result) -> list[str]:
    return [step["name"] for step in result.steps if step["status"] == "done"]


MODELS = {
    "default": "",
    "linear": "from sklearn.linear_model import LinearRegression as M",
    "ridge": "from sklearn.linear_model import Ridge as M",
    "forest": "from functools import partial\nfrom sklearn.ensemble import RandomForestRegressor as R\nM = partial(R, n_estimators=20)",
    "boosting": "from sklearn.ensemble import GradientBoostingRegressor as M",
    "hist": "from sklearn.ensemble import HistGradientBoostingRegressor as M",
    "lightgbm": "from functools import partial\nfrom lightgbm import LGBMRegressor\nM = partial(LGBMRegressor, n_estimators=50, verbose=-1)",
}
CLASSIFIERS = {
    "default": "",
    "logistic": "from functools import partial\nfrom sklearn.linear_model import LogisticRegression\nM = partial(LogisticRegression, max_iter=2000)",
    "forest": "from functools import partial\nfrom sklearn.ensemble import RandomForestClassifier as R\nM = partial(R, n_estimators=20)",
    "boosting": "from functools import partial\nfrom sklearn.ensemble import GradientBoostingClassifier as G\nM = partial(G, n_estimators=20)",
    "hist": "from sklearn.ensemble import HistGradientBoostingClassifier as M",
    "lightgbm": "from functools import partial\nfrom lightgbm import LGBMClassifier\nM = partial(LGBMClassifier, n_estimators=30, verbose=-1)",
}
FEATURES = """
    @system.features
    def features(xp, c):
        return {
            "root": xp.sqrt(c.size),
            "ratio": c.weight / (c.size - c.size),
            "is_a": c.kind == "a",
            "big": xp.where(c.size > 4.5, c.size, 0.0),
            "coded": c.code * 2,
        }
"""


def own(model: str) -> str:
    return (
        model
        and f"\n{textwrap.indent(model, '    ')}\n\n    @system.model\n    def model(params):\n        return M(**params)\n"
    )


@pytest.mark.parametrize("model", MODELS)
def test_every_kind_of_regressor_is_served_exactly(tmp_path: Path, model: str) -> None:
    result = run(write_project(tmp_path, "number", own(MODELS[model]) + FEATURES))
    parity = result.to_json()["parity"]
    assert parity["rows"] == ROWS // 5 and parity["max_relative_error"] <= 1e-9
    assert result.to_json()["metrics"]["r2"] > 0.8


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_every_kind_of_classifier_is_served_exactly(tmp_path: Path, model: str) -> None:
    result = run(write_project(tmp_path, "label", own(CLASSIFIERS[model]) + FEATURES)).to_json()
    assert result["parity"]["labels_equal"] is True and result["parity"]["max_relative_error"] <= 1e-9
    assert result["metrics"]["accuracy"] > result["baseline"]["accuracy"]


@pytest.mark.parametrize(
    ("target", "classes"), [("label", ["high", "low", "mid"]), ("flag", [False, True]), ("grade", [1, 2])]
)
def test_classes_keep_their_type_from_the_table_to_the_answer(tmp_path: Path, target: str, classes: list[Any]) -> None:
    result = run(write_project(tmp_path, target))
    bundle = bundles.load(tmp_path / result.outputs["bundle"]["folder"])
    assert bundle.classes == classes
    answer = bundle.predict(bundle.sample["rows"])[0]
    assert answer["value"] in classes and type(answer["value"]) is type(classes[0])
    assert list(answer["probabilities"]) == [c if isinstance(c, str) else json.dumps(c) for c in classes]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_unseen_categories_and_nulls_are_answered_as_the_model_does(tmp_path: Path) -> None:
    result = run(write_project(tmp_path, "number"))
    bundle = bundles.load(tmp_path / result.outputs["bundle"]["folder"])
    row = {"size": 1.0, "kind": "a", "on": True, "day": "2031-01-31"}
    given = [row, {**row, "word": "never seen"}, {**row, "weight": None, "code": 3, "word": None}]
    values = [answer["value"] for answer in bundle.predict(given)]
    assert len(values) == 3 and np.isfinite(values).all()


def test_a_change_redoes_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    write_project(tmp_path)
    everything = ["snapshot", "split", "train", "evaluate", "gates", "reference", "bundle", "register"]
    assert done(run(tmp_path)) == everything
    assert done(run(tmp_path)) == []
    project = Project.open(tmp_path)
    first, second = project.ledger.list_runs()
    project.ledger.close()
    assert first["metrics"] == second["metrics"] and "rmse" in first["metrics"]
    declare(tmp_path, rest="# only a comment\n")
    assert done(run(tmp_path)) == []
    declare(tmp_path, options=', gates=[pn.gate("rmse", at_most=99)]')
    assert done(run(tmp_path)) == ["gates", "register"]
    declare(tmp_path, options=', params={"num_leaves": 7}')
    assert done(run(tmp_path)) == everything[2:]
    declare(tmp_path, options=", split=pn.split.random(test=0.3, seed=1)")
    assert done(run(tmp_path)) == everything[1:]
    with (tmp_path / "things.csv").open("a") as file:
        file.write("1,2,a,1,true,2024-01-01,w,9999,5,low,true,1\n")
    assert done(run(tmp_path))[:3] == ["snapshot", "split", "train"]


def test_the_users_helper_functions_count_as_code(tmp_path: Path) -> None:
    rest = """
        from helper import double

        @system.features
        def features(xp, c):
            return {"twice": double(c.size)}
    """
    write_project(tmp_path, rest=rest)
    (tmp_path / "helper.py").write_text("def double(x):\n    return x * 2\n")
    perron("run", cwd=tmp_path)
    assert "train        cached" in perron("run", cwd=tmp_path).stderr
    (tmp_path / "helper.py").write_text("def double(x):\n    return x * 2.5\n")
    again = perron("run", cwd=tmp_path).stderr
    assert "split        cached" in again and "train        cached" not in again


def test_a_blob_that_was_deleted_is_made_again(tmp_path: Path) -> None:
    first = run(write_project(tmp_path))
    digest = first.outputs["snapshot"]["digest"]
    (tmp_path / ".perron" / "store" / digest[:2] / digest[2:]).unlink()
    again = run(tmp_path)
    assert done(again) == ["snapshot"] and again.outputs["snapshot"]["digest"] == digest


def test_going_back_to_an_earlier_declaration_makes_its_model_champion_again(tmp_path: Path) -> None:
    write_project(tmp_path)
    assert run(tmp_path).outputs["register"]["version"] == 1
    declare(tmp_path, options=', params={"num_leaves": 4}')
    assert run(tmp_path).outputs["register"]["version"] == 2
    declare(tmp_path)
    run(tmp_path)
    project = Project.open(tmp_path)
    assert project.ledger.get_version("things")["version"] == 1
    project.ledger.close()


def test_a_gate_refuses_a_model_and_nothing_is_registered(tmp_path: Path) -> None:
    write_project(tmp_path, options=', gates=[pn.gate("rmse", at_most=0.0001), pn.gate("r2", at_least=0)]')
    finished = perron("run", "--json", cwd=tmp_path, check=False)
    found = json.loads(finished.stdout)
    assert finished.returncode == 3 and found["status"] == "refused"
    assert [gate["passed"] for gate in found["gates"]] == [False, True]
    assert found["model"] == {"name": "things", "version": None, "champion": None} and found["parity"] is None
    assert json.loads(perron("models", "--json", cwd=tmp_path).stdout) == []


def test_a_worse_model_does_not_replace_the_champion(tmp_path: Path) -> None:
    gate = ', gates=[pn.gate.no_worse_than_champion("rmse")]'
    write_project(tmp_path, options=gate)
    first = run(tmp_path)
    assert first.status == "done" and first.outputs["gates"]["gates"][0]["limit"] is None
    assert done(run(tmp_path)) == []  # the champion is the candidate itself: nothing to compare anew
    declare(tmp_path, options=gate + ', params={"n_estimators": 1}')
    worse = run(tmp_path)
    verdict = worse.outputs["gates"]["gates"][0]
    assert worse.status == "refused" and verdict["limit"] == pytest.approx(first.outputs["evaluate"]["metrics"]["rmse"])
    project = Project.open(tmp_path)
    assert project.ledger.get_version("things")["version"] == 1
    project.ledger.close()


def test_a_graph_that_answers_otherwise_is_refused_with_the_worst_rows(tmp_path: Path) -> None:
    rest = """
        @system.features
        def features(xp, c):
            import numpy
            return {"twisted": c.size * (2.0 if xp is numpy else 2.1)}
    """
    write_project(tmp_path, rest=rest)
    with pytest.raises(
        ParityError, match=r"^The graph doesn't answer as the trained model does .* test row \d+: model .*, graph .*"
    ):
        run(tmp_path)
    assert not list((tmp_path / ".perron" / "bundles").glob("*"))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ('return {"a": c.sise}', "has no attribute 'sise'; the contract's features are size, weight"),
        ("return c.size", "it must give a dict"),
        ('return {"size": c.size}', "which the contract has already"),
        ('return {"a": xp.sum(c.size)}', "isn't an array with one value per row"),
        ('return {"a": c.size[:3]}', "has 3 values for"),
        ('return {"a": c.kind}', "isn't numeric"),
        ("raise RuntimeError('no')", "failed: RuntimeError: no"),
    ],
)
def test_a_features_function_that_fails_is_one_clear_line(tmp_path: Path, features: str, words: str) -> None:
    write_project(tmp_path, rest=f"\n    @system.features\n    def features(xp, c):\n        {features}\n")
    with pytest.raises(PerronError) as raised:
        run(tmp_path)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_features_that_cannot_be_traced_say_so(tmp_path: Path) -> None:
    rest = "\n    @system.features\n    def features(xp, c):\n        import numpy\n        return {'a': numpy.convolve(c.size, [1.0], 'same')}\n"
    write_project(tmp_path, rest=rest)
    with pytest.raises(FeatureError, match="can't be traced into the graph"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("return 3", "gave int; it must give an unfitted"),
        ("from sklearn.linear_model import LogisticRegression as M; return M()", "isn't a regressor"),
        ("return M()", "The model function failed: NameError"),
        ("from sklearn.svm import SVR; return SVR()", "can't be exported exactly"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_clear_line(tmp_path: Path, model: str, words: str) -> None:
    write_project(tmp_path, rest=f"\n    @system.model\n    def model(params):\n        {model}\n")
    with pytest.raises(ModelError) as raised:
        run(tmp_path)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_rows_that_break_the_contract_are_quarantined_with_the_rule(tmp_path: Path) -> None:
    write_project(tmp_path)
    with (tmp_path / "things.csv").open("a") as file:
        file.write("-1,2,z,1,true,2024-01-01,w,9999,5,low,true,1\n")
    found = run(tmp_path).to_json()["data"]
    assert (found["rows"], found["quarantined"]) == (ROWS, 1)
    digest = found["quarantine"]
    text = (tmp_path / ".perron" / "store" / digest[:2] / digest[2:]).read_text()
    assert "size: expected a number ≥ 0; kind: expected one of 'a', 'b', 'c'" in text and text.count("\n") == 2


def test_too_many_bad_rows_stop_the_run(tmp_path: Path) -> None:
    write_project(tmp_path, options=", max_bad_share=0.01")
    with (tmp_path / "things.csv").open("a") as file:
        file.writelines(f"-1,2,a,1,true,2024-01-01,w,{row},5,low,true,1\n" for row in range(10))
    with pytest.raises(
        DataError, match=r"10 of 410 rows break the contract \(2\.4%, more than 1\.0%\): 10 × Expected a number ≥ 0"
    ):
        run(tmp_path)
    project = Project.open(tmp_path)
    newest = project.ledger.list_runs()[0]
    assert newest["status"] == "failed" and "10 of 410" in newest["message"]
    project.ledger.close()


def test_every_file_of_a_bundle_is_guarded_by_its_hash(tmp_path: Path) -> None:
    result = run(write_project(tmp_path))
    folder = tmp_path / result.outputs["bundle"]["folder"]
    digest = result.outputs["bundle"]["digest"]
    bundles.load(folder, digest)
    (folder / "extra.txt").write_text("x")
    with pytest.raises(BundleError, match="'extra.txt', which isn't in its manifest"):
        bundles.load(folder)
    (folder / "extra.txt").unlink()
    for name in ("model.onnx", "contract.json", "sample.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1] + b"?")
        with pytest.raises(BundleError, match=f"{name} was changed"):
            bundles.load(folder)
        (folder / name).write_bytes(whole)
    (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes() + b" ")
    with pytest.raises(BundleError, match="was changed after it was registered"):
        bundles.load(folder, digest)
    with pytest.raises(BundleError, match="isn't a bundle"):
        bundles.load(tmp_path)


def test_a_loaded_bundle_predicts_in_process_and_names_bad_fields(tmp_path: Path) -> None:
    import perron as pn

    result = run(write_project(tmp_path, "label"))
    bundle = pn.load(tmp_path / result.outputs["bundle"]["folder"])
    assert bundle.predict([]) == []
    with pytest.raises(DataError, match=r"Expected a number ≥ 0, got -1 at rows\[0\]\.size \(and 1 more\)"):
        bundle.predict([{**bundle.sample["rows"][0], "kind": "z", "size": -1}])


def test_every_step_of_the_pipeline_has_its_function() -> None:
    from perron.pipeline import STEPS

    assert {step.name for step in STEPS} == set(steps.__all__)


def test_fields_may_have_the_names_of_the_graphs_outputs(tmp_path: Path) -> None:
    rows = "\n".join(f"{row % 17},{row % 5},{'ab'[row % 17 > 8]}" for row in range(200))
    (tmp_path / "t.csv").write_text("value,probabilities,label\n" + rows + "\n")
    perron("init", "names", "--from", "t.csv", "--target", "label", "--no-git", cwd=tmp_path)
    found = json.loads(perron("run", "--json", cwd=tmp_path / "names").stdout)
    assert found["parity"]["labels_equal"] is True


def test_a_system_of_text_alone_is_trained_and_served(tmp_path: Path) -> None:
    rows = "\n".join(f"w{row % 4},{'no' if row % 4 else 'yes'}" for row in range(200))
    (tmp_path / "t.csv").write_text("word,label\n" + rows + "\n")
    perron("init", "words", "--from", "t.csv", "--target", "label", "--no-git", cwd=tmp_path)
    found = json.loads(perron("run", "--json", cwd=tmp_path / "words").stdout)
    assert found["metrics"]["accuracy"] == 1.0


def test_a_change_of_test_rows_alone_is_evaluated_and_traced_anew(tmp_path: Path) -> None:
    write_project(tmp_path)
    first = run(tmp_path)
    is_test = steps_split(tmp_path, first)
    lines = (tmp_path / "things.csv").read_text().splitlines()
    for row in np.flatnonzero(is_test):
        cells = lines[row + 1].split(",")
        cells[8] = "1000"  # y
        lines[row + 1] = ",".join(cells)
    (tmp_path / "things.csv").write_text("\n".join(lines) + "\n")
    again = run(tmp_path)
    assert {"evaluate", "bundle"} <= {
        step["name"] for step in again.steps if step["status"] == "done"
    } or again.status == "refused"
    assert again.outputs["evaluate"]["metrics"]["rmse"] > 10 * first.outputs["evaluate"]["metrics"]["rmse"]


def steps_split(folder: Path, result: Result) -> Any:
    project = Project.open(folder)
    packed = np.frombuffer(project.store.get(result.outputs["split"]["digest"]).read_bytes(), np.uint8)
    project.ledger.close()
    return np.unpackbits(packed, count=result.outputs["snapshot"]["rows"]).astype(bool)


@pytest.mark.parametrize("feature", ["c.size - xp.mean(c.size)", "xp.cumulative_sum(c.size)", "xp.flip(c.size)"])
def test_a_feature_that_looks_at_other_rows_is_refused(tmp_path: Path, feature: str) -> None:
    write_project(
        tmp_path, rest=f"\n    @system.features\n    def features(xp, c):\n        return {{'f': {feature}}}\n"
    )
    with pytest.raises(PerronError, match=r"depends on the rows beside it|doesn't answer as the trained model"):
        run(tmp_path)


def test_a_features_function_cannot_change_the_row(tmp_path: Path) -> None:
    write_project(
        tmp_path,
        rest="\n    @system.features\n    def features(xp, c):\n        c.size[0] = 100.0\n        return {'f': c.size}\n",
    )
    with pytest.raises(FeatureError, match="read-only"):
        run(tmp_path)


def champion(folder: Path) -> int:
    project = Project.open(folder)
    try:
        return int(project.ledger.get_version("things")["version"])
    finally:
        project.ledger.close()


def test_going_back_and_forth_always_ends_with_the_champion_that_was_declared(tmp_path: Path) -> None:
    write_project(tmp_path)
    found = []
    for options in ("", ', params={"num_leaves": 4}', "", ', params={"num_leaves": 4}'):
        declare(tmp_path, options=options)
        result = run(tmp_path)
        assert champion(tmp_path) == result.outputs["register"]["version"] == result.champion
        found.append(champion(tmp_path))
    assert found == [1, 2, 1, 2]


def test_a_champion_that_a_person_chose_is_kept_by_a_run_with_nothing_new(tmp_path: Path) -> None:
    write_project(tmp_path)
    run(tmp_path)
    declare(tmp_path, options=', params={"num_leaves": 4}')
    run(tmp_path)
    perron("promote", "1", "--reason", "2 misbehaves", cwd=tmp_path)
    said = perron("run", cwd=tmp_path).stdout
    assert champion(tmp_path) == 1 and "version 2 is registered; version 1 was made champion by hand" in said


@pytest.mark.parametrize("damage", ["remove", "change"])
def test_a_damaged_bundle_is_made_again(tmp_path: Path, damage: str) -> None:
    write_project(tmp_path)
    first = run(tmp_path)
    graph = tmp_path / first.outputs["bundle"]["folder"] / "model.onnx"
    if damage == "remove":
        graph.unlink()
    else:
        graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    again = run(tmp_path)
    assert "bundle" in done(again)
    project = Project.open(tmp_path)
    row = project.ledger.get_version("things")
    bundles.load(project.ledger.bundle_path(row), row["bundle"])
    project.ledger.close()


def test_a_damaged_blob_is_removed_and_made_again(tmp_path: Path) -> None:
    write_project(tmp_path)
    digest = run(tmp_path).outputs["snapshot"]["digest"]
    blob = tmp_path / ".perron" / "store" / digest[:2] / digest[2:]
    blob.write_bytes(blob.read_bytes()[:100])
    declare(tmp_path, options=", seed=5")
    with pytest.raises(PerronError, match=r"was damaged and is removed; run again"):
        run(tmp_path)
    assert "snapshot" in done(run(tmp_path))


def test_answers_that_are_not_finite_are_never_given(tmp_path: Path) -> None:
    rest = own(CLASSIFIERS["logistic"])
    result = run(write_project(tmp_path, "label", rest))
    bundle = bundles.load(tmp_path / result.outputs["bundle"]["folder"])
    row = {**bundle.sample["rows"][0], "size": 1.7e308, "weight": -1.7e308}
    with pytest.raises(DataError, match=r"rows\[1\] isn't a finite number"):
        bundle.predict([bundle.sample["rows"][0], row])
    names = list(row)
    (tmp_path / "rows.csv").write_text(",".join(names) + "\n" + ",".join(str(row[name]) for name in names) + "\n")
    perron("predict", "rows.csv", "-o", "out.csv", cwd=tmp_path)
    assert "isn't a finite number" in (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (', params={"nonsense": 3}', "LightGBM has no parameter 'nonsense'"),
        (", params=[1]", "give a dict"),
        (", seed=None", "give a whole number ≥ 0"),
        (", split=pn.split.random(0.2, seed=-1)", "give a whole number ≥ 0"),
        (', gates=pn.gate("rmse", at_most=1)', "give a list"),
        (', gates="rmse"', "give a list"),
    ],
)
def test_options_that_make_no_sense_are_one_clear_line(tmp_path: Path, options: str, words: str) -> None:
    write_project(tmp_path, options=options)
    with pytest.raises(PerronError) as raised:
        run(tmp_path)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_numpys_numbers_may_be_params(tmp_path: Path) -> None:
    rest = ""
    write_project(tmp_path, rest=rest, options=', params={"n_estimators": __import__("numpy").int64(5)}')
    assert run(tmp_path).status == "done"
