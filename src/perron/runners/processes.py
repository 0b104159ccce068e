"""Chunks in; predicted by several processes of this machine; out in order."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

from perron.batch import Done, Predictor, Task
from perron.errors import PerronError

__all__ = ["Processes"]

AHEAD = 2  # tasks per process that are under way or wait in order


@dataclass(frozen=True)
class Processes:
    """A runner of `workers` processes, which end with it."""

    workers: int

    def map(self, predict: Predictor, tasks: Iterator[Task]) -> Iterator[Done]:
        """The chunks in order.

        Raises:
            PerronError: a process died.
        """
        # Not by fork: Arrow has threads. Each opens the bundle once.
        with ProcessPoolExecutor(self.workers, get_context("spawn"), _begin, (predict,)) as pool:
            waiting: deque[Future[Done]] = deque()
            try:
                for task in tasks:
                    waiting.append(pool.submit(_run, task))
                    if len(waiting) >= AHEAD * self.workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            except BrokenProcessPool as error:
                raise PerronError(
                    "A process that predicts died (killed, or out of memory: try fewer --workers or --chunk-rows); "
                    "run the same again, which goes on where this stopped."
                ) from error
            finally:
                for future in waiting:
                    future.cancel()


_predict: Predictor | None = None


def _begin(predict: Predictor) -> None:
    global _predict
    _predict = predict


def _run(task: Task) -> Done:
    assert _predict is not None
    return _predict(task)
