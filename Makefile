# What a person runs. Needs Python 3.11 or newer, and nothing else of ours.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: run test lint drills bench pins clean help

help:           ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' Makefile

run: $(VENV)/ready       ## everything, with the sandbox unless INGESTION_SOURCES names your own sources.yaml
	@exec $(BIN)/ingestion up

test: $(VENV)/ready      ## the whole test suite
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not drill" $(PYTEST)

lint: $(VENV)/ready      ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

drills: $(VENV)/ready    ## the long forms: kills, races, reorganised days
	ACCEPTANCE_BLOCKS=400 $(BIN)/python -m pytest -m drill $(PYTEST)
	ACCEPTANCE_BLOCKS=400 $(BIN)/python -m pytest -m "not drill" ingestion_assets_tests/acceptance $(PYTEST)
	TEST_EFFORT=4 $(BIN)/python -m pytest -m "not drill" ingestion_assets_tests/engine ingestion_assets_tests/sources/evm ingestion_assets_tests/sources/transfers ingestion_assets_tests/api $(PYTEST)

bench: $(VENV)/ready     ## rows per second from explorer to committed rows, and what a launch costs
	$(BIN)/python benchmarks/rows.py
	$(BIN)/python benchmarks/launch.py

# pip compiles bytecode when it installs, which halves what every run of Dagster costs.
$(VENV)/ready: pyproject.toml deploy/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --compile --constraint deploy/constraints.txt --editable '.[dev]'
	@touch $@

pins:           ## take the newest versions that pyproject.toml allows into deploy/constraints.txt
	$(PYTHON) -m venv $(VENV)-pins
	$(VENV)-pins/bin/python -m pip install --quiet --editable '.[dev]'
	@echo '# The versions that are tested, for pip'"'"'s --constraint. `make pins` writes this file anew.' > deploy/constraints.txt
	$(VENV)-pins/bin/python -m pip freeze --exclude-editable >> deploy/constraints.txt
	rm -rf $(VENV)-pins

clean:          ## the environment and everything that a running instance left
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	cd dagster_home && rm -rf data storage logs history schedules .logs_queue
