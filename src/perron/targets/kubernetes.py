"""Orders in; a Deployment on Kubernetes that rolled out out: by the cluster that `kubectl` is set to."""

import json

from perron.delivery import Order
from perron.environments import Environment
from perron.ship.kubernetes import kserve_files, kubernetes_files
from perron.targets.files import FileTarget, spec_of

__all__ = ["Kubernetes", "make_target"]


# What ends with a service; its namespace, claims and secrets stay: they hold what people put there, and the log.
WORKLOADS = "deployment,cronjob,service,horizontalpodautoscaler,poddisruptionbudget,networkpolicy"


def make_target() -> "Kubernetes":
    """The target."""
    return Kubernetes()


class Kubernetes(FileTarget):
    """The `Target` of Kubernetes; a rollout that isn't ready in time is undone."""

    name, tool = "kubernetes", "kubectl"

    def files(self, order: Order) -> dict[str, str]:
        spec = spec_of(order)
        return kserve_files(spec) if _is_kserve(order.environment) else kubernetes_files(spec)

    def commands(self, order: Order) -> list[list[str]]:
        spec = spec_of(order)
        if _is_kserve(order.environment):
            return [
                ["kubectl", "apply", *_kserve(spec.environment, "namespace", "inferenceservice")],
                ["kubectl", "wait", "--for=condition=Ready", f"inferenceservice/{spec.name}", "--namespace", spec.resource,
                 "--timeout", f"{order.environment.ready_s:g}s"],
            ]  # fmt: skip
        return [
            ["kubectl", "apply", "-k", f"overlays/{spec.environment}"],
            ["kubectl", "rollout", "status", f"deployment/{spec.name}", "--namespace", spec.resource,
             "--timeout", f"{order.environment.ready_s:g}s"],
        ]  # fmt: skip

    def ending(self, order: Order) -> list[list[str]]:
        if _is_kserve(order.environment):
            return [["kubectl", "delete", *_kserve(order.environment.name, "inferenceservice"), "--ignore-not-found"]]
        spec = spec_of(order)
        return [
            ["kubectl", "delete", WORKLOADS, "--selector", f"app.kubernetes.io/name={spec.name},app.kubernetes.io/managed-by=perron",
             "--namespace", spec.resource, "--ignore-not-found"],
        ]  # fmt: skip

    def finding(self, order: Order) -> list[str]:
        return [*self.observing(order.environment, spec_of(order).name), "--ignore-not-found"]

    def leaving(self, order: Order, found: str | None) -> tuple[list[list[str]], str]:
        """By the revision that was there, not "the one before": where nothing was applied, that would be an older one."""
        spec = spec_of(order)
        place = f"{spec.name} in the namespace {spec.resource}"
        revision = None if _is_kserve(order.environment) else _revision(found)
        if revision is None:
            return [], (
                f"{place} was there before, or may have been, and its files aren't here: what runs now was left as it is; "
                f"look at it by `kubectl get pods --namespace {spec.resource}`."
            )
        back = [
            "kubectl",
            "rollout",
            "undo",
            f"deployment/{spec.name}",
            "--namespace",
            spec.resource,
            f"--to-revision={revision}",
        ]
        return [
            back
        ], f"{place} was there before: its Pods are taken back to revision {revision}, all else was left as it is."

    def observing(self, environment: Environment, name: str) -> list[str]:
        kind = "inferenceservice" if _is_kserve(environment) else "deployment"
        return ["kubectl", "get", kind, name, "--namespace", f"{name}-{environment.name}", "--output", "json"]


def _revision(found: str | None) -> int | None:
    """The revision of a Deployment that the cluster has, where it tells one."""
    try:
        return int(json.loads(found or "null")["metadata"]["annotations"]["deployment.kubernetes.io/revision"])
    except (ValueError, KeyError, TypeError):
        return None


def _is_kserve(environment: Environment) -> bool:
    """Whether KServe runs it."""
    return bool(environment.service.get("kserve"))


def _kserve(environment: str, *names: str) -> list[str]:
    return [word for name in names for word in ("--filename", f"kserve/{environment}/{name}.yaml")]
