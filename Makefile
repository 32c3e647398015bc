PY ?= python3
VENV := .venv
SDK := .venv-sagemaker
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
# Tests and benchmarks start many processes. Without cached bytecode each of them would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

run: $(VENV)/.core ; $(BIN)/python -m runner $(ARGS)
test: $(VENV)/.dev ; OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist worksteal $(ARGS)
# Simulations, fault injection, clusters and commands of long pages: minutes of tests that are not part of `make test`.
soak: $(VENV)/.dev ; OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist worksteal -m soak $(ARGS)
# Writes the expected messages, tests/golden/*.txt: read the diff.
golden: $(VENV)/.dev ; OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 3 --dist worksteal --golden $(ARGS)
# Writes docs/reference/*.md from conf/ and the code.
docs: $(VENV)/.dev ; $(BIN)/python -m docs.generate
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
tracked: $(VENV)/.dev ; OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -m benchmarks.tracked $(ARGS)
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.frontier
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.window
	$(BIN)/python -m benchmarks.capture
	$(BIN)/python -m benchmarks.serve
	$(BIN)/python -m benchmarks.hostile
	$(BIN)/python -m benchmarks.daemon
	$(BIN)/python -m benchmarks.report

$(VENV)/bin/python:
	$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "shapwatch needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": name a newer one with make PY=python3.12")'
	$(PY) -m venv $(VENV)
$(VENV)/.core: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@
$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.core
$(VENV)/.bench: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[dev,bench]'
	@touch $@ $(VENV)/.dev $(VENV)/.core
# The sagemaker SDK in a separate environment, because it pins other versions; used by tests/test_sagemaker_sdk.py.
sagemaker: $(SDK)/.installed
$(SDK)/.installed: tests/sagemaker_sdk.txt
	$(PY) -m venv $(SDK)
	$(SDK)/bin/python -m pip install -q --disable-pip-version-check --no-compile -r $<
	@touch $@
clean: ; rm -rf $(VENV) $(SDK)

.PHONY: run test soak golden docs lint tracked bench sagemaker clean
