"""Cleaning of columns: what is learnt from the train rows, what it makes of any rows, and the same in the graph."""

import json
import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import ndonnx as ndx
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from perron import cleaning
from perron.cleaning import Cleaning, check_cleaning
from perron.cleaning.columns import Cleaner, Vectors, fit
from perron.contract import Field, Schema
from perron.errors import DataError, FeatureError
from perron.features import columns, given_columns
from perron.models import text as graph_texts
from perron.tensors import DAY_S, NULL_TEXT, raw_dtype

NUMBER = Field(name="x", column="x", kind="float", optional=True)
TEXT = replace(NUMBER, name="t", kind="text")
SCHEMA = Schema(
    "Rows",
    None,
    (
        NUMBER,
        TEXT,
        replace(NUMBER, name="code", kind="category", values=(1, 2, 3), optional=False),
        replace(NUMBER, name="maybe", kind="category", values=(1, 2)),
        replace(NUMBER, name="when", kind="datetime"),
        replace(NUMBER, name="flag", kind="bool"),
        replace(NUMBER, name="title", kind="text"),
    ),
)
NAN = math.nan
RAW = {
    "x": np.array([1.0, NAN, 2.0, 9.0]),
    "t": np.array(["b", NULL_TEXT, "a", "b"], object),
    "code": np.array([1, 2, 1, 3]),
    "maybe": np.array([1.0, NAN, NAN, 2.0]),
    "when": np.array([0.0, NAN, 1.7e9, 951_782_400.5]),
    "flag": np.array([1.0, NAN, 0.0, 1.0]),
    "title": np.array(["A good day", NULL_TEXT, "not good, not bad", ""], object),
}


def texts(numbers: Any) -> Any:
    return np.array([str(int(number)) for number in numbers], object)


def fitted(*declared: Cleaning, raw: dict[str, Any] = RAW) -> tuple[Cleaner, ...]:
    return fit(check_cleaning(declared, SCHEMA), given_columns(SCHEMA, raw, np))


def made(
    *declared: Cleaning, raw: dict[str, Any] = RAW, rows: dict[str, Any] = RAW, function: Any = None
) -> dict[str, Any]:
    """The model's columns of `rows`, cleaned by what was learnt from `raw`."""
    return columns(SCHEMA, dict(rows), function, np, texts, fitted(*declared, raw=raw))


def state(one: Cleaning, raw: dict[str, Any] = RAW) -> dict[str, Any]:
    return dict(fitted(one, raw=raw)[0].state)


ALL = (
    cleaning.impute("x", "median", indicator=True),
    cleaning.clip("x", low=0.1, high=0.9),
    cleaning.impute("t", "most_frequent", indicator=True),
    cleaning.group_rare("t", most=1),
    cleaning.group_rare("code", most=1, into=-1),
    cleaning.impute("maybe", value=2),
    cleaning.date_parts("when", tuple(cleaning.PARTS), cyclic=True),
    cleaning.impute("flag", value=False),
    cleaning.tf_idf("title", longest=2),
    cleaning.text_hash("title", columns=5),
)


# ------------------------------------------------------------------ what is learnt, and what it does


@pytest.mark.parametrize(
    ("one", "value"),
    [
        (cleaning.impute("x", "median"), 2.0),
        (cleaning.impute("x", "mean"), 4.0),
        (cleaning.impute("x", "most_frequent"), 1.0),
        (cleaning.impute("x", value=7), 7.0),
        (cleaning.impute("t", "most_frequent"), "b"),
        (cleaning.impute("t", value="none"), "none"),
        (cleaning.impute("flag", "most_frequent"), 1.0),
        (cleaning.impute("flag", value=False), 0.0),
        (cleaning.impute("maybe", "most_frequent"), 1.0),
        (cleaning.impute("when", value=datetime(1970, 1, 2)), DAY_S),
        (cleaning.impute("when", value=datetime(1970, 1, 1, 1, tzinfo=UTC)), 3600.0),
    ],
)
def test_a_missing_value_becomes_what_was_learnt(one: cleaning.Impute, value: Any) -> None:
    assert state(one) == {"value": value}
    seen: dict[str, Any] = {}
    made(one, function=lambda xp, c: seen.update(vars(c)) or {})
    assert seen[one.field][1] == value
    assert seen[one.field][0] == RAW[one.field][0]


def test_a_date_is_imputed_by_a_date() -> None:
    schema = Schema("Rows", None, (replace(NUMBER, kind="date"),))
    cleaners = fit((cleaning.impute("x", value=date(1970, 1, 3)),), {"x": np.array([NAN])})
    parts = columns(schema, {"x": np.array([NAN])}, None, np, texts, cleaners)
    assert {name: array.tolist() for name, array in parts.items()} == {"x.month": [1], "x.day": [3], "x.weekday": [5]}


def test_an_indicator_says_where_a_value_was_missing() -> None:
    result = made(cleaning.impute("x", "mean", indicator=True), cleaning.impute("t", value="?", indicator=True))
    assert result["x.was_missing"].tolist() == result["t.was_missing"].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert "x.was_missing" not in made(cleaning.impute("x", "mean"))


def test_clipping_keeps_what_is_missing() -> None:
    result = made(cleaning.clip("x", at_least=1.5, at_most=5))["x"]
    assert np.array_equal(result, [1.5, NAN, 2.0, 5.0], equal_nan=True)
    assert state(cleaning.clip("x", low=0.0, high=0.5)) == {"low": 1.0, "high": 2.0}
    assert state(cleaning.clip("x", at_most=3)) == {"low": None, "high": 3.0}


def test_rare_categories_become_one_and_so_do_those_that_no_train_row_has() -> None:
    rows = RAW | {"t": np.array(["b", NULL_TEXT, "never seen", ""], object), "code": np.array([1, 2, 3, 1])}
    result = made(cleaning.group_rare("t", most=1), cleaning.group_rare("code", min_share=0.5, into=9), rows=rows)
    assert result["t"].tolist() == ["b", NULL_TEXT, "other", "other"]
    assert result["code"].tolist() == ["1", "9", "9", "1"]


def test_equally_frequent_categories_are_ranked_by_name_and_a_share_is_of_the_rows_that_have_a_value() -> None:
    raw = RAW | {"t": np.array(["b", "a", "c", NULL_TEXT], object)}
    assert state(cleaning.group_rare("t", most=2), raw) == {"kept": ["a", "b"]}
    assert state(cleaning.group_rare("t", min_share=1 / 3), raw) == {"kept": ["a", "b", "c"]}
    assert state(cleaning.group_rare("t", min_share=0.34), raw) == {"kept": []}
    assert made(cleaning.group_rare("t", min_share=0.34), raw=raw)["t"].tolist() == [
        "other",
        NULL_TEXT,
        "other",
        "other",
    ]


def test_a_share_that_is_just_met_is_met() -> None:
    text = np.array(["a"] * 93 + ["b"] * 7, object)
    rows = {name: np.resize(array, 100) for name, array in RAW.items()} | {"t": text}
    assert state(cleaning.group_rare("t", min_share=0.07), rows) == {"kept": ["a", "b"]}


def test_the_mean_of_huge_numbers_is_finite() -> None:
    assert state(cleaning.impute("x", "mean"), RAW | {"x": np.full(4, 1.5e308)}) == {"value": 1.5e308}


def test_declarations_are_applied_in_their_order() -> None:
    first, then = cleaning.impute("x", "mean"), cleaning.clip("x", at_most=2.5)
    assert made(first, then)["x"].tolist() == [1.0, 2.5, 2.0, 2.5]
    assert made(then, first)["x"].tolist() == [1.0, pytest.approx(5.5 / 3), 2.0, 2.5]


def test_what_stands_for_a_text_is_made_of_the_cleaned_one_wherever_it_is_declared() -> None:
    vector, fill = cleaning.tf_idf("title"), cleaning.impute("title", value="nothing")
    for declared in ((vector, fill), (fill, vector)):
        found = made(*declared)["title.tf_idf"]
        assert "title.tf_idf.nothing" in found.names
        assert found.values[1].max() == 1.0


def test_the_users_features_see_cleaned_columns() -> None:
    result = made(
        *ALL,
        function=lambda xp, c: {"double": c.x * 2, "is_b": c.t == "b", "late": c.when > 1e9, "words": c.title == ""},
    )
    assert result["double"].tolist() == [2 * x for x in result["x"].tolist()]
    assert result["is_b"].tolist() == [1.0, 1.0, 0.0, 1.0]
    assert result["words"].tolist() == [0.0, 0.0, 0.0, 1.0]


def test_the_users_features_may_not_change_a_cleaned_column_or_take_a_vectors_name() -> None:
    def change(xp: Any, c: Any) -> dict[str, Any]:
        c.x[0] = 5.0
        return {}

    with pytest.raises(FeatureError, match="read-only"):
        made(cleaning.impute("x", "mean"), function=change)
    for name in ("title.tf_idf.good", "title.hash.0", "x.was_missing", "title"):
        with pytest.raises(FeatureError, match=f"gives '{name}', which"):
            made(*ALL, function=lambda xp, c, name=name: {name: c.x})


# ------------------------------------------------------------------ dates


@settings(max_examples=60)
@given(st.lists(st.datetimes(datetime(1600, 1, 1), datetime(2399, 12, 31)), min_size=1, max_size=20))
def test_the_parts_of_a_moment_are_what_the_calendar_says(moments: list[datetime]) -> None:
    moments = [moment.replace(second=30, microsecond=0) for moment in moments]
    rows = {name: np.resize(array, len(moments)) for name, array in RAW.items()}
    rows["when"] = np.array([(moment - datetime(1970, 1, 1)) / timedelta(seconds=1) for moment in moments])
    found = made(cleaning.date_parts("when", tuple(cleaning.PARTS)), rows=rows)
    wanted = {
        "year": [m.year for m in moments],
        "quarter": [(m.month + 2) // 3 for m in moments],
        "month": [m.month for m in moments],
        "day": [m.day for m in moments],
        "day_of_year": [m.timetuple().tm_yday for m in moments],
        "weekday": [m.weekday() for m in moments],
        "is_weekend": [m.weekday() > 4 for m in moments],
        "hour": [m.hour for m in moments],
        "minute": [m.minute for m in moments],
    }
    assert {
        name.removeprefix("when."): array.tolist() for name, array in found.items() if name[:5] == "when."
    } == wanted


def test_cyclic_parts_lie_on_a_circle_and_a_missing_one_is_missing() -> None:
    found = made(cleaning.date_parts("when", ("year", "month", "is_weekend"), cyclic=True))
    assert [name for name in found if name.startswith("when")] == [
        "when.year",
        "when.month_sin",
        "when.month_cos",
        "when.is_weekend",
    ]
    sin, cos = found["when.month_sin"], found["when.month_cos"]
    assert np.allclose((sin**2 + cos**2)[[0, 2, 3]], 1.0)
    assert (sin[0], cos[0]) == (0.0, 1.0)  # January
    assert sin[3] == pytest.approx(0.5)  # February, a month of twelve on
    assert all(np.isnan(found[name][1]) for name in found if name.startswith("when"))


# ------------------------------------------------------------------ texts


def test_tf_idf_is_that_of_scikit_learn_up_to_the_rounding_of_its_weights() -> None:
    title = np.array([f"w{i % 7} w{i % 3} w{i % 2} x" for i in range(50)], object)
    rows = {name: np.resize(array, 50) for name, array in RAW.items()} | {"title": title}
    found = made(cleaning.tf_idf("title", longest=2), raw=rows, rows=rows)["title.tf_idf"]
    peer = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\S+")
    wanted = peer.fit_transform(title).toarray()
    assert [name.removeprefix("title.tf_idf.") for name in found.names] == peer.get_feature_names_out().tolist()
    np.testing.assert_allclose(found.values, wanted, atol=1e-3)


def test_the_terms_that_most_rows_have_are_chosen() -> None:
    raw = RAW | {"title": np.array(["b a a a", "b c", "c b", "a d"], object)}
    assert state(cleaning.tf_idf("title", most=2), raw)["terms"] == ["a", "b"]
    assert state(cleaning.tf_idf("title", min_rows=2), raw)["terms"] == ["a", "b", "c"]
    assert state(cleaning.tf_idf("title", min_rows=3), raw)["terms"] == ["b"]


def test_a_text_without_a_known_word_is_a_row_of_zeros() -> None:
    rows = RAW | {"title": np.array(["", NULL_TEXT, "never seen", "!!"], object)}
    found = made(cleaning.tf_idf("title"), cleaning.text_hash("title", columns=4), rows=rows)
    assert not found["title.tf_idf"].values.any()
    assert not found["title.hash"].values[[0, 1, 3]].any()
    assert np.isclose(np.sum(found["title.hash"].values[2] ** 2), 1.0)


# ------------------------------------------------------------------ nothing to learn from


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (cleaning.impute("x", "median"), "x has no value in the train rows, so no median to impute; give a constant"),
        (cleaning.impute("t", "most_frequent"), "t has no value in the train rows, so no most frequent to impute"),
        (cleaning.clip("x", low=0.1), "x has no value in the train rows, so no quantile to clip it at"),
        (cleaning.tf_idf("t"), r"cleaning.tf_idf\('t'\) finds no word that 1 train rows have"),
    ],
)
def test_a_column_without_values_is_refused_where_something_must_be_learnt(one: Cleaning, words: str) -> None:
    raw = RAW | {"x": np.full(4, NAN), "t": np.full(4, NULL_TEXT, object)}
    with pytest.raises(DataError, match=words) as caught:
        fitted(one, raw=raw)
    assert "\n" not in str(caught.value)


def test_a_column_without_values_needs_none_where_nothing_is_learnt() -> None:
    raw = RAW | {"x": np.full(4, NAN), "t": np.full(4, NULL_TEXT, object)}
    declared = (cleaning.impute("x", value=0), cleaning.clip("x", at_least=1), cleaning.group_rare("t", most=3))
    result = made(*declared, cleaning.text_hash("title"), raw=raw, rows=raw)
    assert result["x"].tolist() == [1.0] * 4
    assert result["t"].tolist() == [NULL_TEXT] * 4


def test_a_quantile_beyond_the_other_bound_is_refused() -> None:
    with pytest.raises(DataError, match=r"cleaning.clip\('x'\) would clip at 100 from below and at 2 from above"):
        fitted(cleaning.clip("x", at_least=100, high=0.5))


# ------------------------------------------------------------------ state, and the graph


def test_state_is_plain_json() -> None:
    for cleaner in fitted(*ALL):
        assert json.loads(json.dumps(cleaner.state)) == cleaner.state


def graph_of(cleaners: tuple[Cleaner, ...]) -> Any:
    """What the traced graph makes of rows: columns by name."""
    kinds = {"string": ndx.utf8, "float64": ndx.float64, "int64": ndx.int64, "bool": ndx.bool}
    inputs = {field.name: ndx.argument(shape=("N",), dtype=kinds[raw_dtype(field)]) for field in SCHEMA.features}
    traced = columns(SCHEMA, dict(inputs), None, ndx, lambda codes: ndx.astype(codes, ndx.utf8), cleaners, graph_texts)
    arrays = {name: one.values if isinstance(one, Vectors) else one for name, one in traced.items()}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    built = ndx.build(inputs, {f"made {name}": array for name, array in arrays.items()}).SerializeToString()
    session = onnxruntime.InferenceSession(built, options, providers=["CPUExecutionProvider"])
    return lambda rows: dict(zip(arrays, session.run(None, rows), strict=True))


GRAPH = graph_of(fitted(*ALL))
numbers = st.floats(allow_infinity=False) | st.sampled_from([NAN, 1.0, 2.0, -0.0])
sentences = st.text(max_size=12) | st.lists(st.sampled_from(["A", "good", "not", "bad,", NULL_TEXT]), max_size=5).map(
    " ".join
)
moments = st.floats(-1e10, 1e10) | st.just(NAN)
row = st.fixed_dictionaries(
    {
        "x": numbers,
        "t": st.sampled_from(["a", "b", NULL_TEXT, "", "else"]) | st.text(max_size=3),
        "code": st.sampled_from([1, 2, 3]),
        "maybe": st.sampled_from([1.0, 2.0, NAN]),
        "when": moments,
        "flag": st.sampled_from([0.0, 1.0, NAN]),
        "title": sentences,
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(row, max_size=6))
def test_the_graph_makes_the_same_columns_to_the_last_bit(rows: list[dict[str, Any]]) -> None:
    raw = {name: np.array([one[name] for one in rows], dtype=array.dtype) for name, array in RAW.items()}
    wanted, found = made(*ALL, rows=raw), GRAPH(raw)
    assert list(found) == list(wanted)
    for name, one in wanted.items():
        values = one.values if isinstance(one, Vectors) else one
        assert found[name].shape == values.shape
        np.testing.assert_array_equal(found[name], values, err_msg=name)
