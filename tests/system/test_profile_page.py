"""The profile's page in a real browser: whole, quiet, offline, readable at any width, in both schemes, by keyboard."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from playwright import sync_api as playwright

from perron.profile import Profile, profile_of
from tests.conftest import need

pytestmark = pytest.mark.browser

NASTY = "<script>window.attacked = 1</script>\"&'"
# Contrast by WCAG 2.2, 1.4.3: the least ratio of any text to what lies behind it.
CONTRAST = """() => {
  const parse = c => (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
                       return .2126 * r + .7152 * g + .0722 * b; };
  let least = [99, ''];
  for (const node of document.querySelectorAll('body *')) {
    if (![...node.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || node.closest('svg')) continue;
    let behind = node, back;
    do { back = parse(getComputedStyle(behind).backgroundColor); behind = behind.parentElement; }
    while (behind && back.length > 3 && back[3] === 0);
    const [a, b] = [light(parse(getComputedStyle(node).color).slice(0, 3)), light(back.slice(0, 3))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < least[0]) least = [ratio, node.outerHTML.slice(0, 120)];
  }
  return least;
}"""


@pytest.fixture(scope="module")
def profile() -> Profile:
    rows = 400
    columns = {
        "size": [float(n * n % 997) for n in range(rows)], "kind": [f"k{n % 5}" for n in range(rows)],
        "when": pa.array([n * 86_400_000_000 for n in range(rows)], pa.timestamp("us")), NASTY: [NASTY] * rows,
        "holes": [None if n % 3 else 1.5 * n for n in range(rows)], "flag": [n % 2 == 0 for n in range(rows)],
        **{f"a rather long name of a column {n}": [float((n + 1) * i % 89) for i in range(rows)] for n in range(12)},
    }  # fmt: skip
    columns["price"] = [value * 2 + n % 7 for n, value in enumerate(columns["size"])]
    return profile_of(pa.table(columns), target="price")


@pytest.fixture(scope="module")
def browser() -> Any:
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360)])
def test_the_page_reads_well_and_asks_for_nothing(
    profile: Profile, browser: Any, tmp_path: Path, scheme: str, width: int
) -> None:
    path = tmp_path / "report.html"
    path.write_text(profile.to_html(), encoding="utf-8")
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    assert asked == [path.as_uri()] and said == []
    assert page.evaluate("window.attacked") is None and NASTY in page.inner_text("#columns")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    least, where = page.evaluate(CONTRAST)
    assert least >= 4.5, where
    levels = [int(tag[1]) for tag in page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => h.tagName)")]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert page.locator("svg:not([role=img][aria-label])").count() == 0
    for link in page.evaluate("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))"):
        assert page.locator(f"[id='{link[1:]}']").count() == 1
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the findings"
    page.keyboard.press("Enter")
    playwright.expect(page).to_have_url(re.compile("#findings$"))
    for heading in (
        "Findings",
        "What tells price",
        "Columns",
        "Associations",
        "Missing values",
        "Over time",
        "Sample rows",
    ):
        assert page.get_by_role("heading", name=heading, exact=True).count() == 1
    page.close()


def test_a_notebook_frame_shows_the_same_page(profile: Profile, browser: Any) -> None:
    page = browser.new_page()
    page.set_content(profile._repr_html_())
    frame = page.frame_locator("iframe")
    assert "Profile of table" in frame.locator("h1").inner_text()
    page.close()
