"""A server's process in; what it uses out: CPU, memory, open files, the disk, GPUs."""

import functools
import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector

from perron.minutes import Gpu, Usage

__all__ = ["read_gpus", "read_usage"]

MB = 1 << 20
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
GPU_QUERY = ("name", "utilization.gpu", "memory.used", "memory.total", "uuid")


def read_usage(place: Path, worker: int = 0, queue_rows: int = 0, gpus: tuple[Gpu, ...] = ()) -> Usage:
    """What this process uses now, in a tenth of a millisecond.

    Args:
        place: on the disk that is told of.
        worker: this process's number.
        queue_rows: that wait.
        gpus: as they were read last.
    """
    told = {sample.name: sample.value for family in _collector().collect() for sample in family.samples}
    free = total = None
    try:
        disk = os.statvfs(place if place.exists() else place.parent)
        free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    except OSError:
        pass  # the log's folder was taken away; the log itself says so
    own = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(
        platform.node(), worker, len(os.sched_getaffinity(0)), own.ru_utime + own.ru_stime,
        _whole(told.get("process_resident_memory_bytes")), _memory(), _whole(told.get("process_open_fds")),
        _whole(told.get("process_max_fds")), free, total, queue_rows, gpus,
    )  # fmt: skip


@functools.cache
def _collector() -> ProcessCollector:
    return ProcessCollector(registry=CollectorRegistry())


@functools.cache
def _memory() -> int | None:
    """Of the container where it has less, else of the machine."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None
    for limit in CONTAINER_LIMITS:
        try:
            return min(machine, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return machine


def read_gpus() -> tuple[Gpu, ...]:
    """The machine's GPUs as NVIDIA's tool tells them, which takes it a tenth of a second; none where there is no tool, or it fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        own = _ask(tool, "--query-compute-apps=gpu_uuid,pid,used_memory")
        found = _ask(tool, f"--query-gpu={','.join(GPU_QUERY)}")
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ()
    mine = {row[0]: _bytes(row[2]) for row in own if len(row) == 3 and row[1] == str(os.getpid())}
    return tuple(
        Gpu(
            row[0],
            None if (busy := _number(row[1])) is None else busy / 100,
            _bytes(row[2]),
            _bytes(row[3]),
            mine.get(row[4]),
        )
        for row in found
        if len(row) == len(GPU_QUERY)
    )


def _ask(tool: str, query: str) -> list[list[str]]:
    done = subprocess.run(
        [tool, query, "--format=csv,noheader,nounits"], capture_output=True, check=True, timeout=5.0, text=True
    )
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # [N/A]
        return None


def _bytes(text: str) -> int | None:
    number = _number(text)
    return None if number is None else int(number) * MB


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
