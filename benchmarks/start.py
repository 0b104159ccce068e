"""From the start of a process to its first use: the commands of Perron, and the first prediction beside FastAPI's.

Every process is started once before it is measured, so that its byte code is compiled and its files
are in the page cache. Rounds take turns (A B C A B C); figures are medians.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import (
    CACHE,
    PERRON,
    TARGET,
    Process,
    about,
    body_of,
    data_option,
    environment,
    fastapi_python,
    free_port,
    make_project,
    median,
    need,
    parser,
    sample_rows,
    table,
    timed,
)  # fmt: skip

PEERS = Path(__file__).parent / "peers"


def main() -> None:
    options = parser(__doc__)
    data_option(options)
    options.set_defaults(rounds=10)
    given = options.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="start-", dir=CACHE) as folder:
        work = Path(folder)
        project = make_project(given.data, work / "project")
        body = body_of(sample_rows(given.data, 1))
        memory: dict[str, list[tuple[float, float]]] = {}

        def served(label: str, command: list[str], path: str, port: int, **env: str) -> float:
            with Process(command, work / "server.log", cwd=work, env=environment(**env)) as server:
                took = server.first_answer(port, path, body)
                memory.setdefault(label, []).append(server.memory_mb())
            return took

        def perron_serve() -> float:
            port = free_port()
            command = [str(PERRON), "serve", "--port", str(port), "--project", str(project)]
            return served("`perron serve`, first prediction", command, "/v1/predictions", port)

        python = fastapi_python("fastapi_onnx", "onnxruntime")
        graph = next((project / ".perron" / "bundles").glob("*/model.onnx"))

        def fastapi() -> float:
            port = free_port()
            command = [
                str(python), "-m", "uvicorn", "fastapi_onnx:app", "--app-dir", str(PEERS), "--host", "127.0.0.1",
                "--port", str(port), "--no-access-log", "--log-level", "warning",
            ]  # fmt: skip
            return served("FastAPI + ONNX Runtime, first prediction", command, "/predict", port, GRAPH=str(graph))

        def init(*options: str) -> float:
            shutil.rmtree(work / "new", ignore_errors=True)
            words = ["init", "new", "--from", str(given.data.resolve()), "--target", TARGET, *options]
            return timed([str(PERRON), *words], work)

        def sync() -> float:
            if not (work / "new" / ".perron-files.json").exists():
                init()
            return timed([str(PERRON), "sync", "--check"], work / "new")

        def cold() -> float:
            shutil.rmtree(work / "cold", ignore_errors=True)
            shutil.copytree(project, work / "cold", ignore=shutil.ignore_patterns(".perron"))
            return timed([str(PERRON), "run"], work / "cold")

        measured: dict[str, Callable[[], float]] = {
            "Python that does nothing": lambda: timed([sys.executable, "-c", "pass"]),
            "`perron --help`": lambda: timed([str(PERRON), "--help"]),
            "`perron init --bare`, 20,640 rows": lambda: init("--bare"),
            "`perron init`, 20,640 rows, a whole project": init,
            "`perron sync --check`, 30 files": sync,
            "`perron run`, cold": cold,
            "`perron run`, cached": lambda: timed([str(PERRON), "run"], project),
            "`perron serve`, first prediction": perron_serve,
            "FastAPI + ONNX Runtime, first prediction": fastapi,
        }
        for measure in measured.values():
            measure()
        memory.clear()
        took: dict[str, list[float]] = {label: [] for label in measured}
        for _ in range(given.rounds):
            for label, measure in measured.items():
                took[label].append(measure())
        need(all(took.values()), "no round was measured; give --rounds of at least 1")

    def memory_of(label: str) -> str:
        found = memory.get(label)
        return " / ".join(f"{median(column):.0f}" for column in zip(*found, strict=True)) if found else "–"

    rows = [
        [label, f"{median(times):.3f}", f"{min(times):.3f}–{max(times):.3f}", memory_of(label)]
        for label, times in took.items()
    ]
    print(f"{about()}; {given.rounds} rounds; load {os.getloadavg()[0]:.1f}\n")
    print(table(["whole process", "median s", "spread s", "memory MB, PSS / RSS"], rows))


if __name__ == "__main__":
    main()
