"""Sketches and a sample in; findings out: what in a table costs a model, the dearest first."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np

from perron.profile.associations import Rows, correlations
from perron.sketch import ColumnSketch, TableSketch

__all__ = ["Finding", "find", "is_class", "is_id", "is_row_number", "moment", "number", "percent"]

Severity = Literal["high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")
# Within a severity, in the order of what they cost a model.
KINDS = (
    "leakage", "target_missing", "target_constant", "imbalanced_target", "nonfinite", "mixed_types", "mixed_units",
    "mixed_formats", "sentinel", "dates_out_of_range", "duplicate_rows", "negative", "id", "empty", "constant",
    "duplicate_columns", "missing", "missing_together", "nearly_constant", "time_gaps", "outliers", "high_cardinality",
    "skew", "leading_zeros", "redundant",
)  # fmt: skip
DETERMINED = 0.998  # the share of a target's spread from which a column is said to determine it
FEWEST_ROWS = 30
MOST_PAIRED = 400
AMOUNT = re.compile(
    r"(^|[_\W])(age|price|count|cnt|amount|total|qty|quantity|income|population|area|length|width|height|weight|"
    r"distance|duration|rooms|salary|cost|households|n)($|[_\W])",
    re.IGNORECASE,
)
ID_NAME = re.compile(r"(^|_)(id|uuid|guid|key|index|idx|rowid|instant|row)$", re.IGNORECASE)
SENTINELS = {-9999.0, -999.0, -99.0, -9.0, -1.0, 999.0, 9999.0, 99999.0, 999999.0}
WITH_UNIT = re.compile(r"^\s*[-+]?\d+(?:[.,]\d+)?\s*([A-Za-z%€$£°µ\"']{1,6})\s*$|^\s*([€$£])\s*\d")
NUMBER = re.compile(r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")
DATES = {
    "2024-12-31": re.compile(r"^\d{4}-\d{1,2}-\d{1,2}"),
    "31/12/2024": re.compile(r"^\d{1,2}/\d{1,2}/\d{2,4}"),
    "31.12.2024": re.compile(r"^\d{1,2}\.\d{1,2}\.\d{2,4}"),
    "2024/12/31": re.compile(r"^\d{4}/\d{1,2}/\d{1,2}"),
    "31 Dec 2024": re.compile(r"^\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4}"),
}


@dataclass(frozen=True)
class Finding:
    """One thing about a table that a model pays for; `column` is None where it is about rows."""

    kind: str
    column: str | None
    severity: Severity
    detail: str
    others: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "kind": self.kind, "column": self.column, "severity": self.severity, "detail": self.detail,
        }  # fmt: skip
        return {**made, "others": list(self.others)} if self.others else made


def find(sketch: TableSketch, rows: Rows, target: str | None = None) -> list[Finding]:
    """The findings of a table, the dearest first."""
    if not sketch.rows:
        return []
    found: list[Finding] = []
    for column in sketch.columns.values():
        found += _of_column(column, sketch)
    found += _doubles(sketch)
    found += _missing_together(rows)
    found += _same_columns(sketch, rows)
    if target is not None:
        found += _of_target(sketch.columns[target])
        found += _leaks(sketch, rows, target)
    order = list(sketch.columns)
    place = {name: i for i, name in enumerate(order)}
    return sorted(
        found, key=lambda f: (SEVERITIES.index(f.severity), KINDS.index(f.kind), place.get(f.column or "", -1))
    )


def is_class(column: ColumnSketch) -> bool:
    """Whether the column, as a target, is a class rather than a number."""
    few = column.distinct.is_exact and column.distinct.estimate <= 20
    return column.kind in ("text", "bool") or (column.kind == "number" and few and column.wholes == column.moments.n)


def is_id(column: ColumnSketch, rows: int) -> bool:
    """Whether a column only names the rows: nearly all different, and counting up, called an id, or a code word."""
    distinct = column.distinct.estimate
    if column.sensitive or column.given < FEWEST_ROWS or column.nulls or column.given < rows:
        return False
    if distinct < column.given * (1 if column.distinct.is_exact else 0.95) or column.top.counts.max(initial=0) > 1:
        return False
    if column.kind == "number":
        if column.wholes < column.moments.n or column.low is None or column.high is None:
            return False
        counts_up = column.high - column.low == column.moments.n - 1
        return counts_up or bool(ID_NAME.search(column.name))
    return column.kind == "text" and (column.high or 0) <= 64


def percent(share: float) -> str:
    """A share in words: `49.2 %`."""
    if 0 < share < 0.001:
        return "less than 0.1 %"
    if 0.9995 <= share < 1:
        return "more than 99.9 %"
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def _share(part: float, whole: float) -> str:
    return percent(part / whole if whole else 0.0)


def _values(count: int) -> str:
    return f"{count:,} value is" if count == 1 else f"{count:,} values are"


def number(value: float | None) -> str:
    """A number as people read it."""
    if value is None:
        return "none"
    if abs(value) >= 1e15 or (value != 0 and abs(value) < 1e-4):
        return f"{value:.3g}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"


def moment(seconds: float | None) -> str:
    """Seconds since 1970 as a date, with the time where there is one."""
    if seconds is None:
        return "none"
    try:
        made = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return f"the year {1970 + seconds / 31_556_952:.0f}"
    return made.strftime("%Y-%m-%d" if seconds % 86_400 == 0 else "%Y-%m-%d %H:%M")


def _of_column(c: ColumnSketch, sketch: TableSketch) -> Iterator[Finding]:
    name, rows = c.name, sketch.rows
    if c.nulls == rows:
        yield Finding("empty", name, "medium", "Every value is missing; drop the column.")
        return
    if c.nulls / rows > 0.2:
        severity: Severity = "medium" if c.nulls / rows > 0.5 else "low"
        yield Finding("missing", name, severity, f"{_share(c.nulls, rows)} of the values are missing.")
    if c.nonfinite:
        yield Finding("nonfinite", name, "high", f"{_values(c.nonfinite)} infinite; most models refuse such.")
    if c.misfits:
        what = {"number": "numbers", "time": "dates", "bool": "truth values"}.get(c.kind, c.kind)
        yield Finding("mixed_types", name, "high", f"{_values(c.misfits)} no {what} as the others are.")
    if c.sensitive or c.kind == "other" or not c.given:
        return
    distinct = c.distinct.estimate
    if distinct == 1 and c.given > 1:
        yield Finding("constant", name, "medium", "The same in every row; it tells a model nothing.")
        return
    most = int(c.top.counts.max(initial=0))
    if c.given >= 100 and most / c.given > 0.99:
        yield Finding("nearly_constant", name, "low", f"{_share(most, c.given)} of the values are the same.")
    elif is_id(c, rows):
        yield Finding("id", name, "medium", "Different in every row: an id, which a model would learn by heart.")
    elif c.kind == "text" and distinct > 100 and c.given >= FEWEST_ROWS:
        yield Finding(
            "high_cardinality", name, "medium" if distinct > c.given / 2 else "low",
            f"{'' if c.distinct.is_exact else 'About '}{distinct:,} different texts in {c.given:,} rows.",
        )  # fmt: skip
    if c.kind == "text":
        yield from _of_text(c, sketch)
    elif c.kind == "time":
        yield from _of_time(c)
    elif c.kind == "number":
        yield from _of_number(c)


def _of_number(c: ColumnSketch) -> Iterator[Finding]:
    name = c.name
    if c.negatives and AMOUNT.search(name) and c.negatives / c.given < 0.5:
        yield Finding(
            "negative",
            name,
            "medium",
            f"{_values(c.negatives)} negative, the least {number(c.low)}; odd for this name.",
        )
    if c.distinct.estimate < 10 or c.given < FEWEST_ROWS or c.low is None or c.high is None:
        return
    q01, q25, q50, q75, q99 = c.quantiles([0.01, 0.25, 0.5, 0.75, 0.99])
    spread = (q75 - q25) or (q99 - q01) / 4 or abs(q50) / 10 or 1.0
    for end, inner in ((c.low, q25), (c.high, q75)):
        count = next((count for value, count in c.top.most(c.top.size) if value == end), 0)
        if end in SENTINELS and count >= max(3, c.given * 0.001) and abs(end - inner) > 5 * spread:
            yield Finding(
                "sentinel",
                name,
                "high",
                f"{number(end)} comes {count:,} times, far from all others: a code for missing?",
            )
            return
    far = [end for end, inner in ((c.low, q25), (c.high, q75)) if abs(end - inner) > 10 * spread]
    if far:
        yield Finding(
            "outliers", name, "medium" if any(abs(e - q50) > 100 * spread for e in far) else "low",
            f"Reaches {' and '.join(number(end) for end in far)}, while 98 % lie from {number(q01)} to {number(q99)}.",
        )  # fmt: skip
    skew = c.moments.skew
    if skew is not None and abs(skew) > 2 and c.distinct.estimate > 20:
        yield Finding(
            "skew", name, "low", f"Skewed (skewness {skew:.1f}); a logarithm or ranks may help linear models."
        )


def _of_time(c: ColumnSketch) -> Iterator[Finding]:
    if c.low is None or c.high is None or c.times is None:
        return
    least, most = -2_208_988_800, 4_102_444_800  # 1900 and 2100
    if c.low < least or c.high > most:
        yield Finding(
            "dates_out_of_range", c.name, "high", f"From {moment(c.low)} to {moment(c.high)}; outside 1900–2100."
        )
        return
    shares = np.cumsum(c.times.counts) / c.times.counts.sum()
    inside = (shares[:-1] > 0.01) & (shares[:-1] < 0.99)  # the thin ends of a distribution aren't gaps
    steps = np.where(inside, np.diff(c.times.buckets), 0)
    if inside.sum() < FEWEST_ROWS:
        return
    usual, longest, width = float(np.median(steps[inside])), int(steps.max()), c.times.width_s
    is_regular = (steps[inside] == usual).mean() > 0.98
    # Of random moments the longest of n gaps is about ln(n) mean gaps; three times that is no accident.
    if longest > usual * (2.5 if is_regular else max(3.0, 3 * math.log(len(steps)))):
        at = float(c.times.buckets[int(steps.argmax())] * width)
        gaps = int((steps > 2 * usual).sum()) if is_regular else 0
        counted = f"{gaps:,} gaps, the longest" if gaps > 1 else "A gap"
        yield Finding(
            "time_gaps", c.name, "low",
            f"{counted} after {moment(at)} ({_duration(longest * width)}; usual step {_duration(usual * width)}).",
        )  # fmt: skip


def _duration(seconds: float) -> str:
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{number(round(seconds / size, 1))} {word}{'' if seconds == size else 's'}"
    return f"{number(seconds)} s"


def _of_text(c: ColumnSketch, sketch: TableSketch) -> Iterator[Finding]:
    """Judged by the different values: all of them where they were kept, else the sample's."""
    kept = sketch.sample.columns.get(c.name)
    frequent: Counter[str] = Counter({str(value): count for value, count in c.top.most(c.top.size)})
    if not c.top.is_exact and kept is not None:
        frequent = Counter(str(value) for value in kept if value is not None)
    total = sum(frequent.values())
    if total < 5:
        return
    like_numbers = sum(count for text, count in frequent.items() if NUMBER.match(text))
    if like_numbers / total > 0.9 and any(re.match(r"^\s*0\d", text) for text in frequent):
        yield Finding(
            "leading_zeros", c.name, "low", "Digits with leading zeros: a code; read it as text, not as a number."
        )
    elif 0.02 < like_numbers / total < 0.98:
        yield Finding(
            "mixed_types",
            c.name,
            "medium",
            f"{_share(like_numbers, total)} of the values are numbers, the others text.",
        )
    matches = [(WITH_UNIT.match(text), count) for text, count in frequent.items()]
    units: Counter[str] = Counter()
    for match, count in matches:
        if match:
            units[match[1] or match[2]] += count
    if sum(units.values()) / total > 0.8:
        listed = ", ".join(repr(unit) for unit, _ in units.most_common(4))
        if len(units) > 1:
            yield Finding("mixed_units", c.name, "high", f"Numbers in different units: {listed}; bring them to one.")
        else:
            yield Finding("mixed_units", c.name, "low", f"Numbers with the unit {listed} in the text; strip it.")
    dates = {form: sum(n for text, n in frequent.items() if shape.match(text)) for form, shape in DATES.items()}
    dates = {form: n for form, n in dates.items() if n}
    if sum(dates.values()) / total > 0.8 and len(dates) > 1:
        yield Finding("mixed_formats", c.name, "high", f"Dates in several formats, such as {' and '.join(dates)}.")
    elif c.distinct.estimate <= 1000:
        variants: dict[str, set[str]] = defaultdict(set)
        for text in frequent:
            variants[" ".join(text.casefold().split())].add(text)
        doubled = [sorted(group) for group in variants.values() if len(group) > 1]
        if doubled:
            example = " and ".join(repr(text) for text in doubled[0][:3])
            yield Finding(
                "mixed_formats",
                c.name,
                "medium",
                f"One value written in several ways: {example}{f', and {len(doubled) - 1:,} more such' if len(doubled) > 1 else ''}.",
            )


def _doubles(sketch: TableSketch) -> Iterator[Finding]:
    sample = sketch.sample
    seen = int(sample.counts.sum())
    ways = math.prod(max(1, c.distinct.estimate) for c in sketch.columns.values() if not c.sensitive)
    # Where there are few ways for rows to differ, chance makes copies.
    if len(sketch.columns) > 2 and ways > 10 * sketch.rows and seen > len(sample.hashes):
        share = 1 - len(sample.hashes) / seen
        about = "" if sample.is_whole else "About "
        yield Finding(
            "duplicate_rows", None, "medium" if share > 0.01 else "low",
            f"{about}{max(1, round(share * sketch.rows)):,} rows ({_share(share, 1)}) are copies of others; split them to one side.",
        )  # fmt: skip


def _missing_together(rows: Rows) -> Iterator[Finding]:
    groups: dict[bytes, list[str]] = defaultdict(list)
    for name, nulls in rows.nulls.items():
        if 5 <= int(nulls.sum()) < rows.size:
            groups[np.packbits(nulls).tobytes()].append(name)
    for names in groups.values():
        if len(names) > 1:
            count = int(rows.nulls[names[0]].sum())
            yield Finding(
                "missing_together", names[0], "low",
                f"Missing in the same rows ({_share(count, rows.size)}) as {_listed(names[1:])}.", tuple(names[1:]),
            )  # fmt: skip


def _listed(names: Iterable[str], most: int = 4) -> str:
    names = list(names)
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _same_columns(sketch: TableSketch, rows: Rows) -> Iterator[Finding]:
    if rows.size < 5:
        return
    groups: dict[bytes, list[str]] = defaultdict(list)
    for name, values in [*rows.numbers.items(), *rows.codes.items()]:
        if sketch.columns[name].distinct.estimate > 1:
            groups[values.dtype.str.encode() + values.tobytes()].append(name)
    for names in groups.values():
        for name in names[1:]:
            if name in rows.codes and sketch.sample.columns[name].tolist() != sketch.sample.columns[names[0]].tolist():
                yield Finding("redundant", name, "low", f"Tells the same as {names[0]}, in other words.", (names[0],))
            else:
                yield Finding("duplicate_columns", name, "medium", f"The same as {names[0]}; drop one.", (names[0],))


def _of_target(c: ColumnSketch) -> Iterator[Finding]:
    if c.nulls:
        yield Finding(
            "target_missing", c.name, "high", f"The target is missing in {c.nulls:,} rows, which teach nothing."
        )
    if c.sensitive or not c.given:
        return
    if c.distinct.estimate == 1:
        yield Finding("target_constant", c.name, "high", "The target has one value; there is nothing to learn.")
    elif is_class(c) and c.top.is_exact:
        least, most = int(c.top.counts.min()), int(c.top.counts.max())
        if most > 10 * least and c.given >= FEWEST_ROWS:
            value = c.top.most(c.top.size)[-1][0]
            severity: Severity = "high" if least / c.given < 0.01 else "medium"
            shown = number(value) if isinstance(value, float) else repr(value)
            yield Finding(
                "imbalanced_target", c.name, severity,
                f"The class {shown} has {_share(least, c.given)} of the rows, the largest {_share(most, c.given)}; accuracy will mislead.",
            )  # fmt: skip


def _leaks(sketch: TableSketch, rows: Rows, target: str) -> Iterator[Finding]:
    """Columns that tell the target, alone or as a weighted sum of two."""
    if rows.size < FEWEST_ROWS or sketch.columns[target].sensitive or target not in {**rows.numbers, **rows.codes}:
        return
    classes = is_class(sketch.columns[target])
    alone: set[str] = set()
    for name in [*rows.numbers, *rows.codes]:
        column = sketch.columns[name]
        if name == target or column.distinct.estimate < 2:
            continue
        score = _class_told(rows, name, target) if classes else _number_told(rows, name, target, is_row_number(column))
        if score > DETERMINED:
            alone.add(name)
            yield Finding(
                "leakage", name, "high",
                f"Tells {target} by itself ({percent(score)}); known only with the answer? Leave it out.", (target,),
            )  # fmt: skip
    for name, nulls in rows.nulls.items():
        if name not in alone and name != target and 5 <= nulls.sum() <= rows.size - 5:
            score = _missing_tells(rows, nulls, target, classes)
            if score > 0.99:
                alone.add(name)
                yield Finding(
                    "leakage", name, "high", f"Whether it is missing tells {target} ({percent(score)}).", (target,)
                )
    if target in rows.numbers and not classes:
        yield from _paired(sketch, rows, target, alone)


def is_row_number(column: ColumnSketch) -> bool:
    return column.kind == "time" or (
        column.kind == "number" and column.low is not None and column.high is not None
        and column.high - column.low == column.moments.n - 1 and column.wholes == column.moments.n
    )  # fmt: skip


def _number_told(rows: Rows, name: str, target: str, is_place: bool) -> float:
    """The share of a number's spread that a column determines, whatever the curve; 0 where too little is known."""
    y = rows.numbers.get(target)
    if y is None:
        return 0.0
    if name in rows.codes:
        return _told_by_groups(rows.codes[name], y)
    x = rows.numbers[name]
    both = ~np.isnan(x) & ~np.isnan(y)
    if both.sum() < max(FEWEST_ROWS, 0.2 * rows.size):
        return 0.0
    x, y = x[both], y[both]
    y = y / (np.abs(y).max() or 1.0)
    if is_place:  # a slow series is near its neighbour in time without being told by it
        r = correlations(np.column_stack([x, y]))[0, 1]
        return 0.0 if np.isnan(r) else float(r * r)
    variance = float(y.var())
    if variance <= 0:
        return 0.0
    order = np.lexsort((np.random.default_rng(0).permutation(len(x)), x))
    return 1 - 0.5 * float(np.mean(np.diff(y[order]) ** 2)) / variance  # von Neumann's ratio (1941)


def _told_by_groups(codes: Any, y: Any) -> float:
    both = (codes >= 0) & ~np.isnan(y)
    if both.sum() < FEWEST_ROWS:
        return 0.0
    y = y[both] / (np.abs(y[both]).max() or 1.0)
    group = np.unique(codes[both], return_inverse=True)[1]
    groups, total = int(group.max()) + 1, float(((y - y.mean()) ** 2).sum())
    if groups > 0.7 * len(y) or total <= 0:
        return 0.0
    means = np.bincount(group, y) / np.bincount(group)
    within = float(((y - means[group]) ** 2).sum())
    return 1 - (within / (len(y) - groups)) / (total / (len(y) - 1))


def _class_told(rows: Rows, name: str, target: str) -> float:
    """How much better than always the largest class a column tells a class, from 0 to 1."""
    y = _as_codes(rows, target)
    if name in rows.codes:
        x = rows.codes[name]
        both = (x >= 0) & (y >= 0)
        x, y = np.unique(x[both], return_inverse=True)[1], y[both]
        if len(y) < FEWEST_ROWS or x.max() + 1 > 0.5 * len(y):
            return 0.0
        kinds = int(y.max()) + 1
        if (int(x.max()) + 1) * kinds > 10_000_000:
            return 0.0
        table = np.bincount(x * kinds + y, minlength=(int(x.max()) + 1) * kinds).reshape(-1, kinds)
        alone = table.sum(1) == 1  # a value that comes once tells nothing by itself
        right = float(table.max(1)[~alone].sum()) / len(y)
    else:
        values = rows.numbers[name]
        both = ~np.isnan(values) & (y >= 0)
        values, y = values[both], y[both]
        if len(y) < max(FEWEST_ROWS, 0.2 * rows.size):
            return 0.0
        order = np.lexsort((np.random.default_rng(0).permutation(len(values)), values))
        changes = int((np.diff(y[order]) != 0).sum())
        steps = max(len(np.unique(values)), 2) - 1
        right = 1 - max(0, changes - min(steps, int(y.max(initial=0)) + 1)) / len(y)
    base = np.bincount(y).max() / len(y)
    return float((right - base) / (1 - base)) if base < 1 else 0.0


def _as_codes(rows: Rows, name: str) -> Any:
    if name in rows.codes:
        return rows.codes[name]
    values = rows.numbers[name]
    codes = np.full(len(values), -1, np.int64)
    given = ~np.isnan(values)
    codes[given] = np.unique(values[given], return_inverse=True)[1]
    return codes


def _missing_tells(rows: Rows, nulls: Any, target: str, classes: bool) -> float:
    if not classes:
        return _told_by_groups(nulls.astype(np.int64), rows.numbers[target]) if target in rows.numbers else 0.0
    y = _as_codes(rows, target)
    given = y >= 0
    y, x = y[given], nulls[given].astype(np.int64)
    if len(y) < FEWEST_ROWS:
        return 0.0
    kinds = int(y.max()) + 1
    right = np.bincount(x * kinds + y, minlength=2 * kinds).reshape(2, kinds).max(1).sum() / len(y)
    base = np.bincount(y).max() / len(y)
    return float((right - base) / (1 - base)) if base < 1 else 0.0


def _paired(sketch: TableSketch, rows: Rows, target: str, alone: set[str]) -> Iterator[Finding]:
    """Pairs of numbers whose weighted sum or difference is the target (least squares, checked row by row)."""
    names = [
        name for name in rows.numbers
        if name != target and name not in alone and sketch.columns[name].distinct.estimate > 2
    ]  # fmt: skip
    y = rows.numbers[target]
    if len(names) < 2:
        return
    if len(names) > MOST_PAIRED:  # those nearest to the target; a square of all columns may not fit in memory
        told_by = np.concatenate([_with_target(rows, names[i : i + 100], y) for i in range(0, len(names), 100)])
        names = [names[i] for i in np.argsort(-told_by, kind="stable")[:MOST_PAIRED]]
    r = correlations(np.column_stack([*(rows.numbers[name] for name in names), y]))
    with np.errstate(all="ignore"):
        ry, rxx = r[-1, :-1], r[:-1, :-1]
        told = (ry[:, None] ** 2 + ry[None, :] ** 2 - 2 * ry[:, None] * ry[None, :] * rxx) / (1 - rxx**2)
    told[~np.triu(np.ones_like(told, bool), 1) | ~np.isfinite(told) | (rxx**2 > 1 - 1e-9)] = 0
    flagged: set[str] = set()
    for place in np.argsort(-told, axis=None, kind="stable")[:20]:
        a, b = (names[int(i)] for i in np.unravel_index(int(place), told.shape))
        if told.flat[place] < DETERMINED or (a in flagged and b in flagged):
            continue
        both = ~np.isnan(rows.numbers[a]) & ~np.isnan(rows.numbers[b]) & ~np.isnan(y)
        if both.sum() < FEWEST_ROWS:
            continue
        design = np.column_stack([rows.numbers[a][both], rows.numbers[b][both], np.ones(int(both.sum()))])
        weights, *_ = np.linalg.lstsq(design, y[both], rcond=None)
        left = float(((y[both] - design @ weights) ** 2).sum()) / max(
            float(((y[both] - y[both].mean()) ** 2).sum()), 1e-300
        )
        if 1 - left < DETERMINED:
            continue
        plain = np.allclose(np.abs(weights[:2]), 1, rtol=1e-3)
        sign = "+" if weights[0] * weights[1] > 0 else "−"
        formula = f"{a} {sign} {b}" if plain else f"a weighted sum of {a} and {b}"
        for name, other in ((a, b), (b, a)):
            if name not in flagged:
                flagged.add(name)
                yield Finding(
                    "leakage", name, "high",
                    f"{formula} tells {target} ({percent(1 - left)}); known only with the answer? Leave both out.",
                    (other, target),
                )  # fmt: skip


def _with_target(rows: Rows, names: list[str], y: Any) -> Any:
    r = correlations(np.column_stack([*(rows.numbers[name] for name in names), y]))
    return np.abs(np.nan_to_num(r[-1, :-1]))
