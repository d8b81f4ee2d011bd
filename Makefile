# Each command makes its own virtual environment when it is missing or out of date, and only then.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# torch is installed in a step of its own, so that a build or an index can be chosen for it alone:
# make demo TORCH_INSTALL="torch --index-url <an index of CPU builds>". Any build will do.
TORCH_INSTALL ?= torch==2.13.0
OUT ?= runs/demo

.PHONY: demo test test-slow lint format docs bench clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH_INSTALL)

$(VENV)/.run: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

demo: $(VENV)/.run  ## build the tiny experts, evolve merged models, report
	$(BIN)/qdmerge run llm --out $(OUT)

test: $(VENV)/.dev  ## the default test suite
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(VENV)/.dev  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev  ## the site, with its API reference; warnings are errors
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "Open build/docs/index.html"

bench: $(VENV)/.run  ## speed and memory, measured side by side
	$(BIN)/python examples/benchmarks/speed.py
	$(BIN)/python examples/benchmarks/generation.py

clean:
	rm -rf $(VENV) build dist *.egg-info
