"""What a service answers with in; the OpenAPI 3.1 document of it out, with examples from the contracts.

Each model has its own row, request, prediction and reply; those of the first are `Row`, `Request`,
`Prediction` and `Reply`, those of another `NAME.Row` and so on. A version that takes or gives something
else than its model's default has a path of its own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perron.contract import Schema
from perron.derive.batches import batch_paths, batch_schemas
from perron.derive.jsonschema import field_schema, row_schema

__all__ = ["Described", "openapi"]

JSON, PROBLEM = "application/json", "application/problem+json"
EXAMPLE_ID = "019c1f6f0a2b5d0e9c41-00000001-7f3a91c4"
EXAMPLE_TIME = "2026-01-31T12:00:00.000Z"
DIGEST = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
TEXT, NUMBER, WHOLE, FLAG = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
TIME = {"type": "string", "format": "date-time"}
SCALAR = {"type": ["string", "number", "boolean"]}
SHARES = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}}


@dataclass(frozen=True)
class Described:
    """A version of a model, and how the document calls it.

    `versions` are the names under which the path of versions knows what takes and gives the same;
    `labels` the classes, as probabilities are keyed; `sample` a request that is answered with `answers`.
    """

    schema: Schema
    model: str
    version: int
    versions: tuple[str, ...]
    labels: tuple[str, ...]
    has_probabilities: bool
    sample: Mapping[str, Any]
    answers: Sequence[Mapping[str, Any]]

    @property
    def reply(self) -> dict[str, Any]:
        """What the sample is answered with."""
        ids = [f"{EXAMPLE_ID[:21]}{place + 1:08x}{EXAMPLE_ID[29:]}" for place in range(len(self.answers))]
        predictions = [{"id": one, **answer} for one, answer in zip(ids, self.answers, strict=True)]
        return {"model": self.model, "version": self.version, "predictions": predictions}


def openapi(
    models: Sequence[Sequence[Described]],
    *,
    limits: Mapping[str, int],
    scopes: Callable[[str, str], str | None] | None = None,
    batches: bool = False,
) -> dict[str, Any]:
    """The document.

    Args:
        models: of each model the default version, then those that differ from it; the first model answers
            where a path names none.
        limits: `max_rows` and `max_body_bytes`.
        scopes: what a token must allow for a method and a path; None where nobody is asked for a token.
        batches: whether the service takes them.
    """
    first = models[0][0]
    paths = {**_prediction_paths(models, limits), **_fixed_paths(first, limits)}
    schemas = _schemas(models)
    for model in models:
        for place, described in enumerate(model):
            schemas = {**_own_schemas(described, _prefix(models, model, place), limits), **schemas}
    if batches:
        paths.update(batch_paths(first.sample))
        schemas.update(batch_schemas())
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": first.model,
            "version": str(first.version),
            "description": first.schema.doc or f"Predictions of {first.model}.",
        },
        "servers": [{"url": "."}],
        "tags": [{"name": name, "description": words} for name, words in TAGS.items()],
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if scopes is not None:
        _secure(document, scopes)
    return document


TAGS = {
    "predictions": "Rows in, predictions out; each has a receipt.",
    "outcomes": "What really happened, sent back.",
    "models": "What answers.",
    "batches": "Rows that are predicted when there is time.",
    "mlflow": "MLflow's scoring protocol.",
    "health": "For whoever runs the service.",
    "documents": "What describes the service.",
}


def _secure(document: dict[str, Any], scopes: Callable[[str, str], str | None]) -> None:
    """Says of every operation whether it asks for a token, and what happens without."""
    document["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "A token that `perron token` made."}
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            scope = scopes(method.upper(), path)
            if scope is None:
                operation["security"] = []
                continue
            operation["security"] = [{"token": [scope]}]
            operation["responses"]["401"] = _problem("No token, or one that isn't in force")
            operation["responses"]["403"] = _problem(f"The token doesn't allow {scope}")


# -- paths


def _prefix(models: Sequence[Sequence[Described]], model: Sequence[Described], place: int) -> str:
    """What stands before the names of a version's own schemas."""
    name = "" if model is models[0] else re.sub(r"[^A-Za-z0-9._-]", "_", model[0].model) + "."
    return name if place == 0 else f"{name}{model[place].version}."


def _prediction_paths(models: Sequence[Sequence[Described]], limits: Mapping[str, int]) -> dict[str, Any]:
    paths: dict[str, Any] = {"/v1/predictions": {"post": _predict(models[0][0], "", limits, "createPredictions")}}
    for number, model in enumerate(models):
        name = model[0].model
        end = "" if number == 0 else f"_{number + 1}"
        post = _predict(model[0], _prefix(models, model, 0), limits, f"createModelPredictions{end}", 404)
        paths[f"/v1/models/{name}/predictions"] = {"post": {**post, "summary": f"Predict by {name}'s routing"}}
        for place, described in enumerate(model):
            post = _predict(
                described, _prefix(models, model, place), limits, f"createVersionPredictions{end}{f'_{described.version}' * bool(place)}", 404
            )  # fmt: skip
            post["summary"] = f"Predict by a version of {name}, or an arm of its routing"
            if place:
                paths[f"/v1/models/{name}/versions/{described.version}/predictions"] = {"post": post}
            else:
                post["parameters"] = [_in_path("version", {"enum": list(described.versions)}, "A number, or an arm's name."), *post["parameters"]]  # fmt: skip
                paths[f"/v1/models/{name}/versions/{{version}}/predictions"] = {"post": post}
    return paths


def _predict(
    described: Described, prefix: str, limits: Mapping[str, int], operation: str, *more: int
) -> dict[str, Any]:
    request, reply = f"{prefix}Request", f"{prefix}Reply"
    text = {"schema": TEXT}
    return {
        "tags": ["predictions"],
        "operationId": operation,
        "summary": "Predict one row or many",
        "description": "Every prediction is logged before it is answered, and has an id by which its receipt is found. "
        "With `Accept: text/event-stream` or `application/jsonl` the reply comes in parts, as they are predicted.",
        "parameters": [
            _in_header("X-Routing-Key", TEXT, "Always gets the same arm of an A/B test or a canary."),
            _in_header("X-Timeout-Ms", {"type": "number", "exclusiveMinimum": 0, "maximum": 86_400_000}, "When the answer is of no use any more."),
            _in_header("traceparent", TEXT, "W3C Trace Context; kept in the log."),
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": _ref(request), "example": described.sample}}},
        "responses": {
            "200": {
                "description": "OK",
                "content": {JSON: {"schema": _ref(reply), "example": described.reply}, "text/event-stream": text, "application/jsonl": text},
            },
            **_problems(400, *more, 406, 408, 413, 415, 422, 429, 503, 504, limits=limits),
        },
    }  # fmt: skip


def _fixed_paths(first: Described, limits: Mapping[str, int]) -> dict[str, Any]:
    of_model = _in_path("model", TEXT, "The model's name.", first.model)
    of_version = _in_path(
        "version", TEXT, "A version's number, or the name of an arm of the routing.", first.versions[0]
    )
    of_id = _in_path("id", TEXT, "The prediction's id.", EXAMPLE_ID)
    paging = [
        _in_query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}, "The most on a page."),
        _in_query("cursor", {"type": "string", "minLength": 1}, "What the page before named as `next`."),
    ]
    value = first.answers[0]["value"]
    outcome = {"prediction": EXAMPLE_ID, "value": value}
    filters = [
        _in_query("model", {"type": "string", "minLength": 1}, "Of this model alone."),
        _in_query("version", {"type": "integer", "minimum": 0, "maximum": 999_999_999}, "Of this version alone."),
        _in_query("route", {"type": "string", "minLength": 1}, "By this arm of the routing alone."),
        _in_query("since", TIME, "No earlier than this."),
        _in_query("until", TIME, "No later than this."),
    ]
    cards = {JSON: {"schema": _ref("Card")}, "text/html": {"schema": TEXT}, "text/markdown": {"schema": TEXT}}

    def get(
        tag: str,
        operation: str,
        summary: str,
        answer: str,
        *parameters: Any,
        problems: Sequence[int] = (406,),
        example: Any = None,
        kept: bool = False,
        paged: bool = False,
    ) -> dict[str, Any]:
        content: dict[str, Any] = {"schema": _ref(answer)}
        if example is not None:
            content["example"] = example
        return _get(tag, operation, summary, {JSON: content}, parameters, problems, kept=kept, paged=paged)

    found, listed = (404, 406), (400, 406)
    return {
        "/v1/predictions": {
            "post": _predict(first, "", limits, "createPredictions"),
            "get": {
                **get("predictions", "listPredictions", "The newest predictions", "PredictionPage", *filters, *paging, problems=listed, paged=True,
                      example={"predictions": [{"id": EXAMPLE_ID, "time": EXAMPLE_TIME, "model": first.model, "version": first.version, "route": "champion", **first.answers[0]}], "next": None}),
                "description": "Of servers, the newest first. A page may be short, even empty, while there is a next one: the work for one is bounded.",
            },
        },
        "/v1/predictions/{id}": {
            "get": {
                **get("predictions", "getPrediction", "The receipt of a prediction", "Receipt", of_id, problems=(*found, 503)),
                "description": "What was asked and answered, by which model, and the run, data, code and environment that made it.",
            }
        },
        "/v1/predictions/{id}/outcome": {
            "get": get("outcomes", "getOutcome", "The outcome of a prediction", "Outcome", of_id, problems=found, example={**outcome, "time": EXAMPLE_TIME}),
            "put": {
                "tags": ["outcomes"],
                "operationId": "putOutcome",
                "summary": "Say what really happened",
                "description": "Again with the same value changes nothing; with another it corrects.",
                "parameters": [of_id],
                "requestBody": _body(_ref("Truth"), {"value": value}),
                "responses": {
                    "200": _answer("It was known already, or is corrected", "OutcomeResult", {"prediction": EXAMPLE_ID, "status": "corrected"}),
                    "201": _answer("It is recorded", "OutcomeResult", {"prediction": EXAMPLE_ID, "status": "recorded"}),
                    **_problems(400, 404, 406, 408, 413, 415, 422, 501, limits=limits),
                },
            },
        },
        "/v1/outcomes": {
            "post": {
                "tags": ["outcomes"],
                "operationId": "createOutcomes",
                "summary": "Say of one prediction or many what really happened",
                "description": "Those that can be are recorded, also when others can't; the answer has a line for each, in order.",
                "requestBody": _body({"oneOf": [_ref("OutcomeRequest"), _ref("NewOutcome"), {"type": "array", "items": _ref("NewOutcome"), "minItems": 1, "maxItems": limits["max_rows"]}]}, {"outcomes": [outcome]}),
                "responses": {
                    "200": _answer("All of them are recorded", "OutcomeResults", {"outcomes": [{"prediction": EXAMPLE_ID, "status": "recorded"}]}),
                    **_problems(400, 406, 408, 413, 415, 422, 501, limits=limits),
                },
            }
        },
        "/v1/model": {"get": get("models", "getDefaultModel", "The model that answers", "ModelFacts", kept=True)},
        "/v1/models": {
            "get": get("models", "listModels", "The models of the service", "ModelPage", *paging, problems=listed, paged=True,
                       example={"models": [{"name": first.model, "state": "ready", "fault": None, "versions": [first.version], "routing": {"kind": "single", "arms": [{"name": "champion", "version": first.version, "weight": 1.0}], "shadow": []}}], "next": None})
        },
        "/v1/models/{model}": {"get": get("models", "getModel", "A model, by its default version", "ModelFacts", of_model, problems=found, kept=True)},
        "/v1/models/{model}/card": {"get": _get("models", "getModelCard", "The model card of the default version", cards, [of_model], found, kept=True)},
        "/v1/models/{model}/versions": {"get": get("models", "listVersions", "The versions that are loaded", "VersionPage", of_model, *paging, problems=(400, *found), paged=True)},
        "/v1/models/{model}/versions/{version}": {"get": get("models", "getVersion", "A version of a model", "ModelFacts", of_model, of_version, problems=found, kept=True)},
        "/v1/models/{model}/versions/{version}/card": {"get": _get("models", "getVersionCard", "The model card of a version", cards, [of_model, of_version], found, kept=True)},
        "/invocations": {"post": _invocations(first, limits)},
        "/ping": {"get": _get("mlflow", "ping", "Whether predictions are answered", {"text/plain": {"schema": TEXT}}, problems=(503,))},
        "/health": {"get": _get("mlflow", "health", "Whether predictions are answered", {"text/plain": {"schema": TEXT}}, problems=(503,))},
        "/version": {"get": _get("mlflow", "version", "Perron's version", {"text/plain": {"schema": TEXT}}, problems=())},
        "/health/live": {"get": get("health", "getLive", "Whether the process is alive", "Health", example={"status": "live"})},
        "/health/ready": {"get": get("health", "getReady", "Whether predictions are answered", "Health", problems=(406, 503), example={"status": "ready"})},
        "/metrics": {"get": _get("health", "getMetrics", "Numbers for Prometheus", {"text/plain": {"schema": TEXT}}, problems=())},
        "/openapi.json": {"get": _get("documents", "getOpenapi", "This document", {JSON: {"schema": {"type": "object"}}}, kept=True)},
        "/docs": {"get": _get("documents", "getDocs", "A page for people, with a form", {"text/html": {"schema": TEXT}}, kept=True)},
        "/": {"get": get("documents", "getIndex", "What there is", "Index")},
    }  # fmt: skip


def _invocations(first: Described, limits: Mapping[str, int]) -> dict[str, Any]:
    rows = {"type": "array", "items": _ref("Row"), "minItems": 1, "maxItems": limits["max_rows"]}
    split = _object(columns={"type": "array", "items": TEXT}, data={"type": "array", "items": {"type": "array"}})
    forms = {
        "dataframe_records": rows,
        "dataframe_split": split,
        "instances": rows,
        "inputs": {"anyOf": [rows, {"type": "object"}]},
    }
    one_of = [{**_object_of({form: schema}), "title": form} for form, schema in forms.items()]
    reply = first.reply
    ids = [one["id"] for one in reply["predictions"]]
    example = {
        "predictions": [one["value"] for one in reply["predictions"]],
        "perron": {"model": first.model, "version": first.version, "ids": ids},
    }
    return {
        "tags": ["mlflow"],
        "operationId": "invoke",
        "summary": "Predict, as MLflow's scoring server does",
        "description": "One of MLflow's formats, or CSV with a header; the answer has the receipts' ids beside it.",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": {"oneOf": one_of}, "example": {"dataframe_records": first.sample["rows"]}},
                "text/csv": {"schema": TEXT},
            },
        },
        "responses": {
            "200": _answer("OK", "Invoked", example),
            **_problems(400, 406, 408, 413, 415, 429, 503, 504, limits=limits),
        },
    }


def _get(
    tag: str,
    operation: str,
    summary: str,
    content: Mapping[str, Any],
    parameters: Sequence[Any] = (),
    problems: Sequence[int] = (406,),
    *,
    kept: bool = False,
    paged: bool = False,
) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "OK", "content": dict(content)}
    if kept:
        answer["headers"] = {"ETag": {"schema": TEXT, "description": "Send it as If-None-Match."}}
    if paged:
        answer["headers"] = {"Link": {"schema": TEXT, "description": 'The next page: `rel="next"` (RFC 8288).'}}
    made: dict[str, Any] = {"tags": [tag], "operationId": operation, "summary": summary}
    if parameters:
        made["parameters"] = list(parameters)
    made["responses"] = {"200": answer, **_problems(*problems, limits={})}
    if kept:
        made["responses"]["304"] = {"description": "It is still the one whose ETag was sent as If-None-Match"}
    return made


MEANINGS = {
    400: "It can't be read: the body isn't JSON, or an argument isn't one",
    404: "There is no such thing",
    406: "The header Accept allows nothing that this is given as",
    408: "The body didn't come in time",
    413: "More than {max_body_bytes} bytes or {max_rows} rows",
    415: "The body is sent as another type",
    422: "What was sent breaks the contract: every field and its rule is named",
    429: "Too much waits already; Retry-After says when to come again",
    501: "This server keeps no outcomes",
    503: "Not ready, stopping, or the prediction log can't be written, so nothing is answered",
    504: "The request's deadline passed before its turn came",
}


def _problems(*statuses: int, limits: Mapping[str, int]) -> dict[str, Any]:
    return {str(status): _problem(MEANINGS[status].format(**limits) if limits else MEANINGS[status], status) for status in statuses}  # fmt: skip


def _problem(description: str, status: int = 0) -> dict[str, Any]:
    made: dict[str, Any] = {"description": description, "content": {PROBLEM: {"schema": _ref("Problem")}}}
    if status == 429:
        made["headers"] = {"Retry-After": {"schema": WHOLE, "description": "Seconds."}}
    return made


def _answer(description: str, name: str, example: Any) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": _ref(name), "example": example}}}


def _body(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": schema, "example": example}}}


def _in_path(name: str, schema: Mapping[str, Any], words: str, example: Any = None) -> dict[str, Any]:
    made = {"name": name, "in": "path", "required": True, "description": words, "schema": schema}
    return made if example is None else {**made, "example": example}


def _in_query(name: str, schema: Mapping[str, Any], words: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": words, "schema": schema}


def _in_header(name: str, schema: Mapping[str, Any], words: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": words, "schema": schema}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


# -- schemas


def _object(required: Sequence[str] | None = None, closed: bool = False, **properties: Any) -> dict[str, Any]:
    return _object_of(properties, required, closed)


def _object_of(
    properties: Mapping[str, Any], required: Sequence[str] | None = None, closed: bool = False
) -> dict[str, Any]:
    """The schema of an object whose properties are required, all of them or those named."""
    made = {"type": "object", "properties": dict(properties)}
    made["required"] = list(properties if required is None else required)
    return {**made, "additionalProperties": False} if closed else made


def _own_schemas(described: Described, prefix: str, limits: Mapping[str, int]) -> dict[str, Any]:
    """What a version takes and gives."""
    target = described.schema.target
    assert target is not None
    kept = ("type", "enum", "description", "x-unit")
    value = {key: fact for key, fact in field_schema(target).items() if key in kept}
    if value.get("type") == "integer" and "enum" not in value:
        value["type"] = "number"  # a whole number is predicted as a number between
    prediction: dict[str, Any] = {
        "id": {**TEXT, "description": "Names its receipt."},
        "value": {**value, "title": target.name},
    }
    if described.has_probabilities:
        shares = {label: {"type": "number", "minimum": 0, "maximum": 1} for label in described.labels}
        prediction["probabilities"] = _object_of(shares, closed=True)
    rows = {"type": "array", "items": _ref(f"{prefix}Row"), "minItems": 1, "maxItems": limits["max_rows"]}
    listed = {"type": "array", "items": _ref(f"{prefix}Prediction")}
    return {
        f"{prefix}Row": row_schema(described.schema),
        f"{prefix}Request": _object(closed=True, rows=rows),
        f"{prefix}Prediction": _object_of(prediction),
        f"{prefix}Reply": _object(model=TEXT, version=WHOLE, predictions=listed),
    }


def _page(name: str, items: Mapping[str, Any]) -> dict[str, Any]:
    following = {"type": ["string", "null"], "description": "The cursor of the next page; null when there is none."}
    return _object_of({name: {"type": "array", "items": items}, "next": following})


def _schemas(models: Sequence[Sequence[Described]]) -> dict[str, Any]:
    """What is the same for every model."""
    truths: list[dict[str, Any]] = []
    for version in (version for model in models for version in model):
        assert version.schema.target is not None
        truth = field_schema(version.schema.target)
        truths += [truth] if truth not in truths else []
    truth = truths[0] if len(truths) == 1 else {"anyOf": truths}
    text_or_null, object_or_null = {"type": ["string", "null"]}, {"type": ["object", "null"]}
    arms = {"type": "array", "items": _object(("name", "version"), name=TEXT, version=WHOLE, weight=NUMBER)}
    scores = {"type": "object", "additionalProperties": NUMBER}
    baseline = {"type": "object", "additionalProperties": {"type": ["number", "null"]}}
    data = {"type": ["object", "null"], "properties": {"snapshot": TEXT, "rows": WHOLE, "contract": TEXT}}
    code = {"type": ["object", "null"], "properties": {"commit": text_or_null, "dirty": {}}}
    environment = {"type": ["object", "null"], "properties": {"python": TEXT, "packages": TEXT}}
    texts = {"type": "array", "items": TEXT}
    described = _object(("name", "kind", "expected", "optional"), name=TEXT, kind=TEXT, expected=TEXT, optional=FLAG, is_feature=FLAG, roles=texts, unit=text_or_null, description=text_or_null)  # fmt: skip
    task = {"enum": ["regression", "classification"]}
    result = {"status": {"enum": ["recorded", "corrected", "repeated", "unknown", "invalid"]}, "prediction": TEXT, "detail": TEXT}  # fmt: skip
    return {
        "Receipt": _object(
            ("prediction", "model", "run", "data", "code", "environment", "outcome"),
            prediction=_object(("id", "time", "route", "input", "value"), id=TEXT, time=TIME, route=TEXT, input={"type": "object"}, value=SCALAR, probabilities=SHARES),
            model=_object(name=TEXT, version=WHOLE, bundle={**DIGEST, "description": "SHA-256 of the bundle's manifest."}),
            run=text_or_null, data=data, code=code, environment=environment,
            outcome={"type": ["object", "null"], "properties": {"value": SCALAR, "time": TIME}},
            deployment=_object(environment=TEXT, id=WHOLE),
        ),
        "ListedPrediction": _object(("id", "time", "model", "version", "route", "value"), id=TEXT, time=TIME, model=TEXT, version=WHOLE, route=TEXT, value=SCALAR, probabilities=SHARES),
        "PredictionPage": _page("predictions", _ref("ListedPrediction")),
        "Truth": _object(closed=True, value=truth),
        "NewOutcome": {
            "oneOf": [
                {**_object(closed=True, prediction={**TEXT, "description": "Its id."}, value=truth), "title": "by the prediction's id"},
                {**_object(("id", "value"), closed=True, id={**SCALAR, "description": "The value of the contract's Id field."}, value=truth, time={**TIME, "description": "Of the newest prediction of that row made by then."}, model={**TEXT, "description": "None: the first."}), "title": "by the contract's Id"},
            ]
        },
        "OutcomeRequest": _object(closed=True, outcomes={"type": "array", "items": _ref("NewOutcome"), "minItems": 1}),
        "Outcome": _object(prediction=TEXT, value=SCALAR, time={**TIME, "description": "When it came."}),
        "OutcomeResult": _object_of(result, ("status",)),
        "OutcomeResults": _object(outcomes={"type": "array", "items": _ref("OutcomeResult")}),
        "ModelFacts": _object(
            ("name", "version", "bundle", "task", "metrics", "contract_digest", "contract", "inputs"),
            name=TEXT, version=WHOLE, bundle=DIGEST, task=task, classes={"type": ["array", "null"]}, metrics=scores, baseline=baseline,
            parity={"type": "object"}, lineage={"type": "object"}, contract_digest=DIGEST, contract={"type": "object"},
            inputs={"type": "array", "description": "Of the bundle's graph.", "items": _object(name=TEXT, type=TEXT, shape={"type": "array"})},
        ),
        "Model": _object(name=TEXT, state={"enum": ["ready", "unavailable"]}, fault={**text_or_null, "description": "Why its newest state was refused."}, versions={"type": "array", "items": WHOLE}, routing=_object(kind=TEXT, arms=arms, shadow=arms)),
        "ModelPage": _page("models", _ref("Model")),
        "Version": _object(version=WHOLE, bundle=DIGEST, contract_digest=DIGEST, task=task, metrics=scores, arms=texts, shadows=texts),
        "VersionPage": _page("versions", _ref("Version")),
        "Card": _object(
            name=TEXT, version=WHOLE, bundle=DIGEST, task=task, description=text_or_null, target=described, fields={"type": "array", "items": described},
            metrics={"type": "array", "items": _object(name=TEXT, value=NUMBER, baseline={"type": ["number", "null"]})},
            parity={"type": "object"}, contract=_object(name=TEXT, digest=DIGEST), run=text_or_null, data=object_or_null, code=object_or_null, environment=object_or_null,
        ),
        "Invoked": _object(predictions={"type": "array", "items": SCALAR}, perron=_object(model=TEXT, version=WHOLE, ids=texts)),
        "Health": _object(status=TEXT),
        "Index": _object(model=TEXT, version=WHOLE, paths=texts),
        "Problem": {
            **_object(
                ("type", "title", "status", "detail"),
                type=TEXT, title=TEXT, status=WHOLE, detail=TEXT, count={**WHOLE, "description": "Of all faults; `errors` lists the first hundred."},
                errors={"type": "array", "items": _object(("row", "field", "rule", "message"), row=WHOLE, field=TEXT, rule=TEXT, expected=TEXT, value={}, message=TEXT)},
                outcomes={"type": "array", "items": _ref("OutcomeResult")},
                error_code={**TEXT, "description": "MLflow's, of /invocations."}, message={**TEXT, "description": "MLflow's, of /invocations."},
            ),
            "description": "RFC 9457.",
        },
    }  # fmt: skip
