"""The laws of sketches: parts merge to the whole, order doesn't matter, files are read back, nothing leaks."""

import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perron.errors import DataError
from perron.hashes import hash_numbers
from perron.sketch import DISTINCT_KEPT, TOP_KEPT, Distinct, Moments, TableSketch, Times, TopK, merge
from perron.sketch.parts import hash_texts

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
CELLS = st.lists(
    st.tuples(
        st.one_of(st.none(), FLOATS, st.just(math.inf)),
        # Words: what text is read as (numbers, dates) is decided by a sketch's first chunk, as docs/profile.md says.
        st.one_of(st.none(), st.text(st.characters(exclude_categories=("Cs",)), max_size=6).map("x{}".format)),
        st.one_of(st.none(), st.integers(-3, 3)),
        st.one_of(st.none(), st.datetimes()),
    ),
    max_size=60,
)
NAMES = ["number", "text", "whole", "when"]
TYPES = [pa.float64(), pa.string(), pa.int64(), pa.timestamp("us")]


def batch(rows):
    columns = list(zip(*rows, strict=True)) or [()] * 4
    return pa.record_batch([pa.array(column, kind) for column, kind in zip(columns, TYPES, strict=True)], names=NAMES)


def sketch(*parts, **options):
    made = TableSketch(NAMES, **options)
    for part in parts:
        made.update(batch(part))
    return made


def exact(made):
    """All that a merge must keep exactly."""
    columns = {
        name: (
            c.kind, c.rows, c.nulls, c.nonfinite, c.zeros, c.negatives, c.low, c.high, c.moments.n,
            c.distinct.hashes.tolist(), c.top.most(100), c.lengths.tolist(),
            c.times and (c.times.weekdays.tolist(), c.times.hours.tolist(), c.times.counts.tolist()),
        )
        for name, c in made.columns.items()
    }  # fmt: skip
    return columns, made.rows, made.sample.hashes.tolist(), made.sample.counts.tolist()


@settings(deadline=None, max_examples=60)
@given(CELLS, CELLS, CELLS)
def test_merged_parts_equal_the_whole_in_any_order_and_grouping(a, b, c):
    whole = sketch(a + b + c)
    one, two, three = sketch(a), sketch(b), sketch(c)
    left, right = merge(merge(one, two), three), merge(three, merge(two, one))
    assert exact(left) == exact(whole) == exact(right) == exact(sketch(c, a, b))
    for name in ("number", "whole"):
        m, w = left.columns[name].moments, whole.columns[name].moments
        assert m.mean == pytest.approx(w.mean, rel=1e-6, abs=1e-6 * (1 + math.sqrt(w.m2)))
        assert m.m2 == pytest.approx(w.m2, rel=1e-6, abs=1e-12)
        assert left.columns[name].quantiles([0, 0.5, 1]) == whole.columns[name].quantiles([0, 0.5, 1])


@settings(deadline=None, max_examples=40)
@given(CELLS)
def test_a_sketch_survives_its_file(rows):
    made = sketch(rows, seed=7)
    read = TableSketch.from_bytes(made.to_bytes())
    assert exact(read) == exact(made)
    assert read.to_bytes() == made.to_bytes()


def test_large_parts_merge_within_the_stated_errors():
    rng = np.random.default_rng(3)
    values = rng.lognormal(size=200_000)
    texts = np.array([f"t{n}" for n in rng.zipf(1.3, 200_000) % 50_000], object)
    parts = [TableSketch(["x", "t"]) for _ in range(4)]
    for part, x, t in zip(parts, np.split(values, 4), np.split(texts, 4), strict=True):
        part.update_columns({"x": x, "t": t})
    whole = merge(merge(parts[3], parts[1]), merge(parts[0], parts[2]))
    x, t = whole.columns["x"], whole.columns["t"]
    for rank, value in zip((0.01, 0.5, 0.99), x.quantiles([0.01, 0.5, 0.99]), strict=True):
        assert abs((values <= value).mean() - rank) < 0.015
    assert x.distinct.estimate == pytest.approx(200_000, rel=0.06)
    assert t.distinct.estimate == pytest.approx(len(set(texts)), rel=0.06)
    assert x.moments.mean == pytest.approx(values.mean(), rel=1e-12)
    z = (values - values.mean()) / values.std()
    assert x.moments.skew == pytest.approx((z**3).mean(), rel=1e-9)
    assert x.moments.kurtosis == pytest.approx((z**4).mean() - 3, rel=1e-9)
    assert x.moments.std == pytest.approx(values.std(ddof=1), rel=1e-12)
    for value, count in t.top.most(20):
        truth = int((texts == value).sum())
        assert truth - t.top.error <= count <= truth
    assert t.top.error <= 200_000 / TOP_KEPT
    assert sum(x.histogram()[1]) == pytest.approx(200_000, rel=0.05)
    assert len(whole.to_bytes()) < 600_000


def test_moments_are_stable_far_from_zero():
    values = 1e9 + np.random.default_rng(0).normal(size=10_000)
    made = Moments()
    for part in np.split(values, 100):
        made.update(part)
    assert made.variance == pytest.approx(values.var(ddof=1), rel=1e-6)


def test_distinct_is_exact_until_it_is_full():
    made = Distinct()
    made.update(hash_numbers(np.arange(DISTINCT_KEPT - 1, dtype=float)))
    assert made.is_exact and made.estimate == DISTINCT_KEPT - 1
    made.update(hash_numbers(np.arange(1_000_000, dtype=float)))
    assert made.estimate == pytest.approx(1_000_000, rel=0.06)


def test_texts_that_look_alike_have_different_hashes():
    texts = [
        "",
        "a",
        "b",
        "ab",
        "ba",
        "aa",
        "aaa",
        "\0",
        "\0\0",
        *(f"user-{n:05d}" for n in range(50_000)),
        "x" * 300_000,
    ]
    data = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, data)])
    hashes = hash_texts(np.frombuffer(b"".join(data), np.uint8), offsets)
    assert len(set(hashes.tolist())) == len(texts)
    alone = hash_texts(np.frombuffer(data[-2], np.uint8), np.array([0, len(data[-2])]))
    assert alone[0] == hashes[-2]


def test_whole_numbers_beyond_53_bits_stay_different():
    made = TableSketch(["id"])
    made.update_columns({"id": np.arange(2**60, 2**60 + 1000)})
    assert made.columns["id"].distinct.estimate == 1000


def test_top_k_counts_are_never_too_high():
    rng = np.random.default_rng(1)
    values, made = rng.zipf(1.5, 100_000) % 5000, TopK(64)
    for part in np.split(values, 10):
        different, counts = np.unique(part, return_counts=True)
        kept, left = made.keep(counts)
        made.add(hash_numbers(different[kept].astype(float)), left, different[kept].astype(object))
    for value, count in made.most(5):
        assert (values == value).sum() - made.error <= count <= (values == value).sum()
    assert made.error <= 100_000 / 64


def test_times_widen_alike_however_they_are_cut():
    seconds = np.random.default_rng(2).integers(0, 10**9, 100_000).astype(float)
    whole, parts = Times(), [Times(), Times()]
    whole.update(seconds)
    parts[0].update(seconds[:10])
    parts[1].update(seconds[10:])
    parts[0].merge(parts[1])
    assert parts[0].level == whole.level and parts[0].counts.tolist() == whole.counts.tolist()
    assert len(whole.buckets) <= Times.MOST and whole.counts.sum() == 100_000


def test_arrow_and_numpy_tell_the_same():
    made = TableSketch(NAMES)
    made.update_columns(
        {
            "number": np.array([1.5, np.nan, np.inf]), "text": np.array(["a", None, "é"], object),
            "whole": np.array([1, 2, 2]), "when": np.array(["2024-01-01", "NaT", "2024-01-02"], "M8[us]"),
        }
    )  # fmt: skip
    twin = TableSketch(NAMES)
    twin.update(
        pa.record_batch(
            [pa.array([1.5, None, math.inf]), pa.array(["a", None, "é"]), pa.array([1, 2, 2]),
             pa.array(np.array(["2024-01-01", "NaT", "2024-01-02"], "M8[us]"))], names=NAMES,
        )
    )  # fmt: skip
    assert exact(made) == exact(twin)


def test_threads_change_nothing():
    rows = [(float(n), f"t{n % 7}", n % 3, None) for n in range(500)]
    assert exact(sketch(rows, threads=3)) == exact(sketch(rows))


def test_nothing_of_a_sensitive_column_stays():
    made = TableSketch(["name", "salary", "city"], sensitive=["name", "salary"])
    names, salaries = [f"Secret{n}Person" for n in range(40)], [123_456.75 + n for n in range(40)]
    made.update(
        pa.record_batch([pa.array(names), pa.array(salaries), pa.array(["Xanadu"] * 40)], names=list(made.columns))
    )
    import zlib

    data = made.to_bytes()
    body = zlib.decompress(data[data.index(b"\n") + 7 :])
    for value in salaries:
        for form in ("<d", ">d"):
            import struct

            assert struct.pack(form, value) not in body
        assert str(value).encode() not in body
    assert b"Secret" not in body and b"Person" not in body and b"Xanadu" in body
    again = TableSketch.from_bytes(data).columns
    assert again["name"].rows == 40 and again["salary"].low is None and not len(again["salary"].distinct.hashes)


def test_memory_is_bounded_whatever_the_number_of_rows():
    sizes = []
    for rows in (100_000, 400_000):
        made = TableSketch(["x", "t"])
        rng = np.random.default_rng(0)
        for _ in range(rows // 50_000):
            made.update_columns(
                {"x": rng.random(50_000), "t": rng.integers(0, 10**9, 50_000).astype(str).astype(object)}
            )
        sizes.append(len(made.to_bytes()))
    assert sizes[1] < sizes[0] * 1.2 < 1_000_000


def test_doubles_are_counted_from_the_sample():
    values = np.random.default_rng(0).random(50_000)
    made = TableSketch(["a", "b"])
    made.update_columns({"a": np.tile(values, 2), "b": np.tile(-values, 2)})
    assert set(made.sample.counts.tolist()) == {2}
    assert made.sample.distinct_rows == pytest.approx(50_000, rel=0.06)


@pytest.mark.parametrize("change", ["cut", "flip", "newer", "other"])
def test_a_damaged_or_newer_file_is_refused_in_one_line(change):
    data = sketch([(1.0, "a", 1, None)]).to_bytes()
    at = data.index(b"\n") + 1
    bad = {
        "cut": data[:-3], "flip": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        "newer": data[:at] + b"\x63\0" + data[at + 2 :], "other": b"PAR1" + data,
    }[change]  # fmt: skip
    expected = {"cut": "damaged", "flip": "damaged", "newer": "newer", "other": "isn't a sketch"}[change]
    with pytest.raises(DataError, match=expected) as raised:
        TableSketch.from_bytes(bad)
    assert "\n" not in str(raised.value)


def test_misuse_is_refused_by_name():
    with pytest.raises(DataError, match="'a' is there twice"):
        TableSketch(["a", "a"])
    with pytest.raises(DataError, match="'b', which this chunk"):
        TableSketch(["a", "b"]).update_columns({"a": [1]})
    with pytest.raises(DataError, match="one length"):
        TableSketch(["a", "b"]).update_columns({"a": [1], "b": [1, 2]})
    with pytest.raises(DataError, match="two different tables"):
        merge(TableSketch(["a"]), TableSketch(["b"]))
    with pytest.raises(DataError, match="sensitive"):
        merge(TableSketch(["a"]), TableSketch(["a"], sensitive=["a"]))


@pytest.mark.parametrize("first", [True, False])
def test_a_column_of_two_kinds_counts_the_rarer_as_misfits(first):
    numbers, texts = TableSketch(["a"]), TableSketch(["a"])
    numbers.update(pa.record_batch([pa.array([1.0, 2.0, 3.0])], names=["a"]))
    texts.update(pa.record_batch([pa.array(["x", None])], names=["a"]))
    made = merge(numbers, texts) if first else merge(texts, numbers)
    column = made.columns["a"]
    assert (column.kind, column.rows, column.misfits, column.nulls, column.given) == ("number", 5, 1, 1, 3)


def test_text_that_holds_numbers_dates_or_codes_is_read_as_what_it_holds():
    made = TableSketch(["n", "d", "b", "code", "t"])
    columns = [["1", "2.5", "NA", "x9"] * 30, ["2024-01-01", "2024-02-29T10:00", "", "2024-13-01"] * 30,
               ["yes", "no", "", "no"] * 30, ["007", "010", "123", ""] * 30, ["a", "b c", "", "é"] * 30]  # fmt: skip
    columns[0] = ["1", "2.5", "NA"] * 39 + ["x9", "x9", "7"]
    columns[1] = ["2024-01-01", "2024-02-29T10:00", ""] * 39 + ["2024-13-01", "", ""]
    made.update(pa.record_batch([pa.array(column) for column in columns], names=list(made.columns)))
    kinds = {name: (c.kind, c.nulls, c.misfits) for name, c in made.columns.items()}
    assert kinds["b"] == ("bool", 30, 0)
    assert kinds["code"] == ("text", 30, 0)
    assert kinds["t"] == ("text", 30, 0)
    assert kinds["d"] == ("text", 41, 0) or kinds["d"] == ("time", 41, 1)
    assert kinds["n"][0] in ("number", "text")


def test_importing_it_imports_neither_pandas_nor_pyarrow():
    code = "import sys, perron.sketch; print({'pandas', 'pyarrow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_missing_cells_do_not_count_in_what_text_is_read_as():
    for cells in (["1", "2"], [None, "1", "2"], [None] * 50 + ["1", "2"], ["", "NA", "1", "2"]):
        made = TableSketch(["c"])
        made.update(pa.record_batch([pa.array(cells, pa.string())], names=["c"]))
        assert made.columns["c"].kind == "number", cells
