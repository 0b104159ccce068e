"""A Schema in; the JSON Schema (draft 2020-12) of a request's row out."""

import math
from datetime import date
from typing import Any

from perron.contract import Field, Schema

__all__ = ["field_schema", "row_schema"]

TYPES: dict[str, dict[str, Any]] = {
    "float": {"type": "number"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "text": {"type": "string"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
}


def row_schema(schema: Schema) -> dict[str, Any]:
    """The schema of one row to predict: what `Field.is_asked` says is required, unknown fields are not allowed."""
    made: dict[str, Any] = {
        "type": "object",
        "title": schema.name,
        "properties": {field.name: field_schema(field) for field in schema.request},
        "required": [field.name for field in schema.request if not field.optional],
        "additionalProperties": False,
    }
    if schema.doc:
        made["description"] = schema.doc
    return made


def field_schema(field: Field) -> dict[str, Any]:
    """The schema of one value; bounds of dates, which JSON Schema has no words for, are in `x-minimum` and the like."""
    made = dict(TYPES.get(field.kind, {}))
    if field.values:
        made = {"type": "integer" if field.is_numeric_category else "string", "enum": list(field.values)}
    for code, keyword in (("ge", "minimum"), ("gt", "exclusiveMinimum"), ("le", "maximum"), ("lt", "exclusiveMaximum")):
        bound = getattr(field, code)
        if bound is None or (isinstance(bound, float) and math.isinf(bound)):
            continue
        if isinstance(bound, date):
            made[f"x-{keyword}"] = bound.isoformat()
        else:
            made[keyword] = bound
    if field.kind == "int":
        made.setdefault("format", "int64")
    for code, keyword in (("multiple_of", "multipleOf"), ("min_length", "minLength"), ("max_length", "maxLength")):
        if getattr(field, code) is not None:
            made[keyword] = getattr(field, code)
    if field.pattern is not None:
        made["pattern"] = f"^(?:{field.pattern})$"
    if field.optional:
        made["type"] = [made["type"], "null"]
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
    words = " ".join(part for part in (field.doc, f"In {field.unit}." if field.unit else None) if part)
    if words:
        made["description"] = words
    if field.unit:
        made["x-unit"] = field.unit
    if field.roles:
        made["x-roles"] = [role.value for role in field.roles]
    return made
