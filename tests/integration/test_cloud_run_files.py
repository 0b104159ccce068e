"""Cloud Run's files, by Google's own description of its API, and by gcloud against an API on this machine."""

import functools
import importlib.util
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
import yaml

from perron.ship.cloudrun import cloud_run_files, gcloud_commands, known_jobs_command
from perron.ship.files import write_files
from tests.conftest import need
from tests.unit.ship.test_cloudrun import PLACE, SPEC

SPEC_FILES = cloud_run_files(SPEC, PLACE)
# Which resource a file's annotations are on, as the description of ObjectMeta.annotations names them.
LEVELS = {"Service": ("Service", "Revision"), "Job": ("Job", "Execution")}


@functools.cache
def description() -> dict[str, Any]:
    """The discovery document of run.googleapis.com, version 1."""
    package = importlib.util.find_spec("googleapiclient")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "discovery_cache" / "documents" / "run.v1.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@functools.cache
def schema() -> dict[str, Any]:
    """The same as a JSON Schema, in which a field that isn't described is a mistake."""

    def turned(value: Any) -> Any:
        if isinstance(value, list):
            return [turned(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        if value.get("type") == "any":
            return {}
        if "$ref" in value:
            return {"$ref": f"#/definitions/{value['$ref']}"}
        made = {
            key: turned(inner)
            for key, inner in value.items()
            if key in ("type", "items", "enum", "additionalProperties")
        }
        if isinstance(value.get("properties"), dict):
            made["properties"] = {name: turned(inner) for name, inner in value["properties"].items()}
            made["additionalProperties"] = False
        return made

    return {"definitions": {name: turned(value) for name, value in description()["schemas"].items()}}


def check(document: dict[str, Any]) -> None:
    jsonschema.validate(document, {"$ref": f"#/definitions/{document['kind']}", **schema()})


@pytest.mark.parametrize("path", SPEC_FILES)
def test_google_s_description_takes_every_file(path: str) -> None:
    check(yaml.safe_load(SPEC_FILES[path]))


def test_google_s_description_refuses_what_it_doesn_t_know() -> None:
    document = yaml.safe_load(SPEC_FILES["service.yaml"])
    document["spec"]["template"]["spec"]["containers"][0]["startupProb"] = {}
    with pytest.raises(jsonschema.ValidationError, match="startupProb"):
        check(document)


@pytest.mark.parametrize("path", SPEC_FILES)
def test_every_annotation_is_one_that_cloud_run_takes_there(path: str) -> None:
    document = yaml.safe_load(SPEC_FILES[path])
    words = description()["schemas"]["ObjectMeta"]["properties"]["annotations"]["description"]
    allowed = {}
    for line in words.split("* `")[1:]:
        name, _, places = line.partition("`:")
        allowed[name] = places
    outer, inner = LEVELS[document["kind"]]
    for level, notes in (
        (outer, document["metadata"].get("annotations", {})),
        (inner, document["spec"]["template"]["metadata"]["annotations"]),
    ):
        for name in notes:
            if "googleapis.com" in name or "knative.dev" in name:
                assert level in allowed.get(name, ""), f"{name} isn't for a {level}"


class Google(BaseHTTPRequestHandler):
    """As much of Cloud Run and Cloud Scheduler as gcloud asks: it keeps what it is given, and says that it is ready."""

    kept: dict[str, dict[str, Any]]
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        path = parts.path
        if self.command == "GET" and path.endswith("/jobs") and "scheduler" in parts.netloc:
            return self._send({"jobs": [one for key, one in self.kept.items() if "/locations/" in key]})
        if self.command == "GET":
            found = self.kept.get(path)
            return (
                self._send(found)
                if found
                else self._send({"error": {"code": 404, "message": "none", "status": "NOT_FOUND"}}, 404)
            )
        given = json.loads(body)
        name = given["metadata"]["name"] if "metadata" in given else given["name"].rpartition("/")[2]
        if "metadata" in given:
            given["metadata"]["generation"] = 1
            given["status"] = {
                "observedGeneration": 1, "conditions": [{"type": kind, "status": "True"} for kind in ("Ready", "ConfigurationsReady", "RoutesReady")],
                "url": "https://x.run.app", "latestReadyRevisionName": f"{name}-1", "latestCreatedRevisionName": f"{name}-1",
                "traffic": [{"revisionName": f"{name}-1", "percent": 100}],
            } if given["kind"] == "Service" else {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}  # fmt: skip
        self.kept[path if path.endswith(f"/{name}") else f"{path}/{name}"] = given
        return self._send(given)

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def _send(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None: ...


@pytest.fixture
def google() -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """The address of such an API, and what it keeps."""
    kept: dict[str, dict[str, Any]] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Mine", (Google,), {"kept": kept}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", kept
    server.shutdown()
    server.server_close()
    thread.join()


def test_gcloud_applies_the_files_by_the_commands(tmp_path: Path, google: Any) -> None:
    address, kept = google
    write_files(tmp_path, SPEC_FILES)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "http_proxy": address, "CLOUDSDK_CONFIG": str(tmp_path / "config"), "CLOUDSDK_AUTH_ACCESS_TOKEN": "none",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN": "http://run.test/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDSCHEDULER": "http://scheduler.test/",
    }  # fmt: skip

    def run(words: list[str]) -> str:
        done = subprocess.run(
            [need(words[0]), *words[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{words}\n{done.stderr}"
        return done.stdout

    for command in gcloud_commands(SPEC, PLACE):
        run(command)
    names = {path.rpartition("/")[2] for path in kept}
    assert names == {f"house-prices-prd{end}" for end in ("", "-dashboard", "-pipeline", "-batch")}
    service = next(one for path, one in kept.items() if path.endswith("services/house-prices-prd"))
    asked = yaml.safe_load(SPEC_FILES["service.yaml"])
    assert service["spec"]["template"]["spec"]["containers"] == asked["spec"]["template"]["spec"]["containers"]
    jobs = run(known_jobs_command(PLACE)).split()
    assert sorted(jobs) == ["house-prices-prd-batch", "house-prices-prd-pipeline"]
    for command in gcloud_commands(SPEC, PLACE, known_jobs=jobs):
        if command[1] == "scheduler":
            assert command[3] == "update"
            run(command)
