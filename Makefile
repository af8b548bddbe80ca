# Two commands do everything on a fresh machine: `make record` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Without an NVIDIA GPU the CPU build is installed first, so that no later requirement pulls CUDA.
TORCH_CPU ?= torch==2.13.0
PRESET ?= embedded
RECORD_FLAGS ?=
TEST_FLAGS ?= -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help install record test lint format types demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: run make with PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "venv is missing: on Debian run 'apt-get install python3-venv', then make again" >&2; exit 2; }
	$(BIN)/pip install --quiet --upgrade pip
	@command -v nvidia-smi >/dev/null 2>&1 || $(BIN)/python -c 'import torch' 2>/dev/null || \
		{ echo "no NVIDIA GPU: installing the CPU build, $(TORCH_CPU)"; $(BIN)/pip install --quiet '$(TORCH_CPU)'; }
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

install: $(STAMP) ## create .venv with everything, the auditor's hot modules compiled
	@$(BIN)/python -m auditor.compilation

record: $(STAMP) ## the main job: real text -> trained, exported, evaluated, audited record folder
	$(BIN)/hedge-record run --preset $(PRESET) --audit $(RECORD_FLAGS)

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest $(TEST_FLAGS)

lint: $(STAMP) ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## rewrite with ruff
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

demo: $(STAMP) ## audit a small script that carries the fault of PR 700
	$(BIN)/auditor demo

clean: ## remove .venv and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
