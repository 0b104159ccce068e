"""An event in; a POST of its JSON out, signed where there is a secret, as `perron.webhooks` signs and verifies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perron.alerts.channels import Channel, ChannelError, url_mistake
from perron.alerts.events import Event
from perron.webhooks import WebhookError, post

__all__ = ["channel", "send_json"]

WORTH_ANOTHER_TRY = (408, 425, 429)


class _Webhook:
    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        self._url, self._timeout_s = options["url"], options["timeout_s"]
        self._secret = options["secret"].encode() or None

    def send(self, event: Event) -> None:
        send_json(self._url, {"title": event.title, **event.to_json()}, event, self._timeout_s, self._secret)


def send_json(url: str, value: Any, event: Event, timeout_s: float, secret: bytes | None = None) -> None:
    """Posts a value about an event.

    Raises:
        ChannelError: the receiver can't be reached, is too slow, or answered another status than 2xx. The words show
            the host alone, since the path may be the secret.
    """
    mistake = url_mistake(url)
    if mistake is not None:
        raise ChannelError(f"the URL {mistake}", is_lasting=True)
    try:
        # Whoever writes alerts.toml owns the project: a receiver on a private address is as good as another.
        post(url, json.dumps(value).encode(), secret=secret, delivery=event.id, allow_private=True, timeout_s=timeout_s)
    except WebhookError as error:
        status = error.status
        is_lasting = status is not None and 300 <= status < 500 and status not in WORTH_ANOTHER_TRY
        raise ChannelError(str(error), is_lasting=is_lasting) from None


channel: type[Channel] = _Webhook
