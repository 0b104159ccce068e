"""Ten checks over 1,000,000 rows, whole processes: `perron check` beside Polars by hand and pandera on Polars.

All read the same file, in which five of the checks are broken by known rows: few of them, or (--bad) half of all.
Every process is started once before it is measured; rounds take turns, figures are medians, ratios are formed within
a round.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from common import CACHE, PERRON, about, apart, measure, median, need, parser, peer_python, run, table
from pyarrow import csv, parquet

PEERS = Path(__file__).parent / "peers"
SYSTEM = r"""
from datetime import datetime
from typing import Annotated, Literal

import perron as pn
from perron import rules


class Row(pn.Contract):
    i_id: Annotated[int, pn.Id]
    f_normal: Annotated[float, pn.Target]
    f_uniform: Annotated[float, pn.Ge(0), pn.Le(1)]
    f_gamma: Annotated[float, pn.Gt(0)]
    i_small: Annotated[int, pn.Ge(0), pn.Le(9)]
    c5: Literal["red", "green", "blue", "amber", "violet"]
    c100: Annotated[str, pn.Pattern(r"k\d{3}")]
    k_const: Literal["v1"]
    d_created: Annotated[datetime, pn.Ge(datetime(2023, 1, 1)), pn.Le(datetime(2026, 1, 1))]
    t_note: Annotated[str, pn.Len(1, 200)]


system = pn.System("checks", Row, source="ROWS", max_bad_share=0.9, checks=[rules.unique("i_id")])
"""


def make_rows(path: Path, rows: int, bad: bool) -> None:
    """A table with defects in known rows; with `bad` in about half of all."""
    r = np.random.default_rng(0)
    words = np.array(["".join(r.choice(list("etaoinshr"), k)) for k in r.integers(2, 10, 2000)], object)
    columns = {
        "i_id": np.arange(rows),
        "f_normal": r.normal(0, 1, rows),
        "f_uniform": r.random(rows),
        "f_gamma": r.gamma(3, 2, rows),
        "i_small": r.integers(0, 10, rows),
        "c5": np.array(["red", "green", "blue", "amber", "violet"], object)[r.integers(0, 5, rows)],
        "c100": np.array([f"k{i:03d}" for i in range(100)], object)[r.integers(0, 100, rows)],
        "k_const": np.full(rows, "v1", object),
        "d_created": np.datetime64("2023-01-01", "us") + r.integers(0, 3 * 365 * 86_400, rows).astype("timedelta64[s]"),
        "t_note": [" ".join(w) for w in words[r.integers(0, 2000, (rows, 6))].tolist()],
    }
    columns["f_uniform"][:500] = 1.5
    columns["f_gamma"][1000:1300] = -1
    columns["i_small"][500:590] = 77
    columns["c100"][600:650] = "bad"
    columns["i_id"][2000:2050] = columns["i_id"][3000:3050]
    if bad:
        for name, value in (("f_uniform", 1.5), ("f_gamma", -1), ("i_small", 77), ("c5", "pink"), ("c100", "bad")):
            columns[name][r.random(rows) < 0.13] = value
    made = pa.table(columns)
    (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(made, path)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--csv", action="store_true", help="a CSV file in place of a Parquet file")
    made.add_argument("--bad", action="store_true", help="half of the rows break a rule")
    given = made.parse_args()
    need(given.rounds > 0, "give --rounds of at least 1")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="checks-", dir=CACHE) as folder:
        work = Path(folder)
        name = "rows.csv" if given.csv else "rows.parquet"
        apart(make_rows, work / name, given.rows, given.bad)
        (work / "system.py").write_text(SYSTEM.replace("ROWS", name))
        polars, pandera = (
            str(peer_python(peer, packages))
            for peer, packages in (("polars", ["polars"]), ("pandera-polars", ["pandera[polars]", "pyarrow"]))
        )
        contenders = {
            "Polars, by hand": [polars, str(PEERS / "polars_checks.py"), name],
            "`perron check`": [str(PERRON), "check"],
            "pandera on Polars": [pandera, str(PEERS / "pandera_polars.py"), name],
        }
        for command in contenders.values():
            print(run(command, work))
        found: dict[str, list[tuple[float, float, float]]] = {label: [] for label in contenders}
        for _ in range(given.rounds):
            for label, command in contenders.items():
                found[label].append(measure(command, work))
    floor = [wall for wall, _, _ in found["Polars, by hand"]]
    rows = []
    for label, taken in found.items():
        wall, cpu, memory = (list(column) for column in zip(*taken, strict=True))
        ratio = median(mine / its for mine, its in zip(wall, floor, strict=True))
        spread = f"{min(wall):.2f}–{max(wall):.2f}"
        rows.append([label, f"{median(wall):.2f}", spread, f"{ratio:.2f}", f"{median(cpu):.2f}", f"{max(memory):.0f}"])
    print(table(["whole process", "median s", "spread s", "× Polars", "CPU s", "peak memory MB"], rows))
    print(f"\n{given.rows:,} rows, {name}; {about()}; {given.rounds} rounds; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
