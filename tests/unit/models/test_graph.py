"""The registry: what is refused says so in one line, and what is registered is used."""

from typing import Any

import ndonnx as ndx
import numpy as np
import pandas as pd
import pytest
from parity_exam import answers, columns_of, session_of
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.cluster import KMeans
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import AdaBoostRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from perron.errors import ModelError
from perron.models.graph import Result, Table, UnsupportedModel, export, predict, predictor


@pytest.fixture
def numbers() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=["x", "y"])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            AdaBoostRegressor(),
            "Expected a predictor that can be exported, got AdaBoostRegressor; the nearest supported: ",
        ),
        (KMeans(2), "Expected a predictor that can be exported, got KMeans; the nearest supported: "),
        (
            make_pipeline(QuantileTransformer(n_quantiles=5), Ridge()),
            "Expected a transformer .* got QuantileTransformer; .*FunctionTransformer",
        ),
        (
            DummyClassifier(strategy="uniform"),
            "DummyClassifier with strategy='uniform' cannot be exported; use 'prior'",
        ),
        (
            KNeighborsRegressor(metric="manhattan"),
            "KNeighborsRegressor with metric='manhattan' cannot be exported; use",
        ),
        (LinearRegression(), "LinearRegression with 2 targets cannot be exported; fit one model for each target"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refusal_names_the_class_and_the_way_out(model: Any, message: str, numbers: pd.DataFrame) -> None:
    target = numbers.to_numpy() if isinstance(model, LinearRegression) else (numbers["x"] > 0).astype(float)
    with pytest.raises(UnsupportedModel, match=message) as caught:
        export(model.fit(numbers, target), columns_of(numbers))
    assert isinstance(caught.value, ModelError)
    assert "\n" not in str(caught.value)


def test_pipeline_that_only_transforms_is_refused(numbers: pd.DataFrame) -> None:
    with pytest.raises(UnsupportedModel, match="Expected a predictor .* got StandardScaler"):
        export(make_pipeline(StandardScaler()).fit(numbers), columns_of(numbers))


def test_neighbours_of_many_rows_are_refused() -> None:
    rows = pd.DataFrame({"x": np.arange(50_001.0)})
    with pytest.raises(UnsupportedModel, match="50,001 training rows"):
        export(KNeighborsRegressor().fit(rows, rows["x"]), columns_of(rows))


def test_columns_in_another_order_are_refused(numbers: pd.DataFrame) -> None:
    model = Ridge().fit(numbers, numbers["x"])
    with pytest.raises(ValueError, match=r"Expected the columns of the fit \['x', 'y'\], got \['y', 'x'\]"):
        export(model, columns_of(numbers[["y", "x"]]))


def test_column_of_another_type_is_refused(numbers: pd.DataFrame) -> None:
    columns = {name: ndx.argument(shape=("N",), dtype=ndx.float32) for name in numbers}
    with pytest.raises(ValueError, match=r"Expected a 1-D column of float64 or utf8, got 1-D .*loat32.* at 'x'"):
        export(Ridge().fit(numbers, numbers["x"]), columns)


class Twice(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator of a user's own."""

    def fit(self, x: Any, y: Any) -> "Twice":
        self.inner_ = Ridge().fit(x, y)
        return self

    def predict(self, x: Any) -> Any:
        return 2.0 * self.inner_.predict(x)


def test_own_estimator_can_be_registered(numbers: pd.DataFrame) -> None:
    from perron.models.ops import number, op

    @predictor(Twice)
    def _twice(est: Any, table: Table) -> Result:
        return Result(op.mul(number(2.0), predict(est.inner_, table).value))

    model = Twice().fit(numbers, numbers["x"])
    found = answers(session_of(model, numbers), numbers)[0]
    np.testing.assert_allclose(found, model.predict(numbers), rtol=1e-12, atol=1e-12)
