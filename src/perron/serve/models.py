"""Plans in; the versions of models that are loaded, warm and answering out.

`Models.follow` makes what is loaded equal to a plan: a version is opened, checked and warmed on a
thread while the others answer, then takes its place between two requests; one that leaves goes on
until what was under way is answered. A bundle that is refused leaves everything as it was.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from perron.bundle import Bundle, GraphBundle, load
from perron.check.columns import ColumnCheck
from perron.check.request import Decoder, Rejection
from perron.clock import replay_file
from perron.contract import Role
from perron.errors import NotFound, PerronError, nearest
from perron.history import journal_path
from perron.plan import ModelPlan, Plan, VersionPlan
from perron.predictions import PredictionLog
from perron.predictions.mask import Mask, mask_of
from perron.serve.batching import NEVER, Batcher, OnLogFailure
from perron.serve.cache import Cache
from perron.serve.lanes import Lanes, measure
from perron.serve.metrics import Histogram, Numbers, Registry
from perron.serve.routing import Router

if TYPE_CHECKING:
    from perron.serve.collect import Collector

__all__ = ["Endpoint", "Model", "Models"]

SHADOW_QUEUE_ROWS = 1024  # rows that wait for a shadow; more are dropped, and counted
RETIRE_EVERY_S = 0.1
RETRY_S = 10.0  # how long after a refusal the same plan is tried again
logger = logging.getLogger("perron.serve")


class Endpoint:
    """One version of a model on one route: its decoder, its batcher and its log.

    Made within the event loop that it then belongs to, with a bundle that is warm.

    Raises:
        LedgerError: the prediction log can't be written.
    """

    def __init__(
        self,
        bundle: Bundle,
        version: int,
        route: str,
        numbers: Numbers,
        *,
        log_folder: Path,
        mask: Mask | None,
        max_rows: int,
        sync: bool,
        queue_rows: int,
        on_log_failure: OnLogFailure,
        in_background: bool = False,
        cache: Cache | None = None,
        deployment: Mapping[str, Any] | None = None,
    ) -> None:
        self.cache = cache
        self.bundle, self.version, self.route, self.numbers = bundle, version, route, numbers
        self.max_rows = max_rows
        self._decode = self._make_decoder(max_rows)
        self.decode = self._decode if cache is None else self._recall
        self._mask = mask
        self.way = json.dumps(route)[1:-1].encode()
        header = {
            "model": bundle.name,
            "version": version,
            "bundle": bundle.digest,
            "lineage": bundle.manifest["lineage"],
            **({"clock": "replay"} if replay_file() else {}),
            **({"deployment": deployment} if deployment is not None else {}),
        }
        self._log = PredictionLog(log_folder, header)
        self.held = 0  # by answers that come in parts and aren't over
        self.batcher = self._make_batcher(sync, queue_rows, on_log_failure, in_background)

    def _make_decoder(self, max_rows: int) -> Callable[[bytes], list[tuple[Any, ...]] | Rejection]:
        return Decoder(self.bundle.schema, max_rows)

    def _make_batcher(self, sync: bool, queue_rows: int, on_log_failure: OnLogFailure, in_background: bool) -> Batcher:
        return Batcher(
            self.bundle, self.version, self._log, self.numbers,
            sync=sync, queue_rows=queue_rows, on_log_failure=on_log_failure, in_background=in_background, cache=self.cache,
        )  # fmt: skip

    def _recall(self, body: bytes) -> Any:
        """As the decoder gives; of a body that was answered before, without decoding it again."""
        kept = self.cache.get(body) if self.cache is not None else None
        return self._decode(body) if kept is None else kept.rows

    async def answer(
        self, rows: Any, body: bytes, way: bytes, deadline: float = NEVER, *, is_alone: bool = False
    ) -> Any:
        """The reply to decoded rows as JSON, to tensors a `TensorReply`; logged.

        Raises:
            DataError: an answer isn't finite.
            LedgerError: the log can't be written.
            Busy: too much waits. TooLate: the deadline passed.
        """
        batcher = self.batcher
        if self.cache is not None:
            kept = self.cache.get(body)
            if kept is not None:
                return await batcher.answer_kept(kept, body, way)
        if self._mask is not None:
            body = self._mask.body(rows)
        if is_alone and batcher.answers_alone:
            return batcher.answer_alone(rows, body, way)
        return await batcher.submit(rows, body, way, deadline)

    def ask(self, rows: Any, body: bytes, of: bytes) -> "asyncio.Future[Any]":
        """The reply to come of a shadow; `of` is the first prediction's id of the answer that it shadows.

        Raises:
            Busy: too much waits.
        """
        kept = body if self._mask is None else self._mask.body(rows)
        return self.batcher.submit(rows, kept, self.way + b'","of":"' + of)

    def rotate(self, older_than_s: float) -> bool:
        """Begins a new segment of the log where the present one has been written for that long; False when it is
        being brought to the disk just now.

        Raises:
            LedgerError: it can't be written; the old one goes on.
        """
        if self._log.age_s > older_than_s:
            if self.batcher.is_syncing:
                return False
            self._log.rotate()
        return True

    @cached_property
    def columns(self) -> ColumnCheck:
        """Judges rows that come as columns."""
        return ColumnCheck(self.bundle.schema, self.max_rows)

    @cached_property
    def rows_as_json(self) -> Callable[[list[tuple[Any, ...]]], bytes]:
        """Writes judged rows as `decode` reads them: what the log keeps of rows that came otherwise."""
        members = [(known.name, Any, None) for known in self.bundle.schema.request]
        row = msgspec.defstruct("Row", members, omit_defaults=True, gc=False)
        encode = msgspec.json.Encoder().encode
        return lambda rows: encode({"rows": [row(*values) for values in rows]})

    @property
    def schema_digest(self) -> str:
        return self.bundle.schema.digest

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return self.batcher.is_idle and not self.held

    def close(self) -> None:
        """Closes the log; what was acknowledged is then on the disk itself. The live window is written."""
        if self.batcher.collector is not None:
            self.batcher.collector.hand_over()
            self.batcher.collector.work(is_last=True)
        self._log.close()


@dataclass
class Model:
    """A model as it answers now: a router, and an endpoint per arm and per version."""

    plan: ModelPlan
    router: Router
    default: Endpoint
    arms: dict[str, Endpoint]
    shadows: dict[str, Endpoint]
    versions: dict[int, Endpoint]
    begun: dict[str, tuple[int, int, list[int], float]] = field(default_factory=dict)

    def since(self) -> "dict[str, tuple[int, int, Histogram]]":
        """Per arm beside the default: requests, errors and latencies since the routing was decided."""
        found = {}
        for arm in self.plan.routing.arms[1:]:
            numbers, begun = self.arms[arm.name].numbers, self.begun.get(arm.name, (0, 0, [], 0.0))
            latency = Histogram(numbers.latency.bounds)
            latency.merge(numbers.latency.counts, numbers.latency.total)
            if begun[2]:
                latency.merge([-count for count in begun[2]], -begun[3])
            found[arm.name] = (numbers.requests - begun[0], numbers.errors - begun[1], latency)
        return found

    @property
    def words(self) -> str:
        """One line: which versions answer, and how."""
        routing = self.plan.routing
        arms = ", ".join(f"{arm.name} (version {arm.version}, weight {arm.weight:g})" for arm in routing.arms)
        shadow = "".join(f", in its shadow {arm.name} (version {arm.version})" for arm in routing.shadow)
        return f"{self.name} answers by {routing.kind}: {arms}{shadow}"

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def endpoints(self) -> list[Endpoint]:
        """Every endpoint once."""
        found = [*self.arms.values(), *self.shadows.values(), *self.versions.values()]
        return list({id(endpoint): endpoint for endpoint in found}.values())

    def version(self, number: str | int) -> Endpoint:
        """The endpoint of a version's number, or of an arm's name.

        Raises:
            NotFound: it isn't loaded.
        """
        text = str(number)
        found = (
            self.versions.get(int(text))
            if text.isascii() and text.isdigit() and len(text) < 10
            else self.arms.get(text)
        )
        if found is None:
            loaded = [*map(str, sorted(self.versions)), *self.arms]
            raise NotFound(f"{self.name} has no version {text[:40]!r} here; {nearest(text[:40], loaded)}")
        return found


@dataclass(frozen=True)
class _Loaded:
    """What was opened and warmed for a plan's model, by version."""

    bundles: Mapping[int, Bundle]
    fault: str | None


@dataclass
class Models:
    """All models of one server.

    Args:
        registry: where their numbers go.
        log_folder: of the prediction log.
        windows: the folder of live windows; None keeps none.
        secret: gives the key of the digests of sensitive values.
        limits: `max_rows`, `sync`, `queue_rows`, for each endpoint.
        cache_requests: how many answered requests each endpoint remembers; 0: none.
        cores: that this process may count on.
        deployment: what the log's head says of the deployment that this server is of; None: of none.
    """

    registry: Registry
    log_folder: Path
    secret: Callable[[], bytes]
    max_rows: int
    sync: bool
    queue_rows: int
    on_log_failure: OnLogFailure
    windows: Path | None = None
    cache_requests: int = 0
    cores: int = 1
    deployment: Mapping[str, Any] | None = None
    by_name: dict[str, Model] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    default: Model | None = None
    plan: Plan | None = None
    _retired: list[Endpoint] = field(default_factory=list)
    _tried: dict[str, tuple[ModelPlan | None, float]] = field(default_factory=dict)
    _warm: dict[tuple[str, int], Bundle] = field(default_factory=dict)
    # Its own thread: a load must not wait behind large predictions, nor they behind it.
    _loader: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "perron-load"))
    _lanes: dict[str, Lanes | None] = field(default_factory=dict)  # by the bundle's digest, once measured
    _pool: ThreadPoolExecutor | None = None

    def get(self, name: str | None = None) -> Model:
        """The model of that name, or the first.

        Raises:
            NotFound: it isn't loaded.
        """
        model = self.default if name is None else self.by_name.get(name)
        if model is None:
            if name is None:
                raise NotFound("No model is loaded.")
            why = f"; it was refused: {self.faults[name]}" if name in self.faults else ""
            hint = f"; {nearest(name[:80], self.by_name)}" if not why else ""
            raise NotFound(f"There is no model {name[:80]!r} here{why}{hint}")
        return model

    async def follow(self, plan: Plan, *, again: bool = False) -> None:
        """Makes what is loaded equal to the plan; what can't be is in `faults`, and stays as it was.

        `again` tries what was refused a moment ago, too.
        """
        loop = asyncio.get_running_loop()
        for wanted in plan.models:
            tried, at = self._tried.get(wanted.name, (None, 0.0))
            is_tried = tried == wanted and (wanted.name not in self.faults or loop.time() - at < RETRY_S)
            if is_tried and not (again and wanted.name in self.faults):
                continue
            self._tried[wanted.name] = (wanted, loop.time())
            loaded = await loop.run_in_executor(self._loader, self._load, wanted)
            self._take(wanted, loaded)
        for name in set(self.by_name) - {wanted.name for wanted in plan.models if wanted.versions}:
            self._tried.pop(name, None)
            self._retired.extend(self.by_name.pop(name).endpoints)
            logger.info("unloaded %s", name)
        self.faults = {name: fault for name, fault in self.faults.items() if name in {m.name for m in plan.models}}
        first = next((m.name for m in plan.models if m.name in self.by_name), None)
        self.default = self.by_name[first] if first is not None else None
        self.plan = plan
        kept = {(model.name, number) for model in self.by_name.values() for number in model.versions}
        self._warm = {key: bundle for key, bundle in self._warm.items() if key in kept}
        self._retire()

    def _load(self, wanted: ModelPlan) -> _Loaded:
        """Opens and warms what isn't yet; runs on the loader's thread."""
        found: dict[int, Bundle] = {}
        fault: str | None = None
        for version in wanted.versions:
            known = self._warm.get((wanted.name, version.number))
            if known is not None and (version.digest in (None, known.digest)):
                found[version.number] = known
                continue
            try:
                found[version.number] = self._open(version, wanted.name)
            except Exception as error:
                fault = str(error) if isinstance(error, PerronError) else f"{type(error).__name__}: {error}"
                logger.error("refused %s version %d: %s", wanted.name, version.number, fault)
        return _Loaded(found, fault)

    def _open(self, version: VersionPlan, name: str) -> Bundle:
        """The version's bundle, checked, with what was observed of its series, and asked once.

        Raises:
            BundleError: it is damaged, isn't the one that was registered, or is of another model.
            LedgerError: the journal of its history can't be read.
        """
        bundle = load(version.path, version.digest)
        if bundle.name != name:
            raise NotFound(f"{version.path} holds {bundle.name}, not {name}.")
        if bundle.history is not None:
            bundle.history.attach(journal_path(self.log_folder, name), sync=self.sync)
        bundle.warm()
        return bundle

    def _take(self, wanted: ModelPlan, loaded: _Loaded) -> None:
        """Puts a model's new state in place of its old one, between two requests."""
        now = self.by_name.get(wanted.name)
        needed = {arm.version for arm in (*wanted.routing.arms, *wanted.routing.shadow)}
        if loaded.fault is not None:
            self.faults[wanted.name] = loaded.fault
        else:
            self.faults.pop(wanted.name, None)
        if not wanted.versions or not needed <= set(loaded.bundles):
            return  # what was loaded goes on as it was, and the plan is tried again
        old = {(e.bundle.digest, e.version, e.route): e for e in now.endpoints} if now is not None else {}
        kept: set[int] = set()

        def endpoint(version: int, route: str, in_background: bool = False) -> Endpoint:
            bundle = loaded.bundles[version]
            found = old.get((bundle.digest, version, route))
            if found is None:
                found = old[bundle.digest, version, route] = self._endpoint(bundle, version, route, in_background)
            kept.add(id(found))
            return found

        try:
            arms = {arm.name: endpoint(arm.version, arm.name) for arm in wanted.routing.arms}
            shadows = {arm.name: endpoint(arm.version, arm.name, in_background=True) for arm in wanted.routing.shadow}
            versions = {
                number: _first(arms.values(), number) or endpoint(number, str(number)) for number in loaded.bundles
            }
        except PerronError as error:  # the log can't be written
            self.faults[wanted.name] = str(error)
            return
        for number, bundle in loaded.bundles.items():
            self._warm[wanted.name, number] = bundle
        if now is not None:
            self._retired.extend(e for e in now.endpoints if id(e) not in kept)
        default = arms[wanted.routing.arms[0].name]
        made = Model(wanted, Router(wanted.routing), default, arms, shadows, versions)
        if now is not None and now.plan.routing.event == wanted.routing.event:
            made.begun = now.begun
        else:
            made.begun = {
                name: (n.requests, n.errors, list(n.latency.counts), n.latency.total)
                for name, n in ((name, endpoint.numbers) for name, endpoint in arms.items())
            }
        self.by_name[wanted.name] = made
        if now is None or now.words != made.words:
            logger.info("%s", made.words)

    def make_endpoint(self, bundle: Bundle, version: int, route: str) -> Endpoint:
        """An endpoint beside the plan's, which keeps no live window; whoever asks for it closes it.

        Raises:
            LedgerError: the prediction log can't be written.
        """
        made = self._endpoint(bundle, version, route, in_background=False)
        made.batcher.collector = None
        return made

    def _endpoint(self, bundle: Bundle, version: int, route: str, in_background: bool) -> Endpoint:
        kind, cache = Endpoint, None
        if isinstance(bundle, GraphBundle):
            from perron.serve.tensors import TensorEndpoint  # not at the top: it extends what is here

            kind = TensorEndpoint
        elif self.cache_requests and not in_background:
            cache = self._cache(bundle)
        made = kind(
            bundle, version, route, self.registry.of(bundle.name, version, route),
            log_folder=self.log_folder, mask=mask_of(bundle.schema, bundle.manifest, self.secret), max_rows=self.max_rows, sync=self.sync and not in_background,
            on_log_failure=self.on_log_failure,
            queue_rows=SHADOW_QUEUE_ROWS if in_background else self.queue_rows, in_background=in_background, cache=cache,
            deployment=self.deployment,
        )  # fmt: skip
        made.batcher.lanes = self._lanes.get(bundle.digest)
        if self.windows is not None and not isinstance(bundle, GraphBundle):
            from perron.serve.collect import Collector  # not at the top: it isn't needed to answer

            made.batcher.collector = Collector(self.windows, bundle, version, route)
        return made

    def _cache(self, bundle: Bundle) -> Cache | None:
        """A cache for a bundle's answers, where equal requests have equal answers and may be remembered."""
        why = None
        if bundle.history is not None:
            why = "its answers depend on what came before"
        elif any(Role.SENSITIVE in known.roles for known in bundle.schema.request):
            why = "its rows are sensitive, and nothing of them is kept but what the log may keep"
        if why is not None:
            logger.warning("the cache leaves %s aside: %s", bundle.name, why)
            return None
        return Cache(self.cache_requests)

    async def measure(self) -> None:
        """Finds out for each bundle how its large requests are answered soonest, on a thread, while serving goes on."""
        for endpoint in self._of_rows():
            bundle = endpoint.bundle
            if bundle.digest not in self._lanes and self.cores < 2:
                self._lanes[bundle.digest] = None
            if bundle.digest not in self._lanes:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self.cores - 1, "perron-lane")
                rows = endpoint.decode(json.dumps(bundle.sample).encode())
                assert not isinstance(rows, Rejection)  # it answered it when it was warmed
                try:
                    found = await asyncio.get_running_loop().run_in_executor(
                        self._loader, measure, bundle, rows, self.cores, self._pool
                    )
                except Exception:
                    logger.exception("%s can't be measured; it is served on one thread", bundle.name)
                    found = None
                self._lanes[bundle.digest] = found
            endpoint.batcher.lanes = self._lanes[bundle.digest]

    def _of_rows(self) -> list[Endpoint]:
        """The endpoints of bundles with a contract; tensors run together, whatever their size."""
        found = [endpoint for model in self.by_name.values() for endpoint in model.endpoints]
        return [endpoint for endpoint in found if not isinstance(endpoint.bundle, GraphBundle)]

    @property
    def threads(self) -> dict[tuple[str, int], int]:
        """Among how many threads a request of many rows is parted, by model and version; those that were measured."""
        return {
            (e.bundle.name, e.version): e.batcher.lanes.parts if e.batcher.lanes is not None else 1
            for e in self._of_rows()
            if e.bundle.digest in self._lanes
        }

    @property
    def collectors(self) -> "list[Collector]":
        """Those that keep live windows."""
        found = [e.batcher.collector for model in self.by_name.values() for e in model.endpoints]
        return [collector for collector in found if collector is not None]

    def _retire(self) -> None:
        """Closes the endpoints that left and have answered everything; looks again while there are others."""
        for endpoint in [e for e in self._retired if e.is_idle]:
            self._retired.remove(endpoint)
            endpoint.close()
        if self._retired:
            asyncio.get_running_loop().call_later(RETIRE_EVERY_S, self._retire)

    @property
    def waiting_rows(self) -> int:
        return sum(e.batcher.waiting_rows for model in self.by_name.values() for e in model.endpoints)

    @property
    def is_unlogged(self) -> bool:
        """Whether answers go out now that could not be logged."""
        return self.on_log_failure == "answer" and any(
            e.batcher.is_unlogged for m in self.by_name.values() for e in m.endpoints
        )

    def rotate(self, older_than_s: float) -> bool:
        """Begins new segments of the logs where the present ones have been written for that long; False when one
        couldn't be left just now."""
        are_done = True
        for endpoint in [e for model in self.by_name.values() for e in model.endpoints]:
            try:
                are_done &= endpoint.rotate(older_than_s)
            except PerronError as error:
                logger.error("%s", error)
        return are_done

    async def drain(self, within_s: float) -> None:
        """Returns when every endpoint is idle, shadows included, or the time is over."""
        end = time.monotonic() + within_s
        while time.monotonic() < end and not all(e.is_idle for m in self.by_name.values() for e in m.endpoints):
            await asyncio.sleep(0.01)

    def close(self) -> None:
        for endpoint in [*self._retired, *(e for model in self.by_name.values() for e in model.endpoints)]:
            endpoint.close()
        self._loader.shutdown(wait=False, cancel_futures=True)
        if self._pool is not None:
            self._pool.shutdown(wait=False)


def _first(endpoints: Iterable[Endpoint], version: int) -> Endpoint | None:
    return next((endpoint for endpoint in endpoints if endpoint.version == version), None)
