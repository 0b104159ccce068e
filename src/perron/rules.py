"""The declaration of rules about a table, beside its contract: what must hold of rows together; data, no verbs.

    from perron import rules

    pn.System(…, checks=[
        rules.unique("order"),
        rules.expression("total_bedrooms <= total_rooms", stop=0.01),
        rules.rows(at_least=1_000),
        rules.freshness("day", within=timedelta(days=2), then="warn"),
    ])

Rules of single rows (`unique`, `expression`, `references`) send the rows that break them to
quarantine; above a share of rows they warn (`warn`) or stop (`stop`). Rules of the whole table
(`rows`, `freshness`, `nulls`, `mean`) warn or stop by `then`. They are judged in `perron.check.rules`.
"""

import ast
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from perron.contract import Schema
from perron.errors import DeclarationError, nearest
from perron.source import hide

__all__ = [
    "Rule",
    "check_rule",
    "expression",
    "freshness",
    "mean",
    "nulls",
    "parse_expression",
    "references",
    "rows",
    "type_of",
    "unique",
]

Kind = Literal["unique", "expression", "references", "rows", "freshness", "nulls", "mean"]
Then = Literal["warn", "stop"]
ROW_KINDS = ("unique", "expression", "references")
NODES = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.BinOp, ast.Add, ast.Sub, ast.Mult,
    ast.Div, ast.Compare, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq, ast.Name, ast.Load, ast.Constant,
)  # fmt: skip
MOST_CHARACTERS = 1_000


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: its kind, what it is about, and when it warns or stops.

    `warn` and `stop` are shares of the rows (of rules of single rows; None is never); `low` and `high`
    bound a count, a share or a mean; `within_s` is in seconds; `other` names a source and its column.
    """

    kind: Kind
    fields: tuple[str, ...] = ()
    text: str | None = None
    other: tuple[str, str] | None = None
    low: float | None = None
    high: float | None = None
    within_s: float | None = None
    warn: float | None = 0.0
    stop: float | None = None

    @property
    def name(self) -> str:
        """What reports call it: `unique(order)`, `total_bedrooms <= total_rooms`, `mean(price) ≥ 10`."""
        if self.text is not None:
            return self.text
        about = f"{self.kind}({', '.join(self.fields)})" if self.fields else self.kind
        span = None if self.within_s is None else timedelta(seconds=self.within_s)
        bounds = [("≥", self.low), ("≤", self.high), ("≤", span)]
        words = [f"{sign} {bound}" for sign, bound in bounds if bound is not None]
        return f"{about} {' and '.join(words)}" if words else about

    @property
    def expected(self) -> str:
        """What must hold, in words."""
        match self.kind:
            case "expression":
                return str(self.text)
            case "unique":
                return f"a {' and '.join(self.fields)} that no earlier row has"
            case "references":
                assert self.other is not None
                return f"a {self.fields[0]} that is in {self.other[1]} of {hide(self.other[0])}"
            case "freshness":
                return f"a newest {self.fields[0]} at most {timedelta(seconds=self.within_s or 0)} old"
            case _:
                noun = {"rows": "rows", "nulls": "a share of nulls", "mean": "a mean"}[self.kind]
                bounds = [f"{s} {b:g}" for s, b in (("≥", self.low), ("≤", self.high)) if b is not None]
                return f"{noun} {' and '.join(bounds)}"


def unique(*fields: str, warn: float | None = 0.0, stop: float | None = None) -> Rule:
    """No two rows have the same values in these fields; the first one stays, the later ones go to quarantine.

    A row with a null among them breaks nothing.

    Raises:
        DeclarationError: no field, or a share that isn't one.
    """
    if not fields:
        raise DeclarationError("rules.unique has no field; name those that tell rows apart.")
    return Rule(kind="unique", fields=fields, warn=_share("warn", warn), stop=_share("stop", stop))


def expression(text: str, *, warn: float | None = 0.0, stop: float | None = None) -> Rule:
    """A comparison of fields that holds in every row: `"total_bedrooms <= total_rooms"`.

    Names are fields; numbers, texts, `+ - * /`, comparisons, `and`, `or`, `not` and `abs(…)` are
    understood, and nothing else. Arithmetic is in float64. Where a value is missing so that the answer is
    unknown, the rule isn't broken.

    Raises:
        DeclarationError: it isn't such an expression, or a share isn't one.
    """
    tree = parse_expression(text)
    names = dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id != "abs")
    if not names:
        raise DeclarationError(f"The expression {text!r} names no field.")
    return Rule(kind="expression", text=text, fields=tuple(names), warn=_share("warn", warn), stop=_share("stop", stop))


def references(field: str, source: str, column: str, *, warn: float | None = 0.0, stop: float | None = None) -> Rule:
    """Every value of the field is in a column of another source, whose distinct values are held in memory.

    Raises:
        DeclarationError: a share that isn't one.
    """
    return Rule(
        kind="references", fields=(field,), other=(source, column), warn=_share("warn", warn), stop=_share("stop", stop)
    )


def rows(*, at_least: int | None = None, at_most: int | None = None, then: Then = "stop") -> Rule:
    """The number of good rows lies within bounds.

    Raises:
        DeclarationError: no bound, or an impossible one.
    """
    return _table_rule("rows", (), at_least, at_most, then)


def freshness(field: str, *, within: timedelta, then: Then = "stop") -> Rule:
    """The newest value of a date or datetime is at most so old.

    Raises:
        DeclarationError: `within` isn't a timedelta above 0.
    """
    if not isinstance(within, timedelta) or within <= timedelta(0):
        raise DeclarationError(f"rules.freshness is within {within!r}; give a timedelta above 0.")
    return Rule(kind="freshness", fields=(field,), within_s=within.total_seconds(), **_levels(then))


def nulls(field: str, *, at_most: float, then: Then = "stop") -> Rule:
    """The share of rows without the field is at most so high.

    Raises:
        DeclarationError: `at_most` isn't a share.
    """
    return Rule(kind="nulls", fields=(field,), high=_share("at_most", at_most), **_levels(then))


def mean(field: str, *, at_least: float | None = None, at_most: float | None = None, then: Then = "stop") -> Rule:
    """The mean of a number lies within bounds.

    Raises:
        DeclarationError: no bound, or an impossible one.
    """
    return _table_rule("mean", (field,), at_least, at_most, then)


def _table_rule(kind: Kind, fields: tuple[str, ...], low: Any, high: Any, then: Then) -> Rule:
    bounds = [bound for bound in (low, high) if bound is not None]
    is_number = all(isinstance(b, int | float) and not isinstance(b, bool) and math.isfinite(b) for b in bounds)
    if not bounds or not is_number or bounds != sorted(bounds):
        raise DeclarationError(f"rules.{kind} has the bounds {low!r} and {high!r}; give at_least, at_most or both.")
    return Rule(kind=kind, fields=fields, low=low, high=high, **_levels(then))


def _levels(then: Any) -> dict[str, Any]:
    if then not in ("warn", "stop"):
        raise DeclarationError(f"A rule's `then` is {then!r}; use 'warn' or 'stop'.")
    return {"warn": 0.0, "stop": 0.0 if then == "stop" else None}


def _share(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise DeclarationError(f"A rule's {name} is {value!r}; give a share of the rows from 0 to 1, or None.")
    return float(value)


def parse_expression(text: str) -> ast.expr:
    """The tree of an expression that holds nothing but what `expression` allows. It is never run.

    Raises:
        DeclarationError: it holds something else.
    """
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        raise DeclarationError(f"An expression is {text!r:.60}; give text of at most {MOST_CHARACTERS} characters.")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DeclarationError(f"The expression {text!r} can't be read: {str(error).splitlines()[0]}.") from error
    for node in ast.walk(tree):
        is_abs = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "abs"
            and len(node.args) == 1
            and not node.keywords
        )
        is_plain = not isinstance(node, ast.Constant) or type(node.value) in (int, float, str, bool)
        if not (is_abs or isinstance(node, NODES)) or not is_plain:
            what = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise DeclarationError(
                f"The expression {text!r} holds {what!r:.60}; only fields, numbers, texts, + - * /, comparisons, "
                "and, or, not and abs() are allowed."
            )
    return tree.body


def type_of(node: ast.expr, schema: Schema, text: str) -> str:
    """What an expression gives: `number`, `bool`, `text`, `date` or `datetime`.

    Raises:
        DeclarationError: its parts don't go together.
        ContractError: a name isn't a field.
    """

    def demand(part: ast.expr, *kinds: str) -> str:
        kind = type_of(part, schema, text)
        if kind not in kinds:
            raise DeclarationError(f"In {text!r}, {ast.unparse(part)!r} is {kind}; expected {' or '.join(kinds)}.")
        return kind

    match node:
        case ast.Name(id=name):
            field = schema[name]
            if field.kind in ("float", "int") or field.is_numeric_category:
                return "number"
            return "text" if field.kind == "category" else field.kind
        case ast.Constant(value=value):
            return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"
        case ast.BoolOp(values=values):
            for part in values:
                demand(part, "bool")
            return "bool"
        case ast.UnaryOp(op=op, operand=operand):
            return demand(operand, "bool" if isinstance(op, ast.Not) else "number")
        case ast.BinOp(left=left, right=right):
            demand(left, "number")
            return demand(right, "number")
        case ast.Call(args=[part]):
            return demand(part, "number")
        case ast.Compare(left=left, comparators=others):
            kind = type_of(left, schema, text)
            for part in others:
                demand(part, kind)
            return "bool"
    raise DeclarationError(f"The expression {text!r} can't be understood.")


def check_rule(rule: Rule, schema: Schema) -> None:
    """Nothing, when the rule fits the contract.

    Raises:
        DeclarationError: it doesn't; says what to change.
    """
    if not isinstance(rule, Rule):
        raise DeclarationError(f"A check is {rule!r}; make it with perron.rules.")
    known = [field.name for field in schema.fields]
    for name in rule.fields:
        if name not in known:
            raise DeclarationError(f"The check {rule.name!r} names {name!r}; {nearest(name, known)}")
    if rule.kind == "expression":
        assert rule.text is not None
        tree = parse_expression(rule.text)
        if type_of(tree, schema, rule.text) != "bool":
            raise DeclarationError(f"The expression {rule.text!r} is no comparison; write what must hold of a row.")
    kinds = {"mean": ("float", "int"), "freshness": ("date", "datetime")}.get(rule.kind)
    if kinds and schema[rule.fields[0]].kind not in kinds:
        raise DeclarationError(
            f"The check {rule.name!r} is about {schema[rule.fields[0]].kind}; it goes with {' or '.join(kinds)}."
        )
