"""docs/serving.md does what it says: its commands in a project on the housing data, its Python with the public clients."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import perron
from tests.integration.oip_models import save_image
from tests.integration.test_oip import serving

# The rest of the page is test_serving_page's.
_, HEADING, SECTION = (
    (Path(__file__).parents[2] / "docs" / "serving.md").read_text().partition("## Open Inference Protocol")
)
PAGE = HEADING + SECTION
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def test_the_page_runs(housing_copy: Path) -> None:
    save_image(housing_copy / "image.onnx")
    commands = re.findall(r"^ {4}perron (.*)", PAGE, re.MULTILINE)
    assert commands[0] == "serve --grpc-port 8001"  # which `serving` runs on other ports
    for command in commands[1:]:
        perron(*shlex.split(command), cwd=housing_copy)
    with serving(housing_copy) as server:
        names: dict[str, Any] = {}
        for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
            exec(block.replace("localhost:8000", server.http).replace("localhost:8001", server.grpc), names)
    assert names["prices"].shape == (2, 1) and names["prices"].min() > 10_000 and len(names["ids"]) == 2
    assert names["scores"].shape == (2, 10)
    traced = perron("trace", names["ids"][1], cwd=housing_copy).stdout
    assert "ocean_proximity = INLAND" in traced and "total_bedrooms" not in traced
