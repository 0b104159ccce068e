"""An event in; a line of JSON at the end of a file out."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perron.alerts.channels import Channel, ChannelError
from perron.alerts.events import Event

__all__ = ["channel"]


class _File:
    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        self._path = folder / Path(options["path"]).expanduser()

    def send(self, event: Event) -> None:
        line = json.dumps(event.to_json(), ensure_ascii=False).encode(errors="replace") + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(line)
                os.fsync(file.fileno())
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ChannelError(f"{self._path} can't be written: {reason}") from error


channel: type[Channel] = _File
