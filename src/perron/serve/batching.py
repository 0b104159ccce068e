"""Decoded requests in; logged replies out, as many per turn of the event loop as came in meanwhile.

Under load a turn finds several requests waiting and answers them with one run of the graph and one
write of the log; a request alone is answered in the turn in which it came, without any wait. What
waits is bounded in rows: beyond it a request is refused at once, with a guess when to come again.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from perron.bundle import Bundle
from perron.clock import clock
from perron.errors import DataError, LedgerError, PerronError
from perron.predictions import PredictionLog, line
from perron.serve.cache import Cache, Kept
from perron.serve.lanes import Lanes
from perron.serve.metrics import Numbers

if TYPE_CHECKING:
    from perron.serve.collect import Collector

__all__ = ["LONGEST_RETRY_S", "NEVER", "Batcher", "Busy", "TooLate", "Waiting"]

MAX_BATCH_ROWS = 256
IN_LOOP_ROWS = 256  # more are run on a thread, so that health checks and small requests go on
FULL_ROWS = 256  # so near to the queue's end it counts as full, or a tenth of it where that is less
LONGEST_RETRY_S = 30
TELL_EVERY_S = 10.0
OnLogFailure = Literal["refuse", "answer"]
logger = logging.getLogger("perron.serve")


class Busy(PerronError):
    """More rows wait than may; `retry_after_s` says when to come again."""

    def __init__(self, waiting: int, retry_after_s: int) -> None:
        super().__init__(f"{waiting} rows wait to be predicted, as many as may; come again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s


class TooLate(PerronError):
    """The request's own deadline passed before its turn came; nothing was predicted."""


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
class Waiting:
    """A request that waits: its rows, what the log keeps of it, its route, its deadline, and who waits for it."""

    rows: Any  # tuples of a contract, or the tensors of a plain graph: whatever has a length in rows
    body: bytes
    way: bytes
    deadline: float
    future: "asyncio.Future[Any]"


@dataclass(slots=True)
class _Outputs:
    """A run's values, probabilities (or None), and the places of values that aren't finite."""

    values: list[Any]
    shares: list[list[float]] | None
    bad: list[int]


NEVER = float("inf")


class Batcher:
    """Predicts, logs and answers for one version of a model.

    Belongs to one event loop. With `sync` a reply waits until its line is on the disk itself; the
    requests that come meanwhile share the next sync. With `in_background` every batch runs on a
    thread, so that it never holds up the loop: for shadows.

    `way` in its methods is the log's route of a request, as JSON text without quotes.
    """

    def __init__(
        self,
        bundle: Bundle,
        version: int,
        log: PredictionLog,
        numbers: Numbers,
        *,
        sync: bool,
        queue_rows: int,
        on_log_failure: OnLogFailure,
        in_background: bool = False,
        cache: Cache | None = None,
    ) -> None:
        self._cache = cache
        self.lanes: Lanes | None = None  # how large requests are parted, once that was measured
        self._answers_unlogged = on_log_failure == "answer"
        self.is_unlogged = False
        self.collector: Collector | None = None  # keeps the live window of what is answered
        self._told = 0.0
        self._bundle, self._version, self._log, self._numbers = bundle, version, log, numbers
        self._history = bundle.history
        self._sync, self._queue_rows, self._in_background = sync, queue_rows, in_background
        self._full_rows = queue_rows - min(FULL_ROWS, queue_rows // 10)
        self._waiting: list[Waiting] = []
        self._waiting_rows = 0
        self._threads = 0
        self._unsynced: list[tuple[Waiting, Any]] = []
        self._is_scheduled = self._is_syncing = False
        self._encode = msgspec.json.Encoder().encode
        self._loop = asyncio.get_running_loop()
        self._clock = clock()
        self._second, self._second_text = -1, ""
        self._rows_per_s = 10_000.0

    @property
    def waiting_rows(self) -> int:
        return self._waiting_rows

    @property
    def is_full(self) -> bool:
        """Whether a request would hardly find a place: told before its rows are decoded, which costs more than to refuse it."""
        return 0 < self._waiting_rows >= self._full_rows

    def busy(self) -> Busy:
        """The refusal, with when to come again at the present speed."""
        wait = ceil(self._waiting_rows / self._rows_per_s)
        return Busy(self._waiting_rows, min(max(wait, 1), LONGEST_RETRY_S))

    @property
    def is_syncing(self) -> bool:
        """Whether answers wait for the disk: the log's file must stay the same meanwhile."""
        return self._is_syncing

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, runs or is being written."""
        return not (self._waiting or self._threads or self._unsynced or self._is_syncing)

    def submit(self, rows: Any, body: bytes, way: bytes, deadline: float = NEVER) -> "asyncio.Future[Any]":
        """The reply to come for a request's rows; `body` is what the log keeps of it.

        The future raises DataError when an answer isn't finite, LedgerError when the log can't be written,
        TooLate when the deadline (of `time.monotonic`) passed first.

        Raises:
            Busy: too much waits already.
        """
        if self._waiting_rows and self._waiting_rows + len(rows) > self._queue_rows:
            raise self.busy()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(Waiting(rows, body, way, deadline, future))
        self._waiting_rows += len(rows)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)
        return future

    def _turn(self) -> None:
        """Answers what is waiting, up to a batch; the rest waits for the next turn."""
        batch: list[Waiting] = []
        rows = taken = 0
        now = time.monotonic()  # not the loop's: uvloop's stands still within a turn
        for item in self._waiting:
            if batch and rows + len(item.rows) > MAX_BATCH_ROWS:
                break
            taken += 1
            self._waiting_rows -= len(item.rows)
            if item.deadline < now:
                _fail([item], TooLate("The request's deadline passed before its turn came; nothing was predicted."))
            elif not item.future.done():  # done: the client went away before its turn
                batch.append(item)
                rows += len(item.rows)
        del self._waiting[:taken]
        if rows > IN_LOOP_ROWS or (batch and self._in_background):
            self._threads += 1
            self._waiting_rows += rows  # until they are answered: threads have a queue of their own
            self._loop.create_task(self._answer_on_thread(batch, rows))
            if self._in_background:  # one batch at a time; the next turn comes when it is done
                self._is_scheduled = True
                return
        elif batch:
            try:
                outputs = self._run_batch(batch)
            except Exception as error:
                self._fail(batch, error)
            else:
                self._answer(batch, outputs, rows)
            spent = time.monotonic() - now
            if spent > 0:
                self._rows_per_s += 0.05 * (rows / spent - self._rows_per_s)
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            self._loop.call_soon(self._turn)

    async def _answer_on_thread(self, batch: list[Waiting], rows: int) -> None:
        try:
            outputs = await self._loop.run_in_executor(None, self._run_batch, batch)
        except Exception as error:
            self._fail(batch, error)
        else:
            self._answer(batch, outputs, rows)
        finally:
            self._threads -= 1
            self._waiting_rows -= rows
            if self._in_background:
                self._is_scheduled = bool(self._waiting)
                if self._is_scheduled:
                    self._loop.call_soon(self._turn)

    def _run_batch(self, batch: list[Waiting]) -> Any:
        """The answers to a batch, as `_settle` takes them; may be called on a thread."""
        return self._run([row for item in batch for row in item.rows] if len(batch) > 1 else batch[0].rows)

    def _run(self, rows: Sequence[tuple[Any, ...]]) -> _Outputs:
        started = time.perf_counter()
        feed = self._bundle.packer(rows)
        if self.lanes is not None and len(rows) > IN_LOOP_ROWS:
            values, probabilities = self.lanes.run(self._bundle, feed)
        else:
            values, probabilities = self._bundle.run(feed)
        self._numbers.compute_s += time.perf_counter() - started
        if self._history is not None:  # what rows that come later look back on, whatever becomes of the answer
            self._history.observe(rows)
        plain = values.tolist()
        if probabilities is None:  # the common case, without NumPy: a fifth of the time for one row
            bad = [] if values.dtype.kind != "f" else [p for p, value in enumerate(plain) if not isfinite(value)]
            return _Outputs(plain, None, bad)
        return _Outputs(plain, probabilities.tolist(), self._bundle.not_finite(values, probabilities))

    def answer_alone(self, rows: Sequence[tuple[Any, ...]], body: bytes, way: bytes) -> bytes:
        """The reply to a request that no other one waits beside, at once: without a turn of the loop, or a future.

        Raises:
            DataError: an answer isn't finite.
            LedgerError: the log can't be written.
        """
        try:
            outputs = self._run(rows)
            if outputs.bad:
                raise _not_finite(outputs.bad[0])
            reply = self._reply(outputs, 0, len(rows))
            self._write(line(self._now(), way, body, reply), len(rows))
            if self.collector is not None:
                self.collector.add(rows, outputs.values, outputs.shares)
        except Exception:
            self._numbers.errors += 1
            raise
        self._numbers.batch(1, len(rows))
        if self._cache is not None:
            self._cache.keep(body, Kept(rows, outputs.values, outputs.shares))
        return reply

    def answer_kept(self, kept: Kept, body: bytes, way: bytes) -> "asyncio.Future[Any]":
        """The reply to a body that was answered before: as of `submit`, without a run of the graph."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._numbers.cache_hits += 1
        outputs = _Outputs(kept.values, kept.shares, [])
        self._answer([Waiting(kept.rows, body, way, NEVER, future)], outputs, len(kept.rows))
        return future

    @property
    def answers_alone(self) -> bool:
        """Whether `answer_alone` keeps the promise of the log: not where an answer waits for the disk."""
        return not self._sync

    def _answer(self, batch: list[Waiting], outputs: Any, rows: int) -> None:
        try:
            lines, answered = self._settle(batch, outputs)
            if lines:
                self._write(b"".join(lines), rows)
        except Exception as error:
            self._fail(batch, error)
            return
        if answered:
            self._numbers.batch(len(answered), rows)
            if self.collector is not None:
                self._collect(self.collector, batch, outputs)
            if self._cache is not None:
                self._keep(self._cache, batch, outputs)
        if self._sync:
            self._unsynced.extend(answered)
            if not self._is_syncing:
                self._is_syncing = True
                self._loop.create_task(self._acknowledge_synced())
        else:
            _acknowledge(answered)

    @staticmethod
    def _collect(collector: "Collector", batch: list[Waiting], outputs: _Outputs) -> None:
        """Puts aside what was answered, without requests that hold a row with no finite answer."""
        start, bad = 0, outputs.bad
        for item in batch:
            end = start + len(item.rows)
            if not bad or not any(start <= place < end for place in bad):
                shares = None if outputs.shares is None else outputs.shares[start:end]
                collector.add(item.rows, outputs.values[start:end], shares)
            start = end

    @staticmethod
    def _keep(cache: Cache, batch: list[Waiting], outputs: _Outputs) -> None:
        """Remembers what was answered; not requests that hold a row with no finite answer."""
        start = 0
        for item in batch:
            end = start + len(item.rows)
            if not any(start <= place < end for place in outputs.bad):
                shares = None if outputs.shares is None else outputs.shares[start:end]
                cache.keep(item.body, Kept(item.rows, outputs.values[start:end], shares))
            start = end

    def _write(self, lines: bytes, rows: int) -> None:
        """Appends to the log, and begins a new segment where the present one is full: ids made before are in this one.

        Raises:
            LedgerError: it can't be written, and what isn't logged isn't to be answered.
        """
        try:
            self._log.append(lines)
            self.is_unlogged = False
            if self._log.is_full and not self._is_syncing:
                self._rotate()
        except LedgerError as error:
            if not self._answers_unlogged:
                raise
            self.is_unlogged = True
            self._numbers.unlogged += rows
            self._tell("answers go out unlogged: %s", error)

    def _rotate(self) -> None:
        try:
            self._log.rotate()
        except LedgerError as error:  # the old segment goes on
            self._tell("the log stays in its segment: %s", error)

    def _tell(self, words: str, error: Exception) -> None:
        """Says it, but not again and again."""
        if time.monotonic() - self._told > TELL_EVERY_S:
            self._told = time.monotonic()
            logger.error(words, error)

    def _settle(self, batch: list[Waiting], outputs: Any) -> tuple[list[bytes], list[tuple[Waiting, Any]]]:
        """The log's lines, and each request that has an answer with it; the others are failed here."""
        lines: list[bytes] = []
        answered: list[tuple[Waiting, Any]] = []
        moment, start = self._now(), 0
        for item in batch:
            end = start + len(item.rows)
            bad = next((place for place in outputs.bad if start <= place < end), None)
            if bad is not None:
                self._fail([item], _not_finite(bad - start))
            else:
                reply = self._reply(outputs, start, end)
                lines.append(line(moment, item.way, item.body, reply))
                answered.append((item, reply))
            start = end
        return lines, answered

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
                self._fail([item for item, _ in group], error)
            else:
                _acknowledge(group)
        self._is_syncing = False

    def _now(self) -> bytes:
        """The time in UTC to the millisecond; the second's text is made once a second."""
        milliseconds = self._clock() // 1_000_000
        second, rest = divmod(milliseconds, 1000)
        if second != self._second:
            self._second, self._second_text = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{rest:03d}Z".encode()

    def _fail(self, batch: list[Waiting], error: Exception) -> None:
        self._numbers.errors += len(batch)
        _fail(batch, error)


def _acknowledge(answered: list[tuple[Waiting, Any]]) -> None:
    for item, reply in answered:
        if not item.future.done():  # done: the client went away
            item.future.set_result(reply)


def _fail(batch: list[Waiting], error: Exception) -> None:
    for item in batch:
        if not item.future.done():
            item.future.set_exception(error)


def _not_finite(row: int) -> DataError:
    return DataError(
        f"The model's answer to rows[{row}] isn't a finite number; the row lies outside what it can compute."
    )
