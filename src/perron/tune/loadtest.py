"""A server's URL, or a bundle to start servers of, in; throughput and latencies by connections, and a recommendation, out."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.bundle import Bundle, GraphBundle
from perron.check import judge
from perron.contract import Field, Schema
from perron.errors import PerronError
from perron.plan import Plan
from perron.serve.alone import Alone
from perron.serve.app import Settings
from perron.serve.http import Address, free_port
from perron.serve.workers import serve
from perron.tune.load import Load, Target, send

__all__ = ["Measured", "held", "measure_url", "measure_workers", "recommend", "rows_like", "words", "worker_counts"]

PREDICTIONS = "/v1/predictions"
DIFFERENT = 64  # bodies, so that nothing is answered from memory by chance
WARM_S = 0.5
START_S, MEASURED_S = 60.0, 30.0
WORTH = 1.1  # as fast, at least, before more workers are recommended
BUSY = 0.9  # of its time: from there on it is this process that limits


@dataclass(frozen=True)
class Measured:
    """One run: of how many workers (None where they aren't ours), with how many rows per request."""

    workers: int | None
    rows: int
    load: Load
    threads: int | None = None  # that a worker parts a request of many rows among

    def to_json(self) -> dict[str, Any]:
        load = self.load
        return {
            "workers": self.workers, "threads": self.threads, "connections": load.connections, "seconds": round(load.seconds, 3),
            "requests_per_s": round(load.rate, 1), "rows_per_s": round(load.rate * self.rows, 1),
            "p50_ms": load.quantile_ms(0.5), "p95_ms": load.quantile_ms(0.95), "p99_ms": load.quantile_ms(0.99),
            "answered": load.answered, "refused": load.refused, "failed": sum(load.failed.values()),
            "first_failure": load.words or None, "own_share": round(load.own_share, 3),
        }  # fmt: skip


def worker_counts(cores: int | None = None) -> list[int]:
    """The numbers of workers to try: 1, 2, 4, … and as many as there are cores (None: those of this machine that we may use)."""
    cores = cores or len(os.sched_getaffinity(0))
    counts = [1]
    while counts[-1] * 2 < cores:
        counts.append(counts[-1] * 2)
    return counts if cores <= counts[-1] else [*counts, cores]


def recommend(found: Sequence[Measured]) -> Measured | None:
    """Of runs with the most connections the one with the most answers; fewer workers where more give hardly more. None: nothing was answered."""
    most = max((one.load.connections for one in found), default=0)
    runs = sorted((one for one in found if one.load.connections == most), key=lambda one: one.workers or 0)
    best: Measured | None = None
    for one in runs:
        if one.load.rate > (WORTH * best.load.rate if best is not None else 0):
            best = one
    return best


def words(found: Sequence[Measured], best: Measured | None) -> Iterator[str]:
    """What the runs mean, line by line: the recommendation, failures, and what is to be doubted."""
    failure = next((one.load for one in found if one.load.failed), None)
    if failure is not None:
        kinds = ", ".join(f"{count} × {status or 'no answer'}" for status, count in failure.failed.items())
        yield f"Failed with {failure.connections} connections: {kinds}; the first said: {failure.words or 'nothing'}"
    if best is None:
        yield "Nothing was answered."
    elif best.workers is not None:
        threads = f", each with {best.threads} threads for requests of many rows" if (best.threads or 1) > 1 else ""
        several = "s" if best.load.connections > 1 else ""
        yield f"Served best by --workers {best.workers}{threads}: {best.load.rate:,.0f} requests/s with {best.load.connections} connection{several}."
    if any(one.load.own_share > BUSY for one in found):
        yield "This process was busy nearly all of the time in some runs: the server may do more; ask from another machine to know."


def held(found: Sequence[Measured], budgets: Mapping[str, float]) -> tuple[bool, str] | None:
    """Whether a run holds the budgets `min_rows_per_s` and `max_p99_ms`, both at once, and in words; None without budgets.

    Said of the run that holds them with the most answers, else of the one with the most answers at all.
    """
    least, most = budgets.get("min_rows_per_s"), budgets.get("max_p99_ms")
    if least is None and most is None:
        return None
    wanted = " with ".join(
        [
            *([f"{least:,.6g} rows/s"] if least is not None else []),
            *([f"99 % within {most:,.6g} ms"] if most is not None else []),
        ]
    )
    ranked = sorted(
        ((_holds(one, least, most), one.load.rate, one) for one in found if one.load.rate),
        key=lambda ranked: ranked[:2],
    )
    if not ranked:
        return False, f"The canvas asks for {wanted}; nothing was answered."
    good, _, one = ranked[-1]
    told = f"{one.load.rate * one.rows:,.0f} rows/s with 99 % within {one.load.quantile_ms(0.99):.3g} ms over {one.load.connections} connection{'s' * (one.load.connections > 1)}"
    return good, f"The canvas asks for {wanted}; {'held' if good else 'not held by any run'}: {told}."


def _holds(one: Measured, least: float | None, most: float | None) -> bool:
    slowest = one.load.quantile_ms(0.99)
    is_quick = most is None or (slowest is not None and slowest <= most)
    return is_quick and not one.load.failed and (least is None or one.load.rate * one.rows >= least)


def measure_url(
    url: str, connections: Sequence[int], seconds: float, rows: int, token: str | None = None
) -> Iterator[Measured]:
    """How a server that runs bears each number of connections. It logs these predictions as it does others.

    The rows are those that its OpenAPI document gives as the example.

    Raises:
        PerronError: it can't be reached, or isn't a server of Perron's.
    """
    target = Target.of(url, PREDICTIONS, token)
    bodies = [_body([row] * rows) for row in _example(Target.of(url, "/openapi.json", token), url)]
    for count in connections:
        yield Measured(None, rows, _run(target, bodies, count, seconds))


def measure_workers(
    bundle: Bundle, folder: Path, workers: Sequence[int], connections: Sequence[int], seconds: float, rows: int
) -> Iterator[Measured]:
    """How servers of the bundle, with each number of workers, bear each number of connections.

    Args:
        bundle: that is served, everything on.
        folder: on the disk that counts: their logs are written in a folder of their own there, and removed.
        workers, connections: that are tried.
        seconds: of each run.
        rows: of each request.

    Raises:
        PerronError: the bundle takes no rows, or a server doesn't start.
    """
    if isinstance(bundle, GraphBundle):
        raise PerronError(bundle.refusal)
    if rows > Settings.max_rows:
        raise PerronError(f"A request may have {Settings.max_rows} rows, not {rows}.")
    chance = random.Random(0)
    alike = [rows_like(bundle.schema, bundle.sample["rows"][0], chance) for _ in range(DIFFERENT)]
    bodies = [_body([alike[(place + row) % DIFFERENT] for row in range(rows)]) for place in range(DIFFERENT)]
    for count in workers:
        with (
            tempfile.TemporaryDirectory(prefix="loadtest-", dir=folder) as home,
            _serving(bundle, Path(home), count) as url,
        ):
            target = Target.of(url, PREDICTIONS)
            threads = _threads(
                url, time.monotonic() + MEASURED_S
            )  # before the load, which would disturb what the server measures
            _run(target, bodies, 1, WARM_S)
            for many in connections:
                yield Measured(count, rows, _run(target, bodies, many, seconds), threads)


def rows_like(schema: Schema, sample: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    """A row that the contract allows: near the sample's numbers, any of its categories, its other values as they are."""
    return {known.name: _value_like(known, sample.get(known.name), chance) for known in schema.request}


def _value_like(known: Field, value: Any, chance: random.Random) -> Any:
    if value is None:
        return None
    other: Any = value
    if known.kind == "category":
        other = chance.choice(known.values)
    elif known.kind in ("int", "float"):
        other = value * chance.uniform(0.8, 1.25)
        other = round(other) if known.kind == "int" else other
    return value if any(judge(known, other)) else other


def _run(target: Target, bodies: Sequence[bytes], connections: int, seconds: float) -> Load:
    run: Callable[..., Load] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    return run(send(target, bodies, connections=connections, seconds=seconds))


def _body(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"rows": rows}, ensure_ascii=False, separators=(",", ":")).encode()


@contextmanager
def _serving(bundle: Bundle, home: Path, workers: int) -> Iterator[str]:
    """The URL of a server of the bundle, in a process of its own."""
    address = Address("127.0.0.1", free_port())
    settings = Settings(home / "predictions", windows=home / "windows", workers=workers)
    alone = Alone(bundle.name, bundle.path, bundle.digest, settings.log_folder)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    server = context.Process(target=_serve, args=(settings, alone, address, workers, ready))
    server.start()
    try:
        until = START_S
        while not ready.wait(0.05) and server.is_alive() and until > 0:
            until -= 0.05
        if not ready.is_set():
            raise PerronError(
                f"A server with {workers} workers didn't start; `perron serve --workers {workers}` says why."
            )
        yield address.url
    finally:
        server.terminate()
        server.join()


def _serve(settings: Settings, alone: Alone, address: Address, workers: int, ready: Any) -> None:
    def announce(plan: Plan) -> None:
        ready.set()

    serve(settings, lambda: alone, address, workers=workers, announce=announce)


def _threads(url: str, until: float) -> int | None:
    """What the server finds for requests of many rows; None where it doesn't say so in time."""
    while time.monotonic() < until:
        with urllib.request.urlopen(f"{url}/metrics") as page:
            for line in page.read().decode().splitlines():
                if line.startswith("perron_predict_threads{"):
                    return round(float(line.rpartition(" ")[2]))
        time.sleep(0.05)
    return None


def _example(target: Target, url: str) -> list[dict[str, Any]]:
    scheme = "https" if target.is_tls else "http"
    host = f"[{target.host}]" if ":" in target.host else target.host
    request = urllib.request.Request(f"{scheme}://{host}:{target.port}{target.path}")
    try:
        with urllib.request.urlopen(request, timeout=10) as page:
            document = json.load(page)
        content = document["paths"][PREDICTIONS]["post"]["requestBody"]["content"]["application/json"]
        found: list[dict[str, Any]] = content["example"]["rows"]
    except (OSError, urllib.error.URLError) as error:
        raise PerronError(f"{url} can't be asked: {getattr(error, 'reason', error)}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise PerronError(
            f"{url} has no OpenAPI document with an example of a prediction; is it a server of Perron's?"
        ) from error
    return found
