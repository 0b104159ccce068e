"""A plain ONNX file in; a registered bundle that takes tensors out, with what its inputs and outputs are.

Rows along the first dimension may be answered together only where that was seen to change nothing:
two made-up requests are asked alone and together.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perron import bundle as bundles
from perron.bundle import GraphBundle
from perron.digest import digest_bytes
from perron.errors import BundleError, DataError, PerronError, SourceError
from perron.ledger import CHAMPION
from perron.project import Project
from perron.tensors import DATATYPES, TensorFacts, tensors_of

__all__ = ["Registered", "register_graph"]

ONNX_DATATYPES = {
    "bool": "BOOL", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "float16": "FP16", "float": "FP32", "double": "FP64", "string": "BYTES",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
MADE_UP_LENGTH = 8  # of a dimension that may have any
RELATIVE, ABSOLUTE = 1e-3, 1e-5  # how far float32 sums may differ that are added up in another order


@dataclass(frozen=True)
class Registered:
    """What was registered: the version, its inputs and outputs, and whether rows are answered together."""

    name: str
    version: int
    aliases: tuple[str, ...]
    bundle: GraphBundle

    def to_json(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "version": self.version,
            "aliases": list(self.aliases),
            "bundle": self.bundle.digest,
            "inputs": [item.to_json() for item in self.bundle.inputs],
            "outputs": [item.to_json() for item in self.bundle.outputs],
            "batched": self.bundle.is_batched,
        }


def register_graph(
    project: Project, name: str, path: Path, *, sample: Path | None = None, alias: str = CHAMPION
) -> Registered:
    """Packs an ONNX file as a bundle, gives it a version and points the alias at it; at a model's first version the champion too.

    Args:
        project: whose ledger knows the version.
        name: the model's.
        path: the ONNX file; its weights must be inside.
        sample: a request that the graph answers: JSON `{"inputs": [{name, datatype, shape, data}]}`, or
            arrays by name in an .npz. None: one is made up.
        alias: that points at the version afterwards.

    Raises:
        SourceError: a file can't be read.
        BundleError: it isn't an ONNX graph, or has inputs or outputs that no protocol can carry.
        DataError: the graph can't compute the sample; the name or the alias can't be one, or the name belongs to a model with a contract.
    """
    if not NAME.fullmatch(name):
        raise DataError(f"{name[:80]!r} can't be a model's name; use letters, digits, dots, _ and -.")
    if not NAME.fullmatch(alias) or alias.isdigit():
        raise DataError(
            f"{alias[:80]!r} can't be an alias; use letters, digits, dots, _ and -, and not a number alone."
        )
    _demand_free(project, name)
    graph = _read(path)
    session = _open(path, graph)
    inputs, outputs = _facts(session.get_inputs(), path), _facts(session.get_outputs(), path)
    if not inputs or not outputs:
        raise BundleError(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; a model needs both.")
    given = _read_sample(sample, inputs) if sample is not None else None
    feed = given if given is not None else _made_up(inputs, 0, 1)
    try:
        session.run(None, feed)
    except Exception as error:
        words = " ".join(str(error).split())[:400]
        hint = "" if sample else "; give a request that it answers with --sample"
        raise DataError(f"{path} can't compute {sample or 'a made-up request'}: {words}{hint}") from error
    facts: dict[str, Any] = {
        "kind": "graph", "name": name, "task": "tensors", "classes": None, "metrics": {}, "baseline": {}, "parity": None,
        "inputs": [item.to_json() for item in inputs], "outputs": [item.to_json() for item in outputs],
        "batched": _is_batched(session, inputs, outputs, given),
    }  # fmt: skip
    version, bundle = _register(project, name, path, graph, facts, _sample_json(inputs, feed, given is not None))
    first = project.ledger.get_alias(name, CHAMPION) is None
    aliases = tuple(dict.fromkeys([alias, *([CHAMPION] if first else [])]))
    for one in aliases:
        project.ledger.set_alias(name, one, version, "registered by `perron register`")
    return Registered(name, version, aliases, bundle)


def _demand_free(project: Project, name: str) -> None:
    for row in project.ledger.list_versions(name):
        if (project.ledger.bundle_path(row) / "contract.json").is_file():
            raise DataError(f"{name} is a model with a contract, which `perron run` makes; choose another name.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"Can't read {path}: {error.strerror}.") from error


def _open(path: Path, graph: bytes) -> Any:
    try:
        return bundles.open_session(graph)
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise BundleError(f"{path} isn't an ONNX graph that runs here: {words}") from error


def _facts(found: Sequence[Any], path: Path) -> tuple[TensorFacts, ...]:
    made = []
    for item in found:
        kind = re.fullmatch(r"tensor\((\w+)\)", item.type)
        if kind is None or kind[1] not in ONNX_DATATYPES:
            raise BundleError(
                f"{path} has {item.name!r} of type {item.type}, which the protocol has no datatype for; "
                "add a Cast to the graph."
            )
        shape = tuple(length if isinstance(length, int) and length >= 0 else -1 for length in item.shape)
        made.append(TensorFacts(item.name, ONNX_DATATYPES[kind[1]], shape))
    return tuple(made)


def _made_up(inputs: Sequence[TensorFacts], seed: int, rows: int) -> dict[str, Any]:
    """A request: of numbers small ones, of text letters; `rows` along a first dimension that may have any length."""
    chance = np.random.default_rng(seed)
    feed: dict[str, Any] = {}
    for item in inputs:
        shape = [MADE_UP_LENGTH if length < 0 else length for length in item.shape]
        if item.shape and item.shape[0] < 0:
            shape[0] = rows
        dtype = np.dtype(DATATYPES[item.datatype])
        match dtype.kind:
            case "f":
                feed[item.name] = chance.uniform(-1, 1, shape).astype(dtype)
            case "O":
                feed[item.name] = np.array(
                    [chr(97 + n) for n in chance.integers(0, 26, shape).ravel()], object
                ).reshape(shape)
            case _:
                feed[item.name] = chance.integers(0, 2, shape).astype(dtype)
    return feed


def _is_batched(
    session: Any, inputs: Sequence[TensorFacts], outputs: Sequence[TensorFacts], given: Mapping[str, Any] | None
) -> bool:
    """Whether rows along the first dimension are answered each from itself, on three made-up rows and on the sample."""
    if not all(item.shape and item.shape[0] < 0 for item in (*inputs, *outputs)):
        return False
    alone = [_made_up(inputs, seed, 1) for seed in (1, 2, 3)]
    if given is not None:
        if len({len(array) for array in given.values()}) != 1:
            return False
        alone.append({name: array[:1] for name, array in given.items()})
        shape = {name: array.shape[1:] for name, array in given.items()}
        alone = [row for row in alone if {name: array.shape[1:] for name, array in row.items()} == shape]
        if len(alone) == 1:  # lengths that only the sample has: its own values turned around are the other row
            alone.append({name: np.flip(array).copy() for name, array in alone[0].items()})
    try:
        together = session.run(None, {item.name: np.concatenate([row[item.name] for row in alone]) for item in inputs})
        parts = [session.run(None, row) for row in alone]
    except Exception:  # rows that can't be put together, or that the graph can't take
        return False
    return all(
        len(whole) == len(alone) and _same(whole, np.concatenate([part[place] for part in parts]))
        for place, whole in enumerate(together)
    )


def _same(one: Any, other: Any) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool((one == other).all())
    return bool(np.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True))


def _read_sample(path: Path, inputs: Sequence[TensorFacts]) -> dict[str, Any]:
    data = _read(path)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                feed = {name: arrays[name] for name in arrays.files}
        else:
            feed = tensors_of(json.loads(data)["inputs"])
        return {i.name: feed[i.name].astype(DATATYPES[i.datatype]) for i in inputs}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DataError(
            f'{path} isn\'t a request of this graph ({type(error).__name__}: {error}); give {{"inputs": '
            "[{name, datatype, shape, data}]} as JSON, or arrays by name as .npz."
        ) from error


def _sample_json(inputs: Sequence[TensorFacts], feed: Mapping[str, Any], with_data: bool) -> dict[str, Any]:
    """What a server warms up with; made-up numbers are not kept, zeros do as well."""
    items = []
    for item in inputs:
        array = feed[item.name]
        made = {"name": item.name, "datatype": item.datatype, "shape": list(array.shape)}
        items.append({**made, "data": array.ravel().tolist()} if with_data else made)
    return {"inputs": items}


def _register(
    project: Project, name: str, path: Path, graph: bytes, facts: dict[str, Any], sample: dict[str, Any]
) -> tuple[int, GraphBundle]:
    """Packs and registers within a run of the ledger, so that a receipt leads to when and from what."""
    ledger, sha256 = project.ledger, digest_bytes(graph)
    for row in ledger.list_versions(name):  # the same file again is the same version
        known = bundles.load(ledger.bundle_path(row), row["bundle"])
        if known.manifest["files"]["model.onnx"]["sha256"] == sha256 and known.sample == sample:
            assert isinstance(known, GraphBundle)
            return int(row["version"]), known
    run = ledger.start_run(name)
    try:
        lineage = {
            "run": run, "data": None, "code": None, "environment": None,
            "source": {"file": path.name, "sha256": sha256},
        }  # fmt: skip
        folder = project.bundles / f"{name}-{sha256[:12]}-{os.urandom(2).hex()}"
        bundle = bundles.pack(folder, graph=graph, schema=None, sample=sample, facts={**facts, "lineage": lineage})
        assert isinstance(bundle, GraphBundle)
        bundle.warm()
        version = ledger.register(name, bundle.digest, str(folder.relative_to(project.folder / ".perron")), run)
        ledger.end_run(run, "done", f"registered {path.name}")
    except PerronError as error:
        ledger.end_run(run, "failed", str(error))
        raise
    return version, bundle
