"""A project's folder in; its dashboard, a Streamlit application in a browser, out.

    command     what starts it, as a process of its own
    current     for a user's own pages (`pages/*.py` of the project): the project and the settings

Everything that is shown comes from the ledger, the bundles and what `days` adds up, never from reading
the prediction log through. It loads nothing from anywhere and tells nobody that it is used.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from perron.client import Client
from perron.errors import MissingPackage
from perron.project import Project

__all__ = ["Role", "Settings", "command", "current", "opened", "start"]

Role = Literal["viewer", "operator"]
OPTIONS = {
    "server.headless": "true", "server.fileWatcherType": "none", "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false", "client.toolbarMode": "minimal", "client.showErrorDetails": "none",
    "theme.light.primaryColor": "#1c5d99", "theme.dark.primaryColor": "#3f7fb8",
    "theme.light.secondaryBackgroundColor": "#f4f4f1", "theme.dark.secondaryBackgroundColor": "#1a1c1f",
    "theme.dark.backgroundColor": "#121315", "theme.light.textColor": "#1d1f22", "theme.dark.textColor": "#e4e5e7",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Whose dashboard it is: the project's folder, the service's address, and what the reader may do."""

    folder: Path
    server: str = "http://127.0.0.1:8000"
    role: Role = "viewer"

    @classmethod
    def of(cls, words: list[str]) -> "Settings":
        """The settings that `command` wrote."""
        folder, server, role = words
        return cls(Path(folder), server, "operator" if role == "operator" else "viewer")

    def client(self) -> Client:
        """A client of the service; `PERRON_TOKEN` is its bearer token, where it asks for one."""
        return Client(self.server, os.environ.get("PERRON_TOKEN"), timeout_s=10.0)


def command(settings: Settings, host: str, port: int) -> list[str]:
    """The words of the process that shows the dashboard.

    Raises:
        MissingPackage: Streamlit isn't installed.
    """
    if importlib.util.find_spec("streamlit") is None:
        raise MissingPackage("The dashboard needs streamlit: pip install 'perron[dashboard]'.")
    options = {**OPTIONS, "server.address": host, "server.port": str(port)}
    return [
        sys.executable, "-m", __name__, str(settings.folder), settings.server, settings.role,
        *(f"--{name}={value}" for name, value in options.items()),
    ]  # fmt: skip


def start(settings: Settings, host: str, port: int, announcement: str) -> None:
    """Says the announcement, and becomes the process that shows the dashboard; never returns.

    Raises:
        MissingPackage: Streamlit isn't installed.
    """
    words = command(settings, host, port)
    print(announcement, flush=True)
    os.execv(words[0], words)


@cache
def opened(folder: Path) -> Project:
    """The project of a folder, opened once."""
    return Project.open(folder)


def current() -> tuple[Project, Settings]:
    """The project that the dashboard shows and its settings, for a user's own page."""
    settings = Settings.of(sys.argv[1:])
    return opened(settings.folder), settings
