"""A champion that goes from one machine to another: what is carried, what isn't, and that nothing is done again."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from perron.errors import BundleError, LedgerError, NotFound, PerronError
from perron.handover import keep, restore
from perron.ledger import CHAMPION
from perron.project import Project
from tests.integration.test_pipeline import declare, run, write_project

OTHER = "@system.model\ndef model(params):\n    from sklearn.linear_model import {} as M\n    return M()\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with three versions: two of one model (its data sheet aside, the same training), one of another before."""
    folder = write_project(tmp_path_factory.mktemp("handover") / "things", rest=OTHER.format("Ridge"))
    run(folder)
    declare(folder, rest=OTHER.format("LinearRegression"))
    run(folder)
    project = Project.open(folder)
    project.ledger.add_outcome("p1", 3.0)
    project.ledger.add_token("0" * 64, "ann", ["read"], None, None)
    project.secret()
    project.ledger.close()
    return folder


@pytest.fixture(scope="module")
def kept(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "kept"
    project = Project.open(trained)
    done = keep(project, "things", folder)
    project.ledger.close()
    assert done["versions"] == [1, 2] and done["bytes"] > 10_000
    return folder


def fresh(trained: Path, place: Path) -> Path:
    """The project as git would bring it."""
    return Path(shutil.copytree(trained, place, ignore=shutil.ignore_patterns(".perron", "__pycache__")))


def digests(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_on_another_machine_the_champion_is_there_and_nothing_is_trained_again(
    trained: Path, kept: Path, tmp_path: Path
) -> None:
    folder = fresh(trained, tmp_path / "things")
    assert restore(kept, folder) == {"model": "things", "versions": [1, 2]}
    result = run(folder)
    assert {step["name"]: step["status"] for step in result.steps if step["status"] == "done"} == {"snapshot": "done"}
    assert result.champion == 2
    project = Project.open(folder)
    assert [row["version"] for row in project.ledger.list_versions("things")] == [2, 1]
    assert (project.ledger.get_alias("things", CHAMPION) or {})["version"] == 2
    project.ledger.close()
    declare(folder, rest=OTHER.format("BayesianRidge"))
    assert run(folder).champion == 3  # held to the champion that came along


def test_neither_rows_nor_outcomes_tokens_or_secrets_are_carried(trained: Path, kept: Path) -> None:
    files = digests(kept)
    secret = (trained / ".perron" / "secret.key").read_bytes()
    rows = (trained / "things.csv").read_text().splitlines()[1:]
    carried = b"".join(files.values())
    assert secret.strip() not in carried and b"PAR1" not in carried
    assert (
        sum(row.split(",")[0].encode() in carried for row in rows) <= 4
    )  # the samples of two bundles, and a sketch's ends
    with sqlite3.connect(kept / "ledger.db") as ledger:
        assert ledger.execute("SELECT count(*) FROM outcomes").fetchone() == (0,)
        assert ledger.execute("SELECT count(*) FROM tokens").fetchone() == (0,)
        assert ledger.execute("SELECT count(*) FROM versions").fetchone() == (2,)
    ledger.close()
    assert b"ann" not in files["ledger.db"]


def test_only_the_champion_and_what_it_is_held_to_are_carried(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "things"))
    declare(folder, rest=OTHER.format("BayesianRidge"))
    run(folder)
    project = Project.open(folder)
    assert keep(project, "things", tmp_path / "kept")["versions"] == [2, 3]
    project.ledger.set_alias("things", "shadow", 1)
    assert keep(project, "things", tmp_path / "again")["versions"] == [1, 2, 3]
    project.ledger.close()


def test_a_ledger_is_never_replaced(trained: Path, kept: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "things"))
    before = digests(folder)
    with pytest.raises(LedgerError, match="is there already"):
        restore(kept, folder)
    assert digests(folder) == before


def test_keep_writes_into_no_folder_that_holds_something(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    project = Project.open(trained)
    with pytest.raises(LedgerError, match="isn't empty"):
        keep(project, "things", tmp_path / "notes")
    with pytest.raises(NotFound):
        keep(project, "thing", tmp_path / "kept")
    project.ledger.close()
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    assert digests(tmp_path / "notes") == {"mine.txt": b"mine"}


def test_a_damaged_bundle_isnt_kept(trained: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained, tmp_path / "things"))
    project = Project.open(folder)
    path = project.ledger.bundle_path(project.ledger.get_version("things")) / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError):
        keep(project, "things", tmp_path / "kept")
    project.ledger.close()
    assert [path.name for path in tmp_path.iterdir()] == ["things"]


def change_bundle(kept: Path) -> None:
    next(kept.glob("bundles/*/model.onnx")).write_bytes(b"other")


def change_blob(kept: Path) -> None:
    next(kept.glob("store/*")).write_bytes(b"other")


def remove_bundles(kept: Path) -> None:
    shutil.rmtree(kept / "bundles")


def facts(**changes: object) -> object:
    def change(kept: Path) -> None:
        known = json.loads((kept / "kept.json").read_text())
        (kept / "kept.json").write_text(json.dumps({**known, **changes}))

    return change


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (shutil.rmtree, "isn't what `perron ci keep` makes"),
        (lambda kept: (kept / "kept.json").write_text("{"), "is damaged"),
        (lambda kept: (kept / "kept.json").write_text("[]"), "is damaged"),
        (facts(format=99), "newer than this Perron's"),
        (change_bundle, "SHA-256 isn't the manifest's"),
        (change_blob, "SHA-256 isn't its name"),
        (remove_bundles, "holds no bundle"),
    ],
)
def test_what_was_changed_on_the_way_is_refused_before_anything_is_written(
    trained: Path, kept: Path, tmp_path: Path, harm: object, expected: str
) -> None:
    copy = Path(shutil.copytree(kept, tmp_path / "kept"))
    harm(copy)  # type: ignore[operator]
    folder = fresh(trained, tmp_path / "things")
    before = digests(folder)
    with pytest.raises(PerronError, match=expected) as raised:
        restore(copy, folder)
    assert "\n" not in str(raised.value) and digests(folder) == before
