"""A run with 1,000 metric points: Perron's ledger beside sqlite3 by hand and, with --mlflow, MLflow on SQLite.

Each contender is a process of its own on an empty folder, in turns; `work` is the time of the logging
itself, the store's creation included, `process` the whole process with its imports.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import CACHE, about, environment, median, need, parser, peer_python, table

# Each is given an empty folder and the number of points, and logs loss 0, 1, 2 … of one run.
PERRON = """
from perron.ledger import Ledger
ledger = Ledger.at(folder)
run = ledger.start_run("bench")
{log}
ledger.end_run(run, "done")
ledger.close()
count = lambda: len(Ledger.at(folder).get_run(run)["metrics"])
"""
SQLITE = """
import sqlite3
def connect():
    made = sqlite3.connect(folder / "plain.db", isolation_level=None)
    made.execute("PRAGMA journal_mode = WAL")
    made.execute("PRAGMA synchronous = {sync}")
    return made
db = connect()
db.execute("CREATE TABLE metrics (id INTEGER PRIMARY KEY, run TEXT, name TEXT, step INTEGER, value REAL, time TEXT)")
insert = "INSERT INTO metrics (run, name, step, value, time) VALUES ('r', 'loss', ?, ?, '2026-01-01T00:00:00.000Z')"
{log}
db.close()
count = lambda: connect().execute("SELECT count(*) FROM metrics").fetchone()[0]
"""
MLFLOW = """
import mlflow
from mlflow.entities import Metric
mlflow.set_tracking_uri(f"sqlite:///{{folder / 'mlflow.db'}}")
client = mlflow.MlflowClient()
with mlflow.start_run() as run:
    {log}
count = lambda: len(client.get_metric_history(run.info.run_id, "loss"))
"""
HARNESS = """
import json, sys, time
from pathlib import Path
folder, points = Path(sys.argv[1]), int(sys.argv[2])
values = [1.0 / (step + 1) for step in range(points)]
{imports}
started = time.perf_counter()
{code}
took = time.perf_counter() - started
assert count() == points, count()
print(json.dumps(took))
"""
POINT_BY_POINT = 'for step, value in enumerate(values): ledger.log_metrics(run, "train", [("loss", step, value)])'
AT_ONCE = 'ledger.log_metrics(run, "train", [("loss", step, value) for step, value in enumerate(values)])'
ROW_BY_ROW = "for pair in enumerate(values): db.execute(insert, pair)"
MANY = 'db.execute("BEGIN"); db.executemany(insert, enumerate(values)); db.execute("COMMIT")'
METRIC_BY_METRIC = 'for step, value in enumerate(values): mlflow.log_metric("loss", value, step=step)'
BATCH = (
    'client.log_batch(run.info.run_id, metrics=[Metric("loss", value, 0, step) for step, value in enumerate(values)])'
)


def contenders(with_mlflow: bool) -> dict[str, tuple[Path, str]]:
    """The Python and the program of each."""
    python = Path(sys.executable)
    own = "import perron.ledger"
    found = {
        "**Perron**, one call": (python, own, PERRON.format(log=AT_ONCE)),
        "**Perron**, point by point": (python, own, PERRON.format(log=POINT_BY_POINT)),
        "sqlite3 WAL, one transaction": (python, "import sqlite3", SQLITE.format(sync="FULL", log=MANY)),
        "sqlite3 WAL, a commit per point, synchronous": (python, "import sqlite3", SQLITE.format(sync="FULL", log=ROW_BY_ROW)),
        "sqlite3 WAL, a commit per point, lost in a power cut": (
            python, "import sqlite3", SQLITE.format(sync="NORMAL", log=ROW_BY_ROW),
        ),
    }  # fmt: skip
    if with_mlflow:
        peer = peer_python("mlflow", ["mlflow"])
        found["MLflow on SQLite, `log_batch`"] = (peer, "import mlflow", MLFLOW.format(log=BATCH))
        found["MLflow on SQLite, `log_metric`"] = (peer, "import mlflow", MLFLOW.format(log=METRIC_BY_METRIC))
    return {label: (peer, HARNESS.format(imports=imports, code=code)) for label, (peer, imports, code) in found.items()}


def measure(python: Path, program: str, points: int, work: Path) -> tuple[float, float]:
    """Seconds of the logging and of the whole process."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    env = environment(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    started = time.perf_counter()
    done = subprocess.run(
        [str(python), "-c", program, str(work), str(points)], cwd=work, env=env, capture_output=True, text=True, check=False
    )  # fmt: skip
    took = time.perf_counter() - started
    need(done.returncode == 0, done.stderr[-500:])
    return json.loads(done.stdout.splitlines()[-1]), took


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--points", type=int, default=1000, help="of the run (default: 1000)")
    options.add_argument(
        "--mlflow", action="store_true", help="measure MLflow too (installed in an environment of its own)"
    )
    given = options.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    chosen = contenders(given.mlflow)
    with tempfile.TemporaryDirectory(prefix="ledger-", dir=CACHE) as folder:
        work = Path(folder) / "work"
        for python, program in chosen.values():  # compiles the byte code
            measure(python, program, 1, work)
        rounds: dict[str, list[tuple[float, float]]] = {label: [] for label in chosen}
        for _ in range(given.rounds):
            for label, (python, program) in chosen.items():
                rounds[label].append(measure(python, program, given.points, work))
    first = next(iter(chosen))
    rows = []
    for label, found in rounds.items():
        ratio = median(whole / own for (_, whole), (_, own) in zip(found, rounds[first], strict=True))
        work_s, whole_s = (median(column) for column in zip(*found, strict=True))
        rows.append([label, f"{work_s:.3f}", f"{whole_s:.2f}", f"{ratio:.2f}"])
    print(f"{about()}; {given.rounds} rounds, {given.points:,} points; load {os.getloadavg()[0]:.1f}\n")
    print(table(["1 run", "work s", "process s", "process, × Perron in one call"], rows))


if __name__ == "__main__":
    main()
