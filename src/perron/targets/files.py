"""An order in; files that a tool brings about, the tool's commands, and what the service answers then, out.

The base of the targets `compose`, `kubernetes` and `cloud-run`: each says which files, which commands, and where the
service answers. A version that doesn't become ready is undone: what the ledger has live is applied again, where its files are
still here; what is new in its place is ended; and what others brought about, which no file here tells, is never ended.
"""

import hashlib
import http.client
import json
import shlex
import shutil
import ssl
import subprocess
import time
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.delivery import Actual, Deployment, Order, Tell
from perron.environments import SERVICE, Environment
from perron.errors import DeploymentError
from perron.naming import label_of
from perron.ship.files import MANIFEST, FileStatus, write_files
from perron.ship.service import Schedule, ServiceSpec
from perron.store import write_atomically

__all__ = ["Answered", "FileTarget", "ask_service", "image_of", "observed", "run_tool", "spec_of"]

ASK_S, PAUSE_S = 5.0, 0.5
TOOL_S = 900.0  # a cluster pulls images meanwhile
LAST_LINES = 4


@dataclass(frozen=True)
class Answered:
    """What a service says of itself: whether it is ready, and which version it has (None where it doesn't tell us)."""

    is_ready: bool
    words: str
    version: int | None = None
    bundle: str | None = None


def spec_of(order: Order) -> ServiceSpec:
    """The service that an order asks for: what environments.toml says, else what `ServiceSpec` has by default.

    Raises:
        DeclarationError: something in it can't be.
    """
    environment = order.environment
    given: dict[str, Any] = {key: environment.service[key] for key in SERVICE if key in environment.service}
    given |= {key: getattr(environment, key) for key in ("port", "workers", "memory_mb") if key in environment.given}
    if "log_to" in given:
        given["log_to"] = tuple(given["log_to"])
    if "schedules" in given:
        given["schedules"] = tuple(
            Schedule(one["name"], one["cron"], tuple(one["command"])) for one in given["schedules"]
        )
    told = {"environment": environment.name, "id": order.deployment}
    variables = dict(environment.variables)
    if order.deployment:
        variables["PERRON_DEPLOYMENT"] = json.dumps(told)
    return ServiceSpec(
        label_of(order.model), order.model, order.version, order.bundle, image_of(order), environment.name,
        variables=variables, **given,
    )  # fmt: skip


def image_of(order: Order) -> str:
    """The image's reference: the one that was given, else the environment's repository, or the model's name, with the version as tag."""
    return order.image or f"{order.environment.service.get('image', label_of(order.model))}:{order.version}"


class FileTarget(ABC):
    """A `Target` that is files and a tool.

    Args:
        folder: where the files go; None: `deploy/ENVIRONMENT` of the project.
        force: write over what people changed.
    """

    name: str
    tool: str

    def __init__(self, folder: Path | None = None, *, force: bool = False) -> None:
        self.folder, self.force = folder, force

    # -- what each target says

    @abstractmethod
    def files(self, order: Order) -> dict[str, str]:
        """The files by path.

        Raises:
            DeclarationError: the environment can't be that.
        """

    @abstractmethod
    def commands(self, order: Order) -> list[list[str]]:
        """What brings the files about, run in their folder; each begins with the tool."""

    @abstractmethod
    def ending(self, order: Order) -> list[list[str]]:
        """What ends the service, run in the files' folder."""

    @abstractmethod
    def finding(self, order: Order) -> list[str]:
        """What prints something where the service is there already, and nothing where it isn't; run in the project's folder."""

    @abstractmethod
    def leaving(self, order: Order, found: str | None) -> tuple[list[list[str]], str]:
        """What takes back a version from a service that was there before, though its files aren't here, and a line on it.

        Args:
            order: what failed.
            found: what `finding` printed before; None where it couldn't tell.
        """

    def undoing(self, order: Order) -> list[list[str]]:
        """What brings the files about that were there before."""
        return self.commands(order)

    def refusal(self, order: Order) -> str | None:
        """Why the tool isn't run on the files; None where it may be."""
        return None

    def options(self, order: Order) -> dict[str, Any]:
        """What else a rollback must know to make the same files again."""
        return {}

    def url(self, order: Order) -> str | None:
        """Where the service answers, or None where that isn't known: environments.toml may say it."""
        found: str | None = order.environment.service.get("url")
        return found

    def notes(self, order: Order) -> list[str]:
        """What is said before anything is written or run."""
        return []

    # -- what they share

    def place(self, order: Order) -> Path:
        """The folder of the files: the one that was given, else of the deployment that the order follows, else `deploy/ENV`."""
        if self.folder is not None:
            return self.folder
        return order.folder / str(order.like.get("folder", f"deploy/{order.environment.name}"))

    def write(self, order: Order) -> dict[str, FileStatus]:
        """The status of each file, by its path: see `perron.ship.files`."""
        return write_files(self.place(order), self.files(order), force=self.force)

    def prepare(self, order: Order) -> None:
        """Nothing, when the tool may be run and is there, and no file would have to be left as a person changed it."""
        refusal = self.refusal(order)
        if refusal is not None:
            raise DeploymentError(refusal)
        if shutil.which(self.tool) is None:
            raise DeploymentError(
                f"{self.tool} isn't on the PATH, and --apply runs it; install it, or leave --apply out and apply the files elsewhere."
            )
        statuses = write_files(self.place(order), self.files(order), force=self.force, is_check=True)
        changed = [name for name, status in statuses.items() if status == "changed"]
        if changed:
            raise DeploymentError(
                f"{self.place(order) / changed[0]} was changed by hand, so that it isn't known what it would bring about; "
                "apply it yourself, or write over it with --force."
            )

    def apply(self, order: Order, tell: Tell) -> Mapping[str, Any]:
        """The files' folder, and where the service answers, once it is ready."""
        for words in self.notes(order):
            tell(words)
        folder, files = self.place(order), self.files(order)
        applied = order.live["detail"].get("files", {}) if order.live is not None else {}
        before = {name: _text(folder / name) for name in (*dict.fromkeys((*files, *applied)), MANIFEST)}
        is_known = bool(applied) and all(_digest(before[name]) == digest for name, digest in applied.items())
        found = None if is_known else self._find(order)
        write_files(folder, files, force=self.force)
        tell(f"wrote {len(files)} files into {folder}")
        try:
            for command in self.commands(order):
                tell(shlex.join(command))
                run_tool(command, folder)
            self._demand_ready(order, tell)
        except BaseException as error:
            rest = self._undo(order, folder, before, is_known, found, tell)
            if isinstance(error, DeploymentError) and rest is not None:
                raise DeploymentError(f"{error} {rest}") from error
            raise
        kept = {name: _digest(_text(folder / name)) for name in files}
        return {
            "folder": _relative(folder, order.folder),
            "files": kept,
            "address": self.url(order),
            **self.options(order),
        }

    def _find(self, order: Order) -> str | None:
        """What the tool says of the service that is there already, empty where none is; None where it can't tell."""
        try:
            return run_tool(self.finding(order), order.folder).strip()
        except DeploymentError:
            return None

    def _demand_ready(self, order: Order, tell: Tell) -> None:
        """Nothing, once the service answers with the version that was ordered.

        Raises:
            DeploymentError: it doesn't, within `ready_s`.
        """
        url = self.url(order)
        if url is None:
            tell(
                f"{order.environment.name} has no url in environments.toml, so that nobody asks it whether it is ready"
            )
            return
        tell(f"asking {url} until it is ready")
        end = time.monotonic() + order.environment.ready_s
        while True:
            found = ask_service(url)
            if found.is_ready and found.bundle in (None, order.bundle):
                return
            if time.monotonic() > end:
                words = found.words if not found.is_ready else f"version {found.version} answers yet"
                raise DeploymentError(
                    f"Version {order.version} wasn't ready within {order.environment.ready_s:g} s: {url} {words}."
                )
            time.sleep(PAUSE_S)

    def _undo(
        self,
        order: Order,
        folder: Path,
        before: Mapping[str, str | None],
        is_known: bool,
        found: str | None,
        tell: Tell,
    ) -> str | None:
        """What a person should know of what is there now; None where it is what was there before.

        Args:
            order: what failed.
            folder: of the files.
            before: their texts as they were.
            is_known: whether these are what the ledger's live deployment was made of.
            found: of the service that was there before, as `_find`.
            tell: told what is being done.
        """
        is_new = order.live is None and found == ""
        try:
            if is_new:
                for command in self.ending(order):
                    run_tool(command, folder)
            for name, earlier in before.items():
                if earlier is None:
                    (folder / name).unlink(missing_ok=True)
                else:
                    write_atomically(folder / name, earlier)
            if is_known:
                tell("not ready: bringing back what was there before")
                for command in self.undoing(order):
                    run_tool(command, folder)
            elif not is_new:
                commands, words = self.leaving(order, found)
                for command in commands:
                    tell(shlex.join(command))
                    run_tool(command, order.folder)
                return words
        except (DeploymentError, OSError) as error:
            return f"What was there before can't be brought back, either: {error}"
        return None

    def observing(self, environment: Environment, name: str) -> list[str] | None:
        """What tells, as JSON, of the service in the cluster where nobody knows its address; None: nothing does."""
        return None

    def actual(self, folder: Path, environment: Environment, declared: Deployment | None) -> Actual:
        if declared is None:
            return Actual("stopped")
        url = environment.service.get("url") or declared["detail"].get("address")
        if url is None:
            command = self.observing(environment, label_of(declared["model"]))
            if command is not None and shutil.which(command[0]) is not None:
                try:
                    return observed(json.loads(run_tool(command, folder)))
                except (DeploymentError, ValueError) as error:
                    return Actual("unknown", words=str(error))
            return Actual(
                "unknown", words=f"nobody knows where it answers; give {environment.name}.url in environments.toml"
            )
        found = ask_service(url)
        facts = {"address": url}
        if not found.is_ready:
            return Actual("unhealthy", found.version, found.bundle, f"{url} {found.words}", facts)
        if found.bundle is None:  # it asks for a token: its health is all that we see
            return Actual("serving", declared["version"], declared["bundle"], f"{url} {found.words}", facts)
        return Actual("serving", found.version, found.bundle, "", facts)

    def stop(self, folder: Path, environment: Environment, declared: Deployment | None) -> bool:
        if declared is None:
            return False
        order = Order(
            folder, environment, declared["model"], declared["version"], declared["bundle"], folder, declared["id"], declared["image"],
            declared, declared["detail"],
        )  # fmt: skip
        if not self.place(order).is_dir():
            raise DeploymentError(
                f"The files of {environment.name} aren't in {self.place(order)} any more; end it by hand."
            )
        for command in self.ending(order):
            run_tool(command, self.place(order))
        return True


def observed(service: Mapping[str, Any]) -> Actual:
    """What a Deployment of Kubernetes, an InferenceService, or a service of Cloud Run, that was made of our files tells as JSON."""
    notes = service["spec"].get("template", service)["metadata"].get("annotations", {})  # KServe's are its own
    told = service.get("status", {})
    version, bundle = notes.get("perron/version"), notes.get("perron/bundle", "").removeprefix("sha256:")
    is_ready = any(
        one["type"] in ("Available", "Ready") and one["status"] == "True" for one in told.get("conditions", ())
    )
    number = int(version) if version is not None and version.isdigit() else None
    words = "" if is_ready else "its conditions say that it isn't ready"
    facts = {"replicas": told.get("readyReplicas"), "address": told.get("url")}
    return Actual("serving" if is_ready else "unhealthy", number, bundle or None, words, facts)


def run_tool(command: Sequence[str], folder: Path) -> str:
    """What a command prints.

    Raises:
        DeploymentError: it isn't there, fails, or takes too long; says what it said last.
    """
    words = shlex.join(command)
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=TOOL_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise DeploymentError(f"{command[0]} isn't on the PATH; install it.") from error
    except subprocess.TimeoutExpired as error:
        raise DeploymentError(f"`{words}` wasn't done within {TOOL_S:g} s.") from error
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        said = " / ".join(lines[-LAST_LINES:]) or "(nothing)"
        raise DeploymentError(f"`{words}` ended with {done.returncode}: {said}")
    return done.stdout


def ask_service(url: str) -> Answered:
    """What the service at an address says of its health and its version."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return Answered(False, "is no address; give one such as https://model.example.org")
    try:
        status, _ = _get(parts, "/health/ready")
        if status != 200:
            return Answered(False, f"answers {status} to /health/ready")
        status, body = _get(parts, "/v1/model")
        told = json.loads(body) if status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answered(False, f"doesn't answer: {error or type(error).__name__}")
    if status != 200:
        return Answered(True, f"is ready, and tells its version to nobody without a token ({status})")
    return Answered(True, "is ready", told.get("version"), told.get("bundle"))


def _get(parts: urllib.parse.SplitResult, path: str) -> tuple[int, bytes]:
    assert parts.hostname is not None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=ASK_S, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=ASK_S)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha256(text.encode()).hexdigest()


def _relative(folder: Path, project: Path) -> str:
    """A folder from the project's, where it lies within it, so that another checkout has it, too; else the whole path."""
    whole, top = folder.resolve(), project.resolve()
    return str(whole.relative_to(top) if whole.is_relative_to(top) else whole)


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None
