"""The Kubernetes files: built by kustomize itself, judged by the schemas of Kubernetes, and KServe's by its documentation."""

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from perron.errors import DeclarationError
from perron.serve.http import DRAIN_S
from perron.serve.workers import KILL_AFTER_S
from perron.ship.files import write_files
from perron.ship.kubernetes import kserve_files, kubernetes_files
from perron.ship.service import Schedule, ServiceSpec
from tests.conftest import need_if_there

VERSIONS = ("1.30", "1.32", "1.34")
PRD = ServiceSpec(
    "house-prices", "house-prices", 7, "ab" * 32, "registry.example:5000/team/house-prices:7", environment="prd",
    grpc_port=9100, workers=2, replicas_min=2, replicas_max=9, memory_mb=1024, cpu=1.5,
    variables={"GREETING": "a $(HOME) 'ö' #x", "ON": "yes"}, secrets={"PGPASSWORD": "database"},
    log_to=("stdout:", "postgresql+psycopg://perron@db/perron", "s3://b/p"),
    project_image="registry.example:5000/team/house-prices-project:7",
    schedules=(Schedule("pipeline", "0 3 * * *", ("run",)), Schedule("monitor", "*/15 * * * *", ("monitor", "--rebuild"))),
)  # fmt: skip
DEV = ServiceSpec(
    "house-prices", "house-prices", 8, "cd" * 32, f"house-prices@sha256:{'0' * 64}", grpc_port=9100, replicas_max=1
)


def built(folder: Path, environment: str) -> list[dict[str, Any]]:
    """The objects of an overlay, as kustomize makes them."""
    words = [need_if_there("kubectl"), "kustomize", f"overlays/{environment}"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Any]]]:
    """By environment, then by kind and name; both overlays are on one base."""
    folder = tmp_path_factory.mktemp("kubernetes")
    assert set(write_files(folder, kubernetes_files(PRD)).values()) == {"written"}
    statuses = write_files(folder, kubernetes_files(DEV))
    assert {status for path, status in statuses.items() if path.startswith("base/")} == {"current"}
    return {
        environment: {f"{one['kind']}/{one['metadata']['name']}": one for one in built(folder, environment)}
        for environment in ("dev", "prd")
    }


def test_both_environments_hold_to_the_schemas_of_kubernetes(objects: Any) -> None:
    for environment, found in objects.items():
        for document in found.values():
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)
        assert len(found) == (14 if environment == "prd" else 8)


def test_every_single_file_holds_to_them_too() -> None:
    for path, text in kubernetes_files(PRD).items():
        document = yaml.safe_load(text)
        if "kustomization" not in path and "patch-" not in path:
            kubernetes_validate.validate(document, "1.32", strict=True)


def test_the_schemas_refuse_what_a_cluster_would(objects: Any) -> None:
    broken = {**objects["prd"]["Deployment/house-prices"]}
    broken["spec"] = {**broken["spec"], "replicaz": 2}
    with pytest.raises(kubernetes_validate.ValidationError, match="replicaz"):
        kubernetes_validate.validate(broken, "1.32", strict=True)


def test_each_environment_has_its_own_image_and_sizes(objects: Any) -> None:
    prd, dev = (objects[name]["Deployment/house-prices"]["spec"]["template"]["spec"] for name in ("prd", "dev"))
    assert prd["containers"][0]["image"] == PRD.image
    assert dev["containers"][0]["image"] == DEV.image
    assert prd["containers"][0]["resources"]["limits"] == {"memory": "1024Mi"}
    assert prd["containers"][0]["resources"]["requests"]["cpu"] == "1500m"
    assert prd["containers"][0]["args"][prd["containers"][0]["args"].index("--workers") + 1] == "2"
    assert objects["prd"]["HorizontalPodAutoscaler/house-prices"]["spec"]["minReplicas"] == 2
    assert objects["dev"]["HorizontalPodAutoscaler/house-prices"]["spec"]["maxReplicas"] == 1
    assert {one["metadata"].get("namespace") for one in objects["dev"].values()} == {"house-prices-dev", None}


def test_images_with_every_kind_of_reference_come_out_as_they_went_in(tmp_path: Path) -> None:
    for reference in ("a:1", "localhost:5000/a:1", "ghcr.io/x/a-b:1.0", f"ghcr.io/x/a@sha256:{'1' * 64}"):
        write_files(tmp_path, kubernetes_files(dataclasses.replace(DEV, image=reference)), force=True)
        deployment = next(one for one in built(tmp_path, "dev") if one["kind"] == "Deployment")
        assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == reference


def test_probes_ask_the_server_s_health_and_it_has_time_to_stop(objects: Any) -> None:
    pod = objects["prd"]["Deployment/house-prices"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["readinessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/health/ready"  # fmt: skip
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    leaves = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > leaves + KILL_AFTER_S > leaves + DRAIN_S


def test_every_pod_is_shut_in(objects: Any) -> None:
    pods = [objects["prd"]["Deployment/house-prices"]["spec"]["template"]["spec"]]
    pods += [
        one["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        for one in objects["prd"].values()
        if one["kind"] == "CronJob"
    ]
    assert len(pods) == 3
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert "/tmp" in [mount["mountPath"] for mount in container["volumeMounts"]]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    namespace = objects["prd"]["Namespace/house-prices-prd"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_is_selected_is_what_the_pods_are_labelled(objects: Any) -> None:
    found = objects["prd"]
    labels = found["Deployment/house-prices"]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        found["Deployment/house-prices"]["spec"]["selector"]["matchLabels"],
        found["Service/house-prices"]["spec"]["selector"],
        found["PodDisruptionBudget/house-prices"]["spec"]["selector"]["matchLabels"],
        found["NetworkPolicy/server"]["spec"]["podSelector"]["matchLabels"],
        found["NetworkPolicy/log"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items() and "app.kubernetes.io/version" not in selector
    job = found["CronJob/house-prices-pipeline"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert not found["Service/house-prices"]["spec"]["selector"].items() <= job.items()
    assert found["NetworkPolicy/jobs"]["spec"]["podSelector"]["matchLabels"].items() <= job.items()
    ports = {
        port["name"] for port in found["Deployment/house-prices"]["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert {port["targetPort"] for port in found["Service/house-prices"]["spec"]["ports"]} == ports == {"http", "grpc"}


def test_nothing_may_come_in_or_go_out_but_what_is_said(objects: Any) -> None:
    deny = objects["prd"]["NetworkPolicy/deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert [port["port"] for port in objects["prd"]["NetworkPolicy/server"]["spec"]["ingress"][0]["ports"]] == [
        8000,
        9100,
    ]
    assert [port["port"] for port in objects["prd"]["NetworkPolicy/log"]["spec"]["egress"][0]["ports"]] == [443, 5432]
    assert "NetworkPolicy/log" not in objects["dev"]


def test_jobs_run_one_at_a_time_and_share_the_log_that_they_read(objects: Any) -> None:
    for name in ("pipeline", "monitor"):
        job = objects["prd"][f"CronJob/house-prices-{name}"]["spec"]
        assert (job["concurrencyPolicy"], job["timeZone"]) == ("Forbid", "Etc/UTC")
    assert job["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"] == ["monitor", "--rebuild"]
    assert objects["prd"]["PersistentVolumeClaim/log"]["spec"]["accessModes"] == ["ReadWriteMany"]
    volumes = objects["prd"]["Deployment/house-prices"]["spec"]["template"]["spec"]["volumes"]
    assert {"name": "log", "persistentVolumeClaim": {"claimName": "log"}} in volumes
    dev = objects["dev"]["Deployment/house-prices"]["spec"]["template"]["spec"]["volumes"]
    assert next(volume for volume in dev if volume["name"] == "log")["emptyDir"]


def test_a_log_that_ends_with_its_pod_is_deleted_once_it_was_sent_on(objects: Any) -> None:
    assert (
        "--drop-sent"
        not in objects["prd"]["Deployment/house-prices"]["spec"]["template"]["spec"]["containers"][0]["args"]
    )
    assert "--drop-sent" in kserve_files(PRD)["kserve/prd/inferenceservice.yaml"]  # KServe's Pods share no log


def test_secrets_are_named_and_variables_are_not_expanded(objects: Any) -> None:
    container = objects["prd"]["Deployment/house-prices"]["spec"]["template"]["spec"]["containers"][0]
    given = {one["name"]: one for one in container["env"]}
    assert given["PGPASSWORD"] == {"name": "PGPASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "PGPASSWORD"}}}  # fmt: skip
    assert given["GREETING"]["value"] == "a $$(HOME) 'ö' #x"
    assert given["ON"]["value"] == "yes"


def test_a_deployment_is_not_scaled_to_zero() -> None:
    with pytest.raises(DeclarationError, match="replicas_min is 0, and Kubernetes scales no Deployment to zero"):
        kubernetes_files(dataclasses.replace(DEV, replicas_min=0))


def test_a_log_s_port_that_isn_t_one_is_refused() -> None:
    with pytest.raises(DeclarationError, match="whose port isn't one"):
        kubernetes_files(dataclasses.replace(DEV, log_to=("postgresql://db:abc/x",)))


# As KServe documents an InferenceService with a custom container (Control Plane API v1beta1: InferenceServiceSpec,
# PredictorSpec, ComponentExtensionSpec); the container is Kubernetes' own.
INFERENCE_SERVICE = {
    "type": "object", "additionalProperties": False, "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "serving.kserve.io/v1beta1"}, "kind": {"const": "InferenceService"}, "metadata": {"type": "object"},
        "spec": {"type": "object", "additionalProperties": False, "required": ["predictor"], "properties": {"predictor": {
            "type": "object", "additionalProperties": False, "required": ["containers"],
            "properties": {
                "minReplicas": {"type": "integer", "minimum": 0}, "maxReplicas": {"type": "integer", "minimum": 1},
                "scaleMetric": {"enum": ["cpu", "memory", "concurrency", "rps"]}, "scaleTarget": {"type": "integer", "minimum": 1},
                "containerConcurrency": {"type": "integer", "minimum": 0}, "timeout": {"type": "integer", "minimum": 1},
                "automountServiceAccountToken": {"type": "boolean"}, "serviceAccountName": {"type": "string"},
                "containers": {"type": "array", "minItems": 1, "items": {"properties": {"name": {"const": "kserve-container"}}, "required": ["name", "image"]}},
                "volumes": {"type": "array"},
            },
        }}},
    },
}  # fmt: skip


def test_an_inference_service_is_as_kserve_documents_it() -> None:
    spec = dataclasses.replace(PRD, replicas_min=0)
    files = kserve_files(spec)
    made = yaml.safe_load(files["kserve/prd/inferenceservice.yaml"])
    namespace = yaml.safe_load(files["kserve/prd/namespace.yaml"])
    kubernetes_validate.validate(namespace, "1.32", strict=True)
    assert namespace["metadata"]["name"] == made["metadata"]["namespace"]
    jsonschema.validate(made, INFERENCE_SERVICE)
    predictor = made["spec"]["predictor"]
    pod = {"containers": predictor["containers"], "volumes": predictor["volumes"]}
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": pod}, "1.32", strict=True
    )
    [container] = predictor["containers"]
    assert container["image"] == PRD.image and "startupProbe" not in container and "lifecycle" not in container
    assert container["ports"] == [{"containerPort": 8000, "protocol": "TCP"}]
    assert (predictor["minReplicas"], predictor["scaleTarget"], predictor["containerConcurrency"]) == (0, 44, 64)
    broken = {**made, "spec": {"predictor": {**predictor, "minReplica": 1}}}
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        jsonschema.validate(broken, INFERENCE_SERVICE)
