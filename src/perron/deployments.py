"""A project's ledger in; the plan that its servers follow out, and the outcomes that they bring back in.

    routing = what was decided last for a model (`Ledger.routing`), or its champion alone

A routing is decided by `perron deploy`, or declared in the system; aliases (`champion`, `challenger`)
in it are looked up each time, so that promoting a version moves the servers too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from functools import cached_property
from threading import Lock
from typing import Any

from perron.bundle import load
from perron.check import parse, show
from perron.contract import Field, Role
from perron.errors import DataError, NotFound, nearest
from perron.experiment import Report, Tally, compare_arms, report
from perron.forget import id_values
from perron.ledger import CHAMPION, Ledger
from perron.outcomes import Recorder
from perron.plan import Arm, ModelPlan, Outcome, Plan, Routing, VersionPlan
from perron.predictions.index import predictions_of
from perron.predictions.ship import Shipper
from perron.project import Project
from perron.rollout import Rollout, check_rollout, words_of
from perron.tokens import tokens_in_force

__all__ = ["ProjectMemory", "decide", "end_test", "models_of", "report_of"]


_MOMENT = Field(name="time", kind="datetime", column="time")
# A routing as the ledger keeps it; no arms: the server's own reference alone.
_ALONE: dict[str, Any] = {
    "kind": "single", "arms": [], "key": None, "shadow": [], "shadow_share": 1.0, "salt": "",
    "within": None, "max_error_share": None, "max_latency_ms": None, "max_worse": True, "unloaded": False,
}  # fmt: skip


def models_of(ledger: Ledger, wanted: Sequence[str]) -> tuple[str, ...]:
    """The models to serve: those wanted, in order; else all that have a version, those with a contract first, the newest's first.

    Raises:
        NotFound: there is none, or none of a wanted name.
    """
    rows = ledger.list_versions()
    newest = {row["model"]: max(r["made"] for r in rows if r["model"] == row["model"]) for row in rows}
    for name in wanted:
        ledger.get_version(name, max((r["version"] for r in rows if r["model"] == name), default=1))
    if not wanted and not newest:
        raise NotFound("There is no model yet; `perron run` makes one.")
    takes_rows = {r["model"] for r in rows if (ledger.bundle_path(r) / "contract.json").is_file()}
    key = {name: (name in takes_rows, made) for name, made in newest.items()}
    return tuple(dict.fromkeys(wanted)) or tuple(sorted(key, key=lambda name: key[name], reverse=True))


def decide(project: Project, model: str, rollout: Rollout, reason: str | None = None) -> str:
    """The decision in words, once it is in the ledger.

    Raises:
        NotFound: there is no such version or alias.
        DeclarationError: it doesn't fit the model's contract.
    """
    champion = project.ledger.get_version(model, CHAMPION)
    bundle = load(project.ledger.bundle_path(champion), champion["bundle"])
    check_rollout(rollout, bundle.schema, bundle.task)
    if rollout.version != CHAMPION:
        other = project.ledger.get_version(model, rollout.version)
        if rollout.kind != "single" and other["version"] == champion["version"]:
            raise DataError(
                f"{rollout.version} is version {other['version']}, which is the champion itself; name another one."
            )
    project.ledger.add_routing(model, rollout.routing, reason)
    return words_of(rollout.routing)


def end_test(project: Project, model: str, version: int) -> bool:
    """Whether a test was in force in which that version took part, and is over now, since the version was promoted."""
    decided = project.ledger.list_routings(model)
    if not decided:
        return False
    routing = {**_ALONE, **decided[0]["routing"]}
    others = [*routing["arms"][1:], *routing["shadow"]]
    for arm in others:
        if project.ledger.get_version(model, arm.get("reference", arm["name"]))["version"] == version:
            project.ledger.add_routing(model, dict(_ALONE), f"version {version} was promoted")
            return True
    return False


def report_of(project: Project, model: str) -> Report:
    """How the versions compare since the decision in force; without one, since the champion's promotion.

    Raises:
        NotFound: there is no such model.
    """
    decided = project.ledger.list_routings(model)
    routing = {**_ALONE, **decided[0]["routing"]} if decided else _ALONE
    alias = project.ledger.get_alias(model, CHAMPION)
    if alias is None:
        project.ledger.get_version(model, CHAMPION)
    since = decided[0]["time"] if decided else str(alias["time"] if alias else "")
    first = routing["arms"][0]["name"] if routing["arms"] else CHAMPION
    return report(
        project.ledger, project.predictions, model, since=since, first=first, has_shadow=bool(routing["shadow"])
    )


@dataclass(frozen=True)
class ProjectMemory:
    """The `Memory` of a server that belongs to a project; thread safe.

    Args:
        project: opened.
        models: the models to serve, the default first.
        shipper: sends the prediction log on; None: nowhere.
        reference: what the default model answers with where no routing was decided: an alias, or a version's number.
        is_pinned: whether the default model answers with that alone, whatever was decided.
    """

    project: Project
    models: tuple[str, ...]
    reference: str = CHAMPION
    shipper: Shipper | None = None
    is_pinned: bool = False
    _tallies: dict[int, Tally] = field(default_factory=dict, compare=False)
    _lock: Lock = field(default_factory=Lock, compare=False)

    def plan(self) -> Plan:
        """The plan as the ledger has it now.

        Raises:
            NotFound: a model, version or alias isn't there.
        """
        models = tuple(self._model(name, first=place == 0) for place, name in enumerate(self.models))
        return Plan(models, tokens_in_force(self.project.ledger))

    def _model(self, name: str, first: bool) -> ModelPlan:
        ledger = self.project.ledger
        reference = self.reference if first else CHAMPION
        decided = [] if first and self.is_pinned else ledger.list_routings(name)
        decision = {**_ALONE, **decided[0]["routing"]} if decided else _ALONE
        rows: dict[str, dict[str, Any]] = {}

        tally = self._tally(name, decided[0]) if decided and decision["kind"] == "bandit" else None

        def arm(given: Mapping[str, Any]) -> Arm:
            row = rows[given["name"]] = ledger.get_version(name, given.get("reference", given["name"]))
            made = Arm(given["name"], row["version"], float(given.get("weight", 1.0)))
            if tally is None or made.name not in tally.losses:
                return made
            won = tally.wins[made.name]
            return replace(made, wins=won, losses=tally.losses[made.name].n - won)

        routing = Routing(
            decision["kind"],
            tuple(arm(given) for given in decision["arms"] or ({"name": reference},)),
            key=decision["key"],
            shadow=tuple(arm(given) for given in decision["shadow"]),
            shadow_share=decision["shadow_share"],
            salt=decision["salt"] or f"{name}:{decided[0]['id'] if decided else 0}",
            max_error_share=decision["max_error_share"],
            max_latency_ms=decision["max_latency_ms"],
            event=decided[0]["id"] if decided else 0,
        )
        versions = {row["version"]: self._version(row) for row in rows.values()}
        loaded = () if decision["unloaded"] else tuple(versions[number] for number in sorted(versions))
        return ModelPlan(name, loaded, routing)

    def _version(self, row: Mapping[str, Any]) -> VersionPlan:
        return VersionPlan(row["version"], self.project.ledger.bundle_path(row), row["bundle"])

    def outcome(self, prediction: str) -> dict[str, Any] | None:
        return self.project.ledger.get_outcome(prediction)

    def add_outcomes(self, items: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        done: list[Outcome | None] = [None] * len(items)
        named: list[tuple[int, str, Any]] = []
        for place, item in enumerate(items):
            try:
                named.append((place, self._named(item), item["value"]))
            except NotFound as error:
                done[place] = Outcome(None, "unknown", str(error))
            except DataError as error:
                done[place] = Outcome(None, "invalid", str(error))
        with self._lock:
            recorded = self._recorder.record([(prediction, value) for _, prediction, value in named])
        for (place, _, _), outcome in zip(named, recorded, strict=True):
            done[place] = outcome
        return [outcome for outcome in done if outcome is not None]

    def _named(self, item: Mapping[str, Any]) -> str:
        """The id of the prediction that an item is about.

        Raises:
            NotFound: there is none of its row.
            DataError: it isn't an outcome.
        """
        prediction = item.get("prediction")
        if "value" not in item or (prediction is None) == ("id" not in item):
            raise DataError("An outcome needs value, and either prediction or id.")
        if prediction is None:
            return self._prediction_of(item)
        if not isinstance(prediction, str):
            raise DataError("An outcome's prediction is its id, a text.")
        return prediction

    @cached_property
    def _recorder(self) -> Recorder:
        return Recorder(self.project)

    def _prediction_of(self, item: Mapping[str, Any]) -> str:
        """The newest prediction of the row with the item's `id`, made at its `time` or before, by its `model` or the first.

        Raises:
            NotFound: there is no such model or prediction.
            DataError: the model's contract has no Id, or the time can't be read.
        """
        model = item.get("model", self.models[0])
        if model not in self.models:
            raise NotFound(f"There is no model {model!r} here; {nearest(str(model), self.models)}")
        row = self.project.ledger.get_version(model, self.reference if model == self.models[0] else CHAMPION)
        schema = load(self.project.ledger.bundle_path(row), row["bundle"]).schema
        field = schema.with_role(Role.ID)
        if field is None:
            raise DataError(f"{schema.name} has no pn.Id field; send the prediction's own id as prediction.")
        until = None
        if item.get("time") is not None:
            moment = parse(_MOMENT, item["time"])
            if moment is None:
                raise DataError(f"Expected {_MOMENT.expected} as time, got {show(item['time'])}.")
            until = moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        found = [
            prediction
            for _, value in id_values(self.project, schema, field.name, item["id"])
            for prediction in predictions_of(self.project.predictions, model, field.name, value, until=until)[:1]
        ]
        if not found:
            raise NotFound(f"There is no prediction of {field.name} = {show(item['id'])} by {model}.")
        return max(found)

    def tend(self) -> None:
        if self.shipper is not None:
            self.shipper.ship()
        for name in self.models[1:] if self.is_pinned else self.models:
            self._hold_to_outcomes(name)

    def _tally(self, model: str, decision: Mapping[str, Any]) -> Tally:
        """What the outcomes say of the routes since a decision, brought up to date."""
        with self._lock:
            tally = self._tallies.get(decision["id"])
            if tally is None:
                for old in [event for event, kept in self._tallies.items() if kept.model == model]:
                    del self._tallies[old]
                tally = self._tallies[decision["id"]] = Tally(
                    model, decision["time"], decision["routing"].get("within")
                )
            tally.update(self.project.ledger, self.project.predictions)
            return tally

    def _hold_to_outcomes(self, model: str) -> None:
        """Rolls a canary back whose outcomes are worse than the champion's, as sure as one can be while looking all the time."""
        decided = self.project.ledger.list_routings(model)
        routing = decided[0]["routing"] if decided else _ALONE
        if routing["kind"] != "canary" or not routing.get("max_worse", True):
            return
        tally = self._tally(model, decided[0])
        first, *others = [arm["name"] for arm in routing["arms"]]
        for name in others:
            if first not in tally.losses or name not in tally.losses:
                continue
            found = compare_arms(tally.losses[first], tally.losses[name])
            if found.verdict == "worse":
                self.roll_back(
                    model, decided[0]["id"],
                    f"the mean loss of {name} is {found.value:.4g} higher than that of {first} "
                    f"(95 % sure of at least {found.low:.4g}, after {tally.losses[name].n} outcomes)",
                )  # fmt: skip

    def secret(self) -> bytes:
        return self.project.secret()

    def set_loaded(self, model: str, loaded: bool) -> None:
        if model not in self.models:
            raise NotFound(f"There is no model {model!r} here; {nearest(model, self.models)}")
        decided = self.project.ledger.list_routings(model)
        now = {**_ALONE, **decided[0]["routing"]} if decided else dict(_ALONE)
        if bool(now["unloaded"]) is loaded:
            reason = "loaded by request" if loaded else "unloaded by request"
            self.project.ledger.add_routing(model, {**now, "unloaded": not loaded}, reason)

    def roll_back(self, model: str, event: int, reason: str) -> bool:
        decided = self.project.ledger.list_routings(model)
        if not decided or decided[0]["id"] != event:
            return False
        first = list(decided[0]["routing"].get("arms") or ())[:1]
        self.project.ledger.add_routing(model, {**_ALONE, "arms": first}, f"rolled back: {reason}")
        return True
