"""Two years of demand by the hour in; how a model of the first year ages in the second one, and is renewed, out.

What `perron demo drift` does: it trains on the first year, serves the second one month by month through
the real server, tells the outcomes a week late, looks at the end of each month, and retrains where the
look asks for it. The replay moves the server's clock (`perron.clock`); nothing else is made up, but for
the rows themselves where no table is given.
"""

import csv
import http.client
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from perron.bundle import Bundle
from perron.clock import set_clock
from perron.demonstration import MARKER, serving
from perron.errors import DataError, DeclarationError, PerronError, SourceError
from perron.ledger import CHAMPION
from perron.monitor import Look, Monitor
from perron.pipeline import run_pipeline
from perron.predictions import iterate
from perron.project import Project
from perron.system import load_system
from perron.windows import rebuild

__all__ = ["Demand", "Month", "age", "read_demand", "simulate_demand"]

MODEL = "demand"
LATE = timedelta(days=7)
FEATURES = (
    "year", "season", "month", "hour", "holiday", "weekday", "workingday", "weather", "temperature", "felt", "humidity", "wind",
)  # fmt: skip
COLUMNS = {  # of the UCI bike sharing table
    "season": "season", "mnth": "month", "hr": "hour", "holiday": "holiday", "weekday": "weekday",
    "workingday": "workingday", "weathersit": "weather", "temp": "temperature", "atemp": "felt", "hum": "humidity",
    "windspeed": "wind", "cnt": "rentals",
}  # fmt: skip
LARGEST_PORTION = 500  # outcomes in a request
SWITCH_LIMIT_S = 30.0
REST_MONTHS = 3  # after a retraining, in which no other is heard: outcomes of the new model must come first
SYSTEM = '''"""Rentals by the hour: declared once; the rest is derived from this file."""

from datetime import datetime
from typing import Annotated

import perron as pn


class Hour(pn.Contract):
    """One hour of rentals, and its weather."""

    time: Annotated[datetime, pn.Time]
    year: Annotated[int, pn.Ge(2000), pn.Le(2100)]
    season: Annotated[int, pn.Ge(1), pn.Le(4)]
    month: Annotated[int, pn.Ge(1), pn.Le(12)]
    hour: Annotated[int, pn.Ge(0), pn.Le(23)]
    holiday: Annotated[int, pn.Ge(0), pn.Le(1)]
    weekday: Annotated[int, pn.Ge(0), pn.Le(6)]
    workingday: Annotated[int, pn.Ge(0), pn.Le(1)]
    weather: Annotated[int, pn.Ge(1), pn.Le(4)]
    temperature: float
    felt: float
    humidity: float
    wind: float
    rentals: Annotated[float, pn.Ge(0), pn.Target]


system = pn.System(
    "demand",
    Hour,
    source="data/rentals.csv",
    split=pn.split.by_time(test=0.05),
    gates=[pn.gate.better_than_baseline("rmse"), pn.gate.no_worse_than_champion("rmse")],
)
'''


@dataclass(frozen=True)
class Month:
    """A month of the second year: what was found at its end, and the errors (rmse) once all outcomes were known.

    `error` is of the version that answered, `error_of_first` of the first version on the same rows. `asked_to_retrain`
    says why, where the look did; `retrained` is what became of it.
    """

    month: str
    rows: int
    version: int
    error: float
    error_of_first: float
    expected: float | None
    measured: float | None
    outcomes_known: int
    findings: list[dict[str, Any]]
    asked_to_retrain: str | None = None
    retrained: dict[str, Any] | None = None

    @property
    def drifted(self) -> dict[str, float]:
        """The columns that drifted, and how far."""
        return {f["subject"]: float(f["value"]) for f in self.findings if f["kind"].endswith("drift")}


@dataclass
class Demand:
    """What the replay did: whether its data is real, the first year's model, and month by month what happened."""

    folder: Path
    is_real: bool
    source: str
    trained_on: int
    served: int
    expected: float
    months: list[Month] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The loss before the first accepted retraining, and what came after it: mean squared errors pooled, as rmse."""
        changed = next((i for i, m in enumerate(self.months) if m.retrained and m.retrained["registered"]), None)
        before = self.months if changed is None else self.months[: changed + 1]
        after = [] if changed is None else self.months[changed + 1 :]
        return {
            "expected": self.expected,
            "error_before_retraining": _pooled(before, "error"),
            "retrained_after": None if changed is None else self.months[changed].month,
            "error_after_retraining": _pooled(after, "error"),
            "error_had_it_stayed": _pooled(after, "error_of_first"),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder), "is_real": self.is_real, "source": self.source, "trained_on": self.trained_on,
            "served": self.served, **self.summary(), "months": [asdict(month) for month in self.months],
        }  # fmt: skip


def _pooled(months: Sequence[Month], name: str) -> float | None:
    rows = sum(month.rows for month in months)
    return (sum(month.rows * getattr(month, name) ** 2 for month in months) / rows) ** 0.5 if rows else None


# ------------------------------------------------------------------ rows


def read_demand(path: Path) -> list[dict[str, Any]]:
    """The rows of the UCI bike sharing table by the hour, oldest first.

    Raises:
        SourceError: there is no such table.
        DataError: a column is missing, a value can't be read, or there are no two years.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in ("dteday", *COLUMNS) if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"Expected the UCI bike sharing table by the hour, but {path} has no column {missing[0]!r}."
                )
            rows = [_row(path, reader.line_num, row) for row in reader]
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path} isn't a table of text: {error}.") from error
    rows.sort(key=lambda row: str(row["time"]))
    if len({row["time"][:4] for row in rows}) != 2:
        years = sorted({row["time"][:4] for row in rows})
        raise DataError(f"Expected two years in {path}, to train on one and serve the other; got {years or 'no rows'}.")
    return rows


def _row(path: Path, line: int, row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        made: dict[str, Any] = {
            "time": datetime.combine(date.fromisoformat(row["dteday"]), datetime.min.time(), UTC)
            .replace(hour=int(row["hr"]))
            .isoformat(),
            "year": int(row["dteday"][:4]),
        }
        for theirs, ours in COLUMNS.items():
            made[ours] = float(row[theirs]) if ours in ("temperature", "felt", "humidity", "wind", "rentals") else int(row[theirs])  # fmt: skip
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}, line {line}: {error}.") from error
    return made


def simulate_demand(seed: int = 0) -> list[dict[str, Any]]:
    """Rows like those of the bike sharing table: two years, hours, seasons, weather, and a demand that grows by seven tenths in a winter."""
    chance = np.random.default_rng(seed)
    start = datetime(2011, 1, 1, tzinfo=UTC)
    rows, wet, warm = [], 0.0, 0.0
    for number in range(2 * 365 * 24 + 24):
        moment = start + timedelta(hours=number)
        if moment.hour == 0:
            wet, warm = 0.7 * wet + chance.normal(0, 0.5), 0.7 * warm + chance.normal(0, 0.05)
        day = moment.timetuple().tm_yday
        curve = -float(np.cos(2 * np.pi * (day - 20) / 365))
        temperature = float(np.clip(0.5 + 0.27 * curve + warm + 0.07 * np.sin((moment.hour - 9) / 24 * 2 * np.pi), 0.02, 1))  # fmt: skip
        weather = 1 if wet < 0.4 else 2 if wet < 1.0 else 3
        working = int(moment.weekday() < 5)
        rush = (8, 17, 18) if working else (12, 13, 14, 15, 16)
        level = 30 + 220 * (moment.hour in rush) + 110 * (7 <= moment.hour <= 21)
        growth = 1.0 + 0.7 * min(1.0, max(0.0, (number / 24 - 330) / 90))
        mean = level * (0.35 + temperature) * (1.0, 0.85, 0.5)[weather - 1] * growth
        rows.append(
            {
                "time": moment.isoformat(), "year": moment.year, "season": (day // 91) % 4 + 1, "month": moment.month, "hour": moment.hour,
                "holiday": 0, "weekday": moment.isoweekday() % 7, "workingday": working, "weather": weather,
                "temperature": round(temperature, 2), "felt": round(temperature * 0.95 + 0.02, 4),
                "humidity": round(float(np.clip(0.6 + 0.1 * wet + chance.normal(0, 0.1), 0.1, 1)), 2),
                "wind": round(float(chance.gamma(2, 0.1)), 4), "rentals": float(chance.negative_binomial(20, 20 / (20 + mean))),
            }
        )  # fmt: skip
    return rows


# ------------------------------------------------------------------ the replay


def age(
    folder: Path, data: Path | None, tell: Callable[[str], None], progress: Callable[[str, str, float], None]
) -> Demand:
    """Does it all.

    Args:
        folder: a new folder, or one that an earlier demonstration made (which is then begun anew).
        data: the UCI bike sharing table by the hour; None: a simulated one.
        tell: told of each stage.
        progress: told of the pipeline's steps.

    Raises:
        PerronError: a stage failed.
    """
    rows = simulate_demand() if data is None else read_demand(data)
    first_year = rows[0]["time"][:4]
    past = [row for row in rows if row["time"][:4] == first_year]
    coming = [row for row in rows if row["time"][:4] != first_year]
    _begin(folder, past)
    tell(f"training on {len(past):,} hours of {first_year}")
    project = Project.open(folder)
    result = run_pipeline(load_system(folder / "system.py"), project, progress)
    if result.status != "done":
        raise PerronError("The gates refused the first model; is there anything to learn in the table?")
    monitor = Monitor(project, MODEL)
    done = Demand(
        folder, data is not None, "simulated" if data is None else str(data), len(past), len(coming),
        monitor.expected or float("nan"),
    )  # fmt: skip
    clock = folder / ".perron" / "replay.clock"
    set_clock(clock, datetime.fromisoformat(coming[0]["time"]))
    with serving(folder, "--clock", str(clock)) as (_, port):
        replay = _Replay(project, clock, port, monitor.bundle, past)
        for month, some in groupby(coming, key=lambda row: str(row["time"])[:7]):
            tell(f"serving {month}")
            done.months.append(replay.serve(month, list(some), tell, progress))
    done.months = replay.settled(done.months)
    return done


def _begin(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the project."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / ".perron" / MARKER).is_file():
            raise DeclarationError(
                f"{folder} exists and wasn't made by `perron demo`; choose another folder with --folder."
            )
        shutil.rmtree(folder)
    (folder / ".perron").mkdir(parents=True)
    (folder / ".perron" / MARKER).write_text("{}\n")
    (folder / "system.py").write_text(SYSTEM, encoding="utf-8")
    (folder / "data").mkdir()
    _write(folder, rows)


def _write(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with open(folder / "data" / "rentals.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["time", *FEATURES, "rentals"])
        writer.writeheader()
        writer.writerows(rows)


class _Replay:
    """The second year: what was asked and answered, which outcomes are known, and which model answers."""

    def __init__(
        self, project: Project, clock: Path, port: int, first: Bundle, past: Sequence[Mapping[str, Any]]
    ) -> None:
        self._project, self._clock, self._first, self._past = project, clock, first, past
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._waiting: list[tuple[datetime, str, float]] = []  # when its outcome is known, the prediction's id, it
        self._errors: dict[str, list[tuple[float, float]]] = {}  # by month: squared, of what answered and of the first
        self._version, self._not_before = 1, 1

    def _post(self, path: str, body: Any) -> Any:
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(self._connection.getresponse().read())
        if "detail" in answer:
            raise PerronError(f"The server refused {path}: {answer['detail']}")
        return answer

    def serve(
        self,
        month: str,
        rows: Sequence[Mapping[str, Any]],
        tell: Callable[[str], None],
        progress: Callable[[str, str, float], None],
    ) -> Month:
        """Asks hour by hour, tells the outcomes that are known by then, and looks at the month's end."""
        errors = self._errors.setdefault(month, [])
        firsts = self._first.predict([_asked(row) for row in rows])
        for row, of_first in zip(rows, firsts, strict=True):
            moment = datetime.fromisoformat(row["time"])
            set_clock(self._clock, moment)
            if moment.hour == 0:
                self._tell_outcomes(moment)
            (made,) = self._post("/v1/predictions", {"rows": [_asked(row)]})["predictions"]
            errors.append(((made["value"] - row["rentals"]) ** 2, (of_first["value"] - row["rentals"]) ** 2))
            self._waiting.append((moment + LATE, made["id"], row["rentals"]))
        start = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
        end = (start + timedelta(days=32)).replace(day=1)
        set_clock(self._clock, end)
        self._tell_outcomes(end)
        looked = self._look(start, end)
        measured = looked.outcomes.metric(looked.metric)
        asked, retrained = _why(looked), None
        version = self._version
        if asked is not None and start.month >= self._not_before:
            tell(f"retraining: {asked}")
            retrained = self._retrain(progress)
            self._not_before = start.month + REST_MONTHS
        return Month(
            month, len(rows), version, float("nan"), float("nan"), looked.expected, measured and measured[0],
            looked.outcomes.n, [_brief(finding.to_json()) for finding in looked.findings], asked, retrained,
        )  # fmt: skip

    def _tell_outcomes(self, moment: datetime) -> None:
        known = [item for item in self._waiting if item[0] <= moment]
        self._waiting = self._waiting[len(known) :]
        for start in range(0, len(known), LARGEST_PORTION):
            portion = known[start : start + LARGEST_PORTION]
            self._post("/v1/outcomes", {"outcomes": [{"prediction": name, "value": value} for _, name, value in portion]})  # fmt: skip

    def _look(self, start: datetime, end: datetime) -> Look:
        self._connection.close()  # the server closes an idle one; the next request opens another
        project = self._project
        monitor = Monitor(project, MODEL, self._version)
        schemas = {self._version: (monitor.bundle.schema, monitor.bundle.has_probabilities)}
        folder = project.folder / ".perron" / "windows"
        rebuild(folder, project.predictions, MODEL, schemas, every="day", since=start, until=end)
        return monitor.between("all", start, end, end)

    def _retrain(self, progress: Callable[[str, str, float], None]) -> dict[str, Any]:
        """Runs the pipeline on the first year and all that was served since and has an outcome; the gates decide."""
        project = self._project
        outcomes = project.ledger.known_outcomes()
        since = [
            {**{name: recorded.input[name] for name in ("time", *FEATURES)}, "rentals": outcomes[recorded.id]}
            for recorded in iterate(project.predictions)
            if recorded.id in outcomes
        ]
        _write(project.folder, [*self._past, *since])
        result = run_pipeline(load_system(project.folder / "system.py"), project, progress)
        registered = result.status == "done"
        made = {"run": result.run, "rows": len(self._past) + len(since), "registered": registered}
        made["gates"] = [gate["name"] for gate in result.outputs["gates"]["gates"] if not gate["passed"]]
        if registered:
            self._version = int(project.ledger.get_version(MODEL, CHAMPION)["version"])
            self._await_version()
        return {**made, "version": self._version}

    def _await_version(self) -> None:
        """Returns when the server answers with the new champion, which it finds by itself."""
        until = time.monotonic() + SWITCH_LIMIT_S
        while time.monotonic() < until:
            self._connection.request("GET", f"/v1/models/{MODEL}")
            if json.loads(self._connection.getresponse().read()).get("version") == self._version:
                return
            time.sleep(0.05)
        raise PerronError(f"The server didn't follow to version {self._version} within {SWITCH_LIMIT_S:.0f} s.")

    def settled(self, months: Sequence[Month]) -> list[Month]:
        """The months with the errors that all outcomes tell."""
        made = []
        for month in months:
            served, first = (float(np.sqrt(np.mean(column))) for column in zip(*self._errors[month.month], strict=True))
            made.append(replace(month, error=served, error_of_first=first))
        return made


def _asked(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("time", *FEATURES)}


def _why(looked: Look) -> str | None:
    """Why a look asks for a retraining; None where it doesn't: only a loss that outcomes show is a reason."""
    for finding in looked.findings:
        if finding.kind in ("performance", "concept") and finding.severity != "low":
            return finding.detail
    return None


def _brief(finding: dict[str, Any]) -> dict[str, Any]:
    return {name: finding[name] for name in ("kind", "subject", "severity", "detail", "value", "limit", "since")}
