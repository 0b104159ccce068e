"""Batches in, to be predicted when there is time; their states and results out, pulled or pushed.

POST   /v1/batches, /v1/models/{model}/batches     rows as JSON, JSON lines or CSV: 202 and where it is
GET    /v1/batches, /v1/batches/{id}               what there is
GET    /v1/batches/{id}/predictions                the result, in pages or as JSON lines
DELETE /v1/batches/{id}                            cancels it, or removes it once it has ended

Each worker process of a server works on one batch at a time, on a thread, in small steps between which
requests come first; `perron.jobs` keeps the queue. A result and its log are committed every half
second; a batch whose process died is gone on with from there, and its log appears, whole, with its end.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from perron.bundle import Bundle, GraphBundle, load
from perron.errors import DeclarationError, LedgerError, NotFound, PerronError
from perron.history import journal_path
from perron.jobs import Full, Job, Jobs, KeyTaken, Lost, to_json
from perron.predictions.mask import mask_of
from perron.serve.intake import LINES, Refused, demand_utf8, read_csv, read_json, read_lines
from perron.serve.negotiation import choose
from perron.serve.problem import Answer, Stream, json_answer, problem
from perron.serve.routes import Request, Route
from perron.serve.steps import Steps
from perron.webhooks import WebhookError, backoff_s, check_url, post

if TYPE_CHECKING:
    from perron.serve.app import Service

__all__ = ["Batches", "BatchSettings", "routes"]

TAKES = ("application/json", "application/jsonl", "application/x-ndjson", "text/csv")
REST_SHARE = 0.25  # of a step's time, in which nothing is done
COMMIT_EVERY_S = 0.5
LOOK_EVERY_S = 0.5
SWEEP_EVERY_S = 600.0
PAGE_ROWS, MOST_PAGE_ROWS = 1000, 10_000
INLINE_BYTES = 256 << 10  # a smaller result goes with its callback
SENDERS = 8
RETRY_AFTER_S = 1
MOST_KEY = 255
logger = logging.getLogger("perron.serve")
encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class BatchSettings:
    """What a service does for batches.

    `home` holds the queue and the results. `places`: folders and URLs of which a batch may name a source and
    a sink. `secret` signs callbacks; without it there are none. `project` is where `perron predict` runs for places.
    """

    home: Path
    project: Path | None = None
    most_waiting: int = 100
    most_rows: int = 1_000_000
    max_body_bytes: int = 64 << 20
    keep_s: float = 7 * 86_400
    places: tuple[str, ...] = ()
    secret: bytes | None = field(default=None, repr=False)
    allow_private_callbacks: bool = False


class Batches:
    """The batches of one worker process; made within the event loop that it then belongs to.

    Raises:
        LedgerError: the queue can't be opened.
    """

    def __init__(self, service: "Service", settings: BatchSettings) -> None:
        self.service, self.settings = service, settings
        self.jobs = Jobs(
            settings.home / "batches.db", settings.home / "batches", most_waiting=settings.most_waiting,
            keep_s=settings.keep_s,
        )  # fmt: skip
        self._worker = ThreadPoolExecutor(1, "perron-batch")
        self._senders = ThreadPoolExecutor(SENDERS, "perron-callback")
        self._sending: set[str] = set()
        self._news = asyncio.Event()
        self._is_stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loops = [self._work, self._sweep] + ([self._send] if self.settings.secret is not None else [])
        self._tasks = [asyncio.create_task(loop()) for loop in loops]

    async def close(self) -> None:
        """Gives what is under way back to the queue, at what was committed."""
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.service.run(self._worker.shutdown)
        self._senders.shutdown(wait=False, cancel_futures=True)

    # -- accepting

    def accept(self, request: Request, bundle: Bundle, version: int) -> tuple[Job, bool]:
        """The batch of a request, and whether it is new; blocks.

        Raises:
            Refused: what the client did wrong.
            PerronError: as `Jobs.accept`.
        """
        kind = (request.headers.get("content-type") or "application/json").partition(";")[0].strip().lower()
        callback = request.arguments().get("callback")
        demand_utf8(request.body)
        if kind == "application/json":
            kept, body, rows, callback = read_json(request.body, self.settings.places, callback)
        elif kind in LINES:
            kept, (body, rows) = "jsonl", read_lines(request.body)
        else:
            kept, (body, rows) = "csv", read_csv(request.body, bundle)
        if kept != "place" and not rows:
            raise Refused(422, "There are no rows; send at least one.")
        if rows > self.settings.most_rows:
            raise Refused(413, f"{rows} rows are more than {self.settings.most_rows} in one batch; send them in parts.")
        if callback is not None:
            if self.settings.secret is None:
                raise Refused(422, "This server has no secret to sign callbacks with; ask for the state instead.")
            try:
                check_url(callback, allow_private=self.settings.allow_private_callbacks)
            except DeclarationError as error:
                raise Refused(422, str(error)) from error
        key = request.headers.get("idempotency-key")
        if key is not None and not (0 < len(key) <= MOST_KEY and key.isprintable()):
            raise Refused(400, f"The header Idempotency-Key must have 1 to {MOST_KEY} printable characters.")
        asked = hashlib.sha256(
            b"\0".join([request.path.encode(), kind.encode(), (callback or "").encode(), request.body])
        )
        return self.jobs.accept(
            model=bundle.name, version=version, bundle=str(bundle.path), digest=bundle.digest, kind=kept, rows=rows,
            body=body, request=asked.hexdigest(), token=self.token_of(request), key=key, callback=callback,
        )  # fmt: skip

    def token_of(self, request: Request) -> str:
        return self.service.guard.name_of(request.headers) or ""

    def wake(self) -> None:
        """Has a batch that was just accepted looked at, without waiting for the next look."""
        self._news.set()

    # -- working

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        failed = ""
        while True:
            try:
                job = await loop.run_in_executor(self._worker, self.jobs.claim)
                if job is not None:
                    await loop.run_in_executor(self._worker, self._do, job)
                    continue
                failed = ""
            except LedgerError as error:
                if str(error) != failed:
                    logger.error("%s", error)
                failed = str(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_EVERY_S)
            self._news.clear()

    def _do(self, job: Job) -> None:
        """Works on a batch until it ends, is lost, or the server stops; on the worker's thread."""
        try:
            try:
                is_done = self._do_place(job) if job.kind == "place" else self._predict(job)
                if is_done:
                    self._end(job, "done")
                else:
                    self.jobs.release(job)
            except Lost:
                _remove(self.jobs.folder / job.id, f"*.{job.attempt}")
            except (PerronError, OSError) as error:
                reason = str(error) if isinstance(error, PerronError) else f"It can't be kept: {error.strerror}."
                self._end(job, "failed", reason)
            except Exception:
                logger.exception("the batch %s failed", job.id)
                self._end(job, "failed", "The service failed; its log says why.")
        except Lost:
            pass

    def _end(self, job: Job, state: str, fault: str | None = None) -> None:
        self.jobs.end(job, state, fault)
        (self.jobs.folder / job.id / "body").unlink(missing_ok=True)
        self.service.registry.count("perron_batches", "Batches that ended, by how.", state)
        asyncio.run_coroutine_threadsafe(_call(self._news.set), self._loop)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._tasks[0].get_loop()

    def _predict(self, job: Job) -> bool:
        """Whether every row was predicted; else the server stops."""
        bundle = self._bundle(job)
        folder = self.jobs.folder / job.id
        result_path, log_path = folder / f"result.{job.attempt}", folder / f"log.{job.attempt}"
        if job.done < job.rows:
            _copy(folder / f"result.{job.wrote}", result_path, job.result_bytes)
            _copy(folder / f"log.{job.wrote}", log_path, job.log_bytes)
            with open(folder / "body", "rb") as body, open(result_path, "ab") as result, open(log_path, "ab") as log:
                steps = Steps(bundle, job, body, mask_of(bundle.schema, bundle.manifest, self.service.memory.secret))
                if not job.log_bytes:
                    log.write(steps.header())
                committed = time.monotonic()
                while steps.done < job.rows:
                    started = time.monotonic()
                    made, logged = steps.step()
                    result.write(made)
                    log.write(logged)
                    is_last = steps.done == job.rows
                    if is_last or self._is_stopping or started - committed > COMMIT_EVERY_S:
                        for file in (result, log):
                            file.flush()
                            os.fsync(file.fileno())
                        self.jobs.commit(
                            job, done=steps.done, bad=steps.bad, read_bytes=body.tell(), result_bytes=result.tell(),
                            log_bytes=log.tell(), wrote=job.attempt,
                        )  # fmt: skip
                        committed = time.monotonic()
                        if self._is_stopping and not is_last:
                            return False
                    time.sleep((time.monotonic() - started) * REST_SHARE)
            job = self.jobs.get(job.id)
        else:
            self.jobs.commit(job)
        segment = self.service.settings.log_folder / f"{job.segment}.jsonl"
        kept = folder / f"log.{job.wrote}"
        if kept.exists() and job.bad < job.rows:
            segment.parent.mkdir(parents=True, exist_ok=True)
            os.replace(kept, segment)
        if (folder / f"result.{job.wrote}").exists():
            os.replace(folder / f"result.{job.wrote}", folder / "predictions.jsonl")
        return True

    def _bundle(self, job: Job) -> Bundle:
        """The batch's own bundle: the one that is loaded, or from its folder."""
        for model in list(self.service.models.by_name.values()):
            for endpoint in model.endpoints:
                if endpoint.bundle.digest == job.digest:
                    return endpoint.bundle
        bundle = load(job.bundle, job.digest)
        if bundle.history is not None:
            bundle.history.attach(journal_path(self.service.settings.log_folder, bundle.name))
        return bundle

    def _do_place(self, job: Job) -> bool:
        """Has `perron predict` read a source and write a sink, in a process of its own that dies with this one."""
        place = json.loads((self.jobs.folder / job.id / "body").read_bytes())
        command = [
            sys.executable, "-c", _CHILD, str(os.getpid()), "predict", place["source"], "-o", place["sink"],
            "-C", str(self.settings.project), "--model", job.model, "--version", str(job.version), "--json",
        ]  # fmt: skip
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            try:
                while True:
                    try:
                        out, err = child.communicate(timeout=1.0)
                        break
                    except subprocess.TimeoutExpired:
                        if self._is_stopping:
                            child.send_signal(signal.SIGKILL)  # which a batch survives
                            return False
                        self.jobs.commit(job)
            except Lost:
                child.kill()
                raise
        if child.returncode:
            lines = err.strip().splitlines() or [f"exit code {child.returncode}"]
            raise PerronError(lines[-1].removeprefix("perron: "))
        done = json.loads(out)
        self.jobs.commit(job, rows=done["rows"], done=done["rows"], bad=done["bad"])
        return True

    async def _sweep(self) -> None:
        while True:
            try:
                await self.service.run(self.jobs.sweep)
            except (PerronError, OSError) as error:
                logger.error("%s", error)
            await asyncio.sleep(SWEEP_EVERY_S)

    # -- telling

    async def _send(self) -> None:
        while True:
            try:
                while len(self._sending) < SENDERS:
                    due = await self.service.run(self.jobs.claim_delivery, frozenset(self._sending))
                    if due is None:
                        break
                    self._sending.add(due["url"])
                    task = asyncio.create_task(self._deliver(due))
                    task.add_done_callback(lambda _, url=due["url"]: self._sending.discard(url))  # type: ignore[misc]
                    self._tasks.append(task)
                    self._tasks = [task for task in self._tasks if not task.done()]
            except PerronError as error:
                logger.error("%s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _deliver(self, due: dict[str, Any]) -> None:
        """One try of one delivery, on a thread of its own: a receiver that hangs holds up none but itself."""

        def deliver() -> None:
            assert self.settings.secret is not None
            fault: str | None = None
            try:
                post(
                    due["url"], self._message(due["job"]), secret=self.settings.secret, delivery=due["id"],
                    allow_private=self.settings.allow_private_callbacks,
                )  # fmt: skip
            except (WebhookError, DeclarationError) as error:
                fault = str(error)
            self.jobs.end_delivery(due, fault, backoff_s(due["tries"] + 1, random.Random()))

        try:
            await asyncio.get_running_loop().run_in_executor(self._senders, deliver)
        except PerronError as error:  # the batch was removed, or the queue can't be written: its lease ends
            logger.error("a callback: %s", error)

    def _message(self, job_id: str) -> bytes:
        job = self.jobs.get(job_id)
        told = to_json(job, f"/v1/batches/{job_id}")
        del told["callback"], told["expires"]
        result = self.jobs.folder / job_id / "predictions.jsonl"
        if job.state == "done" and result.is_file() and result.stat().st_size <= INLINE_BYTES:
            told["result"] = [msgspec.Raw(text) for text in result.read_bytes().splitlines()]
        return encode(told)


# Run with -c: asks to be killed with its parent (Linux), is nice to the server, and is `perron` then.
_CHILD = """
import os, sys
parent = int(sys.argv.pop(1))
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, 9)
except (OSError, AttributeError):
    pass
if os.getppid() != parent:
    sys.exit(1)
os.nice(10)
from perron.cli import main
main()
"""


async def _call(function: Any) -> None:
    function()


def _copy(source: Path, target: Path, size: int) -> None:
    """The first bytes of an earlier attempt's file, as this attempt's own."""
    with open(target, "wb") as out:
        if size:
            with open(source, "rb") as file:
                while size > 0 and (data := file.read(min(size, 8 << 20))):
                    out.write(data)
                    size -= len(data)
            if size:
                raise LedgerError(f"{source} is shorter than what was committed of it.")


def _remove(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.unlink(missing_ok=True)


# ------------------------------------------------------------------ routes


def routes(batches: Batches) -> list[Route]:
    """The routes of a service's batches."""

    def to(handler: Any) -> Any:
        return partial(handler, batches)

    size = batches.settings.max_body_bytes
    return [
        Route("POST", "/v1/batches", to(_create), "predict", TAKES, size),
        Route("POST", "/v1/models/{model}/batches", to(_create), "predict", TAKES, size),
        Route("GET", "/v1/batches", to(_list), "predict"),
        Route("GET", "/v1/batches/{id}", to(_show), "predict"),
        Route("DELETE", "/v1/batches/{id}", to(_delete), "predict"),
        Route("GET", "/v1/batches/{id}/predictions", to(_result), "predict"),
    ]


async def _create(batches: Batches, request: Request) -> Answer:
    endpoint = batches.service.models.get(request.params.get("model")).default
    if isinstance(endpoint.bundle, GraphBundle):
        return problem(422, endpoint.bundle.refusal)
    try:
        job, is_new = await batches.service.run(batches.accept, request, endpoint.bundle, endpoint.version)
    except Refused as error:
        batches.service.registry.refused("batch")
        return problem(error.status, str(error))
    except Full as error:
        batches.service.registry.refused("busy")
        return problem(429, str(error), (("retry-after", "10"),))
    except KeyTaken as error:
        return problem(409, str(error))
    if is_new:
        batches.wake()
    place = f"/v1/batches/{job.id}"
    return json_answer(to_json(job, place), 202, (("location", place), ("retry-after", str(RETRY_AFTER_S))))


async def _own(batches: Batches, request: Request) -> Job:
    """The batch that a path names.

    Raises:
        NotFound: there is none, or it is another token's.
    """
    job: Job = await batches.service.run(batches.jobs.get, request.params["id"])
    if not _sees_all(batches, request) and job.token != batches.token_of(request):
        raise NotFound(f"There is no batch {job.id!r}; it may have been removed after its time.")
    return job


def _sees_all(batches: Batches, request: Request) -> bool:
    name = batches.token_of(request)
    return (
        any("admin" in token.scopes for token in batches.service.guard.tokens or () if token.name == name) or not name
    )


async def _list(batches: Batches, request: Request) -> Answer:
    asked = request.arguments()
    limit = _whole(asked.get("limit", "100"), 1, 1000)
    if limit is None:
        return problem(400, "The limit is a number from 1 to 1000.")
    token = None if _sees_all(batches, request) else batches.token_of(request)
    jobs = await batches.service.run(partial(batches.jobs.newest, limit, token=token, before=asked.get("cursor")))
    cursor = jobs[-1].id if len(jobs) == limit else None
    return json_answer({"batches": [to_json(job, f"/v1/batches/{job.id}") for job in jobs], "next": cursor})


async def _show(batches: Batches, request: Request) -> Answer:
    job = await _own(batches, request)
    wait = () if job.is_ended else (("retry-after", str(RETRY_AFTER_S)),)
    return json_answer(to_json(job, f"/v1/batches/{job.id}"), headers=wait)


async def _delete(batches: Batches, request: Request) -> Answer:
    job = await _own(batches, request)
    left: Job | None = await batches.service.run(batches.jobs.cancel, job.id)
    if left is None:
        return Answer(204, b"")
    return json_answer(to_json(left, f"/v1/batches/{job.id}"))


async def _result(batches: Batches, request: Request) -> Answer | Stream:
    job = await _own(batches, request)
    if job.state != "done":
        fault = f": {job.fault}" if job.fault else ""
        wait = () if job.is_ended else (("retry-after", str(RETRY_AFTER_S)),)
        return problem(
            409, f"The batch is {job.state}, at {job.done} rows{fault}; it has no result.", wait, state=job.state
        )
    if job.kind == "place":
        return problem(409, "The batch wrote its result into its sink.", state=job.state)
    path = batches.jobs.folder / job.id / "predictions.jsonl"
    kind = choose(request.headers.get("accept"), ("application/json", *LINES))
    if kind is None:
        return problem(406, "The result is offered as application/json, in pages, and as application/jsonl, whole.")
    if kind in LINES:
        headers = (("content-length", str(path.stat().st_size)),) if request.method == "HEAD" else ()
        return Stream(200, _parts(batches, path), kind, headers)
    asked = request.arguments()
    limit = _whole(asked.get("limit", str(PAGE_ROWS)), 1, MOST_PAGE_ROWS)
    start = _whole(asked.get("cursor", "0"), 0, job.result_bytes)
    if limit is None or start is None:
        return problem(400, f"The limit is a number from 1 to {MOST_PAGE_ROWS}, the cursor what `next` was.")
    page = await batches.service.run(_page, path, start, limit)
    if page is None:
        return problem(400, "The cursor isn't one that `next` was.")
    lines, end = page
    cursor = str(end) if end < job.result_bytes else None
    headers = ()
    if cursor is not None:
        headers = (("link", f'</v1/batches/{job.id}/predictions?limit={limit}&cursor={cursor}>; rel="next"'),)
    body = encode({"predictions": [msgspec.Raw(text) for text in lines], "next": cursor})
    return Answer(200, body, headers=headers)


def _page(path: Path, start: int, limit: int) -> tuple[list[bytes], int] | None:
    """Lines from a byte on, and the byte after them; None where no line begins there."""
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            if file.read(1) != b"\n":
                return None
        lines = [text.rstrip(b"\n") for _, text in zip(range(limit), file, strict=False)]
        return lines, start + sum(len(text) + 1 for text in lines)


async def _parts(batches: Batches, path: Path) -> AsyncGenerator[bytes, None]:
    file = await batches.service.run(open, path, "rb")
    with file:
        while data := await batches.service.run(file.read, 1 << 20):
            yield data


def _whole(text: str, least: int, most: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        return None
    number = int(text)
    return number if least <= number <= most else None
