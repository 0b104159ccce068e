"""The exams of a subject in; pytest's items of them out."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import pytest

from perron.errors import PerronError
from perron.testing.exams import Exam, plan
from perron.testing.promises import Bump
from perron.testing.subject import Subject
from perron.testing.verdict import Broken, NotHere

__all__ = ["ExamItem", "Room", "items_of"]

NOTE = "perron"  # the property of a report that holds what is worth telling


class Room(pytest.Collector):
    """What items are below: `perron` holds `perron::golden` and the room `perron::contract`."""

    def __init__(self, *, exams: Sequence[Exam], subject: Subject, **rest: Any) -> None:
        super().__init__(**rest)
        self._exams, self._subject = exams, subject

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Items in the exams' order; those of one room together."""
        depth = self.nodeid.count("::")
        for name, some in groupby(self._exams, key=lambda exam: exam.place[depth]):
            exams = list(some)
            if len(exams[0].place) > depth + 1:
                yield Room.from_parent(self, name=name, exams=exams, subject=self._subject)
            else:
                for exam in exams:
                    yield ExamItem.from_parent(self, name=name, exam=exam, subject=self._subject)


class ExamItem(pytest.Item):
    """One exam."""

    def __init__(self, *, exam: Exam, subject: Subject, **rest: Any) -> None:
        super().__init__(**rest)
        self._exam, self._subject = exam, subject

    def runtest(self) -> None:
        try:
            note = self._exam.run(self._subject)
        except NotHere as reason:
            pytest.skip(str(reason))
        if note:
            self.user_properties.append((NOTE, note))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A broken promise as its message; anything else is a mistake of ours, with its traceback."""
        if isinstance(excinfo.value, Broken | PerronError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> Any:
        return self.session.path / "perron", None, self.nodeid


def items_of(
    session: pytest.Session, subject: Subject, *, update_golden: bool, bump: Bump | None
) -> Iterator[pytest.Item]:
    """The items, collected as pytest does: `perron::contract::a valid row predicts`, `perron::golden`."""
    exams = plan(subject, update_golden=update_golden, bump=bump).exams
    yield from session.genitems(Room.from_parent(session, name="perron", nodeid="perron", exams=exams, subject=subject))
