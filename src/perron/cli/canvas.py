"""`perron canvas …`: the use case as one file that people and the tool read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import MISTAKE, shared

if TYPE_CHECKING:
    from perron.project import Project
    from perron.system import System

__all__ = ["app", "check", "new", "render"]

app = typer.Typer(
    help="The use case as one file, canvas.toml: new, check, render.",
    cls=shared.Grouped,
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def new(
    force: Annotated[bool, typer.Option("--force", help="Replace the canvas.toml that is there.")] = False,
    folder: shared.Folder = Path(),
) -> None:
    """Write canvas.toml, filled in with what the system tells, to be edited."""
    from perron.canvas import FILE, canvas_file
    from perron.errors import DeclarationError

    project, system = shared.open_system(folder)
    path = project.folder / FILE
    if path.exists() and not force:
        raise DeclarationError(f"{path} is there already; edit it, or replace it with --force.")
    shared.write_file(path, canvas_file(system))
    print(f"{path} is yours to fill in; `perron canvas check` says what is missing.")


@app.command()
def check(
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Questions that nobody answered yet are counted, and don't fail.")
    ] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Check canvas.toml: what can't be read, what is missing, what contradicts the system. Exit code 1 when there is any."""
    from perron.canvas import FILE, find_faults, parse_canvas, risk_class

    project, system = shared.open_system(folder)
    canvas, faults = parse_canvas(_text(project))
    risk = None if canvas is None else risk_class(canvas)
    if canvas is not None:
        faults = find_faults(canvas, system, _champion_bytes(project, system))
    if as_json:
        shared.print_json(
            {"file": FILE, "faults": [vars(fault) for fault in faults], "gates": [g.name for g in canvas.gates] if canvas else [],
             "limits": canvas.limits if canvas else {}, "ai_act": risk and vars(risk)}
        )  # fmt: skip
    else:
        open_ = sum(fault.kind == "missing" for fault in faults)
        if allow_missing and open_:
            print(
                f"{open_} {'question is' if open_ == 1 else 'questions are'} open yet; `perron canvas check` lists them."
            )
        for fault in faults:
            if allow_missing and fault.kind == "missing":
                continue
            words = (
                f"missing: {fault.key}: {fault.message}"
                if fault.kind == "missing"
                else f"{fault.kind}: {fault.key} {fault.message}"
            )
            shared.error_line(words)
        if canvas is not None and risk is not None:
            gates = ", ".join(gate.name for gate in canvas.gates) or "none"
            print(f"{FILE}: gates: {gates}. EU AI Act: {risk.name}, {'; '.join(risk.reasons)}.")
        if not faults:
            print("It is complete, and as the system is declared.")
    if any(fault.kind != "missing" or not allow_missing for fault in faults):
        raise typer.Exit(MISTAKE)


@app.command()
def render(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file. [default: canvas.html or project-card.md]", metavar="FILE"),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The project card in Markdown instead of the page.")
    ] = False,
    folder: shared.Folder = Path(),
) -> None:
    """Make one printable page of canvas.toml, or the project card in Markdown."""
    from perron.canvas import find_faults, read_canvas
    from perron.pages import canvas as page

    project, system = shared.open_system(folder)
    _text(project)
    canvas = read_canvas(project.folder)
    assert canvas is not None
    if markdown:
        path, text = output or Path("project-card.md"), page.render_card(canvas, system.name)
    else:
        faults = find_faults(canvas, system, _champion_bytes(project, system))
        path, text = output or Path("canvas.html"), page.render(canvas, system.name, faults)
    shared.write_file(path, text)
    print(f"{path} is written.")


def _text(project: "Project") -> str:
    """The text of the project's canvas.

    Raises:
        DeclarationError: there is none, or it can't be read.
    """
    from perron.canvas import FILE, read_text
    from perron.errors import DeclarationError

    path = project.folder / FILE
    if not path.exists():
        raise DeclarationError(f"There is no {path}; `perron canvas new` makes one.")
    return read_text(path)


def _champion_bytes(project: "Project", system: "System") -> int | None:
    """The size of the champion's bundle, or None where there is no champion."""
    from perron.ledger import CHAMPION

    event = project.ledger.get_alias(system.name, CHAMPION)
    if event is None:
        return None
    path = project.ledger.bundle_path(project.ledger.get_version(system.name, event["version"]))
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else None
