"""The request decoder: it accepts what the judge finds no fault with, and refuses the rest by name."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schemas import schemas

from perron.check import as_utc, judge_row, parse
from perron.check.request import MOST_FAULTS, Decoder, Rejection
from perron.contract import Field, Role, Schema
from perron.derive.sampler import breaks, rows

TARGET = Field(name="y", column="y", kind="float", roles=(Role.TARGET,))
FLOAT = Field(name="x", column="x", kind="float")
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=5)
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats()
    | ANY_TEXT
    | st.sampled_from(["2020-01-01", "2020-01-01T00:00:00Z", "INLAND", "a", "007"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_TEXT, inner, max_size=2),
    max_leaves=4,
)


def decoder(*fields: Field, max_rows: int = 1000) -> Decoder:
    return Decoder(Schema("House", None, (*fields, TARGET)), max_rows)


def refuse(decode: Decoder, body: bytes | str) -> Rejection:
    rejection = decode(body if isinstance(body, bytes) else body.encode())
    assert isinstance(rejection, Rejection)
    assert rejection.detail
    assert "\n" not in rejection.detail
    return rejection


def row_of(*given: tuple[str, object]) -> str:
    return json.dumps({"rows": [dict(given)]})


# ------------------------------------------------------------------ one judge


def same_as_judge(schema: Schema, row: Any) -> None:
    """The decoder's verdict on one row is the judge's, in its faults and in its values."""
    body = json.dumps({"rows": [row]}).encode()
    fields = {field.name: field for field in schema.request}
    target = schema.target
    faults = list(judge_row(fields, target.name if target else None, row, 0))
    verdict = Decoder(schema, 10)(body)
    if isinstance(verdict, Rejection):
        if verdict.reason == "malformed":  # NaN and Infinity, which are no JSON
            assert b"NaN" in body or b"Infinity" in body
        else:
            assert faults
            assert [(f.field, f.rule) for f in verdict.faults] == [(f.field, f.rule) for f in faults]
            assert verdict.count == len(faults)
        msgspec.json.encode([fault.to_json() for fault in verdict.faults])  # can be sent back, whatever came
    else:
        assert faults == []
        assert len(verdict) == 1
        for field, value in zip(schema.request, verdict[0], strict=True):
            given = row.get(field.name)
            plain = as_utc(value) if isinstance(value, datetime) else value
            assert plain == (None if given is None else parse(field, given))
            if field.kind != "float":
                assert type(value) is (type(None) if given is None else type(parse(field, given)))


@given(st.data())
def test_a_valid_row_is_accepted_as_it_was_meant(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    same_as_judge(schema, data.draw(rows(schema)))


@given(st.data())
def test_a_row_that_breaks_one_rule_is_refused_by_that_rule(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    row = data.draw(rows(schema))
    for field, rule, value in breaks(schema.request):
        broken = {**row, field.name: value}
        same_as_judge(schema, broken)
        verdict = Decoder(schema, 10)(json.dumps({"rows": [row, broken]}).encode())
        assert isinstance(verdict, Rejection)
        if verdict.reason != "malformed":
            assert [(fault.row, fault.field, fault.rule) for fault in verdict.faults] == [(1, field.name, rule)]


@given(st.data())
def test_a_row_of_any_json_gets_the_judges_verdict(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    names = st.sampled_from([field.name for field in schema.fields]) | ANY_TEXT
    row = data.draw(rows(schema)) | data.draw(st.dictionaries(names, JUNK, max_size=3))
    same_as_judge(schema, row)


@given(st.data())
@settings(max_examples=200)
def test_any_bytes_get_rows_or_a_rejection_and_never_an_error(data: st.DataObject) -> None:
    decode = decoder(FLOAT, replace(FLOAT, name="t", column="t", kind="text", optional=True))
    good = b'{"rows":[{"x":1,"t":"a"}]}'
    place = data.draw(st.integers(0, len(good)))
    body = good[:place] + data.draw(st.binary(max_size=6)) + good[data.draw(st.integers(place, len(good))) :]
    verdict = decode(body)
    assert isinstance(verdict, list | Rejection)


# ------------------------------------------------------------------ whole numbers


@pytest.mark.parametrize("text", ["41.0", "4.1e1", "41", "410e-1"])
def test_a_whole_number_is_accepted_however_it_is_written(text: str) -> None:
    decode = decoder(replace(FLOAT, kind="int"), replace(FLOAT, name="c", column="c", kind="category", values=(41, 42)))
    ((x, c),) = decode(b'{"rows":[{"x":%b,"c":%b}]}' % (text.encode(), text.encode()))
    assert (x, c) == (41, 41)
    assert (type(x), type(c)) == (int, int)


def test_bounds_of_whole_numbers_may_be_fractions_or_beyond_64_bits() -> None:
    decode = decoder(replace(FLOAT, kind="int", ge=1.5, lt=10**30))
    assert decode(b'{"rows":[{"x":2}]}') == [(2,)]
    assert [fault.rule for fault in refuse(decode, '{"rows":[{"x":1}]}').faults] == ["ge"]


# ------------------------------------------------------------------ bodies


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        (b"", "malformed", "isn't JSON"),
        (b"{", "malformed", "isn't JSON"),
        (b"rows", "malformed", "isn't JSON"),
        (b'{"rows":[{"x":1}]} x', "malformed", "isn't JSON"),
        (b'\xef\xbb\xbf{"rows":[{"x":1}]}', "malformed", "BOM"),
        (b'{"rows":[{"x":"\xff"}]}', "malformed", "isn't UTF-8: byte 15"),
        (b'{"rows":[{"x":NaN}]}', "malformed", "NaN is not JSON"),
        (b'{"rows":[{"x":-Infinity}]}', "malformed", "-Infinity is not JSON"),
        (b'{"rows":[{"x":01}]}', "malformed", "isn't JSON"),
        (b'{"rows":[{"x":1' + b"0" * 5000 + b"}]}", "invalid", "1 value breaks the contract"),
        (b'{"rows":' + b"[" * 100_000, "malformed", "nested too deeply"),
        (b"null", "invalid", '"rows"'),
        (b"[]", "invalid", '"rows"'),
        (b"[1]", "invalid", '"rows"'),
        (b'{"x":1}', "invalid", '"rows"'),
        (b'{"rows":{"x":1}}', "invalid", '"rows"'),
        (b'{"rows":[{"x":1}],"more":1}', "invalid", '"rows"'),
        (b'{"rows":[]}', "invalid", "rows is empty"),
        (b'{"rows":[1]}', "invalid", "1 value breaks the contract"),
        (b'{"rows":[{"x":1e999}]}', "invalid", "1 value breaks the contract"),
        (b'{"rows":[{"x":1' + b"0" * 400 + b"}]}", "invalid", "1 value breaks the contract"),
        (b'{"rows":[{"x":"\\ud800"},{"x":[]}]}', "invalid", "2 values break the contract"),
        (b'{"rows":[{"x":1},{"x":1},{"x":1},{"x":1}]}', "too_many_rows", "4 rows are more than 3"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_in_words(body: bytes, reason: str, words: str) -> None:
    rejection = refuse(decoder(FLOAT, max_rows=3), body)
    assert rejection.reason == reason
    assert words in rejection.detail


@pytest.mark.parametrize("depth", [50, 500, 900, 990, 998, 1_500, 10_000])
def test_a_value_nested_at_any_depth_is_refused_and_never_an_error(depth: int) -> None:
    body = b'{"rows":[{"x":' + b"[" * depth + b"]" * depth + b"}]}"
    assert refuse(decoder(FLOAT), body).reason in ("invalid", "malformed")


@pytest.mark.parametrize("name", ["\\ud800", "x" * 10_000, "", "\\u0000", "rows[0].x"])
def test_an_unknown_field_of_any_name_can_be_sent_back(name: str) -> None:
    rejection = refuse(decoder(FLOAT), '{"rows":[{"x":1,"' + name + '":2}]}')
    (fault,) = rejection.faults
    assert fault.rule == "unknown"
    assert len(msgspec.json.encode(fault.to_json())) < 1000


def test_the_last_of_duplicate_keys_counts() -> None:
    assert decoder(FLOAT)(b'{"rows":[{"x":1,"x":2}]}') == [(2.0,)]
    assert decoder(FLOAT)(b'{"rows":[{"x":"a","x":2}]}') == [(2.0,)]
    assert [fault.rule for fault in refuse(decoder(FLOAT), '{"rows":[{"x":1,"x":"a"}]}').faults] == ["type"]


def test_the_target_and_unknown_fields_are_refused_by_name() -> None:
    faults = refuse(
        decoder(replace(FLOAT, name="rooms", column="rooms")), row_of(("rooms", 1), ("room", 1), ("y", 2))
    ).faults
    assert [(fault.field, fault.rule) for fault in faults] == [("room", "unknown"), ("y", "target")]
    assert "did you mean 'rooms'" in faults[0].message


def test_what_only_training_needs_may_be_left_out() -> None:
    decode = decoder(FLOAT, Field(name="key", column="key", kind="text", roles=(Role.ID,)))
    assert decode(b'{"rows":[{"x":1},{"x":2,"key":"a"},{"x":3,"key":null}]}') == [(1.0, None), (2.0, "a"), (3.0, None)]


def test_rows_come_in_the_contracts_order_whatever_the_requests() -> None:
    decode = decoder(FLOAT, replace(FLOAT, name="b", column="b"))
    assert decode(b'{"rows":[{"b":2,"x":1}]}') == [(1.0, 2.0)]


def test_dates_are_decoded_as_dates() -> None:
    decode = decoder(
        replace(FLOAT, kind="date", ge=date(2020, 1, 1)),
        replace(FLOAT, name="m", column="m", kind="datetime", lt=datetime(2021, 1, 1)),
    )
    ((day, moment),) = decode(b'{"rows":[{"x":"2020-01-01","m":"2020-12-31T23:59:59Z"}]}')
    assert (day, moment) == (date(2020, 1, 1), datetime(2020, 12, 31, 23, 59, 59, tzinfo=UTC))
    faults = refuse(decode, '{"rows":[{"x":"2019-12-31","m":"2021-01-01T00:00:00"}]}').faults
    assert [(fault.field, fault.rule) for fault in faults] == [("x", "ge"), ("m", "lt")]


def test_a_request_learns_a_hundred_faults_and_the_count_of_all() -> None:
    body = json.dumps({"rows": [{"x": "a"}] * 250})
    rejection = refuse(decoder(FLOAT), body)
    assert len(rejection.faults) == MOST_FAULTS
    assert rejection.count == 250
    assert "250 values break" in rejection.detail


@pytest.mark.parametrize(
    "rows", [[{f"field_{n}": 1 for n in range(30_000)}], [{f"field_{n}": 1} for n in range(30_000)]]
)
def test_a_flood_of_unknown_fields_is_refused_within_a_second_or_so(rows: list[dict[str, int]]) -> None:
    """The nearest known name is looked for a hundred times, not for each of a million fields."""
    import time

    decode = decoder(*[replace(FLOAT, name=f"feature_{n}", column=f"feature_{n}") for n in range(30)], max_rows=100_000)
    body = json.dumps({"rows": rows}).encode()
    started = time.process_time()
    rejection = decode(body)
    assert isinstance(rejection, Rejection)
    assert rejection.count >= 30_000
    assert time.process_time() - started < 10


def test_a_contract_of_one_field_decodes_to_tuples_of_one() -> None:
    assert decoder(FLOAT)(b'{"rows":[{"x":1}]}') == [(1.0,)]


@pytest.mark.parametrize("text", ["2020-01-01", "2020-01-01 00:00", "2020-01-01T01:00+01:00", "2020-01-01T00:00:00Z"])
def test_a_moment_may_be_as_short_as_in_a_table(text: str) -> None:
    ((moment,),) = decoder(replace(FLOAT, kind="datetime"))(row_of(("x", text)).encode())
    assert as_utc(moment) == datetime(2020, 1, 1, tzinfo=UTC)
