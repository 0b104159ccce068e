"""Images of versions: they run, are the same when made again, are read by other tools, and what doesn't fit is refused."""

import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from perron.cli.app import command_line
from perron.errors import PerronError
from perron.image.closure import serving_packages
from perron.image.subject import packaged, packaged_images, subject_of
from perron.project import Project
from perron.serve.http import free_port
from tests.conftest import need, perron, perron_json
from tests.images import Container, running, unpack, write_base
from tests.integration.test_pipeline import declare, run, write_project

PLACES = ("image", "image.tar", "none", "build", "mine")
FORBIDDEN = {"pandas", "pyarrow", "sklearn", "lightgbm", "onnx", "sqlalchemy", "spox", "ndonnx"}
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar of a root file system with this Python."""
    return write_base(tmp_path_factory.mktemp("base") / "base.tar")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that predicts one of three labels, run once: a token of its own is in its ledger."""
    folder = write_project(tmp_path_factory.mktemp("made") / "things", "label")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def layout(made: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of the project's champion, as a layout; `image.tar` beside it is its archive."""
    folder = tmp_path_factory.mktemp("image") / "image"
    perron("package", "--oci", folder, "--tar", folder.with_name("image.tar"), "--base", base, cwd=made)
    return folder


@pytest.fixture(scope="module")
def unpacked(layout: Path) -> Path:
    """It as runc runs it."""
    return unpack(layout, "1", layout.with_name("unpacked"))


@pytest.fixture
def project(made: Path, layout: Path, tmp_path: Path) -> Path:
    """A copy that a test may change; layers that were made are in it, so that they needn't be made again."""
    folder = Path(shutil.copytree(made, tmp_path / "things", ignore=shutil.ignore_patterns("blobs", "packaged")))
    blobs = Path(".perron", "images", "blobs")
    (folder / blobs).mkdir()
    for path in (made / blobs).iterdir():
        os.link(path, folder / blobs / path.name)
    return folder


def post(port: int, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/predictions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_for(container: Container, port: int, limit_s: float = 30.0) -> float:
    """Seconds until the container's server is ready."""
    started = time.monotonic()
    while time.monotonic() - started < limit_s:
        container.check()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=1):
                return time.monotonic() - started
        except OSError:
            threading.Event().wait(0.01)
    raise AssertionError(container.log.read_text())


def digest_of(layout: Path) -> str:
    return str(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])


def blob(layout: Path, digest: str) -> Any:
    return json.loads((layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_text())


# -- it runs


def test_it_answers_without_rights_on_a_read_only_root_and_finishes_what_is_under_way_on_sigterm(
    unpacked: Path, made: Path, thing: dict[str, Any], tmp_path: Path
) -> None:
    token = perron("token", "create", "shop", cwd=made).stdout.strip()
    tokens = perron("token", "export", cwd=made).stdout
    port = free_port()
    with running(
        unpacked, tmp_path, "--port", str(port), "--log-to", "stdout:", variables={"PERRON_TOKENS": tokens}
    ) as container:
        wait_for(container, port)
        assert post(port, {"rows": [thing]})[0] == 401
        status, answer = post(port, {"rows": [thing]}, Authorization=f"Bearer {token}")
        assert status == 200 and answer["version"] == 1 and answer["model"] == "things"
        look = "import os; print(os.getuid(), os.getgid()); open('/srv/mine', 'w')"
        looked = container.do("/opt/venv/bin/python", "-c", look)
        assert looked.stdout == "10001 10001\n" and "Read-only file system" in looked.stderr
        assert container.do("perron", "--version").stdout.startswith("perron ")
        for given, code in (({"PERRON_PORT": str(port)}, 0), ({"PORT": str(free_port())}, 1)):
            assert container.do("/opt/venv/bin/python", "-m", "perron.serve.health", **given).returncode == code
        slow = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        body = json.dumps({"rows": [thing]}).encode()
        slow.putrequest("POST", "/v1/predictions")
        for name, value in (
            ("Content-Type", "application/json"),
            ("Authorization", f"Bearer {token}"),
            ("Content-Length", str(len(body))),
        ):
            slow.putheader(name, value)
        slow.endheaders(body[:10])
        assert (
            post(port, {"rows": []}, Authorization=f"Bearer {token}")[0] < 500
        )  # the slow one has been taken before it
        container.signal("TERM")
        until_refused(port)
        slow.send(body[10:])
        assert slow.getresponse().status == 200
        assert container.process.wait(20) == 0
        logged = [json.loads(line) for line in container.log.read_text().splitlines() if line.startswith("{")]
        assert len(logged) == 2 and logged[0]["id"] == answer["predictions"][0]["id"]


def until_refused(port: int, limit_s: float = 5.0) -> None:
    """Returns once nobody new is let in."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                threading.Event().wait(0.01)
        except OSError:
            return


def test_unguarded_it_ends_with_a_line_that_says_what_to_do(unpacked: Path, tmp_path: Path) -> None:
    with running(unpacked, tmp_path, "--port", str(free_port())) as container:
        status, said = container.end()
        assert status == 1 and "PERRON_TOKENS" in said and "--allow-anonymous" in said and said.count("\n") == 1


def test_without_a_place_to_write_it_says_so(unpacked: Path, tmp_path: Path) -> None:
    with running(unpacked, tmp_path, "--allow-anonymous", has_tmp=False) as container:
        status, said = container.end()
        assert status == 1 and "mount one at /tmp" in said and said.count("\n") == 1


# -- what it is


def test_it_has_serving_parts_only_and_what_it_says_of_itself(layout: Path, made: Path, base: Path) -> None:
    manifest = blob(layout, digest_of(layout))
    config = blob(layout, manifest["config"]["digest"])
    names = set()
    for layer in manifest["layers"][1:]:
        path = layout / "blobs" / "sha256" / layer["digest"].removeprefix("sha256:")
        with gzip.open(path) as plain:
            data = plain.read()
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" in config["rootfs"]["diff_ids"]
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for item in tar:
                names.add(item.name)
                assert item.mtime == 0 and item.uid == item.gid == (10001 if item.name == "var/lib/perron" else 0)
    site = f"opt/venv/lib/python{PYTHON}/site-packages/"
    tops = {name.removeprefix(site).split("/")[0] for name in names if name.startswith(site)}
    assert {"numpy", "onnxruntime", "granian", "msgspec", "typer"} <= tops and not tops & FORBIDDEN
    assert f"opt/perron/perron/serve/__pycache__/app.{sys.implementation.cache_tag}.pyc" in names
    assert "srv/model/manifest.json" in names and not [
        name for name in names if "/numpy/" in name and "/tests/" in name
    ]
    labels, (row,) = config["config"]["Labels"], perron_json("models", cwd=made)
    assert (
        labels["perron.bundle"] == row["bundle"]
        and labels["perron.run"] == row["run"]
        and labels["perron.version"] == "1"
    )
    assert len(labels["perron.data"]) == 64 and labels["org.opencontainers.image.title"] == "things"
    assert manifest["annotations"]["org.opencontainers.image.version"] == "1"
    assert config["created"] == labels["org.opencontainers.image.created"] and config["config"]["User"] == "10001:10001"
    project = Project.open(made)
    (known,) = [one for one in packaged_images(project, "things", 1) if one["digest"] == digest_of(layout)]
    assert known["base"] == str(base) and known["added_bytes"] < 250e6 and known["bundle"] == row["bundle"]


def test_two_builds_are_one_image_and_a_new_version_changes_the_models_layer_alone(
    layout: Path, project: Path, base: Path
) -> None:
    shutil.rmtree(project / ".perron" / "images")
    again = project / "again"
    perron("package", "--oci", again, "--base", base, cwd=project)
    assert {str(path.relative_to(again)): path.read_bytes() for path in again.rglob("*") if path.is_file()} == {
        str(path.relative_to(layout)): path.read_bytes() for path in layout.rglob("*") if path.is_file()
    }
    declare(project, "label", options=", seed=7")
    run(project)
    newer = perron_json("package", "2", "--oci", again, "--base", base, cwd=project)["image"]
    first = [layer["digest"] for layer in blob(layout, digest_of(layout))["layers"]]
    second = [layer["digest"] for layer in newer["layers"]]
    assert first[:-1] == second[:-1] and first[-1] != second[-1]


def test_source_date_epoch_is_the_time_of_everything(
    project: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, few = Project.open(project), serving_packages()[:2]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    image = packaged(opened, subject_of(opened, "things", "1", few), few, base=str(base), layout=tmp_path / "image")
    assert image.created == "1970-01-02T00:00:00Z"
    for part in image.parts[1:]:
        with tarfile.open(tmp_path / "image" / "blobs" / "sha256" / part.layer.digest.removeprefix("sha256:")) as tar:
            assert {item.mtime for item in tar} == {86400}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    refused(project, ["--oci", "image", "--base", base], "SOURCE_DATE_EPOCH is 'today'")


def test_a_damaged_layer_of_the_cache_is_made_anew(layout: Path, project: Path, base: Path) -> None:
    for path in (project / ".perron" / "images" / "blobs").iterdir():
        if path.stat().st_size > 10e6:
            continue  # the packages, which take longest
        data = path.read_bytes()
        path.unlink()  # it is linked to the others' cache
        path.write_bytes(data[:-9] + b"otherwise")
    assert perron_json("package", "--oci", "again", "--base", base, cwd=project)["image"]["digest"] == digest_of(layout)


# -- other tools


def skopeo(*words: str | Path) -> str:
    return subprocess.run(
        [need("skopeo"), *map(str, words)], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_skopeo_reads_the_layout_and_the_archive_both_ways(layout: Path) -> None:
    archive = layout.with_name("image.tar")
    assert json.loads(skopeo("inspect", f"oci:{layout}:1"))["Digest"] == digest_of(layout)
    assert json.loads(skopeo("inspect", f"oci-archive:{archive}:1"))["Digest"] == digest_of(layout)
    docker = json.loads(skopeo("inspect", f"docker-archive:{archive}"))
    assert docker["Labels"]["perron.model"] == "things" and len(docker["Layers"]) == 4
    assert json.loads(skopeo("inspect", "--config", f"docker-archive:{archive}"))["config"]["User"] == "10001:10001"


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Debian's registry on this machine."""
    port = free_port()
    (folder / "registry").mkdir()
    settings = folder / "registry.yml"
    settings.write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    process = subprocess.Popen(
        [need("docker-registry"), "serve", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(1000):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1):
                    break
            except OSError:
                assert process.poll() is None
                threading.Event().wait(0.01)
        else:
            raise AssertionError("the registry didn't answer")
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def test_a_registry_keeps_the_digest_and_gives_a_base(layout: Path, project: Path, tmp_path: Path) -> None:
    with docker_registry(tmp_path) as host:
        skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:1", f"docker://{host}/team/things:1")
        found = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{host}/team/things:1"))
        assert found["Digest"] == digest_of(layout)
        # An image is a base, too: the layers of the first, and on top the same again.
        for named in (f"docker://{host}/team/things:1", f"{host}/team/things@{digest_of(layout)}"):
            image = perron_json("package", "--oci", "upon", "--base", named, cwd=project)["image"]
            assert len(image["layers"]) == 7 and image["base"] == named.removeprefix("docker://")
        for named, words in ((f"{host}/team/things:9", f"has no {host}/team/things:9"), (f"{host}/nothing", "has no ")):
            refused(project, ["--oci", "none", "--base", named], words)
    refused(project, ["--oci", "none", "--base", f"{host}/team/things:1"], "can't be asked")


class TokenRegistry:
    """A registry that wants a token and gives one to anybody, as Docker Hub does, in front of a layout's blobs."""

    def __init__(self, layout: Path, *, damage: str = "") -> None:
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *words: object) -> None:
                pass

            def give(self, status: int, data: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if self.path.startswith("/token?"):
                    assert "scope=repository%3Athings%3Apull" in self.path and "service=stand-in" in self.path
                    return self.give(200, b'{"token": "let-me-in"}')
                if self.headers.get("Authorization") != "Bearer let-me-in" and not self.path.startswith("/elsewhere"):
                    realm = (
                        f'Bearer realm="http://{outer.host}/token",service="stand-in",scope="repository:things:pull"'
                    )
                    return self.give(401, b"{}", WWW_Authenticate=realm)
                last = self.path.rpartition("/")[2]
                if last == "secret":
                    return self.give(403, b"{}")
                name = digest_of(layout) if last == "1" else last
                path = layout / "blobs" / "sha256" / name.removeprefix("sha256:")
                if not path.is_file():
                    return self.give(404, b"{}")
                if "/blobs/" in self.path and not self.path.startswith("/elsewhere"):
                    assert self.headers.get("Authorization")
                    return self.give(307, b"", Location=f"http://{outer.host}/elsewhere/blobs/{name}")
                # Object storage refuses a request with an authorisation that isn't its own.
                assert "/manifests/" in self.path or self.headers.get("Authorization") is None
                return self.give(
                    200, path.read_bytes().replace(damage.encode(), b"X" * len(damage)) if damage else path.read_bytes()
                )

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "TokenRegistry":
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


def test_a_registrys_token_is_asked_for_and_isnt_sent_elsewhere(layout: Path, project: Path) -> None:
    with TokenRegistry(layout) as registry:
        image = perron_json("package", "--oci", "upon", "--base", f"{registry.host}/things:1", cwd=project)["image"]
        assert len(image["layers"]) == 7 and sum(path.startswith("/token") for path in registry.asked) == 1
        refused(project, ["--oci", "none", "--base", f"{registry.host}/things:secret"], "to nobody who isn't logged in")
    with TokenRegistry(layout, damage="amd64") as registry:
        refused(project, ["--oci", "none", "--base", f"{registry.host}/things:1"], "the registry gave")


# -- what is refused


def refused(project: Path, words: list[str | Path], expected: str) -> None:
    """Says in one line that a package can't be made, and leaves nothing behind."""
    before = sorted(path.name for path in project.iterdir())
    given = ["package", "-C", str(project), *(str(project / word) if word in PLACES else str(word) for word in words)]
    with pytest.raises(PerronError) as caught:
        command_line(["package"])(given, standalone_mode=False)
    assert expected in str(caught.value), caught.value
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in project.iterdir()) == before


def test_a_mistake_is_one_line_on_standard_error(project: Path) -> None:
    done = perron("package", "--oci", "image", "--base", "./nothing", cwd=project, check=False)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("perron: There is no base ./nothing; name an OCI layout's folder")


def write_tar(path: Path, names: dict[str, bytes | str]) -> Path:
    """A tar of files (bytes) and links (the text that they point to)."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in names.items():
            item = tarfile.TarInfo(name)
            if isinstance(data, str):
                item.type, item.linkname = tarfile.SYMTYPE, data
                tar.addfile(item)
            else:
                item.size = len(data)
                tar.addfile(item, io.BytesIO(data))
    return path


ELF = b"\x7fELF" + bytes(14) + b"\x3e\x00"
ARM = b"\x7fELF" + bytes(14) + b"\xb7\x00"
NEW = b"GNU C Library (Debian GLIBC 2.41-1) stable release version 2.41.\n"
LIBC, CXX = "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libstdc++.so.6"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"etc/passwd": b"", LIBC: ELF + NEW}, "has no Python, and the packages here are compiled for Python"),
        ({"usr/bin/python3.8": b"", LIBC: ELF + NEW}, f"has Python 3.8, and the packages here are compiled for Python {PYTHON}"),
        ({f"usr/bin/python{PYTHON}": b"", "lib/ld-musl-x86_64.so.1": b""}, "has musl as its C library, and the packages here are made for glibc"),
        ({f"./usr/bin/python{PYTHON}": b"", LIBC: ELF + NEW.replace(b"2.41", b"2.17")}, "has glibc 2.17, and the packages here need 2."),
        ({f"usr/bin/python{PYTHON}": b"", LIBC: "libc-2.19.so"}, "has glibc 2.19, and the packages here need 2."),
        ({f"usr/bin/python{PYTHON}": b""}, "has no C library that Perron knows"),
        ({f"usr/local/bin/python{PYTHON}": b"", LIBC: ELF + NEW}, "libstdc++.so.6"),
    ],
)  # fmt: skip
def test_a_base_that_doesnt_fit_is_refused(
    project: Path, tmp_path: Path, names: dict[str, bytes | str], expected: str
) -> None:
    refused(
        project,
        ["--oci", "image", "--tar", "image.tar", "--base", write_tar(tmp_path / "base.tar.gz", names)],
        expected,
    )


def test_a_base_for_another_machine_is_refused(project: Path, tmp_path: Path) -> None:
    machine = os.uname().machine
    names: dict[str, bytes | str] = {
        f"usr/bin/python{PYTHON}": b"",
        LIBC: (ARM if machine == "x86_64" else ELF) + NEW,
        CXX: b"",
    }
    refused(
        project, ["--oci", "image", "--base", write_tar(tmp_path / "base.tar", names)], "and the packages here are for"
    )


def test_a_base_that_isnt_there_or_isnt_one_is_refused(project: Path, layout: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.tar").write_text("no tar at all")
    for named, expected in (
        (tmp_path / "nothing.tar", "There is no base"),
        ("./nothing", "There is no base"),
        ("Not A Reference", "no registry's reference"),
        (tmp_path / "empty", "isn't an OCI layout"),
        (tmp_path / "text.tar", "can't be read"),
        (f"{layout}:9", "has no tag '9'; it has 1"),
    ):
        refused(project, ["--oci", "image", "--base", named], expected)
    refused(project, ["--oci", "image"], f"docker://docker.io/library/python:{PYTHON}-slim")
    refused(project, ["--base", layout], "--oci FOLDER, --tar FILE or --dockerfile FOLDER")


def test_a_layout_is_a_base_and_a_damaged_one_is_refused(project: Path, layout: Path, tmp_path: Path) -> None:
    image = perron_json("package", "--oci", "upon", "--base", f"{layout}:1", cwd=project)["image"]
    assert len(image["layers"]) == 7
    broken = Path(shutil.copytree(layout, tmp_path / "broken"))
    manifest = blob(broken, digest_of(broken))
    path = broken / "blobs" / "sha256" / manifest["layers"][-1]["digest"].removeprefix("sha256:")
    path.write_bytes(path.read_bytes()[:-9] + b"otherwise")
    refused(project, ["--oci", "image", "--base", broken], "is damaged")
    path.unlink()
    refused(project, ["--oci", "image", "--base", broken], "is damaged: it has no blob")
    index = json.loads((layout / "index.json").read_text())
    index["manifests"][0]["platform"]["architecture"] = "vax"
    (broken / "index.json").write_text(json.dumps(index))
    refused(project, ["--oci", "image", "--base", broken], "has no image for linux/")
    (broken / "index.json").write_text("{}")
    refused(project, ["--oci", "image", "--base", broken], "isn't an image")


def test_layers_of_another_compression_are_refused_by_name(project: Path, layout: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(layout, tmp_path / "broken"))
    manifest = blob(broken, digest_of(broken))
    manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd"
    data = json.dumps(manifest).encode()
    digest = hashlib.sha256(data).hexdigest()
    (broken / "blobs" / "sha256" / digest).write_bytes(data)
    index = json.loads((broken / "index.json").read_text())
    index["manifests"][0]["digest"] = f"sha256:{digest}"
    (broken / "index.json").write_text(json.dumps(index))
    refused(project, ["--oci", "image", "--base", broken], "--dest-compress-format gzip")


def test_versions_that_arent_there_or_failed_their_gate_are_refused(project: Path, base: Path) -> None:
    where: list[str | Path] = ["--oci", "image", "--base", base]
    refused(project, ["99", *where], "has no version '99'")
    refused(project, ["nobody", *where], "has no version 'nobody'")
    refused(project, ["20000101-000000-abcdef", *where], "There is no run")
    refused(project, ["1", "--model", "other", *where], "There is no model 'other'")
    declare(project, "label", options=', gates=[pn.gate("accuracy", at_least=1.0)], seed=3')
    done = perron("run", cwd=project, check=False)
    assert done.returncode == 3
    newest = perron_json("runs", cwd=project)[0]["id"]
    refused(project, [newest, *where], f"The run {newest} was refused by its gates")
    said = perron(
        "package", *where, cwd=project
    )  # the champion is still there, and a line says that it isn't the newest
    assert newest in said.stderr and "was refused by its gates" in said.stderr
    (first,) = [row["run"] for row in perron_json("models", cwd=project)]
    assert perron_json("package", first, "--oci", "by-run", "--base", base, cwd=project)["version"] == 1


def test_a_damaged_bundle_is_refused(project: Path, base: Path) -> None:
    (bundle,) = (project / ".perron" / "bundles").iterdir()
    (bundle / "model.onnx").write_bytes(b"something else")
    refused(project, ["--oci", "image", "--base", base], "was changed")
    refused(project, ["--dockerfile", "build"], "was changed")


def test_what_is_in_the_way_stays(project: Path, base: Path) -> None:
    (project / "mine").mkdir()
    (project / "mine" / "letter.txt").write_text("dear")
    refused(project, ["--oci", "mine", "--base", base], "isn't an OCI layout")
    (project / "mine" / "model").mkdir()
    refused(project, ["--dockerfile", "mine"], "isn't a bundle")
    refused(project, ["--oci", "image", "--tar", "mine", "--base", base], "is a folder; name a file")
    refused(project, ["--oci", "image", "--base", base, "--tag", "No Name"], "can't be called")
    refused(project, ["--oci", "image", "--base", base, "--extra", "dashboard"], "can't have the extra 'dashboard'")
    refused(
        project, ["--dockerfile", "build", "--base", "python:3.11\nRUN evil"], "A Dockerfile's base is an image's name"
    )
    assert (project / "mine" / "letter.txt").read_text() == "dear"


# -- a Dockerfile


def test_a_dockerfile_passes_hadolint_and_keeps_what_people_change(project: Path) -> None:
    perron("package", "--dockerfile", "build", cwd=project)
    text = (project / "build" / "Dockerfile").read_text()
    linted = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), project / "build" / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout
    assert text.startswith("# Written by `perron package`") and text.count("FROM python:") == 2
    places = [
        text.index(words)
        for words in ("COPY --from=build /opt/venv", "COPY --from=build /opt/perron", "COPY model", "LABEL")
    ]
    assert places == sorted(places) and "USER 10001:10001" in text and "HEALTHCHECK" in text
    pins = [
        line for line in (project / "build" / "requirements.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert all("==" in line for line in pins) and not {line.partition("==")[0] for line in pins} & FORBIDDEN
    assert sorted(path.name for path in (project / "build").iterdir())[:2] == [".dockerignore", ".perron-files.json"]
    (project / "build" / "Dockerfile").write_text(text + "# mine\n")
    said = perron("package", "--dockerfile", "build", "--allow-anonymous", cwd=project).stdout
    assert "changed by hand" in said and (project / "build" / "Dockerfile").read_text().endswith("# mine\n")
    (project / "build" / "model" / "manifest.json").write_text("{}")  # as another version's
    refused(project, ["--dockerfile", "build"], "was changed by hand, and is of another version than")
    perron(
        "package",
        "--dockerfile",
        "build",
        "--force",
        "--allow-anonymous",
        "--base",
        "docker://python:3.12-slim@sha256:" + "0" * 64,
        cwd=project,
    )
    again = (project / "build" / "Dockerfile").read_text()
    assert "PERRON_ALLOW_ANONYMOUS=1" in again and "# mine" not in again and "FROM python:3.12-slim@sha256:000" in again


@pytest.mark.slow
def test_a_dockerfile_builds_and_its_image_answers(project: Path, thing: dict[str, Any], tmp_path: Path) -> None:
    if (
        subprocess.run(
            [sys.executable, "-m", "pip", "index", "versions", "uv"], capture_output=True, check=False
        ).returncode
        != 0
    ):
        pytest.skip("a build installs from PyPI, and that can't be reached here")
    buildah = [
        need("buildah"),
        "--root",
        str(tmp_path / "store"),
        "--runroot",
        str(tmp_path / "run"),
        "--storage-driver",
        "vfs",
    ]
    if os.geteuid() != 0:
        pytest.skip("buildah builds as root here, and this isn't root")

    def do(*words: str | Path) -> None:
        done = subprocess.run([*buildah, *map(str, words)], capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    base = f"python:{PYTHON}-slim"
    do("from", "--name", "made", "scratch")
    do("add", "made", write_base(tmp_path / "base.tar", with_pip=True), "/")
    do("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", "made")
    do("commit", "made", f"docker.io/library/{base}")
    perron("package", "--dockerfile", "build", cwd=project)
    do(
        "bud",
        "--isolation",
        "chroot",
        "--network",
        "host",
        "--pull-never",
        "-v",
        "/etc/ssl/certs:/etc/ssl/certs:ro",
        "-t",
        "things:1",
        project / "build",
    )
    do("push", "things:1", f"oci:{tmp_path / 'layout'}:1")
    port = free_port()
    with running(
        unpack(tmp_path / "layout", "1", tmp_path / "unpacked"),
        tmp_path,
        "--port",
        str(port),
        variables={"PERRON_ALLOW_ANONYMOUS": "1"},
    ) as container:
        wait_for(container, port)
        assert post(port, {"rows": [thing]})[0] == 200
        assert container.do("perron", "--version").stdout.startswith("perron ")
        container.signal("TERM")
        assert container.process.wait(20) == 0
