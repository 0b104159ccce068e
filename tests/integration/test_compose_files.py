"""The compose files, by the specification's schema, by docker-compose itself, and their monitoring by promtool."""

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from perron.errors import DeclarationError
from perron.serve.http import DRAIN_S
from perron.serve.workers import KILL_AFTER_S
from perron.ship.compose import PROFILES, compose_files, course_files
from perron.ship.files import write_files
from perron.ship.service import STOP_S, Schedule, ServiceSpec
from tests.conftest import need

SPEC = ServiceSpec(
    "house-prices", "house-prices", 7, "ab" * 32, "registry.example:5000/house-prices:7", environment="tst",
    grpc_port=9100, variables={"GREETING": "a $name ${for} #all: 'ö'", "ON": "yes"}, secrets={"PGPASSWORD": "postgres-password"},
    log_to=("s3://perron/pre$dictions",), project_image="registry.example:5000/house-prices-project:7",
    schedules=(Schedule("pipeline", "0 3 * * *", ("run",)), Schedule("monitor", "*/15 * * * *", ("monitor", "--fail-on", "never"))),
)  # fmt: skip
COURSE = replace(SPEC, grpc_port=None, log_to=(), schedules=())
SMALL = ServiceSpec("a", "a", 1, "0" * 64, "a:1")
SHAPES = {
    "all": compose_files(SPEC), "server alone": compose_files(SMALL, profiles=()), "course": course_files(COURSE),
    **{profile: compose_files(SPEC, profiles=[profile]) for profile in PROFILES},
}  # fmt: skip


def parsed(files: dict[str, str]) -> Any:
    return yaml.safe_load(files["compose.yaml"])


def schema(*paths: Path) -> "subprocess.CompletedProcess[str]":
    words = [need("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", *map(str, paths)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_the_specification_s_schema_takes_every_shape(tmp_path: Path) -> None:
    for shape, files in SHAPES.items():
        write_files(tmp_path / shape, files)
    done = schema(*(tmp_path / shape / "compose.yaml" for shape in SHAPES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_refuses_what_compose_would(tmp_path: Path) -> None:
    document = parsed(SHAPES["all"])
    document["services"]["server"]["helthcheck"] = {}
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(document))
    done = schema(tmp_path / "compose.yaml")
    assert done.returncode == 1 and "helthcheck" in done.stdout


def config(folder: Path) -> tuple[Any, str]:
    """What `docker compose config` makes of a folder's file with every profile, or docker-compose 1.29 where the plugin isn't there."""
    has_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0 if _is_there("docker") else False  # fmt: skip
    if has_plugin:
        words = ["docker", "compose", *(word for name in (*PROFILES, "jobs") for word in ("--profile", name)), "config", "--format", "json"]  # fmt: skip
    else:
        words = [need("docker-compose"), "-p", "any", "config"]
        text = (folder / "compose.yaml").read_text()
        (folder / "compose.yaml").write_text(re.sub(r"(?m)^name: .*\n", "", text))  # its schema, of 2021, has no name
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return (yaml.safe_load(done.stdout) if done.returncode == 0 else None), done.stderr


def _is_there(tool: str) -> bool:
    return subprocess.run(["sh", "-c", f"command -v {tool}"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("shape", ["all", "server alone", "course"])
def test_docker_compose_reads_every_shape(shape: str, tmp_path: Path) -> None:
    write_files(tmp_path, SHAPES[shape])
    made, words = config(tmp_path)
    assert made is not None, words
    assert set(made["services"]) == set(parsed(SHAPES[shape])["services"])


def test_docker_compose_reads_variables_as_they_were_given(tmp_path: Path) -> None:
    write_files(tmp_path, SHAPES["all"])
    (tmp_path / ".env").write_text("PERRON_LOG_TO=stdout:\nPERRON_PORT=8123\n")
    made, words = config(tmp_path)
    server = made["services"]["server"]
    given = {name: value.replace("$$", "$") for name, value in server["environment"].items()}  # as config prints them
    assert given["GREETING"] == SPEC.variables["GREETING"] and given["ON"] == "yes", words
    assert given["PERRON_LOG_TO"] == "stdout:"
    assert "s3://perron/pre$dictions" in [word.replace("$$", "$") for word in server["command"]]
    assert "127.0.0.1" in json.dumps(server["ports"]) and "8123" in json.dumps(server["ports"])


def test_every_container_is_shut_in() -> None:
    for shape, files in SHAPES.items():
        for name, service in parsed(files)["services"].items():
            assert service["read_only"] is True, (shape, name)
            assert service["cap_drop"] == ["ALL"] and service.get("cap_add", ["CHOWN"]) == ["CHOWN"]
            assert ("cap_add" in service) == (name == "owner"), (shape, name)
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert {"cpus", "memory"} == set(service["deploy"]["resources"]["limits"])
            assert "restart" in service and "privileged" not in service
            assert re.search(r":(?!latest$)[^/:]+$", service["image"]), service["image"]
            assert all(port.startswith("${PERRON_ADDRESS:-127.0.0.1}:") for port in service.get("ports", ()))


def test_what_isn_t_there_yet_is_waited_for() -> None:
    services = parsed(SHAPES["all"])["services"]
    assert services["dashboard"]["depends_on"] == {"server": {"condition": "service_healthy"}}
    assert services["bucket"]["depends_on"] == {"storage": {"condition": "service_healthy"}}
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            assert "healthcheck" in services[other] or how == {"condition": "service_completed_successfully"}


def test_a_profile_starts_nothing_that_waits_for_another_profile() -> None:
    services = parsed(SHAPES["all"])["services"]
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            assert set(services[other].get("profiles", ())) <= set(service.get("profiles", ())), name


def test_volumes_belong_to_who_writes_them() -> None:
    """The program is run as it stands in the file, by root, on folders of its own."""
    owner = parsed(SHAPES["all"])["services"]["owner"]
    assert owner["volumes"] == ["log:/volumes/log", "state:/volumes/state"]
    assert all(
        f"/volumes/{name}" in owner["command"][0] and "10001, 10001" in owner["command"][0] for name in ("log", "state")
    )
    compile(owner["command"][0], "owner", "exec")


def test_no_secret_is_in_the_files_and_each_is_a_file() -> None:
    document = parsed(SHAPES["all"])
    assert document["secrets"]["postgres-password"] == {"file": "./secrets/postgres-password"}
    assert document["services"]["server"]["secrets"] == [{"source": "postgres-password", "target": "PGPASSWORD"}]
    assert "secrets/" in SHAPES["all"][".gitignore"].splitlines()
    used = {
        secret if isinstance(secret, str) else secret["source"]
        for service in document["services"].values()
        for secret in service.get("secrets", ())
    }
    assert used == set(document["secrets"])


def test_every_volume_that_is_mounted_is_declared() -> None:
    for files in SHAPES.values():
        document = parsed(files)
        mounted = {
            volume.partition(":")[0]
            for service in document["services"].values()
            for volume in service.get("volumes", ())
        }
        assert {name for name in mounted if not name.startswith("./")} == set(document["volumes"])


def test_the_server_has_the_time_that_it_takes_to_stop() -> None:
    assert STOP_S > KILL_AFTER_S > DRAIN_S
    assert parsed(SHAPES["all"])["services"]["server"]["stop_grace_period"] == f"{STOP_S + 5}s"


@pytest.mark.parametrize(
    "more",
    [
        {"grpc_port": 9000},
        {"log_to": ("stdout:",)},
        {"schedules": (Schedule("pipeline", "0 3 * * *", ("run",)),)},
    ],
)
def test_what_the_four_services_have_no_use_for_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=f"have no use for {next(iter(more))}"):
        course_files(replace(COURSE, **more))


def test_the_course_s_shape_is_four_services_in_order() -> None:
    services = parsed(SHAPES["course"])["services"]
    assert services.pop("owner")["volumes"] == ["state:/volumes/state"]
    assert list(services) == ["preprocess", "train", "serve", "web"]
    assert [service["command"][0] for service in services.values()] == ["check", "run", "serve", "dashboard"]
    assert {tuple(service["entrypoint"]) for service in services.values()} == {("python", "-m", "perron")}
    assert services["train"]["depends_on"]["preprocess"] == {"condition": "service_completed_successfully"}
    assert services["serve"]["depends_on"]["train"] == {"condition": "service_completed_successfully"}
    assert all("state:/srv/project/.perron" in service["volumes"] for service in services.values())


def test_the_monitoring_asks_the_server_and_promtool_reads_it(tmp_path: Path) -> None:
    write_files(tmp_path, SHAPES["all"])
    assert "server:8000" in (tmp_path / "prometheus" / "prometheus.yml").read_text()
    for words, folder in ((["check", "config", "prometheus.yml"], "."), (["test", "rules", "perron.yml"], "tests")):
        done = subprocess.run([need("promtool"), *words], cwd=tmp_path / "prometheus" / folder, capture_output=True, text=True, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_jobs_come_with_the_lines_of_a_crontab() -> None:
    text = SHAPES["all"]["compose.yaml"]
    assert "#   0 3 * * * cd FOLDER && docker compose run --rm pipeline\n" in text
    assert parsed(SHAPES["all"])["services"]["pipeline"]["profiles"] == ["jobs"]


def test_a_profile_that_isn_t_known_is_refused() -> None:
    with pytest.raises(DeclarationError, match="There is no profile 'monitor'; did you mean 'monitoring'?"):
        compose_files(SMALL, profiles=["monitor"])


def test_a_dashboard_without_the_project_s_image_is_refused() -> None:
    with pytest.raises(DeclarationError, match="there is no project_image"):
        compose_files(SMALL)
    with pytest.raises(DeclarationError, match="there is no project_image"):
        course_files(SMALL)


def test_a_schedule_may_not_take_a_service_s_name() -> None:
    with pytest.raises(DeclarationError, match="The schedule server has the name of a service; rename it"):
        compose_files(ServiceSpec("a", "a", 1, "0" * 64, "a:1", project_image="b:1", schedules=(Schedule("server", "0 3 * * *", ("run",)),)))  # fmt: skip
