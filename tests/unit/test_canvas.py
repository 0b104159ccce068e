"""canvas.toml: filled from the system, every mistake and gap named by its key, its numbers gates and limits."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from tests.conftest import need

import perron as pn
from perron.alerts.settings import read_settings
from perron.canvas import Canvas, canvas_file, find_faults, parse_canvas, read_canvas, risk_class
from perron.errors import DeclarationError
from perron.gates import Gate
from perron.pages.canvas import render, render_card

NO = {
    "prohibited_practice": False, "safety_component": False, "area": "none", "profiles_people": False,
    "narrow_task": False, "meets_people": False, "makes_content": False, "recognises_emotions": False,
}  # fmt: skip


class House(pn.Contract):
    rooms: float
    place: Literal["INLAND", "NEAR BAY"]
    value: Annotated[float, pn.Target]


def system(*gates: Any) -> pn.System:
    return pn.System("houses", House, source="data/houses.csv", gates=gates or None)


def whole() -> dict[str, Any]:
    """A canvas that lacks nothing."""
    return {
        "value": {"name": "houses", "product": "An estimate of a house's price", "pains": ["surveys take weeks"], "measure": "days to an offer"},
        "objectives": {"business": ["offers in a day"], "model": ["errors below a survey's"]},
        "decision": {"decision": "what to offer", "action": "the offer is sent", "who": "the agent"},
        "data": {"target": "value", "sources": ["data/houses.csv"], "labels": "sales, after three months"},
        "goals": [{"metric": "rmse", "at_most": 60_000}],
        "budgets": {"max_p99_ms": 100, "max_error_share": 0.001, "availability": 0.99, "min_rows_per_s": 100, "machine_cost_per_hour": 0.36, "max_cost_per_1000": 0.01, "max_size_mb": 5},
        "feasibility": {"data": "20,000 sales", "technology": "a mean gives 115,000", "people": "two of us"},
        "fairness": {"groups": ["place"], "measure": "rmse by at most a tenth"},
        "risks": {"risks": ["offers too high"], "legislation": ["GDPR"]},
        "ai_act": dict(NO),
        "owners": {"product": "Ann", "data": "Ben", "model": "Cleo", "operations": "Dan"},
        "phases": [{"name": "pilot", "until": __import__("datetime").date(2026, 9, 30), "result": "ten agents use it"}],
    }  # fmt: skip


def keys(canvas: Canvas, of: pn.System | None = None, size: int | None = None) -> list[tuple[str, str]]:
    return [(fault.kind, fault.key) for fault in find_faults(canvas, of or system(), size)]


def test_a_new_canvas_reads_and_says_what_is_missing() -> None:
    canvas, mistakes = parse_canvas(canvas_file(system()))
    assert canvas is not None and mistakes == []
    assert canvas.get("value", "name") == "houses" and canvas.get("data", "sources") == ["data/houses.csv"]
    faults = find_faults(canvas, system())
    assert {fault.kind for fault in faults} == {"missing"}
    named = {fault.key for fault in faults}
    assert {
        "value.product",
        "value.pains",
        "goals[0].at_most",
        "budgets.max_p99_ms",
        "ai_act.area",
        "fairness.groups",
        "phases",
    } <= named
    assert canvas.gates == () and canvas.limits == {} and risk_class(canvas).name == "unknown"


def test_every_commented_key_of_a_new_canvas_can_be_used() -> None:
    text = "\n".join(
        re.sub(r"^# (\[\[phases|[a-z_0-9]+ = )", r"\1", line) for line in canvas_file(system()).splitlines()
    )
    canvas, mistakes = parse_canvas(text)
    assert mistakes == [] and canvas is not None
    assert canvas.gates == (Gate("rmse", "at_most", 100.0),) and risk_class(canvas).name == "minimal"


def test_the_systems_gates_are_the_new_canvass_goals() -> None:
    declared = system(pn.gate("rmse", at_most=60_000), pn.gate("r2", at_least=0.5), pn.gate.better_than_baseline("mae"))
    canvas, mistakes = parse_canvas(canvas_file(declared))
    assert mistakes == [] and canvas is not None and canvas.gates == declared.gates[:2]


def test_a_whole_canvas_has_no_faults() -> None:
    assert keys(Canvas(whole())) == []


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("value", "name", "flats", "value.name"),
        ("data", "target", "rooms", "data.target"),
        ("data", "sources", ["data/houses.csv", "data/sales.csv"], "data.sources[1]"),
        ("fairness", "groups", ["plaice"], "fairness.groups[0]"),
        ("budgets", "min_rows_per_s", 0.1, "budgets.max_cost_per_1000"),
    ],
)
def test_what_contradicts_the_system_is_named_by_its_key(section: str, key: str, value: Any, expected: str) -> None:
    data = whole()
    data[section][key] = value
    assert keys(Canvas(data)) == [("contradiction", expected)]


def test_a_source_that_the_system_reads_must_be_listed() -> None:
    data = whole()
    data["data"]["sources"] = ["other.csv"]
    assert keys(Canvas(data)) == [("contradiction", "data.sources[0]"), ("contradiction", "data.sources")]


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ({"metric": "accuracy", "at_least": 0.9}, "goals[0].metric"),
        ({"metric": "r2", "at_most": 0.9}, "goals[0].at_most"),
        ({"metric": "rmse", "at_most": 50_000}, "goals[0].at_most"),
    ],
)
def test_a_goal_that_the_system_cannot_hold_is_named(goal: dict[str, Any], expected: str) -> None:
    data = {**whole(), "goals": [goal]}
    assert keys(Canvas(data), system(pn.gate("rmse", at_most=60_000))) == [("contradiction", expected)]


def test_phases_end_in_their_order_and_the_bundle_keeps_its_budget() -> None:
    data = whole()
    first = data["phases"][0]
    data["phases"] = [first, {**first, "until": first["until"].replace(year=2025)}]
    assert keys(Canvas(data), size=6_000_000) == [
        ("contradiction", "phases[1].until"),
        ("contradiction", "budgets.max_size_mb"),
    ]
    assert keys(Canvas(whole()), size=4_999_999) == []


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("[[goals]]\nmetric = 'rsme'\nat_most = 1", "goals[0].metric", "no metric has that name; did you mean 'rmse'?"),
        ("[[goals]]\nat_most = 1", "goals[0].metric", "is missing"),
        ("[[goals]]\nmetric = 'rmse'\nat_most = 'low'", "goals[0].at_most", "give a number"),
        ("[[goals]]\nmetric = 'rmse'\nat_most = nan", "goals[0].at_most", "give a number"),
        ("[[goals]]\nmetric = 'rmse'\nat_most = 1\nat_least = 0", "goals[0]", "keep one"),
        ("[goals]\nmetric = 'rmse'", "goals", "[[goals]]"),
        ("goals = [3]", "goals[0]", "make it a table"),
        ("value = 3", "value", "make it a table"),
        ("[valeu]", "valeu", "did you mean 'value'?"),
        ("[budgets]\np99_ms = 3", "budgets.p99_ms", "did you mean 'max_p99_ms'?"),
        ("[budgets]\nmax_p99_ms = -1", "budgets.max_p99_ms", "above 0"),
        ("[budgets]\navailability = 99.9", "budgets.availability", "between 0 and 1"),
        ("[budgets]\nmax_p99_ms = true", "budgets.max_p99_ms", "above 0"),
        ("[ai_act]\narea = 'schools'", "ai_act.area", "known: "),
        ("[ai_act]\nnarrow_task = 'yes'", "ai_act.narrow_task", "true or false"),
        ("[[phases]]\nuntil = '2026-01-01'", "phases[0].until", "give a date"),
        ("[value]\npains = 'many'", "value.pains", "list of texts"),
        ("format = 2", "format", "reads 1"),
        ("value = [", "the file", "not TOML"),
    ],
)
def test_every_mistake_is_named_by_its_key(text: str, key: str, words: str) -> None:
    canvas, (mistake, *others) = parse_canvas(text)
    assert canvas is None and others == []
    assert mistake.key == key and words in mistake.message


def test_a_canvas_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert read_canvas(tmp_path) is None
    path = tmp_path / "canvas.toml"
    path.write_text("[a]\n[b]\n")
    with pytest.raises(DeclarationError, match=r"canvas.toml: a: no section .* \(2 mistakes; `perron canvas check`"):
        read_canvas(tmp_path)
    path.write_bytes(b"\xff")
    with pytest.raises(DeclarationError, match="isn't UTF-8"):
        read_canvas(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DeclarationError, match="Can't read"):
        read_canvas(tmp_path)


@pytest.mark.parametrize(
    ("answers", "name", "reason"),
    [
        ({}, "minimal", "no question"),
        ({"prohibited_practice": True}, "prohibited", "Article 5"),
        ({"safety_component": True}, "high", "Article 6(1)"),
        ({"area": "employment"}, "high", "Article 6(2)"),
        ({"area": "employment", "narrow_task": True}, "minimal", "register it"),
        ({"area": "employment", "narrow_task": True, "profiles_people": True}, "high", "profiles"),
        ({"profiles_people": True}, "minimal", "no question"),
        ({"meets_people": True, "makes_content": True}, "limited", "Article 50(1)"),
        ({"area": None}, "unknown", "ai_act.area"),
        ({"area": None, "prohibited_practice": True}, "prohibited", "Article 5"),
    ],
)
def test_the_ai_act_class_follows_from_the_answers(answers: dict[str, Any], name: str, reason: str) -> None:
    given = {key: value for key, value in {**NO, **answers}.items() if value is not None}
    risk = risk_class(Canvas({"ai_act": given}))
    assert risk.name == name and reason in risk.reasons[0]


def test_a_goal_is_an_alert_rule_where_nobody_wrote_others(tmp_path: Path) -> None:
    def limits() -> dict[str, float | None]:
        return {rule.name: rule.at_most for rule in read_settings(tmp_path, system()).rules if rule.at_most is not None}

    assert limits() == {}
    (tmp_path / "canvas.toml").write_text("[[goals]]\nmetric = 'rmse'\nat_most = 60000\n")
    assert limits() == {"rmse at most 60000": 60_000}
    (tmp_path / "canvas.toml").write_text("[[goals]]\nmetric = 'rmse'\nat_most = 50000\n")
    assert limits() == {"rmse at most 50000": 50_000}


def test_the_page_holds_every_word_and_escapes_it() -> None:
    data = whole()
    data["value"]["product"] = "<script>alert(1)</script>"
    data["fairness"]["groups"] = ["plaice"]
    canvas = Canvas(data)
    page = render(canvas, "houses", find_faults(canvas, system()))
    assert "<script" not in page and "&lt;script" in page and "http" not in page.replace("http-equiv", "")
    for word in (
        "surveys take weeks",
        "at most 60000",
        "the agent",
        "GDPR",
        "Cleo",
        "ten agents use it",
        "2026-09-30",
        "minimal",
        "fairness.groups[0]",
    ):
        assert word in page, word
    assert "Complete, and as" in render(Canvas(whole()), "houses", [])


def test_the_project_card_is_markdown_without_what_is_missing() -> None:
    card = render_card(Canvas(whole()), "houses")
    assert card.startswith("# houses\n\nAn estimate of a house's price\n")
    assert "| EU AI Act | minimal |" in card and "| rmse | at most 60000 |" in card
    empty = render_card(Canvas({"value": {"product": "a | b"}}), "houses")
    assert "a \\| b" in empty and "Owners" not in empty and "| EU AI Act | unknown |" in empty


def test_words_of_the_model_card_leave_out_what_is_missing() -> None:
    canvas = Canvas({"value": {"product": "P", "measure": " "}, "owners": {"data": "Ben"}})
    assert canvas.words == [["product", "P"], ["owner of data", "Ben"]]
    assert replace(canvas, data=whole()).words[-1][0] == "EU AI Act"


@pytest.mark.browser
def test_a_whole_canvas_is_printed_on_one_sheet(tmp_path: Path) -> None:
    chromium = need("chromium")
    (tmp_path / "canvas.html").write_text(render(Canvas(whole()), "houses", []))
    subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={tmp_path / 'profile'}",
         f"--print-to-pdf={tmp_path / 'canvas.pdf'}", (tmp_path / "canvas.html").as_uri()],
        check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    pages = re.findall(rb"/Type /Page\b(?!s)", (tmp_path / "canvas.pdf").read_bytes())
    assert len(pages) == 1
