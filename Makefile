# `make` lists the verbs. Everything runs in a local environment, $(VENV), made on first use from $(PYTHON).
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Tests wait more than they compute: with four at a time two cores are busy, and the suite takes six minutes.
JOBS   ?= 4
STORM_SECONDS ?= 600
SECONDS_EACH ?= 20
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help environment serve test test-all check lint types layers names sizes fix fuzz fuzz-workers storm soak sanitize conformance bench clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# What fails leaves nothing behind: a half environment would look like a whole one to the next call.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit("forkserve needs Python 3.11 or newer; try: make PYTHON=python3.13" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -e $(VENV) || fresh=yes; \
	{ $(PYTHON) -m venv $(VENV) && $(PIP) --upgrade "pip>=25.1" && touch $@; } || { test -z "$$fresh" || rm -rf $(VENV); exit 1; }

$(VENV)/.served: $(VENV)/.made pyproject.toml hatch_build.py $(wildcard forkserve/serving/native/*.[ch])
	$(PIP) -e .
	@touch $@

$(STAMP): $(VENV)/.served
	$(PIP) -e ".[gevent,uvloop,websocket,paste,reload,circus]" --group test --group check
	@touch $@

environment: $(STAMP) ## set up what serving and testing need, nothing more

serve: $(VENV)/.served ## run the example stack (two web workers and a ticker) on port 8000
	cd examples && exec ../$(BIN)/forkserve -c serve.toml

test: $(STAMP) ## run the checks and the test suite
	$(MAKE) --no-print-directory check
	$(PYTEST) -m "not slow"

test-all: $(STAMP) ## run the slow tests as well: soaks, real builds, every framework
	$(PYTEST)

fuzz: $(STAMP) ## feed mutated requests to the parsers, in Python and in C, for 20 seconds each
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS_EACH)

fuzz-workers: $(STAMP) ## feed mutated requests to workers of each backend over sockets for 20 seconds
	$(BIN)/python -m tests.fuzz workers --seconds $(SECONDS_EACH)

sanitize: $(STAMP) ## build the compiled part with ASan and UBSan, run contract, property and fuzz tests with it
	$(BIN)/python -m tests.fuzz.sanitize --seconds $(SECONDS_EACH) $(SANITIZE)

storm: $(STAMP) ## inject faults, verbs and configuration changes into a master under load for ten minutes
	$(BIN)/python -m tests.storm --seconds $(STORM_SECONDS) $(STORM)

soak: $(STAMP) ## reload, stop, upgrade, kill and refork stacks under load, for an hour or two; SOAK=--quick for minutes
	$(BIN)/python -m tests.soak $(SOAK)

check: lint types layers names sizes ## lint, types, layers, names and sizes; no tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

names: $(STAMP)
	$(BIN)/python -m tests.names

sizes: $(STAMP)
	$(BIN)/python -m tests.sizes

fix: $(STAMP) ## format, and fix what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

conformance: $(STAMP) ## run the conformance suites over every backend here and write docs/conformance.md
	$(BIN)/python -m forkserve.testing --markdown docs/conformance.md

bench: ## compare with Gunicorn and the field
	bench/run.sh

clean: ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
