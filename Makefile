# Needs only make and Python >= 3.11. Another Python: make PYTHON=python3.12 demo
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# A file at a time, for tests share what its fixtures make, and in their order, so that the short examples of src/ come last
# and no process waits for another one's last file. A process that dies ends the run with the name of its test: with a new one
# in its place, pytest-xdist would wait for the rest of the file for ever.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# Python may keep the byte code of what it imports, whatever the environment says: else each start compiles torch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help .venv demo test test-avx2 bench docs clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@awk -F ':.*## ' '/^[.a-z0-9-]+:.*## / { printf "make %-9s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.venv: $(STAMP)  ## Set up .venv with samirage and all it was tested with

# The stamp is written last, so an interrupted set-up is done again. Edits of the source need no new set-up, because the package
# is installed in editable form; changes of the two files that say what to install do. Without --no-compile, half of the time
# would go into byte code of modules that are never imported; a small run compiles those that are, for all later starts.
$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "There is no '$(PYTHON)' here: install Python 3.11 or newer, or name one with: make PYTHON=/path/to/python3"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "samirage needs Python 3.11 or newer, and '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1): name another one with: make PYTHON=python3.12"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --no-compile --editable '.[lab,ray,proof,lightning,transformers,accelerate,bench,docs,dev]' --constraint constraints.txt
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
		$(BIN)/samirage reproduce construction --scale smoke --workers 1 --threads 1 --out "$$scratch/run" >"$$scratch/log" 2>&1 || \
		cat "$$scratch/log"
	@touch $@

demo: $(STAMP)  ## Train SAM on MNIST until it hallucinates, and show it on a page
	$(BIN)/samirage reproduce mnist --scale laptop --out runs/demo

test: $(STAMP)  ## Lint, types, layers and all tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

test-avx2: $(STAMP)  ## Tests of convolutions again, with oneDNN's code for processors without AVX-512
	ONEDNN_MAX_CPU_ISA=AVX2 $(PYTEST) tests/lab/tasks/test_resnet.py tests/lab/studies/test_cifar.py tests/lab/tasks/test_train.py tests/benchmarks/test_resnet_benchmark.py

bench: $(STAMP)  ## Measure engine, optimizer, guard and monitor, slices and curvature, against others where there are any
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/landscape.py
	$(BIN)/python benchmarks/curvature.py

docs: $(STAMP)  ## Build the documentation site into site/, which needs no network to be read
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## Remove what make and the tools made, but no run in runs/
	rm -rf $(VENV) build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	find src tests scripts benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
