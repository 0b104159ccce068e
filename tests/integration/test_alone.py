"""`perron serve --bundle`: one bundle without a project, its tokens, its log, and what makes no sense beside it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perron import predictions
from perron.cli.app import command_line
from perron.errors import PerronError
from perron.serve.http import free_port
from perron.tokens import parse_tokens
from tests.conftest import perron

OWN = {"PERRON_TOKENS", "PERRON_LOG_FOLDER", "PERRON_ALLOW_ANONYMOUS"}


@contextmanager
def serving(*words: str | Path, cwd: Path, **variables: str) -> "Iterator[tuple[int, subprocess.Popen[str]]]":
    """The port of a server that answers, and its process."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "perron", "serve", "--port", str(port), *map(str, words)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**{name: value for name, value in os.environ.items() if name not in OWN}, **variables},
    )  # fmt: skip
    try:
        for _ in range(3000):
            assert process.poll() is None, process.communicate()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5):
                    break
            except OSError:
                threading.Event().wait(0.01)
        else:
            raise AssertionError("the server isn't ready")
        yield port, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def ask(port: int, thing: dict[str, Any], token: str | None = None) -> tuple[int, dict[str, Any]]:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    body = json.dumps({"rows": [thing]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/predictions", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_a_bundle_is_served_without_a_project_and_its_log_is_where_it_was_said(
    things_bundle: Path, thing: dict[str, Any], tmp_path: Path
) -> None:
    with serving("7", "--bundle", things_bundle, "--log-folder", tmp_path / "log", cwd=tmp_path) as (port, process):
        status, answer = ask(port, thing)
        assert status == 200 and answer["version"] == 7
        process.send_signal(signal.SIGTERM)
        said, errors = process.communicate(timeout=30)
        assert process.returncode == 0 and said.startswith("things version 7 answers") and errors == ""
    (logged,) = predictions.iterate(tmp_path / "log")
    assert logged.id == answer["predictions"][0]["id"]
    assert not (tmp_path / ".perron").exists()


def test_without_a_folder_it_says_where_it_logs(things_bundle: Path, thing: dict[str, Any], tmp_path: Path) -> None:
    with serving("--bundle", things_bundle, "--log-to", "stdout:", cwd=tmp_path, TMPDIR=str(tmp_path)) as (
        port,
        process,
    ):
        answer = ask(port, thing)[1]
        process.send_signal(signal.SIGTERM)
        said, errors = process.communicate(timeout=30)
    (place,) = tmp_path.glob("perron-log-*")
    assert str(place) in errors and "--log-folder" in errors
    sent = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [one["id"] for one in sent] == [answer["predictions"][0]["id"]] and sent[0]["version"] == 1


def test_several_workers_answer(things_bundle: Path, thing: dict[str, Any], tmp_path: Path) -> None:
    words = ("--bundle", things_bundle, "--workers", "2", "--log-to", "stdout:")
    with serving(*words, cwd=tmp_path, PERRON_LOG_FOLDER=str(tmp_path / "log")) as (port, process):
        ids = {ask(port, thing)[1]["predictions"][0]["id"] for _ in range(20)}
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert {one.id for one in predictions.iterate(tmp_path / "log")} == ids and len(ids) == 20
    assert {json.loads(line)["id"] for line in said.splitlines() if line.startswith("{")} == ids


def test_tokens_are_the_files_and_one_that_is_taken_out_is_refused_within_a_second(
    things_bundle: Path, thing: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "system.py").write_text("")
    token = perron("token", "create", "shop", cwd=tmp_path).stdout.strip()
    other = perron("token", "create", "till", "--days", "1", cwd=tmp_path).stdout.strip()
    file = tmp_path / "tokens.json"
    file.write_text(perron("token", "export", cwd=tmp_path).stdout)
    assert token not in file.read_text()
    with serving("--bundle", things_bundle, "--tokens", file, "--host", "0.0.0.0", cwd=tmp_path) as (port, process):
        assert ask(port, thing)[0] == 401
        assert ask(port, thing, token)[0] == ask(port, thing, other)[0] == 200
        perron("token", "revoke", "shop", cwd=tmp_path)
        file.write_text(perron("token", "export", cwd=tmp_path).stdout)
        end = time.monotonic() + 30
        while ask(port, thing, token)[0] != 401:
            assert time.monotonic() < end
        assert ask(port, thing, other)[0] == 200
        file.write_text("{")  # what can't be read changes nothing: nobody gets in who didn't before
        assert process.stderr is not None
        while "isn't JSON" not in process.stderr.readline():
            assert process.poll() is None
        assert ask(port, thing, token)[0] == 401 and ask(port, thing, other)[0] == 200
    perron("token", "revoke", "till", cwd=tmp_path)
    done = perron("token", "export", cwd=tmp_path, check=False)
    assert done.returncode == 1 and "No token is in force" in done.stderr


GOOD = {
    "sha256": "0" * 64,
    "name": "shop",
    "scopes": ["predict"],
    "requests_per_s": 5,
    "expires": "2099-01-01T02:00:00+02:00",
}


def test_tokens_that_expire_are_compared_in_one_zone() -> None:
    (token,) = parse_tokens(json.dumps([GOOD]), "here")
    assert token.expires == "2099-01-01T00:00:00+00:00" and token.scopes == {"predict"} and token.requests_per_s == 5
    assert parse_tokens("[]", "here") == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "isn't JSON"),
        ("{}", "isn't a list of tokens"),
        (json.dumps([{**GOOD, "sha256": "perron_secret"}]), "token 1 has no sha256"),
        (json.dumps([GOOD, {**GOOD, "name": "no name"}]), "token 2 has no name"),
        (json.dumps([{**GOOD, "scopes": ["all"]}]), "other scopes than predict, outcome, read, admin"),
        (json.dumps([{**GOOD, "requests_per_s": 0}]), "isn't a number above 0"),
        (json.dumps([{**GOOD, "expires": "2099-01-01"}]), "at no time with a zone"),
        (json.dumps([{**GOOD, "token": "x"}]), "has the key 'token'"),
    ],
)
def test_tokens_that_make_no_sense_are_refused_in_one_line(
    things_bundle: Path, tmp_path: Path, text: str, expected: str
) -> None:
    for words, variables in (([], {"PERRON_TOKENS": text}), (["--tokens", tmp_path / "tokens.json"], {})):
        (tmp_path / "tokens.json").write_text(text)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(PerronError, match=expected):
            for name, value in variables.items():
                patch.setenv(name, value)
            patch.setenv("PERRON_LOG_FOLDER", str(tmp_path / "log"))
            command_line(["serve"])(["serve", "--bundle", str(things_bundle), *map(str, words)], standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--bundle", "BUNDLE", "--model", "things"], "--model makes no sense with --bundle"),
        (["--bundle", "BUNDLE", "-C", "."], "--project makes no sense with --bundle"),
        (["--bundle", "BUNDLE", "--batch-place", "data"], "--batch-place makes no sense with --bundle"),
        (["latest", "--bundle", "BUNDLE"], "the version is the number that answers call it"),
        (["--bundle", "nothing"], "isn't a bundle"),
        (["--bundle", "BUNDLE", "--tokens", "nothing.json"], "can't be read"),
        (["--bundle", "BUNDLE", "--log-folder", "/proc/log"], "can't be made"),
        (["--bundle", "BUNDLE", "--host", "0.0.0.0"], "PERRON_TOKENS"),
        (["--tokens", "tokens.json"], "--tokens makes sense only with --bundle"),
        (["--log-folder", "log"], "--log-folder makes sense only with --bundle"),
    ],
)
def test_what_makes_no_sense_is_refused(
    things_bundle: Path, tmp_path: Path, words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given = [str(things_bundle) if word == "BUNDLE" else word for word in words]
    with pytest.raises(PerronError) as caught:
        command_line(["serve"])(["serve", *given], standalone_mode=False)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
