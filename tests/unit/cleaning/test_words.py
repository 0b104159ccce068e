"""Words: where they begin and end, and that the graph finds, counts and hashes the same ones."""

import sys
from typing import Any

import ndonnx as ndx
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer

from perron.cleaning import words as in_numpy
from perron.cleaning.words import terms_of, words_of
from perron.models import text as in_graph
from perron.tensors import NULL_TEXT

TERMS = ["a", "größe", "ß", "good", "not", "not good", "a b c", "b", "x_1", "日本", "İ", "ǅ"]
STRANGE = [
    "", " ", NULL_TEXT, "!!!", "A b\tC\nb\x00b\x85b\xa0b\u2003b\u3000b", "GRÖSSE größe Größe", "“not” good—not…good", "x_1 X_1 x-1",
    "日本 日本。日本", "İ i ı ǅ ǆ", "\u212a K k", "a\u0301 á", "😀 not😀good", "\ufeffa", "a\u200bb c", "not " * 3000 + "good", "b" * 100_000,
]  # fmt: skip


def session(function: Any) -> onnxruntime.InferenceSession:
    text = ndx.argument(shape=("N",), dtype=ndx.utf8)
    built = ndx.build({"text": text}, {"made": function(text)}).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(built, options, providers=["CPUExecutionProvider"])


COUNT = session(lambda text: in_graph.counted(text, TERMS))
HASH = session(lambda text: in_graph.hashed(text, 7))
REPLACE = session(lambda text: in_graph.replaced(text, ["a", "größe", NULL_TEXT], "other"))


def demand_same(texts: list[str]) -> None:
    array = np.array(texts, dtype=object)
    wanted = (in_numpy.counted(array, TERMS), in_numpy.hashed(array, 7))
    for graph, expected in zip((COUNT, HASH), wanted, strict=True):
        np.testing.assert_array_equal(graph.run(None, {"text": array})[0], expected)
    replaced = in_numpy.replaced(array, ["a", "größe", NULL_TEXT], "other")
    assert REPLACE.run(None, {"text": array})[0].tolist() == replaced.tolist()


def test_words_are_runs_of_what_is_no_separator() -> None:
    assert words_of("Don't stop, the  Größe (x_1) is 3.5!") == [
        "don",
        "t",
        "stop",
        "the",
        "größe",
        "x_1",
        "is",
        "3",
        "5",
    ]
    assert words_of("ÄÖ“quoted”—ok…") == ["ÄÖ", "quoted", "ok"]
    assert words_of("a\tb\nc\x00d\x85e\xa0f\u2003g\u3000h") == list("abcdefgh")
    assert words_of("") == words_of(" !? ") == words_of(NULL_TEXT) == []


def test_terms_are_runs_of_words() -> None:
    assert list(terms_of("a b c", 1)) == ["a", "b", "c"]
    assert list(terms_of("a b c", 3)) == ["a", "b", "c", "a b", "b c", "a b c"]
    assert list(terms_of("a", 3)) == ["a"]


@pytest.mark.parametrize("text", STRANGE, ids=lambda text: ascii(text[:12]))
def test_a_strange_text_is_the_same_in_the_graph(text: str) -> None:
    demand_same([text])


def test_rows_do_not_change_each_other_and_none_is_none() -> None:
    demand_same(STRANGE)
    demand_same([])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(), max_size=4))
def test_any_text_is_the_same_in_the_graph(texts: list[str]) -> None:
    demand_same(texts)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "B", "not", "GOOD", "größe", ",", "\n", "c"]), max_size=9).map(" ".join),
        max_size=4,
    )
)
def test_any_sentence_is_the_same_in_the_graph(texts: list[str]) -> None:
    demand_same(texts)


def test_every_character_parts_words_alike_in_the_graph() -> None:
    """Each below U+30000 between two letters: lower-cased, kept or taken for a separator alike."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    demand_same(
        [" ".join(f"b{one}b a" for one in characters[start : start + 4096]) for start in range(0, 0x30000, 4096)]
    )


def test_counts_are_those_of_scikit_learn() -> None:
    texts = np.array(["not good not", "good a b c b", "b"], dtype=object)
    peer = CountVectorizer(vocabulary=["good", "not", "not good", "b c b"], ngram_range=(1, 3), token_pattern=r"\S+")
    found = in_numpy.counted(texts, ["good", "not", "not good", "b c b"])
    assert found.tolist() == peer.transform(texts).toarray().tolist()


def test_hashes_are_those_of_scikit_learn() -> None:
    words = [f"w{i}" for i in range(2000)] + ["größe", "日本"]
    for columns in (2, 7, 64):
        peer = FeatureHasher(columns, input_type="string").transform([words]).toarray()
        assert in_numpy.hashed(np.array([" ".join(words)], dtype=object), columns).tolist() == peer.tolist()
