"""The declaration of a deployed service, and what it refuses."""

import inspect
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import need

from perron.cli.dashboard import dashboard
from perron.cli.serve import serve
from perron.errors import DeclarationError
from perron.ship.service import (
    Schedule,
    ServiceSpec,
    dashboard_words,
    least_memory_mb,
    project_dockerfile,
    serve_words,
)  # fmt: skip

OF_BUNDLES = {"--bundle", "--log-folder"}  # options of serving a bundle alone

GOOD: dict[str, Any] = {
    "name": "house-prices", "model": "house-prices", "version": 7, "bundle": "ab" * 32,
    "image": "registry.example:5000/team/house-prices:7",
}  # fmt: skip
PROJECT = {"project_image": "registry.example:5000/team/house-prices-project:7"}


def test_a_service_has_defaults_that_run_anywhere() -> None:
    spec = ServiceSpec(**GOOD)
    assert (spec.port, spec.workers, spec.replicas_min, spec.environment) == (8000, 1, 1, "dev")
    assert spec.resource == "house-prices-dev"
    assert spec.memory_mb >= least_memory_mb(spec.workers)


@pytest.mark.parametrize(
    "image",
    [
        "house-prices:7", "a/b/c:1.0-rc.1", "localhost:5000/a:1", "europe-west4-docker.pkg.dev/p/r/house_prices:7",
        f"house-prices@sha256:{'0' * 64}", f"ghcr.io/a/b:7@sha256:{'0' * 64}",
    ],
)  # fmt: skip
def test_an_image_has_a_tag_or_a_digest(image: str) -> None:
    assert ServiceSpec(**{**GOOD, "image": image}).image == image


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "House"}, "The service's name is 'House'; use up to 49 lower-case letters"),
        ({"name": "7-houses"}, "a letter first"),
        ({"name": "houses-"}, "no hyphen last"),
        ({"name": "a" * 50}, "up to 49"),
        ({"name": "a.b"}, "The service's name"),
        ({"name": "a\n"}, "The service's name"),
        ({"environment": "prd east"}, "The environment is 'prd east'; use up to 20"),
        ({"environment": "../prd"}, "The environment"),
        ({"environment": ""}, "The environment"),
        ({"environment": "prd\n"}, "The environment"),
        ({"model": ""}, "The model is ''"),
        ({"version": 0}, "version is 0; give a whole number from 1"),
        ({"version": True}, "version is True"),
        ({"bundle": "abc"}, "The bundle is 'abc'; give the SHA-256"),
        ({"image": "house-prices"}, "give a tag of its own, or a digest"),
        ({"image": "house-prices:latest"}, "names another image tomorrow"),
        ({"image": "House:1"}, "give a reference such as"),
        ({"image": "a b:1"}, "give a reference such as"),
        ({"image": "a:1 --privileged"}, "give a reference such as"),
        ({"project_image": "x"}, "project_image is 'x'"),
        ({"port": 80}, "port is 80; give a whole number from 1024 to 65535"),
        ({"port": 65536}, "port is 65536"),
        ({"port": "8000"}, "port is '8000'"),
        ({"grpc_port": 8000}, "HTTP and gRPC can't both have port 8000"),
        ({"grpc_port": 0}, "grpc_port is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"replicas_min": 4}, "replicas_min is 4, more than replicas_max, 3"),
        ({"replicas_min": -1}, "replicas_min is -1"),
        ({"replicas_max": 0}, "replicas_max is 0"),
        ({"memory_mb": 64}, "memory_mb is 64, and 1 worker(s) need"),
        ({"memory_mb": 512, "workers": 8}, "and 8 worker(s) need"),
        ({"memory_mb": 512.0}, "memory_mb is 512.0"),
        ({"cpu": 0}, "cpu is 0; give cores from 0.05"),
        ({"cpu": float("nan")}, "cpu is nan"),
        ({"cpu": "1"}, "cpu is '1'"),
        ({"job_cpu": 0}, "job_cpu is 0"),
        ({"job_memory_mb": 100}, "job_memory_mb is 100"),
        ({"concurrency": 1001}, "concurrency is 1001"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"availability": 1}, "availability is 1"),
        ({"max_p99_ms": float("inf")}, "max_p99_ms is inf"),
        ({"variables": {"A-B": "x"}}, "The variable is 'A-B'"),
        ({"variables": {"PORT": "1"}}, "The variable PORT is set by the platform"),
        ({"variables": {"AIP_HTTP_PORT": "1"}}, "is set by the platform"),
        ({"variables": {"A": 1}}, "The variable A is 1; give a text"),
        ({"variables": {"A": "a\0"}}, "The variable A is"),
        ({"variables": {"A": "1"}, "secrets": {"A": "a"}}, "A is a variable and a secret; keep one"),
        ({"secrets": {"A": "My Secret"}}, "The secret of A is 'My Secret'"),
        ({"secrets": {"1A": "a"}}, "The secret's variable is '1A'"),
        ({"log_to": ("predictions",)}, "log_to has 'predictions'; give a URL"),
        ({"schedules": (Schedule("run", "0 3 * * *", ("run",)),)}, "there is no project_image"),
        ({**PROJECT, "schedules": (Schedule("run", "0 3 * * *", ("run",)),) * 2}, "There are two schedules run"),
        ({**PROJECT, "name": "a" * 49, "schedules": (Schedule("run", "0 3 * * *", ("run",)),)}, "The job's name"),
    ],
)  # fmt: skip
def test_what_can_t_be_deployed_is_refused_in_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        ServiceSpec(**{**GOOD, **change})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cron", ["0 3 * * *", "*/5 * * * *", "0 0-6/2,12 1 1,7 0", "59 23 31 12 6"])
def test_a_schedule_has_five_fields(cron: str) -> None:
    assert Schedule("pipeline", cron, ("run",)).cron == cron


@pytest.mark.parametrize(
    ("name", "cron", "command", "words"),
    [
        ("Run", "0 3 * * *", ("run",), "The schedule's name is 'Run'"),
        ("run", "@daily", ("run",), "is '@daily'; give five fields"),
        ("run", "0 3 * *", ("run",), "give five fields"),
        ("run", "60 3 * * *", ("run",), "The schedule run is '60 3 * * *'; its minute is '60'; give numbers from 0 to 59"),
        ("run", "0 24 * * *", ("run",), "its hour is"),
        ("run", "0 3 0 * *", ("run",), "its day of the month is"),
        ("run", "0 3 * 13 *", ("run",), "its month is"),
        ("run", "0 3 * * 7", ("run",), "its day of the week is"),
        ("run", "0 5-3 * * *", ("run",), "its hour is"),
        ("run", "*/0 * * * *", ("run",), "its minute is"),
        ("run", "*/00 * * * *", ("run",), "its minute is"),
        ("run", "5/2 * * * *", ("run",), "its minute is"),
        ("run", "0, * * * *", ("run",), "its minute is"),
        ("run", "0 3 * * *", (), "runs nothing; give a verb"),
        ("run", "0 3 * * *", ("--json",), "runs nothing"),
    ],
)  # fmt: skip
def test_a_schedule_that_can_t_be_is_refused(name: str, cron: str, command: tuple[str, ...], words: str) -> None:
    with pytest.raises(DeclarationError, match=r".") as caught:
        Schedule(name, cron, command)
    assert words in str(caught.value)


def test_the_project_s_image_is_built_by_a_dockerfile_that_hadolint_takes(tmp_path: Path) -> None:
    files = project_dockerfile("3.12", "0.1.0")
    (tmp_path / "Dockerfile").write_text(files["project.Dockerfile"])
    done = subprocess.run(
        [need("hadolint"), "--ignore", "DL3008", "--ignore", "DL3013", str(tmp_path / "Dockerfile")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert ".perron" in files["project.Dockerfile.dockerignore"].splitlines()


def test_commands_that_containers_are_given_are_the_command_line_s() -> None:
    """Every option is one that the verb has."""
    for words, verb in ((dashboard_words("http://server:8000"), dashboard), (serve_words(ServiceSpec(**{**GOOD, "grpc_port": 9000}, log_to=("stdout:",))), serve)):  # fmt: skip
        known = {f"--{name.replace('_', '-')}" for name in inspect.signature(verb).parameters}
        options = {word for word in words if word.startswith("--")}
        assert options <= known | OF_BUNDLES, options - known


def test_a_server_with_tokens_asks_for_them() -> None:
    assert "--allow-anonymous" in serve_words(ServiceSpec(**GOOD))
    guarded = ServiceSpec(**GOOD, secrets={"PERRON_TOKENS": "tokens"})
    assert guarded.has_tokens and "--allow-anonymous" not in serve_words(guarded)
