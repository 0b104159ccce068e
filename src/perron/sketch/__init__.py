"""Rows in, one pass; mergeable summaries of bounded size out: profile, reference, live window and drift all use these.

    sketch = TableSketch(["age", "city"])
    sketch.update(record_batch)                       # Arrow
    sketch.update_columns({"age": array, "city": …})  # NumPy
    whole = merge(sketch, another)
    TableSketch.from_bytes(whole.to_bytes())

Needs NumPy and msgspec; pyarrow only where Arrow data is given, pandas never. What stays
of the data: the most frequent values, the quantiles' support, extremes, and a bounded sample of rows; of a
sensitive column nothing but counts.

Within what error a sketch answers, after any order of chunks and merges:

- counts, nulls, extremes, zeros, lengths, calendar counts: exact; moments: to rounding
- distinct: exact up to `DISTINCT_KEPT`, then a standard error of 1.6 %
- frequent values: exact up to `TOP_KEPT` different ones, then each count is too low by at most `error`
- quantiles: a rank error of 0.9 % (99 % of the time); the same for the same chunks in the same order
"""

from perron.sketch.column import ColumnSketch
from perron.sketch.parts import DISTINCT_KEPT, TOP_KEPT, Distinct, Moments, Times, TopK
from perron.sketch.table import FORMAT, Sample, TableSketch, merge

__all__ = [
    "ColumnSketch", "DISTINCT_KEPT", "Distinct", "FORMAT", "Moments", "Sample", "TOP_KEPT", "TableSketch", "Times",
    "TopK", "merge",
]  # fmt: skip
