"""Minutes as servers write them, the levels that they add up to, and what is beyond a limit."""

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from perron.canvas import parse_canvas
from perron.errors import DeclarationError, LedgerError
from perron.levels import Levels, ServiceLimits, excess_of, levels_of, limits_of
from perron.minutes import (
    KEEP_DAYS,
    LATENCY_BOUNDS,
    MinuteWriter,
    Traffic,
    Usage,
    quantile,
    read_minutes,
    share_at_least,
)
from perron.serve.usage import read_gpus, read_usage

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
USAGE = Usage("one", 0, 2, 0.0, 200_000_000, 8_000_000_000, 40, 1000, 50_000_000_000, 100_000_000_000)


def traffic(requests: int, errors: int = 0, within_s: float = 0.002) -> Traffic:
    made = Traffic(requests, errors, requests)
    made.latency[next(place for place, bound in enumerate(LATENCY_BOUNDS) if within_s <= bound)] = requests
    made.latency_s = requests * within_s
    return made


def write(
    folder: Path, minutes: int, a_minute: Traffic, *, usage: Usage = USAGE, refused: int = 0, until: datetime = NOW,
    route: str = "champion",
) -> None:  # fmt: skip
    """The minutes of a server that answered the same in each."""
    writer, sums = MinuteWriter(folder), Traffic()
    for minute in range(minutes + 1):
        now = until - timedelta(minutes=minutes - minute)
        cpu = Usage(
            **{name: getattr(usage, name) for name in usage.__struct_fields__} | {"cpu_s": minute * usage.cpu_s}
        )
        writer.tick({("m", 1, route): sums}, {"busy": refused * minute}, cpu, now)
        sums.add(a_minute)


def levels(folder: Path, limits: ServiceLimits | None = None, **more: datetime | None) -> Levels:
    found = levels_of(folder, "m", limits or ServiceLimits(), **{"since": None, "until": None, "now": NOW, **more})  # type: ignore[arg-type]
    assert found is not None
    return found


def kinds(folder: Path, limits: ServiceLimits | None = None) -> dict[str, str]:
    limits = limits or ServiceLimits()
    return {f"{one.kind} {one.subject}": one.severity for one in excess_of(levels(folder, limits), limits, 1)[0]}


def test_no_minutes_are_no_levels(tmp_path: Path) -> None:
    assert levels_of(tmp_path, "m", ServiceLimits(), since=None, until=None, now=NOW) is None


def test_minutes_add_up_whatever_the_number_of_processes(tmp_path: Path) -> None:
    write(tmp_path, 90, traffic(10, 1))
    write(tmp_path, 90, traffic(20), usage=Usage("one", 1, 2, 30.0))
    found = levels(tmp_path)
    (way,) = found.ways
    assert (way.traffic.requests, way.traffic.errors, way.traffic.rows) == (2700, 90, 2700)
    assert [(p.worker, round(p.cpu_share, 6)) for p in found.processes] == [(0, 0.0), (1, 0.25)]
    assert found.machine_hours == pytest.approx(1.5)  # two workers of one machine are paid once
    assert found.last_hour[0].traffic.requests == 1800 and found.last_day[0].traffic.requests == 2700
    assert found.busiest_rows_per_s == pytest.approx(0.5)


def test_a_minute_of_two_machines_is_paid_twice_and_energy_is_cpu_time(tmp_path: Path) -> None:
    for host in ("one", "two"):
        write(tmp_path, 60, traffic(1000), usage=Usage(host, 0, 4, 60.0))
    limits = ServiceLimits(machine_cost_per_hour=3.0, max_cost_per_1000=0.04, machine_watts=100.0)
    found = levels(tmp_path, limits)
    assert found.cost == pytest.approx(6.0) and found.cost_per_1000 == pytest.approx(0.05)
    assert found.energy_kwh == pytest.approx(2 * 3600 / 4 * 100 / 3.6e6)  # an hour of one core of four
    assert levels(tmp_path).energy_kwh == pytest.approx(2 * 3600 * 10 / 3.6e6) and levels(tmp_path).cost is None
    assert kinds(tmp_path, limits) == {"cost predictions": "medium"}


def test_only_the_time_that_is_asked_for_counts(tmp_path: Path) -> None:
    write(tmp_path, 600, traffic(1))
    found = levels(tmp_path, since=NOW - timedelta(hours=2), until=NOW - timedelta(hours=1))
    assert found.ways[0].traffic.requests == 60 and found.until == "2026-11-24T11:00:00Z"


def test_a_service_that_is_well_is_within_its_limits(tmp_path: Path) -> None:
    write(tmp_path, 1440, traffic(100))
    found = levels(tmp_path)
    assert kinds(tmp_path) == {} and found.budget_left == 1.0
    assert excess_of(found, ServiceLimits(), 1)[1] == {"errors", "latency", "budget", "traffic", "resources"}


def test_failures_are_beyond_the_limit_only_when_it_cannot_be_chance(tmp_path: Path) -> None:
    write(tmp_path, 60, traffic(1, 0))
    write(tmp_path, 1, traffic(1, 1))
    assert "errors champion" not in kinds(tmp_path)
    write(tmp_path, 60, traffic(90, 10))
    assert kinds(tmp_path)["errors champion"] == "high"


def test_slow_answers_are_told_by_how_slow(tmp_path: Path) -> None:
    write(tmp_path, 60, traffic(10, within_s=0.2))
    assert kinds(tmp_path) == {} and kinds(tmp_path, ServiceLimits(max_p99_ms=200)) == {"latency champion": "medium"}
    assert kinds(tmp_path, ServiceLimits(max_p99_ms=50)) == {"latency champion": "high"}


def test_a_limit_of_seconds_is_held_to_as_well(tmp_path: Path) -> None:
    write(tmp_path, 60, traffic(20, within_s=20.0))
    assert kinds(tmp_path, ServiceLimits(max_p99_ms=10_000)) == {"latency champion": "high"}
    assert kinds(tmp_path, ServiceLimits(max_p99_ms=40_000)) == {}


def test_the_last_hour_counts_before_the_day(tmp_path: Path) -> None:
    write(tmp_path, 1300, traffic(10, within_s=2.0), until=NOW - timedelta(hours=2))
    assert "latency champion" in kinds(tmp_path)
    write(tmp_path, 60, traffic(10))
    assert "latency champion" not in kinds(tmp_path)


def test_a_budget_that_burns_is_told_fast_and_slow(tmp_path: Path) -> None:
    write(tmp_path, 400, traffic(985, 15))  # 1.5 %: 15 times what 99.9 % allows
    assert kinds(tmp_path)["budget 1 h"] == "high"
    assert "budget 6 h" in kinds(tmp_path, ServiceLimits(availability=0.998))  # 7.5 times
    assert "budget month" in kinds(tmp_path, ServiceLimits(availability=0.99))  # used up, but not fast
    assert not any("budget" in kind for kind in kinds(tmp_path, ServiceLimits(availability=0.98)))


def test_what_a_full_queue_refused_burns_the_budget_too(tmp_path: Path) -> None:
    write(tmp_path, 60, traffic(100), refused=2)
    assert kinds(tmp_path) == {"budget 1 h": "high"}


def test_one_failure_alone_burns_no_budget_whatever_was_refused_before(tmp_path: Path) -> None:
    write(tmp_path, 2, traffic(0), refused=600, until=NOW - timedelta(days=20))
    write(tmp_path, 2, traffic(0, 1))
    assert not any(kind in ("budget 1 h", "budget 6 h") for kind in kinds(tmp_path))


def test_silence_is_told_of_what_was_asked_before(tmp_path: Path) -> None:
    write(tmp_path, 600, traffic(1), until=NOW - timedelta(minutes=40))
    assert kinds(tmp_path) == {"traffic requests": "low"}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (Usage("one", disk_free_bytes=8, disk_bytes=100), {"resources disk": "medium"}),
        (Usage("one", disk_free_bytes=2, disk_bytes=100), {"resources disk": "high"}),
        (Usage("one", open_files=960, most_files=1000), {"resources open files": "high"}),
        (Usage("one", resident_bytes=91, memory_bytes=100), {"resources memory": "medium"}),
        (Usage("one", queue_rows=20_000), {"resources queue": "medium"}),
        (Usage("one", cores=2, cpu_s=118.0), {"resources cpu": "medium"}),
        (Usage("one", cores=2, cpu_s=60.0), {}),
    ],
)
def test_what_runs_out_is_told(tmp_path: Path, usage: Usage, expected: dict[str, str]) -> None:
    write(tmp_path, 30, traffic(1), usage=usage)
    assert kinds(tmp_path) == expected


def test_the_memory_of_workers_adds_up(tmp_path: Path) -> None:
    for worker in range(3):
        write(tmp_path, 5, traffic(1), usage=Usage("one", worker, resident_bytes=32, memory_bytes=100))
    assert kinds(tmp_path) == {"resources memory": "high"}


def test_the_canvas_sets_the_limits_and_what_is_given_goes_before() -> None:
    canvas, mistakes = parse_canvas("[budgets]\nmax_p99_ms = 20\navailability = 0.99\nmachine_cost_per_hour = 0.5\n")
    assert not mistakes and limits_of(None) == ServiceLimits()
    assert limits_of(canvas, availability=0.95) == ServiceLimits(
        max_p99_ms=20.0, availability=0.95, machine_cost_per_hour=0.5
    )
    with pytest.raises(DeclarationError, match="max_cost_per_1000 is 0; give a number above 0"):
        limits_of(None, max_cost_per_1000=0)


# ------------------------------------------------------------------ minutes


def test_a_line_that_was_cut_off_and_a_foreign_file_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, 5, traffic(1))
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-40])
    (tmp_path / "2026-11-24-other.jsonl").write_bytes(b'{"format":9}\n[1,2]\nnothing\n\xff\n')
    assert len(list(read_minutes(tmp_path, since=NOW - timedelta(days=1), until=NOW))) == 4


def test_a_clock_that_is_set_back_loses_nothing(tmp_path: Path) -> None:
    writer = MinuteWriter(tmp_path)
    for second, requests in ((0, 0), (61, 5), (30, 8), (150, 9)):
        writer.tick({("m", 1, "champion"): traffic(requests)}, {}, USAGE, NOW - timedelta(hours=1, seconds=-second))
    assert levels(tmp_path).ways[0].traffic.requests == 9


def test_minutes_that_are_too_old_are_removed(tmp_path: Path) -> None:
    old = tmp_path / f"{NOW - timedelta(days=KEEP_DAYS + 2):%Y-%m-%d}-1-a.jsonl"
    old.touch()
    write(tmp_path, 1, traffic(1))
    assert not old.exists() and len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_written_is_in_the_next_line(tmp_path: Path) -> None:
    writer, way = MinuteWriter(tmp_path / "minutes"), ("m", 1, "champion")
    (tmp_path / "minutes").write_text("in the way")
    writer.tick({way: traffic(0)}, {}, USAGE, NOW - timedelta(minutes=3))
    with pytest.raises(LedgerError, match="can't be written"):
        writer.tick({way: traffic(3)}, {}, USAGE, NOW - timedelta(minutes=2))
    (tmp_path / "minutes").unlink()
    writer.tick({way: traffic(7)}, {}, USAGE, NOW - timedelta(minutes=1))
    assert levels(tmp_path / "minutes").ways[0].traffic.requests == 7


@given(some.lists(some.floats(0.0001, 2.4), min_size=1, max_size=200), some.floats(0.01, 1.0))
def test_a_quantile_is_in_the_bucket_of_the_value_that_it_is(values: list[float], share: float) -> None:
    counts = [0] * (len(LATENCY_BOUNDS) + 1)
    for value in values:
        counts[next(place for place, bound in enumerate(LATENCY_BOUNDS) if value <= bound)] += 1
    found = quantile(counts, share)
    exact = sorted(values)[max(0, -(-int(share * len(values) * 1e9) // 10**9) - 1)]
    place = next(place for place, bound in enumerate(LATENCY_BOUNDS) if exact <= bound)
    assert found is not None and found <= LATENCY_BOUNDS[min(place + 1, len(LATENCY_BOUNDS) - 1)] + 1e-9
    assert quantile([0, 0], 0.5) is None and quantile([0] * len(LATENCY_BOUNDS) + [1], 0.5) == LATENCY_BOUNDS[-1]


@given(some.integers(1, 500), some.integers(1, 500))
def test_a_share_is_at_least_less_than_it_was_seen(hits: int, more: int) -> None:
    assert 0 <= share_at_least(hits, hits + more) < hits / (hits + more)
    assert share_at_least(0, 0) == 0.0


# ------------------------------------------------------------------ usage


def test_a_process_tells_what_it_uses(tmp_path: Path) -> None:
    found = read_usage(tmp_path / "not there yet", worker=3, queue_rows=7)
    assert found.worker == 3 and found.queue_rows == 7 and found.cpu_s > 0 and found.cores >= 1
    assert found.resident_bytes is not None and found.memory_bytes is not None
    assert 1 << 20 < found.resident_bytes < found.memory_bytes
    assert found.open_files is not None and found.most_files is not None and 0 < found.open_files < found.most_files
    assert found.disk_free_bytes is not None and found.disk_bytes is not None
    assert 0 < found.disk_free_bytes <= found.disk_bytes


def test_gpus_are_read_of_the_drivers_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool is a stand-in that answers as `nvidia-smi` documents it."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        '#!/bin/sh\ncase "$1" in\n'
        f'*compute-apps*) echo "GPU-a, {os.getpid()}, 1024"; echo "GPU-a, 1, 300";;\n'
        '*) echo "Fast One, 37, 2048, 81920, GPU-a"; echo "Odd One, [N/A], 10, 100, GPU-b";;\nesac\n'
    )
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    fast, odd = read_gpus()
    assert (fast.name, fast.busy_share, fast.used_bytes, fast.memory_bytes) == ("Fast One", 0.37, 2 << 30, 80 << 30)
    assert fast.own_bytes == 1 << 30 and odd.busy_share is None and odd.own_bytes is None
    tool.write_text("#!/bin/sh\necho broken >&2\nexit 9\n")
    assert read_gpus() == ()


def test_levels_are_plain_json(tmp_path: Path) -> None:
    write(tmp_path, 10, traffic(5, 1))
    told = json.loads(json.dumps(levels(tmp_path).to_json()))
    assert told["ways"][0]["requests"] == 50 and told["total"]["errors"] == 10 and told["budget_burn"]["60m"] > 1
    assert any("60 requests since" in line for line in levels(tmp_path).words)
