"""Perron's own REST in and out: predictions, receipts, outcomes, models, health and documents.

POST /v1/predictions                                   by the default model's routing
POST /v1/models/{model}/predictions                    by that model's routing
POST /v1/models/{model}/versions/{version}/predictions by that version, or arm of the routing
GET  /v1/predictions/{id}                              the receipt
POST /v1/outcomes                                      one or many
GET  /v1/models, /v1/models/{model}, …/versions/{version}, /v1/model
GET  /health/live, /health/ready, /metrics, /openapi.json, /docs, /
"""

import importlib.resources
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from perron import predictions
from perron.derive.onnx import inputs
from perron.derive.openapi import openapi
from perron.errors import MissingPackage, NotFound
from perron.serve.models import Endpoint, Model
from perron.serve.problem import Answer, json_answer, problem
from perron.serve.routes import Request, Route

if TYPE_CHECKING:
    from perron.serve.app import Service

__all__ = ["routes"]

JSON = ("application/json",)
FACTS = ("task", "classes", "metrics", "baseline", "parity", "lineage")


def routes(service: "Service") -> list[Route]:
    """The routes of a service."""

    def to(handler: Any) -> Any:
        return partial(handler, service)

    return [
        Route("POST", "/v1/predictions", to(_predict), "predict", JSON),
        Route("POST", "/v1/models/{model}/predictions", to(_predict), "predict", JSON),
        Route("POST", "/v1/models/{model}/versions/{version}/predictions", to(_predict), "predict", JSON),
        Route("GET", "/v1/predictions/{id}", to(_receipt), "read"),
        Route("POST", "/v1/outcomes", to(_outcomes), "outcome", JSON),
        Route("GET", "/v1/model", to(_model)),
        Route("GET", "/v1/models", to(_models)),
        Route("GET", "/v1/models/{model}", to(_model)),
        Route("GET", "/v1/models/{model}/versions/{version}", to(_model)),
        Route("GET", "/health/live", _live, None),
        Route("GET", "/health/ready", to(_ready), None),
        Route("GET", "/metrics", to(_metrics)),
        Route("GET", "/openapi.json", to(_openapi), None),
        Route("GET", "/docs", _docs, None),
        Route("GET", "/", to(_index), None),
    ]


def _asked(service: "Service", request: Request) -> tuple[Model, Endpoint | None]:
    """The model that a path names, and the version where it names one.

    Raises:
        NotFound: it isn't loaded.
    """
    model = service.models.get(request.params.get("model"))
    version = request.params.get("version")
    return model, None if version is None else model.version(version)


async def _predict(service: "Service", request: Request) -> Answer:
    model, endpoint = _asked(service, request)
    return await service.predict(
        request.body, request.headers, is_alone=request.is_alone, model=model, endpoint=endpoint
    )


async def _receipt(service: "Service", request: Request) -> Answer:
    prediction = request.params["id"]

    def find() -> dict[str, Any]:
        found = predictions.find(service.settings.log_folder, prediction)
        return {**found.to_json(), "outcome": service.memory.outcome(prediction)}

    try:
        return json_answer(await service.run(find))
    except NotFound:
        return problem(404, f"There is no prediction {prediction[:80]!r} in this service's log.")
    except MissingPackage as error:
        return problem(503, str(error))


async def _outcomes(service: "Service", request: Request) -> Answer:
    """One outcome or many. 200 when all of them were taken, 422 with a line each when some weren't: those taken stay."""
    try:
        given = msgspec.json.decode(request.body)
    except msgspec.DecodeError as error:
        return problem(400, f"The body isn't JSON: {error}.")
    items = given.get("outcomes", [given]) if isinstance(given, dict) else given
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        return problem(422, 'Send {"outcomes": [{"prediction": id, "value": what happened}, …]}, or one such object.')
    if len(items) > service.settings.max_rows:
        return problem(413, f"{len(items)} outcomes are more than {service.settings.max_rows} in one request.")
    done = await service.run(service.memory.add_outcomes, items)
    listed = [{key: value for key, value in vars(outcome).items() if value is not None} for outcome in done]
    bad = sum(outcome.status in ("unknown", "invalid") for outcome in done)
    if bad:
        return problem(422, f"{bad} of {len(done)} outcomes were not recorded; the others were.", outcomes=listed)
    return json_answer({"outcomes": listed})


async def _models(service: "Service", request: Request) -> Answer:
    plan = service.plan
    return json_answer(
        {
            "models": [
                {
                    "name": planned.name,
                    "state": "ready" if planned.name in service.models.by_name else "unavailable",
                    "fault": service.models.faults.get(planned.name),
                    "versions": [version.number for version in planned.versions],
                    "routing": {
                        "kind": planned.routing.kind,
                        "arms": [{"name": a.name, "version": a.version, "weight": a.weight} for a in planned.routing.arms],
                        "shadow": [{"name": arm.name, "version": arm.version} for arm in planned.routing.shadow],
                    },
                }
                for planned in (plan.models if plan is not None else ())
            ]
        }
    )  # fmt: skip


async def _model(service: "Service", request: Request) -> Answer:
    model, endpoint = _asked(service, request)
    endpoint = endpoint or model.default
    bundle = endpoint.bundle
    return json_answer(
        {
            "name": bundle.name,
            "version": endpoint.version,
            "bundle": bundle.digest,
            **{key: bundle.manifest[key] for key in FACTS},
            "contract": bundle.schema.to_json(),
            "inputs": [{"name": i.name, "type": i.onnx_type, "shape": ["N"]} for i in inputs(bundle.schema)],
        }
    )


async def _live(request: Request) -> Answer:
    return json_answer({"status": "live"})


async def _ready(service: "Service", request: Request) -> Answer:
    return (
        json_answer({"status": "ready"})
        if service.is_ready
        else problem(503, "The service isn't ready, or is stopping.")
    )


async def _metrics(service: "Service", request: Request) -> Answer:
    return Answer(200, service.registry.page(), CONTENT_TYPE_LATEST)


async def _openapi(service: "Service", request: Request) -> Answer:
    default = service.models.get().default
    bundle = default.bundle
    limits = {"max_rows": service.settings.max_rows, "max_body_bytes": service.settings.max_body_bytes}
    return json_answer(
        openapi(
            bundle.schema, name=bundle.name, version=default.version, labels=bundle.labels,
            has_probabilities=bundle.has_probabilities, sample=bundle.sample, limits=limits,
            batches=service.batches is not None,
        )
    )  # fmt: skip


async def _docs(request: Request) -> Answer:
    page = importlib.resources.files("perron.serve").joinpath("docs.html").read_bytes()
    csp = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return Answer(200, page, "text/html; charset=utf-8", (("content-security-policy", csp),))


async def _index(service: "Service", request: Request) -> Answer:
    default = service.models.get().default
    return json_answer(
        {"model": default.bundle.name, "version": default.version, "paths": [p for p in service.paths if p != "/"]}
    )
