"""`perron init`: a table in, a project out."""

from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["init"]


def init(
    name: Annotated[
        str | None,
        typer.Argument(
            help="The system's name and the new folder: lower-case letters, digits, hyphens; . is this folder."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="The table to begin from: a file, a folder or a URL.", metavar="SOURCE")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="The column to predict.", metavar="COLUMN")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="regression or classification: what whole numbers are. [default: what the values say]"),
    ] = None,
    ci: Annotated[str | None, typer.Option(help="Whose CI it is for: github or none. [default: github]")] = None,
    branching: Annotated[
        str | None, typer.Option(help="git-flow (work on develop, release on main) or trunk. [default: git-flow]")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="apache-2.0, mit, proprietary or none. [default: none]")] = None,
    bare: Annotated[
        bool,
        typer.Option("--bare", help="Only what runs: no tests, pages, hooks and CI."),
    ] = False,
    git: Annotated[
        bool, typer.Option(help="Begin a git repository with a first commit, unless the folder is in one.")
    ] = True,
    query: shared.Query = None,
    option: shared.Options = None,
    as_json: shared.Json = False,
) -> None:
    """Begin a project from a table: a contract inferred from the data, and a system that runs as it is.

    Asks for what isn't given, where there is a terminal to ask on.
    """
    from perron.cli import questions
    from perron.start import begin_project

    shared.resume_collection()
    given = questions.Given(
        name=name, source=source, target=target, task=task, ci=ci, branching=branching, licence=licence, is_bare=bare,
        query=query, options=option or (),
    )  # fmt: skip
    draft = questions.asked(given) if not as_json and questions.can_ask(given) else questions.told(given)
    made = begin_project(draft, "outside" if git else "never")
    if as_json:
        shared.print_json(made.to_json())
        return
    print(f"{made.folder}/ predicts {draft.target} from {made.fields} fields, inferred from {made.rows:,} rows.")
    for field, reason in made.reasons.items():
        print(f"  {field}: {reason}")
    if made.git == "not installed":
        print("git isn't installed, so there is no repository; install it, then: git init && git add -A && git commit")
    if made.git == "inside another":
        print("It lies in a git repository already, so none was begun; commit it there.")
    if made.git == "failed":
        print(f"git made no first commit ({made.git_fault}); the files are all there: git add -A && git commit")
    next_step = "perron run" if bare else "make test   (or first: perron run)"
    print(f"Next: {next_step}" if name == "." else f"Next: cd {made.folder} && {next_step}")
