"""Perron: declare a machine learning system once; everything else is derived from it and stays in step.

    import perron as pn

The public names are listed in `__all__`; importing perron loads none of them until it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from annotated_types import Ge, Gt, Le, Len, Lt

    from perron import split
    from perron.bundle import load
    from perron.contract import Column, Contract, Pattern, Role, Unit
    from perron.gates import gate
    from perron.system import System

    Target, Id, Time, Group = Role.TARGET, Role.ID, Role.TIME, Role.GROUP
    Weight, Sensitive, Ignore = Role.WEIGHT, Role.SENSITIVE, Role.IGNORE

__version__ = "0.1.0"
__all__ = [
    "Column", "Contract", "Ge", "Group", "Gt", "Id", "Ignore", "Le", "Len", "Lt", "Pattern", "Sensitive",
    "System", "Target", "Time", "Unit", "Weight", "gate", "load", "split",
]  # fmt: skip

_HOMES = {
    **dict.fromkeys(("Ge", "Gt", "Le", "Lt", "Len"), "annotated_types"),
    **dict.fromkeys(("Column", "Contract", "Pattern", "Unit"), "perron.contract"),
    "gate": "perron.gates",
    "load": "perron.bundle",
    "System": "perron.system",
}
_ROLES = ("Target", "Id", "Time", "Group", "Weight", "Sensitive", "Ignore")


def __getattr__(name: str) -> Any:
    if name in _ROLES:
        value = getattr(importlib.import_module("perron.contract").Role, name.upper())
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    elif name == "split":
        value = importlib.import_module("perron.split")
    else:
        raise AttributeError(f"module 'perron' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
