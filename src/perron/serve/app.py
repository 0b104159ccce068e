"""Requests in, answers out, whatever the protocol: the service of a server's models.

`Service.predict` is the way that must be fast; `Service.handle` answers everything else by the routes
that the protocols bring (`perron.serve.rest` and its neighbours). Adapters of transports
(`perron.serve.http`, `perron.serve.mount`) only translate.
"""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from perron.check.request import Rejection
from perron.errors import BundleError, DataError, LedgerError, NotFound, PerronError
from perron.minutes import Gpu, MinuteWriter, Usage, share_at_least
from perron.plan import Memory, NotOffered, Plan, TokenPlan
from perron.predictions import ROTATE
from perron.predictions.ship import drop_sent
from perron.serve.batches import Batches, BatchSettings
from perron.serve.batching import NEVER, Busy, OnLogFailure, TooLate
from perron.serve.guard import Cors, Guard
from perron.serve.metrics import Histogram, Registry
from perron.serve.models import Endpoint, Model, Models
from perron.serve.negotiation import choose, has_already
from perron.serve.platforms import Vertex
from perron.serve.problem import Answer, Stream, problem
from perron.serve.routes import Headers, Request, Route, Routes, Scope, takes
from perron.serve.usage import read_gpus, read_usage
from perron.serve.watch import Watcher

__all__ = [
    "PLAIN_ACCEPT", "BrokenContract", "Malformed", "Service", "Settings", "deadline_of", "key_of", "refusal", "with_trace",
]  # fmt: skip

ALONE_ROWS = 64  # more take long enough for others to come: they go through the batcher
FOLLOW_EVERY_S = 0.5
LEAVE_EVERY_S = TEND_EVERY_S = 1.0
GPUS_EVERY_S = 30.0
LAST_SEND_S = 3.0  # for what was logged last to go on, before the process and perhaps its disk end
FEWEST_REQUESTS = 30  # of an arm before its limits are looked at
ROTATE_EVERY_S = 3600.0  # a segment holds an hour at most, so that what is older can be compacted or deleted
UNLOGGED = ("x-perron-log", "failing: this answer may have no receipt")
KEY_HEADER, DEADLINE_HEADER, TRACE_HEADER = "x-routing-key", "x-timeout-ms", "traceparent"
# What clients of JSON send as Accept: told at a glance.
PLAIN_ACCEPT = frozenset(
    [None, "*/*", "application/json", "application/json, */*", "application/json, text/plain, */*"]
)
logger = logging.getLogger("perron.serve")


@dataclass(frozen=True)
class Settings:
    """What a service may take, and where it logs.

    `sync`: answers wait until the log is on the disk itself, so that they survive a power cut; without
    it they survive the death of the process. `queue_rows`: how many rows may wait per model version.
    `on_log_failure`: what happens when the log can't be written (a full disk): `refuse` with 503, or `answer`
    all the same, with a header, a count and a log line that say so.
    `batches`: what is done for asynchronous batches; None where there are none.
    `cache_requests`: how many answered requests each version remembers, to answer equal ones without its graph; 0: none.
    `windows`, `minutes`: the folders of the live windows and of the minutes that monitoring reads; None keeps none.
    `anonymous_admin`: whether, while nobody is asked for a token, everybody may load and unload models.
    `drop_sent`: the places that a complete segment of the log is deleted after, once all of them have it; none: it stays.
    `vertex`: the routes that Vertex AI asks at; None where it doesn't.
    `deployment`: `environment` and `id` of the deployment that it is of, for the log and the receipts; None: of none.
    `shared`: where the workers of one server leave their numbers; None for a server of one process.
    """

    log_folder: Path
    max_rows: int = 10_000
    max_body_bytes: int = 16 << 20
    body_timeout_s: float = 30.0
    sync: bool = False
    queue_rows: int = 20_000
    on_log_failure: OnLogFailure = "refuse"
    cache_requests: int = 0
    windows: Path | None = None
    minutes: Path | None = None
    cors_origins: tuple[str, ...] = ()
    anonymous_admin: bool = True
    access_log: bool = False
    traces: bool = False
    shared: Path | None = None
    worker: int = 0
    workers: int = 1
    batches: BatchSettings | None = None
    vertex: Vertex | None = None
    drop_sent: tuple[str, ...] = ()
    deployment: Mapping[str, Any] | None = None


class BrokenContract(PerronError):
    """Rows that break the contract; `rejection` says which, where and how."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.detail)
        self.rejection = rejection


class Malformed(PerronError):
    """A request that can't be read as what it says it is."""


class Service:
    """The models of a plan, answering. Made and used within one event loop; `start` before the first request.

    Raises:
        LedgerError: the prediction log can't be written.
    """

    def __init__(self, settings: Settings, memory: Memory) -> None:
        self.settings, self.memory = settings, memory
        self.is_ready = False
        self.guard = Guard(None)
        self.cors = Cors(settings.cors_origins)
        watched = settings.access_log or settings.traces
        self.watcher = Watcher(access_log=settings.access_log, traces=settings.traces) if watched else None
        self.registry = Registry(settings.shared, settings.worker, self._usage)
        self.models = Models(
            self.registry,
            settings.log_folder,
            memory.secret,
            settings.max_rows,
            settings.sync,
            settings.queue_rows,
            settings.on_log_failure,
            settings.windows,
            settings.cache_requests,
            max(1, len(os.sched_getaffinity(0)) // settings.workers),
            settings.deployment,
        )
        self.registry.gauge("perron_model_info", "The versions that answer, by route.", self._info)
        self.registry.gauge(
            "perron_predict_threads", "Threads that a request of many rows is parted among.", self._threads
        )
        self.batches = Batches(self, settings.batches) if settings.batches is not None else None
        self.registry.gauge(
            "perron_drift", "Distance of this hour's traffic from the training.", lambda: self._drifts(0)
        )
        self.registry.gauge("perron_drift_severity", "0 none, 1 low, 2 medium, 3 high.", lambda: self._drifts(1))
        self._routes = Routes(self._all_routes())
        self._tasks: list[asyncio.Task[None]] = []
        self._following = asyncio.Lock()
        self.document: tuple[Any, Answer] | None = None  # OpenAPI, and of what
        self._tender = ThreadPoolExecutor(1, "perron-tend")
        self._gpus, self._gpus_due = tuple[Gpu, ...](), 0.0
        self._minutes = MinuteWriter(settings.minutes) if settings.minutes is not None else None

    def _all_routes(self) -> list[Route]:
        from perron.serve import batches, mlflow, oip, platforms, rest  # not at the top: they need what is here

        own = batches.routes(self.batches) if self.batches is not None else ()
        made = [*rest.routes(self), *oip.routes(self), *mlflow.routes(self), *own]
        if self.settings.vertex is not None:
            made += platforms.vertex_routes(self, self.settings.vertex, {route.path for route in made})
        return made

    def _drifts(self, which: int) -> list[tuple[dict[str, str], float]]:
        """By column of the default arm of each model: the distance, or the severity."""
        found = []
        for model in self.models.by_name.values():
            collector = model.default.batcher.collector
            for column, facts in (collector.drifts if collector is not None else {}).items():
                labels = {"model": model.name, "version": str(model.default.version), "column": column}
                found.append((labels, float(facts[which])))
        return found

    def _info(self) -> list[tuple[dict[str, str], float]]:
        return [
            ({"model": model.name, "version": str(endpoint.version), "route": endpoint.route}, 1.0)
            for model in self.models.by_name.values()
            for endpoint in model.endpoints
        ]

    def _threads(self) -> list[tuple[dict[str, str], float]]:
        return [
            ({"model": model, "version": str(version)}, float(threads))
            for (model, version), threads in self.models.threads.items()
        ]

    async def start(self) -> None:
        """Loads and warms what the plan says; then follows it.

        Raises:
            BundleError: nothing of the plan can be loaded; says why.
            PerronError: there is no plan.
        """
        await self.refresh()
        if self.models.default is None:
            fault = next(iter(self.models.faults.values()), "there is no model")
            raise BundleError(fault)
        self.is_ready = True
        self._tasks.append(asyncio.create_task(self._follow()))
        self._tasks.append(asyncio.create_task(self._tend()))
        if self.batches is not None:
            self.batches.start()
        if self.settings.shared is not None:
            self._tasks.append(asyncio.create_task(self._leave_numbers()))

    async def refresh(self, *, again: bool = False) -> None:
        """Makes the models equal to the plan as it is now.

        Raises:
            PerronError: the plan can't be told.
        """
        async with self._following:
            plan = await asyncio.get_running_loop().run_in_executor(None, self.memory.plan)
            if plan.tokens != self.guard.tokens:
                self.guard = Guard(plan.tokens, self.settings.workers)
            await self.models.follow(plan, again=again)

    async def _follow(self) -> None:
        failed, rotated = "", self._rotation_asked()
        while True:
            await self.models.measure()
            await asyncio.sleep(FOLLOW_EVERY_S)
            asked = self._rotation_asked()
            if self.models.rotate(0.0 if asked != rotated else ROTATE_EVERY_S):
                rotated = asked
            try:
                await self._hold_to_limits()
                await self.refresh()
                failed = ""
            except Exception as error:
                words = str(error) if isinstance(error, PerronError) else repr(error)
                if words != failed:  # once, not twice a second
                    logger.error("the plan can't be followed; serving goes on as it was: %s", words)
                failed = words

    async def _hold_to_limits(self) -> None:
        """Rolls a routing back where an arm fails, or is slow, more than was allowed."""
        for model in list(self.models.by_name.values()):
            routing = model.plan.routing
            for name, (requests, errors, latency) in model.since().items():
                reason = _excess(requests, errors, latency, routing.max_error_share, routing.max_latency_ms)
                if reason is None:
                    continue
                words = f"{name} (version {model.arms[name].version}): {reason}"
                if await self.run(self.memory.roll_back, model.name, routing.event, words):
                    logger.error("%s is rolled back: %s", model.name, words)
                    self.registry.count("perron_rollbacks", "Routings that ended by themselves.", model.name)
                break

    def _rotation_asked(self) -> int:
        """When new segments of the log were asked for last."""
        try:
            return (self.settings.log_folder / ROTATE).stat().st_mtime_ns
        except OSError:
            return 0

    async def _tend(self) -> None:
        """Lets the memory do what is to be done beside serving, on a thread that nothing else waits for."""
        loop, failed = asyncio.get_running_loop(), ""
        while True:
            try:
                for collector in self.models.collectors:
                    collector.hand_over()
                    await loop.run_in_executor(self._tender, collector.work)
                await loop.run_in_executor(self._tender, self.memory.tend)
                await loop.run_in_executor(self._tender, self._note_minute)
                if self.settings.drop_sent:
                    await loop.run_in_executor(
                        self._tender, drop_sent, self.settings.log_folder, self.settings.drop_sent
                    )
                failed = ""
            except Exception as error:
                if repr(error) != failed:
                    logger.exception("what is to be done beside serving failed")
                failed = repr(error)
            await asyncio.sleep(TEND_EVERY_S)

    def _usage(self) -> Usage:
        """What this process uses now."""
        return read_usage(self.settings.log_folder, self.settings.worker, self.models.waiting_rows, self._gpus)

    def _note_minute(self, *, is_last: bool = False) -> None:
        if time.monotonic() >= self._gpus_due and not is_last:
            self._gpus, self._gpus_due = read_gpus(), time.monotonic() + GPUS_EVERY_S
        if self._minutes is not None:
            traffic, refused = self.registry.traffic()
            self._minutes.tick(traffic, refused, self._usage(), datetime.now(UTC), is_last=is_last)

    async def _leave_numbers(self) -> None:
        loop, failed = asyncio.get_running_loop(), ""
        while True:
            try:
                await loop.run_in_executor(None, self.registry.leave)
                failed = ""
            except Exception as error:  # a full disk, say: the other workers' numbers of this one grow old
                if repr(error) != failed:
                    logger.exception("this worker's numbers can't be left to the others")
                failed = repr(error)
            await asyncio.sleep(LEAVE_EVERY_S)

    @property
    def plan(self) -> Plan | None:
        """The plan that is followed."""
        return self.models.plan

    # -- predicting

    async def predict(
        self,
        body: bytes,
        headers: Headers,
        *,
        is_alone: bool = False,
        model: Model | None = None,
        endpoint: Endpoint | None = None,
    ) -> Answer:
        """The answer to a body of rows: by the model's routing, or by one endpoint of it.

        `is_alone` when no other request is under way; `model` None is the default one.
        """
        started = time.perf_counter()
        if model is None:
            model = self.models.default
            if model is None:
                return problem(503, "No model is loaded.")
        asked = endpoint or model.default
        if asked.batcher.is_full and (endpoint is not None or model.router.is_plain):
            return self.failure(asked.batcher.busy())
        rows = asked.decode(body)
        if isinstance(rows, Rejection):
            return self.failure(BrokenContract(rows))
        try:
            reply = await self.answer(model, endpoint, rows, body, headers, started=started, is_alone=is_alone)
        except PerronError as error:
            return self.failure(error)
        return Answer(200, reply)

    async def answer(
        self,
        model: Model,
        endpoint: Endpoint | None,
        rows: Any,
        body: bytes,
        headers: Headers,
        *,
        started: float,
        is_alone: bool = False,
        deadline: float = NEVER,
    ) -> Any:
        """The logged reply to judged rows, or to tensors, whatever the protocol: by the model's routing, or by one endpoint of it.

        Args:
            model: that was asked.
            endpoint: of it, where the request names one.
            rows: as the default's endpoint takes them.
            body: what the log keeps of them: rows as JSON.
            headers: of the request, for the routing's key, the deadline and the trace.
            started: when the request came, on the clock of `time.perf_counter`.
            is_alone: no other request is under way.
            deadline: of the protocol's own, on the clock of `time.monotonic`; the header's holds too.

        Raises:
            BrokenContract: the rows break the contract of the version that they were routed to.
            Malformed: a header can't be read.
            DataError, Busy, TooLate, LedgerError: as of `Endpoint.answer`.
        """
        routed = endpoint or model.default
        if endpoint is None and not model.router.is_plain:
            routed, rows = self.route(model, rows, body, headers)
            if isinstance(rows, Rejection):
                raise BrokenContract(rows)
        way = routed.way
        timeout = headers.get(DEADLINE_HEADER)
        if timeout is not None:
            deadline = min(deadline, deadline_of(timeout))
            if deadline < 0:
                raise Malformed(f"The header {DEADLINE_HEADER} is {timeout[:40]!r}; give milliseconds, such as 250.")
        trace = headers.get(TRACE_HEADER)
        if trace is not None:
            way = with_trace(way, trace)
        reply = await routed.answer(rows, body, way, deadline, is_alone=is_alone and len(rows) <= ALONE_ROWS)
        routed.numbers.latency.add(time.perf_counter() - started)
        if endpoint is None and model.shadows:
            asyncio.get_running_loop().call_soon(self.ask_shadows, model, rows, body, reply)
        return reply

    def refuse_deadline(self, timeout: str) -> Answer:
        return self.failure(
            Malformed(f"The header {DEADLINE_HEADER} is {timeout[:40]!r}; give milliseconds, such as 250.")
        )

    def route(self, model: Model, rows: Any, body: bytes, headers: Headers) -> tuple[Endpoint, Any]:
        """The arm that answers rows that the default one decoded, and the rows as it reads them (or a Rejection)."""
        key = headers.get(KEY_HEADER)
        field = model.router.routing.key
        if key is None and field is not None:
            value = key_of(model, field, rows)
            key = None if value is None else str(value)
        routed = model.arms[model.router.choose(key).name]
        if routed.bundle is not model.default.bundle and routed.schema_digest != model.default.schema_digest:
            return routed, routed.decode(body)
        return routed, rows

    def ask_shadows(self, model: Model, rows: Any, body: bytes, reply: Any) -> None:
        """Asks the shadows, once the answer is on its way; what they can't take is dropped and counted."""
        of = _first_id(reply)
        for arm in model.router.shadows():
            endpoint = model.shadows[arm.name]
            shadowed: Any = rows
            if endpoint.schema_digest != model.default.schema_digest:
                shadowed = endpoint.decode(body)
            if isinstance(shadowed, Rejection):
                self.registry.count("perron_shadow_dropped", "Requests that a shadow didn't take.", "refused")
                continue
            try:
                endpoint.ask(shadowed, body, of).add_done_callback(_look_at)
            except Busy:
                self.registry.count("perron_shadow_dropped", "Requests that a shadow didn't take.", "busy")

    def failure(self, error: PerronError) -> Answer:
        """The problem that an endpoint's error is to the one who asked."""
        match error:
            case BrokenContract():
                self.registry.refused(error.rejection.reason)
                return refusal(error.rejection)
            case Malformed():
                self.registry.refused("malformed")
                return problem(400, str(error))
            case DataError():
                self.registry.refused("not_finite")
                return problem(422, str(error))
            case Busy():
                self.registry.refused("busy")
                return problem(429, str(error), (("retry-after", str(error.retry_after_s)),))
            case TooLate():
                self.registry.refused("too_late")
                return problem(504, str(error))
            case LedgerError():
                self.registry.refused("log")
                return problem(503, str(error), (("retry-after", "5"),))
            case NotFound():
                return problem(404, str(error))
            case NotOffered():
                return problem(501, str(error))
        return problem(503, str(error))

    # -- everything else

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | Answer:
        """The route of a request and its parameters, or why there is none."""
        methods, params = self._routes.find(path)
        route = methods.get(method)
        if route is not None:
            return route, dict(params)
        if not methods:
            return problem(404, f"There is nothing at {path[:200]}; / lists what there is.")
        allowed = ", ".join(sorted([*methods, "OPTIONS"]))
        if method == "OPTIONS":
            return Answer(204, b"", headers=(("allow", allowed),))
        return problem(405, f"{path[:200]} takes {allowed}, not {method[:20]}.", (("allow", allowed),))

    def scope_of(self, method: str, path: str) -> str | None:
        """What a token must allow for a request; None where nobody is asked for one."""
        found = self.find(method, path)
        return None if isinstance(found, Answer) else found[0].scope

    @property
    def paths(self) -> list[str]:
        """The paths without parameters."""
        return self._routes.paths

    def admit(self, headers: Headers, scope: Scope | None) -> TokenPlan | Answer | None:
        """Who asks, or why not."""
        if scope is None or self.guard.is_open:
            if scope == "admin" and not self.settings.anonymous_admin:
                self.registry.refused("token")
                return problem(403, "This server is public, and only a token with the scope admin may do this.")
            return None
        found = self.guard.check(headers, scope)
        if isinstance(found, Answer):
            self.registry.refused({401: "token", 403: "scope"}.get(found.status, "rate"))
        return found

    @property
    def decorates(self) -> bool:
        """Whether answers carry headers of the server's own."""
        return bool(self.cors.origins) or self.models.is_unlogged

    def decoration(self, method: str, headers: Headers, answer: Answer | Stream) -> tuple[tuple[str, str], ...]:
        """The headers that this answer carries beside its own."""
        origin = headers.get("origin")
        if method == "OPTIONS" and headers.get("access-control-request-method"):
            allowed = next((value for name, value in answer.headers if name == "allow"), "")
            return self.cors.preflight(origin, allowed)
        unlogged = (UNLOGGED,) if self.models.is_unlogged else ()
        return (*self.cors.headers(origin), *unlogged)

    async def handle(self, route: Route, request: Request) -> Answer | Stream:
        """The answer of a route to a request that was admitted, in the type that the client wants; a mistake of the client's that it raises is a problem."""
        if route.gives:
            wanted = choose(request.headers.get("accept"), route.gives)
            if wanted is None:
                return problem(
                    406, f"This is given as {' or '.join(route.gives)}; the header Accept allows none of them."
                )
            request.wanted = wanted
        try:
            answer = await route.handler(request)
        except PerronError as error:
            return self.failure(error)
        known = request.headers.get("if-none-match")
        if known is not None and isinstance(answer, Answer) and answer.status == 200 and route.method == "GET":
            tag = dict(answer.headers).get("etag")
            if tag is not None and has_already(known, tag):
                return Answer(304, b"", headers=answer.headers)
        return answer

    async def respond(
        self,
        method: str,
        path: str,
        query: str,
        headers: Headers,
        read: Callable[[int], Awaitable[bytes | Answer]],
        *,
        is_alone: bool = False,
    ) -> Answer | Stream:
        """The answer to anything.

        Args:
            read: gives the body, of at most so many bytes, or why it wasn't taken; called only where a body is due.
        """
        found = self.find(method, path)
        if isinstance(found, Answer):
            return found
        route, params = found
        token = self.admit(headers, route.scope)
        if isinstance(token, Answer):
            return token
        body = b""
        if route.takes:
            kind = headers.get("content-type")
            if kind is not None and not takes(route, kind):
                return self.refuse_type(kind, route.takes)
            given = await read(route.max_body_bytes or self.settings.max_body_bytes)
            if isinstance(given, Answer):
                return given
            body = given
        request = Request(method, path, headers, body, query, params, is_alone=is_alone, token=token)
        try:
            return await self.handle(route, request)
        except Exception:
            return self.failed(method, path)

    def failed(self, method: str, path: str) -> Answer:
        """The problem of an exception that is being handled: a defect of the service's, for its log."""
        logger.exception("%s %s failed", method, path)
        return problem(500, "The service failed; its log says why.")

    async def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function that may block gives, on a thread."""
        return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)

    def refuse_size(self, limit: int | None = None) -> Answer:
        self.registry.refused("too_large")
        return problem(413, f"The body is larger than {limit or self.settings.max_body_bytes} bytes; send it in parts.")

    def refuse_encoding(self, detail: str, status: int = 400) -> Answer:
        self.registry.refused("encoding")
        return problem(status, detail)

    def refuse_slow(self) -> Answer:
        self.registry.refused("slow")
        return problem(
            408, f"The body didn't come within {self.settings.body_timeout_s:g} s.", (("connection", "close"),)
        )

    def refuse_type(self, got: str, takes: tuple[str, ...] = ("application/json",)) -> Answer:
        self.registry.refused("type")
        return problem(415, f"The body's type is {got[:100]!r}; send it with Content-Type: {' or '.join(takes)}.")

    def refuse_cut(self) -> Answer:
        self.registry.refused("disconnected")
        return problem(400, "The body ended before it was whole.", (("connection", "close"),))

    def note_disconnect(self) -> None:
        self.registry.refused("disconnected")

    async def close(self, drain_s: float = 0.0) -> None:
        """Stops following, finishes what is under way, and closes the logs: what was acknowledged is then on the disk itself."""
        self.is_ready = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.batches is not None:
            await self.batches.close()
        await self.models.drain(drain_s)
        self.models.close()
        for last in (partial(self._note_minute, is_last=True), self.memory.tend):
            with contextlib.suppress(Exception):  # what the last requests left is kept and sent on, too
                await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(self._tender, last), LAST_SEND_S)
        self._tender.shutdown(wait=False, cancel_futures=True)
        if self.watcher is not None:
            await self.run(self.watcher.close)


def refusal(rejection: Rejection) -> Answer:
    """The problem of rows that break the contract."""
    status = {"malformed": 400, "too_many_rows": 413, "invalid": 422}[rejection.reason]
    if not rejection.faults:
        return problem(status, rejection.detail)
    return problem(
        status, rejection.detail, count=rejection.count, errors=[fault.to_json() for fault in rejection.faults]
    )


def key_of(model: Model, field: str, rows: list[tuple[Any, ...]]) -> Any:
    """The value of a field in the first row, or None where the contract has none of that name.

    A request goes one way as a whole: rows of several keys belong in several requests.
    """
    for place, known in enumerate(model.default.bundle.schema.request):
        if known.name == field:
            return rows[0][place]
    return None


def with_trace(way: bytes, trace: str) -> bytes:
    """The log's route with the trace context that came along (W3C Trace Context, section 3.2)."""
    return way + b'","trace":"' + json.dumps(trace[:200])[1:-1].encode()


def deadline_of(timeout_ms: str) -> float:
    """When a request's time is over, on `time.monotonic`'s clock; negative where it isn't a number of milliseconds."""
    try:
        wanted = float(timeout_ms)
    except ValueError:
        return -1.0
    return time.monotonic() + wanted / 1000 if 0 < wanted <= 86_400_000 else -1.0


def _excess(
    requests: int, errors: int, latency: Histogram, max_error_share: float | None, max_latency_ms: float | None
) -> str | None:
    """What of an arm is beyond its limits, in words; nothing is said before enough requests came."""
    tried = requests + errors
    if max_error_share is not None and tried >= FEWEST_REQUESTS and share_at_least(errors, tried) > max_error_share:
        return f"{errors} of {tried} requests failed, more than {max_error_share:.1%}"
    measured = max_latency_ms is not None and sum(latency.counts) >= FEWEST_REQUESTS
    if measured and latency.at_least(0.95) * 1000 >= (max_latency_ms or 0.0):
        return f"the slowest 5 % of requests take more than {max_latency_ms:g} ms"
    return None


def _first_id(reply: Any) -> bytes:
    """The first prediction's id of a reply: of JSON, or of tensors."""
    if not isinstance(reply, bytes):
        return str(reply.ids[0]).encode()
    start = reply.find(b'"id":"') + 6
    return reply[start : reply.find(b'"', start)]


def _look_at(future: "asyncio.Future[bytes]") -> None:
    """A shadow's failure is counted by its batcher; nobody waits for it."""
    if not future.cancelled():
        future.exception()
