"""Sources of other machines: databases, object storage, the web; and systems that are declared on them."""

import io
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import psycopg
import pyarrow as pa
import pytest
from pyarrow import parquet

from perron import source
from perron.errors import MissingPackage, SourceError
from perron.pipeline import Result, run_pipeline
from perron.profile import profile
from perron.project import Project
from perron.source import open_source
from perron.system import load_system
from tests.conftest import FileServer, perron, perron_json

CSV = "a,b\n1,007\n2,x\n"


def rows_of(name: Any, base: Path = Path()) -> list[dict[str, Any]]:
    opened = open_source(name, base)
    batches = list(opened.chunks())
    assert len({str(batch.schema) for batch in batches}) <= 1  # the law: one schema
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert rows == [row for batch in opened.chunks() for row in batch.to_pylist()]  # the law: it can be read again
    for row in rows:
        assert list(row) == opened.names
    return rows


def refusal(name: Any, base: Path = Path()) -> str:
    """The one line that opening or reading is refused with."""
    with pytest.raises(SourceError) as caught:
        for _ in open_source(name, base).chunks():
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ------------------------------------------------------------------ Postgres


@pytest.fixture
def made(postgres_url: str) -> Iterator[Any]:
    """Makes tables in Postgres from SQL, and takes them away afterwards."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA made; SET search_path TO made")
        yield connection
        connection.execute("DROP SCHEMA made CASCADE")


KINDS = """
    CREATE TABLE kinds (n integer, big bigint, x double precision, price numeric(20, 4), word text, flag boolean, day date,
        at timestamp, moment timestamptz, blob bytea, doc jsonb, list integer[], key uuid);
    INSERT INTO kinds VALUES
        (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (1, 9223372036854775807, 1.5, 1234567890123456.7891, '007', true, '2024-02-29', '2024-02-29 12:30:00.5',
         '2024-02-29 12:30:00+02', '\\x01ff', '{"é": [1]}', '{1,2}', '00000000-0000-0000-0000-000000000001'),
        (2, -1, 'NaN', 'NaN', '', false, '0001-01-01', '9999-12-31', '1900-01-01 00:00+00', '', 'null', '{}', NULL)
"""


def test_postgres_gives_its_types(made: Any, postgres_url: str) -> None:
    made.execute(KINDS)
    opened = open_source(f"{postgres_url}#made.kinds")
    table = pa.Table.from_batches(opened.chunks())
    kinds = {
        name: str(table.schema.field(name).type) for name in ("n", "big", "x", "price", "flag", "day", "at", "moment")
    }
    assert kinds == {
        "n": "int64", "big": "int64", "x": "double", "price": "string", "flag": "bool", "day": "date32[day]",
        "at": "timestamp[us]", "moment": "timestamp[us, tz=UTC]",
    }  # fmt: skip
    row = table.to_pylist()[1]
    assert row["price"] == "1234567890123456.7891" and row["big"] == 2**63 - 1 and row["word"] == "007"
    assert (row["blob"], row["doc"], row["list"]) == ("01ff", '{"é": [1]}', "[1, 2]")
    assert str(row["moment"]) == "2024-02-29 10:30:00+00:00"
    assert set(table.to_pylist()[0].values()) == {None}


def test_a_query_may_hold_what_drivers_take_for_parameters(made: Any, postgres_url: str) -> None:
    made.execute("CREATE TABLE words AS SELECT * FROM (VALUES ('a%b'), ('ab'), (':c')) AS t(w)")
    query = "SELECT w FROM made.words WHERE w LIKE 'a%' OR w = ':c';"
    assert [row["w"] for row in rows_of(source.sql(postgres_url, query))] == ["a%b", "ab", ":c"]


def test_odd_names_of_tables_and_columns_are_quoted(made: Any, postgres_url: str) -> None:
    made.execute(
        'CREATE TABLE "Odd ""table""" ("a b" integer, "SELECT" integer); INSERT INTO "Odd ""table""" VALUES (1, 2)'
    )
    assert rows_of(f'{postgres_url}#made.Odd "table"') == [{"a b": 1, "SELECT": 2}]


def test_postgres_is_read_in_chunks_through_a_cursor_of_the_server(made: Any, postgres_url: str) -> None:
    made.execute("CREATE TABLE many AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 200000) AS n")
    chunks = open_source(f"{postgres_url}#made.many").chunks()
    first = next(chunks)
    assert first.num_rows == 65_536
    running = made.execute(
        "SELECT query FROM pg_stat_activity WHERE query LIKE 'FETCH%' OR query LIKE '%DECLARE%CURSOR%'"
    ).fetchall()
    assert running  # the rest is still at the server
    assert first.num_rows + sum(batch.num_rows for batch in chunks) == 200_000


def test_a_query_cannot_change_the_database(made: Any, postgres_url: str) -> None:
    made.execute("CREATE TABLE kept AS SELECT 1 AS a")
    made.execute("CREATE FUNCTION change() RETURNS integer LANGUAGE SQL AS 'DELETE FROM made.kept RETURNING a'")
    assert "read-only transaction" in refusal(source.sql(postgres_url, "SELECT made.change() AS a"))
    assert made.execute("SELECT count(*) FROM kept").fetchone() == (1,)


def test_a_server_that_ends_the_connection_is_one_line_and_the_store_is_unharmed(
    made: Any, postgres_url: str, tmp_path: Path
) -> None:
    made.execute("CREATE TABLE lost AS SELECT n AS x, n % 2 AS y FROM generate_series(1, 200000) AS n")
    declare(tmp_path, f'"{postgres_url}#made.lost"')
    project = Project.open(tmp_path)
    system = load_system(tmp_path / "system.py")
    opened = open_source(system.source)
    system.source = Cut(opened, made)
    with pytest.raises(SourceError) as caught:
        run_pipeline(system, project)
    message = str(caught.value)
    assert "\n" not in message and "failed after 65,536 rows" in message and "terminating connection" in message
    [run] = project.ledger.list_runs()
    assert run["status"] == "failed" and "65,536 rows" in run["message"]
    blobs = [path for path in (tmp_path / ".perron" / "store").rglob("*") if path.is_file()]
    assert all(project.store.get(path.parent.name + path.name) for path in blobs)  # whole, each
    assert list((tmp_path / ".perron" / "store" / "tmp").iterdir()) == []
    system.source = source.sql(postgres_url, "SELECT * FROM made.lost ORDER BY x LIMIT 300")
    assert run_pipeline(system, project).outputs["snapshot"]["rows"] == 300
    project.ledger.close()


class Cut:
    """A source whose database ends the connection after the first chunk."""

    def __init__(self, opened: Any, connection: Any) -> None:
        self.opened, self.connection, self.names = opened, connection, opened.names

    def fingerprint(self) -> None:
        return None

    def chunks(self) -> Iterator[pa.RecordBatch]:
        for batch in self.opened.chunks():
            yield batch
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            self.connection.execute(others)


def test_a_moment_that_python_cannot_hold_names_the_place(made: Any, postgres_url: str) -> None:
    made.execute("CREATE TABLE far AS SELECT '2024-01-01'::timestamp AS at UNION ALL SELECT 'infinity'::timestamp")
    message = refusal(f"{postgres_url}#made.far")
    assert ("made.far" in message and "year 10K" in message) or "too large" in message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://postgres@127.0.0.1:1/x#t", "can't be reached"),
        ("{}#made.nothing", "has no table 'made.nothing'"),
        ("{}", "needs a table after #"),
        ("{}x#t", "does not exist"),
    ],
)
def test_a_database_or_table_that_is_not_there_is_one_line(made: Any, postgres_url: str, url: str, words: str) -> None:
    made.execute("CREATE TABLE noting (a integer)")
    assert words in refusal(url.format(postgres_url))


def test_a_query_that_fails_or_gives_a_name_twice_is_one_line(postgres_url: str) -> None:
    assert 'column "nonsense" does not exist' in refusal(source.sql(postgres_url, "SELECT nonsense"))
    assert "names 'a' twice" in refusal(source.sql(postgres_url, "SELECT 1 AS a, 2 AS a"))
    assert "division by zero" in refusal(
        source.sql(postgres_url, "SELECT 1 / (n - 70000) AS a FROM generate_series(1, 80000) AS n")
    )


def test_a_password_is_shown_nowhere(postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "p@ss/w:rd"
    monkeypatch.setenv("PG_PASSWORD", secret)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS reader")
        connection.execute(f"CREATE ROLE reader LOGIN PASSWORD '{secret}'")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS public.shown AS SELECT n * 1.5 AS x, n % 2 AS y FROM generate_series(1, 300) AS n"
        )
        connection.execute("GRANT SELECT ON public.shown TO reader")
    url = postgres_url.replace("postgres@", "reader:${PG_PASSWORD}@")
    assert len(rows_of(f"{url}#shown")) == 300
    perron("init", "things", "--from", f"{url}#shown", "--target", "y", "--no-git", cwd=tmp_path)
    folder = tmp_path / "things"
    assert "${PG_PASSWORD}" in (folder / "system.py").read_text()
    said = perron("run", cwd=folder, check=False)
    assert said.returncode in (0, 3), said.stderr  # a gate may refuse the model
    shown = said.stdout + said.stderr + perron("check", cwd=folder).stdout + perron("runs", "--json", cwd=folder).stdout
    shown += perron("check", f"{url}#nothing", cwd=folder, check=False).stderr
    literal = url.replace("${PG_PASSWORD}", "p%40ss%2Fw%3Ard")
    refused = perron("init", "other", "--from", f"{literal}#shown", "--target", "y", cwd=tmp_path, check=False)
    assert refused.returncode == 1 and "reader:***@" in refused.stderr and not (tmp_path / "other").exists()
    shown += refused.stderr + perron("profile", f"{literal}#no", cwd=tmp_path, check=False).stderr
    shown += perron("profile", f"{literal}?nonsense=1#no", cwd=tmp_path, check=False).stderr
    for form in (secret, "p%40ss%2Fw%3Ard"):
        assert form not in shown
        for path in folder.rglob("*"):
            assert not path.is_file() or form.encode() not in path.read_bytes(), path


def test_the_environment_must_have_what_a_url_names() -> None:
    assert "has no NO_SUCH_NAME" in refusal("postgresql://u:${NO_SUCH_NAME}@h/db#t")


# ------------------------------------------------------------------ SQLite and DuckDB


def test_sqlite_gives_each_column_the_type_that_all_its_cells_fit(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE t (n, x, mixed, empty, code, blob)")
        connection.executemany(
            "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)",
            [(1, 1, 7, None, "007", b"\x01"), (2, 2.5, "x", None, "8", None), (None, None, 7.0, None, None, None)],
        )
    connection.close()
    assert rows_of("sqlite:///shop.db#t", tmp_path) == [
        {"n": 1, "x": 1.0, "mixed": "7", "empty": None, "code": "007", "blob": "01"},
        {"n": 2, "x": 2.5, "mixed": "x", "empty": None, "code": "8", "blob": None},
        {"n": None, "x": None, "mixed": "7", "empty": None, "code": None, "blob": None},
    ]
    assert rows_of(source.sql("sqlite:///shop.db", "SELECT n + 1 AS m FROM t WHERE n IS NOT NULL;"), tmp_path) == [
        {"m": 2},
        {"m": 3},
    ]
    assert "has no table 'u'" in refusal("sqlite:///shop.db#u", tmp_path)
    assert "its tables: t" in refusal("sqlite:///shop.db", tmp_path)
    assert "gives no rows; give a SELECT" in refusal(source.sql("sqlite:///shop.db", "BEGIN"), tmp_path)
    assert "readonly" in refusal(source.sql("sqlite:///shop.db", "DELETE FROM t"), tmp_path)


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_text("a,b\n" * 2000)
    (tmp_path / "empty.db").touch()
    assert "file is not a database" in refusal("sqlite:///no.db#t", tmp_path)
    assert "is empty" in refusal("sqlite:///empty.db#t", tmp_path)
    assert "There is no file" in refusal("sqlite:///none.db#t", tmp_path)
    assert not (tmp_path / "none.db").exists()
    assert "There is no file" in refusal("duckdb:///none.duckdb#t", tmp_path)
    assert "no.db" in refusal("duckdb:///no.db#t", tmp_path)


def test_duckdb_gives_its_types_and_reads_files(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT range AS n, 'x' AS w, [1, 2] AS l, DATE '2024-02-29' AS d FROM range(150000)"
        )
        connection.execute('CREATE SCHEMA s; CREATE TABLE s."odd ""t" AS SELECT 1 AS a')
    opened = open_source("duckdb:///shop.duckdb#t", tmp_path)
    batches = list(opened.chunks())
    assert max(batch.num_rows for batch in batches) <= 65_536
    table = pa.Table.from_batches(batches)
    assert table["n"].to_pylist() == list(range(150_000)) and table["l"][0].as_py() == "[1, 2]"
    assert rows_of('duckdb:///shop.duckdb#s.odd "t', tmp_path) == [{"a": 1}]
    (tmp_path / "rows.csv").write_text(CSV)
    assert rows_of(source.sql("duckdb://", f"SELECT * FROM read_csv('{tmp_path}/rows.csv', all_varchar = true)"))[
        0
    ] == {"a": "1", "b": "007"}
    assert "has no table 'u'; " in refusal("duckdb:///shop.duckdb#u", tmp_path)
    assert "its tables: t, s." in refusal("duckdb:///shop.duckdb", tmp_path)
    assert "can't be queried" in refusal(source.sql("duckdb:///shop.duckdb", "SELECT nonsense"), tmp_path)
    assert "twice" in refusal(source.sql("duckdb:///shop.duckdb", "SELECT 1 AS a, 2 AS a"), tmp_path)


# ------------------------------------------------------------------ object storage and the web


def put(url: str, data: bytes) -> None:
    import boto3

    bucket, _, key = url.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    client.put_object(Bucket=bucket, Key=key, Body=data)
    client.close()


def as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    return buffer.getvalue()


def test_files_are_read_from_object_storage(s3_url: str) -> None:
    import gzip

    put(f"{s3_url}/in/rows.csv", CSV.encode())
    put(f"{s3_url}/in/rows.csv.gz", gzip.compress(CSV.encode()))
    put(f"{s3_url}/in/rows.jsonl", b'{"a": 1, "b": "007"}\n')
    put(f"{s3_url}/hive/year=2023/part.parquet", as_parquet(pa.table({"a": [1]})))
    put(f"{s3_url}/hive/year=2024/part.parquet", as_parquet(pa.table({"a": [2]})))
    assert (
        rows_of(f"{s3_url}/in/rows.csv")
        == rows_of(f"{s3_url}/in/rows.csv.gz")
        == [{"a": "1", "b": "007"}, {"a": "2", "b": "x"}]
    )
    assert rows_of(f"{s3_url}/in/rows.jsonl") == [{"a": 1, "b": "007"}]
    assert rows_of(f"{s3_url}/hive/") == [{"a": 1, "year": 2023}, {"a": 2, "year": 2024}]
    assert "There is no file s3://" in refusal(f"{s3_url}/in/none.csv")
    assert "There is no file s3://no-such-bucket-here/a.csv" in refusal("s3://no-such-bucket-here/a.csv")
    first = open_source(f"{s3_url}/in/rows.csv").fingerprint()
    assert first is not None and first == open_source(f"{s3_url}/in/rows.csv").fingerprint()
    put(f"{s3_url}/in/rows.csv", CSV.replace("x", "y").encode())
    assert open_source(f"{s3_url}/in/rows.csv").fingerprint() != first


def test_a_parquet_file_of_the_web_is_read_by_its_parts(file_server: FileServer) -> None:
    wide = pa.table({f"c{n}": [float(row * n) for row in range(20_000)] for n in range(150)})
    file_server.files["/rows.parquet"] = as_parquet(wide)
    opened = open_source(f"{file_server.url}/rows.parquet?token=abc")
    assert pa.Table.from_batches(opened.chunks()).equals(wide)
    assert any(part for _, part in file_server.asked)
    assert opened.fingerprint() is not None
    file_server.has_ranges = False
    plain = open_source(f"{file_server.url}/rows.parquet?token=abcd")
    assert pa.Table.from_batches(plain.chunks()).equals(wide)
    assert plain.fingerprint() is None


@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_csv_file_of_the_web_is_read(file_server: FileServer, has_ranges: bool) -> None:
    file_server.has_ranges = has_ranges
    file_server.files["/rows.csv"] = CSV.encode()
    assert rows_of(f"{file_server.url}/rows.csv?v={has_ranges}") == [{"a": "1", "b": "007"}, {"a": "2", "b": "x"}]


def test_what_the_web_does_not_have_is_one_line(file_server: FileServer) -> None:
    message = refusal(f"{file_server.url}/none.csv?token=secret")
    assert "There is no file" in message and "secret" not in message
    assert "http://127.0.0.1:1/rows.csv can't be reached" in refusal("http://127.0.0.1:1/rows.csv")
    assert "s3:// is a folder" in refusal(source.csv("s3://")) and "can't be read" in refusal("s3://")
    file_server.files["/half.parquet"] = as_parquet(pa.table({"a": range(1000)}))[:1000]
    assert "isn't a whole Parquet file" in refusal(f"{file_server.url}/half.parquet")


# ------------------------------------------------------------------ systems


def declare(folder: Path, source_code: str, before: str = "", checks: str = "") -> None:
    (folder / "system.py").write_text(
        "from typing import Annotated\nimport perron as pn\nfrom perron import source, rules\n\n"
        "class Row(pn.Contract):\n    x: float\n    y: Annotated[float, pn.Target]\n\n"
        f"{before}\nsystem = pn.System('things', Row, source={source_code}, gates=[]{checks})\n"
    )


def run(folder: Path) -> Result:
    project = Project.open(folder)
    try:
        return run_pipeline(load_system(folder / "system.py"), project)
    finally:
        project.ledger.close()


def done(result: Result) -> list[str]:
    return [step["name"] for step in result.steps if step["status"] == "done"]


def test_the_second_run_of_a_database_repeats_the_snapshot_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE t (x, y)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, n * 2.5) for n in range(400)])
    declare(tmp_path, "source.sql('sqlite:///shop.db', 'SELECT x, y FROM t ORDER BY x')")
    first = run(tmp_path)
    assert "snapshot" in done(first) and "train" in done(first)
    assert done(run(tmp_path)) == ["snapshot"]
    with connection:
        connection.execute("UPDATE t SET y = 0 WHERE x = 7")
    connection.close()
    assert {"snapshot", "train"} <= set(done(run(tmp_path)))


def test_a_function_may_be_a_systems_source(tmp_path: Path) -> None:
    declare(
        tmp_path, "rows",
        before="def rows():\n    import pandas\n    for part in range(4):\n"
        "        yield pandas.DataFrame({'x': [float(part * 100 + n) for n in range(100)], 'y': [float(n) for n in range(100)]})\n",
    )  # fmt: skip
    assert run(tmp_path).outputs["snapshot"]["rows"] == 400
    assert done(run(tmp_path)) == ["snapshot"]
    assert perron_json("check", cwd=tmp_path)["source"] == "rows"


def test_a_folder_is_read_again_when_one_of_its_files_changes(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    for year in (2023, 2024):
        (folder / f"year={year}").mkdir(parents=True)
        parquet.write_table(pa.table({"x": [float(n) for n in range(200)], "y": [float(n % 7) for n in range(200)]}), folder / f"year={year}" / "part.parquet")  # fmt: skip
    declare(tmp_path, "'parts'")
    assert run(tmp_path).outputs["snapshot"]["rows"] == 400
    assert done(run(tmp_path)) == []
    parquet.write_table(pa.table({"x": [1.0, 2.0], "y": [1.0, 2.0]}), folder / "year=2024" / "part.parquet")
    again = run(tmp_path)
    assert again.outputs["snapshot"]["rows"] == 202


def test_a_file_of_object_storage_is_read_again_when_it_changes(s3_url: str, tmp_path: Path) -> None:
    rows = "x,y\n" + "".join(f"{n},{n % 9}\n" for n in range(300))
    put(f"{s3_url}/rows.csv", rows.encode())
    declare(tmp_path, f"'{s3_url}/rows.csv'")
    run(tmp_path)
    assert done(run(tmp_path)) == []
    put(f"{s3_url}/rows.csv", (rows + "7,7\n").encode())
    assert run(tmp_path).outputs["snapshot"]["rows"] == 301


def test_doubles_of_a_function_are_found_in_the_rows_that_were_read(tmp_path: Path) -> None:
    """The function gives another order each time; its first rows are kept until the doubles are known."""
    before = (
        "import itertools\nturns = itertools.count()\n"
        "def rows():\n    import pyarrow\n    begin = next(turns) * 31\n"
        "    xs = [float((n + begin) % 300) for n in range(300)] + [5.0]\n"
        "    return pyarrow.table({'x': xs, 'y': [x * 2 for x in xs]})\n"
    )
    declare(tmp_path, "rows", before, ", checks=[rules.unique('x')]")
    found = run(tmp_path).outputs["snapshot"]
    assert (found["rows"], found["quarantined"]) == (300, 1)


def test_every_verb_takes_a_url_and_options(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("CREATE TABLE t (x, y)")
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n * 1.5, n * 2.5) for n in range(400)])
    connection.close()
    query = ["--query", "SELECT x, y FROM t ORDER BY x"]
    perron("init", "things", "--from", "sqlite:///shop.db", *query, "--target", "y", "--no-git", cwd=tmp_path)
    made = load_system(tmp_path / "things" / "system.py")
    assert made.source == source.sql(f"sqlite:///{tmp_path}/shop.db", query[1])
    folder = tmp_path / "things"
    assert perron_json("run", cwd=folder)["data"]["rows"] == 400
    (folder / "semi.txt").write_bytes("x;y;näme\n1,5;2;a\n".encode("cp1252"))
    options = ["-O", "encoding=cp1252", "-O", "decimal=,", "-O", "delimiter=;"]
    assert perron_json("check", "semi.txt", *options, cwd=folder)["status"] == "passed"
    assert [c["name"] for c in perron_json("profile", "semi.txt", *options, cwd=folder)["columns"]] == [
        "x",
        "y",
        "näme",
    ]
    assert perron_json("predict", "semi.txt", *options, "-o", "out.csv", cwd=folder)["rows"] == 1
    assert (
        perron_json("predict", f"sqlite:///{tmp_path}/shop.db", *query, "-o", "out.parquet", cwd=folder)["rows"] == 400
    )
    wrong = perron("profile", "semi.txt", "-O", "encodng=cp1252", cwd=folder, check=False)
    assert wrong.returncode == 1 and "did you mean 'encoding'?" in wrong.stderr


def test_a_package_that_is_missing_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.delitem(sys.modules, "perron.sources.duckdb", raising=False)
    with pytest.raises(MissingPackage, match=r"needs duckdb: pip install 'perron\[duckdb\]'"):
        open_source("duckdb:///shop.duckdb#t", tmp_path)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingPackage, match=r"gs://bucket/rows.csv needs .*: pip install 'perron\[gcs\]'"):
        open_source("gs://bucket/rows.csv")


def test_a_notebook_profiles_frames_and_functions(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}, index=[7, 8, 9])
    assert profile(source.table(lambda: frame)).rows == 3
    assert [column.name for column in profile(lambda: pl.DataFrame({"a": [1.5], "é": ["x"]})).columns] == ["a", "é"]


# ------------------------------------------------------------------ BigQuery


@pytest.fixture
def bigquery_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The few answers of BigQuery's REST interface that reading takes, in Google's own form: its client is real."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    kinds = [
        {"name": "n", "type": "INTEGER"},
        {"name": "w", "type": "STRING"},
        {"name": "l", "type": "INTEGER", "mode": "REPEATED"},
    ]
    found = {"projectId": "p", "datasetId": "d", "tableId": "t"}
    job = {
        "jobReference": {"projectId": "p", "jobId": "j", "location": "EU"}, "status": {"state": "DONE"},
        "configuration": {"query": {"query": "SELECT 1", "destinationTable": found}}, "statistics": {"query": {"statementType": "SELECT"}},
    }  # fmt: skip
    rows = [{"f": [{"v": str(n)}, {"v": None if n else "007"}, {"v": [{"v": "1"}]}]} for n in range(5)]
    table = {"tableReference": found, "schema": {"fields": kinds}, "numRows": "5", "type": "TABLE"}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            answer: dict[str, Any] | None = None
            if path.endswith("/tables/t/data"):
                begin = int(re.findall(r"pageToken=(\d+)", self.path)[0]) if "pageToken" in self.path else 0
                answer = {"rows": rows[begin : begin + 3], "totalRows": "5"} | (
                    {"pageToken": "3"} if begin == 0 else {}
                )
                if "maxResults=0" in self.path:
                    answer = {"totalRows": "5"}
            elif path.endswith("/tables/t"):
                answer = table
            elif path.endswith(("/jobs", "/jobs/j")):
                answer = job
            elif "/queries" in path:
                answer = {
                    "jobComplete": True,
                    "schema": {"fields": kinds},
                    "totalRows": "5",
                    "jobReference": job["jobReference"],
                }
            body = json.dumps(
                answer or {"error": {"code": 404, "message": "Not found: Table p:d.u", "errors": []}}
            ).encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(google.auth, "default", lambda **words: (AnonymousCredentials(), "p"))
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def test_bigquerys_client_is_used_as_its_interface_has_it(bigquery_server: None) -> None:
    expected = [{"n": n, "w": None if n else "007", "l": "[1]"} for n in range(5)]
    assert rows_of("bigquery://p#d.t") == expected
    assert rows_of(source.sql("bigquery://p", "SELECT * FROM d.t")) == expected
    assert "Not found: Table p:d.u" in refusal("bigquery://p#d.u")
