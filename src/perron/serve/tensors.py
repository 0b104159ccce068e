"""Requests of tensors in; logged tensors out, for one version of a plain graph: `perron.serve.batching` without a contract.

The log keeps the tensors' names, datatypes, shapes and SHA-256 instead of their values.
"""

import hashlib
import json
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from perron.bundle import GraphBundle
from perron.check.request import Rejection
from perron.errors import DataError
from perron.predictions import line
from perron.serve.batching import LONGEST_RETRY_S, NEVER, Batcher, Busy, OnLogFailure, Waiting
from perron.serve.metrics import Numbers
from perron.serve.models import Endpoint

if TYPE_CHECKING:
    import asyncio

    from perron.predictions import PredictionLog

__all__ = ["TensorBatcher", "TensorEndpoint", "TensorReply", "Tensors", "bytes_of_text", "tensor_bytes"]

QUEUE_BYTES = 256 << 20  # of tensors that wait for one version; more are refused as busy
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Tensors:
    """The inputs of one request by name, in their datatypes; its length is how many rows it has."""

    feed: Mapping[str, Any]
    rows: int
    facts: list[dict[str, Any]]  # name, datatype and shape, as the log keeps them

    def __len__(self) -> int:
        return self.rows

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.feed.values())

    @property
    def signature(self) -> tuple[Any, ...]:
        """What requests have in common that can be put together along the first dimension."""
        return tuple(array.shape[1:] for array in self.feed.values())


@dataclass(frozen=True)
class TensorReply:
    """An answer: the predictions' ids, one per row, and the outputs' arrays in the graph's order."""

    model: str
    version: int
    ids: list[str]
    outputs: list[Any]


class TensorBatcher(Batcher):
    """Runs, logs and answers requests of `Tensors`; always on a thread, one batch at a time, so that the loop goes on.

    The futures of `submit` give a `TensorReply`.
    """

    def __init__(
        self,
        bundle: GraphBundle,
        version: int,
        log: "PredictionLog",
        numbers: Numbers,
        *,
        sync: bool,
        queue_rows: int,
        on_log_failure: OnLogFailure,
    ) -> None:
        super().__init__(
            bundle, version, log, numbers,
            sync=sync, queue_rows=queue_rows, on_log_failure=on_log_failure, in_background=True,
        )  # fmt: skip
        self._graph = bundle
        self._bytes = 0

    def submit(self, rows: Tensors, body: bytes, way: bytes, deadline: float = NEVER) -> "asyncio.Future[Any]":
        """As `Batcher.submit`; what waits is bounded in bytes as well.

        Raises:
            Busy: too much waits already.
        """
        size = rows.nbytes
        if self._bytes and self._bytes + size > QUEUE_BYTES:
            wait = ceil(self.waiting_rows / self._rows_per_s)
            raise Busy(self.waiting_rows, min(max(wait, 1), LONGEST_RETRY_S))
        future = super().submit(rows, body, way, deadline)
        self._bytes += size

        def leave(_: Any) -> None:
            self._bytes -= size

        future.add_done_callback(leave)
        return future

    @property
    def answers_alone(self) -> bool:
        return False

    def _run_batch(self, batch: list[Waiting]) -> list[Any]:
        """Per request its outputs with the log's facts of inputs and outputs, or the DataError that it gets instead."""
        started = time.perf_counter()
        found: list[Any] = [None] * len(batch)
        groups: dict[Any, list[int]] = defaultdict(list)
        for place, item in enumerate(batch):
            groups[item.rows.signature if self._graph.is_batched else place].append(place)
        for places in groups.values():
            for place, outputs in zip(places, self._run_group([batch[place].rows for place in places]), strict=True):
                found[place] = (
                    outputs if isinstance(outputs, DataError) else self._with_facts(batch[place].rows, outputs)
                )
        self._numbers.compute_s += time.perf_counter() - started
        return found

    def _run_group(self, group: list[Tensors]) -> list[Any]:
        """The outputs of each request, run together; each alone where one of them spoils it for the others."""
        if len(group) > 1:
            try:
                together = self._graph.run_tensors(
                    {name: np.concatenate([one.feed[name] for one in group]) for name in group[0].feed}
                )
            except DataError:
                pass
            else:
                ends = list(accumulate(len(one) for one in group))
                return [
                    [array[end - len(one) : end] for array in together] for one, end in zip(group, ends, strict=True)
                ]
        return [self._run_one(one) for one in group]

    def _run_one(self, one: Tensors) -> Any:
        try:
            return self._graph.run_tensors(one.feed)
        except DataError as error:
            return error

    def _with_facts(self, given: Tensors, outputs: list[Any]) -> tuple[list[Any], bytes, list[dict[str, Any]]]:
        request = [
            {**facts, "sha256": _sha256(array)} for facts, array in zip(given.facts, given.feed.values(), strict=True)
        ]
        reply = [
            {"name": o.name, "datatype": o.datatype, "shape": list(array.shape), "sha256": _sha256(array)}
            for o, array in zip(self._graph.outputs, outputs, strict=True)
        ]
        return outputs, encode({"tensors": request}), reply

    def _settle(self, batch: list[Waiting], outputs: Any) -> tuple[list[bytes], list[tuple[Waiting, Any]]]:
        lines: list[bytes] = []
        answered: list[tuple[Waiting, Any]] = []
        moment, name = self._now(), self._graph.name
        for item, found in zip(batch, outputs, strict=True):
            if isinstance(found, DataError):
                self._fail([item], found)
                continue
            arrays, request, facts = found
            ids = [self._log.new_id() for _ in range(len(item.rows))]
            reply = {
                "model": name,
                "version": self._version,
                "predictions": [{"id": one} for one in ids],
                "tensors": facts,
            }
            lines.append(line(moment, item.way, request, encode(reply)))
            answered.append((item, TensorReply(name, self._version, ids, arrays)))
        return lines, answered


class TensorEndpoint(Endpoint):
    """One version of a plain graph on one route. Rows are refused by its `decode`, with a word where tensors go."""

    bundle: GraphBundle

    def _make_decoder(self, max_rows: int) -> Callable[[bytes], list[tuple[Any, ...]] | Rejection]:
        refusal = Rejection("invalid", self.bundle.refusal)
        return lambda body: refusal

    def _make_batcher(self, sync: bool, queue_rows: int, on_log_failure: OnLogFailure, in_background: bool) -> Batcher:
        return TensorBatcher(
            self.bundle, self.version, self._log, self.numbers,
            sync=sync, queue_rows=queue_rows, on_log_failure=on_log_failure,
        )  # fmt: skip

    @property
    def schema_digest(self) -> str:
        """Of the inputs and outputs: what two versions have in common that can answer the same requests."""
        return json.dumps([self.bundle.manifest["inputs"], self.bundle.manifest["outputs"]])


def tensor_bytes(array: Any) -> Any:
    """An array as the protocol's raw bytes: little endian, row by row; texts each with its length before it."""
    if array.dtype == object:
        return bytes_of_text(array.ravel().tolist())
    return np.ascontiguousarray(array).data.cast("B") if array.size else b""


def bytes_of_text(texts: Iterable[str]) -> bytes:
    parts: list[bytes] = []
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        parts += (struct.pack("<I", len(data)), data)
    return b"".join(parts)


def _sha256(array: Any) -> str:
    return hashlib.sha256(tensor_bytes(array)).hexdigest()
