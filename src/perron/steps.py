"""The pipeline's steps: each takes a Work and gives plain data; blobs that it left are under `blobs`."""

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from perron import bundle as bundles
from perron import tensors
from perron.contract import Schema
from perron.errors import FeatureError, PerronError
from perron.evaluate import baseline as naive
from perron.evaluate import evaluate as score
from perron.export import export_graph
from perron.gates import judge_gate
from perron.history import Past
from perron.history.table import add_pasts, pack_table
from perron.labels.table import WithLabels
from perron.ledger import BY_GATES, CHAMPION
from perron.parity import compare
from perron.pipeline import source_digest
from perron.project import Work, rival_of
from perron.reference import make_reference
from perron.snapshot import part_rows, read_snapshot, take_snapshot
from perron.source import ReadAhead, Source, open_source, shown
from perron.split.leaks import find_leaks
from perron.split.rows import NEITHER, TEST, TRAIN, fold_rows, split_rows
from perron.train import Fitted, load_fitted, save_fitted, target_of, weight_of
from perron.train import train as fit

__all__ = ["bundle", "evaluate", "gates", "reference", "register", "snapshot", "split", "train"]


ROWS_ALONE = 200  # test rows that are also answered one by one


def snapshot(work: Work) -> dict[str, Any]:
    """Reads the source, quarantines bad rows, keeps the good ones."""
    moment = time.time()
    system, project = work.system, work.project
    opened: Source = open_source(system.source, project.folder)
    if system.labels is not None:
        opened = WithLabels(opened, open_source(project.folder / system.labels), system.schema)
    with ReadAhead(opened) as source:
        taken = take_snapshot(source, system.schema, project.store, system.max_bad_share, system.checks, project.folder)
    blobs = {"snapshot": taken.digest} | ({"quarantine": taken.quarantine} if taken.quarantine else {})
    _note(work, "snapshot", "out", blobs)
    return {
        **asdict(taken),
        "taken": moment,
        "source": shown(work.system.source),
        "source_digest": source_digest(work),
        "labels": work.system.labels,
        "blobs": blobs,
    }


def split(work: Work) -> dict[str, Any]:
    """Parts the snapshot's rows, and looks for what leaked."""
    table, schema = read_snapshot(work.project.store, work.outputs["snapshot"]["digest"]), work.system.schema
    parts = split_rows(work.system.split, table, schema)
    is_train, is_test = parts == TRAIN, parts == TEST
    digest = work.project.store.put_bytes(np.packbits(np.stack([is_train, is_test]), axis=1).tobytes())
    _note(work, "split", "in", {"snapshot": work.outputs["snapshot"]["digest"]})
    _note(work, "split", "out", {"split": digest})
    return {
        "digest": digest,
        "train_rows": int(is_train.sum()),
        "test_rows": int(is_test.sum()),
        "unused_rows": int((parts == NEITHER).sum()),
        "findings": find_leaks(schema, table.filter(pa.array(is_train)), table.filter(pa.array(is_test))),
        "blobs": {"split": digest},
    }


def train(work: Work) -> dict[str, Any]:
    """Fits the model on the train rows."""
    fitted = fit(work.system, _parts(work)[0])
    with work.project.store.scratch() as folder:
        save_fitted(fitted, folder / "fitted.pickle")
        digest = work.project.store.adopt(folder / "fitted.pickle")
    work.project.ledger.log_params(work.run, _params_of(work, fitted))
    _note(
        work, "train", "in", {"snapshot": work.outputs["snapshot"]["digest"], "split": work.outputs["split"]["digest"]}
    )
    _note(work, "train", "out", {"model": digest})
    return {"digest": digest, "blobs": {"model": digest}}


def _params_of(work: Work, fitted: Fitted) -> dict[str, Any]:
    """The last estimator's parameters, as far as they are plain data."""
    estimator = fitted.pipeline.steps[-1][1]
    plain = {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if value is None or isinstance(value, str | int | float | bool)
    }
    return {"estimator": type(estimator).__name__, "seed": work.system.seed, **plain}


def evaluate(work: Work) -> dict[str, Any]:
    """Scores the model on the test rows, and the naive baseline beside it; with folds, models like it on the train rows."""
    train_rows, test_rows = _parts(work)
    fitted, schema = _fitted(work), work.system.schema
    truth, weight = target_of(schema, test_rows), weight_of(schema, test_rows)
    values, probabilities = fitted.predict(test_rows)
    classes = fitted.classes or ()
    metrics = score(work.system.task, truth, values, probabilities, classes, weight)
    baseline = naive(
        work.system.task, target_of(schema, train_rows), truth, classes, weight, weight_of(schema, train_rows)
    )
    _note(work, "evaluate", "in", {"model": work.outputs["train"]["digest"]})
    return {
        "metrics": metrics,
        "baseline": baseline,
        "rows": test_rows.num_rows,
        "folds": _folds(work, train_rows) if work.system.split.folds else None,
    }


def _folds(work: Work, rows: pa.Table) -> dict[str, Any]:
    """The metrics of models fitted on parts of the train rows: their mean, spread and values by fold."""
    system, found = work.system, []
    for fitted_on, held in fold_rows(system.split, rows, system.schema):
        fitted, held_rows = fit(system, rows.filter(pa.array(fitted_on))), rows.filter(pa.array(held))
        truth, weight = target_of(system.schema, held_rows), weight_of(system.schema, held_rows)
        found.append(score(system.task, truth, *fitted.predict(held_rows), fitted.classes or (), weight))
    names = [name for name in found[0] if all(name in scores for scores in found)]
    points = [(name, fold, scores[name]) for fold, scores in enumerate(found) for name in names]
    work.project.ledger.log_metrics(work.run, "folds", points)
    return {
        "count": len(found),
        "kind": "rolling origin" if system.split.kind == "by_time" else f"{system.split.kind} k-fold",
        "metrics": {name: _spread([scores[name] for scores in found]) for name in names},
    }


def _spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation of the sample, and the values themselves."""
    return {"mean": float(np.mean(values)), "std": float(np.std(values, ddof=1)), "values": values}


def gates(work: Work) -> dict[str, Any]:
    """Judges the metrics; a champion is scored on the same test rows."""
    scores, baseline = work.outputs["evaluate"]["metrics"], work.outputs["evaluate"]["baseline"]
    champion = _champion_scores(work) if any(gate.rule == "no_worse_than_champion" for gate in work.gates) else None
    verdicts = [judge_gate(gate, scores, baseline, champion) for gate in work.gates]
    return {"gates": [verdict.to_json() for verdict in verdicts]}


def _champion_scores(work: Work) -> dict[str, float] | None:
    """The champion's metrics on this run's test rows; those that it was registered with where it can't read the rows."""
    rival = rival_of(work)
    if rival is None:
        return None
    champion = bundles.load(work.project.ledger.bundle_path(rival), rival["bundle"])
    if isinstance(champion, bundles.GraphBundle):  # registered from a file under this name: it takes no rows
        return None
    schema, test_rows = work.system.schema, _parts(work)[1]
    try:
        pasts = champion.history.pasts if champion.history else ()
        rows = _parts(work, champion.schema, pasts)[1] if pasts else test_rows
        feed = tensors.from_table(champion.schema, rows) | {past.name: np.asarray(rows[past.name]) for past in pasts}
        values, probabilities = champion.run(feed)
    except (KeyError, PerronError, pa.ArrowInvalid, pa.ArrowNotImplementedError):  # another contract
        recorded: dict[str, float] = champion.manifest["metrics"]
        return recorded
    truth, weight = target_of(schema, test_rows), weight_of(schema, test_rows)
    return score(work.system.task, truth, values, probabilities, champion.classes or (), weight)


def reference(work: Work) -> dict[str, Any]:
    """Sketches what the model was made of, and fits what tells its performance before outcomes do."""
    made = make_reference(_fitted(work), *_parts(work), seed=work.system.seed)
    store = work.project.store
    blobs = {"reference": store.put_bytes(made.sketch.to_bytes())}
    if made.loss is not None:
        blobs["loss"] = store.put_bytes(made.loss)
    _note(work, "reference", "in", {"model": work.outputs["train"]["digest"]})
    _note(work, "reference", "out", blobs)
    return {"estimator": made.estimator, "blobs": blobs}


def bundle(work: Work) -> dict[str, Any]:
    """Exports the graph, proves it on every test row, and packs the bundle."""
    fitted, (_, test_rows), system = _fitted(work), _parts(work), work.system
    graph = export_graph(fitted)
    parity = _prove(fitted, graph, test_rows)
    parity.demand()
    lineage = {
        "run": work.run,
        "data": {
            "snapshot": work.outputs["snapshot"]["digest"],
            "rows": work.outputs["snapshot"]["rows"],
            "contract": system.schema.digest,
        },
        "code": asdict(work.code),
        "environment": {
            "python": work.environment["python"],
            "packages": work.project.store.put_json(work.environment),
        },
    }
    folder = work.project.bundles / f"{system.name}-{work.run}"
    packed = bundles.pack(
        folder,
        graph=graph,
        schema=system.schema,
        history=pack_table(_snapshot(work), system.schema, system.history, work.outputs["snapshot"]["taken"]),
        reference={
            name: work.project.store.get(work.outputs["reference"]["blobs"][blob]).read_bytes()
            for name, blob in ((bundles.REFERENCE, "reference"), (bundles.LOSS, "loss"))
            if blob in work.outputs["reference"]["blobs"]
        },
        sample={"rows": [_sample_row(system.schema, test_rows)]},
        facts={
            "name": system.name,
            "task": system.task,
            "classes": None if fitted.classes is None else list(fitted.classes),
            "metrics": work.outputs["evaluate"]["metrics"],
            "baseline": work.outputs["evaluate"]["baseline"],
            "parity": parity.to_json(),
            "sensitive": system.sensitive,
            "estimator": work.outputs["reference"]["estimator"],
            "lineage": lineage,
            **({"use_case": work.canvas.words} if work.canvas is not None else {}),
        },
    )
    _note(work, "bundle", "in", {"model": work.outputs["train"]["digest"]})
    _note(work, "bundle", "out", {"bundle": packed.digest})
    return {"digest": packed.digest, "folder": str(folder.relative_to(work.project.folder)), "parity": parity.to_json()}


def _prove(fitted: Fitted, graph: bytes, rows: pa.Table) -> Any:
    """The graph's parity with the model on all rows; and that a row's answer is its own, whoever is asked beside it.

    Raises:
        FeatureError: a row is answered otherwise alone than among others.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    used = {given.name for given in session.get_inputs()}
    feed = {name: array for name, array in fitted.raw(rows).items() if name in used}

    def answer(part: Any) -> tuple[Any, Any | None]:
        found = session.run(None, {name: array[part] for name, array in feed.items()})
        return found[0], found[1] if len(found) > 1 else None

    got = answer(slice(None))
    alone = [answer(slice(row, row + 1)) for row in range(min(rows.num_rows, ROWS_ALONE))]
    together = (got[0][:ROWS_ALONE], None if got[1] is None else got[1][:ROWS_ALONE])
    apart = (np.concatenate([a[0] for a in alone]), None if got[1] is None else np.concatenate([a[1] for a in alone]))
    if not compare(together, apart, is_classification=fitted.classes is not None).holds:
        raise FeatureError(
            "The answer to a row depends on the rows beside it; a feature computes over a whole column "
            "(a mean, a sort, a cumulative sum): take such numbers from the train rows instead."
        )
    return compare(fitted.predict(rows), got, is_classification=fitted.classes is not None)


def _sample_row(schema: Any, rows: pa.Table) -> dict[str, Any]:
    """The first test row with nothing missing, or the first: an example for people to send."""
    names = [field.name for field in schema.request if field.is_asked]
    whole = rows.select(names).slice(0, 1000).drop_null()
    row = (whole if whole.num_rows else rows.select(names)).slice(0, 1).to_pylist()[0]
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in row.items()
        if value is not None
    }


def register(work: Work) -> dict[str, Any]:
    """Gives the bundle a version, and makes it the champion: it passed the gates.

    With a rollout declared, and another champion in force, it becomes the challenger, and requests are parted.
    """
    ledger, made = work.project.ledger, work.outputs["bundle"]
    path = (work.project.folder / made["folder"]).relative_to(work.project.folder / ".perron")
    version = ledger.register(work.system.name, made["digest"], str(path), work.run)
    name, rollout, reason = work.system.name, work.system.rollout, f"{BY_GATES}{work.run}"
    champion = ledger.get_alias(name, CHAMPION)
    if rollout is None or champion is None or champion["version"] == version:
        ledger.set_alias(name, CHAMPION, version, reason)
        return {"version": version, "alias": CHAMPION}
    ledger.set_alias(name, rollout.version, version, reason)
    ledger.add_routing(name, rollout.routing, reason)
    return {"version": version, "alias": rollout.version}


def _snapshot(work: Work) -> pa.Table:
    return read_snapshot(work.project.store, work.outputs["snapshot"]["digest"])


def _parts(
    work: Work, schema: Schema | None = None, pasts: tuple[Past, ...] | None = None
) -> tuple[pa.Table, pa.Table]:
    """The train rows and the test rows, with their pasts: by the system's declarations, or by another model's.

    A row's past is made of all rows before it, whichever part they are in: a test row sees train rows, as in life.
    """
    system = work.system
    table = add_pasts(_snapshot(work), schema or system.schema, system.history if pasts is None else pasts)
    return part_rows(work.project.store, table, work.outputs["split"]["digest"])


def _fitted(work: Work) -> Fitted:
    return load_fitted(work.project.store.get(work.outputs["train"]["digest"]))


def _note(work: Work, step: str, direction: str, blobs: dict[str, str]) -> None:
    store = work.project.store
    work.project.ledger.log_artifacts(
        work.run,
        step,
        direction,
        {
            name: (digest, store.path(digest).stat().st_size if store.has(digest) else None)
            for name, digest in blobs.items()
        },
    )
