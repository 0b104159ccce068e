"""Nothing in; the paths and schemas of batches, for the OpenAPI document of a service, out."""

from typing import Any

__all__ = ["batch_paths", "batch_schemas"]


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(name: str, description: str, **headers: str) -> dict[str, Any]:
    found: dict[str, Any] = {"description": description, "content": {"application/json": {"schema": _ref(name)}}}
    if headers:
        found["headers"] = {
            key.replace("_", "-"): {"description": words, "schema": {"type": "string"}}
            for key, words in headers.items()
        }
    return found


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/problem+json": {"schema": _ref("Problem")}}}


def _query(name: str, kind: dict[str, Any], words: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": kind, "description": words}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def batch_paths(sample: Any) -> dict[str, Any]:
    """The paths; `sample` is a request of the service."""
    create: dict[str, Any] = {
        "tags": ["batches"],
        "summary": "Have rows predicted when there is time",
        "description": "Accepted once it is on the disk. Rows that break the contract get a fault, the others a prediction.",
        "parameters": [
            {
                "name": "Idempotency-Key", "in": "header", "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                "description": "The same key with the same request gives the same batch.",
            },
            _query("callback", {"type": "string", "format": "uri"}, "Where to tell of the end; for bodies that aren't JSON."),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("BatchRequest"), "example": sample},
                "application/jsonl": {"schema": {"type": "string", "description": "A row per line."}},
                "application/x-ndjson": {"schema": {"type": "string", "description": "A row per line."}},
                "text/csv": {"schema": {"type": "string", "description": "With a header."}},
            },
        },
        "responses": {
            "202": _json("Batch", "Accepted", Location="Where it is.", Retry_After="When to look, in seconds."),
            "400": _problem("The body can't be read"),
            "403": _problem("A source or sink that this server doesn't read or write"),
            "404": _problem("There is no such model"),
            "408": _problem("The body didn't come in time"),
            "409": _problem("The Idempotency-Key came with another request"),
            "413": _problem("More bytes or rows than allowed"),
            "415": _problem("Another type of body"),
            "422": _problem("No rows, a column that isn't there, or a callback that isn't called"),
            "429": _problem("As many batches wait as may"),
            "503": _problem("The batch can't be kept"),
        },
    }  # fmt: skip
    one = [_in_path("id")]
    missing = {"404": _problem("There is no such batch")}
    return {
        "/v1/batches": {
            "post": {**create, "operationId": "createBatch"},
            "get": {
                "tags": ["batches"], "operationId": "listBatches", "summary": "The newest batches first",
                "parameters": [
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "How many."),
                    _query("cursor", {"type": "string"}, "What `next` was."),
                ],
                "responses": {"200": _json("BatchList", "OK"), "400": _problem("A limit that is none"), **missing},
            },
        },
        "/v1/models/{model}/batches": {
            "post": {**create, "operationId": "createModelBatch", "parameters": [_in_path("model"), *create["parameters"]]},
        },
        "/v1/batches/{id}": {
            "get": {
                "tags": ["batches"], "operationId": "getBatch", "summary": "How far a batch is", "parameters": one,
                "responses": {"200": _json("Batch", "OK"), **missing},
            },
            "delete": {
                "tags": ["batches"], "operationId": "deleteBatch", "summary": "Cancel a batch, or remove one that has ended",
                "parameters": one,
                "responses": {"200": _json("Batch", "Cancelled"), "204": {"description": "Removed"}, **missing},
            },
        },
        "/v1/batches/{id}/predictions": {
            "get": {
                "tags": ["batches"], "operationId": "getBatchPredictions", "summary": "The result of a batch",
                "parameters": [
                    *one,
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 10_000}, "How many rows."),
                    _query("cursor", {"type": "string"}, "What `next` was."),
                ],
                "responses": {
                    "200": {
                        "description": "A page, or all of it as JSON lines, by Accept",
                        "content": {
                            "application/json": {"schema": _ref("BatchPage")},
                            "application/jsonl": {"schema": {"type": "string"}},
                            "application/x-ndjson": {"schema": {"type": "string"}},
                        },
                    },
                    "400": _problem("A limit or cursor that is none"),
                    "406": _problem("Another type is asked for"), "409": _problem("There is no result (yet)"), **missing,
                },
            },
        },
    }  # fmt: skip


def batch_schemas() -> dict[str, Any]:
    """The schemas; they name `Row`, `Prediction` and `Problem`, which the document has."""
    text, whole = {"type": "string"}, {"type": "integer"}
    moment = {"type": ["string", "null"], "format": "date-time"}
    nullable = {"type": ["string", "null"]}
    callback = {"type": "object", "properties": {"url": {**text, "format": "uri"}}, "required": ["url"]}
    batch = {
        "id": text, "state": {"enum": ["waiting", "running", "done", "failed", "cancelled"]}, "model": text,
        "version": whole, "rows": {"type": ["integer", "null"]}, "done": whole, "bad": whole, "fault": nullable,
        "made": moment, "started": moment, "ended": moment, "expires": moment, "predictions": nullable,
        "callback": {
            "type": ["object", "null"],
            "properties": {"state": {"enum": ["waiting", "delivered", "failed"]}, "tries": whole, "fault": nullable},
        },
    }  # fmt: skip
    prediction = {
        "type": "object",
        "properties": {"row": whole, "id": text, "value": {}, "probabilities": {"type": "object"}, "fault": text},
        "required": ["row"],
    }
    return {
        "BatchRequest": {
            "oneOf": [
                {
                    "type": "object", "additionalProperties": False, "required": ["rows"],
                    "properties": {"rows": {"type": "array", "minItems": 1}, "callback": callback},
                },
                {
                    "type": "object", "additionalProperties": False, "required": ["source", "sink"],
                    "properties": {"source": text, "sink": text, "callback": callback},
                },
            ],
        },
        "Batch": {"type": "object", "properties": batch, "required": list(batch)},
        "BatchList": {
            "type": "object", "required": ["batches", "next"],
            "properties": {"batches": {"type": "array", "items": _ref("Batch")}, "next": nullable},
        },
        "BatchPage": {
            "type": "object", "required": ["predictions", "next"],
            "properties": {"predictions": {"type": "array", "items": prediction}, "next": nullable},
        },
    }  # fmt: skip
