"""Settings of the property-based tests, and what several test modules use."""

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

# Slow machines: no deadline per example; the number of examples is what is bounded.
settings.register_profile(
    "perron", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
settings.register_profile("soak", settings.get_profile("perron"), max_examples=500)  # --hypothesis-profile=soak
settings.load_profile("perron")

numbers = itertools.count()


@pytest.fixture
def load_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Writes a module's source to a file and imports it, under a name of its own."""
    made: list[str] = []
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # which may be stale when a file is written twice in a second

    def load(source: str, name: str | None = None) -> ModuleType:
        name = name or f"made_{next(numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text(source, "utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        made.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in made:
        sys.modules.pop(name, None)
