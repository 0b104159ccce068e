"""A project's ledger and store in; its snapshots out: which runs took them, which versions are made of them, what is in them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perron.contract import Field, Role, Schema
from perron.digest import digest
from perron.errors import NotFound
from perron.project import Project

if TYPE_CHECKING:
    from perron.sketch import ColumnSketch, TableSketch

__all__ = ["Entry", "describe", "entries", "find_entry", "schema_of", "sketch_of", "split_of", "words_of"]

SHORTEST = 4  # letters of a digest or a run's id that are looked up
TOP = 5  # frequent values that are shown


@dataclass(frozen=True)
class Entry:
    """A snapshot in the catalog; where several runs took it, its facts are the newest run's.

    `runs` are `run`, `system`, `started`, `status`, `code_commit`, the newest first; `versions` are `model`,
    `version`, `aliases`; `contract` is a blob's digest; `labels` is the labelled table that was read beside the
    source, or None; `source` and `source_digest` are None of runs from before sources were recorded; `is_present` says whether the store still has the rows.
    """

    digest: str
    rows: int
    quarantined: int
    quarantine: str | None
    source: str | None
    source_digest: str | None
    labels: str | None
    made: str
    contract: str
    runs: tuple[dict[str, Any], ...]
    versions: tuple[dict[str, Any], ...]
    faults: tuple[dict[str, Any], ...]
    findings: tuple[dict[str, Any], ...]
    is_present: bool

    def to_json(self) -> dict[str, Any]:
        """The entry as `perron data list --json` prints it."""
        names = ("digest", "rows", "quarantined", "quarantine", "source", "source_digest", "labels", "made", "contract")
        return {
            **{name: getattr(self, name) for name in names},
            "runs": list(self.runs),
            "versions": list(self.versions),
            "present": self.is_present,
        }


def entries(project: Project) -> list[Entry]:
    """Every snapshot that the ledger knows, that of the newest run first."""
    taken: dict[str, list[dict[str, Any]]] = {}
    for row in project.ledger.step_outputs("snapshot"):
        taken.setdefault(row["output"]["digest"], []).append(row)
    digest_of = {row["run"]: name for name, rows in taken.items() for row in rows}
    used: dict[str, list[dict[str, Any]]] = {}
    for version in project.ledger.list_versions():
        used.setdefault(digest_of.get(version["run"], ""), []).append(
            {name: version[name] for name in ("model", "version", "aliases")}
        )
    return [_entry(project, name, rows, used.get(name, [])) for name, rows in taken.items()]


def _entry(project: Project, name: str, rows: list[dict[str, Any]], used: list[dict[str, Any]]) -> Entry:
    output = rows[0]["output"]
    kept = ("run", "system", "started", "status", "code_commit")
    return Entry(
        name,
        output["rows"],
        output["quarantined"],
        output["quarantine"],
        output.get("source"),
        output.get("source_digest"),
        output.get("labels"),
        rows[-1]["started"],
        rows[0]["contract"],
        tuple({key: row[key] for key in kept} for row in rows),
        tuple(used),
        tuple(output["faults"]),
        tuple(output.get("findings", ())),
        project.store.has(name),
    )


def find_entry(project: Project, reference: str | None = None, system: str | None = None) -> Entry:
    """The snapshot that a reference means: its digest or a run's id (four letters of the beginning are enough), a
    version's number or alias, `model@version`, or nothing at all for the newest (of a system, where several share a ledger).

    Raises:
        NotFound: none or several are meant; names them.
    """
    known = [e for e in entries(project) if system is None or any(run["system"] == system for run in e.runs)]
    if not known:
        raise NotFound("There is no snapshot yet; `perron run` takes one.")
    if reference is None:
        return known[0]
    meant: dict[str, list[str]] = {}
    for entry in known:
        for words in _names(entry, reference):
            meant.setdefault(entry.digest, []).append(words)
    if len(meant) == 1:
        return next(entry for entry in known if entry.digest in meant)
    if not meant:
        raise NotFound(
            f"There is no snapshot, run or version {reference[:80]!r}; `perron data list` lists them "
            f"(of a digest or a run give {SHORTEST} letters or more)."
        )
    shown = "; ".join(words for found in meant.values() for words in found)
    raise NotFound(f"{reference[:80]!r} means several snapshots: {shown}; give more letters.")


def _names(entry: Entry, reference: str) -> list[str]:
    """What of an entry the reference may be, in words."""
    found = []
    if len(reference) >= SHORTEST:
        if entry.digest.startswith(reference.lower()):
            found.append(f"snapshot {entry.digest[: max(12, len(reference) + 4)]}")
        found += [f"run {run['run']}" for run in entry.runs if run["run"].startswith(reference)][:1]
    model, at, name = reference.rpartition("@")
    for version in entry.versions:
        if at and version["model"] != model:
            continue
        if re.sub(r"^v(?=\d+$)", "", name) == str(version["version"]) or name in version["aliases"]:
            found.append(f"version {version['model']}@{version['version']}")
    return found


def schema_of(project: Project, entry: Entry) -> Schema:
    """The contract that a snapshot obeys.

    Raises:
        LedgerError: the store doesn't have it any more.
    """
    return Schema.from_json(project.store.get_json(entry.contract))


def split_of(project: Project, entry: Entry) -> dict[str, Any] | None:
    """How the snapshot was split, in the newest run that came so far (`digest`, `train_rows`, `test_rows`,
    `unused_rows`, `findings`); None where none did."""
    runs = {run["run"] for run in entry.runs}
    return next((row["output"] for row in project.ledger.step_outputs("split") if row["run"] in runs), None)


def sketch_of(project: Project, entry: Entry) -> "TableSketch":
    """The sketch of a snapshot's rows, made once and then kept in the store; of sensitive fields it holds counts only.

    Raises:
        LedgerError: the rows aren't in the store any more, and there is no sketch of them.
    """
    from perron.sketch import FORMAT, TableSketch

    schema = schema_of(project, entry)
    hidden = [field.name for field in schema.fields if Role.SENSITIVE in field.roles]
    key = digest(["sketch of a snapshot", FORMAT, entry.digest, hidden])
    known = project.ledger.find_result(key)
    if known is not None and project.store.has(known["digest"]):
        return TableSketch.from_bytes(project.store.get(known["digest"]).read_bytes())
    from pyarrow import parquet

    with parquet.ParquetFile(project.store.get(entry.digest)) as file:
        texts: dict[str, Any] = {field.name: "text" for field in schema.fields if _is_text(field)}
        made = TableSketch(file.schema_arrow.names, kinds=texts, sensitive=hidden)
        for batch in file.iter_batches():
            made.update(batch)
    stored = project.store.put_bytes(made.to_bytes())
    project.ledger.remember(key, "sketch", {"digest": stored}, entry.runs[0]["run"])
    return made


def _is_text(field: Field) -> bool:
    return field.kind in ("text", "category") and not field.is_numeric_category


def describe(project: Project, entry: Entry) -> dict[str, Any]:
    """A snapshot in full: the entry, its `columns[]`, `faults[]`, `findings[]`, `split` (or None) and where it lies.

    A column has the contract's words and, as long as the store has the rows, its summary.

    Raises:
        LedgerError: the store doesn't have the contract any more.
    """
    schema = schema_of(project, entry)
    sketch = sketch_of(project, entry) if entry.is_present else None
    split = split_of(project, entry)
    return {
        **entry.to_json(),
        "contract_name": schema.name,
        "columns": [_column(field, sketch.columns[field.name] if sketch else None) for field in schema.fields],
        "faults": list(entry.faults),
        "findings": list(entry.findings),
        "split": split and {key: value for key, value in split.items() if key not in ("blobs", "key")},
        "path": str(project.store.path(entry.digest)),
        "quarantine_path": None if entry.quarantine is None else str(project.store.path(entry.quarantine)),
    }


def _column(field: Field, sketch: "ColumnSketch | None") -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": field.name,
        "column": field.column,
        "kind": field.kind,
        "roles": [role.value for role in field.roles],
        "unit": field.unit,
        "optional": field.optional,
        "rules": [words for code, words in field.rules.items() if code != "required"],
        "doc": field.doc,
    }
    return made if sketch is None else {**made, **_summary(sketch)}


def _summary(sketch: "ColumnSketch") -> dict[str, Any]:
    """What is told of a column's values; of a sensitive one, how many are missing."""
    from perron.profile.findings import moment

    if sketch.sensitive:
        return {"missing": sketch.nulls}
    made: dict[str, Any] = {"missing": sketch.nulls, "distinct": sketch.distinct.estimate}
    if sketch.kind in ("number", "time", "bool"):
        show = moment if sketch.kind == "time" else float
        made["min"] = None if sketch.low is None else show(sketch.low)
        made["max"] = None if sketch.high is None else show(sketch.high)
        if sketch.kind != "time" and sketch.moments.n:
            made["mean"] = sketch.moments.mean
    if sketch.kind in ("text", "bool"):
        made["top"] = [{"value": value, "count": count} for value, count in sketch.top.most(TOP)]
    return made


def words_of(versions: Iterable[Mapping[str, Any]]) -> str:
    """Versions in words: `house-prices@2 (champion), house-prices@1`."""
    shown = []
    for version in versions:
        aliases = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
        shown.append(f"{version['model']}@{version['version']}{aliases}")
    return ", ".join(shown)
