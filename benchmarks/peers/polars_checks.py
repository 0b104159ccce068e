"""The ten checks of benchmarks/checks.py by hand, on Polars: polars_checks.py TABLE.parquet|TABLE.csv

One lazy query a rule set, as a person who knows Polars would write it: how many rows break each rule, and which.
"""

import datetime as dt
import sys

import polars as pl

c = pl.col
broken = {
    "i_id": c.i_id.is_null() | ~c.i_id.is_first_distinct(),
    "f_normal": c.f_normal.is_null() | ~c.f_normal.is_finite(),
    "f_uniform": c.f_uniform.is_null() | ~c.f_uniform.is_between(0, 1),
    "f_gamma": c.f_gamma.is_null() | ~(c.f_gamma > 0) | ~c.f_gamma.is_finite(),
    "i_small": c.i_small.is_null() | ~c.i_small.is_between(0, 9),
    "c5": c.c5.is_null() | ~c.c5.is_in(["red", "green", "blue", "amber", "violet"]),
    "c100": c.c100.is_null() | ~c.c100.str.contains(r"^k\d{3}$"),
    "k_const": c.k_const.is_null() | (c.k_const != "v1"),
    "d_created": c.d_created.is_null() | ~c.d_created.is_between(dt.datetime(2023, 1, 1), dt.datetime(2026, 1, 1)),
    "t_note": c.t_note.is_null() | ~c.t_note.str.len_chars().is_between(1, 200),
}
path = sys.argv[1]
table = pl.read_csv(path, try_parse_dates=True) if path.endswith(".csv") else pl.read_parquet(path)
masks = table.select(**broken)
print(masks.sum())
bad = table.filter(masks.select(pl.any_horizontal(pl.all())).to_series())
print(bad.height, "rows are bad")
for name in broken:
    print(name, table.filter(masks[name]).head(3).rows())
