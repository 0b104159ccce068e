"""Requests as they begin and end in; structured log lines and OpenTelemetry spans out.

Off by default: a server that isn't asked to watch spends nothing on it. Logs are lines on standard
error, as JSON or as text, each with the request's id; spans need the extra `otel` and go where the
`OTEL_EXPORTER_OTLP_…` variables of OpenTelemetry say.
"""

import importlib
import json
import logging
import re
import secrets
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from perron.errors import MissingPackage
from perron.serve.routes import Headers

__all__ = ["LogFormat", "Watched", "Watcher", "set_up_logging"]

LogFormat = Literal["text", "json"]
REQUEST_ID = re.compile(r"[\w.:/+=@-]{1,128}")
logger = logging.getLogger("perron.serve")
access = logging.getLogger("perron.access")


class _Json(logging.Formatter):
    """One JSON object a line; what a call gave as `extra={"facts": …}` becomes keys."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{name}={value}" for name, value in getattr(record, "facts", {}).items())
        line = f"{self.formatTime(record)} {record.levelname.lower()} {record.getMessage()} {facts}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up_logging(kind: LogFormat = "text", level: str = "warning", access_log: bool = False) -> None:
    """Sends the server's log lines to standard error, in that format; what others log is left alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if kind == "json" else _Text())
    for one, at in ((logger, level.upper()), (access, "INFO" if access_log else "CRITICAL")):
        one.handlers = [handler]
        one.propagate = False
        one.setLevel(at)


@dataclass(slots=True)
class Watched:
    """A request that is being watched: its id, when it began, and its span."""

    request_id: str
    method: str
    path: str
    trace: str | None
    started: float
    span: Any = None


class Watcher:
    """Watches requests.

    Args:
        access_log: whether each leaves a line.
        traces: whether each leaves a span.

    Raises:
        MissingPackage: spans are wanted and OpenTelemetry isn't installed.
    """

    def __init__(self, *, access_log: bool, traces: bool) -> None:
        self._access_log = access_log
        self._provider = _provider() if traces else None
        self._tracer = self._provider.get_tracer("perron") if self._provider is not None else None
        self._propagator = _propagator() if traces else None

    def begin(self, method: str, path: str, headers: Headers) -> Watched:
        given = headers.get("x-request-id")
        request_id = given if given is not None and REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        trace = headers.get("traceparent")
        watched = Watched(request_id, method, path, trace, time.perf_counter())
        if self._tracer is not None:
            assert self._propagator is not None
            parent = self._propagator.extract(
                {"traceparent": trace or "", "tracestate": headers.get("tracestate") or ""}
            )
            watched.span = self._tracer.start_span(f"{method} {_route(path)}", context=parent, kind=_server_kind())
        return watched

    def end(self, watched: Watched, status: int, token: str | None = None) -> None:
        """Notes how a request ended; status 499 when its client went away."""
        seconds = time.perf_counter() - watched.started
        if watched.span is not None:
            watched.span.set_attributes(
                {
                    "http.request.method": watched.method, "url.path": watched.path,
                    "http.response.status_code": status, "perron.request_id": watched.request_id,
                }
            )  # fmt: skip
            if status >= 500:
                watched.span.set_status(importlib.import_module("opentelemetry.trace").StatusCode.ERROR)
            watched.span.end()
        if self._access_log:
            facts: dict[str, Any] = {
                "request_id": watched.request_id, "method": watched.method, "path": watched.path[:300],
                "status": status, "ms": round(seconds * 1000, 3),
            }  # fmt: skip
            if watched.trace is not None:
                facts["traceparent"] = watched.trace[:200]
            if token is not None:
                facts["token"] = token
            access.info("request", extra={"facts": facts})

    def close(self) -> None:
        """Sends the spans that haven't been sent yet."""
        if self._provider is not None:
            self._provider.shutdown()


def _route(path: str) -> str:
    """The path without what differs from request to request, as a span's name should be."""
    return re.sub(r"(?<=/predictions/)[^/]+|(?<=/batches/)[^/]+", "{id}", path)[:200]


def _server_kind() -> Any:
    return importlib.import_module("opentelemetry.trace").SpanKind.SERVER


def _propagator() -> Any:
    return importlib.import_module("opentelemetry.trace.propagation.tracecontext").TraceContextTextMapPropagator()


def _provider() -> Any:
    try:
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        resources = importlib.import_module("opentelemetry.sdk.resources")
        otlp = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ModuleNotFoundError as error:
        raise MissingPackage(f"Traces need {error.name}: pip install 'perron[otel]'.") from error
    # A name in OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES goes before this one.
    resource = resources.Resource({"service.name": "perron"}).merge(resources.OTELResourceDetector().detect())
    provider = sdk.TracerProvider(resource=resource)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    return provider
