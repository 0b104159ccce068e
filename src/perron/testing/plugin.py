"""pytest's options in; the fixtures `system`, `bundle`, `client` and `rows`, and with `--perron` generated tests, out.

Loaded in every run of pytest where Perron is installed: it imports nothing but pytest until a fixture or `--perron`
asks for more, and does nothing without them.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from perron.bundle import Bundle
    from perron.client import Client
    from perron.system import System
    from perron.testing.subject import Subject

__all__ = [
    "bundle", "client", "pytest_addoption", "pytest_collection_modifyitems", "pytest_configure", "pytest_terminal_summary",
    "pytest_unconfigure", "rows", "system",
]  # fmt: skip

NAMES = ("perron", "perron.testing.plugin")  # as an entry point, and by -p or pytest_plugins
SUBJECT: "pytest.StashKey[Subject]" = pytest.StashKey()
T = TypeVar("T")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    for name in NAMES:
        if pluginmanager.get_plugin(name) is None:  # the other way to load this very module would fail as a second one
            pluginmanager.set_blocked(name)
    group = parser.getgroup("perron", "Perron: tests of a machine learning system")
    group.addoption("--perron", action="store_true", help="Run the tests that are generated from the system, too.")
    group.addoption(
        "--perron-project",
        metavar="FOLDER",
        help="The project's folder, or one below it. [default: around where pytest runs]",
    )
    group.addoption(
        "--perron-version",
        metavar="VERSION",
        default="champion",
        help="The version or alias that is tested. [default: champion]",
    )
    group.addoption(
        "--perron-release", metavar="RELEASE",
        help="What the contract is held to: a version, an alias, a contract.json or a bundle's folder. [default: the champion before]",
    )  # fmt: skip
    group.addoption(
        "--perron-bump", metavar="PART", choices=("patch", "minor", "major"),
        help="What part of the semantic version the next release moves: patch, minor or major (which may break).",
    )  # fmt: skip
    group.addoption(
        "--perron-update-golden",
        action="store_true",
        help="Take the answers of now as the golden predictions (tests/golden.json).",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.perron:
        _folder(config)
    elif config.option.perron_update_golden:
        raise pytest.UsageError("--perron-update-golden is done by the generated tests; give --perron, too.")


@pytest.hookimpl(tryfirst=True)  # before -k, -m and --lf choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.perron:
        from perron.testing.items import items_of

        options = config.option
        items += items_of(
            session, _subject(config), update_golden=options.perron_update_golden, bump=options.perron_bump
        )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What the generated tests measured, and what there is no test of."""
    if not config.option.perron:
        return
    reports = [report for some in terminalreporter.stats.values() for report in some]
    notes = [
        words
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, words in report.user_properties
        if name == "perron"
    ]
    if notes:
        terminalreporter.section("perron")
        for words in dict.fromkeys(notes):
            terminalreporter.line(words)


def pytest_unconfigure(config: pytest.Config) -> None:
    subject = config.stash.get(SUBJECT, None)
    if subject is not None:
        del config.stash[SUBJECT]
        subject.close()


# ------------------------------------------------------------------ fixtures


@pytest.fixture(scope="session")
def system(pytestconfig: pytest.Config) -> "System":
    """The project's system, as system.py declares it."""
    return _ask(pytestconfig, lambda subject: subject.system)


@pytest.fixture(scope="session")
def bundle(pytestconfig: pytest.Config) -> "Bundle":
    """The bundle of the champion, or of `--perron-version`, its files checked."""
    return _ask(pytestconfig, lambda subject: subject.bundle)


@pytest.fixture(scope="session")
def rows(pytestconfig: pytest.Config) -> list[dict[str, Any]]:
    """Rows that the bundle's run held back for its test, 200 at most, as requests have them."""
    return _ask(pytestconfig, lambda subject: subject.rows)


@pytest.fixture(scope="session")
def client(pytestconfig: pytest.Config) -> "Iterator[Client]":
    """A client of a real server of the bundle, on a port of its own; what it is asked isn't in the project's log."""
    yield _ask(pytestconfig, lambda subject: subject.client)


def _ask(config: pytest.Config, what: "Callable[[Subject], T]") -> T:
    from perron.errors import PerronError
    from perron.testing.verdict import NotHere

    try:
        return what(_subject(config))
    except NotHere as reason:
        pytest.skip(str(reason))
    except (PerronError, pytest.UsageError) as error:
        pytest.fail(str(error), pytrace=False)


def _subject(config: pytest.Config) -> "Subject":
    """What is under test in this run of pytest: one for all fixtures and items."""
    from perron.testing.subject import Subject

    if SUBJECT not in config.stash:
        options = config.option
        config.stash[SUBJECT] = Subject(_folder(config), options.perron_version, options.perron_release)
    return config.stash[SUBJECT]


def _folder(config: pytest.Config) -> Path:
    """The nearest folder with a system.py: at or above the one that is named, else where pytest runs, else its root.

    Raises:
        pytest.UsageError: there is none.
    """
    named = config.option.perron_project
    starts = [Path(named)] if named is not None else [config.invocation_params.dir, config.rootpath]
    for start in starts:
        for folder in (start.resolve(), *start.resolve().parents):
            if (folder / "system.py").is_file():
                return folder
    raise pytest.UsageError(
        f"There is no system.py in {' or '.join(map(str, dict.fromkeys(starts)))} or above; run pytest in a project, or name it with --perron-project."
    )
