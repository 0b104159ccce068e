"""The ledger: a real SQLite file, several processes."""

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from perron import ledger as ledgers
from perron.errors import LedgerError, NotFound, PerronError
from perron.ledger import Ledger

WRITER = """
import sys
from pathlib import Path
from perron.ledger import Ledger
sys.stdin.readline()  # all at once
ledger = Ledger.at(Path(sys.argv[1]))
for number in range(5):
    run = ledger.start_run("house-prices")
    ledger.start_step(run, "train", "key")
    ledger.log_metrics(run, "train", [("loss", step, 1.0 / (1 + step)) for step in range(50)])
    ledger.end_step(run, "train", "done", 0.1, key=f"{run}", output={"n": number})
    ledger.register("house-prices", f"bundle-{run}", "path", run)
    ledger.end_run(run, "done")
"""


def test_processes_that_open_it_for_the_first_time_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "new"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 6, errors
    ledger = Ledger.at(tmp_path / "new")
    found = ledger.list_runs(100)
    assert len(found) == 30 and {run["status"] for run in found} == {"done"}
    versions = ledger.list_versions("house-prices")
    assert sorted(version["version"] for version in versions) == list(range(1, 31))
    assert len(ledger.get_run(found[0]["id"])["metrics"]) == 50
    ledger.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.at(tmp_path / ".perron")


def _registered(ledger: Ledger, *bundles: str) -> None:
    for bundle in bundles:
        ledger.register("m", bundle, "path", ledger.start_run("m"))


def test_the_same_bundle_keeps_its_version(ledger: Ledger) -> None:
    _registered(ledger, "a", "b", "a")
    assert [version["version"] for version in ledger.list_versions("m")] == [2, 1]


def test_an_alias_remembers_what_it_replaced(ledger: Ledger) -> None:
    _registered(ledger, "a", "b")
    ledger.set_alias("m", "champion", 1)
    ledger.set_alias("m", "champion", 2, "better")
    ledger.set_alias("m", "champion", 2, "again: no event")
    event = ledger.get_alias("m", "champion")
    assert event is not None and (event["version"], event["replaced"], event["reason"]) == (2, 1, "better")
    before = ledger.alias_before("m", "champion", event["id"])
    assert before is not None and before["version"] == 1
    assert ledger.get_version("m")["bundle"] == "b"
    assert ledger.get_version("m", 1)["bundle"] == "a" == ledger.get_version("m", "1")["bundle"]


def test_what_is_not_there_is_named_with_the_nearest(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="There is no model 'm' yet"):
        ledger.get_version("m")
    _registered(ledger, "a")
    with pytest.raises(NotFound, match="There is no model 'n'; known: m"):
        ledger.get_version("n")
    with pytest.raises(NotFound, match="m has no version 7"):
        ledger.get_version("m", 7)
    with pytest.raises(NotFound, match="m has no version 'shadow'"):
        ledger.set_alias("m", "champion", ledger.get_version("m", "shadow")["version"])
    with pytest.raises(NotFound, match="There is no run 'x'"):
        ledger.get_run("x")


def test_a_run_whose_process_is_gone_is_marked_as_killed(ledger: Ledger) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    run = ledger.start_run("m")
    with ledger.transaction() as connection:
        connection.execute(ledgers.runs.update().values(pid=gone.pid))
    ledger.start_run("m")
    assert ledger.get_run(run)["status"] == "killed"


def test_a_transaction_that_raises_leaves_nothing(ledger: Ledger) -> None:
    run = ledger.start_run("m")

    def fail() -> None:
        with ledger.transaction() as connection:
            connection.execute(ledgers.params.insert().values(run=run, name="a", value="1"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert ledger.get_run(run)["params"] == {}


def test_readers_do_not_wait_for_a_writer(ledger: Ledger) -> None:
    _registered(ledger, "a")
    with ledger.transaction() as connection:
        connection.execute(
            ledgers.versions.insert().values(
                model="m", version=9, bundle="z", path="p", run=ledger.list_runs()[0]["id"], made="now"
            )
        )
        assert [version["version"] for version in ledger.list_versions("m")] == [1]


def test_a_ledger_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    Ledger.at(tmp_path).close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.begin() as connection:
        connection.execute(ledgers.perron_ledger.update().values(format=99))
    engine.dispose()
    with pytest.raises(LedgerError, match="format 99, newer than this Perron's"):
        Ledger.at(tmp_path)


def test_an_older_ledger_is_migrated_forward_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Ledger.at(tmp_path)
    run = old.start_run("m")
    old.close()

    def second(connection: sa.Connection) -> None:
        connection.execute(sa.text("ALTER TABLE runs ADD COLUMN note TEXT"))

    monkeypatch.setattr(ledgers, "MIGRATIONS", (*ledgers.MIGRATIONS, second))
    monkeypatch.setattr(ledgers, "FORMAT", ledgers.FORMAT + 1)
    new = Ledger.at(tmp_path)
    assert new.get_run(run)["id"] == run
    with new.transaction() as connection:
        assert connection.execute(sa.text("SELECT note FROM runs")).scalar() is None
        assert connection.execute(sa.select(ledgers.perron_ledger.c.format)).scalar() == ledgers.FORMAT
    new.close()


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"not a database, but long enough to be read as one" * 40)
    with pytest.raises(LedgerError, match=r"^The ledger sqlite.* can't be opened: [^\n]+$"):
        Ledger.at(tmp_path)


def test_outcomes_are_corrected_by_later_ones(ledger: Ledger) -> None:
    assert ledger.get_outcome("p") is None
    ledger.add_outcome("p", 1.5)
    ledger.add_outcome("p", 2.5)
    found = ledger.get_outcome("p")
    assert found is not None and found["value"] == 2.5


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+psycopg://someone:secret@127.0.0.1:1/x", "someone|perron\\[postgres\\]"),
        ("nonsense", "not a URL"),
        ("oracle+oracledb://a:secret@b/c", "needs"),
        ("sqlite:////proc/no/such/folder/ledger.db", "can't be opened"),
    ],
)
def test_a_url_that_cannot_be_opened_is_one_line_without_its_password(url: str, words: str) -> None:
    with pytest.raises(PerronError, match=words) as raised:
        Ledger(url)
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)
