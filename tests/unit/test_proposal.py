"""Proposals: each rule of inference, and the law: the proposed contract accepts what it was inferred from."""

import csv
import decimal
import io
import math
import unicodedata
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from perron.check.table import TableCheck
from perron.contract import Field, Role, Schema
from perron.errors import DataError
from perron.proposal import Proposal, propose
from perron.source import open_source

Propose = Callable[..., Proposal]


def write_csv(path: Path, columns: dict[str, Sequence[Any]]) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    path.write_text(text.getvalue(), "utf-8", newline="")
    return path


def write_parquet(path: Path, columns: dict[str, Sequence[Any]]) -> Path:
    parquet.write_table(pa.table({name: pa.array(list(values)) for name, values in columns.items()}), path)
    return path


N = 240
TARGET = [n * 1.5 for n in range(N)]


def repeat(*values: Any) -> list[Any]:
    return [values[n % len(values)] for n in range(N)]


@pytest.fixture(params=["csv", "parquet"])
def propose_one(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., tuple[Field, str | None]]:
    """The field that is proposed for a column, by CSV and by Parquet, and the reason."""

    def one(values: Sequence[Any], name: str = "x") -> tuple[Field, str | None]:
        write = write_csv if request.param == "csv" else write_parquet
        path = write(tmp_path / f"rows.{request.param}", {name: values, "others": repeat("a", "b"), "y": TARGET})
        proposal = propose(open_source(path), "Rows", "y")
        accepts_all(proposal, path)
        field = proposal.schema.fields[0]
        return field, proposal.reasons.get(field.name)

    return one


def accepts_all(proposal: Proposal, path: Path) -> None:
    """The law; rows without the target aside."""
    check = TableCheck(proposal.schema)
    for batch in open_source(path).chunks():
        check(batch)
    assert proposal.schema.target is not None
    assert set(check.report.counts) <= {(proposal.schema.target.name, "required")}, check.report.words


@pytest.mark.parametrize(
    ("values", "facts", "reason"),
    [
        # true/false words
        (repeat("true", "false"), {"kind": "bool"}, None),
        (repeat("Yes", "no", ""), {"kind": "bool", "optional": True}, None),
        (repeat("t", "f"), {"kind": "bool"}, None),
        # dates and times
        (repeat("2020-01-01", "2020-02-29"), {"kind": "date", "roles": (Role.TIME,)}, "the time of a row"),
        (repeat("2020-01-01", "2020-02-29", ""), {"kind": "date", "optional": True}, None),
        (repeat("2020-01-01T00:00:00", "2020-01-01T10:00:00"), {"kind": "datetime", "roles": (Role.TIME,)}, "the time of a row"),
        (repeat("2020-01-01 00:00:00", "2020-01-01T10:00:00Z"), {"kind": "datetime", "roles": (Role.TIME,)}, "the time of a row"),
        (repeat("2020-02-30", "2020-01-01"), {"kind": "category"}, None),
        # whole numbers
        (repeat("1", "2", "3"), {"kind": "category", "values": (1, 2, 3)}, "3 different whole numbers: codes"),
        (repeat("0", "1"), {"kind": "category", "values": (0, 1)}, "codes"),
        (repeat(*map(str, range(12))), {"kind": "category", "values": tuple(range(12))}, "codes"),
        (repeat(*map(str, range(13))), {"kind": "float", "ge": 0}, None),
        (repeat(*map(str, range(-6, 7))), {"kind": "float"}, None),
        (repeat("007", "123"), {"kind": "category", "values": ("007", "123")}, None),
        ([f"{n:04}" for n in range(100, 100 + N)], {"kind": "text", "roles": (Role.ID,)}, "different in every row"),
        (repeat(*(f"{n:04}" for n in range(60))), {"kind": "text"}, "leading zeros are kept"),
        ([str(n) for n in range(N)], {"kind": "int", "roles": (Role.ID,)}, "different in every row"),
        ([str(n * 3) for n in range(N)], {"kind": "float", "ge": 0}, None),
        (["", *(str(n) for n in range(N - 1))], {"kind": "float", "ge": 0, "optional": True}, None),
        # numbers
        ([str(n + 0.5) for n in range(N)], {"kind": "float", "ge": 0}, None),
        ([str(n - 0.5) for n in range(N)], {"kind": "float"}, None),
        ([f"{n}e3" for n in range(N)], {"kind": "float", "ge": 0}, None),
        ([str(10**25 + n) for n in range(N)], {"kind": "float", "ge": 0}, None),
        # text
        (repeat("a", "b", "c"), {"kind": "category", "values": ("a", "b", "c")}, None),
        (repeat("a", "b", ""), {"kind": "category", "values": ("a", "b"), "optional": True}, None),
        (repeat("a", "b", "NA"), {"kind": "category", "values": ("a", "b"), "optional": True}, None),
        (repeat(*(f"k{n}" for n in range(48))), {"kind": "category"}, None),
        (repeat(*(f"k{n}" for n in range(60))), {"kind": "text"}, None),
        ([f"k{n}" for n in range(N)], {"kind": "text", "roles": (Role.ID,)}, "different in every row"),
        ([f"k {n}" for n in range(N)], {"kind": "text", "roles": (Role.IGNORE,)}, "text that rarely repeats"),
        (repeat("1e999", "2"), {"kind": "category", "values": ("1e999", "2")}, None),
        # one value, or none
        (repeat("same"), {"kind": "text", "roles": (Role.IGNORE,)}, "the same in every row"),
        (repeat("5"), {"kind": "float", "roles": (Role.IGNORE,)}, "the same in every row"),
        (repeat("", "NA"), {"kind": "text", "roles": (Role.IGNORE,), "optional": True}, "empty in every row"),
    ],
)  # fmt: skip
def test_each_rule_on_columns_of_text(
    propose_one: Any, values: list[str], facts: dict[str, Any], reason: str | None
) -> None:
    field, why = propose_one(values)
    expected = {"optional": False, "roles": (), "ge": None, **facts}
    assert {key: getattr(field, key) for key in expected} == expected
    assert (reason or "") in (why or "")
    assert (reason is None) == (why is None)


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        (repeat(True, False, None), {"kind": "bool", "optional": True}),
        (repeat(1, 2, None), {"kind": "category", "values": (1, 2), "optional": True}),
        (repeat(1.0, 2.0, math.nan), {"kind": "category", "values": (1, 2), "optional": True}),
        ([n + 0.5 for n in range(N)], {"kind": "float", "ge": 0}),
        ([math.inf, *(n + 0.5 for n in range(N - 1))], {"kind": "text"}),
        ([2.0**60 + n * 2**10 for n in range(N)], {"kind": "float", "ge": 0}),
        ([decimal.Decimal(n) / 100 for n in range(N)], {"kind": "float", "ge": 0}),
        ([date(2020, 1, 1) + timedelta(n % 30) for n in range(N)], {"kind": "date", "roles": (Role.TIME,)}),
        ([datetime(2020, 1, 1, n % 24) for n in range(N)], {"kind": "datetime", "roles": (Role.TIME,)}),
        ([datetime(2020, 1, 1, n % 24, 0, 0, n, UTC) for n in range(N)], {"kind": "datetime", "roles": (Role.TIME,)}),
        (repeat("a", "b", None), {"kind": "category", "values": ("a", "b"), "optional": True}),
        (repeat(None), {"kind": "text", "roles": (Role.IGNORE,), "optional": True}),
        (repeat(b"a", b"b"), {"kind": "category", "values": ("a", "b")}),
        (repeat(time(1), time(2)), {"kind": "category"}),
        ([date(2020, 1, 1)] * N, {"kind": "text", "roles": (Role.IGNORE,)}),
        ([datetime(2020, 1, 1)] * N, {"kind": "text", "roles": (Role.IGNORE,)}),
        ([True] * N, {"kind": "text", "roles": (Role.IGNORE,)}),
    ],
)
def test_each_rule_on_typed_columns(tmp_path: Path, values: list[Any], facts: dict[str, Any]) -> None:
    path = write_parquet(tmp_path / "rows.parquet", {"x": values, "z": repeat("a", "b"), "y": TARGET})
    proposal = propose(open_source(path), "Rows", "y")
    field = proposal.schema["x"]
    expected = {"optional": False, **facts}
    assert {key: getattr(field, key) for key in expected} == expected
    accepts_all(proposal, path)


def test_a_name_that_says_id_makes_different_whole_numbers_an_id(propose_one: Any) -> None:
    values = [str((n * 7919) % 10_007) for n in range(N)]
    assert propose_one(values)[0].roles == ()
    for name in ("id", "user_id", "ID", "key", "idx", "row_id"):
        assert (propose_one(values, name)[0].kind, propose_one(values, name)[0].roles) == ("int", (Role.ID,))
    assert propose_one(values, "width")[0].roles == ()


def test_a_second_id_is_ignored_and_a_second_date_is_a_feature(tmp_path: Path) -> None:
    days = [str(date(2020, 1, 1) + timedelta(n)) for n in range(N)]
    columns = {"n": range(N), "m": range(N), "day": days, "other": days, "z": repeat("a", "b"), "y": TARGET}
    schema = propose(open_source(write_csv(tmp_path / "rows.csv", columns)), "Rows", "y").schema
    assert [schema[name].roles for name in ("n", "m", "day", "other")] == [
        (Role.ID,), (Role.IGNORE,), (Role.TIME,), (),
    ]  # fmt: skip


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        (["rooms", "größe", "X"], ["rooms", "größe", "X"]),
        (["Mean Radius", "mean-radius", "mean_radius"], ["mean_radius_2", "mean_radius_3", "mean_radius"]),
        (["a_b", "a b"], ["a_b", "a_b_2"]),
        (["a b", "a_b", "a_b_2"], ["a_b_3", "a_b", "a_b_2"]),
        (["class", "None", "import", "Class"], ["c_class", "none", "c_import", "Class"]),
        (["1st", "2", "_x", "__y__"], ["c_1st", "c_2", "x", "y_2"]),
        (["☂", "日本 語", "%"], ["column", "column_2", "column_3"]),
        (["ﬁx", "x²", "ª"], None),
        (["pn", "float", "Literal", "date"], ["pn", "float", "Literal", "date"]),
    ],
)
def test_a_column_is_named_as_python_names_things(tmp_path: Path, columns: list[str], names: list[str] | None) -> None:
    data = {column: repeat("a", "b") for column in columns}
    path = write_csv(tmp_path / "rows.csv", {**data, "y": TARGET})
    schema = propose(open_source(path), "Rows", "y").schema
    assert [field.column for field in schema.fields] == [*columns, "y"]
    if names is not None:
        assert [field.name for field in schema.fields] == [*names, "y"]
    for field in schema.fields:  # what Python makes of it in source
        assert unicodedata.normalize("NFKC", field.name) == field.name


def test_the_target_may_have_any_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", {"x": repeat("a", "b"), "median value (USD)": TARGET})
    target = propose(open_source(path), "Rows", "median value (USD)").schema.target
    assert target is not None
    assert (target.name, target.column) == ("median_value_usd", "median value (USD)")


# ------------------------------------------------------------------ targets


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ([n + 0.5 for n in range(N)], {"kind": "float", "ge": 0}),
        (list(range(N)), {"kind": "float", "ge": 0}),
        (repeat(0, 1), {"kind": "category", "values": (0, 1)}),
        (repeat("yes", "no"), {"kind": "bool"}),
        (repeat("a", "b", "c"), {"kind": "category", "values": ("a", "b", "c")}),
        ([f"class {n % 100}" for n in range(N)], {"kind": "category"}),
        (repeat("007", "008"), {"kind": "category", "values": ("007", "008")}),
    ],
)
def test_a_target_is_a_number_or_a_class(tmp_path: Path, values: list[Any], facts: dict[str, Any]) -> None:
    path = write_csv(tmp_path / "rows.csv", {"x": repeat("a", "b"), "y": values})
    proposal = propose(open_source(path), "Rows", "y")
    assert proposal.schema.target is not None
    assert {key: getattr(proposal.schema.target, key) for key in facts} == facts
    assert proposal.schema.target.roles == (Role.TARGET,)
    accepts_all(proposal, path)


def test_rows_without_the_target_are_told_of(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", {"x": repeat("a", "b"), "y": ["", "NA", *range(N - 2)]})
    proposal = propose(open_source(path), "Rows", "y")
    assert not proposal.schema["y"].optional
    assert proposal.reasons["y"] == "2 rows without it will be quarantined"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"x": repeat("a", "b"), "price": TARGET}, "no column 'y' to predict"),
        ({"x": [], "y": []}, "a header and no rows"),
        ({"x": repeat("a", "b"), "y": repeat("", "NA")}, "'y' is empty in every row"),
        ({"x": repeat("a", "b"), "y": repeat("5")}, "'y' has one value throughout"),
        ({"x": repeat("a", "b"), "y": [str(date(2020, 1, 1) + timedelta(n)) for n in range(N)]}, "'y' is a date"),
        ({"x": repeat("a", "b"), "y": repeat("2020-01-01T00:00:00", "2020-01-02T00:00:00")}, "'y' is a datetime"),
        ({"x": repeat("a"), "n": range(N), "y": TARGET}, "nothing to predict 'y' from"),
        ({"y": TARGET}, "nothing to predict 'y' from"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused(
    tmp_path: Path, columns: dict[str, Sequence[Any]], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        propose(open_source(write_csv(tmp_path / "rows.csv", columns)), "Rows", "y")


def test_a_text_target_with_too_many_classes_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", {"x": repeat("a", "b") * 5, "y": [f"c{n}" for n in range(5 * N)]})
    with pytest.raises(DataError, match="text with 1200 different values"):
        propose(open_source(path), "Rows", "y")


@pytest.mark.parametrize(
    "values", [[[1]] * N, [{"a": 1}] * N, [timedelta(n) for n in range(N)], [b"\xff%d" % n for n in range(N)]]
)
def test_a_column_that_no_field_can_hold_is_refused_by_name(tmp_path: Path, values: list[Any]) -> None:
    path = write_parquet(tmp_path / "rows.parquet", {"odd": values, "x": repeat("a", "b"), "y": TARGET})
    with pytest.raises(DataError, match="'odd'"):
        propose(open_source(path), "Rows", "y")


# ------------------------------------------------------------------ the law

CELLS = st.one_of(
    st.sampled_from(["", " ", "NA", "null", "0", "1", "-0", "+1", "007", "1.0", "-0.0", "1e5", "1e999", "9" * 30]),
    st.sampled_from(["true", "no", "T", "2020-01-01", "2020-02-30", "2020-01-01T10:00", "2020-01-01 10:00:00.5Z"]),
    st.sampled_from(["é", "a b", " a", '"', "'", "a,b", "a\nb", "\\", "\u2028", "☂", "inf", "nan", "0x1F", "1_0"]),
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False).map(str),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=4),
)
PALETTES = st.lists(CELLS, min_size=1, max_size=4)
HEADERS = st.lists(
    st.one_of(
        st.sampled_from(["id", "a b", "class", "größe", "ﬁ", "1", "row", "y_2", '"', "a\nb", "pn", "float"]),
        st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=4),
    ).filter(lambda name: name.strip() == name and name.strip("\ufeff") == name != "y"),
    min_size=1,
    max_size=4,
    unique=True,
)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[str]]:
    """Small tables of text, whose columns repeat a few cells: mostly of one kind, with a stranger at times."""
    rows = draw(st.integers(2, 45))
    columns = {}
    for name in draw(HEADERS):
        palette = draw(PALETTES)
        columns[name] = [palette[n % len(palette)] for n in range(rows)]
        if draw(st.booleans()):
            columns[name][draw(st.integers(0, rows - 1))] = draw(CELLS)
    columns["x"] = ["a b", "c d"] * (rows // 2) + ["a b"] * (rows % 2)
    columns["y"] = [str(n * 1.5) for n in range(rows)]
    return columns


def proposed(columns: dict[str, list[str]], folder: Path) -> tuple[Proposal, Path]:
    path = folder / "rows.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return propose(open_source(path), "Rows", "y"), path


@given(tables())
def test_the_proposed_contract_accepts_every_row_that_it_was_inferred_from(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, list[str]]
) -> None:
    proposal, path = proposed(columns, tmp_path_factory.getbasetemp())
    assert proposal.rows == len(columns["y"])
    assert [field.column for field in proposal.schema.fields] == list(columns)
    accepts_all(proposal, path)


TYPED = st.sampled_from(
    [
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 3),
        st.floats(),
        st.sampled_from([0.0, -0.0, 1.0, 2.0, 1e15, 1e300]),
        st.booleans(),
        st.text(st.characters(codec="utf-8"), max_size=3),
        st.dates(date(1700, 1, 1), date(2200, 1, 1)),
        st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)),
        st.decimals(-1000, 1000, places=2),
    ]
)


@given(st.data())
def test_the_contract_proposed_for_typed_columns_accepts_every_row(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(2, 45))
    columns: dict[str, Any] = {}
    for name in ("a", "id", "c"):
        cells = data.draw(st.lists(st.none() | data.draw(TYPED), min_size=1, max_size=4))
        columns[name] = pa.array([cells[n % len(cells)] for n in range(rows)])
        if data.draw(st.booleans()) and pa.types.is_string(columns[name].type):
            columns[name] = columns[name].dictionary_encode()
    columns["x"] = pa.array(["a b", "c d"] * (rows // 2) + ["a b"] * (rows % 2))
    columns["y"] = pa.array([n * 1.5 for n in range(rows)])
    path = tmp_path_factory.getbasetemp() / "rows.parquet"
    parquet.write_table(pa.table(columns), path)
    accepts_all(propose(open_source(path), "Rows", "y"), path)


def test_what_is_seen_in_chunks_counts_over_all_of_them(tmp_path: Path) -> None:
    """65,536 rows are a chunk: a stranger in the second makes text of numbers, and counting goes on."""
    n = 70_000
    path = tmp_path / "rows.parquet"
    table = {
        "odd": [str(i % 20) for i in range(n - 1)] + ["x"],
        "n": range(n),
        "z": ["a", "b"] * (n // 2),
        "y": [i * 0.5 for i in range(n)],
    }
    parquet.write_table(pa.table(table), path)
    schema: Schema = propose(open_source(path), "Rows", "y").schema
    assert schema["odd"].kind == "category"
    assert (schema["n"].kind, schema["n"].roles) == ("int", (Role.ID,))
