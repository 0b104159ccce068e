"""A base that is made of this machine's own Python, and images that really run, by umoci and runc."""

import json
import os
import re
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.conftest import need

UNUSED = (
    f"config-{sys.version_info.major}.{sys.version_info.minor}",
    "ensurepip",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "site-packages",
    "__pycache__",
    "lib2to3",
)
MORE = (
    "libstdc++.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
    "libdl.so.2",
    "librt.so.1",
    "libpthread.so.0",
    "libutil.so.1",
    "libresolv.so.2",
)
PROGRAMS = ("/bin/sh", "/bin/rm", "/bin/mkdir")  # what a build's RUN needs


def libraries_of(files: Sequence[str]) -> set[str]:
    """The paths of the shared libraries that these files need here."""
    said = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return set(re.findall(r"(?:=> )?(/\S+) \(0x", said))


def write_base(tar_file: Path, *, with_pip: bool = False) -> Path:
    """The tar of a root file system with this machine's Python in /usr/local and the libraries that it needs."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    library = Path(os.__file__).parent
    program = Path(sys.base_prefix, "bin", f"python{version}").resolve()
    extensions = [
        str(path) for path in library.rglob("*.so") if not set(path.parts) & set(UNUSED) and "_tkinter" not in path.name
    ]
    programs = [str(Path(name).resolve()) for name in PROGRAMS] if with_pip else []
    libraries = libraries_of([str(program), *extensions, *programs])
    (home,) = {Path(path).parent for path in libraries if Path(path).name == "libc.so.6"}
    # Those that the packages of a serving image need, as every distribution has them.
    more = [str(home / name) for name in MORE]
    libraries |= libraries_of(more) | {path for path in more if Path(path).is_file()}

    def leave_out(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if any(part.startswith(UNUSED) for part in Path(item.name).parts[4:]) else item

    with tarfile.open(tar_file, "w") as tar:
        tar.add(program, f"usr/local/bin/python{version}")
        for name in ("python3", "python"):
            link = tarfile.TarInfo(f"usr/local/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, f"python{version}"
            tar.addfile(link)
        tar.add(library, f"usr/local/lib/python{version}", filter=leave_out)
        for path in sorted(libraries):
            # A Python of pyenv's knows its library by an absolute path: beside the others the loader finds it, too.
            name = home / Path(path).name if path.startswith(sys.base_prefix) else Path(path)
            tar.add(Path(path).resolve(), str(name).lstrip("/"))
        for path, name in zip(programs, PROGRAMS, strict=False):
            tar.add(path, name.lstrip("/"))
        if with_pip:
            import pip

            tar.add(
                Path(pip.__file__).parent,
                f"usr/local/lib/python{version}/site-packages/pip",
                filter=lambda item: None if "__pycache__" in item.name else item,
            )
            for bundle in ("/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/cert.pem"):
                if Path(bundle).is_file():
                    tar.add(Path(bundle).resolve(), bundle.lstrip("/"))
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    return tar_file


def unpack(layout: Path, tag: str, folder: Path) -> Path:
    """The bundle for runc of an image."""
    done = subprocess.run(
        [need("umoci"), "unpack", "--image", f"{layout}:{tag}", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@contextmanager
def running(
    unpacked: Path, folder: Path, *words: str, variables: dict[str, str] | None = None, has_tmp: bool = True
) -> "Iterator[Container]":
    """An unpacked image, running: on a read-only root, without rights, in this machine's network; words are added to its command."""
    need("runc")
    if os.geteuid() != 0:
        pytest.skip("runc is run by root here, and this isn't root")
    config = json.loads((unpacked / "config.json").read_text())
    process = config["process"]
    process["terminal"] = False
    process["args"] += words
    process["env"] += [f"{name}={value}" for name, value in (variables or {}).items()]
    process["capabilities"] = {}
    config["root"] = {"path": str(unpacked / "rootfs"), "readonly": True}
    # Whose network and control groups those are isn't what is tested.
    config["linux"]["namespaces"] = [one for one in config["linux"]["namespaces"] if one["type"] != "network"]
    config["linux"].pop("resources", None)
    config["mounts"] = [one for one in config["mounts"] if one["type"] not in ("cgroup", "sysfs", "mqueue")]
    if has_tmp:
        options = ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]
        config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": options})
    bundle = folder / f"bundle-{uuid.uuid4().hex[:8]}"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(config))
    container = Container(bundle)
    try:
        yield container
    finally:
        container.close()


class Container:
    """A container of runc's; `process` is runc itself, which ends as what runs in it does."""

    def __init__(self, bundle: Path) -> None:
        self.name = f"perron-{uuid.uuid4().hex[:12]}"
        self._state = bundle / "state"
        self.log = bundle / "log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                self._words("run", "--bundle", str(bundle), self.name), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )  # fmt: skip

    def _words(self, *words: str) -> list[str]:
        return ["runc", "--root", str(self._state), *words]

    def check(self) -> None:
        """Nothing while it runs; where runc can't run anything at all, the test is skipped."""
        if self.process.poll() is not None:
            pytest.fail(f"the container ended: {self._said()}")

    def end(self) -> tuple[int, str]:
        """How it ended by itself, and what it said."""
        return self.process.wait(60), self._said()

    def _said(self) -> str:
        said = self.log.read_text()
        if "runc create failed" in said or "container_linux.go" in said:
            pytest.skip(f"runc can't run here: {said.strip().splitlines()[-1]}")
        return said

    def do(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command in it."""
        env = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
        return subprocess.run(
            self._words("exec", *env, self.name, *words), capture_output=True, text=True, check=False, timeout=30
        )

    def signal(self, name: str) -> None:
        subprocess.run(self._words("kill", self.name, name), check=True, capture_output=True)

    def close(self) -> None:
        if self.process.poll() is None:
            with suppress(subprocess.CalledProcessError):
                self.signal("KILL")
            self.process.wait(20)
        subprocess.run(self._words("delete", "--force", self.name), check=False, capture_output=True)
