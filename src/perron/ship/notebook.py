"""A system in; a notebook for a first look at its data out, as Jupyter has them (nbformat 4.5)."""

import hashlib
import json

from perron.system import System

__all__ = ["notebook_file"]

MARK = "*Written by `perron init`; `perron sync` brings it up to date until you change it.*"


def notebook_file(system: System) -> str:
    """The text of the notebook. It reads what the system declares when it is run, so that it follows the declaration."""
    assert system.schema.target is not None
    cells = [
        ("markdown", f"# {system.name}: a first look\n\nWhat predicts `{system.schema.target.name}`, and what is odd in the data.\n\n{MARK}"),
        ("code", START),
        ("markdown", "## The table\n\nEvery column with its findings, the dearest first: what leaks the target, what is an id, what is skewed, what is missing."),
        ("code", 'found = profile(open_source(system.source, ROOT), target=target.column)\nfound'),
        ("code", 'for finding in found.findings[:20]:\n    print(f"{finding.severity}: {finding.column or \'rows\'}: {finding.detail}")'),
        ("markdown", "## What tells the target\n\nHow much each column alone says of it: 0 nothing, 1 all. What says nearly all of it may be known only afterwards."),
        ("code", RELATIONS),
        ("markdown", "## The rows that break the contract\n\nThey go to quarantine in a run; each rule with how often it is broken."),
        ("code", CHECKED),
        ("markdown", "## By group\n\nThe target in each value of the categories: a first idea of what a model can learn, and of whom it may be unfair to."),
        ("code", GROUPS),
        ("markdown", "## The champion\n\nWhere there is one (`perron run`): its metrics on the test rows beside the naive baseline."),
        ("code", CHAMPION),
    ]  # fmt: skip
    made = [_cell(place, kind, text) for place, (kind, text) in enumerate(cells)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    data = {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _cell(place: int, kind: str, text: str) -> dict[str, object]:
    is_code = kind == "code"
    return {  # in the order in which Jupyter and Ruff write them
        "cell_type": kind,
        **({"execution_count": None} if is_code else {}),
        "id": hashlib.sha256(f"{place} {text}".encode()).hexdigest()[:8],
        "metadata": {},
        **({"outputs": []} if is_code else {}),
        "source": text.splitlines(keepends=True),
    }


START = """\
from pathlib import Path

import pandas as pd
import pyarrow as pa
from perron.bundle import load
from perron.check.report import check_source
from perron.errors import NotFound
from perron.profile import profile
from perron.project import Project
from perron.source import open_source, shown
from perron.system import load_system

ROOT = next(
    folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "system.py").is_file()
)
system = load_system(ROOT / "system.py")
target = system.schema.target
assert target is not None"""
RELATIONS = """\
relations = pd.DataFrame(found.relations, columns=["column", "measure", "value"])
relations.assign(bar=relations["value"].abs().map(lambda value: "█" * round(30 * value)))"""
CHECKED = """\
checked = check_source(
    open_source(system.source, ROOT),
    system.schema,
    system.checks,
    name=shown(system.source),
    folder=ROOT,
)
broken = [check for check in checked.checks if check["status"] != "passed"]
print(f"{checked.bad:,} of {checked.rows:,} rows break the contract or a rule")
pd.DataFrame(broken, columns=["name", "rows", "share", "detail"])"""
GROUPS = """\
rows = pa.Table.from_batches(list(open_source(system.source, ROOT).chunks())).to_pandas()
rows = rows.rename(columns={field.column: field.name for field in system.schema.fields})
if system.task == "regression":
    rows[target.name] = pd.to_numeric(rows[target.name], errors="coerce")
for field in system.schema.features:
    if field.kind == "category":
        grouped = rows.groupby(field.name, dropna=False)[target.name]
        if system.task == "regression":
            print(grouped.agg(["count", "mean", "median"]), "\\n")
        else:
            print(grouped.value_counts(normalize=True).unstack(), "\\n")"""
CHAMPION = """\
project = Project.open(ROOT)
try:
    version = project.ledger.get_version(system.name, "champion")
    manifest = load(project.ledger.bundle_path(version), version["bundle"]).manifest
    print(f"version {version['version']}")
    print(pd.DataFrame({"metrics": manifest["metrics"], "baseline": manifest["baseline"]}))
except NotFound as reason:
    print(reason)
finally:
    project.ledger.close()"""
