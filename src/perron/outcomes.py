"""Predictions' ids and what really happened in; outcomes, judged by the contract, in the ledger and the models' histories out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from perron import bundle as bundles
from perron import predictions
from perron.bundle import Bundle
from perron.check import judge
from perron.errors import DataError, NotFound
from perron.history import journal_path
from perron.plan import Outcome
from perron.project import Project

__all__ = ["Recorder", "record_outcome"]


@dataclass
class Recorder:
    """Records outcomes, many at a time; keeps the bundles that it needed open. Not thread safe."""

    project: Project
    _bundles: dict[tuple[str, int], Bundle] = field(default_factory=dict)

    def record(self, items: Sequence[tuple[str, Any]]) -> list[Outcome]:
        """What became of each (prediction, value), in order; those that are taken are in the ledger, in one transaction.

        Of a system with history, rows that come later see them.
        """
        known = self.project.ledger.outcomes_of([prediction for prediction, _ in items])
        done: list[Outcome] = []
        taken: list[tuple[str, Any]] = []
        seen: dict[tuple[str, int], list[tuple[Any, Any]]] = {}
        for prediction, given in items:
            try:
                key, row, value = self._judged(prediction, given)
            except NotFound:
                words = "There is no such prediction here, or its model isn't registered here."
                done.append(Outcome(prediction, "unknown", words))
                continue
            except DataError as error:
                done.append(Outcome(prediction, "invalid", str(error)))
                continue
            if prediction in known and known[prediction] == value and type(known[prediction]) is type(value):
                done.append(Outcome(prediction, "repeated"))
                continue
            done.append(Outcome(prediction, "corrected" if prediction in known else "recorded"))
            known[prediction] = value
            taken.append((prediction, value))
            seen.setdefault(key, []).append((row, value))
        for key, observed in seen.items():  # first: what is reported as recorded is then in both
            history = self._bundles[key].history
            if history is not None:
                history.attach(journal_path(self.project.predictions, key[0]), sync=True)
                for row, value in observed:
                    history.observe_outcome(row, value)
                history.close()
        self.project.ledger.add_outcomes(taken)
        return done

    def _judged(self, prediction: str, value: Any) -> tuple[tuple[str, int], Any, Any]:
        """Whose the prediction is, its row, and the value as the contract has it.

        Raises:
            NotFound: there is no such prediction, or its model isn't registered here.
            DataError: the contract's target can't be that value.
        """
        found = predictions.find(self.project.predictions, prediction)
        key = (found.header["model"], found.header["version"])
        bundle = self._bundles.get(key)
        if bundle is None:
            row = self.project.ledger.get_version(*key)
            bundle = self._bundles[key] = bundles.load(self.project.ledger.bundle_path(row), row["bundle"])
        if isinstance(bundle, bundles.GraphBundle):  # nothing says what its outcomes are
            return key, found.input, value
        target = bundle.schema.target
        assert target is not None
        if target.kind == "category" and not target.is_numeric_category and not isinstance(value, str):
            value = str(value)  # a class that looks like a number
        for fault in judge(target, value):
            raise DataError(f"Expected {fault.expected} as the outcome, got {value!r}.")
        return key, found.input, value


def record_outcome(project: Project, prediction: str, value: Any) -> None:
    """Records the outcome of a logged prediction.

    Raises:
        NotFound: there is no such prediction, or its model isn't registered here.
        DataError: the contract's target can't be that value.
    """
    (done,) = Recorder(project).record([(prediction, value)])
    if done.status == "unknown":
        raise NotFound(
            f"There is no prediction {prediction[:80]!r} in {project.predictions}, or its model isn't registered."
        )
    if done.status == "invalid":
        raise DataError(str(done.detail))
