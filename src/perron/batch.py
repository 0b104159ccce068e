"""A bundle and a source in; a file with a prediction for every row out, each with an id and a receipt."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from perron import tensors
from perron.bundle import Bundle
from perron.check.table import Chunk, TableCheck
from perron.errors import SourceError
from perron.history.table import FilePasts, of_file
from perron.ledger import now
from perron.predictions import IdMaker, new_segment_name
from perron.predictions.mask import Mask, mask_of
from perron.source import Source

__all__ = ["Predicted", "predict_file"]

LOG = pa.schema([(name, pa.string()) for name in ("id", "time", "route", "input", "value", "probabilities")])


@dataclass(frozen=True)
class Predicted:
    """What was predicted: the rows, how many of them broke the contract (and have no prediction), and a line on these."""

    rows: int
    bad: int
    faults: str


def predict_file(
    bundle: Bundle,
    version: int,
    source: Source,
    target: Path,
    log_folder: Path,
    progress: Callable[[int], None] | None = None,
    *,
    secret: Callable[[], bytes],
) -> Predicted:
    """Predicts every row of the source, in order, chunk by chunk.

    The file has the source's columns, then `prediction_id`, `prediction`, one `probability_LABEL` per
    class, and `fault`: the rules that a row broke, which then has no prediction. It appears when it is
    complete, after the log of its predictions.

    `secret` gives the key of the digests that the log keeps of sensitive values.

    Of a system with history each row sees the state and, whatever their order, all rows of the source that
    lie before it, with their target where the source has it; then the state has them too. The source is
    read twice for that, and the pasts of all rows are in memory at once.

    Raises:
        SourceError: the source can't be read; the target can't be written, or its ending isn't .parquet or .csv.
        DataError: a column of the contract is missing.
        LedgerError: the history can't be read or written.
    """
    if target.suffix not in (".parquet", ".csv"):
        raise SourceError(f"Can't write {target}: name a .parquet or .csv file.")
    if not target.parent.is_dir():
        raise SourceError(f"Can't write {target}: there is no folder {target.parent}.")
    pasts = _pasts_of(bundle, source)
    check = TableCheck(bundle.schema, for_prediction=True)
    mask = mask_of(bundle.schema, bundle.manifest, secret)
    segment = new_segment_name()
    log_folder.mkdir(parents=True, exist_ok=True)
    log_path, log_building = log_folder / f"{segment}.parquet", log_folder / f".{segment}.parquet"
    building = target.with_name(f".{target.name}.{os.getpid()}")
    header = {
        "format": 1,
        "started": now(),
        "model": bundle.name,
        "version": version,
        "bundle": bundle.digest,
        "lineage": bundle.manifest["lineage"],
    }
    new_id = IdMaker(segment)
    writer: Any = None
    good = 0
    try:
        with parquet.ParquetWriter(
            log_building, LOG.with_metadata({"perron": json.dumps(header)}), compression="zstd"
        ) as log:
            for batch in source.chunks():
                chunk = check(batch)
                end = good + chunk.good.num_rows
                more = {name: numbers[good:end] for name, numbers in pasts.pasts.items()} if pasts else {}
                good = end
                out, logged = _predict(bundle, batch, chunk, more, new_id, mask)
                log.write_table(logged)
                if writer is None:
                    kind = parquet.ParquetWriter if target.suffix == ".parquet" else csv.CSVWriter
                    writer = kind(building, out.schema)
                writer.write_table(out)
                if progress:
                    progress(batch.num_rows)
        if writer is None:
            raise SourceError("The source has a header and no rows; there is nothing to predict.")
        writer.close()
        if pasts is not None:
            pasts.remember()
        os.replace(log_building, log_path)
        os.replace(building, target)
    except OSError as error:
        raise SourceError(f"Can't write {target}, or its log in {log_folder}: {error.strerror or error}.") from error
    finally:
        log_building.unlink(missing_ok=True)
        building.unlink(missing_ok=True)
    return Predicted(check.report.rows, check.report.bad, check.report.words)


def _pasts_of(bundle: Bundle, source: Source) -> FilePasts | None:
    """The pasts of the source's good rows in order; None where the system has no history."""
    history, target = bundle.history, bundle.schema.target
    if history is None:
        return None
    assert target is not None

    def chunks() -> Iterator[pa.RecordBatch]:
        check = TableCheck(bundle.schema, for_prediction=True)
        check_target = TableCheck(replace(bundle.schema, fields=(replace(target, optional=True),)))
        for batch in source.chunks():
            chunk = check(batch)
            if target.column in batch.schema.names or target.name in batch.schema.names:
                judged = check_target(batch)  # what the contract doesn't allow (-1 for unknown) isn't known
                known = pc.replace_with_mask(
                    pa.nulls(batch.num_rows, judged.good[0].type), judged.good_mask, judged.good[0]
                )
            else:
                known = pa.nulls(batch.num_rows, pa.float64())
            yield chunk.good.append_column(target.name, known.filter(chunk.good_mask))

    return of_file(history, chunks())


def _predict(
    bundle: Bundle, batch: pa.RecordBatch, chunk: Chunk, pasts: dict[str, Any], new_id: IdMaker, mask: Mask | None
) -> tuple[pa.Table, pa.Table]:
    """The chunk's rows with their predictions, and its log; `pasts` are those of its good rows."""
    good, rows = chunk.good, batch.num_rows
    places = np.flatnonzero(np.asarray(chunk.good_mask)).tolist()
    answers: list[dict[str, Any]] = []
    unanswered: set[int] = set()
    if good.num_rows:
        values, probabilities = bundle.run(tensors.from_table(bundle.schema, good) | pasts)
        answers = bundle.answers(values, probabilities)
        unanswered = set(bundle.not_finite(values, probabilities))
    faults: list[str | None] = [None] * rows
    for place, words in zip(sorted(set(range(rows)) - set(places)), chunk.bad["fault"].to_pylist(), strict=True):
        faults[place] = words
    answer_of: list[dict[str, Any] | None] = [None] * rows
    ids: list[str | None] = [None] * rows
    log: dict[str, list[Any]] = {name: [] for name in LOG.names}
    moment = now()
    for number, (place, answer, given) in enumerate(zip(places, answers, _given(good, mask), strict=True)):
        if number in unanswered:
            faults[place] = "the model's answer isn't a finite number"
            continue
        answer_of[place], ids[place] = answer, new_id()
        shares = json.dumps(answer["probabilities"]) if "probabilities" in answer else None
        written = json.dumps(given, ensure_ascii=False, default=_plain)
        for name, value in zip(
            LOG.names, (ids[place], moment, "batch", written, json.dumps(answer["value"]), shares), strict=True
        ):
            log[name].append(value)
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))

    def add(name: str, values: list[Any], kind: pa.DataType) -> None:
        while name in columns:  # the source's own column keeps its name
            name += "_"
        columns[name] = pa.array(values, kind)

    add("prediction_id", ids, pa.string())
    add("prediction", [a and a["value"] for a in answer_of], pa.array(bundle.classes or [0.0]).type)
    for label in bundle.labels if bundle.has_probabilities else ():
        add(f"probability_{label}", [a and a["probabilities"][label] for a in answer_of], pa.float64())
    add("fault", faults, pa.string())
    return pa.table(columns), pa.table(log, schema=LOG)


def _given(good: pa.RecordBatch, mask: Mask | None) -> list[Mapping[str, Any]]:
    """The rows as the log keeps them."""
    if mask is not None:
        return [mask.row(row) for row in good.to_pylist()]
    return [{name: value for name, value in row.items() if value is not None} for row in good.to_pylist()]


def _plain(value: Any) -> str:
    assert isinstance(value, date)
    return value.isoformat()
