"""The page at /docs, used in a real browser as people use it: on a model of classes and on one of numbers."""

import csv
import json
import random
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright import sync_api as playwright

from perron.demonstration import serving
from tests.conftest import need, perron

expect = playwright.expect
expect.set_options(timeout=30_000)
pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SYSTEM = '''
from datetime import date, datetime
from typing import Annotated, Literal

import perron as pn

class Flights(pn.Contract):
    """Departures. <img src=x onerror="window.attacked = 1">"""

    carrier: Literal["Aurora", "Boreal", "<img src=y onerror=window.attacked=2>", "O'Hare & Co"]
    """The operating carrier. <img src=z onerror="window.attacked = 3">"""
    terminal: Literal[1, 2, 3]
    is_weekend: bool
    day: Annotated[date, pn.Ge(date(2024, 1, 1))]
    departure: datetime
    distance: Annotated[float, pn.Ge(0), pn.Lt(20_000), pn.Unit("km")]
    """Great-circle distance."""
    wind: Annotated[float, pn.Ge(0), pn.Unit("km/h")] | None
    code: Annotated[int, pn.Id]
    remark: Annotated[str, pn.Ignore]
    outcome: Annotated[Literal["late", "on time"], {outcome}]
    delay: Annotated[float, pn.Unit("min"), {delay}]

system = pn.System("flights", Flights, source="flights.csv")
'''


def make_project(folder: Path, **roles: str) -> Path:
    """A project of 300 rows, run once."""
    chance = random.Random(7)
    carriers = ["Aurora", "Boreal", "<img src=y onerror=window.attacked=2>", "O'Hare & Co"]
    folder.mkdir()
    with (folder / "flights.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(re.findall(r"^    (\w+):", SYSTEM, re.MULTILINE))
        for row in range(300):
            wind, day = chance.randint(0, 90), f"2024-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
            delay = 1000 + 10.5 * wind + chance.gauss(0, 30)
            writer.writerow(
                [carriers[row % 4], row % 3 + 1, row % 5 == 0, day, f"{day}T06:30:00", 100 + 7.25 * row,
                 wind if row % 9 else "", 2**53 + row, f"note {row}", "late" if delay > 1450 else "on time", f"{delay:.6f}"]
            )  # fmt: skip
    (folder / "system.py").write_text(SYSTEM.format(**roles))
    perron("run", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service that predicts classes."""
    folder = make_project(tmp_path_factory.mktemp("docs") / "classes", outcome="pn.Target", delay="pn.Ignore")
    with serving(folder) as (address, _):
        yield address


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service that predicts numbers with a unit."""
    folder = make_project(tmp_path_factory.mktemp("docs") / "numbers", outcome="pn.Ignore", delay="pn.Target")
    with serving(folder) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = need("chromium")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield found
        found.close()


class Visit:
    """A page at /docs, and what went on in it: requests, and errors other than a refused prediction's status."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.address = address
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)
        self.context.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective))"
        )
        self.page.goto(f"{address}/docs")
        expect(self.page.locator("#reference")).to_be_visible()

    def _listen(self, message: Any) -> None:
        is_status = message.text.startswith("Failed to load resource") and "/v1/predictions" in message.location["url"]
        if message.type in ("error", "warning") and not is_status:
            self.errors.append(message.text)

    def body(self) -> Any:
        """What the shown command sends."""
        words = shlex.split(self.page.locator("#curl").inner_text().replace("\\\n", ""))
        assert words[:4] == ["curl", f"{self.address}/v1/predictions", "-H", "Content-Type: application/json"]
        return json.loads(words[-1])

    def tab_to(self, selector: str) -> None:
        """Presses Tab until the selector's element has the focus."""
        for _ in range(40):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"40 tabs don't reach {selector}")


@pytest.fixture
def visits(browser: Any) -> Iterator[Any]:
    """Opens pages; when the test is over, none had an error or asked another origin, and no attack ran."""
    opened: list[Visit] = []

    def visit(address: str, **options: Any) -> Visit:
        opened.append(Visit(browser, address, **options))
        return opened[-1]

    yield visit
    for one in opened:
        assert one.errors == []
        assert [url for url in one.requests if not url.startswith(f"{one.address}/")] == []
        assert one.page.evaluate("window.attacked ?? null") is None
        assert one.page.evaluate("document.images.length") == 0
        one.context.close()


def test_page_shows_the_model_its_scores_and_its_words_as_text(visits: Any, classes: str) -> None:
    page = visits(classes).page
    model = httpx.get(f"{classes}/v1/model").json()
    assert page.locator("h1").all_inner_texts() == ["flights"]
    expect(page.locator("#facts")).to_contain_text("version 1 · classification")
    expect(page.locator("#metrics dt")).to_have_count(len(model["metrics"]))
    shown = page.locator("#metrics > div", has_text=re.compile(r"^accuracy"))
    expect(shown).to_contain_text(f"{model['metrics']['accuracy']:.3f}")
    expect(shown).to_contain_text(f"baseline {model['baseline']['accuracy']:.3f}")
    expect(page.locator("#about")).to_have_text('Departures. <img src=x onerror="window.attacked = 1">')
    expect(page.locator("#field-0-hint")).to_contain_text('<img src=z onerror="window.attacked = 3">')
    assert "<img src=y onerror=window.attacked=2>" in page.get_by_label("carrier").inner_text()


def test_form_has_a_labelled_control_per_field_prefilled_with_the_example(visits: Any, classes: str) -> None:
    visit = visits(classes)
    document = httpx.get(f"{classes}/openapi.json").json()
    example = document["paths"]["/v1/predictions"]["post"]["requestBody"]["content"]["application/json"]["example"]
    row, sent = example["rows"][0], visit.body()["rows"][0]
    fields = document["components"]["schemas"]["Row"]["properties"]
    assert visit.page.locator("#fields label").count() == len(fields)
    for index, name in enumerate(fields):
        expect(visit.page.get_by_label(re.compile(rf"^{name}\b"))).to_have_attribute("id", f"field-{index}")
    assert sent["departure"][:19] == row["departure"][:19] and sent["departure"].endswith("Z")
    assert {**sent, "departure": 0} == {**row, "departure": 0}
    assert type(sent["terminal"]) is int and type(sent["is_weekend"]) is bool


def test_prediction_is_the_service_s_own_with_its_probabilities(visits: Any, classes: str) -> None:
    visit = visits(classes)
    visit.page.get_by_label("carrier").select_option("O'Hare & Co")
    visit.page.get_by_label("wind").fill("61.5")
    body = visit.body()
    assert body["rows"][0]["carrier"] == "O'Hare & Co" and body["rows"][0]["wind"] == 61.5
    visit.page.get_by_role("button", name="Predict").click()
    expect(visit.page.locator("#result")).to_contain_text("Predicted outcome")
    own = httpx.post(f"{classes}/v1/predictions", json=body).json()["predictions"][0]
    expect(visit.page.locator("#result data")).to_have_text(own["value"])
    shares = sorted(own["probabilities"].items(), key=lambda pair: -pair[1])
    lines = visit.page.locator("#result .shares li .row")
    assert [line.split("\n") for line in lines.all_inner_texts()] == [
        [label, f"{share:.1%}"] for label, share in shares
    ]
    expect(visit.page.locator("#reply")).to_contain_text('"model": "flights"')


def test_predicted_number_is_exact_and_has_its_unit(visits: Any, numbers: str) -> None:
    visit = visits(numbers)
    visit.page.get_by_label("code").fill("9223372036854775807")  # more digits than a JavaScript number keeps
    assert visit.body()["rows"][0]["code"] == 2**63 - 1
    visit.page.get_by_role("button", name="Predict").click()
    expect(visit.page.locator("#result")).to_contain_text("Predicted delay")
    own = httpx.post(f"{numbers}/v1/predictions", json=visit.body()).json()["predictions"][0]["value"]
    shown = visit.page.locator("#result data")
    assert float(shown.get_attribute("value")) == own
    expect(shown).to_have_text(f"{own:,.2f}".rstrip("0").rstrip(".") + " min")


def test_prediction_s_id_opens_its_receipt(visits: Any, classes: str) -> None:
    visit = visits(classes)
    visit.page.get_by_role("button", name="Predict").click()
    link = visit.page.locator("#result a")
    prediction = link.inner_text()
    link.click()
    receipt = httpx.get(f"{classes}/v1/predictions/{prediction}").json()
    dialog = visit.page.get_by_role("dialog", name="Receipt")
    for words in (prediction, receipt["prediction"]["time"], receipt["run"], receipt["data"]["snapshot"]):
        expect(dialog).to_contain_text(words)
    for name, value in receipt["prediction"]["input"].items():
        shown = json.dumps(value) if isinstance(value, bool | float) else str(value)
        expect(dialog.locator("dt", has_text=re.compile(rf"^{name}$")).locator("+ dd")).to_have_text(
            shown.removesuffix(".0")
        )
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_every_fault_is_shown_beside_its_field_in_the_server_s_words(visits: Any, classes: str) -> None:
    visit = visits(classes)
    page = visit.page
    page.get_by_label("distance").fill("-4")
    page.get_by_label("terminal").select_option("(left out)")
    page.get_by_label("day").fill("2020-02-29")
    page.get_by_label("wind").fill("")
    assert "wind" not in visit.body()["rows"][0] and "terminal" not in visit.body()["rows"][0]
    refusal = httpx.post(f"{classes}/v1/predictions", json=visit.body())
    assert refusal.status_code == 422
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#result h3")).to_have_text("The request breaks the contract")
    expect(page.locator("#result")).to_be_focused()
    errors = refusal.json()["errors"]
    assert [error["field"] for error in errors] == ["terminal", "day", "distance"]
    assert page.locator("#result li").all_inner_texts() == [f"{error['field']}: {error['message']}" for error in errors]
    for error in errors:
        control = page.get_by_label(error["field"])
        expect(control).to_have_attribute("aria-invalid", "true")
        expect(page.locator(f"#{control.get_attribute('id')}-fault")).to_have_text(
            error["message"].partition(" at ")[0]
        )
    assert page.locator("[aria-invalid=true]").count() == 3
    page.locator("#result a", has_text="distance").click()
    expect(page.get_by_label("distance")).to_be_focused()
    page.get_by_label("distance").fill("4")
    expect(page.get_by_label("distance")).to_have_attribute("aria-invalid", "false")
    page.get_by_role("button", name="Reset").click()
    assert page.locator("[aria-invalid=true]").count() == 0


def test_a_server_that_is_gone_is_told_in_plain_words(visits: Any, classes: str) -> None:
    visit = visits(classes)
    visit.context.set_offline(True)
    visit.page.get_by_role("button", name="Predict").click()
    expect(visit.page.locator("#result")).to_contain_text("The server can't be reached")
    visit.context.set_offline(False)
    visit.page.get_by_role("button", name="Predict").click()
    expect(visit.page.locator("#result")).to_contain_text("Predicted outcome")


def test_keyboard_alone_predicts_and_opens_the_receipt(visits: Any, classes: str) -> None:
    visit = visits(classes)
    keys = visit.page.keyboard
    keys.press("Tab")
    keys.press("Enter")  # the link that skips to the form
    visit.tab_to("[name=distance]")
    keys.press("ControlOrMeta+A")
    keys.type("321")
    assert visit.body()["rows"][0]["distance"] == 321
    keys.press("Enter")
    expect(visit.page.locator("#result data")).to_be_visible()
    visit.tab_to("#result a")
    keys.press("Enter")
    expect(visit.page.get_by_role("dialog", name="Receipt")).to_be_visible()
    keys.press("Escape")
    expect(visit.page.get_by_role("dialog", name="Receipt")).to_be_hidden()
    expect(visit.page.locator("#result a")).to_be_focused()
    visit.tab_to("#schemas summary")
    keys.press("Enter")
    expect(visit.page.locator("#schemas details").first.locator("table")).to_be_visible()


def test_reference_lists_every_operation_and_links_every_schema(visits: Any, numbers: str) -> None:
    page = visits(numbers).page
    document = httpx.get(f"{numbers}/openapi.json").json()
    shown = page.locator("#operations h4").all_inner_texts()
    wanted = [f"{method.upper()}{path}" for path, item in document["paths"].items() for method in item]
    assert sorted(re.sub(r"\s+", "", text) for text in shown) == sorted(wanted)
    names = list(document["components"]["schemas"])
    assert page.locator("#schemas h4").all_inner_texts() == names
    links = page.locator("#reference a").evaluate_all("(links) => links.map((link) => link.getAttribute('href'))")
    assert {*links} <= {f"#schema-{name}" for name in names}
    page.locator("#operations summary", has_text="POST").first.click()
    page.locator("#operations a", has_text="Reply").first.click()
    expect(page.locator("#schema-Reply table")).to_be_visible()
    page.locator("#schema-Row summary").click()
    distance = page.locator("#schema-Row tr", has_text="distance")
    assert distance.locator("td").all_inner_texts() == [
        "distance *",
        "number",
        "≥ 0, < 20000, in km",
        "Great-circle distance.",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screen_needs_no_sideways_scrolling(visits: Any, classes: str, scheme: str) -> None:
    page = visits(classes, viewport={"width": 380, "height": 800}, color_scheme=scheme).page
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    page.get_by_role("button", name="Predict").click()
    expect(page.locator("#result data")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") == 380
    assert contrast(page) >= 4.5


def contrast(page: Any) -> float:
    """The least contrast (WCAG 2.2, 1.4.3) of any text on its background."""
    pairs = page.evaluate("""() => {
        const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
        const ground = (node) => {
            const color = node ? rgb(getComputedStyle(node).backgroundColor) : [255, 255, 255];
            return color[3] === 0 ? ground(node.parentElement) : color;
        };
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
        for (let text; (text = texts.nextNode()); ) {
            const node = text.parentElement;
            if (text.data.trim() && node.checkVisibility() && !node.matches("script")) found.push([rgb(getComputedStyle(node).color), ground(node)]);
        }
        return found;
    }""")

    def luminance(color: list[float]) -> float:
        parts = [part / 255 for part in color[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    levels = [sorted(map(luminance, pair)) for pair in pairs]
    assert len(levels) > 100
    return float(min((high + 0.05) / (low + 0.05) for low, high in levels))
