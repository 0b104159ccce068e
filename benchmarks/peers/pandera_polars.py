"""The ten checks of benchmarks/checks.py by pandera on Polars: pandera_polars.py TABLE.parquet|TABLE.csv"""

import datetime as dt
import sys

import pandera.polars as pa
import polars as pl

C, K = pa.Column, pa.Check
schema = pa.DataFrameSchema(
    {
        "i_id": C(pl.Int64, unique=True),
        "f_normal": C(pl.Float64, nullable=False),
        "f_uniform": C(pl.Float64, K.in_range(0, 1)),
        "f_gamma": C(pl.Float64, K.gt(0)),
        "i_small": C(pl.Int64, K.isin(list(range(10)))),
        "c5": C(pl.String, K.isin(["red", "green", "blue", "amber", "violet"])),
        "c100": C(pl.String, K.str_matches(r"^k\d{3}$")),
        "k_const": C(pl.String, K.eq("v1")),
        "d_created": C(pl.Datetime("us"), K.in_range(dt.datetime(2023, 1, 1), dt.datetime(2026, 1, 1))),
        "t_note": C(pl.String, K.str_length(1, 200)),
    }
)
path = sys.argv[1]
try:
    table = pl.read_csv(path, try_parse_dates=True) if path.endswith(".csv") else pl.read_parquet(path)
    schema.validate(table, lazy=True)
except pa.errors.SchemaErrors as error:
    print(error.failure_cases.group_by("column", "check").len().sort("column"))
