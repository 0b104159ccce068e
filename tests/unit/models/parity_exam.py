"""The exam that every exported model takes, and the data it is fitted and asked on."""

from typing import Any

import ndonnx as ndx
import numpy as np
import onnxruntime
import pandas as pd

from perron.models.graph import NULL_TEXT, export

NUMBERS = ["a b", "größe", "steps", "mostly null"]
TEXTS = ["city", "☂"]


def columns_of(frame: pd.DataFrame) -> dict[str, ndx.Array]:
    """Graph inputs for the columns of `frame`."""
    kinds = {name: ndx.float64 if frame[name].dtype == np.float64 else ndx.utf8 for name in frame}
    return {str(name): ndx.argument(shape=("N",), dtype=kind) for name, kind in kinds.items()}


def session_of(model: Any, frame: pd.DataFrame) -> onnxruntime.InferenceSession:
    """The exported model, ready to answer rows like those of `frame`."""
    columns = columns_of(frame)
    answer = export(model, columns)
    outputs = {"value": answer.value}
    if answer.probabilities is not None:
        outputs["probabilities"] = answer.probabilities
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    built = ndx.build(columns, outputs).SerializeToString()
    return onnxruntime.InferenceSession(built, options, providers=["CPUExecutionProvider"])


def answers(session: onnxruntime.InferenceSession, frame: pd.DataFrame) -> list[Any]:
    """What the exported model answers: values, then probabilities if it has them."""
    return session.run(None, {str(name): frame[name].to_numpy() for name in frame})


def close(found: Any, wanted: Any, limit: float) -> None:
    """Relative to the wanted value, or to one part in a thousand of the usual size where that is smaller.

    A linear answer near zero is a difference of large terms, whose last bits are those of the terms.
    """
    wanted = np.asarray(wanted, np.float64)
    assert found.shape == wanted.shape
    assert (np.isnan(found) == np.isnan(wanted)).all()
    finite = np.isfinite(wanted)
    assert (found[~finite & ~np.isnan(wanted)] == wanted[~finite & ~np.isnan(wanted)]).all()
    if finite.any():
        floor = 1e-3 * np.abs(wanted[finite]).mean() + 1e-300
        error = np.abs(found[finite] - wanted[finite]) / np.maximum(np.abs(wanted[finite]), floor)
        assert error.max() <= limit, f"relative error {error.max():.2e}"


def check_parity(model: Any, frame: pd.DataFrame, limit: float = 1e-9) -> onnxruntime.InferenceSession:
    """The exam: every row answered as the fitted model answers it, one row and none too."""
    session = session_of(model, frame)
    found = answers(session, frame)
    wanted = model.predict(frame)
    if hasattr(model, "classes_"):
        assert found[0].dtype == np.int64
        assert (model.classes_[found[0]] == wanted).all()
        assert (len(found) > 1) == hasattr(model, "predict_proba")
        if len(found) > 1:
            close(found[1], model.predict_proba(frame), limit)
    else:
        assert found[0].dtype == np.float64
        close(found[0], wanted, limit)
    for rows in (0, 1):
        few = answers(session, frame.iloc[:rows])
        assert [array.shape for array in few] == [(rows, *array.shape[1:]) for array in found]
    return session


def make_frame(rows: int, seed: int) -> pd.DataFrame:
    """Four columns of numbers, two with nulls, and two of text, one with a null."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a b": rng.normal(size=rows),
            "größe": rng.exponential(3.0, rows),
            "steps": rng.integers(0, 6, rows).astype(np.float64),
            "mostly null": rng.normal(5.0, 2.0, rows),
        }
    )
    frame.loc[rng.random(rows) < 0.15, "größe"] = np.nan
    frame.loc[rng.random(rows) < 0.7, "mostly null"] = np.nan
    frame["city"] = pd.Series(rng.choice(["Köln", "New York", "x", NULL_TEXT], rows), dtype=object)
    frame["☂"] = pd.Series(
        rng.choice(list("abcdefgh"), rows, p=[0.3, 0.3, 0.2, 0.1, 0.04, 0.03, 0.02, 0.01]), dtype=object
    )
    return frame
