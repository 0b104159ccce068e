"""The list of logged predictions: order, pages, filters, segments that overlap, bounded work."""

import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perron.predictions import IdMaker, line
from perron.predictions import listing as history
from perron.predictions.listing import Listed, Page, cursor_of, list_predictions, parse_cursor

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Segment:
    """A segment of a log, written at times of the test's choosing."""

    def __init__(self, folder: Path, began: datetime, number: int, model: str = "things", version: int = 1) -> None:
        name = f"{int(began.timestamp() * 1000):012x}{number:08x}"
        self.path, self._new_id = folder / f"{name}.jsonl", IdMaker(name)
        self.path.write_text(json.dumps({"model": model, "version": version, "lineage": {}}) + "\n")

    def add(self, moment: datetime, rows: int = 1, route: str = "champion", request: str | None = None) -> list[str]:
        ids = [self._new_id() for _ in range(rows)]
        body = request or json.dumps({"rows": [{"x": n} for n in range(rows)]})
        reply = json.dumps({"predictions": [{"id": one, "value": n} for n, one in enumerate(ids)]})
        with self.path.open("ab") as file:
            file.write(line(text(moment).encode(), route.encode(), body.encode(), reply.encode()))
        os.utime(self.path, (moment.timestamp(), moment.timestamp()))
        return ids


def everything(folder: Path, limit: int = 3, **filters: Any) -> list[Listed]:
    """All pages together; each but the last says where to go on, and none is longer than it may be."""
    found: list[Listed] = []
    page = Page((), cursor_of(("9999-01-01T00:00:00.000Z", "~")))
    while page.next is not None:
        page = list_predictions(folder, limit=limit, before=parse_cursor(page.next), **filters)
        assert len(page.predictions) <= limit
        found += page.predictions
    return found


def test_a_log_that_is_empty_or_not_there_has_no_predictions(tmp_path: Path) -> None:
    assert list_predictions(tmp_path / "nowhere", limit=5) == Page((), None)
    Segment(tmp_path, START, 1)
    (tmp_path / "notes.jsonl").write_text("nothing of ours\n")
    (tmp_path / "0123456789abcdef0123.jsonl").write_bytes(b"")
    assert list_predictions(tmp_path, limit=5) == Page((), None)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 5)), max_size=40), st.integers(1, 12))
def test_pages_hold_every_prediction_once_newest_first(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, int, int]], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    segments = [Segment(folder, START + timedelta(milliseconds=n), n, version=n) for n in range(4)]
    written: list[tuple[str, str]] = []
    for number, after, rows in sorted(lines, key=lambda one: one[1]):
        moment = START + timedelta(milliseconds=10 + after)
        written += [(text(moment), one) for one in segments[number].add(moment, rows)]
    found = everything(folder, limit)
    assert [(one.time, one.id) for one in found] == sorted(written, reverse=True)
    second = everything(folder, limit, version=2)
    assert [one.id for one in second] == [one.id for one in found if one.version == 2]


def test_filters_are_by_model_route_and_time(tmp_path: Path) -> None:
    things, others = Segment(tmp_path, START, 1), Segment(tmp_path, START, 2, model="others")
    for minute in range(6):
        moment = START + timedelta(minutes=minute)
        things.add(moment, route="champion" if minute % 2 else 'challenger","trace":"00-aa')
        others.add(moment)
    assert {one.model for one in everything(tmp_path, model="others")} == {"others"}
    assert len(everything(tmp_path, model="others")) == 6 and everything(tmp_path, model="nobody") == []
    assert [one.time[14:16] for one in everything(tmp_path, model="things", route="challenger")] == ["04", "02", "00"]
    since, until = START + timedelta(minutes=2), START + timedelta(minutes=3)
    assert [one.time[14:16] for one in everything(tmp_path, since=since, until=until)] == ["03", "03", "02", "02"]
    shifted = until.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert len(everything(tmp_path, since=since, until=shifted)) == 4
    assert everything(tmp_path, until=datetime.min) == [] and everything(tmp_path, since=datetime.max) == []


def test_a_line_cut_off_a_strange_request_and_new_lines_in_between_do_no_harm(tmp_path: Path) -> None:
    segment = Segment(tmp_path, START, 1)
    segment.add(START)
    segment.add(START + timedelta(seconds=1), request='{"rows": [{"x": "\\ud800"}]}')
    page = list_predictions(tmp_path, limit=1)
    segment.add(START + timedelta(seconds=2))
    with segment.path.open("ab") as file:
        file.write(b'{"time":"2026-01-31T12:00:09.000Z","route":"champion","request":{"rows"')
    assert page.next is not None
    following = list_predictions(tmp_path, limit=9, before=parse_cursor(page.next))
    assert [one.time for one in following.predictions] == [text(START)]
    assert len(everything(tmp_path)) == 3


def test_the_work_of_a_page_is_bounded_and_the_next_page_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segment(tmp_path, START, 1)
    for second in range(50):
        segment.add(START + timedelta(seconds=second), route="rare" if second == 0 else "champion")
    monkeypatch.setattr(history, "MOST_BYTES", 1000)
    page = list_predictions(tmp_path, limit=5, route="rare")
    assert page.predictions == () and page.next is not None
    assert [one.time for one in everything(tmp_path, route="rare")] == [text(START)]


def test_only_the_segments_that_may_hold_something_newer_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        Segment(tmp_path, START + timedelta(hours=number), number).add(START + timedelta(hours=number, minutes=1), 5)
    opened: list[Path] = []
    real = history._Segment._fill
    monkeypatch.setattr(history._Segment, "_fill", lambda self: (opened.append(self._path), real(self))[1])
    assert len(list_predictions(tmp_path, limit=5).predictions) == 5
    assert len(set(opened)) <= 2


@pytest.mark.parametrize(
    "text", ["", "x", "é", "AAAA", cursor_of(("yesterday", "~")), cursor_of(("2026-01-31", "../x")), "%00"]
)
def test_what_is_no_cursor_is_none(text: str) -> None:
    assert parse_cursor(text) is None
