"""The page on tests: its commands run, its declarations and its code hold on real housing, and its options are all there are."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from perron.testing import plugin

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "testing.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^ {4}pytest (.+)$", PAGE, re.MULTILINE)]


def judged(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "perron.testing.plugin", "-W", "error", *words],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip


def test_the_pages_commands_and_declarations_hold_on_housing(housing_copy: Path) -> None:
    (declared,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (housing_copy / "tests" / "acceptance").mkdir(parents=True, exist_ok=True)
    (housing_copy / "tests" / "behaviour.toml").write_text(declared)
    (housing_copy / "tests" / "acceptance" / "test_own.py").write_text(code)
    assert len(COMMANDS) == 6
    done = {" ".join(words): judged(housing_copy, *words) for words in COMMANDS}
    for words, one in done.items():
        assert one.returncode == 0, f"{words}: {one.stdout}{one.stderr}"
    first = done["--perron"].stdout
    assert "invariance of one house more says next to nothing: 200 rows" in first
    assert "direction of richer neighbours, dearer houses: " in first and "parity: 4128 test rows" in first
    assert (housing_copy / "report.xml").is_file() and (housing_copy / "tests" / "golden.json").is_file()
    assert "compatibility with champion: the contract is the same" in done[" ".join(COMMANDS[-1])].stdout


@pytest.mark.parametrize("document", ["testing.md", "reference.md"])
def test_every_option_of_the_plugin_is_documented(document: str) -> None:
    written = set(re.findall(r'"(--perron[a-z-]*)"', Path(str(plugin.__file__)).read_text()))
    assert len(written) == 6
    text = (ROOT / "docs" / document).read_text()
    named = set(re.findall(r"^\| `(?:pytest )?(--perron[a-z-]*)(?: [A-Z]+)?` \|", text, re.MULTILINE))
    assert named == written
