"""What the tests of the Open Inference Protocol ask: plain graphs made here, and a project that has them beside a contract."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.conftest import perron
from tests.integration.test_pipeline import run, write_project

CHANCE = np.random.default_rng(0)
KERNEL = (CHANCE.normal(size=(4, 3, 3, 3)) / 5).astype(np.float32)
DENSE = CHANCE.normal(size=(4, 10)).astype(np.float32)


def save(path: Path, nodes: list[onnx.NodeProto], inputs: list[tuple[str, int, list[str | int]]], outputs: list[tuple[str, int, list[str | int]]], weights: dict[str, np.ndarray] | None = None) -> Path:  # fmt: skip
    """Writes a graph."""
    graph = helper.make_graph(
        nodes, path.stem,
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [helper.make_tensor(n, helper.np_dtype_to_tensor_dtype(w.dtype), w.shape, w.tobytes(), raw=True) for n, w in (weights or {}).items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def save_image(path: Path) -> Path:
    """Ten scores of a picture of any number of rows: (N, 3, 32, 32) float32."""
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "dense"], ["scores"]),
    ]
    return save(
        path, nodes, [("pixels", TensorProto.FLOAT, ["N", 3, 32, 32])], [("scores", TensorProto.FLOAT, ["N", 10])],
        {"kernel": KERNEL, "dense": DENSE},
    )  # fmt: skip


def save_words(path: Path) -> Path:
    """A number for each of a row's words, and the words again."""
    encoder = helper.make_node(
        "LabelEncoder", ["words"], ["marks"], domain="ai.onnx.ml",
        keys_strings=["good", "bad", "größe"], values_int64s=[1, -1, 7], default_int64=0,
    )  # fmt: skip
    return save(
        path, [encoder, helper.make_node("Identity", ["words"], ["again"])],
        [("words", TensorProto.STRING, ["N", "L"])],
        [("marks", TensorProto.INT64, ["N", "L"]), ("again", TensorProto.STRING, ["N", "L"])],
    )  # fmt: skip


def save_sums(path: Path) -> Path:
    """Running sums down the rows: a row's answer depends on the rows before it. Two inputs of the same length."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("CumSum", ["c", "axis"], ["sums"]),
    ]
    return save(
        path, nodes, [("a", TensorProto.DOUBLE, ["N"]), ("b", TensorProto.DOUBLE, ["N"])],
        [("sums", TensorProto.DOUBLE, ["N"])], {"axis": np.array(0)},
    )  # fmt: skip


def save_table(path: Path) -> Path:
    """Looks up places in a table of six, and can't compute any other."""
    return save(
        path, [helper.make_node("Gather", ["table", "place"], ["found"])],
        [("place", TensorProto.INT64, ["N"])], [("found", TensorProto.FLOAT, ["N"])],
        {"table": np.arange(6, dtype=np.float32)},
    )  # fmt: skip


def write_mixed_project(folder: Path) -> Path:
    """A project with a contract's model `things`, and the graphs `image`, `words` and `sums`."""
    project = write_project(folder, "label")
    run(project)
    for name, save_one in (("image", save_image), ("words", save_words), ("sums", save_sums)):
        perron("register", name, save_one(folder / f"{name}.onnx"), cwd=project)
    return project
