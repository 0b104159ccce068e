"""An event in; a message out for Slack's incoming web hooks, and for what takes the same (Mattermost, Discord's `/slack`, …)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perron.alerts.channels import Channel
from perron.alerts.events import Event
from perron.notify.webhook import send_json

__all__ = ["channel", "message_of"]

MARKS = {"raised": "🔴", "repeated": "🟠", "recovered": "🟢", "acted": "🔧", "test": "🔔"}


class _Slack:
    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        self._url, self._timeout_s = options["url"], options["timeout_s"]

    def send(self, event: Event) -> None:
        send_json(self._url, message_of(event), event, self._timeout_s)


def message_of(event: Event) -> dict[str, Any]:
    """The message: `text` for notifications, `blocks` for the conversation, within Slack's limits of length."""
    title = f"{MARKS[event.status]} {event.title}"
    facts = " · ".join(f"{name} {text}" for name, text in event.facts.items())
    return {
        "text": _escape(f"{title}: {event.detail}")[:3000],
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": title[:150], "emoji": True}},
            {"type": "section", "text": {"type": "mrkdwn", "text": _escape(event.detail or event.title)[:3000]}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": _escape(facts)[:2000]}]},
        ],
    }


def _escape(text: str) -> str:
    """The three characters that mean something in a message: a column's name must not call @channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


channel: type[Channel] = _Slack
