"""Chunks in; predicted on a Ray cluster, or on this machine by one that Ray starts; out in order.

`RAY_ADDRESS` names the cluster. Perron and what the bundle needs must be installed on its machines, in the
version of this one; the bundle itself is sent to them.
"""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray

from perron.batch import Done, Predictor, Task
from perron.errors import PerronError

__all__ = ["Ray"]

AHEAD = 2


@dataclass(frozen=True)
class Ray:
    """A runner of `workers` actors, each with a core of its own; as many as the cluster has cores if None."""

    workers: int | None = None

    def map(self, predict: Predictor, tasks: Iterator[Task]) -> Iterator[Done]:
        """The chunks in order.

        Raises:
            PerronError: the cluster can't be reached or has no free core, or a machine was lost too often.
        """
        is_own = not ray.is_initialized()
        try:
            if is_own:
                ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
            yield from self._map(predict, tasks)
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, PerronError) else error) from error
        except (ray.exceptions.RayError, ConnectionError) as error:
            words = str(error).strip().splitlines()[0]
            raise PerronError(f"Ray gave up: {words}; run the same again, which goes on where this stopped.") from error
        finally:
            if is_own and ray.is_initialized():
                ray.shutdown()

    def _map(self, predict: Predictor, tasks: Iterator[Task]) -> Iterator[Done]:
        carried = ray.put(predict.carried())
        cluster: Any = ray  # of which some functions have no annotations
        resources: dict[str, float] = cluster.cluster_resources()
        count = self.workers or max(int(resources.get("CPU", 1)), 1)
        # A chunk's prediction has no effect but its answer: a lost machine's chunks are predicted again.
        actor = ray.remote(num_cpus=1, max_restarts=3, max_task_retries=3)(_Actor)
        actors: list[Any] = [actor.remote() for _ in range(count)]
        waiting: deque[Any] = deque()
        for place, task in enumerate(tasks):
            waiting.append(actors[place % count].predict.remote(carried, task))
            if len(waiting) >= AHEAD * count:
                yield ray.get(waiting.popleft())
        while waiting:
            yield ray.get(waiting.popleft())
        for one in actors:
            ray.kill(one)


class _Actor:
    def __init__(self) -> None:
        self._predict: Predictor | None = None

    def predict(self, predict: Predictor, task: Task) -> Done:
        self._predict = self._predict or predict  # the first, which has the bundle open
        return self._predict(task)


os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
