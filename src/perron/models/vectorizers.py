"""Fitted text vectorizers of scikit-learn in, tables of the graph out.

A vectorizer is exported where the graph can find its words exactly: with `lowercase=False`, since a graph
can lower-case nothing but A to Z, and with a pattern of which RE2 is told the very characters that Python's
`re` means. For words in any case there is `perron.cleaning.tf_idf`.
"""

import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import spox.opset.ai.onnx.v21 as op
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)
from spox import Var

from perron.models.graph import Table, refusal, transformer
from perron.models.ops import as_number, integers, number, total
from perron.models.table import from_matrix
from perron.models.text import count_hashes, count_terms

MOST_COLUMNS = 50_000  # a graph's rows are dense
# scikit-learn's pattern, by the characters of a word and the fewest that it has.
PATTERNS = {
    r"(?u)\b\w\w+\b": (r"\w", 2),
    r"\b\w\w+\b": (r"\w", 2),
    r"(?u)\b\w+\b": (r"\w", 1),
    r"\b\w+\b": (r"\w", 1),
    r"\w+": (r"\w", 1),
    r"\S+": (r"\S", 1),
}
ONLY = {"analyzer": "word", "input": "content", "preprocessor": None, "tokenizer": None, "strip_accents": None}


@transformer(CountVectorizer)
def _count_vectorizer(step: Any, table: Table) -> Table:
    return from_matrix(_counts(step, table), len(step.vocabulary_))


@transformer(TfidfVectorizer)
def _tfidf_vectorizer(step: Any, table: Table) -> Table:
    return from_matrix(_weighted(step._tfidf, _counts(step, table)), len(step.vocabulary_))


@transformer(TfidfTransformer)
def _tfidf_transformer(step: Any, table: Table) -> Table:
    return from_matrix(_weighted(step, table.matrix), table.width)


@transformer(HashingVectorizer)
def _hashing_vectorizer(step: Any, table: Table) -> Table:
    word = _word(step)
    if step.ngram_range != (1, 1):
        raise refusal(step, f"ngram_range={step.ngram_range}", "use (1, 1), or a CountVectorizer for neighbours")
    if step.stop_words is not None:
        raise refusal(step, "stop_words", "leave them out, or use a CountVectorizer")
    if step.n_features > MOST_COLUMNS:
        raise refusal(step, f"n_features={step.n_features}", f"use at most {MOST_COLUMNS:,}")
    # With `binary` a column counts that has a word, be it that signs cancel out in it.
    signed = step.alternate_sign and not step.binary
    counts = count_hashes(_text(step, table), step.n_features, word, lower=False, signed=signed)
    if step.binary:
        counts = as_number(op.greater(counts, number(0.0)))
    return from_matrix(_normalised(step.norm, counts), step.n_features)


def _counts(step: Any, table: Table) -> Var:
    word = _word(step)
    if step.stop_words is not None and step.ngram_range[1] > 1:
        raise refusal(step, f"stop_words and ngram_range={step.ngram_range}", "use one of the two")
    terms = sorted(step.vocabulary_, key=step.vocabulary_.__getitem__)
    if len(terms) > MOST_COLUMNS:
        raise refusal(step, f"{len(terms):,} terms", f"use max_features={MOST_COLUMNS} or fewer")
    found = count_terms(_text(step, table), terms, word, lower=False)
    return as_number(op.greater(found, number(0.0))) if step.binary else found


def _weighted(step: Any, counts: Var) -> Var:
    """Counts as TfidfTransformer weighs them."""
    if step.sublinear_tf:
        none = op.equal(counts, number(0.0))
        counts = op.where(none, counts, op.add(op.log(op.where(none, number(1.0), counts)), number(1.0)))
    if step.use_idf:
        counts = op.mul(counts, number(step.idf_))
    return _normalised(step.norm, counts)


def _normalised(norm: str | None, x: Var) -> Var:
    if norm is None:
        return x
    length = total(op.abs(x)) if norm == "l1" else op.sqrt(total(op.mul(x, x)))
    return op.div(x, op.where(op.equal(length, number(0.0)), number(1.0), length))


def _text(step: Any, table: Table) -> Var:
    if table.is_text != (True,):
        raise refusal(step, f"{table.width} columns or numbers", "name one column of text: ('words', step, 'title')")
    return op.reshape(table.column(0), integers([-1]))


def _word(step: Any) -> str:
    """What a word is to the vectorizer, as RE2 reads it."""
    for option, wanted in ONLY.items():
        if getattr(step, option) != wanted:
            raise refusal(step, f"{option}={getattr(step, option)!r:.60}", f"use {option}={wanted!r}")
    if np.dtype(step.dtype) not in (np.float64, np.int64):
        raise refusal(step, f"dtype={np.dtype(step.dtype)}", "use np.float64")
    if step.lowercase:
        raise refusal(
            step,
            "lowercase=True",
            "a graph lower-cases A to Z alone: use lowercase=False, or perron.cleaning.tf_idf, which reads A to Z as a to z",
        )
    try:
        characters, fewest = PATTERNS[step.token_pattern]
    except KeyError:
        raise refusal(
            step, f"token_pattern={step.token_pattern!r:.60}", f"use one of {', '.join(map(repr, PATTERNS))}"
        ) from None
    return f"{_class_of(characters)}{{{fewest},}}"


@cache
def _class_of(characters: str) -> str:
    """The characters that Python's `re` means, each range spelt out: RE2's own \\w knows ASCII alone."""
    means = re.compile(characters).fullmatch
    codes = (code for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF and means(chr(code)))
    return "[" + "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in _ranges(codes)) + "]"


def _ranges(codes: Iterator[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for code in codes:
        if found and found[-1][1] == code - 1:
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    return found
