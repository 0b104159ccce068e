"""What all tests share: the command line as a subprocess, real housing data, and tools that may be missing."""

import csv
import json
import os
import pwd
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line has it; before anything loads OpenMP


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", help="the long form of tests under load: 100 swaps, minutes of soak"
    )


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Whether tests under load may take minutes."""
    return bool(request.config.getoption("--long"))


HOUSING_COLUMNS = [
    "longitude",
    "latitude",
    "housing_median_age",
    "total_rooms",
    "total_bedrooms",
    "population",
    "households",
    "median_income",
    "ocean_proximity",
    "median_house_value",
]


def need(tool: str) -> str:
    """The path of a program; a test that needs one that isn't there is skipped by its name, and fails in CI."""
    path = shutil.which(tool) or shutil.which(tool, path=str(Path(sys.executable).parent))
    if path is None:
        reason = f"{tool} isn't installed (scripts/tools.sh installs it)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def need_if_there(tool: str) -> str:
    """The path of a program that scripts/tools.sh can't install; without it a test is skipped by its name, in CI too."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"{tool} isn't installed, and no package registry has it")
    return path


def perron(*words: str | Path, cwd: Path, check: bool = True, **env: str) -> "subprocess.CompletedProcess[str]":
    """Runs the command line in a folder, as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", "perron", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **env},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    if check:
        assert done.returncode == 0, done.stderr
    return done


def perron_json(*words: str | Path, cwd: Path) -> Any:
    """The JSON that a command prints."""
    return json.loads(perron(*words, "--json", cwd=cwd).stdout)


def find_real_housing() -> Path | None:
    """California housing, where it is at hand: PERRON_HOUSING, or a folder `shared/data` beside the checkout."""
    named = os.environ.get("PERRON_HOUSING")
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "housing.csv"
    return Path(named) if named else beside if beside.is_file() else None


@pytest.fixture(scope="session")
def housing_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """California housing, or rows made in its likeness (20,640, 207 of them without bedrooms)."""
    real = find_real_housing()
    if real is not None:
        return real
    path = tmp_path_factory.mktemp("data") / "housing.csv"
    chance = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HOUSING_COLUMNS)
        for row in range(20_640):
            place = chance.choices(["<1H OCEAN", "INLAND", "ISLAND", "NEAR BAY", "NEAR OCEAN"], [44, 32, 1, 11, 12])[0]
            households = chance.randint(1, 1500)
            income = round(chance.lognormvariate(1.2, 0.45), 4)
            rooms, bedrooms = households * chance.randint(3, 8), households * chance.randint(1, 2)
            value = 20_000 + 42_000 * income + (-60_000 if place == "INLAND" else 30_000) + chance.gauss(0, 20_000)
            writer.writerow(
                [round(chance.uniform(-124, -114), 2), round(chance.uniform(32, 42), 2), chance.randint(1, 52), rooms,
                 "" if row % 100 == 0 else bedrooms, households * 3, households, income, place, max(15_000, round(value))]
            )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def housing_project(housing_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project made by `perron init` from the housing data, and run once. Tests don't change it; `housing_copy` they may."""
    folder = tmp_path_factory.mktemp("housing")
    perron("init", "house-prices", "--from", housing_csv, "--target", "median_house_value", cwd=folder)
    perron("run", cwd=folder / "house-prices")
    return folder / "house-prices"


@pytest.fixture
def housing_copy(housing_project: Path, tmp_path: Path) -> Path:
    """A copy of the housing project that a test may change."""
    return Path(shutil.copytree(housing_project, tmp_path / "house-prices"))


@pytest.fixture
def house() -> dict[str, Any]:
    """A row that the housing contract allows."""
    return {
        "longitude": -122.23, "latitude": 37.88, "housing_median_age": 41, "total_rooms": 880, "total_bedrooms": 129,
        "population": 322, "households": 126, "median_income": 8.3252, "ocean_proximity": "NEAR BAY",
    }  # fmt: skip


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real Postgres, empty but for what tests of this session make in it: give tables names of their own."""
    from perron.serve.http import free_port  # not at the top: OMP_WAIT_POLICY comes first

    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    programs = found[-1] if found else Path(need("initdb")).parent
    is_root = os.geteuid() == 0  # as whom it doesn't run
    with tempfile.TemporaryDirectory(prefix="perron-postgres-") as home:
        folder = Path(home, "data")
        if is_root:
            person = pwd.getpwnam("postgres")
            os.chown(home, person.pw_uid, person.pw_gid)

        def do(*words: str | Path) -> None:
            as_whom = ["runuser", "-u", "postgres", "--"] if is_root else []
            subprocess.run([*as_whom, *map(str, words)], cwd=home, check=True, capture_output=True, timeout=60)

        do(programs / "initdb", "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "--locale=C.UTF-8", "-D", folder)
        port = free_port()
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home} -c fsync=off"
        do(programs / "pg_ctl", "-D", folder, "-o", options, "-l", Path(home, "log"), "-w", "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            do(programs / "pg_ctl", "-D", folder, "-m", "immediate", "-w", "stop")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of moto's S3 server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def s3_url(s3_server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """`s3://…` of a new bucket; the environment says where its server is, for this process and what it starts."""
    import boto3

    for name, value in (
        ("AWS_ENDPOINT_URL", s3_server), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{abs(hash(request.node.nodeid)):x}"
    client = boto3.client("s3")
    client.create_bucket(Bucket=bucket)
    client.close()
    return f"s3://{bucket}"


class FileServer:
    """A web server of files in memory, by their paths: with parts of files and tags, or without."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.has_ranges = True
        self.asked: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, with_body: bool) -> None:
                data = outer.files.get(self.path.partition("?")[0])
                part = self.headers.get("Range")
                outer.asked.append((self.command, part))
                if data is None:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                if part and outer.has_ranges:
                    first, last = part.removeprefix("bytes=").split("-")
                    begin, end = int(first), min(int(last or len(data)), len(data) - 1)
                    self.send_response(206)
                    self.send_header("Content-Range", f"bytes {begin}-{end}/{len(data)}")
                    body = data[begin : end + 1]
                else:
                    self.send_response(200)
                    body = data
                if outer.has_ranges:
                    self.send_header("Accept-Ranges", "bytes")
                    self.send_header("ETag", f'"{hash(data):x}"')
                    self.send_header("Content-Length", str(len(body)))
                else:
                    self.send_header("Connection", "close")
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A web server on this machine; what is put into its `files` is served."""
    served = FileServer()
    thread = threading.Thread(target=served.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield served
    finally:
        served.server.shutdown()
        thread.join()
        served.server.server_close()
