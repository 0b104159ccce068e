"""Rows of training and of serving in; the fields that differ where both know a row by its Id out."""

import math
from datetime import UTC, datetime
from typing import Any

from perron.bundle import load
from perron.contract import Role
from perron.errors import NotFound
from perron.ledger import CHAMPION
from perron.monitor.finding import Finding, Severity
from perron.predictions import iterate
from perron.project import Project

__all__ = ["hold_to_training"]


def hold_to_training(project: Project, model: str, version: int | str = CHAMPION, most: int = 10_000) -> list[Finding]:
    """Fields whose served values differ from those of training, for rows that both know by the contract's Id.

    Looks at the newest `most` logged predictions.

    Raises:
        NotFound: there is no such version, or its contract has no Id.
        LedgerError: the snapshot isn't in the store any more.
    """
    from perron.snapshot import read_snapshot  # not at the top: it brings pyarrow

    row = project.ledger.get_version(model, version)
    bundle = load(project.ledger.bundle_path(row), row["bundle"])
    field_ = bundle.schema.with_role(Role.ID)
    if field_ is None:
        raise NotFound(
            f"{bundle.schema.name} has no pn.Id field, by which rows of training and serving could be held together."
        )
    served: dict[Any, dict[str, Any]] = {}
    for recorded in iterate(project.predictions):
        key = recorded.input.get(field_.name)
        if recorded.header["model"] == model and key is not None:
            served.pop(key, None)
            served[key] = dict(recorded.input)
            if len(served) > most:
                served.pop(next(iter(served)))
    names = [f.name for f in bundle.schema.features if Role.SENSITIVE not in f.roles]
    table = read_snapshot(project.store, bundle.manifest["lineage"]["data"]["snapshot"]).select([field_.name, *names])
    both, differ = 0, dict.fromkeys(names, 0)
    for batch in table.to_batches(10_000):
        for trained in batch.to_pylist():
            asked = served.get(trained[field_.name])
            if asked is None:
                continue
            both += 1
            for name in names:
                differ[name] += not _same(trained[name], asked.get(name))
    found = []
    for name, count in differ.items():
        share = count / both if both else 0.0
        if share > 0.01:
            severity: Severity = "high" if share > 0.2 else "medium"
            words = f"Of {both} rows that training and serving both know, {share:.1%} have another {name} in serving."
            found.append(Finding("skew", name, severity, words, share, 0.01, None, model, row["version"], ""))
    return found


def _same(trained: Any, served: Any) -> bool:
    if trained is None or served is None:
        return trained is served
    if isinstance(trained, datetime):
        moment = datetime.fromisoformat(str(served))
        return trained == (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if isinstance(trained, float):
        return math.isclose(trained, float(served), rel_tol=1e-9)
    return str(trained) == str(served) if not isinstance(trained, type(served)) else bool(trained == served)
