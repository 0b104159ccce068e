"""A model's routing and a request's key in; the arm that answers it out, and the arms that are asked in its shadow."""

import hashlib
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from perron.plan import Arm, Routing

__all__ = ["Router", "place_of"]

EXPLORED = 0.02  # the least share of an arm of a bandit, so that what changes is noticed


class Router:
    """Chooses arms. Not thread safe: one event loop asks it.

    Canary: chance by weight, or by key where one is given. A/B: by key, the same for ever under one
    salt; a request without a key is parted by chance. Bandit: Thompson sampling on what the arms are
    known to have won and lost (W. R. Thompson, 1933), every arm with a small share of its own.
    """

    def __init__(self, routing: Routing, seed: int | None = None) -> None:
        self.routing = routing
        self._arms = routing.arms
        self._chance = random.Random(seed)
        total = sum(arm.weight for arm in self._arms) or 1.0
        self._bounds = list(accumulate(arm.weight / total for arm in self._arms))
        self.is_plain = routing.kind == "single" and not routing.shadow

    def choose(self, key: str | None = None) -> Arm:
        """The arm for a request with that key; None where it has none."""
        kind = self.routing.kind
        if kind == "single" or len(self._arms) == 1:
            return self._arms[0]
        if kind == "bandit":
            return self._sample()
        return self._at(self._chance.random() if key is None else place_of(key, self.routing.salt))

    def shadows(self) -> Sequence[Arm]:
        """The arms to ask besides, this time."""
        shadow = self.routing.shadow
        if not shadow or (self.routing.shadow_share < 1 and self._chance.random() >= self.routing.shadow_share):
            return ()
        return shadow

    def _at(self, place: float) -> Arm:
        return self._arms[min(bisect_right(self._bounds, place), len(self._arms) - 1)]

    def _sample(self) -> Arm:
        if self._chance.random() < EXPLORED * len(self._arms):
            return self._chance.choice(self._arms)
        return max(self._arms, key=lambda arm: self._chance.betavariate(1 + arm.wins, 1 + arm.losses))


def place_of(key: str, salt: str) -> float:
    """Where a key lies between 0 and 1: evenly spread, the same on every machine."""
    found = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(found, "big") / 2**64
