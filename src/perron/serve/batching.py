"""Decoded requests in; logged replies out, as many per turn of the event loop as came in meanwhile.

Under load a turn finds several requests waiting and answers them with one run of the graph and one
write of the log; a request alone is answered in the turn in which it came, without any wait.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import msgspec

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


@dataclass(slots=True)
class _Outputs:
    """A run's values, probabilities (or None), and the places of values that aren't finite."""

    values: list[Any]
    shares: list[list[float]] | None
    bad: list[int]


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

    def _run(self, rows: Sequence[tuple[Any, ...]]) -> _Outputs:
        values, probabilities = self._bundle.run(self._bundle.packer(rows))
        plain = values.tolist()
        if probabilities is None:  # the common case, without NumPy: a fifth of the time for one row
            bad = [] if values.dtype.kind != "f" else [p for p, value in enumerate(plain) if not isfinite(value)]
            return _Outputs(plain, None, bad)
        return _Outputs(plain, probabilities.tolist(), self._bundle.not_finite(values, probabilities))

    def answer_alone(self, rows: Sequence[tuple[Any, ...]], body: bytes) -> bytes:
        """The reply to a request that no other one waits beside, at once: without a turn of the loop, or a future.

        Raises:
            DataError: an answer isn't finite.
            LedgerError: the log can't be written.
        """
        outputs = self._run(rows)
        if outputs.bad:
            raise _not_finite(outputs.bad[0])
        if self._log.is_full:
            self._log.rotate()
        reply = self._reply(outputs, 0, len(rows))
        self._log.append(line(self._now(), self._route, body, reply))
        self._observe(1, len(rows))
        return reply

    @property
    def answers_alone(self) -> bool:
        """Whether `answer_alone` keeps the promise of the log: not where an answer waits for the disk."""
        return not self._sync

    def _answer(self, batch: list[_Waiting], outputs: _Outputs, rows: int) -> None:
        try:
            if self._log.is_full and not self._is_syncing:
                self._log.rotate()
            lines: list[bytes] = []
            answered: list[tuple[_Waiting, bytes]] = []
            moment, start = self._now(), 0
            for item in batch:
                end = start + len(item.rows)
                bad = next((place for place in outputs.bad if start <= place < end), None)
                if bad is not None:
                    _fail([item], _not_finite(bad - start))
                else:
                    reply = self._reply(outputs, start, end)
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

    def _reply(self, outputs: _Outputs, start: int, end: int) -> bytes:
        new_id, values, shares = self._log.new_id, outputs.values, outputs.shares
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


def _not_finite(row: int) -> DataError:
    return DataError(
        f"The model's answer to rows[{row}] isn't a finite number; the row lies outside what it can compute."
    )
