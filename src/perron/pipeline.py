"""A System in; a run of its steps out, each done once per key: its code, its inputs' hashes, its parameters and its environment.

    snapshot ─▶ split ─▶ train ─▶ evaluate ─▶ gates ─▶ reference ─▶ bundle ─▶ register

A step is a function `(Work) -> output`; its output is plain JSON data, and what is large is a blob in
the store, named there by its hash. An output is recorded when the step ends, so a killed run resumes
at the step that it was in. This module loads nothing heavy: a run that has nothing to do takes
milliseconds. The steps' work is in `perron.steps`.
"""

import contextlib
import importlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from perron.canvas import read_canvas
from perron.digest import digest, digest_bytes, digest_code, digest_file
from perron.environment import code_of, environment_of
from perron.errors import PerronError
from perron.ledger import CHAMPION, is_automatic
from perron.locks import alone
from perron.project import Project, Work, rival_of
from perron.source import UNTOLD, Description, Readable, describe, is_opened, local_files, open_source, shown
from perron.system import System

__all__ = ["STEPS", "Progress", "Result", "Step", "package_digest", "run_pipeline", "source_digest"]


@dataclass(frozen=True)
class Step:
    """A step: its name, what its key is made of beside its code and environment, and whether an earlier
    output still holds. Its function is the one of its name in `perron.steps`."""

    name: str
    inputs: Callable[[Work], Any]
    holds: Callable[[Work, Mapping[str, Any]], bool] = lambda work, output: True


class Progress(Protocol):
    """Told of each step as it starts and ends, and when it waits for another run: `progress("train", "running", 0.0)`."""

    def __call__(self, step: str, status: str, seconds: float, /) -> None: ...


@dataclass
class Result:
    """What a run came to; `status` is done, or refused when a gate wasn't passed."""

    run: str
    status: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    champion: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The run as `perron run --json` prints it."""
        out = self.outputs
        return {
            "run": self.run,
            "status": self.status,
            "steps": self.steps,
            "metrics": out["evaluate"]["metrics"],
            "baseline": out["evaluate"]["baseline"],
            "folds": out["evaluate"]["folds"],
            "findings": out["snapshot"]["findings"] + out["split"]["findings"],
            "gates": out["gates"]["gates"],
            "model": {"name": self.model, "version": out.get("register", {}).get("version"), "champion": self.champion},
            "data": {
                "snapshot": out["snapshot"]["digest"],
                "rows": out["snapshot"]["rows"],
                "quarantined": out["snapshot"]["quarantined"],
                "quarantine": out["snapshot"]["quarantine"],
                "faults": out["snapshot"]["faults"],
            },
            "parity": out["bundle"]["parity"] if "bundle" in out else None,
        }


def _champion_key(work: Work) -> Any:
    """The champion that the candidate is held to; where the champion is this very candidate, the one that it replaced."""
    rival = rival_of(work)
    return None if rival is None else rival["bundle"]


def _rows(work: Work) -> list[str]:
    """What decides which rows are train rows and which are test rows, and what is in them."""
    return [work.outputs["snapshot"]["digest"], work.outputs["split"]["digest"]]


def _is_in_force(work: Work, output: Mapping[str, Any]) -> bool:
    """Whether registering again would change nothing: the version has its alias, or another one was given it by hand."""
    ledger, name = work.project.ledger, work.system.name
    event = ledger.get_alias(name, output.get("alias", CHAMPION))
    if event is None or (event["version"] != output["version"] and is_automatic(event)):
        champion = ledger.get_alias(name, CHAMPION)  # a challenger that was promoted meanwhile is at its end
        return champion is not None and champion["version"] == output["version"]
    return True


def _source_key(work: Work) -> list[Any]:
    """The source's bytes (the run itself, where only reading tells), its name, which the snapshot's output tells, how it
    is read, and the labels' bytes."""
    system = work.system
    how = [system.source.kind, system.source.options] if isinstance(system.source, Description) else []
    key = [source_digest(work) or work.run, shown(system.source), how]
    if system.labels is None:
        return [*key, None]
    path = work.project.folder / system.labels
    return [*key, digest_file(path) if path.is_file() else "missing"]


def _rules_key(work: Work) -> Any:
    """The rules, the bytes of what they refer to, and the time by tenths of what freshness allows."""
    key: list[Any] = []
    for rule in work.system.checks:
        key.append(rule)
        if rule.other is not None:
            key.append(_digest_of(work, rule.other[0]) or work.run)
        if rule.within_s is not None:
            key.append(int(time.time() / (rule.within_s / 10)))
    return key


def _folds_key(work: Work) -> Any:
    """What the folds depend on beside the model and the parts: how they are made, and all that the fitting depends on."""
    return [work.system.split, work.outputs["train"]["key"]] if work.system.split.folds else None


def _training(work: Work) -> list[Any]:
    """What of the system decides, beside the rows and the contract, what is fitted on them."""
    system = work.system
    return [_functions(work), system.params, system.seed, system.cleaning, system.history]


STEPS = (
    Step("snapshot", lambda w: [*_source_key(w), w.system.schema.to_json(), w.system.max_bad_share, _rules_key(w)]),
    Step("split", lambda w: [w.outputs["snapshot"]["digest"], w.system.split, w.system.schema.to_json()]),
    Step("train", lambda w: [*_rows(w), w.system.schema.to_json(), *_training(w)]),
    Step("evaluate", lambda w: [w.outputs["train"]["digest"], *_rows(w), _folds_key(w)]),
    Step("gates", lambda w: [w.outputs["evaluate"], *_rows(w), w.gates, _champion_key(w)]),
    Step("reference", lambda w: [w.outputs["train"]["digest"], *_rows(w), w.system.schema.to_json(), w.system.seed]),
    Step(
        "bundle",
        lambda w: [
            w.outputs["train"]["digest"],
            w.outputs["reference"]["blobs"],
            *_rows(w),
            w.outputs["evaluate"],
            w.system.name,
            w.system.sensitive,
            w.system.history,
            *([w.canvas.words] if w.canvas is not None else []),
        ],
    ),
    Step(
        "register",
        lambda w: [w.outputs["bundle"]["digest"], w.outputs["gates"], w.system.name, w.system.rollout],
        _is_in_force,
    ),
)


def run_pipeline(system: System, project: Project, progress: Progress | None = None) -> Result:
    """The result of running the system's steps; those with a known key do no work.

    Raises:
        PerronError: a step failed; the run is recorded as failed with the message.
    """
    tell = progress or (lambda step, status, seconds: None)
    canvas = read_canvas(project.folder)  # before a run is begun: a mistake in it is none of the run's
    environment, code, ledger = environment_of(), code_of(project.folder), project.ledger
    run = ledger.start_run(
        system.name,
        code_commit=code.commit,
        code_dirty=code.dirty,
        contract=project.store.put_json(system.schema.to_json()),
        environment=project.store.put_json(environment),
    )
    outputs: dict[str, Any] = {}
    result = Result(run, "running", outputs=outputs, model=system.name)
    work = Work(system, project, run, code, environment, outputs, canvas)
    base = [package_digest(), digest(environment)]
    try:
        _run_steps(work, result, base, tell)
    except BaseException as error:
        status = "failed" if isinstance(error, Exception) else "killed"
        ledger.end_run(run, status, str(error) if isinstance(error, PerronError) else repr(error))
        raise
    ledger.end_run(run, result.status)
    event = ledger.get_alias(system.name, CHAMPION)
    result.champion = event["version"] if event else None
    return result


def _run_steps(work: Work, result: Result, base: list[str], tell: Progress) -> None:
    ledger, cached = work.project.ledger, list[tuple[str, str]]()
    with contextlib.ExitStack() as held:
        for step in STEPS:
            if step.name == "gates":  # from here on alone with the champion: what is held to it is what replaces it
                held.enter_context(_alone(work, work.system.name, step.name, tell))
            key = digest([step.name, base, step.inputs(work)])
            output, seconds = _known(step, work, key), None
            if output is None:
                ledger.log_cached_steps(work.run, cached)
                cached = []
                with _alone(work, key, step.name, tell):
                    output = _known(step, work, key)  # of a run that was at it just now
                    if output is None:
                        output, seconds = _do(step, work, key, tell)
            if seconds is None:
                cached.append((step.name, key))
                tell(step.name, "cached", 0.0)
            status = "cached" if seconds is None else "done"
            result.steps.append({"name": step.name, "status": status, "seconds": round(seconds or 0.0, 3)})
            result.outputs[step.name] = {**output, "key": key}
            if step.name == "evaluate":  # of a cached step too: a run's numbers are its own, wherever they come from
                ledger.log_metrics(work.run, "test", output["metrics"])
                ledger.log_metrics(work.run, "baseline", output["baseline"])
            if step.name == "gates" and not all(gate["passed"] for gate in output["gates"]):
                result.status = "refused"
                break
    ledger.log_cached_steps(work.run, cached)
    if result.status == "running":
        result.status = "done"


def _alone(work: Work, name: str, step: str, tell: Progress) -> contextlib.AbstractContextManager[None]:
    """The machine's lock of that name; whoever finds it held says so and waits."""
    return alone(work.project.folder / ".perron" / "locks" / name, lambda: tell(step, "waiting", 0.0))


def _known(step: Step, work: Work, key: str) -> dict[str, Any] | None:
    """What the step put out under that key, where it still stands."""
    output = work.project.ledger.find_result(key)
    return output if output is not None and _is_whole(work.project, output) and step.holds(work, output) else None


def _do(step: Step, work: Work, key: str, tell: Progress) -> tuple[dict[str, Any], float]:
    """What the step puts out, and its seconds."""
    ledger = work.project.ledger
    tell(step.name, "running", 0.0)
    ledger.start_step(work.run, step.name, key)
    started = time.perf_counter()
    try:
        function = getattr(importlib.import_module("perron.steps"), step.name)
        output: dict[str, Any] = function(work)
    except BaseException:
        ledger.end_step(work.run, step.name, "failed", time.perf_counter() - started)
        tell(step.name, "failed", time.perf_counter() - started)
        raise
    seconds = time.perf_counter() - started
    ledger.end_step(work.run, step.name, "done", seconds, key=key, output=output)
    tell(step.name, "done", seconds)
    return output, seconds


def _is_whole(project: Project, output: Mapping[str, Any]) -> bool:
    """Whether what a step left is still there, so that its output may stand; a bundle is read whole, as the server will."""
    if not all(project.store.has(blob) for blob in output.get("blobs", {}).values()):
        return False
    if "folder" not in output:
        return True
    folder = project.folder / output["folder"]
    try:
        manifest = (folder / "manifest.json").read_bytes()
        return digest_bytes(manifest) == output["digest"] and all(
            digest_file(folder / name) == facts["sha256"] for name, facts in json.loads(manifest)["files"].items()
        )
    except OSError:
        return False


def _functions(work: Work) -> list[str | None]:
    """The digests of the user's features and model functions, with what they use of the project's own code."""
    system, root = work.system, work.project.folder
    return [None if f is None else digest_code(f, root) for f in (system.features_function, system.model_function)]


def source_digest(work: Work) -> str | None:
    """What decides that the system's source is unchanged: the digest of its files' bytes, remembered by their sizes and
    times of change, or what a server says of a file. None where only reading tells (a database, a function): it is
    read anew in each run, and what comes after is cached by what was read."""
    return _digest_of(work, work.system.source)


def _digest_of(work: Work, readable: Readable) -> str | None:
    """A source that can't be read has none: the step says why, in words."""
    folder = work.project.folder
    try:
        described = None if is_opened(readable) else describe(readable, folder)
        if described is not None and described.kind in UNTOLD:
            return None
        facts, youngest = _facts_of(described, folder)
        key = digest(["source", described.kind if described else None, facts])
        known = work.project.ledger.find_result(key) if facts else None
        # A file that changed within the clock's resolution keeps its time: one that is younger is read again.
        if known is not None and time.time_ns() - youngest > 2_000_000_000:
            return str(known["digest"])
        found = open_source(described or readable, folder).fingerprint()
    except (PerronError, OSError):
        return None
    if facts and found is not None:
        work.project.ledger.remember(key, "source", {"digest": found}, work.run)
    return found


def _facts_of(described: Description | None, folder: Path) -> tuple[list[Any], int]:
    """Of each local file its path, size, time of change and number; and the latest of the times."""
    files = local_files(described, folder) if described else None
    stats = [(path, path.stat()) for path in files or ()]
    facts = [[str(path.resolve()), s.st_size, s.st_mtime_ns, s.st_ino] for path, s in stats]
    return facts, max((s.st_mtime_ns for _, s in stats), default=0)


@cache
def package_digest() -> str:
    """The digest of Perron's own code: another version of it may compute something else."""
    root = Path(__file__).parent
    return digest(
        [
            [str(path.relative_to(root)), digest_file(path)]
            for path in sorted(root.rglob("*.py"))
            if not {"cli", "serve", "ship", "testing"}.intersection(path.relative_to(root).parts)
        ]
    )
