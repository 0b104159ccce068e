"""The house's laws, held by reading the source: public names, who imports whom, and how light the borders are."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import perron

ROOT = Path(perron.__file__).parent
FOLDERS = {
    "sources",
    "models",
    "derive",
    "serve",
    "ship",
    "cli",
    "runners",
    "notify",
    "pages",
    "sinks",
    "targets",
    "testing",
    "tune",
}
# Folder → folder; cli may import all. Pages show the card that derive makes; tests draw rows, ask servers and load them.
ALLOWED = {("serve", "derive"), ("tune", "models"), ("tune", "serve"), ("pages", "derive"), ("targets", "ship")} | {
    ("testing", other) for other in ("derive", "serve", "tune")
}
# Modules that have no list yet, or not a whole one; strict, so that each goes from here when it has.
NOT_IN_TESTS = {"ray"}  # packages too large to install for the tests; their tests run where they are there
HEAVY = {"pandas", "pyarrow", "sklearn", "lightgbm", "onnx", "ndonnx", "spox", "sqlalchemy", "matplotlib", "scipy"}


def modules() -> dict[str, Path]:
    """The files of perron by the names of their modules."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("perron", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}


def room(module: str) -> str | None:
    """The folder of adapters that a module is in; None on the spine."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS else None


def imports(module: str, *, top_only: bool) -> set[str]:
    """The modules of perron that a module imports by statement; type checkers' imports aside where `top_only`."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module} imports relatively"
                found.update((f"{child.module}.{alias.name}" for alias in child.names), {str(child.module)})
            elif top_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                for other in child.orelse:
                    visit(other)
            else:
                visit(child)

    visit(TREES[module])
    return {name for name in found if name in MODULES and name != module}


# ------------------------------------------------------------------ public names


def test_perron_has_at_most_twenty_names_and_each_is_there() -> None:
    assert len(perron.__all__) <= 20
    assert len(set(perron.__all__)) == len(perron.__all__)
    assert list(perron.__all__) == sorted(perron.__all__)
    for name in perron.__all__:
        assert getattr(perron, name) is not None
    assert set(perron.__all__) <= set(dir(perron))


def test_a_name_that_perron_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        perron.nonsense  # noqa: B018


@pytest.mark.parametrize("name", [name for name in MODULES if name != "perron.__main__"])
def test_a_module_lists_what_it_offers(name: str) -> None:
    """What is listed is there, and every public function and class that is defined there is listed."""
    tree = TREES[name]
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    if not defined:
        return
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert error.name in NOT_IN_TESTS, error
        (made,) = (n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__")
        assert set(ast.literal_eval(made.value)) == defined
        return
    assert hasattr(module, "__all__"), f"{name} has no __all__"
    for listed in module.__all__:
        assert hasattr(module, listed), f"{name} lists {listed}, which isn't there"
    assert defined - set(module.__all__) == set()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_goes_in_and_out(name: str) -> None:
    assert ast.get_docstring(TREES[name]), f"{name} has no docstring"


# ------------------------------------------------------------------ who imports whom


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) is None and name != "perron.__main__"])
def test_the_spine_imports_no_folder(name: str) -> None:
    assert {other for other in imports(name, top_only=False) if room(other)} == set()


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) not in (None, "cli")])
def test_folders_import_each_other_only_where_it_is_listed(name: str) -> None:
    others = {room(other) for other in imports(name, top_only=False)} - {None, room(name)}
    assert {(room(name), other) for other in others} <= ALLOWED


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {name: imports(name, top_only=True) for name in MODULES}
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in graph[name]:
                # `from perron import x` names the package, whose own file imports nothing until it is asked.
                if other != "perron":
                    walk(other, (*path, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_the_walk_sees_imports() -> None:
    """The laws above hold because imports are seen, not because none are."""
    assert "perron.derive.openapi" in imports("perron.serve.rest", top_only=True)
    assert "perron.contract" in imports("perron.check", top_only=True)
    assert "perron.cli.app" in imports("perron.cli", top_only=False)


# ------------------------------------------------------------------ how light


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh Python has loaded after the statement."""
    program = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_perron_loads_nothing_heavy() -> None:
    assert loaded_by("import perron") & (HEAVY | {"numpy", "msgspec", "granian", "rich", "typer"}) == set()


def test_only_the_verb_that_is_asked_for_is_loaded() -> None:
    def verbs(arguments: list[str]) -> set[str]:
        program = f"import sys; from perron.cli import app; app.command_line({arguments!r}); print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        return {name.removeprefix("perron.cli.") for name in done.stdout.split() if name.startswith("perron.cli.")}

    assert verbs(["check", "rows.csv"]) == {"app", "shared", "check"}
    files = {path.stem for path in (ROOT / "cli").glob("*.py")} - {"__init__", "counter", "progress", "questions"}
    assert verbs(["--help"]) == verbs(["chek"]) == files, "every verb has its place in the help"


def test_declaring_a_contract_loads_nothing_heavy() -> None:
    declared = "import perron as pn\nclass A(pn.Contract):\n    x: float\n    y: float | None\nA"
    assert (
        loaded_by(declared.replace("y: float | None", "y: __import__('typing').Annotated[float, pn.Target]"))
        & (HEAVY | {"numpy", "msgspec"})
        == set()
    )


def test_a_check_of_a_typed_table_loads_neither_pandas_nor_the_ledger(tmp_path: Path) -> None:
    """Imports were half the time of a check of a million rows; pyarrow loads pandas at the first `pa.array`."""
    parquet.write_table(
        pa.table({"x": [1.0, -1.0, None], "k": ["a", "b", "q"], "n": [1, 1, 2]}), tmp_path / "rows.parquet"
    )
    checked = f"""
from typing import Annotated, Literal
import perron as pn
from perron import rules
from perron.check.report import check_source
from perron.contract import schema_of
from perron.source import ReadAhead, open_source

class Row(pn.Contract):
    x: Annotated[float, pn.Ge(0), pn.Target]
    k: Literal["a", "b"]
    n: int

with ReadAhead(open_source({str(tmp_path / "rows.parquet")!r})) as source:
    found = check_source(source, schema_of(Row), [rules.unique("n")], name="rows")
assert found.bad == 2, found
"""
    assert loaded_by(checked) & {"pandas", "sqlalchemy"} == set()


@pytest.mark.parametrize(
    "statement",
    [
        "import perron.serve.http",
        "import perron.bundle, perron.predictions, perron.tensors",
        "import perron.check, perron.check.request",
    ],
)
def test_what_serves_loads_nothing_that_trains(statement: str) -> None:
    assert loaded_by(statement) & HEAVY == set()


@pytest.mark.parametrize("module", ["perron.serve.http", "perron.serve.workers", "perron.serve.rest"])
def test_what_serves_reaches_nothing_that_trains_by_any_path(module: str) -> None:
    """By statements at the top of modules, from module to module."""
    reached, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += imports(name, top_only=True)
    trains = {"perron.train", "perron.evaluate", "perron.export", "perron.pipeline", "perron.steps", "perron.snapshot"}
    assert not reached & trains
    assert not {name for name in reached if room(name) == "models"}


def test_the_import_linter_knows_every_module() -> None:
    settings = tomllib.loads((ROOT.parents[1] / "pyproject.toml").read_text())
    spine = settings["tool"]["importlinter"]["contracts"][0]
    modules = {path.stem for path in ROOT.glob("*.py") if not path.stem.startswith("__")}
    modules |= {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert {name.removeprefix("perron.") for name in spine["source_modules"]} == modules - FOLDERS
    assert {name.removeprefix("perron.") for name in spine["forbidden_modules"]} == FOLDERS
