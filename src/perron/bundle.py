"""A graph, a contract and where they come from in; a folder of files with their hashes out, and back to predictions.

    model.onnx      raw contract fields in, value (and probabilities) out
    contract.json   the contract
    sample.json     a request that the service answers
    reference.sketch, loss.onnx   what monitoring holds traffic to, and what tells errors before outcomes do
    history.json, history.npz   of a system with history: its series' newest moments (`perron.history.state`)
    manifest.json   name, task, classes, metrics, parity, lineage, and the SHA-256 of the other files

A bundle of the kind `graph` is a plain ONNX graph without a contract: it takes tensors, which its
manifest names (`inputs`, `outputs`), and has no contract.json.

Opening a bundle checks every hash and loads no pickle; it needs NumPy and onnxruntime.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perron.check import Fault, judge_row, parse
from perron.contract import Schema
from perron.digest import digest_bytes, digest_file
from perron.errors import BundleError, DataError
from perron.store import write_atomically
from perron.tensors import RowPacker, TensorFacts, tensors_of

if TYPE_CHECKING:
    from perron.history.state import History
    from perron.sketch import TableSketch

__all__ = ["Bundle", "GraphBundle", "load", "open_session", "pack"]

FORMAT = 1
MANIFEST = "manifest.json"
REFERENCE, LOSS = "reference.sketch", "loss.onnx"


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    `digest` is the SHA-256 of its manifest, and so of every file in it. Predicting is thread safe.
    """

    path: Path
    digest: str
    manifest: Mapping[str, Any]
    schema: Schema

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def task(self) -> str:
        return str(self.manifest["task"])

    @property
    def classes(self) -> list[Any] | None:
        """The labels in the order of the probabilities; None in a regression."""
        found: list[Any] | None = self.manifest["classes"]
        return found

    @cached_property
    def labels(self) -> list[str]:
        """The classes as the keys of probabilities: text as it is, `true` and `false`, `1`."""
        return [label if isinstance(label, str) else json.dumps(label) for label in self.classes or ()]

    @cached_property
    def sample(self) -> dict[str, Any]:
        """A request that the service answers: `{"rows": [{…}]}`."""
        found: dict[str, Any] = json.loads((self.path / "sample.json").read_bytes())
        return found

    @cached_property
    def _session(self) -> Any:
        return open_session(self.path / "model.onnx")

    @cached_property
    def _outputs(self) -> list[str]:
        return [output.name for output in self._session.get_outputs()]

    @cached_property
    def _run(self) -> Any:
        """The session's run, without the wrapper that costs a single row a fifth of its time where that can be left out."""
        return getattr(self._session, "_sess", self._session).run

    @cached_property
    def has_probabilities(self) -> bool:
        return len(self._outputs) > 1

    @cached_property
    def _used(self) -> frozenset[str]:
        return frozenset(given.name for given in self._session.get_inputs())

    @cached_property
    def reference(self) -> "TableSketch | None":
        """What training and test rows, and the predictions of these, looked like; None in an older bundle."""
        if REFERENCE not in self.manifest["files"]:
            return None
        from perron.sketch import TableSketch  # not at the top: the server doesn't need it

        return TableSketch.from_bytes((self.path / REFERENCE).read_bytes())

    @cached_property
    def _loss_session(self) -> Any:
        return open_session(self.path / LOSS)

    def run_loss(self, feed: Mapping[str, Any]) -> Any:
        """The absolute errors (n,) to be expected of raw arrays (n,) by feature; only where the manifest's estimator has `loss`."""
        used = {given.name for given in self._loss_session.get_inputs()}
        return self._loss_session.run(None, {name: array for name, array in feed.items() if name in used})[0]

    @cached_property
    def history(self) -> "History | None":
        """The state of the series that rows' pasts come from; None where the system has no history."""
        if "history.json" not in self.manifest["files"]:
            return None
        from perron.history.state import read_history  # not at the top: most bundles have none

        return read_history(self.path, self.schema)

    @cached_property
    def packer(self) -> Callable[[Sequence[tuple[Any, ...]]], dict[str, Any]]:
        """Packs decoded rows, tuples in the order of `schema.request`, into what the graph is fed, their pasts included."""
        pack, history = RowPacker(self.schema), self.history
        return pack if history is None else lambda rows: pack(rows) | history.features(rows)

    def run(self, feed: Mapping[str, Any]) -> tuple[Any, Any | None]:
        """Values (n,) and probabilities (n, k) (or None) of raw arrays (n,) by feature."""
        used = self._used
        if len(used) != len(feed):
            feed = {name: array for name, array in feed.items() if name in used}
        found = self._run(self._outputs, feed, None)
        return (found[0], found[1]) if len(found) > 1 else (found[0], None)

    @staticmethod
    def not_finite(values: Any, probabilities: Any | None) -> list[int]:
        """The places of rows whose answer holds a number that isn't finite: they lie outside what the model can compute."""
        import numpy as np

        finite = np.isfinite(values) if values.dtype.kind == "f" else None
        if probabilities is not None:
            shares = np.isfinite(probabilities).all(axis=1)
            finite = shares if finite is None else finite & shares
        return [] if finite is None or finite.all() else [int(place) for place in np.flatnonzero(~finite)]

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A prediction per row: `{"value": …}`, in a classification with `"probabilities": {label: share}` as well.

        Of a system with history, rows see the state and those before them among the rows; the state stays as it is.

        Raises:
            DataError: a row breaks the contract (names the field, the value and the rule), or has no finite answer.
        """
        fields = {field.name: field for field in self.schema.request}
        target = self.schema.target.name if self.schema.target else None
        faults: list[Fault] = [
            fault for index, row in enumerate(rows) for fault in judge_row(fields, target, dict(row), index)
        ]
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise DataError(f"{faults[0].message}{more}.")
        if not rows:
            return []
        values, probabilities = self.run(self.packer([_parsed_row(fields.values(), row) for row in rows]))
        for place in self.not_finite(values, probabilities)[:1]:
            raise DataError(
                f"The model's answer to rows[{place}] isn't a finite number; it lies outside what it can compute."
            )
        return self.answers(values, probabilities)

    def warm(self) -> None:
        """Returns once the bundle has answered its own sample.

        Raises:
            DataError: it can't.
        """
        self.predict(self.sample["rows"])

    def answers(self, values: Any, probabilities: Any | None) -> list[dict[str, Any]]:
        """The outputs of `run` as one plain dict per row."""
        plain = values.tolist()
        if probabilities is None:
            return [{"value": value} for value in plain]
        labels = self.labels
        return [
            {"value": value, "probabilities": dict(zip(labels, row, strict=True))}
            for value, row in zip(plain, probabilities.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class GraphBundle(Bundle):
    """An opened bundle of a plain graph: tensors in, tensors out. Its schema has no fields."""

    @cached_property
    def inputs(self) -> tuple[TensorFacts, ...]:
        return tuple(TensorFacts.from_json(item) for item in self.manifest["inputs"])

    @cached_property
    def outputs(self) -> tuple[TensorFacts, ...]:
        return tuple(TensorFacts.from_json(item) for item in self.manifest["outputs"])

    @property
    def is_batched(self) -> bool:
        """Whether rows along the first dimension were seen to be answered each from itself."""
        return bool(self.manifest["batched"])

    def run_tensors(self, feed: Mapping[str, Any]) -> list[Any]:
        """The outputs' arrays of the inputs' arrays; text as objects.

        Raises:
            DataError: the graph can't compute them, in the runtime's own words.
        """
        try:
            found: list[Any] = self._session.run(self._outputs, feed)
        except Exception as error:  # onnxruntime's errors have no common base
            words = " ".join(str(error).split())
            raise DataError(f"The graph can't compute this: {words[:400]}") from error
        return found

    def warm(self) -> None:
        self.run_tensors(tensors_of(self.sample["inputs"]))

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        raise DataError(self.refusal)

    @property
    def refusal(self) -> str:
        """What one who sends rows is told."""
        names = ", ".join(f"{i.name} {i.datatype} {list(i.shape)}" for i in self.inputs)
        return f"{self.name} has no contract and takes tensors ({names}): POST /v2/models/{self.name}/infer."


def _parsed_row(fields: Iterable[Any], row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(None if row.get(field.name) is None else parse(field, row[field.name]) for field in fields)


def open_session(graph: Path | bytes) -> Any:
    """A session of a graph, in a file or in memory, as a server runs it: on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: a row costs microseconds, and a pool's hand-over costs more. Throughput comes from workers.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = (
        4  # its errors come as exceptions too, and what a client sent is no line on standard error
    )
    return onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph), options, providers=["CPUExecutionProvider"]
    )


def pack(
    folder: Path,
    *,
    graph: bytes,
    schema: Schema | None,
    sample: Mapping[str, Any],
    facts: Mapping[str, Any],
    history: Mapping[str, bytes] | None = None,
    reference: Mapping[str, bytes] | None = None,
) -> Bundle:
    """The bundle, written to a folder that appears only when it is complete.

    Args:
        folder: must not exist, or be a bundle that is replaced.
        graph: the ONNX model.
        schema: the contract; None for a plain graph.
        sample: a request, `{"rows": [{…}]}`; of a plain graph `{"inputs": [{name, datatype, shape}]}`.
        facts: `name`, `task`, `classes`, `metrics`, `baseline`, `parity`, `lineage`; of a plain graph
            `kind`, `inputs`, `outputs` and `batched` as well.
        reference: the files REFERENCE and, where there is one, LOSS, for monitoring.
        history: the files that `history.state.pack_history` gives, of a system with history.
    """
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        files = {"model.onnx": graph, "sample.json": _json(sample), **(history or {}), **(reference or {})}
        if schema is not None:
            files["contract.json"] = _json(schema.to_json())
        for name, data in files.items():
            write_atomically(building / name, data)
        hashes = {name: {"sha256": digest_bytes(data), "bytes": len(data)} for name, data in files.items()}
        write_atomically(building / MANIFEST, _json({"format": FORMAT, **facts, "files": hashes}))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(building, folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return load(folder)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def load(path: str | Path, expected: str | None = None) -> Bundle:
    """The bundle in a folder, every file checked against the manifest.

    Args:
        path: the folder.
        expected: the digest that the manifest must have, from the ledger.

    Raises:
        BundleError: it isn't a bundle, is of a newer format, or a file is missing, changed or not in the manifest.
    """
    path = Path(path)
    try:
        raw = (path / MANIFEST).read_bytes()
        manifest = json.loads(raw)
        files: dict[str, dict[str, Any]] = manifest["files"]
        newer = manifest["format"] > FORMAT
    except OSError as error:
        raise BundleError(f"{path} isn't a bundle: {MANIFEST} can't be read ({error.strerror}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{path / MANIFEST} is damaged: {error}.") from error
    if newer:
        raise BundleError(f"{path} has format {manifest['format']}, newer than this Perron's {FORMAT}; update perron.")
    found = digest_bytes(raw)
    if expected is not None and found != expected:
        raise BundleError(
            f"{path / MANIFEST} was changed after it was registered; register the bundle again or restore it."
        )
    for name, facts in files.items():
        if Path(name).name != name:
            raise BundleError(f"{path / MANIFEST} names {name!r}, which isn't a file of the bundle's own folder.")
        try:
            actual = digest_file(path / name)
        except OSError as error:
            raise BundleError(f"{path / name} is missing or can't be read ({error.strerror}).") from error
        if actual != facts["sha256"]:
            raise BundleError(f"{path / name} was changed: its SHA-256 isn't the manifest's; the bundle is refused.")
    strangers = sorted(entry.name for entry in path.iterdir() if entry.name not in files and entry.name != MANIFEST)
    if strangers:
        raise BundleError(f"{path} holds {strangers[0]!r}, which isn't in its manifest; remove it.")
    is_graph = manifest.get("kind") == "graph"
    for needed in ("model.onnx", "sample.json", *(() if is_graph else ("contract.json",))):
        if needed not in files:
            raise BundleError(f"{path / MANIFEST} doesn't name {needed}.")
    if is_graph:
        return GraphBundle(path, found, manifest, Schema(str(manifest["name"]), None, ()))
    return Bundle(path, found, manifest, Schema.from_json(json.loads((path / "contract.json").read_bytes())))
