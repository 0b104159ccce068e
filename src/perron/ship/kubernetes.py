"""A service in; its Kubernetes objects out, as a Kustomize base and an overlay for the environment, and as KServe's.

    base/…                        what is the same everywhere: Deployment, Service, HPA, PDB, NetworkPolicies, ServiceAccount
    overlays/{environment}/…      the namespace, the image, sizes, variables, secrets, CronJobs and their volumes
    kserve/{environment}/…        an InferenceService of the same container, for clusters that have KServe

`kubectl apply -k overlays/prd`. The base has the name and the ports and else tells nothing of an
environment, so that the files of several lie in one folder.
"""

from typing import Any
from urllib.parse import urlsplit

from perron.errors import DeclarationError
from perron.ship.service import LOG, PERRON, PROJECT, STOP_S, USER, Schedule, ServiceSpec, serve_words
from perron.ship.yaml import to_yaml

__all__ = ["kserve_files", "kubernetes_files"]

HEAD = "Written by `perron deploy kubernetes`, which leaves it alone once you changed it."
LEAVE_S = 5  # until every proxy has heard that a Pod goes, it is still asked
CLIENT_LABEL = "perron-client"  # of namespaces whose Pods may ask
TMP_MB, LOG_MB, STATE_GB = 64, 2048, 10  # a segment of the log has 64 MB, for each worker
LOG_READERS = ("monitor", "log", "forget", "trace")  # verbs that need the servers' log
PORTS = {"postgresql": 5432, "postgres": 5432, "mysql": 3306, "mariadb": 3306}  # others go over https


def kubernetes_files(spec: ServiceSpec) -> dict[str, str]:
    """The base and the environment's overlay by path.

    The servers' log is on each Pod's own disk and ends with it, unless a schedule reads it (`monitor`): then it is on a
    claim that all of them share, which needs a storage class with ReadWriteMany.

    Raises:
        DeclarationError: no replica at all: a Deployment isn't scaled to zero.
    """
    if spec.replicas_min < 1:
        raise DeclarationError(
            "replicas_min is 0, and Kubernetes scales no Deployment to zero; give at least 1, or use KServe."
        )
    base = {
        "serviceaccount": _service_account(spec), "deployment": _deployment(spec), "service": _service(spec),
        "hpa": _hpa(spec), "pdb": _pdb(spec), "networkpolicy-deny": _deny(), "networkpolicy-server": _allow(spec),
    }  # fmt: skip
    overlay: dict[str, Any] = {"namespace": _namespace(spec)}
    overlay |= {f"cronjob-{schedule.name}": _cronjob(spec, schedule) for schedule in spec.schedules}
    overlay |= {f"claim-{name}": claim for name, claim in _claims(spec).items()}
    overlay |= {f"networkpolicy-{policy['metadata']['name']}": policy for policy in _egress(spec)}
    patches = {"patch-deployment": _deployment_patch(spec), "patch-hpa": _hpa_patch(spec)}
    folder = f"overlays/{spec.environment}"
    objects = {
        "base/kustomization": _kustomization(resources=[f"{name}.yaml" for name in base], labels=[_labels(spec)]),
        **{f"base/{name}": value for name, value in base.items()},
        f"{folder}/kustomization": _kustomization(
            namespace=spec.resource,
            resources=["../../base", *(f"{name}.yaml" for name in overlay)],
            labels=[{"pairs": {**_pairs(spec), "app.kubernetes.io/version": str(spec.version), "perron-environment": spec.environment}, "includeTemplates": True}],
            images=[_image(spec.name, spec.image)],
            patches=[{"path": f"{name}.yaml"} for name in patches],
        ),
        **{f"{folder}/{name}": value for name, value in {**overlay, **patches}.items()},
    }  # fmt: skip
    return {f"{path}.yaml": to_yaml(value, head=HEAD) for path, value in objects.items()}


def kserve_files(spec: ServiceSpec) -> dict[str, str]:
    """An InferenceService that runs the same container: it answers the Open Inference Protocol (`/v2/…`) itself.

    The bundle is in the image, so KServe fetches no model; with Knative below it `replicas_min` may be 0.
    """
    container = {
        "name": "kserve-container",
        **_server_container(spec, spec.image),
        "args": _arguments(spec),
        "env": _environment(spec),
        "resources": _resources(spec.cpu, spec.memory_mb),
        "ports": [{"containerPort": spec.port, "protocol": "TCP"}],
    }
    del container["lifecycle"], container["startupProbe"]  # Knative takes neither; it waits for readiness itself
    made = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": spec.name,
            "namespace": spec.resource,
            "labels": {**_pairs(spec), "app.kubernetes.io/version": str(spec.version)},
            "annotations": {"serving.kserve.io/deploymentMode": "Serverless", **_annotations(spec)},
        },
        "spec": {
            "predictor": {
                "minReplicas": spec.replicas_min,
                "maxReplicas": spec.replicas_max,
                "scaleMetric": "concurrency",
                "scaleTarget": max(1, spec.concurrency * 7 // 10),
                "containerConcurrency": spec.concurrency,
                "timeout": spec.timeout_s,
                "automountServiceAccountToken": False,
                "containers": [container],
                "volumes": _volumes(),
            }
        },
    }
    namespace = _namespace(spec)
    del namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]  # Knative adds a container of its own
    where = f"kserve/{spec.environment}"
    return {
        f"{where}/namespace.yaml": to_yaml(namespace, head=HEAD),
        f"{where}/inferenceservice.yaml": to_yaml(made, head=HEAD),
    }


# ------------------------------------------------------------------ kustomize


def _kustomization(**parts: Any) -> dict[str, Any]:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **parts}


def _pairs(spec: ServiceSpec) -> dict[str, str]:
    return {"app.kubernetes.io/name": spec.name, "app.kubernetes.io/part-of": spec.name, "app.kubernetes.io/managed-by": "perron"}  # fmt: skip


def _labels(spec: ServiceSpec) -> dict[str, Any]:
    return {"pairs": _pairs(spec), "includeTemplates": True}


def _selector(component: str, spec: ServiceSpec) -> dict[str, str]:
    """What Pods of a component are found by; it may never change."""
    return {"app.kubernetes.io/name": spec.name, "app.kubernetes.io/component": component}


def _annotations(spec: ServiceSpec) -> dict[str, str]:
    """What is too long, or too free, for a label."""
    return {"perron/model": spec.model, "perron/version": str(spec.version), "perron/bundle": f"sha256:{spec.bundle}"}


def _image(name: str, reference: str) -> dict[str, str]:
    """Kustomize's transformer, which `kustomize edit set image` changes."""
    place, _, digest = reference.partition("@")
    head, colon, tag = place.rpartition(":")
    has_tag = bool(colon) and "/" not in tag
    made = {"name": name, "newName": head if has_tag else place}
    return {**made, "digest": digest} if digest else {**made, "newTag": tag}


# ------------------------------------------------------------------ the server


def _service_account(spec: ServiceSpec) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": spec.name},
        "automountServiceAccountToken": False,
    }


def _deployment(spec: ServiceSpec) -> dict[str, Any]:
    """Without a number of replicas, which is the HPA's, and without arguments, which are the environment's."""
    labels = _selector("server", spec)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": spec.name, "labels": labels},
        "spec": {
            "revisionHistoryLimit": 5,
            "selector": {"matchLabels": labels},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(spec.port),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": {
                    **_shut_in(spec),
                    "terminationGracePeriodSeconds": LEAVE_S + STOP_S + 5,
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": labels},
                        }
                    ],
                    "containers": [{"name": "server", **_server_container(spec, spec.name)}],
                    "volumes": _volumes(),
                },
            },
        },
    }


def _server_container(spec: ServiceSpec, image: str) -> dict[str, Any]:
    ready = {"httpGet": {"path": "/health/ready", "port": spec.port}}
    ports = [{"name": "http", "containerPort": spec.port}]
    ports += [] if spec.grpc_port is None else [{"name": "grpc", "containerPort": spec.grpc_port}]
    return {
        "image": image,
        "command": list(PERRON),
        "ports": ports,
        "startupProbe": {**ready, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 2, "failureThreshold": 2},
        "livenessProbe": {
            "httpGet": {"path": "/health/live", "port": spec.port},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "lifecycle": {"preStop": {"sleep": {"seconds": LEAVE_S}}},
        "securityContext": _confined(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "log", "mountPath": LOG}],
    }


def _shut_in(spec: ServiceSpec) -> dict[str, Any]:
    """What every Pod has: no token, no root, no calls of the kernel that containers don't need."""
    return {
        "serviceAccountName": spec.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def _confined() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _volumes() -> list[dict[str, Any]]:
    return [
        {"name": "tmp", "emptyDir": {"sizeLimit": f"{TMP_MB}Mi"}},
        {"name": "log", "emptyDir": {"sizeLimit": f"{LOG_MB}Mi"}},
    ]


def _resources(cpu: float, memory_mb: int) -> dict[str, Any]:
    """Memory is a limit; of cores only the share is kept: a limit would stall answers while cores are idle."""
    return {
        "requests": {"cpu": f"{round(cpu * 1000)}m", "memory": f"{memory_mb}Mi"},
        "limits": {"memory": f"{memory_mb}Mi"},
    }


def _environment(spec: ServiceSpec) -> list[dict[str, Any]]:
    """Variables, and secrets by reference: each is the key of its variable's name in a Secret."""
    plain = [{"name": name, "value": _plain(value)} for name, value in {"HOME": "/tmp", **spec.variables}.items()]
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": of, "key": name}}} for name, of in spec.secrets.items()
    ]
    return [*plain, *secret]


def _arguments(spec: ServiceSpec, *, keeps_log: bool = False) -> list[str]:
    return [_plain(word) for word in serve_words(spec, keeps_log=keeps_log)[len(PERRON) :]]


def _plain(text: str) -> str:
    """The text, in which Kubernetes looks for no variables: `$(NAME)` is one, `$$(NAME)` isn't."""
    return text.replace("$(", "$$(")


def _service(spec: ServiceSpec) -> dict[str, Any]:
    ports = [{"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}]
    if spec.grpc_port is not None:
        ports.append({"name": "grpc", "port": spec.grpc_port, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": spec.name},
        "spec": {"type": "ClusterIP", "selector": _selector("server", spec), "ports": ports},
    }


def _hpa(spec: ServiceSpec) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": spec.name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": spec.name},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                }
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}},
        },
    }


def _pdb(spec: ServiceSpec) -> dict[str, Any]:
    """One Pod at a time may be moved: never all of several, and a single one can still be."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": spec.name},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": _selector("server", spec)},
        },
    }


# ------------------------------------------------------------------ who may talk to whom


def _policy(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def _deny() -> dict[str, Any]:
    """Nothing in, nothing out, for every Pod of the namespace; the other policies add to it."""
    return _policy("deny", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})


def _allow(spec: ServiceSpec) -> dict[str, Any]:
    """The server is asked by its own namespace and those that are labelled; it may look up names."""
    ports = [spec.port] + ([] if spec.grpc_port is None else [spec.grpc_port])
    return _policy(
        "server",
        {
            "podSelector": {"matchLabels": _selector("server", spec)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [
                        {"podSelector": {}},
                        {"namespaceSelector": {"matchLabels": {CLIENT_LABEL: "true"}}},
                    ],
                    "ports": [{"port": port, "protocol": "TCP"} for port in ports],
                }
            ],
            "egress": [_names()],
        },
    )


def _names() -> dict[str, Any]:
    return {
        "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
        "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
    }


def _egress(spec: ServiceSpec) -> list[dict[str, Any]]:
    """Where the log goes on to, by port; jobs read data from anywhere."""
    ports = sorted({_port_of(place) for place in spec.log_to} - {0})
    policies = []
    if ports:
        way = {"ports": [{"port": port, "protocol": "TCP"} for port in ports]}
        selector = {"matchLabels": _selector("server", spec)}
        policies.append(_policy("log", {"podSelector": selector, "policyTypes": ["Egress"], "egress": [way]}))
    if spec.schedules:
        selector = {"matchLabels": _selector("job", spec)}
        policies.append(_policy("jobs", {"podSelector": selector, "policyTypes": ["Egress"], "egress": [{}]}))
    return policies


def _port_of(place: str) -> int:
    """Of a place of the log; 0 where nothing leaves the Pod."""
    parts = urlsplit(place)
    if parts.scheme in ("stdout", "file", "sqlite"):
        return 0
    try:
        port = parts.port
    except ValueError as error:
        raise DeclarationError(f"log_to has {place[:80]!r}, whose port isn't one.") from error
    return port or PORTS.get(parts.scheme.partition("+")[0], 443)


# ------------------------------------------------------------------ of an environment


def _namespace(spec: ServiceSpec) -> dict[str, Any]:
    """With the strictest of the Pod Security Standards enforced."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": spec.resource,
            "labels": {
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/warn": "restricted",
            },
        },
    }


def _shares_log(spec: ServiceSpec) -> bool:
    return any(schedule.command[0] in LOG_READERS for schedule in spec.schedules)


def _deployment_patch(spec: ServiceSpec) -> dict[str, Any]:
    container = {
        "name": "server",
        "args": _arguments(spec, keeps_log=_shares_log(spec)),
        "env": _environment(spec),
        "resources": _resources(spec.cpu, spec.memory_mb),
    }
    pod: dict[str, Any] = {"containers": [container]}
    if _shares_log(spec):
        pod["volumes"] = [{"name": "log", "emptyDir": None, "persistentVolumeClaim": {"claimName": "log"}}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": spec.name, "annotations": _annotations(spec)},
        "spec": {"template": {"metadata": {"annotations": _annotations(spec)}, "spec": pod}},
    }


def _hpa_patch(spec: ServiceSpec) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": spec.name},
        "spec": {"minReplicas": spec.replicas_min, "maxReplicas": spec.replicas_max},
    }


def _claims(spec: ServiceSpec) -> dict[str, Any]:
    """The project's memory, for jobs; and the servers' log, where a job reads it."""
    claims = {"state": ("ReadWriteOnce", STATE_GB)} if spec.schedules else {}
    if _shares_log(spec):
        claims["log"] = ("ReadWriteMany", STATE_GB)
    return {
        name: {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {"accessModes": [mode], "resources": {"requests": {"storage": f"{size}Gi"}}},
        }
        for name, (mode, size) in claims.items()
    }


def _cronjob(spec: ServiceSpec, schedule: Schedule) -> dict[str, Any]:
    """Never two at once; one that failed isn't tried again before its next time but once."""
    assert spec.project_image is not None
    labels = {**_selector("job", spec), "perron-job": schedule.name}
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "state", "persistentVolumeClaim": {"claimName": "state"}},
    ]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "state", "mountPath": f"{PROJECT}/.perron"}]
    if _shares_log(spec):
        volumes.append({"name": "log", "persistentVolumeClaim": {"claimName": "log"}})
        mounts.append({"name": "log", "mountPath": f"{PROJECT}/.perron/predictions"})
    container = {
        "name": "job",
        "image": spec.project_image,
        "command": list(PERRON),
        "args": [_plain(word) for word in schedule.command],
        "workingDir": PROJECT,
        "env": _environment(spec),
        "resources": _resources(spec.job_cpu, spec.job_memory_mb),
        "securityContext": _confined(),
        "volumeMounts": mounts,
    }
    pod = {**_shut_in(spec), "restartPolicy": "Never", "containers": [container], "volumes": volumes}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": f"{spec.name}-{schedule.name}", "labels": labels},
        "spec": {
            "schedule": schedule.cron,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 600,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 1,
                    "activeDeadlineSeconds": 86_400,
                    "template": {"metadata": {"labels": labels}, "spec": pod},
                }
            },
        },
    }
