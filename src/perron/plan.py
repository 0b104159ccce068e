"""What a server should answer with, as plain data: models, their versions, the routes between them, and who may ask.

    ledger ─▶ perron.deployments ─▶ Plan ─▶ perron.serve

A plan is made from the ledger again and again while a server runs; the server makes itself equal to
it, without a failed request. Nothing here knows a database, so the server needs none to read it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from perron.errors import PerronError

__all__ = [
    "Arm", "Memory", "ModelPlan", "NotOffered", "Outcome", "Plan", "Routing", "RoutingKind", "TokenPlan", "VersionPlan",
]  # fmt: skip

RoutingKind = Literal["single", "canary", "ab", "bandit"]


@dataclass(frozen=True)
class VersionPlan:
    """A version to load: its bundle's folder, and the digest that its manifest must have (None: any)."""

    number: int
    path: Path
    digest: str | None = None


@dataclass(frozen=True)
class Arm:
    """One of the versions that requests are parted among.

    `name` is what the log and the receipts call the way (`champion`, `challenger`); `weight` its share
    before normalisation; `wins` and `losses` what a bandit knows of it.
    """

    name: str
    version: int
    weight: float = 1.0
    wins: float = 0.0
    losses: float = 0.0


@dataclass(frozen=True)
class Routing:
    """How a model's requests are parted among versions.

    The first arm is the default, which also answers where a rule says nothing. `key` names the field
    whose value always gets the same arm (None: the header `X-Routing-Key`, else chance). `shadow` arms
    are asked too, at `shadow_share` of the requests, and never answer. `event` is the ledger's number of
    the decision that made it.
    """

    kind: RoutingKind
    arms: tuple[Arm, ...]
    key: str | None = None
    shadow: tuple[Arm, ...] = ()
    shadow_share: float = 1.0
    salt: str = ""
    max_error_share: float | None = None
    max_latency_ms: float | None = None
    event: int = 0


@dataclass(frozen=True)
class ModelPlan:
    """A model, the versions of it to keep loaded, and its routing; unrouted versions answer by their own path."""

    name: str
    versions: tuple[VersionPlan, ...]
    routing: Routing


@dataclass(frozen=True)
class TokenPlan:
    """Who bears a token: the SHA-256 of it, its name, what it may do, and its rate (None: unlimited)."""

    sha256: str
    name: str
    scopes: frozenset[str]
    requests_per_s: float | None = None
    expires: str | None = None


@dataclass(frozen=True)
class Plan:
    """Everything that a server should be. The first model answers where a path names none.

    `tokens` None: nobody is asked for one.
    """

    models: tuple[ModelPlan, ...]
    tokens: tuple[TokenPlan, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one outcome that was sent: `recorded`, `corrected` (it replaced another value), `repeated`
    (the same again; nothing changed), or why not: `unknown` prediction, `invalid` value."""

    prediction: str | None
    status: Literal["recorded", "corrected", "repeated", "unknown", "invalid"]
    detail: str | None = None


class NotOffered(PerronError):
    """What was asked for is something that this server doesn't do, as it was started."""


class Memory(Protocol):
    """What a server asks of the project that it belongs to. Every method may block and is called on a thread.

    A server without a project (a bundle inside another application) has `perron.serve.alone`'s, whose
    methods raise NotOffered where a project is needed.
    """

    def plan(self) -> Plan:
        """What to answer with, now.

        Raises:
            PerronError: it can't be told, for the reason in the message; the server goes on as it was.
        """
        ...

    def outcome(self, prediction: str) -> dict[str, Any] | None:
        """The outcome in force of a prediction (`value`, `time`), or None."""
        ...

    def add_outcomes(self, items: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        """Records outcomes, each `{"prediction": id}` or `{"id": the contract's Id}` with `value`, and `time` where it is known."""
        ...

    def tend(self) -> None:
        """Does what is to be done beside serving, such as sending the log on; called once a second on a thread of its own."""
        ...

    def secret(self) -> bytes:
        """The key of the digests that the log keeps of sensitive values."""
        ...

    def set_loaded(self, model: str, loaded: bool) -> None:
        """Keeps a model loaded, or not, for every server of the project.

        Raises:
            NotFound: there is no such model.
        """
        ...

    def roll_back(self, model: str, event: int, reason: str) -> bool:
        """Ends a routing decision, back to its default arm alone; False when another decision is in force already."""
        ...
