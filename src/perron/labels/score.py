"""Candidate rows in; a number per row out, the highest first to be labelled.

- `margin_scores`, of a classifier: 1 - (p1 - p2), p1 and p2 the probabilities of the two likeliest classes. Scheffer,
  Decomain and Wrobel 2001, "Active Hidden Markov Models for Information Extraction". With two classes its order is that
  of least confidence (Lewis and Gale 1994).
- `committee_scores`, of a regression: the standard deviation of the predictions of models that were fitted on different
  parts of the train rows. Burbidge, Rowland and King 2007, "Active Learning for Regression Based on Query by Committee".
  It is high where the train rows leave the model unsettled; it says nothing of how noisy the target is there.
- `drift_scores`: the probability, by a classifier that was fitted to tell these rows from the training data and asked
  only of rows that it wasn't fitted on, that a row isn't a training row. Lopez-Paz and Oquab 2017, "Revisiting
  Classifier Two-Sample Tests"; Rabanser, Günnemann and Lipton 2019, "Failing Loudly". Its AUC says how far the whole
  differs: at 0.5 the order is chance.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from perron import tensors
from perron.bundle import Bundle
from perron.catalog import Entry, entries, find_entry, schema_of, split_of
from perron.contract import Schema
from perron.errors import DataError, ModelError, NotFound
from perron.features import columns
from perron.history.table import fed
from perron.ledger import CHAMPION
from perron.project import Project
from perron.snapshot import read_parts, read_snapshot
from perron.system import System
from perron.train import train

__all__ = ["committee_scores", "drift_scores", "margin_scores"]

COMMITTEE = 5
COMMITTEE_ROWS = 100_000  # train rows that a committee is fitted on; of more, a sample
DOMAIN_ROWS = 20_000  # of each side that the domain classifier is fitted on
DOMAIN_FOLDS = 3
MOST_CODES = 200  # frequent texts of a column that are told apart


def margin_scores(champion: Bundle, schema: Schema, table: pa.Table) -> Any:
    """How undecided the champion is (n,), from 0 to 1.

    Raises:
        ModelError: it gives no probabilities, or was trained on another contract.
    """
    if not champion.has_probabilities:
        raise ModelError(
            f"The champion of {champion.name} gives no probabilities, so its uncertainty can't be told; "
            "choose random or drifted, or a model that has them."
        )
    if champion.schema.features != schema.features:
        raise ModelError(
            f"The champion of {champion.name} was trained on other fields than system.py declares now; run `perron run` first."
        )
    _, shares = champion.run(fed(champion, table))
    ordered = np.sort(np.nan_to_num(np.asarray(shares)), axis=1)
    return 1.0 - (ordered[:, -1] - ordered[:, -2])


def committee_scores(project: Project, system: System, table: pa.Table, seed: int) -> Any:
    """How far five models like the champion disagree on each row (n,), in the target's unit.

    Raises:
        NotFound: there is no champion, or its run's snapshot isn't known here.
        LedgerError: the snapshot was removed from the store.
        DataError: there are too few train rows.
    """
    entry = _of_champion(project, system)
    split = split_of(project, entry)
    if split is None:
        raise NotFound(f"The split of snapshot {entry.digest[:12]} isn't in the ledger; run `perron run` again.")
    _demand_same(project, entry, system.schema)
    rows, _ = read_parts(project.store, entry.digest, split["digest"])
    if rows.num_rows < 2 * COMMITTEE:
        raise DataError(f"{rows.num_rows} train rows are too few for a committee of {COMMITTEE}; choose at random.")
    order = np.random.default_rng(seed).permutation(rows.num_rows)[:COMMITTEE_ROWS]
    answers = []
    for part in range(COMMITTEE):
        fitted_on = np.delete(order, np.s_[part::COMMITTEE])
        answers.append(train(system, rows.take(pa.array(np.sort(fitted_on)))).predict(table)[0])
    return np.std(np.asarray(answers, dtype=np.float64), axis=0)


def drift_scores(project: Project, system: System, table: pa.Table, seed: int) -> tuple[Any, float]:
    """How much each row (n,) looks like none of the training data, from 0 to 1; and the classifier's AUC.

    The training data is the champion's snapshot, or the newest where there is no champion.

    Raises:
        NotFound: there is no snapshot.
        LedgerError: it was removed from the store.
        DataError: it has other fields than the contract now, or there are too few rows.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    has_champion = project.ledger.get_alias(system.name, CHAMPION) is not None
    entry = _of_champion(project, system) if has_champion else find_entry(project, system=system.name)
    _demand_same(project, entry, system.schema)
    chance = np.random.default_rng(seed)
    known = read_snapshot(project.store, entry.digest)
    known = known.take(pa.array(np.sort(chance.permutation(known.num_rows)[:DOMAIN_ROWS])))
    new = np.sort(chance.permutation(table.num_rows)[:DOMAIN_ROWS])
    if min(known.num_rows, len(new)) < 2 * DOMAIN_FOLDS:
        raise DataError(
            f"{len(new)} rows beside {known.num_rows} of the snapshot are too few to tell what drifted; choose at random."
        )
    matrix, is_code = _matrix(system.schema, known, table)
    before, after = matrix[: known.num_rows], matrix[known.num_rows :]
    fitted_on = np.concatenate([before, after[new]])
    is_new = np.concatenate([np.zeros(len(before)), np.ones(len(new))])
    # Each side weighs the same, so that 0.5 is "can't tell" whatever their sizes.
    weight = np.where(is_new == 1, 0.5 / len(new), 0.5 / len(before)) * len(is_new)
    told, rest = np.zeros(len(is_new)), np.zeros(len(after))
    # Equal rows stay in one fold: a twin on the other side would teach the opposite of what is asked (AUC below 0.5).
    twins = np.unique(np.nan_to_num(fitted_on, nan=-1e300), axis=0, return_inverse=True)[1].reshape(-1)
    folds = StratifiedGroupKFold(DOMAIN_FOLDS, shuffle=True, random_state=seed)
    for inner, held in folds.split(fitted_on, is_new, twins):
        model = HistGradientBoostingClassifier(
            max_iter=50, max_leaf_nodes=15, early_stopping=False, categorical_features=is_code, random_state=seed
        )
        with threadpool_limits(
            1, "openmp"
        ):  # on busy cores its threads wait for each other ten times longer than they work
            model.fit(fitted_on[inner], is_new[inner], sample_weight=weight[inner])
            told[held] = model.predict_proba(fitted_on[held])[:, 1]
            rest += model.predict_proba(after)[:, 1] / DOMAIN_FOLDS
    rest[new] = told[len(before) :]
    return rest, float(roc_auc_score(is_new, told, sample_weight=weight))


def _of_champion(project: Project, system: System) -> Entry:
    """The snapshot that the champion was trained on."""
    version = project.ledger.get_version(system.name, CHAMPION)
    for entry in entries(project):
        if any(run["run"] == version["run"] for run in entry.runs):
            return entry
    raise NotFound(
        f"The snapshot of {system.name} version {version['version']} isn't in this ledger; run `perron run`."
    )


def _demand_same(project: Project, entry: Entry, schema: Schema) -> None:
    if schema_of(project, entry).features != schema.features:
        raise DataError(
            f"Snapshot {entry.digest[:12]} has other fields than system.py declares now; run `perron run` first."
        )


def _matrix(schema: Schema, known: pa.Table, table: pa.Table) -> tuple[Any, list[bool]]:
    """The model's own columns of both tables, one below the other: numbers with NaN, texts as codes."""
    made = [
        columns(schema, tensors.from_table(schema, part), None, np, lambda codes: codes.astype(str))
        for part in (known, table)
    ]
    stacked = {name: np.concatenate([made[0][name], made[1][name]]) for name in made[0]}
    is_code = [values.dtype.kind in "OU" for values in stacked.values()]
    return np.column_stack([_codes(v) if v.dtype.kind in "OU" else v for v in stacked.values()]), is_code


def _codes(texts: Any) -> Any:
    """The place of each text among the most frequent ones; the others share a code."""
    values, codes, counts = np.unique(texts.astype(str), return_inverse=True, return_counts=True)
    place = np.full(len(values), MOST_CODES, np.float64)
    frequent = np.argsort(-counts, kind="stable")[:MOST_CODES]
    place[frequent] = np.arange(len(frequent))
    return place[codes]
