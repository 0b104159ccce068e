"""The data that models are fitted and asked on."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from parity_exam import make_frame


@pytest.fixture(scope="session")
def train() -> pd.DataFrame:
    """160 rows to fit on."""
    return make_frame(160, 0)


@pytest.fixture(scope="session")
def test() -> pd.DataFrame:
    """Other rows, with categories and nulls where the fit saw none."""
    frame = make_frame(200, 1)
    frame.loc[:15, "city"] = "never seen"
    frame.loc[10:20, "☂"] = ""
    return frame


@pytest.fixture(scope="session")
def amount(train: pd.DataFrame) -> "pd.Series[float]":
    """A target above zero."""
    noise = np.random.default_rng(2).gamma(2.0, 0.3, len(train))
    return np.exp(train["a b"] / 2) + train["größe"].fillna(1.0) / 3 + 2.0 * (train["city"] == "x") + noise


@pytest.fixture(scope="session")
def level(amount: "pd.Series[float]") -> Any:
    """A target of three text labels."""
    return np.array(["low", "middling", "top"], dtype=object)[np.digitize(amount, np.quantile(amount, [0.4, 0.75]))]
