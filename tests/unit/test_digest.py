"""Digests: what differs, what doesn't, and what counts as a function's code."""

import enum
import math
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.digest import digest, digest_bytes, digest_code, digest_file

Load = Callable[..., ModuleType]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Point:
    x: int
    y: int


@dataclass
class Place:
    x: int
    y: int


DIFFERENT: list[object] = [
    1, "1", True, 1.0, None, b"1", 0, False, "", b"", 0.0, -0.0, math.inf, -1, 10**5000, "True", "None", [], {}, set(),
    [1], [[1]], [1, 2], [2, 1], {"a": 1}, {"a": "1"}, {"a": {"b": 1}}, {"a": None}, {1: "a"}, {1}, {1, 2}, [None],
    date(2020, 1, 1), datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC), "2020-01-01", Path("a"), "a", ["a", "b"],
    ["ab"], ["a", ["b"]], {"a": 1, "b": 2}, {"a": 2, "b": 1}, Colour.RED, Colour.BLUE, Point(1, 2), Point(2, 1),
    Place(1, 2), "s1:a;", "\ud800",
]  # fmt: skip


def test_values_that_differ_have_digests_that_differ() -> None:
    digests = [digest(value) for value in DIFFERENT]
    assert len(set(digests)) == len(DIFFERENT)
    assert all(len(text) == 64 and int(text, 16) >= 0 for text in digests)


def test_order_matters_in_lists_and_not_in_dicts_and_sets() -> None:
    assert digest([1, 2]) != digest([2, 1])
    assert digest({"a": 1, 2: "b", None: 3}) == digest({None: 3, 2: "b", "a": 1})
    assert digest({1, "a", 2.0}) == digest({2.0, 1, "a"})
    assert digest([1, 2]) == digest((1, 2))
    assert digest({1, 2}) == digest(frozenset({2, 1}))


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


def tagged(value: object) -> object:
    """The value such that == sees types and signs as the digest does."""
    if isinstance(value, list):
        return ("list", [tagged(item) for item in value])
    if isinstance(value, dict):
        return ("dict", {key: tagged(item) for key, item in value.items()})
    return (type(value), repr(value))


@given(PLAIN, PLAIN)
def test_two_digests_are_equal_exactly_when_the_values_are(one: object, other: object) -> None:
    assert (digest(one) == digest(other)) == (tagged(one) == tagged(other))


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=5))
def test_the_order_of_a_dict_never_matters(value: dict[str, int]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


def test_a_value_of_another_kind_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="Can't hash a complex"):
        digest([1, {"a": 1j}])


def test_a_list_that_holds_itself_is_refused_and_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises((TypeError, RecursionError)):
        digest(loop)


def test_a_files_digest_is_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    assert digest_file(path) == digest_bytes(b"abc" * 1_000_000)
    with pytest.raises(OSError, match="nowhere"):
        digest_file(tmp_path / "nowhere")


def test_a_digest_is_the_same_in_another_process_whatever_its_hash_seed() -> None:
    program = "from perron.digest import digest, digest_code\nprint(digest({'b': {'x', 'y', 3}, 'a': [1.5, None]}))"
    runs = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert runs == {digest({"a": [1.5, None], "b": {"y", 3, "x"}}).encode() + b"\n"}


# ------------------------------------------------------------------ code


def code(load: Load, source: str, **files: str) -> str:
    """The digest of the function `f` of a module, and of others beside it, as one project."""
    folder = None
    for name, text in files.items():
        folder = Path(load(textwrap.dedent(text), name).__file__ or "").parent
    module = load(textwrap.dedent(source), "system")
    folder = folder or Path(module.__file__ or "").parent
    return digest_code(module.f, folder)


SAME = [
    ("def f(x):\n    return x + 1\n", "\n\n# a comment\ndef f(x):\n\n    # another\n    return x + 1  # and more\n"),
    ("A = 1\ndef f(x):\n    return x\n", "A = 2\ndef f(x):\n    return x\n"),
    ("def g(): return 1\ndef f(x):\n    return x\n", "def g(): return 2\ndef f(x):\n    return x\n"),
    ("A = {'a': 1, 'b': 2}\ndef f(): return A\n", "A = {'b': 2, 'a': 1}\ndef f(): return A\n"),
    ("def f(x): return x in {'a', 'b'}\n", "def f(x): return x in {'b', 'a'}\n"),
    ("class P:\n    def m(self): return 1\ndef f(): return P()\n", "class P:\n\n    # why\n    def m(self): return 1\ndef f(): return P()\n"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_does_not_change_the_computation_does_not_change_the_digest(
    load_module: Load, one: str, other: str
) -> None:
    assert code(load_module, one) == code(load_module, other)


CHANGED = {
    "a constant": ("def f(x): return x + 1\n", "def f(x): return x + 2\n"),
    "a constant's type": ("def f(x): return x + 1\n", "def f(x): return x + 1.0\n"),
    "an operator": ("def f(x): return x + 1\n", "def f(x): return x - 1\n"),
    "an attribute": ("def f(x): return x.a\n", "def f(x): return x.b\n"),
    "a default": ("def f(x, y=1): return x\n", "def f(x, y=2): return x\n"),
    "a keyword's default": ("def f(x, *, y=1): return x\n", "def f(x, *, y=2): return x\n"),
    "a keyword's nature": ("def f(x, y=1): return x\n", "def f(x, *, y=1): return x\n"),
    "what is tried": (
        "def f(x):\n    try:\n        a()\n        b()\n    except E: pass\n",
        "def f(x):\n    try:\n        a()\n    except E: pass\n    else:\n        b()\n",
    ),
    "a global": ("A = 1\ndef f(): return A\n", "A = 2\ndef f(): return A\n"),
    "a global in a list": ("A = [1, {'a': 2}]\ndef f(): return A\n", "A = [1, {'a': 3}]\ndef f(): return A\n"),
    "a helper": ("def g(x): return x\ndef f(x): return g(x)\n", "def g(x): return -x\ndef f(x): return g(x)\n"),
    "a helper's helper": (
        "def h(): return 1\ndef g(): return h()\ndef f(): return g()\n",
        "def h(): return 2\ndef g(): return h()\ndef f(): return g()\n",
    ),
    "a helper's global": (
        "A = 1\ndef g(): return A\ndef f(): return g()\n",
        "A = 2\ndef g(): return A\ndef f(): return g()\n",
    ),
    "a closure": (
        "def make(n):\n    def f(): return n\n    return f\nf = make(1)\n",
        "def make(n):\n    def f(): return n\n    return f\nf = make(2)\n",
    ),
    "a closure's function": (
        "def make(g):\n    def f(): return g()\n    return f\nf = make(lambda: 1)\n",
        "def make(g):\n    def f(): return g()\n    return f\nf = make(lambda: 2)\n",
    ),
    "an inner function": (
        "def f():\n    def g(): return 1\n    return g\n",
        "def f():\n    def g(): return 2\n    return g\n",
    ),
    "a global of an inner function": (
        "A = 1\ndef f():\n    return [A for _ in 'ab']\n",
        "A = 2\ndef f():\n    return [A for _ in 'ab']\n",
    ),
    "a method": (
        "class P:\n    def m(self): return 1\ndef f(): return P()\n",
        "class P:\n    def m(self): return 2\ndef f(): return P()\n",
    ),
    "a class's attribute": (
        "class P:\n    rate = 1\ndef f(): return P.rate\n",
        "class P:\n    rate = 2\ndef f(): return P.rate\n",
    ),
    "a class's base": (
        "class Q:\n    def m(self): return 1\nclass P(Q): pass\ndef f(): return P()\n",
        "class Q:\n    def m(self): return 2\nclass P(Q): pass\ndef f(): return P()\n",
    ),
    "a property": (
        "class P:\n    @property\n    def m(self): return 1\ndef f(): return P()\n",
        "class P:\n    @property\n    def m(self): return 2\ndef f(): return P()\n",
    ),
    "a decorator's own code": (
        "import functools\ndef twice(g):\n    @functools.wraps(g)\n    def w(x): return 2 * g(x)\n    return w\n@twice\ndef f(x): return x\n",
        "import functools\ndef twice(g):\n    @functools.wraps(g)\n    def w(x): return 3 * g(x)\n    return w\n@twice\ndef f(x): return x\n",
    ),
    "a decorated function": (
        "import functools\n@functools.cache\ndef g(): return 1\ndef f(): return g()\n",
        "import functools\n@functools.cache\ndef g(): return 2\ndef f(): return g()\n",
    ),
    "a partial's arguments": (
        "import functools\ndef g(n, x): return n * x\nf = functools.partial(g, 1)\n",
        "import functools\ndef g(n, x): return n * x\nf = functools.partial(g, 2)\n",
    ),
    "a partial helper's keywords": (
        "import functools\ndef g(x, n): return n * x\nh = functools.partial(g, n=1)\ndef f(x): return h(x)\n",
        "import functools\ndef g(x, n): return n * x\nh = functools.partial(g, n=2)\ndef f(x): return h(x)\n",
    ),
    "a function in a table": (
        "def g(): return 1\nT = {'g': g}\ndef f(): return T['g']()\n",
        "def g(): return 2\nT = {'g': g}\ndef f(): return T['g']()\n",
    ),
    "a callable's state": (
        "class S:\n    def __init__(self, n): self.n = n\n    def __call__(self, x): return self.n * x\ns = S(1)\ndef f(x): return s(x)\n",
        "class S:\n    def __init__(self, n): self.n = n\n    def __call__(self, x): return self.n * x\ns = S(2)\ndef f(x): return s(x)\n",
    ),
    "a callable's code": (
        "class S:\n    def __call__(self, x): return x\nf = S()\n",
        "class S:\n    def __call__(self, x): return -x\nf = S()\n",
    ),
    "an object's state": (
        "class S:\n    def __init__(self, n): self.n = n\ns = S(1)\ndef f(): return s.n\n",
        "class S:\n    def __init__(self, n): self.n = n\ns = S(2)\ndef f(): return s.n\n",
    ),
    "a regular expression": ("import re\nR = re.compile('a')\ndef f(): return R\n", "import re\nR = re.compile('b')\ndef f(): return R\n"),
    "an enum's value": (
        "import enum\nclass E(enum.Enum):\n    A = 1\ndef f(): return E.A.value\n",
        "import enum\nclass E(enum.Enum):\n    A = 2\ndef f(): return E.A.value\n",
    ),
    "an enum member's value": (
        "import enum\nclass E(enum.Enum):\n    A = 1\nB = E.A\ndef f(): return B.value\n",
        "import enum\nclass E(enum.Enum):\n    A = 2\nB = E.A\ndef f(): return B.value\n",
    ),
    "a dataclass's default": (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    n: int = 1\ndef f(): return P().n\n",
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    n: int = 2\ndef f(): return P().n\n",
    ),
    "a cached property": (
        "import functools\nclass P:\n    @functools.cached_property\n    def m(self): return 1\ndef f(): return P()\n",
        "import functools\nclass P:\n    @functools.cached_property\n    def m(self): return 2\ndef f(): return P()\n",
    ),
    "an array": ("import numpy as np\nA = np.array([1, 2])\ndef f(): return A\n", "import numpy as np\nA = np.array([1, 3])\ndef f(): return A\n"),
    "an array in a dict": ("import numpy as np\nA = {'a': np.array([1, 2])}\ndef f(): return A\n", "import numpy as np\nA = {'a': np.array([1, 3])}\ndef f(): return A\n"),
    "another library": ("import math as m\ndef f(x): return m.floor(x)\n", "import numpy as m\ndef f(x): return m.floor(x)\n"),
    "another function of a library": ("from math import floor as g\ndef f(x): return g(x)\n", "from math import ceil as g\ndef f(x): return g(x)\n"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGED)
def test_what_changes_the_computation_changes_the_digest(load_module: Load, what: str) -> None:
    one, other = CHANGED[what]
    first = code(load_module, one)
    assert first == code(load_module, one)
    assert first != code(load_module, other)


FILES = {
    "a function": ("from helpers import g\ndef f(x): return g(x)\n", "def g(x): return {n}\n"),
    "a class": ("from helpers import P\ndef f(x): return P().m()\n", "class P:\n    def m(self): return {n}\n"),
    "a module": ("import helpers\ndef f(x): return helpers.g(x)\n", "def g(x): return {n}\n"),
    "a constant": ("from helpers import A\ndef f(x): return A\n", "A = {n}\n"),
    "a partial": ("from helpers import h\ndef f(x): return h(x)\n", "import functools\ndef g(n, x): return n\nh = functools.partial(g, {n})\n"),
    "an import within": ("def f(x):\n    import helpers\n    return helpers.g(x)\n", "def g(x): return {n}\n"),
    "an import of a name within": ("def f(x):\n    from helpers import g\n    return g(x)\n", "def g(x): return {n}\n"),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_what_is_imported_from_a_file_of_the_project_is_followed(load_module: Load, what: str) -> None:
    source, helpers = FILES[what]
    first = code(load_module, source, helpers=helpers.format(n=1))
    assert first == code(load_module, source, helpers=helpers.format(n=1))
    assert first != code(load_module, source, helpers=helpers.format(n=2))


def test_a_module_that_a_module_of_the_project_imports_is_followed(load_module: Load) -> None:
    def both(number: int) -> str:
        return code(
            load_module,
            "import helpers\ndef f(x): return helpers.g(x)\n",
            deeper=f"def h(x): return {number}\n",
            helpers="from deeper import h\nimport deeper\ndef g(x): return h(x)\n",
        )

    assert both(1) == both(1)
    assert both(1) != both(2)


@pytest.mark.parametrize(
    "source",
    [
        "def f(n): return f(n - 1)\n",
        "def g(n): return f(n)\ndef f(n): return g(n)\n",
        "T = {}\ndef f(): return T\nT['f'] = f\n",
        "L = []\ndef f(): return L\nL.append(L)\n",
        "class P:\n    def m(self): return P()\ndef f(): return P\n",
        "class S:\n    def __call__(self): return self\ns = S()\ns.me = s\ndef f(): return s\n",
        "import functools\n@functools.wraps(len)\ndef f(): return f\n",
        "def make():\n    def f(): return f\n    return f\nf = make()\n",
        "import system\ndef f(): return system.f\n",
    ],
)
def test_what_names_itself_ends(load_module: Load, source: str) -> None:
    if "import system" in source:
        load_module("", "system")
    assert code(load_module, source) == code(load_module, source)


@pytest.mark.parametrize("function", [len, str.upper, print, dict, abs])
def test_a_built_in_counts_by_its_name(function: Callable[..., object]) -> None:
    assert digest_code(function) == digest_code(function)
    assert digest_code(function) != digest_code(any)


def test_a_bound_method_is_its_function() -> None:
    assert digest_code("a".upper) != digest_code("a".lower)


def test_the_code_of_a_function_is_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "system.py").write_text(
        "import numpy as np\nimport re\nA = {'x', 'y', 'z'}\nB = np.arange(3)\nR = re.compile('a')\n"
        "class S:\n    def __init__(self): self.names = {'p', 'q', 'r'}\ns = S()\n"
        "def f(c): return c in {'a', 'b', 'c'}, A, B, R, s\n"
    )
    program = (
        "import system, pathlib\nfrom perron.digest import digest_code\nprint(digest_code(system.f, pathlib.Path('.')))"
    )
    runs = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=tmp_path, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(runs) == 1
