# Each target prepares what it needs; a second call finds it ready.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

BENCH := .bench-venv
# One process a core with one thread each: the matrices of the tests are too small to share.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

.PHONY: venv bench-venv demo test test-all lint format clean

venv: $(READY)

# Installed again only when the dependencies have changed: the package itself is editable.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

# Trains GAN-UNET with NNLSLayer on the digits that scikit-learn ships, no network; the last line is the run folder.
demo: $(READY)
	@$(BIN)/diffnmf train --preset quick

test: $(READY)
	$(PYTEST) -m "not slow"

# Everything: style, types, all tests.
test-all: lint
	$(PYTEST)

# The rivals of the benchmarks, beside the package. qpth asks for numpy < 2 but runs beside the current one.
bench-venv: $(BENCH)/.ready

$(BENCH)/.ready: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade pip
	$(BENCH)/bin/python -m pip install --quiet --editable . proxsuite torchnmf
	$(BENCH)/bin/python -m pip install --quiet --no-deps qpth
	@touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
