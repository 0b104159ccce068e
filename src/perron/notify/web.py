"""A URL and a body in; a POST out that was taken, or why it wasn't."""

import hashlib
import hmac
import http.client
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from perron.alerts.channels import ChannelError, url_mistake
from perron.notify.deadline import deadline

__all__ = ["post", "sign"]

WORTH_ANOTHER_TRY = (408, 425, 429)


def sign(secret: str, body: bytes, moment: int) -> str:
    """`t=1764000000,v1=…`: the hex of HMAC-SHA256(secret, "1764000000." + body)."""
    return f"t={moment},v1={hmac.new(secret.encode(), b'%d.' % moment + body, hashlib.sha256).hexdigest()}"


def post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> None:
    """Sends JSON. Redirects are not followed; all in all it takes no longer than the timeout.

    Raises:
        ChannelError: the receiver can't be reached, is too slow, or answered another status than 2xx. The words show
            the host alone, since the path may be the secret.
    """
    mistake = url_mistake(url)
    if mistake is not None:
        raise ChannelError(f"the URL {mistake}", is_lasting=True)
    parts = urlsplit(url)
    assert parts.hostname is not None
    host = parts.hostname
    made: http.client.HTTPConnection
    if parts.scheme == "https":
        made = http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=ssl.create_default_context())
    else:
        made = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with deadline(timeout_s, lambda: made.sock) as is_over:
        try:
            made.request("POST", path, body, {"Content-Type": "application/json", "User-Agent": "perron", **headers})
            status = made.getresponse().status
        except (OSError, http.client.HTTPException, ValueError) as error:
            is_late = is_over.is_set() or isinstance(error, TimeoutError)
            reason = f"no answer within {timeout_s:g} s" if is_late else f"{type(error).__name__}: {error}"
            raise ChannelError(f"{host} didn't take it: {reason}") from None
        finally:
            made.close()
    if not 200 <= status < 300:
        raise ChannelError(
            f"{host} answered {status}", is_lasting=300 <= status < 500 and status not in WORTH_ANOTHER_TRY
        )
