"""Orders in; a Docker Compose project that is up out."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from perron.delivery import Order
from perron.ship.compose import compose_files, course_files
from perron.targets.files import FileTarget, spec_of

__all__ = ["Compose", "make_target"]


def make_target() -> "Compose":
    """The target."""
    return Compose()


class Compose(FileTarget):
    """The `Target` of Docker Compose, on the machine whose engine `docker` speaks to.

    Args:
        profiles: parts that are written beside the server.
    """

    name, tool = "compose", "docker"

    def __init__(
        self, folder: Path | None = None, *, force: bool = False, profiles: Sequence[str] | None = None
    ) -> None:
        super().__init__(folder, force=force)
        self._profiles = profiles
        if shutil.which("docker") is None and shutil.which("docker-compose") is not None:
            self.tool = "docker-compose"

    def files(self, order: Order) -> dict[str, str]:
        if order.environment.service.get("four_services"):
            return course_files(spec_of(order))
        profiles = self._profiles
        if profiles is None:
            profiles = order.environment.service.get("profiles", ())
        return compose_files(spec_of(order), profiles=profiles)

    def _compose(self, *words: str) -> list[str]:
        return [*(["docker", "compose"] if self.tool == "docker" else [self.tool]), *words]

    def commands(self, order: Order) -> list[list[str]]:
        return [self._compose("up", "-d", "--remove-orphans")]

    def ending(self, order: Order) -> list[list[str]]:
        return [self._compose("down")]

    def url(self, order: Order) -> str | None:
        return super().url(order) or f"http://127.0.0.1:{spec_of(order).port}"
