"""The declaration of a system: a name, a contract, a source, a split, a model and gates; data, no verbs.

system = pn.System("house-prices", House, source="data/housing.csv", gates=[pn.gate("rmse", at_most=60_000)])

@system.features
def features(xp, c):
    return {"rooms_per_household": c.total_rooms / c.households}

@system.model
def model(params):
    return sklearn.linear_model.Ridge(**params)
"""

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, TypeVar

from perron.cleaning import Cleaning, check_cleaning
from perron.contract import Contract, Role, Schema, SensitiveHow, schema_of
from perron.errors import DeclarationError, PerronError, nearest
from perron.gates import Gate
from perron.history import Past, check_history, requested
from perron.metrics import METRICS, task_of
from perron.rollout import Rollout, check_rollout
from perron.rules import Rule, check_rule
from perron.source import Description, Readable, is_opened
from perron.split import Split, by_time, check_seed, grouped, random, stratified

__all__ = ["System", "load_system"]

Function = TypeVar("Function", bound=Callable[..., Any])
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class System:
    """A machine learning system, declared once; everything else is derived from it.

    Args:
        name: lower-case letters, digits and hyphens; it names the model, the service and the image.
        contract: the class that describes the rows, with a target.
        source: a path, relative to the folder of system.py; a URL; what a function of `perron.source`
            made; or a function that returns or yields tables.
        split: how rows are parted into train and test; by default by time where the contract has a
            pn.Time field, grouped where it has a pn.Group field, else stratified for classes and random
            for numbers.
        gates: what a model must reach before it is registered; by default, to beat the naive baseline.
        params: keyword arguments for the model function, or for the default model's LightGBM.
        seed: for everything in training that is left to chance.
        max_bad_share: the share of rows that may break the contract before a run stops.
        checks: rules about rows together, made with `perron.rules`.
        cleaning: what is done to columns before the model sees them, made with `perron.cleaning`.
        rollout: how a version that passed its gates meets requests, made with `perron.rollout`; None: it becomes
            the champion at once.
        sensitive: what the prediction log keeps of `pn.Sensitive` fields: `hash`, a digest with the
            project's secret, by which one person's rows are still known as such, or `drop`, nothing.
        labels: the labelled table that `perron label import` writes, a Parquet file relative to the folder of
            system.py; its rows are trained on beside the source's.
        history: lags and rolling statistics along the Time field, made with `perron.history`.

    Raises:
        DeclarationError: a part that makes no sense, or parts that contradict each other.
    """

    def __init__(
        self,
        name: str,
        contract: type[Contract] | Schema,
        *,
        source: Readable,
        split: Split | None = None,
        gates: Sequence[Gate] | None = None,
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        max_bad_share: float = 0.05,
        checks: Sequence[Rule] = (),
        cleaning: Sequence[Cleaning] = (),
        sensitive: SensitiveHow = "hash",
        rollout: Rollout | None = None,
        labels: str | None = None,
        history: Sequence[Past | tuple[Past, ...]] = (),
    ) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise DeclarationError(
                f"The system's name is {name!r}; use up to 63 lower-case letters, digits and hyphens."
            )
        self.name = name
        self.schema = schema_of(contract)
        self.task = task_of(self.schema)
        self.source = _check_source(source, name)
        self.split = split if split is not None else self._default_split()
        self._check_split()
        self.history = check_history(history, self.schema, self.split, name)
        self.schema = requested(self.schema, self.history)
        if isinstance(gates, Gate | str) or not isinstance(gates or (), Sequence):
            raise DeclarationError(f"The gates of {name} are {gates!r:.60}; give a list: gates=[pn.gate(…)].")
        self.gates = tuple(gates) if gates is not None else (self._default_gate(),)
        for gate in self.gates:
            self._check_gate(gate)
        if not isinstance(params or {}, Mapping):
            raise DeclarationError(f"The params of {name} are {params!r:.60}; give a dict.")
        self.params = dict(params or {})
        self.seed = check_seed(seed, name)
        if not isinstance(max_bad_share, int | float) or not 0 <= max_bad_share <= 1:
            raise DeclarationError(f"max_bad_share of {name} is {max_bad_share!r}; give a share from 0 to 1.")
        self.max_bad_share = float(max_bad_share)
        self.checks = tuple(checks)
        for place, rule in enumerate(self.checks):
            check_rule(rule, self.schema)
            if rule.name in [other.name for other in self.checks[:place]]:
                raise DeclarationError(f"{name} has the check {rule.name!r} twice; remove one.")
        self.cleaning = check_cleaning(cleaning, self.schema)
        if rollout is not None:
            if not isinstance(rollout, Rollout):
                raise DeclarationError(f"The rollout of {name} is {rollout!r:.60}; make it with perron.rollout.")
            if rollout.version.isdigit() or rollout.kind == "single":
                raise DeclarationError(
                    f"The rollout of {name} must be to an alias that a run can give, by canary, ab, shadow or bandit."
                )
            check_rollout(rollout, self.schema, self.task)
        self.rollout = rollout
        if sensitive not in ("hash", "drop"):
            raise DeclarationError(f"sensitive of {name} is {sensitive!r}; use 'hash' or 'drop'.")
        self.sensitive: SensitiveHow = sensitive
        if labels is not None and (not isinstance(labels, str) or not labels.endswith(".parquet") or "\0" in labels):
            raise DeclarationError(f"The labels of {name} are {labels!r:.60}; give the path of a Parquet file.")
        self.labels = labels
        self.features_function: Callable[..., Any] | None = None
        self.model_function: Callable[..., Any] | None = None

    def features(self, function: Function) -> Function:
        """Registers `function(xp, c)`: derived columns (name → array) from the contract's columns.

        `xp` is NumPy in training and a tracer when the graph is made, `c` holds one array (n,) per
        field that the model sees: float64 (missing is NaN), or text in categories and text fields.

        Raises:
            DeclarationError: there is one already, or it doesn't take two arguments.
        """
        if self.features_function is not None:
            raise DeclarationError(f"{self.name} has two features functions; merge them into one.")
        _check_arguments(function, "features", ("xp", "c"))
        self.features_function = function
        return function

    def model(self, function: Function) -> Function:
        """Registers `function(params)`: an unfitted scikit-learn estimator, LightGBM's included.

        An estimator alone gets Perron's preprocessing in front of it; a Pipeline that begins with a
        ColumnTransformer gets the columns as they are.

        Raises:
            DeclarationError: there is one already, or it doesn't take one argument.
        """
        if self.model_function is not None:
            raise DeclarationError(f"{self.name} has two model functions; keep one.")
        _check_arguments(function, "model", ("params",))
        self.model_function = function
        return function

    def _default_split(self) -> Split:
        if self.schema.with_role(Role.TIME) is not None:
            return by_time()
        if self.schema.with_role(Role.GROUP) is not None:
            return grouped()
        return stratified() if self.task == "classification" else random()

    def _check_split(self) -> None:
        if not isinstance(self.split, Split):
            raise DeclarationError(
                f"The split of {self.name} is {self.split!r}; use pn.split.random, stratified, grouped or by_time."
            )
        time, group = self.schema.with_role(Role.TIME), self.schema.with_role(Role.GROUP)
        if self.split.kind == "by_time" and time is None:
            raise DeclarationError(
                f"{self.name} is split by time, but {self.schema.name} has no pn.Time field; mark one, or split at random."
            )
        if self.split.kind == "grouped" and group is None:
            raise DeclarationError(
                f"{self.name} is split by groups, but {self.schema.name} has no pn.Group field; mark one, or split at random."
            )
        is_number = time is not None and time.kind in ("int", "float")
        if (self.split.gap_s and is_number) or (self.split.gap and not is_number):
            assert time is not None
            wanted = "a number, in its unit" if is_number else "a timedelta, such as timedelta(days=7)"
            raise DeclarationError(
                f"The gap of {self.name}'s split is along {time.name}, a {time.kind}; give {wanted}."
            )

    def _default_gate(self) -> Gate:
        return Gate("rmse" if self.task == "regression" else "log_loss", "better_than_baseline")

    def _check_gate(self, gate: Gate) -> None:
        if not isinstance(gate, Gate):
            raise DeclarationError(f"A gate of {self.name} is {gate!r}; make it with pn.gate.")
        if METRICS[gate.metric].task != self.task:
            fitting = [name for name, m in METRICS.items() if m.task == self.task]
            raise DeclarationError(
                f"The gate {gate.name!r} is on a metric for {METRICS[gate.metric].task}, and {self.name} is {self.task}; use {', '.join(fitting)}."
            )


def _check_source(source: Any, name: str) -> Readable:
    if isinstance(source, str | Path) and str(source) and "\0" not in str(source):
        return str(source)
    if isinstance(source, Description) or is_opened(source) or callable(source):
        return source  # type: ignore[no-any-return]
    raise DeclarationError(
        f"The source of {name} is {source!r:.80}; give a path, a URL, what perron.source makes, or a function."
    )


def _check_arguments(function: Callable[..., Any], what: str, expected: tuple[str, ...]) -> None:
    try:
        inspect.signature(function).bind(*expected)
    except TypeError:
        raise DeclarationError(
            f"The {what} function {getattr(function, '__name__', repr(function))!r} must take {len(expected)} argument(s): {', '.join(expected)}."
        ) from None


def load_system(path: Path) -> System:
    """The one System that a Python file declares.

    The file is run as the module `system`, with its folder on the import path.

    Raises:
        DeclarationError: there is no such file, it fails (with the line), or it declares none or several.
        ContractError: its contract makes no sense.
    """
    if not path.is_file():
        raise DeclarationError(f"There is no {path}; run this in a project's folder, or make one with `perron init`.")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location("system", path, loader=_Uncached("system", str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["system"] = module
    try:
        spec.loader.exec_module(module)
    except PerronError as error:
        raise type(error)(f"{_place(error, path)}{error}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DeclarationError(f"{_place(error, path)}{reason}") from error
    systems = {name: value for name, value in vars(module).items() if isinstance(value, System)}
    if len({id(value) for value in systems.values()}) != 1:
        found = ", ".join(systems) if systems else nearest("system", ())
        raise DeclarationError(
            f"{path} declares {len(systems)} systems ({found}); it must declare one: system = pn.System(…)."
        )
    return next(iter(systems.values()))


class _Uncached(SourceFileLoader):
    """Compiles a file whenever it is loaded: Python judges bytecode by whole seconds, in which a script may write it twice."""

    def path_stats(self, path: Any) -> Any:
        raise OSError


def _place(error: BaseException, path: Path) -> str:
    """`system.py:12: `, the last line of the user's file that the error passed through."""
    if isinstance(error, SyntaxError):
        return f"{path.name}:{error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path.name}:{lines[-1]}: " if lines else f"{path.name}: "
