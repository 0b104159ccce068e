"""A bundle and a source in; a file with a prediction for every row out, each with an id and a receipt."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from perron import tensors
from perron.bundle import Bundle
from perron.check.table import Chunk, TableCheck
from perron.errors import SourceError
from perron.ledger import now
from perron.predictions import IdMaker, new_segment_name
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
) -> Predicted:
    """Predicts every row of the source, in order, chunk by chunk.

    The file has the source's columns, then `prediction_id`, `prediction`, one `probability_LABEL` per
    class, and `fault`: the rules that a row broke, which then has no prediction. It appears when it is
    complete, after the log of its predictions.

    Raises:
        SourceError: the source can't be read, or the target's ending isn't .parquet or .csv.
        DataError: a column of the contract is missing.
    """
    if target.suffix not in (".parquet", ".csv"):
        raise SourceError(f"Can't write {target}: name a .parquet or .csv file.")
    if not target.parent.is_dir():
        raise SourceError(f"Can't write {target}: there is no folder {target.parent}.")
    made = {"prediction_id", "prediction", "fault", *(f"probability_{label}" for label in bundle.labels)}
    for name in source.names:
        if name in made:
            raise SourceError(f"The rows have a column {name!r}, which the predictions need; rename it.")
    check = TableCheck(bundle.schema, for_prediction=True)
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
    try:
        with parquet.ParquetWriter(
            log_building, LOG.with_metadata({"perron": json.dumps(header)}), compression="zstd"
        ) as log:
            for batch in source.chunks():
                chunk = check(batch)
                out, logged = _predict(bundle, batch, chunk, new_id)
                log.write_table(logged)
                if writer is None:
                    writer = (
                        parquet.ParquetWriter(building, out.schema)
                        if target.suffix == ".parquet"
                        else csv.CSVWriter(building, out.schema)
                    )
                writer.write_table(out)
                if progress:
                    progress(batch.num_rows)
        if writer is None:
            raise SourceError("The source has a header and no rows; there is nothing to predict.")
        writer.close()
        os.replace(log_building, log_path)
        os.replace(building, target)
    finally:
        log_building.unlink(missing_ok=True)
        building.unlink(missing_ok=True)
    return Predicted(check.report.rows, check.report.bad, check.report.words)


def _predict(bundle: Bundle, batch: pa.RecordBatch, chunk: Chunk, new_id: IdMaker) -> tuple[pa.Table, pa.Table]:
    """The chunk's rows with their predictions, and its log."""
    good = chunk.good
    values, probabilities = bundle.run(tensors.from_table(bundle.schema, good)) if good.num_rows else (None, None)
    ids = pa.array([new_id() for _ in range(good.num_rows)], pa.string())
    # Places of the good rows among all; null for a bad one, so that `take` gives null there.
    places = pa.array([None] * batch.num_rows, pa.int64())
    mask = chunk.good_mask
    if good.num_rows:
        counted = pa.compute.cumulative_sum(mask.cast(pa.int64()))
        places = pa.compute.if_else(mask, pa.compute.subtract(counted, 1), pa.scalar(None, pa.int64()))
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    value_type = pa.array(bundle.classes).type if bundle.classes else pa.float64()
    answered = pa.array(values.tolist() if values is not None else [], value_type)
    columns["prediction_id"] = ids.take(places)
    columns["prediction"] = answered.take(places)
    for number, label in enumerate(bundle.labels if bundle.has_probabilities else ()):
        share = pa.array(probabilities[:, number] if probabilities is not None else [], pa.float64())
        columns[f"probability_{label}"] = share.take(places)
    columns["fault"] = _faults(batch.num_rows, chunk, mask)
    answers = bundle.answers(values, probabilities) if values is not None else []
    moment = now()
    log = {
        "id": ids,
        "time": [moment] * good.num_rows,
        "route": ["batch"] * good.num_rows,
        "input": [json.dumps(row, ensure_ascii=False, default=_plain) for row in _given(good)],
        "value": [json.dumps(answer["value"]) for answer in answers],
        "probabilities": [
            json.dumps(answer["probabilities"]) if "probabilities" in answer else None for answer in answers
        ],
    }
    return pa.table(columns), pa.table(log, schema=LOG)


def _given(good: pa.RecordBatch) -> list[Mapping[str, Any]]:
    return [{name: value for name, value in row.items() if value is not None} for row in good.to_pylist()]


def _plain(value: Any) -> str:
    assert isinstance(value, date)
    return value.isoformat()


def _faults(rows: int, chunk: Chunk, mask: pa.Array) -> pa.Array:
    bad = pa.compute.invert(mask)
    places = pa.compute.if_else(
        bad, pa.compute.subtract(pa.compute.cumulative_sum(bad.cast(pa.int64())), 1), pa.scalar(None, pa.int64())
    )
    return chunk.bad["fault"].combine_chunks().take(places) if chunk.bad.num_rows else pa.nulls(rows, pa.string())
