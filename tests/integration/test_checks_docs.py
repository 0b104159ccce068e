"""The examples of docs/checks.md, docs/features.md and docs/splits.md run."""

import re
from pathlib import Path
from typing import Any

import pytest

import perron as pn

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("page", ["checks.md", "features.md", "splits.md"])
def test_the_examples_of_a_page_run(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    names: dict[str, Any] = {"pn": pn}
    for block in blocks:
        exec(block, names)
    assert blocks
