"""`perron monitor`: what the traffic looks like, and how well the model does."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perron.cli import MISTAKE, shared
from perron.errors import DeclarationError, PerronError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Sequence

    from perron.alerts.channels import ChannelSettings
    from perron.monitor import Look, Monitor
    from perron.project import Project

__all__ = ["monitor", "watching"]

SERVER = "PERRON_MONITORED_SERVER"  # the process whose end is this one's, set by `perron serve --monitor`


def monitor(
    version: Annotated[str, typer.Argument(help="A version's number or an alias.")] = "champion",
    every: Annotated[str, typer.Option(help="How traffic is parted: hour, day or all.")] = "day",
    days: Annotated[
        float | None, typer.Option(help="How far to look back. [default: 90 periods at most]", min=0.0)
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page, for mail and pull requests.", metavar="FILE")
    ] = None,
    mail: Annotated[
        str | None,
        typer.Option("--mail", help="Mail the page by this channel of alerts.toml, once.", metavar="CHANNEL"),
    ] = None,
    fail_on: Annotated[
        str, typer.Option(help="From which severity on the exit code is 1: low, medium, high or never.")
    ] = "high",
    watch: Annotated[
        float | None, typer.Option(help="Look again every so many seconds, until Ctrl-C.", metavar="SECONDS", min=1.0)
    ] = None,
    skew: Annotated[
        bool, typer.Option("--skew", help="Also hold served rows to those of training, by the contract's Id.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the live windows anew from the prediction log first.")
    ] = False,
    alert: Annotated[
        bool | None,
        typer.Option(
            "--alert/--no-alert", help="Raise, tell and act on alerts. [default: where there is an alerts.toml]"
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model, where there are several.")] = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """Look at a model's traffic beside its training: drift, performance, estimates. Exit code 1 on a high finding."""
    shared.demand_known("every", every, ("hour", "day", "all"))
    shared.demand_known("fail_on", fail_on, ("low", "medium", "high", "never"))
    if mail is not None and watch is not None:
        raise DeclarationError("--mail sends one page; with --watch, let alerts tell by mail instead.")
    made = _monitor(folder, model, version)
    channel = None if mail is None else _channel(made, mail)
    if rebuild:
        count = made.rebuild()
        if not as_json:
            print(f"{count:,} windows were made anew from the prediction log.")
    while True:
        try:
            found = made.look(every, days, skew=skew)
            _tell(found, html, as_json)
            if alert or (alert is None and (made.project.folder / "alerts.toml").is_file()):
                _alert(found, made, has_skew=skew)
            if channel is not None:
                _mail(found, channel, made, as_json)
        except PerronError as error:
            if watch is None:
                raise
            shared.error_line(f"perron: {error} Looked at again in {watch:g} s.")
        if watch is None:
            break
        _pause(watch)
        made.project.ledger.close()
        made = _monitor(folder, model, version)  # another version may be champion by now
    ranks = {"low": 0, "medium": 1, "high": 2}
    if fail_on != "never" and found.worst is not None and ranks[found.worst] >= ranks[fail_on]:
        raise typer.Exit(MISTAKE)


def _monitor(folder: Path, model: str | None, version: str) -> "Monitor":
    from perron.monitor import Monitor

    project = shared.open_project(folder)
    return Monitor(project, shared.the_model(project, model), version)


@contextmanager
def watching(every_s: float | None, project: "Project | None", models: "Sequence[str]") -> "Iterator[None]":
    """Has the champions of a server's models that take rows watched meanwhile, each by a process beside it: a look takes no
    request's time. Nothing where `every_s` is None, or there is no project."""
    import subprocess

    begun = [] if every_s is None or project is None else _begin_watching(every_s, project, models)
    try:
        yield
    finally:
        for process in begun:
            process.terminate()
        for process in begun:
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()


def _begin_watching(every_s: float, project: "Project", models: "Sequence[str]") -> "list[subprocess.Popen[bytes]]":
    import os
    import subprocess
    import sys

    from perron.deployments import models_of
    from perron.ledger import CHAMPION

    begun = []
    for name in models_of(project.ledger, models):
        champion = project.ledger.get_version(name, CHAMPION)
        if not (project.ledger.bundle_path(champion) / "contract.json").is_file():
            shared.error_line(f"{name} takes tensors; nothing watches it.")
            continue
        words = f"monitor --watch {every_s} --alert --fail-on never".split()
        begun.append(
            subprocess.Popen(
                [sys.executable, "-m", "perron", *words, "--model", name, "-C", str(project.folder)], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, env={**os.environ, SERVER: str(os.getpid())}, start_new_session=True,
            )
        )  # fmt: skip
    return begun


def _pause(seconds: float) -> None:
    """Waits; ends this process when it watches for a server that is no more."""
    import os
    import time

    server, end = os.environ.get(SERVER), time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if server is not None and os.getppid() != int(server):
            raise typer.Exit
        time.sleep(min(left, 1.0))


def _channel(made: "Monitor", name: str) -> "ChannelSettings":
    from perron.alerts import read_settings
    from perron.alerts.channels import demand_channel
    from perron.system import load_system

    folder = made.project.folder
    return demand_channel(read_settings(folder, load_system(folder / shared.SYSTEM_FILE)).channels, name)


def _mail(found: "Look", channel: "ChannelSettings", made: "Monitor", as_json: bool) -> None:
    from perron.alerts.channels import send_page
    from perron.pages.monitor import render

    title = f"{found.model} version {found.version}: {found.worst or 'nothing'} found"
    lines = [f"{one.severity}: {one.kind.replace('_', ' ')} of {one.subject}, {one.detail}" for one in found.findings]
    send_page(channel, title, "\n".join(lines) or "Nothing to worry about.", render(found), made.project.folder)
    if not as_json:
        print(f"{channel.name} took the page.")


def _alert(found: "Look", made: "Monitor", *, has_skew: bool) -> None:
    import contextlib
    import sys

    from perron.alerts.attend import attend
    from perron.system import load_system

    system = load_system(made.project.folder / shared.SYSTEM_FILE)
    with contextlib.redirect_stdout(sys.stderr):  # what is told on the terminal isn't part of the look
        done = attend(found, system, made.project, has_skew=has_skew)
    for one in done.failures:
        shared.error_line(f"alert not delivered, tried again after the next look: {one.channel}: {one.error}")


def _tell(found: "Look", html: Path | None, as_json: bool) -> None:
    from perron.store import write_atomically

    if html is not None:
        from perron.pages.monitor import render

        write_atomically(html, render(found))
    if as_json:
        shared.print_json(found.to_json())
        return
    measured = found.outcomes.metric(found.metric)
    print(f"{found.model} version {found.version}, {found.at}: {found.rows:,} rows, {found.outcomes.n:,} outcomes")
    if measured is not None:
        print(
            f"{found.metric} {shared.show(measured[0])} ({shared.show(measured[1])} to {shared.show(measured[2])}), on the test rows {shared.show(found.expected)}"
        )
    for start, estimate in found.estimates[-1:]:
        print(
            f"{estimate.metric} {shared.show(estimate.value)} estimated by {estimate.method}, before outcomes, since {start[:10]}"
        )
    for words in () if found.levels is None else found.levels.words:
        print(words)
    rows: list[list[Any]] = [
        [f.severity, f.kind.replace("_", " "), f.subject, (f.since or "–")[:16].replace("T", " "), f.detail]
        for f in found.findings
    ]
    if rows:
        shared.print_table(["severity", "kind", "what", "since", "detail"], rows)
    elif found.rows:
        print("Nothing to worry about.")
    if not found.rows:
        print(
            "No traffic was seen yet; `perron serve` keeps its windows, and --rebuild makes them from the prediction log."
        )
    if html is not None:
        print(f"{html}: {html.stat().st_size / 1e6:.2f} MB")
