"""REST by the book: documents, pages, cards, outcomes, replies in parts."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from perron import predictions
from perron.demonstration import serving
from perron.project import Project

EVENTS, LINES = {"Accept": "text/event-stream"}, {"Accept": "application/jsonl"}


@pytest.fixture(scope="module")
def address(things: Path) -> Iterator[str]:
    with serving(things, "--max-rows", "20000") as (place, _):
        yield place


def predict(address: str, row: dict[str, Any], count: int = 1, **headers: str) -> list[dict[str, Any]]:
    answer = httpx.post(f"{address}/v1/predictions", json={"rows": [row] * count}, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


# -- documents

DOCUMENTS = ["/openapi.json", "/docs", "/v1/model", "/v1/models/things", "/v1/models/things/versions/1", "/v1/models/things/card", "/v1/models/things/versions/champion/card"]  # fmt: skip


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_that_is_still_the_same_is_not_sent_again(address: str, path: str) -> None:
    first = httpx.get(address + path)
    tag = first.headers["etag"]
    assert first.status_code == 200 and first.headers["cache-control"] == "no-cache"
    for header in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = httpx.get(address + path, headers={"If-None-Match": header})
        assert again.status_code == 304 and again.content == b"" and again.headers["etag"] == tag
    head = httpx.head(address + path)
    assert head.headers["etag"] == tag and int(head.headers["content-length"]) == len(first.content)
    assert httpx.head(address + path, headers={"If-None-Match": tag}).status_code == 304
    assert httpx.get(address + path, headers={"If-None-Match": '"other"'}).content == first.content


def test_what_the_client_does_not_accept_is_406_and_nothing_is_predicted(address: str, thing: dict[str, Any]) -> None:
    for path in (*DOCUMENTS, "/v1/predictions", "/v1/models", "/"):
        refused = httpx.get(address + path, headers={"Accept": "image/png"})
        assert refused.status_code == 406 and refused.headers["content-type"] == "application/problem+json", path
    before = len(httpx.get(f"{address}/v1/predictions").json()["predictions"])
    refused = httpx.post(f"{address}/v1/predictions", json={"rows": [thing]}, headers={"Accept": "text/html"})
    assert refused.status_code == 406 and "text/event-stream" in refused.json()["detail"]
    assert len(httpx.get(f"{address}/v1/predictions").json()["predictions"]) == before
    for accept in ("*/*", "application/*", "application/json, text/plain, */*", "text/html, application/json;q=0.1"):
        assert predict(address, thing, Accept=accept)


def test_a_card_says_how_good_a_model_is_and_where_it_comes_from(address: str) -> None:
    facts = httpx.get(f"{address}/v1/model").json()
    made = httpx.get(f"{address}/v1/models/things/card").json()
    assert made["target"]["name"] == "label" and made["target"]["classes"] == ["high", "low", "mid"]
    assert {one["name"]: (one["value"], one["baseline"]) for one in made["metrics"]} == {
        name: (value, facts["baseline"][name]) for name, value in facts["metrics"].items()
    }
    assert made["run"] == facts["lineage"]["run"] and made["data"] == facts["lineage"]["data"]
    assert made["contract"]["digest"] == facts["contract_digest"]
    markdown = httpx.get(f"{address}/v1/models/things/card", headers={"Accept": "text/markdown"})
    assert markdown.headers["content-type"] == "text/markdown; charset=utf-8"
    assert markdown.text.startswith("# things\n") and f"| run | {made['run']} |" in markdown.text
    page = httpx.get(
        f"{address}/v1/models/things/card", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    )
    assert (
        page.headers["content-type"].startswith("text/html")
        and "default-src 'none'" in page.headers["content-security-policy"]
    )
    assert made["run"] in page.text and "<script" not in page.text
    tags = {
        httpx.get(f"{address}/v1/models/things/card", headers={"Accept": kind}).headers["etag"]
        for kind in ("text/html", "text/markdown", "*/*")
    }
    assert len(tags) == 3


# -- pages


def follow(url: str) -> Iterator[dict[str, Any]]:
    """The pages of a list, by their links."""
    page: httpx.Response | None = httpx.get(url)
    while page is not None:
        assert page.status_code == 200, page.text
        yield page.json()
        following = page.links.get("next")
        assert (following is None) == (page.json()["next"] is None)
        page = httpx.get(page.url.join(following["url"])) if following is not None else None


def test_predictions_are_listed_newest_first_page_by_page(address: str, thing: dict[str, Any]) -> None:
    made = [one["id"] for _ in range(3) for one in predict(address, thing, 7)]
    listed = [
        one["id"]
        for page in follow(f"{address}/v1/predictions?limit=4&model=things&version=1")
        for one in page["predictions"]
    ]
    assert listed[:21] == made[::-1] and len(listed) == len(set(listed))
    one = httpx.get(f"{address}/v1/predictions?limit=1").json()["predictions"][0]
    receipt = httpx.get(f"{address}/v1/predictions/{one['id']}").json()["prediction"]
    assert {key: receipt[key] for key in ("id", "time", "route", "value", "probabilities")} == {
        key: one[key] for key in ("id", "time", "route", "value", "probabilities")
    }
    none = httpx.get(f"{address}/v1/predictions?route=nobody").json()
    assert none == {"predictions": [], "next": None}
    assert httpx.get(f"{address}/v1/predictions", params={"since": "2999-01-01"}).json()["predictions"] == []
    assert httpx.get(f"{address}/v1/predictions?until={one['time']}&limit=1").json()["predictions"] == [one]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "a whole number from 1 to 500"), ("limit=501", "from 1 to 500"), ("limit=ten", "from 1 to 500"), ("limit=", "from 1 to 500"),
        ("cursor=x", "the one that the page before named"), ("since=yesterday", "a time such as"), ("version=one", "a version's number"),
        ("limitt=1", "did you mean 'limit'?"), ("model=", "a name"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused_by_name(address: str, query: str, words: str) -> None:
    refused = httpx.get(f"{address}/v1/predictions?{query}")
    assert refused.status_code == 400 and words in refused.json()["detail"]


def test_models_and_versions_have_pages(address: str) -> None:
    [model] = httpx.get(f"{address}/v1/models").json()["models"]
    assert model["name"] == "things" and model["versions"] == [1] and model["fault"] is None
    [version] = httpx.get(f"{address}/v1/models/things/versions?limit=1").json()["versions"]
    assert version["version"] == 1 and version["arms"] == ["champion"]
    assert version["contract_digest"] == httpx.get(f"{address}/v1/model").json()["contract_digest"]
    assert httpx.get(f"{address}/v1/models?cursor=gone").status_code == 400
    assert httpx.get(f"{address}/v1/models?cursor=things").json() == {"models": [], "next": None}
    for path in (
        "/v1/models/thing",
        "/v1/models/things/versions/2",
        "/v1/models/things/versions/x/card",
        "/v1/models/things/versions/%C2%B9",
    ):
        assert httpx.get(address + path).status_code == 404


# -- outcomes


def test_an_outcome_is_put_read_repeated_and_corrected(address: str, thing: dict[str, Any]) -> None:
    place = f"{address}/v1/predictions/{predict(address, thing)[0]['id']}/outcome"
    assert httpx.get(place).status_code == 404
    for value, status, word in (("high", 201, "recorded"), ("high", 200, "repeated"), ("low", 200, "corrected")):
        done = httpx.put(place, json={"value": value})
        assert (done.status_code, done.json()["status"]) == (status, word)
    found = httpx.get(place).json()
    assert found["value"] == "low" and found["prediction"] in place and found["time"].endswith("Z")
    for body, status in (
        ({"value": "huge"}, 422), ({"value": None}, 422), ({}, 422), ([], 422), ({"value": "low", "time": "2026-01-01"}, 422),
    ):  # fmt: skip
        assert httpx.put(place, json=body).status_code == status
    assert httpx.put(f"{address}/v1/predictions/nobody/outcome", json={"value": "low"}).status_code == 404
    assert httpx.put(place, content=b"{", headers={"Content-Type": "application/json"}).status_code == 400
    assert httpx.get(place).json()["value"] == "low"


STRANGE: list[Any] = [[1], {}, None, True, 1.5, "", "x", "\u00b9", 10**30, 1e308, -0.0]


def test_outcomes_have_a_line_each_and_those_that_can_be_are_recorded(address: str, thing: dict[str, Any]) -> None:
    one, two = (predict(address, {**thing, "key": 4242})[0]["id"] for _ in range(2))
    sent = [
        {"prediction": one, "value": "mid"}, {"prediction": two, "id": 7, "value": "mid"}, {"prediction": two, "value": "mid", "time": "2026-01-01"},
        {"prediction": 7, "value": "mid"}, {"prediction": "nobody", "value": "mid"}, {"id": 4242, "value": "low"}, {"id": 4242, "value": "low", "when": 1},
        {"id": 4243, "value": "low"}, {"value": "low"}, *({"id": strange, "value": "low"} for strange in STRANGE),
    ]  # fmt: skip
    answer = httpx.post(f"{address}/v1/outcomes", json={"outcomes": sent})
    assert answer.status_code == 422 and f"{7 + len(STRANGE)} of {9 + len(STRANGE)}" in answer.json()["detail"]
    lines = answer.json()["outcomes"]
    assert {line["status"] for line in lines[9:]} <= {"invalid", "unknown"}
    assert [line["status"] for line in lines[:9]] == [
        "recorded", "invalid", "invalid", "invalid", "unknown", "recorded", "invalid", "unknown", "invalid",
    ]  # fmt: skip
    assert "either prediction" in lines[1]["detail"] and "'time' isn't known" in lines[2]["detail"]
    assert "/things" not in answer.text  # nothing of the server's folders is told
    assert httpx.get(f"{address}/v1/predictions/{two}/outcome").json()["value"] == "low"
    assert httpx.post(f"{address}/v1/outcomes", json={"outcomes": [], "more": 1}).status_code == 422
    again = httpx.post(f"{address}/v1/outcomes", json={"prediction": one, "value": "mid"})
    assert again.json()["outcomes"][0]["status"] == "repeated"


# -- replies in parts


def events(text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """What server-sent events hold: id, event, data."""
    found = []
    for block in text.strip("\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return found


def test_many_rows_are_answered_in_parts_that_are_logged(address: str, things: Path, thing: dict[str, Any]) -> None:
    rows = [{**thing, "size": number / 100, "word": 'a"]}'} for number in range(700)]
    together = httpx.post(f"{address}/v1/predictions", json={"rows": rows}).json()["predictions"]
    answer = httpx.post(f"{address}/v1/predictions", json={"rows": rows}, headers=EVENTS)
    assert answer.headers["content-type"] == "text/event-stream" and answer.headers["cache-control"] == "no-store"
    parts = events(answer.text)
    assert [(one, event) for one, event, _ in parts] == [
        ("256", "predictions"),
        ("512", "predictions"),
        ("700", "predictions"),
        ("700", "end"),
    ]
    assert parts[-1][2] == {"done": True, "rows": 700} and parts[0][2]["model"] == "things"
    inner = [one for _, _, data in parts[:-1] for one in data["predictions"]]
    assert [one["value"] for one in inner] == [one["value"] for one in together]
    logged = predictions.find(things / ".perron" / "predictions", inner[600]["id"])
    assert logged.input == rows[600] and logged.value == inner[600]["value"]
    lines = httpx.post(f"{address}/v1/models/things/versions/1/predictions", json={"rows": rows}, headers=LINES)
    assert lines.headers["content-type"] == "application/jsonl"
    read = [json.loads(line) for line in lines.text.splitlines()]
    assert [len(one.get("predictions", ())) for one in read] == [256, 256, 188, 0] and read[-1]["done"] is True


def test_what_is_refused_in_parts_has_its_status(address: str, thing: dict[str, Any]) -> None:
    for body, headers, status in (
        ({"rows": [{**thing, "size": -1}]}, {}, 422), ({"rows": []}, {}, 422), ({"rows": [thing]}, {"X-Timeout-Ms": "soon"}, 400),
        ({"rows": [thing] * 300}, {"X-Timeout-Ms": "0.001"}, 504),
    ):  # fmt: skip
        refused = httpx.post(f"{address}/v1/predictions", json=body, headers={**EVENTS, **headers})
        assert refused.status_code == status and refused.headers["content-type"] == "application/problem+json", body


def test_a_deadline_that_passes_on_the_way_ends_the_reply_with_a_problem(address: str, thing: dict[str, Any]) -> None:
    body = {"rows": [thing] * 20_000}
    for timeout in (40, 20, 10, 80, 160, 5):
        answer = httpx.post(
            f"{address}/v1/predictions", json=body, headers={**LINES, "X-Timeout-Ms": str(timeout)}, timeout=30
        )
        last = json.loads(answer.text.splitlines()[-1])
        if answer.status_code == 200 and "done" not in last:
            assert last["status"] == 504 and last["offset"] == 256 * (len(answer.text.splitlines()) - 1)
            return
    pytest.fail("no deadline passed on the way")


def test_a_client_that_goes_away_stops_the_predicting(address: str, things: Path, thing: dict[str, Any]) -> None:
    """All parts take a fraction of a second, so that a client may be too slow in going: then another one goes."""
    host, port = address.removeprefix("http://").split(":")
    log = things / ".perron" / "predictions"
    for attempt in range(10):
        word = f"left early {attempt}"
        body = json.dumps({"rows": [{**thing, "word": word}] * 20_000}).encode()
        head = f"POST /v1/predictions HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        before = disconnected(address)
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(head.encode() + body)
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert predict(address, thing)
        deadline = time.monotonic() + 60
        while not (noticed := disconnected(address) > before) and logged(log, word) < 20_000:
            assert time.monotonic() < deadline, "nobody noticed"
            threading.Event().wait(0.02)
        if noticed:
            assert 256 <= logged(log, word) < 20_000
            return
    pytest.fail("nobody noticed")


def disconnected(address: str) -> float:
    """How many clients went away."""
    found = re.search(
        r'^perron_requests_refused_total\{reason="disconnected"\} (\S+)', httpx.get(f"{address}/metrics").text, re.M
    )
    return float(found[1]) if found else 0.0


def logged(log: Path, word: str) -> int:
    return sum(path.read_bytes().count(f'"{word}"'.encode()) for path in log.glob("*.jsonl"))


def test_versions_that_are_swapped_under_a_reply_in_parts_break_none(
    things: Path, thing: dict[str, Any], tmp_path: Path
) -> None:
    import shutil

    folder = Path(shutil.copytree(things, tmp_path / "things"))
    ledger = Project.open(folder).ledger
    with serving(folder) as (address, _):
        request = httpx.stream(
            "POST", f"{address}/v1/predictions", json={"rows": [thing] * 9_000}, headers=LINES, timeout=30
        )
        with request as answer:
            lines = answer.iter_lines()
            first = json.loads(next(lines))
            ledger.add_routing("things", {"kind": "single", "arms": [{"name": "other", "reference": "champion"}]})
            deadline = time.monotonic() + 10
            while httpx.get(f"{address}/v1/models").json()["models"][0]["routing"]["arms"][0]["name"] != "other":
                assert time.monotonic() < deadline
            rest = [json.loads(line) for line in lines]
        assert rest[-1] == {"done": True, "rows": 9_000} and first["version"] == rest[0]["version"] == 1
        assert (
            httpx.get(f"{address}/v1/predictions/{predict(address, thing)[0]['id']}").json()["prediction"]["route"]
            == "other"
        )
