"""The verbs and their order in `perron --help`, grouped by the ten components."""

from typing import Annotated

import typer

from perron.cli import (
    alerts,
    canvas,
    check,
    client,
    contract,
    dashboard,
    data,
    demo,
    deploy,
    drift,
    forget,
    init,
    label,
    log,
    models,
    monitor,
    outcome,
    predict,
    profile,
    promote,
    register,
    run,
    runs,
    schedule,
    serve,
    shared,
    ship,
    token,
    trace,
    tune,
)

__all__ = ["app"]


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


def _version(wanted: bool) -> None:
    if wanted:
        from perron import __version__

        print(f"perron {__version__}")
        raise typer.Exit


@app.callback()
def _perron(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Declare a machine learning system once; everything else is derived from it and stays in step."""


app.command("demo", rich_help_panel="Begin")(demo.demo)
app.command("init", rich_help_panel="Begin")(init.init)
app.add_typer(canvas.app, name="canvas", rich_help_panel="Begin")
app.command("profile", rich_help_panel="Data, training, pipeline")(profile.profile)
app.command("drift", rich_help_panel="Data, training, pipeline")(drift.drift)
app.command("check", rich_help_panel="Data, training, pipeline")(check.check)
app.add_typer(data.app, name="data", rich_help_panel="Data, training, pipeline")
app.add_typer(label.app, name="label", rich_help_panel="Data, training, pipeline")
app.command("run", rich_help_panel="Data, training, pipeline")(run.run)
app.command("runs", rich_help_panel="Data, training, pipeline")(runs.runs)
app.command("models", rich_help_panel="Data, training, pipeline")(models.models)
app.command("promote", rich_help_panel="Data, training, pipeline")(promote.promote)
app.command("register", rich_help_panel="API and serving")(register.register)
app.command("serve", rich_help_panel="API and serving")(serve.serve)
app.add_typer(deploy.app, name="deploy", rich_help_panel="API and serving")
app.command("predict", rich_help_panel="API and serving")(predict.predict)
app.command("schedule", rich_help_panel="API and serving")(schedule.schedule)
app.add_typer(token.app, name="token", rich_help_panel="API and serving")
app.add_typer(tune.app, name="tune", rich_help_panel="API and serving")
app.add_typer(contract.app, name="contract", rich_help_panel="API and serving")
app.command("client", rich_help_panel="API and serving")(client.client)
app.command("monitor", rich_help_panel="Watch")(monitor.monitor)
app.command("dashboard", rich_help_panel="Watch")(dashboard.dashboard)
app.add_typer(alerts.app, name="alerts", rich_help_panel="Watch")
app.add_typer(ship.app, name="ship", rich_help_panel="Watch")
app.command("trace", rich_help_panel="Memory")(trace.trace)
app.command("forget", rich_help_panel="Memory")(forget.forget)
app.add_typer(log.app, name="log", rich_help_panel="Memory")
app.command("outcome", rich_help_panel="Memory")(outcome.outcome)
