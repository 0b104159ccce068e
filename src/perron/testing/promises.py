"""A subject in; whether it keeps what a release promises out: parity, latency, and what clients of the last one know."""

import asyncio
import json
import random
from typing import Any, Literal

from perron.canvas import read_canvas
from perron.compatibility import Change, bump_of, compare
from perron.parity import TOLERANCE
from perron.parity import compare as compare_answers
from perron.testing.subject import Subject
from perron.testing.verdict import Broken, NotHere, number, shown

__all__ = ["BUMPS", "Bump", "budget", "check_compatibility", "check_graph", "check_latency", "check_service"]

Bump = Literal["patch", "minor", "major"]
BUMPS: tuple[Bump, ...] = ("patch", "minor", "major")
RANKS = ("none", *BUMPS)
AUDIENCES = ("clients", "references", "ledger")  # whose breaks count, as for `perron contract diff`
WARM_S, ROUND_S = 0.3, 0.7
ROUNDS, MOST_ROUNDS = 3, 6  # more where none was within the budget: another process may have had the machine
FEWEST = 100  # answers of a round of which a 99th percentile is taken


# ------------------------------------------------------------------ parity


def check_graph(subject: Subject) -> str:
    """How far the bundle's graph lies from the trained model on the test rows, in words.

    Raises:
        Broken: too far; shows the worst rows.
        NotHere: the trained model or the test rows aren't here.
    """
    fitted, table, bundle = subject.fitted, subject.test_table, subject.bundle
    found = compare_answers(
        fitted.predict(table), bundle.run(fitted.raw(table)), is_classification=bundle.classes is not None
    )
    if not found.holds:
        worst = "".join(
            f"\n    test row {row}: the model {expected!r}, the graph {got!r}" for row, expected, got in found.worst
        )
        raise Broken(
            f"The graph of {subject.words} doesn't answer as the model that its run trained, on {found.rows} test rows "
            f"(error {found.max_relative_error:.3g}, allowed {TOLERANCE:.0e}):{worst}"
        )
    return f"parity: {found.rows} test rows, the largest error {found.max_relative_error:.1e}"


def check_service(subject: Subject) -> str:
    """How many rows the service answered as the bundle does, in words: to the last bit.

    Raises:
        Broken: it answers otherwise, or refuses a row.
    """
    rows = _rows(subject)
    own = subject.bundle.predict(rows)
    reply = subject.untold_client.predict(rows)
    for place, (row, expected, got) in enumerate(zip(rows, own, reply.predictions, strict=True)):
        if (got.value, got.probabilities) != (expected["value"], expected.get("probabilities")):
            raise Broken(
                f"The service answers rows[{place}] with {number(got.value)}, and its bundle with {number(expected['value'])}.\n"
                f"    row: {shown(row, subject.schema)}"
            )
    return f"parity: the service answers {len(rows)} rows as the bundle does"


def _rows(subject: Subject) -> list[dict[str, Any]]:
    """Test rows; where they aren't here, rows like the bundle's sample."""
    try:
        if subject.rows:
            return subject.rows
    except NotHere:
        pass
    from perron.tune.loadtest import rows_like  # not at the top: it brings the server

    chance, bundle = random.Random(0), subject.bundle
    return [rows_like(bundle.schema, bundle.sample["rows"][0], chance) for _ in range(64)]


# ------------------------------------------------------------------ latency


def budget(subject: Subject) -> float | None:
    """The canvas's `max_p99_ms`, None where there is none.

    Raises:
        DeclarationError: the canvas can't be read.
    """
    canvas = read_canvas(subject.folder)
    return None if canvas is None else canvas.limits.get("max_p99_ms")


def check_latency(subject: Subject) -> str:
    """The 99th percentile of one row at a time on the real server, in words: the best of several rounds.

    Raises:
        Broken: it is above the budget.
    """
    from perron.tune.load import Target, send

    most = budget(subject)
    assert most is not None
    target = Target.of(subject.url, "/v1/predictions")
    bodies = [json.dumps({"rows": [row]}).encode() for row in _rows(subject)[:64]]

    def measure(seconds: float) -> tuple[float, float, int]:
        load = asyncio.run(send(target, bodies, connections=1, seconds=seconds))
        if load.failed or load.refused or not load.times_s:
            raise Broken(f"The service didn't answer one row at a time: {load.words or 'nothing came'}")
        p99, p50 = load.quantile_ms(0.99), load.quantile_ms(0.5)
        assert p99 is not None and p50 is not None
        return p99, p50, len(load.times_s)

    measure(WARM_S)
    rounds: list[tuple[float, float, int]] = []
    while len(rounds) < ROUNDS or (min(rounds)[0] > most and len(rounds) < MOST_ROUNDS):
        found = measure(ROUND_S)
        while found[2] < FEWEST and found[1] <= most:  # a slow model: a round is as long as its hundred answers take
            more = measure(ROUND_S * FEWEST / found[2])
            found = more if more[2] > found[2] else (*more[:2], FEWEST)
        rounds.append(found)
    p99, p50, answered = min(rounds)
    words = (
        f"p99 {p99:.3g} ms, p50 {p50:.3g} ms (one row at a time, {answered} requests, the best of {len(rounds)} rounds)"
    )
    if p99 > most:
        all_told = ", ".join(f"{one[0]:.3g}" for one in rounds)
        raise Broken(
            f"Expected a p99 of at most {most:g} ms (canvas.toml: budgets.max_p99_ms), measured {words}; all rounds: {all_told} ms."
        )
    return f"latency: {words}; the budget is {most:g} ms"


# ------------------------------------------------------------------ compatibility


def check_compatibility(subject: Subject, declared: Bump | None) -> str:
    """What changed since the last release, in words.

    Without a declared bump a change fails that breaks something for clients, references or the ledger, as
    `perron contract diff` has it; with one, a change that moves the semantic version by more.

    Raises:
        Broken: something breaks; says for whom and why.
    """
    assert subject.release is not None
    name, old = subject.release
    changes = compare(old, subject.schema)
    needed = bump_of(changes)
    told = f"compatibility with {name}: {'the contract is the same' if not changes else f'{len(changes)} changes, {needed}'}"
    if declared is None:
        wrong = [change for change in changes if any(change.effects[who].level == "breaking" for who in AUDIENCES)]
        why = (
            "`perron contract diff` tells all; where the break is meant, say so: --perron-bump major."
            if needed == "major"
            else f"`perron contract diff` tells all; where the break is meant, say so: --perron-bump {needed}."
        )
    else:
        is_more = RANKS.index(needed) > RANKS.index(declared)
        wrong = (
            [change for change in changes if RANKS.index(bump_of([change])) > RANKS.index(declared)] if is_more else []
        )
        why = f"The release is declared to be {declared}, and these changes make it {needed}."
    if wrong:
        raise Broken(f"The contract breaks with {name}:\n" + "\n".join(map(_told, wrong)) + f"\n{why}")
    return told + (f", declared {declared}" if declared and changes else "")


def _told(change: Change) -> str:
    told = change.was is not None or change.now is not None
    moved = f": {change.was or '–'} → {change.now or '–'}" if told else ""
    effects = [
        f"\n        {who}: {effect.level}, {effect.reason}"
        for who, effect in change.effects.items()
        if effect.level != "none"
    ]
    return f"    {change.field or 'the contract'}, {change.kind.replace('_', ' ')}{moved}{''.join(effects)}"
