"""A project's champion in; a folder that another machine goes on from out, and back into a fresh checkout.

    kept.json   format, model, versions and files of the folder
    ledger.db   runs, versions, aliases, metrics; no outcomes and no tokens (absent where the ledger is a server's)
    bundles/    of each version that has an alias, and of the one that the champion is held to when it is trained again
    store/      what the steps of their runs left, so that an unchanged step isn't done again: no rows of the data

`.perron` isn't in git, and a runner of CI begins with nothing. What is carried holds no rows (but the sample that every
bundle has), no prediction log and no secrets: who may read a project's runs may read it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from perron import ledger as ledgers
from perron.bundle import load
from perron.errors import BundleError, LedgerError, NotFound
from perron.ledger import CHAMPION, Ledger
from perron.project import Project
from perron.store import Store, write_atomically

__all__ = ["keep", "restore"]

FORMAT = 1
FACTS, DATABASE = "kept.json", "ledger.db"
ROWS = ("snapshot", "quarantine")  # blobs that are rows of the data


def keep(project: Project, model: str, folder: Path) -> dict[str, Any]:
    """What was put into a folder that doesn't exist or is empty: `model`, `versions`, `bytes`.

    Raises:
        NotFound: the model has no champion.
        LedgerError: the folder holds something, or can't be written.
        BundleError: a version's bundle is damaged or gone.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LedgerError(f"{folder} exists and isn't empty; name another folder or remove it.")
    versions = _versions(project.ledger, model)
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    try:
        (building / "store").mkdir(parents=True)
        for version in versions:
            place = project.ledger.bundle_path(version)
            load(place, version["bundle"])
            shutil.copytree(place, building / "bundles" / place.name)
            for digest in _blobs(project, version):
                if project.store.has(digest):
                    shutil.copyfile(project.store.path(digest), building / "store" / digest)
        project.ledger.copy_to(building / DATABASE, without=(ledgers.outcomes, ledgers.tokens))
        facts = {"format": FORMAT, "model": model, "versions": [version["version"] for version in versions]}
        write_atomically(building / FACTS, json.dumps(facts, indent=1) + "\n")
        size = sum(path.stat().st_size for path in building.rglob("*") if path.is_file())
        if folder.exists():
            folder.rmdir()
        os.replace(building, folder)
    except OSError as error:
        raise LedgerError(f"{folder} can't be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return {"model": model, "versions": facts["versions"], "bytes": size}


def _versions(ledger: Ledger, model: str) -> list[dict[str, Any]]:
    """Those with an alias, and what the champion would be held to if it came of a run again."""
    champion = ledger.get_version(model, CHAMPION)
    found = {row["version"]: row for row in ledger.list_versions(model) if row["aliases"]}
    found.setdefault(champion["version"], champion)
    key = ledger.step_key(champion["run"], "train")
    event = ledger.get_alias(model, CHAMPION)
    while event is not None:
        version = ledger.get_version(model, event["version"])
        if ledger.step_key(version["run"], "train") != key:
            found.setdefault(version["version"], version)
            break
        event = ledger.alias_before(model, CHAMPION, event["id"])
    return [found[number] for number in sorted(found)]


def _blobs(project: Project, version: dict[str, Any]) -> Iterator[str]:
    """What the steps of a version's run left in the store, but for rows; and what the run's own row names."""
    try:
        run = project.ledger.get_run(version["run"])
    except NotFound:
        return
    yield from (run[name] for name in ("contract", "environment") if run[name])
    for step in run["steps"]:
        key = project.ledger.step_key(version["run"], step["name"])
        output = project.ledger.find_result(key) if key else None
        if isinstance(output, dict):
            yield from (digest for name, digest in output.get("blobs", {}).items() if name not in ROWS)


def restore(kept: Path, folder: Path) -> dict[str, Any]:
    """What was brought into a project that remembers nothing yet: `model`, `versions`.

    All is read and checked before anything is written; the ledger comes last, so that a restore that was cut off can be
    done again.

    Args:
        kept: what `keep` made.
        folder: the project's.

    Raises:
        LedgerError: the project has a ledger, or the folder isn't what `keep` makes, or can't be read or written.
        BundleError: a bundle was changed.
    """
    home = folder / ".perron"
    if (home / DATABASE).exists():
        raise LedgerError(
            f"{home / DATABASE} is there already; `perron ci restore` begins a fresh checkout's memory and replaces none."
        )
    facts = _facts(kept)
    bundles = sorted(path for path in (kept / "bundles").glob("*") if path.is_dir())
    if not bundles:
        raise BundleError(f"{kept} holds no bundle; keep it again with `perron ci keep`.")
    for place in bundles:
        load(place)
    blobs = sorted((kept / "store").glob("*"))
    for blob in blobs:
        if blob.is_symlink() or hashlib.sha256(blob.read_bytes()).hexdigest() != blob.name:
            raise LedgerError(f"{blob} was changed: its SHA-256 isn't its name; keep it again with `perron ci keep`.")
    store = Store(home / "store")
    try:
        for place in bundles:
            target = home / "bundles" / place.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(place, target)
        for blob in blobs:
            store.put_file(blob)
        if (kept / DATABASE).is_file():
            building = home / f".{DATABASE}.{os.getpid()}"
            shutil.copyfile(kept / DATABASE, building)
            os.replace(building, home / DATABASE)
    except OSError as error:
        raise LedgerError(f"{home} can't be written: {error.strerror}.") from error
    project = Project.open(folder)
    for number in facts["versions"]:  # what the ledger says of them is what the bundles are
        version = project.ledger.get_version(facts["model"], number)
        load(project.ledger.bundle_path(version), version["bundle"])
    return {"model": facts["model"], "versions": facts["versions"]}


def _facts(kept: Path) -> dict[str, Any]:
    try:
        facts = json.loads((kept / FACTS).read_bytes())
        found = {"model": str(facts["model"]), "versions": [int(number) for number in facts["versions"]]}
        newer = facts["format"] > FORMAT
    except OSError as error:
        raise LedgerError(
            f"{kept} isn't what `perron ci keep` makes: {FACTS} can't be read ({error.strerror})."
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise LedgerError(f"{kept / FACTS} is damaged: {error}.") from error
    if newer:
        raise LedgerError(f"{kept} has format {facts['format']}, newer than this Perron's {FORMAT}; update perron.")
    return found
