"""Prometheus's files, by Prometheus itself: promtool reads and proves them, and a live one scrapes a real server by them."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from perron.demonstration import serving
from perron.serve.http import free_port
from perron.ship.files import write_files
from perron.ship.grafana import board, grafana_files
from perron.ship.prometheus import ServiceLimits, prometheus_files
from tests.conftest import need, perron
from tests.integration.test_pipeline import run, write_project

ROW = {"size": 1.5, "weight": None, "kind": "a", "code": 2, "on": True, "day": "2024-02-29", "word": "w1"}


def promtool(*words: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([need("promtool"), *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)


def expressions() -> list[str]:
    """Of the board, as Grafana sends them when all models are shown."""
    return [
        target["expr"].replace("$model", ".*")
        for panel in board("things")["panels"]
        for target in panel.get("targets", ())
    ]


@pytest.mark.parametrize(
    ("models", "limits"),
    [
        (["things"], ServiceLimits()),
        ([], ServiceLimits(0.6, 20_000.0, 0.5, 3, 3)),
        (["a-b", "c"], ServiceLimits(1e-6, 0.1, 0.99999, 10**9, 1)),
    ],
    ids=["as it is", "generous", "strict"],
)
def test_promtool_reads_the_files_and_their_tests_pass(
    tmp_path: Path, models: list[str], limits: ServiceLimits
) -> None:
    write_files(tmp_path, prometheus_files(models, limits, token_file="perron.token"))
    (tmp_path / "prometheus" / "perron.token").write_text("x")
    config = promtool("check", "config", "prometheus.yml", cwd=tmp_path / "prometheus")
    assert config.returncode == 0 and config.stdout.count("SUCCESS") == 4, config.stdout + config.stderr
    tests = promtool("test", "rules", "perron.yml", cwd=tmp_path / "prometheus" / "tests")
    assert tests.returncode == 0, tests.stdout + tests.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("share5m > 0.01", "share5m > 0.9"),
        ("p99_5m > 0.5", "p99_5m > 50"),
        ("up{job=", "down{job="),
        ("perron_rollbacks_total) > 0", "perron_rollbacks_total) > 9"),
        ('reason=\\"log\\"', 'reason=\\"lag\\"'),
        ('reason=\\"busy\\"', 'reason=\\"bus\\"'),
        ("severity >= 2", "severity >= 4"),
        ("rate1h > 14.4", "rate1h > 14400"),
        ("rate6h > 6", "rate6h > 6000"),
        ("unlogged:rate5m > 0", "unlogged:rate5m < 0"),
        ("[15m])) == 0", "[15m])) == 1"),
        ("severity >= 2", "severity >= 0"),
    ],
)
def test_the_tests_that_are_written_fail_when_a_rule_is_wrong(tmp_path: Path, before: str, after: str) -> None:
    files = prometheus_files(["things"])
    name = "prometheus/rules/perron-alerts.yml"
    assert before in files[name]
    write_files(tmp_path, {**files, name: files[name].replace(before, after)})
    assert promtool("test", "rules", "perron.yml", cwd=tmp_path / "prometheus" / "tests").returncode == 1


def test_promtool_reads_every_expression_of_the_board(tmp_path: Path) -> None:
    rules = [{"record": f"x{place}", "expr": expr} for place, expr in enumerate(expressions())]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    done = promtool("check", "rules", "rules.yml", cwd=tmp_path)
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout, done.stdout + done.stderr


def test_the_boards_provisioning_names_the_source_and_the_folder() -> None:
    files = grafana_files("things", prometheus_url="http://127.0.0.1:9090", boards_folder="/boards")
    (source,) = yaml.safe_load(files["grafana/provisioning/datasources/perron.yml"])["datasources"]
    (provider,) = yaml.safe_load(files["grafana/provisioning/dashboards/perron.yml"])["providers"]
    made = json.loads(files["grafana/dashboards/perron.json"])
    assert source["uid"] == made["panels"][1]["datasource"]["uid"] and source["url"] == "http://127.0.0.1:9090"
    assert provider["options"]["path"] == "/boards" and made["uid"] == "perron-things"


@contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """The address of a live Prometheus with that configuration."""
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    with subprocess.Popen(
        [need("prometheus"), "--config.file=prometheus.yml", f"--storage.tsdb.path={folder / 'tsdb'}",
         f"--web.listen-address={address}", "--log.level=error"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            await_true(lambda: is_ready(f"http://{address}"))
            yield f"http://{address}"
        finally:
            process.terminate()


def is_ready(address: str) -> bool:
    """Until then Prometheus refuses connections, and then answers 503."""
    try:
        return httpx.get(f"{address}/-/ready").is_success
    except httpx.HTTPError:
        return False


def await_true(is_so: Callable[[], Any], limit_s: float = 45.0) -> Any:
    end = time.monotonic() + limit_s
    while not (found := is_so()):
        assert time.monotonic() < end, "it didn't come in time"
    return found


@pytest.mark.slow
def test_a_live_prometheus_has_data_for_every_rule_and_panel(tmp_path: Path) -> None:
    project = write_project(tmp_path / "things", "label")
    run(project)
    # What a monitor tells of drift comes from a page of its own here: the server gets it from the monitor.
    drift = CollectorRegistry()
    for name, value in (("perron_drift", 0.31), ("perron_drift_severity", 2.0)):
        Gauge(name, name, ["model", "version", "column"], registry=drift).labels("things", "1", "size").set(value)
    for name in (
        "perron_gpu_busy_share",
        "perron_gpu_used_bytes",
        "perron_gpu_memory_bytes",
    ):  # of a machine that has one
        Gauge(name, name, ["gpu", "name"], registry=drift).labels("0", "Fast One").set(0.5)
    page, thread = start_http_server(0, "127.0.0.1", drift)
    with serving(project) as (address, _):
        targets = [f"--target={address}", f"--target=http://127.0.0.1:{page.server_port}"]
        perron("ship", "monitoring", tmp_path / "out", *targets, "-C", project, cwd=tmp_path)
        config = tmp_path / "out" / "prometheus" / "prometheus.yml"
        config.write_text(config.read_text().replace("15s", "1s"))
        with prometheus(config.parent) as place, httpx.Client(base_url=place) as client:

            def query(expr: str) -> list[Any]:
                answer = client.get("/api/v1/query", params={"query": expr}).json()
                assert answer["status"] == "success", (expr, answer)
                return [one for one in answer["data"]["result"] if one["value"][1] != "NaN"]

            def ask() -> None:
                assert httpx.post(f"{address}/v1/predictions", json={"rows": [ROW]}).status_code == 200
                httpx.post(
                    f"{address}/v1/predictions", content=b"nonsense", headers={"Content-Type": "application/json"}
                )

            def has_begun() -> bool:
                ask()
                return bool(
                    query("service:perron_budget_burn:rate6h") and query("reason:perron_requests_refused:rate5m > 0")
                )

            await_true(has_begun)
            rules = yaml.safe_load((config.parent / "rules" / "perron.yml").read_text())
            wanted = [rule["record"] for group in rules["groups"] for rule in group["rules"]] + expressions()

            def lacking() -> list[str]:
                ask()
                return [expr for expr in wanted if not query(expr)]

            await_true(lambda: not lacking())
            (requests,) = query("sum(model:perron_requests:rate5m)")
            assert float(requests["value"][1]) > 0
            groups = client.get("/api/v1/rules").json()["data"]["groups"]
            assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
            firing = await_true(lambda: query('ALERTS{alertstate="firing"}'))
            assert {one["metric"]["alertname"] for one in firing} == {"PerronDrift"}
    page.shutdown()
    page.server_close()
    thread.join()
