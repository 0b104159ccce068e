"""Drift of a million rows against a million, 24 columns: Perron beside Evidently, NannyML and SciPy by hand.

Whole processes, start and imports included, from two Parquet files made here (as profile.py makes them; the second has
other numbers by chance, `margin` and `wait` moved, and `colour` shifted). Evidently and NannyML take minutes: one round.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from profile import CHUNK, chunk

import numpy as np
import pyarrow as pa
from common import CACHE, PERRON, about, apart, measure, median, need, parser, peer_python, table
from pyarrow import parquet

NUMBERS = [
    "order_id", "items", "points", "views", "margin", "uniform", "wait", "price", "weight", "share", "tail", "discount",
    "score", "margin_again", "two", "size",
]  # fmt: skip
TEXTS = ["colour", "shop", "article", "customer"]
HEAD = f"import sys, json, pandas\nNUM, CAT = {NUMBERS!r}, {TEXTS!r}\n" + (
    "ref, cur = (pandas.read_parquet(path, columns=NUM + CAT) for path in sys.argv[1:3])\n"
)
EVIDENTLY = (
    HEAD
    + """
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset
dd = DataDefinition(numerical_columns=NUM, categorical_columns=CAT)
made = Report([DataDriftPreset()]).run(Dataset.from_pandas(cur, data_definition=dd), Dataset.from_pandas(ref, data_definition=dd))
made.save_html(sys.argv[3])
"""
)
NANNYML = (
    HEAD
    + """
import nannyml as nml
calc = nml.UnivariateDriftCalculator(column_names=NUM + CAT, treat_as_categorical=CAT, chunk_number=10,
    continuous_methods=["kolmogorov_smirnov", "jensen_shannon"], categorical_methods=["chi2", "jensen_shannon"])
calc.fit(ref).calculate(cur).filter(period="analysis").plot(kind="drift").write_html(sys.argv[3])
"""
)
SCIPY = (
    HEAD
    + """
import numpy as np
from scipy import stats
found = {}
def psi(p, q): return float(np.sum((q - p) * np.log((q + 1e-6) / (p + 1e-6))))
for c in NUM:
    a, b = (np.sort(x[c].dropna().to_numpy(float)) for x in (ref, cur))
    both = np.concatenate([a, b])
    d = np.abs(np.searchsorted(a, both, side="right") / len(a) - np.searchsorted(b, both, side="right") / len(b)).max()
    edges = np.unique(a[np.linspace(0, len(a) - 1, 11).astype(int)])[1:-1]
    share = lambda s: np.diff(np.concatenate([[0], np.searchsorted(s, edges), [len(s)]])) / len(s)
    found[c] = [float(d), float(stats.kstwobign.sf(d * np.sqrt(len(a) * len(b) / (len(a) + len(b))))), psi(share(a), share(b))]
for c in CAT:
    t = pandas.concat([x[c].value_counts(dropna=False) for x in (ref, cur)], axis=1).fillna(0).to_numpy()
    found[c] = [float(v) for v in stats.chi2_contingency(t)[:2]] + [psi(*(t / t.sum(0)).T)]
open(sys.argv[3], "w").write(json.dumps(found))
"""
)


def make(path: Path, rows: int, seed: int, moved: bool) -> None:
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, writer, part = np.random.default_rng(seed), None, path.with_suffix(".part")
    for start in range(0, rows, CHUNK):
        some = chunk(rng, start, min(CHUNK, rows - start))
        if moved:
            columns = {name: some[name] for name in some.column_names}
            columns["margin"] = pa.array(np.asarray(some["margin"]) + 0.3)
            columns["wait"] = pa.array(np.asarray(some["wait"].fill_null(np.nan)) * 1.5, from_pandas=True)
            colours = np.asarray(some["colour"])
            columns["colour"] = pa.array(np.where(rng.random(len(colours)) < 0.1, "colour-4", colours))
            some = pa.table(columns)
        writer = writer or parquet.ParquetWriter(part, some.schema)
        writer.write_table(some)
    if writer is not None:
        writer.close()
        os.replace(part, path)


def from_sketches(first: Path, second: Path) -> tuple[float, list[str]]:
    """Seconds of reading two sketches and comparing them, the best of five, and what drifted."""
    from perron.drift import find_drift
    from perron.profile import sketch_of
    from perron.sketch import TableSketch

    raw = [sketch_of(str(path)).to_bytes() for path in (first, second)]
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        found = find_drift(*(TableSketch.from_bytes(data) for data in raw))
        taken.append(time.perf_counter() - started)
    return min(taken), [f"{drift.column} ({drift.kind})" for drift in found]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rows", type=int, default=1_000_000, help="rows of each table (default: 1,000,000)")
    options.add_argument("--no-slow", action="store_true", help="leave Evidently and NannyML out")
    given = options.parse_args()
    need(given.rows > 0 and given.rounds > 0, "--rows and --rounds must be at least 1")
    first, second = (CACHE / "data" / f"drift-{given.rows}-{name}.parquet" for name in ("before", "now"))
    for place, path in enumerate((first, second)):
        apart(make, path, given.rows, 11 + place, place == 1)
    with tempfile.TemporaryDirectory(prefix="drift-", dir=CACHE) as folder:
        out = str(Path(folder) / "out")
        commands = {
            "`perron drift`": [str(PERRON), "drift", str(first), str(second), "--json"],
            "SciPy, by hand (20 of the columns)": [
                str(peer_python("scipy", ["scipy", "numpy", "pandas", "pyarrow"])), "-c", SCIPY, str(first), str(second), out,
            ],
        }  # fmt: skip
        if not given.no_slow:
            slow = {
                "NannyML, two methods (20 of the columns)": (
                    ["nannyml", "pyarrow", "pandas<3", "statsmodels"],
                    "nannyml",
                    NANNYML,
                ),
                "Evidently, its preset (20 of the columns)": (
                    ["evidently", "pyarrow", "pandas<3"],
                    "evidently",
                    EVIDENTLY,
                ),
            }
            for label, (needs, name, script) in slow.items():
                commands[label] = [str(peer_python(name, needs)), "-c", script, str(first), str(second), out]
        found: dict[str, list[tuple[float, float, float]]] = {label: [] for label in commands}
        for number in range(given.rounds):
            for label, command in commands.items():
                if number == 0 or not label.startswith(("NannyML", "Evidently")):
                    found[label].append(measure(command))
    ours = median(cpu for _, cpu, _ in found["`perron drift`"])
    ours_wall = median(wall for wall, _, _ in found["`perron drift`"])
    rows = []
    for label, taken in found.items():
        wall, cpu, memory = (list(column) for column in zip(*taken, strict=True))
        rows.append([
            label, f"{median(wall):.2f}", f"{median(wall) / ours_wall:.1f}", f"{median(cpu):.2f}", f"{median(cpu) / ours:.1f}",
            f"{max(memory):.0f}",
        ])  # fmt: skip
    seconds, drifted = from_sketches(first, second)
    print(f"{about()}; 2 × {given.rows:,} rows × 24; {given.rounds} rounds; load {os.getloadavg()[0]:.1f}\n", file=sys.stdout)  # fmt: skip
    print(table(["whole process", "median s", "× Perron", "CPU s", "× Perron", "peak memory MB"], rows))
    print(f"\nFrom the two sketches, read and compared in a process that runs: {seconds * 1000:.0f} ms. Drifted: {', '.join(drifted)}.")  # fmt: skip


if __name__ == "__main__":
    main()
