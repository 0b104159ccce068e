"""The stages of a project's CI: which there are, which are chosen, and what running them comes to."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import need

from perron.environments import read_environments
from perron.errors import DeclarationError, MissingPackage, NotFound
from perron.stages import (
    CiSettings,
    Stage,
    Stages,
    choose_stages,
    demand_clean,
    demand_repository,
    demand_tools,
    find_stages,
    install_commands,
    read_ci_settings,
    run_stages,
    stages_of,
)

TESTS = [f"tests/{name}/test_it.py" for name in ("unit", "data", "integration", "system", "acceptance")]
ALL = (
    "lint",
    "types",
    "unit",
    "data",
    "integration",
    "train",
    "system",
    "acceptance",
    "image",
    "dev",
    "tst",
    "acc",
    "prd",
)


def command(stages: Stages, name: str) -> list[str]:
    return [" ".join(words) for stage in stages.found if stage.name == name for words in stage.commands]


def of(paths: list[str], folder: Path, pyproject: str = "") -> Stages:
    return stages_of(["system.py", *paths], read_environments(folder).values(), pyproject)


def test_a_whole_project_has_every_stage_in_order_and_what_each_needs_is_among_them(tmp_path: Path) -> None:
    found = of([*TESTS, "canvas.toml"], tmp_path)
    assert found.names == ALL and not found.left_out
    before: set[str] = set()
    for stage in found.found:
        assert stage.purpose and stage.commands and set(stage.needs) <= before, stage
        before.add(stage.name)
    assert command(found, "acceptance") == [
        "perron canvas check --allow-missing", "pytest --perron tests/acceptance",
    ]  # fmt: skip
    assert command(found, "prd") == ["perron deploy local --env prd"]


def test_what_a_project_has_nothing_for_is_left_out_and_said(tmp_path: Path) -> None:
    found = of([], tmp_path)
    assert found.names == ("lint", "types", "data", "train", "image", "dev", "tst", "acc", "prd")
    assert found.left_out == {
        name: f"there is no test in tests/{name}/" for name in ("unit", "integration", "system", "acceptance")
    }
    assert "unit" in of(["tests/unit/deep/test_it.py"], tmp_path) and "unit" not in of(["tests/unit/rows.py"], tmp_path)


def test_tools_look_at_the_projects_own_code_and_by_its_own_settings(tmp_path: Path) -> None:
    plain = of(["prices/rooms.py", "data/load.py", "tests/unit/test_it.py"], tmp_path)
    assert command(plain, "types") == ["mypy prices system.py"]
    assert command(plain, "lint")[-1] == "pylint --disable=C,R prices system.py"
    own = of(TESTS, tmp_path, '[tool.mypy]\nfiles = ["."]\n[tool.pylint.main]\njobs = 1\n')
    assert command(own, "types") == ["mypy"] and command(own, "lint")[-1] == "pylint system.py tests"
    held = of([".github/workflows/release.yml"], tmp_path)
    assert command(held, "lint")[-1] == "perron ci github --check"


def test_a_folders_own_files_decide_and_environments_of_packages_dont(tmp_path: Path) -> None:
    for name in (
        "system.py",
        "tests/unit/test_it.py",
        "env/pyvenv.cfg",
        "env/lib/odd.py",
        ".venv/x.py",
        ".github/workflows/release.yml",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    found = find_stages(tmp_path)
    assert command(found, "types") == ["mypy system.py"] and "unit" in found
    assert "perron ci github --check" in command(found, "lint")


def test_environments_are_stages_by_their_targets_and_order(tmp_path: Path) -> None:
    (tmp_path / "environments.toml").write_text(
        'format = 1\n[here]\ntarget = "local"\n[there]\ntarget = "kubernetes"\nimage = "ghcr.io/a/b"\nafter = "here"\n'
    )
    found = of([], tmp_path)
    assert found.names[-2:] == ("here", "there")
    assert command(found, "there") == ["perron deploy kubernetes --env there --apply"]
    assert [stage.needs for stage in found.found[-2:]] == [("image",), ("here",)]


def test_environments_that_are_declared_in_another_order_run_in_that_of_what_they_come_after(tmp_path: Path) -> None:
    (tmp_path / "environments.toml").write_text(
        '[prd]\ntarget = "local"\nafter = "dev"\nport = 1\n[dev]\ntarget = "local"\n'
    )
    assert of([], tmp_path).names[-2:] == ("dev", "prd")


def test_an_environment_that_is_called_as_a_stage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "environments.toml").write_text('format = 1\n[train]\ntarget = "local"\n')
    with pytest.raises(DeclarationError, match="train is also a stage of every project"):
        of([], tmp_path)


def test_deployments_run_only_by_name_and_in_the_stages_order(tmp_path: Path) -> None:
    found = of(TESTS, tmp_path)
    assert [stage.name for stage in choose_stages(found, ())] == list(ALL[:-4])
    assert [stage.name for stage in choose_stages(found, ("prd", "lint"))] == ["lint", "prd"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("acceptence", "There is no stage 'acceptence'; did you mean 'acceptance'?"),
        ("prod", "There is no stage 'prod'; did you mean 'prd'?"),
        ("zzz", "There is no stage 'zzz'; known: acc, "),
        ("unit", "The stage unit has nothing to run: there is no test in tests/unit/."),
    ],
)
def test_a_stage_that_isnt_there_is_named_with_the_nearest_or_the_reason(
    tmp_path: Path, name: str, expected: str
) -> None:
    with pytest.raises(NotFound) as raised:
        choose_stages(of(["tests/acceptance/test_it.py"], tmp_path), ("lint", name))
    assert str(raised.value).startswith(expected)


def test_tools_that_are_missing_are_named_together_before_anything_runs() -> None:
    stages = (
        Stage("lint", "", "", (("ruff",), ("no-such-linter",))),
        Stage("unit", "", "", (("no-such-runner",), ("perron",), ("no-such-linter",))),
    )
    demand_tools((Stage("lint", "", "", (("ruff",), ("perron", "run"))),))
    with pytest.raises(MissingPackage) as raised:
        demand_tools(stages)
    assert str(raised.value) == (
        "no-such-linter (stage lint) and no-such-runner (stage unit) are not installed: "
        "pip install no-such-linter no-such-runner; nothing was run."
    )


# ------------------------------------------------------------------ running


def stage(name: str, code: int = 0, needs: tuple[str, ...] = (), words: str = "") -> Stage:
    write = f"import sys; print({words!r}); open('ran', 'a').write({name!r} + ' '); sys.exit({code})"
    return Stage(name, name, name, ((sys.executable, "-c", write),), needs)


def test_stages_run_in_order_and_the_first_that_fails_ends_it(tmp_path: Path) -> None:
    told: list[str] = []
    outcomes = run_stages(
        [stage("a"), stage("b", 3), stage("c")], tmp_path, tell=lambda one, words: told.append(one.name)
    )
    assert [(one.stage, one.status, one.code) for one in outcomes] == [
        ("a", "passed", None), ("b", "failed", 3), ("c", "not run", None),
    ]  # fmt: skip
    assert (tmp_path / "ran").read_text() == "a b " and told == ["a", "b"]
    assert outcomes[0].seconds > 0 and "sys.exit(3)" in (outcomes[1].command or "")


def test_keeping_going_runs_all_but_what_needs_a_stage_that_failed(tmp_path: Path) -> None:
    stages = [stage("a", 1), stage("b"), stage("c", needs=("a",)), stage("d", needs=("c",)), stage("e", needs=("b",))]
    outcomes = run_stages(stages, tmp_path, keep_going=True)
    assert [one.status for one in outcomes] == ["failed", "passed", "not run", "not run", "passed"]


def test_a_stages_later_commands_dont_run_after_one_that_failed(tmp_path: Path) -> None:
    both = Stage("a", "a", "a", (*stage("x", 1).commands, *stage("y").commands))
    run_stages([both], tmp_path)
    assert (tmp_path / "ran").read_text() == "x "


def test_output_goes_where_it_is_wanted(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        run_stages([stage("a", words="hello")], tmp_path, output=log)
    assert (tmp_path / "log").read_text() == "hello\n"


# ------------------------------------------------------------------ settings


def write(folder: Path, text: str) -> Path:
    (folder / "pyproject.toml").write_text(text)
    return folder


def test_settings_are_the_projects_or_the_defaults(tmp_path: Path) -> None:
    assert read_ci_settings(tmp_path) == CiSettings()
    write(
        tmp_path,
        '[tool.perron.project]\nbranching = "trunk"\n[tool.perron.ci]\npython = ["3.12", "3.13"]\nretrain = ""\n',
    )
    assert read_ci_settings(tmp_path) == CiSettings(branching="trunk", python=("3.12", "3.13"), retrain="")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("pyton = ['3.12']", "has no key 'pyton'; did you mean 'python'?"),
        ("python = []", "python is ()"),
        ("python = [3.12]", "python is (3.12,)"),
        ("python = ['3.12', '3.12']", "each once"),
        ("runner = 'a b'", "runner is 'a b'"),
        ("monitor = 'daily'", "give five fields of cron"),
        ("monitor = ''", "give five fields"),
        ("monitor = '99 99 99 99 99'", "its minute is '99'"),
        ("retrain = '0 3 * * 7'", "its day of the week is '7'"),
        ("retrain = 3", "give a text"),
        ("retrain = 3", "retrain is 3"),
        ("keep_days = 0", "give a number from 1 to 400"),
        ("keep_days = true", "keep_days is True"),
        ("service_runner = 'ours'", "service_folder is ''"),
        ("service_runner = 'ours'\nservice_folder = 'srv'", "give the whole path"),
        ("service_runner = '${{ x }}'", "give the label of a runner"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_their_key(tmp_path: Path, line: str, expected: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        read_ci_settings(write(tmp_path, f"[tool.perron.ci]\n{line}\n"))
    assert expected in str(raised.value) and "pyproject.toml: [tool.perron.ci]" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[tool", "isn't TOML"),
        ("tool = 3", "is no table"),
        ("[tool.perron]\nci = 3", "is no table"),
        ("[tool.perron.project]\nbranching = 'trunks'", "did you mean 'trunk'?"),
    ],
)
def test_a_pyproject_that_cant_be_read_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DeclarationError, match=expected.replace("?", r"\?")):
        read_ci_settings(write(tmp_path, text))


def test_a_machine_is_set_up_by_the_makefile_or_by_what_pyproject_names(tmp_path: Path) -> None:
    assert install_commands(tmp_path)[0][1] == "python -m pip install perron mypy pylint pytest ruff"
    write(tmp_path, '[project]\ndependencies = ["perron>=0.1", "polars"]\n[dependency-groups]\ndev = ["ruff"]\n')
    assert install_commands(tmp_path)[0][1] == "python -m pip install --group dev 'perron>=0.1' polars"
    (tmp_path / "Makefile").write_text(".PHONY: setup\nsetup: .venv\n")
    assert install_commands(tmp_path) == (("make setup",), ".venv/bin/perron")


# ------------------------------------------------------------------ git


def git(folder: Path, *words: str) -> None:
    need("git")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


DEPLOYS = (Stage("prd", "", "", (("perron", "deploy"),), environment="prd"),)


def test_without_a_repository_stages_run_and_deployments_dont(tmp_path: Path) -> None:
    note = demand_clean((stage("a"),), tmp_path)
    assert note is not None and "no git repository" in note
    with pytest.raises(DeclarationError, match=r"nothing says what prd would get: `git init -b main` and commit"):
        demand_clean(DEPLOYS, tmp_path)
    with pytest.raises(DeclarationError, match=r"isn't in a git repository.*nothing was written"):
        demand_repository(tmp_path)


def test_without_git_itself_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no git repository" in (demand_clean((stage("a"),), tmp_path) or "")
    with pytest.raises(DeclarationError, match="git isn't installed"):
        demand_repository(tmp_path)


def test_uncommitted_changes_are_told_and_keep_deployments_back(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("")
    assert demand_clean((stage("a"),), tmp_path) == (
        "1 file has changes that aren't committed: what runs here isn't what CI runs."
    )
    with pytest.raises(DeclarationError, match="1 file has changes that aren't committed, and prd gets only what is"):
        demand_clean(DEPLOYS, tmp_path)
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "a")
    assert demand_clean(DEPLOYS, tmp_path) is None


def test_a_project_within_another_repository_gets_no_workflows(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    demand_repository(tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    with pytest.raises(DeclarationError, match="GitHub reads the workflows of its root only"):
        demand_repository(inner)
