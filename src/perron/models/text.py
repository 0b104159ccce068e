"""Texts of a graph in; what of their words is counted out: the graph's twin of `perron.cleaning.words`.

Two operators are onnxruntime's own (com.microsoft): Tokenizer, since ONNX has none that knows a word
(its StringSplit parts at spaces alone), and MurmurHash3. A text is read at a time, in a Loop: side by side
each would be padded to the longest one, so that one request of a megabyte would fill the memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import ndonnx as ndx
import numpy as np
import spox
import spox.opset.ai.onnx.ml.v5 as ml
import spox.opset.ai.onnx.v21 as op
from onnx import ModelProto, TensorProto, helper
from spox import Var

from perron.cleaning.words import WORD
from perron.models.ops import as_number, integers, number

__all__ = ["count_hashes", "count_terms", "counted", "hashed", "replaced"]


def replaced(text: ndx.Array, kept: Sequence[str], other: str) -> ndx.Array:
    """The texts (n,), each that isn't among `kept` replaced by `other`."""
    found = ml.label_encoder(text.unwrap_spox(), keys_strings=kept, values_strings=kept, default_string=other)
    return ndx.asarray(found)


def counted(text: ndx.Array, terms: Sequence[str]) -> ndx.Array:
    """How often each text (n,) has each of the terms: (n, k) float64."""
    return ndx.asarray(count_terms(text.unwrap_spox(), terms))


def hashed(text: ndx.Array, columns: int) -> ndx.Array:
    """How often each text (n,) has the words of each column, with the words' signs: (n, columns) float64."""
    return ndx.asarray(count_hashes(text.unwrap_spox(), columns))


def count_terms(text: Var, terms: Sequence[str], word: str = WORD, *, lower: bool = True) -> Var:
    """How often each text (n,) has each of the terms, words with a space between: (n, k) float64.

    Args:
        word: what a word is, as RE2 reads it; the longest match counts. A word has no space.
        lower: reads A to Z as a to z.
    """
    by_length: dict[int, list[str]] = {}
    for term in terms:
        by_length.setdefault(term.count(" ") + 1, []).append(term)
    longest = max(by_length)
    ordered = [term for length in range(1, longest + 1) for term in by_length.get(length, ())]
    starts = np.cumsum([0] + [length * len(by_length.get(length, ())) for length in range(1, longest)])
    places = {term: place for place, term in enumerate(terms)}

    def count(words: Var) -> Var:
        # TfIdfVectorizer takes no empty row; the empty word that is put there is in no term.
        filled = op.concat([words, op.const(np.array([""]))], axis=0)
        found = op.tf_idf_vectorizer(
            filled,
            mode="TF",
            min_gram_length=1,
            max_gram_length=longest,
            max_skip_count=0,
            ngram_counts=starts.tolist(),
            ngram_indexes=[places[term] for term in ordered],
            pool_strings=[word for term in ordered for word in term.split(" ")],
        )
        return op.reshape(found, integers([len(terms)]))

    # Counted in float32, which is exact up to 2^24.
    return as_number(_by_text(text, count, word, lower))


def count_hashes(text: Var, columns: int, word: str = WORD, *, lower: bool = True, signed: bool = True) -> Var:
    """How often each text (n,) has the words that MurmurHash3 puts into each column: (n, columns) float64.

    Args:
        word, lower: as in `count_terms`.
        signed: counts a word down where its hash is negative.
    """

    def count(words: Var) -> Var:
        code = op.cast(_murmur(words), to=np.int64)
        sign = op.where(op.less(code, integers(0)), number(-1.0 if signed else 1.0), number(1.0))
        place = op.mod(op.abs(code), integers(columns))
        return op.scatter_elements(number(np.zeros(columns)), place, sign, axis=0, reduction="add")

    return _by_text(text, count, word, lower)


def _by_text(text: Var, count: Callable[[Var], Var], word: str, lower: bool) -> Var:
    """`count` of each text's words (d,), as rows (n, k)."""

    def step(place: Var, going: Var) -> list[Var]:
        one = op.reshape(op.gather(text, place), integers([1]))
        if lower:
            # The locale "C" is on every machine, and knows no letters but those of ASCII.
            one = op.string_normalizer(one, case_change_action="LOWER", is_case_sensitive=1, locale="C")
        return [going, count(op.reshape(_tokenize(one, word), integers([-1])))]

    (rows,) = op.loop(op.shape(text), op.const(np.array([True])), [], body=step)
    return rows


def _tokenize(text: Var, word: str) -> Var:
    how = {"mark": 0, "mincharnum": 1, "pad_value": "", "tokenexp": word}
    return spox.inline(_alone("Tokenizer", how, TensorProto.STRING, [None, None]))(x=text)["y"]


def _murmur(words: Var) -> Var:
    return spox.inline(_alone("MurmurHash3", {"seed": 0, "positive": 0}, TensorProto.INT32, [None]))(x=words)["y"]


def _alone(operator: str, how: dict[str, Any], kind: int, shape: list[int | None]) -> ModelProto:
    """A model of one operator of onnxruntime's on texts (n,), so that spox, which doesn't know it, can put it into a graph."""
    node = helper.make_node(operator, ["x"], ["y"], domain="com.microsoft", **how)
    given = helper.make_tensor_value_info("x", TensorProto.STRING, [None])
    graph = helper.make_graph([node], "alone", [given], [helper.make_tensor_value_info("y", kind, shape)])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)
