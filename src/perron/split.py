"""A snapshot's rows in, a part (train or test) for each out: random, stratified or by time."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from perron.contract import Role, Schema
from perron.errors import DataError, DeclarationError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Split", "by_time", "check_seed", "random", "split_rows", "stratified"]


@dataclass(frozen=True)
class Split:
    """How rows are parted: the kind, the share of test rows, and the seed where chance decides."""

    kind: Literal["random", "stratified", "by_time"]
    test: float
    seed: int | None = None


def random(test: float = 0.2, seed: int = 42) -> Split:
    """A split by chance.

    Args:
        test: the share of test rows, between 0 and 1.
        seed: the same seed gives the same parts.

    Raises:
        DeclarationError: a share that leaves one part empty.
    """
    return Split("random", _share(test), check_seed(seed, "the split"))


def stratified(test: float = 0.2, seed: int = 42) -> Split:
    """A split by chance within each class of the target; of a number, within its tenths.

    Raises:
        DeclarationError: a share that leaves one part empty.
    """
    return Split("stratified", _share(test), check_seed(seed, "the split"))


def by_time(test: float = 0.2) -> Split:
    """A split at a moment: the newest rows by the contract's Time field are the test rows.

    Rows of one moment stay together, so that no moment is in both parts; rows without one are train rows.

    Raises:
        DeclarationError: a share that leaves one part empty.
    """
    return Split("by_time", _share(test))


def check_seed(seed: object, owner: str) -> int:
    """The seed.

    Raises:
        DeclarationError: it isn't a whole number from 0 to 2³² - 1: without one, chance can't be repeated.
    """
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise DeclarationError(f"The seed of {owner} is {seed!r:.40}; give a whole number ≥ 0.")
    return seed


def _share(test: float) -> float:
    if not isinstance(test, int | float) or isinstance(test, bool) or not 0 < test < 1:
        raise DeclarationError(
            f"The split's share of test rows is {test!r}; give a number between 0 and 1, such as 0.2."
        )
    return float(test)


def split_rows(split: Split, table: "pa.Table", schema: Schema) -> Any:
    """For each row whether it is a test row: bool (n,).

    Raises:
        DataError: too few rows for two parts, or a class of the target with one row (stratified).
    """
    import numpy as np

    rows = table.num_rows
    wanted = round(rows * split.test)
    if not 1 <= wanted <= rows - 1:
        raise DataError(
            f"{rows} good rows can't be split into train and test with a share of {split.test}; bring more rows."
        )
    is_test = np.zeros(rows, bool)
    if split.kind == "by_time":
        time = schema.with_role(Role.TIME)
        assert time is not None  # System refuses a split by time without a Time field
        column = table[time.name]
        moments = column.drop_null().to_pandas().to_numpy()
        if not moments.size:
            raise DataError(f"No row has a {time.name}, so none is the newest; bring moments, or split at random.")
        border = np.sort(moments)[max(moments.size - wanted, 0)]
        is_test[np.asarray(column.is_valid())] = moments >= border
        if is_test.all():
            raise DataError(
                f"All of the newest {split.test:.0%} of the rows share the moment {border}; a split by time leaves no train rows."
            )
        return is_test
    generator = np.random.default_rng(split.seed)
    if split.kind == "random":
        is_test[generator.permutation(rows)[:wanted]] = True
        return is_test
    strata = _strata(table, schema)
    for stratum in np.unique(strata):
        places = np.flatnonzero(strata == stratum)
        if places.size < 2:
            raise DataError(
                f"The class {table[schema.target.name][int(places[0])].as_py()!r} has one row, "  # type: ignore[union-attr]
                "which can't be in both parts; drop the class, or split at random."
            )
        share = min(max(round(places.size * split.test), 1), places.size - 1)
        is_test[generator.permutation(places)[:share]] = True
    return is_test


def _strata(table: "pa.Table", schema: Schema) -> Any:
    import numpy as np

    assert schema.target is not None
    target = table[schema.target.name]
    if schema.target.kind in ("float", "int"):
        values = np.asarray(target, dtype=float)
        return np.searchsorted(np.quantile(values, np.linspace(0, 1, 11)[1:-1]), values)
    return np.asarray(target.combine_chunks().dictionary_encode().indices)
