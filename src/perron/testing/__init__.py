"""A project's bundle in; whether it keeps what it promises out: fixtures and generated tests for pytest, and two helpers.

    pytest --perron                      # what is generated, beside the project's own tests

    from perron.testing import directional, invariant

    def test_a_larger_house_costs_more(bundle, rows):
        directional(bundle, rows, "total_rooms", times=1.2, expect="up")

`perron.testing.plugin` is what pytest loads; it imports nothing of the rest before it is needed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perron.testing.behaviour import directional, invariant
    from perron.testing.verdict import Broken

__all__ = ["Broken", "directional", "invariant"]


def __getattr__(name: str) -> Any:
    import importlib  # not at the top: pytest loads this package in every run

    if name not in __all__:
        raise AttributeError(f"module 'perron.testing' has no attribute {name!r}")
    home = "perron.testing.verdict" if name == "Broken" else "perron.testing.behaviour"
    return getattr(importlib.import_module(home), name)
