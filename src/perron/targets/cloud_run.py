"""Orders in; a service on Cloud Run out, by `gcloud`, which sends requests to a revision only once it is ready."""

from dataclasses import fields

from perron.delivery import Order
from perron.environments import Environment
from perron.errors import DeploymentError
from perron.ship.cloudrun import CloudRunPlace, cloud_run_files, gcloud_commands, known_jobs_command
from perron.targets.files import FileTarget, run_tool, spec_of

__all__ = ["CloudRun", "make_target", "place_of"]


def make_target() -> "CloudRun":
    """The target."""
    return CloudRun()


class CloudRun(FileTarget):
    """The `Target` of Cloud Run."""

    name, tool = "cloud-run", "gcloud"

    def files(self, order: Order) -> dict[str, str]:
        return cloud_run_files(spec_of(order), place_of(order.environment))

    def commands(self, order: Order) -> list[list[str]]:
        """Without looking which jobs Cloud Scheduler has; `apply` looks first."""
        return gcloud_commands(spec_of(order), place_of(order.environment), known_jobs=self._known(order))

    def _known(self, order: Order) -> list[str]:
        if not order.deployment or not spec_of(order).schedules:
            return []
        return run_tool(known_jobs_command(place_of(order.environment)), order.folder).split()

    def ending(self, order: Order) -> list[list[str]]:
        spec, place = spec_of(order), place_of(order.environment)
        where = ["--project", place.project, "--region", place.region, "--quiet"]
        jobs = [["gcloud", "run", "jobs", "delete", f"{spec.resource}-{one.name}", *where] for one in spec.schedules]
        return [["gcloud", "run", "services", "delete", spec.resource, *where], *jobs]

    def observing(self, environment: Environment, name: str) -> list[str]:
        place = place_of(environment)
        where = ["--project", place.project, "--region", place.region]
        return ["gcloud", "run", "services", "describe", f"{name}-{environment.name}", *where, "--format", "json"]


def place_of(environment: Environment) -> CloudRunPlace:
    """Where in Google Cloud an environment is.

    Raises:
        DeploymentError: environments.toml doesn't say it.
    """
    for key in ("project", "region"):
        if key not in environment.service:
            raise DeploymentError(f"Cloud Run needs {environment.name}.{key} in environments.toml.")
    known = {field.name for field in fields(CloudRunPlace)}
    return CloudRunPlace(**{key: value for key, value in environment.service.items() if key in known})
