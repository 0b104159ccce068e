"""A subject or an age in; what the project still knows of it out of the prediction log and the outcomes."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from perron import bundle as bundles
from perron.contract import Role, Schema
from perron.errors import DataError, NotFound, nearest
from perron.history import journal_path
from perron.performance import Performance
from perron.predictions.mask import digest_of
from perron.predictions.upkeep import Forgotten, delete_before, forget_rows
from perron.project import Project

__all__ = ["forget_older", "forget_subject", "id_values"]


def forget_subject(project: Project, value: str, field: str | None = None) -> Forgotten:
    """Removes every prediction of rows whose Id (or another field, by name) has that value, its outcomes, and what was
    observed of series at its moment.

    Models and snapshots stay: what a person's rows did to them is not in them as rows that could be found.

    Args:
        project: opened.
        value: as a person writes it; it is read by the field's kind, and a sensitive one by its digest too.
        field: the contract's field; None for its Id.

    Raises:
        NotFound: no model's contract has such a field.
        LedgerError: a server that writes the log didn't let go of it.
    """
    wanted: dict[str, tuple[str, set[Any]]] = {}
    names: set[str] = set()
    for row in project.ledger.list_versions():
        schema = bundles.load(project.ledger.bundle_path(row), row["bundle"]).schema
        names.update(known.name for known in schema.fields)
        found = (
            schema.with_role(Role.ID) if field is None else next((f for f in schema.fields if f.name == field), None)
        )
        if found is not None:
            values = wanted.setdefault(row["model"], (found.name, set()))[1]
            values.update(id_values(project, schema, found.name, value))
    if not wanted:
        hint = nearest(field, names) if field is not None else "name another field with --field"
        raise NotFound(f"No model's contract has {'a pn.Id field' if field is None else repr(field)}; {hint}")

    found_rows: dict[tuple[str, int], list[Mapping[str, Any]]] = {}

    def belongs(recorded: Any) -> bool:
        name, values = wanted.get(recorded.header["model"], ("", set()))
        given = recorded.input.get(name)
        is_wanted = given is not None and (type(given).__name__, given) in values
        if is_wanted:
            found_rows.setdefault((recorded.header["model"], recorded.header["version"]), []).append(recorded.input)
        return is_wanted

    gone = forget_rows(project.predictions, belongs)
    for (model, version), rows in found_rows.items():
        _forget_moments(project, model, version, rows)
    from perron.labels import asked_folder  # not at the top: they bring pyarrow, and servers know this module
    from perron.labels.table import forget_asked

    for name, asked in {(name, frozenset(values)) for name, values in wanted.values()}:
        forget_asked(asked_folder(project), name, asked)
    _forget_outcomes(project, gone)
    return gone


def _forget_outcomes(project: Project, gone: Forgotten) -> None:
    """Deletes the outcomes of predictions that are gone, and takes them out of what performance was added up of."""
    project.ledger.delete_outcomes(gone.predictions)
    if (project.folder / ".perron" / "monitor.db").exists():
        Performance(project.folder / ".perron", project.ledger, project.predictions).forget(gone.predictions)


def _forget_moments(project: Project, model: str, version: int, rows: Sequence[Mapping[str, Any]]) -> None:
    row = project.ledger.get_version(model, version)
    history = bundles.load(project.ledger.bundle_path(row), row["bundle"]).history
    if history is not None:
        history.attach(journal_path(project.predictions, model), sync=True)
        history.forget(rows)
        history.close()


def id_values(project: Project, schema: Schema, name: str, value: Any) -> set[tuple[str, Any]]:
    """How the log may have written a field's value, each with its type's name: as it is, as a number, as a digest."""
    field = schema[name]
    spelled: list[Any] = [value]
    if isinstance(value, str) and field.kind in ("int", "float", "category"):
        for kind in (int, float):
            try:
                spelled.append(kind(value))
            except ValueError:
                continue
    if Role.SENSITIVE in field.roles:
        spelled += [digest_of(one, project.secret()) for one in list(spelled)]
    return {(type(one).__name__, one) for one in spelled}


def forget_older(project: Project, days: float) -> Forgotten:
    """Removes the segments of the log that are older than that, and their outcomes.

    Raises:
        DataError: the days aren't above 0.
        LedgerError: the log can't be written.
    """
    if not 0 < days < 36_500:
        raise DataError(f"days is {days:g}; give a number above 0.")
    gone = delete_before(project.predictions, timedelta(days=days))
    _forget_outcomes(project, gone)
    return gone
