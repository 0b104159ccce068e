"""What `perron init` was given in; a project's draft out: asked for on a terminal, or by what was given alone."""

import re
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import typer

from perron.cli import INTERRUPTED, MISTAKE, shared
from perron.errors import DeclarationError, PerronError, nearest
from perron.organisation import BRANCHINGS, CIS, LICENCES, Organisation
from perron.start import Draft, demand_new, draft_project, identity

if TYPE_CHECKING:
    from perron.source import Description

__all__ = ["Given", "asked", "can_ask", "told"]

T = TypeVar("T")
TASKS = ("regression", "classification")
MOST_LISTED = 40  # columns to choose the target from


@dataclass(frozen=True)
class Given:
    """What the command line says; None is what it doesn't say."""

    name: str | None
    source: str | None
    target: str | None
    task: str | None
    ci: str | None
    branching: str | None
    licence: str | None
    is_bare: bool
    query: str | None
    options: Sequence[str]


def can_ask(given: Given) -> bool:
    """Whether something is missing that has no default, and there is a terminal to ask on."""
    return None in (given.name, given.source, given.target) and sys.stdin.isatty() and sys.stdout.isatty()


def told(given: Given) -> Draft:
    """The draft by what was given.

    Raises:
        PerronError: something is missing, or makes no sense.
    """
    for value, words in (
        (given.name, "a name: perron init NAME"), (given.source, "the table: --from SOURCE"),
        (given.target, "the column to predict: --target COLUMN"),
    ):  # fmt: skip
        if value is None:
            raise DeclarationError(f"Give {words} (it is asked for on a terminal alone).")
    assert given.name is not None and given.source is not None and given.target is not None
    _check(given)
    described = shared.described(given.source, given.query, given.options)
    return draft_project(
        Path(given.name), described, given.target, task=cast(Any, given.task), organisation=_organisation(given)
    )


def _check(given: Given) -> None:
    """Nothing, when the words that choose are known ones, and none of them is for nothing."""
    for option, value, known in (
        ("task", given.task, TASKS), ("ci", given.ci, CIS), ("branching", given.branching, BRANCHINGS),
        ("licence", given.licence, LICENCES),
    ):  # fmt: skip
        if value is not None:
            shared.demand_known(option, value, known)
        if value is not None and given.is_bare and option in ("ci", "licence"):
            raise DeclarationError(
                f"--{option} is of a whole project, and --bare makes none of its files; leave one out."
            )
        if value is not None and given.is_bare and option == "branching" and value != "trunk":
            raise DeclarationError("A bare project has one branch; leave --branching out, or --bare.")


def _organisation(given: Given) -> Organisation | None:
    if given.is_bare:
        return None
    holder, address = identity()
    chosen = {"ci": given.ci, "branching": given.branching, "licence": given.licence}
    return Organisation(
        holder=_printable(holder), owner=_printable(address) if "@" in address and " " not in address else "",
        year=datetime.now().astimezone().year, **{key: value for key, value in chosen.items() if value is not None},
    )  # fmt: skip


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())


# ------------------------------------------------------------------ asking


def asked(given: Given) -> Draft:
    """The draft by what was given and what a person answers; each answer is judged at once, and asked for again.

    Raises:
        PerronError: what was given makes no sense.
        typer.Exit: the person stopped it (130), or the input ended (1); nothing is written then.
    """
    try:
        return _asked(given)
    except KeyboardInterrupt:
        shared.error_line("\nperron: Interrupted; nothing was written.")
        raise typer.Exit(INTERRUPTED) from None
    except EOFError:
        shared.error_line("\nperron: The input ended; nothing was written.")
        raise typer.Exit(MISTAKE) from None


def _asked(given: Given) -> Draft:
    _check(given)
    if given.name is not None:
        demand_new(Path(given.name))
    described, names = _source(given)
    target = _target(given, names)
    given = replace(given, target=target)
    if given.name is None:
        given = replace(given, name=_ask("Name of the system and its folder", _name_of(described.name), _new_name))
    if not given.is_bare:
        usual = Organisation()
        given = replace(
            given,
            ci=given.ci or _choose("CI", CIS, usual.ci),
            branching=given.branching or _choose("Branches", BRANCHINGS, usual.branching),
            licence=given.licence or _choose("Licence", LICENCES, usual.licence),
        )
    draft = _draft(given, described, names)
    _show(draft)
    if _choose("Write it?", ("yes", "no"), "yes") == "no":
        shared.error_line("perron: Nothing was written.")
        raise typer.Exit(MISTAKE)
    return draft


def _draft(given: Given, described: "Description", names: Sequence[str]) -> Draft:
    """The draft; a target that nothing can be learnt of is asked for again, unless it was given."""
    while True:
        assert given.name is not None and given.target is not None
        try:
            print("Reading the table …")
            return draft_project(
                Path(given.name), described, given.target, task=cast(Any, given.task), organisation=_organisation(given)
            )
        except PerronError as error:
            print(f"  {error}")
            given = replace(given, target=_ask("Column to predict", names[-1], lambda text: _column(text, names)))


def _source(given: Given) -> "tuple[Description, list[str]]":
    from perron.source import open_source

    def opened(text: str) -> "tuple[Description, list[str]]":
        found = shared.described(text, given.query, given.options)
        return found, open_source(found).names

    return opened(given.source) if given.source is not None else _ask("Table (a file, a folder or a URL)", None, opened)


def _target(given: Given, names: Sequence[str]) -> str:
    if given.target is not None:
        return _column(given.target, names)
    for place, name in enumerate(names[:MOST_LISTED], 1):
        print(f"  {place:>2}  {_printable(name)}")
    if len(names) > MOST_LISTED:
        print(f"  … and {len(names) - MOST_LISTED:,} more")
    return _ask("Column to predict (its name or number)", names[-1], lambda text: _column(text, names))


def _column(text: str, names: Sequence[str]) -> str:
    if text in names:
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= len(names):
        return names[int(text) - 1]
    raise DeclarationError(f"There is no column {text!r}; {nearest(text, names)}")


def _name_of(source: str) -> str:
    """A system's name after a table's."""
    made = re.sub(r"[^a-z0-9]+", "-", Path(source).name.partition(".")[0].lower()).strip("-")
    return made[:63] if made[:1].isalnum() else "system"


def _new_name(text: str) -> str:
    demand_new(Path(text))
    return text


def _choose(title: str, known: Sequence[str], default: str) -> str:
    return _ask(f"{title} ({', '.join(known)})", default, lambda text: _one_of(text, known))


def _one_of(text: str, known: Sequence[str]) -> str:
    """The known word that is meant; the first letters do."""
    fitting = [word for word in known if word.startswith(text.lower())]
    if len(fitting) == 1 or text.lower() in known:
        return text.lower() if text.lower() in known else fitting[0]
    raise DeclarationError(f"Answer one of {', '.join(known)}, not {text!r}.")


def _ask(words: str, default: str | None, judge: Callable[[str], T]) -> T:
    """What an answer comes to; the default, in brackets, for an empty one. A wrong answer is explained, and asked for again."""
    shown = f" [{_printable(default)}]" if default is not None else ""
    while True:
        text = _line(f"{words}{shown}: ").strip() or (default or "")
        if not text:
            continue
        try:
            return judge(text)
        except PerronError as error:
            print(f"  {error}")


def _line(prompt: str) -> str:
    """A line of the terminal's.

    `input` sleeps through a Ctrl-C that falls between the prompt and the reading: the signal is noted, and the read begins
    all the same, until Enter. Here the signal wakes what is waited in, however early it comes.

    Raises:
        EOFError: the input ended.
    """
    print(prompt, end="", flush=True)
    woken, wakes = socket.socketpair()
    with woken, wakes:
        wakes.setblocking(False)
        before = signal.set_wakeup_fd(wakes.fileno())
        try:
            while sys.stdin not in select.select([sys.stdin, woken], [], [])[0]:
                woken.recv(64)  # a signal that ends nothing; Ctrl-C's has raised by now
        finally:
            signal.set_wakeup_fd(before)
    text = sys.stdin.readline()
    if not text:
        raise EOFError
    return text


def _show(draft: Draft) -> None:
    """The inferred contract in short."""
    schema = draft.proposal.schema
    print(f"\n{schema.name}, inferred from {draft.proposal.rows:,} rows; {draft.system.task}:")
    for field in schema.fields[:MOST_LISTED]:
        words = ", ".join(_printable(str(value)) for value in field.values[:4]) + (
            ", …" if len(field.values) > 4 else ""
        )
        kind = f"one of {words}" if field.kind == "category" else field.kind
        notes = [role.value for role in field.roles] + (["may be missing"] if field.optional else [])
        reason = draft.proposal.reasons.get(field.name)
        print(f"  {field.name}: {kind}{''.join(f', {note}' for note in notes)}{f'  ({reason})' if reason else ''}")
    if len(schema.fields) > MOST_LISTED:
        print(f"  … and {len(schema.fields) - MOST_LISTED:,} more")
    print()
