"""The pages by component and the comparison: their commands and code run, what they count is so; no page has a link to nowhere."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from perron.demonstration import serving
from perron.serve.http import free_port
from tests.conftest import need, perron, perron_json

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *DOCS.glob("*.md")])
TRAINING, PIPELINE, OPTIMISATION, COMPARISON = (
    (DOCS / f"{name}.md").read_text() for name in ("training", "pipeline", "optimisation", "comparison")
)
LARGEST = 150_000  # bytes of a picture


def commands(page: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for line in re.findall(r"^ {4}perron (.+)$", page, re.MULTILINE)]


def blocks(page: str) -> dict[str, list[str]]:
    """The lines of a page's code by the file that they are of, without blank ones; what names no file by its language."""
    found = {}
    for language, text in re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL):
        first, *others = text.splitlines()
        named = re.fullmatch(r"# (\S+\.\w+)", first)
        name, lines = (named[1], others) if named else (language, [first, *others])
        found[name] = [line for line in lines if line.strip()]
    return found


def code(page: str, name: str) -> str:
    (text,) = re.findall(rf"```python\n# {re.escape(name)}\n(.*?)```", page, re.DOTALL)
    return str(text)


@pytest.fixture
def folder(housing_copy: Path, housing_csv: Path) -> Path:
    (housing_copy / "rows.csv").write_text("".join(housing_csv.read_text().splitlines(keepends=True)[:301]))
    return housing_copy


def first_prediction(folder: Path) -> str:
    """The id of the first row in out.csv."""
    return next(csv.DictReader((folder / "out.csv").read_text().splitlines()))["prediction_id"]


# ------------------------------------------------------------------ links and pictures


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(path: Path) -> set[str]:
    return {slug(found) for found in re.findall(r"^#+ (.+)$", without_code(path.read_text()), re.MULTILINE)}


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", lambda found: found[0].strip("`"), re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"`[^`\n]*\]\([^`\n]*`", "", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} links to {target}, which isn't there"
        assert path.is_relative_to(ROOT), f"{page.name} links to {target}, outside of the repository"
        if anchor:
            assert anchor in headings(path), f"{page.name} links to {target}, and {path.name} has no such heading"


def test_links_to_nowhere_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page: of `x`\n[a](#a-page-of-x) [b](b.md) `[c](c.md)` ![d](d.png)\n```\n[e](e.md)\n```\n")
    assert list(links(page)) == ["#a-page-of-x", "b.md", "d.png"] and headings(page) == {"a-page-of-x"}


def test_every_page_of_docs_is_in_its_index_and_every_picture_on_a_page_with_words() -> None:
    index = set(links(DOCS / "README.md"))
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert {name.partition("#")[0] for name in index} >= pages
    shown: dict[str, str] = {}
    for page in DOCS.glob("*.md"):
        for words, target in re.findall(r"!\[([^\]]*)\]\(pictures/([^)]+)\)", page.read_text()):
            assert len(words) > 30, f"{page.name}: {target} has no words for who doesn't see it"
            shown[target] = page.name
    pictures = {path.name: path for path in (DOCS / "pictures").iterdir()}
    assert set(shown) == set(pictures)
    for name, path in pictures.items():
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size <= LARGEST, name


def test_the_index_goes_through_the_components_in_the_readmes_order() -> None:
    table = re.findall(r"^\| (\d+ [\w /]+?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    index = re.findall(r"^## (\d+ .+)$", (DOCS / "README.md").read_text(), re.MULTILINE)
    assert [one.split()[0] for one in table] == [one.split()[0] for one in index] == [str(n) for n in range(1, 11)]


@pytest.mark.browser
@pytest.mark.slow
def test_the_script_takes_pictures(tmp_path: Path) -> None:
    need("chromium")
    script = [sys.executable, str(ROOT / "scripts" / "pictures.py"), "-o", str(tmp_path / "made"), "--only"]
    done = subprocess.run([*script, "profile,canvas"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["canvas.png", "profile.png"]
    refused = subprocess.run([*script, "profil"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "no such scene: profil; there are profile, canvas" in refused.stderr


# ------------------------------------------------------------------ the pages


@pytest.mark.slow
def test_the_training_pages_commands_run_and_its_model_is_trained(folder: Path) -> None:
    text = (folder / "system.py").read_text()
    (own,) = re.findall(r"```python\n(.*?)```", TRAINING, re.DOTALL)
    (folder / "system.py").write_text(text[: text.index("system = pn.System")] + own)
    said: dict[str, str] = {}
    for words in commands(TRAINING):
        filled = [
            perron_json("runs", cwd=folder)[0]["id"] if word == "RUN"
            else first_prediction(folder) if word == "PREDICTION_ID"
            else word
            for word in words
        ]  # fmt: skip
        said[" ".join(words)] = perron(*filled, cwd=folder).stdout
    assert len(said) == 7
    run = said["run"]
    assert "folds 3, random k-fold within the train rows" in run and "version 2 is the champion" in run
    assert "gate  passed: rmse better than baseline" in run and "gate  passed: rmse no worse than champion by more than 2 %" in run  # fmt: skip
    assert json.loads(said["runs RUN"])["params"]["n_estimators"] == 400
    assert {one["part"] for one in json.loads(said["runs RUN"])["metrics"]} == {"test", "baseline", "folds"}
    assert "version 1 is now champion" in said["promote 1 --reason the newer one is wrong about islands"]
    ran, traced = (text.splitlines() for text in re.findall(r"```text\n(.*?)```", TRAINING, re.DOTALL))
    steps = [step["name"] for step in json.loads(said["runs RUN"])["steps"]]
    assert [line.split()[1] for line in ran if line.startswith("✓")] == steps
    assert [line.split()[0] for line in ran[-4:]] == ["gate", "data", "graph", "model"]
    assert labels(traced) == labels(said["trace PREDICTION_ID"].splitlines())


def labels(lines: list[str]) -> list[str]:
    return [line.split()[0] for line in lines if not line.startswith(" ")]


@pytest.mark.slow
def test_what_a_changed_line_has_done_again_is_as_the_pipelines_table_says(folder: Path) -> None:
    def done() -> list[str]:
        return [step["name"] for step in perron_json("run", cwd=folder)["steps"] if step["status"] == "done"]

    system, data = folder / "system.py", folder / "data" / "housing.csv"
    before, rows = system.read_text(), b"".join(data.read_bytes().splitlines(keepends=True)[:2001])
    data.write_bytes(rows)
    steps = re.findall(r"\w+", re.findall(r"```text\n(snapshot ─▶.*?)\n", PIPELINE)[0])
    assert steps == [step["name"] for step in perron_json("run", cwd=folder)["steps"]]
    assert [row for row in re.findall(r"^\| (\w+) \|", PIPELINE, re.MULTILINE) if row in steps] == steps
    system.write_text(before + "# a comment\n")
    assert done() == []
    (line,) = re.findall(r"^system = pn.System\(.*$", before, re.MULTILINE)
    system.write_text(before.replace(line, line[:-1] + ', gates=[pn.gate("rmse", at_most=1e9)])'))
    assert done() == ["gates", "register"]
    system.write_text(before.replace(line, line[:-1] + ', params={"n_estimators": 20})'))
    assert done() == steps[2:]
    system.write_text(before)
    data.write_bytes(b"".join(rows.splitlines(keepends=True)[:-1]))
    assert done() == steps
    data.write_bytes(rows)
    assert done() == ["gates", "register"]


def test_the_pipeline_pages_commands_run(folder: Path) -> None:
    words = commands(PIPELINE)
    assert words[:2] == [["run"], ["run", "--json"]] and len(words) == 3
    assert "✓" not in perron(*words[0], cwd=folder).stderr
    made = json.loads(perron(*words[1], cwd=folder).stdout)
    assert {step["status"] for step in made["steps"]} == {"cached"}
    line = perron(*words[2], cwd=folder).stdout
    assert line.startswith("0 5 * * 1 cd ") and "--once" in line
    (own,) = re.findall(r"```text\n(0 5 .*?)\n```", PIPELINE)
    script = own.split("  ", 1)[1].replace("/srv/house-prices", shlex.quote(str(folder)))
    script = script.replace("perron", f"{shlex.quote(sys.executable)} -m perron").replace("cd", "cd", 1)
    assert subprocess.run(script, shell=True, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_the_optimisation_pages_commands_and_code_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "canvas.toml").write_text("[budgets]\nmin_rows_per_s = 1\nmax_p99_ms = 60000\n")
    words = commands(OPTIMISATION)
    assert [one[0] for one in words] == ["serve", "serve", "tune", "tune"]
    for one in words[:2]:
        with serving(folder, *one[1:]) as (address, _):
            assert address.startswith("http://")
    for one in words[2:]:
        assert "Served best by --workers" in perron(*one, cwd=folder).stdout
    (code,) = re.findall(r"```python\n(.*?)```", OPTIMISATION, re.DOTALL)
    shutil.copytree(folder / ".perron" / perron_json("models", cwd=folder)[0]["path"], folder / "house-prices-bundle")
    monkeypatch.chdir(folder)
    exec(code, {})


def test_what_the_optimisation_page_says_of_speed_is_what_was_measured() -> None:
    measured = (ROOT / "benchmarks" / "README.md").read_text()
    rows = re.findall(r"^\| .* \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", OPTIMISATION, re.MULTILINE)
    assert len(rows) == 4
    for row in rows:
        assert f"| {' | '.join(row)} |" in measured


# ------------------------------------------------------------------ the comparison


def test_the_comparisons_own_code_is_as_long_as_it_says() -> None:
    found = blocks(COMPARISON)
    found["config.pbtxt"] = found["text"]
    container = len(found["dockerfile"]) + len(found["compose.yaml"])
    table = dict(re.findall(r"^\| `([\w.]+)` \| (\d+) \|", COMPARISON, re.MULTILINE))
    assert {name: len(found[name]) for name in table} == {name: int(count) for name, count in table.items()}
    assert f"| `Dockerfile`, `compose.yaml` | {container} |" in COMPARISON
    assert f"{sum(map(int, table.values())) + container} lines in eight files" in COMPARISON
    for name, lines in found.items():
        if name.endswith(".py"):
            compile("\n".join(lines), name, "exec")
        if name.endswith((".yaml", ".yml")):
            assert yaml.safe_load("\n".join(lines))


def test_perrons_declaration_is_as_short_as_the_comparison_says(housing_project: Path) -> None:
    lines = [line for line in (housing_project / "system.py").read_text().splitlines() if line.strip()]
    assert len(lines) < int(re.findall(r"fewer than (\d+) lines that `perron init` infers", COMPARISON)[0])


def test_the_hand_made_training_and_api_do_what_the_comparison_says(
    folder: Path, house: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = subprocess.run(
        [sys.executable, "-c", code(COMPARISON, "train.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and float(done.stdout.removeprefix("rmse ")) < 60_000, done.stderr
    scope: dict[str, Any] = {"__name__": "app"}
    exec(code(COMPARISON, "app.py"), scope)
    client = scope["app"].test_client()

    def ask(**changed: Any) -> tuple[int, Any]:
        answer = client.post("/predict", json={"rows": [{**house, "total_bedrooms": 129.0, **changed}]})
        return answer.status_code, answer.get_json(silent=True)

    assert client.get("/health").get_json() == {"status": "ok"}
    status, known = ask()
    assert status == 200
    assert ask(latitude=999)[0] == 200  # a price, as if nothing were wrong
    misspelt = ask(ocean_proximity="<1H OCAEN")
    assert misspelt[0] == 200 and misspelt[1] != known
    without = {name: value for name, value in house.items() if name != "households"}
    scope["app"].config["PROPAGATE_EXCEPTIONS"] = False
    assert client.post("/predict", json={"rows": [without]}).status_code == 500
    with serving(folder) as (address, _):
        import httpx

        refused = httpx.post(f"{address}/v1/predictions", json={"rows": [{**house, "ocean_proximity": "<1H OCAEN", "households": -3}]})  # fmt: skip
    assert refused.status_code == 422 and "Expected a number ≥ 0, got -3 at rows[0].households" in refused.text


@pytest.mark.slow
def test_the_comparisons_commands_run(folder: Path) -> None:
    words = commands(COMPARISON)
    assert [one[0] for one in words] == [
        "profile", "run", "runs", "serve", "serve", "dashboard", "monitor", "trace", "check", "run", "contract",
    ]  # fmt: skip
    perron("predict", "rows.csv", "-o", "out.csv", cwd=folder)
    prediction = first_prediction(folder)
    for one in words:
        if one[0] == "serve":
            options = [str(free_port()) if word == "8001" else word for word in one[1:]]
            with serving(folder, *options) as (address, _):
                assert address
        elif one[0] != "dashboard":  # tests/system/test_dashboard.py starts it as it stands
            perron(*[prediction if word == "PREDICTION_ID" else word for word in one], cwd=folder)
    assert (folder / "report.html").is_file()


def test_what_the_comparison_says_of_speed_is_what_was_measured() -> None:
    measured = (ROOT / "benchmarks" / "README.md").read_text()
    for said, row in (
        ("take it 7.3 s where the full report takes 508 s", ("| `perron profile`, to a page | 7.28 |", "| fg-data-profiling, full | 507.85 |")),
        ("skrub's, a good and quick one, 43 s", ("| skrub TableReport, to a page | 42.66 |",)),
        ("0.3 to 0.7 s where MLflow takes 3.5 to 7.2 s", ("| 0.032 | 0.29 |", "| 0.459 | 0.71 |", "| 1.720 | 3.45 |", "| 5.478 | 7.20 |")),
        ("539 requests a second, FastAPI with the same ONNX graph 7,784", ("| FastAPI + ONNX Runtime | 5,748 | 7,784 |", "| FastAPI + scikit-learn | 529 | 539 |")),
        ("Perron 23,498", ("| **perron serve** | 6,672 | 23,498 |",)),
        ("`perron drift` takes 2.7 s, Evidently's preset 54 s, SciPy by hand 2.6 s", ("| `perron drift` | 2.68 |", "| 54.38 |", "| 2.62 |")),
    ):  # fmt: skip
        assert said in " ".join(COMPARISON.split()), said
        assert all(one in measured for one in row), row
