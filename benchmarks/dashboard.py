"""How long the dashboard's pages take on a project with many logged predictions.

    python benchmarks/dashboard.py FOLDER [--rows 1000000] [--days 60] [--outcomes 0.2]

FOLDER is a project that was run (`perron run`). Its log, windows and outcomes are written directly, as servers
write them: requests of ten rows drawn from the test data, some of a feature drifting by and by. Then each
page is opened in headless Chromium, the first time and again, and timed until it has settled.
"""

import argparse
import json
import os
import random
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from common import PERRON, free_port, median, table

from perron.bundle import load
from perron.catalog import find_entry
from perron.contract import Schema
from perron.ledger import CHAMPION
from perron.predictions import IdMaker
from perron.project import Project
from perron.snapshot import read_snapshot
from perron.windows import WindowWriter

SETTLED = """() => document.querySelector("h1") && document.querySelector("[data-test-script-state=notRunning]")
    && !document.querySelector("[data-stale=true], [data-testid=stSkeleton]")"""
PAGES = ("", "data", "runs", "model", "live", "predict", "outcomes")
REQUEST_ROWS = 10


def fill_project(folder: Path, rows: int, days: int, share_known: float = 0.2, seed: int = 0) -> None:
    """Writes as many logged predictions of the champion as `rows`, evenly over the newest `days`, with their windows and outcomes."""
    project = Project.open(folder)
    name = find_entry(project).runs[0]["system"]
    version = project.ledger.get_version(name, CHAMPION)
    bundle = load(project.ledger.bundle_path(version), version["bundle"])
    schema: Schema = bundle.schema
    assert schema.target is not None
    target, fields = schema.target.name, [field.name for field in schema.request]
    rows_of = read_snapshot(project.store, find_entry(project).digest)
    known = rows_of.slice(0, 5_000).to_pylist()
    chance = random.Random(seed)
    moving = next(field.name for field in reversed(schema.features) if field.kind == "float")
    header = {
        "format": 1, "model": name, "version": version["version"], "bundle": version["bundle"],
        "lineage": bundle.manifest["lineage"],
    }  # fmt: skip
    windows = project.folder / ".perron" / "windows"
    project.predictions.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    hours = days * 24
    for hour in range(hours):
        start = now - timedelta(hours=hours - hour)
        count = rows * (hour + 1) // hours - rows * hour // hours
        drawn = [dict(chance.choice(known)) for _ in range(count)]
        for row in drawn:
            if row[moving] is not None and hour > hours * 0.7:
                row[moving] = round(row[moving] * (1 + 1.0 * (hour / hours - 0.7)), 4)
        packed = [tuple(row[field] for field in fields) for row in drawn]
        values, shares = bundle.run(bundle.packer(packed))
        given = values.tolist()
        writer = WindowWriter(windows, name, version["version"], CHAMPION, schema, has_confidence=shares is not None)
        confidence = None if shares is None else shares.max(axis=1).tolist()
        writer.add(packed, given, confidence, start)
        writer.flush()
        _write_segment(project, header, start, fields, drawn, given, shares, bundle.labels, target, share_known, chance)
    project.ledger.close()


def _write_segment(
    project: Project, header: dict[str, Any], start: datetime, fields: list[str], drawn: list[dict[str, Any]],
    given: list[Any], shares: Any, labels: list[str], target: str, share_known: float, chance: random.Random,
) -> None:  # fmt: skip
    segment = f"{int(start.timestamp() * 1000):012x}{chance.randrange(2**32):08x}"
    new_id, outcomes, step = IdMaker(segment), [], timedelta(minutes=59) / max(1, len(drawn))
    lines = [json.dumps({**header, "started": _text(start)}, separators=(",", ":"))]
    moment = start
    for place in range(0, len(drawn), REQUEST_ROWS):
        moment = start + step * place
        rows, made = drawn[place : place + REQUEST_ROWS], []
        for offset, row in enumerate(rows):
            one: dict[str, Any] = {"id": new_id(), "value": given[place + offset]}
            if shares is not None:
                one["probabilities"] = dict(zip(labels, shares[place + offset].tolist(), strict=True))
            made.append(one)
            if chance.random() < share_known:
                outcomes.append((one["id"], row[target]))
        request = {"rows": [{field: row[field] for field in fields} for row in rows]}
        reply = {"model": header["model"], "version": header["version"], "predictions": made}
        line = {"time": _text(moment), "route": CHAMPION, "request": request, "reply": reply}
        lines.append(json.dumps(line, separators=(",", ":"), default=str))
    path = project.predictions / f"{segment}.jsonl"
    path.write_text("\n".join(lines) + "\n")
    os.utime(path, (moment.timestamp(), moment.timestamp()))
    project.ledger.add_outcomes(outcomes)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def measure(folder: Path, rounds: int = 3) -> None:
    """Prints, per page, the seconds until it has settled: the first time, and the median of the rounds after it."""
    from playwright.sync_api import sync_playwright

    port = free_port()
    command = [PERRON, "dashboard", "--port", str(port), "-C", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            assert running.stdout is not None
            for line in running.stdout:
                if "started on" in line:
                    break
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
                page = browser.new_page()
                seconds = {name: [_open(page, f"http://127.0.0.1:{port}/{name}")] for name in PAGES}
                deadline = time.monotonic() + 600
                while _is_waiting(page, port):
                    if time.monotonic() > deadline:
                        raise SystemExit("The traffic wasn't added up within 10 minutes.")
                for _ in range(rounds):
                    for name in PAGES:
                        seconds[name].append(_open(page, f"http://127.0.0.1:{port}/{name}"))
                browser.close()
        finally:
            running.terminate()
            running.wait(60)
    rows = [(name or "home", f"{some[0]:.2f}", f"{median(some[1:]):.2f}") for name, some in seconds.items()]
    print(table(("page", "first, s", "then, s"), rows))


def _open(page: Any, address: str) -> float:
    started = time.perf_counter()
    page.goto(address)
    page.wait_for_function(SETTLED, timeout=60_000)
    return time.perf_counter() - started


def _is_waiting(page: Any, port: int) -> bool:
    """Whether home still says that traffic is being added up."""
    _open(page, f"http://127.0.0.1:{port}/")
    page.wait_for_timeout(1000)
    return "being" in page.inner_text(".block-container")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--outcomes", type=float, default=0.2)
    wanted = parser.parse_args()
    if wanted.rows:
        started = time.perf_counter()
        fill_project(wanted.folder, wanted.rows, wanted.days, wanted.outcomes)
        print(f"{wanted.rows:,} predictions written in {time.perf_counter() - started:.0f} s", flush=True)
    measure(wanted.folder)


if __name__ == "__main__":
    main()
