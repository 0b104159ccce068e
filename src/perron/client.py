"""A service's address in; predictions, receipts, outcomes and models out, whatever its contract.

    with Client("http://127.0.0.1:8000") as client:
        reply = client.predict([{"total_rooms": 880, …}])
        client.outcome(reply.predictions[0].id, 452_600)

A client whose rows and values are typed by a contract is written by `perron client`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from perron.connection import Connection

__all__ = ["Client", "Prediction", "Reply"]


@dataclass(frozen=True)
class Prediction:
    """A predicted value; its id names the receipt. `probabilities` are of a classification that has them."""

    id: str
    value: Any
    probabilities: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Reply:
    """What rows were answered with, in their order."""

    model: str
    version: int
    predictions: list[Prediction]


class Client(Connection):
    """A client of any service.

    Every method raises `perron.connection.Problem` (by its kind) for what the service refuses, and
    `NoAnswer` when it can't be reached.
    """

    def predict(
        self,
        rows: Sequence[Mapping[str, object]],
        *,
        model: str | None = None,
        version: int | str | None = None,
        key: str | None = None,
        timeout_ms: float | None = None,
    ) -> Reply:
        """The predictions of rows.

        Args:
            rows: by the contract's fields; dates may be `date` and `datetime`.
            model: which, where there are several; None: the service's default.
            version: of the model, or an arm of its routing.
            key: always gets the same arm of an A/B test or a canary.
            timeout_ms: after which the answer is of no use: the service then spends nothing on it.
        """
        given = self.ask("POST", _place(model, version), {"rows": rows}, headers=_headers(key, timeout_ms))
        return Reply(given["model"], given["version"], [Prediction(**one) for one in given["predictions"]])

    def stream(
        self,
        rows: Sequence[Mapping[str, object]],
        *,
        model: str | None = None,
        version: int | str | None = None,
        key: str | None = None,
        timeout_ms: float | None = None,
    ) -> Iterator[Prediction]:
        """The predictions of many rows, in their order, as they are made."""
        for part in self.lines(_place(model, version), {"rows": rows}, _headers(key, timeout_ms)):
            yield from (Prediction(**one) for one in part["predictions"])

    def receipt(self, prediction: str) -> dict[str, Any]:
        """Where a prediction comes from: its model, run, data, code, environment, and outcome."""
        found: dict[str, Any] = self.ask("GET", ("v1", "predictions", prediction))
        return found

    def predictions(
        self,
        *,
        model: str | None = None,
        version: int | None = None,
        route: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The predictions of the log, the newest first, page after page."""
        query = {
            "model": model, "version": version, "route": route, "limit": 500,
            "since": since and since.isoformat(), "until": until and until.isoformat(),
        }  # fmt: skip
        return self._pages(("v1", "predictions"), "predictions", query)

    def outcome(self, prediction: str, value: object) -> str:
        """Records what really happened: `recorded`, `corrected`, or `repeated` when nothing changed."""
        return str(self.ask("PUT", ("v1", "predictions", prediction, "outcome"), {"value": value})["status"])

    def outcomes(self, values: Iterable[tuple[str, object]]) -> list[str]:
        """Records many outcomes, each a prediction's id and its value; a status for each, in order.

        Raises:
            Refused: some can't be recorded; `body["outcomes"]` has a line for each, and the others are recorded.
        """
        items = [{"prediction": prediction, "value": value} for prediction, value in values]
        return [str(one["status"]) for one in self.ask("POST", ("v1", "outcomes"), {"outcomes": items})["outcomes"]]

    def models(self) -> Iterator[dict[str, Any]]:
        """The models of the service."""
        return self._pages(("v1", "models"), "models", {"limit": 500})

    def model(self, name: str | None = None, version: int | str | None = None) -> dict[str, Any]:
        """What a model, or one of its versions, is: its contract, its metrics, where it comes from."""
        place = ["v1", "model"] if name is None else ["v1", "models", name]
        found: dict[str, Any] = self.ask("GET", place if version is None else [*place, "versions", str(version)])
        return found

    def card(self, name: str, version: int | str | None = None) -> dict[str, Any]:
        """The model card."""
        place = ["v1", "models", name] if version is None else ["v1", "models", name, "versions", str(version)]
        found: dict[str, Any] = self.ask("GET", [*place, "card"])
        return found

    def _pages(self, place: Sequence[str], name: str, query: Mapping[str, object]) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            page = self.ask("GET", place, query={**query, "cursor": cursor})
            yield from page[name]
            cursor = page["next"]
            if cursor is None:
                return


def _place(model: str | None, version: int | str | None) -> list[str]:
    if version is not None and model is None:
        raise ValueError("A version is of a model; name it with model=.")
    if model is None:
        return ["v1", "predictions"]
    return ["v1", "models", model, *(() if version is None else ("versions", str(version))), "predictions"]


def _headers(key: str | None, timeout_ms: float | None) -> dict[str, str]:
    headers = {} if key is None else {"X-Routing-Key": key}
    return headers if timeout_ms is None else {**headers, "X-Timeout-Ms": f"{timeout_ms:.3f}"}
