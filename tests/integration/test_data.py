"""Snapshots in the catalog: listed, found by what people call them, compared; their metadata and their sheet."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from perron.catalog import describe, entries, find_entry
from perron.catalog.difference import difference
from perron.catalog.sheet import SHEET, check_sheet, refresh_sheet
from perron.errors import DataError, LedgerError, NotFound
from perron.project import Project
from tests.conftest import perron, perron_json
from tests.integration.test_labels import RIDGE
from tests.integration.test_pipeline import declare, run, write_project


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two snapshots: in the second, three rows went, two came, one changed, and all sizes are doubled in one kind."""
    folder = write_project(tmp_path_factory.mktemp("data") / "things", rest=RIDGE)
    declare(folder, rest=RIDGE)
    secret(folder)
    run(folder)
    table = folder / "things.csv"
    head, *rows = table.read_text().splitlines()
    changed = ["5" + row[row.index(",") :] if ",7," in row and row.split(",")[7] == "7" else row for row in rows]
    fresh = [row.replace(f",{key},", f",{key + 1000},", 1) for key, row in ((300, rows[300]), (301, rows[301]))]
    table.write_text("\n".join([head, *changed[:-3], *fresh, "-1" + rows[0][rows[0].index(",") :]]) + "\n")
    run(folder)
    return folder


def secret(folder: Path) -> None:
    system = folder / "system.py"
    system.write_text(system.read_text().replace("word: str | None", "word: Annotated[str | None, pn.Sensitive]"))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "things"))


@pytest.fixture
def project(folder: Path) -> Any:
    opened = Project.open(folder)
    yield opened
    opened.ledger.close()


# ------------------------------------------------------------------ the catalog


def test_every_snapshot_is_listed_with_its_runs_and_versions(folder: Path) -> None:
    run(folder)
    new, old = perron_json("data", "list", cwd=folder)
    assert (new["rows"], new["quarantined"], old["rows"], old["quarantined"]) == (399, 1, 400, 0)
    assert len(new["runs"]) == 2 and len(old["runs"]) == 1
    assert [v["version"] for v in new["versions"]] == [2] and new["versions"][0]["aliases"] == ["champion"]
    assert new["source"] == "things.csv" and len(new["source_digest"]) == 64 and new["present"]
    said = perron("data", "list", cwd=folder).stdout
    assert "things@2 (champion)" in said and "and 1 more" in said and new["digest"][:12] in said


def test_a_snapshot_is_found_by_what_people_call_it(project: Project) -> None:
    new, old = entries(project)
    for name in (
        new.digest,
        new.digest[:8],
        new.digest[:8].upper(),
        new.runs[0]["run"],
        "2",
        "v2",
        "champion",
        "things@2",
        "things@champion",
        None,
    ):
        assert find_entry(project, name) == new
    for name in (old.digest[:8], "1", "things@1", old.runs[0]["run"]):
        assert find_entry(project, name) == old


def test_what_means_several_snapshots_or_none_is_refused(project: Project) -> None:
    run_name = entries(project)[0].runs[0]["run"]
    with pytest.raises(NotFound, match="means several snapshots: run .*; run .*; give more letters"):
        find_entry(project, run_name[:8])
    for name in ("zzzz", "9", "abc", "other@2", ""):
        with pytest.raises(NotFound, match="There is no snapshot, run or version"):
            find_entry(project, name)


def test_a_version_and_a_digest_that_begin_alike_are_both_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, old = entries(project)
    project.ledger.set_alias("things", new.digest[:6], 1)
    with pytest.raises(NotFound, match=rf"snapshot {new.digest[:12]}.*; version things@1|version things@1.*; snapshot"):
        find_entry(project, new.digest[:6])
    assert find_entry(project, new.digest[:7]) == new and old.versions[0]["version"] == 1


def test_a_project_without_a_run_says_so(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "things")
    assert perron_json("data", "list", cwd=folder) == []
    for words in (["show"], ["diff", "1", "2"], ["croissant", "-o", "c.json"], ["sheet"], ["sheet", "--check"]):
        failed = perron("data", *words, cwd=folder, check=False)
        assert failed.returncode == 1 and "no snapshot yet" in failed.stderr and failed.stderr.count("\n") == 1


def test_a_snapshot_is_shown_with_its_columns_faults_split_and_lineage(folder: Path) -> None:
    found = perron_json("data", "show", cwd=folder)
    columns = {c["name"]: c for c in found["columns"]}
    assert columns["size"]["min"] >= 0 and columns["size"]["rules"] == ["≥ 0"] and columns["weight"]["missing"] > 0
    assert "top" not in columns["word"] and "distinct" not in columns["word"]  # it is sensitive
    assert [t["value"] for t in columns["kind"]["top"]] and columns["key"]["roles"] == ["id"]
    assert found["faults"][0]["field"] == "size" and found["split"]["train_rows"] + found["split"]["test_rows"] == 399
    assert Path(found["quarantine_path"]).read_text().count("\n") == 2
    said = perron("data", "show", "1", cwd=folder).stdout
    assert "400" in said and "things@1" in said and "quarantine   none" in said


def test_the_sketch_of_a_snapshot_is_made_once(project: Project) -> None:
    entry = find_entry(project)
    describe(project, entry)
    project.store.path(entry.digest).write_bytes(b"not read again")
    assert describe(project, find_entry(project))["columns"][0]["missing"] == 0


def test_a_snapshot_that_was_removed_from_the_store_is_told(folder: Path, project: Project) -> None:
    gone = find_entry(project, "1")
    project.store.path(gone.digest).unlink()
    assert "(removed)" in perron("data", "list", cwd=folder).stdout
    assert "removed from the store" in perron("data", "show", "1", cwd=folder).stdout
    with pytest.raises(LedgerError, match="The store has no blob"):
        difference(project, find_entry(project, "1"), find_entry(project, "2"))
    failed = perron("data", "croissant", "1", "-o", "c.json", cwd=folder, check=False)
    assert failed.returncode == 1 and "run the pipeline again" in failed.stderr and not (folder / "c.json").exists()


# ------------------------------------------------------------------ what differs


def test_rows_are_compared_by_their_id(folder: Path) -> None:
    found = perron_json("data", "diff", "1", "2", cwd=folder)
    rows = found["rows"]
    assert (rows["by"], rows["before"], rows["after"]) == ("key", 400, 399)
    assert (rows["added"], rows["removed"], rows["changed"], rows["columns"]) == (2, 3, 1, {"size": 1})
    assert rows["examples"] == {"added": [1300, 1301], "removed": [397, 398, 399], "changed": [7]}
    back = perron_json("data", "diff", "2", "1", cwd=folder)["rows"]
    assert (back["added"], back["removed"], back["changed"]) == (3, 2, 1)
    said = perron("data", "diff", "1", "2", cwd=folder).stdout
    assert "2 added, 3 removed, 1 changed (by key)" in said and "size changed in 1 rows" in said


def test_without_an_id_rows_are_compared_as_they_are(folder: Path) -> None:
    system = folder / "system.py"
    system.write_text(system.read_text().replace("Annotated[int, pn.Id]", "int"))
    first = run(folder).to_json()["data"]["snapshot"]
    table = folder / "things.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text("\n".join([head, *rows[2:], rows[5], rows[5]]) + "\n")
    second = run(folder).to_json()["data"]["snapshot"]
    found = perron_json("data", "diff", first[:12], second[:12], cwd=folder)["rows"]
    assert (found["by"], found["added"], found["removed"], found["changed"]) == ("row", 2, 2, None)


def test_what_changed_in_the_contract_is_named_and_what_moved(folder: Path) -> None:
    system = folder / "system.py"
    system.write_text(
        system.read_text()
        .replace("size: Annotated[float, pn.Ge(0)]", 'size: Annotated[float, pn.Ge(-5), pn.Unit("m")]')
        .replace("    on: bool\n", "")
    )
    table = folder / "things.csv"
    head, *rows = table.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    table.write_text("\n".join([head, *(",".join([str(float(c[0]) * 3), *c[1:]]) for c in cells)]) + "\n")
    run(folder)
    found = perron_json("data", "diff", "2", "3", cwd=folder)
    assert found["schema"]["removed"] == ["on"] and found["schema"]["added"] == []
    assert found["schema"]["changed"] == [{"field": "size", "changes": ["unit: none → m", "rule ≥ 0 → ≥ -5"]}]
    moved = {column["column"]: column["changes"] for column in found["moved"]}
    assert "on" in moved and any("the median" in change for change in moved["size"]) and "word" not in moved


def test_a_snapshot_is_the_same_as_itself(folder: Path) -> None:
    found = perron_json("data", "diff", "champion", "2", cwd=folder)
    assert found["identical"] and found["moved"] == [] and found["rows"]["changed"] == 0


# ------------------------------------------------------------------ Croissant


def test_croissant_metadata_is_valid_and_reads_the_rows(folder: Path) -> None:
    """Judged and loaded by MLCommons' own package."""
    perron("data", "croissant", "-o", "meta/croissant.json", "--license", "CC0-1.0", "--creator", "Us", "--url", "https://example.org/things", cwd=folder)  # fmt: skip
    script = (
        "import sys, mlcroissant as mlc; d = mlc.Dataset(jsonld=sys.argv[1]); m = d.metadata\n"
        "assert not m.ctx.issues.errors, m.ctx.issues.report()\n"
        "assert not m.ctx.issues.warnings, m.ctx.issues.report()\n"
        "rows = list(d.records('Thing')); print(len(rows)); print(sorted(rows[0]))"
    )
    path = folder / "meta" / "croissant.json"
    read = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr[-2000:]
    count, names = read.stdout.splitlines()
    assert count == "399" and "Thing/size" in names
    made = json.loads(path.read_text())
    assert made["rai:personalSensitiveInformation"] == ["word"] and made["recordSet"][0]["key"] == {"@id": "Thing/key"}
    assert made["distribution"][0]["sha256"] == find_entry(Project.open(folder)).digest
    types = {f["name"]: f["dataType"] for f in made["recordSet"][0]["field"]}
    assert types == {
        "size": "sc:Float", "weight": "sc:Float", "kind": "sc:Text", "code": "sc:Integer", "on": "sc:Boolean",
        "day": "sc:Date", "word": "sc:Text", "key": "sc:Integer", "y": "sc:Float",
    }  # fmt: skip


def test_what_only_people_know_is_asked_for(folder: Path) -> None:
    said = perron("data", "croissant", "1", "-o", "c.json", cwd=folder).stdout
    assert "--license, --creator, --url" in said
    failed = perron("data", "croissant", "-o", ".perron", cwd=folder, check=False)
    assert failed.returncode == 1 and "Can't write .perron" in failed.stderr


# ------------------------------------------------------------------ the data sheet


def test_the_sheet_tells_what_is_known_and_keeps_what_people_wrote(folder: Path) -> None:
    assert "written" in perron("data", "sheet", cwd=folder).stdout
    path = folder / SHEET
    text = path.read_text()
    assert "399 rows of 9 fields; `y` is what is predicted." in text and "1 of 400 rows broke the contract" in text
    assert "`word`" in text and "not shown" in text and "w1" not in text
    path.write_text(
        text.replace("*Who gets it, how, under which licence? Do others' rights or export rules touch it?*", "Only we.")
    )
    before = path.read_text()
    assert perron_json("data", "sheet", cwd=folder)["written"] is False and path.read_text() == before
    table = folder / "things.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-6]) + "\n")
    perron("run", cwd=folder)  # keeps it current
    after = path.read_text()
    assert "394 rows of 9 fields" in after and "Only we." in after and "399" not in after
    assert perron("data", "sheet", "--check", cwd=folder).stdout.startswith("docs/datasheet.md: current")


def test_a_run_makes_no_sheet_where_there_is_none(folder: Path) -> None:
    perron("run", cwd=folder)
    assert not (folder / SHEET).exists()
    stale = perron("data", "sheet", "--check", cwd=folder, check=False)
    assert stale.returncode == 1 and "there is no docs/datasheet.md" in stale.stdout


def test_a_sheet_that_was_edited_or_left_behind_is_stale(folder: Path, project: Project) -> None:
    refresh_sheet(project, "things")
    path = folder / SHEET
    text = path.read_text()
    for old, new in (("399 rows of", "3,999 rows of"), ("<!-- perron:begin composition", "<!-- begun composition")):
        path.write_text(text.replace(old, new))
        judged = check_sheet(project, "things")
        assert not judged.is_current and "composition" in judged.reasons[0]
    path.write_text(text)
    assert check_sheet(project, "things").is_current
    with pytest.raises(NotFound, match="no snapshot yet"):  # of that system, where several share a ledger
        check_sheet(project, "another")
    run_with_other_split(folder)
    assert "tells of another snapshot" in check_sheet(project, "things").reasons[0]


def run_with_other_split(folder: Path) -> None:
    system = folder / "system.py"
    system.write_text(
        system.read_text().replace('source="things.csv"', 'source="things.csv", split=pn.split.random(test=0.4)')
    )
    run(folder)


def test_markers_that_were_taken_away_come_back_at_the_end_and_one_without_its_end_is_refused(
    folder: Path, project: Project
) -> None:
    path = folder / SHEET
    path.parent.mkdir()
    path.write_text("# Ours\n\nOur words.\n")
    refresh_sheet(project, "things")
    text = path.read_text()
    assert text.startswith("# Ours\n\nOur words.\n") and text.count("perron:begin") == 3
    assert check_sheet(project, "things").is_current
    broken = text.replace("<!-- perron:end identity -->", "")
    path.write_text(broken)
    with pytest.raises(DataError, match="begins and has no end"):
        refresh_sheet(project, "things")
    assert path.read_text() == broken
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="can't be read as UTF-8"):
        check_sheet(project, "things")


def test_words_of_the_contract_can_not_end_a_part(folder: Path) -> None:
    system = folder / "system.py"
    system.write_text(
        system.read_text().replace(
            "    on: bool\n", '    on: bool\n    """<!-- perron:end composition --> | and a pipe"""\n'
        )
    )
    run(folder)
    project = Project.open(folder)
    refresh_sheet(project, "things")
    assert check_sheet(project, "things").is_current and "\\| and a pipe" in (folder / SHEET).read_text()


def test_the_parquet_rows_of_a_listed_snapshot_are_the_blob(project: Project) -> None:
    entry = find_entry(project)
    assert parquet.read_metadata(project.store.get(entry.digest)).num_rows == entry.rows
