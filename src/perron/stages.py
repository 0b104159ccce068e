"""A project's folder in; the stages of its CI out: what each is called, what it is for, what it runs and after what.

    lint  types  unit  data  integration ─▶ train ─▶ system  acceptance ─▶ image ─▶ dev ─▶ tst ─▶ acc ─▶ prd

One list, which `perron ci run` runs and the workflows of `perron ci github` ask for by name, so that both do the same. A
stage for which the project has nothing is left out, and it is said why: nothing is green that didn't run.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TextIO

from perron.environments import Environment, in_order, read_environments
from perron.errors import DeclarationError, MissingPackage, NotFound, nearest
from perron.schedule import cron_fault

__all__ = [
    "CiSettings",
    "Outcome",
    "Stage",
    "Stages",
    "choose_stages",
    "demand_clean",
    "demand_repository",
    "demand_tools",
    "find_stages",
    "install_commands",
    "read_ci_settings",
    "run_stages",
    "stages_of",
]

WORKFLOW = ".github/workflows/release.yml"  # which is held to what would be written
TESTED = {
    "unit": "the project's own code: features, contract",
    "data": "the data: the contract and the rules on the source, and tests of it",
    "integration": "the parts together: pipeline and bundle",
    "system": "a real server and a real client",
    "acceptance": "what the system is for: goals, golden predictions, the canvas",
}
SKIPPED = {
    "tests",
    "data",
    "docs",
    "deploy",
    "build",
    "dist",
    "node_modules",
}  # folders without code of the project's own
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
PYTHON = re.compile(r"3\.\d{1,2}")


@dataclass(frozen=True)
class Stage:
    """A stage: its name, a title, what it is for, what it runs in order (each command as its words), the stages that
    must have passed before it in CI, and the environment that it deploys to (None: it doesn't)."""

    name: str
    title: str
    purpose: str
    commands: tuple[tuple[str, ...], ...]
    needs: tuple[str, ...] = ()
    environment: str | None = None

    @property
    def programs(self) -> tuple[str, ...]:
        """What must be installed for it, each once."""
        return tuple(dict.fromkeys(command[0] for command in self.commands))

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "commands": [list(command) for command in self.commands], "needs": list(self.needs)}


@dataclass(frozen=True)
class Stages:
    """The stages of a project in order, and those that it has nothing for: name to reason."""

    found: tuple[Stage, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.found)

    def __contains__(self, name: object) -> bool:
        return name in self.names


@dataclass(frozen=True)
class CiSettings:
    """`[tool.perron.ci]` of pyproject.toml, and the branching of `[tool.perron.project]`.

    Attributes:
        branching: `git-flow` (work on `develop`, releases on `main`) or `trunk`.
        python: the versions that unit tests run on; the first is the one of everything else.
        runner: the label of the machines that jobs run on.
        monitor: when the nightly look is, as cron has it, in UTC.
        retrain: when models are trained anew, likewise; empty: only when asked for, or when the monitor finds something.
        keep_days: how long GitHub keeps a champion.
        service_runner: the label of a runner on the machine that serves, where the prediction log is; empty: the nightly
            look is at the data alone.
        service_folder: where the project lies on that machine.

    Raises:
        DeclarationError: a value that makes no sense.
    """

    branching: str = "git-flow"
    python: tuple[str, ...] = ("3.12",)
    runner: str = "ubuntu-latest"
    monitor: str = "17 3 * * *"
    retrain: str = "41 4 * * 1"
    keep_days: int = 90
    service_runner: str = ""
    service_folder: str = ""

    def __post_init__(self) -> None:
        if self.branching not in ("git-flow", "trunk"):
            raise DeclarationError(
                f"branching is {self.branching!r:.60}; {nearest(str(self.branching), ('git-flow', 'trunk'))}"
            )
        fits = isinstance(self.python, tuple) and all(isinstance(v, str) and PYTHON.fullmatch(v) for v in self.python)
        if not fits or not self.python or len(set(self.python)) < len(self.python):
            raise DeclarationError(
                f'python is {self.python!r:.60}; give versions, each once, such as ["3.12", "3.13"].'
            )
        if not isinstance(self.runner, str) or not LABEL.fullmatch(self.runner):
            raise DeclarationError(f"runner is {self.runner!r:.60}; give a label of machines, such as ubuntu-latest.")
        if not isinstance(self.service_runner, str) or not (
            self.service_runner == "" or LABEL.fullmatch(self.service_runner)
        ):
            raise DeclarationError(f"service_runner is {self.service_runner!r:.60}; give the label of a runner.")
        folder = self.service_folder
        if (
            not isinstance(folder, str)
            or (self.service_runner and not folder.startswith("/"))
            or not folder.isprintable()
        ):
            raise DeclarationError(
                f"service_folder is {folder!r:.60}; give the whole path of the project's folder on the runner."
            )
        for key in ("monitor", "retrain"):
            value = getattr(self, key)
            if key == "retrain" and value == "":
                continue
            fault = cron_fault(value) if isinstance(value, str) else "give a text such as '17 3 * * *'"
            if fault is not None:
                raise DeclarationError(f"{key} is {value!r:.60}; {fault}.")
        if isinstance(self.keep_days, bool) or not isinstance(self.keep_days, int) or not 1 <= self.keep_days <= 400:
            raise DeclarationError(f"keep_days is {self.keep_days!r:.60}; give a number from 1 to 400.")


NAMES = ("lint", "types", "unit", "data", "integration", "train", "system", "acceptance", "image")


def read_ci_settings(folder: Path) -> CiSettings:
    """What a project's pyproject.toml says of its CI; the defaults where it says nothing.

    Raises:
        DeclarationError: it can't be read, or says something that is unknown or makes no sense.
    """
    path = folder / "pyproject.toml"
    data = _read_toml(path)
    given = dict(_table(path, data, "ci"))
    known = [one.name for one in fields(CiSettings) if one.name != "branching"]
    for key in given:
        if key not in known:
            raise DeclarationError(f"{path}: [tool.perron.ci] has no key {key!r}; {nearest(key, known)}")
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    branching = _table(path, data, "project").get("branching")
    if branching is not None:
        given["branching"] = branching
    try:
        return CiSettings(**given)
    except DeclarationError as error:
        raise DeclarationError(f"{path}: [tool.perron.ci]: {error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    """The file's tables; none where it isn't there."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DeclarationError(f"Can't read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise DeclarationError(f"{path} isn't TOML: {str(error).splitlines()[0]}; mend it.") from error


def _table(path: Path, data: Any, name: str) -> Mapping[str, Any]:
    """The table `[tool.perron.NAME]`; empty where there is none."""
    for key in ("tool", "perron", name):
        data = data.get(key, {})
        if not isinstance(data, dict):
            raise DeclarationError(f"{path}: [tool.perron.{name}] is no table.")
    found: Mapping[str, Any] = data
    return found


# ------------------------------------------------------------------ what a project has


def find_stages(folder: Path) -> Stages:
    """The stages of the project in a folder.

    Raises:
        DeclarationError: environments.toml can't be read or is wrong, or an environment is called as a stage is.
    """
    paths = []
    for place, folders, names in os.walk(folder):
        folders[:] = [
            name for name in sorted(folders)
            if (name == ".github" or not name.startswith((".", "__"))) and name != "node_modules" and not Path(place, name, "pyvenv.cfg").exists()
        ]  # fmt: skip
        inside = Path(place).relative_to(folder)
        paths += [(inside / name).as_posix() for name in names]
    try:
        config = (folder / "pyproject.toml").read_text()
    except OSError:
        config = ""
    return stages_of(paths, read_environments(folder).values(), config)


def stages_of(paths: Iterable[str], environments: Iterable[Environment], pyproject: str = "") -> Stages:
    """The stages of a project that consists of these files, before it is written, too.

    Args:
        paths: within the project, with slashes.
        environments: that it is deployed to.
        pyproject: the text of its pyproject.toml: a tool that is configured there is asked by its own settings.

    Raises:
        DeclarationError: an environment is called as a stage is.
    """
    files = set(paths)
    code = _code(files)
    commands: dict[str, list[tuple[str, ...]]] = {
        "lint": [
            ("ruff", "check", "."),
            ("ruff", "format", "--check", "."),
            # Without settings of the project's own, what Ruff doesn't see: conventions are Ruff's.
            (
                "pylint",
                *code,
                *(["tests"] if any(path.startswith("tests/") and _is_test(path) for path in files) else []),
            )
            if "[tool.pylint" in pyproject or ".pylintrc" in files
            else ("pylint", "--disable=C,R", *code),
        ],
        "types": [("mypy",) if _names_files(pyproject) else ("mypy", *code)],
        "data": [("perron", "check")],
        "train": [("perron", "run")],
        "acceptance": [("perron", "canvas", "check", "--allow-missing")] if "canvas.toml" in files else [],
        "image": [("perron", "package", "--dockerfile", ".perron/image")],
    }
    if WORKFLOW in files:
        commands["lint"].append(("perron", "ci", "github", "--check"))
    left_out = {}
    for name in TESTED:
        tests = f"tests/{name}/"
        if any(path.startswith(tests) and _is_test(path) for path in files):
            # The plugin's own tests belong to acceptance: the contract, behaviour, parity and speed of the champion.
            options = ("--perron",) if name == "acceptance" else ()
            commands.setdefault(name, []).append(("pytest", *options, tests.rstrip("/")))
        elif not commands.get(name):
            left_out[name] = f"there is no test in {tests}"
    found = [
        Stage(name, TITLES[name][0], TITLES[name][1], tuple(commands[name])) for name in NAMES if commands.get(name)
    ]
    present = {stage.name for stage in found}
    before = {"system": ("train",), "acceptance": ("train",), "image": ("system", "acceptance", "train")}
    stages = [
        Stage(s.name, s.title, s.purpose, s.commands, tuple(n for n in before.get(s.name, ()) if n in present))
        for s in found
    ]
    for environment in in_order(environments):
        name = environment.name
        if name in NAMES:
            raise DeclarationError(
                f"environments.toml: {name} is also a stage of every project; call the environment otherwise."
            )
        target = environment.target or "local"
        applied = () if target == "local" else ("--apply",)  # without it files are written, and nothing is deployed
        deploy = (("perron", "deploy", target, "--env", name, *applied),)
        needs = (environment.after or "image",)
        stages.append(Stage(name, f"deploy to {name}", f"what passed, to the environment {name}", deploy, needs, name))
    return Stages(tuple(stages), left_out)


TITLES = {
    "lint": ("lint", "style and likely mistakes: Ruff, its format, pylint"),
    "types": ("types", "mypy on the project's own code"),
    "unit": ("unit tests", TESTED["unit"]),
    "data": ("data tests", TESTED["data"]),
    "integration": ("integration tests", TESTED["integration"]),
    "train": ("training", "the pipeline: snapshot, training, evaluation, gates, bundle, version"),
    "system": ("system tests", TESTED["system"]),
    "acceptance": ("acceptance tests", TESTED["acceptance"]),
    "image": ("image", "the champion as an image that serves it"),
}


def _code(files: set[str]) -> tuple[str, ...]:
    """Where the project's own code is: modules at the top, and folders that hold some."""
    tops = {path for path in files if path.endswith(".py") and "/" not in path}
    tops |= {path.partition("/")[0] for path in files if path.endswith(".py") and "/" in path} - SKIPPED
    return tuple(sorted(tops))


def _is_test(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))


def _names_files(pyproject: str) -> bool:
    """Whether mypy's settings say what it looks at."""
    try:
        tool = tomllib.loads(pyproject).get("tool", {}).get("mypy", {})
    except (ValueError, AttributeError):
        return False
    return any(key in tool for key in ("files", "packages", "modules"))


# ------------------------------------------------------------------ git and tools


def demand_repository(folder: Path) -> None:
    """Nothing, when the folder is the root of a git repository, whose workflows GitHub reads.

    Raises:
        DeclarationError: there is no git, or no repository, or the folder isn't its root.
    """
    if shutil.which("git") is None:
        raise DeclarationError(
            "git isn't installed; GitHub runs what is in a git repository: install git, then `git init -b main`."
        )
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None:
        raise DeclarationError(
            f"{folder} isn't in a git repository, and GitHub runs what is in one: `git init -b main`, then again; nothing was written."
        )
    if Path(top).resolve() != folder.resolve():
        raise DeclarationError(
            f"{folder} lies within the repository {top}, and GitHub reads the workflows of its root only: make the project a "
            "repository of its own; nothing was written."
        )


def demand_clean(stages: Sequence[Stage], folder: Path) -> str | None:
    """What to tell before the stages run: that what runs isn't a commit, or that there is no git; None: nothing.

    Raises:
        DeclarationError: a stage deploys, and there is no commit that says what.
    """
    status = _git(folder, "status", "--porcelain", "--untracked-files=all", "--", ".") if shutil.which("git") else None
    deploys = [stage.name for stage in stages if stage.environment is not None]
    if status is None:
        if deploys:
            raise DeclarationError(
                f"{folder} isn't in a git repository, so that nothing says what {deploys[0]} would get: `git init -b main` and commit."
            )
        return "there is no git repository here, so that runs name no commit (`git init -b main` makes one)."
    count = len(status.splitlines())
    if not count:
        return None
    files = f"{count} file{' has' if count == 1 else 's have'} changes that aren't committed"
    if deploys:
        raise DeclarationError(f"{files}, and {deploys[0]} gets only what is: commit them, or `git stash -u`.")
    return f"{files}: what runs here isn't what CI runs."


def install_commands(folder: Path) -> tuple[tuple[str, ...], str]:
    """The shell's lines that install a project and the tools of its stages on a fresh machine, and how Perron is called
    then: by the Makefile's `setup`, where it has one; else by pip, from what pyproject.toml names.

    Raises:
        DeclarationError: pyproject.toml can't be read.
    """
    try:
        makefile = (folder / "Makefile").read_text()
    except OSError:
        makefile = ""
    if re.search(r"^setup:", makefile, re.MULTILINE):
        return ("make setup",), ".venv/bin/perron"
    data = _read_toml(folder / "pyproject.toml")
    project, groups = data.get("project", {}), data.get("dependency-groups", {})
    named = project.get("dependencies", []) if isinstance(project, dict) else []
    packages = [word for word in named if isinstance(word, str)]
    if not any(re.match(r"perron\b", word) for word in packages):
        packages.insert(0, "perron")
    options = [f"--group {name}" for name in ("dev", "test") if isinstance(groups, dict) and name in groups][:1]
    tools = [] if options else ["mypy", "pylint", "pytest", "ruff"]
    words = " ".join([*options, *(shlex.quote(word) for word in (*packages, *tools))])
    return ("python -m pip install --upgrade 'pip>=25.1'", f"python -m pip install {words}"), "perron"


def _git(folder: Path, *words: str) -> str | None:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=False,
        env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
    )  # fmt: skip
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


# ------------------------------------------------------------------ running them


def choose_stages(stages: Stages, names: Sequence[str]) -> tuple[Stage, ...]:
    """The stages of those names in their order; without names all but the deployments.

    Raises:
        NotFound: there is no such stage (names the nearest), or the project has nothing for it (says what).
    """
    for name in names:
        if name in stages.left_out:
            raise NotFound(f"The stage {name} has nothing to run: {stages.left_out[name]}.")
        if name not in stages:
            raise NotFound(f"There is no stage {name!r}; {nearest(name, [*stages.names, *stages.left_out])}")
    return tuple(stage for stage in stages.found if (stage.name in names if names else stage.environment is None))


def demand_tools(stages: Sequence[Stage]) -> None:
    """Nothing, when all that the stages run is installed.

    Raises:
        MissingPackage: something isn't; names the stage and what to do.
    """
    lacks: dict[str, str] = {}  # program to the first stage that needs it
    for stage in stages:
        for program in stage.programs:
            if program != "perron" and _program(program) is None:
                lacks.setdefault(program, stage.name)
    if lacks:
        words = " and ".join(f"{program} (stage {stage})" for program, stage in lacks.items())
        raise MissingPackage(
            f"{words} {'is' if len(lacks) == 1 else 'are'} not installed: pip install {' '.join(lacks)}; nothing was run."
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: `passed`, `failed` or `not run`; the seconds that it took, and of one that failed the
    command and its exit code."""

    stage: str
    status: Literal["passed", "failed", "not run"]
    seconds: float
    command: str | None = None
    code: int | None = None

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def run_stages(
    stages: Sequence[Stage],
    folder: Path,
    *,
    keep_going: bool = False,
    tell: Callable[[Stage, tuple[str, ...]], None] = lambda stage, command: None,
    output: TextIO | None = None,
) -> list[Outcome]:
    """What became of each stage, run in order; after one that failed the others aren't run.

    Args:
        stages: in their order.
        folder: the project's.
        keep_going: runs the others all the same, except what needs one that failed.
        tell: told of each command before it runs.
        output: where the commands' standard output goes, as it comes; this process's own, if None.
    """
    beside = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": os.pathsep.join((beside, os.environ.get("PATH", os.defpath)))}
    outcomes: list[Outcome] = []
    bad: set[str] = set()
    for stage in stages:
        if bad and (not keep_going or bad.intersection(stage.needs)):
            outcomes.append(Outcome(stage.name, "not run", 0.0))
            bad.add(stage.name)
            continue
        started = time.perf_counter()
        failed: tuple[str, int] | None = None
        for command in stage.commands:
            tell(stage, command)
            words = [sys.executable, "-m", "perron", *command[1:]] if command[0] == "perron" else list(command)
            words[0] = _program(words[0]) or words[0]
            code = subprocess.run(words, cwd=folder, env=environment, stdout=output, check=False).returncode
            if code:
                failed = " ".join(command), code
                break
        seconds = round(time.perf_counter() - started, 3)
        if failed is None:
            outcomes.append(Outcome(stage.name, "passed", seconds))
        else:
            outcomes.append(Outcome(stage.name, "failed", seconds, *failed))
            bad.add(stage.name)
    return outcomes


def _program(name: str) -> str | None:
    """Where a program is: beside this Python before anywhere else."""
    return shutil.which(name, path=os.path.dirname(sys.executable)) or shutil.which(name)
