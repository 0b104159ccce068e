"""`perron serve` at twice what it can do: what is still answered (goodput), how soon, and how the rest is refused.

Capacity is measured first, by a closed loop; then requests come at a multiple of it, evenly, whatever
becomes of those before them (an open loop). A request's time runs from when it was due. Both loops are
`perron.tune.load`. Rounds follow each other; figures are medians, ratios are formed within a round.
"""

import os
import sys
import tempfile
from pathlib import Path

from common import (
    CACHE,
    PERRON,
    Process,
    about,
    body_of,
    data_option,
    free_port,
    make_project,
    median,
    parser,
    sample_rows,
    table,
)  # fmt: skip

from perron.tune.load import Load, Target, send

PATH = "/v1/predictions"
Round = tuple[Load, Load, float, float]  # at capacity, beyond it, CPU ms of an answer and of a refusal


def load(port: int, bodies: list[bytes], connections: int, seconds: float, rate: float | None = None) -> Load:
    import uvloop

    target = Target("127.0.0.1", port, PATH)
    return uvloop.run(send(target, bodies, connections=connections, seconds=seconds, rate=rate))


def main() -> None:
    options = parser(__doc__)
    data_option(options)
    options.add_argument("--seconds", type=float, default=5, help="of each run (default: 5)")
    options.add_argument("--rows", default="1,64,256", help="of each request, parted by commas (default: 1,64,256)")
    options.add_argument("--times", type=float, default=2, help="the capacity, that requests come at (default: 2)")
    options.add_argument("--connections", type=int, default=512, help="the most requests under way (default: 512)")
    options.add_argument("--queue-rows", default="20000", help="what may wait, parted by commas (default: 20000)")
    given = options.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    lines = []
    with tempfile.TemporaryDirectory(prefix="overload-", dir=CACHE) as folder:
        work = Path(folder)
        project = make_project(given.data, work / "project")
        alike = sample_rows(given.data, 1000)
        for rows in map(int, given.rows.split(",")):
            bodies = [body_of([alike[(n * 7 + k) % len(alike)] for k in range(rows)]) for n in range(16)]
            rounds: dict[str, list[Round]] = {queue: [] for queue in given.queue_rows.split(",")}
            for number in range(given.rounds):
                for queue, found in rounds.items():
                    port = free_port()
                    command = [
                        str(PERRON),
                        "serve",
                        "--port",
                        str(port),
                        "--project",
                        str(project),
                        "--queue-rows",
                        queue,
                    ]
                    with Process(command, work / "server.log", cwd=work, cores={0}) as server:
                        server.first_answer(port, PATH, bodies[0])
                        load(port, bodies, 32, 1.0)
                        used = [server.cpu_s()]
                        capacity = load(port, bodies, 32, given.seconds)
                        used.append(server.cpu_s())
                        over = load(port, bodies, given.connections, given.seconds, given.times * capacity.rate)
                        used.append(server.cpu_s())
                    answer_ms = (used[1] - used[0]) / len(capacity.times_s) * 1e3
                    refusal_ms = ((used[2] - used[1]) * 1e3 - answer_ms * len(over.times_s)) / max(over.refused, 1)
                    found.append((capacity, over, answer_ms, refusal_ms))
                    print(
                        f"round {number + 1}, {rows} rows, queue {queue}: capacity {capacity.rate:,.0f}, goodput {over.rate:,.0f} req/s",
                        file=sys.stderr,
                    )
            lines += [row(rows, queue, found, given.times) for queue, found in rounds.items()]
    heads = ["rows per request", "queue rows", "capacity req/s", "offered", "answered", "goodput, share of capacity", "refused",
             "never sent", "p50 / p99 ms of what is answered", "p99 ms at capacity", "CPU ms of an answer / a refusal", "failed", "generator busy"]  # fmt: skip
    print(
        f"{about()}; load {os.getloadavg()[0]:.1f}; {given.rounds} rounds of {given.seconds:g} s\n\n{table(heads, lines)}"
    )


def row(rows: int, queue: str, found: list[Round], times: float) -> list[object]:
    overs = [over for _, over, _, _ in found]
    refusals = [one[3] for one in found if one[1].refused]
    return [
        rows, queue, f"{median(c.rate for c, *_ in found):,.0f}", f"{median(times * c.rate for c, *_ in found):,.0f}",
        f"{median(o.rate for o in overs):,.0f}", f"{median(o.rate / c.rate for c, o, *_ in found):.2f}",
        f"{median(o.refused / o.seconds for o in overs):,.0f}/s", f"{median(o.unsent for o in overs):,.0f}",
        f"{median(o.quantile_ms(0.5) or 0 for o in overs):.0f} / {median(o.quantile_ms(0.99) or 0 for o in overs):.0f}",
        f"{median(c.quantile_ms(0.99) or 0 for c, *_ in found):.0f}", f"{median(one[2] for one in found):.3f} / {f'{median(refusals):.3f}' if refusals else '–'}",
        sum(sum(o.failed.values()) for o in overs),
        f"{median(o.own_share for o in overs):.0%}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
