"""Each kind of source: what it gives, and the one line that says which file, row and column is at fault."""

import gzip
import os
import re
import warnings
from datetime import date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import feather, parquet

from perron import source
from perron.errors import DeclarationError, PerronError, SourceError, SourceWarning
from perron.source import Description, describe, expand, hide, open_source


def rows_of(name: Any, base: Path) -> list[dict[str, Any]]:
    opened = open_source(name, base)
    batches = list(opened.chunks())
    assert len({str(batch.schema) for batch in batches}) <= 1  # the law: one schema
    rows = [row for batch in batches for row in batch.to_pylist()]
    again = [row for batch in opened.chunks() for row in batch.to_pylist()]
    assert repr(rows) == repr(again)  # the law: it can be read again
    assert opened.fingerprint() == open_source(name, base).fingerprint()
    for row in rows:
        assert list(row) == opened.names
    return rows


def refusal(name: Any, base: Path) -> str:
    with pytest.raises(SourceError) as caught:
        for _ in open_source(name, base).chunks():
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(folder: Path, name: str, data: bytes | str) -> str:
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return name


# ------------------------------------------------------------------ delimited text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_the_byte_order_mark_tells_the_encoding(tmp_path: Path, encoding: str) -> None:
    text = "näme,b\n" + "é,☂\n" * 3000
    assert rows_of(written(tmp_path, "rows.csv", text.encode(encoding)), tmp_path) == [{"näme": "é", "b": "☂"}] * 3000


def test_a_file_of_another_encoding_is_refused_with_one_that_reads_it(tmp_path: Path) -> None:
    written(tmp_path, "rows.csv", b"a,b\n" + b"1,2\n" * 50_000 + "3,Zoë\n".encode("cp1252"))
    message = refusal("rows.csv", tmp_path)
    assert "isn't UTF-8 (line 50002)" in message and "encoding='cp1252'" in message and "'3,Zoë'" in message
    assert rows_of(source.csv("rows.csv", encoding="cp1252"), tmp_path)[-1] == {"a": "3", "b": "Zoë"}
    written(tmp_path, "odd.csv", b"a,b\n1,\x81\n")  # which cp1252 doesn't have
    assert "encoding='latin-1'" in refusal("odd.csv", tmp_path)
    assert "isn't cp1252 (line 2)" in refusal(source.csv("odd.csv", encoding="cp1252"), tmp_path)


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.zst", ".jsonl.gz", ".jsonl.zst"])
def test_packed_files_are_unpacked_as_they_are_read(tmp_path: Path, ending: str) -> None:
    data = b'{"a": 1}\n{"a": 2}\n' if "jsonl" in ending else b"a\n1\n2\n"
    if ending.endswith(".gz"):
        written(tmp_path, f"rows{ending}", gzip.compress(data[:9]) + gzip.compress(data[9:]))
    else:
        with pa.CompressedOutputStream(str(tmp_path / f"rows{ending}"), "zstd") as file:
            file.write(data)
    assert [str(row["a"]) for row in rows_of(f"rows{ending}", tmp_path)] == ["1", "2"]
    whole = (tmp_path / f"rows{ending}").read_bytes()
    written(tmp_path, f"cut{ending}", whole[: len(whole) * 2 // 3])
    assert f"cut{ending}" in refusal(f"cut{ending}", tmp_path)
    written(tmp_path, f"no{ending}", data)
    assert f"no{ending} can't be read" in refusal(f"no{ending}", tmp_path)


def test_dialects_are_options(tmp_path: Path) -> None:
    written(tmp_path, "d.csv", "a;b\n1.234,5;x,y\n-7,25;01.02.2024\n1.000;'3;5'\n")
    assert rows_of(source.csv("d.csv", decimal=",", quote="'"), tmp_path) == [
        {"a": "1234.5", "b": "x,y"}, {"a": "-7.25", "b": "01.02.2024"}, {"a": "1000", "b": "3;5"},
    ]  # fmt: skip
    written(tmp_path, "n.csv", '1;"2\n3;4\n')
    plain = {"quote": "", "delimiter": ";"}
    assert rows_of(source.csv("n.csv", header=False, **plain), tmp_path)[0] == {"column_1": "1", "column_2": '"2'}
    assert rows_of(source.csv("n.csv", header=["p", "q"], **plain), tmp_path)[1] == {"p": "3", "q": "4"}
    assert "line 1 has 2 cells, and the header given has 3" in refusal(
        source.csv("n.csv", header=["p", "q", "r"], **plain), tmp_path
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delimiter": "ab"}, "give one ASCII character"), ({"delimiter": ""}, "is empty"), ({"quote": "é"}, "one ASCII"),
        ({"decimal": "x"}, "give '.' or ','"), ({"encoding": "nonsense"}, "knows no encoding 'nonsense'"),
        ({"encoding": "hex"}, "knows no encoding"), ({"header": "a,b"}, "a list of names"), ({"header": [1]}, "a list of names"),
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused_at_once(options: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=re.escape(words)):
        source.csv("rows.csv", **options)


# ------------------------------------------------------------------ JSON lines


def test_json_lines_get_the_one_type_that_a_columns_values_fit(tmp_path: Path) -> None:
    written(
        tmp_path,
        "r.jsonl",
        '{"a": 1, "x": 1, "t": "007"}\n\n{"a": "x", "x": NaN, "n": {"c": [1]}}\r\n{"a": 2.0, "flag": true}',
    )
    assert str(rows_of("r.jsonl", tmp_path)).replace("nan", "None") == str([
        {"a": "1", "x": 1.0, "t": "007", "n": None, "flag": None},
        {"a": "x", "x": None, "t": None, "n": '{"c": [1]}', "flag": None},
        {"a": "2", "x": None, "t": None, "n": None, "flag": True},
    ])  # fmt: skip
    written(tmp_path, "big.ndjson", '{"a": 12345678901234567890123}\n{"a": 1}')
    assert [row["a"] for row in rows_of("big.ndjson", tmp_path)] == ["12345678901234567890123", "1"]


def test_many_json_lines_come_in_order_and_in_chunks(tmp_path: Path) -> None:
    written(tmp_path, "r.jsonl", "".join(f'{{"n": {n}, "text": "{"x" * 60}"}}\n' for n in range(100_000)))
    batches = list(open_source(tmp_path / "r.jsonl").chunks())
    assert [n for batch in batches for n in batch["n"].to_pylist()] == list(range(100_000))
    assert max(batch.num_rows for batch in batches) <= 65_536


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1}\n{"a": \n', "line 2 isn't JSON"), ("[1]\n", "line 1 isn't an object"), ("{}\n", "no JSON object with a key"),
        ("", "is empty"), ('{"a": 1}\n\n"x"', "line 3 isn't an object"), (b'{"a": "\xff"}', "line 1 isn't JSON"),
        ("[" * 100_000, "line 1 isn't JSON"),
    ],
)  # fmt: skip
def test_a_line_that_is_no_object_is_named(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert words in refusal(written(tmp_path, "r.jsonl", text), tmp_path)


# ------------------------------------------------------------------ Arrow


TABLE = pa.table({
    "n": range(1000), "view": pa.array(["x"] * 1000, pa.string_view()), "null": pa.nulls(1000),
    "list": [[1, None]] * 1000, "large": pa.array(["é"] * 1000, pa.large_string()),
})  # fmt: skip


def test_arrow_files_and_streams_keep_their_rows(tmp_path: Path) -> None:
    feather.write_feather(TABLE, str(tmp_path / "a.feather"), compression="zstd")
    with pa.ipc.new_stream(str(tmp_path / "a.arrows"), TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=300)
    for name in ("a.feather", "a.arrows"):
        rows = rows_of(name, tmp_path)
        assert rows[999] == {"n": 999, "view": "x", "null": None, "list": "[1, null]", "large": "é"}


@pytest.mark.parametrize("name", ["a.arrow", "a.arrows"])
def test_arrow_that_is_cut_off_is_refused(tmp_path: Path, name: str) -> None:
    make = pa.ipc.new_stream if name.endswith("s") else pa.ipc.new_file
    with make(str(tmp_path / name), TABLE.schema) as writer:
        writer.write_table(TABLE, max_chunksize=100)
    whole = (tmp_path / name).read_bytes()
    for part in (whole[: len(whole) // 2], whole[:7], b"no arrow at all"):
        written(tmp_path, name, part)
        assert re.search("isn't a whole Arrow file|is damaged after row", refusal(name, tmp_path))


# ------------------------------------------------------------------ Excel


def workbook(folder: Path, rows: list[list[Any]], name: str = "w.xlsx") -> str:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    book.create_sheet("Two").append(["k", "l"])
    book.save(folder / name)
    return name


def test_a_sheet_gives_typed_columns(tmp_path: Path) -> None:
    workbook(tmp_path, [
        ["n", "x", "word", "day", "mixed", "none", "flag"],
        [1, 1, "007", date(2024, 2, 29), 7, None, True],
        [2, 2.5, None, datetime(2024, 1, 1, 3), "z", None, False],
        [None] * 7,
        [3, None, "y", None, None, None, None],
    ])  # fmt: skip
    assert rows_of("w.xlsx", tmp_path) == [
        {"n": 1, "x": 1.0, "word": "007", "day": datetime(2024, 2, 29), "mixed": "7", "none": None, "flag": True},
        {"n": 2, "x": 2.5, "word": None, "day": datetime(2024, 1, 1, 3), "mixed": "z", "none": None, "flag": False},
        {"n": 3, "x": None, "word": "y", "day": None, "mixed": None, "none": None, "flag": None},
    ]
    assert (
        rows_of(source.excel("w.xlsx", sheet="Two"), tmp_path)
        == rows_of(source.excel("w.xlsx", sheet=1), tmp_path)
        == []
    )
    assert "no sheet 'Tow'; did you mean 'Two'?" in refusal(source.excel("w.xlsx", sheet="Tow"), tmp_path)
    assert "there is no 5" in refusal(source.excel("w.xlsx", sheet=5), tmp_path)


def test_a_workbook_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    whole = (tmp_path / workbook(tmp_path, [["a", "b"], [1, 2]])).read_bytes()
    assert "isn't a whole workbook" in refusal(written(tmp_path, "half.xlsx", whole[: len(whole) // 2]), tmp_path)
    assert "isn't a whole workbook" in refusal(written(tmp_path, "no.xlsx", "a,b\n"), tmp_path)
    assert "names 'a' twice" in refusal(workbook(tmp_path, [["a", "a"], [1, 2]], "two.xlsx"), tmp_path)
    assert "column 2 has no name" in refusal(workbook(tmp_path, [["a", None, "c"], [1, 2, 3]], "gap.xlsx"), tmp_path)
    assert "row 3 has more cells than the header" in refusal(
        workbook(tmp_path, [["a"], [1], [2, 3]], "more.xlsx"), tmp_path
    )
    assert "has no header" in refusal(workbook(tmp_path, [], "empty.xlsx"), tmp_path)


# ------------------------------------------------------------------ folders of Parquet


def put(path: Path, columns: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)


def test_a_folder_of_parquet_is_one_table_with_the_folders_keys(tmp_path: Path) -> None:
    put(tmp_path / "t" / "year=2024" / "place=a%20b" / "1.parquet", {"x": [1]})
    put(tmp_path / "t" / "year=2023" / "place=__HIVE_DEFAULT_PARTITION__" / "1.parquet", {"x": [2.5], "y": ["k"]})
    written(tmp_path / "t", "_SUCCESS", "")
    assert rows_of("t", tmp_path) == [
        {"x": 2.5, "y": "k", "year": 2023, "place": None}, {"x": 1.0, "y": None, "year": 2024, "place": "a b"},
    ]  # fmt: skip
    before = open_source("t", tmp_path).fingerprint()
    os.rename(tmp_path / "t" / "year=2024", tmp_path / "t" / "year=2025")
    assert open_source("t", tmp_path).fingerprint() != before


def test_files_of_a_folder_that_do_not_fit_are_named(tmp_path: Path) -> None:
    put(tmp_path / "a" / "1.parquet", {"x": [1]})
    put(tmp_path / "a" / "2.parquet", {"x": ["text"]})
    assert re.search(r"2\.parquet doesn't fit .* x has incompatible types", refusal("a", tmp_path))
    put(tmp_path / "b" / "k=1" / "1.parquet", {"x": [1]})
    put(tmp_path / "b" / "2.parquet", {"x": [1]})
    assert "give all files the same" in refusal("b", tmp_path)
    put(tmp_path / "c" / "1.parquet", {"x": range(1000)})
    whole = (tmp_path / "c" / "1.parquet").read_bytes()
    written(tmp_path / "c", "2.parquet", whole[:500])
    assert "2.parquet isn't a whole Parquet file" in refusal("c", tmp_path)
    (tmp_path / "d").mkdir()
    assert "without Parquet files or images" in refusal("d", tmp_path)


def test_a_wide_parquet_file_comes_in_smaller_chunks(tmp_path: Path) -> None:
    put(tmp_path / "w.parquet", {f"c{n}": range(3000) for n in range(10_000)})
    assert max(batch.num_rows for batch in open_source(tmp_path / "w.parquet").chunks()) < 2000


# ------------------------------------------------------------------ functions


def several() -> Any:
    yield pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[5, 6])
    yield pl.DataFrame({"b": ["é"], "a": [3]})
    yield pa.table({"a": [4], "b": ["y"]})
    yield pa.record_batch({"a": [5], "b": ["z"]})


def test_a_function_may_yield_tables_and_frames(tmp_path: Path) -> None:
    rows = rows_of(several, tmp_path)
    assert [row["a"] for row in rows] == [1, 2, 3, 4, 5] and rows[2] == {"a": 3, "b": "é"}
    assert rows_of(lambda: pl.LazyFrame({"a": range(100_000)}), tmp_path)[-1] == {"a": 99_999}
    assert rows_of(source.table(lambda: [pa.table({"a": [1]})]), tmp_path) == [{"a": 1}]
    assert (
        rows_of(lambda: pd.DataFrame({"t": pd.to_datetime(["2024-01-01"]), "c": pd.Categorical(["x"])}), tmp_path)[0][
            "c"
        ]
        == "x"
    )
    assert rows_of(lambda: pd.DataFrame({"a": []}), tmp_path) == []


def test_a_function_is_called_once_to_be_read_once() -> None:
    calls = []

    def counted() -> pa.Table:
        calls.append(1)
        return pa.table({"a": [1]})

    assert sum(batch.num_rows for batch in open_source(counted).chunks()) == 1
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: None, "gave NoneType at row 0"), (lambda: [], "gave no table"), (lambda: [{"a": 1}], "gave dict at row 0"),
        (lambda: pd.DataFrame({"a": [1, 2, "x"]}), "row 2, column 'a' is str, and int before"),
        (lambda: iter([pa.table({"a": [1, 2]}), pa.table({"a": ["x"]})]), "gave 'a' as string from row 2 on, and as int64 before"),
        (lambda: iter([pa.table({"a": [1]}), pa.table({"b": [1]})]), "gave the columns b at row 1, and a before"),
        (lambda: 1 / 0, "failed at row 0: ZeroDivisionError: division by zero"),
        (lambda x: x, "failed at row 0: TypeError"), (lambda: pd.DataFrame([[1]]), "whose name isn't text"),
        (lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]), "names 'a' twice"),
    ],
)  # fmt: skip
def test_a_function_that_gives_no_table_is_one_line(tmp_path: Path, function: Any, words: str) -> None:
    assert words in refusal(function, tmp_path)


# ------------------------------------------------------------------ images


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    for label, mode, size in (("cat", "RGB", (3, 4)), ("dog", "L", (5, 6))):
        (folder / label / "deeper").mkdir(parents=True)
        Image.new(mode, size).save(folder / label / "one.png")
        Image.new(mode, size).save(folder / label / "deeper" / "two.jpg")
    written(folder, "notes.txt", "no image")
    written(folder, ".hidden.png", "no image")
    return folder


def test_a_folder_of_images_gives_a_row_each(pictures: Path) -> None:
    rows = rows_of(pictures, Path())
    assert [row["path"] for row in rows] == ["cat/deeper/two.jpg", "cat/one.png", "dog/deeper/two.jpg", "dog/one.png"]
    size = (pictures / "dog" / "one.png").stat().st_size
    assert rows[3] == {"path": "dog/one.png", "label": "dog", "width": 5, "height": 6, "mode": "L", "bytes": size}


def test_a_manifest_lists_the_images(pictures: Path) -> None:
    written(pictures, "labels.csv", "path,grade\ndog/one.png,7\ncat/one.png,\n")
    rows = rows_of(source.images(pictures, manifest="labels.csv"), Path())
    assert [(row["path"], row["grade"], row["width"]) for row in rows] == [
        ("dog/one.png", "7", 5),
        ("cat/one.png", "", 3),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path\nnone.png\n", "row 0 of the manifest names none.png, which isn't there"),
        ("path\n../../secret.png\n", "which is outside of the folder"),
        ("file\ndog/one.png\n", "has no column 'path', only file"),
        ("path,width\ndog/one.png,1\n", "has a column 'width', which the images give"),
        ("path\n", "has a header and no rows"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_one_line(pictures: Path, text: str, words: str) -> None:
    written(pictures, "labels.csv", text)
    assert words in refusal(source.images(pictures, manifest="labels.csv"), Path())


def test_a_file_that_is_no_image_has_no_size_and_is_named_in_a_warning(pictures: Path) -> None:
    written(pictures / "cat", "bad.png", "no image")
    written(pictures / "cat", "cut.png", (pictures / "cat" / "one.png").read_bytes()[:20])
    with pytest.warns(
        SourceWarning, match=r"2 files aren't images and have no width, height and mode: cat/bad\.png, cat/cut\.png"
    ):
        rows = [row for batch in open_source(pictures).chunks() for row in batch.to_pylist()]
    assert rows[0] == {"path": "cat/bad.png", "label": "cat", "width": None, "height": None, "mode": None, "bytes": 8}


# ------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a.CSV.GZ", "csv"), ("s3://b/k.parquet", "parquet"), ("s3://b/folder/", "parquet"), ("https://h/x.csv?a=b.json", "csv"),
        ("gs://b/x.ndjson", "jsonl"), ("az://c/x.feather", "arrow"), ("x.xlsx", "excel"), ("sqlite:///f.db#t", "sql"),
        ("postgresql://u@h/db#t", "sql"), ("postgresql+psycopg://u@h/db#t", "sql"), ("duckdb:///f.duckdb#t", "duckdb"),
        ("bigquery://p#d.t", "bigquery"),
    ],
)  # fmt: skip
def test_a_name_tells_its_kind(text: str, kind: str) -> None:
    assert describe(text).kind == kind


def test_what_cannot_be_read_is_refused_by_its_kind(tmp_path: Path) -> None:
    assert "did you mean 's3'?" in refusal("s33://b/x.csv", tmp_path)
    assert "name a file, a folder or a URL" in refusal("", tmp_path)
    assert "isn't utf-16: UTF-16 stream does not start with BOM" in refusal(
        source.csv(written(tmp_path, "x.csv", "a,b\n"), encoding="utf-16"), tmp_path
    )
    assert "use .jsonl" in refusal(written(tmp_path, "x.json", "[]"), tmp_path)
    with pytest.raises(PerronError, match="isn't a function"):
        open_source(3, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match="there is a query too"):
        source.sql("sqlite:///f.db#t", "SELECT 1")
    with pytest.raises(DeclarationError, match="isn't a database's URL"):
        source.sql("f.db")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:secret@h/db#t", "postgresql://u:***@h/db#t"),
        ("postgresql://u:${PW}@h/db#t", "postgresql://u:${PW}@h/db#t"),
        ("postgresql://u:se:cr/et@h/db", "postgresql://u:***@h/db"),
        ("https://h/x.csv?X-Amz-Signature=abc&v=1", "https://h/x.csv?X-Amz-Signature=***&v=1"),
        ("postgresql://h/db?user=u&password=abc#t", "postgresql://h/db?user=u&password=***#t"),
        ("sqlite:///a.db#key=1", "sqlite:///a.db#key=***"), ("C:/data/x.csv", "C:/data/x.csv"),
    ],
)  # fmt: skip
def test_secrets_are_hidden(text: str, shown: str) -> None:
    assert hide(text) == shown
    assert "abc" not in str(Description("sql", text)) and "secret" not in repr(Description("sql", text))


def test_references_are_filled_in_and_quoted_where_they_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "a/b@c")
    assert expand("postgresql://u:${A}@h/db") == "postgresql://u:a%2Fb%40c@h/db"
    assert expand("${A}/x.csv") == "a/b@c/x.csv"
    with pytest.raises(SourceError, match="has no NOTHING_OF_THE_KIND"):
        expand("${NOTHING_OF_THE_KIND}")


def test_describing_loads_nothing_and_touches_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert source.sql("postgresql://nowhere/db", "SELECT 1") == source.sql("postgresql://nowhere/db", "SELECT 1")
        assert hash(source.csv("a.csv", header=["x"])) == hash(source.csv("a.csv", header=["x"]))
