"""Answered rows in; the live windows of a server's versions and routes out, kept beside answering.

While serving, rows are only put aside; once a second a thread makes sketches of them and every few
seconds writes them. Of more rows than `MOST_ROWS_PER_S` a regular part is taken, so that watching
never costs a busy server more than a few hundredths of its time.
"""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perron.bundle import Bundle
from perron.drift import find_drift, measure
from perron.windows import WindowWriter

__all__ = ["Collector"]

MOST_ROWS_PER_S = 5000
FLUSH_EVERY = 10  # turns
DRIFT_EVERY = 60
LEAST_ROWS = 50
RANK = {"low": 1, "medium": 2, "high": 3}
logger = logging.getLogger("perron.serve")


@dataclass
class _Aside:
    since: datetime
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    shares: list[list[float]] = field(default_factory=list)


class Collector:
    """The windows of one endpoint. `add` and `hand_over` belong to the event loop, `work` to any thread.

    Args:
        folder: of all windows.
        bundle: whose contract the rows follow.
        version, route: whose windows they are.
    """

    def __init__(self, folder: Path, bundle: Bundle, version: int, route: str) -> None:
        self._has_confidence = bundle.has_probabilities
        self._writer = WindowWriter(
            folder, bundle.name, version, route, bundle.schema, has_confidence=self._has_confidence
        )
        self._aside = _Aside(datetime.now(UTC))
        self._handed_over: deque[_Aside] = deque()
        self._working = threading.Lock()
        self._turns = 0
        self._failed = ""
        self.dropped = 0
        self._bundle = bundle
        self.drifts: dict[str, tuple[float, int]] = {}  # by column: the distance, and the severity from 1 to 3

    def add(self, rows: Sequence[tuple[Any, ...]], values: Sequence[Any], shares: Sequence[list[float]] | None) -> None:
        """Puts answered rows aside, those of another hour apart: they are of its window."""
        now = datetime.now(UTC)
        if self._aside.since.hour != now.hour or not self._aside.rows:
            self.hand_over(now)
        aside = self._aside
        room = 2 * MOST_ROWS_PER_S - len(aside.rows)
        if room < len(rows):  # a part of them, evenly
            if room <= 0:
                self.dropped += len(rows)
                return
            step = -(-len(rows) // room)
            self.dropped += len(rows) - len(rows[::step])
            rows, values = rows[::step], values[::step]
            shares = None if shares is None else shares[::step]
        aside.rows.extend(rows)
        aside.values.extend(values)
        if shares is not None:
            aside.shares.extend(shares)

    def hand_over(self, now: datetime | None = None) -> None:
        """Leaves what was put aside to the next `work`, whoever calls it; from now on rows are put aside anew."""
        if self._aside.rows:
            self._handed_over.append(self._aside)
        self._aside = _Aside(now or datetime.now(UTC))

    def work(self, *, is_last: bool = False) -> None:
        """Makes sketches of what was handed over; writes them every few turns, and at last: after what is at work now."""
        with self._working:
            try:
                while self._handed_over:
                    self._sketch(self._handed_over.popleft())
                self._turns += 1
                if is_last or self._turns % FLUSH_EVERY == 0:
                    self._writer.flush()
                if self._turns % DRIFT_EVERY == 0:
                    self._look_for_drift()
                self._failed = ""
            except Exception as error:
                if repr(error) != self._failed:  # serving goes on; the log has every row
                    logger.exception("the live window can't be kept")
                self._failed = repr(error)

    def _sketch(self, aside: _Aside) -> None:
        step = max(1, len(aside.rows) // MOST_ROWS_PER_S)
        confidence = [max(row) for row in aside.shares[::step]] if self._has_confidence else None
        self._writer.add(aside.rows[::step], aside.values[::step], confidence, aside.since)
        self.dropped += len(aside.rows) - len(aside.rows[::step])

    def _look_for_drift(self) -> None:
        """Tells the present hour's distance from the training, column by column, for Prometheus; `perron monitor` tells more."""
        reference, now = self._bundle.reference, self._writer.sketch
        if reference is None or now.rows < LEAST_ROWS:
            return
        found = find_drift(reference, now)
        severities = {drift.column: RANK[drift.severity] for drift in reversed(found)}
        self.drifts = {}
        for name, column in now.columns.items():
            if name in reference.columns and not column.sensitive:
                measures = measure(reference.columns[name], column)
                distance = measures.get("kolmogorov_smirnov", measures.get("total_variation", 0.0))
                self.drifts[name] = (distance, severities.get(name, 0))
