"""A method and a path in; who answers it out. Protocols bring their routes, `Routes` finds them."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs

from perron.plan import TokenPlan
from perron.serve.problem import Answer, Stream

__all__ = ["Handler", "Headers", "Request", "Route", "Routes", "Scope", "takes"]

Scope = Literal["predict", "outcome", "read", "admin"]


class Headers(Protocol):
    """A request's headers: names in lower case."""

    def get(self, key: str, default: Any = None) -> Any: ...


@dataclass(slots=True)
class Request:
    """A request, whatever brought it. `wanted` is the type that it gets, of those that its route gives."""

    method: str
    path: str
    headers: Headers
    body: bytes = b""
    query: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    is_alone: bool = False
    token: TokenPlan | None = None
    wanted: str = ""

    def arguments(self) -> dict[str, str]:
        """The query's arguments; of one that comes twice the last."""
        return {name: values[-1] for name, values in parse_qs(self.query, keep_blank_values=True).items()}


Handler = Callable[[Request], Awaitable[Answer | Stream]]


@dataclass(frozen=True)
class Route:
    """What answers one method of one path.

    `path` may hold parameters: `/v1/models/{model}`; each takes one segment. `scope` is what a token must
    allow (None: nobody is asked for one). `takes` lists the types that a body may have (none: there is no
    body, `*/*`: any). `max_body_bytes` None is the server's own limit. `gives` lists the types that the answer
    may have, of which the header Accept chooses (none: it isn't looked at).
    """

    method: str
    path: str
    handler: Handler
    scope: Scope | None = "read"
    takes: tuple[str, ...] = ()
    max_body_bytes: int | None = None
    gives: tuple[str, ...] = ()


class Routes:
    """The routes of a server by path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        by_path: dict[str, dict[str, Route]] = {}
        for route in routes:
            methods = by_path.setdefault(route.path, {})
            assert route.method not in methods, f"{route.method} {route.path} is there twice"
            methods[route.method] = route
            if route.method == "GET":
                methods.setdefault("HEAD", route)
        for path, methods in by_path.items():
            if "{" in path:
                pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path))
                self._patterns.append((re.compile(pattern), methods))
            else:
                self._exact[path] = methods

    def find(self, path: str) -> tuple[Mapping[str, Route], Mapping[str, str]]:
        """The routes of a path by method (none where there is nothing), and its parameters."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact, {}
        for pattern, methods in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return methods, match.groupdict()
        return {}, {}

    @property
    def paths(self) -> list[str]:
        """The paths without parameters."""
        return sorted(self._exact)


def takes(route: Route, content_type: str) -> bool:
    """Whether a route takes a body of that type; JSON and text in UTF-8 alone."""
    kind, _, rest = content_type.lower().partition(";")
    kind = kind.strip()
    if kind in ("application/json", "text/csv") and kind in route.takes:
        return rest.partition("charset=")[2].partition(";")[0].strip(' "') in ("", "utf-8", "utf8")
    return kind in route.takes or "*/*" in route.takes
