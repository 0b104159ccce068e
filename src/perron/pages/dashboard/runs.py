"""The runs; some of them side by side: metrics, curves and parameters."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from perron.pages.dashboard import parts
from perron.pages.dashboard.facts import Facts
from perron.pages.dashboard.parts import number

__all__ = ["show"]

MOST = 100


def show(facts: Facts, model: str | None) -> None:
    runs = facts.project.ledger.list_runs(MOST)
    parts.title(
        "Runs", f"The newest {len(runs)}." if len(runs) == MOST else "All of them, the newest first." if runs else ""
    )
    if not runs:
        st.info("There is no run yet; \\`perron run\\` makes one.")
        return
    names = list(dict.fromkeys(name for run in runs for name in run["metrics"]))[:5]
    parts.table(
        ("run", "system", "status", "started", *names),
        [
            (run["id"], run["system"], run["status"], parts.moment(run["started"]), *(number(run["metrics"].get(name)) for name in names))
            for run in runs
        ],
        numbers=range(4, 4 + len(names)), name="Runs",
        is_long=True,
    )  # fmt: skip
    done = [run["id"] for run in runs if run["metrics"]]
    st.header("Comparison", anchor=False)
    chosen = st.multiselect("Runs", [run["id"] for run in runs], done[:2], key="runs", max_selections=6)
    if chosen:
        _compare([facts.project.ledger.get_run(run) for run in chosen])


def _compare(runs: Sequence[dict[str, Any]]) -> None:
    single = [
        {(one["part"], one["name"]): one["value"] for one in run["metrics"] if one["step"] is None} for run in runs
    ]
    heads = [run["id"] for run in runs]
    st.header("Metrics", anchor=False)
    keys = list(dict.fromkeys(key for values in single for key in values))
    parts.table(
        ("metric", "of", *heads),
        [(name, part, *(number(values.get((part, name))) for values in single)) for part, name in keys],
        numbers=range(2, 2 + len(heads)), name="Metrics of the runs",
    )  # fmt: skip
    curves: dict[tuple[str, str], dict[str, list[tuple[int, float]]]] = {}
    for run in runs:
        for one in run["metrics"]:
            if one["step"] is not None:
                curves.setdefault((one["name"], one["part"]), {}).setdefault(run["id"], []).append(
                    (one["step"], one["value"])
                )
    if curves:
        st.header("Curves", anchor=False)
        for (name, part), series in curves.items():
            lines = {run: sorted(points) for run, points in series.items()}
            parts.lines(lines, f"{name} ({part})", kind="step", x_name="step")
    st.header("Parameters", anchor=False)
    wanted = sorted({name for run in runs for name in run["params"]})
    values = [[run["params"].get(name) for run in runs] for name in wanted]
    differ = [place for place, row in enumerate(values) if any(value != row[0] for value in row)]
    if len(runs) > 1:
        parts.note(f"{len(differ)} of {len(wanted)} differ; these are in bold.")
    order = [*differ, *(place for place in range(len(wanted)) if place not in differ)]
    parts.table(
        ("parameter", *heads),
        [(wanted[place], *(number(value) for value in values[place])) for place in order],
        numbers=range(1, 1 + len(heads)), marked=range(len(differ)), name="Parameters of the runs",
    )  # fmt: skip
