"""Sources: what is read, and the one clear line that says why a file can't be."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from perron.errors import SourceError
from perron.source import ReadAhead, open_source


def written(folder: Path, content: str | bytes, name: str = "rows.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    source = open_source(path)
    rows = [row for batch in source.chunks() for row in batch.to_pylist()]
    assert rows == [row for batch in source.chunks() for row in batch.to_pylist()]  # the law: it can be read again
    for row in rows:
        assert list(row) == source.names
    return rows


def refusal(path: Path) -> str:
    """The one line that reading the file is refused with; it names the file."""
    with pytest.raises(SourceError) as caught:
        for _ in open_source(path).chunks():
            pass
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a,b\n1,007\n2,\n", [{"a": "1", "b": "007"}, {"a": "2", "b": ""}]),
        ("a,b\r\n1,2\r\n", [{"a": "1", "b": "2"}]),
        ("a,b\n1,2", [{"a": "1", "b": "2"}]),
        ("a;b\n1,5;2\n1,6;3\n", [{"a": "1,5", "b": "2"}, {"a": "1,6", "b": "3"}]),
        ("a\tb\n1\t2\n", [{"a": "1", "b": "2"}]),
        ("a|b\n1|2\n", [{"a": "1", "b": "2"}]),
        (b"\xef\xbb\xbfa,b\n1,2\n", [{"a": "1", "b": "2"}]),
        (' a ,"b c"\n1,2\n', [{"a": "1", "b c": "2"}]),
        ('a,b\n"x, y","line 1\nline 2"\n', [{"a": "x, y", "b": "line 1\nline 2"}]),
        ('a,b\n"say ""hi""",2\n', [{"a": 'say "hi"', "b": "2"}]),
        ('"a\nb",c\n1,2\n', [{"a\nb": "1", "c": "2"}]),
        ("größe,☂\né,日本\n", [{"größe": "é", "☂": "日本"}]),
        ("a,b\nNA,null\n , \n", [{"a": "NA", "b": "null"}, {"a": " ", "b": " "}]),
        ("a,b\n\n1,2\n\n", [{"a": "1", "b": "2"}]),
        ("a\n1\n2\n", [{"a": "1"}, {"a": "2"}]),
        ('a,b\n"1;2;3",4\n"5;6;7",8\n', [{"a": "1;2;3", "b": "4"}, {"a": "5;6;7", "b": "8"}]),
    ],
)  # fmt: skip
def test_a_csv_file_gives_its_cells_as_text(tmp_path: Path, content: str | bytes, rows: list[dict[str, str]]) -> None:
    assert read(written(tmp_path, content)) == rows


@pytest.mark.parametrize("ending", [".csv", ".CSV", ".tsv", ".txt"])
def test_a_delimited_file_may_have_other_endings(tmp_path: Path, ending: str) -> None:
    assert read(written(tmp_path, "a\tb\n1\t2\n", f"rows{ending}")) == [{"a": "1", "b": "2"}]


def test_a_header_without_rows_has_no_chunks_with_rows(tmp_path: Path) -> None:
    for content in ("a,b", "a,b\n", "a,b\n\n"):
        assert read(written(tmp_path, content)) == []


def test_a_file_of_many_blocks_gives_every_row_once_and_in_order(tmp_path: Path) -> None:
    path = written(tmp_path, "n,text\n" + "".join(f'{n},"{"x" * 90}\n"\n' for n in range(60_000)))
    batches = list(open_source(path).chunks())
    assert len(batches) > 1
    assert pa.Table.from_batches(batches)["n"].to_pylist() == [str(n) for n in range(60_000)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty"),
        ("\n\n", "no header"),
        (",,\n1,2,3\n", "no header"),
        ("a,,c\n1,2,3\n", "column 2 has no name"),
        ("a,b,a\n1,2,3\n", "names 'a' twice"),
        ("a, a\n1,2\n", "names 'a' twice"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells, not 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 cells, not 2"),
        ('a,b\n"x\ny",2\n3\n', "line 4 has 1 cells, not 2"),
        ('a,b\n\n"x\r\n\ny",2\n\n3,4,5\n', "line 7 has 3 cells, not 2"),
        ("a,b\r\n1,2\r\n3\r\n", "line 3 has 1 cells, not 2"),
        ('"a\nb",c\n1,2\n3\n', "line 4 has 1 cells, not 2"),
        ("a,b\n1,é\n".encode("utf-16")[:-1], "isn't utf-16 (line 2)"),
        (b"a,b\n1,\xe9\n", "line 2"),
        (b"a,b\n" + b"1,2\n" * 30_000 + b"1,\xe9\n", "line 30002"),
        (b"a,\xe9\n1,2\n", "line 1"),
        (b"\x00" * 100, ""),
        ("a" * 200_000 + "\n1\n", ""),
        ('a,b\n1,"2\n', ""),
    ],
)  # fmt: skip
def test_a_broken_csv_file_is_refused_by_file_and_place(tmp_path: Path, content: str | bytes, words: str) -> None:
    path = written(tmp_path, content)
    if words:
        assert words in refusal(path)
        return
    try:  # odd, but perhaps a table: never anything but rows or the one line
        read(path)
    except SourceError as error:
        assert str(path) in str(error)


def test_a_cell_of_many_kilobytes_is_read(tmp_path: Path) -> None:
    assert read(written(tmp_path, f"a,b\n1,{'x' * 200_000}\n")) == [{"a": "1", "b": "x" * 200_000}]


def test_a_ragged_row_in_a_later_block_is_found(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b\n" + f"1,{'x' * 1000}\n" * 6_000 + "1\n")
    assert re.search("line 6002 has 1 cells|begins '1'", refusal(path))


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"a.b": [1, None], "text": ["007", "é"], "cat": pa.array(["x", "y"]).dictionary_encode()})
    parquet.write_table(table, path)
    source = open_source(path)
    assert source.names == ["a.b", "text", "cat"]
    assert pa.Table.from_batches(source.chunks()).to_pylist() == table.to_pylist()


def test_parquet_comes_in_chunks(tmp_path: Path) -> None:
    path = tmp_path / "rows.pq"
    parquet.write_table(pa.table({"a": range(150_000)}), path)
    batches = list(open_source(path).chunks())
    assert max(batch.num_rows for batch in batches) <= 65_536
    assert [n for batch in batches for n in batch["a"].to_pylist()] == list(range(150_000))


def test_parquet_without_rows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    assert read(path) == []


def test_parquet_that_is_cut_in_half_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"a": range(10_000)}), path)
    whole = path.read_bytes()
    for part in (whole[: len(whole) // 2], whole[:3], b"not parquet at all", whole[len(whole) // 2 :]):
        path.write_bytes(part)
        assert re.search("isn't a whole Parquet file|is damaged", refusal(path))


def test_parquet_with_damaged_pages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"a": [str(n) * 9 for n in range(10_000)]}), path, compression="zstd")
    whole = bytearray(path.read_bytes())
    whole[100:2000] = b"\xff" * 1900
    path.write_bytes(bytes(whole))
    assert "is damaged" in refusal(path)


def test_parquet_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), path)
    assert "names 'a' twice" in refusal(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder without Parquet files or images; name a file"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="There is no file"):
        open_source(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("name", ["rows.xyz", "rows", "rows.parquet.gz"])
def test_an_unknown_ending_is_refused_with_those_that_are_known(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, "a,b\n1,2\n", name)
    assert re.search(r"Perron can't read .*; use \.csv", refusal(path))


class Numbers:
    """A source of chunks of one row each, which tells where it was read and that it was closed."""

    def __init__(self, count: int, fails_at: int = -1) -> None:
        self.names, self.count, self.fails_at = ["x"], count, fails_at
        self.given, self.threads, self.closed = 0, set[int](), 0

    def chunks(self) -> Iterator[pa.RecordBatch]:
        try:
            for number in range(self.count):
                self.threads.add(threading.get_ident())
                if number == self.fails_at:
                    raise SourceError("It went away.")
                self.given += 1
                yield pa.record_batch({"x": [number]})
        finally:
            self.threads.add(threading.get_ident())
            self.closed += 1


def test_a_source_that_is_read_ahead_gives_the_same_chunks_twice_from_one_other_thread() -> None:
    source = Numbers(50)
    with ReadAhead(source) as ahead:
        assert ahead.names == ["x"]
        for time in (1, 2):
            assert [chunk["x"][0].as_py() for chunk in ahead.chunks()] == list(range(50))
            assert source.closed == time
    assert threading.get_ident() not in source.threads


def test_what_fails_while_reading_ahead_fails_where_the_chunk_was_wanted() -> None:
    with ReadAhead(Numbers(5, fails_at=3)) as ahead:
        chunks = ahead.chunks()
        assert [next(chunks)["x"][0].as_py() for _ in range(3)] == [0, 1, 2]
        with pytest.raises(SourceError, match="went away"):
            next(chunks)


@pytest.mark.parametrize("taken", [0, 1])
def test_no_more_is_read_ahead_than_may_be_held_and_a_stop_closes_the_source(taken: int) -> None:
    source = Numbers(1_000)
    with ReadAhead(source, most_bytes=80) as ahead:  # ten rows of eight bytes
        if taken:
            chunks = ahead.chunks()
            next(chunks)
            chunks.close()
    assert source.closed == 1
    assert source.given <= 12 + taken
