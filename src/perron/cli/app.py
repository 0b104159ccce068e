"""The verbs and their order in `perron --help`, grouped by the ten components; the one that is asked for is loaded alone."""

import importlib
from collections.abc import Sequence
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["VERBS", "command_line"]

# Each is a module of this package, with a Typer `app` of its own or a function of the verb's name.
VERBS = {
    "Begin": ("demo", "init", "sync", "canvas"),
    "Data, training, pipeline": (
        "profile", "drift", "check", "data", "label", "run", "runs", "models", "promote", "package",
    ),
    "API and serving": (
        "register", "serve", "deploy", "status", "rollback", "predict", "schedule", "token", "tune", "contract", "client",
    ),
    "Watch": ("monitor", "dashboard", "alerts", "ship"),
    "CI": ("ci",),
    "Memory": ("trace", "forget", "log", "outcome"),
}  # fmt: skip


def command_line(arguments: Sequence[str] = ()) -> typer.Typer:
    """The `perron` command: with the verb that the arguments begin with, or with all of them where they begin otherwise.

    To load thirty verbs that nobody asked for took 40 ms of each call.
    """
    app = typer.Typer(
        name="perron",
        cls=shared.Grouped,
        help="Declare a machine learning system once; everything else is derived from it and stays in step.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_perron)
    known = {verb for verbs in VERBS.values() for verb in verbs}
    wanted = known & set(arguments[:1]) or known
    for panel, verbs in VERBS.items():
        for verb in verbs:
            if verb not in wanted:
                continue
            module = importlib.import_module(f"perron.cli.{verb}")
            if hasattr(module, "app"):
                app.add_typer(module.app, name=verb, rich_help_panel=panel)
            else:
                app.command(verb, rich_help_panel=panel)(getattr(module, verb))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from perron import __version__

        print(f"perron {__version__}")
        raise typer.Exit


def _perron(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Declare a machine learning system once; everything else is derived from it and stays in step."""
