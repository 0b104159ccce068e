"""Orders in; a service on Cloud Run out, by `gcloud`, which sends requests to a revision only once it is ready."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

from perron.delivery import Order
from perron.environments import Environment
from perron.errors import DeploymentError
from perron.levels import ServiceLimits, levels_of
from perron.ship.cloudrun import (
    CloudRunPlace,
    Prices,
    Usage,
    cloud_run_files,
    estimate_cost,
    gcloud_commands,
    known_jobs_command,
)
from perron.targets.files import FileTarget, run_tool, spec_of

__all__ = ["CloudRun", "make_target", "place_of", "usage_of"]

ASSUMED = Usage(10_000)


def make_target() -> "CloudRun":
    """The target."""
    return CloudRun()


class CloudRun(FileTarget):
    """The `Target` of Cloud Run."""

    name, tool = "cloud-run", "gcloud"

    def files(self, order: Order) -> dict[str, str]:
        return cloud_run_files(spec_of(order), place_of(order.environment))

    def notes(self, order: Order) -> list[str]:
        """What it may cost, by the traffic that is declared, else by the newest day's here, else by an assumption."""
        spec, place, service = spec_of(order), place_of(order.environment), order.environment.service
        usage, basis = usage_of(order)
        prices = Prices(**service.get("prices", {}))
        found = estimate_cost(spec, usage, prices, has_cpu_always=place.has_cpu_always)
        told = f"{usage.requests_per_day:,.0f} requests a day of {usage.mean_ms:g} ms ({basis})"
        by = "declared prices" if "prices" in service else "list prices of the end of 2024"
        return [*found.words().splitlines(), f"By {told} and {by}."]

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

    def finding(self, order: Order) -> list[str]:
        place = place_of(order.environment)
        where = ["--project", place.project, "--region", place.region]
        name = spec_of(order).resource
        return [
            "gcloud",
            "run",
            "services",
            "list",
            *where,
            f"--filter=metadata.name={name}",
            "--format=value(metadata.name)",
        ]

    def leaving(self, order: Order, found: str | None) -> tuple[list[list[str]], str]:
        return [], (
            f"{spec_of(order).resource} was there before, or may have been, and was left as it is: Cloud Run sends requests to the "
            "revision before for as long as a new one isn't ready."
        )

    def observing(self, environment: Environment, name: str) -> list[str]:
        place = place_of(environment)
        where = ["--project", place.project, "--region", place.region]
        return ["gcloud", "run", "services", "describe", f"{name}-{environment.name}", *where, "--format", "json"]


def usage_of(order: Order) -> tuple[Usage, str]:
    """The traffic that the cost is estimated by, and where it is from."""
    service = order.environment.service
    now = datetime.now(UTC)
    levels = levels_of(
        order.folder / ".perron" / "minutes",
        order.model,
        ServiceLimits(),
        since=now - timedelta(days=1),
        until=None,
        now=now,
    )
    measured = None if levels is None else levels.total
    requests, mean_ms, basis = (
        ASSUMED.requests_per_day,
        ASSUMED.mean_ms,
        "assumed; declare requests_per_day and mean_ms",
    )
    if measured is not None and measured.traffic.requests:
        one = measured.traffic
        requests, mean_ms, basis = float(one.requests), one.latency_s / one.requests * 1000, "as the last day here"
    if "requests_per_day" in service or "mean_ms" in service:
        basis = "declared"
    usage = Usage(service.get("requests_per_day", requests), service.get("mean_ms", round(max(mean_ms, 0.01), 2)))
    return usage, basis


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
