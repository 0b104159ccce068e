"""What a cloud's platform sets in the environment in; the routes that it asks at out.

Vertex AI (custom container requirements): it asks `AIP_HEALTH_ROUTE` and `AIP_PREDICT_ROUTE` at `AIP_HTTP_PORT`.

    POST {"instances": [rows], "parameters": {"details": true}}    ->    {"predictions": [values, or with details objects]}

Amazon SageMaker asks `/ping` and `/invocations`, which `perron.serve.mlflow` answers: JSON with `instances` among its keys,
or CSV. Cloud Run says its port in `PORT`. The ports are read by the command line, in the order of `perron.serve.health.PORTS`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from perron.errors import PerronError, nearest
from perron.serve.problem import Answer, encode, json_answer, problem
from perron.serve.routes import Request, Route

if TYPE_CHECKING:
    from perron.serve.app import Service

__all__ = ["Vertex", "read_vertex", "vertex_routes"]

HEALTH = ("/health", "/health/live", "/health/ready", "/ping")  # what answers for health already
KEYS, PARAMETERS = ("instances", "parameters"), ("details",)


@dataclass(frozen=True)
class Vertex:
    """The paths that Vertex AI asks at; None where it doesn't say one."""

    health: str | None = None
    predict: str | None = None


def read_vertex(environment: Mapping[str, str]) -> Vertex | None:
    """What Vertex AI says there; None where it says nothing.

    Raises:
        PerronError: a route isn't a path, or artifacts are named, which this server would not serve.
    """
    routes = {name: environment.get(name) or None for name in ("AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE")}
    if not any(routes.values()):
        return None
    for name, path in routes.items():
        if path is not None and not (path.startswith("/") and path.isprintable() and not set(path) & set(" ?#{}")):
            raise PerronError(f"{name} is {path[:80]!r}; give a path such as /predict.")
    if routes["AIP_HEALTH_ROUTE"] == routes["AIP_PREDICT_ROUTE"]:
        raise PerronError(f"AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE are both {routes['AIP_HEALTH_ROUTE']}; give two.")
    artifacts = environment.get("AIP_STORAGE_URI")
    if artifacts:
        raise PerronError(
            f"AIP_STORAGE_URI is {artifacts[:120]!r}, and this server serves the bundle in its image; upload the model without an artifact URI."
        )
    return Vertex(routes["AIP_HEALTH_ROUTE"], routes["AIP_PREDICT_ROUTE"])


def vertex_routes(service: "Service", vertex: Vertex, taken: Collection[str]) -> list[Route]:
    """The routes that Vertex AI asks at and that aren't there already.

    Args:
        taken: the paths that there are.

    Raises:
        PerronError: one of them means something else.
    """
    made = []
    if vertex.health is not None and vertex.health not in HEALTH:
        if vertex.health in taken:
            raise PerronError(_taken("AIP_HEALTH_ROUTE", vertex.health, "/health/ready"))
        made.append(Route("GET", vertex.health, partial(_health, service), None))
    if vertex.predict is not None and vertex.predict != "/invocations":  # which takes instances, too
        if vertex.predict in taken:
            raise PerronError(_taken("AIP_PREDICT_ROUTE", vertex.predict, "/predict"))
        json = ("application/json",)
        made.append(Route("POST", vertex.predict, partial(_predict, service), "predict", json, gives=json))
    return made


def _taken(name: str, path: str, instead: str) -> str:
    return f"{name} is {path}, where the server answers something else; give another, such as {instead}."


async def _health(service: "Service", request: Request) -> Answer:
    if not service.is_ready:
        return problem(503, "The service isn't ready, or is stopping.")
    return json_answer({"status": "ready"})


async def _predict(service: "Service", request: Request) -> Answer:
    try:
        given = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _refused(service, f"The body isn't JSON: {error}.")
    if not isinstance(given, dict) or not isinstance(given.get("instances"), list):
        return _refused(service, 'The body must be {"instances": [a row each]}.')
    for key in given:
        if key not in KEYS:
            return _refused(service, f"{key[:40]!r} isn't known beside instances; {nearest(key[:40], KEYS)}")
    parameters = given.get("parameters") or {}
    fault = _fault_of(parameters)
    if fault is not None:
        return _refused(service, fault)
    body = encode({"rows": given["instances"]})
    answer = await service.predict(body, request.headers, is_alone=request.is_alone)
    made = msgspec.json.decode(answer.body)
    if answer.status != 200:
        more = {key: value for key, value in made.items() if key in ("count", "errors")}
        return _problem(answer.status, made["detail"], answer.headers, **more)
    predictions = made["predictions"]
    return json_answer(
        {"predictions": predictions if parameters.get("details") else [one["value"] for one in predictions]}
    )


def _fault_of(parameters: Any) -> str | None:
    if not isinstance(parameters, dict):
        return "parameters must be an object."
    for name, value in parameters.items():
        if name not in PARAMETERS:
            return f"The parameter {name[:40]!r} isn't known; {nearest(name[:40], PARAMETERS)}"
        if not isinstance(value, bool):
            return f"The parameter {name} is {value!r:.40}; give true or false."
    return None


def _refused(service: "Service", detail: str) -> Answer:
    service.registry.refused("malformed")
    return _problem(400, detail)


def _problem(status: int, detail: str, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> Answer:
    """A problem with `error`, which Vertex AI's own containers have, in one line: its clients see the body as text."""
    words = "; ".join(error["message"] for error in more.get("errors", ())[:10]) or detail
    return problem(status, detail, headers, error=words, **more)
