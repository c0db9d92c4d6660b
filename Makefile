# Needs only make and Python >= 3.11. Another Python: make PYTHON=python3.12 demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help .venv demo test bench docs clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@awk -F ':.*## ' '/^[.a-z]+:.*## / { printf "make %-6s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.venv: $(STAMP)  ## Set up .venv with samirage and all it was tested with

# The stamp is written last, so an interrupted set-up is done again. Edits of the source need no new set-up, because the package
# is installed in editable form; changes of the two files that say what to install do. Without --no-compile, half of the time
# would go into byte code of modules that are never imported.
$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "There is no '$(PYTHON)' here: install Python 3.11 or newer, or name one with: make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "samirage needs Python 3.11 or newer, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1): name another one with: make PYTHON=python3.12"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile --editable '.[lab,ray,proof,lightning,transformers,accelerate,bench,docs,dev]' --constraint constraints.txt
	@touch $@

demo: $(STAMP)  ## Train SAM on MNIST until it hallucinates, and show it on a page
	$(BIN)/samirage reproduce mnist --scale laptop --out runs/demo

test: $(STAMP)  ## Lint, types, layers and all tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile  # a file at a time, for tests share what its fixtures make

bench: $(STAMP)  ## Measure engine, optimizer, guard and monitor, slices and curvature, against others where there are any
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/landscape.py
	$(BIN)/python benchmarks/curvature.py

docs: $(STAMP)  ## Build the documentation site into site/, which needs no network to be read
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## Remove what make and the tools made, but no run in runs/
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find src tests scripts benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
