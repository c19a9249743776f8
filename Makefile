# Each target prepares what it needs; a second call finds it ready.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The compiled kernels. Where there is no compiler the file does not appear, and everything goes on without it.
KERNELS := diffnmf/kernels/_kernels.$(if $(filter Darwin,$(shell uname -s)),dylib,so)

# What the site needs comes on top, and is installed when the site is first built.
DOCS_READY := $(VENV)/.docs-ready
SPHINX := OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs

BENCH := .bench-venv
# One process a core with one thread each: the matrices of the tests are too small to share.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

.PHONY: venv bench-venv demo test test-all test-slow docs docs-fast release-check lint format clean

venv: $(READY) $(KERNELS)

# Installed again only when the dependencies have changed: the package itself is editable.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

$(KERNELS): $(wildcard diffnmf/kernels/*.[ch]) hatch_build.py | $(READY)
	$(BIN)/python hatch_build.py

# Trains GAN-UNET with NNLSLayer on the digits that scikit-learn ships, no network; the last line is the run folder.
demo: $(READY) $(KERNELS)
	@$(BIN)/diffnmf train --preset quick

test: $(READY) $(KERNELS)
	$(PYTEST) -m "not slow"

# Everything.
test-all: test test-slow

# What the quick tests leave out: style, types, slow tests, and those of the solvers once more without the compiled kernels.
test-slow: lint $(KERNELS)
	$(PYTEST) -m slow
	DIFFNMF_KERNEL=torch $(PYTEST) -m "not slow" tests/solvers

# The site: build/docs/index.html. Warnings are errors; the fast one does not run the gallery.
docs: $(DOCS_READY) $(KERNELS)
	$(SPHINX)

docs-fast: $(DOCS_READY) $(KERNELS)
	$(SPHINX) -D plot_gallery=0

$(DOCS_READY): pyproject.toml | $(READY)
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	@touch $@

# Before a release: the archives on old and new versions (PYTHONS="python3.11 python3.13" for more), and the site with the gallery.
PYTHONS ?= $(PYTHON)

release-check: docs
	$(BIN)/python -m pip install --quiet --editable ".[release]"
	$(BIN)/python tests/release_check.py $(foreach python,$(PYTHONS),--python $(python))

# The rivals of the benchmarks, beside the package. qpth asks for numpy < 2 but runs beside the current one; fnnlseigen
# is compiled, and left out where that fails.
bench-venv: $(BENCH)/.ready

$(BENCH)/.ready: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade pip
	$(BENCH)/bin/python -m pip install --quiet --editable . proxsuite torchnmf spams-bin daqp quadprog cvxopt
	$(BENCH)/bin/python -m pip install --quiet --no-deps qpth
	-$(BENCH)/bin/python -m pip install --quiet fnnlseigen
	@touch $@

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist docs/api docs/gallery docs/tables .pytest_cache .mypy_cache .ruff_cache $(KERNELS)
