"""A server under load for minutes: its memory over time, and the slope of it. A leak shows as a line that doesn't end.

Single rows, many rows, rows that break the contract, receipts and metrics are asked all the time, the model
is swapped every few seconds. Memory is the sum of the processes' own (RSS), sampled every second; the slope
is that of a line through the second half (least squares).
"""

import argparse
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import CACHE, PERRON, Process, about, body_of, data_option, free_port, make_project, need, run, sample_rows

PATH = "/v1/predictions"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    data_option(options)
    options.add_argument("--minutes", type=float, default=3, help="how long (default: 3)")
    options.add_argument("--workers", type=int, default=1, help="of the server (default: 1)")
    given = options.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="soak-", dir=CACHE) as folder:
        work = Path(folder)
        project = make_project(given.data, work / "project")
        system = project / "system.py"
        system.write_text(system.read_text().replace("n_estimators=200", "n_estimators=150"))
        run([str(PERRON), "run"], project)
        port = free_port()
        command = [
            str(PERRON),
            "serve",
            "--port",
            str(port),
            "--project",
            str(project),
            "--workers",
            str(given.workers),
            "--cache",
            "1000",
        ]
        with Process(command, work / "server.log", cwd=work) as server:
            server.first_answer(port, PATH, body_of(sample_rows(given.data, 1)))
            samples, counts, failed = soak(server, port, project, sample_rows(given.data, 2000), given.minutes * 60)
    half = samples[len(samples) // 2 :]
    print(f"{about()}; load {os.getloadavg()[0]:.1f}; {given.minutes:g} minutes, {given.workers} workers")
    print(f"answers by status: {dict(sorted(counts.items()))}, connections that failed: {failed}")
    for at in range(0, len(samples), max(len(samples) // 6, 1)):
        print(f"{samples[at][0]:6.0f} s  {samples[at][1]:7.1f} MB")
    print(
        f"{samples[-1][0]:6.0f} s  {samples[-1][1]:7.1f} MB; slope of the second half {slope(half) * 60:+.2f} MB a minute"
    )


def soak(
    server: Process, port: int, project: Path, rows: list[dict], seconds: float
) -> tuple[list[tuple[float, float]], dict[int, int], int]:
    """Samples of (seconds, MB), the answers by status, and how many requests found no answer."""
    stop, counts, failures, lock = threading.Event(), {}, [], threading.Lock()
    bodies = [
        *(body_of([row]) for row in rows), body_of(rows[:1000]), body_of(rows[:64]), b"{", b'{"rows": [{}]}', b'{"rows": []}',
    ]  # fmt: skip

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        turn, known = number * 501, "none"
        while not stop.is_set():
            turn += 1
            try:
                if turn % 50 == 0:
                    connection.request("GET", "/metrics" if turn % 100 else f"{PATH}/{known}")
                else:
                    connection.request("POST", PATH, bodies[turn % len(bodies)], {"Content-Type": "application/json"})
                answer = connection.getresponse()
                data = answer.read()
                if answer.status == 200 and data.startswith(b'{"model"'):
                    known = json.loads(data)["predictions"][0]["id"]
                with lock:
                    counts[answer.status] = counts.get(answer.status, 0) + 1
            except OSError as error:
                failures.append(error)
                connection.close()
        connection.close()

    clients = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for one in clients:
        one.start()
    samples: list[tuple[float, float]] = []
    started, swapped = time.perf_counter(), 0
    try:
        while (now := time.perf_counter() - started) < seconds:
            samples.append((now, server.memory_mb()[1]))
            if now > (swapped + 1) * 10:
                swapped += 1
                run([str(PERRON), "promote", str(2 - swapped % 2)], project)
            time.sleep(1)
    finally:
        stop.set()
        for one in clients:
            one.join()
    need(len(samples) > 10, "too short to say anything")
    print(f"{swapped} swaps", file=sys.stderr)
    return samples, counts, len(failures)


def slope(samples: list[tuple[float, float]]) -> float:
    """MB per second, of the line through the samples."""
    middle_x = sum(x for x, _ in samples) / len(samples)
    middle_y = sum(y for _, y in samples) / len(samples)
    return sum((x - middle_x) * (y - middle_y) for x, y in samples) / sum((x - middle_x) ** 2 for x, _ in samples)


if __name__ == "__main__":
    main()
