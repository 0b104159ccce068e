"""An event in; a line on standard output out."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perron.alerts.channels import Channel, ChannelError
from perron.alerts.events import Event

__all__ = ["channel"]


class _Stdout:
    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        pass

    def send(self, event: Event) -> None:
        try:
            sys.stdout.write(f"{event.time}  {event.title}: {event.detail}\n")
            sys.stdout.flush()
        except (OSError, ValueError) as error:
            raise ChannelError(f"standard output can't be written: {error}") from error


channel: type[Channel] = _Stdout
