# Two commands: `make demo` and `make test`. Each sets up what it needs, once, in .venv.

VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint unit setup bench fuzz soak clean

demo: $(VENV)/.core
	$(BIN)/perron demo --folder perron-demo

test: $(VENV)/.test
	sh scripts/tools.sh
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/.test
	$(BIN)/python -m pytest tests/unit

setup: $(VENV)/.test

bench: $(VENV)/.core
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/start.py

$(VENV)/.core: pyproject.toml scripts/setup.sh
	sh scripts/setup.sh $(VENV) core

$(VENV)/.test: pyproject.toml scripts/setup.sh
	sh scripts/setup.sh $(VENV) test

fuzz: $(VENV)/.test
	PERRON_API_CASES=10000 $(BIN)/python -m pytest -q tests/integration/test_openapi.py -k schemathesis

soak: $(VENV)/.test
	$(BIN)/python -m pytest -q --long tests/integration/test_serving_models.py -k "swapping or flat or killed"

clean:
	rm -rf $(VENV) perron-demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* .import_linter_cache
