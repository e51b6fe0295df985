# What people type here. `make help` lists it; every target installs what it needs into .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# On a terminal pip shows what it downloads; a log has a line for each part of the way.
HUSH := $(if $(CI),-qq,$(shell test -t 2 || echo -qq))
PIP := $(BIN)/python -m pip --disable-pip-version-check $(HUSH)

.PHONY: help install quickstart bench test test-fast check format reference notebooks clean

help:
	@echo 'make quickstart   text that came with Python becomes a small language model (about three minutes; ARGS=… for options)'
	@echo 'make test         the whole test suite'
	@echo 'make test-fast    what takes no long time: about a minute for a look at every package'
	@echo 'make bench        tilth and its peers on the same work in turns (ARGS=--list names them; three quarters of an hour on an idle machine)'
	@echo 'make check        format, lint, types and layers'
	@echo 'make format       puts source and tests into the format that check asks for'
	@echo 'make reference    writes docs/recipe.md anew, from the schema of recipes'
	@echo 'make notebooks    writes the .ipynb of every script in notebooks/, for who has Jupyter without jupytext'
	@echo 'make install      .venv with the pinned software (the others do this when something is missing)'
	@echo 'make clean        removes caches; leaves .venv, runs/ and work/ alone'
	@echo 'PYTHON=python3.12 make …   chooses the interpreter of a new .venv (3.11 or newer)'

install: $(STAMP)

# The stamp is older than what it stands for when a pinned version or a dependency changed: the installation is then done again.
# setuptools goes first, pinned, and builds without isolation: an isolated build would fetch whatever version is newest.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo 'installing into $(VENV): minutes the first time; 2.4 GB with the torch for CPUs, about 6 GB with CUDA (README.md says which when)'
	@echo '1/2: what builds'
	$(PIP) install -c constraints.txt setuptools
	@echo '2/2: tilth and what it needs'
	$(PIP) install -c constraints.txt --no-build-isolation -e '.[dev,cluster,deeplake,hub,pdf,spelling,synthetic,web]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tilth needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …")'
	$(PYTHON) -m venv $(VENV)

quickstart: $(STAMP)
	$(BIN)/tilth quickstart $(ARGS)

# Tests run side by side, one on each processor (tests/conftest.py gives each a single thread).
# Compiled modules are kept even where the machine forbids it: tests start many processes, and to compile tilth and its
# tests anew takes each of them longer than what it is started for.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

# All of tilth beside its peers, into benchmarks/RESULTS.md; ARGS="--only NAME", "--missing" …
bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

test: $(STAMP)
	$(PYTEST) $(ARGS)

test-fast: $(STAMP)
	$(PYTEST) -m 'not slow' --hypothesis-profile fast $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks notebooks .ci
	$(BIN)/ruff check src tests benchmarks notebooks .ci
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py

format: $(STAMP)
	$(BIN)/ruff format src tests benchmarks notebooks .ci
	$(BIN)/ruff check --fix-only src tests benchmarks notebooks .ci

reference: $(STAMP)
	$(BIN)/python -m tests.recipe_reference > docs/recipe.md.new
	mv docs/recipe.md.new docs/recipe.md

notebooks: $(STAMP)
	$(BIN)/jupytext --quiet --to ipynb notebooks/*.py

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
