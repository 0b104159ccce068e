"""Orders in; a Deployment on Kubernetes that rolled out out: by the cluster that `kubectl` is set to."""

from perron.delivery import Order
from perron.environments import Environment
from perron.ship.kubernetes import kserve_files, kubernetes_files
from perron.targets.files import FileTarget, spec_of

__all__ = ["Kubernetes", "make_target"]


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
        return [["kubectl", "delete", "-k", f"overlays/{order.environment.name}", "--ignore-not-found"]]

    def observing(self, environment: Environment, name: str) -> list[str]:
        kind = "inferenceservice" if _is_kserve(environment) else "deployment"
        return ["kubectl", "get", kind, name, "--namespace", f"{name}-{environment.name}", "--output", "json"]


def _is_kserve(environment: Environment) -> bool:
    """Whether KServe runs it."""
    return bool(environment.service.get("kserve"))


def _kserve(environment: str, *names: str) -> list[str]:
    return [word for name in names for word in ("--filename", f"kserve/{environment}/{name}.yaml")]
