"""A message, a receiver's URL and a secret in; a signed POST out; and, for receivers, whether a signature is true.

    X-Perron-Delivery: the delivery's id, the same in every try of it
    X-Perron-Signature: t=1764000000,v1=<hex of HMAC-SHA256(secret, "1764000000." + body)>

A receiver may get a delivery more than once: what it has done for an id, it need not do again.
"""

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import random
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

from perron.errors import DeclarationError, PerronError

__all__ = ["SIGNATURE", "WebhookError", "backoff_s", "check_url", "post", "sign", "verify"]

SIGNATURE, DELIVERY = "X-Perron-Signature", "X-Perron-Delivery"
TOLERANCE_S = 300.0
TIMEOUT_S = 10.0
FIRST_S, MOST_S = 5.0, 3600.0  # between two tries


class WebhookError(PerronError):
    """A receiver that can't be reached, or didn't take a message; `status` is what it answered, None: nothing."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def sign(secret: bytes, body: bytes, moment: int) -> str:
    """The signature of a body at a moment, in seconds since 1970."""
    found = hmac.new(secret, b"%d." % moment + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={found}"


def verify(
    secret: bytes, body: bytes, signature: str, *, tolerance_s: float = TOLERANCE_S, now: float | None = None
) -> bool:
    """Whether the signature is of this secret, this body, and a moment not longer ago (or ahead) than the tolerance.

    Args:
        secret: that the server was started with.
        body: as it came, byte for byte.
        signature: the header X-Perron-Signature.
        tolerance_s: so that an old message can't be sent again for ever.
        now: in seconds since 1970; the clock's if None.
    """
    parts = [part.strip().partition("=") for part in signature.split(",")]
    moments = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"]
    if len(moments) != 1 or not (moments[0].isascii() and moments[0].isdigit() and len(moments[0]) < 16):
        return False
    if abs((time.time() if now is None else now) - int(moments[0])) > tolerance_s:
        return False
    wanted = hmac.new(secret, moments[0].encode() + b"." + body, hashlib.sha256).hexdigest().encode()
    return any(hmac.compare_digest(wanted, one.encode()) for one in given)


def backoff_s(tries: int, chance: random.Random | None = None) -> float:
    """How long after that many tries the next one comes: twice as long each time, to an hour, by chance between half and all of it."""
    longest = min(FIRST_S * 2.0 ** min(tries - 1, 30), MOST_S)
    return longest * (0.5 + (chance or random).random() / 2)


def check_url(url: str, *, allow_private: bool) -> None:
    """Nothing, where a message may be sent to the URL as far as its text tells.

    Raises:
        DeclarationError: it isn't http or https, holds a user or password, or is a private address.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or any(c <= " " for c in url):
        raise DeclarationError(f"The callback's URL is {url[:100]!r}; give one such as https://example.com/done.")
    if parts.username is not None or parts.password is not None:
        raise DeclarationError("The callback's URL holds a user or a password; the signature says who sends it.")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        is_private = host == "localhost" or host.endswith(".localhost")
    else:
        is_private = not _is_public(address)
    if is_private and not allow_private:
        raise DeclarationError(f"The callback's host {host} is a private address, which this server doesn't call.")


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None:
            return _is_public(inner)
        if address in ipaddress.ip_network("64:ff9b::/96"):  # NAT64
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address.is_global and not address.is_multicast


def post(
    url: str, body: bytes, *, secret: bytes | None, delivery: str, allow_private: bool, timeout_s: float = TIMEOUT_S
) -> int:
    """The status (2xx) of a receiver that took the message. Redirects are not followed; all in all it takes no longer than the timeout.

    Without a secret the message isn't signed.

    Raises:
        WebhookError: it can't be reached, is private, is too slow, or answered another status.
        DeclarationError: the URL makes no sense.
    """
    check_url(url, allow_private=allow_private)
    parts = urlsplit(url)
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    end = time.monotonic() + timeout_s
    sock = _connect(parts.hostname, port, allow_private, timeout_s)
    # A socket's own timeout begins anew with each byte: this one doesn't.
    watch = threading.Timer(max(end - time.monotonic(), 0.001), _shut, (sock,))
    watch.daemon = True
    watch.start()
    try:
        if parts.scheme == "https":
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=parts.hostname)
        connection = http.client.HTTPConnection(parts.hostname, port)
        connection.sock = sock
        moment = int(time.time())
        headers = {
            "Content-Type": "application/json", "User-Agent": "perron", DELIVERY: delivery, "Connection": "close",
        }  # fmt: skip
        if secret is not None:
            headers[SIGNATURE] = sign(secret, body, moment)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = time.monotonic() >= end
        reason = f"no answer within {timeout_s:g} s" if late else f"{type(error).__name__}: {error}"
        raise WebhookError(f"{parts.hostname} didn't take it: {reason}") from error
    finally:
        watch.cancel()
        sock.close()
    if not 200 <= status < 300:
        raise WebhookError(f"{parts.hostname} answered {status}", status)
    return status


def _connect(host: str, port: int, allow_private: bool, timeout_s: float) -> socket.socket:
    """A connection to an address of the host that was looked at: the name isn't looked up again."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise WebhookError(f"{host} can't be found: {error}") from error
    addresses = [entry[4][:2] for entry in found]
    if not allow_private:
        for address, _ in addresses:
            if not _is_public(ipaddress.ip_address(str(address).partition("%")[0])):
                raise WebhookError(f"{host} has the private address {address}, which this server doesn't call")
    end, failure = time.monotonic() + timeout_s, OSError("there is no address")
    for address, _ in addresses:  # a name such as localhost may have one of IPv6 that nobody listens on
        try:
            return socket.create_connection((str(address), port), max(end - time.monotonic(), 0.001))
        except OSError as error:
            failure = error
    raise WebhookError(f"{host} can't be reached: {failure}") from failure


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
