"""`perron alerts`: what is an alert, where it is told, and which are open."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import MISTAKE, shared

if TYPE_CHECKING:
    from perron.alerts.events import Event

__all__ = ["app", "check", "init", "show", "test"]

app = typer.Typer(help="Alerts: their rules and channels (alerts.toml), and which are open.", no_args_is_help=True)


@app.command()
def init(
    force: Annotated[bool, typer.Option("--force", help="Replace the alerts.toml that is there.")] = False,
    folder: shared.Folder = Path(),
) -> None:
    """Write alerts.toml with the rules that are derived from the system, to be edited."""
    from perron.alerts.settings import FILE, alerts_file, default_settings
    from perron.canvas import read_canvas
    from perron.errors import DeclarationError

    project, system = shared.open_system(folder)
    path = project.folder / FILE
    if path.exists() and not force:
        raise DeclarationError(f"{path} is there already; edit it, or replace it with --force.")
    canvas = read_canvas(project.folder)
    settings = default_settings(system, canvas.gates if canvas is not None else ())
    shared.write_file(path, alerts_file(settings, system))
    print(f"{FILE} holds {len(settings.rules)} rules, told on standard output; `perron alerts check` checks it.")


@app.command()
def check(folder: shared.Folder = Path(), as_json: shared.Json = False) -> None:
    """Check alerts.toml: name every mistake with its line or key. Exit code 1 when there are any."""
    from perron.alerts.channels import missing_names
    from perron.alerts.settings import FILE, find_mistakes, read_settings

    project, system = shared.open_system(folder)
    path = project.folder / FILE
    mistakes = find_mistakes(path) if path.exists() else []
    settings = None if mistakes else read_settings(project.folder, system)
    channels = settings.channels.values() if settings is not None else ()
    missing = {one.name: names for one in channels if (names := missing_names(one))}
    rules = [rule.name for rule in settings.rules] if settings is not None else []
    if as_json:
        shared.print_json(
            {"file": FILE if path.exists() else None, "mistakes": mistakes, "rules": rules,
             "channels": [{"name": one.name, "kind": one.kind, "missing": missing.get(one.name, [])} for one in channels]}
        )  # fmt: skip
    else:
        for mistake in mistakes:
            shared.error_line(f"{FILE}: {mistake}")
        for name, names in missing.items():
            shared.error_line(f"{FILE}: channel {name} needs {', '.join(names)} in the environment, not set here")
        if not mistakes:
            place = FILE if path.exists() else f"No {FILE}: derived from the system"
            print(
                f"{place}: {len(rules)} rule{'s' * (len(rules) > 1)}; told by {', '.join(one.name for one in channels)}."
            )
    if mistakes:
        raise typer.Exit(MISTAKE)


@app.command()
def test(
    channel: Annotated[str, typer.Argument(help="The channel's name in alerts.toml.")],
    folder: shared.Folder = Path(),
) -> None:
    """Send a message by a channel that says that nothing has happened."""
    from datetime import UTC, datetime

    from perron.alerts import read_settings, sample_event
    from perron.alerts.channels import demand_channel, send

    project, system = shared.open_system(folder)
    settings = demand_channel(read_settings(project.folder, system).channels, channel)
    send(settings, sample_event(system.name, datetime.now(UTC)), project.folder)
    print(f"{channel} took it.")


@app.command("list")
def show(
    history: Annotated[bool, typer.Option("--history", help="Every event that is remembered, newest first.")] = False,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """List the open alerts: what, since when, what was done; or what happened before."""
    from dataclasses import asdict

    from perron.alerts import Alerts, Settings

    alerts = Alerts(shared.project_folder(folder) / ".perron", Settings({}, ()))  # reading needs no rules
    if history:
        events = alerts.history()
        if as_json:
            shared.print_json([event.to_json() for event in events])
            return
        shared.print_table(
            ["time", "status", "what", "detail"], [[e.time, e.status, _what(e), e.detail] for e in events]
        )
        return
    found = alerts.open_alerts()
    if as_json:
        shared.print_json(
            {"alerts": [asdict(one) for one in found], "untold": [asdict(one) for one in alerts.untold()]}
        )
        return
    if not found:
        print("No alert is open.")
    else:
        shared.print_table(
            ["severity", "what", "raised", "detail", "done"],
            [[a.last.severity, _what(a.last), a.raised, a.last.detail, a.outcome or (a.acted and f"begun {a.acted}")] for a in found],
        )  # fmt: skip
    if untold := alerts.untold():
        names = ", ".join(sorted({one.channel for one in untold}))
        words = "1 message waits" if len(untold) == 1 else f"{len(untold)} messages wait"
        print(f"\n{words} for {names}, until the next look.")


def _what(event: "Event") -> str:
    return f"{event.kind.replace('_', ' ')} of {event.subject}, {event.model} {event.version}"
