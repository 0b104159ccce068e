"""Requests in, answers out, whatever the protocol: the service of one bundle.

`Service.predict` is the way that must be fast; `Service.get` answers everything else. Protocol
adapters (`perron.serve.http`) only translate.
"""

import asyncio
import importlib.resources
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from perron import predictions
from perron.bundle import Bundle
from perron.check.request import Decoder, Rejection
from perron.derive.openapi import openapi
from perron.errors import DataError, LedgerError, NotFound
from perron.predictions import PredictionLog
from perron.serve.batching import Batcher
from perron.serve.problem import Answer, json_answer, problem

__all__ = ["Service", "Settings"]

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
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
        self.is_ready = True

    async def predict(self, body: bytes) -> Answer:
        """The answer to the body of `POST /v1/predictions`."""
        started = time.perf_counter()
        rows = self._decode(body)
        if isinstance(rows, Rejection):
            self._numbers.refused(rows.reason)
            return _refusal(rows)
        try:
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


class _Numbers:
    """The service's metrics for Prometheus, in a registry of their own."""

    def __init__(self, model: str, version: int) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(name, words, labels, registry=self._registry)

        self._requests = counter("perron_requests_total", "Prediction requests that were answered.")
        self._rows = counter("perron_predictions_total", "Rows that were predicted.")
        self._refused = counter("perron_requests_refused_total", "Prediction requests that were refused.", "reason")
        self._batches = Histogram(
            "perron_batch_rows",
            "Rows that were predicted together.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1024),
            registry=self._registry,
        )
        latency = Histogram(
            "perron_request_seconds",
            "Time from a request's body to its answer.",
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        Gauge("perron_model_info", "The model that answers.", ("model", "version"), registry=self._registry).labels(
            model, str(version)
        ).set(1)
        self.answered = latency.observe

    def batch(self, requests: int, rows: int) -> None:
        self._requests.inc(requests)
        self._rows.inc(rows)
        self._batches.observe(rows)

    def refused(self, reason: str) -> None:
        self._refused.labels(reason).inc()

    def page(self) -> Answer:
        return Answer(200, generate_latest(self._registry), CONTENT_TYPE_LATEST)
