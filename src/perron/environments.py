"""environments.toml in; the environments that versions are deployed to out, each with what it demands and how it runs.

The file lies beside system.py and only holds data: a table per environment. Without it there are `dev`, `tst`, `acc` and
`prd`, one after the other. A key that the environment's target has no use for is refused, like one that nobody knows.
"""

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perron.errors import DeclarationError, NotFound, nearest
from perron.gates import Gate
from perron.metrics import METRICS
from perron.naming import image_fault, repository_fault
from perron.schedule import cron_fault

__all__ = [
    "FILE", "KEYS", "SERVICE", "TARGETS", "Environment", "Mistake", "environments_file", "get_environment", "in_order",
    "is_late", "parse_environments", "read_environments",
]  # fmt: skip

FILE = "environments.toml"
FORMAT = 1
TARGETS = ("local", "compose", "cloud-run", "kubernetes")
ELSEWHERE = frozenset(TARGETS[1:])
NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What `perron serve` is told by the environment itself, or can't be told under a supervisor.
DECIDED = (
    "--host", "--port", "--grpc-port", "--workers", "--model", "--pinned", "--bundle", "--project", "-C", "--clock",
    "--tls-cert", "--tls-key", "--tls-client-ca",
)  # fmt: skip
# What Cloud Run asks for: a core and a GiB, by the second, while it answers, waits, or is always there; a million requests.
PRICES = (
    "cpu_s", "gib_s", "idle_cpu_s", "idle_gib_s", "always_cpu_s", "always_gib_s", "million_requests", "currency",
)  # fmt: skip
Judge = Callable[[Any], str | None]  # what is wrong with a value, in words, or None


@dataclass(frozen=True)
class Mistake:
    """Something that can't be read in an environments.toml: its key and what is wrong there."""

    key: str
    message: str


@dataclass(frozen=True)
class Environment:
    """A place that versions are deployed to.

    Args:
        name: such as `prd`.
        target: what runs it; None: whichever `perron deploy` names.
        after: the environment where the same bundle must have been live before; None: none.
        approvals: how many people beside the deployer must have approved.
        approvers: who may approve; empty: everybody.
        gates: what a version's metrics must reach here, beside the gates that it was registered by.
        clean_commit: whether the project, and the code that the version was trained by, must be committed.
        host, port, workers: of the server.
        ready_s: how long a version may take until it is ready.
        drain_s: how long requests under way and idle connections are waited for.
        health_s: how often a server is asked whether it lives; three failures in a row and it is started again.
        memory_mb: more than that, and the server is replaced by a fresh one; None: no limit.
        serve: more words for `perron serve`.
        rollouts: whether what `perron deploy canary` and its like decide holds here; else the deployed version alone answers.
        variables: of the server's environment.
        service: what targets beside `local` are told, by its name in `ServiceSpec`.
        given: the keys that the file has.
    """

    name: str
    target: str | None = None
    after: str | None = None
    approvals: int = 0
    approvers: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    clean_commit: bool = False
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    ready_s: float = 60.0
    drain_s: float = 10.0
    health_s: float = 5.0
    memory_mb: int | None = None
    serve: tuple[str, ...] = ()
    rollouts: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    service: Mapping[str, Any] = field(default_factory=dict)
    given: frozenset[str] = frozenset()

    @property
    def demands(self) -> list[str]:
        """What a version needs to come here, in words."""
        found = [] if self.after is None else [f"after {self.after}"]
        found += [gate.name for gate in self.gates]
        found += ["clean commit"] if self.clean_commit else []
        if self.approvals:
            by = f" by {', '.join(self.approvers)}" if self.approvers else ""
            found.append(f"{self.approvals} {'approval' if self.approvals == 1 else 'approvals'}{by}")
        return found


# ------------------------------------------------------------------ the keys


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(low: int, high: int) -> Judge:
    def judge(value: Any) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if fits else f"give a whole number from {low} to {high}"

    return judge


def _seconds(low: float, high: float) -> Judge:
    def judge(value: Any) -> str | None:
        return None if _is_number(value) and low <= value <= high else f"give seconds from {low:g} to {high:g}"

    return judge


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() and value.isprintable() else "give a text"


def _image(value: Any) -> str | None:
    return _text(value) or image_fault(value)


def _repository(value: Any) -> str | None:
    return _text(value) or repository_fault(value)


def _texts(value: Any) -> str | None:
    fits = isinstance(value, list) and all(_text(one) is None for one in value)
    return None if fits else "give a list of texts"


def _answer(value: Any) -> str | None:
    return None if isinstance(value, bool) else "answer true or false"


def _target(value: Any) -> str | None:
    return None if value in TARGETS else nearest(str(value), TARGETS)


def _cores(value: Any) -> str | None:
    return None if _is_number(value) and 0.05 <= value <= 256 else "give cores from 0.05 to 256"


def _names(value: Any) -> str | None:
    fits = isinstance(value, dict) and all(
        VARIABLE.fullmatch(name) and isinstance(text, str) and "\0" not in text for name, text in value.items()
    )
    return None if fits else "give a table of names and texts, such as { LEVEL = 'info' }"


def _prices(value: Any) -> str | None:
    fits = isinstance(value, dict) and all(
        name in PRICES and (_text(price) is None if name == "currency" else _is_number(price) and price >= 0)
        for name, price in value.items()
    )
    return None if fits else f"give a table of numbers, of {', '.join(PRICES)}"


def _serve_words(value: Any) -> str | None:
    if _texts(value) is not None:
        return "give a list of words, such as ['--cache', '1000']"
    taken = [word for word in value if word.partition("=")[0] in DECIDED]
    return f"{taken[0]} is decided by the environment; leave it out" if taken else None


def _gates(value: Any) -> str | None:
    return None if isinstance(value, list) and value else "make it a list of tables: [[NAME.gates]]"


def _schedules(value: Any) -> str | None:
    return None if isinstance(value, list) and value else "make it a list of tables: [[NAME.schedules]]"


# Each: the judge, what it means, and the targets that know it.
LOCAL, COMPOSE, KUBERNETES, CLOUD_RUN = (frozenset({name}) for name in ("local", "compose", "kubernetes", "cloud-run"))
ALL = frozenset(TARGETS)
SCALING = KUBERNETES | CLOUD_RUN  # which part requests among replicas; compose runs one container
KEYS: dict[str, tuple[Judge, str, frozenset[str]]] = {
    "target": (_target, "what runs it: " + ", ".join(TARGETS), ALL),
    "after": (_text, "the environment where the same bundle must have been live before", ALL),
    "approvals": (_whole(0, 20), "how many people beside the deployer must have approved", ALL),
    "approvers": (_texts, "who may approve; everybody where it is left out", ALL),
    "gates": (_gates, "limits that the version's metrics must keep here", ALL),
    "clean_commit": (_answer, "whether only committed code may come here", ALL),
    "port": (_whole(1, 65535), "the port that it answers on", ALL),
    "workers": (_whole(1, 256), "processes that answer", ALL),
    "variables": (_names, "environment variables of the server", ALL),
    "memory_mb": (_whole(64, 10**7), "the most memory", ALL),
    "host": (_text, "the address that it listens on", LOCAL),
    "ready_s": (_seconds(1, 3600), "how long a version may take until it is ready", ALL),
    "drain_s": (_seconds(0, 600), "how long what is under way is waited for", LOCAL),
    "health_s": (_seconds(0.1, 3600), "how often it is asked whether it lives", LOCAL),
    "serve": (_serve_words, "more words for `perron serve`", LOCAL),
    "rollouts": (_answer, "whether canaries and A/B tests are followed here", LOCAL),
    "image": (_repository, "the image's repository, without a tag", ELSEWHERE),
    "project_image": (_image, "an image with the project, for schedules", ELSEWHERE),
    "grpc_port": (_whole(1024, 65535), "a port for gRPC besides", ELSEWHERE),
    "replicas_min": (_whole(0, 1000), "replicas without traffic", SCALING),
    "replicas_max": (_whole(1, 1000), "replicas under the most traffic", SCALING),
    "cpu": (_cores, "cores of a replica", ELSEWHERE),
    "concurrency": (_whole(1, 1000), "requests that a replica is given at once", SCALING),
    "timeout_s": (_whole(1, 3600), "seconds that a request may take", SCALING),
    "secrets": (_names, "environment variables, and the platform's secrets that fill them", ELSEWHERE),
    "log_to": (_texts, "where predictions go on to", ELSEWHERE),
    "schedules": (_schedules, "what runs by the clock", ELSEWHERE),
    "job_memory_mb": (_whole(64, 10**7), "the most memory of what runs by the clock", ELSEWHERE),
    "job_cpu": (_cores, "cores of what runs by the clock", ELSEWHERE),
    "url": (_text, "where the service answers, to ask whether it is ready", ELSEWHERE),
    "kserve": (_answer, "whether it is an InferenceService of KServe, not a Deployment", KUBERNETES),
    "four_services": (_answer, "whether it is preprocess, train, serve and web, of the project's image", COMPOSE),
    "profiles": (_texts, "parts beside the server: monitoring, dashboard, postgres, storage", COMPOSE),
    "project": (_text, "the project's id in Google Cloud", CLOUD_RUN),
    "region": (_text, "such as europe-west4", CLOUD_RUN),
    "service_account": (_text, "that containers act as", CLOUD_RUN),
    "bucket": (_text, "in which jobs keep what they know", CLOUD_RUN),
    "ingress": (_text, "from which networks requests come", CLOUD_RUN),
    "is_public": (_answer, "whether everybody may ask", CLOUD_RUN),
    "has_cpu_always": (_answer, "a core also between requests", CLOUD_RUN),
    "requests_per_day": (_whole(0, 10**11), "that are expected, for the estimate of what it costs", CLOUD_RUN),
    "mean_ms": (_whole(1, 3_600_000), "milliseconds that a request takes on the mean, for the estimate", CLOUD_RUN),
    "prices": (_prices, "of Cloud Run, for the estimate: " + ", ".join(PRICES), CLOUD_RUN),
    "server_url": (_text, "of the server, for the dashboard", CLOUD_RUN),
}  # fmt: skip
SERVICE = (
    "project_image", "grpc_port", "replicas_min", "replicas_max", "cpu", "concurrency", "timeout_s", "secrets", "log_to",
    "schedules", "job_memory_mb", "job_cpu",
)  # fmt: skip
ELSE = (
    "image",
    "url",
    "kserve",
    "four_services",
    "profiles",
    *(key for key, (_, _, targets) in KEYS.items() if targets == CLOUD_RUN),
)
OF_ONE_VERSION = ("image", "url", "grpc_port", "log_to", "profiles", "schedules")  # which the four services aren't
GATE_KEYS, SCHEDULE_KEYS = ("metric", "at_most", "at_least"), ("name", "cron", "command")


# ------------------------------------------------------------------ reading


def environments_file() -> str:
    """The text of a first environments.toml: what holds without the file, and what else may be said."""
    return """# The environments that versions are deployed to; `perron deploy environments` shows them.
# The same bundle goes from one to the next; Perron's page on deployments (docs/deploy.md) explains every key.
format = 1

[dev]
target = "local"
port = 8001

[tst]
target = "local"
port = 8002
after = "dev"           # the same bundle must have been live there

[acc]
target = "local"
port = 8003
after = "tst"
clean_commit = true     # nothing uncommitted may come here

[prd]
target = "local"
port = 8004
after = "acc"
clean_commit = true
# approvals = 1         # by somebody else than who deploys: `perron deploy approve prd`
# approvers = ["alice@example.org", "bob@example.org"]
# workers = 2
# memory_mb = 1024      # more, and the server is replaced by a fresh one

# [[prd.gates]]         # limits beside those that every version is registered by
# metric = "rmse"
# at_most = 55000
"""


def read_environments(folder: Path) -> dict[str, Environment]:
    """The environments of a project's folder, in order; those of `environments_file` where there is no file.

    Raises:
        DeclarationError: the file can't be read or is wrong; names the first mistake and how many there are.
    """
    path = folder / FILE
    try:
        text = path.read_bytes().decode() if path.exists() else None
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{FILE} isn't UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise DeclarationError(f"Can't read {path}: {error.strerror}.") from error
    found, mistakes = parse_environments(environments_file() if text is None else text)
    if found is None:
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        raise DeclarationError(f"{FILE}: {mistakes[0].key}: {mistakes[0].message}{more}")
    return found


def get_environment(folder: Path, name: str) -> Environment:
    """The environment of that name.

    Raises:
        NotFound: there is none.
        DeclarationError: environments.toml is wrong.
    """
    found = read_environments(folder)
    if name not in found:
        where = FILE if (folder / FILE).exists() else f"a project without {FILE}"
        raise NotFound(f"There is no environment {name[:40]!r} in {where}; {nearest(name, found)}")
    return found[name]


def in_order(environments: Iterable[Environment]) -> list[Environment]:
    """Each after the one that it comes after; those that have nothing to do with one another stay as they were."""
    left = {one.name: one for one in environments}
    found: list[Environment] = []
    while left:
        ready = next((one for one in left.values() if one.after not in left), None)
        if ready is None:
            raise DeclarationError(f"{FILE}: {next(iter(left))} comes after itself.")
        found.append(left.pop(ready.name))
    return found


def is_late(name: str, environments: Mapping[str, Environment]) -> bool:
    """Whether an environment is in the latter half of its way to production, as what nothing follows always is."""

    def followed(name: str) -> int:
        return max((1 + followed(one.name) for one in environments.values() if one.after == name), default=0)

    before, after = 0, environments[name].after
    while after is not None and after in environments:
        before, after = before + 1, environments[after].after
    return before >= (before + 1 + followed(name)) // 2


def parse_environments(text: str) -> tuple[dict[str, Environment] | None, list[Mistake]]:
    """The environments that a text of TOML declares, or None and every mistake in it, each with its key."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return None, [Mistake("the file", f"not TOML: {error}".splitlines()[0])]
    mistakes = []
    if data.pop("format", FORMAT) != FORMAT:
        mistakes.append(Mistake("format", f"this Perron reads {FORMAT}"))
    if not data:
        mistakes.append(Mistake("the file", "declares no environment; add a table such as [dev]"))
    for name, table in data.items():
        mistakes += _table_mistakes(name, table)
    if not mistakes:
        mistakes += _contradictions(data)
    return (None, mistakes) if mistakes else ({name: _construct(name, table) for name, table in data.items()}, [])


def _table_mistakes(name: str, table: Any) -> Iterator[Mistake]:
    if not NAME.fullmatch(name):
        yield Mistake(name[:60], "name an environment with up to 20 lower-case letters, digits and hyphens")
    if not isinstance(table, dict):
        yield Mistake(name[:60], f"is {table!r:.60}; make it a table: [{name[:40]}]")
        return
    target = table.get("target")
    for key, value in table.items():
        if key not in KEYS:
            yield Mistake(f"{name}.{key}", f"there is no such key; {nearest(key, KEYS)}")
            continue
        judge, _, targets = KEYS[key]
        if (words := judge(value)) is not None:
            yield Mistake(f"{name}.{key}", f"is {value!r:.60}; {words}")
        elif target in TARGETS and target not in targets:
            yield Mistake(f"{name}.{key}", _useless(key, target, targets))
        elif key == "gates":
            yield from _gate_mistakes(name, value)
        elif key == "schedules":
            yield from _schedule_mistakes(name, value)


def _useless(key: str, target: str, targets: frozenset[str]) -> str:
    hint = (
        "; a local server has the environment of the shell that started its supervisor (`perron deploy stop` before a "
        "change of it), and `variables`"
        if key == "secrets"
        else ""
    )
    return f"the target {target} has no use for it; it is for {', '.join(t for t in TARGETS if t in targets)}{hint}"


def _gate_mistakes(name: str, gates: list[Any]) -> Iterator[Mistake]:
    for place, gate in enumerate(gates):
        at = f"{name}.gates[{place}]"
        if not isinstance(gate, dict):
            yield Mistake(at, f"is {gate!r:.60}; make it a table")
            continue
        for key in gate:
            if key not in GATE_KEYS:
                yield Mistake(f"{at}.{key}", f"there is no such key; {nearest(key, GATE_KEYS)}")
        if gate.get("metric") not in METRICS:
            yield Mistake(
                f"{at}.metric",
                f"no metric has the name {gate.get('metric')!r:.60}; {nearest(str(gate.get('metric')), METRICS)}",
            )
        limits = [key for key in ("at_most", "at_least") if key in gate]
        if len(limits) != 1:
            yield Mistake(at, "give either at_most or at_least")
        elif not _is_number(gate[limits[0]]):
            yield Mistake(f"{at}.{limits[0]}", f"is {gate[limits[0]]!r:.60}; give a number")


def _schedule_mistakes(name: str, schedules: list[Any]) -> Iterator[Mistake]:
    for place, schedule in enumerate(schedules):
        at = f"{name}.schedules[{place}]"
        if not isinstance(schedule, dict) or set(schedule) != set(SCHEDULE_KEYS):
            yield Mistake(at, "give name, cron and command, and nothing else")
        elif _text(schedule["name"]) or _text(schedule["cron"]) or _texts(schedule["command"]):
            yield Mistake(at, "give name and cron as texts, and command as a list of the words after `perron`")
        elif (fault := cron_fault(schedule["cron"])) is not None:
            yield Mistake(f"{at}.cron", f"is {schedule['cron']!r:.60}; {fault}")


def _contradictions(data: Mapping[str, Any]) -> Iterator[Mistake]:
    places: dict[tuple[str, int], str] = {}
    for name, table in data.items():
        before = table.get("after")
        if before is not None and before not in data:
            yield Mistake(f"{name}.after", f"there is no environment {before!r:.60}; {nearest(before, data)}")
        seen = {name}
        while before in data:
            if before in seen:
                yield Mistake(f"{name}.after", f"{name} comes after itself, by way of {before}")
                break
            seen.add(before)
            before = data[before].get("after")
        approvers = table.get("approvers")
        if approvers is not None and len(set(approvers)) < table.get("approvals", 0):
            yield Mistake(f"{name}.approvers", f"names fewer people than the {table['approvals']} that must approve")
        if approvers is not None and not table.get("approvals"):
            yield Mistake(f"{name}.approvers", "nobody needs to approve; set approvals, too")
        if table.get("four_services"):
            for key in OF_ONE_VERSION:
                if key in table:
                    yield Mistake(f"{name}.{key}", "means nothing beside four_services; leave one of them out")
        if table.get("target") == "local":
            place = table.get("host", Environment.host), table.get("port", Environment.port)
            if place in places:
                yield Mistake(f"{name}.port", f"{places[place]} has {place[0]}:{place[1]} already; choose another")
            places[place] = name


def _construct(name: str, table: Mapping[str, Any]) -> Environment:
    simple: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
        if key in Environment.__dataclass_fields__ and key not in ("gates", "service")
    }
    gates = tuple(
        Gate(gate["metric"], rule, float(gate[rule]))
        for gate in table.get("gates", ())
        for rule in ("at_most", "at_least")
        if rule in gate
    )
    service = {key: table[key] for key in (*SERVICE, *ELSE) if key in table}
    return Environment(name, **simple, gates=gates, service=service, given=frozenset(table))
