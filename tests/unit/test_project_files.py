"""The files of a whole project: marked, formatted, free of lint for any table, and up to date from the first minute."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from hypothesis import given, settings
from test_proposal import proposed, tables, write_csv
from tests.system.test_documents import GROUPS

from perron.canvas import find_faults, parse_canvas
from perron.contract import Field, Role, Schema
from perron.errors import DataError, DeclarationError
from perron.organisation import BRANCHINGS, CIS, LICENCES, Organisation
from perron.pipeline import run_pipeline
from perron.project import Project
from perron.proposal import Proposal, propose
from perron.renewal import renew
from perron.ship.project import OWN, own_files, synced_files
from perron.ship.scaffold import class_name, system_file
from perron.sketch import TableSketch
from perron.source import open_source
from perron.start import draft_project, start_project
from perron.system import System, load_system

WHOLE = Organisation(licence="apache-2.0", holder="Ann Doe", owner="ann@example.org", year=2026)


def simple(*gates: Any, **more: Any) -> System:
    fields = (Field(name="size", kind="float", column="size", ge=0), Field(name="price", kind="float", column="price", roles=(Role.TARGET,)))  # fmt: skip
    return System("houses", Schema("Houses", None, fields), source="data/rows.csv", **more)


def tool(*words: str | Path, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@given(tables())
@settings(max_examples=15)
def test_a_new_project_of_any_table_is_up_to_date(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    write_csv(folder / "rows.csv", columns)
    try:
        start_project(folder / "rows", folder / "rows.csv", list(columns)[-1], begin_git="never", organisation=WHOLE)
    except DataError:
        return
    assert set(renew(folder / "rows", is_check=True).values()) == {"current"}
    canvas, mistakes = parse_canvas((folder / "rows" / "canvas.toml").read_text())
    assert canvas is not None and not mistakes
    tomllib.loads((folder / "rows/tests/data/expectations.toml").read_text())


def test_any_table_passes_the_projects_own_lint(tmp_path: Path) -> None:
    """One Ruff and one pylint for many tables: each takes seconds to start."""
    texts: list[str] = []

    @given(tables())
    @settings(max_examples=40, derandomize=True, database=None)
    def collect(columns: dict[str, list[str]]) -> None:
        proposal, _ = proposed(columns, tmp_path)
        texts.append(system_file("rows", proposal, "rows.csv"))

    collect()
    files = synced_files(simple(), WHOLE, "0.1.0")
    folder = tmp_path / "project"
    (folder / "tests").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(files["pyproject.toml"])
    for number, text in enumerate(texts):
        (folder / f"system_{number}.py").write_text(text, "utf-8")
    tool("ruff", "check", "--no-cache", ".", cwd=folder)
    tool("ruff", "format", "--no-cache", "--check", ".", cwd=folder)
    tool("pylint", "--disable=duplicate-code", *sorted(path.name for path in folder.glob("*.py")), cwd=folder)


@pytest.mark.parametrize("word", ["literal", "date", "float", "annotated", "pn"])
def test_a_system_with_the_name_of_a_type_has_another_class(word: str) -> None:
    assert class_name(word) not in ("Literal", "Annotated")
    assert class_name(word).isidentifier()


def all_files() -> Iterator[tuple[Organisation, dict[str, str]]]:
    for ci in CIS:
        for branching in BRANCHINGS:
            for licence in LICENCES:
                chosen = replace(WHOLE, ci=ci, branching=branching, licence=licence)
                yield chosen, synced_files(simple(), chosen, "0.1.0")


def test_every_derived_file_is_marked_and_whole() -> None:
    for chosen, files in all_files():
        assert ("LICENSE" in files) == (chosen.licence != "none")
        assert any(name.startswith(".github/") for name in files) == (chosen.ci == "github")
        for name, text in files.items():
            assert text.endswith("\n") and not text.endswith("\n\n"), name
            if name != "LICENSE":  # verbatim: tools that look for licences compare it
                assert "Written by `perron" in text, name
            if not name.startswith(".github/workflows"):
                assert "{{" not in text, name
        project = tomllib.loads(files["pyproject.toml"])
        assert Organisation(**project["tool"]["perron"]["project"]) == chosen


def test_what_is_written_once_is_marked_as_the_users(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", {"size": [1.5, 2.5, 4.5] * 20, "price": [n * 1.25 for n in range(60)]})
    draft = draft_project(tmp_path / "houses", tmp_path / "rows.csv", "price", organisation=WHOLE)
    files = own_files(draft.system, WHOLE, "0.1.0", draft.proposal, draft.source, draft.sketch)
    assert set(files) == set(OWN)
    for name, text in files.items():
        marks = {"canvas.toml": "`perron canvas check`", "environments.toml": "`perron deploy environments`"}
        assert marks.get(name, "`perron sync` leaves it alone") in text, name


def test_the_pages_are_ten_name_the_system_and_only_commands_that_there_are() -> None:
    files = synced_files(simple(), WHOLE, "0.1.0")
    pages = {name: text for name, text in files.items() if name.startswith("docs/")}
    assert len(pages) == 11
    index = pages["docs/README.md"]
    for name, page in pages.items():
        if name != "docs/README.md":
            assert f"]({name.removeprefix('docs/')})" in index
            assert re.search(r"^# \d+ \w", page, re.MULTILINE)
    every = "\n".join([*pages.values(), files["Makefile"]])
    assert "houses" in every and "`price`" in every and "`Houses`" in every and "data/rows.csv" in every
    named = set(re.findall(r"(?:^ {4}|`|&& )perron ([a-z]+)", every, re.MULTILINE))
    assert named <= set(GROUPS), named - set(GROUPS)
    targets = set(re.findall(r"^([a-z]+):", files["Makefile"], re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", every)) <= targets


def test_text_of_the_data_means_nothing_in_the_pages(tmp_path: Path) -> None:
    odd = ["a|b", "`x`", "``", "<script>", "# h", "a\nb", "{{name}}", "|", " "]
    fields = (
        Field(name="kind", kind="category", column="kind", values=tuple(odd), unit="`|<b>"),
        Field(name="price", kind="float", column="it's `a` | \n {{target}}", roles=(Role.TARGET,), unit="a|b"),
    )
    system = System("houses", Schema("Houses", None, fields), source="data/a|`b`.csv")
    pages = synced_files(system, WHOLE, "0.1.0")
    (row,) = re.findall(r"^\| `kind` .*$", pages["docs/data.md"], re.MULTILINE)
    assert len(re.findall(r"(?<!\\)\|", row)) == 5  # four cells
    assert "<script>" not in re.sub(r"(`+).*?\1", "", row)
    assert "--target SOURCE" in pages["docs/data.md"]


def test_the_notebook_is_one_and_its_code_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    n = 120
    for target, values in (("price", [i * 2.5 for i in range(n)]), ("kind", ["a", "b", "c"] * 40)):
        write_csv(
            tmp_path / f"{target}.csv", {"size": [i * 1.5 for i in range(n)], "place": ["n", "s"] * 60, target: values}
        )
        folder = tmp_path / f"by-{target}"
        start_project(folder, tmp_path / f"{target}.csv", target, begin_git="never", organisation=WHOLE)
        read = nbformat.read(folder / "notebooks" / "explore.ipynb", as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(read)
        monkeypatch.chdir(folder / "notebooks")  # where Jupyter runs it
        space: dict[str, Any] = {"__name__": "__main__"}
        for cell in read.cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, "explore.ipynb", "exec"), space)
        said = capsys.readouterr().out
        assert f"0 of {n} rows break" in said and "There is no" in said
        assert space["found"].rows == n and "<iframe" in space["found"]._repr_html_()
        assert list(space["relations"]["column"])


def test_the_hooks_and_owners_are_what_their_tools_read() -> None:
    files = synced_files(simple(), WHOLE, "0.1.0")
    (repository,) = yaml.safe_load(files[".pre-commit-config.yaml"])["repos"]
    assert repository["repo"] == "local"
    targets = set(re.findall(r"^([a-z]+):", files["Makefile"], re.MULTILINE))
    assert {hook["entry"].split()[-1] for hook in repository["hooks"]} <= targets
    assert files[".github/CODEOWNERS"].splitlines()[-1] == "* ann@example.org"
    nobody = synced_files(simple(), replace(WHOLE, owner="", holder=""), "0.1.0")
    assert all(line.startswith("#") for line in nobody[".github/CODEOWNERS"].splitlines())
    assert (
        "Copyright (c) 2026 The authors of houses"
        in synced_files(simple(), replace(WHOLE, holder="", licence="mit"), "1")["LICENSE"]
    )


def test_pre_commit_takes_the_hooks(tmp_path: Path) -> None:
    (tmp_path / ".pre-commit-config.yaml").write_text(synced_files(simple(), WHOLE, "0.1.0")[".pre-commit-config.yaml"])
    tool("pre_commit", "validate-config", ".pre-commit-config.yaml", cwd=tmp_path)


def test_the_canvas_of_a_new_project_contradicts_nothing(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", {"size": [1.5, 2.5, 4.5] * 20, "price": [n * 1.25 for n in range(60)]})
    draft = draft_project(tmp_path / "houses", tmp_path / "rows.csv", "price", organisation=WHOLE)
    text = own_files(draft.system, WHOLE, "0.1.0", draft.proposal, draft.source, draft.sketch)["canvas.toml"]
    canvas, _ = parse_canvas(text)
    assert canvas is not None
    assert canvas.get("value", "name") == "houses" and canvas.get("data", "sources") == ["data/rows.csv"]
    assert not [fault for fault in find_faults(canvas, draft.system) if fault.kind != "missing"]


def test_expectations_are_of_the_columns_as_they_are(tmp_path: Path) -> None:
    n = 400
    write_csv(
        tmp_path / "rows.csv",
        {
            "code": [i % 3 for i in range(n)], "place": [*["north", "south"] * (n // 2 - 1), "rare", "rare"], "some": ["" if i % 4 == 0 else i * 1.5 for i in range(n)],
            "still": ["x"] * n, "number": range(n), "price": [i * 2.5 for i in range(n)],
        },
    )  # fmt: skip
    draft = draft_project(tmp_path / "houses", tmp_path / "rows.csv", "price", organisation=WHOLE)
    text = own_files(draft.system, WHOLE, "0.1.0", draft.proposal, draft.source, draft.sketch)[
        "tests/data/expectations.toml"
    ]
    found = tomllib.loads(text)
    assert found["rows_at_least"] == 200
    assert sorted(found["fields"]["code"]["values"]) == ["0", "1", "2"]
    assert sorted(found["fields"]["place"]["values"]) == ["north", "south"]
    assert 0.25 < found["fields"]["some"]["missing_share_at_most"] < 0.5
    low, high = found["fields"]["price"]["median_between"]
    assert 0 < low < 500 < high < 1000
    assert "still" not in found["fields"] and set(found["fields"]["number"]) == {"missing_share_at_most"}


def test_a_target_that_many_rows_lack_makes_a_system_that_runs_all_the_same(tmp_path: Path) -> None:
    n = 400
    write_csv(
        tmp_path / "rows.csv",
        {"x": [i * 1.5 for i in range(n)], "y": ["" if i % 5 == 0 else i * 2.5 for i in range(n)]},
    )
    start_project(tmp_path / "some", tmp_path / "rows.csv", "y", begin_git="never", organisation=WHOLE)
    system = load_system(tmp_path / "some" / "system.py")
    assert system.max_bad_share == 0.24
    assert tomllib.loads((tmp_path / "some/tests/data/expectations.toml").read_text())["bad_share_at_most"] == 0.31
    assert run_pipeline(system, Project.open(tmp_path / "some")).status == "done"
    assert set(renew(tmp_path / "some", is_check=True).values()) == {"current"}


def test_of_very_many_columns_the_first_are_expected_something_of(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", {f"c{place}": [n * 1.5 + place for n in range(30)] for place in range(260)})
    draft = draft_project(tmp_path / "wide", tmp_path / "rows.csv", "c259", organisation=WHOLE)
    assert len(draft.sketch.columns) == 200
    files = own_files(draft.system, WHOLE, "0.1.0", draft.proposal, draft.source, draft.sketch)
    assert len(tomllib.loads(files["tests/data/expectations.toml"])["fields"]) == 200
    assert "and 220 more, in `system.py`" in synced_files(draft.system, WHOLE, "0.1.0")["docs/data.md"]


# ------------------------------------------------------------------ what whole numbers are


@pytest.mark.parametrize(
    ("values", "task", "kind"),
    [
        ([0, 1, 2] * 40, None, "category"), ([0, 1, 2] * 40, "regression", "float"), ([0, 1, 2] * 40, "classification", "category"),
        (list(range(120)), None, "float"), (list(range(120)), "classification", "category"), ([-1, 1] * 60, "regression", "float"),
        (["yes", "no"] * 60, "classification", "bool"), (["a", "b"] * 60, "classification", "category"), ([1.5, 2.5] * 60, "regression", "float"),
    ],
)  # fmt: skip
def test_the_task_decides_what_whole_numbers_are(tmp_path: Path, values: list[Any], task: Any, kind: str) -> None:
    write_csv(tmp_path / "rows.csv", {"x": [n * 1.5 for n in range(120)], "y": values})
    proposal = propose(open_source(tmp_path / "rows.csv"), "Rows", "y", task)
    assert proposal.schema.target is not None and proposal.schema.target.kind == kind
    system = System("rows", proposal.schema, source="rows.csv")
    assert task is None or system.task == task
    space: dict[str, Any] = {"__name__": "system"}
    exec(compile(system_file("rows", proposal, "rows.csv"), "system.py", "exec"), space)
    assert replace(space["system"].schema, doc=None) == replace(proposal.schema, doc=None)


@pytest.mark.parametrize(
    ("values", "task", "said"),
    [
        (["a", "b"] * 60, "regression", "is text; a regression needs numbers"),
        (["yes", "no"] * 60, "regression", "is bool; a regression needs numbers"),
        (["007", "008"] * 60, "regression", "is text; a regression needs numbers"),
        ([n * 1.5 for n in range(120)], "classification", "120 different values; a classification needs classes"),
        (["2020-01-01", "2020-01-02"] * 60, "regression", "is a date"),
    ],
)
def test_a_target_that_does_not_fit_the_task_is_refused(
    tmp_path: Path, values: list[Any], task: Any, said: str
) -> None:
    write_csv(tmp_path / "rows.csv", {"x": [n * 1.5 for n in range(120)], "y": values})
    with pytest.raises(DataError, match=said):
        propose(open_source(tmp_path / "rows.csv"), "Rows", "y", task)


# ------------------------------------------------------------------ beginning


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "rows.csv", {"x": [n * 1.5 for n in range(60)], "y": [n * 2.5 for n in range(60)]})
    written = Path.write_text

    def stops(self: Path, *words: Any, **more: Any) -> int:
        if self.name == "Makefile":
            raise KeyboardInterrupt
        return written(self, *words, **more)

    monkeypatch.setattr(Path, "write_text", stops)
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(KeyboardInterrupt):
            start_project(tmp_path / name, tmp_path / "rows.csv", "y", begin_git="never", organisation=WHOLE)
    assert not (tmp_path / "new").exists() and not list((tmp_path / "empty").iterdir())


def test_an_interrupt_as_soon_as_a_folder_is_there_takes_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "rows.csv", {"x": [n * 1.5 for n in range(60)], "y": [n * 2.5 for n in range(60)]})
    made = Path.mkdir

    def stops(self: Path, *words: Any, **more: Any) -> None:
        made(self, *words, **more)
        if self.is_relative_to(tmp_path / "new"):
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", stops)
    with pytest.raises(KeyboardInterrupt):
        start_project(tmp_path / "new", tmp_path / "rows.csv", "y", begin_git="never", organisation=WHOLE)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_fresh_clone_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_csv(tmp_path / "rows.csv", {"x": [n * 1.5 for n in range(60)], "y": [n * 2.5 for n in range(60)]})
    folder = tmp_path / "cloned"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    monkeypatch.chdir(folder)
    made = start_project(Path("."), tmp_path / "rows.csv", "y", organisation=WHOLE)
    assert made.git == "inside another" and json.dumps(made.to_json())
    assert 'pn.System("cloned"' in (folder / "system.py").read_text()
    with pytest.raises(DeclarationError, match="isn't empty"):
        start_project(Path("."), tmp_path / "rows.csv", "y", organisation=WHOLE)


def test_a_sketch_knows_the_proposals_columns() -> None:
    """Expectations of a column that nothing was sketched of are none."""
    fields = (
        Field(name="x", kind="float", column="x"),
        Field(name="y", kind="float", column="y", roles=(Role.TARGET,)),
    )
    system = System("rows", Schema("Rows", None, fields), source="rows.csv")
    text = own_files(system, WHOLE, "1", Proposal(system.schema, 1, {}), "rows.csv", TableSketch([]))[
        "tests/data/expectations.toml"
    ]
    assert tomllib.loads(text) == {"rows_at_least": 1, "bad_share_at_most": 0.01, "fields": {}}
