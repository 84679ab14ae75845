# Two commands that set up everything they need: `make demo` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out
PYTEST_ARGS ?= -n auto -m "not slow"

# What builds and runs firmware: the cross compiler, its C library, QEMU, and a compiler for QEMU's plugin.
TOOLCHAIN := gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm gcc libc6-dev arduino-builder
SUDO ?= $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help demo test test-slow lint benchmark toolchain clean

help:
	@echo "make demo       convert, evaluate and simulate a small Keras model (sets up $(VENV))"
	@echo "make test       lint and run the tests (sets up $(VENV))"
	@echo "make test-slow  also run the tests that take long"
	@echo "make benchmark  speed, exactness and arena against other engines, accuracy in its quick form"
	@echo "make toolchain  install the cross compiler and QEMU (Debian, Ubuntu)"
	@echo "make clean      remove $(VENV), $(OUT) and caches"

# Debian's Python comes without ensurepip: install it where we may, say what is missing where we may not.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	    apt-get update -q && apt-get install -q -y --no-install-recommends python3-venv; } || \
	  { echo "the Python module venv is missing: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade pip setuptools wheel

$(VENV)/examples.stamp: $(BIN)/python setup.py pyproject.toml
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[examples]"
	@touch $@

$(VENV)/test.stamp: $(BIN)/python setup.py pyproject.toml
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[all,test]"
	@touch $@

demo: $(VENV)/examples.stamp
	$(BIN)/python examples/demo.py --output $(OUT)

lint: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# --no-install-recommends: 1 GB instead of more than 3.
toolchain:
	@set -e; \
	if command -v arm-none-eabi-gcc >/dev/null && command -v qemu-system-arm >/dev/null && \
	    command -v cc >/dev/null && echo '#include <string.h>' | arm-none-eabi-gcc -E -x c -o /dev/null - 2>/dev/null; then exit 0; fi; \
	command -v apt-get >/dev/null || { echo "install these, or what your system calls them: $(TOOLCHAIN)" >&2; exit 1; }; \
	if [ -n "$(SUDO)" ] && ! command -v $(firstword $(SUDO) true) >/dev/null; then \
	  echo "as root: apt-get install --no-install-recommends $(TOOLCHAIN)" >&2; exit 1; fi; \
	$(SUDO) apt-get update -q; \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(TOOLCHAIN)

# Without the toolchain the tests on emulated boards are skipped, or fail where CI=true.
.PHONY: try-toolchain
try-toolchain:
	@$(MAKE) --no-print-directory toolchain SUDO="$(if $(SUDO),$(SUDO) -n)" || \
	  echo "the tests on emulated boards will be skipped: see make toolchain" >&2

# One BLAS thread per test process: more would wait for each other on the same cores.
test: lint try-toolchain
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

test-slow: lint try-toolchain
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

benchmark: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.exactness --levels 4,6,8
	$(BIN)/python -m benchmarks.exactness --levels 4,6,8 --engine native
	$(BIN)/python -m benchmarks.reference_speed
	$(BIN)/python -m benchmarks.native_speed --levels 4,6,8
	$(BIN)/python -m benchmarks.delegate
	$(BIN)/python -m benchmarks.arena
	$(BIN)/python -m benchmarks.tflm
	$(BIN)/python -m benchmarks.bridge
	$(BIN)/python -m benchmarks.firmware
	$(BIN)/python -m benchmarks.accuracy --quick --models digits,resnet8,vww_96

clean:
	rm -rf $(VENV) $(OUT) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
