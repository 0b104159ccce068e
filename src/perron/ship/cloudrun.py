"""A service and a place in Google Cloud in; Cloud Run's YAML, the `gcloud` commands that apply it, and what it may cost out.

    service.yaml          the server: scales to zero where `replicas_min` is 0
    dashboard.yaml        the dashboard, where there is a project's image and the server's address is known
    job-{schedule}.yaml   training, monitoring, batch predictions: a job each, which Cloud Scheduler starts

A container's disk on Cloud Run is its memory, and ends with it: the log goes on to `log_to`, and what jobs keep is in a
bucket, their ledger in a database. One port is open: there is no gRPC beside HTTP.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from math import ceil, exp
from typing import Any

from perron.errors import DeclarationError, nearest
from perron.ship.service import (
    DASHBOARD_PORT,
    LOG,
    PERRON,
    PROJECT,
    USER,
    Schedule,
    ServiceSpec,
    dashboard_words,
    least_memory_mb,
    serve_words,
)
from perron.ship.yaml import to_yaml

__all__ = [
    "CloudRunPlace",
    "Cost",
    "Prices",
    "Usage",
    "cloud_run_files",
    "estimate_cost",
    "gcloud_commands",
    "known_jobs_command",
]

HEAD = "Written by `perron deploy cloud-run`, which leaves it alone once you changed it."
PROJECT_ID = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
REGION = re.compile(r"[a-z]+-[a-z]+[0-9]{1,2}")
BUCKET = re.compile(r"[a-z0-9][a-z0-9_.-]{1,61}[a-z0-9]")
ACCOUNT = re.compile(
    r"[a-z0-9-]{3,30}@[a-z0-9.:-]+\.gserviceaccount\.com|[0-9]+-compute@developer\.gserviceaccount\.com"
)
INGRESS = ("all", "internal", "internal-and-cloud-load-balancing")
LONGEST_NAME = 49
LOG_MB = 128  # of the memory, for each worker: a segment has 64 MB until it is sent on and deleted; a full log refuses requests
# Cloud Run's sizes: cores, the least and the most MiB with them. Less than a core takes one request at a time.
SIZES = {1: (128, 4096), 2: (128, 8192), 4: (2048, 16_384), 6: (4096, 24_576), 8: (4096, 32_768)}
LEAST_MB = 512  # of the second generation
MONTH_S = 730 * 3600


@dataclass(frozen=True)
class CloudRunPlace:
    """Where in Google Cloud, and who may ask.

    Args:
        project: its id.
        region: such as europe-west4.
        service_account: that containers and the scheduler act as; None for the project's default, without a scheduler.
        bucket: of Cloud Storage, in which jobs and the dashboard keep the project's memory; None where there are none.
        ingress: from which networks requests come: all, internal, internal-and-cloud-load-balancing.
        is_public: everybody may ask; else Google asks who it is (IAM, the role run.invoker).
        has_cpu_always: a core also between requests, which costs more and sends the log on at once.
        server_url: of the server, which the dashboard's form asks; None writes no dashboard.

    Raises:
        DeclarationError: one of them can't be that.
    """

    project: str
    region: str
    service_account: str | None = None
    bucket: str | None = None
    ingress: str = "all"
    is_public: bool = False
    has_cpu_always: bool = False
    server_url: str | None = None

    def __post_init__(self) -> None:
        if not PROJECT_ID.fullmatch(self.project):
            raise DeclarationError(
                f"The project is {self.project[:60]!r}; give its id: 6 to 30 lower-case letters, digits and hyphens."
            )
        if not REGION.fullmatch(self.region):
            raise DeclarationError(f"The region is {self.region[:60]!r}; give one such as europe-west4.")
        if self.service_account is not None and not ACCOUNT.fullmatch(self.service_account):
            raise DeclarationError(
                f"The service account is {self.service_account[:80]!r}; give its address, which ends with gserviceaccount.com."
            )
        if self.bucket is not None and not BUCKET.fullmatch(self.bucket):
            raise DeclarationError(f"The bucket is {self.bucket[:80]!r}; give its name, without gs://.")
        if self.ingress not in INGRESS:
            raise DeclarationError(f"There is no ingress {self.ingress[:60]!r}; {nearest(self.ingress[:60], INGRESS)}")
        if self.server_url is not None and not re.fullmatch(
            r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?/?", self.server_url
        ):
            raise DeclarationError(
                f"The server's address is {self.server_url[:80]!r}; give one such as https://….run.app."
            )


def cloud_run_files(spec: ServiceSpec, place: CloudRunPlace) -> dict[str, str]:
    """The files by path.

    Raises:
        DeclarationError: Cloud Run has no such size, the name is too long, there is a gRPC port, or jobs have nowhere to
            keep what they know.
    """
    _check(spec, place)
    made = {"service.yaml": _service(spec, place)}
    if spec.project_image is not None and place.server_url is not None:
        made["dashboard.yaml"] = _dashboard(spec, place)
    for schedule in spec.schedules:
        made[f"job-{schedule.name}.yaml"] = _job(spec, place, schedule)
    return {path: to_yaml(value, head=HEAD) for path, value in made.items()}


def gcloud_commands(spec: ServiceSpec, place: CloudRunPlace, *, known_jobs: Collection[str] = ()) -> list[list[str]]:
    """The commands that apply the files, in order, to be run in their folder.

    Args:
        known_jobs: of Cloud Scheduler, by name, that are there already (`known_jobs_command` lists them): they are changed
            where the others are made.

    Raises:
        DeclarationError: as of `cloud_run_files`.
    """
    where = ["--project", place.project, "--region", place.region, "--quiet"]
    files = cloud_run_files(spec, place)
    commands = [["gcloud", "run", "services", "replace", "service.yaml", *where]]
    if place.is_public:
        commands.append(
            ["gcloud", "run", "services", "add-iam-policy-binding", spec.resource, "--member", "allUsers",
             "--role", "roles/run.invoker", *where]
        )  # fmt: skip
    if "dashboard.yaml" in files:
        commands.append(["gcloud", "run", "services", "replace", "dashboard.yaml", *where])
    for schedule in spec.schedules:
        commands.append(["gcloud", "run", "jobs", "replace", f"job-{schedule.name}.yaml", *where])
        commands.append(_scheduler(spec, place, schedule, known_jobs))
    return commands


def known_jobs_command(place: CloudRunPlace) -> list[str]:
    """The command whose output has the names of Cloud Scheduler's jobs, one a line."""
    return ["gcloud", "scheduler", "jobs", "list", "--project", place.project, "--location", place.region,
            "--format", "value(name.basename())", "--quiet"]  # fmt: skip


def _scheduler(spec: ServiceSpec, place: CloudRunPlace, schedule: Schedule, known: Collection[str]) -> list[str]:
    name = f"{spec.resource}-{schedule.name}"
    assert place.service_account is not None
    uri = f"https://run.googleapis.com/v2/projects/{place.project}/locations/{place.region}/jobs/{name}:run"
    return [
        "gcloud", "scheduler", "jobs", "update" if name in known else "create", "http", name,
        "--schedule", schedule.cron, "--time-zone", "Etc/UTC", "--uri", uri, "--http-method", "POST",
        "--oauth-service-account-email", place.service_account, "--project", place.project,
        "--location", place.region, "--quiet",
    ]  # fmt: skip


# ------------------------------------------------------------------ what Cloud Run has


def _check(spec: ServiceSpec, place: CloudRunPlace) -> None:
    if spec.grpc_port is not None:
        raise DeclarationError("Cloud Run opens one port of a service; leave grpc_port out.")
    for name in (
        spec.resource,
        f"{spec.resource}-dashboard",
        *(f"{spec.resource}-{one.name}" for one in spec.schedules),
    ):
        if len(name) > LONGEST_NAME:
            raise DeclarationError(
                f"{name} is longer than Cloud Run's names, {LONGEST_NAME} characters; rename the service."
            )
    if not spec.log_to:
        raise DeclarationError(
            "On Cloud Run the log is in a replica's memory, and ends with it; give log_to a place, such as stdout:."
        )
    least = least_memory_mb(spec.workers) + LOG_MB * spec.workers
    if spec.memory_mb < least:
        raise DeclarationError(
            f"memory_mb is {spec.memory_mb}; {spec.workers} worker(s) and their log need {least} MiB on Cloud Run."
        )
    if place.is_public and not spec.has_tokens:
        raise DeclarationError(
            "The service would be public, and ask nobody for a token; give a secret for PERRON_TOKENS, or leave Google to ask."
        )
    _check_size("", spec.cpu, spec.memory_mb)
    if spec.cpu < 1 and spec.concurrency > 1:
        raise DeclarationError(
            f"On Cloud Run a replica of {spec.cpu:g} cores takes one request at a time; give cpu=1, or concurrency=1."
        )
    if spec.schedules:
        _check_size("job_", spec.job_cpu, spec.job_memory_mb)
        if place.service_account is None:
            raise DeclarationError(
                f"Cloud Scheduler starts the schedule {spec.schedules[0].name} as a service account, and none is given; give one."
            )
    if spec.schedules or (spec.project_image is not None and place.server_url is not None):
        has_ledger = "PERRON_LEDGER" in spec.variables or "PERRON_LEDGER" in spec.secrets
        if not has_ledger or place.bucket is None:
            raise DeclarationError(
                "What a job knows ends with it on Cloud Run; give a bucket, and PERRON_LEDGER (a Postgres URL) as a secret."
            )


def _check_size(prefix: str, cpu: float, memory_mb: int) -> None:
    if cpu < 1 and not cpu >= 0.08:
        raise DeclarationError(f"{prefix}cpu is {cpu:g}; Cloud Run gives 0.08 cores at least.")
    if cpu >= 1 and cpu not in SIZES:
        raise DeclarationError(
            f"{prefix}cpu is {cpu:g}; Cloud Run gives less than 1, or {', '.join(map(str, SIZES))} cores."
        )
    least, most = SIZES.get(int(cpu), (128, 512 if cpu < 0.5 else 1024))
    least = max(least, LEAST_MB)
    if not least <= memory_mb <= most:
        raise DeclarationError(
            f"{prefix}memory_mb is {memory_mb}; with {cpu:g} cores Cloud Run gives {least} to {most} MiB."
        )


def _labels(spec: ServiceSpec, component: str) -> dict[str, str]:
    return {"app": spec.name, "component": component, "environment": spec.environment, "managed-by": "perron"}


def _resources(cpu: float, memory_mb: int) -> dict[str, Any]:
    return {"limits": {"cpu": f"{round(cpu * 1000)}m", "memory": f"{memory_mb}Mi"}}


def _environment(spec: ServiceSpec) -> list[dict[str, Any]]:
    """Variables, and secrets of Secret Manager by name: their newest version, as each instance starts."""
    plain = [{"name": name, "value": _plain(value)} for name, value in {"HOME": "/tmp", **spec.variables}.items()]
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": of, "key": "latest"}}}
        for name, of in spec.secrets.items()
    ]
    return [*plain, *secret]


def _plain(text: str) -> str:
    """The text, in which Knative looks for no variables."""
    return text.replace("$(", "$$(")


def _service(spec: ServiceSpec, place: CloudRunPlace) -> dict[str, Any]:
    words = serve_words(spec, keeps_log=False)
    probe = {"httpGet": {"path": "/health/ready", "port": spec.port}}
    container = {
        "name": "server",
        "image": spec.image,
        "command": list(PERRON),
        "args": [_plain(word) for word in words[len(PERRON) :]],
        "ports": [{"name": "http1", "containerPort": spec.port}],
        "env": _environment(spec),
        "resources": _resources(spec.cpu, spec.memory_mb),
        "startupProbe": {**probe, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {
            "httpGet": {"path": "/health/live", "port": spec.port},
            "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3,
        },
        "volumeMounts": [{"name": "log", "mountPath": LOG}],
    }  # fmt: skip
    annotations = {
        "autoscaling.knative.dev/minScale": str(spec.replicas_min),
        "autoscaling.knative.dev/maxScale": str(spec.replicas_max),
        "run.googleapis.com/cpu-throttling": "false" if place.has_cpu_always else "true",
        "run.googleapis.com/startup-cpu-boost": "true",
        "run.googleapis.com/execution-environment": "gen2",
        "perron/model": spec.model,
        "perron/version": str(spec.version),
        "perron/bundle": f"sha256:{spec.bundle}",
    }
    volumes = [{"name": "log", "emptyDir": {"medium": "Memory", "sizeLimit": f"{LOG_MB * spec.workers}Mi"}}]
    return _knative(
        spec, place, "server", spec.resource, container, annotations, volumes, spec.concurrency, spec.timeout_s
    )


def _dashboard(spec: ServiceSpec, place: CloudRunPlace) -> dict[str, Any]:
    """One instance at most: a page's state is in its process. Never public: it asks nobody who they are, so Google does."""
    assert place.server_url is not None
    words = dashboard_words(place.server_url.rstrip("/"))
    container = {
        "name": "dashboard",
        **_project_container(spec, words),
        "ports": [{"name": "http1", "containerPort": DASHBOARD_PORT}],
        "startupProbe": {
            "httpGet": {"path": "/_stcore/health", "port": DASHBOARD_PORT},
            "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 60,
        },
    }  # fmt: skip
    annotations = {
        "autoscaling.knative.dev/minScale": "0",
        "autoscaling.knative.dev/maxScale": "1",
        "run.googleapis.com/cpu-throttling": "true",
        "run.googleapis.com/startup-cpu-boost": "true",
        "run.googleapis.com/execution-environment": "gen2",
        "run.googleapis.com/sessionAffinity": "true",
    }
    name = f"{spec.resource}-dashboard"
    return _knative(spec, place, "dashboard", name, container, annotations, [_state(place)], 80, 3600)


def _knative(
    spec: ServiceSpec,
    place: CloudRunPlace,
    component: str,
    name: str,
    container: dict[str, Any],
    annotations: dict[str, str],
    volumes: list[dict[str, Any]],
    concurrency: int,
    timeout_s: int,
) -> dict[str, Any]:
    labels = _labels(spec, component)
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "labels": {**labels, "cloud.googleapis.com/location": place.region},
            "annotations": {"run.googleapis.com/ingress": place.ingress},
        },
        "spec": {
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {
                    "containerConcurrency": concurrency,
                    "timeoutSeconds": timeout_s,
                    **_account(place),
                    "containers": [container],
                    "volumes": volumes,
                },
            },
            "traffic": [{"latestRevision": True, "percent": 100}],
        },
    }


def _job(spec: ServiceSpec, place: CloudRunPlace, schedule: Schedule) -> dict[str, Any]:
    labels = _labels(spec, "job")
    container = {"name": "job", **_project_container(spec, [*PERRON, *schedule.command])}
    return {
        "apiVersion": "run.googleapis.com/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{spec.resource}-{schedule.name}",
            "labels": {**labels, "cloud.googleapis.com/location": place.region},
        },
        "spec": {
            "template": {
                "metadata": {"labels": labels, "annotations": {"run.googleapis.com/execution-environment": "gen2"}},
                "spec": {
                    "taskCount": 1,
                    "parallelism": 1,
                    "template": {
                        "spec": {
                            "maxRetries": 1,
                            "timeoutSeconds": "86400",
                            **_account(place),
                            "containers": [container],
                            "volumes": [_state(place)],
                        }
                    },
                },
            }
        },
    }


def _project_container(spec: ServiceSpec, words: list[str]) -> dict[str, Any]:
    assert spec.project_image is not None
    return {
        "image": spec.project_image,
        "command": list(PERRON),
        "args": [_plain(word) for word in words[len(PERRON) :]],
        "workingDir": PROJECT,
        "env": _environment(spec),
        "resources": _resources(spec.job_cpu, spec.job_memory_mb),
        "volumeMounts": [{"name": "state", "mountPath": f"{PROJECT}/.perron"}],
    }


def _state(place: CloudRunPlace) -> dict[str, Any]:
    attributes = {"bucketName": place.bucket, "mountOptions": f"uid={USER};gid={USER}"}
    return {"name": "state", "csi": {"driver": "gcsfuse.run.googleapis.com", "volumeAttributes": attributes}}


def _account(place: CloudRunPlace) -> dict[str, str]:
    return {} if place.service_account is None else {"serviceAccountName": place.service_account}


# ------------------------------------------------------------------ what it may cost


@dataclass(frozen=True)
class Prices:
    """Of Cloud Run, in one currency. The defaults are the public list prices of regions of the first tier as they were
    known at the end of 2024, without the free quota; they change, so that yours are to be given.

    Args:
        cpu_s: a core for a second in which a request is answered.
        gib_s: a GiB of memory for such a second.
        idle_cpu_s: a core for a second in which a kept replica waits.
        idle_gib_s: a GiB for such a second.
        always_cpu_s: a core for a second where it is always given.
        always_gib_s: a GiB for such a second.
        million_requests: a million of them; none where a core is always given.
        currency: of all of them.
    """

    cpu_s: float = 0.000024
    gib_s: float = 0.0000025
    idle_cpu_s: float = 0.0000025
    idle_gib_s: float = 0.0000025
    always_cpu_s: float = 0.000018
    always_gib_s: float = 0.000002
    million_requests: float = 0.40
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "currency" and not 0 <= value < float("inf"):
                raise DeclarationError(f"The price {name} is {value!r}; give a number from 0.")


@dataclass(frozen=True)
class Usage:
    """What is assumed of the traffic.

    Args:
        requests_per_day: all day long at the same rate; a peak needs more replicas for less time.
        mean_ms: that one takes, as Cloud Run sees it.
    """

    requests_per_day: float
    mean_ms: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.requests_per_day <= 1e11:
            raise DeclarationError(f"requests_per_day is {self.requests_per_day!r}; give a number from 0.")
        if not 0 < self.mean_ms <= 3_600_000:
            raise DeclarationError(f"mean_ms is {self.mean_ms!r}; give milliseconds above 0.")


@dataclass(frozen=True)
class Cost:
    """An estimate of a month of 730 hours, by part.

    `replicas` is the mean number at work; `enough` whether `replicas_max` of them bear the load.
    """

    cpu: float
    memory: float
    requests: float
    idle: float
    replicas: float
    enough: bool
    currency: str

    @property
    def total(self) -> float:
        return self.cpu + self.memory + self.requests + self.idle

    def words(self) -> str:
        """The estimate in a line or two."""
        text = (
            f"An estimate: {self.total:,.2f} {self.currency} a month (cores {self.cpu:,.2f}, memory {self.memory:,.2f}, "
            f"requests {self.requests:,.2f}, waiting replicas {self.idle:,.2f}); {self.replicas:.2f} replicas at work on the mean."
        )
        return text if self.enough else text + "\nreplicas_max is too small for that load; requests would be refused."


def estimate_cost(
    spec: ServiceSpec, usage: Usage, prices: Prices | None = None, *, has_cpu_always: bool = False
) -> Cost:
    """What the server may cost in a month; jobs, the dashboard, traffic out of the region and storage aren't in it.

    Requests come at random (Poisson) and are answered together. A replica is paid for while it answers at least one,
    in steps of 100 ms: with a load of `a` requests at once, one replica for 1 - exp(-a) of the time, or as many as
    `concurrency` asks for, whichever is more.
    """
    prices = prices or Prices()
    rate = usage.requests_per_day / 86_400
    load = rate * ceil(usage.mean_ms / 100) * 0.1
    needed = rate * usage.mean_ms / 1000 / spec.concurrency
    at_work = max(1 - exp(-load), needed)
    enough = needed <= spec.replicas_max
    at_work = min(at_work, float(spec.replicas_max))
    gib = spec.memory_mb / 1024
    if has_cpu_always:
        there = max(float(spec.replicas_min), at_work)
        seconds = there * MONTH_S
        return Cost(
            seconds * spec.cpu * prices.always_cpu_s,
            seconds * gib * prices.always_gib_s,
            0.0,
            0.0,
            at_work,
            enough,
            prices.currency,
        )
    seconds = at_work * MONTH_S
    waiting = max(0.0, spec.replicas_min - at_work) * MONTH_S
    return Cost(
        seconds * spec.cpu * prices.cpu_s, seconds * gib * prices.gib_s, rate * MONTH_S / 1e6 * prices.million_requests,
        waiting * (spec.cpu * prices.idle_cpu_s + gib * prices.idle_gib_s), at_work, enough, prices.currency,
    )  # fmt: skip
