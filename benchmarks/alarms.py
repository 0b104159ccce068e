"""Alarms where nothing moved, and how soon they come where something did: what docs/monitoring.md tells.

False alarms: windows of rows drawn from the reference's own distributions (normal, skewed, heavy tails, gaps, whole
numbers, categories of 5 to 5,000 values, truth values), so that every finding is false. Delay: batches of 25 rows with a
planted drift are added up until `find_drift` names the column.
"""

import sys
import time

import numpy as np
from common import need, table

from perron.drift import find_drift
from perron.sketch import TableSketch, merge

REFERENCE_ROWS = 50_000
WINDOW_ROWS = (50, 200, 1000, 5000)
STEP_ROWS, MOST_ROWS = 25, 3000


def rows(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A table of twelve columns."""

    def few(values: int) -> np.ndarray:
        return np.array([f"v{n}" for n in (values * rng.random(count) ** 2).astype(int)], object)

    return {
        "normal": rng.normal(size=count), "skewed": rng.lognormal(0, 1, count), "tails": rng.standard_t(2, count),
        "gaps": np.where(rng.random(count) < 0.2, np.nan, rng.normal(size=count)), "uniform": rng.random(count),
        "digits": rng.integers(0, 10, count).astype(float), "counts": rng.poisson(3, count).astype(float),
        "zeros": np.where(rng.random(count) < 0.8, 0.0, rng.random(count)), "five": few(5), "hundred": few(100),
        "many": few(5000), "flag": rng.random(count) < 0.3,
    }  # fmt: skip


def sketch(columns: dict[str, np.ndarray]) -> TableSketch:
    made = TableSketch(list(columns))
    made.update_columns(columns)
    return made


def shift(sizes: float) -> object:
    return lambda c, rng: {**c, "normal": c["normal"] + sizes}


def lose(share: float) -> object:
    return lambda c, rng: {**c, "normal": np.where(rng.random(len(c["normal"])) < share, np.nan, c["normal"])}


def swap(points: float) -> object:
    """Moves a share of the most frequent of five values to the rarest."""

    def moved(c: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
        first = c["five"] == "v0"
        return {**c, "five": np.where(first & (rng.random(len(first)) < points / 0.447), "v4", c["five"])}

    return moved


def fresh(share: float) -> object:
    return lambda c, rng: {**c, "five": np.where(rng.random(len(c["five"])) < share, "new", c["five"])}


def scale(factor: float) -> object:
    return lambda c, rng: {**c, "skewed": c["skewed"] * factor}


PLANTED = {
    "a mean moved by 0.3 standard deviations": ("normal", "distribution", shift(0.3)),
    "by 0.5": ("normal", "distribution", shift(0.5)),
    "by 1": ("normal", "distribution", shift(1.0)),
    "by 2": ("normal", "distribution", shift(2.0)),
    "10 of 100 rows moved between two of five values": ("five", "distribution", swap(0.10)),
    "20 of 100": ("five", "distribution", swap(0.20)),
    "a new value in 2 % of the rows": ("five", "new_values", fresh(0.02)),
    "in 10 %": ("five", "new_values", fresh(0.10)),
    "5 % missing, where nothing was": ("normal", "missing", lose(0.05)),
    "20 %": ("normal", "missing", lose(0.20)),
    "another unit: × 1,000": ("skewed", "unit", scale(1000.0)),
    "÷ 100": ("skewed", "unit", scale(0.01)),
}  # fmt: skip


def false_alarms(windows: int) -> str:
    found = []
    for count in WINDOW_ROWS:
        alarmed = columns = 0
        for seed in range(windows):
            if seed % 50 == 0:  # the reference is a draw of chance too
                reference = sketch(rows(REFERENCE_ROWS, np.random.default_rng([1, seed])))
            drifts = find_drift(reference, sketch(rows(count, np.random.default_rng([2, count, seed]))))
            alarmed += bool(drifts)
            columns += len({drift.column for drift in drifts})
        found.append(
            [f"{count:,}", f"{windows:,}", f"{windows * 12:,}", alarmed, f"{alarmed / windows:.2%}", f"{columns / windows / 12:.3%}"]
        )  # fmt: skip
    return table(["rows in a window", "windows", "columns judged", "windows with an alarm", "of windows", "of columns"], found)  # fmt: skip


def delays(repeats: int) -> str:
    reference = sketch(rows(REFERENCE_ROWS, np.random.default_rng(1)))
    found = []
    for label, (column, kind, plant) in PLANTED.items():
        taken, missed = [], 0
        for seed in range(repeats):
            rng = np.random.default_rng([3, seed])
            window = None
            for count in range(STEP_ROWS, MOST_ROWS + 1, STEP_ROWS):
                more = sketch(plant(rows(STEP_ROWS, rng), rng))  # type: ignore[operator]
                window = more if window is None else merge(window, more)
                if any((d.column, d.kind) == (column, kind) for d in find_drift(reference, window)):
                    taken.append(count)
                    break
            else:
                missed += 1
        middle = f"{int(np.median(taken)):,}" if taken else "–"
        worst = f"{int(np.percentile(taken, 95)):,}" if taken else "–"
        found.append([label, kind.replace("_", " "), middle, worst, f"{missed} of {repeats}"])
    return table(["planted", "found as", "rows until found, median", "95 % within", f"not in {MOST_ROWS:,} rows"], found)  # fmt: skip


def main() -> None:
    import argparse

    given = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    given.add_argument("--windows", type=int, default=1000, help="undrifted windows of each size (default: 1,000)")
    given.add_argument("--repeats", type=int, default=20, help="how often each drift is planted (default: 20)")
    options = given.parse_args()
    need(options.windows > 0 and options.repeats > 0, "--windows and --repeats must be at least 1")
    started = time.perf_counter()
    print(f"Nothing moved, against {REFERENCE_ROWS:,} rows, twelve columns:\n\n{false_alarms(options.windows)}\n")
    print(f"Something moved:\n\n{delays(options.repeats)}\n")
    print(f"{time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
