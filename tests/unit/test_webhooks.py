"""Signatures, receivers that are refused, and tries that come later and later."""

import http.server
import random
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron import webhooks
from perron.errors import DeclarationError
from perron.webhooks import WebhookError, backoff_s, check_url, post, sign, verify


@given(st.binary(min_size=1), st.binary(), st.integers(0, 2**40))
def test_a_signature_is_true_of_its_secret_body_and_moment_alone(secret: bytes, body: bytes, moment: int) -> None:
    signature = sign(secret, body, moment)
    assert verify(secret, body, signature, now=moment + 299)
    assert not verify(secret, body, signature, now=moment + 301) and not verify(
        secret, body, signature, now=moment - 301
    )
    assert not verify(secret, body + b"x", signature, now=moment)
    assert not verify(secret + b"x", body, signature, now=moment)
    assert not verify(secret, body, signature.replace(f"t={moment}", f"t={moment + 1}"), now=moment)


def test_the_signature_is_what_the_docstring_says() -> None:
    # By hand: printf '1764000000.{}' | openssl dgst -sha256 -hmac secret
    wanted = "b691197929ebc73b102d12f9a4689644cb2d1a38c9f2d1883b9f478077313f85"
    assert sign(b"secret", b"{}", 1764000000) == f"t=1764000000,v1={wanted}"


@pytest.mark.parametrize(
    "nonsense",
    ["", "t=", "v1=x", "t=1", "t=x,v1=y", "t=-1,v1=00", "t=1,t=1,v1=00", "t=²,v1=é", "t=" + "9" * 99 + ",v1=0"],
)
def test_a_signature_that_is_none_is_not_true(nonsense: str) -> None:
    assert not verify(b"secret", b"{}", nonsense, now=1)


PRIVATE = [
    "http://127.0.0.1/", "http://localhost/", "https://a.localhost/", "http://10.1.2.3/", "http://192.168.0.1/",
    "http://172.16.0.1/", "http://169.254.169.254/latest/meta-data", "http://[::1]/", "http://[fe80::1]/", "http://[fd00::1]/",
    "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://0.0.0.0/", "http://100.64.0.1/",
    "http://224.0.0.1/",
]  # fmt: skip


@pytest.mark.parametrize("url", PRIVATE)
def test_a_private_address_is_refused_unless_it_is_allowed(url: str) -> None:
    with pytest.raises(DeclarationError, match="private address"):
        check_url(url, allow_private=False)
    check_url(url, allow_private=True)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001"])
def test_a_name_that_resolves_to_a_private_address_is_refused_when_it_is_called(host: str) -> None:
    with pytest.raises(WebhookError, match="private address"):
        post(f"http://{host}:1/", b"{}", secret=b"s", delivery="d", allow_private=False)


@pytest.mark.parametrize("url", ["", "x", "//a", "file:///etc/passwd", "http://", "http://a b/", "http://a\r\nX: y/", "http://é/", "http://u@a/", "http://a:99999/"])  # fmt: skip
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(DeclarationError):
        check_url(url, allow_private=True)


def test_tries_come_later_and_later_by_chance_to_an_hour() -> None:
    chance = random.Random(0)
    for tries in range(1, 40):
        longest = min(5 * 2 ** (tries - 1), 3600)
        waits = [backoff_s(tries, chance) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_a_receiver_that_answers_byte_by_byte_is_given_up_in_time() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            while not stop.wait(0.05):
                try:
                    connection.send(b"H")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    started = time.monotonic()
    try:
        with pytest.raises(WebhookError):
            post(
                f"http://127.0.0.1:{listener.getsockname()[1]}/",
                b"{}",
                secret=b"s",
                delivery="d",
                allow_private=True,
                timeout_s=0.5,
            )
        assert time.monotonic() - started < 5
    finally:
        stop.set()
        thread.join()
        listener.close()


def test_what_a_receiver_gets_is_signed_and_named() -> None:
    got: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/done?x=1"
    assert post(url, b'{"a":1}', secret=b"s", delivery="d7", allow_private=True) == 201
    thread.join()
    server.server_close()
    ((path, headers, body),) = got
    assert (
        path == "/done?x=1" and headers["X-Perron-Delivery"] == "d7" and headers["Content-Type"] == "application/json"
    )
    assert verify(b"s", body, headers[webhooks.SIGNATURE])
    with pytest.raises(WebhookError, match="can't be reached"):
        post(url, b"{}", secret=b"s", delivery="d", allow_private=True)
