"""MLflow's scoring protocol in and out, so that what asks `mlflow models serve` can ask Perron instead.

POST /invocations   dataframe_split, dataframe_records, instances or inputs as JSON; or CSV with a header, or without one
                    where the type says so (`text/csv; header=absent`, RFC 7111): the contract's fields in their order
GET  /ping, /health whether predictions are answered
GET  /version       Perron's

A request becomes rows of the contract and takes the way of all predictions: checked, routed, logged.
The answer is MLflow's `{"predictions": […]}`, with the ids of the receipts beside it; or, where Accept wants text/csv, a
value a line. Amazon SageMaker asks the same paths in the same way (`perron.serve.platforms`). Where MLflow drops
a column that the model doesn't know, or reads text as a number, the contract refuses by name.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

import perron
from perron.contract import Field, Schema
from perron.errors import DataError, nearest
from perron.serve.problem import Answer, encode, json_answer, problem
from perron.serve.routes import Request, Route

if TYPE_CHECKING:
    from perron.serve.app import Service

__all__ = ["rows_of_csv", "rows_of_json", "routes"]

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
# As tables are read (`perron.check.table`), without what reads tables.
NULLS = frozenset(["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A", "<NA>"])
TRUTH = {**dict.fromkeys(("true", "t", "yes", "y", "1"), True), **dict.fromkeys(("false", "f", "no", "n", "0"), False)}


def routes(service: "Service") -> list[Route]:
    """The routes of MLflow's scoring server."""
    return [
        Route("POST", "/invocations", partial(_invoke, service), "predict", ("application/json", "text/csv"), gives=("application/json", "text/csv")),
        Route("GET", "/ping", partial(_ping, service), None),
        Route("GET", "/health", partial(_ping, service), None),
        Route("GET", "/version", _version, None),
    ]  # fmt: skip


async def _invoke(service: "Service", request: Request) -> Answer:
    model = service.models.get()
    schema = model.default.bundle.schema
    kind, _, rest = request.headers.get("content-type", "application/json").lower().partition(";")
    try:
        if kind.strip() == "text/csv":
            rows = rows_of_csv(schema, request.body, has_header=_has_header(rest))
        else:
            rows = rows_of_json(schema, request.body)
    except DataError as error:
        service.registry.refused("malformed")
        return _refused(400, str(error))
    answer = await service.predict(encode({"rows": rows}), request.headers, is_alone=request.is_alone, model=model)
    given = msgspec.json.decode(answer.body)
    if answer.status != 200:
        status = 400 if answer.status == 422 else answer.status  # MLflow's for whatever the model can't take
        more = {key: value for key, value in given.items() if key in ("count", "errors")}
        return _refused(status, given["detail"], answer.headers, **more)
    if request.wanted == "text/csv":
        return Answer(200, _csv(given["predictions"]), "text/csv; charset=utf-8; header=absent")
    return json_answer(
        {
            "predictions": [one["value"] for one in given["predictions"]],
            "perron": {
                "model": given["model"],
                "version": given["version"],
                "ids": [one["id"] for one in given["predictions"]],
            },
        }
    )


def _has_header(parameters: str) -> bool:
    """By the parameter `header` of text/csv; with one where it isn't said."""
    return not any(part.strip().replace('"', "") == "header=absent" for part in parameters.split(";"))


def _csv(predictions: list[dict[str, Any]]) -> bytes:
    """Their values, one a line."""
    made = io.StringIO(newline="")
    csv.writer(made, lineterminator="\n").writerows([one["value"]] for one in predictions)
    return made.getvalue().encode()


def _refused(status: int, detail: str, headers: tuple[tuple[str, str], ...] = (), **more: Any) -> Answer:
    """A problem that MLflow's clients understand too."""
    code = {400: "BAD_REQUEST", 413: "BAD_REQUEST", 429: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE"}
    words = "; ".join(error["message"] for error in more.get("errors", ())[:10]) or detail
    return problem(status, detail, headers, error_code=code.get(status, "INTERNAL_ERROR"), message=words, **more)


async def _ping(service: "Service", request: Request) -> Answer:
    if not service.is_ready:
        return problem(503, "The service isn't ready, or is stopping.")
    return Answer(200, b"\n", "text/plain; charset=utf-8")


async def _version(request: Request) -> Answer:
    return Answer(200, perron.__version__.encode(), "text/plain; charset=utf-8")


def rows_of_json(schema: Schema, body: bytes) -> list[Any]:
    """The rows of a JSON body, by the contract's names.

    Raises:
        DataError: it isn't one of MLflow's formats.
    """
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"The body isn't JSON: {error}.") from error
    if not isinstance(given, dict):
        raise DataError(f"The body must be a JSON object with one of the keys {', '.join(FORMATS)}.")
    for name in ("params", "parameters"):  # MLflow's word, and Vertex AI's
        if given.pop(name, None):
            raise DataError(f"This model takes no {name}; leave them out.")
    for key in given:
        if key not in FORMATS:
            raise DataError(f"{key[:40]!r} is none of MLflow's formats; {nearest(key[:40], FORMATS)}")
    if len(given) != 1:
        raise DataError(f"Send one of the keys {', '.join(FORMATS)}; {len(given)} came.")
    [(form, data)] = given.items()
    rows = _split(data) if form == "dataframe_split" else _records(form, data)
    renamed = _renaming(schema)
    return [{renamed.get(name, name): value for name, value in row.items()} if isinstance(row, dict) else row for row in rows]  # fmt: skip


def _split(data: Any) -> list[Any]:
    columns = data.get("columns") if isinstance(data, dict) else None
    cells = data.get("data") if isinstance(data, dict) else None
    if not isinstance(columns, list) or not isinstance(cells, list) or not all(isinstance(c, str) for c in columns):
        raise DataError('dataframe_split must be {"columns": [names], "data": [[values of a row], …]}.')
    extra = set(data) - {"columns", "data", "index"}
    if extra:
        raise DataError(f"dataframe_split has {min(extra)[:40]!r} beside columns, index and data.")
    if len(set(columns)) != len(columns):
        raise DataError("dataframe_split names a column twice.")
    for place, row in enumerate(cells):
        if not isinstance(row, list) or len(row) != len(columns):
            raise DataError(f"dataframe_split.data[{place}] must be a list of {len(columns)} values, one per column.")
    return [dict(zip(columns, row, strict=True)) for row in cells]


def _records(form: str, data: Any) -> list[Any]:
    if isinstance(data, list):
        if data and all(isinstance(row, list | int | float | str | bool) for row in data):
            raise DataError(f"{form} holds values without names; send one object per row, by the contract's fields.")
        return data
    if form == "inputs" and isinstance(data, dict):
        return _columnar(data)
    raise DataError(f"{form} must be a list of rows{', or an object of columns' if form == 'inputs' else ''}.")


def _columnar(data: Mapping[str, Any]) -> list[Any]:
    if not any(isinstance(column, list) for column in data.values()):
        return [dict(data)]
    lengths = {len(column) if isinstance(column, list) else -1 for column in data.values()}
    if len(lengths) != 1:
        raise DataError("The columns in inputs must be lists of one length.")
    return [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]


def _renaming(schema: Schema) -> dict[str, str]:
    """The fields by their names in the source, where these differ: MLflow's clients have data frames."""
    return {field.column: field.name for field in schema.request if field.column != field.name}


def rows_of_csv(schema: Schema, body: bytes, *, has_header: bool = True) -> list[dict[str, Any]]:
    """The rows of a CSV body, each cell read by its field's kind; what can't be read stays text.

    Without a header, the columns are the fields that a request must have, in the contract's order; or, where there are as
    many cells, all that it may have.

    Raises:
        DataError: it isn't CSV in UTF-8, there is no row, or a row has another number of cells.
    """
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError as error:
        raise DataError(f"The body isn't UTF-8: byte {error.start} can't be read.") from error
    except csv.Error as error:
        raise DataError(f"The body isn't CSV: {error}.") from error
    names: list[str] = []
    if has_header and lines:
        renamed = _renaming(schema)
        names = [renamed.get(name, name) for name in lines.pop(0)]
    rows = [line for line in lines if line]
    if not rows:
        raise DataError(f"The CSV needs {'a header and ' if has_header else ''}at least one row.")
    if not has_header:
        every = [field.name for field in schema.request]
        names = every if len(rows[0]) == len(every) else [field.name for field in schema.request if field.is_asked]
    if len(set(names)) != len(names):
        raise DataError("The CSV names a column twice.")
    fields = {field.name: field for field in schema.request}
    readers = [_reader(fields.get(name)) for name in names]
    for place, row in enumerate(rows):
        if len(row) != len(names):
            raise DataError(
                f"Row {place} of the CSV has {len(row)} cells, and {'its header' if has_header else 'the contract'} {len(names)}."
            )
    return [_read_row(names, readers, row) for row in rows]


def _read_row(names: Sequence[str], readers: Sequence[Callable[[str], Any]], row: Sequence[str]) -> dict[str, Any]:
    return {name: read(text) for name, read, text in zip(names, readers, row, strict=True)}


def _reader(field: Field | None) -> Callable[[str], Any]:
    """What reads a cell of the field."""
    if field is None:
        return lambda text: text
    if field.kind == "text":
        return lambda text: text or None
    nulls = NULLS - set(field.values if not field.is_numeric_category else ())

    def read(text: str) -> Any:
        stripped = text.strip()
        if (text if field.kind == "category" and not field.is_numeric_category else stripped) in nulls:
            return None
        if field.kind == "bool":
            return TRUTH.get(stripped.lower(), text)
        if field.kind in ("float", "int") or field.is_numeric_category:
            return _number(stripped, text)
        return text if field.kind == "category" else stripped

    return read


def _number(stripped: str, text: str) -> Any:
    if "_" in stripped or not stripped.isascii():  # Python reads more as numbers than tables have
        return text
    try:
        return int(stripped) if len(stripped) < 300 else text
    except ValueError:
        try:
            number = float(stripped)
        except ValueError:
            return text
    return number if abs(number) < float("inf") else text
