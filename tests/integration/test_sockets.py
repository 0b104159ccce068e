"""Raw sockets against a real server: whatever comes, it stays alive, and right for the others."""

import json
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron.demonstration import serving

ROUNDS = 400
STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


@pytest.fixture(scope="module")
def address(things: Path) -> Iterator[str]:
    with serving(things, "--max-rows", "500", "--max-body-bytes", "200000") as (place, _):
        yield place


def talk(address: str, data: bytes, *, half_close: bool = True) -> bytes:
    """What the server says to the bytes until it closes, or says nothing more."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        said = b""
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                said += part
        except OSError:
            pass  # it has hung up on nonsense, which it may
        return said


def request(body: bytes, *, length: int | None = None, path: str = "/v1/predictions", extra: str = "") -> bytes:
    size = len(body) if length is None else length
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n{extra}\r\n".encode()
        + body
    )


def is_right(address: str, thing: dict[str, Any]) -> bool:
    """Whether a proper request gets its proper answer."""
    answer = httpx.post(f"{address}/v1/predictions", json={"rows": [thing]}, timeout=10)
    return answer.status_code == 200 and answer.json()["predictions"][0]["value"] == "low"


@pytest.fixture
def values() -> list[bytes]:
    """JSON that is no number, too large, too deep, or not text."""
    return [
        b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000, b"1" + b"0" * 400, b"0." + b"0" * 5000 + b"1", b"1e-999", b"-0",
        b"01", b"1.", b".5", b"+1", b"0x10", b"'x'", b'"\\ud800"', b'"\\u0000"', b'"\x00"', b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"',
        b"[" * 20_000, b"[" * 20_000 + b"]" * 20_000, b'{"a":' * 20_000, b'"' + b"x" * 100_000 + b'"', b'"\\', b"tru", b"", b"/* */1", b"1,",
    ]  # fmt: skip


def test_no_value_breaks_it_in_any_field_or_protocol(address: str, thing: dict[str, Any], values: list[bytes]) -> None:
    for value in values:
        for field in ("size", "word", "code", "day", "on"):
            others = {name: one for name, one in thing.items() if name != field}
            row = json.dumps(others).encode()[:-1] + b', "' + field.encode() + b'": ' + value + b"}"
            for path, body in (
                ("/v1/predictions", b'{"rows": [%b]}' % row),
                ("/invocations", b'{"inputs": [%b]}' % row),
            ):
                said = talk(address, request(body, path=path, extra="Connection: close\r\n"), half_close=False)
                status = STATUS.match(said)
                assert status is not None and status[1] in (b"200", b"400", b"422"), (
                    path,
                    field,
                    value[:40],
                    said[:300],
                )
        said = talk(
            address,
            request(b'{"prediction": "x", "value": %b}' % value, path="/v1/outcomes", extra="Connection: close\r\n"),
            half_close=False,
        )
        assert STATUS.match(said) is not None and STATUS.match(said)[1] in (b"400", b"422"), (value[:40], said[:300])  # type: ignore[index]
    assert is_right(address, thing)


def test_lengths_that_lie_requests_that_are_cut_and_heads_that_are_none(address: str, thing: dict[str, Any]) -> None:
    body = json.dumps({"rows": [thing]}).encode()
    good = request(body)
    cases = [
        request(body, length=len(body) + 50), request(body, length=len(body) - 5), request(body, length=10**18), request(body, length=-1),
        request(body, extra="Content-Length: 3\r\n"), request(body, extra="Transfer-Encoding: chunked\r\n"),
        b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab\r\n0\r\n\r\n",
        good.replace(b"\r\n", b"\n"), good.replace(b"HTTP/1.1", b"HTTP/2.0"), good.replace(b"POST", b"P\x00ST"), good.replace(b"Host: x", b"Host: x\r\n bad: \x00"),
        b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 5000 + b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nAccept: " + b"a/b," * 2000 + b"\r\n\r\n",
        b"GET /%00/%ff/..%2f..%2fetc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"GET ../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/predictions?cursor=%ff&limit=%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n" * 1000, b"",
        b"GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: \xff\xfe\r\nAccept: \xff\r\n\r\n", request(body, extra="X-Timeout-Ms: \xff\r\n"), request(body, extra="traceparent: \"\\\r\n"),
        request(body, extra="Expect: 100-continue\r\n"), request(body, extra="Upgrade: websocket\r\nConnection: Upgrade\r\n"),
    ]  # fmt: skip
    for case in [*cases, *(good[:size] for size in range(1, len(good), 7))]:
        said = talk(address, case)
        assert not any(status.startswith(b"5") for status in STATUS.findall(said)), (case[:200], said[:300])
        assert b"Traceback" not in said and b"root:" not in said
    assert is_right(address, thing)


def test_bytes_changed_at_random_never_make_a_5xx(address: str, thing: dict[str, Any]) -> None:
    chance = random.Random(7)
    paths = ["/v1/predictions", "/v1/outcomes", "/invocations", "/v1/models/things/versions/1/predictions"]
    for number in range(ROUNDS):
        data = bytearray(
            request(
                json.dumps({"rows": [thing] * chance.randint(1, 3)}).encode(),
                path=chance.choice(paths),
                extra=chance.choice(["", "Accept: text/event-stream\r\n"]),
            )
        )
        for _ in range(chance.choice([1, 1, 2, 8])):
            place = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[place] = chance.randrange(256)
                case 1:
                    del data[place : place + chance.randint(1, 20)]
                case 2:
                    data[place:place] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 10)))
                case _:
                    data[place:place] = data[chance.randrange(len(data)) :][:50]
        said = talk(address, bytes(data))
        assert not any(status.startswith(b"5") for status in STATUS.findall(said)), (number, bytes(data), said[:400])
    assert is_right(address, thing)


def test_pipelined_good_and_bad_requests_are_answered_in_their_order(address: str, thing: dict[str, Any]) -> None:
    good, bad = request(json.dumps({"rows": [thing]}).encode()), request(b'{"rows": [{}]}')
    get = b"GET /v1/predictions?limit=1 HTTP/1.1\r\nHost: x\r\n\r\n"
    parts = request(json.dumps({"rows": [thing] * 300}).encode(), extra="Accept: text/event-stream\r\n")
    last = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    said = talk(address, good + bad + parts + get + bad + good + last, half_close=False)
    assert STATUS.findall(said) == [b"200", b"422", b"200", b"200", b"422", b"200", b"200"]
    assert said.index(b"event: end") < said.index(b'"next":') and said.rstrip().endswith(b'{"status":"live"}')
