"""The stages, settings and environments of a project's CI in; GitHub's workflows, as text, out.

    ci.yml       on a pull request: lint, types, unit, data, integration
    train.yml    on a pull request: train, system, acceptance, and the comparison with the champion as a comment
    release.yml  on a branch that is released: all of that, the image, and the environments one after the other
    monitor.yml  nightly: the data and the traffic; on its schedule, or where something is found, asks for a retraining

Each job runs `perron ci run STAGE`: what a stage does is said once, in `perron.stages`. Nothing is granted at the top, each
job is granted what it needs; only actions of GitHub's own are used, each by the commit of a release; text that others
write (branches, titles) reaches scripts by the environment alone. A pull request's code never runs with a right to write:
the comment is made by a job that holds none of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import dedent, indent

from perron.environments import Environment, in_order, is_late
from perron.stages import CiSettings, Stage, Stages

__all__ = ["ACTIONS", "ci_files"]

HEAD = "# Written by `perron ci github` from system.py and pyproject.toml; `perron ci github --check` says when it is stale.\n"
# The commits of releases, and their names; Dependabot brings newer ones.
ACTIONS = {
    "actions/checkout": ("de0fac2e4500dabe0009e67214ff5f5447ce83dd", "v6.0.2"),
    "actions/setup-python": ("a309ff8b426b58ec0e2a45f0f869d46889d02405", "v6.2.0"),
    "actions/upload-artifact": ("bbbca2ddaa5d8feaa63e36b76fdaad77386f024f", "v7.0.0"),
    "actions/download-artifact": ("3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "v8.0.1"),
}
CHECKS = ("lint", "types", "unit", "data", "integration")  # what needs no trained model
AFTER = ("system", "acceptance")  # what needs one
MINUTES = {"train": 180, "image": 45, "integration": 45}
PERRON, INSTALL = "@perron@", "run: @install@"  # in scripts, for what `perron` and `install` say there
MARK = "<!-- perron ci report -->"
TEMP = "${{ runner.temp }}"  # out of the checkout, which must stay as it was committed
KEPT = f"{TEMP}/kept"
CHAMPION, REPORT = "perron-champion", "perron-report"


@dataclass(frozen=True)
class _Job:
    """A job: its key in the workflow, and the lines below it."""

    key: str
    lines: str

    def __str__(self) -> str:
        return f"  {self.key}:\n{indent(self.lines.strip(chr(10)), '    ')}\n"


def ci_files(
    stages: Stages,
    settings: CiSettings,
    environments: Mapping[str, Environment],
    *,
    install: Sequence[str],
    perron: str = "perron",
) -> dict[str, str]:
    """The workflows and Dependabot's settings, by path from the repository's root.

    Args:
        stages: of the project.
        settings: of its CI.
        environments: that it is deployed to, by name, in order.
        install: the shell's lines that install Perron, the project's packages and the stages' tools.
        perron: how it is called after that: a path, where it isn't on the PATH.
    """
    files = {
        ".github/workflows/ci.yml": _ci(stages, settings),
        ".github/workflows/train.yml": _train(stages, settings),
        ".github/workflows/release.yml": _release(stages, settings, environments),
        ".github/workflows/monitor.yml": _monitor(stages, settings),
        ".github/dependabot.yml": _dependabot(settings),
    }
    if settings.service_runner:
        files[".github/actionlint.yaml"] = f"self-hosted-runner:\n  labels:\n    - {settings.service_runner}\n"
    script = _indented(_run("\n".join(install)), 8)
    return {
        path: HEAD + text.replace(INSTALL, script).replace(PERRON, perron).rstrip("\n") + "\n"
        for path, text in files.items()
    }


def _branches(settings: CiSettings) -> list[str]:
    """The branches that are released from, the one that is worked on first."""
    return ["develop", "main"] if settings.branching == "git-flow" else ["main"]


# ------------------------------------------------------------------ what jobs are made of


def _uses(action: str, **given: object) -> str:
    commit, version = ACTIONS[action]
    lines = [f"uses: {action}@{commit} # {version}"]
    if given:
        lines += ["with:", *(f"  {name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\n".join(lines)


def _step(name: str, body: str, *, condition: str = "", key: str = "") -> str:
    head = f"- name: {name}\n"
    if key:
        head += f"  id: {key}\n"
    if condition:
        head += f"  if: {condition}\n"
    return head + indent(body, "  ")


def _run(script: str, **environment: str) -> str:
    """A step's script, and the environment by which text that others write reaches it."""
    lines = ["env:", *(f"  {name}: {value}" for name, value in environment.items())] if environment else []
    script = dedent(script).strip("\n")
    is_plain = "\n" not in script and ": " not in script and "#" not in script
    return "\n".join([*lines, f"run: {script}" if is_plain else f"run: |\n{indent(script, '  ')}"])


def _job(
    key: str,
    settings: CiSettings,
    steps: Sequence[str],
    *,
    needs: Sequence[str] = (),
    permissions: str = "contents: read",
    minutes: int = 20,
    before: str = "",
    runner: str = "",
    condition: str = "",
    title: str = "",
) -> _Job:
    """A job; `before` are lines of its own ahead of its steps."""
    wants = f"needs: [{', '.join(needs)}]\n" if needs else ""
    wants += f"if: {condition}\n" if condition else ""
    granted = f"permissions:\n{indent(permissions, '  ')}" if permissions else "permissions: {}"
    head = f"name: {title or key}\n{wants}runs-on: {runner or settings.runner}\ntimeout-minutes: {minutes}\n{granted}\n"
    return _Job(
        key, head + (before.rstrip("\n") + "\n" if before else "") + "steps:\n" + indent("\n".join(steps), "  ")
    )


def _begin(settings: CiSettings, python: str = "") -> list[str]:
    """The steps that every job begins with which runs the project's code."""
    version = python or json.dumps(settings.python[0])
    return [
        _step("Check out", _uses("actions/checkout", persist_credentials="false")),
        _step(
            "Set up Python",
            _uses("actions/setup-python", python_version=version, cache="pip", cache_dependency_path="pyproject.toml"),
        ),
        _step("Install", INSTALL),
    ]


def _stage_step(stage: Stage) -> str:
    return _step(stage.title.capitalize(), _run(f"@perron@ ci run {stage.name}"))


def _take(artifact: str) -> list[str]:
    """The steps that bring what another job of this run kept."""
    return [
        _step("Fetch the model", _uses("actions/download-artifact", name=artifact, path=KEPT)),
        _step("Take it into the project", _run('@perron@ ci restore "$RUNNER_TEMP/kept"')),
    ]


def _keep(artifact: str, days: int) -> list[str]:
    """The steps that keep the model for other jobs and runs: no rows of the data, and no secrets."""
    return [
        _step("Pack the model", _run('@perron@ ci keep "$RUNNER_TEMP/kept"')),
        _step(
            "Keep it",
            _uses("actions/upload-artifact", name=artifact, path=KEPT, retention_days=days, if_no_files_found="error"),
        ),
    ]


def _champion_step(branches: str) -> str:
    """The step that brings the champion of the first of these branches that has one.

    Only what a run of this very repository kept counts: a fork may have a branch of the same name.
    """
    return _step(
        "Bring the champion",
        _run(
            """
            for branch in $BRANCHES; do
              run=$(BRANCH=$branch gh api "repos/$GITHUB_REPOSITORY/actions/artifacts?name=perron-champion&per_page=100" --jq \\
                '[.artifacts[] | select(.expired == false and .workflow_run.head_branch == env.BRANCH
                  and .workflow_run.head_repository_id == .workflow_run.repository_id)][0].workflow_run.id // empty')
              if [ -n "$run" ]; then
                gh run download "$run" --repo "$GITHUB_REPOSITORY" --name perron-champion --dir "$RUNNER_TEMP/champion"
                @perron@ ci restore "$RUNNER_TEMP/champion"
                echo "The champion is that of $branch, kept by run $run."
                exit 0
              fi
            done
            echo "::notice::No branch of $BRANCHES keeps a champion yet: there is nothing to compare with."
            """,
            GH_TOKEN="${{ github.token }}",
            BRANCHES=branches,
        ),
    )


def _head(name: str, on: str, group: str, cancel: str = "false") -> str:
    return (
        f"name: {name}\n\non:\n{indent(dedent(on).strip(chr(10)), '  ')}\n\n"
        "# Nothing is granted to all jobs: each says what it needs.\npermissions: {}\n\n"
        f"concurrency:\n  group: {group}\n  cancel-in-progress: {cancel}\n\n"
        "defaults:\n  run:\n    shell: bash\n\n"
    )


def _workflow(head: str, jobs: Sequence[_Job]) -> str:
    return head + "jobs:\n" + "\n".join(map(str, jobs))


# ------------------------------------------------------------------ the files


def _indented(text: str, width: int) -> str:
    """For a place within a text: every line but the first."""
    return indent(text, " " * width).lstrip(" ")


def _checks(stages: Stages, settings: CiSettings) -> list[_Job]:
    """The jobs of the stages that need no trained model."""
    jobs = []
    for stage in stages.found:
        if stage.name not in CHECKS:
            continue
        if stage.name == "unit" and len(settings.python) > 1:
            versions = ", ".join(json.dumps(version) for version in settings.python)
            matrix = f"strategy:\n  fail-fast: false\n  matrix:\n    python: [{versions}]"
            steps = [*_begin(settings, "${{ matrix.python }}"), _stage_step(stage)]
            jobs.append(_job(stage.name, settings, steps, title="unit (${{ matrix.python }})", before=matrix))
        else:
            steps = [*_begin(settings), _stage_step(stage)]
            jobs.append(_job(stage.name, settings, steps, minutes=MINUTES.get(stage.name, 20)))
    return jobs


def _ci(stages: Stages, settings: CiSettings) -> str:
    return _workflow(_head("ci", "pull_request:", "ci-${{ github.ref }}", "true"), _checks(stages, settings))


def _model_steps(found: Mapping[str, Stage], settings: CiSettings, branches: str) -> list[str]:
    """The steps that bring the champion, train, compare, and test what was trained.

    In one job, since system and acceptance tests ask for the rows that the model was trained on, and no rows of the data
    are handed on from one machine to another.
    """
    compare = """
    @perron@ ci report -o "$RUNNER_TEMP/report.md"
    cat "$RUNNER_TEMP/report.md" >> "$GITHUB_STEP_SUMMARY"
    echo "made=yes" >> "$GITHUB_OUTPUT"
    """
    return [
        *_begin(settings),
        _champion_step(branches),
        _step("Train", _run("@perron@ ci run train"), key="train"),
        _step(
            "Compare with the champion",
            _run(compare),
            condition="${{ !cancelled() && steps.train.outcome != 'skipped' }}",
            key="report",
        ),
        *(_stage_step(found[name]) for name in AFTER if name in found),
    ]


READS_RUNS = "contents: read\nactions: read # the champion is an artifact of an earlier run"


def _train(stages: Stages, settings: CiSettings) -> str:
    found = {stage.name: stage for stage in stages.found}
    hand_over = _step(
        "Hand the comparison over",
        _uses("actions/upload-artifact", name=REPORT, path=f"{TEMP}/report.md", retention_days=7, if_no_files_found="error"),
        condition="${{ !cancelled() && steps.report.outputs.made == 'yes' }}",
    )  # fmt: skip
    training = _job(
        "train", settings, [*_model_steps(found, settings, "${{ github.base_ref }} main"), hand_over],
        permissions=READS_RUNS, minutes=MINUTES["train"], before="outputs:\n  report: ${{ steps.report.outputs.made }}",
    )  # fmt: skip
    return _workflow(_head("train", "pull_request:", "train-${{ github.ref }}", "true"), [training, _comment(settings)])


def _comment(settings: CiSettings) -> _Job:
    """The job that writes the comparison: it holds a right to write, and runs nothing of the pull request's."""
    script = f"""
    printf '%s\\n' '{MARK}' > comment.md
    head -c 60000 report.md >> comment.md
    comments="repos/$GITHUB_REPOSITORY/issues/$NUMBER/comments"
    mine=$(gh api "$comments" --paginate --jq \\
      '.[] | select(.user.login == "github-actions[bot]" and (.body | startswith("{MARK}"))) | .id' | sed -n 1p)
    if [ -n "$mine" ]; then
      gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$mine" --field body=@comment.md
    else
      gh api --silent --method POST "$comments" --field body=@comment.md
    fi
    """
    return _job(
        "comment", settings,
        [
            _step("Fetch the comparison", _uses("actions/download-artifact", name=REPORT)),
            _step("Write it, or write it anew", _run(script, GH_TOKEN="${{ github.token }}", NUMBER="${{ github.event.pull_request.number }}")),
        ],
        needs=["train"],
        permissions="pull-requests: write # and nothing else: no code is checked out here",
        minutes=5,
        # From a fork, and for Dependabot, the token may only read: the comparison is then the job's summary.
        condition="${{ !cancelled() && needs.train.outputs.report == 'yes' && github.event.pull_request.head.repo.full_name == github.repository && github.event.pull_request.user.login != 'dependabot[bot]' }}",
    )  # fmt: skip


def _release(stages: Stages, settings: CiSettings, environments: Mapping[str, Environment]) -> str:
    found = {stage.name: stage for stage in stages.found}
    checks = _checks(stages, settings)
    training = _job(
        "train", settings,
        [*_model_steps(found, settings, "${{ github.ref_name }} main"), *_keep(CHAMPION, settings.keep_days)],
        needs=[job.key for job in checks], permissions=READS_RUNS, minutes=MINUTES["train"],
    )  # fmt: skip
    jobs = [*checks, training, _image(found["image"], settings, environments)]
    for environment in in_order(environments.values()):
        # Of two branches, what is worked on comes half of the way.
        is_only_main = settings.branching == "git-flow" and is_late(environment.name, environments)
        jobs.append(_deploy(found[environment.name], settings, environment, is_only_main=is_only_main))
    on = f"""
    push:
      branches: [{", ".join(_branches(settings))}]
    workflow_dispatch:
      inputs:
        reason:
          description: Why, when no change of the code is the reason
          type: string
          default: asked for by hand
    """
    head = _head("release", on, "release-${{ github.ref }}")
    return _workflow(
        head.replace(
            "name: release\n", "name: release\nrun-name: ${{ inputs.reason || github.event.head_commit.message }}\n"
        ),
        jobs,
    )


def _image(stage: Stage, settings: CiSettings, environments: Mapping[str, Environment]) -> _Job:
    """The job that builds the image, and pushes it where an environment runs one."""
    elsewhere = [one for one in environments.values() if (one.target or "local") != "local"]
    places = list(dict.fromkeys(str(one.service.get("image", "")) for one in elsewhere if one.service.get("image")))
    build = """
    version=$(@perron@ models --json | python -c 'import json, sys; print(next(v["version"] for v in json.load(sys.stdin) if "champion" in v["aliases"]))')
    docker build --tag "built:$version" .perron/image
    echo "version=$version" >> "$GITHUB_OUTPUT"
    """
    push = """
    for place in $PLACES; do
      registry=${place%%/*}
      if [ "$registry" = ghcr.io ]; then
        docker login ghcr.io --username "$GITHUB_ACTOR" --password-stdin <<< "$TOKEN"
      else
        docker login "$registry" --username "$REGISTRY_USER" --password-stdin <<< "$REGISTRY_PASSWORD"
      fi
      docker tag "built:$VERSION" "$place:$VERSION"
      docker push "$place:$VERSION"
    done
    """
    steps = [*_begin(settings), *_take(CHAMPION), _stage_step(stage), _step("Build it", _run(build), key="build")]
    if places:
        others = any(not place.startswith("ghcr.io/") for place in places)
        secrets = {
            name: f"${{{{ secrets.{name} }}}}" if others else '""' for name in ("REGISTRY_USER", "REGISTRY_PASSWORD")
        }
        given = {
            "PLACES": json.dumps(" ".join(places)),
            "VERSION": "${{ steps.build.outputs.version }}",
            "TOKEN": "${{ github.token }}",
        }
        steps.append(_step("Push it", _run(push, **given, **secrets)))
    granted = "contents: read\npackages: write # to push the image" if places else "contents: read"
    return _job("image", settings, steps, needs=["train"], minutes=MINUTES["image"], permissions=granted)


DEMAND = """
asked=$(gh api "repos/$GITHUB_REPOSITORY/environments/$ENVIRONMENT" --jq '[.protection_rules[]? | select(.type == "required_reviewers")] | length')
if [ "$asked" = 0 ]; then
  echo "::error::The environment $ENVIRONMENT asks nobody: give it required reviewers (Settings, Environments), or set approvals = 0 in environments.toml."
  exit 1
fi
"""
APPROVE = """
gh api "repos/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID/approvals" --paginate --jq \\
  '.[] | select(.state == "approved" and any(.environments[]; .name == env.ENVIRONMENT)) | .user.login' | sort -u > "$RUNNER_TEMP/approvers"
while read -r who; do
  PERRON_USER=$who @perron@ deploy approve "$ENVIRONMENT" --reason "approved on GitHub, run $GITHUB_RUN_ID" < /dev/null
done < "$RUNNER_TEMP/approvers"
"""
# How a target's own tool is let in: the step that prepares it, and the environment of the step that deploys.
ACCESS = {
    "kubernetes": (
        _step(
            "Bring the access to the cluster",
            _run('printf \'%s\' "$ACCESS" > "$RUNNER_TEMP/kubeconfig"\nchmod 600 "$RUNNER_TEMP/kubeconfig"', ACCESS="${{ secrets.KUBECONFIG }}"),
        ),
        {"KUBECONFIG": "${{ runner.temp }}/kubeconfig"},
    ),
    "cloud-run": (
        _step(
            "Bring the access to the cloud",
            _run(
                'printf \'%s\' "$ACCESS" > "$RUNNER_TEMP/google.json"\nchmod 600 "$RUNNER_TEMP/google.json"\n'
                'gcloud auth login --brief --cred-file="$RUNNER_TEMP/google.json"',
                ACCESS="${{ secrets.GOOGLE_CREDENTIALS }}",
            ),
        ),
        {},
    ),
}  # fmt: skip


def _deploy(stage: Stage, settings: CiSettings, environment: Environment, *, is_only_main: bool) -> _Job:
    """The job of an environment: it goes on from the ledger of the one before, so that what was live there is known."""
    name, before = stage.name, environment.after
    whom = {"GH_TOKEN": "${{ github.token }}", "ENVIRONMENT": name}
    access, given = ACCESS.get(environment.target or "local", ("", {}))
    steps = _begin(settings)
    if environment.approvals:
        steps.append(_step("Demand that a person was asked", _run(DEMAND, **whom)))
    steps += _take(f"perron-deployed-{before}" if before else CHAMPION)
    if environment.approvals:
        steps.append(_step("Bring who approved into the ledger", _run(APPROVE, **whom)))
    steps += [access] if access else []
    deploy = _run(f"@perron@ ci run {name}", PERRON_USER="${{ github.actor }}", **given)
    keep = _uses(
        "actions/upload-artifact", name=f"perron-deployed-{name}", path=f"{TEMP}/deployed", retention_days=settings.keep_days,
        if_no_files_found="error",
    )  # fmt: skip
    steps += [
        _step(stage.title.capitalize(), deploy),
        _step("Pack what the ledger knows now", _run('@perron@ ci keep "$RUNNER_TEMP/deployed"')),
        _step("Keep it", keep),
    ]
    granted = (
        "contents: read\nactions: read # who was asked, and who approved" if environment.approvals else "contents: read"
    )
    return _job(
        name, settings, steps, needs=list(stage.needs), minutes=30, permissions=granted,
        before=f"environment: {name}\nconcurrency:\n  group: deploy-{name}\n  cancel-in-progress: false",
        condition="github.ref_name == 'main'" if is_only_main else "",
    )  # fmt: skip


def _monitor(stages: Stages, settings: CiSettings) -> str:
    found = {stage.name: stage for stage in stages.found}
    looks = bool(settings.service_runner)
    data = _job("data", settings, [*_begin(settings), _stage_step(found["data"])], minutes=30)
    look = """
    @perron@ monitor --project "$PROJECT" --fail-on never --html "$RUNNER_TEMP/monitor.html"
    found=$(@perron@ monitor --project "$PROJECT" --fail-on never --no-alert --json | python -c 'import json, sys; print(json.load(sys.stdin)["worst"] or "nothing")')
    echo "The worst that was found: $found." >> "$GITHUB_STEP_SUMMARY"
    echo "found=$found" >> "$GITHUB_OUTPUT"
    """
    traffic = _job(
        "traffic", settings,
        [
            *_begin(settings),
            _step("Look at the traffic", _run(look, PROJECT=json.dumps(settings.service_folder)), key="look"),
            _step("Keep the page", _uses("actions/upload-artifact", name="perron-monitor", path=f"{TEMP}/monitor.html", retention_days=30, if_no_files_found="error")),
        ],
        minutes=30,
        # The prediction log is where the service is: the machine there must be a runner, and say where the project lies.
        runner=f"[self-hosted, {settings.service_runner}]",
        before="outputs:\n  found: ${{ steps.look.outputs.found }}",
    )  # fmt: skip
    causes = ["inputs.retrain", *([f"github.event.schedule == '{settings.retrain}'"] if settings.retrain else [])]
    causes += ["needs.traffic.outputs.found == 'high'"] if looks else []
    retrain = _job(
        "retrain", settings,
        [
            _step(
                "Ask for a release",
                _run(
                    'gh workflow run release.yml --repo "$GITHUB_REPOSITORY" --ref main --field reason="$REASON"',
                    GH_TOKEN="${{ github.token }}",
                    REASON="${{ needs.traffic.outputs.found == 'high' && 'retraining, since the monitor found something high' || 'retraining, as scheduled or asked for' }}"
                    if looks else "retraining, as scheduled or asked for",
                ),
            )
        ],
        needs=["data", *(["traffic"] if looks else [])],
        permissions="actions: write # to start release.yml",
        minutes=5,
        # Not on data that its own checks refuse.
        condition=f"${{{{ !cancelled() && needs.data.result == 'success' && ({' || '.join(causes)}) }}}}",
    )  # fmt: skip
    crons = dict.fromkeys([settings.monitor, *([settings.retrain] if settings.retrain else [])])
    on = (
        "schedule:\n"
        + "".join(f'  - cron: "{cron}"\n' for cron in crons)
        + (
            "workflow_dispatch:\n  inputs:\n    retrain:\n      description: Train anew, whatever is found\n"
            "      type: boolean\n      default: false\n"
        )
    )
    return _workflow(_head("monitor", on, "monitor"), [data, *([traffic] if looks else []), retrain])


def _dependabot(settings: CiSettings) -> str:
    branch = '    target-branch: "develop"\n' if settings.branching == "git-flow" else ""
    entry = (
        '  - package-ecosystem: "{}"\n    {}\n' + branch + '    schedule:\n      interval: "weekly"\n'
        '    cooldown:\n      default-days: 7\n    groups:\n      {}:\n        patterns: ["*"]\n'
    )
    return (
        "version: 2\nupdates:\n"
        + entry.format("github-actions", 'directory: "/"', "actions")
        + entry.format("pip", 'directory: "/"', "packages")
    )
