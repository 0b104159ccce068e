"""What docs/sources.md says is true: its commands and code run."""

import gzip
import re
import shlex
import sqlite3
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from perron import source
from perron.source import CONSTRUCTORS, ENDINGS, Description, describe, open_source
from tests.conftest import perron

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
COMMANDS = re.findall(r"^    (perron .*)$", PAGE, re.MULTILINE)
ORDERS = [(n * 1.5 + n % 7, n % 13, "abc"[n % 3]) for n in range(300)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the page's commands read."""
    made = tmp_path_factory.mktemp("shop")
    text = "price,size,place\n" + "".join(f"{price},{size},{place}\n" for price, size, place in ORDERS)
    (made / "orders.csv.gz").write_bytes(gzip.compress(text.encode()))
    for year in (2023, 2024):
        (made / "orders" / f"year={year}").mkdir(parents=True)
        parquet.write_table(
            pa.table({"price": [1.5, 2.5], "size": [1, 2]}), made / "orders" / f"year={year}" / "1.parquet"
        )
    with sqlite3.connect(made / "shop.db") as connection:
        connection.execute("CREATE TABLE orders (price, size, place)")
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", ORDERS)
    connection.close()
    (made / "export.txt").write_bytes("preis;größe\n1.234,5;3\n2,5;4\n".encode("cp1252"))
    book = openpyxl.Workbook()
    sheet: Any = book.create_sheet("March")
    for row in (["price", "size"], [1.5, 2], [2.5, 3]):
        sheet.append(row)
    book.save(made / "book.xlsx")
    (made / "pictures" / "cat").mkdir(parents=True)
    Image.new("RGB", (3, 4)).save(made / "pictures" / "cat" / "one.png")
    (made / "pictures" / "grades.csv").write_text("path,grade\ncat/one.png,5\n")
    return made


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_runs(folder: Path, command: str) -> None:
    assert perron(*shlex.split(command)[1:], cwd=folder).stderr == ""


def test_the_commands_read_what_they_say(folder: Path) -> None:
    assert len(COMMANDS) == 8
    told = {command: perron(*shlex.split(command)[1:], cwd=folder).stdout.splitlines()[0] for command in COMMANDS[:7]}
    rows = [re.search(r"([\d,]+) rows, (\d+) columns", line) for line in told.values()]
    assert [found.groups() for found in rows if found] == [
        ("300", "3"), ("4", "3"), ("300", "3"), ("253", "2"), ("2", "2"), ("2", "2"), ("1", "6"),
    ]  # fmt: skip


def test_the_code_of_the_page_makes_sources(folder: Path) -> None:
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(block, scope)
    made = [scope[name] for name in ("orders", "recent", "march", "graded")]
    assert all(isinstance(one, Description) for one in made)
    assert open_source(scope["orders"], folder).names == ["preis", "größe"]
    assert next(open_source(scope["orders"], folder).chunks()).to_pylist()[0]["preis"] == "1234.5"
    assert open_source(scope["march"], folder).names == ["price", "size"]
    assert open_source(scope["graded"], folder).names == ["path", "grade", "width", "height", "mode", "bytes"]
    assert open_source(scope["rows"], folder).names == ["price", "size"]


def test_the_page_names_every_function_ending_and_extra() -> None:
    for make in {*CONSTRUCTORS.values()}:
        assert f"`source.{make.__name__}(" in PAGE and getattr(source, make.__name__) is make
    table = PAGE.split("An extra is installed")[0]
    for ending in ENDINGS:
        assert f"{ending}`" in table, ending
    for url in re.findall(r"`([a-z0-9]+://[^`…]*)`", table):
        assert describe(url).kind in CONSTRUCTORS
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for extra in re.findall(r"`([a-z0-9]+)`(?=[^|]*\|$)", table, re.MULTILINE):
        assert f"\n{extra} = [" in pyproject, extra
