"""`perron deploy compose|kubernetes|cloud-run`: files alone, or brought about by the tool; here small stand-ins of the tools
record what they are asked, and the service that answers is a real one."""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from perron.minutes import LATENCY_BOUNDS
from perron.serve.http import free_port
from tests.conftest import perron, perron_json
from tests.integration.test_deploy_local import declare, trained  # noqa: F401  # the fixture

LOOK = "docker compose --project-name things-prd ps --all --quiet"
GOOGLE = 'project = "my-project"\nregion = "europe-west4"\nlog_to = ["stdout:"]\n'
# Records its arguments and folder; does what the file beside it says, a line a call: an exit code, or `ok`.
TOOL = """#!/bin/sh
here=$(dirname "$0")
echo "$(basename "$0") $*" >> "$here/calls"
if [ -s "$here/fails" ] && grep -qF "$*" "$here/fails"; then echo "the cluster said no" >&2; exit 7; fi
case "$*" in "get "*|*" ps "*|*"services list"*) if [ -f "$here/answer" ]; then cat "$here/answer"; fi;; esac
"""


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:  # noqa: F811
    return Path(shutil.copytree(trained, tmp_path / "things"))


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with stand-ins of the tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("docker", "kubectl", "gcloud"):
        (folder / name).write_text(TOOL)
        (folder / name).chmod(stat.S_IRWXU)
    (folder / "calls").touch()
    return folder


@pytest.fixture
def answering(project: Path) -> Iterator[str]:
    """The address of a real server of version 1."""
    declare(project, f"port = {free_port()}", f'[real]\ntarget = "local"\nport = {free_port()}')
    found = json.loads(perron("deploy", "local", "1", "--env", "real", "--json", cwd=project).stdout)
    yield found["detail"]["address"]
    declare(
        project,
        f"port = {free_port()}",
        f'[real]\ntarget = "local"\nport = {found["detail"]["address"].rpartition(":")[2]}',
    )
    perron("deploy", "stop", "--env", "real", cwd=project)


def environment(project: Path, target: str, more: str = "", name: str = "prd") -> None:
    (project / "environments.toml").write_text(f'[{name}]\ntarget = "{target}"\nready_s = 1\n{more}')


def run(project: Path, tools: Path, target: str, *words: str, check: bool = True) -> Any:
    path = f"{tools}:{os.environ['PATH']}"
    return perron("deploy", target, "--env", "prd", *words, cwd=project, check=check, PATH=path)


def calls(tools: Path) -> list[str]:
    return (tools / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("target", "more", "file", "command"),
    [
        ("compose", "", "compose.yaml", "docker compose up -d"),
        ("kubernetes", "", "overlays/prd/kustomization.yaml", "kubectl apply -k overlays/prd"),
        ("cloud-run", GOOGLE, "service.yaml", "gcloud run services replace service.yaml --project my-project"),
    ],
)
def test_without_apply_files_are_written_and_the_commands_printed(
    project: Path, tools: Path, target: str, more: str, file: str, command: str
) -> None:
    environment(project, target, more)
    said = run(project, tools, target, "1", "--image", "registry.example/things:1", "-o", "out").stdout
    assert "registry.example/things" in "".join(path.read_text() for path in (project / "out").rglob("*.yaml"))
    assert (project / "out" / file).is_file() and f"    {command}" in said and "Nothing is deployed yet" in said
    assert calls(tools) == [] and perron_json("status", "--history", cwd=project) == []
    (project / "out" / file).write_text("mine")
    assert "changed by hand, left alone" in run(project, tools, target, "1", "-o", "out").stdout


def test_the_cost_is_estimated_first_by_what_is_declared_measured_or_assumed(project: Path, tools: Path) -> None:
    environment(project, "cloud-run", GOOGLE)
    assumed = run(project, tools, "cloud-run", "1").stdout.splitlines()
    assert assumed[0].startswith("An estimate: ") and "USD a month" in assumed[0]
    assert "10,000 requests a day of 20 ms (assumed" in assumed[1] and "list prices" in assumed[1]
    declared = 'requests_per_day = 5000000\nmean_ms = 40\nprices = { cpu_s = 0.5, currency = "EUR" }\n'
    environment(project, "cloud-run", GOOGLE + declared)
    first, second, *_ = run(project, tools, "cloud-run", "1").stdout.splitlines()
    assert (
        "EUR a month" in first
        and "5,000,000 requests a day of 40 ms (declared)" in second
        and "declared prices" in second
    )
    environment(project, "cloud-run", GOOGLE + "prices = { cpu = 1 }\n")
    refused = run(project, tools, "cloud-run", "1", check=False)
    assert refused.returncode == 1 and "prd.prices" in refused.stderr and "cpu_s" in refused.stderr
    usage = {"host": "one", "cores": 2, "cpu_s": 1.0}
    minute = {
        "start": f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}", "seconds": 60.0, "refused": {}, "usage": usage,
        "traffic": [["things", 1, "champion", 700, 0, 700, [700, *[0] * len(LATENCY_BOUNDS)], 3.5]],
    }  # fmt: skip
    (project / ".perron" / "minutes").mkdir()
    (project / ".perron" / "minutes" / f"{minute['start'][:10]}-1-a.jsonl").write_text(json.dumps(minute) + "\n")  # type: ignore[index]
    environment(project, "cloud-run", GOOGLE)
    told = json.loads(run(project, tools, "cloud-run", "1", "--json").stdout)["notes"]
    assert "700 requests a day of 5 ms (as the last day here)" in told[1]


def test_an_environment_may_be_an_inference_service_of_kserve(project: Path, tools: Path) -> None:
    environment(project, "kubernetes", "kserve = true\nreplicas_min = 0\n")
    said = run(project, tools, "kubernetes", "1").stdout
    assert (project / "deploy" / "prd" / "kserve" / "prd" / "inferenceservice.yaml").is_file()
    assert not (project / "deploy" / "prd" / "overlays").exists()
    assert "kubectl apply --filename kserve/prd/namespace.yaml --filename kserve/prd/inferenceservice.yaml" in said
    run(project, tools, "kubernetes", "1", "--apply")
    assert (
        calls(tools)[-1]
        == "kubectl wait --for=condition=Ready inferenceservice/things --namespace things-prd --timeout 1s"
    )
    made = yaml.safe_load((project / "deploy" / "prd" / "kserve" / "prd" / "inferenceservice.yaml").read_text())
    answer = {**made, "status": {"conditions": [{"type": "Ready", "status": "True"}], "url": "http://things"}}
    (tools / "answer").write_text(json.dumps(answer))
    path = f"{tools}:{os.environ['PATH']}"
    (told,) = json.loads(perron("status", "--json", "--env", "prd", cwd=project, check=False, PATH=path).stdout)
    assert told["as_declared"] and told["actual"]["version"] == 1
    assert perron("deploy", "stop", "--env", "prd", cwd=project, PATH=path).stdout == "prd is stopped.\n"
    assert calls(tools)[-1] == "kubectl delete --filename kserve/prd/inferenceservice.yaml --ignore-not-found"


def test_the_canvass_goals_are_among_what_an_environment_demands(project: Path) -> None:
    environment(project, "compose", "approvals = 1\n")
    assert perron("deploy", "environments", cwd=project).stdout.splitlines()[-1].endswith("1 approval")
    (project / "canvas.toml").write_text('[[goals]]\nmetric = "accuracy"\nat_least = 0.9\n')
    (told,) = perron_json("deploy", "environments", cwd=project)
    assert told["demands"] == ["1 approval", "accuracy at least 0.9 (canvas.toml)"]


def test_an_environment_may_be_four_services_of_the_projects_image(project: Path, tools: Path) -> None:
    environment(project, "compose", "four_services = true\n")
    refused = run(project, tools, "compose", "1", check=False)
    assert refused.returncode == 1 and "project_image" in refused.stderr
    environment(project, "compose", 'four_services = true\nproject_image = "registry.example/things-project:1"\n')
    run(project, tools, "compose", "1")
    made = yaml.safe_load((project / "deploy" / "prd" / "compose.yaml").read_text())
    assert {"preprocess", "train", "serve", "web"} <= set(made["services"])
    refused = run(project, tools, "compose", "1", "--profile", "postgres", check=False)
    assert refused.returncode == 1 and "leave --profile and --image out" in refused.stderr
    refused = run(project, tools, "compose", "1", "--apply", check=False)
    assert refused.returncode == 1 and "serve what they train themselves, and not version 1" in refused.stderr
    assert calls(tools) == [] and perron_json("status", "--history", cwd=project) == []


def test_a_service_that_answers_with_the_version_is_live(project: Path, tools: Path, answering: str) -> None:
    environment(project, "compose", f'url = "{answering}"\nmemory_mb = 300\nvariables = {{ LEVEL = "info" }}')
    said = run(project, tools, "compose", "1", "--image", "registry.example/things:1", "--apply").stdout
    assert calls(tools) == [LOOK, "docker compose up -d"] and f"is live in prd at {answering}" in said
    text = (project / "deploy" / "prd" / "compose.yaml").read_text()
    assert "registry.example/things:1" in text and "LEVEL" in text and "PERRON_DEPLOYMENT" in text
    (found,) = (
        one
        for one in json.loads(perron("status", "--json", cwd=project, check=False).stdout)
        if one["environment"] == "prd"
    )
    assert found["as_declared"] and found["actual"]["version"] == 1
    assert found["declared"]["image"] == "registry.example/things:1"


def test_another_version_that_answers_is_undone_and_what_was_there_comes_back(
    project: Path, tools: Path, answering: str
) -> None:
    environment(project, "compose", f'url = "{answering}"')
    run(project, tools, "compose", "1", "--apply")
    before = (project / "deploy" / "prd" / "compose.yaml").read_text()
    refused = run(project, tools, "compose", "2", "--apply", check=False)
    assert refused.returncode == 1 and f"{answering} version 1 answers yet" in refused.stderr
    assert calls(tools)[1:] == ["docker compose up -d"] * 3  # and the last with the files of before
    assert (project / "deploy" / "prd" / "compose.yaml").read_text() == before
    rows = perron_json("status", "--history", "--env", "prd", cwd=project)
    assert [(row["version"], row["state"]) for row in rows] == [(2, "failed"), (1, "live")]


def test_a_first_deployment_that_fails_leaves_nothing(project: Path, tools: Path) -> None:
    environment(project, "compose", f'url = "http://127.0.0.1:{free_port()}"')
    refused = run(project, tools, "compose", "1", "--apply", check=False)
    assert (
        refused.returncode == 1
        and "wasn't ready within 1 s" in refused.stderr
        and "Connection refused" in refused.stderr
    )
    assert calls(tools) == [LOOK, "docker compose up -d", "docker compose down"]
    assert list((project / "deploy" / "prd").rglob("*.yaml")) == []


def test_kubernetes_is_rolled_out_and_waited_for(project: Path, tools: Path) -> None:
    environment(project, "kubernetes")
    run(project, tools, "kubernetes", "1", "--apply")
    assert calls(tools)[1:] == [
        "kubectl apply -k overlays/prd",
        "kubectl rollout status deployment/things --namespace things-prd --timeout 1s",
    ]
    path = f"{tools}:{os.environ['PATH']}"
    bundle = perron_json("status", "--history", cwd=project)[0]["bundle"]
    for is_available, code in (("True", 0), ("False", 1)):
        notes = {"perron/version": "1", "perron/bundle": f"sha256:{bundle}"}
        conditions = [{"type": "Available", "status": is_available}]
        told = {"spec": {"template": {"metadata": {"annotations": notes}}}, "status": {"conditions": conditions}}
        (tools / "answer").write_text(json.dumps(told))
        assert perron("status", "--env", "prd", cwd=project, check=False, PATH=path).returncode == code
    assert calls(tools)[-1] == "kubectl get deployment things --namespace things-prd --output json"
    (tools / "fails").write_text("rollout status")
    (tools / "kubectl").write_text(TOOL.replace('"$*" "$here/fails"', '"$1 $2" "$here/fails"'))
    refused = run(project, tools, "kubernetes", "2", "--apply", check=False)
    assert refused.returncode == 1 and "ended with 7: the cluster said no" in refused.stderr
    assert "can't be brought back, either" in refused.stderr  # the stand-in says no to that, too
    (tools / "git").symlink_to(shutil.which("git") or "")
    (tools / "kubectl").rename(tools / "kubectl.away")
    status = perron("status", "--env", "prd", cwd=project, check=False, PATH=str(tools))
    (tools / "kubectl.away").rename(tools / "kubectl")
    assert status.returncode == 1 and "give prd.url in environments.toml" in status.stdout
    (tools / "fails").write_text("")
    perron("deploy", "stop", "--env", "prd", cwd=project, PATH=f"{tools}:{os.environ['PATH']}")
    ended = calls(tools)[-1]  # the namespace, claims and secrets stay
    assert ended.startswith("kubectl delete deployment,cronjob,service,") and "--namespace things-prd" in ended
    assert "namespace," not in ended and "persistentvolumeclaim" not in ended and " -k " not in ended


def test_a_rollback_applies_the_version_before(project: Path, tools: Path) -> None:
    environment(project, "cloud-run", GOOGLE)
    for version in ("1", "2"):
        run(project, tools, "cloud-run", version, "--image", f"registry.example/things:{version}", "--apply")
    perron("rollback", "--env", "prd", cwd=project, PATH=f"{tools}:{os.environ['PATH']}")
    assert "registry.example/things:1" in (project / "deploy" / "prd" / "service.yaml").read_text()
    assert (
        calls(tools)[-1]
        == "gcloud run services replace service.yaml --project my-project --region europe-west4 --quiet"
    )
    assert len(calls(tools)) == 4  # one to look what is there, and one for each of the three


@pytest.mark.parametrize("is_live", [False, True], ids=["fresh clone", "another folder"])
@pytest.mark.parametrize(
    ("target", "more", "fails", "back", "words"),
    [
        ("kubernetes", "", "rollout status deployment/things --namespace things-prd --timeout 1s",
         ["kubectl rollout undo deployment/things --namespace things-prd --to-revision=7"], "taken back to revision 7"),
        ("kubernetes", "kserve = true\n", "wait --for=condition=Ready inferenceservice/things --namespace things-prd --timeout 1s",
         [], "what runs now was left as it is"),
        ("cloud-run", GOOGLE, "run services replace service.yaml --project my-project --region europe-west4 --quiet",
         [], "the revision before"),
    ],
)  # fmt: skip
def test_what_others_brought_about_is_never_ended_by_a_deployment_that_fails(
    project: Path, tools: Path, target: str, more: str, fails: str, back: list[str], words: str, is_live: bool
) -> None:
    environment(project, target, more)
    if is_live:
        run(project, tools, target, "1", "--apply")
    (tools / "answer").write_text(
        json.dumps({"metadata": {"annotations": {"deployment.kubernetes.io/revision": "7"}}})
        if target == "kubernetes"
        else "things-prd\n"
    )
    (tools / "fails").write_text(fails + "\n")
    before = len(calls(tools))
    refused = run(project, tools, target, "2", "--apply", "-o", "elsewhere", check=False)
    assert refused.returncode == 1 and "the cluster said no" in refused.stderr and words in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    did = calls(tools)[before:]
    assert did[-len(back) :] == back if back else did[-1].endswith(fails)
    assert not [one for one in did if "delete" in one or one.endswith("down")]


def test_containers_of_another_checkout_are_never_ended_by_a_deployment_that_fails(project: Path, tools: Path) -> None:
    environment(project, "compose")
    (tools / "answer").write_text("5f2c\n")
    (tools / "fails").write_text("compose up -d\n")
    refused = run(project, tools, "compose", "1", "--apply", check=False)
    assert refused.returncode == 1 and "what runs now was left as it is" in refused.stderr
    assert calls(tools) == [LOOK, "docker compose up -d"]


def test_a_tool_that_cannot_tell_what_is_there_ends_nothing(project: Path, tools: Path) -> None:
    environment(project, "compose")
    (tools / "fails").write_text(f"{LOOK.removeprefix('docker ')}\ncompose up -d\n")
    refused = run(project, tools, "compose", "1", "--apply", check=False)
    assert refused.returncode == 1 and "or may have been" in refused.stderr
    assert calls(tools) == [LOOK, "docker compose up -d"]


def test_files_that_were_written_and_never_applied_are_not_what_was_there(
    project: Path, tools: Path, answering: str
) -> None:
    environment(project, "compose", f'url = "{answering}"')
    run(project, tools, "compose", "1", "--apply")
    run(project, tools, "compose", "2")
    (tools / "fails").write_text("compose up -d\n")
    refused = run(project, tools, "compose", "2", "--apply", check=False)
    assert refused.returncode == 1 and "what runs now was left as it is" in refused.stderr
    assert calls(tools)[2:] == [LOOK, "docker compose up -d"]


def test_going_back_and_on_keeps_the_folder_and_the_parts(project: Path, tools: Path, answering: str) -> None:
    (project / "environments.toml").write_text(
        f'[prd]\ntarget = "compose"\nready_s = 1\nurl = "{answering}"\n'
        f'[real]\ntarget = "local"\nport = {answering.rpartition(":")[2]}\n'
    )
    path = f"{tools}:{os.environ['PATH']}"
    run(project, tools, "compose", "1", "--apply", "-o", "out", "--profile", "postgres", "--profile", "monitoring")
    first = yaml.safe_load((project / "out" / "compose.yaml").read_text())["services"]
    assert {"postgres", "prometheus"} <= set(first)
    detail = perron_json("status", "--history", "--env", "prd", cwd=project)[0]["detail"]
    assert (detail["folder"], detail["profiles"]) == ("out", ["postgres", "monitoring"])
    assert "is live in prd again" in perron("deploy", "resume", "--env", "prd", cwd=project, PATH=path).stdout
    assert set(yaml.safe_load((project / "out" / "compose.yaml").read_text())["services"]) == set(first)
    perron("deploy", "local", "2", "--env", "real", cwd=project)
    run(project, tools, "compose", "2", "--apply", "-o", "out")
    assert "postgres" not in (project / "out" / "compose.yaml").read_text()
    perron("deploy", "local", "1", "--env", "real", cwd=project)
    perron("rollback", "--env", "prd", cwd=project, PATH=path)
    assert set(yaml.safe_load((project / "out" / "compose.yaml").read_text())["services"]) == set(first)
    assert not (project / "deploy").exists() and not any("orphans" in call for call in calls(tools))


def test_the_stage_of_an_environment_deploys_to_it(project: Path, tools: Path) -> None:
    environment(project, "kubernetes")
    (project / ".gitignore").write_text(".perron\n__pycache__\n")
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all")):
        subprocess.run(["git", "-C", project, *words], check=True)
    perron("ci", "run", "prd", cwd=project, PATH=f"{tools}:{os.environ['PATH']}")
    assert "kubectl apply -k overlays/prd" in calls(tools)
    assert perron_json("status", "--history", cwd=project)[0]["state"] == "live"


def test_a_tool_that_is_missing_is_told_before_anything_is_done(project: Path, tmp_path: Path) -> None:
    environment(project, "kubernetes")
    (tmp_path / "git").symlink_to(shutil.which("git") or "")
    refused = perron(
        "deploy", "kubernetes", "1", "--env", "prd", "--apply", cwd=project, check=False, PATH=str(tmp_path)
    )
    assert refused.returncode == 1 and "kubectl isn't on the PATH" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1 and not (project / "deploy").exists()


def test_a_file_that_a_person_changed_is_not_applied(project: Path, tools: Path) -> None:
    environment(project, "compose")
    run(project, tools, "compose", "1")
    (project / "deploy" / "prd" / "compose.yaml").write_text("mine")
    refused = run(project, tools, "compose", "2", "--apply", check=False)
    assert (
        refused.returncode == 1 and "compose.yaml was changed by hand" in refused.stderr and "--force" in refused.stderr
    )
    assert calls(tools) == [] and (project / "deploy" / "prd" / "compose.yaml").read_text() == "mine"


def test_an_environment_that_another_target_is_live_in_is_stopped_first(project: Path, tools: Path) -> None:
    environment(project, "cloud-run", GOOGLE)
    run(project, tools, "cloud-run", "1", "--apply")
    environment(project, "kubernetes")
    refused = run(project, tools, "kubernetes", "1", "--apply", check=False)
    assert refused.returncode == 1 and "prd has the target cloud-run now" in refused.stderr
    assert "perron deploy stop --env prd" in refused.stderr


def test_an_environment_of_another_target_is_told(project: Path, tools: Path) -> None:
    environment(project, "compose")
    refused = run(project, tools, "kubernetes", "1", check=False)
    assert refused.returncode == 1 and "prd is declared for the target compose" in refused.stderr
    environment(project, "cloud-run", 'region = "europe-west4"')
    refused = run(project, tools, "cloud-run", "1", check=False)
    assert refused.returncode == 1 and "prd.project in environments.toml" in refused.stderr
    (project / "environments.toml").write_text("[prd]\ncpu = 1\n")
    refused = run(project, tools, "local", "1", check=False)
    assert (
        refused.returncode == 1 and "prd.cpu in environments.toml means nothing to the target local" in refused.stderr
    )
