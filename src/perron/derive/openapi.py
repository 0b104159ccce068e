"""A bundle's facts in; the OpenAPI 3.1 document of its service out."""

from collections.abc import Mapping, Sequence
from typing import Any

from perron.contract import Schema
from perron.derive.batches import batch_paths, batch_schemas
from perron.derive.jsonschema import field_schema, row_schema

__all__ = ["openapi"]


def openapi(
    schema: Schema,
    *,
    name: str,
    version: int | str,
    labels: Sequence[str],
    has_probabilities: bool,
    sample: Mapping[str, Any],
    limits: Mapping[str, int],
    batches: bool = False,
) -> dict[str, Any]:
    """The document.

    Args:
        schema: the contract.
        name: of the model.
        version: of the model.
        labels: of the classes, as probabilities are keyed; empty in a regression.
        has_probabilities: whether answers have them.
        sample: a request, for the example.
        limits: `max_rows` and `max_body_bytes`.
        batches: whether the service takes them.
    """
    document = _document(
        schema, name=name, version=version, labels=labels, has_probabilities=has_probabilities, sample=sample,
        limits=limits,
    )  # fmt: skip
    if batches:
        document["paths"].update(batch_paths(sample))
        document["components"]["schemas"].update(batch_schemas())
    return document


def _document(
    schema: Schema, *, name: str, version: int | str, labels: Sequence[str], has_probabilities: bool,
    sample: Mapping[str, Any], limits: Mapping[str, int],
) -> dict[str, Any]:  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": str(version), "description": schema.doc or f"Predictions of {name}."},
        "paths": {
            "/v1/predictions": {"post": _predict(sample, limits)},
            "/v1/predictions/{id}": {"get": _receipt()},
            "/v1/model": {"get": _get("model", "getModel", "The model that answers", "ModelFacts")},
            "/health/live": {"get": _get("health", "getLive", "Whether the process is alive", "Health")},
            "/health/ready": {
                "get": {
                    **_get("health", "getReady", "Whether predictions are answered", "Health"),
                    "responses": {**_ok("Health"), "503": _problem("Not ready, or stopping")},
                }
            },
            "/metrics": {
                "get": {
                    "tags": ["health"],
                    "operationId": "getMetrics",
                    "summary": "Numbers for Prometheus",
                    "responses": {
                        "200": {
                            "description": "In Prometheus's text format",
                            "content": {"text/plain": {"schema": {"type": "string"}}},
                        }
                    },
                }
            },
        },
        "components": {"schemas": _schemas(schema, labels, has_probabilities, limits)},
    }


def _predict(sample: Mapping[str, Any], limits: Mapping[str, int]) -> dict[str, Any]:
    return {
        "tags": ["predictions"],
        "operationId": "createPredictions",
        "summary": "Predict one row or many",
        "description": "Every prediction is logged before it is answered, and has an id by which its receipt is found.",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref("Request"), "example": sample}},
        },
        "responses": {
            **_ok("Reply"),
            "400": _problem("The body isn't JSON"),
            "408": _problem("The body didn't come in time"),
            "413": _problem(f"More than {limits['max_body_bytes']} bytes or {limits['max_rows']} rows"),
            "415": _problem("The body isn't sent as application/json"),
            "422": _problem("Rows break the contract: every field and its rule is named"),
            "503": _problem("The prediction log can't be written, so nothing is answered"),
        },
    }


def _receipt() -> dict[str, Any]:
    return {
        "tags": ["predictions"],
        "operationId": "getPrediction",
        "summary": "The receipt of a prediction",
        "description": "What was asked and answered, by which model, and the run, data, code and environment that made it.",
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "responses": {**_ok("Receipt"), "404": _problem("There is no such prediction")},
    }


def _get(tag: str, operation: str, summary: str, answer: str) -> dict[str, Any]:
    return {"tags": [tag], "operationId": operation, "summary": summary, "responses": _ok(answer)}


def _ok(name: str) -> dict[str, Any]:
    return {"200": {"description": "OK", "content": {"application/json": {"schema": _ref(name)}}}}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/problem+json": {"schema": _ref("Problem")}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required or properties)}


def _schemas(
    schema: Schema, labels: Sequence[str], has_probabilities: bool, limits: Mapping[str, int]
) -> dict[str, Any]:
    assert schema.target is not None
    text, number, whole = {"type": "string"}, {"type": "number"}, {"type": "integer"}
    nullable = {"type": ["string", "null"]}
    value = {
        key: fact
        for key, fact in field_schema(schema.target).items()
        if key in ("type", "enum", "description", "x-unit")
    }
    if value.get("type") == "integer" and "enum" not in value:
        value["type"] = "number"  # a whole number is predicted as a number between
    prediction: dict[str, Any] = {
        "id": {**text, "description": "Names its receipt."},
        "value": {**value, "title": schema.target.name},
    }
    if has_probabilities:
        shares = {label: {"type": "number", "minimum": 0, "maximum": 1} for label in labels}
        prediction["probabilities"] = {
            "type": "object",
            "properties": shares,
            "required": list(labels),
            "additionalProperties": False,
        }
    return {
        "Row": row_schema(schema),
        "Request": {**_object(rows={"type": "array", "items": _ref("Row"), "minItems": 1, "maxItems": limits["max_rows"]}), "additionalProperties": False},
        "Prediction": _object(**prediction),
        "Reply": _object(model=text, version=whole, predictions={"type": "array", "items": _ref("Prediction")}),
        "Receipt": _object(
            prediction=_object(("id", "time", "route", "input", "value"), id=text, time={**text, "format": "date-time"}, route=text, input={"type": "object"}, value=value, probabilities={"type": "object"}),
            model=_object(name=text, version=whole, bundle={**text, "description": "SHA-256 of the bundle's manifest."}),
            run=nullable,
            data=_object(snapshot=text, rows=whole, contract=text),
            code=_object(commit=nullable, dirty=nullable),
            environment=_object(python=text, packages=text),
            outcome={"type": ["object", "null"]},
        ),
        "ModelFacts": _object(
            ("name", "version", "bundle", "task", "metrics"),
            name=text, version=whole, bundle=text, task={"enum": ["regression", "classification"]}, classes={"type": ["array", "null"]},
            metrics={"type": "object", "additionalProperties": number}, baseline={"type": "object", "additionalProperties": number}, parity={"type": "object"}, lineage={"type": "object"}, contract={"type": "object"},
            inputs={"type": "array", "description": "Of the bundle's graph.", "items": _object(name=text, type=text, shape={"type": "array"})},
        ),
        "Health": _object(status=text),
        "Problem": {
            **_object(
                ("type", "title", "status"),
                type=text, title=text, status=whole, detail=text, count={**whole, "description": "Of all faults; `errors` lists the first hundred."},
                errors={"type": "array", "items": _object(("row", "field", "rule", "message"), row=whole, field=text, rule=text, expected=text, value={}, message=text)},
            ),
            "description": "RFC 9457.",
        },
    }  # fmt: skip
