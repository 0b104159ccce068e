"""A form from the contract, answered by the running service, so that each answer is logged and has a receipt; tables, too."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import streamlit as st

from perron.batch import predict_source
from perron.bundle import Bundle, GraphBundle
from perron.connection import NoAnswer, Problem, Refused
from perron.contract import Field
from perron.errors import PerronError
from perron.history import journal_path
from perron.pages.charts import esc
from perron.pages.dashboard import parts
from perron.pages.dashboard.facts import Facts
from perron.pages.dashboard.parts import number, percent, plain
from perron.sink import open_sink
from perron.source import open_source

__all__ = ["help_of", "parsed", "show", "show_receipt"]

NONE = "(none)"


def show(facts: Facts, model: str | None) -> None:
    parts.title("Predict")
    if model is None or (row := facts.champion(model)) is None:
        st.info("There is no champion yet; \\`perron run\\` makes one.")
        return
    bundle = facts.bundle(row)
    if isinstance(bundle, GraphBundle):
        parts.note("A plain ONNX graph takes tensors, over the Open Inference Protocol; there is no form for it.")
        return
    parts.note(f"{model}, by the service at {facts.settings.server}; every answer is logged and has a receipt.")
    one, many = st.tabs(["One row", "A table"])
    with one:
        _form(facts, model, bundle)
    with many:
        _batch(facts, row, bundle)


def help_of(field: Field) -> str:
    """What the form says of a field: its words, what it must be, whether it may be left out."""
    words = [field.doc or "", f"Expected {field.expected}" + (f", in {field.unit}." if field.unit else ".")]
    return plain(" ".join([*words, "May be left empty." if field.optional else ""]).strip())


def parsed(field: Field, given: Any) -> Any:
    """A widget's value as a request has it; what can't be read is sent as it is, so that the service says why."""
    if given is None or (isinstance(given, str) and given in ("", NONE) and given not in field.values):
        return None
    if isinstance(given, date):
        return given.isoformat()
    if field.kind in ("float", "int") and isinstance(given, str) and "_" not in given:
        try:
            return int(given)
        except ValueError:
            pass
        try:
            value = float(given)
        except ValueError:
            return given
        return value if math.isfinite(value) else given
    return given


def _widget(field: Field, sample: Any, place: Any) -> Any:
    label = field.name + (f" ({field.unit})" if field.unit else "") + (" · optional" if field.optional else "")
    label, key, words = plain(label), f"field {field.name}", help_of(field)
    if field.values or field.kind == "bool":
        options: list[Any] = [*(field.values or (True, False)), *([NONE] if field.optional else [])]
        first = options.index(sample) if sample in options else len(options) - 1
        show_one = (lambda value: str(value).lower()) if field.kind == "bool" else str
        return place.selectbox(label, options, first, format_func=show_one, key=key, help=words)
    shown = "" if sample is None else str(sample)
    hint = "none" if field.optional else None
    return place.text_input(label, shown, key=key, help=words, placeholder=hint)


def _form(facts: Facts, model: str, bundle: Bundle) -> None:
    sample = bundle.sample["rows"][0]
    fields = list(bundle.schema.request)
    state = f"answer of {model}"
    faults: Mapping[str, list[str]] = st.session_state.get(f"faults of {model}", {})
    with st.form("row", border=False):
        places = st.columns(3)
        given = {}
        for at, field in enumerate(fields):
            column = places[at % 3]
            given[field.name] = _widget(field, sample.get(field.name), column)
            for message in faults.get(field.name, ()):
                column.html(f'<p class="p-fault" role="alert">{esc(message)}</p>')
        is_sent = st.form_submit_button("Predict", type="primary")
    if is_sent:
        row = {field.name: parsed(field, given[field.name]) for field in fields}
        asked = {field.name for field in fields if field.is_asked}
        row = {name: value for name, value in row.items() if value is not None or name in asked}
        _ask(facts, model, row, state)
        st.rerun()
    problem = st.session_state.get(f"problem of {model}")
    if problem:
        st.error(plain(problem))
    answer = st.session_state.get(state)
    if answer:
        show_receipt(answer, bundle)


def _ask(facts: Facts, model: str, row: Mapping[str, Any], state: str) -> None:
    """Asks the service, and keeps what it says for the page that follows."""
    for name in (state, f"faults of {model}", f"problem of {model}"):
        st.session_state.pop(name, None)
    try:
        with facts.settings.client() as client:
            made = client.predict([row], model=model).predictions[0]
            st.session_state[state] = client.receipt(made.id)
    except Refused as refused:
        found: dict[str, list[str]] = {}
        for fault in refused.faults:
            found.setdefault(fault.field, []).append(fault.message.removesuffix(f" at rows[0].{fault.field}") + ".")
        st.session_state[f"faults of {model}"] = found
        count = refused.count or len(found)
        st.session_state[f"problem of {model}"] = (
            f"The row breaks the contract in {count} place{'' if count == 1 else 's'}; nothing was predicted."
            if found else str(refused)
        )  # fmt: skip
    except NoAnswer:
        st.session_state[f"problem of {model}"] = (
            f"No service answers at {facts.settings.server}; start one with perron serve."
        )
    except Problem as problem:
        st.session_state[f"problem of {model}"] = str(problem)


def show_receipt(receipt: Mapping[str, Any], bundle: Bundle | None = None) -> None:
    """A prediction and where it comes from."""
    made, model = receipt["prediction"], receipt["model"]
    target = bundle.schema.target if bundle is not None else None
    unit = target.unit if target is not None else None
    value = made["value"]
    boxes: list[tuple[str, object, str]] = [(target.name if target else "Prediction", number(value, unit), "predicted")]
    shares = made.get("probabilities") or {}
    boxes += [
        (label, percent(share), "probability") for label, share in sorted(shares.items(), key=lambda one: -one[1])[:5]
    ]
    parts.facts_row(boxes)
    st.header("Receipt", anchor=False)
    data, code = receipt.get("data") or {}, receipt.get("code") or {}
    outcome = receipt.get("outcome")
    parts.table(
        ("what", "which"),
        [
            ("prediction", made["id"]), ("time", made["time"]), ("route", made["route"]),
            ("model", f"{model['name']} version {model['version']}"), ("bundle", model["bundle"]), ("run", receipt.get("run")),
            ("data", f"snapshot {str(data.get('snapshot', ''))[:12]}, {number(data.get('rows'))} rows" if data else "unknown"),
            ("code", (code.get("commit") or "not in git") + (", with uncommitted changes" if code.get("dirty") else "")),
            ("environment", f"Python {(receipt.get('environment') or {}).get('python', 'unknown')}"),
            ("outcome", "not known yet" if outcome is None else number(outcome["value"])),
        ],
        name="Receipt",
    )  # fmt: skip


def _batch(facts: Facts, row: Mapping[str, Any], bundle: Bundle) -> None:
    needed = [field.column for field in bundle.schema.request if field.is_asked]
    parts.note(
        f"A CSV file with the columns {', '.join(needed)}. Rows that break the contract get a fault, the others a prediction."
    )
    given = st.file_uploader("CSV", type=["csv"], key="table")
    if given is None or not st.button("Predict every row", type="primary"):
        made = st.session_state.get("predicted")
        if made and given is not None and made[0] == given.file_id:
            _batch_result(*made[1:])
        return
    try:
        result = _predict_table(facts, row, bundle, given.getvalue())
    except PerronError as error:
        st.error(plain(error))
        return
    st.session_state["predicted"] = (given.file_id, given.name, *result)
    _batch_result(given.name, *result)


def _predict_table(
    facts: Facts, row: Mapping[str, Any], bundle: Bundle, text: bytes
) -> tuple[bytes, int, int, Sequence[Any]]:
    """The predicted table as CSV, its rows, how many of them are bad, and why."""
    with tempfile.TemporaryDirectory(prefix="perron-") as place:
        source, output = Path(place, "rows.csv"), Path(place, "predicted.csv")
        source.write_bytes(text)
        if bundle.history is not None:
            bundle.history.attach(journal_path(facts.project.predictions, bundle.name))
        done = predict_source(
            bundle, row["version"], open_source(str(source)), open_sink(str(output)), log_folder=facts.project.predictions,
            home=Path(place, "work"), secret=facts.project.secret,
        )  # fmt: skip
        return output.read_bytes(), done.rows, done.bad, list(done.faults)


def _batch_result(name: str, made: bytes, rows: int, bad: int, faults: Sequence[Any]) -> None:
    parts.facts_row(
        [
            ("Predicted", number(rows - bad), f"of {number(rows)} rows"),
            ("Bad", number(bad), "their fault is in the file"),
        ]
    )
    if faults:
        parts.table(("why",), [(str(fault),) for fault in faults[:20]], name="Faults")
    st.download_button("Download the predictions", made, f"predicted-{name}", "text/csv")
