"""The errors of predictions in, oldest first; where they changed out: concept drift."""

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from perron.errors import MissingPackage

__all__ = ["find_change"]


def find_change(stream: Sequence[tuple[float, bool]], *, is_class: bool) -> tuple[int, list[str], float, float] | None:
    """Where the errors last changed, which detectors say so, and the mean error before and after; None where two don't agree.

    ADWIN (A. Bifet and R. Gavaldà, 2007), Page-Hinkley (E. S. Page, 1954) and, of classes, DDM (J. Gama et al., 2004), by
    the package river.

    Raises:
        MissingPackage: river isn't installed.
    """
    try:
        drift = importlib.import_module("river.drift")
        binary = importlib.import_module("river.drift.binary")
    except ModuleNotFoundError as error:
        raise MissingPackage(f"Concept drift needs {error.name}: pip install 'perron[monitor]'.") from error
    errors = np.array([error for error, _ in stream], np.float64)
    scale = float(np.percentile(errors, 95)) or 1.0
    scaled = np.minimum(errors / scale, 3.0)
    detectors: dict[str, Any] = {
        "ADWIN": drift.ADWIN(delta=0.002),
        "Page-Hinkley": drift.PageHinkley(threshold=30.0, mode="up"),
    }
    if is_class:
        detectors["DDM"] = binary.DDM()
    detected: set[str] = set()
    for place, value in enumerate(scaled.tolist()):
        for name, detector in detectors.items():
            detector.update(bool(errors[place] > 0) if name == "DDM" else value)
            if detector.drift_detected:
                detected.add(name)
    if len(detected) < 2:
        return None
    begun = _change_point(scaled)  # of all: the detectors' own places lie after it, or, of the touchier one, before
    before, after = float(errors[:begun].mean()), float(errors[begun:].mean())
    return begun, sorted(detected), before, after


def _change_point(errors: Any) -> int:
    """Where the mean of a series changes most, by the cumulative sum (E. S. Page, 1954)."""
    away = np.cumsum(errors - errors.mean())
    return int(np.clip(np.abs(away).argmax() + 1, 1, len(errors) - 1))
