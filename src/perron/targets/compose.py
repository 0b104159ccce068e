"""Orders in; a Docker Compose project that is up out."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perron.delivery import Order
from perron.errors import DeclarationError
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
        if _is_four(order):
            if self._profiles or order.image:
                raise DeclarationError(
                    "The four services are of the project's image, without profiles; leave --profile and --image out."
                )
            return course_files(spec_of(order))
        return compose_files(spec_of(order), profiles=self._parts(order))

    def _parts(self, order: Order) -> Sequence[str]:
        """The profiles: those that were given, else of the deployment that the order follows, else the environment's."""
        if self._profiles is not None:
            return self._profiles
        found: Sequence[str] = order.like.get("profiles", order.environment.service.get("profiles", ()))
        return found

    def options(self, order: Order) -> dict[str, Any]:
        return {"profiles": list(self._parts(order))}

    def refusal(self, order: Order) -> str | None:
        if not _is_four(order):
            return None
        return (
            f"The four services serve what they train themselves, and not version {order.version}, which is judged here: leave "
            f"--apply out, and then `{shlex.join(self._compose('up', '-d'))}` in {self.place(order)}."
        )

    def _compose(self, *words: str) -> list[str]:
        return [*(["docker", "compose"] if self.tool == "docker" else [self.tool]), *words]

    def commands(self, order: Order) -> list[list[str]]:
        return [self._compose(*(word for one in self._parts(order) for word in ("--profile", one)), "up", "-d")]

    def ending(self, order: Order) -> list[list[str]]:
        return [self._compose("down")]

    def finding(self, order: Order) -> list[str]:
        return self._compose("--project-name", spec_of(order).resource, "ps", "--all", "--quiet")

    def leaving(self, order: Order, found: str | None) -> tuple[list[list[str]], str]:
        name = spec_of(order).resource
        look = shlex.join(self._compose("--project-name", name, "ps", "--all"))
        return [], (
            f"Containers of {name} were there before, or may have been, and the files that they were made of aren't here: "
            f"what runs now was left as it is; look at it by `{look}`."
        )

    def url(self, order: Order) -> str | None:
        return super().url(order) or f"http://127.0.0.1:{spec_of(order).port}"


def _is_four(order: Order) -> bool:
    """Whether it is the shape with four services."""
    return bool(order.environment.service.get("four_services"))
