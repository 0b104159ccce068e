"""A million rows of Parquet scored into Parquet, whole processes: `perron predict` beside ONNX Runtime alone and MLflow.

Everybody has the same model: ONNX Runtime runs the very graph of Perron's bundle, MLflow's pyfunc the pipeline
that it was made from. Perron also checks every row, gives it an id, and logs it. Every process is started once
before it is measured; rounds take turns, figures are medians, ratios are formed within a round.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from common import (
    CACHE,
    PERRON,
    TARGET,
    about,
    data_option,
    make_project,
    median,
    need,
    parser,
    peer_python,
    run,
    same_version,
    sample_rows,
    table,
    timed,
)  # fmt: skip
from pyarrow import csv, parquet
from serving import export

PEERS = Path(__file__).parent / "peers"


def make_rows(data: Path, path: Path, rows: int) -> None:
    """Rows of the table, drawn again and again, without the target."""
    given = csv.read_csv(data)
    drawn = np.random.default_rng(0).integers(0, given.num_rows, rows)
    parquet.write_table(given.take(pa.array(drawn)).drop([TARGET]), path)


def main() -> None:
    made = parser(__doc__)
    data_option(made)
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--workers", type=int, default=2, help="processes of the second figure (default: 2)")
    made.add_argument("--no-mlflow", action="store_true", help="leave MLflow out")
    given = made.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="batch-", dir=CACHE) as folder:
        work = Path(folder)
        project = make_project(given.data, work / "project")
        make_rows(given.data, work / "rows.parquet", given.rows)
        (bundle,) = (project / ".perron" / "bundles").iterdir()
        runtime = peer_python("batch-onnx", same_version("onnxruntime", "numpy", "pyarrow"))
        predict = [str(PERRON), "predict", "rows.parquet", "-C", str(project), "-o"]
        contenders = {
            "**perron predict**": [*predict, "perron.parquet"],
            f"**perron predict --workers {given.workers}**": [*predict, "workers.parquet", "--workers", str(given.workers)],
            "ONNX Runtime in process": [str(runtime), str(PEERS / "onnx_batch.py"), str(bundle / "model.onnx")],
        }  # fmt: skip
        outputs = ["perron.parquet", "workers.parquet", "onnx.parquet"]
        if not given.no_mlflow:
            learned = same_version("scikit-learn", "lightgbm", "numpy", "pandas", "pyarrow", "cloudpickle", "joblib")
            mlflow = peer_python("batch-mlflow", ["mlflow-skinny", *learned])
            pipeline, _ = export(project, work, sample_rows(given.data, 8))
            run([str(mlflow), str(PEERS / "mlflow_batch.py"), "save", str(pipeline)], work)
            contenders["MLflow pyfunc"] = [str(mlflow), str(PEERS / "mlflow_batch.py"), "score"]
            outputs.append("mlflow.parquet")
        for command in contenders.values():
            run(command, work)
        answers = [parquet.read_table(work / name)["prediction"].to_numpy() for name in outputs]
        for name, answer in zip(outputs, answers, strict=True):
            need(np.allclose(answer, answers[0], rtol=1e-4), f"{name} isn't what perron predicts")
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(given.rounds):
            for name, command in contenders.items():
                times[name].append(timed(command, work))
    floor = times["ONNX Runtime in process"]
    print(
        table(
            ["", "seconds", "rows/s", "× ONNX Runtime's time"],
            [
                [name, f"{median(t):.1f}", f"{given.rows / median(t):,.0f}", f"{median(a / b for a, b in zip(t, floor, strict=True)):.2f}"]
                for name, t in times.items()
            ],
        )
    )  # fmt: skip
    print(f"\n{given.rows:,} rows, {given.rounds} rounds; {about()}")


if __name__ == "__main__":
    main()
