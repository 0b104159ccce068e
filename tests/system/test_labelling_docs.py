"""The commands of docs/labelling.md and docs/data.md run, in their order, in a project such as they are about."""

import re
import shlex
from pathlib import Path

import pytest

from perron.errors import DeclarationError
from perron.system import load_system
from tests.conftest import perron
from tests.integration.test_labels import LOGISTIC, fill, unlabelled
from tests.integration.test_pipeline import declare, write_project

DOCS = Path(__file__).resolve().parents[2] / "docs"


def commands(page: str) -> list[list[str]]:
    return [shlex.split(line) for line in re.findall(r"^ {4,6}perron (.+)$", (DOCS / page).read_text(), re.MULTILINE)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project of two versions."""
    folder = write_project(tmp_path / "things", "label", LOGISTIC)
    perron("run", cwd=folder)
    table = folder / "things.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-9]) + "\n")
    perron("run", cwd=folder)
    return folder


def test_the_commands_of_the_page_on_labelling_run(folder: Path) -> None:
    unlabelled(folder, 80)
    words = commands("labelling.md")
    assert [word[:2] for word in words] == [["label", "export"], ["label", "import"], ["label", "export"]]
    perron(*words[0], cwd=folder)
    fill(folder / "tasks.csv", ["high", "low", "mid"])
    assert "3 rows more" in perron(*words[1], cwd=folder).stdout
    perron(*words[2], cwd=folder)
    assert (folder / "tasks.json").is_file() and (folder / "label-studio.xml").is_file()


def test_the_declaration_of_the_page_on_labelling_is_one(folder: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "labelling.md").read_text(), re.DOTALL)
    declare(folder, "label")
    head = (folder / "system.py").read_text().partition("system = ")[0]
    (folder / "system.py").write_text(head + block)
    assert load_system(folder / "system.py").labels == "data/labels.parquet"
    (folder / "system.py").write_text(head + block.replace("data/labels.parquet", "data/labels.csv"))
    with pytest.raises(DeclarationError, match="Parquet"):
        load_system(folder / "system.py")


def test_the_commands_of_the_page_on_data_run(folder: Path) -> None:
    words = commands("data.md")
    assert [word[1] for word in words] == ["list", "show", "diff", "croissant", "sheet", "sheet"]
    said = [perron(*word, cwd=folder).stdout for word in words]
    assert "9 removed" in said[2] and "current" in said[5] and (folder / "croissant.json").is_file()
