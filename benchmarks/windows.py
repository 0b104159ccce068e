"""What keeping live windows costs a server: `perron serve` with and without --no-windows, in turns.

`wrk` at 32 connections, single rows. The CPU of the server's processes per request is the figure that others' load
disturbs least; ratios are formed within a round, then their median is taken.
"""

import os
import shutil
import tempfile
from pathlib import Path

from common import CACHE, about, data_option, make_project, median, need, parser, sample_rows, table
from serving import LUA, Contender, Process, body_of, environment, free_port, load


def main() -> None:
    options = parser(__doc__)
    data_option(options)
    options.add_argument("--seconds", type=float, default=5, help="how long each run of wrk takes (default: 5)")
    given = options.parse_args()
    need(given.rounds > 0 and given.seconds > 0, "--rounds and --seconds must be above 0")
    need(shutil.which("wrk") is not None, "wrk is missing; install it: apt install wrk")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="windows-", dir=CACHE) as folder:
        work = Path(folder)
        project = make_project(given.data, work / "project")
        rows = sample_rows(given.data, 64)
        (work / "load.lua").write_text(LUA)
        (work / "rows.txt").write_text("\n".join(body_of([row]).decode() for row in rows) + "\n")
        found: dict[str, list[tuple[float, float]]] = {"with windows": [], "--no-windows": []}
        for number in range(given.rounds):
            for label in sorted(found, reverse=bool(number % 2)):
                more = ["--no-windows"] if label == "--no-windows" else []
                found[label].append(_round(project, more, work, rows, given.seconds))
    kept, without = found["with windows"], found["--no-windows"]
    shown = [
        [label, f"{median(rate for rate, _ in taken):,.0f}", f"{median(cpu for _, cpu in taken):.4f}"]
        for label, taken in found.items()
    ]
    print(f"{about()}; {given.rounds} rounds of {given.seconds:g} s; load {os.getloadavg()[0]:.1f}\n")
    print(table(["perron serve", "req/s at 32", "CPU ms per request"], shown))
    rate = median(a / b for (a, _), (b, _) in zip(kept, without, strict=True))
    cpu = median(a / b for (_, a), (_, b) in zip(kept, without, strict=True))
    print(f"\nWith windows: {rate:.3f} × the requests per second, {cpu:.3f} × the CPU per request.")


def _round(project: Path, more: list[str], work: Path, rows: list[dict], seconds: float) -> tuple[float, float]:  # type: ignore[type-arg]
    """Requests per second, and CPU milliseconds of the server per request."""
    from common import PERRON

    port, path = free_port(), "/v1/predictions"
    command = [str(PERRON), "serve", "--port", str(port), *more, "-C", str(project)]
    contender = Contender("perron", lambda _: command, path, None)
    with Process(command, work / "server.log", cwd=work, env=environment()) as server:
        server.first_answer(port, path, body_of(rows[:1]))
        load(contender, port, 32, 1.0, work, None)
        before = server.cpu_s()
        requests, took_us, _, _, errors = load(contender, port, 32, seconds, work, None)
        good = max(requests - errors, 1)
        need(errors == 0, f"{errors} requests failed")
        cpu_ms = (server.cpu_s() - before) / good * 1e3
    shutil.rmtree(project / ".perron" / "predictions", ignore_errors=True)
    return good / took_us * 1e6, cpu_ms


if __name__ == "__main__":
    main()
