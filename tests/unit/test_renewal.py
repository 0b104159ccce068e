"""`perron sync` beneath the command: what is written, merged, refused, left out and taken away."""

import csv
import json
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import need

from perron import renewal
from perron.errors import DeclarationError, PerronError, SourceError
from perron.organisation import Organisation, read_organisation
from perron.renewal import git, renew
from perron.ship.files import MANIFEST
from perron.start import start_project

WHOLE = Organisation(licence="mit", holder="Ann Doe", owner="ann@example.org", year=2026)


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole project in its own repository; tests don't change it."""
    need("git")
    folder = tmp_path_factory.mktemp("begun")
    with open(folder / "rows.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["size", "place", "price"])
        writer.writerows([n * 1.5, ["north", "south"][n % 2], n * 10.25] for n in range(200))
    start_project(folder / "houses", folder / "rows.csv", "price", begin_git="always", organisation=WHOLE)
    return folder / "houses"


@pytest.fixture
def project(begun: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(begun, tmp_path / "houses"))


def commit(project: Path) -> None:
    assert git(project, "add", "-A").returncode == 0
    done = git(project, "-c", "user.name=Ann", "-c", "user.email=ann@example.org", "commit", "-q", "-m", "Mine")
    assert done.returncode == 0, done.stderr


def alter(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, text
    path.write_text(text.replace(old, new, 1))


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """Changes the text that is derived for a file, as a new version of Perron would."""
    from perron.ship import project as shipped

    made = shipped.synced_files

    def change(name: str, old: str, new: str) -> None:
        def newer(*words: object) -> dict[str, str]:
            files = made(*words)  # type: ignore[arg-type]
            assert old in files[name]
            return {**files, name: files[name].replace(old, new, 1)}

        monkeypatch.setattr(shipped, "synced_files", newer)

    return change


def test_a_new_project_is_up_to_date_and_committed(project: Path) -> None:
    assert set(renew(project, is_check=True).values()) == {"current"}
    assert set(renew(project).values()) == {"current"}
    assert git(project, "status", "--porcelain").stdout == b""


def test_a_changed_declaration_makes_its_pages_stale_and_then_new(project: Path) -> None:
    alter(project / "system.py", "place: Literal", "wind: float | None\n    place: Literal")
    found = renew(project, is_check=True)
    assert {name for name, status in found.items() if status == "stale"} == {
        "docs/README.md",
        "docs/data.md",
        "docs/api.md",
    }
    assert "wind" not in (project / "docs/data.md").read_text()
    assert renew(project)["docs/data.md"] == "written"
    assert "| `wind` | float |  | may be missing |" in (project / "docs/data.md").read_text()
    assert set(renew(project, is_check=True).values()) == {"current"}


def test_a_change_of_a_person_and_one_of_perrons_are_both_kept(
    project: Path, template: Callable[[str, str, str], None]
) -> None:
    alter(project / "Makefile", "clean:\n", "mine:\n\techo mine\n\nclean:\n")
    (project / "Makefile").chmod(0o755)
    commit(project)
    template("Makefile", "VENV ?= .venv", "VENV ?= .environment")
    assert renew(project, is_check=True)["Makefile"] == "stale"
    assert renew(project)["Makefile"] == "merged"
    text = (project / "Makefile").read_text()
    assert "echo mine" in text and "VENV ?= .environment" in text
    assert stat.S_IMODE((project / "Makefile").stat().st_mode) == 0o755
    assert renew(project)["Makefile"] == "changed"  # and so again and again: nothing new


def test_changes_of_the_same_line_are_a_conflict_until_it_is_resolved(
    project: Path, template: Callable[[str, str, str], None]
) -> None:
    alter(project / "Makefile", "VENV ?= .venv", "VENV ?= .mine")
    commit(project)
    template("Makefile", "VENV ?= .venv", "VENV ?= .theirs")
    before = (project / "Makefile").read_bytes()
    assert renew(project, is_check=True)["Makefile"] == "conflict"
    assert (project / "Makefile").read_bytes() == before
    assert renew(project)["Makefile"] == "conflict"
    text = (project / "Makefile").read_text()
    assert f"<<<<<<< yours\nVENV ?= .mine\n=======\nVENV ?= .theirs\n>>>>>>> {renewal.LABEL}\n" in text
    commit(project)
    assert renew(project)["Makefile"] == "conflict" and (project / "Makefile").read_text() == text  # nothing twice
    begin, end = text.index("<<<<<<<"), text.index(f">>>>>>> {renewal.LABEL}\n") + len(f">>>>>>> {renewal.LABEL}\n")
    (project / "Makefile").write_text(f"{text[:begin]}VENV ?= .both\n{text[end:]}")
    assert renew(project, is_check=True)["Makefile"] == "changed"


def test_a_conflict_in_pyproject_stops_the_next_sync_with_a_line(project: Path) -> None:
    alter(project / "pyproject.toml", 'ci = "github"', '<<<<<<< yours\nci = "github"\n=======\n')
    with pytest.raises(DeclarationError, match="isn't TOML.*resolve the conflict in it"):
        renew(project)


@pytest.mark.parametrize("how", ["uncommitted", "staged", "untracked", "no repository", "no git"])
def test_what_git_does_not_hold_is_not_merged_into(
    project: Path, template: Callable[[str, str, str], None], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(project / "Makefile", "clean:\n", "mine:\n\techo mine\n\nclean:\n")
    if how == "staged":
        git(project, "add", "-A")
    elif how == "untracked":
        git(project, "rm", "-q", "--cached", "Makefile")
    elif how == "no repository":
        shutil.rmtree(project / ".git")
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    elif how == "no git":
        monkeypatch.setenv("PATH", str(project / "nothing"))
    template("Makefile", "VENV ?= .venv", "VENV ?= .environment")
    alter(project / "system.py", "place: Literal", "wind: float | None\n    place: Literal")  # so that others are stale
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file() and ".git/" not in str(path)}
    expected = {"no repository": "is in no git repository", "no git": "there is no git"}.get(
        how, "they aren't committed"
    )
    with pytest.raises(DeclarationError, match=f"You changed Makefile.*{expected}.*nothing was written: .*--force"):
        renew(project)
    assert {path: path.read_bytes() for path in before} == before
    assert renew(project, is_check=True)["Makefile"] == "stale"
    assert renew(project, force=True)["Makefile"] == "merged"
    assert "echo mine" in (project / "Makefile").read_text() and "wind" in (project / "docs/data.md").read_text()


def test_uncommitted_changes_elsewhere_do_not_matter(project: Path) -> None:
    (project / "system.py").write_text((project / "system.py").read_text().replace("size: ", "size: ") + "\n# mine\n")
    (project / "notes.txt").write_text("mine")
    alter(project / "Makefile", "clean:\n", "clean: \n")  # changed, and nothing new for it
    alter(project / "pyproject.toml", 'licence = "mit"', 'licence = "none"')
    commit(project)
    alter(project / "docs/api.md", "# 5 API", "# Five: API")
    assert renew(project)["LICENSE"] == "removed"
    assert not (project / "LICENSE").exists()


def test_an_answer_that_changed_brings_and_takes_files(project: Path) -> None:
    alter(project / "pyproject.toml", 'ci = "github"', 'ci = "none"')
    alter(project / "pyproject.toml", 'branching = "git-flow"', 'branching = "trunk"')
    (project / ".github/CODEOWNERS").write_text("* @me\n")
    commit(project)
    found = renew(project)
    assert found[".github/pull_request_template.md"] == "removed" and found[".github/CODEOWNERS"] == "released"
    assert not (project / ".github/pull_request_template.md").exists()
    assert (project / ".github/CODEOWNERS").read_text() == "* @me\n"
    assert "short branches of `main`" in (project / "docs/delivery.md").read_text()
    assert ".github/CODEOWNERS" not in renew(project)  # it is nobody's but the person's now
    alter(project / "pyproject.toml", 'ci = "none"', 'ci = "github"')
    commit(project)
    found = renew(project)
    assert found[".github/pull_request_template.md"] == "written" and found[".github/CODEOWNERS"] == "changed"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_answers_may_be_written_in_any_way(project: Path, ends: str) -> None:
    path = project / "pyproject.toml"
    text = re.sub(
        r"(?s)(perron\.project\]\n).*?\n\n",
        "\\1# ours\nbranching='trunk'\nci   = 'none' # !\n\n",
        path.read_text(),
        count=1,
    )
    path.write_bytes(text.replace("\n", ends).encode())
    found = renew(project)
    assert found["pyproject.toml"] == "current" and found[".github/CODEOWNERS"] == "removed"
    assert path.read_bytes() == text.replace("\n", ends).encode()
    assert set(renew(project).values()) == {"current"}


def test_what_a_person_deleted_stays_deleted_until_it_is_restored(project: Path) -> None:
    (project / "docs/optimisation.md").unlink()
    alter(project / "Makefile", "VENV ?= .venv", "VENV ?= .mine")
    commit(project)
    assert renew(project)["docs/optimisation.md"] == "deleted"
    assert renew(project, is_check=True)["docs/optimisation.md"] == "deleted"
    found = renew(project, restore=["docs/optimisation.md", "Makefile"])
    assert found["docs/optimisation.md"] == "written" == found["Makefile"]
    assert "VENV ?= .venv" in (project / "Makefile").read_text()
    assert set(renew(project).values()) == {"current"}
    with pytest.raises(DeclarationError, match="writes no file 'Makefil'; did you mean 'Makefile'"):
        renew(project, restore=["Makefil"])
    alter(project / "Makefile", "VENV ?= .venv", "VENV ?= .never-committed")
    with pytest.raises(DeclarationError, match="You changed Makefile"):  # to restore would lose it
        renew(project, restore=["Makefile"])


def test_the_base_of_the_merge_travels_with_the_repository(
    project: Path, tmp_path: Path, template: Callable[[str, str, str], None]
) -> None:
    alter(project / "Makefile", "clean:\n", "mine:\n\techo mine\n\nclean:\n")
    commit(project)
    assert git(tmp_path, "clone", "-q", str(project), str(tmp_path / "clone" / "houses")).returncode == 0
    template("Makefile", "VENV ?= .venv", "VENV ?= .environment")
    assert renew(tmp_path / "clone" / "houses")["Makefile"] == "merged"


def test_line_ends_of_windows_stay_and_are_no_change(project: Path, template: Callable[[str, str, str], None]) -> None:
    for name in ("Makefile", "docs/api.md"):
        (project / name).write_bytes((project / name).read_bytes().replace(b"\n", b"\r\n"))
    alter(project / "docs/api.md", "# 5 API", "# Five")
    (project / "docs/api.md").write_bytes((project / "docs/api.md").read_bytes().replace(b"\n", b"\r\n"))
    commit(project)
    assert renew(project)["Makefile"] == "current"
    template("docs/api.md", "`perron serve` answers", "`perron serve` replies to")
    assert renew(project)["docs/api.md"] == "merged"
    data = (project / "docs/api.md").read_bytes()
    assert b"# Five" in data and b"replies to" in data and data.count(b"\n") == data.count(b"\r\n")


def test_a_notebook_that_was_used_is_left_alone(project: Path, template: Callable[[str, str, str], None]) -> None:
    name = "notebooks/explore.ipynb"
    template(name, "a first look", "a very first look")
    assert renew(project)[name] == "written"
    cells = json.loads((project / name).read_text())
    cells["cells"][1]["execution_count"] = 1
    (project / name).write_text(json.dumps(cells, indent=1))
    commit(project)
    template(name, "What predicts", "And what predicts")
    assert renew(project)[name] == "changed"
    assert json.loads((project / name).read_text()) == cells


def test_what_a_person_had_already_done_is_no_conflict(
    project: Path, template: Callable[[str, str, str], None]
) -> None:
    alter(project / "Makefile", "VENV ?= .venv", "VENV ?= .environment")
    alter(project / "Makefile", "clean:\n", "clean: \n")
    commit(project)
    template("Makefile", "VENV ?= .venv", "VENV ?= .environment")
    assert renew(project)["Makefile"] == "changed"


def test_a_file_that_was_there_before_is_the_persons(project: Path, template: Callable[[str, str, str], None]) -> None:
    known = json.loads((project / MANIFEST).read_text())
    del known["files"]["Makefile"]
    (project / MANIFEST).write_text(json.dumps(known))
    (project / "Makefile").write_text("all:\n\techo mine\n")
    commit(project)
    assert renew(project)["Makefile"] == "changed"
    assert renew(project, restore=["Makefile"])["Makefile"] == "written"


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"format": 2, "files": 1}', '{"format": 2, "files": {"../x": {"sha256": "0"}}}', '{"format": 2, "files": {"/x": {"sha256": "0"}}}',
     '{"format": 2, "files": {"a": {"sha256": "0", "lines": ["b"]}}}', '{"format": 2, "files": {"a": {"sha256": 1}}}', "<<<<<<< HEAD\n"],
)  # fmt: skip
def test_a_record_that_cannot_be_read_stops_before_anything_is_written(project: Path, text: str) -> None:
    (project / MANIFEST).write_text(text)
    (project / "Makefile").write_text("mine")
    with pytest.raises(SourceError, match=r"can't be read.*git checkout HEAD -- \.perron-files\.json"):
        renew(project, force=True)
    assert (project / "Makefile").read_text() == "mine"


def test_a_record_of_a_newer_perron_is_said(project: Path) -> None:
    (project / MANIFEST).write_text('{"format": 99, "files": {}}')
    with pytest.raises(SourceError, match="newer than this Perron's"):
        renew(project)


def test_a_file_where_a_folder_should_be_is_said(project: Path) -> None:
    shutil.rmtree(project / "docs")
    (project / "docs").write_text("mine")
    known = json.loads((project / MANIFEST).read_text())
    known["files"] = {name: entry for name, entry in known["files"].items() if not name.startswith("docs/")}
    (project / MANIFEST).write_text(json.dumps(known))
    with pytest.raises(SourceError, match="Can't write"):
        renew(project)
    assert (project / "docs").read_text() == "mine"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('ci = "github"', 'ci = "gitlab"', "ci is 'gitlab'; did you mean 'github'"),
        ('ci = "github"', 'cy = "github"', "no key 'cy'; known: branching, ci"),
        ("year = 2026", 'year = "now"', "give a year"),
        ('holder = "Ann Doe"', 'holder = "a\\nb"', "give a text of one line"),
        ("[tool.perron.project]", "[tool.perron.other]", "has no table .tool.perron.project.*--bare"),
        ("[tool.perron.project]", "[tool.perron.project", "isn't TOML"),
    ],
)
def test_answers_that_make_no_sense_are_named(project: Path, old: str, new: str, said: str) -> None:
    alter(project / "pyproject.toml", old, new)
    with pytest.raises(PerronError, match=said):
        renew(project)


def test_a_project_without_a_pyproject_is_told(project: Path) -> None:
    (project / "pyproject.toml").unlink()
    with pytest.raises(DeclarationError, match="There is no .*pyproject.toml"):
        renew(project)


def test_answers_read_back_as_they_were_written(tmp_path: Path) -> None:
    for organisation in (
        WHOLE,
        Organisation(),
        Organisation("none", "trunk", "proprietary", 'O"Neil \\ \x7f é', "@x/y", 1),
    ):
        (tmp_path / "pyproject.toml").write_text(f"[tool.perron.project]\n{organisation.to_toml()}\n")
        assert read_organisation(tmp_path) == organisation
