"""Systems: the defaults, what contradicts itself, and the loading of a system.py."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

import perron as pn
from perron.errors import ContractError, DeclarationError, PerronError
from perron.system import load_system


class House(pn.Contract):
    rooms: float
    price: Annotated[float, pn.Target]


class Visit(pn.Contract):
    day: Annotated[int, pn.Time]
    kind: Annotated[Literal["a", "b"], pn.Target]


class Flower(pn.Contract):
    width: float
    kind: Annotated[Literal["a", "b"], pn.Target]


class Nothing(pn.Contract, target=False):
    rooms: float


def system(contract: Any = House, **more: Any) -> pn.System:
    return pn.System(**{"name": "house-prices", "contract": contract, "source": "rows.csv", **more})


@pytest.mark.parametrize(
    ("contract", "task", "split", "metric"),
    [
        (House, "regression", "random", "rmse"),
        (Flower, "classification", "stratified", "log_loss"),
        (Visit, "classification", "by_time", "log_loss"),
    ],
)
def test_the_defaults_fit_the_contract(contract: Any, task: str, split: str, metric: str) -> None:
    made = system(contract)
    assert (made.task, made.split.kind) == (task, split)
    assert [(gate.metric, gate.rule) for gate in made.gates] == [(metric, "better_than_baseline")]
    assert (made.params, made.seed, made.max_bad_share) == ({}, 0, 0.05)
    assert made.features_function is None is made.model_function


def test_what_is_given_is_kept(tmp_path: Path) -> None:
    gates = [pn.gate("rmse", at_most=1), pn.gate.no_worse_than_champion("mae")]
    made = system(source=tmp_path / "a.parquet", split=pn.split.stratified(0.3), gates=gates, params={"a": 1}, seed=7, max_bad_share=1)  # fmt: skip
    assert (made.source, made.split.kind, made.gates) == (str(tmp_path / "a.parquet"), "stratified", tuple(gates))
    assert (made.params, made.seed, made.max_bad_share) == ({"a": 1}, 7, 1.0)
    assert system(gates=[]).gates == ()
    assert system(House.__schema__).schema is House.__schema__


@pytest.mark.parametrize("name", ["a", "house-prices", "2nd", "x" * 63])
def test_a_name_of_small_letters_digits_and_hyphens_is_accepted(name: str) -> None:
    assert system(name=name).name == name


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"name": "House"}, "name is 'House'; use up to 63 lower-case"),
        ({"name": ""}, "lower-case"),
        ({"name": "-a"}, "lower-case"),
        ({"name": "a-"}, "lower-case"),
        ({"name": "x" * 64}, "lower-case"),
        ({"name": "a b"}, "lower-case"),
        ({"name": "a\n"}, "lower-case"),
        ({"name": "../a"}, "lower-case"),
        ({"name": 3}, "lower-case"),
        ({"source": ""}, "source of house-prices is ''"),
        ({"source": None}, "source of house-prices is None"),
        ({"split": 0.2}, "split of house-prices is 0.2; use pn.split"),
        ({"split": pn.split.by_time()}, "House has no pn.Time field"),
        ({"gates": ["rmse"]}, "gate of house-prices is 'rmse'; make it with pn.gate"),
        ({"gates": [pn.gate("accuracy", at_least=1)]}, "metric for classification, and house-prices is regression; use rmse"),
        ({"max_bad_share": 1.1}, "max_bad_share of house-prices is 1.1"),
        ({"max_bad_share": "5 %"}, "max_bad_share"),
        ({"contract": Nothing}, "Nothing has no target"),
        ({"contract": dict}, "derives from pn.Contract"),
        ({"contract": 3}, "derives from pn.Contract"),
    ],
)  # fmt: skip
def test_a_system_that_makes_no_sense_is_refused(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(PerronError) as caught:
        system(**facts)
    assert words in str(caught.value)
    assert isinstance(caught.value, DeclarationError | ContractError)


def test_functions_are_registered_and_stay_what_they_are() -> None:
    made = system()

    @made.features
    def features(xp: Any, c: Any) -> dict[str, Any]:
        return {}

    @made.model
    def model(params: Any) -> None: ...

    assert made.features_function is features
    assert made.model_function is model
    with pytest.raises(DeclarationError, match="two features functions; merge them"):
        made.features(features)
    with pytest.raises(DeclarationError, match="two model functions; keep one"):
        made.model(model)


def test_a_function_with_other_arguments_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"features function .* must take 2 argument\(s\): xp, c"):
        system().features(lambda c: {})
    with pytest.raises(DeclarationError, match=r"model function .* must take 1 argument\(s\): params"):
        system().model(lambda: None)


# ------------------------------------------------------------------ system.py

GOOD = """
from typing import Annotated
import perron as pn

class House(pn.Contract):
    rooms: float
    price: Annotated[float, pn.Target]

system = pn.System("house", House, source="rows.csv")
"""


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    path, known = list(sys.path), sys.modules.get("system")
    yield
    sys.path[:] = path
    sys.modules.pop("system", None)
    sys.modules.pop("helpers_of_system", None)
    if known is not None:
        sys.modules["system"] = known


def load(folder: Path, text: str) -> pn.System:
    (folder / "system.py").write_text(text)
    return load_system(folder / "system.py")


def test_a_system_is_loaded_with_the_files_beside_it(tmp_path: Path) -> None:
    (tmp_path / "helpers_of_system.py").write_text("NAME = 'from-helpers'\n")
    made = load(tmp_path, GOOD.replace('"house"', "helpers_of_system.NAME").replace("import perron", "import helpers_of_system\nimport perron"))  # fmt: skip
    assert made.name == "from-helpers"
    assert made.schema["price"].is_target


def test_two_names_of_one_system_are_one_system(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD + "also = system\n").name == "house"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "declares 0 systems"),
        (GOOD + 'other = pn.System("other", House, source="a")\n', "declares 2 systems (system, other)"),
        (GOOD + "1 / 0\n", "system.py:10: ZeroDivisionError: division by zero"),
        (GOOD.replace("rooms: float", "rooms: floats"), "system.py:6: NameError: name 'floats' is not defined"),
        ("import perron as pn\nclass A(pn.Contract)\n    x: float\n", "system.py:2: "),
        ("import nowhere\n", "system.py:1: ModuleNotFoundError"),
        (GOOD.replace("rooms: float", "rooms: list"), "system.py:5: House.rooms has type list"),
        (GOOD.replace('"house"', '"House"'), "system.py:9: The system's name is 'House'"),
    ],
)
def test_a_system_that_fails_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(PerronError) as caught:
        load(tmp_path, text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_system_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"There is no .*system\.py; run this in a project's folder"):
        load_system(tmp_path / "system.py")


def test_loading_again_gives_what_is_there_now(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).name == "house"
    assert load(tmp_path, GOOD.replace('"house"', '"hut"')).name == "hut"


def test_a_file_that_is_written_twice_in_a_second_is_loaded_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the same size, too: Python's own bytecode wouldn't be made again."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "system.py"
    for seed in (1, 2):
        path.write_text(
            "from typing import Annotated\nimport perron as pn\n"
            "class Row(pn.Contract):\n    x: float\n    y: Annotated[float, pn.Target]\n"
            f'system = pn.System("rows", Row, source="rows.csv", seed={seed})\n'
        )
        os.utime(path, (1_700_000_000, 1_700_000_000))
        assert load_system(path).seed == seed
    assert not (tmp_path / "__pycache__").exists()
