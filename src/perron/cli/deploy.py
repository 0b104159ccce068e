"""`perron deploy`: versions brought to environments, and how a model's requests are parted among versions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perron.cli import delivery, shared

if TYPE_CHECKING:
    from perron.rollout import Rollout

__all__ = ["ab", "app", "bandit", "canary", "history", "report", "shadow", "single"]

app = typer.Typer(
    help="Bring versions to environments, and part requests among versions: canary, A/B, shadow, bandit.",
    no_args_is_help=True,
)
for command in (
    delivery.local, delivery.compose, delivery.cloud_run, delivery.kubernetes, delivery.environments, delivery.approve,
    delivery.stop, delivery.resume, delivery.supervise, delivery.unit,
):  # fmt: skip
    app.command()(command)

Version = Annotated[str, typer.Argument(help="The other version: its number or an alias.")]
Model = Annotated[str | None, typer.Option(help="The model, where there are several.")]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the ledger.")]
Errors = Annotated[
    float | None,
    typer.Option(
        help="The share of its requests that may fail before it ends by itself. [default: canvas.toml's, or 0.05]"
    ),
]
Latency = Annotated[
    float | None,
    typer.Option(
        help="What its slowest 5 % may take before it ends by itself. [default: canvas.toml's max_p99_ms, or anything]"
    ),
]


def _limits(folder: Path, max_error_share: float | None, max_latency_ms: float | None) -> dict[str, float | None]:
    """When a version's part in a rollout ends: as given, else by the canvas's budgets."""
    from perron.canvas import read_canvas

    canvas = read_canvas(shared.project_folder(folder))
    budgets = canvas.limits if canvas is not None else {}
    return {
        "max_error_share": budgets.get("max_error_share", 0.05) if max_error_share is None else max_error_share,
        "max_latency_ms": budgets.get("max_p99_ms") if max_latency_ms is None else max_latency_ms,
    }


def _decide(rollout: "Rollout", model: str | None, reason: str | None, folder: Path) -> None:
    from perron.deployments import decide

    project = shared.open_project(folder)
    name = shared.the_model(project, model)
    print(f"{name}: {decide(project, name, rollout, reason)}. Servers follow within half a second.")


@app.command()
def canary(
    version: Version = "challenger",
    share: Annotated[float, typer.Option(help="Of the requests.")] = 0.05,
    key: Annotated[
        str | None, typer.Option(help="A field whose values stay with one version. [default: chance]")
    ] = None,
    max_error_share: Errors = None,
    max_latency_ms: Latency = None,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
) -> None:
    """Give a small share of the requests to another version; it ends by itself when it fails, is slow, or is worse."""
    from perron import rollout

    made = rollout.canary(version, share=share, key=key, **_limits(folder, max_error_share, max_latency_ms))
    _decide(made, model, reason, folder)


@app.command()
def ab(
    key: Annotated[str, typer.Option(help="The field whose values always get the same version.")],
    version: Version = "challenger",
    share: Annotated[float, typer.Option(help="Of the values.")] = 0.5,
    max_error_share: Errors = None,
    max_latency_ms: Latency = None,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
) -> None:
    """Test two versions against each other by key; `perron deploy report` says what the outcomes tell."""
    from perron import rollout

    made = rollout.ab(version, key=key, share=share, **_limits(folder, max_error_share, max_latency_ms))
    _decide(made, model, reason, folder)


@app.command()
def shadow(
    version: Version = "challenger",
    share: Annotated[float, typer.Option(help="Of the requests that are copied.")] = 1.0,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
) -> None:
    """Ask another version too, for the log alone: it never answers, and slows no answer."""
    from perron import rollout

    _decide(rollout.shadow(version, share=share), model, reason, folder)


@app.command()
def bandit(
    version: Version = "challenger",
    within: Annotated[float | None, typer.Option(help="Of numbers: the largest error that is good enough.")] = None,
    max_error_share: Errors = None,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
) -> None:
    """Give more requests to whichever version's outcomes are better, as they come in."""
    from perron import rollout

    most = _limits(folder, max_error_share, None)["max_error_share"]
    _decide(rollout.bandit(version, within=within, max_error_share=most), model, reason, folder)


@app.command()
def single(
    version: Annotated[str | None, typer.Argument(help="A version's number or alias. [default: the champion]")] = None,
    model: Model = None,
    reason: Reason = None,
    folder: shared.Folder = Path(),
) -> None:
    """End a test: the champion alone answers, or one other version."""
    from perron import rollout

    _decide(rollout.single() if version is None else rollout.single(version), model, reason, folder)


@app.command()
def report(model: Model = None, folder: shared.Folder = Path(), as_json: shared.Json = False) -> None:
    """Compare the versions by the outcomes since the decision; one may look as often as one likes."""
    from perron.deployments import report_of

    project = shared.open_project(folder)
    found = report_of(project, shared.the_model(project, model))
    if as_json:
        shared.print_json(found.to_json())
        return
    print(f"{found.model}, since {found.since}; loss: {found.loss}")
    shared.print_table(
        ["route", "version", "predictions", "outcomes", "mean loss", "difference", "95 % at all times", "verdict", "agree"],
        [
            [arm.route, arm.version, arm.predictions, arm.outcomes, arm.mean_loss, *_difference(arm.difference), arm.agreement]
            for arm in found.arms
        ],
    )  # fmt: skip


def _difference(found: Any) -> list[Any]:
    if found is None:
        return [None, "–", "–"]
    return [found.value, f"{shared.show(found.low)} to {shared.show(found.high)}", found.verdict]


@app.command()
def history(
    limit: Annotated[int, typer.Option(help="The most decisions to list.", min=1)] = 20,
    model: Model = None,
    folder: shared.Folder = Path(),
    as_json: shared.Json = False,
) -> None:
    """List the decisions, newest first; the first is in force."""
    from perron.rollout import words_of

    project = shared.open_project(folder)
    rows = project.ledger.list_routings(shared.the_model(project, model), limit)
    if as_json:
        shared.print_json(rows)
        return
    shared.print_table(["time", "routing", "reason"], [[r["time"], words_of(r["routing"]), r["reason"]] for r in rows])
