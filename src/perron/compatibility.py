"""Two Schemas in; what changed between them out, and what each change breaks: for whom, and why.

A change is judged four times: for API clients, who send what the old contract allowed and read its answers; for stored
references, which the monitor holds traffic to; for the ledger, whose receipts and outcomes outlive a contract; and for
the model in force, which may have to be trained again. Where no change is breaking for clients, the new contract
accepts every row that the old one did. What can't be proved (one pattern inside another) counts as breaking.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from perron.check import judge
from perron.contract import Field, Role, Schema
from perron.errors import ContractError, DeclarationError

__all__ = [
    "AUDIENCES",
    "LEVELS",
    "Bump",
    "Change",
    "Effect",
    "Level",
    "bump_of",
    "compare",
    "next_version",
    "read_contract",
    "worst",
]

Level = Literal["none", "additive", "breaking"]
Bump = Literal["none", "patch", "minor", "major"]
LEVELS: tuple[Level, ...] = ("none", "additive", "breaking")
AUDIENCES = ("clients", "references", "ledger", "retrain")
LIKE = 0.6  # from which likeness of two names a field counts as renamed
VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")


def read_contract(path: Path) -> Schema:
    """The contract in a contract.json.

    Raises:
        ContractError: it can't be read, or isn't one.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ContractError(f"The contract {path} can't be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{path} isn't a contract: {error}.") from error
    try:
        return Schema.from_json(data)
    except ContractError as error:
        raise ContractError(f"{path}: {error}") from error


@dataclass(frozen=True)
class Effect:
    """What a change is for one audience, and why."""

    level: Level
    reason: str


NOTHING = Effect("none", "nothing changes")


@dataclass(frozen=True)
class Change:
    """One change of one field (or, with the field None, of the whole contract), and its effects by audience.

    `kind` is `added`, `removed`, `renamed`, `kind`, `wider`, `narrower`, `other_rules`, `optional`, `required`, `roles`,
    `target`, `unit`, `column`, `order` or `words`; `was` and `now` are words, None where there was or is nothing.
    """

    field: str | None
    kind: str
    was: str | None
    now: str | None
    effects: dict[str, Effect]

    @property
    def level(self) -> Level:
        """The worst of its effects."""
        return worst(self.effects.values())

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "effects": {who: vars(effect) for who, effect in self.effects.items()}}


def compare(old: Schema, new: Schema) -> list[Change]:
    """The changes from one contract to another, in the fields' order, those of the whole contract last."""
    renamed = _renames(old, new)
    found: list[Change] = []
    for before in old.fields:
        name = renamed.get(before.name, before.name)
        if name not in new:
            found.append(_removed(before))
            continue
        if name != before.name:
            found.append(_renamed(before, new[name]))
        found += _field_changes(before, new[name])
    taken = set(renamed.values())
    found += [_added(field) for field in new.fields if field.name not in old and field.name not in taken]
    kept = [renamed.get(field.name, field.name) for field in old.fields]
    kept, order = [name for name in kept if name in new], [field.name for field in new.fields]
    order = [name for name in order if name in kept]
    if kept != order:
        found.append(
            _change(None, "order", ", ".join(kept), ", ".join(order), clients=Effect("none", "rows name their fields"))
        )
    if (old.name, old.doc) != (new.name, new.doc):
        found.append(
            _change(None, "words", old.name, new.name, clients=Effect("none", "only its name or description changed"))
        )
    return found


def worst(effects: Iterable[Effect]) -> Level:
    """The gravest level among effects."""
    return max((effect.level for effect in effects), key=LEVELS.index, default="none")


def bump_of(changes: Sequence[Change]) -> Bump:
    """The part of a semantic version that the changes move.

    `major` where clients or the ledger break; `minor` where something is added, or references or the model are left
    behind; `patch` for words and order.
    """
    if not changes:
        return "none"
    if any(change.effects[who].level == "breaking" for change in changes for who in ("clients", "ledger")):
        return "major"
    return "patch" if all(change.level == "none" for change in changes) else "minor"


def next_version(version: str, bump: Bump) -> str:
    """The semantic version after a bump; below 1.0.0 what breaks moves the minor part, and all else the patch (semver.org, 4).

    Raises:
        DeclarationError: it isn't three numbers.
    """
    match = VERSION.fullmatch(version)
    if match is None:
        raise DeclarationError(f"The version is {version!r}; give three numbers, such as 1.4.0.")
    major, minor, patch = map(int, match.groups())
    if bump == "none":
        return version
    if major == 0:
        bump = "minor" if bump == "major" else "patch"
    if bump == "major":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if bump == "minor" else f"{major}.{minor}.{patch + 1}"


def _change(
    field: str | None,
    kind: str,
    was: str | None,
    now: str | None,
    *,
    clients: Effect = NOTHING,
    references: Effect = NOTHING,
    ledger: Effect = NOTHING,
    retrain: Effect = NOTHING,
) -> Change:
    effects = {"clients": clients, "references": references, "ledger": ledger, "retrain": retrain}
    return Change(field, kind, was, now, effects)


def _is_required(field: Field) -> bool:
    return field.is_asked and not field.optional


# ------------------------------------------------------------------ fields that come and go


def _renames(old: Schema, new: Schema) -> dict[str, str]:
    """Old names to new ones: of a field that went and one of its kind that came, by the source's column or by likeness."""
    gone = [field for field in old.fields if field.name not in new]
    come = [field for field in new.fields if field.name not in old]
    pairs = [(_likeness(a, b), -i, -j) for i, a in enumerate(gone) for j, b in enumerate(come) if a.kind == b.kind]
    found: dict[str, str] = {}
    for likeness, i, j in sorted(pairs, reverse=True):
        a, b = gone[-i].name, come[-j].name
        if likeness >= LIKE and a not in found and b not in found.values():
            found[a] = b
    return found


def _likeness(a: Field, b: Field) -> float:
    if a.column == b.column or (a.is_target and b.is_target):
        return 2.0
    return difflib.SequenceMatcher(None, a.name, b.name).ratio()


def _added(field: Field) -> Change:
    now = field.expected + (", or null" if field.optional else "")
    if field.is_target:
        clients = NOTHING
    elif _is_required(field):
        clients = Effect("breaking", "requests without it are refused")
    else:
        clients = Effect("additive", "requests may hold it")
    return _change(
        field.name, "added", None, now,
        clients=clients,
        references=Effect("additive", "stored references don't hold it: it is watched from the next training on"),
        ledger=Effect("additive", "receipts from before don't hold it"),
        retrain=_needed(field, "additive", "the model in force doesn't use it"),
    )  # fmt: skip


def _removed(field: Field) -> Change:
    is_id = Role.ID in field.roles
    return _change(
        field.name, "removed", field.expected, None,
        clients=NOTHING if field.is_target else Effect("breaking", "requests that hold it are refused"),
        references=Effect("breaking", "stored references hold a column that no request brings"),
        ledger=(
            Effect("breaking", "outcomes can't be sent by this Id any more") if is_id
            else Effect("additive", "receipts from before hold a field that the contract doesn't name")
        ),
        retrain=_needed(field, "breaking", "the model in force was trained with it"),
    )  # fmt: skip


def _renamed(old: Field, new: Field) -> Change:
    return _change(
        new.name, "renamed", old.name, new.name,
        clients=(
            Effect("none", "answers hold it as `value`, whatever its name") if old.is_target and new.is_target
            else Effect("breaking", f"requests that hold {old.name} are refused")
        ),
        references=Effect("breaking", f"stored references hold it as {old.name}"),
        ledger=Effect("breaking", f"receipts and logged rows hold it as {old.name}"),
        retrain=_needed(old, "breaking", f"the graph of the model in force asks for {old.name}"),
    )  # fmt: skip


def _needed(field: Field, level: Level, reason: str) -> Effect:
    """What the model in force is, of a field that it sees or predicts; nothing of another."""
    counts = field.is_feature or field.is_target or {Role.GROUP, Role.WEIGHT}.intersection(field.roles)
    return Effect(level, reason) if counts else NOTHING


# ------------------------------------------------------------------ fields that stay


def _field_changes(old: Field, new: Field) -> Iterator[Change]:
    if old.kind != new.kind or old.is_numeric_category != new.is_numeric_category:
        yield _kind(old, new)
    else:
        yield from _rules(old, new)
    if old.optional != new.optional:
        yield _optional(old, new)
    if set(old.roles) != set(new.roles) or old.in_requests != new.in_requests:
        yield _roles(old, new)
    if old.unit != new.unit:
        yield _unit(old, new)
    if old.column != new.column and (old.column, new.column) != (old.name, new.name):
        yield _change(
            new.name, "column", old.column, new.column, clients=Effect("none", "requests use the field's name")
        )
    if old.doc != new.doc:
        yield _change(new.name, "words", old.doc, new.doc, clients=Effect("none", "only its description changed"))


def _kind(old: Field, new: Field) -> Change:
    both_numbers = {old.kind, new.kind} == {"int", "float"}
    if old.is_target or new.is_target:
        clients = Effect("breaking", "answers are of another type")
    elif _holds(old, new):
        clients = Effect("additive", "every value from before is accepted")
    else:
        clients = Effect("breaking", f"values that were {old.expected} may be refused")
    return _change(
        new.name, "kind", old.expected, new.expected,
        clients=clients,
        references=(
            Effect("additive", "both are numbers, and stay comparable") if both_numbers
            else Effect("breaking", "stored references hold another kind, which can't be compared")
        ),
        ledger=(
            Effect("additive", "logged rows hold both kinds of number") if both_numbers
            else Effect("breaking", "logged rows and outcomes from before are of another kind")
        ),
        retrain=_needed(new, "breaking", "the graph of the model in force takes another type"),
    )  # fmt: skip


def _rules(old: Field, new: Field) -> Iterator[Change]:
    """A change where the values that a field allows did change; one, however many rules moved."""
    was = {code: words for code, words in old.rules.items() if code != "required"}
    now = {code: words for code, words in new.rules.items() if code != "required"}
    if was == now:
        return
    if old.kind == "category" and set(old.values) == set(new.values):
        yield _change(
            new.name, "order", old.expected, new.expected, clients=Effect("none", "the values are the same")
        )  # fmt: skip
        return
    wider, narrower = _holds(old, new), _holds(new, old)
    kind = "wider" if wider and not narrower else "narrower" if narrower and not wider else "other_rules"
    if wider and narrower:  # written otherwise, the same values
        kind = "words"
    lost = [value for value in old.values if value not in new.values]
    won = [value for value in new.values if value not in old.values]
    yield _change(
        new.name, kind, " and ".join(was.values()) or "any", " and ".join(now.values()) or "any",
        clients=_clients_of_rules(new, wider=wider, narrower=narrower, lost=lost, won=won),
        references=NOTHING if narrower else Effect("additive", "values may come that stored references never saw"),
        ledger=NOTHING if wider else Effect("additive", "receipts from before may hold values that are refused now"),
        retrain=_retrain_of_rules(new, narrower=narrower, lost=lost, won=won),
    )  # fmt: skip


def _clients_of_rules(field: Field, *, wider: bool, narrower: bool, lost: list[Any], won: list[Any]) -> Effect:
    if field.is_target:
        if won:
            return Effect("breaking", f"answers may be {_listed(won)}, which clients don't know")
        return Effect("additive", f"answers are never {_listed(lost)} again") if lost else NOTHING
    if wider:
        return NOTHING if narrower else Effect("additive", "more values are accepted")
    if lost:
        return Effect("breaking", f"{_listed(lost)} is refused")
    return Effect("breaking", "values that were accepted may be refused")


def _retrain_of_rules(field: Field, *, narrower: bool, lost: list[Any], won: list[Any]) -> Effect:
    if field.is_target and (won or lost):
        return _needed(field, "breaking", "the model in force answers with other classes")
    if won:
        return _needed(field, "breaking", f"the model in force has never seen {_listed(won)}")
    return NOTHING if narrower else _needed(field, "additive", "the model in force may be asked beyond its training")


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(map(repr, values[:3]))
    return f"{shown} and {len(values) - 3} more" if len(values) > 3 else shown


def _optional(old: Field, new: Field) -> Change:
    if new.optional:
        return _change(
            new.name, "optional", "given and not null", "may be null",
            clients=NOTHING if not old.is_asked else Effect("additive", "requests may leave it out"),
            references=Effect("additive", "nulls may come that stored references never saw"),
            retrain=_needed(new, "breaking", "the model in force was trained without nulls in it"),
        )  # fmt: skip
    refused = Effect("breaking", "requests without it are refused")
    return _change(
        new.name, "required", "may be null", "given and not null",
        clients=refused if _is_required(new) else NOTHING,
        ledger=Effect("additive", "receipts from before may hold nulls"),
    )  # fmt: skip


def _roles(old: Field, new: Field) -> Change:
    changed = set(old.roles) ^ set(new.roles)
    kind = "target" if Role.TARGET in changed else "roles"
    clients = NOTHING
    if kind == "target" and new.is_target:
        clients = Effect("breaking", "it is predicted now: requests that hold it are refused")
    elif _is_required(new) and not (old.is_asked and not old.is_target):
        clients = Effect("breaking", "requests without it are refused")
    elif old.is_asked != new.is_asked or kind == "target":
        clients = Effect("additive", "requests may hold it, and needn't")
    return _change(
        new.name, kind, _role_words(old), _role_words(new),
        clients=clients,
        references=(
            Effect("breaking", "stored references hold it as something else") if old.is_feature != new.is_feature
            else NOTHING
        ),
        ledger=_ledger_of_roles(new, changed),
        retrain=(
            Effect("breaking", "the model in force was trained with it as something else")
            if changed - {Role.SENSITIVE, Role.ID} or old.is_feature != new.is_feature else NOTHING
        ),
    )  # fmt: skip


def _ledger_of_roles(new: Field, changed: set[Role]) -> Effect:
    if Role.TARGET in changed:
        return Effect("breaking", "outcomes from before are of another field")
    if Role.ID in changed:
        return Effect("breaking", "outcomes are found by another field than before")
    if Role.SENSITIVE in changed:
        what = (
            "hold it in the clear; `perron forget` deletes them"
            if Role.SENSITIVE in new.roles
            else "hold a digest of it"
        )
        return Effect("breaking", f"logged rows from before {what}")
    return NOTHING


def _role_words(field: Field) -> str:
    words = [role.value for role in field.roles] + (["in requests"] if field.in_requests else [])
    return ", ".join(words) or "feature"


def _unit(old: Field, new: Field) -> Change:
    if old.unit is None or new.unit is None:
        effect = Effect("additive", "check that the numbers mean the same as before")
        return _change(new.name, "unit", old.unit, new.unit, clients=effect)
    silent = f"the same numbers mean something else, {new.unit} for {old.unit}, and nothing refuses them"
    return _change(
        new.name, "unit", old.unit, new.unit,
        clients=Effect("breaking", silent),
        references=Effect("breaking", f"stored references are in {old.unit}"),
        ledger=Effect("breaking", f"receipts and outcomes from before are in {old.unit}"),
        retrain=_needed(new, "breaking", f"the model in force was trained in {old.unit}"),
    )  # fmt: skip


# ------------------------------------------------------------------ whether one field's values are all another's


def _holds(inner: Field, outer: Field) -> bool:
    """Whether every value that `inner` allows is allowed by `outer`, null aside; False where it can't be proved."""
    if inner.kind in ("category", "bool"):
        return all(not any(judge(outer, value)) for value in inner.values or (True, False))
    if (inner.kind, outer.kind) not in {(k, k) for k in ("float", "int", "text", "date", "datetime")} | {
        ("int", "float"), ("date", "datetime"),
    }:  # fmt: skip
        return False
    if inner.kind == "text":
        return (
            outer.pattern in (None, inner.pattern)
            and (inner.min_length or 0) >= (outer.min_length or 0)
            and (outer.max_length is None or (inner.max_length is not None and inner.max_length <= outer.max_length))
        )
    return _holds_bounds(inner, outer) and _holds_steps(inner, outer)


def _holds_steps(inner: Field, outer: Field) -> bool:
    """Of whole numbers by division; of others only where the step is the same: quotients are judged with a tolerance."""
    if outer.multiple_of is None:
        return True
    if inner.kind == outer.kind == "int":
        return int(inner.multiple_of or 1) % int(outer.multiple_of) == 0
    return inner.kind == outer.kind and inner.multiple_of == outer.multiple_of


def _holds_bounds(inner: Field, outer: Field) -> bool:
    if inner.kind == "int":
        least, greatest = inner.whole_range
        if outer.kind == "int":
            low, high = outer.whole_range
            return low <= least and greatest <= high
        inner = replace(inner, kind="float", ge=least, gt=None, le=greatest, lt=None)
    return all(
        _beyond(inner, closed, open_, getattr(outer, code), code == open_, sign)
        for closed, open_, sign in (("ge", "gt", 1), ("le", "lt", -1))
        for code in (closed, open_)
    )


def _beyond(inner: Field, closed: str, open_: str, bound: Any, is_open: bool, sign: int) -> bool:
    """Whether one of `inner`'s bounds on a side keeps its values on the good side of `bound`."""
    if bound is None:
        return True
    limit = _plain(bound)
    for code in (closed, open_):
        own = getattr(inner, code)
        if own is None:
            continue
        if _plain(own) == limit and (not is_open or code == open_):
            return True
        if (_plain(own) > limit) if sign > 0 else (_plain(own) < limit):
            return True
    return False


def _plain(bound: Any) -> Any:
    """A bound as it is judged: numbers as floats, dates as the midnight in UTC that they begin at."""
    if isinstance(bound, datetime):
        return bound if bound.tzinfo else bound.replace(tzinfo=UTC)
    return datetime(bound.year, bound.month, bound.day, tzinfo=UTC) if isinstance(bound, date) else float(bound)
