"""Lags and rolling statistics: what they are by definition, that no row sees its future, and that serving computes what training did."""

import json
import math
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import perron as pn
from perron import history
from perron.check.table import arrow_schema
from perron.contract import Schema, schema_of
from perron.history import Past, check_history, requested, series_field
from perron.history.state import FILES, History, read_history
from perron.history.table import add_pasts, of_file, pack_table

HOUR = timedelta(hours=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
STATISTICS = ("mean", "sum", "min", "max", "std", "count")


class Reading(pn.Contract):
    """A station's reading."""

    at: Annotated[datetime, pn.Time]
    station: Annotated[str, pn.Group]
    region: Annotated[int, pn.Ignore]
    x: Annotated[float, pn.Ignore] | None
    on: bool
    y: Annotated[float, pn.Target]


DECLARED = [
    history.lag("y", steps=[1, 2, 5]),
    history.lag("x", [HOUR, 3 * HOUR]),
    history.lag("x", steps=1, by="region"),
    history.lag("on", steps=1),
    *[history.rolling("y", name, window=3) for name in STATISTICS],
    *[history.rolling("x", name, window=4 * HOUR, after=HOUR) for name in STATISTICS],
    *[history.rolling("x", name, window=2, after=2, by="region") for name in STATISTICS],
    history.rolling("y", "mean", window=5 * HOUR),
]
PASTS = check_history(DECLARED, schema_of(Reading), pn.split.by_time(), "a system")
SCHEMA = requested(schema_of(Reading), PASTS)
Row = dict[str, Any]

numbers = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1e15, -1e15, 0.1, 1e-300])
rows_of_any_order = st.lists(
    st.fixed_dictionaries(
        {
            "at": st.integers(0, 12).map(lambda hours: START + hours * HOUR / 2),
            "station": st.sampled_from(["a", "b", "ü"]),
            "region": st.integers(0, 1),
            "x": st.none() | numbers,
            "on": st.booleans(),
            "y": numbers,
        }
    ),
    min_size=1,
    max_size=40,
)


def trained(rows: Sequence[Row], pasts: Sequence[Past] = PASTS, schema: Schema = SCHEMA) -> dict[str, Any]:
    table = add_pasts(pa.Table.from_pylist(list(rows), arrow_schema(schema.fields)), schema, pasts)
    return {past.name: np.asarray(table[past.name]) for past in pasts}


def opened(folder: Path, rows: Sequence[Row], taken: float = 0.0, schema: Schema = SCHEMA) -> History:
    """The state that a bundle made of these rows begins with."""
    files = pack_table(pa.Table.from_pylist(list(rows), arrow_schema(schema.fields)), schema, PASTS, taken)
    assert tuple(files) == FILES
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return read_history(folder, schema)


def sent(row: Row) -> tuple[Any, ...]:
    """The row as the server decodes it."""
    return tuple(row[field.name] for field in SCHEMA.request)


def as_json(row: Row) -> dict[str, Any]:
    """The row as the log has it."""
    given = {name: value for name, value in row.items() if name != "y" and value is not None}
    return dict(json.loads(json.dumps(given, default=lambda value: value.isoformat())))


def same(a: Any, b: Any) -> bool:
    """To the last bit; but 0.0 is -0.0, since SQLite keeps no sign of zero."""
    return np.array_equal(a, b, equal_nan=True)


# ------------------------------------------------------------------ by definition


def defined(rows: Sequence[Row], row: Row, past: Past) -> float:
    """A past by the letter of its definition, one row at a time."""
    by = series_field(past, SCHEMA)
    moments: dict[datetime, float | None] = {}
    for other in rows:
        if by is None or other[by] == row[by]:
            value = other[past.field]
            moments[other["at"]] = moments.get(other["at"]) if value is None else float(value)
    before = sorted(time for time in moments if time < row["at"])
    span, after = timedelta(microseconds=past.span_us), timedelta(microseconds=past.after_us)
    if past.kind == "lag" and past.steps:
        value = moments[before[-past.steps]] if len(before) >= past.steps else None
        return math.nan if value is None else value
    if past.kind == "lag":
        known = [v for time in before if time <= row["at"] - span and (v := moments[time]) is not None]
        return known[-1] if known else math.nan
    if past.steps:
        ends = len(before) - past.after
        window = before[max(ends - past.steps, 0) : max(ends, 0)]
    else:
        window = [time for time in before if row["at"] - after - span <= time < row["at"] - after]
    known = [v for time in window if (v := moments[time]) is not None]
    if past.kind == "count":
        return float(len(known))
    if not known or (past.kind == "std" and len(known) < 2):
        return math.nan
    exact: dict[str, Any] = {
        "mean": statistics.fmean, "sum": math.fsum, "min": min, "max": max, "std": statistics.stdev,
    }  # fmt: skip
    return float(exact[past.kind](known))


@given(rows_of_any_order)
def test_each_past_is_what_its_definition_says(rows: list[Row]) -> None:
    found = trained(rows)
    scale = max([1.0, *(abs(row[name] or 0.0) for row in rows for name in ("x", "y"))])
    for past in PASTS:
        expected = [defined(rows, row, past) for row in rows]
        np.testing.assert_allclose(found[past.name], expected, rtol=1e-12, atol=1e-13 * scale, err_msg=past.name)


def test_long_windows_are_right_at_every_length() -> None:
    chance = np.random.default_rng(0)
    y = chance.normal(size=700)
    rows = [
        {"at": START + n * HOUR, "station": "a", "region": 0, "x": 1.0, "on": True, "y": v} for n, v in enumerate(y)
    ]
    for window in (1, 2, 3, 7, 8, 63, 64, 65, 500):
        pasts = [history.rolling("y", name, window=window, after=2)[0] for name in ("mean", "std", "max")]
        found = trained(rows, pasts)
        for row in (3, 10, 66, 699):
            part = y[max(row - 2 - window, 0) : row - 2]
            got = [found[past.name][row] for past in pasts]
            expected = [part.mean(), part.std(ddof=1) if part.size > 1 else np.nan, part.max()]
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-13)


def test_the_spread_of_equal_values_is_zero_and_a_large_value_leaves_no_trace() -> None:
    values = [1e16, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 0.1]
    rows = [
        {"at": START + n * HOUR, "station": "a", "region": 0, "x": 1.0, "on": True, "y": v}
        for n, v in enumerate(values)
    ]
    pasts = [*history.rolling("y", "std", window=3), *history.rolling("y", "sum", window=3)]
    found = trained(rows, pasts)
    assert found["y.std_3"][4] == 0.0 and found["y.std_3"][8] == 0.0
    assert found["y.sum_3"][4] == 3.0


def test_infinity_is_missing() -> None:
    rows = [{"at": START + n * HOUR, "station": "a", "region": 0, "x": 1.0, "on": True, "y": 1.7e308} for n in range(4)]
    found = trained(rows, [*history.rolling("y", "sum", window=3), *history.rolling("y", "max", window=3)])
    assert np.isnan(found["y.sum_3"][3]) and found["y.max_3"][3] == 1.7e308


# ------------------------------------------------------------------ no row sees its future


@given(rows_of_any_order, st.data())
def test_no_row_sees_its_future(rows: list[Row], data: st.DataObject) -> None:
    """Whatever happens at or after a moment (other values, more rows, fewer rows), no row up to that moment sees it."""
    moment = data.draw(st.sampled_from(sorted({row["at"] for row in rows})))
    later = [place for place, row in enumerate(rows) if row["at"] >= moment]
    other, kept = [dict(row) for row in rows], list(range(len(rows)))
    for place in data.draw(st.lists(st.sampled_from(later), unique=True)):
        match data.draw(st.sampled_from(["change", "remove", "repeat"])):
            case "change":
                new = data.draw(st.fixed_dictionaries({"x": st.none() | numbers, "y": numbers, "on": st.booleans()}))
                other[place] |= new
            case "remove" if other[place]["at"] > moment:
                kept.remove(place)
            case _:
                other.append({**other[place], "y": data.draw(numbers)})
                kept.append(len(other) - 1)
    before, after = trained(rows), trained([other[place] for place in kept])
    mine = [place for place, row in enumerate(rows) if row["at"] <= moment]
    where = [kept.index(place) for place in mine]
    for past in PASTS:
        assert same(before[past.name][mine], after[past.name][where]), past.name


def test_the_proof_can_fail() -> None:
    """A row's own value is seen by the rows after it: the property above isn't empty."""
    rows = [
        {"at": START + n * HOUR, "station": "a", "region": 0, "x": 1.0, "on": True, "y": float(n)} for n in range(3)
    ]
    changed = [rows[0], {**rows[1], "y": 9.0}, rows[2]]
    before, after = trained(rows)["y.lag_1"], trained(changed)["y.lag_1"]
    assert np.isnan(before[0]) and before[1:].tolist() == [0.0, 1.0] and after[1:].tolist() == [0.0, 9.0]


# ------------------------------------------------------------------ serving computes what training did


@given(rows_of_any_order, st.integers(0, 40), st.booleans())
def test_rows_replayed_through_the_state_get_what_training_gave(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], first: int, restart: bool
) -> None:
    """A bundle of the first rows, then the others one by one with their outcomes: bit for bit the pasts of the whole table."""
    rows = sorted(rows, key=lambda row: row["at"])
    first = min(first, len(rows) - 1)
    folder = tmp_path_factory.mktemp("replay")
    state = opened(folder, rows[:first])
    if restart:
        state.attach(folder / "journal.db")
    expected = trained(rows)
    for place, row in enumerate(rows[first:], first):
        if restart and place % 7 == 3:
            state.close()
            state = read_history(folder, SCHEMA)
            state.attach(folder / "journal.db")
        found = state.features([sent(row)])
        assert tuple(found) and set(found) == {past.name for past in PASTS}
        for name, numbers_ in found.items():
            assert same(numbers_, expected[name][place : place + 1]), (name, numbers_, expected[name][place])
        state.observe([sent(row)])
        state.observe_outcome(as_json(row), row["y"])
    state.close()


@given(rows_of_any_order)
def test_rows_of_one_request_see_each_other(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    """But for the target, which a request doesn't have; and the state stays as it was."""
    state = opened(tmp_path_factory.mktemp("together"), rows[:1])
    blind = [{**row, "y": row["y"] if place == 0 else math.nan} for place, row in enumerate(rows)]
    expected = trained(blind)
    for _ in range(2):
        found = state.features([sent(row) for row in rows])
        for name, numbers_ in found.items():
            assert same(numbers_, expected[name]), name


@given(rows_of_any_order, st.integers(0, 40))
def test_a_file_gets_what_training_gave_whatever_its_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], first: int
) -> None:
    folder = tmp_path_factory.mktemp("file")
    first = min(first, len(rows) - 1)
    state = opened(folder, rows[:first])
    state.attach(folder / "journal.db")
    batches = pa.Table.from_pylist(rows[first:], arrow_schema(SCHEMA.fields)).to_batches(max_chunksize=7)
    done = of_file(state, iter(batches))
    expected = trained(rows)
    for name, numbers_ in done.pasts.items():
        assert same(numbers_, expected[name][first:]), name
    done.remember()
    probes = [{**row, "at": START + 40 * HOUR} for row in rows]  # of one moment: they don't see each other
    then = trained([*rows, *[{**row, "x": None, "y": math.nan} for row in probes]])
    state.close()
    again = read_history(folder, SCHEMA)
    again.attach(folder / "journal.db")
    for place, probe in enumerate(probes):
        for name, numbers_ in again.features([sent({**probe, "x": None})]).items():
            assert same(numbers_, then[name][len(rows) + place : len(rows) + place + 1]), name
    again.close()


def test_a_state_that_lets_old_moments_go_still_gives_what_training_gave(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    rows = [
        {
            "at": START + n * HOUR, "station": "ab"[n % 2], "region": 0,
            "x": float(chance.normal()), "on": True, "y": float(chance.normal()),
        }
        for n in range(400)
    ]  # fmt: skip
    state = opened(tmp_path, rows[:100])
    state.attach(tmp_path / "journal.db")
    expected = trained(rows)
    for place, row in enumerate(rows[100:], 100):
        for name, numbers_ in state.features([sent(row)]).items():
            assert same(numbers_, expected[name][place : place + 1]), name
        state.observe([sent(row)])
        state.observe_outcome(as_json(row), row["y"])
    sizes = [block.times.size for scope in state.scopes for block in scope.series.values()]
    assert max(sizes) <= 2 * max(scope.keep for scope in state.scopes) < 100
    assert _entries(tmp_path / "journal.db") < 300
    state.close()


def _entries(path: Path) -> int:
    import sqlite3

    with sqlite3.connect(path) as db:
        found: int = db.execute("SELECT count(*) FROM observed").fetchone()[0]
    db.close()
    return found


# ------------------------------------------------------------------ late, repeated and corrected


def row_at(hours: float, **more: Any) -> Row:
    return {"at": START + hours * HOUR, "station": "a", "region": 0, "x": 1.0, "on": True, "y": 0.0} | more


def test_late_repeated_and_corrected_outcomes_count_by_series_and_time_and_the_newest_wins(tmp_path: Path) -> None:
    state = opened(tmp_path, [row_at(0, y=5.0)])
    for hours in (1, 2):
        state.observe([sent(row_at(hours))])
    now = sent(row_at(3))
    assert np.isnan(state.features([now])["y.lag_1"][0])  # the row was seen, its outcome wasn't
    state.observe_outcome(as_json(row_at(2)), 20.0)
    state.observe_outcome(as_json(row_at(1)), 10)  # late
    assert [state.features([now])[f"y.lag_{n}"][0] for n in (1, 2)] == [20.0, 10.0]
    state.observe_outcome(as_json(row_at(2)), 20.0)  # repeated
    state.observe_outcome(as_json(row_at(1)), 11.0)  # corrected
    state.observe([sent(row_at(2))])  # asked again: what is known stays
    found = state.features([now])
    assert [found[f"y.lag_{n}"][0] for n in (1, 2)] == [20.0, 11.0] and found["y.count_3"][0] == 3.0
    state.observe_outcome(as_json(row_at(2, station="b")), 99.0)  # another series
    assert state.features([now])["y.lag_1"][0] == 20.0


def test_processes_that_share_a_journal_see_what_the_others_observe(tmp_path: Path) -> None:
    server, command = opened(tmp_path, [row_at(0)]), opened(tmp_path, [row_at(0)])
    for state in (server, command):
        state.attach(tmp_path / "journal.db")
    server.observe([sent(row_at(1, x=7.0))])
    command.observe_outcome(as_json(row_at(1)), 42.0)
    server.observe([sent(row_at(2, x=8.0))])  # a write between: what the other wrote isn't passed over
    found = server.features([sent(row_at(3))])
    assert found["y.lag_2"][0] == 42.0 and np.isnan(found["y.lag_1"][0])
    assert command.features([sent(row_at(3))])["x.lag_1h"][0] == 8.0
    for state in (server, command):
        state.close()


def test_what_was_observed_before_the_snapshot_fills_gaps_only(tmp_path: Path) -> None:
    old = opened(tmp_path / "old", [row_at(0)])
    old.attach(tmp_path / "journal.db")
    old.observe_outcome(as_json(row_at(1)), 1.0)
    old.observe_outcome(as_json(row_at(2)), 2.0)
    new = opened(tmp_path / "new", [row_at(0), row_at(1, y=100.0)], taken=4e9)  # the source was mended since
    new.attach(tmp_path / "journal.db")
    assert [new.features([sent(row_at(3))])[f"y.lag_{n}"][0] for n in (1, 2)] == [2.0, 100.0]
    earlier = opened(tmp_path / "earlier", [row_at(0), row_at(1, y=100.0)], taken=0.0)
    earlier.attach(tmp_path / "journal.db")
    assert [earlier.features([sent(row_at(3))])[f"y.lag_{n}"][0] for n in (1, 2)] == [2.0, 1.0]
    for state in (old, new, earlier):
        state.close()


def test_a_series_that_nobody_has_seen_has_no_past(tmp_path: Path) -> None:
    found = opened(tmp_path, [row_at(0)]).features([sent(row_at(1, station="new", region=9))])
    assert {name for name, value in found.items() if not np.isnan(value[0])} == {
        past.name for past in PASTS if past.kind == "count"
    }


def test_the_state_of_many_series_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perron.history.state.MOST_SERIES", 10)
    state = opened(tmp_path, [row_at(0)])
    state.attach(tmp_path / "journal.db")
    for n in range(50):
        state.observe([sent(row_at(1 + n, station=f"s{n}"))])
    assert [len(scope.series) for scope in state.scopes] == [10, 1]
    assert list(state.scopes[0].series) == [f"s{n}" for n in range(40, 50)]
    state.close()
