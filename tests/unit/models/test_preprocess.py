"""Every supported transformer and its options, alone before a linear model, answers as its graph does."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from parity_exam import NUMBERS, TEXTS, answers, check_parity, columns_of, make_frame, session_of
from sklearn.compose import ColumnTransformer, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, VarianceThreshold, f_regression
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from perron.models.graph import NULL_TEXT, UnsupportedModel, export

pytestmark = pytest.mark.filterwarnings("ignore:Found unknown categories")

ABOVE_ZERO = FunctionTransformer(np.exp)

NUMERIC = {
    "standard": StandardScaler(),
    "standard without mean": StandardScaler(with_mean=False),
    "standard without scale": StandardScaler(with_std=False),
    "min max": MinMaxScaler((-1, 2)),
    "min max clipped": MinMaxScaler(clip=True),
    "max abs": MaxAbsScaler(),
    "robust": RobustScaler(),
    "robust without centre": RobustScaler(with_centering=False, unit_variance=True),
    "normalised l1": Normalizer("l1"),
    "normalised l2": Normalizer(),
    "normalised max": Normalizer("max"),
    "binary": Binarizer(threshold=0.5),
    "bins": KBinsDiscretizer(4, encode="ordinal", strategy="uniform"),
    "bins one-hot": KBinsDiscretizer([2, 5, 4, 3], encode="onehot", quantile_method="averaged_inverted_cdf"),
    "bins dense": KBinsDiscretizer(3, encode="onehot-dense", strategy="kmeans", random_state=0),
    "polynomial": PolynomialFeatures(3),
    "interactions": PolynomialFeatures(2, interaction_only=True, include_bias=False),
    "yeo-johnson": PowerTransformer(),
    "yeo-johnson bare": PowerTransformer(standardize=False),
    "box-cox": make_pipeline(ABOVE_ZERO, PowerTransformer("box-cox")),
    "pca": PCA(2),
    "pca whitened": PCA(3, whiten=True),
    "svd": TruncatedSVD(2, random_state=0),
    "variance": VarianceThreshold(1.5),
    "best": SelectKBest(f_regression, k=2),
    "from model": SelectFromModel(Ridge(), threshold="median"),
    "rfe": RFE(Ridge(), n_features_to_select=2),
    "nothing": FunctionTransformer(),
    "passthrough": "passthrough",
    "union": FeatureUnion(
        [("p", PCA(1)), ("s", StandardScaler()), ("all", "passthrough"), ("no", "drop")], transformer_weights={"p": 3.0}
    ),
}

FUNCTIONS = [np.exp, np.expm1, np.abs, np.square, np.negative, np.sign, np.floor, np.ceil, np.sin, np.cos, np.tanh]
FUNCTIONS_ABOVE_ZERO = [np.log1p, np.log, np.log2, np.log10, np.sqrt, np.reciprocal]

TEXTUAL = {
    "one-hot": OneHotEncoder(handle_unknown="ignore"),
    "one-hot warns": OneHotEncoder(handle_unknown="warn", sparse_output=False, min_frequency=10),
    "one-hot drops first": OneHotEncoder(handle_unknown="ignore", drop="first"),
    "one-hot drops binary": OneHotEncoder(handle_unknown="ignore", drop="if_binary"),
    "one-hot drops named": OneHotEncoder(handle_unknown="ignore", drop=["x", "a"]),
    "one-hot infrequent": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.1),
    "one-hot at most": OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3, drop="first"),
    "one-hot listed": OneHotEncoder(handle_unknown="ignore", categories=[["x", "never seen"], ["b", "c", ""]]),
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-3),
    "ordinal infrequent": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=99, max_categories=3),
    "target": TargetEncoder(cv=KFold(3), target_type="continuous"),
    "target smooth": TargetEncoder(cv=KFold(3), smooth=5.0, target_type="continuous"),
    "imputed": make_pipeline(
        SimpleImputer(missing_values=NULL_TEXT, strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    ),
    "imputed with a constant": make_pipeline(
        SimpleImputer(missing_values=NULL_TEXT, strategy="constant", add_indicator=True),
        OneHotEncoder(handle_unknown="ignore"),
    ),
}


@pytest.fixture
def full(train: pd.DataFrame) -> pd.DataFrame:
    nulls = pd.Series(np.random.default_rng(4).normal(size=len(train)))
    return train[NUMBERS].apply(lambda column: column.fillna(nulls))


@pytest.mark.parametrize("name", NUMERIC)
def test_numeric_transformer_is_exact(name: str, full: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    model = make_pipeline(NUMERIC[name], LinearRegression()).fit(full, amount)
    rows = test[NUMBERS].fillna(-1.0)
    rows.iloc[0] = 0.0
    check_parity(model, rows)


@pytest.mark.parametrize("name", ["standard", "min max", "max abs", "robust", "yeo-johnson", "nothing"])
def test_nulls_pass_through_scalers(name: str, train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    trees = ExtraTreesRegressor(5, random_state=0)
    check_parity(make_pipeline(NUMERIC[name], trees).fit(train[NUMBERS], amount), test[NUMBERS])


@pytest.mark.parametrize("function", [*FUNCTIONS, *FUNCTIONS_ABOVE_ZERO], ids=lambda function: function.__name__)
def test_function_is_exact(function: Any, full: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    rows = test[NUMBERS].fillna(-1.0) + 1e-3
    full = full + 1e-3
    if function in FUNCTIONS_ABOVE_ZERO:
        rows, full = rows.abs(), full.abs()
    check_parity(make_pipeline(FunctionTransformer(function), LinearRegression()).fit(full, amount), rows)


def test_logarithm_is_exact_near_zero_and_far_away(amount: Any) -> None:
    train = pd.DataFrame({"x": np.geomspace(1e-12, 1e12, len(amount))})
    steps = make_pipeline(FunctionTransformer(np.log1p), LinearRegression(fit_intercept=False))
    rows = pd.DataFrame({"x": [0.0, 1e-300, 1e-17, 1e-9, 0.5, 1.0, 1e9, 1e300]})
    check_parity(steps.fit(train, amount), rows)
    tiny = pd.DataFrame({"x": np.linspace(-1e-9, 1e-9, len(amount))})
    steps = make_pipeline(FunctionTransformer(np.expm1), LinearRegression(fit_intercept=False))
    check_parity(steps.fit(tiny, amount), pd.DataFrame({"x": [0.0, 1e-300, -1e-17, 1e-9, 0.5, -700.0, 3.0]}))


@pytest.mark.parametrize("name", TEXTUAL)
def test_encoder_of_text_is_exact(name: str, train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    model = make_pipeline(TEXTUAL[name], Ridge()).fit(train[TEXTS], amount)
    check_parity(model, test[TEXTS])


@pytest.mark.parametrize(
    "encoder",
    [
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=3, drop="first"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
        OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2, max_categories=3
        ),
        TargetEncoder(cv=KFold(3), target_type="continuous"),
    ],
    ids=["one-hot", "one-hot infrequent", "ordinal", "ordinal infrequent", "target"],
)
def test_encoder_of_numbers_and_nulls_is_exact(encoder: Any, amount: Any) -> None:
    rng = np.random.default_rng(0)
    train = pd.DataFrame(
        {"x": rng.choice([0.0, 1.5, -2.0, np.nan], len(amount)), "y": rng.integers(0, 9, len(amount)) / 1.0}
    )
    rows = pd.DataFrame(
        {"x": [0.0, -0.0, 1.5, np.nextafter(1.5, 2), np.nan, 9.0], "y": [0.0, 3.0, 4.0, np.nan, 8.0, np.inf]}
    )
    if not isinstance(encoder, TargetEncoder):
        rows["y"] = rows["y"].replace(np.inf, 100.0)
    check_parity(make_pipeline(encoder, Ridge()).fit(train, amount), rows.replace(np.inf, 1e9))


def test_target_encoder_of_classes_is_exact(train: pd.DataFrame, level: Any, test: pd.DataFrame) -> None:
    encoder = TargetEncoder(cv=StratifiedKFold(3))
    check_parity(make_pipeline(encoder, LogisticRegression()).fit(train[TEXTS], level), test[TEXTS])


def test_unknown_category_is_zeros_or_nan_where_the_encoder_would_raise(train: pd.DataFrame, amount: Any) -> None:
    one_hot = make_pipeline(OneHotEncoder(), Ridge()).fit(train[TEXTS], amount)
    new = pd.DataFrame({"city": ["never seen"], "☂": ["zz"]}, dtype=object)
    assert answers(session_of(one_hot, new), new)[0] == pytest.approx(one_hot[-1].intercept_)
    codes = make_pipeline(OrdinalEncoder(), Ridge()).fit(train[TEXTS], amount)
    assert np.isnan(answers(session_of(codes, new), new)[0]).all()


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
@pytest.mark.parametrize("indicator", [False, True])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_imputer_is_exact(strategy: str, indicator: bool, keep: bool, amount: Any, test: pd.DataFrame) -> None:
    frame = make_frame(len(amount), 3)[NUMBERS]
    frame["steps"] = np.nan
    imputer = SimpleImputer(strategy=strategy, add_indicator=indicator, keep_empty_features=keep)
    check_parity(make_pipeline(imputer, LinearRegression()).fit(frame, amount), test[NUMBERS])


def test_imputer_of_a_marker_is_exact(train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    imputer = SimpleImputer(missing_values=3.0, strategy="mean", add_indicator=True)
    model = make_pipeline(imputer, LinearRegression()).fit(train[["a b", "steps"]], amount)
    check_parity(model, test[["a b", "steps"]])


@pytest.mark.parametrize("features", ["missing-only", "all"])
def test_missing_indicator_is_exact(features: str, train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    indicator = MissingIndicator(features=features)
    check_parity(make_pipeline(indicator, Ridge()).fit(train[NUMBERS], amount), test[NUMBERS])


@pytest.mark.parametrize(
    "columns",
    [
        ["steps", "a b"],
        "a b",
        [2, 0],
        [-4],
        slice(0, 3, 2),
        slice("a b", "steps"),
        [True, False, True, False, False, False],
        make_column_selector(pattern="^[as]"),
        [],
    ],
    ids=lambda value: re.sub(" object at .*", "", repr(value)),
)
@pytest.mark.parametrize("remainder", ["drop", "passthrough", StandardScaler()], ids=str)
@pytest.mark.filterwarnings("ignore:.*constant features.*")
def test_columns_are_selected_as_fitted(
    columns: Any, remainder: Any, train: pd.DataFrame, amount: Any, test: pd.DataFrame
) -> None:
    if isinstance(columns, str):
        columns = [columns]
    train, test = train.drop(columns=TEXTS), test.drop(columns=TEXTS)
    if isinstance(columns, list) and columns and isinstance(columns[0], bool):
        columns = columns[: len(NUMBERS)]
    select = make_column_transformer((MinMaxScaler(), columns), remainder=remainder)
    if not (columns == [] and remainder == "drop"):
        check_parity(make_pipeline(select, SimpleImputer(), Ridge()).fit(train, amount), test)


def test_text_and_numbers_pass_through_together(train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    mixed = make_column_transformer(("passthrough", ["city", "steps"]), ("drop", ["a b"]), remainder="drop")
    model = make_pipeline(mixed, OneHotEncoder(handle_unknown="ignore"), Ridge())
    check_parity(model.fit(train, amount), test)


def test_weights_and_nesting_are_kept(train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    inner = ColumnTransformer(
        [("a", StandardScaler(), ["steps"]), ("b", "passthrough", ["größe"])], transformer_weights={"a": 7.0}
    )
    outer = ColumnTransformer(
        [
            ("in", make_pipeline(inner, SimpleImputer()), ["größe", "steps"]),
            ("t", OneHotEncoder(handle_unknown="ignore"), TEXTS),
        ]
    )
    check_parity(make_pipeline(outer, Ridge()).set_output(transform="default").fit(train, amount), test)


def test_pandas_output_between_steps_is_exact(train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    first = make_column_transformer((SimpleImputer(), NUMBERS), remainder="drop").set_output(transform="pandas")
    second = make_column_transformer((StandardScaler(), ["simpleimputer__steps"]), remainder="passthrough")
    check_parity(make_pipeline(first, second, Ridge()).fit(train, amount), test)


def test_one_text_column_alone_is_exact(train: pd.DataFrame, level: Any, test: pd.DataFrame) -> None:
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression())
    check_parity(model.fit(train[["city"]], level), test[["city"]])


def test_text_of_pandas_own_type_is_exact(train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge())
    check_parity(model.fit(train[TEXTS].astype("str"), amount), test[TEXTS].astype("str"))


def test_text_that_reaches_arithmetic_is_refused() -> None:
    digits = pd.DataFrame({"x": pd.Series(["1", "2", "3"], dtype=object)})
    model = make_pipeline(StandardScaler(), Ridge()).fit(digits, [1.0, 2.0, 3.0])
    with pytest.raises(UnsupportedModel, match="got text in column 0"):
        export(model, columns_of(digits))


def test_functions_are_refused_by_name(full: pd.DataFrame, amount: Any) -> None:
    model = make_pipeline(FunctionTransformer(np.nan_to_num), Ridge()).fit(full, amount)
    with pytest.raises(UnsupportedModel, match=r"FunctionTransformer with the function nan_to_num.*np\.log1p"):
        export(model, columns_of(full))
