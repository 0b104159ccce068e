"""Texts in; words, and what of them is counted, out, in NumPy. `perron.models.text` does the same in the graph.

A word is a run of letters, digits, underscores and whatever else isn't a separator. Separators are the
ASCII control characters, spaces and punctuation, the Latin-1 signs (U+0080 to U+00BF), the general and
CJK punctuation (U+2000 to U+206F, U+3000 to U+303F), and the sign for a missing text, so that one has no
words. A to Z are lower-cased and no other letter is. All this is stated in code points, which no locale
and no version of Unicode changes: Python's `re` and RE2 in onnxruntime read the same pattern alike.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["counted", "hashed", "replaced", "terms_of", "words_of"]

WORD = "[^\x00-/:-@\\[-^`\\{-\xbf\u2000-\u206f\u2400\u3000-\u303f]+"
FIND = re.compile(WORD).findall


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    return FIND(text.lower() if text.isascii() else text.encode().lower().decode())


def terms_of(text: str, longest: int) -> Iterator[str]:
    """The words of a text, and its runs of up to `longest` words with a space between them."""
    words = words_of(text)
    yield from words
    for length in range(2, longest + 1):
        yield from (" ".join(words[at : at + length]) for at in range(len(words) - length + 1))


def replaced(text: Any, kept: Sequence[str], other: str) -> Any:
    """The texts (n,), each that isn't among `kept` replaced by `other`."""
    known = set(kept)
    return np.array([value if value in known else other for value in text.tolist()], dtype=object)


def counted(text: Any, terms: Sequence[str]) -> Any:
    """How often each text (n,) has each of the terms: (n, k) float64."""
    places = {term: place for place, term in enumerate(terms)}
    longest = max(term.count(" ") for term in terms) + 1
    counts = np.zeros((len(text), len(terms)))
    for row, value in enumerate(text.tolist()):
        for place, times in Counter(map(places.get, terms_of(value, longest))).items():
            if place is not None:
                counts[row, place] = times
    return counts


def hashed(text: Any, columns: int) -> Any:
    """How often each text (n,) has the words of each column, with the words' signs: (n, columns) float64."""
    from sklearn.utils import murmurhash3_32  # not at the top: what serves doesn't need it

    @lru_cache(maxsize=100_000)
    def place(word: str) -> tuple[int, float]:
        number = int(murmurhash3_32(word, seed=0))
        return abs(number) % columns, -1.0 if number < 0 else 1.0

    counts = np.zeros((len(text), columns))
    for row, value in enumerate(text.tolist()):
        for word in words_of(value):
            column, sign = place(word)
            counts[row, column] += sign
    return counts
