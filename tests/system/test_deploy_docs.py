"""docs/deploy.md does what it says: its commands in a project with two versions, its file, and its table of keys."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from perron.environments import FILE, KEYS, TARGETS, environments_file, parse_environments
from perron.serve.http import free_port
from tests.conftest import perron
from tests.integration.test_deploy_local import trained  # noqa: F401  # the fixture

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text()
(TOML,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Iterator[Path]:  # noqa: F811
    made = Path(shutil.copytree(trained, tmp_path / "things"))
    yield made
    for env in ("dev", "tst", "prd"):
        if env in (made / FILE).read_text():
            perron("deploy", "stop", "--env", env, cwd=made)


def on_free_ports(text: str) -> str:
    return re.sub(r"port = \d+", lambda _: f"port = {free_port()}", text)


def test_the_pages_commands_run(folder: Path) -> None:
    commands = [shlex.split(line) for line in re.findall(r"^ {4}perron (.+)$", PAGE, re.MULTILINE)]
    assert len(commands) == 12
    said = {}
    perron("promote", "1", cwd=folder)
    for words in commands:
        name, person = " ".join(words), {"PERRON_USER": "ann@example.org"}
        if name == "deploy local --env dev --reason first try":
            assert "8001" in said["deploy environments"] and not (folder / FILE).exists()
            (folder / FILE).write_text(on_free_ports(environments_file()))
        if name == "deploy environments --write":
            declared = (folder / FILE).read_text()
            perron("deploy", "stop", "--env", "tst", cwd=folder)
            (folder / FILE).unlink()
        if name.startswith("deploy approve"):
            assert (folder / FILE).read_text() == environments_file()  # which the command before this one wrote
            ports = dict(re.findall(r"\[(\w+)\]\ntarget = \"local\"\nport = (\d+)", declared))
            text = TOML.replace("8001", ports["dev"]).replace("8004", ports["prd"])
            text = text.replace("clean_commit = true", "clean_commit = false")  # the project isn't in git
            (folder / FILE).write_text(text.replace('"rmse"\nat_most = 60000', '"accuracy"\nat_least = 0.1'))
            person = {"PERRON_USER": "bob@example.org"}
        if name.startswith("rollback"):
            perron("deploy", "local", "2", "--env", "dev", cwd=folder)
        said[name] = perron(*words, cwd=folder, check=not name.startswith("status"), **person).stdout
    assert said["status"].count("version 1") == 1 and "serving" in said["status --env tst"]
    assert "first try" in said["status --history"]
    assert (
        "bob@example.org approves of things version 1" in said["deploy approve prd 1 --reason compared with last month"]
    )
    assert "version 1" in said["rollback --env dev --reason slower than the one before"]
    assert "is stopped" in said["deploy stop --env dev"] and "ExecStart=" in said["deploy unit --env prd"]


def test_the_pages_commands_for_other_tools_write_files(folder: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines():
        words = shlex.split(line)
        google = (
            'project = "my-project"\nregion = "europe-west4"\nlog_to = ["stdout:"]\n' if "cloud-run" in words else ""
        )
        (folder / FILE).write_text(f"[prd]\n{google}")
        shutil.rmtree(folder / "deploy", ignore_errors=True)
        assert "Nothing is deployed yet" in perron(*words[1:], "--model", "things", cwd=folder).stdout
        assert list((folder / "deploy" / "prd").rglob("*.yaml"))
    (folder / FILE).write_text("[none]\n")


def test_the_pages_file_is_right_and_its_table_is_whole() -> None:
    found, mistakes = parse_environments(TOML)
    assert mistakes == [] and found is not None and found["prd"].approvals == 1
    rows = re.findall(
        r"^\| (`.*?) \| (all|local|the others|compose|kubernetes, cloud-run|kubernetes|cloud-run) \|",
        PAGE,
        re.MULTILINE,
    )
    written = {key: targets for keys, targets in rows for key in re.findall(r"`(\w+)`", keys)}
    names = {
        frozenset(TARGETS): "all", frozenset(TARGETS[1:]): "the others",
        frozenset(("kubernetes", "cloud-run")): "kubernetes, cloud-run",
        **{frozenset({one}): one for one in TARGETS},
    }  # fmt: skip
    assert written == {key: names[targets] for key, (_, _, targets) in KEYS.items()}


def test_what_the_environments_are_is_told_as_json(folder: Path) -> None:
    (folder / FILE).write_text(TOML)
    found = json.loads(perron("deploy", "environments", "--json", cwd=folder).stdout)
    assert [one["name"] for one in found] == ["dev", "prd"]
    assert found[1]["demands"][:2] == ["after dev", "rmse at most 60000"]
    refused = perron("deploy", "environments", "--write", cwd=folder, check=False)
    assert refused.returncode == 1 and "There is an environments.toml already" in refused.stderr
    (folder / FILE).write_text("[none]\n")
