"""A Schema in; the text of a Python module out: a client of that contract's service, typed, and in need of nothing else."""

import importlib.resources
import re
from collections.abc import Sequence

from perron.contract import Field, Schema

__all__ = ["MARK", "client_module"]

MARK = "# Made by `perron client`; make it again rather than edit it.\n"
TYPES = {
    "float": "float",
    "int": "int",
    "bool": "bool",
    "text": "str",
    "date": "date",
    "datetime": "datetime",
}
# Words of the annotations: a field of such a name would hide them in a class body.
WORDS = {*TYPES.values(), "Literal", "NotRequired", "None"}
HEAD = '''{mark}# ruff: noqa
"""The client of {model}: rows in, typed predictions out. Needs Python 3.11, and no package.

    with Client("http://127.0.0.1:8000") as client:
        reply = client.predict([row])
        client.outcome(reply.predictions[0], value)

Made for version {version}, by the contract {contract}, {digest}.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, NotRequired, TypedDict

MODEL = {model!r}
CONTRACT = "{digest}"

'''
BODY = '''

# ---- the contract

{rows}
Value = {value}
"""What is predicted: {target}{unit}."""
Truth = {truth}
"""What may really have happened."""
{labels}

@dataclass(frozen=True)
class Prediction:
    """A predicted value; its id names the receipt."""

    id: str
    value: Value
{probabilities}

@dataclass(frozen=True)
class Reply:
    """What rows were answered with, in their order."""

    model: str
    version: int
    predictions: list[Prediction]


class Predicted(TypedDict):
    """A prediction as the log has it; its input is as an older version of the contract may have it."""

    id: str
    time: str
    route: str
    input: dict[str, Any]
    value: Any
    probabilities: NotRequired[dict[str, float]]


class Origin(TypedDict):
    """The version that answered, and the SHA-256 of its bundle's manifest."""

    name: str
    version: int
    bundle: str


class Outcome(TypedDict):
    """What really happened, and when that was sent."""

    value: Any
    time: str


class Receipt(TypedDict):
    """Where a prediction comes from."""

    prediction: Predicted
    model: Origin
    run: str | None
    data: dict[str, Any] | None
    code: dict[str, Any] | None
    environment: dict[str, Any] | None
    outcome: Outcome | None


class Client(Connection):
    """A client of {model}, by the contract {contract}.

    Before its first prediction it looks whether the service has that contract, and so it does when another
    version answers, or refuses, later on.

    Raises:
        ContractChanged: the service has another contract (a warning where a prediction came nevertheless).
        Refused: rows break the contract; `faults` says where.
        Problem: the service answered with another problem, by its kind. NoAnswer: there is no answer.
    """

    def __init__(self, url: str, token: str | None = None, timeout_s: float = 30.0) -> None:
        super().__init__(url, token, timeout_s)
        self._seen: set[int] = set()

    def predict(
        self, rows: Sequence[Row], *, version: int | str | None = None, key: str | None = None, timeout_ms: float | None = None
    ) -> Reply:
        """The predictions of rows.

        Args:
            rows: of the contract.
            version: of the model, or an arm of its routing; None: as the service routes.
            key: always gets the same arm of an A/B test or a canary.
            timeout_ms: after which the answer is of no use: the service then spends nothing on it.
        """
        self._check_first(version)
        try:
            given = self.ask("POST", _path(version), {{"rows": rows}}, headers=_headers(key, timeout_ms))
        except Refused:
            self._check(version)
            raise
        self._look_at(given["version"])
        return Reply(given["model"], given["version"], [Prediction(**one) for one in given["predictions"]])

    def stream(
        self, rows: Sequence[Row], *, version: int | str | None = None, key: str | None = None, timeout_ms: float | None = None
    ) -> Iterator[Prediction]:
        """The predictions of many rows, in their order, as they are made."""
        self._check_first(version)
        for part in self.lines(_path(version), {{"rows": rows}}, _headers(key, timeout_ms)):
            self._look_at(part["version"])
            yield from (Prediction(**one) for one in part["predictions"])

    def receipt(self, prediction: str | Prediction) -> Receipt:
        """Where a prediction comes from: its model, run, data, code, environment, and outcome."""
        found: Receipt = self.ask("GET", ("v1", "predictions", _id(prediction)))
        return found

    def outcome(self, prediction: str | Prediction, value: Truth) -> Literal["recorded", "corrected", "repeated"]:
        """Records what really happened; another value later corrects it, the same changes nothing."""
        found = self.ask("PUT", ("v1", "predictions", _id(prediction), "outcome"), {{"value": value}})
        status: Literal["recorded", "corrected", "repeated"] = found["status"]
        return status

    def _check_first(self, version: int | str | None) -> None:
        if not self._seen:
            self._check(version)

    def _check(self, version: int | str | None) -> None:
        self.check_contract(_path(version)[:-1], CONTRACT, MADE_FOR)

    def _look_at(self, version: int) -> None:
        """Warns when a version that is seen for the first time has another contract."""
        if version in self._seen:
            return
        self._seen.add(version)
        try:
            self._check(version)
        except ContractChanged as error:
            warnings.warn(str(error), stacklevel=3)
        except NotThere:  # it has been replaced since
            pass


MADE_FOR = f"{{MODEL}} version {version}"


def _path(version: int | str | None) -> list[str]:
    return ["v1", "models", MODEL, *(() if version is None else ("versions", str(version))), "predictions"]


def _headers(key: str | None, timeout_ms: float | None) -> Mapping[str, str]:
    headers = {{}} if key is None else {{"X-Routing-Key": key}}
    return headers if timeout_ms is None else {{**headers, "X-Timeout-Ms": f"{{timeout_ms:.3f}}"}}


def _id(prediction: str | Prediction) -> str:
    return prediction if isinstance(prediction, str) else prediction.id
'''


def client_module(schema: Schema, *, model: str, version: int, labels: Sequence[str], has_probabilities: bool) -> str:
    """The module's text, the same for the same arguments.

    Args:
        schema: the contract.
        model: its name.
        version: the one that the contract is of.
        labels: of the classes, as probabilities are keyed.
        has_probabilities: whether predictions have them.
    """
    target = schema.target
    assert target is not None
    facts = {"mark": MARK, "model": model, "version": version, "contract": schema.name, "digest": schema.digest}
    truth = _type_of(target)
    body = BODY.format(
        rows=_rows(schema),
        value="float" if truth == "int" else truth,
        truth=truth,
        target=target.name,
        unit=f" in {_words(target.unit)}" if target.unit else "",
        labels=f"Label = {_literal(labels)}\n" if has_probabilities else "",
        probabilities="    probabilities: dict[Label, float]\n" if has_probabilities else "",
        **facts,
    )
    return HEAD.format(**facts) + _connection() + body


def _connection() -> str:
    """`perron.connection` without its docstring and its only import of Perron's."""
    text = importlib.resources.files("perron").joinpath("connection.py").read_text("utf-8")
    text = re.sub(r'\A""".*?"""\n', "", text, flags=re.DOTALL)
    text = re.sub(r"^__all__ = \[.*?\].*?\n", "", text, flags=re.DOTALL | re.MULTILINE)
    base = 'class PerronError(Exception):\n    """Base of what can go wrong; `str(error)` is one line."""\n'
    before, found, after = text.partition("from perron.errors import PerronError\n")
    assert found
    return f"# ---- asking a service (as in perron.connection)\n{before}\n\n{base}{after}"


def _rows(schema: Schema) -> str:
    doc = _words(schema.doc) if schema.doc else f"A row of {schema.name}."
    if WORDS.isdisjoint(field.name for field in schema.request):
        lines = [f"    {field.name}: {_asked(field)}\n{_note(field)}" for field in schema.request]
        return f'class Row(TypedDict):\n    """{doc}"""\n\n' + "".join(lines) + "\n\n"
    items = "".join(f"    {field.name!r}: {_asked(field)},\n" for field in schema.request)
    return f'Row = TypedDict("Row", {{\n{items}}})\n"""{doc}"""\n\n'


def _asked(field: Field) -> str:
    """The annotation of a field of a request."""
    return f"NotRequired[{_type_of(field)} | None]" if field.optional else _type_of(field)


def _note(field: Field) -> str:
    words = " ".join(part for part in (field.doc, f"Expected {field.expected}" + (f", in {field.unit}." if field.unit else ".")) if part)  # fmt: skip
    return f'    """{_words(words)}"""\n'


def _type_of(field: Field) -> str:
    return _literal(field.values) if field.values else TYPES[field.kind]


def _literal(values: Sequence[str | int]) -> str:
    return f"Literal[{', '.join(map(ascii, values))}]"


def _words(text: str) -> str:
    """Text within a docstring of the module, on one line, whatever is in it."""
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
