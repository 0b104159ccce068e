"""The features of system.py: a number per row, made of that row alone, whatever the contract allows.

Written by `perron init`; `perron sync` brings it up to date and keeps your changes.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from perron.check import parse
from perron.derive.sampler import rows
from perron.features import given_columns
from perron.tensors import RowPacker

from system import system

SCHEMA = system.schema
SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

pytestmark = pytest.mark.skipif(
    system.features_function is None or bool(system.history),
    reason="system.py has no @system.features yet, or features of a row's past, which the pipeline's tests see",
)


def features_of(some: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the features function makes of rows as requests have them."""
    fields = SCHEMA.request
    packed = RowPacker(SCHEMA)(
        [tuple(None if row.get(f.name) is None else parse(f, row[f.name]) for f in fields) for row in some]
    )
    assert system.features_function is not None
    with np.errstate(all="ignore"):
        found = system.features_function(np, SimpleNamespace(**given_columns(SCHEMA, packed, np)))
    assert isinstance(found, dict)
    return {name: np.asarray(array, dtype=np.float64) for name, array in found.items()}


@given(some=st.lists(rows(SCHEMA), min_size=2, max_size=6))
@settings(deadline=None, max_examples=25, suppress_health_check=SLOW)
def test_a_row_has_the_same_features_alone_as_among_others(some: list[dict[str, Any]]) -> None:
    together = features_of(some)
    for place, row in enumerate(some):
        alone = features_of([row])
        for name, array in together.items():
            assert array.shape == (len(some),), f"{name} has no number per row"
            np.testing.assert_allclose(array[place], alone[name][0], rtol=1e-9, err_msg=name)


def test_a_feature_is_no_column_of_the_contract() -> None:
    row = find(rows(SCHEMA), lambda row: True)
    assert not set(features_of([row])) & {field.name for field in SCHEMA.fields}
