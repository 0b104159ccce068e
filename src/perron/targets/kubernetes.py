"""Orders in; a Deployment on Kubernetes that rolled out out: by the cluster that `kubectl` is set to."""

from perron.delivery import Order
from perron.environments import Environment
from perron.ship.kubernetes import kubernetes_files
from perron.targets.files import FileTarget, spec_of

__all__ = ["Kubernetes", "make_target"]


def make_target() -> "Kubernetes":
    """The target."""
    return Kubernetes()


class Kubernetes(FileTarget):
    """The `Target` of Kubernetes; a rollout that isn't ready in time is undone."""

    name, tool = "kubernetes", "kubectl"

    def files(self, order: Order) -> dict[str, str]:
        return kubernetes_files(spec_of(order))

    def commands(self, order: Order) -> list[list[str]]:
        spec = spec_of(order)
        return [
            ["kubectl", "apply", "-k", f"overlays/{spec.environment}"],
            ["kubectl", "rollout", "status", f"deployment/{spec.name}", "--namespace", spec.resource,
             "--timeout", f"{order.environment.ready_s:g}s"],
        ]  # fmt: skip

    def ending(self, order: Order) -> list[list[str]]:
        return [["kubectl", "delete", "-k", f"overlays/{order.environment.name}", "--ignore-not-found"]]

    def observing(self, environment: Environment, name: str) -> list[str]:
        return ["kubectl", "get", "deployment", name, "--namespace", f"{name}-{environment.name}", "--output", "json"]
