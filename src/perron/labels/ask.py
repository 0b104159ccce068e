"""Logged predictions or a source in; the rows that people should label, chosen and written as tasks, out."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from perron import bundle as bundles
from perron import predictions
from perron.bundle import Bundle
from perron.check import judge_row, parse
from perron.check.table import TableCheck, arrow_schema, read_values
from perron.contract import Role, Schema
from perron.digest import digest_file
from perron.errors import DataError, ModelError, NotFound
from perron.history.table import fed
from perron.labels import LABELS, ORIGIN, TASK, asked_folder
from perron.labels.files import Task, check_target, write_tasks
from perron.labels.score import committee_scores, drift_scores, margin_scores
from perron.labels.table import id_of, read_labelled, row_id
from perron.ledger import CHAMPION
from perron.project import Project
from perron.source import Source
from perron.system import System

__all__ = ["Asked", "How", "ask"]

How = Literal["random", "uncertainty", "drifted"]
MOST_CANDIDATES = 100_000  # rows that are ranked: beyond it, a sample of them in which each is as likely
# Of logged predictions; no field can have these names.
LOGGED, VALUE, SHARES, MODEL = "task logged", "task value", "task shares", "task model"
CHUNK = 5_000
MARGIN = "1 - (probability of the likeliest class - that of the second)"


@dataclass
class Asked:
    """What was chosen: how many rows were looked at, why some weren't candidates, and the tasks."""

    output: str
    how: str
    asked: int
    measure: str
    seen: int = 0
    candidates: int = 0
    labelled: int = 0
    broken: int = 0
    doubles: int = 0
    auc: float | None = None
    tasks: list[Task] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The choice as `perron label export --json` prints it."""
        made = {name: value for name, value in vars(self).items() if name != "tasks"}
        return {**made, "rows": len(self.tasks), "tasks": [task.id for task in self.tasks]}


def ask(
    project: Project,
    system: System,
    source: Source | None,
    output: Path,
    *,
    how: How = "random",
    rows: int = 100,
    seed: int = 0,
    with_sensitive: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Asked:
    """Chooses rows without a label and writes them as tasks; the rows are kept for when the labels come back.

    Args:
        project: the project.
        system: its system; its contract judges the rows, those that break it aren't candidates.
        source: rows to label, with or without the target's column; None takes logged predictions without an outcome.
        output: .csv, .jsonl or .json (Label Studio's); must not exist.
        how: random; uncertainty (the champion's, see `perron.labels.score`); drifted (least like the training data).
        rows: how many; all that there are, where there are fewer.
        seed: for what is left to chance.
        with_sensitive: whether people see the contract's sensitive fields.
        progress: told of each chunk's rows.

    Raises:
        DataError: there is no row to label, or the output can't be written.
        NotFound: uncertainty without a champion, drifted without a snapshot.
        ModelError: the champion gives no probabilities.
    """
    check_target(output)
    schema, champion = system.schema, _champion(project, system)
    asked = Asked(str(output), how, rows, "none: every row is as likely as another")
    stream = _logged(project, schema, asked) if source is None else _sourced(source, schema, asked)
    table = _sample(stream, np.random.default_rng(seed), progress)
    if table is None:
        raise DataError(_nothing(source, asked))
    asked.candidates = table.num_rows
    scores = _scores(project, system, champion, table, asked, how, seed)
    places = _choose(project, system, table, scores, asked, rows)
    if not places:
        raise DataError(_nothing(source, asked))
    chosen = table.take(pa.array(places))
    ids = _ids(schema, chosen)
    asked.tasks = _tasks(schema, chosen, ids, champion, None if scores is None else scores[places], with_sensitive)
    _keep(project, schema, chosen, ids)
    write_tasks(output, asked.tasks, schema)
    return asked


def _nothing(source: Source | None, asked: Asked) -> str:
    why = [
        f"{count:,} {words}"
        for count, words in (
            (asked.labelled, "have a label already"),
            (asked.broken, "break the contract"),
        )
        if count
    ]
    told = f" ({'; '.join(why)})" if why else ""
    if source is None and not asked.seen:
        return "There is no logged prediction to label; `perron serve` and `perron predict` log them, or name a source."
    if source is None:
        return (
            f"Of {asked.seen:,} logged predictions none waits for an outcome{told}; predict others, or name a source."
        )
    return f"Of the source's {asked.seen:,} rows none is without a label{told}; name a source with rows to label."


def _champion(project: Project, system: System) -> tuple[Bundle, int] | None:
    """The champion and its version's number; None where there is none yet."""
    if project.ledger.get_alias(system.name, CHAMPION) is None:
        return None
    row = project.ledger.get_version(system.name, CHAMPION)
    return bundles.load(project.ledger.bundle_path(row), row["bundle"]), row["version"]


# -- candidates


def _logged(project: Project, schema: Schema, asked: Asked) -> Iterator[pa.RecordBatch]:
    """Logged predictions without an outcome, as typed rows with their ids and values; null where a field is sensitive,
    since the log has no value of it."""
    fields = {f.name: f for f in schema.request if Role.SENSITIVE not in f.roles}
    hidden = {f.name for f in schema.request} - set(fields)
    target = schema.target.name if schema.target else None
    known = project.ledger.known_outcomes()
    kind = _candidate(schema)
    waiting: list[dict[str, Any]] = []
    for made in predictions.iterate(project.predictions):
        asked.seen += 1
        if made.id in known:
            asked.labelled += 1
            continue
        given = {name: value for name, value in made.input.items() if name not in hidden}
        if any(True for _ in judge_row(fields, target, given, 0, hints=False)):
            asked.broken += 1  # answered under another contract than today's
            continue
        model = f"{made.header['model']} version {made.header['version']}"
        row = {name: None if value is None else parse(fields[name], value) for name, value in given.items()}
        shares = None if made.probabilities is None else json.dumps(made.probabilities)
        waiting.append({**row, LOGGED: made.id, VALUE: json.dumps(made.value), SHARES: shares, MODEL: model})
        if len(waiting) == CHUNK:
            yield pa.RecordBatch.from_pylist(waiting, kind)
            waiting = []
    if waiting:
        yield pa.RecordBatch.from_pylist(waiting, kind)


def _sourced(source: Source, schema: Schema, asked: Asked) -> Iterator[pa.RecordBatch]:
    """The source's rows that obey the contract and have no target."""
    check, target = TableCheck(schema, for_prediction=True), schema.target
    kind = _candidate(schema)
    for batch in source.chunks():
        chunk = check(batch)
        good = chunk.good
        asked.seen += batch.num_rows
        asked.broken += chunk.bad.num_rows
        assert target is not None
        name = next((name for name in (target.column, target.name) if name in batch.schema.names), None)
        if name is not None:
            # What is no value of the target's kind is taken as a label too: to mend it isn't to label.
            given = batch.column(name).filter(chunk.good_mask)
            values = read_values(target, given)
            is_open = np.asarray(values.is_null()) & np.asarray(_is_blank(given))
            asked.labelled += int((~is_open).sum())
            good = good.filter(pa.array(is_open))
        columns = [*good.columns, *(pa.nulls(good.num_rows, pa.string()) for _ in range(4))]
        yield pa.RecordBatch.from_arrays(columns, schema=kind)


def _is_blank(values: pa.Array) -> list[bool]:
    return [v is None or v != v or (isinstance(v, str) and not v.strip()) for v in values.to_pylist()]


def _candidate(schema: Schema) -> pa.Schema:
    """The fields of a request, and of a logged prediction its id, value and probabilities as JSON, and the model."""
    fields = [f.with_nullable(True) for f in arrow_schema(schema.request)]
    return pa.schema([*fields, *((name, pa.string()) for name in (LOGGED, VALUE, SHARES, MODEL))])


def _sample(
    stream: Iterator[pa.RecordBatch], chance: np.random.Generator, progress: Callable[[int], None] | None
) -> pa.Table | None:
    """All rows, or so many of them as are ranked, in an order of chance: those with the least of random numbers."""
    kept: pa.Table | None = None
    keys = np.empty(0)
    for batch in stream:
        if progress:
            progress(batch.num_rows)
        if not batch.num_rows:
            continue
        part = pa.Table.from_batches([batch])
        kept = part if kept is None else pa.concat_tables([kept, part])
        keys = np.concatenate([keys, chance.random(batch.num_rows)])
        if len(keys) > 2 * MOST_CANDIDATES:
            kept, keys = _least(kept, keys)
    return None if kept is None else _least(kept, keys)[0].combine_chunks()


def _least(table: pa.Table, keys: Any) -> tuple[pa.Table, Any]:
    order = np.argsort(keys, kind="stable")[:MOST_CANDIDATES]
    return table.take(pa.array(order)), keys[order]


# -- the choice


def _scores(
    project: Project,
    system: System,
    champion: tuple[Bundle, int] | None,
    table: pa.Table,
    asked: Asked,
    how: How,
    seed: int,
) -> Any | None:
    """A score per row, the highest to be labelled first; None for a choice by chance."""
    if how == "random":
        return None
    if table[LOGGED].null_count == 0:
        if how == "uncertainty" and system.task == "classification":
            asked.measure = f"{MARGIN}, as it was answered"
            return _logged_margins(table)
        _demand_whole(system.schema)
    if how == "drifted":
        scores, asked.auc = drift_scores(project, system, table, seed)
        asked.measure = "probability of not being a training row, by a classifier that tells the two apart"
        return scores
    if champion is None:
        raise NotFound("There is no champion whose uncertainty could be told; run `perron run`, or choose at random.")
    if system.task == "regression":
        asked.measure = (
            "standard deviation of the predictions of five models, each fitted on four fifths of the train rows"
        )
        return committee_scores(project, system, table, seed)
    asked.measure = MARGIN
    return margin_scores(champion[0], system.schema, table)


def _logged_margins(table: pa.Table) -> Any:
    """The margins of logged probabilities.

    Raises:
        ModelError: a prediction has none.
    """
    if table[SHARES].null_count:
        raise ModelError("Some logged predictions have no probabilities; choose random or drifted.")
    ordered = [sorted(json.loads(text).values(), reverse=True) for text in table[SHARES].to_pylist()]
    return np.array([1.0 - (shares[0] - shares[1]) for shares in ordered])


def _demand_whole(schema: Schema) -> None:
    """Nothing, where the log has a value of every field that the model sees.

    Raises:
        DataError: one is sensitive, so that it is masked.
    """
    masked = [f.name for f in schema.features if Role.SENSITIVE in f.roles]
    if masked:
        raise DataError(
            f"The log keeps no value of {', '.join(masked)}, which is sensitive and seen by the model; "
            "choose random, or name a source."
        )


def _choose(
    project: Project, system: System, table: pa.Table, scores: Any | None, asked: Asked, rows: int
) -> list[int]:
    """The places of the rows to label, the best first: no id twice, none that the labelled table has."""
    order = range(table.num_rows) if scores is None else np.argsort(-scores, kind="stable").tolist()
    done = set(read_labelled(project.folder / (system.labels or LABELS), system.schema))
    seen: dict[str, str] = {}
    places: list[int] = []
    for start in range(0, len(order), CHUNK):
        part = list(order[start : start + CHUNK])
        taken = table.take(pa.array(part))
        hashes = [row_id(row) for row in taken.select([f.name for f in system.schema.request]).to_pylist()]
        for place, name, row in zip(part, _ids(system.schema, taken), hashes, strict=True):
            if name in done:
                asked.labelled += 1
            elif name in seen:
                if seen[name] != row:
                    key = system.schema.with_role(Role.ID)
                    raise DataError(
                        f"Two different rows have the {key.name if key else 'id'} {name!r}; an Id must name one row, mend the source."
                    )
                asked.doubles += 1
            else:
                seen[name] = row
                places.append(place)
        if len(places) >= rows:
            break
    return places[:rows]


def _ids(schema: Schema, table: pa.Table) -> list[str]:
    """Each row's id: its prediction's, the contract's Id, or a hash of the row."""
    rows = table.select([f.name for f in schema.request]).to_pylist()
    return [name or id_of(schema, row) for name, row in zip(table[LOGGED].to_pylist(), rows, strict=True)]


# -- tasks


def _tasks(
    schema: Schema,
    table: pa.Table,
    ids: list[str],
    champion: tuple[Bundle, int] | None,
    scores: Any,
    with_sensitive: bool,
) -> list[Task]:
    shown = [f.name for f in schema.request if with_sensitive or Role.SENSITIVE not in f.roles]
    answers = _answers(schema, table, champion)
    now = None if champion is None else f"{champion[0].name} version {champion[1]}"
    models = table[MODEL].to_pylist()
    tasks = []
    for place, row in enumerate(table.select(shown).to_pylist()):
        value, shares = answers[place]
        data = {name: v.isoformat() if isinstance(v, date) else v for name, v in row.items()}
        score = None if scores is None else round(float(scores[place]), 6)
        tasks.append(Task(ids[place], data, value, shares, score, models[place] or now))
    return tasks


def _answers(
    schema: Schema, table: pa.Table, champion: tuple[Bundle, int] | None
) -> list[tuple[Any, dict[str, float] | None]]:
    """What a model says of each row: what was logged, else what the champion says; nothing where there is none."""
    values, shares = table[VALUE].to_pylist(), table[SHARES].to_pylist()
    if values[0] is not None:
        return [(json.loads(v), None if s is None else json.loads(s)) for v, s in zip(values, shares, strict=True)]
    if champion is None or champion[0].schema.features != schema.features:
        return [(None, None)] * table.num_rows
    bundle = champion[0]
    given = bundle.run(fed(bundle, table))
    lost = set(bundle.not_finite(*given))
    return [
        (None, None) if place in lost else (answer["value"], answer.get("probabilities"))
        for place, answer in enumerate(bundle.answers(*given))
    ]


def _keep(project: Project, schema: Schema, table: pa.Table, ids: list[str]) -> None:
    """Keeps the chosen rows, whole and typed, for when their labels come back; of a logged prediction its id alone."""
    names = [f.name for f in schema.request] if table[LOGGED].null_count else []
    origins = ["row" if name is None else "prediction" for name in table[LOGGED].to_pylist()]
    kept = table.select(names).append_column(TASK, pa.array(ids)).append_column(ORIGIN, pa.array(origins))
    folder = asked_folder(project)
    folder.mkdir(parents=True, exist_ok=True)
    with project.store.scratch() as scratch:
        parquet.write_table(kept, scratch / "asked.parquet", compression="zstd")
        name = f"{time.time_ns() // 1_000_000:013d}-{digest_file(scratch / 'asked.parquet')[:12]}.parquet"
        (scratch / "asked.parquet").replace(folder / name)
