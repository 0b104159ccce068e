"""A bundle, a source and a sink in; a prediction for every row out, in order, each with an id and a receipt.

    source ─▶ chunks ─▶ Runner: check, predict, encode ─▶ Journal: part, log ─▶ sink

The chunks are predicted wherever the runner has it; this process alone writes. A chunk counts once its
part and its log lie in the working folder and the journal has its line, so the same command, after a
death at any instant, goes on behind the last such line: every row comes out once, in order, and is
logged once. The log's segments move to the project when the output does.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from perron import tensors
from perron.batch.work import FORMAT, Done, Predicted, Task, Work
from perron.bundle import Bundle, GraphBundle, load
from perron.check.table import Chunk, TableCheck
from perron.digest import digest
from perron.errors import DataError, SinkError, SourceError
from perron.history.table import FilePasts, of_file
from perron.ledger import now
from perron.predictions import make_ids, new_segment_name
from perron.predictions.mask import Mask, mask_of
from perron.sink import Sink
from perron.source import Source

__all__ = ["Done", "InProcess", "Predicted", "Predictor", "Runner", "Task", "predict_source"]

CHUNK_ROWS = 65_536


class Runner(Protocol):
    """Where chunks are predicted.

    The law: an answer for every task, in the tasks' order, however they end; tasks are taken as they are
    needed, a bounded number ahead. `predict` and what it gives can be pickled.
    """

    def map(self, predict: "Predictor", tasks: Iterator[Task]) -> Iterator[Done]: ...


class InProcess:
    """The runner that is this process."""

    def map(self, predict: "Predictor", tasks: Iterator[Task]) -> Iterator[Done]:
        return map(predict, tasks)


@dataclass(frozen=True)
class Predictor:
    """Predicts a chunk: rows in, a part and its log out; touches no disk but to open the bundle.

    `files` holds the bundle's files for a machine that hasn't its folder.
    """

    path: Path
    digest: str
    version: int
    sink: Sink
    mask: Mask | None
    files: Mapping[str, bytes] | None = None

    def carried(self) -> "Predictor":
        """The same, with the bundle's files."""
        return replace(self, files={path.name: path.read_bytes() for path in self.path.iterdir()})

    def __getstate__(self) -> dict[str, Any]:  # an opened graph stays where it is
        return {name: value for name, value in vars(self).items() if name != "bundle"}

    @cached_property
    def bundle(self) -> Bundle:
        if self.files is None:
            return load(self.path, self.digest)
        with tempfile.TemporaryDirectory(prefix="perron-bundle-") as folder:
            for name, data in self.files.items():
                Path(folder, name).write_bytes(data)
            bundle = load(folder, self.digest)
            bundle.predict(bundle.sample["rows"])  # which reads all that is read late
            return bundle

    def __call__(self, task: Task) -> Done:
        """The chunk, predicted.

        Raises:
            DataError: a column of the contract is missing.
        """
        bundle = self.bundle
        with pa.ipc.open_stream(task.data) as reader:
            batch = reader.read_next_batch()
        check = TableCheck(bundle.schema, for_prediction=True)
        check.report.rows = task.first
        chunk = check(batch)
        segment = new_segment_name()
        table, logged = _predict(bundle, batch, chunk, task.pasts, segment, self.mask)
        faults = [(f["field"], f["rule"], f["rows"], f["examples"]) for f in check.report.faults]
        bad = task.rows - logged.num_rows
        if bad > check.report.bad:
            faults.append(("", "not_finite", bad - check.report.bad, [NOT_FINITE]))
        log = b""
        if logged.num_rows:
            header = {
                "format": FORMAT, "started": now(), "model": bundle.name, "version": self.version,
                "bundle": bundle.digest, "lineage": bundle.manifest["lineage"],
            }  # fmt: skip
            out = pa.BufferOutputStream()
            plain = ["time", "route", "value"]
            parquet.write_table(
                logged.replace_schema_metadata({"perron": json.dumps(header)}), out, compression="zstd",
                compression_level=1, use_dictionary=plain,
            )  # fmt: skip
            log = out.getvalue().to_pybytes()
        part = self.sink.encode(table, task.number)
        return Done(replace(task, data=b"", pasts={}), part, segment if log else None, log, bad, faults)


NOT_FINITE = "the model's answer isn't a finite number"


def _predict(
    bundle: Bundle, batch: pa.RecordBatch, chunk: Chunk, pasts: Mapping[str, Any], segment: str, mask: Mask | None
) -> tuple[pa.Table, pa.Table]:
    """The chunk's rows with their predictions, and its log; `pasts` are those of its good rows."""
    good, rows = chunk.good, batch.num_rows
    ok = np.asarray(chunk.good_mask).copy()
    faults = np.full(rows, None, object)
    if chunk.bad.num_rows:
        faults[~ok] = chunk.bad["fault"].to_pylist()
    values, shares = np.empty(0), None
    if good.num_rows:
        values, shares = bundle.run({**tensors.from_table(bundle.schema, good), **pasts})
        unanswered = bundle.not_finite(values, shares)
        if unanswered:
            places = np.flatnonzero(ok)[unanswered]
            faults[places], ok[places] = NOT_FINITE, False
            kept = np.ones(len(values), bool)
            kept[unanswered] = False
            values, shares, good = values[kept], None if shares is None else shares[kept], good.filter(pa.array(kept))
    count = good.num_rows
    ids = pa.array(make_ids(segment, count)).cast(pa.string())
    kind = pa.array(bundle.classes or [0.0]).type
    answers = pa.array(values.tolist() if values.dtype.kind == "O" else values).cast(kind)
    probabilities = {}
    if bundle.has_probabilities:
        wide = np.empty((0, len(bundle.labels))) if shares is None else shares.astype(np.float64)
        probabilities = {label: pa.array(np.ascontiguousarray(wide[:, n])) for n, label in enumerate(bundle.labels)}
    log: dict[str, Any] = {
        "id": ids,
        "time": pa.repeat(now(), count),
        "route": pa.repeat("batch", count),
        "input": pa.StructArray.from_arrays(*_logged(good, mask)),
        "value": answers,
    }
    if probabilities:
        log["probabilities"] = pa.StructArray.from_arrays(list(probabilities.values()), names=list(probabilities))
    spread = None  # where each row's answer is
    if count < rows:
        index = np.zeros(rows, np.int64)
        index[ok] = np.arange(count)
        spread = pa.array(index, mask=~ok)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))

    def add(name: str, column: Any) -> None:
        while name in columns:  # the source's own column keeps its name
            name += "_"
        columns[name] = column

    for name, column in {
        "prediction_id": ids, "prediction": answers, **{f"probability_{k}": v for k, v in probabilities.items()}
    }.items():  # fmt: skip
        add(name, column if spread is None else column.take(spread))
    add("fault", pa.array(faults, pa.string()))
    return pa.table(columns), pa.table(log)


def _logged(good: pa.RecordBatch, mask: Mask | None) -> tuple[list[Any], list[str]]:
    """The columns that the log keeps, and their names; sensitive ones masked."""
    kept: dict[str, Any] = {}
    for name, column in zip(good.schema.names, good.columns, strict=True):
        if mask is None or name not in mask.names:
            kept[name] = column
            continue
        coded = column.dictionary_encode()
        digests = [mask.row({name: value}).get(name) for value in coded.dictionary.to_pylist()]
        if any(digests):
            kept[name] = pa.array(digests, pa.string()).take(coded.indices)
    return list(kept.values()), list(kept)


def predict_source(
    bundle: Bundle,
    version: int,
    source: Source,
    sink: Sink,
    *,
    log_folder: Path,
    home: Path,
    secret: Callable[[], bytes],
    runner: Runner | None = None,
    chunk_rows: int = CHUNK_ROWS,
    progress: Callable[[int], None] = lambda more: None,
    tell: Callable[[str], None] = lambda words: None,
) -> Predicted:
    """Predicts every row of the source, in order, chunk by chunk.

    A row out is the row in with `prediction_id`, `prediction`, one `probability_LABEL` per class, and
    `fault`: the rules that it broke; it then has no prediction. A killed call is gone on with by the same
    one; where the input, the bundle or an option differs it begins anew.

    Of a system with history each row sees the state and, whatever their order, all rows of the source that
    lie before it, with their target where the source has it; then the state has them too. The source is
    read twice for that, and the pasts of all rows are in memory at once.

    Args:
        bundle: loaded.
        version: its number.
        source: of the rows.
        sink: of the predictions.
        log_folder: of the prediction log.
        home: the folder for unfinished work of sinks that have none beside them.
        secret: gives the key of the digests that the log keeps of sensitive values.
        runner: predicts the chunks; this process if None.
        chunk_rows: how many rows a chunk has.
        progress: told how many more rows are done.
        tell: told when something is gone on with, or begun anew.

    Raises:
        SourceError: the source can't be read, or has no rows.
        SinkError: the sink can't be written, or another process is writing it.
        DataError: a column of the contract is missing; the bundle has no contract and takes tensors.
        LedgerError: the history can't be read or written.
    """
    if isinstance(bundle, GraphBundle):
        raise DataError(bundle.refusal)
    sink.check()
    predictor = Predictor(bundle.path, bundle.digest, version, sink, mask_of(bundle.schema, bundle.manifest, secret))
    facts = {
        "format": FORMAT,
        "bundle": bundle.digest,
        "version": version,
        "chunk_rows": chunk_rows,
        "sink": digest([type(sink).__name__, sink.name]),
    }
    folder = sink.folder(home)
    is_kept = folder is not None
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perron-batch-")))
        work = stack.enter_context(Work(folder, log_folder, sink, facts, tell))
        try:
            pasts = _pasts_of(bundle, source)
            if work.is_assembled and not (work.is_same and _is_same_input(source, work, chunk_rows, pasts)):
                tell(f"Finishing {sink.name} as an earlier call had made it, then beginning anew.")
                work.finish()
                work.reopen()
            if not work.is_assembled:
                _predict_all(predictor, source, work, runner or InProcess(), chunk_rows, pasts, progress, tell)
            if pasts is not None:
                pasts.remember()  # again, where a process died here: what is known of a moment is there once
            work.finish()
        except BrokenPipeError:
            raise
        except OSError as error:
            advice = "run the same again, which goes on where this stopped" if is_kept else "run the same again"
            raise SinkError(
                f"Can't write {sink.name}, or its work in {folder}: {error.strerror or error}; mend that and {advice}."
            ) from error
        return work.predicted


def _predict_all(
    predictor: Predictor, source: Source, work: Work, runner: Runner, chunk_rows: int, pasts: "_Pasts | None",
    progress: Callable[[int], None], tell: Callable[[str], None],
) -> None:  # fmt: skip
    tasks = _tasks(source, chunk_rows, pasts)
    for entry in list(work.entries):
        task = next(tasks, None)
        if task is None or task.mark != entry["input"]:
            tell(f"The input isn't what it was when {work.sink.name} was begun; beginning anew.")
            work.clear()
            tasks = _tasks(source, chunk_rows, pasts)
            break
    else:
        if work.entries:
            tell(f"Going on with {work.sink.name} behind row {work.predicted.rows:,}.")
            work.resumed_rows = work.predicted.rows
            progress(work.resumed_rows)
    for done in runner.map(predictor, tasks):
        work.commit(done)
        progress(done.task.rows)
    if not work.entries:
        raise SourceError("The source has a header and no rows; there is nothing to predict.")


def _is_same_input(source: Source, work: Work, chunk_rows: int, pasts: "_Pasts | None") -> bool:
    marks = (task.mark for task in _tasks(source, chunk_rows, pasts))
    return all(a == b for a, b in zip_longest(marks, (entry["input"] for entry in work.entries)))


def _tasks(source: Source, chunk_rows: int, pasts: "_Pasts | None") -> Iterator[Task]:
    """The source's rows in chunks of one size, but for the last."""
    waiting: list[pa.RecordBatch] = []
    number = held = 0
    for batch in source.chunks():
        if not batch.num_rows:
            continue
        waiting.append(batch)
        held += batch.num_rows
        while held >= chunk_rows:
            table = pa.Table.from_batches(waiting)
            yield _task(number, chunk_rows, table.slice(0, chunk_rows), pasts)
            waiting, held, number = table.slice(chunk_rows).to_batches(), held - chunk_rows, number + 1
    if held:
        yield _task(number, chunk_rows, pa.Table.from_batches(waiting), pasts)


def _task(number: int, chunk_rows: int, table: pa.Table, pasts: "_Pasts | None") -> Task:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_batch(table.combine_chunks().to_batches()[0])
    data, first = out.getvalue().to_pybytes(), number * chunk_rows
    own = {} if pasts is None else pasts.of(first, first + table.num_rows)
    mark = hashlib.blake2b(data, digest_size=16)
    for name in sorted(own):
        mark.update(own[name].tobytes())
    return Task(number, first, table.num_rows, mark.hexdigest(), data, own)


@dataclass(frozen=True)
class _Pasts:
    """The pasts of a source's good rows, and before each row how many good ones there are."""

    file: FilePasts
    good_before: Any

    def of(self, start: int, end: int) -> dict[str, Any]:
        """Those of the good rows among rows from `start` to before `end`."""
        return {
            name: numbers[self.good_before[start] : self.good_before[end]] for name, numbers in self.file.pasts.items()
        }

    def remember(self) -> None:
        self.file.remember()


def _pasts_of(bundle: Bundle, source: Source) -> _Pasts | None:
    """The pasts of the source's rows; None where the system has no history."""
    history, target = bundle.history, bundle.schema.target
    if history is None:
        return None
    assert target is not None
    masks: list[Any] = [np.zeros(1, bool)]

    def chunks() -> Iterator[pa.RecordBatch]:
        check = TableCheck(bundle.schema, for_prediction=True)
        check_target = TableCheck(replace(bundle.schema, fields=(replace(target, optional=True),)))
        for batch in source.chunks():
            chunk = check(batch)
            masks.append(np.asarray(chunk.good_mask))
            if target.column in batch.schema.names or target.name in batch.schema.names:
                judged = check_target(batch)  # what the contract doesn't allow (-1 for unknown) isn't known
                known = pc.replace_with_mask(
                    pa.nulls(batch.num_rows, judged.good[0].type), judged.good_mask, judged.good[0]
                )
            else:
                known = pa.nulls(batch.num_rows, pa.float64())
            yield chunk.good.append_column(target.name, known.filter(chunk.good_mask))

    found = of_file(history, chunks())
    return _Pasts(found, np.cumsum(np.concatenate(masks)))
