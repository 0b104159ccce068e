"""`perron demo`: the whole way on real data."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perron.cli import shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from perron.demonstration import Demonstration

    Tell = Callable[[str], None]
    Steps = Callable[[str, str, float], None]

__all__ = ["demo"]


def demo(
    what: Annotated[
        str, typer.Argument(help="whole: the whole way; drift: how a model ages and is renewed.", metavar="[WHAT]")
    ] = "whole",
    folder: Annotated[
        Path | None,
        typer.Option(help="Where the project is written. [default: perron-demo, or perron-drift]", show_default=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Go on answering until Ctrl-C.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="For drift: the UCI bike sharing table by the hour. [default: simulated]", metavar="FILE"),
    ] = None,
    as_json: shared.Json = False,
) -> None:
    """See the whole way on real data, in half a minute: a project, a run, a server, traffic and a receipt."""
    from perron.cli.progress import Progress
    from perron.errors import DeclarationError

    shared.demand_known("what", what, ("whole", "drift"))
    if what == "drift" and keep:
        raise DeclarationError("--keep goes with the whole way alone; the replay's server ends with it.")
    if what == "whole" and data is not None:
        raise DeclarationError("--data goes with `perron demo drift`; the whole way has its own data.")
    shared.resume_collection()
    started = time.perf_counter()

    def tell(stage: str) -> None:
        if not as_json:
            shared.error_line(f"[{time.perf_counter() - started:5.1f} s] {stage}")

    with Progress(quiet=as_json) as progress:
        if what == "drift":
            _drift(folder or Path("perron-drift"), data, tell, progress, as_json)
        else:
            _whole(folder or Path("perron-demo"), keep, tell, progress, as_json, started)


def _whole(
    folder: Path, keep: bool, tell: "Tell", progress: "Steps", as_json: bool, started: float
) -> None:  # fmt: skip
    from perron.demonstration import demonstrate

    with demonstrate(folder, tell, progress) as done:
        if as_json:
            shared.print_json(done.to_json())
        else:
            _print(done, time.perf_counter() - started)
        if keep:
            shared.error_line("Answering until Ctrl-C.")
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                shared.error_line("Stopped.")


def _drift(folder: Path, data: Path | None, tell: "Tell", progress: "Steps", as_json: bool) -> None:
    from perron.demand import age
    from perron.pages.demand import render
    from perron.store import write_atomically

    done = age(folder, data, tell, progress).to_json()
    picture = folder / "drift.html"
    write_atomically(picture, render(done))
    done["picture"] = str(picture)
    if as_json:
        shared.print_json(done)
        return
    print()
    if not done["is_real"]:
        print("A simulated demand series; --data FILE takes the UCI bike sharing table by the hour.\n")
    shared.print_table(
        ["month", "version", "error", "first model's", "drifted", "what became of it"],
        [
            [
                month["month"], str(month["version"]), f"{month['error']:.1f}", f"{month['error_of_first']:.1f}",
                ", ".join(dict.fromkeys(f["subject"] for f in month["findings"] if f["kind"].endswith("drift"))) or "nothing",
                _became(month),
            ]
            for month in done["months"]
        ],
    )  # fmt: skip
    print(f"\nExpected {done['expected']:.1f}; {done['error_before_retraining']:.1f} until the retraining", end="")
    if done["retrained_after"] is None:
        print(": none was accepted.")
    else:
        print(
            f" after {done['retrained_after']}; then {done['error_after_retraining']:.1f}, "
            f"where the first model would have had {done['error_had_it_stayed']:.1f}."
        )
    print(f"The picture: {picture}")


def _became(month: "dict[str, Any]") -> str:
    made = month["retrained"]
    if made is None:
        return ""
    return f"retrained: version {made['version']}" if made["registered"] else "retrained: refused by its gates"


def _print(done: "Demonstration", seconds: float) -> None:
    run, receipt = done.run, done.receipt
    metrics, baseline, model, code = run["metrics"], run["baseline"], receipt["model"], receipt["code"]
    share = max(receipt["prediction"]["probabilities"].values())
    print()
    shared.print_table(
        ["what", "result"],
        [
            ["project", f"{done.folder}/ (system.py declares it; the rest is derived)"],
            ["data", f"{run['data']['rows']} rows, {run['data']['quarantined']} quarantined"],
            [
                "model",
                f"accuracy {metrics['accuracy']:.3f} on the test rows (naive baseline {baseline['accuracy']:.3f})",
            ],
            [
                "gates",
                ", ".join(f"{gate['name']}: {'passed' if gate['passed'] else 'not passed'}" for gate in run["gates"]),
            ],
            ["parity", f"graph equals model on {run['parity']['rows']} of {run['parity']['rows']} test rows"],
            ["service", f"{done.address} (its page: {done.address}/docs)"],
            ["traffic", f"{done.requests} requests over HTTP, {done.right} predicted right"],
            ["receipt", receipt["prediction"]["id"]],
            ["  predicted", f"{receipt['prediction']['value']} ({share:.1%})"],
            ["  by model", f"{model['name']} version {model['version']}, bundle {model['bundle'][:12]}"],
            ["  of run", receipt["run"]],
            ["  on data", f"snapshot {receipt['data']['snapshot'][:12]}, {receipt['data']['rows']} rows"],
            [
                "  with code",
                "no git here"
                if code["commit"] is None
                else f"commit {code['commit'][:12]}" + (", changed since" if code["dirty"] else ""),
            ],
            ["  on", f"Python {receipt['environment']['python']}, packages {receipt['environment']['packages'][:12]}"],
            ["time", f"{seconds:.1f} s"],
        ],
    )
    print(f"\nNext: cd {done.folder} && perron trace {receipt['prediction']['id']}")
