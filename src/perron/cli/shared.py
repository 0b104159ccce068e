"""What several verbs share: their common options, the project that they work in, and how they print."""

import gc
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from perron.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from perron.bundle import Bundle
    from perron.deployments import ProjectMemory
    from perron.plan import Plan, TokenPlan
    from perron.project import Project
    from perron.serve.alone import Alone
    from perron.source import Description
    from perron.system import System

__all__ = [
    "Grouped",
    "alone_of",
    "bundle_of",
    "demand_known",
    "described",
    "error_line",
    "memory_of",
    "open_or_begin_project",
    "open_project",
    "open_system",
    "print_json",
    "print_table",
    "project_folder",
    "refuse_beside",
    "refuse_without",
    "resume_collection",
    "serving_words",
    "show",
    "the_model",
    "webhook_secret",
    "whole_numbers",
    "write_file",
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Folder = Annotated[
    Path, typer.Option("--project", "-C", help="The project's folder, or one below it.", metavar="FOLDER")
]
Query = Annotated[
    str | None, typer.Option("--query", help="What to ask the database that SOURCE is the URL of.", metavar="SELECT")
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option", "-O", help="How to read it, such as encoding=cp1252; may be repeated.", metavar="NAME=VALUE"
    ),
]
SYSTEM_FILE, PROJECT_FOLDER = "system.py", ".perron"


class Grouped(TyperGroup):
    """Lists the verbs by their group, each with its whole first sentence.

    Plain text on purpose: the boxes of rich take longer to load than everything else that help needs.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            assert command is not None
            first, _, _ = (command.help or "").partition("\n\n")
            groups.setdefault(_title(command), []).append((name, " ".join(first.split())))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def _title(command: Any) -> str:
    panel = getattr(command, "rich_help_panel", None)
    return panel if isinstance(panel, str) else "Commands"


def project_folder(start: Path) -> Path:
    """The nearest folder at or above `start` that holds a system.py, or a project's `.perron`.

    Raises:
        DeclarationError: there is none.
    """
    start = start.resolve()
    for folder in (start, *start.parents):
        if (folder / SYSTEM_FILE).is_file() or (folder / PROJECT_FOLDER / "ledger.db").is_file():
            return folder
    raise DeclarationError(
        f"There is no {SYSTEM_FILE} in {start} or above it; run this in a project's folder, or make one with `perron init`."
    )


def described(source: str, query: str | None = None, options: "Sequence[str] | None" = None) -> "Description":
    """The source that the words of a command line describe.

    Raises:
        SourceError: Perron can't read its kind.
        DeclarationError: an option that this kind doesn't have, or that makes no sense.
    """
    import inspect

    from perron.errors import nearest
    from perron.source import CONSTRUCTORS, describe, hide, sql

    given: dict[str, Any] = {}
    for option in options or ():
        name, mark, text = option.partition("=")
        if not mark:
            raise DeclarationError(f"The option {option!r} has no value; write it as name=value.")
        given[name] = _value(name, text)
    kind = given.pop("kind", None)
    if kind is not None and kind not in CONSTRUCTORS:
        raise DeclarationError(f"There is no kind {kind!r} of source; {nearest(kind, CONSTRUCTORS)}")
    found = sql(source, query) if query is not None else CONSTRUCTORS[kind](source) if kind else describe(source)
    if not given:
        return found
    make = CONSTRUCTORS[found.kind]
    known = [name for name in list(inspect.signature(make).parameters)[1:] if name != "query"]
    for name in given:
        if name not in known:
            hint = nearest(name, known) if known else "it takes none"
            raise DeclarationError(f"There is no option {name!r} for {hide(source)}; {hint}")
    return make(source, **given)


def _value(name: str, text: str) -> Any:
    if name == "header":
        return {"yes": True, "no": False}.get(text, text.split(","))
    if name == "sheet" and text.isdigit():
        return int(text)
    return text.replace("\\t", "\t") if name == "delimiter" else text


def open_project(start: Path) -> "Project":
    """The project around a folder, without loading its system."""
    from perron.project import Project

    resume_collection()
    return Project.open(project_folder(start))


def open_or_begin_project(start: Path) -> "Project":
    """The project around a folder, or a new one in it: what is registered needs no system."""
    from perron.project import Project

    try:
        return open_project(start)
    except DeclarationError:
        return Project.open(start.resolve())


def resume_collection() -> None:
    """Lets Python collect garbage again, after the imports, which leave none."""
    gc.freeze()
    gc.enable()


def open_system(start: Path) -> "tuple[Project, System]":
    """The project around a folder and the system that it declares."""
    from perron.system import load_system

    project = open_project(start)
    return project, load_system(project.folder / SYSTEM_FILE)


def the_model(project: "Project", model: str | None) -> str:
    """The model's name: the one given, or the only one that the ledger has.

    Raises:
        NotFound: there is none yet, or there are several and none was named.
    """
    from perron.errors import NotFound

    names: list[str] = sorted({version["model"] for version in project.ledger.list_versions()})
    if model is not None:
        return model
    if len(names) != 1:
        raise NotFound(
            f"Name one of the models {', '.join(names)} with --model."
            if names
            else "There is no model yet; `perron run` makes one."
        )
    return names[0]


def bundle_of(start: Path, model: str | None, version: str) -> "tuple[Project, Bundle]":
    """The project around a folder, and the bundle of one of its versions.

    Raises:
        NotFound: there is no such version, or no such model.
        BundleError: it is damaged.
    """
    from perron.bundle import load

    project = open_project(start)
    row = project.ledger.get_version(the_model(project, model), version)
    return project, load(project.ledger.bundle_path(row), row["bundle"])


def whole_numbers(option: str, text: str, most: int) -> list[int]:
    """The numbers of an option such as 1,32,256: each from 1 to the most, in the order given.

    Raises:
        PerronError: it is something else.
    """
    from perron.errors import PerronError

    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and len(word) < 10 and 1 <= int(word) <= most for word in words):
        raise PerronError(
            f"--{option} takes numbers from 1 to {most}, parted by commas, such as 1,32; got {text[:80]!r}."
        )
    return [int(word) for word in words]


def memory_of(
    folder: Path,
    models: "Sequence[str] | None",
    reference: str,
    log_to: "Sequence[str] | None" = None,
    is_pinned: bool = False,
) -> "ProjectMemory":
    """What a server of the project follows and remembers in: the models named, or all, that of `system.py` first.

    Raises:
        NotFound: there is no model yet, or none of that name.
        LedgerError: the log can't be sent to such a place.
    """
    from perron.deployments import ProjectMemory, models_of

    project = open_project(folder)
    shipper = None
    if log_to:
        from perron.predictions.ship import Shipper

        shipper = Shipper(project.predictions, log_to)
    return ProjectMemory(project, models_of(project.ledger, models or ()), reference, shipper, is_pinned)


def alone_of(
    bundle: Path, version: str, log: Path, tokens: Path | None, log_to: "Sequence[str] | None" = None
) -> "Alone":
    """What a server of a bundle alone answers with and remembers: the version's number, and tokens where there are any.

    Raises:
        BundleError: the folder isn't a bundle, or is damaged.
        PerronError: the version isn't a number, or the tokens can't be read.
        LedgerError: the log can't be sent to such a place.
    """
    from perron.bundle import load
    from perron.errors import PerronError
    from perron.serve.alone import Alone

    resume_collection()
    if version != "champion" and not (version.isascii() and version.isdigit() and len(version) < 10):
        raise PerronError(f"With --bundle, the version is the number that answers call it, such as 3; got {version!r}.")
    shipper = None
    if log_to:
        from perron.predictions.ship import Shipper

        shipper = Shipper(log, log_to)
    opened = load(bundle)
    number = 1 if version == "champion" else int(version)
    return Alone(opened.name, opened.path, opened.digest, log, number, _tokens_of(tokens), shipper)


def _tokens_of(file: Path | None) -> "Callable[[], tuple[TokenPlan, ...]] | None":
    """Reads the tokens of the file, each time anew so that a changed one holds at once, else PERRON_TOKENS's; None: of neither."""
    from perron.errors import DataError
    from perron.tokens import parse_tokens

    if file is None:
        given = os.environ.get("PERRON_TOKENS")
        if not given:
            return None
        fixed = parse_tokens(given, "PERRON_TOKENS")
        return lambda: fixed
    kept: list[tuple[bytes, tuple[TokenPlan, ...]]] = []

    def read() -> "tuple[TokenPlan, ...]":
        try:
            text = file.read_bytes()
        except OSError as error:
            raise DataError(f"The tokens {file} can't be read: {error.strerror}.") from error
        if not kept or kept[0][0] != text:
            kept[:] = [(text, parse_tokens(text, str(file)))]
        return kept[0][1]

    return read


def refuse_beside(context: typer.Context, option: str, others: "Sequence[str]") -> None:
    """Nothing, unless an option was given beside which others make no sense.

    Raises:
        PerronError: one of the others was given, too.
    """
    for name in others:
        if _is_given(context, name):
            raise _unfit(context, name, f"makes no sense with --{option}; leave one of them out.")


def refuse_without(context: typer.Context, option: str, others: "Sequence[str]") -> None:
    """Nothing, unless others were given that make sense only with an option.

    Raises:
        PerronError: one of the others was given.
    """
    for name in others:
        if _is_given(context, name):
            raise _unfit(context, name, f"makes sense only with --{option}.")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _unfit(context: typer.Context, name: str, words: str) -> Exception:
    from perron.errors import PerronError

    shown = next((max(param.opts, key=len) for param in context.command.params if param.name == name), name)
    return PerronError(f"{shown} {words}")


def webhook_secret(file: Path | None) -> bytes | None:
    """What callbacks are signed with: the file's text, else PERRON_WEBHOOK_SECRET's, else nothing.

    Raises:
        PerronError: the file can't be read, or the secret is too short to be one.
    """
    from perron.errors import PerronError

    try:
        given = os.environb.get(b"PERRON_WEBHOOK_SECRET") if file is None else file.read_bytes()
    except OSError as error:
        raise PerronError(f"The secret {file} can't be read: {error.strerror}.") from error
    if given is not None and len(given.strip()) < 16:
        raise PerronError("The secret that signs callbacks needs 16 characters; `openssl rand -hex 32` makes one.")
    return given.strip() if given is not None else None


def serving_words(plan: "Plan", place: str, workers: int = 1, grpc_place: str | None = None) -> str:
    """The first lines of a server: what answers, and each address."""
    parts = [f"{model.name} version {model.routing.arms[0].version}" for model in plan.models if model.routing.arms]
    by = f" by {workers} workers" if workers > 1 else ""
    also = f"\nOver gRPC (Open Inference Protocol) at {grpc_place}." if grpc_place else ""
    return f"{', '.join(parts)} answers at {place}{by} (its page: {place}/docs). Ctrl-C stops it.{also}"


def demand_known(option: str, value: str, known: "Sequence[str]") -> None:
    """Nothing, when an option has one of the known values.

    Raises:
        PerronError: it has another.
    """
    from perron.errors import PerronError, nearest

    if value not in known:
        raise PerronError(f"--{option.replace('_', '-')} is {value!r}; {nearest(value, known)}")


def print_json(value: Any) -> None:
    """The value as indented JSON on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_table(heads: "Sequence[str]", rows: "Sequence[Sequence[object]]") -> None:
    """An aligned table on standard output: numbers to the right, nothing cut."""
    texts = [[show(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[place]) for row in texts)]) for place, head in enumerate(heads)]
    right = [
        bool(rows) and all(isinstance(row[place], int | float | type(None)) for row in rows)
        for place in range(len(heads))
    ]

    def line(cells: "Sequence[str]") -> str:
        return "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ).rstrip()

    print(line(list(heads)))
    print(line(["─" * width for width in widths]))
    for row in texts:
        print(line(row))


def show(value: object) -> str:
    """A value as people read it: large numbers with separators, small ones with four digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_file(path: Path, text: str) -> None:
    """Writes a file that an option named, whole or not at all.

    Raises:
        SourceError: it can't be written.
    """
    from perron.errors import SourceError
    from perron.store import write_atomically

    try:
        write_atomically(path, text)
    except OSError as error:
        raise SourceError(f"Can't write {path}: {error.strerror}.") from error


def error_line(text: str) -> None:
    print(text, file=sys.stderr)
