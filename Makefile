# `make demo` and `make test` need nothing but git, python3 (3.10 or newer) and, for speed, a C++ compiler.
# The environment lives in $(VENV) and is made again when the packaging or the native sources change.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-dev
SOURCES := pyproject.toml CMakeLists.txt $(wildcard runtime/native/*.cpp runtime/native/*.hpp)
SANITIZERS := thread address,undefined,float-cast-overflow
DATA ?= ../shared/data
RESULTS ?= runs/results
# On a Jetson, or where pycuda is installed already: make gpu-check GPU_PYTHON=python3
GPU_PYTHON ?= $(BIN)/python
# Two test files at a time, one thread per library: they would otherwise fight over the cores, and rounding would
# depend on them.
WORKERS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help demo test check docs sanitize aarch64-check gpu-check results install clean

help:
	@echo "make demo     install into $(VENV), then every step once on synthetic photographs (about 10 minutes)"
	@echo "make test     install into $(VENV), then the checks, the documentation and pytest"
	@echo "make check    ruff, mypy and import-linter alone"
	@echo "make docs     the documentation as a site, into build/site"
	@echo "make sanitize the tests of the native core alone, under each sanitizer"
	@echo "make aarch64-check  the native module and the runtime's tests on an emulated 64-bit Arm (about 10 minutes)"
	@echo "make gpu-check  every test that needs a GPU, and what a frame costs there, into $(RESULTS)/gpu.md"
	@echo "make results  docs/evidence/results.md from real photographs under DATA=$(DATA) (hours; resumable)"
	@echo "make install  the environment alone"
	@echo "make clean    remove the environment, builds and caches; runs and bundles stay"

demo: $(STAMP)
	$(BIN)/medtex-edge demo

test: check docs
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks
	$(BIN)/lint-imports

# Every warning is an error: a broken link, a page without a place in the navigation, a name without documentation.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Part of `make test` too; here the build stays, and each test prints its time.
sanitize: $(STAMP)
	@for kinds in $(SANITIZERS); do \
	  build=build/native/$${kinds%%,*}; echo "-fsanitize=$$kinds"; \
	  PATH="$(BIN):$$PATH" cmake -G Ninja -S tests/native -B $$build -DSANITIZE=$$kinds >/dev/null && \
	  PATH="$(BIN):$$PATH" cmake --build $$build && $$build/native_tests || exit 1; \
	done

# Needs Debian's cross compiler, emulator and bootstrapper (it says which is missing) and a network at its first run.
aarch64-check: $(STAMP)
	$(BIN)/python tests/aarch64/check.py $(if $(BUNDLE),--bundle $(BUNDLE))

# The folders of what tests share, each with a colon behind it.
KITS = $(shell printf '%s:' tests/kits/*/)

# pycuda is compiled: the toolkit's own nvcc has to come before any other.
gpu-check: $(filter $(GPU_PYTHON:$(BIN)/python=$(STAMP)),$(STAMP))
	@PYTHONPATH=.:$(KITS)tests/gpu $(GPU_PYTHON) -c 'import gpu_engines, importlib.util as i, sys; \
	  sys.exit(not (gpu_engines.no_device() or i.find_spec("pycuda")))' || \
	  PATH="/usr/local/cuda/bin:$$PATH" $(GPU_PYTHON) -m pip install --disable-pip-version-check 'pycuda>=2024.1'
	PYTHONPATH=. $(GPU_PYTHON) -m pytest tests/gpu -rs
	PYTHONPATH=.:$(KITS)tests/gpu $(GPU_PYTHON) tests/gpu/measure.py --out $(RESULTS)/gpu.md $(if $(BUNDLE),--bundle $(BUNDLE))

results: $(STAMP)
	$(BIN)/python -m benchmarks.results --data $(DATA) --out $(RESULTS)

install: $(STAMP)

$(STAMP): $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "error: $(PYTHON) is older than 3.10; name a newer one: make PYTHON=python3.12 ..."; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { echo "error: no virtual environment; on Debian or Ubuntu: apt-get install python3-venv"; exit 2; }
	@echo "installing into $(VENV): PyTorch is large, this takes two to four minutes"
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
