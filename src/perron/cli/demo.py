"""`perron demo`: the whole way on real data."""

import time
from pathlib import Path
from typing import Annotated

import typer

from perron.cli import shared

__all__ = ["demo"]


def demo(
    folder: Annotated[Path, typer.Option(help="Where the project is written.")] = Path("perron-demo"),
    keep: Annotated[bool, typer.Option("--keep", help="Go on answering until Ctrl-C.")] = False,
    as_json: shared.Json = False,
) -> None:
    """See the whole way on real data, in half a minute: a project, a run, a server, traffic and a receipt."""
    from perron.cli.progress import Progress
    from perron.demonstration import demonstrate

    shared.resume_collection()
    started = time.perf_counter()

    def tell(stage: str) -> None:
        if not as_json:
            shared.error_line(f"[{time.perf_counter() - started:5.1f} s] {stage}")

    with Progress(quiet=as_json) as progress, demonstrate(folder, tell, progress) as done:
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


def _print(done, seconds: float) -> None:  # type: ignore[no-untyped-def]
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
