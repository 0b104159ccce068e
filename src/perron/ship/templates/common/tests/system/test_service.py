"""A real server of the champion, asked over HTTP. The fixtures are those of Perron's plugin for pytest.

Written by `perron init`; `perron sync` brings it up to date and keeps your changes.
"""

from typing import Any

import pytest
from perron.bundle import Bundle
from perron.client import Client
from perron.connection import Problem


def test_it_answers_as_the_bundle_does(client: Client, bundle: Bundle, rows: list[dict[str, Any]]) -> None:
    some = rows[:5]
    reply = client.predict(some)
    assert reply.model == bundle.name
    expected = [one["value"] for one in bundle.predict(some)]
    assert [one.value for one in reply.predictions] == pytest.approx(expected, rel=1e-9)


def test_a_prediction_has_a_receipt(client: Client, rows: list[dict[str, Any]]) -> None:
    (made,) = client.predict(rows[:1]).predictions
    assert client.receipt(made.id)["prediction"]["value"] == made.value


def test_what_the_contract_does_not_know_is_refused_by_name(client: Client, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(Problem, match="no_such_field"):
        client.predict([{**rows[0], "no_such_field": 1}])
