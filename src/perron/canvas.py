"""canvas.toml in; the use case out: its words, the gates and limits that its numbers are, its AI Act class, and what is
missing in it or contradicts the system.

The file lies beside system.py and only holds data. Its goals are gates of every run, its budgets the limits that
the service is held to, its words part of the model card. A part that isn't filled in yet is missing, which
`perron canvas check` says; a part that can't be read stops a run too.
"""

import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from perron.contract import format_number
from perron.errors import DeclarationError, nearest
from perron.gates import Gate
from perron.metrics import METRICS
from perron.source import shown
from perron.system import System

__all__ = [
    "FILE", "LIMITS", "SECTIONS", "Canvas", "Fault", "RiskClass", "Section", "canvas_file", "find_faults", "parse_canvas",
    "read_canvas", "read_text", "risk_class",
]  # fmt: skip

FILE = "canvas.toml"
FORMAT = 1
AREAS = (
    "none", "biometrics", "critical infrastructure", "education", "employment", "essential services", "law enforcement",
    "migration", "justice",
)  # fmt: skip
Judge = Callable[[Any], str | None]  # what is wrong with a value, in words, or None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "give a text"


def _texts(value: Any) -> str | None:
    fits = isinstance(value, list) and all(isinstance(one, str) and one.strip() for one in value)
    return None if fits else "give a list of texts"


def _number(value: Any) -> str | None:
    return None if _is_number(value) else "give a number"


def _positive(value: Any) -> str | None:
    return None if _is_number(value) and value > 0 else "give a number above 0"


def _share(value: Any) -> str | None:
    return None if _is_number(value) and 0 < value < 1 else "give a share between 0 and 1"


def _answer(value: Any) -> str | None:
    return None if isinstance(value, bool) else "answer true or false"


def _area(value: Any) -> str | None:
    return None if value in AREAS else nearest(str(value), AREAS)


def _metric(value: Any) -> str | None:
    return None if value in METRICS else f"no metric has that name; {nearest(str(value), METRICS)}"


def _day(value: Any) -> str | None:
    return None if type(value) is date else "give a date, such as 2026-09-30"


@dataclass(frozen=True)
class Section:
    """A part of the canvas: its title, its keys with what they may hold and mean, and which of them may stay away.

    `many` sections are lists of tables: `[[goals]]`.
    """

    title: str
    keys: Mapping[str, tuple[Judge, str]]
    optional: frozenset[str] = frozenset()
    many: bool = False


SECTIONS: dict[str, Section] = {
    "value": Section("Value proposition", {
        "name": (_text, "the system's name"),
        "product": (_text, "what is made, and for whom"),
        "pains": (_texts, "what it relieves its users of"),
        "measure": (_text, "how its value is measured, once it is in use"),
    }),
    "objectives": Section("Objectives", {
        "business": (_texts, "what the organisation wants to reach"),
        "model": (_texts, "what the model must do for that"),
    }),
    "decision": Section("Decision and action", {
        "decision": (_text, "what is decided by a prediction"),
        "action": (_text, "what is done then"),
        "who": (_text, "who decides, and who may overrule"),
    }),
    "data": Section("Data and labels", {
        "target": (_text, "the field that is predicted"),
        "sources": (_texts, "where the rows come from"),
        "labels": (_text, "where the truth comes from, how late, and what it costs"),
    }),
    "goals": Section("Metrics and goals", {
        "metric": (_metric, "of the test rows: " + ", ".join(METRICS)),
        "at_most": (_number, "the worst value of a metric that is better when it is lower"),
        "at_least": (_number, "the worst value of a metric that is better when it is higher"),
        "why": (_text, "where the number comes from"),
    }, optional=frozenset({"at_most", "at_least", "why"}), many=True),
    "budgets": Section("Budgets", {
        "max_p99_ms": (_positive, "that the slowest 1 % of requests may take"),
        "max_error_share": (_share, "of requests that may fail"),
        "availability": (_share, "the share of good answers that is aimed at"),
        "min_rows_per_s": (_positive, "that must be predicted on one machine"),
        "machine_cost_per_hour": (_positive, "of that machine"),
        "max_cost_per_1000": (_positive, "that 1,000 predictions may cost, in the same currency"),
        "machine_watts": (_positive, "that the machine draws at full load; energy is estimated from it"),
        "max_size_mb": (_positive, "that the bundle may take on disk, in 10^6 bytes"),
    }, optional=frozenset({"machine_cost_per_hour", "machine_watts"})),
    "feasibility": Section("Feasibility", {
        "data": (_text, "whether there is enough of it, and whether it may be used"),
        "technology": (_text, "whether the goals are within reach, and what a simple rule achieves"),
        "people": (_text, "who can build it and keep it running"),
    }),
    "fairness": Section("Fairness", {
        "groups": (_texts, "fields by which errors are compared; [] where none of them matters"),
        "measure": (_text, "what must not differ between them, and by how much it may"),
    }, optional=frozenset({"measure"})),
    "risks": Section("Risks and legislation", {
        "risks": (_texts, "what can go wrong, for whom, and what is done against it"),
        "legislation": (_texts, "which laws and rules apply"),
    }),
    "ai_act": Section("EU AI Act", {
        "prohibited_practice": (_answer, "manipulates, exploits the vulnerable, scores people socially, … (Article 5)"),
        "safety_component": (_answer, "is a product of Annex I, or its safety component, that a third party must assess (Article 6(1))"),
        "area": (_area, "of Annex III: " + ", ".join(AREAS)),
        "profiles_people": (_answer, "profiles natural persons (Article 6(3))"),
        "narrow_task": (_answer, "only prepares, or does a narrow procedural task, and replaces no one's judgement (Article 6(3))"),
        "meets_people": (_answer, "people deal with it directly (Article 50(1))"),
        "makes_content": (_answer, "makes text, sound or pictures (Article 50(2) and (4))"),
        "recognises_emotions": (_answer, "recognises emotions or sorts people by their bodies (Article 50(3))"),
    }),
    "owners": Section("Owners", {
        "product": (_text, "who decides what it is for"),
        "data": (_text, "who answers for the data"),
        "model": (_text, "who answers for the model"),
        "operations": (_text, "who is called when it fails"),
    }),
    "phases": Section("Phases", {
        "name": (_text, "such as proof of concept, pilot, production"),
        "until": (_day, "when it ends"),
        "result": (_text, "what shows that it is done"),
    }, many=True),
}  # fmt: skip
EXAMPLES: dict[Judge, str] = {
    _answer: "false", _area: '"none"', _texts: "[]", _day: "2026-12-31", _share: "0.01",
}  # fmt: skip
# Budgets that a server is watched by.
LIMITS = (
    "max_error_share", "max_p99_ms", "availability", "machine_cost_per_hour", "max_cost_per_1000", "machine_watts",
)  # fmt: skip


@dataclass(frozen=True)
class RiskClass:
    """A class of Regulation (EU) 2024/1689, or `unknown` while an answer is missing, and the reasons.

    An aid to thinking, not legal advice.
    """

    name: Literal["prohibited", "high", "limited", "minimal", "unknown"]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """Something to mend in a canvas: `mistake` (can't be read), `missing`, or `contradiction` of the system; its key and words."""

    kind: Literal["mistake", "missing", "contradiction"]
    key: str
    message: str


@dataclass(frozen=True)
class Canvas:
    """A use case, as far as it is filled in: by section a table, or a list of tables."""

    data: Mapping[str, Any]

    def get(self, section: str, key: str) -> Any:
        """The value of a key, or None where it isn't filled in."""
        value = self.data.get(section, {}).get(key)
        return None if isinstance(value, str) and not value.strip() else value

    def tables(self, section: str) -> list[Mapping[str, Any]]:
        """The tables of a section that has many."""
        return list(self.data.get(section, []))

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The goals that have a number, as gates."""
        return tuple(
            Gate(goal["metric"], rule, float(goal[rule]))
            for goal in self.tables("goals")
            for rule in ("at_most", "at_least")
            if rule in goal
        )

    @property
    def limits(self) -> dict[str, float]:
        """The budgets that a server is watched by, as far as they are set."""
        return {key: float(value) for key in LIMITS if (value := self.get("budgets", key)) is not None}

    @property
    def words(self) -> list[list[str]]:
        """What a model card tells of the use case: title and text."""
        found = [
            [title, text if isinstance(text, str) else "; ".join(text)]
            for title, section, key in (
                ("product", "value", "product"), ("pains", "value", "pains"), ("value is measured by", "value", "measure"),
                ("business objectives", "objectives", "business"), ("decision", "decision", "decision"),
                ("action", "decision", "action"), ("who decides", "decision", "who"), ("labels", "data", "labels"),
                ("compared between groups of", "fairness", "groups"), ("fairness", "fairness", "measure"),
                ("risks", "risks", "risks"), ("legislation", "risks", "legislation"),
            )
            if (text := self.get(section, key))
        ]  # fmt: skip
        found += [[f"owner of {key}", name] for key in SECTIONS["owners"].keys if (name := self.get("owners", key))]
        risk = risk_class(self)
        return found if risk.name == "unknown" else [*found, ["EU AI Act", f"{risk.name}: {'; '.join(risk.reasons)}"]]


def risk_class(canvas: Canvas) -> RiskClass:
    """The class by the questionnaire's answers, the gravest that applies."""
    section = SECTIONS["ai_act"]
    answers = {key: canvas.get("ai_act", key) for key in section.keys}
    if answers["prohibited_practice"]:
        return RiskClass("prohibited", ("a practice of Article 5 may not be placed on the market or used",))
    if answers["safety_component"]:
        return RiskClass(
            "high", ("a product of Annex I, or its safety component, that a third party must assess: Article 6(1)",)
        )
    unanswered = [key for key, answer in answers.items() if answer is None]
    if unanswered:
        return RiskClass("unknown", (f"not answered yet: {', '.join(f'ai_act.{key}' for key in unanswered)}",))
    area, reasons = answers["area"], []
    if area != "none":
        if answers["profiles_people"]:
            return RiskClass("high", (f"used in {area}, Annex III, and profiles people: Article 6(2) and (3)",))
        if not answers["narrow_task"]:
            return RiskClass(
                "high", (f"used in {area}, Annex III, for more than a narrow or preparing task: Article 6(2)",)
            )
        reasons.append(
            f"used in {area}, Annex III, for a narrow or preparing task alone: document why, and register it (Articles 6(4) and 49(2))"
        )
    duties = {
        "meets_people": "people must be told that they deal with a machine: Article 50(1)",
        "makes_content": "what it makes must be marked as made by a machine: Article 50(2) and (4)",
        "recognises_emotions": "people must be told that it is at work: Article 50(3)",
    }
    transparency = [words for key, words in duties.items() if answers[key]]
    if transparency:
        return RiskClass("limited", (*reasons, *transparency))
    return RiskClass("minimal", tuple(reasons) or ("no question of the questionnaire was answered with yes",))


# ------------------------------------------------------------------ reading


def read_canvas(folder: Path) -> Canvas | None:
    """The canvas of a project's folder, or None where there is no canvas.toml.

    Raises:
        DeclarationError: it can't be read or is wrong; names the first mistake and how many there are.
    """
    path = folder / FILE
    if not path.exists():
        return None
    canvas, mistakes = parse_canvas(read_text(path))
    if canvas is None:
        more = f" ({len(mistakes)} mistakes; `perron canvas check` lists them)" if len(mistakes) > 1 else ""
        raise DeclarationError(f"{FILE}: {mistakes[0].key}: {mistakes[0].message}{more}")
    return canvas


def read_text(path: Path) -> str:
    """The text of a canvas.toml.

    Raises:
        DeclarationError: it can't be read, or isn't UTF-8.
    """
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{path.name} isn't UTF-8 (byte {error.start}); save it as UTF-8.") from error
    except OSError as error:
        raise DeclarationError(f"Can't read {path}: {error.strerror}.") from error


def parse_canvas(text: str) -> tuple[Canvas | None, list[Fault]]:
    """The canvas that a text of TOML holds, or None and every mistake in it, each with its key."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return None, [_mistake("the file", f"not TOML: {error}".splitlines()[0])]
    mistakes = []
    if data.pop("format", FORMAT) != FORMAT:
        mistakes.append(_mistake("format", f"this Perron reads {FORMAT}"))
    for name, content in data.items():
        section = SECTIONS.get(name)
        if section is None:
            mistakes.append(_mistake(name, f"no section has that name; {nearest(name, SECTIONS)}"))
        elif section.many:
            if not isinstance(content, list):
                mistakes.append(_mistake(name, f"make it a list of tables: [[{name}]]"))
                continue
            for place, table in enumerate(content):
                mistakes += _table_mistakes(f"{name}[{place}]", section, table)
        else:
            mistakes += _table_mistakes(name, section, content)
    return (None, mistakes) if mistakes else (Canvas(data), [])


def _mistake(key: str, message: str) -> Fault:
    return Fault("mistake", key, message)


def _table_mistakes(place: str, section: Section, table: Any) -> Iterator[Fault]:
    if not isinstance(table, dict):
        yield _mistake(place, f"is {table!r:.60}; make it a table")
        return
    for key, value in table.items():
        if key not in section.keys:
            yield _mistake(f"{place}.{key}", f"there is no such key; {nearest(key, section.keys)}")
        elif (words := section.keys[key][0](value)) is not None:
            yield _mistake(f"{place}.{key}", f"is {value!r:.60}; {words}")
    if section is SECTIONS["goals"]:
        if "metric" not in table:
            yield _mistake(f"{place}.metric", f"is missing; one of {', '.join(METRICS)}")
        if "at_most" in table and "at_least" in table:
            yield _mistake(place, "has at_most and at_least; keep one, or write two goals")


# ------------------------------------------------------------------ checking


def find_faults(canvas: Canvas, system: System, bundle_bytes: int | None = None) -> list[Fault]:
    """What is missing in a canvas, and what of it contradicts the system, or the bundle that is in force."""
    return [*_missing(canvas), *_contradictions(canvas, system), *_broken_budgets(canvas, bundle_bytes)]


def _missing(canvas: Canvas) -> Iterator[Fault]:
    for name, section in SECTIONS.items():
        if not section.many:
            for key, (_, words) in section.keys.items():
                value = canvas.get(name, key)
                may_be_empty = (name, key) == ("fairness", "groups")
                if key not in section.optional and (value is None or (value == [] and not may_be_empty)):
                    yield Fault("missing", f"{name}.{key}", words)
            continue
        tables = canvas.tables(name)
        if not tables:
            yield Fault("missing", name, f"add one: [[{name}]]")
        for place, table in enumerate(tables):
            for key, (_, words) in section.keys.items():
                if key not in section.optional and not table.get(key):
                    yield Fault("missing", f"{name}[{place}].{key}", words)
            if name == "goals" and not {"at_most", "at_least"}.intersection(table):
                rule = "at_least" if METRICS[table["metric"]].higher_is_better else "at_most"
                yield Fault("missing", f"goals[{place}].{rule}", f"the worst {table['metric']} that is good enough")
    if canvas.get("fairness", "groups") and not canvas.get("fairness", "measure"):
        yield Fault("missing", "fairness.measure", SECTIONS["fairness"].keys["measure"][1])


def _contradictions(canvas: Canvas, system: System) -> Iterator[Fault]:
    def against(key: str, message: str) -> Fault:
        return Fault("contradiction", key, message)

    name, target = canvas.get("value", "name"), canvas.get("data", "target")
    if name is not None and name != system.name:
        yield against("value.name", f"is {name!r}, and the system is {system.name!r}")
    assert system.schema.target is not None
    if target is not None and target != system.schema.target.name:
        yield against("data.target", f"is {target!r}, and the contract's target is {system.schema.target.name!r}")
    known = [shown(system.source), *([system.labels] if system.labels else [])]
    sources = canvas.get("data", "sources") or []
    for place, source in enumerate(sources):
        if source not in known:
            yield against(
                f"data.sources[{place}]", f"is {source!r}, which the system doesn't read; {nearest(source, known)}"
            )
    if sources and known[0] not in sources:
        yield against("data.sources", f"lacks {known[0]!r}, which the system reads")
    for place, group in enumerate(canvas.get("fairness", "groups") or []):
        fields = [field.name for field in system.schema.fields]
        if group not in fields:
            yield against(
                f"fairness.groups[{place}]",
                f"is {group!r}, which is no field of {system.schema.name}; {nearest(group, fields)}",
            )
    yield from _goals_against(canvas, system)
    days = [(place, phase["until"]) for place, phase in enumerate(canvas.tables("phases")) if "until" in phase]
    for (_, before), (place, after) in pairwise(days):
        if after < before:
            yield against(f"phases[{place}].until", f"is {after}, before the phase ahead of it ends ({before})")


def _goals_against(canvas: Canvas, system: System) -> Iterator[Fault]:
    for place, goal in enumerate(canvas.tables("goals")):
        metric = METRICS[goal["metric"]]
        if metric.task != system.task:
            fitting = ", ".join(name for name, one in METRICS.items() if one.task == system.task)
            yield Fault(
                "contradiction", f"goals[{place}].metric",
                f"{metric.name} is of a {metric.task}, and {system.name} is a {system.task}; use {fitting}",
            )  # fmt: skip
            continue
        right = "at_least" if metric.higher_is_better else "at_most"
        wrong = "at_most" if metric.higher_is_better else "at_least"
        if wrong in goal:
            yield Fault(
                "contradiction",
                f"goals[{place}].{wrong}",
                f"{metric.name} is better when it is {'higher' if metric.higher_is_better else 'lower'}; use {right}",
            )
        for gate in system.gates:
            if (gate.metric, gate.rule) == (metric.name, right) and right in goal and gate.limit != goal[right]:
                yield Fault(
                    "contradiction", f"goals[{place}].{right}",
                    f"is {format_number(goal[right])}, and system.py has the gate {gate.name!r}; both hold: keep one",
                )  # fmt: skip


def _broken_budgets(canvas: Canvas, bundle_bytes: int | None) -> Iterator[Fault]:
    size, speed = canvas.get("budgets", "max_size_mb"), canvas.get("budgets", "min_rows_per_s")
    hour, most = canvas.get("budgets", "machine_cost_per_hour"), canvas.get("budgets", "max_cost_per_1000")
    if bundle_bytes is not None and size is not None and bundle_bytes > size * 1e6:
        yield Fault(
            "contradiction",
            "budgets.max_size_mb",
            f"is {size}, and the champion's bundle takes {bundle_bytes / 1e6:.3g} MB",
        )
    if speed is not None and hour is not None and most is not None:
        cost = hour / 3600 / speed * 1000
        if cost > most:
            yield Fault(
                "contradiction", "budgets.max_cost_per_1000",
                f"is {most}, and at {speed} rows/s on a machine of {hour} an hour 1,000 predictions cost {cost:.3g}",
            )  # fmt: skip


# ------------------------------------------------------------------ writing


def canvas_file(system: System) -> str:
    """A canvas.toml to fill in: what the system tells already, and of the rest what it means."""
    assert system.schema.target is not None
    known: dict[tuple[str, str], Any] = {
        ("value", "name"): system.name,
        ("data", "target"): system.schema.target.name,
        ("data", "sources"): [shown(system.source)],
    }
    parts = [
        f"# The use case of {system.name}, for people and for Perron. `perron canvas check` says what is missing,",
        "# `perron canvas render` makes a page of it. The goals are gates of every run; the budgets are the limits that",
        "# the service is held to; the words are part of the model card.",
        "", f"format = {FORMAT}",
    ]  # fmt: skip
    for name, section in SECTIONS.items():
        parts += ["", f"# {'-' * 16} {section.title}", ""]
        if name == "goals":
            parts += _goals_text(system)
            continue
        lines = [f"[[{name}]]" if section.many else f"[{name}]"]
        for key, (judge, words) in section.keys.items():
            value = known.get((name, key), "" if judge is _text else [] if judge is _texts else None)
            if (name, key) == ("fairness", "groups"):
                value = None
            lines += _line(key, value, words, judge)
        parts += [f"# {line}" for line in lines] if name == "phases" else lines
    return "\n".join(parts) + "\n"


def _line(key: str, value: Any, words: str, judge: Judge) -> list[str]:
    """A key with its value, or as a comment where only its meaning is known."""
    if value is None:
        example = "0.999" if key == "availability" else EXAMPLES.get(judge, "100")
        return [f"# {key} = {example}  # {words}"]
    return [f"{key} = {_toml(value)}  # {words}"]


def _goals_text(system: System) -> list[str]:
    gates = [gate for gate in system.gates if gate.rule in ("at_most", "at_least")]
    if gates:
        return [
            line
            for gate in gates
            for line in (
                "[[goals]]",
                f"metric = {_toml(gate.metric)}",
                f"{gate.rule} = {_toml(gate.limit)}",
                'why = ""',
                "",
            )
        ][:-1]
    metric = METRICS[system.gates[0].metric if system.gates else "rmse" if system.task == "regression" else "log_loss"]
    rule = "at_least" if metric.higher_is_better else "at_most"
    known = ", ".join(name for name, one in METRICS.items() if one.task == system.task)
    return [
        "[[goals]]", f"metric = {_toml(metric.name)}  # {known}",
        f"# {rule} = 100  # the worst value that is good enough: from then on it is a gate", 'why = ""',
    ]  # fmt: skip


def _toml(value: Any) -> str:
    """A text, number or list of texts as TOML, whose basic strings are JSON's, but for the delete character."""
    if isinstance(value, float):
        return format_number(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
