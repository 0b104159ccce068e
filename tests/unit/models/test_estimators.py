"""Every supported estimator behind two kinds of preprocessing answers as its graph does."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from parity_exam import NUMBERS, TEXTS, check_parity
from sklearn import dummy, ensemble, linear_model, naive_bayes, neighbors, neural_network, svm, tree
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Found unknown categories"),
]

lm, en, nn = linear_model, ensemble, neural_network
QUIET: dict[str, Any] = {"verbose": -1, "min_child_samples": 5, "n_jobs": 1}
FEW: dict[str, Any] = {"n_estimators": 8, "random_state": 0}
BOOSTED: dict[str, Any] = {"max_iter": 8, "min_samples_leaf": 5}

REGRESSORS = {
    "linear": lm.LinearRegression(),
    "linear without intercept": lm.LinearRegression(fit_intercept=False),
    "ridge": lm.Ridge(),
    "ridge cv": lm.RidgeCV(),
    "lasso": lm.Lasso(0.05),
    "lasso cv": lm.LassoCV(cv=3),
    "elastic net": lm.ElasticNet(0.05),
    "elastic net cv": lm.ElasticNetCV(cv=3),
    "bayesian ridge": lm.BayesianRidge(),
    "huber": lm.HuberRegressor(max_iter=200),
    "sgd": lm.SGDRegressor(random_state=0, eta0=1e-4),
    "linear svr": svm.LinearSVR(random_state=0),
    "poisson": lm.PoissonRegressor(),
    "gamma": lm.GammaRegressor(),
    "tweedie": lm.TweedieRegressor(power=1.5),
    "tweedie identity": lm.TweedieRegressor(power=0.0, link="identity"),
    "tree": tree.DecisionTreeRegressor(random_state=0),
    "tree of one leaf": tree.DecisionTreeRegressor(max_depth=1, min_samples_leaf=100),
    "extra tree": tree.ExtraTreeRegressor(random_state=0),
    "forest": en.RandomForestRegressor(**FEW),
    "extra trees": en.ExtraTreesRegressor(**FEW),
    "boosting": en.GradientBoostingRegressor(**FEW),
    "boosting huber": en.GradientBoostingRegressor(loss="huber", **FEW),
    "boosting from zero": en.GradientBoostingRegressor(init="zero", **FEW),
    "boosting from ridge": en.GradientBoostingRegressor(init=lm.Ridge(), **FEW),
    "histogram": en.HistGradientBoostingRegressor(**BOOSTED),
    "histogram absolute": en.HistGradientBoostingRegressor(loss="absolute_error", **BOOSTED),
    "histogram quantile": en.HistGradientBoostingRegressor(loss="quantile", quantile=0.8, **BOOSTED),
    "histogram poisson": en.HistGradientBoostingRegressor(loss="poisson", **BOOSTED),
    "histogram gamma": en.HistGradientBoostingRegressor(loss="gamma", **BOOSTED),
    "dummy": dummy.DummyRegressor(),
    "mlp": nn.MLPRegressor(hidden_layer_sizes=(7, 3), max_iter=30, random_state=0),
    "mlp tanh": nn.MLPRegressor(hidden_layer_sizes=(5,), activation="tanh", max_iter=30, random_state=0),
    "neighbours": neighbors.KNeighborsRegressor(4),
    "neighbours by distance": neighbors.KNeighborsRegressor(4, weights="distance"),
    "target of logs": TransformedTargetRegressor(lm.Ridge(), func=np.log1p, inverse_func=np.expm1),
    "target scaled": TransformedTargetRegressor(lm.Ridge(), transformer=StandardScaler()),
    "target between": TransformedTargetRegressor(lm.Ridge(), transformer=MinMaxScaler()),
    "target robust": TransformedTargetRegressor(lm.Ridge(), transformer=RobustScaler()),
    "target to a power": TransformedTargetRegressor(lm.Ridge(), transformer=PowerTransformer()),
    "target box-cox": TransformedTargetRegressor(lm.Ridge(), transformer=PowerTransformer(method="box-cox")),
    "target of a function": TransformedTargetRegressor(lm.Ridge(), transformer=FunctionTransformer(np.log, np.exp)),
    "vote": en.VotingRegressor([("a", lm.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))], weights=[1, 3]),
    "stack": en.StackingRegressor([("a", lm.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))], cv=3),
    "search": GridSearchCV(lm.Ridge(), {"alpha": [0.1, 1.0]}, cv=3),
    "lightgbm": LGBMRegressor(n_estimators=8, **QUIET),
}

CLASSIFIERS = {
    "logistic": lm.LogisticRegression(max_iter=300),
    "logistic cv": lm.LogisticRegressionCV(
        Cs=2, cv=3, max_iter=300, use_legacy_attributes=False, scoring="neg_log_loss", l1_ratios=(0.0,)
    ),
    "sgd hinge": lm.SGDClassifier(random_state=0),
    "sgd log loss": lm.SGDClassifier(loss="log_loss", random_state=0),
    "sgd modified huber": lm.SGDClassifier(loss="modified_huber", random_state=0),
    "ridge": lm.RidgeClassifier(),
    "perceptron": lm.Perceptron(random_state=0),
    "linear svc": svm.LinearSVC(random_state=0),
    "naive bayes": naive_bayes.GaussianNB(),
    "tree": tree.DecisionTreeClassifier(random_state=0),
    "shallow tree": tree.DecisionTreeClassifier(max_depth=2),
    "forest": en.RandomForestClassifier(**FEW),
    "shallow forest": en.RandomForestClassifier(max_depth=3, **FEW),
    "extra trees": en.ExtraTreesClassifier(**FEW),
    "boosting": en.GradientBoostingClassifier(**FEW),
    "histogram": en.HistGradientBoostingClassifier(**BOOSTED),
    "dummy prior": dummy.DummyClassifier(),
    "dummy most frequent": dummy.DummyClassifier(strategy="most_frequent"),
    "mlp": nn.MLPClassifier(hidden_layer_sizes=(6,), max_iter=30, random_state=0),
    "mlp logistic": nn.MLPClassifier(hidden_layer_sizes=(6,), activation="logistic", max_iter=30, random_state=0),
    "neighbours": neighbors.KNeighborsClassifier(5),
    "neighbours by distance": neighbors.KNeighborsClassifier(5, weights="distance"),
    "calibrated svc": CalibratedClassifierCV(svm.LinearSVC(random_state=0), cv=3),
    "calibrated forest": CalibratedClassifierCV(en.RandomForestClassifier(max_depth=3, **FEW), cv=3),
    "isotonic": CalibratedClassifierCV(lm.LogisticRegression(max_iter=300), method="isotonic", cv=3),
    "soft vote": en.VotingClassifier(
        [("a", lm.LogisticRegression(max_iter=300)), ("b", tree.DecisionTreeClassifier(max_depth=3))], voting="soft"
    ),
    "hard vote": en.VotingClassifier(
        [("a", lm.LogisticRegression(max_iter=300)), ("b", tree.DecisionTreeClassifier(max_depth=3))], weights=[2, 1]
    ),
    "stack": en.StackingClassifier(
        [("a", svm.LinearSVC(random_state=0)), ("b", tree.DecisionTreeClassifier(max_depth=3))], cv=3, passthrough=True
    ),
    "lightgbm": LGBMClassifier(n_estimators=8, **QUIET),
}

BINARY_ONLY = {
    # With text labels scikit-learn 1.9 cannot fit these two.
    "temperature": CalibratedClassifierCV(lm.LogisticRegression(max_iter=300), method="temperature", cv=3),
    "temperature of shares": CalibratedClassifierCV(
        en.RandomForestClassifier(max_depth=3, **FEW), method="temperature", cv=3
    ),
    "boosting exponential": en.GradientBoostingClassifier(loss="exponential", **FEW),
    "dummy constant": dummy.DummyClassifier(strategy="constant", constant=True),
}


def scaled() -> ColumnTransformer:
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    return ColumnTransformer([("n", numbers, NUMBERS), ("t", OneHotEncoder(handle_unknown="ignore"), TEXTS)])


def ordinal() -> ColumnTransformer:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return ColumnTransformer([("t", codes, TEXTS)], remainder=SimpleImputer(strategy="median"))


PREPROCESSORS = {"scaled": scaled, "ordinal": ordinal}


@pytest.fixture(params=PREPROCESSORS)
def before(request: pytest.FixtureRequest) -> ColumnTransformer:
    return PREPROCESSORS[request.param]()


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressor_is_exact(name: str, before: Any, train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    model = Pipeline([("before", before), ("model", clone(REGRESSORS[name]))]).fit(train, amount)
    # Boosting hands its init float32 rows, and ridge then works in float32: no order of its sums is the right one.
    check_parity(model, test, limit=1e-5 if name == "boosting from ridge" else 1e-9)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_of_text_labels_is_exact(
    name: str, before: Any, train: pd.DataFrame, level: Any, test: pd.DataFrame
) -> None:
    model = Pipeline([("before", before), ("model", clone(CLASSIFIERS[name]))]).fit(train, level)
    check_parity(model, test)


@pytest.mark.parametrize("name", [*CLASSIFIERS, *BINARY_ONLY])
def test_classifier_of_two_labels_is_exact(name: str, train: pd.DataFrame, amount: Any, test: pd.DataFrame) -> None:
    labels = amount > 3.0 if name in BINARY_ONLY else np.where(amount > 3.0, 7, -2)
    model = clone((CLASSIFIERS | BINARY_ONLY)[name])
    check_parity(Pipeline([("before", scaled()), ("model", model)]).fit(train, labels), test)
