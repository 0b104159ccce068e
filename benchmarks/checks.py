"""Ten checks over 1,000,000 rows of Parquet, whole processes: `perron check` beside pandera on Polars.

Both read the same file, in which five of the checks are broken by known rows. Every process is started
once before it is measured; rounds take turns, figures are medians.
"""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from common import CACHE, PERRON, about, median, parser, peer_python, run, table, timed
from pyarrow import parquet

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


system = pn.System("checks", Row, source="rows.parquet", checks=[rules.unique("i_id")])
"""


def make_rows(path: Path, rows: int) -> None:
    """A table with defects in known rows."""
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
    parquet.write_table(pa.table(columns), path)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1_000_000)
    given = made.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="checks-", dir=CACHE) as folder:
        work = Path(folder)
        make_rows(work / "rows.parquet", given.rows)
        (work / "system.py").write_text(SYSTEM)
        python = peer_python("pandera-polars", ["pandera[polars]", "pyarrow"])
        contenders = {
            "`perron check`": [str(PERRON), "check"],
            "pandera on Polars": [str(python), str(PEERS / "pandera_polars.py"), "rows.parquet"],
        }
        for command in contenders.values():
            print(run(command, work))
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(given.rounds):
            for name, command in contenders.items():
                times[name].append(timed(command, work))
    first = median(times["`perron check`"])
    print(
        table(["", "seconds", "ratio"], [[n, f"{median(t):.2f}", f"{median(t) / first:.2f}"] for n, t in times.items()])
    )
    print(f"\n{given.rows:,} rows; {about()}")


if __name__ == "__main__":
    main()
