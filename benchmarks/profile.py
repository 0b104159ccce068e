"""A table's profile as a page, beside skrub's TableReport and beside Polars and DuckDB computing statistics alone.

With --usual also fg-data-profiling (the former ydata-profiling), minimal and full, which takes minutes.

Whole processes, start and imports included, on one Parquet file made here: 24 columns of floats, whole numbers,
categories of 5 to 50,000 values, dates, text and gaps. Rounds take turns (A B C A B C); figures are medians.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from common import CACHE, PERRON, about, apart, data_option, measure, median, need, parser, peer_python, table
from pyarrow import parquet

CHUNK = 250_000
SKRUB = """
import sys, pandas
from skrub import TableReport
report = TableReport(pandas.read_parquet(sys.argv[1]), verbose=0)
report.write_html(sys.argv[2])
"""
USUAL = """
import sys, pandas
from data_profiling import ProfileReport
frame = pandas.read_parquet(sys.argv[1])
ProfileReport(frame, title="bench", minimal=sys.argv[3] == "minimal", progress_bar=False).to_file(sys.argv[2])
"""
POLARS = """
import sys, polars as pl
frame = pl.read_parquet(sys.argv[1])
number, text = pl.selectors.numeric(), pl.selectors.string()
frame.select(pl.all().null_count()); frame.select(pl.all().n_unique())
frame.select(number.mean(), number.std().name.suffix("s"), number.skew().name.suffix("k"), number.min().name.suffix("l"), number.max().name.suffix("h"))
for q in (.05, .25, .5, .75, .95): frame.select(number.quantile(q))
for column in frame.select(text).columns: frame[column].value_counts(sort=True).head(10)
for column in frame.select(number).columns: frame[column].drop_nans().hist(bin_count=30)
frame.select(text.str.len_chars().mean())
"""
DUCKDB = """
import sys, duckdb
duckdb.sql(f"SUMMARIZE SELECT * FROM read_parquet('{sys.argv[1]}')").fetchall()
"""


def chunk(rng: np.random.Generator, start: int, rows: int) -> pa.Table:
    """Rows of a shop's orders, made up."""

    def few(values: int, word: str) -> pa.Array:
        codes = np.minimum((values * rng.random(rows) ** 3).astype(np.int64), values - 1)
        labels = pa.array([f"{word}{n}" for n in range(values)])
        return labels.take(pa.array(codes))

    def gaps(values: np.ndarray, share: float) -> pa.Array:
        return pa.array(values, mask=rng.random(rows) < share)

    normal, second = rng.normal(size=rows), rng.integers(0, 94_000_000, rows)
    words = [f"w{n:x}" for n in rng.integers(0, 9999, 3000)]
    picked, lengths = rng.integers(0, 3000, rows * 15).tolist(), rng.integers(3, 15, rows).tolist()
    notes = [" ".join([words[n] for n in picked[i * 15 : i * 15 + k]]) for i, k in enumerate(lengths)]
    moment = np.datetime64("2022-06-01T00:00:00", "us")
    return pa.table(
        {
            "order_id": np.arange(start, start + rows), "items": rng.poisson(3, rows), "points": rng.integers(0, 10, rows),
            "views": (rng.pareto(2, rows) * 50).astype(np.int64), "margin": normal, "uniform": rng.random(rows),
            "wait": gaps(rng.exponential(1, rows), 0.05), "price": gaps(np.round(rng.lognormal(3, 1, rows), 2), 0.02),
            "weight": rng.gamma(3, 2, rows), "share": gaps(rng.beta(2, 5, rows), 0.1), "tail": rng.standard_t(2, rows),
            "discount": np.where(rng.random(rows) < 0.8, 0, rng.random(rows)), "score": gaps(rng.normal(50, 9, rows), 0.6),
            "margin_again": 0.8 * normal + 0.6 * rng.normal(size=rows), "two": rng.normal(rng.choice([-3, 3], rows), 1),
            "size": rng.lognormal(1, 0.8, rows), "colour": few(5, "colour-"), "shop": few(100, "shop-"),
            "article": few(5_000, "article-"), "customer": few(50_000, "customer-"),
            "ordered": moment + second.astype("m8[s]"),
            "sent": gaps(moment + (second + rng.exponential(6e5, rows).astype(np.int64)).astype("m8[s]"), 0.05),
            "note": notes, "version": pa.array(["v1"] * rows),
        }
    )  # fmt: skip


def make(path: Path, rows: int) -> None:
    """A file with so many rows; one that is there is kept."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng, writer = np.random.default_rng(11), None
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            for start in range(0, rows, CHUNK):
                made = chunk(rng, start, min(CHUNK, rows - start))
                writer = writer or parquet.ParquetWriter(Path(folder) / "new", made.schema, compression="zstd")
                writer.write_table(made)
            need(writer is not None, "--rows must be at least 1")
            assert writer is not None
            writer.close()
            os.replace(Path(folder) / "new", path)


def main() -> None:
    options = parser(__doc__)
    data_option(options)
    options.add_argument("--rows", type=int, default=1_000_000, help="rows of the made table (default: 1,000,000)")
    options.add_argument("--usual", action="store_true", help="measure fg-data-profiling too, minimal and full")
    options.add_argument("--no-peers", action="store_true", help="measure Perron alone")
    given = options.parse_args()
    path = CACHE / "data" / f"orders-{given.rows}.parquet"
    apart(make, path, given.rows)
    with tempfile.TemporaryDirectory(prefix="profile-", dir=CACHE) as folder:
        page = str(Path(folder) / "page.html")
        commands = {"`perron profile`, to a page": [str(PERRON), "profile", str(path), "-o", page]}
        if given.data.is_file():
            commands["`perron profile` of housing, 20,640 × 10"] = [str(PERRON), "profile", str(given.data), "-o", page]
        if not given.no_peers:
            skrub = str(peer_python("skrub", ["skrub", "pandas", "pyarrow", "matplotlib"]))
            polars = str(peer_python("polars", ["polars"]))
            duckdb = str(peer_python("duckdb", ["duckdb"]))
            commands["skrub TableReport, to a page"] = [skrub, "-c", SKRUB, str(path), page]
            if given.usual:
                usual = str(peer_python("fg-data-profiling", ["fg-data-profiling", "pyarrow"]))
                commands["fg-data-profiling, minimal"] = [usual, "-c", USUAL, str(path), page, "minimal"]
                commands["fg-data-profiling, full"] = [usual, "-c", USUAL, str(path), page, "full"]
            commands["Polars, the statistics alone"] = [polars, "-c", POLARS, str(path)]
            commands["DuckDB SUMMARIZE, alone"] = [duckdb, "-c", DUCKDB, str(path)]
        found: dict[str, list[tuple[float, float, float]]] = {label: [] for label in commands}
        sizes = {}
        for _ in range(given.rounds):
            for label, command in commands.items():
                Path(page).unlink(missing_ok=True)
                found[label].append(measure(command))
                sizes[label] = f"{Path(page).stat().st_size / 1e6:.2f}" if Path(page).exists() else "–"
        need(all(found.values()), "no round was measured; give --rounds of at least 1")
    rows = []
    for label, taken in found.items():
        wall, cpu, memory = (list(column) for column in zip(*taken, strict=True))
        rows.append(
            [
                label,
                f"{median(wall):.2f}",
                f"{min(wall):.2f}–{max(wall):.2f}",
                f"{median(cpu):.2f}",
                f"{max(memory):.0f}",
                sizes[label],
            ]
        )
    print(
        f"{about()}; {given.rows:,} rows × 24; {given.rounds} rounds; load {os.getloadavg()[0]:.1f}\n", file=sys.stdout
    )
    print(table(["whole process", "median s", "spread s", "CPU s", "peak memory MB", "page MB"], rows))


if __name__ == "__main__":
    main()
