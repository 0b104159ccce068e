"""An event in; a POST of its JSON out, signed where there is a secret.

X-Perron-Delivery: the event's id, the same in every try of it
X-Perron-Signature: t=1764000000,v1=<hex of HMAC-SHA256(secret, "1764000000." + body)>
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perron.alerts.channels import Channel
from perron.alerts.events import Event
from perron.notify.web import post, sign

__all__ = ["channel"]


class _Webhook:
    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        self._url, self._secret, self._timeout_s = options["url"], options["secret"], options["timeout_s"]

    def send(self, event: Event) -> None:
        body = json.dumps({"title": event.title, **event.to_json()}).encode()
        headers = {"X-Perron-Delivery": event.id}
        if self._secret:
            headers["X-Perron-Signature"] = sign(self._secret, body, int(time.time()))
        post(self._url, body, headers, self._timeout_s)


channel: type[Channel] = _Webhook
