"""What a version is asked and how well it answers: traffic, latency, drift, performance, estimates, findings."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from perron.bundle import GraphBundle
from perron.drift import compare_columns
from perron.pages.dashboard import parts
from perron.pages.dashboard.days import Day
from perron.pages.dashboard.facts import Facts, Traffic
from perron.pages.dashboard.home import rows_of_last_day
from perron.pages.dashboard.model import choose_version
from perron.pages.dashboard.parts import Html, duration, number, percent
from perron.performance import Losses
from perron.sketch import TableSketch

__all__ = ["show"]

HOURLY_DAYS = 7  # longer traffic is drawn by day
MOST_LINES = 6


def show(facts: Facts, model: str | None) -> None:
    parts.title("Live")
    if model is None:
        st.info("There is no model yet; \\`perron run\\` makes one.")
        return
    row = choose_version(facts, model)
    bundle = facts.bundle(row)
    if isinstance(bundle, GraphBundle):
        parts.note("A plain ONNX graph takes tensors; no windows of its traffic are kept.")
        _latency(facts)
        return
    found = facts.traffic(model, row["version"])
    if found is None:
        _latency(facts)
        parts.waiting(facts.progress or "Traffic is added up for the first time.")
        return
    days = found.days
    if not days:
        st.info(parts.plain(f"Version {row['version']} wasn't asked yet; `perron serve` answers."))
        _latency(facts)
        return
    _traffic(days)
    _latency(facts)
    _service(facts, model)
    _findings(found)
    _drift(days, bundle.reference)
    _performance(facts, model, row["version"], found)
    if found.look is None:
        parts.waiting(facts.progress or "The days are judged.")


def _traffic(days: Sequence[Day]) -> None:
    st.header("Traffic", anchor=False)
    total = sum(day.rows for day in days)
    parts.facts_row([
        ("Last 24 hours", number(rows_of_last_day(tuple(days))), "predictions"),
        ("All days shown", number(total), f"predictions, {days[0].day} to {days[-1].day}"),
        ("A day, on average", number(round(total / len(days))), "predictions"),
    ])  # fmt: skip
    if len(days) <= HOURLY_DAYS:
        points = [(hour, float(rows), route) for day in days for hour, route, rows in day.hours]
        parts.bars(points, "predictions an hour")
        return
    by_route: dict[tuple[str, str], int] = {}
    for day in days:
        for _, route, rows in day.hours:
            by_route[day.day, route] = by_route.get((day.day, route), 0) + rows
    parts.bars([(day, float(rows), route) for (day, route), rows in by_route.items()], "predictions a day")


def _latency(facts: Facts) -> None:
    st.header("Latency", anchor=False)
    found = facts.latency()
    if found is None:
        parts.note(f"No service answers at {facts.settings.server}; `perron serve` starts one.")
        return
    parts.facts_row([
        ("Median", duration(found.median_s), "of an answered request"),
        ("95 % below", duration(found.p95_s), ""), ("99 % below", duration(found.p99_s), ""),
        ("Requests", number(found.requests), f"{number(found.rows)} rows since the service started"),
        ("Errors", number(found.errors), f"{number(found.waiting)} rows wait now"),
    ])  # fmt: skip


def _service(facts: Facts, model: str) -> None:
    """The error budget, what is used, and what it costs, as servers noted it by the minute."""
    st.header("Service", anchor=False)
    found = facts.levels(model)
    if found is None:
        parts.waiting("What servers noted is added up.")
        return
    (levels,) = found
    if levels is None:
        parts.note("No server of this project has noted what it uses; `perron serve` does, once a minute.")
        return
    total = levels.total
    burns = ", ".join(
        f"{number(burn)} over {f'{minutes} min' if minutes < 60 else f'{minutes // 60} h'}"
        for minutes, burn in levels.burn.items() if burn is not None
    )  # fmt: skip
    resident = sum(process.resident_bytes or 0 for process in levels.processes)
    boxes: list[tuple[str, object, str]] = [
        ("Failed", percent(None if total is None else total.error_share), f"of the requests since {levels.since[:10]}"),
        ("Error budget left", percent(levels.budget_left), f"of a month's; its burn: {burns or 'nobody asked lately'}"),
        ("CPU", percent(sum(one.cpu_share for one in levels.processes)), f"of {max(one.cores for one in levels.processes)} cores, {len(levels.processes)} processes"),
        ("Memory", f"{resident / 1e6:,.0f} MB", "of all processes, at most"),
    ]  # fmt: skip
    if levels.disk_free_bytes is not None and levels.disk_bytes:
        boxes.append(("Disk free", f"{levels.disk_free_bytes / 1e9:,.1f} GB", f"of {levels.disk_bytes / 1e9:,.1f} GB"))
    if levels.cost_per_1000 is not None:
        boxes.append(
            ("1,000 predictions cost", number(levels.cost_per_1000), f"{number(levels.machine_hours)} machine hours")
        )
    boxes.append(("Energy", f"{number(levels.energy_kwh * 1000)} Wh", "an estimate by CPU time"))
    boxes += [
        (gpu.name, percent(gpu.busy_share), f"busy; {(gpu.used_bytes or 0) / 1e9:,.1f} of {(gpu.memory_bytes or 0) / 1e9:,.1f} GB of memory")
        for gpu in levels.gpus
    ]  # fmt: skip
    parts.facts_row(boxes)
    with st.expander("By process"):
        parts.table(
            ("host", "worker", "CPU", "busiest minute", "memory", "open files", "rows that waited"),
            [
                (one.host, str(one.worker), percent(one.cpu_share), percent(one.busiest_share),
                 "–" if one.resident_bytes is None else f"{one.resident_bytes / 1e6:,.0f} MB", number(one.open_files), number(one.queue_rows))
                for one in levels.processes
            ],
            numbers=(2, 3, 4, 5, 6), name="Processes",
        )  # fmt: skip


def _findings(found: Traffic) -> None:
    st.header("Findings", anchor=False)
    if found.look is None:
        parts.note("The days are being judged.")
        return
    if not found.look["findings"]:
        parts.note("None: nothing moved far enough to matter.")
        return
    parts.table(
        ("severity", "what", "kind", "since", "detail"),
        [
            (Html(parts.severity(one["severity"])), one["subject"], one["kind"].replace("_", " "), (one["since"] or "–")[:10], one["detail"])
            for one in found.look["findings"]
        ],
        name="Findings",
    )  # fmt: skip


def _drift(days: Sequence[Day], reference: TableSketch | None) -> None:
    st.header("Drift of features and answers", anchor=False)
    if reference is None:
        parts.note("The bundle has no reference of its training; \\`perron run\\` makes one.")
        return
    judged = [day for day in days if day.distances]
    if not judged:
        parts.note("No day has enough rows to be judged.")
        return
    newest = judged[-1].distances
    names = sorted(newest, key=lambda name: -newest[name])
    drawn = names[:MOST_LINES]
    parts.lines(
        {name: [(day.day, day.distances[name]) for day in judged if name in day.distances] for name in drawn},
        "distance from training", level=("counts from here", 0.1), zero=True,
    )  # fmt: skip
    parts.note(
        "Kolmogorov-Smirnov of numbers, total variation of categories; the "
        + (
            f"{MOST_LINES} that moved most of {len(names)}."
            if len(names) > MOST_LINES
            else "features and what was answered."
        )
    )
    left, right = st.columns([1, 1])
    column = left.selectbox("Feature", names, key="feature")
    day = right.selectbox("Day", [one.day for one in reversed(judged)], key="day of drift")
    chosen = next(one for one in judged if one.day == day)
    now = chosen.sketch().columns.get(column)
    before = reference.columns.get(column)
    if now is None or before is None:
        return
    labels, shares_before, shares_now = compare_columns(before, now)
    if not labels:
        parts.note(f"{column} has no values in one of the two.")
        return
    parts.two_bars(labels, shares_before, shares_now, column, ("training", day))
    moved = [drift for drift in chosen.drifts if drift.column == column]
    missing = (before.nulls / before.rows if before.rows else 0.0, now.nulls / now.rows if now.rows else 0.0)
    parts.note(
        f"Distance {number(chosen.distances[column])}. Missing: {percent(missing[0])} in training, {percent(missing[1])} on the day. "
        + (" ".join(drift.detail for drift in moved) or "Not enough to count as drift.")
    )


def _performance(facts: Facts, model: str, version: int, found: Traffic) -> None:
    st.header("Performance", anchor=False)
    look = found.look
    if look is None:
        parts.note("Outcomes are being joined to their predictions.")
        return
    metric, expected = look["performance"]["metric"], look["performance"]["expected"]
    periods = [(one.day, one.losses.metric(metric), one) for one in facts.performance(model, version)]
    outcomes = sum((one.losses for _, _, one in periods), Losses())
    measured = outcomes.metric(metric)
    rows = sum(day.rows for day in found.days)
    first: dict[str, Any] | None = look["estimates"][-1] if look["estimates"] else None
    parts.facts_row([
        (metric, number(measured[0]) if measured else "–", f"95 %: {number(measured[1])} to {number(measured[2])}" if measured else "no outcomes yet"),
        ("On the test rows", number(expected), "what was expected"),
        ("Outcomes", number(outcomes.n), f"{percent(min(1.0, outcomes.n / rows) if rows else None)} of the predictions shown"),
        ("Delay", duration(outcomes.delay_s / outcomes.n) if outcomes.n else "–", "of an outcome, on average"),
    ])  # fmt: skip
    drawn = [(day, value) for day, value, _ in periods if value is not None]
    if drawn:
        parts.lines(
            {f"{metric}, by day": [(day, value[0]) for day, value in drawn]}, metric,
            bands=[(day, value[1], value[2]) for day, value in drawn],
            level=("on the test rows", expected) if expected is not None else None,
        )  # fmt: skip
        by_day = {day.day: day.rows for day in found.days}
        with st.expander("By day"):
            parts.table(
                ("day", metric, "95 %", "outcomes", "coverage", "mean delay"),
                [
                    (day, number(value[0]), f"{number(value[1])} to {number(value[2])}", number(one.losses.n),
                     percent(min(1.0, one.losses.n / by_day[day])) if day in by_day else "–", duration(one.mean_delay_s))
                    for day, value, one in reversed(periods) if value is not None
                ],
                numbers=(1, 2, 3, 4, 5), name="Performance by day",
            )  # fmt: skip
    if look["estimates"]:
        assert first is not None
        st.header("Estimated performance", anchor=False)
        label = f"{first['metric']}, estimated by {first['method']}"
        parts.note(
            f"An estimate, made without outcomes by {first['method']}: it holds while the relation of inputs to the target stays "
            f"as it was. The newest: {number(first['value'])} (95 %: {number(first['low'])} to {number(first['high'])})."
        )
        parts.lines(
            {label: [(one["start"][:10], one["value"]) for one in look["estimates"]]}, f"estimated {first['metric']}",
            bands=[(one["start"][:10], one["low"], one["high"]) for one in look["estimates"]], dashed=label, height=180,
        )  # fmt: skip
