"""MLflow's scoring protocol: every format, CSV, and what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

import perron as pn
from perron.contract import schema_of
from perron.demonstration import serving
from perron.serve.mlflow import rows_of_csv

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def address(things: Path) -> Iterator[str]:
    with serving(things, "--max-rows", "100") as (place, _):
        yield place


@pytest.fixture
def frame(thing: dict[str, Any]) -> pd.DataFrame:
    """Rows as MLflow's clients have them."""
    return pd.DataFrame([thing, {**thing, "size": 8.0, "word": None}, {**thing, "kind": "c", "code": None}])


def invoke(address: str, body: Any, kind: str = "application/json") -> httpx.Response:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return httpx.post(f"{address}/invocations", content=content, headers={"Content-Type": kind}, timeout=30)


def test_every_format_gets_the_same_predictions_each_with_a_receipt(address: str, frame: pd.DataFrame) -> None:
    rows = json.loads(frame.to_json(orient="records"))
    wanted = [
        one["value"] for one in httpx.post(f"{address}/v1/predictions", json={"rows": rows}).json()["predictions"]
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    csv = frame.to_csv(index=False)
    for answer in (
        invoke(address, f'{{"dataframe_split": {frame.to_json(orient="split")}}}'),  # as mlflow.deployments writes it
        invoke(address, f'{{"dataframe_records": {frame.to_json(orient="records")}}}'),
        invoke(address, {"instances": rows}), invoke(address, {"inputs": rows}), invoke(address, {"inputs": columns}),
        invoke(address, {"inputs": columns, "params": {}}), invoke(address, csv, "text/csv"), invoke(address, csv, "text/csv; charset=utf-8"),
        invoke(address, "\ufeff" + csv.replace("\n", "\r\n"), "text/csv"),
    ):  # fmt: skip
        assert answer.status_code == 200, answer.text
        given = answer.json()
        assert given["predictions"] == wanted
        assert [
            httpx.get(f"{address}/v1/predictions/{one}").json()["prediction"]["value"] for one in given["perron"]["ids"]
        ] == wanted
    assert invoke(address, {"inputs": rows[0]}).json()["predictions"] == wanted[:1]


BAD: list[tuple[str, Any, str, str]] = [
    ("not JSON", "{", "application/json", "isn't JSON"),
    ("bad UTF-8", b'{"inputs": "\xff"}', "application/json", "isn't JSON"),
    ("deep", "[" * 5000, "application/json", "isn't JSON"),
    ("a list", [], "application/json", "one of the keys"),
    ("perron's own", {"rows": []}, "application/json", "'rows' is none of MLflow's formats"),
    ("two formats", {"inputs": [], "instances": []}, "application/json", "2 came"),
    ("none", {}, "application/json", "0 came"),
    ("parameters", {"inputs": [{}], "params": {"alpha": 1}}, "application/json", "takes no params"),
    ("values without names", {"instances": [[1, 2]]}, "application/json", "values without names"),
    ("an object as instances", {"instances": {}}, "application/json", "must be a list of rows"),
    ("columns of two lengths", {"inputs": {"size": [1, 2], "kind": ["a"]}}, "application/json", "lists of one length"),
    ("split without columns", {"dataframe_split": {"data": []}}, "application/json", "dataframe_split must be"),
    (
        "split with a short row",
        {"dataframe_split": {"columns": ["size", "kind"], "data": [[1]]}},
        "application/json",
        "data[0]",
    ),
    (
        "split with a column twice",
        {"dataframe_split": {"columns": ["size", "size"], "data": [[1, 2]]}},
        "application/json",
        "twice",
    ),
    ("split with more", {"dataframe_split": {"columns": [], "data": [], "dtypes": []}}, "application/json", "'dtypes'"),
    ("no rows", {"inputs": []}, "application/json", "empty"),
    ("rows that aren't objects", {"inputs": [None]}, "application/json", "1 value breaks"),
    ("an empty CSV", "", "text/csv", "a header and at least one row"),
    ("a CSV of another width", "size,kind\n1,a\n1\n", "text/csv", "Row 1 of the CSV has 1 cells"),
    ("a CSV with a column twice", "size,size\n1,1\n", "text/csv", "twice"),
    ("a CSV that isn't UTF-8", b"size\n\xff\n", "text/csv", "isn't UTF-8"),
    ("a CSV with an open quote", 'size\n"1\n', "text/csv", "isn't CSV"),
    ("a CSV with NUL", "size\n\x00\n", "text/csv", "value"),
]


@pytest.mark.parametrize(("body", "kind", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_cannot_be_read_is_400_in_mlflows_form_and_as_a_problem(
    address: str, body: Any, kind: str, words: str
) -> None:
    refused = invoke(address, body, kind)
    assert refused.status_code == 400 and refused.headers["content-type"] == "application/problem+json"
    problem = refused.json()
    assert problem["error_code"] == "BAD_REQUEST" and words in problem["detail"] + problem["message"]


def test_a_broken_contract_names_every_field_in_the_message(address: str, thing: dict[str, Any]) -> None:
    problem = invoke(address, {"inputs": [{**thing, "size": -1, "colour": "red"}]}).json()
    assert problem["status"] == 400 and [error["rule"] for error in problem["errors"]] == ["ge", "unknown"]
    assert "rows[0].size" in problem["message"] and "rows[0].colour" in problem["message"]
    csv = invoke(address, "size,kind,on,day,code\n1,a,maybe,2024-01-01,two\n1_0,b,no,2024-01-01,3\n", "text/csv").json()
    assert [(error["row"], error["field"], error["rule"]) for error in csv["errors"]] == [
        (0, "code", "type"),
        (0, "on", "type"),
        (1, "size", "type"),
    ]
    assert invoke(address, {"inputs": [thing] * 101}).status_code == 413
    assert invoke(address, "x", "text/plain").status_code == 415


def test_mlflows_other_paths(address: str) -> None:
    for path in ("/ping", "/health"):
        answer = httpx.get(address + path)
        assert answer.status_code == 200 and answer.text == "\n"
    assert httpx.get(f"{address}/version").text == pn.__version__


def test_cells_are_read_by_their_fields_kind_as_tables_are() -> None:
    from datetime import date, datetime
    from typing import Annotated, Literal

    class Mixed(pn.Contract):
        number: Annotated[float | None, pn.Column("The Number")]
        whole: int
        flag: bool
        text: str | None
        kind: Literal["NA", "b"]
        day: date
        moment: datetime
        target: Annotated[float, pn.Target]

    head = "The Number,whole,flag,text,kind,day,moment,other\n"
    lines = " 1.5 ,41.0,YES,007,NA,2024-02-29,2024-02-29T12:00:00Z,1\nNA,1e3,f,,b, ,x,\n1e999,9_9,maybe, NA ,c,,,"
    assert rows_of_csv(schema_of(Mixed), (head + lines).encode()) == [
        {"number": 1.5, "whole": 41.0, "flag": True, "text": "007", "kind": "NA", "day": "2024-02-29", "moment": "2024-02-29T12:00:00Z", "other": "1"},
        {"number": None, "whole": 1000.0, "flag": False, "text": None, "kind": "b", "day": None, "moment": "x", "other": ""},
        {"number": "1e999", "whole": "9_9", "flag": "maybe", "text": " NA ", "kind": "c", "day": None, "moment": None, "other": ""},
    ]  # fmt: skip
