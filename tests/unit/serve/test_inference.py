"""Tensors as they come: what the public client writes is read, and the protocol's numbers are the public ones."""

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2
from tritonclient.utils import serialize_byte_tensor

from perron.errors import MissingPackage
from perron.serve import http, inference
from perron.serve.app import Malformed
from perron.serve.grpc import _messages
from perron.serve.inference import from_bytes, from_values
from perron.serve.tensors import bytes_of_text, tensor_bytes
from perron.tensors import DATATYPES

SERVE = Path(inference.__file__).parent
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
NUMBERS = sorted(set(DATATYPES) - {"BYTES"})


@given(st.sampled_from(NUMBERS).flatmap(lambda d: st.tuples(st.just(d), arrays.arrays(DATATYPES[d], SHAPES))))
def test_numbers_come_back_from_their_bytes_and_values(given: tuple[str, Any]) -> None:
    datatype, array = given
    read = from_bytes("x", datatype, array.shape, bytes(tensor_bytes(array)))
    assert read.shape == array.shape and read.missing is None
    np.testing.assert_array_equal(read.array, array.ravel())
    offset = memoryview(b"!" + bytes(tensor_bytes(array)))[1:]
    assert from_bytes("x", datatype, array.shape, offset).array.flags.aligned
    written = from_values("x", datatype, array.shape, array.tolist() if array.size else [])
    np.testing.assert_array_equal(written.array, array.ravel())


@given(arrays.arrays(object, SHAPES, elements=st.text(st.characters(exclude_categories=("Cs",)), max_size=9)))
def test_texts_are_written_and_read_as_the_public_client_does(array: Any) -> None:
    public = serialize_byte_tensor(array)
    data = public.item() if public.size else b""
    assert tensor_bytes(array) == data
    assert from_bytes("x", "BYTES", array.shape, data).array.tolist() == array.ravel().tolist()


def test_bf16_is_read_as_it_is_written() -> None:
    array = np.array([1.0, -2.5, 3.0e38, 0.0], np.float32)
    data = array.astype(ml_dtypes.bfloat16).tobytes()
    np.testing.assert_allclose(from_bytes("x", "BF16", [4], data).array, array, rtol=1e-2)


def test_texts_that_are_not_utf8_stay_bytes() -> None:
    data = bytes_of_text(["a"]) + struct.pack("<I", 1) + b"\xff"
    assert from_bytes("x", "BYTES", [2], data).array.tolist() == ["a", b"\xff"]


@pytest.mark.parametrize("datatype", [*NUMBERS, "BYTES", "BF16", "FP8", "", "float32"])
@pytest.mark.parametrize("shape", [[-1], [2**62, 8], [True], [3], [1] * 100, ["1"], [None]])
def test_shapes_that_no_bytes_fill_are_refused(datatype: str, shape: list[Any]) -> None:
    with pytest.raises(Malformed):
        from_bytes("x", datatype, shape, b"\0" * 5)


def test_nulls_are_marked() -> None:
    read = from_values("x", "INT64", [3], [1, None, 2**63 - 1])
    assert read.array.tolist() == [1, 0, 2**63 - 1] and read.missing.tolist() == [False, True, False]


# ------------------------------------------------------------------ the messages


def test_every_message_has_the_public_protocols_numbers_and_types() -> None:
    public = service_pb2.DESCRIPTOR
    known = {**public.message_types_by_name, **service_pb2.model__config__pb2.DESCRIPTOR.message_types_by_name}

    def compare(mine: Any, theirs: Any) -> int:
        for field in mine.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated), (
                field.full_name
            )
            oneofs = [f.containing_oneof and f.containing_oneof.name for f in (field, other)]
            assert oneofs[0] == oneofs[1]
        for nested in mine.nested_types:
            compare(nested, theirs.nested_types_by_name[nested.name])
        return len(mine.fields)

    assert sum(compare(made.DESCRIPTOR, known[name]) for name, made in _messages().items()) > 90
    file = descriptor_pb2.FileDescriptorSet.FromString((SERVE / "inference.binpb").read_bytes()).file[0]
    calls = {m.name: m for m in public.services_by_name["GRPCInferenceService"].methods}
    for method in file.service[0].method:
        other = calls[method.name]
        assert (method.input_type, method.output_type) == (
            f".{other.input_type.full_name}",
            f".{other.output_type.full_name}",
        )


def test_the_descriptors_are_compiled_from_the_proto(tmp_path: Path) -> None:
    made = tmp_path / "made.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={made}", "inference.proto"]
    subprocess.run(command, cwd=SERVE, check=True)
    assert made.read_bytes() == (SERVE / "inference.binpb").read_bytes(), "run scripts/protocol.sh"


def test_missing_grpc_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"perron\[grpc\]"):
        http.check_grpc()


def test_a_server_without_grpc_never_imports_it() -> None:
    code = "import sys; import perron.serve.http, perron.serve.workers; print('grpc' in sys.modules, 'google.protobuf' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False False\n"
    )
