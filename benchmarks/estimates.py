"""Estimates of performance before outcomes, held to the outcomes that came later: what docs/monitoring.md tells.

Numbers (DLE): a project that `perron demo drift` left, month by month, and California housing by its regions. Classes
(CBPE): scikit-learn's handwritten digits with noise, of which the calibration saw up to 0.3, and some digits alone.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import PERRON, TARGET, need, run, table

from perron.estimate import Estimate, expected_accuracy, fit_calibration
from perron.monitor import Monitor
from perron.project import Project
from perron.sketch import TableSketch
from perron.windows import columns_of, empty_sketch, merged, read_windows


def _shown(name: str, rows: int, told: Estimate, truth: float, before: float) -> list[object]:
    inside = "yes" if told.low <= truth <= told.high else "no"
    digits = ".3f" if told.metric == "accuracy" else ".1f"
    return [
        name, f"{rows:,}", f"{told.value:{digits}}", f"{told.low:{digits}}–{told.high:{digits}}", f"{truth:{digits}}", inside,
        f"{before:{digits}}",
    ]  # fmt: skip


def of_replay(folder: Path) -> Iterator[list[object]]:
    """The months of a replay that were answered by each version: estimated, and as outcomes tell."""
    project = Project.open(folder)
    for version in sorted(int(row["version"]) for row in project.ledger.list_versions("demand")):
        monitor = Monitor(project, "demand", version)
        months: dict[str, list[TableSketch]] = {}
        for key, sketch in read_windows(folder / ".perron" / "windows", "demand", version=version).items():
            months.setdefault(f"{key.hour:%Y-%m}", []).append(sketch)
        monitor.performance.update()
        for month, sketches in months.items():
            told = monitor.estimate(merged(sketches))
            days = monitor.performance.by_day("demand", version, since=f"{month}-01", until=f"{month}-32")
            n, total = sum(day.losses.n for day in days), sum(day.losses.absolute for day in days)
            if told is not None and n:
                yield _shown(f"bikes, {month}, version {version}", n, told, total / n, monitor.bundle.manifest["metrics"]["mae"])  # fmt: skip


def of_housing(data: Path, folder: Path) -> Iterator[list[object]]:
    """Rows that the model was neither fitted nor tested on, by place."""
    import pandas

    frame = pandas.read_csv(data).sample(frac=1.0, random_state=0)
    frame[:12_000].to_csv(folder / "known.csv", index=False)
    run([str(PERRON), "init", "houses", "--from", str(folder / "known.csv"), "--target", TARGET, "--no-git"], folder)
    run([str(PERRON), "run"], folder / "houses")
    project = Project.open(folder / "houses")
    monitor = Monitor(project, "houses")
    bundle = monitor.bundle
    rest = frame[12_000:]
    parts = {"all": rest, **{str(place): some for place, some in rest.groupby("ocean_proximity") if len(some) > 200}}
    for place, some in parts.items():
        rows = [{k: v for k, v in row.items() if v == v} for row in some.drop(columns=TARGET).to_dict("records")]
        feed = bundle.packer([tuple(row.get(f.name) for f in bundle.schema.request) for row in rows])
        values, _ = bundle.run(feed)
        window = empty_sketch(bundle.schema, is_number=True, has_confidence=False)
        window.update_columns(columns_of(bundle.schema, feed, np.asarray(values).tolist(), None))
        told = monitor.estimate(window)
        truth = float(np.abs(np.asarray(values).ravel() - some[TARGET].to_numpy()).mean())
        if told is not None:
            yield _shown(f"housing, {place}", len(some), told, truth, bundle.manifest["metrics"]["mae"])


def of_digits() -> Iterator[list[object]]:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x, y = load_digits(return_X_y=True)
    order = rng.permutation(len(x))
    train, test, later = order[:700], order[700:1200], order[1200:]
    model = LogisticRegression(max_iter=2000).fit(x[train] / 16, y[train])

    def confidence(rows: Any) -> tuple[Any, Any]:
        shares = model.predict_proba(rows)
        return shares.max(axis=1), model.classes_[shares.argmax(axis=1)]

    noisy = np.repeat(x[test] / 16, 4, axis=0)  # the test rows as they are and a little noisy: what is known beforehand
    noisy = noisy + rng.normal(size=noisy.shape) * np.tile([0.0, 0.1, 0.2, 0.3], len(test))[:, None]
    sure, told_as = confidence(noisy)
    right = told_as == np.repeat(y[test], 4)
    calibration = fit_calibration(sure.tolist(), right.tolist())
    easy = np.isin(y[later], (0, 4, 6))
    windows = {f"noise {noise:g}": (later, noise) for noise in (0.0, 0.1, 0.2, 0.3, 0.5)}
    windows |= {"0, 4 and 6 alone": (later[easy], 0.2), "the others alone": (later[~easy], 0.2)}
    for name, (kept, noise) in windows.items():
        sure, told_as = confidence(x[kept] / 16 + noise * rng.normal(size=(len(kept), x.shape[1])))
        window = TableSketch(["confidence"])
        window.update_columns({"confidence": sure})
        told = expected_accuracy(calibration, window.columns["confidence"])
        if told is not None:
            truth = float((told_as == y[kept]).mean())
            yield _shown(f"digits, {name}", len(kept), told, truth, float(right.mean()))


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    given.add_argument("--replay", type=Path, help="a folder that `perron demo drift` wrote")
    given.add_argument("--data", type=Path, help="California housing as CSV")
    options = given.parse_args()
    rows: list[list[object]] = []
    if options.replay is not None:
        need((options.replay / ".perron").is_dir(), f"there is no project in {options.replay}")
        rows += of_replay(options.replay)
    if options.data is not None:
        need(options.data.is_file(), f"there is no {options.data}")
        with tempfile.TemporaryDirectory() as folder:
            rows += of_housing(options.data, Path(folder))
    rows += of_digits()
    heads = ["window", "rows", "estimated", "its interval", "as outcomes told", "inside", "on the test rows"]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
