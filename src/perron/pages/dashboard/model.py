"""A version: its card, its evaluation beside the baseline, gates, parity, and where it comes from."""

from typing import Any

import streamlit as st

from perron.bundle import GraphBundle
from perron.derive.card import card, card_markdown
from perron.pages.dashboard import parts
from perron.pages.dashboard.facts import Facts
from perron.pages.dashboard.parts import Html, number

__all__ = ["choose_version", "show"]


def choose_version(facts: Facts, model: str) -> dict[str, Any]:
    """The row of the version that the reader chose; at first the champion's, else the newest's."""
    rows = facts.project.ledger.list_versions(model)
    first = next((place for place, row in enumerate(rows) if "champion" in row["aliases"]), 0)
    words = {row["version"]: ", ".join([f"version {row['version']}", *row["aliases"]]) for row in rows}
    chosen = st.selectbox(
        "Version", [row["version"] for row in rows], first, format_func=words.__getitem__, key=f"version of {model}"
    )
    return next(row for row in rows if row["version"] == chosen)


def show(facts: Facts, model: str | None) -> None:
    parts.title("Model")
    if model is None:
        st.info("There is no model yet; \\`perron run\\` makes one.")
        return
    row = choose_version(facts, model)
    bundle = facts.bundle(row)
    if isinstance(bundle, GraphBundle):
        parts.note(f"{model} version {row['version']} is a plain ONNX graph, which takes tensors; it has no contract.")
        parts.table(
            ("tensor", "direction"),
            [(one["name"], way) for way in ("inputs", "outputs") for one in bundle.manifest[way]], name="Tensors",
        )  # fmt: skip
        return
    given = card(bundle.manifest, bundle.schema, version=row["version"], bundle=row["bundle"])
    target, unit = given["target"], given["target"]["unit"]
    parts.note(f"A {given['task']}: predicts {target['name']}{f' in {unit}' if unit else ''} ({target['expected']}).")
    if given["description"]:
        st.text(given["description"])
    st.header("Evaluation on the test rows", anchor=False)
    parts.table(
        ("metric", "model", "naive baseline"),
        [(one["name"], number(one["value"]), number(one["baseline"])) for one in given["metrics"]],
        numbers=(1, 2), name="Metrics",
    )  # fmt: skip
    gates = facts.gates(row["run"])
    if gates:
        st.header("Gates", anchor=False)
        parts.table(
            ("gate", "", "value", "limit"),
            [
                (one["name"], Html(f'<span class="p-tag {"good" if one["passed"] else "high"}">{"passed" if one["passed"] else "refused"}</span>'),
                 number(one["value"]), number(one["limit"]))
                for one in gates
            ],
            numbers=(2, 3), name="Gates",
        )  # fmt: skip
    st.header("The served graph beside the trained model", anchor=False)
    same = given["parity"]
    boxes: list[tuple[str, object, str]] = [("Test rows compared", number(same["rows"]), "")]
    if same.get("max_relative_error") is not None:
        boxes.append(("Largest relative error", number(float(same["max_relative_error"])), ""))
    if same.get("labels_equal") is not None:
        boxes.append(
            (
                "Labels",
                "all equal" if same["labels_equal"] in (True, same["rows"]) else number(same["labels_equal"]),
                "",
            )
        )
    parts.facts_row(boxes)
    st.header("Where it comes from", anchor=False)
    _lineage(facts, model, row, given)
    st.header("Fields", anchor=False)
    parts.table(
        ("field", "expected", "unit", "use", "description"),
        [
            (one["name"], one["expected"] + (", or none" if one["optional"] else ""), one["unit"] or "",
             ", ".join(["seen by the model" if one["is_feature"] else "not seen by the model", *one["roles"]]), one["description"] or "")
            for one in given["fields"]
        ],
        name="Fields",
    )  # fmt: skip
    st.download_button("Download the card", card_markdown(given), f"{model}-{row['version']}.md", "text/markdown")


def _lineage(facts: Facts, model: str, row: dict[str, Any], given: dict[str, Any]) -> None:
    data, code, environment = (given[part] or {} for part in ("data", "code", "environment"))
    commit = (code.get("commit") or "not in git")[:12] + (", changed" if code.get("dirty") else "")
    ins = [
        ("snapshot", f"{str(data.get('snapshot', ''))[:12]}, {number(data.get('rows'))} rows", False),
        ("contract", f"{given['contract']['name']} {given['contract']['digest'][:8]}", False),
        ("code", commit, False),
        ("environment", f"Python {environment.get('python', '')}", False),
    ]
    aliases = next(
        one["aliases"] for one in facts.project.ledger.list_versions(model) if one["version"] == row["version"]
    )
    columns = [ins, [("run", str(given["run"]), False)], [("bundle", row["bundle"][:12], False)],
               [("version", f"{model} {row['version']}", bool(aliases))]]  # fmt: skip
    if aliases:
        columns.append([("alias", alias, True) for alias in aliases])
    words = f"Snapshot, contract, code and environment lead to run {given['run']}, bundle {row['bundle'][:12]} and version {row['version']}."
    parts.lineage(columns, words)
    origin: dict[str, Any] = {"bundle": row["bundle"], "contract": given["contract"]["digest"], "run": given["run"]}
    for part in ("data", "code", "environment"):
        origin.update({f"{part}: {key}": value for key, value in (given[part] or {}).items()})
    with st.expander("Digests"):
        parts.table(
            ("what", "which"),
            [(key, number(value) if value is not None else "none") for key, value in origin.items()],
            name="Digests",
        )
