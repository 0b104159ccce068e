"""Perron's own REST in and out: predictions, receipts, outcomes, models, cards, health and documents.

POST /v1/predictions                                   by the default model's routing
POST /v1/models/{model}/predictions                    by that model's routing
POST /v1/models/{model}/versions/{version}/predictions by that version, or arm of the routing
GET  /v1/predictions                                   the newest, page by page
GET  /v1/predictions/{id}                              the receipt
GET, PUT /v1/predictions/{id}/outcome                  what really happened
POST /v1/outcomes                                      one or many
GET  /v1/models, /v1/models/{model}, …/versions, …/versions/{version}, /v1/model
GET  …/card                                            of a model, or of one of its versions
GET  /health/live, /health/ready, /metrics, /openapi.json, /docs, /

`perron.derive.openapi` describes all of them; a test compares the two.
"""

import importlib.resources
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from perron import predictions
from perron.bundle import GraphBundle
from perron.derive.card import card, card_html, card_markdown
from perron.derive.onnx import inputs
from perron.derive.openapi import Described, openapi
from perron.errors import MissingPackage, NotFound, nearest
from perron.predictions import listing
from perron.serve import streaming
from perron.serve.models import Endpoint, Model
from perron.serve.negotiation import document_headers
from perron.serve.problem import Answer, Stream, encode, json_answer, problem
from perron.serve.routes import Request, Route

if TYPE_CHECKING:
    from perron.plan import ModelPlan, Outcome
    from perron.serve.app import Service

__all__ = ["routes"]

JSON = ("application/json",)
REPLIES = ("application/json", streaming.EVENTS, streaming.LINES)
HTML, MARKDOWN = "text/html; charset=utf-8", "text/markdown; charset=utf-8"
CARDS = ("application/json", HTML, MARKDOWN)
FACTS = ("task", "classes", "metrics", "baseline", "parity", "lineage")
PAGE, LONGEST_PAGE = 50, 500
CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
DOCS_CSP = f"{CSP}; script-src 'unsafe-inline'; connect-src 'self'"
PRIVATE = (("cache-control", "no-store"),)


def routes(service: "Service") -> list[Route]:
    """The routes of a service."""

    def to(handler: Any) -> Any:
        return partial(handler, service)

    def get(path: str, handler: Any, scope: Any = "read", gives: tuple[str, ...] = JSON) -> Route:
        return Route("GET", path, to(handler), scope, gives=gives)

    def post(path: str, handler: Any, scope: Any, gives: tuple[str, ...] = JSON) -> Route:
        return Route("POST", path, to(handler), scope, JSON, gives=gives)

    return [
        post("/v1/predictions", _predict, "predict", REPLIES),
        post("/v1/models/{model}/predictions", _predict, "predict", REPLIES),
        post("/v1/models/{model}/versions/{version}/predictions", _predict, "predict", REPLIES),
        get("/v1/predictions", _predictions),
        get("/v1/predictions/{id}", _receipt),
        get("/v1/predictions/{id}/outcome", _outcome),
        Route("PUT", "/v1/predictions/{id}/outcome", to(_put_outcome), "outcome", JSON, gives=JSON),
        post("/v1/outcomes", _outcomes, "outcome"),
        get("/v1/model", _model),
        get("/v1/models", _models),
        get("/v1/models/{model}", _model),
        get("/v1/models/{model}/card", _card, gives=CARDS),
        get("/v1/models/{model}/versions", _versions),
        get("/v1/models/{model}/versions/{version}", _model),
        get("/v1/models/{model}/versions/{version}/card", _card, gives=CARDS),
        get("/health/live", _live, None),
        get("/health/ready", _ready, None),
        get("/metrics", _metrics, gives=()),
        get("/openapi.json", _openapi, None),
        get("/docs", _docs, None, (HTML,)),
        get("/", _index, None),
    ]


def _asked(service: "Service", request: Request) -> tuple[Model, Endpoint | None]:
    """The model that a path names, and the version where it names one.

    Raises:
        NotFound: it isn't loaded.
    """
    model = service.models.get(request.params.get("model"))
    version = request.params.get("version")
    return model, None if version is None else model.version(version)


def _json_body(request: Request) -> Any:
    """The body's JSON, or the problem that it isn't."""
    try:
        return msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return problem(400, f"The body isn't JSON: {error}.")


def _document(body: bytes, content_type: str = "application/json", *more: tuple[str, str]) -> Answer:
    """An answer that clients may keep, and ask again about with If-None-Match."""
    return Answer(200, body, content_type, (*document_headers(body), *more))


# -- predictions


async def _predict(service: "Service", request: Request) -> Answer | Stream:
    model, endpoint = _asked(service, request)
    if request.wanted != "application/json":
        return await streaming.stream(service, request, model, endpoint)
    return await service.predict(
        request.body, request.headers, is_alone=request.is_alone, model=model, endpoint=endpoint
    )


async def _predictions(service: "Service", request: Request) -> Answer:
    readers: dict[str, Callable[[str], Any]] = {
        "limit": _limit, "cursor": listing.parse_cursor, "model": _name, "version": _number, "route": _name,
        "since": _moment, "until": _moment,
    }  # fmt: skip
    given = _arguments(request, readers)
    if isinstance(given, Answer):
        return given
    limit, before = given.pop("limit", PAGE), given.pop("cursor", None)
    page = await service.run(
        lambda: listing.list_predictions(service.settings.log_folder, limit=limit, before=before, **given)
    )
    listed = [one.to_json() for one in page.predictions]
    return _page(request, "predictions", listed, page.next, *PRIVATE)


async def _receipt(service: "Service", request: Request) -> Answer:
    prediction = request.params["id"]

    def find() -> dict[str, Any]:
        found = predictions.find(service.settings.log_folder, prediction)
        return {**found.to_json(), "outcome": service.memory.outcome(prediction)}

    try:
        return json_answer(await service.run(find), headers=PRIVATE)
    except NotFound:
        return _no_prediction(prediction)
    except MissingPackage as error:
        return problem(503, str(error))


def _no_prediction(prediction: str) -> Answer:
    return problem(404, f"There is no prediction {prediction[:80]!r} in this service's log.")


# -- outcomes


async def _outcome(service: "Service", request: Request) -> Answer:
    prediction = request.params["id"]
    found = await service.run(service.memory.outcome, prediction)
    if found is None:
        return problem(404, f"No outcome of {prediction[:80]!r} is known.")
    return json_answer({"prediction": prediction, **found}, headers=PRIVATE)


async def _put_outcome(service: "Service", request: Request) -> Answer:
    """201 when there was none before, 200 when it replaced one or was there already."""
    given = _json_body(request)
    if isinstance(given, Answer):
        return given
    if not isinstance(given, dict) or set(given) != {"value"}:
        return problem(422, 'Send {"value": what happened}.')
    prediction = request.params["id"]
    [done] = await service.run(service.memory.add_outcomes, [{"prediction": prediction, "value": given["value"]}])
    if done.status == "unknown":
        return _no_prediction(prediction)
    if done.status == "invalid":
        return problem(422, done.detail or "The contract's target can't be that value.")
    return json_answer(_plain_outcome(done), 201 if done.status == "recorded" else 200, PRIVATE)


async def _outcomes(service: "Service", request: Request) -> Answer:
    """One outcome or many. 200 when all of them were taken, 422 with a line each when some weren't: those taken stay."""
    given = _json_body(request)
    if isinstance(given, Answer):
        return given
    items = given["outcomes"] if isinstance(given, dict) and set(given) == {"outcomes"} else given
    items = [items] if isinstance(items, dict) else items
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        return problem(422, 'Send {"outcomes": [{"prediction": id, "value": what happened}, …]}, or one such object.')
    if len(items) > service.settings.max_rows:
        return problem(413, f"{len(items)} outcomes are more than {service.settings.max_rows} in one request.")
    faults = [_fault_of(item) for item in items]
    sound = [item for item, fault in zip(items, faults, strict=True) if fault is None]
    done = iter(await service.run(service.memory.add_outcomes, sound) if sound else ())
    listed = [
        _plain_outcome(next(done)) if fault is None else {"status": "invalid", "detail": fault} for fault in faults
    ]
    bad = sum(one["status"] in ("unknown", "invalid") for one in listed)
    if bad:
        return problem(422, f"{bad} of {len(listed)} outcomes were not recorded; the others were.", outcomes=listed)
    return json_answer({"outcomes": listed}, headers=PRIVATE)


def _fault_of(item: Mapping[str, Any]) -> str | None:
    """What is wrong with the shape of an outcome, or None; whether its value may be is the contract's to say."""
    if ("prediction" in item) == ("id" in item) or "value" not in item:
        return "An outcome needs value, and either prediction (its id) or id (the contract's)."
    known = ("prediction", "value") if "prediction" in item else ("id", "value", "time", "model")
    for key in item:
        if key not in known:
            return f"{key[:40]!r} isn't known; beside {known[0]} an outcome has {' and '.join(known[1:])}."
    if "prediction" in item and not isinstance(item["prediction"], str):
        return "An outcome's prediction is its id, a text."
    if isinstance(item.get("id"), list | dict):
        return "An outcome's id is a value of the contract's Id field."
    return None


def _plain_outcome(outcome: "Outcome") -> dict[str, Any]:
    return {key: value for key, value in vars(outcome).items() if value is not None}


# -- models


async def _models(service: "Service", request: Request) -> Answer:
    plan = service.plan
    planned = {model.name: model for model in (plan.models if plan is not None else ())}
    return _slice(request, "models", list(planned), lambda name: _listed_model(service, planned[name]))


def _listed_model(service: "Service", planned: "ModelPlan") -> dict[str, Any]:
    routing = planned.routing
    return {
        "name": planned.name,
        "state": "ready" if planned.name in service.models.by_name else "unavailable",
        "fault": service.models.faults.get(planned.name),
        "versions": [version.number for version in planned.versions],
        "routing": {
            "kind": routing.kind,
            "arms": [{"name": arm.name, "version": arm.version, "weight": arm.weight} for arm in routing.arms],
            "shadow": [{"name": arm.name, "version": arm.version} for arm in routing.shadow],
        },
    }


async def _versions(service: "Service", request: Request) -> Answer:
    model, _ = _asked(service, request)
    return _slice(request, "versions", sorted(model.versions), lambda number: _listed_version(model, number))


def _listed_version(model: Model, number: int) -> dict[str, Any]:
    bundle = model.versions[number].bundle
    return {
        "version": number,
        "bundle": bundle.digest,
        "contract_digest": bundle.schema.digest,
        "task": bundle.manifest.get("task"),
        "metrics": bundle.manifest.get("metrics", {}),
        "arms": [name for name, endpoint in model.arms.items() if endpoint.version == number],
        "shadows": [name for name, endpoint in model.shadows.items() if endpoint.version == number],
    }


async def _model(service: "Service", request: Request) -> Answer:
    model, endpoint = _asked(service, request)
    endpoint = endpoint or model.default
    bundle = endpoint.bundle
    if isinstance(bundle, GraphBundle):
        kept = ("kind", "lineage", "inputs", "outputs", "batched")
        facts = {key: bundle.manifest[key] for key in kept}
        return _document(encode({"name": bundle.name, "version": endpoint.version, "bundle": bundle.digest, **facts}))
    return _document(
        encode(
            {
                "name": bundle.name,
                "version": endpoint.version,
                "bundle": bundle.digest,
                **{key: bundle.manifest[key] for key in FACTS},
                "contract_digest": bundle.schema.digest,
                "contract": bundle.schema.to_json(),
                "inputs": [{"name": i.name, "type": i.onnx_type, "shape": ["N"]} for i in inputs(bundle.schema)],
            }
        )
    )


async def _card(service: "Service", request: Request) -> Answer:
    model, endpoint = _asked(service, request)
    endpoint = endpoint or model.default
    bundle = endpoint.bundle
    if isinstance(bundle, GraphBundle):
        return problem(404, bundle.refusal)
    made = card(bundle.manifest, bundle.schema, version=endpoint.version, bundle=bundle.digest)
    if request.wanted == HTML:
        return _document(card_html(made).encode(), HTML, ("content-security-policy", CSP))
    if request.wanted == MARKDOWN:
        return _document(card_markdown(made).encode(), MARKDOWN)
    return _document(encode(made))


# -- pages and their arguments


def _slice(request: Request, name: str, keys: Sequence[Any], show: Callable[[Any], Any]) -> Answer:
    """A page of a list that is in memory; its cursor is the key of the last item, so that what comes and goes moves nothing."""
    readers: dict[str, Callable[[str], Any]] = {"limit": _limit, "cursor": _name}
    given = _arguments(request, readers)
    if isinstance(given, Answer):
        return given
    start, texts = 0, [str(key) for key in keys]
    if "cursor" in given:
        if given["cursor"] not in texts:
            return problem(400, f"The cursor {given['cursor'][:80]!r} isn't on the list any more; begin without one.")
        start = texts.index(given["cursor"]) + 1
    end = start + given.get("limit", PAGE)
    following = texts[end - 1] if end < len(keys) else None
    return _page(request, name, [show(key) for key in keys[start:end]], following, ("cache-control", "no-cache"))


def _page(request: Request, name: str, items: list[Any], following: str | None, *headers: tuple[str, str]) -> Answer:
    """The items, the next page's cursor, and a link to it (RFC 8288), relative so that it holds behind any prefix."""
    if following is not None:
        link = f"<?{urlencode({**request.arguments(), 'cursor': following})}>"
        headers = (*headers, ("link", f'{link}; rel="next"'))
    return json_answer({name: items, "next": following}, headers=headers)


def _arguments(request: Request, readers: Mapping[str, Callable[[str], Any]]) -> dict[str, Any] | Answer:
    """The query's arguments, read; or the problem that one isn't known or can't be read."""
    read: dict[str, Any] = {}
    for name, text in request.arguments().items():
        if name not in readers:
            return problem(400, f"The argument {name[:40]!r} isn't known; {nearest(name[:40], readers)}")
        value = readers[name](text)
        if value is None:
            return problem(400, f"The argument {name} is {text[:80]!r}; give {WORDS[name]}.")
        read[name] = value
    return read


WORDS = {
    "limit": f"a whole number from 1 to {LONGEST_PAGE}",
    "cursor": "the one that the page before named",
    "version": "a version's number",
    "model": "a name", "route": "a name",
    "since": "a time such as 2026-01-31T12:00:00Z", "until": "a time such as 2026-01-31T12:00:00Z",
}  # fmt: skip


def _limit(text: str) -> int | None:
    number = _number(text)
    return number if number is not None and 1 <= number <= LONGEST_PAGE else None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _name(text: str) -> str | None:
    return text or None


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.replace(" ", "+"))  # a plus that wasn't encoded comes as a blank
    except ValueError:
        return None


# -- health and documents


async def _live(service: "Service", request: Request) -> Answer:
    return json_answer({"status": "live"}, headers=PRIVATE)


async def _ready(service: "Service", request: Request) -> Answer:
    if not service.is_ready:
        return problem(503, "The service isn't ready, or is stopping.")
    return json_answer({"status": "ready"}, headers=PRIVATE)


async def _metrics(service: "Service", request: Request) -> Answer:
    return Answer(200, service.registry.page(), CONTENT_TYPE_LATEST, PRIVATE)


async def _openapi(service: "Service", request: Request) -> Answer:
    """Made anew when other versions answer: it describes the versions that are loaded."""
    first = service.models.get()
    if isinstance(first.default.bundle, GraphBundle):
        return problem(404, first.default.bundle.refusal)
    others = [model for model in service.models.by_name.values() if model is not first]
    models = [first, *(model for model in others if not isinstance(model.default.bundle, GraphBundle))]
    plan = service.plan
    has_tokens = plan is not None and plan.tokens is not None
    key = (has_tokens, tuple((model.plan, tuple(e.bundle.digest for e in model.endpoints)) for model in models))
    if service.document is None or service.document[0] != key:
        limits = {"max_rows": service.settings.max_rows, "max_body_bytes": service.settings.max_body_bytes}
        scopes = service.scope_of if has_tokens else None
        made = openapi(
            [_described(model) for model in models], limits=limits, scopes=scopes, batches=service.batches is not None
        )
        service.document = (key, _document(encode(made)))
    return service.document[1]


def _described(model: Model) -> list[Described]:
    """The default version, then those that take or give something else."""
    shapes: dict[Any, list[Endpoint]] = {}
    for endpoint in [model.default, *model.versions.values()]:
        bundle = endpoint.bundle
        shape = (endpoint.schema_digest, tuple(bundle.labels), bundle.has_probabilities)
        shapes.setdefault(shape, []).append(endpoint)
    made = []
    for endpoints in shapes.values():
        first, bundle = endpoints[0], endpoints[0].bundle
        numbers = {endpoint.version for endpoint in endpoints}
        names = [*map(str, sorted(numbers)), *(name for name, arm in model.arms.items() if arm.version in numbers)]
        made.append(
            Described(
                bundle.schema, model.name, first.version, tuple(names), tuple(bundle.labels), bundle.has_probabilities,
                bundle.sample, bundle.predict(bundle.sample["rows"]),
            )
        )  # fmt: skip
    return made


async def _docs(service: "Service", request: Request) -> Answer:
    page = importlib.resources.files("perron.serve").joinpath("docs.html").read_bytes()
    return _document(page, HTML, ("content-security-policy", DOCS_CSP))


async def _index(service: "Service", request: Request) -> Answer:
    default = service.models.get().default
    return json_answer(
        {"model": default.bundle.name, "version": default.version, "paths": [p for p in service.paths if p != "/"]}
    )
