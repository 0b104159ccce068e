"""Requests in, answers out, whatever the protocol: the service of one bundle.

`Service.predict` is the way that must be fast; `Service.get` answers everything else. Protocol
adapters (`perron.serve.http`) only translate.
"""

import asyncio
import gc
import importlib.resources
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Metric, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from perron import predictions
from perron.bundle import Bundle
from perron.check.request import Decoder, Rejection
from perron.derive.onnx import inputs
from perron.derive.openapi import openapi
from perron.errors import DataError, LedgerError, MissingPackage, NotFound
from perron.predictions import PredictionLog
from perron.serve.batching import Batcher
from perron.serve.problem import Answer, json_answer, problem

__all__ = ["Service", "Settings"]

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024)
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
ALONE_ROWS = 64  # more take long enough for others to come: they go through the batcher
RECEIPT = re.compile(r"/v1/predictions/([^/]+)")


@dataclass(frozen=True)
class Settings:
    """What a service may take and where it logs.

    `sync`: answers wait until the log is on the disk itself, so that they survive a power cut; without
    it they survive the death of the process. `outcome` looks up a prediction's outcome, or None.
    """

    log_folder: Path
    max_rows: int = 10_000
    max_body_bytes: int = 16 << 20
    body_timeout_s: float = 30.0
    sync: bool = False
    route: str = "champion"
    outcome: Callable[[str], dict[str, Any] | None] | None = None


class Service:
    """One bundle, answering. Made within the event loop that it then belongs to.

    Raises:
        LedgerError: the prediction log can't be written.
        BundleError: the graph can't be run on the bundle's own sample.
    """

    def __init__(self, bundle: Bundle, version: int, settings: Settings) -> None:
        self.bundle, self.version, self.settings = bundle, version, settings
        self.is_ready = False
        self._decode = Decoder(bundle.schema, settings.max_rows)
        self._numbers = _Numbers(bundle.name, version)
        header = {
            "model": bundle.name,
            "version": version,
            "bundle": bundle.digest,
            "lineage": bundle.manifest["lineage"],
        }
        self._log = PredictionLog(settings.log_folder, header)
        self._batcher = Batcher(
            bundle, version, self._log, route=settings.route, sync=settings.sync, observe=self._numbers.batch
        )
        bundle.predict(bundle.sample["rows"])  # warm before the first request comes
        gc.collect()
        gc.freeze()  # what serving keeps for ever is never looked at again: no pauses for it
        self.is_ready = True

    async def predict(self, body: bytes, *, is_alone: bool = False) -> Answer:
        """The answer to the body of `POST /v1/predictions`; `is_alone` when no other request is under way."""
        started = time.perf_counter()
        rows = self._decode(body)
        if isinstance(rows, Rejection):
            self._numbers.refused(rows.reason)
            return _refusal(rows)
        try:
            if is_alone and len(rows) <= ALONE_ROWS and self._batcher.answers_alone:
                reply = self._batcher.answer_alone(rows, body)
            else:
                reply = await self._batcher.submit(rows, body)
        except DataError as error:
            self._numbers.refused("not_finite")
            return problem(422, str(error))
        except LedgerError as error:
            self._numbers.refused("log")
            return problem(503, str(error), (("retry-after", "5"),))
        self._numbers.answered(time.perf_counter() - started)
        return Answer(200, reply)

    async def get(self, path: str) -> Answer:
        """The answer to `GET path`."""
        receipt = RECEIPT.fullmatch(path)
        if receipt is not None:
            return await asyncio.get_running_loop().run_in_executor(None, self._receipt, receipt[1])
        page = self._pages.get(path)
        if page is None:
            return problem(404, f"There is nothing at {path[:200]}; / lists what there is.")
        return page()

    def knows(self, path: str) -> str | None:
        """The methods that a path takes, or None."""
        if path == "/v1/predictions":
            return "POST"
        return "GET, HEAD" if path in self._pages or RECEIPT.fullmatch(path) else None

    def refuse_size(self) -> Answer:
        self._numbers.refused("too_large")
        return problem(413, f"The body is larger than {self.settings.max_body_bytes} bytes; send the rows in parts.")

    def refuse_slow(self) -> Answer:
        self._numbers.refused("slow")
        return problem(
            408, f"The body didn't come within {self.settings.body_timeout_s:g} s.", (("connection", "close"),)
        )

    def note_disconnect(self) -> None:
        self._numbers.refused("disconnected")

    def refuse_type(self, got: str) -> Answer:
        self._numbers.refused("type")
        return problem(415, f"The body's type is {got[:100]!r}; send it with Content-Type: application/json.")

    def close(self) -> None:
        """Closes the log; what was acknowledged is then on the disk itself."""
        self.is_ready = False
        self._log.close()

    @cached_property
    def _pages(self) -> Mapping[str, Callable[[], Answer]]:
        return {
            "/": self._index,
            "/v1/model": partial(json_answer, self._facts()),
            "/health/live": partial(json_answer, {"status": "live"}),
            "/health/ready": self._ready,
            "/metrics": self._numbers.page,
            "/openapi.json": partial(json_answer, self._openapi()),
            "/docs": _docs,
        }

    def _index(self) -> Answer:
        return json_answer(
            {
                "model": self.bundle.name,
                "version": self.version,
                "paths": ["/v1/predictions", *sorted(path for path in self._pages if path != "/")],
            }
        )

    def _ready(self) -> Answer:
        return json_answer({"status": "ready"}) if self.is_ready else problem(503, "The service is stopping.")

    def _facts(self) -> dict[str, Any]:
        manifest = self.bundle.manifest
        kept = ("task", "classes", "metrics", "baseline", "parity", "lineage")
        return {
            "name": self.bundle.name,
            "version": self.version,
            "bundle": self.bundle.digest,
            **{key: manifest[key] for key in kept},
            "contract": self.bundle.schema.to_json(),
            "inputs": [
                {"name": given.name, "type": given.onnx_type, "shape": ["N"]} for given in inputs(self.bundle.schema)
            ],
        }

    def _openapi(self) -> dict[str, Any]:
        limits = {"max_rows": self.settings.max_rows, "max_body_bytes": self.settings.max_body_bytes}
        labels = self.bundle.labels
        return openapi(
            self.bundle.schema, name=self.bundle.name, version=self.version, labels=labels,
            has_probabilities=self.bundle.has_probabilities, sample=self.bundle.sample, limits=limits,
        )  # fmt: skip

    def _receipt(self, prediction: str) -> Answer:
        try:
            found = predictions.find(self.settings.log_folder, prediction)
        except NotFound:
            return problem(404, f"There is no prediction {prediction[:80]!r} in this service's log.")
        except MissingPackage as error:
            return problem(503, str(error))
        outcome = self.settings.outcome(prediction) if self.settings.outcome else None
        return json_answer({**found.to_json(), "outcome": outcome})


def _refusal(rejection: Rejection) -> Answer:
    status = {"malformed": 400, "too_many_rows": 413, "invalid": 422}[rejection.reason]
    if not rejection.faults:
        return problem(status, rejection.detail)
    return problem(
        status, rejection.detail, count=rejection.count, errors=[fault.to_json() for fault in rejection.faults]
    )


def _docs() -> Answer:
    page = importlib.resources.files("perron.serve").joinpath("docs.html").read_bytes()
    csp = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return Answer(200, page, "text/html; charset=utf-8", (("content-security-policy", csp),))


class _Numbers(Collector):
    """The service's metrics for Prometheus: plain numbers while serving, made into families when they are asked for.

    (Prometheus's own counters take locks that cost a request a tenth of its time.)
    """

    def __init__(self, model: str, version: int) -> None:
        self._model, self._version = model, str(version)
        self._requests = self._rows = 0
        self._refused: dict[str, int] = {}
        self._latency = _Buckets(LATENCY_BUCKETS)
        self._batch_rows = _Buckets(BATCH_BUCKETS)
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector):
            collector(registry=self._registry)
        self._registry.register(self)
        self.answered = self._latency.add

    def batch(self, requests: int, rows: int) -> None:
        self._requests += requests
        self._rows += rows
        self._batch_rows.add(rows)

    def refused(self, reason: str) -> None:
        self._refused[reason] = self._refused.get(reason, 0) + 1

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily("perron_requests", "Prediction requests that were answered.", value=self._requests)
        yield CounterMetricFamily("perron_predictions", "Rows that were predicted.", value=self._rows)
        refused = CounterMetricFamily("perron_requests_refused", "Requests that were refused.", labels=["reason"])
        for reason, count in sorted(self._refused.items()):
            refused.add_metric([reason], count)
        yield refused
        yield self._latency.family("perron_request_seconds", "Time from a request's body to its answer.")
        yield self._batch_rows.family("perron_batch_rows", "Rows that were predicted together.")
        info = GaugeMetricFamily("perron_model_info", "The model that answers.", labels=["model", "version"])
        info.add_metric([self._model, self._version], 1)
        yield info

    def page(self) -> Answer:
        return Answer(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)


class _Buckets:
    """A histogram's counts."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, name: str, words: str) -> Metric:
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        cumulated = list(zip(names, accumulate(self._counts), strict=True))
        return HistogramMetricFamily(name, words, buckets=cumulated, sum_value=self._sum)
