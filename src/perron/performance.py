"""Outcomes and the predictions that they belong to in; how well each version did, day by day, out.

Outcomes are joined to their predictions once, as they come, in a small database beside the log
(`.perron/monitor.db`), and added up by day, so that asking takes milliseconds however many there
are. It can be deleted at any time: it is made anew from the log and the ledger.
"""

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from perron.errors import LedgerError, NotFound
from perron.ledger import Ledger
from perron.predictions import Recorded, find, iterate
from perron.sqlite import connect

__all__ = ["Losses", "Performance", "Period"]

FILE = "monitor.db"
FORMAT = 1
FEW = 500  # outcomes whose predictions are looked up one by one; for more the log is read once
BATCH = 20_000
Z95 = 1.959964
_TABLES = """
CREATE TABLE IF NOT EXISTS joined (
    prediction TEXT PRIMARY KEY, model TEXT, version INTEGER, route TEXT, time TEXT, day TEXT,
    known TEXT, value TEXT, outcome TEXT, squared REAL, absolute REAL, log_loss REAL, is_right INTEGER, slices TEXT
);
CREATE INDEX IF NOT EXISTS joined_by_time ON joined (model, version, time);
CREATE TABLE IF NOT EXISTS days (
    model TEXT, version INTEGER, route TEXT, day TEXT, slice TEXT, n INTEGER, squared REAL, squared2 REAL,
    absolute REAL, absolute2 REAL, log_loss REAL, log_loss2 REAL, is_right INTEGER, delay_s REAL,
    PRIMARY KEY (model, version, route, day, slice)
);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
"""


@dataclass(frozen=True)
class Losses:
    """What a set of predictions with outcomes lost, added up; merge by `+`."""

    n: int = 0
    squared: float = 0.0
    squared2: float = 0.0
    absolute: float = 0.0
    absolute2: float = 0.0
    log_loss: float = 0.0
    log_loss2: float = 0.0
    right: int = 0
    delay_s: float = 0.0

    def __add__(self, other: "Losses") -> "Losses":
        return Losses(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def metric(self, name: str) -> tuple[float, float, float] | None:
        """`rmse`, `mae`, `accuracy` or `log_loss` with its interval (95 %, by the spread of the losses); None without outcomes."""
        if not self.n:
            return None
        n = self.n
        if name == "accuracy":
            p = self.right / n
            middle, half = (p + Z95**2 / (2 * n)), Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
            low, high = (middle - half) / (1 + Z95**2 / n), (middle + half) / (1 + Z95**2 / n)
            return p, max(0.0, low), min(1.0, high)
        total, squares = {
            "rmse": (self.squared, self.squared2), "mae": (self.absolute, self.absolute2),
            "log_loss": (self.log_loss, self.log_loss2),
        }[name]  # fmt: skip
        mean = total / n
        half = Z95 * math.sqrt(max(squares / n - mean * mean, 0.0) / n)
        low, high = max(0.0, mean - half), mean + half
        return (math.sqrt(mean), math.sqrt(low), math.sqrt(high)) if name == "rmse" else (mean, low, high)


@dataclass(frozen=True)
class Period:
    """The outcomes of a day's predictions."""

    day: str
    losses: Losses

    @property
    def mean_delay_s(self) -> float | None:
        """How long outcomes took to come, on average."""
        return self.losses.delay_s / self.losses.n if self.losses.n else None


class Performance:
    """The joined outcomes of a project. Safe for several processes.

    Args:
        folder: `.perron`.
        ledger: for outcomes.
        log_folder: of the prediction log.
        slices: the fields by whose values performance is told apart, by model.
    """

    def __init__(
        self, folder: Path, ledger: Ledger, log_folder: Path, slices: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._path, self._ledger, self._log = folder / FILE, ledger, log_folder
        self._slices = {model: list(names) for model, names in (slices or {}).items()}

    @contextmanager
    def _open(self, *, writes: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            with closing(connect(self._path, "NORMAL")) as database:
                if writes:
                    database.execute("BEGIN IMMEDIATE")
                for statement in _TABLES.strip().split(";\n"):
                    if statement.strip(" ;\n"):
                        database.execute(statement)
                yield database
                if writes:
                    database.execute("COMMIT")
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path} failed: {error}; delete it, it is made anew.") from error

    def update(self) -> int:
        """How many new outcomes were joined. What has no prediction in the log is passed over.

        Raises:
            LedgerError: the database can't be read or written.
        """
        count = 0
        while True:
            with self._open(writes=True) as database:
                setting = json.dumps([FORMAT, self._slices], sort_keys=True)
                if _fact(database, "setting") not in (None, setting):  # other slices: everything is joined again
                    for table in ("joined", "days", "facts"):
                        database.execute(f"DELETE FROM {table}")
                last = int(_fact(database, "last") or 0)
                rows = self._ledger.outcomes_after(last, "", BATCH)
                for row in self._join(rows):
                    self._put(database, *row)
                    count += 1
                if rows:
                    _set_fact(database, "last", str(rows[-1]["id"]))
                _set_fact(database, "setting", setting)
            if len(rows) < BATCH:
                return count

    def _join(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Recorded, Any, str]]:
        newest = {row["prediction"]: row for row in rows}
        if len(newest) <= FEW:
            found: Iterator[Recorded] = self._found(newest)
        else:
            found = (recorded for recorded in iterate(self._log) if recorded.id in newest)
        for recorded in found:
            yield recorded, newest[recorded.id]["value"], newest[recorded.id]["time"]

    def _found(self, wanted: Mapping[str, Any]) -> Iterator[Recorded]:
        for prediction in wanted:
            try:
                yield find(self._log, prediction)
            except NotFound:
                continue

    def _put(self, database: sqlite3.Connection, recorded: Recorded, outcome: Any, known: str) -> None:
        """Counts an outcome; a correction first takes back what it corrects."""
        model = recorded.header["model"]
        squared, absolute, log_loss, right = _losses(recorded, outcome)
        slices = [
            f"{name}={recorded.input[name]}"
            for name in self._slices.get(model, ())
            if recorded.input.get(name) is not None
        ]
        before = database.execute(
            "SELECT version, route, day, squared, absolute, log_loss, is_right, time, known, slices FROM joined WHERE prediction = ?",
            (recorded.id,),
        ).fetchone()
        if before is not None:
            version, route, day, *lost, is_right, time, was_known, was = before
            self._add(
                database, model, version, route, day, json.loads(was), lost, is_right, _delay(time, was_known), -1
            )
        day, version = recorded.time[:10], recorded.header["version"]
        self._add(
            database,
            model,
            version,
            recorded.route,
            day,
            slices,
            (squared, absolute, log_loss),
            right,
            _delay(recorded.time, known),
            1,
        )
        database.execute(
            "INSERT OR REPLACE INTO joined VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (recorded.id, model, version, recorded.route, recorded.time, day, known, json.dumps(recorded.value),
             json.dumps(outcome), squared, absolute, log_loss, right, json.dumps(slices)),
        )  # fmt: skip

    @staticmethod
    def _add(
        database: sqlite3.Connection, model: str, version: int, route: str, day: str, slices: Sequence[str],
        lost: Sequence[float], right: int, delay_s: float, sign: int,
    ) -> None:  # fmt: skip
        a, b, c = lost
        for part in ("", *slices):
            database.execute(
                "INSERT INTO days VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
                "n = n + excluded.n, squared = squared + excluded.squared, squared2 = squared2 + excluded.squared2, "
                "absolute = absolute + excluded.absolute, absolute2 = absolute2 + excluded.absolute2, "
                "log_loss = log_loss + excluded.log_loss, log_loss2 = log_loss2 + excluded.log_loss2, "
                "is_right = is_right + excluded.is_right, delay_s = delay_s + excluded.delay_s",
                (model, version, route, day, part, sign, sign * a, sign * a * a, sign * b, sign * b * b,
                 sign * c, sign * c * c, sign * right, sign * delay_s),
            )  # fmt: skip

    def by_day(
        self,
        model: str,
        version: int | None = None,
        route: str | None = None,
        *,
        part: str = "",
        since: str = "",
        until: str = "9999",
    ) -> list[Period]:
        """The losses of each day with outcomes, oldest first; of all versions and routes where they aren't named.

        `part` is a slice, `field=value`; empty for all rows. `since` and `until` are days (ISO 8601, `until` excluded).
        """
        where = ["model = ?", "slice = ?", "day >= ?", "day < ?"]
        values: list[str | int] = [model, part, since, until]
        for name, value in (("version", version), ("route", route)):
            if value is not None:
                where.append(f"{name} = ?")
                values.append(value)
        with self._open() as database:
            rows = database.execute(
                "SELECT day, SUM(n), SUM(squared), SUM(squared2), SUM(absolute), SUM(absolute2), SUM(log_loss), "
                f"SUM(log_loss2), SUM(is_right), SUM(delay_s) FROM days WHERE {' AND '.join(where)} GROUP BY day ORDER BY day",
                values,
            ).fetchall()
        return [Period(row[0], Losses(*row[1:])) for row in rows if row[1]]

    def parts(self, model: str) -> list[str]:
        """The slices that have outcomes."""
        with self._open() as database:
            found = database.execute(
                "SELECT DISTINCT slice FROM days WHERE model = ? AND n > 0 AND slice != ''", (model,)
            )
            return sorted(row[0] for row in found)

    def routes(self, model: str, version: int) -> list[str]:
        """The routes of a version that have outcomes."""
        with self._open() as database:
            found = database.execute(
                "SELECT DISTINCT route FROM days WHERE model = ? AND version = ? AND n > 0", (model, version)
            )
            return sorted(row[0] for row in found)

    def stream(
        self, model: str, version: int, *, since: str = "", limit: int = 200_000
    ) -> list[tuple[str, float, bool]]:
        """Time, absolute error (of a class: 0 or 1) and whether it was right, of each prediction with an outcome, oldest first."""
        with self._open() as database:
            rows = database.execute(
                "SELECT time, absolute, is_right FROM joined WHERE model = ? AND version = ? AND time >= ? ORDER BY time DESC LIMIT ?",
                (model, version, since, limit),
            ).fetchall()
        return [(time, absolute, bool(right)) for time, absolute, right in reversed(rows)]

    def outcomes(
        self, model: str, version: int, *, since: str = "", until: str = "9999", limit: int = 200_000
    ) -> list[Any]:
        """The newest outcomes, of predictions made on the days from `since` to before `until`."""
        with self._open() as database:
            rows = database.execute(
                "SELECT outcome FROM joined WHERE model = ? AND version = ? AND day >= ? AND day < ? ORDER BY time DESC LIMIT ?",
                (model, version, since, until, limit),
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def forget(self, predictions: Sequence[str]) -> None:
        """Takes back the outcomes of predictions that were deleted."""
        with self._open(writes=True) as database:
            for prediction in predictions:
                row = database.execute(
                    "SELECT model, version, route, day, squared, absolute, log_loss, is_right, time, known, slices FROM joined WHERE prediction = ?",
                    (prediction,),
                ).fetchone()
                if row is not None:
                    model, version, route, day, *lost, right, time, known, slices = row
                    self._add(
                        database, model, version, route, day, json.loads(slices), lost, right, _delay(time, known), -1
                    )
                    database.execute("DELETE FROM joined WHERE prediction = ?", (prediction,))


def _losses(recorded: Recorded, outcome: Any) -> tuple[float, float, float, int]:
    """Squared and absolute error, log loss, and whether it was right (of numbers: the very value)."""
    value = recorded.value
    right = int(value == outcome)
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and isinstance(outcome, int | float)
        and recorded.probabilities is None
    ):
        error = float(value) - float(outcome)
        return error * error, abs(error), 0.0, right
    log_loss = 0.0
    if recorded.probabilities is not None:
        label = outcome if isinstance(outcome, str) else json.dumps(outcome)
        log_loss = -math.log(max(recorded.probabilities.get(label, 0.0), 1e-15))
    return float(1 - right), float(1 - right), log_loss, right


def _delay(time: str, known: str) -> float:
    """Seconds from the prediction to its outcome; 0 where a clock went backwards."""
    return max(0.0, (datetime.fromisoformat(known) - datetime.fromisoformat(time)).total_seconds())


def _fact(database: sqlite3.Connection, name: str) -> str | None:
    row = database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def _set_fact(database: sqlite3.Connection, name: str, value: str) -> None:
    database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
