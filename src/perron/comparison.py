"""The newest run of a system and another version in; what differs between the two models out, measured and not guessed.

    scores    each metric of both on the test rows of the run, with intervals, and of their difference; the naive baseline
    gates     what the run's gates said
    drifts    what moved from the rows that the one was made of to those of the other (`perron.drift` on the references)
    changes   what changed in the contract, and what that breaks (`perron.compatibility`)
    size and latency of the bundles, and the packages whose versions differ

The intervals are of 95 %, by the percentiles of a bootstrap over the test rows (B. Efron, 1979), the same rows drawn for
both models, so that the difference of two models that err alike is known better than either: rows count as independent.
The latency is that of one row at a time through the bundle's own checks and graph, on one thread, without HTTP, the two
models in turns.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from perron import bundle as bundles
from perron import tensors
from perron.compatibility import Change, bump_of, compare
from perron.contract import Schema
from perron.drift import Drift, find_drift
from perron.errors import NotFound, PerronError
from perron.evaluate import evaluate
from perron.history.table import add_pasts
from perron.ledger import CHAMPION
from perron.metrics import metric
from perron.project import Project
from perron.reference import sketch_features
from perron.snapshot import part_rows, read_snapshot
from perron.system import System
from perron.train import load_fitted, target_of, weight_of

__all__ = ["Comparison", "Latency", "Score", "Side", "compare_versions"]

DRAWS = 200  # of the bootstrap: the third digit of an interval's end is chance
MOST_ROWS = 20_000  # that are drawn from; of more, a sample, whose spread is scaled to all of them
CALLS, WARM = 300, 20  # single rows that are timed, and before them some that aren't
Say = Literal["better", "worse", "not told apart"]


@dataclass(frozen=True)
class Score:
    """A metric of the candidate and, where there is one, of the other: values and the ends of their intervals (None:
    nothing to draw from); `says` whether the difference is more than chance."""

    name: str
    value: float
    interval: tuple[float, float] | None
    baseline: float | None
    other: float | None = None
    other_interval: tuple[float, float] | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    says: Say | None = None


@dataclass(frozen=True)
class Latency:
    """Milliseconds that one row takes: the median and the slowest hundredth of the calls."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Side:
    """One of the two: its version (None: refused, not registered), run, commit, data, and what its bundle weighs and takes."""

    version: int | None
    run: str
    commit: str | None
    dirty: bool
    snapshot: str
    rows: int
    bundle: str | None
    bytes: int | None
    latency: Latency | None
    python: str | None
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """A run of a system beside another version of it.

    Attributes:
        is_refused: a gate wasn't passed, and nothing was registered.
        is_same: both came of the same rows, code, parameters and packages.
        other: None where there is nothing to compare with.
        test_rows: that the scores are of.
        recorded: the metrics are those that were recorded, without intervals, since the run's rows aren't here.
        unread: why the other can't be scored on the run's rows; its recorded metrics stand.
        drifts: None where there is no sketch of one of the two.
    """

    model: str
    task: str
    is_refused: bool
    is_same: bool
    candidate: Side
    other: Side | None
    alias: str
    scores: tuple[Score, ...]
    test_rows: int
    recorded: bool
    unread: str | None
    gates: tuple[Mapping[str, Any], ...]
    drifts: tuple[Drift, ...] | None
    changes: tuple[Change, ...]

    @property
    def bump(self) -> str:
        """The part of a semantic version that the contract's changes move."""
        return bump_of(self.changes)

    @property
    def deciding(self) -> Score | None:
        """The score that the verdict is about: of the first gate's metric, else the first."""
        by_name = {score.name: score for score in self.scores}
        named = (str(gate["name"]).partition(" ")[0] for gate in self.gates)
        return next((by_name[name] for name in named if name in by_name), self.scores[0] if self.scores else None)

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.model, "task": self.task, "refused": self.is_refused, "same": self.is_same,
            "candidate": _plain(self.candidate), "other": self.other and _plain(self.other), "against": self.alias,
            "scores": [vars(score) for score in self.scores], "test_rows": self.test_rows, "recorded": self.recorded,
            "unread": self.unread, "gates": list(self.gates),
            "drifts": None if self.drifts is None else [drift.to_json() for drift in self.drifts],
            "changes": [change.to_json() for change in self.changes], "bump": self.bump,
        }  # fmt: skip


def _plain(side: Side) -> dict[str, Any]:
    return {**vars(side), "latency": side.latency and vars(side.latency), "packages": dict(side.packages)}


# ------------------------------------------------------------------ the two sides


def compare_versions(
    project: Project, system: System, version: str | None = None, against: str = CHAMPION, *, calls: int = CALLS
) -> Comparison:
    """A version, or the newest run, beside another.

    Args:
        project: where both are.
        system: as it is declared now; its functions aren't needed.
        version: its number or alias; None: what the newest run came to, which may have been refused.
        against: a number or an alias. Where `champion` is the candidate itself, or came of the same training, it is the
            champion before: what the candidate was held to.
        calls: how many rows are timed.

    Raises:
        NotFound: there is no such version, or no run yet.
        BundleError: a bundle is damaged.
    """
    ledger, name = project.ledger, system.name
    run, row = _candidate(project, name, version)
    facts = ledger.get_run(run)
    outputs: dict[str, Any] = {
        step["name"]: ledger.find_result(ledger.step_key(run, step["name"]) or "") for step in facts["steps"]
    }
    if outputs.get("evaluate") is None:
        raise NotFound(
            f"The run {run} ended before it was evaluated; `perron runs {run}` shows it, `perron run` runs again."
        )
    rival = _rival(project, name, run, row, against)
    bundle = None if row is None else bundles.load(ledger.bundle_path(row), row["bundle"])
    other = None if rival is None else bundles.load(ledger.bundle_path(rival), rival["bundle"])
    schema = bundle.schema if bundle else _schema(project, facts, system)
    truths = _Truths.read(project, system, outputs, schema)
    measured, unread = _scores(project, system, outputs, truths, bundle, other)
    latencies = _latencies([one for one in (bundle, other) if one is not None], calls)
    return Comparison(
        model=name,
        task=system.task,
        is_refused=row is None,
        is_same=rival is not None and ledger.step_key(rival["run"], "train") == ledger.step_key(run, "train"),
        candidate=_side(project, run, row, outputs, bundle, latencies),
        other=None if rival is None else _side(project, rival["run"], rival, None, other, latencies),
        alias=against,
        scores=tuple(measured),
        test_rows=outputs["evaluate"]["rows"],
        recorded=truths is None,
        unread=unread,
        gates=tuple((outputs.get("gates") or {"gates": []})["gates"]),
        drifts=_drifts(truths, schema, bundle, other),
        changes=() if other is None or isinstance(other, bundles.GraphBundle) else tuple(compare(other.schema, schema)),
    )


def _candidate(project: Project, name: str, version: str | None) -> tuple[str, dict[str, Any] | None]:
    """The run, and the version that it registered; None where it was refused."""
    ledger = project.ledger
    if version is not None:
        row = ledger.get_version(name, version)
        return str(row["run"]), row
    for run in ledger.list_runs(50):
        if run["system"] != name or run["status"] not in ("done", "refused"):
            continue
        key = ledger.step_key(run["id"], "register")
        made = ledger.find_result(key) if key else None
        if run["status"] == "refused" or made is None:
            return str(run["id"]), None
        row = ledger.get_version(name, made["version"])
        return str(row["run"]), row  # of a run that was cached, the one that made the version
    raise NotFound(f"There is no run of {name} yet to report on; `perron run` makes one.")


def _rival(
    project: Project, name: str, run: str, candidate: dict[str, Any] | None, against: str
) -> dict[str, Any] | None:
    """The version to compare with; of an alias that came to the candidate, what it named before. None: nothing."""
    ledger = project.ledger
    event = None if against.isdigit() else ledger.get_alias(name, against)
    if event is None:
        if not against.isdigit() and against == CHAMPION:
            return None
        return ledger.get_version(name, against)
    key, twin = ledger.step_key(run, "train"), None
    while event is not None:
        version = ledger.get_version(name, event["version"])
        is_own = candidate is not None and version["version"] == candidate["version"]
        if not is_own and ledger.step_key(version["run"], "train") != key:
            return version
        if not is_own:
            twin = twin or version
        event = ledger.alias_before(name, against, event["id"])
    return twin


def _schema(project: Project, facts: Mapping[str, Any], system: System) -> Schema:
    """The contract that a run was under."""
    try:
        return Schema.from_json(project.store.get_json(facts["contract"]))
    except PerronError:
        return system.schema


def _side(
    project: Project,
    run: str,
    row: dict[str, Any] | None,
    outputs: Mapping[str, Any] | None,
    bundle: bundles.Bundle | None,
    latencies: Mapping[str, Latency],
) -> Side:
    lineage = bundle.manifest.get("lineage", {}) if bundle else {}
    data, environment = lineage.get("data") or {}, lineage.get("environment") or {}
    facts: dict[str, Any] = {}
    with contextlib.suppress(NotFound):  # one that was registered from a file has none
        facts = project.ledger.get_run(run)
    taken = (outputs or {}).get("snapshot") or {}
    packages = environment.get("packages") or facts.get("environment")
    try:
        known = project.store.get_json(packages) if packages else {}
    except PerronError:
        known = {}
    code = lineage.get("code") or {}
    return Side(
        version=None if row is None else int(row["version"]),
        run=run,
        commit=code.get("commit") or facts.get("code_commit"),
        dirty=bool(code.get("dirty") or facts.get("code_dirty")),
        snapshot=str(data.get("snapshot") or taken.get("digest") or ""),
        rows=int(data.get("rows") or taken.get("rows") or 0),
        bundle=bundle.digest if bundle else None,
        bytes=sum(path.stat().st_size for path in bundle.path.iterdir()) if bundle else None,
        latency=latencies.get(bundle.digest) if bundle else None,
        python=known.get("python"),
        packages=dict(package.split("==", 1) for package in known.get("packages", ()) if "==" in package),
    )


# ------------------------------------------------------------------ scores


@dataclass(frozen=True)
class _Truths:
    """The test rows of a run: the whole table that it was split from, the split, and the targets and weights."""

    table: pa.Table
    split: str
    truth: Any
    weight: Any

    @classmethod
    def read(cls, project: Project, system: System, outputs: Mapping[str, Any], schema: Schema) -> "_Truths | None":
        """None where the rows aren't in this store."""
        snapshot, split = outputs.get("snapshot"), outputs.get("split")
        if (
            not snapshot
            or not split
            or not project.store.has(snapshot["digest"])
            or not project.store.has(split["digest"])
        ):
            return None
        table = read_snapshot(project.store, snapshot["digest"])
        rows = part_rows(project.store, table, split["digest"])[1]
        return cls(table, split["digest"], target_of(schema, rows), weight_of(schema, rows))


def _scores(
    project: Project,
    system: System,
    outputs: Mapping[str, Any],
    truths: _Truths | None,
    bundle: bundles.Bundle | None,
    other: bundles.Bundle | None,
) -> tuple[list[Score], str | None]:
    recorded, baseline = outputs["evaluate"]["metrics"], outputs["evaluate"]["baseline"]
    others: Mapping[str, float] = other.manifest.get("metrics") or {} if other else {}
    plain = [Score(name, value, None, baseline.get(name), others.get(name)) for name, value in recorded.items()]
    if truths is None:
        return plain, None
    mine = _answers_of(project, truths, bundle) if bundle else _fitted_answers(project, system, outputs, truths)
    if mine is None:
        return plain, None
    theirs, unread = None, None
    if other is not None:
        try:
            theirs = _answers_of(project, truths, other)
        except (KeyError, PerronError, pa.ArrowInvalid, pa.ArrowNotImplementedError):
            unread = "its contract is another, and it can't read these rows"
    sides = [mine] if theirs is None else [mine, theirs]
    full = [_evaluate(system.task, truths, side, None) for side in sides]
    drawn = _draw(system.task, truths, sides)
    scores = []
    for name in recorded:
        if name not in full[0]:
            continue
        own, spread = full[0][name], [draw[0].get(name) for draw in drawn.draws]
        score = Score(
            name, own, drawn.ends(own, spread, drawn.whole[0].get(name)), baseline.get(name), others.get(name)
        )
        if theirs is not None and name in full[1]:
            value = full[1][name]
            apart = [
                a - b if (a := d[0].get(name)) is not None and (b := d[1].get(name)) is not None else None
                for d in drawn.draws
            ]
            whole = drawn.whole[0].get(name, np.nan) - drawn.whole[1].get(name, np.nan)
            ends = drawn.ends(own - value, apart, whole)
            score = Score(
                name, own, score.interval, score.baseline, value,
                drawn.ends(value, [d[1].get(name) for d in drawn.draws], drawn.whole[1].get(name)),
                own - value, ends, _says(name, ends),
            )  # fmt: skip
        scores.append(score)
    return scores, unread


_Answers = tuple[Any, Any | None, Sequence[Any]]  # values (n,), probabilities (n, k) or None, classes


def _answers_of(project: Project, truths: _Truths, bundle: bundles.Bundle) -> _Answers:
    """A bundle's answers to the test rows.

    Raises:
        KeyError, PerronError, ArrowInvalid, ArrowNotImplementedError: its contract can't read them.
    """
    pasts = bundle.history.pasts if bundle.history else ()
    table = add_pasts(truths.table, bundle.schema, pasts)
    rows = part_rows(project.store, table, truths.split)[1]
    feed = tensors.from_table(bundle.schema, rows) | {past.name: np.asarray(rows[past.name]) for past in pasts}
    return (*bundle.run(feed), bundle.classes or ())


def _fitted_answers(project: Project, system: System, outputs: Mapping[str, Any], truths: _Truths) -> _Answers | None:
    """The answers of a model that was refused and so has no bundle, as it was fitted here; None where it is gone."""
    trained = outputs.get("train")
    if not trained or not project.store.has(trained["digest"]):
        return None
    fitted = load_fitted(project.store.get(trained["digest"]))
    rows = part_rows(project.store, add_pasts(truths.table, system.schema, system.history), truths.split)[1]
    return (*fitted.predict(rows), fitted.classes or ())


def _evaluate(task: Any, truths: _Truths, side: _Answers, rows: Any | None) -> dict[str, float]:
    values, probabilities, classes = side

    def pick(array: Any) -> Any:
        return array if array is None or rows is None else array[rows]

    return evaluate(task, pick(truths.truth), pick(values), pick(probabilities), classes, pick(truths.weight))


@dataclass(frozen=True)
class _Drawn:
    """The metrics of each draw and of all rows that were drawn from, by side; and what the spread is scaled by."""

    draws: Sequence[Sequence[Mapping[str, float]]]
    whole: Sequence[Mapping[str, float]]
    scale: float

    def ends(self, value: float, spread: Sequence[float | None], middle: float | None) -> tuple[float, float] | None:
        """The ends of the interval around a value; None where too few draws have the metric."""
        found = [one for one in spread if one is not None]
        if len(found) < DRAWS / 2 or middle is None or middle != middle:
            return None
        low, high = np.quantile(np.array(found) - middle, [0.025, 0.975]) * self.scale
        return value + float(low), value + float(high)


def _draw(task: Any, truths: _Truths, sides: Sequence[_Answers]) -> _Drawn:
    chance, count = np.random.default_rng(0), len(truths.truth)
    rows = np.arange(count) if count <= MOST_ROWS else chance.choice(count, MOST_ROWS, replace=False)
    draws = []
    for _ in range(DRAWS):
        drawn = rows[chance.integers(0, len(rows), len(rows))]
        draws.append([_evaluate(task, truths, side, drawn) for side in sides])
    return _Drawn(draws, [_evaluate(task, truths, side, rows) for side in sides], float(np.sqrt(len(rows) / count)))


def _says(name: str, ends: tuple[float, float] | None) -> Say | None:
    if ends is None:
        return None
    if ends[0] <= 0 <= ends[1]:
        return "not told apart"
    return "better" if (ends[0] > 0) == metric(name).higher_is_better else "worse"


# ------------------------------------------------------------------ data and speed


def _drifts(
    truths: _Truths | None, schema: Schema, bundle: bundles.Bundle | None, other: bundles.Bundle | None
) -> tuple[Drift, ...] | None:
    """What moved, by the two references; of a refused run, which has none, by the features of its rows."""
    before = other.reference if other else None
    if before is None:
        return None
    now = bundle.reference if bundle else None
    if now is None and truths is not None and bundle is None:
        now = sketch_features(schema, [tensors.from_table(schema, truths.table)])
    return None if now is None else tuple(find_drift(before, now))


def _latencies(opened: Sequence[bundles.Bundle], calls: int) -> dict[str, Latency]:
    """What a row takes, by the bundle's digest; the bundles are asked in turns, so that what else goes on falls on all."""
    timed = {one.digest: one for one in opened if not isinstance(one, bundles.GraphBundle)}
    taken: dict[str, list[float]] = {digest: [] for digest in timed}
    for call in range(calls + WARM):
        for digest, one in timed.items():
            row = one.sample["rows"]
            started = time.perf_counter()
            one.predict(row)
            if call >= WARM:
                taken[digest].append(time.perf_counter() - started)
    return {
        digest: Latency(*(round(float(ms), 4) for ms in np.quantile(np.array(seconds) * 1000, [0.5, 0.99])))
        for digest, seconds in taken.items()
        if seconds
    }
