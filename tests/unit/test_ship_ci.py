"""GitHub's workflows as text: what is granted, pinned and asked, and what follows from branching and environments."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from perron.environments import parse_environments, read_environments
from perron.ship.ci import ACTIONS, ci_files
from perron.stages import CiSettings, stages_of

WHOLE = [
    "system.py",
    "canvas.toml",
    *(f"tests/{name}/test_it.py" for name in ("unit", "data", "integration", "system", "acceptance")),
]
CLOUD = """
format = 1
[dev]
target = "local"
[acc]
target = "kubernetes"
after = "dev"
image = "ghcr.io/acme/things"
[prd]
target = "cloud-run"
after = "acc"
image = "registry.example.org/things"
approvals = 2
"""


def made(settings: CiSettings | None = None, environments: str = "", paths: list[str] | None = None) -> dict[str, str]:
    found = parse_environments(environments)[0] if environments else read_environments(Path("nowhere"))
    assert found is not None
    stages = stages_of(WHOLE if paths is None else paths, found.values())
    return ci_files(stages, settings or CiSettings(), found, install=("make setup",), perron=".venv/bin/perron")


VARIANTS = {
    "git-flow": made(),
    "trunk": made(CiSettings(branching="trunk", python=("3.12", "3.13"), retrain="")),
    "cloud": made(environments=CLOUD),
    "bare": made(paths=["system.py"]),
    "watched": made(CiSettings(service_runner="ours", service_folder='/srv/it\'s "here" # now')),
}


def workflows(files: dict[str, str]) -> dict[str, Any]:
    return {Path(path).stem: yaml.safe_load(text) for path, text in files.items() if "workflows" in path}


def jobs(files: dict[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, workflow in workflows(files).items():
        for key, job in workflow["jobs"].items():
            yield f"{name}.{key}", job


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_granted_but_what_a_job_says_and_every_job_ends(variant: str) -> None:
    writes = {"train.comment": "pull-requests", "monitor.retrain": "actions", "release.image": "packages"}
    for workflow in workflows(VARIANTS[variant]).values():
        assert workflow["permissions"] == {} and workflow["concurrency"]["group"]
    for name, job in jobs(VARIANTS[variant]):
        assert 0 < job["timeout-minutes"] <= 180, name
        granted = {scope for scope, level in job["permissions"].items() if level == "write"}
        assert granted <= {writes.get(name)}, name
        assert set(job["permissions"].values()) <= {"read", "write"}, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_actions_are_those_that_are_known_each_by_its_commit_and_version(variant: str) -> None:
    for path, text in VARIANTS[variant].items():
        uses = re.findall(r"uses: (.+)", text)
        assert uses or "workflows" not in path
        for used in uses:
            action, commit, version = re.fullmatch(r"([\w/-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", used).groups()  # type: ignore[union-attr]
            assert ACTIONS[action] == (commit, version)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_text_of_others_is_put_into_a_script_and_foreign_code_never_meets_a_right(variant: str) -> None:
    for name, workflow in workflows(VARIANTS[variant]).items():
        triggers = workflow[True]  # YAML 1.1 takes `on` for a truth value
        assert not {"pull_request_target", "workflow_run", "issue_comment"}.intersection(triggers), name
    for name, job in jobs(VARIANTS[variant]):
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), name
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
        if name == "train.comment":
            assert not any(
                "checkout" in step.get("uses", "") or "perron ci" in str(step.get("run", "").splitlines()[1:2])
                for step in job["steps"]
            )


def test_each_stage_is_asked_for_by_its_name() -> None:
    text = "".join(VARIANTS["git-flow"].values())
    for name in (
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
    ):
        assert f".venv/bin/perron ci run {name}\n" in text
    assert "@" + "perron@" not in text and "@install@" not in text


def test_jobs_need_only_jobs_that_are_there_in_the_stages_order() -> None:
    for files in VARIANTS.values():
        for workflow in workflows(files).values():
            before: set[str] = set()
            for key, job in workflow["jobs"].items():
                assert set(job.get("needs", ())) <= before
                before.add(key)
    release = workflows(VARIANTS["git-flow"])["release"]["jobs"]
    assert release["train"]["needs"] == ["lint", "types", "unit", "data", "integration"]
    assert [release[name]["needs"] for name in ("image", "dev", "tst", "acc", "prd")] == [
        ["train"], ["image"], ["dev"], ["tst"], ["acc"],
    ]  # fmt: skip


def test_what_is_kept_as_the_champion_passed_its_tests_in_the_job_that_has_the_rows() -> None:
    for variant, expected in (("git-flow", ["System tests", "Acceptance tests"]), ("bare", [])):
        steps = names(workflows(VARIANTS[variant])["release"]["jobs"]["train"])
        assert steps[steps.index("Compare with the champion") + 1 :] == [*expected, "Pack the model", "Keep it"]
    steps = names(workflows(VARIANTS["git-flow"])["train"]["jobs"]["train"])
    assert steps[-3:] == ["System tests", "Acceptance tests", "Hand the comparison over"]
    assert "perron-champion" not in str(workflows(VARIANTS["git-flow"])["train"]["jobs"]["train"]["steps"][-3:])


def test_branches_follow_from_the_branching() -> None:
    flow, trunk = (workflows(VARIANTS[name])["release"] for name in ("git-flow", "trunk"))
    assert flow[True]["push"]["branches"] == ["develop", "main"] and trunk[True]["push"]["branches"] == ["main"]
    assert ["if" in flow["jobs"][name] for name in ("dev", "tst", "acc", "prd")] == [False, False, True, True]
    turned = 'prd = { target = "local", after = "dev", port = 1 }\ndev = { target = "local" }'
    jobs_there = workflows(made(environments=turned))["release"]["jobs"]
    assert ["if" in jobs_there[name] for name in ("dev", "prd")] == [False, True]
    assert list(jobs_there)[-2:] == ["dev", "prd"]
    assert not any("if" in trunk["jobs"][name] for name in ("dev", "tst", "acc", "prd"))
    assert "target-branch" not in VARIANTS["trunk"][".github/dependabot.yml"]
    assert 'target-branch: "develop"' in VARIANTS["git-flow"][".github/dependabot.yml"]


def test_units_run_on_every_python_that_is_named() -> None:
    unit = workflows(VARIANTS["trunk"])["ci"]["jobs"]["unit"]
    assert unit["strategy"]["matrix"]["python"] == ["3.12", "3.13"]
    assert unit["steps"][1]["with"]["python-version"] == "${{ matrix.python }}"


def names(job: dict[str, Any]) -> list[str]:
    return [step["name"] for step in job["steps"]]


def test_an_environment_that_asks_for_approval_demands_it_of_github_and_brings_it_into_the_ledger() -> None:
    release = workflows(VARIANTS["cloud"])["release"]["jobs"]
    assert "Demand that a person was asked" in names(release["prd"])
    assert names(release["prd"]).index("Bring who approved into the ledger") < names(release["prd"]).index(
        "Deploy to prd"
    )
    assert not any("approved" in name for name in names(release["acc"]))
    assert release["prd"]["environment"] == "prd" and release["prd"]["permissions"]["actions"] == "read"


def test_each_environment_goes_on_from_the_ledger_of_the_one_before() -> None:
    release = workflows(VARIANTS["cloud"])["release"]["jobs"]
    takes = {
        name: next(
            step["with"]["name"] for step in release[name]["steps"] if "download-artifact" in step.get("uses", "")
        )
        for name in ("dev", "acc", "prd")
    }
    assert takes == {"dev": "perron-champion", "acc": "perron-deployed-dev", "prd": "perron-deployed-acc"}


def test_the_image_is_pushed_where_an_environment_runs_it_and_else_only_built() -> None:
    cloud, local = (workflows(VARIANTS[name])["release"]["jobs"]["image"] for name in ("cloud", "git-flow"))
    assert "Push it" in names(cloud) and "Push it" not in names(local) and "Build it" in names(local)
    assert 'PLACES: "' in VARIANTS["cloud"][".github/workflows/release.yml"]
    assert cloud["steps"][-1]["env"]["PLACES"] == "ghcr.io/acme/things registry.example.org/things"
    assert "packages" not in local["permissions"]


def test_traffic_is_looked_at_where_a_runner_is_named() -> None:
    watched, plain = (workflows(VARIANTS[name])["monitor"] for name in ("watched", "git-flow"))
    assert watched["jobs"]["traffic"]["runs-on"] == ["self-hosted", "ours"] and "traffic" not in plain["jobs"]
    (look,) = [step for step in watched["jobs"]["traffic"]["steps"] if "env" in step]
    assert look["env"]["PROJECT"] == '/srv/it\'s "here" # now'
    assert "needs.traffic.outputs.found == 'high'" in watched["jobs"]["retrain"]["if"]
    assert [one["cron"] for one in plain[True]["schedule"]] == ["17 3 * * *", "41 4 * * 1"]
    unscheduled = workflows(VARIANTS["trunk"])["monitor"]
    assert [one["cron"] for one in unscheduled[True]["schedule"]] == ["17 3 * * *"]
    assert "schedule" not in unscheduled["jobs"]["retrain"]["if"]
