"""`perron register`: plain ONNX files become versions; what can't be served is refused in a line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from perron import bundle as bundles
from perron.errors import DataError
from perron.project import Project
from tests.conftest import perron, perron_json
from tests.integration.oip_models import save, save_image, save_sums, save_table, save_words
from tests.integration.test_pipeline import run, write_project


def test_an_empty_folder_is_enough(tmp_path: Path) -> None:
    save_image(tmp_path / "image.onnx")
    said = perron("register", "image", "image.onnx", cwd=tmp_path).stdout
    assert said.startswith("image version 1 is now champion.") and "pixels  FP32 [-1, 3, 32, 32]" in said
    assert [v["aliases"] for v in perron_json("models", cwd=tmp_path)] == [["champion"]]
    again = perron_json("register", "image", "image.onnx", cwd=tmp_path)
    assert again["version"] == 1 and again["batched"] is True
    run_of = perron_json("runs", cwd=tmp_path)
    assert len(run_of) == 1 and run_of[0]["status"] == "done"


def test_a_bundle_of_a_graph_opens_checked_and_refuses_rows(tmp_path: Path) -> None:
    made = perron_json("register", "words", save_words(tmp_path / "words.onnx"), cwd=tmp_path)
    project = Project.open(tmp_path)
    path = project.ledger.bundle_path(project.ledger.get_version("words"))
    project.ledger.close()
    bundle = bundles.load(path, made["bundle"])
    assert isinstance(bundle, bundles.GraphBundle) and not (path / "contract.json").exists()
    found = bundle.run_tensors({"words": np.array([["bad"]], object)})
    assert found[0].tolist() == [[-1]] and found[1].tolist() == [["bad"]]
    with pytest.raises(DataError, match="POST /v2/models/words/infer"):
        bundle.predict([{"words": "bad"}])
    (tmp_path / "rows.csv").write_text("words\nbad\n")
    refused = perron("predict", "rows.csv", "-o", "out.csv", "--model", "words", cwd=tmp_path, check=False)
    assert refused.returncode == 1 and "takes tensors" in refused.stderr


def test_batching_is_proved_and_not_assumed(tmp_path: Path) -> None:
    for make, batched in ((save_image, True), (save_words, True), (save_sums, False)):
        name = make.__name__
        assert perron_json("register", name, make(tmp_path / f"{name}.onnx"), cwd=tmp_path)["batched"] is batched
    mean = helper.make_node("ReduceMean", ["x"], ["y"], axes=[0], keepdims=1)
    path = save(
        tmp_path / "mean.onnx", [mean], [("x", TensorProto.FLOAT, ["N", 2])], [("y", TensorProto.FLOAT, ["M", 2])]
    )
    assert perron_json("register", "mean", path, cwd=tmp_path)["batched"] is False


def test_a_sample_is_kept_and_warms(tmp_path: Path) -> None:
    path = save_table(tmp_path / "table.onnx")
    (tmp_path / "sample.json").write_text(
        json.dumps({"inputs": [{"name": "place", "datatype": "INT64", "shape": [2], "data": [5, 3]}]})
    )
    made = perron_json("register", "table", path, "--sample", tmp_path / "sample.json", cwd=tmp_path)
    assert made["batched"] is True
    np.savez(tmp_path / "sample.npz", place=np.array([6]))
    refused = perron("register", "table2", path, "--sample", tmp_path / "sample.npz", cwd=tmp_path, check=False)
    assert refused.returncode == 1 and "can't compute" in refused.stderr and len(refused.stderr.splitlines()) == 1
    np.savez(tmp_path / "other.npz", x=np.array([1]))
    refused = perron("register", "table2", path, "--sample", tmp_path / "other.npz", cwd=tmp_path, check=False)
    assert refused.returncode == 1 and "isn't a request of this graph" in refused.stderr


def _complex(path: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x", None, "Can't read"),
        ("x", b"", "isn't an ONNX graph"),
        ("x", b"nothing at all", "isn't an ONNX graph"),
        ("../x", "image", "can't be a model's name"),
        ("x" * 200, "image", "can't be a model's name"),
        ("größe", "image", "can't be a model's name"),
        ("x", "complex", "which the protocol has no datatype for"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(tmp_path: Path, name: str, content: Any, said: str) -> None:
    path = tmp_path / "model.onnx"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "image":
        save_image(path)
    elif content == "complex":
        _complex(path)
    done = perron("register", name, path, cwd=tmp_path, check=False)
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not list((tmp_path / ".perron").glob("bundles/*"))


@pytest.mark.parametrize("alias", ["", "2", "a b", "../x"])
def test_an_alias_that_cannot_be_one_is_refused(tmp_path: Path, alias: str) -> None:
    done = perron("register", "x", save_image(tmp_path / "image.onnx"), "--alias", alias, cwd=tmp_path, check=False)
    assert done.returncode == 1 and "can't be an alias" in done.stderr
    assert perron_json("models", cwd=tmp_path) == []


def test_the_name_of_a_model_with_a_contract_is_taken(tmp_path: Path) -> None:
    project = write_project(tmp_path / "things", "number")
    run(project)
    done = perron("register", "things", save_image(project / "image.onnx"), cwd=project, check=False)
    assert done.returncode == 1 and "is a model with a contract" in done.stderr
