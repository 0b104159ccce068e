"""A system in; the rules out by which findings become alerts.

A finding belongs to the first rule that takes it, so that the rules that say more stand before those that say less.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from perron.alerts.events import KINDS, SEVERITIES, Action, Finding
from perron.contract import format_number
from perron.gates import Gate
from perron.system import System

__all__ = ["Rule", "default_rules", "rule_of"]


@dataclass(frozen=True)
class Rule:
    """Which findings are alerts, and what is done.

    Args:
        name: of the rule, shown in every message.
        kinds: of findings that it takes.
        subjects: columns, metrics or routes that it takes, with `*`, `?` and `[…]` as in file names.
        severity: the least that it takes.
        at_most, at_least: takes only findings whose value is beyond it; None: whatever it is.
        looks: in how many looks in a row it must be found before it is told.
        recovery_looks: in how many looks in a row it must be gone before it has recovered.
        channels: where it is told; none: everywhere.
        action: what is done once per alert: `retrain` (the gates decide), `roll_back`, or only `tell`.
        cooldown_h: the hours after which it is told again while it lasts.
    """

    name: str
    kinds: tuple[str, ...] = KINDS
    subjects: tuple[str, ...] = ("*",)
    severity: str = "low"
    at_most: float | None = None
    at_least: float | None = None
    looks: int = 1
    recovery_looks: int = 3
    channels: tuple[str, ...] = ()
    action: Action = "tell"
    cooldown_h: float = 24.0

    def takes(self, finding: Finding) -> bool:
        """Whether the finding is this rule's."""
        if finding.kind not in self.kinds or _rank(finding.severity) < _rank(self.severity):
            return False
        if not any(finding.subject == one or fnmatchcase(finding.subject, one) for one in self.subjects):
            return False
        if self.at_most is None and self.at_least is None:
            return True
        if finding.value is None:
            return False
        above = self.at_most is not None and finding.value > self.at_most
        return above or (self.at_least is not None and finding.value < self.at_least)


def rule_of(rules: Sequence[Rule], finding: Finding) -> Rule | None:
    """The first rule that takes the finding."""
    return next((rule for rule in rules if rule.takes(finding)), None)


def default_rules(system: System, goals: Sequence[Gate] = ()) -> tuple[Rule, ...]:
    """The rules that hold where nobody wrote others.

    A metric that a gate holds to a number is an alert as soon as it is beyond that number, however mild the finding;
    the rest from `medium` on. Nothing is done but telling.

    Args:
        system: whose gates hold.
        goals: that hold beside them, such as a canvas's.
    """
    gates = [
        Rule(
            f"{gate.metric} {gate.rule.replace('_', ' ')} {format_number(gate.limit)}",
            kinds=("performance", "estimate"),
            subjects=(gate.metric,),
            at_most=gate.limit if gate.rule == "at_most" else None,
            at_least=gate.limit if gate.rule == "at_least" else None,
        )
        for gate in {gate.name: gate for gate in (*system.gates, *goals)}.values()
        if gate.rule in ("at_most", "at_least")
    ]
    target = system.schema.target
    about_target = () if target is None else (target.name,)
    return (
        *gates,
        Rule("performance", kinds=("performance", "concept", "target_drift"), severity="medium"),
        Rule("estimated performance", kinds=("estimate",), severity="medium", looks=3),
        Rule(
            f"predictions of {about_target[0]}" if about_target else "predictions",
            kinds=("prediction_drift",), severity="medium", looks=2,
        ),
        Rule("inputs", kinds=("drift", "multivariate"), severity="medium", looks=2),
        Rule("skew", kinds=("skew",)),
        Rule("service", kinds=("errors", "latency", "budget", "traffic", "resources"), severity="medium", cooldown_h=1.0),
        Rule("cost", kinds=("cost",), severity="medium"),
        Rule("no reference", kinds=("no_reference",), cooldown_h=168.0),
    )  # fmt: skip


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity)
