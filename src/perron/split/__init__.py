"""The declaration of a split: how a snapshot's rows are parted into train and test, and in how many folds the train rows are.

What is declared here is data; `perron.split.rows` parts the rows, `perron.split.leaks` looks for what leaked.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from perron.errors import DeclarationError

__all__ = ["Split", "by_time", "check_seed", "grouped", "random", "stratified"]


@dataclass(frozen=True)
class Split:
    """How rows are parted: the kind, the share of test rows, the seed where chance decides, and the folds.

    `gap_s` (seconds, of dates) or `gap` (of numbers) is what lies unused between train and test rows of
    a split by time. With `folds` the train rows are parted again, in the same way, to see how much the
    metrics depend on the rows; 0 is none.
    """

    kind: Literal["random", "stratified", "grouped", "by_time"]
    test: float
    seed: int | None = None
    gap_s: float = 0.0
    gap: float = 0.0
    folds: int = 0


def random(test: float = 0.2, seed: int = 42, *, folds: int = 0) -> Split:
    """A split by chance; its folds are those of a k-fold cross-validation.

    Args:
        test: the share of test rows, between 0 and 1.
        seed: the same seed gives the same parts.
        folds: how many times the model is also fitted on all but one fold of the train rows, and scored on that one.

    Raises:
        DeclarationError: a share that leaves one part empty, a seed that isn't a whole number, or one fold.
    """
    return Split("random", _share(test), check_seed(seed, "the split"), folds=_folds(folds))


def stratified(test: float = 0.2, seed: int = 42, *, folds: int = 0) -> Split:
    """A split by chance within each class of the target; of a number, within its tenths.

    Raises:
        DeclarationError: as `random`.
    """
    return Split("stratified", _share(test), check_seed(seed, "the split"), folds=_folds(folds))


def grouped(test: float = 0.2, seed: int = 42, *, folds: int = 0) -> Split:
    """A split by chance that keeps each value of the contract's Group field in one part.

    With several Group fields, rows that share a value of any of them stay together. A row without a
    group is a group of its own. The share of test rows is met as nearly as whole groups allow.

    Raises:
        DeclarationError: as `random`.
    """
    return Split("grouped", _share(test), check_seed(seed, "the split"), folds=_folds(folds))


def by_time(test: float = 0.2, *, gap: timedelta | float = 0.0, folds: int = 0) -> Split:
    """A split at a moment: the newest rows by the contract's Time field are the test rows.

    Rows of one moment stay together, so that no moment is in both parts. Its folds are a backtest with
    a rolling origin: the train rows fall into `folds` + 1 stretches of time, and the model is fitted on
    the first one and scored on the second, fitted on the first two and scored on the third, and so on.

    Args:
        test: the share of test rows, between 0 and 1.
        gap: what lies between the last train row and the first test row, at least: a timedelta, or a
            number where the Time field is one. Rows within it are in neither part: what is known only
            later (a label after seven days) isn't known at the border.
        folds: how many times the origin rolls.

    Raises:
        DeclarationError: a share that leaves one part empty, a gap below 0, or one fold.
    """
    is_span = isinstance(gap, timedelta)
    size = gap.total_seconds() if isinstance(gap, timedelta) else gap
    if not isinstance(size, int | float) or isinstance(size, bool) or not 0 <= size < math.inf:
        raise DeclarationError(f"The split's gap is {gap!r}; give a timedelta of 0 or more, or a number ≥ 0.")
    size = float(size)
    return Split(
        "by_time", _share(test), gap_s=size if is_span else 0.0, gap=0.0 if is_span else size, folds=_folds(folds)
    )


def _share(test: Any) -> float:
    if not isinstance(test, int | float) or isinstance(test, bool) or not 0 < test < 1:
        raise DeclarationError(
            f"The split's share of test rows is {test!r}; give a number between 0 and 1, such as 0.2."
        )
    return float(test)


def check_seed(seed: object, owner: str) -> int:
    """The seed.

    Raises:
        DeclarationError: it isn't a whole number from 0 to 2³² - 1: without one, chance can't be repeated.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise DeclarationError(f"The seed of {owner} is {seed!r:.40}; give a whole number ≥ 0.")
    return seed


def _folds(folds: Any) -> int:
    if not isinstance(folds, int) or isinstance(folds, bool) or folds < 0 or folds == 1:
        raise DeclarationError(f"The split's folds are {folds!r}; give a whole number ≥ 2, or 0 for none.")
    return folds
