"""A source, a contract and rules in; a verdict on every rule, as JSON and as JUnit XML, out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.check.rules import RuleCheck, known_values
from perron.check.table import TableCheck
from perron.contract import Schema
from perron.rules import Rule
from perron.source import Source

__all__ = ["Checked", "check_source", "to_junit"]

CONTROL = {code: "�" for code in range(32) if code not in (9, 10, 13)}  # what XML can't hold


@dataclass(frozen=True)
class Checked:
    """What a check of a source found; `checks` has an entry for each rule of the contract and of the system."""

    source: str
    status: str
    rows: int
    bad: int
    max_bad_share: float
    checks: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "format": 1}


def check_source(
    source: Source,
    schema: Schema,
    rules: Sequence[Rule] = (),
    *,
    name: str,
    folder: Path = Path(),
    max_bad_share: float = 1.0,
    progress: Callable[[int], None] | None = None,
) -> Checked:
    """The verdict on every rule; nothing is written.

    The status is `stop` when a rule stops, or more than `max_bad_share` of the rows break the contract
    or a rule of single rows, or there are none; else `warn` when something is broken; else `passed`.

    Raises:
        SourceError: the source can't be read.
        DataError: a column is missing.
    """
    judge = RuleCheck(rules, schema, known_values(rules, schema, folder))
    table = TableCheck(schema, rules=judge)
    for batch in source.chunks():
        table(batch)
        if progress:
            progress(batch.num_rows)
    report = table.report
    bad = report.bad + judge.count_doubles()
    too_many = report.rows == 0 or bad > max_bad_share * report.rows or bad == report.rows
    checks: list[dict[str, Any]] = [
        {
            "name": "max_bad_share",
            "field": None,
            "status": "stop" if too_many else "passed",
            "expected": f"at most {max_bad_share:.1%} of the rows broken, and one that isn't",
            "rows": bad,
            "share": bad / report.rows if report.rows else None,
            "examples": [],
            "detail": f"{bad:,} of {report.rows:,} rows break the contract or a rule",
        }
    ]
    checks += _of_contract(schema, report)
    for verdict in judge.verdicts():
        rule = verdict.rule
        checks.append(
            {
                "name": rule.name,
                "field": rule.fields[0] if len(rule.fields) == 1 else None,
                "status": verdict.status,
                "expected": rule.expected,
                "rows": verdict.rows,
                "share": verdict.share,
                "examples": verdict.examples,
                "detail": verdict.detail,
            }
        )
    found = {check["status"] for check in checks}
    status = next((level for level in ("stop", "warn") if level in found), "passed")
    return Checked(name, status, report.rows, bad, max_bad_share, checks)


def _of_contract(schema: Schema, report: Any) -> list[dict[str, Any]]:
    """An entry per rule of each field; one that is broken warns: its rows go to quarantine."""
    entries = []
    for field in schema.fields:
        for rule in ("type", *field.rules):
            rows = report.counts.get((field.name, rule), 0)
            examples = [fault.message for fault in report.examples.get((field.name, rule), [])]
            entries.append(
                {
                    "name": f"{field.name}.{rule}",
                    "field": field.name,
                    "status": "warn" if rows else "passed",
                    "expected": field.expected if rule in ("type", "required") else field.expected_by(rule),
                    "rows": rows,
                    "share": rows / report.rows if report.rows else None,
                    "examples": examples,
                    "detail": f"{rows:,} rows: {'; '.join(examples)}" if rows else "no row breaks it",
                }
            )
    return entries


def to_junit(checked: Checked) -> str:
    """The checks as JUnit XML: one test case each; one that stops is a failure, one that warns has its words in system-out."""
    from xml.etree import ElementTree

    stopped = [check for check in checked.checks if check["status"] == "stop"]
    counts = {"tests": str(len(checked.checks)), "failures": str(len(stopped)), "errors": "0"}
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {"name": f"perron check {checked.source}".translate(CONTROL), **counts, "skipped": "0", "time": "0"},
    )
    for check in checked.checks:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": "perron.check", "name": check["name"].translate(CONTROL), "time": "0"}
        )
        text = check["detail"].translate(CONTROL)
        if check["status"] == "stop":
            ElementTree.SubElement(case, "failure", {"type": "stop", "message": text}).text = text
        elif check["status"] == "warn":
            ElementTree.SubElement(case, "system-out").text = text
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
