"""The page on images: its commands run, and what it says of the image is so."""

import json
import re
import shlex
from pathlib import Path

import pytest

from perron.image.base import hint
from tests.conftest import perron
from tests.images import write_base
from tests.integration.test_alone import ask, serving
from tests.integration.test_pipeline import write_project

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "images.md").read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was run once, with a base beside it."""
    folder = write_project(tmp_path_factory.mktemp("images") / "things", "label")
    perron("run", cwd=folder)
    write_base(folder / "base.tar")
    return folder


def test_the_pages_commands_run(folder: Path) -> None:
    commands = [shlex.split(line) for line in re.findall(r"^ {4}perron (.+)$", PAGE, re.MULTILINE)]
    assert [words[0] for words in commands] == ["package", "package", "serve"]
    said = perron(*commands[0], cwd=folder).stdout
    shown = re.search(r"^ {4}\$ perron package(.*)\n((?: {4}.*\n)+)", PAGE, re.MULTILINE)
    assert shown is not None and shlex.split(shown[1]) == commands[0][1:]
    for line in shown[2].replace("house-prices", "things").splitlines():
        if not re.search(r"sha256|…|MB", line):  # what differs from model to model
            assert line.removeprefix("    ") in said.splitlines()
    assert int(re.findall(r"^(\d+) MB on top of base.tar", said, re.MULTILINE)[0]) < 250
    assert "docker build -t things:1 build" in perron(*commands[1], cwd=folder).stdout
    thing = json.loads((folder / "build" / "model" / "sample.json").read_text())["rows"][0]
    with serving(*commands[2][1:], cwd=folder, PERRON_LOG_FOLDER=str(folder / "log")) as (port, _):
        assert ask(port, thing)[0] == 200


def test_the_labels_of_the_page_are_the_images(folder: Path) -> None:
    if not (folder / "build" / "Dockerfile").exists():
        perron("package", "--dockerfile", "build", cwd=folder)
    labels = set(re.findall(r"([\w.-]+)=\"", (folder / "build" / "Dockerfile").read_text()))
    section = PAGE.partition("## What it says of itself")[2].partition("\n## ")[0]
    named = set(re.findall(r"`((?:org\.|perron\.)?[\w.-]+)`", section))
    whole = {f"org.opencontainers.image{name}" if name.startswith(".") else name for name in named}
    assert labels <= whole and hint().split(" such as")[0].startswith("an OCI layout's folder")
