"""Bad input, by the command line: one clear line or a warning with the place, and an unharmed store."""

import io
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from perron.ledger import Ledger
from perron.store import Store
from tests.conftest import perron, perron_json

SYSTEM = """
from datetime import date, datetime
from typing import Annotated
import perron as pn

class Row(pn.Contract):
    x: float
    at: datetime
    y: Annotated[float, pn.Target]

system = pn.System("things", Row, source="{}", max_bad_share={})
"""
ROWS = 300


def lines(rows: int = ROWS) -> list[str]:
    return [f"{n * 1.5},2024-01-{n % 28 + 1:02d},{n * 3}" for n in range(rows)]


def as_csv(head: str = "x,at,y", rows: list[str] | None = None) -> bytes:
    return "\n".join([head, *(lines() if rows is None else rows)]).encode() + b"\n"


def as_parquet(**columns: Any) -> bytes:
    table = {
        "x": np.arange(ROWS) * 1.5,
        "at": [datetime(2024, 1, n % 28 + 1) for n in range(ROWS)],
        "y": np.arange(ROWS) * 3.0,
    }
    buffer = io.BytesIO()
    parquet.write_table(pa.table(table | columns), buffer)
    return buffer.getvalue()


def unharmed(folder: Path, status: str) -> None:
    """The last run ended, nothing is half-written, and every blob is what its name says."""
    ledger, store = Ledger.at(folder / ".perron"), Store(folder / ".perron" / "store")
    try:
        assert [run["status"] for run in ledger.list_runs()] == [status]
    finally:
        ledger.close()
    blobs = [path for path in store.root.rglob("*") if path.is_file()]
    for blob in blobs:
        store.get(blob.parent.name + blob.name)
    assert not (store.root / "tmp").exists() or list((store.root / "tmp").iterdir()) == []


# Data that can't be read, or can't be used: what each of the three verbs says of it.
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "empty file": ("rows.csv", b"", "rows.csv is empty"),
    "header only": ("rows.csv", as_csv(rows=[]), "a header and no rows"),
    "ragged row": ("rows.csv", as_csv(rows=[*lines(), "1,2"]), "line 302 has 2 cells, not 3"),
    "broken encoding": ("rows.csv", as_csv() + b"1,\xff,3\n", "isn't UTF-8 (line 302)"),
    "a name twice": ("rows.csv", as_csv("x,x,y"), "names 'x' twice"),
    "half a Parquet file": ("rows.parquet", as_parquet()[: len(as_parquet()) // 2], "isn't a whole Parquet file"),
    "the other half": ("rows.parquet", as_parquet()[len(as_parquet()) // 2 :], "rows.parquet is damaged"),
    "half a packed file": ("rows.csv.gz", __import__("gzip").compress(as_csv())[:300], "rows.csv.gz is cut off"),
    "no JSON": ("rows.jsonl", b'{"x": 1}\n{"x": \n', "line 2 isn't JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_data_that_cannot_be_read_is_one_line(tmp_path: Path, case: str) -> None:
    name, data, words = REFUSED[case]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "system.py").write_text(SYSTEM.format(name, 0.05))
    for verb in (["run"], ["profile", name], ["init", "new", "--from", name, "--target", "y", "--no-git"]):
        done = perron(*verb, cwd=tmp_path, check=False)
        if case == "header only" and verb[0] == "profile":  # which has something to say of no rows
            assert done.returncode in (0, 1)
            continue
        assert done.returncode == 1, verb
        [line] = [line for line in done.stderr.splitlines() if line.startswith("perron: ")]
        assert words in line
    assert not (tmp_path / "new").exists()
    unharmed(tmp_path, "failed")


# Data that is read, some values of which break the contract: the first fault's words.
JUDGED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "mixed types": ("rows.csv", lambda: as_csv(rows=[*lines(), "many,2024-01-01,3"]), 'got "many" at rows[300].x'),
    "infinite and NaN as text": (
        "rows.csv", lambda: as_csv(rows=[*lines(), "inf,2024-01-01,3", "NaN,2024-01-01,3", "1e999,2024-01-01,3"]), "rows[300].x",
    ),
    "infinite and NaN as numbers": (
        "rows.parquet", lambda: as_parquet(x=np.array([*np.arange(ROWS - 2), np.inf, np.nan])), "rows[298].x",
    ),
    "dates out of range as text": (
        "rows.csv", lambda: as_csv(rows=[*lines(), "1,2024-02-30,3", "1,0000-01-01,3", "1,12024-01-01,3"]), "rows[300].at",
    ),
    "dates out of range as times": (
        "rows.parquet", lambda: as_parquet(at=pa.array([*range(ROWS - 1), 2**61], pa.timestamp("us"))), "rows[299].at",
    ),
    "text among JSON's numbers": (
        "rows.jsonl",
        lambda: "".join(json.dumps({"x": n if n else "many", "at": "2024-01-01", "y": n}) + "\n" for n in range(ROWS)).encode(),
        'got "many" at rows[0].x',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", JUDGED)
def test_values_that_are_none_go_to_quarantine_with_their_place(tmp_path: Path, case: str) -> None:
    name, make, words = JUDGED[case]
    (tmp_path / name).write_bytes(make())
    (tmp_path / "system.py").write_text(SYSTEM.format(name, 0.05))
    checked = perron_json("check", cwd=tmp_path)
    assert checked["status"] == "warn" and words in json.dumps(
        [c["examples"] for c in checked["checks"]], ensure_ascii=False
    ).replace('\\"', '"')
    profiled = perron_json("profile", name, cwd=tmp_path)
    assert profiled["rows"] == checked["rows"]
    ran = perron("run", "--json", cwd=tmp_path, check=False)
    assert ran.returncode in (0, 3), ran.stderr
    found = json.loads(ran.stdout)
    assert found["data"]["quarantined"] == checked["bad"] >= 1
    unharmed(tmp_path, found["status"])


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_column_of_nulls_is_one_line(tmp_path: Path, name: str) -> None:
    empty = as_csv(rows=[f",{line.partition(',')[2]}" for line in lines()])
    (tmp_path / name).write_bytes(empty if name.endswith("csv") else as_parquet(x=pa.nulls(ROWS)))
    (tmp_path / "system.py").write_text(SYSTEM.format(name, 0.05))
    done = perron("run", cwd=tmp_path, check=False)
    assert done.returncode == 1 and "300 of 300 rows break the contract" in done.stderr
    kinds = {
        column["name"]: (column["kind"], column["nulls"])
        for column in perron_json("profile", name, cwd=tmp_path)["columns"]
    }
    assert kinds["x"] == ("empty", 300)
    perron("init", "new", "--from", name, "--target", "y", "--no-git", cwd=tmp_path)
    assert "x: Annotated[str, pn.Ignore] | None  # empty in every row" in (tmp_path / "new" / "system.py").read_text()
    unharmed(tmp_path, "failed")


@pytest.mark.slow
def test_ten_thousand_columns_are_profiled_and_checked(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    names = [f"c{n}" for n in range(10_000)]
    rows = [",".join(map(str, chance.integers(0, 50, 10_000))) for _ in range(60)]
    (tmp_path / "wide.csv").write_text(",".join(names) + "\n" + "\n".join(rows) + "\n")
    page = perron("profile", "wide.csv", "--target", "c0", "-o", "wide.html", cwd=tmp_path)
    assert "60 rows, 10,000 columns" in page.stdout and (tmp_path / "wide.html").stat().st_size < 2_000_000
    perron("init", "wide", "--from", "wide.csv", "--target", "c0", "--no-git", cwd=tmp_path)
    assert perron_json("check", cwd=tmp_path / "wide")["rows"] == 60


def test_an_image_that_is_none_is_named_and_quarantined(tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for n in range(30):
            Image.new("RGB", (10 + n, 20 + n % 7)).save(tmp_path / "pictures" / label / f"{n}.png")
    (tmp_path / "pictures" / "dog" / "bad.jpg").write_text("no image")
    (tmp_path / "system.py").write_text(
        "from typing import Annotated, Literal\nimport perron as pn\n\nclass Picture(pn.Contract):\n"
        "    label: Annotated[Literal['cat', 'dog'], pn.Target]\n    width: int\n    height: int\n\n"
        "system = pn.System('pictures', Picture, source='pictures', gates=[])\n"
    )
    said = perron("profile", "pictures", "--target", "label", "-o", "page.html", cwd=tmp_path)
    assert said.stderr == "perron: pictures: 1 file isn't an image and has no width, height and mode: dog/bad.jpg\n"
    page = (tmp_path / "page.html").read_text()
    assert all(f">{name}<" in page for name in ("path", "label", "width", "height", "mode", "bytes"))
    ran = perron("run", "--json", cwd=tmp_path)
    data = json.loads(ran.stdout)["data"]
    assert (data["rows"], data["quarantined"]) == (60, 1) and "dog/bad.jpg" in ran.stderr
    digest = data["quarantine"]
    assert "dog/bad.jpg" in (tmp_path / ".perron" / "store" / digest[:2] / digest[2:]).read_text()
    unharmed(tmp_path, "done")
