"""Files of tasks and labels, the labelled table, and what the ledger and the log give for them."""

import csv
import io
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Literal
from xml.etree import ElementTree

import pyarrow as pa
import pytest

import perron as pn
from perron.errors import DataError
from perron.labels import free_name
from perron.labels.files import Task, config, read_labels, write_tasks
from perron.labels.table import WithLabels, id_of, merge_labelled, read_labelled, row_id
from perron.ledger import Ledger
from perron.source import open_source


class Fruit(pn.Contract):
    """A piece of fruit."""

    code: str
    grams: Annotated[float, pn.Column("Weight (g)")]
    picked: date | None
    task: int
    ripe: Annotated[Literal["yes", "no <&>"], pn.Target]
    """Whether it can be eaten."""


class Keyed(pn.Contract):
    number: Annotated[int, pn.Id]
    grams: float
    price: Annotated[float, pn.Ge(0), pn.Le(9.5), pn.Unit("EUR"), pn.Target]


class Counted(pn.Contract):
    size: float
    count: Annotated[int, pn.Ge(1), pn.Target]


FRUIT, KEYED = Fruit.__schema__, Keyed.__schema__
TASKS = [
    Task("row-1", {"code": "007", "grams": 0.1 + 0.2, "picked": None, "task": 5}, "yes", {"yes": 0.7, "no <&>": 0.3}, 0.6, "fruit version 3"),
    Task("row-2", {"code": 'a,"b"\n', "grams": 1e-7, "picked": "2024-02-29", "task": 6}, None, None, None, None),
]  # fmt: skip


def test_tasks_as_csv_keep_every_value_and_end_with_the_target(tmp_path: Path) -> None:
    write_tasks(tmp_path / "t.csv", TASKS, FRUIT)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert list(rows[0]) == ["task_", "code", "grams", "picked", "task", "prediction", "score", "ripe"]
    assert rows[0]["code"] == "007" and float(rows[0]["grams"]) == 0.1 + 0.2 and rows[1]["code"] == 'a,"b"\n'
    assert [row["ripe"] for row in rows] == ["", ""] and free_name("task", FRUIT) == "task_"


def test_tasks_as_json_lines_are_typed(tmp_path: Path) -> None:
    write_tasks(tmp_path / "t.jsonl", TASKS, FRUIT)
    rows = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert rows[0]["grams"] == 0.1 + 0.2 and rows[0]["ripe"] is None and rows[1]["picked"] == "2024-02-29"
    assert "prediction" in rows[0] and "prediction" not in rows[1]


def test_label_studios_tasks_point_at_the_controls_of_the_configuration(tmp_path: Path) -> None:
    write_tasks(tmp_path / "t.json", TASKS, FRUIT)
    first, second = json.loads((tmp_path / "t.json").read_text())
    view = ElementTree.fromstring(config(FRUIT))
    table, choices = view.find("Table"), view.find("Choices")
    assert table is not None and choices is not None
    (prediction,) = first["predictions"]
    (result,) = prediction["result"]
    assert (result["from_name"], result["to_name"]) == (choices.attrib["name"], table.attrib["name"])
    assert (
        choices.attrib["toName"] == table.attrib["name"]
        and first["data"][table.attrib["value"].lstrip("$")]["code"] == "007"
    )
    assert result["value"]["choices"][0] in [choice.attrib["value"] for choice in choices]
    assert [choice.attrib["value"] for choice in choices] == ["yes", "no <&>"]
    assert (prediction["score"], prediction["model_version"]) == (0.7, "fruit version 3")
    assert "predictions" not in second
    header = view.find("Header")
    assert header is not None and header.attrib["value"] == "Whether it can be eaten."


def test_a_number_is_asked_for_within_its_bounds_and_a_step_only_of_whole_ones() -> None:
    number = ElementTree.fromstring(config(KEYED)).find("Number")
    assert number is not None
    assert number.attrib == {"name": "price", "toName": "row", "required": "true", "min": "0", "max": "9.5"}
    whole = ElementTree.fromstring(config(Counted.__schema__)).find("Number")
    assert whole is not None and whole.attrib["step"] == "1" and whole.attrib["min"] == "1"


def test_a_contract_without_a_target_has_nothing_to_label() -> None:
    class Visit(pn.Contract, target=False):
        at: date

    with pytest.raises(DataError, match="has no target"):
        config(Visit.__schema__)


def test_labels_are_found_by_the_contracts_id_and_in_the_exporters_columns(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("number,price\n7, 3.5 \n8,\n")
    assert [(g.task, g.labels) for g in read_labels(path, KEYED)] == [("7", ("3.5",)), ("8", ())]
    path = tmp_path / "l.json"
    path.write_text(json.dumps([{"task": "x", "price": 4, "annotator": 1}]))  # Label Studio's JSON_MIN
    assert [(g.task, g.labels) for g in read_labels(path, KEYED)] == [("x", ("4",))]


def test_another_controls_result_counts_only_where_it_is_the_only_one(tmp_path: Path) -> None:
    def result(name: str, value: float) -> dict[str, object]:
        return {"from_name": name, "to_name": "row", "type": "number", "value": {"number": value}}

    cases = [
        [result("mine", 1)],
        [result("price", 2), result("sure", 9)],
        [result("a", 3), result("b", 4)],
        [{"type": "labels"}],
    ]
    tasks = [{"data": {"task": str(n)}, "annotations": [{"result": results}]} for n, results in enumerate(cases)]
    (tmp_path / "l.json").write_text(json.dumps(tasks))
    assert [g.labels for g in read_labels(tmp_path / "l.json", KEYED)] == [("1",), ("2",), (), ()]


def test_two_choices_where_one_was_asked_for_are_no_label(tmp_path: Path) -> None:
    value = {"from_name": "ripe", "to_name": "row", "type": "choices", "value": {"choices": ["yes", "no <&>"]}}
    (tmp_path / "l.json").write_text(json.dumps([{"data": {"task": "1"}, "annotations": [{"result": [value]}]}]))
    assert read_labels(tmp_path / "l.json", FRUIT)[0].labels == ('["yes", "no <&>"]',)


def test_a_rows_id_depends_on_its_values_alone() -> None:
    row = {"code": "007", "grams": 1.0, "picked": date(2024, 1, 1), "task": 1}
    assert row_id(row) == row_id(dict(reversed(row.items()))) == row_id({**row, "more": None})
    assert row_id(row).startswith("row-") and row_id(row) != row_id({**row, "grams": 1.5}) != row_id({**row, "code": 7})
    assert id_of(FRUIT, {**row, "ripe": "yes"}) == row_id(row)  # the target is no part of it
    assert id_of(KEYED, {"number": 7, "grams": 1.0, "price": 2.0}) == "7"
    assert row_id({"at": datetime(2024, 1, 1, tzinfo=UTC)}) == row_id({"at": datetime(2024, 1, 1, tzinfo=UTC)})


def test_the_labelled_table_keeps_what_a_spreadsheet_would_lose(tmp_path: Path) -> None:
    path = tmp_path / "data" / "labels.parquet"
    row = {"code": "007", "grams": 0.1, "picked": None, "task": 1, "ripe": "yes"}
    assert merge_labelled(path, FRUIT, {row_id({**row, "ripe": None}): row}) == (1, 0)
    assert pa.parquet.read_schema(path).names == ["code", "Weight (g)", "picked", "task", "ripe"]
    assert list(read_labelled(path, FRUIT).values()) == [row]
    assert list(read_labelled(path, FRUIT)) == [row_id({**row, "ripe": None})]


def test_a_labelled_table_that_the_contract_no_longer_allows_is_refused(tmp_path: Path) -> None:
    class Cheaper(pn.Contract):
        number: Annotated[int, pn.Id]
        grams: float
        price: Annotated[float, pn.Le(1), pn.Target]

    path = tmp_path / "labels.parquet"
    merge_labelled(path, KEYED, {"1": {"number": 1, "grams": 2.0, "price": 3.0}})
    with pytest.raises(DataError, match="1 rows of .* break the contract"):
        merge_labelled(path, Cheaper.__schema__, {})


def test_a_source_with_labels_has_its_own_columns_and_every_row_once(tmp_path: Path) -> None:
    path, source = tmp_path / "labels.parquet", tmp_path / "s.csv"
    merge_labelled(path, KEYED, {"2": {"number": 2, "grams": 2.5, "price": 3.0}})
    source.write_text("shop,price,number,grams\nhere,1,1,1\nthere,1,2,1\n")
    both = WithLabels(open_source(source), open_source(path), KEYED)
    for _ in range(2):  # it can be read again
        batches = list(both.chunks())
        assert {tuple(batch.schema.names) for batch in batches} == {("shop", "price", "number", "grams")}
        rows = [row for batch in batches for row in batch.to_pylist()]
        assert [(row["shop"], str(row["number"])) for row in rows] == [("here", "1"), (None, "2")]


def test_several_outcomes_are_recorded_together_and_the_newest_is_known(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path)
    ledger.add_outcomes({})
    ledger.add_outcomes({"a": 1.5, "b": "yes"})
    ledger.add_outcome("a", True)
    assert ledger.known_outcomes() == {"a": True, "b": "yes"}
    with pytest.raises(TypeError):
        ledger.add_outcomes({"c": 1, "d": object()})
    assert "c" not in ledger.known_outcomes()
