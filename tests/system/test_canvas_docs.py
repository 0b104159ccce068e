"""The page on the canvas and on contract changes: its commands run, and one changed number moves all that it decides."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from perron.canvas import SECTIONS, parse_canvas
from tests.conftest import perron, perron_json
from tests.integration.test_pipeline import write_project

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "canvas.md").read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once, without a canvas."""
    folder = write_project(tmp_path_factory.mktemp("canvas") / "things")
    perron("run", cwd=folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "things"))


def alter(folder: Path, old: str, new: str) -> None:
    text = (folder / "system.py").read_text()
    assert old in text
    (folder / "system.py").write_text(text.replace(old, new, 1))


def test_the_pages_commands_run(folder: Path) -> None:
    words = [shlex.split(line) for line in re.findall(r"^ {4}perron (.+)$", PAGE, re.MULTILINE)]
    said = {" ".join(word): perron(*word, cwd=folder, check=word != ["canvas", "check"]) for word in words}
    assert len(said) == 7
    missing = said["canvas check"]
    assert missing.returncode == 1 and "missing: value.product" in missing.stderr and "gates: none" in missing.stdout
    assert "Canvas of" in (folder / "canvas.html").read_text()
    assert (folder / "project-card.md").read_text().startswith("# things")
    assert "are the same" in said["contract diff champion"].stdout
    assert json.loads(said["contract diff 1 system.py --json"].stdout)["bump"] == "none"


def test_the_pages_canvas_is_right_and_its_table_is_whole() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    canvas, mistakes = parse_canvas(text)
    assert mistakes == [] and canvas is not None and [gate.name for gate in canvas.gates] == ["rmse at most 60000"]
    for name, section in SECTIONS.items():
        (row,) = re.findall(rf"^\| `{name}`(?: \(a list\))? \|(.*)\|$", PAGE, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", row)) == set(section.keys), name


def test_one_changed_number_moves_the_gate_the_alert_rule_the_limit_and_the_card(folder: Path) -> None:
    def canvas(rmse: float, p99_ms: float) -> None:
        (folder / "canvas.toml").write_text(
            f'[value]\nproduct = "Things that err by at most {rmse}"\n[[goals]]\nmetric = "rmse"\nat_most = {rmse}\n'
            f"[budgets]\nmax_p99_ms = {p99_ms}\n"
        )

    def limit() -> str:
        perron("ship", "monitoring", "deploy", "--force", cwd=folder)
        text = (folder / "deploy/prometheus/rules/perron-alerts.yml").read_text()
        return re.findall(r"p99_5m > ([\d.]+)", text)[0]

    before = perron_json("run", cwd=folder)
    assert [gate["name"] for gate in before["gates"]] == ["rmse better than baseline"] and limit() == "0.5"
    canvas(100, 250)
    held = perron_json("run", cwd=folder)
    assert [(gate["name"], gate["passed"]) for gate in held["gates"]][1:] == [("rmse at most 100", True)]
    assert "rmse at most 100" in perron_json("alerts", "check", cwd=folder)["rules"] and limit() == "0.25"
    bundle = next(v for v in perron_json("models", cwd=folder) if v["version"] == held["model"]["version"])
    manifest = json.loads((folder / ".perron" / bundle["path"] / "manifest.json").read_text())
    assert manifest["use_case"] == [["product", "Things that err by at most 100"]]
    assert {step["status"] for step in perron_json("run", cwd=folder)["steps"]} == {"cached"}

    canvas(0.0001, 125)
    refused = perron("run", "--json", cwd=folder, check=False)
    assert refused.returncode == 3
    assert [gate["passed"] for gate in json.loads(refused.stdout)["gates"]] == [True, False]
    assert "rmse at most 0.0001" in perron_json("alerts", "check", cwd=folder)["rules"] and limit() == "0.125"
    perron("ship", "monitoring", "deploy", "--force", "--max-p99-ms", "75", cwd=folder)
    assert "p99_5m > 0.075" in (folder / "deploy/prometheus/rules/perron-alerts.yml").read_text()
    perron("alerts", "init", cwd=folder)
    assert "at_most = 0.0001" in (folder / "alerts.toml").read_text()


def test_the_model_card_tells_the_use_case() -> None:
    from perron.contract import Field, Role, Schema
    from perron.derive.card import card, card_html, card_markdown

    schema = Schema(
        "T",
        None,
        (Field(name="x", kind="float", column="x"), Field(name="y", kind="float", column="y", roles=(Role.TARGET,))),
    )
    manifest = {
        "name": "t",
        "task": "regression",
        "classes": None,
        "metrics": {},
        "baseline": {},
        "parity": {},
        "lineage": {},
    }
    plain = card(manifest, schema, version=1, bundle="b")
    told = card({**manifest, "use_case": [["product", "a | <b>"]]}, schema, version=1, bundle="b")
    assert "use_case" not in plain and "Use case" not in card_markdown(plain)
    assert "## Use case" in card_markdown(told) and "a \\| \\<b>" in card_markdown(told)
    assert "<td>a | &lt;b&gt;</td>" in card_html(told)


def test_a_goal_that_no_metric_has_stops_a_run_before_it_begins(folder: Path) -> None:
    (folder / "canvas.toml").write_text('[[goals]]\nmetric = "rsme"\nat_most = 3\n')
    runs = perron_json("runs", cwd=folder)
    done = perron("run", cwd=folder, check=False)
    assert done.returncode == 1 and done.stderr == (
        "perron: canvas.toml: goals[0].metric: is 'rsme'; no metric has that name; did you mean 'rmse'?\n"
    )
    assert perron_json("runs", cwd=folder) == runs
    checked = perron("canvas", "check", cwd=folder, check=False)
    assert checked.returncode == 1 and "mistake: goals[0].metric is 'rsme'" in checked.stderr


def test_a_canvas_that_is_there_is_not_written_over_and_one_that_is_not_is_named(folder: Path) -> None:
    assert "`perron canvas new` makes one" in perron("canvas", "check", cwd=folder, check=False).stderr
    assert "`perron canvas new` makes one" in perron("canvas", "render", cwd=folder, check=False).stderr
    perron("canvas", "new", cwd=folder)
    assert "is there already" in perron("canvas", "new", cwd=folder, check=False).stderr
    perron("canvas", "new", "--force", cwd=folder)
    assert perron_json_of(perron("canvas", "check", "--json", cwd=folder, check=False))["ai_act"]["name"] == "unknown"


def perron_json_of(done: "subprocess.CompletedProcess[str]") -> dict[str, object]:
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_silent_break_of_the_contract_fails_and_says_why(folder: Path) -> None:
    alter(folder, "weight: float", 'weight: Annotated[float, pn.Unit("m")]')
    stated = perron("contract", "diff", "champion", cwd=folder)
    assert "unit: – → m" in stated.stdout and "Semantic version: minor" in stated.stdout
    shutil.copy(folder / "system.py", folder / "old.py")
    alter(folder, 'pn.Unit("m")', 'pn.Unit("ft")')
    broken = perron("contract", "diff", "old.py", "--current", "1.4.0", cwd=folder, check=False)
    assert broken.returncode == 1 and "ft for m, and nothing refuses them" in broken.stdout
    assert "Semantic version: major, 2.0.0." in broken.stdout
    assert perron("contract", "diff", "old.py", "--fail-on", "never", cwd=folder).returncode == 0
    assert perron("contract", "diff", "champion", "--fail-on", "additive", cwd=folder, check=False).returncode == 1
    found = json.loads(perron("contract", "diff", "old.py", "--json", cwd=folder, check=False).stdout)
    assert found["failed"] and found["changes"][0]["effects"]["clients"]["level"] == "breaking"


def test_a_needed_retrain_fails_only_where_it_is_asked_for(folder: Path) -> None:
    alter(folder, '"c"', '"c", "d"')
    assert (
        "retrain: breaking, the model in force has never seen 'd'" in perron("contract", "diff", "1", cwd=folder).stdout
    )
    assert perron("contract", "diff", "1", "--for", "retrain", cwd=folder, check=False).returncode == 1


def test_contracts_are_read_from_wherever_they_are(folder: Path) -> None:
    (bundle,) = (folder / ".perron" / "bundles").iterdir()
    other = shutil.copytree(folder, folder.parent / "other", ignore=shutil.ignore_patterns(".perron"))
    for place, rooms in ((folder, 'pn.Unit("m")'), (other, 'pn.Unit("ft")')):  # each imports its own module of one name
        (place / "size.py").write_text(
            f"from typing import Annotated\nimport perron as pn\nSize = Annotated[float, {rooms}]\n"
        )
        alter(place, "weight: float", "weight: Size")
        alter(place, "import perron as pn\n", "import perron as pn\nfrom size import Size\n")
    for old in (bundle, bundle / "contract.json", "1", "champion"):
        assert "unit: – → m" in perron("contract", "diff", old, "system.py", cwd=folder).stdout
    assert "m → ft" in perron("contract", "diff", "system.py", other, "--fail-on", "never", cwd=folder).stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nothing.json"], "There is no nothing.json"),
        (["99"], "99"),
        (["nobody"], "nobody"),
        (["things.csv"], "isn't a contract"),
        ([".perron"], "holds no contract.json"),
        (["champion", "--current", "v2"], "give three numbers"),
        (["list.json"], "Not a contract"),
    ],
)
def test_what_holds_no_contract_is_refused_in_one_line(folder: Path, words: list[str], expected: str) -> None:
    (folder / "list.json").write_text("[1]")
    done = perron("contract", "diff", *words, cwd=folder, check=False)
    assert done.returncode == 1 and expected in done.stderr and done.stderr.count("\n") == 1
