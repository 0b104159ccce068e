"""`perron serve`: the API."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perron.cli import shared
from perron.cli.monitor import watching
from perron.errors import DeclarationError

if TYPE_CHECKING:
    from perron.plan import Memory, Plan
    from perron.project import Project

__all__ = ["serve"]


# What only a server of a project does; with --bundle it would be for nothing, so it is refused.
OF_PROJECTS = (
    "model", "pinned", "monitor", "batch_queue", "batch_keep_days", "batch_place", "webhook_secret", "private_callbacks", "folder",
)  # fmt: skip


def serve(
    context: typer.Context,
    version: Annotated[
        str, typer.Argument(help="A version's number or an alias; with --bundle, the number that answers call it.")
    ] = "champion",
    bundle: Annotated[
        Path | None, typer.Option(help="Serve this bundle alone, without a project.", metavar="FOLDER")
    ] = None,
    log_folder: Annotated[
        Path | None,
        typer.Option(
            help="With --bundle: where predictions are logged; else in PERRON_LOG_FOLDER, else in a new temporary folder.",
            envvar="PERRON_LOG_FOLDER",
            show_envvar=False,
            metavar="FOLDER",
        ),
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            help="With --bundle: who may ask, as `perron token export` prints it; else PERRON_TOKENS says it.",
            metavar="FILE",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on.", envvar="PERRON_HOST", show_envvar=False)
    ] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            help="The port; 0 for any free one. Else PERRON_PORT says it, AIP_HTTP_PORT, SAGEMAKER_BIND_TO_PORT or PORT.",
            min=0,
            max=65535,
            envvar=["PERRON_PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT", "PORT"],
            show_envvar=False,
        ),
    ] = 8000,
    grpc_port: Annotated[
        int | None,
        typer.Option(help="A port for gRPC besides (Open Inference Protocol); 0 for any free one.", min=0, max=65535),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that answer on the one port.", min=1, max=256)] = 1,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync", help="Answer only what is on the disk itself: survives a power cut, not only the process's death."
        ),
    ] = False,
    max_rows: Annotated[int, typer.Option(help="The most rows of one request.", min=1)] = 10_000,
    max_body_bytes: Annotated[int, typer.Option(help="The most bytes of one request.", min=1)] = 16 << 20,
    queue_rows: Annotated[
        int, typer.Option(help="How many rows may wait; more are refused with 429 and Retry-After.", min=1)
    ] = 20_000,
    cache: Annotated[
        int,
        typer.Option(
            help="How many requests are remembered, so that equal ones are answered without the model.", min=0
        ),
    ] = 0,
    model: Annotated[
        list[str] | None, typer.Option(help="A model to serve, the default first; may be repeated. [default: all]")
    ] = None,
    on_log_failure: Annotated[
        str, typer.Option(help="When the log can't be written: refuse, or answer and say so.")
    ] = "refuse",
    log_to: Annotated[
        list[str] | None,
        typer.Option(
            help="Where the log goes on to: stdout:, s3://…, file:///…, postgresql+psycopg://…",
            envvar="PERRON_LOG_TO",
            show_envvar=False,
            metavar="URL",
        ),
    ] = None,
    drop_sent: Annotated[
        bool,
        typer.Option(
            "--drop-sent", help="Delete complete segments of the log once they were sent on: for disks that are small."
        ),
    ] = False,
    pinned: Annotated[
        bool, typer.Option("--pinned", help="Answer with that version alone, whatever `perron deploy` parts.")
    ] = False,
    no_windows: Annotated[
        bool,
        typer.Option("--no-windows", help="Keep no live windows; `perron monitor --rebuild` makes them of the log."),
    ] = False,
    monitor: Annotated[
        float | None,
        typer.Option(
            help="Look at the traffic every so many seconds, in a process beside, and raise alerts.",
            metavar="SECONDS",
            min=1.0,
        ),
    ] = None,
    clock: Annotated[
        Path | None,
        typer.Option(
            help="For replays: the file with the time that answers and outcomes are stamped with; keeps no live windows.",
            envvar="PERRON_CLOCK",
            show_envvar=False,
            metavar="FILE",
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="An origin whose pages may ask from a browser, or *; may be repeated.")
    ] = None,
    allow_anonymous: Annotated[
        bool,
        typer.Option(
            "--allow-anonymous",
            help="Listen on a public address although nobody is asked for a token; so does PERRON_ALLOW_ANONYMOUS=1.",
            envvar="PERRON_ALLOW_ANONYMOUS",
            show_envvar=False,
        ),
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option(help="The certificate (PEM); https then.", metavar="FILE")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key (PEM).", metavar="FILE")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="Only clients with a certificate of this authority (mutual TLS).", metavar="FILE"),
    ] = None,
    log_format: Annotated[str, typer.Option(help="Of the lines on standard error: text or json.")] = "text",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    access_log: Annotated[
        bool, typer.Option("--access-log", help="A log line for every request, with its id.")
    ] = False,
    traces: Annotated[
        bool, typer.Option("--traces", help="OpenTelemetry spans, to where OTEL_EXPORTER_OTLP_ENDPOINT says.")
    ] = False,
    batch_queue: Annotated[int, typer.Option(help="How many batches may wait.", min=1)] = 100,
    batch_keep_days: Annotated[float, typer.Option(help="How long an ended batch is kept.", min=0)] = 7.0,
    batch_place: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder or URL of which batches may name sources and sinks; may be repeated.", metavar="PLACE"
        ),
    ] = None,
    webhook_secret: Annotated[
        Path | None,
        typer.Option(help="Signs callbacks; else PERRON_WEBHOOK_SECRET does, else there are none.", metavar="FILE"),
    ] = None,
    private_callbacks: Annotated[
        bool, typer.Option("--private-callbacks", help="Call receivers at private addresses, too.")
    ] = False,
    folder: shared.Folder = Path(),
) -> None:
    """Answer predictions over HTTP until Ctrl-C; every one is logged before it is answered."""
    from functools import partial

    from perron.serve.alone import log_place
    from perron.serve.app import Settings
    from perron.serve.batches import BatchSettings
    from perron.serve.http import Address, check_grpc, free_port
    from perron.serve.inherited import Inherited
    from perron.serve.platforms import read_vertex
    from perron.serve.watch import set_up_logging
    from perron.serve.workers import serve as answer

    shared.demand_known("log_format", log_format, ("text", "json"))
    shared.demand_known("log_level", log_level, ("debug", "info", "warning", "error"))
    if drop_sent and not log_to:
        raise DeclarationError("--drop-sent deletes what was sent on, and there is no --log-to; name a place.")
    shared.demand_known("on_log_failure", on_log_failure, ("refuse", "answer"))
    project: Project | None = None
    open_memory: Callable[[], Memory]
    batches: BatchSettings | None = None
    if bundle is None:
        shared.refuse_without(context, "bundle", ("log_folder", "tokens"))
        project = shared.open_project(folder)
        log, live = project.predictions, project.folder / ".perron"
        is_guarded = bool(project.ledger.list_tokens())
        open_memory = partial(shared.memory_of, folder, model, version, log_to, pinned)
        batches = BatchSettings(
            project.folder / ".perron", project.folder, most_waiting=batch_queue, keep_s=batch_keep_days * 86_400,
            places=tuple(batch_place or ()), secret=shared.webhook_secret(webhook_secret),
            allow_private_callbacks=private_callbacks,
        )  # fmt: skip
    else:
        shared.refuse_beside(context, "bundle", OF_PROJECTS)
        log = live = log_place(log_folder)
        open_memory = partial(shared.alone_of, bundle, version, log, tokens, log_to)
        is_guarded = open_memory().plan().tokens is not None
    if grpc_port is not None:
        check_grpc()
        grpc_port = grpc_port or free_port(host)
    given = Inherited.of(os.environ)
    address = Address(
        host, port or free_port(host), tls_cert, tls_key, tls_client_ca, grpc_port, given.listen_fd, given.drain_s
    )
    address.check(is_guarded=is_guarded or tls_client_ca is not None or allow_anonymous)
    if bundle is not None and log_folder is None:
        shared.error_line(f"Predictions are logged in {log}, a new folder; --log-folder names one that stays.")
    set_up_logging("json" if log_format == "json" else "text", log_level, access_log)
    if clock is not None:
        _follow(clock)
    settings = Settings(
        log, max_rows=max_rows, max_body_bytes=max_body_bytes, sync=sync, queue_rows=queue_rows,
        cache_requests=cache,
        cors_origins=tuple(cors_origin or ()), access_log=access_log, traces=traces, workers=workers,
        on_log_failure="answer" if on_log_failure == "answer" else "refuse", anonymous_admin=address.is_loopback,
        windows=live / "windows" if not no_windows and clock is None else None,
        minutes=live / "minutes" if clock is None else None, vertex=read_vertex(os.environ), drop_sent=tuple(log_to or ()) if drop_sent else (), batches=batches,
        deployment=given.deployment,
    )  # fmt: skip

    def announce(plan: "Plan") -> None:
        print(shared.serving_words(plan, address.url, workers, address.grpc_url), flush=True)
        given.say_ready()

    with watching(monitor, project, model or ()):
        answer(settings, open_memory, address, workers=workers, announce=announce)
    given.leave()


def _follow(clock: Path) -> None:
    """Has this process and its workers stamp with a replay's clock, and says so."""
    from perron.clock import VARIABLE, read_clock

    moment = read_clock(clock)
    os.environ[VARIABLE] = str(clock.resolve())
    shared.error_line(f"A replay: answers and outcomes are stamped with the time in {clock}, now {moment.isoformat()}.")
