"""A project's folder and a version in; what is under test out: its system, bundle, test rows, service and last release."""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perron.bundle import Bundle, GraphBundle, load
from perron.compatibility import read_contract
from perron.contract import Role, Schema
from perron.errors import DeclarationError, NotFound, PerronError
from perron.ledger import CHAMPION
from perron.project import Project
from perron.system import System, load_system
from perron.testing.verdict import NotHere

if TYPE_CHECKING:
    import pyarrow as pa

    from perron.client import Client
    from perron.train import Fitted

__all__ = ["Subject"]

MOST_ROWS = 200  # test rows that exams ask for, evenly from all of them


class Subject:
    """What is under test. Each part is opened when it is first asked for, once; `close` ends the service.

    Args:
        folder: that holds system.py.
        version: a number or an alias.
        release: what the contract is held to: a version, an alias, a contract.json or a bundle's folder; None: the
            champion before.
    """

    def __init__(self, folder: Path, version: str = CHAMPION, release: str | None = None) -> None:
        self.folder, self.version, self._release = folder, version, release
        self._open = ExitStack()
        self._refusal: PerronError | None = None

    def close(self) -> None:
        """Stops the service and closes the ledger."""
        self._open.close()

    @cached_property
    def project(self) -> Project:
        project = Project.open(self.folder)
        self._open.callback(project.ledger.close)
        return project

    @cached_property
    def system(self) -> System:
        return load_system(self.folder / "system.py")

    @property
    def schema(self) -> Schema:
        """The contract that the service is held to: the one that is declared."""
        return self.system.schema

    @cached_property
    def row(self) -> dict[str, Any]:
        """The version's row in the ledger."""
        return self.project.ledger.get_version(self.system.name, self.version)

    @cached_property
    def bundle(self) -> Bundle:
        """The version's bundle, its files checked.

        Raises:
            NotFound: there is no such version.
            BundleError: it is damaged.
            DeclarationError: it is a plain graph.
        """
        found = load(self.project.ledger.bundle_path(self.row), self.row["bundle"])
        if isinstance(found, GraphBundle):
            raise DeclarationError(
                f"Version {self.row['version']} of {found.name} is a plain graph without a contract, of which no tests "
                "are generated; name a version that `perron run` made."
            )
        return found

    @property
    def words(self) -> str:
        """The version, for people."""
        return f"{self.row['model']} version {self.row['version']}"

    @property
    def is_stale(self) -> bool:
        """Whether the version was made by another contract than the one declared."""
        return self.bundle.schema.digest != self.schema.digest

    @property
    def hint(self) -> str:
        """What is to be known beside a broken promise; nothing where the version has the declared contract."""
        if not self.is_stale:
            return ""
        return f"\n{self.words} was made by another contract than system.py declares: `perron run` makes a new one."

    # ------------------------------------------------------------------ the service

    @cached_property
    def url(self) -> str:
        """The address of a server of the bundle, in a process of its own, whose log goes with it.

        Raises:
            PerronError: it doesn't start.
        """
        return self.serve()

    @cached_property
    def client(self) -> "Client":
        return self._ask_at(self.url)

    @cached_property
    def client_of_drawn(self) -> "Client":
        """The same for rows that are made up. Of a system with history they become part of what a later row's past is
        made of, so that they have a server of their own there."""
        return self.client if self.bundle.history is None else self._ask_at(self.serve())

    @property
    def untold_client(self) -> "Client":
        """The same, of a server that was told of no row; another one each time where there is history."""
        return self.client if self.bundle.history is None else self._ask_at(self.serve())

    def serve(self) -> str:
        """The address of a new server, up until `close`. One that didn't start is not tried again.

        Raises:
            PerronError: it doesn't start.
        """
        from perron.testing.server import serving  # not at the top: few exams need it

        if self._refusal is not None:
            raise self._refusal
        try:
            return self._open.enter_context(serving(self.bundle, int(self.row["version"])))
        except PerronError as error:
            self._refusal = error
            raise

    def _ask_at(self, url: str) -> "Client":
        from perron.client import Client

        return self._open.enter_context(Client(url))

    # ------------------------------------------------------------------ what training left

    def _output(self, step: str) -> Any:
        """What a step of the version's run gave.

        Raises:
            NotHere: the ledger doesn't know.
        """
        key = self.project.ledger.step_key(self.row["run"], step)
        found = None if key is None else self.project.ledger.find_result(key)
        if found is None:
            raise NotHere(f"The ledger here doesn't hold the run {self.row['run']}, which made {self.words}.")
        return found

    def _blob(self, step: str, what: str) -> str:
        """The digest of a step's blob, which the store has.

        Raises:
            NotHere: it hasn't.
        """
        digest = str(self._output(step)["digest"])
        if not self.project.store.has(digest):
            raise NotHere(f"The store here doesn't hold {what} of {self.words} ({digest[:12]}).")
        return digest

    @cached_property
    def test_table(self) -> "pa.Table":
        """The test rows of the version's run, with their pasts.

        Raises:
            NotHere: the snapshot isn't here.
        """
        from perron.history.table import add_pasts
        from perron.snapshot import part_rows, read_snapshot

        store = self.project.store
        table = read_snapshot(store, self._blob("snapshot", "the snapshot"))
        history = self.bundle.history
        table = add_pasts(table, self.bundle.schema, history.pasts if history else ())
        return part_rows(store, table, self._blob("split", "the split"))[1]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Test rows as requests have them, 200 at most.

        Raises:
            NotHere: the snapshot isn't here.
        """
        from perron.check import judge_row

        table, fields = self.test_table, {field.name: field for field in self.schema.request}
        names = [name for name, field in fields.items() if field.is_asked and name in table.column_names]
        places = sorted({place * table.num_rows // MOST_ROWS for place in range(MOST_ROWS)})
        found = [_plain(row) for row in table.select(names).take(places).to_pylist()]
        return [row for row in found if not any(judge_row(fields, None, row, 0))]

    @cached_property
    def fitted(self) -> "Fitted":
        """The trained model, as training left it in the store of this machine.

        Raises:
            NotHere: it isn't here, or was pickled by packages that aren't those of now.
        """
        from perron.train import load_fitted

        self.system  # noqa: B018  # the pickle refers to the project's own modules
        path = self.project.store.get(self._blob("train", "the trained model"))
        try:
            return load_fitted(path)
        except Exception as error:  # a pickle fails by whatever its packages raise, or warn of
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            raise NotHere(
                f"The trained model of {self.words} can't be read with the packages of now ({words})."
            ) from error

    # ------------------------------------------------------------------ the last release

    @cached_property
    def release(self) -> tuple[str, Schema] | None:
        """The last release's name and contract, which clients know; None where there was none.

        Where the version under test is the champion with the contract that is declared, it is the champion before.

        Raises:
            NotFound: there is no such version.
            ContractError: it holds no contract.
        """
        if self._release is not None:
            return self._release, self._contract_of(self._release)
        ledger, name = self.project.ledger, self.system.name
        event = ledger.get_alias(name, CHAMPION)
        while event is not None:
            if event["version"] != self.row["version"] or self.is_stale:
                return f"version {event['version']}", self._contract_of(str(event["version"]))
            event = ledger.alias_before(name, CHAMPION, event["id"])
        return None

    def _contract_of(self, reference: str) -> Schema:
        path = self.folder / reference
        if not reference.isdigit() and path.exists():
            path = path / "contract.json" if path.is_dir() else path
        else:
            if "/" in reference or path.suffix == ".json":
                raise NotFound(f"There is no {path}; give a version, an alias, a contract.json or a bundle's folder.")
            version = self.project.ledger.get_version(self.system.name, reference)
            path = self.project.ledger.bundle_path(version) / "contract.json"
        return read_contract(path)

    @property
    def sensitive(self) -> Sequence[str]:
        """The fields whose values are people's own."""
        return [field.name for field in self.schema.fields if Role.SENSITIVE in field.roles]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it: without nulls, dates as text."""
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in row.items()
        if value is not None
    }
