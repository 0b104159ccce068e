"""What the documents say is true: commands, options, code and JSON keys."""

import re
from pathlib import Path

import pytest
import typer.main

from perron.cli.app import command_line
from perron.contract import Role
from perron.metrics import METRICS
from perron.system import System
from tests.conftest import perron

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = typer.main.get_command(command_line()).commands  # type: ignore[attr-defined]
COMMANDS = {
    " ".join((group, *inner)): command
    for group, found in GROUPS.items()
    for inner, command in (
        [((name,), one) for name, one in found.commands.items()] if hasattr(found, "commands") else [((), found)]
    )
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_only_commands_that_exist(document: Path) -> None:
    named = set(re.findall(r"(?:^ {4}|`|&& )perron ([a-z]+)", document.read_text(), re.MULTILINE))
    assert named <= set(GROUPS), named - set(GROUPS)


def test_every_command_and_option_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference.md").read_text()
    words = "|".join(sorted(map(re.escape, COMMANDS), key=len, reverse=True))
    rows = dict(re.findall(rf"^\| `perron ({words})(|[^`\w][^`]*)` \|", text, re.MULTILINE))
    assert set(rows) == set(COMMANDS)
    for name, command in COMMANDS.items():
        options = {max(param.opts, key=len) for param in command.params if param.param_type_name == "option"}
        options -= {"--help", "--json", "--project"}
        written = set(re.findall(r"--[a-z0-9-]+", rows[name]))
        assert {option.replace("--git", "--no-git") for option in options} == written | (
            {"--output"} if "-o FILE" in rows[name] else set()
        ), name


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(name: str, tmp_path: Path) -> None:
    said = perron(*name.split(), "--help", cwd=tmp_path).stdout
    assert said.startswith("Usage: perron") and len(said.splitlines()) > 6


def test_the_readmes_code_declares_a_system() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    scope: dict[str, object] = {}
    exec(
        "from typing import Annotated, Literal\nimport perron as pn\nimport sklearn.linear_model\n" + "\n".join(blocks),
        scope,
    )
    system = scope["system"]
    assert isinstance(system, System) and len(system.gates) == 2
    assert system.features_function is not None and system.model_function is not None
    assert type(system.model_function({"alpha": 2.0})).__name__ == "Ridge"


def test_the_reference_names_every_metric_and_role() -> None:
    text = (ROOT / "docs" / "reference.md").read_text()
    for name in METRICS:
        assert f"`{name}`" in text
    for role in Role:
        assert f"`pn.{role.value.title()}`" in text


def test_the_readmes_map_names_modules_that_exist() -> None:
    table = re.search(r"\| component \|.*?\n\n", (ROOT / "README.md").read_text(), re.DOTALL)
    assert table is not None
    rows = [line.split("|")[3] for line in table[0].splitlines()[2:] if line.startswith("|")]
    assert len(rows) == 10
    for name in re.findall(r"`([^`]+)`", " ".join(rows)):
        assert (ROOT / "src" / "perron" / f"{name.rstrip('/')}{'' if name.endswith('/') else '.py'}").exists(), name
