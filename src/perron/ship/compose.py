"""A service in; a Docker Compose project out: the server, and what belongs around it, each part by a profile.

    compose.yaml      the services; a profile starts more: monitoring, dashboard, postgres, storage, jobs
    .env.example      what may be set beside it
    prometheus/…, grafana/…    what the monitoring reads
    project.Dockerfile         how the project's image is made, where one is named

`course_files` is the other shape: preprocess, train, serve and web, which share the project's memory on one volume.
Images of others are pinned by the tag of a version; a digest is known once they were pulled.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import perron
from perron.errors import DeclarationError, nearest
from perron.levels import ServiceLimits
from perron.ship.grafana import grafana_files
from perron.ship.prometheus import prometheus_files
from perron.ship.service import (
    DASHBOARD_PORT,
    FIRST_MB,
    LOG,
    PERRON,
    PROJECT,
    STOP_S,
    USER,
    ServiceSpec,
    dashboard_words,
    project_dockerfile,
    serve_words,
)  # fmt: skip
from perron.ship.yaml import to_yaml

__all__ = ["PROFILES", "compose_files", "course_files"]

HEAD = "Written by `perron deploy compose`, which leaves it alone once you changed it."
PROFILES = ("monitoring", "dashboard", "postgres", "storage")
PROMETHEUS, GRAFANA = "prom/prometheus:v3.5.0", "grafana/grafana:12.1.1"
POSTGRES, MINIO = "postgres:17.6", "minio/minio:RELEASE.2025-09-07T16-13-09Z"
OWNED = {"owner": {"condition": "service_completed_successfully"}}
NAMES = ("owner", "server", "dashboard", "prometheus", "grafana", "postgres", "storage", "bucket")
BOARDS, METRICS = "/srv/boards", "metrics-token"  # a token with the scope read, for Prometheus
ROTATED = {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}


def compose_files(spec: ServiceSpec, *, profiles: Sequence[str] = PROFILES) -> dict[str, str]:
    """The files by path. One container answers: how many replicas there are is for platforms that part requests.

    Args:
        spec: the service.
        profiles: parts that are written; each is started by `--profile` or COMPOSE_PROFILES.

    Raises:
        DeclarationError: a profile that isn't known, a schedule with a service's name, or a profile that needs the project's image where there is none.
    """
    for profile in profiles:
        if profile not in PROFILES:
            raise DeclarationError(f"There is no profile {profile[:40]!r}; {nearest(profile[:40], PROFILES)}")
    if "dashboard" in profiles and spec.project_image is None:
        raise DeclarationError(
            "The dashboard shows the project, and there is no project_image; name one, or leave the profile out."
        )
    volumes = ["log"]
    if "dashboard" in profiles or spec.schedules:
        volumes.append("state")
    services: dict[str, Any] = {"owner": _owner(spec.image, volumes, spec), "server": _server(spec)}
    files: dict[str, str] = {}
    if "dashboard" in profiles:
        services["dashboard"] = _dashboard(spec, "http://server:" + str(spec.port), "server", ["dashboard"])
    for schedule in spec.schedules:
        if schedule.name in NAMES:
            raise DeclarationError(f"The schedule {schedule.name} has the name of a service; rename it.")
        job = _job(spec, (*PERRON, *schedule.command), ["jobs"])
        services[schedule.name] = {**job, "depends_on": OWNED}
    if "monitoring" in profiles:
        services |= _monitoring(spec)
        volumes += ["prometheus", "grafana"]
        limits = ServiceLimits(availability=spec.availability, max_p99_ms=spec.max_p99_ms)
        files |= prometheus_files(
            [spec.model],
            limits,
            targets=[f"http://server:{spec.port}"],
            token_file=f"/run/secrets/{METRICS}" if spec.has_tokens else None,
        )
        files |= grafana_files(spec.name, boards_folder=BOARDS)
    secrets = dict.fromkeys(spec.secrets.values())
    if "monitoring" in profiles:
        secrets["grafana-password"] = None
        if spec.has_tokens:
            secrets[METRICS] = None
    if "postgres" in profiles:
        services["postgres"] = _postgres()
        volumes.append("postgres")
        secrets["postgres-password"] = None
    if "storage" in profiles:
        services |= _storage()
        volumes.append("storage")
        secrets |= dict.fromkeys(("storage-user", "storage-password"))
    document = {
        "name": spec.resource,
        "services": services,
        "volumes": {name: {} for name in volumes},
        **({"secrets": {name: {"file": f"./secrets/{name}"} for name in secrets}} if secrets else {}),
    }
    head = "\n".join([HEAD, *_clock(spec)])
    return {
        "compose.yaml": to_yaml(document, head=head),
        ".env.example": _variables(profiles, spec.port),
        ".gitignore": ".env\nsecrets/\n",
        **(_build() if spec.project_image is not None else {}),
        **files,
    }


def course_files(spec: ServiceSpec) -> dict[str, str]:
    """The files of the shape with four services, which share the volume `state`: preprocess, train, serve, web.

    They serve what they trained, whatever version the spec has.

    Raises:
        DeclarationError: there is no project_image, or there is something that they have no use for.
    """
    for key in ("grpc_port", "log_to", "schedules"):
        if getattr(spec, key):
            raise DeclarationError(f"The four services have no use for {key}; leave it out.")
    if spec.project_image is None:
        raise DeclarationError("The four services run the project, and there is no project_image; name one.")
    serving = [*PERRON, "serve", "--host", "0.0.0.0", "--port", str(spec.port), "--allow-anonymous"]
    serving += ["--workers", str(spec.workers)]
    services = {
        "owner": _owner(spec.project_image, ["state"], spec),
        "preprocess": {**_job(spec, (*PERRON, "check"), [], has_log=False), "depends_on": OWNED},
        "train": {
            **_job(spec, (*PERRON, "run"), [], has_log=False),
            "depends_on": {"preprocess": {"condition": "service_completed_successfully"}},
        },
        "serve": {
            **_own(spec.project_image, serving, spec, has_log=False),
            "depends_on": {"train": {"condition": "service_completed_successfully"}},
            "ports": [_published("PERRON_PORT", spec.port)],
            "healthcheck": _health(spec.port, "/health/ready"),
            "restart": "unless-stopped",
        },
        "web": _dashboard(spec, f"http://serve:{spec.port}", "serve", [], has_log=False),
    }
    document = {
        "name": spec.resource,
        "services": services,
        "volumes": {"state": {}},
        **_secrets_of(spec),
    }
    return {"compose.yaml": to_yaml(document, head=HEAD), ".gitignore": ".env\nsecrets/\n", **_build()}


def _build() -> dict[str, str]:
    """How the project's image is made: with this Python, and this Perron or a later one."""
    return project_dockerfile(f"{sys.version_info.major}.{sys.version_info.minor}", perron.__version__)


# ------------------------------------------------------------------ what is Perron's


def _own(image: str, words: Sequence[str], spec: ServiceSpec, *, is_server: bool = False, has_log: bool = True) -> dict[str, Any]:  # fmt: skip
    """What every container of Perron's has: no root, nothing to write but what is mounted, limits."""
    volumes = [f"log:{LOG}"] if is_server else [f"state:{PROJECT}/.perron"]
    if has_log and not is_server:
        volumes.append(f"log:{PROJECT}/.perron/predictions")
    is_serving = words[len(PERRON)] == "serve"
    cpu, memory_mb = (spec.cpu, spec.memory_mb) if is_serving else (spec.job_cpu, spec.job_memory_mb)
    variables = {"HOME": "/tmp", **spec.variables}
    if spec.secrets:
        variables["PERRON_SECRETS"] = "/run/secrets"
    made: dict[str, Any] = {
        "image": image,
        "entrypoint": list(PERRON),
        "command": [_plain(word) for word in words[len(PERRON) :]],
        "user": f"{USER}:{USER}",
        "environment": {name: _plain(value) for name, value in variables.items()},
        "volumes": volumes,
        "read_only": True,
        "tmpfs": ["/tmp:size=64m,mode=1777"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "deploy": {"resources": {"limits": {"cpus": f"{cpu:g}", "memory": f"{memory_mb}M"}}},
        "logging": ROTATED,
    }
    if not is_server:
        made["working_dir"] = PROJECT
    if spec.secrets:
        made["secrets"] = [{"source": secret, "target": name} for name, secret in spec.secrets.items()]
    return made


def _server(spec: ServiceSpec) -> dict[str, Any]:
    made = _own(spec.image, serve_words(spec), spec, is_server=True)
    made["environment"] |= {"PERRON_LOG_TO": "${PERRON_LOG_TO:-}"}
    ports = [_published("PERRON_PORT", spec.port)]
    ports += [] if spec.grpc_port is None else [_published("PERRON_GRPC_PORT", spec.grpc_port)]
    return {
        **made,
        "depends_on": OWNED,
        "ports": ports,
        "healthcheck": _health(spec.port, "/health/ready"),
        "stop_grace_period": f"{STOP_S + 5}s",
        "restart": "unless-stopped",
    }


def _dashboard(
    spec: ServiceSpec, server: str, after: str, profiles: list[str], *, has_log: bool = True
) -> dict[str, Any]:
    assert spec.project_image is not None
    return {
        **_own(spec.project_image, dashboard_words(server), spec, has_log=has_log),
        **({"profiles": profiles} if profiles else {}),
        "depends_on": {after: {"condition": "service_healthy"}},
        "ports": [_published("PERRON_DASHBOARD_PORT", DASHBOARD_PORT)],
        "healthcheck": _health(DASHBOARD_PORT, "/_stcore/health"),
        "restart": "unless-stopped",
    }


def _job(spec: ServiceSpec, words: Sequence[str], profiles: list[str], *, has_log: bool = True) -> dict[str, Any]:
    """A command that ends, and isn't started again."""
    assert spec.project_image is not None
    made = _own(spec.project_image, words, spec, has_log=has_log)
    return {**made, **({"profiles": profiles} if profiles else {}), "restart": "no"}


def _owner(image: str, volumes: Sequence[str], spec: ServiceSpec) -> dict[str, Any]:
    """Gives new volumes, which are root's, to the user that writes them; it ends before anything else begins."""
    places = [f"/volumes/{name}" for name in volumes]
    gives = f"import os; [os.chown(place, {USER}, {USER}) for place in {places}]"
    return {
        "image": image,
        "entrypoint": ["python", "-c"],
        "command": [gives],
        "user": "0:0",
        "network_mode": "none",
        "volumes": [f"{name}:/volumes/{name}" for name in volumes],
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": ["CHOWN"],
        "security_opt": ["no-new-privileges:true"],
        "deploy": {"resources": {"limits": {"cpus": "1", "memory": f"{FIRST_MB}M"}}},
        "logging": ROTATED,
        "restart": "no",
    }


def _health(port: int, path: str) -> dict[str, Any]:
    """By Python, which is there: the images have no curl."""
    asks = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}{path}', timeout=2)"
    return {
        "test": ["CMD", "python", "-c", asks],
        "interval": "10s", "timeout": "5s", "retries": 3, "start_period": "30s",
    }  # fmt: skip


def _published(variable: str, port: int) -> str:
    """On this machine alone, unless `.env` says another address."""
    return f"${{PERRON_ADDRESS:-127.0.0.1}}:${{{variable}:-{port}}}:{port}"


def _plain(text: str) -> str:
    """The text, in which compose looks for no variables."""
    return text.replace("$", "$$")


def _clock(spec: ServiceSpec) -> list[str]:
    """Compose has no clock; the lines for the host's crontab, as the file's comment has them."""
    if not spec.schedules:
        return []
    lines = [
        f"  {schedule.cron} cd FOLDER && docker compose run --rm {shlex.quote(schedule.name)}"
        for schedule in spec.schedules
    ]
    return ["", "Compose has no clock. For the crontab of the host, in UTC:", *lines]


def _variables(profiles: Sequence[str], port: int) -> str:
    """The text of `.env.example`."""
    lines = [
        f"# {HEAD}",
        "# Copy it to .env, which compose reads; secrets are files in secrets/, one value each.",
        f"#COMPOSE_PROFILES={','.join(profiles)}" if profiles else "",
        "# Ports are open to this machine alone, until this says 0.0.0.0; put something that asks who they are before it.",
        "#PERRON_ADDRESS=127.0.0.1",
        f"#PERRON_PORT={port}",
    ]
    if "postgres" in profiles:
        lines += [
            "# Predictions go on to the database: the password is the secret of PGPASSWORD.",
            "#PERRON_LOG_TO=postgresql+psycopg://perron@postgres/perron",
        ]
    if "storage" in profiles:
        lines += [
            "# Or to object storage: with the secrets of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            "#PERRON_LOG_TO=s3://perron/predictions",
        ]
    return "\n".join(line for line in lines if line) + "\n"


def _secrets_of(spec: ServiceSpec) -> dict[str, Any]:
    names = dict.fromkeys(spec.secrets.values())
    return {"secrets": {name: {"file": f"./secrets/{name}"} for name in names}} if names else {}


# ------------------------------------------------------------------ what is of others


def _other(image: str, memory: str, writes: Mapping[str, str], user: str | None = None) -> dict[str, Any]:
    """What every container of others' has. `user` None: the image's own."""
    return {
        "image": image,
        **({"user": user} if user is not None else {}),
        "volumes": [f"{name}:{path}" for name, path in writes.items()],
        "read_only": True,
        "tmpfs": ["/tmp:size=64m,mode=1777"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "deploy": {"resources": {"limits": {"cpus": "1", "memory": memory}}},
        "logging": ROTATED,
        "restart": "unless-stopped",
    }


def _wget(url: str) -> dict[str, Any]:
    return {
        "test": ["CMD", "wget", "--quiet", "--output-document=/dev/null", url],
        "interval": "10s", "timeout": "5s", "retries": 3, "start_period": "30s",
    }  # fmt: skip


def _monitoring(spec: ServiceSpec) -> dict[str, Any]:
    prometheus = _other(PROMETHEUS, "512M", {"prometheus": "/prometheus"}, "65534:65534")
    grafana = _other(GRAFANA, "512M", {"grafana": "/var/lib/grafana"}, "472:0")
    return {
        "prometheus": {
            **prometheus,
            "profiles": ["monitoring"],
            "command": [
                "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus",
                "--storage.tsdb.retention.time=30d",
            ],
            "volumes": ["./prometheus:/etc/prometheus:ro", *prometheus["volumes"]],
            "ports": [_published("PROMETHEUS_PORT", 9090)],
            "healthcheck": _wget("http://127.0.0.1:9090/-/ready"),
            **({"secrets": [METRICS]} if spec.has_tokens else {}),
        },
        "grafana": {
            **grafana,
            "profiles": ["monitoring"],
            "depends_on": {"prometheus": {"condition": "service_healthy"}},
            "environment": {
                "GF_SECURITY_ADMIN_PASSWORD__FILE": "/run/secrets/grafana-password",
                "GF_ANALYTICS_REPORTING_ENABLED": "false",
                "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
                "GF_USERS_ALLOW_SIGN_UP": "false",
            },
            "secrets": ["grafana-password"],
            "volumes": [
                "./grafana/provisioning:/etc/grafana/provisioning:ro",
                f"./grafana/dashboards:{BOARDS}:ro",
                *grafana["volumes"],
            ],
            "ports": [_published("GRAFANA_PORT", 3000)],
            "healthcheck": _wget("http://127.0.0.1:3000/api/health"),
        },
    }  # fmt: skip


def _postgres() -> dict[str, Any]:
    """As its own user from the start: what the image does as root, to give its folder away, isn't needed on a named volume."""
    made = _other(POSTGRES, "512M", {"postgres": "/var/lib/postgresql/data"}, "999:999")
    return {
        **made,
        "profiles": ["postgres"],
        "environment": {
            "POSTGRES_USER": "perron",
            "POSTGRES_DB": "perron",
            "POSTGRES_PASSWORD_FILE": "/run/secrets/postgres-password",
        },
        "secrets": ["postgres-password"],
        "tmpfs": [*made["tmpfs"], "/var/run/postgresql:size=1m,mode=1777"],
        "shm_size": "128m",
        "healthcheck": {
            "test": ["CMD", "pg_isready", "-U", "perron", "-d", "perron"],
            "interval": "10s", "timeout": "5s", "retries": 5, "start_period": "30s",
        },
        "stop_grace_period": "60s",
    }  # fmt: skip


def _storage() -> dict[str, Any]:
    """An S3 of this machine's own, and the bucket in it; as the image's own user, whose its folder is."""
    secrets = ["storage-user", "storage-password"]
    logs_in = 'mc alias set own http://storage:9000 "$$(cat /run/secrets/storage-user)" "$$(cat /run/secrets/storage-password)"'
    return {
        "storage": {
            **_other(MINIO, "1G", {"storage": "/data"}),
            "profiles": ["storage"],
            "command": ["server", "/data", "--console-address", ":9001"],
            "environment": {
                "HOME": "/tmp",
                "MINIO_ROOT_USER_FILE": "/run/secrets/storage-user",
                "MINIO_ROOT_PASSWORD_FILE": "/run/secrets/storage-password",
                "MC_CONFIG_DIR": "/tmp/mc",
            },
            "secrets": secrets,
            "ports": [_published("STORAGE_PORT", 9000)],
            "healthcheck": {
                "test": ["CMD", "mc", "ready", "local"],
                "interval": "10s", "timeout": "5s", "retries": 5, "start_period": "30s",
            },
        },
        "bucket": {
            **_other(MINIO, "256M", {}),
            "profiles": ["storage"],
            "depends_on": {"storage": {"condition": "service_healthy"}},
            "entrypoint": ["sh", "-ec"],
            "command": [f"{logs_in} && mc mb --ignore-existing own/perron"],
            "environment": {"HOME": "/tmp", "MC_CONFIG_DIR": "/tmp/mc"},
            "secrets": secrets,
            "restart": "on-failure:3",
        },
    }  # fmt: skip
