"""How a new version meets its requests, in words of the declaration; a decision for the ledger out.

    from perron import rollout

    pn.System(…, rollout=rollout.canary(share=0.05, max_error_share=0.01))

With a rollout, a version that passes its gates doesn't become the champion at once: it becomes the
`challenger`, and the servers part the requests. `perron deploy` decides the same by hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from perron.contract import Schema
from perron.errors import DeclarationError, nearest
from perron.plan import RoutingKind

__all__ = ["CHALLENGER", "Rollout", "ab", "bandit", "canary", "check_rollout", "shadow", "single", "words_of"]

CHAMPION, CHALLENGER = "champion", "challenger"
Kind = Literal["single", "canary", "ab", "shadow", "bandit"]


@dataclass(frozen=True)
class Rollout:
    """One way to part requests between the champion and another version; made by the functions below.

    `version` is an alias or a number; `share` the part of the requests (of the copies, for a shadow) that it
    gets; `within` what a bandit counts as won in a regression: an error of at most that, in the target's unit.
    """

    kind: Kind
    version: str = CHALLENGER
    share: float = 1.0
    key: str | None = None
    within: float | None = None
    max_error_share: float | None = None
    max_latency_ms: float | None = None
    max_worse: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise DeclarationError(f"The share of a {self.kind} is {self.share!r}; give a number above 0, up to 1.")
        if self.kind in ("canary", "ab") and self.share == 1:
            raise DeclarationError(f"A {self.kind} with the share 1 leaves the champion nothing; promote the version.")
        for name in ("within", "max_error_share", "max_latency_ms"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or not 0 <= value < float("inf")):
                raise DeclarationError(f"{name} of a {self.kind} is {value!r}; give a number of 0 or more.")

    @property
    def routing(self) -> dict[str, Any]:
        """As `Ledger.add_routing` keeps it."""
        champion: dict[str, Any] = {
            "name": CHAMPION,
            "weight": 1 - self.share if self.kind in ("canary", "ab") else 1.0,
        }
        other: dict[str, Any] = {"name": self.version, "reference": self.version, "weight": self.share}
        kind: RoutingKind = "single" if self.kind == "shadow" else self.kind
        arms = [champion] if self.kind == "shadow" else [champion, other]
        if self.kind == "single":
            arms = [] if self.version == CHAMPION else [{"name": self.version, "reference": self.version}]
        return {
            "kind": kind,
            "arms": arms,
            "key": self.key,
            "shadow": [other] if self.kind == "shadow" else [],
            "shadow_share": self.share if self.kind == "shadow" else 1.0,
            "within": self.within,
            "max_error_share": self.max_error_share,
            "max_latency_ms": self.max_latency_ms,
            "max_worse": self.max_worse,
        }


def canary(
    version: str = CHALLENGER,
    *,
    share: float = 0.05,
    key: str | None = None,
    max_error_share: float | None = 0.05,
    max_latency_ms: float | None = None,
) -> Rollout:
    """A small share of the requests, by chance or by the value of a field, until it is promoted.

    It is rolled back by itself when more than `max_error_share` of its requests fail, when the slowest 5 % take
    longer than `max_latency_ms`, or when its outcomes are known to be worse than the champion's.
    """
    return Rollout("canary", version, share, key, None, max_error_share, max_latency_ms)


def ab(
    version: str = CHALLENGER,
    *,
    key: str,
    share: float = 0.5,
    max_error_share: float | None = 0.05,
    max_latency_ms: float | None = None,
) -> Rollout:
    """A share of the values of a field, each of which always gets the same version: a test to be read by its outcomes."""
    return Rollout("ab", version, share, key, None, max_error_share, max_latency_ms, max_worse=False)


def shadow(version: str = CHALLENGER, *, share: float = 1.0) -> Rollout:
    """A copy of a share of the requests, answered for the log alone."""
    return Rollout("shadow", version, share)


def bandit(version: str = CHALLENGER, *, within: float | None = None, max_error_share: float | None = 0.05) -> Rollout:
    """More of the requests to the version whose outcomes are better, as they come in.

    In a classification a prediction wins when it was right; in a regression when its error is at most `within`.
    """
    return Rollout("bandit", version, 1.0, None, within, max_error_share, max_worse=False)


def single(version: str = CHAMPION) -> Rollout:
    """The champion alone; or one other version, by its number or alias."""
    return Rollout("single", version)


def check_rollout(rollout: Rollout, schema: Schema, task: str) -> None:
    """Nothing, when the rollout fits the contract.

    Raises:
        DeclarationError: its key is no field that a request holds, or a bandit of numbers doesn't say what wins.
    """
    names = [field.name for field in schema.request]
    if rollout.key is not None and rollout.key not in names:
        raise DeclarationError(
            f"The key of the rollout is {rollout.key!r}, which no request holds; {nearest(rollout.key, names)}"
        )
    if rollout.kind == "bandit" and task == "regression" and rollout.within is None:
        raise DeclarationError(
            "A bandit of a regression must say what wins: within=…, the largest error that is good enough."
        )


def words_of(routing: Mapping[str, Any]) -> str:
    """A routing of the ledger in one line."""
    if routing.get("unloaded"):
        return "not loaded"
    shadow_arms = routing.get("shadow") or ()
    arms: list[dict[str, Any]] = routing.get("arms") or [{"name": CHAMPION}]
    if routing.get("kind", "single") == "single":
        words = f"{arms[0].get('reference', arms[0]['name'])} alone"
    else:
        total = sum(arm.get("weight", 1.0) for arm in arms)
        words = f"{routing['kind']} of " + " and ".join(
            f"{arm.get('reference', arm['name'])}" + ("" if routing["kind"] == "bandit" else f" {arm.get('weight', 1.0) / total:.0%}")
            for arm in arms
        )  # fmt: skip
    if routing.get("key"):
        words += f" by {routing['key']}"
    for arm in shadow_arms:
        words += f", in its shadow {arm.get('reference', arm['name'])} ({routing.get('shadow_share', 1.0):.0%})"
    return words
