"""Decoded requests in; logged replies out, as many per turn of the event loop as came in meanwhile.

Under load a turn finds several requests waiting and answers them with one run of the graph and one
write of the log; a request alone is answered in the turn in which it came, without any wait.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np

from perron.bundle import Bundle
from perron.errors import DataError
from perron.predictions import PredictionLog, line

__all__ = ["Batcher"]

MAX_BATCH_ROWS = 256
IN_LOOP_ROWS = 256  # more are run on a thread, so that health checks and small requests go on


class _Value(msgspec.Struct):
    id: str
    value: Any


class _Labelled(msgspec.Struct):
    id: str
    value: Any
    probabilities: dict[str, float]


class _Reply(msgspec.Struct):
    model: str
    version: int
    predictions: list[Any]


@dataclass(slots=True)
class _Waiting:
    rows: Sequence[tuple[Any, ...]]
    body: bytes
    future: "asyncio.Future[bytes]"


class Batcher:
    """Predicts, logs and answers for one bundle.

    Belongs to one event loop. With `sync` a reply waits until its line is on the disk itself; the
    requests that come meanwhile share the next sync.
    """

    def __init__(
        self,
        bundle: Bundle,
        version: int,
        log: PredictionLog,
        *,
        route: str,
        sync: bool,
        observe: Callable[[int, int], None],
    ) -> None:
        self._bundle, self._version, self._log = bundle, version, log
        self._route = route.encode()
        self._sync, self._observe = sync, observe
        self._waiting: list[_Waiting] = []
        self._unsynced: list[tuple[_Waiting, bytes]] = []
        self._is_scheduled = self._is_syncing = False
        self._encode = msgspec.json.Encoder().encode
        self._loop = asyncio.get_running_loop()
        self._second, self._second_text = -1, ""

    def submit(self, rows: Sequence[tuple[Any, ...]], body: bytes) -> "asyncio.Future[bytes]":
        """The reply to come for a request's rows; `body` is what the log keeps of it.

        The future raises DataError when an answer isn't finite, LedgerError when the log can't be written.
        """
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting.append(_Waiting(rows, body, future))
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)
        return future

    def _turn(self) -> None:
        """Answers what is waiting, up to a batch; the rest waits for the next turn."""
        batch: list[_Waiting] = []
        rows = 0
        for item in self._waiting:
            if batch and rows + len(item.rows) > MAX_BATCH_ROWS:
                break
            batch.append(item)
            rows += len(item.rows)
        del self._waiting[: len(batch)]
        if rows > IN_LOOP_ROWS:
            self._loop.create_task(self._answer_on_thread(batch, rows))
        else:
            try:
                outputs = self._run([row for item in batch for row in item.rows] if len(batch) > 1 else batch[0].rows)
            except Exception as error:
                _fail(batch, error)
            else:
                self._answer(batch, outputs, rows)
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            self._loop.call_soon(self._turn)

    async def _answer_on_thread(self, batch: list[_Waiting], rows: int) -> None:
        try:
            outputs = await self._loop.run_in_executor(None, self._run, [row for item in batch for row in item.rows])
        except Exception as error:
            _fail(batch, error)
        else:
            self._answer(batch, outputs, rows)

    def _run(self, rows: Sequence[tuple[Any, ...]]) -> tuple[list[Any], Any]:
        values, probabilities = self._bundle.run(self._bundle.packer(rows))
        finite = np.isfinite(values) if values.dtype.kind == "f" else None
        bad = None if finite is None or finite.all() else finite
        return [values.tolist(), None if probabilities is None else probabilities.tolist()], bad

    def _answer(self, batch: list[_Waiting], outputs: tuple[list[Any], Any], rows: int) -> None:
        (values, shares), finite = outputs
        try:
            if self._log.is_full and not self._is_syncing:
                self._log.rotate()
            lines: list[bytes] = []
            answered: list[tuple[_Waiting, bytes]] = []
            moment, start = self._now(), 0
            for item in batch:
                end = start + len(item.rows)
                if finite is not None and not finite[start:end].all():
                    row = int(np.flatnonzero(~finite[start:end])[0])
                    _fail(
                        [item],
                        DataError(
                            f"The model's answer to rows[{row}] isn't a finite number; the row lies outside what it can compute."
                        ),
                    )
                else:
                    reply = self._reply(values, shares, start, end)
                    lines.append(line(moment, self._route, item.body, reply))
                    answered.append((item, reply))
                start = end
            if lines:
                self._log.append(b"".join(lines))
        except Exception as error:
            _fail(batch, error)
            return
        self._observe(len(batch), rows)
        if self._sync:
            self._unsynced.extend(answered)
            if not self._is_syncing:
                self._is_syncing = True
                self._loop.create_task(self._acknowledge_synced())
        else:
            _acknowledge(answered)

    def _reply(self, values: list[Any], shares: list[Any] | None, start: int, end: int) -> bytes:
        new_id = self._log.new_id
        predictions: list[Any]
        if shares is None:
            predictions = [_Value(new_id(), values[place]) for place in range(start, end)]
        else:
            labels = self._bundle.labels
            predictions = [
                _Labelled(new_id(), values[place], dict(zip(labels, shares[place], strict=True)))
                for place in range(start, end)
            ]
        return self._encode(_Reply(self._bundle.name, self._version, predictions))

    async def _acknowledge_synced(self) -> None:
        while self._unsynced:
            group, self._unsynced = self._unsynced, []
            try:
                await self._loop.run_in_executor(None, self._log.sync)
            except Exception as error:
                _fail([item for item, _ in group], error)
            else:
                _acknowledge(group)
        self._is_syncing = False

    def _now(self) -> bytes:
        """The time in UTC to the millisecond; the second's text is made once a second."""
        milliseconds = time.time_ns() // 1_000_000
        second, rest = divmod(milliseconds, 1000)
        if second != self._second:
            self._second, self._second_text = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{rest:03d}Z".encode()


def _acknowledge(answered: list[tuple[_Waiting, bytes]]) -> None:
    for item, reply in answered:
        if not item.future.done():  # done: the client went away
            item.future.set_result(reply)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for item in batch:
        if not item.future.done():
            item.future.set_exception(error)
