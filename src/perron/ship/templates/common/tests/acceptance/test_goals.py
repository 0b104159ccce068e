"""Whether the champion is good enough. `pytest --perron` adds what is generated: contract, behaviour, golden predictions.

Behaviours (what must not change an answer, and what must raise or lower it) are declared in tests/behaviour.toml;
`pytest --perron --perron-update-golden` writes tests/golden.json, the answers that later models are held to.

Written by `perron init`; `perron sync` brings it up to date and keeps your changes.
"""

from pathlib import Path

from perron.bundle import Bundle
from perron.canvas import read_canvas
from perron.gates import judge_gate
from perron.system import System

ROOT = Path(__file__).resolve().parents[2]


def test_the_champion_reaches_its_gates_and_the_goals_of_the_canvas(system: System, bundle: Bundle) -> None:
    canvas = read_canvas(ROOT)
    gates = [*system.gates, *(canvas.gates if canvas is not None else ())]
    measured = bundle.manifest["metrics"]
    for gate in gates:
        verdict = judge_gate(gate, measured, bundle.manifest["baseline"], None)
        assert verdict.passed, f"{verdict.name}: {verdict.value}"


def test_the_champion_was_made_by_the_contract_that_is_declared(system: System, bundle: Bundle) -> None:
    assert bundle.schema.digest == system.schema.digest, "perron run makes a model of the contract as it is now"
