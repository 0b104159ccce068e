"""A subject in; its generated tests, each with a name and what it does, and what isn't tested and why, out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec

from perron.errors import MissingPackage, PerronError
from perron.testing import golden, promises
from perron.testing.behaviour import FILE as BEHAVIOUR_FILE
from perron.testing.behaviour import Behaviour, read_behaviours
from perron.testing.subject import Subject

__all__ = ["Exam", "Plan", "need_hypothesis", "plan"]


@dataclass(frozen=True)
class Exam:
    """One generated test: its place (`contract`, `a valid row predicts`), and a function that raises where it fails and
    returns what is worth telling."""

    place: tuple[str, ...]
    run: Callable[[Subject], str | None]


@dataclass
class Plan:
    """The generated tests in order, and what there is none of, in words."""

    exams: list[Exam] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)

    def add(self, *place: str, run: Callable[[Subject], str | None]) -> None:
        self.exams.append(Exam(place, run))


def plan(subject: Subject, *, update_golden: bool = False, bump: promises.Bump | None = None) -> Plan:
    """The tests of a subject. Where it can't be opened, the one test that says why."""
    made = Plan()
    try:
        subject.bundle  # noqa: B018
        schema = subject.schema
    except PerronError as error:
        made.add("bundle", run=_failing(error))
        return made
    made.add("bundle", run=lambda subject: _open(subject, made.untested))
    if find_spec("hypothesis") is None:
        made.add("contract", "property tests", run=lambda subject: need_hypothesis())
    else:
        from perron.testing.contract import exams  # not at the top: it needs hypothesis

        for name, run in exams(schema):
            made.add("contract", name, run=run)
    _add_behaviours(made, subject)
    _add_golden(made, subject, update_golden)
    made.add("parity", "the graph answers as the trained model", run=promises.check_graph)
    made.add("parity", "the service answers as the bundle", run=promises.check_service)
    _add_latency(made, subject)
    _add_compatibility(made, subject, bump)
    return made


def need_hypothesis() -> None:
    """Nothing, where hypothesis is installed.

    Raises:
        MissingPackage: it isn't.
    """
    if find_spec("hypothesis") is None:
        raise MissingPackage("Property tests need hypothesis: pip install 'perron[test]'")


def _failing(error: PerronError) -> Callable[[Subject], None]:
    def fail(subject: Subject) -> None:
        raise error

    return fail


def _open(subject: Subject, untested: list[str]) -> str:
    """The bundle answers its own sample."""
    subject.bundle.warm()
    stale = [f"{subject.words} was made by another contract than system.py declares"] if subject.is_stale else []
    return "; ".join([f"{subject.words}, bundle {subject.bundle.digest[:12]}", *stale, *untested])


def _add_behaviours(made: Plan, subject: Subject) -> None:
    try:
        found = read_behaviours(subject.folder)
    except PerronError as error:
        made.add("behaviour", run=_failing(error))
        return
    if not found:
        made.untested.append(f"no invariance or direction is declared ({BEHAVIOUR_FILE} declares them)")
    for one in found:
        made.add(one.kind, one.name, run=_behaving(one))


def _behaving(one: Behaviour) -> Callable[[Subject], str]:
    return lambda subject: one.check(subject.bundle, subject.rows)


def _add_golden(made: Plan, subject: Subject, update: bool) -> None:
    if update:
        made.add("golden", run=golden.write_golden)
    elif (subject.folder / golden.FILE).exists():
        made.add("golden", run=golden.check_golden)
    else:
        made.untested.append(f"no golden predictions (--perron-update-golden writes {golden.FILE})")


def _add_latency(made: Plan, subject: Subject) -> None:
    try:
        if promises.budget(subject) is None:
            made.untested.append("no latency budget (canvas.toml: budgets.max_p99_ms)")
            return
    except PerronError as error:
        made.add("latency", run=_failing(error))
        return
    made.add("latency", run=promises.check_latency)


def _add_compatibility(made: Plan, subject: Subject, bump: promises.Bump | None) -> None:
    try:
        if subject.release is None:
            made.untested.append("no release before this one")
            return
    except PerronError as error:
        made.add("compatibility", run=_failing(error))
        return
    made.add("compatibility", run=lambda subject: promises.check_compatibility(subject, bump))
