"""What really happened, for recent predictions; and, for an operator, the champion: forward, or back."""

from typing import Any

import streamlit as st

from perron.bundle import Bundle
from perron.check import show as show_value
from perron.contract import Field
from perron.deployments import end_test
from perron.errors import PerronError
from perron.ledger import CHAMPION
from perron.outcomes import record_outcome
from perron.pages.dashboard import parts
from perron.pages.dashboard.facts import Facts
from perron.pages.dashboard.parts import number, plain
from perron.pages.dashboard.predict import parsed
from perron.predictions.listing import Listed, list_predictions

__all__ = ["show"]

MOST = 30


def show(facts: Facts, model: str | None) -> None:
    parts.title("Outcomes", "What really happened, for the newest predictions of servers.")
    if model is None:
        st.info("There is no model yet; \\`perron run\\` makes one.")
        return
    said = st.session_state.pop("said", None)
    if said:
        st.success(plain(said))
    listed = list_predictions(facts.project.predictions, limit=MOST, model=model).predictions
    known = facts.project.ledger.outcomes_of([one.id for one in listed])
    if listed:
        _annotate(facts, model, listed, known)
        parts.table(
            ("prediction", "time", "version", "route", "value", "outcome"),
            [
                (one.id, parts.moment(one.time), one.version, one.route, number(one.value), number(known.get(one.id)))
                for one in listed
            ],
            numbers=(2, 4, 5), name="Newest predictions",
        )  # fmt: skip
    else:
        parts.note("Nothing was predicted yet; the page Predict asks the service.")
    _champion(facts, model)


def _target(facts: Facts, model: str) -> Field | None:
    row = facts.champion(model)
    bundle = facts.bundle(row) if row else None
    return bundle.schema.target if isinstance(bundle, Bundle) else None


def _annotate(facts: Facts, model: str, listed: tuple[Listed, ...], known: dict[str, Any]) -> None:
    target = _target(facts, model)
    if target is None:
        parts.note("The model has no contract, which would say what its outcomes are.")
        return
    words = {one.id: f"{one.id} · {parts.moment(one.time)} · {number(one.value)}" for one in listed}
    first = next((place for place, one in enumerate(listed) if one.id not in known), 0)
    with st.form("outcome", border=False, clear_on_submit=True):
        left, right = st.columns([2, 1])
        prediction = left.selectbox("Prediction", list(words), first, format_func=words.__getitem__, key="prediction")
        label = plain(target.name + (f" ({target.unit})" if target.unit else ""))
        hint = plain(f"Expected {target.expected}.")
        if target.values or target.kind == "bool":
            value: Any = right.selectbox(label, list(target.values or (True, False)), None, key="value", help=hint)
        else:
            value = right.text_input(label, key="value", help=hint)
        is_sent = st.form_submit_button("Record the outcome", type="primary")
    if not is_sent:
        return
    given = parsed(target, value)
    if given is None:
        st.error(plain(f"Expected {target.expected} as the outcome, got nothing."))
        return
    try:
        record_outcome(facts.project, prediction, given)
    except PerronError as error:
        st.error(plain(error))
        return
    corrected = f"; it was {show_value(known[prediction])}" if prediction in known else ""
    st.session_state["said"] = f"The outcome of {prediction} is {show_value(given)}{corrected}."
    st.rerun()


def _champion(facts: Facts, model: str) -> None:
    st.header("The champion", anchor=False)
    ledger = facts.project.ledger
    versions = ledger.list_versions(model)
    event = ledger.get_alias(model, CHAMPION)
    now = event["version"] if event else None
    if event:
        why = f": {event['reason']}" if event["reason"] else ""
        parts.note(f"Version {now} since {parts.moment(event['time'])}{why}.")
    if facts.settings.role != "operator":
        parts.note("Promoting and rolling back need the role operator: perron dashboard --role operator.")
        return
    others = [row["version"] for row in versions if row["version"] != now]
    if not others:
        parts.note("There is no other version.")
        return
    back: int | None = event["replaced"] if event else None
    with st.form("promote", border=False, clear_on_submit=True):
        left, right = st.columns([1, 2])
        version = left.selectbox("Version", others, format_func=lambda one: f"version {one}", key="to promote")
        reason = right.text_input("Reason", key="reason", placeholder="why; kept in the ledger")
        first, second, _ = st.columns([1, 1, 2])
        promote = first.form_submit_button("Promote", type="primary")
        roll_back = second.form_submit_button(f"Roll back to version {back}", disabled=back is None) if back else False
    if not (promote or roll_back):
        return
    if not reason.strip():
        st.error("A reason is needed: it is what the ledger says later.")
        return
    chosen = back if roll_back and back is not None else version
    ledger.set_alias(model, CHAMPION, chosen, reason.strip())
    is_over = end_test(facts.project, model, chosen)
    st.session_state["said"] = f"{model} version {chosen} is now the champion." + (
        " The test that it was in is over." if is_over else ""
    )
    st.rerun()
