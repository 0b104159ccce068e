"""The page on alerts: its commands run, its file is right, and what it says of the commands is so."""

import json
import re
import shlex
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from perron.alerts import Alerts, Rule, default_settings
from perron.alerts.channels import CHANNEL_KINDS
from perron.alerts.events import KINDS
from perron.alerts.settings import parse_settings
from perron.system import load_system
from tests.conftest import need, perron, perron_json
from tests.integration.test_pipeline import write_project
from tests.integration.test_prometheus import promtool
from tests.unit.test_alerts import Found

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "alerts.md").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project that was never run."""
    return write_project(tmp_path / "things", options=', gates=[pn.gate("rmse", at_most=2.5)]')


def test_the_pages_commands_run(folder: Path) -> None:
    words = [shlex.split(line) for line in re.findall(r"^ {4}perron (.+)$", PAGE, re.MULTILINE)]
    assert [" ".join(word[:2]) for word in words] == [
        "alerts init", "alerts check", "alerts list", "alerts list", "alerts test", "ship monitoring"
    ]  # fmt: skip
    said = [perron(*word, cwd=folder).stdout for word in words]
    assert "9 rules" in said[0] and "told by terminal" in said[1] and "No alert is open" in said[2]
    assert "nothing has happened" in said[4]
    for name in re.findall(r"^\| `((?:prometheus|grafana)/[^`]+)`", PAGE, re.MULTILINE):
        assert (folder / "deploy" / name).exists(), name
    need("promtool")
    assert promtool("test", "rules", "prometheus/tests/perron.yml", cwd=folder / "deploy").returncode == 0


def test_the_pages_file_is_right_and_its_tables_are_whole() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings, mistakes = parse_settings(text)
    assert mistakes == [] and settings is not None
    assert settings.rules[0].takes(Found(subject="median_income")) and not settings.rules[0].takes(
        Found(subject="rooms")
    )
    for word in [field.name for field in fields(Rule)] + list(KINDS):
        assert f"`{word}`" in PAGE, word
    for kind, options in CHANNEL_KINDS.items():
        (row,) = re.findall(rf"^\| `{kind}` \|.*$", PAGE, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", row.split("|")[2])) - {"starttls", "tls", "none"} == set(options)


def test_open_alerts_and_what_waits_are_listed(folder: Path) -> None:
    alerts = Alerts(folder / ".perron", default_settings(load_system(folder / "system.py")))
    alerts.judge(
        [Found(kind="performance", subject="rmse", severity="low", value=2.6, model="things")], datetime.now(UTC)
    )
    said = perron("alerts", "list", cwd=folder).stdout
    assert "performance of rmse, things 3" in said and "1 message waits for terminal" in said
    found = perron_json("alerts", "list", cwd=folder)
    assert found["alerts"][0]["last"]["rule"] == "rmse at most 2.5" and found["untold"][0]["channel"] == "terminal"
    (event,) = perron_json("alerts", "list", "--history", cwd=folder)
    for key in event:
        assert f"`{key}`" in PAGE, key
    assert "raised" in perron("alerts", "list", "--history", cwd=folder).stdout


def test_alerts_init_leaves_a_persons_file_alone(folder: Path) -> None:
    perron("alerts", "init", cwd=folder)
    (folder / "alerts.toml").write_text("[[rules]\n")
    done = perron("alerts", "init", cwd=folder, check=False)
    assert done.returncode == 1 and "is there already" in done.stderr
    assert perron("alerts", "check", cwd=folder, check=False).returncode == 1
    perron("alerts", "init", "--force", cwd=folder)
    assert perron_json("alerts", "check", cwd=folder)["mistakes"] == []


def test_alerts_check_names_every_mistake_and_what_the_environment_lacks(folder: Path) -> None:
    path = folder / "alerts.toml"
    path.write_text('[channels.a]\nkind = "slack"\nurl = "${NOT_SET}"\n[[rules]]\nname = "all"\n')
    done = perron("alerts", "check", cwd=folder)
    assert "channel a needs NOT_SET in the environment" in done.stderr
    path.write_text(path.read_text().replace("slack", "slak") + 'kinds = ["drif"]\nlook = 2\n')
    done = perron("alerts", "check", cwd=folder, check=False)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 3
    done = perron("alerts", "check", "--json", cwd=folder, check=False)
    assert done.returncode == 1 and len(json.loads(done.stdout)["mistakes"]) == 3
    done = perron("alerts", "test", "b", cwd=folder, check=False)
    assert done.returncode == 1 and "did you mean 'slack'? (3 mistakes" in done.stderr


def test_alerts_test_says_why_a_channel_did_not_take_it(folder: Path) -> None:
    text = '[channels.a]\nkind = "webhook"\nurl = "http://127.0.0.1:9/secret"\n[[rules]]\nname = "all"\n'
    (folder / "alerts.toml").write_text(text)
    done = perron("alerts", "test", "a", cwd=folder, check=False)
    assert done.returncode == 1 and "a: 127.0.0.1 can't be reached" in done.stderr and "secret" not in done.stderr
    done = perron("alerts", "test", "b", cwd=folder, check=False)
    assert "There is no channel 'b'" in done.stderr


def test_ship_monitoring_keeps_what_a_person_changed(folder: Path) -> None:
    path = folder / "out" / "prometheus" / "prometheus.yml"
    perron("ship", "monitoring", "out", cwd=folder)
    path.write_text("# mine\n")
    said = perron("ship", "monitoring", "out", "--availability", "0.99", cwd=folder).stdout
    assert "prometheus.yml: changed by hand" in said and path.read_text() == "# mine\n"
    stale = perron("ship", "monitoring", "out", "--check", cwd=folder, check=False)
    assert stale.returncode == 1 and "perron.yml: stale" in stale.stdout
    perron("ship", "monitoring", "out", "--force", cwd=folder)
    assert perron_json("ship", "monitoring", "out", "--check", cwd=folder)["prometheus/prometheus.yml"] == "current"
    for words in (["--target", "localhost"], ["--availability", "1"], ["--max-p99-ms", "-1"]):
        done = perron("ship", "monitoring", "out", *words, cwd=folder, check=False)
        assert done.returncode == 1 and done.stderr.count("\n") == 1
