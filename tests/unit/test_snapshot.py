"""Snapshots: the good rows by their content, the bad ones in quarantine."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv

from perron.check.table import arrow_schema
from perron.contract import Field, Role, Schema
from perron.errors import DataError, LedgerError, SourceError
from perron.snapshot import read_snapshot, take_snapshot
from perron.source import open_source
from perron.store import Store

SCHEMA = Schema(
    "House",
    None,
    (
        Field(name="rooms", kind="float", column="rooms", ge=0),
        Field(name="place", kind="text", column="place", optional=True),
        Field(name="y", kind="float", column="y", roles=(Role.TARGET,)),
    ),
)
ROWS = "rooms,place,y\n1,007,1.5\n-2,x,2.5\n3,,3.5\n4,y,\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def written(folder: Path, text: str, name: str = "rows.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_good_rows_are_kept_and_bad_ones_are_quarantined_with_their_rules(tmp_path: Path, store: Store) -> None:
    snapshot = take_snapshot(open_source(written(tmp_path, ROWS)), SCHEMA, store)
    assert (snapshot.rows, snapshot.quarantined) == (2, 2)
    assert read_snapshot(store, snapshot.digest).to_pylist() == [
        {"rooms": 1.0, "place": "007", "y": 1.5},
        {"rooms": 3.0, "place": None, "y": 3.5},
    ]
    assert snapshot.quarantine is not None
    quarantine = csv.read_csv(store.get(snapshot.quarantine), convert_options=csv.ConvertOptions(column_types={"rooms": pa.string()}))  # fmt: skip
    assert quarantine.select(["row", "fault", "rooms"]).to_pylist() == [
        {"row": 1, "fault": "rooms: expected a number ≥ 0", "rooms": "-2"},
        {"row": 3, "fault": "y: expected a number", "rooms": "4"},
    ]
    assert [(fault["field"], fault["rule"], fault["rows"]) for fault in snapshot.faults] == [
        ("rooms", "ge", 1), ("y", "required", 1),
    ]  # fmt: skip


def test_the_same_rows_have_the_same_digest_and_others_another(tmp_path: Path, store: Store) -> None:
    one = take_snapshot(open_source(written(tmp_path, ROWS)), SCHEMA, store)
    other_file = written(tmp_path, ROWS.replace("1,007", "1.0,007").replace(",", ";"), "other.csv")
    same = take_snapshot(open_source(other_file), SCHEMA, Store(tmp_path / "other"))
    different = take_snapshot(open_source(written(tmp_path, ROWS.replace("1.5", "1.6"), "third.csv")), SCHEMA, store)
    assert one.digest == same.digest != different.digest


def test_rows_that_are_all_good_have_no_quarantine(tmp_path: Path, store: Store) -> None:
    snapshot = take_snapshot(open_source(written(tmp_path, "rooms,place,y\n1,a,1\n")), SCHEMA, store)
    assert (snapshot.quarantine, snapshot.quarantined, snapshot.faults) == (None, 0, [])
    assert read_snapshot(store, snapshot.digest).schema.equals(arrow_schema(SCHEMA.fields))


@pytest.mark.parametrize(("share", "passes"), [(0.5, True), (0.49, False), (0.0, False), (1.0, True)])
def test_more_bad_rows_than_the_share_are_refused(tmp_path: Path, store: Store, share: float, passes: bool) -> None:
    source = open_source(written(tmp_path, ROWS))
    if passes:
        assert take_snapshot(source, SCHEMA, store, share).quarantined == 2
        return
    with pytest.raises(DataError) as caught:
        take_snapshot(source, SCHEMA, store, share)
    message = str(caught.value)
    assert "2 of 4 rows break the contract (50.0%" in message
    assert "≥ 0, got" in message
    assert "\n" not in message
    named = next(word.rstrip(";") for word in message.split() if word.startswith(str(tmp_path)))
    assert "rooms: expected a number ≥ 0" in Path(named).read_text()  # the quarantine outlives the failure


def test_not_one_good_row_is_refused_whatever_the_share(tmp_path: Path, store: Store) -> None:
    with pytest.raises(DataError, match="2 of 2 rows break the contract"):
        take_snapshot(open_source(written(tmp_path, "rooms,place,y\n-1,a,1\n-2,a,1\n")), SCHEMA, store, 1.0)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("rooms,place,y\n", DataError, "a header and no rows"),
        ("rooms,place\n1,a\n", DataError, "no column 'y'"),
        ("rooms,place,y\n1,a,1\n1,a\n", SourceError, "line 3 has 2 cells"),
    ],
)
def test_a_source_that_gives_nothing_leaves_nothing_in_the_store(
    tmp_path: Path, store: Store, text: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        take_snapshot(open_source(written(tmp_path, text)), SCHEMA, store)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_a_snapshot_that_is_not_there_is_told(store: Store) -> None:
    with pytest.raises(LedgerError, match="no blob"):
        read_snapshot(store, "0" * 64)
