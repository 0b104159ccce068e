"""The state of every model at a glance."""

from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from perron.ledger import CHAMPION
from perron.pages.dashboard import parts
from perron.pages.dashboard.days import Day
from perron.pages.dashboard.facts import Facts
from perron.pages.dashboard.parts import Html, number
from perron.rollout import words_of

__all__ = ["rows_of_last_day", "show"]


def show(facts: Facts, model: str | None) -> None:
    parts.title("Home", "Every model of the project: what answers, how much, and what to worry about.")
    runs = facts.project.ledger.list_runs(50)
    if model is None:
        last = (
            f" The last run, {runs[0]['id']}, is {runs[0]['status']}: {runs[0]['message'] or 'no message'}."
            if runs
            else ""
        )
        st.info(parts.plain(f"There is no model yet; `perron run` makes one.{last}"))
        return
    is_waiting = False
    for name in facts.models():
        is_waiting |= not _model(facts, name, runs)
    if is_waiting:
        parts.waiting(facts.progress or "Traffic is added up for the first time.")


def rows_of_last_day(days: tuple[Day, ...]) -> int:
    """The rows of the last 24 hours, by whole hours."""
    since = f"{datetime.now(UTC) - timedelta(hours=24):%Y-%m-%dT%H}:00Z"
    return sum(rows for day in days for hour, _, rows in day.hours if hour > since)


def _model(facts: Facts, name: str, runs: list[dict[str, Any]]) -> bool:
    """Shows one model; whether all that there is to show is there."""
    st.header(parts.plain(name), anchor=False)
    row = facts.champion(name)
    if row is None:
        versions = facts.project.ledger.list_versions(name)
        parts.note(f"{len(versions)} versions, none of them the champion; `perron promote` makes one.")
        return True
    since = facts.project.ledger.get_alias(name, CHAMPION)
    decided = facts.project.ledger.list_routings(name)
    run = next((one for one in runs if one["system"] == name), None)
    boxes: list[tuple[str, object, str]] = [
        ("Champion", f"version {row['version']}", f"since {parts.moment(since['time'] if since else row['made'])}"),
        ("Routing", words_of(decided[0]["routing"]) if decided else f"{CHAMPION} alone", ""),
    ]
    found = facts.traffic(name, row["version"])
    look = found.look if found else None
    if found is None:
        boxes.append(("Last 24 hours", "…", "being added up"))
    else:
        total = sum(day.rows for day in found.days)
        boxes.append(
            (
                "Last 24 hours",
                number(rows_of_last_day(found.days)),
                f"predictions; {number(total)} in {len(found.days)} day{'' if len(found.days) == 1 else 's'}",
            )
        )
    if look is None:
        boxes += [("Worst finding", "…", "being judged")]
    else:
        worst = next((one for one in look["findings"]), None)
        more = f"{worst['subject']}: {worst['kind'].replace('_', ' ')}" if worst else "nothing to worry about"
        boxes.append(("Worst finding", Html(parts.severity(worst and worst["severity"])), more))
        told = look["performance"]
        expected = f"on the test rows {number(told['expected'])}"
        if told["value"] is not None:
            boxes.append((told["metric"], number(told["value"]), f"{expected}; {number(told['outcomes'])} outcomes"))
        elif look["estimates"]:
            last = look["estimates"][-1]
            boxes.append(
                (f"{last['metric']}, estimated", number(last["value"]), f"by {last['method']}; no outcomes yet")
            )
        else:
            boxes.append((told["metric"], "–", f"{expected}; no outcomes yet"))
    if run is not None:
        boxes.append(("Last run", run["status"], parts.moment(run["started"])))
    parts.facts_row(boxes)
    if look is not None and look["findings"]:
        parts.table(
            ("severity", "what", "kind", "since", "detail"),
            [
                (Html(parts.severity(one["severity"])), one["subject"], one["kind"].replace("_", " "),
                 (one["since"] or "–")[:10], one["detail"])
                for one in look["findings"][:5]
            ],
            name=f"Findings of {name}",
        )  # fmt: skip
        if len(look["findings"]) > 5:
            parts.note(f"{len(look['findings']) - 5} more on the page Live.")
    return found is not None and look is not None
