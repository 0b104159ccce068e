"""A contract and a snapshot's facts in; Croissant metadata (JSON-LD) out.

Croissant Format Specification 1.0, MLCommons 2024; what is personal by Croissant RAI 1.0.
"""

from collections.abc import Mapping
from typing import Any

from perron.contract import Field, Role, Schema

__all__ = ["MISSING", "croissant"]

# The context of the specification's appendix, and the vocabulary of responsible AI.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
TYPES = {
    "float": "sc:Float",
    "int": "sc:Integer",
    "bool": "sc:Boolean",
    "text": "sc:Text",
    "category": "sc:Text",
    "date": "sc:Date",
    "datetime": "sc:DateTime",
}
MISSING = ("license", "creator", "url")  # what the specification asks for and only people know


def croissant(schema: Schema, facts: Mapping[str, Any], **told: str | None) -> dict[str, Any]:
    """The metadata of one snapshot: a Parquet file with a record set whose fields are the contract's.

    Args:
        schema: the contract.
        facts: `name`, `digest` (the SHA-256 of the Parquet file), `bytes`, `rows`, `published` (a date) and
            `content_url`, relative to where the metadata lies.
        told: `license`, `creator` and `url`, as far as they are known.
    """
    target, sensitive = schema.target, [f.name for f in schema.fields if Role.SENSITIVE in f.roles]
    made: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
        if sensitive
        else "http://mlcommons.org/croissant/1.0",
        "name": facts["name"],
        "description": (schema.doc or f"Rows of the contract {schema.name}.")
        + f" {facts['rows']:,} rows"
        + (f"; {target.name} is what is predicted." if target else "."),
        "datePublished": facts["published"],
        "version": f"1.0.0+{facts['digest'][:12]}",
        "citeAs": f"{facts['name']}, snapshot {facts['digest']}",
        **{name: value for name, value in told.items() if value is not None and name != "creator"},
    }
    if told.get("creator") is not None:
        made["creator"] = {"@type": "sc:Organization", "name": told["creator"]}
    if sensitive:
        made["rai:personalSensitiveInformation"] = sensitive
    made["distribution"] = [
        {
            "@type": "cr:FileObject",
            "@id": "rows.parquet",
            "name": "rows.parquet",
            "description": "The rows that obey the contract.",
            "contentUrl": facts["content_url"],
            "contentSize": f"{facts['bytes']} B",
            "encodingFormat": "application/x-parquet",
            "sha256": facts["digest"],
        }
    ]
    records: dict[str, Any] = {
        "@type": "cr:RecordSet",
        "@id": schema.name,
        "name": schema.name,
        "field": [_field(schema.name, field) for field in schema.fields],
    }
    key = schema.with_role(Role.ID)
    if key is not None:
        records["key"] = {"@id": f"{schema.name}/{key.name}"}
    made["recordSet"] = [records]
    return made


def _field(owner: str, field: Field) -> dict[str, Any]:
    words = [field.doc] if field.doc else []
    if field.unit:
        words.append(f"In {field.unit}.")
    if field.roles:
        words.append(f"Role: {', '.join(role.value for role in field.roles)}.")
    rules = [text for code, text in field.rules.items() if code != "required"]
    if rules:
        words.append(f"Rules: {'; '.join(rules)}.")
    words.append("May be missing." if field.optional else "Never missing.")
    return {
        "@type": "cr:Field",
        "@id": f"{owner}/{field.name}",
        "name": field.name,
        "description": " ".join(words),
        "dataType": "sc:Integer" if field.is_numeric_category else TYPES[field.kind],
        "source": {"fileObject": {"@id": "rows.parquet"}, "extract": {"column": field.name}},
    }
