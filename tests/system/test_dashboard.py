"""`perron dashboard` in a real browser: every page shows what the library says, the form predicts, roles hold, nothing is fetched."""

import csv
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright import sync_api as playwright

from perron.demonstration import serving
from perron.errors import MissingPackage
from perron.ledger import CHAMPION, Ledger
from perron.monitor import Monitor, look
from perron.pages.dashboard import Settings, command
from perron.pages.dashboard.days import Day, Days
from perron.pages.dashboard.facts import latency_of
from perron.pages.dashboard.parts import number
from perron.performance import Losses
from perron.predictions.listing import list_predictions
from perron.project import Project
from perron.receipts import receipt
from perron.serve.http import free_port
from tests.conftest import need, perron

expect = playwright.expect
expect.set_options(timeout=30_000)
pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "test-results" / "dashboard"
PAGES = {"": "Home", "data": "Data", "runs": "Runs", "model": "Model", "live": "Live", "predict": "Predict", "outcomes": "Outcomes"}  # fmt: skip
DOCS = (ROOT / "docs" / "dashboard.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^    perron (.+)$", DOCS, re.MULTILINE)]
(OWN_PAGE,) = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
SYSTEM = '''
from typing import Annotated, Literal

import perron as pn


class Rents(pn.Contract):
    """Flats to let. <b>All</b> of one town."""

    area: Annotated[float, pn.Ge(10), pn.Le(500), pn.Unit("m²")]
    """Floor space, *without* balconies."""
    rooms: Annotated[int, pn.Ge(1)]
    floor: Annotated[float, pn.Ge(0)] | None
    district: Literal["North", "South", "<i>West</i>"]
    is_new: bool
    rent: Annotated[float, pn.Ge(0), pn.Unit("EUR"), pn.Target]


system = pn.System("rents", Rents, source="rents.csv", params={"n_estimators": TREES})
'''


@dataclass
class Served:
    """A project, its service's address, and its dashboards by role."""

    folder: Path
    service: str
    urls: dict[str, str]
    asked: list[str] = field(default_factory=list)

    @property
    def project(self) -> Project:
        return Project.open(self.folder)


@contextmanager
def dashboard(folder: Path, *words: str) -> Iterator[str]:
    """The address of a `perron dashboard` process."""
    command = [sys.executable, "-m", "perron", *words, "--port", str(free_port()), "-C", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if "started on" in line:
                    break
            found = re.search(r"is at (http://\S+)\.", said)
            assert found, said
            yield found[1]
        finally:
            process.terminate()
            process.wait(60)


def make_project(folder: Path) -> None:
    """A project of two versions and a page of its own, whose runs differ in a parameter and have a curve."""
    folder.mkdir()
    with (folder / "rents.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["area", "rooms", "floor", "district", "is_new", "rent"])
        for row in range(1000):
            area, place = 20 + row * 37 % 180, row % 3
            rent = 12.5 * area + 90 * place + 3 * (row * 7 % 11)
            writer.writerow([area, 1 + area // 35, "" if row % 9 == 0 else row % 6, ["North", "South", "<i>West</i>"][place], row % 2 == 0, rent])  # fmt: skip
    for trees in (20, 40):
        (folder / "system.py").write_text(SYSTEM.replace("TREES", str(trees)))
        perron("run", cwd=folder)
    ledger = Ledger.at(folder / ".perron")
    for run in ledger.list_runs():
        ledger.log_metrics(run["id"], "train", [("loss", step, 100.0 / (step + 1)) for step in range(20)])
    ledger.set_alias("rents", CHAMPION, 1, "begin with the first")
    ledger.close()
    (folder / "pages").mkdir()
    (folder / "pages" / "our_own.py").write_text(OWN_PAGE)


def send_traffic(url: str) -> None:
    """Two hundred rows, of larger flats than the training's, and outcomes of every second."""
    rows = [
        {"area": 150.0 + row % 90, "rooms": 4 + row % 4, "floor": float(row % 6), "district": "South", "is_new": row % 2 == 0}
        for row in range(200)
    ]  # fmt: skip
    made = httpx.post(f"{url}/v1/predictions", json={"rows": rows}, timeout=30).json()["predictions"]
    known = [{"prediction": one["id"], "value": one["value"] + place % 7} for place, one in enumerate(made[::2])]
    assert httpx.post(f"{url}/v1/outcomes", json={"outcomes": known}, timeout=30).status_code == 200


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("dashboard") / "rents"
    make_project(folder)
    with serving(folder) as (traffic, _):
        send_traffic(traffic)  # a server that stops leaves its windows written
    with (
        serving(folder) as (service, _),
        dashboard(folder, "dashboard", "--server", service) as viewer,
        dashboard(folder, *COMMANDS[1], "--server", service) as operator,
    ):
        yield Served(folder, service, {"viewer": viewer, "operator": operator})


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    made = browser.new_page(viewport={"width": 1360, "height": 1000})
    made.set_default_timeout(15_000)
    made.on("request", lambda request: served.asked.append(request.url))
    yield made
    made.close()


def open_page(page: Any, served: Served, name: str, role: str = "viewer") -> None:
    """Opens a page and waits until all that it shows is there."""
    page.goto(f"{served.urls[role]}/{name}")
    expect(page.get_by_role("heading", name=PAGES[name], exact=True)).to_be_visible()
    expect(page.locator("[data-test-script-state=notRunning]")).to_have_count(1)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    assert page.get_by_test_id("stAlertContentError").count() == 0


def keep(page: Any, name: str) -> None:
    """Keeps a picture of the whole page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    tall = page.evaluate("document.querySelector('.block-container').scrollHeight")
    page.set_viewport_size({"width": 1360, "height": min(max(tall + 60, 700), 3500)})
    page.screenshot(path=PICTURES / f"{name}.png")


def facts_of(page: Any) -> dict[str, str]:
    """The numbers of a page by their names."""
    pairs = page.locator(".p-facts div").evaluate_all(
        "all => all.map(one => [one.querySelector('dt').innerText, one.querySelector('dd').innerText])"
    )
    return dict(pairs)


def cells(page: Any, name: str) -> list[list[str]]:
    """The rows of a table."""
    found: list[list[str]] = page.get_by_role("table", name=name, exact=True).locator("tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.innerText))"
    )  # fmt: skip
    return found


def test_home_says_what_the_library_says(page: Any, served: Served) -> None:
    open_page(page, served, "")
    found = look(served.project, "rents")
    measured = found.outcomes.metric("rmse")
    assert measured is not None and found.findings
    expect(page.get_by_role("table", name="Findings of rents")).to_be_visible()
    facts = facts_of(page)
    assert facts["Champion"] == "version 1" and facts["Routing"] == "champion alone"
    assert facts["Last 24 hours"] == "200" and facts["rmse"] == number(measured[0])
    assert facts["Worst finding"] == found.worst and facts["Last run"] == "done"
    assert [row[4] for row in cells(page, "Findings of rents")] == [one.detail for one in found.findings[:5]]
    keep(page, "home")


def test_data_shows_the_newest_snapshot_and_its_profile(page: Any, served: Served) -> None:
    open_page(page, served, "data")
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Profile of Rents")).to_be_visible()
    assert facts_of(page)["Rows"] == "1,000" and facts_of(page)["In quarantine"] == "0"
    keep(page, "data")


def test_runs_are_compared_by_metrics_curves_and_parameters(page: Any, served: Served) -> None:
    open_page(page, served, "runs")
    ledger = served.project.ledger
    listed = ledger.list_runs()
    assert [row[0] for row in cells(page, "Runs")] == [run["id"] for run in listed]
    assert [row[4] for row in cells(page, "Runs")] == [number(run["metrics"]["rmse"]) for run in listed]
    first = cells(page, "Parameters of the runs")[0]
    assert first == ["n_estimators", "40", "20"]
    expect(page.get_by_role("heading", name="Curves", exact=True)).to_be_visible()
    expect(page.get_by_test_id("stVegaLiteChart").locator("canvas, svg").first).to_be_visible()
    keep(page, "runs")


def test_a_version_shows_its_evaluation_gates_and_lineage(page: Any, served: Served) -> None:
    open_page(page, served, "model")
    row = served.project.ledger.get_version("rents", 1)
    run = served.project.ledger.get_run(row["run"])
    wanted = {(one["part"], one["name"]): one["value"] for one in run["metrics"]}
    for name, model, baseline in cells(page, "Metrics"):
        assert (model, baseline) == (number(wanted["test", name]), number(wanted["baseline", name]))
    assert cells(page, "Gates")[0][:2] == ["rmse better than baseline", "passed"]
    graph = page.get_by_role("img", name=re.compile(f"lead to run {row['run']}"))
    assert graph.evaluate("picture => picture.complete && picture.naturalWidth") > 500
    assert cells(page, "Fields")[0] == ["area", "a number ≥ 10 and ≤ 500", "m²", "seen by the model", "Floor space, *without* balconies."]  # fmt: skip
    expect(page.get_by_text("Flats to let. <b>All</b> of one town.")).to_be_visible()  # as text, not as HTML
    keep(page, "model")


def test_live_shows_traffic_drift_and_performance(page: Any, served: Served) -> None:
    open_page(page, served, "live")
    expect(page.get_by_role("heading", name="Estimated performance")).to_be_visible()
    found = look(served.project, "rents")
    losses = sum((period.losses for period in found.performance), Losses())
    measured = losses.metric("rmse")
    assert measured is not None
    expect(page.get_by_text("Error budget left")).to_be_visible()
    facts = facts_of(page)
    assert facts["All days shown"] == "200" and facts["Outcomes"] == "100" and facts["rmse"] == number(measured[0])
    assert facts["Requests"] == "0" and facts["On the test rows"] == number(found.expected)
    assert found.levels is not None and found.levels.total is not None
    assert facts["Error budget left"] == "100 %" and facts["Failed"].startswith("0") and facts["Memory"].endswith("MB")
    assert [row[1] for row in cells(page, "Findings")] == [one.subject for one in found.findings]
    expect(page.get_by_text("An estimate, made without outcomes by DLE")).to_be_visible()
    assert page.get_by_test_id("stVegaLiteChart").count() == 5
    page.get_by_role("combobox", name=re.compile("Feature")).click()
    page.keyboard.type("district")
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile("'South' from 33.* to 100"))).to_have_count(
        2
    )  # the finding, and the picture's words
    keep(page, "live")


def test_the_form_predicts_and_shows_the_receipt(page: Any, served: Served) -> None:
    open_page(page, served, "predict")
    page.get_by_role("textbox", name="area (m²)").fill("123.25")
    page.get_by_role("textbox", name="floor · optional").fill("")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.get_by_role("table", name="Receipt")).to_be_visible()
    rows = dict(cells(page, "Receipt"))
    project = served.project
    made = receipt(project.predictions, project.ledger, rows["prediction"])
    assert made["prediction"]["input"]["area"] == 123.25 and made["prediction"]["input"]["floor"] is None
    assert facts_of(page)["rent"] == number(made["prediction"]["value"], "EUR")
    assert rows["run"] == made["run"] and rows["bundle"] == made["model"]["bundle"]
    keep(page, "predict")


def test_bad_input_is_explained_field_by_field(page: Any, served: Served) -> None:
    open_page(page, served, "predict")
    page.get_by_role("textbox", name="area (m²)").fill("5")
    page.get_by_role("textbox", name="rooms").fill("two")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="Expected")).to_have_count(2)
    said = page.locator(".p-fault").all_inner_texts()
    assert said == ["Expected a number ≥ 10, got 5.", 'Expected a whole number ≥ 1, got "two".']
    expect(page.get_by_text("The row breaks the contract in 2 places")).to_be_visible()
    keep(page, "predict-bad")


def test_a_table_is_predicted_and_can_be_downloaded(page: Any, served: Served, tmp_path: Path) -> None:
    open_page(page, served, "predict")
    page.get_by_role("tab", name="A table").click()
    text = "area,rooms,floor,district,is_new\n80,2,1,North,true\n-4,2,,South,false\n"
    page.locator("input[type=file]").set_input_files({"name": "rows.csv", "mimeType": "text/csv", "buffer": text.encode()})  # fmt: skip
    page.get_by_role("button", name="Predict every row").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the predictions").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert float(rows[0]["prediction"]) > 0 and "area" in rows[1]["fault"]
    assert facts_of(page)["Predicted"] == "1" and facts_of(page)["Bad"] == "1"
    assert receipt(served.project.predictions, served.project.ledger, rows[0]["prediction_id"])["run"]


def test_outcomes_are_recorded_and_judged(page: Any, served: Served) -> None:
    open_page(page, served, "outcomes")
    project = served.project
    newest = list_predictions(project.predictions, limit=30, model="rents").predictions
    assert [row[0] for row in cells(page, "Newest predictions")] == [one.id for one in newest]
    known = project.ledger.outcomes_of([one.id for one in newest])
    prediction = next(one for one in newest if one.id not in known)
    page.get_by_role("textbox", name="rent (EUR)").fill("-1")
    page.get_by_role("button", name="Record the outcome").click()
    expect(page.get_by_text("Expected a number ≥ 0 as the outcome, got -1.")).to_be_visible()
    page.get_by_role("textbox", name="rent (EUR)").fill("777.5")
    page.get_by_role("button", name="Record the outcome").click()
    expect(page.get_by_text(f"The outcome of {prediction.id} is 777.5.")).to_be_visible()
    assert project.ledger.outcomes_of([prediction.id]) == {prediction.id: 777.5}
    keep(page, "outcomes")


def test_only_an_operator_promotes_and_rolls_back(page: Any, served: Served) -> None:
    ledger = served.project.ledger
    open_page(page, served, "outcomes")
    expect(page.get_by_text("need the role operator")).to_be_visible()
    assert page.get_by_role("button", name="Promote").count() == 0
    open_page(page, served, "outcomes", "operator")
    page.get_by_role("button", name="Promote", exact=True).click()
    expect(page.get_by_text("A reason is needed")).to_be_visible()
    page.get_by_role("textbox", name="Reason").fill("twice the trees")
    page.get_by_role("button", name="Promote", exact=True).click()
    expect(page.get_by_text("rents version 2 is now the champion.")).to_be_visible()
    event = ledger.get_alias("rents", CHAMPION)
    assert event is not None and (event["version"], event["reason"]) == (2, "twice the trees")
    keep(page, "outcomes-operator")
    page.get_by_role("textbox", name="Reason").fill("it was no better")
    page.get_by_role("button", name="Roll back to version 1").click()
    expect(page.get_by_text("rents version 1 is now the champion.")).to_be_visible()
    assert ledger.get_version("rents", CHAMPION)["version"] == 1


def test_the_documented_page_of_a_projects_own_stands_beside_ours(page: Any, served: Served) -> None:
    assert COMMANDS == [["serve"], ["dashboard", "--role", "operator"]]
    open_page(page, served, "")
    page.get_by_role("link", name="our own").click()
    expect(page.get_by_role("heading", name="Versions")).to_be_visible()
    versions = served.project.ledger.list_versions()
    shown = page.get_by_test_id("stTable").locator("tbody tr")
    expect(shown).to_have_count(len(versions))
    expect(shown.first).to_contain_text(versions[0]["made"])


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_dark_where_the_browser_is_and_fetches_nothing(browser: Any, served: Served, name: str) -> None:
    page = browser.new_page(color_scheme="dark", viewport={"width": 1360, "height": 1000})
    page.on("request", lambda request: served.asked.append(request.url))
    open_page(page, served, name)
    ground = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground)[:3])) < 60
    keep(page, f"{PAGES[name].lower()}-dark")
    page.close()
    outside = [url for url in served.asked if not url.startswith((*served.urls.values(), "data:", "blob:", "about:"))]
    assert outside == []


def test_days_are_added_up_once_and_again_when_they_changed(served: Served) -> None:
    project = served.project
    monitor = Monitor(project, "rents", 1)
    days = Days(monitor).update()
    found = look(project, "rents", version=1)
    assert [(day.day, day.rows) for day in days] == [(f"{one.start:%Y-%m-%d}", one.rows) for one in found.windows]
    assert [one.to_json() for one in days[-1].drifts] == [one.to_json() for one in found.windows[-1].drifts]
    assert sum(rows for day in days for _, _, rows in day.hours) == found.rows

    def again() -> list[Day]:
        """As another process adds them up."""
        return [
            replace(day, drifts=days[place].drifts)
            for place, day in enumerate(Days(Monitor(project, "rents", 1)).update())
        ]

    sketch = days[-1].path
    facts = sketch.with_suffix(".json")
    before = facts.stat().st_mtime_ns
    assert again() == days and facts.stat().st_mtime_ns == before
    facts.write_text(facts.read_text()[:40])  # cut in half
    assert again() == days and facts.stat().st_mtime_ns != before
    sketch.unlink()
    assert again() == days and sketch.is_file()


def test_latency_is_read_of_a_page_of_metrics(served: Served) -> None:
    rows = {"rows": [{"area": 100.0, "rooms": 3, "floor": None, "district": "North", "is_new": True}]}
    before = latency_of(httpx.get(f"{served.service}/metrics").text)
    assert httpx.post(f"{served.service}/v1/predictions", json=rows).status_code == 200
    found = latency_of(httpx.get(f"{served.service}/metrics").text)
    assert (found.requests, found.rows) == (before.requests + 1, before.rows + 1)
    assert found.median_s is not None and found.p99_s is not None and 0 < found.median_s <= found.p99_s


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--role", "opertor"], "did you mean 'operator'?"),
        (["--server", "localhost"], "Expected the address of a service"),
        (
            ["--host", "0.0.0.0"],
            "can be reached from outside, and nobody is asked who they are; say --allow-anonymous.",
        ),
        (["--host", "nowhere.invalid"], "nowhere.invalid"),
        (["--port", "70000"], "65535"),
        (["-C", "/"], "There is no system.py in /"),
    ],
)
def test_what_cannot_be_started_is_one_line(served: Served, words: list[str], expected: str) -> None:
    done = perron("dashboard", *words, cwd=served.folder, check=False)
    assert done.returncode in (1, 2) and expected in done.stderr


def test_a_port_that_is_taken_is_named(served: Served) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = perron("dashboard", "--port", str(port), cwd=served.folder, check=False)
    assert done.returncode == 1 and str(port) in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_missing_streamlit_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"perron\[dashboard\]"):
        command(Settings(tmp_path), "127.0.0.1", 8501)


def test_a_project_without_a_model_says_what_to_do(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "system.py").write_text("")
    with dashboard(tmp_path, "dashboard") as url:
        page = browser.new_page()
        for name in ("", "data", "live", "outcomes"):
            page.goto(f"{url}/{name}")
            expect(page.get_by_text("perron run").first).to_be_visible()
            expect(page.get_by_test_id("stException")).to_have_count(0)
        page.close()
