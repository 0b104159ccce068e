"""scikit-learn's text vectorizers in a ColumnTransformer: exported exactly, or refused by name."""

import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from parity_exam import answers, check_parity, columns_of, session_of
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import Pipeline, make_pipeline

from perron.models.graph import NULL_TEXT, UnsupportedModel, export

WORDS = [
    "Good",
    "good",
    "bad",
    "not",
    "Größe",
    "größe",
    "ok,",
    "İ",
    "Σας",
    "日本",
    "don't",
    "x_1",
    "a",
    "ﬁ",
    "١٢",
    "\u2003",
    "e\u0301t",
    NULL_TEXT,
]


def rows(count: int, seed: int, words: list[str] = WORDS) -> pd.DataFrame:
    chance = np.random.default_rng(seed)
    titles = [" ".join(chance.choice(words, chance.integers(0, 9))) for _ in range(count)]
    return pd.DataFrame({"title": pd.Series(titles, dtype=object), "size": chance.normal(size=count)})


TRAIN, TEST = rows(200, 0), rows(200, 1, [*WORDS, "unseen", "GOOD", "\x00", "😀"])
SCORE = TRAIN["title"].str.count("ood") - TRAIN["title"].str.count("bad") + 0.1 * TRAIN["size"]


def pipeline(vectorizer: Any, estimator: Any) -> Pipeline:
    return make_pipeline(
        ColumnTransformer([("words", vectorizer, "title"), ("rest", "passthrough", ["size"])], sparse_threshold=0),
        estimator,
    )


@pytest.mark.parametrize(
    "vectorizer",
    [
        CountVectorizer(lowercase=False),
        CountVectorizer(lowercase=False, token_pattern=r"\S+", ngram_range=(2, 3), max_features=40),
        CountVectorizer(lowercase=False, token_pattern=r"(?u)\b\w+\b", binary=True, min_df=2),
        CountVectorizer(lowercase=False, stop_words=["not", "bad"]),
        TfidfVectorizer(lowercase=False),
        TfidfVectorizer(lowercase=False, token_pattern=r"\w+", ngram_range=(1, 2), sublinear_tf=True, norm="l1"),
        TfidfVectorizer(lowercase=False, use_idf=False, norm=None),
        HashingVectorizer(lowercase=False, n_features=32),
        HashingVectorizer(lowercase=False, n_features=7, binary=True, norm="l1", token_pattern=r"\S+"),
        HashingVectorizer(lowercase=False, n_features=16, alternate_sign=False, norm=None),
        make_pipeline(CountVectorizer(lowercase=False), TfidfTransformer(smooth_idf=False)),
    ],
    ids=repr,
)  # fmt: skip
def test_a_vectorizer_is_exported_exactly(vectorizer: Any) -> None:
    check_parity(pipeline(vectorizer, Ridge()).fit(TRAIN, SCORE), TEST)
    check_parity(pipeline(vectorizer, RandomForestRegressor(10, random_state=0)).fit(TRAIN, SCORE), TEST)
    for classifier in (LogisticRegression(max_iter=500), GaussianNB(var_smoothing=1e-3)):
        check_parity(pipeline(vectorizer, classifier).fit(TRAIN, SCORE > 0), TEST)


@pytest.mark.parametrize("pattern", [r"(?u)\b\w\w+\b", r"\S+"])
def test_every_character_is_a_words_or_none_alike_in_the_graph(pattern: str) -> None:
    step = HashingVectorizer(lowercase=False, n_features=5, token_pattern=pattern, norm=None)
    weights = np.array([1.0, 10.0, 100.0, 1e3, 1e4, 0.0])
    model = pipeline(step, Ridge()).fit(TRAIN, SCORE)
    model[-1].coef_, model[-1].intercept_ = weights, 0.0
    characters = [chr(code) for code in range(min(0x30000, sys.maxunicode)) if not 0xD800 <= code <= 0xDFFF]
    titles = [" ".join(f"b{one}b a" for one in characters[at : at + 4096]) for at in range(0, len(characters), 4096)]
    asked = pd.DataFrame({"title": pd.Series(titles, dtype=object), "size": 0.0})
    np.testing.assert_allclose(answers(session_of(model, asked), asked)[0], model.predict(asked), rtol=1e-12)


@pytest.mark.parametrize(
    ("vectorizer", "words"),
    [
        (TfidfVectorizer(), "TfidfVectorizer with lowercase=True cannot be exported; .*perron.cleaning.tf_idf"),
        (CountVectorizer(lowercase=False, analyzer="char"), "CountVectorizer with analyzer='char' cannot be exported; use analyzer='word'"),
        (CountVectorizer(lowercase=False, tokenizer=str.split, token_pattern=None), "CountVectorizer with tokenizer=<method"),
        (CountVectorizer(lowercase=False, preprocessor=str.upper), "with preprocessor=<method"),
        (CountVectorizer(lowercase=False, strip_accents="unicode"), "with strip_accents='unicode'"),
        (CountVectorizer(lowercase=False, token_pattern=r"[a-z]+"), r"with token_pattern='\[a-z\]\+' cannot be exported; use one of"),
        (CountVectorizer(lowercase=False, stop_words=["not"], ngram_range=(1, 2)), "with stop_words and ngram_range"),
        (TfidfVectorizer(lowercase=False, dtype=np.float32), "TfidfVectorizer with dtype=float32 cannot be exported; use np.float64"),
        (HashingVectorizer(lowercase=False), "HashingVectorizer with n_features=1048576 cannot be exported; use at most 50,000"),
        (HashingVectorizer(lowercase=False, ngram_range=(1, 2)), "HashingVectorizer with ngram_range"),
        (HashingVectorizer(lowercase=False, stop_words=["not"]), "HashingVectorizer with stop_words"),
    ],
)  # fmt: skip
def test_what_a_graph_cannot_do_exactly_is_refused(vectorizer: Any, words: str) -> None:
    model = make_pipeline(ColumnTransformer([("words", vectorizer, "title")]), Ridge()).fit(TRAIN, SCORE)
    with pytest.raises(UnsupportedModel, match=words) as caught:
        export(model, columns_of(TRAIN))
    assert "\n" not in str(caught.value)
