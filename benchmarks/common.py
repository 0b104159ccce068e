"""What the benchmarks share: virtual environments for the peers, a project to serve, processes and their costs, tables."""

import argparse
import contextlib
import csv
import hashlib
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "perron-benchmarks"
PERRON = Path(sys.executable).parent / "perron"
TARGET, CATEGORY = "median_house_value", "ocean_proximity"
MODEL = """

@system.model
def model(params):
    from lightgbm import LGBMRegressor

    return LGBMRegressor(n_estimators=200, verbose=-1, num_threads=1)
"""
TICKS = os.sysconf("SC_CLK_TCK")


def parser(text: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=text.split("\n\n", maxsplit=1)[0])
    made.add_argument("--rounds", type=int, default=3, help="how often each contender is measured (default: 3)")
    return made


def data_option(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--data", type=Path, default=Path("housing.csv"), help="California housing as CSV (default: ./housing.csv)"
    )


def need(condition: bool, message: str) -> None:
    """Ends the benchmark with one line when something is missing."""
    if not condition:
        sys.exit(f"{Path(sys.argv[0]).name}: {message}")


def environment(**more: str) -> dict[str, str]:
    """The environment of every process measured: byte code is kept, as an installed package's is.

    In a folder of ours, so that neither the project's environment nor its source is written; whatever
    is measured is called once before, which compiles it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PERRON"))}
    if "PYTHONPATH" in os.environ:
        kept["PYTHONPATH"] = os.environ["PYTHONPATH"]
    return {**kept, "PYTHONPYCACHEPREFIX": str(CACHE / "pycache"), **more}


def same_version(*names: str) -> list[str]:
    """Requirements for the versions that Perron itself runs on here."""
    return [f"{name}=={version(name)}" for name in names]


def peer_python(name: str, requirements: Sequence[str]) -> Path:
    """The Python of a peer's own virtual environment, made once and kept."""
    mark = hashlib.sha256("\n".join([sys.version, *sorted(requirements)]).encode()).hexdigest()[:12]
    folder = CACHE / "envs" / f"{name}-{mark}"
    python = folder / "bin" / "python"
    if (folder / "ready").exists():
        return python
    print(f"Installing {name} in {folder} …", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv")
    if uv:
        run([uv, "venv", "-q", "--python", sys.executable, str(folder)])
        run([uv, "pip", "install", "-q", "--python", str(python), *requirements])
    else:
        run([sys.executable, "-m", "venv", str(folder)])
        run([str(python), "-m", "pip", "install", "-q", *requirements])
    (folder / "ready").touch()
    return python


def fastapi_python(app: str, *learned: str) -> Path:
    """The Python of a FastAPI peer: FastAPI and uvicorn at their newest, what it computes with as Perron has it."""
    return peer_python(app, ["fastapi", "uvicorn[standard]", *same_version("pydantic", "numpy", *learned)])


def run(command: Sequence[str], cwd: Path | None = None) -> str:
    """The standard output of a command; ends the benchmark with its last words when it fails."""
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    need(done.returncode == 0, f"{' '.join(map(str, command[:4]))} … failed: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout


def make_project(data: Path, folder: Path) -> Path:
    """A Perron project on the housing data, with LightGBM of 200 trees trained and registered."""
    need(data.is_file(), f"there is no {data}; name the California housing table with --data FILE")
    run(
        [str(PERRON), "init", folder.name, "--from", str(data.resolve()), "--target", TARGET, "--no-git"], folder.parent
    )
    with open(folder / "system.py", "a") as file:
        file.write(MODEL)
    run([str(PERRON), "run"], folder)
    return folder


def sample_rows(data: Path, count: int) -> list[dict[str, Any]]:
    """Rows with nothing missing, spread over the table, without the target."""
    with open(data, newline="") as file:
        whole = [row for row in csv.DictReader(file) if all(row.values())]
    chosen = whole[:: max(len(whole) // count, 1)][:count]
    return [
        {name: value if name == CATEGORY else float(value) for name, value in row.items() if name != TARGET}
        for row in chosen
    ]


def apart(function: Callable[..., Any], *arguments: Any) -> None:
    """Calls a function in a process of its own: a process measured later counts its parent's peak of memory as its own."""
    child = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    child.start()
    child.join()
    need(child.exitcode == 0, f"{function.__name__} failed")


def measure(command: Sequence[str], cwd: Path | None = None) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak memory in MB of a whole process."""
    started = time.perf_counter()
    child = subprocess.Popen(command, cwd=cwd, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    need(child.returncode == 0, f"{command[0]} failed: {said.decode()[-500:]}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A server under way; a context that ends it and all that it started."""

    def __init__(
        self, command: Sequence[str], log: Path, *, cwd: Path | None = None, env: dict[str, str] | None = None,
        cores: set[int] | None = None,
    ) -> None:  # fmt: skip
        self.log = log
        self.started = time.perf_counter()
        with open(log, "wb") as out:
            self._child = subprocess.Popen(
                command, cwd=cwd, env=env or environment(), stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,  # noqa: PLW1509 (there are no threads)
            )  # fmt: skip

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGTERM)
        try:
            self._child.wait(15)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._child.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)

    def first_answer(self, port: int, path: str, body: bytes, limit_s: float = 60.0) -> float:
        """Seconds from the process's start until a POST is answered with 200, tried every two milliseconds."""
        while time.perf_counter() - self.started < limit_s:
            need(self._child.poll() is None, f"the server ended: {self.log.read_text()[-500:]}")
            try:
                with socket.create_connection(("127.0.0.1", port), 1):
                    pass
                if post(port, path, body)[0] == 200:
                    return time.perf_counter() - self.started
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(0.002)
        sys.exit(f"no answer after {limit_s} s: {self.log.read_text()[-500:]}")

    def listening(self, port: int, limit_s: float = 60.0) -> None:
        """Returns once a connection is taken."""
        while time.perf_counter() - self.started < limit_s:
            need(self._child.poll() is None, f"the server ended: {self.log.read_text()[-500:]}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.01)
        sys.exit(f"nothing listens after {limit_s} s: {self.log.read_text()[-500:]}")

    def tree(self) -> list[int]:
        """The process and all below it."""
        parents: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    parents.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
                except OSError:
                    continue
        found = [self._child.pid]
        for pid in found:
            found += parents.get(pid, [])
        return found

    def cpu_s(self) -> float:
        """CPU seconds, user and system, of the tree so far."""
        return sum(int(_stat(pid)[11]) + int(_stat(pid)[12]) for pid in self.tree()) / TICKS

    def memory_mb(self) -> tuple[float, float]:
        """PSS and RSS of the tree in MB (10⁶ bytes)."""
        sums = {"Pss": 0, "Rss": 0}
        for pid in self.tree():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, _, rest = line.partition(":")
                if name in sums:
                    sums[name] += int(rest.split()[0])
        return sums["Pss"] * 1024 / 1e6, sums["Rss"] * 1024 / 1e6


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: state, parent, …, user and system time at 11 and 12."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def post(port: int, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of one POST."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def body_of(rows: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps({"rows": rows}).encode()


def timed(command: Sequence[str], cwd: Path | None = None) -> float:
    """Seconds of a whole process."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, check=False)
    took = time.perf_counter() - started
    need(done.returncode == 0, f"{' '.join(map(str, command))} failed: {done.stderr.decode()[-500:]}")
    return took


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; all but the first column to the right."""
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def about() -> str:
    """What the figures were taken on."""
    names = ("perron", "granian", "onnxruntime", "lightgbm", "numpy")
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}; " + ", ".join(f"{n} {version(n)}" for n in names)
