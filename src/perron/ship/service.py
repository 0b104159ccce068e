"""What a deployed service is, judged: the declaration that compose, Kubernetes and Cloud Run files are made of.

ServiceSpec    one version of one model in one environment: image, size, limits, variables, secrets, schedules
Schedule       a verb of Perron that runs by the clock: name, cron, words
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from perron import image
from perron.errors import DeclarationError
from perron.naming import image_fault
from perron.schedule import cron_fault

__all__ = [
    "DASHBOARD_PORT", "FIRST_MB", "LOG", "MODEL", "PERRON", "PROJECT", "STOP_S", "USER", "WORKER_MB", "Schedule", "ServiceSpec",
    "dashboard_words", "least_memory_mb", "project_dockerfile", "serve_words",
]  # fmt: skip

# Where the images have things: the bundle, the server's log, the project and its memory; and who runs in them.
MODEL, LOG, PROJECT, USER = f"/{image.MODEL}", f"/{image.LOG}", "/srv/project", int(image.USER.partition(":")[0])
PERRON = ("python", "-m", "perron")  # both images have that Python in their PATH
DASHBOARD_PORT = 8501

# The least a server needs, in MiB. Measured with a small model after 100,000 rows: 91, and 65 for each further worker.
FIRST_MB, WORKER_MB = 256, 128
LEAST_JOB_MB = 512  # what trains loads far more
STOP_S = 20  # a server's: ten to finish what is under way, five for workers that don't, and the log's last lines
LABEL = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")  # RFC 1035, as Services of Kubernetes and of Cloud Run are named
LONGEST_NAME = 49  # Cloud Run's
LONGEST_ENVIRONMENT, LONGEST_JOB = 20, 52  # a CronJob's Pods add eleven characters to its name
DIGEST = re.compile(r"[0-9a-f]{64}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What the platforms set themselves, or refuse.
TAKEN = re.compile(r"PORT|K_SERVICE|K_REVISION|K_CONFIGURATION|AIP_.*|SAGEMAKER_.*|KUBERNETES_.*|PERRON_SECRETS")


@dataclass(frozen=True)
class Schedule:
    """A verb of Perron that runs by the clock.

    Args:
        name: of the job, after the service's: `pipeline`, `monitor`.
        cron: minute, hour, day of the month, month, day of the week (0 is Sunday), in UTC: `0 3 * * *`.
        command: the words after `perron`: `("run",)`.

    Raises:
        DeclarationError: the name can't be a DNS label, the times aren't five fields of cron, or there is no verb.
    """

    name: str
    cron: str
    command: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_label("The schedule's name", self.name, LONGEST_NAME)
        fault = cron_fault(self.cron)
        if fault is not None:
            raise DeclarationError(f"The schedule {self.name} is {self.cron[:60]!r}; {fault}.")
        if not self.command or self.command[0].startswith("-"):
            raise DeclarationError(f"The schedule {self.name} runs nothing; give a verb of Perron, such as run.")


@dataclass(frozen=True)
class ServiceSpec:
    """One version of one model, as a service in one environment.

    Args:
        name: of the service: up to 49 lower-case letters, digits and hyphens, a letter first (a DNS label).
        model: that it serves.
        version: of the model.
        bundle: SHA-256 of the bundle's manifest, 64 hexadecimal digits.
        image: that holds the bundle, with a tag (not `latest`) or a digest.
        environment: dev, tst, acc, prd or what the project calls them: up to 20 characters, a DNS label.
        port: that the server listens on, from 1024 to 65535: it isn't root.
        grpc_port: for gRPC besides; None for none.
        workers: processes that answer, within each replica.
        replicas_min: that are there without traffic; 0 where the platform scales to zero.
        replicas_max: that are there under the most traffic.
        memory_mb: of a replica, in MiB.
        cpu: of a replica, in cores.
        concurrency: requests that a replica is given at once, before another one is started.
        timeout_s: that a request may take.
        variables: of the environment, by name.
        secrets: which secret of the platform an environment variable is filled from; never the secret itself. With one for
            PERRON_TOKENS (`perron token export` makes it) the server asks for tokens.
        log_to: where predictions go on to beside the replica's own log, as for `perron serve --log-to`.
        schedules: what runs by the clock, in `project_image`.
        job_memory_mb: of what runs in `project_image`, in MiB.
        job_cpu: of what runs there, in cores.
        project_image: the project with all of Perron, for the pipeline, the monitor and the dashboard; None for none.
        availability: the share of good answers that is aimed at, for alerts.
        max_p99_ms: that the slowest 1 % of requests may take, for alerts.

    Raises:
        DeclarationError: one of them can't be that; says which, and what may be.
    """

    name: str
    model: str
    version: int
    bundle: str
    image: str
    environment: str = "dev"
    port: int = 8000
    grpc_port: int | None = None
    workers: int = 1
    replicas_min: int = 1
    replicas_max: int = 3
    memory_mb: int = 512
    cpu: float = 1.0
    concurrency: int = 64
    timeout_s: int = 60
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    log_to: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    job_memory_mb: int = 2048
    job_cpu: float = 1.0
    project_image: str | None = None
    availability: float = 0.999
    max_p99_ms: float = 500.0

    def __post_init__(self) -> None:
        _check_label("The service's name", self.name, LONGEST_NAME)
        _check_label("The environment", self.environment, LONGEST_ENVIRONMENT)
        if not self.model or not self.model.isprintable():
            raise DeclarationError(
                f"The model is {self.model!r}; give the name that its versions are registered under."
            )
        _check_number("version", self.version, 1, 10**9)
        if not DIGEST.fullmatch(self.bundle):
            raise DeclarationError(
                f"The bundle is {self.bundle[:80]!r}; give the SHA-256 of its manifest, 64 hexadecimal digits."
            )
        _check_image("image", self.image)
        if self.project_image is not None:
            _check_image("project_image", self.project_image)
        self._check_sizes()
        self._check_variables()
        self._check_schedules()

    def _check_sizes(self) -> None:
        _check_number("port", self.port, 1024, 65535)
        if self.grpc_port is not None:
            _check_number("grpc_port", self.grpc_port, 1024, 65535)
            if self.grpc_port == self.port:
                raise DeclarationError(f"HTTP and gRPC can't both have port {self.port}; give another grpc_port.")
        _check_number("workers", self.workers, 1, 256)
        _check_number("replicas_min", self.replicas_min, 0, 1000)
        _check_number("replicas_max", self.replicas_max, 1, 1000)
        if self.replicas_min > self.replicas_max:
            raise DeclarationError(
                f"replicas_min is {self.replicas_min}, more than replicas_max, {self.replicas_max}; raise the latter."
            )
        least = least_memory_mb(self.workers)
        if not _is_whole(self.memory_mb) or self.memory_mb < least:
            raise DeclarationError(
                f"memory_mb is {self.memory_mb!r}, and {self.workers} worker(s) need {least} MiB; give at least that."
            )
        _check_number("job_memory_mb", self.job_memory_mb, LEAST_JOB_MB, 10**7)
        for name, cpu in (("cpu", self.cpu), ("job_cpu", self.job_cpu)):
            if isinstance(cpu, bool) or not isinstance(cpu, int | float) or not 0.05 <= cpu <= 256:
                raise DeclarationError(f"{name} is {cpu!r}; give cores from 0.05 to 256, such as 0.5 or 2.")
        _check_number("concurrency", self.concurrency, 1, 1000)
        _check_number("timeout_s", self.timeout_s, 1, 3600)
        if not 0 < self.availability < 1:
            raise DeclarationError(f"availability is {self.availability!r}; give a share between 0 and 1.")
        if not 0 < self.max_p99_ms < float("inf"):
            raise DeclarationError(f"max_p99_ms is {self.max_p99_ms!r}; give a number above 0.")

    def _check_variables(self) -> None:
        for what, names in (("variable", self.variables), ("secret's variable", self.secrets)):
            for name in names:
                if not VARIABLE.fullmatch(name):
                    raise DeclarationError(f"The {what} is {name[:80]!r}; use letters, digits and _, no digit first.")
                if TAKEN.fullmatch(name):
                    raise DeclarationError(f"The {what} {name} is set by the platform; leave it out.")
        for name, value in self.variables.items():
            if not isinstance(value, str) or "\0" in value:
                raise DeclarationError(f"The variable {name} is {value!r:.60}; give a text.")
            if name in self.secrets:
                raise DeclarationError(f"{name} is a variable and a secret; keep one.")
        for name, secret in self.secrets.items():
            _check_label(f"The secret of {name}", secret, 63)
        for place in self.log_to:
            if ":" not in place or not place.isprintable():
                raise DeclarationError(f"log_to has {place[:80]!r}; give a URL such as stdout: or s3://bucket/folder.")

    def _check_schedules(self) -> None:
        if self.schedules and self.project_image is None:
            raise DeclarationError(
                f"The schedule {self.schedules[0].name} runs the project, and there is no project_image; name one."
            )
        seen: set[str] = set()
        for schedule in self.schedules:
            if schedule.name in seen:
                raise DeclarationError(f"There are two schedules {schedule.name}; rename one.")
            seen.add(schedule.name)
            _check_label("The job's name", f"{self.name}-{schedule.name}", LONGEST_JOB)

    @property
    def has_tokens(self) -> bool:
        """Whether the server asks for tokens: those that the secret of PERRON_TOKENS holds."""
        return "PERRON_TOKENS" in self.secrets

    @property
    def resource(self) -> str:
        """The name with the environment: `house-prices-prd`."""
        return f"{self.name}-{self.environment}"


def serve_words(spec: ServiceSpec, *, keeps_log: bool = True) -> list[str]:
    """The command of a service's container. Without tokens everybody who gets to it may ask: what is before it says who does.

    Args:
        spec: the service.
        keeps_log: on a disk that lasts; else what was sent on is deleted there, so that it doesn't fill.
    """
    words = [*PERRON, "serve", str(spec.version), "--bundle", MODEL, "--log-folder", LOG]
    words += ["--host", "0.0.0.0", "--port", str(spec.port)]
    words += [] if spec.has_tokens else ["--allow-anonymous"]
    words += ["--workers", str(spec.workers), "--log-format", "json", "--log-level", "info"]
    words += [] if spec.grpc_port is None else ["--grpc-port", str(spec.grpc_port)]
    words += ["--drop-sent"] if spec.log_to and not keeps_log else []
    return words + [word for place in spec.log_to for word in ("--log-to", place)]


def dashboard_words(server: str, port: int = DASHBOARD_PORT) -> list[str]:
    """The command of the dashboard's container; who may reach it is left to what is before it."""
    return [*PERRON, "dashboard", "--host", "0.0.0.0", "--port", str(port), "--server", server, "--allow-anonymous"]


def project_dockerfile(python: str, version: str) -> dict[str, str]:
    """The files of the build of `project_image`, which runs what trains and shows: a Dockerfile and its ignore file, by path.

    Args:
        python: of the base image, such as 3.12.
        version: of Perron, the least.
    """
    dockerfile = f"""# Written by `perron deploy`, which leaves it alone once you changed it.
# docker build -f project.Dockerfile -t IMAGE PROJECT
FROM python:{python}-slim
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp OMP_WAIT_POLICY=passive
RUN apt-get update \\
    && apt-get install -y --no-install-recommends libgomp1 \\
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir --root-user-action=ignore "perron[dashboard,gcs,monitor,postgres,s3]>={version}"
WORKDIR {PROJECT}
COPY . .
# What it keeps is on a volume there, which takes its owner from here.
RUN mkdir -p .perron && chown -R {USER}:{USER} .perron
USER {USER}:{USER}
ENTRYPOINT {json.dumps(list(PERRON))}
"""
    ignore = ".git\n.perron\n.venv\n**/__pycache__\n**/.env\n**/secrets\n"
    return {"project.Dockerfile": dockerfile, "project.Dockerfile.dockerignore": ignore}


def least_memory_mb(workers: int) -> int:
    """MiB that so many processes need with a small model."""
    return FIRST_MB + WORKER_MB * (workers - 1)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_number(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise DeclarationError(f"{name} is {value!r}; give a whole number from {low} to {high}.")


def _check_label(what: str, value: str, longest: int) -> None:
    if not isinstance(value, str) or len(value) > longest or not LABEL.fullmatch(value):
        raise DeclarationError(
            f"{what} is {str(value)[:80]!r}; use up to {longest} lower-case letters, digits and hyphens, a letter first and no hyphen last."
        )


def _check_image(name: str, reference: str) -> None:
    fault = image_fault(reference)
    if fault is not None:
        raise DeclarationError(f"{name} is {reference[:120]!r}; {fault}.")
