"""One row per JSON request: `perron serve` beside what a user would pick instead, in one run.

Every contender serves the same model: LightGBM of 200 trees on California housing with one-hot
categories, trained by `perron run`; the ONNX ones (all model servers among them) run the very graph of
Perron's bundle, the scikit-learn one the very pipeline that the graph was made from. Contenders take turns (A B C A B C),
each started anew per round; figures are medians of the rounds, ratios are formed within a round.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from common import (
    CACHE,
    PERRON,
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
    peer_python,
    post,
    run,
    same_version,
    sample_rows,
    table,
)  # fmt: skip

CONNECTIONS = (1, 32, 256)
PEERS = Path(__file__).parent / "peers"
LUA = """
local lines, turn = {}, 0
function init()
  for text in io.lines(os.getenv("ROWS")) do
    lines[#lines + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, text)
  end
end
function request()
  turn = turn % #lines + 1
  return lines[turn]
end
function done(all, latency)
  local e = all.errors
  print(string.format("FIGURES %d %d %d %d %d", all.requests, all.duration,
    latency:percentile(50), latency:percentile(99), e.status + e.connect + e.read + e.write + e.timeout))
end
"""
EXPORT = """
import json, sqlite3, sys
from pathlib import Path
import joblib, pandas
from perron.store import Store
from perron.train import load_fitted
home, rows, target = Path(sys.argv[1], ".perron"), Path(sys.argv[2]), sys.argv[3]
output, = sqlite3.connect(home / "ledger.db").execute("SELECT output FROM results WHERE step = 'train'").fetchone()
pipeline = load_fitted(Store(home / "store").get(json.loads(output)["digest"])).pipeline
joblib.dump(pipeline, target)
print(pipeline.predict(pandas.DataFrame(json.loads(rows.read_text()))).tolist())
"""


@dataclass
class Contender:
    """A server: what it is called, how it is started, and the values in its reply (None: it answers a constant)."""

    label: str
    command: Callable[[int], list[str]]
    path: str
    values: Callable[[bytes], list[float]] | None
    env: dict[str, str] = field(default_factory=dict)
    is_ours: bool = False
    body: Callable[[Sequence[dict]], bytes] = body_of


@dataclass
class Round:
    """What one contender did in one round."""

    rate: dict[int, float] = field(default_factory=dict)
    p50_ms: dict[int, float] = field(default_factory=dict)
    p99_ms: dict[int, float] = field(default_factory=dict)
    cpu_ms: dict[int, float] = field(default_factory=dict)
    errors: int = 0
    rows_s: float = 0.0
    start_s: float = 0.0
    pss_mb: float = 0.0
    rss_mb: float = 0.0


def contenders(project: Path, graph: Path, pipeline: Path) -> dict[str, Contender]:
    def granian(app: str) -> Callable[[int], list[str]]:
        python = peer_python("granian", same_version("granian", "msgspec", "uvloop", "onnxruntime", "numpy"))
        return lambda port: [
            str(python), "-m", "granian", "--interface", "rsgi", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--http", "1", "--no-ws", "--loop", "uvloop", "--no-log", "--working-dir", str(PEERS), f"{app}:app",
        ]  # fmt: skip

    def uvicorn(app: str, *more: str) -> Callable[[int], list[str]]:
        python = fastapi_python(app, *more)
        return lambda port: [
            str(python), "-m", "uvicorn", f"{app}:app", "--app-dir", str(PEERS), "--host", "127.0.0.1", "--port", str(port),
            "--no-access-log", "--log-level", "warning",
        ]  # fmt: skip

    def perron(*more: str) -> Callable[[int], list[str]]:
        return lambda port: [str(PERRON), "serve", "--port", str(port), "--project", str(project), *more]

    def plain(body: bytes) -> list[float]:
        return list(json.loads(body)["predictions"])

    def ours(body: bytes) -> list[float]:
        return [prediction["value"] for prediction in json.loads(body)["predictions"]]

    def script(name: str, python: Path, *more: str) -> Callable[[int], list[str]]:
        return lambda port: [str(python), str(PEERS / name), *more, str(port)]

    def split(rows: Sequence[dict]) -> bytes:
        data = [list(row.values()) for row in rows]
        return json.dumps({"dataframe_split": {"columns": list(rows[0]), "data": data}}).encode()

    def tensors(rows: Sequence[dict]) -> bytes:
        kinds = {str: "BYTES", float: "FP64"}
        inputs = [
            {"name": name, "shape": [len(rows), 1], "datatype": kinds[type(value)], "data": [row[name] for row in rows]}
            for name, value in rows[0].items()
        ]
        return json.dumps({"inputs": inputs}).encode()

    env = {"GRAPH": str(graph), "PIPELINE": str(pipeline)}
    learned = ("scikit-learn", "lightgbm", "pandas", "joblib")
    runtime = same_version("onnxruntime")
    quiet = {"BENTOML_DO_NOT_TRACK": "true", "LIT_SERVER_DISABLE_TRACKING": "1", "RAY_USAGE_STATS_ENABLED": "0",
             "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}  # fmt: skip
    work = project.parent
    bento = peer_python("bentoml", ["bentoml", *runtime])
    mlserver = peer_python("mlserver", ["mlserver", "uvloop<0.22", *runtime])  # its worker dies under newer ones
    predict = "/v1/predictions"
    return {
        "limit": Contender("granian + msgspec + ONNX Runtime, bare", granian("limit"), "/predict", plain, env),
        "constant": Contender("granian, constant reply", granian("constant"), "/predict", None, env),
        "fastapi-onnx": Contender(
            "FastAPI + ONNX Runtime", uvicorn("fastapi_onnx", "onnxruntime"), "/predict", plain, env
        ),
        "fastapi-sklearn": Contender(
            "FastAPI + scikit-learn", uvicorn("fastapi_sklearn", *learned), "/predict", plain, env
        ),
        "bentoml": Contender(
            "BentoML, ONNX, adaptive batching",
            lambda port: [
                str(bento),
                "-m",
                "bentoml",
                "serve",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--working-dir",
                str(PEERS),
                "bentoml_service:Housing",
            ],
            "/predict",
            json.loads,
            {**env, **quiet},
        ),
        "litserve": Contender(
            "LitServe, ONNX",
            script("litserve_app.py", peer_python("litserve", ["litserve", *runtime])),
            "/predict",
            plain,
            {**env, **quiet},
        ),
        "mlserver": Contender(
            "MLServer, ONNX, adaptive batching",
            script("mlserver_housing.py", mlserver, str(work / "mlserver")),
            "/v2/models/housing/infer",
            lambda body: json.loads(body)["outputs"][0]["data"],
            {**env, **quiet},
            body=tensors,
        ),
        "ray": Contender(
            "Ray Serve, ONNX",
            script("ray_app.py", peer_python("ray", ["ray[serve]", *runtime]), "/tmp/ray-benchmark"),
            "/",
            plain,
            {**env, **quiet},
        ),
        "mlflow": Contender(
            "MLflow, ONNX",
            script("mlflow_start.py", peer_python("mlflow", ["mlflow", *runtime]), str(work / "mlflow")),
            "/invocations",
            plain,
            {**env, **quiet},
            body=split,
        ),
        "perron-unlogged": Contender(
            "perron serve, its log writes nothing",
            lambda port: [
                sys.executable,
                str(PEERS / "perron_unlogged.py"),
                str(graph.parent),
                str(work / "unlogged"),
                str(port),
            ],
            predict,
            ours,
        ),
        "perron-cache": Contender("perron serve --cache 1000", perron("--cache", "1000"), predict, ours),
        "perron": Contender("**perron serve**", perron(), predict, ours, is_ours=True),
        "perron-sync": Contender("**perron serve --sync**", perron("--sync"), predict, ours, is_ours=True),
    }


def check(contender: Contender, port: int, rows: list[dict], truth: list[float]) -> None:
    """Ends the benchmark when a contender doesn't answer each row as the model does."""
    if contender.values is None:
        return
    for row, value in zip(rows, truth, strict=True):
        status, reply = post(port, contender.path, contender.body([row]))
        got = contender.values(reply)[0] if status == 200 else f"status {status}: {reply[:200]!r}"
        right = isinstance(got, float) and abs(got - value) <= 1e-4 * abs(value)
        need(right, f"{contender.label} answers {got} where the model says {value}, for {row}")


def measure(
    contender: Contender, work: Path, rows: list[dict], many: list[dict], truth: list[float], seconds: float,
    cores: tuple[int, int] | None,
) -> Round:  # fmt: skip
    port, found = free_port(), Round()
    server_cores, load_cores = ({cores[0]}, {cores[1]}) if cores else (None, None)
    with Process(
        contender.command(port), work / "server.log", cwd=work, env=environment(**contender.env), cores=server_cores
    ) as server:
        found.start_s = server.first_answer(port, contender.path, contender.body(rows[:1]), 120)
        check(contender, port, rows, truth)
        (work / "rows.txt").write_bytes(b"\n".join(contender.body([row]) for row in rows))
        load(contender, port, 32, 1.0, work, load_cores)  # warm
        for connections in CONNECTIONS:
            before = server.cpu_s()
            requests, took_us, p50, p99, errors = load(contender, port, connections, seconds, work, load_cores)
            good = max(requests - errors, 1)
            found.cpu_ms[connections] = (server.cpu_s() - before) / good * 1e3
            found.rate[connections] = good / took_us * 1e6
            found.p50_ms[connections], found.p99_ms[connections] = p50 / 1e3, p99 / 1e3
            found.errors += errors
        found.rows_s = batch_rate(contender, port, many)
        found.pss_mb, found.rss_mb = server.memory_mb()
        check(contender, port, rows, truth)
    shutil.rmtree(work / "project" / ".perron" / "predictions", ignore_errors=True)  # a round writes gigabytes
    return found


def load(
    contender: Contender, port: int, connections: int, seconds: float, work: Path, cores: set[int] | None
) -> tuple[int, ...]:
    """wrk's figures: requests, microseconds, p50 and p99 in microseconds, errors."""
    command = [
        "wrk", "-t1", f"-c{connections}", f"-d{max(round(seconds), 1)}s", "--timeout", "20s", "-s", str(work / "load.lua"),
        f"http://127.0.0.1:{port}{contender.path}",
    ]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "ROWS": str(work / "rows.txt")}, capture_output=True, text=True, check=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
    )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("FIGURES"))
    return tuple(map(int, line.split()[1:]))


def batch_rate(contender: Contender, port: int, many: list[dict]) -> float:
    """Rows per second of one request with all of them, the median of twenty over one connection."""
    if contender.values is None:
        return float("nan")
    body, took = contender.body(many), []
    for _ in range(20):
        started = time.perf_counter()
        status, reply = post(port, contender.path, body)
        took.append(time.perf_counter() - started)
        need(status == 200 and len(contender.values(reply)) == len(many), f"{contender.label}: {reply[:200]!r}")
    return len(many) / median(took)


def report(chosen: dict[str, Contender], rounds: dict[str, list[Round]]) -> str:
    def mid(name: str, get: Callable[[Round], float]) -> float:
        return median(get(r) for r in rounds[name])

    def ratio(name: str, other: str, connections: int) -> str:
        if not rounds.get(other):
            return "–"
        pairs = zip(rounds[name], rounds[other], strict=True)
        value = median(a.rate[connections] / b.rate[connections] for a, b in pairs)
        return f"{value:.2f}" if value < 10 else f"{value:.0f}"

    first = table(
        ["server", *(f"req/s at {c}" for c in CONNECTIONS), "spread at 32", *(f"× limit at {c}" for c in CONNECTIONS),
         *(f"p50 / p99 ms at {c}" for c in CONNECTIONS), "CPU ms per request at 1 / 32", "rows/s, one request of 1,000",
         "first answer s", "memory MB, PSS / RSS", "errors"],
        [
            [
                contender.label,
                *(f"{mid(name, lambda r, c=c: r.rate[c]):,.0f}" for c in CONNECTIONS),
                f"{min(r.rate[32] for r in rounds[name]):,.0f}–{max(r.rate[32] for r in rounds[name]):,.0f}",
                *(ratio(name, "limit", c) for c in CONNECTIONS),
                *(f"{mid(name, lambda r, c=c: r.p50_ms[c]):.2f} / {mid(name, lambda r, c=c: r.p99_ms[c]):.2f}" for c in CONNECTIONS),
                f"{mid(name, lambda r: r.cpu_ms[1]):.3f} / {mid(name, lambda r: r.cpu_ms[32]):.3f}",
                f"{mid(name, lambda r: r.rows_s):,.0f}" if contender.values else "–",
                f"{mid(name, lambda r: r.start_s):.2f}",
                f"{mid(name, lambda r: r.pss_mb):.0f} / {mid(name, lambda r: r.rss_mb):.0f}",
                sum(r.errors for r in rounds[name]),
            ]
            for name, contender in chosen.items()
        ],
    )  # fmt: skip
    others = [name for name in chosen if not chosen[name].is_ours]
    second = table(
        ["times as fast as", *(f"{chosen[name].label} at {c}" for name in chosen if chosen[name].is_ours for c in CONNECTIONS)],
        [
            [chosen[other].label, *(ratio(name, other, c) for name in chosen if chosen[name].is_ours for c in CONNECTIONS)]
            for other in others
        ],
    )  # fmt: skip
    return f"{first}\n\n{second}"


def main() -> None:
    options = parser(__doc__)
    data_option(options)
    options.add_argument("--seconds", type=float, default=4, help="of each run of wrk (default: 4)")
    options.add_argument("--only", help="contenders, parted by commas (default: all)")
    options.add_argument(
        "--cores", default="0,1", help="the server's core and wrk's (default: 0,1), or 'any' to pin neither"
    )
    given = options.parse_args()
    need(shutil.which("wrk") is not None, "wrk is missing; install it: apt install wrk")
    cores = None
    if given.cores != "any" and len(os.sched_getaffinity(0)) > 1:
        server, load_core = map(int, given.cores.split(","))
        cores = (server, load_core)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="serving-", dir=CACHE) as folder:
        work = Path(folder)
        project = make_project(given.data, work / "project")
        graph = next((project / ".perron" / "bundles").glob("*/model.onnx"))
        rows, many = sample_rows(given.data, 64), sample_rows(given.data, 1000)
        pipeline, truth = export(project, work, rows)
        chosen = contenders(project, graph, pipeline)
        if given.only:
            names = given.only.split(",")
            need(set(names) <= set(chosen), f"--only takes {', '.join(chosen)}")
            chosen = {name: chosen[name] for name in chosen if name in names}
        (work / "load.lua").write_text(LUA)
        rounds: dict[str, list[Round]] = {name: [] for name in chosen}
        for number in range(given.rounds):
            for name, contender in chosen.items():
                found = measure(contender, work, rows, many, truth, given.seconds, cores)
                rounds[name].append(found)
                rates = " ".join(f"{found.rate[c]:,.0f}" for c in CONNECTIONS)
                print(f"round {number + 1} {name}: {rates} req/s", file=sys.stderr, flush=True)
    pinned = "server and wrk on a core each" if cores else "nothing pinned"
    load_now = os.getloadavg()[0]
    print(
        f"{about()}; load {load_now:.1f}; {given.rounds} rounds of {given.seconds:g} s, {pinned}\n\n{report(chosen, rounds)}"
    )


def export(project: Path, work: Path, rows: Sequence[dict]) -> tuple[Path, list[float]]:
    """The fitted pipeline of the project's run as joblib, and what it says of the rows."""
    (work / "rows.json").write_text(json.dumps(rows))
    pipeline = work / "pipeline.joblib"
    said = run([sys.executable, "-c", EXPORT, str(project), str(work / "rows.json"), str(pipeline)])
    return pipeline, json.loads(said)


if __name__ == "__main__":
    main()
