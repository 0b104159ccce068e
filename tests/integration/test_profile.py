"""Profiles of made tables: each fault that is planted is found, none on clean data; real data; bad input; the page."""

import csv
import json
import os
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from perron.errors import DataError, PerronError
from perron.profile import profile, profile_of
from tests.conftest import find_real_housing, perron

N = 2000
HOUSING = find_real_housing()
BIKES = HOUSING.parent / "bike_sharing_hourly.csv" if HOUSING else None


def clean(seed=0, rows=N):
    rng = np.random.default_rng(seed)
    start = datetime(2024, 1, 1)
    a, b = rng.normal(size=rows), rng.uniform(1, 2, rows)
    return {
        "a": a, "b": b, "n": rng.integers(1, 40, rows), "city": rng.choice(["Oslo", "Rome", "Bern"], rows).tolist(),
        "flag": rng.random(rows) < 0.4, "when": [start + timedelta(hours=i) for i in range(rows)],
        "y": a * 2 + b + rng.normal(size=rows),
    }  # fmt: skip


def found(columns, target="y"):
    made = profile_of(pa.table(columns), target=target)
    return {(finding.kind, finding.column) for finding in made.findings}


def test_clean_data_has_no_findings():
    for seed in range(4):
        assert found(clean(seed)) == set()


def test_innocent_tables_raise_no_false_alarm():
    rng = np.random.default_rng(1)
    bits = {name: rng.integers(0, 2, N) for name in "abcy"}
    assert found(bits) == set()  # their rows repeat by chance
    kind = rng.integers(0, 3, 150)
    iris = {"long": kind * 2 + rng.normal(0, 0.5, 150), "wide": kind + rng.normal(0, 0.3, 150), "y": kind}
    assert found(iris) == set()
    walks = {name: np.cumsum(rng.normal(size=N)) for name in "xy"}
    assert found({**walks, "row": np.arange(N)}) == {("id", "row")}
    assert found({name: rng.normal(size=35) for name in "abcdefy"}) == set()


def test_every_arrow_type_is_read():
    rows = 300
    whole = pa.array(np.arange(rows) % 7)
    table = pa.table(
        {
            "decimal": whole.cast(pa.decimal128(21, 2)), "duration": whole.cast(pa.duration("s")),
            "time": whole.cast(pa.int32()).cast(pa.time32("s")), "coded": pa.array(["a", "b"] * 150).dictionary_encode(),
            "large": pa.array(["x", "y"] * 150, pa.large_string()), "view": pa.array(["x", "y"] * 150, pa.string_view()),
            "zone": whole.cast(pa.timestamp("ns", "UTC")), "date": whole.cast(pa.int32()).cast(pa.date32()),
            "wide date": whole.cast(pa.int32()).cast(pa.date32()).cast(pa.date64()), "byte": whole.cast(pa.uint8()),
            "huge": pa.array(np.full(rows, 2**64 - 1, np.uint64)), "half": pa.array(np.ones(rows, np.float16)),
            "none": pa.nulls(rows), "bool": pa.array([True, None, False] * 100),
        }
    )  # fmt: skip
    made = profile_of(table)
    assert {c.name: c.kind for c in made.columns} == {
        "decimal": "number", "duration": "number", "time": "text", "coded": "text", "large": "text", "view": "text",
        "zone": "time", "date": "time", "wide date": "time", "byte": "number", "huge": "number", "half": "number",
        "none": "empty", "bool": "bool",
    }  # fmt: skip
    assert made.sketch.columns["wide date"].high == 6 * 86_400 and made.sketch.columns["huge"].distinct.estimate == 1
    page_of(made)


def test_no_class_is_leaked_by_clean_data():
    columns = clean()
    columns["y"] = np.where(np.asarray(columns["y"]) > 2, "high", "low")
    assert found(columns) == set()


def planted():
    rng = np.random.default_rng(5)
    base = clean()
    y = base["y"]
    part, mask = rng.normal(size=N) * 3, rng.random(N) < 0.3
    when = list(base["when"])
    late = [moment + timedelta(days=30 if i > N // 2 else 0) for i, moment in enumerate(when)]
    outlying = rng.normal(size=N)
    outlying[7] = 1e6
    holed = np.where(mask, None, base["a"])
    return {
        "leakage alone": ({"x": y * 3 - 1}, [("leakage", "x")]),
        "leakage by a curve": ({"x": (y - y.mean()) ** 3}, [("leakage", "x")]),
        "leakage by a sum": ({"p": part, "q": y - part}, [("leakage", "p"), ("leakage", "q")]),
        "leakage by a difference": ({"p": part + y, "q": part}, [("leakage", "p"), ("leakage", "q")]),
        "constant": ({"x": ["v"] * N}, [("constant", "x")]),
        "nearly constant": ({"x": [1.0] * (N - 5) + [2.0] * 5}, [("nearly_constant", "x")]),
        "empty": ({"x": pa.nulls(N, pa.float64())}, [("empty", "x")]),
        "id": ({"x": np.arange(N) + 100}, [("id", "x")]),
        "id in words": ({"x": [f"u-{n:06x}" for n in rng.permutation(N)]}, [("id", "x")]),
        "high cardinality": ({"x": [f"k{n}" for n in rng.integers(0, 700, N)]}, [("high_cardinality", "x")]),
        "skew": ({"x": rng.lognormal(0, 1, N)}, [("skew", "x")]),
        "outliers": ({"x": outlying}, [("outliers", "x")]),
        "nonfinite": ({"x": np.where(np.arange(N) == 3, np.inf, base["a"])}, [("nonfinite", "x")]),
        "negative": ({"price": np.where(rng.random(N) < 0.01, -1.0, rng.uniform(5, 9, N))}, [("negative", "price")]),
        "sentinel": ({"x": np.where(rng.random(N) < 0.02, -999.0, rng.uniform(5, 9, N))}, [("sentinel", "x")]),
        "missing": ({"x": holed}, [("missing", "x")]),
        "missing together": (
            {"x": holed, "z": np.where(mask, None, base["b"])}, [("missing_together", "x"), ("missing", "z")],
        ),
        "duplicate columns": ({"x": base["b"]}, [("duplicate_columns", "x")]),
        "mixed types": ({"x": rng.choice(["red", "blue", "12", "7"], N).tolist()}, [("mixed_types", "x")]),
        "mixed formats": ({"x": rng.choice(["Red", "red ", "blue"], N).tolist()}, [("mixed_formats", "x")]),
        "dates in two formats": ({"x": [f"{n % 28 + 1}/01/2024" if n % 2 else f"2024-01-{n % 28 + 1:02d}" for n in range(N)]},
                                 [("mixed_formats", "x")]),
        "mixed units": ({"x": [f"{n % 90} {'kg' if n % 3 else 'lb'}" for n in range(N)]}, [("mixed_units", "x")]),
        "leading zeros": ({"x": [f"{n % 90:04d}" for n in range(N)]}, [("leading_zeros", "x")]),
        "time gap": ({"when": late}, [("time_gaps", "when")]),
        "dates out of range": ({"t": [datetime(1700 if n == 3 else 2020, 1, 1 + n % 28) for n in range(N)]},
                               [("dates_out_of_range", "t")]),
    }  # fmt: skip


@pytest.mark.parametrize("name", planted())
def test_a_planted_fault_is_found(name):
    columns, expected = planted()[name]
    seen = found({**clean(), **columns})
    assert set(expected) <= seen
    if not name.startswith("leakage"):
        assert not [finding for finding in seen if finding[0] == "leakage"]


def test_copied_rows_are_counted():
    columns = {name: [*values[:-200], *values[:200]] for name, values in clean().items()}
    made = profile_of(pa.table(columns))
    assert next(f for f in made.findings if f.kind == "duplicate_rows").detail.startswith("200 rows")


def test_faults_of_the_target():
    columns = clean()
    columns["y"] = ["rare" if n % 300 == 0 else "usual" for n in range(N)]
    assert ("imbalanced_target", "y") in found(columns)
    columns["y"] = ["one"] * N
    assert ("target_constant", "y") in found(columns)
    columns["y"] = [None, *clean()["y"][1:]]
    assert ("target_missing", "y") in found(columns)


def test_a_class_that_a_column_tells_is_leaked():
    columns, rng = clean(), np.random.default_rng(0)
    columns["y"] = rng.choice(["yes", "no"], N).tolist()
    columns["code"] = [{"yes": "A1", "no": "B7"}[value] for value in columns["y"]]
    columns["late"] = [1.0 if value == "yes" else None for value in columns["y"]]
    columns["score"] = [rng.uniform(0.5, 1) if value == "yes" else rng.uniform(0, 0.5) for value in columns["y"]]
    assert {("leakage", "code"), ("leakage", "late"), ("leakage", "score")} <= found(columns)


@pytest.mark.skipif(BIKES is None or not BIKES.is_file(), reason="bike_sharing_hourly.csv isn't beside housing.csv")
def test_real_data_is_judged_rightly():
    bike = profile(BIKES, target="cnt")
    assert {f.column for f in bike.findings if f.kind == "leakage"} == {"casual", "registered"}
    housing = profile(HOUSING, target="median_house_value")
    assert not [f for f in housing.findings if f.kind == "leakage"]
    assert housing.relations[0]["column"] == "median_income"


def test_associations_measure_what_they_say():
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    group = rng.integers(0, 4, 3000)
    made = profile_of(
        pa.table({"x": x, "cube": x**3, "noise": rng.normal(size=3000), "g": [f"g{n}" for n in group],
                  "h": [f"h{n // 2}" for n in group], "v": group * 10 + rng.normal(size=3000)})
    )  # fmt: skip
    value = {(item["a"], item["b"]): item["value"] for item in made.associations}
    assert value["x", "cube"] == pytest.approx(1) and abs(value["x", "noise"]) < 0.07
    assert value["g", "h"] == pytest.approx(1, abs=0.01) and value["g", "v"] > 0.99 and value["x", "g"] < 0.06


def test_against_tells_what_moved_and_nothing_else(tmp_path):
    old, new = clean(1), clean(2)
    new["a"] = new["a"] + 1
    new["city"] = ["Cairo" if n % 4 == 0 else city for n, city in enumerate(new["city"])]
    new["b"] = [None if n % 10 == 0 else value for n, value in enumerate(new["b"])]
    new["n"] = new["n"] * 3
    del new["flag"]
    for name, columns in (("old", old), ("new", new)):
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    made = profile(tmp_path / "new.parquet", against=tmp_path / "old.parquet").to_json()["difference"]
    changes = {item["column"]: " ".join(item["changes"]) for item in made["columns"]}
    assert set(changes) == {"a", "b", "city", "n", "flag"}
    assert "median" in changes["a"] and "Cairo" in changes["city"] and "10 % now" in changes["b"]
    assert "Range" in changes["n"] and changes["flag"] == "Only in the other."
    pq.write_table(pa.table(clean(3)), tmp_path / "same.parquet")
    same = profile(tmp_path / "same.parquet", against=tmp_path / "old.parquet").to_json()["difference"]
    assert same["columns"] == []


class Balanced(HTMLParser):
    """Whether every element is closed, and what text there is."""

    VOID = ("meta", "br", "rect", "path", "polyline")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page_of(made):
    page = made.to_html()
    assert len(page.encode()) < 2_000_000
    parser = Balanced()
    parser.feed(page)
    assert not parser.open and "script" not in parser.tags and len(parser.ids) == len(set(parser.ids))
    assert not re.search(r"(src|href)=\"?(https?:)?//", page)
    json.loads(json.dumps(made.to_json(), allow_nan=False))
    return page


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    ["a,b\n", "a,b\n1,x\n", "a,b\n,\n,\n,\n", "a\n" + "1e308\n-1e308\n" * 30, "a\n" + "inf\n-inf\nnan\n1\n" * 30,
     "é,日本,<script>alert(1)</script>\n1,\u202e<img src=x onerror=alert(1)>,\"&\"\n" * 1 + "2,\U0001f600,'\n" * 40,
     "t\n" + "0001-01-01\n9999-12-31\n" * 40, "t\n" + "2024-01-01\n2024-13-45\n" * 40,
     "a,b\n" + "5e-324,1\n1e-320,2\n0,3\n" * 20, "a\n" + "9007199254740993\n9007199254740992\n" * 20],
    ids=["header", "one row", "nulls", "huge", "infinite", "unicode", "far dates", "no dates", "tiny", "wide whole"],
)  # fmt: skip
def test_odd_input_makes_a_page_all_the_same(tmp_path, text):
    path = write(tmp_path / "odd.csv", text)
    for target in (None, text.splitlines()[0].split(",")[0]):
        page = page_of(profile(path, target=target))
        assert "<img" not in page and "<script" not in page


def test_an_empty_file_and_a_wrong_target_are_refused_in_one_line(tmp_path):
    with pytest.raises(PerronError, match="empty"):
        profile(write(tmp_path / "none.csv", ""))
    path = write(tmp_path / "a.csv", "price,b\n1,2\n")
    with pytest.raises(DataError, match="did you mean 'price'"):
        profile(path, target="prize")
    with pytest.raises(DataError, match="sensitive column 'c'"):
        profile(path, sensitive=["c"])


def test_ten_thousand_columns_make_a_page_below_two_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    table = pa.table({f"column {n} {'long' * 30}": rng.normal(size=50) for n in range(10_000)})
    page = page_of(profile_of(table, target=table.column_names[0]))
    assert "of 10,000 columns are drawn" in page


def test_long_values_and_names_are_cut():
    page = page_of(profile_of(pa.table({f"{n}" + "n" * 10_000: ["v" * 50_000, f"{n}"] * 30 for n in range(40)})))
    assert "v" * 500 not in page


def test_nested_columns_are_counted_and_no_more():
    made = profile_of(pa.table({"l": [[1], None, [2, 3]], "s": [{"a": 1}] * 3, "b": [b"\xff"] * 3}))
    assert [(c.kind, c.nulls) for c in made.columns] == [("other", 1), ("other", 0), ("other", 0)]
    page_of(made)


def test_a_sensitive_column_shows_nothing(tmp_path):
    path = write(tmp_path / "s.csv", "name,city\n" + "".join(f"Secret{n}er,Rome\n" for n in range(60)))
    made = profile(path, sensitive=["name"], target="city")
    assert "Secret" not in page_of(made) + json.dumps(made.to_json())


def test_what_the_contract_calls_sensitive_is_hidden_in_its_project(tmp_path):
    (tmp_path / "system.py").write_text(
        "import perron as pn\nfrom typing import Annotated\n\n\nclass P(pn.Contract):\n"
        "    name: Annotated[str, pn.Sensitive, pn.Column('full name')]\n    age: Annotated[float, pn.Target]\n\n\n"
        "system = pn.System('people', P, source='p.csv')\n"
    )
    rows = "".join(f"Secret{n}er,{n}\n" for n in range(60))
    write(tmp_path / "p.csv", "full name,age\n" + rows)
    shown = perron("profile", "p.csv", "--json", "-o", "p.html", cwd=tmp_path).stdout
    assert '"sensitive": true' in shown and "Secret" not in shown + (tmp_path / "p.html").read_text()
    write(tmp_path / "other.csv", "age\n1\n2\n")
    assert "2 rows, 1 columns" in perron("profile", "other.csv", cwd=tmp_path).stdout


def test_a_profile_is_the_same_every_time(tmp_path):
    """Its quantiles too: more rows than are kept whole, read by two processes."""
    rng = np.random.default_rng(0)
    pq.write_table(
        pa.table({"a": rng.normal(size=30_000), "t": rng.integers(0, 10**9, 30_000).astype("M8[s]")}),
        tmp_path / "a.parquet",
    )
    first, second = (perron("profile", "a.parquet", "--json", "-o", f"{n}.html", cwd=tmp_path).stdout for n in "12")
    assert first == second
    assert (tmp_path / "1.html").read_text() == (tmp_path / "2.html").read_text()


def test_the_same_source_makes_the_same_findings_and_sample(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(clean()), path)
    one, two = profile(path, target="y"), profile(path, target="y")
    assert one.findings == two.findings and one.associations == two.associations


def test_a_notebook_shows_the_page():
    shown = profile_of(pa.table(clean()))._repr_html_()
    assert shown.startswith("<iframe") and 'sandbox=""' in shown and "&lt;!doctype html&gt;" in shown


def test_the_command_writes_page_and_json(tmp_path):
    with open(tmp_path / "t.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "y"])
        rng = np.random.default_rng(0)
        writer.writerows([a, b, a + b] for a, b in rng.integers(0, 99, (300, 2)).tolist())
    done = perron("profile", "t.csv", "--target", "y", "-o", "out/r.html", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert told["rows"] == 300 and [c["name"] for c in told["columns"]] == ["a", "b", "y"]
    assert {f["column"] for f in told["findings"] if f["kind"] == "leakage"} == {"a", "b"}
    assert {"kind", "column", "severity", "detail"} <= set(told["findings"][0])
    assert "Not fit for training" in (tmp_path / "out" / "r.html").read_text()
    assert "leakage" in perron("profile", "t.csv", "--target", "y", cwd=tmp_path).stdout
    assert "target" not in os.listdir(tmp_path)
