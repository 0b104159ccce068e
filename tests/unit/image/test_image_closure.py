"""What of the installed packages an image has, and what that needs of a base."""

import json
import struct
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from perron import __version__
from perron.errors import MissingPackage
from perron.image.closure import (
    Package,
    libc_needed,
    libraries_needed,
    perron_files,
    requirements_text,
    serving_packages,
)
from perron.image.elf import needed_by
from perron.image.wheel import build_wheel

TRAINS = {
    "pandas",
    "pyarrow",
    "scikit-learn",
    "lightgbm",
    "onnx",
    "ndonnx",
    "spox",
    "cloudpickle",
    "scipy",
    "sqlalchemy",
}


def package(*tags: str) -> Package:
    return Package("one", "1", (), tags)


def test_the_closure_is_what_serving_needs_and_nothing_that_trains() -> None:
    found = {one.name: one for one in serving_packages()}
    assert {"numpy", "onnxruntime", "granian", "msgspec", "typer", "prometheus-client", "annotated-types"} <= set(found)
    assert not set(found) & TRAINS and "perron" not in found
    names = [path for one in found.values() for path, _ in one.files]
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith("../") or name.endswith((".pyc", "/RECORD"))]
    assert not [name for name in names if name.startswith("numpy/") and "/tests/" in name]
    assert [name for name in names if name.startswith("numpy-") and name.endswith("/METADATA")]
    assert all(place.is_file() for one in found.values() for _, place in one.files)
    assert f"numpy=={found['numpy'].version}\n" in requirements_text(tuple(found.values()))


def test_everything_that_serving_imports_is_in_the_closure() -> None:
    """In a process that sees nothing else: the modules of a server, by their files."""
    look = (
        "import json, sys; import perron.cli.serve, perron.serve.workers, perron.serve.alone, perron.serve.rest, "
        "perron.serve.oip, perron.serve.mlflow, perron.tokens, perron.predictions.ship, onnxruntime; "
        "print(json.dumps([m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)]))"
    )
    loaded = json.loads(subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout)
    known = {str(place.resolve()) for one in serving_packages() for _, place in one.files}
    known |= {str(place.resolve()) for _, place in perron_files()}
    # Of granian's, Python's start and the tests': used where they are there.
    optional = ("_distutils_hack", "anyio", "coverage", "dotenv", "exceptiongroup", "idna", "sniffio")
    strangers = [
        path
        for path in loaded
        if "site-packages" in path
        and str(Path(path).resolve()) not in known
        and not any(f"/{name}/" in path for name in optional)
    ]
    assert strangers == []


def test_extras_are_added_and_those_that_make_no_sense_refused_by_name() -> None:
    assert {"grpcio", "protobuf"} <= {one.name for one in serving_packages(["grpc"])}
    assert "sqlalchemy" in {one.name for one in serving_packages(["postgres"])}
    for extra, expected in (("dashboard", "can't have the extra 'dashboard'"), ("grcp", "did you mean 'grpc'")):
        with pytest.raises(MissingPackage, match=expected):
            serving_packages([extra])


def test_the_c_library_is_the_wheels() -> None:
    old, new = (
        package("cp311-cp311-manylinux2014_x86_64"),
        package("cp311-abi3-manylinux_2_28_x86_64.manylinux_2_34_x86_64"),
    )
    pure = package("py2-none-any", "py3-none-any")
    assert libc_needed([old]) == ("glibc", (2, 17)) and libc_needed([old, new, pure]) == ("glibc", (2, 28))
    assert libc_needed([pure]) == ("glibc", (0, 0))
    assert libc_needed([package("cp311-cp311-musllinux_1_2_x86_64")]) == ("musl", (1, 2))
    kind, version = libc_needed([package("cp311-cp311-linux_x86_64")])  # built here
    assert kind == "glibc" and version >= (2, 17)


def test_libraries_that_no_package_brings_along_are_named(tmp_path: Path) -> None:
    needed = libraries_needed(serving_packages())
    assert "libc.so.6" in needed and not [name for name in needed if "openblas" in name or "onnxruntime" in name]
    (tmp_path / "text.so").write_text("no ELF")
    assert needed_by(tmp_path / "text.so") == frozenset()
    (tmp_path / "cut.so").write_bytes(
        b"\x7fELF\x02\x01" + bytes(26) + struct.pack("<Q", 64) + bytes(14) + struct.pack("<HH", 56, 3) + bytes(6)
    )
    with pytest.raises(ValueError, match="is cut off"):
        needed_by(tmp_path / "cut.so")


def test_the_wheel_is_one_that_pip_installs_and_the_same_again(tmp_path: Path) -> None:
    name, data = build_wheel(perron_files())
    assert name == f"perron-{__version__}-py3-none-any.whl" and build_wheel(perron_files()) == (name, data)
    with zipfile.ZipFile(BytesIO(data)) as packed:
        assert packed.testzip() is None and "perron/serve/docs.html" in packed.namelist()
    (tmp_path / name).write_bytes(data)
    words = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile", "--root-user-action=ignore"]
    subprocess.run(
        [sys.executable, *words, "--target", tmp_path / "lib", tmp_path / name], check=True, capture_output=True
    )
    said = subprocess.run(
        [sys.executable, "-c", "import perron; print(perron.__file__)"], env={"PYTHONPATH": str(tmp_path / "lib")},
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout.strip() == str(tmp_path / "lib" / "perron" / "__init__.py")
