"""The newest snapshot of the model's system, and its profile."""

import streamlit as st

from perron import catalog
from perron.errors import NotFound
from perron.pages.dashboard import parts
from perron.pages.dashboard.facts import Facts
from perron.pages.dashboard.parts import number

__all__ = ["show"]

HEIGHT = 1600


def show(facts: Facts, model: str | None) -> None:
    systems = {run["system"] for entry in catalog.entries(facts.project) for run in entry.runs}
    try:
        entry = catalog.find_entry(facts.project, system=model if model in systems else None)
    except NotFound as error:
        parts.title("Data")
        st.info(parts.plain(error))
        return
    parts.title("Data", f"The newest snapshot, {entry.digest[:12]}, of {entry.runs[0]['system']}.")
    used = ", ".join(f"{one['model']} version {one['version']}" for one in entry.versions)
    parts.facts_row([
        ("Rows", number(entry.rows), f"taken {parts.moment(entry.made)}"),
        ("In quarantine", number(entry.quarantined), "rows that break the contract"),
        ("Source", entry.source or "–", ""),
        ("Used by", used or "–", f"{len(entry.runs)} run{'' if len(entry.runs) == 1 else 's'}"),
    ])  # fmt: skip
    if entry.faults:
        st.header("Why rows are in quarantine", anchor=False)
        parts.table(
            ("field", "rule", "rows"),
            [(one.get("field"), one.get("expected") or one.get("rule"), number(one.get("rows") or one.get("count"))) for one in entry.faults],
            numbers=(2,), name="Faults",
        )  # fmt: skip
    page = facts.profile(entry)
    if page is None:
        parts.waiting(facts.progress or "The snapshot's profile is made.")
        return
    st.download_button("Download the profile", page, f"profile-{entry.digest[:12]}.html", "text/html")
    st.iframe(page, height=HEIGHT)
