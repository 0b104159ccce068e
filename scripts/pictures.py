"""Housing and bike tables in; the pictures of docs/ out, taken of a real project in Debian's chromium.

    python scripts/pictures.py --data housing.csv --bikes bike_sharing_hourly.csv

It makes a project in a temporary folder, runs the commands that the pages tell of, serves, asks (a fortnight of
requests, by a clock that is moved on), and looks. Without the tables the rows are simulated. Look at each picture
before you commit it: a picture that is wrong is worse than none.
"""

import argparse
import csv
import http.client
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import FloatRect, Page, sync_playwright

LARGEST = 150_000  # bytes of a picture
DAYS, A_DAY, MOVED = 14, 180, 9  # of requests; from this day on incomes come in another way
TREES = (60, 300)
SIZES = {
    "profile": (1200, 1110), "canvas": (1200, 1270), "service": (1200, 950), "dashboard-runs": (1200, 900),
    "dashboard-model": (1200, 1060), "dashboard-live": (1360, 1262), "dashboard-predict": (1200, 1050),
    "monitor": (1200, 1150), "drift-demo": (1200, 900),
}  # fmt: skip
HOUSE = {
    "longitude": "-122.23", "latitude": "37.88", "housing_median_age": "41", "total_rooms": "880",
    "total_bedrooms": "129", "population": "322", "households": "126", "median_income": "8.3252",
}  # fmt: skip
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SYSTEM = '''"""What a house is worth: declared once; the rest is derived from this file."""

from typing import Annotated, Literal

import perron as pn


class House(pn.Contract):
    """One block group of the 1990 census of California."""

    longitude: Annotated[float, pn.Ge(-125), pn.Le(-113), pn.Unit("°")]
    latitude: Annotated[float, pn.Ge(32), pn.Le(43), pn.Unit("°")]
    housing_median_age: Annotated[float, pn.Ge(0), pn.Unit("years")]
    total_rooms: Annotated[float, pn.Ge(0)]
    total_bedrooms: Annotated[float, pn.Ge(0)] | None
    population: Annotated[float, pn.Ge(0)]
    households: Annotated[float, pn.Ge(1)]
    median_income: Annotated[float, pn.Ge(0), pn.Unit("10,000 USD")]
    """Of the households, a year."""
    ocean_proximity: Literal["<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"]
    median_house_value: Annotated[float, pn.Ge(0), pn.Unit("USD"), pn.Target]


system = pn.System(
    "house-prices",
    House,
    source="data/housing.csv",
    split=pn.split.random(test=0.2, seed=42),
    gates=[pn.gate.better_than_baseline("rmse"), pn.gate.no_worse_than_champion("rmse")],
    params={"n_estimators": TREES},
)
'''
CANVAS = """format = 1

[value]
name = "house-prices"
product = "An estimate of what a house is worth, while its owner is on the phone"
pains = ["A surveyor takes a week and errs by 65,000 USD"]
measure = "share of owners who ask for an offer"

[objectives]
business = ["Twice as many offers a week with the same people"]
model = ["The median value of a block group's houses, from its census"]

[decision]
decision = "Which price the agent names first"
action = "The agent names it, or asks a surveyor where the model is unsure"
who = "The agent"

[data]
target = "median_house_value"
sources = ["data/housing.csv"]
labels = "The price in the deed, two to six weeks later"

[[goals]]
metric = "rmse"
at_most = 60000
why = "a surveyor errs by 65,000"

[budgets]
max_p99_ms = 100
max_error_share = 0.001
availability = 0.999
min_rows_per_s = 200
machine_cost_per_hour = 0.04
max_cost_per_1000 = 0.05
max_size_mb = 20

[feasibility]
data = "20,640 block groups; the newest are from 1990"
technology = "One machine with two cores"
people = "One of three, a day a week"

[fairness]
groups = ["ocean_proximity"]
measure = "rmse differs by at most a tenth"

[risks]
risks = ["Prices move faster than the census"]
legislation = ["GDPR: no row names a person"]

[ai_act]
prohibited_practice = false
safety_component = false
area = "none"
profiles_people = false
narrow_task = false
meets_people = false
makes_content = false
recognises_emotions = false

[owners]
product = "Ada"
data = "Grace"
model = "Grace"
operations = "Linus"

[[phases]]
name = "Pilot in one office"
until = 2027-03-01
result = "Agents use it in half of their calls"
"""
NUMBERS = (
    "longitude", "latitude", "housing_median_age", "total_rooms", "total_bedrooms", "population", "households",
    "median_income", "median_house_value",
)  # fmt: skip


def simulate_housing() -> list[dict[str, str]]:
    """6,000 rows in the likeness of the housing table, a few faults of it included."""
    chance = random.Random(0)
    rows = []
    for place in range(6_000):
        households = chance.randint(20, 1500)
        income = round(chance.lognormvariate(1.2, 0.45), 4)
        sea = chance.choices(["<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"], [44, 32, 1, 11, 12])[0]
        value = 20_000 + 42_000 * income + (-60_000 if sea == "INLAND" else 30_000) + chance.gauss(0, 20_000)
        row = {
            "longitude": round(chance.uniform(-124, -114), 2), "latitude": round(chance.uniform(32.5, 42), 2),
            "housing_median_age": chance.randint(1, 52), "total_rooms": households * chance.randint(3, 8),
            "total_bedrooms": "" if place % 100 == 0 else households * chance.randint(1, 2), "population": households * 3,
            "households": households, "median_income": income, "ocean_proximity": sea,
            "median_house_value": min(500_001, max(15_000, round(value))),
        }  # fmt: skip
        rows.append({name: str(value) for name, value in row.items()})
    return rows


def perron(*words: str | Path, cwd: Path, ok: tuple[int, ...] = (0,)) -> str:
    """What a command of Perron's said.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "perron", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode not in ok:
        raise RuntimeError(f"perron {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def started(folder: Path, *words: str) -> Iterator[str]:
    """The address of a command of Perron's that serves, while the context lasts."""
    command = [sys.executable, "-m", "perron", *words, "-C", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                found = re.search(r"(?:answers at|is at) (http://[^\s/]+:\d+)", said)
                if found and ("answers" in line or "started on" in line):
                    break
            else:
                raise RuntimeError(f"perron {' '.join(words)} didn't start: {said.strip()}")
            yield found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


class Scene:
    """The project that the pictures are taken of; each part of it is made when a picture first needs it."""

    def __init__(self, folder: Path, data: Path | None, bikes: Path | None, output: Path) -> None:
        self.folder, self.bikes, self.output = folder, bikes, output
        rows = list(csv.DictReader(data.open(newline=""))) if data else simulate_housing()
        random.Random(7).shuffle(rows)
        self.rows, self.asked = rows[DAYS * A_DAY :], rows[: DAYS * A_DAY]

    @cached_property
    def project(self) -> Path:
        """A project with a canvas."""
        table = self.folder / "housing.csv"
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        perron("init", "house-prices", "--from", table, "--target", "median_house_value", cwd=self.folder)
        made = self.folder / "house-prices"
        (made / "canvas.toml").write_text(CANVAS)
        (made / "system.py").write_text(SYSTEM.replace("TREES", str(TREES[0])))
        perron("canvas", "check", cwd=made)
        return made

    @cached_property
    def trained(self) -> Path:
        """The same, after a run per number of trees, each of a commit."""
        made = self.project
        for trees in TREES:
            (made / "system.py").write_text(SYSTEM.replace("TREES", str(trees)))
            subprocess.run(["git", "add", "-A"], cwd=made, check=True)
            name = ["-c", "user.name=Grace", "-c", "user.email=grace@example.org"]
            subprocess.run(["git", *name, "commit", "-q", "--no-verify", "-m", f"{trees} trees"], cwd=made, check=True)
            perron("run", cwd=made)
        return made

    @cached_property
    def served(self) -> Path:
        """The same, after a fortnight of requests: outcomes come two days late, incomes are higher from the tenth day on."""
        made, clock = self.trained, self.folder / "now"
        today = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0)
        waiting: list[tuple[int, list[dict[str, Any]]]] = []
        clock.write_text(today.isoformat())
        with started(made, "serve", "--port", "0", "--clock", str(clock)) as address:
            for day in range(DAYS):
                rows = [_parsed(row) for row in self.asked[day * A_DAY : (day + 1) * A_DAY]]
                truths = [row.pop("median_house_value") for row in rows]
                for row in rows if day >= MOVED else ():
                    row["median_income"] = round(row["median_income"] * 1.4, 4)
                clock.write_text((today - timedelta(days=DAYS - day)).isoformat())
                answers = _post(address, "/v1/predictions", {"rows": rows})["predictions"]
                told = [{"prediction": a["id"], "value": t} for a, t in zip(answers, truths, strict=True)]
                waiting.append((day + 2, told))
                for _, known in [one for one in waiting if one[0] == day]:
                    _post(address, "/v1/outcomes", {"outcomes": known})
        perron("monitor", "--rebuild", "--html", "monitor.html", cwd=made, ok=(0, 1))
        return made

    def shoot(self, page: Page, name: str, under: str | None = None) -> None:
        """Writes the picture of the page, from a heading on if there is one, in few colours.

        Raises:
            RuntimeError: it has more than LARGEST bytes.
        """
        width, height = SIZES[name]
        page.set_viewport_size({"width": width, "height": height})
        page.mouse.move(0, 0)
        page.wait_for_load_state("networkidle")
        top = 0.0
        if under is not None:
            heading = page.get_by_role("heading", name=under)
            heading.evaluate("node => node.scrollIntoView()")
            top = (heading.bounding_box() or {"y": 0.0})["y"]
        clip: FloatRect = {"x": 0, "y": top, "width": width, "height": height - top}
        taken = Image.open(BytesIO(page.screenshot(clip=clip, animations="disabled"))).convert("RGB")
        kept = BytesIO()
        taken.quantize(colors=128, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
        if len(kept.getvalue()) > LARGEST:
            raise RuntimeError(f"{name}.png has {len(kept.getvalue()):,} bytes, {LARGEST:,} at most: show less of it.")
        (self.output / f"{name}.png").write_bytes(kept.getvalue())
        print(f"{self.output / name}.png  {len(kept.getvalue()):,} bytes")


def _parsed(row: dict[str, str]) -> dict[str, Any]:
    return {name: value if name not in NUMBERS else float(value) if value else None for name, value in row.items()}


def _post(address: str, path: str, body: object) -> Any:
    """The answer's JSON.

    Raises:
        RuntimeError: another status than 200.
    """
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"POST {path} was answered with {answer.status}: {said[:300]!r}")
    return json.loads(said)


# ------------------------------------------------------------------ pictures


def profile(scene: Scene, page: Page) -> None:
    perron("profile", "data/housing.csv", "--target", "median_house_value", "-o", "report.html", cwd=scene.project)
    page.goto((scene.project / "report.html").as_uri())
    scene.shoot(page, "profile")


def canvas(scene: Scene, page: Page) -> None:
    perron("canvas", "render", "-o", "canvas.html", cwd=scene.project)
    page.goto((scene.project / "canvas.html").as_uri())
    scene.shoot(page, "canvas")


def service(scene: Scene, page: Page) -> None:
    with started(scene.trained, "serve", "--port", "0") as address:
        page.goto(f"{address}/docs", wait_until="networkidle")
        scene.shoot(page, "service")


def dashboard(scene: Scene, page: Page) -> None:
    """Its pages runs, model, live and predict: a picture each."""
    with (
        started(scene.served, "serve", "--port", "0") as address,
        started(scene.served, "dashboard", "--port", "0", "--server", address) as shown,
    ):
        for name in ("runs", "model", "live", "predict"):
            page.goto(f"{shown}/{name}")
            _settle(page)
            if name == "live":
                _choose(page, "Feature", "median_income")
            if name == "predict":
                for field, value in HOUSE.items():
                    label = field.replace("_", ".{1,2}")  # Streamlit keeps the sign that escapes it
                    page.get_by_role("textbox", name=re.compile(f"^{label}")).fill(value)
                _choose(page, "ocean.{1,2}proximity", "NEAR BAY")
                page.get_by_role("button", name="Predict", exact=True).click()
                page.get_by_role("table", name="Receipt").wait_for()
            _settle(page)
            scene.shoot(page, f"dashboard-{name}", under="Drift of features and answers" if name == "live" else None)


def monitor(scene: Scene, page: Page) -> None:
    page.goto((scene.served / "monitor.html").as_uri())
    scene.shoot(page, "monitor")


def drift_demo(scene: Scene, page: Page) -> None:
    given = ["--data", str(scene.bikes)] if scene.bikes else []
    perron("demo", "drift", *given, "--folder", scene.folder / "drift", cwd=scene.folder)
    page.goto((scene.folder / "drift" / "drift.html").as_uri())
    scene.shoot(page, "drift-demo")


def _choose(page: Page, label: str, value: str) -> None:
    page.get_by_role("combobox", name=re.compile(label)).click()
    page.keyboard.type(value)
    page.keyboard.press("Enter")


def _settle(page: Page) -> None:
    """Waits until Streamlit has drawn everything."""
    page.locator("[data-test-script-state=notRunning]").wait_for(state="attached")
    page.wait_for_function("!document.querySelector('[data-testid=stSkeleton], [data-testid=stException]')")
    page.wait_for_load_state("networkidle")


SCENES = {look.__name__: look for look in (profile, canvas, service, dashboard, monitor, drift_demo)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="California housing as CSV; simulated without")
    parser.add_argument("--bikes", type=Path, help="the UCI bike sharing table by the hour; simulated without")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "docs" / "pictures")
    parser.add_argument("--only", help=f"some of {', '.join(SCENES)}, parted by commas")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(SCENES)
    if unknown := set(names) - set(SCENES):
        parser.error(f"no such scene: {', '.join(sorted(unknown))}; there are {', '.join(SCENES)}")
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        scene = Scene(Path(folder), given.data, given.bikes and given.bikes.resolve(), given.output)
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        for name in names:
            page = browser.new_page(color_scheme="light", viewport={"width": 1200, "height": 1000})
            page.set_default_timeout(60_000)
            SCENES[name](scene, page)
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
