"""`pytest --perron` on a real project: all of it green, and one planted fault for each kind of generated test."""

import dataclasses
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest

from perron.bundle import load
from perron.digest import digest_bytes
from perron.errors import PerronError
from perron.testing import Broken
from perron.testing.exams import plan
from perron.testing.golden import check_golden
from perron.testing.promises import check_graph
from perron.testing.server import serving
from perron.testing.subject import Subject
from perron.testing.verdict import NotHere
from tests.conftest import perron
from tests.integration.test_pipeline import declare, run, write_project

PLUGIN = "perron.testing.plugin"
EVERY = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""}
LIGHT = ("-p", "no:schemathesis", "-p", "no:anyio")  # whose start takes longer than the rest
PACKAGE = Path(__file__).resolve().parents[2] / "src"
BEHAVIOUR = """
format = 1

[[invariance]]
name = "the day says little"
field = "day"
to = 2024-01-01
tolerance = 0.2
share = 0.9

[[direction]]
field = "size"
by = 3
answer = "up"
"""
RIDGE = """
    from sklearn.linear_model import Ridge

    @system.model
    def model(params):
        return Ridge(alpha={})
"""
CANVAS = "format = 1\n[budgets]\nmax_p99_ms = 2000\n"
# Few examples, as a project may choose; CI's default of Hypothesis is a hundred.
CONFTEST = """
from hypothesis import settings
settings.register_profile("few", max_examples=8, derandomize=True)
settings.load_profile("few")
"""


def judged(
    folder: Path, *words: str, plugin: tuple[str, ...] = ("-p", PLUGIN), cwd: Path | None = None, **env: str
) -> "subprocess.CompletedProcess[str]":
    """Runs pytest in a folder, as a user does, with warnings as errors. The plugin is named; its entry point's name and
    all other plugins of this environment, whose start takes longest, are asked for by the tests that are about them."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "-W", "error", "-p", "no:cacheprovider", *words],
        cwd=cwd or folder, capture_output=True, text=True, check=False, timeout=300,
        env={**given, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **env},
    )  # fmt: skip


def failed(done: "subprocess.CompletedProcess[str]") -> set[str]:
    """The generated tests that failed."""
    return {name.strip() for name in re.findall(r"^FAILED (perron::.*?)(?: - |$)", done.stdout, re.MULTILINE)}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two versions by one contract, with every kind of test and golden predictions."""
    folder = write_project(tmp_path_factory.mktemp("judged") / "things")
    run(folder)
    declare(folder, options=", seed=1")
    run(folder)
    (folder / "canvas.toml").write_text(CANVAS)
    (folder / "tests").mkdir()
    (folder / "tests" / "conftest.py").write_text(CONFTEST)
    (folder / "tests" / "behaviour.toml").write_text(BEHAVIOUR)
    done = judged(folder, "--perron", "--perron-update-golden", "-k", "golden")
    assert done.returncode == 0 and "wrote tests/golden.json: 25 golden predictions of things version 2" in done.stdout
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; without a latency budget, which takes seconds to measure."""
    copy = Path(shutil.copytree(made, tmp_path / "things"))
    (copy / "canvas.toml").unlink()
    return copy


def alter(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_good_project_is_green_and_says_what_was_measured(made: Path) -> None:
    before = sorted(made.glob(".perron/*"))
    done = judged(made, "--perron", "-v", **EVERY)
    assert done.returncode == 0, done.stdout
    names = re.findall(r"^(perron::.*) PASSED", done.stdout, re.MULTILINE)
    assert f"collected {len(names)} items" in done.stdout and len(names) == len(set(names)) > 25
    assert {
        "perron::bundle", "perron::contract::a valid row predicts", "perron::contract::size ge 0 is refused by name",
        "perron::contract::size missing is refused by name", "perron::contract::size null is refused by name",
        "perron::contract::kind of another category is refused by name", "perron::contract::day of another type is refused by name",
        "perron::contract::an unknown field is refused by name", "perron::contract::the target is refused by name",
        "perron::contract::all broken fields of all rows are named at once", "perron::invariance::the day says little",
        "perron::direction::size by 3 moves it up", "perron::golden", "perron::parity::the graph answers as the trained model",
        "perron::parity::the service answers as the bundle", "perron::latency", "perron::compatibility",
    } <= set(names)  # fmt: skip
    assert not {name for name in names if "weight null" in name or "word missing" in name}, "they may be missing"
    assert re.search(r"latency: p99 [\d.]+ ms, p50 .*the best of 3 rounds\); the budget is 2000 ms", done.stdout)
    assert "compatibility with version 1: the contract is the same" in done.stdout
    assert "golden: 25 answers are those of version 2, within 1e-06" in done.stdout
    assert "parity: 80 test rows, the largest error" in done.stdout
    assert sorted(made.glob(".perron/*")) == before, "what tests ask is no part of the project's predictions"


def test_a_classification_without_any_declaration_is_green_and_says_what_is_not_tested(
    things: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(things, tmp_path / "things")
    done = judged(folder, "--perron", "-q", "-n", "2", "--junitxml", "out.xml", *LIGHT, **EVERY)
    assert done.returncode == 0, done.stdout
    for words in ("no invariance or direction", "no golden predictions", "no latency budget", "no release before"):
        assert words in done.stdout
    cases = ElementTree.parse(folder / "out.xml").getroot().findall(".//testcase")
    assert ("perron.parity", "the service answers as the bundle") in {
        (one.get("classname"), one.get("name")) for one in cases
    }
    assert not {one.get("name") for one in cases} & {"golden", "latency", "compatibility"}


# ------------------------------------------------------------------ one fault for each kind


def break_contract_by_lying(folder: Path) -> None:
    alter(folder / "system.py", "size: Annotated[float, pn.Ge(0)]", "size: Annotated[float, pn.Ge(-5)]")


def break_golden(folder: Path) -> None:
    golden = json.loads((folder / "tests/golden.json").read_text())
    golden["rows"][3]["answer"]["value"] *= 1.25
    (folder / "tests/golden.json").write_text(json.dumps(golden))


def break_latency(folder: Path) -> None:
    (folder / "canvas.toml").write_text(CANVAS.replace("2000", "0.001"))


def break_direction(folder: Path) -> None:
    alter(folder / "tests/behaviour.toml", '"up"', '"down"')


def break_invariance(folder: Path) -> None:
    (folder / "tests/behaviour.toml").write_text('[[invariance]]\nfield = "size"\nto = 5\nwhere = {kind = "a"}\n')


def break_parity(folder: Path) -> None:
    """The champion gets the first version's graph, with a manifest and a ledger that say that all is well."""
    import sqlite3

    with closing(sqlite3.connect(folder / ".perron/ledger.db")) as ledger, ledger:
        paths = dict(ledger.execute("SELECT version, path FROM versions").fetchall())
        one, two = (folder / ".perron" / paths[version] for version in (1, 2))
        graph = (one / "model.onnx").read_bytes()
        (two / "model.onnx").write_bytes(graph)
        manifest = json.loads((two / "manifest.json").read_text())
        manifest["files"]["model.onnx"] = {"sha256": digest_bytes(graph), "bytes": len(graph)}
        raw = json.dumps(manifest).encode()
        (two / "manifest.json").write_bytes(raw)
        ledger.execute("UPDATE versions SET bundle = ? WHERE version = 2", (digest_bytes(raw),))
    (folder / "tests/golden.json").unlink()


def break_compatibility(folder: Path) -> None:
    """The last release's clients know a field in another unit: nothing refuses what they send."""
    (bundle, *_) = (folder / ".perron/bundles").iterdir()
    contract = json.loads((bundle / "contract.json").read_text())
    contract["fields"][0]["unit"] = "ft"
    (folder / "released.json").write_text(json.dumps(contract))
    alter(folder / "system.py", "size: Annotated[float, pn.Ge(0)]", 'size: Annotated[float, pn.Ge(0), pn.Unit("m")]')


FAULTS: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...]]] = {
    "perron::contract::a valid row predicts": (
        break_contract_by_lying, r"Expected a prediction, since the contract allows this row; the service answered 422: "
        r"Expected a number ≥ 0, got -\S+ at rows\[0\]\.size \(rule ge\)\n +row: \{.*\"size\": -.*\n"
        r"things version 2 was made by another contract than system.py declares: `perron run` makes a new one", (),
    ),
    "perron::golden": (
        break_golden, r"1 of 25 golden answers changed by more than 1e-06 since version 2 .* The bundle is the same.*"
        r"rows\[3\]: [\d.]+ → [\d.]+, by 0\.2\n +row: \{\"size\".*`pytest --perron --perron-update-golden` takes them over", (),
    ),
    "perron::latency": (
        break_latency, r"Expected a p99 of at most 0.001 ms \(canvas.toml: budgets.max_p99_ms\), measured p99 [\d.]+ ms.*best of 6 rounds", (),
    ),
    "perron::direction::size by 3 moves it down": (
        break_direction, r"The change moved the answer up instead of down in \d+ of 80 rows \(0 allowed\); the worst:\n"
        r" +rows\[\d+\]: size [\d.]+ → [\d.]+: answered [\d.-]+, then [\d.-]+\n +row: \{\"size\"", (),
    ),
    "perron::invariance::size to 5 where kind is a": (
        break_invariance, r"The change moved an answer that should stay in \d+ of \d+ rows \(0 allowed\); the worst:\n", (),
    ),
    "perron::parity::the graph answers as the trained model": (
        break_parity, r"The graph of things version 2 doesn't answer as the model that its run trained, on 80 test rows .*\n +test row \d+: the model ", (),
    ),
    "perron::compatibility": (
        break_compatibility, r"The contract breaks with released.json:\n +size, unit: ft → m\n +clients: breaking, the same numbers mean something else",
        ("--perron-release", "released.json"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_fails_its_own_test_and_no_other(folder: Path, name: str) -> None:
    plant, message, words = FAULTS[name]
    plant(folder)
    done = judged(folder, "--perron", "-q", *words)
    assert failed(done) == {name} and done.returncode == 1, done.stdout
    assert re.search(message, done.stdout, re.DOTALL), done.stdout
    assert "Traceback" not in done.stdout and ".py:" not in done.stdout.partition("short test summary")[0]


SERVERS = {
    # What a server's process does wrong, and the tests that see it.
    "lets a bad value through": (
        "import perron.check.request as r, dataclasses\n"
        "made = r.Decoder.__init__\n"
        "def init(self, schema, most):\n"
        "    loose = tuple(dataclasses.replace(f, ge=None) for f in schema.fields)\n"
        "    made(self, dataclasses.replace(schema, fields=loose), most)\n"
        "r.Decoder.__init__ = init\n",
        {"size ge 0 is refused by name", "all broken fields of all rows are named at once"},
        r"Expected 422 that names rows\[0\].size by ge; the service answered 200: ",
    ),
    "names one fault of many": (
        "import perron.check.request as r\n"
        "judge = r.judge_row\n"
        "r.judge_row = lambda *a, **k: list(judge(*a, **k))[:1]\n",
        {"all broken fields of all rows are named at once"},
        r"Expected 422 that names rows\[0\]\.size by \w+, .*; the service answered 422: ",
    ),
    "answers otherwise than its bundle": (
        "import perron.bundle as b\n"
        "run = b.Bundle.run\n"
        "def wrong(self, feed):\n"
        "    values, shares = run(self, feed)\n"
        "    return values + 1e-9, shares\n"
        "b.Bundle.run = wrong\n",
        {"the service answers as the bundle"},
        r"The service answers rows\[0\] with [\d.]+, and its bundle with ",
    ),
    "answers what is no number": (
        "import perron.bundle as b\n"
        "run = b.Bundle.run\n"
        "def wrong(self, feed):\n"
        "    values, shares = run(self, feed)\n"
        "    values[feed['size'] > 6] = float('nan')\n"
        "    return values, shares\n"
        "b.Bundle.run = wrong\n",
        {"a valid row predicts", "the service answers as the bundle", "latency"},
        r"the service answered 422: The model's answer to rows\[0\] isn't a finite number",
    ),
}


@pytest.mark.parametrize("fault", SERVERS)
def test_a_service_that_errs_is_found(made: Path, tmp_path: Path, fault: str) -> None:
    program, names, message = SERVERS[fault]
    head = f"import sys\nif {PLUGIN.removesuffix('plugin') + 'server'!r} in sys.orig_argv:\n"
    (tmp_path / "sitecustomize.py").write_text(head + "".join(f"    {line}\n" for line in program.splitlines()))
    path = os.pathsep.join([str(tmp_path), str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    done = judged(made, "--perron", "-q", "-k", "contract or service or latency", PYTHONPATH=path)
    assert {name.rpartition("::")[2] for name in failed(done)} == names, done.stdout
    assert re.search(message, done.stdout), done.stdout


def test_a_contract_that_the_model_can_not_compute_is_found(tmp_path: Path) -> None:
    """The contract allows sizes whose exponential no double holds; the rows of training had none."""
    own = """
    from sklearn.linear_model import LinearRegression
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline

    @system.features
    def features(xp, c):
        return {"grown": xp.exp(c.size * 20.0)}

    @system.model
    def model(params):
        return make_pipeline(ColumnTransformer([("grown", "passthrough", ["grown"])]), LinearRegression())
    """
    folder = write_project(tmp_path / "things", rest=own, options=", gates=[]")
    run(folder)
    done = judged(folder, "--perron", "-q", "-k", "valid")
    assert failed(done) == {"perron::contract::a valid row predicts"}, done.stdout
    assert re.search(r"isn't a finite number; .*\n +row: \{.*\"size\": \d", done.stdout), done.stdout


def test_a_break_passes_where_the_release_is_declared_to_break(folder: Path) -> None:
    """A required field went from the contract, and a version was made of it."""
    alter(folder / "system.py", "    on: bool\n", "")
    (folder / "tests/golden.json").unlink()
    stale = judged(folder, "--perron", "-q", "-k", "compatibility")
    assert failed(stale) == {"perron::compatibility"} and "The contract breaks with version 2" in stale.stdout
    run(folder)
    words = ("--perron", "-q", "-k", "compatibility")
    silent = judged(folder, *words)
    assert failed(silent) == {"perron::compatibility"}
    assert (
        "on, removed: true or false → –\n        clients: breaking, requests that hold it are refused" in silent.stdout
    )
    assert "where the break is meant, say so: --perron-bump major." in silent.stdout
    minor = judged(folder, *words, "--perron-bump", "minor")
    assert failed(minor) and "declared to be minor, and these changes make it major" in minor.stdout
    assert judged(folder, *words, "--perron-bump", "major").returncode == 0
    diff = perron("contract", "diff", "2", cwd=folder, check=False)
    assert diff.returncode == 1 and "Semantic version: major" in diff.stdout, "as the command has it"
    older = judged(folder, "--perron", "-q", "-k", "bundle", "--perron-version", "1")
    assert "things version 1, bundle" in older.stdout and "another contract than system.py declares" in older.stdout


# ------------------------------------------------------------------ golden predictions


def test_golden_predictions_hold_nothing_of_a_person(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "things")
    alter(folder / "system.py", 'kind: Literal["a", "b", "c"]', 'kind: Annotated[Literal["b", "c", "a"], pn.Sensitive]')
    alter(folder / "system.py", "word: str | None", "word: Annotated[str, pn.Sensitive] | None")
    run(folder)
    assert judged(folder, "--perron", "-q", "--perron-update-golden", "-k", "golden").returncode == 0
    golden = json.loads((folder / "tests/golden.json").read_text())
    assert {row["row"]["kind"] for row in golden["rows"]} == {"b"} and len(golden["rows"]) == 25
    assert not any({"word", "key", "y"} & set(row["row"]) for row in golden["rows"])
    golden["rows"][0]["answer"]["value"] += 1
    (folder / "tests/golden.json").write_text(json.dumps(golden))
    (folder / "tests/behaviour.toml").write_text('[[invariance]]\nfield = "kind"\nto = "c"\n')
    done = judged(folder, "--perron", "-q", "-k", "golden or invariance")
    assert failed(done) == {"perron::golden", "perron::invariance::kind to c"}
    assert '"kind": "(sensitive)"' in done.stdout and "kind changed: answered" in done.stdout
    assert '"kind": "a"' not in done.stdout and 'kind "a"' not in done.stdout


def test_updating_keeps_the_rows_and_the_tolerance_that_people_chose(folder: Path) -> None:
    path = folder / "tests/golden.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "tolerance": 0.05, "version": 1}))
    break_golden(folder)
    assert failed(judged(folder, "--perron", "-q", "-k", "golden")) == {"perron::golden"}
    assert judged(folder, "--perron", "-q", "-k", "golden", "--perron-update-golden").returncode == 0
    assert json.loads(path.read_text()) == {**before, "tolerance": 0.05}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", r"tests/golden.json isn't JSON: .*; `pytest --perron --perron-update-golden` makes it anew"),
        ("[]", r"isn't a file of golden predictions"),
        ('{"format": 1, "rows": [{}]}', r"isn't a file of golden predictions \(KeyError"),
        ('{"format": 2}', r"has format 2, newer than this Perron's 1; update perron"),
        ('{"format": 1, "model": "t", "version": 1, "bundle": "b", "tolerance": 0, "rows": []}', r"holds no answers"),
        (
            '{"format": 1, "model": "other", "version": 1, "bundle": "b", "tolerance": 0, "rows": [{"row": {}, "answer": {"value": 1}}]}',
            r"holds answers of other, and this is things",
        ),
        (
            '{"format": 1, "model": "things", "version": 1, "bundle": "b", "tolerance": 0, "rows": [{"row": {"size": -1}, "answer": {"value": 1}}]}',
            r"refuses a golden row: Expected a number ≥ 0, got -1 at rows\[0\].size",
        ),
    ],
)
def test_a_golden_file_that_can_not_be_used_is_told(made: Path, text: str, message: str) -> None:
    path = made / "tests/golden.json"
    kept = path.read_text()
    with closing(Subject(made)) as subject:
        try:
            path.write_text(text)
            with pytest.raises((PerronError, Broken), match=message):
                check_golden(subject)
        finally:
            path.write_text(kept)


# ------------------------------------------------------------------ bad input


def test_what_can_not_be_tested_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    nowhere = judged(empty, "--perron", "-q", "--perron-project", str(empty))
    assert nowhere.returncode == 4 and re.search(r"ERROR: There is no system.py in .* or above", nowhere.stderr)
    alone = judged(folder, "--perron-update-golden")
    assert alone.returncode == 4 and "give --perron, too" in alone.stderr
    assert judged(folder, "--perron", "--perron-bump", "huge").returncode == 4

    def only(*words: str) -> str:
        done = judged(folder, "--perron", "-q", *words)
        assert failed(done) == {"perron::bundle"} and "1 failed" in done.stdout and "Traceback" not in done.stdout, (
            done.stdout
        )
        return done.stdout

    assert "things has no version '7'; `perron models` lists them." in only("--perron-version", "7")
    (folder / "golden").write_text("")
    for graph in (folder / ".perron/bundles").glob("*/model.onnx"):
        graph.write_bytes(b"")
    assert "model.onnx was changed: its SHA-256 isn't the manifest's; the bundle is refused." in only()
    shutil.rmtree(folder / ".perron")
    assert "There is no model 'things' yet; `perron run` makes one." in only()
    (folder / "system.py").write_text("1 +\n")
    assert "system.py:1: SyntaxError" in only()


@pytest.mark.parametrize(
    ("file", "text", "name", "message"),
    [
        ("canvas.toml", "format = [", "latency", r"canvas.toml: the file: not TOML"),
        ("tests/behaviour.toml", "= 3", "behaviour", r"tests/behaviour.toml isn't TOML"),
        ("tests/behaviour.toml", '[[invariance]]\nfield = "siez"\nto = 1', "siez to 1", r"there is no field 'siez'; did you mean 'size'"),
        ("tests/behaviour.toml", '[[direction]]\nfield = "kind"\nby = 1\nanswer = "up"', "kind by 1 moves it up", r"kind is one of 'a', 'b', 'c', no number"),
        ("tests/behaviour.toml", '[[direction]]\nfield = "size"\nby = 1\nanswer = "up"\nof = "x"', "size by 1 moves x up", r"predicts a number, which has no class 'x'"),
        ("tests/behaviour.toml", '[[invariance]]\nfield = "size"\nto = 1\nwhere = {kind = "d"}', "size to 1 where kind is d", r"None of 0 rows could be tried"),
        ("released.json", "{}", "compatibility", r"released.json: Not a contract"),
        ("released.json", "{", "compatibility", r"released.json isn't a contract: Expecting"),
        ("other", "", "compatibility", r"There is no .*released.json; give a version"),
    ],
)  # fmt: skip
def test_a_file_that_can_not_be_read_fails_the_test_that_needs_it(
    made: Path, tmp_path: Path, file: str, text: str, name: str, message: str
) -> None:
    folder = tmp_path / "things"
    folder.mkdir()
    for path in (".perron", "system.py", "tests"):
        (folder / path).symlink_to(made / path)
    if file.startswith("tests"):
        (folder / "tests").unlink()
        (folder / "tests").mkdir()
    (folder / file).write_text(text)
    with closing(Subject(folder, release="released.json" if file in ("released.json", "other") else None)) as subject:
        exams = {exam.place[-1]: exam for exam in plan(subject).exams if exam.place[0] != "contract"}
        assert {"bundle", "the graph answers as the trained model", name} <= set(exams)
        with pytest.raises((PerronError, Broken), match=message):
            exams[name].run(subject)


def test_what_is_not_on_this_machine_is_skipped_by_its_reason(folder: Path) -> None:
    """A checkout with a bundle, and without the store that it was trained with."""
    shutil.rmtree(folder / ".perron/store")
    done = judged(folder, "--perron", "-q", "-rs", "-k", "not contract")
    assert done.returncode == 0, done.stdout
    assert re.search(r"SKIPPED .*The store here doesn't hold the trained model of things version 2", done.stdout)
    assert "3 skipped" in done.stdout and "the service answers 64 rows as the bundle does" in done.stdout
    (folder / "tests/golden.json").unlink()
    with closing(Subject(folder)) as subject, pytest.raises(NotHere, match="The store here doesn't hold the snapshot"):
        assert subject.rows
    assert "25 golden predictions" in judged(folder, "--perron", "-q", "-k", "golden", "--perron-update-golden").stdout


def test_a_pickle_of_other_packages_is_no_verdict_on_the_graph(folder: Path) -> None:
    with closing(Subject(folder)) as subject:
        ledger, run_id = subject.project.ledger, subject.row["run"]
        key = ledger.step_key(run_id, "train")
        assert key is not None
        other = subject.project.store.put_bytes(pickle.dumps(print).replace(b"print", b"prink"))
        ledger.remember(key, "train", {"digest": other}, run_id)
        with pytest.raises(NotHere, match=r"can't be read with the packages of now \(AttributeError: .*prink"):
            check_graph(subject)


def test_without_hypothesis_the_property_tests_say_what_to_install(made: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['hypothesis'] = None\n")
    path = os.pathsep.join([str(tmp_path), str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    done = judged(made, "--perron", "-q", "--noconftest", "-k", "property or golden", PYTHONPATH=path)
    assert failed(done) == {"perron::contract::property tests"}, done.stdout + done.stderr
    assert "Property tests need hypothesis: pip install 'perron[test]'" in done.stdout


# ------------------------------------------------------------------ hand-written tests

OWN = """
import pytest
from perron.connection import Refused
from perron.testing import Broken, directional, invariant

def test_the_fixtures_are_the_projects(system, bundle, client, rows):
    assert system.name == bundle.name == "things" and len(rows) == 80
    reply = client.predict(rows[:3])
    assert reply.version == 2 and [one.value for one in reply.predictions] == [one["value"] for one in bundle.predict(rows[:3])]
    assert client.receipt(reply.predictions[0].id)["model"]["version"] == 2
    with pytest.raises(Refused, match="rows.0..size"):
        client.predict([{**rows[0], "size": -1}])

def test_larger_is_more(bundle, rows):
    assert directional(bundle, rows, "size", times=1.5, expect="up", share=0.9) > 60

def test_a_wrong_expectation_is_told(bundle, rows):
    invariant(bundle, rows, {"size": lambda size: size / 2})
"""


def test_hand_written_tests_get_the_fixtures_with_and_without_the_flag(folder: Path) -> None:
    (folder / "tests" / "test_own.py").write_text(OWN)
    log = folder / ".perron" / "predictions"
    done = judged(folder, "-q")
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    assert "moved an answer that should stay" in done.stdout and "behaviour.py" not in done.stdout
    both = judged(folder, "-q", "--perron", "-k", "golden or fixtures", cwd=folder / "tests")
    assert "2 passed" in both.stdout, both.stdout
    assert not log.exists()
    named = judged(
        folder, "-q", str(folder / "tests"), "-k", "fixtures", "--perron-project", str(folder), cwd=folder.parent
    )
    assert "1 passed" in named.stdout, named.stdout
    shutil.rmtree(folder / ".perron")
    nothing = judged(folder, "-q", "-k", "larger")
    assert (
        "There is no model 'things' yet; `perron run` makes one." in nothing.stdout
        and "Traceback" not in nothing.stdout
    )


def test_items_are_chosen_stopped_and_repeated_as_any_others(folder: Path) -> None:
    break_golden(folder)
    break_direction(folder)
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    first = judged(folder, "--perron", "-q", "-x", "-k", "direction or golden or latency")
    assert (
        failed(first) == {"perron::direction::size by 3 moves it down"} and "stopping after 1 failures" in first.stdout
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "--perron", "-q", "-k", "direction or golden or compatibility"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=100, env=alone,
    )  # fmt: skip
    assert "2 failed, 1 passed" in done.stdout, done.stdout
    again = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", PLUGIN, "--perron", "-q", "--lf"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=100, env=alone,
    )  # fmt: skip
    assert "2 failed" in again.stdout and "passed" not in again.stdout, again.stdout


# ------------------------------------------------------------------ the plugin itself


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the path with the entry point, as an installed Perron has it."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "perron_entry-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: perron-entry\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\nperron = {PLUGIN}\n")
    return folder


@pytest.mark.parametrize(
    "also", [(), ("-p", PLUGIN), ("-n", "2"), ("--noconftest",)], ids=["entry point", "and by -p", "in workers", "off"]
)
def test_an_entry_point_and_an_option_load_one_plugin(made: Path, installed: Path, also: tuple[str, ...]) -> None:
    path = os.pathsep.join([str(installed), str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    words = ("--perron", "-q", "-k", "golden", *LIGHT)
    if also == ("--noconftest",):
        off = judged(made, *words, "-p", "no:perron", plugin=(), PYTHONPATH=path, **EVERY)
        assert off.returncode == 4 and "unrecognized arguments: --perron" in off.stderr
        return
    done = judged(made, *words, *also, plugin=(), PYTHONPATH=path, **EVERY)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_conftest_may_name_the_plugin_that_is_there_already(folder: Path, installed: Path) -> None:
    path = os.pathsep.join([str(installed), str(PACKAGE), os.environ.get("PYTHONPATH", "")])
    (folder / "conftest.py").write_text(f"pytest_plugins = [{PLUGIN!r}]\n")
    done = judged(folder, "--perron", "-q", "-k", "golden", *LIGHT, plugin=(), PYTHONPATH=path, **EVERY)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_without_the_flag_it_costs_nothing_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n")
    without, by_it = (judged(tmp_path, "-v", plugin=plugin) for plugin in ((), ("-p", PLUGIN)))
    assert without.returncode == by_it.returncode == 0
    assert re.sub(r"in [\d.]+s", "", without.stdout) == re.sub(r"in [\d.]+s", "", by_it.stdout)
    program = f"import pytest, sys, time\nbefore = set(sys.modules)\nt = time.perf_counter()\nimport {PLUGIN}\n"
    program += "print(time.perf_counter() - t, *sorted(set(sys.modules) - before))"
    tries = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(5)
    ]
    assert min(float(one[0]) for one in tries) < 0.02
    assert {name for name in tries[0][1:] if not name.startswith("perron")} == set()
    assert set(tries[0][1:]) == {"perron", "perron.testing", PLUGIN}


def test_the_service_ends_with_who_started_it(made: Path, tmp_path: Path) -> None:
    """Killed at any instant, a test run leaves no server behind."""
    program = (
        "import time\nfrom pathlib import Path\nfrom perron.testing.subject import Subject\n"
        f"subject = Subject(Path({str(made)!r}))\nprint(subject.url, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        try:
            url = parent.stdout.readline().strip()
            with urllib.request.urlopen(f"{url}/v1/model", timeout=10) as answer:
                assert json.load(answer)["version"] == 2
        finally:
            parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 15
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{url}/v1/model", timeout=1).close()
        except OSError:
            return
    pytest.fail("the server is still there")


def test_a_server_that_does_not_start_says_why(made: Path) -> None:
    bundle = dataclasses.replace(load(next((made / ".perron/bundles").iterdir())), digest="0" * 64)
    refusal = r"didn't start: .* was changed after it was registered"
    with pytest.raises(PerronError, match=refusal), serving(bundle, 1):
        pass
