# Everything that the README names. `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
# Where the CPU build of torch lies; PyPI's own has several gigabytes of CUDA libraries. For a GPU: make run TORCH_INDEX=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := $(VENV)/bin

.PHONY: help run report test test-crashes test-slurm lint install clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

run: install ## vanilla beside dynsdpb on a generated task, from embedded weights: about two minutes
	$(BIN)/sdrun -m method=vanilla,dynsdpb

test: install ## all checks and tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/python -m pytest

test-crashes: install ## the nightly size: kill real runs sixty times, compare each with one left alone
	SDRUN_CRASH_KILLS=60 $(BIN)/python -m pytest tests/crashes -rP

test-slurm: install ## on a real SLURM of one node, which it installs, starts and stops; needs root and Debian
	$(BIN)/python -m pytest tests/slurm -m slurm --numprocesses=0 $(ONLY)

report: install ## tables and figures of all runs in outputs/, in report/index.html
	$(BIN)/sdreport outputs --out report

lint: install ## style and types only
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

install: $(VENV)/installed ## make the environment

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --retries 1 --no-deps --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[offline,dev]'
	touch $@

clean: ## remove the environment and caches; runs in outputs/ stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache
