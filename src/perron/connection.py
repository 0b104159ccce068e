"""A service's address in; its answers as JSON, and its problems as typed errors, out.

Uses the standard library alone: `perron client` writes this module into the client that it makes, so
that such a client runs where Perron isn't installed.
"""

import http.client
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from perron.errors import PerronError

__all__ = [
    "Busy", "Connection", "ContractChanged", "Fault", "NoAnswer", "NotAllowed", "NotThere", "Problem", "Refused",
    "Unavailable",
]  # fmt: skip

T = TypeVar("T")


@dataclass(frozen=True)
class Fault:
    """What is wrong with one value: `rows[row].field` breaks `rule`."""

    row: int
    field: str
    rule: str
    expected: str
    value: object
    message: str


class Problem(PerronError):
    """What the service answered instead (RFC 9457); `status` is HTTP's, `body` all that it said."""

    def __init__(self, status: int, title: str, detail: str, body: Mapping[str, Any]) -> None:
        self.status, self.title, self.detail, self.body = status, title, detail, body
        messages = [str(fault.get("message", "")) for fault in body.get("errors", ())[:3]]
        super().__init__(f"{title}: {detail}" + (f" {'; '.join(messages)}." if messages else ""))


class Refused(Problem):
    """What was sent can't be taken (400, 413, 415, 422); `faults` says which values, and `count` how many there are."""

    @property
    def faults(self) -> list[Fault]:
        """The first hundred of them."""
        return [
            Fault(
                int(one["row"]), str(one["field"]), str(one["rule"]), str(one.get("expected", "")), one.get("value"),
                str(one["message"]),
            )
            for one in self.body.get("errors", ())
        ]  # fmt: skip

    @property
    def count(self) -> int:
        return int(self.body.get("count", 0))


class NotAllowed(Problem):
    """A token is missing, isn't in force, or doesn't allow it (401, 403)."""


class NotThere(Problem):
    """There is no such model, version, prediction or outcome (404)."""


class Busy(Problem):
    """Too much waits already (429); come again in `retry_after_s`."""

    retry_after_s = 1.0


class Unavailable(Problem):
    """The service can't answer now (500 and more)."""


class NoAnswer(PerronError):
    """The service can't be reached, went away, or sent what isn't an answer of its kind."""


class ContractChanged(PerronError):
    """The service answers by another contract than this client was made for."""


KINDS: dict[int, type[Problem]] = {401: NotAllowed, 403: NotAllowed, 404: NotThere, 429: Busy}
STALE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class Connection:
    """Connections to one service, kept open and used again. Thread safe; close it, or use it in a `with`.

    Args:
        url: of the service, such as `http://127.0.0.1:8000`, or below a prefix.
        token: a bearer token, where the service asks for one.
        timeout_s: how long an answer may take to begin or to go on.
    """

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 30.0) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.fragment:
            raise NoAnswer(f"Expected the address of a service, such as http://127.0.0.1:8000, got {url!r}.")
        self.url = url.rstrip("/")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        host, self._prefix, self._timeout_s = parts.hostname, parts.path.rstrip("/"), timeout_s
        self._new: Callable[[], http.client.HTTPConnection] = lambda: kind(host, port, timeout=timeout_s)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes what is idle; what is under way goes on."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.close()

    def ask(
        self,
        method: str,
        path: Sequence[str | int],
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON.

        Args:
            method: of HTTP.
            path: its segments, unquoted.
            body: what is sent as JSON; None: nothing is.
            query: arguments; those that are None are left out.
            headers: further ones.

        Raises:
            Problem: the service answered with a problem; its kind says which.
            NoAnswer: it can't be reached, or what it sent isn't JSON.
        """
        with self._asked(method, path, body, query, headers or {}) as answer:
            text = answer.read()
        try:
            return json.loads(text)
        except ValueError:
            raise NoAnswer(f"{self.url} answered {method} with what isn't JSON; is it a Perron service?") from None

    def lines(self, path: Sequence[str | int], body: object, headers: Mapping[str, str]) -> Iterator[Any]:
        """The JSON of each line of an answer in parts, as they come, up to the last, which says that it is done.

        Raises:
            Problem: the service answered with a problem, or ended with one.
            NoAnswer: it can't be reached, or went away before the end.
        """
        with self._asked("POST", path, body, None, {**headers, "Accept": "application/jsonl"}) as answer:
            for line in answer:
                given = json.loads(line) if line.endswith(b"\n") else {}
                if given.get("done"):
                    answer.read()
                    return
                if "predictions" not in given:
                    raise _problem(int(given.get("status", 500)), given, None) if "status" in given else self._cut()
                yield given
            raise self._cut()

    def _cut(self) -> NoAnswer:
        return NoAnswer(
            f"{self.url} went away in the middle of its answer; ask again for the rows that weren't answered."
        )

    @contextmanager
    def _asked(
        self,
        method: str,
        path: Sequence[str | int],
        body: object,
        query: Mapping[str, object] | None,
        headers: Mapping[str, str],
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, its body unread; its connection is kept where it was read to the end."""
        place = self._prefix + "".join(f"/{quote(str(part), safe='')}" for part in path)
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        data = None if body is None else json.dumps(body, default=_plain, allow_nan=False).encode()
        sent = {"Accept": "application/json", **self._headers, **headers}
        if data is not None:
            sent["Content-Type"] = "application/json"
        connection: http.client.HTTPConnection | None = None
        is_whole = False
        try:
            connection, answer = self._send(method, place + (f"?{urlencode(given)}" if given else ""), data, sent)
            if not 200 <= answer.status < 300:
                text = answer.read()
                is_whole = True
                raise _problem(answer.status, _json_object(text), answer.headers.get("Retry-After"))
            yield answer
            is_whole = answer.isclosed()
        except (OSError, http.client.HTTPException) as error:
            words = str(error) or type(error).__name__
            raise NoAnswer(f"{self.url} gave no answer: {words}; is the service up, and the address right?") from error
        finally:
            if connection is not None:
                if is_whole and connection.sock is not None:
                    with self._lock:
                        self._idle.append(connection)
                else:
                    connection.close()

    def _send(
        self, method: str, target: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Sends on an idle connection, and once more on a new one where the service had closed that."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is not None:
            try:
                connection.request(method, target, data, dict(headers))
                return connection, connection.getresponse()
            except STALE:
                connection.close()
            except BaseException:
                connection.close()
                raise
        connection = self._new()
        try:
            connection.request(method, target, data, dict(headers))
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def check_contract(self, path: Sequence[str | int], digest: str, made_for: str) -> None:
        """Nothing, when what answers has the contract of that digest; or when the token doesn't allow to look.

        Raises:
            ContractChanged: it has another.
        """
        try:
            facts = self.ask("GET", path)
        except NotAllowed:
            return
        if facts["contract_digest"] != digest:
            raise ContractChanged(
                f"This client was made for {made_for}, by contract {digest[:12]}; {self.url} has {facts['name']} "
                f"version {facts['version']}, by contract {facts['contract_digest'][:12]}. Make it anew with `perron client`."
            )


def _plain(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"Expected JSON's values, dates and datetimes, got {type(value).__name__}.")


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _problem(status: int, body: Mapping[str, Any], retry_after: str | None) -> Problem:
    kind = KINDS.get(status, Refused if status < 500 else Unavailable)
    made = kind(status, str(body.get("title", "No answer")), str(body.get("detail", f"HTTP {status}.")), body)
    if isinstance(made, Busy) and retry_after is not None and retry_after.isdigit():
        made.retry_after_s = float(retry_after)
    return made
