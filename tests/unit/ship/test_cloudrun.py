"""Cloud Run's files: what they hold, what is refused, and what the estimate says."""

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
import yaml

from perron.errors import DeclarationError
from perron.ship.cloudrun import (
    CloudRunPlace,
    Prices,
    Usage,
    cloud_run_files,
    estimate_cost,
    gcloud_commands,
)  # fmt: skip
from perron.ship.service import Schedule, ServiceSpec

SPEC = ServiceSpec(
    "house-prices", "house-prices", 7, "ab" * 32, "europe-west4-docker.pkg.dev/p/r/house-prices:7", environment="prd",
    replicas_min=0, replicas_max=5, secrets={"PERRON_LEDGER": "ledger"}, variables={"A": "x $(HOME)"}, log_to=("stdout:",),
    project_image="europe-west4-docker.pkg.dev/p/r/house-prices-project:7",
    schedules=(Schedule("pipeline", "0 3 * * *", ("run",)), Schedule("batch", "0 5 * * *", ("predict", "gs://b/rows.parquet", "-o", "gs://b/out-{date}.parquet", "--once"))),
)  # fmt: skip
PLACE = CloudRunPlace(
    "my-project", "europe-west4", "run@my-project.iam.gserviceaccount.com", "my-bucket", server_url="https://x.run.app"
)


def parsed(spec: ServiceSpec = SPEC, place: CloudRunPlace = PLACE) -> dict[str, Any]:
    return {path: yaml.safe_load(text) for path, text in cloud_run_files(spec, place).items()}


def test_the_server_scales_to_zero_and_is_probed_where_it_answers() -> None:
    made = parsed()["service.yaml"]["spec"]["template"]
    notes, [container] = made["metadata"]["annotations"], made["spec"]["containers"]
    assert (notes["autoscaling.knative.dev/minScale"], notes["autoscaling.knative.dev/maxScale"]) == ("0", "5")
    assert notes["run.googleapis.com/cpu-throttling"] == "true"
    assert (made["spec"]["containerConcurrency"], made["spec"]["timeoutSeconds"]) == (64, 60)
    assert container["resources"]["limits"] == {"cpu": "1000m", "memory": "512Mi"}
    assert container["startupProbe"]["httpGet"] == {"path": "/health/ready", "port": 8000}
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    for probe in (container["startupProbe"], container["livenessProbe"]):  # Cloud Run's own limits
        assert probe["timeoutSeconds"] <= probe["periodSeconds"] <= 240
    assert {"name": "PERRON_LEDGER", "valueFrom": {"secretKeyRef": {"name": "ledger", "key": "latest"}}} in container[
        "env"
    ]
    assert {"name": "A", "value": "x $$(HOME)"} in container["env"]


def test_the_log_is_sent_on_and_deleted_from_the_memory_that_it_takes() -> None:
    [container] = parsed()["service.yaml"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][-3:] == ["--drop-sent", "--log-to", "stdout:"]


def test_every_schedule_is_a_job_and_the_dashboard_a_service_of_one_instance() -> None:
    made = parsed()
    assert set(made) == {"service.yaml", "dashboard.yaml", "job-pipeline.yaml", "job-batch.yaml"}
    job = made["job-batch.yaml"]["spec"]["template"]["spec"]["template"]["spec"]
    assert job["containers"][0]["args"][:2] == ["predict", "gs://b/rows.parquet"]
    assert job["volumes"][0]["csi"]["volumeAttributes"]["bucketName"] == "my-bucket"
    notes = made["dashboard.yaml"]["spec"]["template"]["metadata"]["annotations"]
    assert notes["autoscaling.knative.dev/maxScale"] == "1" and notes["run.googleapis.com/sessionAffinity"] == "true"


def test_the_commands_apply_every_file_in_order() -> None:
    commands = gcloud_commands(SPEC, PLACE, known_jobs=["house-prices-prd-batch"])
    applied = [word for command in commands for word in command if word.endswith(".yaml")]
    assert applied == ["service.yaml", "dashboard.yaml", "job-pipeline.yaml", "job-batch.yaml"]
    assert [command[3] for command in commands if command[1] == "scheduler"] == ["create", "update"]
    assert all(command[0] == "gcloud" and "my-project" in command and "--quiet" in command for command in commands)
    assert not any("allUsers" in command for command in commands)


def test_a_public_service_asks_for_tokens_and_google_for_nothing() -> None:
    public = dataclasses.replace(PLACE, is_public=True)
    guarded = dataclasses.replace(SPEC, secrets={**SPEC.secrets, "PERRON_TOKENS": "tokens"})
    assert any("allUsers" in command for command in gcloud_commands(guarded, public))
    assert "--allow-anonymous" not in cloud_run_files(guarded, public)["service.yaml"]
    assert "--allow-anonymous" in cloud_run_files(SPEC, PLACE)["service.yaml"]
    with pytest.raises(DeclarationError, match="would be public, and ask nobody for a token"):
        cloud_run_files(SPEC, public)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grpc_port": 9000}, "Cloud Run opens one port"),
        ({"name": "a" * 40}, "is longer than Cloud Run's names, 49 characters"),
        ({"cpu": 3}, "cpu is 3; Cloud Run gives less than 1, or 1, 2, 4, 6, 8 cores"),
        ({"cpu": 1.5}, "cpu is 1.5"),
        ({"cpu": 0.05}, "0.08 cores at least"),
        ({"cpu": 0.5}, "takes one request at a time; give cpu=1, or concurrency=1"),
        ({"log_to": ()}, "give log_to a place, such as stdout:"),
        ({"workers": 2}, "2 worker(s) and their log need 640 MiB on Cloud Run"),
        ({"memory_mb": 400}, "memory_mb is 400; with 1 cores Cloud Run gives 512 to 4096 MiB"),
        ({"memory_mb": 8192}, "memory_mb is 8192"),
        ({"cpu": 4, "memory_mb": 1024}, "gives 2048 to 16384 MiB"),
        ({"job_cpu": 5.0}, "job_cpu is 5"),
        ({"job_cpu": 1, "job_memory_mb": 9000}, "job_memory_mb is 9000"),
        ({"secrets": {}}, "give a bucket, and PERRON_LEDGER"),
    ],
)
def test_what_cloud_run_has_not_is_refused_in_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        cloud_run_files(dataclasses.replace(SPEC, **change), PLACE)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"project": "My Project"}, "The project is 'My Project'; give its id"),
        ({"project": "--help"}, "The project is '--help'"),
        ({"region": "Europe"}, "give one such as europe-west4"),
        ({"region": "europe-west4\n"}, "The region"),
        ({"service_account": "me@example.com"}, "which ends with gserviceaccount.com"),
        ({"bucket": "gs://b"}, "without gs://"),
        ({"ingress": "inside"}, "There is no ingress 'inside'"),
        ({"server_url": "http://x"}, "The server's address is 'http://x'"),
    ],
)
def test_a_place_that_can_t_be_is_refused_in_one_line(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        dataclasses.replace(PLACE, **change)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_jobs_need_somebody_to_start_them_and_somewhere_to_keep_what_they_know() -> None:
    with pytest.raises(DeclarationError, match="as a service account, and none is given"):
        cloud_run_files(SPEC, dataclasses.replace(PLACE, service_account=None))
    with pytest.raises(DeclarationError, match="give a bucket"):
        cloud_run_files(SPEC, dataclasses.replace(PLACE, bucket=None))
    alone = dataclasses.replace(SPEC, schedules=(), secrets={}, project_image=None)
    assert set(cloud_run_files(alone, CloudRunPlace("my-project", "europe-west4"))) == {"service.yaml"}


# -- the estimate, against numbers that were worked out by hand

ONES = Prices(1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 1e6, "X")


def test_nothing_costs_nothing_where_nothing_is_kept() -> None:
    assert estimate_cost(SPEC, Usage(0), ONES).total == 0


def test_one_request_is_paid_for_a_tenth_of_a_second() -> None:
    cost = estimate_cost(SPEC, Usage(1, 20), ONES)
    assert cost.cpu == pytest.approx(0.1 * 730 / 24, rel=1e-3)  # a month of days, a tenth of a second each
    assert cost.memory == pytest.approx(cost.cpu / 2)  # half a GiB
    assert cost.requests == pytest.approx(730 / 24)
    assert cost.idle == 0


def test_kept_replicas_wait_for_less() -> None:
    cost = estimate_cost(dataclasses.replace(SPEC, replicas_min=2), Usage(0), ONES)
    assert cost.idle == pytest.approx(2 * 730 * 3600 * (0.5 + 0.25))
    always = estimate_cost(dataclasses.replace(SPEC, replicas_min=2), Usage(0), ONES, has_cpu_always=True)
    assert (always.cpu, always.idle, always.requests) == (pytest.approx(2 * 730 * 3600 * 0.25), 0, 0)


def test_more_load_costs_more_and_never_less_than_the_requests_need() -> None:
    costs = [estimate_cost(SPEC, Usage(10.0**power, 50), ONES) for power in range(12)]
    assert all(a.total <= b.total for a, b in pairwise(costs))
    heavy = estimate_cost(SPEC, Usage(86_400 * 64 * 10, 300), ONES)  # three replicas full
    assert heavy.replicas == pytest.approx(3) and heavy.enough
    assert not costs[-1].enough and "replicas_max is too small" in costs[-1].words()
    assert costs[-1].replicas == SPEC.replicas_max


def test_the_estimate_says_what_it_is() -> None:
    words = estimate_cost(SPEC, Usage(100_000)).words()
    assert words.startswith("An estimate: ") and "USD a month" in words and "\n" not in words


@pytest.mark.parametrize(
    "bad", [{"requests_per_day": -1}, {"requests_per_day": float("nan")}, {"requests_per_day": 1, "mean_ms": 0}]
)
def test_an_assumption_that_can_t_be_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(DeclarationError):
        Usage(**bad)


def test_a_price_below_nothing_is_refused() -> None:
    with pytest.raises(DeclarationError, match="The price cpu_s is -1"):
        Prices(cpu_s=-1)
